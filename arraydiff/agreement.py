"""Whether columns explain what f does along one random direction, as far as error bars tell: the rule of all such checks."""

from __future__ import annotations

from arraydiff._typing import Array
from arraydiff.backends import Backend

TIMES_THE_BARS = 8.0
"""By how much more than its error bars a row must be off: they are meant to hold in 95 % of entries, not in all of 100 000."""

SUM_ROUNDING = 4.0
"""eps of the sum of what a row's entries do: more than it is rounded by, for rows of any length in practice."""

SAMPLE = 2**12
"""Rows of which the middle one is taken: of more, evenly spaced ones."""


def compared(
    here: Backend, eps: float, sums: tuple[Array, Array, Array], column: Array, error: Array
) -> tuple[Array, Array]:
    """(m,) by how much each row is off along v, and by how much it may be.

    `sums` are those of its entries times v, of their sizes and of their bars; `column` and `error` are f's derivative along v.
    """
    made, size, bars = sums
    bars = bars + error + SUM_ROUNDING * eps * size
    return here.xp.abs(made - column), TIMES_THE_BARS * here.xp.maximum(bars, _typical(here, bars, size) * size)


def _typical(here: Backend, bars: Array, size: Array) -> Array:
    """(1,) the middle one of the rows' bars over what the rows do; where truncation cancels along v, its own bar says little."""
    xp, stride = here.xp, int(size.shape[0]) // SAMPLE + 1
    bars, size = bars[::stride], size[::stride]
    rows = int(size.shape[0])
    if not rows:
        return size
    sound = (size > 0) & xp.isfinite(bars)
    share = xp.where(sound, bars / xp.where(sound, size, xp.ones_like(size)), xp.zeros_like(size))
    count = xp.sum(xp.astype(sound, here.index_dtype))
    middle = xp.reshape(rows - 1 - count // 2, (1,))  # the others are zeros, and come first
    return xp.take(xp.sort(share), xp.where(middle < 0, xp.zeros_like(middle), middle))
