"""Composites that move or pick entries."""

from __future__ import annotations

from typing import Any

from arraydiff.backends import raw
from arraydiff.exact.primitives import lock
from arraydiff.exact.reductions import UNSET, array, cast, first_traced, in_a_row, only, op
from arraydiff.exact.trace import has_tracer, note, ops, plain, prim, refuse


@op
def reshape(x: Any, /, shape: Any = None, order: str = "C", *, newshape: Any = None, copy: Any = None) -> Any:
    only(x, order=None if order in ("C", "A", "K") else order)
    shape = newshape if shape is None else shape
    return prim.reshape(x, tuple(shape) if isinstance(shape, list | tuple) else (shape,))


@op
def ravel(x: Any, order: str = "C") -> Any:
    return ops.reshape(array(x), (-1,), order)


@op
def permute_dims(x: Any, axes: Any = None) -> Any:
    return prim.permute_dims(x, tuple(reversed(range(x.ndim))) if axes is None else tuple(axes))


@op
def broadcast_to(x: Any, shape: Any, subok: bool = False) -> Any:
    return prim.broadcast_to(array(x), tuple(shape) if isinstance(shape, list | tuple) else (shape,))


@op
def broadcast_arrays(*arrays: Any, subok: bool = False) -> Any:
    arrays = tuple(array(one, first_traced(arrays)) for one in arrays)
    shape = raw.broadcast_shapes(*(one.shape for one in arrays))
    return tuple(ops.broadcast_to(one, shape) for one in arrays)


@op
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    old, new = (
        [a % x.ndim for a in (axes if isinstance(axes, list | tuple) else (axes,))] for axes in (source, destination)
    )
    order = [i for i in range(x.ndim) if i not in old]
    for to, came in sorted(zip(new, old, strict=True)):
        order.insert(to, came)
    return prim.permute_dims(x, tuple(order))


@op
def rollaxis(x: Any, axis: int, start: int = 0) -> Any:
    axis, start = axis % x.ndim, start + x.ndim if start < 0 else start
    return ops.moveaxis(x, axis, start - (axis < start))


@op
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return prim.permute_dims(x, tuple(order))


@op
def matrix_transpose(x: Any) -> Any:
    return ops.swapaxes(x, -1, -2)


@op
def adjoint(x: Any) -> Any:
    """Transposed and conjugated."""
    return ops.conj(ops.matrix_transpose(x))


@op
def expand_dims(x: Any, axis: Any = 0) -> Any:
    axes = axis if isinstance(axis, tuple) else (axis,)
    ndim = x.ndim + len(axes)
    places, rest = {a % ndim for a in axes}, iter(x.shape)
    return prim.reshape(x, tuple(1 if i in places else next(rest) for i in range(ndim)))


@op
def squeeze(x: Any, axis: Any = None) -> Any:
    ones = [i for i, s in enumerate(x.shape) if s == 1]
    axes = ones if axis is None else [a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))]
    if not set(axes) <= set(ones):
        raise ValueError("cannot squeeze an axis whose length is not 1: leave it out of axis")
    return prim.reshape(x, tuple(s for i, s in enumerate(x.shape) if i not in axes))


def at_least(x: Any, ndim: int) -> Any:
    """With axes of one entry in front, or around."""
    x = array(x)
    if x.ndim >= ndim:
        return x
    return prim.reshape(x, {1: (1,), 2: (1, *x.shape)[-2:] if x.ndim else (1, 1), 3: _three(x.shape)}[ndim])


def _three(shape: tuple[int, ...]) -> tuple[int, ...]:
    return {0: (1, 1, 1), 1: (1, *shape, 1), 2: (*shape, 1)}[len(shape)] if len(shape) < 3 else shape


def _several(ndim: int) -> Any:
    def lifted(*arrays: Any) -> Any:
        found = tuple(at_least(one, ndim) for one in arrays)
        return found[0] if len(found) == 1 else found

    return lifted


ops.atleast_1d, ops.atleast_2d, ops.atleast_3d = _several(1), _several(2), _several(3)


@op
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    bare = plain(x)
    dtype = raw.dtype_of(dtype, bare)
    wanted, here = raw.kind(dtype), raw.kind(bare.dtype)
    if wanted in "biu":
        note(f"astype({dtype})", x)
        return raw.namespace_of(bare).astype(bare, dtype)
    if wanted not in "fc" or (wanted == "f" and here == "c"):
        refuse(f"astype({dtype}) of {bare.dtype}", x)
    if bare.dtype == dtype:
        return ops.positive(x) if copy else x
    if raw.is_narrower(dtype, bare):
        note(f"a cast to {dtype}", x)  # the derivative is right to the digits of that
    return prim.astype(x, dtype=dtype)


@op
def copy(x: Any, order: Any = "K", subok: bool = False) -> Any:
    return ops.positive(array(x))


@op
def flip(x: Any, axis: Any = None) -> Any:
    return prim.flip(array(x), axis=tuple(range(x.ndim)) if axis is None else axis)


ops.flipud, ops.fliplr = lambda m: ops.flip(m, 0), lambda m: ops.flip(m, 1)


@op
def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    for _ in range(k % 4):
        m = ops.flip(ops.swapaxes(m, *axes), axes[0])
    return m


@op
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    steps = ops.diff(ops.ravel(ary))
    ends = [ops.ravel(array(one, steps)) for one in (to_begin, to_end) if one is not None]
    return ops.concat([*ends[: to_begin is not None], steps, *ends[to_begin is not None :]]) if ends else steps


@op
def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    if axis is None:
        return prim.reshape(ops.roll(prim.reshape(x, (-1,)), shift, 0), x.shape)
    if isinstance(axis, tuple):
        shifts = shift if isinstance(shift, tuple) else (shift,) * len(axis)
        for one, along in zip(shifts, axis, strict=True):
            x = ops.roll(x, one, along)
        return x
    axis %= x.ndim
    pre, start = (slice(None),) * axis, -shift % max(x.shape[axis], 1)
    return prim.concat(x[(*pre, slice(start, None))], x[(*pre, slice(None, start))], axis=axis)


@op
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = UNSET, append: Any = UNSET) -> Any:
    ends = [_edge(end, a, axis) for end in (prepend, append)]
    if ends != [None, None]:
        a = ops.concat([one for one in (ends[0], a, ends[1]) if one is not None], axis)
    pre = (slice(None),) * (axis % a.ndim)
    for _ in range(n):
        a = a[(*pre, slice(1, None))] - a[(*pre, slice(None, -1))]
    return a


def _edge(end: Any, x: Any, axis: int) -> Any:
    if end is UNSET or end is None:
        return None
    end = array(end, x)
    return (
        end
        if end.ndim
        else prim.broadcast_to(end, tuple(1 if i == axis % x.ndim else s for i, s in enumerate(x.shape)))
    )


@op
def take(a: Any, indices: Any, /, axis: Any = None, out: Any = None, mode: Any = None) -> Any:
    only(a, out=out)
    a, axis = in_a_row(a, axis)
    places = indices if hasattr(indices, "shape") else array(indices, a)
    if mode in ("clip", "wrap"):
        n = a.shape[axis]
        places = raw.between(places, 0, n - 1) if mode == "clip" else places % n
    return a[(*(slice(None),) * axis, places)]


@op
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    arr, axis = in_a_row(arr, axis)
    return arr[_places_along(arr, indices, axis)]


def _places_along(arr: Any, indices: Any, axis: int) -> tuple[Any, ...]:
    space, ndim = raw.namespace_of(plain(arr)), arr.ndim
    grid = [
        space.reshape(space.arange(s, device=raw.device(plain(arr))), (1,) * i + (s,) + (1,) * (ndim - 1 - i))
        for i, s in enumerate(arr.shape)
    ]
    grid[axis] = plain(indices)
    return tuple(grid)


@op
def put_along_axis(arr: Any, indices: Any, values: Any, axis: Any) -> None:
    if not has_tracer(arr) or axis is None:
        refuse("np.put_along_axis into an array that does not depend on x, or without an axis", arr, values)
    arr[_places_along(arr, indices, axis % arr.ndim)] = values


@op
def compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    only(a, out=out)
    return ops.take(a, ops.flatnonzero(array(condition, a)), axis)


@op
def extract(condition: Any, arr: Any) -> Any:
    return prim.reshape(arr, (-1,))[plain(ops.ravel(condition))]


@op
def delete(arr: Any, obj: Any, axis: Any = None) -> Any:
    arr, axis = in_a_row(arr, axis)
    return arr[(*(slice(None),) * axis, raw.all_but(arr.shape[axis], obj, plain(arr)))]


@op
def insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    if not isinstance(obj, int):
        refuse("np.insert at several places", arr, values)
    arr, axis = in_a_row(arr, axis)
    pre, n = (slice(None),) * axis, arr.shape[axis]
    obj = obj + n if obj < 0 else obj
    values = array(values, arr)
    if values.ndim < arr.ndim:
        whole = prim.broadcast_to(values, tuple(s for i, s in enumerate(arr.shape) if i != axis)) if values.ndim == 0 or (
            arr.ndim > 1) else values  # fmt: skip
        values = ops.expand_dims(whole, axis) if whole.ndim < arr.ndim else whole
    return ops.concat([arr[(*pre, slice(0, obj))], cast(values, arr.dtype), arr[(*pre, slice(obj, None))]], axis)


@op
def repeat(x: Any, repeats: Any, axis: Any = None, total_repeat_length: Any = None) -> Any:
    x, axis = in_a_row(x, axis)
    return x[(*(slice(None),) * axis, raw.repeated(x.shape[axis], plain(repeats), plain(x)))]


@op
def tile(A: Any, reps: Any) -> Any:
    reps = tuple(reps) if isinstance(reps, list | tuple) else (reps,)
    shape = (1,) * (len(reps) - A.ndim) + tuple(A.shape)
    reps = (1,) * (len(shape) - len(reps)) + reps
    apart = prim.reshape(A, tuple(part for s in shape for part in (1, s)))
    spread = prim.broadcast_to(apart, tuple(part for r, s in zip(reps, shape, strict=True) for part in (r, s)))
    return prim.reshape(spread, tuple(r * s for r, s in zip(reps, shape, strict=True)))


@op
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """NumPy's is a view always."""
    found = ops.on_diagonal(x, offset, axis1, axis2)
    if raw.is_host(plain(x)) and not raw.shares_memory(plain(found), plain(x)):
        lock(x, "an array that np.diagonal has been taken of")
    return found


@op
def on_diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """A slice of the entries in a row, which is a view where those are one."""
    x = ops.moveaxis(x, (axis1, axis2), (-2, -1))
    rows, cols = x.shape[-2:]
    size = max(0, min(rows, cols - offset) if offset >= 0 else min(rows + offset, cols))
    start = offset if offset >= 0 else -offset * cols
    flat = prim.reshape(x, (*x.shape[:-2], rows * cols))
    return flat[(..., slice(start, start + (size - 1) * (cols + 1) + 1, cols + 1) if size else slice(0, 0))]


@op
def diag(v: Any, k: int = 0) -> Any:
    if v.ndim == 2:
        return ops.diagonal(v, k)
    m, n = v.shape[0], v.shape[0] + abs(k)
    start = k if k >= 0 else -k * n
    places = slice(start, start + (m - 1) * (n + 1) + 1, n + 1) if m else slice(0, 0)
    return prim.reshape(prim.scatter(v, places, shape=(n * n,)), (n, n))


ops.diagflat = lambda v, k=0: ops.diag(ops.ravel(v), k)
ops.tril = lambda m, /, k=0: prim.tril(m, k=k)
ops.triu = lambda m, /, k=0: prim.triu(m, k=k)
ops.trace = lambda x, /, offset=0, axis1=0, axis2=1, dtype=None: ops.sum(
    ops.on_diagonal(x, offset, axis1, axis2), axis=-1, dtype=dtype
)
