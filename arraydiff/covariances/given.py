"""What `covariance` was given, on the host: one matrix with its bars, the structure of x, and what was measured beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optree

from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Layout, Leaf, flatten, is_real
from arraydiff.backends import Backend, backend_of
from arraydiff.result import UNVOUCHED, DerivativeResult, HessianResult, JacobianResult, Status

WANTED = "covariance wants the Hessian of one number, or JᵀJ: blocks of the shapes of x, each twice"


@dataclass(frozen=True)
class Given:
    """A matrix over the n entries of x."""

    backend: Backend
    layout: Layout  # of x
    matrix: np.ndarray  # (n, n) symmetric
    bars: np.ndarray  # (n, n) symmetric; infinite where an entry is not vouched for
    fixed: np.ndarray  # (n,) parameters that bounds hold
    dtype: Any  # of the results
    normal: bool = False  # JᵀJ
    value: float | None = None  # f(x), or r·r
    value_bar: float = 0.0
    rows: int | None = None  # how many residuals


def given(source: Any, error: Any) -> Given:
    """A result with its own bars, or a matrix with those of the user."""
    if not isinstance(source, DerivativeResult):
        return _matrix(source, error, None)
    if error is not None:
        raise ValueError("error goes with a bare matrix: a result brings its own error bars, leave error out")
    if isinstance(source, HessianResult):
        found = _matrix(source.derivative, source.error_estimate, source.status)
        return replace(found, value=_number(found.backend, source.value))
    if isinstance(source, JacobianResult) and source.normal is not None:
        (matrix, _, squares), (bars, _, bar), (status, _, _) = source.normal, source.error_estimate, source.status
        found = _matrix(matrix, bars, status)
        measured = _number(found.backend, squares), _number(found.backend, bar) or 0.0
        return replace(found, normal=True, value=measured[0], value_bar=measured[1], rows=source.rows)
    raise TypeError(
        f"covariance wants the result of hessian(f) or of normal_equations(residual), or a matrix, got {type(source).__name__}; "
        "for a fit pass normal_equations(residual).result(x)"
    )


def _matrix(tree: PyTree, error: PyTree, status: PyTree) -> Given:
    leaves, structure = flatten(tree)
    if not leaves:
        raise ValueError(f"{WANTED}, got a structure without entries")
    backend = backend_of(leaves)
    if backend.traced:
        raise ValueError("covariance looks at values, which are not there inside jax.jit: call it outside")
    arrays = [_real_array(backend, leaf) for leaf in leaves]
    layout = _layout(tree, structure, arrays)
    whole = _joined(layout, [backend.as_numpy(array) for array in arrays])
    if error is None:
        bars = max(float(backend.xp.finfo(array.dtype).eps) for array in arrays) * np.abs(whole)
    else:
        bars = _beside(backend, layout, structure, error, "error")
    if np.any(bars < 0):
        raise ValueError("error must not be negative: it holds absolute error bars of the entries")
    told = np.zeros(whole.shape) if status is None else _beside(backend, layout, structure, status, "status")
    flags = told.astype(int)
    bars = np.where(np.isnan(bars) | ((flags & int(UNVOUCHED)) != 0), np.inf, bars)
    lopsided = np.abs(whole - whole.T) / 2  # at least as wrong as this
    return Given(
        backend,
        layout,
        (whole + whole.T) / 2,
        np.maximum(np.maximum(bars, bars.T), np.where(np.isnan(lopsided), np.inf, lopsided)),
        (np.diag(flags) & int(Status.FIXED)) != 0,
        backend.xp.result_type(*(array.dtype for array in arrays)),
    )


def _real_array(backend: Backend, leaf: Any) -> Array:
    array = backend.asarray(leaf)
    if backend.xp.isdtype(array.dtype, "integral"):
        array = backend.xp.astype(array, backend.default_float)
    if not is_real(backend, array.dtype):
        raise TypeError(
            f"covariance wants real numbers, got {array.dtype}; take the parts of complex parameters as real ones"
        )
    return array


def _layout(tree: PyTree, structure: Any, arrays: Sequence[Array]) -> Layout:
    """The structure of x, from the first row of blocks."""
    count = math.isqrt(len(arrays))
    shapes = [tuple(array.shape) for array in arrays[:count]]
    half = len(shapes[0]) // 2
    first = shapes[0][:half]
    leaves = tuple(Leaf(shape[half:], array.dtype) for shape, array in zip(shapes, arrays, strict=False))
    wanted = [(*row.shape, *column.shape) for row in leaves for column in leaves]
    if leaves[0].shape != first or wanted != [tuple(array.shape) for array in arrays]:
        raise ValueError(f"{WANTED}, got {', '.join(str(tuple(array.shape)) for array in arrays[:4])}")
    if structure is None or structure.is_leaf():
        return Layout(None, leaves)
    path = optree.tree_accessors(tree)[0]
    _, inputs = flatten(path[: len(path) // 2](tree))
    found = Layout(inputs, leaves)
    if (1 if inputs is None else inputs.num_leaves) != count:
        raise ValueError(f"{WANTED}, got {len(arrays)} blocks for {count} arrays")
    return found


def _joined(layout: Layout, blocks: Sequence[np.ndarray]) -> np.ndarray:
    """(n, n) of the blocks."""
    sizes, count = [leaf.size for leaf in layout.leaves], len(layout.leaves)
    flat = [block.reshape(sizes[i // count], sizes[i % count]) for i, block in enumerate(blocks)]
    rows = [np.concatenate(flat[i * count : (i + 1) * count], axis=1) for i in range(count)]
    return np.concatenate(rows, axis=0).astype(float)


def _beside(backend: Backend, layout: Layout, structure: Any, tree: PyTree, name: str) -> np.ndarray:
    """What stands beside the matrix, in its structure or as one (n, n)."""
    leaves, theirs = flatten(tree)
    blocks = [backend.as_numpy(backend.asarray(leaf)) for leaf in leaves]
    n = layout.size
    if len(blocks) == 1 and blocks[0].shape in ((), (n, n)):
        return np.broadcast_to(blocks[0], (n, n)).astype(float)
    if theirs != structure or [block.size for block in blocks] != _sizes(layout):
        raise ValueError(
            f"{name} must have the structure and shapes of the matrix, or be one of shape ({n}, {n}), or a number"
        )
    return _joined(layout, blocks)


def _sizes(layout: Layout) -> list[int]:
    return [row.size * column.size for row in layout.leaves for column in layout.leaves]


def _number(backend: Backend, value: Any) -> float | None:
    """f(x), where it is one number."""
    leaves, _ = flatten(value)
    if len(leaves) != 1 or math.prod(getattr(leaves[0], "shape", ())) != 1:
        return None
    as_numpy: Callable[[Array], np.ndarray] = backend.as_numpy
    return float(as_numpy(backend.asarray(leaves[0])).reshape(()))
