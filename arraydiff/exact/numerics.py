"""Composites of interpolation, polynomials, differences, convolution and grids."""

from __future__ import annotations

import math
from typing import Any

from arraydiff.backends import raw
from arraydiff.exact.reductions import array, both, only, op
from arraydiff.exact.shapes import first_traced
from arraydiff.exact.trace import has_tracer, kink, ops, plain, prim, refuse


@op
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Piecewise linear in x and in fp, and smooth in xp, between the points that x lies between."""
    only(x, fp, period=period)
    like = first_traced((x, xp, fp))
    x, nodes, heights = (array(one, like) for one in (x, xp, fp))
    at, known = plain(x), plain(nodes)
    n, space = known.shape[0], raw.namespace_of(known)
    i = raw.between(space.searchsorted(known, at, side="right") - 1, 0, n - 2)
    x0, x1, f0, f1 = nodes[i], nodes[i + 1], heights[i], heights[i + 1]
    inside = prim.add(f0, prim.multiply(prim.subtract(x, x0), prim.divide(prim.subtract(f1, f0), x1 - x0)))
    inside = ops.where(at == known[-1], heights[-1], inside)
    kink(
        "interp at a point of its table",
        raw.any_of(known[raw.between(space.searchsorted(known, at), 0, n - 1)] == at),
        like,
    )
    below = ops.where(at < known[0], heights[0] if left is None else left, inside)
    return ops.where(at > known[-1], heights[-1] if right is None else right, below)


@op
def polyval(p: Any, x: Any) -> Any:
    p, total = array(p, x), 0.0
    for k in range(p.shape[0]):
        total = total * x + p[k]
    return total


@op
def vander(x: Any, N: Any = None, increasing: bool = False) -> Any:
    n = x.shape[0] if N is None else N
    columns = [ops.ones_like(x)]
    for _ in range(n - 1):
        columns.append(columns[-1] * x)
    return ops.stack(columns if increasing else list(reversed(columns)), axis=1)


@op
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = array(y, x)
    pre = (slice(None),) * (axis % y.ndim)
    widths = dx
    if x is not None:
        x = array(x, y)
        widths = ops.diff(x, axis=-1 if x.ndim == 1 else axis)
        if x.ndim == 1 and y.ndim > 1:
            widths = prim.reshape(widths, tuple(-1 if i == axis % y.ndim else 1 for i in range(y.ndim)))
    return ops.sum(widths * (y[(*pre, slice(1, None))] + y[(*pre, slice(None, -1))]) / 2.0, axis=axis)


@op
def gradient(f: Any, *spacing: Any, axis: Any = None, edge_order: int = 1) -> Any:
    axes = tuple(range(f.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    steps = spacing * len(axes) if len(spacing) == 1 else spacing or (1.0,) * len(axes)
    if edge_order != 1 or any(getattr(h, "shape", ()) for h in steps):
        refuse("np.gradient with uneven spacing or edge_order=2", f, *steps)
    found = [_central(f, h, a % f.ndim) for h, a in zip(steps, axes, strict=True)]
    return found[0] if len(found) == 1 else tuple(found)


def _central(f: Any, h: Any, axis: int) -> Any:
    pre = (slice(None),) * axis
    first, second = (f[(*pre, slice(i, i + 1))] for i in (0, 1))
    last, before = (f[(*pre, slice(i, i + 1))] for i in (f.shape[axis] - 1, f.shape[axis] - 2))
    middle = (f[(*pre, slice(2, None))] - f[(*pre, slice(None, -2))]) / (2.0 * h)
    return ops.concat([(second - first) / h, middle, (last - before) / h], axis)


@op
def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    """Products added where their indices sum to the same."""
    a, v = both(a, v)
    a, v = (a, v) if a.shape[0] >= v.shape[0] else (v, a)
    n, m = a.shape[0], v.shape[0]
    i, j = raw.grid(n, m, plain(a))
    full = prim.scatter(a[:, None] * v[None, :], i + j, shape=(n + m - 1,))
    start, size = {"full": (0, n + m - 1), "same": ((m - 1) // 2, n), "valid": (m - 1, n - m + 1)}[mode]
    return full[start : start + size]


@op
def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    a, v = both(a, v)
    if mode != "full" and a.shape[0] < v.shape[0]:
        refuse("np.correlate with the shorter array first", a, v)
    return ops.convolve(a, ops.conj(ops.flip(v)), mode)


@op
def linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None,
             axis: int = 0, *, device: Any = None) -> Any:  # fmt: skip
    only(start, stop, dtype=dtype, axis=axis or None)
    like = first_traced((start, stop))
    parts = num - 1 if endpoint else num
    space, bare = raw.namespace_of(plain(like)), plain(like)
    start, stop = array(start, like), array(stop, like)
    ndim = max(start.ndim, stop.ndim)
    k = prim.reshape(space.arange(num, dtype=bare.dtype, device=raw.device(bare)), (num,) + (1,) * ndim)
    step = (stop - start) / max(parts, 1)
    out = step * k + start  # in this order: a plain array of the standard does not take a traced one
    if endpoint and num > 1:
        out = ops.concat([out[:-1], prim.reshape(stop + 0 * start, (1, *out.shape[1:]))])
    return (out, step) if retstep else out


@op
def logspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None,
             axis: int = 0) -> Any:  # fmt: skip
    return base ** ops.linspace(start, stop, num, endpoint, dtype=dtype, axis=axis)


@op
def geomspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Any:
    start, stop = (
        ops.log(start) if has_tracer(start) else math.log(start),
        ops.log(stop) if has_tracer(stop) else math.log(stop),
    )
    return ops.exp(ops.linspace(start, stop, num, endpoint, dtype=dtype, axis=axis))


@op
def meshgrid(*arrays: Any, indexing: str = "xy", sparse: bool = False, copy: bool = True) -> Any:
    like, ndim = first_traced(arrays), len(arrays)
    order = list(range(ndim))
    if indexing == "xy" and ndim > 1:
        order[0], order[1] = 1, 0
    arrays = tuple(ops.ravel(array(one, like)) for one in arrays)
    shaped = [prim.reshape(one, tuple(-1 if order[k] == i else 1 for i in range(ndim))) for k, one in enumerate(arrays)]
    shape = tuple(arrays[order.index(i)].shape[0] for i in range(ndim))
    return shaped if sparse else [prim.broadcast_to(one, shape) for one in shaped]


@op
def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    if has_tracer(x):
        refuse("np.bincount of traced numbers", x)
    size = max(raw.largest(x) + 1, minlength)
    return prim.scatter(weights, raw.as_index(x), shape=(size,))
