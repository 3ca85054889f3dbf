"""Whether colours of columns are any good: one vectorised pass over the entries."""

from __future__ import annotations

from typing import Any

import numpy as np

from arraydiff.sparse.pattern import LARGEST, Ints, Pattern

TABLE = 8
"""Places of a table for each entry: with more it is sorted."""

NO_COLOUR = -1
"""Of a column without entries: nothing is learnt by moving it."""


def count_of(colours: Ints) -> int:
    """How many colours there are, numbered from 0."""
    return int(colours.max(initial=NO_COLOUR)) + 1


def clashes(rows: Ints, colours: Ints) -> bool:
    """Whether a row sees a colour twice; one colour an entry, from 0."""
    count = int(colours.max(initial=0)) + 1
    if int(rows.max(initial=0)) * count > LARGEST:
        return _twice(rows, colours)[0].size > 0
    keys = rows * count + colours
    if (int(rows.max(initial=0)) + 1) * count <= TABLE * keys.size:  # counting them is ten times as fast as sorting
        return bool(np.bincount(keys).max(initial=0) > 1)
    keys.sort()
    return bool(np.any(keys[1:] == keys[:-1]))


def checked(pattern: Pattern, colours: Any) -> Ints:
    """Colours of the columns from outside, refused where two columns of a row share one; numbered anew from 0."""
    given = np.asarray(colours)
    if given.shape != pattern.shape[1:] or (given.size and given.dtype.kind not in "iu"):
        raise ValueError(
            f"colours must be {pattern.shape[1]} integers, one a column, got {given.dtype} of shape {given.shape}"
        )
    given = given.astype(np.int64)
    hues = given[pattern.cols]
    if hues.min(initial=0) < 0:
        column = pattern.cols[np.argmax(hues < 0)]
        raise ValueError(f"colours must be >= 0 where a column has entries, got {given[column]} for column {column}")
    first, second = _twice(pattern.rows, hues)
    if first.size:
        here, there = first[0], second[0]
        raise ValueError(
            f"colours must differ within a row, but columns {pattern.cols[here]} and {pattern.cols[there]} of row "
            f"{pattern.rows[here]} share colour {hues[here]}; leave colours out to have them made"
        )
    return numbered(pattern, given)


def _twice(rows: Ints, colours: Ints) -> tuple[Ints, Ints]:
    """Entries that have the row and the colour of another one, beside that one."""
    order = np.lexsort((colours, rows))
    same = (np.diff(rows[order]) == 0) & (np.diff(colours[order]) == 0)
    return order[:-1][same], order[1:][same]


def numbered(pattern: Pattern, colours: Ints) -> Ints:
    """Colours 0, 1, 2, ... in their order; none where a column is without entries."""
    filled = np.bincount(pattern.cols, minlength=pattern.shape[1]) > 0
    anew = np.full(colours.shape, NO_COLOUR, dtype=np.int64)
    anew[filled] = np.unique(colours[filled], return_inverse=True)[1]
    return anew
