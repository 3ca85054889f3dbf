"""What accuracy costs: points against error_tolerance, and fits whose derivatives come from a plan.

    python -m benchmarks.plans [--quick]

A scheme holds a tolerance where, over all seeds together, 95 % of the entries are that right: |error| <= tolerance times
max(|d|, 1e-3 of the largest effect). The fixed schemes are told the noise and the lengths, which no user has; arraydiff is told
neither. Points are counted in f itself. The fits start where the data sets say; both sides remember f at the last x.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import arraydiff as ad
from arraydiff.examples.data import TRUTH, simulate
from arraydiff.examples.problem import FitProblem, starting_values
from arraydiff.examples.xpcs import Experiment
from arraydiff.strategies.stencil import CENTRAL, SIDED, Row
from benchmarks.nist import DATASETS
from benchmarks.noisy_vectors import FAMILIES, Function, Problem, hashed
from benchmarks.peers import Counted
from benchmarks.rows import Row as Limit
from benchmarks.rows import table

TOLERANCES = tuple(10.0**-k for k in range(1, 15))
NOISES = (0.0, 1e-9, 1e-6)
SIZES = (7, 40, 1000)
SEEDS = {7: 8, 40: 6, 1000: 1}
FIXED: dict[str, Row] = {"forward": SIDED[1], **{f"central {order}": CENTRAL[order] for order in (2, 4, 6, 8)}}
ROUNDING = 2e-16
HELD = 0.95  # of the entries
ALLOWANCE = 17  # points, beside those of the cheapest fixed scheme
RELATIVE_COST = 1e-4  # final costs that differ by less are equal
FIT = {"ftol": 1e-10, "xtol": 1e-10, "gtol": 1e-10, "max_nfev": 2000, "x_scale": "jac"}
LEVEL = 1e-6  # noise of the simulators, relative


# ---- points against error_tolerance
@dataclass
class Outcome:
    """One way to gradients of one kind of problem, all seeds together."""

    errors: list[np.ndarray] = field(default_factory=list)  # over what an entry is held to
    norms: list[float] = field(default_factory=list)
    covered: list[np.ndarray] = field(default_factory=list)
    points: list[int] = field(default_factory=list)
    methods: set[str] = field(default_factory=set)

    def holds(self, tolerance: float) -> bool:
        return float(np.mean(np.concatenate(self.errors) <= tolerance)) >= HELD


def noisy(problem: Problem, level: float, seed: int, opaque: bool) -> Function:
    fun = hashed(problem, level, seed) if level else problem.fun
    return (lambda x: float(fun(x))) if opaque else fun


def difference(fun: Function, x: np.ndarray, row: Row, steps: np.ndarray) -> np.ndarray:
    base, total = fun(x), np.zeros_like(x)
    for node, weight in zip(row.nodes, row.weights, strict=True):
        for i in range(x.size):
            moved = x.copy()
            moved[i] += node * steps[i]
            total[i] += weight * (fun(moved) - base)
    return total / steps


def judged(outcome: Outcome, problem: Problem, gradient: np.ndarray, points: int) -> None:
    exact, size = problem.gradient(problem.x), np.abs(problem.x)
    allowed = np.maximum(np.abs(exact), 1e-3 * np.max(np.abs(exact) * size) / size)
    error = np.abs(gradient - exact)
    outcome.errors.append(error / allowed)
    outcome.norms.append(float(np.linalg.norm(error) / np.linalg.norm(exact)))
    outcome.points.append(points)


def fixed(problems: list[tuple[Problem, Function]], row: Row, level: float) -> Outcome:
    outcome = Outcome()
    for problem, fun in problems:
        share = max(level, ROUNDING) * (2 if len(row.nodes) == 1 else 1)
        steps = np.abs(problem.x) * share ** (1 / (len(row.nodes) + 1))
        n = problem.x.size
        judged(outcome, problem, difference(fun, problem.x, row, steps), n * len(row.nodes) + (len(row.nodes) == 1))
    return outcome


def ours(problems: list[tuple[Problem, Function]], tolerance: float, opaque: bool) -> Outcome:
    outcome = Outcome()
    for problem, fun in problems:
        result = ad.grad(fun, error_tolerance=tolerance, opaque=opaque).result(problem.x)
        judged(outcome, problem, result.gradient, result.function_points)
        outcome.covered.append(np.abs(result.gradient - problem.gradient(problem.x)) <= result.error_estimate)
        outcome.methods.add(result.method_used.value)
    return outcome


@dataclass(frozen=True)
class Price:
    """Ours beside the cheapest fixed scheme, at one tolerance."""

    name: str
    n: int
    level: float
    opaque: bool
    tolerance: float
    ours: Outcome
    cheapest: str | None
    limit: float

    @property
    def beyond(self) -> float:
        return float(np.mean(self.ours.points)) - self.limit

    def __str__(self) -> str:
        points = self.ours.points
        held = "held" if self.ours.holds(self.tolerance) else "missed"
        limit = f"{self.limit:.0f}" if self.cheapest else "-"
        return (
            f"{self.name:13}{self.n:5}{self.level:8.0e}{'  opaque' if self.opaque else '        '}{self.tolerance:8.0e}"
            f"{np.mean(points):9.0f}{max(points):7}{limit:>7}  {self.cheapest or 'none':10}{held:8}"
            f"{np.median(self.ours.norms):9.0e}{np.mean(np.concatenate(self.ours.covered)):7.2f}  "
            f"{', '.join(sorted(self.ours.methods))}{'  OVER' if self.beyond > 0 else ''}"
        )


def prices(sizes: Iterable[int], seeds: dict[int, int], tolerances: Iterable[float]) -> Iterator[Price]:
    for n, level, (name, make) in product(sizes, NOISES, FAMILIES.items()):
        for opaque in (True,) if level else (True, False):
            made = [make(n, seed) for seed in range(seeds[n])]
            problems = [(p, noisy(p, level, seed, opaque)) for seed, p in enumerate(made)]
            outcomes = {
                kind: fixed(problems, row, level) for kind, row in FIXED.items() if n < 1000 or len(row.nodes) < 8
            }
            for tolerance in tolerances:
                if tolerance < level:
                    continue
                kind = next((kind for kind, outcome in outcomes.items() if outcome.holds(tolerance)), None)
                limit = outcomes[kind].points[0] + ALLOWANCE if kind else float("inf")
                if not opaque:  # the complex step takes one point a parameter, and holds them all
                    kind, limit = kind if kind == "forward" else "complex", n + 1 + ALLOWANCE
                yield Price(name, n, level, opaque, tolerance, ours(problems, tolerance, opaque), kind, limit)


def priced(quick: bool) -> list[Limit]:
    sizes = SIZES[:2] if quick else SIZES
    seeds = {n: 2 if quick else SEEDS[n] for n in SIZES}
    print(
        f"\npoints against error_tolerance\n{'':13}{'n':>5}{'noise':>8}{'':8}{'wanted':>8}{'points':>9}{'most':>7}{'limit':>7}  "
        f"{'cheapest':10}{'':8}{'|dg|/|g|':>9}{'bars':>7}"
    )
    found = []
    for price in prices(sizes, seeds, TOLERANCES[::3] if quick else TOLERANCES):
        print(price, flush=True)
        found.append(price)
    held = [p for p in found if p.cheapest]
    entries = np.concatenate([bars for p in found for bars in p.ours.covered])
    return [
        Limit(
            "error_tolerance: mean points beyond the cheapest fixed scheme + 17, share of rows",
            0,
            0,
            _share(p.beyond > 0 for p in held),
        ),
        Limit(
            "error_tolerance: held where a fixed scheme holds it, share of rows",
            0.95,
            1,
            _share(p.ours.holds(p.tolerance) for p in held),
            True,
        ),
        Limit(
            "error_tolerance: the same for |dg|/|g|, which small entries leave as it is",
            0.95,
            1,
            _share(np.median(p.ours.norms) <= p.tolerance for p in held),
            True,
        ),
        Limit(
            "error_tolerance: true error within the bar, share of entries", 0.95, 0.97, float(np.mean(entries)), True
        ),
    ]


def _share(flags: Iterable[bool]) -> float:
    return float(np.mean([bool(flag) for flag in flags]))


# ---- fits
class Remembering(Counted):
    """f, counted, that keeps its value at the last x: optimisers ask for it, then for the derivative there."""

    x, value = np.empty(0), None

    def __call__(self, x: np.ndarray) -> Any:
        if not np.array_equal(x, self.x):
            self.x, self.value = np.array(x), super().__call__(x)
        return self.value


class SelfLearning:
    """A plan, learnt at the first x that a derivative is asked for."""

    def __init__(self, transform: Any) -> None:
        self.transform, self.plan = transform, None

    def __call__(self, x: np.ndarray) -> Any:
        self.plan = self.plan or self.transform.plan(x)
        return self.plan(x)


@dataclass(frozen=True)
class Fit:
    """Points and final costs of one fit: ours, then that with SciPy's 2-point differences."""

    name: str
    points: tuple[int, int]
    costs: tuple[float, float]
    best: float | None = None

    @property
    def equal(self) -> bool:
        ours, theirs = self.costs
        return ours <= theirs * (1 + RELATIVE_COST)

    def __str__(self) -> str:
        ratio = self.points[0] / self.points[1]
        best = "" if self.best is None else f"{self.best:13.6e}"
        verdict = "" if self.equal else "  HIGHER"
        lower = "  lower" if self.costs[0] < self.costs[1] * (1 - RELATIVE_COST) else ""
        return (
            f"{self.name:28}{self.points[0]:7}{self.points[1]:8}{ratio:7.2f}"
            f"{self.costs[0]:15.6e}{self.costs[1]:15.6e}{verdict}{lower} {best}"
        )


def least_squares_fits(
    name: str,
    residual: Function,
    start: np.ndarray,
    bounds: Any = (-np.inf, np.inf),
    best: float | None = None,
    true: Function | None = None,
    **options: Any,
) -> Fit:
    from scipy.optimize import least_squares

    points, costs = [], []
    for mine in (True, False):
        counted = Remembering(residual)
        limits = {} if np.all(np.isinf(bounds[0])) else {"bounds": bounds}
        jacobian = SelfLearning(ad.jacobian(counted, error_tolerance=1e-4, **limits, **options)) if mine else "2-point"
        found = least_squares(counted, start, jac=jacobian, bounds=bounds, **FIT)
        points.append(counted.points)
        costs.append(2 * found.cost if true is None else float(np.sum(true(found.x) ** 2)))
    return Fit(name, tuple(points), tuple(costs), best)


def nist_fits() -> Iterator[Fit]:
    for data, which in product(DATASETS, (0, 1)):
        start = np.asarray(data.starts[which], dtype=float)
        yield least_squares_fits(f"{data.name}, start {which + 1}", data.residual, start, best=data.squares)


def xpcs_fits(quick: bool) -> Iterator[Fit]:
    for mode, frames, seed in (
        (("static", 30, 1), ("laminar", 30, 2))
        if quick
        else (("static", 60, 1), ("laminar", 60, 2), ("laminar", 60, 3))
    ):
        experiment = Experiment(mode, frames=frames, dt=1.0)
        truth = [TRUTH[name] for name in experiment.names]
        problem = FitProblem(experiment, simulate(experiment, truth, 0.01, seed=seed), 0.01)
        start = starting_values(problem)
        bounds = (problem.lower, problem.upper)
        yield least_squares_fits(f"XPCS, {mode}, seed {seed}", problem.residual(start), start, bounds)


def simulators(seeds: int) -> Iterator[Fit]:
    """Each output, or the cost itself, is off by a millionth of its size, another value at every other x."""
    for data, seed in product(DATASETS[3:5], range(seeds)):
        start = np.asarray(data.starts[1], dtype=float)
        yield least_squares_fits(
            f"noisy {data.name}, seed {seed}", shaken(data.residual, seed), start, true=data.residual
        )
    for (name, make), seed in product(FAMILIES.items(), range(seeds)):
        if name != "exp of sines":  # it has no least value near by
            yield minimised(f"noisy {name} 7, seed {seed}", make(7, seed), seed)


def shaken(residual: Function, seed: int) -> Function:
    def fun(b: np.ndarray) -> np.ndarray:
        value = residual(b)
        rng = np.random.default_rng([seed, *np.ascontiguousarray(b).view(np.uint32)])
        return value + LEVEL * np.sqrt(np.mean(value**2)) * rng.standard_normal(value.size)

    return fun


def minimised(name: str, problem: Problem, seed: int) -> Fit:
    from scipy.optimize import minimize

    fun = hashed(problem, LEVEL, seed)
    points, costs = [], []
    for mine in (True, False):
        counted = Remembering(fun)
        gradient = SelfLearning(ad.grad(counted)) if mine else None
        found = minimize(counted, problem.x, jac=gradient, method="L-BFGS-B", options={"maxiter": 200, "maxfun": 2000})
        points.append(counted.points)
        costs.append(float(problem.fun(found.x)))
    return Fit(name, tuple(points), tuple(costs))


def fitted(quick: bool) -> list[Limit]:
    limits = []
    for kind, found in {
        "NIST": list(nist_fits()),
        "XPCS": list(xpcs_fits(quick)),
        "noisy simulators": list(simulators(1 if quick else 4)),
    }.items():
        print(f"\n{kind + ': with a plan, then SciPy 2-point':28}{'points':>7}{'':8}{'ratio':>7}{'final cost':>15}")
        print("\n".join(map(str, found)), flush=True)
        better = [fit for fit in found if fit.costs[0] < fit.costs[1] * (1 - RELATIVE_COST)]
        alike = [fit for fit in found if fit not in better]
        ratios = [fit.points[0] / fit.points[1] for fit in alike]
        limits += [
            Limit(
                f"{kind}: final cost equal to or below that with 2-point, share of fits",
                1,
                1,
                _share(f.equal for f in found),
                True,
            ),
            Limit(f"{kind}: points over those with 2-point where costs are equal, all fits", 1.3, 1, _total(alike)),
            Limit(f"{kind}: the same, worst fit", 1.3, 1, max(ratios, default=0.0)),
        ]
    return limits


def _total(fits: Iterable[Fit]) -> float:
    ours, theirs = np.sum([fit.points for fit in fits] or [(0, 1)], axis=0)
    return float(ours / theirs)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer tolerances, sizes and seeds")
    quick = parser.parse_args().quick
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(table(priced(quick) + fitted(quick)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
