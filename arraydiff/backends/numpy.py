"""NumPy: the mandatory fallback, also for Python numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from arraydiff._typing import Array
from arraydiff.backends.base import Backend

FEW = 2**12
"""Numbers a column below which all are copied at once."""


@dataclass(frozen=True)
class NumpyBackend(Backend):
    """Arrays of NumPy."""

    _is_host = True
    immediate = True

    @classmethod
    def owns(cls, array: Array) -> bool:
        return bool(array_api_compat.is_numpy_array(array))

    def asarray(self, value: Any, dtype: Any = None, *, copy: bool | None = None) -> Array:
        return np.asarray(value, dtype=dtype) if not copy else np.array(value, dtype=dtype)

    def indices(self, which: Sequence[int] | np.ndarray) -> Array:
        return np.asarray(which if isinstance(which, np.ndarray) else list(which), dtype=np.int64)

    def copy(self, array: Array) -> Array:
        return np.array(array)

    def added(self, mine: Array, other: Array) -> Array:
        return np.add(mine, other, out=mine)

    def scalar(self, array: Array) -> Any:
        return array[()]

    def flat(self, value: Any) -> Array | None:
        if isinstance(value, float):  # np.float64 too
            return np.array([value])
        if type(value) is np.ndarray and value.dtype == np.float64:
            return value.flatten()
        return None

    def gather(self, columns: Sequence[Array]) -> Array:
        if len(columns) == 1:
            return columns[0][:, None]
        if columns[0].size <= FEW or not isinstance(columns, list):
            return np.array(columns).T
        whole = np.empty((len(columns), columns[0].size), np.result_type(*columns))
        for j in range(len(columns)):
            whole[j], columns[j] = columns[j], None  # each goes as soon as it is copied
        return whole.T

    def operator(self, n: int, dtype: Any, product: Callable[[Array], Array]) -> Any:
        try:
            from scipy.sparse.linalg import LinearOperator
        except ImportError as error:
            raise TypeError("linear operators are SciPy's: install scipy, or call hvp") from error
        return LinearOperator((n, n), matvec=product, rmatvec=product, dtype=dtype)

    def read(self, codes: Array) -> list[int]:
        return list(codes.tolist())

    def counts(self, *masks: Array) -> list[int]:
        return [int(np.count_nonzero(mask)) for mask in masks]
