"""Differentiators of a function of one variable behind one call: ``tool(f, x) -> value, claimed error``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from arraydiff.testing import Case
from benchmarks.peers import Counted, importable

Function = Callable[[Any], Any]
NO_CLAIM = float("nan")


@dataclass
class CountedNumbers(Counted):
    """f with a count of the numbers at which it was evaluated, however they were batched."""

    def __call__(self, x: Any) -> Any:
        self.points += np.size(x)
        return self.fun(x)


@dataclass(frozen=True)
class Tool:
    """One row of the table; `claim` is NaN where the tool makes none."""

    name: str
    module: str
    run: Callable[[Function, float], tuple[Any, Any]]


@dataclass(frozen=True)
class Answer:
    """What a tool said about f'(x), and what it took."""

    name: str
    class_name: str
    x: float
    truth: float
    value: float
    claim: float
    points: int

    @property
    def error(self) -> float:
        """Absolute; infinite where the answer is not finite."""
        return abs(self.value - self.truth) if np.isfinite(self.value) else np.inf

    @property
    def relative_error(self) -> float:
        return self.error / abs(self.truth)


def _ours(**options: Any) -> Callable[[Function, float], tuple[Any, Any]]:
    def run(fun: Function, x: float) -> tuple[Any, Any]:
        import arraydiff as ad

        result = ad.grad(fun, unreliable="ignore", **options).result(x)
        return result.gradient, result.error_estimate

    return run


def _numdifftools(method: str) -> Callable[[Function, float], tuple[Any, Any]]:
    def run(fun: Function, x: float) -> tuple[Any, Any]:
        import numdifftools

        value, second = numdifftools.Derivative(fun, method=method, full_output=True)(x)[:2]
        return value, getattr(second, "error_estimate", second)  # releases differ in what comes second

    return run


def _jacobi(fun: Function, x: float) -> tuple[Any, Any]:
    from jacobi import jacobi

    return jacobi(fun, x)


def _scipy_differentiate(fun: Function, x: float) -> tuple[Any, Any]:
    from scipy.differentiate import derivative

    result = derivative(fun, x)
    return result.df, result.error


def _approx_derivative(method: str) -> Callable[[Function, float], tuple[Any, Any]]:
    def run(fun: Function, x: float) -> tuple[Any, Any]:
        from scipy.optimize._numdiff import approx_derivative

        return approx_derivative(fun, np.asarray([x]), method=method), NO_CLAIM

    return run


TOOLS = (
    Tool("arraydiff", "arraydiff", _ours()),
    Tool("arraydiff richardson", "arraydiff", _ours(method="richardson")),
    Tool("arraydiff <= 10 + f(x)", "arraydiff", _ours(method="richardson", max_evaluations=11)),
    Tool("arraydiff <= 7 + f(x)", "arraydiff", _ours(method="richardson", max_evaluations=8)),
    Tool("numdifftools central", "numdifftools", _numdifftools("central")),
    Tool("numdifftools complex", "numdifftools", _numdifftools("complex")),
    Tool("jacobi", "jacobi", _jacobi),
    Tool("scipy.differentiate", "scipy.differentiate", _scipy_differentiate),
    Tool("scipy 2-point", "scipy.optimize", _approx_derivative("2-point")),
    Tool("scipy 3-point", "scipy.optimize", _approx_derivative("3-point")),
)


def float32(tool: Tool) -> Tool:
    """The tool, given x in float32: f then computes in float32, too."""
    return replace(tool, run=lambda fun, x: tool.run(fun, np.float32(x)))


def present(names: list[str] | None) -> list[Tool]:
    """The tools whose names begin with one of `names`; those that cannot be imported here are named on standard output."""
    wanted = (tool for tool in TOOLS if not names or any(tool.name.startswith(name) for name in names))
    return list(importable({tool.name: (tool.module, tool) for tool in wanted}).values())


def asked(tool: Tool, case: Case, truths: np.ndarray) -> list[Answer]:
    """The tool at every point of a case; whatever it raises is an answer of NaN."""
    fun = case.function
    if not case.vectorized and tool.module != "arraydiff":  # peers may hand over arrays
        fun = np.vectorize(case.function)
    answers = []
    for x, truth in zip(map(float, case.points), truths, strict=True):
        counted = CountedNumbers(fun)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                value, claim = (float(np.real(np.asarray(part).reshape(-1)[0])) for part in tool.run(counted, x))
            except Exception:  # noqa: BLE001 - the run goes on, whatever a tool trips over
                value, claim = np.nan, NO_CLAIM
        answers.append(Answer(case.name, case.class_name, x, float(truth), value, claim, counted.points))
    return answers
