"""By values of f alone: the complex step where it is certified for this very x, else the ladder, and the reason said.

The order of trial is that of the cost: f(x); two complex points on one random ray (one is enough to learn that f refuses
complex numbers); the ray's ladder, which vouches for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from arraydiff.config import DifferentiationConfig
from arraydiff.directions import Lines, Tangents
from arraydiff.noise import given
from arraydiff.probe import first_sight, further
from arraydiff.problem import Problem
from arraydiff.seam import Asking, Points, Prepared
from arraydiff.strategies import cheapest, complex_step, richardson
from arraydiff.strategies.certificate import certify


@dataclass(frozen=True)
class Numerical:
    """The strategy for an f that is not followed."""

    along: bool = False  # whether the derivative along the certificate's ray is wanted too, where there is one

    def watching(
        self, problem: Problem, config: DifferentiationConfig, line: Callable[[Problem], Tangents] | None
    ) -> Numerical:
        """The certificate's ray is random anyhow; of one parameter it is the column itself."""
        return replace(self, along=problem.n > 1)

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """F(x), the certificate, and with it the method."""
        value, noise = yield from first_sight(problem, config)
        if problem.step is not None:
            noise = yield from further(problem, value, noise)
            return richardson.prepared(
                problem, config, value, noise, "a step was given, and real steps are taken by it"
            )
        if cheapest.applies(problem, config):
            noise = yield from further(problem, value, noise)
            return (yield from cheapest.prepare(problem, config, value, noise))
        certificate = yield from certify(problem, config, value, noise, self.along)
        if certificate.holds:
            return complex_step.prepared(value, certificate)
        noise = yield from further(problem, value, certificate.noise)
        return richardson.prepared(problem, config, value, noise, certificate.reason, certificate.ladder)

    def foreseen(self, problem: Problem, config: DifferentiationConfig, lines: Lines) -> Sequence[Sequence[Points]]:
        """As the complex step, its columns after the scouts: those more functions need."""
        if problem.step is not None:
            return richardson.Richardson().foreseen(problem, config, lines)
        if given(config) or cheapest.applies(problem, config):
            return [[]]
        certificate, columns, closer, scouts, *more = complex_step.expected(problem, config, lines)
        return [certificate, closer, scouts, columns, *more]
