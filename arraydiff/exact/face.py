"""What an array that stands for x looks like from inside f: attributes, methods, operators, and what it refuses to be."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from arraydiff.backends import large, numpy_rules, raw, scipy_rules
from arraydiff.exact import elementwise, filling, joining, numerics, products, statistics, transforms  # noqa: F401 - they fill `ops`
from arraydiff.exact.primitives import NO_OPTIONS, Elementwise, lock, on_tape, tape_of, view_of
from arraydiff.exact.reductions import array, cast
from arraydiff.exact.trace import Tracer, has_tracer, is_sparse_product, kink, note, ops, plain, prim, refuse
from arraydiff.exact.writing import assign

MOST_OBJECTS = 1000
"""Entries of an array that becomes one of objects: beyond, every operation on it costs milliseconds."""

ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "shape": lambda self: self.value.shape,
    "ndim": lambda self: self.value.ndim,
    "dtype": lambda self: self.value.dtype,
    "size": lambda self: math.prod(self.value.shape),
    "device": lambda self: plain(self).device,
    "itemsize": lambda self: plain(self).itemsize,
    "nbytes": lambda self: plain(self).nbytes,
    "flags": lambda self: plain(self).flags,
    "T": lambda self: ops.permute_dims(self),
    "mT": lambda self: ops.matrix_transpose(self),
    "real": lambda self: ops.real(self),
    "imag": lambda self: ops.imag(self),
}
for _name, _get in ATTRIBUTES.items():
    setattr(Tracer, _name, property(_get))

METHODS = """
    sum mean var std max min prod cumsum cumprod clip ravel squeeze swapaxes dot take conj trace diagonal repeat
    argmax argmin argsort argpartition any all nonzero round searchsorted ptp
"""
for _name in METHODS.split():
    setattr(Tracer, _name, lambda self, *args, _name=_name, **options: getattr(ops, _name)(self, *args, **options))

OF_OBJECTS = """
    sin cos tan sinh cosh tanh exp exp2 expm1 log log2 log10 log1p sqrt cbrt square hypot rint logaddexp degrees radians
    deg2rad rad2deg arcsin arccos arctan arctan2 arcsinh arccosh arctanh fabs conjugate
"""
"""What NumPy asks of the elements of an array of objects, as np.array([x[0], x[1]]) is one."""
for _name in OF_OBJECTS.split():
    _other = numpy_rules.OTHER_NAMES.get(_name, _name)
    setattr(Tracer, _name, lambda self, *args, _name=_other: getattr(ops, _name)(self, *args))


def method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function a method of traced arrays."""
    setattr(Tracer, function.__name__, function)
    return function


@method
def __repr__(self: Any) -> str:
    return f"<traced {self.dtype}{list(self.shape)}>"


@method
def __len__(self: Any) -> int:
    return len(plain(self))


@method
def __iter__(self: Any) -> Iterator[Any]:
    return (self[i] for i in range(len(self)))


@method
def __bool__(self: Any) -> bool:
    note("a branch on its value", self)
    value = plain(self)
    kink("a branch at 0", value == 0, self)
    return True if value else False  # noqa: SIM210 - in the open: the host must wait for it


@method
def __contains__(self: Any, value: Any) -> bool:
    return True if raw.any_of(self == value) else False  # noqa: SIM210


@method
def astype(
    self: Any, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
) -> Any:
    return ops.astype(self, dtype, copy=copy)


@method
def reshape(self: Any, *shape: Any, order: str = "C", copy: Any = None) -> Any:
    trace = tape_of(self) if shape == (-1,) and raw.is_number(self.value) else None
    if trace is not None and trace.tape is not None:  # what f gives, as a rule: written out
        out, node = self.value.reshape(shape), next(trace.count)
        trace.tape[node] = (prim.reshape, (self.node, None), (self.value, shape), out, NO_OPTIONS)
        return Tracer(trace, out, node, None)
    return ops.reshape(self, shape[0] if len(shape) == 1 else shape, order)


@method
def transpose(self: Any, *axes: Any) -> Any:
    return ops.permute_dims(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None)


@method
def flatten(self: Any, order: str = "C") -> Any:
    return ops.positive(ops.ravel(self, order))


@method
def copy(self: Any, order: str = "C") -> Any:
    return ops.positive(self)


@method
def fill(self: Any, value: Any) -> None:
    self[...] = value


@method
def sort(self: Any, axis: int = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> None:
    assign(self, ops.sort(self, axis, kind, order))


@method
def compress(self: Any, condition: Any, axis: Any = None, out: Any = None) -> Any:
    return ops.compress(condition, self, axis, out)


@method
def put(self: Any, indices: Any, values: Any, mode: str = "raise") -> None:
    ops.put(self, indices, values, mode)


@method
def __deepcopy__(self: Any, memo: Any) -> Any:
    return ops.positive(self)


setattr(Tracer, "__copy__", lambda self: ops.positive(self))  # noqa: B010 - as its neighbours

# ---- reading and writing entries


@method
def __getitem__(self: Any, index: Any) -> Any:
    kind = type(index)
    if kind is not int and kind is not slice:
        return prim.getitem(self, _index(self, index))
    trace, x = tape_of(self), self.value
    if trace is None or trace.tape is None or not raw.gives_number(x):
        return prim.getitem(self, index)
    out, node = x[index], next(trace.count)  # a loop over entries, or neighbours of them: written out
    alias = None if kind is int else view_of(self, prim.getitem, (index,), NO_OPTIONS)
    result = out
    if x.size > large.SMALL and type(trace.tape) is dict:
        x, result = large.hollow(x), large.hollow(out)
    trace.tape[node] = (prim.getitem, (self.node, None), (x, index), result, NO_OPTIONS)
    return Tracer(trace, out, node, alias)


def _index(x: Any, index: Any) -> Any:
    if has_tracer(index):
        refuse("x[i] with an index that depends on x", x, index)
    return raw.as_index(index)


@method
def __setitem__(self: Any, index: Any, value: Any) -> None:
    if _is_own_view(self, index, value):
        return  # y[a:b] *= z has written through the view already
    here = plain(self)
    if not raw.is_mutable(here):
        raise TypeError("arrays of this library cannot be written; take where, or its own way")
    index = _index(self, index)
    value = array(value, self) if isinstance(value, list | tuple) or raw.holds_objects(value) else value
    if raw.kind(here.dtype) == "f" and raw.kind(getattr(value, "dtype", here.dtype)) == "c":
        refuse("complex numbers written into a real array", self, value)
    if type(value) is Tracer:
        value = cast(value, here.dtype)
        if not raw.picks_once(index, here.shape):
            refuse("x[i] = ... with an index that occurs twice", self, value)
    assign(self, prim.setitem(self, value, index=index))


def _is_own_view(whole: Any, index: Any, value: Any) -> bool:
    if type(value) is not Tracer or value.alias is None or value.alias.parent is not whole:
        return False
    primitive, rest, _ = value.alias.take
    return primitive is prim.getitem and raw.is_basic(index) and raw.is_basic(rest[0]) and rest[0] == index


# ---- operators


def _times(a: Any, b: Any) -> Any:
    """A * b of SciPy's matrices is A @ b; that of its sparse arrays is entry by entry."""
    other = b if type(a) is Tracer else a
    if type(other) is Tracer or type(other) in raw.HOST or not scipy_rules.is_sparse(other):
        return prim.multiply(a, b)
    if not scipy_rules.is_matrix(other) or not a.shape or not b.shape:
        refuse("x or a number of it times a sparse array, entry by entry; multiply the result of A @ x by it", a, b)
    return ops.matmul(a, b)


def _binary(primitive: Any) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """a.__op__ and a.__rop__; the common case, plain numbers on one tape, is written out: it is what most of f consists of."""
    if primitive.kinks is not None:
        return lambda a, b: primitive(a, b), lambda a, b: primitive(b, a)
    general, evaluate = _times if primitive is prim.multiply else primitive, primitive.evaluate

    def operation(a: Any, b: Any) -> Any:
        trace, x = tape_of(a), a.value
        if trace is None:
            return general(a, b)
        if type(b) is not Tracer:
            number = type(b) in raw.NUMBERS
            return on_tape(primitive, trace, (a.node, None), (x, b), evaluate(x, b)) if number else general(a, b)
        if a is b and primitive is prim.multiply:  # one term of the derivative instead of two alike
            return on_tape(prim.square, trace, (a.node,), (x,), x * x)
        if tape_of(b) is not trace:
            return primitive(a, b)
        y = b.value
        return on_tape(primitive, trace, (a.node, b.node), (x, y), evaluate(x, y))

    def reflected(b: Any, a: Any) -> Any:
        trace, y = tape_of(b), b.value
        if trace is None or type(a) not in raw.NUMBERS:
            return general(a, b)
        return on_tape(primitive, trace, (None, b.node), (a, y), evaluate(a, y))

    return operation, reflected


def _in_place(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def changed(self: Any, other: Any) -> Any:
        out, here = operation(self, other), plain(self)
        if raw.is_number(here) or not raw.is_mutable(here):
            return out
        if raw.kind(out.dtype) == raw.kind(here.dtype):
            out = cast(out, here.dtype)
        return assign(self, out)

    return changed


for _name, _op in {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow", "mod": "remainder",
                   "matmul": "matmul", "floordiv": "floor_divide", "divmod": "divmod"}.items():  # fmt: skip
    _do = getattr(ops, _op)
    _forward, _reflected = _binary(_do) if isinstance(_do, Elementwise) else (_do, lambda a, b, _do=_do: _do(b, a))
    setattr(Tracer, f"__{_name}__", _forward)
    setattr(Tracer, f"__r{_name}__", _reflected)
    if _name not in ("divmod", "floordiv"):
        setattr(Tracer, f"__i{_name}__", _in_place(_forward))


def _comparison(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def compared(a: Any, b: Any) -> Any:
        note("a comparison", a)
        x, y = plain(a), plain(b)
        found = compare(x, y)
        if a is not b:  # x != x asks for NaN
            kink("comparison at equality", x == y, a, b)
        return found

    return compared


for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Tracer, f"__{_name}__", _comparison(getattr(operator, _name)))
for _name, _op in {"neg": "negative", "pos": "positive", "abs": "abs"}.items():
    setattr(Tracer, f"__{_name}__", lambda self, _op=_op: getattr(ops, _op)(self))

# ---- what would lose the derivative


@method
def __array__(self: Any, dtype: Any = None, copy: Any = None) -> Any:
    """An array of objects, of x[0], x[1], ...; what would write through it into x, or into x beneath it, is refused."""
    caller = sys._getframe(1)
    if is_sparse_product(caller):
        return raw.object_array([None], ())  # by which SciPy knows what is no array, and returns NotImplemented
    if caller.f_globals.get("__name__", "").startswith("scipy.sparse"):
        refuse(SPARSE_ALONE, self)
    if self.size <= MOST_OBJECTS and raw.is_host(plain(self)) and (dtype is None or raw.kind(dtype) == "O"):
        flat = ops.positive(self)
        held = raw.object_array([flat] if self.ndim == 0 else list(prim.reshape(flat, (-1,))), self.shape)
        if not copy and self.ndim:
            lock(self, "an array that np.asarray has been taken of")
            held.flags.writeable = False
        return held
    return refuse(
        "np.asarray(x), or a function that NumPy does not hand on, such as SciPy's and compiled code; leave it out, or take "
        "it from arraydiff.exact.rules_for_scipy",
        self,
    )


SPARSE_ALONE = "x in scipy.sparse beyond products; write A @ x or x @ A, with an A that does not depend on x"
ASKED = "plain numbers are asked for, which have no derivative"
REFUSED = {
    "__float__": "float(x), a function of math, or a write into an array that does not depend on x (fill np.zeros_like(x))",
    "__int__": "int(x)",
    "__complex__": "complex(x)",
    "__index__": "x as an index",
    "__hash__": "hash(x), as a cache asks for",
    "__format__": "x as a text",
    "__round__": "round(x)",
    "__reduce_ex__": "pickle of x",
    "__dlpack__": "x handed to another library",
    "__dlpack_device__": "x handed to another library",
}
OTHERS = """
    item tolist tobytes resize partition view byteswap choose dump dumps tofile setflags setfield getfield itemset
    __floor__ __ceil__ __trunc__ __ifloordiv__ __and__ __or__ __xor__ __invert__ __lshift__ __rshift__
"""


def _refusal(name: str, reason: str) -> Callable[..., NoReturn]:
    def refused(self: Any, *_args: Any, **_options: Any) -> NoReturn:
        refuse(f"{reason}: {ASKED}", self)

    refused.__name__ = name
    return refused


for _name, _reason in (REFUSED | {name: f"x.{name}" for name in OTHERS.split()}).items():
    setattr(Tracer, _name, _refusal(_name, _reason))
for _name in ["data", "ctypes", "flat", "strides", "base"]:
    setattr(Tracer, _name, property(_refusal(_name, f"x.{_name}")))
setattr(Tracer, "__array_priority__", 1000.0)  # noqa: B010 - above NumPy's matrices
