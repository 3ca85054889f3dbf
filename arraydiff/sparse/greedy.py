"""Greedy colourings: one Python int a row, or a column, holds the colours that it has seen as bits.

First fit in a given order costs one step an entry. Next comes the column that is left the fewest colours: Brélaz, Comm. ACM
22 (1979) 251 (DSATUR), which is optimal on most grids in any numbering and costs L² steps for a row of length L.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from arraydiff.sparse.pattern import Ints, Pattern

SPENT = -1
"""Every bit is set: what a column that has its colour is left."""


@dataclass(frozen=True)
class Lists:
    """A pattern as lists, which Python reads several times as fast as arrays, number by number."""

    rows: list[int]
    """Of the entries, by columns."""
    column_starts: list[int]
    cols: list[int]
    row_starts: list[int]

    @classmethod
    def of(cls, pattern: Pattern) -> Lists:
        rows = pattern.rows[pattern.by_columns].tolist()
        return cls(rows, pattern.column_indptr.tolist(), pattern.cols.tolist(), pattern.indptr.tolist())

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.column_starts) - 1


def largest_first(pattern: Pattern) -> Ints:
    """The columns, those with most neighbours in their rows first."""
    neighbours = np.bincount(pattern.cols, weights=pattern.lengths[pattern.rows] - 1.0, minlength=pattern.shape[1])
    return np.argsort(-neighbours, kind="stable")


def first_fit(lists: Lists, order: Iterable[int]) -> list[int]:
    """The colour of each column, as a bit: the lowest that none of its rows has seen."""
    rows, starts = lists.rows, lists.column_starts
    seen, bits = [0] * (len(lists.row_starts) - 1), [0] * lists.width
    for column in order:
        mine = rows[starts[column] : starts[column + 1]]
        taken = 0
        for row in mine:
            taken |= seen[row]
        bit = ~taken & (taken + 1)
        for row in mine:
            seen[row] |= bit
        bits[column] = bit
    return bits


def by_saturation(lists: Lists, order: Iterable[int]) -> list[int]:
    """First fit, where the next column is always one whose rows have seen most colours: the first to get there."""
    rows, column_starts, cols, row_starts = lists.rows, lists.column_starts, lists.cols, lists.row_starts
    taken, bits = [0] * lists.width, [0] * lists.width
    queues, top = [deque(order)], 0  # by number of colours seen; an entry is stale once its column has seen more
    while top >= 0:
        if not queues[top]:
            top -= 1
            continue
        column = queues[top].popleft()
        before = taken[column]
        if before < 0 or before.bit_count() != top:
            continue
        bit = ~before & (before + 1)
        bits[column], taken[column] = bit, SPENT
        for row in rows[column_starts[column] : column_starts[column + 1]]:
            for other in cols[row_starts[row] : row_starts[row + 1]]:
                if not taken[other] & bit:
                    taken[other] |= bit
                    seen = taken[other].bit_count()
                    if seen > top:
                        top = seen
                        if seen == len(queues):
                            queues.append(deque())
                    queues[seen].append(other)
    return bits


def numbers(bits: list[int]) -> Ints:
    """Colours as numbers from 0; -1 where there is none."""
    return np.array([bit.bit_length() - 1 for bit in bits], dtype=np.int64)
