"""Composites that choose between entries, and elementwise functions made of others."""

from __future__ import annotations

import math
from typing import Any

from arraydiff.backends import raw
from arraydiff.exact.arrays import is_complex
from arraydiff.exact.reductions import UNSET, array, only, op
from arraydiff.exact.trace import Tracer, ops, plain, prim, refuse


@op
def where(condition: Any, x: Any = UNSET, y: Any = UNSET, /) -> Any:
    if x is UNSET:
        return ops.nonzero(condition)
    if type(condition) is Tracer:
        condition = ops.not_equal(condition, 0)
    x, y = (array(one, x) if isinstance(one, list | tuple) else one for one in (x, y))
    return prim.where(plain(condition), x, y)


@op
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    out: Any = default
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        out = ops.where(condition, choice, out)
    return out


@op
def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **options: Any) -> Any:
    """Each function of all of x would leave its domain: it is called on its own part."""
    if not isinstance(condlist, list | tuple) or (condlist and not getattr(condlist[0], "shape", ())):
        condlist = list(condlist) if getattr(condlist, "ndim", 0) > x.ndim else [condlist]
    conditions = [plain(one) for one in condlist]
    if len(funclist) == len(conditions) + 1:
        anywhere = conditions[0]
        for one in conditions[1:]:
            anywhere = anywhere | one
        conditions.append(~anywhere)
    out = ops.zeros_like(x)
    for condition, function in zip(conditions, funclist, strict=True):
        out[condition] = function(x[condition], *args, **options) if callable(function) else function
    return out


@op
def clip(x: Any, /, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None) -> Any:
    only(x, out=out)
    low, high = a_min if min is None else min, a_max if max is None else max
    x = x if low is None else ops.maximum(x, low)
    return x if high is None else ops.minimum(x, high)


@op
def abs_(x: Any, /) -> Any:
    return ops.sqrt(ops.real(x) ** 2 + ops.imag(x) ** 2) if is_complex(x) else prim.abs(x)


@op
def real(x: Any) -> Any:
    return prim.real(x) if is_complex(x) else x


@op
def imag(x: Any) -> Any:
    return prim.imag(x) if is_complex(x) else ops.zeros_like(x)


@op
def conj(x: Any) -> Any:
    return prim.conj(x) if is_complex(x) else ops.positive(x)


@op
def angle(z: Any, deg: bool = False) -> Any:
    turned = ops.atan2(ops.imag(z), ops.real(z))
    return turned * (180 / math.pi) if deg else turned


def _among_numbers(function: Any) -> Any:
    """fmax and fmin: a number rather than NaN."""
    return lambda x, y: ops.where(ops.isnan(x), y, ops.where(ops.isnan(y), x, function(x, y)))


ops.fmax, ops.fmin = _among_numbers(ops.maximum), _among_numbers(ops.minimum)
ops.deg2rad = ops.radians = lambda x: x * (math.pi / 180)
ops.rad2deg = ops.degrees = lambda x: x * (180 / math.pi)
ops.float_power = lambda x, y: ops.pow(x * 1.0, y)
ops.divmod = lambda x, y: (ops.floor_divide(x, y), ops.remainder(x, y))
ops.modf = lambda x: (x - ops.trunc(x), ops.trunc(x))
ops.ldexp = lambda x, n: x * 2.0**n
ops.isscalar = lambda x: raw.is_number(plain(x))
ops.real_if_close = lambda x, tol=100: x


@op
def sinc(x: Any) -> Any:
    """By its series near 0, where sin(πx) / (πx) cancels: four terms are exact to rounding."""
    y = math.pi * x
    small = abs(plain(y)) < SERIES_BELOW
    safe = ops.where(small, 1.0, y)
    square = ops.where(small, y, 0.0) ** 2
    series = 1 - square / 6 * (1 - square / 20 * (1 - square / 42 * (1 - square / 72 * (1 - square / 110))))
    return ops.where(small, series, ops.sin(safe) / safe)


SERIES_BELOW = 0.1  # 0.1^12 / 13! is below eps times the second derivative


@op
def nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    if not copy:
        refuse("np.nan_to_num with copy=False", x)
    fixed = raw.nan_to_num(plain(x), nan, posinf, neginf)
    return ops.where(ops.isfinite(x), x, fixed)


@op
def unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: float = 2 * math.pi) -> Any:
    """Whole periods are added, which are constants."""
    return p + raw.periods(plain(p), discont, axis, period)
