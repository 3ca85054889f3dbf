"""From a problem to its derivative: the strategy prepared once, chunks pushed forward, finished chunks collected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter

from arraydiff._typing import Array
from arraydiff.arguments import Layout
from arraydiff.backends import Backend
from arraydiff.collectors import Dense, DenseCollector
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Columns, Elementwise, Lines, Tangents, x_itself
from arraydiff.evaluator import Evaluator, lockstep
from arraydiff.problem import Output, Problem
from arraydiff.result import SMALL_SHARE, UNVOUCHED, Status
from arraydiff.seam import Prepared, Rounds, Strategy
from arraydiff.strategies import strategy_of
from arraydiff.strategies.hosted import hosted
from arraydiff.strategies.richardson import Richardson

STATE_BYTES = 2**25
"""What the ladders of one chunk may hold: far below any memory, large enough that Python costs little a direction."""

LADDER_ARRAYS = 60
"""Arrays (m,) a direction that a ladder of six rungs holds at once."""

BLOCK_BYTES = 2**22
"""A block of points for a vectorised f stays in a CPU's cache: blocks of 64 MiB took 2.3 times as long."""

DEVICE_BLOCK_BYTES = 2**25
"""On other devices an operation costs the same up to about 2**21 numbers: there a thousand parameters are one chunk."""

BLOCK_POINTS = 4
"""Points a direction in one stage."""

VOUCHED_BAR = 1e-3
"""Relative error bar up to which an entry is vouched for, unless error_tolerance says otherwise."""


@dataclass(frozen=True)
class Derivative:
    """J·V with all that is known of it, flat."""

    problem: Problem
    prepared: Prepared
    evaluator: Evaluator
    dense: Dense
    doubtful: Array  # (m, n) bool: entries that are not vouched for
    time: float

    @cached_property
    def doubts(self) -> dict[str, int]:
        """How many entries are not vouched for, by flag and by "bar"; the one read at the end, none where values come later."""
        backend, status = self.problem.backend, self.dense.status
        if backend.deferred:
            return {}
        (count,) = backend.read(_counts(self.problem, [self.doubtful]))
        if count == 0:
            return {}
        flagged = (status & int(UNVOUCHED)) != 0
        masks = {flag.name or "": (status & int(flag)) != 0 for flag in UNVOUCHED} | {"bar": self.doubtful & ~flagged}
        read = backend.read(_counts(self.problem, list(masks.values())))
        return {name: number for name, number in zip(masks, read, strict=True) if number}

    @property
    def output(self) -> Output:
        """What f gave at x."""
        assert self.evaluator.output is not None
        return self.evaluator.output


MakeLines = Callable[[Problem, Sequence[int]], Lines]


def columns_of(problem: Problem, index: Sequence[int]) -> Lines:
    """Identity columns."""
    return Columns(problem, tuple(index))


def elementwise(problem: Problem, index: Sequence[int]) -> Lines:
    """All parameters at once."""
    return Elementwise(problem, tuple(index))


def differentiate(
    problem: Problem,
    config: DifferentiationConfig,
    index: Sequence[int],
    make: MakeLines = columns_of,
    size: int | None = None,
    check: Callable[[Backend, Layout], None] | None = None,
    strategy: Strategy | None = None,
) -> Derivative:
    """The derivative along the parameters `index` of `size` in all (None: n), by the strategy of the config unless given one.

    `check` sees the structure of f(x) before another point is evaluated.
    """
    evaluator = Evaluator(problem.call, config.workers, config.max_evaluations, check)
    return evaluator.drive(derivation(problem, config, index, evaluator, make, size, strategy))


def derivation(
    problem: Problem,
    config: DifferentiationConfig,
    index: Sequence[int],
    evaluator: Evaluator,
    make: MakeLines = columns_of,
    size: int | None = None,
    strategy: Strategy | None = None,
) -> Rounds[Derivative]:
    """As `differentiate`, asking for its rounds: the evaluator counts them, whoever evaluates."""
    started = perf_counter()
    if problem.backend.traced and not (config.fixed_stages or config.method is DifferentiationMethod.COMPLEX_STEP):
        problem.backend.refuse(f"method={config.method.value!r}")
    strategy = strategy or (strategy_of(config) if index else Richardson())  # which evaluates f at x, and no more
    strategy, problem = hosted(strategy, problem.backend), replace(problem, directions=len(index))
    (prepared,) = yield from lockstep([strategy.prepare(problem, config)])
    value = prepared.value if make is not elementwise else prepared.value[:1]
    collector = DenseCollector(problem, value, problem.n if size is None else size, index)
    some_finite, all_finite = _finite(problem, prepared)
    if some_finite:
        yield from _push(problem, config, prepared, collector, index, make)
    if evaluator.failures and not evaluator.succeeded:
        raise evaluator.failures[0].error
    dense = collector.finish()
    if not all_finite or evaluator.exhausted:
        dense = _blamed(problem, prepared, evaluator, dense, collector)
    if problem.backend.deferred and size is None:
        dense = _pinned(problem, dense)
    dense = Dense(*problem.backend.computed(dense.columns, dense.error, dense.status, dense.steps))
    doubtful = _doubtful(problem, config, dense, size is None)
    return Derivative(problem, prepared, evaluator, dense, doubtful, perf_counter() - started)


def _push(
    problem: Problem,
    config: DifferentiationConfig,
    prepared: Prepared,
    collector: DenseCollector,
    index: Sequence[int],
    make: MakeLines,
) -> Rounds[None]:
    """All chunks: one after the other, or in lockstep where evaluations run in parallel or on several devices."""
    chunks = _chunks(problem, config, prepared, index, make)
    if config.workers is None and config.devices is None:
        for lines in chunks:
            collector.consume(*(yield from lockstep([prepared.pushforward(lines)])))
    else:
        for pushed in (yield from lockstep(prepared.pushforward(lines) for lines in chunks)):
            collector.consume(pushed)


def along(
    problem: Problem,
    config: DifferentiationConfig,
    tangent: Array,
    check: Callable[[Backend, Layout], None] | None = None,
) -> Derivative:
    """J·v for one tangent (n,)."""

    def make(problem: Problem, _index: Sequence[int]) -> Lines:
        return Tangents(problem, tangent[:, None])

    return differentiate(problem, config, [0], make, size=1, check=check)


def value_at(problem: Problem) -> Output:
    """f(x) alone."""
    evaluator = Evaluator(problem.call)
    evaluator.evaluate([x_itself(problem)])
    assert evaluator.output is not None
    return evaluator.output


def _finite(problem: Problem, prepared: Prepared) -> tuple[bool, bool]:
    """Whether any, and whether all outputs are finite at x: the one read after f(x), where the strategy has not counted them."""
    xp, count, m = problem.xp, prepared.finite, int(prepared.value.shape[0])
    if problem.backend.deferred:
        return m > 0, False
    if count is None:
        (count,) = problem.backend.read(_counts(problem, [xp.isfinite(prepared.value)]))
    return count > 0, count == m


def _chunks(
    problem: Problem, config: DifferentiationConfig, prepared: Prepared, index: Sequence[int], make: MakeLines
) -> Iterator[Lines]:
    size = config.chunk_size or _chunk_size(problem, int(prepared.value.shape[0]))
    if config.devices and config.chunk_size is None:
        size = min(size, -(-len(index) // len(config.devices)))  # one chunk for each, at least
    if make is elementwise:
        size = len(index)
    for start in range(0, len(index), size):
        yield make(problem, index[start : start + size])


def _chunk_size(problem: Problem, m: int) -> int:
    number = 8
    fits = STATE_BYTES // (number * LADDER_ARRAYS * max(m, 1))
    if problem.call.batch_axis is not None:
        most = BLOCK_BYTES if problem.backend.on_cpu else DEVICE_BLOCK_BYTES
        fits = min(fits, most // (number * BLOCK_POINTS * (problem.n + m)))
    return max(1, fits)


def _blamed(
    problem: Problem, prepared: Prepared, evaluator: Evaluator, dense: Dense, collector: DenseCollector
) -> Dense:
    """Rows where f(x) is not finite have no derivative; points left out for max_evaluations are UNRESOLVED."""
    xp = problem.xp
    value = prepared.value[:, None] if dense.columns.shape[0] == prepared.value.shape[0] else prepared.value[None, :]
    lost = xp.logical_not(xp.isfinite(value)) & xp.logical_not(collector.still())[None, :]
    status = xp.where(lost, xp.full_like(dense.status, int(Status.FAILED)), dense.status)
    if evaluator.exhausted:
        failed = (status & int(Status.FAILED)) != 0
        status = xp.where(failed, xp.full_like(status, int(Status.UNRESOLVED)), status)
    columns = xp.where(lost, xp.full_like(dense.columns, float("nan")), dense.columns)
    error = xp.where(lost, xp.full_like(dense.error, float("inf")), dense.error)
    return Dense(columns, error, status, dense.steps)


def _pinned(problem: Problem, dense: Dense) -> Dense:
    """Parameters whose bounds coincide get 0 and FIXED: where values come later they were displaced with the others."""
    if problem.lower is None or problem.upper is None:
        return dense
    xp, still = problem.xp, problem.lower == problem.upper
    columns, error, steps = (
        xp.where(still, xp.zeros_like(part), part) for part in (dense.columns, dense.error, dense.steps)
    )
    return Dense(columns, error, xp.where(still, xp.full_like(dense.status, int(Status.FIXED)), dense.status), steps)


def _doubtful(problem: Problem, config: DifferentiationConfig, dense: Dense, per_parameter: bool) -> Array:
    """Which entries are not vouched for."""
    xp = problem.xp
    tolerance = config.error_tolerance or VOUCHED_BAR
    size = xp.abs(dense.columns)
    if per_parameter and problem.n:
        scale = problem.scale[None, :]
        effect = _finite_or_zero(problem, size * scale)
        size = xp.maximum(size, SMALL_SHARE * xp.max(effect, axis=1, keepdims=True) / scale)
    flagged = (dense.status & int(UNVOUCHED)) != 0
    still = (dense.columns == 0) & xp.isfinite(dense.error)  # f did not react at any step tried: a true 0
    return flagged | ~(still | (dense.error <= tolerance * size))


def _finite_or_zero(problem: Problem, array: Array) -> Array:
    return problem.xp.where(problem.xp.isfinite(array), array, problem.xp.zeros_like(array))


def _counts(problem: Problem, masks: Sequence[Array]) -> Array:
    xp = problem.xp
    return xp.stack([xp.sum(xp.astype(mask, xp.int32)) for mask in masks])
