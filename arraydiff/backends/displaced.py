"""Numbers that differ from others by a few eps, always in the same way: other roundings of the same results."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from arraydiff._typing import Array
from arraydiff.backends import backend_of, raw

NUMBERS = 2**12
"""Of the displacements, which are used again and again."""

STRIDE = 977
"""Between the displacements of one array and those of the next."""

SAMPLE = 1361
"""Between those of one way of rounding and those of another."""

SIZES = (0.5, 1.4)
"""Of the displacements: none is so small that the one rounding which rules a derivative would not show."""

SIGNS = np.array([-1.0, 1.0])

LEVELS = NUMBERS.bit_length() - 1

SHARED = 0.5
"""Of a displacement: what neighbours share at each level."""

SEED = 20261129


class Displacer:
    """Displaces one array after another."""

    def __init__(self, units: float, sample: int = 0) -> None:
        self.units, self.place = units, sample * SAMPLE % NUMBERS

    def __call__(self, value: Array) -> Array:
        """Real or complex floating numbers, each off by half of so many eps to a few times that; others as they are."""
        return self._displaced(value, _together)

    def alone(self, value: Array) -> Array:
        """The same, neighbours independently."""
        return self._displaced(value, _single)

    def _displaced(self, value: Array, numbers: Callable[[], np.ndarray]) -> Array:
        dtype = getattr(value, "dtype", None)
        if dtype is None or raw.kind(dtype) not in raw.SIMPLEST:
            return value
        self.place = (self.place + STRIDE) % NUMBERS
        eps = _eps_of_host(dtype) if raw.is_host(value) else float(raw.namespace_of(value).finfo(dtype).eps)
        unit, size = self.units * eps, math.prod(value.shape)
        if size == 1:
            return value * float(_factors(_single, unit)[self.place])
        factors = _factors(numbers, unit)[self.place : self.place + min(size, NUMBERS)]
        if size <= NUMBERS:
            return value * _alike(factors.reshape(value.shape), value)
        return _tiled(value, _alike(factors, value), size)


def _alike(factors: np.ndarray, value: Array) -> Array:
    """As real numbers of the library, device and precision of a value."""
    if raw.is_host(value):
        return factors.astype(value.real.dtype, copy=False)
    backend = backend_of([value])
    return backend.asarray(factors, backend.xp.real(value).dtype if raw.kind(value.dtype) == "c" else value.dtype)


def _tiled(value: Array, factors: Array, size: int) -> Array:
    """Times factors that are used again and again."""
    xp, tiled = raw.namespace_of(value), size - size % NUMBERS
    flat = xp.reshape(value, (-1,))
    tiles, rest = xp.reshape(flat[:tiled], (-1, NUMBERS)), flat[tiled:]
    if not raw.is_host(value):
        parts = [xp.reshape(tiles * factors[None, :], (-1,)), rest * factors[: size - tiled]]
        return xp.reshape(xp.concat(parts), value.shape)
    made = np.empty_like(flat)
    np.multiply(tiles, factors, out=made[:tiled].reshape(-1, NUMBERS))
    np.multiply(rest, factors[: size - tiled], out=made[tiled:])
    return made.reshape(value.shape)


@cache
def _factors(numbers: Callable[[], np.ndarray], unit: float) -> np.ndarray:
    """What displaces by so much: 1 and some."""
    factors: np.ndarray = 1.0 + unit * numbers()
    factors.flags.writeable = False
    return factors


@cache
def _eps_of_host(dtype: Any) -> float:
    return float(np.finfo(dtype).eps)


@cache
def _single() -> np.ndarray:
    """Each by itself; twice over, so that NUMBERS of them follow on each place."""
    random = np.random.Generator(np.random.PCG64(SEED))
    return np.tile(random.choice(SIGNS, NUMBERS) * random.uniform(*SIZES, NUMBERS), 2)


@cache
def _together() -> np.ndarray:
    """With a part that neighbours share, in twos, fours, and so on up to halves: a sum rounds what is added up so far."""
    random = np.random.Generator(np.random.PCG64(SEED + 1))
    shared = [np.repeat(random.choice(SIGNS, NUMBERS >> level), 1 << level) for level in range(1, LEVELS)]
    numbers = _single()[:NUMBERS] + SHARED * np.sum(shared, axis=0)
    return np.tile(np.where(np.abs(numbers) < SIZES[0], np.copysign(SIZES[0], numbers), numbers), 2)
