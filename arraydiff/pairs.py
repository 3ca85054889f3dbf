"""Directions of second order: two lines of a frame at once, by index; no n × n array of them is ever made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from arraydiff._typing import Array
from arraydiff.directions import Columns, Lines, Tangents, relative_step, turned
from arraydiff.problem import Problem
from arraydiff.seam import Moved, Task


@dataclass(frozen=True)
class Pairs:
    """Which lines of a frame go together, by number: p < q."""

    first: tuple[int, ...]
    second: tuple[int, ...]

    @classmethod
    def of(cls, count: int, rows: Sequence[int]) -> Pairs:
        """Every line of `rows` with every other line, each pair once."""
        here = set(rows)
        every = [(p, q) for p in range(count) for q in range(p + 1, count) if p in here or q in here]
        return cls(tuple(p for p, _ in every), tuple(q for _, q in every))

    @cached_property
    def count(self) -> int:
        """How many."""
        return len(self.first)

    def lines(self, frame: Lines, which: Sequence[int]) -> Both:
        """Some of them as lines, each part moved by its own scale at t = 1."""
        kind = BothColumns if isinstance(frame, Columns) else BothTangents
        first, second = (tuple(places[i] for i in which) for places in (self.first, self.second))
        return kind(frame.problem, frame, first, second, frame.scale)


def crossed(frame: Lines, first: Sequence[int], second: Sequence[int], sizes: Array) -> Crossed:
    """Lines of a frame that move along the one by real steps, and have left x by a tiny imaginary step along the other."""
    kind = CrossedColumns if isinstance(frame, Columns) else CrossedTangents
    return kind(frame.problem, frame, tuple(first), tuple(second), sizes)


@dataclass(frozen=True)
class Both(Lines):
    """x + t (sizes_p u_p + sizes_q u_q) for pairs (p, q) of lines of a frame."""

    problem: Problem
    frame: Lines
    first: tuple[int, ...]
    second: tuple[int, ...]
    sizes: Array  # of all lines of the frame

    @property
    def count(self) -> int:
        return len(self.first)

    def sized(self, sizes: Array) -> Self:
        """The same pairs, their parts moved by these `sizes`."""
        return replace(self, sizes=sizes)

    def unit(self, sizes: Array) -> Array:
        return self.problem.xp.ones_like(self.of(self.sizes)[0])

    def of(self, entries: Array) -> tuple[Array, Array]:
        """(..., k) twice: entries (..., frame) of the first lines and of the second."""
        xp, backend = self.problem.xp, self.problem.backend
        first, second = (xp.take(entries, backend.indices(places), axis=-1) for places in (self.first, self.second))
        return first, second

    @property
    def room(self) -> tuple[Array, Array] | None:
        rooms = self.frame.room
        if rooms is None:
            return None
        xp = self.problem.xp
        up, down = (xp.minimum(*self.of(room / self.sizes)) for room in rooms)
        return up, down

    def take(self, which: Sequence[int]) -> Self:
        first, second = (tuple(places[i] for i in which) for places in (self.first, self.second))
        return replace(self, first=first, second=second)

    def posed(self, problem: Problem) -> Self:
        (sizes,) = self.problem.backend.to_host(self.sizes)
        return replace(self, problem=problem, frame=self.frame.posed(problem), sizes=sizes)

    def taken(self, offsets: Array) -> Array:
        return offsets


@dataclass(frozen=True)
class BothColumns(Both):
    """Two entries of x displaced."""

    @cached_property
    def ends(self) -> tuple[Columns, Columns]:
        """The columns of the first entries, and of the second."""
        frame = self.frame
        assert isinstance(frame, Columns)
        return frame.take(self.first), frame.take(self.second)

    def move(self, offsets: Array, turn: complex | None) -> Array:
        """(2, r, k): the first entries, then the second."""
        moved = [end.move(offsets * size, turn) for end, size in zip(self.ends, self.of(self.sizes), strict=True)]
        return self.problem.xp.stack(moved)

    def _moved(self, moved: Array, j: int) -> tuple[Moved, Moved]:
        (r, k), (one, other) = divmod(j, self.count), self.ends
        return Moved(one.index[k], moved[0, r, k]), Moved(other.index[k], moved[1, r, k])

    def column(self, moved: Array, j: int) -> Array:
        one, other = self._moved(moved, j)
        return replace(one, other=other).made(self.problem.backend, self.problem.x)

    def task(self, moved: Array, j: int) -> Task:
        one, other = (Moved(part.index, self.problem.backend.copy(part.value)) for part in self._moved(moved, j))
        return replace(one, other=other)

    def block(self, moved: Array, start: int, stop: int) -> Array:
        xp, backend, (one, other) = self.problem.xp, self.problem.backend, self.ends
        rows = xp.arange(self.problem.n, dtype=backend.index_dtype, device=backend.device)
        hit = rows[:, None] == backend.indices([other.index[j % self.count] for j in range(start, stop)])[None, :]
        chosen = xp.reshape(moved[1, ...], (-1,))[start:stop]
        return xp.where(hit, chosen[None, :], one.block(moved[0, ...], start, stop))


@dataclass(frozen=True)
class BothTangents(Both):
    """The sums of two directions."""

    @cached_property
    def sums(self) -> Tangents:
        """As directions of their own."""
        frame = self.frame
        assert isinstance(frame, Tangents)
        (one, other), (mine, theirs) = self.of(frame.at), self.of(self.sizes)
        return Tangents(self.problem, one * mine + other * theirs)

    def move(self, offsets: Array, turn: complex | None) -> Array:
        return self.sums.move(offsets, turn)

    def column(self, moved: Array, j: int) -> Array:
        return self.sums.column(moved, j)

    def block(self, moved: Array, start: int, stop: int) -> Array:
        return self.sums.block(moved, start, stop)


class Crossed(Both):
    """x + t sizes_p u_p + i eps u_q: the imaginary part of f there, over eps, is the derivative of f along u_q."""

    @cached_property
    def tiny(self) -> Array:
        """(k,) eps."""
        return relative_step(self.problem) * self.of(self.frame.scale)[1]

    @property
    def room(self) -> tuple[Array, Array] | None:
        rooms = self.frame.room
        if rooms is None:
            return None
        up, down = (self.of(room / self.sizes)[0] for room in rooms)
        return up, down

    @property
    def reach(self) -> Array:
        return self.of(self.frame.reach / self.sizes)[0]

    def unit(self, sizes: Array) -> Array:
        return self.of(self.frame.unit(sizes) / self.sizes)[0]


@dataclass(frozen=True)
class CrossedColumns(Crossed, BothColumns):
    """The same for entries of x, which may be one."""

    def move(self, offsets: Array, turn: complex | None) -> Array:
        xp, (one, other), size = self.problem.xp, self.ends, self.of(self.sizes)[0]
        same = self.problem.backend.asarray([p == q for p, q in zip(self.first, self.second, strict=True)])
        real, none = one.move(offsets * size, None), xp.zeros_like(offsets)
        there = turned(self.problem, real, none + xp.where(same, self.tiny, xp.zeros_like(self.tiny)), 1j)
        beside = turned(self.problem, none + other.start, none + self.tiny, 1j)
        return xp.stack([there, xp.where(same, there, beside)])

    def taken(self, offsets: Array) -> Array:
        size = self.of(self.sizes)[0]
        return self.ends[0].taken(offsets * size) / size


@dataclass(frozen=True)
class CrossedTangents(Crossed):
    """The same for directions."""

    @cached_property
    def directions(self) -> tuple[Array, Array]:
        """(n, k) of the real steps and of the imaginary ones."""
        frame = self.frame
        assert isinstance(frame, Tangents)
        (one, other), size = self.of(frame.at), self.of(self.sizes)[0]
        return one * size, other * self.tiny

    def move(self, offsets: Array, turn: complex | None) -> Array:
        return offsets

    def column(self, moved: Array, j: int) -> Array:
        (r, k), (real, imaginary), problem = divmod(j, self.count), self.directions, self.problem
        return turned(problem, problem.at(problem.x + moved[r, k] * real[:, k]), imaginary[:, k], 1j)

    def block(self, moved: Array, start: int, stop: int) -> Array:
        xp, problem = self.problem.xp, self.problem
        which = problem.backend.indices([j % self.count for j in range(start, stop)])
        real, imaginary = (xp.take(part, which, axis=1) for part in self.directions)
        t = xp.reshape(moved, (-1,))[None, start:stop]
        return turned(problem, problem.at(problem.x[:, None] + t * real), imaginary, 1j)
