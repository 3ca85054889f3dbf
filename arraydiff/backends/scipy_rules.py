"""What tracing asks about sparse matrices, of SciPy and of CuPy."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np


def is_sparse(value: Any) -> bool:
    """Whether it is a sparse array or matrix of SciPy's or CuPy's."""
    found = _SPARSE.get(type(value))
    if found is None:
        found = type(value).__module__.startswith(("scipy.sparse", "cupyx.scipy.sparse")) and hasattr(value, "tocsr")
        _SPARSE[type(value)] = found
    return found


_SPARSE: dict[type, bool] = {}


def is_matrix(value: Any) -> bool:
    """Whether ``*`` is its product of matrices."""
    return is_sparse(value) and not type(value).__name__.endswith("_array")


def kept(matrix: Any) -> Any:
    """A sparse matrix as it is now; one copy serves as long as f does not change it."""
    known = _KEPT.get(id(matrix))
    if known is not None and known[0]() is matrix and _same_parts(known[1], matrix):
        return known[1]
    copy, name = matrix.copy(), id(matrix)
    _KEPT[name] = weakref.ref(matrix, lambda _: _KEPT.pop(name, None)), copy
    return copy


_KEPT: dict[int, tuple[Any, Any]] = {}


def _same_parts(a: Any, b: Any) -> bool:
    ours, theirs = _parts(a), _parts(b)
    return bool(ours) and len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


def _parts(matrix: Any) -> list[np.ndarray]:
    """The arrays that a sparse matrix of the host is made of; none of those that are made of something else."""
    values = [value for _, value in sorted(vars(matrix).items())]
    found = [one for value in values for one in (value if type(value) is tuple else (value,))]
    return [one for one in found if type(one) is np.ndarray and one.dtype != object]
