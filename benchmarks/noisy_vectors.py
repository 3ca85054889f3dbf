"""Gradients and minima of noisy functions of n parameters, beside central differences of the noise-optimal step.

    python -m benchmarks.noisy_vectors [--seeds N] [--quick]

Errors are taken in units of what each parameter contributes: entry times length. The central difference is told the noise
and takes h = (3 noise)^(1/3) |x|, which no user has; the default call of arraydiff is told nothing.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import arraydiff as ad
from benchmarks.analytic import rosenbrock, rosenbrock_gradient
from benchmarks.rows import Row, table

LEVELS = (1e-12, 1e-9, 1e-6, 1e-3)
JUDGED = (1e-9, 1e-6)  # the levels that the closing table is made of
FLOAT32 = 6e-8
SIZES = (7, 40, 200)
SEEDS = 6
WAVES = 1e7  # periods over the length of each parameter
TINY = 1e-300

Function = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Problem:
    """A function of n parameters, its gradient, a point, and the length over which each parameter matters."""

    name: str
    fun: Function
    gradient: Function
    x: np.ndarray
    length: np.ndarray


def spread(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 2.0, n)


def squares(n: int, seed: int, decades: float | None = None) -> Problem:
    """Squares of 1.5 n saturating terms and a bowl: f is far larger than what one parameter contributes.

    With `decades` the lengths are 10^(±decades) |x| and x itself is spread over six decades.
    """
    rng = np.random.default_rng(seed)
    weights, target = rng.normal(size=(3 * n // 2, n)) / np.sqrt(n), rng.normal(size=3 * n // 2)
    x, relative = spread(rng, n), np.ones(n)
    if decades is not None:
        relative, x = 10.0 ** rng.uniform(-decades, decades, n), x * 10.0 ** rng.uniform(-3, 3, n)
    length, centre = relative * np.abs(x), spread(rng, n)

    def terms(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        kind = p.real.dtype
        z = centre.astype(kind) + (p - x.astype(kind)) / length.astype(kind)
        inside = np.tanh(weights.astype(kind) @ z)
        return z, inside, inside - target.astype(kind)

    def fun(p: np.ndarray) -> Any:
        z, _, residual = terms(p)
        return np.sum(residual * residual) / 2 + np.sum(z * z) / 10

    def gradient(p: np.ndarray) -> np.ndarray:
        z, inside, residual = terms(p)
        return (weights.T @ (residual * (1 - inside**2)) + z / 5) / length

    return Problem("squares", fun, gradient, x, length)


def valley(n: int, seed: int) -> Problem:
    x = spread(np.random.default_rng(seed), n)
    return Problem("Rosenbrock", rosenbrock, rosenbrock_gradient, x, np.abs(x))


def waves(n: int, seed: int) -> Problem:
    """Exp of a mean of sines: every entry is of the order of f / n, and every length shorter than |x|."""
    rng = np.random.default_rng(seed)
    x, rate = spread(rng, n), rng.uniform(1, 3, n)

    def fun(p: np.ndarray) -> Any:
        return np.exp(np.mean(np.sin(rate.astype(p.real.dtype) * p)))

    def gradient(p: np.ndarray) -> np.ndarray:
        return fun(p) * rate * np.cos(rate * p) / n

    return Problem("exp of sines", fun, gradient, x, np.abs(x))


FAMILIES: dict[str, Callable[[int, int], Problem]] = {"squares": squares, "Rosenbrock": valley, "exp of sines": waves}


# ---- noise, with the standard deviation level * |f(x)|
def drawn(problem: Problem, level: float, seed: int) -> Function:
    """Another value at every call."""
    rng, sigma = np.random.default_rng([seed, 1]), level * abs(problem.fun(problem.x))
    return lambda p: problem.fun(p) + sigma * rng.standard_normal()


def hashed(problem: Problem, level: float, seed: int) -> Function:
    """A function of the bits of x: the same at the same x."""
    sigma = level * abs(problem.fun(problem.x))

    def fun(p: np.ndarray) -> Any:
        bits = np.ascontiguousarray(p.real).view(np.uint32)
        return problem.fun(p) + sigma * np.random.default_rng(bits).standard_normal()

    return fun


def fast_wave(problem: Problem, level: float, seed: int) -> Function:
    """A sine far too fast for any step: deterministic, smooth on paper."""
    sigma = level * abs(problem.fun(problem.x))
    rates = WAVES * np.random.default_rng([seed, 2]).uniform(0.5, 1.5, problem.x.size) / problem.length
    return lambda p: problem.fun(p) + np.sqrt(2) * sigma * np.sin(rates @ p.real + 0.3)


def float32_inside(problem: Problem, level: float, seed: int) -> Function:
    """Computed in single precision, given out in double."""
    return lambda p: float(problem.fun(p.real.astype(np.float32)))


NOISES = {"drawn": drawn, "hashed": hashed, "fast wave": fast_wave, "float32 inside": float32_inside}


# ---- ways to a gradient
@dataclass(frozen=True)
class Answer:
    """A gradient, its bar (None: there is none) and its price."""

    gradient: np.ndarray
    bar: np.ndarray | None
    points: int


def central(fun: Function, x: np.ndarray, level: float) -> Answer:
    """Each step balances the noise against a third derivative of size f / |x|^3."""
    steps = np.where(x == 0, 1.0, np.abs(x)) * (3 * level) ** (1 / 3)
    differences = [(fun(x + move) - fun(x - move)) for move in np.diag(steps)]
    return Answer(np.asarray(differences) / (2 * steps), None, 2 * x.size)


def ours(fun: Function, x: np.ndarray, **options: Any) -> Answer:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        result = ad.grad(fun, unreliable="ignore", **options).result(x)
    return Answer(result.gradient, result.error_estimate, result.function_points)


@dataclass(frozen=True)
class Measured:
    """One gradient: errors in units of the largest entry and of the norm, coverage, sharpness."""

    points: int
    norm: float
    covered: float
    joint: bool
    far_off: int
    sharpness: float


def measured(problem: Problem, answer: Answer) -> Measured:
    """Errors count in units of what each parameter contributes."""
    truth = problem.gradient(problem.x) * problem.length
    off = np.abs(answer.gradient * problem.length - truth)
    off = np.where(np.isfinite(off), off, np.inf)
    bar = np.zeros_like(off) if answer.bar is None else answer.bar * problem.length
    return Measured(
        answer.points,
        float(np.linalg.norm(off) / np.linalg.norm(truth)),
        float(np.mean(off <= bar)),
        bool(np.all(off <= 3 * bar)),
        int(np.sum(off > np.max(np.abs(truth)))),
        float(np.median(bar / np.maximum(off, TINY))),
    )


@dataclass(frozen=True)
class Cell:
    """Gradients of several seeds: one line of the long table."""

    n: int
    family: str
    noise: str
    level: float
    way: str
    ours: list[Measured]
    central: list[Measured]

    @property
    def ratios(self) -> np.ndarray:
        return np.asarray([a.norm / max(b.norm, TINY) for a, b in zip(self.ours, self.central, strict=True)])

    @property
    def points_per_parameter(self) -> float:
        """Largest, less 21 for f(x) and the probes."""
        return (max(m.points for m in self.ours) - 21) / self.n

    def mean(self, field: str) -> float:
        return float(np.mean([getattr(m, field) for m in self.ours]))

    def __str__(self) -> str:
        points, sharpness = [m.points for m in self.ours], np.median([m.sharpness for m in self.ours])
        norms = [np.median([m.norm for m in side]) for side in (self.ours, self.central)]
        return (
            f"{self.n:4d} {self.family:16}{self.noise:15}{self.level:7.0e} {self.way:8}"
            f"{np.mean(points):7.0f}{max(points):6d}  {norms[0]:8.1e}{norms[1]:9.1e}"
            f"{np.median(self.ratios):7.2f}{np.max(self.ratios):8.2f}"
            f"{100 * self.mean('covered'):7.1f}{100 * self.mean('joint'):7.0f}"
            f"{sum(m.far_off for m in self.ours):5d}{sum(m.far_off for m in self.central):5d}{sharpness:8.1f}"
        )


HEADING = (
    f"   n {'function':16}{'noise':15}{'level':>7} {'told':8}{'points':>7}{'most':>6}  {'|dg|/|g|':>8}{'central':>9}"
    f"{'ratio':>7}{'worst':>8}{'cover':>7}{'joint':>7}{'far':>5}{'cent':>5}{'sharp':>8}"
)


def cell(
    n: int, family: str, make: Callable[[int, int], Problem], noise: str, level: float, seeds: int
) -> Iterator[Cell]:
    """The default call, and the ladder told of the noise, on the same functions."""
    problems = [make(n, seed) for seed in range(seeds)]
    noisy = [lambda seed=seed, p=problem: NOISES[noise](p, level, seed) for seed, problem in enumerate(problems)]
    reference = [measured(p, central(fun(), p.x, level)) for p, fun in zip(problems, noisy, strict=True)]
    for way in ("nothing", "noise="):
        if way == "noise=" and noise == "float32 inside":  # its level is what it is
            continue
        told = [
            {} if way == "nothing" else {"method": "richardson", "noise": level * abs(p.fun(p.x))} for p in problems
        ]
        answers = [
            measured(p, ours(fun(), p.x, **options)) for p, fun, options in zip(problems, noisy, told, strict=True)
        ]
        yield Cell(n, family, noise, level, way, answers, reference)


def cells(sizes: Iterable[int], seeds: int) -> Iterator[Cell]:
    """The families under every noise, then the first one with mixed lengths."""
    for n, (family, make), noise in product(sizes, FAMILIES.items(), NOISES):
        for level in (FLOAT32,) if noise == "float32 inside" else LEVELS:
            yield from cell(n, family, make, noise, level, seeds)
    for decades, level in product((1, 2), LEVELS):
        mixed = lambda n, seed, k=decades: squares(n, seed, k)  # noqa: E731
        yield from cell(40, f"lengths 10^±{decades}", mixed, "drawn", level, seeds)


def rows_of(name: str, cells: list[Cell]) -> list[Row]:
    """What the closing table says of some lines of the long one."""
    ratios = np.concatenate([c.ratios for c in cells])
    sharpness = float(np.median([m.sharpness for c in cells for m in c.ours]))
    covered = [c.mean("covered") for c in cells]
    far_off = sum(m.far_off for c in cells for m in c.ours)
    return [
        Row(f"{name}: error over that of noise-optimal central, median", 1, 0.5, float(np.median(ratios))),
        Row(f"{name}: the same, 9 of 10", 1, 0.5, float(np.quantile(ratios, 0.9))),
        Row(f"{name}: (most points - 21) / n", 4, 2, max(c.points_per_parameter for c in cells)),
        Row(f"{name}: coverage", 0.95, 0.97, float(np.mean(covered)), at_least=True),
        Row(f"{name}: coverage, least of the lines", 0.95, 0.97, min(covered), at_least=True),
        Row(f"{name}: median sharpness", 10, 5, sharpness),
        Row(f"{name}: entries off by more than the largest", 0, 0, far_off),
        Row(
            f"{name}: gradients within 3 bars, share",
            0.95,
            0.99,
            float(np.mean([c.mean("joint") for c in cells])),
            True,
        ),
    ]


def gradient_rows(found: list[Cell]) -> list[Row]:
    """From the levels 1e-9 and 1e-6 and the default call."""
    judged = [c for c in found if c.way == "nothing" and c.level in JUDGED]
    groups: dict[str, list[Cell]] = {}
    for c in judged:
        groups.setdefault(f"noisy, n = {c.n}" if c.family in FAMILIES else f"noisy, n = {c.n}, {c.family}", []).append(
            c
        )
    return [row for name, cells in groups.items() for row in rows_of(name, cells)]


def gradients(sizes: Iterable[int], seeds: int) -> list[Row]:
    print(f"\ngradients, {seeds} seeds\n{HEADING}", flush=True)
    found = []
    for one in cells(sizes, seeds):
        print(one, flush=True)
        found.append(one)
    return gradient_rows(found)


def rows(seeds: int = SEEDS, quick: bool = False) -> list[Row]:
    """Every row of the closing table that concerns noise; `quick` leaves out n = 200 and most seeds."""
    from benchmarks import noisy_minima, noisy_numbers

    seeds = min(seeds, 2) if quick else seeds
    return [
        *gradients(SIZES[:2] if quick else SIZES, seeds),
        *noisy_minima.rows(seeds),
        *noisy_numbers.rows(20 if quick else noisy_numbers.SEEDS),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--quick", action="store_true", help="two seeds, n = 7 and 40")
    options = parser.parse_args()
    found = rows(options.seeds, options.quick)
    print(table(found))
    return int(any(row.verdict == "MISSED" for row in found))


if __name__ == "__main__":
    sys.exit(main())
