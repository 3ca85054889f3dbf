"""What arraydiff raises and warns with, beyond Python's own exceptions."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["DifferentiationWarning", "NumericalStabilityError", "SparsityError"]


class DifferentiationWarning(UserWarning):
    """Some entries of a derivative cannot be vouched for; ``g.result(x).explain()`` says which and why.

    Examples
    --------
    >>> import warnings
    >>> warnings.simplefilter("error", DifferentiationWarning)  # doctest: +SKIP
    """


class NumericalStabilityError(ArithmeticError):
    """A derivative cannot be vouched for, and the caller asked for an exception (``unreliable="raise"``).

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> try:
    ...     arraydiff.grad(lambda x: abs(x), unreliable="raise")(0.0)
    ... except arraydiff.NumericalStabilityError as error:
    ...     print("KINK" in str(error))
    True
    """


class SparsityError(ValueError):
    """The function depends on entries that the sparsity pattern leaves out.

    Attributes
    ----------
    rows : tuple of int
        Outputs whose rows are incomplete; for a Hessian from values alone, none can be told.
    gap : float
        How far the derivative along a random direction is off at worst, absolute.

    Examples
    --------
    >>> from arraydiff.errors import SparsityError
    >>> SparsityError("rows 0 and 7 are incomplete", rows=(0, 7), gap=1e-3).rows
    (0, 7)
    """

    def __init__(self, message: str, rows: Iterable[int] = (), gap: float = math.nan) -> None:
        super().__init__(message)
        self.rows, self.gap = tuple(rows), gap


def released(error: Exception) -> None:
    """Of an exception that is kept while something else goes on: what f had made when it was raised is held no longer."""
    cause: BaseException | None = error
    seen = set[int]()  # they may go round: f may raise again what it caught
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__


class BudgetSpent(Exception):
    """max_evaluations is reached: points were left out."""


class OnePointTooLarge(MemoryError):
    """One evaluation of f takes more memory than there is: no smaller chunk would help."""


class WorkerDied(RuntimeError):
    """A worker process ended over one point of f, twice: it stands as the exception of that point."""
