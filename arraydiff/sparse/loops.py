"""What loops over entries do, number by number: rows of a pattern as sets, read, joined and written at the cost of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from arraydiff.exact.primitives import Elementwise
from arraydiff.exact.trace import prim
from arraydiff.sparse.pattern import Pattern

Set: TypeAlias = frozenset[int]
NOTHING: Set = frozenset()

LONG = 16
"""Writes of one entry each, one after the other, from which on the rows of an array are kept apart."""


class Cells:
    """Rows of a pattern, each a set."""

    __slots__ = ("inputs", "sets")

    def __init__(self, sets: list[Set], inputs: int) -> None:
        self.sets, self.inputs = sets, inputs

    @classmethod
    def of(cls, pattern: Pattern) -> Cells:
        """The rows of this pattern."""
        cols, starts = pattern.cols.tolist(), pattern.indptr.tolist()
        sets = [frozenset(cols[first:last]) for first, last in pairwise(starts)]
        return cls(sets, pattern.shape[1])

    def pattern(self) -> Pattern:
        """As they are now."""
        lengths = np.fromiter(map(len, self.sets), dtype=np.int64, count=len(self.sets))
        cols = np.fromiter((one for each in self.sets for one in sorted(each)), dtype=np.int64)
        return Pattern(np.repeat(np.arange(lengths.size), lengths), cols, (lengths.size, self.inputs))


Known: TypeAlias = Pattern | Set | Cells
"""What an array depends on; of one number, a set."""


def as_pattern(known: Known, inputs: int) -> Pattern:
    """Of one number or many."""
    if isinstance(known, Pattern):
        return known
    return (known if isinstance(known, Cells) else Cells([known], inputs)).pattern()


def of_one(primitive: Any, sources: Sequence[Known | None], values: Sequence[Any]) -> Set | None:
    """The result of an operation that gives one number, if it is read or made of such."""
    if primitive is prim.getitem:
        source = sources[0]
        return source if isinstance(source, frozenset) else _read(source, values)
    if primitive is prim.reshape or (isinstance(primitive, Elementwise) and primitive is not prim.where):
        sets = [source for source in sources if isinstance(source, frozenset)]
        return _united(sets) if len(sets) == sum(source is not None for source in sources) else None
    return None


def joined(sources: Sequence[Known | None], size: int, inputs: int) -> Cells | None:
    """A vector of numbers, as many as there are sources."""
    if len(sources) != size or not all(source is None or isinstance(source, frozenset) for source in sources):
        return None
    return Cells([source if isinstance(source, frozenset) else NOTHING for source in sources], inputs)


def written(sources: Sequence[Known | None], values: Sequence[Any], index: Any) -> Cells | None:
    """An array in which one entry is replaced; that array is used up."""
    old, new = sources[:2]
    place = _place(index, values[0].shape)
    if place is None or not isinstance(old, Pattern | Cells) or not (new is None or isinstance(new, frozenset)):
        return None
    cells = old if isinstance(old, Cells) else Cells.of(old)
    cells.sets[place] = NOTHING if new is None else new
    return cells


def _united(sets: Iterable[Set]) -> Set:
    """All of them together; the same set where they are one."""
    found = NOTHING
    for one in sets:
        if one is not found:
            found = found | one if found else one
    return found


def _read(source: Known | None, values: Sequence[Any]) -> Set | None:
    place = _place(values[1], values[0].shape)
    if place is None:
        return None
    if isinstance(source, Cells):
        return source.sets[place]
    assert isinstance(source, Pattern)
    first, last = source.indptr[place : place + 2].tolist()
    return frozenset(source.cols[first:last].tolist())


def _place(index: Any, shape: tuple[int, ...]) -> int | None:
    """The number of the one entry that an index of integers picks."""
    each = index if type(index) is tuple else (index,)
    if len(each) != len(shape):
        return None
    place = 0
    for one, length in zip(each, shape, strict=True):
        if not isinstance(one, int | np.integer) or isinstance(one, bool):
            return None
        place = place * length + int(one) % length
    return place
