"""Error bars of exact derivatives: how many hold, and how wide they are: `python -m benchmarks.exact_bars [--quick]`.

Twenty-one functions in single precision, whose errors double precision shows; and chi2 of XPCS data in double precision, beside
derivatives by hand in long double (nothing where long double is double).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import arraydiff as ad
from arraydiff.environment import describe
from benchmarks import xpcs_points

N = 6
RANDOM = np.random.default_rng(20261129)
WEIGHTS, POSITIVE = RANDOM.normal(size=(20, N)), RANDOM.normal(size=(N, N))
POSITIVE = POSITIVE @ POSITIVE.T + np.eye(N)
T, LONG = np.linspace(0.0, 3.0, 200), RANDOM.normal(size=5000)


def decay(x: Any) -> Any:
    t = T.astype(x.dtype)
    return np.sum((x[0] * np.exp(-x[1] * t) + x[2] - np.exp(-t)) ** 2)


def integral(x: Any) -> Any:
    total = np.cumsum(np.exp(-np.abs(x[0]) * T.astype(x.dtype)) * (1 + x[1] ** 2))
    return np.sum((total[20:] - total[:-20] - np.abs(x[2])) ** 2)


def long_sums(x: Any) -> Any:
    waves, line = np.sin(np.arange(5000, dtype=x.dtype) * x[0]), LONG.astype(x.dtype) * x[2]
    return (np.sum(waves) - x[1] * np.sum(line)) ** 2


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "Rosenbrock": lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
    "log of a sum": lambda x: np.log(np.sum(np.exp(x))),
    "chi2 of a decay": decay,
    "chi2 of an integral": integral,
    "norm": lambda x: np.sqrt(np.sum(x * x)),
    "variance": np.var,
    "product": np.prod,
    "running sum": lambda x: np.sum(np.cumsum(x) ** 2),
    "softmax": lambda x: (np.exp(x - np.max(x)) / np.sum(np.exp(x - np.max(x))))[1],
    "fast waves": lambda x: np.sum(np.sin(50 * x) * np.cos(x)),
    "rational": lambda x: np.sum(1 / (1 + 25 * x * x)),
    "layer of a network": lambda x: np.sum(np.tanh(WEIGHTS.astype(x.dtype) @ x)),
    "quadratic form": lambda x: x @ (POSITIVE.astype(x.dtype) @ x),
    "logarithms": lambda x: np.sum(np.log1p(x * x) - x),
    "sums that cancel": lambda x: (np.sum(x) - np.sum(x[::-1] * np.float32(1.0001))) ** 2,
    "polynomial": lambda x: np.sum(((x + 3) * x - 7) * x**3),
    "linear system": lambda x: np.sum(np.linalg.solve(POSITIVE.astype(x.dtype) + np.diag(x), np.ones(N, x.dtype))),
    "coefficient of variation": lambda x: np.std(x) / np.mean(x),
    "power": lambda x: np.sum(np.abs(x) ** 1.7),
    "long sums": long_sums,
    "distances and angles": lambda x: np.sum(np.hypot(x[1:], x[:-1]) * np.arctan2(x[1:], x[:-1])),
}


def single(fun: Callable[[Any], Any], transform: Any, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors and bars at random points of all scales from 0.1 to 10."""
    random, errors, bars = np.random.default_rng(1), [], []
    for _ in range(points):
        x = (random.normal(size=N) * 10.0 ** random.uniform(-1, 1)).astype(np.float32)
        result = transform(fun, method="exact", verify_trace=False, unreliable="ignore").result(x)
        truth = np.asarray(transform(fun, verify_trace=False, unreliable="ignore")(x.astype(np.float64)))
        bars.append(np.ravel(result.error_estimate).astype(float))
        errors.append(np.abs(np.ravel(result.derivative) - np.ravel(truth)))
    return np.concatenate(errors), np.concatenate(bars)


def xpcs(transform: Any, points: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of chi2 of simulated data, near a measured point."""
    random, errors, bars = np.random.default_rng(2), [], []
    for seed in range(points):
        theta = xpcs_points.MEASURED * (1 + 0.1 * random.normal(size=9) * (np.arange(9) > 1))
        start = np.where(np.arange(9) % 2, 1.02, 0.98) * theta
        data, x = xpcs_points.simulate(start, frames=40, angles=5, seed=seed), theta[2:]
        result = transform(data.chi2, unreliable="ignore").result(x)
        truth = data.true_gradient(x) if transform is ad.grad else data.true_hessian(x)
        bars.append(np.ravel(result.error_estimate))
        errors.append(np.abs(np.ravel(result.derivative - truth)).astype(float))
    return np.concatenate(errors), np.concatenate(bars)


def told(errors: np.ndarray, bars: np.ndarray) -> str:
    some = errors > 0
    ratio = f"{np.median(bars[some] / errors[some]):.1f}" if some.any() else "-"  # nothing was rounded
    return f"{np.mean(errors <= bars):>9.1%}{ratio:>9}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Error bars of exact derivatives: how many hold, and how wide they are."
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of the points")
    points = 15 if parser.parse_args().quick else 60
    np.seterr(all="ignore")
    print("\n".join(describe()))
    print(f"\n{'':28}{'gradient':>18}{'Hessian':>18}\n{'':28}" + f"{'hold':>9}{'bar/err':>9}" * 2)
    every: dict[Any, list[tuple[np.ndarray, np.ndarray]]] = {ad.grad: [], ad.hessian: []}
    for name, fun in FUNCTIONS.items():
        for transform, found in every.items():
            found.append(single(fun, transform, points))
        print(f"{name:28}" + "".join(told(*found[-1]) for found in every.values()), flush=True)
    joined = [[np.concatenate(part) for part in zip(*found, strict=True)] for found in every.values()]
    print(f"{'all of them':28}" + "".join(told(*one) for one in joined))
    if xpcs_points.EXTENDED_ENOUGH:
        found = [xpcs(transform, points // 3) for transform in every]
        print(f"{'chi2 of XPCS, 7 parameters':28}" + "".join(told(*one) for one in found))


if __name__ == "__main__":
    main()
