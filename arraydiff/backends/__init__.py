"""The array library of the input chooses the backend."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import array_api_compat
import numpy as np

from arraydiff.backends.base import Backend
from arraydiff.backends.cupy import CupyBackend
from arraydiff.backends.dask import DaskBackend
from arraydiff.backends.generic import GenericBackend
from arraydiff.backends.jax import JaxBackend, TracedJaxBackend
from arraydiff.backends.mparray import MparrayBackend
from arraydiff.backends.numpy import NumpyBackend
from arraydiff.backends.registered import registered
from arraydiff.backends.torch import TorchBackend

__all__ = ["Backend", "backend_of", "float0_zeros", "is_array"]

BACKENDS: tuple[type[Backend], ...] = (
    NumpyBackend,
    CupyBackend,
    TorchBackend,
    TracedJaxBackend,
    JaxBackend,
    DaskBackend,
    MparrayBackend,
)
"""The first that owns an array serves it; then come those that packages registered, and the generic one."""


def is_array(value: object) -> bool:
    """Whether `value` is an array of any library."""
    return isinstance(value, np.ndarray) or bool(array_api_compat.is_array_api_obj(value))


def backend_of(leaves: Iterable[Any]) -> Backend:
    """The backend of the arrays among `leaves`; NumPy where there are only numbers.

    Raises
    ------
    TypeError
        The arrays are of several libraries or devices.
    """
    found = [_backend(leaf) for leaf in leaves if is_array(leaf)]
    if not found:
        return _numpy()
    traced = next((backend for backend in found if backend.traced), None)
    for other in found[1:]:
        if other != found[0] and not (traced and other.xp is found[0].xp):  # a tracer goes with arrays of any device
            places = " and ".join(f"{b.xp.__name__} on {b.device}" for b in (found[0], other))
            raise TypeError(f"the arguments to differentiate lie on several libraries or devices: {places}; move them")
    return traced or found[0]


def _backend(array: Any) -> Backend:
    kind = _KINDS.get(type(array)) or _find_kind(array)
    if kind is NumpyBackend:
        return _numpy()
    return kind.of(array)


@cache
def _numpy() -> Backend:
    """NumPy has one device, and asking for namespace and device costs more than a small f."""
    complete = hasattr(np, "astype")  # NumPy 2.1 speaks the standard by itself, and without wrappers' costs
    return NumpyBackend(np if complete else array_api_compat.array_namespace(np.zeros(0)), "cpu")


_KINDS: dict[type, type[Backend]] = {}


def _find_kind(array: Any) -> type[Backend]:
    kind = next((backend for backend in _in_turn() if backend.owns(array)), None)
    if kind is None:
        raise TypeError(
            f"{type(array).__name__} is no array of a library that speaks the array API; pass one that does"
        )
    return _KINDS.setdefault(type(array), kind)


def _in_turn() -> Iterator[type[Backend]]:
    yield from BACKENDS
    yield from registered()
    yield GenericBackend


def bits_of(leaf: Any) -> int:
    """A number that the bits of an array of the host, or of a number, make; 0 of arrays elsewhere."""
    return zlib.crc32(np.asarray(leaf).tobytes()) if isinstance(leaf, np.ndarray | np.generic | float) else 0


def float0_zeros(shape: tuple[int, ...]) -> Any:
    """JAX's derivative with respect to integers: an array of nothing."""
    return np.zeros(shape, dtype=[("float0", np.void, 0)])
