"""The noise of f measured by a probe along one random ray, shared by all parameters.

Rounding, unfinished iterations, simulation, float32 inside f: noise is what no low polynomial explains, and what does not fall as
the points draw together.  After Moré & Wild, SIAM J. Sci. Comput. 33 (2011) 1292, with points spaced irregularly: equal spacing
takes a fast wave for a slow one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import ray, x_itself
from arraydiff.noise import ABOVE_ROUNDING, CEILING, FLOOR, Noise, Sight, may_probe, noise_at
from arraydiff.problem import Problem
from arraydiff.seam import Asking

PROBED_FROM = 4
"""Parameters from which a probe, shared by all of them, costs less than it saves."""

SPACING = (2.0**-10, 2.0**-17, 2.0**-24, 2.0**-31)
"""Of the probe's points, of the scale: smaller ones where f changes too fast to tell it from noise."""

DEGREE = (4, 2, 2, 2)
"""Of the polynomial that f is held to at each spacing."""

NODES = (-3.27, -1.83, -0.74, 1.16, 2.31, 2.92)
"""Whole numbers displaced by up to 0.4, fixed so that the same x gives the same bits."""

FEW_NODES = NODES[1:5]
"""Enough where f was seen to change, and noise is not expected."""

FALLS = 8.0
"""A residual that falls, or rises, by more from one spacing to the next is change of f, not noise."""

LARGEST = 0.03
"""Of |f|: a residual above it is change of f, whatever else it looks like."""

HOPELESS = 2.0**31
"""Times the rounding of f: a residual of degree 2 above it is change of f at the next spacing too."""

RESOLVED = 32.0
"""Spacings below this many eps are lost in the rounding of x."""

CALM = 2.0**8
"""A residual within this many eps (|f| + |x f'|) is noise that need not be known where imaginary parts serve."""

DROWNED = 2.0**11
"""A level beyond this many eps (|f| + |x f'|) is no cancellation within f, which imaginary parts are free of."""

NEW_DIRECTION = 1e-9
"""Of a vector's length: what is left of it below that is rounding."""

UNDECIDED_SHARE = 0.1
"""Of the outputs: while more are undecided, the probe goes on to the next spacing."""


@dataclass(frozen=True)
class Counts:
    """Outputs of which something is true; what is read of the device after each spacing."""

    finite: int  # at x
    undecided: int
    noisy: int
    drowned: int  # so noisy that imaginary parts, which do not show it, are not to be trusted
    restless: int  # undecided, and maybe noisy enough to tell of
    changing: int  # undecided, and f was seen to change
    hopeless: int  # undecided, as they will be at the next spacing


@dataclass(frozen=True)
class Probe:
    """What values on one random ray tell of each output so far."""

    level: Array  # (m,) standard deviation, absolute; NaN where f changes too fast to tell
    freedom: Array  # (m,) degrees of freedom behind it
    noisy: Array  # (m,) bool: above rounding
    drowned: Array  # (m,) bool
    least: Array  # (m,) what was seen of the noise of quiet outputs, 0 elsewhere
    told: Array  # (m,) bool: no more need be known
    before: Array  # (m,) residual at the last spacing
    before_freedom: Array
    following: int = 0  # spacing
    sight: Sight | None = None
    counts: Counts | None = None

    @classmethod
    def begin(cls, problem: Problem, value: Array, suspected: Array | None = None) -> Probe:
        """Nothing seen; `suspected` (m,) a noise that other values of f look like, in the place of the first spacing."""
        xp = problem.xp
        told, unknown, zero = ~xp.isfinite(value), xp.full_like(value, float("nan")), xp.zeros_like(value)
        return cls(
            level=unknown,
            freedom=zero,
            noisy=told & ~told,
            drowned=told & ~told,
            least=zero,
            told=told,
            before=unknown if suspected is None else suspected,
            before_freedom=xp.ones_like(value),
            following=0 if suspected is None else 1,
        )

    @property
    def nodes(self) -> tuple[float, ...]:
        """Of the next spacing."""
        counts = self.counts
        return FEW_NODES if counts is not None and 2 * counts.changing > counts.undecided else NODES

    @property
    def decided(self) -> bool:
        """No more than a few outputs are undecided."""
        return self.counts is not None and self.counts.undecided <= UNDECIDED_SHARE * self.counts.finite

    @property
    def calm(self) -> bool:
        """Whatever the noise is, it is too small to tell of."""
        return self.counts is not None and 2 * self.counts.restless <= self.counts.finite

    def seen(self, problem: Problem, eps: float, sight: Sight) -> Probe:
        """With the values at one spacing more."""
        xp, found, before = problem.xp, sight.residual, self.before
        size = xp.max(xp.abs(sight.values), axis=1)
        reach = sight.spacing * (sight.nodes[-1] - sight.nodes[0])
        moved = (xp.max(sight.values, axis=1) - xp.min(sight.values, axis=1)) / reach
        rounding, own = eps * (size + moved), float(len(sight.nodes) - DEGREE[self.following])
        quiet = found <= ABOVE_ROUNDING * rounding
        stays = (found >= before / FALLS) & (found <= FALLS * before) & (found <= LARGEST * size)
        held = xp.minimum(before, 3 * found)
        together = xp.sqrt((own * found**2 + self.before_freedom * held**2) / (own + self.before_freedom))
        open_ = ~self.told | self.noisy  # two residuals of many agree by accident: the next one tells
        new = open_ & (quiet | stays)
        noisy, loud = new & ~quiet, found > DROWNED * rounding
        drowned, told = (self.drowned & noisy) | (new & loud), (self.told & ~self.noisy) | new
        changing = (found > LARGEST * size) | (found < before / FALLS)
        if self.following > 0:
            changing = changing | ~xp.isfinite(before)
        masks = [xp.isfinite(sight.values[:, 0]), ~told, noisy, drowned]
        masks += [~told & mask for mask in (found > CALM * rounding, changing, found > HOPELESS * rounding)]
        usable = xp.isfinite(found) & (found <= LARGEST * size)
        return Probe(
            xp.where(new, xp.where(quiet, xp.maximum(found, rounding / 4), together), self.level),
            xp.where(new, xp.where(quiet, own, own + self.before_freedom), self.freedom),
            noisy,
            drowned,
            xp.where(new & quiet, found, self.least),
            told,
            xp.where(usable, found, before),
            xp.where(usable, own, self.before_freedom),
            self.following + 1,
            sight,
            None if problem.backend.deferred else Counts(*problem.backend.read(_sums(problem, masks))),
        )

    def heard(self, problem: Problem, before: Noise) -> Noise:
        """The same for the ladder: quiet outputs are left to it, between a floor and a ceiling."""
        xp, nowhere, counts = problem.xp, problem.xp.full_like(self.level, float("nan")), self.counts
        quiet = xp.isfinite(self.level) & ~self.noisy
        ceiling = xp.where(quiet, CEILING * self.level, xp.full_like(self.level, float("inf")))
        before = replace(before, ceiling=ceiling, floor=FLOOR * self.least, asks=False, sight=self.sight, pending=None)
        before = before if counts is None else replace(before, finite=counts.finite)
        if counts is None or not counts.noisy:
            return before
        known = xp.where(self.noisy, self.level, nowhere)
        loud, drowned = 2 * counts.noisy > counts.finite, 2 * counts.drowned > counts.finite
        return replace(before, known=known, loud=loud, drowned=drowned, probed=True)


def first_sight(problem: Problem, config: DifferentiationConfig, always: bool = False) -> Asking[tuple[Array, Noise]]:
    """f(x) and what is known of its noise, the probe's first points in the same round.

    Where they leave the noise open the probe is pending: :func:`further` goes on with it. `always`: its points are wanted
    whether or not they pay for themselves.
    """
    wanted = always or (may_probe(problem, config) and problem.directions >= PROBED_FROM)
    if not wanted or problem.call.measured:
        values = yield x_itself(problem)
        return values.at[:, 0], noise_at(problem, config, values)
    line = ray(replace(problem, step=None))
    values = yield line.points(_offsets(problem, SPACING[0], (0.0, *NODES)), starts_at_x=True)
    value, noise = values.at[:, 0], noise_at(problem, config, values)
    sight = Sight(SPACING[0], NODES, values.at, _residual(problem, values.at, NODES, DEGREE[0]))
    probe = Probe.begin(problem, value).seen(problem, noise.eps, sight)
    if probe.decided or problem.backend.deferred:
        return value, probe.heard(problem, noise)
    return value, replace(noise, pending=probe, sight=sight)


def further(problem: Problem, value: Array, noise: Noise) -> Asking[Noise]:
    """The noise once the pending probe, if any, is through."""
    if noise.pending is None:
        return noise
    probe = yield from probed(problem, value, noise.eps, noise.pending)
    return probe.heard(problem, noise)


def sighted(problem: Problem, config: DifferentiationConfig) -> Asking[tuple[Array, Noise]]:
    """f(x) and its noise."""
    value, noise = yield from first_sight(problem, config)
    return value, (yield from further(problem, value, noise))


def probed(
    problem: Problem, value: Array, eps: float, probe: Probe | None = None, another: bool = False
) -> Asking[Probe]:
    """Residuals of low polynomials along one ray (or another one), at smaller and smaller spacings until most are told."""
    probe = Probe.begin(problem, value) if probe is None else probe
    line = ray(replace(problem, step=None), another)
    last = len(SPACING) if probe.following == 0 or probe.sight is not None else len(SPACING) - 1
    while not probe.decided and probe.following < last:
        counts = probe.counts
        if counts is not None and 1 < probe.following < last - 1 and 2 * counts.hopeless > counts.undecided:
            probe = replace(probe, following=probe.following + 1)
        spacing, degree, nodes = SPACING[probe.following], DEGREE[probe.following], probe.nodes
        if spacing < RESOLVED * eps:
            break
        values = yield line.points(_offsets(problem, spacing, nodes))
        at = problem.xp.concat([value[:, None], values.at], axis=1)
        probe = probe.seen(problem, eps, Sight(spacing, nodes, at, _residual(problem, at, nodes, degree)))
    return probe


def _offsets(problem: Problem, spacing: float, nodes: Sequence[float]) -> Array:
    return problem.backend.asarray([[spacing * node] for node in nodes], problem.x.dtype)


def _sums(problem: Problem, masks: Sequence[Array]) -> Array:
    return problem.xp.stack([problem.xp.sum(problem.xp.astype(mask, problem.xp.int32)) for mask in masks])


def _residual(problem: Problem, values: Array, nodes: tuple[float, ...], degree: int) -> Array:
    """(m,) root mean square, a degree of freedom, of what no polynomial through f(x) explains."""
    xp = problem.xp
    rows = problem.backend.asarray(_left_over(nodes, degree), values.dtype)
    parts = xp.matmul(values - values[:, :1], xp.matrix_transpose(rows))
    return xp.sqrt(xp.mean(parts * parts, axis=1))


@cache
def _left_over(nodes: tuple[float, ...], degree: int) -> list[list[float]]:
    """Orthonormal rows over (0, *nodes) that no polynomial up to `degree` has a part in."""
    nodes = (0.0, *nodes)
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
