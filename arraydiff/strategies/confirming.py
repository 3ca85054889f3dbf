"""What tracing gave, held to plain f: its value, and its derivative along one random ray.

Two points far apart enough for a difference that is right to 1e-9 or so settle it as a rule.  Between them lie kinks where f
takes many entries through a maximum or a clip, but hardly between two points far closer, which are asked next; where those do
not settle it, the ray's ladder does, with bars of its own.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from arraydiff._typing import Array, Namespace
from arraydiff.backends import Backend
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import Tangents
from arraydiff.noise import Noise, noise_at
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.seam import Asking, Values
from arraydiff.strategies import richardson
from arraydiff.strategies.certificate import ROUNDED, VALUE_SAME, WITHIN, witnessing
from arraydiff.strategies.ladder import witness_of

POWER = 1 / 3
"""Of eps: the step, of the scale, at which truncation and rounding of a central difference are about the same."""

SHORT_POWER = 1 / 2
"""The same of a step that meets the kinks of one entry in 10,000,000, where the first one meets those of one in 30,000."""

SHARP = 1e-3
"""Of what f moves by: a difference over the short step that may be off by more tells nothing."""

ROUNDINGS = 2.0**6
"""eps |f|: what two values may be rounded by, before the ladder is asked."""

AGREED = 1e-7
"""Relative: what the difference may leave out, before the ladder is asked."""

SECOND_POWER = 1 / 4
"""Of eps: the same for second differences."""

SECOND_AGREED = 1e-5
"""Relative: what second differences may leave out."""

CLEAR = 0.1
"""Of the derivative: differences with wider bars tell nothing. What is not followed misses far more, as a rule."""

APART = 0.1
"""Of |f(x)| or of the slope, in units of the scale: f(x) may be a value for itself, as of a guard against a division by 0."""

FALLS = 0.75
"""Power of the step by which f(x) stands apart less at least: of a bend it is 2, of a kink 1, of a value for itself 0."""

ISOLATED = "f(x) stands apart from what f is beside x, as where a division by 0 is caught"
OTHER_VALUES = "f gives other values to a traced x; it may be random, keep state, or look at the types of its arguments"
OTHER_SLOPE = "along a random direction differences of f give another derivative; f may look at types, or be random"
OTHER_BEND = "along a random direction differences of f give other derivatives, or do not resolve them"
NO_ROOM = "there is no room for differences inside the bounds"
UNCLEAR = "along a random direction differences of f are too inexact to tell"


def same_value(backend: Backend, eps: float, value: Array, traced: Array, slope: Array) -> str:
    """Nothing where f gave the traced x the values (m,) that it gives plain arrays; one read."""
    xp = backend.xp
    if backend.counts(traced != value) == [0]:
        return ""  # to the last bit
    finite, size = xp.isfinite(value), xp.maximum(xp.abs(value), _finite(xp, xp.abs(slope)))
    allowed = _finite(xp, eps * VALUE_SAME * size)
    same = xp.where(finite, xp.abs(traced - value) <= allowed, ~xp.isfinite(traced))
    return "" if _all(backend, same) else OTHER_VALUES


def step_of(eps: float, power: float) -> float:
    """A power of two: how far points lie from x along a ray, in units of the scale."""
    return math.ldexp(1.0, round(math.log2(eps**power)))


class Pair(NamedTuple):
    """What two points at ±t on a ray tell of each output (m,)."""

    t: float
    met: Array  # bool: they have the slope
    sharp: Array  # bool: what they leave out is little beside what f moves by
    bow: Array  # how far f(x) stands apart from them
    apart: Array  # bool: farther than f moves by its slope, or is large: it may be a value for itself, or f is about 0 here


def two_points(xp: Namespace, eps: float, t: float, values: tuple[Array, Array, Array], slope: Array) -> Pair:
    """The slope (m,) held to two points; `values` are at 0, t and -t."""
    value, ahead, behind = values
    speed = xp.abs(slope)
    size = xp.maximum(xp.abs(ahead), xp.abs(value)) + speed
    bow = xp.abs((ahead - value) + (behind - value))  # a slope that cancels does not tell what is left out
    apart = bow > APART * xp.maximum(xp.abs(value), speed)
    moves = xp.where(
        apart, xp.maximum(speed, bow / t), speed
    )  # at a minimum of 0 there is nothing else to compare with
    left = ROUNDINGS * eps / t * size + AGREED * xp.maximum(moves, xp.minimum(bow / t**2, size))
    met = (xp.abs((ahead - behind) / (2 * t) - slope) <= left) & xp.isfinite(left)
    return Pair(t, met, left <= SHARP * moves, bow, apart)


def confirmed(
    problem: Problem, config: DifferentiationConfig, at_x: Values, line: Tangents, slope: Array
) -> Asking[str]:
    """Nothing where differences of plain f along the line agree with the slope (m,), else what is wrong."""
    xp, value = problem.xp, at_x.at[:, 0]
    eps, lost = problem.eps_of(value), ~xp.isfinite(value)
    first: Pair | None = None
    for power in (POWER, SHORT_POWER):
        t = step_of(eps, power)
        if not _has_room(problem, line, t):
            break
        at = (yield line.points(problem.backend.asarray([[t], [-t]], problem.x.dtype))).at
        pair = two_points(xp, eps, t, (value, at[:, 0], at[:, 1]), slope)
        if first is None:
            first, settled = pair, pair.met & ~pair.apart
        else:
            falls = _falls(first, pair)
            if not _all(problem.backend, falls | lost):
                return ISOLATED
            settled = falls & (first.met | (pair.met & pair.sharp))
        if _all(problem.backend, settled | lost):
            return ""
    noise = noise_at(problem, config, at_x)
    return (yield from _by_ladder(problem, config, value, line, slope, noise))


def _falls(first: Pair, closer: Pair) -> Array:
    """Whether f(x) belongs to what f is beside it: the closer the points, the less it stands apart."""
    return ~first.apart | (closer.bow <= (closer.t / first.t) ** FALLS * first.bow)


def confirmed_second(
    problem: Problem, value: Array, line: Tangents, slope: Array, bend: Array, eps: float
) -> Asking[str]:
    """The same of a slope (m,) and a second derivative (m,), by four points."""
    xp, backend = problem.xp, problem.backend
    near, far = (step_of(eps, power) for power in (POWER, SECOND_POWER))
    if not _has_room(problem, line, far):
        return NO_ROOM
    points = backend.asarray([[near], [-near], [far], [-far]], problem.x.dtype)
    at = (yield line.points(points)).at
    first = (at[:, 0] - at[:, 1]) / (2 * near)
    second = (at[:, 2] - 2 * value + at[:, 3]) / far**2
    size = _finite(xp, xp.max(xp.abs(at), axis=1) + xp.abs(slope) + xp.abs(bend))
    typical = xp.abs(slope) + xp.abs(bend)
    met = xp.abs(first - slope) <= ROUNDINGS * eps * size / near + AGREED * typical
    met = met & (xp.abs(second - bend) <= ROUNDINGS * eps * size / far**2 + SECOND_AGREED * typical)
    met = met & xp.isfinite(typical)
    return "" if _all(problem.backend, met | ~xp.isfinite(value)) else OTHER_BEND


def _by_ladder(
    problem: Problem, config: DifferentiationConfig, value: Array, line: Tangents, slope: Array, noise: Noise
) -> Asking[str]:
    xp, m = problem.xp, int(value.shape[0])
    noise = replace(noise, asks=False)
    witness, _ = yield from richardson.ladders(line, witnessing(problem, config), value, noise, ending=witness_of)
    seen, error, size = witness.value[:, 0], witness.error[:, 0], xp.abs(slope)
    size = xp.maximum(size, xp.abs(seen))
    least = CLEAR * xp.minimum(_mean(problem, size), size + xp.abs(value))  # a slope that cancels is held to its like
    clear = (error <= CLEAR * xp.maximum(size, least)) | (error <= noise.eps * ROUNDED * xp.abs(value))
    clear = clear & ((witness.status[:, 0] & int(Status.FAILED)) == 0)
    bars = WITHIN * (1 + math.log2(max(m, 1))) * error
    agreed = xp.abs(seen - slope) <= xp.maximum(bars, config.complex_step_threshold * math.sqrt(m) * size)
    lost = ~xp.isfinite(value)
    if not _all(problem.backend, agreed | lost):
        return OTHER_SLOPE
    return "" if _all(problem.backend, clear | lost) else UNCLEAR


def _has_room(problem: Problem, line: Tangents, t: float) -> bool:
    """Whether both points lie inside the bounds; one read where there are any."""
    if line.room is None:
        return True
    up, down = line.room
    return _all(problem.backend, (up >= t) & (down >= t))


def _mean(problem: Problem, sizes: Array) -> Array:
    """() the root mean square of what is finite."""
    xp, sizes = problem.xp, _finite(problem.xp, sizes)
    largest = xp.max(sizes)
    unit = xp.where(largest > 0, largest, xp.ones_like(largest))
    return unit * xp.sqrt(xp.mean((sizes / unit) ** 2))


def _finite(xp: Namespace, sizes: Array) -> Array:
    return xp.where(xp.isfinite(sizes), sizes, xp.zeros_like(sizes))


def _all(backend: Backend, passed: Array) -> bool:
    return backend.counts(~passed) == [0]
