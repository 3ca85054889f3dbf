"""Guards under which a hidden wait for the device raises; the backend's reads and uploads may wait, and are counted."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from arraydiff.backends import backend_of
from gpu_tests.conftest import REHEARSAL, Device
from tests import cupy_standin

TORCH_WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "equal", "_unique2", "unique_dim"}
MAY_WAIT = ("read", "number", "to_host", "asarray", "indices")  # what is read, and numbers of the host that go up


@contextlib.contextmanager
def _standin(allow: bool) -> Iterator[None]:
    machine = cupy_standin.machine
    before, machine.forbid_sync = machine.forbid_sync, not allow
    try:
        yield
    finally:
        machine.forbid_sync = before


@contextlib.contextmanager
def _real_cupy(allow: bool) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it cannot find every wait
            stack.enter_context(importlib.import_module("cupyx").allow_synchronize(allow))
        yield


def _cupy(allow: bool) -> Any:
    return _standin(allow) if REHEARSAL else _real_cupy(allow)


@cache
def _dispatch_mode() -> type:
    """On a CPU: what PyTorch's debug mode would raise for on a device, uploads among them."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Waits(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.overloadpacket.__name__
            tensors = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()
            by_mask = name.startswith("index") and any(getattr(t, "dtype", None) is torch.bool for t in tensors)
            if name in TORCH_WAITS or by_mask:
                raise RuntimeError(f"{func} makes the host wait for the device")
            return func(*args, **(kwargs or {}))

    return Waits


@contextlib.contextmanager
def _torch_rehearsed(allow: bool) -> Iterator[None]:
    python_dispatch = importlib.import_module("torch.utils._python_dispatch")
    with python_dispatch._disable_current_modes() if allow else _dispatch_mode()():
        yield


@contextlib.contextmanager
def _torch(allow: bool) -> Iterator[None]:
    if REHEARSAL:
        with _torch_rehearsed(allow):
            yield
        return
    cuda = importlib.import_module("torch").cuda
    before = cuda.get_sync_debug_mode()
    cuda.set_sync_debug_mode("default" if allow else "error")
    try:
        yield
    finally:
        cuda.set_sync_debug_mode(before)


def _jax(allow: bool) -> Any:
    return importlib.import_module("jax").transfer_guard_device_to_host("allow" if allow else "disallow")


GUARDS: dict[Device, Callable[[bool], Any]] = {Device.CUPY: _cupy, Device.TORCH: _torch, Device.JAX: _jax}


@contextlib.contextmanager
def no_transfer(device: Device, x: Any, patch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Inside, waits raise but in the backend's own places, which are counted by name."""
    guard, kind, seen = GUARDS[device], type(backend_of([x])), Counter[str]()

    def counting(name: str) -> Callable[..., Any]:
        original = getattr(kind, name)

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen[name] += 1
            with guard(True):
                return original(self, *args, **kwargs)

        return method

    with patch.context() as patched, guard(False):
        for name in MAY_WAIT:
            patched.setattr(kind, name, counting(name))
        yield seen
