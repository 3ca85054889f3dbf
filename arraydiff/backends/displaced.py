"""Numbers that differ from others by a few eps, always in the same way: other roundings of the same results."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from arraydiff._typing import Array
from arraydiff.backends import backend_of, raw

NUMBERS = 2**12
"""Of the displacements, which are used again and again."""

STRIDE = 977
"""Between the displacements of one array and those of the next."""

SIZES = (0.5, 1.4)
"""Of the displacements: none is so small that the one rounding which rules a derivative would not show."""

SEED = 20261129


class Displacer:
    """Displaces one array after another."""

    def __init__(self, units: float) -> None:
        self.units, self.place = units, 0

    def __call__(self, value: Array) -> Array:
        """Real or complex floating numbers, each off by so many eps in the root mean square; others as they are."""
        dtype = getattr(value, "dtype", None)
        if dtype is None or raw.kind(dtype) not in raw.SIMPLEST:
            return value
        self.place = (self.place + STRIDE) % NUMBERS
        unit, size = self.units * float(raw.namespace_of(value).finfo(dtype).eps), math.prod(value.shape)
        if size == 1:
            return value * (1.0 + unit * float(_displacements()[self.place]))
        return value * self._factors(value, size, unit)

    def _factors(self, value: Array, size: int, unit: float) -> Array:
        numbers = _displacements()[self.place :]
        numbers = numbers[:size] if size <= len(numbers) else np.resize(np.roll(_displacements(), -self.place), size)
        factors = (1.0 + unit * numbers).reshape(value.shape)
        if raw.is_host(value):
            return factors.astype(value.real.dtype, copy=False)
        backend = backend_of([value])
        return backend.asarray(factors, backend.xp.real(value).dtype if raw.kind(value.dtype) == "c" else value.dtype)


@cache
def _displacements() -> np.ndarray:
    random = np.random.Generator(np.random.PCG64(SEED))
    numbers: np.ndarray = random.choice(np.array([-1.0, 1.0]), NUMBERS) * random.uniform(*SIZES, NUMBERS)
    return numbers
