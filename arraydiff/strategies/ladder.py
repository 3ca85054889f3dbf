"""Rungs of one chunk of lines: evaluated, sorted, and, where they do not suffice, followed by better placed ones.

Scout and shoot: two scouts measure the length L over which f changes; further rungs go where truncation and noise balance.
The unknown of every difference quotient is L, not the order (Curtis & Reid, J. IMA 13 (1974) 121; Gill, Murray, Saunders &
Wright, SIAM J. Sci. Stat. Comput. 4 (1983) 310).  State is kept in arrays over the lines, never in a loop over them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.directions import Lines
from arraydiff.noise import ABOVE_ROUNDING, ROUNDING_HIGH, Noise
from arraydiff.result import Status
from arraydiff.rows import Rows, by_rows, cut, sample_of
from arraydiff.seam import Asking, Values
from arraydiff.strategies.stages import SMALL_OUTPUT, Met, Stage, met, order_of, ordered, rungs_of
from arraydiff.strategies.tableau import OFF, TORN, Estimate, Falls, Rungs, extrapolate

KINK_RATIO = (
    0.7  # (E - f) / h at step 0 is the same from all rungs at a kink, and falls with their steps where f is smooth
)
RULES = 0.1  # of the bow of f at the lowest rung that tells: a kink makes most of it
CREDIT = 1e-3  # of half the jump at a kink: what else a bar may hold there, so that value ± bar are the two slopes
SPOILED = 1e3  # an inner derivative whose bar is more times that at x has met something there: a kink, an edge
SPOILED_SHARE = 1e-9  # of the largest value: bars below it spoil nothing
HIDDEN = 1e-3  # a bar beyond this share of the value, on lines whose scouts disagree, is UNRESOLVED
STAYS = 0.9  # of how far f(x) stands apart, at the next smaller step: of a bend a quarter remains, of a kink a half


@dataclass(frozen=True)
class Ladder:
    """What is known of k lines."""

    lines: Lines
    side: int  # 0: central; +1, -1: one-sided
    base: Array  # (m, 1) or (1, k): f(x)
    cap: Array  # (k,) steps must stay below: the room inside the bounds, or where f failed
    noise: Noise  # beside f(x): (m, 1) or (1, k)
    stages: tuple[Stage, ...] = ()
    met: tuple[Met, ...] = ()  # what all outputs say of each stage
    best: tuple[Array, Array] | None = None  # (m, k) value and bar of the stage with the smallest bar, so far
    spent: bool = False  # max_evaluations is reached: the rungs there are have to do

    @property
    def backend(self) -> Backend:
        """The array library."""
        return self.lines.problem.backend

    @property
    def stage(self) -> int:
        """How many stages have been climbed."""
        return len(self.stages)

    @cached_property
    def slabs(self) -> list[Rows]:
        """The outputs in slabs."""
        return self.lines.slabs(int(self.base.shape[0]))

    @cached_property
    def order(self) -> Array:
        """(K, k) the rungs by their steps."""
        return order_of(self.backend, [stage.step for stage in self.stages])

    @cached_property
    def rungs(self) -> Rungs:
        """Of all these outputs: many are cut into slabs before."""
        if not self.stages:
            return self._bare
        return rungs_of(self.stages, self.order, self.base, self.lines.reach)

    @property
    def _bare(self) -> Rungs:
        xp, lines = self.backend.xp, self.lines
        nothing = xp.zeros_like(self.base) + xp.zeros_like(lines.scale)[None, :]
        empty = nothing[None, ...][:0, ...]
        mean = empty if self.side == 0 else None
        return Rungs(empty[:, 0, :], empty, mean, self.base, lines.reach, nothing + xp.abs(self.base), nothing)

    @cached_property
    def usable(self) -> Array:
        """(K, k) rungs at which f was finite wherever it is finite at x."""
        return ordered(self.backend, self.order, [seen.usable for seen in self.met])

    @property
    def still(self) -> Array:
        """(k,) bool: no output has reacted at all."""
        xp, moved = self.backend.xp, self.met[0].moved
        for seen in self.met[1:]:
            moved = xp.logical_or(moved, seen.moved)
        return xp.logical_not(moved)

    @property
    def failed_up(self) -> Array:
        """(k,) bool: f failed at the smallest step upwards of the last stage."""
        return self.met[-1].failed[-2 if self.side == 0 else -1, ...]

    @property
    def failed_down(self) -> Array:
        """(k,) bool: and downwards."""
        return self.met[-1].failed[-1, ...]

    @cached_property
    def size(self) -> Array:
        """(m, k) of the outputs, 1 where nothing was seen of one; near 0 they are small beside the others, not noisy."""
        xp, size = self.backend.xp, self.rungs.largest
        if size.shape[0] > 1:
            finite = xp.where(xp.isfinite(size), size, xp.zeros_like(size))
            size = xp.maximum(size, SMALL_OUTPUT * xp.sqrt(xp.mean(finite * finite, axis=0)))
        return xp.where(size > 0, size, xp.ones_like(size))

    def cut(self, rows: Rows) -> Ladder:
        """The ladder of some outputs."""
        if rows is None:
            return self
        best = None if self.best is None else (cut(self.best[0], rows), cut(self.best[1], rows))
        noise = _of_outputs(self.noise, lambda array: cut(array, rows))
        stages = tuple(stage.cut(rows) for stage in self.stages)
        return replace(self, base=cut(self.base, rows), noise=noise, stages=stages, best=best)

    def sampled(self) -> Ladder:
        """Outputs that stand for all of them where rungs are placed: evenly spaced ones, and those that reacted most."""
        if len(self.slabs) == 1:
            return self
        xp, lively = self.backend.xp, [place for seen in self.met for place in seen.lively]
        places = xp.concat([sample_of(self.backend, int(self.base.shape[0])), *lively])
        noise = _of_outputs(self.noise, lambda array: xp.take(array, places, axis=0))
        stages = tuple(stage.picked(places) for stage in self.stages)
        return replace(self, base=xp.take(self.base, places, axis=0), noise=noise, stages=stages)

    def knowing(self, **more: Any) -> Ladder:
        """The same rungs, which need not be sorted again, with more known of them."""
        ladder = replace(self, **more)
        ladder.__dict__.update(
            {name: self.__dict__[name] for name in ("order", "rungs", "usable") if name in self.__dict__}
        )
        return ladder

    def before(self, stage: int) -> Ladder:
        """As it was after so many stages."""
        return replace(self, stages=self.stages[:stage], met=self.met[:stage])


def _of_outputs(noise: Noise, part: Callable[[Array], Array]) -> Noise:
    """The levels of some outputs, or lines."""
    known, ceiling, floor = (None if a is None else part(a) for a in (noise.known, noise.ceiling, noise.floor))
    return replace(noise, known=known, ceiling=ceiling, floor=floor)


@dataclass(frozen=True)
class Finished:
    """The estimates of k lines."""

    value: Array  # (m, k)
    error: Array
    status: Array
    steps: Array  # (k,)


@dataclass(frozen=True)
class Witness(Finished):
    """With what else a certificate wants to know."""

    sigma: Array  # (m, k)
    curvature: Array  # (m, k) f'' along the line

    def in_units(self, unit: Array) -> Witness:
        """The same where one step is `unit` (k,) of the old ones."""
        value, error, curvature = self.value * unit, self.error * unit, self.curvature * unit * unit
        return replace(self, value=value, error=error, curvature=curvature, steps=self.steps / unit)

    def cut(self, rows: Rows) -> Witness:
        """Of some outputs."""
        parts = (self.value, self.error, self.status, self.sigma, self.curvature)
        value, error, status, sigma, curvature = (cut(part, rows) for part in parts)
        return Witness(value, error, status, self.steps, sigma, curvature)


def climb(ladder: Ladder, steps: Array) -> Asking[Ladder]:
    """Evaluate f at new rungs, steps (r, k), and sort them in; those that max_evaluations cuts off are left out."""
    lines, xp = ladder.lines, ladder.backend.xp
    offsets = ladder.side * steps
    if ladder.side == 0:
        offsets = xp.reshape(xp.stack([steps, -steps], axis=1), (2 * steps.shape[0], lines.count))
    given = yield lines.points(offsets)
    values, taken = _sound(ladder, lines, given), lines.taken(offsets)
    spent = given.short > 0
    if spent:
        whole = _whole_rungs(ladder, lines.points_of(offsets) - given.short, offsets)
        if whole == 0 and ladder.stage > 0:
            return replace(ladder, spent=True)
        values, taken = values[: max(whole, 2), ...], taken[: max(whole, 2), :]
    stage = Stage(ladder.backend, ladder.side, taken, values, ladder.base)
    seen = met(stage, ladder.slabs)
    failed = seen.failed[::2, ...] | seen.failed[1::2, ...] if ladder.side == 0 else seen.failed
    cap = xp.min(xp.where(failed, stage.step, xp.full_like(stage.step, float("inf"))), axis=0)
    cap = xp.minimum(ladder.cap, cap)
    return replace(ladder, stages=(*ladder.stages, stage), met=(*ladder.met, seen), cap=cap, spent=spent)


def _whole_rungs(ladder: Ladder, evaluated: int, offsets: Array) -> int:
    """How many offsets, from the first, make rungs that are evaluated on every line."""
    rows = evaluated * int(offsets.shape[0]) // ladder.lines.points_of(offsets)
    return rows - rows % 2 if ladder.side == 0 else rows


def _sound(ladder: Ladder, lines: Lines, given: Values) -> Array:
    """(r, m, k) values; NaN where f is a derivative of ours that was far less sure of itself than at x."""
    values = lines.values(given)
    if given.noise is None or ladder.noise.known is None:
        return values
    xp, bars = ladder.backend.xp, lines.values(replace(given, at=given.noise))
    size = xp.max(xp.where(xp.isfinite(values), xp.abs(values), xp.zeros_like(values)))
    allowed = xp.maximum(SPOILED * ladder.noise.known, SPOILED_SHARE * size)
    return xp.where(bars > allowed, xp.full_like(values, float("nan")), values)


def begin(lines: Lines, side: int, value: Array, noise: Noise) -> Ladder:
    """A ladder without rungs."""
    return Ladder(lines, side, lines.at_x(value), _room(lines.problem.backend, lines, side), noise.beside(lines))


def _room(backend: Backend, lines: Lines, side: int) -> Array:
    """(k,) how far steps may go inside the bounds, next float included."""
    if lines.room is None:
        return backend.xp.full_like(lines.scale, float("inf"))
    up, down = lines.room
    room = backend.xp.minimum(up, down) if side == 0 else up if side > 0 else down
    return room * (1 + 4 * lines.problem.eps)  # caps are exclusive, bounds are not


def narrowed(ladder: Ladder, which: Sequence[int]) -> Ladder:
    """The same ladder for some of its lines."""
    xp, chosen = ladder.backend.xp, ladder.backend.indices(which)

    def pick(array: Array) -> Array:
        if int(array.shape[-1]) == 1 != ladder.lines.count:
            return array
        return xp.take(array, chosen, axis=-1)

    return replace(
        ladder,
        lines=ladder.lines.take(which),
        base=pick(ladder.base),
        cap=pick(ladder.cap),
        noise=_of_outputs(ladder.noise, pick),
        stages=tuple(stage.narrowed(pick) for stage in ladder.stages),
        met=tuple(seen.narrowed(pick) for seen in ladder.met),
        best=None if ladder.best is None else (pick(ladder.best[0]), pick(ladder.best[1])),
    )


def noted(ladder: Ladder, estimate: Estimate) -> Ladder:
    """The ladder with the estimate of this stage remembered, where its bar is the smallest so far."""
    xp = ladder.backend.xp
    if ladder.best is None:
        told = xp.where(xp.isnan(estimate.error), xp.full_like(estimate.error, float("inf")), estimate.error)
        return ladder.knowing(best=(estimate.value, told))
    value, error = ladder.best
    better = estimate.error < error
    return ladder.knowing(best=(xp.where(better, estimate.value, value), xp.where(better, estimate.error, error)))


Ending = Callable[[Ladder, Estimate, Array | None], Finished]


def finish(ladder: Ladder, estimate: Estimate, unresolved: Array | None = None) -> Finished:
    """Values, bars and flags as the rungs so far give them."""
    backend, rungs = ladder.backend, ladder.rungs
    xp = backend.xp
    half_jump, kinked = kink(ladder)
    value, error = estimate.value, estimate.error
    if unresolved is not None and ladder.best is not None:
        best_value, best_error = ladder.best
        earlier = xp.logical_and(unresolved[None, :], best_error < error)
        value, error = xp.where(earlier, best_value, value), xp.where(earlier, best_error, error)
    error = xp.where(kinked, half_jump + xp.minimum(error, CREDIT * half_jump), error)
    finite = xp.isfinite(value)
    status = _flag(backend, xp.logical_not(finite), Status.FAILED)
    status = status + _flag(backend, xp.logical_and(kinked, finite), Status.KINK)
    status = status + _flag(backend, _noisy(ladder, estimate), Status.NOISE_LIMITED)
    untold = isolated = _isolated(ladder) & finite & ~kinked
    error = xp.where(isolated, xp.maximum(error, half_jump), error)
    if unresolved is not None:
        lost = unresolved[None, :] & ((error > HIDDEN * xp.abs(value)) | _contradicted(ladder))
        error = xp.where(lost & _contradicted(ladder), xp.full_like(error, float("inf")), error)
        untold = isolated | (lost & finite)
    status = status + _flag(backend, untold, Status.UNRESOLVED)
    if ladder.side != 0:
        status = status + xp.full_like(status, int(Status.ONE_SIDED))
    error = xp.where(finite, error, xp.full_like(error, float("inf")))
    value = xp.where(finite, value, xp.full_like(value, float("nan")))
    return Finished(value, error, status, rungs.step[0, ...])


def witness_of(ladder: Ladder, estimate: Estimate, unresolved: Array | None = None) -> Witness:
    """The same, with noise and curvature."""
    done = finish(ladder, estimate, unresolved)
    curvature = _curvature(ladder, estimate)
    return Witness(done.value, done.error, done.status, done.steps, estimate.sigma, curvature)


def finished(
    ladder: Ladder, estimate: Estimate, widen: float, ending: Ending, unresolved: Array | None = None
) -> Finished:
    """The end of a ladder, slab by slab; the estimate is that of its sample, by which all of its outputs fall."""
    if len(ladder.slabs) == 1:
        return ending(ladder, estimate, unresolved)
    xp, read = ladder.backend.xp, ladder.backend.read
    if unresolved is not None and not any(read(xp.astype(unresolved, xp.int8))):
        unresolved = None
    kind: list[type[Finished]] = []
    steps: list[Array] = []
    earlier = [] if unresolved is None else _falls_before(ladder, widen)

    def end(rows: Rows) -> list[Array]:
        part = ladder.cut(rows)
        for stage, falls in enumerate(earlier, start=1):  # the best of the stages, made again: it is seldom wanted
            then = part.before(stage)
            part = noted(part, extrapolate(then.backend, then.rungs, then.noise, widen, falls))
        done = ending(part, extrapolate(part.backend, part.rungs, part.noise, widen, estimate.falls), unresolved)
        kind[:], steps[:] = [type(done)], [done.steps]
        return [getattr(done, item.name) for item in fields(done) if item.name != "steps"]

    parts = by_rows(ladder.backend, ladder.slabs, end)
    names = [item.name for item in fields(kind[0]) if item.name != "steps"]
    return kind[0](steps=steps[0], **dict(zip(names, parts, strict=True)))


def _falls_before(ladder: Ladder, widen: float) -> list[Falls]:
    """By what changes fell after each stage."""
    sample = ladder.sampled()
    states = [sample.before(stage) for stage in range(1, ladder.stage)]
    return [extrapolate(then.backend, then.rungs, then.noise, widen).falls for then in states]


def finish_some(ladder: Ladder, estimate: Estimate, which: Sequence[int], widen: float, ending: Ending) -> Finished:
    """The same for some of the lines, which share their noise with one another, not with those that go on."""
    if len(which) < ladder.lines.count:
        ladder = narrowed(ladder, which)
        sample = ladder.sampled()
        estimate = extrapolate(sample.backend, sample.rungs, sample.noise, widen)
    return finished(ladder, estimate, widen, ending)


def _contradicted(ladder: Ladder) -> Array:
    """Whether the two smallest rungs have nothing in common: steps beyond the length of f tell nothing of its slope."""
    xp, rungs = ladder.backend.xp, ladder.rungs
    if int(rungs.step.shape[0]) < 2:
        return xp.zeros_like(rungs.largest, dtype=xp.bool)
    low, high = rungs.quotient[0, ...], rungs.quotient[1, ...]
    return xp.abs(high - low) > TORN * xp.minimum(xp.abs(low), xp.abs(high))


def _flag(backend: Backend, where: Array, flag: Status) -> Array:
    return backend.xp.astype(where, backend.xp.int16) * int(flag)


def kink(ladder: Ladder) -> tuple[Array, Array]:
    """Half the difference of the one-sided derivatives, and whether it stays as the step falls.

    (E - f(x)) / h is that half at a kink, and proportional to h where f is smooth. With three rungs it is extrapolated to
    step 0, so that what bends beside the kink drops out; the lowest rungs that rise above rounding decide.
    """
    xp, rungs = ladder.backend.xp, ladder.rungs
    none, count = xp.zeros_like(rungs.largest, dtype=xp.bool), int(rungs.step.shape[0])
    if rungs.mean is None or count < 2:
        return xp.zeros_like(rungs.largest), none
    step, level = rungs.step[:, None, :], ABOVE_ROUNDING * _level(ladder)
    bow = rungs.mean - rungs.base
    halves = bow / step
    if count > 2:
        halves = (halves[:-1, ...] * step[1:, ...] - halves[1:, ...] * step[:-1, ...]) / (
            step[1:, ...] - step[:-1, ...]
        )
    half, kinked, decided = xp.abs(halves[0, ...]), none, none
    for i in range(max(count - 2, 1)):
        low, high, here = halves[i, ...], halves[i + 1, ...], xp.abs(halves[i, ...])
        steady = (low * high > 0) & (here >= KINK_RATIO * xp.abs(high)) & (here * KINK_RATIO <= xp.abs(high))
        mean, next_mean = rungs.quotient[i, ...], rungs.quotient[i + 1, ...]
        level_mean = xp.abs(next_mean - mean) <= OFF * (xp.abs(mean) + here)  # steps beyond the length of f look anyhow
        first = ~decided & (xp.abs(bow[i, ...]) > level)
        rules = (here * step[i, ...] > level) & (here * step[i, ...] > RULES * xp.abs(bow[i, ...]))
        kinked = kinked | (first & steady & level_mean & rules)
        half = xp.where(first, here, half)
        decided = decided | first
    return half, kinked


def _isolated(ladder: Ladder) -> Array:
    """Whether f(x) is a value for itself: it stands apart from what f is beside it however small the step."""
    xp, rungs = ladder.backend.xp, ladder.rungs
    count = min(int(rungs.step.shape[0]), 3)
    if rungs.mean is None or count < 2:
        return xp.zeros_like(rungs.largest, dtype=xp.bool)
    bow = xp.abs(rungs.mean - rungs.base)
    isolated = bow[0, ...] > ABOVE_ROUNDING * _level(ladder)
    for i in range(count - 1):
        isolated = isolated & (bow[i, ...] >= STAYS * bow[i + 1, ...])
    return isolated


def _level(ladder: Ladder) -> Array:
    """(m, k) the noise of f: known, or rounding at its largest."""
    xp, rungs, noise = ladder.backend.xp, ladder.rungs, ladder.noise
    rounding = ROUNDING_HIGH * noise.eps * (rungs.largest + rungs.reach * xp.abs(rungs.quotient[0, ...]))
    if noise.known is None:
        return rounding
    known = noise.known + xp.zeros_like(rounding)
    return xp.where(known > rounding, known, rounding)  # NaN is not known


def _noisy(ladder: Ladder, estimate: Estimate) -> Array:
    xp, rungs = ladder.backend.xp, ladder.rungs
    rounding = ladder.noise.eps * (rungs.largest + rungs.reach * xp.abs(rungs.quotient[0, ...]))
    loud = estimate.sigma > ABOVE_ROUNDING * rounding
    rules = estimate.error - estimate.truncation >= estimate.truncation
    return xp.logical_and(xp.logical_and(loud, rules), estimate.noise_found)


def _curvature(ladder: Ladder, estimate: Estimate) -> Array:
    """f'' along each line, from the largest rung that is resolved well enough."""
    xp, rungs = ladder.backend.xp, ladder.rungs
    if rungs.mean is None:
        return xp.abs(rungs.quotient[-1, ...] - rungs.quotient[0, ...]) / rungs.step[-1, ...]
    curvature = 2 * xp.abs(rungs.mean - rungs.base) / (rungs.step * rungs.step)[:, None, :]
    best = curvature[0, ...]
    for i in range(1, int(rungs.step.shape[0])):
        close = xp.abs(rungs.quotient[i, ...] - estimate.value) <= OFF * xp.abs(estimate.value)
        best = xp.where(xp.logical_and(close, xp.isfinite(curvature[i, ...])), curvature[i, ...], best)
    return xp.where(xp.isfinite(best), best, xp.zeros_like(best))
