"""Columns that may be moved together: no row sees two of one colour, so that each entry can be told from the sum.

Curtis, Powell & Reid, J. Inst. Maths Applics 13 (1974) 117; Gebremedhin, Manne & Pothen, SIAM Review 47 (2005) 629.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from arraydiff.sparse.clashes import checked, numbered
from arraydiff.sparse.greedy import Lists, by_saturation, first_fit, largest_first, numbers
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.repeating import modular, repeating
from arraydiff.sparse.search import one_fewer
from arraydiff.sparse.star import recovery, restricted, stars

__all__ = ["checked", "coloured", "recovery", "star_coloured"]

WORK = 2_500_000
"""Steps, each of a column in a row of another, that orders by saturation may take: half a second, and no clock is asked."""

MOST_STARTS = 3
"""Of orders by saturation; then the search for one colour fewer gains more than another start."""

SEARCH = 500_000
"""Steps that this search may take: about a sixth of a second. What it finds it mostly finds in a tenth of that."""

SEARCHES = 30
"""Of a small pattern it may take so many times the steps of one order by saturation."""

FEWEST = 3
"""Colours of a star colouring, unless the graph itself is but stars: any path of four has as many."""

SEED = 20_240_229
"""Of the starts and the hashes: the same pattern always gets the same colours."""


def coloured(pattern: Pattern) -> Ints:
    """A colour for each column, -1 where it has no entry; two columns with an entry in one row differ.

    Attempts from cheap to dear, until one needs as many colours as the longest row has entries: none can do with fewer.
    """
    bound = int(pattern.lengths.max(initial=0))
    repeated = modular(pattern, max(bound, 1))  # bands need no more
    if repeated is not None:
        return numbered(pattern, repeated)
    core = _core(pattern)
    repeated = repeating(core, [max(bound, 1)])
    if repeated is not None:
        return numbered(pattern, repeated)
    best = numbers(_fewest(core, bound))
    repeated = repeating(core, range(bound + 1, int(best.max(initial=0)) + 1))
    return numbered(pattern, best if repeated is None else repeated)


def _core(pattern: Pattern) -> Pattern:
    """The rows that count: of several equal ones the first, and none of a single entry."""
    several = np.flatnonzero(pattern.lengths > 1)
    rows = pattern.rows_of(several)
    if not several.size:
        return rows
    weights = np.random.default_rng(SEED).integers(2**63, size=pattern.shape[1], dtype=np.int64)
    with np.errstate(over="ignore"):
        hashes = np.add.reduceat(weights[rows.cols], rows.indptr[:-1])
    _, first, twin = np.unique(hashes, return_index=True, return_inverse=True)
    if first.size == several.size:
        return rows
    stand_in = rows.rows_of(first[twin])
    equal = stand_in.nnz == rows.nnz and np.array_equal(stand_in.cols, rows.cols)
    equal = equal and np.array_equal(stand_in.lengths, rows.lengths)
    return rows.rows_of(np.sort(first)) if equal else rows  # unequal rows with one hash: merge none


def _fewest(core: Pattern, bound: int) -> list[int]:
    """The best of several greedy attempts, and what a search makes of it, as bits."""
    lists, steps = Lists.of(core), max(int(np.sum(core.lengths**2)), 1)
    best: list[int] | None = None
    for bits in _attempts(core, lists, min(MOST_STARTS, WORK // steps)):
        best = bits if best is None or max(bits) < max(best) else best
        if max(best) < 1 << bound:
            return best
    assert best is not None
    work = min(SEARCH, SEARCHES * steps)
    while max(best) >= 1 << bound:
        better, work = one_fewer(lists, best, work)
        if better is None:
            break
        best = better
    return best


def _attempts(core: Pattern, lists: Lists, starts: int) -> Iterator[list[int]]:
    width = core.shape[1]
    order, generator = largest_first(core), np.random.default_rng(SEED)
    yield first_fit(lists, range(width))
    yield first_fit(lists, order.tolist())
    for _ in range(starts):
        yield by_saturation(lists, order.tolist())
        order = generator.permutation(width)


def star_coloured(pattern: Pattern) -> Ints:
    """Colours of a symmetric pattern with which each entry is recovered directly, as (i, j) or as (j, i).

    Each attempt is given up as soon as it needs as many colours as the best.
    """
    if not pattern.symmetric:
        raise ValueError(
            "a star colouring wants a symmetric pattern: pass that of the Hessian with (j, i) for each (i, j), or take "
            "colours, which need no symmetry"
        )
    starts, cols = pattern.indptr.tolist(), pattern.cols.tolist()
    best, limit = [0] * pattern.shape[1], 1 << pattern.shape[1]
    for colour, order in _star_attempts(pattern):
        bits = colour(order.tolist(), starts, cols, limit)
        if bits is not None:
            best, limit = bits, max(bits, default=0)
        if limit < 1 << FEWEST:
            break
    return numbered(pattern, numbers(best))


def _star_attempts(pattern: Pattern) -> Iterator[tuple[Callable[..., list[int] | None], Ints]]:
    hubs = np.argsort(-pattern.lengths, kind="stable")
    yield restricted, hubs
    yield stars, hubs
    by_colour = np.argsort(coloured(pattern), kind="stable")  # then it needs no more than the columns do
    yield stars, by_colour
    yield restricted, by_colour
    yield restricted, np.arange(pattern.shape[1], dtype=np.int64)
