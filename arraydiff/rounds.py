"""Rounds: several computations that ask together, and the points of a round that go out together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from arraydiff.problem import Answer, points_in
from arraydiff.seam import Asking, Moved, Points, Rounds, Task, Values

if TYPE_CHECKING:
    from arraydiff.evaluator import Evaluator
    from arraydiff.workers import Crew

T = TypeVar("T")


def lockstep(generators: Iterable[Asking[T]]) -> Rounds[list[T]]:
    """Several computations as one that asks for what all of them want."""
    generators = list(generators)
    if len(generators) == 1:
        return [(yield from _alone(generators[0]))]
    waiting: dict[int, tuple[Asking[T], Points]] = {}
    results: dict[int, T] = {}

    def advance(i: int, generator: Asking[T], given: Values | None) -> None:
        try:
            waiting[i] = (generator, generator.send(given))
        except StopIteration as done:
            results[i] = done.value

    for i, generator in enumerate(generators):
        advance(i, generator, None)
    while waiting:
        active = list(waiting.items())
        waiting.clear()
        values = yield [points for _, (_, points) in active]
        for (i, (generator, _)), given in zip(active, values, strict=True):
            advance(i, generator, given)
        del values, given  # not kept while f is evaluated: they may be many
    return [results[i] for i in sorted(results)]


def _alone(asking: Asking[T]) -> Rounds[T]:
    """One computation in rounds of its own."""
    given = None
    while True:
        try:
            wanted = asking.send(given)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        given = None  # not kept while f is evaluated: they may be many
        (given,) = yield [wanted]


class Round:
    """Points of one problem that go out together, those of which no answer is kept."""

    def __init__(self, evaluator: Evaluator, wanted: Sequence[Points], counts: Sequence[int]) -> None:
        self.evaluator, kept = evaluator, evaluator.kept
        self.answers: list[list[Answer | None]] = [[None] * count for count in counts]
        self.places: list[tuple[int, int]] = []
        self.tasks: list[Task] = []
        self.keys: list[str] = []  # of the tasks, where answers are kept
        for i, (points, count) in enumerate(zip(wanted, counts, strict=True)):
            known = 1 if points.starts_at_x and count > 0 and evaluator.given is not None else 0
            self.answers[i][:known] = [evaluator.given] * known
            for j in range(known, count):
                task = points.task(j)
                key = "" if kept is None else kept.key(task)
                self.answers[i][j] = None if kept is None else kept.find(key)
                if self.answers[i][j] is None:
                    self.places.append((i, j))
                    self._add(task, key)
        if self.tasks and evaluator.ahead:
            self._look_ahead()

    def _add(self, task: Task, key: str) -> None:
        self.tasks.append(task)
        self.keys.append(key)

    def _look_ahead(self) -> None:
        """Points that will be asked for, each once, those of which no answer is stored."""
        kept, known = self.evaluator.kept, set(self.keys)
        assert kept is not None
        for points in self.evaluator.ahead:
            for j in range(points.count):
                task = points.task(j)
                key = kept.key(task)
                if key not in known and not kept.has(key):
                    self._add(task, key)
                known.add(key)
        self.evaluator.ahead = []

    def keep(self, k: int, answer: Answer) -> None:
        """The answer for point k, as soon as it is there."""
        self.evaluator.keep(self.tasks[k], self.keys[k], answer)
        if k < len(self.places):
            i, j = self.places[k]
            self.answers[i][j] = answer
        elif self.evaluator.kept is not None:
            self.evaluator.kept.early[self.keys[k]] = answer

    def close(self) -> list[list[Answer]]:
        """All answers that were asked for."""
        return [[answer for answer in answers if answer is not None] for answers in self.answers]


def sent(crew: Crew, rounds: Sequence[Round]) -> list[list[list[Answer]]]:
    """The points of several problems, all handed to the workers at once."""
    asked = [(one.evaluator.sent, one.tasks) for one in rounds if one.tasks]
    waiting = [one for one in rounds if one.tasks]
    if asked:
        crew.run(asked, lambda i, k, answer: waiting[i].keep(k, answer))
    return [one.close() for one in rounds]


def points_of(task: Task) -> int:
    """How many points go with a task: that of a block, several."""
    return 1 if isinstance(task, Moved) else points_in(task)
