"""Lines by themselves: the unit at which each shows its second derivative best, and what it gives there.

Scouts at one unit measure the length over which f changes along each line; lines whose unit is off go on at a better one.  All
lines are treated alike, in the same rounds.  What the rungs gave is kept: pairs of lines take it off their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from arraydiff._typing import Array, Namespace
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import Lines
from arraydiff.noise import Noise
from arraydiff.seam import Asking
from arraydiff.strategies.bows import Bows, Chart, Levels, Scheme, bows, charted, curves, joined, rungs_of, seconds
from arraydiff.strategies.tableau import Estimate, SecondRungs, extrapolate

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FINEST_BAR = 4.0  # eps: no bar gets below
OFF = 2  # log2: units that lie nearer to the best one are good enough
FARTHEST = 10  # log2: units go up by no more at once
UNSEEN = 5  # log2: by which they go up where nothing was seen
HIDDEN = 3  # log2: and where noise hides the length, which is longer then
RETREAT = 6  # log2: units go down by this where f failed, and where a jump is to be told from an inflection
CROWDED = 2.0**-4  # of the wanted unit: with less room than that, points lie on one side, or beside x
JUMP = 0.1  # of the second derivative: a difference of its one-sided values that is looked at again
CLEAR = 8.0  # times the noise: a jump that stands out of it
STEADY = 0.5  # of a jump remains where steps are far smaller: a third derivative would be gone

DONE, GO_ON, UPWARDS, DOWNWARDS = range(4)


@dataclass(frozen=True)
class View:
    """How f is looked at: what is the same for all lines."""

    scheme: Scheme
    config: DifferentiationConfig
    base: Array  # (m, 1) f(x)
    size: Array  # (m, 1) of the outputs, 1 where there is none
    levels: Levels
    eps: float
    widen: float  # of the bars, 1 for 95 %

    def enough(self, goal: float) -> float:
        """The relative bar beyond which more points are worth it."""
        return max(self.config.error_tolerance or 0.0, goal, 4 * self.eps)

    def together(self, xp: Namespace, entries: Array) -> Array:
        """(k,) root mean square over the outputs, each in units of its own size; what failed counts nothing."""
        share = xp.abs(entries) / self.size
        share = xp.where(xp.isfinite(share), share, xp.zeros_like(share))
        return share[0, ...] if share.shape[0] == 1 else xp.sqrt(xp.mean(share * share, axis=0))

    def estimate(self, lines: Lines, rungs: SecondRungs, level: Array, length: Array) -> Estimate:
        """Extrapolated to step 0, with bars; changes from rung to rung are held to what the length (k,) of f foretells."""
        xp, power, step = lines.problem.xp, self.scheme.power, rungs.step
        fall = (step / length[None, :]) ** power
        fall = xp.minimum(fall, xp.ones_like(fall))[:, None, :]
        count = int(step.shape[0])
        falls = [None, self.scheme.first * fall[: count - 1, ...]]
        falls += [fall[size - 2 : count - 1, ...] for size in range(3, count + 1)]
        noise = Noise(self.eps, level, measured=False)
        found = extrapolate(lines.problem.backend, rungs, noise, self.widen, tuple(falls))
        return replace(found, error=xp.maximum(found.error, FINEST_BAR * self.eps * xp.abs(found.value)))


@dataclass(frozen=True)
class Sided:
    """Where the points of lines lie."""

    side: Array | None = None  # (k,) ±1 where all are on that side of x
    origin: Array | None = None  # (m, k) f' there, which one-sided differences of derivatives are held against

    def signed(self, unit: Array) -> Array:
        """Units, negative below x."""
        return unit if self.side is None else self.side * unit

    def picked(self, pick: Callable[[Array], Array]) -> Sided:
        """Some of the lines."""
        return Sided(*(None if part is None else pick(part) for part in (self.side, self.origin)))


@dataclass(frozen=True)
class Look:
    """What the rungs of one unit a line gave."""

    unit: Array  # (k,) > 0
    seen: Bows
    level: Array  # (m, k) noise of what second differences are made of
    chart: Chart

    @classmethod
    def at(cls, view: View, lines: Lines, unit: Array, where: Sided) -> Asking[Look]:
        """Evaluated."""
        xp, signed = lines.problem.xp, where.signed(unit)
        steps = xp.stack([signed * rung for rung in view.scheme.rungs])
        seen = yield from bows(lines, view.scheme, steps, view.base, where.origin)
        level = view.levels.of(xp, view.scheme, seen, view.base)
        chart = charted(xp, view.scheme, seen, level, lambda entries: view.together(xp, entries))
        return cls(unit, seen, level, chart)


T = TypeVar("T", bound="DataclassInstance")


def picked(item: T, pick: Callable[[Array], Array]) -> T:
    """Some of the lines."""
    parts: dict[str, Any] = {}
    for part in fields(item):
        value = getattr(item, part.name)
        inside = isinstance(value, Bows | Chart)
        plain = value is None or isinstance(value, tuple)
        parts[part.name] = picked(value, pick) if inside else value if plain else pick(value)
    return replace(item, **parts)


def side_by_side(items: Sequence[T], whole: Callable[[list[Array]], Array]) -> T:
    """Lines of several, brought into their order."""
    if len(items) == 1:
        return items[0]
    parts: dict[str, Any] = {}
    for part in fields(items[0]):
        values = [getattr(item, part.name) for item in items]
        inside = isinstance(values[0], Bows | Chart)
        parts[part.name] = side_by_side(values, whole) if inside else None if values[0] is None else whole(values)
    return replace(items[0], **parts)


@dataclass(frozen=True)
class Table:
    """What single lines gave at the rungs of their units; further rungs are asked for when they are first wanted."""

    view: View
    lines: Lines
    where: Sided
    look: Look
    rungs: dict[float, Bows] = field(default_factory=dict)  # one each, by the step over the unit

    @classmethod
    def of(cls, view: View, lines: Lines, where: Sided, look: Look) -> Table:
        """With the rungs that were looked at."""
        return cls(view, lines, where, look, {factor: look.seen.row(i) for i, factor in enumerate(view.scheme.rungs)})

    @property
    def signed(self) -> Array:
        """(k,) the units, negative below x."""
        return self.where.signed(self.look.unit)

    def at(self, factors: Sequence[float]) -> Asking[Bows]:
        """The rungs at these multiples of the units, in this order."""
        xp, missing = self.lines.problem.xp, [factor for factor in factors if factor not in self.rungs]
        if missing:
            steps = xp.stack([self.signed * factor for factor in missing])
            seen = yield from bows(self.lines, self.view.scheme, steps, self.view.base, self.where.origin)
            self.rungs.update((factor, seen.row(i)) for i, factor in enumerate(missing))
        return joined(xp, [self.rungs[factor] for factor in factors])


@dataclass(frozen=True)
class Surveyed:
    """What became of all lines."""

    best: Table  # at the units that suit each by itself
    near: Table  # at units no larger than f is known to bear: a line on which f is straight bends beside others
    kinked: Array  # (m, k) bool
    jump: Array  # (m, k) of the second derivative at x, halved
    escaped: dict[int, int]  # lines that can be looked at on one side only


def surveyed(view: View, lines: Lines, where: Sided | None = None) -> Asking[Surveyed]:
    """All lines, by points on both sides of x, or where it is said."""
    backend, xp, read = lines.problem.backend, lines.problem.xp, lines.problem.backend.read
    where = where or Sided()
    state, most = Survey.begin(view, lines, where), view.config.max_iterations
    active, ended, escaped = list(range(lines.count)), list[tuple[list[int], Survey]](), dict[int, int]()
    while active:
        state = yield from state.looked()
        codes, units = state.following(last=state.stage == most)
        told = read(codes)
        escaped |= {active[i]: 1 if code == UPWARDS else -1 for i, code in enumerate(told) if code > GO_ON}
        stopped = [i for i, code in enumerate(told) if code != GO_ON]
        ended += [([active[i] for i in stopped], state.narrowed(stopped))] if stopped else []
        going = [i for i, code in enumerate(told) if code == GO_ON]
        state, active = replace(state, unit=units).narrowed(going), [active[i] for i in going]
    order, states = [i for which, _ in ended for i in which], [part for _, part in ended]
    back = None if len(ended) == 1 else backend.indices(sorted(range(len(order)), key=order.__getitem__))

    def whole(parts: list[Array]) -> Array:
        return parts[0] if back is None else xp.take(xp.concat(parts, axis=-1), back, axis=-1)

    best, near = (side_by_side([getattr(part, name) for part in states], whole) for name in ("now", "near"))
    kinked, jump = (whole([getattr(part, name) for part in states]) for name in ("kinked", "jump"))
    table = Table.of(view, lines, where, best)
    same = all(part.now is part.near for part in states)
    return Surveyed(table, table if same else Table.of(view, lines, where, near), kinked, jump, escaped)


@dataclass(frozen=True)
class Survey:
    """Lines that are still looked at."""

    view: View
    lines: Lines
    where: Sided
    unit: Array  # (k,)
    cap: Array  # (k,) what units may be at most
    stage: int = 0
    now: Look | None = None
    near: Look | None = None
    jump: Array = None  # (m, k) at the last unit
    kinked: Array = None

    @classmethod
    def begin(cls, view: View, lines: Lines, where: Sided) -> Survey:
        """At the unit that is best where f changes over the scale of x."""
        xp, config = lines.problem.xp, view.config
        noise = xp.max(view.levels.share, axis=0) if view.scheme.crossed else view.together(xp, view.levels.real)
        noise = xp.minimum(xp.maximum(noise, xp.full_like(noise, view.eps)), xp.full_like(noise, 0.1))
        cap = capped(view.scheme, lines, where.side)
        if config.max_step is not None:
            cap = xp.minimum(cap, xp.full_like(cap, config.max_step / view.scheme.rungs[-1]))
        survey = cls(view, lines, where, cap, cap)
        return replace(survey, unit=survey.limited(view.scheme.best(noise) * lines.scale))

    def limited(self, unit: Array) -> Array:
        """Powers of two inside the limits."""
        xp, least = self.lines.problem.xp, 4 * self.view.eps * self.lines.reach
        if self.view.config.min_step is not None:
            least = xp.maximum(least, xp.full_like(least, self.view.config.min_step))
        unit = 2.0 ** xp.round(xp.log2(xp.maximum(unit, least)))
        inside = 2.0 ** xp.floor(xp.log2(xp.where(xp.isfinite(self.cap), self.cap, unit)))
        return xp.minimum(unit, inside)

    def narrowed(self, which: Sequence[int]) -> Survey:
        """Some of the lines."""
        if len(which) == self.lines.count:
            return self
        xp, chosen = self.lines.problem.xp, self.lines.problem.backend.indices(which)

        def pick(array: Array) -> Array:
            return None if array is None else xp.take(array, chosen, axis=-1)

        assert self.now is not None
        assert self.near is not None
        now = picked(self.now, pick)
        near = now if self.near is self.now else picked(self.near, pick)
        rest = {name: pick(getattr(self, name)) for name in ("unit", "cap", "jump", "kinked")}
        where = self.where.picked(pick)
        return replace(self, lines=self.lines.take(which), where=where, now=now, near=near, **rest)

    def looked(self) -> Asking[Survey]:
        """With the rungs of its units evaluated."""
        xp = self.lines.problem.xp
        now = yield from Look.at(self.view, self.lines, self.unit, self.where)
        jump, clear = jumped(xp, self.view.scheme, now)
        if self.near is None:
            return replace(self, stage=1, now=now, near=now, jump=jump, kinked=xp.zeros_like(clear))
        kinked = clear & (jump >= STEADY * self.jump) & (jump * STEADY <= self.jump)
        smaller = self.unit <= self.near.unit
        near = _either(xp, smaller, now, self.near)
        return replace(self, stage=self.stage + 1, now=now, near=near, jump=jump, kinked=kinked)

    def following(self, *, last: bool) -> tuple[Array, Array]:
        """(k,) what each line does next, and at which unit."""
        view, xp, look = self.view, self.lines.problem.xp, self.now
        assert look is not None
        assert look.seen.failed is not None
        shown = seconds(view.scheme, look.seen)
        rungs = rungs_of(xp, view.scheme, shown, view.base, view.scheme.noise, shown.size[0, ...])
        found = view.estimate(self.lines, rungs, look.level, look.chart.length)
        bar, value = view.together(xp, found.error), view.together(xp, found.value)
        noise_rules = 2 * view.together(xp, found.truncation) <= bar
        retreat = self.limited(self.unit * 2.0**-RETREAT)
        suspicious = xp.any(jumped(xp, view.scheme, look)[1], axis=0) & (self.stage == 1)
        unit = xp.where(suspicious, retreat, self.limited(self._wanted(look)))
        shift = xp.log2(unit / self.unit)
        far = (shift <= -OFF) | ((shift >= OFF) & noise_rules)
        lost = xp.any(look.seen.failed, axis=0)
        going = suspicious | lost | (far & ~(bar <= view.enough(view.scheme.goal) * value))
        codes = xp.astype(going, xp.int8) * GO_ON
        if view.scheme.both and self.stage > 1:
            up, down = look.seen.failed[0, :], look.seen.failed[1, :]
            codes = xp.where(down & ~up, xp.full_like(codes, UPWARDS), codes)
            codes = xp.where(up & ~down, xp.full_like(codes, DOWNWARDS), codes)
        codes = xp.where(codes == GO_ON, xp.zeros_like(codes), codes) if last else codes
        return codes, xp.where(lost, retreat, unit)

    def _wanted(self, look: Look) -> Array:
        """The unit that the length asks for; rungs of two stages never fall together."""
        view, xp = self.view, self.lines.problem.xp
        noise = look.chart.noise / look.chart.change
        noise = xp.minimum(xp.maximum(noise, xp.full_like(noise, view.eps)), xp.ones_like(noise))
        wanted = look.chart.length * view.scheme.best(noise)
        wanted = xp.where(look.chart.hidden, wanted * 2.0**HIDDEN, wanted)
        wanted = xp.where(look.chart.seen, wanted, self.unit * 2.0**UNSEEN)
        wanted = xp.minimum(wanted, self.unit * 2.0**FARTHEST)
        apart = xp.round(xp.log2(wanted / self.unit))
        return xp.where(apart == OFF, 2 * wanted, xp.where(apart == -OFF, wanted / 2, wanted))


def _either(xp: Namespace, first: Array, one: T, other: T) -> T:
    """Lines of the one where `first` (k,) says so."""
    parts = {}
    for part in fields(one):
        a, b = getattr(one, part.name), getattr(other, part.name)
        if is_dataclass(a):
            parts[part.name] = _either(xp, first, a, b)
        else:
            parts[part.name] = None if a is None or b is None else xp.where(first, a, b)
    return replace(one, **parts)


def jumped(xp: Namespace, scheme: Scheme, look: Look) -> tuple[Array, Array]:
    """(m, k) half the difference of the one-sided second derivatives, if it is one, and whether it may be."""
    seen, (step, curve) = look.seen, curves(scheme, look.seen)
    if not scheme.both:
        nothing = xp.zeros_like(curve[0, ...])
        return nothing, nothing > 0
    (low, high), apart = (step[0, :], step[1, :]), xp.abs(seen.slope[1, ...] - seen.slope[0, ...])
    share, noise = (1.0, 1.0) if scheme.crossed else (2.0, 2 / low)
    jump = share * apart / (high - low)
    return jump, jump > JUMP * xp.abs(curve[0, ...]) + CLEAR * look.level * noise / (high - low)


def capped(scheme: Scheme, lines: Lines, side: Array | None) -> Array:
    """(k,) the largest unit whose points stay inside the bounds."""
    xp = lines.problem.xp
    if lines.room is None:
        return xp.full_like(lines.scale, float("inf"))
    up, down = lines.room
    room = xp.minimum(up, down) if side is None else xp.where(side > 0, up, down)
    return room / max(scheme.rungs[-1], scheme.wider)


def crowded(view: View, lines: Lines) -> tuple[list[int], list[int]]:
    """Which lines have too little room on both sides, and on which side of x there is more; one read where there are bounds."""
    if lines.room is None:
        return [], [1] * lines.count
    xp, (up, down), scheme = lines.problem.xp, lines.room, view.scheme
    tight = capped(scheme, lines, None) < CROWDED * lines.scale * scheme.best(view.eps)
    tight = tight & (xp.maximum(up, down) > OFF**4 * xp.minimum(up, down))  # one side has to be worth it
    told = lines.problem.backend.read(xp.astype(tight, xp.int8) + 2 * xp.astype(up >= down, xp.int8))
    return [i for i, code in enumerate(told) if code % 2], [1 if code > 1 else -1 for code in told]
