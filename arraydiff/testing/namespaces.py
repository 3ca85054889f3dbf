"""The two namespaces in which an expression is evaluated: NumPy's, and mpmath's for the truth.

An expression is a function of a namespace `m` and a number x, such as ``lambda m, x: m.sin(5 * x)``.  One text gives
the function under test and its true derivative, so the two cannot differ by a slip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from arraydiff._typing import Array

Expression = Callable[[Any, Any], Any]

DIGITS = 100
"""Decimal digits of the truth while it is computed; about 60 of them are left in the derivative."""

STEP = -30
"""Power of ten of the step of the true derivative, relative to x: its error is that to the power 4, near 1e-120."""

SCIPY_NAMES = {"besselj": "jv", "loggamma": "gammaln"}
"""Special functions that SciPy has by another name than mpmath."""


class _Floats:
    """NumPy's functions, and SciPy's special functions by mpmath's names."""

    def __getattr__(self, name: str) -> Any:
        if hasattr(np, name):
            return getattr(np, name)
        from scipy import special

        return getattr(special, SCIPY_NAMES.get(name, name))


class _Digits:
    """mpmath's functions, and those that are Python's there."""

    where = staticmethod(lambda condition, yes, no: yes if condition else no)
    maximum, minimum = staticmethod(max), staticmethod(min)

    def __getattr__(self, name: str) -> Any:
        return getattr(_mpmath(), name)


FLOATS, EXACT = _Floats(), _Digits()


def _mpmath() -> Any:
    try:
        import mpmath
    except ImportError as missing:
        raise ImportError("true derivatives need mpmath: run pip install mpmath") from missing
    return mpmath


def exact_derivative(expression: Expression, x: float, step: int = STEP) -> Any:
    """The derivative at the double x as an mpmath number right to 50 digits: two central differences, extrapolated."""
    mp = _mpmath()
    with mp.workdps(DIGITS):
        point = mp.mpf(float(x))
        h = mp.mpf(10) ** step * (abs(point) or 1)
        wide, narrow = ((expression(EXACT, point + k) - expression(EXACT, point - k)) / (2 * k) for k in (h, h / 2))
        return mp.re(4 * narrow - wide) / 3


def in_floats(expression: Expression) -> Callable[[Any], Any]:
    """The expression as a NumPy function that warns of nothing: outside its domain it is NaN."""

    def function(x: Any) -> Array:
        with np.errstate(all="ignore"):
            return expression(FLOATS, np.asarray(x))

    return function
