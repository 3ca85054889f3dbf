"""Second differences along lines: how they are made of values of f, and what those values say of the scale of f.

A scheme is data and a few lines of arithmetic.  `part` is what one rung of one line gives: step² times the second derivative
along it (on one side of x: f there, less f(x)).  The parts of two lines, taken off that of the line between them, leave step²
times the mixed derivative, once or twice, in a series of the same powers.
Turned steps t (1 + i), whose square is imaginary: Lai & Crassidis, J. Comput. Appl. Math. 218 (2008) 43.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from arraydiff._typing import Array, Namespace
from arraydiff.directions import Lines
from arraydiff.seam import Asking
from arraydiff.strategies.tableau import SecondRungs

SAFETY = 0.7  # of the length: a step too large costs a high power, one too small costs its square
SEEN = 3.0  # times the noise
TURN = 1 + 1j


@dataclass(frozen=True)
class Scheme:
    """How second differences are made."""

    turn: complex | None  # of the steps
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

    @property
    def analytic(self) -> bool:
        """Whether second differences are imaginary parts, free of cancellation against f(x)."""
        return self.turn == TURN

    @property
    def beside(self) -> bool:
        """Whether points lie beside the real axis, whatever the bounds."""
        return self.turn == 1j

    @property
    def spacing(self) -> float:
        """From rung to rung."""
        return self.rungs[1] / self.rungs[0]


CENTRAL = Scheme(
    turn=None,
    both=True,
    rungs=(1.0, 2.0),
    closer=1 / 4,
    wider=4.0,
    power=2,
    pairs=2.0,
    noise=(2**0.5, 2.0),
    noise_of_pairs=(6**0.5, 2.0),
    first=2.0,
    best=lambda noise: (0.9 * noise) ** (1 / 6),
)
"""Real points on both sides."""

IMAGINARY = replace(
    CENTRAL, turn=1j, both=False, rungs=(1.0, 2.0, 4.0), noise=(2.0, 2.0), noise_of_pairs=(12**0.5, 2.0)
)
"""Imaginary steps, which need no room beside x."""

TURNED = replace(
    CENTRAL,
    turn=TURN,
    rungs=(1.0, 4.0),
    closer=1 / 8,
    wider=4.0,
    power=4,
    noise=(1.0, 0.0),
    noise_of_pairs=(3**0.5, 0.0),
    first=8.0,
    best=lambda noise: noise ** (1 / 9) / 2,
)
"""Steps whose square is imaginary."""

SIDED = Scheme(
    turn=None,
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
)
"""Real points on one side; a line's second difference is that of two neighbouring rungs."""


@dataclass(frozen=True)
class Levels:
    """The noise of f."""

    real: Array  # (m, 1) of a value
    share: Array  # (m, 1) of an imaginary part, over its size

    def of(self, xp: Namespace, scheme: Scheme, seen: Bows, base: Array) -> Array:
        """(m, k) of what second differences are made of; of imaginary parts, over their step."""
        if not scheme.analytic:
            return self.real + xp.zeros_like(seen.part[0, ...])
        slope, curve = xp.abs(seen.slope[0, ...]), xp.abs(curves(scheme, seen)[1][0, ...])
        sizes = xp.maximum(slope, xp.sqrt(xp.abs(base) * curve))  # the terms of a sum that cancel: of squares no more
        return self.share * sizes


@dataclass(frozen=True)
class Bows:
    """What R rungs of k lines gave, in rising order."""

    step: Array  # (R, k)
    part: Array  # (R, m, k)
    slope: Array  # (R, m, k) f' along the line
    third: Array | None = None  # (R, m, k) f''' / 6, where single rungs show it
    fourth: Array | None = None  # (R, m, k) f'''' / 24
    failed: Array | None = None  # (sides, k) bool: f is finite at x but not there

    def row(self, i: int) -> Bows:
        """One rung."""
        return Bows(self.step[i : i + 1, :], self.part[i : i + 1, ...], self.slope[i : i + 1, ...])


def bows(lines: Lines, scheme: Scheme, steps: Array, base: Array) -> Asking[Bows]:
    """Evaluate f at rungs (R, k); `base` is f(x), (m, 1)."""
    xp, count = lines.problem.xp, int(steps.shape[0])
    offsets = xp.concat([steps, -steps]) if scheme.both else steps
    values = lines.values((yield lines.points(offsets, turn=scheme.turn))) - base
    one, other = values[:count, ...], values[count:, ...]
    step = xp.abs(steps if scheme.turn is not None else lines.taken(steps))
    lost = ~xp.isfinite(values) & xp.isfinite(base)[None, ...]
    sides = [lost[:count, ...], lost[count:, ...]] if scheme.both else [lost]
    failed = xp.stack([xp.any(side, axis=(0, 1)) for side in sides])
    return replace(_made(xp, scheme, step, one, other), failed=failed)


def _made(xp: Namespace, scheme: Scheme, step: Array, one: Array, other: Array) -> Bows:
    """Of the values at the steps and, where there are some, opposite them."""
    t = step[:, None, :]
    if scheme.turn is None:
        return Bows(step, one + other, (one - other) / (2 * t)) if scheme.both else Bows(step, one, one / t)
    if not scheme.analytic:
        return Bows(step, -2 * xp.real(one), xp.imag(one) / t)
    even, odd = one + other, one - other
    real, imaginary = xp.real(odd), xp.imag(odd)
    slope, third = (real + imaginary) / (4 * t), (imaginary - real) / (8 * t**3)
    return Bows(step, xp.imag(even) / 2, slope, third, -xp.real(even) / (8 * t**4))


def joined(xp: Namespace, rows: Sequence[Bows]) -> Bows:
    """Rungs of the same lines, one after the other."""
    if len(rows) == 1:
        return rows[0]
    return Bows(*(xp.concat([getattr(row, name) for row in rows]) for name in ("step", "part", "slope")))


def curves(scheme: Scheme, seen: Bows) -> tuple[Array, Array]:
    """(K, k) steps, and (K, m, k) second derivatives along single lines as each rung shows them."""
    step, part = seen.step, seen.part
    if scheme.power == 1:
        step, part = step[:-1, ...], part[1:, ...] - 2 * part[:-1, ...]
    return step, part / (step * step)[:, None, :]


def rungs_of(
    xp: Namespace, scheme: Scheme, step: Array, quotient: Array, base: Array, noise: tuple[float, float]
) -> SecondRungs:
    """Second quotients (K, m, k) at steps (K, k), for extrapolation."""
    nothing, (own, common) = xp.zeros_like(quotient[0, ...]), noise
    weight = 1 / step if scheme.analytic else 1 / (step * step)
    size = nothing + xp.abs(base)
    still = xp.zeros_like(step[0, :])
    return SecondRungs(step, quotient, None, base, still, size, nothing, own * weight, common * weight, scheme.power)


@dataclass(frozen=True)
class Chart:
    """The scale of f on each line, all outputs together; arrays (k,)."""

    length: Array  # over which it changes
    change: Array  # by how much, in units of the outputs
    noise: Array  # in the same units
    hidden: Array  # bool: noise hides the terms that would tell the length
    seen: Array  # bool: the second difference stands out of the noise


def charted(
    xp: Namespace, scheme: Scheme, seen: Bows, levels: Levels, level: Array, together: Callable[[Array], Array]
) -> Chart:
    """From four Taylor terms (Curtis & Reid, J. IMA 13 (1974) 121); `together` makes (k,) of all outputs (m, k)."""
    (step, curve), slope = curves(scheme, seen), seen.slope
    h, g, sigma = step[0, :], step[1, :], together(level)
    first, second = together(slope[0, ...]), together(curve[0, ...]) / 2
    if seen.third is not None and seen.fourth is not None:
        third, fourth = together(seen.third[1, ...]), together(seen.fourth[1, ...])
        real = together(levels.real + xp.zeros_like(level))
        floors = real / (8 * g**3), real / (8 * g**4)
    elif scheme.power == 1:
        third, fourth = together(curve[1, ...] - curve[0, ...]) / (6 * (g - h)), xp.zeros_like(h)
        floors = sigma / (h * h * (g - h)), sigma / (h * h * (g - h) * h)
    else:
        apart = g * g - h * h
        third, fourth = (
            together(slope[1, ...] - slope[0, ...]) / apart,
            together(curve[1, ...] - curve[0, ...]) / (2 * apart),
        )
        floors = sigma / (2 * g * apart), sigma / (h * h * apart)
    hidden3, hidden4 = third < SEEN * floors[0], fourth < SEEN * floors[1]
    high3, high4 = xp.maximum(third, floors[0]), xp.maximum(fourth, floors[1])
    if scheme.analytic:  # the real parts that would tell are noisier than what is made of imaginary ones
        high3, high4 = (
            xp.where(hidden, xp.zeros_like(high), high) for hidden, high in ((hidden3, high3), (hidden4, high4))
        )
    odd = xp.maximum(xp.sqrt(first / high3), second / high3)
    even = xp.maximum((first / high4) ** (1 / 3), xp.sqrt(second / high4))
    length = SAFETY * xp.minimum(odd, even)
    length = xp.where(xp.isfinite(length) & (length > 0), length, g / scheme.best(2.0**-52))
    noise = (scheme.noise[0] + scheme.noise[1]) * sigma * (g if scheme.analytic else 1.0)
    bow = together(curve[1, ...]) * g * g
    return Chart(length, xp.maximum(first * length, second * length**2), sigma, hidden3 & hidden4, bow > SEEN * noise)
