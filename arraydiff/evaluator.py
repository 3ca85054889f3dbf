"""Driving strategies.  This module alone calls f, counts, copies and catches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from arraydiff._typing import Array
from arraydiff.arguments import Layout, is_complex
from arraydiff.backends import Backend
from arraydiff.batching import gave_up, same_branch
from arraydiff.config import DifferentiationConfig
from arraydiff.devices import SpreadCall
from arraydiff.errors import BudgetSpent, OnePointTooLarge
from arraydiff.guarding import Sent, strictly
from arraydiff.keeping import Kept
from arraydiff.memory import BY_HEART, budget
from arraydiff.outputs import Failure, NotAsked, alike, joined, width
from arraydiff.problem import Answer, Call, Guarded, Output, Problem
from arraydiff.recording import record
from arraydiff.rounds import Round, lockstep, points_of, sent
from arraydiff.seam import Asking, Points, Recorded, Recording, Rounds, Task, Values
from arraydiff.service import Service

if TYPE_CHECKING:
    from arraydiff.workers import Crew

MEASURED_NUMBERS = 2**19
"""Entries of derivatives that are made together, each with some sixty numbers in the ladders: 256 MiB."""

QUICK = 1e-3
"""Seconds: a call that takes less has not filled the memory, and to ask the system takes a share of that."""

T = TypeVar("T")


class Evaluator:
    """Evaluates f where strategies ask for it, and keeps the record of one differentiation."""

    def __init__(
        self,
        problem: Problem,
        config: DifferentiationConfig,
        check: Callable[[Backend, Layout], None] | None = None,
        service: Service | None = None,
    ) -> None:
        self.check = check  # of the structure of f(x), before anything is made of it
        call = problem.call
        self.sent = Sent(call, problem.x)  # the same one in every round: pickled once
        self._take_call(call)
        self.backend, self.max_evaluations, self.max_memory = call.backend, config.max_evaluations, config.max_memory
        if call.backend.deferred and (config.workers is not None or config.store is not None):
            raise ValueError(
                "workers and store need values, which are not there inside jax.jit or on lazy arrays: leave them out there"
            )
        self.service = service or Service(config)
        self.crew, self.progress = self.service.crew, self.service.progress
        waits = self.crew is not None and call.backend.on_cpu  # on a device the key of a point would be one more wait
        self.looks_ahead = waits and self.max_evaluations is None and call.batch_axis is None
        self.kept = Kept(problem, config.store) if config.store is not None or self.looks_ahead else None
        self.calls, self.points = (call.batching.calls, call.batching.points) if call.batching else (0, 0)
        self.rounds = self.asked = self.succeeded = 0
        self.waited = True  # whether anything was evaluated in this round
        self.fits: int | None = None  # points a call, once memory ran out at more
        self.holds: int | None = None  # directions whose arithmetic fits, once memory ran out at more
        self.gauged = 0  # the largest number of points whose memory was looked at
        self.held: tuple[int, int] | None = None  # memory in use before the first block
        self.turn = 0  # of several devices, the one that serves the first chunk
        self.ahead: list[Points] = []  # what will be asked for, to go out with the first round
        self.failures: list[Failure] = []  # at displaced real points
        self.output: Output | None = None  # at x
        self.given: Output | None = None  # at x, where it is known: it is not evaluated then

    def know(self, f0: Any) -> None:
        """F(x), given by the user: it is not evaluated where points go one by one."""
        if f0 is None or self.call.batch_axis is not None:
            return
        self.given = self.call.given(f0, self.sent.x)._replace(calls=0, points=0)

    def _take_call(self, call: Call) -> None:
        self.call, self.guarded = call, Guarded(call)

    @property
    def exhausted(self) -> bool:
        """Whether points were left out because max_evaluations was reached."""
        return self.max_evaluations is not None and self.asked > self.max_evaluations

    @property
    def base(self) -> Output:
        """What f gave at x, which comes first."""
        assert self.output is not None
        return self.output

    def run(self, generators: Iterable[Asking[T]]) -> list[T]:
        """All generators in lockstep: one round serves every one that still waits."""
        return self.drive(lockstep(generators))

    def drive(self, rounds: Rounds[T]) -> T:
        """Serve the rounds of one problem to their end."""
        given: list[Values] | None = None
        with self.serving():
            while True:
                try:
                    wanted = rounds.send(given)  # type: ignore[arg-type]
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]
                given = None  # not kept while f is evaluated: they may be many
                given = self.evaluate(wanted)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Entered around all rounds: workers are there inside; in the end all points are counted that were evaluated."""
        with self.service:
            try:
                yield
            finally:
                self.close()

    def close(self) -> None:
        """All points are there: those count too that nobody asked for."""
        if self.kept is not None:
            self.calls, self.points = self.calls + len(self.kept.early), self.points + len(self.kept.early)
            self.kept.early.clear()
            self.kept.settle()

    def evaluate(self, wanted: Sequence[Any]) -> list[Any]:
        """One round: f at all points wanted, or recorded."""
        return self.recorded(wanted) or self.finish(
            wanted, self.refused(wanted) or self.called(wanted, self.begin(wanted))
        )

    def recorded(self, wanted: Sequence[Any]) -> list[Recorded | Exception] | None:
        """F recorded where that is wanted; None where points are."""
        return [self._recorded(one) for one in wanted] if isinstance(wanted[0], Recording) else None

    def _recorded(self, wanted: Recording) -> Recorded | Exception:
        if self.begin([wanted]) == [0]:
            return BudgetSpent(f"max_evaluations={self.max_evaluations} is spent")
        self.waited, self.calls, self.points = True, self.calls + 1, self.points + 1
        answer = record(self.call, wanted)
        if self.progress is not None:
            self.progress.tick(1)
        if isinstance(answer, Exception):
            return answer
        if self.output is None:
            self._keep_origin(answer[1])
        elif not alike(answer[1], self.output):
            return TypeError("f gives another structure, or other shapes, to what records it than to plain arrays")
        return answer[0]

    def refused(self, wanted: Sequence[Points]) -> list[list[Output | Exception]] | None:
        """The answers to complex points that need not be asked, since f gives complex numbers anyway."""
        if self.output is not None and self.output.layout.has_complex and any(points.is_complex for points in wanted):
            return [[NotAsked("f returns complex numbers")] for _ in wanted]
        return None

    def begin(self, wanted: Sequence[Points | Recording]) -> list[int]:
        """Count a round: how many points of each may be evaluated."""
        self.rounds, self.waited = self.rounds + 1, self.kept is None
        counts = [self._affordable(points.count) for points in wanted]
        if self.progress is not None:
            self.progress.expect(sum(counts))
        return counts

    def called(self, wanted: Sequence[Points], counts: Sequence[int]) -> list[list[Output | Exception]]:
        """What f gives there; all chunks are on their way before any value is brought home from another device."""
        if not isinstance(self.call, SpreadCall):
            return self._called(wanted, counts)
        home, got = self.call.home, self._called(self.call.placed(wanted, self.turn), counts)
        return [[one if isinstance(one, Exception) else home(one) for one in outputs] for outputs in got]

    def _called(self, wanted: Sequence[Points], counts: Sequence[int]) -> list[list[Output | Exception]]:
        if self.call.batch_axis is not None and self.crew is not None and self.call.batching is None:
            return self._blocks_sent(self.crew, wanted, counts)
        if self.call.batch_axis is not None:
            return [self._in_block(points, count) for points, count in zip(wanted, counts, strict=True)]
        if self.crew is not None:
            return sent(self.crew, [Round(self, wanted, counts)])[0]
        if self.call.measured_in_blocks:
            return measured([(self, *pair) for pair in zip(wanted, counts, strict=True)])
        return [self._one_by_one(points, count) for points, count in zip(wanted, counts, strict=True)]

    def finish(self, wanted: Sequence[Points], got: Sequence[list[Output | Exception]]) -> list[Values]:
        """Count what was given, and hand it on."""
        self.rounds -= not self.waited  # all of it was kept
        self.waited = True
        return [self._values(points, outputs) for points, outputs in zip(wanted, got, strict=True)]

    def _affordable(self, count: int) -> int:
        before, self.asked = self.asked, self.asked + count
        return count if self.max_evaluations is None else min(count, max(self.max_evaluations - before, 0))

    def _blocks_sent(self, crew: Crew, wanted: Sequence[Points], counts: Sequence[int]) -> list[list[Answer]]:
        """A block for each chunk, all of them sent to the workers at once; what fails there is tried here."""
        kept, answers = self.kept, list[Answer | None]([None] * len(counts))
        blocks = [points.block(0, count) for points, count in zip(wanted, counts, strict=True)]
        keys = ["" if kept is None else kept.key(block) for block in blocks]
        missing = []
        for i, count in enumerate(counts):
            if count:
                answers[i] = None if kept is None else kept.find(keys[i])
                missing += [i] * (answers[i] is None)

        def done(_: int, k: int, answer: Answer) -> None:
            i = missing[k]
            answers[i] = answer
            if isinstance(answer, Output):
                self.keep(blocks[i], keys[i], answer)

        if missing:
            crew.run([(self.sent, [blocks[i] for i in missing])], done)
        return [self._of_block(*three) for three in zip(wanted, counts, answers, strict=True)]

    def _of_block(self, points: Points, count: int, answer: Answer | None) -> list[Answer]:
        """What a block gave where it was sent; where it raised, as if it had been tried here."""
        if not isinstance(answer, Exception):
            return [] if answer is None else [answer]
        self.waited = True
        if points.is_complex or (count == 1 and not points.starts_at_x):
            self.calls -= count - 1  # it was one call that failed for all of them
            return [answer] * count
        self.calls, self.points = self.calls + 1, self.points + count
        return self._block(points, count)

    def _in_block(self, points: Points, count: int) -> list[Output | Exception]:
        if self.call.batch_axis is None:  # a block before this one failed
            return self._one_by_one(points, count)
        return self._block(points, count) if self.call.batching is None else self._checked_block(points, count)

    def _one_by_one(self, points: Points, count: int, at_x: Output | None = None) -> list[Output | Exception]:
        outputs: list[Output | Exception] = [] if at_x is None else [at_x]
        if points.starts_at_x and at_x is None:
            outputs.append(self._at_x(points.task(0)))
        if count > len(outputs):
            with strictly(self.backend, points.is_complex):
                if self.kept is None and self.progress is None:
                    outputs += [self.guarded(points.column(j)) for j in range(len(outputs), count)]
                else:
                    outputs += [self._ask(points.task(j)) for j in range(len(outputs), count)]
        return outputs

    def _ask(self, task: Task, call: Callable[[Array], Answer] | None = None) -> Answer:
        """What f gives at a point, or for a block, if that was not kept."""
        key = "" if self.kept is None else self.kept.key(task)
        answer = None if self.kept is None else self.kept.find(key)
        if answer is None:
            answer = (call or self.guarded)(self.sent.point(task))
            self.keep(task, key, answer)
        elif self.progress is not None:
            self.progress.tick(points_of(task))
        return answer

    def _at_x(self, task: Task) -> Output:
        if self.given is not None:
            return self.given
        answer = self._ask(task, self.call.at_x)
        assert isinstance(answer, Output)  # what f raises there goes through
        return answer

    def keep(self, task: Task, key: str, answer: Answer) -> None:
        """What was evaluated, for later calls, and to be told of."""
        self.waited = True
        if self.kept is not None:
            self.kept.keep(key, answer)
        if self.progress is not None:
            self.progress.tick(points_of(task))

    def _block(self, points: Points, count: int) -> list[Output | Exception]:
        """All points in one call; where it raises, one by one."""
        if count == 0:
            return []
        first = [self.given] if points.starts_at_x and self.given is not None else []
        if points.starts_at_x and count == 1:
            return [*first] or [self._at_x(points.block(0, 1))]
        left = count - len(first)
        with strictly(self.backend, points.is_complex):
            output = self._at_once(points, len(first), count)
        if not isinstance(output, Exception) or left == 1:
            return [*first, output]
        if points.is_complex:  # f does not take complex numbers, whichever they are
            self.calls -= count - 1  # it was one call that failed for all of them
            return [output] * count
        self.calls, self.points = self.calls + 1, self.points + left  # seen by f in the call that raised
        if points.starts_at_x and not first:
            first = [self._at_x(points.block(0, 1))]
        with strictly(self.backend, points.is_complex):
            return [*first, *(self._ask(points.block(j, j + 1)) for j in range(len(first), count))]

    def _checked_block(self, points: Points, count: int) -> list[Output | Exception]:
        """All points in one call, in a way that was found out: x is called alone, too, and must come out the same."""
        if count == 0:
            return []
        at_x = self._at_x(points.column(0)) if points.starts_at_x else None
        with strictly(self.backend, points.is_complex):
            block = self._at_once(points, 0, count)
        if isinstance(block, Output) and (at_x is None or same_branch(self.backend, block.values, at_x.values)):
            if at_x is None:
                return [block]
            self.calls, self.points = self.calls + at_x.calls, self.points + at_x.points  # x alone
            return [block._replace(layout=at_x.layout, aux=at_x.aux)]
        self.calls, self.points = self.calls + 1, self.points + count  # in the block
        self._take_call(self.call.batched(gave_up(block)))
        return self._one_by_one(points, count, at_x)

    def _at_once(self, points: Points, first: int, count: int) -> Output | Exception:
        """Points first..count in one call; where memory runs out, in halves, whose values are joined again."""
        pieces: list[Output] = []
        waiting = [(first, count)]
        while waiting:
            start, stop = waiting.pop()
            fits = self.fits is None or stop - start <= self.fits
            output = self._unless_out_of_memory(points, start, stop) if fits else None
            if output is None:
                middle = (start + stop + 1) // 2
                waiting += [(middle, stop), (start, middle)]
            elif isinstance(output, Exception):  # the caller counts one call with all points
                self.calls, self.points = self.calls + len(pieces), self.points + stop - count
                return output
            else:
                pieces.append(output)
        return pieces[0] if len(pieces) == 1 else joined(pieces)

    def _unless_out_of_memory(self, points: Points, start: int, stop: int) -> Output | Exception | None:
        """What f gives at some of the points; None where that takes more memory than there is."""
        looked = stop - start > 2 * self.gauged
        if looked and self.held is None:
            self.held = self.backend.memory_in_use()
        started = perf_counter()
        try:
            output = self._ask(points.block(start, stop))
        except Exception as error:  # of the library, while the points were made
            if not self.backend.is_out_of_memory(error):
                raise
            told = str(error)
        else:
            if not (isinstance(output, Exception) and self.backend.is_out_of_memory(output)):
                quick = perf_counter() - started < QUICK
                self._measure(None if quick or not looked else self.held, stop - start)
                return output
            self.calls, self.points, told = self.calls + 1, self.points + stop - start, str(output)
        # Out of the except block, so that the traceback keeps no array of the call that failed.
        if stop - start == 1:
            free = self.backend.free_memory()
            raise OnePointTooLarge(
                f"one point of f takes more memory than there is ({told}; free: {free or 'unknown'} bytes): "
                "give f less data, or set chunk_size=1 so that less is held besides"
            )
        self.fits = (stop - start + 1) // 2
        return None

    def _measure(self, before: tuple[int, int] | None, count: int) -> None:
        """How many points a call may have, from what a block took where it took more than was ever held before."""
        after = None if before is None else self.backend.memory_in_use()
        self.gauged = max(count, self.gauged)
        if before is None or after is None or after[1] <= before[1]:
            return
        taken = after[1] - before[0]
        if self.max_memory is None and taken <= BY_HEART:
            return
        fits = max(1, count * budget(self.backend, self.max_memory) // taken)
        self.fits = fits if self.fits is None else min(fits, self.fits)

    def _values(self, points: Points, outputs: list[Output | Exception]) -> Values:
        good = [output for output in outputs if not isinstance(output, Exception)]
        failure = self._count(points, outputs, good)
        if points.starts_at_x:
            self._keep_origin(outputs[0])
        short = points.count - len(outputs) + sum([1 - width(output) for output in good])
        if short and failure is None:
            failure = BudgetSpent(f"max_evaluations={self.max_evaluations} is spent")
        noise = None
        if self.call.measured and len(outputs) == points.count:
            lost = self.backend.xp.full_like(self.base.values, float("inf"))
            bars = (lost if isinstance(output, Exception) else output.noise for output in outputs)
            noise = self.backend.gather([lost if bar is None else bar for bar in bars])
        return Values(self.backend.settle(self._joined(points, outputs, good, short)), noise, failure, short)

    def _keep_origin(self, output: Output | Exception) -> None:
        """F(x), which is not evaluated again."""
        if isinstance(output, Exception):
            raise output
        if self.check is not None:
            self.check(self.backend, output.layout)
        self.output, self.given = output, output._replace(calls=0, points=0)

    def _count(self, points: Points, outputs: list[Output | Exception], good: list[Output]) -> Exception | None:
        """The first failure, if any."""
        self.calls += sum([output.calls for output in good])
        self.points += sum([output.points for output in good])
        if not points.is_complex:
            self.succeeded += len(good) - points.starts_at_x
        if len(good) == len(outputs):
            return None
        failed = [(j, output) for j, output in enumerate(outputs) if isinstance(output, Exception)]
        lost = sum(not isinstance(error, NotAsked) for _, error in failed)
        self.calls, self.points = self.calls + lost, self.points + lost
        if not points.is_complex:
            self.failures += [Failure(points.parameter(j), error) for j, error in failed]
        return failed[0][1]

    def check_shapes(self, answers: Sequence[Answer]) -> None:
        """As many numbers everywhere as at x.

        Raises
        ------
        ValueError
            There are not.
        """
        m = None if self.output is None else int(self.output.values.shape[0])
        for answer in answers:
            if m is not None and isinstance(answer, Output) and answer.values.shape[0] != m:
                at_x = "f gave" if self.given is None else "f0 has"
                raise ValueError(
                    f"{at_x} {m} numbers at x but f gave {answer.values.shape[0]} beside it; its shape must not change"
                )

    def _joined(self, points: Points, outputs: list[Output | Exception], good: list[Output], short: int) -> Array:
        """(m, k), NaN where f failed or was not asked."""
        xp, m = self.backend.xp, int(self.base.values.shape[0])
        parts = [output.values for output in good]
        self.check_shapes(good)
        if len(parts) == len(outputs) and not short:
            if self.call.batch_axis is None:
                outputs.clear()  # columns go as they are gathered
                good.clear()
                return self.backend.gather(parts)
            return parts[0] if len(parts) == 1 else xp.concat(parts, axis=1)
        lost = xp.full((m, 1), float("nan"), dtype=self.base.values.dtype, device=self.backend.device)
        if points.is_complex and (not parts or any(is_complex(self.backend, part.dtype) for part in parts)):
            lost = lost + lost * 1j  # the imaginary part of a real NaN is 0, which passes for a value
        columns = [lost if isinstance(o, Exception) else xp.reshape(o.values, (m, -1)) for o in outputs]
        columns += [lost] * short
        return xp.concat(columns, axis=1)


def measured(asked: Sequence[tuple[Evaluator, Points, int]]) -> list[list[Output | Exception]]:
    """Derivatives of a vectorised function, its calls shared by as many points as their ladders' memory allows."""
    first = asked[0][0]
    if first.kept is not None or first.progress is not None:
        return [evaluator._one_by_one(wanted, count) for evaluator, wanted, count in asked]
    points = [wanted.column(j) for _, wanted, count in asked for j in range(count)]
    size = int(points[0].shape[0] if first.output is None else first.base.values.shape[0]) if points else 1
    most = max(1, MEASURED_NUMBERS // max(size, 1))
    at_x = all(wanted.starts_at_x and count == 1 for _, wanted, count in asked)
    with first.backend.openly(first.call.error_state) if at_x else nullcontext():
        parts = [first.call.many(points[start : start + most]) for start in range(0, len(points), most)]
    got = (one for part in parts for one in part)
    return [[next(got) for _ in range(count)] for _, _, count in asked]
