"""Colours of columns and of rows at once, for products J·v and uᵀ·J: dense rows are read along rows, dense columns along columns.

An entry is determined directly: it is the only one of its row with the colour of its column, or the only one of its column with
the colour of its row.  Coleman & Verma, SIAM J. Sci. Comput. 19 (1998) 1210; Gebremedhin, Manne & Pothen, SIAM Review 47 (2005)
629, section 6; as a star colouring of (0 J; Jᵀ 0), of which only the centres of stars are moved: Montoison, Dalle & Gebremedhin,
arXiv:2505.07308.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from arraydiff.sparse.clashes import NO_COLOUR, count_of
from arraydiff.sparse.colouring import coloured
from arraydiff.sparse.greedy import numbers
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.star import alone, restricted

Flags = np.ndarray

MOST_SPLITS = 4
"""Lengths of rows, and of columns, from which on they are tried on their own side: the most promising ones."""

STAR_ENTRIES = 300_000
"""Up to which stars are tried too: half a second."""

FEWEST = 3
"""Colours that stars are not tried beside: they would save one at most."""

PULLBACK = 1.5
"""What uᵀ·J costs, in products J·v."""

WORTH = 0.5
"""Of what the columns alone cost: what two sides must promise, since colouring them takes its time."""


@dataclass(frozen=True, eq=False)
class TwoSided:
    """Which columns and which rows are moved together, and on which side each entry is read."""

    pattern: Pattern
    columns: Ints  # (n,) colours; -1: not moved
    rows: Ints  # (m,)
    by_rows: Flags  # (nnz,) whether an entry is read in uᵀ·J, of the colour of its row

    @property
    def count(self) -> int:
        """Directions and cotangents together."""
        return count_of(self.columns) + count_of(self.rows)

    @property
    def cost(self) -> float:
        """Of its products, in products J·v."""
        return count_of(self.columns) + PULLBACK * count_of(self.rows)

    @property
    def turned(self) -> TwoSided:
        """Of the transposed pattern."""
        flat = self.pattern.by_columns
        return TwoSided(self.pattern.transposed, self.rows, self.columns, ~self.by_rows[flat])


def promised(pattern: Pattern) -> float:
    """What two sides cost at best, by the lengths of rows and columns: nothing is coloured."""
    turned = pattern.transposed
    bounds = [cost for way in (False, True) for cost, _ in _bounds(turned if way else pattern, way)]
    return min([PULLBACK * int(turned.lengths.max(initial=0)), *bounds])


def two_sided(pattern: Pattern, columns: Ints | None = None) -> TwoSided:
    """The cheapest colours found: no dearer than those of the columns alone, which may be given, or of the rows alone."""
    turned = pattern.transposed
    sides = _of_columns(pattern, columns), _of_columns(turned).turned
    best = min(sides, key=lambda one: one.cost)
    for way in (False, True):
        for found in _peeled(turned if way else pattern, best.cost, way):
            best = _cheaper(best, found)
    if best.count <= FEWEST or pattern.nnz > STAR_ENTRIES:
        return best
    starry = _of_stars(pattern, best.count)
    return best if starry is None else _cheaper(best, starry)


def _cheaper(best: TwoSided, found: TwoSided) -> TwoSided:
    return found if found.cost < best.cost else best


def _of_columns(pattern: Pattern, columns: Ints | None = None) -> TwoSided:
    """All by columns."""
    rows = np.full(pattern.shape[0], NO_COLOUR, dtype=np.int64)
    columns = coloured(pattern) if columns is None else columns
    return TwoSided(pattern, columns, rows, np.zeros(pattern.nnz, dtype=np.bool_))


def _peeled(pattern: Pattern, best: float, turned: bool) -> Iterator[TwoSided]:
    """The longest rows by themselves, all others by columns; where that may cost less than `best`.

    Of a pattern that is `turned` the rows are columns.
    """
    splits = [(bound, length) for bound, length in _bounds(pattern, turned) if bound < best]
    for bound, length in sorted(splits)[:MOST_SPLITS]:
        if bound >= best:
            return
        long = pattern.lengths > length
        dense, others = np.flatnonzero(long), np.flatnonzero(~long)
        rows = np.full(pattern.shape[0], NO_COLOUR, dtype=np.int64)
        rows[dense] = coloured(pattern.rows_of(dense).transposed)
        found = trimmed(pattern, coloured(pattern.rows_of(others)), rows)
        found = found.turned if turned else found
        best = min(best, found.cost)
        yield found


def _bounds(pattern: Pattern, turned: bool) -> Iterator[tuple[float, int]]:
    """Lengths of rows, and before each what it costs at least if longer ones go by themselves: their columns, and that length."""
    lengths, weights = pattern.lengths, (PULLBACK, 1.0) if turned else (1.0, PULLBACK)
    order = np.argsort(-lengths, kind="stable")
    steps = np.flatnonzero(np.diff(lengths[order])) + 1  # where a shorter one comes
    counts, most, start = np.zeros(pattern.shape[1], dtype=np.int64), 0, 0
    for stop in steps.tolist():
        cols = pattern.rows_of(order[start:stop]).cols
        np.add.at(counts, cols, 1)
        most, start = max(most, int(counts[cols].max(initial=0))), stop
        length = int(lengths[order[stop]])
        yield weights[0] * length + weights[1] * most, length


def _of_stars(pattern: Pattern, best: int) -> TwoSided | None:
    """By a star colouring of the graph of rows and columns; None where it takes far more than `best`."""
    m, n = pattern.shape
    one, other = np.concatenate([pattern.cols, pattern.rows + n]), np.concatenate([pattern.rows + n, pattern.cols])
    graph = Pattern.of((one, other, (m + n, m + n)))
    hubs = np.argsort(-graph.lengths, kind="stable")
    bits = restricted(hubs.tolist(), graph.indptr.tolist(), graph.cols.tolist(), 1 << (2 * best))
    if bits is None:
        return None
    colours = numbers(bits)
    return trimmed(pattern, colours[:n], colours[n:])


def determined(pattern: Pattern, colours: Ints) -> Flags:
    """(nnz,) whether each entry is the only one of its row with the colour of its column."""
    hues = colours[pattern.cols]
    moved = np.flatnonzero(hues != NO_COLOUR)
    flags = np.zeros(pattern.nnz, dtype=np.bool_)
    flags[moved] = alone(pattern.rows[moved] * count_of(colours) + hues[moved])
    return flags


def trimmed(pattern: Pattern, columns: Ints, rows: Ints) -> TwoSided:
    """The same colours without those that no entry needs: first go those for entries that the other side tells as well.

    Raises
    ------
    ValueError
        Some entry is determined on neither side.
    """
    turned, back = pattern.transposed, np.empty(pattern.nnz, dtype=np.int64)
    back[pattern.by_columns] = np.arange(pattern.nnz)
    told = determined(pattern, columns), determined(turned, rows)[back]
    if not np.all(told[0] | told[1]):
        lost = int(np.argmin(told[0] | told[1]))
        raise ValueError(
            f"colours must let each entry be recovered, but entry ({pattern.rows[lost]}, {pattern.cols[lost]}) is alone with "
            "neither that of its column nor that of its row; leave colours out to have them made"
        )
    hues = columns[pattern.cols], rows[pattern.rows]
    kept = [np.zeros(count_of(colours), dtype=np.bool_) for colours in (columns, rows)]
    for mine in (0, 1):
        kept[mine][hues[mine][told[mine] & ~told[1 - mine]]] = True
    while True:
        read = [told[side] & _marked(kept[side], hues[side]) for side in (0, 1)]
        open_ = ~(read[0] | read[1])
        if not open_.any():
            break
        gains = [np.bincount(hues[side][open_], minlength=kept[side].size) for side in (0, 1)]
        side = int(gains[1].max(initial=0) > gains[0].max(initial=0))
        kept[side][np.argmax(gains[side])] = True
    by_rows = ~read[0]
    left = (
        _numbered(columns, np.unique(pattern.cols[~by_rows])),
        _numbered(rows, np.unique(pattern.rows[by_rows])),
    )
    return TwoSided(pattern, *left, by_rows)


def _marked(kept: Flags, hues: Ints) -> Flags:
    """Whether each entry has a colour that is kept."""
    return np.append(kept, False)[hues]  # NO_COLOUR is the last


def _numbered(colours: Ints, moved: Ints) -> Ints:
    """Those of what is moved, without gaps."""
    anew = np.full(colours.shape, NO_COLOUR, dtype=np.int64)
    anew[moved] = np.unique(colours[moved], return_inverse=True)[1]
    return anew
