"""The check of every call: J·v against the derivative along one random direction v, in which all columns move.

An entry that the pattern leaves out moves f along v and not J·v, whatever else its columns were taken for.  What it does must
exceed what the error bars of both explain; entries that do less are smaller than the bars.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arraydiff._typing import Array
from arraydiff.agreement import compared
from arraydiff.backends import Backend
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.seam import Prepared
from arraydiff.sparse.compressed import Along, Entries, Ordered, along_rows
from arraydiff.sparse.pattern import Ints

NAMED = 5
"""Rows that a message names."""


@dataclass(frozen=True)
class Verdict:
    """What the check found."""

    rows: Ints  # rows whose entries do not explain what f does along v
    gap: float  # by how much it is off, at worst
    explained: float  # and by how much it may be, there
    unchecked: int  # rows of which nothing can be said: f was not finite along v


UNCHECKED = Verdict(np.zeros(0, dtype=np.int64), 0.0, 0.0, 0)


def verdict(
    problem: Problem,
    prepared: Prepared,
    known: Ordered,
    entries: Entries,
    along: tuple[Along, ...],
    doubted: Ints | None = None,
) -> Verdict:
    """Of all rows, or of those that are in doubt; one read where they pass."""
    here = problem.backend if problem.backend.host is None else problem.backend.host
    xp, value = here.xp, prepared.value
    finite = xp.isfinite(value if problem.backend.host is None else problem.backend.to_host(value)[0])
    if doubted is not None:
        mine = np.zeros(known.pattern.shape[0], dtype=np.bool_)
        mine[doubted] = True
        finite = finite & here.asarray(mine, xp.bool)
    nothing = xp.zeros_like(finite)
    failing, unchecked, gap, allowed = nothing, nothing, None, None
    for one in along:
        sums = along_rows(here, known, entries.values, entries.error, one.direction)
        off, may = compared(here, problem.eps, sums, one.column, one.error)
        bad = finite & (off > may)
        unchecked = unchecked | (finite & ~(xp.isfinite(off) & xp.isfinite(may)))
        gap, allowed = (off, may) if gap is None else (xp.where(bad, off, gap), xp.where(bad, may, allowed))
        failing = failing | bad
    counts = here.counts(failing, unchecked)
    if not counts[0]:
        return Verdict(np.zeros(0, dtype=np.int64), 0.0, 0.0, counts[1])
    return Verdict(*worst_of(here, failing, gap, allowed), counts[1])


def worst_of(here: Backend, failing: Array, gap: Array, allowed: Array) -> tuple[Ints, float, float]:
    """The rows that fail, and by how much the worst of them is off and may be."""
    rows = np.flatnonzero(here.as_numpy(failing).astype(np.bool_))
    offs, mays = here.as_numpy(gap)[rows], here.as_numpy(allowed)[rows]
    worst = int(np.argmax(offs))
    return rows, float(offs[worst]), float(mays[worst])


def unresolved(here: Backend, pattern_rows: Ints, rows: Ints, entries: Entries) -> Entries:
    """The entries of these rows marked: they and f disagree, and no other entry explains it."""
    xp = here.xp
    mine = here.asarray(np.isin(pattern_rows, rows), xp.bool)
    flag = xp.full_like(entries.status, int(Status.UNRESOLVED))
    status = xp.where(mine, xp.bitwise_or(entries.status, flag), entries.status)
    return Entries(entries.values, entries.error, status, entries.floor)


def named(rows: Ints) -> str:
    """The rows in words."""
    first = ", ".join(str(row) for row in rows[:NAMED])
    return (
        f"row {first}" if rows.size == 1 else f"rows {first}" + f" and {rows.size - NAMED} more" * (rows.size > NAMED)
    )


def unexplained(what: str) -> str:
    """What is said where rows stay in doubt."""
    return (
        f"some {what} disagree with f along a random direction, and no entry outside the pattern was found to explain it: f may "
        "jump or be noisy there; give noise=, or scale="
    )
