"""What travels between the layers: points asked for, values given, columns finished.

A strategy never calls f.  It is a generator that yields `Points` and is sent `Values`; an evaluator drives it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from arraydiff._typing import Array
from arraydiff.config import DifferentiationMethod

if TYPE_CHECKING:
    from arraydiff.backends import Backend
    from arraydiff.config import DifferentiationConfig
    from arraydiff.directions import Lines, Tangents
    from arraydiff.problem import Problem
    from arraydiff.rows import Rows

LADDER_ARRAYS = 60
"""Arrays (m,) a direction that a ladder of few outputs holds between its stages, with a share of what its tableau takes."""

PREPARE_ARRAYS = 32
"""Arrays (m,) that `prepare` holds of many outputs, whatever the directions: two looks of the probe, a witness, a certificate."""

T = TypeVar("T")


@dataclass(frozen=True)
class Moved:
    """x with one entry or two replaced, as it travels to a worker: small, however many entries x has."""

    index: int
    value: Array  # ()
    other: Moved | None = None

    def made(self, backend: Backend, x: Array) -> Array:
        """The point itself, a new array."""
        fresh = backend.copy(x) if self.value.dtype == x.dtype else backend.xp.astype(x, self.value.dtype)
        fresh = backend.with_entry(fresh, self.index, self.value)
        return fresh if self.other is None else backend.with_entry(fresh, self.other.index, self.other.value)


Task = Array | Moved
"""A point, or what makes one of x."""


class Points(Protocol):
    """Where f is needed.  Asked for a block, or column by column: one by one, no (n, k) array is ever made."""

    @property
    def count(self) -> int:
        """How many points."""

    @property
    def is_complex(self) -> bool:
        """Whether they are complex: then a warning of f that an imaginary part is lost counts as a failure."""

    @property
    def starts_at_x(self) -> bool:
        """Whether the first point is x itself, where an exception of f goes through unchanged."""

    def column(self, j: int) -> Array:
        """Point j, a new contiguous array of shape (n,)."""

    def task(self, j: int) -> Task:
        """Point j as it travels."""

    def block(self, start: int, stop: int) -> Array:
        """Points start..stop, a new array of shape (n, stop - start)."""

    def parameter(self, j: int) -> int | None:
        """Which entry of x is displaced at point j; None where several are."""


@dataclass(frozen=True)
class Carried:
    """Points that are handed out as other arrays: on another device, or of another library."""

    points: Points
    carry: Callable[[Array], Array]

    @property
    def count(self) -> int:
        """How many points."""
        return self.points.count

    @property
    def is_complex(self) -> bool:
        """Whether they are complex."""
        return self.points.is_complex

    @property
    def starts_at_x(self) -> bool:
        """Whether the first point is x itself."""
        return self.points.starts_at_x

    def column(self, j: int) -> Array:
        """Point j, carried."""
        return self.carry(self.points.column(j))

    def task(self, j: int) -> Task:
        """Point j, carried: what makes it of x is of the other library or device."""
        return self.column(j)

    def block(self, start: int, stop: int) -> Array:
        """Points start..stop, carried."""
        return self.carry(self.points.block(start, stop))

    def parameter(self, j: int) -> int | None:
        """Which entry of x is displaced at point j."""
        return self.points.parameter(j)


@dataclass(frozen=True)
class Values:
    """What f gave: (m, k); NaN where it failed."""

    at: Array
    noise: Array | None = None  # (m, k) absolute, where it is known: f is a derivative of ours, this its error bar
    failure: Exception | None = None  # the first one, if any
    short: int = 0  # how many of the last points were left out, because max_evaluations is spent


class Tape(Protocol):
    """f at x, recorded: what can be pushed along it, or pulled back."""

    @property
    def value(self) -> Array:
        """(m,) as f gave it."""

    @property
    def held(self) -> int:
        """Bytes of large arrays on it, as far as they are counted."""

    @property
    def notes(self) -> Noted:
        """What was met on the way."""

    def pullback(self, cotangent: Array, *, keep: bool = False) -> Array:
        """uᵀ·J, (n,); without `keep` the tape is used up."""

    def pushforward(self, tangent: Array) -> Array:
        """J·v, (m,)."""

    def shaken(self, units: float, sample: int = 0, *, keep: bool = False) -> Tape | None:
        """The same operations, each rounded otherwise by so many eps, in one way or another; None: they cannot be done again."""

    def kinked(self) -> Sequence[Touched]:
        """Which entries of J the kinks touch that f met; to be asked before the tape is used up."""


class Touched(Protocol):
    """A kink that f met, and the entries of J that it touches: those in these rows and in these columns."""

    @property
    def rows(self) -> Array:
        """(m,) booleans."""

    @property
    def columns(self) -> Array:
        """(n,) booleans."""


class Noted(Protocol):
    """What a derivative at one point does not tell, each with its place in the user's code."""

    @property
    def kinks(self) -> dict[str, str]:
        """Where the derivative may not exist."""

    @property
    def branches(self) -> dict[str, str]:
        """What was asked of values."""


SHAKE = 2.0**6
"""eps by which operations of a shaken tape are off: far above their own rounding, and small enough to stay linear."""


@dataclass(frozen=True)
class Recording:
    """Not points: f is wanted once, at what records it; answered by a `Recorded`, or by what kept f from being followed."""

    x: Array
    second: bool = False  # the gradient of f is recorded, not f
    limit: Callable[[int], int] | None = None  # bytes that the tape may hold, given those that it holds
    count = 1
    is_complex = starts_at_x = False


@dataclass(frozen=True)
class Recorded:
    """f, or its gradient, as it was recorded."""

    tape: Tape
    value: Array  # (m,) f(x)


Asking = Generator[Any, Any, T]
"""A computation that asks for `Values` of f at `Points`, or for a `Recording`, and ends with a T."""

Rounds = Generator[list[Any], list[Any], T]
"""The same, asking for what several of them want at once: one round a time."""


@dataclass(frozen=True)
class Pushforward:
    """J·V for one chunk of k directions."""

    columns: Array  # (m, k)
    error: Array  # (m, k), absolute
    steps: Array  # (k,), as taken: (x + h) - x
    status: Array  # (m, k), int16 flags


@dataclass(frozen=True)
class Seen:
    """The derivative along a line that a strategy looked along anyhow, in which all free parameters move at random."""

    direction: Array  # (n,)
    pushed: Pushforward  # of one line


@dataclass(frozen=True)
class Prepared:
    """What one x teaches once and every chunk uses."""

    method: DifferentiationMethod
    value: Array  # (m,) f(x)
    pushforward: Callable[[Lines], Asking[Pushforward]]
    reason: str = ""  # why this method, and not the one before it
    noise: Array | None = None  # (m,) the noise level of f, where it is known
    notes: tuple[str, ...] = field(default=())  # what a user should hear about this x
    finite: int | None = None  # how many outputs are finite at x, where that was read with something else
    arrays: int = LADDER_ARRAYS  # (m,) of numbers that one more direction of a chunk holds at once, at the peak
    tableau: int = 0  # numbers that it holds while its rungs are compared, where those may be more
    first: Pushforward | None = None  # derivatives along the lines of a frame, where pairs of them are pushed forward
    second: Pushforward | None = None  # and second derivatives
    beside: Pushforward | None = None  # second derivatives along lines that no pair is made of
    beside_first: Pushforward | None = None  # and first derivatives, where `first` is there too
    along: Seen | None = None  # what it saw of a line anyhow, where that was asked for
    bar: Callable[[Lines, Array, Rows], Array] | None = None  # (m, k) of derivatives that are imaginary parts
    pullback: Callable[[Array], tuple[Array, Array]] | None = (
        None  # u (m,) to uᵀ·J (n,) and its bars, where f was recorded; where strategies compute
    )
    untraced: str = ""  # why f cannot be followed at any x
    whole: Callable[[], Pushforward] | None = None  # all columns of x, where they are there anyhow, and f(x) is finite
    alone: Array | None = None  # (m, n) the same where nobody has to look at more
    vouched: bool = False  # every entry is, unless something is heard: nobody has to look
    unseen_bar: float = 0.0  # relative, of entries of which no bars are made
    held: int = 0  # bytes that it keeps for all directions, beside what is counted in arrays of outputs
    heard: list[str] = field(default_factory=list)  # what chunks add to the reason as they go
    scatter: tuple[float, Array] | None = (
        None  # a number times (m,): what values of f scatter by, where the noise is not known
    )

    @property
    def goes_well(self) -> bool:
        """Whether f was followed, nobody looks at bars, and there is nothing to tell."""
        return self.method is DifferentiationMethod.EXACT and self.vouched and not (self.reason or self.heard)


@runtime_checkable
class Foresight(Protocol):
    """A strategy that knows beforehand where it will look: not needed, but it saves rounds."""

    def foreseen(self, problem: Problem, config: DifferentiationConfig, lines: Lines) -> Sequence[Sequence[Points]]:
        """Points that are sure to be asked for, then in turn those that may be; the same to the last bit."""


@runtime_checkable
class Watchful(Protocol):
    """A strategy that looks along a random line anyhow, and can tell the derivative along it: `Prepared.along`."""

    def watching(
        self, problem: Problem, config: DifferentiationConfig, line: Callable[[Problem], Tangents] | None
    ) -> Strategy:
        """The same, telling it where it can; `line` is one with room on both sides that it may look along instead of its own."""


class Strategy(Protocol):
    """A method: frozen, stateless, one file."""

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """Evaluate f at x, learn what x teaches, and say how chunks are pushed forward."""
