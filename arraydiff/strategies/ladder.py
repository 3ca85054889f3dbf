"""Rungs of one chunk of lines: evaluated, sorted, and, where they do not suffice, followed by better placed ones.

Scout and shoot: two scouts measure the length L over which f changes; further rungs go where truncation and noise balance.
The unknown of every difference quotient is L, not the order (Curtis & Reid, J. IMA 13 (1974) 121; Gill, Murray, Saunders &
Wright, SIAM J. Sci. Stat. Comput. 4 (1983) 310).  State is kept in arrays over the lines, never in a loop over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.directions import Lines
from arraydiff.noise import ABOVE_ROUNDING, ROUNDING_HIGH, Noise
from arraydiff.result import Status
from arraydiff.seam import Asking, Values
from arraydiff.strategies.tableau import OFF, TORN, Estimate, Rungs, extrapolate

KINK_RATIO = (
    0.7  # (E - f) / h at step 0 is the same from all rungs at a kink, and falls with their steps where f is smooth
)
RULES = 0.1  # of the bow of f at the lowest rung that tells: a kink makes most of it
CREDIT = 1e-3  # of half the jump at a kink: what else a bar may hold there, so that value ± bar are the two slopes
SPOILED = 1e3  # an inner derivative whose bar is more times that at x has met something there: a kink, an edge
SPOILED_SHARE = 1e-9  # of the largest value: bars below it spoil nothing
SMALL_OUTPUT = 1e-3  # of the mean size of all outputs
HIDDEN = 1e-3  # a bar beyond this share of the value, on lines whose scouts disagree, is UNRESOLVED


@dataclass(frozen=True)
class Ladder:
    """What is known of k lines."""

    lines: Lines
    side: int  # 0: central; +1, -1: one-sided
    rungs: Rungs
    cap: Array  # (k,) steps must stay below: the room inside the bounds, or where f failed
    failed_up: Array  # (k,) bool: f failed at the smallest step upwards of the last stage
    failed_down: Array
    best_value: Array  # (m, k) of the stage with the smallest bar: what counts where no stage resolved f
    best_error: Array
    noise: Noise  # beside f(x): (m, 1) or (1, k)
    stage: int = 0
    spent: bool = False  # max_evaluations is reached: the rungs there are have to do

    @property
    def backend(self) -> Backend:
        """The array library."""
        return self.lines.problem.backend

    @cached_property
    def size(self) -> Array:
        """(m, k) of the outputs, 1 where nothing was seen of one; near 0 they are small beside the others, not noisy."""
        xp, size = self.backend.xp, self.rungs.largest
        if size.shape[0] > 1:
            finite = xp.where(xp.isfinite(size), size, xp.zeros_like(size))
            size = xp.maximum(size, SMALL_OUTPUT * xp.sqrt(xp.mean(finite * finite, axis=0)))
        return xp.where(size > 0, size, xp.ones_like(size))


@dataclass(frozen=True)
class Finished:
    """The estimates of k lines."""

    value: Array  # (m, k)
    error: Array
    sigma: Array
    status: Array
    curvature: Array  # (m, k) f'' along the line
    steps: Array  # (k,)

    def in_units(self, unit: Array) -> Finished:
        """The same where one step is `unit` (k,) of the old ones."""
        value, error, curvature = self.value * unit, self.error * unit, self.curvature * unit * unit
        return replace(self, value=value, error=error, curvature=curvature, steps=self.steps / unit)


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
    old = ladder.rungs
    finite = xp.logical_or(xp.isfinite(values), xp.logical_not(xp.isfinite(old.base)))
    failed = xp.any(xp.logical_not(finite), axis=1)  # (points, k): f is finite at x but not there
    failed_up, failed_down = failed[-2 if ladder.side == 0 else -1, ...], failed[-1, ...]
    if ladder.side == 0:
        up, down = values[::2, ...], values[1::2, ...]
        step = (taken[::2, ...] - taken[1::2, ...]) / 2
        quotient, mean = (up - down) / (2 * step[:, None, :]), (up + down) / 2
        failed = failed[::2, ...] | failed[1::2, ...]
    else:
        step = ladder.side * taken
        quotient, mean = ladder.side * (values - old.base) / step[:, None, :], None
    seen = xp.where(xp.isfinite(values), values, xp.zeros_like(values) + old.base)
    largest = xp.maximum(old.largest, xp.max(xp.abs(seen), axis=0))
    span = xp.maximum(old.span, xp.max(seen, axis=0) - xp.min(seen, axis=0))
    cap = xp.minimum(ladder.cap, xp.min(xp.where(failed, step, xp.full_like(step, float("inf"))), axis=0))
    rungs = _sorted_in(ladder.backend, replace(old, largest=largest, span=span), step, quotient, mean)
    ladder = replace(ladder, rungs=rungs, cap=cap, failed_up=failed_up, failed_down=failed_down)
    return replace(ladder, stage=ladder.stage + 1, spent=spent)


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


def _sorted_in(backend: Backend, old: Rungs, step: Array, quotient: Array, mean: Array | None) -> Rungs:
    xp = backend.xp
    step = xp.concat([old.step, step])
    quotient = xp.concat([old.quotient, quotient])
    mean = None if mean is None or old.mean is None else xp.concat([old.mean, mean])
    count = int(step.shape[0])
    place = xp.arange(count, dtype=backend.index_dtype, device=backend.device)
    earlier = (place[None, :] < place[:, None])[:, :, None]
    mine, others = step[:, None, :], step[None, :, :]
    before = xp.logical_or(others < mine, xp.logical_and(others == mine, earlier))
    rank = xp.sum(xp.astype(before, backend.index_dtype), axis=1)  # (K, k)
    chosen = rank[None, :, :] == place[:, None, None]  # (K, K, k)

    def ordered(array: Array) -> Array:
        picked = chosen if array.ndim == 2 else chosen[:, :, None, :]
        return xp.sum(xp.where(picked, array[None, ...], xp.zeros_like(array)[None, ...]), axis=1)

    return replace(old, step=ordered(step), quotient=ordered(quotient), mean=None if mean is None else ordered(mean))


def begin(lines: Lines, side: int, value: Array, noise: Noise) -> Ladder:
    """A ladder without rungs."""
    backend, xp = lines.problem.backend, lines.problem.xp
    base = lines.at_x(value)
    nothing = xp.zeros_like(base) + xp.zeros_like(lines.scale)[None, :]
    empty = xp.zeros_like(nothing)[None, ...][:0, ...]
    rungs = Rungs(
        step=empty[:, 0, :],
        quotient=empty,
        mean=empty if side == 0 else None,
        base=base,
        reach=lines.reach,
        largest=nothing + xp.abs(base),
        span=nothing,
    )
    nowhere = xp.zeros_like(lines.scale, dtype=xp.bool)
    unknown = xp.full_like(nothing, float("inf"))
    return Ladder(
        lines, side, rungs, _room(backend, lines, side), nowhere, nowhere, nothing, unknown, noise.beside(lines)
    )


def _room(backend: Backend, lines: Lines, side: int) -> Array:
    """(k,) how far steps may go inside the bounds, next float included."""
    if lines.room is None:
        return backend.xp.full_like(lines.scale, float("inf"))
    up, down = lines.room
    room = backend.xp.minimum(up, down) if side == 0 else up if side > 0 else down
    return room * (1 + 4 * lines.problem.eps)  # caps are exclusive, bounds are not


def narrowed(ladder: Ladder, which: Sequence[int]) -> Ladder:
    """The same ladder for some of its lines."""
    xp, rungs = ladder.backend.xp, ladder.rungs
    chosen = ladder.backend.indices(which)

    def pick(array: Array | None) -> Array | None:
        if array is None or int(array.shape[-1]) == 1 != ladder.lines.count:
            return array
        return xp.take(array, chosen, axis=-1)

    picked = {item.name: pick(getattr(rungs, item.name)) for item in fields(Rungs)}
    own: dict[str, Any] = {
        name: pick(getattr(ladder, name)) for name in ("cap", "failed_up", "failed_down", "best_value", "best_error")
    }
    noise = ladder.noise
    noise = replace(noise, known=pick(noise.known), ceiling=pick(noise.ceiling), floor=pick(noise.floor))
    return replace(ladder, lines=ladder.lines.take(which), rungs=Rungs(**picked), noise=noise, **own)


def noted(ladder: Ladder, estimate: Estimate) -> Ladder:
    """The ladder with the estimate of this stage remembered, where its bar is the smallest so far."""
    xp = ladder.backend.xp
    better = estimate.error < ladder.best_error
    return replace(
        ladder,
        best_value=xp.where(better, estimate.value, ladder.best_value),
        best_error=xp.where(better, estimate.error, ladder.best_error),
    )


def finish(ladder: Ladder, estimate: Estimate, unresolved: Array | None = None) -> Finished:
    """Values, bars and flags as the rungs so far give them."""
    backend, rungs = ladder.backend, ladder.rungs
    xp = backend.xp
    half_jump, kinked = kink(ladder)
    value, error = estimate.value, estimate.error
    if unresolved is not None:
        earlier = xp.logical_and(unresolved[None, :], ladder.best_error < error)
        value, error = xp.where(earlier, ladder.best_value, value), xp.where(earlier, ladder.best_error, error)
    error = xp.where(kinked, half_jump + xp.minimum(error, CREDIT * half_jump), error)
    finite = xp.isfinite(value)
    status = _flag(backend, xp.logical_not(finite), Status.FAILED)
    status = status + _flag(backend, xp.logical_and(kinked, finite), Status.KINK)
    status = status + _flag(backend, _noisy(ladder, estimate), Status.NOISE_LIMITED)
    if unresolved is not None:
        lost = unresolved[None, :] & ((error > HIDDEN * xp.abs(value)) | _contradicted(ladder))
        error = xp.where(lost & _contradicted(ladder), xp.full_like(error, float("inf")), error)
        status = status + _flag(backend, xp.logical_and(lost, finite), Status.UNRESOLVED)
    if ladder.side != 0:
        status = status + xp.full_like(status, int(Status.ONE_SIDED))
    error = xp.where(finite, error, xp.full_like(error, float("inf")))
    value = xp.where(finite, value, xp.full_like(value, float("nan")))
    return Finished(value, error, estimate.sigma, status, _curvature(ladder, estimate), rungs.step[0, ...])


def finish_some(ladder: Ladder, estimate: Estimate, which: Sequence[int], widen: float) -> Finished:
    """The same for some of the lines, which share their noise with one another, not with those that go on."""
    if len(which) < ladder.lines.count:
        ladder = narrowed(ladder, which)
        estimate = extrapolate(ladder.backend, ladder.rungs, ladder.noise, widen)
    return finish(ladder, estimate)


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
