"""What arraydiff raises and warns with, beyond Python's own exceptions."""

from __future__ import annotations

__all__ = ["DifferentiationWarning", "NumericalStabilityError"]


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


class BudgetSpent(Exception):
    """max_evaluations is reached: points were left out."""


class OnePointTooLarge(MemoryError):
    """One evaluation of f takes more memory than there is: no smaller chunk would help."""


class WorkerDied(RuntimeError):
    """A worker process ended over one point of f, twice: it stands as the exception of that point."""
