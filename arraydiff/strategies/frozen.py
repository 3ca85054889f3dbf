"""Differences whose steps were learnt once, at another x: what the gradients along a fit have in common.

Learnt are the noise of f and, for each parameter, the length over which f changes; kept with them the steps that balance both.
A bar rests on these and on two more points along one ray, which show how f bends at the x in question.  A certificate of the
complex step is never kept: it holds for one x alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from arraydiff._typing import Array, Namespace
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import AtX, Columns, Lines, ray
from arraydiff.noise import Noise, noise_at
from arraydiff.probe import probed, sighted
from arraydiff.problem import Later, Problem
from arraydiff.rows import Rows, by_rows, cut, mean_of
from arraydiff.seam import Asking, Prepared, Pushforward
from arraydiff.strategies import stencil
from arraydiff.strategies.cheapest import (
    CENTRALS,
    FORWARD,
    FOURTHS,
    LARGEST,
    LOUD_RUNGS,
    QUIET_RUNGS,
    SCHEMES,
    SEEN,
    Scheme,
    Taylor,
    chosen,
    expanded,
    noise_of,
    rms,
    sketch_of,
)
from arraydiff.strategies.pooling import SUSPICIOUS
from arraydiff.strategies.richardson import bar_factor
from arraydiff.strategies.stencil_ray import Change

NEARER = (1.0, 2.0**-8, 2.0**-16)
"""Rungs of parameters that change faster than their scale, one round after the other."""

SIXTHS = 127 / 448
"""Mean sixth power of a ray's entries."""

LONGEST = 4.0
"""Of the scale: no length is taken to be more."""

STALE = 0.25
"""Of the lengths that were learnt: where f changes over less, the plan wants to be learnt anew."""


@dataclass(frozen=True)
class Learnt:
    """What one x teaches for others."""

    scheme: Scheme
    length: Array  # (n,) over which f changes
    steps: Array  # (n,)
    value: Array  # (m,) f there
    sigma: Array  # (m,) noise there
    loud: bool  # it is more than rounding


def scheme_for(config: DifferentiationConfig) -> Scheme | None:
    """The scheme that the user asks for; None: one is to be chosen.

    Raises
    ------
    ValueError
        A method that cannot be frozen.
    """
    if config.method is DifferentiationMethod.ADAPTIVE:
        return None if config.error_tolerance is not None else CENTRALS[0]
    wanted = (config.method, config.order or (1 if config.method is DifferentiationMethod.FORWARD else 2))
    for scheme in SCHEMES:
        if (scheme.method, scheme.row.order) == wanted:
            return scheme
    order = "" if config.order is None else f" of order {config.order}"
    raise ValueError(
        f"plan() keeps the steps of real differences, which method {config.method.value!r}{order} has none of: leave method "
        "out, or name 'forward' or 'central'"
    )


def learn(problem: Problem, config: DifferentiationConfig, index: Sequence[int]) -> Asking[Learnt]:
    """Noise, lengths and steps, at four points a parameter; at four in all where forward differences of equal share will do."""
    scheme = scheme_for(config)
    free = replace(problem, step=None, directions=len(index))
    value, noise = yield from sighted(free, config)
    sigma = noise_of(free, value, noise)
    if scheme is None or noise.asks:
        taylor = yield from expanded(ray(free, another=True), value, sigma, noise.loud)
        if noise.asks:
            noise = yield from _asked(free, value, noise, taylor)
            sigma = noise_of(free, value, noise)
            if noise.loud:
                taylor = yield from expanded(ray(free, another=True), value, sigma, noise.loud)
        sketch = sketch_of(free, value, sigma, taylor)
    if scheme is None:
        scheme = CENTRALS[0] if chosen(free, config, sketch) is not FORWARD else FORWARD
        if scheme is FORWARD and not noise.loud:
            length, steps = free.scale * sketch.length, scheme.step(sketch, free) * free.scale
            return Learnt(scheme, length, _powers(problem, steps), value, sigma, noise.loud)
    lines = Columns(free, tuple(index))
    length, taylor = yield from _lengths(lines, value, sigma, noise.loud)
    steps = _balanced(lines, scheme, length, taylor, sigma)
    every = _spread(problem, index, length, problem.scale)
    return Learnt(
        scheme, every, _powers(problem, _spread(problem, index, steps, problem.scale)), value, sigma, noise.loud
    )


def _asked(problem: Problem, value: Array, noise: Noise, taylor: Taylor) -> Asking[Noise]:
    """The answer of a probe where the ray saw what may be noise; few parameters do without one."""
    xp, missed = problem.xp, taylor.missed[:, 0]
    finite = xp.isfinite(value)
    rounding = SUSPICIOUS * noise.eps * (xp.abs(value) + taylor.first[:, 0])
    suspicious, outputs = problem.backend.counts(finite & ~(missed <= rounding), finite)
    if 2 * suspicious <= outputs:
        return replace(noise, asks=False)
    probe = yield from probed(problem, value, noise.eps)
    return probe.heard(problem, noise)


def _lengths(lines: Columns, value: Array, sigma: Array, loud: bool) -> Asking[tuple[Array, Taylor]]:
    """(k,) and the terms that they come from; lines on which f is seen unsmooth are looked at again from nearer."""
    xp, backend = lines.problem.xp, lines.problem.backend
    taylor = yield from expanded(lines, value, sigma, loud)
    near = xp.full_like(lines.scale, NEARER[0])
    for nearer in NEARER[1:]:
        sound = backend.read(xp.astype(taylor.sound, xp.int8))
        rough = [i for i, fine in enumerate(sound) if not fine]
        if not rough or loud:
            break
        again = yield from expanded(lines.take(rough), value, sigma, loud, nearer)
        place = {i: j for j, i in enumerate(rough)}
        slots = backend.indices([place.get(i, 0) for i in range(lines.count)])
        mine = backend.asarray([i in place for i in range(lines.count)], xp.bool)
        near = xp.where(mine, xp.full_like(near, nearer), near)
        taylor = Taylor(
            *(
                xp.where(mine, xp.take(new, slots, axis=-1), old)
                for new, old in (
                    (again.first, taylor.first),
                    (again.second, taylor.second),
                    (again.third, taylor.third),
                    (again.sound, taylor.sound),
                    (again.missed, taylor.missed),
                )
            )
        )
    first, second, third = (_together(lines, part) for part in (taylor.first, taylor.second, taylor.third))
    share = xp.maximum(xp.sqrt(first / third), second / third)
    longest = xp.where(near < 1, near, xp.full_like(near, LONGEST))
    share = xp.where(share < longest, share, longest)
    return share * lines.scale, taylor


def _together(lines: Lines, parts: Array) -> Array:
    """(k,) over the outputs; what is not finite counts as 0."""
    xp = lines.problem.xp
    return rms(xp, xp.where(xp.isfinite(parts), parts, xp.zeros_like(parts)), 0)


def _balanced(lines: Lines, scheme: Scheme, length: Array, taylor: Taylor, sigma: Array) -> Array:
    """(k,) steps of least error for each parameter's own change over its own length."""
    xp, order = lines.problem.xp, scheme.row.order
    share = length / lines.scale
    first, second, third = (_together(lines, part) for part in (taylor.first, taylor.second, taylor.third))
    change = xp.maximum(xp.maximum(first * share, second * share**2), third * share**3)
    wanted = (_together(lines, lines.at_x(sigma)) / (order * change)) ** (1 / (order + 1))
    largest = xp.full_like(wanted, LARGEST / scheme.row.reach)
    return xp.where(wanted < largest, wanted, largest) * length


def _spread(problem: Problem, index: Sequence[int], part: Array, elsewhere: Array) -> Array:
    """(n,) from the parameters that can move."""
    if len(index) == problem.n:
        return part
    place = {parameter: i for i, parameter in enumerate(index)}
    slots = [place.get(i, len(index) + i) for i in range(problem.n)]
    xp, backend = problem.xp, problem.backend
    return xp.take(xp.concat([part, elsewhere]), backend.indices(slots))


def _powers(problem: Problem, steps: Array) -> Array:
    return 2.0 ** problem.xp.round(problem.xp.log2(steps)) if problem.step is None else problem.step


@dataclass(frozen=True)
class Around:
    """F at x and on both sides of it, along one ray."""

    direction: Array  # (n,) the displacement of the first point
    reach: float  # of it, over the lengths learnt
    values: Array  # (m, 3)


@dataclass(frozen=True)
class Frozen:
    """The strategy, for one call."""

    learnt: Learnt
    checked: bool = True  # with bars, at two more points
    shortest: list[Array] = field(default_factory=list)  # () lengths seen here over those learnt

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """F(x), and two points along one ray where bars are wanted."""
        learnt, xp = self.learnt, problem.xp
        at = replace(problem, scaling=Later(learnt.length), step=None)
        if not self.checked:
            values = yield AtX(at)
            around = None
        else:
            line, reach = ray(at, another=True), (LOUD_RUNGS if learnt.loud else QUIET_RUNGS)[1]
            offsets = at.backend.asarray([[0.0], [reach], [-reach]], at.x.dtype)
            values = yield line.points(offsets, starts_at_x=True)
            around = Around(line.at[:, 0] * reach, reach, values.at)
        value, noise = values.at[:, 0], noise_at(at, config, values)
        size = xp.abs(value) / xp.where(learnt.value == 0, xp.ones_like(value), xp.abs(learnt.value))
        grown = xp.maximum(size, xp.ones_like(size))
        sigma = learnt.sigma * xp.where(xp.isfinite(grown), grown, xp.ones_like(grown))
        noise = replace(noise, known=sigma if noise.known is None else noise.known)
        push = partial(self.columns, config=config, value=value, noise=noise, around=around)
        reason, arrays = "a plan: the steps were learnt at another x", stencil.arrays_of(learnt.scheme.row.order)
        return Prepared(learnt.scheme.method, value, push, reason, noise.known, arrays=arrays)

    def columns(
        self, lines: Lines, config: DifferentiationConfig, value: Array, noise: Noise, around: Around | None
    ) -> Asking[Pushforward]:
        """J·V for all parameters, by the scheme and steps of the plan."""
        learnt, xp = self.learnt, lines.problem.xp
        order, start = learnt.scheme.row.order, int(learnt.scheme.one_sided)
        share = lines.unit(learnt.steps) / lines.scale
        nothing = xp.zeros_like(value)
        told = stencil.Told(value, noise, Change(nothing, nothing, None))
        pushed = yield from stencil.columns(lines, config, order, start, share ** (order + 1), told)
        error = xp.zeros_like(pushed.error)
        if around is not None:
            error = bar_factor(config.confidence) * self._bar(lines, pushed, noise, around)
        return replace(pushed, error=xp.where(xp.isfinite(pushed.columns), error, pushed.error))

    def _bar(self, lines: Lines, pushed: Pushforward, noise: Noise, around: Around) -> Array:
        """(m, k) truncation by the lengths learnt, or by what the ray shows to be left out here, and noise."""
        backend, xp, means = lines.problem.backend, lines.problem.xp, list[list[Array]]()
        outputs = lines.slabs(int(pushed.columns.shape[0]))

        def bar(rows: Rows) -> list[Array]:
            assert noise.known is not None
            part = replace(pushed, columns=cut(pushed.columns, rows))
            changes, error = self._changes(lines, part, cut(noise.known, rows), around, cut(around.values, rows))
            means.append([xp.mean(xp.where(xp.isfinite(c), c, xp.zeros_like(c)) ** 2) for c in changes])
            return [error]

        (error,) = by_rows(backend, outputs, bar)
        self.shortest.append(_shortest(xp, *(xp.sqrt(mean_of(outputs, part)) for part in zip(*means, strict=True))))
        return error

    def _changes(
        self, lines: Lines, pushed: Pushforward, sigma: Array, around: Around, values: Array
    ) -> tuple[list[Array], Array]:
        """(m,) first, second and third order along the ray, over the lengths learnt; (m, k) the bars."""
        scheme, xp = self.learnt.scheme, lines.problem.xp
        length, reach = lines.unit(self.learnt.length), around.reach
        along, share = lines.unit(around.direction), xp.abs(pushed.steps) / length
        spread = lines.count**0.5
        finite = xp.where(xp.isfinite(pushed.columns), pushed.columns, xp.zeros_like(pushed.columns))
        effect = xp.abs(finite) * length
        slope = rms(xp, effect, 1)
        missed = xp.abs((values[:, 1] - values[:, 2]) / 2 - xp.sum(finite * along, axis=1))
        unseen = SEEN * sigma * (1 + scheme.noise * xp.sqrt(xp.sum((along / pushed.steps) ** 2)))
        third = xp.where(missed > unseen, missed, xp.zeros_like(missed)) / (reach**3 * SIXTHS**0.5 * spread)
        bow = xp.abs((values[:, 1] + values[:, 2]) / 2 - values[:, 0])
        second = bow / (reach**2 * FOURTHS**0.5 * spread)
        most = xp.maximum(slope / 2, second) if scheme.one_sided else xp.maximum(slope, third)
        most = xp.where(xp.isfinite(most), most, slope)
        left_out = xp.maximum(effect / 2 if scheme.one_sided else effect, most[:, None])
        order = scheme.row.order
        error = (scheme.truncation * left_out * share**order + scheme.noise * sigma[:, None] / share) / length
        return [slope, second, third], error


def _shortest(xp: Namespace, slope: Array, second: Array, third: Array) -> Array:
    """() over which f changes along the ray, by all outputs together, over the lengths learnt; inf where nothing is seen."""
    return xp.maximum(xp.sqrt(slope / third), second / third)
