"""The normal equations of all blocks together: their sums, what they cost, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from arraydiff._typing import Array, PyTree
from arraydiff.backends import Backend
from arraydiff.binding import Bound
from arraydiff.config import DifferentiationMethod
from arraydiff.evaluator import Evaluator
from arraydiff.explain import opened
from arraydiff.gram import FLAGS, Sums
from arraydiff.outputs import Failure
from arraydiff.result import UNVOUCHED, DerivativeResult, Status
from arraydiff.seam import Prepared
from arraydiff.telling import MOST_FAILURES, counts_and_places, reasons_of

LOST = (
    "some rows of the residual are not finite at x, so the sums are NaN: leave these rows out, or give them weight 0 with "
    "weights="
)
SPENT = "max_evaluations is spent before all blocks were evaluated, so the sums are NaN: raise it"


@dataclass
class Tally:
    """What the blocks gave so far, and what they cost."""

    sums: Sums | None = None
    steps: Array = None  # (n,) the largest of all blocks
    blocks: int = 0
    rows: int = 0
    left_out: int = 0  # blocks for which max_evaluations left nothing
    calls: int = 0
    points: int = 0
    rounds: int = 0
    time: float = 0.0
    exhausted: bool = False
    methods: list[DifferentiationMethod] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    aux: list[Any] = field(default_factory=list)
    batching: str = ""

    def take(self, evaluator: Evaluator, prepared: Prepared, sums: Sums, steps: Array, time: float) -> None:
        """One more block."""
        self.sums = sums if self.sums is None else self.sums.plus(sums)
        self.steps = steps if self.steps is None else evaluator.backend.xp.maximum(self.steps, steps)
        self.blocks += 1
        self.rows += int(prepared.value.shape[0])
        self.methods.append(prepared.method)
        self.reasons += [prepared.reason] * bool(prepared.reason)
        self.notes += prepared.notes
        self.batching = evaluator.call.batching.told if evaluator.call.batching is not None else self.batching
        self.spent(evaluator)
        self.time += time

    def spent(self, evaluator: Evaluator) -> None:
        """What a block cost."""
        self.calls += evaluator.calls
        self.points += evaluator.points
        self.rounds += evaluator.rounds
        self.exhausted |= evaluator.exhausted
        self.failures += evaluator.failures[: max(MOST_FAILURES - len(self.failures), 0)]
        self.aux.append(evaluator.base.aux)


@dataclass(frozen=True)
class Normal:
    """The sums over all blocks with all that is known of them."""

    bound: Bound
    tally: Tally
    value: PyTree = None

    @property
    def sums(self) -> Sums:
        """Over all rows."""
        assert self.tally.sums is not None
        return self.tally.sums

    @cached_property
    def here(self) -> Backend:
        """Where the sums are."""
        return self.bound.problem.backend.host or self.bound.problem.backend

    @cached_property
    def counts(self) -> tuple[dict[str, int], int]:
        """How many entries of J are not vouched for, by flag and by "bar", and how many rows are not finite; one read."""
        xp = self.here.xp
        if self.here.deferred:
            return {}, 0
        of_flags = [self.sums.flags[i, :] for i, flag in enumerate(FLAGS) if flag & UNVOUCHED]
        totals = [xp.sum(part) for part in (*of_flags, self.sums.wide)]
        *counts, lost = self.here.read(xp.stack([*totals, self.sums.lost]))
        names = [flag.name or "" for flag in FLAGS if flag & UNVOUCHED] + ["bar"]
        doubts = {name: count for name, count in zip(names, counts, strict=True) if count}
        return doubts, lost

    @property
    def doubted(self) -> list[str]:
        """Why the sums are not vouched for: constant texts, so that Python's warning filters fold them."""
        doubts, lost = self.counts
        notes = [*self.tally.notes, *[LOST] * bool(lost), *[SPENT] * bool(self.tally.left_out)]
        return reasons_of(doubts, dict.fromkeys(notes), "entries of J")

    @property
    def said(self) -> list[str]:
        """What a user should hear, with counts and places."""
        (doubts, lost), tally = self.counts, self.tally
        texts = list(dict.fromkeys(tally.notes))
        if lost:
            texts.append(f"{lost} of {tally.rows} rows: {LOST}")
        texts += counts_and_places(self.bound.layout, doubts, tally.failures, " of J")
        if tally.exhausted or tally.left_out:
            texts.append(
                f"max_evaluations is spent ({tally.left_out} blocks were left out); raise it for the entries that are UNRESOLVED"
            )
        return texts

    def parts(self) -> tuple[Array, Array]:
        """The products and their bars, (n + 1, n + 1), symmetric to the last bit."""
        xp, problem, sums = self.here.xp, self.bound.problem, self.sums
        values, bars = (
            _mirrored(xp, part)
            for part in (xp.where(xp.isfinite(sums.low), sums.gram + sums.low, sums.gram), sums.bars)
        )
        bars = xp.where(xp.isfinite(bars), bars, xp.full_like(bars, float("inf")))
        if (
            problem.backend.deferred and problem.lower is not None
        ):  # parameters that cannot move were displaced with the others
            still = xp.concat([problem.lower == problem.upper, xp.zeros_like(sums.wide[:1], dtype=xp.bool)])
            held = still[:, None] | still[None, :]
            values, bars = (xp.where(held, xp.zeros_like(part), part) for part in (values, bars))
        return values, bars

    def status(self) -> Array:
        """(n + 1, n + 1) int16: an entry has the flags of both of its columns; r·r FAILED where rows are lost."""
        xp = self.here.xp
        column = xp.zeros_like(self.sums.wide, dtype=xp.int16)
        for i, flag in enumerate(FLAGS):
            column = column + xp.astype(self.sums.flags[i, :] > 0, xp.int16) * int(flag)
        if len(self.bound.index) < self.bound.problem.n:
            moving = set(self.bound.index)
            fixed = [0 if i in moving else int(Status.FIXED) for i in range(self.bound.problem.n)]
            column = column + self.here.asarray(fixed, xp.int16)
        last = xp.astype(xp.reshape(self.sums.lost > 0, (1,)), xp.int16) * int(Status.FAILED)
        if self.tally.left_out:
            column, last = (xp.bitwise_or(part, xp.full_like(part, int(Status.UNRESOLVED))) for part in (column, last))
        column = xp.concat([column, last])
        return xp.bitwise_or(column[:, None], column[None, :])

    def blanked(self, values: Array) -> Array:
        """The products, NaN where a column that takes part has entries that are not vouched for."""
        xp = self.here.xp
        bad = self.sums.wide > 0
        for i, flag in enumerate(FLAGS):
            bad = bad | (self.sums.flags[i, :] > 0) if flag & UNVOUCHED else bad
        bad = xp.concat([bad, xp.reshape(self.sums.lost > 0, (1,))])
        return xp.where(bad[:, None] | bad[None, :], xp.full_like(values, float("nan")), values)


def _mirrored(xp: Any, part: Array) -> Array:
    """The lower half of a square matrix, mirrored."""
    return xp.tril(part) + xp.matrix_transpose(xp.tril(part, k=-1))


@dataclass(frozen=True)
class NormalStory:
    """What explain() tells."""

    normal: Normal
    worst: float  # bar, relative to the diagonal

    def told(self, result: DerivativeResult) -> str:
        """The sentences."""
        tally, (doubts, lost) = self.normal.tally, self.normal.counts
        what = f"Normal equations of {tally.rows} rows in {tally.blocks} block{'s' * (tally.blocks != 1)}"
        lines = opened(what, result, tally.batching)
        if doubts:
            lines += self._columns()
        if not (doubts or lost):
            lines.append(
                f"All entries of J are vouched for; the largest bar of JᵀJ, relative to its diagonal, is "
                f"{self.worst:.1e} (the worst case over all rows)."
            )
        return "\n".join(lines)

    def _columns(self) -> list[str]:
        normal, lines = self.normal, []
        for i, flag in enumerate(FLAGS):
            if flag & UNVOUCHED:
                lines += self._one(f"{flag.name}; {flag.remedy}", normal.here.read(normal.sums.flags[i, :]))
        return lines + self._one("a bar that is too wide; give scale= or noise=", normal.here.read(normal.sums.wide))

    def _one(self, what: str, counts: Sequence[int]) -> list[str]:
        path = self.normal.bound.layout.path
        return [f"  d r / d x{path(i)}: {count} entries with {what}" for i, count in enumerate(counts) if count]


def methods(tally: Tally) -> DifferentiationMethod | tuple[DifferentiationMethod, ...]:
    """The method, or those of the blocks where they differ."""
    used = tuple(dict.fromkeys(tally.methods))
    return used[0] if len(used) == 1 else used


def worst(normal: Normal) -> float:
    """The largest bar of JᵀJ relative to what the diagonal allows, sqrt(N_ii N_jj)."""
    xp, n = normal.here.xp, normal.bound.problem.n
    if not n:
        return 0.0
    values, bars = (part[:n, :n] for part in normal.parts())
    on_it = xp.eye(n, dtype=xp.bool, device=normal.here.device)
    diagonal = xp.sqrt(xp.sum(xp.where(on_it, xp.abs(values), xp.zeros_like(values)), axis=0))
    size = diagonal[:, None] * diagonal[None, :]
    good = xp.isfinite(bars) & (size > 0)
    share = xp.where(good, bars, xp.zeros_like(bars)) / xp.where(good, size, xp.ones_like(size))
    return normal.here.number(xp.max(share))
