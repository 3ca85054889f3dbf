"""f, or its gradient, recorded once at x: by tracing, which is loaded on first use."""

from __future__ import annotations

from typing import Any

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.problem import Call, Followed, Output
from arraydiff.seam import Recorded, Recording, Tape


def record(call: Call, wanted: Recording) -> tuple[Recorded, Output] | Exception:
    """The tape, and what f gave at x on the way; or what kept f from being followed."""
    try:
        return followed(call, wanted)
    except Exception as error:  # noqa: BLE001 - whatever it is, f is differentiated in another way
        return error.with_traceback(None)


def followed(call: Call, wanted: Recording) -> tuple[Recorded, Output]:
    """The same of an f that must be followed."""
    from arraydiff.exact import plain, traced

    told: list[Followed] = []

    def flat(point: Any) -> Any:
        told.append(call.followed(point))
        return told[-1].values

    def slopes(point: Any) -> Any:
        return matrix(call.backend, traced(flat, point), int(point.shape[0])).reshape(-1)

    ours = wanted.second or call.measured  # of the library's own, derivatives inside have no sight
    own = None if ours else call.backend.recorded(flat, wanted.x)
    if own is not None:
        return Recorded(own, own.value), Output(own.value, told[-1].layout)
    constant = wanted.second or call.measured  # a linear f has a gradient that does not depend on x
    tape = traced(slopes if wanted.second else flat, wanted.x, constant=constant, limit=wanted.limit)
    value = plain(told[-1].values) if wanted.second else tape.value
    return Recorded(tape, value), Output(value, told[-1].layout, told[-1].aux)


def pulled(backend: Backend, tape: Tape, m: int, *, keep: bool = False) -> list[Any]:
    """The m rows of J, (n,) each; without `keep` the tape is used up."""
    return [tape.pullback(unit(backend, m, row, tape.value.dtype), keep=keep or row < m - 1) for row in range(m)]


def stacked(backend: Backend, tape: Tape, m: int, *, keep: bool = False) -> Array:
    """J (m, n) of a tape that is not traced in turn."""
    rows = pulled(backend, tape, m, keep=keep)
    return rows[0][None, :] if m == 1 else backend.xp.stack(rows)


ROWS = 2
"""Rows cost as much as so many columns: Jacobians of fewer outputs are made of rows."""


def by_rows(m: int, directions: int) -> bool:
    """Whether so many outputs are pulled back, rather than so many directions pushed forward."""
    return m == 1 or ROWS * m <= directions


def matrix(backend: Backend, tape: Tape, n: int) -> Any:
    """J (m, n) of a tape that may be used up, traced where that is of a lower level: by rows or by columns."""
    from arraydiff.exact.trace import ops

    m = int(tape.value.shape[0])
    if m == 1:
        return pulled(backend, tape, m)[0][None, :]
    if by_rows(m, n):
        return ops.stack(pulled(backend, tape, m))
    return ops.stack([tape.pushforward(unit(backend, n, j, tape.value.dtype)) for j in range(n)], axis=1)


def unit(backend: Backend, size: int, place: int, dtype: Any) -> Array:
    """1 in one place, 0 elsewhere."""
    xp = backend.xp
    if size == 1:
        return backend.asarray([1.0], dtype)
    return xp.astype(xp.arange(size, device=backend.device) == place, dtype)
