"""Composites of interpolation, polynomials, differences, convolution and grids."""

from __future__ import annotations

import math
from typing import Any

from arraydiff.backends import raw
from arraydiff.exact.reductions import array, both, first_traced, only, op
from arraydiff.exact.trace import has_tracer, kink, note, ops, plain, prim, refuse


@op
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Piecewise linear in x and in fp, and smooth in xp, between the points that x lies between."""
    like = first_traced((x, xp, fp))
    x, nodes, heights = (array(one, like) for one in (x, xp, fp))
    if period is not None:
        if left is not None or right is not None:
            refuse("np.interp with period= and left= or right=", like)
        x, nodes, heights = _over_a_period(x, nodes, heights, abs(period))
    at, known = plain(x), plain(nodes)
    n, space = known.shape[0], raw.namespace_of(known)
    i = raw.between(space.searchsorted(known, at, side="right") - 1, 0, n - 2)
    x0, x1, f0, f1 = nodes[i], nodes[i + 1], heights[i], heights[i + 1]
    inside = prim.add(f0, prim.multiply(prim.subtract(x, x0), prim.divide(prim.subtract(f1, f0), x1 - x0)))
    inside = ops.where(at == known[-1], heights[-1], inside)
    below = ops.where(at < known[0], heights[0] if left is None else left, inside)
    found = ops.where(at > known[-1], heights[-1] if right is None else right, below)
    met = known[raw.between(space.searchsorted(known, at), 0, n - 1)] == at
    kink("interp at a point of its table", met, x, made=found)
    kink("interp at a point of its table", raw.any_of(met), nodes, made=found)
    return found


def _over_a_period(x: Any, nodes: Any, heights: Any, period: Any) -> tuple[Any, Any, Any]:
    """The table in order, with a point of the periods before and after."""
    x, nodes = ops.remainder(x, period), ops.remainder(nodes, period)
    order = raw.namespace_of(plain(nodes)).argsort(plain(nodes))
    nodes, heights = nodes[order], heights[order]
    return (
        x,
        ops.concat([nodes[-1:] - period, nodes, nodes[:1] + period]),
        ops.concat([heights[-1:], heights, heights[:1]]),
    )


@op
def polyval(p: Any, x: Any) -> Any:
    p, total = array(p, x), 0.0
    for k in range(p.shape[0]):
        total = total * x + p[k]
    return total


@op
def polyfit(x: Any, y: Any, deg: int, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False) -> Any:
    """By the pseudoinverse of the scaled matrix, as NumPy by its least squares."""
    only(x, y, rcond=rcond, full=full or None, cov=cov or None)
    x, y = both(x, y)
    columns = ops.vander(x * 1.0, deg + 1)
    if w is not None:
        w = array(w, y)
        columns, y = columns * w[:, None], (y.T * w).T
    scale = ops.sqrt(ops.sum(columns * columns, axis=0))
    if raw.rank(plain(columns / scale)) < deg + 1:
        refuse("np.polyfit of fewer points than coefficients", x, y)
    return (ops.matmul(prim.pinv(columns / scale), y).T / scale).T


@op
def polyder(p: Any, m: int = 1) -> Any:
    for _ in range(m):
        n = p.shape[0] - 1
        p = p[:-1] * (n - raw.counted(n, plain(p)))
    return p


@op
def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    only(p, k=k)
    for _ in range(m):
        n = p.shape[0]
        p = ops.concat([p / (n - raw.counted(n, plain(p))), ops.zeros_like(p[:1])])
    return p


@op
def polyadd(a1: Any, a2: Any) -> Any:
    a1, a2 = (ops.atleast_1d(one) for one in both(a1, a2))
    n = max(a1.shape[0], a2.shape[0])
    return ops.pad(a1, (n - a1.shape[0], 0)) + ops.pad(a2, (n - a2.shape[0], 0))


ops.polysub = lambda a1, a2: ops.polyadd(a1, -1.0 * array(a2, a1))
ops.polymul = lambda a1, a2: ops.convolve(a1, a2)


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
    axes = tuple(range(f.ndim)) if axis is None else axis if isinstance(axis, tuple | list) else (axis,)
    steps = spacing * len(axes) if len(spacing) == 1 else spacing or (1.0,) * len(axes)
    like = first_traced((f, *spacing))
    steps = tuple(array(h, like) if isinstance(h, list | tuple) else h for h in steps)
    found = [_slopes(array(f, like), h, a % f.ndim, edge_order) for h, a in zip(steps, axes, strict=True)]
    return found[0] if len(found) == 1 else tuple(found)


def _slopes(f: Any, h: Any, axis: int, edge_order: int) -> Any:
    if getattr(h, "shape", ()) != ():
        return _uneven_slopes(f, h, axis, edge_order)
    n = f.shape[axis]

    def at(start: int, stop: int) -> Any:
        return f[(*(slice(None),) * axis, slice(start, stop))]

    middle = (at(2, n) - at(0, n - 2)) / (
        2.0 * h
    )  # in the order of NumPy's operations: the same values to the last bit
    if edge_order == 2:
        first = (-1.5 / h) * at(0, 1) + (2.0 / h) * at(1, 2) + (-0.5 / h) * at(2, 3)
        last = (0.5 / h) * at(n - 3, n - 2) + (-2.0 / h) * at(n - 2, n - 1) + (1.5 / h) * at(n - 1, n)
    else:
        first, last = (at(1, 2) - at(0, 1)) / h, (at(n - 1, n) - at(n - 2, n - 1)) / h
    return ops.concat([first, middle, last], axis)


def _uneven_slopes(f: Any, h: Any, axis: int, edge_order: int) -> Any:
    """Of the parabola through three neighbours; at the ends of order 1, of the line through two."""
    pre, n = (slice(None),) * axis, f.shape[axis]
    h = prim.reshape(ops.diff(h), tuple(-1 if i == axis else 1 for i in range(f.ndim)))
    slopes = ops.diff(f, axis=axis) / h
    before, after = slopes[(*pre, slice(None, -1))], slopes[(*pre, slice(1, None))]
    here, there = h[(*pre, slice(None, -1))], h[(*pre, slice(1, None))]
    middle = (before * there + after * here) / (here + there)
    first, last = slopes[(*pre, slice(0, 1))], slopes[(*pre, slice(n - 2, n - 1))]
    if edge_order == 2:  # a line between two points has the mean of a parabola's slopes there
        first, last = 2 * first - middle[(*pre, slice(0, 1))], 2 * last - middle[(*pre, slice(n - 3, n - 2))]
    return ops.concat([first, middle, last], axis)


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
        return ops.conj(ops.flip(ops.correlate(v, a, mode)))
    return ops.convolve(a, ops.conj(ops.flip(v)), mode)


@op
def linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None,
             axis: int = 0, *, device: Any = None) -> Any:  # fmt: skip
    only(start, stop, dtype=dtype)
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
    out = ops.moveaxis(out, 0, axis) if axis else out
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


@op
def histogram(a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None) -> Any:
    """Of plain numbers with traced weights; counts of traced numbers are constants, where the bins are."""
    if has_tracer(bins):
        refuse("np.histogram with bins that depend on x", bins)
    if has_tracer(a):
        if (isinstance(bins, int | str) and range is None) or has_tracer(weights) or density:
            refuse("np.histogram of traced numbers with bins that follow them; pass their edges as bins=", a)
        note("histogram", first_traced([a]))
        return raw.histogram(plain(array(a)), bins, range, weights)
    places, inside, edges = raw.bins_of(a, bins, range)
    weights = ops.where(inside, prim.reshape(weights, (-1,)), 0.0)
    counts = prim.scatter(weights, places, shape=(edges.shape[0] - 1,))
    return (counts / (edges[1:] - edges[:-1]) / ops.sum(counts) if density else counts), edges
