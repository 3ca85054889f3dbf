"""Hessians behind one call: ``tool(fun, x) -> Answer``; and how right an answer is."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.demand_tools import Answer, Ask, real, scipy_differentiate
from benchmarks.demand_tools import numdifftools as any_numdifftools
from benchmarks.peers import Counted

Function = Callable[[np.ndarray], Any]
Tool = Callable[[Function, np.ndarray], Answer]

ROUNDING = 4 * float(np.finfo(float).eps)  # errors below this, relative to the largest entry, say nothing of a bar


def ours(**options: Any) -> Tool:
    def run(fun: Function, x: np.ndarray) -> Answer:
        import arraydiff as ad

        result = ad.hessian(fun, unreliable="ignore", **options).result(x)
        return Answer(real(result.hessian), real(result.error_estimate), points=result.function_points)

    return run


def numdifftools(fun: Function, x: np.ndarray) -> Answer:
    return any_numdifftools(fun, x, Ask("hessian"))


def differentiate(fun: Function, x: np.ndarray) -> Answer:
    return scipy_differentiate(fun, x, Ask("hessian"))


def statsmodels(kind: str) -> Tool:
    def run(fun: Function, x: np.ndarray) -> Answer:
        from statsmodels.tools import numdiff

        counted = Counted(fun)
        return Answer(real(getattr(numdiff, kind)(x, counted)), points=counted.points)

    return run


def jacobi(fun: Function, x: np.ndarray) -> Answer:
    from jacobi import jacobi

    counted = Counted(fun)
    value, bar = jacobi(lambda at: jacobi(counted, at)[0], x)
    return Answer(real(value), real(bar), points=counted.points)


DEFAULT, OPAQUE = "arraydiff", "arraydiff opaque"
TOOLS: dict[str, tuple[str, Tool]] = {
    DEFAULT: ("arraydiff", ours()),
    OPAQUE: ("arraydiff", ours(opaque=True)),
    "numdifftools": ("numdifftools", numdifftools),
    "statsmodels 3": ("statsmodels", statsmodels("approx_hess3")),
    "statsmodels cs": ("statsmodels", statsmodels("approx_hess_cs")),
    "scipy.diff.": ("scipy.differentiate", differentiate),
    "jacobi twice": ("jacobi", jacobi),
}


def present(names: Sequence[str] | None = None) -> dict[str, Tool]:
    """The tools that can be imported here; the others are named on standard output."""
    found = {}
    for name, (module, tool) in TOOLS.items():
        if names is not None and name not in names:
            continue
        try:
            importlib.import_module(module)
        except ImportError as missing:
            print(f"left out: {name} ({missing})")
        else:
            found[name] = tool
    return found


def asked(tool: Tool, fun: Function, x: np.ndarray) -> Answer:
    """Whatever it raises is an answer of NaN; its warnings are not judged here."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return tool(fun, x.copy())
        except Exception:  # noqa: BLE001 - the run goes on, whatever a tool trips over
            return Answer(np.full((x.size, x.size), np.nan))


@dataclass(frozen=True)
class Judged:
    """An answer beside the truth."""

    answer: Answer
    truth: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """(n, n) absolute; infinite where there is no number."""
        value = self.answer.value
        return np.where(np.isfinite(value), np.abs(value - self.truth), np.inf)

    @property
    def of_max(self) -> float:
        """The largest, over the largest entry."""
        return float(np.max(self.errors) / np.max(np.abs(self.truth)))

    @property
    def scaled(self) -> float:
        """The largest, each over the diagonal entries of its row and column: what standard errors feel."""
        d = np.sqrt(np.abs(np.diag(self.truth)))
        size = np.where(np.outer(d, d) > 0, np.outer(d, d), np.max(np.abs(self.truth)))
        return float(np.max(self.errors / size))

    def bars(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Of entries on and above the diagonal that are numbers: errors less half a bit of the truth, and bars."""
        if self.answer.bar is None:
            return None
        upper = np.triu_indices(len(self.truth))
        errors, bars = self.errors[upper], np.abs(self.answer.bar[upper])
        errors = np.maximum(errors - np.finfo(float).eps / 2 * np.abs(self.truth[upper]), 0.0)
        finite = np.isfinite(errors)
        return errors[finite], bars[finite]


def held(judged: Sequence[Judged]) -> tuple[float, float]:
    """Share of entries whose error is within the bar, and the median of bar over error where there is an error."""
    pairs = [(one, found) for one in judged if (found := one.bars()) is not None]
    if not pairs:
        return np.nan, np.nan
    errors, bars = (np.concatenate([found[i] for _, found in pairs]) for i in range(2))
    size = np.concatenate([np.full(found[0].size, np.max(np.abs(one.truth))) for one, found in pairs])
    some = errors > ROUNDING * size
    return float(np.mean(errors <= bars)), float(np.median(bars[some] / errors[some])) if np.any(some) else np.nan
