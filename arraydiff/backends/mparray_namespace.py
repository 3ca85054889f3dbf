"""mparray's namespace, with the names that it lacks, and the precision that its numbers have and its dtypes do not tell.

A module, so that what is made of it can be pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mparray
import numpy as np
from mpmath import mp

from arraydiff._typing import Array


@dataclass(frozen=True)
class Precision:
    """What `finfo` tells of numbers of mpmath's working precision, whatever their dtype is called."""

    eps: Any
    smallest_normal: Any


def finfo(dtype: Any) -> Precision:
    """The working precision of mpmath, now."""
    return Precision(mp.eps, np.finfo(dtype).smallest_normal)


def log2(x: Array, /) -> Array:
    """The logarithm to base 2."""
    return mparray.log(x) / mp.log(2)


def __getattr__(name: str) -> Any:
    return getattr(mparray, name)
