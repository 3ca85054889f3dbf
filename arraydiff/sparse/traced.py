"""An array that keeps beside each number the inputs it depends on, and goes through NumPy's own functions.

What it does in each is in the tables of `rules`; what is in none of them is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

NOTHING: frozenset[int] = frozenset()

REMEDY = 'use sparsity="detect" (or Sparsity.detect), which needs no more than values of f'


FUNCTIONS: dict[Any, Callable[..., Any]] = {}
"""What becomes of a function of NumPy: rule(trace, function, *arguments)."""

UFUNCS: dict[Any, Callable[..., Any]] = {}
"""The same of (ufunc, method); None in the place of the ufunc: of all."""


class Trace:
    """One call of f; what was refused in it stays refused, whatever f makes of the exception."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.live = True

    def refuse(self, what: str) -> NoReturn:
        """Say that f cannot be followed."""
        self.refused.append(what)
        raise TypeError(f"the pattern cannot be traced: f calls {what}; {REMEDY}")


class Traced(NDArrayOperatorsMixin):
    """Numbers, and beside each the set of inputs that it depends on: two arrays of one shape, indexed and written together."""

    __slots__ = ("sets", "trace", "value")

    def __init__(self, trace: Trace, value: Any, sets: Any) -> None:
        self.trace, self.value, self.sets = trace, value, sets

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return tuple(np.shape(self.value))

    @property
    def dtype(self) -> Any:
        """As of an array."""
        return self.value.dtype

    @property
    def ndim(self) -> int:
        """As of an array."""
        return int(np.ndim(self.value))

    @property
    def size(self) -> int:
        """As of an array."""
        return int(np.size(self.value))

    @property
    def T(self) -> Any:  # noqa: N802 - NumPy's name
        """As of an array."""
        return np.transpose(self)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Traced(shape={self.shape}, dtype={self.dtype})"

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        inputs = tuple(self._lifted(one) for one in inputs)
        self._check_operands(inputs)
        rule = UFUNCS.get((ufunc, method)) or UFUNCS.get((None, method))
        if rule is None or (method == "__call__" and ufunc.signature and (ufunc, method) not in UFUNCS):
            self.trace.refuse(f"np.{ufunc.__name__}" + f".{method}" * (method != "__call__"))
        return rule(self.trace, ufunc, *inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        rule = FUNCTIONS.get(func)
        if rule is None:
            self.trace.refuse(f"{func.__module__}.{func.__name__}")
        self._check_operands(args)
        return rule(self.trace, func, *args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        self._check_key(key)
        return made(self.trace, self.value[key], self.sets[key])

    def __setitem__(self, key: Any, new: Any) -> None:
        new = self._lifted(new)
        self._check_operands((new,))
        value, sets = parts(new)
        if isinstance(key, Traced) and key.dtype == np.bool_ and np.ndim(value) == 0:  # either branch, wherever it is
            kept = self.sets.copy()
            self.value[key.value] = value
            self.sets[...] = union(kept, np.broadcast_to(sets, kept.shape))
            return
        self._check_key(key)
        self.value[key], self.sets[key] = value, sets if sets.ndim else sets[()]

    def _check_key(self, key: Any) -> None:
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(one, Traced) for one in keys):
            self.trace.refuse("x[i] or x[mask] with an index that depends on x")

    def _check_operands(self, args: Any) -> None:
        """Whatever else is handed to NumPy is an array of numbers, and traced in the same call."""
        if not self.trace.live:
            raise TypeError(f"the pattern cannot be traced: f uses a value of an earlier call; {REMEDY}")
        for one in args:
            if isinstance(one, Traced) and one.trace is not self.trace:
                self.trace.refuse("a function with values of another call")
            if isinstance(one, np.ndarray) and one.dtype == object:
                self.trace.refuse("a function of an array of objects")

    def _lifted(self, one: Any) -> Any:
        """An array of objects of ours, as np.array([x[0], x[1]]) makes it, as one of ours."""
        if isinstance(one, np.ndarray) and one.dtype == object:
            return lifted(self.trace, one)
        return one

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self.ndim == 0 and dtype in (None, np.dtype(object)):  # np.array([x[0], x[1]]): told by what becomes of it
            held = np.empty((), dtype=object)
            held[()] = self
            return held
        return self.trace.refuse(
            "np.asarray(x), or a function that NumPy does not hand on, such as one of SciPy or compiled code"
        )

    def __bool__(self) -> NoReturn:  # noqa: PLE0304 - it never returns
        self.trace.refuse("bool(x), as in `if x > 0`")

    def __float__(self) -> NoReturn:
        self.trace.refuse(
            "float(x), or writes x into an array that does not depend on it (np.zeros_like(x) makes one that may)"
        )

    def __int__(self) -> NoReturn:
        self.trace.refuse("int(x)")

    def __index__(self) -> NoReturn:  # noqa: PLE0305 - it never returns
        self.trace.refuse("operator.index(x)")

    def __complex__(self) -> NoReturn:
        self.trace.refuse("complex(x)")

    def __round__(self, digits: int = 0) -> Any:
        return np.round(self, digits)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self.trace.refuse("pickle or copy.deepcopy of x")

    def __copy__(self) -> Any:
        return np.copy(self)

    def astype(self, dtype: Any, **kwargs: Any) -> Any:
        """As of an array."""
        return Traced(self.trace, self.value.astype(dtype, **kwargs), self.sets.copy())

    def flatten(self) -> Any:
        """As of an array."""
        return np.copy(np.ravel(self))

    def fill(self, value: Any) -> None:
        """As of an array."""
        self[...] = value

    def __getattr__(self, name: str) -> Any:
        if name in METHODS:
            function = getattr(np, name)
            return lambda *args, **kwargs: function(self, *(_shaped(name, args)), **kwargs)
        if not name.startswith("__") and hasattr(np.ndarray, name):
            self.trace.refuse(f"x.{name}")
        raise AttributeError(f"a traced array has no attribute {name!r}")


REDUCING = "sum prod mean std var max min any all argmax argmin cumsum cumprod trace dot ptp sort"
MOVING = "reshape ravel transpose swapaxes squeeze repeat take diagonal copy clip round conj"
OF_OBJECTS = "sin cos tan exp log sqrt arcsin arccos arctan sinh cosh tanh exp2 expm1 log1p log2 log10 absolute square"
METHODS = frozenset(f"{REDUCING} {MOVING} {OF_OBJECTS}".split())
"""Methods that NumPy has as functions; those of the last line are what an array of objects asks its elements for."""


def _shaped(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """x.reshape(2, 3) and x.transpose(1, 0) as the functions take it."""
    return (args,) if name in ("reshape", "transpose") and len(args) > 1 else args


def made(trace: Trace, value: Any, sets: Any) -> Traced:
    """One of ours; a number with its set becomes an array of no axes."""
    if not isinstance(sets, np.ndarray):
        held = np.empty((), dtype=object)
        held[()] = sets
        sets = held
    value = np.asarray(value)
    if _places(value) != _places(sets):  # a view of the one must be a view of the other; those that are views agree
        value, sets = np.array(value, order="C"), np.array(sets, order="C")
    return Traced(trace, value, sets)


def _places(array: Any) -> list[int]:
    """Steps in memory along the axes, in elements."""
    return [step // array.itemsize for step, size in zip(array.strides, array.shape, strict=True) if size > 1]


def empty_sets(shape: tuple[int, ...]) -> Any:
    """Sets of numbers that depend on nothing."""
    sets = np.empty(shape, dtype=object)
    sets[...] = NOTHING
    return sets


def parts(one: Any) -> tuple[Any, Any]:
    """Value and sets of an array of ours, or of one that depends on nothing."""
    return (one.value, one.sets) if isinstance(one, Traced) else (one, empty_sets(np.shape(one)))


def _united(one: frozenset[int], other: frozenset[int]) -> frozenset[int]:
    return one if one is other or not other else other if not one else one | other


_union: Callable[[Any, Any], Any] = np.frompyfunc(_united, 2, 1)


def union(one: Any, other: Any) -> Any:
    """The sets of both, broadcast."""
    together = _union(one, other)
    if isinstance(together, np.ndarray):
        return together
    held = np.empty((), dtype=object)
    held[()] = together
    return held


def lifted(trace: Trace, objects: Any) -> Traced:
    """An array of objects, each a number or one of ours without axes."""
    value, sets = np.empty(objects.shape), empty_sets(objects.shape)
    for index in np.ndindex(*objects.shape):
        one, dependent = parts(objects[index])
        if np.ndim(one) or isinstance(one, str | bytes):
            trace.refuse("np.array of what is no number")
        value[index], sets[index] = one, dependent[()]
    return Traced(trace, value, sets)
