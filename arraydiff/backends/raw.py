"""What tracing asks about plain arrays, beneath every tracer: their library, their memory, their indices."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import array_api_compat
import numpy as np

from arraydiff._typing import Array, Namespace
from arraydiff.backends import backend_of

NUMBERS = frozenset({int, float, complex, bool})
"""Python's own; they take the dtype of what they meet."""

NUMPY_NUMBERS: frozenset[type] = frozenset(one for one in np.sctypeDict.values() if np.dtype(one).kind in "biufc")
HOST: frozenset[type] = frozenset({np.ndarray, *NUMPY_NUMBERS})
"""By identity: a subclass of ndarray may mean something else by ``*`` or by an index."""

BASIC = (int, slice, type(None), type(...), np.integer)
"""Indices that make views."""

SIMPLEST = "fc"  # kinds of dtypes that have derivatives

_numpy: Namespace = np if hasattr(np, "astype") else array_api_compat.array_namespace(np.zeros(0))
NAMESPACES: dict[type, Namespace] = dict.fromkeys(HOST, _numpy)


def namespace_of(*values: Any) -> Namespace:
    """The namespace of the first array among plain values; NumPy where there are only numbers."""
    for value in values:
        found = NAMESPACES.get(type(value)) or (None if type(value) in NUMBERS else _learnt(value))
        if found is not None:
            return found
    return _numpy


def _learnt(value: Any) -> Namespace | None:
    if isinstance(value, np.ndarray | np.generic) or not array_api_compat.is_array_api_obj(value):
        return None
    backend = backend_of([value])
    if backend.is_lazy:  # a look at a value would compute the whole graph
        return None
    return NAMESPACES.setdefault(type(value), backend.xp)


def is_plain(value: Any) -> bool:
    """Whether tracing knows what arithmetic with this operand means."""
    kind = type(value)
    return kind in NUMBERS or kind in NAMESPACES or _learnt(value) is not None


def is_host(value: Any) -> bool:
    """Whether a plain value is of NumPy."""
    return type(value) in HOST


def is_number(value: Any) -> bool:
    """Whether a plain value is a scalar of NumPy, which ``+=`` replaces and does not change."""
    return type(value) in NUMPY_NUMBERS


def numpy_number(value: Any) -> Any:
    """A number of Python's as one of NumPy's, which has a shape and a dtype."""
    return np.asarray(value)[()]


def is_narrower(dtype: Any, like: Array) -> bool:
    """Whether a cast of an array to this dtype loses digits."""
    space = namespace_of(like)
    return bool(space.finfo(dtype).eps > space.finfo(like.dtype).eps)


def gives_number(array: Any) -> bool:
    """Whether x[i] is a scalar of NumPy, and so no view."""
    return type(array) is np.ndarray and array.ndim == 1


def is_mutable(value: Any) -> bool:
    """Whether arrays of this library are changed by ``+=``."""
    return is_host(value) or not backend_of([value]).immutable


def holds_objects(value: Any) -> bool:
    """Whether it is an array of objects, as np.array([x[0], x[1]]) makes of traced numbers."""
    return type(value) is np.ndarray and value.dtype == object


def object_array(values: list[Any], shape: tuple[int, ...]) -> Any:
    """An array of objects: what np.array(x) is told that a traced x holds."""
    held = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):  # one by one: a slice would ask each for an array
        held[i] = value
    return held.reshape(shape)


def entries(held: Any) -> list[Any]:
    """What an array of objects holds, in order."""
    return list(held.ravel())


def kept(value: Any) -> Any:
    """The value as it is now, whatever f makes of its buffer later."""
    kind = type(value)
    if kind is np.ndarray:
        return value.copy() if value.flags.writeable else value
    if kind in NUMBERS or kind in HOST:
        return value
    if kind is tuple or kind is list:
        return kind(map(kept, value))
    return backend_of([value]).copy(value) if kind in NAMESPACES else value


def taken(value: Any, *, copy: bool) -> Any:
    """A plain operand, copied where asked for; None of what needs more than one look: lists, objects, other libraries."""
    if type(value) is np.ndarray:
        if value.dtype == object:
            return None
        return value.copy() if copy and value.flags.writeable else value
    return value if type(value) in NUMPY_NUMBERS else None


def total(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    """The sum; of NumPy without its wrapper, which takes longer than a short sum."""
    if type(x) is np.ndarray:
        return np.add.reduce(x, axis=axis, keepdims=keepdims)  # type: ignore[call-overload]
    return namespace_of(x).sum(x, axis=axis, keepdims=keepdims)


def reshape(x: Array, shape: tuple[int, ...]) -> Any:
    """The same entries; of NumPy without its wrapper."""
    return x.reshape(shape) if is_host(x) else namespace_of(x).reshape(x, shape)


def shares_memory(part: Array, whole: Array) -> bool | None:
    """Whether what is written into the one can be seen in the other; None where the library does not tell."""
    if is_host(whole):
        return type(part) is np.ndarray and bool(np.may_share_memory(part, whole))
    return None if is_mutable(whole) else False


def is_basic(index: Any) -> bool:
    """Whether an index takes a view."""
    if type(index) is tuple:
        return all(map(is_basic, index))
    return isinstance(index, BASIC) and type(index) is not bool


def picks_once(index: Any, shape: tuple[int, ...]) -> bool:
    """Whether an index of NumPy picks no entry twice: then what is written through it is what is read there."""
    if is_basic(index):
        return True
    places = np.arange(np.prod(shape, dtype=int)).reshape(shape)[index]
    return bool(np.unique(places).size == places.size)


def as_index(index: Any) -> Any:
    """An index as it is now; lists become arrays."""
    if type(index) is tuple:
        return tuple(map(as_index, index))
    return np.asarray(index) if isinstance(index, list) else kept(index)


def getitem(array: Array, index: Any) -> Any:
    """x[index], also of a scalar of NumPy."""
    return array[_complete(index, array)]


def setitem(array: Array, index: Any, value: Any) -> Any:
    """A new array with entries replaced, laid out in memory as the old one."""
    new = np.array(array, order="K") if is_host(array) else backend_of([array]).copy(array)
    new[_complete(index, array)] = value
    return new


def _complete(index: Any, array: Array) -> Any:
    """An index of some axes as one of all, where the library wants that said."""
    if type(index) is not tuple or is_host(array) or any(one is ... for one in index):
        return index
    return (*index, ...) if sum(one is not None for one in index) < array.ndim else index


def zeros(shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
    """Zeros where `like` lies."""
    if is_host(like):
        return np.zeros(shape, dtype)
    return namespace_of(like).zeros(shape, dtype=dtype, device=array_api_compat.device(like))


def add_at(array: Array, index: Any, values: Array) -> bool:
    """Add into an array of ours at places that may repeat; False where the library has no way to."""
    index = _complete(index, array)
    if is_basic(index):
        if type(index) is tuple and None in index and not is_host(array):  # the standard does not write at None
            index = tuple(one for one in index if one is not None)
            values = namespace_of(array).reshape(values, array[index].shape)
        array[index] += values
    elif is_host(array):
        np.add.at(array, index, values)
    elif hasattr(array, "index_put_"):  # PyTorch
        places = index if isinstance(index, tuple) else (index,)
        if not all(hasattr(place, "dtype") for place in places):
            return False
        array.index_put_(places, values, accumulate=True)
    elif array_api_compat.is_cupy_array(array):
        import cupyx

        cupyx.scatter_add(array, index, values)
    else:
        return False
    return True


def kind(dtype: Any) -> str:
    """As NumPy abbreviates: f real, c complex, b boolean, i and u integer, O objects."""
    known: str | None = getattr(dtype, "kind", None)
    if known is not None:
        return known
    name = str(dtype).rpartition(".")[2]
    return "f" if name.startswith(("float", "bfloat", "half", "double")) else name[0]


def as_complex(value: Array) -> Array:
    """A real array as a complex one, in a library whose Fourier transforms want that; NumPy's do not."""
    if is_host(value) or kind(value.dtype) == "c":
        return value
    space = namespace_of(value)
    return space.astype(value, space.complex64 if space.finfo(value.dtype).bits < 64 else space.complex128)


def dtype_of(dtype: Any, like: Array) -> Any:
    """A dtype as the library of `like` names it: NumPy takes `float` and "f4" too."""
    return np.dtype(dtype) if is_host(like) else dtype


def class_of(value: Any) -> type | None:
    """What isinstance should say of an array that stands for this one."""
    return type(value) if type(value) in HOST else None


def any_of(flags: Any) -> Any:
    """Whether any is true: a boolean, or an array of no axes where only the device knows."""
    if type(flags) in HOST:
        return flags.any()
    return flags if type(flags) is bool else namespace_of(flags).any(flags)


def weights(shape: tuple[int, ...], like: Array, which: int) -> Array:
    """Positive numbers whose sums and differences do not cancel, always the same for a `which`, where `like` lies."""
    found: Any = np.random.Generator(np.random.PCG64((20261129, which))).uniform(1.0, 2.0, shape)
    if kind(like.dtype) == "c":
        found = found * (1 + 0.618j)
    found = np.asarray(found)
    return found.astype(like.dtype) if is_host(like) else backend_of([like]).asarray(found, like.dtype)


def fitted(mask: Any, like: Array) -> Array:
    """A mask that was broadcast, as 0 and 1 of the shape and dtype of an array: 1 where any of an entry's is true."""
    lead = len(mask.shape) - len(like.shape)
    space = namespace_of(mask)
    if lead < 0:
        return fitted(space.reshape(mask, (*(1,) * -lead, *mask.shape)), like)
    axes = (*range(lead), *(lead + i for i, s in enumerate(like.shape) if s == 1))
    flags = space.reshape(space.any(mask, axis=axes), like.shape) if axes else space.broadcast_to(mask, like.shape)
    return space.astype(flags, like.dtype)


def quietly() -> Any:
    """Entered where derivatives that do not exist are computed."""
    return np.errstate(all="ignore")


def any_along(mask: Any, axis: Any, keepdims: bool) -> Any:
    """Whether any is true along axes."""
    return namespace_of(mask).any(mask, axis=axis, keepdims=keepdims)


def sign_and_logabsdet(array: Array) -> Any:
    """As the library gives it."""
    return namespace_of(array).linalg.slogdet(array)


def array(value: Any, like: Any = None) -> Array:
    """A number or a list as an array of the library of `like`."""
    if like is None or is_host(like) or type(like) in NUMBERS:
        return np.asarray(value)
    return backend_of([like]).asarray(value, like.dtype if isinstance(value, float) else None)


def device(like: Array) -> Any:
    """Where it lies; None on the host, which has one."""
    return None if is_host(like) else array_api_compat.device(like)


def as_dtype(number: Any, like: Array) -> Any:
    """A number of Python's, in the kind of dtype of an array: 0.5 is 0 among integers."""
    return int(number) if kind(like.dtype) in "iu" else number


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """What arrays of these shapes have together."""
    return tuple(np.broadcast_shapes(*shapes))


def between(array: Array, low: int, high: int) -> Array:
    """Indices kept in a range."""
    space = namespace_of(array)
    return space.clip(array, low, high)


def counted(size: int, like: Array) -> Array:
    """0, 1, ..., where `like` lies."""
    return np.arange(size) if is_host(like) else namespace_of(like).arange(size, device=device(like))


def all_but(size: int, places: Any, like: Array) -> Any:
    """Indices along an axis but these, as np.delete takes them."""
    return _indices(np.delete(np.arange(size), places), like)


def repeated(size: int, repeats: Any, like: Array) -> Any:
    """Indices along an axis, each so many times."""
    return _indices(np.repeat(np.arange(size), np.asarray(repeats)), like)


def padded_places(size: int, ends: tuple[int, int], mode: Any, like: Array) -> Any:
    """Indices along an axis, continued as np.pad does."""
    return _indices(np.pad(np.arange(size), ends, mode=mode), like)


def pad_widths(widths: Any, ndim: int) -> list[tuple[int, int]]:
    """One pair an axis."""
    return [(int(a), int(b)) for a, b in np.broadcast_to(np.asarray(widths), (ndim, 2))]


def grid(n: int, m: int, like: Array) -> tuple[Array, Array]:
    """Row and column of every entry."""
    i, j = np.indices((n, m))
    return _indices(i, like), _indices(j, like)


def _indices(places: Any, like: Array) -> Any:
    return places if is_host(like) else backend_of([like]).asarray(places)


def histogram(values: Any, bins: Any, within: Any, weights: Any) -> Any:
    """As NumPy."""
    return np.histogram(values, bins, within, weights=weights)


def bins_of(values: Any, bins: Any, within: Any) -> tuple[Any, Any, Any]:
    """Into which bin each of some numbers goes, whether it goes into one, and the edges."""
    values = np.ravel(values)
    edges = np.histogram_bin_edges(values, bins, within)
    places = np.searchsorted(edges, values, side="right") - 1
    places[values == edges[-1]] = edges.size - 2  # the last bin has both of its edges
    inside = (places >= 0) & (places < edges.size - 1)
    return np.where(inside, places, 0), inside, edges


def largest(array: Any) -> int:
    """The largest of some indices; -1 of none."""
    return int(np.max(array, initial=-1))


def rank(matrix: Array) -> Any:
    """How many singular values are not 0 to rounding."""
    return np.linalg.matrix_rank(matrix) if is_host(matrix) else namespace_of(matrix).linalg.matrix_rank(matrix)


def nan_to_num(array: Array, nan: float, posinf: Any, neginf: Any) -> Array:
    """What takes the place of numbers that are not finite."""
    if is_host(array):
        return np.nan_to_num(array, nan=nan, posinf=posinf, neginf=neginf)
    space, largest = namespace_of(array), namespace_of(array).finfo(array.dtype).max
    low, high = -largest if neginf is None else neginf, largest if posinf is None else posinf
    infinite = space.isinf(array)
    fixed = space.where(infinite & (array > 0), high, space.where(infinite, low, array))
    return space.where(space.isnan(array), nan, fixed)


def periods(array: Array, discont: Any, axis: int, period: float) -> Array:
    """The whole periods that np.unwrap adds."""
    if is_host(array):
        return np.unwrap(array, discont=discont, axis=axis, period=period) - array
    space, axis = namespace_of(array), axis % array.ndim
    pre = (slice(None),) * axis
    steps = array[(*pre, slice(1, None), ...)] - array[(*pre, slice(None, -1), ...)]
    wrapped = steps + period / 2 - space.floor((steps + period / 2) / period) * period - period / 2
    wrapped = space.where((wrapped == -period / 2) & (steps > 0), period / 2, wrapped)
    jumps = space.where(space.abs(steps) < (period / 2 if discont is None else discont), 0.0, wrapped - steps)
    return space.concat([0 * array[(*pre, slice(0, 1), ...)], space.cumulative_sum(jumps, axis=axis)], axis=axis)


EighResult = namedtuple("EighResult", ["eigenvalues", "eigenvectors"])
SlogdetResult = namedtuple("SlogdetResult", ["sign", "logabsdet"])
SVDResult = namedtuple("SVDResult", ["U", "S", "Vh"])
QRResult = namedtuple("QRResult", ["Q", "R"])
RESULTS: dict[str, Any] = {one.__name__: one for one in (EighResult, SlogdetResult, SVDResult, QRResult)}


def named(result: str, *parts: Any) -> Any:
    """Several results, with the names that the standard gives them."""
    return RESULTS[result](*parts)
