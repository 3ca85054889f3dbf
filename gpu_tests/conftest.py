"""Fixtures: `device` runs a test on every library that finds a CUDA device.

With ARRAYDIFF_REHEARSE=1 the same tests run without one: CuPy's on the stand-in, PyTorch's and JAX's on the CPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import numpy as np
import pytest

from tests import cupy_standin

REHEARSAL = os.environ.get("ARRAYDIFF_REHEARSE") == "1"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes three quarters of the memory

LIBRARIES_MAY_WARN = pytest.mark.filterwarnings("default", "error::arraydiff.DifferentiationWarning")
"""The machine has releases that nobody here has seen: what they say of theirs is shown, and fails nothing."""


class Device(Enum):
    """A library whose arrays live on a CUDA device; the value names it in test ids."""

    CUPY = "cupy"
    TORCH = "torch"
    JAX = "jax"

    def reason_to_skip(self) -> str | None:
        """Why it cannot be tested here, or None."""
        if REHEARSAL and self is Device.CUPY:
            return None
        if importlib.util.find_spec(self.value) is None:
            return f"{self.value} is not installed; see gpu_tests/README.md"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # CuPy warns where it finds no toolkit, which its wheels do not need
                found = FINDERS[self](importlib.import_module(self.value))
        except Exception as error:  # noqa: BLE001 - a driver that is missing is told in as many ways as there are drivers
            return f"{self.value} finds no CUDA device: {type(error).__name__}: {error}"
        return None if found else f"{self.value} finds no CUDA device"

    def asarray(self, values: Any, dtype: str = "float64") -> Any:
        """Host values as an array on the first CUDA device."""
        host = np.array(values, dtype=dtype)
        library = importlib.import_module(self.value)
        if self is Device.CUPY:
            return library.asarray(host)
        if self is Device.TORCH:
            return library.asarray(host, device="cpu" if REHEARSAL else "cuda:0")
        return library.device_put(host, library.devices("cpu" if REHEARSAL else "cuda")[0])


def _cupy(cupy: Any) -> bool:
    return hasattr(cupy.cuda, "runtime") and cupy.cuda.runtime.getDeviceCount() > 0  # the stand-in has no runtime


def _torch(torch: Any) -> bool:
    return REHEARSAL or bool(torch.cuda.is_available())


def _jax(jax: Any) -> bool:
    jax.config.update("jax_enable_x64", True)
    return bool(jax.devices("cpu" if REHEARSAL else "cuda"))


FINDERS: dict[Device, Callable[[Any], bool]] = {Device.CUPY: _cupy, Device.TORCH: _torch, Device.JAX: _jax}


@pytest.fixture(params=list(Device), ids=lambda device: device.value)
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """A library with a CUDA device."""
    reason = request.param.reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    if REHEARSAL and request.param is Device.CUPY:
        with cupy_standin.installed():
            yield request.param
    else:
        yield request.param


def of(*devices: Device) -> Any:
    """Some of the libraries only."""
    return pytest.mark.parametrize("device", devices, indirect=True, ids=lambda device: device.value)
