"""The noise of f measured by a probe along one random ray, shared by all parameters.

Rounding, unfinished iterations, simulation, float32 inside f: noise is what no low polynomial explains, and what does not fall as
the points draw together.  After Moré & Wild, SIAM J. Sci. Comput. 33 (2011) 1292, with points spaced irregularly: equal spacing
takes a fast wave for a slow one.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import AtX, ray
from arraydiff.noise import ABOVE_ROUNDING, CEILING, FLOOR, Noise, Sight, may_probe, noise_at
from arraydiff.problem import Problem
from arraydiff.rows import Rows, by_rows, cut, folded, kept, slabs
from arraydiff.seam import Asking, Points

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

OF_OUTPUTS = ("level", "freedom", "noisy", "drowned", "least", "told", "before", "before_freedom")
"""What a probe tells of each output, in the order of its fields."""


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
        backend, counted = problem.backend, list[Array]()

        def looked(rows: Rows) -> list[Array]:
            part, masks = self.cut(rows)._looked(problem, eps, sight.cut(rows))
            counted.append(_sums(problem, masks))
            return part

        parts = by_rows(backend, slabs(backend, int(self.level.shape[0])), looked)
        counts = None if backend.deferred else Counts(*backend.read(folded(operator.add, counted)))
        told = dict(zip(OF_OUTPUTS, parts, strict=True))
        return replace(self, following=self.following + 1, sight=sight, counts=counts, **told)

    def cut(self, rows: Rows) -> Probe:
        """What is told of some of the outputs."""
        return self if rows is None else replace(self, **{name: cut(getattr(self, name), rows) for name in OF_OUTPUTS})

    def _looked(self, problem: Problem, eps: float, sight: Sight) -> tuple[list[Array], list[Array]]:
        """What is known now, and the masks that are counted."""
        xp, found, before, values = problem.xp, sight.residual, self.before, sight.values(problem.xp)
        size = xp.max(xp.abs(values), axis=1)
        reach = sight.spacing * (sight.nodes[-1] - sight.nodes[0])
        moved = (xp.max(values, axis=1) - xp.min(values, axis=1)) / reach
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
        masks = [xp.isfinite(values[:, 0]), ~told, noisy, drowned]
        masks += [~told & mask for mask in (found > CALM * rounding, changing, found > HOPELESS * rounding)]
        usable = xp.isfinite(found) & (found <= LARGEST * size)
        parts = [
            xp.where(new, xp.where(quiet, xp.maximum(found, rounding / 4), together), self.level),
            xp.where(new, xp.where(quiet, own, own + self.before_freedom), self.freedom),
            noisy,
            drowned,
            xp.where(new & quiet, found, self.least),
            told,
            xp.where(usable, found, before),
            xp.where(usable, own, self.before_freedom),
        ]
        return parts, masks

    def heard(self, problem: Problem, before: Noise) -> Noise:
        """The same for the ladder: quiet outputs are left to it, between a floor and a ceiling."""
        xp, counts = problem.xp, self.counts

        def limits(rows: Rows) -> list[Array]:
            part = self.cut(rows)
            quiet = xp.isfinite(part.level) & ~part.noisy
            ceiling = xp.where(quiet, CEILING * part.level, xp.full_like(part.level, float("inf")))
            known = xp.where(part.noisy, part.level, xp.full_like(part.level, float("nan")))
            return [ceiling, FLOOR * part.least, *([known] if counts is not None and counts.noisy else [])]

        backend = problem.backend
        ceiling, floor, *known = by_rows(backend, slabs(backend, int(self.level.shape[0])), limits)
        before = replace(before, ceiling=ceiling, floor=floor, asks=False, sight=self.sight, pending=None)
        before = before if counts is None else replace(before, finite=counts.finite)
        if counts is None or not known:
            return before
        loud, drowned = 2 * counts.noisy > counts.finite, 2 * counts.drowned > counts.finite
        return replace(before, known=known[0], loud=loud, drowned=drowned, probed=True)


def first_sight(problem: Problem, config: DifferentiationConfig, always: bool = False) -> Asking[tuple[Array, Noise]]:
    """f(x) and what is known of its noise, the probe's first points in the same round.

    Where they leave the noise open the probe is pending: :func:`further` goes on with it. `always`: its points are wanted
    whether or not they pay for themselves.
    """
    wanted = always or (may_probe(problem, config) and problem.directions >= PROBED_FROM)
    if not wanted or problem.call.measured:
        values = yield AtX(problem)
        return values.at[:, 0], noise_at(problem, config, values)
    line = ray(replace(problem, step=None))
    values = yield line.points(_offsets(problem, SPACING[0], (0.0, *NODES)), starts_at_x=True)
    value, noise = kept(problem.backend, values.at[:, 0]), noise_at(problem, config, values)
    sight = seeing(problem, SPACING[0], NODES, DEGREE[0], values.at)
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
        probe = probe.seen(problem, eps, seeing(problem, spacing, nodes, degree, values.at, value))
        del values
    return probe


def looking_closer(problem: Problem, config: DifferentiationConfig) -> list[Points]:
    """Where the probe goes on to look, if the first spacing leaves the noise open."""
    if not may_probe(problem, config):
        return []
    line = ray(replace(problem, step=None))
    return [line.points(_offsets(problem, spacing, NODES)) for spacing in SPACING[1:3]]


def _offsets(problem: Problem, spacing: float, nodes: Sequence[float]) -> Array:
    return problem.backend.asarray([[spacing * node] for node in nodes], problem.x.dtype)


def _sums(problem: Problem, masks: Sequence[Array]) -> Array:
    return problem.xp.stack([problem.xp.sum(problem.xp.astype(mask, problem.xp.int32)) for mask in masks])


def seeing(
    problem: Problem, spacing: float, nodes: tuple[float, ...], degree: int, at: Array, origin: Array | None = None
) -> Sight:
    """Values at the nodes, and (m,) the root mean square, a degree of freedom, of what no polynomial through f(x) explains."""
    xp, backend = problem.xp, problem.backend
    left_over = xp.matrix_transpose(backend.asarray(_left_over(nodes, degree), at.dtype))
    sight = Sight(spacing, nodes, at, at[:, 0], origin)

    def missed(rows: Rows) -> list[Array]:
        values = sight.cut(rows).values(xp)
        parts = xp.matmul(values - values[:, :1], left_over)
        return [xp.sqrt(xp.mean(parts * parts, axis=1))]

    (residual,) = by_rows(backend, slabs(backend, int(at.shape[0])), missed)
    return replace(sight, residual=residual)


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
