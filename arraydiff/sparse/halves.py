"""A Hessian by columns of which each entry is read off once: (i, j) in row i or, as (j, i), in row j."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arraydiff.sparse.clashes import count_of
from arraydiff.sparse.order import Order
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.star import recovery


@dataclass(frozen=True, eq=False)
class Halves:
    """One place for (i, j) and (j, i)."""

    order: Order  # of these places
    places: Ints  # of each entry of the Hessian among them; -1: a fixed parameter has a part in it


def halves_of(whole: Pattern, star: Ints, free: np.ndarray) -> Halves:
    """Those of the entries in which no parameter is fixed."""
    n = whole.shape[1]
    moving = free[whole.rows] & free[whole.cols]
    some = Pattern(whole.rows[moving], whole.cols[moving], whole.shape)
    row = recovery(some, star) // max(count_of(star), 1)
    keys, place = np.unique(row * n + (some.rows + some.cols - row), return_inverse=True)
    places = np.full(whole.nnz, -1, dtype=np.int64)
    places[moving] = place
    read = Pattern(keys // max(n, 1), keys % max(n, 1), whole.shape)
    return Halves(Order(read, star), places)
