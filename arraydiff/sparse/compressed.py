"""Recovery: every finished column is scattered into the entries of its line, bars and flags alike, and dropped.

The compressed matrix J·V is never held.  Columns of a line in which f failed are moved again in smaller company, until only those
that are to blame are lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.engine import Wanted, pushed_on
from arraydiff.evaluator import Evaluator
from arraydiff.problem import Problem
from arraydiff.result import SMALL_SHARE, Status
from arraydiff.seam import Prepared, Pushforward, Rounds, Seen
from arraydiff.sparse.order import NO_LINE, Order
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.seeds import Seeds, numbered
from arraydiff.sparse.sums import Stretches

ENTRY = 42
"""Bytes of an entry: value, bar and flag, twice while they are sorted, and its place."""

MANY_LINES = 64
"""More of them are not summed one by one."""

ROUNDING = 2.0
"""eps |x| that a point is rounded by, seen from both sides."""


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of a pattern, in its order, on the library that computes."""

    values: Array  # (nnz,)
    error: Array
    status: Array  # int16
    floor: Array  # what an entry must be to count beside the others of its row

    def taken(self, backend: Backend, places: Ints) -> Entries:
        """Those at `places`; where that is -1 there is none: 0, and FIXED."""
        xp, count = backend.xp, int(self.values.shape[0])
        index = backend.indices(np.where(places < 0, count, places))
        none = {"values": 0, "error": 0, "status": int(Status.FIXED), "floor": 1}

        def part_of(name: str, fill: int) -> Array:
            part = getattr(self, name)
            last = xp.full((1,), fill, dtype=part.dtype, device=backend.device)
            return xp.take(xp.concat([part, last]), index)

        return Entries(**{name: part_of(name, fill) for name, fill in none.items()})

    def merged(self, backend: Backend, places: Ints, new: Entries) -> Entries:
        """With those at `places` replaced."""
        source = np.arange(self.values.shape[0], dtype=np.int64)
        source[places] = source.size + np.arange(places.size)
        index, xp = backend.indices(source), backend.xp
        both = {item.name: (getattr(self, item.name), getattr(new, item.name)) for item in fields(Entries)}
        return Entries(**{name: xp.take(xp.concat(list(pair)), index) for name, pair in both.items()})


@dataclass(frozen=True, eq=False)
class Along:
    """The derivative along one direction of the check."""

    direction: Array  # (n,)
    column: Array  # (m,)
    error: Array


def seen_along(seen: Seen) -> Along:
    """The same of what a strategy saw anyhow."""
    pushed = seen.pushed
    return Along(seen.direction, pushed.columns[:, 0], pushed.error[:, 0])


@dataclass(frozen=True, eq=False)
class Recovered:
    """What all lines gave."""

    entries: Entries
    steps: Array  # (n,) as taken; 0 where a column was not moved
    along: tuple[Along, ...]
    lost: np.ndarray | None = None  # (n,) bool: columns at which f failed, though it is finite at x; None: none


class Scattered:
    """Values, bars and flags of a pattern's entries, put line by line; those of no line are 0 and FIXED."""

    def __init__(self, here: Backend, seeds: Seeds, dtype: Any) -> None:
        xp, nnz = here.xp, seeds.pattern.nnz
        self.here, self.order, self.fills = here, seeds.order, (0, 0, int(Status.FIXED))
        still, self.kinds = int(seeds.order.starts[0]), (dtype, dtype, xp.int16)
        self.written = isinstance(xp.zeros((0,), device=here.device), np.ndarray)
        size = nnz if self.written else still
        pairs = zip(self.fills, self.kinds, strict=True)
        self.parts = [[xp.full((size,), fill, dtype=kind, device=here.device)] for fill, kind in pairs]

    def put(self, line: int, *entries: Array) -> None:
        """Those of one line, in turn."""
        places = self.order.entries[self.order.of(line)] if self.written else None
        for part, new in zip(self.parts, entries, strict=True):
            if places is None:
                part.append(new)
            else:
                part[0][places] = new

    def filled(self) -> list[Array]:
        """In the order of the pattern."""
        parts, self.parts, xp = self.parts, [], self.here.xp
        if self.written:
            return [part[0] for part in parts]
        back = self.here.indices(self.order.back)
        return [xp.take(xp.concat(part), back) for part in parts]


class EntriesCollector:
    """Takes lines one after the other; keeps of each what the pattern says is there."""

    def __init__(self, problem: Problem, prepared: Prepared, seeds: Seeds) -> None:
        outer = problem.backend
        self.outer, self.here = outer, outer if outer.host is None else outer.host
        self.problem, self.seeds, self.held, self.done = problem, seeds, ENTRY * seeds.pattern.nnz, 0
        self.exact = prepared.method is DifferentiationMethod.COMPLEX_STEP
        self.x, self.sizes = self._brought(problem.x, seeds.sizes.signed)
        self.turned = None if seeds.sizes.turned is None else self._brought(seeds.sizes.turned)[0]
        self.largest = self.here.xp.zeros_like(self._brought(prepared.value)[0])
        self.rows, self.cols = (self.here.indices(part) for part in (seeds.order.rows, seeds.order.cols))
        self.parts = Scattered(self.here, seeds, self.x.dtype)
        self.steps: list[Array] = []
        self.along: list[Along] = []

    def _brought(self, *arrays: Array) -> tuple[Array, ...]:
        """Where recovery computes: on the host, for a library whose operations cost far more."""
        return arrays if self.outer.host is None else self.outer.to_host(*arrays)

    def consume(self, chunk: Pushforward) -> None:
        """Scatter the columns of a chunk."""
        xp = self.here.xp
        columns, error, status, steps = self._brought(chunk.columns, chunk.error, chunk.status, chunk.steps)
        for k in range(int(columns.shape[1])):
            column = columns[:, k], error[:, k], status[:, k]
            if self.done < self.seeds.count:
                size = xp.abs(column[0])
                self.largest = xp.maximum(self.largest, xp.where(xp.isfinite(size), size, xp.zeros_like(size)))
                self.parts.put(self.done, *self._entries(self.done, *column, steps[k]))
                self.steps.append(steps[k])
            else:
                direction = self._brought(self.seeds.checks[self.done - self.seeds.count])[0]
                self.along.append(Along(direction, *(self.here.copy(part) for part in column[:2])))
            self.done += 1

    def _entries(self, line: int, column: Array, error: Array, status: Array, step: Array) -> list[Array]:
        """Values, bars and flags that this line gives, of J itself."""
        xp, mine = self.here.xp, self.seeds.order.of(line)
        rows, cols = self.rows[mine], self.cols[mine]
        size = xp.take(self.sizes, cols)
        value, far = xp.take(column, rows) / size, xp.abs(size)
        bar, flags = xp.take(error, rows) / far, xp.take(status, rows)
        if self.seeds.sizes.shrunk and not self.exact and line >= self.seeds.straight_count:
            rounded = ROUNDING * self.problem.eps * xp.abs(xp.take(self.x, cols)) / (far * xp.abs(step))
            rounded = xp.where(xp.isfinite(rounded), rounded, xp.zeros_like(rounded))  # no step: nothing was rounded
            bar = bar + rounded * xp.abs(value)
        if self.turned is not None:
            sided = xp.take(self.turned, cols)
            flags = xp.bitwise_or(flags, xp.astype(sided, flags.dtype) * int(Status.ONE_SIDED))
        return [value, bar, flags]

    def finish(self) -> Recovered:
        """All entries that were given, in the order of the pattern, and fixed ones among them."""
        xp, seeds, here = self.here.xp, self.seeds, self.here
        values, error, status = self.parts.filled()
        rows, cols = here.indices(seeds.pattern.rows), here.indices(seeds.pattern.cols)
        floor = xp.take(SMALL_SHARE * self.largest, rows) / xp.take(xp.abs(self.sizes), cols)
        return Recovered(Entries(values, error, status, floor), self._steps(), tuple(self.along))

    def _steps(self) -> Array:
        """(n,) of the columns, from those of the lines."""
        xp = self.here.xp
        none = xp.zeros((1,), dtype=self.x.dtype, device=self.here.device)
        steps = xp.concat([none, *(xp.reshape(xp.astype(step, none.dtype), (1,)) for step in self.steps)])
        return xp.take(steps, self.here.indices(self.seeds.lines + 1)) * xp.abs(self.sizes)


def recovered(
    problem: Problem, config: DifferentiationConfig, prepared: Prepared, seeds: Seeds, evaluator: Evaluator
) -> Rounds[Recovered]:
    """The entries of all lines; what failed, in smaller company."""
    whole = yield from pushed_lines(problem, config, prepared, seeds, evaluator)
    here = problem.backend if problem.backend.host is None else problem.backend.host
    lost = np.zeros(seeds.lines.shape, dtype=np.bool_)
    seeds = replace(seeds, checks=())
    while not evaluator.exhausted:
        failed = _failed_columns(problem, here, prepared, seeds, whole.entries)
        lost = np.where(seeds.lines == NO_LINE, lost, failed)
        lines = _parted(seeds, failed)
        if lines is None:
            break
        seeds = seeds.on(lines)
        again = yield from pushed_lines(problem, config, prepared, seeds, evaluator)
        whole = _amended(here, seeds, whole, again)
    return replace(whole, lost=lost) if lost.any() else whole


def _amended(here: Backend, seeds: Seeds, whole: Recovered, again: Recovered) -> Recovered:
    """With the entries of these lines anew; what they do beside others of their row is known already."""
    columns = seeds.lines != NO_LINE
    places = np.flatnonzero(columns[seeds.pattern.cols])
    new = replace(again.entries, floor=whole.entries.floor).taken(here, places)
    entries = whole.entries.merged(here, places, new)
    steps = here.xp.where(here.asarray(columns, here.xp.bool), again.steps, whole.steps)
    return replace(whole, entries=entries, steps=steps)


def pushed_lines(
    problem: Problem, config: DifferentiationConfig, prepared: Prepared, seeds: Seeds, evaluator: Evaluator
) -> Rounds[Recovered]:
    collector = EntriesCollector(problem, prepared, seeds)
    wanted = Wanted(range(seeds.count + len(seeds.checks)), seeds.make, runs=seeds.runs)
    yield from pushed_on(problem, config, prepared, wanted, evaluator, collector)
    return collector.finish()


def _failed_columns(problem: Problem, here: Backend, prepared: Prepared, seeds: Seeds, entries: Entries) -> np.ndarray:
    """(n,) bool: columns of these lines with an entry at which f failed though it is finite at x; one read where none did."""
    pattern = seeds.pattern
    failed = (entries.status & int(Status.FAILED)) != 0
    columns = np.zeros(pattern.shape[1], dtype=np.bool_)
    if not pattern.nnz or here.counts(failed) == [0]:
        return columns
    finite = problem.backend.as_numpy(problem.xp.isfinite(prepared.value)).astype(np.bool_)
    columns[pattern.cols[here.as_numpy(failed).astype(np.bool_) & finite[pattern.rows]]] = True
    columns &= seeds.lines != NO_LINE
    return columns


def _parted(seeds: Seeds, failed: np.ndarray) -> Ints | None:
    """Lines of the columns that shared one with a failed one: those that failed in two halves, the others together, if any.

    Of n columns to blame for an exception that is log2 of the length of a line, twice, for each.
    """
    if not failed.any():
        return None
    lines, parts = seeds.lines, np.full(seeds.lines.shape, NO_LINE, dtype=np.int64)
    shared = np.bincount(lines[lines != NO_LINE], minlength=seeds.count)
    bad = np.zeros(seeds.count, dtype=np.bool_)
    bad[lines[failed]] = True
    again = np.flatnonzero((lines != NO_LINE) & (bad & (shared > 1))[lines])
    if not again.size:
        return None
    again = again[np.lexsort((failed[again], lines[again]))]  # of each line: the sound ones, then the failed ones
    mine, lost = lines[again], failed[again]
    first = np.searchsorted(mine, mine, side="left")
    sound = np.bincount(mine, weights=~lost, minlength=seeds.count).astype(np.int64)[mine]
    half = (np.arange(again.size) - first - sound) * 2 >= shared[mine] - sound
    parts[again] = np.where(lost, 3 * mine + 1 + half, 3 * mine)
    return numbered(parts)


class Ordered(Protocol):
    """A pattern, and its entries by lines that see a row once: seeds, or a `Sparsity`, which makes them when asked."""

    @property
    def pattern(self) -> Pattern: ...

    @property
    def order(self) -> Order: ...


def along_rows(here: Backend, known: Ordered, values: Array, error: Array, vector: Array) -> tuple[Array, Array, Array]:
    """(m,) of each row: the product with a vector (n,), the sum of its sizes, and that of its bars."""
    xp, pattern = here.xp, known.pattern
    if isinstance(vector, np.ndarray) and vector.all():
        return _products(pattern, values, error, vector)
    times = xp.take(vector, here.indices(pattern.cols))
    still = times == 0  # what is lost counts where it is moved
    value, bar = (xp.where(still, xp.zeros_like(part), part) for part in (values * times, error * xp.abs(times)))
    made, size, bars = _by_rows(here, known, [value, xp.abs(value), bar])
    return made, size, bars


def _products(
    pattern: Pattern, values: np.ndarray, error: np.ndarray, vector: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same on the host, where all columns move: by SciPy, where it is there."""
    far = np.abs(vector)
    pairs = (values, vector), (np.abs(values), far), (error, far)
    try:
        from scipy.sparse import csr_array
    except ImportError:
        made, size, bars = (_stretches(part * times[pattern.cols], pattern) for part, times in pairs)
        return made, size, bars
    made, size, bars = (csr_array((part, *pattern.narrow), shape=pattern.shape) @ times for part, times in pairs)
    return made, size, bars


def _by_rows(here: Backend, known: Ordered, several: Sequence[Array]) -> list[Array]:
    """(m,) the sums of the rows, each of entries (nnz,); where a library sums no stretches, line by line or in pairs."""
    xp, m = here.xp, known.pattern.shape[0]
    if isinstance(several[0], np.ndarray):
        return [_stretches(entries, known.pattern) for entries in several]
    order = known.order
    if order.count > MANY_LINES:
        return [_paired(here, known.pattern, entries) for entries in several]
    none = xp.zeros((1,), dtype=several[0].dtype, device=here.device)
    totals = [xp.zeros((m,), dtype=none.dtype, device=here.device) for _ in several]
    for line in range(order.count if m else 0):
        mine = order.of(line)
        index = here.indices(order.entries[mine])
        parts = [xp.take(entries, index) for entries in several]
        count = int(order.starts[line + 1] - order.starts[line])
        if count < m:  # rows without an entry on this line; else their order is that of the pattern
            slots = np.full(m, count, dtype=np.int64)
            slots[order.rows[mine]] = np.arange(count)
            back = here.indices(slots)
            parts = [xp.take(xp.concat([part, none]), back) for part in parts]
        totals = [total + part for total, part in zip(totals, parts, strict=True)]
    return totals


def _paired(here: Backend, pattern: Pattern, entries: Array) -> Array:
    """(m,) the sums of the rows, pairwise."""
    xp, some = here.xp, pattern.lengths > 0
    if not some.any():
        return xp.zeros((pattern.shape[0],), dtype=entries.dtype, device=here.device)
    slots = np.where(some, np.cumsum(some) - 1, np.count_nonzero(some))
    sums = Stretches(pattern.lengths[some]).summed(here, entries)
    return xp.take(xp.concat([sums, xp.zeros_like(sums[:1])]), here.indices(slots))


def _stretches(entries: np.ndarray, pattern: Pattern) -> np.ndarray:
    """(m,) the sums of the rows, on the host."""
    starts, some = pattern.indptr[:-1], pattern.lengths > 0
    if some.all() and starts.size:
        sums: np.ndarray = np.add.reduceat(entries, starts)
        return sums
    total = np.zeros(pattern.shape[0], dtype=entries.dtype)
    if some.any():
        total[some] = np.add.reduceat(entries, starts[some])
    return total
