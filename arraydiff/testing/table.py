"""How a class of functions is written down: rows of two halves."""

from __future__ import annotations

from dataclasses import dataclass

from arraydiff.testing.imperfections import Imperfection
from arraydiff.testing.namespaces import Expression
from arraydiff.testing.sampling import Sampler


@dataclass(frozen=True)
class Row:
    """One function.

    Attributes
    ----------
    name : str
        Unique in the suite.
    expression : callable
        The exact function of a namespace and x.
    points : callable
        Draws the points at which it is differentiated.
    imperfection : callable, optional
        What the computed function has beyond its expression.
    analytic : bool
        Whether imaginary parts come through, so that a complex step is right.
    vectorized : bool
        Whether the computed function takes arrays elementwise; else one number a call.
    """

    name: str
    expression: Expression
    points: Sampler
    imperfection: Imperfection | None = None
    analytic: bool = True
    vectorized: bool = True


@dataclass(frozen=True)
class FunctionClass:
    """Rows of one class: constants may be tuned on the first half, figures are reported on the second.

    A row never changes its half: that is why they are two tables.
    """

    name: str
    tuning: tuple[Row, ...]
    held_out: tuple[Row, ...]
