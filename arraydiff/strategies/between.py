"""Mixed derivatives of pairs of lines: what is left of the line between them once their own second differences are taken off.

Half the points of the four-point formula, and as exact after extrapolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from arraydiff._typing import Array, Namespace
from arraydiff.directions import Lines
from arraydiff.pairs import Both
from arraydiff.seam import Asking, Pushforward
from arraydiff.strategies.along import LEFT, Alone, flags_of, latest, pushed_of, together, wanting, with_more
from arraydiff.strategies.bows import Bows, Chart, bows, charted, joined, rungs_of
from arraydiff.strategies.surveying import Scale, Table, View, picked
from arraydiff.strategies.tableau import Estimate

FURTHER = 3  # rungs beyond the first
SIDED_RUNGS = 4  # of a pair: the fifth is for the lines alone
WIDEST = 4  # power of WIDER by which rungs go farther out at once


def pairs(lines: Lines, single: Alone) -> Asking[Pushforward]:
    """The mixed derivatives of pairs of lines."""
    assert isinstance(lines, Both)
    assert single.diagonal is not None
    xp, places, along = lines.problem.xp, single.places, lines.of(lines.problem.xp.abs(single.diagonal.columns))
    size = xp.sqrt(along[0] * along[1])  # what a mixed derivative can be at most in a minimum
    groups: dict[bool, list[int]] = {True: [], False: []}
    for i, (p, q) in enumerate(zip(lines.first, lines.second, strict=True)):
        groups[p in places and q in places].append(i)
    parts = []
    for roomy, which in groups.items():
        found = single.roomy if roomy else single.tight
        if which and found is not None:
            chunk = _renumbered(lines.take(which), found.near, places if roomy else None)
            sizes = xp.take(size, lines.problem.backend.indices(which), axis=-1)
            parts.append((which, (yield from mixed(chunk, found.near, sizes, single.unresolved))))
    return together(lines, parts)


def _renumbered(lines: Both, table: Table, places: dict[int, int] | None) -> Both:
    """The same pairs by the places of their lines in a table, moved by its units."""
    first, second = lines.first, lines.second
    if places is not None:
        first, second = (tuple(places[i] for i in numbers) for numbers in (first, second))
    return replace(lines, frame=table.lines, first=first, second=second, sizes=table.signed)


def mixed(lines: Both, table: Table, size: Array, unresolved: bool) -> Asking[Pushforward]:
    """The mixed derivatives, with further rungs for pairs whose bars are worth them; `size` (m, k) is what they may be."""
    view, xp = table.view, lines.problem.xp
    factors = view.scheme.rungs[:SIDED_RUNGS] if view.scheme.power == 1 else view.scheme.rungs
    between, chart = yield from _begun(lines, table, factors)
    parts = yield from _refined(lines, table, size, factors, between, chart)
    value, error, truncation = (
        latest(lines, [(which, getattr(part, name)) for which, part in parts])
        for name in ("value", "error", "truncation")
    )
    units = lines.of(table.look.unit)
    status = flags_of(view, xp, value, error, truncation, unresolved)
    return pushed_of(lines, value, error, xp.sqrt(units[0] * units[1]), status)


def _refined(
    lines: Both, table: Table, size: Array, factors: Sequence[float], between: Bows, chart: Chart
) -> Asking[list[tuple[list[int], Estimate]]]:
    """Estimates of all pairs, then of those with further rungs, and so on."""
    view, xp, backend = table.view, lines.problem.xp, lines.problem.backend
    estimate = _estimated(lines, table, size, between, chart)
    parts = [(list(range(lines.count)), estimate)]
    if len(factors) - len(view.scheme.rungs) >= FURTHER:
        return parts
    wanted = wanting(
        view, lines, estimate, xp.maximum(xp.abs(estimate.value), size), _farther(view, xp, chart, factors)
    )
    codes = backend.read(wanted)
    for code in sorted(set(codes) - {LEFT}):
        more = with_more(lines, view.scheme, factors, code)
        if more == list(factors):
            continue
        which = [i for i, one in enumerate(codes) if one == code]
        some, index = lines.take(which), backend.indices(which)

        def pick(array: Array, index: Array = index) -> Array:
            return xp.take(array, index, axis=-1)

        fresh = [factor for factor in more if factor not in factors]
        seen = yield from _between(some, table, fresh)
        rows = {factor: picked(between, pick).row(i) for i, factor in enumerate(factors)}
        rows |= {factor: seen.row(i) for i, factor in enumerate(fresh)}
        whole = joined(xp, [rows[factor] for factor in more])
        deeper = yield from _refined(some, table, pick(size), more, whole, picked(chart, pick))
        parts += [([which[i] for i in inner], one) for inner, one in deeper]
    return parts


def _farther(view: View, xp: Namespace, chart: Chart, factors: Sequence[float]) -> Array:
    """(k,) by how many powers of WIDER the next rungs lie farther out, where noise rules."""
    noise = chart.noise / chart.change
    noise = xp.minimum(xp.maximum(noise, xp.full_like(noise, view.eps)), xp.ones_like(noise))
    best = chart.length * view.scheme.best(noise) * view.scheme.spacing / factors[-1]
    powers = xp.round(xp.log2(best) / 2 + xp.astype(chart.hidden, best.dtype))
    return xp.minimum(xp.maximum(powers, xp.ones_like(powers)), xp.full_like(powers, WIDEST))


def _begun(lines: Both, table: Table, factors: Sequence[float]) -> Asking[tuple[Bows, Chart]]:
    """The first rungs between lines, and the scale of f along them, in multiples of their units."""
    view, xp = table.view, lines.problem.xp
    seen = yield from _points_between(lines, table, factors)
    level = view.levels.of(xp, view.scheme, seen, view.base)
    chart = charted(xp, view.scheme, seen, view.levels, level, lambda entries: view.together(xp, entries))
    return (yield from _left(lines, table, factors, seen)), chart


def _between(lines: Both, table: Table, factors: Sequence[float]) -> Asking[Bows]:
    """Further ones."""
    return (yield from _left(lines, table, factors, (yield from _points_between(lines, table, factors))))


def _points_between(lines: Both, table: Table, factors: Sequence[float]) -> Asking[Bows]:
    """What f gives between lines, in multiples of their units."""
    xp, backend, one = lines.problem.xp, lines.problem.backend, lines.of(table.look.unit)[0]
    steps = backend.asarray(list(factors), one.dtype)[:, None] + xp.zeros_like(one)[None, :]
    return (yield from bows(lines, table.view.scheme, steps, table.view.base))


def _left(lines: Both, table: Table, factors: Sequence[float], seen: Bows) -> Asking[Bows]:
    """What is left between lines, as mixed derivatives (R, m, k) at rungs sqrt(h h')."""
    xp, alone = lines.problem.xp, (yield from table.at(factors))
    (one, other), (h, g), sizes = lines.of(alone.part), lines.of(alone.step), lines.of(table.signed)
    area = xp.where((sizes[0] < 0) == (sizes[1] < 0), h * g, -h * g)
    left = (seen.part - one - other) / (table.view.scheme.pairs * area)[:, None, :]
    return Bows(xp.sqrt(h * g), left, seen.slope)


def _estimated(lines: Both, table: Table, size: Array, between: Bows, chart: Chart) -> Estimate:
    view, xp, level = table.view, lines.problem.xp, lines.of(table.look.level)
    if view.scheme.analytic:  # noise goes with the steps
        a, b = lines.of(table.look.unit)
        noise = (a * level[0] + b * level[1]) / xp.sqrt(a * b)
    else:
        noise = xp.maximum(*level)
    own, common = (part / view.scheme.pairs for part in view.scheme.noise_of_pairs)
    rungs = rungs_of(xp, view.scheme, between.step, between.part, view.base, (own, common))
    curve = xp.maximum(xp.abs(between.part[0, ...]), size)
    units = lines.of(table.look.unit)
    return view.estimate(lines, rungs, noise, Scale(chart.length * xp.sqrt(units[0] * units[1]), curve))
