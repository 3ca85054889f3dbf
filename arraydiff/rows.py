"""Arithmetic that is the same for every output, slab by slab: a million of them need no temporaries of a million.

Few outputs are one slab, and so are all where values come later: there nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from arraydiff._typing import Array
from arraydiff.backends import Backend

WHOLE = 2**15
"""Outputs up to which all are one slab on a CPU: a tableau of one line takes 90 MB."""

SLAB = 2**13
"""Numbers an array of a slab beyond: 64 KiB, and of 2**11 to 2**16 the fastest by measurement; a tableau takes 55 MB."""

FEWEST = 2**10
"""Outputs a slab, however many lines go together: fewer cost more in calls than they save."""

DEVICE_NUMBERS = 2**21
"""Numbers an array of a slab on other devices, where an operation on fewer costs as much."""

REMADE = 2**17
"""Outputs beyond which what is made of a slab is made anew whenever it is asked for: a column of so many is a megabyte."""

SAMPLE = 2**14
"""Outputs that stand for more of them where no single one is judged: a mean over them is right to a percent."""

T = TypeVar("T")
Rows = slice | None
"""Outputs of a slab; None: all."""


def slabs(backend: Backend, outputs: int, lines: int = 1) -> list[Rows]:
    """The outputs in slabs of nearly the same size, for arrays (outputs, lines)."""
    fits = size = max(1, DEVICE_NUMBERS // max(lines, 1))
    if backend.on_cpu:
        fits, size = WHOLE, max(SLAB // max(lines, 1), FEWEST)
    if backend.deferred or outputs <= fits:
        return [None]
    count = -(-outputs // size)
    return [slice(outputs * i // count, outputs * (i + 1) // count) for i in range(count)]


def cut(array: Array, rows: Rows) -> Array:
    """Some rows of an array."""
    return array if rows is None else array[rows, ...]


def cut_or_none(array: Array | None, rows: Rows) -> Array | None:
    """The same where there is one."""
    return None if array is None else cut(array, rows)


def by_rows(backend: Backend, slabs: Sequence[Rows], function: Callable[[Rows], Sequence[Array]]) -> list[Array]:
    """What `function` gives for each slab, arrays whose first axis is the outputs, joined."""
    if len(slabs) == 1:
        return list(function(slabs[0]))
    parts: list[list[Any]] = [list(function(rows)) for rows in slabs]
    whole = []
    for i in range(len(parts[0])):
        whole.append(backend.xp.concat([part[i] for part in parts], axis=0))
        for part in parts:
            part[i] = None  # pieces and whole of one array at a time are there together
    return whole


def mean_of(slabs: Sequence[Rows], means: Sequence[Array]) -> Array:
    """The mean over all outputs of the means over slabs."""
    if len(slabs) == 1:
        return means[0]
    counts = [rows.stop - rows.start for rows in slabs if rows is not None]
    total = means[0] * counts[0]
    for mean, count in zip(means[1:], counts[1:], strict=True):
        total = total + mean * count
    return total / sum(counts)


def folded(function: Callable[[Array, Array], Array], parts: Sequence[Array]) -> Array:
    """Parts of one answer, put together two by two."""
    whole = parts[0]
    for part in parts[1:]:
        whole = function(whole, part)
    return whole


class Pieces(Generic[T]):
    """Something of each slab, made when it is its turn; of a single slab, or of few outputs, made once."""

    def __init__(self, slabs: Sequence[Rows], make: Callable[[Rows], T]) -> None:
        self.slabs, self.make = slabs, make
        last = slabs[-1]
        few = last is None or last.stop <= REMADE
        self.only = [make(rows) for rows in slabs] if few else None

    def __iter__(self) -> Iterator[T]:
        return iter(self.only) if self.only is not None else map(self.make, self.slabs)


def kept(backend: Backend, array: Array, lines: int = 1) -> Array:
    """A column that is to stay: alone, where what it was cut from is large."""
    return array if len(slabs(backend, int(array.shape[0]), lines)) == 1 else backend.copy(array)


def thinned(backend: Backend, array: Array) -> Array:
    """Evenly spaced rows, where there are more than it takes for the middle of them all."""
    rows = int(array.shape[0])
    return array if len(slabs(backend, rows)) == 1 else array[:: _stride(rows), ...]


def sample_of(backend: Backend, outputs: int) -> Array:
    """Places of outputs, evenly spaced."""
    return backend.xp.arange(0, outputs, _stride(outputs), dtype=backend.index_dtype, device=backend.device)


def sampled(backend: Backend, outputs: int) -> int:
    """How many outputs stand for so many."""
    return outputs if len(slabs(backend, outputs)) == 1 else -(-outputs // _stride(outputs))


def _stride(outputs: int) -> int:
    return max(outputs // SAMPLE, 1) | 1  # odd: rows of images are a power of two apart
