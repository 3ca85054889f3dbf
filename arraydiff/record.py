"""Totals over everything that runs inside a block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol


class Cost(Protocol):
    """Whatever counts."""

    calls: int
    points: int
    rounds: int


@dataclass
class Record:
    """What the derivatives inside a block cost, and how right the worst of them was."""

    derivatives: int = 0
    calls: int = 0
    points: int = 0
    rounds: int = 0
    time: float = 0.0
    worst_bar: float = 0.0
    unvouched: int = 0
    methods: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, cost: Cost, time: float, method: str, reasons: Iterable[str]) -> None:
        """One derivative more."""
        self.derivatives += 1
        self.calls, self.points, self.rounds = (
            self.calls + cost.calls,
            self.points + cost.points,
            self.rounds + cost.rounds,
        )
        self.time += time
        self.methods[method] += 1
        self.reasons.update(iter(reasons))  # a mapping would be taken for counts

    def doubt(self, entries: int, bar: float) -> None:
        """So many of its entries are not vouched for, and this is its largest relative bar."""
        self.unvouched, self.worst_bar = self.unvouched + entries, max(self.worst_bar, bar)

    def __str__(self) -> str:
        methods = ", ".join(f"{name} {count}" for name, count in self.methods.most_common())
        return (
            f"{self.derivatives} derivatives ({methods}): {self.points} points in {self.calls} calls and {self.rounds} rounds, "
            f"{self.time:.3g} s, worst error bar {self.worst_bar:.1e} relative, {self.unvouched} entries not vouched for"
        )


_active: ContextVar[tuple[Record, ...]] = ContextVar("arraydiff_records", default=())


def active_records() -> tuple[Record, ...]:
    """The records that are open here."""
    return _active.get()


@contextmanager
def record() -> Iterator[Record]:
    """Total calls, points, rounds, time, worst error bar and reasons of all derivatives taken inside.

    Yields
    ------
    Record
        Its counts grow as derivatives are taken. ``worst_bar`` is the largest error bar over the largest value of the same
        derivative; a bare call of code that is followed makes none, and counts with what rounding leaves at least, 2 eps.
        Derivatives inside derivatives count once, with the outer one.

    Notes
    -----
    Threads started inside are not followed.

    Examples
    --------
    >>> import arraydiff
    >>> with arraydiff.record() as total:
    ...     _ = arraydiff.grad(lambda x: x * x, method="central")(3.0)
    >>> total.derivatives, total.points
    (1, 7)
    """
    mine = Record()
    token = _active.set((*_active.get(), mine))
    try:
        yield mine
    finally:
        _active.reset(token)


@contextmanager
def unrecorded() -> Iterator[None]:
    """Derivatives inside belong to an outer one, which counts them."""
    token = _active.set(())
    try:
        yield
    finally:
        _active.reset(token)
