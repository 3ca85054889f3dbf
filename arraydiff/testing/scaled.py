"""Functions whose scale is not that of x, that ride on large offsets, or that have a singularity close by."""

# ruff: noqa: ARG005 - an expression that takes nothing from its namespace has it as an argument all the same
from __future__ import annotations

from arraydiff.testing.imperfections import within
from arraydiff.testing.sampling import beyond, decades, uniform
from arraydiff.testing.table import FunctionClass, Row

INFINITY = float("inf")

SCALE = FunctionClass(
    "scale",
    tuning=(
        Row("sin(1e8 x)", lambda m, x: m.sin(1e8 * x), uniform(0.3e-8, 2.5e-8)),
        Row("exp(1e8 x)", lambda m, x: m.exp(1e8 * x), uniform(0.3e-8, 2.5e-8)),
        Row("log near 1e8", lambda m, x: m.log(x), uniform(0.5e8, 3e8)),
        Row("x² near 1e8", lambda m, x: x * x, uniform(0.5e8, 3e8)),
        Row("sqrt near 1e-8", lambda m, x: m.sqrt(x), uniform(0.5e-8, 3e-8)),
        Row("sin(x / 1e8)", lambda m, x: m.sin(x / 1e8), uniform(0.5e8, 2.5e8)),
        Row("exp(1e-4 x)", lambda m, x: m.exp(1e-4 * x), uniform(0.5, 2)),
        Row("x^-7 near 1e3", lambda m, x: x**-7.0, uniform(500, 2000)),
        Row("1e-150 sin", lambda m, x: 1e-150 * m.sin(x), uniform(0.3, 2.5)),
        Row("x^1.5 over sixteen decades", lambda m, x: x**1.5, decades(1e-8, 1e8)),
    ),
    held_out=(
        Row("cos(1e6 x)", lambda m, x: m.cos(1e6 * x), uniform(0.3e-6, 2.8e-6)),
        Row("tanh(x / 1e5)", lambda m, x: m.tanh(x / 1e5), uniform(0.3e5, 1.5e5)),
        Row("1/(1 + (1e7 x)²)", lambda m, x: 1 / (1 + (1e7 * x) ** 2), uniform(0.2e-7, 2e-7)),
        Row("x³ near 1e-6", lambda m, x: x**3, uniform(0.5e-6, 3e-6)),
        Row("x^1.5 near 1e7", lambda m, x: x**1.5, uniform(0.5e7, 3e7)),
        Row("exp(-x / 3e6)", lambda m, x: m.exp(-x / 3e6), uniform(1e6, 1e7)),
        Row("atan(1e-3 x)", lambda m, x: m.atan(1e-3 * x), uniform(0.05, 0.5)),
        Row("1e150 cos", lambda m, x: 1e150 * m.cos(x), uniform(0.3, 2.8)),
        Row("sin(1e9 x)", lambda m, x: m.sin(1e9 * x), uniform(0.3e-9, 1.4e-9)),
        Row("x^-2.5 over sixteen decades", lambda m, x: x**-2.5, decades(1e-8, 1e8)),
    ),
)

OFFSET = FunctionClass(
    "offset",
    tuning=(
        Row("1e8 + sin", lambda m, x: 1e8 + m.sin(x), uniform(0.3, 2.5)),
        Row("1e4 + exp", lambda m, x: 1e4 + m.exp(x), uniform(-1, 2)),
        Row("sin near 1e6", lambda m, x: m.sin(x), uniform(1e6, 1e6 + 6)),
        Row("gauss near 1000", lambda m, x: m.exp(-((x - 1000) ** 2)), uniform(1000.2, 1001.5)),
        Row("1e6 + x²", lambda m, x: 1e6 + x * x, uniform(0.3, 3)),
        Row("sin near 1e10", lambda m, x: m.sin(x), uniform(1e10, 1e10 + 6)),
    ),
    held_out=(
        Row("1e6 + tanh", lambda m, x: 1e6 + m.tanh(x), uniform(-1.5, 1.5)),
        Row("3e7 + log(1 + x²)", lambda m, x: 3e7 + m.log(1 + x * x), uniform(0.3, 3)),
        Row("exp(x - 500) near 500", lambda m, x: m.exp(x - 500), uniform(499, 501)),
        Row("cos near 3e5", lambda m, x: m.cos(x), uniform(3e5, 3e5 + 6)),
        Row("Lorentz peak near 1e4", lambda m, x: 1 / (1 + (x - 1e4) ** 2), uniform(1e4 + 0.2, 1e4 + 2)),
        Row("cos near 2e9", lambda m, x: m.cos(x), uniform(2e9, 2e9 + 6)),
    ),
)

SINGULAR = FunctionClass(
    "singular",
    tuning=(
        Row("log near 1e-3", lambda m, x: m.log(x), uniform(0.5e-3, 2e-3)),
        Row("1/x near 0.01", lambda m, x: 1 / x, uniform(0.005, 0.02)),
        Row("1/(1.01 - x) near 1", lambda m, x: 1 / (1.01 - x), uniform(0.99, 1)),
        Row("tan near 1.5", lambda m, x: m.tan(x), uniform(1.45, 1.55)),
        Row("sqrt(x - 1) near 1", lambda m, x: m.sqrt(x - 1), uniform(1.0005, 1.002)),
        Row("x^x near 0.05", lambda m, x: m.exp(x * m.log(x)), uniform(0.02, 0.1)),
        Row("1/(x - 3)² near 3", lambda m, x: 1 / (x - 3) ** 2, beyond(3, 0.003, 0.1)),
        Row("log |sin x| near π", lambda m, x: m.log(m.sin(x)), uniform(3.1, 3.13)),
    ),
    held_out=(
        Row(
            "log(x - 0.0999) near 0.1",
            lambda m, x: m.log(x - 0.0999),
            beyond(0.0999, 5e-5, 5e-4),
            within(0.0999, INFINITY),
        ),
        Row("1/sqrt(x) near 1e-4", lambda m, x: 1 / m.sqrt(x), decades(1e-5, 1e-3)),
        Row("1/(x - 2)² near 2", lambda m, x: 1 / (x - 2) ** 2, beyond(2, -0.003, -0.1)),
        Row("gamma near 0", lambda m, x: m.gamma(x), uniform(0.01, 0.05)),
        Row("atanh near 1", lambda m, x: m.atanh(x), beyond(1, -0.001, -0.02)),
        Row("sqrt(sin x) near 0", lambda m, x: m.sqrt(m.sin(x)), uniform(0.005, 0.05)),
        Row("exp(-1/x) near 0.05", lambda m, x: m.exp(-1 / x), uniform(0.03, 0.1)),
        Row("(x - 5)^0.1 near 5", lambda m, x: (x - 5) ** 0.1, beyond(5, 0.002, 0.1)),
    ),
)
