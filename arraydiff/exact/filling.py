"""Composites that make arrays to be filled, and fill them."""

from __future__ import annotations

from typing import Any

from arraydiff.backends import raw
from arraydiff.exact.reductions import array, first_traced, only, op
from arraydiff.exact.trace import Tracer, has_tracer, ops, plain, prim, refuse


@op
def pad(array: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0, **options: Any) -> Any:
    """By an index for each axis that padding with np.arange gives; constants are written around."""
    only(array, **options)
    x, widths = array, raw.pad_widths(pad_width, array.ndim)
    if mode == "constant":
        if not isinstance(constant_values, int | float):
            refuse("np.pad with several constants", array)
        shape = tuple(s + a + b for s, (a, b) in zip(x.shape, widths, strict=True))
        inside = tuple(slice(a, a + s) for s, (a, _) in zip(x.shape, widths, strict=True))
        around = raw.zeros(shape, x.dtype, plain(x)) + raw.as_dtype(constant_values, plain(x))
        return prim.setitem(around, x, index=inside)
    if mode not in ("edge", "wrap", "reflect", "symmetric"):
        refuse(f"np.pad with mode={mode!r}", array)
    for axis, ends in enumerate(widths):
        x = x[(*(slice(None),) * axis, raw.padded_places(x.shape[axis], ends, mode, plain(x)))]
    return x


@op
def lifted(held: Any) -> Any:
    """An array of objects of ours as one traced array."""
    parts = [ops.reshape(array(one, first_traced(raw.entries(held))), (1,)) for one in raw.entries(held)]
    return prim.reshape(prim.concat(*parts, axis=0), held.shape)


@op
def apply_along_axis(func1d: Any, axis: int, arr: Any, *args: Any, **options: Any) -> Any:
    x = ops.moveaxis(arr, axis, -1)
    rows = prim.reshape(x, (-1, x.shape[-1]))
    made = ops.stack([func1d(row, *args, **options) for row in rows])
    made = prim.reshape(made, (*x.shape[:-1], *made.shape[1:]))
    return ops.moveaxis(made, -1, axis) if made.ndim == x.ndim else made


def _constants(name: str) -> None:
    def created(x: Any, *args: Any, dtype: Any = None, **options: Any) -> Any:
        """An array that f may fill with traced values."""
        if has_tracer(args) or has_tracer(tuple(options.values())):
            filling = args[0] if args else options["fill_value"]
            return ops.zeros_like(x, dtype=dtype) + filling
        made = getattr(raw.namespace_of(plain(x)), name)(plain(x), *args, dtype=dtype, **options)
        return ops.constant(x, made)

    setattr(ops, name, created)


for _name in ("zeros_like", "ones_like", "empty_like", "full_like"):
    _constants(_name)


@op
def constant(x: Any, value: Any) -> Any:
    """A plain array on the level of x, so that what is traced can be written into it."""
    if type(x) is not Tracer or raw.kind(value.dtype) not in raw.SIMPLEST or not x.home.live:
        return value
    trace = x.home
    if trace.tape is None:
        return Tracer(trace, value, raw.zeros(value.shape, value.dtype, value), None)
    node = next(trace.count)
    trace.tape[node] = (prim.positive, (None,), (value,), value, {})
    trace.hold(value)
    return Tracer(trace, value, node, None)


@op
def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    if not has_tracer(a) or a.ndim != 2:
        refuse("np.fill_diagonal of an array that does not depend on x, or with more than two axes", a, val)
    flat, cols = ops.positive(ops.ravel(ops.positive(a))), a.shape[1]
    flat[slice(0, None if wrap else cols * cols, cols + 1)] = val
    a[...] = prim.reshape(flat, a.shape)


@op
def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    if not has_tracer(dst):
        refuse("np.copyto into an array that does not depend on x; fill np.zeros_like(x)", src)
    dst[...] = src if where is True else ops.where(where, src, dst)


@op
def putmask(a: Any, mask: Any, values: Any) -> None:
    values = array(values, a)
    if not has_tracer(a) or (values.size != 1 and values.shape != a.shape):
        refuse("np.putmask into an array that does not depend on x, or of values that are repeated", a, values)
    a[...] = ops.where(mask, values, a)


@op
def place(arr: Any, mask: Any, vals: Any) -> None:
    if not has_tracer(arr) or array(vals, arr).size != 1:
        refuse("np.place into an array that does not depend on x, or of several values", arr, vals)
    ops.putmask(arr, mask, vals)


@op
def put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    only(a, v, mode=None if mode == "raise" else mode)
    if not has_tracer(a):
        refuse("np.put into an array that does not depend on x; fill np.zeros_like(x)", v)
    flat = ops.positive(ops.ravel(ops.positive(a)))
    flat[array(ind, plain(a))] = v
    a[...] = prim.reshape(flat, a.shape)


@op
def add_at(a: Any, index: Any, values: Any) -> None:
    """np.add.at: an index may occur more than once."""
    if not has_tracer(a) or has_tracer(index):
        refuse("np.add.at into an array that does not depend on x; fill np.zeros_like(x)", a, values)
    index, values = raw.as_index(index), array(values, a)
    values = prim.broadcast_to(values * 1.0, plain(a)[index].shape)
    a[...] = a + prim.scatter(values, index, shape=a.shape)


ops.subtract_at = lambda a, index, values: ops.add_at(a, index, -1.0 * array(values, a))
