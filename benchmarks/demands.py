"""What users ask of a differentiator and no tool gives them all: each demand put to every tool that is installed.

    python -m benchmarks.demands [--names]

"right": within the tolerance of the demand. "flagged": not right, but said: a refusal, a warning, NaN, a flag, or an error bar
that is no shorter than a tenth of the error. "raised": an exception, and all is lost. "WRONG": none of these. "-": the tool has
no such offer.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import arraydiff as ad
from benchmarks.analytic import rosenbrock, rosenbrock_gradient
from benchmarks.demand_tools import TOOLS, Answer, Ask, NotOffered, Tool, present
from benchmarks.peers import Counted
from benchmarks.rows import Row, table
from benchmarks.silent import hashed

Function = Callable[[Any], Any]
NONE = math.nan  # there is no derivative: whatever comes has to come with a word
NAME_WIDTH = 60


@dataclass(frozen=True)
class Demand:
    """One question with its answer; `make` gives a fresh function, so that nothing is left over from another tool."""

    name: str
    make: Callable[[], Function]
    x: Any
    truth: Any
    tolerance: float = 1e-6
    ask: Ask = field(default_factory=Ask)


def fixed(fun: Function) -> Callable[[], Function]:
    return lambda: fun


def reuses_buffer() -> Function:
    buffers: dict[Any, np.ndarray] = {}

    def fun(x: Any) -> Any:
        buffer = buffers.setdefault((x.dtype, x.shape[1:]), np.empty(x.shape[1:], dtype=x.dtype))
        np.sum(x * x, axis=0, out=buffer)
        return buffer

    return fun


def overwrites(x: Any) -> Any:
    x *= x
    return np.sum(x, axis=0)


def single(x: Any) -> Any:
    return np.sum(np.sin(np.real(x).astype(np.float32)), axis=0).astype(float)


def entropy(x: Any) -> Any:
    return np.sum(x * np.log(x), axis=0)


def raises_beyond(edge: float) -> Callable[[], Function]:
    def fun(x: Any) -> Any:
        if np.any(np.real(x) > edge):
            raise OverflowError("the model does not converge there")
        return np.sum(x**3, axis=0)

    return fixed(fun)


def noisy_sine(level: float) -> Callable[[], Function]:
    return fixed(lambda x: np.sum(np.sin(x), axis=0) + level * 2 * math.sqrt(3) * hashed(np.real(x)))


def inside(fun: Function, low: Any, high: Any) -> Callable[[], Function]:
    """Refuses, once and for all, to be asked outside of its bounds."""

    def guarded(x: Any) -> Any:
        assert np.min(np.real(x).T - low) >= 0, f"{x} lies below {low}"
        assert np.max(np.real(x).T - high) <= 0, f"{x} lies above {high}"
        return fun(x)

    return fixed(guarded)


PAIR, TRIPLE, TEN = np.asarray([1.3, -0.7]), np.asarray([0.7, -1.3, 2.0]), np.linspace(-1.2, 1.4, 10)
SCALES = 10.0 ** np.arange(-12, 13, 3)
CUBES = 3 * TRIPLE**2
WIDE = np.asarray([1.0, 1e-6])
OUT = (np.asarray([0.1 + 2e-17, -5.0]), np.asarray([1.0, 5.0]))
NARROW = (TRIPLE - 0.3e-10, TRIPLE + 0.7e-10)
COMPLEX = Ask(complex_step=True)


def bounded(low: Any, high: Any, what: str = "gradient") -> Ask:
    return Ask(what, bounds=(np.asarray(low), np.asarray(high)))


def rosenbrock_hessian(x: np.ndarray) -> np.ndarray:
    out = np.diag(np.concatenate([1200 * x[:-1] ** 2 - 400 * x[1:] + 2, [0.0]]))
    out[np.arange(1, x.size), np.arange(1, x.size)] += 200
    beside = -400 * x[:-1]
    return out + np.diag(beside, 1) + np.diag(beside, -1)


def sum_of(fun: Function) -> Callable[[], Function]:
    return fixed(lambda x: np.sum(fun(x), axis=0))


DEMANDS = [
    Demand("sin(1e9 x) at 1.3e-9", sum_of(lambda x: np.sin(1e9 * x)), 1.3e-9, 1e9 * math.cos(1.3)),
    Demand("sin(x) at 1e10", sum_of(np.sin), 1e10, math.cos(1e10)),
    Demand("sin(x) at 1e10, no complex numbers", sum_of(lambda x: np.sin(np.real(x))), 1e10, math.cos(1e10)),
    Demand("|x| at 0", sum_of(np.abs), 0.0, NONE),
    Demand("|x| at 1e-9", sum_of(np.abs), 1e-9, 1.0),
    Demand("max(x, 0) at 0", sum_of(lambda x: np.maximum(x, 0)), 0.0, NONE),
    Demand("max at a tie", fixed(lambda x: np.max(x, axis=0)), np.asarray([1.0, 1.0]), [NONE, NONE]),
    Demand("a jump at x", sum_of(lambda x: np.where(np.real(x) > 1, x + 1, x)), 1.0, NONE),
    Demand("log(x - 0.0999) at 0.1", sum_of(lambda x: np.log(x - 0.0999)), 0.1, 1 / (0.1 - 0.0999), 1e-8),
    Demand("sqrt(x) at 1e-12", sum_of(np.sqrt), 1e-12, 0.5e6),
    Demand("x sqrt(x) at 0, NaN below", sum_of(lambda x: x * np.sqrt(x)), 0.0, 0.0),
    Demand(
        "Hessian of sum x log x at 1e-3",
        fixed(entropy),
        np.asarray([1e-3, 1.0]),
        np.diag([1e3, 1.0]),
        1e-4,
        Ask("hessian"),
    ),
    Demand(
        "Hessian of sum x log x at 1e-8, bound 0",
        inside(entropy, 0, np.inf),
        np.asarray([1e-8, 1.0]),
        np.diag([1e8, 1.0]),
        1e-4,
        bounded([0, 0], [np.inf, np.inf], "hessian"),
    ),
    Demand(
        "Hessian of x^2 + 1e-12 y^2 at (1, 1e6)",
        fixed(lambda x: x[0] ** 2 + 1e-12 * x[1] ** 2),
        1 / WIDE,
        np.diag([2, 2e-12]),
        1e-6,
        Ask("hessian"),
    ),
    Demand("noise 1e-3, one variable", noisy_sine(1e-3), 1.0, math.cos(1.0), 1e-2),
    Demand("noise 1e-6, one variable", noisy_sine(1e-6), 1.0, math.cos(1.0), 1e-4),
    Demand("noise 1e-9, one variable", noisy_sine(1e-9), 1.0, math.cos(1.0), 1e-6),
    Demand(
        "noise 1e-6, seven variables",
        noisy_sine(1e-6),
        np.linspace(0.4, 1.3, 7),
        np.cos(np.linspace(0.4, 1.3, 7)),
        1e-3,
    ),
    Demand("float32 inside", fixed(single), 1.0, math.cos(1.0), 1e-4),
    Demand("float32 inside, three variables", fixed(single), TRIPLE, np.cos(TRIPLE), 1e-4),
    Demand(
        "complex step: float()",
        fixed(lambda x: float(np.real(x[0])) ** 3 + x[1] * x[2]),
        TRIPLE,
        [CUBES[0], 2.0, -1.3],
        ask=COMPLEX,
    ),
    Demand("complex step: abs", sum_of(lambda x: np.abs(x) ** 3), TRIPLE, 3 * TRIPLE * np.abs(TRIPLE), ask=COMPLEX),
    Demand(
        "complex step: norm squared", fixed(lambda x: np.linalg.norm(x, axis=0) ** 2), TRIPLE, 2 * TRIPLE, ask=COMPLEX
    ),
    Demand("complex step: vdot", fixed(lambda x: np.vdot(x, x)), TRIPLE, 2 * TRIPLE, ask=COMPLEX),
    Demand("returns the same buffer each call", reuses_buffer, PAIR, 2 * PAIR),
    Demand("changes its argument in place", fixed(overwrites), np.asarray([2.3]), [4.6]),
    Demand("integer x", sum_of(lambda x: x * 1.0 * x), np.asarray([1, 2]), [2.0, 4.0]),
    Demand(
        "lb == ub for one parameter",
        sum_of(lambda x: x**3),
        TRIPLE,
        [CUBES[0], 0.0, CUBES[2]],
        ask=bounded([-5, -1.3, -5], [5, -1.3, 5]),
    ),
    Demand(
        "x outside its bound by one rounding",
        sum_of(lambda x: x**2),
        np.asarray([0.1, 2.0]),
        [0.2, 4.0],
        ask=Ask(bounds=OUT),
    ),
    Demand(
        "bounds 1e-10 wide",
        inside(lambda x: np.sum(np.abs(x) ** 3, axis=0), *NARROW),
        TRIPLE,
        3 * TRIPLE * np.abs(TRIPLE),
        1e-4,
        Ask(bounds=NARROW),
    ),
    Demand(
        "x on a bound",
        inside(lambda x: np.sum(np.exp(np.real(x)), axis=0), TRIPLE, np.inf),
        TRIPLE,
        np.exp(TRIPLE),
        1e-6,
        bounded(TRIPLE, [np.inf] * 3),
    ),
    Demand("raises on one side", raises_beyond(2.0), TRIPLE, CUBES),
    Demand(
        "one output NaN among three",
        fixed(lambda x: np.stack([x[0] ** 2, x[1] * np.nan, np.sin(x[2])])),
        TRIPLE,
        np.asarray([[1.4, 0, 0], [NONE] * 3, [0, 0, math.cos(2.0)]]),
        1e-10,
        Ask("jacobian"),
    ),
    Demand(
        "sum of sin(s x), s from 1e-12 to 1e12",
        fixed(lambda x: np.sum((np.sin(x.T * SCALES)).T, axis=0)),
        1.3 / SCALES,
        SCALES * math.cos(1.3),
        1e-8,
    ),
    Demand("gradient of Rosenbrock 10", fixed(rosenbrock), TEN, rosenbrock_gradient(TEN), 1e-10),
    Demand("Hessian of Rosenbrock 10", fixed(rosenbrock), TEN, rosenbrock_hessian(TEN), 1e-6, Ask("hessian")),
]


def verdict(tool: Tool, demand: Demand) -> str:
    """What the tool makes of it, and every word that comes with it."""
    fun = Counted(demand.make())
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="warn"):
        warnings.simplefilter("always")
        try:
            answer = tool(fun, np.array(demand.x), demand.ask)
        except NotOffered:
            return "-"
        except Exception:  # noqa: BLE001 - any exception is an answer that is not silent
            return "raised" if fun.points else "flagged"  # refused before f was asked
    return _of(answer, demand, bool(caught))


def _of(answer: Answer, demand: Demand, told: bool) -> str:
    truth = np.asarray(demand.truth, dtype=float)
    value = np.broadcast_to(
        np.reshape(answer.value, truth.shape) if answer.value.size == truth.size else np.nan, truth.shape
    )
    off = np.abs(value - truth)
    largest = np.max(np.nan_to_num(np.abs(truth)), initial=0.0) or 1.0
    right = off <= demand.tolerance * np.where(truth == 0, largest, np.abs(truth))
    if np.all(right):
        return "right"
    said = np.isnan(value) | told | answer.flagged
    if answer.bar is not None:
        bar = np.broadcast_to(
            np.reshape(answer.bar, truth.shape) if answer.bar.size == truth.size else 0.0, truth.shape
        )
        said = said | (10 * bar >= off)
    nothing_there = np.isnan(truth) & np.isnan(value)
    if np.all(right | nothing_there):
        return "right"
    return "flagged" if np.all(right | said) else "WRONG"


def verdicts(demands: list[Demand] = DEMANDS, tools: dict[str, Tool] = TOOLS) -> dict[str, dict[str, str]]:
    return {demand.name: {name: verdict(tool, demand) for name, tool in tools.items()} for demand in demands}


def rows() -> list[Row]:
    """The table, and what it says of us."""
    tools = present()
    print(f"\n{'demands':{NAME_WIDTH}}" + "".join(f"{name:>21}" for name in tools))
    found = verdicts(tools=tools)
    for name, row in found.items():
        print(f"{name:{NAME_WIDTH}}" + "".join(f"{cell:>21}" for cell in row.values()), flush=True)
    for word in ("right", "flagged", "raised", "WRONG"):
        counts = [sum(row[tool] == word for row in found.values()) for tool in tools]
        print(f"{word:{NAME_WIDTH}}" + "".join(f"{count:>21}" for count in counts))
    mine = [row["arraydiff"] for row in found.values()]
    kinks = sum(np.all(np.isnan(demand.truth)) for demand in DEMANDS)
    return [
        Row("demands: neither right nor flagged", 0, 0, sum(word not in {"right", "flagged"} for word in mine)),
        Row("demands: not right, kinks apart", len(mine), 0, sum(word != "right" for word in mine) - int(kinks)),
        Row("batched calls of a vectorized f, most of n = 1 to 1000", 6, 4, batched_calls()),
    ]


def batched_calls() -> int:
    """Of the ladder, with f taking all points at once: smooth, oscillating and of mixed scales."""
    functions = (
        lambda x: np.sum(np.exp(-x * x), axis=0),
        lambda x: np.sum(np.sin(7 * x), axis=0) + 1e3,
        lambda x: np.prod(1 + x * x / 1e3, axis=0),
    )
    most = 0
    for fun in functions:
        for n in (1, 7, 40, 200, 1000):
            x = np.random.default_rng(n).uniform(0.5, 2, n) * 10.0 ** (np.arange(n) % 5 - 3)
            for method in ("richardson", "adaptive"):
                result = ad.grad(fun, method=method, vectorized=True, unreliable="ignore", chunk_size=10 * n).result(x)
                most = max(most, result.function_calls)
    return most


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args()
    print(table(rows()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
