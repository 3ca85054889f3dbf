"""The ray that fixed stencils share: what five points along all their steps at once show of each output.

It gives the Taylor terms that a stencil leaves out, and the noise that no polynomial explains.  Where a derivative along one line
is wanted anyhow, for a check, four points on that line give both: what no parabola explains may be noise or truncation then, and
counts as both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from arraydiff._typing import Array
from arraydiff.directions import Tangents
from arraydiff.noise import Noise
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.rows import Rows, by_rows, cut, cut_or_none, slabs
from arraydiff.seam import Pushforward

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


FEW = (0.0, 1.0, -1.0, 2.0)
FEW_WEIGHTS = ((-1 / 2, 1, -1 / 3, -1 / 6), (-2, 1, 1, 0), (3, -3, -1, 1))
FEW_NOISE = 20**0.5  # of the third difference of independent values
SLOPE_NOISE = (50 / 36) ** 0.5  # of the slope
HIGHEST = 2  # order of the stencils for which they will do

ROUNDING = 2.0  # eps |f| of one value, with both its neighbours' signs
NOISE_FACTOR = 2.2


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


@dataclass(frozen=True)
class Across:
    """Five points along all steps at once."""

    problem: Problem
    steps: Array  # (n,)
    line: Tangents
    tight: Array | None  # () whether points lie on one side alone; None: they do not

    @classmethod
    def of(cls, problem: Problem, steps: Array) -> Across:
        """The ray for these steps."""
        return cls(problem, steps, *ray_of_steps(problem, steps))

    @property
    def offsets(self) -> Array:
        """(5,)."""
        return by_room(self.problem, self.tight, RAY, RAY_SIDED, self.problem.x.dtype)

    def far(self) -> Array:
        """(1, 1)."""
        return far_along(self.problem, self.line, self.steps)

    def change(self, values: Array, order: int) -> Change:
        """What the values there show."""
        return change_along(self.problem, values, self.tight, order)


@dataclass(frozen=True)
class Along:
    """Four points on a line along which the derivative is wanted too."""

    problem: Problem
    step: Array  # (1,)
    line: Tangents

    @property
    def offsets(self) -> Array:
        """(4,)."""
        return self.problem.backend.asarray(FEW, self.problem.x.dtype) * self.step

    def far(self) -> Array:
        """(1, 1) far enough for f to react if it ever does."""
        xp, reach = self.problem.xp, self.line.scale / 8
        if self.line.room is not None:
            reach = xp.minimum(reach, self.line.room[0])
        return reach[None, :]

    def change(self, values: Array, order: int) -> Change:
        """What the values there show, in units of the step."""
        found = self.problem.xp.abs(self._differences(values))
        third, noise = found[:, 2] / 6, found[:, 2] / FEW_NOISE
        return Change(found[:, 0], found[:, 1] / 2 if order == 1 else third, noise)

    def derivative(self, values: Array, noise: Noise) -> Pushforward:
        """Along the line, with the rounding of values and x, or their noise, as its bar."""
        xp, found = self.problem.xp, self._differences(values)

        def made(rows: Rows) -> list[Array]:
            some, terms, known = cut(values, rows), cut(found, rows), cut_or_none(noise.known, rows)
            column = terms[:, :1] / self.step
            level = ROUNDING * noise.eps * (xp.max(xp.abs(some), axis=1)[:, None] + self.line.reach * xp.abs(column))
            seen = xp.abs(terms[:, 2]) / FEW_NOISE if known is None else known
            level = xp.maximum(level, NOISE_FACTOR * seen[:, None])
            error, finite = SLOPE_NOISE * level / self.step, xp.isfinite(column)
            status = xp.astype(~finite, xp.int16) * int(Status.FAILED)
            return [column, xp.where(finite, error, xp.full_like(error, float("inf"))), status]

        outputs = slabs(self.problem.backend, int(values.shape[0]))
        column, error, status = by_rows(self.problem.backend, outputs, made)
        return Pushforward(column, error, self.step, status)

    def _differences(self, values: Array) -> Array:
        """(m, 3) derivatives, times powers of the step."""
        xp, backend = self.problem.xp, self.problem.backend
        weights = xp.matrix_transpose(backend.asarray(FEW_WEIGHTS, values.dtype))
        outputs = slabs(backend, int(values.shape[0]))

        def found(rows: Rows) -> list[Array]:
            some = cut(values, rows)
            return [xp.matmul(some - some[:, :1], weights)]

        return by_rows(backend, outputs, found)[0]


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
    if problem.backend.deferred:
        return None, None
    finite = problem.xp.isfinite(value)
    still, number = problem.backend.counts((slope == 0) & finite, finite)
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
