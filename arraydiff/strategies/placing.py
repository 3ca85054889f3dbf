"""On which side of x the points of each line lie: as asked for, unless the bounds are nearer."""

from __future__ import annotations

from collections.abc import Sequence

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.directions import Lines
from arraydiff.seam import Pushforward

NOWHERE = 2


def placed(lines: Lines, both: Array, one: Array, start: int) -> list[int] | Array:
    """0, 1 or -1 for every line, whose points reach `both` on two sides or `one` on a single side.

    Sides are read from the device once, where there are bounds; where nothing can be read they stay an array (k,), with
    NOWHERE in the place of the error.

    Raises
    ------
    ValueError
        Points that fit on no side: the user's step is too large for the bounds.
    """
    if lines.room is None:
        return [start] * lines.count
    xp, (up, down) = lines.problem.xp, lines.room
    slack = 1 + 4 * lines.problem.eps
    up, down = up * slack, down * slack
    central = xp.minimum(up, down) >= both
    above, below = up >= one, down >= one
    preferred = central if start == 0 else above if start > 0 else below
    other = xp.where(above, xp.ones_like(up), xp.where(below, -xp.ones_like(up), xp.full_like(up, float(NOWHERE))))
    if start == 0:  # where either side would do, the roomier one
        other = xp.where(xp.logical_and(xp.logical_and(above, below), down > up), -xp.ones_like(up), other)
    codes = xp.where(preferred, xp.full_like(up, float(start)), other)
    if lines.problem.backend.deferred:
        return codes
    sides: list[int] = lines.problem.backend.read(xp.astype(codes, xp.int8))
    if NOWHERE in sides:
        where = lines.parameter(sides.index(NOWHERE))
        path = lines.problem.call.layout.path(where) if where is not None else ""
        raise ValueError(
            f"step_size (or relative_step): the points x + k h of x{path} do not fit between its bounds; "
            "make the step smaller there, or leave it out"
        )
    return sides


def spliced(backend: Backend, first: Pushforward, second: Pushforward, which: Sequence[int]) -> Pushforward:
    """A chunk with the lines `which` made anew."""
    xp, count = backend.xp, int(first.steps.shape[0])
    place = {i: count + j for j, i in enumerate(which)}
    order = backend.indices([place.get(i, i) for i in range(count)])

    def chosen(one: Array, two: Array) -> Array:
        return xp.take(xp.concat([one, two], axis=-1), order, axis=-1)

    return Pushforward(
        chosen(first.columns, second.columns),
        chosen(first.error, second.error),
        chosen(first.steps, second.steps),
        chosen(first.status, second.status),
    )
