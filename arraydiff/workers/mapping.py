"""Workers behind a callable like `map`: one call a round, which it may serve as it likes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from arraydiff.workers.crew import Crew
from arraydiff.workers.executors import width_of
from arraydiff.workers.work import Function, Point, Result, Work


class Mapping(Crew):
    """`call(function, iterable)` gives one result for each thing iterated over, in order."""

    def __init__(self, call: Callable[..., Iterable[Any]]) -> None:
        super().__init__()
        self.width, self._call = width_of(getattr(call, "__self__", None)), call

    def serve(self, work: Work) -> None:
        """Give every task its result; all tasks are handed over at once."""
        functions = work.functions
        if all(function is functions[0] for function in functions):
            got = self._mapped(functions[0], (work.asked[i][1][j] for i, j in work.tasks))
        else:  # pickled with each point, if at all
            got = self._mapped(_apply, ((functions[i], work.asked[i][1][j]) for i, j in work.tasks))
        if len(got) != len(work.tasks):
            raise ValueError(
                f"workers gave {len(got)} results for {len(work.tasks)} points; a map-like callable must give one a point, "
                "as ThreadPoolExecutor(4).map does"
            )
        work.waiting.clear()
        for task, result in zip(work.tasks, got, strict=True):
            work.give(task, result)

    def _mapped(self, function: Function, things: Iterable[Any]) -> list[Result]:
        got: Any = self._call(function, things)
        if not hasattr(got, "__iter__"):
            raise ValueError(
                f"workers gave a {type(got).__name__}; a map-like callable must give an iterable of one result a point, "
                "as ThreadPoolExecutor(4).map does"
            )
        return list(got)


def _apply(task: tuple[Function, Point]) -> Result:
    function, point = task
    return function(point)
