"""Large arrays: what they take, what stands in the place of one that nobody reads, and that freed memory is kept for the next."""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any

import numpy as np

from arraydiff.backends import raw


def bytes_of(value: Any) -> int:
    """What an array takes; 0 of a small one, since many of those are numbers, and counting them costs."""
    if type(value) is np.ndarray:
        return value.nbytes if value.size > SMALL else 0
    shape = () if type(value) in raw.NUMPY_NUMBERS else getattr(value, "shape", ())
    size = math.prod(shape) if shape else 0
    return size * np.dtype(str(value.dtype).rpartition(".")[2]).itemsize if size > SMALL else 0


SMALL = 1 << 14  # entries


def owner_of(value: Any) -> Any:
    """The array whose memory a view of the host lies in."""
    while type(value) is np.ndarray and type(value.base) is np.ndarray:
        value = value.base
    return value


def may_be(value: Any) -> bool:
    """Whether an array is large, or of another library, of which that is asked later."""
    kind = type(value)
    return value.size > SMALL if kind is np.ndarray else kind not in raw.HOST


def any_of(values: Any) -> bool:
    """Whether an array of the host among these is large."""
    for value in values:  # noqa: SIM110 - `any` takes longer than a small operation
        if type(value) is np.ndarray and value.size > SMALL:
            return True
    return False


def hollow(value: Any) -> Any:
    """In the place of a large array of the host: its shape and dtype, and nothing that is a number."""
    if type(value) is not np.ndarray or value.size <= SMALL or value.dtype.kind not in raw.SIMPLEST:
        return value
    return np.ndarray(value.shape, value.dtype, _no_number(value.dtype), strides=(0,) * value.ndim)


@cache
def _no_number(dtype: Any) -> np.ndarray:
    none = np.full((), np.nan, dtype)
    none.flags.writeable = False
    return none


def scattered(values: Any, index: int | slice, like: Any) -> Any:
    """Zeros like an array of NumPy, but for these values at an index; of a small one an operation counts more than a pass."""
    if like.size > SMALL and type(index) is slice and index.step is None:  # the rest alone is written
        made = np.empty(like.shape, like.dtype)
        start, stop, _ = index.indices(like.shape[0])
        made[:start], made[max(start, stop) :] = 0, 0
    else:
        made = np.zeros(like.shape, like.dtype)
    made[index] = values
    return made


KEPT = 31 * 2**20
"""Bytes; the GNU C library learns from no block above 32 MiB."""


@lru_cache(1)
def keep_freed() -> None:
    """Have freed memory kept for the next arrays, as it is in any process that once freed an array of this size.

    By default the GNU C library hands back all but 128 kB, and a tape takes it anew, page by page, at each call: up to half of
    the time of a gradient. It raises its thresholds to the largest block that it saw go (mallopt(3), M_MMAP_THRESHOLD).
    """
    np.empty(KEPT, np.uint8)  # never touched, so it takes no memory
