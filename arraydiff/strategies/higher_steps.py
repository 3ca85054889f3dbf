"""Where the rungs of a higher derivative go: the balance of its truncation and noise, on the side that has room.

The price of a pattern of nodes, its noise and its first Taylor term left out, follows from the nodes alone.  With the length over
which f changes it gives the step that is best and the error to expect there: on both sides, on one, and below any cap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from math import factorial, sqrt

from arraydiff._typing import Array, Namespace
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import Lines
from arraydiff.strategies.samples import PAIR, Chart, Samples

SCOUTS = (0.875 * 2.0**-7, 0.875 * 2.0**-3)  # of the scale; the factors keep the steps of all rounds apart
BEST = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)  # half the error of six powers of two
MORE = (1.25, 2.5, 3.75, 5.0)
SPREAD = (1, 3, 6, 10, 15, 21)  # log2: where scouts saw different functions, or nothing at all
SAFETY = 0.7  # of the length: a step too large costs a high power, one too small a low one
TURN = 4.0  # times the error to be expected: then one side is better than both


def guess(lines: Lines, samples: Samples) -> Chart:
    """Before anything is known: f changes over the scale of x."""
    one = lines.problem.xp.ones_like(lines.scale)
    return Chart(lines.scale, one, samples.eps * one, one > 0, one > 0, one > 0, one * float("inf"))


@cache
def _prices(n: int, nodes: tuple[float, ...], both: bool) -> tuple[float, float, int]:
    """Noise of the n-th derivative at steps of 1, its truncation over the first Taylor term left out, and that term's power."""
    points = [0.0, *nodes, *((-node if both else PAIR * node) for node in nodes)]
    noise = 0.0
    for i, point in enumerate(points):
        others = points[:i] + points[i + 1 :]
        weight = _product(others)[n]
        for other in others:
            weight /= point - other
        noise += weight * weight
    left_out, power = _product(points)[n - both * (n % 2 == 0)], len(points) + both * (n % 2 == 0) - n
    return factorial(n) * sqrt(noise), factorial(n) * abs(left_out), power


def _product(roots: Sequence[float]) -> list[float]:
    """Coefficients of the polynomial with these roots, from that of 1 up."""
    found = [1.0]
    for root in roots:
        found = [low - root * high for low, high in zip([0.0, *found], [*found, 0.0], strict=True)]
    return found


def best_unit(
    xp: Namespace, n: int, pattern: tuple[float, ...], chart: Chart, both: bool, cap: Array
) -> tuple[Array, Array]:
    """(k,) the unit of the pattern at which truncation and noise balance, below `cap`, and the error to expect there."""
    noise, truncation, power = _prices(n, pattern, both)
    length = SAFETY * chart.length
    size = xp.where(chart.size > 0, chart.size, chart.noise)
    share = n * noise * chart.noise / (power * truncation * xp.where(size > 0, size, xp.ones_like(size)))
    unit = xp.minimum(length * share ** (1 / (n + power)), cap / pattern[-1] / (1 if both else PAIR))
    unit = xp.where(unit > 0, unit, xp.ones_like(unit))
    error = noise * chart.noise / unit**n + truncation * size * (unit / length) ** power / length**n
    return unit, error


def _caps(lines: Lines, samples: Samples) -> tuple[Array, Array]:
    """(k,) how far steps may go up and down: inside the bounds, and not where f failed."""
    xp, infinite = lines.problem.xp, lines.problem.xp.full_like(lines.scale, float("inf"))
    offsets = xp.concat([samples.offsets[0, ...], samples.offsets[1, ...], infinite[None, :]])
    values = xp.concat([samples.at[0, ...], samples.at[1, ...], infinite[None, :]])
    failed = ~xp.isfinite(values)
    up, down = (
        xp.min(xp.where(failed & (sign * offsets > 0), xp.abs(offsets), infinite[None, :]), axis=0) for sign in (1, -1)
    )
    if lines.room is None:
        return up, down
    return xp.minimum(up, lines.room[0]), xp.minimum(down, lines.room[1])


def turned(lines: Lines, samples: Samples, chart: Chart) -> Samples:
    """The same with each line central, or on the side where far less error is to be expected."""
    xp, n = lines.problem.xp, samples.n
    up, down = _caps(lines, samples)
    length = xp.where(chart.length > 0, chart.length, lines.scale)
    size = xp.where(chart.size > 0, chart.size, xp.ones_like(length))
    chart = replace(chart, length=length, size=size, noise=xp.maximum(chart.noise, samples.eps * size))
    _, middle = best_unit(xp, n, BEST, chart, True, xp.minimum(up, down))
    _, above = best_unit(xp, n, BEST, chart, False, up)
    _, below = best_unit(xp, n, BEST, chart, False, down)
    to_side = xp.where(above <= below, xp.ones_like(up), -xp.ones_like(up))
    turn = (TURN * xp.minimum(above, below) < middle) | (xp.minimum(up, down) <= 0)
    return replace(samples, side=xp.where(turn, to_side, xp.zeros_like(up)))


def on_pattern(
    lines: Lines, config: DifferentiationConfig, samples: Samples, unit: Array, pattern: tuple[float, ...]
) -> Array:
    """(r, k) powers of two next to `unit` times the pattern, inside limits and bounds."""
    xp = lines.problem.xp
    cap = _cap(lines, config, samples)
    fits = cap / pattern[-1]
    power = 2.0 ** xp.round(xp.log2(unit))
    power = xp.where(power <= fits, power, 2.0 ** xp.floor(xp.log2(fits)))
    return limited(xp, config, power[None, :] * lines.problem.backend.asarray(list(pattern), unit.dtype)[:, None], cap)


def _cap(lines: Lines, config: DifferentiationConfig, samples: Samples) -> Array:
    """(k,) the largest step of a rung."""
    xp, side = lines.problem.xp, samples.side
    up, down = _caps(lines, samples)
    cap = xp.where(side == 0, xp.minimum(up, down), xp.where(side > 0, up, down) / PAIR)
    return cap if config.max_step is None else xp.minimum(cap, xp.full_like(cap, config.max_step))


def limited(xp: Namespace, config: DifferentiationConfig, steps: Array, cap: Array) -> Array:
    """The user's limits and the room, to the letter; rungs that fall together count once."""
    if config.min_step is not None:
        steps = xp.maximum(steps, xp.full_like(steps, config.min_step))
    return xp.minimum(steps, cap + xp.zeros_like(steps))


def following(
    lines: Lines, config: DifferentiationConfig, samples: Samples, chart: Chart, pattern: tuple[float, ...]
) -> Array:
    """(r, k) the next rungs: where the pattern is best; far below or above all others where f was not resolved or seen."""
    xp = lines.problem.xp
    both, cap = samples.side == 0, _cap(lines, config, samples)
    unit = xp.where(
        both,
        best_unit(xp, samples.n, pattern, chart, True, cap)[0],
        best_unit(xp, samples.n, pattern, chart, False, cap * PAIR)[0],
    )
    best = on_pattern(lines, config, samples, xp.where(chart.resolved, unit, lines.scale), pattern)
    spread = 2.0 ** lines.problem.backend.asarray(list(SPREAD[: len(pattern)]), unit.dtype)[:, None]
    tried = xp.abs(samples.offsets[0, ...])
    tried = xp.where(tried > 0, tried, xp.zeros_like(tried) + lines.scale[None, :])
    down = xp.minimum(xp.min(tried, axis=0), cap)[None, :] / spread
    up = xp.max(tried, axis=0)[None, :] * spread
    sighted = chart.seen & (chart.bounded if pattern is BEST else chart.seen)
    steps = xp.where(chart.resolved[None, :], xp.where(sighted[None, :], best, up), down)
    return limited(xp, config, steps, cap)
