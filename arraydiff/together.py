"""Several problems driven together: one round of evaluations serves all that still wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from arraydiff.chunking import BLOCK_BYTES
from arraydiff.devices import SpreadCall
from arraydiff.evaluator import Evaluator, measured
from arraydiff.guarding import strictly
from arraydiff.problem import Guarded, Output
from arraydiff.rounds import Round, sent
from arraydiff.seam import Points, Rounds

T = TypeVar("T")

Outputs = list[Output | Exception]


@dataclass(frozen=True)
class Asked:
    """Points of one problem, and how many of them may be evaluated."""

    evaluator: Evaluator
    points: Points
    count: int


def drive_together(
    evaluators: Sequence[Evaluator],
    works: Sequence[Rounds[T]],
    *,
    alike: bool,
    lost: Callable[[int, Exception], Exception],
) -> tuple[list[T | Exception], int]:
    """The results of all works, and how many rounds were waited for.

    `alike`: f is the same function for all of them.  `lost` raises what came up in one of them, or gives what is to stand
    in the place of its result.
    """
    given: dict[int, list[Any] | None] = dict.fromkeys(range(len(works)))
    results: dict[int, T | Exception] = {}
    rounds = 0
    while given:
        wanted = {}
        for i, values in given.items():
            try:
                wanted[i] = works[i].send(values)  # type: ignore[arg-type]
            except StopIteration as done:
                results[i] = done.value
            except Exception as error:  # noqa: BLE001 - whatever f raises costs its own point only
                results[i] = lost(i, error)
        rounds += bool(wanted)
        given = _recorded(evaluators, wanted)
        for i, outputs in _round(evaluators, wanted, alike).items():
            try:
                given[i] = evaluators[i].finish(wanted[i], outputs)
            except Exception as error:  # noqa: BLE001
                results[i] = lost(i, error)
    return [results[i] for i in range(len(works))], rounds


def _recorded(evaluators: Sequence[Evaluator], wanted: dict[int, list[Any]]) -> dict[int, list[Any] | None]:
    """What was wanted to be recorded, each problem on its own; taken out of what is wanted."""
    there = {i: evaluators[i].recorded(asked) for i, asked in wanted.items()}
    done = {i: answers for i, answers in there.items() if answers is not None}
    for i in done:
        del wanted[i]
    return dict(done)


def raised(i: int, error: Exception) -> Exception:
    """For users, an exception says of which point it is."""
    error.add_note(f"this is of point {i} of the batch (counted from 0)")
    raise error


def kept(_i: int, error: Exception) -> Exception:
    """For an outer derivative, an exception costs its own point only."""
    return error.with_traceback(None)


def _round(
    evaluators: Sequence[Evaluator], wanted: Mapping[int, list[Points]], alike: bool
) -> dict[int, list[Outputs]]:
    got: dict[int, list[Outputs]] = {}
    open_calls: dict[int, list[Asked]] = {}
    for i, asked in wanted.items():
        evaluator, refused = evaluators[i], evaluators[i].refused(asked)
        if refused is not None:
            got[i] = refused
        else:
            counts = evaluator.begin(asked)
            open_calls[i] = [Asked(evaluator, *pair) for pair in zip(asked, counts, strict=True)]
    answers = iter(_answers(open_calls, alike))
    return got | {i: [next(answers) for _ in calls] for i, calls in open_calls.items()}


def _answers(open_calls: Mapping[int, list[Asked]], alike: bool) -> list[Outputs]:
    """What f gives for each of the calls, in their order."""
    asked = [call for calls in open_calls.values() for call in calls]
    if not asked:
        return []
    first = asked[0].evaluator
    if isinstance(first.call, SpreadCall):
        return _apart(open_calls)
    if first.call.batch_axis is not None:
        shared = alike and first.call.joins and first.kept is None and first.progress is None
        return _in_blocks(asked) if shared else _apart(open_calls)
    if first.crew is not None:
        rounds = [Round(one.evaluator, [one.points], [one.count]) for one in asked]
        return [answers for (answers,) in sent(first.crew, rounds)]
    if alike and first.call.measured_in_blocks:
        return measured([(one.evaluator, one.points, one.count) for one in asked])
    return _apart(open_calls)


def _apart(open_calls: Mapping[int, list[Asked]]) -> list[Outputs]:
    """Each problem on its own."""
    return [outputs for calls in open_calls.values() for outputs in _alone(calls)]


def _alone(calls: Sequence[Asked]) -> list[Outputs]:
    """Chunks of one problem; what f raises at x itself is raised again when it is read."""
    try:
        return calls[0].evaluator.called([one.points for one in calls], [one.count for one in calls])
    except Exception as error:  # noqa: BLE001
        return [[error] for _ in calls]


def _in_blocks(asked: Sequence[Asked]) -> list[Outputs]:
    """All real points in one call of a vectorised f, all complex ones in another."""
    answers: list[Outputs] = [[] for _ in asked]
    for is_complex in (False, True):
        for places in _fitting(asked, [j for j, one in enumerate(asked) if one.points.is_complex is is_complex]):
            for j, outputs in zip(places, _block([asked[j] for j in places]), strict=True):
                answers[j] = outputs
    return answers


def _fitting(asked: Sequence[Asked], places: Sequence[int]) -> Iterator[list[int]]:
    """Runs of places whose points fit one block, as the chunks of one problem do."""
    run: list[int] = []
    size = 0
    for j in places:
        one = asked[j]
        m = 1 if one.evaluator.output is None else int(one.evaluator.base.values.shape[0])
        more = 8 * one.count * (one.evaluator.call.layout.size + m)
        if run and size + more > BLOCK_BYTES:
            yield run
            run, size = [], 0
        if one.count:
            run, size = [*run, j], size + more
    if run:
        yield run


def _block(asked: Sequence[Asked]) -> list[Outputs]:
    """One call for all; where it raises, one for each."""
    if len(asked) == 1:
        return [_alone([one])[0] for one in asked]
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
        return [_alone([one])[0] for one in asked]
    return _parted(output, [one.count for one in asked])


def _parted(output: Output, counts: Sequence[int]) -> list[Outputs]:
    """What one call gave, by the points it was made for; it is counted with the first."""
    parts: list[Outputs] = []
    start = 0
    for count in counts:
        values = output.values[:, start : start + count]
        parts.append([output._replace(values=values, calls=int(not parts), points=count)])
        start += count
    return parts
