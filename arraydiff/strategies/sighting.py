"""The slope along the probe's line, from the values that showed the noise: a witness that costs nothing.

Fornberg, Math. Comp. 51 (1988) 699: weights of the derivatives at 0 of the polynomial through irregular nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from arraydiff._typing import Array, Namespace
from arraydiff.directions import Tangents
from arraydiff.noise import Sight
from arraydiff.problem import Problem
from arraydiff.rows import thinned
from arraydiff.strategies.ladder import Witness
from arraydiff.strategies.tableau import MANY, NOISE_KNOWN


def sighted_slope(problem: Problem, line: Tangents, sight: Sight, typical: Array | None) -> Witness:
    """Slope, bar, noise and curvature of each output at x along the probe's line; `typical` of all that the sight is cut from."""
    xp, nodes, values = problem.xp, sight.nodes, sight.values(problem.xp)
    moved = values[:, 1:] - values[:, :1]
    weights = _weights(nodes, 1)
    slope = _applied(problem, moved, weights) / sight.spacing
    lower = _applied(problem, moved[:, 1:-1], _weights(nodes[1:-1], 1)) / sight.spacing  # degree: two less
    curvature = xp.abs(_applied(problem, moved, _weights(nodes, 2))) / sight.spacing**2
    gain = math.hypot(*weights, sum(weights)) / sight.spacing
    residual = _residual(xp, sight, values, typical)
    error = xp.abs(slope - lower) + NOISE_KNOWN * gain * residual
    status = xp.zeros_like(error, dtype=xp.int16)
    steps = xp.full_like(line.scale, sight.spacing)
    column = error[:, None]
    return Witness(slope[:, None], column, status[:, None], steps, residual[:, None], curvature[:, None])


def sighted_curve(problem: Problem, sight: Sight, typical: Array | None) -> tuple[Array, Array]:
    """(m,) twice: the second derivative there, and its bar."""
    xp, nodes, values = problem.xp, sight.nodes, sight.values(problem.xp)
    moved, weights = values[:, 1:] - values[:, :1], _weights(nodes, 2)
    curve = _applied(problem, moved, weights) / sight.spacing**2
    lower = _applied(problem, moved[:, 1:-1], _weights(nodes[1:-1], 2)) / sight.spacing**2
    gain = math.hypot(*weights, sum(weights)) / sight.spacing**2
    return curve, xp.abs(curve - lower) + NOISE_KNOWN * gain * _residual(xp, sight, values, typical)


def _residual(xp: Namespace, sight: Sight, values: Array, typical: Array | None) -> Array:
    """(m,) the noise as it shows; no less than half of what is typical."""
    if typical is None:
        return sight.residual
    return xp.maximum(sight.residual, typical * xp.abs(values[:, 0]) / 2)


def typical_share(problem: Problem, sight: Sight) -> Array | None:
    """() of many outputs what most of them leave, in units of their size: a smaller residual is one by accident."""
    if int(sight.residual.shape[0]) < MANY:
        return None
    xp, base = problem.xp, sight.at[:, 0] if sight.origin is None else sight.origin
    residual, size = thinned(problem.backend, sight.residual), xp.abs(thinned(problem.backend, base))
    usable = xp.isfinite(residual) & (size > 0)
    share = xp.where(usable, residual / xp.where(usable, size, xp.ones_like(size)), xp.zeros_like(size))
    return xp.sort(share)[int(share.shape[0]) // 2]


def _applied(problem: Problem, values: Array, weights: Sequence[float]) -> Array:
    return problem.xp.matmul(values, problem.backend.asarray(list(weights), values.dtype))


@cache
def _weights(nodes: tuple[float, ...], order: int) -> tuple[float, ...]:
    """Of f(node) - f(0) in the first or second derivative at 0 of the polynomial through 0 and the nodes."""
    found = []
    for node in nodes:
        others = [other for other in nodes if other != node]
        scale = node * math.prod(node - other for other in others)
        product = math.prod(-other for other in others)
        found.append((product if order == 1 else 2 * sum(product / -other for other in others)) / scale)
    return tuple(found)
