"""JᵀJ, Jᵀr and r·r from columns of J: summed over rows in pieces of a fixed size, each entry with a bound.

r stands beside the columns as one more, its noise beside their bars: the products of all of them, a matrix (n + 1, n + 1), hold
everything.  The bound is that of the worst case over rows, Σ |J_ri| e_rj + e_ri |J_rj| + e_ri e_rj, beside rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

from arraydiff._typing import Array, Namespace
from arraydiff.collectors import InOrder, Slots
from arraydiff.config import DifferentiationConfig
from arraydiff.memory import budget, exceeds, told
from arraydiff.problem import Problem
from arraydiff.result import SMALL_SHARE, UNVOUCHED, Status
from arraydiff.scratch import Scratch
from arraydiff.seam import Prepared, Pushforward
from arraydiff.strategies.hosted import on_host
from arraydiff.vouching import effect, passed, tolerance

ROWS = 2**12
"""Rows whose products are summed in one go, whatever chunk, block and memory: 53 columns of them stay in the cache."""

SURE = 8.0
"""Rounding of a sum of k products is below SURE sqrt(k) eps Σ |a b| but for a chance of 1e-14: Higham & Mary, SIAM J. Sci.
Comput. 41 (2019) A2815, theorem 2.4."""

CHUNK_AS_LARGE = 2
"""Times what is kept: a chunk of columns takes as much again."""

SLAB = 2**26
"""Bytes that are read back from a file at once, at most."""

FLAGS = tuple(Status)


@dataclass(frozen=True)
class Sums:
    """What is summed over the rows of a block, or of all."""

    gram: Array  # (n + 1, n + 1) of the columns, and of r
    low: Array  # the same: what rounding took from it
    bars: Array  # the same
    flags: Array  # (flags, n) entries of J under each of FLAGS
    wide: Array  # (n,) entries whose bar is too wide
    lost: Array  # () rows that are not finite at x

    def plus(self, other: Sums) -> Sums:
        """Both, with what rounding took."""
        total, low = _two_sum(self.gram, other.gram)
        return Sums(
            total,
            self.low + other.low + low,
            self.bars + other.bars,
            self.flags + other.flags,
            self.wide + other.wide,
            self.lost + other.lost,
        )


def _two_sum(one: Array, other: Array) -> tuple[Array, Array]:
    """Their sum, and exactly what rounding took from it: Knuth, TAOCP 2, 4.2.2, theorem B."""
    total = one + other
    part = total - one
    return total, (one - (total - part)) + (other - part)


def nothing(problem: Problem) -> Sums:
    """The sums over no rows."""
    xp, backend, n = problem.xp, problem.backend, problem.n
    none = xp.zeros((n + 1, n + 1), dtype=problem.x.dtype, device=backend.device)
    counts = xp.zeros((len(FLAGS), n), dtype=backend.index_dtype, device=backend.device)
    return Sums(none, none, none, counts, counts[0, :], xp.sum(counts))


def products(xp: Namespace, whole: Array, bars: Array) -> tuple[Array, Array, Array]:
    """Of rows (k, r) with one another: their products, those of their sizes, and what bars may add to these."""
    size = xp.abs(whole)
    outer = size + bars
    gram, absolute, widest = (xp.matmul(part, xp.matrix_transpose(part)) for part in (whole, size, outer))
    return gram, absolute, widest - absolute


class GramCollector(InOrder):
    """Keeps the columns of a block and their bars, in memory or in a file, until there are all; then sums over rows."""

    def __init__(
        self,
        problem: Problem,
        config: DifferentiationConfig,
        prepared: Prepared,
        index: Sequence[int],
        weights: Array | None,
    ) -> None:
        self.outer = problem
        super().__init__(problem if problem.backend.host is None else on_host(problem), problem.n, index)
        self.m, self.tolerance = int(prepared.value.shape[0]), tolerance(config)
        self.value = self._here(prepared.value)
        self.noise, self.weights = (None if part is None else self._here(part) for part in (prepared.noise, weights))
        self.sums = nothing(self.problem)
        self.eps = self.problem.eps
        size, self.slab = 2 * self.m * problem.n * _width(self.problem), self.m
        self.scratch: Scratch | None = None
        self.whole: tuple[Array, Array] | None = None
        self.kept: tuple[Slots, Slots] | None = None
        if exceeds(self.problem.backend, config.max_memory, CHUNK_AS_LARGE * size):
            self._open_file(config, size)
        else:
            self.held = size

    def _here(self, array: Array) -> Array:
        """Where sums are made: on the host, for a library whose operations cost far more."""
        return array if self.outer.backend.host is None else self.outer.backend.to_host(array)[0]

    def _open_file(self, config: DifferentiationConfig, size: int) -> None:
        backend, room = self.problem.backend, budget(self.problem.backend, config.max_memory)
        if not backend.on_cpu:
            raise MemoryError(
                f"the columns of J and their bars take {told(size)}, of which max_memory={config.max_memory!r} leaves "
                f"{told(room // 2)}: part the residual into blocks (blocks=), or give more as max_memory="
            )
        row = 2 * max(self.problem.n, 1) * _width(self.problem)
        self.slab = max(1, min(room // 4, SLAB) // (row * ROWS)) * ROWS
        self.scratch = Scratch(backend, self.m, self.problem.n, self.problem.x.dtype, _width(self.problem))

    def close(self) -> None:
        """Give back what lies on disk."""
        if self.scratch is not None:
            self.scratch.close()

    def consume(self, chunk: Pushforward) -> None:
        """Keep the columns, the bars of entries that are not vouched for with a minus in front."""
        which = self.next_of(chunk)
        columns, error, status = (self._here(part) for part in (chunk.columns, chunk.error, chunk.status))
        error = self._marked(which, error, status)
        if self.scratch is not None:
            self.scratch.write(which, columns, error)
        elif len(which) == self.size:
            self.whole = columns, error
        else:
            for slots, part in zip(self._opened(columns), (columns, error), strict=True):
                slots.write(which, part)

    def _opened(self, like: Array) -> tuple[Slots, Slots]:
        if self.kept is None:
            columns, error = (self.slots(self.problem, self.m, self.size, like.dtype, 0) for _ in range(2))
            self.kept = columns, error
        return self.kept

    def _marked(self, which: Sequence[int], error: Array, status: Array) -> Array:
        """Count the flags, and mark in the bars where they are bad."""
        xp, backend = self.problem.xp, self.problem.backend
        if self.m == 0:
            return error
        if backend.on_cpu and not backend.deferred and backend.read(xp.reshape(xp.max(status), (1,))) == [0]:
            return error  # the common case: one look instead of twelve
        if self.weights is not None:  # what weighs nothing is left out
            status = xp.where(self.weights[:, None] > 0, status, xp.zeros_like(status))
        counts = [xp.sum(xp.astype((status & int(flag)) != 0, backend.index_dtype), axis=0) for flag in FLAGS]
        self._count(which, xp.stack(counts))
        return xp.where((status & int(UNVOUCHED)) != 0, -error, error)

    def _count(self, which: Sequence[int], counts: Array) -> None:
        """Counts (flags, k) in their places."""
        xp, backend = self.problem.xp, self.problem.backend
        place = {parameter: j for j, parameter in enumerate(which)}
        slots = backend.indices([place.get(i, len(which)) for i in range(self.problem.n)])
        spread = xp.take(xp.concat([counts, xp.zeros_like(counts[:, :1])], axis=1), slots, axis=1)
        here = nothing(self.problem)
        self.sums = self.sums.plus(Sums(here.gram, here.low, here.bars, spread, here.wide, here.lost))

    def finish(self) -> tuple[Sums, Array]:
        """The sums over all rows, and the steps (n,)."""
        start = 0
        for columns, error in self._slabs():
            length = int(columns.shape[1])
            for first in range(0, length, ROWS):
                rows = slice(first, min(first + ROWS, length))
                self._add(columns[:, rows], error[:, rows], slice(start + rows.start, start + rows.stop))
            start += length
        self.whole = self.kept = None
        return self.sums, self.all_steps()

    def all_steps(self) -> Array:
        """(n,) zero where a parameter cannot move."""
        if self.outer.backend.host is not None:
            self.steps = [self._here(part) for part in self.steps]
        return super().all_steps()

    def _slabs(self) -> Iterator[tuple[Array, Array]]:
        """Columns and bars, (n, rows) each."""
        xp = self.problem.xp
        if self.m == 0 or (self.whole is None and not self.done):
            columns = xp.zeros((self.problem.n, self.m), dtype=self.problem.x.dtype, device=self.problem.backend.device)
            yield columns, columns
        elif self.scratch is not None:
            yield from self.scratch.slabs(self.slab)
        elif self.whole is not None:
            yield xp.matrix_transpose(self.whole[0]), xp.matrix_transpose(self.whole[1])
        else:
            columns, error = (slots.filled() for slots in self._opened(self.value))
            yield xp.matrix_transpose(columns), xp.matrix_transpose(error)

    def _add(self, columns: Array, error: Array, rows: slice) -> None:
        """The products of some rows: columns and bars (n, rows)."""
        xp, value = self.problem.xp, self.value[None, rows]
        noise = self.eps * xp.abs(value) if self.noise is None else self.noise[None, rows]
        whole = xp.concat([columns, value])
        bars = xp.concat([error, xp.astype(noise, error.dtype)])
        if self.weights is not None:
            root = self.weights[None, rows]
            whole, bars = (xp.where(root > 0, part * root, xp.zeros_like(part)) for part in (whole, bars))
        size, bad, bars = xp.abs(whole), bars < 0, xp.abs(bars)
        gram, absolute, beyond = products(xp, whole, bars)
        rounding = SURE * self.eps * sqrt(max(rows.stop - rows.start, 1))
        lost = xp.sum(xp.astype(~xp.isfinite(whole[-1, :]), self.problem.backend.index_dtype))
        self.sums = self.sums.plus(
            Sums(
                gram,
                xp.zeros_like(gram),
                xp.maximum(beyond, xp.zeros_like(beyond)) + rounding * absolute,
                xp.zeros_like(self.sums.flags),
                self._wide(whole[:-1, :], size[:-1, :], bars[:-1, :], bad[:-1, :]),
                lost,
            )
        )

    def _wide(self, columns: Array, size: Array, bars: Array, bad: Array) -> Array:
        """(n,) how many bars are too wide beside what their entries do to their outputs; flagged entries are counted already."""
        xp = self.problem.xp
        if not self.problem.n:
            return self.sums.wide
        backend, small = self.problem.backend, bars <= self.tolerance * size
        looks = backend.on_cpu and not backend.deferred  # the common case: one look instead of ten
        if looks and backend.counts(small) == [int(bars.shape[0]) * int(bars.shape[1])]:
            return xp.zeros_like(self.sums.wide)
        scale = self.problem.scale[:, None]
        allowed = self.tolerance * xp.maximum(size, SMALL_SHARE * effect(xp, size, scale, axis=0)[None, :] / scale)
        wide = ~(passed(xp, columns, bars, allowed) | bad)
        return xp.sum(xp.astype(wide, backend.index_dtype), axis=1)


def _width(problem: Problem) -> int:
    """Bytes of a number."""
    bits: int = problem.xp.finfo(problem.x.dtype).bits
    return bits // 8
