"""Functions without a difficulty of their own, at ordinary points, at x = 0, and with many periods."""

# ruff: noqa: ARG005 - an expression that takes nothing from its namespace has it as an argument all the same
from __future__ import annotations

from arraydiff.testing.sampling import only, uniform
from arraydiff.testing.table import FunctionClass, Row

SMOOTH = FunctionClass(
    "smooth",
    tuning=(
        Row("sin", lambda m, x: m.sin(x), uniform(0.3, 2.5)),
        Row("exp", lambda m, x: m.exp(x), uniform(-1, 2)),
        Row("cubic", lambda m, x: x**3 - 2 * x, uniform(-2, 2)),
        Row("runge", lambda m, x: 1 / (1 + 25 * x * x), uniform(-1, 1)),
        Row("log(1 + x²)", lambda m, x: m.log(1 + x * x), uniform(0.2, 3)),
        Row("tanh(3x)", lambda m, x: m.tanh(3 * x), uniform(-1, 1)),
        Row("erf", lambda m, x: m.erf(x), uniform(-1.5, 1.5)),
        Row("exp(sin 5x)", lambda m, x: m.exp(m.sin(5 * x)), uniform(-1, 1)),
        Row("sqrt(1 + x²)", lambda m, x: m.sqrt(1 + x * x), uniform(0.2, 3)),
        Row("bessel J0", lambda m, x: m.besselj(0, x), uniform(0.5, 6), analytic=False),
    ),
    held_out=(
        Row("damped cosine", lambda m, x: m.cos(x) * m.exp(-x / 2), uniform(0, 4)),
        Row("x / (1 + x²)", lambda m, x: x / (1 + x * x), uniform(-2, 2)),
        Row("atan(2x)", lambda m, x: m.atan(2 * x), uniform(-1.5, 1.5)),
        Row("gamma", lambda m, x: m.gamma(x), uniform(1.6, 4)),
        Row("log(2 + sin x)", lambda m, x: m.log(2 + m.sin(x)), uniform(-3, 3)),
        Row("x^2.5", lambda m, x: x**2.5, uniform(0.5, 3)),
        Row("logistic", lambda m, x: 1 / (1 + m.exp(-2 * x)), uniform(-2, 2)),
        Row("Chebyshev T7", lambda m, x: (((64 * x * x - 112) * x * x + 56) * x * x - 7) * x, uniform(-0.9, 0.9)),
        Row("gauss", lambda m, x: m.exp(-x * x), uniform(0.2, 1.8)),
        Row("log gamma", lambda m, x: m.loggamma(x), uniform(2, 6), analytic=False),
    ),
)

ZERO = FunctionClass(
    "zero",
    tuning=(
        Row("exp at 0", lambda m, x: m.exp(x), only(0)),
        Row("sin at 0", lambda m, x: m.sin(x), only(0)),
        Row("1 + atan at 0", lambda m, x: m.atan(x) + 1, only(0)),
        Row("1/(1 - x) at 0", lambda m, x: 1 / (1 - x), only(0)),
        Row("x + cos x at 0", lambda m, x: m.cos(x) + x, only(0)),
        Row("exp(1e3 x) at 0", lambda m, x: m.exp(1e3 * x), only(0)),
        Row("1 + sin(1e-3 x) at 0", lambda m, x: m.sin(1e-3 * x) + 1, only(0)),
        Row("log(cosh + exp) at 0", lambda m, x: m.log(m.cosh(x) + m.exp(x)), only(0)),
        Row("x³ - 2x + 5 at 0", lambda m, x: x**3 - 2 * x + 5, only(0)),
    ),
    held_out=(
        Row("1 + log1p at 0", lambda m, x: 1 + m.log1p(x), only(0)),
        Row("expm1(50x) at 0", lambda m, x: m.expm1(50 * x), only(0)),
        Row("tanh + x² at 0", lambda m, x: m.tanh(x) + x * x, only(0)),
        Row("sinh(20x) + cos x at 0", lambda m, x: m.sinh(20 * x) + m.cos(x), only(0)),
        Row("2 + erf at 0", lambda m, x: m.erf(x) + 2, only(0)),
        Row("(1 + x)^7 at 0", lambda m, x: (1 + x) ** 7, only(0)),
        Row("3 + sin(2e4 x) at 0", lambda m, x: 3 + m.sin(2e4 * x), only(0)),
        Row("exp(-1e-4 x) at 0", lambda m, x: m.exp(-1e-4 * x), only(0)),
        Row("1/(0.05 - x) at 0", lambda m, x: 1 / (0.05 - x), only(0)),
        Row("x + cos(100x)/1000 at 0", lambda m, x: x + 1e-3 * m.cos(100 * x), only(0)),
    ),
)

OSCILLATORY = FunctionClass(
    "oscillatory",
    tuning=(
        Row("sin(50x)", lambda m, x: m.sin(50 * x), uniform(0.5, 2)),
        Row("sin(100x) exp", lambda m, x: m.sin(100 * x) * m.exp(x), uniform(0, 2)),
        Row("cos(10x²)", lambda m, x: m.cos(10 * x * x), uniform(4, 6)),
        Row("sin(1000x)", lambda m, x: m.sin(1000 * x), uniform(0.5, 2)),
        Row("sin(60x)/x", lambda m, x: m.sin(60 * x) / x, uniform(0.5, 3)),
        Row("sum of two waves", lambda m, x: m.sin(37 * x) + m.cos(53 * x), uniform(-2, 2)),
    ),
    held_out=(
        Row("cos(80x)/(1 + x²)", lambda m, x: m.cos(80 * x) / (1 + x * x), uniform(-2, 2)),
        Row("sin(x³)", lambda m, x: m.sin(x**3), uniform(4, 6)),
        Row("product of two waves", lambda m, x: m.sin(30 * x) * m.sin(77 * x), uniform(0.3, 2)),
        Row("exp(sin 200x)", lambda m, x: m.exp(m.sin(200 * x)), uniform(0.5, 1.5)),
        Row("sin(1/x)", lambda m, x: m.sin(1 / x), uniform(0.01, 0.04)),
        Row("cos(700x) + x", lambda m, x: m.cos(700 * x) + x, uniform(1, 3)),
        Row("bessel J0(40x)", lambda m, x: m.besselj(0, 40 * x), uniform(0.5, 2), analytic=False),
    ),
)
