"""JᵀJ, Jᵀr and r·r from the entries of a sparse Jacobian, tile by tile; J is never dense.

Bars and counts are those of `gram`: of the worst case over rows, beside rounding.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.gram import FLAGS, SURE, Sums, products
from arraydiff.result import UNVOUCHED, Status
from arraydiff.sparse.compressed import Entries
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.sparsity import Sparsity
from arraydiff.vouching import passed


def sums_of(
    here: Backend,
    sparsity: Sparsity,
    entries: Entries,
    residual: tuple[Array, Array],
    root: Array | None,
    eps: float,
    tolerance: float,
) -> Sums:
    """Over all rows: of the entries, of r and its bars (m,), and of the roots of the weights."""
    xp, pattern = here.xp, sparsity.pattern
    values, bars, status = entries.values, entries.error, entries.status
    whole = xp.stack(residual)  # (2, m)
    if root is not None:  # what weighs nothing is left out, also where it is not finite
        of_rows = xp.take(root, here.indices(pattern.rows))
        values, bars, status = (xp.where(of_rows > 0, part, xp.zeros_like(part)) for part in (values, bars, status))
        whole = xp.where(root > 0, whole * root, xp.zeros_like(whole))
    flags, wide = _counts(here, pattern, Entries(values, bars, status, entries.floor), tolerance)
    both = xp.stack([values, bars])
    gram, absolute, beyond = _gram(here, sparsity, both if root is None else both * of_rows, whole)
    rounding = SURE * eps * sqrt(max(pattern.shape[0], 1))
    lost = xp.sum(xp.astype(~xp.isfinite(whole[0, :]), here.index_dtype))
    bound = xp.maximum(beyond, xp.zeros_like(beyond)) + rounding * absolute
    return Sums(gram, xp.zeros_like(gram), bound, flags, wide, lost)


def _gram(here: Backend, sparsity: Sparsity, both: Array, whole: Array) -> list[Array]:
    """(n + 1, n + 1) products, sums of their sizes, and what bars add to those; of values and bars (2, nnz) and (2, m)."""
    xp, n = here.xp, sparsity.shape[1]
    totals = [xp.zeros((n + 1, n + 1), dtype=both.dtype, device=here.device) for _ in range(3)]
    padded = xp.concat([both, xp.zeros_like(whole[:, :1]) if whole.shape[1] else both[:, :0]], axis=1)
    for tile in sparsity.tiling:
        k, t = tile.places.shape
        own = xp.reshape(xp.take(padded, here.indices(tile.places.reshape(-1)), axis=1), (2, k, t))
        last = xp.reshape(xp.take(whole, here.indices(tile.rows), axis=1), (2, 1, t))
        part = xp.concat([own, last], axis=1)
        places = np.append(tile.cols, n)
        totals = [
            _added(here, *pair, places) for pair in zip(totals, products(xp, part[0, ...], part[1, ...]), strict=True)
        ]
    square = [
        xp.reshape(one, (1, 1)) for one in products(xp, whole[0:1, :], whole[1:2, :])
    ]  # all rows, also empty ones
    return [_with_corner(here, *pair) for pair in zip(totals, square, strict=True)]


def _added(here: Backend, total: Array, part: Array, places: Ints) -> Array:
    """`total` (n + 1, n + 1) with `part` (k, k) added at these places."""
    if isinstance(total, np.ndarray):
        total[np.ix_(places, places)] += part
        return total
    xp, k = here.xp, places.size
    slots = np.full(int(total.shape[0]), k, dtype=np.int64)
    slots[places] = np.arange(k)
    index, none = here.indices(slots), xp.zeros_like(part[:, :1])
    tall = xp.take(xp.concat([part, none], axis=1), index, axis=1)
    return total + xp.take(xp.concat([tall, xp.zeros_like(tall[:1, :])]), index, axis=0)


def _with_corner(here: Backend, total: Array, corner: Array) -> Array:
    """The same with its last entry replaced."""
    xp = here.xp
    last = xp.concat([total[-1:, :-1], corner], axis=1)
    return xp.concat([total[:-1, :], last])


def _counts(here: Backend, pattern: Pattern, entries: Entries, tolerance: float) -> tuple[Array, Array]:
    """(flags, n) entries under each flag, and (n,) with a bar that is too wide; one look where there are none."""
    xp, n = here.xp, pattern.shape[1]
    status = entries.status & ~int(Status.FIXED)  # which the layout tells
    size = xp.maximum(xp.abs(entries.values), entries.floor)
    bad = (status & int(UNVOUCHED)) != 0
    wide = ~(passed(xp, entries.values, entries.error, tolerance * size) | bad)
    masks = [(status & int(flag)) != 0 for flag in FLAGS]
    seen = here.counts(status != 0, wide)
    none = xp.zeros((n,), dtype=here.index_dtype, device=here.device)
    flags = [_by_columns(here, pattern, mask) if seen[0] else none for mask in masks]
    return xp.stack(flags), _by_columns(here, pattern, wide) if seen[1] else none


def _by_columns(here: Backend, pattern: Pattern, mask: Array) -> Array:
    """(n,) how many entries of each column."""
    mine = pattern.cols[here.as_numpy(mask).astype(np.bool_)]
    return here.asarray(np.bincount(mine, minlength=pattern.shape[1]), here.index_dtype)
