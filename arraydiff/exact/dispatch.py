"""How f reaches the rules: NumPy's protocols, the namespace of the array API, CuPy's hook; functions are known by identity."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from arraydiff._typing import Namespace
from arraydiff.backends import cupy_rules, numpy_rules, raw
from arraydiff.exact import face
from arraydiff.exact.primitives import Elementwise, Primitive, Rule, Smooth
from arraydiff.exact.products import linalg
from arraydiff.exact.reductions import array, first_traced
from arraydiff.exact.trace import Refused, Tracer, has_tracer, ops, plain, record, refuse
from arraydiff.exact.transforms import fft
from arraydiff.exact.writing import assign
from arraydiff.levels import running

UFUNCS, FUNCTIONS = numpy_rules.tables(vars(ops), vars(linalg), vars(fft))
REDUCTIONS = {key: getattr(ops, name) for key, name in numpy_rules.REDUCTIONS.items()}


@face.method
def __array_ufunc__(self: Any, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
    rule = UFUNCS.get(ufunc) or _of_scipy(ufunc)
    try:
        if rule is not None and method == "__call__":
            return rule(*inputs) if not options else _into(options, rule, inputs)
        if rule is not None and method == "outer" and not options:
            first, second = map(array, inputs)
            return rule(ops.reshape(first, (*first.shape, *(1,) * second.ndim)), second)
        reduction = REDUCTIONS.get((ufunc, method))
        if reduction is None:
            refuse(
                f"the ufunc {ufunc.__name__}{'' if method == '__call__' else '.' + method}, which has no rule", *inputs
            )
        return reduction(*inputs, **({} if method == "at" else {"axis": 0} | options))
    except Refused as refused:
        record(refused, self, *inputs)
        raise


def _of_scipy(ufunc: Any) -> Callable[..., Any] | None:
    """A rule that is loaded with the first ufunc of SciPy that f calls."""
    if "scipy.special" in sys.modules and OF_SCIPY not in sys.modules:
        importlib.import_module(OF_SCIPY)
    return UFUNCS.get(ufunc)


OF_SCIPY = "arraydiff.exact.rules_for_scipy"


def _into(options: dict[str, Any], rule: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    """A ufunc with out=, where that is traced; with another option it is refused."""
    given = {name: value for name, value in options.items() if value is not None}
    out = given.pop("out", ())
    if given and not (set(given) <= {"axis", "axes", "keepdims"} and not isinstance(rule, Primitive)):
        refuse(f"a ufunc with {', '.join(given)}=", *inputs)
    if out and (len(out) > 1 or type(out[0]) is not Tracer):
        refuse(
            "out=, or an operation in place, into an array that does not depend on x (make it by np.zeros_like(x))",
            *inputs,
        )
    made = rule(*inputs, **given)
    return assign(out[0], made) if out else made


@face.method
def __array_function__(self: Any, function: Any, types: Any, args: Any, options: Any) -> Any:
    rule = FUNCTIONS.get(function)
    try:
        if rule is None:
            refuse(f"{function.__module__}.{function.__name__} has no rule", self)
        if not args:
            args, options = numpy_rules.first_by_place(function, options)
        return rule(*args, **options)
    except Refused as refused:
        record(refused, self)
        raise


@face.method
def __cupy_override_elementwise_kernel__(self: Any, kernel: Any, *args: Any, **options: Any) -> Any:
    """CuPy asks this of every argument of a ufunc or an elementwise kernel before it reads memory."""
    name = cupy_rules.operation_of(kernel)
    rule = UFUNCS_BY_NAME.get(name or "")
    if rule is None or options:
        refuse(
            f"the CuPy kernel {getattr(kernel, 'name', kernel)!s} has no rule, or none with these options", self, *args
        )
    return rule(*args)


@face.method
def __cupy_override_reduction_kernel__(
    self: Any, kernel: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *_rest: Any
) -> Any:
    name = cupy_rules.operation_of(kernel)
    rule = UFUNCS_BY_NAME.get(name or "")
    if rule is None or dtype is not None or out is not None:
        refuse(f"the CuPy reduction {getattr(kernel, 'name', kernel)!s} has no rule, or none with these options", self)
    return rule(self, axis=axis, keepdims=keepdims)


UFUNCS_BY_NAME = numpy_rules.by_name(vars(ops))


class TracedNamespace:
    """The array API, with rules: what `array_namespace` gives of a traced array.

    It is equal to the namespace that it stands for, so that traced and plain arguments of f agree on one.
    """

    def __init__(self, xp: Namespace, home: SimpleNamespace = ops) -> None:
        self._xp, self._home = xp, home
        self.__name__ = getattr(xp, "__name__", "traced")

    def __eq__(self, other: object) -> bool:
        return other is self._xp or (isinstance(other, TracedNamespace) and other._xp is self._xp)

    def __hash__(self) -> int:
        return hash(self._xp)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__array_namespace_info__":
            raise AttributeError(name)
        found = self._found(name)
        setattr(self, name, found)
        return found

    def _found(self, name: str) -> Any:
        if self._home is ops and name in ("linalg", "fft"):
            return TracedNamespace(getattr(self._xp, name), {"linalg": linalg, "fft": fft}[name])
        if name == "asarray":
            return self._asarray
        rule, real = getattr(self._home, name, None), getattr(self._xp, name, None)
        if rule is None and real is None:
            raise AttributeError(f"{self.__name__} has no attribute {name!r}")
        if name in ("zeros", "ones", "full"):
            return lambda *args, **options: _created(real, args, options)
        if isinstance(real, type) or (not callable(real) and rule is None):
            return real
        return lambda *args, **options: _called(name, rule, real, args, options)

    def _asarray(self, value: Any, /, *, dtype: Any = None, device: Any = None, copy: Any = None) -> Any:
        if not has_tracer(value):
            return self._xp.asarray(value, dtype=dtype, device=device, copy=copy)
        if type(value) is not Tracer:
            where = first_traced(value).device if device is None else device
            value = ops.stack([self._asarray(one, device=where) for one in value])
        if dtype is not None and dtype != value.dtype:
            return ops.astype(value, dtype)
        return ops.positive(value) if copy else value


def _called(name: str, rule: Any, real: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    traced = [one for one in (*args, *options.values()) if has_tracer(one)]
    if not traced:
        if real is None:
            raise AttributeError(f"the array library has no function {name!r}")
        return real(*args, **options)
    try:
        if rule is None:
            refuse(f"the function {name} has no rule", *traced)
        return rule(*args, **options)
    except Refused as refused:
        record(refused, *traced)
        raise


def _created(real: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """An array that f may fill with traced values."""
    if has_tracer(args) or has_tracer(tuple(options.values())):
        shape, filling = args if len(args) > 1 else (args[0], options["fill_value"])
        return ops.broadcast_to(filling, shape)
    made, traces = real(*args, **options), running()
    return ops.constant(Tracer(traces[-1], made, None, None), made) if traces else made


_NAMESPACES: dict[Any, TracedNamespace] = {}


@face.method
def __array_namespace__(self: Any, api_version: Any = None) -> TracedNamespace:
    xp = raw.namespace_of(plain(self))
    return _NAMESPACES.setdefault(xp, TracedNamespace(xp))


# ---- rules of others


class _Given(Primitive):
    """A rule that was added; an argument whose rule is None has no derivative."""

    __slots__ = ()

    def recorded(self, top: Any, args: Any, options: Any) -> Any:
        for k, one in enumerate(args):
            if type(one) is Tracer and (k >= len(self.rules) or self.rules[k] is None):
                refuse(f"the derivative of {self.name} in argument {k}, which has no rule", *args)
        return super().recorded(top, args, options)


class GivenSmooth(_Given, Smooth):
    """Transposed by tracing it."""

    __slots__ = ()


class GivenElementwise(_Given, Elementwise):
    """Of a ufunc: a diagonal map is its own transpose."""

    __slots__ = ()


def rule(function: Callable[..., Any], *jvps: Rule | None) -> Callable[..., Any]:
    """Teach tracing the derivative of a function.

    Parameters
    ----------
    function : callable
        Of plain arrays. A ufunc, and a function that NumPy dispatches, are followed from now on wherever f calls them; of any
        other, f must call what is returned.
    *jvps : callable or None
        One for each argument: ``jvp(t, y, *args)`` gives the change of ``y = function(*args)`` along the change ``t`` of that
        argument. It is linear in t, and written with functions that are followed, so that it serves higher derivatives and the
        reverse mode as well. None: the function is not differentiated in that argument.

    Returns
    -------
    callable
        The function, on plain and on traced arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from arraydiff.exact import rule, traced
    >>> def softsign(x):
    ...     return np.asarray(x, dtype=float) / (1 + np.abs(x))  # np.asarray is not followed
    >>> softsign = rule(softsign, lambda t, y, x: t / (1 + np.abs(x)) ** 2)
    >>> traced(softsign, np.array([1.0, 3.0])).pullback(np.array([1.0, 1.0]))
    array([0.25  , 0.0625])
    """
    name = getattr(function, "__name__", type(function).__name__)
    is_ufunc = numpy_rules.is_elementwise(function)
    made = (GivenElementwise if is_ufunc else GivenSmooth)(name, function, jvps)
    if numpy_rules.is_ufunc(function):
        UFUNCS[function] = made
        UFUNCS_BY_NAME.setdefault(name, made)
    else:
        FUNCTIONS[function] = made
    return made
