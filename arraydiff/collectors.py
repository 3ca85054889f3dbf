"""What becomes of finished chunks: arrays of all directions, or of the values alone where bars do not fit beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from arraydiff._typing import Array
from arraydiff.arguments import is_real
from arraydiff.backends import backend_of, is_array
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.seam import Pushforward
from arraydiff.vouching import Watch

T_co = TypeVar("T_co", covariant=True)


class Collector(Protocol[T_co]):
    """Takes chunks in the order of their directions."""

    held: int  # bytes, in the end, beside what is returned

    def consume(self, chunk: Pushforward) -> None:
        """One finished chunk."""

    def finish(self) -> T_co:
        """What the transform asked for."""


@dataclass(frozen=True)
class Dense:
    """J·V as arrays; a bare call may have done without bars and flags, and where nobody looks at them without all but columns."""

    columns: Array  # (m, n)
    steps: Array = None  # (n,)
    error: Array = None  # (m, n)
    status: Array = None  # (m, n) int16
    watch: Watch | None = None  # what was seen of bars and flags that are gone
    least: Array = None  # (m, n) the size that entries are held to at least, where that is known


class Slots(Protocol):
    """An array (m, n) that is filled some columns at a time."""

    def write(self, which: Sequence[int], part: Array) -> None:
        """Columns `which`, in rising order."""

    def filled(self) -> Array:
        """(m, n)."""


class Written:
    """Slots of an array that can be written: no chunk is held twice. Kept by rows, so that a chunk is one stretch of memory."""

    def __init__(self, problem: Problem, m: int, n: int, dtype: Any, fill: int) -> None:
        self.xp = problem.xp
        place = problem.backend.device
        if fill == 0:  # memory that nobody has touched is zero already
            self.rows = self.xp.zeros((n, m), dtype=dtype, device=place)
        else:
            self.rows = self.xp.full((n, m), fill, dtype=dtype, device=place)

    def write(self, which: Sequence[int], part: Array) -> None:
        rows = self.xp.matrix_transpose(part)
        if which[-1] - which[0] == len(which) - 1:
            self.rows[which[0] : which[-1] + 1, ...] = rows
            return
        for j, i in enumerate(which):
            self.rows[i, ...] = rows[j, ...]

    def filled(self) -> Array:
        return self.xp.matrix_transpose(self.rows)


class Joined:
    """Slots where arrays cannot be written: parts are kept, and joined in the end."""

    def __init__(self, problem: Problem, m: int, n: int, dtype: Any, fill: int) -> None:
        self.problem, self.n = problem, n
        self.empty = problem.xp.full((m, 1), fill, dtype=dtype, device=problem.backend.device)
        self.places: list[int] = []
        self.parts: list[Array] = []

    def write(self, which: Sequence[int], part: Array) -> None:
        self.places += which
        self.parts.append(part)

    def filled(self) -> Array:
        xp = self.problem.xp
        if self.places == list(range(self.n)) and self.parts:
            return self.parts[0] if len(self.parts) == 1 else xp.concat(self.parts, axis=-1)
        place = {parameter: i for i, parameter in enumerate(self.places)}
        slots = self.problem.backend.indices([place.get(i, len(self.places)) for i in range(self.n)])
        return xp.take(xp.concat([*self.parts, self.empty], axis=-1), slots, axis=-1)


class Outside:
    """Slots of an array of the user's, such as a memory map: of the shape of the outputs, then that of x."""

    def __init__(self, problem: Problem, out: Any, outputs: tuple[int, ...], inputs: tuple[int, ...]) -> None:
        self.problem, self.out, self.outputs, self.inputs = problem, out, outputs, inputs
        self.there = backend_of([out]) if is_array(out) else None
        if problem.lower is not None:
            out[...] = 0  # parameters that cannot move are never put

    def write(self, which: Sequence[int], part: Array) -> None:
        if len(self.inputs) == 1 and which[-1] - which[0] == len(which) - 1:
            self.out[..., which[0] : which[-1] + 1] = self._shaped(part, len(which))
            return
        for j, i in enumerate(which):
            self.out[(..., *_place(i, self.inputs))] = self._shaped(part[:, j])

    def _shaped(self, part: Array, *columns: int) -> Any:
        shaped = self.problem.xp.reshape(part, (*self.outputs, *columns))
        if self.there == self.problem.backend:
            return shaped
        brought = self.problem.backend.as_numpy(shaped)
        return brought if self.there is None else self.there.asarray(brought, self.out.dtype)

    def whole(self, columns: Array) -> None:
        """All columns (m, n) at once."""
        self.out[...] = self._shaped(columns, *self.inputs)

    def filled(self) -> Array:
        return self.out


def not_writable(out: Any) -> str:
    """Why values cannot be written to `out`, or nothing."""
    if not is_array(out):  # a dataset of h5py or zarr
        floats = getattr(getattr(out, "dtype", None), "kind", "f") == "f"
        return "" if floats and hasattr(out, "__setitem__") else f"got {type(out).__name__}"
    there = backend_of([out])
    if there.immutable or not getattr(getattr(out, "flags", None), "writeable", True):
        return f"this {type(out).__name__} cannot be written"
    return "" if is_real(there, out.dtype) else f"this one holds {out.dtype}"


def is_every(index: Sequence[int], size: int) -> bool:
    """Whether these are all of so many, in order."""
    every = range(size)
    return index == every if isinstance(index, range) else tuple(index) == tuple(every)


def _place(index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of an entry of an array that is counted along its rows."""
    places = []
    for length in reversed(shape):
        index, place = divmod(index, length)
        places.append(place)
    return tuple(reversed(places))


class InOrder:
    """What all collectors share: which parameters the next chunk is of, and the steps."""

    def __init__(self, problem: Problem, size: int, index: Sequence[int], held: int = 0) -> None:
        self.problem, self.size, self.index, self.held, self.done = problem, size, index, held, 0
        self.slots = Joined if problem.backend.immutable else Written
        self.steps: list[Array] = []

    def next_of(self, chunk: Pushforward) -> Sequence[int]:
        """The parameters that the chunk is of."""
        which = self.index[self.done : self.done + int(chunk.columns.shape[1])]
        self.done += len(which)
        self.steps.append(chunk.steps)
        return which

    def all_steps(self) -> Array:
        """(n,) zero where a parameter cannot move."""
        xp, problem = self.problem.xp, self.problem
        if self.done == self.size and self.steps and is_every(self.index, self.size):
            steps = self.steps[0] if len(self.steps) == 1 else xp.concat(self.steps)
            return xp.astype(steps, problem.x.dtype, copy=False)
        none = xp.zeros((1,), dtype=problem.x.dtype, device=problem.backend.device)
        place = {parameter: i for i, parameter in enumerate(self.index[: self.done])}
        slots = problem.backend.indices([place.get(i, self.done) for i in range(self.size)])
        return xp.take(xp.concat([*(xp.astype(part, none.dtype) for part in self.steps), none]), slots)


class DenseCollector(InOrder):
    """All columns side by side, with bars and flags; parameters that were left out (fixed by their bounds) get 0 and FIXED."""

    def __init__(self, problem: Problem, m: int, size: int, index: Sequence[int], held: int = 0) -> None:
        super().__init__(problem, size, index, held)
        self.m = m
        self.whole: Pushforward | None = None
        self.parts: tuple[Slots, Slots, Slots] | None = None

    def consume(self, chunk: Pushforward) -> None:
        """Keep it as it is where it is all there is, else put it in its place."""
        which = self.next_of(chunk)
        if len(which) == self.size:
            self.whole = chunk
            return
        for slots, part in zip(self._opened(chunk.columns.dtype), _parts(chunk), strict=True):
            slots.write(which, part)

    def _opened(self, dtype: Any) -> tuple[Slots, Slots, Slots]:
        if self.parts is None:
            columns, error = (self.slots(self.problem, self.m, self.size, dtype, 0) for _ in range(2))
            status = self.slots(self.problem, self.m, self.size, self.problem.xp.int16, int(Status.FIXED))
            self.parts = columns, error, status
        return self.parts

    def finish(self) -> Dense:
        """The arrays of all directions."""
        steps = self.all_steps()
        if self.whole is not None:
            return Dense(self.whole.columns, steps, self.whole.error, self.whole.status)
        columns, error, status = (slots.filled() for slots in self._opened(self.problem.x.dtype))
        return Dense(columns, steps, error, status)


def _parts(chunk: Pushforward) -> tuple[Array, Array, Array]:
    return chunk.columns, chunk.error, chunk.status


class ValuesCollector(InOrder):
    """The values alone; whether they are vouched for is watched as they come."""

    def __init__(
        self, problem: Problem, m: int, size: int, index: Sequence[int], watch: Watch, out: Slots | None = None
    ) -> None:
        super().__init__(problem, size, index)
        self.m, self.watch, self.values = m, watch, out

    def consume(self, chunk: Pushforward) -> None:
        """Put the values in their place, and look at their bars before those go."""
        which = self.next_of(chunk)
        self._opened(chunk.columns.dtype).write(which, chunk.columns)
        self.watch.see(chunk, which)

    def _opened(self, dtype: Any) -> Slots:
        if self.values is None:
            self.values = self.slots(self.problem, self.m, self.size, dtype, 0)
        return self.values

    def finish(self) -> Dense:
        """The values of all directions."""
        return Dense(self._opened(self.problem.x.dtype).filled(), self.all_steps(), watch=self.watch)
