"""Colours for a symmetric matrix: each entry is alone with its colour in its own row, or in that of its mirror image.

Restricted star colouring: Gebremedhin, Manne & Pothen, SIAM Review 47 (2005) 629, section 4; direct recovery, no sums of errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from arraydiff.sparse.clashes import NO_COLOUR, numbered
from arraydiff.sparse.greedy import numbers
from arraydiff.sparse.pattern import Ints, Pattern


def star_coloured(pattern: Pattern) -> Ints:
    """A colouring of a symmetric pattern from which each entry is recovered directly, as (i, j) or as (j, i)."""
    if not pattern.symmetric:
        raise ValueError(
            "a star colouring wants a symmetric pattern: pass that of the Hessian with (j, i) for each (i, j), or take "
            "colours, which need no symmetry"
        )
    starts, cols = pattern.indptr.tolist(), pattern.cols.tolist()
    best: list[int] | None = None
    for order in _orders(pattern):
        attempt = _restricted(order, starts, cols, None if best is None else max(best))
        best = attempt or best
    assert best is not None
    return numbered(pattern, numbers(best))


def _orders(pattern: Pattern) -> Iterator[Iterable[int]]:
    yield np.argsort(-pattern.lengths, kind="stable").tolist()  # hubs first
    yield range(pattern.shape[1])


def _restricted(order: Iterable[int], starts: list[int], cols: list[int], limit: int | None) -> list[int] | None:
    """Of a path v - w - x whose ends share a colour, the middle has a lower one; None where bits reach `limit`."""
    count = len(starts) - 1
    own, seen = [0] * count, [0] * count  # seen: colours around; once w has its own, that one and those around below it
    for v in order:
        around = [w for w in cols[starts[v] : starts[v + 1]] if w != v]
        taken = 0
        for w in around:
            taken |= seen[w]
        bit = ~taken & (taken + 1)
        if limit is not None and bit >= limit:
            return None
        for w in around:
            if not own[w] or bit < own[w]:
                seen[w] |= bit
        own[v], seen[v] = bit, bit | (seen[v] & (bit - 1))
    return own


def recovery(pattern: Pattern, star: Ints) -> Ints:
    """Where each entry of a symmetric matrix H is found in B = H·V: as ``row * colours + colour``, flat.

    (i, j) and (j, i) have one source between them, so that what is recovered is symmetric to the last bit.
    """
    count = int(star.max(initial=NO_COLOUR)) + 1
    sources = pattern.rows * count + star[pattern.cols]
    alone = _alone(sources)
    mirror = pattern.by_columns  # the k-th entry by columns is the mirror image of the k-th by rows
    if not np.all(alone | alone[mirror]):
        lost = np.argmin(alone | alone[mirror])
        raise ValueError(
            f"colours must let each entry be recovered, but entry ({pattern.rows[lost]}, {pattern.cols[lost]}) is never "
            "alone with its colour; leave colours out to have them made"
        )
    upper = pattern.rows <= pattern.cols  # the row of which is asked first, for both
    return np.where(np.where(upper, alone, ~alone[mirror]), sources, sources[mirror])


def _alone(sources: Ints) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which numbers occur once."""
    order = np.argsort(sources, kind="stable")
    fresh = np.append(np.diff(sources[order], prepend=-1) != 0, True)
    alone = np.empty(sources.shape, dtype=np.bool_)
    alone[order] = fresh[:-1] & fresh[1:]
    return alone
