"""A derivative, and what is held against it, as one matrix whatever the structures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Layout, flatten, layout_of, unflatten
from arraydiff.backends import Backend, backend_of, is_array
from arraydiff.result import SMALL_SHARE

__all__ = ["Table", "copied"]


@dataclass(frozen=True)
class Table:
    """A row for each output, a column for each parameter; complex numbers stay whole."""

    backend: Backend
    rows: Layout
    columns: Layout
    typical: Array  # (n,) size of each parameter, 1 where it is 0
    value: Array  # (m,) size of f

    @classmethod
    def of(cls, x: PyTree, value: PyTree) -> Table:
        """The table of derivatives of f at x, where f gives `value`."""
        backend = backend_of(flatten(x)[0])
        columns, sizes = _sizes(backend, x)
        rows, value = _sizes(backend, value)
        typical = backend.xp.where(sizes > 0, sizes, backend.xp.ones_like(sizes))
        return cls(backend, rows, columns, typical, value)

    def matrix(self, tree: PyTree, name: str) -> Array:
        """A tree of the structure of the derivative as (m, n), checked."""
        xp, blocks = self.backend.xp, []
        for row, part in zip(self.rows.leaves, _up_to(self.rows, tree, name), strict=True):
            cells = zip(_up_to(self.columns, part, name), self.columns.leaves, strict=True)
            arrays = [(self._cell(cell, (*row.shape, *column.shape), name), column.size) for cell, column in cells]
            blocks.append(xp.concat([xp.reshape(array, (row.size, size)) for array, size in arrays], axis=1))
        return xp.concat(blocks, axis=0) if blocks else xp.zeros((0, 0))

    def vector(self, tree: PyTree) -> Array:
        """The sizes (n,) in a tree of the structure of x."""
        return _sizes(self.backend, tree)[1]

    def _cell(self, cell: Any, shape: tuple[int, ...], name: str) -> Array:
        array, xp = self.backend.asarray(cell), self.backend.xp
        if tuple(array.shape) != shape:
            raise ValueError(f"{name} must have the derivative's shape {shape}, got {tuple(array.shape)}")
        counted = xp.isdtype(array.dtype, ("integral", "bool")) and name != "status"
        return xp.astype(array, self.typical.dtype) if counted else array

    def scale(self, computed: Array) -> Array:
        """What entries are measured against, (m, n): themselves, or a small part of what changes f most."""
        xp, size = self.backend.xp, abs(computed)
        change = xp.max(size * self.typical[None, :], axis=1)
        change = xp.where(change > self.value, change, self.value)
        floor = SMALL_SHARE * change[:, None] / self.typical[None, :]
        return xp.where(size > floor, size, floor)

    def name(self, row: int, column: int) -> str:
        """How a user names an entry."""
        return self.name_along(row, "x" + self.columns.path(column))

    def name_along(self, row: int, what: str) -> str:
        """How a user names the derivative of one output by something."""
        return what if self.rows.size == 1 else f"f{self.rows.path(row)} by {what}"


def _up_to(layout: Layout, tree: PyTree, name: str) -> list[Any]:
    """What stands in a tree where `layout` has leaves."""
    if layout.structure is None:
        return [tree]
    try:
        parts: list[Any] = layout.structure.flatten_up_to(tree)
    except ValueError as error:
        raise ValueError(f"{name} must have the structure of the derivative: {error}") from None
    return parts


def _sizes(backend: Backend, tree: PyTree) -> tuple[Layout, Array]:
    """The layout of the absolute values of a tree, and these as one vector."""
    layout, arrays = layout_of(backend, tree)
    real = Layout(layout.structure, tuple(replace(leaf, is_complex=False) for leaf in layout.leaves))
    flat = [backend.xp.reshape(abs(array), (-1,)) for array in arrays]
    return real, backend.xp.concat(flat)


def copied(tree: PyTree) -> PyTree:
    """A tree that a user's function may write into."""
    leaves, structure = flatten(tree)
    backend = backend_of(leaves)
    return unflatten(structure, [backend.copy(leaf) if is_array(leaf) else leaf for leaf in leaves])
