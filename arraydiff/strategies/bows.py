"""Second differences along lines: how they are made of values of f, and what those values say of the scale of f.

A scheme is data and a few lines of arithmetic.  `part` is what one rung of one line gives: step² times the second derivative
along it (by real points on one side: f there, less f(x)).  Of real points the parts of two lines, taken off that of the line
between them, leave step² times the mixed derivative, once or twice.  Of crossed points (`pairs.Crossed`) a rung is the difference
of two derivatives that are imaginary parts, and mixed from the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from arraydiff._typing import Array, Namespace
from arraydiff.directions import Lines
from arraydiff.pairs import Crossed
from arraydiff.seam import Asking
from arraydiff.strategies.tableau import SecondRungs

SAFETY = 0.7  # of the length: a step too large costs a high power, one too small costs noise
SEEN = 3.0  # times the noise
TYPICAL = 2.0**-52  # noise, relative


@dataclass(frozen=True)
class Scheme:
    """How second differences are made."""

    crossed: bool  # whether points have left x by a tiny imaginary step
    both: bool  # whether points lie on both sides of x
    rungs: tuple[float, ...]  # steps over the unit
    closer: float  # one more rung, where truncation rules; 0: none
    wider: float  # as far as units leave room inside the bounds
    power: int  # of the step in the error series
    pairs: float  # times step² and the mixed derivative: what is left of a pair's part
    noise: tuple[float, float]  # own and common standard deviation of a line's second difference over that of a value
    noise_of_pairs: tuple[float, float]
    first: float  # term of the error series, over f'' step^power / length^power
    best: Callable[[float], float]  # the unit over the length of f, for a noise of f relative to its change
    goal: float  # relative bar: less is worth no rung closer to x
    loud: float  # relative bar: less is worth no rungs farther out, which are two

    @property
    def spacing(self) -> float:
        """From rung to rung."""
        return self.rungs[1] / self.rungs[0]

    @property
    def fewest(self) -> tuple[float, ...]:
        """The rungs of a pair; those of a line may need one more."""
        return self.rungs[:-1] if self.power == 1 and not self.crossed else self.rungs


CENTRAL = Scheme(
    crossed=False,
    both=True,
    rungs=(1.0, 2.0),
    closer=3 / 8,
    wider=4.0,
    power=2,
    pairs=2.0,
    noise=(2**0.5, 2.0),
    noise_of_pairs=(6**0.5, 2.0),
    first=2.0,
    best=lambda noise: (0.9 * noise) ** (1 / 6),
    goal=3e-9,
    loud=5e-8,
)
"""Real points on both sides."""

SIDED = Scheme(
    crossed=False,
    both=False,
    rungs=(1.0, 2.0, 4.0, 8.0, 16.0),
    closer=0.0,
    wider=16.0,
    power=1,
    pairs=1.0,
    noise=(5**0.5, 1.0),
    noise_of_pairs=(3**0.5, 1.0),
    first=3.0,
    best=lambda noise: (noise / 64) ** (1 / 6),
    goal=1e-6,
    loud=1e-4,
)
"""Real points on one side; a line's second difference is that of two neighbouring rungs."""

CROSSED = replace(
    CENTRAL,
    crossed=True,
    pairs=1.0,
    noise=(1.0, 0.0),  # 0.7, were levels not taken from the size of one derivative
    noise_of_pairs=(1.0, 0.0),
    first=1.0,
    best=lambda noise: (0.36 * noise) ** 0.2,
    goal=1e-12,
    loud=3e-11,
)
"""Crossed points on both sides."""

CROSSED_SIDED = replace(
    CROSSED,
    both=False,
    rungs=(1.0, 2.0, 4.0, 8.0),
    closer=0.0,
    wider=8.0,
    power=1,
    noise=(1.0, 1.0),
    noise_of_pairs=(1.0, 1.0),
    goal=1e-8,
    loud=1e-6,
)
"""Crossed points on one side."""


@dataclass(frozen=True)
class Levels:
    """The noise of f."""

    real: Array  # (m, 1) of a value
    least: float  # of a value, over its size
    share: Array  # (m, 1) of an imaginary part, over its size

    def of(self, xp: Namespace, scheme: Scheme, seen: Bows, base: Array) -> Array:
        """(m, k) of what second differences are made of, near x: values, or derivatives that are imaginary parts."""
        near = seen.size[0, ...]
        if not scheme.crossed:
            return xp.maximum(self.real, self.least * near)
        curve = xp.abs(curves(scheme, seen)[1][0, ...])
        return self.share * xp.maximum(near, xp.sqrt(xp.abs(base) * curve))  # terms of a sum of squares cancel, say


OF_RUNGS = ("step", "part", "slope", "size")


@dataclass(frozen=True)
class Bows:
    """What R rungs of k lines gave, in rising order."""

    step: Array  # (R, k)
    part: Array  # (R, m, k)
    slope: Array  # (R, m, k) f' along the line
    size: Array  # (R, m, k) the larger of what is differenced
    failed: Array | None = None  # (sides, k) bool: f is finite at x but not there

    def row(self, i: int) -> Bows:
        """One rung."""
        return Bows(*(getattr(self, name)[i : i + 1, ...] for name in OF_RUNGS))


def bows(lines: Lines, scheme: Scheme, steps: Array, base: Array, origin: Array | None = None) -> Asking[Bows]:
    """Evaluate f at rungs (R, k); `base` is f(x), (m, 1), `origin` what one-sided crossed rungs are held against."""
    xp, count = lines.problem.xp, int(steps.shape[0])
    offsets = xp.concat([steps, -steps]) if scheme.both else steps
    values = lines.values((yield lines.points(offsets, turn=1j if scheme.crossed else None)))
    lost = ~xp.isfinite(values) & xp.isfinite(base)[None, ...]
    sides = [lost[:count, ...], lost[count:, ...]] if scheme.both else [lost]
    failed = xp.stack([xp.any(side, axis=(0, 1)) for side in sides])
    taken = lines.taken(steps)
    step = xp.abs(taken)
    if scheme.crossed:
        assert isinstance(lines, Crossed)
        imaginary = xp.imag(values)  # that of a real NaN is 0
        values = xp.where(xp.isfinite(values), imaginary, xp.full_like(imaginary, float("nan"))) / lines.tiny
        start = xp.zeros_like(base) if origin is None else origin
        return replace(_of_derivatives(xp, scheme, taken, values, start), failed=failed)
    size, values, t = _larger(xp, scheme, values), values - base, step[:, None, :]
    one, other = values[:count, ...], values[count:, ...]
    if scheme.both:
        return Bows(step, one + other, (one - other) / (2 * t), size, failed)
    return Bows(step, one, one / taken[:, None, :], size, failed)


def _of_derivatives(xp: Namespace, scheme: Scheme, taken: Array, values: Array, origin: Array) -> Bows:
    """Differences of f' along the line."""
    size, t, count, step = _larger(xp, scheme, values), taken[:, None, :], int(taken.shape[0]), xp.abs(taken)
    one, other = values[:count, ...], values[count:, ...]
    if scheme.both:
        return Bows(step, (one - other) * t / 2, (one + other) / 2, size)
    return Bows(step, (one - origin) * t, one, size)


def _larger(xp: Namespace, scheme: Scheme, values: Array) -> Array:
    """(R, m, k) of the values on both sides."""
    size = xp.where(xp.isfinite(values), xp.abs(values), xp.zeros_like(values))
    half = int(size.shape[0]) // 2
    return xp.maximum(size[:half, ...], size[half:, ...]) if scheme.both else size


def joined(xp: Namespace, rows: Sequence[Bows]) -> Bows:
    """Rungs of the same lines, one after the other."""
    if len(rows) == 1:
        return rows[0]
    return Bows(*(xp.concat([getattr(row, name) for row in rows]) for name in OF_RUNGS))


def curves(scheme: Scheme, seen: Bows) -> tuple[Array, Array]:
    """(K, k) steps, and (K, m, k) second derivatives along single lines as each rung shows them."""
    step, part = seen.step, seen.part
    if scheme.power == 1 and not scheme.crossed:
        step, part = step[:-1, ...], part[1:, ...] - 2 * part[:-1, ...]
    return step, part / (step * step)[:, None, :]


def seconds(scheme: Scheme, seen: Bows) -> Bows:
    """The rungs of single lines with their second derivatives as parts."""
    step, curve = curves(scheme, seen)
    count = int(step.shape[0])
    size = seen.size[1:, ...] if count < int(seen.size.shape[0]) else seen.size
    return Bows(step, curve, seen.slope[:count, ...], size)


def rungs_of(
    xp: Namespace, scheme: Scheme, seconds: Bows, base: Array, noise: tuple[float, float], near: Array
) -> SecondRungs:
    """Second derivatives `part` at their steps, for extrapolation; noise grows with what is differenced, from `near` on."""
    step, (own, common) = seconds.step, noise
    nothing = xp.zeros_like(seconds.part[0, ...])
    weight = 1 / step if scheme.crossed else 1 / (step * step)
    growth = xp.max(seconds.size / xp.where(near > 0, near, xp.ones_like(near)), axis=1)
    own_weight = own * weight * xp.maximum(growth, xp.ones_like(growth))
    size, still = nothing + xp.abs(base), xp.zeros_like(step[0, :])
    return SecondRungs(step, seconds.part, None, base, still, size, nothing, own_weight, common * weight, scheme.power)


@dataclass(frozen=True)
class Chart:
    """The scale of f on each line, all outputs together; arrays (k,)."""

    length: Array  # over which what is differenced changes
    change: Array  # by how much, in units of the outputs
    curve: Array  # what the second derivative is then
    noise: Array  # in the units of the change
    hidden: Array  # bool: noise hides the terms that would tell the length
    seen: Array  # bool: the second difference stands out of the noise


def charted(xp: Namespace, scheme: Scheme, seen: Bows, level: Array, together: Callable[[Array], Array]) -> Chart:
    """From Taylor terms (Curtis & Reid, J. IMA 13 (1974) 121); `together` makes (k,) of all outputs (m, k)."""
    (step, curve), slope, sigma = curves(scheme, seen), seen.slope, together(level)
    h, g = step[0, :], step[1, :]
    low, bend = together(curve[0, ...]), together(curve[1, ...] - curve[0, ...])
    turn = together(slope[1, ...] - slope[0, ...])
    if scheme.crossed:
        return _of_slopes(xp, scheme, (h, g), (together(slope[0, ...]), low, turn, bend), sigma)
    first, second = together(slope[0, ...]), low / 2
    if scheme.power == 1:
        third, fourth = bend / (6 * (g - h)), xp.zeros_like(h)
        floors = sigma / (h * h * (g - h)), sigma / (h * h * h * (g - h))
    else:
        apart = g * g - h * h
        third, fourth = turn / apart, bend / (2 * apart)
        floors = sigma / (2 * g * apart), sigma / (h * h * apart)
    high3, high4 = xp.maximum(third, floors[0]), xp.maximum(fourth, floors[1])
    odd = xp.maximum(xp.sqrt(first / high3), second / high3)
    even = xp.maximum((first / high4) ** (1 / 3), xp.sqrt(second / high4))
    length = _length(xp, xp.minimum(odd, even), g)
    change = xp.maximum(first * length, second * length**2)
    hidden = (third < SEEN * floors[0]) & (fourth < SEEN * floors[1])
    seen_there = together(curve[1, ...]) * g * g > SEEN * (scheme.noise[0] + scheme.noise[1]) * sigma
    return Chart(length, change, change / length**2, sigma, hidden, seen_there)


def _of_slopes(
    xp: Namespace, scheme: Scheme, steps: tuple[Array, Array], terms: tuple[Array, Array, Array, Array], sigma: Array
) -> Chart:
    """Of f' along the line, whose derivative is wanted."""
    (h, g), (near, first, turn, bend) = steps, terms
    if scheme.both:
        apart = g * g - h * h
        second, third = turn / apart, bend / apart
        floors = sigma / apart, sigma / (h * apart)
    else:
        second, third = bend / (g - h), xp.zeros_like(h)
        floors = sigma / (h * (g - h)), sigma / (h * h * (g - h))
    high2, high3 = xp.maximum(second, floors[0]), xp.maximum(third, floors[1])
    length = first / high2
    if scheme.both:  # each term vanishes somewhere, where the other tells
        odd = xp.maximum(length, xp.sqrt(near / high2))
        even = xp.maximum(xp.sqrt(first / high3), xp.where(second > floors[0], second, xp.zeros_like(second)) / high3)
        length = xp.where(third > 0, xp.minimum(odd, even), length)
    length = xp.where(first * g > SEEN * sigma, length, g / scheme.best(TYPICAL))  # nothing is seen of it
    length = _length(xp, length, g)
    change = xp.maximum(first * length, second * length**2)
    hidden = second < SEEN * floors[0]
    hidden = hidden & (third < SEEN * floors[1]) if scheme.both else hidden
    return Chart(length, change, change / length, sigma, hidden, first * g > SEEN * sigma)


def _length(xp: Namespace, length: Array, otherwise: Array) -> Array:
    """With a margin."""
    length = SAFETY * length
    return xp.where(xp.isfinite(length) & (length > 0), length, otherwise)
