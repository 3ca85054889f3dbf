"""JAX: arrays cannot be written, without x64 there is no float64, and inside jit and vmap nobody has their values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import array_api_compat
import numpy as np
from optree import tree_flatten

from arraydiff._typing import Array, PyTree
from arraydiff.backends.base import Backend, OwnTape
from arraydiff.backends.numpy import NumpyBackend


@dataclass(frozen=True)
class JaxTape(OwnTape):
    """What jax.linearize recorded."""

    value: Array
    push: Callable[[Array], Array]
    x: Array

    def pullback(self, cotangent: Array, *, keep: bool = False) -> Array:
        """uᵀ·J."""
        return self._pull(cotangent)[0]

    @cached_property
    def _pull(self) -> Callable[[Array], tuple[Array]]:
        import jax

        pulled: Callable[[Array], tuple[Array]] = jax.linear_transpose(self.push, self.x)
        return pulled

    def pushforward(self, tangent: Array) -> Array:
        """J·v."""
        return self.push(tangent)


@dataclass(frozen=True)
class JaxBackend(Backend):
    """Arrays of JAX."""

    immutable = True

    @classmethod
    def owns(cls, array: Array) -> bool:
        return bool(array_api_compat.is_jax_array(array))

    @cached_property
    def on_cpu(self) -> bool:
        return getattr(self.device, "platform", "cpu") == "cpu"

    @cached_property
    def default_float(self) -> Any:
        return self.xp.asarray(1.0).dtype

    @cached_property
    def index_dtype(self) -> Any:
        return self.xp.asarray(0).dtype

    def asarray(self, value: Any, dtype: Any = None, *, copy: bool | None = None) -> Array:
        if not self.traced and _is_traced(value):
            raise ValueError(
                "f gives values that jax.vmap or jax.grad traces, at an x that is not traced: pass what f closes over as "
                "one more argument of f"
            )
        return self.xp.asarray(value, dtype=dtype, device=self.device, copy=copy)

    def during(self, fixed_stages: bool, arguments: PyTree) -> Backend:
        leaves = tree_flatten(arguments)[0]
        if any(map(_is_traced, [self.xp.asarray(0.0), *leaves])):  # inside jit, whatever is made is a tracer
            return TracedJaxBackend(self.xp, None)
        return self

    @property
    def host(self) -> Backend | None:
        return NumpyBackend(np, "cpu") if getattr(self.device, "platform", "") == "cpu" else None

    def to_host(self, *arrays: Array) -> tuple[Array, ...]:
        if any(map(_is_traced, arrays)):
            self.refuse("this")
        return tuple(_native(np.asarray(array)) for array in arrays)

    def from_host(self, array: Array, like: Array) -> Array:
        return self.xp.asarray(array, device=self.device)

    def copy(self, array: Array) -> Array:
        return array  # nobody can write to it

    def with_entry(self, fresh: Array, index: int, value: Array) -> Array:
        return fresh.at[index].set(value)

    def read(self, codes: Array) -> list[int]:
        if _is_traced(codes):
            self.refuse("this")
        return list(np.asarray(codes).tolist())

    def elsewhere(self, device: Any) -> Backend:
        import jax

        if device not in jax.devices(getattr(device, "platform", None)):
            raise ValueError("jax.devices() lists those that there are: give some of them")
        return replace(self, device=device)

    def moved(self, array: Array) -> Array:
        import jax

        return jax.device_put(array, self.device)

    def on_device(self) -> contextlib.AbstractContextManager[Any]:
        import jax

        manager: contextlib.AbstractContextManager[Any] = jax.default_device(self.device)
        return manager

    def recorded(self, function: Callable[[Array], Any], x: Array) -> Any:
        import jax

        value, push = jax.linearize(function, x)
        return JaxTape(value, push, x)

    def vmapped(self, function: Callable[[Array], Any]) -> Callable[[Array], Any] | None:
        import jax

        mapped: Callable[[Array], Any] = jax.vmap(function, in_axes=-1)
        return mapped

    def synchronize(self, *arrays: Array) -> None:
        import jax

        jax.block_until_ready(arrays)

    def free_memory(self) -> int | None:
        if not hasattr(self.device, "memory_stats"):
            return None  # an array that is spread over several devices
        if self.device.platform == "cpu":
            return super().free_memory()
        told = self.device.memory_stats() or {}
        if "bytes_limit" not in told:
            return None
        return int(told["bytes_limit"]) - int(told.get("bytes_in_use", 0))

    def memory_in_use(self) -> tuple[int, int] | None:
        if getattr(self.device, "platform", "") == "cpu":
            return super().memory_in_use()
        told = (self.device.memory_stats() if hasattr(self.device, "memory_stats") else None) or {}
        if "peak_bytes_in_use" not in told:
            return None
        return int(told["bytes_in_use"]), int(told["peak_bytes_in_use"])

    def as_numpy(self, array: Array) -> np.ndarray:
        return _native(np.asarray(array))

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


@dataclass(frozen=True)
class TracedJaxBackend(JaxBackend):
    """Tracers of JAX: they have no device."""

    traced = deferred = True

    @classmethod
    def owns(cls, array: Array) -> bool:
        return JaxBackend.owns(array) and _is_traced(array)

    def during(self, fixed_stages: bool, arguments: PyTree) -> Backend:
        return self

    @property
    def host(self) -> Backend | None:
        return None

    def read(self, codes: Array) -> list[int]:
        self.refuse("this")

    def on_device(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()


def _is_traced(array: Any) -> bool:
    import jax

    return isinstance(array, jax.core.Tracer)


def _native(array: np.ndarray) -> np.ndarray:
    """NumPy knows bfloat16 by storage alone."""
    return array.astype(np.float32) if array.dtype.kind == "V" else array
