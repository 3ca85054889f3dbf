"""A pattern held to f at a point: do its entries explain how each row changes along random directions, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arraydiff.seam import Asking
from arraydiff.sparse.clashes import count_of
from arraydiff.sparse.colouring import coloured
from arraydiff.sparse.grouping import NONE, Entries
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.places import PLAIN, Flags, Floats, Place, Seeds, moves, random_sizes
from arraydiff.sparse.sketch import CURVATURE, Step

FIRST = 2
"""Numbers the random directions, other than those that entries were found by."""

DIRECTIONS = 4
"""Of them tell one missing entry among all columns: its slope, its column, and that it is the one."""

RANGE, WIDE_SHARE = 1e-3, 0.05
"""Of the largest entry of a row, and of the rows: where more have entries that small, all are looked at closely."""

SLOPE_ERROR = 1e-7
"""Relative, of the missing entry."""

MOST_PAIRS = 2**25
"""Rows times columns beyond which rows are not mended but searched."""


@dataclass(frozen=True, eq=False)
class Residual:
    """What entries leave unexplained of some rows along random directions."""

    pattern: Pattern  # of these rows
    colours: Ints  # (n,)
    slopes: Floats  # (R, p + directions)
    left: Floats  # (R, directions)
    tolerance: Floats  # (R, directions)

    @property
    def fails(self) -> Flags:
        """(R,) whether something is left along the first direction."""
        return ~(np.abs(self.left[:, 0]) <= self.tolerance[:, 0])

    @property
    def ranges(self) -> Flags:
        """(R,) whether the entries of a row differ so much that small ones drown in the error of a one-sided difference."""
        pattern, size = self.pattern, np.zeros(self.left.shape[0])
        entries = np.abs(self.slopes[pattern.rows, self.colours[pattern.cols]])
        np.maximum.at(size, pattern.rows, entries)
        small = entries < RANGE * size[pattern.rows]
        return np.bincount(pattern.rows, small, minlength=size.size) > 0


def failing(place: Place, pattern: Pattern) -> Asking[Ints]:
    """Rows that change along a random direction as their entries do not explain; one-sided first, which few then doubt."""
    rows = np.flatnonzero((pattern.lengths < place.free.size) & np.isfinite(place.value))
    if not rows.size:
        return rows
    noise = place.noise(rows)
    if noise <= PLAIN:
        t = 4 * noise**0.5
        residual = yield from _residual(place, pattern, rows, Step(t, False, CURVATURE * t), 1)
        if np.mean(residual.ranges) <= WIDE_SHARE:
            rows = rows[residual.fails]
    if rows.size:
        residual = yield from _residual(place, pattern, rows, Step.of(place, rows, closely=True), 1)
        rows = rows[residual.fails]
    return rows


def _residual(place: Place, pattern: Pattern, rows: Ints, step: Step, directions: int) -> Asking[Residual]:
    part, fixed = pattern.rows_of(rows), place.base == 0
    colours = coloured(part)
    ratios = [random_sizes(place.base.size, FIRST + number) for number in range(directions)]
    seeds = [
        Seeds(np.where(fixed, -1, colours), count_of(colours), [place.base]),
        Seeds(np.where(fixed, -1, 0), 1, [place.base * ratio for ratio in ratios]),
    ]
    slopes = yield from moves(place, seeds, rows, step.t, step.central)
    left, tolerance = np.empty((rows.size, directions)), np.empty((rows.size, directions))
    for number, ratio in enumerate(ratios):
        along = slopes[part.rows, colours[part.cols]] * ratio[part.cols]
        left[:, number] = slopes[:, number - directions] - np.bincount(part.rows, along, minlength=rows.size)
        error = 2 * step.error * np.bincount(part.rows, np.abs(along), minlength=rows.size)
        tolerance[:, number] = place.tolerance[rows] / step.t * (1 + np.sqrt(part.lengths)) + error
    return Residual(part, colours, slopes, left, tolerance)


def mended(place: Place, pattern: Pattern, rows: Ints) -> Asking[tuple[Entries, Ints]]:
    """The missing entry of rows that miss one alone, and the other rows.

    An entry (i, j) that the pattern lacks adds to the sum of its colour, and so to what is read as the entry k of that
    colour: along direction r the row is off by its slope times r_j - r_k.  Several directions tell j.
    """
    n = place.base.size
    if rows.size * n > MOST_PAIRS:
        return NONE, rows
    step = Step.of(place, rows, closely=True)
    residual = yield from _residual(place, pattern, rows, step, DIRECTIONS)
    ratios = np.stack([random_sizes(n, FIRST + number) for number in range(DIRECTIONS)])
    found = [_missing(residual, row, ratios, place.base != 0) for row in range(rows.size)]
    told = np.flatnonzero(np.array(found) >= 0)
    return (rows[told], np.array(found)[told]), np.setdiff1d(rows, rows[told])


def _missing(residual: Residual, row: int, ratios: Floats, free: Flags) -> int:
    """The one column that explains what is left of a row; -1 where none does, or several."""
    pattern, colours = residual.pattern, residual.colours
    mine = pattern.cols[pattern.indptr[row] : pattern.indptr[row + 1]]
    taken = np.zeros((ratios.shape[0], count_of(colours) + 1))  # the last: of columns without a colour
    taken[:, colours[mine]] = ratios[:, mine]
    way = ratios - taken[:, colours]
    left, tolerance = residual.left[row], residual.tolerance[row]
    with np.errstate(all="ignore"):
        slope = (left @ way) / np.sum(way**2, axis=0)
        off = np.max(np.abs(left[:, None] - slope * way) / (tolerance[:, None] + np.abs(slope) * SLOPE_ERROR), axis=0)
    off[mine], off[~free] = np.inf, np.inf
    fits = np.flatnonzero(off <= 1)
    return int(fits[0]) if fits.size == 1 else -1
