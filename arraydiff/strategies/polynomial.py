"""Derivatives at 0 of interpolating polynomials: of every window of nodes, with the noise it lets through and an error bar.

What `tableau` does for values at 0, for derivatives at 0: Neville's scheme, differentiated.  The parts of f that are even and odd
about x are polynomials in h² of their own, so central nodes are t = h²; the part that a derivative does not need shows the
noise at no cost.  Lyness & Moler, Numer. Math. 8 (1966) 458; Fornberg, Math. Comp. 51 (1988) 699.
"""

from __future__ import annotations

from dataclasses import dataclass

from arraydiff._typing import Array, Namespace
from arraydiff.backends import Backend
from arraydiff.noise import ABOVE_ROUNDING, ROUNDING_HIGH, ROUNDING_LOW

TRUNCATION = 2.0  # bars are TRUNCATION * decay-weighted change + NOISE * noise
NOISE = 2.0  # with noise measured in the same values
NOISE_KNOWN = 2.2  # with noise given
INFLATION = 1.4  # of a measured level: few degrees of freedom
POOL = 4.0  # noise samples up to this many times the least one are averaged
DOUBT = 3.0  # a window without a smaller one is trusted to this many times its difference to the next
OFF = 0.5  # a window whose top quotient is off by more takes the change of its sub-window
CONTRADICTION = 4.5  # times the noise of a quotient of smaller steps, beyond the spread inside the window
FALLS = 3.0  # a noise sample that falls by more from one size to the next is truncation
MODEST = 3e-3  # of f: a level above is no noise, whatever it looks like
LARGEST = 7  # nodes more than a derivative needs


@dataclass(frozen=True)
class Nodes:
    """Values of y at nodes t on k lines, sorted by size; NaN where f failed.

    The derivative of f is `factor` times the derivative of y of this `order`, at t = 0.
    """

    t: Array  # (K, k)
    y: Array  # (K, k)
    own: Array  # (K, k) standard deviation of y, over the noise level
    common: Array  # (K, k) the same for f(x), which enters all of them
    order: int
    factor: float

    @property
    def count(self) -> int:
        """K."""
        return int(self.t.shape[0])


@dataclass(frozen=True)
class Windows:
    """All windows of one size, by their first node; NaN where there are not enough nodes after it."""

    size: int
    value: Array  # (K, k)
    gain: Array  # (K, k) noise of the value over the noise level
    sample: Array  # (K, k) of the noise level
    change: Array  # (K, k) against the sub-windows
    decay: Array  # (K, k) by which changes fall from size to size


@dataclass(frozen=True)
class Level:
    """The noise of f on each line, in units of `Nodes.own`; arrays (k,)."""

    value: Array
    planning: Array  # the same to plan further steps with
    found: Array  # bool: windows free of truncation show it


@dataclass(frozen=True)
class Estimate:
    """What the windows say of each line; arrays (k,)."""

    value: Array
    error: Array
    truncation: Array  # the part of the error that is truncation


def next_row(backend: Backend, rows: Array) -> Array:
    """Every row replaced by the one after it, the last by NaN: shapes stay, so that each operation is compiled once."""
    xp, last = backend.xp, int(rows.shape[0]) - 1
    place = xp.arange(last + 1, dtype=backend.index_dtype, device=backend.device)
    moved = xp.take(rows, xp.where(place < last, place + 1, place), axis=0)
    ends = xp.reshape(place == last, (last + 1, *(1 for _ in rows.shape[1:])))
    return xp.where(ends, xp.full_like(rows, float("nan")), moved)


def towers(backend: Backend, nodes: Nodes, order: int, size: int) -> list[list[Array]]:
    """For every window size up to `size` the derivatives 0..order at 0, each (K, 2 + K, k), NaN where windows end.

    Row 0 is that of y, row 1 that of its common noise, the others what each node's own noise adds.
    """
    xp = backend.xp
    eye = xp.eye(nodes.count, dtype=nodes.t.dtype, device=backend.device)[:, :, None]
    (rows,) = backend.computed(
        xp.concat([nodes.y[:, None, :], nodes.common[:, None, :], eye * nodes.own[:, None, :]], axis=1)
    )
    levels = [[rows, *([xp.zeros_like(rows)] * order)]]
    bottom = top = nodes.t[:, None, :]
    for _ in range(1, min(size, nodes.count)):
        top, low = next_row(backend, top), levels[-1]
        high, span = [next_row(backend, part) for part in low], top - bottom
        level = []
        for e in range(order + 1):
            joined = top * low[e] - bottom * high[e]
            if e:
                joined = joined + e * (high[e - 1] - low[e - 1])
            level.append(joined / span)
        levels.append(list(backend.computed(*level)))
    return levels


def gain(xp: Namespace, rows: Array) -> Array:
    """(K, k) noise of a functional over the noise level."""
    part = rows[:, 1:, :]
    return xp.sqrt(xp.sum(part * part, axis=1))


def windows_of(backend: Backend, nodes: Nodes, opposite: Nodes | None) -> list[Windows]:
    """Windows of sizes order + 1, order + 2, ...; the noise of the `opposite` parity is sampled beside their own."""
    xp, size = backend.xp, nodes.order + LARGEST
    tower = [level[-1] for level in towers(backend, nodes, nodes.order, size)][nodes.order :]
    other = None
    if opposite is not None:
        other = [level[-1] for level in towers(backend, opposite, nodes.order, size)][nodes.order :]
    value = nodes.factor * tower[0][:, 0, :]
    nothing = xp.zeros_like(value)
    found = [Windows(nodes.order + 1, value, abs(nodes.factor) * gain(xp, tower[0]), nothing, nothing, nothing + 1)]
    top = xp.abs(nodes.t)
    for _ in range(nodes.order):
        top = next_row(backend, top)
    quotient = value
    for i in range(1, len(tower)):
        sample = _sample(xp, tower, i)
        if other is not None:
            second = _sample(xp, other, i)
            sample = xp.sqrt((sample * sample + second * second) / 2)
        second, top, quotient = top, next_row(backend, top), next_row(backend, quotient)
        found.append(_next(backend, nodes, found, tower[i], sample, second, top, quotient))
    return found


def _sample(xp: Namespace, tower: list[Array], i: int) -> Array:
    """What the windows differ by from their sub-windows, over the noise of that."""
    difference = tower[i] - tower[i - 1]
    noise = gain(xp, difference)
    return xp.abs(difference[:, 0, :]) / xp.where(noise == 0, xp.ones_like(noise), noise)


def _next(
    backend: Backend,
    nodes: Nodes,
    found: list[Windows],
    rows: Array,
    sample: Array,
    second: Array,
    top: Array,
    quotient: Array,
) -> Windows:
    """The windows with one node more, at `top`; `second` is the node before it, `quotient` what the top nodes say alone."""
    xp, below, bottom = backend.xp, found[-1], backend.xp.abs(nodes.t)
    value = nodes.factor * rows[:, 0, :]
    change = xp.maximum(xp.abs(value - below.value), xp.abs(value - next_row(backend, below.value)) * bottom / top)
    if len(found) == 1:
        before = xp.maximum(xp.abs(value), xp.abs(below.value))
    else:
        before = xp.maximum(below.change, next_row(backend, below.change) * bottom / second)
    positive = before > 0
    ratio = change / xp.where(positive, before, xp.ones_like(before)) * top / second
    decay = xp.where(positive, xp.minimum(ratio, xp.ones_like(ratio)), xp.ones_like(ratio))
    if len(found) > 1:
        off = xp.abs(quotient - value) > OFF * xp.abs(value)
        change = xp.where(off, xp.maximum(change * decay, below.change * below.decay), change)
        decay = xp.where(off, xp.ones_like(decay), decay)
    return Windows(below.size + 1, value, abs(nodes.factor) * gain(xp, rows), sample, change, decay)


def estimate(
    backend: Backend, nodes: Nodes, levels: list[Windows], noise: Level, limit: Array, known: bool, widen: float
) -> Estimate:
    """The window of least bar among those whose nodes lie below `limit`; `widen` multiplies the bars, 1 for 95 %."""
    xp, factor = backend.xp, widen * (NOISE_KNOWN if known else NOISE)
    value, error, truncation = ([part[None, :]] for part in _lone(xp, levels[0], noise.value, factor))
    largest = least = levels[0].value
    quotient, top = largest, xp.abs(nodes.t)
    for _ in range(nodes.order):
        top = next_row(backend, top)
    for windows, larger in zip(levels[1:], [*levels[2:], None], strict=False):
        left_out = widen * _left_out(xp, windows, larger)
        width = noise.value[None, :]
        if not known:
            grown = largest_below(backend, windows.sample, noise.value)
            width = xp.where(noise.found[None, :], grown, width)
        bars = left_out + factor * width * windows.gain
        top, quotient = next_row(backend, top), next_row(backend, quotient)
        largest, least = xp.maximum(largest, quotient), xp.minimum(least, quotient)
        void = _contradicted(backend, levels[0], windows, noise.value, largest - least)
        void = void | ~(top <= limit) | ~xp.isfinite(bars)
        value.append(windows.value)
        error.append(xp.where(void, xp.full_like(bars, float("inf")), bars))
        truncation.append(left_out)
    bars = xp.concat(error)
    best = chosen(backend, xp.argmin(bars, axis=0), int(bars.shape[0]))
    return Estimate(*(first(xp, best, xp.concat(parts)) for parts in (value, error, truncation)))


def chosen(backend: Backend, index: Array, count: int) -> Array:
    """(count, k) bool: whether a row is that of `index` (k,)."""
    rows = backend.xp.arange(count, dtype=index.dtype, device=backend.device)
    return rows[:, None] == index[None, :]


def first(xp: Namespace, best: Array, rows: Array) -> Array:
    """(k,) the row of each line for which `best` (K, k) holds."""
    return xp.sum(xp.where(best, rows, xp.zeros_like(rows)), axis=0)


def largest_below(backend: Backend, rows: Array, least: Array) -> Array:
    """(K, k) the largest of the rows before each one, at least `least`; NaN and infinity do not count."""
    xp, place = backend.xp, backend.xp.arange(int(rows.shape[0]), device=backend.device)
    rows = xp.where(xp.isfinite(rows), rows, xp.zeros_like(rows))
    before = (place[None, :] < place[:, None])[:, :, None]
    return xp.max(xp.where(before, xp.maximum(rows, least[None, :])[None, ...], least[None, None, :]), axis=1)


def _left_out(xp: Namespace, windows: Windows, larger: Windows | None) -> Array:
    """(K, k) truncation by the decay of changes, and by what one more node changes: a term may vanish by accident."""
    expected = TRUNCATION * windows.change * windows.decay
    if larger is None:
        return expected
    seen = xp.abs(larger.value - windows.value)
    seen = xp.minimum(xp.where(xp.isfinite(seen), seen, xp.zeros_like(seen)), TRUNCATION * windows.change)
    return xp.maximum(expected, seen)


def level_of(xp: Namespace, levels: list[Windows], known: bool, eps: float, ceiling: float) -> Level:
    """The noise that the windows show, at most `ceiling`; `known`: the unit of `Nodes.own` is the noise, else eps of f."""
    one = xp.ones_like(levels[0].value[0, :])
    if len(levels) == 1:
        return Level(one, one, one < 0) if known else Level(one * ROUNDING_LOW, one * (ROUNDING_HIGH / 2), one < 0)
    samples = [xp.where(xp.isfinite(w.sample), w.sample, xp.full_like(w.sample, float("inf"))) for w in levels[1:]]
    every = xp.concat(samples)
    least = xp.min(every, axis=0)
    if known:
        return Level(one, one, least <= ROUNDING_HIGH)
    pooled = every <= POOL * xp.maximum(least, one * ROUNDING_LOW)
    total = xp.sum(xp.where(pooled, every * every, xp.zeros_like(every)), axis=0)
    number = xp.maximum(xp.sum(xp.astype(pooled, one.dtype), axis=0), one)
    level = INFLATION * xp.maximum(one * ROUNDING_LOW, xp.sqrt(total / number))
    leasts = [xp.min(sample, axis=0) for sample in samples]
    steady = one < 0
    for small, large, larger in zip(leasts, leasts[1:], leasts[2:], strict=False):
        steady = steady | ((large * FALLS >= small) & (larger * FALLS >= large) & (larger <= POOL * least))
    found = (least <= ROUNDING_HIGH) | (steady & (level * eps < MODEST))
    planning = xp.where(found, level, one * (ROUNDING_HIGH / 2))
    return Level(xp.minimum(level, one * ceiling), xp.minimum(planning, one * ceiling), found)


def _lone(xp: Namespace, windows: Windows, level: Array, factor: float) -> tuple[Array, Array, Array]:
    """The window of the smallest steps, trusted to its difference to the next."""
    value, noise = windows.value[0, :], factor * level * windows.gain[0, :]
    if int(windows.value.shape[0]) == 1:
        return value, xp.abs(value) + noise, xp.abs(value)
    apart = DOUBT * xp.abs(value - windows.value[1, :])
    apart = xp.where(xp.isfinite(apart), apart, xp.abs(value))
    error = xp.where(xp.isfinite(value), apart + noise, xp.full_like(value, float("inf")))
    return value, error, apart


def _contradicted(backend: Backend, quotients: Windows, windows: Windows, level: Array, spread: Array) -> Array:
    """(K, k) whether quotients of smaller steps lie outside what the window saw, which has this spread."""
    xp, place = backend.xp, backend.xp.arange(int(spread.shape[0]), device=backend.device)
    below = (place[None, :] < place[:, None])[:, :, None]
    noise = CONTRADICTION * level[None, :] * quotients.gain
    missed = xp.abs(quotients.value[None, ...] - windows.value[:, None, :])
    return xp.any(below & (missed > spread[:, None, :] + noise[None, ...]), axis=1)


def loud(level: Array) -> Array:
    """Whether a measured level is more than rounding."""
    return level > ABOVE_ROUNDING
