"""Composites that join arrays, and take them apart."""

from __future__ import annotations

from typing import Any

from arraydiff.exact.reductions import array, cast, first_traced, only, op
from arraydiff.exact.shapes import at_least
from arraydiff.exact.trace import ops, prim


@op
def concat(arrays: Any, /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: Any = None) -> Any:
    only(*arrays, out=out)
    arrays = [cast(array(one, first_traced(arrays)), dtype) for one in arrays]
    if axis is None:
        arrays, axis = [prim.reshape(one, (-1,)) for one in arrays], 0
    if not 0 <= axis < arrays[0].ndim:
        axis = range(arrays[0].ndim)[axis]
    return prim.concat(*arrays, axis=axis)


@op
def stack(arrays: Any, /, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: Any = None) -> Any:
    arrays = list(arrays)
    arrays = [array(one, first_traced(arrays)) for one in arrays]
    return ops.concat([ops.expand_dims(one, axis) for one in arrays], axis, out, dtype=dtype)


@op
def vstack(tup: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    return ops.concat([at_least(array(one, first_traced(tup)), 2) for one in tup], 0, dtype=dtype)


@op
def hstack(tup: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    arrays = [at_least(array(one, first_traced(tup)), 1) for one in tup]
    return ops.concat(arrays, 1 if arrays[0].ndim > 1 else 0, dtype=dtype)


@op
def dstack(tup: Any) -> Any:
    return ops.concat([at_least(array(one, first_traced(tup)), 3) for one in tup], 2)


@op
def column_stack(tup: Any) -> Any:
    arrays = [array(one, first_traced(tup)) for one in tup]
    return ops.concat([prim.reshape(one, (-1, 1)) if one.ndim < 2 else one for one in arrays], 1)


@op
def append(x: Any, values: Any, axis: Any = None) -> Any:
    return ops.concat([array(x, values), array(values, x)], axis)


@op
def block(arrays: Any) -> Any:
    depth = 1 if not isinstance(arrays[0], list) else 2
    if depth == 1:
        return ops.hstack(arrays)
    return ops.concat(
        [ops.concat([at_least(array(one, first_traced(arrays)), 2) for one in row], -1) for row in arrays], -2
    )


@op
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    n, parts = x.shape[axis], indices_or_sections
    if isinstance(parts, int):
        each, more = divmod(n, parts)
        cuts = [each * i + min(i, more) for i in range(1, parts)]
    else:
        cuts = list(parts)
    pre = (slice(None),) * (axis % x.ndim)
    return [x[(*pre, slice(a, b))] for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


@op
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    if isinstance(indices_or_sections, int) and x.shape[axis] % indices_or_sections:
        raise ValueError("np.split needs a length that the number of parts divides; take np.array_split")
    return ops.array_split(x, indices_or_sections, axis)


ops.hsplit = lambda x, n: ops.split(x, n, 1 if x.ndim > 1 else 0)
ops.vsplit = lambda x, n: ops.split(x, n, 0)
ops.dsplit = lambda x, n: ops.split(x, n, 2)
ops.unstack = lambda x, /, *, axis=0: tuple(ops.moveaxis(x, axis, 0))
