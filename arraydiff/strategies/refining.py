"""Second derivatives from rungs, with further rungs for those whose bars are worth them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from arraydiff._typing import Array, Namespace
from arraydiff.directions import Lines
from arraydiff.noise import ABOVE_ROUNDING
from arraydiff.result import Status
from arraydiff.seam import Asking, Pushforward
from arraydiff.strategies.bows import Bows, Chart, bows, charted, joined, rungs_of
from arraydiff.strategies.surveying import CLEAR, JUMP, View, picked
from arraydiff.strategies.tableau import Estimate

FURTHER = 3  # rungs beyond the first
STAYS = 0.7  # of a jump remains where steps are smaller: of what a smooth f shows in its place half of it
LEFT, CLOSER = 0, -1  # what lines want: nothing, or a rung closer to x
WIDER = 4.0  # times the farthest rung, or a power of that: where lines want rungs farther out
WIDEST = 4  # power
APART = 0.75  # further rungs never fall on powers of two, where those of another unit stand
PARTS = ("columns", "error", "steps", "status")


@dataclass(frozen=True)
class Found(Estimate):
    """What rungs say of second derivatives."""

    jump: Array = None  # (m, k) half the difference of their one-sided values, if that is one
    suspicious: Array = None  # (m, k) bool: it may be
    kinked: Array = None  # (m, k) bool: it is


@dataclass(frozen=True)
class Wanted(ABC):
    """Second derivatives that are wanted: of lines, or of pairs of them; k of them."""

    view: View
    lines: Lines  # whose points show them
    unit: Array  # (k,) the t of a rung whose factor is 1, below x where it is negative
    steps: Array  # (k,) its step
    level: Array  # (m, k) noise of what second differences are made of
    size: Array  # (m, k) what they are held to at least
    origin: Array | None  # (m, k) what one-sided rungs are held against, where they are of derivatives

    @property
    @abstractmethod
    def noise(self) -> tuple[float, float]:
        """Own and common standard deviation of a second derivative at step 1 over the level."""

    def jumps(self, left: Bows) -> list[Array]:
        """(m, k) of each rung, or two, by how much one-sided values of the second derivative would differ, halved."""
        return []

    @abstractmethod
    def left(self, factors: Sequence[float], seen: Bows) -> Asking[Bows]:
        """Second derivatives (R, m, k), by their steps, of what was seen at these factors."""

    def seen(self, factors: Sequence[float]) -> Asking[Bows]:
        """What f gives there."""
        rungs = self.lines.problem.backend.asarray(list(factors), self.unit.dtype)[:, None] * self.unit[None, :]
        return (yield from bows(self.lines, self.view.scheme, rungs, self.view.base, self.origin))

    def charted(self, seen: Bows) -> Chart:
        """The scale of f, lengths as factors."""
        view, xp = self.view, self.lines.problem.xp
        level = view.levels.of(xp, view.scheme, seen, view.base)
        chart = charted(xp, view.scheme, seen, level, lambda entries: view.together(xp, entries))
        return replace(chart, length=chart.length / xp.abs(self.unit))

    def take(self, which: Sequence[int]) -> Self:
        """Some of them."""
        xp, index = self.lines.problem.xp, self.lines.problem.backend.indices(which)
        unit, steps, level, size = (
            xp.take(part, index, axis=-1) for part in (self.unit, self.steps, self.level, self.size)
        )
        origin = None if self.origin is None else xp.take(self.origin, index, axis=-1)
        return replace(
            self, lines=self.lines.take(which), unit=unit, steps=steps, level=level, size=size, origin=origin
        )

    def estimate(self, left: Bows, chart: Chart) -> Found:
        """Extrapolated to step 0, and whether it jumps at x: a jump stays as the step falls."""
        view, xp = self.view, self.lines.problem.xp
        rungs = rungs_of(xp, view.scheme, left, view.base, self.noise, xp.min(left.size, axis=0))
        found = view.estimate(self.lines, rungs, self.level, chart.length * self.steps)
        jumps, none = self.jumps(left), xp.zeros_like(found.value)
        if not jumps:
            return Found(**vars(found), jump=none, suspicious=none > 0, kinked=none > 0)
        noise = CLEAR * self.level * rungs.width(0)
        suspicious = jumps[0] > JUMP * xp.abs(found.value) + noise
        stays = none > 0 if len(jumps) < 2 else jumps[0] >= STAYS * jumps[1]
        return Found(**vars(found), jump=jumps[0], suspicious=suspicious, kinked=suspicious & stays)


def refined(
    wanted: Wanted, factors: Sequence[float], left: Bows, chart: Chart, first: int, before: Found | None = None
) -> Asking[list[tuple[list[int], Found]]]:
    """Estimates of all, then of those with further rungs than the `first`, and so on; `before` is what fewer rungs gave."""
    view, xp, backend = wanted.view, wanted.lines.problem.xp, wanted.lines.problem.backend
    estimate = wanted.estimate(left, chart)
    estimate = estimate if before is None else _held_against(xp, estimate, before)
    parts = [(list(range(int(wanted.unit.shape[0]))), estimate)]
    if len(factors) - first >= FURTHER:
        return parts
    whole = xp.maximum(xp.abs(estimate.value), wanted.size)
    wants = wanting(view, xp, estimate, whole, farther(view, xp, chart, factors))
    if len(factors) == first:  # a closer rung tells whether a jump stays
        wants = xp.where(xp.any(estimate.suspicious, axis=0), xp.full_like(wants, CLOSER), wants)
    codes = backend.read(wants)
    for code in sorted(set(codes) - {LEFT}):
        more = with_more(wanted.lines, view, factors, code)
        if more == list(factors):
            continue
        which = [i for i, one in enumerate(codes) if one == code]
        some, index = wanted.take(which), backend.indices(which)

        def pick(array: Array, index: Array = index) -> Array:
            return xp.take(array, index, axis=-1)

        fresh = [factor for factor in more if factor not in factors]
        seen = yield from some.seen(fresh)
        found = yield from some.left(fresh, seen)
        rows = {factor: picked(left, pick).row(i) for i, factor in enumerate(factors)}
        rows |= {factor: found.row(i) for i, factor in enumerate(fresh)}
        whole_ladder, was = joined(xp, [rows[factor] for factor in more]), picked(estimate, pick)
        deeper = yield from refined(some, more, whole_ladder, picked(chart, pick), first, was)
        parts += [([which[i] for i in inner], one) for inner, one in deeper]
    return parts


def _held_against(xp: Namespace, estimate: Found, before: Found) -> Found:
    """An estimate that contradicts the one before it by more than either bar has missed something: the gap goes into its bar."""
    gap = xp.abs(estimate.value - before.value)
    apart = xp.isfinite(gap) & (gap > xp.maximum(estimate.error, before.error))
    return replace(estimate, error=xp.where(apart, estimate.error + gap, estimate.error))


def finished(wanted: Wanted, parts: Sequence[tuple[list[int], Found]], unresolved: bool) -> Pushforward:
    """The last estimates of all, with flags."""
    view, xp, lines = wanted.view, wanted.lines.problem.xp, wanted.lines
    names = ("value", "error", "truncation", "jump", "kinked")
    value, error, truncation, jump, kinked = (
        latest(lines, [(which, getattr(part, name)) for which, part in parts]) for name in names
    )
    error = xp.where(kinked, xp.maximum(error, jump), error)
    status = flags_of(view, xp, value, error, truncation, unresolved)
    status = status + xp.astype(kinked & xp.isfinite(value), xp.int16) * int(Status.KINK)
    return pushed_of(lines, value, error, wanted.steps, status)


def farther(view: View, xp: Namespace, chart: Chart, factors: Sequence[float]) -> Array:
    """(k,) by how many powers of WIDER the next rungs lie farther out, where noise rules."""
    noise = chart.noise / chart.change
    noise = xp.minimum(xp.maximum(noise, xp.full_like(noise, view.eps)), xp.ones_like(noise))
    best = chart.length * view.scheme.best(noise) * view.scheme.spacing / factors[-1]
    powers = xp.round(xp.log2(best) / 2 + xp.astype(chart.hidden, best.dtype))
    return xp.minimum(xp.maximum(powers, xp.ones_like(powers)), xp.full_like(powers, WIDEST))


def with_more(lines: Lines, view: View, factors: Sequence[float], code: int) -> list[float]:
    """The rungs, and those that a code asks for: one closer to x, or a pair farther out; as far as bounds are known to allow."""
    scheme, config = view.scheme, view.config
    if code == CLOSER:
        stays = not scheme.closer or config.min_step is not None
        return list(factors) if stays else [factors[0] * scheme.closer, *factors]
    if config.max_step is not None:
        return list(factors)
    far = APART * factors[-1] * WIDER**code
    if lines.room is not None:
        far = min(far, scheme.wider)
    return sorted({*factors, far, far / scheme.spacing}) if far > factors[-1] else list(factors)


def wanting(view: View, xp: Namespace, estimate: Estimate, size: Array, out: Array) -> Array:
    """(k,) what each wants: 0 nothing; CLOSER where truncation rules; rungs farther `out`, by that power, where noise does."""
    bar, whole = view.together(xp, estimate.error), view.together(xp, size)
    rules = view.together(xp, estimate.truncation) > bar / 2
    code = xp.where(rules, xp.full_like(bar, CLOSER), out)
    least, loud = view.enough(view.scheme.goal), view.enough(view.scheme.loud)
    goal = xp.where(rules, xp.full_like(bar, least), xp.full_like(bar, loud))
    return xp.astype(xp.where(bar > goal * whole, code, xp.zeros_like(code)), xp.int8)


def flags_of(view: View, xp: Namespace, value: Array, error: Array, truncation: Array, unresolved: bool) -> Array:
    """(m, k) int16."""
    finite = xp.isfinite(value) & xp.isfinite(error)
    loud = view.levels.real > ABOVE_ROUNDING * view.eps * view.size
    noisy = loud & (2 * truncation <= error)
    flags = [(~finite, Status.FAILED), (finite & noisy, Status.NOISE_LIMITED)]
    if not view.scheme.both:
        flags.append((xp.ones_like(finite), Status.ONE_SIDED))
    if unresolved:
        flags.append((finite, Status.UNRESOLVED))
    status = xp.zeros_like(finite, dtype=xp.int16)
    for mask, flag in flags:
        status = status + xp.astype(mask, xp.int16) * int(flag)
    return status


def pushed_of(lines: Lines, value: Array, error: Array, steps: Array, status: Array) -> Pushforward:
    xp, lost = lines.problem.xp, (status & int(Status.FAILED)) != 0
    value = xp.where(lost, xp.full_like(value, float("nan")), value)
    return Pushforward(value, xp.where(lost, xp.full_like(error, float("inf")), error), steps, status)


def of_lines(lines: Lines, pushed: Pushforward, which: Sequence[int]) -> Pushforward:
    """Some of the lines."""
    xp, index = lines.problem.xp, lines.problem.backend.indices(which)
    return Pushforward(*(xp.take(getattr(pushed, name), index, axis=-1) for name in PARTS))


def together(lines: Lines, parts: Sequence[tuple[list[int], Pushforward]]) -> Pushforward:
    """The parts in the order of the lines."""
    if len(parts) == 1:
        return parts[0][1]
    return Pushforward(*(latest(lines, [(which, getattr(part, name)) for which, part in parts]) for name in PARTS))


def latest(lines: Lines, parts: Sequence[tuple[list[int], Array]]) -> Array:
    """(..., k) each line from the last part that holds it."""
    if len(parts) == 1:
        return parts[0][1]
    place, start = dict[int, int](), 0
    for which, array in parts:
        place |= {line: start + i for i, line in enumerate(which)}
        start += int(array.shape[-1])
    xp, order = lines.problem.xp, lines.problem.backend.indices([place[i] for i in range(lines.count)])
    return xp.take(xp.concat([array for _, array in parts], axis=-1), order, axis=-1)
