"""Every tool behind one call that says how sure it is: ``tool(fun, x, ask) -> Answer``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.peers import Counted, importable

Function = Callable[[Any], Any]


class NotOffered(Exception):
    """The tool has no argument for what is asked."""


@dataclass(frozen=True)
class Ask:
    """A gradient, Jacobian or Hessian, perhaps within bounds, perhaps by the complex step."""

    what: str = "gradient"
    bounds: tuple[Any, Any] | None = None
    complex_step: bool = False


@dataclass(frozen=True)
class Answer:
    """Values, error bars (None: the tool gives none), entries that the tool flags, and what it took."""

    value: np.ndarray
    bar: np.ndarray | None = None
    flagged: Any = False
    points: int = 0


Tool = Callable[[Function, np.ndarray, Ask], Answer]


def real(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=float)


def without(ask: Ask, tool: str, *, hessian: bool = False, bounds: bool = False, complex_step: bool = False) -> None:
    """Raises where the tool lacks what is asked."""
    lacks = (ask.what == "hessian", hessian), (ask.bounds is not None, bounds), (ask.complex_step, complex_step)
    if any(wanted and not offered for wanted, offered in lacks):
        raise NotOffered(tool)


def arraydiff(fun: Function, x: np.ndarray, ask: Ask) -> Answer:
    import arraydiff as ad

    transform = {"gradient": ad.grad, "jacobian": ad.jacobian, "hessian": ad.hessian}[ask.what]
    options: dict[str, Any] = {} if ask.bounds is None else {"bounds": ask.bounds}
    if ask.complex_step:
        options["method"] = "complex_step"
    result = transform(fun, **options).result(x)
    bare = transform(fun, unreliable="nan", **options)(x)
    return Answer(real(result.derivative), real(result.error_estimate), np.isnan(bare), result.function_points)


def approx_derivative(fun: Function, x: np.ndarray, ask: Ask) -> Answer:
    from scipy.optimize._numdiff import approx_derivative

    without(ask, "approx_derivative", bounds=True, complex_step=True)
    counted = Counted(fun)
    bounds = (-np.inf, np.inf) if ask.bounds is None else ask.bounds
    method = "cs" if ask.complex_step else "3-point"
    value = approx_derivative(counted, np.atleast_1d(x), method=method, bounds=bounds)
    return Answer(real(value), points=counted.points)


def numdifftools(fun: Function, x: np.ndarray, ask: Ask) -> Answer:
    import numdifftools as nd

    without(ask, "numdifftools", hessian=True, complex_step=True)
    kind = {"gradient": nd.Gradient, "jacobian": nd.Jacobian, "hessian": nd.Hessian}[ask.what]
    counted = Counted(fun)
    method = "complex" if ask.complex_step else "central"
    value, second = kind(counted, method=method, full_output=True)(np.atleast_1d(x))[:2]
    return Answer(real(value), real(getattr(second, "error_estimate", second)), points=counted.points)


def jacobi(fun: Function, x: np.ndarray, ask: Ask) -> Answer:
    from jacobi import jacobi

    without(ask, "jacobi")
    counted = Counted(fun)
    value, bar = jacobi(counted, np.atleast_1d(x))
    return Answer(real(value), real(bar), points=counted.points)


def scipy_differentiate(fun: Function, x: np.ndarray, ask: Ask) -> Answer:
    from scipy.differentiate import hessian, jacobian

    without(ask, "scipy.differentiate", hessian=True)
    points = 0

    def columns(batch: np.ndarray) -> np.ndarray:  # SciPy hands over (n, ...) and wants (m, ...)
        nonlocal points
        flat = batch.reshape(batch.shape[0], -1)
        points += flat.shape[1]
        values = np.asarray([np.array(fun(column)) for column in flat.T.copy()])
        return np.moveaxis(
            values.reshape(*batch.shape[1:], *values.shape[1:]), range(batch.ndim - 1), range(1 - batch.ndim, 0)
        )

    if ask.what == "hessian":
        result = hessian(columns, np.atleast_1d(x))
        value, bar = result.ddf, result.error
    else:
        result = jacobian(columns, np.atleast_1d(x))
        value, bar = result.df, result.error
    return Answer(real(value), real(bar), ~np.asarray(result.success), points)


TOOLS: dict[str, Tool] = {
    "arraydiff": arraydiff,
    "approx_derivative": approx_derivative,
    "numdifftools": numdifftools,
    "jacobi": jacobi,
    "scipy.differentiate": scipy_differentiate,
}
MODULES = {"approx_derivative": "scipy.optimize"}


def present() -> dict[str, Tool]:
    """The tools that can be imported here; the others are named on standard output."""
    return importable({name: (MODULES.get(name, name), tool) for name, tool in TOOLS.items()})
