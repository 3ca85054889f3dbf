"""What tests share: the array libraries, one assertion about arrays, and an f that records what it saw."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import array_api_compat
import numpy as np

from tests import cupy_standin

ROUNDINGS = 1e3
"""Default tolerance of `assert_array`, in units of eps of the dtype."""


def tonumpy(array: Any) -> np.ndarray:
    """The values of an array of any library, on the host."""
    if isinstance(array, np.ndarray | np.generic | float | int | complex):
        return np.array(array)
    if array_api_compat.is_torch_array(array):
        return array.detach().cpu().numpy().copy()
    if array_api_compat.is_cupy_array(array):
        return np.asarray(array.get())
    if array_api_compat.is_dask_array(array):
        return np.asarray(array.compute())
    if hasattr(array, "to_device") and not array_api_compat.is_jax_array(array):  # array_api_strict
        array = array.to_device(importlib.import_module("array_api_strict").Device("CPU_DEVICE"))
    return np.array(array)


class Backend(Enum):
    """An array library, or a stricter way to use one; the value names it in test ids."""

    NUMPY = "numpy"
    NUMPY_READONLY = "numpy-readonly"
    STRICT = "strict"
    STRICT_DEVICE1 = "strict-device1"
    TORCH = "torch"
    JAX = "jax"
    DASK = "dask"
    CUPY = "cupy-standin"

    @property
    def library(self) -> str:
        """The package that must be installed."""
        names = {"numpy": "numpy", "strict": "array_api_strict", "cupy": "numpy"}
        return names.get(self.value.partition("-")[0], self.value)

    def reason_to_skip(self) -> str | None:
        """Why it cannot be tested here, or None."""
        if importlib.util.find_spec(self.library) is None:
            return f"{self.library} is not installed: pip install {self.library.replace('_', '-')}"
        if self is Backend.CUPY and cupy_standin.is_hidden_by_a_real_one():
            return "a real CuPy is imported in this process; gpu_tests/ cover it"
        return None

    @contextlib.contextmanager
    def active(self) -> Iterator[Backend]:
        """The library ready for use, at its strictest."""
        with contextlib.ExitStack() as stack:
            if self is Backend.CUPY:
                stack.enter_context(cupy_standin.installed())
            if self is Backend.STRICT_DEVICE1:
                strict = importlib.import_module("array_api_strict")
                stack.enter_context(strict.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False))
            if self is Backend.JAX:
                importlib.import_module("jax").config.update("jax_enable_x64", True)
            yield self

    @property
    def module(self) -> Any:
        """The library itself."""
        names = {Backend.CUPY: "cupy", Backend.JAX: "jax.numpy", Backend.DASK: "dask.array"}
        return importlib.import_module(names.get(self, self.library))

    @property
    def namespace(self) -> Any:
        """The array-API namespace of its arrays."""
        return array_api_compat.array_namespace(self.asarray(0.0))

    def asarray(self, values: Any, dtype: str = "float64") -> Any:
        """Host values as an array of this library, on its device."""
        host = np.array(values, dtype=dtype)
        if self is Backend.NUMPY_READONLY:
            host.flags.writeable = False
        if self in (Backend.NUMPY, Backend.NUMPY_READONLY):
            return host
        if self is Backend.STRICT_DEVICE1:
            return self.module.asarray(host, device=self.module.Device("device1"))
        return self.module.asarray(host)

    @staticmethod
    def tonumpy(array: Any) -> np.ndarray:
        """The values of an array, on the host."""
        return tonumpy(array)


def assert_like(actual: Any, like: Any, shape: tuple[int, ...] | None = None, what: str = "the array") -> None:
    """`actual` is an array of the namespace, dtype and device of `like`, and of this shape (None: that of `like`).

    A Python number or a NumPy scalar is refused where a 0-d array is meant.
    """
    assert array_api_compat.is_array_api_obj(actual), f"{what} is a {type(actual).__name__}, no array"
    assert not isinstance(actual, np.generic), f"{what} is a NumPy scalar ({type(actual).__name__}), no 0-d array"
    ours, theirs = array_api_compat.array_namespace(actual), array_api_compat.array_namespace(like)
    assert ours is theirs, f"{what} came back in {ours.__name__}, x is of {theirs.__name__}"
    assert actual.dtype == like.dtype, f"{what} is of {actual.dtype}, x of {like.dtype}"
    places = array_api_compat.device(actual), array_api_compat.device(like)
    assert places[0] == places[1], f"{what} is on {places[0]}, x on {places[1]}"
    wanted = tuple(like.shape if shape is None else shape)
    assert tuple(actual.shape) == wanted, f"{what} has shape {tuple(actual.shape)}, not {wanted}"


def assert_array(
    actual: Any, desired: Any, like: Any, *, rtol: float | None = None, atol: float = 0.0, what: str = "the array"
) -> None:
    """`actual` is `assert_like` x and of the values `desired`; rtol None: `ROUNDINGS` times eps of its dtype."""
    desired = np.asarray(desired)
    assert_like(actual, like, desired.shape, what)
    got = tonumpy(actual)
    rtol = ROUNDINGS * float(np.finfo(got.dtype).eps) if rtol is None else rtol
    np.testing.assert_allclose(got, desired, rtol=rtol, atol=atol, err_msg=what)


def is_traced(x: Any) -> bool:
    """Whether f was handed what records it, in the place of an array."""
    return type(x).__module__ == "arraydiff.exact.trace"


@dataclass
class Recorder:
    """f, and what it saw: calls, points, and a copy of the first argument of each call.

    With `batch_axis` every call counts as many points as its argument is long there.
    """

    f: Callable[..., Any]
    batch_axis: int | None = None
    calls: int = 0
    points: int = 0
    seen: list[Any] = field(default_factory=list)

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        self.points += 1 if self.batch_axis is None else x.shape[self.batch_axis]
        is_array = array_api_compat.is_array_api_obj(x)
        if is_traced(x):  # f is followed: no point, and none that could be kept
            return self.f(x, *args, **kwargs)
        self.seen.append(array_api_compat.array_namespace(x).asarray(x, copy=True) if is_array else x)
        return self.f(x, *args, **kwargs)

    @property
    def coordinates(self) -> np.ndarray:
        """All points seen, one a row, flat."""
        return np.stack([np.ravel(tonumpy(x)) for x in self.seen])
