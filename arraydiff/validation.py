"""How right every method is: one beside the other, and beside the exact answer."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optree

from arraydiff._typing import PyTree
from arraydiff.arguments import flatten
from arraydiff.config import DifferentiationMethod
from arraydiff.tables import Table, copied
from arraydiff.transforms import grad, jacobian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from arraydiff.result import DerivativeResult

__all__ = ["MethodReport", "compare_methods"]


@dataclass(frozen=True)
class MethodReport:
    """What one method made of a derivative.

    Attributes
    ----------
    method : DifferentiationMethod
        The method asked for; ``result.method_used`` says which one answered.
    result : GradientResult or JacobianResult or None
        The derivative with its error bars; None where the method raised.
    error : float or None
        Largest ``|derivative - exact| / max(1, |exact|)`` over the entries; None where no exact answer was given.
    within_tolerance : bool or None
        Whether `error` is at most the tolerance.
    evaluations : int
        Points at which f was evaluated.
    time : float
        Seconds.
    exception : Exception or None
        What the method raised.
    """

    method: DifferentiationMethod
    result: DerivativeResult | None
    error: float | None
    within_tolerance: bool | None
    evaluations: int
    time: float
    exception: Exception | None = None


def compare_methods(
    fun: Callable[[Any], Any],
    x: PyTree,
    *,
    exact: PyTree = None,
    tolerance: float = 1e-6,
    methods: Iterable[DifferentiationMethod | str] | None = None,
    **options: Any,
) -> dict[str, MethodReport]:
    """Differentiate with every method, one beside the other.

    Parameters
    ----------
    fun : callable
        Takes x; gives a number, for its gradient, or arrays, for their Jacobian.
    x : array, float or a structure of them
        Where.
    exact : array, structure or callable, optional
        The derivative as it should be, or the function that gives it at x.
    tolerance : float, default 1e-6
        What `error` of a report is held against.
    methods : iterable, optional
        Which methods; None for all of them.
    **options
        Fields of :class:`DifferentiationConfig`, the same for every method.

    Returns
    -------
    dict of str to MethodReport
        In the order of `methods`, by name.  A method that raises is reported, and the others go on.

    Examples
    --------
    >>> import numpy as np
    >>> from arraydiff.validation import compare_methods
    >>> reports = compare_methods(lambda x: np.sum(x**3), np.array([1.0, 2.0]), exact=np.array([3.0, 12.0]))
    >>> reports["central"].within_tolerance, reports["complex_step"].error < 1e-14
    (True, True)
    """
    wanted = [m for m in DifferentiationMethod if m is not DifferentiationMethod.EXACT] if methods is None else methods
    if "method" in options:
        raise TypeError("compare_methods() takes methods=, several of them, in place of method=")
    right = exact(copied(x)) if callable(exact) else exact
    transform = _transform_for(fun, x)
    return {
        str(method): _report(transform, fun, x, right, tolerance, method, options)
        for method in map(DifferentiationMethod, wanted)
    }


def _report(
    transform: Callable[..., Any],
    fun: Callable[[Any], Any],
    x: PyTree,
    exact: PyTree,
    tolerance: float,
    method: DifferentiationMethod,
    options: dict[str, Any],
) -> MethodReport:
    start = time.perf_counter()
    try:
        result = transform(fun, method=method, **options).result(x)
    except Exception as error:  # noqa: BLE001  # one method's failure is part of the comparison
        return MethodReport(method, None, None, False, 0, time.perf_counter() - start, error)
    points, spent = result.function_points, result.computation_time
    if exact is None:
        return MethodReport(method, result, None, None, points, spent)
    off = _largest_error(Table.of(x, result.value), result.derivative, exact)
    return MethodReport(method, result, off, off <= tolerance, points, spent)


def _largest_error(table: Table, derivative: PyTree, exact: PyTree) -> float:
    right, xp = table.matrix(exact, "exact"), table.backend.xp
    size = abs(right)
    off = abs(table.matrix(derivative, "derivative") - right) / xp.where(size > 1, size, xp.ones_like(size))
    return float(xp.max(off)) if math.prod(off.shape) else 0.0


def _transform_for(fun: Callable[[Any], Any], x: PyTree) -> Callable[..., Any]:
    """`grad` where f gives a number; one more call of f tells."""
    value = fun(copied(x))
    leaves, structure = flatten(value)
    several = (structure is not None and not optree.treespec_is_leaf(structure)) or getattr(leaves[0], "ndim", 0) > 0
    return jacobian if several else grad
