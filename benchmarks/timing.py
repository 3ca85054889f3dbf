"""What gradients and Jacobians cost: time over one plain f, beside differences by hand and the peers, in one run.

    python -m benchmarks.timing [--quick]

"hand" is ten lines of NumPy without error bars, in a loop or in blocks that fit the cache: the floor. Ways are timed in turn, and
the shortest time of each counts; differences below 1.3 mean nothing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import arraydiff as ad
from benchmarks.peers import quiet
from benchmarks.rows import Row, table
from benchmarks.timing_problems import Problem, gaussians, logistic, relaxations, rosenbrock_problem, trivial

BLOCK_BYTES = 2**22  # of points that the hand-written batches make at once: more leave the cache
COMPLEX_STEP = 1e-20
BUDGET = 0.4  # seconds a way
TOO_SLOW = 20.0  # seconds: one call has to do
NAME_WIDTH = 40
OURS_REAL, OURS_COMPLEX, OURS_LOOP = "adaptive, real f, batch", "complex step, batch", "default, loop"
CENTRAL_LOOP, HAND_CENTRAL, HAND_LOOP, HAND_COMPLEX = (
    "central, loop",
    "hand: central, batch",
    "hand: complex, loop",
    "hand: complex, batch",
)

Way = Callable[[Problem], np.ndarray]


@dataclass(frozen=True)
class Measured:
    """Seconds over those of one f, and the largest relative error."""

    time: float
    error: float

    def __str__(self) -> str:
        return f"{self.time:9.3g}f {self.error:6.0e}"


def ours(**options: Any) -> Way:
    def way(problem: Problem) -> np.ndarray:
        kind = ad.jacobian if problem.is_vector else ad.grad
        return kind(problem.fun, unreliable="ignore", **options)(problem.x)

    return way


def hand_loop(problem: Problem) -> np.ndarray:
    """Complex steps, one point a call."""
    eye = np.eye(len(problem.x))
    return np.array([problem.fun(problem.x + COMPLEX_STEP * 1j * e).imag / COMPLEX_STEP for e in eye]).T


def hand_batch(imaginary: bool) -> Way:
    def way(problem: Problem) -> np.ndarray:
        x = problem.x
        steps = np.full(len(x), COMPLEX_STEP) if imaginary else np.finfo(float).eps ** (1 / 3) * np.abs(x)
        size = max(1, BLOCK_BYTES // (8 * len(x)))
        parts = []
        for start in range(0, len(x), size):
            index = np.arange(start, min(start + size, len(x)))
            moves = np.zeros((len(x), len(index)))
            moves[index, index - start] = steps[index]
            if imaginary:
                parts.append(problem.fun(x[:, None] + 1j * moves).imag / steps[index])
            else:
                change = problem.fun(x[:, None] + moves) - problem.fun(x[:, None] - moves)
                parts.append(change / (2 * steps[index]))
        return np.concatenate(parts, axis=-1)

    return way


def numdifftools(problem: Problem) -> np.ndarray:
    import numdifftools

    kind = numdifftools.Jacobian if problem.is_vector else numdifftools.Gradient
    return np.asarray(kind(problem.fun)(problem.x))


def jacobi(problem: Problem) -> np.ndarray:
    from jacobi import jacobi

    return jacobi(problem.fun, problem.x)[0]


def approx_derivative(problem: Problem) -> np.ndarray:
    from scipy.optimize._numdiff import approx_derivative

    return approx_derivative(problem.fun, problem.x, method="3-point")


WAYS: dict[str, tuple[str, Way]] = {
    OURS_REAL: ("arraydiff", ours(opaque=True, vectorized=True)),
    OURS_COMPLEX: ("arraydiff", ours(vectorized=True)),
    OURS_LOOP: ("arraydiff", ours()),
    CENTRAL_LOOP: ("arraydiff", ours(method="central")),
    HAND_CENTRAL: ("numpy", hand_batch(False)),
    HAND_COMPLEX: ("numpy", hand_batch(True)),
    HAND_LOOP: ("numpy", hand_loop),
    "approx_derivative": ("scipy.optimize", approx_derivative),
    "numdifftools": ("numdifftools", numdifftools),
    "jacobi": ("jacobi", jacobi),
}
PEERS = ("approx_derivative", "numdifftools", "jacobi")


def shortest(call: Callable[[], Any]) -> float:
    """Seconds of the call that was disturbed least."""
    times: list[float] = []
    while not times or (sum(times) < BUDGET and min(times) < TOO_SLOW and len(times) < 1000):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times)


def measured(problem: Problem, quick: bool) -> dict[str, Measured]:
    """Every way to the derivative of one problem; peers that take minutes are left out of a quick run."""
    base = shortest(lambda: problem.fun(problem.x))
    truth, found = problem.truth, {}
    size = np.maximum(np.abs(truth), 1e-3 * np.max(np.abs(truth * np.abs(problem.x))) / np.abs(problem.x))
    for name, (module, way) in WAYS.items():
        if len(problem.x) > (100 if quick else 1000) and name in PEERS:
            continue
        try:
            importlib.import_module(module)
            value = quiet(lambda _f, _x, way=way: way(problem), problem.fun, problem.x)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - a peer that is missing, or that gives up
            print(f"  {name}: {type(error).__name__}: {str(error)[:80]}")
            continue
        seconds = shortest(lambda way=way: quiet(lambda _f, _x: way(problem), problem.fun, problem.x))  # type: ignore[misc]
        found[name] = Measured(seconds / base, float(np.max(np.abs(value - truth) / size)))
    return found


def problems(quick: bool) -> list[Problem]:
    sizes = (10, 100, 1000) if quick else (10, 100, 1000, 10000)
    return [
        *map(rosenbrock_problem, sizes),
        logistic(scaled=False),
        logistic(scaled=True),
        gaussians(),
        relaxations(),
        trivial(1),
        trivial(10),
    ]


REAL_LIMITS = {10: (250, 60), 100: (250, 110), 1000: (7000, 2300), 10000: (2e5, 1e5)}
TRIVIAL_LIMITS = {1: ((900, 285), (2400, 1500)), 10: ((1200, 500), (5000, 1800))}


def rows(found: dict[str, dict[str, Measured]]) -> list[Row]:
    """The limits, each beside what this run measured."""
    lines = []
    for n, (must, ambitious) in REAL_LIMITS.items():
        if (got := found.get(f"Rosenbrock, n = {n}")) is not None:
            lines.append(
                Row(f"Rosenbrock, n = {n}: adaptive on a real f, batch: time / f", must, ambitious, got[OURS_REAL].time)
            )
            if n >= 100:
                over = got[OURS_COMPLEX].time / got[HAND_COMPLEX].time
                lines.append(Row(f"Rosenbrock, n = {n}: complex step over that by hand, batch", 1.3, 1.15, over))
    plain, scaled = found["logistic, p = 20, 5000 rows"], found["logistic, p = 20, columns 1e-6 to 1e6"]
    lines.append(Row("logistic, columns 1e-6 to 1e6: error on a real f", 1e-10, 1e-11, scaled[OURS_REAL].error))
    lines.append(Row("logistic, columns 1e-6 to 1e6: error, complex", 1e-14, 1e-14, scaled[OURS_COMPLEX].error))
    slower = scaled[OURS_REAL].time / plain[OURS_REAL].time
    lines.append(Row("logistic, columns 1e-6 to 1e6: time over that of equal columns", 1.3, 1.0, slower))
    bells = found["Jacobian of 5 Gaussians, (2000, 15)"]
    lines.append(Row("Jacobian of 5 Gaussians: adaptive on a real f: time / f", 500, 300, bells[OURS_REAL].time))
    lines.append(Row("Jacobian of 5 Gaussians: the same: error", 6e-13, 6e-13, bells[OURS_REAL].error))
    lines.append(Row("Jacobian of 5 Gaussians: complex step: time / f", 70, 55, bells[OURS_COMPLEX].time))
    decays = found["analytic f of 1 ms, n = 50"]
    lines.append(
        Row(
            "analytic f of 1 ms, n = 50: default over complex steps by hand",
            1.5,
            1.3,
            decays[OURS_LOOP].time / decays[HAND_LOOP].time * 50 / 51,
        )
    )
    for n, (central, adaptive) in TRIVIAL_LIMITS.items():
        got = found[f"trivial f, n = {n}"]
        lines.append(Row(f"trivial f, n = {n}: central: time / f", *central, got[CENTRAL_LOOP].time))
        lines.append(Row(f"trivial f, n = {n}: default: time / f", *adaptive, got[OURS_LOOP].time))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Time of gradients and Jacobians over one f, beside the peers in one run."
    )
    parser.add_argument("--quick", action="store_true", help="no n = 10000, and peers up to n = 100")
    quick = parser.parse_args().quick
    found = {}
    for problem in problems(quick):
        print(f"\n{problem.name}", flush=True)
        found[problem.name] = measured(problem, quick)
        for name, got in found[problem.name].items():
            print(f"  {name:{NAME_WIDTH}}{got}", flush=True)
    print(table(rows(found)))


if __name__ == "__main__":
    main()
