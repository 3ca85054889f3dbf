"""What evaluates functions at many points: the contract of all engines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from arraydiff.workers.pieces import Pace
from arraydiff.workers.work import Asked, Done, Result, Work

PATIENCE = 1.0
"""Seconds of a wait, after which it is begun anew: Windows sees Ctrl-C between waits only."""


class Crew(ABC):
    """Evaluates functions at many points, on workers that are started at the first run and gone at exit.

    A function gives exceptions as values, so that whatever is raised here is of the workers: what f does to them (it kills
    them, or cannot be sent) stands at its points as an exception; that they cannot serve at all is raised.
    """

    width: int | None = None  # evaluations at a time; None: unknown

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(hurry=error is not None)

    def run(self, asked: Asked, done: Done | None = None) -> list[list[Result]]:
        """Every function at each of its points.

        Parameters
        ----------
        asked : sequence of (function, sequence of points)
            Points are taken from their sequence one by one, when they are sent.
        done : callable (i, j, result), optional
            Called in this thread as soon as the result of function i at its point j is there.

        Returns
        -------
        list of list
            The results, in the order asked for.
        """
        work = Work(asked, done)
        if work.tasks:
            self.pace.begin()
            work.width = self.width or len(work.tasks)
            work.cut(self.pace.pieces(len(work.tasks), work.width))
            self.serve(work)
        return work.results

    @abstractmethod
    def serve(self, work: Work) -> None:
        """Give every task that waits its result."""

    def close(self, hurry: bool) -> None:  # noqa: B027 - nothing to end where the workers are the user's
        """End what was started; in a hurry without waiting for what runs."""
