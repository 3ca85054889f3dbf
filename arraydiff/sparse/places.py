"""Where detection looks: x or a point beside it, what f gives there, and by how much f must move to count as moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from arraydiff.backends.base import RAY_SEED
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import FINEST, INSIDE, Tangents, ray
from arraydiff.noise import given, noise_at
from arraydiff.probe import Probe, probed
from arraydiff.problem import Problem
from arraydiff.seam import Asking, Values
from arraydiff.sparse.pattern import Ints

Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
Flags: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

QUIET = 16.0
"""Levels of noise that a change of f must exceed where the noise is rounding, whose level has a floor."""

NOISY, SCARCE = 30.0, 100.0
"""The same where noise is above rounding and its level is known from two rays, or from one: Student's t has long tails."""

ENOUGH = 4
"""Degrees of freedom that two rays have."""

WORTH_ANOTHER_RAY = 0.01
"""Share of noisy outputs from which a second ray pays for itself."""

LEAST_SIZE = 2.0**-4
"""Of the median of |x|: an entry of x far below it is moved as if it were that large, else its columns drown in rounding."""

PLAIN = 2.0**-46
"""Relative noise up to which one-sided differences are fine enough to tell columns by."""

UNDECIDED = 16.0
"""Times eps |f|: the noise assumed where f changes too fast to measure it."""

BLOCK_BYTES = 2**27
"""Points, and values, of one round: an (n, k) and an (m, k) array."""

ATTEMPTS = 4
"""A point beside x where f fails is halfway nearer the next time."""


@dataclass(frozen=True, eq=False)
class Ray:
    """How f changes along one more direction: known where its noise was measured."""

    direction: Floats  # (n,)
    slope: Floats  # (m,)
    error: Floats  # (m,) absolute, infinite where f changes too fast to tell


@dataclass(frozen=True, eq=False)
class Place:
    """A point, all on the host."""

    problem: Problem
    value: Floats  # (m,) f there
    tolerance: Floats  # (m,) what a change of f must exceed
    relative: Floats  # (m,) the noise over the size of f and of its change
    base: Floats  # (n,) by how much each parameter moves at t = 1; 0 where it is fixed
    behind: Floats  # (n,) how far t may go on the other side
    ray: Ray | None = None  # what the probe of the noise saw on its way

    @property
    def m(self) -> int:
        """Outputs."""
        return int(self.value.size)

    @property
    def free(self) -> Ints:
        """The parameters that can move."""
        return np.flatnonzero(self.base)

    def noise(self, rows: Ints) -> float:
        """What is typical of some outputs, relative."""
        levels = self.relative[rows]
        levels = levels[np.isfinite(levels)]
        eps = float(self.problem.xp.finfo(self.problem.x.dtype).eps)
        return max(eps, float(np.median(levels)) if levels.size else eps)


@dataclass(frozen=True, eq=False)
class Seeds:
    """Directions that each move a part of the parameters: label j of direction b, sizes by which they move."""

    labels: Ints  # (n,) the direction that moves parameter j; -1: none
    count: int
    sizes: Sequence[Floats]  # each gives `count` directions of its own

    @property
    def total(self) -> int:
        """How many directions."""
        return self.count * len(self.sizes)

    def columns(self, start: int, stop: int) -> Floats:
        """(n, stop - start) directions start..stop."""
        directions = np.zeros((self.labels.size, stop - start))
        for number, sizes in enumerate(self.sizes):
            place = self.labels + (number * self.count - start)
            there = np.flatnonzero((self.labels >= 0) & (place >= 0) & (place < stop - start))
            directions[there, place[there]] = sizes[there]
        return directions


def random_sizes(n: int, number: int) -> Floats:
    """n numbers in [1/2, 1], the same ones each time for the same `number`."""
    return np.random.Generator(np.random.PCG64([RAY_SEED, number])).uniform(0.5, 1.0, n)


def place_at(problem: Problem, config: DifferentiationConfig, value: Any) -> Asking[Place]:
    """x, the noise of f measured where it is not known."""
    noise = yield from _level(problem, config, value)
    base, behind = _sizes(problem, config.scale is None)
    with np.errstate(all="ignore"):
        relative = noise.level / noise.size
    return Place(problem, numbers(problem, value), noise.factor * noise.level, relative, base, behind, noise.ray)


@dataclass(frozen=True, eq=False)
class Level:
    """The noise of each output as far as it is told."""

    level: Floats  # (m,)
    factor: Floats  # (m,) how many levels count as a change of f
    size: Floats  # (m,) of f and of its change
    ray: Ray | None = None


def _level(problem: Problem, config: DifferentiationConfig, value: Any) -> Asking[Level]:
    noise = noise_at(problem, config, Values(value[:, None]))
    flat = numbers(problem, value)
    least = noise.eps * np.abs(flat)
    if given(config):
        return Level(np.maximum(numbers(problem, noise.known), least), np.full(flat.shape, NOISY), np.abs(flat))
    if problem.eps < FINEST or not isinstance(config.noise, str) or problem.call.measured:
        return Level(4 * least, np.full(flat.shape, QUIET), np.abs(flat))
    one = yield from probed(problem, value, noise.eps)
    level, freedom = _told(problem, one)
    size, seen, amplified = _seen(problem, one, flat)
    noisy = level > QUIET * noise.eps * size
    if np.mean(noisy) > WORTH_ANOTHER_RAY:
        two = yield from probed(problem, value, noise.eps, another=True)
        again, more = _told(problem, two)
        total = freedom + more
        level, freedom = np.sqrt((freedom * level**2 + more * again**2) / np.maximum(total, 1)), total
        noisy = level > QUIET * noise.eps * size
    level = _completed(level, freedom, size, UNDECIDED * least)
    factor = np.where(noisy, np.where(freedom < ENOUGH, SCARCE, NOISY), QUIET)
    return Level(level, factor, size, seen and replace(seen, error=seen.error + factor * level * amplified))


def _told(problem: Problem, probe: Probe) -> tuple[Floats, Floats]:
    """What one ray tells: level, and degrees of freedom behind it, both 0 where nothing."""
    level, freedom = numbers(problem, probe.level), numbers(problem, probe.freedom)
    told = np.isfinite(level)
    return np.where(told, level, 0.0), np.where(told, freedom, 0.0)


def _completed(level: Floats, freedom: Floats, size: Floats, rounding: Floats) -> Floats:
    """Where nothing was told, what is typical of the others, and no less than rounding."""
    told = (freedom > 0) & (size > 0)
    typical = float(np.median(level[told] / size[told])) if np.any(told) else 0.0
    return np.where(freedom > 0, level, np.maximum(rounding, typical * size))


def _seen(problem: Problem, probe: Probe, flat: Floats) -> tuple[Floats, Ray | None, float]:
    """Size of f and of its change along the ray, the slope there, and by what its error exceeds the noise."""
    if probe.sight is None:
        return np.abs(flat), None, 0.0
    sight = probe.sight
    values, nodes = numbers(problem, sight.values(problem.xp)), sight.spacing * np.array([0.0, *sight.nodes])
    change = (np.max(values, axis=1) - np.min(values, axis=1)) / (nodes[-1] - nodes[1])
    high, low = (np.linalg.pinv(np.vander(nodes, terms, increasing=True))[1] for terms in (nodes.size, nodes.size - 2))
    moved = values - flat[:, None]
    slope = moved @ high
    error = np.where(np.isfinite(numbers(problem, probe.level)), np.abs(slope - moved @ low), np.inf)
    way = numbers(problem, ray(replace(problem, step=None)).at[:, 0])
    return np.abs(flat) + change, Ray(way, slope, error), float(np.sum(np.abs(high)))


def _sizes(problem: Problem, own: bool) -> tuple[Floats, Floats]:
    """(n,) by how much the parameters move, away from 0 or to the roomier side, and the room in t on the other side."""
    x, size = numbers(problem, problem.x), numbers(problem, problem.scale)
    if own and size.size:
        size = np.maximum(size, LEAST_SIZE * float(np.median(size)))
    size = size * random_sizes(problem.n, 0)
    towards = np.where(x < 0, -1.0, 1.0)
    if problem.lower is None or problem.upper is None:
        return towards * size, np.full(x.shape, np.inf)
    up, down = numbers(problem, problem.upper) - x, x - numbers(problem, problem.lower)
    ahead = np.where(towards > 0, up, down)
    towards = np.where(INSIDE * ahead < size, np.where(up >= down, 1.0, -1.0), towards)
    ahead, behind = np.where(towards > 0, up, down), np.where(towards > 0, down, up)
    size = np.minimum(size, ahead)
    with np.errstate(all="ignore"):
        return towards * size, np.where(size > 0, behind / size, 0.0)


def numbers(problem: Problem, array: Any) -> Floats:
    """An array of x's library as float64 on the host."""
    return np.asarray(problem.backend.as_numpy(array), dtype=np.float64)


def beside(place: Place, number: int, own: bool) -> Asking[Place | None]:
    """A point some way off inside the bounds, the same one each time; None where f fails wherever that was tried."""
    problem = place.problem
    random = np.random.Generator(np.random.PCG64([RAY_SEED, 1000 + number]))
    signs = np.where(numbers(problem, problem.x) == 0, 1.0, random.choice(np.array([-1.0, 1.0]), problem.n))
    signs = np.where(place.behind >= 1, signs, 1.0)
    way = signs * place.base * random.uniform(0.5, 1.0, problem.n)
    for attempt in range(ATTEMPTS):
        origin = Tangents(problem, problem.backend.asarray(way[:, None], problem.x.dtype))
        points = origin.points(problem.backend.asarray([[INSIDE / 2.0**attempt]], problem.x.dtype))
        values = yield points
        _refuse_short(values)
        value = numbers(problem, values.at[:, 0])
        if np.any(np.isfinite(value)):
            return _moved(place, points.column(0), value, own)
    return None


def _moved(place: Place, x: Any, value: Floats, own: bool) -> Place:
    problem = replace(place.problem, x=x)
    base, behind = _sizes(problem, own)
    with np.errstate(all="ignore"):
        grown = np.abs(value) / np.abs(place.value)
    grown = np.where(np.isfinite(grown), np.maximum(grown, 1.0), 1.0)
    return replace(
        place, problem=problem, value=value, tolerance=place.tolerance * grown, base=base, behind=behind, ray=None
    )


def moves(place: Place, seeds: Sequence[Seeds], rows: Ints, t: float, central: bool = False) -> Asking[Floats]:
    """(rows, directions) how fast some outputs change along each direction: NaN where f fails on both sides."""
    parts = []
    for part in seeds:
        width = max(1, BLOCK_BYTES // (8 * (1 + central) * (place.m + part.labels.size)))
        for start in range(0, part.total, width):
            directions = part.columns(start, min(start + width, part.total))
            parts.append((yield from _along(place, directions, rows, t, central)))
    return np.concatenate(parts, axis=1)


def _along(place: Place, directions: Floats, rows: Ints, t: float, central: bool) -> Asking[Floats]:
    moving = directions != 0
    behind = np.min(np.where(moving, place.behind[:, None], np.inf), axis=0) >= t
    origin = place.value[rows][:, None]
    if central:
        second = np.where(behind, -t, 2 * t)
        both = yield from _values(place, directions, rows, np.stack([np.full(second.shape, t), second]))
        one, two = ((both[r] - origin) / t for r in range(2))
        slope = np.where(behind, (one - two) / 2, 2 * one - two / 2)
        return np.where(np.isfinite(slope), slope, np.where(np.isfinite(one), one, np.where(behind, -two, two / 2)))
    (ahead,) = yield from _values(place, directions, rows, np.full((1, behind.size), t))
    slope = (ahead - origin) / t
    lost = behind & np.any(~np.isfinite(slope) & np.isfinite(origin), axis=0)
    if np.any(lost):
        which = np.flatnonzero(lost)
        (back,) = yield from _values(place, directions[:, which], rows, np.full((1, which.size), -t))
        slope[:, which] = np.where(np.isfinite(slope[:, which]), slope[:, which], (origin - back) / t)
    return slope


def _values(place: Place, directions: Floats, rows: Ints, offsets: Floats) -> Asking[list[Floats]]:
    """(rows, k) what f gives at each row of offsets (r, k)."""
    problem, backend = place.problem, place.problem.backend
    lines = Tangents(problem, backend.asarray(directions, problem.x.dtype))
    values = yield lines.points(backend.asarray(offsets, problem.x.dtype))
    _refuse_short(values)
    at, k = numbers(problem, values.at), directions.shape[1]
    return [at[rows, r * k : (r + 1) * k] for r in range(offsets.shape[0])]


def _refuse_short(values: Values) -> None:
    if values.short:
        raise ValueError(
            "max_evaluations is too small to detect a pattern: give more, or pass the pattern as sparsity=(rows, cols, shape)"
        )
