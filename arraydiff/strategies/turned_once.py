"""Second derivatives of many outputs from one turned step a line: two points each, and one more line that vouches for them.

Good for the terms of a sum, of which each line moves many parameters: p² + p points for p lines and all pairs of them.  The
square of a turned step is imaginary, so that imaginary parts hold the second derivative and real ones the third and fourth: they
tell whether f is analytic, and what the step leaves out.  The values that show the noise, along one random line, tell the first
two derivatives there once more, from real steps.  Where any of this is not as it should be, `SecondOrder` takes over.
Lai & Crassidis, J. Comput. Appl. Math. 218 (2008) 43.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from arraydiff._typing import Array, Namespace
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Lines, ray
from arraydiff.noise import ABOVE_ROUNDING, Noise, may_probe
from arraydiff.pairs import Both
from arraydiff.probe import first_sight, further
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.seam import Asking, Prepared, Pushforward
from arraydiff.strategies.certificate import refused_beforehand
from arraydiff.strategies.refining import pushed_of
from arraydiff.strategies.richardson import bar_factor
from arraydiff.strategies.second_order import ARRAYS, SecondOrder, level_of
from arraydiff.strategies.sighting import sighted_curve, sighted_slope, typical_share

STEP = 1.3  # times eps^(1/5), of the scale: 2^-10 of float64, where its fourth power and eps over it are equally small
ROUNDS = 2.0  # eps of an imaginary part: noise that is assumed at least
SIGMAS = 2.0  # of that noise in a bar
ROUNDING = 64.0  # eps |f| by which real parts may miss what they would be in exact arithmetic
ANALYTIC = 2.0**-5  # of the lower term of the series: of what drops imaginary parts the higher one is half of it
SMALL = 1e-3  # of the mean of all outputs: smaller ones are held to that
LEFT_OUT = 16.0  # sixth terms of the series in a bar: twice what a step leaves out of the second derivative
GOOD = 1e-9  # relative bars: wider ones are worth a longer look
STRAIGHT = 1e-2  # of the slope: what a second derivative is held to where there is little of it


@dataclass(frozen=True)
class TurnedOnce:
    """The strategy, for lines that move many parameters each; `beside` is the line of the probe."""

    frame: Callable[[Problem], Lines]
    beside: Callable[[Problem], Lines]

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """F(x), its noise, and all lines by themselves."""
        later, frame = SecondOrder(self.frame, True, self.beside), self.frame(problem)
        real = config.method is DifferentiationMethod.RICHARDSON or problem.call.measured
        if real or not may_probe(problem, config) or refused_beforehand(problem, config) or not frame.count:
            return (yield from later.prepare(problem, config))
        value, noise = yield from first_sight(problem, config, always=True)
        if noise.pending is not None and not noise.pending.calm:
            noise = yield from further(problem, value, noise)
        told = noise.sight is not None and not noise.drowned
        steps = STEP * noise.eps**0.2 * frame.scale
        if told and int(value.shape[0]) and not _crowded(frame, steps):
            once = yield from _looked(frame, Outputs.of(problem, config, value, noise), steps)
            if once is not None:
                return once.prepared(noise)
        return (yield from later.after(problem, config, value, noise))


def _crowded(frame: Lines, steps: Array) -> bool:
    """Whether any line has no room for its step; one read where there are bounds."""
    if frame.room is None:
        return False
    xp, (up, down) = frame.problem.xp, frame.room
    return frame.problem.backend.counts(xp.minimum(up, down) < steps) != [0]


@dataclass(frozen=True)
class Outputs:
    """What is the same for all lines."""

    problem: Problem
    base: Array  # (m, 1) f(x)
    level: Array  # (m, 1) noise of a value
    share: Array  # (m, 1) of an imaginary part, over its size
    slope: Pushforward  # along the line of the probe, (m, 1)
    curve: Pushforward
    noisy: Array  # (m, 1) bool: above rounding
    eps: float
    widen: float

    @classmethod
    def of(cls, problem: Problem, config: DifferentiationConfig, value: Array, noise: Noise) -> Outputs:
        """By what the probe saw."""
        xp, sight, line = problem.xp, noise.sight, ray(problem)
        assert sight is not None
        typical = typical_share(problem, sight)
        witness = sighted_slope(problem, line, sight, typical)
        curve, error = sighted_curve(problem, sight, typical)
        level, base = level_of(problem, value, noise)[:, None], value[:, None]
        size = xp.abs(base) + xp.abs(witness.value) * line.scale
        size = xp.where(xp.isfinite(size) & (size > 0), size, xp.ones_like(size))
        share = xp.maximum(level / size, xp.full_like(size, ROUNDS * noise.eps))
        still = xp.zeros_like(witness.status)
        slope = Pushforward(witness.value, witness.error, witness.steps, still)
        bent = Pushforward(curve[:, None], error[:, None], witness.steps, still)
        noisy = level > ABOVE_ROUNDING * noise.eps * size
        return cls(problem, base, level, share, slope, bent, noisy, noise.eps, bar_factor(config.confidence))


@dataclass(frozen=True)
class Turned:
    """What one turned step, t (1 + i) and its opposite, gave along k lines."""

    step: Array  # (k,) t
    part: Array  # (m, k) t² times the second derivative
    slope: Array  # (m, k)
    third: Array  # (m, k) f''' / 6
    fourth: Array  # (m, k) f'''' / 24

    @classmethod
    def along(cls, lines: Lines, step: Array, base: Array) -> Asking[Turned]:
        """Evaluated."""
        xp = lines.problem.xp
        values = lines.values((yield lines.points(xp.stack([step, -step]), turn=1 + 1j))) - base
        even, odd = values[0, ...] + values[1, ...], values[0, ...] - values[1, ...]
        real, imaginary = xp.real(odd), xp.imag(odd)
        lost = ~xp.isfinite(even)  # the imaginary part of a real NaN is 0
        part = xp.where(lost, xp.full_like(real, float("nan")), xp.imag(even) / 2)
        slope, third = (real + imaginary) / (4 * step), (imaginary - real) / (8 * step**3)
        return cls(step, part, slope, third, -xp.real(even) / (8 * step**4))


@dataclass(frozen=True)
class Terms:
    """Sizes of the terms of the Taylor series along lines, at the step taken; (m, k)."""

    first: Array
    second: Array
    third: Array
    fourth: Array
    fifth: Array  # as the others foretell it
    sixth: Array

    @classmethod
    def of(cls, outputs: Outputs, seen: Turned) -> Terms:
        """Of one rung."""
        xp, t = outputs.problem.xp, seen.step
        first, second = xp.abs(t * seen.slope), xp.abs(seen.part) / 2
        third, fourth = xp.abs(t**3 * seen.third), xp.abs(t**4 * seen.fourth)
        least = outputs.eps * (xp.abs(outputs.base) + first + second)
        least = xp.where(least > 0, least, xp.ones_like(least))
        low, high = xp.maximum(first, least), xp.maximum(second, least)
        odd = xp.minimum(xp.sqrt(third / low), third / high)  # as in `charted`: from term to term
        even = xp.minimum((fourth / low) ** (1 / 3), xp.sqrt(fourth / high))
        ratio = xp.maximum(odd, even)
        ratio = xp.minimum(ratio, xp.ones_like(ratio))
        sixth = xp.maximum(fourth * ratio**2, xp.maximum(third * ratio**3, second * ratio**4))
        return cls(first, second, third, fourth, fourth * ratio, sixth)

    def analytic(self, outputs: Outputs) -> Array:
        """(m, k) whether real and imaginary parts are those of one power series."""
        rounding = ROUNDING * outputs.eps * outputs.problem.xp.abs(outputs.base)
        first, second = (_held(outputs.problem.xp, part) for part in (self.first, self.second))
        odd = self.third <= ANALYTIC * (first + second) + rounding
        return odd & (self.fourth <= ANALYTIC * (second + SMALL * first) + rounding)

    def noise(self, outputs: Outputs) -> Array:
        """(m, k) of the imaginary parts."""
        xp = outputs.problem.xp
        size = xp.maximum(self.first, xp.sqrt(2 * xp.abs(outputs.base) * self.second))  # terms that cancel in a sum
        return SIGMAS * outputs.share * size


def _held(xp: Namespace, sizes: Array) -> Array:
    """(m, k) at least a small share of what is usual on the line."""
    finite = xp.where(xp.isfinite(sizes), sizes, xp.zeros_like(sizes))
    return xp.maximum(sizes, SMALL * xp.sqrt(xp.mean(finite * finite, axis=0))[None, :])


@dataclass(frozen=True)
class Once:
    """All lines of a frame by themselves."""

    frame: Lines
    outputs: Outputs
    steps: Array  # (k,)
    seen: Turned
    terms: Terms

    def second(self) -> Pushforward:
        """The second derivatives."""
        area = self.steps * self.steps
        left_out = LEFT_OUT * self.terms.sixth
        return self.pushed(self.seen.part / area, left_out / area, self.terms.noise(self.outputs) / area)

    def first(self) -> Pushforward:
        """The slopes."""
        left_out, noise = LEFT_OUT / 2 * self.terms.fifth, SIGMAS * self.outputs.level
        return self.pushed(self.seen.slope, left_out / self.steps, noise / self.steps)

    def pushed(self, value: Array, left_out: Array, noise: Array, steps: Array | None = None) -> Pushforward:
        """Values with bars and flags."""
        xp, outputs = self.frame.problem.xp, self.outputs
        error = outputs.widen * (left_out + noise)
        finite = xp.isfinite(value) & xp.isfinite(error)
        noisy = finite & outputs.noisy & (noise >= left_out)
        status = xp.astype(~finite, xp.int16) * int(Status.FAILED)
        status = status + xp.astype(noisy, xp.int16) * int(Status.NOISE_LIMITED)
        return pushed_of(self.frame, value, error, self.steps if steps is None else steps, status)

    def prepared(self, noise: Noise) -> Prepared:
        """For pairs."""
        return Prepared(
            DifferentiationMethod.COMPLEX_STEP,
            self.outputs.base[:, 0],
            partial(_between, once=self),
            noise=noise.known,
            finite=noise.finite,
            arrays=ARRAYS,
            first=self.first(),
            second=self.second(),
            beside=self.outputs.curve,
            beside_first=self.outputs.slope,
        )


def _looked(frame: Lines, outputs: Outputs, steps: Array) -> Asking[Once | None]:
    """All lines, or None where one step each does not tell enough; the first one before the others, which f may refuse."""
    problem, xp = frame.problem, frame.problem.xp
    seen: Turned | None = None
    for which in (range(1), range(1, frame.count)):
        if not len(which):
            continue
        some = xp.take(steps, problem.backend.indices(which))
        part = yield from Turned.along(frame.take(which), some, outputs.base)
        terms = Terms.of(outputs, part)
        lost = ~xp.isfinite(outputs.base)
        found = Once(frame, outputs, some, part, terms)
        bent, flat = found.second(), xp.abs(part.slope) / frame.take(which).scale
        wide = ~_good(xp, bent, STRAIGHT * flat, lost)
        if problem.backend.counts(~(terms.analytic(outputs) | lost), wide) != [0, 0]:
            return None
        seen = part if seen is None else _beside(xp, seen, part)
    assert seen is not None
    return Once(frame, outputs, steps, seen, Terms.of(outputs, seen))


def _good(xp: Namespace, bent: Pushforward, least: Array, lost: Array) -> Array:
    """(k,) whether bars are small, all outputs together."""
    error, size = (xp.where(lost, xp.zeros_like(part), part) for part in (bent.error, xp.abs(bent.columns) + least))
    return xp.sum(error * error, axis=0) <= GOOD**2 * xp.sum(size * size, axis=0)


def _beside(xp: Namespace, one: Turned, other: Turned) -> Turned:
    names = ("step", "part", "slope", "third", "fourth")
    return Turned(*(xp.concat([getattr(one, name), getattr(other, name)], axis=-1) for name in names))


def _between(lines: Lines, once: Once) -> Asking[Pushforward]:
    """The mixed derivatives of pairs of lines: what is left of the line between them without their own second differences."""
    assert isinstance(lines, Both)
    xp, outputs = lines.problem.xp, once.outputs
    pairs = lines.sized(once.steps)
    seen = yield from Turned.along(pairs, xp.ones_like(lines.of(once.steps)[0]), outputs.base)
    terms = Terms.of(outputs, seen)
    one, other = lines.of(once.steps)
    area = 2 * one * other
    left = seen.part - sum(lines.of(once.seen.part))
    left_out = LEFT_OUT * (terms.sixth + sum(lines.of(once.terms.sixth)))
    noise = terms.noise(outputs) + sum(lines.of(once.terms.noise(outputs)))
    return once.pushed(left / area, left_out / area, noise / area, xp.sqrt(one * other))
