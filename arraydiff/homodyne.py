"""The names of ``homodyne.core.numpy_gradients`` (and of xpcsjax, which imports that module but does not ship it).

Code written for it runs after a change of one line::

    from arraydiff.homodyne import DifferentiationConfig, numpy_gradient, numpy_hessian

These names take lists and integers as arrays, and raise `NumericalStabilityError` where f(x) is not finite, as their
callers expect; the names of JAX in :mod:`arraydiff` do neither.
"""

from __future__ import annotations

import cmath
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from arraydiff import second, transforms
from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Argnums, flatten
from arraydiff.backends import backend_of, is_array
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.errors import NumericalStabilityError
from arraydiff.problem import Measured
from arraydiff.result import GradientResult
from arraydiff.validation import MethodReport, compare_methods

__all__ = [
    "DifferentiationConfig",
    "DifferentiationMethod",
    "GradientResult",
    "NumericalStabilityError",
    "numpy_gradient",
    "numpy_hessian",
    "validate_gradient_accuracy",
]


class _Number:
    """A function as homodyne has it: one finite number, maybe in an array, and numerical exceptions by one name."""

    def __init__(self, fun: Callable[..., Any], *, vectorized: bool) -> None:
        functools.update_wrapper(self, fun)  # first: it copies the attributes of fun
        self.fun, self.vectorized = fun, vectorized

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = getattr(self.fun, "__name__", type(self.fun).__name__)
        try:
            value = self.fun(*args, **kwargs)
        except NumericalStabilityError:
            raise
        except (ValueError, ArithmeticError) as error:
            told = f"{name} raised {type(error).__name__} ({error})"
            raise NumericalStabilityError(f"{told}; numerical differentiation needs a value there") from error
        if not _is_single(value):
            return value
        if getattr(value, "shape", ()):
            number = backend_of([value]).xp.reshape(value, ())
            value = value if self.vectorized else number
        else:
            number = value
        if not cmath.isfinite(number):
            raise NumericalStabilityError(f"{name} is not finite; numerical differentiation needs a value there")
        return value


def _is_single(value: Any) -> bool:
    if is_array(value):
        return all(length == 1 for length in value.shape)
    return isinstance(value, int | float | complex)


class NumpyDerivative:
    """What `numpy_gradient` and `numpy_hessian` return: a derivative of arraydiff that makes its arguments arrays."""

    def __init__(self, inner: Any, func: Callable[..., Any], argnums: Any, as_list: Callable[[Any], Any]) -> None:
        functools.update_wrapper(self, func, updated=())
        self.__doc__ = inner.__doc__
        self.inner, self.func, self.argnums = inner, func, Argnums.of(argnums)
        self.finish = as_list if isinstance(argnums, list) else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The derivative as arrays."""
        args, kwargs = self._cast(args, kwargs)
        derivative = self.inner(*args, **kwargs)
        return derivative if self.finish is None else self.finish(derivative)

    def result(self, *args: Any, **kwargs: Any) -> Any:
        """The derivative with error bars, flags, costs and reasons."""
        args, kwargs = self._cast(args, kwargs)
        return self.inner.result(*args, **kwargs)

    def measure(self, *args: Any, **kwargs: Any) -> tuple[PyTree, PyTree, int, int]:
        """What an outer derivative needs of this one."""
        args, kwargs = self._cast(args, kwargs)
        measured: tuple[PyTree, PyTree, int, int] = self.inner.measure(*args, **kwargs)
        return measured

    def _cast(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        cast, named = list(args), dict(kwargs)
        for place in self.argnums.places(self.func, args, kwargs):
            if isinstance(place, str):
                named[place] = _as_array(named[place], f"argument {place!r}")
            else:
                cast[place] = _as_array(cast[place], f"argument {place}")
        return tuple(cast), named


def numpy_gradient(
    func: Callable[..., Any], argnums: Any = 0, config: DifferentiationConfig | None = None
) -> NumpyDerivative:
    """Gradient of a scalar function, as homodyne calls it.

    Parameters
    ----------
    func : callable
        Returns one number, or an array that holds one.
    argnums : int, list or tuple of ints, default 0
        Which arguments to differentiate.  A list gives a list of gradients, and a bare array where it names one
        argument, as in homodyne; a tuple gives a tuple, as in JAX.
    config : DifferentiationConfig, optional
        All options; homodyne's own fields are among them.  The adaptive method finds its steps by itself, whatever
        `relative_step` says.

    Returns
    -------
    callable
        ``g(x)`` gives the gradient, ``g.result(x)`` a :class:`GradientResult`.  Numbers, lists and integers are taken
        as float arrays.

    Raises
    ------
    NumericalStabilityError
        On a call: f(x) is not finite, or `func` raises ValueError or ArithmeticError at x.
    TypeError
        On a call: more than one number comes out, or an argument is no array.

    Examples
    --------
    >>> import numpy as np
    >>> from arraydiff.homodyne import numpy_gradient
    >>> numpy_gradient(lambda x: np.sum(x**2))([1, 2])
    array([2., 4.])
    """
    config = _first_guess_dropped(config)
    inner = transforms.grad(_number(func, config), argnums=argnums, config=config)
    return NumpyDerivative(inner, func, argnums, _list_of)


def numpy_hessian(
    func: Callable[..., Any], argnums: Any = 0, config: DifferentiationConfig | None = None
) -> NumpyDerivative:
    """Hessian of a scalar function, as homodyne calls it.

    Parameters
    ----------
    func, config
        As in :func:`numpy_gradient`.
    argnums : int, list or tuple of ints, default 0
        A list gives one matrix over all entries of these arguments, as in homodyne; an int gives the shape of the
        argument twice, and a tuple blocks, as in JAX.

    Returns
    -------
    callable
        ``h(x)`` gives the Hessian, ``h.result(x)`` a :class:`HessianResult`.

    Raises
    ------
    NumericalStabilityError, TypeError
        As in :func:`numpy_gradient`.

    Examples
    --------
    >>> import numpy as np
    >>> from arraydiff.homodyne import numpy_hessian
    >>> hessian = numpy_hessian(lambda x: x[0] ** 2 + 3 * x[0] * x[1])([1, 2])
    >>> np.allclose(hessian, [[2, 3], [3, 0]])
    True
    """
    config = _first_guess_dropped(config)
    inner = second.hessian(_number(func, config), argnums=argnums, config=config)
    return NumpyDerivative(inner, func, argnums, _one_matrix)


def _number(func: Any, config: DifferentiationConfig | None) -> Any:
    if not callable(func) or isinstance(func, Measured):  # a derivative of ours tells its error bars itself
        return func
    return _Number(func, vectorized=config is not None and config.vectorized is True)


def _first_guess_dropped(config: DifferentiationConfig | None) -> DifferentiationConfig | None:
    """In homodyne `relative_step` is where the adaptive method starts its search for steps, not the step it takes."""
    if not isinstance(config, DifferentiationConfig) or config.method is not DifferentiationMethod.ADAPTIVE:
        return config
    return replace(config, relative_step=None)


def _as_array(value: Any, which: str) -> Any:
    """Numbers, lists and integers as float arrays; other structures of arrays as they are."""
    if is_array(value) and not isinstance(value, np.generic):
        backend = backend_of([value])
        if backend.xp.isdtype(value.dtype, ("integral", "bool")):
            return backend.xp.astype(value, backend.default_float)
        return value
    if isinstance(value, dict) or hasattr(value, "_fields"):
        return value
    try:
        return np.asarray(value, dtype=None if np.iscomplexobj(value) else float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{which} must be a number, or a list or array of numbers of one shape: {error}") from None


def _list_of(gradients: tuple[Array, ...]) -> Any:
    return list(gradients) if len(gradients) > 1 else gradients[0]


def _one_matrix(blocks: PyTree) -> Array:
    """Blocks of shape arg_i + arg_j as one matrix."""
    xp = backend_of(flatten(blocks)[0]).xp
    sizes = [round(float(np.prod(row[i].shape)) ** 0.5) for i, row in enumerate(blocks)]
    rows = [
        xp.concat([xp.reshape(block, (n, m)) for block, m in zip(row, sizes, strict=True)], axis=1)
        for row, n in zip(blocks, sizes, strict=True)
    ]
    return xp.concat(rows, axis=0)


def validate_gradient_accuracy(
    func: Callable[..., Any], x: Any, analytical_grad: Any = None, tolerance: float = 1e-6
) -> dict[str, dict[str, Any]]:
    """Differentiate with every method, and hold each against the right answer.

    Parameters
    ----------
    func : callable
        Takes x and returns one number.
    x : array, list or number
        Where.
    analytical_grad : array or list, optional
        The right gradient at x.
    tolerance : float, default 1e-6
        What ``error`` is held against.

    Returns
    -------
    dict of str to dict
        For each method, by name: ``gradient``, ``error_estimate``, ``method``, ``success``, ``evaluations`` (points)
        and ``time`` (s); with `analytical_grad` also ``error`` (largest ``|difference| / max(1, |right|)``),
        ``within_tolerance`` (also as ``accuracy_ok``), ``absolute_error``, ``relative_error`` and ``max_error``.
        Where a method raised, ``success`` is False and ``error`` the message.

    Raises
    ------
    NumericalStabilityError
        f(x) is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from arraydiff.homodyne import validate_gradient_accuracy
    >>> table = validate_gradient_accuracy(lambda x: np.sum(x**3), [1.0, 2.0], [3.0, 12.0])
    >>> table["central"]["within_tolerance"], table["complex_step"]["error"] < 1e-14
    (True, True)
    """
    at = _as_array(x, "x")
    exact = analytical_grad if analytical_grad is None else _as_array(analytical_grad, "analytical_grad")
    reports = compare_methods(_number(func, None), at, exact=exact, tolerance=tolerance)
    return {name: _row(report, exact) for name, report in reports.items()}


def _row(report: MethodReport, exact: Any) -> dict[str, Any]:
    row = {"method": report.method, "evaluations": report.evaluations, "time": report.time}
    if report.result is None:
        return {
            **row,
            "success": False,
            "error": str(report.exception),
            "within_tolerance": False,
            "accuracy_ok": False,
        }
    gradient = report.result.derivative
    row |= {"success": True, "gradient": gradient, "error_estimate": report.result.error_estimate}
    if exact is None:
        return row
    right = backend_of([gradient]).asarray(exact)
    off = abs(gradient - right)
    return {
        **row,
        "error": report.error,
        "within_tolerance": report.within_tolerance,
        "accuracy_ok": report.within_tolerance,
        "absolute_error": off,
        "relative_error": off / (abs(right) + np.finfo(float).eps),
        "max_error": float(backend_of([off]).xp.max(off)),
    }
