"""Is the complex step trusted only where it may be? Functions that lose or spoil imaginary parts, and analytic ones.

    python -m benchmarks.unsafe_complex [--points K] [--seed N] [--names]

"Wrong accepted" counts gradients taken by the complex step of which an entry is off by more than 1e-9, relative to the entry
or, where that is larger, to a thousandth of the entry that contributes most to its output. "Right rejected" counts gradients
of analytic functions for which the complex step was not used.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import arraydiff as ad
from arraydiff.result import SMALL_SHARE
from benchmarks.peers import Counted
from benchmarks.rows import Row, table
from benchmarks.unsafe_functions import SAFE, SAFE_VECTORS, UNSAFE, UNSAFE_VECTORS, Function, Subject, points

TOLERANCE = 1e-9
ROUNDINGS = 100
SILENT = 10.0  # bars
MATTERS = 1e-6
POINTS = 14


@dataclass(frozen=True)
class Verdict:
    """What became of one derivative: by the complex step or not, and how wrong in units of what is allowed."""

    name: str
    x: np.ndarray
    accepted: bool
    excess: float
    beyond_bar: bool
    points: int

    @property
    def wrong(self) -> bool:
        return not self.excess <= 1

    @property
    def silent(self) -> bool:
        """Off by what matters, and by far more than it says, whatever the method."""
        return self.beyond_bar and not self.excess * TOLERANCE <= MATTERS


Answer = tuple[bool, np.ndarray, np.ndarray | None, int]
Tool = Callable[[Function, np.ndarray, bool], Answer]


def ours(fun: Function, x: np.ndarray, vector: bool) -> Answer:
    transform = ad.jacobian if vector else ad.grad
    result = transform(fun, unreliable="ignore").result(x)
    accepted = result.method_used is ad.DifferentiationMethod.COMPLEX_STEP
    return accepted, result.derivative, result.error_estimate, result.function_points


def numdifftools(fun: Function, x: np.ndarray, vector: bool) -> Answer:
    import numdifftools as nd

    counted = Counted(fun)
    derivative = (nd.Jacobian if vector else nd.Gradient)(counted, method="complex")(x)
    return True, np.asarray(derivative, dtype=float), None, counted.points


def approx_derivative(fun: Function, x: np.ndarray, vector: bool) -> Answer:
    from scipy.optimize._numdiff import approx_derivative

    counted = Counted(fun)
    return True, approx_derivative(counted, x, method="cs"), None, counted.points


TOOLS: dict[str, Tool] = {
    "arraydiff": ours,
    "numdifftools complex": numdifftools,
    "approx_derivative cs": approx_derivative,
}


def allowed(subject: Subject, truth: np.ndarray, x: np.ndarray) -> np.ndarray:
    """How far each entry may be off; the type that f returns says how precise it means to be."""
    size, kind = np.abs(truth), np.asarray(subject.fun(x.copy())).dtype
    share = SMALL_SHARE * np.max(size * np.abs(x), axis=-1, keepdims=True) / np.abs(x)
    return max(TOLERANCE, ROUNDINGS * float(np.finfo(kind).eps)) * np.maximum(size, share)


def judged(tool: Tool, subject: Subject, x: np.ndarray, vector: bool) -> Verdict:
    """An exception of a peer is an answer: the complex step was not taken."""
    truth = subject.truth(x)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            accepted, value, bar, count = tool(subject.fun, x.copy(), vector)
        except Exception:
            if tool is ours:
                raise
            return Verdict(subject.name, x, False, 0.0, False, 0)
    off = np.abs(np.reshape(value, truth.shape) - truth)
    excess = float(np.max(np.nan_to_num(off / np.maximum(allowed(subject, truth, x), 1e-300), nan=np.inf)))
    beyond = bar is not None and bool(np.any(off > SILENT * np.reshape(bar, truth.shape)))
    return Verdict(subject.name, x, accepted, excess, beyond, count)


@dataclass
class Tally:
    """The verdicts on one tool."""

    unsafe: list[Verdict] = field(default_factory=list)
    safe: list[Verdict] = field(default_factory=list)

    @property
    def wrong_accepted(self) -> list[Verdict]:
        return [v for v in (*self.unsafe, *self.safe) if v.accepted and v.wrong]

    @property
    def right_rejected(self) -> list[Verdict]:
        return [v for v in self.safe if not v.accepted]

    @property
    def silent(self) -> list[Verdict]:
        return [v for v in (*self.unsafe, *self.safe) if v.silent]

    def __str__(self) -> str:
        accepted = sum(v.accepted for v in self.unsafe)
        return (
            f"{accepted:8d}{len(self.wrong_accepted):8d}{len(self.right_rejected):10d}{len(self.silent):12d}"
            f"{np.mean([v.points for v in self.safe]):10.1f}{np.mean([v.points for v in self.unsafe]):10.1f}"
        )


def tally(tool: Tool, where: Iterable[np.ndarray]) -> Tally:
    """Every function at every point."""
    where, found = list(where), Tally()
    groups = [(UNSAFE, found.unsafe, False), (UNSAFE_VECTORS, found.unsafe, True)]
    groups += [(SAFE, found.safe, False), (SAFE_VECTORS, found.safe, True)]
    for subjects, verdicts, vector in groups:
        verdicts += [judged(tool, subject, x, vector) for subject in subjects for x in where]
    return found


def named(verdicts: list[Verdict]) -> str:
    """How often each function occurs, and its worst x."""
    lines = []
    for name in dict.fromkeys(v.name for v in verdicts):
        these = [v for v in verdicts if v.name == name]
        worst = max(these, key=lambda v: v.excess)
        lines.append(
            f"  {name:32}{len(these):4d} times, worst {worst.excess:.1e} of what is allowed at {worst.x.tolist()}"
        )
    return "\n".join(lines)


def rows(count: int = POINTS, seed: int = 0, names: bool = False) -> list[Row]:
    """Counts for each tool that can be imported; the rows are ours."""
    where, found = points(count, seed), {}
    many = (len(UNSAFE) + len(UNSAFE_VECTORS)) * count, (len(SAFE) + len(SAFE_VECTORS)) * count
    print(f"\ncomplex step: {many[0]} derivatives of unsafe functions, {many[1]} of analytic ones")
    print(f"{'':24}accepted   wrong  rejected      silent  points, safe / unsafe", flush=True)
    for name, tool in TOOLS.items():
        try:
            tool(lambda x: np.sum(x * x), np.ones(4), False)
        except ImportError as missing:
            print(f"left out: {name} ({missing})")
            continue
        found[name] = tally(tool, where)
        print(f"{name:24}{found[name]}", flush=True)
    mine = found["arraydiff"]
    for title in ("wrong_accepted", "right_rejected", "silent") if names else ():
        print(f"{title.replace('_', ' ')}:\n{named(getattr(mine, title))}")
    return [
        Row("complex step over unsafe functions: wrong accepted", 0, 0, len(mine.wrong_accepted)),
        Row("complex step over analytic functions: right rejected, share", 0.01, 0, len(mine.right_rejected) / many[1]),
        Row("the same functions, any method: off by 1e-6 and by ten bars", 0, 0, len(mine.silent)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--names", action="store_true", help="name the functions that we get wrong or refuse")
    options = parser.parse_args()
    print(table(rows(options.points, options.seed, options.names)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
