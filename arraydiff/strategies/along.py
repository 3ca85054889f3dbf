"""Second derivatives along the lines of a frame, and what lines and pairs of them have in common: further rungs, flags, order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from arraydiff._typing import Array, Namespace
from arraydiff.directions import Lines
from arraydiff.noise import ABOVE_ROUNDING, Noise
from arraydiff.result import Status
from arraydiff.seam import Asking, Pushforward
from arraydiff.strategies.bows import Bows, Scheme, curves, joined, rungs_of
from arraydiff.strategies.surveying import NOISY, Surveyed, View, crowded, surveyed
from arraydiff.strategies.tableau import Estimate, Rungs, extrapolate

LEFT, CLOSER = 0, -1  # what lines want: nothing, or a rung closer to x
PARTS = ("columns", "error", "steps", "status")
WIDER = 4.0  # times the farthest rung, or a power of that: where lines want rungs farther out


@dataclass(frozen=True)
class Alone:
    """All lines of the frame by themselves."""

    frame: Lines
    roomy: Surveyed | None  # those with room on both sides
    places: dict[int, int]  # of a line of the frame among them
    tight: Surveyed | None  # all lines, by points that need less room
    unresolved: bool  # whatever is found
    diagonal: Pushforward | None = None  # the second derivatives along all lines

    def with_diagonal(self) -> Asking[Alone]:
        """With second derivatives."""
        parts = []
        if self.roomy is not None and self.places:
            pushed = yield from curved(self.roomy, self.unresolved)
            parts.append((list(self.places), of_lines(self.frame, pushed, list(self.places.values()))))
        if self.tight is not None:
            others = [i for i in range(self.frame.count) if i not in self.places]
            pushed = yield from curved(self.tight, self.unresolved)
            parts.append((others, of_lines(self.frame, pushed, others)))
        return replace(self, diagonal=together(self.frame, parts))

    def slopes(self) -> Pushforward:
        """The first derivatives along all lines, from the same points."""
        parts = []
        if self.roomy is not None and self.places:
            pushed = sloped(self.roomy, self.unresolved)
            parts.append((list(self.places), of_lines(self.frame, pushed, list(self.places.values()))))
        if self.tight is not None:
            others = [i for i in range(self.frame.count) if i not in self.places]
            parts.append((others, of_lines(self.frame, sloped(self.tight, self.unresolved), others)))
        return together(self.frame, parts)


def lines_alone(frame: Lines, views: tuple[View, View], unresolved: bool) -> Asking[Alone]:
    """Every line surveyed, by points on both sides where it has room there."""
    first, second = views
    narrow, sides = crowded(first, frame)
    roomy = [i for i in range(frame.count) if i not in narrow]
    both, places = None, dict[int, int]()
    if roomy:
        both = yield from surveyed(first, frame.take(roomy))
        for place, side in both.escaped.items():
            sides[roomy[place]] = side
        places = {line: place for place, line in enumerate(roomy) if place not in both.escaped}
    if len(places) == frame.count:
        return Alone(frame, both, places, None, unresolved)
    tight = yield from surveyed(second, frame, sides if second.scheme.turn is None else None)
    return Alone(frame, both, places, tight, unresolved)


def curved(found: Surveyed, unresolved: bool) -> Asking[Pushforward]:
    """The second derivatives along the lines of a table, with one more rung where bars are worth it."""
    table = found.best
    view, lines, look, xp = table.view, table.lines, table.look, table.lines.problem.xp

    def estimated(seen: Bows) -> Estimate:
        rungs = rungs_of(xp, view.scheme, *curves(view.scheme, seen), view.base, view.scheme.noise)
        return view.estimate(lines, rungs, look.level, look.scale(view))

    factors = list(view.scheme.rungs)
    estimate = estimated((yield from table.at(factors)))
    for code in sorted(
        set(lines.problem.backend.read(wanting(view, lines, estimate, xp.abs(estimate.value)))) - {LEFT}
    ):
        factors = with_more(lines, view.scheme, factors, code)
    if len(factors) > len(view.scheme.rungs):
        estimate = estimated((yield from table.at(factors)))
    kinked = found.kinked & xp.isfinite(estimate.value)
    error = xp.where(kinked, xp.maximum(found.jump, estimate.error), estimate.error)
    status = flags_of(view, xp, estimate.value, error, estimate.truncation, unresolved)
    status = status + xp.astype(kinked, xp.int16) * int(Status.KINK)
    return pushed_of(lines, estimate.value, error, look.unit, status)


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
    status = flags_of(view, xp, estimate.value, estimate.error, estimate.truncation, unresolved)
    return pushed_of(table.lines, estimate.value, estimate.error, table.look.unit, status)


def with_more(lines: Lines, scheme: Scheme, factors: Sequence[float], code: int) -> list[float]:
    """The rungs, and those that a code asks for: one closer to x, or a pair farther out; as far as bounds are known to allow."""
    if code == CLOSER:
        return [factors[0] * scheme.closer, *factors] if scheme.closer else list(factors)
    far = factors[-1] * WIDER**code
    if lines.room is not None and not scheme.beside:
        far = min(far, scheme.wider)
    return sorted({*factors, far, far / scheme.spacing}) if far > factors[-1] else list(factors)


def wanting(view: View, lines: Lines, estimate: Estimate, size: Array, farther: Array | None = None) -> Array:
    """(k,) what each line wants: 0 nothing; CLOSER where truncation rules; rungs farther out, by that power, where noise does."""
    xp = lines.problem.xp
    bar, whole = view.together(xp, estimate.error), view.together(xp, size)
    rules = view.together(xp, estimate.truncation) > bar / 2
    out = xp.ones_like(bar) if farther is None else farther
    code = xp.where(rules, xp.full_like(bar, CLOSER), out)
    goal = xp.where(rules, xp.full_like(bar, view.goal), xp.full_like(bar, view.enough(NOISY)))
    return xp.astype(xp.where(bar > goal * whole, code, xp.zeros_like(code)), xp.int8)


def flags_of(view: View, xp: Namespace, value: Array, error: Array, truncation: Array, unresolved: bool) -> Array:
    """(m, k) int16."""
    finite = xp.isfinite(value) & xp.isfinite(error)
    loud = view.levels.real > ABOVE_ROUNDING * view.eps * view.size
    noisy = loud & (2 * truncation <= error)
    flags = [(~finite, Status.FAILED), (finite & noisy, Status.NOISE_LIMITED)]
    if view.scheme.power == 1:
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
