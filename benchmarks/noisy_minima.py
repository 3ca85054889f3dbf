"""L-BFGS-B on noisy functions: how near the optimum it ends, with our gradients and with noise-optimal central differences.

    python -m benchmarks.noisy_minima [--seeds N]

The noise is absolute, its level a share of |f| at the start. The optimum is that of the function without noise, found with
the true gradient.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.noisy_vectors import NOISES, Function, Problem, central, ours, squares, valley
from benchmarks.peers import Counted
from benchmarks.rows import Row, table

LEVELS = (1e-9, 1e-6)
KINDS = ("drawn", "hashed")
SEEDS = 6
TIGHT = {"maxiter": 2000, "maxfun": 20_000, "maxcor": 20, "ftol": 0.0, "gtol": 1e-13}
LIMITS = {"maxiter": 200, "maxfun": 400, "ftol": 0.0, "gtol": 0.0}
STARTS: dict[str, tuple[Callable[[int, int], Problem], int]] = {
    "squares 7": (squares, 7),
    "squares 40": (squares, 40),
    "Rosenbrock 7": (valley, 7),
}


@dataclass(frozen=True)
class Run:
    """Where one minimisation ended: f above its least value over f at the start, distance in lengths, and its price."""

    above: float
    distance: float
    points: int


def minimised(fun: Function, gradient: Function, x: np.ndarray, limits: dict[str, Any]) -> np.ndarray:
    from scipy.optimize import minimize

    return minimize(fun, x, jac=gradient, method="L-BFGS-B", options=limits).x


def run(
    problem: Problem, noisy: Function, gradient: Callable[[Function, np.ndarray], np.ndarray], best: np.ndarray
) -> Run:
    counted = Counted(noisy)
    end = minimised(counted, lambda x: gradient(counted, x), problem.x, LIMITS)
    low, high = problem.fun(best), problem.fun(problem.x)
    return Run(
        float((problem.fun(end) - low) / (high - low)),
        float(np.linalg.norm((end - best) / problem.length)),
        counted.points,
    )


def runs(make: Callable[[int, int], Problem], n: int, kind: str, level: float, seeds: int) -> Iterable[tuple[Run, Run]]:
    """Ours and that of central differences, seed by seed; the function without noise may have several minima."""
    for seed in range(seeds):
        problem = make(n, seed)

        def plain(fun: Function, x: np.ndarray) -> np.ndarray:
            return ours(fun, x).gradient

        def stencil(fun: Function, x: np.ndarray, level: float = level) -> np.ndarray:
            return central(fun, x, level).gradient

        best = minimised(problem.fun, problem.gradient, problem.x, TIGHT)
        noisy = NOISES[kind]
        yield (
            run(problem, noisy(problem, level, seed), plain, best),
            run(problem, noisy(problem, level, seed), stencil, best),
        )


def rows(seeds: int = SEEDS) -> list[Row]:
    """Whether the runs end as near the optimum, and for how many points."""
    print(
        f"\nL-BFGS-B, {seeds} seeds, medians: ours, then central\n{'':33}{'f above the least':>20}{'distance':>20}{'points':>16}"
    )
    pairs: list[tuple[Run, Run]] = []
    for (name, (make, n)), kind, level in product(STARTS.items(), KINDS, LEVELS):
        found = list(runs(make, n, kind, level, seeds))
        pairs += found
        sides = list(zip(*found, strict=True))
        cells = [
            [f"{np.median([getattr(r, field) for r in side]):{form}}" for side in sides]
            for field, form in (("above", ".1e"), ("distance", ".1e"), ("points", ".0f"))
        ]
        print(f"{name:16}{kind:9}{level:7.0e} " + "".join(f"{a:>11}{b:>9}" for a, b in cells), flush=True)
    distances = np.asarray([[r.distance for r in pair] for pair in pairs])
    points = np.asarray([[r.points for r in pair] for pair in pairs])
    return [
        Row(
            "L-BFGS-B on noisy f: distance to the optimum over that with central, median",
            1,
            1,
            float(np.median(distances[:, 0] / distances[:, 1])),
        ),
        Row(
            "L-BFGS-B on noisy f: runs that end more than twice as far, share",
            0.1,
            0,
            float(np.mean(distances[:, 0] > 2 * distances[:, 1])),
        ),
        Row(
            "L-BFGS-B on noisy f: points over those with central, all runs",
            float("inf"),
            1,
            float(np.sum(points[:, 0]) / np.sum(points[:, 1])),
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    print(table(rows(parser.parse_args().seeds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
