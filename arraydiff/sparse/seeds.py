"""Columns that move together: every column by a step of its own, up or down as its bounds allow, on a line that many share.

Row i sees one column j of a line, so its quotient over t is J_ij times the size of j.  Sizes are powers of two near the scale of
the parameter: t = 1 moves each of them by about all of itself, and x + t size is rounded as little as x is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from arraydiff._typing import Array
from arraydiff.config import ORDERS, DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Lines, Tangents
from arraydiff.problem import Problem
from arraydiff.sparse.clashes import count_of
from arraydiff.sparse.order import NO_LINE, Order
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.strategies.richardson import SIDED_BELOW
from arraydiff.strategies.straight import sizes_of as straight_sizes

WITHIN = 1.0
"""The t up to which a ladder may go on all lines: its scouts need a quarter of it at most."""

ROUNDED = 2.0
"""Wanted steps are within this factor: they are powers of two, and so are sizes."""

NEXT = 0.5**0.5
"""Of the size of a parameter: the power of two next to its scale is larger than that by no more."""

RAY_REACH = 4.0
"""Room that a ray of a stencil needs on both sides, in steps: it goes two of them, of one and a half of a column's size."""

SHRUNK = 4
"""Less than its scale by this, a column's steps round its points more than those of the others."""

RANDOM_SEED = 20270117
"""Directions of the check are the same in every process, and none that a strategy goes along."""


@dataclass(frozen=True)
class Reach:
    """How far the points of a method go, in units of a column's size."""

    start: int  # the side of x on which it looks: 1, -1; 0: both
    both: float  # on two sides
    one: float  # on one side alone
    room: float  # what a size is shrunk to have, at least


def reach_of(problem: Problem, config: DifferentiationConfig) -> Reach:
    """As the strategies place their points."""
    method, given = config.method, problem.step is not None
    if method in ORDERS:
        order = config.order or ORDERS[method][0]
        start = {DifferentiationMethod.FORWARD: 1, DifferentiationMethod.BACKWARD: -1}.get(method, 0)
        step = 1.0 if given else ROUNDED * problem.eps ** (1 / (order + 1))
        both = max(order // 2, 1) * step
        return Reach(start, both, order * step, order * step if start else both)
    if given:
        terms = config.richardson_terms
        return Reach(0, float(2 ** (terms - 1)), float(terms), 0.0)
    return Reach(0, SIDED_BELOW, SIDED_BELOW, WITHIN)


@dataclass(frozen=True, eq=False)
class Sizes:
    """How each column moves at t = 1."""

    signed: Array  # (n,)
    tight: np.ndarray | None  # (n,) bool: there is room on one side alone; None: nowhere so
    turned: Array | None  # (n,) bool: it moves to the other side than was asked for; None: none does
    shrunk: bool = False  # whether a bound has left any of them little of its size
    ample: bool = True  # whether all have room for a ray through both sides

    @property
    def limited(self) -> bool:
        """Whether bounds have made them what they are."""
        return self.tight is not None or self.turned is not None or self.shrunk


def sizes_of(problem: Problem, config: DifferentiationConfig, real: bool = True) -> Sizes:
    """The user's steps to the letter, else powers of two next to the scale, less where bounds are near; one read with bounds."""
    xp, backend = problem.xp, problem.backend
    size = problem.step if problem.step is not None else 2.0 ** xp.round(xp.log2(problem.scale))
    if problem.lower is None or problem.upper is None or not real:
        return Sizes(size, None, None)
    reach = reach_of(problem, config)
    slack = 1 + 4 * problem.eps
    up, down = (problem.upper - problem.x) * slack, (problem.x - problem.lower) * slack
    least, most = xp.minimum(up, down), xp.maximum(up, down)
    if reach.start:
        ahead, behind = (up, down) if reach.start > 0 else (down, up)
        tight = turned = (ahead < reach.one * size) & (behind > ahead)
        fits = xp.where(turned, behind, ahead)
    else:
        tight = (least < reach.both * size) & (most > least)
        turned = tight & (down > up)
        fits = xp.where(tight, most, least)
    if problem.step is None:
        room = xp.where(tight, xp.full_like(fits, max(reach.one, reach.room)), xp.full_like(fits, reach.room))
        fits = xp.where(fits > 0, fits / room, size)
        size = xp.minimum(size, 2.0 ** xp.floor(xp.log2(xp.minimum(fits, size))))
    signed = xp.where(turned, -size, size)
    narrow = (least < RAY_REACH * reach.both * size) & (most > 0)
    marks = (tight, size < problem.scale / SHRUNK, narrow)
    sided, shrunk, near = (backend.as_numpy(mark).astype(np.bool_) for mark in _seen(problem, marks))
    some = Sizes(signed, None, None, bool(shrunk.any()), not near.any())
    if not sided.any():
        return some
    return replace(some, turned=turned) if reach.start else replace(some, tight=sided)


def _seen(problem: Problem, marks: Sequence[Array]) -> Sequence[Array]:
    """Marks (n,) to be brought to the host: none of them where one look shows that there are none."""
    xp = problem.xp
    counts = xp.stack([xp.sum(xp.astype(mark, xp.int32)) for mark in marks])
    none = xp.zeros_like(marks[0][:0])
    return [mark if count else none for mark, count in zip(marks, problem.backend.read(counts), strict=True)]


def straightened(problem: Problem, config: DifferentiationConfig, sizes: Sizes, straight: np.ndarray) -> Sizes:
    """The same, but for columns in which f is linear: these go all of their way to one side."""
    xp, mine = problem.xp, problem.backend.asarray(straight, problem.xp.bool)
    signed = xp.where(mine, straight_sizes(problem, config), sizes.signed)
    tight = None if sizes.tight is None else sizes.tight & ~straight
    turned = None if sizes.turned is None else sizes.turned & ~mine
    return replace(sizes, signed=signed, tight=tight, turned=turned)


@dataclass(frozen=True)
class Shifted(Tangents):
    """Tangents of which each moves many parameters, on which a step of the user's is t = 1: all points are x + k h."""

    @property
    def step(self) -> Array | None:
        return None if self.problem.step is None else self.problem.xp.ones_like(self.scale)

    @cached_property
    def scale(self) -> Array:
        """Sizes are those next to the scales, unless the user gave steps: the fastest has moved by all of its scale there."""
        if self.problem.step is not None or not self.problem.n:
            return self.unit(self.problem.scale)
        return self.problem.xp.full_like(self.at[0, :], NEXT)

    def unit(self, sizes: Array) -> Array:
        xp = self.problem.xp
        fastest = xp.max(xp.abs(self.at * (1 / sizes)[:, None]), axis=0)
        return 1 / xp.where(fastest > 0, fastest, xp.ones_like(fastest))

    @cached_property
    def room(self) -> tuple[Array, Array] | None:
        problem, xp = self.problem, self.problem.xp
        if problem.lower is None or problem.upper is None:
            return None
        ahead, behind = (self._crossing(room) for room in (problem.upper - problem.x, problem.x - problem.lower))
        up = xp.maximum(xp.max(ahead, axis=0), -xp.min(behind, axis=0))
        down = xp.maximum(xp.max(behind, axis=0), -xp.min(ahead, axis=0))
        return 1 / xp.abs(up), 1 / xp.abs(down)  # not 1 / -0

    def _crossing(self, room: Array) -> Array:
        """(n, k) what part of this room a parameter takes at t = 1."""
        least = float(self.problem.xp.finfo(room.dtype).smallest_normal)
        return self.at * (1 / self.problem.xp.where(room > 0, room, self.problem.xp.full_like(room, least)))[:, None]


@dataclass(frozen=True)
class StraightLines(Shifted):
    """Lines that move columns in which f is linear, each by its size."""

    @property
    def span(self) -> Array:
        return self.problem.xp.ones_like(self.scale)


@dataclass(frozen=True, eq=False)
class Seeds:
    """Which line moves each column, and where the entries that a line gives stand."""

    order: Order
    sizes: Sizes
    checks: tuple[Array, ...] = ()  # (n,) directions beside the lines, in which all columns move
    straight: np.ndarray | None = (
        None  # (n,) bool: columns in which f is linear, on the first lines; None: there are none
    )

    @property
    def pattern(self) -> Pattern:
        """Of the entries."""
        return self.order.pattern

    @property
    def lines(self) -> Ints:
        """(n,)."""
        return self.order.lines

    @property
    def count(self) -> int:
        """How many lines there are, without the checks."""
        return self.order.count

    def on(self, lines: Ints) -> Seeds:
        """The same columns on other lines, without the checks."""
        return replace(self, order=Order(self.pattern, lines), checks=())

    @cached_property
    def straight_count(self) -> int:
        """How many of the lines have straight columns: they come first."""
        return 0 if self.straight is None else count_of(self.lines[self.straight])

    @property
    def runs(self) -> list[range]:
        """Lines that may go together, and the checks."""
        borders = (0, self.straight_count, self.count + len(self.checks))
        return [range(first, last) for first, last in pairwise(borders) if first < last]

    def check(self, problem: Problem) -> Shifted:
        """The direction of the check, where there is one."""
        return Shifted(problem, self.checks[0][:, None])

    def make(self, problem: Problem, index: Sequence[int]) -> Lines:
        """These lines, (n, k); no more of them are ever made than are evaluated together."""
        xp, backend = problem.xp, problem.backend
        chosen = [line for line in index if line < self.count]
        parts = []
        if chosen:
            mine = backend.asarray(self.lines, backend.index_dtype)[None, :]
            hit = mine == backend.asarray(chosen, backend.index_dtype)[:, None]
            size = self.sizes.signed[None, :]
            parts.append(xp.where(hit, size, xp.zeros_like(size)))
        parts += [self.checks[line - self.count][None, :] for line in index if line >= self.count]
        each = parts[0] if len(parts) == 1 else xp.concat(parts)  # a line is one stretch of memory
        kind = StraightLines if index[-1] < self.straight_count else Shifted
        return kind(problem, xp.matrix_transpose(each))


def seeds_of(
    colours: Order,
    free: np.ndarray,
    sizes: Sizes,
    checks: tuple[Array, ...] = (),
    straight: np.ndarray | None = None,
) -> Seeds:
    """A line for each colour; two where some of its columns have room on one side alone, and one more for straight ones."""
    lines = np.where(free, colours.lines, NO_LINE)
    if sizes.tight is not None:
        split = sizes.tight & (lines != NO_LINE)
        lines = np.where(split, lines + count_of(lines), lines)
    if straight is not None:
        lines = np.where(straight | (lines == NO_LINE), lines, lines + count_of(lines))
    lines = numbered(lines)
    order = colours if np.array_equal(colours.lines, lines) else Order(colours.pattern, lines)
    return Seeds(order, sizes, checks, straight)


def numbered(lines: Ints) -> Ints:
    """The same lines, numbered without gaps."""
    used = np.bincount(lines + 1, minlength=1)[1:] > 0
    return np.concatenate([[NO_LINE], np.cumsum(used) - 1])[lines + 1]


def checks_of(problem: Problem, config: DifferentiationConfig, sizes: Sizes, free: np.ndarray, another: bool) -> Any:
    """Random directions in which every free column moves, by half to one and a half of its size; those tight on their own."""
    xp, backend = problem.xp, problem.backend
    whole = problem.step is not None  # points are x + k h
    random = backend.asarray(random_of(problem.n, another, whole), problem.x.dtype)
    if whole and problem.lower is not None and problem.upper is not None:
        reach = reach_of(problem, config)
        far = max(reach.both, reach.one) * xp.abs(sizes.signed * random)
        fits = xp.minimum(problem.upper - problem.x, problem.x - problem.lower) >= far
        random = xp.where(fits, random, xp.ones_like(random))
    if sizes.turned is not None:  # all move the way that was asked for
        random = xp.abs(random)
    directions = []
    tight = np.zeros_like(free) if sizes.tight is None else sizes.tight
    for group in (free & ~tight, free & tight):
        if group.any():
            mine = backend.asarray(group, xp.bool)
            signed = sizes.signed * (xp.abs(random) if (group & tight).any() else random)
            directions.append(xp.where(mine, signed, xp.zeros_like(signed)))
    return tuple(directions)


@cache
def random_of(n: int, another: bool, whole: bool) -> np.ndarray:
    """n numbers in ±[1/2, 3/2], or of ±1 and ±2; always the same ones."""
    random = np.random.Generator(np.random.PCG64(RANDOM_SEED + another))
    size = random.integers(1, 3, n).astype(np.float64) if whole else random.uniform(0.5, 1.5, n)
    numbers: np.ndarray = size * random.choice(np.array([-1.0, 1.0]), n)
    numbers.flags.writeable = False
    return numbers
