"""Which entries of a derivative are vouched for: those without a bad flag, whose bar is small beside what they do to f."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arraydiff._typing import Array, Namespace
from arraydiff.backends import Backend
from arraydiff.config import DifferentiationConfig
from arraydiff.problem import Problem
from arraydiff.result import SMALL_SHARE, UNVOUCHED
from arraydiff.rows import Pieces, Rows, by_rows, cut, folded, slabs
from arraydiff.seam import Pushforward

VOUCHED_BAR = 1e-3
"""Relative error bar up to which an entry is vouched for, unless error_tolerance says otherwise."""


@dataclass(frozen=True)
class Judged:
    """Values with bars and flags, and by what they are vouched for; looked at some rows at a time."""

    backend: Backend
    tolerance: float
    columns: Array  # (m, n)
    error: Array
    status: Array
    scale: Array | None  # (n,) of the parameters; None: columns are not theirs
    least: Array | None = None  # (m, n) the size that entries are held to, however small they are

    def mask(self) -> Array:
        """(m, n) bool: which entries are not vouched for; made when it is asked for, and not kept."""
        rows = self._slabs()
        if len(rows) == 1 or self.backend.immutable:
            (whole,) = by_rows(self.backend, rows, lambda some: [self._doubted(some)])
            return whole
        whole = self.backend.xp.zeros(self.columns.shape, dtype=self.backend.xp.bool, device=self.backend.device)
        for some in rows:
            whole[some, ...] = self._doubted(some)
        return whole

    def counts(self) -> dict[str, int]:
        """How many entries are not vouched for, by flag and by "bar"; one read where there are none."""
        xp, rows = self.backend.xp, self._slabs()
        doubted = Pieces(rows, self._doubted)
        (count,) = self.backend.read(_total([_counts(xp, [part]) for part in doubted]))
        if count == 0:
            return {}
        parts = []
        for some, there in zip(rows, doubted, strict=True):
            status = cut(self.status, some)
            masks = [(status & int(flag)) != 0 for flag in UNVOUCHED]
            parts.append(_counts(xp, [*masks, there & ((status & int(UNVOUCHED)) == 0)]))
        return _present([*(flag.name or "" for flag in UNVOUCHED), "bar"], self.backend.read(_total(parts)))

    def _slabs(self) -> list[Rows]:
        return slabs(self.backend, int(self.columns.shape[0]), int(self.columns.shape[1]))

    def _doubted(self, rows: Rows) -> Array:
        columns, error, status = (cut(part, rows) for part in (self.columns, self.error, self.status))
        xp, size = self.backend.xp, self.backend.xp.abs(columns)
        if self.scale is not None and columns.shape[1]:
            scale = self.scale[None, :]
            size = xp.maximum(size, SMALL_SHARE * effect(xp, size, scale, axis=1)[:, None] / scale)
        if self.least is not None:
            size = xp.maximum(size, cut(self.least, rows))
        return ((status & int(UNVOUCHED)) != 0) | ~passed(xp, columns, error, self.tolerance * size)


class Watch:
    """The same, seen chunk by chunk in the memory of a few rows: bars need not be kept beside the values.

    A bar is held to the largest effect that any parameter has on its output, which is known in the end alone.  So of every
    output is kept how large that must be for all of its bars to pass.
    """

    def __init__(self, problem: Problem, config: DifferentiationConfig, m: int) -> None:
        xp, device = problem.xp, problem.backend.device
        self.problem, self.tolerance = problem, tolerance(config)
        self.rows = slabs(problem.backend, m)
        self.seen: list[tuple[Array, Array, Array]] = []  # of each slab: effect, needed, and how many wait
        for rows in self.rows:
            size = m if rows is None else rows.stop - rows.start
            nothing = xp.zeros((size,), dtype=problem.x.dtype, device=device)
            self.seen.append((nothing, nothing, nothing))
        none = xp.zeros((), dtype=problem.x.dtype, device=device)
        self.flags = dict.fromkeys(UNVOUCHED, none)
        self.largest = self.widest = none

    def see(self, chunk: Pushforward, which: Sequence[int]) -> None:
        """One finished chunk, of these parameters."""
        if not chunk.columns.shape[0]:
            return
        scale = self.problem.xp.take(self.problem.scale, self.problem.backend.indices(which))[None, :]
        for i, rows in enumerate(self.rows):
            columns, error, status = (cut(part, rows) for part in (chunk.columns, chunk.error, chunk.status))
            self.seen[i] = self._rows(columns, error, status, scale, self.seen[i])

    def _rows(
        self, columns: Array, error: Array, status: Array, scale: Array, seen: tuple[Array, Array, Array]
    ) -> tuple[Array, Array, Array]:
        xp, size = self.problem.xp, self.problem.xp.abs(columns)
        largest, needed, waiting = seen
        largest = xp.maximum(largest, effect(xp, size, scale, axis=1))
        sound = (status & int(UNVOUCHED)) == 0
        for flag, count in self.flags.items():
            self.flags[flag] = count + xp.sum(xp.astype((status & int(flag)) != 0, count.dtype))
        enough = passed(xp, columns, error, self.tolerance * size)
        asked = xp.where(sound & ~enough, error * scale / (self.tolerance * SMALL_SHARE), xp.zeros_like(error))
        waits = asked > largest[:, None]
        asked = xp.where(waits, asked, xp.zeros_like(asked))
        self.largest = xp.maximum(self.largest, xp.max(_finite_or_zero(xp, size)))
        self.widest = xp.maximum(self.widest, xp.max(_finite_or_zero(xp, error)))
        waiting = waiting + xp.sum(xp.astype(waits, waiting.dtype), axis=1)
        return largest, xp.maximum(needed, xp.max(asked, axis=1)), waiting

    def doubts(self) -> dict[str, int]:
        """As `Judged.counts`; entries whose bar is too wide are counted with those of their output that waited beside them."""
        xp = self.problem.xp
        late = _total(
            [
                xp.sum(xp.where(needed > largest, waiting, xp.zeros_like(waiting)))
                for largest, needed, waiting in self.seen
            ]
        )
        counts = {flag.name or "": count for flag, count in self.flags.items()} | {"bar": late}
        read = self.problem.backend.read(xp.astype(xp.stack(list(counts.values())), xp.int64))
        return _present(list(counts), read)

    def worst_bar(self) -> Array:
        """() the largest bar over the largest value, 0 where there is none."""
        xp = self.problem.xp
        return self.widest / xp.where(self.largest > 0, self.largest, xp.full_like(self.largest, float("inf")))


def tolerance(config: DifferentiationConfig) -> float:
    """The relative bar up to which an entry is vouched for."""
    return config.error_tolerance or VOUCHED_BAR


def effect(xp: Namespace, size: Array, scale: Array, axis: int) -> Array:
    """What the parameter that moves an output most does to it: the largest |d_j s_j| along `axis`."""
    return xp.max(_finite_or_zero(xp, size * scale), axis=axis)


def passed(xp: Namespace, columns: Array, error: Array, allowed: Array) -> Array:
    """Whether bars are small enough, or f did not react at any step tried: a true 0."""
    return (error <= allowed) | ((columns == 0) & xp.isfinite(error))


def _finite_or_zero(xp: Namespace, array: Array) -> Array:
    return xp.where(xp.isfinite(array), array, xp.zeros_like(array))


def _counts(xp: Namespace, masks: Sequence[Array]) -> Array:
    return xp.stack([xp.sum(xp.astype(mask, xp.int32)) for mask in masks])


def _total(parts: Sequence[Array]) -> Array:
    return folded(lambda one, other: one + other, parts)


def _present(names: Sequence[str], read: Sequence[int]) -> dict[str, int]:
    return {name: number for name, number in zip(names, read, strict=True) if number}
