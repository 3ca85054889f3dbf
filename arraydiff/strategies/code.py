"""Code that was followed at x: its Jacobian by rows or columns, with bars, and differences where it has no one derivative."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

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

SAMPLES = 2
"""Ways of rounding otherwise: what hardly differs by accident in one of them does in the other."""

SPREAD = 2.0
"""Times the most that they change: a displacement is some three roundings; of a chi2 of XPCS, where a few rule all, 99 % hold."""

ARRAYS = 12
"""(m,) of numbers that a direction holds on its way along the tape, at the peak, for most f."""

ROW_ARRAYS = 3
"""The same where rows are there."""

T = TypeVar("T")

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
    rows: Sequence[Array]  # (m, n) J, and J with other roundings; none: columns are made of the tapes
    tapes: Sequence[Tape]
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
        tapes, rows, masks, missing = [tape], list[Array](), [], 0
        if rowwise(problem, config, m):
            rows = [stacked(problem.backend, tape, m, keep=problem.bars)]
            rows += yield from others_of(problem, tape, lambda other: stacked(problem.backend, other, m), keep=False)
        else:
            tapes += yield from others_of(problem, tape, lambda other: other, keep=True)
        finite = xp.isfinite(value)
        sound = finite & xp.isfinite(xp.sum(rows[0], axis=1)) if rows else finite
        found, good = problem.backend.counts(finite, sound)
        if good < found:
            lost = finite[:, None] & ~xp.isfinite(rows[0])
            (missing,), masks = problem.backend.counts(lost), [xp.any(lost, axis=0)]
        line = ray(problem)  # no step is given
        if kinks or missing:
            line = _apart(problem, line, masks, kinks)
        slope = _times(problem, rows[0], line.at, missing)[:, 0] if rows else tape.pushforward(line.at[:, 0])
        return cls(problem, config, value, eps, line, slope, rows, tapes, kinks, found, missing)

    def prepared(self, along: bool) -> Prepared:
        """What chunks use."""
        whole = self._is_whole()
        vouched = not self.problem.bars and self.finite == int(self.value.shape[0])
        seen = None
        if along:
            seen = Seen(self.line.at[:, 0], self._pushed(self.line, self._along(self.line)))
        return Prepared(
            DifferentiationMethod.EXACT,
            self.value,
            self.columns,
            finite=self.finite,
            arrays=ROW_ARRAYS if self.rows else ARRAYS,
            along=seen,
            pullback=self._pulled,
            held=0 if self.rows else sum(tape.held for tape in self.tapes),
            whole=self._whole if whole else None,
            alone=self.rows[0] if whole and vouched else None,
            vouched=vouched,
            heard=self.heard,
            unseen_bar=unseen_bar(self.problem, self.eps),
        )

    def _is_whole(self) -> bool:
        """Whether all columns are there, and sound."""
        return len(self.rows) > 0 and not (self.kinks or self.missing or self.finite < int(self.value.shape[0]))

    def _whole(self) -> Pushforward:
        """All columns, where they are there."""
        return self._pushed(Columns(self.problem, range(self.problem.n)), self.rows)

    def _pulled(self, cotangent: Array) -> tuple[Array, Array]:
        """uᵀ·J and its bars; not a number where a kink touches it."""
        xp = self.problem.xp
        value, *others = [xp.matmul(cotangent, one) for one in self.rows] or [
            one.pullback(cotangent, keep=True) for one in self.tapes
        ]
        for kink in self.kinks:
            touched = kink.columns & xp.any(kink.rows & (cotangent != 0))
            value = xp.where(touched, xp.full_like(value, float("nan")), value)
        every = [one[None, :] for one in (value, *others)]
        return value, self._pushed(Columns(self.problem, range(self.problem.n)), every).error[0, :]

    def columns(self, lines: Lines) -> Asking[Pushforward]:
        """J·V for one chunk."""
        return (yield from self._mended(lines, self._pushed(lines, self._along(lines))))

    def _along(self, lines: Lines) -> list[Array]:
        """J·V, and with other roundings."""
        if self.rows:
            return [_product(one, lines, self.missing) for one in self.rows]
        if isinstance(lines, Elementwise):
            every = self.problem.xp.ones_like(self.problem.x)
            return [lines.at_x(one.pushforward(every)) for one in self.tapes]
        return [along(one, lines) for one in self.tapes]

    def _pushed(self, lines: Lines, found: Sequence[Array]) -> Pushforward:
        """With bars and flags."""
        return pushed(self.problem, lines, found, self.eps)

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


def others_of(problem: Problem, tape: Tape, make: Callable[[Tape], T], *, keep: bool) -> Asking[list[T]]:
    """What is made of the same operations with other roundings, one after the other; without `keep` the tape is used up.

    Where they cannot be done again, of f at an x that is rounded otherwise.
    """
    made = list[T]()
    for sample in range(SAMPLES if problem.bars else 0):
        shaken = tape.shaken(SHAKE, sample, keep=keep or sample < SAMPLES - 1)
        if shaken is None:
            break
        made.append(make(shaken))
    if made or not problem.bars:
        return made
    size = problem.xp.maximum(problem.xp.abs(problem.x), problem.scale)
    moved = size * problem.backend.ray(problem.n, problem.x.dtype) * (SHAKE * problem.eps)
    nearby = problem.at(problem.x + moved)
    nearby = problem.xp.where(nearby == problem.x, problem.at(problem.x - moved), nearby)  # at a bound
    recorded = yield Recording(nearby)
    return [make(recorded.tape)] if isinstance(recorded, Recorded) else []


def with_others(problem: Problem, tape: Tape) -> Iterator[Tape]:
    """A tape, and where bars are wanted the same with other roundings; none is kept here when the next is made."""
    yield tape
    for sample in range(SAMPLES if problem.bars else 0):
        yield from filter(None, [tape.shaken(SHAKE, sample, keep=True)])


def rowwise(problem: Problem, config: DifferentiationConfig, m: int) -> bool:
    """Whether the Jacobian is made by rows, and kept."""
    few = by_rows(m, problem.directions)
    return few and (m == 1 or not exceeds(problem.backend, config.max_memory, 8 * m * problem.n))


def tapes_of(problem: Problem, config: DifferentiationConfig, m: int) -> int:
    """How many tapes there are at a time: rows are made of one after the other."""
    return 1 if not problem.bars else 2 if rowwise(problem, config, m) else 1 + SAMPLES


def unseen_bar(problem: Problem, eps: float) -> float:
    """Relative: what rounding leaves at least, where nobody looks at bars."""
    return 0.0 if problem.bars else LEAST * eps


def pushed(problem: Problem, lines: Lines, found: Sequence[Array], eps: float) -> Pushforward:
    """Exact columns with the bars of rounding, by the same with other roundings."""
    xp, (columns, *others) = problem.xp, found
    if not problem.bars:  # nobody looks at each, nor at flags: what is not finite is mended
        none = xp.zeros_like(columns)
        return Pushforward(columns, none, none[0, :], xp.zeros_like(columns, dtype=xp.int16))
    error, finite = LEAST * eps * xp.abs(columns), xp.isfinite(columns)
    for other in others:
        off = xp.abs(other - columns) * (SPREAD / SHAKE * eps / float(xp.finfo(columns.dtype).eps))
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


def along(tape: Tape, lines: Lines) -> Array:
    """J·V, a sweep a line."""
    return lines.problem.xp.stack([tape.pushforward(direction(lines, k)) for k in range(lines.count)], axis=1)


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
