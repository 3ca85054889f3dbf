"""Second derivatives of lines and pairs of them, as the columns of a Hessian or its diagonal."""

from __future__ import annotations

from collections.abc import Sequence

from arraydiff._typing import Array
from arraydiff.collectors import Dense
from arraydiff.pairs import Pairs
from arraydiff.problem import Problem
from arraydiff.result import SMALL_SHARE, Status
from arraydiff.seam import Prepared, Pushforward


def still(problem: Problem, rows: int) -> Dense:
    """Derivatives of f where no parameter can move."""
    xp, nothing = problem.xp, problem.xp.zeros_like(problem.x)
    none = xp.zeros((rows, problem.n), dtype=problem.x.dtype, device=problem.backend.device)
    return Dense(none, nothing, none, xp.full_like(none, int(Status.FIXED), dtype=xp.int16))


def scattered(problem: Problem, free: Sequence[int], found: Pushforward) -> Dense:
    """Derivatives along the free parameters as (m, n)."""
    place = {parameter: i for i, parameter in enumerate(free)}
    places = problem.backend.indices([place.get(i, len(free)) for i in range(problem.n)])
    rows = ((found.columns, 0), (found.steps[None, :], 0), (found.error, 0), (found.status, int(Status.FIXED)))
    value, steps, error, status = (_taken(problem, part, places, fill) for part, fill in rows)
    return Dense(value, steps[0, :], error, status)


def _taken(problem: Problem, part: Array, places: Array, fill: int) -> Array:
    """Columns of (m, k) by their places; one place beyond the last there is `fill`."""
    column = problem.xp.full((int(part.shape[0]), 1), fill, dtype=part.dtype, device=problem.backend.device)
    return problem.xp.take(problem.xp.concat([part, column], axis=1), places, axis=1)


def mirrored(
    problem: Problem, free: Sequence[int], rows: Sequence[int], pairs: Pairs, prepared: Prepared, dense: Dense
) -> Dense:
    """Pairs (m, P) and the diagonal as (m·r, n): entries (i, j) and (j, i) are the same number."""
    xp, m, diagonal = problem.xp, int(prepared.value.shape[0]), prepared.second
    if diagonal is None:
        return still(problem, m * len(rows))
    number = {(free[p], free[q]): i for i, (p, q) in enumerate(zip(pairs.first, pairs.second, strict=True))}
    number |= {(i, i): pairs.count + place for place, i in enumerate(free)}
    last = pairs.count + len(free)
    wanted = [number.get((min(i, j), max(i, j)), last) for i in rows for j in range(problem.n)]
    places = problem.backend.indices(wanted)

    def square(mixed: Array, alone: Array, fill: int) -> Array:
        whole = _taken(problem, xp.concat([mixed, alone], axis=1), places, fill)
        return xp.reshape(whole, (m * len(rows), problem.n))

    alone = scattered(problem, free, diagonal)
    root = xp.sqrt(xp.abs(alone.columns))
    root = xp.where(xp.isfinite(root), root, xp.zeros_like(root))
    size = xp.take(root, problem.backend.indices(list(rows)), axis=1)[:, :, None] * root[:, None, :]
    columns, error = square(dense.columns, diagonal.columns, 0), square(dense.error, diagonal.error, 0)
    status = square(dense.status, diagonal.status, int(Status.FIXED))
    least = xp.reshape(SMALL_SHARE * size, columns.shape)  # in a minimum no entry is larger than `size`
    return Dense(columns, alone.steps, error, status, least=least)
