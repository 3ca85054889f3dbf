"""Columns that may be moved together: no row sees two of one colour, so that each entry can be told from the sum.

Curtis, Powell & Reid, J. Inst. Maths Applics 13 (1974) 117; Gebremedhin, Manne & Pothen, SIAM Review 47 (2005) 629.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from arraydiff.sparse.pattern import Ints, Pattern

NO_COLOUR = -1
"""Of a column without entries: nothing is learnt by moving it."""


def coloured(pattern: Pattern) -> Ints:
    """A colour for each column; columns with an entry in the same row differ. The same pattern, the same colours."""
    starts, rows = pattern.column_indptr.tolist(), pattern.rows[pattern.by_columns].tolist()
    return _numbers(_first_fit(range(pattern.shape[1]), starts, rows, [0] * pattern.shape[0]))


def _first_fit(order: Any, starts: list[int], rows: list[int], used: list[int]) -> list[int]:
    """The colour of each column as a bit: the lowest that none of its rows has used."""
    bits = [0] * (len(starts) - 1)
    for column in order:
        mine = rows[starts[column] : starts[column + 1]]
        taken = 0
        for row in mine:
            taken |= used[row]
        bit = ~taken & (taken + 1)
        for row in mine:
            used[row] |= bit
        if mine:
            bits[column] = bit
    return bits


def _numbers(bits: list[int]) -> Ints:
    return np.array([bit.bit_length() - 1 for bit in bits], dtype=np.int64)


def star_coloured(pattern: Pattern) -> Ints:
    """A colouring of a symmetric pattern from which each entry is recovered directly, as (i, j) or as (j, i)."""
    if not pattern.symmetric:
        raise ValueError("star colouring wants a symmetric pattern; pass the pattern of the Hessian, or use jacobian")
    starts, cols = pattern.indptr.tolist(), pattern.cols.tolist()
    return _numbers(_star_first_fit(range(pattern.shape[1]), starts, cols))


def _star_first_fit(order: Any, starts: list[int], neighbours: list[int]) -> list[int]:
    """Restricted star colouring: of a path v - w - x whose ends share a colour, the middle has a lower one."""
    count = len(starts) - 1
    own, seen = [0] * count, [0] * count  # seen: colours around; once w has its own, that one and those below it
    for v in order:
        around = [w for w in neighbours[starts[v] : starts[v + 1]] if w != v]
        taken = 0
        for w in around:
            taken |= seen[w]
        bit = ~taken & (taken + 1)
        for w in around:
            if not own[w] or bit < own[w]:
                seen[w] |= bit
        if starts[v + 1] > starts[v]:
            own[v] = bit
            seen[v] = bit | (seen[v] & (bit - 1))
    return own


def checked(pattern: Pattern, colours: Any) -> Ints:
    """Colours of the columns from outside, refused where two columns of a row share one."""
    given = np.asarray(colours)
    if given.shape != pattern.shape[1:] or (given.size and given.dtype.kind not in "iu"):
        raise ValueError(
            f"colours must be {pattern.shape[1]} integers, one a column, got {given.dtype} of shape {given.shape}"
        )
    given = given.astype(np.int64)
    bare = np.flatnonzero(given[pattern.cols] < 0)
    if bare.size:
        raise ValueError(
            f"colours must be >= 0 where a column has entries, got {given[pattern.cols[bare[0]]]} for column "
            f"{pattern.cols[bare[0]]}"
        )
    order = np.lexsort((given[pattern.cols], pattern.rows))
    rows, hues = pattern.rows[order], given[pattern.cols[order]]
    twice = np.flatnonzero((rows[1:] == rows[:-1]) & (hues[1:] == hues[:-1]))
    if twice.size:
        first, second = pattern.cols[order[twice[0]]], pattern.cols[order[twice[0] + 1]]
        raise ValueError(
            f"colours must differ within a row, but columns {first} and {second} of row {rows[twice[0]]} share colour "
            f"{hues[twice[0]]}; leave colours out to have them made"
        )
    return _renumbered(pattern, given)


def _renumbered(pattern: Pattern, colours: Ints) -> Ints:
    """Colours 0, 1, 2, ... in their order; none where a column is without entries."""
    filled = np.diff(pattern.column_indptr) > 0
    renumbered = np.full(colours.shape, NO_COLOUR, dtype=np.int64)
    renumbered[filled] = np.unique(colours[filled], return_inverse=True)[1]
    return renumbered


def recovery(pattern: Pattern, star: Ints) -> Ints:
    """Where each entry of a symmetric matrix H is found in B = H·V: as ``row * colours + colour``, flat.

    (i, j) and (j, i) have one source between them, so that what is recovered is symmetric to the last bit.
    """
    count = int(star.max(initial=NO_COLOUR)) + 1
    sources = pattern.rows * count + star[pattern.cols]
    alone = _alone(sources)
    mirror = pattern.by_columns  # the k-th entry by columns is the mirror of the k-th by rows
    upper = pattern.rows <= pattern.cols
    mine = np.where(upper, alone, ~alone[mirror])
    if not np.all(alone | alone[mirror]):
        lost = np.flatnonzero(~(alone | alone[mirror]))[0]
        raise ValueError(
            f"colours must let each entry be recovered, but entry ({pattern.rows[lost]}, {pattern.cols[lost]}) is never "
            "alone with its colour; leave colours out to have them made"
        )
    return np.where(mine, sources, sources[mirror])


def _alone(sources: Ints) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which numbers occur once."""
    order = np.argsort(sources, kind="stable")
    ordered = sources[order]
    fresh = np.diff(ordered, prepend=-1) != 0
    alone = np.empty(sources.shape, dtype=np.bool_)
    alone[order] = fresh & np.append(fresh[1:], True)[: fresh.size]
    return alone
