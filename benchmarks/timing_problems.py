"""The problems that derivatives are timed on; each function takes a block of points just as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.analytic import rosenbrock_gradient

Function = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Problem:
    """`fun` takes one point (n,), and a block (n, k) just as well; `exact` is by hand, in the precision of its argument."""

    name: str
    fun: Function
    exact: Function
    x: np.ndarray
    is_vector: bool = False

    @property
    def truth(self) -> np.ndarray:
        """The derivative at x in long double, rounded."""
        return np.asarray(self.exact(self.x.astype(np.longdouble)), dtype=float)


def rosenbrock(x: np.ndarray) -> Any:
    head, tail = x[:-1], x[1:]
    return np.sum(100.0 * (tail - head * head) ** 2 + (1.0 - head) ** 2, axis=0)


def rosenbrock_problem(n: int) -> Problem:
    return Problem(f"Rosenbrock, n = {n}", rosenbrock, rosenbrock_gradient, np.linspace(0.3, 1.7, n))


def logistic(scaled: bool, parameters: int = 20, observations: int = 5000) -> Problem:
    """Logistic regression; `scaled`: columns of 1e-6 to 1e6, with weights that are as much smaller or larger."""
    rng = np.random.default_rng(3)
    sizes = np.geomspace(1e-6, 1e6, parameters) if scaled else np.ones(parameters)
    weights = rng.normal(size=parameters) / sizes
    label = np.where(rng.random(observations) < 0.5, -1.0, 1.0)
    design = rng.normal(size=(observations, parameters)) / np.sqrt(parameters) * sizes * -label[:, None]

    def exact(w: np.ndarray) -> np.ndarray:
        matrix = design.astype(w.dtype)
        return matrix.T @ (1 / (1 + np.exp(-(matrix @ w))))

    name = "logistic, p = 20, columns 1e-6 to 1e6" if scaled else "logistic, p = 20, 5000 rows"
    return Problem(name, lambda w: np.sum(np.log1p(np.exp(design @ w)), axis=0), exact, weights)


def gaussians(points: int = 2000, peaks: int = 5) -> Problem:
    """The Jacobian of a sum of Gaussians: heights, centres, widths."""
    grid = np.linspace(0.0, 10.0, points)
    x = np.concatenate([np.linspace(1.0, 3.0, peaks), np.linspace(1.0, 9.0, peaks), np.linspace(0.3, 0.7, peaks)])

    def fun(p: np.ndarray) -> np.ndarray:
        height, centre, width = p.reshape(3, peaks, *p.shape[1:])
        time = grid.reshape(-1, *[1] * p.ndim)
        return np.sum(height * np.exp(-0.5 * ((time - centre) / width) ** 2), axis=1)

    def exact(p: np.ndarray) -> np.ndarray:
        height, centre, width = p.reshape(3, peaks)
        away = (grid[:, None] - centre) / width
        bell = np.exp(-0.5 * away**2)
        return np.concatenate([bell, height * bell * away / width, height * bell * away**2 / width], axis=1)

    return Problem("Jacobian of 5 Gaussians, (2000, 15)", fun, exact, x, is_vector=True)


def trivial(n: int) -> Problem:
    """As quick as a Python function of an array gets: the first entry times the last."""

    def exact(x: np.ndarray) -> np.ndarray:
        out = np.zeros_like(x)
        out[0] += x[-1]
        out[-1] += x[0]
        return out

    return Problem(f"trivial f, n = {n}", lambda x: x[0] * x[-1], exact, np.linspace(1.3, 2.0, n))


def relaxations(n: int = 50, times: int = 1400) -> Problem:
    """Chi2 of a sum of decays, analytic, of about a millisecond."""
    time = np.linspace(0.0, 1.0, times)
    data = n * np.exp(-time) * (1 + 0.1 * np.cos(20 * time))

    def fun(rates: np.ndarray) -> Any:
        decays = np.exp(-time.reshape(-1, *[1] * rates.ndim) * rates)
        residual = np.sum(decays, axis=1) - data.reshape(-1, *[1] * (rates.ndim - 1))
        return np.sum(residual * residual, axis=0)

    def exact(rates: np.ndarray) -> np.ndarray:
        decays = np.exp(-time[:, None] * rates)
        return -2 * decays.T @ (time * (np.sum(decays, axis=1) - data))

    return Problem("analytic f of 1 ms, n = 50", fun, exact, np.linspace(0.2, 3.0, n))
