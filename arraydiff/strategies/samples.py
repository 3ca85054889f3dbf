"""Values of f at pairs of points on k lines, and what they make: nodes of polynomials, lengths, jumps of a derivative."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import factorial

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.directions import Lines
from arraydiff.noise import ROUNDING_HIGH, Noise
from arraydiff.seam import Asking
from arraydiff.strategies.polynomial import Nodes, chosen, first, gain, largest_below, next_row, towers

PAIR = 1.375  # one-sided, every rung is the two points h and PAIR h
UNRESOLVED = 0.3  # share of the high Taylor terms beyond which rungs saw different functions
SEEN = 6.0  # times the noise
STEADY = 0.12  # a jump of the derivative is the same at all steps to this share
ROUNDING = 0.5  # eps |f|: noise that a given level below it does not hide
BEYOND = 2.0  # times the steps up to which rungs agree: points farther out belong to another function
FEWEST = 3  # steps that show it


@dataclass(frozen=True)
class Samples:
    """What is known of f on k lines, two points a rung: x ± h, or both on one side."""

    backend: Backend
    n: int  # the order of the derivative
    eps: float
    known: Array | None  # (k,) noise of f
    ceiling: float  # of the level that may be measured
    base: Array  # (k,) f(x)
    reach: Array  # (k,) |x|
    side: Array  # (k,) 0: central; +1, -1
    offsets: Array  # (2, R, k)
    at: Array  # (2, R, k), NaN where f failed

    def block(self, start: int, stop: int) -> Samples:
        """Some of the lines."""
        which = slice(start, stop)
        return replace(
            self,
            known=None if self.known is None else self.known[which],
            base=self.base[which],
            reach=self.reach[which],
            side=self.side[which],
            offsets=self.offsets[:, :, which],
            at=self.at[:, :, which],
        )


@dataclass(frozen=True)
class Chart:
    """The scale of f on each line; arrays (k,)."""

    length: Array  # over which it changes
    size: Array  # by how much
    noise: Array  # absolute
    resolved: Array  # bool: rungs saw the same function
    seen: Array  # bool: it stands out of the noise
    bounded: Array  # bool: the length is one of f, not only the farthest that noise lets rungs see
    limit: Array  # beyond which steps meet another function, as far as is known


def begin(lines: Lines, n: int, value: Array, noise: Noise) -> Samples:
    """Lines without points."""
    xp, dtype = lines.problem.xp, lines.problem.xp.result_type(value.dtype, lines.scale.dtype)
    base = xp.astype(lines.at_x(value)[0, :], dtype)
    known = None if noise.known is None else xp.astype(lines.at_x(noise.known)[0, :], dtype)
    ceiling = float("inf") if noise.measured else ROUNDING_HIGH
    still = xp.zeros_like(base)
    none = xp.stack([still, still])[:, None, :][:, :0, :]
    return Samples(lines.problem.backend, n, noise.eps, known, ceiling, base, lines.reach, still, none, none)


def sampled(lines: Lines, samples: Samples, first: Array, second: Array) -> Asking[Samples]:
    """The same with two more points a rung, at offsets (r, k) each."""
    xp, count = samples.backend.xp, int(first.shape[0])
    offsets = xp.concat([first, second])
    values = lines.values((yield lines.points(offsets)))[:, 0, :]
    values, taken = (xp.astype(part, samples.base.dtype) for part in (values, lines.taken(offsets)))
    values = xp.where(xp.isfinite(values) & (taken != 0), values, xp.full_like(values, float("nan")))
    taken = xp.concat([samples.offsets, xp.stack([taken[:count, :], taken[count:, :]])], axis=1)
    values = xp.concat([samples.at, xp.stack([values[:count, :], values[count:, :]])], axis=1)
    taken, values = samples.backend.computed(taken, values)
    return replace(samples, offsets=taken, at=values)


def pairs(samples: Samples, steps: Array) -> tuple[Array, Array]:
    """Offsets of rungs (r, k): both sides of x, or twice the one that is taken."""
    xp, side = samples.backend.xp, samples.side[None, :]
    central = side == 0
    return xp.where(central, steps, side * steps), xp.where(central, -steps, side * PAIR * steps)


def _ordered(backend: Backend, key: Array, arrays: Array) -> Array:
    """Arrays (A, K, k) sorted by `key` (K, k); what is not finite, and repetitions, go last and are NaN."""
    xp, count = backend.xp, int(key.shape[0])
    place = xp.arange(count, device=backend.device)
    earlier = (place[None, :] < place[:, None])[:, :, None]
    mine, others = key[:, None, :], key[None, :, :]
    again = xp.any((others == mine) & earlier, axis=1)
    key = xp.where(again, xp.full_like(key, float("inf")), key)
    mine, others = key[:, None, :], key[None, :, :]
    rank = xp.sum(xp.astype((others < mine) | ((others == mine) & earlier), place.dtype), axis=1)
    taken = rank[None, :, :] == place[:, None, None]  # (K to, K from, k)
    arrays = xp.where(xp.isfinite(key)[None, ...], arrays, xp.full_like(arrays, float("nan")))
    (found,) = backend.computed(
        xp.sum(xp.where(taken[None, ...], arrays[:, None, ...], xp.zeros_like(arrays)[:, None, ...]), axis=2)
    )
    return found


def _noise(samples: Samples, sizes: Array) -> tuple[Array, Array]:
    """(K, k) noise of each rung whose values are as large as `sizes`, and that of f(x); over the level that is measured."""
    xp, base = samples.backend.xp, samples.base[None, :]
    sizes = xp.where(xp.isfinite(sizes), sizes, xp.zeros_like(sizes))
    grown = xp.maximum(sizes, largest_below(samples.backend, sizes, xp.abs(samples.base)))
    own, common = samples.eps * grown, samples.eps * xp.abs(base)
    if samples.known is None:
        return own, common
    known = samples.known[None, :]
    return xp.maximum(ROUNDING * own, known + xp.zeros_like(own)), xp.maximum(ROUNDING * common, known)


def _nodes(samples: Samples, t: Array, y: Array, own: Array, common: Array, order: int, factor: float) -> Nodes:
    """Nodes whose failures spoil no weights."""
    xp, there = samples.backend.xp, samples.backend.xp.isfinite(y)

    def sound(array: Array) -> Array:
        return xp.where(there, array, xp.zeros_like(array))

    return Nodes(xp.where(there, t, xp.full_like(t, float("nan"))), y, sound(own), sound(common), order, factor)


def central(samples: Samples) -> tuple[Nodes, Nodes]:
    """The nodes of the n-th derivative from x ± h, and those of the parity that it does not need."""
    xp, n, base = samples.backend.xp, samples.n, samples.base[None, :]
    (plus, minus), (up, down) = (samples.offsets[i, ...] for i in (0, 1)), (samples.at[i, ...] for i in (0, 1))
    h, shift = (plus - minus) / 2, (plus + minus) / 2
    slope = (up - down) / (2 * h)
    bend = ((up - base) + (down - base) - 2 * shift * slope) / (h * h)
    size = xp.maximum(xp.abs(up), xp.abs(down)) + samples.reach[None, :] * xp.abs(slope) / 4
    key = xp.where(xp.isfinite(bend) & (h > 0), h, xp.full_like(h, float("inf")))
    h, slope, bend, size = (
        array for array in _unstacked(_ordered(samples.backend, key, xp.stack([h, slope, bend, size])))
    )
    own, common = _noise(samples, size)
    t, order = h * h, (n - 1) // 2
    odd = _nodes(samples, t, slope, own / (2**0.5 * h), xp.zeros_like(h), order, factorial(n))
    even = _nodes(samples, t, bend, 2**0.5 * own / t, 2 * common / t, order, factorial(n) / 2)
    return (odd, even) if n % 2 else (even, odd)


def sided(samples: Samples) -> Nodes:
    """The nodes of the n-th derivative from all points, wherever they lie."""
    xp, n, count = samples.backend.xp, samples.n, 2 * int(samples.at.shape[1])
    z = xp.reshape(samples.offsets, (count, -1))
    values = xp.reshape(samples.at, (count, -1))
    slope = (values - samples.base[None, :]) / z
    size = xp.abs(values) + samples.reach[None, :] * xp.abs(slope) / 4
    key = xp.where(xp.isfinite(slope), xp.abs(z), xp.full_like(z, float("inf")))
    z, slope, size = _unstacked(_ordered(samples.backend, key, xp.stack([z, slope, size])))
    own, common = _noise(samples, size)
    return _nodes(samples, z, slope, own / xp.abs(z), common / z, n - 1, float(n))


def _unstacked(array: Array) -> list[Array]:
    return [array[i, ...] for i in range(int(array.shape[0]))]


def charted(samples: Samples, level: Array, on_one_side: bool) -> Chart:
    """The length over which f changes: from four Taylor terms of neighbouring rungs, up to where rungs stop agreeing."""
    xp = samples.backend.xp
    terms, sizes, top = (_sided_terms if on_one_side else _central_terms)(samples)
    sizes = [size * level[None, :] for size in sizes]
    c1, c2, c3, c4 = (xp.abs(term) for term in terms)
    high3, high4 = xp.maximum(c3, sizes[2] / 2), xp.maximum(c4, sizes[3] / 2)
    odd = xp.maximum(xp.sqrt(c1 / high3), c2 / high3)
    even = xp.maximum((c1 / high4) ** (1 / 3), xp.sqrt(c2 / high4))
    lengths = xp.minimum(odd, even)
    in_noise = xp.where(odd <= even, c3 < SEEN * sizes[2], c4 < SEEN * sizes[3])
    low, noise = c1 * top + c2 * top**2, SEEN * (sizes[0] * top + sizes[1] * top**2)
    agree = c3 * top**3 + c4 * top**4 <= UNRESOLVED * low + SEEN * (sizes[2] * top**3 + sizes[3] * top**4)
    later = [next_row(samples.backend, term) for term in terms[:2]]
    missed = xp.abs(later[0] - terms[0]) * top + xp.abs(later[1] - terms[1]) * top**2 > low / 2 + noise
    bad = xp.astype(~(agree & xp.isfinite(lengths)), top.dtype)
    nothing = xp.zeros_like(level)
    good = (bad == 0) & (largest_below(samples.backend, xp.maximum(bad, xp.astype(missed, top.dtype)), nothing) == 0)
    lengths = xp.where(good, lengths, xp.zeros_like(lengths))
    best = chosen(samples.backend, xp.argmax(lengths, axis=0), int(top.shape[0]))
    length = first(xp, best, lengths)
    size = first(xp, best, xp.maximum(c1 * lengths, c2 * lengths**2))
    farthest = xp.max(xp.where(good, top, xp.zeros_like(top)), axis=0)
    ended = (length > 0) & xp.any(~good & xp.isfinite(top), axis=0)
    infinite = xp.full_like(level, float("inf"))
    absolute = xp.maximum(xp.abs(samples.base), size) * samples.eps * level
    return Chart(
        length,
        size,
        absolute if samples.known is None else samples.known,
        resolved=length > 0,
        seen=xp.any(good & (low > noise), axis=0),
        bounded=xp.any(best & ~in_noise, axis=0),
        limit=xp.where(ended, BEYOND * farthest, infinite),
    )


Terms = tuple[list[Array], list[Array], Array]
"""Taylor terms 1 to 4, their noise, and the farthest step: (K, k) each."""


def _central_terms(samples: Samples) -> Terms:
    one, other = central(samples)
    odd, even = (one, other) if samples.n % 2 else (other, one)
    slope, third = towers(samples.backend, odd, 1, 2)[-1]
    bend, fourth = towers(samples.backend, even, 1, 2)[-1]
    rows = [slope, bend / 2, third, fourth / 2]
    xp = samples.backend.xp
    return [row[:, 0, :] for row in rows], [gain(xp, row) for row in rows], xp.sqrt(next_row(samples.backend, odd.t))


def _sided_terms(samples: Samples) -> Terms:
    xp, nodes = samples.backend.xp, sided(samples)
    tower = towers(samples.backend, nodes, 3, 4)[-1]
    rows = [row / factorial(e) for e, row in enumerate(tower)]
    top = xp.abs(nodes.t)
    for _ in range(3):
        top = next_row(samples.backend, top)
    return [row[:, 0, :] for row in rows], [gain(xp, row) for row in rows], top


def jump(samples: Samples, level: Array) -> Array:
    """(k,) half the difference of the one-sided n-th derivatives at x, where there is one; else 0.

    |h|^n is of the parity that the derivative does not need.  Its part of that series does not fall with the step.
    """
    xp, backend, n = samples.backend.xp, samples.backend, samples.n
    _, other = central(samples)
    order = (n - 2) // 2
    if other.count < order + 1 + FEWEST:
        return xp.zeros_like(level)
    size = (other.t ** ((n - 1) / 2)) / factorial(n) if n % 2 == 0 else 2 * other.t ** ((n - 2) / 2) / factorial(n)
    kink = replace(other, y=size)
    rows, unit = (towers(backend, nodes, order, order + 1)[-1][-1] for nodes in (other, kink))
    step, per_unit = next_row(backend, rows) - rows, (next_row(backend, unit) - unit)[:, 0, :]
    jumps = step[:, 0, :] / per_unit
    noise = SEEN * level * gain(xp, step) / xp.abs(per_unit)
    clear = xp.abs(jumps) > noise / STEADY
    lowest = clear & (largest_below(backend, xp.astype(clear, level.dtype), xp.zeros_like(level)) == 0)
    found = first(xp, lowest, jumps)
    telling = noise < STEADY * xp.abs(found)
    count = xp.cumulative_sum(xp.astype(telling, level.dtype), axis=0)
    telling = telling & (count <= FEWEST)
    disagree = telling & (xp.abs(jumps - found) > STEADY * xp.abs(found) + noise)
    kinked = (count[-1, :] >= FEWEST) & ~xp.any(disagree, axis=0)
    return xp.where(kinked, xp.abs(found), xp.zeros_like(found))
