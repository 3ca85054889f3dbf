"""Colours of bands, blocks and grids in their natural numbering: a linear form of the coordinates, modulo k.

Column j of a grid w wide lies at x = j mod w, y = j // w, and so on; j + a (j // w) + b (j // w h) takes every linear form of
the coordinates in which x counts once. Goldfarb & Toint, Math. Comp. 43 (1984) 69.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np

from arraydiff.sparse.clashes import clashes
from arraydiff.sparse.pattern import Ints, Pattern

HEAD = 4096
"""Entries on which a form is tried first: most fail there."""

LONGEST_STENCIL = 32
"""Of a grid of three axes with all neighbours it has 27 entries; beyond, there are too many widths to try."""

SHARE_OF_ROWS = 1 / 8
"""That look like the longest row on a grid, if it is one: those inside, of a cube of four points a side."""

MOST_FORMS = 8
"""Forms that fit the longest row and are then tried on all rows, for a pair of widths."""


def repeating(pattern: Pattern, counts: Iterable[int]) -> Ints | None:
    """Colours that repeat along the columns, or along each axis of a grid, with the first of `counts` that will do."""
    stencil = _stencil(pattern)
    for count in counts:
        colours = modular(pattern, count)
        if colours is None and stencil is not None:
            colours = _on_grid(pattern, stencil, count)
        if colours is not None:
            return colours
    return None


def modular(pattern: Pattern, count: int) -> Ints | None:
    """Column j gets colour j mod `count`."""
    rows, cols = pattern.rows, pattern.cols
    if clashes(rows[:HEAD], cols[:HEAD] % count) or clashes(rows, cols % count):
        return None
    return np.arange(pattern.shape[1], dtype=np.int64) % count


def _on_grid(pattern: Pattern, stencil: Ints, count: int) -> Ints | None:
    column = np.arange(pattern.shape[1], dtype=np.int64)
    for widths, factors in _forms(stencil, count):
        colours = column.copy()
        for width, factor in zip(widths, factors, strict=True):
            colours += factor * (column // width)
        colours %= count
        if not clashes(pattern.rows, colours[pattern.cols]):
            return colours
    return None


def _stencil(pattern: Pattern) -> Ints | None:
    """The columns of the longest row, if many others are that row moved along."""
    longest = int(pattern.lengths.max(initial=0))
    if not 1 < longest <= LONGEST_STENCIL:
        return None
    places = pattern.indptr[:-1][pattern.lengths == longest, np.newaxis] + np.arange(longest)
    cols = pattern.cols[places]
    typical = cols[len(cols) // 2]
    alike = np.all(cols - cols[:, :1] == typical - typical[0], axis=1)
    return typical if np.count_nonzero(alike) >= SHARE_OF_ROWS * pattern.shape[0] else None


def _forms(stencil: Ints, count: int) -> Iterator[tuple[tuple[int, ...], Ints]]:
    """Widths, and factors of j // width, with which no two columns of the stencil have one colour."""
    steps = np.concatenate([stencil - stencil[0], stencil - stencil[stencil.size // 2]])
    widths = np.unique(steps[steps > 1]).tolist()
    factors = np.stack(np.meshgrid(*[np.arange(count)] * 2), -1).reshape(-1, 2)
    for chosen in [*((width,) for width in widths), *combinations(widths, 2)]:
        tried = np.unique(factors[:, : len(chosen)], axis=0)
        colours = np.sort((stencil + tried @ np.stack([stencil // width for width in chosen])) % count, axis=1)
        fit = np.all(np.diff(colours, axis=1) > 0, axis=1)
        yield from ((chosen, form) for form in tried[fit][:MOST_FORMS])
