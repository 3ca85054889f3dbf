"""What this machine offers: versions, array libraries, devices, memory."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Callable

from arraydiff.backends.host_memory import free_memory

LIBRARIES = ("numpy", "scipy", "torch", "jax", "cupy", "dask", "array-api-strict", "matplotlib", "h5py")


def describe() -> list[str]:
    """Versions, array libraries, devices and memory, one line each; imports the libraries that drive devices."""
    own = _version("arraydiff") or "(not installed)"
    devices = [line for find in (_torch_devices, _jax_devices, _cupy_devices) for line in _safely(find)]
    facts = [
        *((name, _version(name) or "not found") for name in LIBRARIES),
        ("processors", os.cpu_count()),
        ("memory", _memory()),
        *(("device", line) for line in devices or ["cpu only: no library that drives accelerators was found"]),
    ]
    head = f"arraydiff {own}, Python {platform.python_version()}, {platform.platform()}"
    return [head, *(f"{name:<17} {fact}" for name, fact in facts)]


def _version(name: str) -> str | None:
    names = ("cupy", "cupy-cuda12x", "cupy-cuda13x") if name == "cupy" else (name,)
    for candidate in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(candidate)
    return None


def _memory() -> str:
    try:
        total = _gigabytes(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not a system with sysconf
        return "unknown"
    free = free_memory()
    return total if free is None else f"{_gigabytes(free)} free of {total}"


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _safely(find: Callable[[], list[str]]) -> list[str]:
    """What a library says of its devices; a broken installation is something to report, not to fail on."""
    try:
        return find()
    except ImportError:
        return []
    except Exception as error:  # noqa: BLE001  # drivers fail in their own ways
        return [f"{find.__name__.split('_')[1]}: {type(error).__name__}: {' '.join(str(error).split())}"]


def _torch_devices() -> list[str]:
    import torch

    lines = ["torch: cpu"]
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        lines.append(f"torch: cuda:{i} {torch.cuda.get_device_name(i)}, {_gigabytes(free)} free of {_gigabytes(total)}")
    return lines


def _jax_devices() -> list[str]:
    import jax

    return [f"jax: {device}" for device in jax.devices()]


def _cupy_devices() -> list[str]:
    import cupy

    if not cupy.is_available():
        return ["cupy: no CUDA device"]
    lines = []
    for i in range(cupy.cuda.runtime.getDeviceCount()):
        with cupy.cuda.Device(i) as device:
            free, total = device.mem_info
            name = cupy.cuda.runtime.getDeviceProperties(i)["name"].decode()
        lines.append(f"cupy: cuda:{i} {name}, {_gigabytes(free)} free of {_gigabytes(total)}")
    return lines
