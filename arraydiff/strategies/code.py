"""Code that was followed at x: its Jacobian by rows or columns, with bars, and differences where it has no one derivative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Columns, Elementwise, Lines, Tangents, ray
from arraydiff.memory import exceeds
from arraydiff.problem import Problem
from arraydiff.recording import by_rows, stacked
from arraydiff.result import Status
from arraydiff.seam import SHAKE, Asking, Prepared, Pushforward, Recorded, Recording, Seen, Tape, Touched
from arraydiff.strategies.numerical import Numerical
from arraydiff.strategies.richardson import bar_factor

LEAST = 2.0
"""eps of a derivative: the least bar."""

SPREAD = 8.0
"""Times what one other rounding changes: some numbers hardly differ by accident; 4 holds in 92 % where one rounding rules all."""

ARRAYS = 12
"""(m,) of numbers that a direction holds on its way along the tape, at the peak, for most f."""

ROW_ARRAYS = 3
"""The same where rows are there."""

LOST = "differences stand in for entries at which the derivative of the code is not finite, or not the only one"


@dataclass(frozen=True)
class Code:
    """F as it was followed at x."""

    problem: Problem
    config: DifferentiationConfig
    value: Array  # (m,)
    eps: float  # of the coarsest arithmetic inside f, wider for more confidence
    line: Tangents
    slope: Array  # (m,) along the line
    rows: tuple[Array, Array | None] | None  # (m, n) J, and J with other roundings; None: columns are made of the tapes
    tapes: tuple[Tape, Tape | None]
    kinks: Sequence[Touched]
    finite: int  # outputs at x
    missing: int  # entries of the rows that are not, though f(x) is
    heard: list[str] = field(default_factory=list)
    by_values: list[Prepared] = field(default_factory=list)  # what mends entries, once it was needed

    @classmethod
    def of(
        cls,
        problem: Problem,
        config: DifferentiationConfig,
        value: Array,
        tape: Tape,
    ) -> Asking[Code]:
        """By rows where those are few."""
        xp, m = problem.xp, int(value.shape[0])
        eps, kinks = eps_of(problem, value, tape) * bar_factor(config.confidence), tape.kinked()
        rowwise = by_rows(m, problem.directions) and (
            m == 1 or not exceeds(problem.backend, config.max_memory, 8 * m * problem.n)
        )
        first = stacked(problem.backend, tape, m, keep=problem.bars) if rowwise else None
        shaken = (yield from shaken_of(problem, tape, keep=not rowwise)) if problem.bars else None
        rows, masks, missing = None, [], 0
        if first is not None:
            rows = (first, None if shaken is None else stacked(problem.backend, shaken, m))
        finite = xp.isfinite(value)
        sound = finite if rows is None else finite & xp.isfinite(xp.sum(rows[0], axis=1))
        found, good = problem.backend.counts(finite, sound)
        if rows is not None and good < found:
            lost = finite[:, None] & ~xp.isfinite(rows[0])
            (missing,), masks = problem.backend.counts(lost), [xp.any(lost, axis=0)]
        line = ray(problem)  # no step is given
        if kinks or missing:
            line = _apart(problem, line, masks, kinks)
        slope = tape.pushforward(line.at[:, 0]) if rows is None else _times(problem, rows[0], line.at, missing)[:, 0]
        return cls(problem, config, value, eps, line, slope, rows, (tape, shaken), kinks, found, missing)

    def prepared(self, along: bool) -> Prepared:
        """What chunks use."""
        whole = self._is_whole()
        vouched = not self.problem.bars and self.finite == int(self.value.shape[0])
        seen = None
        if along:
            seen = Seen(self.line.at[:, 0], self._pushed(self.line, *self._both(self.line)))
        return Prepared(
            DifferentiationMethod.EXACT,
            self.value,
            self.columns,
            finite=self.finite,
            arrays=ARRAYS if self.rows is None else ROW_ARRAYS,
            along=seen,
            pullback=self._pulled,
            held=sum(tape.held for tape in self.tapes if tape is not None) if self.rows is None else 0,
            whole=self._whole if whole else None,
            alone=self.rows[0] if self.rows is not None and whole and vouched else None,
            vouched=vouched,
            heard=self.heard,
            unseen_bar=0.0 if self.problem.bars else LEAST * self.eps,
        )

    def _is_whole(self) -> bool:
        """Whether all columns are there, and sound."""
        return not (self.rows is None or self.kinks or self.missing or self.finite < int(self.value.shape[0]))

    def _whole(self) -> Pushforward:
        """All columns, where they are there."""
        assert self.rows is not None
        lines = Columns(self.problem, range(self.problem.n))
        return self._pushed(lines, *self.rows)

    def _pulled(self, cotangent: Array) -> tuple[Array, Array]:
        """uᵀ·J and its bars; not a number where a kink touches it."""
        if self.rows is not None:
            both = [None if one is None else self.problem.xp.matmul(cotangent, one) for one in self.rows]
        else:
            both = [None if one is None else one.pullback(cotangent, keep=True) for one in self.tapes]
        assert both[0] is not None
        value, shaken = both[0], both[1]
        row = None if shaken is None else shaken[None, :]
        xp = self.problem.xp
        for kink in self.kinks:
            touched = kink.columns & xp.any(kink.rows & (cotangent != 0))
            value = xp.where(touched, xp.full_like(value, float("nan")), value)
        found = self._pushed(Columns(self.problem, range(self.problem.n)), value[None, :], row)
        return value, found.error[0, :]

    def columns(self, lines: Lines) -> Asking[Pushforward]:
        """J·V for one chunk."""
        found = self._pushed(lines, *self._both(lines))
        return (yield from self._mended(lines, found))

    def _both(self, lines: Lines) -> list[Any]:
        """J·V, and with other roundings."""
        xp = self.problem.xp
        if self.rows is not None:
            return [None if one is None else _product(one, lines, self.missing) for one in self.rows]
        if isinstance(lines, Elementwise):
            (both,) = self._along([xp.ones_like(self.problem.x)])
            return [None if one is None else lines.at_x(one) for one in both]
        made = self._along([direction(lines, k) for k in range(lines.count)])
        return [None if one[0] is None else xp.stack(list(one), axis=1) for one in zip(*made, strict=True)]

    def _along(self, directions: list[Array]) -> list[tuple[Array, Array | None]]:
        """(m,) the derivative along each, and with other roundings."""
        tape, shaken = self.tapes
        return [(tape.pushforward(v), None if shaken is None else shaken.pushforward(v)) for v in directions]

    def _pushed(self, lines: Lines, columns: Array, shaken: Array | None) -> Pushforward:
        """With bars and flags."""
        return pushed(self.problem, lines, columns, shaken, self.eps)

    def _mended(self, lines: Lines, pushed: Pushforward) -> Asking[Pushforward]:
        """Differences in the place of entries that are not finite, or lie at a kink; one read."""
        xp, problem = self.problem.xp, self.problem
        bad = ~xp.isfinite(pushed.columns)
        for kink in self.kinks:
            bad = bad | (lines.at_x(kink.rows) & _moved(lines, kink.columns)[None, :])
        bad = bad & xp.isfinite(lines.at_x(self.value))
        if problem.backend.counts(bad) == [0]:
            return pushed
        codes = problem.backend.read(xp.astype(xp.any(bad, axis=0), xp.int8))
        which = [k for k, code in enumerate(codes) if code]
        if LOST not in self.heard:
            self.heard.append(LOST)
        some = lines.take(which)
        if not self.by_values:
            self.by_values.append((yield from Numerical().prepare(problem, self.config)))
        other = yield from self.by_values[0].pushforward(some)
        return _mixed(problem, pushed, other, bad, which)


def shaken_of(problem: Problem, tape: Tape, *, keep: bool) -> Asking[Tape | None]:
    """The same operations with other roundings; where they cannot be done again, at an x that is rounded otherwise."""
    shaken = tape.shaken(SHAKE, keep=keep)
    if shaken is not None:
        return shaken
    size = problem.xp.maximum(problem.xp.abs(problem.x), problem.scale)
    moved = size * problem.backend.ray(problem.n, problem.x.dtype) * (SHAKE * problem.eps)
    nearby = problem.at(problem.x + moved)
    nearby = problem.xp.where(nearby == problem.x, problem.at(problem.x - moved), nearby)  # at a bound
    recorded = yield Recording(nearby)
    return recorded.tape if isinstance(recorded, Recorded) else None


def pushed(problem: Problem, lines: Lines, columns: Array, shaken: Array | None, eps: float) -> Pushforward:
    """Exact columns with the bars of rounding; `shaken` are those of other roundings."""
    xp = problem.xp
    if not problem.bars:  # nobody looks at each, nor at flags: what is not finite is mended
        none = xp.zeros_like(columns)
        return Pushforward(columns, none, none[0, :], xp.zeros_like(columns, dtype=xp.int16))
    error, finite = LEAST * eps * xp.abs(columns), xp.isfinite(columns)
    if shaken is not None:
        off = xp.abs(shaken - columns) * (SPREAD / SHAKE * eps / float(xp.finfo(columns.dtype).eps))
        error = xp.maximum(error, off)
    error = xp.where(finite & xp.isfinite(error), error, xp.full_like(columns, float("inf")))
    status = xp.astype(~finite, xp.int16) * int(Status.FAILED)
    return Pushforward(columns, error, xp.zeros_like(lines.scale), status)


def eps_of(problem: Problem, value: Array, tape: Tape) -> float:
    """Of the coarsest arithmetic that f was seen to do."""
    xp = problem.xp
    eps = problem.eps_of(value)
    narrowed = any("float32" in text for text in tape.notes.branches)
    return max(eps, float(xp.finfo(xp.float32).eps)) if narrowed else eps


def direction(lines: Lines, k: int) -> Array:
    """(n,) line k."""
    if isinstance(lines, Tangents):
        return lines.at[:, k]
    assert isinstance(lines, Columns)
    backend, problem = lines.problem.backend, lines.problem
    return backend.with_entry(problem.xp.zeros_like(problem.x), lines.index[k], 1.0)


def _moved(lines: Lines, mask: Array) -> Array:
    """(k,) which lines move any of these parameters."""
    if isinstance(lines, Tangents):
        xp = lines.problem.xp
        return xp.any(mask[:, None] & (lines.at != 0), axis=0)
    return lines.unit(mask)


def _product(rows: Array, lines: Lines, missing: int) -> Array:
    """J·V of a J that is there, some of its entries missing or none."""
    if isinstance(lines, Columns):
        return rows if lines.where is None else lines.problem.xp.take(rows, lines.where, axis=1)
    if isinstance(lines, Elementwise):
        return lines.at_x(lines.problem.xp.sum(rows, axis=1))
    assert isinstance(lines, Tangents)
    return _times(lines.problem, rows, lines.at, missing)


def _times(problem: Problem, rows: Array, directions: Array, missing: int) -> Array:
    """J·V, where V may not move entries of J that are not finite."""
    xp = problem.xp
    if not missing:
        return xp.matmul(rows, directions)
    terms = rows[:, :, None] * directions[None, :, :]
    return xp.sum(xp.where(directions[None, :, :] == 0, xp.zeros_like(terms), terms), axis=1)


def _apart(problem: Problem, line: Tangents, masks: list[Array], kinks: Sequence[Touched]) -> Tangents:
    """The line without parameters whose derivatives do not stand as they are: they are taken from differences."""
    xp = problem.xp
    for mask in (*masks, *(kink.columns for kink in kinks)):
        line = replace(line, at=xp.where(mask[:, None], xp.zeros_like(line.at), line.at))
    return line


def _mixed(problem: Problem, one: Pushforward, other: Pushforward, bad: Array, which: list[int]) -> Pushforward:
    """Entries of another pushforward, of some of the lines, where they are wanted."""
    xp, count = problem.xp, int(one.columns.shape[1])
    place = {k: i for i, k in enumerate(which)}
    places = problem.backend.indices([place.get(k, 0) for k in range(count)])

    def part(mine: Array, theirs: Array) -> Array:
        return xp.where(bad, xp.take(theirs, places, axis=1), mine)

    columns, error, status = (
        part(mine, theirs)
        for mine, theirs in ((one.columns, other.columns), (one.error, other.error), (one.status, other.status))
    )
    steps = xp.where(xp.any(bad, axis=0), xp.take(other.steps, places), one.steps)
    return Pushforward(columns, error, steps, status)
