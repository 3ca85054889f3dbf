"""From a problem to its derivative: the strategy prepared once, chunks pushed forward, finished chunks collected."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter
from typing import Any, TypeVar

from arraydiff._typing import Array, Namespace
from arraydiff.arguments import Layout
from arraydiff.backends import Backend
from arraydiff.chunking import beside_all, chunk_size, direction, fitting
from arraydiff.collectors import Collector, Dense, DenseCollector, Outside, ValuesCollector, is_every, not_writable
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import AtX, Columns, Elementwise, Lines, Tangents
from arraydiff.errors import OnePointTooLarge
from arraydiff.evaluator import Evaluator
from arraydiff.memory import exceeds, told
from arraydiff.problem import Output, Problem
from arraydiff.result import Status
from arraydiff.rounds import lockstep
from arraydiff.seam import Prepared, Pushforward, Rounds, Strategy
from arraydiff.strategies import strategy_of
from arraydiff.strategies.foresight import foreseen, points_each
from arraydiff.strategies.hosted import hosted
from arraydiff.strategies.richardson import Richardson
from arraydiff.vouching import Judged, Watch, tolerance

KEPT = 10
"""Bytes that bar and flags of one entry take beside its value."""

T = TypeVar("T")


@dataclass(frozen=True)
class Beside:
    """A derivative that is returned beside another one."""

    dense: Dense
    judged: Judged


@dataclass(frozen=True)
class Derivative:
    """J·V with all that is known of it, flat."""

    problem: Problem
    prepared: Prepared
    evaluator: Evaluator
    dense: Dense
    judged: Judged | None  # which entries are vouched for; of a bare call without bars its watch knows
    time: float
    beside: Beside | None = field(default=None, kw_only=True)  # another derivative that came of the same points

    @cached_property
    def doubts(self) -> dict[str, int]:
        """How many entries are not vouched for, by flag and by "bar"; the one read at the end, none where values come later."""
        if self.problem.backend.deferred:
            return {}
        if self.prepared.vouched and not self.prepared.heard:
            return {}
        if self.dense.watch is not None:
            return self.dense.watch.doubts()
        assert self.judged is not None
        counts = self.judged.counts()
        for name, count in ({} if self.beside is None else self.beside.judged.counts()).items():
            counts[name] = counts.get(name, 0) + count
        return counts

    @property
    def value(self) -> Array:
        """(m,) f(x)."""
        return self.prepared.value

    @property
    def output(self) -> Output:
        """What f gave at x."""
        assert self.evaluator.output is not None
        return self.evaluator.output


MakeLines = Callable[[Problem, Sequence[int]], Lines]


def columns_of(problem: Problem, index: Sequence[int]) -> Lines:
    """Identity columns."""
    return Columns(problem, index)


def elementwise(problem: Problem, index: Sequence[int]) -> Lines:
    """All parameters at once."""
    return Elementwise(problem, tuple(index))


@dataclass(frozen=True)
class Wanted:
    """What a transform asks of the engine."""

    index: Sequence[int]  # the parameters that can move
    make: MakeLines = columns_of
    size: int | None = None  # of the columns; None: n
    strategy: Strategy | None = None  # None: that of the config
    bare: bool = False  # the values alone are returned: bars need not be kept where memory is short
    out: Any = None  # an array of the user's for the values
    spread: Callable[[Problem, Prepared, Dense], Dense] | None = (
        None  # what was collected as the derivative's own columns
    )
    beside: Callable[[Problem, Prepared], Dense] | None = None  # what is returned, and judged, beside it
    runs: Sequence[Sequence[int]] = ()  # parts of the index that no chunk crosses; (): it is one
    push: Callable[..., Rounds[Sequence[str]]] | None = None  # as `pushed_on`, with more directions than are collected


def differentiate(
    problem: Problem,
    config: DifferentiationConfig,
    wanted: Wanted,
    check: Callable[[Backend, Layout], None] | None = None,
    f0: Any = None,
) -> Derivative:
    """The derivative that is wanted; `check` sees the structure of f(x), `f0` if given, before another point is evaluated."""
    evaluator = Evaluator(problem, config, check)
    evaluator.know(f0)
    return evaluator.drive(derivation(problem, config, wanted, evaluator))


def derivation(
    problem: Problem, config: DifferentiationConfig, wanted: Wanted, evaluator: Evaluator
) -> Rounds[Derivative]:
    """As `differentiate`, asking for its rounds: the evaluator counts them, whoever evaluates."""
    started = perf_counter()

    def collector(prepared: Prepared) -> Collector[Dense]:
        m, size = int(prepared.value.shape[0]), problem.n if wanted.size is None else wanted.size
        m = 1 if wanted.make is elementwise else m
        held = m * size * KEPT if wanted.bare else 0  # else they are returned
        lean = (
            held
            and wanted.size is None
            and exceeds(problem.backend, config.max_memory, held + beside_all(prepared) + direction(prepared))
        )
        if not (lean or wanted.out is not None):
            return DenseCollector(problem, m, size, wanted.index, held)
        out = None if wanted.out is None else outside(problem, evaluator.base, wanted.out)
        return ValuesCollector(problem, m, size, wanted.index, Watch(problem, config, m), out)

    prepared = yield from opened(problem, config, wanted, evaluator)
    bare = wanted.out is None and wanted.spread is None and wanted.beside is None
    if bare and prepared.alone is not None and _takes_all(problem, wanted):
        return Derivative(problem, prepared, evaluator, Dense(prepared.alone), None, perf_counter() - started)
    prepared, dense = yield from collected(problem, config, prepared, wanted, evaluator, collector(prepared))
    prepared = _of_frames(problem, prepared, evaluator)
    if wanted.spread is not None:
        dense = wanted.spread(problem, prepared, dense)
    judged = None
    if dense.watch is None:
        dense = _pinned(problem, dense) if problem.backend.deferred and wanted.size is None else dense
        columns, steps, error, status = problem.backend.computed(dense.columns, dense.steps, dense.error, dense.status)
        dense = Dense(columns, steps, error, status, least=dense.least)
        if not (prepared.vouched and not prepared.heard):
            scale = problem.scale if wanted.size is None or wanted.spread is not None else None
            judged = Judged(
                problem.backend, tolerance(config), dense.columns, dense.error, dense.status, scale, dense.least
            )
    beside = None if wanted.beside is None else _beside_it(problem, config, wanted.beside(problem, prepared))
    return Derivative(problem, prepared, evaluator, dense, judged, perf_counter() - started, beside=beside)


def _beside_it(problem: Problem, config: DifferentiationConfig, dense: Dense) -> Beside:
    """Judged by the same rule."""
    judged = Judged(
        problem.backend, tolerance(config), dense.columns, dense.error, dense.status, problem.scale, dense.least
    )
    return Beside(dense, judged)


def streamed(
    problem: Problem,
    config: DifferentiationConfig,
    wanted: Wanted,
    evaluator: Evaluator,
    collector_of: Callable[[Prepared], Collector[T]],
) -> Rounds[tuple[Prepared, T]]:
    """The strategy prepared, and what the collector made of all chunks."""
    prepared = yield from opened(problem, config, wanted, evaluator)
    return (yield from collected(problem, config, prepared, wanted, evaluator, collector_of(prepared)))


def _takes_all(problem: Problem, wanted: Wanted) -> bool:
    """Whether all columns of x are wanted, as they are."""
    return wanted.push is None and wanted.make is columns_of and is_every(wanted.index, problem.n)


def collected(
    problem: Problem,
    config: DifferentiationConfig,
    prepared: Prepared,
    wanted: Wanted,
    evaluator: Evaluator,
    collector: Collector[T],
) -> Rounds[tuple[Prepared, T]]:
    """What the collector made of all chunks, and the strategy with what they told."""
    if prepared.whole is not None and _takes_all(problem, wanted):
        collector.consume(prepared.whole())
        return prepared, collector.finish()
    notes = yield from (wanted.push or pushed_on)(problem, config, prepared, wanted, evaluator, collector)
    unless_all_failed(evaluator)
    if notes or prepared.heard:
        reason = "; ".join(filter(None, (prepared.reason, *prepared.heard)))
        prepared = replace(prepared, reason=reason, notes=(*prepared.notes, *notes))
    return prepared, collector.finish()


def opened(problem: Problem, config: DifferentiationConfig, wanted: Wanted, evaluator: Evaluator) -> Rounds[Prepared]:
    """The strategy prepared: what x teaches once."""
    if problem.backend.traced and not (config.fixed_stages or config.method is DifferentiationMethod.COMPLEX_STEP):
        problem.backend.refuse(f"method={config.method.value!r}")
    strategy = wanted.strategy or (strategy_of(config) if wanted.index else Richardson())  # f(x) is all that is wanted
    strategy = hosted(strategy, problem.backend)
    bars = not wanted.bare or config.error_tolerance is not None
    problem = problem.asked(max(len(wanted.index), 1), bars)  # of one parameter there are no pairs
    if evaluator.crew is not None and evaluator.looks_ahead and wanted.index:
        lines = wanted.make(problem, wanted.index)
        evaluator.ahead = foreseen(strategy, problem, config, lines, evaluator.crew.width)
    (prepared,) = yield from lockstep([strategy.prepare(problem, config)])
    return prepared


def pushed_on(
    problem: Problem,
    config: DifferentiationConfig,
    prepared: Prepared,
    wanted: Wanted,
    evaluator: Evaluator,
    collector: Collector[T],
) -> Rounds[Sequence[str]]:
    """All chunks of what is wanted, pushed forward and handed on; and what is to be said of them: nothing."""
    finite, left = _finite(problem, prepared), len(wanted.index)
    problem = replace(problem, directions=left)
    width = None if evaluator.crew is None else evaluator.crew.width
    for group in _groups(problem, config, prepared, wanted, collector.held, width):
        if evaluator.progress is not None:
            evaluator.progress.revise(left * points_each(prepared.method, config))
        yield from _push(group, prepared, evaluator, collector, finite)
        left -= sum(lines.count for lines in group)
    return ()


def unless_all_failed(evaluator: Evaluator) -> None:
    """Raise what f raised first, where it did so at every displaced point."""
    if evaluator.failures and not evaluator.succeeded:
        raise evaluator.failures[0].error


def _push(
    group: Sequence[Lines],
    prepared: Prepared,
    evaluator: Evaluator,
    collector: Collector[T],
    finite: tuple[bool, bool],
) -> Rounds[None]:
    """Chunks that wait together, pushed forward and handed on; in halves where memory runs out."""
    waiting = [list(group)]
    while waiting:
        part = waiting.pop()
        directions = sum(lines.count for lines in part)
        if evaluator.holds is not None and directions > max(evaluator.holds, 1):
            waiting += reversed(_halves(part))
            continue
        every = yield from _pushed(part, prepared, evaluator, finite[0])
        if isinstance(every, str):
            gc.collect()  # generators that failed hold their arrays in cycles
            evaluator.holds = directions // 2
            waiting += reversed(_halves(part, every))
            continue
        for lines in part:
            pushed = every.pop(0)  # nothing is held longer than it takes to hand it on
            sound = finite[1] and not evaluator.exhausted
            collector.consume(pushed if sound else _blamed(lines, prepared, evaluator, pushed))
        del pushed


def _pushed(
    group: Sequence[Lines], prepared: Prepared, evaluator: Evaluator, some_finite: bool
) -> Rounds[list[Pushforward] | str]:
    """The pushforwards of these chunks, or what is said where memory does not hold them."""
    if not some_finite:
        return [_nothing(lines, prepared) for lines in group]
    try:
        return (yield from lockstep(prepared.pushforward(lines) for lines in group))
    except Exception as error:
        if isinstance(error, OnePointTooLarge) or not evaluator.backend.is_out_of_memory(error):
            raise
        return str(error)  # out of the except block, so that the traceback keeps no array of what failed


def _halves(group: Sequence[Lines], said: str = "") -> list[list[Lines]]:
    """The same chunks in two parts.

    Raises
    ------
    MemoryError
        There is one direction alone.
    """
    if len(group) > 1:
        return [list(group[: len(group) // 2]), list(group[len(group) // 2 :])]
    (lines,) = group
    if lines.count == 1:
        free = lines.problem.backend.free_memory()
        raise MemoryError(
            f"one direction takes more memory than there is ({said}; free: {'unknown' if free is None else told(free)}): "
            "have f return fewer outputs at a time, or take normal_equations in blocks"
        )
    middle = lines.count // 2
    return [[lines.take(range(middle))], [lines.take(range(middle, lines.count))]]


def along(tangents: Array) -> Wanted:
    """J·V for k tangents (n, k)."""

    def make(problem: Problem, index: Sequence[int]) -> Lines:
        return Tangents(problem, tangents).take(index)

    return Wanted(range(int(tangents.shape[1])), make, int(tangents.shape[1]))


def value_at(problem: Problem, config: DifferentiationConfig) -> Output:
    """f(x) alone."""
    evaluator = Evaluator(problem, replace(config, workers=None, progress=False))
    evaluator.evaluate([AtX(problem)])
    assert evaluator.output is not None
    return evaluator.output


def _finite(problem: Problem, prepared: Prepared) -> tuple[bool, bool]:
    """Whether any, and whether all outputs are finite at x: the one read after f(x), where the strategy has not counted them."""
    count, m = prepared.finite, int(prepared.value.shape[0])
    if problem.backend.deferred:
        return m > 0, False
    if count is None:
        (count,) = problem.backend.counts(problem.xp.isfinite(prepared.value))
    return count > 0, count == m


def _groups(
    problem: Problem,
    config: DifferentiationConfig,
    prepared: Prepared,
    wanted: Wanted,
    held: int,
    width: int | None,
) -> Iterator[list[Lines]]:
    """Chunks that advance in lockstep: one, or where evaluations run in parallel as many as memory holds."""
    index, number = wanted.index, max(len(wanted.index), 1)
    size, most = number, 1
    if wanted.make is not elementwise:
        size = chunk_size(problem, config, prepared, len(index), held)
        if width is not None and problem.call.batch_axis is not None and config.chunk_size is None:
            size = min(size, -(-number // width))  # one block for each worker, at least
        if config.workers is not None or config.devices is not None:
            most = max(1, fitting(problem, config, prepared, number, held) // size)
    runs = wanted.runs or (index,)
    chunks = [run[start : start + size] for run in runs for start in range(0, len(run), size)]
    for start in range(0, len(chunks), most):
        yield [wanted.make(problem, chunk) for chunk in chunks[start : start + most]]


def outside(problem: Problem, output: Output, out: Any) -> Outside:
    """The user's array for the values, checked against f(x)."""
    outputs, inputs = output.layout, problem.call.layout
    if problem.backend.deferred:
        raise ValueError("out cannot be written inside jax.jit or on lazy arrays: leave it out")
    if len(outputs.leaves) != 1 or len(inputs.leaves) != 1 or inputs.has_complex or outputs.has_complex:
        raise ValueError(
            "out takes the Jacobian of one real array with respect to one real array: leave it out for structures of "
            "several, and for complex numbers"
        )
    shape = (*outputs.leaves[0].shape, *inputs.leaves[0].shape)
    if tuple(getattr(out, "shape", ())) != shape:
        raise ValueError(f"out must have the shape of the Jacobian, {shape}, got {getattr(out, 'shape', type(out))}")
    refused = not_writable(out)
    if refused:
        raise ValueError(
            f"out must be an array of floats that can be written by slices, such as a memory map: {refused}"
        )
    return Outside(problem, out, outputs.leaves[0].shape, inputs.leaves[0].shape)


def _nothing(lines: Lines, prepared: Prepared) -> Pushforward:
    """A chunk of which nothing is known: f is finite nowhere at x."""
    xp = lines.problem.xp
    base = lines.at_x(prepared.value)
    unknown = xp.full_like(base, float("nan")) + xp.zeros_like(lines.scale)[None, :]
    return Pushforward(unknown, unknown, xp.zeros_like(lines.scale), xp.zeros_like(unknown, dtype=xp.int16))


def _blamed(lines: Lines, prepared: Prepared, evaluator: Evaluator, pushed: Pushforward) -> Pushforward:
    """Rows where f(x) is not finite have no derivative; points left out for max_evaluations are UNRESOLVED."""
    return _marked(lines.problem.xp, lines.at_x(prepared.value), evaluator, pushed)


def _of_frames(problem: Problem, prepared: Prepared, evaluator: Evaluator) -> Prepared:
    """The same of what was learnt along the lines of a frame, if anything."""

    def marked(found: Pushforward | None) -> Pushforward | None:
        return None if found is None else _marked(problem.xp, prepared.value[:, None], evaluator, found)

    if prepared.second is None:
        return prepared
    return replace(prepared, first=marked(prepared.first), second=marked(prepared.second))


def _marked(xp: Namespace, value: Array, evaluator: Evaluator, pushed: Pushforward) -> Pushforward:
    status = pushed.status
    lost = ~xp.isfinite(value) & xp.ones_like(status, dtype=xp.bool)
    status = xp.where(lost, xp.full_like(status, int(Status.FAILED)), status)
    if evaluator.exhausted:
        failed = (status & int(Status.FAILED)) != 0
        status = xp.where(failed, xp.full_like(status, int(Status.UNRESOLVED)), status)
    columns = xp.where(lost, xp.full_like(pushed.columns, float("nan")), pushed.columns)
    error = xp.where(lost, xp.full_like(pushed.error, float("inf")), pushed.error)
    return Pushforward(columns, error, pushed.steps, status)


def _pinned(problem: Problem, dense: Dense) -> Dense:
    """Parameters whose bounds coincide get 0 and FIXED: where values come later they were displaced with the others."""
    if problem.lower is None or problem.upper is None:
        return dense
    xp, still = problem.xp, problem.lower == problem.upper
    columns, error, steps = (
        xp.where(still, xp.zeros_like(part), part) for part in (dense.columns, dense.error, dense.steps)
    )
    return Dense(columns, steps, error, xp.where(still, xp.full_like(dense.status, int(Status.FIXED)), dense.status))
