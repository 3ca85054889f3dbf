"""Functions whose values are a formula's up to noise: drawn, hashed from x, of few digits, or of unfinished iterations."""

# ruff: noqa: ARG005 - an expression that takes nothing from its namespace has it as an argument all the same
from __future__ import annotations

from typing import Any

import numpy as np

from arraydiff._typing import Array
from arraydiff.testing.imperfections import (
    Imperfection,
    hash_noise,
    inside_float32,
    instead,
    printed,
    random_noise,
    rounded,
    wave,
)
from arraydiff.testing.sampling import uniform
from arraydiff.testing.table import FunctionClass, Row

MOST_ITERATIONS = 500


def _noisy(
    name: str, expression: Any, low: float, high: float, imperfection: Imperfection, *, one: bool = False
) -> Row:
    return Row(name, expression, uniform(low, high), imperfection, analytic=False, vectorized=not one)


def _until_settled(step: Any, y: Array, tolerance: float) -> Array:
    """Fixed-point iteration, each entry until it changes by less than the relative tolerance."""
    for _ in range(MOST_ITERATIONS):
        new = step(y)
        going = np.abs(new - y) > tolerance * np.abs(y)
        if not np.any(going):
            break
        y = np.where(going, new, y)
    return y


def _damped_newton(x: Any) -> Array:
    """The root of y³ + y = x."""
    x = np.asarray(np.real(x), dtype=float)
    return _until_settled(lambda y: y - 0.7 * (y**3 + y - x) / (3 * y * y + 1), x / 2, 1e-8)


def _continued_fraction(x: Any) -> Array:
    """The positive root of y² + y = x."""
    x = np.asarray(np.real(x), dtype=float)
    return _until_settled(lambda y: x / (1 + y), x / 2, 1e-9)


def _bisected(x: Any) -> float:
    """The root of y³ + y = x, to 2⁻²⁰ of where it was looked for."""
    low, high = 0.0, 4.0
    while high - low > 2.0**-18:
        y = (low + high) / 2
        low, high = (y, high) if y**3 + y < float(x) else (low, y)
    return (low + high) / 2


def _root(m: Any, x: Any) -> Any:
    """The root of y³ + y = x in closed form."""
    three = m.sqrt(m.mpf(3))
    return 2 / three * m.sinh(m.asinh(3 * three * x / 2) / 3)


def _mean_in_float32(x: Any) -> Array:
    """The mean of 256 exponentials, added up one after the other in float32."""
    x = np.asarray(np.real(x), dtype=np.float32)
    total = np.zeros_like(x)
    for k in range(256):
        total = total + np.exp(x * np.float32(-k / 256))
    return np.asarray(total / np.float32(256), dtype=float)[()]


NOISY = FunctionClass(
    "noisy",
    tuning=(
        _noisy("log(1 + x²), noise 1e-12", lambda m, x: m.log(1 + x * x), 0.3, 2.5, hash_noise(1e-12)),
        _noisy("exp, noise 1e-10", lambda m, x: m.exp(x), -1, 2, hash_noise(1e-10, relative=True)),
        _noisy("1e3 + sin, noise 1e-10", lambda m, x: 1e3 + m.sin(x), 0.3, 2.5, hash_noise(1e-10, relative=True)),
        _noisy("exp, drawn noise 1e-9", lambda m, x: m.exp(x), -1, 2, random_noise(1e-9, relative=True)),
        _noisy("exp with a wave 1e-8", lambda m, x: m.exp(x), -1, 2, wave(1e-8, 2.7182818284e9)),
        _noisy("sin, noise 1e-6", lambda m, x: m.sin(x), 0.3, 2.5, hash_noise(1e-6, relative=True)),
        _noisy("runge, noise 1e-6", lambda m, x: 1 / (1 + 25 * x * x), 0.05, 1, hash_noise(1e-6)),
        _noisy("2 + sin, drawn noise 1e-4", lambda m, x: 2 + m.sin(x), 0.3, 2.5, random_noise(1e-4, relative=True)),
        _noisy("sin(5x), noise 1e-3", lambda m, x: m.sin(5 * x), 0.3, 2.5, hash_noise(1e-3)),
        _noisy("exp, drawn noise 1e-3", lambda m, x: m.exp(x), -1, 2, random_noise(1e-3)),
        _noisy("exp(sin x) + x² in float32", lambda m, x: m.exp(m.sin(x)) + x * x, 0.3, 2.5, inside_float32),
        _noisy("tanh in float32", lambda m, x: m.tanh(x), -1.5, 1.5, inside_float32),
        _noisy("root by Newton's method to 1e-8", _root, 0.5, 4, instead(_damped_newton)),
        _noisy("sqrt with 6 decimals", lambda m, x: m.sqrt(x), 0.5, 3, rounded(6)),
    ),
    held_out=(
        _noisy("2 + tanh, noise 1e-12", lambda m, x: 2 + m.tanh(x), -1.5, 1.5, hash_noise(1e-12, relative=True)),
        _noisy("exp(-x), drawn noise 1e-11", lambda m, x: m.exp(-x), -1, 2, random_noise(1e-11, relative=True)),
        _noisy("atan, noise 1e-9", lambda m, x: m.atan(x), 0.3, 3, hash_noise(1e-9, relative=True)),
        _noisy("x³ + x, drawn noise 1e-8", lambda m, x: x**3 + x, -1.5, 1.5, random_noise(1e-8)),
        _noisy(
            "log(2 + sin), noise 1e-7", lambda m, x: m.log(2 + m.sin(x)), -1.2, 1.2, hash_noise(1e-7, relative=True)
        ),
        _noisy("x² with a wave 1e-7", lambda m, x: x * x, 0.3, 2.5, wave(1e-7, 3.1234567e8)),
        _noisy("2 + sin, drawn noise 1e-6", lambda m, x: 2 + m.sin(x), -1.2, 1.2, random_noise(1e-6)),
        _noisy("sqrt(1 + x²), noise 1e-5", lambda m, x: m.sqrt(1 + x * x), 0.3, 2.5, hash_noise(1e-5)),
        _noisy("exp(x/2), noise 1e-4", lambda m, x: m.exp(x / 2), -2, 3, hash_noise(1e-4, relative=True)),
        _noisy("3 + cos(2x), drawn noise 1e-3", lambda m, x: 3 + m.cos(2 * x), 0.3, 1.2, random_noise(1e-3)),
        _noisy("sin log(1 + x²) in float32", lambda m, x: m.sin(x) * m.log(1 + x * x), 0.3, 1.8, inside_float32),
        _noisy(
            "mean of exponentials in float32",
            lambda m, x: (1 - m.exp(-x)) / (1 - m.exp(-x / 256)) / 256,
            0.3,
            3,
            instead(_mean_in_float32),
        ),
        _noisy("fraction to 1e-9", lambda m, x: (m.sqrt(1 + 4 * x) - 1) / 2, 0.5, 4, instead(_continued_fraction)),
        _noisy("root by bisection", _root, 0.5, 4, instead(_bisected), one=True),
        _noisy("log with 7 digits", lambda m, x: m.log(3 + x), 0.5, 3, printed(7), one=True),
    ),
)
