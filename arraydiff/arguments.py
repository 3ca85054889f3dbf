"""The user's arguments and outputs, as trees of arrays, against the flat vectors that the core works with."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

import optree

from arraydiff._typing import Array, Namespace, PyTree
from arraydiff.backends import Backend, is_array

Place = int | str
"""Where a differentiated argument stands in the call: a position, or the name of a keyword."""


def flatten(tree: PyTree) -> tuple[list[Any], Any]:
    """Leaves and structure; None is a structure, as in JAX."""
    if is_array(tree) or isinstance(tree, float):
        return [tree], None  # the common case, without a tree library
    leaves, structure = optree.tree_flatten(tree)
    return leaves, structure


def unflatten(structure: Any, leaves: Sequence[Any]) -> PyTree:
    """The inverse of `flatten`."""
    return leaves[0] if structure is None else optree.tree_unflatten(structure, leaves)


@dataclass(frozen=True)
class Argnums:
    """The normalised `argnums` of a transform."""

    numbers: tuple[int, ...]
    single: bool

    @classmethod
    def of(cls, argnums: Any) -> Argnums:
        """Checked at decoration, with JAX's types of errors."""
        if isinstance(argnums, list | tuple):
            numbers = tuple(_index(number) for number in argnums)
            if not numbers:
                raise ValueError("argnums is empty: name at least one positional argument to differentiate")
            if len(set(numbers)) != len(numbers):
                raise TypeError(f"argnums names an argument twice, got {argnums!r}; leave one out")
            return cls(numbers, single=False)
        return cls((_index(argnums),), single=True)

    def places(self, fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Place, ...]:
        """Where each one stands in this call; an argument passed by keyword is found by its name."""
        if self.single and 0 <= self.numbers[0] < len(args):
            return self.numbers  # the common case
        found = tuple(self._place(number, fun, args, kwargs) for number in self.numbers)
        if len(set(found)) != len(found):
            raise TypeError(f"argnums names an argument twice, got {self.numbers}; leave one out")
        return found

    def _place(self, number: int, fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Place:
        if -len(args) <= number < len(args):
            return number % len(args)
        if number < 0 and args:
            raise ValueError(
                f"argnums={number} is out of range of {len(args)} positional arguments; it must be at least {-len(args)}"
            )
        name = _parameter_name(fun, number)
        if name in kwargs:
            return name
        raise TypeError(
            f"differentiation with respect to argnums={number} requires at least "
            f"{number + 1 if number >= 0 else -number} positional arguments to be passed by the caller, "
            f"but got only {len(args)} positional arguments."
        )

    @property
    def described(self) -> str:
        """As docstrings print it."""
        return str(self.numbers[0]) if self.single else str(self.numbers)


def _index(number: Any) -> int:
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(f"argnums wants an int or a tuple of ints, got {number!r}") from None


def _parameter_name(fun: Callable[..., Any], number: int) -> str:
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):
        return ""
    by_position = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    names = [p.name for p in parameters if p.kind in by_position]
    return names[number] if -len(names) <= number < len(names) else ""


@dataclass(frozen=True)
class Leaf:
    """One array in a tree of arguments or outputs."""

    shape: tuple[int, ...]
    dtype: Any
    is_complex: bool = False
    is_number: bool = False  # a Python float: f receives a scalar
    constant: Array | None = None  # an integer argument under allow_int: passed to f, not displaced

    @property
    def size(self) -> int:
        """Real numbers in the flat vector."""
        return 0 if self.constant is not None else math.prod(self.shape) * (2 if self.is_complex else 1)


@dataclass(frozen=True)
class Layout:
    """A tree of arrays as a stretch of a flat real vector: complex leaves give their real, then imaginary parts."""

    structure: Any
    leaves: tuple[Leaf, ...]

    @cached_property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(leaf.size for leaf in self.leaves)

    @cached_property
    def spans(self) -> list[tuple[Leaf, int, int]]:
        """Each leaf with its stretch of the flat vector."""
        spans, start = [], 0
        for leaf in self.leaves:
            spans.append((leaf, start, start + leaf.size))
            start += leaf.size
        return spans

    @cached_property
    def has_complex(self) -> bool:
        """Whether any leaf is complex."""
        return any(leaf.is_complex for leaf in self.leaves)

    @cached_property
    def is_vector(self) -> bool:
        """Whether the tree is one real array (n,), which is the flat vector as it is: the common case."""
        leaf = self.leaves[0] if len(self.leaves) == 1 and self.structure is None else None
        return leaf is not None and len(leaf.shape) == 1 and leaf.constant is None and not leaf.is_complex

    def path(self, index: int) -> str:
        """How a user names entry `index` of the flat vector: ``[2]``, ``['a'][0, 1]``."""
        paths = [()] if self.structure is None else optree.treespec_paths(self.structure)
        for (leaf, start, stop), path in zip(self.spans, paths, strict=True):
            if start <= index < stop:
                keys = "".join(f"[{key!r}]" for key in path)
                return keys + _index_text(leaf.shape, (index - start) % max(math.prod(leaf.shape), 1))
        return f"[{index}]"


def _index_text(shape: tuple[int, ...], flat: int) -> str:
    if not shape:
        return ""
    indices: list[int] = []
    for length in reversed(shape):
        flat, index = divmod(flat, length)
        indices.insert(0, index)
    return f"[{', '.join(map(str, indices))}]"


def part_of(layout: Layout, which: Sequence[int], *, single: bool) -> tuple[Layout, list[int]]:
    """Some of several arguments, or one of them, with their places in the flat vector."""
    children, parts, leaves, start = layout.structure.children(), [], iter(layout.spans), list[int]()
    spans = [[next(leaves) for _ in range(child.num_leaves)] for child in children]
    for number in which:
        parts += [leaf for leaf, _, _ in spans[number]]
        start += [i for _, first, last in spans[number] for i in range(first, last)]
    chosen = [children[number] for number in which]
    return Layout(chosen[0] if single else optree.treespec_tuple(chosen), tuple(parts)), start


def layout_of(backend: Backend, tree: PyTree) -> tuple[Layout, list[Array]]:
    """The layout of a tree, and its leaves as arrays of the backend."""
    leaves, structure = flatten(tree)
    arrays = [_as_array(backend, leaf) for leaf in leaves]
    if structure is None and (arrays[0] is leaves[0] or is_array(leaves[0])):
        return array_layout(backend.xp, tuple(arrays[0].shape), arrays[0].dtype), arrays
    specs = tuple(
        Leaf(tuple(a.shape), a.dtype, is_complex(backend, a.dtype), isinstance(leaf, float) and not is_array(leaf))
        for a, leaf in zip(arrays, leaves, strict=True)
    )
    return Layout(structure, specs), arrays


@lru_cache(maxsize=256)
def array_layout(xp: Namespace, shape: tuple[int, ...], dtype: Any) -> Layout:
    """One array: the common case, asked for at every evaluation."""
    return Layout(None, (Leaf(shape, dtype, _isdtype(xp, dtype, "complex floating")),))


def _as_array(backend: Backend, leaf: Any) -> Array:
    if is_array(leaf):
        return backend.detached(backend.asarray(leaf))
    if isinstance(leaf, complex) and not isinstance(leaf, float | int):
        return backend.asarray(leaf)
    if isinstance(leaf, float):
        return backend.asarray(float(leaf), backend.default_float)
    if isinstance(leaf, int):  # bool too
        return backend.asarray(leaf)
    raise TypeError(f"{type(leaf).__name__} is neither a number nor an array; differentiated arguments want floats")


def is_complex(backend: Backend, dtype: Any) -> bool:
    """Whether a dtype is complex."""
    return _isdtype(backend.xp, dtype, "complex floating")


def is_real(backend: Backend, dtype: Any) -> bool:
    """Whether a dtype is real floating."""
    return _isdtype(backend.xp, dtype, "real floating")


@cache
def _isdtype(xp: Namespace, dtype: Any, kind: str) -> bool:
    return bool(xp.isdtype(dtype, kind))


def ravel(backend: Backend, leaves: Sequence[Leaf], arrays: Sequence[Array], dtype: Any) -> Array:
    """Leaves as one real vector of `dtype`, a new one."""
    xp, parts = backend.xp, []
    for leaf, array in zip(leaves, arrays, strict=True):
        for part in (xp.real(array), xp.imag(array)) if leaf.is_complex else (array,):
            parts.append(xp.astype(xp.reshape(part, (-1,)), dtype, copy=False))
    if len(parts) == 1:
        return backend.copy(parts[0])
    return xp.concat(parts) if parts else backend.asarray([], dtype)


def spread(backend: Backend, layout: Layout, value: PyTree, name: str, dtype: Any, missing: float) -> Array:
    """An option that follows the structure of x, as a vector (n,); None stands for `missing`."""
    if value is None or isinstance(value, int | float):
        return backend.xp.full(
            (layout.size,), missing if value is None else float(value), dtype=dtype, device=backend.device
        )
    try:
        alone = layout.structure is None or (len(layout.leaves) == 1 and is_array(value))
        parts = [value] if alone else layout.structure.flatten_up_to(value)
        filled = [
            _spread_leaf(backend, leaf, part, dtype, missing) for leaf, part in zip(layout.leaves, parts, strict=True)
        ]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} wants a number, or numbers in the structure and shapes of x: {error}") from error
    if not filled:
        return backend.asarray([], dtype)
    return filled[0] if len(filled) == 1 else backend.xp.concat(filled)


def _spread_leaf(backend: Backend, leaf: Leaf, part: Any, dtype: Any, missing: float) -> Array:
    if leaf.constant is not None:
        return backend.asarray([], dtype)
    if isinstance(part, list | tuple):
        part = [missing if entry is None else entry for entry in part]
    plain = part is None or isinstance(part, list | tuple)  # numbers of Python's: some libraries make float32 of them
    array = backend.asarray(missing if part is None else part, dtype if plain else None)
    whole = backend.xp.broadcast_to(backend.xp.astype(array, dtype), leaf.shape)
    flat = backend.xp.reshape(whole, (-1,))
    return backend.xp.concat([flat, flat]) if leaf.is_complex else flat
