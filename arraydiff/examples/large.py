"""The XPCS fit where the Jacobian does not fit in memory: normal equations, summed over blocks of frame pairs and angles.

The residuals at one angle depend on its own contrast and offset and on the physical parameters alone: 9 directions instead of 53.
Diffusion and strain depend on no angle, so that all angles of a block share them.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from arraydiff.examples.fit import MOST_EVALUATIONS, TOLERANCE, Comparison, Cost, Fit, Progress
from arraydiff.examples.levenberg_marquardt import levenberg_marquardt
from arraydiff.examples.library import Library, library
from arraydiff.examples.problem import FitProblem, starting_values
from arraydiff.examples.uncertainty import uncertainty
from arraydiff.examples.xpcs import (
    Array,
    Experiment,
    Grid,
    decay,
    decorrelation,
    floored,
    real_like,
    strain,
    upper_triangle,
)

MOST_ENTRIES = 2**26  # of a Jacobian that is held: half a gigabyte, of which least_squares makes several
COPIES = 6  # of the Jacobian that a fit holds at once: ours, its bars, and what least_squares scales and factorises
PAIRS = 2**16  # of one block: what the model makes of them stays near the cache, and Python costs little
DEVICE_PAIRS = 2**20
ARRAYS = 250  # numbers that a derivative may hold for each residual of a block
MOST_THREADS = 4
SAMPLE = 2**19  # residuals on which the search starts: the way to the optimum is the same, the optimum almost


def too_large(problem: FitProblem, max_memory: Any = None) -> str:
    """Why the Jacobian is not to be held, in words; empty where it may be."""
    from arraydiff.backends import backend_of
    from arraydiff.memory import budget, told

    entries = _residuals(problem) * len(problem.names)
    room = budget(backend_of([np.zeros(1)]), max_memory)
    if COPIES * 8 * entries > room:
        size = told(COPIES * 8 * entries)
        return f"it and what an optimiser makes of it take {size}, and {told(room)} may be used"
    return f"it has {told(8 * entries)}" if entries > MOST_ENTRIES else ""


def _residuals(problem: FitProblem) -> int:
    frames = problem.experiment.frames
    return len(problem.experiment.angles) * frames * (frames - 1) // 2


@dataclass
class Block:
    """The residuals of some frame pairs, one angle a time, with what the angles share kept from call to call.

    A derivative displaces one parameter a point: what does not depend on it is known, and real.
    """

    at: Library
    experiment: Experiment
    grid: Grid
    c2: Array  # (P, m)
    sigma: float
    known: dict[Any, Array] = field(default_factory=dict)

    def __call__(self, local: Array, angle: int) -> Array:
        """(m,) at the local parameters: contrast, offset, physical."""
        law, rest = local[2:5], local[5:]
        field = self._once("decay", law, lambda law: decay(law, self.experiment, self.grid))
        if self.experiment.mode == "laminar":
            sinc = self._once(angle, rest, partial(self._decorrelation, angle))
            field = field * sinc * sinc
        field = floored(field)
        return (self.c2[angle] - local[1] - local[0] * field * field) / self.sigma

    def _decorrelation(self, angle: int, rest: Array) -> Array:
        strained = self._once("strain", rest[:3], lambda law: strain(law, self.grid))
        return decorrelation(rest[3:4], strained, self.experiment, self.grid.angles[angle : angle + 1], 1)[0]

    def _once(self, what: Any, parameters: Array, make: Callable[[Array], Array]) -> Array:
        host = self.at.host(parameters)
        if np.iscomplexobj(host) and not host.imag.any():
            host = host.real
            parameters = self.at.array(np.ascontiguousarray(host))
        key = what, host.tobytes(), host.dtype
        if key not in self.known:
            self.known[key] = make(parameters)
        return self.known[key]

    def forget(self, angle: int) -> None:
        """Drop what is of this angle alone."""
        self.known = {key: kept for key, kept in self.known.items() if key[0] != angle}


class NormalEquations:
    """J^T J, J^T r and r.r of the whole fit, or of every so many-th pair, with a tally of what they cost."""

    def __init__(
        self,
        problem: FitProblem,
        at: Library,
        method: str,
        max_memory: Any = None,
        progress: Progress | None = None,
        every: int = 1,
    ) -> None:
        import arraydiff as ad

        self.problem, self.at, self.progress = problem, at, progress
        experiment, s = problem.experiment, problem.experiment.scalings
        self.physical = len(experiment.names) - 2 * s
        first, second = upper_triangle(experiment.frames)
        self.pairs = first[::every], second[::every]
        self.size, self.threads = self._sizes(max_memory)
        self.cost, self.lock = Cost(seconds=0.0, worst_bar=0.0), threading.Lock()
        self.heard: Counter[str] = Counter()
        self.of_angle = []
        for angle in range(len(experiment.angles)):
            limits = [self._limits(experiment.names[i]) for i in self.places(angle)]
            lower, upper = (at.array(np.asarray(side)) for side in zip(*limits, strict=True))
            options = {"bounds": (lower, upper), "method": method, "unreliable": "ignore", "max_memory": max_memory}
            self.of_angle.append(ad.DifferentiationConfig().with_options(options, "normal_equations"))

    def _sizes(self, max_memory: Any) -> tuple[int, int]:
        """Pairs of a block, and blocks at a time."""
        from arraydiff.backends import backend_of
        from arraydiff.memory import budget

        if self.at.place != "cpu":
            return DEVICE_PAIRS, 1
        threads = min(os.cpu_count() or 1, MOST_THREADS)
        room = budget(backend_of([np.zeros(1)]), max_memory)
        return max(100, min(PAIRS, room // (8 * ARRAYS * threads))), threads

    def _limits(self, name: str) -> tuple[float, float]:
        """Bounds of one parameter; those that are fixed have no room, so that they are not displaced."""
        fixed = self.problem.fixed.get(name)
        return self.problem.limits(name) if fixed is None else (fixed, fixed)

    def places(self, angle: int) -> list[int]:
        """Where the local parameters of an angle stand among all."""
        s = self.problem.experiment.scalings
        own = angle if s > 1 else 0
        return [own, s + own, *range(2 * s, 2 * s + self.physical)]

    def blocks(self) -> Iterator[Block]:
        """All frame pairs, some at a time."""
        problem, like = self.problem, self.at.array(np.zeros(1))
        for start in range(0, len(self.pairs[0]), self.size):
            first, second = (index[start : start + self.size] for index in self.pairs)
            grid = Grid.like(like, problem.experiment, (first, second))
            data = real_like(like, problem.c2[:, first, second])
            yield Block(self.at, problem.experiment, grid, data, problem.sigma or 1.0)

    def __call__(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """At the free parameters (n,)."""
        began, theta = time.perf_counter(), self.problem.theta(values)
        total = np.zeros((2, len(theta) + 1, len(theta) + 1))
        for part in self._over_blocks(partial(self._products, theta=theta)):
            total += part
        free = [*self.problem.free, -1]
        whole, bars = total[:, free][:, :, free]
        self.cost.seconds = (self.cost.seconds or 0.0) + time.perf_counter() - began
        size = np.sqrt(np.diag(whole))[:-1]
        scale = np.outer(size, size)
        worst = np.max(bars[:-1, :-1] / np.where(scale > 0.0, scale, 1.0), initial=0.0)
        self.cost.worst_bar = max(self.cost.worst_bar or 0.0, float(worst))
        self._say("normal equations", whole[-1, -1])
        return whole[:-1, :-1], whole[:-1, -1], float(whole[-1, -1])

    def squares(self, values: np.ndarray) -> float:
        """r.r alone."""
        theta = self.problem.theta(values)
        return float(sum(self._over_blocks(partial(self._squares, theta=theta))))

    def _over_blocks(self, function: Callable[[Block], Any]) -> Iterator[Any]:
        """In their order, so that the sums are always the same; a few threads wait for one another, not more."""
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: list[Any] = []
            for block in self.blocks():
                waiting.append(pool.submit(function, block))
                if len(waiting) > self.threads:
                    yield waiting.pop(0).result()
            yield from (one.result() for one in waiting)

    def _squares(self, block: Block, theta: np.ndarray) -> float:
        total = 0.0
        for angle in range(len(self.of_angle)):
            residuals = self.at.host(block(self.at.array(theta[self.places(angle)]), angle))
            total += float(residuals @ residuals)
            block.forget(angle)
        return total

    def _products(self, block: Block, theta: np.ndarray) -> np.ndarray:
        """Values and bars (2, N + 1, N + 1) of one block, all parameters and r."""
        from arraydiff import normal_equations

        total = np.zeros((2, len(theta) + 1, len(theta) + 1))
        for angle, config in enumerate(self.of_angle):
            places = self.places(angle)
            result = normal_equations(block, config=config).result(self.at.array(theta[places]), angle)
            for part, triple in zip(total, (result.normal, result.error_estimate), strict=True):
                matrix, vector, square = (self.at.host(entry) for entry in triple)
                part[np.ix_(places, places)] += matrix
                part[places, -1] += vector
                part[-1, places] += vector
                part[-1, -1] += square
            self._count(result)
            block.forget(angle)
        return total

    def _count(self, result: Any) -> None:
        with self.lock:
            self.cost.calls += result.function_calls
            self.cost.points += result.function_points
            self.cost.rounds += result.rounds
            self._hear(result.warnings)
            method = result.method_used.value
            self.cost.methods[method] = self.cost.methods.get(method, 0) + 1

    def _hear(self, warnings: list[str]) -> None:
        """Those of all blocks, their entries counted together."""
        for text in warnings:
            number, _, rest = text.partition(" ")
            rest = rest.replace("entry ", "entries ", 1)
            if number.isdigit():
                self.heard[rest] += int(number)
            else:
                self.heard[text] = 0
        self.cost.warnings = {f"{count} {rest}" if count else rest for rest, count in self.heard.items()}

    def _say(self, what: str, squares: float) -> None:
        if self.progress is not None:
            self.progress(f"fit with arraydiff's {what}, block by block: sum of squares {squares:.6g}")


def fit_large(
    problem: FitProblem,
    why: str,
    *,
    backend: str = "numpy",
    method: str = "adaptive",
    max_memory: Any = None,
    progress: Progress | None = None,
) -> Comparison:
    """Fit by Levenberg-Marquardt over normal equations; `why` says why, in words. Parameters as in :func:`fit.compare`."""
    at = library(backend)
    start = starting_values(problem)
    began, residuals = time.perf_counter(), _residuals(problem)
    every, cost = max(residuals // SAMPLE, 1), Cost(seconds=0.0, worst_bar=0.0)
    heard: Counter[str] = Counter()
    values, evaluations = start, 0
    for step in dict.fromkeys((every, 1)):
        normal = NormalEquations(problem, at, method, max_memory, progress, step)
        normal.cost, normal.heard = cost, heard
        found = levenberg_marquardt(
            normal,
            values,
            problem.lower,
            problem.upper,
            cost=normal.squares,
            tolerance=TOLERANCE,
            most=MOST_EVALUATIONS,
        )
        values, evaluations = found.x, evaluations + found.trials + found.evaluations
    seconds = time.perf_counter() - began
    spread = 1.0 if problem.sigma is not None else (found.cost / max(residuals - len(start), 1)) ** 0.5
    root = square_root(found.normal)
    done = Fit(
        derivatives="arraydiff",
        values=found.x,
        jacobian=root,
        uncertainty=uncertainty(root, spread, found.x, problem.lower, problem.upper),
        chi2=found.cost / spread**2,
        sigma=problem.sigma if problem.sigma is not None else spread,
        residuals=residuals,
        evaluations=evaluations,
        seconds=seconds,
        converged=found.converged,
        message=found.message,
        cost=normal.cost,
    )
    return Comparison(problem, start, (done,), f"{at.name} on {at.place}", _note(why, normal.size, every))


def _note(why: str, size: int, every: int) -> str:
    sampled = f", after a search on one pair in {every}" if every > 1 else ""
    return (
        f"The Jacobian of this fit was not held, because {why}: Levenberg-Marquardt over normal equations found it, in blocks of "
        f"{size} frame pairs{sampled}. Standard errors come from J^T J. Fits with SciPy's differences, which need the Jacobian, "
        "are left out."
    )


def square_root(normal: np.ndarray) -> np.ndarray:
    """R with R^T R = J^T J: it stands for J where only products count."""
    lengths = np.sqrt(np.diag(normal))
    unit = np.where(lengths > 0.0, lengths, 1.0)
    values, vectors = np.linalg.eigh(normal / np.outer(unit, unit))
    root: np.ndarray = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T * unit
    return root
