"""CuPy: creation follows the current device, so x's device is entered once a public call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import array_api_compat
import numpy as np

from arraydiff._typing import Array
from arraydiff.backends.base import Backend


@dataclass(frozen=True)
class CupyBackend(Backend):
    """Arrays of CuPy, on one CUDA device."""

    def __hash__(self) -> int:
        return hash((type(self), self.device.id))  # a device of CuPy has no hash

    @classmethod
    def owns(cls, array: Array) -> bool:
        return bool(array_api_compat.is_cupy_array(array))

    @cached_property
    def on_cpu(self) -> bool:
        return False

    def asarray(self, value: Any, dtype: Any = None, *, copy: bool | None = None) -> Array:
        if isinstance(value, np.ndarray | np.generic):
            value = np.asarray(value)
        # device= is ignored by CuPy's creation functions: the device is the one entered by on_device()
        return self.xp.asarray(value, dtype=dtype, copy=copy)

    def indices(self, which: Sequence[int] | np.ndarray) -> Array:
        return self.xp.asarray(which if isinstance(which, np.ndarray) else list(which), dtype=self.index_dtype)

    def read(self, codes: Array) -> list[int]:
        return list(codes.get().tolist())

    def elsewhere(self, device: Any) -> Backend:
        there = replace(self, device=type(self.device)(device))
        with there.device:
            self.xp.zeros((0,))  # a device that does not exist fails here, not in the middle of a derivative
        return there

    def moved(self, array: Array) -> Array:
        if array.device == self.device:
            return array
        with self.device:
            return array.copy()  # from any device to the current one

    def operator(self, n: int, dtype: Any, product: Callable[[Array], Array]) -> Any:
        from cupyx.scipy.sparse.linalg import LinearOperator

        return LinearOperator((n, n), matvec=product, rmatvec=product, dtype=dtype)

    def on_device(self) -> contextlib.AbstractContextManager[Any]:
        manager: contextlib.AbstractContextManager[Any] = self.device
        return manager

    def synchronize(self, *arrays: Array) -> None:
        import cupy

        with self.device:
            cupy.cuda.get_current_stream().synchronize()

    def free_memory(self) -> int | None:
        import cupy

        pool = cupy.get_default_memory_pool()
        with self.device:  # the pool is asked about the current device
            held, limit = pool.total_bytes(), pool.get_limit()
            kept = held - pool.used_bytes()
            free = int(self.device.mem_info[0])
            if limit:
                free = min(free, limit - held)
        return max(free, 0) + int(kept)

    def memory_in_use(self) -> tuple[int, int] | None:
        import cupy

        pool = cupy.get_default_memory_pool()
        with self.device:
            return int(pool.used_bytes()), int(pool.total_bytes())  # the pool gives nothing back by itself

    def as_numpy(self, array: Array) -> np.ndarray:
        copied: np.ndarray = array.get()
        return copied
