"""The peers behind one call: ``peer(f, x) -> gradient``, missing ones left out by name."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

TURN = 2e-3  # seconds
Peer = TypeVar("Peer")
Gradient = Callable[[Callable[[np.ndarray], Any], np.ndarray], np.ndarray]


@dataclass
class Counted:
    """f with a count of the points at which it was evaluated."""

    fun: Callable[[np.ndarray], Any]
    points: int = field(default=0, init=False)

    def __call__(self, x: np.ndarray) -> Any:
        self.points += 1
        return self.fun(x)


@dataclass(frozen=True)
class Cost:
    """What one derivative took: points of f, and time in units of one plain f."""

    gradient: np.ndarray
    points: int
    time_over_f: float


def arraydiff(fun: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    import arraydiff as ad

    return ad.grad(fun)(x)


def approx_derivative(fun: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    from scipy.optimize._numdiff import approx_derivative

    return approx_derivative(fun, x, method="3-point")


def numdifftools(fun: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    import numdifftools

    return np.atleast_1d(numdifftools.Gradient(fun)(x))


def jacobi(fun: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    from jacobi import jacobi

    return jacobi(fun, x)[0]


def scipy_differentiate(fun: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    from scipy.differentiate import jacobian

    def columns(points: np.ndarray) -> np.ndarray:  # SciPy hands over (n, ...) and wants (...)
        flat = points.reshape(points.shape[0], -1)
        return np.asarray([fun(column) for column in flat.T.copy()]).reshape(points.shape[1:])

    return jacobian(columns, x).df


PEERS: dict[str, tuple[str, Gradient]] = {
    "arraydiff": ("arraydiff", arraydiff),
    "approx_derivative": ("scipy.optimize", approx_derivative),
    "numdifftools": ("numdifftools", numdifftools),
    "jacobi": ("jacobi", jacobi),
    "scipy.differentiate": ("scipy.differentiate", scipy_differentiate),
}


def importable(peers: Mapping[str, tuple[str, Peer]]) -> dict[str, Peer]:
    """Of peers by name, each with the module that it needs, those that are here; the others are named on standard output."""
    found = {}
    for name, (module, peer) in peers.items():
        try:
            importlib.import_module(module)
        except ImportError as missing:
            print(f"left out: {name} ({missing})")
        else:
            found[name] = peer
    return found


def present() -> dict[str, Gradient]:
    """The peers of gradients that are here."""
    return importable(PEERS)


def quiet(gradient: Gradient, fun: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    """Peers divide by zero and step out of domains; their values are judged here, not their warnings."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return np.asarray(gradient(fun, x), dtype=float)


def best_time(call: Callable[[], Any], budget: float = 0.3, least: int = 3) -> float:
    """The shortest of several timed calls: the one that was disturbed least."""
    times: list[float] = []
    while len(times) < least or (sum(times) < budget and len(times) < 2000):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times)


def in_turn(calls: Mapping[str, Callable[[], Any]], budget: float = 0.3, most: float = math.inf) -> dict[str, float]:
    """Shortest seconds of each call; the calls take turns, so that a disturbance meets all of them.

    What is short is repeated within its turn: after the others have been there its code is out of the caches, and a function of
    microseconds takes four times as long.
    """
    shortest, spent, times = dict.fromkeys(calls, math.inf), dict.fromkeys(calls, 0.0), dict.fromkeys(calls, 0)
    waiting = list(calls)
    while waiting:
        for name in waiting:
            until = spent[name] + TURN
            while spent[name] < until and times[name] < most:
                start = perf_counter()
                calls[name]()
                took = perf_counter() - start
                shortest[name], spent[name], times[name] = (
                    min(shortest[name], took),
                    spent[name] + took,
                    times[name] + 1,
                )
        waiting = [name for name in waiting if spent[name] <= budget and times[name] < most]
    return shortest


def cost(gradient: Gradient, fun: Callable[[np.ndarray], Any], x: np.ndarray, budget: float = 0.3) -> Cost:
    counted = Counted(fun)
    result = quiet(gradient, counted, x.copy())
    one = best_time(lambda: fun(x), budget / 3)
    least = 1 if counted.points * one > budget else 3
    whole = best_time(lambda: quiet(gradient, fun, x), budget, least)
    return Cost(result, counted.points, whole / one)


def relative_error(value: np.ndarray, truth: np.ndarray) -> float:
    """The largest relative error over the entries; a value that is not finite is infinitely wrong."""
    error = np.abs(value - truth) / np.where(truth == 0, np.max(np.abs(truth)), np.abs(truth))
    return float(np.max(np.where(np.isfinite(error), error, np.inf)))


def norm_error(value: np.ndarray, truth: np.ndarray) -> float:
    """The largest error over the largest entry of the true gradient."""
    error = np.abs(value - truth) / np.max(np.abs(truth))
    return float(np.max(np.where(np.isfinite(error), error, np.inf)))
