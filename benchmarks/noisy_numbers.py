"""Noisy functions of one variable over many seeds: does the error bar hold, and is the noise level found?

python -m benchmarks.noisy_numbers [--seeds N]
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import arraydiff as ad
from benchmarks.noisy_vectors import FAMILIES, NOISES
from benchmarks.peers import Counted
from benchmarks.rows import Row, table

LEVELS = (1e-12, 1e-9, 1e-6, 1e-3)
SEEDS = 200
ROUNDING = 4 * float(np.finfo(np.float64).eps)
WITHIN = (5.0, 3.0)  # factors of the injected level: must, ambitious

Number = Callable[[Any], Any]
CURVES: dict[str, tuple[Number, Number]] = {
    "sin": (np.sin, np.cos),
    "exp": (np.exp, np.exp),
    "x**3 + 10": (lambda x: x * x * x + 10, lambda x: 3 * x * x),
    "saturating": (lambda x: x / (1 + x * x), lambda x: (1 - x * x) / (1 + x * x) ** 2),
}


def drawn(rng: np.random.Generator) -> Number:
    return lambda x: rng.standard_normal()


def hashed(rng: np.random.Generator) -> Number:
    key = int(rng.integers(2**31))
    return lambda x: np.random.default_rng([key, *np.atleast_1d(np.real(x)).view(np.uint32)]).standard_normal()


KINDS = {"drawn": drawn, "hashed": hashed}
Tool = Callable[[Number, float], tuple[Any, Any]]


def ours(fun: Number, x: float) -> tuple[Any, Any]:
    result = ad.grad(fun, unreliable="ignore").result(x)
    return result.gradient, result.error_estimate


def numdifftools(fun: Number, x: float) -> tuple[Any, Any]:
    import numdifftools

    value, second = numdifftools.Derivative(fun, full_output=True)(x)[:2]
    return value, getattr(second, "error_estimate", second)


def jacobi(fun: Number, x: float) -> tuple[Any, Any]:
    from jacobi import jacobi

    return jacobi(fun, x)


TOOLS: dict[str, Tool] = {"arraydiff": ours, "numdifftools": numdifftools, "jacobi": jacobi}


@dataclass(frozen=True)
class Answers:
    """Relative errors and bars of one tool, over seeds."""

    error: np.ndarray
    bar: np.ndarray
    points: float

    @property
    def covered(self) -> float:
        return float(np.mean(self.error <= self.bar))

    @property
    def sharpness(self) -> float:
        """The median bar over the median error, of the answers that are not exact to rounding; NaN where all are."""
        inexact = self.error > ROUNDING
        if not np.any(inexact):
            return float("nan")
        return float(np.median(self.bar[inexact]) / np.median(self.error[inexact]))

    def __str__(self) -> str:
        return f"{np.median(self.error):8.1e}{100 * self.covered:6.1f} %{self.sharpness:6.1f}{self.points:6.1f}"


def answers(tool: Tool, curve: str, kind: str, level: float, seeds: int) -> Answers:
    """Noise of the standard deviation level * |f(x)|, added to f at every call; x anew for every seed."""
    fun, slope = CURVES[curve]
    found, points = [], 0
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 3])
        x = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.2, 3.0))
        noise, sigma, truth = KINDS[kind](rng), level * abs(fun(x)), slope(x)
        counted = Counted(lambda p, noise=noise, sigma=sigma: fun(p) + sigma * noise(p))
        value, bar = (float(np.asarray(part).reshape(-1)[0]) for part in quietly(tool, counted, x))
        error = abs(value - truth) / abs(truth)
        found.append((error if np.isfinite(error) else np.inf, bar / abs(truth)))
        points += counted.points
    return Answers(*np.asarray(found).T, points / seeds)


def quietly(tool: Tool, fun: Number, x: float) -> tuple[Any, Any]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return tool(fun, x)


def present() -> dict[str, Tool]:
    found = {}
    for name, tool in TOOLS.items():
        try:
            quietly(tool, np.sin, 1.0)
        except ImportError as missing:
            print(f"left out: {name} ({missing})")
        else:
            found[name] = tool
    return found


def coverage_rows(seeds: int) -> list[Row]:
    """One row a level: the share of all answers whose bar holds, and the sharpness."""
    tools, rows = present(), []
    print(f"\none variable, {seeds} seeds: median error, coverage, sharpness, points")
    print(f"{'':30}" + "".join(f"{name:>28}" for name in tools), flush=True)
    for level in LEVELS:
        mine = []
        for curve, kind in product(CURVES, KINDS):
            found = {name: answers(tool, curve, kind, level, seeds) for name, tool in tools.items()}
            mine.append(found["arraydiff"])
            print(f"{curve:13}{kind:8}{level:8.0e}" + "".join(f"{found[name]!s:>28}" for name in tools), flush=True)
        covered = [one.covered for one in mine]
        sharpness = float(np.nanmedian([one.sharpness for one in mine]))
        rows += [
            Row(f"noise {level:.0e}, one variable: true error <= bar", 0.95, 0.97, float(np.mean(covered)), True),
            Row(f"noise {level:.0e}, one variable: the same, least of the functions", 0.95, 0.97, min(covered), True),
            Row(
                f"noise {level:.0e}, one variable: median bar / median error, median of the functions", 20, 5, sharpness
            ),
        ]
    return rows


def level_rows(seeds: int) -> list[Row]:
    """How often `estimate_noise` is near the level that was put in, n = 7 and 40."""
    if not hasattr(ad, "estimate_noise"):
        print("\nleft out: estimate_noise, which this arraydiff does not have")
        return []
    factors: dict[str, list[float]] = {}
    kept = []
    for seed, ((family, make), kind, level, _) in enumerate(product(FAMILIES.items(), KINDS, LEVELS, range(seeds))):
        problem = make((7, 40)[seed % 2], seed)
        estimate = quietly(ad.estimate_noise, NOISES[kind](problem, level, seed), problem.x)
        found, reliability = float(np.ravel(estimate.level)[0]), float(np.ravel(estimate.reliability)[0])
        ratio = found / (level * abs(problem.fun(problem.x)))
        factor = max(ratio, 1 / ratio) if ratio > 0 else np.inf
        factors.setdefault(f"{family:13}{kind:8}{level:8.0e}", []).append(factor)
        kept.append(factor <= reliability)
    print("\nestimate_noise over the level put in, either way: median and largest factor")
    for name, these in factors.items():
        print(f"{name}{np.median(these):10.2f}{max(these):10.2f}")
    everything = np.concatenate(list(factors.values()))
    return [
        *(
            Row(f"estimate_noise within a factor {factor:.0f}", 0.95, 0.95, float(np.mean(everything <= factor)), True)
            for factor in WITHIN
        ),
        Row("estimate_noise within its own reliability", 0.95, 0.95, float(np.mean(kept)), True),
    ]


def rows(seeds: int = SEEDS) -> list[Row]:
    """The rows of the closing table on one variable, and on the level itself."""
    return [*coverage_rows(seeds), *level_rows(max(seeds // 10, 2))]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    print(table(rows(parser.parse_args().seeds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
