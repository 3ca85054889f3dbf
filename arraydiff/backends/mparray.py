"""mparray: numbers of mpmath, whose working precision is that of every derivative."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

from arraydiff._typing import Array
from arraydiff.backends.base import Backend

LARGEST_DENOMINATOR = 10**4


@dataclass(frozen=True)
class MparrayBackend(Backend):
    """Arrays of mparray."""

    @classmethod
    def owns(cls, array: Array) -> bool:
        return type(array).__module__.partition(".")[0] == "mparray"

    @classmethod
    def of(cls, array: Array) -> Self:
        from arraydiff.backends import mparray_namespace

        return cls(mparray_namespace, array.device)

    def ratios(self, values: Any, dtype: Any) -> Array:
        import numpy as np
        from mpmath import mp

        exact = [Fraction(value).limit_denominator(LARGEST_DENOMINATOR) for value in np.ravel(values).tolist()]
        numbers = np.array([mp.mpf(ratio.numerator) / ratio.denominator for ratio in exact], dtype=object)
        return self.asarray(numbers.reshape(np.shape(values)), dtype)

    def asarray(self, value: Any, dtype: Any = None, *, copy: bool | None = None) -> Array:
        return self.xp.asarray(value, dtype=dtype, device=self.device, copy=copy)
