"""Dask: lazy arrays, computed once a stage, all points of f together, and not at all where no value decides on the next stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from arraydiff._typing import Array, PyTree
from arraydiff.backends.base import Backend
from arraydiff.backends.numpy import NumpyBackend


@dataclass(frozen=True)
class DaskBackend(Backend):
    """Arrays of Dask."""

    immutable = True

    @classmethod
    def owns(cls, array: Array) -> bool:
        return bool(array_api_compat.is_dask_array(array))

    def asarray(self, value: Any, dtype: Any = None, *, copy: bool | None = None) -> Array:
        if isinstance(value, np.ndarray | np.generic):
            value = np.array(value)
        return self.xp.asarray(value, dtype=dtype)

    def indices(self, which: Sequence[int] | np.ndarray) -> Array:
        return np.asarray(list(which), dtype=np.int64)  # Dask 2026.8: take(x, dask array of [0]) has the shape of x

    def during(self, fixed_stages: bool, arguments: PyTree) -> Backend:
        return LazyDaskBackend(self.xp, self.device) if fixed_stages else self

    def elsewhere(self, device: Any) -> Backend:
        raise ValueError("Dask's arrays have no device of their own; leave devices out")

    def settle(self, array: Array) -> Array:
        return array.persist()

    def computed(self, *arrays: Array) -> tuple[Array, ...]:
        import dask

        return tuple(dask.persist(*arrays, scheduler="synchronous"))

    @property
    def is_lazy(self) -> bool:
        return True

    @property
    def host(self) -> Backend | None:
        return NumpyBackend(np, "cpu")

    def to_host(self, *arrays: Array) -> tuple[Array, ...]:
        import dask

        return tuple(np.asarray(array) for array in dask.compute(*arrays, scheduler="synchronous"))

    def from_host(self, array: Array, like: Array) -> Array:
        import dask.array

        return dask.array.from_array(array, chunks=(*like.chunks, -1)[: array.ndim])

    def gather(self, columns: Sequence[Array]) -> Array:
        return self.xp.stack(list(columns), axis=-1).rechunk(-1)

    def read(self, codes: Array) -> list[int]:
        # in this thread: NumPy's error state does not reach Dask's
        return list(codes.compute(scheduler="synchronous").tolist())


@dataclass(frozen=True)
class LazyDaskBackend(DaskBackend):
    """Arrays of Dask that stay as they are: the derivative is a graph, for the user to compute."""

    deferred = True

    @property
    def host(self) -> Backend | None:
        return None

    def settle(self, array: Array) -> Array:
        return array

    def computed(self, *arrays: Array) -> tuple[Array, ...]:
        return arrays
