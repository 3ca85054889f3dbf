"""Guards under which a hidden wait for the device raises; the backend's reads and uploads may wait, and are counted."""

from __future__ import annotations

import contextlib
import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from arraydiff.backends import backend_of
from gpu_tests.conftest import REHEARSAL, Device
from tests import cupy_standin

MAY_WAIT = ("read", "to_host", "asarray", "indices")  # what is read, and numbers of the host that go up


@contextlib.contextmanager
def _standin(allow: bool) -> Iterator[None]:
    machine = cupy_standin.machine
    before, machine.forbid_sync = machine.forbid_sync, not allow
    try:
        yield
    finally:
        machine.forbid_sync = before


def _cupy(allow: bool) -> Any:
    return _standin(allow) if REHEARSAL else importlib.import_module("cupyx").allow_synchronize(allow)


@contextlib.contextmanager
def _torch(allow: bool) -> Iterator[None]:
    cuda = importlib.import_module("torch").cuda
    if REHEARSAL:
        yield
        return
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
