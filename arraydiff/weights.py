"""Weights of the rows of a residual: one number, arrays of its shapes, or one of those for every block."""

from __future__ import annotations

from typing import Any

from arraydiff._typing import Array
from arraydiff.arguments import Layout, spread
from arraydiff.backends import Backend


def weights_of(weights: Any, i: int, label: Any, count: int | None) -> Any:
    """Those of one block."""
    if weights is None or isinstance(weights, int | float) or getattr(weights, "shape", None) == ():
        return weights
    if callable(weights):
        return weights(label)
    if count is not None and len(weights) != count:
        raise ValueError(f"weights must have one entry a block, got {len(weights)} for {count} blocks")
    if i >= len(weights):
        raise ValueError(f"weights must have one entry a block, got {len(weights)} for more blocks than that")
    return weights[i]


def root_of(backend: Backend, layout: Layout, weights: Any, dtype: Any) -> Array:
    """Square roots of the weights, (m,).

    Raises
    ------
    ValueError
        They do not fit the residual, or are negative or not finite.
    """
    xp = backend.xp
    try:
        flat = spread(backend, layout, weights, "weights", dtype, 1.0)
    except ValueError as error:
        shapes = ", ".join(str(leaf.shape) for leaf in layout.leaves)
        raise ValueError(f"weights must have the structure and shapes of the residual, {shapes}: {error}") from error
    if not backend.deferred and backend.counts(~((flat >= 0) & xp.isfinite(flat))) != [0]:
        raise ValueError("weights must be finite and not negative: give weight 0 to rows that are to be left out")
    return xp.sqrt(flat)
