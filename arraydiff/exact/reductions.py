"""Composites that reduce, order or compare: sums, statistics, sorting, and functions without a derivative."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from arraydiff.backends import raw
from arraydiff.exact import rules  # noqa: F401 - it fills `prim`
from arraydiff.exact.arrays import is_complex
from arraydiff.exact.trace import Tracer, has_tracer, kink, note, ops, plain, prim, refuse

Operation = Callable[..., Any]
UNSET = object()


def op(function: Operation) -> Operation:
    """Make a function an operation under its name, without the underscore that keeps a builtin's name free."""
    setattr(ops, function.__name__.rstrip("_"), function)
    return function


def only(*about: Any, **arguments: Any) -> None:
    """Refuse arguments that are given and not followed."""
    for name, value in arguments.items():
        if value is not None and value is not UNSET:
            refuse(f"the argument {name}=, which tracing does not follow", *about)


def array(x: Any, like: Any = None) -> Any:
    """A number, or a list with something traced in it, as an array."""
    if type(x) is Tracer or (hasattr(x, "shape") and not raw.holds_objects(x)):
        return x
    if has_tracer(x):
        return ops.lifted(x) if raw.holds_objects(x) else ops.stack([array(one, like) for one in x])
    return raw.array(x, plain(like))


ops.array = array


def as_array(leaf: Any, like: Any) -> Any:
    """What f gave, a number or an array, traced or not; anything else is refused."""
    if not (has_tracer(leaf) or raw.is_plain(leaf)):
        refuse(f"f gives a {type(leaf).__name__}, which is neither a number nor an array", like)
    return array(leaf, like)


def first_traced(arrays: Any) -> Any:
    """Whose library the others are of."""
    for one in arrays:
        if type(one) is Tracer:
            return one
        if has_tracer(one):
            return first_traced(raw.entries(one) if raw.holds_objects(one) else one)
    return next(iter(arrays), None)


def both(a: Any, b: Any) -> tuple[Any, Any]:
    """Two numbers, lists or arrays as arrays of one library."""
    return array(a, b), array(b, a)


def axes_of(axis: Any) -> Any:
    """An axis or several, as the primitives take them."""
    if axis is None or type(axis) is int:
        return axis
    return tuple(map(operator.index, axis)) if isinstance(axis, list | tuple) else operator.index(axis)


def in_a_row(x: Any, axis: Any) -> tuple[Any, int]:
    """The array and the axis; without one, all entries in a row and theirs."""
    return (prim.reshape(x, (-1,)), 0) if axis is None else (x, axis % x.ndim)


def cast(x: Any, dtype: Any) -> Any:
    """The array in another dtype, if one is asked for."""
    return x if dtype is None or x.dtype == raw.dtype_of(dtype, plain(x)) else ops.astype(x, dtype)


@op
def sum_(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = UNSET,
         where: Any = UNSET) -> Any:  # fmt: skip
    x = x if type(x) is Tracer else array(x)
    if out is not None or where is not UNSET:
        only(x, out=out)
        x = _picked(x, where, 0.0)
    total = prim.sum(x if dtype is None else cast(x, dtype), axis=axes_of(axis), keepdims=keepdims)
    return total if initial is UNSET or initial is None else total + initial


def _picked(x: Any, where: Any, neutral: float) -> Any:
    """The entries that a reduction is told to take, beside its neutral number."""
    return x if where is UNSET or where is True else ops.where(where, x, neutral)


def _extreme(name: str) -> None:
    def extreme(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = UNSET,
                where: Any = UNSET) -> Any:  # fmt: skip
        only(x, out=out)
        x = _picked(array(x), where, -math.inf if name == "max" else math.inf)
        found = getattr(prim, name)(x, axis=axes_of(axis), keepdims=keepdims)
        return found if initial is UNSET or initial is None else getattr(ops, f"{name}imum")(found, initial)

    setattr(ops, name, extreme)


_extreme("max")
_extreme("min")


def last_of(x: Any, axis: Any, keepdims: Any) -> tuple[tuple[int, ...], Any]:
    """All or several axes as one, the last; and the shape of what is reduced over it."""
    gone = {a % x.ndim for a in (range(x.ndim) if axis is None else axis)}
    kept = [i for i in range(x.ndim) if i not in gone]
    shape = tuple(1 if i in gone else s for i, s in enumerate(x.shape) if i not in gone or keepdims)
    if kept:
        x = prim.permute_dims(x, (*kept, *sorted(gone)))
    return shape, prim.reshape(x, (*(x.shape[i] for i in range(len(kept))), -1))


@op
def prod(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = UNSET,
         where: Any = UNSET) -> Any:  # fmt: skip
    """Of neighbours, then of their products: right beside zeros, at every order."""
    only(x, out=out, initial=initial)
    x, axis = cast(_picked(array(x), where, 1.0), dtype), axes_of(axis)
    if axis is None or isinstance(axis, tuple):
        shape, x = last_of(x, axis, keepdims)
        axis = x.ndim - 1
    else:
        axis %= x.ndim
        shape = tuple(1 if i == axis else s for i, s in enumerate(x.shape) if i != axis or keepdims)
    pre = (slice(None),) * axis
    if x.shape[axis] == 0:
        return prim.reshape(ops.ones_like(prim.sum(x, axis=axis)), shape)
    while x.shape[axis] > 1:
        n = x.shape[axis]
        pairs = x[(*pre, slice(0, n - 1, 2))] * x[(*pre, slice(1, n, 2))]
        x = prim.concat(pairs, x[(*pre, slice(n - 1, n))], axis=axis) if n % 2 else pairs
    return prim.reshape(x, shape) if shape else x[0]


@op
def cumprod(x: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """By doubling: right beside zeros, at every order."""
    only(x, out=out)
    x = cast(x, dtype)
    x, axis = in_a_row(x, axis)
    pre, step = (slice(None),) * axis, 1
    while step < x.shape[axis]:
        later = x[(*pre, slice(step, None))] * x[(*pre, slice(None, -step))]
        x, step = prim.concat(x[(*pre, slice(None, step))], later, axis=axis), 2 * step
    return x


@op
def cumsum(x: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    only(x, out=out)
    x = cast(x, dtype)
    x, axis = in_a_row(x, axis)
    return prim.cumulative_sum(x, axis=axis)


def _cumulative(name: str, first: float) -> None:
    def cumulative(
        x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False
    ) -> Any:
        axis = 0 if axis is None and x.ndim == 1 else axis
        found = getattr(ops, f"cum{name}")(x, axis, dtype, out)
        if not include_initial:
            return found
        start = found[(*(slice(None),) * (axis % x.ndim), slice(0, 1))]
        return ops.concat([start * 0 + first, found], axis)

    setattr(ops, f"cumulative_{name}", cumulative)


_cumulative("sum", 0.0)
_cumulative("prod", 1.0)


@op
def mean(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, where: Any = UNSET
) -> Any:
    x = array(x)
    total = ops.sum(x, axis, dtype, out, keepdims, where=where)
    if where is not UNSET and where is not True:
        return total / ops.sum(_picked(ops.ones_like(x), where, 0.0), axis, keepdims=keepdims)
    return total / (x.size / max(total.size, 1))


@op
def var(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False,
        where: Any = UNSET, mean: Any = UNSET, correction: Any = UNSET) -> Any:  # fmt: skip
    only(x, mean=mean, where=where)
    x = array(x)
    apart = x - ops.mean(x, axis, dtype, out, True)
    squares = ops.real(apart * ops.conj(apart)) if is_complex(x) else apart * apart
    total = ops.sum(squares, axis, keepdims=keepdims)
    return total / (x.size / max(total.size, 1) - (ddof if correction is UNSET else correction))


@op
def std(*args: Any, **options: Any) -> Any:
    return ops.sqrt(ops.var(*args, **options))


@op
def average(x: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    x = array(x)
    if weights is None:
        mean = ops.mean(x, axis, keepdims=keepdims)
        return (mean, ops.zeros_like(mean) + x.size / max(mean.size, 1)) if returned else mean
    w = array(weights, x)
    if w.shape != x.shape:
        w = prim.reshape(w, tuple(s if i == axis % x.ndim else 1 for i, s in enumerate(x.shape)))
        w = prim.broadcast_to(w, x.shape)
    total = ops.sum(w, axis, keepdims=keepdims)
    mean = ops.sum(x * w, axis, keepdims=keepdims) / total
    return (mean, total) if returned else mean


@op
def logsumexp(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    """What np.logaddexp.reduce gives."""
    only(x, dtype=dtype, out=out)
    top = raw.namespace_of(plain(x)).max(plain(x), axis=axes_of(axis), keepdims=True)
    found = ops.log(ops.sum(ops.exp(x - top), axis, keepdims=True)) + top
    return found if keepdims else ops.squeeze(found, axes_of(tuple(range(x.ndim)) if axis is None else axis))


@op
def ptp(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    return ops.max(x, axis, out, keepdims) - ops.min(x, axis, out, keepdims)


def _without_nan(name: str, filling: float) -> None:
    def reduced(x: Any, axis: Any = None, *args: Any, **options: Any) -> Any:
        return getattr(ops, name)(ops.where(ops.isnan(x), filling, x), axis, *args, **options)

    setattr(ops, f"nan{name}", reduced)


for _name, _filling in {
    "sum": 0.0,
    "prod": 1.0,
    "cumsum": 0.0,
    "cumprod": 1.0,
    "max": -math.inf,
    "min": math.inf,
}.items():
    _without_nan(_name, _filling)


def _there(x: Any, axis: Any, keepdims: Any) -> Any:
    """How many are no NaN."""
    known = ~ops.isnan(x)
    space = raw.namespace_of(known)
    return space.sum(space.astype(known, plain(x).dtype), axis=axes_of(axis), keepdims=keepdims)


@op
def nanmean(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    return ops.nansum(x, axis, dtype, out, keepdims) / _there(x, axis, keepdims)


@op
def nanvar(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False) -> Any:
    x = array(x)
    unknown, filled = ops.isnan(x), ops.where(ops.isnan(x), 0.0, x)
    apart = ops.where(unknown, 0.0, filled - ops.nanmean(x, axis, dtype, out, True))
    squares = ops.real(apart * ops.conj(apart)) if is_complex(x) else apart * apart
    return ops.sum(squares, axis, keepdims=keepdims) / (_there(x, axis, keepdims) - ddof)


@op
def nanstd(*args: Any, **options: Any) -> Any:
    return ops.sqrt(ops.nanvar(*args, **options))


@op
def sort(
    x: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, descending: bool = False, stable: Any = None
) -> Any:
    only(x, order=order)
    x, axis = in_a_row(x, axis)
    space = raw.namespace_of(plain(x))
    places = space.argsort(plain(x), axis=axis, stable=True)
    ordered = ops.take_along_axis(x, space.flip(places, axis=axis) if descending else places, axis)
    along = ops.diff(plain(ordered), axis=axis)
    ends = raw.zeros(tuple(1 if i == axis else s for i, s in enumerate(x.shape)), along.dtype, along) == 1
    tied = space.concat([ends, along == 0, ends], axis=axis)
    pre, n = (slice(None),) * axis, x.shape[axis]
    kink("sort at a tie", tied[(*pre, slice(0, n), ...)] | tied[(*pre, slice(1, n + 1), ...)], ordered, made=ordered)
    return ordered


@op
def partition(x: Any, kth: Any, axis: Any = -1, kind: Any = None, order: Any = None) -> Any:
    """All of it sorted: what np.partition leaves in which order is not said."""
    refuse("np.partition, whose order beside kth is not defined; sort", x)


NO_DERIVATIVE = """
    isnan isfinite isinf isneginf isposinf argmax argmin nanargmax nanargmin argsort argpartition argwhere nonzero flatnonzero
    floor ceil rint trunc fix round sign signbit spacing heaviside floor_divide searchsorted digitize count_nonzero any all
    allclose isclose array_equal array_equiv equal not_equal less less_equal greater greater_equal logical_and logical_or
    logical_not logical_xor iscomplex isreal lexsort
"""
ABOUT_THE_ARRAY = (
    "shape ndim size result_type isdtype can_cast iscomplexobj isrealobj may_share_memory shares_memory finfo"
)
JUMPS = {"floor": 0.0, "ceil": 0.0, "trunc": 0.0, "fix": 0.0, "rint": 0.5, "round": 0.5}
"""Where in a unit the step is."""
COMPARISONS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "floor_divide"}


def _constant(name: str, quiet: bool) -> None:
    def computed(*args: Any, out: Any = None, **options: Any) -> Any:
        only(*args, out=out)
        about = [one for one in (*args, *options.values()) if type(one) is Tracer]
        args = tuple(plain(array(one) if has_tracer(one) else one) for one in args)
        for one in [] if quiet else about:
            note(name, one)
        found = getattr(raw.namespace_of(*args), name)(*args, **{key: plain(value) for key, value in options.items()})
        if not quiet and about:
            _note_jump(name, args, about)
        return found

    setattr(ops, name, computed)


def _note_jump(name: str, args: tuple[Any, ...], about: list[Any]) -> None:
    if name in JUMPS and args[0].shape != (0,) and not args[1:]:
        mask = args[0] % 1.0 == JUMPS[name]
    elif name == "sign":
        mask = args[0] == 0
    elif name == "floor_divide":
        mask = args[0] % args[1] == 0
    elif name in COMPARISONS and not (len(about) > 1 and about[0] is about[1]):  # x != x asks for NaN
        mask = args[0] == args[1]
    else:
        return
    kink(f"{name} at a jump" if name not in COMPARISONS else "comparison at equality", mask, *about)


for _name in NO_DERIVATIVE.split():
    _constant(_name, quiet=False)
for _name in ABOUT_THE_ARRAY.split():
    _constant(_name, quiet=True)
ops.around = ops.round
