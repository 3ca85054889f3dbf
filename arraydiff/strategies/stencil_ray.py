"""The ray that fixed stencils share: what five points along all their steps at once show of each output.

It gives the Taylor terms that a stencil leaves out, and the noise that no polynomial explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from arraydiff._typing import Array
from arraydiff.directions import Tangents
from arraydiff.problem import Problem
from arraydiff.rows import Rows, by_rows, cut, cut_or_none, slabs

RAY = (0.0, 1.0, -1.0, 2.0, -2.0)
RAY_WEIGHTS = ((0, 2 / 3, -2 / 3, -1 / 12, 1 / 12), (-2, 1, 1, 0, 0), (0, -1, 1, 1 / 2, -1 / 2), (6, -4, -4, 1, 1))
RAY_SIDED = (0.0, 1.0, 2.0, 3.0, 4.0)  # where a bound is near
RAY_SIDED_WEIGHTS = (
    (-25 / 12, 4, -3, 4 / 3, -1 / 4),
    (35 / 12, -26 / 3, 19 / 2, -14 / 3, 11 / 12),
    (-5 / 2, 9, -12, 7, -3 / 2),
    (1, -4, 6, -4, 1),
)
RAY_NOISE = 70**0.5  # of the fourth difference of independent values


@dataclass(frozen=True)
class Change:
    """What the ray showed of each output, in units of the steps."""

    slope: Array  # (m,) the linear term
    truncation: Array  # (m,) the term that the stencil leaves out, over its error factor
    noise: Array | None  # (m,) what no polynomial explains; None where truncation would pass for it
    blind: Array | None = None  # (m,) bool: f does not react along the ray, but it does farther out

    def cut(self, rows: Rows) -> Change:
        """Of some outputs."""
        slope, truncation = cut(self.slope, rows), cut(self.truncation, rows)
        return Change(slope, truncation, cut_or_none(self.noise, rows), cut_or_none(self.blind, rows))


def ray_of_steps(problem: Problem, steps: Array) -> tuple[Tangents, Array | None]:
    """One line along (±h_1, ..., ±h_n), inside the bounds; and, where there are any, () whether points lie on one side alone."""
    xp = problem.xp
    signs = problem.backend.ray(problem.n, problem.x.dtype) > 0
    direction = xp.where(signs, steps, -steps)
    if problem.lower is None or problem.upper is None:
        return Tangents(problem, direction[:, None]), None
    up, down = problem.upper - problem.x, problem.x - problem.lower
    free = xp.maximum(up, down) > 0
    tight = xp.any(xp.logical_and(free, xp.minimum(up, down) < 2 * steps))
    across = xp.where(free, direction, xp.zeros_like(direction))
    inwards = xp.where(up >= down, steps, -steps)
    inside = xp.where(xp.maximum(up, down) >= 4 * steps, inwards, xp.zeros_like(inwards))
    return Tangents(problem, xp.where(tight, inside, across)[:, None]), tight


def by_room(problem: Problem, tight: Array | None, across: Sequence[Any], inwards: Sequence[Any], dtype: Any) -> Array:
    """One of two tables: for a ray across x, or for one to one side."""
    if tight is None:
        return problem.backend.asarray(across, dtype)
    return problem.xp.where(tight, *(problem.backend.asarray(table, dtype) for table in (inwards, across)))


def counted(problem: Problem, slope: Array, value: Array) -> tuple[int | None, int | None]:
    """How many outputs do not react along the ray, and how many are finite; None where it cannot be read."""
    xp, finite = problem.xp, problem.xp.isfinite(value)
    if problem.backend.deferred:
        return None, None
    counts = [xp.sum(xp.astype(mask, xp.int32)) for mask in ((slope == 0) & finite, finite)]
    still, number = problem.backend.read(xp.stack(counts))
    return still, number


def far_along(problem: Problem, line: Tangents, steps: Array) -> Array:
    """(1, 1) a whole number of steps along the ray, far enough for f to react if it ever does: in float32, say."""
    xp = problem.xp
    reach = xp.min(problem.scale / steps) / 8
    if line.room is not None:
        reach = xp.minimum(reach, line.room[0][0])
    return xp.reshape(xp.floor(reach), (1, 1))


def change_along(problem: Problem, values: Array, tight: Array | None, order: int) -> Change:
    """Taylor terms along the ray; beyond the fourth by the length over which f changes."""
    backend = problem.backend
    terms = problem.xp.matrix_transpose(by_room(problem, tight, RAY_WEIGHTS, RAY_SIDED_WEIGHTS, values.dtype))
    outputs = slabs(backend, int(values.shape[0]))
    parts = by_rows(backend, outputs, lambda rows: _change_of(problem, cut(values, rows), terms, order))
    return Change(parts[0], parts[1], parts[2] if order <= 2 else None)


def _change_of(problem: Problem, values: Array, terms: Array, order: int) -> list[Array]:
    """Slope, truncation, and noise where it can be told, of some outputs."""
    xp = problem.xp
    found = xp.abs(xp.matmul(values - values[:, :1], terms))  # (m, 4) derivatives
    slope, bend, third, fourth = found[:, 0], found[:, 1] / 2, found[:, 2] / 6, found[:, 3] / 24
    if order <= 2:
        return [slope, bend if order == 1 else third, found[:, 3] / RAY_NOISE]
    tiny = float(xp.finfo(values.dtype).smallest_normal)  # 0 / 0 is 0 here, and c / 0 is as good as infinite
    by_third = xp.maximum(xp.sqrt(slope / (third + tiny)), bend / (third + tiny))
    by_fourth = xp.maximum((slope / (fourth + tiny)) ** (1 / 3), xp.sqrt(bend / (fourth + tiny)))
    length = xp.maximum(xp.minimum(by_third, by_fourth), xp.ones_like(slope))
    variation = xp.maximum(slope * length, bend * length * length)
    return [slope, variation / length ** (order + 1)]
