"""What becomes of finished chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from arraydiff._typing import Array
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.seam import Pushforward

T_co = TypeVar("T_co", covariant=True)


class Collector(Protocol[T_co]):
    """Takes chunks in the order of their directions."""

    def consume(self, chunk: Pushforward) -> None:
        """One finished chunk."""

    def finish(self) -> T_co:
        """What the transform asked for."""


@dataclass(frozen=True)
class Dense:
    """J·V as arrays."""

    columns: Array  # (m, n)
    error: Array  # (m, n)
    status: Array  # (m, n) int16
    steps: Array  # (n,)


class DenseCollector:
    """All columns side by side; parameters that were left out (fixed by their bounds) get 0 and FIXED."""

    def __init__(self, problem: Problem, value: Array, size: int, index: Sequence[int]) -> None:
        self.problem, self.value, self.size, self.index = problem, value, size, index
        self.chunks: list[Pushforward] = []

    def consume(self, chunk: Pushforward) -> None:
        """Keep it."""
        self.chunks.append(chunk)

    def still(self) -> Array:
        """(n,) bool: the parameters that were left out."""
        free = set(self.index)
        return self.problem.backend.asarray([i not in free for i in range(self.size)], self.problem.xp.bool)

    def finish(self) -> Dense:
        """The arrays of all directions."""
        xp, dtype = self.problem.xp, self.problem.x.dtype
        chunks = list(self.chunks)
        if not chunks and self.index:  # f is finite nowhere at x: nothing was pushed
            chunks = [_still(self.problem, self.value, len(self.index))]
        if len(self.index) < self.size:
            chunks.append(_still(self.problem, self.value, 1))
        if not chunks:
            chunks = [_still(self.problem, self.value, 0)]
        if len(chunks) == 1 and len(self.index) == self.size:
            one = chunks[0]
            return Dense(one.columns, one.error, one.status, one.steps)
        joined = [
            xp.concat([getattr(chunk, name) for chunk in chunks], axis=-1)
            for name in ("columns", "error", "status", "steps")
        ]
        if len(self.index) < self.size:
            place = {parameter: i for i, parameter in enumerate(self.index)}
            slots = [place.get(i, len(self.index)) for i in range(self.size)]
            where = self.problem.backend.indices(slots)
            joined = [xp.take(array, where, axis=-1) for array in joined]
        columns, error, status, steps = joined
        return Dense(columns, error, status, xp.astype(steps, dtype))


def _still(problem: Problem, value: Array, k: int) -> Pushforward:
    """k parameters that cannot move."""
    xp, device, m = problem.xp, problem.backend.device, int(value.shape[0])
    zeros = xp.zeros((m, k), dtype=value.dtype, device=device)
    status = xp.full((m, k), int(Status.FIXED), dtype=xp.int16, device=device)
    return Pushforward(zeros, zeros, xp.zeros((k,), dtype=problem.x.dtype, device=device), status)
