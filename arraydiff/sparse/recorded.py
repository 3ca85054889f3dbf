"""A sparse Hessian of an f that is followed: its gradient is recorded, and pushed forward along a line for each star colour."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from arraydiff.arguments import Layout, Leaf
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import AtX, Lines
from arraydiff.engine import Wanted, opened
from arraydiff.evaluator import Evaluator
from arraydiff.memory import exceeds
from arraydiff.problem import Output, Problem
from arraydiff.result import Status
from arraydiff.seam import Asking, Prepared, Pushforward, Rounds, Seen, Tape
from arraydiff.sparse.gradients import GradientRequest
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.request import Made
from arraydiff.sparse.seeds import Seeds
from arraydiff.sparse.sparsity import Sparsity
from arraydiff.strategies.code import ARRAYS, SAMPLES, along, pushed, unseen_bar, with_others
from arraydiff.strategies.exact import TOO_LARGE, Untraced, refused_beforehand
from arraydiff.strategies.exact_second import LOST, followed_slopes


@dataclass(frozen=True)
class ExactSlopes:
    """The strategy: columns are those of the Hessian, the value is the gradient. Where f is not followed it says why, no more."""

    refusals: list[Untraced] = field(default_factory=list)

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """The gradient of a scalar f recorded."""
        found = yield from followed_slopes(problem, config)
        if isinstance(found, Untraced):
            self.refusals.append(found)
            return Prepared(DifferentiationMethod.ADAPTIVE, problem.x, _none)
        if exceeds(problem.backend, config.max_memory, found.tape.held * (1 + SAMPLES * problem.bars)):
            self.refusals.append(Untraced(TOO_LARGE))
            return Prepared(DifferentiationMethod.ADAPTIVE, problem.x, _none)
        tape, *others = with_others(problem, found.tape)
        change = [found.change[:, None], *(along(other, found.line) for other in others)]
        seen = Seen(found.line.at[:, 0], pushed(problem, found.line, change, found.eps))
        columns = partial(_columns, tapes=(tape, *others), eps=found.eps)
        unseen = unseen_bar(problem, found.eps)
        return Prepared(DifferentiationMethod.EXACT, tape.value, columns, arrays=ARRAYS, along=seen, unseen_bar=unseen)


def _none(lines: Lines) -> Asking[Pushforward]:
    raise AssertionError(lines)


def _columns(lines: Lines, tapes: tuple[Tape, ...], eps: float) -> Generator[Any, Any, Pushforward]:
    """H·V."""
    yield from ()
    return pushed(lines.problem, lines, [along(tape, lines) for tape in tapes], eps)


@dataclass(frozen=True)
class RecordedRequest(GradientRequest):
    """One Hessian by the recorded gradient of f, or of the sum of its terms."""

    terms: bool = False

    def _lined(self, known: Sparsity, real: bool = True) -> Seeds:
        return self._seeds(known.halves(self.free).order, real=False)  # a tape knows no bounds

    def recorded(self) -> Rounds[tuple[Prepared | None, Untraced]]:
        """The gradient on a tape; None: why not.

        Raises
        ------
        TypeError
            f cannot be followed, and method='exact' was asked for.
        """
        if not self.problem.n:
            return None, Untraced("")
        refused = refused_beforehand(self.problem, self.config)
        if refused:
            return None, self._told(Untraced(refused))
        strategy, xp = ExactSlopes(), self.problem.xp
        wanted = Wanted(range(self.problem.n), strategy=strategy)
        if not self.terms:
            prepared = yield from opened(self.problem, self.config, wanted, self.evaluator)
        else:
            yield [AtX(self.problem)]
            prepared = self._of_total(wanted)
        if strategy.refusals:
            return None, self._told(strategy.refusals[0])
        value = self.evaluator.base.values
        finite = self.problem.backend.counts(~xp.isfinite(value)) == [0]
        return (prepared, Untraced("")) if finite else (None, Untraced("f is not finite at x"))

    def _told(self, found: Untraced) -> Untraced:
        if self.config.method is DifferentiationMethod.EXACT:
            found.refused()
        return found

    def _of_total(self, wanted: Wanted) -> Prepared:
        """The strategy prepared for the sum of the terms, which are known at x."""
        outer, values, xp = self.evaluator, self.evaluator.base.values, self.problem.xp
        call = replace(self.problem.call, cotangent=xp.ones_like(xp.reshape(values, (-1,))[:1]))  # serves all of them
        total = replace(self.problem, call=call)
        inner = Evaluator(total, self.config, service=outer.service)
        inner.calls, inner.points, inner.asked = 0, 0, outer.asked
        layout = Layout(None, (Leaf((), values.dtype),))
        inner.given = Output(xp.sum(values, axis=0, keepdims=True), layout, outer.base.aux, calls=0, points=0)
        try:
            return inner.drive(opened(total, self.config, wanted, inner))
        finally:
            outer.calls, outer.points = outer.calls + inner.calls, outer.points + inner.points
            outer.rounds, outer.asked = outer.rounds + inner.rounds, inner.asked

    def made(self, prepared: Prepared, known: Sparsity) -> Rounds[Made | None]:
        """The entries, and rows of which the pattern leaves something out; None where they are not finite."""
        made = yield from self._made(prepared, known, self._lined(known))
        here = self.here
        if here.counts((made.got.entries.status & int(Status.FAILED)) != 0) != [0]:
            return None
        return (yield from self._checked_again(prepared, made)) if made.rows.size else made


def diagonal_of(pattern: Pattern) -> Ints:
    """(n,) the place of each entry of the diagonal; -1: it is none."""
    places = np.full(pattern.shape[1], -1, dtype=np.int64)
    mine = np.flatnonzero(pattern.rows == pattern.cols)
    places[pattern.rows[mine]] = mine
    return places


NOT_FINITE = Untraced(LOST)
"""Why entries that a tape gave are not taken."""
