"""Recovery: every finished column is scattered into the entries of its line, bars and flags alike, and dropped.

The compressed matrix J·V is never held.  Columns of a line in which f failed are moved again in smaller company, until only those
that are to blame are lost.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.engine import Wanted, pushed_on
from arraydiff.evaluator import Evaluator
from arraydiff.problem import Problem
from arraydiff.result import SMALL_SHARE, Status
from arraydiff.seam import Prepared, Pushforward, Rounds
from arraydiff.sparse.pattern import Ints
from arraydiff.sparse.seeds import NO_LINE, Seeds, numbered

ENTRY = 42
"""Bytes of an entry: value, bar and flag, twice while they are sorted, and its place."""

ROUNDING = 2.0
"""eps |x| that a point is rounded by, seen from both sides."""


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of a pattern, in its order, on the library that computes."""

    values: Array  # (nnz,)
    error: Array
    status: Array  # int16
    floor: Array  # what an entry must be to count beside the others of its row

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
    status: Array


def seen_along(direction: Array, pushed: Pushforward) -> Along:
    """The same of what a strategy saw anyhow."""
    return Along(direction, pushed.columns[:, 0], pushed.error[:, 0], pushed.status[:, 0])


@dataclass(frozen=True, eq=False)
class Recovered:
    """What all lines gave."""

    entries: Entries
    places: Ints  # of the entries in the pattern
    steps: Array  # (n,) as taken; 0 where a column was not moved
    along: tuple[Along, ...]
    lost: np.ndarray | None = None  # (n,) bool: columns at which f failed, though it is finite at x; None: none


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
        self.parts: list[Entries] = []
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
                self.parts.append(self._entries(self.done, *column, steps[k]))
                self.steps.append(steps[k])
            else:
                direction = self._brought(self.seeds.checks[self.done - self.seeds.count])[0]
                self.along.append(Along(direction, *(self.here.copy(part) for part in column)))
            self.done += 1

    def _entries(self, line: int, column: Array, error: Array, status: Array, step: Array) -> Entries:
        """Those that this line gives, of J itself."""
        xp, pattern, places = self.here.xp, self.seeds.pattern, self.seeds.places(line)
        rows, cols = self.here.indices(pattern.rows[places]), self.here.indices(pattern.cols[places])
        size = xp.take(self.sizes, cols)
        value, far = xp.take(column, rows) / size, xp.abs(size)
        bar, flags = xp.take(error, rows) / far, xp.take(status, rows)
        if self.seeds.sizes.shrunk and not self.exact and line >= self.seeds.straight_count:
            rounded = ROUNDING * self.problem.eps * xp.abs(xp.take(self.x, cols)) / (far * xp.abs(step))
            bar = bar + xp.where(rounded > 0, rounded * xp.abs(value), xp.zeros_like(bar))
        if self.turned is not None:
            sided = xp.take(self.turned, cols)
            flags = xp.bitwise_or(flags, xp.astype(sided, flags.dtype) * int(Status.ONE_SIDED))
        return Entries(value, bar, flags, far)

    def finish(self) -> Recovered:
        """All entries that were given, in the order of the pattern, and fixed ones among them."""
        xp, seeds = self.here.xp, self.seeds
        still = seeds.order[: seeds.starts[0]]
        none = xp.zeros((still.size,), dtype=self.x.dtype, device=self.here.device)
        fixed = xp.full((still.size,), int(Status.FIXED), dtype=xp.int16, device=self.here.device)
        parts = [Entries(none, none, fixed, xp.ones_like(none)), *self.parts]
        back = np.empty_like(seeds.order)
        back[seeds.order] = np.arange(back.size)
        index, rows = self.here.indices(back), self.here.indices(seeds.pattern.rows)
        whole = Entries(
            **{
                item.name: xp.take(xp.concat([getattr(part, item.name) for part in parts]), index)
                for item in fields(Entries)
            }
        )
        self.parts = []
        whole = replace(whole, floor=SMALL_SHARE * xp.take(self.largest, rows) / whole.floor)
        return Recovered(
            whole, np.flatnonzero(seeds.lines[seeds.pattern.cols] != NO_LINE), self._steps(), tuple(self.along)
        )

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
        seeds = replace(seeds, lines=lines)
        again = yield from pushed_lines(problem, config, prepared, seeds, evaluator)
        whole = _amended(here, whole, again, lines != NO_LINE)
    return replace(whole, lost=lost) if lost.any() else whole


def _amended(here: Backend, whole: Recovered, again: Recovered, columns: np.ndarray) -> Recovered:
    """With the entries of some columns anew; what they do beside others of their row is known already."""
    xp, index = here.xp, here.indices(again.places)
    new = Entries(**{item.name: xp.take(getattr(again.entries, item.name), index) for item in fields(Entries)})
    entries = whole.entries.merged(here, again.places, replace(new, floor=xp.take(whole.entries.floor, index)))
    steps = xp.where(here.asarray(columns, xp.bool), again.steps, whole.steps)
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
    xp, pattern = here.xp, seeds.pattern
    failed = (entries.status & int(Status.FAILED)) != 0
    columns = np.zeros(pattern.shape[1], dtype=np.bool_)
    if not pattern.nnz or here.read(xp.reshape(xp.sum(xp.astype(failed, xp.int32)), (1,))) == [0]:
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


def along_rows(here: Backend, seeds: Seeds, values: Array, error: Array, vector: Array) -> tuple[Array, Array, Array]:
    """(m,) of each row: the product with a vector (n,), the sum of its sizes, and that of its bars; line by line."""
    xp, pattern = here.xp, seeds.pattern
    m = pattern.shape[0]
    none = xp.zeros((m,), dtype=values.dtype, device=here.device)
    totals = [none, none, none]
    for line in range(seeds.count if m else 0):
        places = seeds.places(line)
        index, times = here.indices(places), xp.take(vector, here.indices(pattern.cols[places]))
        value, bar = xp.take(values, index) * times, xp.take(error, index) * xp.abs(times)
        still = times == 0  # what is lost counts where it is moved
        value, bar = (xp.where(still, xp.zeros_like(part), part) for part in (value, bar))
        parts = [value, xp.abs(value), bar]
        if places.size < m:  # rows without an entry on this line; else their order is that of the pattern
            slots = np.full(m, places.size, dtype=np.int64)
            slots[pattern.rows[places]] = np.arange(places.size)
            where = here.indices(slots)
            parts = [xp.take(xp.concat([part, none[:1]]), where) for part in parts]
        totals = [total + part for total, part in zip(totals, parts, strict=True)]
    return totals[0], totals[1], totals[2]
