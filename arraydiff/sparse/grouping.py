"""Group testing: blocks of parameters split in two, level by level, wherever f moved.

The blocks that one row still asks about are moved apart; those of rows that do not see each other's blocks share an
evaluation.  A row of d entries costs 2 d log2 n evaluations, whatever the number of rows; it needs no more of a value than
whether it moved.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from arraydiff.seam import Asking
from arraydiff.sparse.colouring import coloured
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.places import Flags, Floats, Place, Seeds, moves

FIRST_BLOCKS = 8
"""At the first level: one evaluation each."""

DENSE_BLOCKS = 256
"""Blocks at which a row is asked whether it is dense."""

DENSE_SHARE = 0.5
"""Of these blocks: a row that sees more of them is stored whole; it has n directions for itself anyway."""

SAMPLED = 64
"""Of these blocks that are looked at where density alone is in question."""

LEAST_SIZE_DENSE = 4
"""Parameters a block, below which blocks say little of density."""

Entries = tuple[Ints, Ints]
"""Rows and columns of entries."""

NONE: Entries = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def step_of(place: Place, rows: Ints) -> float:
    """The t of a move that is only to be seen: large, since nothing is made of its size."""
    return float(min(4 * place.noise(rows) ** (1 / 3), 2.0**-6))


def hot(place: Place, labels: Ints, count: int, rows: Ints, sizes: Floats | None = None) -> Asking[Flags]:
    """(rows, count) whether a row moves with the parameters of each label; failing counts as moving."""
    t = step_of(place, rows)
    seeds = Seeds(labels, count, [place.base if sizes is None else sizes])
    slopes = yield from moves(place, [seeds], rows, t)
    return ~(np.abs(slopes) * t <= place.tolerance[rows][:, None])


def by_columns(place: Place, rows: Ints, sizes: Floats | None = None) -> Asking[Entries]:
    """Each parameter alone."""
    free = place.free
    labels = np.full(place.base.size, -1, dtype=np.int64)
    labels[free] = np.arange(free.size)
    if not free.size:
        return NONE
    there = yield from hot(place, labels, free.size, rows, sizes)
    found, columns = np.nonzero(there)
    return rows[found], free[columns]


def whole(place: Place, rows: Ints) -> Entries:
    """Rows that may depend on every parameter."""
    free = place.free
    return np.repeat(rows, free.size), np.tile(free, rows.size)


def dense_among(place: Place, rows: Ints) -> Asking[Ints]:
    """Which of these rows see most of a sample of small blocks: places in `rows`."""
    n = place.base.size
    if n < LEAST_SIZE_DENSE * DENSE_BLOCKS or not rows.size:
        return NONE[0]
    sampled = np.arange(SAMPLED) * DENSE_BLOCKS // SAMPLED
    number = np.full(DENSE_BLOCKS, -1, dtype=np.int64)
    number[sampled] = np.arange(SAMPLED)
    labels = number[np.arange(n) * DENSE_BLOCKS // n]
    there = yield from hot(place, np.where(place.base == 0, -1, labels), SAMPLED, rows)
    return np.flatnonzero(np.mean(there, axis=1) > DENSE_SHARE)


def grouped(place: Place, rows: Ints, sizes: Floats | None = None) -> Asking[Entries]:
    """All entries of some rows."""
    n = place.base.size
    shift = max(n - 1, 0).bit_length() - (FIRST_BLOCKS - 1).bit_length()
    if shift <= 0 or not rows.size:
        return (yield from by_columns(place, rows, sizes)) if rows.size else NONE
    blocks = (n - 1 >> shift) + 1
    row, block = (part.ravel() for part in np.meshgrid(np.arange(rows.size), np.arange(blocks), indexing="ij"))
    found: list[Entries] = []
    while True:
        row, block = yield from _tested(place, rows, row, block, shift, sizes)
        if shift == 0:
            found.append((rows[row], block))
            break
        if blocks >= DENSE_BLOCKS and n >= LEAST_SIZE_DENSE * DENSE_BLOCKS:
            dense = np.bincount(row, minlength=rows.size) > DENSE_SHARE * blocks
            found.append(whole(place, rows[np.flatnonzero(dense)]))
            row, block = row[~dense[row]], block[~dense[row]]
        step = _levels(row, blocks, shift, n)
        shift, blocks = shift - step, (n - 1 >> shift - step) + 1
        row, block = _split(row, block, step, blocks)
    return np.concatenate([one for one, _ in found]), np.concatenate([other for _, other in found])


def _levels(row: Ints, blocks: int, shift: int, n: int) -> int:
    """How many levels down to go: one, but straight to where density shows for a row that looks dense."""
    fullest = np.max(np.bincount(row), initial=0)
    if fullest <= DENSE_SHARE * blocks or blocks >= DENSE_BLOCKS:
        return 1
    if n < LEAST_SIZE_DENSE * DENSE_BLOCKS:
        return shift
    return max(1, min(shift, (DENSE_BLOCKS // blocks).bit_length() - 1))


def _split(row: Ints, block: Ints, step: int, blocks: int) -> Entries:
    """Each block in 2**step parts, those that exist."""
    parts = ((block << step)[:, None] + np.arange(1 << step)[None, :]).ravel()
    row = np.repeat(row, 1 << step)
    there = parts < blocks
    return row[there], parts[there]


def _tested(place: Place, rows: Ints, row: Ints, block: Ints, shift: int, sizes: Floats | None) -> Asking[Entries]:
    """Those of the pairs of a row and a block that the row moves with."""
    if not row.size:
        return NONE
    asked = np.unique(row)
    number = np.searchsorted(asked, row)
    n = place.base.size
    pairs = Pattern.of((number, block, (asked.size, (n - 1 >> shift) + 1)))
    colours = coloured(pairs)
    labels = np.where(place.base == 0, -1, colours[np.arange(n) >> shift])
    there = yield from hot(place, labels, int(colours.max()) + 1, rows[asked], sizes)
    kept = there[pairs.rows, colours[pairs.cols]]
    if shift == 0:  # a fixed parameter shares its evaluation with others
        kept &= place.base[pairs.cols] != 0
    return asked[pairs.rows[kept]], pairs.cols[kept]


Searching = Callable[[Place, Ints], Asking[Entries]]
"""A way to all entries of some rows."""
