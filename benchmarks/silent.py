"""Functions that mislead a differentiator, each with its true gradient: who says so, and who is wrong in silence?"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from benchmarks.peers import Gradient

WRONG = 2e-3  # relative; the package calls an entry vouched for below 1e-3


@dataclass(frozen=True)
class Trap:
    name: str
    make: Callable[[], Callable[[np.ndarray], Any]]
    x: np.ndarray
    gradient: np.ndarray  # NaN: there is none, whatever is returned has to come with a word


def reuses_buffer() -> Callable[[np.ndarray], Any]:
    buffer = np.empty(())

    def fun(x: np.ndarray) -> Any:
        buffer[...] = np.sum(np.real(x) ** 2)
        return buffer

    return fun


def overwrites_argument() -> Callable[[np.ndarray], Any]:
    def fun(x: np.ndarray) -> Any:
        x *= x
        return np.sum(x)

    return fun


def hashed(x: np.ndarray) -> float:
    """Noise between -1/2 and 1/2 that is the same at the same x, and has no slope at any scale."""
    return crc32(x.tobytes()) / 2**32 - 0.5


X = np.asarray([-1.3, 0.7, 2.1])
SCALES = np.asarray([1e-6, 1.0, 1e6])
EDGE = np.asarray([1e-9, 1.0, 1e3])
ABSENT = np.full(3, np.nan)
TRAPS = [
    Trap("returns the same buffer every time", reuses_buffer, X, 2 * X),
    Trap("overwrites its argument", overwrites_argument, X, 2 * X),
    Trap("integer x", lambda: lambda x: np.sum(x * x), np.asarray([1, 2, 3]), np.asarray([2.0, 4.0, 6.0])),
    Trap("float() drops imaginary parts", lambda: lambda x: float(np.real(np.sum(x**3))), X, 3 * X**2),
    Trap("abs of the parameters", lambda: lambda x: np.sum(np.abs(x) ** 3), X, 3 * X * np.abs(X)),
    Trap("norm", lambda: np.linalg.norm, X, X / np.linalg.norm(X)),
    Trap("sort", lambda: lambda x: np.sum(np.sort(x) * np.arange(3.0)), X, np.arange(3.0)),
    Trap("negative float power", lambda: lambda x: np.sum(x**-3.0), X, -3 * X**-4.0),
    Trap("float32 inside", lambda: lambda x: np.sum(x.astype(np.float32) ** 2), X, 2 * X),
    Trap("noise of 1e-6", lambda: lambda x: np.sum(x * x) + 1e-6 * hashed(np.real(x)), X, 2 * X),
    Trap("noise of 1e-3", lambda: lambda x: np.sum(x * x) + 1e-3 * hashed(np.real(x)), X, 2 * X),
    Trap("rounded to 4 digits", lambda: lambda x: np.round(np.real(np.sum(x * x)), 4), X, 2 * X),
    Trap("jump at x", lambda: lambda x: np.sum(np.where(np.real(x) > 0, 1.0 + x, x)), np.zeros(3), ABSENT),
    Trap("kink at x", lambda: lambda x: np.sum(np.abs(x)), np.zeros(3), ABSENT),
    Trap("scales 1e-6 to 1e6", lambda: lambda x: np.sum(np.sin(x / SCALES)), SCALES, np.cos(1.0) / SCALES),
    Trap("close to the end of the domain", lambda: lambda x: np.sum(np.log(x)), EDGE, 1 / EDGE),
    Trap("NaN on one side of x", lambda: lambda x: np.sum(x * np.sqrt(x)), X * (X > 0), 1.5 * np.sqrt(X * (X > 0))),
]


def outcome(gradient: Gradient, trap: Trap) -> str:
    """ "right", "said" (an exception, a warning or NaN) or "silent"."""
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="warn"):
        warnings.simplefilter("always")
        try:
            value = np.asarray(gradient(trap.make(), trap.x.copy()), dtype=float)
        except Exception:  # noqa: BLE001 - any exception is an answer that is not silent
            return "said"
    allowed = WRONG * np.where(trap.gradient == 0, np.max(np.abs(trap.gradient)), np.abs(trap.gradient))
    wrong = ~(np.abs(value - trap.gradient) <= allowed)
    if not np.any(wrong):
        return "right"
    return "said" if caught or np.any(np.isnan(value[wrong])) else "silent"
