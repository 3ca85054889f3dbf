"""Levenberg-Marquardt inside bounds, from the normal equations alone: the Jacobian is never held.

Scaling, stopping: Moré, LNM 630 (1978) 105. Damping: Madsen, Nielsen & Tingleff, Methods for NLLS problems (2004), alg. 3.16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

FIRST_DAMPING, LARGEST_DAMPING = 1e-3, 1e16  # relative to the diagonal of J^T J; steps are rounding errors in the end
SUFFICIENT = 1e-4  # share of the predicted decrease that makes a step good enough

Normal = Callable[[np.ndarray], tuple[Any, Any, Any]]


@dataclass(frozen=True)
class Optimum:
    """Where the search ended: `cost` is r.r, `normal` is J^T J and `gradient` J^T r there."""

    x: np.ndarray
    normal: np.ndarray
    gradient: np.ndarray
    cost: float
    evaluations: int  # of the normal equations
    trials: int  # of the cost alone
    converged: bool
    message: str


def levenberg_marquardt(
    normal: Normal,
    x: Any,
    lower: Any = -np.inf,
    upper: Any = np.inf,
    *,
    cost: Callable[[np.ndarray], float] | None = None,
    tolerance: float = 1e-10,
    most: int = 100,
) -> Optimum:
    """Minimise r.r from ``normal(x) = (J^T J, J^T r, r.r)``, as :func:`arraydiff.normal_equations` gives it.

    `cost` gives r.r alone, for trial points; `tolerance` is that of gradient, decrease and step.

    Examples
    --------
    >>> import arraydiff
    >>> t = np.linspace(0.0, 1.0, 20)
    >>> found = levenberg_marquardt(arraydiff.normal_equations(lambda x: x[0] * np.exp(-x[1] * t) - np.exp(-2 * t)), [0.5, 0.5])
    >>> found.converged, [round(float(value), 6) for value in found.x]
    (True, [1.0, 2.0])
    """
    x = np.clip(np.asarray(x, dtype=float), lower, upper)
    matrix, gradient, squares = map(np.asarray, normal(x))
    if not np.isfinite(np.sum(matrix) + squares):
        raise ValueError("the normal equations are not finite at the start: choose another one")
    damping, growth, scale, evaluations, trials, message = FIRST_DAMPING, 2.0, np.zeros_like(x), 1, 0, ""
    while not message and trials < most:
        scale = np.maximum(scale, np.sqrt(np.diag(matrix)))
        unit = np.where(scale > 0.0, scale, 1.0)
        held = (x <= lower) & (gradient > 0.0) | (x >= upper) & (gradient < 0.0)
        if np.max(np.abs(gradient / unit), where=~held, initial=0.0) <= tolerance * np.sqrt(squares):
            message = "the gradient vanishes"
            break
        step = _step(matrix, gradient, damping * unit**2, lower - x, upper - x, held)
        predicted = -(2.0 * gradient @ step + step @ matrix @ step)
        trials += 1
        there = None if cost is not None else tuple(map(np.asarray, normal(x + step)))
        found = cost(x + step) if cost is not None else float(there[2])  # type: ignore[index]
        gain = (squares - found) / predicted if predicted > 0.0 and np.isfinite(found) else -1.0
        small = max(predicted, abs(squares - found)) <= tolerance * squares and gain <= 2.0
        short = np.linalg.norm(unit * step) <= tolerance * np.linalg.norm(unit * x)
        if gain > SUFFICIENT:
            x = np.clip(x + step, lower, upper)
            matrix, gradient, squares = there or map(np.asarray, normal(x))
            damping, growth = damping * max(1 / 3, 1.0 - (2.0 * gain - 1.0) ** 3), 2.0
        else:
            damping, growth = damping * growth, 2.0 * growth
        evaluations += int(there is not None or gain > SUFFICIENT)
        if small or short or damping > LARGEST_DAMPING:
            message = "the cost decreases no more" if small else "the steps are as short as rounding"
    failed = f"{most} steps were not enough: allow more, or fix parameters that the data do not determine"
    return Optimum(x, matrix, gradient, float(squares), evaluations, trials, bool(message), message or failed)


def _step(matrix: Any, gradient: Any, damping: Any, down: Any, up: Any, held: Any) -> np.ndarray:
    """Solve (N + D) p = -g between `down` and `up`: what would cross a bound is put on it, and the others solved for again."""
    step: np.ndarray = np.zeros_like(gradient)
    free = ~held
    while free.any():
        right = -(gradient + matrix @ np.where(free, 0.0, step))[free]
        root = np.sqrt(damping[free] + np.diag(matrix)[free])  # to a unit diagonal: parameters differ by many decades
        system = (matrix + np.diag(damping))[np.ix_(free, free)] / np.outer(root, root)
        step[free] = np.linalg.lstsq(system, right / root, rcond=None)[0] / root
        crossing = free & ((step < down) | (step > up))
        step, free = np.clip(step, down, up), free & ~crossing if crossing.any() else np.zeros_like(free)
    return step
