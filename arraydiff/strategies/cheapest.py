"""The cheapest scheme that holds error_tolerance: forward, central, extrapolated rungs, the complex step, the ladder.

Values on one random ray tell the noise of f, how much of it one parameter moves, how f bends, and the length over which
it changes; with them the bar of each scheme is known beforehand, up to a factor.  Entries that a scheme leaves with too wide
a bar go on to the next one.  Steps after Gill, Murray, Saunders & Wright, SIAM J. Sci. Stat. Comput. 4 (1983) 310, with the noise
measured as in `noise`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

from arraydiff._typing import Array, Namespace
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Columns, Lines, ray
from arraydiff.noise import ABOVE_ROUNDING, CEILING, Noise
from arraydiff.probe import PROBED_FROM
from arraydiff.problem import Problem
from arraydiff.result import SMALL_SHARE, Status
from arraydiff.rows import Rows, by_rows, cut, folded
from arraydiff.seam import Asking, Prepared, Pushforward
from arraydiff.strategies import complex_step, richardson
from arraydiff.strategies.certificate import certify
from arraydiff.strategies.placing import placed
from arraydiff.strategies.stencil import CENTRAL, SIDED, Row, clamped

QUIET_RUNGS = (2.0**-12, 2.0**-9)
"""Of the scale, along the ray."""

LOUD_RUNGS = (2.0**-5, 2.0**-3)
"""The same where f is noisy."""

SQUARES, FOURTHS = 7 / 12, 31 / 80
"""Mean square and fourth power of a ray's entries, which lie in ±[1/2, 1]."""

LOWEST = 0.25
"""Times eps |f|: no value of f is more exact."""

HALF_KNOWN = 1.2
"""On a noise level that was read off two degrees of freedom."""

SEEN, CLEARLY_SEEN = 4.0, 12.0
"""Times its noise: less is not seen along a ray, or on one of many lines."""

UNRESOLVED = 0.3
"""Slopes on the two rungs that differ by more of their size saw different functions."""

SHARP = 4.0
"""The bow on the smaller rung, over h², is more than this times that on the larger one: a kink, or a step."""

NOISE_WIDTH = 2.2
"""Standard deviations of noise in a bar."""

FORWARD_WIDTH, CENTRAL_WIDTH = 2.0, 1.5
"""What parameters are allowed to bend more than their mean, in a bar."""

ZERO_DENSITY = 0.8
"""Of a normal variable, on both sides: entries smaller than a share q of the mean are 0.8 q of all."""

LARGEST = 2.0**-3
"""Of the scale: no step is larger."""

FORWARD_HOLDS = 2.0**10
"""Tolerances above this many sqrt eps are looked at with the ray before complex numbers are tried."""

LEFT = 0.3
"""Of the entries: a scheme holds the tolerance if its bar is too wide for no more, as predicted; those are warned of."""

WITNESS_STAGES = 2
"""Of the real differences that vouch for the complex step: a third sharpens what a tolerance has no need of."""

NO_RAY = 2.0**4
"""Tolerances below this many eps are for the ladder alone."""


@dataclass(frozen=True)
class Sketch:
    """How f changes at x: what one parameter does in the mean, when it moves by its scale."""

    slope: Array  # (m,) first-order change
    bend: Array  # (m,) second-order change, at least that of the length
    length: Array  # () over which f changes, in units of the scale
    sigma: Array  # (m,) noise of one value
    noise: Array  # () mean of sigma over slope
    bent: Array  # () mean of bend over slope
    sound: Array  # () bool: the ray saw one smooth function

    def cut(self, rows: Rows) -> Sketch:
        """Of some outputs."""
        if rows is None:
            return self
        slope, bend, sigma = (cut(part, rows) for part in (self.slope, self.bend, self.sigma))
        return replace(self, slope=slope, bend=bend, sigma=sigma)


@dataclass(frozen=True)
class Scheme:
    """A stencil whose step is chosen for its bar, `width * (t / L)^order + noise / t` in units of the slope."""

    method: DifferentiationMethod
    row: Row
    width: float

    @property
    def one_sided(self) -> bool:
        """Whether its points lie on one side of x."""
        return len(self.row.nodes) == 1

    @property
    def truncation(self) -> float:
        """What is left out, with the allowance that a bar wants."""
        return self.width * self.row.error_factor

    @property
    def noise(self) -> float:
        """Of the quotient, times the step, over that of f; with the allowance that a bar wants."""
        weights = (1.0, 1.0) if self.one_sided else self.row.weights  # f(x) counts there too
        return NOISE_WIDTH * math.hypot(*weights)

    def step(self, sketch: Sketch, problem: Problem) -> Array:
        """() the step of least bar over the scale, a power of two."""
        xp, order = problem.xp, self.row.order
        wanted = (self.noise * sketch.noise / (order * self._factor(sketch))) ** (1 / (order + 1))
        largest = xp.full_like(wanted, LARGEST / self.row.reach)
        wanted = xp.where(xp.isfinite(wanted), xp.minimum(wanted, largest), largest)
        return 2.0 ** xp.round(xp.log2(xp.maximum(wanted, xp.full_like(wanted, float(xp.finfo(wanted.dtype).eps)))))

    def bar(self, sketch: Sketch, problem: Problem) -> Array:
        """() predicted, over the slope."""
        step = self.step(sketch, problem)
        return self._factor(sketch) * step**self.row.order + self.noise * sketch.noise / step

    def _factor(self, sketch: Sketch) -> Array:
        return self.truncation * (sketch.bent if self.row.order == 1 else sketch.length**-self.row.order)


FORWARD = Scheme(DifferentiationMethod.FORWARD, SIDED[1], FORWARD_WIDTH)
CENTRALS = tuple(Scheme(DifferentiationMethod.CENTRAL, CENTRAL[order], CENTRAL_WIDTH) for order in (2, 4, 6, 8))
SCHEMES = (FORWARD, *CENTRALS)

NO_ROOM = 2
"""Beside the sides 0 and ±1: a line on which the points of a scheme would leave the bounds."""


def applies(problem: Problem, config: DifferentiationConfig) -> bool:
    """Whether there are parameters enough to share what the ray costs."""
    return config.error_tolerance is not None and problem.directions >= PROBED_FROM and not problem.call.measured


def prepare(problem: Problem, config: DifferentiationConfig, value: Array, noise: Noise) -> Asking[Prepared]:
    """The cheapest of real schemes and the complex step, once f(x) and its noise are known."""
    tolerance, reason, found = config.error_tolerance or 0.0, "", None
    if noise.loud or tolerance >= FORWARD_HOLDS * noise.eps**0.5:
        found = yield from sketched(problem, value, noise)
        scheme = chosen(problem, config, found)
        if scheme is FORWARD:
            return _prepared(problem, config, value, noise, found, scheme, reason)
    brief = replace(config, max_iterations=min(config.max_iterations, WITNESS_STAGES))
    certificate = yield from certify(problem, brief, value, noise)
    if certificate.holds:
        return complex_step.prepared(value, certificate)
    if tolerance < NO_RAY * noise.eps:
        return richardson.prepared(problem, config, value, noise, certificate.reason, certificate.ladder)
    if found is None:
        found = yield from sketched(problem, value, noise)
        scheme = chosen(problem, config, found)
    return _prepared(problem, config, value, noise, found, scheme, certificate.reason)


def sketched(problem: Problem, value: Array, noise: Noise) -> Asking[Sketch]:
    """Two rungs on one ray."""
    sigma = noise_of(problem, value, noise)
    taylor = yield from expanded(ray(replace(problem, step=None), another=True), value, sigma, noise.loud)
    return sketch_of(problem, value, sigma, taylor)


def sketch_of(problem: Problem, value: Array, sigma: Array, taylor: Taylor) -> Sketch:
    """What one parameter does in the mean, from what a ray showed of all together."""
    xp = problem.xp
    nothing, spread = xp.zeros_like(value), problem.n**0.5
    finite = xp.isfinite(value)
    first, second, third = (
        xp.where(finite, part[:, 0], nothing) for part in (taylor.first, taylor.second, taylor.third)
    )
    first, second = first / SQUARES**0.5, second / FOURTHS**0.5
    first = xp.maximum(first, second / spread)
    size = xp.maximum(first, SMALL_SHARE * rms(xp, first, 0))
    size = xp.where(size > 0, size, xp.ones_like(size))
    curved, bent = rms(xp, third / size, 0), rms(xp, second / size, 0)
    length = xp.maximum(curved**-0.5, bent / curved)
    length = xp.where(length <= 1, length, xp.ones_like(length))
    bend, slope = xp.maximum(second, size / (2 * length)) / spread, size / spread
    sigma = xp.where(finite, sigma, nothing)
    return Sketch(slope, bend, length, sigma, rms(xp, sigma / slope, 0), rms(xp, bend / slope, 0), taylor.sound[0])


@dataclass(frozen=True)
class Taylor:
    """Terms of f along k lines, in units of their scales."""

    first: Array  # (m, k)
    second: Array
    third: Array  # 0 where noise hides it
    sound: Array  # (k,) bool: the rungs saw one smooth function
    missed: (
        Array  # (m, k) by how much both means together miss f(x), beyond what a fourth term of the usual size explains
    )


def expanded(lines: Lines, value: Array, sigma: Array, loud: bool, nearer: float = 1.0) -> Asking[Taylor]:
    """From two rungs on each line, `nearer` times those of the table."""
    backend, xp = lines.problem.backend, lines.problem.xp
    low, high = ((LOUD_RUNGS if loud else QUIET_RUNGS)[i] * nearer for i in (0, 1))
    steps = 2.0 ** xp.round(xp.log2(lines.scale))
    near, far = low * steps / lines.scale, high * steps / lines.scale
    given = yield lines.points(xp.stack([low * steps, -low * steps, high * steps, -high * steps]))
    smooth: list[Array] = []

    def terms(rows: Rows) -> list[Array]:
        values, base, unseen = lines.values(given, rows), lines.at_x(value, rows), SEEN * lines.at_x(sigma, rows)
        slopes = [(values[i, ...] - values[i + 1, ...]) / (2 * t) for i, t in ((0, near), (2, far))]
        bends = [((values[i, ...] + values[i + 1, ...]) / 2 - base) / t**2 for i, t in ((0, near), (2, far))]
        change = xp.abs(slopes[1] - slopes[0])
        seen = change * near > unseen
        third = xp.where(seen, change, xp.zeros_like(change)) / (far**2 - near**2)
        first, second = xp.abs(slopes[1 if loud else 0]), xp.abs(bends[1])
        blunt = xp.abs(bends[0]) * near**2 <= unseen + (SHARP * second + xp.abs(slopes[1])) * near**2
        straight = ~seen | (change <= UNRESOLVED * (first + second * far))
        sound = (blunt & straight & xp.isfinite(xp.sum(values, axis=0))) | ~xp.isfinite(base)
        smooth.append(xp.all(sound, axis=0))
        least, size = xp.minimum(xp.abs(bends[0]), second), xp.abs(base) + first
        fourth = least + least**2 / xp.where(size > 0, size, xp.ones_like(size))
        missed = (xp.abs(bends[0] - bends[1]) - fourth * far**2) * near**2
        return [first, second, third, missed]

    first, second, third, missed = by_rows(backend, lines.slabs(int(value.shape[0])), terms)
    return Taylor(first, second, third, folded(xp.logical_and, smooth), missed)


def noise_of(problem: Problem, value: Array, noise: Noise) -> Array:
    """(m,) standard deviation of one value: found, given, or that of rounding."""
    xp, rounding = problem.xp, noise.eps * problem.xp.abs(value)
    level = rounding
    if noise.ceiling is not None:
        level = xp.where(xp.isfinite(noise.ceiling), noise.ceiling / CEILING, level)
    if noise.known is not None:
        widened = HALF_KNOWN if noise.measured else 1.0
        level = xp.where(xp.isfinite(noise.known), widened * noise.known, level)
    return xp.maximum(level, LOWEST * rounding)


def rms(xp: Namespace, parts: Array, axis: int) -> Array:
    return xp.sqrt(xp.mean(parts * parts, axis=axis))


def chosen(problem: Problem, config: DifferentiationConfig, sketch: Sketch) -> Scheme | None:
    """The first scheme that leaves few entries with too wide a bar, as predicted; None: the ladder.  One read."""
    xp = problem.xp
    wide = richardson.bar_factor(config.confidence) * ZERO_DENSITY / (config.error_tolerance or 1.0)
    holds = xp.stack([wide * scheme.bar(sketch, problem) <= LEFT for scheme in SCHEMES])
    (*held,) = problem.backend.read(xp.astype(holds & sketch.sound, xp.int8))
    return next((scheme for scheme, fine in zip(SCHEMES, held, strict=True) if fine), None)


def _prepared(
    problem: Problem,
    config: DifferentiationConfig,
    value: Array,
    noise: Noise,
    sketch: Sketch,
    scheme: Scheme | None,
    reason: str,
) -> Prepared:
    noise = noise.lasting
    push = partial(columns, config=config, value=value, noise=noise, sketch=sketch, scheme=scheme)
    why = f"it is the cheapest that holds error_tolerance={config.error_tolerance:g}"
    method = DifferentiationMethod.RICHARDSON if scheme is None else scheme.method
    told = f"{reason}; {why}" if reason else why
    arrays, tableau = (
        richardson.arrays_of(problem, value),
        richardson.tableau_of(problem, value),
    )  # for lines left to it
    first = Prepared(method, value, push, told, noise.known, arrays=arrays, tableau=tableau)
    return replace(first, finite=noise.finite, scatter=noise.scatter)


def columns(
    lines: Lines, config: DifferentiationConfig, value: Array, noise: Noise, sketch: Sketch, scheme: Scheme | None
) -> Asking[Pushforward]:
    """J·V for one chunk: the scheme where there is room and f is finite and smooth, else the ladder."""
    if scheme is None or not isinstance(lines, Columns):
        return (yield from richardson.columns(lines, config, value, noise))
    steps, sides = _placed(lines, config, sketch, scheme)
    fit = [i for i, side in enumerate(sides) if side != NO_ROOM]
    parts, left = [], [i for i, side in enumerate(sides) if side == NO_ROOM]
    if fit:
        some = lines if len(fit) == lines.count else lines.take(fit)
        steps = lines.problem.xp.take(steps, _index(lines, fit))
        pushed, strange = yield from _differences(some, config, steps, scheme, value, noise, sketch)
        parts.append((fit, pushed))
        left += [i for i, odd in zip(fit, strange, strict=True) if odd]
    if left:
        parts.append((left, (yield from richardson.columns(lines.take(left), config, value, noise))))
    return _best(lines, parts)


def _placed(lines: Lines, config: DifferentiationConfig, sketch: Sketch, scheme: Scheme) -> tuple[Array, list[int]]:
    """(k,) steps inside limits and bounds, with the sign of their side, and where there is no room for them."""
    backend, xp = lines.problem.backend, lines.problem.xp
    steps = 2.0 ** xp.round(xp.log2(scheme.step(sketch, lines.problem) * lines.scale))
    steps = clamped(xp, steps, config)
    if lines.room is None:
        return steps, [0] * lines.count
    up, down = lines.room
    if scheme.one_sided:
        most = xp.maximum(up, down)
        steps = xp.minimum(steps, 2.0 ** xp.floor(xp.log2(xp.where(most > 0, most, steps))))
        sides = placed(lines, steps, steps, 1)
        return steps * backend.asarray(sides, steps.dtype), sides
    room = xp.minimum(up, down) < steps * scheme.row.reach
    return steps, backend.read(xp.astype(room, xp.int8) * NO_ROOM)


def _differences(
    lines: Columns,
    config: DifferentiationConfig,
    steps: Array,
    scheme: Scheme,
    value: Array,
    noise: Noise,
    sketch: Sketch,
) -> Asking[tuple[Pushforward, list[int]]]:
    """One round: quotients with their bars, and the lines on which f failed or bends too much for them."""
    backend, xp, nodes = lines.problem.backend, lines.problem.xp, scheme.row.nodes
    offsets = xp.stack([node * steps for node in nodes])
    given = yield lines.points(offsets)
    taken = lines.taken(offsets)
    step = taken[0, :] if scheme.one_sided else (taken[0, :] - taken[len(nodes) // 2, :]) / 2
    widen, odd = richardson.bar_factor(config.confidence), list[Array]()

    def made(rows: Rows) -> list[Array]:
        values, base, seen = lines.values(given, rows), lines.at_x(value, rows), sketch.cut(rows)
        quotient = _quotient(scheme, values, base, step)
        terms, strange = _terms(lines, scheme, quotient, values, base, step, seen)
        error = widen * _bar(lines, scheme, terms, step, seen)
        finite = xp.isfinite(quotient) & xp.isfinite(error)
        failed = ~finite & xp.isfinite(base)
        odd.append(xp.any(strange | failed, axis=0))
        loud = lines.at_x(seen.sigma) > ABOVE_ROUNDING * noise.eps * xp.abs(base)
        status = xp.astype(loud & finite, xp.int16) * int(Status.NOISE_LIMITED)
        status = status + xp.astype(~finite, xp.int16) * int(Status.FAILED)
        error = xp.where(finite, error, xp.full_like(error, float("inf")))
        return [xp.where(finite, quotient, xp.full_like(quotient, float("nan"))), error, status]

    quotient, error, status = by_rows(backend, lines.slabs(int(value.shape[0])), made)
    return Pushforward(quotient, error, step, status), backend.read(xp.astype(folded(xp.logical_or, odd), xp.int8))


def _quotient(scheme: Scheme, values: Array, base: Array, step: Array) -> Array:
    """(m, k) by the row of the scheme."""
    quotient = scheme.row.weights[0] * (values[0, ...] - base)
    for i in range(1, len(scheme.row.nodes)):
        quotient = quotient + scheme.row.weights[i] * (values[i, ...] - base)
    return quotient / step


def _terms(
    lines: Lines, scheme: Scheme, quotient: Array, values: Array, base: Array, step: Array, sketch: Sketch
) -> tuple[list[Array], Array]:
    """(m, k) of first, second, third order, and where f bends too much for them."""
    xp = lines.problem.xp
    terms = [xp.abs(quotient) * lines.scale]
    if scheme.one_sided:
        return [*terms, lines.at_x(sketch.bend)], xp.zeros_like(quotient, dtype=xp.bool)
    up, down = values[0, ...], values[len(scheme.row.nodes) // 2, ...]
    bow, ratio = xp.abs((up + down) / 2 - base), lines.scale / xp.abs(step)
    terms += [bow * ratio**2, xp.abs((up - down) / (2 * step) - quotient) * lines.scale * ratio**2]
    return terms, bow > CLEARLY_SEEN * lines.at_x(sketch.sigma) + UNRESOLVED * xp.abs(quotient * step)


def _bar(lines: Lines, scheme: Scheme, terms: Sequence[Array], step: Array, sketch: Sketch) -> Array:
    """Truncation by the least length that ray or line show, and noise; `terms` are of first, second, third order."""
    xp, share, order = lines.problem.xp, lines.problem.xp.abs(step) / lines.scale, scheme.row.order
    if scheme.one_sided:
        left_out = xp.maximum(terms[0] / (2 * sketch.length), terms[1])
    else:
        left_out = (terms[0] + lines.at_x(sketch.slope)) / sketch.length**order
        for power, term in enumerate(terms[1:], start=1):
            left_out = xp.maximum(left_out, term / sketch.length ** (order - power))
    return (scheme.truncation * left_out * share**order + scheme.noise * lines.at_x(sketch.sigma) / share) / lines.scale


def _best(lines: Lines, parts: Sequence[tuple[list[int], Pushforward]]) -> Pushforward:
    """The last finite word on every line."""
    if len(parts) == 1 and len(parts[0][0]) == lines.count:
        return parts[0][1]
    backend, xp = lines.problem.backend, lines.problem.xp
    best = None
    for which, part in parts:
        place = {i: j for j, i in enumerate(which)}
        slots = _index(lines, [place.get(i, 0) for i in range(lines.count)])
        mine = backend.asarray([i in place for i in range(lines.count)], xp.bool)
        new = Pushforward(*(xp.take(getattr(part, item.name), slots, axis=-1) for item in fields(Pushforward)))
        if best is None:
            best = new
        wins = mine & (xp.isfinite(new.error) | ~xp.isfinite(best.columns))
        best = Pushforward(
            xp.where(wins, new.columns, best.columns),
            xp.where(wins, new.error, best.error),
            xp.where(mine, new.steps, best.steps),
            xp.where(wins, new.status, best.status),
        )
    assert best is not None
    return best


def _index(lines: Lines, which: Sequence[int]) -> Array:
    return lines.problem.backend.indices(which)
