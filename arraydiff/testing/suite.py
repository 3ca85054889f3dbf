"""The suite: cases made from the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np

from arraydiff._typing import Array
from arraydiff.testing.limited import EDGE, KINK
from arraydiff.testing.namespaces import Expression, exact_derivative, in_floats
from arraydiff.testing.noisy import NOISY
from arraydiff.testing.scaled import OFFSET, SCALE, SINGULAR
from arraydiff.testing.smooth import OSCILLATORY, SMOOTH, ZERO
from arraydiff.testing.table import Row

TABLES = {table.name: table for table in (SMOOTH, ZERO, SCALE, OFFSET, SINGULAR, OSCILLATORY, NOISY, EDGE, KINK)}
CLASSES = tuple(TABLES)
"""Names of the classes of functions."""

HALVES = ("tuning", "held-out")


@dataclass(frozen=True)
class Case:
    """A function of one variable, points to differentiate it at, and its true derivative.

    Attributes
    ----------
    name : str
        Unique in the suite.
    class_name : str
        One of `CLASSES`.
    half : str
        "tuning" or "held-out".
    function : callable
        NumPy code without warnings.  Where it draws noise, every call draws anew.
    points : array, shape (k,), float64
        Where to differentiate it.
    analytic : bool
        Whether imaginary parts come through, so that a complex step is right.
    vectorized : bool
        Whether `function` takes arrays elementwise; else one number a call.

    Examples
    --------
    >>> from arraydiff.testing import cases
    >>> case = cases("held-out", classes="noisy")[0]
    >>> case.name, case.analytic
    ('2 + tanh, noise 1e-12', False)
    >>> print(f"{case.function(0.0):.6f}")
    2.000000
    """

    name: str
    class_name: str
    half: str
    function: Callable[[Any], Any] = field(repr=False)
    points: Array = field(repr=False)
    analytic: bool
    vectorized: bool
    _expression: Expression = field(repr=False)

    def derivative(self, x: Any) -> Array:
        """The true derivative at x, elementwise, rounded to float64 from some 50 digits.  Needs mpmath."""
        values = [float(exact_derivative(self._expression, point)) for point in np.ravel(x)]
        return np.asarray(values, dtype=np.float64).reshape(np.shape(x))


def cases(
    half: str | None = None, *, seed: int = 0, points: int = 8, classes: str | Iterable[str] | None = None
) -> list[Case]:
    """The suite or a part of it: some 150 functions of one variable in nine classes, with true derivatives.

    Every class is split in two halves for good: tune constants on the one, report figures on the other.

    Parameters
    ----------
    half : {"tuning", "held-out"}, optional
        None: both.
    seed : int
        Draws points and noise; a case has the same ones whatever else is selected.
    points : int
        How many points a case is given; those that are about one point, such as x = 0, have it once.
    classes : str or iterable of str, optional
        Names out of `CLASSES`; None: all.

    Returns
    -------
    list of Case
        In the order of the tables.

    Raises
    ------
    ValueError
        A half or a class that does not exist.

    Examples
    --------
    >>> import arraydiff
    >>> import numpy as np
    >>> from arraydiff.testing import cases
    >>> case = cases("tuning", classes="smooth")[1]
    >>> x = case.points
    >>> case.name, bool(abs(arraydiff.derivative(case.function)(x) - np.exp(x)).max() < 1e-14)
    ('exp', True)
    """
    wanted = (classes,) if isinstance(classes, str) else CLASSES if classes is None else tuple(classes)
    if unknown := [name for name in wanted if name not in TABLES]:
        raise ValueError(f"classes wants names out of {', '.join(CLASSES)}, got {unknown[0]!r}")
    if half is not None and half not in HALVES:
        raise ValueError(f"half wants 'tuning', 'held-out' or None for both, got {half!r}")
    return [
        _case(row, name, part, seed, points)
        for name in wanted
        for part, rows in zip(HALVES, (TABLES[name].tuning, TABLES[name].held_out), strict=True)
        if half in (None, part)
        for row in rows
    ]


def _case(row: Row, class_name: str, half: str, seed: int, points: int) -> Case:
    for_points, for_noise = np.random.default_rng([seed, crc32(row.name.encode())]).spawn(2)
    function = in_floats(row.expression)
    if row.imperfection is not None:
        function = row.imperfection(function, for_noise)
    drawn = np.asarray(row.points(for_points, points), dtype=np.float64)
    return Case(row.name, class_name, half, function, drawn, row.analytic, row.vectorized, row.expression)
