"""Composites of quantiles and covariances."""

from __future__ import annotations

import math
from typing import Any

from arraydiff.backends import raw
from arraydiff.exact.reductions import Operation, array, last_of, only, op
from arraydiff.exact.trace import has_tracer, ops, prim, refuse


@op
def quantile(x: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
             keepdims: Any = False, *, weights: Any = None, interpolation: Any = None) -> Any:  # fmt: skip
    only(x, out=out, weights=weights, interpolation=interpolation, method=None if method in BETWEEN else method)
    if has_tracer(q) or isinstance(q, list | tuple) or getattr(q, "ndim", 0) > 0:
        if has_tracer(q):
            refuse("np.quantile at a traced q", q)
        return ops.stack([ops.quantile(x, one, axis, method=method, keepdims=keepdims) for one in q])
    x = array(x)
    if isinstance(axis, tuple):
        shape, x = last_of(x, axis, keepdims)
        return prim.reshape(ops.quantile(x, q, -1, method=method), shape)
    rising = ops.sort(x, axis)
    along = 0 if axis is None else axis % x.ndim
    n = rising.shape[along]
    at = min(max(BETWEEN[method](n, min(max(q, 0), 1)), 0), n - 1)
    low = math.floor(at)
    below, above = (rising[(*(slice(None),) * along, min(one, n - 1))] for one in (low, low + 1))
    found = below + (above - below) * (at - low)
    if keepdims:
        return prim.reshape(found, tuple(1 if axis is None or i == along else s for i, s in enumerate(x.shape)))
    return found


def _plotted(a: float, b: float) -> Operation:
    """Of Hyndman & Fan, Amer. Statistician 50 (1996) 361, types 4 to 9."""
    return lambda n, q: n * q + a + q * (1 - a - b) - 1


BETWEEN: dict[str, Operation] = {
    "linear": lambda n, q: q * (n - 1),
    "lower": lambda n, q: math.floor(q * (n - 1)),
    "higher": lambda n, q: math.ceil(q * (n - 1)),
    "nearest": lambda n, q: round(q * (n - 1)),
    "midpoint": lambda n, q: (math.floor(q * (n - 1)) + math.ceil(q * (n - 1))) / 2,
    "interpolated_inverted_cdf": _plotted(0.0, 1.0),
    "hazen": _plotted(0.5, 0.5),
    "weibull": _plotted(0.0, 0.0),
    "median_unbiased": _plotted(1 / 3, 1 / 3),
    "normal_unbiased": _plotted(3 / 8, 3 / 8),
}
"""At which place among n sorted numbers a quantile lies, by NumPy's names of the methods."""


@op
def percentile(x: Any, q: Any, *args: Any, **options: Any) -> Any:
    return ops.quantile(x, q / 100 if not isinstance(q, list | tuple) else [one / 100 for one in q], *args, **options)


@op
def median(x: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Any:
    return ops.quantile(x, 0.5, axis, out, keepdims=keepdims)


def _of_what_is_there(name: str) -> None:
    def reduced(x: Any, *args: Any, **options: Any) -> Any:
        there = ~ops.isnan(x)
        if raw.any_of(~there):
            at = 0 if name == "median" else 1  # the place of axis among the arguments
            if x.ndim > 1 and (args[at] if len(args) > at else options.get("axis")) is not None:
                refuse(f"np.nan{name} along an axis with NaN in it", x)
            x = prim.reshape(x, (-1,))[raw.namespace_of(there).reshape(there, (-1,))]
        return getattr(ops, name)(x, *args, **options)

    setattr(ops, f"nan{name}", reduced)


for _name in ("median", "quantile", "percentile"):
    _of_what_is_there(_name)


@op
def cov(m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: Any = None, fweights: Any = None,
        aweights: Any = None, *, dtype: Any = None) -> Any:  # fmt: skip
    only(m, dtype=dtype)
    x = ops.atleast_2d(array(m))
    x = x if rowvar or array(m).ndim == 1 else ops.matrix_transpose(x)
    if y is not None:
        other = ops.atleast_2d(array(y, m))
        x = ops.concat([x, other if rowvar or array(y, m).ndim == 1 else ops.matrix_transpose(other)], axis=0)
    lost = ddof if ddof is not None else 0 if bias else 1
    if fweights is None and aweights is None:
        x = x - ops.mean(x, 1, keepdims=True)
        return ops.squeeze(ops.matmul(x, ops.adjoint(x)) / (x.shape[1] - lost))
    importance = 1.0 if aweights is None else array(aweights, x)
    w = importance if fweights is None else importance * array(fweights, x)
    total = ops.sum(w)
    free = total - lost * (ops.sum(w * importance) / total if aweights is not None else 1.0)
    x = x - ops.average(x, 1, weights=w, keepdims=True)
    return ops.squeeze(ops.matmul(x * w, ops.adjoint(x)) / free)


@op
def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    c = ops.cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    scale = ops.sqrt(ops.real(ops.on_diagonal(c)))
    return c / scale[:, None] / scale[None, :]
