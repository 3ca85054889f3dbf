"""Extrapolation of difference quotients to step 0, with an error bar that can be believed.

Rungs are steps h, sorted, each with D, the difference quotient, and for central rungs E, the mean
(f(x + h) + f(x - h)) / 2.  D and E are power series in t = h² (one-sided: D in t = h).  Neville's scheme extrapolates
every contiguous window of rungs; the even part E, extrapolated to f(x) which is known, is a second sample of the noise
at no cost: that makes bars sharp.
Ridders, Adv. Eng. Softw. 4 (1982) 75; Lyness & Moler, Numer. Math. 8 (1966) 458.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from arraydiff._typing import Array, Namespace
from arraydiff.backends import Backend
from arraydiff.noise import ABOVE_ROUNDING, ROUNDING_HIGH, ROUNDING_LOW, Noise

TRUNCATION = 2.0  # bars are TRUNCATION * decay-weighted difference + NOISE * sigma * nu
NOISE = 1.5  # with sigma measured from the same values, whose selection biases it high
NOISE_KNOWN = 2.2  # with sigma given: 1.5 sigma nu alone covers 87 %
INFLATION = 1.2  # of a measured sigma: few degrees of freedom
INFLATION_NOISY = 1.8  # once more where it is above rounding, which has a floor that noise has not
POOL = 4.0  # noise samples up to this many times the least one are averaged
DOUBT = 3.0  # a lone rung is trusted to this many times its difference to the next
TORN = 2.0  # times the smaller of two quotients: they need not even have the same sign
OFF = 0.3  # a window whose top rung is off by more takes the error of its sub-window
MEDIAN_SHARE = 0.7
EVIDENCE = 3.0  # noise does not fall with the size of a window; truncation does, by more than this
MODEST_RANGE = 0.05  # the same for three samples that agree
ODD_OVER_EVEN = 8.0  # noise shows in both parts of f alike; steps far beyond its length need not
GROWN = 8.0  # eps of f where it is larger: rounding is no more than this there
MANY = 8  # outputs: of so many, changes of some vanish by accident
ACCIDENT = 0.3  # of the change that the fall of all outputs foretells
SMALL_RANGE = 3e-3  # a noise sample that is not small against the range of f is curvature, not noise


@dataclass(frozen=True)
class Rungs:
    """K rungs on each of k lines, sorted by step; NaN where f failed."""

    step: Array  # (K, k)
    quotient: Array  # (K, m, k)
    mean: Array | None  # (K, m, k), central only
    base: Array  # (m, 1) or (1, k): f(x)
    reach: Array  # (k,): |x| of each line, what one unit in the last place of x does to f is eps |x f'|
    largest: Array  # (m, k): largest |f| seen
    span: Array  # (m, k): range of f seen

    @property
    def power(self) -> int:
        """Of h in the error series."""
        return 1 if self.mean is None else 2

    def gain(self, xp: Namespace, weights: Array) -> Array:
        """(W, k) standard deviation of sum w D over that of f, for weights (W, K, k)."""
        scaled = weights / self.step[None, :, :]
        squares = xp.sum(scaled * scaled, axis=1)
        if self.power == 2:
            return xp.sqrt(squares / 2)
        total = xp.sum(scaled, axis=1)  # the error of f(x) enters every one-sided quotient
        return xp.sqrt(squares + total * total)

    def width(self, j: int) -> Array:
        """(k,) the same of rung j alone, at most."""
        return 1 / self.step[j, :]


@dataclass(frozen=True)
class SecondRungs(Rungs):
    """Rungs whose quotients are second differences over products of steps."""

    own: Array  # (K, k) standard deviation of each quotient over that of f, without f(x)
    common: Array  # (K, k) the part of f(x), which enters all of them
    series: int  # the power

    @property
    def power(self) -> int:
        return self.series

    def gain(self, xp: Namespace, weights: Array) -> Array:
        own, common = weights * self.own[None, :, :], xp.sum(weights * self.common[None, :, :], axis=1)
        return xp.sqrt(xp.sum(own * own, axis=1) + common * common)

    def width(self, j: int) -> Array:
        return self.own[j, :] + self.common[j, :]


@dataclass(frozen=True)
class Windows:
    """All windows of one size: W of them."""

    size: int
    value: Array  # (W, m, k) extrapolated quotient
    even: Array | None  # (W, m, k) extrapolated mean
    weights: Array  # (W, K, k) of the rungs
    gain: Array  # (W, k) noise of the value over noise of f
    sample: Array  # (W, m, k) noise sample
    odd_sample: Array  # (W, m, k)
    change: Array  # (W, m, k) against the sub-windows
    decay: Array  # (W, m, k)
    fall: Array | None = None  # (W, 1, k) of changes from the size below, all outputs together


Falls = tuple[Array | None, ...]
"""Of all sizes of windows."""


@dataclass(frozen=True)
class Estimate:
    """What a tableau says of each entry."""

    value: Array  # (m, k)
    error: Array  # (m, k)
    sigma: Array  # (m, k) noise of f
    truncation: Array  # (m, k) the part of the bar that is truncation
    noise_found: Array  # (m, k) bool: sigma is a measured level, not an assumption
    planning: Array  # (m, k) sigma to plan further rungs with
    falls: Falls = ()  # that the changes of all outputs together showed


def extrapolate(backend: Backend, rungs: Rungs, noise: Noise, confidence: float, falls: Falls = ()) -> Estimate:
    """The best window of each entry; `noise` as it stands beside f(x); `confidence` multiplies the bars, 1 for 95 %.

    `falls` are those of all outputs where these are a slab of them.
    """
    xp = backend.xp
    levels = _levels(backend, rungs, falls)
    sigma, planning, found = _sigma(xp, rungs, levels, noise)
    if noise.known is None and noise.measured:
        sigma = _shared(xp, rungs, sigma, found)
    factor = confidence * _widening(xp, noise, sigma)
    best = _lone_rung(xp, rungs, levels[0], sigma, factor)
    high = _rounding(xp, rungs, noise)
    for windows in levels[1:]:
        truncation = TRUNCATION * confidence * windows.change * windows.decay
        width = sigma[None, ...]
        if noise.measured:
            read_off = found if noise.known is None else found & xp.isnan(noise.known)
            width = xp.where(read_off, _running_maximum(xp, windows.sample, sigma), width)
            rounding = (width <= high[None, ...]) & read_off[None, ...]
            width = xp.where(rounding, _grown(xp, rungs, windows.size, width, noise), width)
        error = truncation + factor * width * windows.gain[:, None, :]
        best = _better(xp, best, windows, error, truncation, _void(xp, rungs, windows, sigma))
    value, error, truncation = best
    return Estimate(value, error, sigma, truncation, found, planning, tuple(windows.fall for windows in levels))


def lowest_sample(backend: Backend, rungs: Rungs) -> Array:
    """(m, k) what the two smallest rungs show of the noise of f, or of more change than they resolve."""
    return _levels(backend, rungs)[1].sample[0, ...]


def _levels(backend: Backend, rungs: Rungs, falls: Falls = ()) -> list[Windows]:
    """Windows of sizes 1, 2, ... K by Neville's recursion."""
    xp, t = backend.xp, _power(rungs.step, rungs.power)
    count = int(t.shape[0])
    weights = xp.eye(count, dtype=t.dtype, device=backend.device)[:, :, None] + xp.zeros_like(t)[None, :, :]
    nothing = xp.zeros_like(rungs.quotient)
    first = Windows(
        1, rungs.quotient, rungs.mean, weights, rungs.gain(xp, weights), nothing, nothing, nothing, nothing + 1
    )
    levels = [first]
    for size in range(2, count + 1):
        levels.append(_next_level(xp, rungs, t, levels[-1], size, falls[size - 1] if falls else None))
    return levels


def _next_level(xp: Namespace, rungs: Rungs, t: Array, below: Windows, size: int, fall: Array | None) -> Windows:
    low, high = t[: t.shape[0] - size + 1, ...], t[size - 1 :, ...]
    up, down = high / (high - low), low / (high - low)

    def neville(array: Array) -> Array:
        return up[:, None, :] * array[:-1, ...] - down[:, None, :] * array[1:, ...]

    value, weights = neville(below.value), neville(below.weights)
    even = None if below.even is None else neville(below.even)
    by_top = xp.abs(value - below.value[:-1, ...])
    odd = by_top / rungs.gain(xp, weights - below.weights[:-1, ...])[:, None, :]
    sample = odd
    if even is not None:
        spread = xp.sqrt(1 + xp.sum(weights * weights, axis=1) / 2)
        missed = xp.abs(rungs.base - even) / spread[:, None, :]
        sample = xp.sqrt((odd * odd + missed * missed) / 2)
    change, decay, fall = _truncation(xp, rungs, below, value, by_top, size, fall)
    return Windows(size, value, even, weights, rungs.gain(xp, weights), sample, odd, change, decay, fall)


def _truncation(
    xp: Namespace, rungs: Rungs, below: Windows, value: Array, by_top: Array, size: int, fall: Array | None
) -> tuple[Array, Array, Array | None]:
    """Change against the sub-windows, the factor by which changes fall from size to size, and that of all outputs."""
    step = rungs.step
    bottom, top = step[: step.shape[0] - size + 1, ...], step[size - 1 :, ...]
    second = step[size - 2 : step.shape[0] - 1, ...]
    reach = _power((bottom / top), rungs.power)[:, None, :]
    change = xp.maximum(by_top, xp.abs(value - below.value[1:, ...]) * reach)
    if size == 2:
        before = xp.maximum(xp.abs(value), xp.abs(below.value[:-1, ...]))
    else:
        before = below.change[:-1, ...]
        if size > 3:
            before = xp.maximum(before, below.change[1:, ...] * _power(bottom / second, rungs.power)[:, None, :])
    if fall is None and int(value.shape[1]) >= MANY:
        fall = _fall(xp, change, before)
    if fall is not None:
        change = xp.maximum(change, ACCIDENT * before * fall)
    positive = before > 0
    ratio = change / xp.where(positive, before, xp.ones_like(before))
    ratio = ratio * _power(top / second, rungs.power)[:, None, :]
    decay = xp.where(positive, xp.minimum(ratio, xp.ones_like(ratio)), xp.ones_like(ratio))
    off = xp.abs(rungs.quotient[size - 1 :, ...] - value) > OFF * xp.abs(value)
    inherited = xp.abs(value) if size == 2 else below.change[:-1, ...] * below.decay[:-1, ...]
    change = xp.where(off, xp.maximum(change * decay, inherited), change)
    decay = xp.where(off, xp.ones_like(decay), decay)
    return change, decay, fall


def _fall(xp: Namespace, change: Array, before: Array) -> Array:
    """(W, 1, k) by what changes fall from size to size, all outputs together."""
    both = xp.isfinite(change) & xp.isfinite(before)
    nothing = xp.zeros_like(change)
    now, then = (xp.sum(xp.where(both, part * part, nothing), axis=1, keepdims=True) for part in (change, before))
    return xp.sqrt(now / xp.where(then > 0, then, xp.ones_like(then)))


def _power(ratio: Array, power: int) -> Array:
    if power > 1:
        ratio = ratio * ratio
    return ratio * ratio if power == 4 else ratio


def _sigma(xp: Namespace, rungs: Rungs, levels: list[Windows], noise: Noise) -> tuple[Array, Array, Array]:
    """Noise of f to report with, to plan with, and whether it was found."""
    lowest = xp.abs(rungs.quotient[0, ...])
    size = xp.maximum(xp.abs(rungs.base), rungs.largest)
    low = ROUNDING_LOW * noise.eps * xp.maximum(size, rungs.reach * lowest / 4)
    high = _rounding(xp, rungs, noise)
    if noise.known is None:
        return _read_off(xp, rungs, levels, noise, low, high)
    known = noise.known + xp.zeros_like(low)
    if not noise.measured:
        return known, known, xp.ones_like(known, dtype=xp.bool)
    sigma, planning, found = _read_off(xp, rungs, levels, noise, low, high)
    unknown = xp.isnan(known)
    return xp.where(unknown, sigma, known), xp.where(unknown, planning, known), ~unknown | found


def _rounding(xp: Namespace, rungs: Rungs, noise: Noise) -> Array:
    """(m, k) the largest noise that is taken for rounding."""
    size = xp.maximum(xp.abs(rungs.base), rungs.largest)
    return ROUNDING_HIGH * noise.eps * (size + rungs.reach * xp.abs(rungs.quotient[0, ...]))


def _grown(xp: Namespace, rungs: Rungs, size: int, width: Array, noise: Noise) -> Array:
    """(W, m, k) the rounding that `width` is near x, on the rungs of each window, where f may be larger."""
    middle = xp.abs(rungs.base)[None, ...] if rungs.mean is None else xp.abs(rungs.mean)
    reached = _finite_or(xp, middle + rungs.step[:, None, :] * xp.abs(rungs.quotient), 0.0)
    count = int(reached.shape[0]) - size + 1
    largest = reached[:count, ...]
    for i in range(1, size):
        largest = xp.maximum(largest, reached[i : i + count, ...])
    near = xp.maximum(reached[0, ...], xp.abs(rungs.base))
    grown = width * largest / xp.where(near > 0, near, xp.ones_like(near))
    return xp.maximum(width, xp.minimum(grown, GROWN * noise.eps * largest))


def _widening(xp: Namespace, noise: Noise, sigma: Array) -> Array | float:
    if noise.known is None or not noise.measured:
        return NOISE if noise.known is None else NOISE_KNOWN
    unknown = xp.isnan(noise.known + xp.zeros_like(sigma))
    return xp.where(unknown, xp.full_like(sigma, NOISE), xp.full_like(sigma, NOISE_KNOWN))


def _read_off(
    xp: Namespace, rungs: Rungs, levels: list[Windows], noise: Noise, low: Array, high: Array
) -> tuple[Array, Array, Array]:
    """The same from the values on the rungs alone."""
    if len(levels) == 1:
        return low, high / 2, xp.zeros_like(low, dtype=xp.bool)
    every = _finite_or(xp, xp.concat([windows.sample for windows in levels[1:]]), float("inf"))
    least = xp.min(every, axis=0)
    if (
        noise.floor is not None and int(rungs.base.shape[1]) == 1
    ):  # what the probe saw may be change of f: never more than some line shows
        low = xp.maximum(low, xp.minimum(noise.floor, xp.max(least, axis=1, keepdims=True)))
    pooled = every <= POOL * xp.maximum(least, low)
    number = xp.sum(xp.astype(pooled, low.dtype), axis=0)
    total = xp.sum(xp.where(pooled, every * every, xp.zeros_like(every)), axis=0)
    sigma = INFLATION * xp.maximum(low, xp.sqrt(total / xp.maximum(number, xp.ones_like(number))))
    sigma = xp.where(sigma > high, INFLATION_NOISY * sigma, sigma)
    evident = (least <= high) & ~_torn(xp, rungs, noise)
    if noise.ceiling is None:
        evident = evident | _evidence(xp, rungs, levels)
    else:
        ceiling = xp.maximum(noise.ceiling + xp.zeros_like(high), high)
        sigma = xp.minimum(sigma, ceiling)  # where the probe could not tell, only steps that resolve f will
    return sigma, xp.where(evident, sigma, high / 2), evident


def _torn(xp: Namespace, rungs: Rungs, noise: Noise) -> Array:
    """Whether the two lowest quotients have nothing in common, by far more than rounding of f: no sample is one of rounding."""
    low, high = rungs.quotient[0, ...], rungs.quotient[1, ...]
    apart = xp.abs(high - low)
    seen = apart * rungs.step[0, :] > ABOVE_ROUNDING * ROUNDING_HIGH * noise.eps * rungs.largest
    return seen & (apart > TORN * xp.minimum(xp.abs(low), xp.abs(high)))


def _shared(xp: Namespace, rungs: Rungs, sigma: Array, found: Array) -> Array:
    """At least a share of the median over all lines: one line's least sample may be tiny by accident, f's noise is one."""
    lines = int(sigma.shape[1])
    if lines < 3 or int(rungs.base.shape[1]) != 1:
        return sigma
    seen = xp.sort(xp.where(found, sigma, xp.zeros_like(sigma)), axis=1)
    return xp.maximum(sigma, MEDIAN_SHARE * seen[:, lines // 2 : lines // 2 + 1])


def _evidence(xp: Namespace, rungs: Rungs, levels: list[Windows]) -> Array:
    """Whether the samples of larger windows do not fall: that is noise, not truncation."""
    found = xp.zeros_like(rungs.largest, dtype=xp.bool)
    small = SMALL_RANGE * rungs.span
    for below, windows in pairwise(levels[1:]):
        steady = xp.logical_and(
            windows.sample * EVIDENCE >= below.sample[:-1, ...],
            windows.odd_sample * EVIDENCE >= below.odd_sample[:-1, ...],
        )
        bottom, top = rungs.quotient[: windows.sample.shape[0], ...], rungs.quotient[windows.size - 1 :, ...]
        flat = xp.abs(top - bottom) <= OFF * xp.abs(bottom)
        tiny = windows.sample < small[None, ...]
        found = xp.logical_or(found, xp.any(xp.logical_and(xp.logical_and(steady, flat), tiny), axis=0))
    return xp.logical_or(found, _bow_stays(xp, rungs))


def _bow_stays(xp: Namespace, rungs: Rungs) -> Array:
    """Whether |E - f(x)| stays as the step falls, where a smooth f makes it fall with h²."""
    found = xp.zeros_like(rungs.largest, dtype=xp.bool)
    count = int(rungs.step.shape[0])
    if rungs.mean is None or count < 3:
        return found
    bow = xp.abs(rungs.mean - rungs.base)
    lowest, second, third = bow[0, ...], bow[1, ...], bow[2, ...]
    small = SMALL_RANGE * rungs.span
    found = (second < small) & (lowest < EVIDENCE * small) & (lowest * EVIDENCE >= second)
    if count > 3:
        level = xp.logical_and(xp.maximum(lowest, second) * EVIDENCE >= third, lowest * 10 * EVIDENCE >= third)
        highest = xp.maximum(xp.maximum(lowest, second), third)
        found = xp.logical_or(found, xp.logical_and(level, highest < MODEST_RANGE * rungs.span))
    odd = xp.abs(rungs.quotient[1, ...] - rungs.quotient[0, ...]) * rungs.step[0, :]
    return found & (odd <= ODD_OVER_EVEN * xp.maximum(xp.maximum(lowest, second), third))


def _lone_rung(xp: Namespace, rungs: Rungs, first: Windows, sigma: Array, factor: float) -> tuple[Array, Array, Array]:
    """The smallest rung by itself, as a start."""
    value = rungs.quotient[0, ...]
    if rungs.step.shape[0] == 1:
        return value, xp.full_like(value, float("inf")), xp.abs(value)
    ratio = _power(rungs.step[0, ...] / rungs.step[1, ...], rungs.power)
    truncation = DOUBT * xp.abs(rungs.quotient[1, ...] - value) * ratio[None, :]
    return value, truncation + factor * sigma * first.gain[0, ...][None, :], truncation


def _void(xp: Namespace, rungs: Rungs, windows: Windows, sigma: Array) -> list[Array | None]:
    """For every window, which entries its smaller rungs contradict: h >> L can fake convergence."""
    void: list[Array | None] = [None]
    for i in range(1, int(windows.value.shape[0])):
        value = windows.value[i, ...]
        spread = xp.max(xp.abs(rungs.quotient[i : i + windows.size, ...] - value), axis=0)
        contradicted = xp.zeros_like(value, dtype=xp.bool)
        for j in range(i):
            allowed = spread + DOUBT * NOISE * sigma * rungs.width(j)
            contradicted = contradicted | (xp.abs(rungs.quotient[j, ...] - value) > allowed)
        void.append(contradicted)
    return void


def _running_maximum(xp: Namespace, samples: Array, sigma: Array) -> Array:
    """The level a window is held to: sigma, and the samples of all windows of its size at smaller steps."""
    levels = [sigma]
    for i in range(1, int(samples.shape[0])):
        levels.append(xp.maximum(levels[-1], _finite_or(xp, samples[i - 1, ...], 0.0)))
    return xp.stack(levels)


def _better(
    xp: Namespace,
    best: tuple[Array, Array, Array],
    windows: Windows,
    error: Array,
    truncation: Array,
    void: list[Array | None],
) -> tuple[Array, Array, Array]:
    value, bar, left_out = best
    for i, contradicted in enumerate(void):
        wins = (error[i, ...] < bar) | (xp.isfinite(error[i, ...]) & ~xp.isfinite(bar))
        if contradicted is not None:
            wins = wins & ~contradicted
        value = xp.where(wins, windows.value[i, ...], value)
        bar = xp.where(wins, error[i, ...], bar)
        left_out = xp.where(wins, truncation[i, ...], left_out)
    return value, bar, left_out


def _finite_or(xp: Namespace, array: Array, instead: float) -> Array:
    return xp.where(xp.isfinite(array), array, xp.full_like(array, instead))
