"""One difference a line, over about all of the size of its parameters: exact to rounding where f is linear along it.

Nothing is truncated, whatever the step, so the largest one that is natural rounds least; where imaginary parts carry the
derivatives of f, that of the same point rounds less still.  It stands beside a strategy for the other lines; whether f is linear
is checked by those who asked (`linear`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt

from arraydiff._typing import Array, Namespace
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Columns, Lines
from arraydiff.pairs import crossed
from arraydiff.probe import PROBED_FROM
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.rows import Rows, by_rows, cut
from arraydiff.seam import Asking, Foresight, Points, Prepared, Pushforward, Strategy
from arraydiff.strategies.placing import spliced
from arraydiff.strategies.stencil import clamped
from arraydiff.strategies.stencil_ray import ROUNDING

WIDTH = 3.0
"""Standard deviations of a noise that was told by a handful of values: Student's t for four of them, at 95 %."""

CANCELLED = 2.0
"""Times the bar of an imaginary part: on one ray, of which its curvature is known, terms of other parameters may cancel."""

OFF = 8.0
"""Times both bars: an exact column that is off by more is not that of a straight line."""

RETREAT = 0.5
"""Of the step, to the other side, where f fails."""


@dataclass(frozen=True)
class WithStraight:
    """A strategy, and one difference along lines on which f is said to be linear."""

    strategy: Strategy
    straight: int  # how many lines these are: they come first

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """What the strategy learns; of the noise of f too, however few lines there are: a single difference does not show it."""
        problem = replace(problem, directions=max(problem.directions, PROBED_FROM))
        prepared = yield from self.strategy.prepare(problem, config)
        return replace(prepared, pushforward=partial(_either, prepared=prepared))

    def foreseen(self, problem: Problem, config: DifferentiationConfig, lines: Lines) -> Sequence[Sequence[Points]]:
        """As the strategy."""
        if not isinstance(self.strategy, Foresight) or self.straight >= lines.count:
            return [[]]
        return self.strategy.foreseen(problem, config, lines.take(range(self.straight, lines.count)))


def _either(lines: Lines, prepared: Prepared) -> Asking[Pushforward]:
    if lines.span is None:
        return (yield from prepared.pushforward(lines))
    straight = yield from differences(lines, lines.span, prepared)
    if prepared.method is not DifferentiationMethod.EXACT:
        return straight
    exact, xp = (yield from prepared.pushforward(lines)), lines.problem.xp
    off = xp.abs(exact.columns - straight.columns) > OFF * (exact.error + straight.error)
    (wrong,) = lines.problem.backend.counts(off)
    return straight if wrong else exact  # the check tells which columns are not straight


@dataclass(frozen=True)
class Straight(Columns):
    """Identity columns in which f is linear."""

    sizes: Array  # (n,) how far each parameter goes, up or down

    @property
    def span(self) -> Array:
        return self._of(self.sizes)

    def take(self, which: Sequence[int]) -> Straight:
        return replace(self, index=tuple(self.index[i] for i in which))

    def posed(self, problem: Problem) -> Straight:
        (sizes,) = self.problem.backend.to_host(self.sizes)
        return Straight(problem, self.index, sizes)


def sizes_of(problem: Problem, config: DifferentiationConfig) -> Array:
    """(n,) the user's steps, else powers of two up to the scale; less, and to the roomier side, where bounds are near."""
    xp = problem.xp
    size = problem.step
    if size is None:  # not past 0: where it is typical for a parameter to be positive it stays so
        size = clamped(xp, 2.0 ** xp.floor(xp.log2(problem.scale)), config)
    if problem.lower is not None and problem.upper is not None:
        up, down = problem.upper - problem.x, problem.x - problem.lower
        size = xp.minimum(size, xp.maximum(up, down))
        size = xp.where(up >= size, size, -size)
    return problem.at(problem.x + size) - problem.x  # the step that is taken


def differences(lines: Lines, span: Array, prepared: Prepared) -> Asking[Pushforward]:
    """J·V for one chunk; lines on which f fails take the other side."""
    backend, xp = lines.problem.backend, lines.problem.xp
    first = yield from _difference(lines, span, prepared)
    lost = xp.any((first.status != 0) & xp.isfinite(lines.at_x(prepared.value)), axis=0)
    codes = backend.read(xp.astype(lost, xp.int8))
    which = [k for k, code in enumerate(codes) if code]
    if not which:
        return first
    index, some = backend.indices(which), lines.take(which)
    back = -RETREAT * xp.take(span, index)
    if some.room is not None:
        up, down = some.room
        back = xp.minimum(xp.maximum(back, -down), up)
    second = yield from _difference(some, back, prepared)
    return spliced(backend, first, second, which)


def _difference(lines: Lines, span: Array, prepared: Prepared) -> Asking[Pushforward]:
    bar = prepared.bar
    made = yield from (_of_values(lines, span, prepared) if bar is None else _of_slopes(lines, span, bar))
    outputs = lines.slabs(int(prepared.value.shape[0]))
    columns, error, status = by_rows(lines.problem.backend, outputs, made)
    return Pushforward(columns, error, lines.taken(span[None, :])[0, :], status)


def _of_values(lines: Lines, span: Array, prepared: Prepared) -> Asking[Callable[[Rows], list[Array]]]:
    """What f gains over the whole step."""
    offsets = span[None, :]
    given = yield lines.points(offsets)
    step = lines.taken(offsets)[0, :]

    def made(rows: Rows) -> list[Array]:
        known = () if prepared.noise is None else ((1.0, prepared.noise),)
        seen = () if prepared.scatter is None else (prepared.scatter,)
        levels = [times * cut(level, rows) for times, level in (*known, *seen)]
        base = lines.at_x(prepared.value, rows)
        return _quotients(lines, lines.values(given, rows)[0, ...], base, step, levels)

    return made


def _of_slopes(
    lines: Lines, span: Array, bar: Callable[[Lines, Array, Rows], Array]
) -> Asking[Callable[[Rows], list[Array]]]:
    """The derivative at the end of the step: another than at x where f is not linear, as a difference would be."""
    xp, every = lines.problem.xp, range(lines.count)
    ahead = crossed(lines, every, every, span)
    given = yield ahead.points(xp.ones_like(span)[None, :], turn=1j)

    def made(rows: Rows) -> list[Array]:
        moved = lines.values(given, rows)[0, ...]
        slope = xp.imag(moved) / ahead.tiny
        slope = xp.where(xp.isfinite(moved), slope, xp.full_like(slope, float("nan")))
        return _or_lost(xp, slope, CANCELLED * bar(lines, slope, rows))

    return made


def _quotients(lines: Lines, values: Array, base: Array, step: Array, levels: Sequence[Array]) -> list[Array]:
    """Values, bars and flags of some outputs: what both points are rounded by, or their noise, over the step."""
    xp = lines.problem.xp
    eps = lines.problem.eps_of(values)
    quotient = (values - base) / step
    level = ROUNDING * eps * (xp.maximum(xp.abs(values), xp.abs(base)) + lines.reach * xp.abs(quotient))
    for known in levels:
        noise = WIDTH * lines.at_x(known)
        level = xp.maximum(level, xp.where(xp.isfinite(noise), noise, xp.zeros_like(noise)))
    return _or_lost(xp, quotient, sqrt(2.0) * level / xp.abs(step))


def _or_lost(xp: Namespace, columns: Array, error: Array) -> list[Array]:
    """Values, bars and flags; NaN where a value is not finite."""
    finite = xp.isfinite(columns)
    lost = xp.full_like(columns, float("nan")), xp.full_like(columns, float("inf"))
    status = xp.astype(~finite, xp.int16) * int(Status.FAILED)
    return [xp.where(finite, columns, lost[0]), xp.where(finite, error, lost[1]), status]
