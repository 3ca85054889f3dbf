"""How many points go to a worker in one piece: the arithmetic alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

PIECES_A_WORKER = 8
"""Where nothing is known: enough for a slow piece to be made up for by the other workers."""

SENDING_SHARE = 0.1
"""Of the work, that sending it may cost on top."""


def pieces_wanted(points: int, width: int, cost: float | None = None, overhead: float | None = None) -> int:
    """Into how many pieces a round of so many points is cut.

    `cost` is the seconds a point takes, `overhead` the seconds it takes to send a piece and to have its answer; None where
    they are not known.  There are never fewer pieces than workers as long as there are points enough.
    """
    if cost is None or overhead is None:
        return min(points, PIECES_A_WORKER * width)
    worth = points * cost * SENDING_SHARE
    most = points if worth >= points * overhead else math.floor(worth / overhead)
    return max(min(points, width), most)


def spans(points: int, pieces: int) -> list[range]:
    """So many points in so many pieces, in order; the first are longer by one, so that nobody waits for a long one last."""
    size, longer = divmod(points, pieces)
    ends = [size * i + min(i, longer) for i in range(pieces + 1)]
    return [range(start, end) for start, end in pairwise(ends)]


@dataclass
class Pace:
    """What sending and evaluating cost, as seen so far."""

    cost: float | None = None  # seconds a point, in the last round that was evaluated
    overhead: float | None = None  # seconds a piece: the least seen, since waiting behind others adds to it
    _seconds: float = 0.0
    _points: int = 0

    def begin(self) -> None:
        """Another round: its points may cost something else."""
        self._seconds, self._points = 0.0, 0

    def learn(self, points: int, seconds: float, trip: float | None = None) -> None:
        """A piece took so many seconds for its points; it was away for `trip` seconds where it was sent."""
        self._seconds, self._points = self._seconds + seconds, self._points + points
        self.cost = self._seconds / self._points
        if trip is not None:
            spent = max(trip - seconds, 0.0)
            self.overhead = spent if self.overhead is None else min(spent, self.overhead)

    def pieces(self, points: int, width: int) -> int:
        """Into how many pieces a round of so many points is cut."""
        return pieces_wanted(points, width, self.cost, self.overhead)

    def is_cheaper_here(self, points: int) -> bool:
        """Whether a whole round is known to take no longer than sending a single piece of it."""
        return self.cost is not None and self.overhead is not None and points * self.cost <= self.overhead
