"""Exact derivatives by tracing, beside autograd, torch and JAX in one run: `python -m benchmarks.exact [--quick] [--json FILE]`.

Times are those of value and gradient over that of one f in plain NumPy; the calls take turns of 2 ms or one call, and the
shortest of each counts. autograd, torch and JAX get f written for their own arrays; JAX's is compiled, and that is not timed.
"engine" is tracing alone; the two public calls are `method="exact"` with and without its guards.

Memory is the most that is held beyond x, in arrays of the size of x, in a process of its own: what NumPy allocates, by
tracemalloc; of torch and JAX the peak of the resident memory (VmHWM, Linux only), at an n where one array is 64 MB.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime as dt
import functools
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import arraydiff as ad
from arraydiff.environment import describe
from arraydiff.exact import hvp, pushforward, traced
from benchmarks import numpy_functions, unsafe_exact
from benchmarks.exact_functions import TOOLS as FOLLOWERS
from benchmarks.exact_tools import (
    COMPLEX,
    ENGINE,
    GUARDED,
    JAX,
    LOOPS,
    TOOLS,
    TORCH,
    UNGUARDED,
    Chi2,
    Function,
    Tool,
    composed,
    loaded_at_import,
    looped,
    peak_arrays,
    rosenbrock,
    rosenbrock_of_numpy,
)
from benchmarks.peers import importable, in_turn
from benchmarks.rows import Row, table
from tests.exact_functions import FUNCTIONS, POINT

Figures = dict[str, dict[str, float]]
ROSENBROCK: dict[int, tuple[tuple[float, float] | None, tuple[float, float]]] = {  # n: limits without guards, and with
    10: ((12, 8), (60, 60)),
    1000: ((10, 7), (40, 40)),
    10_000: (None, (20, 10)),
    100_000: ((8, 4), (12, 12)),
    1_000_000: ((5, 3), (8, 8)),
}
XPCS = (7, 53)
DIFFERENCES_UP_TO = 100  # complex steps of more parameters only say again that they take n
BUDGET, QUICK_BUDGET = 1.0, 0.25  # seconds a way
MEMORY_N, RESIDENT_N = 1_000_000, 8_000_000
OPERATIONS = 200
CROSSINGS = (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 50)
TANGENT = np.array([0.3, -0.7, 1.1, 0.2, -0.5, 0.9])


def measured(fun: Function, x: np.ndarray, tools: dict[str, Tool], budget: float) -> dict[str, float]:
    """Seconds of f, and of every tool over them; a tool that fails is named."""
    calls: dict[str, Callable[[], Any]] = {"f": functools.partial(fun, np, x)}
    truth = None
    for name, tool in tools.items():
        try:
            call = tool(fun, x)
            gradient = np.asarray(call()[1])
        except Exception as error:  # noqa: BLE001 - a tool that fails is a finding, not the end of the run
            print(f"  {name}: {type(error).__name__}: {str(error).splitlines()[0][:90]}", flush=True)
            continue
        truth = gradient if truth is None else truth
        if (off := np.max(np.abs(gradient - truth)) / np.max(np.abs(truth))) > 1e-10:
            print(f"  {name}: gradient off by {off:.0e} of its largest entry", flush=True)
        calls[name] = call
    times = in_turn(calls, budget)
    return {name: seconds if name == "f" else seconds / times["f"] for name, seconds in times.items()}


def timed(quick: bool, tools: dict[str, Tool]) -> Figures:
    budget = QUICK_BUDGET if quick else BUDGET
    problems: dict[str, tuple[Function, np.ndarray]] = {
        f"Rosenbrock, n = {n}": (rosenbrock, np.linspace(0.3, 1.7, n)) for n in ROSENBROCK
    }
    problems |= {f"exp sin tanh log1p, n = {n}": (composed, np.linspace(0.3, 1.2, n)) for n in (10, 1000, 1_000_000)}
    problems[f"Python loop, {LOOPS} entries"] = (looped, np.linspace(0.3, 1.7, LOOPS))
    for parameters in XPCS:
        problem = Chi2(parameters)
        problems[f"XPCS chi2, {parameters} parameters"] = (problem, problem.x)
    found = {}
    print(f"\n{'value and gradient over one f':30}{'f, µs':>10}" + "".join(f"{name:>18}" for name in tools))
    for title, (fun, x) in problems.items():
        few = {name: tool for name, tool in tools.items() if name != COMPLEX or x.size <= DIFFERENCES_UP_TO}
        found[title] = measured(fun, x, few, budget)
        cells = (f"{found[title][name]:18.3g}" if name in found[title] else f"{'-':>18}" for name in tools)
        print(f"{title:30}{found[title]['f'] * 1e6:10.3g}" + "".join(cells), flush=True)
    return found


def recording(budget: float) -> dict[str, float]:
    """Microseconds that tracing adds to one operation on a small array, from functions of so many and of twice so many."""
    x, found = np.full(3, 0.7), {}
    operations: dict[str, Callable[[Any], Any]] = {
        "r * r": lambda r: r * r,
        "r + 1": lambda r: r + 1.0,
        "np.sin(r)": np.sin,
        "np.multiply(r, r)": lambda r: np.multiply(r, r),
        "r[0:]": lambda r: r[0:],
        "np.sum(r)": lambda r: np.sum(r, keepdims=True),
    }
    for name, operation in operations.items():

        def chain(r: Any, count: int, operation: Callable[[Any], Any] = operation) -> Any:
            for _ in range(count):
                r = operation(r)
            return r

        calls: dict[str, Callable[[], Any]] = {}
        for count in (OPERATIONS, 2 * OPERATIONS):
            fun = functools.partial(chain, count=count)
            calls |= {f"plain {count}": functools.partial(fun, x), f"traced {count}": functools.partial(traced, fun, x)}
        times = in_turn(calls, budget)
        one = {way: times[f"{way} {2 * OPERATIONS}"] - times[f"{way} {OPERATIONS}"] for way in ("plain", "traced")}
        found[name] = (one["traced"] - one["plain"]) / OPERATIONS * 1e6
        print(f"recording {name:20}{found[name]:8.2f} µs more than NumPy's own {one['plain'] / OPERATIONS * 1e6:.2f}")
    return found


def memory(tools: Iterable[str]) -> dict[str, float]:
    """Arrays of the size of x, Rosenbrock."""
    found = {}
    for name in ("f", *tools):
        of_process = name in (TORCH, JAX)
        if name == COMPLEX or (of_process and not Path("/proc/self/clear_refs").exists()):
            continue
        try:
            found[name] = peak_arrays(name, RESIDENT_N if of_process else MEMORY_N, of_process)
        except Exception as error:  # noqa: BLE001 - the run goes on
            print(f"  memory of {name}: {type(error).__name__}: {str(error).splitlines()[0][:60]}")
            continue
        print(f"peak memory, {name:20}{found[name]:6.2f} arrays{' (resident)' if of_process else ''}", flush=True)
    return found


def crossing(budget: float, ways: dict[str, Callable[[np.ndarray], Any]]) -> dict[str, float]:
    """From which n each way is faster than `method="complex_step"`, for it and all that were tried above."""
    complex_step = ad.grad(rosenbrock_of_numpy, method="complex_step", unreliable="ignore")
    faster: dict[str, list[bool]] = {name: [] for name in ways}
    for n in CROSSINGS:
        x = np.linspace(0.3, 1.7, n)
        calls = {name: functools.partial(way, x) for name, way in ways.items()}
        times = in_turn(calls | {COMPLEX: functools.partial(complex_step, x)}, budget / 4)
        for name in ways:
            faster[name].append(times[name] < times[COMPLEX])
    found = {}
    for name, won in faster.items():
        lost = [i for i, one in enumerate(won) if not one]
        first = lost[-1] + 1 if lost else 0
        found[name] = float(CROSSINGS[first]) if first < len(CROSSINGS) else float("inf")
        print(f"faster than method='complex_step' from n = {found[name]:g}: {name}")
    return found


def off(got: Any, wanted: Any) -> float:
    """Largest difference, of the largest entry."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    return float(np.max(np.abs(got - wanted)) / max(np.max(np.abs(wanted)), 1e-2))


def beside_jax(quick: bool) -> dict[str, Any]:
    """The worst difference in value, gradient, tangent and Hessian-vector product over functions that JAX spells alike."""
    try:
        import jax
    except ImportError as missing:
        print(f"no agreement with JAX: {missing}")
        return {}
    jax.config.update("jax_enable_x64", True)
    point, along = (jax.numpy.asarray(part) for part in (POINT, TANGENT))
    names, worst = list(FUNCTIONS)[:: 4 if quick else 1], collections.Counter()
    for name in names:

        def here(x: Any, fun: Function = FUNCTIONS[name]) -> Any:
            return np.ravel(fun(np, x))

        def there(x: Any, fun: Function = FUNCTIONS[name]) -> Any:
            return jax.numpy.ravel(fun(jax.numpy, x))

        value, tangent = jax.jvp(there, (point,), (along,))
        w = np.cos(np.arange(value.size))
        gradient, second = jax.jvp(jax.grad(lambda x, there=there, w=w: there(x) @ w), (point,), (along,))
        followed = traced(here, POINT)
        column = TANGENT[:, None]
        differences = {
            "value": off(followed.value, value),
            "gradient": off(followed.pullback(w), gradient),
            "tangent": off(pushforward(here, POINT, column)[1][:, 0], tangent),
            "Hessian-vector product": off(hvp(lambda x, here=here, w=w: here(x) @ w, POINT, column)[1][:, 0], second),
        }
        for what, difference in differences.items():
            worst[what] = max(worst[what], difference)
    told = ", ".join(f"{what} {difference:.1e}" for what, difference in worst.items())
    print(f"{len(names)} of {len(FUNCTIONS)} functions beside JAX, worst difference of the largest entry: {told}")
    return {"functions": len(names), "worst": dict(worst)}


def unsafe() -> dict[str, int]:
    found = dict(collections.Counter(unsafe_exact.verdicts().values()))
    print(f"{sum(found.values())} unsafe functions: " + ", ".join(f"{told} {count}" for told, count in found.items()))
    return found


def listed(quick: bool) -> dict[str, Any]:
    """What is followed of the functions that other packages call; JAX takes most of a minute."""
    print()
    found = numpy_functions.measured([name for name in FOLLOWERS if not (quick and name == "jax")])
    numpy_functions.report(found)
    return found


def time_rows(found: Figures) -> list[Row]:
    lines = []
    for n, (without, guarded) in ROSENBROCK.items():
        got = found[f"Rosenbrock, n = {n}"]
        for name, limits in ((ENGINE, without), (UNGUARDED, without), (GUARDED, guarded)):
            if name in got and limits is not None:
                lines.append(Row(f"Rosenbrock, n = {n}: {name}: time / f", *limits, got[name]))
    for name in (ENGINE, UNGUARDED):
        if name in (got := found[f"Python loop, {LOOPS} entries"]):
            lines.append(Row(f"Python loop over {LOOPS} entries: {name}: time / f", 60, 40, got[name]))
    for parameters in XPCS:
        got = found[f"XPCS chi2, {parameters} parameters"]
        for name in (ENGINE, UNGUARDED, GUARDED):
            if name in got:
                lines.append(Row(f"XPCS chi2, {parameters} parameters: {name}: time / f", 8, 8, got[name]))
    return lines


def rows(found: dict[str, Any]) -> list[Row]:
    """The limits, each beside what this run measured."""
    lines = time_rows(found["time over f"])
    lines.append(Row("recording one operation, the slowest here: µs", 5, 2, max(found["recording, µs"].values())))
    for name in (ENGINE, UNGUARDED, GUARDED):
        if name in found["peak memory, arrays"]:
            lines.append(Row(f"peak memory, Rosenbrock: {name}: arrays", 8, 5, found["peak memory, arrays"][name]))
    if "default" in found["faster from n"]:
        lines.append(Row("default call against complex_step: faster from n", 5, 5, found["faster from n"]["default"]))
    if found["JAX"]:
        lines.append(Row("worst difference from JAX", 1e-12, 1e-14, max(found["JAX"]["worst"].values())))
    lines += numpy_functions.rows(found["NumPy's functions"])
    lines.append(Row("modules that import arraydiff loads for it", 0, 0, found["loaded at import"]))
    lines.append(Row("unsafe functions: wrong in silence", 0, 0, found["unsafe"].get("WRONG IN SILENCE", 0)))
    total = sum(found["unsafe"].values())
    lines.append(Row("unsafe functions: right, share", 0, 0.5, found["unsafe"]["right"] / total, at_least=True))
    return lines


def others() -> list[str]:
    """What `describe` leaves out: autograd, how many threads torch takes (JAX takes all), and what else runs here."""
    lines = [f"{'load':18}{os.getloadavg()[0]:.1f}"] if hasattr(os, "getloadavg") else []
    with contextlib.suppress(ImportError):
        lines.append(f"{'autograd':18}{importlib.metadata.version('autograd')}")
    with contextlib.suppress(ImportError):
        lines.append(f"{'threads of torch':18}{importlib.import_module('torch').get_num_threads()}")
    return lines


def run(quick: bool) -> dict[str, Any]:
    budget = QUICK_BUDGET if quick else BUDGET
    tools = importable(TOOLS)
    ways: dict[str, Callable[[np.ndarray], Any]] = {
        ENGINE: lambda x: traced(rosenbrock_of_numpy, x).pullback(np.float64(1.0))
    }
    ways["default"] = ad.grad(rosenbrock_of_numpy, unreliable="ignore")
    return {
        "time over f": timed(quick, tools),
        "recording, µs": recording(budget),
        "peak memory, arrays": memory(tools),
        "faster from n": crossing(budget, ways),
        "JAX": beside_jax(quick),
        "NumPy's functions": listed(quick),
        "loaded at import": loaded_at_import(),
        "unsafe": unsafe(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Exact derivatives by tracing, beside autograd, torch and JAX in one run."
    )
    parser.add_argument(
        "--quick", action="store_true", help="a quarter of the time a way, every fourth function beside JAX"
    )
    parser.add_argument("--json", type=Path, help="write the record here")
    options = parser.parse_args()
    print("\n".join([*describe(), *others()]))
    found = run(options.quick)
    lines = rows(found)
    print(table(lines))
    if options.json:
        record = {
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "command": " ".join(["python -m benchmarks.exact", *sys.argv[1:]]),
            "machine": [*describe(), *others()],
            "rows": [asdict(line) | {"verdict": line.verdict} for line in lines],
        }
        options.json.write_text(json.dumps(record | found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
