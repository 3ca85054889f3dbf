"""What a user is told of a derivative: why entries are not vouched for, where f failed, and what it cost."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from arraydiff.arguments import Layout
from arraydiff.binding import Bound
from arraydiff.engine import Derivative
from arraydiff.outputs import Failure
from arraydiff.record import Record
from arraydiff.result import Status

MOST_FAILURES = 3
"""Exceptions of f that are told of."""

PACKAGE = str(Path(__file__).parent)


def users_level() -> int:
    """The stacklevel of the first frame outside the package: the user's line."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    return level


REASONS = {
    "bar": "some error bars are wider than error_tolerance (1e-3 where not given) allows: give scale= or noise=, or make f more "
    "exact.",
}


def doubted(derivative: Derivative) -> list[str]:
    """Why entries are not vouched for: constant texts, so that Python's warning filters fold them."""
    return reasons_of(derivative.doubts, derivative.prepared.notes)


def reasons_of(doubts: Iterable[str], notes: Iterable[str], entries: str = "entries") -> list[str]:
    """The same by the names of flags and "bar", and by what is to be said of x."""
    reasons = [REASONS.get(name) or f"some {entries} are {name}: {Status[name].remedy}." for name in doubts]
    return reasons + [f"{note}." for note in notes]


def said(bound: Bound, derivative: Derivative) -> list[str]:
    """What a user should hear, with counts and places."""
    texts = list(derivative.prepared.notes)
    texts += counts_and_places(bound.layout, derivative.doubts, derivative.evaluator.failures)
    if derivative.evaluator.exhausted:
        texts.append("max_evaluations is spent; raise it for the entries that are UNRESOLVED")
    return texts


def counts_and_places(
    layout: Layout, doubts: Mapping[str, int], failures: Sequence[Failure], of_what: str = ""
) -> list[str]:
    """How many entries are doubtful, and where f raised."""
    texts = []
    for name, count in doubts.items():
        what = "with an error bar that is too wide" if name == "bar" else f"flagged {name}"
        texts.append(f"{count} {'entry' if count == 1 else 'entries'}{of_what} {what}")
    for failure in failures[:MOST_FAILURES]:
        near = f" near x{layout.path(failure.parameter)}" if failure.parameter is not None else ""
        text = str(failure.error).splitlines()[0] if str(failure.error) else ""
        texts.append(f"f raised {type(failure.error).__name__}{near}: {text}; set bounds, or scale x there")
    return texts


def add_to(total: Record, derivative: Derivative) -> None:
    """Count a derivative in an open record."""
    backend, evaluator = derivative.problem.backend, derivative.evaluator
    prepared = derivative.prepared
    total.add(evaluator, derivative.time, prepared.method.value, filter(None, [prepared.reason]))
    if backend.deferred:
        return
    with backend.on_device(), backend.quietly():
        total.doubt(sum(derivative.doubts.values()), _worst_bar(derivative))


def _worst_bar(derivative: Derivative) -> float:
    """The largest error bar over the largest value, 0 where there is none."""
    return max(derivative.prepared.unseen_bar, _worst_of(derivative))


def _worst_of(derivative: Derivative) -> float:
    xp, dense = derivative.problem.xp, derivative.dense
    if dense.watch is not None:
        return derivative.problem.backend.number(dense.watch.worst_bar())
    if dense.error is None or not (dense.columns.shape[0] and dense.columns.shape[1]):
        return 0.0
    size = xp.max(xp.where(xp.isfinite(dense.columns), xp.abs(dense.columns), xp.zeros_like(dense.columns)))
    bar = xp.max(xp.where(xp.isfinite(dense.error), dense.error, xp.zeros_like(dense.error)))
    return derivative.problem.backend.number(bar / xp.where(size > 0, size, xp.full_like(size, float("inf"))))
