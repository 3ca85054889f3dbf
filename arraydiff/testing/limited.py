"""Functions that end, or bend sharply, close to where they are differentiated, or right there."""

# ruff: noqa: ARG005 - an expression that takes nothing from its namespace has it as an argument all the same
from __future__ import annotations

from typing import Any

import numpy as np

from arraydiff.testing.imperfections import instead, raising, within
from arraydiff.testing.sampling import beyond, decades, only, uniform
from arraydiff.testing.table import FunctionClass, Row

INFINITY = float("inf")
KNOTS = np.linspace(0, 4, 41)

EDGE = FunctionClass(
    "edge",
    tuning=(
        Row("sqrt near 1e-6", lambda m, x: m.sqrt(x), uniform(0.5e-6, 2e-6), within(0, INFINITY)),
        Row("log1p near -0.999", lambda m, x: m.log1p(x), uniform(-0.9995, -0.998), within(-1, INFINITY)),
        Row("exp(-x) ends at 0", lambda m, x: m.exp(-x), only(0), within(0, INFINITY)),
        Row("x⁴ ends at 1", lambda m, x: x**4, only(1), within(-INFINITY, 1)),
        Row("asin near 0.999", lambda m, x: m.asin(x), uniform(0.998, 0.9995), within(-1, 1)),
        Row("sin(3x) ends at 1", lambda m, x: m.sin(3 * x), only(1), within(1, INFINITY)),
        Row("x log x near 1e-4", lambda m, x: x * m.log(x), uniform(0.5e-4, 2e-4), within(0, INFINITY)),
        Row(
            "sqrt(2 + x) raises below -2",
            lambda m, x: m.sqrt(2 + x),
            beyond(-2, 1e-5, 1e-3),
            raising(-2, INFINITY),
            vectorized=False,
        ),
    ),
    held_out=(
        Row("acosh near 1", lambda m, x: m.acosh(x), beyond(1, 1e-4, 1e-2), within(1, INFINITY)),
        Row("half circle near 1", lambda m, x: m.sqrt(1 - x * x), beyond(1, -1e-4, -1e-2), within(-1, 1)),
        Row("x^1.5 near 1e-6", lambda m, x: x**1.5, decades(1e-7, 1e-5), within(0, INFINITY)),
        Row("cos ends at 2", lambda m, x: m.cos(x), only(2), within(2, INFINITY)),
        Row("exp is infinite beyond 0.5", lambda m, x: m.exp(x), only(0.5), within(-INFINITY, 0.5, INFINITY)),
        Row("1/(2 + x) ends at 0", lambda m, x: 1 / (2 + x), only(0), within(0, INFINITY)),
        Row("tan between -1 and 1", lambda m, x: m.tan(x), beyond(1, -1e-5, -1e-2), within(-1, 1)),
        Row("beta density near 0", lambda m, x: x**2 * (1 - x) ** 3.5, decades(1e-5, 1e-3), within(0, 1)),
        Row(
            "log(1 + x) raises below -1",
            lambda m, x: m.log(1 + x),
            beyond(-1, 1e-5, 1e-3),
            raising(-1, INFINITY),
            vectorized=False,
        ),
    ),
)


def _line_between_knots(m: Any, x: Any) -> Any:
    """The straight line that np.interp draws through the two values of sin around x."""
    right = int(np.searchsorted(KNOTS, float(x)))
    (low, at_low), (high, at_high) = ((m.mpf(KNOTS[k]), m.mpf(np.sin(KNOTS[k]))) for k in (right - 1, right))
    return at_low + (at_high - at_low) / (high - low) * (x - low)


KINK = FunctionClass(
    "kink",
    tuning=(
        Row("x |x - 1| near 1", lambda m, x: abs(x - 1) * x, uniform(1.003, 1.03), analytic=False),
        Row("x |x| near 1e-3", lambda m, x: x * abs(x), uniform(0.5e-3, 2e-3), analytic=False),
        Row("x + relu³", lambda m, x: m.maximum(x, 0) ** 3 + x, uniform(0.02, 0.2), analytic=False),
        Row("exp(-|x|) near 0.1", lambda m, x: m.exp(-abs(x)), uniform(0.02, 0.2), analytic=False),
        Row("|x| near 1e-9", lambda m, x: abs(x), decades(1e-10, 1e-8), analytic=False),
        Row(
            "sin between knots",
            _line_between_knots,
            lambda rng, count: KNOTS[rng.integers(3, 30, count)] + 0.03,
            instead(lambda x: np.interp(np.real(x), KNOTS, np.sin(KNOTS))),
            analytic=False,
        ),
    ),
    held_out=(
        Row("max(x, x²) near 1", lambda m, x: m.maximum(x, x * x), beyond(1, 0.002, 0.03), analytic=False),
        Row("|sin x| near π", lambda m, x: abs(m.sin(x)), beyond(np.pi, 0.003, 0.1), analytic=False),
        Row(
            "Huber loss near 1",
            lambda m, x: m.where(abs(x) < 1, x * x / 2, abs(x) - 0.5),
            beyond(1, -0.002, -0.03),
            analytic=False,
        ),
        Row("x³ with a jump below", lambda m, x: x**3 + m.where(x > 1, 1, 0), beyond(1, 0.003, 0.03), analytic=False),
        Row(
            "min(sin, cos) near π/4",
            lambda m, x: m.minimum(m.sin(x), m.cos(x)),
            beyond(np.pi / 4, 0.003, 0.05),
            analytic=False,
        ),
        Row("exp(relu(x)) near 0", lambda m, x: m.exp(m.maximum(x, 0)), decades(1e-5, 1e-2), analytic=False),
        Row("sqrt|x - 2| near 2", lambda m, x: m.sqrt(abs(x - 2)), beyond(2, -0.003, -0.05), analytic=False),
    ),
)
