"""Second derivatives along the lines of a frame: on both sides of x where there is room, else on one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from arraydiff._typing import Array, Namespace
from arraydiff.directions import Lines
from arraydiff.noise import Noise
from arraydiff.pairs import crossed
from arraydiff.result import Status
from arraydiff.seam import Asking, Pushforward
from arraydiff.strategies import complex_step
from arraydiff.strategies.bows import Bows, joined, seconds
from arraydiff.strategies.certificate import Evidence
from arraydiff.strategies.refining import Wanted, finished, flags_of, latest, of_lines, pushed_of, refined, together
from arraydiff.strategies.surveying import CLEAR, Sided, Surveyed, Table, View, crowded, surveyed
from arraydiff.strategies.tableau import Rungs, extrapolate

BENT = 0.7  # of a jump of the first derivative remains where the step is half: of a smooth f half of it
BENT_SHARE = 1e-3  # of the slope


@dataclass(frozen=True)
class Group:
    """Lines that are looked at alike."""

    found: Surveyed
    places: dict[int, int]  # of a line of the frame among them


@dataclass(frozen=True)
class Alone:
    """All lines of the frame by themselves."""

    frame: Lines
    roomy: Group  # those with points on both sides of x; there may be none
    tight: Group | None  # the others, and of real points all
    unresolved: bool  # whatever is found
    first: Pushforward | None = None  # derivatives along all lines, where points are crossed
    rank: Sequence[int] = ()  # of all lines, by the noise of their derivatives times their steps
    diagonal: Pushforward | None = None  # the second derivatives along all lines

    @property
    def groups(self) -> list[tuple[Group, list[int]]]:
        """With the lines of the frame that each says the last word of."""
        groups = [(self.roomy, list(self.roomy.places))] if self.roomy.places else []
        if self.tight is not None:
            groups.append((self.tight, [i for i in range(self.frame.count) if i not in self.roomy.places]))
        return groups

    def with_diagonal(self) -> Asking[Alone]:
        """With second derivatives."""
        parts = []
        for group, lines in self.groups:
            pushed = yield from curved(group.found, self.unresolved)
            parts.append((lines, of_lines(self.frame, pushed, [group.places[i] for i in lines])))
        return replace(self, diagonal=together(self.frame, parts))

    def ranked(self) -> Alone:
        """With the order in which lines move by real steps, those of most noise first."""
        view, backend, xp = self.roomy.found.near.view, self.frame.problem.backend, self.frame.problem.xp
        level, unit = self.of_frame(lambda table: table.look.level), self.of_frame(lambda table: table.look.unit)
        order = xp.argsort(view.together(xp, level) * unit, stable=True)
        place = {line: i for i, line in enumerate(backend.read(order))}
        return replace(self, rank=[place[i] for i in range(self.frame.count)])

    def slopes(self) -> Pushforward:
        """The first derivatives along all lines, of real points from the same ones."""
        if self.first is not None:
            return self.first
        parts = []
        for group, lines in self.groups:
            pushed = sloped(group.found, self.unresolved)
            parts.append((lines, of_lines(self.frame, pushed, [group.places[i] for i in lines])))
        return together(self.frame, parts)

    def of_frame(self, part: Callable[[Table], Array]) -> Array:
        """(..., frame) something of all lines, from the tables near x."""
        xp, parts = self.frame.problem.xp, list[tuple[list[int], Array]]()
        for group, lines in self.groups:
            chosen = self.frame.problem.backend.indices([group.places[i] for i in lines])
            parts.append((lines, xp.take(part(group.found.near), chosen, axis=-1)))
        return latest(self.frame, parts)


def lines_alone(
    frame: Lines, views: tuple[View, View], evidence: Evidence | None, unresolved: bool, *, slopes: bool
) -> Asking[Alone]:
    """Every line surveyed, by points on both sides where it has room there; `slopes`: first derivatives are wanted, too."""
    first, second = views
    every, crossing = list(range(frame.count)), first.scheme.crossed
    narrow, sides = crowded(first, frame)
    roomy = [i for i in every if i not in narrow]
    both, places = None, dict[int, int]()
    if roomy:
        both = yield from surveyed(first, _crossing(frame, roomy) if crossing else frame.take(roomy))
        for place, side in both.escaped.items():
            sides[roomy[place]] = side
        places = {line: place for place, line in enumerate(roomy) if place not in both.escaped}
    rest = [i for i in every if i not in places] if crossing else every
    tight, derivatives = None, None
    if evidence is not None and (slopes or len(places) < frame.count):
        derivatives = yield from complex_step.columns(frame, evidence)
    if len(places) < frame.count:
        backend, xp = frame.problem.backend, frame.problem.xp
        side = backend.asarray([sides[i] for i in rest], frame.scale.dtype)
        origin = None if derivatives is None else xp.take(derivatives.columns, backend.indices(rest), axis=1)
        lines = _crossing(frame, rest) if crossing else frame
        found = yield from surveyed(second, lines, Sided(side, origin))
        tight = Group(found, {line: place for place, line in enumerate(rest)})
    one = both if both is not None else tight.found if tight is not None else None
    assert one is not None
    alone = Alone(frame, Group(one, places), tight, unresolved, derivatives)
    return alone.ranked() if crossing else alone


def _crossing(frame: Lines, which: Sequence[int]) -> Lines:
    """Lines of the frame along which real and imaginary steps go."""
    return crossed(frame, which, which, frame.problem.xp.ones_like(frame.scale))


@dataclass(frozen=True)
class Single(Wanted):
    """Lines by themselves."""

    @property
    def noise(self) -> tuple[float, float]:
        return self.view.scheme.noise

    def left(self, factors: Sequence[float], seen: Bows) -> Asking[Bows]:
        yield from ()
        return seconds(self.view.scheme, seen)


def curved(found: Surveyed, unresolved: bool) -> Asking[Pushforward]:
    """The second derivatives along the lines of a table, with further rungs where bars are worth them."""
    table = found.best
    view, look, xp, factors = table.view, table.look, table.lines.problem.xp, list(table.view.scheme.rungs)
    unit = look.unit
    single = Single(view, table.lines, table.signed, unit, look.level, xp.zeros_like(look.level), table.where.origin)
    chart = replace(look.chart, length=look.chart.length / unit)
    left = yield from single.left(factors, (yield from table.at(factors)))
    parts = yield from refined(single, factors, left, chart, len(factors))
    pushed = finished(single, parts, unresolved)
    kinked = found.kinked & xp.isfinite(pushed.columns)
    error = xp.where(kinked, xp.maximum(found.jump, pushed.error), pushed.error)
    return replace(pushed, error=error, status=pushed.status + xp.astype(kinked, xp.int16) * int(Status.KINK))


def sloped(found: Surveyed, unresolved: bool) -> Pushforward:
    """The first derivatives along the lines of a table, from all rungs that are there."""
    table, view, xp = found.best, found.best.view, found.best.lines.problem.xp
    seen = joined(xp, [table.rungs[factor] for factor in sorted(table.rungs)])
    mean = view.base + seen.part / 2 if view.scheme.both else None
    nothing = xp.zeros_like(seen.part[0, ...])
    size, still = nothing + xp.abs(view.base), xp.zeros_like(seen.step[0, :])
    rungs = Rungs(seen.step, seen.slope, mean, view.base, still, size, nothing)
    estimate = extrapolate(
        table.lines.problem.backend, rungs, Noise(view.eps, table.look.level, measured=False), view.widen
    )
    half, kinked = _bent(xp, view, seen)
    error = xp.where(kinked, xp.maximum(half, estimate.error), estimate.error)
    status = flags_of(view, xp, estimate.value, error, estimate.truncation, unresolved)
    status = status + xp.astype(kinked & xp.isfinite(estimate.value), xp.int16) * int(Status.KINK)
    return pushed_of(table.lines, estimate.value, error, table.look.unit, status)


def _bent(xp: Namespace, view: View, seen: Bows) -> tuple[Array, Array]:
    """(m, k) half the difference of the one-sided first derivatives, and whether it stays as the step falls."""
    step, part = seen.step[:, None, :], seen.part
    half = xp.abs(part / step) / 2
    low, high = half[0, ...], half[1, ...]
    if not view.scheme.both:
        return low, low < 0
    clear = xp.abs(part[0, ...]) > CLEAR * 4 * view.levels.real
    return low, clear & (low >= BENT * high) & (low > BENT_SHARE * xp.abs(seen.slope[0, ...]))
