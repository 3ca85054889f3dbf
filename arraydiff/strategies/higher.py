"""Elementwise derivatives of order 2, 3 and 4: polynomials through rungs x ± h, placed where truncation and noise balance.

Two scouts measure the length over which f changes; six rungs, and four more where they are needed, go where their polynomial is
best (Curtis & Reid, J. IMA 13 (1974) 121, for derivatives of any order).  All lines are treated alike, in the same calls:
25 points at most, in three rounds after f(x), however many they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import TypeVar

from arraydiff._typing import Array, Namespace
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import AtX, Lines
from arraydiff.noise import Noise, noise_at
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.seam import Asking, Prepared, Pushforward
from arraydiff.strategies.higher_steps import (
    BEST,
    MORE,
    SCOUTS,
    best_unit,
    following,
    guess,
    limited,
    on_pattern,
    turned,
)
from arraydiff.strategies.placing import placed
from arraydiff.strategies.polynomial import (
    NOISE_KNOWN,
    Estimate,
    Level,
    Nodes,
    estimate,
    level_of,
    loud,
    windows_of,
)
from arraydiff.strategies.richardson import bar_factor
from arraydiff.strategies.samples import Chart, Samples, begin, central, charted, jump, pairs, sampled, sided

CLOSER = 0.5  # times the length, where truncation rules nevertheless
NEAR = 1.5  # log2: steps that lie nearer to the best ones are good enough
ENOUGH = 4.0  # eps: no bar gets below
HIDDEN = 1e-3  # a bar beyond this share of the value, on lines that stayed unresolved, is UNRESOLVED
BLOCK = 2**12  # lines whose windows are held at once
CENTRAL = DifferentiationMethod.CENTRAL
SERVED = (DifferentiationMethod.ADAPTIVE, DifferentiationMethod.RICHARDSON, CENTRAL)


@dataclass(frozen=True)
class Higher:
    """The strategy, for one order n of the derivative."""

    n: int

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """F(x), and its noise as far as it is known beforehand."""
        values = yield AtX(problem)
        value, noise = values.at[:, 0], noise_at(problem, config, values)
        push = partial(columns, n=self.n, config=config, value=value, noise=noise)
        method = CENTRAL if config.method is CENTRAL else DifferentiationMethod.RICHARDSON
        reason = "" if config.method is method else "derivatives beyond the first are taken from real differences"
        return Prepared(method, value, push, reason, noise.known)


def check_method(n: int, config: DifferentiationConfig) -> None:
    """Refuse methods that know first derivatives only."""
    if config.method not in SERVED:
        names = ", ".join(repr(method.value) for method in SERVED)
        raise ValueError(f"derivative(n={n}) takes the methods {names}, got {config.method.value!r}: leave method out")


@dataclass(frozen=True)
class View:
    """What samples say of k lines; arrays (k,)."""

    found: Estimate
    noise: Level
    chart: Chart
    jump: Array  # of the derivative at x, halved
    side: Array
    steps: Array  # the smallest


def columns(lines: Lines, n: int, config: DifferentiationConfig, value: Array, noise: Noise) -> Asking[Pushforward]:
    """The n-th derivatives of one chunk of lines."""
    samples, xp = begin(lines, n, value, noise), lines.problem.xp
    if config.method is CENTRAL or lines.step is not None:
        return (yield from _fixed(lines, config, samples))
    widen, read = bar_factor(config.confidence), lines.problem.backend.read
    samples = turned(lines, samples, guess(lines, samples))
    scouts = on_pattern(lines, config, samples, lines.scale, SCOUTS)
    samples = yield from sampled(lines, samples, *pairs(samples, scouts))
    view = _view(samples, widen, on_one_side=lines.room is not None)
    second, shot = following(lines, config, samples, view.chart, BEST), view.chart.resolved & view.chart.bounded
    samples = yield from sampled(lines, samples, *pairs(samples, second))
    (failed,) = read(_count(xp, ~xp.isfinite(samples.at)))
    on_one_side = lines.room is not None or failed > 0
    view = _view(samples, widen, on_one_side)
    moved = turned(lines, samples, view.chart)
    ready = (moved.side == samples.side) & _ready(config, samples, view, shot, second)
    (going,) = read(_count(xp, ~ready))
    if going:
        third = following(lines, config, moved, _tightened(xp, view), MORE)
        samples = yield from sampled(lines, moved, *pairs(moved, third))
        view = _chosen(xp, ready, view, _view(samples, widen, on_one_side))
    return _pushed(lines, samples, view)


def _count(xp: Namespace, mask: Array) -> Array:
    return xp.reshape(xp.sum(xp.astype(mask, xp.int32)), (1,))


def _tightened(xp: Namespace, view: View) -> Chart:
    """Where no window is free of truncation, f changes over less than four Taylor terms show."""
    chart = view.chart
    return replace(chart, length=xp.where(view.noise.found, chart.length, CLOSER * chart.length))


def _ready(config: DifferentiationConfig, samples: Samples, view: View, shot: Array, steps: Array) -> Array:
    """(k,) whether further rungs would gain little."""
    xp, chart, found = samples.backend.xp, view.chart, view.found
    unit, _ = best_unit(xp, samples.n, BEST, chart, True, xp.full_like(chart.length, float("inf")))
    near = xp.abs(xp.log2(unit / steps[0, :])) <= NEAR
    enough = max(config.error_tolerance or 0.0, ENOUGH * samples.eps) * xp.abs(found.value)
    settled = shot & chart.resolved & view.noise.found & near & (2 * found.truncation <= found.error)
    return (found.error <= enough) | (settled & (samples.side == 0))


def _view(samples: Samples, widen: float, on_one_side: bool) -> View:
    """Estimates, lengths and jumps, a block of lines at a time."""
    count = int(samples.base.shape[0])
    blocks = [samples.block(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    views = [_view_of(block, widen, on_one_side) for block in blocks]
    return views[0] if len(views) == 1 else _merged(samples.backend.xp, views)


def _view_of(samples: Samples, widen: float, on_one_side: bool) -> View:
    xp = samples.backend.xp
    nodes, opposite = central(samples)
    found, noise, chart = _judged(samples, nodes, opposite, widen)
    kink, central_ones = jump(samples, noise.planning), samples.side == 0
    view = View(found, noise, chart, kink, samples.side, xp.min(xp.abs(samples.offsets[0, ...]), axis=0))
    if not on_one_side:
        return view
    other, other_noise, other_chart = _judged(samples, sided(samples), None, widen)
    there = central_ones & xp.isfinite(found.error)
    return replace(
        view,
        found=_chosen(xp, there, found, other),
        noise=_chosen(xp, there, noise, other_noise),
        chart=_chosen(xp, central_ones & chart.resolved, chart, other_chart),
        jump=xp.where(central_ones, kink, xp.zeros_like(kink)),
    )


def _judged(samples: Samples, nodes: Nodes, opposite: Nodes | None, widen: float) -> tuple[Estimate, Level, Chart]:
    backend, xp, known = samples.backend, samples.backend.xp, samples.known is not None
    levels = windows_of(backend, nodes, opposite)
    noise = level_of(xp, levels, known, samples.eps, samples.ceiling)
    chart = charted(samples, noise.planning, opposite is None)
    limit = chart.limit if opposite is None else chart.limit**2
    return estimate(backend, nodes, levels, noise, limit, known, widen), noise, chart


def _largest(samples: Samples) -> Array:
    """(k,) the largest value of f at x and at the first points."""
    xp, first = samples.backend.xp, samples.at[:, : len(SCOUTS), :]
    sizes = xp.where(xp.isfinite(first), xp.abs(first), xp.zeros_like(first))
    return xp.maximum(xp.abs(samples.base), xp.max(sizes, axis=(0, 1)))


def _pushed(lines: Lines, samples: Samples, view: View) -> Pushforward:
    """Values, bars and flags."""
    xp, found, chart = samples.backend.xp, view.found, view.chart
    kinked = view.jump > 0
    error = xp.where(kinked, xp.maximum(found.error, view.jump), found.error)
    finite = xp.isfinite(found.value) & xp.isfinite(error)
    noisy = 2 * found.truncation <= found.error
    if samples.known is None:
        noisy = noisy & view.noise.found & loud(view.noise.value)
    else:
        noisy = noisy & loud(samples.known / (samples.eps * xp.maximum(xp.abs(samples.base), chart.size)))
    size = xp.maximum(xp.abs(found.value), _largest(samples) / lines.scale**samples.n)
    lost = ~(chart.resolved & chart.seen) & (error > HIDDEN * size)
    flags = (
        (~finite, Status.FAILED),
        (finite & kinked, Status.KINK),
        (finite & noisy, Status.NOISE_LIMITED),
        (finite & lost & ~kinked, Status.UNRESOLVED),
        (view.side != 0, Status.ONE_SIDED),
    )
    status = sum(xp.astype(mask, xp.int16) * int(flag) for mask, flag in flags)
    value = xp.where(finite, found.value, xp.full_like(error, float("nan")))
    error = xp.where(finite, error, xp.full_like(error, float("inf")))
    return Pushforward(value[None, :], error[None, :], view.steps, status[None, :])


T = TypeVar("T", Estimate, Level, Chart, View)


def _chosen(xp: Namespace, first: Array, one: T, other: T) -> T:
    """Lines of the one where `first` says so, of the other elsewhere."""
    parts = {}
    for item in fields(one):
        a, b = getattr(one, item.name), getattr(other, item.name)
        parts[item.name] = _chosen(xp, first, a, b) if is_dataclass(a) else xp.where(first, a, b)
    return type(one)(**parts)


def _merged(xp: Namespace, views: Sequence[T]) -> T:
    """Blocks of lines side by side."""
    parts = {}
    for item in fields(views[0]):
        columns = [getattr(view, item.name) for view in views]
        parts[item.name] = _merged(xp, columns) if is_dataclass(columns[0]) else xp.concat(columns)
    return type(views[0])(**parts)


def _fixed(lines: Lines, config: DifferentiationConfig, samples: Samples) -> Asking[Pushforward]:
    """Rungs of a given step, or of a fixed stencil."""
    backend, xp, n = samples.backend, samples.backend.xp, samples.n
    order = (config.order or 2) if config.method is CENTRAL else None
    least = (n - 1) // 2 + 2
    count = max(config.richardson_terms, least) if order is None else least + order // 2 - 1
    both = [float(2**i if order is None else i + 1) for i in range(count)]
    one = [float(2 * i + 1) for i in range(count)]
    steps = lines.step
    if steps is None:
        assert order is not None
        steps = 2.0 ** xp.round(xp.log2(lines.scale * samples.eps ** (1 / (n + order))))
        steps = limited(xp, config, steps, xp.full_like(steps, config.max_step or float("inf")))
        if lines.room is not None:
            up, down = lines.room
            most = xp.maximum(xp.minimum(up, down) / both[-1], xp.maximum(up, down) / (one[-1] + 1))
            steps = xp.minimum(steps, 2.0 ** xp.floor(xp.log2(most)))
    side = backend.asarray(placed(lines, both[-1] * steps, (one[-1] + 1) * steps, 0), steps.dtype)
    middle, sides = (backend.asarray(row, steps.dtype)[:, None] * steps[None, :] for row in (both, one))
    is_central = side[None, :] == 0
    first = xp.where(is_central, middle, side * sides)
    second = xp.where(is_central, -middle, side * (sides + steps[None, :]))
    samples = yield from sampled(lines, replace(samples, side=side), first, second)
    view = _view(samples, bar_factor(config.confidence), lines.room is not None)
    if order is not None:
        view = replace(view, found=_stencil(samples, view, order, bar_factor(config.confidence)))
    return _pushed(lines, samples, replace(view, chart=guess(lines, samples)))


def _stencil(samples: Samples, view: View, order: int, widen: float) -> Estimate:
    """The smallest window of this accuracy, with the next one for a bar."""
    xp = samples.backend.xp
    nodes, _ = central(samples)
    at = order // 2 - 1
    levels = windows_of(samples.backend, nodes, None)
    value, following = levels[at].value[0, :], levels[at].value[1, :]
    grown = (levels[at].size + 1) ** 2 - 1  # by what the next window is farther off
    truncation = 2 * xp.abs(following - value) / grown
    noise = NOISE_KNOWN * widen * xp.maximum(view.noise.value, xp.ones_like(value)) * levels[at].gain[0, :]
    in_middle = replace(view.found, value=value, error=truncation * widen + noise, truncation=truncation)
    return _chosen(xp, view.side == 0, in_middle, view.found)
