"""Colours for a symmetric matrix: each entry is alone with its colour in its own row, or in that of its mirror image.

So it is of the graph where any two colours together make stars. Recovery is direct, no sums of errors. Gebremedhin, Manne &
Pothen, SIAM Review 47 (2005) 629, section 4; Gebremedhin, Tarafdar, Manne & Pothen, SIAM J. Sci. Comput. 29 (2007) 1042.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from arraydiff.sparse.clashes import count_of
from arraydiff.sparse.pattern import Ints, Pattern


def restricted(order: Iterable[int], starts: list[int], cols: list[int], limit: int) -> list[int] | None:
    """First fit where the middle of a path whose ends share a colour has a lower one; None where a bit reaches `limit`.

    Far fewer colours than `stars` where a few columns have most of the neighbours.
    """
    count = len(starts) - 1
    own, seen = [0] * count, [0] * count  # seen: colours around; once w has its own, that one and those around below it
    for v in order:
        around = [w for w in cols[starts[v] : starts[v + 1]] if w != v]
        taken = 0
        for w in around:
            taken |= seen[w]
        bit = ~taken & (taken + 1)
        if bit >= limit:
            return None
        for w in around:
            if not own[w] or bit < own[w]:
                seen[w] |= bit
        own[v], seen[v] = bit, bit | (seen[v] & (bit - 1))
    return own


def stars(order: Iterable[int], starts: list[int], cols: list[int], limit: int) -> list[int] | None:
    """First fit where a path of four has three colours, and no more is asked; None where a bit reaches `limit`."""
    count = len(starts) - 1
    own, once, twice = [0] * count, [0] * count, [0] * count  # once, twice: colours around, around at least twice
    centres = [0] * count  # colours of the centres of those stars in which w is a leaf
    first: dict[tuple[int, int], int] = {}  # the first leaf of a colour around a centre
    for v in order:
        around = [w for w in cols[starts[v] : starts[v + 1]] if w != v]
        taken, leaves = 0, twice[v]
        for w in around:
            taken |= own[w] | centres[w]
            if own[w] & leaves:
                taken |= once[w]
        bit = ~taken & (taken + 1)
        if bit >= limit:
            return None
        own[v] = bit
        for w in around:
            if own[w] & leaves:
                centres[w] |= bit
            if not once[w] & bit:
                once[w] |= bit
                first[w, bit] = v
                continue
            if own[w]:
                centres[v] |= own[w]
                centres[first[w, bit]] |= own[w]
            twice[w] |= bit
    return own


def recovery(pattern: Pattern, star: Ints) -> Ints:
    """Where each entry of a symmetric matrix H is found in B = H·V: as ``row * colours + colour``, flat.

    (i, j) and (j, i) have one source between them, so that what is recovered is symmetric to the last bit.
    """
    count = count_of(star)
    sources = pattern.rows * count + star[pattern.cols]
    single = alone(sources)
    mirror = pattern.by_columns  # the k-th entry by columns is the mirror image of the k-th by rows
    if not np.all(single | single[mirror]):
        lost = np.argmin(single | single[mirror])
        raise ValueError(
            f"colours must let each entry be recovered, but entry ({pattern.rows[lost]}, {pattern.cols[lost]}) is never "
            "alone with its colour; leave colours out to have them made"
        )
    upper = pattern.rows <= pattern.cols  # the row of which is asked first, for both
    mine = np.where(upper, single, ~single[mirror])
    return np.where(mine, sources, sources[mirror])


def alone(sources: Ints) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which numbers occur once."""
    order = np.argsort(sources, kind="stable")
    fresh = np.append(np.diff(sources[order], prepend=-1) != 0, True)
    once = np.empty(sources.shape, dtype=np.bool_)
    once[order] = fresh[:-1] & fresh[1:]
    return once
