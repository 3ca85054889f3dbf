"""What a sparse derivative is returned as: a matrix of the library that has one, else triplets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np

from arraydiff._typing import Array
from arraydiff.result import HessianResult, JacobianResult

if TYPE_CHECKING:
    from arraydiff.backends import Backend
    from arraydiff.sparse.pattern import Pattern

__all__ = ["SparseHessianResult", "SparseJacobianResult", "Triplets"]


@dataclass(frozen=True, eq=False)
class Triplets:
    """A sparse matrix as its entries, sorted by row, then by column: for libraries that have no type for one.

    Attributes
    ----------
    data, rows, cols : array, shape (nnz,)
        Values and places of the entries, on the device of x.
    shape : tuple of int
        Of the matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from arraydiff.sparse import Triplets
    >>> Triplets(np.array([1.0, 2.0]), np.array([0, 1]), np.array([1, 0]), (2, 2)).todense()
    array([[0., 1.],
           [2., 0.]])
    """

    data: Array
    rows: Array
    cols: Array
    shape: tuple[int, int]

    def todense(self) -> Array:
        """The whole matrix, as an array of the same library."""
        xp = array_api_compat.array_namespace(self.data)
        m, n = self.shape
        nothing = xp.zeros_like(self.data[:0])
        if not m * n:
            return xp.reshape(nothing, self.shape)
        flat = xp.astype(self.rows * n + self.cols, xp.int64)
        device = array_api_compat.device(self.data)
        place = xp.searchsorted(flat, xp.arange(m * n, dtype=xp.int64, device=device))
        padded = xp.concat([self.data, xp.zeros((1,), dtype=self.data.dtype, device=device)])
        there = xp.concat([flat, xp.full((1,), -1, dtype=xp.int64, device=device)])
        hit = xp.take(there, place) == xp.arange(m * n, dtype=xp.int64, device=device)
        return xp.reshape(xp.where(hit, xp.take(padded, place), xp.zeros_like(padded[:1])), self.shape)

    def __repr__(self) -> str:
        return f"<{self.shape[0]}x{self.shape[1]} triplets of {self.data.dtype} with {self.data.shape[0]} entries>"


def matrix_of(backend: Backend, pattern: Pattern, data: Array) -> Any:
    """CSR of SciPy on NumPy, of CuPy on CuPy, where they are there; else triplets."""
    if isinstance(data, np.ndarray):
        try:
            from scipy.sparse import csr_array
        except ImportError:
            return _triplets(backend, pattern, data)
        return csr_array((data, *(part.copy() for part in pattern.narrow)), shape=pattern.shape)
    if array_api_compat.is_cupy_array(data):
        try:
            from cupyx.scipy.sparse import csr_matrix
        except ImportError:
            return _triplets(backend, pattern, data)
        cols, indptr = (backend.asarray(part) for part in pattern.narrow)
        return csr_matrix((data, cols, indptr), shape=pattern.shape)
    return _triplets(backend, pattern, data)


def _triplets(backend: Backend, pattern: Pattern, data: Array) -> Triplets:
    rows, cols = (backend.asarray(part, backend.index_dtype) for part in (pattern.rows, pattern.cols))
    return Triplets(data, rows, cols, pattern.shape)


@dataclass(frozen=True, eq=False, repr=False)
class SparseJacobianResult(JacobianResult):
    """A sparse Jacobian; fields as in :class:`arraydiff.GradientResult`.

    Attributes
    ----------
    derivative, jacobian : csr_array, csr_matrix of cupyx, or Triplets
        Outputs by inputs, both counted along their flat arrays.
    error_estimate, status : array, shape (nnz,)
        Of each entry, in the order of ``derivative.data``.
    step_sizes : structure of x
        Steps as taken; 0 where a parameter was not moved.
    pattern : Sparsity
        The pattern and its colours, to be passed to other derivatives.
    colours, lower_bound : int
        Directions that the columns went into, with the cotangents where long rows were pulled back; and the entries of the
        longest row: no colouring of columns alone needs fewer.
    repaired_rows : array of int
        Rows of the pattern that were incomplete at this x, and are complete now.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> result = arraydiff.jacobian(np.sin, sparsity=np.eye(50, dtype=bool)).result(np.linspace(0.0, 1.0, 50))
    >>> result.jacobian.shape, result.colours, bool((result.error_estimate < 1e-14).all())
    ((50, 50), 1, True)
    """

    pattern: Any = None
    colours: int = 0
    lower_bound: int = 0
    repaired_rows: Any = None


@dataclass(frozen=True, eq=False, repr=False)
class SparseHessianResult(HessianResult):
    """A sparse Hessian, or the diagonal of one; fields as in :class:`arraydiff.GradientResult`.

    Attributes
    ----------
    derivative, hessian : csr_array, csr_matrix of cupyx, or Triplets
        Symmetric to the last bit, both axes counted along the flat array of x. Of ``hessian_diag`` as x.
    error_estimate, status : array, shape (nnz,)
        Of each entry, in the order of ``derivative.data``; (i, j) and (j, i) have the same. Of ``hessian_diag`` as x.
    pattern : Sparsity
        Of the Hessian, or of the terms, to be passed to other derivatives.
    colours, lower_bound : int
        Directions that the parameters went into, and the entries of the longest row of `pattern`.
    repaired_rows : array of int
        Rows of `pattern` that were incomplete at this x, and are complete now.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> def terms(x):
    ...     return (x[1:] - x[:-1]) ** 2
    >>> result = arraydiff.hessian(terms, terms=True, sparsity="detect").result(np.linspace(0.0, 1.0, 50))
    >>> result.hessian.shape, result.colours, bool((result.error_estimate < 1e-9).all())
    ((50, 50), 3, True)
    """

    pattern: Any = None
    colours: int = 0
    lower_bound: int = 0
    repaired_rows: Any = None
