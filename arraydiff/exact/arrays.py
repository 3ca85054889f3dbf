"""What rules and sweeps ask about arrays, traced or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arraydiff._typing import Array
from arraydiff.backends import raw
from arraydiff.exact.trace import plain, prim


def whole(array: Any, shape: tuple[int, ...]) -> Any:
    """The array broadcast to a shape."""
    return array if array.shape == shape else prim.broadcast_to(array, shape)


def zeros_like(value: Any) -> Array:
    """Plain zeros."""
    value = plain(value)
    return raw.zeros(value.shape, value.dtype, value)


def unbroadcast(g: Any, large: tuple[int, ...], small: tuple[int, ...]) -> Any:
    """What stands for an array of shape `large`, summed down to shape `small`."""
    if large == small:
        return g
    lead = len(large) - len(small)
    axes = tuple(range(lead)) + tuple(lead + i for i, s in enumerate(small) if s == 1 and large[lead + i] != 1)
    g = whole(g, large)
    return prim.reshape(prim.sum(g, axis=axes), small) if axes else g


def is_complex(value: Any) -> bool:
    """Whether a number or an array, traced or not, is complex."""
    dtype = getattr(value, "dtype", None)
    return isinstance(value, complex) if dtype is None else raw.kind(dtype) == "c"


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes one."""
    return tuple(sorted(range(len(axes)), key=lambda i: axes[i] % len(axes)))
