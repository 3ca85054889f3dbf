"""From flat arrays back to the user's structures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Layout, Leaf, is_complex, unflatten
from arraydiff.backends import Backend, float0_zeros

Combine = Callable[[Array, Array], Array]
"""How real and imaginary parts become one entry."""


def vector(backend: Backend, layout: Layout, flat: Array, dtype: Any = None) -> PyTree:
    """A real vector (n,) in the structure of `layout`; complex leaves take the real part's entries."""
    leaves = []
    for leaf, start, stop in layout.spans:
        if leaf.constant is not None:
            leaves.append(float0_zeros(leaf.shape))
            continue
        part = flat[start : start + math.prod(leaf.shape)] if leaf.is_complex else flat[start:stop]
        leaves.append(_shaped(backend, part, leaf.shape, dtype or _real(backend, leaf.dtype)))
    return unflatten(layout.structure, leaves)


def value(backend: Backend, layout: Layout, flat: Array) -> PyTree:
    """f(x) from its flat vector."""
    xp, leaves = backend.xp, []
    for leaf, start, stop in layout.spans:
        part = flat[start:stop]
        if leaf.is_complex:
            half = (stop - start) // 2
            part = xp.astype(part[:half], leaf.dtype) + xp.astype(part[half:], leaf.dtype) * 1j
        leaves.append(_shaped(backend, part, leaf.shape, leaf.dtype))
    return unflatten(layout.structure, leaves)


def matrix(
    backend: Backend,
    outputs: Layout,
    inputs: Layout,
    flat: Array,
    kind: str,
    *,
    holomorphic: bool = False,
    scalar: bool = False,
) -> PyTree:
    """(m, n) as outputs' structure of inputs' structures, shapes output + input.

    `kind` is "value", "error" or "status": how the parts of complex numbers are joined.  `scalar`: the one output has no
    structure of its own.
    """
    if inputs.is_vector and outputs.structure is None and not outputs.has_complex:  # the common case
        (out,), (leaf,) = outputs.leaves, inputs.leaves
        whole = backend.xp.astype(flat, flat.dtype if kind == "status" else leaf.dtype, copy=False)
        return backend.xp.reshape(whole, (*out.shape, *leaf.shape))
    blocks = []
    for out, top, bottom in outputs.spans:
        row = []
        for leaf, left, right in inputs.spans:
            if leaf.constant is not None:
                row.append(float0_zeros((*out.shape, *leaf.shape)))
                continue
            block = _block(backend, out, leaf, flat[top:bottom, left:right], kind, holomorphic)
            row.append(_shaped(backend, block, (*out.shape, *leaf.shape), block.dtype))
        blocks.append(unflatten(inputs.structure, row))
    return blocks[0] if scalar else unflatten(outputs.structure, blocks)


def second(backend: Backend, outputs: Layout, rows: Layout, inputs: Layout, flat: Array, kind: str) -> PyTree:
    """(m·r, n) as outputs' structure of rows' structures of inputs' structures; x is real."""
    r, n, xp, trees = rows.size, inputs.size, backend.xp, []
    for out, top, bottom in outputs.spans:
        blocks = []
        for leaf, start, stop in rows.spans:
            if leaf.constant is not None:
                still = [float0_zeros((*out.shape, *leaf.shape, *other.shape)) for other in inputs.leaves]
                blocks.append(unflatten(inputs.structure, still))
                continue
            cube = xp.reshape(flat[top * r : bottom * r, :], (bottom - top, r, n))[:, start:stop, :]
            whole = xp.reshape(cube, ((bottom - top) * (stop - start), n))
            both = Layout(None, (Leaf((*out.shape, *leaf.shape), out.dtype, out.is_complex),))
            blocks.append(matrix(backend, both, inputs, whole, kind, scalar=True))
        trees.append(unflatten(rows.structure, blocks))
    return unflatten(outputs.structure, trees)


def _block(backend: Backend, out: Leaf, leaf: Leaf, part: Array, kind: str, holomorphic: bool) -> Array:
    """One output leaf against one input leaf, (size, size)."""
    xp = backend.xp
    rows, columns = math.prod(out.shape), math.prod(leaf.shape)
    if kind == "status":
        join: Combine = xp.bitwise_or
    elif kind == "error":
        join = xp.hypot
    else:
        join = _complex_pair(backend)
    whole = part
    if leaf.is_complex and not holomorphic:
        left, right = part[:, :columns], part[:, columns:]
        whole = join(left, right if kind != "value" else -right)
    elif holomorphic:
        whole = part[:, :columns]
    if out.is_complex:
        above, below = whole[:rows, :], whole[rows:, :]
        whole = join(above, below) if kind != "value" or not leaf.is_complex or holomorphic else above + below * 1j
    if kind == "status":
        return whole
    if kind == "error" or not is_complex(backend, whole.dtype):
        return xp.astype(whole, _real(backend, leaf.dtype), copy=False)
    return xp.astype(whole, leaf.dtype if leaf.is_complex else _complex(backend, leaf.dtype))


def _complex_pair(backend: Backend) -> Combine:
    def pair(real: Array, imaginary: Array) -> Array:
        dtype = _complex(backend, real.dtype)
        return backend.xp.astype(real, dtype) + backend.xp.astype(imaginary, dtype) * 1j

    return pair


def _shaped(backend: Backend, part: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    if part.dtype != dtype:
        part = backend.xp.astype(part, dtype)
    return backend.xp.reshape(part, shape)


def _real(backend: Backend, dtype: Any) -> Any:
    if not is_complex(backend, dtype):
        return dtype
    return backend.xp.float64 if dtype == backend.xp.complex128 else backend.xp.float32


def _complex(backend: Backend, dtype: Any) -> Any:
    return backend.xp.complex128 if dtype == backend.xp.float64 else backend.xp.complex64
