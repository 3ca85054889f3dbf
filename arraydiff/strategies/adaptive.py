"""Adaptive: f followed where it can be, and held to plain f; else by its values, and the reason said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from arraydiff.config import DifferentiationConfig
from arraydiff.directions import Lines, Tangents
from arraydiff.problem import Problem
from arraydiff.seam import Asking, Points, Prepared
from arraydiff.strategies.exact import Untraced, attempt, refused_beforehand
from arraydiff.strategies.numerical import Numerical

CHEAPER = 8
"""Directions from which on a trace costs less than the differences that a tolerance of the user's leaves room for."""


@dataclass(frozen=True)
class Adaptive:
    """The default strategy."""

    along: bool = False  # whether the derivative along a random line is wanted too, where one is looked along

    def watching(
        self, problem: Problem, config: DifferentiationConfig, line: Callable[[Problem], Tangents] | None
    ) -> Adaptive:
        """Its ray is random anyhow; of one parameter it is the column itself."""
        return replace(self, along=problem.n > 1)

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """F(x), f followed, and with it the method."""
        found: Prepared | Untraced = Untraced(not_tried(problem, config))
        if not found.reason:
            found = yield from attempt(problem, config, self.along)
        if isinstance(found, Prepared):
            return found
        return (yield from found.instead(Numerical(self.along).prepare(problem, config)))

    def foreseen(self, problem: Problem, config: DifferentiationConfig, lines: Lines) -> Sequence[Sequence[Points]]:
        """As for an f that is not followed: where it is tried, nothing is foreseen."""
        by_values = not_tried(problem, config) or refused_beforehand(problem, config)
        return Numerical(self.along).foreseen(problem, config, lines) if by_values else [[]]


def not_tried(problem: Problem, config: DifferentiationConfig) -> str:
    """Why values of f are preferred, or nothing."""
    if config.error_tolerance is not None and problem.directions < CHEAPER:
        return "differences hold error_tolerance= at less cost"
    return ""
