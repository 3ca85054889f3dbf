"""Hessians made symmetric to the last bit, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable

from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Layout, flatten, unflatten
from arraydiff.backends import Backend


def symmetric(backend: Backend, inputs: Layout, tree: PyTree, kind: str) -> PyTree:
    """H_ij and H_ji replaced by their mean, their larger error bar, or the flags of both."""
    joins: dict[str, Callable[[Array, Array], Array]] = {
        "value": lambda one, other: (one + other) / 2,
        "error": backend.xp.maximum,
        "status": backend.xp.bitwise_or,
    }
    blocks, structure = flatten(tree)
    leaves, count = inputs.leaves, len(inputs.leaves)
    joined = []
    for position, block in enumerate(blocks):
        output, (i, j) = position // count**2, divmod(position % count**2, count)
        mirror = blocks[output * count**2 + j * count + i]
        mirrored = _transposed(backend, mirror, leaves[j].shape, leaves[i].shape)
        joined.append(backend.xp.asarray(joins[kind](block, mirrored)))  # NumPy makes scalars of 0-d arrays
    return unflatten(structure, joined)


def _transposed(backend: Backend, block: Array, first: tuple[int, ...], second: tuple[int, ...]) -> Array:
    """A block of shape (..., *first, *second) as (..., *second, *first)."""
    xp = backend.xp
    outer = block.shape[: block.ndim - len(first) - len(second)]
    flat = xp.reshape(block, (*outer, math.prod(first), math.prod(second)))
    return xp.reshape(xp.matrix_transpose(flat), (*outer, *second, *first))
