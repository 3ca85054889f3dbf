"""Which entries of a matrix may differ from zero: sorted, without duplicates, on the host."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

Ints: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"

WAYS_IN = "pass an array of scipy.sparse, a boolean array (A != 0), or (rows, cols, shape)"
MOST_ENTRIES = 2**28
"""Entries of a pattern, beyond which it is not one that is sparse."""

LARGEST = 2**63 - 1
"""Row and column of an entry are sorted as one number while that number fits into int64."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Entries (rows[k], cols[k]) of a matrix of `shape`, sorted by row, then by column; read-only."""

    rows: Ints
    cols: Ints
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        for indices in (self.rows, self.cols):
            indices.flags.writeable = False

    def __reduce__(self) -> tuple[type[Pattern], tuple[Ints, Ints, tuple[int, int]]]:
        return Pattern, (self.rows, self.cols, self.shape)  # not what can be made anew

    @classmethod
    def of(cls, given: Any) -> Pattern:
        """The pattern that a user means; of a sparse array its structure counts, explicit zeros too."""
        if isinstance(given, Pattern):
            return given
        if isinstance(given, tuple) and len(given) == 3:
            return _of_triplets(*given)
        if type(given).__module__.startswith("cupyx."):
            given = given.get()
        return _of_sparse(given) if hasattr(given, "tocoo") else _of_dense(given)

    @property
    def nnz(self) -> int:
        """How many entries there are."""
        return self.rows.size

    @cached_property
    def indptr(self) -> Ints:
        """Where each row begins, and the last one ends, as in CSR."""
        return _starts(self.rows, self.shape[0])

    @cached_property
    def lengths(self) -> Ints:
        """How many entries each row has."""
        return np.diff(self.indptr)

    @cached_property
    def by_columns(self) -> Ints:
        """The entries in order of their columns, those of one column by row."""
        if self.shape[1] * max(self.nnz, 1) > LARGEST:
            return np.argsort(self.cols, kind="stable")
        place = np.arange(self.nnz, dtype=np.int64)
        return np.sort(self.cols * self.nnz + place) % max(self.nnz, 1)  # several times as fast as a stable argsort

    @cached_property
    def column_indptr(self) -> Ints:
        """Where each column begins in `by_columns`, and the last one ends."""
        return _starts(self.cols[self.by_columns], self.shape[1])

    @cached_property
    def narrow(self) -> tuple[np.ndarray, np.ndarray]:
        """Columns and starts of rows as SciPy keeps them: 32 bits where they do."""
        kind = np.int32 if max(self.nnz, *self.shape) < 2**31 else np.int64
        return self.cols.astype(kind), self.indptr.astype(kind)

    @cached_property
    def symmetric(self) -> bool:
        """Whether (j, i) is an entry wherever (i, j) is."""
        square = self.shape[0] == self.shape[1]
        return square and bool(
            np.array_equal(self.cols[self.by_columns], self.rows)
            and np.array_equal(self.rows[self.by_columns], self.cols)
        )

    @cached_property
    def transposed(self) -> Pattern:
        """Columns as rows."""
        return Pattern(self.cols[self.by_columns], self.rows[self.by_columns], self.shape[::-1])

    @property
    def mirrored(self) -> Pattern:
        """This square pattern with (j, i) for each (i, j)."""
        return self if self.symmetric else self.with_entries(self.cols, self.rows)

    def with_entries(self, rows: Any, cols: Any) -> Pattern:
        """This pattern and further entries."""
        more = _of_triplets(rows, cols, self.shape)
        return _sorted(np.concatenate([self.rows, more.rows]), np.concatenate([self.cols, more.cols]), self.shape)

    def joined(self, others: Sequence[Pattern]) -> Pattern:
        """This pattern and others of its shape."""
        every = [self, *others]
        rows, cols = (np.concatenate([getattr(one, name) for one in every]) for name in ("rows", "cols"))
        return _sorted(rows, cols, self.shape)

    def moved(self, rows: Ints, shape: tuple[int, int]) -> Pattern:
        """The same entries in other rows, of which several may fall together."""
        return _sorted(rows, self.cols, shape)

    def rows_of(self, which: Any) -> Pattern:
        """The rows `which`, in that order, as a pattern of their own."""
        which = np.asarray(which, dtype=np.int64)
        places, rows = _segments(self.indptr[which], self.lengths[which])
        return Pattern(rows, self.cols[places], (which.size, self.shape[1]))


def refuse_dense(entries: int, shape: tuple[int, int]) -> None:
    """Stop where a pattern would be none that is sparse.

    Raises
    ------
    ValueError
        It would.
    """
    if entries > MOST_ENTRIES:
        raise ValueError(
            f"f depends on too much to be stored sparse ({entries} entries of {shape}): leave sparsity out"
        )


def _segments(starts: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """Places start, start + 1, ... of each segment, one after the other, and the number of the segment at each."""
    number = np.repeat(np.arange(starts.size, dtype=np.int64), lengths)
    before = np.cumsum(lengths) - lengths
    return np.arange(number.size, dtype=np.int64) + (starts - before)[number], number


def _starts(sorted_numbers: Ints, count: int) -> Ints:
    return np.concatenate([[0], np.cumsum(np.bincount(sorted_numbers, minlength=count))]).astype(np.int64)


def _of_triplets(rows: Any, cols: Any, shape: Any) -> Pattern:
    size = _shape(shape)
    rows, cols = _indices("rows", rows, size[0]), _indices("cols", cols, size[1])
    if rows.size != cols.size:
        raise ValueError(f"rows and cols of the pattern must have equal lengths, got {rows.size} and {cols.size}")
    return _sorted(rows, cols, size)


def _shape(given: Any) -> tuple[int, int]:
    try:
        rows, cols = map(operator.index, given)
    except (TypeError, ValueError):
        raise TypeError(f"shape of the pattern must be two integers, got {given!r}; {WAYS_IN}") from None
    if min(rows, cols) < 0:
        raise ValueError(f"shape of the pattern must not be negative, got {given!r}")
    return rows, cols


def _indices(name: str, given: Any, limit: int) -> Ints:
    indices = np.asarray(given)
    if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
        raise TypeError(
            f"{name} of the pattern must be a list of integers, got {indices.ndim}-d {indices.dtype}; {WAYS_IN}"
        )
    outside = np.flatnonzero((indices < 0) | (indices >= limit))
    if outside.size:
        raise ValueError(
            f"{name} of the pattern must lie in 0 .. {limit - 1}, got {indices[outside[0]]} at {outside[0]}; "
            "give the shape that these entries need"
        )
    return indices.astype(np.int64)


def _sorted(rows: Ints, cols: Ints, shape: tuple[int, int]) -> Pattern:
    if shape[0] * shape[1] > LARGEST:
        order = np.lexsort((cols, rows))
        rows, cols = rows[order], cols[order]
        fresh = (np.diff(rows, prepend=-1) != 0) | (np.diff(cols, prepend=-1) != 0)
        return Pattern(rows[fresh], cols[fresh], shape)
    width = max(shape[1], 1)
    keys = rows * width + cols
    if np.all(keys[1:] > keys[:-1]):
        return Pattern(rows, cols, shape)
    keys.sort()
    keys = keys[np.diff(keys, prepend=-1) != 0]
    rows = keys // width
    return Pattern(rows, keys - rows * width, shape)


def _of_sparse(given: Any) -> Pattern:
    if len(given.shape) != 2:
        raise ValueError(f"the pattern must have two axes, got a sparse array of shape {given.shape}; {WAYS_IN}")
    if getattr(given, "format", "") == "dia":  # its tocoo leaves zeros out
        return _of_diagonals(given)
    entries = given.tocoo()
    return _of_triplets(entries.row, entries.col, entries.shape)


def _of_diagonals(given: Any) -> Pattern:
    m, n = _shape(given.shape)
    offsets = np.asarray(given.offsets, dtype=np.int64)
    first = np.maximum(offsets, 0)  # column j of diagonal k is in row j - k
    last = np.minimum(min(n, given.data.shape[1]), m + offsets)
    cols, number = _segments(first, np.maximum(last - first, 0))
    return _sorted(cols - offsets[number], cols, (m, n))


def _of_dense(given: Any) -> Pattern:
    entries = np.asarray(given)
    if entries.ndim != 2:
        raise TypeError(f"the pattern must have two axes, got {type(given).__name__} with {entries.ndim}; {WAYS_IN}")
    if entries.dtype != np.bool_ and entries.size:
        raise TypeError(f"a dense pattern must be boolean, got {entries.dtype}; {WAYS_IN}")
    rows, cols = np.nonzero(entries)
    return Pattern(rows.astype(np.int64), cols.astype(np.int64), entries.shape)
