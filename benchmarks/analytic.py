"""Ten functions with gradients known by hand, n = 10 to 1000."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Problem:
    name: str
    fun: Callable[[np.ndarray], Any]
    gradient: Callable[[np.ndarray], np.ndarray]
    x: np.ndarray


def rosenbrock(x: np.ndarray) -> Any:
    head, tail = x[:-1], x[1:]
    return np.sum(100.0 * (tail - head * head) ** 2 + (1.0 - head) ** 2)


def rosenbrock_gradient(x: np.ndarray) -> np.ndarray:
    head, tail = x[:-1], x[1:]
    bend = tail - head * head
    out = np.zeros_like(x)
    out[:-1] = -400.0 * head * bend - 2.0 * (1.0 - head)
    out[1:] += 200.0 * bend
    return out


def coupled(x: np.ndarray) -> Any:
    return np.sum(x * x) / 2.0 + np.sum(x[1:] * x[:-1])


def coupled_gradient(x: np.ndarray) -> np.ndarray:
    out = x.copy()
    out[:-1] += x[1:]
    out[1:] += x[:-1]
    return out


def broyden_residual(x: np.ndarray) -> np.ndarray:
    padded = np.concatenate([np.zeros(1), x, np.zeros(1)])
    return (3.0 - 2.0 * x) * x - padded[:-2] - 2.0 * padded[2:] + 1.0


def broyden(x: np.ndarray) -> Any:
    residual = broyden_residual(x)
    return np.sum(residual * residual)


def broyden_gradient(x: np.ndarray) -> np.ndarray:
    residual = broyden_residual(x)
    out = residual * (3.0 - 4.0 * x)
    out[:-1] -= residual[1:]
    out[1:] -= 2.0 * residual[:-1]
    return 2.0 * out


def softmax_gradient(x: np.ndarray) -> np.ndarray:
    weights = np.exp(x)
    return weights / np.sum(weights)


def logistic(n: int) -> Problem:
    rng = np.random.default_rng(7)
    design, label = rng.normal(size=(200, n)) / np.sqrt(n), np.where(rng.random(200) < 0.5, -1.0, 1.0)

    def fun(w: np.ndarray) -> Any:
        return np.sum(np.log1p(np.exp(-label * (design @ w))))

    def gradient(w: np.ndarray) -> np.ndarray:
        return -design.T @ (label / (1.0 + np.exp(label * (design @ w))))

    return Problem("logistic regression", fun, gradient, rng.normal(size=n))


def exponential_fit(n: int) -> Problem:
    """Chi2 of n/2 decaying exponentials: amplitudes first, then rates."""
    half, time = n // 2, np.linspace(0.0, 1.0, 60)
    data = np.cos(3.0 * time)

    def fun(p: np.ndarray) -> Any:
        residual = np.exp(-np.outer(time, p[half:])) @ p[:half] - data
        return np.sum(residual * residual)

    def gradient(p: np.ndarray) -> np.ndarray:
        decay = np.exp(-np.outer(time, p[half:]))
        residual = decay @ p[:half] - data
        return 2.0 * np.concatenate([decay.T @ residual, -p[:half] * (decay.T @ (time * residual))])

    x = np.concatenate([np.linspace(0.5, 1.5, half), np.linspace(0.3, 4.0, half)])
    return Problem("exponential fit", fun, gradient, x)


def problems() -> list[Problem]:
    """The ten problems, each at one size."""
    sizes = {"small": 10, "medium": 100, "large": 1000}
    ramp = {name: np.linspace(0.3, 1.7, n) for name, n in sizes.items()}
    return [
        Problem("Rosenbrock", rosenbrock, rosenbrock_gradient, ramp["small"]),
        Problem("Rosenbrock", rosenbrock, rosenbrock_gradient, ramp["large"]),
        Problem("coupled squares", coupled, coupled_gradient, ramp["large"] - 1.0),
        Problem("Broyden tridiagonal", broyden, broyden_gradient, ramp["medium"] - 1.4),
        Problem("log-sum-exp", lambda x: np.log(np.sum(np.exp(x))), softmax_gradient, ramp["medium"] * 3.0),
        Problem(
            "sin times exp",
            lambda x: np.sum(np.sin(3.0 * x) * np.exp(x)),
            lambda x: np.exp(x) * (3.0 * np.cos(3.0 * x) + np.sin(3.0 * x)),
            ramp["medium"],
        ),
        Problem(
            "rational", lambda x: np.sum(x / (1.0 + x * x)), lambda x: (1 - x * x) / (1 + x * x) ** 2, 2 * ramp["small"]
        ),
        Problem(
            "entropy, scales 1e-6 to 1e6",
            lambda x: np.sum(x * np.log(x)),
            lambda x: np.log(x) + 1.0,
            np.geomspace(1e-6, 1e6, 10),
        ),
        logistic(50),
        exponential_fit(20),
    ]
