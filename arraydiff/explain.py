"""Plain sentences about a derivative: what was done, how right it is, what to do about the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from arraydiff._typing import Array
from arraydiff.arguments import Layout
from arraydiff.backends import Backend
from arraydiff.config import DifferentiationMethod
from arraydiff.result import SMALL_SHARE, UNVOUCHED, DerivativeResult, Status, named

if TYPE_CHECKING:
    from arraydiff.vouching import Judged

SHOWN = 5
"""Doubtful entries that are listed."""

CLAIMS = {
    DifferentiationMethod.EXACT: "meant to hold in 95 % of entries",
    DifferentiationMethod.COMPLEX_STEP: "meant to hold in 95 % of entries",
    DifferentiationMethod.RICHARDSON: "meant to hold in 95 % of entries",
}


class Names(Protocol):
    """What rows of a derivative are called."""

    def path(self, index: int) -> str:
        """Row `index`, as a user writes it after f."""


@dataclass(frozen=True)
class Story:
    """What explain() tells, kept flat until it is asked for."""

    backend: Backend
    inputs: Layout
    outputs: Names
    columns: Array  # (m, n)
    error: Array
    status: Array
    judged: Judged  # which entries are vouched for
    scale: Array  # (n,) of the parameters
    batching: str = ""  # how f was called, where vectorized="auto" chose
    gradient: Story | None = None  # that of the gradient, where it came of the same points

    def told(self, result: DerivativeResult) -> str:
        """The sentences."""
        lines = opened(_name(result), result, self.batching)
        with self.backend.quietly():
            lines += (
                self._doubts(result) if self.columns.shape[0] * self.columns.shape[1] else ["There are no entries."]
            )
            if self.gradient is not None and self.gradient.columns.shape[1]:
                lines += ["Of the gradient:", *self.gradient._doubts(result)]
        return "\n".join(lines)

    def _doubts(self, result: DerivativeResult) -> list[str]:
        xp, size = self.backend.xp, int(self.columns.shape[0] * self.columns.shape[1])
        doubtful = xp.reshape(self.judged.mask(), (-1,))
        (count,) = self.backend.counts(doubtful)
        claim = "right in order of magnitude"
        if not isinstance(result.method_used, tuple):
            claim = CLAIMS.get(result.method_used, claim)
        largest = self._largest_bar()
        bar = f"the largest relative error bar is {largest:.1e} ({claim})"
        if count == 0:
            return [f"All {size} entries are vouched for; {bar}."]
        rank = xp.argsort(xp.astype(xp.logical_not(doubtful), xp.int8), stable=True)
        worst = self.backend.read(rank[: min(count, SHOWN)])
        head = f"{count} of {size} entries are not vouched for; among the others {bar}."
        tail = [] if count <= SHOWN else [f"... and {count - SHOWN} more."]
        return [head, *(self._entry(i) for i in worst), *tail]

    def _largest_bar(self) -> float:
        xp = self.backend.xp
        effect = xp.where(xp.isfinite(self.columns), xp.abs(self.columns), xp.zeros_like(self.columns)) * self.scale
        size = xp.maximum(effect, SMALL_SHARE * xp.max(effect, axis=1, keepdims=True)) / self.scale
        counted = xp.logical_and(xp.logical_not(self.judged.mask()), size > 0)
        shares = xp.where(counted, self.error / xp.where(size > 0, size, xp.ones_like(size)), xp.zeros_like(size))
        return float(xp.max(shares))

    def _entry(self, i: int) -> str:
        row, column = divmod(i, int(self.columns.shape[1]))
        (flags,) = self.backend.read(self.status[row, column : column + 1])
        status = Status(flags)
        value, error = float(self.columns[row, column]), float(self.error[row, column])
        where = f"d f{self.outputs.path(row)} / d x{self.inputs.path(column)}"
        if status & Status.KINK:
            left, right = value - error, value + error
            return (
                f"  {where}: KINK; the one-sided derivatives are about {left:.3g} and {right:.3g}, in one order or the other, "
                f"and {value:.6g} is their mean: take the side that you mean (method='forward' or 'backward'), or move x"
            )
        if status & UNVOUCHED:
            names = ", ".join(flag.name or "" for flag in status)
            return f"  {where} = {value:.6g} ± {error:.1g}: {names}; {status.remedy}"
        return (
            f"  {where} = {value:.6g} ± {error:.1g}: the error bar is wide; give scale= or noise=, or make f more exact"
        )


def opened(what: str, result: DerivativeResult, batching: str) -> list[str]:
    """What it cost, why not by another method, how f was called, and what a user should hear."""
    lines = [
        f"{what} by {named(result.method_used)}: {result.function_points} points in {result.function_calls} "
        f"calls of f, {result.rounds} rounds, {result.computation_time:.3g} s."
    ]
    if result.reason:
        lines.append(f"Not by a more accurate method: {result.reason}.")
    if batching:
        lines.append(f"vectorized='auto': {batching}.")
    return lines + [f"{text}." for text in result.warnings]


@dataclass(frozen=True)
class Stories:
    """What explain() tells of a batch: of the points with warnings, or of the first where there are none."""

    results: tuple[DerivativeResult, ...]

    def told(self, result: DerivativeResult) -> str:
        """The sentences."""
        doubtful = [i for i, one in enumerate(self.results) if one.warnings]
        lines = [
            f"{_name(result)} at {len(self.results)} points in lockstep by {named(result.method_used)}: "
            f"{result.function_points} points in {result.function_calls} calls of f, {result.rounds} rounds, "
            f"{result.computation_time:.3g} s; {len(doubtful)} of them with warnings."
        ]
        shown = doubtful[:SHOWN] or [0]
        lines += [f"Point {i}: {self.results[i].explain()}" for i in shown]
        return "\n".join(lines + [f"... and {len(doubtful) - SHOWN} more points."] * (len(doubtful) > SHOWN))


def _name(result: DerivativeResult) -> str:
    return type(result).__name__.removesuffix("Result")
