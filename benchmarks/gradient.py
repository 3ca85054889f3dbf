"""This package beside its peers, in one run: errors, points and time of gradients, and a whole XPCS fit.

    python benchmarks/gradient.py [--json FILE] [--quick]

Time is given in units of one plain evaluation of f, so that the tables of two machines can be compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import analytic, peers, silent, xpcs_points

NAME_WIDTH = 44
FRAMES = 100
TOLERANCES = {"ftol": 1e-12, "xtol": 1e-12, "gtol": 1e-12}
EXTRA_POINTS = 17  # the certificate's ray, f(x) and the guards; the rest is one point a parameter


@dataclass(frozen=True)
class Goal:
    """One line of the closing table: measured must not exceed must."""

    what: str
    must: float
    measured: float

    @property
    def ratio(self) -> float:
        return self.measured / self.must if self.must else (0.0 if self.measured == 0 else float("inf"))


def heading(text: str, columns: list[str]) -> None:
    print(f"\n{text}\n{'':{NAME_WIDTH}}" + "".join(f"{column:>21}" for column in columns), flush=True)


def line(name: str, cells: list[str]) -> None:
    print(f"{name:{NAME_WIDTH}}" + "".join(f"{cell:>21}" for cell in cells), flush=True)


def cell(error: float, cost: peers.Cost) -> str:
    return f" {error:.0e} {cost.points:5d}p {cost.time_over_f:6.0f}f"


def xpcs_gradient(found: dict[str, peers.Gradient]) -> tuple[list[Goal], dict[str, Any]]:
    """Chi2 of the seven physical parameters at three points: largest relative error, points, time over one f."""
    heading(f"XPCS chi2 gradient, 7 parameters, {FRAMES} frames, 5 angles: error, points, time / f", list(found))
    record: dict[str, Any] = {}
    for name, point in xpcs_points.POINTS.items():
        data = xpcs_points.simulate(np.where(np.arange(9) % 2, 1.02, 0.98) * point, FRAMES, angles=5)
        truth = data.true_gradient(point[2:])
        costs = {peer: peers.cost(gradient, data.chi2, point[2:]) for peer, gradient in found.items()}
        errors = {peer: peers.relative_error(cost.gradient, truth) for peer, cost in costs.items()}
        line(name, [cell(errors[peer], costs[peer]) for peer in found])
        record[name] = {peer: {"error": errors[peer], "points": costs[peer].points} for peer in found}
    ours = {name: row["arraydiff"] for name, row in record.items()}
    hard = max(row["error"] for name, row in ours.items() if name != "typical")
    return [
        Goal("XPCS gradient, typical point: error", 1e-12, ours["typical"]["error"]),
        Goal("XPCS gradient, hard points: error", 1e-10, hard),
        Goal("XPCS gradient: points", 25, max(row["points"] for row in ours.values())),
    ], record


def analytic_gradients(found: dict[str, peers.Gradient], largest: int) -> tuple[list[Goal], dict[str, Any]]:
    """Ten problems with gradients by hand: largest error over the largest entry, points, time over one f."""
    heading("analytic gradients: error / largest entry, points, time / f", list(found))
    record: dict[str, Any] = {}
    worst, extra = 0.0, 0
    for problem in analytic.problems():
        n, truth, row = problem.x.size, problem.gradient(problem.x), {}
        for peer, gradient in found.items():
            if n > largest and peer in {"numdifftools", "jacobi", "scipy.differentiate"}:
                continue
            cost = peers.cost(gradient, problem.fun, problem.x)
            error = peers.norm_error(cost.gradient, truth)
            row[peer] = {"error": error, "points": cost.points, "cell": cell(error, cost)}
        line(f"{problem.name}, n = {n}", [row[peer].pop("cell") if peer in row else "-" for peer in found])
        record[f"{problem.name}, n = {n}"] = row
        worst, extra = max(worst, row["arraydiff"]["error"]), max(extra, row["arraydiff"]["points"] - n)
    return [
        Goal("analytic gradients: error", 1e-13, worst),
        Goal("analytic gradients: points beyond n", EXTRA_POINTS, extra),
    ], record


def silent_answers(found: dict[str, peers.Gradient]) -> tuple[list[Goal], dict[str, Any]]:
    heading("functions that mislead: right, said (warning, exception, NaN), or wrong in silence", list(found))
    record: dict[str, Any] = {}
    for trap in silent.TRAPS:
        row = {peer: silent.outcome(gradient, trap) for peer, gradient in found.items()}
        line(trap.name, list(row.values()))
        record[trap.name] = row
    silences = {peer: sum(row[peer] == "silent" for row in record.values()) for peer in found}
    line("wrong in silence", [str(count) for count in silences.values()])
    return [Goal("silent wrong answers", 0, silences["arraydiff"])], record


@dataclass(frozen=True)
class Fit:
    """A whole least-squares fit: its cost, and how far it ends from the fit with the true Jacobian."""

    points: int
    time: float
    off: float
    off_in_errors: float
    standard_errors: float


def one_fit(data: xpcs_points.Data, start: np.ndarray, jacobian: Callable[..., Any] | str | None) -> Any:
    """One fit with SciPy; a callable gets the counted residual, so that every point is counted alike."""
    from scipy.optimize import least_squares

    import arraydiff as ad

    bounds = (data.experiment.lower, data.experiment.upper)
    counted = peers.Counted(data.residual)
    jac = ad.jacobian(counted, bounds=bounds) if jacobian is None else jacobian
    began = perf_counter()
    fit = least_squares(counted, start, jac=jac, bounds=bounds, x_scale="jac", **TOLERANCES)
    return fit, counted.points, perf_counter() - began


def standard_errors(jacobian: np.ndarray) -> np.ndarray:
    """Square roots of the diagonal of (JᵀJ)⁻¹, with columns scaled before the inversion."""
    scale = np.linalg.norm(jacobian, axis=0)
    return np.sqrt(np.diag(np.linalg.inv((jacobian / scale).T @ (jacobian / scale)))) / scale


def xpcs_fit() -> tuple[list[Goal], dict[str, Any]]:
    """Nine parameters within bounds, one start, one set of tolerances; the truth is a fit with the true Jacobian."""
    truth = xpcs_points.SAMPLE
    data = xpcs_points.simulate(truth, FRAMES, angles=5)
    start = truth * np.asarray([0.9, 1.02, 0.9, 0.95, 0.8, 1.1, 0.9, 0.9, 1.2])
    heading(f"XPCS fit, 9 parameters, {FRAMES} frames, 5 angles", ["points", "ms", "off / error", "errors' error"])
    best = one_fit(data, start, data.true_jacobian)[0].x
    errors = standard_errors(data.true_jacobian(best))
    fits: dict[str, Fit] = {}
    for name, jacobian in {"arraydiff": None, "2-point": "2-point", "3-point": "3-point"}.items():
        runs = [one_fit(data, start, jacobian) for _ in range(3)]
        fit, points, _ = runs[0]
        row = fits[name] = Fit(
            points=points,
            time=min(run[2] for run in runs),
            off=float(np.max(np.abs(fit.x / best - 1))),
            off_in_errors=float(np.max(np.abs(fit.x - best) / errors)),
            standard_errors=peers.relative_error(standard_errors(fit.jac), errors),
        )
        line(name, [str(points), f"{row.time * 1e3:.0f}", f"{row.off_in_errors:.1e}", f"{row.standard_errors:.1e}"])
    ours, two = fits["arraydiff"], fits["2-point"]
    return [
        Goal("XPCS fit: points over 2-point", 2, ours.points / two.points),
        Goal("XPCS fit: time over 2-point", 2, ours.time / two.time),
        Goal("XPCS fit: off the optimum, standard errors", 1e-6, ours.off_in_errors),
        Goal("XPCS fit: error of the standard errors", 1e-6, ours.standard_errors),
    ], {name: asdict(fit) for name, fit in fits.items()}


def overhead(found: dict[str, peers.Gradient]) -> tuple[list[Goal], dict[str, Any]]:
    """One call with an f that costs next to nothing, n = 3."""
    import arraydiff as ad

    def fun(x: np.ndarray) -> Any:
        return x[0] * x[1] + x[2]

    x = np.asarray([0.3, 0.7, 1.1])
    central, adaptive = ad.grad(fun, method="central"), ad.grad(fun)
    calls: dict[str, Callable[[], Any]] = {
        "arraydiff, central": lambda: central(x),
        "arraydiff, adaptive": lambda: adaptive(x),
    }
    calls |= {name: lambda peer=peer: peer(fun, x) for name, peer in found.items() if name != "arraydiff"}
    heading("one call with a trivial f, n = 3", ["µs"])
    times = {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for name, call in calls.items():
            times[name] = peers.best_time(call, budget=1.0, least=20) * 1e6
            line(name, [f"{times[name]:.0f}"])
    return [Goal("trivial f, central: µs a call", 200, times["arraydiff, central"])], times


def import_time() -> tuple[list[Goal], dict[str, Any]]:
    """Import time beyond NumPy's, the median of seven fresh interpreters."""
    code = "import numpy, time; t = time.perf_counter(); import arraydiff; print(time.perf_counter() - t)"
    root = Path(__file__).resolve().parents[1]
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
        for _ in range(7)
    ]
    seconds = statistics.median(float(run.stdout) for run in runs)
    heading("import beyond NumPy", ["s"])
    line("arraydiff", [f"{seconds:.3f}"])
    return [Goal("import beyond NumPy: s", 0.2, seconds)], {"seconds": seconds}


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("arraydiff", "numpy", "scipy", "numdifftools", "jacobi"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the whole record here")
    parser.add_argument("--quick", action="store_true", help="slow peers only where n is small")
    options = parser.parse_args()
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    if not xpcs_points.EXTENDED_ENOUGH:
        print("long double has no more bits than double here: errors below 1e-13 on XPCS mean nothing")
    found = peers.present()
    largest = 20 if options.quick else 100
    parts = {
        "xpcs_gradient": xpcs_gradient(found),
        "xpcs_fit": xpcs_fit(),
        "analytic": analytic_gradients(found, largest),
        "silent": silent_answers(found),
        "overhead": overhead(found),
        "import": import_time(),
    }
    goals = [goal for part, _ in parts.values() for goal in part]
    heading("goals", ["must", "measured", "measured / must"])
    for goal in goals:
        line(goal.what, [f"{goal.must:.3g}", f"{goal.measured:.3g}", f"{goal.ratio:.2g}"])
    if options.json:
        record = {"versions": versions(), "goals": [asdict(goal) | {"ratio": goal.ratio} for goal in goals]}
        options.json.write_text(json.dumps(record | {name: part for name, (_, part) in parts.items()}, indent=1) + "\n")
    missed = [goal.what for goal in goals if goal.measured > goal.must]
    print("\nevery goal reached" if not missed else f"\nmissed: {'; '.join(missed)}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
