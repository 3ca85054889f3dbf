"""Which second differences a sparse Hessian needs, and where each of its entries is found in them.

Of one value of f, every entry of the pattern has a line or a pair of lines of its own.  Of terms, whose sum is the objective, the
columns are coloured: in every term a line moves one parameter at most, so that what two lines give there is an entry of the
Hessian of that term, over the sizes of two parameters.  The Hessian is their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.directions import Lines, Tangents
from arraydiff.pairs import Pairs
from arraydiff.problem import Problem
from arraydiff.result import SMALL_SHARE, Status
from arraydiff.sparse.compressed import Entries
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.sums import Stretches


@dataclass(frozen=True, eq=False)
class Items:
    """Entries of the Hessian of each term, i <= j, term by term."""

    term: Ints
    i: Ints
    j: Ints

    @classmethod
    def of_value(cls, pattern: Pattern, moving: np.ndarray) -> Items:
        """Of a value alone: those of the pattern of its Hessian, each once."""
        mine = (pattern.rows <= pattern.cols) & moving[pattern.rows] & moving[pattern.cols]
        i, j = pattern.rows[mine], pattern.cols[mine]
        return cls(np.zeros(i.size, dtype=np.int64), i, j)

    @classmethod
    def of_terms(cls, pattern: Pattern, moving: np.ndarray) -> Items:
        """Each two parameters that a term depends on, and each with itself."""
        mine = moving[pattern.cols]
        rows, cols = pattern.rows[mine], pattern.cols[mine]
        ends = np.searchsorted(rows, rows, side="right")
        count = ends - np.arange(rows.size)  # of entries from this one to the end of its row
        first = np.repeat(np.arange(rows.size, dtype=np.int64), count)
        second = first + np.arange(first.size) - (np.cumsum(count) - count)[first]
        return cls(rows[first], cols[first], cols[second])

    def both_ways(self, n: int) -> Pattern:
        """Of the Hessian of the sum."""
        return Pattern.of((np.concatenate([self.i, self.j]), np.concatenate([self.j, self.i]), (n, n)))

    def diagonal(self) -> Items:
        """Those of one parameter with itself."""
        mine = self.i == self.j
        return Items(self.term[mine], self.i[mine], self.j[mine])


@dataclass(frozen=True, eq=False)
class Curved:
    """What is evaluated, and where its results go."""

    items: Items
    n: int
    lines: Ints  # (n,) the line that moves each parameter
    sizes: Array  # (n,) by how much it does at t = 1
    frame: Lines
    direction: Array | None = None  # (n,) of the check

    @cached_property
    def count(self) -> int:
        """How many lines."""
        return self.frame.count

    def framed(self, problem: Problem) -> Lines:
        """The lines, of the problem or of the same one on the host."""
        return posed(self.frame, problem)

    def beside(self, problem: Problem) -> Lines:
        """The direction of the check."""
        assert self.direction is not None
        return posed(Tangents(self.frame.problem, self.direction[:, None]), problem)

    @cached_property
    def _numbered(self) -> tuple[Ints, Ints]:
        """Pairs of lines as numbers, those that meet in an item, and which one each item has; -1: one line alone."""
        one, other = self.lines[self.items.i], self.lines[self.items.j]
        keys = np.minimum(one, other) * self.count + np.maximum(one, other)
        apart = one != other
        used, place = np.unique(keys[apart], return_inverse=True)
        number = np.full(keys.size, -1, dtype=np.int64)
        number[apart] = place
        return used, number

    @cached_property
    def pairs(self) -> Pairs:
        """Of lines that meet in an item."""
        used, _ = self._numbered
        return Pairs(tuple((used // max(self.count, 1)).tolist()), tuple((used % max(self.count, 1)).tolist()))

    @cached_property
    def places(self) -> Ints:
        """Of each item in what pairs gave, then lines, (terms, pairs + lines), flat."""
        _, number = self._numbered
        column = np.where(number < 0, self.pairs.count + self.lines[self.items.i], number)
        return self.items.term * (self.pairs.count + self.count) + column

    @cached_property
    def by_entry(self) -> tuple[Ints, Stretches, Ints, Ints]:
        """The items sorted by entry, how many each entry has, and its row and column."""
        keys = self.items.i * self.n + self.items.j
        order = np.argsort(keys, kind="stable")
        entries, counts = np.unique(keys, return_counts=True)
        return order, Stretches(counts), entries // max(self.n, 1), entries % max(self.n, 1)


def posed(lines: Lines, problem: Problem) -> Lines:
    """The same lines of a problem that is that of the lines, or is it on the host."""
    if problem.backend is lines.problem.backend:
        return replace(lines, problem=problem)  # type: ignore[type-var]
    return lines.posed(problem)


def entries_of(here: Backend, curved: Curved, pattern: Pattern, sizes: Array, parts: Sequence[Array]) -> Entries:
    """Of the pattern of the Hessian: sums over terms of values, bars and flags (terms, pairs + lines)."""
    xp, (order, stretches, rows, cols) = here.xp, curved.by_entry
    index = here.indices(curved.places[order])
    values, error, status = (xp.take(xp.reshape(part, (-1,)), index) for part in parts)
    area = xp.take(sizes, here.indices(rows)) * xp.take(sizes, here.indices(cols))
    values = stretches.summed(here, values) / area
    error = stretches.summed(here, error) / xp.abs(area)  # bars of terms that err alike add up
    status = stretches.joined(here, status, xp.bitwise_or)
    last = rows.size
    diagonal = np.full(curved.n, last, dtype=np.int64)
    diagonal[rows[rows == cols]] = np.flatnonzero(rows == cols)
    none = xp.zeros((1,), dtype=values.dtype, device=here.device)
    root = xp.sqrt(xp.abs(xp.take(xp.concat([values, none]), here.indices(diagonal))))
    root = xp.where(xp.isfinite(root), root, xp.zeros_like(root))
    floor = SMALL_SHARE * xp.take(root, here.indices(rows)) * xp.take(root, here.indices(cols))  # as in a minimum
    fixed = xp.full((1,), int(Status.FIXED), dtype=status.dtype, device=here.device)
    keys, wanted = rows * curved.n + cols, np.minimum(pattern.rows, pattern.cols)
    wanted = wanted * curved.n + np.maximum(pattern.rows, pattern.cols)
    slots = np.searchsorted(keys, wanted)
    known = slots < last
    known[known] = keys[slots[known]] == wanted[known]
    back = here.indices(np.where(known, slots, last))
    whole = ((values, none), (error, none), (status, fixed), (floor, none))
    return Entries(*(xp.take(xp.concat(list(pair)), back) for pair in whole))


def along(here: Backend, curved: Curved, ratio: Array, parts: Sequence[Array]) -> tuple[Array, Array, Array]:
    """Of each term its second derivative along a direction, by its entries, the sum of their sizes, and that of bars.

    `ratio` (n,) is the direction over the sizes by which lines move each parameter.
    """
    xp, items = here.xp, curved.items
    times = xp.take(ratio, here.indices(items.i)) * xp.take(ratio, here.indices(items.j))
    times = times * here.asarray(np.where(items.i == items.j, 1.0, 2.0), times.dtype)
    return _by_term(here, items.term, curved.places, times, parts)


def sloping(here: Backend, curved: Curved, ratio: Array, parts: Sequence[Array]) -> tuple[Array, Array, Array]:
    """The same of its first derivative, by its slopes along the lines (terms, lines)."""
    items = curved.items.diagonal()
    places = items.term * curved.count + curved.lines[items.i]
    return _by_term(here, items.term, places, here.xp.take(ratio, here.indices(items.i)), parts)


def _by_term(
    here: Backend, term: Ints, places: Ints, times: Array, parts: Sequence[Array]
) -> tuple[Array, Array, Array]:
    """(terms,) sums of items, times a factor each: values, their sizes, bars."""
    xp, index = here.xp, here.indices(places)
    values, error = (xp.take(xp.reshape(part, (-1,)), index) for part in parts[:2])
    terms, counts = np.unique(term, return_counts=True)
    slots = np.full(int(parts[0].shape[0]), terms.size, dtype=np.int64)
    slots[terms] = np.arange(terms.size)
    stretches, none = Stretches(counts), xp.zeros((1,), dtype=values.dtype, device=here.device)
    sums, back = (values * times, xp.abs(values * times), error * xp.abs(times)), here.indices(slots)
    one, two, three = (xp.take(xp.concat([stretches.summed(here, part), none]), back) for part in sums)
    return one, two, three
