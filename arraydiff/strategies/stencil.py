"""Finite differences with fixed nodes: forward, backward, central of order 2, 4, 6, 8.

Good for many parameters at known scales: `order` points a derivative, whatever f.  The family is data: a row of nodes, weights
and the factor of the leading error (Fornberg, Math. Comp. 51 (1988) 699).  Bars come from one ray shared by all parameters: five
points along (±h_1, ..., ±h_n) give the length over which f changes.  Right in order of magnitude; no 95 % is claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, ClassVar

from arraydiff._typing import Array, Namespace
from arraydiff.backends import Backend
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import AtX, Columns, Lines, Tangents
from arraydiff.noise import Noise, given, noise_at
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.rows import Rows, by_rows, cut, cut_or_none, folded, kept
from arraydiff.seam import Asking, Points, Prepared, Pushforward, Seen, Values
from arraydiff.strategies.placing import NOWHERE, placed, spliced
from arraydiff.strategies.stencil_ray import (
    HIGHEST,
    NOISE_FACTOR,
    ROUNDING,
    Across,
    Along,
    Change,
    counted,
)


@dataclass(frozen=True)
class Row:
    """f'(x) ~ sum of weights (f(x + node h) - f(x)) / h."""

    nodes: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def order(self) -> int:
        """Of accuracy: the error falls with h to this power."""
        return len(self.nodes)

    @property
    def reach(self) -> int:
        """The farthest node."""
        return max(self.nodes)

    @property
    def error_factor(self) -> float:
        """Error over h^order f^(order + 1) / (order + 1)!."""
        total = 1.0
        for node in self.nodes:
            total *= abs(node)
        return total


CENTRAL = {
    2: Row((1, -1), (1 / 2, -1 / 2)),
    4: Row((1, 2, -1, -2), (2 / 3, -1 / 12, -2 / 3, 1 / 12)),
    6: Row((1, 2, 3, -1, -2, -3), (3 / 4, -3 / 20, 1 / 60, -3 / 4, 3 / 20, -1 / 60)),
    8: Row((1, 2, 3, 4, -1, -2, -3, -4), (4 / 5, -1 / 5, 4 / 105, -1 / 280, -4 / 5, 1 / 5, -4 / 105, 1 / 280)),
}
SIDED = {
    1: Row((1,), (1.0,)),
    2: Row((1, 2), (2, -1 / 2)),
    4: Row((1, 2, 3, 4), (4, -3, 4 / 3, -1 / 4)),
    6: Row((1, 2, 3, 4, 5, 6), (6, -15 / 2, 20 / 3, -15 / 4, 6 / 5, -1 / 6)),
    8: Row((1, 2, 3, 4, 5, 6, 7, 8), (8, -14, 56 / 3, -35 / 2, 56 / 5, -14 / 3, 8 / 7, -1 / 8)),
}

BALANCED = 1e-3  # an exact 0 whose bar is more than this share of the one-sided difference is not resolved
OF_RESULT = (
    3  # arrays (m,) a direction of values, bars and flags, besides those at the nodes, twice while they are joined
)
OK, FAILED_UP, FAILED_DOWN = range(3)  # both: their sum

Side = int | Array
"""Of x, on which points lie: of all lines, or (k,) of each; 0 is both."""


@dataclass(frozen=True)
class Told:
    """What chunks know of f at x."""

    value: Array  # (m,)
    noise: Noise
    change: Change

    def cut(self, rows: Rows) -> Told:
        """Of some outputs."""
        if rows is None:
            return self
        noise = replace(self.noise, known=cut_or_none(self.noise.known, rows))
        return Told(cut(self.value, rows), noise, self.change.cut(rows))


@dataclass(frozen=True)
class Stencil:
    """The strategy; its three members differ in the side they start from."""

    method: ClassVar[DifferentiationMethod]
    side: ClassVar[int]
    default_order: ClassVar[int]
    check: Callable[[Problem], Tangents] | None = None  # a line whose derivative is wanted too, with room on both sides

    def watching(
        self, problem: Problem, config: DifferentiationConfig, line: Callable[[Problem], Tangents] | None
    ) -> Stencil:
        """Its ray along that line, where bars need no terms that are not along it."""
        low = (config.order or self.default_order) <= HIGHEST
        return replace(self, check=line if low and problem.step is None and problem.backend.host is None else None)

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """F(x) and the ray, in one round; in two where the noise of f is known, and with it better steps."""
        order = config.order or self.default_order
        level: Array | float = problem.eps
        known = problem.call.measured or given(config)
        if known:
            first = yield AtX(problem)
            level = _relative_noise(problem, noise_at(problem, config, first), first.at[:, 0])
        ray = self._ray(problem, config, order, level)
        values = yield ray.line.points(ray.offsets[:, None], starts_at_x=True)
        value = kept(problem.backend, values.at[:, 0])
        noise = noise_at(problem, config, values).lasting
        change = ray.change(values.at, order)
        along = Seen(ray.line.at[:, 0], ray.derivative(values.at, noise)) if isinstance(ray, Along) else None
        del values
        still, finite = counted(problem, change.slope, value)
        if still is None or still:
            far = yield ray.line.points(ray.far())
            change = replace(change, blind=(change.slope == 0) & (far.at[:, 0] != value))
        if not known:
            level = noise.eps
        told = Told(value, replace(noise, ceiling=None, floor=None), change)
        push = partial(columns, config=config, order=order, start=self.side, level=level, told=told)
        prepared = Prepared(self.method, value, push, "", noise.known, finite=finite, arrays=arrays_of(order))
        scatter = None if change.noise is None else (1.0, change.noise)
        return replace(prepared, scatter=scatter, along=along)

    def _ray(self, problem: Problem, config: DifferentiationConfig, order: int, level: Array | float) -> Across | Along:
        if self.check is None:
            every = Columns(problem, range(problem.n))
            return Across.of(problem, chosen_steps(problem, every, config, order, level))
        line = self.check(problem)
        return Along(problem, chosen_steps(problem, line, config, order, level), line)

    def foreseen(self, problem: Problem, config: DifferentiationConfig, lines: Lines) -> Sequence[Sequence[Points]]:
        """All points of the columns, where steps do not follow the noise of f."""
        if given(config):
            return [[]]
        order, value = config.order or self.default_order, problem.xp.zeros_like(problem.x[:1])
        noise = noise_at(problem, config, Values(value[:, None]))
        return [
            [next(columns(lines, config, order, self.side, noise.eps, Told(value, noise, Change(value, value, None))))]
        ]


class Central(Stencil):
    """Points on both sides."""

    method, side, default_order = DifferentiationMethod.CENTRAL, 0, 2


class Forward(Stencil):
    """Points above x; below it at an upper bound."""

    method, side, default_order = DifferentiationMethod.FORWARD, 1, 1


class Backward(Stencil):
    """Points below x; above it at a lower bound."""

    method, side, default_order = DifferentiationMethod.BACKWARD, -1, 1


def arrays_of(order: int) -> int:
    """Arrays (m,) that one more direction holds."""
    return OF_RESULT + 2 * order


def _relative_noise(problem: Problem, noise: Noise, value: Array) -> Array:
    """Of all outputs together, between eps and 1 percent."""
    xp = problem.xp
    known = xp.where(xp.isfinite(value), noise.known, xp.zeros_like(value))
    size = xp.sqrt(xp.sum(xp.where(xp.isfinite(value), value * value, xp.zeros_like(value))))
    share = xp.sqrt(xp.sum(known * known)) / xp.where(size > 0, size, xp.ones_like(size))
    share = xp.where(xp.isfinite(share), share, xp.ones_like(share))
    return xp.minimum(xp.maximum(share, xp.full_like(share, noise.eps)), xp.full_like(share, 0.01))


def chosen_steps(
    problem: Problem, lines: Lines, config: DifferentiationConfig, order: int, level: Array | float
) -> Array:
    """(k,) the user's steps to the letter, else powers of two next to level^(1/(order + 1)) scale, inside limits and bounds.

    `level` is the relative noise of f, at least its eps.
    """
    xp = problem.xp
    if lines.step is not None:
        return lines.step
    wanted = lines.scale * level ** (1 / (order + 1))
    steps = clamped(xp, 2.0 ** xp.round(xp.log2(wanted)), config)
    if lines.room is None:
        return steps
    up, down = lines.room
    most = xp.maximum(xp.minimum(up, down) / max(order // 2, 1), xp.maximum(up, down) / order)
    fits = most >= steps
    least = xp.where(most > 0, most, xp.ones_like(most))
    return xp.where(fits, steps, xp.where(most > 0, 2.0 ** xp.floor(xp.log2(least)), steps))


def clamped(xp: Namespace, steps: Array, config: DifferentiationConfig) -> Array:
    low, high = config.min_step, config.max_step
    if low is not None:
        steps = xp.maximum(steps, xp.full_like(steps, low))
    if high is not None:
        steps = xp.minimum(steps, xp.full_like(steps, high))
    return steps


def columns(
    lines: Lines, config: DifferentiationConfig, order: int, start: int, level: Array | float, told: Told
) -> Asking[Pushforward]:
    """J·V for one chunk; lines whose points fail on one side take the other, unless that side was asked for."""
    backend, xp = lines.problem.backend, lines.problem.xp
    steps = chosen_steps(lines.problem, lines, config, order, level)
    side = _joined(lines, placed(lines, max(order // 2, 1) * steps, order * steps, start))
    first, codes = yield from _differences(lines, steps, side, order, start, told)
    if start != 0 or codes is None:
        return first
    again = {i: -1 if code == FAILED_UP else 1 for i, code in enumerate(codes) if code in (FAILED_UP, FAILED_DOWN)}
    if not again or (lines.step is not None and lines.room is not None):
        return first  # a step given to the letter need not fit inside the bounds on one side alone
    which = list(again)
    index, sides = backend.indices(which), _joined(lines, list(again.values()))
    second, _ = yield from _differences(lines.take(which), xp.take(steps, index), sides, order, start, told)
    return spliced(backend, first, second, which)


def _differences(
    lines: Lines, steps: Array, side: Side, order: int, start: int, told: Told
) -> Asking[tuple[Pushforward, list[int] | None]]:
    """One round: differences with their bars, and on which side f failed."""
    backend, xp = lines.problem.backend, lines.problem.xp
    nodes, weights = _table(lines, side, order, steps.dtype)
    offsets = nodes * steps[None, :]
    given = yield lines.points(offsets)
    step = _step_taken(lines, lines.taken(offsets), nodes, side)
    outputs = lines.slabs(int(told.value.shape[0]))
    second_try = start == 0 and not backend.deferred

    def made(rows: Rows) -> list[Array]:
        parts = _made(lines, lines.values(given, rows), told.cut(rows), step, weights, side, order, start)
        return parts if second_try else _marked(xp, parts)

    quotient, error, status, *marks = by_rows(backend, outputs, made)
    if not marks:
        return Pushforward(quotient, error, step, status), None
    if not backend.counts(~marks[0])[0]:
        return Pushforward(quotient, error, step, status), None
    parts = (quotient, error, status, *marks)
    quotient, error, status = by_rows(backend, outputs, lambda rows: _marked(xp, [cut(part, rows) for part in parts]))
    return Pushforward(quotient, error, step, status), _failed_sides(lines, given, told, side, outputs)


def _marked(xp: Namespace, parts: Sequence[Array]) -> list[Array]:
    """Quotients, bars and flags, NaN, infinite and FAILED where they are not finite."""
    *results, finite = parts
    lost = (float("nan"), float("inf"), int(Status.FAILED))
    return [xp.where(finite, part, xp.full_like(part, mark)) for part, mark in zip(results, lost, strict=True)]


def _made(
    lines: Lines,
    values: Array,
    told: Told,
    step: Array,
    weights: Array,
    side: Side,
    order: int,
    start: int,
) -> list[Array]:
    """Quotients, bars, flags, and where they are finite, of some outputs."""
    xp, base = lines.problem.xp, lines.at_x(told.value)
    quotient = weights[0, :] * (values[0, ...] - base)
    for i in range(1, order):  # in this order whatever the shape of the chunk: the same bits
        quotient = quotient + weights[i, :] * (values[i, ...] - base)
    width = (
        step if lines.room is None else xp.where(step == 0, xp.full_like(step, float("nan")), step)
    )  # pinned: no 0 / 0
    quotient = quotient / width
    error = _bar(lines, quotient, xp.abs(width), weights, values, told, _factor(lines, side, order))
    error = xp.where(xp.isfinite(error), error, xp.full_like(error, float("inf")))
    swing = xp.abs((values[0, ...] - base) / width)  # a 0 by symmetry, as of abs at 0, is no derivative
    balanced = (quotient == 0) & (swing > error) & (error > BALANCED * swing)
    if told.change.blind is not None:
        balanced = balanced | ((quotient == 0) & lines.at_x(told.change.blind))
    status = xp.astype(balanced, xp.int16) * int(Status.UNRESOLVED)
    one_sided = xp.full_like(status, int(Status.ONE_SIDED))
    if not isinstance(side, int):
        status = status + xp.where(side[None, :] == start, xp.zeros_like(status), one_sided)
    elif side != start:
        status = status + one_sided
    finite = xp.isfinite(quotient) if isinstance(side, int) else xp.isfinite(quotient) & (side != NOWHERE)[None, :]
    return [quotient, error, status, finite]


def _failed_sides(lines: Lines, given: Values, told: Told, side: Side, outputs: Sequence[Rows]) -> list[int]:
    """On which side of each line f failed, where its points lie on two."""
    xp, parts = lines.problem.xp, []
    for rows in outputs:
        base, values = lines.at_x(told.value, rows), lines.values(given, rows)
        parts.append(xp.any(xp.isfinite(base)[None, ...] & ~xp.isfinite(values), axis=1))
    lost = folded(xp.logical_or, parts)  # (p, k)
    half = int(lost.shape[0]) // 2
    up, down = xp.any(lost[: max(half, 1), :], axis=0), xp.any(lost[half:, :], axis=0)
    codes = xp.astype(up, xp.int8) * FAILED_UP + xp.astype(down, xp.int8) * FAILED_DOWN
    if not isinstance(side, int):
        codes = xp.where(side == 0, codes, xp.full_like(codes, OK))
    return [OK] * lines.count if isinstance(side, int) and side != 0 else lines.problem.backend.read(codes)


def _joined(lines: Lines, sides: list[int] | Array) -> Side:
    """The sides of all lines: one number where they are the same."""
    if not isinstance(sides, list):
        return sides
    return sides[0] if sides.count(sides[0]) == len(sides) else lines.problem.backend.asarray(sides, lines.scale.dtype)


def _step_taken(lines: Lines, taken: Array, nodes: Array, side: Side) -> Array:
    """(k,) (x + h) - x, or half of (x + h) - (x - h)."""
    one_way = taken[0, :] / nodes[0, :]
    if isinstance(side, int) and side != 0:
        return one_way
    both_ways = (taken[0, :] - taken[int(taken.shape[0]) // 2, :]) / 2
    return both_ways if isinstance(side, int) else lines.problem.xp.where(side == 0, both_ways, one_way)


def _factor(lines: Lines, side: Side, order: int) -> Array | float:
    """Of the leading error term of each line's row."""
    xp, central, sided = lines.problem.xp, CENTRAL[max(order, 2)].error_factor, SIDED[order].error_factor
    if isinstance(side, int):
        return central if side == 0 else sided
    return xp.where(side == 0, xp.full_like(side, central), xp.full_like(side, sided))


def _table(lines: Lines, side: Side, order: int, dtype: Any) -> tuple[Array, Array]:
    """(order, k) nodes and weights of every line; (order, 1) where all lines share them."""
    backend, xp = lines.problem.backend, lines.problem.xp
    table = _fresh_table if backend.traced else _kept_table  # what is made while traced must not be kept
    if isinstance(side, int):
        return table(backend, side, order, dtype)
    sided = table(backend, 1, order, dtype)
    central = table(backend, 0, order, dtype) if order > 1 else sided  # with order 1 no line is on both sides
    nodes, weights = (
        xp.where(side[None, :] == 0, one, side[None, :] * other) for one, other in zip(central, sided, strict=True)
    )
    return nodes, weights


def _fresh_table(backend: Backend, side: int, order: int, dtype: Any) -> tuple[Array, Array]:
    row = CENTRAL[order] if side == 0 else SIDED[order]
    nodes, weights = ([[number * (side or 1)] for number in numbers] for numbers in (row.nodes, row.weights))
    return backend.asarray(nodes, dtype), backend.ratios(weights, dtype)


_kept_table = lru_cache(maxsize=64)(_fresh_table)


def _bar(
    lines: Lines, quotient: Array, width: Array, weights: Array, values: Array, told: Told, factor: Array | float
) -> Array:
    """Truncation and noise, as the ray showed them, and rounding; a column's share of them is its share of the slope."""
    xp, noise, change = lines.problem.xp, told.noise, told.change
    slope = lines.at_x(change.slope)
    share = xp.abs(quotient) * width / xp.where(slope > 0, slope, xp.ones_like(slope))
    share = xp.minimum(xp.maximum(share, xp.full_like(share, 1 / lines.problem.n)), xp.ones_like(share))
    truncation = lines.at_x(change.truncation) * share * factor
    level = ROUNDING * noise.eps * (xp.max(xp.abs(values), axis=0) + lines.reach * xp.abs(quotient))
    seen = change.noise if noise.known is None else noise.known
    if seen is not None:
        level = xp.maximum(level, NOISE_FACTOR * lines.at_x(seen))
    gain = xp.sqrt(xp.sum(weights * weights, axis=0))
    return (truncation + level * gain) / width
