"""The array libraries that the example can compute with, and the way to them and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from arraydiff.examples.xpcs import Array


class MissingLibraryError(ImportError):
    """A library that was asked for is not installed, or has no device; the text is one line with the remedy."""


@dataclass(frozen=True)
class Library:
    """An array library on one device, always in double precision."""

    name: str
    place: str
    array: Callable[[np.ndarray], Array]
    host: Callable[[Array], np.ndarray]
    compiled: Callable[[Callable[[Array], Array]], Callable[[Array], Array]] = lambda function: function


def library(name: str) -> Library:
    """The library called `name`, on its best device.

    Raises
    ------
    MissingLibraryError
        It cannot be imported or finds no device.
    ValueError
        No library of this name is known.
    """
    if name not in OPENERS:
        raise ValueError(f"backend must be one of {', '.join(OPENERS)}, got {name!r}")
    try:
        return OPENERS[name]()
    except MissingLibraryError:
        raise
    except ImportError as error:
        extra = "cuda12] or arraydiff[cuda13" if name == "cupy" else name
        remedy = f"run: pip install arraydiff[{extra}]"
        raise MissingLibraryError(f"{name} cannot be imported ({error}); {remedy}") from error


def _numpy() -> Library:
    return Library("numpy", "cpu", np.asarray, np.asarray)


def _torch() -> Library:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def array(host: np.ndarray) -> Any:
        return torch.asarray(host, dtype=torch.float64, device=device)

    return Library("torch", device, array, lambda tensor: np.asarray(tensor.detach().cpu()))


def _jax() -> Library:
    import jax

    jax.config.update("jax_enable_x64", True)  # without it JAX rounds everything to float32

    def array(host: np.ndarray) -> Any:
        return jax.numpy.asarray(host, dtype=float)

    return Library("jax", jax.default_backend(), array, np.asarray, jax.jit)


def _cupy() -> Library:
    import cupy

    if not cupy.is_available():
        raise MissingLibraryError("cupy finds no CUDA device; use --backend numpy")
    return Library("cupy", "cuda", lambda host: cupy.asarray(host, dtype=float), cupy.asnumpy)


OPENERS: dict[str, Callable[[], Library]] = {"numpy": _numpy, "torch": _torch, "jax": _jax, "cupy": _cupy}
