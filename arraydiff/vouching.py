"""Which entries of a derivative are vouched for: those without a bad flag, whose bar is small beside what they do to f."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig
from arraydiff.problem import Problem
from arraydiff.result import SMALL_SHARE, UNVOUCHED
from arraydiff.seam import Pushforward

VOUCHED_BAR = 1e-3
"""Relative error bar up to which an entry is vouched for, unless error_tolerance says otherwise."""

WATCHED_ROWS = 2**16
"""Outputs that are looked at together: what is made of them stays in the cache."""


def doubtful(
    problem: Problem,
    config: DifferentiationConfig,
    columns: Array,
    error: Array,
    status: Array,
    per_parameter: bool,
) -> Array:
    """(m, n) bool: which entries are not vouched for."""
    xp, size = problem.xp, problem.xp.abs(columns)
    if per_parameter and problem.n:
        scale = problem.scale[None, :]
        effect = _finite_or_zero(problem, size * scale)
        size = xp.maximum(size, SMALL_SHARE * xp.max(effect, axis=1, keepdims=True) / scale)
    flagged = (status & int(UNVOUCHED)) != 0
    still = (columns == 0) & xp.isfinite(error)  # f did not react at any step tried: a true 0
    return flagged | ~(still | (error <= _tolerance(config) * size))


def counted(problem: Problem, status: Array, doubted: Array) -> dict[str, int]:
    """How many entries are not vouched for, by flag and by "bar"; one read where there are none."""
    (count,) = problem.backend.read(_counts(problem, [doubted]))
    if count == 0:
        return {}
    flagged = (status & int(UNVOUCHED)) != 0
    masks = {flag.name or "": (status & int(flag)) != 0 for flag in UNVOUCHED} | {"bar": doubted & ~flagged}
    return _present(masks, problem.backend.read(_counts(problem, list(masks.values()))))


class Watch:
    """The same, seen chunk by chunk in the memory of a few rows: bars need not be kept beside the values.

    A bar is held to the largest effect that any parameter has on its output, which is known in the end alone.  So of every
    output is kept how large that must be for all of its bars to pass.
    """

    def __init__(self, problem: Problem, config: DifferentiationConfig, m: int) -> None:
        xp, device = problem.xp, problem.backend.device
        self.problem, self.tolerance = problem, _tolerance(config)
        nothing = xp.zeros((m,), dtype=problem.x.dtype, device=device)
        self.effect, self.needed, self.waiting = nothing, nothing, nothing
        self.flags = {flag: xp.zeros((), dtype=nothing.dtype, device=device) for flag in UNVOUCHED}
        self.largest = self.widest = xp.zeros((), dtype=nothing.dtype, device=device)

    def see(self, chunk: Pushforward, which: Sequence[int]) -> None:
        """One finished chunk, of these parameters."""
        xp, m = self.problem.xp, int(chunk.columns.shape[0])
        scale = xp.take(self.problem.scale, self.problem.backend.indices(which))[None, :]
        seen = []
        for start in range(0, m, WATCHED_ROWS):
            rows = slice(start, start + WATCHED_ROWS)
            columns, error, status = (part[rows, ...] for part in (chunk.columns, chunk.error, chunk.status))
            seen.append(self._rows(columns, error, status, scale, rows))
        if seen:
            together = zip(*seen, strict=True)
            self.effect, self.needed, self.waiting = (
                parts[0] if len(parts) == 1 else xp.concat(parts) for parts in together
            )

    def _rows(
        self, columns: Array, error: Array, status: Array, scale: Array, rows: slice
    ) -> tuple[Array, Array, Array]:
        xp, size = self.problem.xp, self.problem.xp.abs(columns)
        effect, needed, waiting = (kept[rows] for kept in (self.effect, self.needed, self.waiting))
        effect = xp.maximum(effect, xp.max(_finite_or_zero(self.problem, size * scale), axis=1))
        sound = (status & int(UNVOUCHED)) == 0
        for flag, count in self.flags.items():
            self.flags[flag] = count + xp.sum(xp.astype((status & int(flag)) != 0, count.dtype))
        passed = ((columns == 0) & xp.isfinite(error)) | (error <= self.tolerance * size)
        asked = xp.where(sound & ~passed, error * scale / (self.tolerance * SMALL_SHARE), xp.zeros_like(error))
        waits = asked > effect[:, None]
        asked = xp.where(waits, asked, xp.zeros_like(asked))
        self.largest = xp.maximum(self.largest, xp.max(_finite_or_zero(self.problem, size)))
        self.widest = xp.maximum(self.widest, xp.max(_finite_or_zero(self.problem, error)))
        waiting = waiting + xp.sum(xp.astype(waits, waiting.dtype), axis=1)
        return effect, xp.maximum(needed, xp.max(asked, axis=1)), waiting

    def doubts(self) -> dict[str, int]:
        """As `counted`; entries whose bar is too wide are counted with those of their output that waited beside them."""
        xp = self.problem.xp
        late = xp.where(self.needed > self.effect, self.waiting, xp.zeros_like(self.waiting))
        counts = {flag.name or "": count for flag, count in self.flags.items()} | {"bar": xp.sum(late)}
        return _present(counts, self.problem.backend.read(xp.astype(xp.stack(list(counts.values())), xp.int64)))

    def worst_bar(self) -> Array:
        """() the largest bar over the largest value, 0 where there is none."""
        xp = self.problem.xp
        return self.widest / xp.where(self.largest > 0, self.largest, xp.full_like(self.largest, float("inf")))


def _tolerance(config: DifferentiationConfig) -> float:
    return config.error_tolerance or VOUCHED_BAR


def _finite_or_zero(problem: Problem, array: Array) -> Array:
    return problem.xp.where(problem.xp.isfinite(array), array, problem.xp.zeros_like(array))


def _counts(problem: Problem, masks: Sequence[Array]) -> Array:
    xp = problem.xp
    return xp.stack([xp.sum(xp.astype(mask, xp.int32)) for mask in masks])


def _present(names: Mapping[str, Array], read: Sequence[int]) -> dict[str, int]:
    return {name: number for name, number in zip(names, read, strict=True) if number}
