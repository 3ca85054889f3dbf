"""Sums of many short stretches of an array, pairwise: as exact as sums are, the same bits each time, in any array library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.sparse.pattern import Ints

Join = Callable[[Array, Array], Array]


@dataclass(frozen=True, eq=False)
class Stretches:
    """Consecutive stretches of these lengths, of which none is empty."""

    lengths: Ints

    @cached_property
    def levels(self) -> list[tuple[Ints, Ints, Ints]]:
        """What is joined, level by level: the first and the second of each pair, and the place of each pair in the next level."""
        steps = [self.lengths]
        while steps[-1].size and steps[-1].max() > 1:
            steps.append((steps[-1] + 1) // 2)
        return [_level(before, after) for before, after in pairwise(steps)]

    def joined(self, here: Backend, items: Array, join: Join) -> Array:
        """(stretches,) of items, one after the other."""
        xp = here.xp
        for left, ahead, place in self.levels:
            kept = xp.take(items, here.indices(left))
            pairs = join(xp.take(kept, here.indices(place)), xp.take(items, here.indices(ahead)))
            slots = np.arange(left.size, dtype=np.int64)
            slots[place] = left.size + np.arange(place.size)
            items = xp.take(xp.concat([kept, pairs]), here.indices(slots))
        return items

    def summed(self, here: Backend, items: Array) -> Array:
        """The same, added."""
        return self.joined(here, items, lambda one, other: one + other)


def _level(before: Ints, after: Ints) -> tuple[Ints, Ints, Ints]:
    """Neighbours of each stretch two by two; the last of an odd one goes on alone."""
    number = np.repeat(np.arange(after.size, dtype=np.int64), after)
    inside = np.arange(number.size, dtype=np.int64) - (np.cumsum(after) - after)[number]
    left = (np.cumsum(before) - before)[number] + 2 * inside
    place = np.flatnonzero(2 * inside + 1 < before[number])
    return left, left[place] + 1, place
