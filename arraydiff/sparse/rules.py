"""What NumPy's functions do to the sets of inputs that numbers depend on: a row of a table, beside its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from arraydiff.sparse.traced import FUNCTIONS, NOTHING, UFUNCS, Trace, Traced, empty_sets, made, parts, union

__all__ = ["FUNCTIONS", "UFUNCS"]

STEPS = {
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.isnan, np.isfinite, np.isinf),
    *(np.logical_and, np.logical_or, np.logical_not, np.logical_xor, np.sign, np.signbit),
    *(np.floor, np.ceil, np.trunc, np.rint),
}
"""Ufuncs that are constant but for jumps: their derivative is 0, and what they give is refused as a condition."""

MOVES = (
    "reshape ravel transpose swapaxes moveaxis rollaxis squeeze expand_dims broadcast_to concatenate stack vstack hstack dstack "
    "column_stack split array_split hsplit vsplit dsplit tile repeat roll flip fliplr flipud rot90 take take_along_axis diagonal "
    "diag diagflat tril triu copy atleast_1d atleast_2d atleast_3d append delete insert broadcast_arrays compress resize "
    "permute_dims concat unstack matrix_transpose real"
)
"""Functions that carry numbers from place to place, so that sets go with them; zeros that they put in depend on nothing."""

PADDINGS = ("constant", "edge", "reflect", "symmetric", "wrap", "empty")
"""Modes of np.pad that carry numbers."""

ELEMENTWISE = "nan_to_num imag conj round around clip sinc i0 angle fix"
REDUCTIONS = (
    "sum prod mean std var max min amax amin ptp median nansum nanprod nanmean nanstd nanvar nanmax nanmin average quantile "
    "percentile trapezoid trapz"
)
JUDGEMENTS = "any all argmax argmin argsort count_nonzero isclose allclose array_equal array_equiv"
"""Functions whose values jump."""

SHAPES = "shape ndim size"

RUNNING = "cumsum cumprod nancumsum nancumprod cumulative_sum cumulative_prod"
SORTED = "sort partition gradient unwrap"
MIXING = "solve inv pinv det slogdet cholesky eigvals eigvalsh lstsq matrix_power"
TRANSFORMS = "fft ifft rfft irfft hfft ihfft fft2 ifft2 fftn ifftn rfft2 irfft2 rfftn irfftn fftshift ifftshift"
PRODUCTS = "dot inner outer vdot convolve correlate kron interp einsum tensordot trace cross"


def rule(names: str, module: Any = np) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a rule in the table for the functions that this NumPy has."""

    def put(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names.split():
            if hasattr(module, name):
                FUNCTIONS[getattr(module, name)] = function
        return function

    return put


def value_of(given: Any) -> Any:
    """Arguments with values in the place of traced arrays."""
    if isinstance(given, Traced):
        return given.value
    if isinstance(given, list | tuple):
        return type(given)(map(value_of, given))
    return given


def result(trace: Trace, value: Any, sets: Any) -> Any:
    """Arrays of ours, in the structure that the function gives."""
    if isinstance(value, list | tuple):
        return type(value)(result(trace, *pair) for pair in zip(value, sets, strict=True))
    return made(trace, value, sets)


def untouched(trace: Trace, value: Any) -> Any:
    """What depends on no input as far as derivatives go, and must not decide anything all the same."""
    return made(trace, value, empty_sets(np.shape(value)))


# ---- ufuncs


def _ufunc(trace: Trace, ufunc: Any, *inputs: Any, **kwargs: Any) -> Any:
    out = kwargs.pop("out", None)
    if kwargs.pop("where", True) is not True:
        trace.refuse(f"np.{ufunc.__name__} with where=")
    value = ufunc(*map(value_of, inputs), **kwargs)
    shape = np.shape(value[0] if isinstance(value, tuple) else value)
    sets = empty_sets(shape)
    if ufunc not in STEPS:
        for one in inputs:
            if isinstance(one, Traced):
                sets = union(sets, one.sets)
    several = value if isinstance(value, tuple) else (value,)
    return _given(trace, [made(trace, one, sets.copy()) for one in several], out)


def _given(trace: Trace, results: list[Traced], out: Any) -> Any:
    """Results, written where the caller wants them."""
    if out is not None:
        for one, target in zip(results, out, strict=True):
            if target is None:
                continue
            if not isinstance(target, Traced):
                trace.refuse("a function with an out= that does not depend on x")
            target.value[...], target.sets[...] = one.value, one.sets
        results = [one if target is None else target for one, target in zip(results, out, strict=True)]
    return results[0] if len(results) == 1 else tuple(results)


def _reduced(trace: Trace, ufunc: Any, x: Any, axis: Any = 0, **kwargs: Any) -> Any:
    out = kwargs.pop("out", None)
    if out is not None or kwargs.pop("where", True) is not True or kwargs.pop("initial", None) is not None:
        trace.refuse(f"np.{ufunc.__name__}.reduce with out=, where= or initial=")
    value = ufunc.reduce(value_of(x), axis=axis, **kwargs)
    if ufunc in STEPS:
        return untouched(trace, value)
    return made(trace, value, _together(x.sets, axis, np.shape(value)))


def _accumulated(trace: Trace, ufunc: Any, x: Any, axis: int = 0, **kwargs: Any) -> Any:
    if kwargs.get("out") is not None:
        trace.refuse(f"np.{ufunc.__name__}.accumulate with out=")
    return made(trace, ufunc.accumulate(x.value, axis=axis), _running(x.sets, axis))


def _outer(trace: Trace, ufunc: Any, a: Any, b: Any, **kwargs: Any) -> Any:
    value = ufunc.outer(value_of(a), value_of(b), **kwargs)
    one, other = parts(a)[1], parts(b)[1]
    return made(trace, value, union(one.reshape(one.shape + (1,) * other.ndim), other))


UFUNCS[None, "__call__"] = _ufunc
UFUNCS[None, "reduce"] = _reduced
UFUNCS[None, "accumulate"] = _accumulated
UFUNCS[None, "outer"] = _outer


def _together(sets: Any, axis: Any, shape: tuple[int, ...]) -> Any:
    """The union along axes (None: all of them), in the shape that the function gives."""
    axes = range(sets.ndim) if axis is None else np.atleast_1d(axis) % max(sets.ndim, 1)
    last = [int(one) for one in axes] if sets.ndim else []
    kept = [one for one in range(sets.ndim) if one not in last]
    rows = sets.transpose(kept + last).reshape(int(np.prod([sets.shape[one] for one in kept], dtype=int)), -1)
    return _filled([NOTHING.union(*row) for row in rows], shape)


def _filled(several: list[frozenset[int]], shape: tuple[int, ...]) -> Any:
    flat = np.empty(len(several), dtype=object)
    flat[:] = several
    return flat.reshape(shape)


def _running(sets: Any, axis: int | None) -> Any:
    """The union of all before and here."""
    sets = sets.ravel() if axis is None else np.moveaxis(sets, axis, -1)
    out = np.empty(sets.shape, dtype=object)
    for place in np.ndindex(*sets.shape[:-1]):
        union_ = NOTHING
        for k, one in enumerate(sets[place]):
            union_ = union_ if one <= union_ else union_ | one
            out[(*place, k)] = union_
    return out if axis is None else np.moveaxis(out, -1, axis)


# ---- functions


@rule(MOVES)
def _moved(trace: Trace, function: Any, *args: Any, **kwargs: Any) -> Any:
    value = function(*map(value_of, args), **{name: value_of(one) for name, one in kwargs.items()})
    data = DATA.get(function, 1)
    sets = [_sets_of(one) if i < data or isinstance(one, Traced) else one for i, one in enumerate(args)]
    named = {name: _sets_of(one) if isinstance(one, Traced) else one for name, one in kwargs.items()}
    named = {name: one for name, one in named.items() if name not in ("dtype", "casting")}
    return result(trace, value, _only_sets(function(*sets, **named)))


DATA = {np.append: 2, np.broadcast_arrays: 99, np.atleast_1d: 99, np.atleast_2d: 99, np.atleast_3d: 99, np.compress: 0}
"""How many leading arguments are numbers, where that is not 1."""


def _sets_of(given: Any) -> Any:
    if isinstance(given, list | tuple):
        return type(given)(map(_sets_of, given))
    return parts(given)[1]


def _only_sets(given: Any) -> Any:
    """Zeros that the function put in depend on nothing."""
    if isinstance(given, list | tuple):
        return type(given)(map(_only_sets, given))
    if isinstance(given, np.ndarray):
        for k in np.flatnonzero(np.array([not isinstance(one, frozenset) for one in given.ravel()], dtype=bool)):
            given[np.unravel_index(k, given.shape)] = NOTHING
    return given


@rule("pad")
def _padded(trace: Trace, function: Any, x: Any, width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    if mode not in PADDINGS or any(isinstance(one, Traced) for one in kwargs.values()):
        trace.refuse(f"np.pad with mode={mode!r} and {sorted(kwargs)}")
    value = function(x.value, width, mode, **kwargs)
    plain = {} if mode == "constant" else kwargs
    return made(trace, value, _only_sets(function(x.sets, width, "constant" if mode == "empty" else mode, **plain)))


@rule("insert")
def _inserted(trace: Trace, function: Any, x: Any, where: Any, values: Any, axis: Any = None) -> Any:
    value = function(value_of(x), where, value_of(values), axis)
    return made(trace, value, function(parts(x)[1], where, parts(values)[1], axis))


@rule("zeros_like ones_like empty_like full_like")
def _like(trace: Trace, function: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    function = np.zeros_like if function is np.empty_like else function
    if function is np.full_like and any(isinstance(one, Traced) for one in (*args, *kwargs.values())):
        trace.refuse("np.full_like with a value that depends on x")
    value = function(value_of(x), *args, **kwargs)
    return made(trace, value, empty_sets(value.shape))


@rule("where")
def _where(trace: Trace, function: Any, condition: Any, *branches: Any) -> Any:
    if not branches:
        trace.refuse("np.where(condition), whose shape depends on x")
    value = function(value_of(condition), *map(value_of, branches))
    one, other = (parts(branch)[1] for branch in branches)
    sets = union(one, other) if isinstance(condition, Traced) else np.where(condition, one, other)
    return made(trace, value, _spread(sets, value.shape))


@rule("select")
def _selected(trace: Trace, function: Any, conditions: Any, choices: Any, default: Any = 0) -> Any:
    value = function(value_of(conditions), value_of(choices), value_of(default))
    sets = parts(default)[1]
    for choice in choices:
        sets = union(sets, parts(choice)[1])
    return made(trace, value, _spread(sets, value.shape))


def _spread(sets: Any, shape: tuple[int, ...]) -> Any:
    return np.broadcast_to(sets, shape).copy()


@rule(ELEMENTWISE)
def _elementwise(trace: Trace, function: Any, *args: Any, **kwargs: Any) -> Any:
    out = kwargs.pop("out", None)
    value = function(*map(value_of, args), **{name: value_of(one) for name, one in kwargs.items()})
    sets = empty_sets(np.shape(value))
    for one in (*args, *kwargs.values()):
        if isinstance(one, Traced):
            sets = union(sets, one.sets)
    return _given(trace, [made(trace, value, sets)], None if out is None else (out,))


@rule(REDUCTIONS)
def _reduction(trace: Trace, function: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """All that stands along the axis; whatever else depends on x (weights, spacings) counts for every output."""
    if kwargs.pop("out", None) is not None or kwargs.get("returned"):
        trace.refuse(f"np.{function.__name__} with out= or returned=")
    value = function(value_of(x), *map(value_of, args), **{name: value_of(one) for name, one in kwargs.items()})
    default = -1 if function.__name__.startswith("trap") else None
    place = AXIS_AT.get(function.__name__, 0)
    axis = kwargs.get("axis", args[place] if len(args) > place else default)
    sets = _together(parts(x)[1], axis, np.shape(value)) if np.ndim(value_of(x)) else parts(x)[1]
    return made(trace, value, union(sets, _all_of([*args, *kwargs.values()])))


AXIS_AT = {"quantile": 1, "percentile": 1, "trapezoid": 2, "trapz": 2}
"""Where the axis stands after x, if not first."""


def _all_of(given: Any) -> frozenset[int]:
    """Every input that any of these depends on."""
    if isinstance(given, list | tuple):
        return NOTHING.union(*map(_all_of, given))
    return NOTHING.union(*given.sets.ravel()) if isinstance(given, Traced) else NOTHING


@rule(JUDGEMENTS)
def _judged(trace: Trace, function: Any, *args: Any, **kwargs: Any) -> Any:
    if kwargs.get("out") is not None:
        trace.refuse(f"np.{function.__name__} with out=")
    return untouched(trace, function(*map(value_of, args), **{name: value_of(one) for name, one in kwargs.items()}))


@rule(SHAPES)
def _shape(_trace: Trace, function: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    return function(value_of(x), *args, **kwargs)


@rule(RUNNING)
def _cumulative(trace: Trace, function: Any, x: Any, axis: Any = None, **kwargs: Any) -> Any:
    if set(kwargs) - {"dtype"}:
        trace.refuse(f"np.{function.__name__} with {sorted(kwargs)}")
    return made(trace, function(x.value, axis=axis, **kwargs), _running(x.sets, axis))


@rule("diff")
def _differences(trace: Trace, _function: Any, x: Any, n: int = 1, axis: int = -1, **kwargs: Any) -> Any:
    if kwargs:
        trace.refuse(f"np.diff with {sorted(kwargs)}")
    for _ in range(n):
        ahead, behind = ([slice(None)] * x.ndim for _ in range(2))
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        x = x[tuple(ahead)] - x[tuple(behind)]
    return x


@rule(SORTED)
@rule(MIXING, np.linalg)
@rule(TRANSFORMS, np.fft)
@rule(PRODUCTS)
@rule("norm", np.linalg)
def _mixed(trace: Trace, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Every output depends on every input."""
    if kwargs.pop("out", None) is not None:
        trace.refuse(f"np.{function.__name__} with out=")
    value = function(*map(value_of, args), **{name: value_of(one) for name, one in kwargs.items()})
    every = _all_of([*args, *kwargs.values()])

    def filled(one: Any) -> Any:
        if isinstance(one, list | tuple):
            return type(one)(*map(filled, one)) if hasattr(one, "_fields") else type(one)(map(filled, one))
        sets = empty_sets(np.shape(one))
        sets[...] = every
        return made(trace, one, sets)

    return filled(value)


@rule("dot")
def _dot(trace: Trace, function: Any, a: Any, b: Any, **kwargs: Any) -> Any:
    if kwargs.get("out") is not None or not np.ndim(value_of(a)) * np.ndim(value_of(b)) or np.ndim(value_of(b)) > 2:
        return _mixed(trace, function, a, b, **kwargs)
    return _matmul(trace, np.matmul, a, b)


@rule("outer")
def _outer_product(trace: Trace, function: Any, a: Any, b: Any, out: Any = None) -> Any:
    if out is not None:
        trace.refuse("np.outer with out=")
    value = function(value_of(a), value_of(b))
    return made(trace, value, union(parts(a)[1].ravel()[:, None], parts(b)[1].ravel()[None, :]))


def _matmul(trace: Trace, _ufunc: Any, a: Any, b: Any, **kwargs: Any) -> Any:
    """Row i, column k: what stands in the row and in the column, where the other factor is not 0 for good."""
    out = kwargs.pop("out", None)
    value = np.matmul(value_of(a), value_of(b), **kwargs)
    (one, left), (other, right) = _factor(a), _factor(b)
    left, there = (np.atleast_2d(part) for part in (left, one))
    if right.ndim == 1:
        right, other = right[:, None], other[:, None]
    shape = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left, there = (np.broadcast_to(part, shape + part.shape[-2:]) for part in (left, there))
    right, other = (np.broadcast_to(part, shape + part.shape[-2:]) for part in (right, other))
    sets = np.empty((*shape, left.shape[-2], right.shape[-1]), dtype=object)
    for place in np.ndindex(*sets.shape):
        row, column = (*place[:-2], place[-2]), (*place[:-2], slice(None), place[-1])
        both = np.flatnonzero(there[row] & other[column])
        sets[place] = NOTHING.union(*left[row][both], *right[column][both])
    return _given(trace, [made(trace, value, sets.reshape(np.shape(value)))], out)


def _factor(one: Any) -> tuple[Any, Any]:
    """Where a factor may differ from 0, and its sets."""
    value, sets = parts(one)
    return (np.ones(np.shape(value), dtype=bool) if isinstance(one, Traced) else np.asarray(value) != 0), sets


UFUNCS[np.matmul, "__call__"] = _matmul
