"""Which axes of a call's arguments are mapped, as in ``jax.vmap``: an axis stands for all that lies below it."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import optree

from arraydiff._typing import PyTree


def flat(tree: PyTree) -> tuple[list[Any], Any]:
    """Leaves and structure, where None is a leaf: among axes it has a meaning."""
    return optree.tree_flatten(tree, none_is_leaf=True)


def unflat(structure: Any, leaves: list[Any]) -> PyTree:
    """The inverse of `flat`."""
    return optree.tree_unflatten(structure, leaves)


def is_axis(value: Any) -> bool:
    """Whether `value` names an axis, or says that there is none."""
    return value is None or (isinstance(value, Integral) and not isinstance(value, bool))


def checked_axes(caller: str, in_axes: Any) -> Any:
    """`in_axes` as an int, None or a tuple.

    Raises
    ------
    TypeError
        Anything else.
    """
    axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes
    if not (is_axis(axes) or (isinstance(axes, tuple) and all(map(is_axis, flat(axes)[0])))):
        raise TypeError(f"{caller}: in_axes wants an int, None, or a tuple with one entry an argument, got {in_axes!r}")
    return axes


def zip_prefix(caller: str, option: str, axes: Any, tree: PyTree, name: str) -> list[tuple[str, Any, Any]]:
    """Path, axis and leaf for every leaf of a tree.

    Raises
    ------
    ValueError
        The axes have another structure than what they stand for.
    """
    try:
        spread = optree.broadcast_prefix(axes, tree, none_is_leaf=True)
    except ValueError as error:
        wanted = f"the structure of {name}, or an int or None in place of a part of it"
        raise ValueError(f"{caller}: {option} wants {wanted}, got {axes!r}: {error}") from None
    paths = [accessor.codify(name) for accessor in optree.tree_accessors(tree, none_is_leaf=True)]
    return list(zip(paths, spread, flat(tree)[0], strict=True))


def zip_arguments(
    caller: str, axes: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Path, axis and leaf for every leaf of a call's arguments; keyword arguments are mapped along axis 0.

    Raises
    ------
    ValueError
        The axes do not fit the arguments.
    """
    if isinstance(axes, tuple) and len(axes) != len(args):
        raise ValueError(f"{caller}: in_axes needs one entry an argument, got {len(axes)} for {len(args)} arguments")
    return [
        *zip_prefix(caller, "in_axes", axes, args, "args"),
        *zip_prefix(caller, "in_axes", 0, kwargs, "kwargs"),
    ]


def checked_axis(caller: str, path: str, axis: int, shape: tuple[int, ...]) -> None:
    """An axis that is there.

    Raises
    ------
    ValueError
        It is not.
    """
    if not -len(shape) <= axis < len(shape):
        way_out = "None in in_axes hands it over whole"
        raise ValueError(f"{caller}: {path} has shape {shape} and no axis {axis}; {way_out}")


def agreed_size(caller: str, sizes: Mapping[str, int]) -> int:
    """The length that all mapped axes have.

    Raises
    ------
    ValueError
        There is none, or they differ.
    """
    if not sizes:
        raise ValueError(f"{caller}: no argument is mapped; give one an axis in in_axes")
    if len(set(sizes.values())) > 1:
        told = "; ".join(f"{size} for {what}" for what, size in sizes.items())
        raise ValueError(
            f"{caller} got inconsistent sizes for array axes to be mapped: {told}; give None to what is whole"
        )
    return next(iter(sizes.values()))
