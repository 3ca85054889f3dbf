"""The directions along which f is displaced: identity columns, tangents, all entries at once.

A chunk of k directions is a `Lines`: x + t v_j.  Strategies speak of offsets t alone, in arrays (r, k): r offsets on each line.
No n × n array is ever made: identity columns are kept as indices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from arraydiff._typing import Array
from arraydiff.problem import Problem
from arraydiff.rows import Rows, cut, slabs
from arraydiff.seam import Moved, Points, Task, Values

INSIDE = 0.25
"""Share of the room inside the bounds that a ray may use at t = 1: its ladder stays well inside."""

FINEST = 2.0**-53
"""Numbers of a smaller eps have more digits than the constants of the methods, which are float64."""

RELATIVE_STEP = {52: 1e-20, 0: 1e-15}
"""Imaginary steps over the scale, by bits of the mantissa: their squares truncate nothing, and they do not underflow."""

FINER_STEP = 1.25
"""The power of eps that does the same for numbers of more digits, which have no underflow."""


@dataclass(frozen=True)
class LinePoints:
    """Points on lines: offset r of every line, then offset r + 1."""

    lines: Lines
    offsets: Array  # (r, k)
    turn: complex | None = None  # what they are multiplied by: 1j, or 1 + 1j; None: they are real
    starts_at_x: bool = False

    @cached_property
    def moved(self) -> Array:
        """What the lines make of the offsets, once."""
        (moved,) = self.lines.problem.backend.computed(self.lines.move(self.offsets, self.turn))
        return moved

    @property
    def is_complex(self) -> bool:
        """Whether they are complex."""
        return self.turn is not None

    @property
    def count(self) -> int:
        """How many points."""
        return self.lines.points_of(self.offsets)

    def column(self, j: int) -> Array:
        """Point j."""
        return self.lines.column(self.moved, j)

    def task(self, j: int) -> Task:
        """Point j as it travels."""
        return self.lines.task(self.moved, j)

    def block(self, start: int, stop: int) -> Array:
        """Points start..stop."""
        return self.lines.block(self.moved, start, stop)

    def parameter(self, j: int) -> int | None:
        """Which entry of x is displaced at point j."""
        return self.lines.parameter(j)


class Lines(ABC):
    """A chunk of k directions at x."""

    problem: Problem

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of lines k."""

    @abstractmethod
    def unit(self, sizes: Array) -> Array:
        """(k,) the t at which the first parameter has moved by its entry of `sizes` (n,)."""

    @cached_property
    def scale(self) -> Array:
        """(k,) the t that moves x by its own typical size."""
        return self.unit(self.problem.scale)

    @property
    def step(self) -> Array | None:
        """(k,) the step that the user gave, in t."""
        return None if self.problem.step is None else self.unit(self.problem.step)

    @property
    def span(self) -> Array | None:
        """(k,) the t of the one difference that is exact, where f is said to be linear along these lines."""
        return None

    @property
    def reach(self) -> Array:
        """(k,) the t that one unit of relative rounding of x amounts to, over eps."""
        return self.scale

    @property
    @abstractmethod
    def room(self) -> tuple[Array, Array] | None:
        """(k,) how far t may go up and down inside the bounds; None without bounds."""

    @abstractmethod
    def take(self, which: Sequence[int]) -> Lines:
        """Some of the lines."""

    @abstractmethod
    def posed(self, problem: Problem) -> Lines:
        """The same lines of the same problem, its arrays on the host."""

    @abstractmethod
    def move(self, offsets: Array, turn: complex | None) -> Array:
        """Offsets (r, k), times `turn` if any, as coordinates that f can be given."""

    @abstractmethod
    def column(self, moved: Array, j: int) -> Array:
        """Point j as (n,)."""

    def task(self, moved: Array, j: int) -> Task:
        """Point j as it travels."""
        return self.column(moved, j)

    @abstractmethod
    def block(self, moved: Array, start: int, stop: int) -> Array:
        """Points start..stop as (n, stop - start)."""

    @abstractmethod
    def taken(self, offsets: Array) -> Array:
        """(r, k) the offsets as f sees them: (x + h) - x."""

    def parameter(self, j: int) -> int | None:
        """Which entry of x is displaced at point j; None where several are."""
        return None

    def points_of(self, offsets: Array) -> int:
        """How many points the offsets (r, k) make."""
        return int(offsets.shape[0]) * int(offsets.shape[1])

    def points(self, offsets: Array, *, turn: complex | None = None, starts_at_x: bool = False) -> Points:
        """The points at `offsets` (r, k), or at `turn` times them: i, or 1 + i, whose square is imaginary."""
        return LinePoints(self, offsets, turn, starts_at_x)

    def slabs(self, outputs: int) -> list[Rows]:
        """The outputs in slabs, for arithmetic on arrays (m, k)."""
        return slabs(self.problem.backend, outputs, self.count)

    def values(self, values: Values, rows: Rows = None) -> Array:
        """(r, m, k) what f gave there, of some outputs."""
        at = cut(values.at, rows)
        m, total = at.shape
        xp = self.problem.xp
        return xp.permute_dims(xp.reshape(at, (m, total // self.count, self.count)), (1, 0, 2))

    def at_x(self, value: Array, rows: Rows = None) -> Array:
        """f(x), (m,), as it stands beside `values`: (m, 1)."""
        return cut(value, rows)[:, None]


@dataclass(frozen=True)
class Columns(Lines):
    """Identity columns, by index."""

    problem: Problem
    index: Sequence[int]

    @cached_property
    def where(self) -> Array | None:
        """The indices on the device; None where they are all of them."""
        every = range(self.problem.n)
        if self.index == every or (len(self.index) == len(every) and self.index == tuple(every)):
            return None
        return self.problem.backend.indices(self.index)

    def _of(self, array: Array) -> Array:
        return array if self.where is None else self.problem.xp.take(array, self.where)

    @cached_property
    def start(self) -> Array:
        """(k,) the parameters themselves."""
        return self._of(self.problem.x)

    @property
    def count(self) -> int:
        return len(self.index)

    def unit(self, sizes: Array) -> Array:
        return self._of(sizes)

    @cached_property
    def reach(self) -> Array:
        return self.problem.xp.abs(self.start)

    @cached_property
    def room(self) -> tuple[Array, Array] | None:
        return _room(self.problem, self._of)

    def take(self, which: Sequence[int]) -> Columns:
        return Columns(self.problem, tuple(self.index[i] for i in which))

    def posed(self, problem: Problem) -> Columns:
        return Columns(problem, self.index)

    def move(self, offsets: Array, turn: complex | None) -> Array:
        if turn is not None:
            return turned(self.problem, self.start, offsets, turn)
        return self._inside(self.start + offsets)

    def _inside(self, moved: Array) -> Array:
        problem = self.problem
        if problem.narrow is None and problem.lower is None and problem.upper is None:
            return moved
        every = self.where is None
        return problem.at(moved, problem.xp.arange(problem.n, device=problem.backend.device) if every else self.where)

    def column(self, moved: Array, j: int) -> Array:
        r, k = divmod(j, self.count)
        return Moved(self.index[k], moved[r, k]).made(self.problem.backend, self.problem.x)

    def task(self, moved: Array, j: int) -> Task:
        r, k = divmod(j, self.count)
        return Moved(self.index[k], self.problem.backend.copy(moved[r, k]))

    def block(self, moved: Array, start: int, stop: int) -> Array:
        xp, problem, k = self.problem.xp, self.problem, self.count
        device = problem.backend.device
        index = self.problem.backend.indices([self.index[j % k] for j in range(start, stop)])
        chosen = xp.reshape(moved, (-1,))[start:stop]
        hit = xp.arange(problem.n, dtype=self.problem.backend.index_dtype, device=device)[:, None] == index[None, :]
        return xp.where(hit, chosen[None, :], xp.astype(problem.x, moved.dtype)[:, None])

    def parameter(self, j: int) -> int | None:
        return self.index[j % self.count]

    def taken(self, offsets: Array) -> Array:
        return self.move(offsets, None) - self.start


@dataclass(frozen=True)
class Tangents(Lines):
    """Directions given as an array."""

    problem: Problem
    at: Array  # (n, k)

    @property
    def count(self) -> int:
        return int(self.at.shape[1])

    def unit(self, sizes: Array) -> Array:
        xp = self.problem.xp
        fastest = xp.max(xp.abs(self.at) / sizes[:, None], axis=0)
        return 1 / xp.where(fastest > 0, fastest, xp.ones_like(fastest))

    @cached_property
    def room(self) -> tuple[Array, Array] | None:
        rooms = _room(self.problem, lambda array: array)
        if rooms is None:
            return None
        xp, (up, down) = self.problem.xp, (room[:, None] for room in rooms)
        still = self.at == 0
        speed = xp.where(still, xp.ones_like(self.at), xp.abs(self.at))
        infinite = xp.full_like(self.at, float("inf"))
        ahead = xp.where(still, infinite, xp.where(self.at > 0, up, down) / speed)
        behind = xp.where(still, infinite, xp.where(self.at > 0, down, up) / speed)
        return xp.min(ahead, axis=0), xp.min(behind, axis=0)

    def take(self, which: Sequence[int]) -> Tangents:
        xp = self.problem.xp
        chosen = self.problem.backend.indices(which)
        return replace(self, at=xp.take(self.at, chosen, axis=1))

    def posed(self, problem: Problem) -> Tangents:
        (at,) = self.problem.backend.to_host(self.at)
        return replace(self, problem=problem, at=at)

    def move(self, offsets: Array, turn: complex | None) -> Array:
        return offsets if turn is None else turned(self.problem, 0.0, offsets, turn)

    def column(self, moved: Array, j: int) -> Array:
        r, k = divmod(j, self.count)
        problem, v = self.problem, self.at[:, k]
        if moved.dtype != problem.x.dtype:
            return problem.xp.astype(problem.x, moved.dtype) + moved[r, k] * problem.xp.astype(v, moved.dtype)
        return problem.at(problem.backend.added(moved[r, k] * v, problem.x))

    def block(self, moved: Array, start: int, stop: int) -> Array:
        xp, k = self.problem.xp, self.count
        columns = [j % k for j in range(start, stop)]
        which = self.problem.backend.indices(columns)
        t, v = xp.reshape(moved, (-1,))[None, start:stop], xp.take(self.at, which, axis=1)
        if moved.dtype == self.problem.x.dtype:
            return self.problem.at(self.problem.x[:, None] + t * v)
        return xp.astype(self.problem.x, moved.dtype)[:, None] + t * xp.astype(v, moved.dtype)

    def taken(self, offsets: Array) -> Array:
        return offsets


@dataclass(frozen=True)
class Elementwise(Lines):
    """All parameters at once, where output i depends on parameter i alone: n one-dimensional problems in one call."""

    problem: Problem
    index: tuple[int, ...]

    @cached_property
    def columns(self) -> Columns:
        """The same parameters as columns, whose geometry they share."""
        return Columns(self.problem, self.index)

    @property
    def count(self) -> int:
        return len(self.index)

    def unit(self, sizes: Array) -> Array:
        return self.columns.unit(sizes)

    @property
    def reach(self) -> Array:
        return self.columns.reach

    @property
    def room(self) -> tuple[Array, Array] | None:
        return self.columns.room

    def take(self, which: Sequence[int]) -> Elementwise:
        return Elementwise(self.problem, tuple(self.index[i] for i in which))

    def posed(self, problem: Problem) -> Elementwise:
        return Elementwise(problem, self.index)

    def points_of(self, offsets: Array) -> int:
        return int(offsets.shape[0])

    def move(self, offsets: Array, turn: complex | None) -> Array:
        """(r, n): parameters whose line has ended stay where they are."""
        xp, problem = self.problem.xp, self.problem
        if self.columns.where is not None:
            place = {parameter: i for i, parameter in enumerate(self.index)}
            slots = [place.get(i, self.count) for i in range(problem.n)]
            padded = xp.concat([offsets, xp.zeros_like(offsets[:, :1])], axis=1)
            offsets = xp.take(padded, self.problem.backend.indices(slots), axis=1)
        return Columns(problem, tuple(range(problem.n))).move(offsets, turn)

    def column(self, moved: Array, j: int) -> Array:
        return self.problem.backend.copy(moved[j, ...])

    def block(self, moved: Array, start: int, stop: int) -> Array:
        return self.problem.xp.matrix_transpose(moved[start:stop, ...])

    def taken(self, offsets: Array) -> Array:
        return self.columns.taken(offsets)

    def slabs(self, outputs: int) -> list[Rows]:
        return [None]  # an output a line: arrays are (1, k)

    def values(self, values: Values, rows: Rows = None) -> Array:
        xp = self.problem.xp
        per_line = xp.matrix_transpose(values.at)  # (r, n)
        if self.columns.where is not None:
            per_line = xp.take(per_line, self.columns.where, axis=1)
        return per_line[:, None, :]

    def at_x(self, value: Array, rows: Rows = None) -> Array:
        return self.columns._of(value)[None, :]


def turned(problem: Problem, real: Array | float, offsets: Array, turn: complex) -> Array:
    """real + turn offsets, in the complex dtype of x's precision."""
    xp = problem.xp
    dtype = xp.complex128 if offsets.dtype == xp.float64 else xp.complex64
    moved = xp.astype(offsets, dtype) * turn
    return moved if isinstance(real, float) else moved + xp.astype(real, dtype)


def relative_step(problem: Problem) -> float:
    """An imaginary step, over the scale."""
    step = next(step for bits, step in RELATIVE_STEP.items() if bits == 0 or problem.eps <= 2.0 ** -(bits - 1))
    return step if problem.eps >= FINEST else problem.eps**FINER_STEP


def _room(problem: Problem, of: Callable[[Array], Array]) -> tuple[Array, Array] | None:
    if problem.lower is None or problem.upper is None:
        return None
    return of(problem.upper - problem.x), of(problem.x - problem.lower)


@dataclass(frozen=True)
class AtX:
    """The point x alone."""

    problem: Problem
    count = 1
    is_complex = False
    starts_at_x = True

    def column(self, j: int) -> Array:
        """It."""
        return self.problem.at(self.problem.backend.copy(self.problem.x))

    task = column

    def block(self, start: int, stop: int) -> Array:
        """It, where it is wanted."""
        return self.column(0)[:, None][:, start:stop]

    def parameter(self, j: int) -> None:
        """None."""


def ray(problem: Problem, another: bool = False) -> Tangents:
    """One random direction, or another one, in which every free parameter moves by half to all of its size at t = 1."""
    xp, n = problem.xp, problem.n
    random = problem.backend.ray(2 * n, problem.x.dtype)[n:] if another else problem.backend.ray(n, problem.x.dtype)
    direction = problem.scale * random
    rooms = _room(problem, lambda array: array)
    if rooms is not None:
        up, down = rooms
        roomier = xp.where(up >= down, xp.ones_like(up), -xp.ones_like(up))
        tight = xp.minimum(up, down) < xp.abs(direction)
        reach = xp.minimum(xp.abs(direction), xp.maximum(up, down) / INSIDE)
        direction = xp.where(tight, roomier * reach, direction)
    return Tangents(problem, direction[:, None])
