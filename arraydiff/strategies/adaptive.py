"""Adaptive: the complex step where it is certified for this very x, else the ladder, and the reason said.

The order of trial is that of the cost: f(x); two complex points on one random ray (one is enough to learn that f refuses
complex numbers); the ray's ladder, which vouches for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arraydiff.config import DifferentiationConfig
from arraydiff.directions import Lines
from arraydiff.noise import given
from arraydiff.probe import first_sight, further, looking_closer
from arraydiff.problem import Problem
from arraydiff.seam import Asking, Points, Prepared
from arraydiff.strategies import cheapest, complex_step, richardson
from arraydiff.strategies.certificate import certify, certifying, refused_beforehand, vouching


@dataclass(frozen=True)
class Adaptive:
    """The default strategy."""

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
        certificate = yield from certify(problem, config, value, noise)
        if certificate.holds:
            return complex_step.prepared(value, certificate)
        noise = yield from further(problem, value, certificate.noise)
        return richardson.prepared(problem, config, value, noise, certificate.reason, certificate.ladder)

    def foreseen(self, problem: Problem, config: DifferentiationConfig, lines: Lines) -> Sequence[Sequence[Points]]:
        """The certificate's points; then scouts, which more functions need, then complex columns."""
        if given(config) or (problem.step is None and cheapest.applies(problem, config)):
            return [[]]
        scouts = richardson.scouting(lines, config)
        if problem.step is not None:
            return [[scouts]]
        closer = looking_closer(problem, config)
        if refused_beforehand(problem, config):
            return [[], closer, [scouts]]
        columns = lines.points(complex_step.imaginary_steps(lines), imaginary=True)
        alone = problem.n == 1  # the certificate's line is the one column
        closer.append(vouching(problem, config))
        return [[certifying(problem, config)], closer, [scouts], [] if alone else [columns]]
