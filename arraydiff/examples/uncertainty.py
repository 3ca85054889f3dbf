"""What a fit does and does not determine: standard errors, parameters on their bounds, degenerate combinations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DEGENERATE_CONDITION = 1e3  # of the Jacobian with columns of length 1: correlations beyond 0.999998
INSEPARABLE = 0.999  # correlation beyond which two parameters of a degenerate fit are named together
AT_BOUND = 1e-6  # distance to a bound, relative to the width between the bounds
NEGLIGIBLE = 1e-12  # norm of a column, for the parameter's whole range, beside the largest one: no influence


@dataclass(frozen=True)
class Uncertainty:
    """Standard errors and correlations of the fitted parameters.

    Parameters
    ----------
    standard_errors : ndarray, shape (n,)
        NaN for a parameter that is held by its bound or has no influence.
    correlation : ndarray, shape (n, n)
        NaN likewise.
    condition : float
        Condition number of the Jacobian with columns of length 1.
    at_bound : tuple of str or None
        "lower", "upper" or None for each parameter.
    idle : tuple of int
        Parameters on which the residuals do not depend at the optimum.
    inseparable : tuple of int
        Parameters that the data cannot tell apart; empty unless the fit is degenerate.
    """

    standard_errors: np.ndarray
    correlation: np.ndarray
    condition: float
    at_bound: tuple[str | None, ...]
    idle: tuple[int, ...]
    inseparable: tuple[int, ...]

    @property
    def degenerate(self) -> bool:
        """Whether other parameters fit as well."""
        return bool(self.idle or self.inseparable)


def uncertainty(
    jacobian: np.ndarray, spread: float, values: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> Uncertainty:
    """Judge an optimum by its Jacobian: the covariance is spread^2 times the inverse of J^T J.

    A parameter on its bound is held there, and the others' errors are those of the fit without it; not so where the
    fit is degenerate, because then holding it would hide how little is known of the others.
    """
    n = len(values)
    lengths = np.linalg.norm(jacobian, axis=0)
    reach = lengths * np.where(np.isfinite(upper - lower), upper - lower, 1.0)
    idle = tuple(np.flatnonzero(reach <= NEGLIGIBLE * np.max(reach, initial=0.0)).tolist())
    felt = np.asarray([i for i in range(n) if i not in idle], dtype=int)
    at_bound = tuple(_side(*numbers) for numbers in zip(values, lower, upper, strict=True))

    unit = jacobian[:, felt] / lengths[felt]
    stretch = np.linalg.svd(unit, compute_uv=False)
    condition = float(stretch[0] / stretch[-1]) if len(felt) and stretch[-1] > 0.0 else float("inf")
    inseparable = _inseparable(unit, felt) if len(felt) > 1 and condition > DEGENERATE_CONDITION else ()
    kept = felt if inseparable else np.asarray([i for i in felt if at_bound[i] is None], dtype=int)

    errors, correlation = np.full(n, np.nan), np.full((n, n), np.nan)
    if len(kept):
        relative, correlation[np.ix_(kept, kept)] = _covariance(jacobian[:, kept] / lengths[kept])
        errors[kept] = spread * relative / lengths[kept]
    return Uncertainty(errors, correlation, condition, at_bound, idle, inseparable)


def explain(found: Uncertainty, names: tuple[str, ...]) -> list[str]:
    """What a reader must know before using the numbers, in plain words; empty where all is well."""
    lines = []
    for name in (names[i] for i in found.idle):
        lines.append(f"The data do not depend on {name} here: its value means nothing. Fix it: --fix {name}=VALUE")
    if found.inseparable:
        listed = _and([names[i] for i in found.inseparable])
        pairs = np.abs(found.correlation[np.ix_(found.inseparable, found.inseparable)] - np.eye(len(found.inseparable)))
        strongest = float(np.nanmax(pairs))
        lines.append(
            f"The fit is degenerate: the data cannot tell {listed} apart (condition number {found.condition:.0e}, "
            f"correlation {strongest:.7f}); many combinations fit as well, so none of their values means anything."
        )
        lines.append(f"Fix one of them, for example --fix {_suggestion([names[i] for i in found.inseparable])}")
    for name, side in zip(names, found.at_bound, strict=True):
        if side is not None:
            lines.append(f"{name} ended on its {side} bound: the best fit may lie beyond it. See --bounds {name}=LO:HI")
    return lines


def _side(value: float, low: float, high: float) -> str | None:
    width = high - low if np.isfinite(high - low) else max(abs(value), 1.0)
    if value - low <= AT_BOUND * width:
        return "lower"
    return "upper" if high - value <= AT_BOUND * width else None


def _covariance(unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Square roots of the diagonal of (U^T U)^-1, and the correlations, from the singular values of U."""
    _, stretch, right = np.linalg.svd(unit, full_matrices=False)
    root = right.T / np.maximum(stretch, np.finfo(float).eps * stretch[0])
    errors = np.sqrt(np.sum(root**2, axis=1))
    return errors, (root @ root.T) / np.outer(errors, errors)


def _inseparable(unit: np.ndarray, felt: np.ndarray) -> tuple[int, ...]:
    """Parameters that correlate with another one beyond all use."""
    correlation = np.abs(_covariance(unit)[1] - np.eye(unit.shape[1]))
    return tuple(felt[np.max(correlation, axis=1) > INSEPARABLE].tolist())


def _suggestion(names: list[str]) -> str:
    """What to fix first: what is added to a law that could do without it."""
    offsets = [name for name in names if name in ("D_offset", "shear_rate_offset")]
    return f"{offsets[0]}=0" if offsets else f"{names[-1]}=VALUE"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
