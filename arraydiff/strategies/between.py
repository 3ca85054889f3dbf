"""Mixed derivatives of pairs of lines.

Of real points they are what is left of the line between two once their own second differences are taken off: half the points of
the four-point formula, and as exact after extrapolation.  Of crossed points they are the change, along the one, of the derivative
along the other; that one moves which shows less noise so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from arraydiff._typing import Array
from arraydiff.directions import Lines
from arraydiff.pairs import Both, crossed
from arraydiff.seam import Asking, Pushforward
from arraydiff.strategies.along import Alone, Group
from arraydiff.strategies.bows import Bows, curves
from arraydiff.strategies.refining import Wanted, finished, refined, together
from arraydiff.strategies.surveying import Table


def pairs(lines: Lines, single: Alone) -> Asking[Pushforward]:
    """The mixed derivatives of pairs of lines."""
    assert isinstance(lines, Both)
    assert single.diagonal is not None
    xp, along = lines.problem.xp, lines.of(lines.problem.xp.abs(single.diagonal.columns))
    size = xp.sqrt(along[0] * along[1])  # what a mixed derivative can be at most in a minimum
    crossing, there = single.roomy.found.near.view.scheme.crossed, single.roomy.places
    groups: dict[bool, list[int]] = {True: [], False: []}
    for i, (p, q) in enumerate(zip(lines.first, lines.second, strict=True)):
        groups[(p in there or q in there) if crossing else (p in there and q in there)].append(i)
    parts = []
    for roomy, which in groups.items():
        group = single.roomy if roomy else single.tight
        if which and group is not None:
            some, sizes = lines.take(which), xp.take(size, lines.problem.backend.indices(which), axis=-1)
            wanted: Wanted = _crossings(some, single, group, sizes) if crossing else _added(some, group, sizes)
            parts.append((which, (yield from mixed(wanted, single.unresolved))))
    return together(lines, parts)


def mixed(wanted: Wanted, unresolved: bool) -> Asking[Pushforward]:
    """Rungs of all, and further ones of those whose bars are worth them."""
    factors = list(wanted.view.scheme.fewest)
    seen = yield from wanted.seen(factors)
    left = yield from wanted.left(factors, seen)
    return finished(wanted, (yield from refined(wanted, factors, left, wanted.charted(seen), len(factors))), unresolved)


@dataclass(frozen=True)
class Added(Wanted):
    """Real points on the lines between."""

    table: Table  # of the lines themselves

    @property
    def noise(self) -> tuple[float, float]:
        own, common = (part / self.view.scheme.pairs for part in self.view.scheme.noise_of_pairs)
        return own, common

    def left(self, factors: Sequence[float], seen: Bows) -> Asking[Bows]:
        xp, alone, lines = self.lines.problem.xp, (yield from self.table.at(factors)), self.lines
        assert isinstance(lines, Both)
        (one, other), (h, g), (a, b) = lines.of(alone.part), lines.of(alone.step), lines.of(self.table.signed)
        area = xp.where((a < 0) == (b < 0), h * g, -h * g)
        left = (seen.part - one - other) / (self.view.scheme.pairs * area)[:, None, :]
        p, q = lines.of(alone.slope)
        odd = seen.step[:, None, :] * seen.slope - h[:, None, :] * p - g[:, None, :] * q
        return Bows(xp.sqrt(h * g), left, odd / (h * g)[:, None, :], seen.size)

    def jumps(self, left: Bows) -> list[Array]:
        if not self.view.scheme.both:
            return []
        return [self.lines.problem.xp.abs(left.slope[i, ...]) for i in range(int(left.slope.shape[0]))]


def _added(lines: Both, group: Group, size: Array) -> Added:
    """Pairs by the places of their lines in a table, moved by its units."""
    table, places, xp = group.found.near, group.places, lines.problem.xp
    first, second = (tuple(places[i] for i in numbers) for numbers in (lines.first, lines.second))
    lines = replace(lines, frame=table.lines, first=first, second=second, sizes=table.signed)
    (a, b), level = lines.of(table.look.unit), lines.of(table.look.level)
    return Added(table.view, lines, xp.ones_like(a), xp.sqrt(a * b), xp.maximum(*level), size, None, table)


@dataclass(frozen=True)
class Crossings(Wanted):
    """Crossed points."""

    @property
    def noise(self) -> tuple[float, float]:
        return self.view.scheme.noise_of_pairs

    def left(self, factors: Sequence[float], seen: Bows) -> Asking[Bows]:
        yield from ()
        step, curve = curves(self.view.scheme, seen)
        assert isinstance(self.lines, Both)
        return Bows(step * self.steps, curve / self.lines.of(self.lines.sizes)[0], seen.slope, seen.size)

    def jumps(self, left: Bows) -> list[Array]:
        if not self.view.scheme.both:
            return []
        assert isinstance(self.lines, Both)
        xp, slope, step = self.lines.problem.xp, left.slope, left.step
        return [
            xp.abs(slope[i + 1, ...] - slope[i, ...]) / (step[i + 1, :] - step[i, :])
            for i in range(int(step.shape[0]) - 1)
        ]


def _crossings(lines: Both, single: Alone, group: Group, size: Array) -> Crossings:
    """Real steps along the one that has room for them, and shows less noise so."""
    xp, there, rank = single.frame.problem.xp, group.places, single.rank
    turned = [
        q not in there or (p in there and rank[p] >= rank[q]) for p, q in zip(lines.first, lines.second, strict=True)
    ]
    ends = [(p, q) if first else (q, p) for first, p, q in zip(turned, lines.first, lines.second, strict=True)]
    sizes, level = single.of_frame(lambda table: table.signed), single.of_frame(lambda table: table.look.level)
    between, view = crossed(single.frame, [p for p, _ in ends], [q for _, q in ends], sizes), group.found.near.view
    steps, levels = xp.abs(between.of(sizes)[0]), between.of(level)[1]
    origin = None if view.scheme.both or single.first is None else between.of(single.first.columns)[1]
    return Crossings(view, between, xp.ones_like(steps), steps, levels, size, origin)
