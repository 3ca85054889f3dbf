"""Several problems driven together: one round of evaluations serves all that still wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from arraydiff.devices import SpreadCall
from arraydiff.evaluator import Evaluator, Guarded, mapped, strictly
from arraydiff.problem import Output
from arraydiff.seam import Points, Rounds, Values

T = TypeVar("T")

Outputs = list[Output | Exception]

Asked = tuple[Evaluator, Points, int]
"""Whose points, and how many of them may be evaluated."""


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
            open_calls[i] = [(evaluator, points, count) for points, count in zip(asked, counts, strict=True)]
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
    first = asked[0][0]
    if isinstance(first.call, SpreadCall):
        return _apart(open_calls)
    if first.call.batch_axis is not None:
        return _in_blocks(asked) if alike and first.call.joins else _apart(open_calls)
    if first.workers is not None:
        return mapped(first.workers, [(evaluator.guarded, points, count) for evaluator, points, count in asked])
    return _apart(open_calls)


def _apart(open_calls: Mapping[int, list[Asked]]) -> list[Outputs]:
    """Each problem on its own."""
    answers = []
    for i, calls in open_calls.items():
        with naming(i):
            answers += calls[0][0].called([points for _, points, _ in calls], [count for _, _, count in calls])
    return answers


def _in_blocks(asked: Sequence[Asked]) -> list[Outputs]:
    """All real points in one call of a vectorised f, all complex ones in another."""
    answers: list[Outputs] = [[] for _ in asked]
    for is_complex in (False, True):
        places = [j for j, (_, points, count) in enumerate(asked) if count and points.is_complex is is_complex]
        if places:
            for j, outputs in zip(places, _block([asked[j] for j in places]), strict=True):
                answers[j] = outputs
    return answers


def _block(asked: Sequence[Asked]) -> list[Outputs]:
    """One call for all; where it raises, one for each."""
    first = asked[0][0]
    if len(asked) == 1:
        return [_alone(one) for one in asked]
    joined = first.backend.xp.concat([points.block(0, count) for _, points, count in asked], axis=1)
    if all(points.starts_at_x and count == 1 for _, points, count in asked):
        with first.backend.openly(first.call.error_state):
            output = Guarded(first.call)(joined)
    else:
        with strictly(first.backend, asked[0][1].is_complex):
            output = Guarded(first.call)(joined)
    if isinstance(output, Exception):
        first.calls += 1
        for evaluator, _, count in asked:
            evaluator.points += count  # seen by f in the call that raised
        return [_alone(one) for one in asked]
    return _parted(output, [count for _, _, count in asked])


def _alone(asked: Asked) -> Outputs:
    evaluator, points, count = asked
    return evaluator.called([points], [count])[0]


def _parted(output: Output, counts: Sequence[int]) -> list[Outputs]:
    """What one call gave, by the points it was made for; it is counted with the first."""
    parts: list[Outputs] = []
    start = 0
    for count in counts:
        values = output.values[:, start : start + count]
        parts.append([output._replace(values=values, calls=int(not parts), points=count)])
        start += count
    return parts
