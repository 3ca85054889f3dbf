"""Richardson extrapolation: a ladder of steps, extrapolated to step 0.

Good for any f that is smooth on some scale, noisy or not; 8 to 16 evaluations a derivative, and an error bar that is meant to
hold in 95 % of entries.  With a step given the ladder is fixed: h, 2h, 4h, ...  Source: see `tableau` and `planning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Columns, Lines
from arraydiff.noise import Noise, noise_at
from arraydiff.probe import looking_closer, sighted
from arraydiff.problem import Problem
from arraydiff.rows import sampled, slabs
from arraydiff.seam import LADDER_ARRAYS, Asking, Points, Prepared, Pushforward, Values
from arraydiff.strategies.ladder import (
    Ending,
    Finished,
    Ladder,
    begin,
    climb,
    finish,
    finish_some,
    finished,
    narrowed,
    noted,
)
from arraydiff.strategies.placing import placed
from arraydiff.strategies.planning import DONE, DOWNWARDS, UPWARDS, plan, scouts
from arraydiff.strategies.pooling import asked, refined
from arraydiff.strategies.tableau import Estimate, extrapolate

SIDED_BELOW = 2.0**-20
"""Of the scale: with less room than this on one side, and more on the other, differences are one-sided."""

LIKELY = ((-2, -1, 1, 2), (-5, -4, 3, 4, 5))
"""Powers of two over the first scout, at which ladders of most functions have their next rungs."""

SLABBED_ARRAYS = 20
"""Arrays (m,) a direction of many outputs: values at eight pairs of points, one of them twice as it comes, and the results."""

TABLEAU = 345
"""Numbers that an output of a sample takes while its rungs are compared, by measurement; a slab takes less than a sample."""

STAGED = 12
"""Arrays (m,) of a direction that are there meanwhile: its rungs so far."""


@dataclass(frozen=True)
class Richardson:
    """The strategy."""

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """F(x), and its noise as far as it is known beforehand."""
        value, noise = yield from sighted(problem, config)
        return prepared(problem, config, value, noise)

    def foreseen(self, problem: Problem, config: DifferentiationConfig, lines: Lines) -> Sequence[Sequence[Points]]:
        """The scouts, unless f proves noisy; of a ladder whose step is given, all points."""
        if problem.step is not None:
            return [[scouting(lines, config)]]
        return [[], *expected(lines, config)]


def arrays_of(problem: Problem, value: Array) -> int:
    """Arrays (m,) that one more direction holds."""
    return LADDER_ARRAYS if len(slabs(problem.backend, int(value.shape[0]))) == 1 else SLABBED_ARRAYS


def tableau_of(problem: Problem, value: Array) -> int:
    """Numbers that one more direction holds while its rungs are compared."""
    m = int(value.shape[0])
    return STAGED * m + TABLEAU * sampled(problem.backend, m)


def scouting(lines: Lines, config: DifferentiationConfig) -> Points:
    """The first points of ladders whose f is not known to be noisy."""
    value = lines.problem.xp.zeros_like(lines.problem.x[:1])
    points: Points = next(ladders(lines, config, value, _unheard(lines.problem, config, value)))
    return points


def _unheard(problem: Problem, config: DifferentiationConfig, value: Array) -> Noise:
    """The noise of an f of which nothing is known."""
    return noise_at(problem, replace(config, noise="auto"), Values(value[:, None]))


def expected(lines: Lines, config: DifferentiationConfig) -> list[list[Points]]:
    """Points of the probe's closer looks, of the scouts, and of the likeliest rungs after them."""
    return [
        looking_closer(lines.problem, config),
        [scouting(lines, config)],
        *([points] for points in _following(lines, config)),
    ]


def _following(lines: Lines, config: DifferentiationConfig) -> list[Points]:
    """Where most ladders go after their scouts, the likeliest first."""
    limited = config.min_step is not None or config.max_step is not None
    if limited or lines.step is not None or any(sides(lines, config)):
        return []
    value = lines.problem.xp.zeros_like(lines.problem.x[:1])
    ladder = begin(lines, 0, value, _unheard(lines.problem, config, value))
    first = scouts(ladder.sampled(), config)[0, ...]
    return [next(climb(ladder, lines.problem.xp.stack([first * 2.0**j for j in rungs]))) for rungs in LIKELY]


def prepared(
    problem: Problem,
    config: DifferentiationConfig,
    value: Array,
    noise: Noise,
    reason: str = "",
    begun: Ladder | None = None,
) -> Prepared:
    """Ladders for every chunk, once f(x) is known; `begun` holds the first stages where there is one line in all."""
    noise = noise.lasting
    push = partial(columns, config=config, value=value, noise=noise, begun=begun)
    method = DifferentiationMethod.RICHARDSON
    arrays, tableau = arrays_of(problem, value), tableau_of(problem, value)
    first = Prepared(method, value, push, reason, noise.known, arrays=arrays, tableau=tableau)
    return replace(first, finite=noise.finite, scatter=noise.scatter)


def columns(
    lines: Lines, config: DifferentiationConfig, value: Array, noise: Noise, begun: Ladder | None = None
) -> Asking[Pushforward]:
    """J·V for one chunk."""
    done, _ = yield from ladders(lines, config, value, noise, begun)
    return Pushforward(done.value, done.error, done.steps, done.status)


def ladders(
    lines: Lines,
    config: DifferentiationConfig,
    value: Array,
    noise: Noise,
    begun: Ladder | None = None,
    ending: Ending = finish,
) -> Asking[tuple[Finished, Ladder | None]]:
    """Each line by the ladder that its room inside the bounds and its points allow; and the last state on two sides."""
    parts: Ended = []
    later: dict[int, list[int]] = {1: [], -1: []}
    central: list[int] = []
    last = None
    for i, side in enumerate(sides(lines, config)):
        (central if side == 0 else later[side]).append(i)
    if central:
        chosen = lines if len(central) == lines.count else lines.take(central)
        start = begun if begun is not None and isinstance(lines, Columns) else begin(chosen, 0, value, noise)
        done = yield from _climbed(start, config, value, ending)
        last = done.ladder
        parts += [([central[i] for i in which], part) for which, part in done.ended]
        for side, which in done.escaped.items():
            later[side] += [central[i] for i in which]
    for side, indices in later.items():
        if indices:
            done = yield from _climbed(begin(lines.take(indices), side, value, noise), config, value, ending)
            parts += [([indices[i] for i in which], part) for which, part in done.ended]
    return _merged(lines, parts), last


def sides(lines: Lines, config: DifferentiationConfig) -> list[int]:
    """0 where there is room on both sides, else the roomier side; one read of the device where there are bounds."""
    if lines.step is not None and lines.room is not None and lines.problem.backend.deferred:
        raise ValueError(
            "method='richardson' places its points by how far the bounds are, which is not known inside jax.jit or on lazy "
            "arrays: pass method='central', or leave bounds out"
        )
    if lines.step is not None:
        return placed(lines, lines.step * _fixed(config, 0)[-1], lines.step * _fixed(config, 1)[-1], 0)
    if lines.room is None:
        return [0] * lines.count
    xp, (up, down) = lines.problem.xp, lines.room
    need = SIDED_BELOW * lines.scale
    tight = xp.logical_and(xp.minimum(up, down) < need, xp.minimum(up, down) < xp.maximum(up, down) / 4)
    codes = xp.where(tight, xp.where(up >= down, xp.ones_like(up), -xp.ones_like(up)), xp.zeros_like(up))
    return lines.problem.backend.read(xp.astype(codes, xp.int8))


def _fixed(config: DifferentiationConfig, side: int) -> list[float]:
    """The rungs of a ladder whose step is given, over that step: whole numbers, so that points are x + k h."""
    return [float(2**i if side == 0 else i + 1) for i in range(config.richardson_terms)]


Ended = list[tuple[list[int], Finished]]


@dataclass(frozen=True)
class Climbed:
    """What became of the lines of a ladder."""

    ended: Ended
    escaped: dict[int, list[int]]  # which go to one side of x
    ladder: Ladder  # as it was at the end

    def after(self, ended: Ended, escaped: dict[int, list[int]], active: list[int]) -> Climbed:
        """Together with what became of lines before; these ones are the `active` of all."""
        mine = [([active[i] for i in which], part) for which, part in self.ended]
        sides = {side: escaped[side] + [active[i] for i in self.escaped[side]] for side in escaped}
        return replace(self, ended=ended + mine, escaped=sides)


def _climbed(ladder: Ladder, config: DifferentiationConfig, value: Array, ending: Ending) -> Asking[Climbed]:
    """Stages until every line is done; those of a ladder that has rungs already go on from there."""
    widen = bar_factor(config.confidence)
    every = list(range(ladder.lines.count))
    if ladder.lines.step is not None:
        steps = ladder.backend.xp.stack([ladder.lines.step * term for term in _fixed(config, ladder.side)])
        ladder = yield from climb(ladder, steps)
        return Climbed([(every, finished(ladder, _judged(ladder.sampled(), widen), widen, ending))], {}, ladder)
    active, ended = every, list[tuple[list[int], Finished]]()
    escaped: dict[int, list[int]] = {1: [], -1: []}
    if ladder.stage == 0:
        ladder = yield from climb(ladder, scouts(ladder.sampled(), config))
    while True:
        ladder, sample, estimate = _looked(refined(ladder), widen)
        following = plan(sample, estimate, config)
        if ladder.noise.asks and not ladder.spent:
            noise = yield from asked(ladder, sample, estimate, following, config, value)
            if noise.loud:  # the scouts stood where noise hides f: anew
                again = begin(ladder.lines, ladder.side, value, noise)
                del ladder, sample, estimate  # many values
                done = yield from _climbed(again, config, value, ending)
                return done.after(ended, escaped, active)
            ladder = ladder.knowing(noise=noise.beside(ladder.lines))
            estimate = _judged(ladder.sampled(), widen)
        if ladder.stage >= config.max_iterations or ladder.spent:
            unresolved = following.unresolved | ladder.spent
            ended.append((active, finished(ladder, estimate, widen, ending, unresolved)))
            return Climbed(ended, escaped, ladder)
        codes = ladder.backend.read(following.codes)
        stopped, going = _sorted_out(codes, active, escaped)
        if stopped:
            which = [active[i] for i in stopped]
            ended.append((which, finish_some(ladder, estimate, stopped, widen, ending)))
        if not going:
            return Climbed(ended, escaped, ladder)
        steps = following.steps
        if len(going) < len(active):
            ladder, active = narrowed(ladder, going), [active[i] for i in going]
            steps = ladder.backend.xp.take(steps, ladder.backend.indices(going), axis=1)
        del sample, estimate, following  # not while f is evaluated
        ladder = yield from climb(ladder, steps)


def _judged(ladder: Ladder, widen: float) -> Estimate:
    return extrapolate(ladder.backend, ladder.rungs, ladder.noise, widen)


def _looked(ladder: Ladder, widen: float) -> tuple[Ladder, Ladder, Estimate]:
    """The ladder with its best stage so far, the outputs that stand for all, and their estimate."""
    sample = ladder.sampled()
    estimate = _judged(sample, widen)
    if sample is ladder:
        ladder = sample = noted(ladder, estimate)
    return ladder, sample, estimate


def _sorted_out(codes: list[int], active: list[int], escaped: dict[int, list[int]]) -> tuple[list[int], list[int]]:
    """Which of the active lines stop and which go on; those that go to one side are added to `escaped`."""
    for code, side in ((UPWARDS, 1), (DOWNWARDS, -1)):
        escaped[side] += [active[i] for i, c in enumerate(codes) if c == code]
    stopped = [i for i, code in enumerate(codes) if code == DONE]
    return stopped, [i for i, code in enumerate(codes) if code not in (DONE, UPWARDS, DOWNWARDS)]


def _merged(lines: Lines, parts: Sequence[tuple[list[int], Finished]]) -> Finished:
    """The parts in the order of the lines."""
    if len(parts) == 1 and parts[0][0] == list(range(lines.count)):
        return parts[0][1]
    xp = lines.problem.xp
    order = [i for which, _ in parts for i in which]
    back = lines.problem.backend.indices(sorted(range(len(order)), key=order.__getitem__))
    joined = {
        item.name: xp.take(xp.concat([getattr(part, item.name) for _, part in parts], axis=-1), back, axis=-1)
        for item in fields(parts[0][1])
    }
    return type(parts[0][1])(**joined)


@cache
def bar_factor(confidence: float) -> float:
    """How much wider than for 95 % a bar is, were errors normal."""
    if confidence == 0.95:
        return 1.0
    from statistics import NormalDist

    normal = NormalDist()
    return normal.inv_cdf((1 + confidence) / 2) / normal.inv_cdf(0.975)
