"""One line of a closing table: what was wanted, and what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

WIDTH = 86


@dataclass(frozen=True)
class Row:
    """`must` and `ambitious` are limits: measured is to be at most that, or at least that where `at_least`."""

    what: str
    must: float
    ambitious: float
    measured: float
    at_least: bool = False

    def holds(self, limit: float) -> bool:
        return self.measured >= limit if self.at_least else self.measured <= limit

    @property
    def verdict(self) -> str:
        return "ambitious" if self.holds(self.ambitious) else "must" if self.holds(self.must) else "MISSED"

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        limits = f"{sign} {self.must:<8.3g}{sign} {self.ambitious:<8.3g}"
        return f"{self.what:{WIDTH}}{limits}{self.measured:>10.3g}  {self.verdict}"


def table(rows: Iterable[Row]) -> str:
    """All rows under one heading."""
    heading = f"\n{'':{WIDTH}}{'must':11}{'ambitious':11}{'measured':>10}"
    return "\n".join([heading, *map(str, rows)])
