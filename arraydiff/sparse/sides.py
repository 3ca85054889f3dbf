"""A Jacobian read on both sides where f was recorded: entries of long rows off uᵀ·J, all others off J·v."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.result import SMALL_SHARE, Status
from arraydiff.seam import Prepared
from arraydiff.sparse.compressed import Entries
from arraydiff.sparse.order import Order
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.sums import Stretches
from arraydiff.sparse.two_sided import TwoSided


@dataclass(frozen=True, eq=False)
class Sides:
    """Where each entry of a pattern is read."""

    pattern: Pattern
    order: Order  # of entries that directions give
    rows: Order  # of the others, transposed, by the cotangents that give them
    places: Ints  # in (those of directions, those of cotangents by the order of these), of each entry of the pattern

    @classmethod
    def of(cls, found: TwoSided) -> Sides:
        """Of these colours."""
        pattern, by_rows = found.pattern, found.by_rows
        mine, theirs = np.flatnonzero(~by_rows), pattern.by_columns[by_rows[pattern.by_columns]]
        order = Order(Pattern(pattern.rows[mine], pattern.cols[mine], pattern.shape), found.columns)
        rows = Order(Pattern(pattern.cols[theirs], pattern.rows[theirs], pattern.shape[::-1]), found.rows)
        places = np.empty(pattern.nnz, dtype=np.int64)
        places[mine] = np.arange(mine.size)
        places[theirs[rows.entries]] = mine.size + np.arange(theirs.size)
        return cls(pattern, order, rows, places)

    @property
    def count(self) -> int:
        """Directions and cotangents together."""
        return self.order.count + self.rows.count

    @property
    def told(self) -> str:
        """How many products of each kind, in words."""
        return f"{counted(self.order.count, 'direction')} and {counted(self.rows.count, 'cotangent')}"

    @cached_property
    def _stretches(self) -> tuple[Stretches, Ints]:
        """Rows that have entries, and the number of each row among them."""
        some = self.pattern.lengths > 0
        return Stretches(self.pattern.lengths[some]), np.cumsum(some) - 1

    def largest(self, here: Backend, sizes: Array) -> Array:
        """(nnz,) of each entry the largest of its row."""
        stretches, number = self._stretches
        if not self.pattern.nnz:
            return sizes
        return here.xp.take(stretches.joined(here, sizes, here.xp.maximum), here.indices(number[self.pattern.rows]))


def counted(count: int, what: str) -> str:
    """So many of them, in words."""
    return f"{count} {what}{'s' * (count != 1)}"


def joined(
    here: Backend, prepared: Prepared, sides: Sides, value: Array, free: np.ndarray, mine: Entries
) -> tuple[Entries, Ints]:
    """All entries: `mine`, which directions gave, and those of cotangents; and which of these are not what they should be.

    These are not finite though f(x), `value` (m,), is: the derivative of the code is not, or is one of several.
    """
    xp, dtype = here.xp, mine.values.dtype
    row_of, column_of = sides.rows.cols, sides.rows.rows  # of the transposed pattern
    values, error = _pulled(here, prepared, sides, value.dtype, dtype)
    lost = here.xp.take(~xp.isfinite(value), here.indices(row_of))
    still = here.asarray(~free[column_of], xp.bool)
    bad = ~(lost | still | xp.isfinite(values))
    values = xp.where(lost, xp.full_like(values, float("nan")), values)
    error = xp.where(lost | ~xp.isfinite(values), xp.full_like(error, float("inf")), error)
    status = xp.zeros_like(values, dtype=xp.int16)
    status = xp.where(lost | bad, xp.full_like(status, int(Status.FAILED)), status)
    status = xp.where(still, xp.full_like(status, int(Status.FIXED)), status)
    values, error = (xp.where(still, xp.zeros_like(part), part) for part in (values, error))
    back = here.indices(sides.places)
    pairs = (mine.values, values), (mine.error, error), (mine.status, status), (mine.floor, xp.zeros_like(values))
    entries = Entries(*(xp.take(xp.concat(list(pair)), back) for pair in pairs))
    if here.counts(bad) == [0]:
        return entries, np.zeros(0, dtype=np.int64)
    marks = np.concatenate([np.zeros(int(mine.values.shape[0]), dtype=np.bool_), here.as_numpy(bad).astype(np.bool_)])
    return entries, np.flatnonzero(marks[sides.places])


def _pulled(here: Backend, prepared: Prepared, sides: Sides, kind: Any, dtype: Any) -> tuple[Array, Array]:
    """Values and bars of the entries of cotangents, in the order of these."""
    assert prepared.pullback is not None
    xp, order, parts = here.xp, sides.rows, []
    for line in range(order.count):
        row, bars = prepared.pullback(here.asarray((order.lines == line).astype(np.float64), kind))
        mine = here.indices(order.rows[order.of(line)])
        parts.append([xp.astype(xp.take(part, mine), dtype) for part in (row, bars)])
    values, error = (xp.concat(list(part)) for part in zip(*parts, strict=True))
    return values, error


def with_floors(here: Backend, sides: Sides, sizes: Array, entries: Entries) -> Entries:
    """The same, where each entry counts beside what others of its row do when they move by their sizes (n,)."""
    xp = here.xp
    far = xp.take(xp.abs(sizes), here.indices(sides.pattern.cols))
    does = xp.abs(entries.values) * far
    does = xp.where(xp.isfinite(does), does, xp.zeros_like(does))
    floor = SMALL_SHARE * sides.largest(here, does) / far
    return Entries(entries.values, entries.error, entries.status, floor)
