"""Exact second derivatives: the gradient of f is recorded, and pushed forward along every line.

Good for Hessians, their diagonals and blocks, of code that can be followed: a few f a line, and f is called once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Lines, Tangents, ray
from arraydiff.pairs import Both
from arraydiff.problem import Problem
from arraydiff.seam import Asking, Prepared, Pushforward, Strategy, Tape
from arraydiff.strategies.code import direction, eps_of, pushed, unseen_bar, with_others
from arraydiff.strategies.confirming import confirmed_second
from arraydiff.strategies.exact import BELIED, Untraced, followed, unfollowed
from arraydiff.strategies.richardson import bar_factor

EXACT = DifferentiationMethod.EXACT

LOST = "the derivative of the code is not finite everywhere, or not the only one"


@dataclass(frozen=True)
class ExactSecond:
    """The strategy, and the one that serves where f is not followed."""

    frame: Callable[[Problem], Lines]
    numerical: Strategy
    mixed: bool = True  # whether pairs of lines are wanted, too

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """F(x), and all second derivatives along lines of the frame.

        Raises
        ------
        TypeError
            f cannot be followed, and method='exact' was asked for.
        """
        found = yield from self._attempt(problem, config)
        if isinstance(found, Prepared):
            return found
        if config.method is EXACT:
            found.refused()
        return (yield from found.instead(self.numerical.prepare(problem, config)))

    def _attempt(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared | Untraced]:
        taken = yield from followed_slopes(problem, config)
        if isinstance(taken, Untraced):
            return taken
        try:
            found = Curved.of(problem, self.frame(problem), int(taken.value.shape[0]), taken.tape, self.mixed)
        except Exception as error:  # noqa: BLE001 - as for first derivatives
            return unfollowed(error)
        if not found.is_finite():
            return Untraced(LOST)
        unseen = unseen_bar(problem, taken.eps)
        first = Prepared(EXACT, taken.value, partial(_pairs, found=found, eps=taken.eps), unseen_bar=unseen)
        return replace(first, second=found.diagonal(taken.eps), first=found.slopes(taken.eps))


@dataclass(frozen=True)
class Slopes:
    """The gradient of f on a tape, held to plain f along one line."""

    value: Array  # (m,) f(x)
    tape: Tape  # of the m gradients, one after the other
    line: Tangents
    change: Array  # (m * n,) of these along the line
    eps: float  # of the coarsest arithmetic inside f, wider for more confidence


def followed_slopes(problem: Problem, config: DifferentiationConfig) -> Asking[Slopes | Untraced]:
    """The gradient recorded, and confirmed by plain f; or why not."""
    begun = yield from followed(problem, config, second=True)
    if isinstance(begun, Untraced):
        return begun
    xp, tape, m = problem.xp, begun.recorded.tape, int(begun.value.shape[0])
    if not m:
        return Untraced("there is nothing to differentiate")
    if tape.notes.kinks:
        place = "; ".join(f"{text}, {where}" for text, where in tape.notes.kinks.items())
        return Untraced(f"{LOST}: {place}")
    line = ray(replace(problem, step=None))
    v = line.at[:, 0]
    try:
        change = tape.pushforward(v)
    except Exception as error:  # noqa: BLE001 - a rule that refuses, or fails, says that differences are to be taken
        return unfollowed(error)
    slope, bend = (xp.matmul(xp.reshape(one, (m, problem.n)), v) for one in (tape.value, change))
    belied = begun.other_value(problem, slope)
    eps = eps_of(problem, begun.value, tape)
    if not belied and config.verify_trace:
        belied = yield from confirmed_second(problem, begun.value, line, slope, bend, eps)
    if belied:
        return Untraced(f"{BELIED}: {belied}")
    return Slopes(begun.value, tape, line, change, eps * bar_factor(config.confidence))


@dataclass(frozen=True)
class Curved:
    """Second derivatives along k lines, and with other roundings where bars are wanted."""

    problem: Problem
    lines: Lines
    gradients: list[Array]  # (m, n)
    along: list[Array]  # (m, k) each line with itself
    whole: list[Array]  # (m, k, k) where pairs are wanted: line p, pushed along line q

    @classmethod
    def of(cls, problem: Problem, lines: Lines, m: int, tape: Tape, mixed: bool) -> Curved:
        """A sweep a line along every tape."""
        xp, n = problem.xp, problem.n
        gradients, along, whole = [], [], []
        for one in with_others(problem, tape):
            gradients.append(xp.reshape(one.value, (m, n)))
            alone, every = [], []
            for k in range(lines.count):
                column = _by_lines(lines, xp.reshape(one.pushforward(direction(lines, k)), (m, n)))
                alone.append(column[:, k])
                if mixed:
                    every.append(column)
            along.append(xp.stack(alone, axis=1))
            if mixed:
                whole.append(xp.stack(every, axis=2))
            del one  # before the next tape is made
        return cls(problem, lines, gradients, along, whole)

    def is_finite(self) -> bool:
        """Whether all of it is; one read."""
        parts = (self.gradients[0], self.along[0], *self.whole[:1])
        return not any(self.problem.backend.counts(*(~self.problem.xp.isfinite(part) for part in parts)))

    def slopes(self, eps: float) -> Pushforward:
        """First derivatives along the lines."""
        return self._pushed([_by_lines(self.lines, one) for one in self.gradients], eps)

    def diagonal(self, eps: float) -> Pushforward:
        """Second ones."""
        return self._pushed(self.along, eps)

    def _pushed(self, found: list[Array], eps: float) -> Pushforward:
        return pushed(self.problem, self.lines, found, eps)

    def pairs(self, lines: Both, eps: float) -> Pushforward:
        """Of pairs: the mean of what either line pushed along the other gave, and half of what they differ by in the bar."""
        xp, backend = self.problem.xp, self.problem.backend
        first, second = backend.indices(lines.first), backend.indices(lines.second)
        count = self.lines.count
        there, back = first * count + second, second * count + first
        flat = [xp.reshape(one, (int(one.shape[0]), -1)) for one in self.whole]
        found = [(xp.take(one, there, axis=1) + xp.take(one, back, axis=1)) / 2 for one in flat]
        made = pushed(self.problem, lines, found, eps)
        off = xp.abs(xp.take(flat[0], there, axis=1) - xp.take(flat[0], back, axis=1)) / 2
        return replace(made, error=made.error + off)


def _by_lines(lines: Lines, rows: Array) -> Array:
    """(m, k) of gradients (m, n): their parts along the lines."""
    xp = lines.problem.xp
    where = getattr(lines, "where", None)
    return rows if where is None else xp.take(rows, where, axis=1)


def _pairs(lines: Lines, found: Curved, eps: float) -> Asking[Pushforward]:
    assert isinstance(lines, Both)
    yield from ()
    return found.pairs(lines, eps)
