"""Which function of NumPy is which operation of the tracer; by identity, since np.frompyfunc calls its results as it likes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Table = dict[Any, Callable[..., Any]]

OTHER_NAMES = {
    "absolute": "abs",
    "fabs": "abs",
    "power": "pow",
    "mod": "remainder",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arctan2": "atan2",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "conjugate": "conj",
    "true_divide": "divide",
    "concatenate": "concat",
    "transpose": "permute_dims",
    "amax": "max",
    "amin": "min",
    "row_stack": "vstack",
    "trapz": "trapezoid",
}
"""NumPy's names where they are not those of the array API."""

REDUCTIONS = {
    (np.add, "reduce"): "sum",
    (np.multiply, "reduce"): "prod",
    (np.maximum, "reduce"): "max",
    (np.minimum, "reduce"): "min",
    (np.logaddexp, "reduce"): "logsumexp",
    (np.add, "accumulate"): "cumsum",
    (np.multiply, "accumulate"): "cumprod",
    (np.add, "at"): "add_at",
    (np.subtract, "at"): "subtract_at",
}


def by_name(operations: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Operations by all names that NumPy has for them."""
    named = {name: one for name, one in operations.items() if name != "array" and not name.startswith("_")}
    return named | {other: named[name] for other, name in OTHER_NAMES.items() if name in named}


def tables(
    operations: Mapping[str, Callable[..., Any]],
    linalg: Mapping[str, Callable[..., Any]],
    fft: Mapping[str, Callable[..., Any]],
) -> tuple[Table, Table]:
    """Ufuncs, and the other functions, with the operations that they are."""
    ufuncs: Table = {}
    functions: Table = {}
    for space, known in ((np, operations), (np.linalg, linalg), (np.fft, fft)):
        for name, operation in by_name(known).items():
            function = getattr(space, name, None)
            if function is not None and not isinstance(function, type):
                (ufuncs if isinstance(function, np.ufunc) else functions).setdefault(function, operation)
    return ufuncs, functions


def first_by_place(function: Callable[..., Any], options: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The first argument by its place, where a call names all: NumPy's name for it is not that of the operation."""
    first = next(iter(inspect.signature(function).parameters))
    return (options[first],), {name: value for name, value in options.items() if name != first}


def is_ufunc(function: object) -> bool:
    """Whether NumPy hands its traced arguments on as those of a ufunc."""
    return isinstance(function, np.ufunc)


def is_elementwise(function: object) -> bool:
    """Whether an entry of its one result depends on the entries at the same place alone."""
    return isinstance(function, np.ufunc) and function.signature is None and function.nout == 1
