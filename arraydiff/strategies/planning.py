"""Where the next rungs of a ladder go: the length over which f changes, and the balance of truncation and noise."""

from __future__ import annotations

from dataclasses import dataclass

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig
from arraydiff.noise import ABOVE_ROUNDING
from arraydiff.strategies.ladder import Ladder, kink
from arraydiff.strategies.tableau import NOISE, NOISE_KNOWN, OFF, Estimate

SCOUT = {52: (-8, -11), 23: (-5, -7), 0: (-3, -4)}  # log2 of the scouts over the scale, by bits of the mantissa
SIDED = 4  # rungs a stage of a one-sided ladder: their series is in h, not h²
SIDED_GAIN = 8.6  # of the window (1, 2, 4, 8) h, one-sided, times h
PAIR_GAIN = 0.95  # of the window (1, 2) h, central, times h
UNRESOLVED = 0.2  # scouts that differ by more saw different functions
UNRESOLVED_SIDED = 0.3
SHRINK = 7  # log2: unresolved scouts go down by this, then by two more each time
SAFETY = 0.7  # of L: a step too large costs a high power, one too small costs linearly
CANDIDATES = 23  # powers of two below L that are compared
FARTHEST = 10  # log2: rungs go up by no more at once
BALANCE = 0.36  # a pair (h, 2h) balances truncation and noise at (BALANCE noise / |f|)^(1/5)
BALANCE_SIDED = 0.13  # the same of (1, 2, 4, 8) h on one side
LOUDEST = 0.3  # noise over |f| beyond which steps grow no more
SEEN = 3.0  # of sigma: less than that is not seen
SHRINK_NOISY = 16.0  # by how much steps go down where noise is known and f bends far above it
BENT = 0.05  # of |f|: how far
GAIN_WANTED = 0.7  # of the bar: a stage that promises less is not worth it
GAIN_NOISY = 1 / 3  # the same where the noise is known
STOP = 2.0  # eps: no bar gets below
KINKED_SHARE = 0.5  # of the outputs: of thousands that are not resolved some look like kinks
NOTHING_SEEN = 5  # log2: steps of a line on which f has not moved at all

GO_ON, DONE, UPWARDS, DOWNWARDS = range(4)


@dataclass(frozen=True)
class Plan:
    """What each line does next."""

    codes: Array  # (k,) int: GO_ON, DONE, or one-sided UPWARDS, DOWNWARDS
    steps: Array  # (r, k)
    unresolved: Array  # (k,) bool


def scouts(ladder: Ladder, config: DifferentiationConfig) -> Array:
    """(r, k) the first rungs: two, or where noise rules the one that it wants, which says where the other one goes."""
    xp, lines, noise = ladder.backend.xp, ladder.lines, ladder.noise
    bits = next(bits for bits in SCOUT if noise.eps <= 2.0 ** -(bits - 1) or bits == 0)
    top, bottom = SCOUT[bits]
    first, ratio = lines.scale * 2.0**top, 2.0 ** (bottom - top)
    share = _known_share(ladder)
    if ladder.side != 0:
        balanced = 2.0 ** (SIDED - 1) * (BALANCE_SIDED * share) ** 0.2 * lines.scale
        return _within(ladder, config, xp.maximum(first, balanced), [2.0**-i for i in range(SIDED)])
    if noise.known is None:
        return _within(ladder, config, first, [1.0, ratio])
    balanced = (BALANCE * xp.maximum(share, xp.full_like(share, noise.eps))) ** 0.2 * lines.scale
    if noise.loud and config.max_iterations > 1:
        return _within(ladder, config, balanced, [1.0])
    quiet = _within(ladder, config, first, [1.0, ratio])
    return xp.where(_loud(ladder)[None, :], _within(ladder, config, 2 * balanced, [1.0, 0.5]), quiet)


def _known_share(ladder: Ladder) -> Array:
    """(k,) the noise that is known, over the sizes of the outputs, at most LOUDEST."""
    xp, known = ladder.backend.xp, ladder.noise.known
    if known is None:
        return xp.zeros_like(ladder.cap)
    share = _together(ladder, known + xp.zeros_like(ladder.rungs.largest))
    return xp.minimum(share, xp.full_like(share, LOUDEST))


def _loud(ladder: Ladder) -> Array:
    """(k,) whether steps are planned for a noise that is known beforehand."""
    return _known_share(ladder) > ABOVE_ROUNDING * ladder.noise.eps


def _second_scout(ladder: Ladder, config: DifferentiationConfig) -> Plan:
    """Where the first scout points to: towards the length of f if it is short, away from a noise that hides all."""
    xp, rungs, mean = ladder.backend.xp, ladder.rungs, ladder.rungs.mean
    assert mean is not None
    step, noise = rungs.step[0, ...], _known_share(ladder)
    share = step / ladder.lines.scale
    bow = _together(ladder, mean[0, ...] - rungs.base)
    move = _together(ladder, rungs.quotient[0, ...]) * step
    unseen = bow < SEEN * noise
    straight = xp.where(share > 0.125, 2 * xp.ones_like(share), 4 * xp.ones_like(share))  # to half the scale
    factor = xp.where(unseen, straight, 2 * xp.ones_like(share))
    factor = xp.where(unseen & (move < SEEN * noise), 2.0**NOTHING_SEEN * xp.ones_like(share), factor)
    short = (bow > 4 * share * share) & (bow > 2 * SEEN * noise)
    factor = xp.where(short, xp.ones_like(share) / SHRINK_NOISY, factor)
    factor = xp.where(ladder.usable[0, ...], factor, xp.full_like(share, 2.0**-SHRINK))
    quiet = ~_loud(ladder)
    factor = xp.where(quiet, 2.0**3 * xp.ones_like(share), factor)
    nowhere = xp.zeros_like(share, dtype=xp.bool)
    steps = _distinct(ladder, _within(ladder, config, step * factor, [1.0]), config)
    return Plan(xp.astype(nowhere, xp.int8) * DONE, steps, nowhere)


def _within(ladder: Ladder, config: DifferentiationConfig, top: Array, ratios: list[float]) -> Array:
    """Powers of two at `ratios` below `top`, inside caps, limits and the resolution of x."""
    xp = ladder.backend.xp
    cap = ladder.cap if config.max_step is None else xp.minimum(ladder.cap, xp.full_like(ladder.cap, config.max_step))
    bounded = xp.isfinite(cap)
    limit = xp.floor(xp.log2(xp.where(bounded, cap, xp.ones_like(cap))))
    exponent = xp.round(xp.log2(top))
    exponent = xp.where(bounded, xp.minimum(exponent, limit), exponent)
    steps = xp.stack([2.0 ** (exponent + float(round(_log2(ratio)))) for ratio in ratios])
    least = _least(ladder, config)
    floors = xp.stack([least * (ratio / ratios[-1]) for ratio in ratios])  # distinct, also where all are too small
    steps = xp.maximum(steps, floors)
    return steps if config.max_step is None else xp.minimum(steps, xp.full_like(steps, config.max_step))


def _least(ladder: Ladder, config: DifferentiationConfig) -> Array:
    """(k,) what x resolves, and the user allows."""
    least = 4 * ladder.lines.problem.eps * ladder.lines.reach
    if config.min_step is None:
        return least
    return ladder.backend.xp.maximum(least, ladder.backend.xp.full_like(least, config.min_step))


def _log2(ratio: float) -> int:
    return ratio.as_integer_ratio()[0].bit_length() - ratio.as_integer_ratio()[1].bit_length()


def _together(ladder: Ladder, entries: Array) -> Array:
    """(k,) root mean square over the outputs, each in units of its own size; what failed counts nothing."""
    xp = ladder.backend.xp
    share = xp.abs(entries) / ladder.size
    share = xp.where(xp.isfinite(share), share, xp.zeros_like(share))
    return xp.sqrt(xp.mean(share * share, axis=0))


def _share(ladder: Ladder, mask: Array) -> Array:
    """(k,) of the outputs."""
    return ladder.backend.xp.mean(ladder.backend.xp.astype(mask, ladder.rungs.step.dtype), axis=0)


def plan(ladder: Ladder, estimate: Estimate, config: DifferentiationConfig) -> Plan:
    """What the rungs so far say."""
    xp, noise = ladder.backend.xp, ladder.noise
    if int(ladder.rungs.step.shape[0]) == 1:
        return _second_scout(ladder, config)
    shape = _shape_central(ladder, estimate) if ladder.side == 0 else _shape_sided(ladder, estimate)
    bar = _together(ladder, estimate.error)
    value = _together(ladder, estimate.value)
    sigma = _together(ladder, estimate.planning)
    steps, promised = _balance(ladder, shape, sigma, config)
    found = _together(ladder, xp.where(estimate.noise_found, xp.zeros_like(bar), ladder.rungs.largest)) < 0.5
    tolerance = max(STOP * noise.eps, config.error_tolerance or 0.0)
    noise_rules = 2 * _together(ladder, estimate.truncation) <= bar
    loud = _loud(ladder) if noise.known is not None else xp.zeros_like(found)
    enough = xp.where(loud, promised > GAIN_NOISY * bar, (promised > GAIN_WANTED * bar) & noise_rules)
    shrink = shape.unresolved & ~found
    bent = loud & shape.bent & ((bar > OFF * value) | shape.far)
    kinked = shrink & (_share(ladder, kink(ladder)[1]) >= KINKED_SHARE)  # no step resolves a kink
    shrink = shrink & ~kinked
    done = ((bar <= tolerance * value) | enough | kinked) & ~shrink & ~bent
    steps = xp.where(shrink[None, :], _shrunk(ladder, config), steps)
    if ladder.side == 0:
        steps = xp.where(
            bent[None, :], _within(ladder, config, 2 * ladder.rungs.step[0, ...] / SHRINK_NOISY, [1.0, 0.5]), steps
        )
    still = shape.still
    steps = xp.where(still[None, :], _farther(ladder, config), steps)
    done = xp.logical_and(done, xp.logical_not(still)) if ladder.stage == 1 else xp.logical_or(done, still)
    codes = xp.astype(done, xp.int8) * DONE
    failed = shape.failed
    steps = xp.where(failed[None, :], _retreat(ladder, config), steps)
    codes = xp.where(failed, _escape(ladder), codes)
    return Plan(codes, _distinct(ladder, steps, config), shrink)


def _distinct(ladder: Ladder, steps: Array, config: DifferentiationConfig) -> Array:
    """The steps, halved until no rung stands there: two rungs at one step agree to the last bit, and tell nothing."""
    xp, taken, least = ladder.backend.xp, ladder.rungs.step, _least(ladder, config)
    rows = []
    for i in range(int(steps.shape[0])):
        row = steps[i, ...]
        for _ in range(int(taken.shape[0])):
            lower = xp.where(row / 2 >= least, row / 2, (row + least) / 2)
            row = xp.where(xp.any(taken == row[None, :], axis=0), lower, row)
        rows.append(row)
        taken = xp.concat([taken, row[None, :]])
    return xp.stack(rows)


@dataclass(frozen=True)
class Shape:
    """How f changes along each line, in units of its outputs' sizes."""

    length: Array  # (k,)
    variation: Array  # (k,) change of f over that length
    unresolved: Array  # (k,) bool: the two smallest rungs saw different functions
    still: Array  # (k,) bool: f did not react at all
    failed: Array  # (k,) bool: fewer than two rungs could be evaluated
    bent: Array  # (k,) bool: f bends on the smallest rungs by far more than its noise
    far: Array  # (k,) bool: and by as much as a share of f itself


def _shape_central(ladder: Ladder, estimate: Estimate) -> Shape:
    xp, rungs = ladder.backend.xp, ladder.rungs
    mean = rungs.mean
    assert mean is not None
    sigma = _together(ladder, estimate.planning)
    slope = [_together(ladder, rungs.quotient[i, ...]) for i in range(int(rungs.step.shape[0]))]
    bend = [(mean[i, ...] - rungs.base) / (rungs.step[i, ...] ** 2)[None, :] for i in range(len(slope))]
    good = ladder.usable
    length = xp.zeros_like(sigma)
    alive = xp.ones_like(sigma, dtype=xp.bool)
    unresolved = xp.zeros_like(sigma, dtype=xp.bool)
    curved = _together(ladder, bend[0])
    for i in range(len(slope) - 1):
        h, g = rungs.step[i, ...], rungs.step[i + 1, ...]
        change = _together(ladder, rungs.quotient[i + 1, ...] - rungs.quotient[i, ...])
        bent = _together(ladder, bend[i + 1] - bend[i])
        bow = _together(ladder, bend[i])
        differ = change * g + bent * g * g > UNRESOLVED * (slope[i] * g + bow * g * g)
        both = xp.logical_and(good[i, ...], good[i + 1, ...])
        if i == 0:
            unresolved = xp.logical_and(differ, both)
            alive = both
            above = change * g + bent * g * g > 2 * SEEN * sigma * (g / h) ** 2
        else:
            alive = xp.logical_and(alive, xp.logical_and(both, xp.logical_not(differ)))
        apart = g * g - h * h
        third = xp.maximum(change / apart, sigma / (2 * g * apart))
        fourth = xp.maximum(bent / apart, sigma / (2 * h * h * apart))
        here = xp.minimum(
            xp.maximum(xp.sqrt(slope[i] / third), bow / third),
            xp.maximum((slope[i] / fourth) ** (1 / 3), xp.sqrt(bow / fourth)),
        )
        longer = xp.logical_and(alive, xp.logical_and(here > length, xp.isfinite(here)))
        length, curved = xp.where(longer, here, length), xp.where(longer, bow, curved)
    value = _together(ladder, estimate.value)
    length = SAFETY * length
    length = xp.where(length > 0, length, 4 * rungs.step[-1, ...])
    variation = xp.maximum(value * length, curved * length * length)
    bow = _together(ladder, mean[0, ...] - rungs.base)
    far = (bow > BENT) & (bow > 2 * SEEN * sigma)
    failed = ~(good[0, ...] & good[1, ...])
    return Shape(length, variation, unresolved, ladder.still, failed, far | (unresolved & above), far)


def _shape_sided(ladder: Ladder, estimate: Estimate) -> Shape:
    xp, rungs = ladder.backend.xp, ladder.rungs
    sigma = _together(ladder, estimate.planning)
    h, g = rungs.step[0, ...], rungs.step[1, ...]
    change = _together(ladder, rungs.quotient[1, ...] - rungs.quotient[0, ...])
    slope, value = _together(ladder, rungs.quotient[0, ...]), _together(ladder, estimate.value)
    second = xp.maximum(change / (g - h), sigma / (g * g))
    length = SAFETY * value / second
    length = xp.where(xp.logical_and(xp.isfinite(length), length > 0), length, 4 * rungs.step[-1, ...])
    good = ladder.usable
    failed = xp.logical_not(xp.logical_and(good[0, ...], good[1, ...]))
    nowhere = xp.zeros_like(failed)
    unresolved = change > UNRESOLVED_SIDED * slope
    return Shape(length, value * length, unresolved, ladder.still, failed, nowhere, nowhere)


def _balance(ladder: Ladder, shape: Shape, sigma: Array, config: DifferentiationConfig) -> tuple[Array, Array]:
    """The rungs of least predicted error, and that error."""
    xp, rungs = ladder.backend.xp, ladder.rungs
    factor = NOISE if ladder.noise.known is None else NOISE_KNOWN
    cap = ladder.cap if config.max_step is None else xp.minimum(ladder.cap, xp.full_like(ladder.cap, config.max_step))
    highest = xp.floor(xp.log2(shape.length))
    highest = xp.minimum(highest, xp.floor(xp.log2(rungs.step[-1, ...])) + FARTHEST)
    inside = xp.isfinite(cap)
    room = xp.ceil(xp.log2(xp.where(inside, cap, xp.ones_like(cap)))) - 1
    highest = xp.where(inside, xp.minimum(highest, room), highest)
    down = xp.arange(CANDIDATES, dtype=rungs.step.dtype, device=ladder.backend.device)
    top = 2.0 ** (highest[None, :] - down[:, None])  # (C, k)
    scale, length = (shape.variation / shape.length)[None, :], shape.length[None, :]
    if ladder.side != 0:
        low = top / 2.0 ** (SIDED - 1)
        predicted = scale * 64 * (low / length) ** 4 + factor * SIDED_GAIN * sigma[None, :] / low
        ratios = [1.0, 0.5, 0.25, 0.125]
    else:
        low = top / 2
        predicted = scale * 4 * (low / length) ** 4 + factor * PAIR_GAIN * sigma[None, :] / low
        ratios = [1.0, 0.5]
        for i in range(int(rungs.step.shape[0])):
            predicted = xp.minimum(
                predicted, _with_rung(ladder, rungs.step[i, ...], top, scale, length, factor * sigma)
            )
    for i in range(int(rungs.step.shape[0])):
        taken = xp.zeros_like(top, dtype=xp.bool)
        for ratio in ratios:
            taken = xp.logical_or(taken, rungs.step[i, ...] == top * ratio)
        predicted = xp.where(taken, xp.full_like(predicted, float("inf")), predicted)
    least = 4 * ladder.lines.problem.eps * ladder.lines.reach
    predicted = xp.where(low > least[None, :], predicted, xp.full_like(predicted, float("inf")))
    promised = xp.min(predicted, axis=0)
    best = xp.max(xp.where(predicted == promised[None, :], top, xp.zeros_like(top)), axis=0)
    best = xp.where(best > 0, best, rungs.step[0, ...] / 2)
    return _within(ladder, config, best, ratios), promised


def _with_rung(ladder: Ladder, step: Array, top: Array, scale: Array, length: Array, noise: Array) -> Array:
    """Predicted error of the window of a new pair (top/2, top) and one rung there is."""
    xp = ladder.backend.xp
    a, b, c = step[None, :] ** 2, (top / 2) ** 2, top**2
    truncation = scale * a * b * c / length**6
    squares = xp.zeros_like(top)
    for mine, first, second in ((a, b, c), (b, a, c), (c, a, b)):
        weight = first * second / ((first - mine) * (second - mine))
        squares = squares + weight * weight / mine
    predicted = truncation + noise[None, :] * xp.sqrt(squares / 2)
    return xp.where(xp.isfinite(predicted), predicted, xp.full_like(predicted, float("inf")))


def _shrunk(ladder: Ladder, config: DifferentiationConfig) -> Array:
    """Far below the smallest rung: scouts that disagree are beyond the length of f."""
    factor = 2.0 ** -(SHRINK + 2 * (ladder.stage - 1))
    ratios = [1.0, 0.125] if ladder.side == 0 else [2.0**-i for i in range(SIDED)]
    return _within(ladder, config, ladder.rungs.step[0, ...] * factor, ratios)


def _farther(ladder: Ladder, config: DifferentiationConfig) -> Array:
    """Above the largest rung: f has not moved at all."""
    ratios = [1.0, 0.5] if ladder.side == 0 else [2.0**-i for i in range(SIDED)]
    return _within(ladder, config, ladder.rungs.step[-1, ...] * 2.0**NOTHING_SEEN, ratios)


def _retreat(ladder: Ladder, config: DifferentiationConfig) -> Array:
    """Below where f failed: a little where one rung stands, far where none does."""
    xp, rungs = ladder.backend.xp, ladder.rungs
    lowest = rungs.step[0, ...]
    near = ladder.usable[0, ...]
    top = xp.where(near, lowest / 2, lowest * 2.0**-SHRINK)
    ratios = [1.0, 0.25] if ladder.side == 0 else [2.0**-i for i in range(SIDED)]
    return _within(ladder, config, top, ratios)


def _escape(ladder: Ladder) -> Array:
    """Where to a line goes whose points failed: to the other side, once smaller steps have failed too."""
    xp = ladder.backend.xp
    codes = xp.zeros_like(ladder.cap, dtype=xp.int8)
    if ladder.side != 0 or ladder.stage < 2:
        return codes
    nowhere = xp.logical_not(xp.any(ladder.usable, axis=0))
    up = xp.logical_and(nowhere, xp.logical_and(ladder.failed_down, xp.logical_not(ladder.failed_up)))
    down = xp.logical_and(nowhere, xp.logical_and(ladder.failed_up, xp.logical_not(ladder.failed_down)))
    return xp.astype(up, xp.int8) * UPWARDS + xp.astype(down, xp.int8) * DOWNWARDS
