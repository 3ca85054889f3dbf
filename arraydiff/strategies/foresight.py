"""What will be asked for, told before anything is known: where evaluations take long, it goes out with f(x)."""

from __future__ import annotations

from arraydiff.config import ORDERS, DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Lines
from arraydiff.problem import Problem
from arraydiff.seam import Foresight, Points, Strategy

BESIDE_X = 7
"""Points of the first round: f(x), and those of the probe."""

LADDER_POINTS = 8
"""A direction, where f is smooth."""


def foreseen(
    strategy: Strategy, problem: Problem, config: DifferentiationConfig, lines: Lines, width: int | None
) -> list[Points]:
    """Points that are sure to be asked for along these lines, and those that may be, where workers would be idle else."""
    if not isinstance(strategy, Foresight) or problem.call.measured:
        return []
    first, *maybe = strategy.foreseen(problem, config, lines)
    sure = list(first)
    together = BESIDE_X + sum(points.count for points in sure)
    for points in maybe:
        together += sum(some.count for some in points)
        if width is None or together > width:
            break
        sure += points
    return sure


def points_each(method: DifferentiationMethod, config: DifferentiationConfig) -> int:
    """Points a direction, as a guess for who waits."""
    if method is DifferentiationMethod.COMPLEX_STEP:
        return 1
    return (config.order or ORDERS[method][0]) if method in ORDERS else LADDER_POINTS
