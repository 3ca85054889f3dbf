"""The sketch: a row's few entries read off the sums over columns j mod 3, 4, 5, 7, ..., in a number of directions free of n.

The columns of one remainder move together, once alike and once by the digits of j // k on top: where a row has one entry
among them, the quotient names its column.  It is peeled off the other sums, where others then stand alone.  One random
direction confirms what was read.  After invertible Bloom lookup tables: Eppstein & Goodrich, IEEE Trans. Knowl. Data Eng. 23
(2011) 297.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from arraydiff.seam import Asking
from arraydiff.sparse.grouping import NONE, Entries, dense_among, whole
from arraydiff.sparse.pattern import Ints
from arraydiff.sparse.places import PLAIN, Flags, Floats, Place, Seeds, moves, random_sizes

MODULI = (3, 4, 5, 7, 9, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)
"""Nearly coprime: two columns that share a remainder of one share few others."""

SATURATED = 0.75
"""Share of the sums that a row may move with: beyond it few entries stand alone, and the digits are not asked for."""

LEAP = 1.3
"""Times the last modulus, where rows moved with all of its sums."""

DENSE_FROM = 17
"""Modulus from which a row that moves with every sum is asked whether it is dense."""

STALLED = 2
"""Tables in turn that did not help, after which other ways go on."""

LARGEST_BASE = 2**12
"""Digits are told as whole numbers up to this: entries of a millionth of their row are told from noise."""

RESOLVED = 0.02
"""Of a digit: what curvature may move it by."""

CURVATURE = 8.0
"""A one-sided difference is off by up to this many t, a central one by half as many t squared: f'' of that many f' over scale."""

ALLOWANCES = (0.125, 1.0, 16.0)
"""Of that error, in turn: with much of it two columns pass for one more often, with little a curved row is not read."""

LOOSE = 16.0
"""Of that error: the second confirmation is there for what passes the first by accident."""

CONVINCING = 0.9
"""Of the rows: fewer that look like a band are no band."""

WRONG_DIGIT = 0.25
"""A digit whose error may be larger is not told."""

MOST_GUESSES = 2**24
"""Columns of all rows that remainders are compared with."""

MOSTLY = 0.7
"""Of the rows: a table that leaves more of them open has not helped."""

ROUNDS = 64
"""Of peeling: each finds an entry a row at least."""


@dataclass(frozen=True)
class Step:
    """How far directions move, and what that costs in accuracy."""

    t: float
    central: bool
    error: float  # relative, of a difference

    @classmethod
    def of(cls, place: Place, rows: Ints, closely: bool) -> Step:
        """One-sided where f is exact to rounding, unless it is to be looked at closely."""
        noise = place.noise(rows)
        if closely or noise > PLAIN:
            t = min(4 * noise ** (1 / 3), 2.0**-5)
            return cls(t, True, CURVATURE / 2 * t * t)
        t = 64 * noise**0.5
        return cls(t, False, CURVATURE * t)


@dataclass(frozen=True, eq=False)
class Table:
    """The sums over columns j mod k of some rows."""

    k: int
    base: int
    digits: int
    plain: Floats  # (R, k)
    weighted: Floats | None = None  # (digits, R, k) each column weighted by 1 + digit / base

    def rows(self, which: Ints) -> Table:
        """The sums of some of the rows."""
        weighted = None if self.weighted is None else self.weighted[:, which, :]
        return replace(self, plain=self.plain[which], weighted=weighted)

    def weight(self, columns: Ints, digit: int) -> Floats:
        """1 + digit / base of some columns."""
        weight: Floats = 1 + (columns // self.k // self.base**digit % self.base) / self.base
        return weight


def digits_for(n: int, k: int, step: Step) -> tuple[int, int]:
    """Base and number of the digits of j // k."""
    largest = max(2, int(min(LARGEST_BASE, RESOLVED / step.error)))
    blocks, digits = max(2, -(-n // k)), 1
    while largest**digits < blocks:
        digits += 1
    base = max(2, round(blocks ** (1 / digits)))
    return base + (base**digits < blocks), digits


@dataclass(frozen=True, eq=False)
class Sketch:
    """What is known of the rows that are still open."""

    place: Place
    step: Step
    rows: Ints  # (R,) of the problem
    check: Floats  # (R,) along the random direction
    ratio: Floats  # (n,) that direction over the sizes of the others
    tables: tuple[Table, ...] = ()

    @cached_property
    def tolerance(self) -> Floats:
        """(R,) what a slope must exceed."""
        return self.place.tolerance[self.rows] / self.step.t

    def take(self, which: Ints) -> Sketch:
        """Some of the rows."""
        tables = tuple(table.rows(which) for table in self.tables)
        return replace(self, rows=self.rows[which], check=self.check[which], tables=tables)

    def confirmed(self, row: Ints, column: Ints, slope: Floats) -> Flags:
        """(R,) whether these entries explain the random direction."""
        along = slope * self.ratio[column]
        count = self.rows.size
        explained = np.bincount(row, along, minlength=count)
        error = 2 * self.step.error * np.bincount(row, np.abs(along), minlength=count)
        several = 1 + np.sqrt(np.bincount(row, minlength=count))
        one: Flags = np.abs(self.check - explained) <= self.tolerance * several + error
        return one & self._seen_by_the_probe(row, column, slope)

    def _seen_by_the_probe(self, row: Ints, column: Ints, slope: Floats) -> Flags:
        """The same along the ray of the probe, where that knows: of many rows some agree with one direction by accident."""
        ray, base, count = self.place.ray, self.place.base, self.rows.size
        if ray is None:
            return np.ones(count, dtype=np.bool_)
        along = slope * ray.direction[column] / base[column]
        explained = np.bincount(row, along, minlength=count)
        several = 1 + np.sqrt(np.bincount(row, minlength=count))
        error = LOOSE * self.step.error * np.bincount(row, np.abs(along), minlength=count) + self.tolerance * several
        off: Flags = np.abs(ray.slope[self.rows] - explained) > ray.error[self.rows] + error
        return ~off

    @property
    def share(self) -> Floats:
        """(R,) of the sums of the last table that a row moves with."""
        share: Floats = np.mean(self.hot(self.tables[-1]), axis=1)
        return share

    def hot(self, table: Table) -> Flags:
        """(R, k) whether a row moves with each sum."""
        still: Flags = np.abs(table.plain) <= self.tolerance[:, None]
        return ~still


def sketched(place: Place, rows: Ints, closely: bool = False) -> Asking[tuple[Entries, Ints]]:
    """Entries of rows, and the rows that it could not read."""
    step, n = Step.of(place, rows, closely), place.base.size
    random = random_sizes(n, 1)
    everywhere = Seeds(np.where(place.base == 0, -1, 0), 1, [place.base * random])
    check = yield from moves(place, [everywhere], rows, step.t, step.central)
    sketch = Sketch(place, step, rows, check[:, 0], random)
    found, spent, slow, k = [NONE], 0, 0, MODULI[0]
    while sketch.rows.size and slow < STALLED and k and spent + k <= n // 2:
        before, spent = sketch.rows.size, spent + k
        sketch = replace(sketch, tables=(*sketch.tables, (yield from _summed(sketch, k))))
        sketch = _finished(sketch, banded(sketch), found)
        share = sketch.share
        if sketch.rows.size and np.median(share) <= SATURATED:
            table = yield from _weighted(sketch, sketch.tables[-1])
            spent += k * table.digits
            sketch = replace(sketch, tables=(*sketch.tables[:-1], table))
            sketch = _finished(sketch, peeled(sketch), found)
            slow = slow + 1 if sketch.rows.size > MOSTLY * before else 0
        if k == DENSE_FROM and sketch.rows.size:
            sketch = yield from _without_dense(sketch, found)
        k = _following(k, share)
    return (np.concatenate([one for one, _ in found]), np.concatenate([other for _, other in found])), sketch.rows


def _following(k: int, share: Floats) -> int:
    """The next modulus; 0: none."""
    least = LEAP * k if share.size and np.median(share) == 1 else k + 1
    return next((larger for larger in MODULI if larger >= min(least, max(k + 1, DENSE_FROM))), 0)


def _labels(place: Place, k: int) -> Ints:
    return np.where(place.base == 0, -1, np.arange(place.base.size) % k)


def _summed(sketch: Sketch, k: int) -> Asking[Table]:
    place, step = sketch.place, sketch.step
    seeds = Seeds(_labels(place, k), k, [place.base])
    plain = yield from moves(place, [seeds], sketch.rows, step.t, step.central)
    return Table(k, *digits_for(place.base.size, k, step), plain)


def _weighted(sketch: Sketch, table: Table) -> Asking[Table]:
    """The table with its columns weighted by each digit."""
    place, step, columns = sketch.place, sketch.step, np.arange(sketch.place.base.size)
    sizes = [place.base * table.weight(columns, digit) for digit in range(table.digits)]
    seeds = Seeds(_labels(place, table.k), table.k, sizes)
    sums = yield from moves(place, [seeds], sketch.rows, step.t, step.central)
    weighted = sums.reshape(sketch.rows.size, table.digits, table.k).transpose(1, 0, 2)
    return replace(table, weighted=weighted)


def _without_dense(sketch: Sketch, found: list[Entries]) -> Asking[Sketch]:
    """Rows that move with every sum, asked whether they are dense; those that are count as found."""
    full = np.flatnonzero(sketch.share == 1)
    dense = full[(yield from dense_among(sketch.place, sketch.rows[full]))]
    found.append(whole(sketch.place, sketch.rows[dense]))
    return sketch.take(np.setdiff1d(np.arange(sketch.rows.size), dense))


def _finished(sketch: Sketch, read: tuple[Entries, Flags], found: list[Entries]) -> Sketch:
    """The rows that are still open once those that were read are put aside."""
    (row, column), done = read
    kept = done[row]
    found.append((sketch.rows[row[kept]], column[kept]))
    return sketch.take(np.flatnonzero(~done)) if np.any(done) else sketch


def banded(sketch: Sketch) -> tuple[Entries, Flags]:
    """Each sum taken for the column next to the diagonal: right for bands of at most k, which then need no digits."""
    table, (m, n) = sketch.tables[-1], (sketch.place.m, sketch.place.base.size)
    middle = np.round(sketch.rows * ((n - 1) / max(m - 1, 1))).astype(np.int64)[:, None]
    half = table.k // 2
    columns = middle - half + (np.arange(table.k)[None, :] - middle + half) % table.k
    there = (columns >= 0) & (columns < n)
    there &= sketch.place.base[np.where(there, columns, 0)] != 0
    row, sums = np.nonzero(sketch.hot(table))
    column = columns[row, sums]
    done = np.bincount(row, ~there[row, sums], minlength=sketch.rows.size) == 0
    column = np.where(there[row, sums], column, 0)
    done &= sketch.confirmed(row, column, table.plain[row, sums])
    filled = np.bincount(row, minlength=done.size) > 0
    if np.count_nonzero(done & filled) < CONVINCING * np.count_nonzero(filled):
        done &= ~filled  # some of many rows agree by accident
    return (row, column), done


def peeled(sketch: Sketch) -> tuple[Entries, Flags]:
    """What the tables tell together, and of which rows that is all: confirmed, with nothing left over in any sum."""
    every: list[Entries] = []
    left = np.arange(sketch.rows.size)
    for tables, error in _attempts(sketch):
        part = sketch.take(left)
        (row, column), done = _peel(part, [table.rows(left) for table in tables], error)
        kept = done[row]
        every.append((left[row[kept]], column[kept]))
        left = left[~done]
        if not left.size:
            break
    done = np.ones(sketch.rows.size, dtype=np.bool_)
    done[left] = False
    return (np.concatenate([one for one, _ in every]), np.concatenate([other for _, other in every])), done


def _attempts(sketch: Sketch) -> Iterator[tuple[Sequence[Table], float]]:
    """All tables, with little allowance for curvature, then much; each distrusted: two columns may have passed for one there."""
    tables, error = sketch.tables, sketch.step.error
    for allowance in ALLOWANCES:
        yield tables, allowance * error
    weighted = [table for table in tables if table.weighted is not None]
    for table in weighted if len(weighted) > 1 else ():
        yield [replace(one, weighted=None) if one is table else one for one in tables], error


@dataclass(frozen=True, eq=False)
class Remains:
    """A table from which entries are taken as they are found; its arrays change."""

    table: Table
    plain: Floats  # (R, k)
    weighted: Floats | None
    slack: Floats  # (R, k) what is uncertain by what was taken

    @classmethod
    def of(cls, table: Table, tolerance: Floats) -> Remains:
        """All of it."""
        weighted = None if table.weighted is None else table.weighted.copy()
        return cls(table, table.plain.copy(), weighted, np.repeat(tolerance[:, None], table.k, axis=1))

    def take(self, row: Ints, column: Ints, slope: Floats, error: Floats) -> None:
        """Without these entries."""
        place = (row, column % self.table.k)
        np.subtract.at(self.plain, place, slope)
        np.add.at(self.slack, place, error)
        if self.weighted is not None:
            for digit in range(self.table.digits):
                np.subtract.at(self.weighted[digit], place, slope * self.table.weight(column, digit))

    def largest(self) -> tuple[Ints, Floats, Floats]:
        """(R,) the sum that is largest in each row: its remainder, its slope, and how uncertain that is."""
        remainder = np.argmax(np.abs(self.plain), axis=1)
        every = np.arange(remainder.size)
        return remainder, self.plain[every, remainder], self.slack[every, remainder]

    def singles(self, error: float, n: int) -> tuple[Ints, Ints, Floats]:
        """Row, column and slope where a sum looks like one entry alone."""
        table = self.table
        row, remainder = np.nonzero(~(np.abs(self.plain) <= self.slack))
        slope = self.plain[row, remainder]
        blocks, sound = np.zeros(row.size, dtype=np.int64), np.isfinite(slope)
        assert self.weighted is not None
        with np.errstate(all="ignore"):
            off = table.base * (self.slack[row, remainder] / np.abs(slope) + error)
            for digit in reversed(range(table.digits)):
                exact = table.base * (self.weighted[digit, row, remainder] / slope - 1)
                near = np.round(np.where(np.isfinite(exact), exact, -1.0))
                sound &= (np.abs(exact - near) <= off) & (off <= WRONG_DIGIT) & (near >= 0) & (near < table.base)
                blocks = blocks * table.base + near.astype(np.int64)
        column = blocks * table.k + remainder
        sound &= (column >= 0) & (column < n)
        return row[sound], column[sound], slope[sound]


def _peel(sketch: Sketch, tables: Sequence[Table], error: float) -> tuple[Entries, Flags]:
    n, count = sketch.place.base.size, sketch.rows.size
    remains = [Remains.of(table, sketch.tolerance) for table in tables]
    first = [sketch.hot(table) for table in tables]
    row, column, slope = NONE[0], NONE[0], np.zeros(0)
    for _ in range(ROUNDS):
        singles = [one.singles(error, n) for one in remains if one.weighted is not None]
        fresh = _chosen(sketch, tables, first, singles, row * n + column)
        if not fresh[0].size:
            fresh = _chosen(sketch, tables, first, [_by_remainders(remains, n)], row * n + column)
        if not fresh[0].size:
            break
        tolerance = sketch.tolerance[fresh[0]] + sketch.step.error * np.abs(fresh[2])
        for one in remains:
            one.take(*fresh, tolerance)
        row, column, slope = (np.concatenate(pair) for pair in zip((row, column, slope), fresh, strict=True))
    empty = np.logical_and.reduce([np.all(np.abs(one.plain) <= one.slack, axis=1) for one in remains])
    assert empty.size == count
    return (row, column), empty & sketch.confirmed(row, column, slope)


def _by_remainders(remains: Sequence[Remains], n: int) -> tuple[Ints, Ints, Floats]:
    """The column of what is largest in every table, where its remainders tell it: for slopes too curved or small for digits."""
    last = max(remains, key=lambda one: one.table.k)
    largest, slope, slack = last.largest()
    rows = np.flatnonzero(np.abs(slope) > slack)
    blocks = -(-n // last.table.k)
    if math.lcm(*(one.table.k for one in remains)) < n or rows.size * blocks > MOST_GUESSES:
        return NONE[0], NONE[0], np.zeros(0)
    columns = largest[rows][:, None] + last.table.k * np.arange(blocks)[None, :]
    possible = columns < n
    for one in remains:
        remainder, same, unsure = one.largest()
        agrees = np.abs(same - slope)[rows] <= (unsure + slack)[rows]
        possible &= ~agrees[:, None] | (columns % one.table.k == remainder[rows][:, None])
    alone = np.flatnonzero(np.count_nonzero(possible, axis=1) == 1)
    return rows[alone], columns[alone, np.argmax(possible[alone], axis=1)], slope[rows[alone]]


def _chosen(
    sketch: Sketch,
    tables: Sequence[Table],
    first: Sequence[Flags],
    singles: Sequence[tuple[Ints, Ints, Floats]],
    known: Ints,
) -> tuple[Ints, Ints, Floats]:
    """Of what looks alone: what every table has moved with, and in each row what most tables agree on."""
    n = sketch.place.base.size
    row, column, slope = (np.concatenate(parts) for parts in zip(*singles, strict=True))
    sound = (sketch.place.base[column] != 0) & ~np.isin(row * n + column, known)
    for table, there in zip(tables, first, strict=True):
        sound &= there[row, column % table.k]
    keys, where, votes = np.unique((row * n + column)[sound], return_index=True, return_counts=True)
    row, column, slope = keys // n, keys % n, slope[sound][where]
    most = np.zeros(sketch.rows.size, dtype=np.int64)
    np.maximum.at(most, row, votes)
    kept = votes == most[row]
    return row[kept], column[kept], slope[kept]
