"""Exact: f is run once with what records it, and differentiated as it was written; good for any code that can be followed.

Griewank & Walther, Evaluating Derivatives, SIAM 2008.  A gradient costs a few f whatever n.  Nothing that follows code is safe by
itself, so what it gives is held to plain f at x (`confirming`); its bars are those of rounding, told by doing all operations
again with other roundings (Parker, Monte Carlo arithmetic, UCLA CSD-970002, 1997).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NoReturn

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import FINEST, AtX, Lines, Tangents
from arraydiff.errors import BudgetSpent, released
from arraydiff.memory import exceeds, room
from arraydiff.noise import given
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.seam import Asking, Prepared, Pushforward, Recorded, Recording, Values
from arraydiff.strategies.code import ARRAYS, Code, tapes_of
from arraydiff.strategies.confirming import confirmed, same_value
from arraydiff.strategies.numerical import Numerical

KEPT = 12
"""(m,) of numbers that are kept beside the chunks."""

ONE_OF_SEVERAL = "the derivative of the code is one of several at this x"

TOO_LARGE = (
    "what f makes on its way, kept on a tape, is more than max_memory (half of what is free where it is not given)"
)


@dataclass(frozen=True)
class Untraced:
    """Why f is not followed."""

    reason: str
    lasting: bool = False  # whether it would be the same at every x
    error: Exception | None = None

    def refused(self) -> NoReturn:
        """Raise it: method='exact' was asked for."""
        raise TypeError(
            f"method='exact' cannot follow f: {self.reason}; leave method out, and what cannot be followed is differentiated by "
            "values of f"
        ) from self.error

    def instead(self, asking: Asking[Prepared]) -> Asking[Prepared]:
        """What is done instead, with the reason; what f had made when it was refused is not kept meanwhile."""
        if self.error is not None:
            released(self.error)
        return self.told_with((yield from asking))

    def told_with(self, prepared: Prepared) -> Prepared:
        """What was done instead, with the reason."""
        reason = "; ".join(filter(None, (self.reason, prepared.reason)))
        return replace(prepared, reason=reason, untraced=self.reason if self.lasting else "")


@dataclass(frozen=True)
class Exact:
    """The strategy, asked for by name."""

    along: bool = False  # whether the derivative along a random line is wanted too

    def watching(
        self, problem: Problem, config: DifferentiationConfig, line: Callable[[Problem], Tangents] | None
    ) -> Exact:
        """It is there for nothing."""
        return replace(self, along=problem.n > 1)

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """F(x), and f followed; where plain f belies what it gave, differences with the flag UNRESOLVED; at kinks, differences.

        Raises
        ------
        TypeError
            f cannot be followed.
        """
        found = yield from attempt(problem, config, self.along)
        if isinstance(found, Prepared):
            return found
        if found.reason.startswith(ONE_OF_SEVERAL):  # whose entries are differences, where there are others too
            return (yield from found.instead(Numerical(self.along).prepare(problem, config)))
        if not (found.reason.startswith(BELIED) or isinstance(found.error, BudgetSpent)):
            found.refused()
        numerical = yield from Numerical(self.along).prepare(problem, config)
        note = f"{found.reason}; the values are by {numerical.method.value}"
        return replace(numerical, pushforward=partial(_unresolved, numerical), notes=(*numerical.notes, note))


BELIED = "what tracing f gave is not confirmed by plain f"


def attempt(problem: Problem, config: DifferentiationConfig, along: bool = False) -> Asking[Prepared | Untraced]:
    """F followed and held to plain f, or why not."""
    begun = yield from followed(problem, config)
    if isinstance(begun, Untraced):
        return begun
    if not (begun.value.shape[0] and problem.n):
        return Untraced("there is nothing to differentiate")
    tape = begun.recorded.tape
    m = int(begun.value.shape[0])
    held = tape.held * tapes_of(problem, config, m) + 8 * m * (ARRAYS + KEPT)
    if exceeds(problem.backend, config.max_memory, held):
        return Untraced(TOO_LARGE)
    try:
        code = yield from Code.of(problem, config, begun.value, tape)
        belied = begun.other_value(problem, code.slope)
    except Exception as error:  # noqa: BLE001 - a rule that refuses, or fails, says that differences are to be taken
        return unfollowed(error)
    if code.kinks and problem.backend.counts(code.line.at != 0) == [0]:
        return Untraced(f"{ONE_OF_SEVERAL}: {', '.join(tape.notes.kinks)}")
    if not belied and config.verify_trace:
        assert begun.at_x is not None
        belied = yield from confirmed(problem, config, begun.at_x, code.line, code.slope)
    return Untraced(f"{BELIED}: {belied}") if belied else code.prepared(along)


def unfollowed(error: Exception) -> Untraced:
    """A sweep along the tape failed."""
    return Untraced(f"the code has a derivative that is not followed: {first_line(error)}", error=error)


def first_line(error: Exception) -> str:
    """What it says, or its kind."""
    return str(error).partition("\n")[0] or type(error).__name__


@dataclass(frozen=True)
class Begun:
    """F at x, and as it was followed."""

    recorded: Recorded
    at_x: Values | None  # of plain f; None: it was not called

    @property
    def value(self) -> Array:
        """(m,) f(x)."""
        return self.recorded.value if self.at_x is None else self.at_x.at[:, 0]

    def other_value(self, problem: Problem, slope: Array) -> str:
        """Why the two differ, or nothing; `slope` (m,) is what f does along a ray."""
        if self.at_x is None:
            return ""
        return same_value(problem.backend, problem.eps_of(self.value), self.value, self.recorded.value, slope)


def followed(problem: Problem, config: DifferentiationConfig, *, second: bool = False) -> Asking[Begun | Untraced]:
    """Plain f at x, then f, or its gradient, on a tape; or why not."""
    refused = refused_beforehand(problem, config)
    if refused:
        return Untraced(refused)
    verified = config.verify_trace or problem.call.measured or problem.call.has_aux
    at_x = (yield AtX(problem)) if verified else None  # before tracing: f may keep what it made
    recorded = yield Recording(problem.x, second, _limit(problem, config))
    if isinstance(recorded, Exception):
        lasting = getattr(recorded, "lasting", False) is True
        return Untraced(first_line(recorded), lasting, recorded)
    return Begun(recorded, at_x)


def refused_beforehand(problem: Problem, config: DifferentiationConfig) -> str:
    """Why tracing is not tried, or nothing."""
    if problem.trace_refused:
        return problem.trace_refused
    if config.devices is not None or config.store is not None:
        return "devices= and store= are for points, which a trace is not"
    return "numbers of more digits than float64 are not traced" if problem.eps < FINEST else refused_by(config)


def refused_by(config: DifferentiationConfig) -> str:
    """The option because of which tracing is not tried, or nothing."""
    if not config.follows:
        return f"method={config.method.value!r} was asked for"
    return next((reason for reason, holds in REFUSED_BY if holds(config)), "")


def _steps_given(config: DifferentiationConfig) -> bool:
    limited = config.min_step is not None or config.max_step is not None
    return limited or config.step_size is not None or config.relative_step is not None


REFUSED_BY: tuple[tuple[str, Callable[[DifferentiationConfig], bool]], ...] = (
    ("f sees plain arrays only (opaque=True)", lambda config: config.opaque),
    ("f is not to be traced (trace=False)", lambda config: not config.trace),
    ("f is noisy (noise= says so), and its code has a derivative of its own", given),
    ("a step was given, and f is asked at the points that it says", _steps_given),
)


def _limit(problem: Problem, config: DifferentiationConfig) -> Callable[[int], int]:
    """Bytes that a tape may hold, which holds so many now; with bars there are two."""
    tapes = 1 + problem.bars
    return lambda held: room(problem.backend, config.max_memory, tapes * held) // tapes


def _unresolved(numerical: Prepared, lines: Lines) -> Asking[Pushforward]:
    pushed = yield from numerical.pushforward(lines)
    xp = lines.problem.xp
    flag = xp.full_like(pushed.status, int(Status.UNRESOLVED))
    return replace(pushed, status=xp.bitwise_or(pushed.status, flag))
