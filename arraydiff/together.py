"""Several problems driven together: one round of evaluations serves all that still wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from arraydiff.devices import SpreadCall
from arraydiff.evaluator import Evaluator, Guarded, mapped, strictly
from arraydiff.problem import Output
from arraydiff.seam import Points, Rounds, Values

T = TypeVar("T")

Outputs = list[Output | Exception]


@dataclass(frozen=True)
class Asked:
    """Points of one problem, and how many of them may be evaluated."""

    who: int
    evaluator: Evaluator
    points: Points
    count: int


def drive_together(evaluators: Sequence[Evaluator], works: Sequence[Rounds[T]], *, alike: bool) -> tuple[list[T], int]:
    """The results of all works, and how many rounds were waited for; `alike`: f is the same function for all of them."""
    given: dict[int, list[Values] | None] = dict.fromkeys(range(len(works)))
    results: dict[int, T] = {}
    rounds = 0
    while given:
        wanted = {}
        for i, values in given.items():
            with naming(i):
                try:
                    wanted[i] = works[i].send(values)  # type: ignore[arg-type]
                except StopIteration as done:
                    results[i] = done.value
        rounds += bool(wanted)
        given = dict(_round(evaluators, wanted, alike))
    return [results[i] for i in range(len(works))], rounds


@contextmanager
def naming(i: int) -> Iterator[None]:
    """What is raised inside is said to be of point i."""
    try:
        yield
    except Exception as error:
        error.add_note(f"this is of point {i} of the batch (counted from 0)")
        raise


def _round(
    evaluators: Sequence[Evaluator], wanted: Mapping[int, list[Points]], alike: bool
) -> Iterator[tuple[int, list[Values]]]:
    got: dict[int, list[Outputs]] = {}
    open_calls: dict[int, list[Asked]] = {}
    for i, asked in wanted.items():
        evaluator, refused = evaluators[i], evaluators[i].refused(asked)
        if refused is not None:
            got[i] = refused
        else:
            counts = evaluator.begin(asked)
            open_calls[i] = [Asked(i, evaluator, *pair) for pair in zip(asked, counts, strict=True)]
    answers = iter(_answers(open_calls, alike))
    for i, calls in open_calls.items():
        got[i] = [next(answers) for _ in calls]
    for i, asked in wanted.items():
        with naming(i):
            yield i, evaluators[i].finish(asked, got[i])


def _answers(open_calls: Mapping[int, list[Asked]], alike: bool) -> list[Outputs]:
    """What f gives for each of the calls, in their order."""
    asked = [call for calls in open_calls.values() for call in calls]
    if not asked:
        return []
    first = asked[0].evaluator
    if isinstance(first.call, SpreadCall):
        return _apart(open_calls)
    if first.call.batch_axis is not None:
        return _in_blocks(asked) if alike and first.call.joins else _apart(open_calls)
    if first.workers is not None:
        return mapped(first.workers, [(one.evaluator.guarded, one.points, one.count) for one in asked])
    return _apart(open_calls)


def _apart(open_calls: Mapping[int, list[Asked]]) -> list[Outputs]:
    """Each problem on its own."""
    answers = []
    for i, calls in open_calls.items():
        with naming(i):
            answers += calls[0].evaluator.called([one.points for one in calls], [one.count for one in calls])
    return answers


def _in_blocks(asked: Sequence[Asked]) -> list[Outputs]:
    """All real points in one call of a vectorised f, all complex ones in another."""
    answers: list[Outputs] = [[] for _ in asked]
    for is_complex in (False, True):
        places = [j for j, one in enumerate(asked) if one.count and one.points.is_complex is is_complex]
        if places:
            for j, outputs in zip(places, _block([asked[j] for j in places]), strict=True):
                answers[j] = outputs
    return answers


def _block(asked: Sequence[Asked]) -> list[Outputs]:
    """One call for all; where it raises, one for each."""
    if len(asked) == 1:
        return [_alone(one) for one in asked]
    first, call = asked[0].evaluator, Guarded(asked[0].evaluator.call)
    joined = first.backend.xp.concat([one.points.block(0, one.count) for one in asked], axis=1)
    if all(one.points.starts_at_x and one.count == 1 for one in asked):  # in the open, as one by one
        with first.backend.openly(first.call.error_state):
            output = call(joined)
    else:
        with strictly(first.backend, asked[0].points.is_complex):
            output = call(joined)
    if isinstance(output, Exception):
        first.calls += 1
        for one in asked:
            one.evaluator.points += one.count  # seen by f in the call that raised
        return [_alone(one) for one in asked]
    return _parted(output, [one.count for one in asked])


def _alone(asked: Asked) -> Outputs:
    with naming(asked.who):
        return asked.evaluator.called([asked.points], [asked.count])[0]


def _parted(output: Output, counts: Sequence[int]) -> list[Outputs]:
    """What one call gave, by the points it was made for; it is counted with the first."""
    parts: list[Outputs] = []
    start = 0
    for count in counts:
        values = output.values[:, start : start + count]
        parts.append([output._replace(values=values, calls=int(not parts), points=count)])
        start += count
    return parts
