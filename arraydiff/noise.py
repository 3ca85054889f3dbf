"""The noise level of f: given by the user, carried by an inner derivative, or measured by a probe along one random ray.

Rounding, unfinished iterations, simulation, float32 inside f: noise is what no low polynomial explains, and what does not fall as
the points draw together.  After Moré & Wild, SIAM J. Sci. Comput. 33 (2011) 1292, with points spaced irregularly: equal spacing
takes a fast wave for a slow one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from arraydiff._typing import Array, PyTree
from arraydiff.arguments import layout_of, ravel
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import Lines, ray, x_itself
from arraydiff.problem import Problem
from arraydiff.seam import Asking, Values

ROUNDING_LOW = 0.2
"""Least noise ever assumed, in eps |f|: a sum of a few correctly rounded terms."""

ROUNDING_HIGH = 2.0
"""Noise up to this many eps (|f| + |x f'|) is taken for rounding."""

ABOVE_ROUNDING = 16.0
"""A level beyond this many eps |f| is real noise: steps are planned for it."""

DROWNED = 2.0**11
"""A level beyond this many eps (|f| + |x f'|) is no cancellation within f, which imaginary parts are free of."""

PROBED_FROM = 4
"""Parameters from which a probe, shared by all of them, costs less than it saves."""

SPACING = (2.0**-10, 2.0**-17, 2.0**-24, 2.0**-31)
"""Of the probe's points, of the scale: smaller ones where f changes too fast to tell it from noise."""

DEGREE = (4, 2, 2, 2)
"""Of the polynomial that f is held to at each spacing."""

NODES = (-3.27, -1.83, -0.74, 1.16, 2.31, 2.92)
"""Whole numbers displaced by up to 0.4, fixed so that the same x gives the same bits."""

FALLS = 8.0
"""A residual that falls, or rises, by more from one spacing to the next is change of f, not noise."""

LARGEST = 0.03
"""Of |f|: a residual above it is change of f, whatever else it looks like."""

RESOLVED = 32.0
"""Spacings below this many eps are lost in the rounding of x."""

CEILING = 4.0
"""Times what the probe saw of a quiet output: more cannot be its noise."""

NEW_DIRECTION = 1e-9
"""Of a vector's length: what is left of it below that is rounding."""

UNDECIDED_SHARE = 0.1
"""Of the outputs: while more are undecided, the probe goes on to the next spacing."""


@dataclass(frozen=True)
class Sight:
    """Values of f on the probe's line."""

    spacing: float
    values: Array  # (m, 7): at x, and at the nodes times the spacing
    residual: Array  # (m,) what no low polynomial explains of them


@dataclass(frozen=True)
class Noise:
    """What is known of the noise of f at x."""

    eps: float  # of the dtype that f computes in, as far as that shows
    known: Array | None  # (m,) absolute standard deviation; NaN where it has to be read off the ladder
    measured: bool  # whether more may be learnt of it from the values
    loud: bool = False  # it lies above rounding: steps are planned for it from the first
    drowned: bool = False  # so far above that imaginary parts, which do not show it, are not to be trusted
    probed: bool = False  # known from a handful of values: the lines refine it
    asks: bool = False  # no probe yet: scouts that look noisy send one out
    sight: Sight | None = None  # the values that the probe saw last
    ceiling: Array | None = None  # (m,) what the probe leaves room for, inf where it told nothing

    def beside(self, lines: Lines) -> Noise:
        """The levels as they stand beside f(x) on these lines."""
        known, ceiling = (None if part is None else lines.at_x(part) for part in (self.known, self.ceiling))
        return replace(self, known=known, ceiling=ceiling)


def given(config: DifferentiationConfig) -> bool:
    """Whether the user says how large the noise is, and that it is not 0."""
    if isinstance(config.noise, int | float):
        return config.noise > 0
    return config.noise is not None and not isinstance(config.noise, str)


def sighted(problem: Problem, config: DifferentiationConfig) -> Asking[tuple[Array, Noise]]:
    """f(x) and its noise, the probe's first points in the same round."""
    if not (_may_probe(config) and problem.directions >= PROBED_FROM) or problem.call.measured:
        values = yield x_itself(problem)
        return values.at[:, 0], noise_at(problem, config, values)
    line = ray(replace(problem, step=None))
    values = yield line.points(_offsets(problem, SPACING[0]), starts_at_x=True)
    value, noise = values.at[:, 0], noise_at(problem, config, values)
    probe = yield from probed(problem, value, noise.eps, values)
    return value, probe.told(problem, noise)


def noise_at(problem: Problem, config: DifferentiationConfig, first: Values) -> Noise:
    """The noise of f as far as config, dtype and an inner derivative tell it; the first point of `first` is x."""
    xp, value = problem.xp, first.at[:, 0]
    inner = None if first.noise is None else first.noise[:, 0]
    eps = max(problem.eps, float(xp.finfo(value.dtype).eps))
    least = ROUNDING_LOW * eps * xp.abs(value)
    if inner is not None:
        return Noise(eps, xp.maximum(inner, least), measured=False)
    if given(config):
        return Noise(eps, xp.maximum(_as_given(problem, config.noise, value), least), measured=False, loud=True)
    exact = not isinstance(config.noise, str)
    ceiling = CEILING * eps * xp.abs(value) if exact else None
    return Noise(eps, None, measured=True, asks=_may_probe(config), ceiling=ceiling)


def _may_probe(config: DifferentiationConfig) -> bool:
    """Whether noise is to be measured, and points may go where the probe's go."""
    return isinstance(config.noise, str) and config.min_step is None and config.max_step is None


def _as_given(problem: Problem, level: PyTree, value: Array) -> Array:
    """(m,) the level of a number, an array of the structure of f(x), or a callable of f's arguments."""
    backend, xp = problem.backend, problem.xp
    if callable(level):
        call = replace(problem.call, fun=level, has_aux=False, batch_axis=None, cotangent=None)
        flat = call(backend.copy(problem.x)).values
    elif isinstance(level, int | float):
        return xp.full_like(value, float(level))
    else:
        layout, leaves = layout_of(backend, level)
        flat = ravel(backend, layout.leaves, leaves, value.dtype)
    if flat.shape[0] not in (1, value.shape[0]):
        raise ValueError(
            f"noise wants one level, or one for each of the {value.shape[0]} outputs of f, got {flat.shape[0]}"
        )
    (bad,) = backend.read(xp.reshape(xp.sum(xp.astype(~(xp.isfinite(flat) & (flat >= 0)), xp.int32)), (1,)))
    if bad:
        raise ValueError(
            f"noise wants finite levels >= 0, but {bad} of {flat.shape[0]} are not: say None where f is exact"
        )
    return xp.astype(flat, value.dtype) + xp.zeros_like(value)


@dataclass(frozen=True)
class Probe:
    """What values on one random ray tell of each output."""

    level: Array  # (m,) standard deviation, absolute; NaN where f changes too fast to tell
    freedom: Array  # (m,) degrees of freedom behind it
    noisy: Array  # (m,) bool: above rounding
    sight: Sight | None
    heard: int  # how many are
    finite: int  # how many outputs are finite at x
    drowned: int  # how many are so noisy that imaginary parts, which do not show it, are not to be trusted

    def told(self, problem: Problem, before: Noise) -> Noise:
        """The same for the ladder: quiet outputs are left to it, under a ceiling."""
        xp, nowhere = problem.xp, problem.xp.full_like(self.level, float("nan"))
        told = xp.isfinite(self.level) & ~self.noisy
        ceiling = xp.where(told, CEILING * self.level, xp.full_like(self.level, float("inf")))
        if not self.heard:
            return replace(before, ceiling=ceiling, asks=False, sight=self.sight)
        known = xp.where(self.noisy, self.level, nowhere)
        loud, drowned = 2 * self.heard > self.finite, 2 * self.drowned > self.finite
        return replace(before, known=known, loud=loud, drowned=drowned, probed=True, asks=False, ceiling=ceiling)


def probed(
    problem: Problem,
    value: Array,
    eps: float,
    first: Values | None = None,
    suspected: Array | None = None,
    another: bool = False,
) -> Asking[Probe]:
    """Residuals of low polynomials along one ray (or another one), at smaller and smaller spacings until most are told.

    `first` holds f(x) and the values of the first spacing where they are known already; `suspected` (m,) a noise that other
    values of f look like, in the place of that spacing.
    """
    xp, line = problem.xp, ray(replace(problem, step=None), another)
    level = xp.full_like(value, float("nan"))
    before = level if suspected is None else suspected
    freedom, before_freedom = xp.zeros_like(value), xp.ones_like(value)
    told, noisy = ~xp.isfinite(value), xp.zeros_like(value, dtype=xp.bool)
    drowned, counts, sight = noisy, [0, 0, 0, 0], None
    late = slice(1, 3) if suspected is not None else slice(None)
    for spacing, degree in list(zip(SPACING, DEGREE, strict=True))[late]:
        if spacing < RESOLVED * eps:
            break
        if first is None:
            first = yield line.points(_offsets(problem, spacing)[1:, :])
            first = replace(first, at=xp.concat([value[:, None], first.at], axis=1))
        found, size = _residual(problem, first.at, degree), xp.max(xp.abs(first.at), axis=1)
        moved = (xp.max(first.at, axis=1) - xp.min(first.at, axis=1)) / (spacing * (NODES[-1] - NODES[0]))
        sight = Sight(spacing, first.at, found)
        first, own = None, float(len(NODES) - degree)
        rounding = found <= ABOVE_ROUNDING * eps * (size + moved)
        stays = (found >= before / FALLS) & (found <= FALLS * before) & (found <= LARGEST * size)
        held = xp.minimum(before, 3 * found)
        together = (own * found**2 + before_freedom * held**2) / (own + before_freedom)
        new = ~told & (rounding | stays)
        level = xp.where(new, xp.where(rounding, xp.maximum(found, eps * (size + moved) / 4), xp.sqrt(together)), level)
        freedom = xp.where(new, xp.where(rounding, own, own + before_freedom), freedom)
        noisy = noisy | (new & ~rounding)
        drowned = drowned | (new & (found > DROWNED * eps * (size + moved)))
        told = told | new
        usable = xp.isfinite(found) & (found <= LARGEST * size)
        before = xp.where(usable, found, before)
        before_freedom = xp.where(usable, own, before_freedom)
        counts = problem.backend.read(_counts(problem, [~told, noisy, xp.isfinite(value), drowned]))
        if counts[0] <= UNDECIDED_SHARE * counts[2]:
            break
    return Probe(level, freedom, noisy, sight, counts[1], counts[2], counts[3])


def _offsets(problem: Problem, spacing: float) -> Array:
    """(7, 1) x itself, and the nodes."""
    return problem.backend.asarray([[0.0], *([spacing * node] for node in NODES)], problem.x.dtype)


def _counts(problem: Problem, masks: Sequence[Array]) -> Array:
    return problem.xp.stack([problem.xp.sum(problem.xp.astype(mask, problem.xp.int32)) for mask in masks])


def _residual(problem: Problem, values: Array, degree: int) -> Array:
    """(m,) root mean square, a degree of freedom, of what no polynomial through f(x) explains."""
    xp = problem.xp
    rows = problem.backend.asarray(_left_over(degree), values.dtype)
    parts = xp.matmul(values - values[:, :1], xp.matrix_transpose(rows))
    return xp.sqrt(xp.mean(parts * parts, axis=1))


@cache
def _left_over(degree: int) -> list[list[float]]:
    """Orthonormal rows over (0, *NODES) that no polynomial up to `degree` has a part in."""
    nodes = [0.0, *NODES]
    basis: list[list[float]] = []
    wanted = [[node**power for node in nodes] for power in range(degree + 1)]
    wanted += [[float(i == j) for j in range(len(nodes))] for i in range(len(nodes))]
    for vector in wanted:
        rest = vector
        for _ in range(2):  # twice is enough
            for other in basis:
                along = sum(a * b for a, b in zip(rest, other, strict=True))
                rest = [a - along * b for a, b in zip(rest, other, strict=True)]
        length = math.hypot(*rest)
        if length > NEW_DIRECTION * math.hypot(*vector):
            basis.append([a / length for a in rest])
        if len(basis) == len(nodes):
            break
    return basis[degree + 1 :]
