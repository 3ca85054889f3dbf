"""Functions of four numbers that lose, spoil or keep imaginary parts, each with a twin that is analytic.

A twin gives the values of its function for real arguments on the branch taken at x, in plain arithmetic that carries
imaginary parts: the complex step over it is the truth. `SAFE` are analytic and are their own twins.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special
from scipy.interpolate import CubicSpline

N = 4
STEP = 1e-30
WEIGHTS = np.asarray([1.0, -0.5, 2.0, 0.7])
MATRIX = np.asarray([[3.0, 0.4, -0.2, 0.1], [0.4, 2.5, 0.3, -0.6], [-0.2, 0.3, 4.0, 0.5], [0.1, -0.6, 0.5, 3.5]])
TALL = np.vstack([MATRIX, [1.0, -1.0, 0.5, 2.0], [0.3, 0.8, -0.7, 0.2]])
DATA = np.asarray([0.3, -1.0, 0.8, 1.9, 0.4, -0.6])
FILTER = np.asarray([1.0, 2.0, 0.0, 2.0])
CIRCULANT = np.stack([np.roll(np.fft.ifft(FILTER).real, k) for k in range(N)], axis=1)
KNOTS = np.linspace(-4.0, 4.0, 33)
SPLINE = CubicSpline(KNOTS, np.sin(KNOTS))

Function = Callable[[Any], Any]
Twin = Callable[[Any, np.ndarray], Any]


@dataclass(frozen=True)
class Subject:
    """A function, and how it looks to complex arguments where nothing is lost."""

    name: str
    fun: Function
    twin: Twin

    def truth(self, x: np.ndarray) -> np.ndarray:
        """The derivative at a real x, shape of f(x) + (4,)."""
        moved = x + 1j * STEP * np.eye(N)
        return np.stack([np.imag(self.twin(row, x)) / STEP for row in moved], axis=-1)


def silently(function: Function) -> Function:
    """Without NumPy's word on imaginary parts that were discarded: compiled code gives none."""

    def fun(x: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(x)

    return fun


def sign(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, -1.0, 1.0)


def cubes(z: Any, x: Any = None) -> Any:
    return np.sum(z * z * z)


def abs_cubes(z: Any, x: np.ndarray) -> Any:
    return np.sum(sign(x) * z * z * z)


def sum_squares(z: Any, x: Any = None) -> Any:
    return np.sum(z * z)


def length(z: Any, x: Any = None) -> Any:
    return np.sqrt(np.sum(z * z))


def into_buffer(x: Any) -> Any:
    buffer = np.empty(N)
    buffer[:] = x
    return cubes(buffer)


def single(x: Any) -> Any:
    return x.astype(np.complex64 if np.iscomplexobj(x) else np.float32)


def one_by_one(x: Any) -> Any:
    total = 0.0
    for value in np.asarray(x).tolist():
        total += value.real**3
    return total


def power(z: Any, n: int) -> Any:
    return z if n == 1 else power(z * z, n // 2) * (z if n % 2 else 1.0)


def newton(x: Any) -> Any:
    """Solves y^3 + y = s until y stands still: for complex s the last step is still missing in the imaginary part."""
    target, y = np.sum(x * WEIGHTS), 1.0
    for _ in range(60):
        move = (y * y * y + y - target) / (3 * y * y + 1)
        y = y - move
        if abs(move) < 1e-7 * (1 + abs(y)):
            break
    return y


def newton_to_the_end(z: Any, x: Any = None) -> Any:
    target, y = np.sum(z * WEIGHTS), 1.0
    for _ in range(80):
        y = y - (y * y * y + y - target) / (3 * y * y + 1)
    return y


def memory() -> Function:
    """Keeps the table that it made for the first real argument, as code with a cache does."""
    table: dict[bytes, float] = {}

    def fun(x: Any) -> Any:
        key = np.real(x).tobytes()
        if key not in table:
            table[key] = float(np.sum(np.sin(np.real(x))))
        return table[key]

    return fun


def with_diagonal(x: Any) -> Any:
    return MATRIX + np.diag(0.5 * x)


def by_size(x: Any) -> Any:
    return x[np.argsort(np.abs(x))] @ np.asarray([1.0, 2.0, 3.0, 5.0])


def by_size_twin(z: Any, x: np.ndarray) -> Any:
    return z[np.argsort(np.abs(x))] @ np.asarray([1.0, 2.0, 3.0, 5.0])


def hat(z: Any, x: np.ndarray) -> Any:
    cell = np.floor(x)
    return np.sum(cell * cell + (2 * cell + 1) * (z - cell))


def linear(value: Function, slope: Function) -> Twin:
    """Sum over values by a table of slopes."""

    def twin(z: Any, x: np.ndarray) -> Any:
        return np.sum(value(x) + (z - x) * slope(x))

    return twin


def fitted(x: Any) -> Any:
    return np.linalg.lstsq(TALL * x, DATA, rcond=None)[0] @ WEIGHTS


def normal_equations(z: Any, x: Any = None) -> Any:
    tall = TALL * z
    return np.linalg.solve(tall.T @ tall, tall.T @ DATA) @ WEIGHTS


def eigenvalues_of_two(z: Any, x: Any = None) -> Any:
    mean, half = (z[0] + z[1]) / 2, (z[0] - z[1]) / 2
    return mean + 2 * np.sqrt(half * half + z[2] * z[2]) + z[3]


def eigenvalues(solver: Function) -> Function:
    def fun(x: Any) -> Any:
        matrix = np.stack([np.stack([x[0], x[2]]), np.stack([x[2], x[1]])])
        low, high = solver(matrix)
        return 1.5 * high - 0.5 * low + x[3]

    return fun


def angle(z: Any, x: np.ndarray) -> Any:
    """The angle of (x1, x0), on the branch of x."""
    turn = np.arctan2(x[0], x[1]) - np.arctan(x[0] / x[1])
    return np.arctan(z[0] / z[1]) + turn + z[2] * z[3]


def filtered(x: Any) -> Any:
    """The transform adds real and imaginary parts: its rounding drowns a small imaginary part."""
    value = np.sum(np.fft.ifft(np.fft.fft(x) * FILTER) * x)
    return value if np.iscomplexobj(x) else value.real


def mean_square(z: Any, x: Any = None) -> Any:
    return np.mean((z - np.mean(z)) ** 2)


UNSAFE = [
    Subject("abs", lambda x: np.sum(np.abs(x) ** 3), abs_cubes),
    Subject("abs of one", lambda x: np.sum(x * x) + np.abs(x[2]), lambda z, x: np.sum(z * z) + sign(x[2]) * z[2]),
    Subject("abs squared", lambda x: np.sum(np.abs(x) ** 2), sum_squares),
    Subject(
        "abs of a sum", lambda x: np.abs(x @ WEIGHTS) * x[0], lambda z, x: sign(x @ WEIGHTS) * (z @ WEIGHTS) * z[0]
    ),
    *(
        Subject(
            f"abs squared times {weight:.0e}",
            lambda x, w=weight: np.sum(np.exp(x)) + w * np.abs(x[1]) ** 2,
            lambda z, x, w=weight: np.sum(np.exp(z)) + w * z[1] * z[1],
        )
        for weight in (1e-3, 1e-5, 1e-7)
    ),
    Subject("norm", np.linalg.norm, length),
    Subject("norm, 1", lambda x: np.linalg.norm(x, 1), lambda z, x: np.sum(sign(x) * z)),
    Subject("norm, 3", lambda x: np.linalg.norm(x, 3) ** 3, abs_cubes),
    Subject(
        "norm of differences",
        lambda x: np.linalg.norm(x[1:] - x[:-1]) + np.sin(x[0]),
        lambda z, x: length(z[1:] - z[:-1]) + np.sin(z[0]),
    ),
    Subject("conj", lambda x: np.sum(x * np.conj(x)), sum_squares),
    Subject(
        "real of conj", lambda x: np.sum((np.exp(x) * np.conj(np.exp(x))).real), lambda z, x: np.sum(np.exp(2 * z))
    ),
    Subject("vdot", lambda x: np.vdot(x, x), sum_squares),
    Subject(
        "vdot beside exp",
        lambda x: np.vdot(x, WEIGHTS * x) + np.sum(np.exp(x)),
        lambda z, x: np.sum(WEIGHTS * z * z + np.exp(z)),
    ),
    Subject("inner with a transpose", lambda x: np.sum(np.outer(x, np.conj(x)) * MATRIX), lambda z, x: z @ MATRIX @ z),
    Subject("real", lambda x: np.sum(x.real**3), cubes),
    Subject("real of one", lambda x: x[0] * x[1].real * x[2] + x[3], lambda z, x: z[0] * z[1] * z[2] + z[3]),
    Subject("real_if_close", lambda x: np.real_if_close(np.sum(x**3)), cubes),
    Subject("minus imag", lambda x: cubes(x - 1j * x.imag if np.iscomplexobj(x) else x), cubes),
    Subject("float", lambda x: sum(float(v) ** 3 for v in x), cubes),
    Subject("float of real", lambda x: math.fsum(float(v.real) ** 3 for v in x), cubes),
    Subject("math", lambda x: math.sin(x[0]) * x[1] + x[2] * x[3], lambda z, x: np.sin(z[0]) * z[1] + z[2] * z[3]),
    Subject("astype", silently(lambda x: cubes(x.astype(float))), cubes),
    Subject("asarray", silently(lambda x: cubes(np.asarray(x, dtype=float))), cubes),
    Subject("real buffer", silently(into_buffer), cubes),
    Subject("entry by entry", one_by_one, cubes),
    Subject("text", lambda x: sum(float(str(v.real)) ** 3 for v in x.tolist()), cubes),
    Subject("cache", memory(), lambda z, x: np.sum(np.sin(z))),
    Subject("hypot", lambda x: np.hypot(x[0], x[1]) + x[2] * x[3], lambda z, x: length(z[:2]) + z[2] * z[3]),
    Subject(
        "hypot by abs",
        lambda x: np.sqrt(np.abs(x[0]) ** 2 + x[1] ** 2) + x[2] * x[3],
        lambda z, x: length(z[:2]) + z[2] * z[3],
    ),
    Subject("arctan2", lambda x: np.arctan2(x[0], x[1]) + x[2] * x[3], angle),
    Subject("angle", lambda x: np.angle(x[1] + 1j * x[0]) + x[2] * x[3], angle),
    Subject("sign", lambda x: np.sum(np.sign(x) * x**3), abs_cubes),
    Subject(
        "copysign", lambda x: np.sum(np.copysign(x, WEIGHTS) ** 3), lambda z, x: np.sum(sign(WEIGHTS) * sign(x) * z**3)
    ),
    Subject("x / abs(x)", lambda x: np.sum(x / np.abs(x) * np.exp(x)), lambda z, x: np.sum(sign(x) * np.exp(z))),
    Subject("sqrt of a modulus", lambda x: np.sum(np.sqrt(np.abs(x))), lambda z, x: np.sum(np.sqrt(sign(x) * z))),
    Subject("log of a modulus", lambda x: np.sum(np.log(np.abs(x)) * x), lambda z, x: np.sum(np.log(sign(x) * z) * z)),
    Subject(
        "branches on abs",
        lambda x: np.sum(np.where(np.abs(x) > 1, np.abs(x) ** 3, x)),
        lambda z, x: np.sum(np.where(np.abs(x) > 1, sign(x) * z**3, z)),
    ),
    Subject(
        "sorted by abs", lambda x: np.abs(by_size(x)) * x[0], lambda z, x: sign(by_size(x)) * by_size_twin(z, x) * z[0]
    ),
    Subject("max of moduli", lambda x: np.max(np.abs(x)) ** 2 + x[0], lambda z, x: z[np.argmax(np.abs(x))] ** 2 + z[0]),
    Subject(
        "softened abs", lambda x: np.sum(np.sqrt(np.abs(x) ** 2 + 1e-2)), lambda z, x: np.sum(np.sqrt(z * z + 1e-2))
    ),
    Subject("interp", silently(lambda x: np.sum(np.interp(x, np.arange(-5.0, 6), np.arange(-5.0, 6) ** 2))), hat),
    Subject("spline on real parts", lambda x: np.sum(SPLINE(x.real)), linear(SPLINE, SPLINE.derivative())),
    Subject(
        "floor", lambda x: np.sum(x * np.floor(x.real) + np.abs(x)), lambda z, x: np.sum(z * np.floor(x) + sign(x) * z)
    ),
    Subject("round and real", lambda x: np.sum(np.round(x.real) * x.real), lambda z, x: np.sum(np.round(x) * z)),
    Subject(
        "float32", silently(lambda x: np.sum(np.sin(x.real.astype(np.float32)) * x)), lambda z, x: np.sum(np.sin(z) * z)
    ),
    Subject("complex64", lambda x: np.sum(np.sin(single(x))), lambda z, x: np.sum(np.sin(z))),
    Subject("squares in complex64", lambda x: sum_squares(single(x)), sum_squares),
    Subject(
        "one term in float32",
        lambda x: np.sum(np.exp(x)) + np.sin(single(x[0])),
        lambda z, x: np.sum(np.exp(z)) + np.sin(z[0]),
    ),
    Subject("var", np.var, mean_square),
    Subject("std", np.std, lambda z, x: np.sqrt(mean_square(z))),
    Subject(
        "cov",
        lambda x: np.cov(np.stack([x, x * x]))[0, 1],
        lambda z, x: np.sum((z - np.mean(z)) * (z * z - np.mean(z * z))) / (N - 1),
    ),
    Subject(
        "power spectrum",
        lambda x: np.sum(np.abs(np.fft.fft(x)) ** 2 * [1, 2, 0, 2]),
        lambda z, x: np.sum(z) ** 2 + 4 * ((z[0] - z[2]) ** 2 + (z[1] - z[3]) ** 2),
    ),
    Subject("fft and back", filtered, lambda z, x: z @ CIRCULANT @ z),
    Subject(
        "rfft",
        silently(lambda x: np.sum(np.fft.rfft(x.real).real ** 2)),
        lambda z, x: np.sum(z) ** 2 + (z[0] - z[2]) ** 2 + (z[0] - z[1] + z[2] - z[3]) ** 2,
    ),
    Subject(
        "slogdet",
        lambda x: np.linalg.slogdet(with_diagonal(x))[1],
        lambda z, x: np.log(np.linalg.det(with_diagonal(z))),
    ),
    Subject(
        "cholesky",
        lambda x: np.sum(np.log(np.diag(np.linalg.cholesky(with_diagonal(x + 3))))),
        lambda z, x: 0.5 * np.log(np.linalg.det(with_diagonal(z + 3))),
    ),
    Subject("eigvalsh", eigenvalues(np.linalg.eigvalsh), eigenvalues_of_two),
    Subject("singular values", lambda x: np.sum(np.linalg.svd(np.diag(x), compute_uv=False) ** 3), abs_cubes),
    Subject("lstsq", fitted, normal_equations),
    Subject("matrix norm", lambda x: np.linalg.norm(MATRIX * x), lambda z, x: np.sqrt(np.sum((MATRIX * z) ** 2))),
    Subject("Newton until still", newton, newton_to_the_end),
    *(
        Subject(
            f"jv({order}, z)",
            lambda x, k=order: np.sum(special.jv(k, x)),
            linear(lambda x, k=order: special.jv(k, x), lambda x, k=order: special.jvp(k, x)),
        )
        for order in (0, 1, 3)
    ),
    Subject(
        "yv(0, z)",
        lambda x: np.sum(special.yv(0, x * x)),
        linear(lambda x: special.yv(0, x * x), lambda x: 2 * x * special.yvp(0, x * x)),
    ),
    Subject(
        "gammaln",
        lambda x: np.sum(special.gammaln(x * x + 0.3)),
        linear(lambda x: special.gammaln(x * x + 0.3), lambda x: 2 * x * special.digamma(x * x + 0.3)),
    ),
    Subject("expit", lambda x: np.sum(special.expit(x)), lambda z, x: np.sum(1 / (1 + np.exp(-z)))),
    Subject("large power", lambda x: np.sum((x / 2) ** 101.0), lambda z, x: np.sum(power(z / 2, 101))),
    Subject(
        "power of a negative base",
        lambda x: np.sum((-np.abs(x.real) - 0.2 + 1j * x.imag) ** 201).real,
        lambda z, x: np.sum(power(-sign(x) * z - 0.2, 201)),
    ),
    Subject(
        "1 - cos, rounded",
        lambda x: np.sum(1 - np.cos(1e-6 * x)) + np.abs(x[0]),
        lambda z, x: np.sum(2 * np.sin(5e-7 * z) ** 2) + sign(x[0]) * z[0],
    ),
    Subject("log1p of a modulus", lambda x: np.sum(np.log1p(np.abs(x))), lambda z, x: np.sum(np.log(1 + sign(x) * z))),
    Subject("expm1 of real", lambda x: np.sum(np.expm1(x.real) * x), lambda z, x: np.sum((np.exp(z) - 1) * z)),
    Subject(
        "clip by float",
        silently(lambda x: np.sum(np.clip(x.astype(float), -1, 1) ** 3)),
        lambda z, x: np.sum(np.where(np.abs(x) < 1, z**3, sign(x))),
    ),
]
"""Lose or spoil imaginary parts."""

UNSAFE_VECTORS = [
    Subject(
        "one of three by abs",
        lambda x: np.stack([np.sum(x**3), np.sum(np.abs(x) ** 3), x[0] * x[3]]),
        lambda z, x: np.stack([cubes(z), abs_cubes(z, x), z[0] * z[3]]),
    ),
    Subject(
        "a small output by abs",
        lambda x: np.stack([1e8 * np.sum(np.exp(x)), np.abs(x[2]) ** 2]),
        lambda z, x: np.stack([1e8 * np.sum(np.exp(z)), z[2] * z[2]]),
    ),
    Subject("moduli, each by itself", lambda x: np.abs(x) * x, lambda z, x: sign(x) * z * z),
    Subject(
        "real parts in one row of many",
        lambda x: np.concatenate([np.sin(np.outer(np.arange(1.0, 20), x)).sum(axis=1), [np.sum(x.real)]]),
        lambda z, x: np.concatenate([np.sin(np.outer(np.arange(1.0, 20), z)).sum(axis=1), [np.sum(z)]]),
    ),
    Subject(
        "one output in float32",
        lambda x: np.stack([np.sum(np.exp(x)), np.sum(np.sin(single(x)))]),
        lambda z, x: np.stack([np.sum(np.exp(z)), np.sum(np.sin(z))]),
    ),
]
"""The same with several outputs."""


def safe(name: str, fun: Function) -> Subject:
    return Subject(name, fun, lambda z, x: fun(z))


SAFE = [
    safe("cubes", lambda x: np.sum(x**3)),
    safe("Rosenbrock", lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)),
    safe("exp", lambda x: np.sum(np.exp(x))),
    safe("log", lambda x: np.sum(np.log(x * x + 0.1))),
    safe("sin", lambda x: np.sum(np.sin(3 * x) * x)),
    safe("tan", lambda x: np.sum(np.tan(0.4 * x))),
    safe("tanh", lambda x: np.tanh(x @ WEIGHTS)),
    safe("sqrt", lambda x: np.sqrt(np.sum(x * x))),
    safe("powers", lambda x: np.sum((x * x + 0.5) ** 1.7)),
    safe("negative powers", lambda x: np.sum(x**-2)),
    safe("rational", lambda x: np.sum(x / (1 + x * x))),
    safe("arctan", lambda x: np.sum(np.arctan(x))),
    safe("arcsinh", lambda x: np.sum(np.arcsinh(2 * x))),
    safe("cosh", lambda x: np.sum(np.cosh(x) / 3)),
    safe("logistic", lambda x: np.sum(1 / (1 + np.exp(-x)))),
    safe("log-sum-exp", lambda x: np.log(np.sum(np.exp(x)))),
    safe("log-sum-exp, shifted", lambda x: np.max(x) + np.log(np.sum(np.exp(x - np.max(x))))),
    safe("product", np.prod),
    safe("cumulated", lambda x: np.sum(np.cumprod(x) * WEIGHTS)),
    safe("softplus", lambda x: np.sum(np.log(1 + np.exp(x)))),
    safe("matrix product", lambda x: x @ MATRIX @ x),
    safe("solve", lambda x: WEIGHTS @ np.linalg.solve(with_diagonal(x * x), WEIGHTS)),
    safe("det", lambda x: np.linalg.det(with_diagonal(x))),
    safe("inverse", lambda x: np.sum(np.linalg.inv(with_diagonal(x * x)))),
    safe("convolve", lambda x: np.sum(np.convolve(x, WEIGHTS) ** 2)),
    safe("branches on real parts", lambda x: np.sum(np.where(x.real > 0.9, x**3, x * x))),
    safe("max", lambda x: np.max(x) ** 3),
    safe("min and maximum", lambda x: np.min(x) ** 2 + np.sum(np.maximum(x, 0.35) ** 3)),
    safe("sort", lambda x: (np.sort(x)[1:-1] @ WEIGHTS[1:-1]) ** 2),
    safe("median", lambda x: np.median(x) ** 3),
    safe("loop", lambda x: np.sin(x[0] + np.sin(x[1] + np.sin(x[2] + np.sin(x[3]))))),
    safe("Newton, fixed count", newton_to_the_end),
    safe("erf", lambda x: np.sum(special.erf(x))),
    safe("gamma", lambda x: np.sum(special.gamma(x * x + 0.5))),
    safe("a large offset", lambda x: 1e6 + np.sum(np.sin(x))),
    safe("scales", lambda x: np.sum(np.sin(x) * np.asarray([1e-6, 1e-2, 1e2, 1e6]))),
    safe("fast and slow", lambda x: np.sum(np.sin(30 * x)) + np.sum(x * x)),
    safe("exact zero", lambda x: np.sum((x - x) * 3 + x[:1] ** 2)),
    safe("shifted variance", lambda x: np.mean((x - np.mean(x)) ** 2)),
]
"""Carry imaginary parts as they should."""

SAFE_VECTORS = [
    safe("entries", lambda x: np.sin(x) * x),
    safe("curves", lambda x: x[0] * np.exp(-np.linspace(0, 2, 20) * x[1] ** 2) + x[2] * np.linspace(0, 2, 20) + x[3]),
    safe("a row of zeros", lambda x: np.stack([np.sum(x**3), 0 * x[0], np.prod(x)])),
]


def points(count: int, seed: int = 0) -> np.ndarray:
    """Random points of both signs, no entry near 0, one a row."""
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], (count, N)) * rng.uniform(0.3, 2.0, (count, N))
