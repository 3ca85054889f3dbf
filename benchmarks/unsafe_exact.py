"""Functions that a tracer could get wrong in silence, and what becomes of each: `python -m benchmarks.unsafe_exact`.

Each is refused, or right, or stopped by the guards: its value is not that of plain f, or its derivative along a random direction
is not that of differences.  Anything else would be wrong in silence.
"""

from __future__ import annotations

import array
import collections
import copy
import ctypes
import decimal
import fractions
import functools
import io
import itertools
import json
import math
import operator
import pickle
import statistics
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from arraydiff.exact import Refused, traced

Function = Callable[[Any], Any]
X = np.array([0.31, 1.2, -0.7, 2.0])
C = np.array([1.0, -2.0, 0.5, 3.0])
STEP, AGREED = 1e-5, 1e-6
FEW_DIGITS = 3e-3  # of differences of a function that computes in single precision
UNSAFE: dict[str, Function] = {}
KEPT: dict[str, Any] = {}


def unsafe(function: Function) -> Function:
    UNSAFE[function.__name__.replace("_", " ")] = function
    return function


def then(statement: Callable[[Any], Any]) -> Function:
    """x * x, after a statement on a copy."""

    def fun(x: Any) -> Any:
        y = x.copy()
        statement(y)
        return y * x

    return fun


def hidden(statement: Callable[[Any], Any], otherwise: float = 1.0) -> Function:
    """With what a statement gives as a factor, whose exceptions are caught."""

    def fun(x: Any) -> Any:
        try:
            factor = statement(x)
        except Exception:  # noqa: BLE001 - as users do
            factor = otherwise
        return factor * x

    return fun


def setter(index: Any, value: Callable[[Any], Any]) -> Function:
    return then(lambda y: operator.setitem(y, index, value(y)))


def saved(x: Any) -> Any:
    file = io.BytesIO()
    np.save(file, x)
    file.seek(0)
    return np.load(file)[0]


def halved(x: Any) -> Any:
    v, n = x[3], 0
    while v > 0.1:
        v, n = v / 2, n + 1
    return v * n


def product_of_four(a: Any, b: Any, c: Any, d: Any) -> Any:
    return a * b - c * d


def swapped(y: Any, one: Any, other: Any) -> None:
    a, b = y[one], y[other]
    y[one], y[other] = b, a


NUMBERS: dict[str, Callable[[Any], Any]] = {
    "float": lambda x: float(x[0]),
    "int": lambda x: int(10 * x[1]),
    "complex": lambda x: complex(x[0]),
    "math.sin": lambda x: math.sin(x[0]),
    "math.fsum": math.fsum,
    "math.prod": math.prod,
    "math.hypot": lambda x: math.hypot(*x),
    "sum": sum,
    "max": max,
    "sorted": lambda x: sorted(x)[1],
    "item": lambda x: x[0].item(),
    "item of an array": lambda x: x.item(1),
    "tolist": lambda x: x.tolist()[0],
    "list": lambda x: list(x)[1],
    "unpacked": lambda x: product_of_four(*x),
    "text": lambda x: float(str(x[0])),
    "format": lambda x: float(f"{x[0]:.17g}"),
    "percent": lambda x: float("%.17g" % x[0]),  # noqa: UP031 - as users do
    "repr": lambda x: float(repr(x[0]).removeprefix("np.float64(").rstrip(")")),
    "json": lambda x: json.loads(json.dumps(float(x[0]))),
    "json of an item": lambda x: json.loads(json.dumps(x[0])),
    "pickle": lambda x: pickle.loads(pickle.dumps(x))[0],
    "bytes": lambda x: np.frombuffer(x.tobytes())[0],
    "bytes of x": lambda x: np.frombuffer(bytes(x))[0],
    "memoryview": lambda x: memoryview(x)[0],
    "struct": lambda x: struct.unpack("d", struct.pack("d", x[0]))[0],
    "array.array": lambda x: array.array("d", x)[0],
    "ctypes": lambda x: ctypes.c_double(x[0]).value,
    "decimal": lambda x: float(decimal.Decimal(x[0])),
    "fraction": lambda x: float(fractions.Fraction(x[0])),
    "statistics": statistics.mean,
    "round": lambda x: round(x[0], 3),
    "divmod": lambda x: divmod(x[1], 0.5)[1],
    "np.float64": lambda x: np.float64(x[0]),
    "np.float32": lambda x: np.float32(x[0]),
    "np.asarray": lambda x: np.asarray(x)[0],
    "np.asarray float": lambda x: np.asarray(x, dtype=float)[0],
    "np.array": lambda x: np.array(x)[0],
    "np.array float": lambda x: np.array(x, dtype=float)[0],
    "np.array of numbers": lambda x: np.array([x[0], x[1]]).sum(),
    "np.array of rows": lambda x: np.array([x, x * 2])[1, 0],
    "np.ascontiguousarray": lambda x: np.ascontiguousarray(x)[0],
    "np.fromiter": lambda x: np.fromiter((v for v in x), float)[0],
    "np.frompyfunc": lambda x: np.frompyfunc(lambda v: 2.0 * v, 1, 1)(x)[0],
    "np.vectorize": lambda x: np.vectorize(lambda v: v * v)(x)[0],
    "np.nditer": lambda x: sum(float(v) for v in np.nditer(x)),
    "np.ndenumerate": lambda x: sum(v for _, v in np.ndenumerate(x)),
    "np.save": saved,
    "flat": lambda x: x.flat[0],
    "view": lambda x: x.view(np.int64).view(np.float64)[0],
    "data": lambda x: x.data[0],
    "ctypes pointer": lambda x: x.ctypes.data_as(ctypes.POINTER(ctypes.c_double))[0],
    "interface": lambda x: np.array(x.__array_interface__["data"][0] * 0.0) + x[0],
    "hash": lambda x: hash(x[0]) % 7,
    "dict": lambda x: {x[0]: 3.0}[x[0]],
    "set": lambda x: len({x[0], x[1]}),
    "Counter": lambda x: collections.Counter(x)[x[0]],
    "lru_cache": functools.lru_cache(lambda x: 2.0),
    "index": lambda x: C[int(x[1])],
    "range": lambda x: len(range(int(x[3] + 1))),
    "repeat": lambda x: [1.0] * int(x[3]),
    "random": lambda x: np.random.default_rng(0).normal(x[0], 0.1),
    "type": lambda x: 2.0 if type(x) is np.ndarray else 1.0,
    "type of an entry": lambda x: 2.0 if type(x[0]) is np.float64 else 1.0,
    "isinstance": lambda x: 2.0 if isinstance(x, np.ndarray) and isinstance(x[0], float) else 1.0,
    "private": lambda x: x.value[0] if hasattr(x, "value") else x[0] * x[1],
    "dtype": lambda x: 2.0 if x.dtype == np.float64 else 1.0,
    "flags": lambda x: 2.0 if x.flags.c_contiguous else 1.0,
    "branch": lambda x: x[0] if x[1] > 1 else 3.0,
    "in": lambda x: 2.0 if 1.2 in x else 1.0,
    "while": halved,
    "argmax": lambda x: x[np.argmax(x)],
    "unique": lambda x: np.unique(x)[0],
    "histogram": lambda x: np.histogram(x)[0][0],
    "linalg.eig": lambda x: np.linalg.eig(x.reshape(2, 2))[0][0],
    "linalg.qr": lambda x: np.linalg.qr(x.reshape(2, 2))[1][0, 0],
    "linalg.svd": lambda x: np.linalg.svd(x.reshape(2, 2))[1][0],
    "linalg.matrix_rank": lambda x: np.linalg.matrix_rank(x.reshape(2, 2)),
    "roots": lambda x: np.real(np.roots(x)[-1]),
    "partition": lambda x: np.partition(x, 1)[0],
    "sum into out": lambda x: np.sum(x, out=np.zeros(())),
    "sum with where": lambda x: np.sum(x, where=C > 0),
    "sum with initial": lambda x: np.sum(x, initial=1.0),
    "add.at": lambda x: np.add.at(np.zeros(4), [0], x[0]) or 1.0,
    "reduceat": lambda x: np.add.reduceat(x, [0, 2])[0],
    "matrix": lambda x: (np.matrix(np.eye(4)) @ x)[0, 0],
    "masked": lambda x: np.ma.masked_array(x, C > 0).sum(),
    "masked constant": lambda x: (np.ma.masked_array(C, C > 0) * x).sum(),
    "float32": lambda x: np.sum(x.astype(np.float32)),
    "int of an array": lambda x: np.sum((10 * x).astype(int)),
    "real_if_close": lambda x: np.real_if_close(x * (1 + 0j))[0],
    "trapezoid of objects": lambda x: np.trapezoid([x[0], x[1], x[2]]),
    "dot of lists": lambda x: np.dot([x[0], x[1]], [x[2], x[3]]),
    "sum of a list": lambda x: np.sum([x[0], x[1] ** 2]),
    "stack of a list": lambda x: np.stack([x[0], x[1] ** 2]).sum(),
    "reduce": lambda x: functools.reduce(operator.mul, x),
    "accumulate": lambda x: list(itertools.accumulate(x))[-1],
    "map": lambda x: sum(map(lambda v: v * v, x)),  # noqa: C417 - as users do
    "zip": lambda x: sum(a * b for a, b in zip(x, x[::-1], strict=True)),
    "reversed": lambda x: next(iter(reversed(x))),
}  # fmt: skip
UNSAFE |= {name: hidden(statement) for name, statement in NUMBERS.items()}

UNSAFE |= {
    "write of a number": setter(0, lambda y: 3.0),
    "write of an entry": setter(0, lambda y: y[1] ** 2),
    "write of a slice": setter(slice(0, 2), lambda y: y[2:]),
    "write of overlapping slices": setter(slice(1, None), lambda y: y[:-1]),
    "write by a mask": setter(C > 0, lambda y: y[0]),
    "write by indices": setter([2, 0], lambda y: y[:2] ** 2),
    "write by indices twice": setter([0, 0], lambda y: y[1:3]),
    "write of a list": setter(slice(0, 2), lambda y: [y[3], 1.0]),
    "write of objects": setter(slice(0, 2), lambda y: np.array([y[3], 1.0])),
    "augmented slice": then(lambda y: operator.imul(y[1:3], y[:2])),
    "augmented reshape": then(lambda y: operator.iadd(y.reshape(2, 2)[0], y[2:])),
    "augmented transpose": then(lambda y: operator.imul(y.reshape(2, 2).T[0], y[2:])),
    "augmented indices": then(lambda y: operator.imul(y[[0, 1]], 7.0)),
    "augmented ravel": then(lambda y: operator.imul(y.reshape(2, 2).ravel(), y[1])),
    "augmented flatten": then(lambda y: operator.imul(y.flatten(), 5.0)),
    "fill": then(lambda y: y.fill(2.0)),
    "fill of a view": then(lambda y: y[1:].fill(2.0)),
    "sort in place": then(lambda y: y.sort()),
    "sort of a view": then(lambda y: y[1:].sort()),
    "put": then(lambda y: y.put([0], [5.0])),
    "resize": then(lambda y: y.resize(4)),
    "copyto": then(lambda y: np.copyto(y, y[0])),
    "put_along_axis": then(lambda y: np.put_along_axis(y, np.array([0]), 5.0, 0)),
    "place": then(lambda y: np.place(y, C > 0, [9.0])),
    "putmask": then(lambda y: np.putmask(y, C > 0, 9.0)),
    "out": then(lambda y: np.multiply(y, y, out=y)),
    "out of a view": then(lambda y: np.multiply(y[1:], 2.0, out=y[:-1])),
    "clip in place": then(lambda y: np.clip(y, 0.0, 1.0, out=y)),
    "nan_to_num in place": then(lambda y: np.nan_to_num(y, copy=False)),
    "shuffle": then(lambda y: np.random.default_rng(0).shuffle(y)),
    "fill_diagonal": then(lambda y: np.fill_diagonal(y.reshape(2, 2), y[0] * y[1])),
    "setattr shape": then(lambda y: setattr(y, "shape", (2, 2)) or setattr(y, "shape", (4,))),
    "setattr real": then(lambda y: setattr(y, "real", y[0])),
    "flat assignment": then(lambda y: operator.setitem(y.flat, 0, 3.0)),
    "swap": then(lambda y: swapped(y, 0, 1)),
    "swap of slices": then(lambda y: swapped(y, slice(0, 2), slice(2, 4))),
}  # fmt: skip


@unsafe
def plain_buffer(x: Any) -> Any:
    y = np.zeros(4)
    y[:] = x
    return y * x


@unsafe
def plain_buffer_by_entries(x: Any) -> Any:
    y = np.zeros(4)
    for i in range(4):
        y[i] = x[i] ** 2
    return y


@unsafe
def buffer_of_a_closure(x: Any) -> Any:
    c = np.ones(4)
    total = 0.0
    for i in range(3):
        c *= i + 1
        total = total + np.sum(x * x * c)
    return total


@unsafe
def buffer_changed_after_its_use(x: Any) -> Any:
    c = C.copy()
    y = np.sin(x * c)
    c[:] = 0.0
    return y


@unsafe
def mask_changed_after_its_use(x: Any) -> Any:
    mask = C > 0
    y = np.where(mask, x * x, x)
    mask[:] = False
    return y


@unsafe
def matrix_changed_after_its_use(x: Any) -> Any:
    a = np.eye(4) * 2
    y = a @ x
    a *= 100
    return y * x


@unsafe
def alias(x: Any) -> Any:
    y = x * 1
    z = y
    y += x
    return z * y


@unsafe
def alias_in_a_list(x: Any) -> Any:
    y = x * 1
    parts = [y, y]
    parts[0] *= 2
    return parts[1] * y


@unsafe
def default_argument(x: Any, cache: list[Any] = []) -> Any:  # noqa: B006 - the mistake is meant
    cache.append(x[0])
    return x * cache[0]


@unsafe
def global_cache(x: Any) -> Any:
    if "x" not in KEPT:
        KEPT["x"] = x * 2
    return KEPT["x"] * x


@unsafe
def cache_by_shape(x: Any) -> Any:
    @functools.cache
    def factor(n: int) -> Any:
        return np.arange(n) + x[0]

    return factor(4) * x + factor(4)


@unsafe
def copies(x: Any) -> Any:
    y, z = copy.copy(x), copy.deepcopy(x)
    y[0], z[1] = 2.0, 3.0
    return x * y * z


@unsafe
def number_changed(x: Any) -> Any:
    a = x[0]
    b = a
    a *= 3
    return x * a * b


@unsafe
def zero_dimensional_changed(x: Any) -> Any:
    a = x[:1].reshape(())
    b = a
    a *= 3
    return x * a * b


@unsafe
def x_changed(x: Any) -> Any:
    x *= 2
    return x * x


@unsafe
def asarray_changed(x: Any) -> Any:
    y = np.asarray(x)
    x[0] = 3.0
    return y * y


@unsafe
def zeros_like_of_integers(x: Any) -> Any:
    y = np.zeros_like(x, dtype=int)
    y[0] = x[1]
    return y * x


@unsafe
def complex_into_real(x: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = x * 1.0
        y[:] = x * (1 + 2j)
    return y * x


@unsafe
def imaginary_part_dropped(x: Any) -> Any:
    z = (x + 1j) ** 2
    return z.real * z.imag


@unsafe
def in_single_precision(x: Any) -> Any:
    return np.cumsum(x.astype(np.float32)).astype(float)


@unsafe
def random_numbers(x: Any) -> Any:
    return x * np.random.default_rng().normal(size=4)


@unsafe
def a_counter(x: Any) -> Any:
    KEPT["calls"] = KEPT.get("calls", 0) + 1
    return x * KEPT["calls"]


@unsafe
def constant(x: Any) -> Any:
    return np.ones(4)


@unsafe
def sign_of_x(x: Any) -> Any:
    return np.sign(x)


def random_direction() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(4)


def values(fun: Function, x: np.ndarray) -> np.ndarray:
    return np.ravel(np.asarray(fun(x.copy()), dtype=float))


def differences(fun: Function, v: np.ndarray, step: float = STEP) -> np.ndarray:
    return (values(fun, X + step * v) - values(fun, X - step * v)) / (2 * step)


def verdict(fun: Function) -> str:
    """What becomes of it: 'refused', 'right', 'stopped by ...' or 'WRONG IN SILENCE'."""
    KEPT.clear()
    try:
        followed = traced(lambda x: np.ravel(fun(x)), X.copy())
    except Refused:
        return "refused"
    KEPT.clear()
    try:
        plainly = values(fun, X)
    except Refused:  # a traced value came back from where f keeps it
        return "refused"
    if plainly.shape != followed.value.shape or not np.allclose(plainly, followed.value, rtol=1e-10, equal_nan=True):
        return "stopped by its value"
    narrowed = any("cast" in text for text in followed.notes.branches)
    step, agreed = (1e-2, FEW_DIGITS) if narrowed else (STEP, AGREED)
    v = random_direction()
    if not np.allclose(followed.pushforward(v), differences(fun, v, step), rtol=agreed, atol=agreed):
        return "stopped by its derivative"
    columns = np.stack([differences(fun, e, step) for e in np.eye(4)], axis=-1)
    found = np.stack([followed.pushforward(e) for e in np.eye(4)], axis=-1)
    return "right" if np.allclose(found, columns, rtol=agreed, atol=agreed) else "WRONG IN SILENCE"


def verdicts() -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: verdict(fun) for name, fun in UNSAFE.items()}


def main() -> None:
    found = verdicts()
    for name, told in found.items():
        print(f"{name:32s} {told}")
    print(len(found), dict(collections.Counter(found.values())))


if __name__ == "__main__":
    main()
