"""vmap without JAX: a loop over the entries of the mapped axes, with the signature, structures and errors of JAX's."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from arraydiff.axes import agreed_size, checked_axes, checked_axis, flat, is_axis, zip_arguments, zip_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def vmap(  # JAX's signature
    fun: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Any = None,  # noqa: ARG001  # there is nothing across entries to refer to
    axis_size: int | None = None,
    spmd_axis_name: Any = None,  # noqa: ARG001
    sum_match: bool = False,  # noqa: ARG001
) -> Callable[..., Any]:
    """Map a function over an axis of its arguments, by calling it once an entry.

    Parameters
    ----------
    fun : callable
        Takes and returns arrays, or dicts, lists, tuples and named tuples of them.
    in_axes : int, None, or a tuple or list with one entry an argument
        The axis to map, counted from the end where negative; None hands an argument over whole.  An entry may be a
        structure that is a prefix of its argument.  Keyword arguments are mapped along axis 0.
    out_axes : int, None or a structure of them
        Where the mapped axis goes in the output; None for what is the same for every entry.
    axis_size : int, optional
        The number of entries, needed where no argument is mapped.
    axis_name, spmd_axis_name, sum_match
        Accepted, and without effect.

    Returns
    -------
    callable
        Called like `fun`, with arrays that have the mapped axis.

    Raises
    ------
    TypeError
        `fun` is not callable, an axis is not an int, or what is mapped is not an array.
    ValueError
        Axes of different sizes, an axis that an array does not have, a structure that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from arraydiff._vmap import vmap
    >>> vmap(np.dot, in_axes=(0, None))(np.eye(2), np.array([3.0, 4.0])).tolist()
    [3.0, 4.0]
    """
    if not callable(fun):
        raise TypeError(f"vmap wants a callable, got {fun!r}")
    axes = checked_axes("vmap", in_axes)
    if not all(map(is_axis, flat(out_axes)[0])):
        raise TypeError(f"vmap: out_axes wants an int, None, or a structure of them, got {out_axes!r}")

    @functools.wraps(fun)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        inputs = [_Input.of(*found) for found in zip_arguments("vmap", axes, args, kwargs)]
        sizes = {} if axis_size is None else {"axis_size": operator.index(axis_size)}
        sizes.update({item.told: item.size for item in inputs if item.size is not None})
        size = agreed_size("vmap", sizes)
        structure = flat((args, kwargs))[1]
        outputs = [_call(fun, structure, inputs, entry) for entry in (range(size) if size else [None])]
        return _stack(outputs, out_axes, size)

    mapped.__doc__ = f"Vectorized version of {getattr(fun, '__name__', fun)}: one call an entry of the mapped axes."
    return mapped


@dataclass(frozen=True)
class _Input:
    """A leaf of the arguments; an array with the mapped axis first, or anything at all where it is not mapped."""

    leaf: Any
    size: int | None = None
    told: str = ""

    @classmethod
    def of(cls, path: str, axis: int | None, leaf: Any) -> _Input:
        """Checked against its axis."""
        if axis is None or leaf is None:
            return cls(leaf)
        array = np.asarray(leaf)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"vmap: {path} is a {type(leaf).__name__}, not an array: give it None in in_axes")
        checked_axis("vmap", path, axis, array.shape)
        return cls(np.moveaxis(array, axis, 0), array.shape[axis], f"axis {axis} of {path}")

    def entry(self, i: int | None) -> Any:
        """A copy, since f may write into what it is given; zeros where there is no entry to give."""
        if self.size is None:
            return self.leaf
        return np.zeros(self.leaf.shape[1:], self.leaf.dtype) if i is None else np.array(self.leaf[i])


def _call(fun: Callable[..., Any], structure: Any, inputs: Sequence[_Input], i: int | None) -> Any:
    args, kwargs = optree.tree_unflatten(structure, [item.entry(i) for item in inputs])
    if i is not None:
        return fun(*args, **kwargs)
    with np.errstate(all="ignore"):  # zeros that nobody asked for, to learn the structure and shapes of the output
        return fun(*args, **kwargs)


def _stack(outputs: list[Any], out_axes: Any, size: int) -> Any:
    """One output from those of the entries; an axis of length 0 where there are none."""
    flattened = [flat(output) for output in outputs]
    structure = flattened[0][1]
    if any(other != structure for _, other in flattened):
        raise ValueError("vmap: the function must return the same structure for every entry")
    columns = zip(*(leaves for leaves, _ in flattened), strict=True)
    found = zip_prefix("vmap", "out_axes", out_axes, outputs[0], "output")
    stacked = [_stack_leaf(path, axis, leaves, size) for (path, axis, _), leaves in zip(found, columns, strict=True)]
    return optree.tree_unflatten(structure, stacked)


def _stack_leaf(path: str, axis: int | None, leaves: Sequence[Any], size: int) -> Any:
    if leaves[0] is None:
        return None
    arrays = [np.asarray(leaf) for leaf in leaves]
    first = arrays[0]
    if any(array.dtype.kind not in "biufc" for array in arrays):
        raise TypeError(f"vmap: the function's {path} must be a number or an array, got {type(leaves[0]).__name__}")
    if any(array.shape != first.shape for array in arrays):
        shapes = sorted({array.shape for array in arrays})
        raise ValueError(f"vmap: the function's {path} has shapes {shapes}; it wants the same shape for every entry")
    if axis is None:
        if any(not np.array_equal(array, first, equal_nan=array.dtype.kind in "fc") for array in arrays):
            raise ValueError(f"vmap: out_axes is None for {path}, which differs from entry to entry: give it an int")
        return first
    if not -first.ndim - 1 <= axis <= first.ndim:
        raise ValueError(f"vmap: out_axes={axis} must be an axis of {path}, of shape {first.shape} for every entry")
    return np.stack(arrays, axis=axis) if size else np.stack(arrays, axis=axis).take([], axis=axis)
