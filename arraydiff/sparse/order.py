"""The entries of a pattern in the order in which lines give them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arraydiff.sparse.clashes import count_of
from arraydiff.sparse.pattern import Ints, Pattern

NO_LINE = -1
"""Of a column that is not moved."""

RADIX = 2**15
"""Fewer lines are sorted as numbers of 16 bits, ten times as fast."""


@dataclass(frozen=True, eq=False)
class Order:
    """Entries sorted by the line that gives them; those of no line come first."""

    pattern: Pattern
    lines: Ints  # (n,) of the columns

    @cached_property
    def count(self) -> int:
        """How many lines there are."""
        return count_of(self.lines)

    @cached_property
    def entries(self) -> Ints:
        """Places of the entries in the pattern."""
        keys = self.lines[self.pattern.cols]
        return np.argsort(keys.astype(np.int16) if self.count < RADIX else keys, kind="stable")

    @cached_property
    def starts(self) -> Ints:
        """Where each line begins among them, and the last one ends."""
        counts = np.bincount(self.lines[self.pattern.cols] + 1, minlength=self.count + 1)
        return np.cumsum(counts)

    @cached_property
    def back(self) -> Ints:
        """Where each entry of the pattern stands among them."""
        back = np.empty_like(self.entries)
        back[self.entries] = np.arange(back.size)
        return back

    @cached_property
    def rows(self) -> Ints:
        """Of the entries, in this order."""
        rows: Ints = self.pattern.rows[self.entries]
        return rows

    @cached_property
    def cols(self) -> Ints:
        """Of the entries, in this order."""
        cols: Ints = self.pattern.cols[self.entries]
        return cols

    def of(self, line: int) -> slice:
        """Those of a line."""
        return slice(self.starts[line], self.starts[line + 1])
