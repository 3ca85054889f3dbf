"""Functions of 2 to 10 parameters, each with its exact Hessian: differences at 120 digits, rounded.

``function(m, x)`` is written once for NumPy (m = numpy, x of shape (n,) or (n, k), real or complex) and for mpmath. No line of
it is shared with the package, and none of the Hessians is by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np

DIGITS = 120
STEP = "1e-30"  # relative: what it truncates is of order 1e-60, what it loses 1e-60 of 1e-120
NOTHING = 1e-50  # of the largest entry: what is left of a zero

Function = Callable[[Any, Sequence[Any]], Any]


@dataclass(frozen=True)
class Known:
    """A function at a point."""

    name: str
    function: Function
    point: tuple[float, ...]

    def __call__(self, x: np.ndarray) -> Any:
        return self.function(np, x)

    @property
    def x(self) -> np.ndarray:
        return np.asarray(self.point)

    @cached_property
    def hessian(self) -> np.ndarray:
        """(n, n), right to the last bit."""
        return exact_hessian(self.function, self.point)


def exact_hessian(function: Function, point: Sequence[float]) -> np.ndarray:
    """Second differences of four points, at which nothing is lost."""
    n = len(point)
    with mpmath.workdps(DIGITS):
        x = [mpmath.mpf(float(entry)) for entry in point]
        steps = [mpmath.mpf(STEP) * max(abs(entry), mpmath.mpf(10) ** -30) for entry in x]

        def at(moves: dict[int, int]) -> Any:
            return function(mpmath, [entry + moves.get(k, 0) * steps[k] for k, entry in enumerate(x)])

        out = np.zeros((n, n))
        centre = at({})
        for i in range(n):
            out[i, i] = float((at({i: 1}) - 2 * centre + at({i: -1})) / steps[i] ** 2)
            for j in range(i):
                cross = at({i: 1, j: 1}) - at({i: 1, j: -1}) - at({i: -1, j: 1}) + at({i: -1, j: -1})
                out[i, j] = out[j, i] = float(cross / (4 * steps[i] * steps[j]))
    return np.where(np.abs(out) < NOTHING * np.max(np.abs(out)), 0.0, out)


def squares(terms: Any) -> Any:
    return sum(term * term for term in terms)


def rosenbrock(m: Any, x: Any) -> Any:
    return sum(100.0 * (b - a * a) * (b - a * a) + (1.0 - a) * (1.0 - a) for a, b in pairwise(x))


def beale(m: Any, x: Any) -> Any:
    u, v = x
    return squares((1.5 - u + u * v, 2.25 - u + u * v * v, 2.625 - u + u * v * v * v))


def himmelblau(m: Any, x: Any) -> Any:
    return squares((x[0] * x[0] + x[1] - 11.0, x[0] + x[1] * x[1] - 7.0))


def powell(m: Any, x: Any) -> Any:
    a, b, c, d = x
    return (a + 10.0 * b) ** 2 + 5.0 * (c - d) ** 2 + (b - 2.0 * c) ** 4 + 10.0 * (a - d) ** 4


def wood(m: Any, x: Any) -> Any:
    a, b, c, d = x
    first = 100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2 + 90.0 * (d - c * c) ** 2 + (1.0 - c) ** 2
    return first + 10.1 * ((b - 1.0) ** 2 + (d - 1.0) ** 2) + 19.8 * (b - 1.0) * (d - 1.0)


def branin(m: Any, x: Any) -> Any:
    return (x[1] - 0.129 * x[0] * x[0] + 1.6 * x[0] - 6.0) ** 2 + 9.6 * m.cos(x[0]) + 10.0


MATRIX = ((4.0, 1.0, -0.5, 0.0), (1.0, 3.0, 0.25, -1.0), (-0.5, 0.25, 2.0, 0.75), (0.0, -1.0, 0.75, 5.0))


def dot(row: Sequence[float], x: Any) -> Any:
    return sum(a * b for a, b in zip(row, x, strict=True))


def quadratic(m: Any, x: Any) -> Any:
    return sum(x[i] * dot(MATRIX[i], x) for i in range(4)) / 2 + sum(x)


RANDOM = np.random.default_rng(11)
DESIGN = [[round(float(value), 3) for value in row] for row in RANDOM.normal(size=(12, 5))]
LABELS = [1.0 if value > 0 else -1.0 for value in RANDOM.normal(size=12)]
COUNTS = (3.0, 1.0, 4.0, 6.0, 9.0, 14.0, 17.0, 30.0)
GRID = (-2.0, -1.25, -0.5, 0.0, 0.25, 0.75, 1.5, 2.5)
TIMES = (0.1, 0.3, 0.6, 1.0, 1.6, 2.5, 4.0, 6.0)
HEIGHTS = (0.2, 0.55, 1.4, 2.0, 2.15, 1.8, 0.75, 0.3)
DECAYS = (2.7, 2.2, 1.75, 1.2, 0.75, 0.45, 0.2, 0.1)


def logistic(m: Any, x: Any) -> Any:
    return sum(m.log(1.0 + m.exp(-label * dot(row, x))) for label, row in zip(LABELS, DESIGN, strict=True))


def log_sum_exp(m: Any, x: Any) -> Any:
    return m.log(sum(m.exp(entry) for entry in x))


def entropy(m: Any, x: Any) -> Any:
    return sum(entry * m.log(entry) for entry in x)


def neighbours(m: Any, x: Any) -> Any:
    return sum(m.sin(x[i]) * m.cos(x[(i + 1) % len(x)]) for i in range(len(x)))


def gaussian_chi2(m: Any, x: Any) -> Any:
    height, centre, width, offset = x
    bells = (height * m.exp(-0.5 * ((t - centre) / width) ** 2) + offset for t in GRID)
    return squares((bell - y) / 0.05 for bell, y in zip(bells, HEIGHTS, strict=True))


def lorentzian_chi2(m: Any, x: Any) -> Any:
    height, centre, width = x
    return squares(
        (height * width / ((t - centre) ** 2 + width * width) - y) / 0.1 for t, y in zip(GRID, HEIGHTS, strict=True)
    )


def decays_chi2(m: Any, x: Any) -> Any:
    a, b, c, d = x
    return squares((a * m.exp(-b * t) + c * m.exp(-d * t) - y) / 0.05 for t, y in zip(TIMES, DECAYS, strict=True))


def wave_chi2(m: Any, x: Any) -> Any:
    a, b, c, d = x
    return squares((a * m.exp(-b * t) * m.cos(c * t + d) - y) / 0.1 for t, y in zip(TIMES, DECAYS, strict=True))


def kinetics_chi2(m: Any, x: Any) -> Any:
    return squares(
        (x[0] * t / (x[1] + t) - y) / 0.02 for t, y in zip(TIMES, (0.2, 0.5, 0.8, 1.0, 1.3, 1.5, 1.6, 1.7), strict=True)
    )


def correlation_chi2(m: Any, x: Any) -> Any:
    """Contrast, offset, diffusion coefficient of some 1e4, exponent: a dynamic correlation function."""
    contrast, offset, diffusion, alpha = x
    model = (offset + contrast * m.exp(-5e-5 * diffusion * m.exp((1.0 + alpha) * m.log(t))) for t in TIMES)
    data = (1.32, 1.28, 1.23, 1.18, 1.13, 1.09, 1.05, 1.02)
    return squares((value - y) / 0.02 for value, y in zip(model, data, strict=True))


def network(m: Any, x: Any) -> Any:
    return sum(m.tanh(dot(row, x)) for row in (row[:4] for row in DESIGN[:6]))


def product(m: Any, x: Any) -> Any:
    return x[0] * x[1] * x[2] * x[3]


def norm(m: Any, x: Any) -> Any:
    return m.sqrt(1.0 + squares(x))


def rational(m: Any, x: Any) -> Any:
    return sum(1.0 / (1.0 + 25.0 * entry * entry) for entry in x)


def broyden(m: Any, x: Any) -> Any:
    padded = [0.0 * x[0], *x, 0.0 * x[0]]
    return squares(
        (3.0 - 2.0 * padded[i]) * padded[i] - padded[i - 1] - 2.0 * padded[i + 1] + 1.0 for i in range(1, len(x) + 1)
    )


def offset_exponential(m: Any, x: Any) -> Any:
    return 1e4 + sum(m.exp(entry) for entry in x)


def poisson(m: Any, x: Any) -> Any:
    rates = [x[0] + x[1] * t + x[2] * t * t for t in GRID]
    return sum(m.exp(rate) - k * rate for rate, k in zip(rates, COUNTS, strict=True))


def normal_likelihood(m: Any, x: Any) -> Any:
    return sum(((y - x[0]) / x[1]) ** 2 / 2 + m.log(x[1]) for y in HEIGHTS)


def student_likelihood(m: Any, x: Any) -> Any:
    return sum(
        2.5 * m.log(1.0 + ((y - x[0] - x[2] * t) / x[1]) ** 2 / 4) + m.log(x[1])
        for t, y in zip(GRID, HEIGHTS, strict=True)
    )


def styblinski(m: Any, x: Any) -> Any:
    return sum(entry**4 - 16.0 * entry * entry + 5.0 * entry for entry in x) / 2


def chained_sines(m: Any, x: Any) -> Any:
    return sum(m.sin(a * b) for a, b in pairwise(x)) + m.exp(-squares(x) / 20.0)


def valley(m: Any, x: Any) -> Any:
    """Curvatures 1e12 apart."""
    return x[0] * x[0] + 1e-12 * x[1] * x[1]


def ramp(n: int) -> tuple[float, ...]:
    return tuple(np.linspace(0.3, 1.7, n).tolist())


FUNCTIONS = (
    Known("Rosenbrock, n = 10", rosenbrock, ramp(10)),
    Known("Rosenbrock, n = 2", rosenbrock, (-1.2, 1.0)),
    Known("Beale", beale, (1.2, 0.6)),
    Known("Himmelblau", himmelblau, (1.5, -2.2)),
    Known("Powell", powell, (3.0, -1.0, 0.5, 1.0)),
    Known("Wood", wood, (-3.0, -1.0, -3.0, -1.0)),
    Known("Branin", branin, (2.5, 4.0)),
    Known("quadratic form", quadratic, (0.3, -1.0, 2.0, 0.7)),
    Known("logistic loss", logistic, (0.2, -0.4, 1.0, 0.3, -0.8)),
    Known("log-sum-exp", log_sum_exp, (0.5, -1.0, 2.0, 1.5, -0.2, 0.9)),
    Known("entropy", entropy, (0.05, 0.3, 1.0, 4.0, 20.0)),
    Known("sines of neighbours", neighbours, (0.4, -1.1, 2.0, 0.9, -0.3, 1.6)),
    Known("chi2 of a Gaussian", gaussian_chi2, (2.0, 0.3, 0.8, 0.1)),
    Known("chi2 of a Lorentzian", lorentzian_chi2, (2.0, 0.3, 0.4)),
    Known("chi2 of two decays", decays_chi2, (1.5, 0.4, 1.3, 1.2)),
    Known("chi2 of a damped wave", wave_chi2, (1.5, 0.3, 2.0, 0.4)),
    Known("chi2 of kinetics", kinetics_chi2, (2.1, 1.1)),
    Known("chi2 of a correlation", correlation_chi2, (0.3, 1.02, 6.8e3, -0.1)),
    Known("network", network, (0.2, -0.1, 0.4, 0.3)),
    Known("product", product, (2e-4, 3.0, -1.5, 1e3)),
    Known("norm", norm, (0.5, -1.3, 2.0)),
    Known("rational", rational, (0.1, -0.4, 0.9)),
    Known("Broyden, n = 8", broyden, tuple(np.linspace(-1.0, 0.8, 8).tolist())),
    Known("1e4 + exponentials", offset_exponential, (0.2, 1.1, -0.6)),
    Known("Poisson likelihood", poisson, (1.4, 0.7, 0.05)),
    Known("normal likelihood", normal_likelihood, (1.1, 0.8)),
    Known("Student's t likelihood", student_likelihood, (1.0, 0.6, 0.2)),
    Known("Styblinski & Tang", styblinski, (-2.9, 0.4, 2.7, -1.0, 0.1)),
    Known("chained sines, n = 10", chained_sines, ramp(10)),
)

VALLEY = Known("x² + 1e-12 y²", valley, (1.0, 1.0))
SMALL = Known("x log x at 1e-8", entropy, (1e-8, 1e-8))
