"""Patterns found from values: points, entries missed and spurious, time, beside one point a column.

    python -m benchmarks.sparse_detection [--quick]

Points are counted in f; "columns" is what moving each parameter alone takes, one-sided, with f(x). Detection looks at three
places; "at x" is what it takes at x alone. All functions are smooth and nonlinear but for the noise that their names tell.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse as sp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from arraydiff.sparse.detection import detect_pattern
from benchmarks.rows import Row, table

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Case:
    """A function and its pattern."""

    name: str
    fun: Function
    matrix: Any
    smooth: bool = True


@dataclass(frozen=True)
class Found:
    """What came out, for one number of points looked at."""

    evaluations: int
    missed: int
    spurious: int
    seconds: float


def found(case: Case, points: int = 3, method: str = "sketch") -> Found:
    """One detection."""
    asked = 0

    def counted(x: Any) -> Any:
        nonlocal asked
        asked += 1
        return case.fun(x)

    n = case.matrix.shape[1]
    x = np.random.default_rng(3).uniform(0.5, 2.0, n)
    started = perf_counter()
    pattern = detect_pattern(counted, x, points, method)
    seconds = perf_counter() - started
    true = sp.csr_array(case.matrix).tocoo()
    mine, theirs = pattern.rows * n + pattern.cols, true.row.astype(np.int64) * n + true.col
    return Found(asked, np.setdiff1d(theirs, mine).size, np.setdiff1d(mine, theirs).size, seconds)


def columns(case: Case) -> tuple[int, float]:
    """The peer: points, and seconds, of moving each parameter alone; seconds extrapolated from a hundred of them."""
    n = case.matrix.shape[1]
    x = np.random.default_rng(3).uniform(0.5, 2.0, n)
    base, few = case.fun(x), min(n, 100)
    started = perf_counter()
    for j in range(few):
        there = x.copy()
        there[j] += 1e-6
        np.flatnonzero(case.fun(there) - base)
    return n + 1, (perf_counter() - started) * n / few


def band(n: int, width: int = 1) -> Any:
    offsets = list(range(-width, width + 1))
    return sp.diags_array([np.ones(n - abs(k)) for k in offsets], offsets=offsets)


def scattered(m: int, n: int, each: int, decades: float = 0.0) -> Any:
    random = np.random.default_rng(0)
    cols = np.concatenate([random.choice(n, each, replace=False) for _ in range(m)])
    sizes = 10 ** (-decades * random.random(m * each)) * random.choice([-1, 1], m * each)
    return sp.csr_array((sizes * random.uniform(0.5, 1, m * each), (np.repeat(np.arange(m), each), cols)), shape=(m, n))


def five_points(side: int) -> Any:
    line = sp.diags_array([np.ones(side - 1), -2 * np.ones(side), np.ones(side - 1)], offsets=[-1, 0, 1])
    return sp.csr_array(sp.kron(line, sp.eye_array(side)) + sp.kron(sp.eye_array(side), line))


def arrow(n: int) -> Any:
    matrix = sp.lil_array((n, n))
    matrix.setdiag(1.0)
    matrix[:, 0] = matrix[0, :] = 1.0
    return sp.csr_array(matrix)


def permuted(matrix: Any) -> Any:
    order = np.random.default_rng(1).permutation(matrix.shape[0])
    return sp.csr_array(matrix)[order][:, order]


def curved(matrix: Any) -> Function:
    """Every entry of the matrix is one of the Jacobian."""
    matrix = sp.csr_array(matrix)
    return lambda x: matrix @ (x**2 + np.sin(x) / 4)


def noisy(fun: Function, level: float) -> Function:
    random = np.random.default_rng(2)

    def scattering(x: Any) -> Any:
        value = fun(x)
        return value + level * random.standard_normal(value.shape)

    return scattering


def cases(quick: bool) -> list[Case]:
    """Smooth patterns, then noisy ones."""
    scale = 10 if quick else 1
    matrices = {
        "tridiagonal, n = 1e5": band(100_000),
        "five diagonals": band(20_000 // scale, 2),
        "5-point grid": five_points(100 if quick else 200),
        "5 random entries a row, n = 1e4": scattered(10_000, 10_000, 5),
        "3 random entries a row, tall": scattered(20_000 // scale, 5_000 // scale, 3),
        "3 random entries a row, wide": scattered(2_000 // scale, 20_000 // scale, 3),
        "20 random entries a row": scattered(2_000 // scale, 5_000 // scale, 20),
        "permuted tridiagonal": permuted(band(20_000 // scale)),
        "permuted 5-point grid": permuted(five_points(80 // (2 if quick else 1))),
        "dense 4 x 4 blocks": sp.csr_array(sp.block_diag([np.ones((4, 4))] * (2_000 // scale))),
        "block arrow, 7 shared": sp.csr_array(
            sp.hstack([sp.kron(sp.eye_array(2_000 // scale), np.ones((3, 2))), np.ones((6_000 // scale, 7))])
        ),
        "arrow with a dense row": arrow(5_000 // (2 if quick else 1)),
        "5 entries over 6 decades": scattered(5_000 // scale, 5_000 // scale, 5, decades=6.0),
        "53 parameters": scattered(400, 53, 9),
    }
    smooth = [Case(name, curved(matrix), matrix) for name, matrix in matrices.items()]
    line, random = matrices["five diagonals"], matrices["3 random entries a row, tall"]
    return [
        *smooth,
        Case("five diagonals, noise 1e-17", noisy(curved(line), 1e-17), line, smooth=False),
        Case("five diagonals, noise 1e-9", noisy(curved(line), 1e-9), line, smooth=False),
        Case("3 random entries, noise 1e-9", noisy(curved(random), 1e-9), random, smooth=False),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="most patterns a tenth as large")
    quick = parser.parse_args().quick
    heading = ("points", "at x", "missed", "spurious", "s", "columns", "s")
    print(f"{'':36}{'m x n':>16}" + "".join(f"{word:>9}" for word in heading))
    results: dict[str, Found] = {}
    smooth: list[Found] = []
    for case in cases(quick):
        three, one, (peer, seconds) = found(case), found(case, points=1), columns(case)
        m, n = case.matrix.shape
        numbers = f"{three.evaluations:9}{one.evaluations:9}{three.missed:9}{three.spurious:9}{three.seconds:9.2f}"
        print(f"{case.name:36}{f'{m} x {n}':>16}{numbers}{peer:9}{seconds:9.1f}", flush=True)
        results[case.name] = three
        smooth += [three] * (case.smooth and "decades" not in case.name)
    decades = results["5 entries over 6 decades"]
    rows = [
        Row("points, tridiagonal, n = 1e5, three places", 30, 15, results["tridiagonal, n = 1e5"].evaluations),
        Row(
            "points, 5 random entries a row, n = 1e4", 250, 120, results["5 random entries a row, n = 1e4"].evaluations
        ),
        Row(f"entries missed, {len(smooth)} smooth patterns", 0, 0, sum(one.missed for one in smooth)),
        Row(f"entries spurious, {len(smooth)} smooth patterns", 0, 0, sum(one.spurious for one in smooth)),
        Row("entries missed or spurious over 6 decades", np.inf, 0, decades.missed + decades.spurious),
        Row("entries that noise brings", 0, 0, sum(results[c].spurious for c in results if "noise" in c)),
    ]
    print(table(rows))
    return int(any(row.verdict == "MISSED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
