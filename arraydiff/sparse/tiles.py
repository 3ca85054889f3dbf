"""Rows of a sparse matrix in tiles: rows that share columns side by side, dense in the columns that any of them has.

Products of a tile with itself are one product of small matrices, on any library: of rows of one pattern with nothing wasted, of
others with as few rows a tile as that takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from arraydiff.sparse.pattern import Ints, Pattern

SIZES = tuple(2**k for k in range(3, 13))
"""Rows a tile that are tried; the largest stays in the cache."""

TILES = 16
"""On which a size is tried."""

OVERHEAD = 100_000.0
"""Nanoseconds that a tile costs, whatever it holds."""

EACH, SQUARED = 20.0, 0.7
"""Nanoseconds of a number of a tile: by itself, and with each one beside it."""

HASH_SEED = 20270203


@dataclass(frozen=True, eq=False)
class Tile:
    """Some rows, dense."""

    rows: Ints  # (t,)
    cols: Ints  # (k,) those that any of the rows has
    places: Ints  # (k, t) of the entries in the pattern; nnz where there is none


@dataclass(frozen=True, eq=False)
class Tiling:
    """How the rows of a pattern are tiled."""

    pattern: Pattern
    order: Ints  # of the rows that have entries
    size: int  # rows a tile

    @classmethod
    def of(cls, pattern: Pattern) -> Tiling:
        """Like rows side by side, and as many a tile as cost least."""
        order = _order(pattern)
        costs = [_cost(pattern, order, size) for size in SIZES]
        return cls(pattern, order, SIZES[int(np.argmin(costs))])

    def __iter__(self) -> Iterator[Tile]:
        for start in range(0, self.order.size, self.size):
            yield self._tile(self.order[start : start + self.size])

    def _tile(self, rows: Ints) -> Tile:
        part, starts = self.pattern.rows_of(rows), self.pattern.indptr[rows]
        cols, number = np.unique(part.cols, return_inverse=True)
        places = np.full((cols.size, rows.size), self.pattern.nnz, dtype=np.int64)
        within = np.arange(part.nnz, dtype=np.int64) - part.indptr[part.rows]
        places[number, part.rows] = starts[part.rows] + within
        return Tile(rows, cols, places)


def _order(pattern: Pattern) -> Ints:
    """Rows with entries by their first column, then their last, those of one pattern together."""
    some = np.flatnonzero(pattern.lengths)
    if not some.size:
        return some
    first, last = pattern.indptr[some], pattern.indptr[some + 1] - 1
    keys = np.random.Generator(np.random.PCG64(HASH_SEED)).integers(0, 2**62, pattern.shape[1], dtype=np.uint64)
    likeness = np.add.reduceat(keys[pattern.cols], first)  # modulo 2^64; rows without entries take no room
    order: Ints = some[np.lexsort((likeness, pattern.cols[last], pattern.cols[first]))]
    return order


def _cost(pattern: Pattern, order: Ints, size: int) -> float:
    """Nanoseconds a row, from some of the tiles."""
    starts = np.unique(np.linspace(0, max(order.size - size, 0), TILES).astype(np.int64))
    total, rows = 0.0, 0
    for start in starts.tolist():
        mine = order[start : start + size]
        width = np.unique(pattern.rows_of(mine).cols).size + 1
        total += OVERHEAD + width * mine.size * (EACH + SQUARED * width)
        rows += mine.size
    return total / max(rows, 1)
