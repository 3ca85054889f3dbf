"""Columns in which f is linear: one difference each, and a look at whether it is.

f has to be linear in each of these parameters while all others stand still; a product of two of them is.  So the columns are
derivatives of f, and their sum along one random direction v, in which all of them move, is that of f along v, made as all other
derivatives are: one direction more in every call.  Where the two differ by more than their bars explain, ladders tell which
columns are to blame.  What the look cannot see does less along v than these bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar

from arraydiff._typing import Array
from arraydiff.agreement import TIMES_THE_BARS, compared
from arraydiff.arguments import Argnums
from arraydiff.binding import Bound
from arraydiff.collectors import Collector
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Lines, Tangents, ray
from arraydiff.engine import Wanted, columns_of, opened, pushed_on
from arraydiff.evaluator import Evaluator
from arraydiff.paths import entries_of
from arraydiff.problem import Problem
from arraydiff.seam import Prepared, Pushforward, Rounds
from arraydiff.strategies import strategy_of
from arraydiff.strategies.richardson import Richardson
from arraydiff.strategies.straight import Straight, WithStraight, sizes_of

ROWS = 2**6
"""That disagree, by which columns are told to blame: one column spoils many rows as a rule."""

NAMED = 8
"""Columns that an error names."""

UNCHECKED = (
    "whether f is linear in the columns that linear= names could not be seen everywhere, since f was not finite along the "
    "direction of the check: set bounds, or scale"
)
UNEXPLAINED = (
    "the columns that linear= names disagree with f along a random direction, though each of them is right within its bar: f may "
    "jump or be noisy there; give noise=, or leave linear= out"
)

T = TypeVar("T")


def linear_of(bound: Bound, argnums: Argnums, paths: Any) -> tuple[int, ...]:
    """The parameters that these paths name.

    Raises
    ------
    ValueError
        x has none of that name, is complex, or has no values yet.
    """
    if paths is None:
        return ()
    if bound.layout.has_complex:
        raise ValueError("linear takes real parameters, but x is complex: leave it out")
    if bound.problem.backend.deferred:
        raise ValueError(
            "linear is checked by values, which are not there inside jax.jit or on lazy arrays: leave it out there"
        )
    return entries_of(bound.layout, argnums, paths, "linear")


def with_linear(wanted: Wanted, linear: Sequence[int], config: DifferentiationConfig) -> Wanted:
    """The same derivative, some of its columns by one difference each."""
    if not linear:
        return wanted
    some = set(linear)
    straight, curved = (tuple(i for i in wanted.index if (i in some) is one) for one in (True, False))
    if not straight:
        return wanted
    strategy = WithStraight(wanted.strategy or strategy_of(config), len(straight))
    return replace(wanted, index=(*straight, *curved), strategy=strategy, push=partial(pushed, straight=straight))


def pushed(
    problem: Problem,
    config: DifferentiationConfig,
    prepared: Prepared,
    wanted: Wanted,
    evaluator: Evaluator,
    collector: Collector[T],
    straight: Sequence[int],
) -> Rounds[Sequence[str]]:
    """All chunks handed on, and the direction of the check; what is to be said of it.

    Raises
    ------
    ValueError
        f is not linear in some of these columns.
    """
    curved = wanted.index[len(straight) :]
    direction, sizes = _direction(problem, straight), sizes_of(problem, config)
    seen = Summed(problem, prepared.value, collector, len(wanted.index), straight, direction)
    runs = [run for run in (tuple(straight), curved, (problem.n,)) if run]
    make = partial(_lines, sizes=sizes, straight=frozenset(straight), direction=direction)
    everything = replace(wanted, index=(*wanted.index, problem.n), runs=runs, make=make)
    yield from pushed_on(problem, config, prepared, everything, evaluator, seen)
    if evaluator.exhausted:
        return ()
    failing, unchecked = seen.verdict()
    if failing != []:
        careful = replace(problem, step=None), replace(config, method=DifferentiationMethod.RICHARDSON, order=None)
        yield from _blame(*careful, evaluator, straight, failing, sizes)
    return [UNEXPLAINED] * (failing != []) + [UNCHECKED] * unchecked


def _lines(problem: Problem, index: Sequence[int], sizes: Array, straight: frozenset[int], direction: Array) -> Lines:
    if index[0] == problem.n:
        return Tangents(problem, direction[:, None])
    return _straight(problem, index, sizes) if index[0] in straight else columns_of(problem, index)


def _direction(problem: Problem, straight: Sequence[int]) -> Array:
    """(n,) random, in these parameters alone; by their steps where the user gave them: points are x + k h."""
    xp, some = problem.xp, set(straight)
    mine = problem.backend.asarray([i in some for i in range(problem.n)], xp.bool)
    along = ray(problem, another=True).at[:, 0]
    if problem.step is not None:
        along = xp.where(along < 0, -problem.step, problem.step)
        if problem.lower is not None and problem.upper is not None:
            up, down = problem.upper - problem.x, problem.x - problem.lower
            inwards = xp.where(up >= down, problem.step, -problem.step)
            along = xp.where(xp.minimum(up, down) < problem.step, inwards, along)
    return xp.where(mine, along, xp.zeros_like(along))


class Summed(Generic[T]):
    """Hands chunks on; sums what straight columns do along v, and keeps what f does."""

    def __init__(
        self, problem: Problem, value: Array, collector: Collector[T], count: int, straight: Sequence[int], v: Array
    ) -> None:
        self.outer, self.here, self.eps = problem.backend, problem.backend.host or problem.backend, problem.eps
        self.collector, self.held, self.done = collector, collector.held, 0
        self.count, self.straight = count, straight
        self.v, self.value = self._brought(v, value)
        none = self.here.xp.zeros_like(self.value)
        self.sums, self.along = (none, none, none), (none, none)

    def _brought(self, *arrays: Array) -> tuple[Array, ...]:
        return arrays if self.outer.host is None else self.outer.to_host(*arrays)

    def consume(self, chunk: Pushforward) -> None:
        """Of lines of one kind: the straight ones, the others, the check."""
        first, self.done = self.done, self.done + int(chunk.columns.shape[1])
        if first == self.count:
            columns, error = self._brought(chunk.columns, chunk.error)
            self.along = columns[:, 0], error[:, 0]
            return
        if first < len(self.straight):
            self._sum(self.straight[first : self.done], *self._brought(chunk.columns, chunk.error))
        self.collector.consume(chunk)

    def _sum(self, which: Sequence[int], columns: Array, error: Array) -> None:
        xp = self.here.xp
        times = xp.take(self.v, self.here.indices(which))[None, :]
        parts = columns * times, xp.abs(columns * times), error * xp.abs(times)
        made, size, bars = (total + xp.sum(part, axis=1) for total, part in zip(self.sums, parts, strict=True))
        self.sums = made, size, bars

    def verdict(self) -> tuple[list[int], bool]:
        """Rows in which the two differ, and whether any could not be compared; one read where none does."""
        xp, here = self.here.xp, self.here
        off, may = compared(here, self.eps, self.sums, *self.along)
        finite = xp.isfinite(self.value)
        failing = finite & (off > may)
        unchecked = finite & ~(xp.isfinite(off) & xp.isfinite(may))
        counts = here.counts(failing, unchecked)
        rows = [row for row, code in enumerate(here.read(xp.astype(failing, xp.int8))) if code] if counts[0] else []
        return rows, counts[1] > 0

    def finish(self) -> T:
        """What the collector made."""
        return self.collector.finish()


class SomeRows:
    """Keeps a few rows of all columns."""

    def __init__(self, problem: Problem, rows: Sequence[int]) -> None:
        self.problem, self.held, self.rows = problem, 0, problem.backend.indices(rows)
        self.parts: list[tuple[Array, Array]] = []

    def consume(self, chunk: Pushforward) -> None:
        """Some rows of a chunk."""
        xp = self.problem.xp
        self.parts.append((xp.take(chunk.columns, self.rows, axis=0), xp.take(chunk.error, self.rows, axis=0)))

    def finish(self) -> tuple[Array, Array]:
        """Columns and bars (rows, k)."""
        columns, error = (self.problem.xp.concat(list(parts), axis=1) for parts in zip(*self.parts, strict=True))
        return columns, error


def _blame(
    problem: Problem,
    config: DifferentiationConfig,
    evaluator: Evaluator,
    straight: Sequence[int],
    rows: Sequence[int],
    sizes: Array,
) -> Rounds[None]:
    """Each column by both ways, in rows that disagree.

    Raises
    ------
    ValueError
        Some of them differ by more than their bars.
    """
    xp, backend = problem.xp, problem.backend
    few = rows[:: len(rows) // ROWS + 1]
    strategy = WithStraight(Richardson(), len(straight))
    wanted = Wanted(tuple(straight), strategy=strategy)
    prepared = yield from opened(problem, config, wanted, evaluator)
    both = []
    for make in (columns_of, partial(_straight, sizes=sizes)):
        collector = SomeRows(problem, few)
        yield from pushed_on(problem, config, prepared, replace(wanted, make=make), evaluator, collector)
        both.append(collector.finish())
    (ladder, wide), (columns, error) = both
    off = xp.any(xp.abs(ladder - columns) > TIMES_THE_BARS * (wide + error), axis=0)
    guilty = [straight[k] for k, code in enumerate(backend.read(xp.astype(off, xp.int8))) if code]
    if guilty:
        raise ValueError(not_linear(problem, guilty))


def not_linear(problem: Problem, guilty: Sequence[int]) -> str:
    """What is said of columns that are not what linear= says."""
    path, more = problem.call.layout.path, len(guilty) - NAMED
    named = ", ".join(f"x{path(i)}" for i in guilty[:NAMED]) + f" and {more} more" * (more > 0)
    return (
        f"linear names columns in which f is not linear: {named}; there a difference over the size of the parameter is not the "
        "derivative, by more than error bars explain: leave them out of linear=, or give noise= where f is noisy"
    )


def _straight(problem: Problem, index: Sequence[int], sizes: Array) -> Lines:
    return Straight(problem, tuple(index), sizes)
