"""The pattern of a Jacobian found from values of f: searched for at x, checked at other points, grown where that fails.

Up to 64 parameters are moved one by one.  Of more, the sketch reads rows of few entries, group testing the others.  A probe that
fails or gives NaN counts as having moved, never as "no entry"; fixed parameters have no entries.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from arraydiff._typing import Array
from arraydiff.arguments import Argnums
from arraydiff.batching import batched
from arraydiff.binding import Asked, Rules, bind, checked_output
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import AtX
from arraydiff.evaluator import Evaluator
from arraydiff.options import config_of
from arraydiff.problem import Problem
from arraydiff.seam import Asking
from arraydiff.sparse.grouping import NONE, Entries, Searching, by_columns, grouped
from arraydiff.sparse.pattern import Ints, Pattern, refuse_dense
from arraydiff.sparse.places import Flags, Place, beside, place_at
from arraydiff.sparse.sketch import sketched
from arraydiff.sparse.verifying import failing, mended
from arraydiff.strategies.hosted import on_host, translated

ONE_BY_ONE = 64
"""Parameters up to which each is moved alone."""

METHODS = ("sketch", "group", "nan")

NAMED = 8
"""Rows that a message names."""


def detected(
    problem: Problem, config: DifferentiationConfig, value: Array, *, points: int = 3, method: str = "sketch"
) -> Asking[Pattern]:
    """The pattern at x and at ``points - 1`` points beside it; `value` is f(x)."""
    return _posed(problem, value, partial(_detected, config=config, points=points, method=method))


def searched(
    problem: Problem, config: DifferentiationConfig, value: Array, rows: Any, known: Pattern
) -> Asking[Pattern]:
    """The known pattern and what else some of its rows have at this x."""
    return _posed(problem, value, partial(_searched, config=config, rows=np.unique(rows), known=known))


def _posed(problem: Problem, value: Array, make: Callable[[Problem, Array], Asking[Pattern]]) -> Asking[Pattern]:
    """The same on the host, where operations on arrays of x's library cost more."""
    backend = problem.backend
    if backend.deferred:
        raise ValueError(
            "a pattern is detected from values, which are not there inside jax.jit or on lazy arrays: detect it outside, "
            "with Sparsity.detect(f, x), and pass sparsity=that"
        )
    if backend.host is None:
        return make(problem, value)
    (there,) = backend.to_host(value)
    return translated(problem, make(on_host(problem), there))


def _detected(
    problem: Problem, value: Array, config: DifferentiationConfig, points: int, method: str
) -> Asking[Pattern]:
    place = yield from place_at(problem, config, value)
    search = searching(problem.n, method)
    rows = np.flatnonzero(np.isfinite(place.value))
    nothing = Pattern.of((rows[:0], rows[:0], (place.m, problem.n)))
    pattern = _with(nothing, (yield from search(place, rows)))
    seen = np.isfinite(place.value)
    for number in range(points - 1):
        other = yield from beside(place, number, config.scale is None)
        if other is not None:
            seen |= np.isfinite(other.value)
            pattern = yield from _grown(other, pattern, searching(problem.n, method, closely=True))
    if points == 1:
        pattern = yield from _grown(place, pattern, searching(problem.n, method, closely=True))
    _refuse_unseen(seen)
    return pattern


def _searched(
    problem: Problem, value: Array, config: DifferentiationConfig, rows: Ints, known: Pattern
) -> Asking[Pattern]:
    place = yield from place_at(problem, config, value)
    rows = rows[np.isfinite(place.value[rows])]
    return _with(known, (yield from searching(problem.n, "sketch", closely=True)(place, rows)))


def searching(n: int, method: str, closely: bool = False) -> Searching:
    """The way to entries: what the sketch cannot read, group testing finds."""
    if method == "nan":
        return partial(grouped, sizes=np.full(n, np.nan))
    if n <= ONE_BY_ONE:
        return by_columns
    return grouped if method == "group" else partial(_sketched, closely=closely)


def _sketched(place: Place, rows: Ints, closely: bool) -> Asking[Entries]:
    if not rows.size:
        return rows, rows
    (one, other), left = yield from sketched(place, rows, closely)
    more, columns = yield from grouped(place, left)
    return np.concatenate([one, more]), np.concatenate([other, columns])


def _grown(place: Place, pattern: Pattern, search: Searching) -> Asking[Pattern]:
    """The pattern with what rows have beyond it at this point."""
    rows = yield from failing(place, pattern)
    if not rows.size:
        return pattern
    (one, other), left = yield from mended(place, pattern, rows)
    more, columns = (yield from search(place, left)) if left.size else NONE
    return _with(pattern, (np.concatenate([one, more]), np.concatenate([other, columns])))


def _with(pattern: Pattern, entries: Entries) -> Pattern:
    refuse_dense(entries[0].size, pattern.shape)
    return pattern.with_entries(*entries)


def _refuse_unseen(seen: Flags) -> None:
    unseen = np.flatnonzero(~seen)
    if unseen.size:
        shown = ", ".join(map(str, unseen[:NAMED])) + (", ..." if unseen.size > NAMED else "")
        raise ValueError(
            f"f is not finite in rows {shown} at x and beside it, so that nothing shows what they depend on: move x, or pass "
            "the pattern as sparsity=(rows, cols, shape)"
        )


def detect_pattern(
    fun: Callable[..., Any], x: Any, points: int = 3, method: str = "sketch", options: dict[str, Any] | None = None
) -> Pattern:
    """The pattern of a function of the user's; options are fields of the config."""
    if not _is_count(points):
        raise ValueError(f"points wants a whole number >= 1, got {points!r}")
    if method not in METHODS:
        raise ValueError(f"method wants one of {', '.join(map(repr, METHODS))}, got {method!r}")
    config = config_of(None, options or {}, "Sparsity.detect")
    bound = bind(Asked(fun, (x,), {}, Argnums.of(0), config, Rules("Sparsity.detect")))
    problem, backend = bound.problem, bound.problem.backend

    def check(there: Any, layout: Any) -> None:
        checked_output(there, layout, "Sparsity.detect", holomorphic=False, complex_outputs=False)

    with backend.on_device(), backend.quietly():
        if config.vectorized == "auto":
            problem = batched(problem, config, {}, check)
        (pattern,) = Evaluator(problem, config, check).run([_whole(problem, config, points, method)])
    return pattern


def _is_count(points: object) -> bool:
    return isinstance(points, int) and not isinstance(points, bool) and points >= 1


def _whole(problem: Problem, config: DifferentiationConfig, points: int, method: str) -> Asking[Pattern]:
    values = yield AtX(problem)
    return (yield from detected(problem, config, values.at[:, 0], points=points, method=method))
