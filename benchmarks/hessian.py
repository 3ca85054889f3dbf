"""Hessians: how right, within what bars, from how many points, in what time; beside the peers in one run.

    python -m benchmarks.hessian [--quick]

Errors are the largest over the largest true entry ("of max"), or each over the roots of the diagonal entries of its row and
column ("scaled"). Truths: `hessian_functions.py`, `xpcs_points.py`, and complex steps of gradients in long double.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import arraydiff as ad
from benchmarks.demand_tools import Answer
from benchmarks.hessian_functions import FUNCTIONS, SMALL, VALLEY, Known
from benchmarks.hessian_tools import DEFAULT, OPAQUE, Judged, Tool, asked, held, ours, present
from benchmarks.peers import Counted
from benchmarks.rows import Row, table
from benchmarks.timing import shortest
from benchmarks.timing_problems import Problem, logistic, rosenbrock_problem
from benchmarks.xpcs_points import COMPLEX_STEP, EXTENDED, EXTENDED_ENOUGH, MEASURED, simulate

NAME_WIDTH, CELL = 26, 17
FRAMES, ANGLES = 100, 5
SLOW = ("jacobi twice",)  # minutes beyond n = 10
REAL, BLOCKS = "arraydiff opaque, batch", "arraydiff, batch"


def heading(text: str, columns: Sequence[str]) -> None:
    print(f"\n{text}\n{'':{NAME_WIDTH}}" + "".join(f"{column:>{CELL}}" for column in columns), flush=True)


def line(name: str, cells: Sequence[str]) -> None:
    print(f"{name:{NAME_WIDTH}}" + "".join(f"{cell:>{CELL}}" for cell in cells), flush=True)


def cell(error: float, points: int) -> str:
    return f"{error:.1e} {points:7d}"


def known_functions(tools: dict[str, Tool], quick: bool) -> list[Row]:
    """Every tool on every function."""
    heading(f"{len(FUNCTIONS)} known functions: error of max, points", list(tools))
    found: dict[str, list[Judged]] = {name: [] for name in tools}
    for known in FUNCTIONS:
        cells = []
        for name, tool in tools.items():
            if quick and name in SLOW and known.x.size > 5:
                cells.append("-")
                continue
            found[name].append(Judged(asked(tool, known, known.x), known.hessian))
            cells.append(cell(found[name][-1].of_max, found[name][-1].answer.points))
        line(known.name, cells)
    summary(found)
    rows = []
    for name, must, ambitious in ((DEFAULT, 1e-12, 2e-13), (OPAQUE, 1e-8, 1e-11)):
        worst = max(one.of_max for one in found[name])
        rows.append(Row(f"known functions, {name}: worst error of max", must, ambitious, worst))
    for name in (DEFAULT, OPAQUE):
        rows.append(
            Row(f"known functions, {name}: share of bars that hold", 0.95, 0.97, held(found[name])[0], at_least=True)
        )
    return rows


def summary(found: dict[str, list[Judged]]) -> None:
    of_max = {name: np.asarray([one.of_max for one in judged]) for name, judged in found.items()}
    print()
    line("median of max", [f"{np.median(errors):.1e}" for errors in of_max.values()])
    line("worst of max", [f"{np.max(errors):.1e}" for errors in of_max.values()])
    line("worst, scaled", [f"{max(one.scaled for one in judged):.1e}" for judged in found.values()])
    line("mean points", [f"{np.mean([one.answer.points for one in judged]):.0f}" for judged in found.values()])
    bars = [held(judged) for judged in found.values()]
    line("bars that hold", ["-" if math.isnan(share) else f"{share:.1%}" for share, _ in bars])
    line("bar / error, median", ["-" if math.isnan(ratio) else f"{ratio:.1f}" for _, ratio in bars])


def hard(known: Known, tools: dict[str, Tool], what: str, must: float, **options: object) -> list[Row]:
    """The largest relative error of a diagonal entry; arraydiff is told the bounds."""
    truth = np.diag(known.hessian)
    heading(f"{known.name}: relative error of the diagonal, points", list(tools))
    told = {DEFAULT: ours(**options), OPAQUE: ours(opaque=True, **options)} if options else {}
    cells, rows = [], []
    for name, tool in {**tools, **told}.items():
        answer = asked(tool, known, known.x)
        error = Judged(answer, known.hessian).errors.diagonal() / truth
        cells.append(cell(float(np.max(error)), answer.points))
        if name in (DEFAULT, OPAQUE):
            rows.append(Row(f"{known.name}{what}, {name}: diagonal, relative", must, must, float(np.max(error))))
    line("", cells)
    return rows


def points() -> list[Row]:
    """Rosenbrock, n = 10, to 1e-6."""
    known = FUNCTIONS[0]
    wanted = {
        "opaque, 1e-6": ours(opaque=True, error_tolerance=1e-6),
        "opaque": ours(opaque=True),
        "default, 1e-6": ours(error_tolerance=1e-6),
    }
    heading("Rosenbrock, n = 10, error_tolerance: error of max, points", list(wanted))
    found = {name: Judged(asked(tool, known, known.x), known.hessian) for name, tool in wanted.items()}
    line("arraydiff", [cell(one.of_max, one.answer.points) for one in found.values()])
    best = found["opaque, 1e-6"]
    measured = best.answer.points if best.of_max <= 1e-6 else math.inf
    return [Row("Rosenbrock, n = 10, opaque, to 1e-6: points", 250, 221, measured)]


def xpcs(tools: dict[str, Tool]) -> list[Row]:
    """Chi2 of the seven physical parameters at the fitted laminar point."""
    data = simulate(np.where(np.arange(9) % 2, 1.02, 0.98) * MEASURED, FRAMES, ANGLES)
    x, truth = MEASURED[2:], data.true_hessian(MEASURED[2:])
    heading(
        f"XPCS chi2, 7 parameters, {FRAMES} frames, {ANGLES} angles: scaled error, points; bars that hold", list(tools)
    )
    found = {name: Judged(asked(tool, data.chi2, x), truth) for name, tool in tools.items()}
    line("typical laminar point", [cell(one.scaled, one.answer.points) for one in found.values()])
    line("bars that hold", ["-" if math.isnan(held([one])[0]) else f"{held([one])[0]:.0%}" for one in found.values()])
    return [
        Row(f"XPCS chi2, typical point, {name}: error scaled by the diagonal", 1e-8, 1e-11, found[name].scaled)
        for name in (DEFAULT, OPAQUE)
    ]


def true_hessian(problem: Problem) -> np.ndarray:
    """Complex steps of the gradient by hand, in long double."""
    x = problem.x.astype(EXTENDED)
    steps = COMPLEX_STEP * np.abs(x)
    moves = 1j * np.diag(steps)
    columns = [np.imag(problem.exact(x + move)) / step for move, step in zip(moves, steps, strict=True)]
    return np.stack(columns, axis=-1).astype(float)


def central_by_hand(problem: Problem) -> np.ndarray:
    """All points in one block, without a bar: the floor."""
    x, n = problem.x, problem.x.size
    steps = np.finfo(float).eps ** 0.25 * np.abs(x)
    i, j = np.triu_indices(n)
    moves = np.diag(steps)
    ends = [x[:, None] + a * moves[:, i] + b * moves[:, j] for a in (1, -1) for b in (1, -1)]
    values = problem.fun(np.concatenate(ends, axis=1)).reshape(4, -1)
    out = np.zeros((n, n))
    out[i, j] = out[j, i] = (values[0] - values[1] - values[2] + values[3]) / (4 * steps[i] * steps[j])
    return out


def times(tools: dict[str, Tool], quick: bool) -> list[Row]:
    """Time of one Hessian over that of one f."""
    limits = {
        "Rosenbrock, n = 10": (rosenbrock_problem(10), (270, 150), 1e-12),
        "Rosenbrock, n = 50": (rosenbrock_problem(50), (2000, 1000), 1e-12),
        "logistic, p = 20": (logistic(scaled=False), (5000, 2500), 1e-10),
    }
    ways = {REAL: ours(opaque=True, vectorized=True), BLOCKS: ours(vectorized=True), **tools}
    print("\nHessian: time / f, error of max, points")
    rows = []
    for name, (problem, (must, ambitious), error) in limits.items():
        truth, base = true_hessian(problem), shortest(lambda problem=problem: problem.fun(problem.x))
        print(f"{name}, f {base * 1e6:.3g} µs")
        by_hand = Judged(Answer(central_by_hand(problem)), truth)
        seconds = shortest(lambda problem=problem: central_by_hand(problem))
        print(f"  {'hand: central, batch':{NAME_WIDTH}}{seconds / base:10.4g}f  {by_hand.of_max:.1e}", flush=True)
        for way, tool in ways.items():
            if way in SLOW and (quick or problem.x.size > 10):
                continue
            judged = Judged(asked(tool, problem.fun, problem.x), truth)
            seconds = shortest(lambda tool=tool, problem=problem: asked(tool, problem.fun, problem.x))
            print(
                f"  {way:{NAME_WIDTH}}{seconds / base:10.4g}f  {judged.of_max:.1e} {judged.answer.points:8d}",
                flush=True,
            )
            if way == REAL:
                rows.append(Row(f"Hessian, {name}, real f, batch: time / f", must, ambitious, seconds / base))
                rows.append(Row(f"Hessian, {name}, real f, batch: error of max", error, error, judged.of_max))
    return rows


def diagonals() -> None:
    """The diagonal alone, where it is offered."""
    hessian_diag = getattr(ad, "hessian_diag", None)
    if hessian_diag is None:
        print("\nhessian_diag: not offered")
        return
    print("\nhessian_diag of Rosenbrock: error of max, points")
    for n in (10, 100):
        problem = rosenbrock_problem(n)
        truth = np.diag(true_hessian(problem))
        for label, options in (("default", {}), ("opaque", {"opaque": True})):
            counted = Counted(problem.fun)
            result = hessian_diag(counted, unreliable="ignore", **options).result(problem.x)
            error = np.max(np.abs(np.asarray(result.derivative) - truth)) / np.max(np.abs(truth))
            line(f"n = {n}, {label}", [cell(float(error), counted.points)])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="slow peers only where n is small")
    quick = parser.parse_args().quick
    if not EXTENDED_ENOUGH:
        print("long double has no more bits than double here: errors below 1e-13 on XPCS mean nothing")
    tools = present()
    fast = {name: tool for name, tool in tools.items() if not (quick and name in SLOW)}
    rows = known_functions(tools, quick)
    rows += hard(VALLEY, tools, "", 1e-6)
    rows += hard(SMALL, tools, " within bounds", 1e-6, bounds=(0.0, None))
    rows += points()
    rows += xpcs(fast)
    rows += times(tools, quick)
    diagonals()
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
