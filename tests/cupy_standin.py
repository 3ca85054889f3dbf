"""A CPU stand-in for CuPy, backed by NumPy, that is as strict as a GPU is unforgiving.

Inside `installed()` a module named ``cupy`` exists, which `array_api_compat.array_namespace` wraps as it wraps CuPy, so
code under test takes the CuPy path. Reads by the host land in `machine.syncs` and raise `HiddenSync` in `no_sync()`;
launches, uploads and bytes are counted; `machine.limit` makes allocations fail; kernels must run on the current device;
complex functions have the gaps and the power of CuPy 14.2.
"""

from __future__ import annotations

import contextlib
import operator
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

MISSING = frozenset(
    [
        "block",
        "geomspace",
        "insert",
        "nanpercentile",
        "nanquantile",
        "spacing",
        "unstack",
        "vecdot",
        "vecmat",
        "matvec",
        "linalg.vecdot",
        "linalg.diagonal",
        "linalg.matrix_norm",
        "linalg.multi_dot",
        "linalg.outer",
        "linalg.svdvals",
        "linalg.tensordot",
        "linalg.trace",
        "linalg.vector_norm",
    ]
)
NOT_OF_ARRAYS = frozenset(
    [
        "False_",
        "ScalarType",
        "True_",
        "asmatrix",
        "bmat",
        "busday_count",
        "busday_offset",
        "busdaycalendar",
        "bytes_",
        "character",
        "clongdouble",
        "complex256",
        "datetime64",
        "datetime_as_string",
        "datetime_data",
        "einsum_path",
        "errstate",
        "flexible",
        "float128",
        "frompyfunc",
        "fromregex",
        "get_include",
        "getbufsize",
        "geterr",
        "geterrcall",
        "histogram_bin_edges",
        "info",
        "is_busday",
        "isnat",
        "little_endian",
        "longdouble",
        "matrix",
        "memmap",
        "ndenumerate",
        "nditer",
        "nested_iters",
        "object_",
        "polyder",
        "polydiv",
        "polyint",
        "recarray",
        "record",
        "sctypeDict",
        "setbufsize",
        "seterr",
        "seterrcall",
        "show_runtime",
        "str_",
        "test",
        "timedelta64",
        "typecodes",
        "void",
    ]
)
"""Names of NumPy that CuPy has not, mostly of hosts: cupy_tests/ holds the list to a real CuPy."""
NOT_OF_AN_ARRAY = frozenset(["ctypes", "data", "getfield", "resize", "setfield", "setflags", "to_device"])
NO_COMPLEX_LOOP = frozenset(["logical_and", "logical_not", "logical_or", "logical_xor"])  # NumPy has one
NO_COMPLEX_KERNEL = frozenset(["arctan2", "atan2", "copysign", "hypot", "i0", "nextafter"])
SYNCING = frozenset(
    [
        "argwhere",
        "average",
        "bincount",
        "compress",
        "delete",
        "extract",
        "flatnonzero",
        "histogram",
        "nanmax",
        "nanmin",
        "nonzero",
        "unique",
        "unique_all",
        "unique_counts",
        "unique_inverse",
        "unique_values",
    ]
)
FROM_HOST = frozenset(["array", "asarray", "asanyarray", "ascontiguousarray"])
TAKES_LIST = FROM_HOST | frozenset(
    ["concatenate", "concat", "stack", "hstack", "vstack", "column_stack", "zeros", "ones", "empty", "full"]
)
ALLOCATION_UNIT = 512  # bytes; CuPy's pool rounds up to it


class HiddenSync(RuntimeError):
    """The host would have waited for the device."""


class OutOfMemoryError(MemoryError):
    """The device has no such block left."""


class CompileException(Exception):
    """A kernel has no overload for the dtype: a plain Exception, as CuPy's is."""


class Machine:
    """What the imaginary GPUs did; `limit` is in bytes a device, 0 means none."""

    def __init__(self) -> None:
        self.current = self.limit = self.launches = self.uploads = self.peak = 0
        self.used = [0, 0]
        self.syncs: list[str] = []
        self.outer: list[int] = []  # devices to go back to
        self.forbid_sync = False

    def sync(self, what: str) -> None:
        self.syncs.append(what)
        if self.forbid_sync:
            raise HiddenSync(f"{what} makes the host wait for the device")

    def new(self, host: np.ndarray) -> ndarray:
        """Memory on the current device that holds `host`."""
        size, device = -(-host.nbytes // ALLOCATION_UNIT) * ALLOCATION_UNIT, self.current
        if self.limit and self.used[device] + size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: {self.used[device]:,})")
        self.used[device] += size
        self.peak = max(self.peak, self.used[device])
        weakref.finalize(host, lambda: operator.setitem(self.used, device, self.used[device] - size))
        return ndarray(host, device)


machine = Machine()


@dataclass  # without a hash, as CuPy's
class Device:
    """cupy.cuda.Device: the current one where none is named."""

    id: Any = None

    def __post_init__(self) -> None:
        self.id = machine.current if self.id is None else getattr(self.id, "id", self.id)

    def __enter__(self) -> None:
        machine.outer.append(machine.current)  # a stack, as CuPy's: a device may be entered twice
        machine.current = self.id

    def __exit__(self, *_exc: object) -> None:
        machine.current = machine.outer.pop()

    @property
    def mem_info(self) -> tuple[int, int]:
        return (machine.limit or 2**34) - machine.used[self.id], machine.limit or 2**34


class ndarray(NDArrayOperatorsMixin):
    """Has no `__index__`, `__array_interface__` or `__array_namespace__`, as CuPy's has none."""

    def __init__(self, host: np.ndarray, device: int) -> None:
        self._host, self.device = host, Device(device)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in NOT_OF_AN_ARRAY:
            raise AttributeError(name)
        value = getattr(self._host, name)
        if callable(value):
            method = getattr(np.ndarray, name)
            return lambda *args, **kwargs: _call(name, method, (self, *args), kwargs)
        return _wrap(value, (self,)) if isinstance(value, np.ndarray) else value

    def __array__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (None,), **kwargs: Any) -> Any:
        if any(hasattr(one, "__cupy_override_elementwise_kernel__") for one in inputs):
            return NotImplemented  # theirs is asked next; CuPy's kernels ask their hook, which does the same
        return _call(ufunc.__name__, getattr(ufunc, method), inputs, kwargs | {"out": out[0]})

    def __array_function__(self, func: Any, _types: Any, args: Any, kwargs: Any) -> Any:
        return _call(".".join([*func.__module__.split(".")[1:], func.__name__]), func, args, kwargs)

    def copy(self, order: str = "C") -> ndarray:
        """In memory of the current device, whichever it comes from: what moves arrays between devices."""
        machine.launches += 1
        return machine.new(self._host.copy(order))

    def __len__(self) -> int:
        return len(self._host)

    def __getitem__(self, key: Any) -> Any:
        return _wrap(self._host[self._index(key)], (self,))

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, list | tuple):
            raise TypeError(f"Unsupported type {type(value)}")
        _launch((self, value))
        self._host[self._index(key)] = _unwrap(value)

    def _index(self, key: Any) -> tuple[Any, ...]:
        parts = key if isinstance(key, tuple) else (key,)
        if any(isinstance(part, ndarray) and part._host.dtype == bool for part in parts):
            machine.sync("indexing by a mask")
        host = tuple(map(_unwrap, parts))
        return host if any(part is Ellipsis for part in host) else (*host, ...)  # the ellipsis keeps 0-d results arrays


READERS: dict[str, Callable[..., Any]] = {
    "__bool__": bool,
    "__int__": int,
    "__float__": float,
    "__complex__": complex,
    "__repr__": repr,
    "__format__": format,
    "get": np.copy,
    "item": np.ndarray.item,
    "tolist": np.ndarray.tolist,
}


def _reader(name: str, convert: Callable[..., Any]) -> Callable[..., Any]:
    def read(self: ndarray, *args: Any) -> Any:
        machine.sync(name)
        return convert(self._host, *args)

    return read


for _name, _convert in READERS.items():
    setattr(ndarray, _name, _reader(_name, _convert))


def _unwrap(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, ndarray):
        return value._host
    return type(value)(map(_unwrap, value)) if type(value) in (list, tuple) else value


def _arrays(values: Iterable[Any]) -> Iterator[ndarray]:
    for value in values:
        if isinstance(value, ndarray):
            yield value
        elif type(value) in (list, tuple):
            yield from _arrays(value)


def _launch(operands: Iterable[Any]) -> None:
    if any(array.device.id != machine.current for array in _arrays(operands)):
        raise ValueError(f"an array resides on another device than the current one ({machine.current})")
    machine.launches += 1


def _wrap(value: Any, operands: tuple[Any, ...]) -> Any:
    if isinstance(value, tuple):
        parts = [_wrap(part, operands) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if not isinstance(value, np.ndarray | np.generic):
        return value
    host = np.asarray(value)
    for array in _arrays(operands):
        if host is array._host or (host.base is not None and np.may_share_memory(host, array._host)):
            return ndarray(host, array.device.id)
    _launch(operands)
    return machine.new(host if host.base is None else host.copy())


def _power(base: Any, exponent: Any, **_kwargs: Any) -> Any:
    """exp(e log z), as CuPy's kernel: where Re z < 0, a tiny imaginary part drowns in the rounding of pi."""
    fast = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal}.get(exponent if type(exponent) in (int, float) else None)
    return fast(base) if fast else np.where(np.equal(exponent, 0), 1, np.exp(np.log(base) * exponent))


def _check_lists_and_syncs(name: str, args: tuple[Any, ...]) -> None:
    short = name.rpartition(".")[2]
    if args and type(args[0]) is list and short not in TAKES_LIST:
        raise TypeError("Unsupported type <class 'list'>")
    sizes_from_data = {"repeat": 1, "arange": 0}.get(short, np.inf) < len([*_arrays(args)])
    if short in SYNCING or (short == "where" and len(args) == 1) or sizes_from_data:
        machine.sync(name)


def _call(name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    short, out = name.rpartition(".")[2], kwargs.get("out")
    if name in MISSING:
        return NotImplemented
    if short in FROM_HOST and args and not isinstance(args[0], ndarray):
        machine.uploads += 1
        return machine.new(np.array(_unwrap(args[0]) if type(args[0]) is list else args[0], dtype=kwargs.get("dtype")))
    _check_lists_and_syncs(name, args)
    host_args = _unwrap(tuple(args))
    if any(np.iscomplexobj(a) for a in host_args if not isinstance(a, list | tuple)):
        if short in NO_COMPLEX_KERNEL:
            raise CompileException(f"no complex overload of {short}")
        if short in NO_COMPLEX_LOOP:
            raise TypeError(f"Wrong type of arguments for cupy_{short}")
        func = _power if short in {"power", "pow"} and out is None else func
    with np.errstate(all="ignore"):
        value = func(*host_args, **{key: _unwrap(v) for key, v in kwargs.items() if key != "out" or v is not None})
    if out is None:
        return _wrap(np.bool_(value) if short in {"allclose", "array_equal"} else value, args)
    _launch((*args, out))
    return out


@contextlib.contextmanager
def no_sync() -> Iterator[Machine]:
    """Inside, whatever makes the host wait raises `HiddenSync`."""
    previous, machine.forbid_sync = machine.forbid_sync, True
    try:
        yield machine
    finally:
        machine.forbid_sync = previous


@cache
def modules() -> dict[str, types.ModuleType]:
    """The stand-in's modules by name, made once: array_api_compat keeps the first it sees."""
    names = [
        "cupy",
        "cupy.linalg",
        "cupy.fft",
        "cupy.cuda",
        "cupy.cuda.device",
        "cupy.cuda.memory",
        "cupy.cuda.compiler",
    ]
    made: dict[str, Any] = {name: types.ModuleType(name) for name in names}
    for name in names[1:]:
        setattr(made[name.rpartition(".")[0]], name.rpartition(".")[2], made[name])
    for prefix, source in {"": np, "linalg.": np.linalg, "fft.": np.fft}.items():
        for name, value in vars(source).items():
            absent = name.startswith("_") or prefix + name in MISSING or name in NOT_OF_ARRAYS
            if not (absent or isinstance(value, types.ModuleType)):
                setattr(made[f"cupy.{prefix}".rstrip(".")], name, _on_device(prefix + name, value))
    cupy = made["cupy"]
    cupy.ndarray, cupy.__version__, cupy.asnumpy = ndarray, "14.2.0", lambda array: array.get()
    cupy.cuda.Device = cupy.cuda.device.Device = Device
    cupy.cuda.memory.OutOfMemoryError, cupy.cuda.compiler.CompileException = OutOfMemoryError, CompileException
    pool = types.SimpleNamespace(free_all_blocks=lambda: None, get_limit=lambda: machine.limit)
    pool.total_bytes = pool.used_bytes = lambda: machine.used[machine.current]  # it keeps nothing for later
    cupy.get_default_memory_pool = lambda: pool
    return made


def _on_device(name: str, value: Any) -> Any:
    if not callable(value) or isinstance(value, type):
        return value
    return lambda *args, **kwargs: _call(name, value, args, kwargs)


def is_hidden_by_a_real_one() -> bool:
    """Whether another ``cupy`` is imported; the stand-in never takes its place."""
    return "cupy" in sys.modules and sys.modules["cupy"] is not modules()["cupy"]


@contextlib.contextmanager
def installed() -> Iterator[types.ModuleType]:
    """The stand-in as ``cupy`` in `sys.modules`, gone again at the end.

    Raises
    ------
    RuntimeError
        A real CuPy is imported.
    """
    if is_hidden_by_a_real_one():
        raise RuntimeError("a cupy is imported already; the stand-in would hide it: run gpu_tests instead")
    before = "cupy" in sys.modules
    sys.modules.update(modules())
    try:
        yield sys.modules["cupy"]
    finally:
        if not before:
            for name in modules():
                sys.modules.pop(name, None)
