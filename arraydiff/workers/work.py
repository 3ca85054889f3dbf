"""A round of evaluations on its way: what waits, what is there, what was lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from time import perf_counter
from typing import Any, NamedTuple

from arraydiff.errors import WorkerDied
from arraydiff.workers.pieces import spans

Point = Any
Result = Any
Function = Callable[[Point], Result]
Asked = Sequence[tuple[Function, Sequence[Point]]]
Done = Callable[[int, int, Result], None]


class Task(NamedTuple):
    """One function at one of its points."""

    function: int
    point: int


class Piece(NamedTuple):
    """What a worker gets at a time."""

    tasks: tuple[Task, ...]
    again: bool = False  # lost once already, with a worker that died


class Work:
    """Every function at each of its points.

    A point is taken from its sequence when its piece is sent, not before: the sequence may make its points as it is asked.
    """

    def __init__(self, asked: Asked, done: Done | None = None) -> None:
        self.asked, self._done = asked, done
        self.results: list[list[Result]] = [[None] * len(points) for _, points in asked]
        self.tasks = [Task(i, j) for i, (_, points) in enumerate(asked) for j in range(len(points))]
        self.waiting: deque[Piece] = deque()
        self.width = 1  # evaluations at a time in this round; where that is unknown, all of them

    @property
    def functions(self) -> list[Function]:
        """What is to be evaluated."""
        return [function for function, _ in self.asked]

    def cut(self, pieces: int) -> None:
        """Make pieces of all there is to do."""
        self.waiting.extend(Piece(tuple(self.tasks[k] for k in span)) for span in spans(len(self.tasks), pieces))

    def parts(self, piece: Piece) -> Iterator[tuple[Function, list[Point]]]:
        """The functions of a piece, each with its points."""
        for i, tasks in groupby(piece.tasks, key=lambda task: task.function):
            function, points = self.asked[i]
            yield function, [points[task.point] for task in tasks]

    def give(self, task: Task, result: Result) -> None:
        """The result of a task is there."""
        self.results[task.function][task.point] = result
        if self._done is not None:
            self._done(*task, result)

    def take(self, piece: Piece, results: Sequence[Result], pieces: Callable[[int], int]) -> None:
        """Results of the first tasks of a piece; of the others come new pieces, as many as is said for their number."""
        for task, result in zip(piece.tasks, results, strict=False):
            self.give(task, result)
        rest = piece.tasks[len(results) :]
        if rest:
            cut = spans(len(rest), pieces(len(rest)))
            self.waiting.extend(Piece(tuple(rest[k] for k in span), piece.again) for span in cut)

    def lose(self, piece: Piece, cause: str) -> None:
        """A worker died over a piece: its points are tried once more, each by itself; one that dies again has failed."""
        if not piece.again:
            self.waiting.extend(Piece((task,), again=True) for task in piece.tasks)
            return
        for task in piece.tasks:
            self.give(task, WorkerDied(f"{cause}, twice: run f at this point without workers to see why"))

    def put_back(self, piece: Piece) -> None:
        """A piece comes back untouched."""
        self.waiting.appendleft(piece)

    def evaluate_here(self) -> float:
        """Evaluate in this thread, in order; the seconds it took."""
        seconds = 0.0
        while self.waiting:
            for i, j in self.waiting.popleft().tasks:
                function, points = self.asked[i]
                point, start = points[j], perf_counter()
                result = function(point)
                seconds += perf_counter() - start
                self.give(Task(i, j), result)
        return seconds
