"""Parameters by the names that the user gives them: entries of an array, keys of a tree, positions of arguments."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import optree

from arraydiff.arguments import Argnums, Layout

SHOWN = 8
"""Names that a message lists."""

Path = tuple[Any, ...]


def entries_of(layout: Layout, argnums: Argnums, paths: Any, option: str) -> tuple[int, ...]:
    """The places in the flat x that `paths` names, in rising order.

    A path is a tuple of keys, as one would write them after x in brackets, with entries of an array (an int or a slice, along its
    flat order) at its end; where several arguments are differentiated it starts with the position of one.  What is no tuple is a
    path of one key; several paths stand in a list or a tuple.

    Raises
    ------
    ValueError
        A name that x does not have.
    """
    known = _known(layout, argnums)
    several = paths if isinstance(paths, list | tuple | set | frozenset | range) else [paths]
    found: set[int] = set()
    for path in several:
        found.update(_entries(known, path if isinstance(path, tuple) else (path,), option))
    return tuple(sorted(found))


def _known(layout: Layout, argnums: Argnums) -> list[tuple[Path, int, int]]:
    """Each array of x with its path and its stretch of the flat vector."""
    paths: Sequence[Path] = [()] if layout.structure is None else optree.treespec_paths(layout.structure)
    if not argnums.single:
        paths = [(argnums.numbers[path[0]], *path[1:]) for path in paths]
    return [(path, start, stop) for path, (_, start, stop) in zip(paths, layout.spans, strict=True)]


def _entries(known: Sequence[tuple[Path, int, int]], path: Path, option: str) -> Iterable[int]:
    inside = [(start, stop) for own, start, stop in known if own[: len(path)] == path]
    if inside:
        return [i for start, stop in inside for i in range(start, stop)]
    for own, start, stop in known:
        if own == path[:-1]:
            return _part(range(start, stop), path, option)
    raise ValueError(f"{option} names {_told(path)}, which x does not have; it has {_listed(known)}")


def _part(whole: range, path: Path, option: str) -> Iterable[int]:
    """Some entries of an array, by a slice or an index."""
    if isinstance(path[-1], slice):
        return whole[path[-1]]
    try:
        return [whole[operator.index(path[-1])]]
    except TypeError:
        wanted = f"an int or a slice chooses among its entries, got {path[-1]!r}"
    except IndexError:
        wanted = f"it has {len(whole)} entries, got {path[-1]!r}"
    raise ValueError(f"{option}: x{_brackets(path[:-1])} is one array: {wanted}")


def _listed(known: Sequence[tuple[Path, int, int]]) -> str:
    names = [f"{_told(path)} ({stop - start})" for path, start, stop in known if path]
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + f" and {more} more" * (more > 0) or f"{known[0][2]} entries"


def _told(path: Path) -> str:
    return repr(path[0]) if len(path) == 1 else repr(path)


def _brackets(path: Path) -> str:
    return "".join(f"[{key!r}]" for key in path)
