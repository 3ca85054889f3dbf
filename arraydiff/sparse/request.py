"""The way from a pattern to a Jacobian that has been checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from time import perf_counter
from typing import Any, ClassVar

import numpy as np

from arraydiff._typing import Array
from arraydiff.agreement import TIMES_THE_BARS
from arraydiff.backends import Backend
from arraydiff.collectors import Dense
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import AtX
from arraydiff.engine import Derivative, Wanted, opened, unless_all_failed
from arraydiff.errors import SparsityError
from arraydiff.evaluator import Evaluator
from arraydiff.linear import not_linear
from arraydiff.probe import PROBED_FROM
from arraydiff.problem import Problem
from arraydiff.rounds import lockstep
from arraydiff.seam import Prepared, Rounds, Strategy, Watchful
from arraydiff.sparse.checking import UNCHECKED, Verdict, named, unexplained, unresolved, verdict
from arraydiff.sparse.colouring import coloured
from arraydiff.sparse.compressed import Along, Entries, Recovered, pushed_lines, recovered, seen_along
from arraydiff.sparse.order import NO_LINE, Order
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.seeds import Seeds, checks_of, seeds_of, sizes_of, straightened
from arraydiff.sparse.sides import Sides, joined, with_floors
from arraydiff.sparse.sparsity import Sparsity
from arraydiff.strategies import strategy_of
from arraydiff.strategies.exact import refused_beforehand
from arraydiff.strategies.richardson import Richardson
from arraydiff.strategies.straight import WithStraight
from arraydiff.vouching import Judged, tolerance

FEW_COLUMNS = 16
"""Below it nobody minds whether dense is as cheap."""

MOST_REPAIRS = 3
"""Times that a pattern may grow in one call: every time what was missed is searched for where it shows."""


@dataclass(frozen=True)
class SparseDerivative(Derivative):
    """A Jacobian's entries, flat as (nnz, 1), with all that is known of them."""

    sparsity: Sparsity  # the pattern that is kept
    repaired: Ints  # rows
    entries: Pattern  # those of the derivative
    sides: Sides | None = None  # where some of them were read along rows
    directions: int | None = None  # where they are not those of the pattern


@dataclass(frozen=True)
class Made:
    """A Jacobian by one pattern, and what the check says of it."""

    sparsity: Sparsity
    got: Recovered
    verdict: Verdict = UNCHECKED

    @property
    def rows(self) -> Ints:
        """Those that the entries do not explain."""
        return self.verdict.rows


@dataclass(frozen=True)
class Checked:
    """Entries that the check lets pass, where recovery computes."""

    prepared: Prepared
    sparsity: Sparsity
    got: Recovered
    repaired: Ints  # rows
    sides: Sides | None  # where some entries were read along rows


@dataclass(frozen=True)
class Request:
    """One call."""

    asked: ClassVar[str] = "f and its Jacobian"

    problem: Problem
    config: DifferentiationConfig
    free: np.ndarray
    verify: Any
    evaluator: Evaluator
    straight: np.ndarray | None = None  # (n,) bool: the parameters in which f is linear

    @property
    def here(self) -> Backend:
        """The library in which recovery computes."""
        backend = self.problem.backend
        return backend if backend.host is None else backend.host

    def derivation(self, known: Sparsity | None) -> Rounds[SparseDerivative]:
        """The Jacobian, checked, in the library of x."""
        started = perf_counter()
        checked = yield from self.checked(known)
        got, sparsity = checked.got, checked.sparsity
        given = self._given(
            checked.prepared, got.entries, got.steps, sparsity, checked.repaired, sparsity.pattern, started
        )
        return replace(given, sides=checked.sides)

    def checked(self, known: Sparsity | None) -> Rounds[Checked]:
        """The entries, checked; a pattern that is ours to mend grows until it explains what f does."""
        notes = list[str]()
        if known is None:
            known = yield from self._detected()
        self._fits(known, self.problem.n, 1)
        seeds = self._lined(known)
        wanted = Wanted(self._asked(known, seeds), seeds.make, strategy=self._strategy(seeds))
        prepared = yield from opened(self.problem, self.config, wanted, self.evaluator)
        self._fits(known, int(prepared.value.shape[0]), 0)
        repaired = list[Ints]()
        made = yield from self._made(prepared, known, self._prepared(prepared, known, seeds))
        while made.rows.size:
            exact = prepared.method is DifferentiationMethod.EXACT and not prepared.heard and self.straight is None
            made = yield from (self._checked_again(prepared, made) if exact else self._confirmed(made))
            rows = made.rows
            if not rows.size:
                break
            grown = yield from self._grown(prepared, made, len(repaired))
            if grown is None:
                entries = unresolved(self.here, made.sparsity.pattern.rows, rows, made.got.entries)
                made = replace(made, got=replace(made.got, entries=entries), verdict=UNCHECKED)
                notes.append(unexplained("rows"))
                break
            repaired.append(rows)
            made = yield from self._made(prepared, grown, self._prepared(prepared, grown, self._lined(grown)))
        unless_all_failed(self.evaluator)
        sides = self._both(prepared, made.sparsity)
        notes += self._notes(made, sides)
        reason = "; ".join(filter(None, (prepared.reason, *prepared.heard)))
        prepared = replace(prepared, reason=reason, notes=(*prepared.notes, *notes))
        return Checked(prepared, made.sparsity, made.got, rows_of(repaired), sides)

    @property
    def _sides(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """What is counted along each axis of the pattern, and whose numbers these are."""
        return ("outputs", "f gives"), ("parameters", "x has")

    def _fits(self, known: Sparsity, size: int, axis: int) -> None:
        if known.shape[axis] != size:
            (rows, _), (cols, _) = self._sides
            raise ValueError(
                f"sparsity has shape {known.shape}, but {self._sides[axis][1]} {size} numbers: it must be ({rows}, {cols}), "
                "counted along their flat arrays"
            )

    def _directions(self, known: Sparsity) -> int:
        return known.count

    def _both(self, prepared: Prepared, known: Sparsity) -> Sides | None:
        """Where entries are read along rows, too: f was recorded, and that is cheaper."""
        return None if prepared.pullback is None or self.straight is not None else known.sides

    def _asked(self, known: Sparsity, seeds: Seeds) -> range:
        """The lines; where f may be recorded no more than it takes then, lest it be pulled back row by row."""
        lines, config = range(seeds.count + len(seeds.checks)), self.config
        tried = config.error_tolerance is None and self.straight is None
        if not tried or known.promised >= known.count or refused_beforehand(self.problem, config):
            return lines
        return lines[: max(PROBED_FROM, ceil(known.promised))]

    def _prepared(self, prepared: Prepared, known: Sparsity, seeds: Seeds) -> Seeds:
        """The lines now that the method is known."""
        sides = self._both(prepared, known)
        if sides is not None:
            return self._seeds(sides.order)
        if prepared.method is DifferentiationMethod.COMPLEX_STEP and seeds.sizes.limited:
            return self._lined(known, real=False)  # imaginary parts know no bounds
        return seeds

    def _lined(self, known: Sparsity, real: bool = True) -> Seeds:
        """The columns on their lines."""
        return self._seeds(known.order, real=real)

    def _whole(self, known: Sparsity, got: Recovered) -> Recovered:
        """The entries of the pattern, of those that lines gave."""
        return got

    def _verdict(
        self, prepared: Prepared, known: Sparsity, seeds: Seeds, got: Recovered, along: tuple[Along, ...]
    ) -> Verdict:
        return verdict(self.problem, prepared, known, got.entries, along)

    def _seeds(self, order: Order, another: bool = False, real: bool = True) -> Seeds:
        sizes = sizes_of(self.problem, self.config, real)
        checks = checks_of(self.problem, self.config, sizes, self.free, another) if self.verify is not False else ()
        if self.straight is not None:
            sizes = straightened(self.problem, self.config, sizes, self.straight)
        return seeds_of(order, self.free, sizes, checks, self.straight)

    def _strategy(self, seeds: Seeds) -> Strategy | None:
        """That of the config, with a ray of its own that serves the check too, where it has one; None where nothing moves."""
        if not seeds.count and not seeds.checks:
            return None
        strategy = strategy_of(self.config)
        if seeds.checks and isinstance(strategy, Watchful):
            roomy = seeds.sizes.ample and len(seeds.checks) == 1
            strategy = strategy.watching(self.problem, self.config, seeds.check if roomy else None)
        return strategy if self.straight is None else WithStraight(strategy, seeds.straight_count)

    def _made(self, prepared: Prepared, known: Sparsity, seeds: Seeds) -> Rounds[Made]:
        shared = None if prepared.along is None or not seeds.checks else seen_along(prepared.along)
        lines = seeds if shared is None else replace(seeds, checks=())
        got = yield from recovered(self.problem, self.config, prepared, lines, self.evaluator)
        sides = self._both(prepared, known)
        if sides is not None:
            got = yield from self._with_rows(prepared, sides, lines, got)
        got = self._whole(known, got)
        if not seeds.checks or self.evaluator.exhausted:
            return Made(known, got)
        along = got.along if shared is None else (shared,)
        if got.lost is not None:  # the direction of the check goes on without those columns
            sound = replace(self, free=self.free & ~got.lost)
            checks = sound._seeds(Order(known.pattern, np.full_like(known.colours, NO_LINE)))
            along = (yield from pushed_lines(self.problem, self.config, prepared, checks, self.evaluator)).along
        return Made(known, got, self._verdict(prepared, known, seeds, got, along))

    def _with_rows(self, prepared: Prepared, sides: Sides, seeds: Seeds, got: Recovered) -> Rounds[Recovered]:
        """With the entries that cotangents give; those that no derivative of the code tells go by lines of their own."""
        here, outer = self.here, self.problem.backend
        value, sizes = prepared.value, seeds.sizes.signed
        if outer.host is not None:
            value, sizes = outer.to_host(value, sizes)
        entries, bad = joined(here, prepared, sides, value, self.free, got.entries)
        if bad.size:
            some = Pattern(sides.pattern.rows[bad], sides.pattern.cols[bad], sides.pattern.shape)
            lines = seeds_of(Order(some, coloured(some)), self.free, seeds.sizes)
            more = yield from recovered(self.problem, self.config, prepared, lines, self.evaluator)
            entries = entries.merged(here, bad, more.entries)
            steps = here.xp.where(here.asarray(lines.lines != NO_LINE, here.xp.bool), more.steps, got.steps)
            lost = [part for part in (got.lost, more.lost) if part is not None]
            got = replace(got, steps=steps, lost=np.logical_or.reduce(lost) if lost else None)
        return replace(got, entries=with_floors(here, sides, sizes, entries))

    def _checked_again(self, prepared: Prepared, made: Made) -> Rounds[Made]:
        """The rows in doubt along another direction: exact entries leave out nothing that ladders would add."""
        known, still = made.sparsity, np.full(made.sparsity.shape[1], NO_LINE, dtype=np.int64)
        checks = self._seeds(Order(known.pattern, still), another=True)
        along = (yield from pushed_lines(self.problem, self.config, prepared, checks, self.evaluator)).along
        return replace(made, verdict=verdict(self.problem, prepared, known, made.got.entries, along, made.rows))

    def _confirmed(self, made: Made) -> Rounds[Made]:
        """The rows in doubt once more, by ladders and along another direction: bars of fixed stencils are no promise."""
        whole, doubted = made.sparsity.pattern, made.rows
        mine = np.flatnonzero(np.isin(whole.rows, doubted))
        pattern = Pattern(whole.rows[mine].copy(), whole.cols[mine].copy(), whole.shape)
        free = self.free if made.got.lost is None else self.free & ~made.got.lost
        got, said = yield from self._carefully(pattern, doubted, free)
        self._check_linear(made.got.entries, mine, got.entries, pattern.cols)
        rows = said.rows
        sound = np.flatnonzero(~np.isin(pattern.rows, rows))  # these are taken from the ladders
        index, new = self.here.indices(sound), got.entries
        some = replace(new, **{name: self.here.xp.take(part, index) for name, part in vars(new).items()})
        entries = made.got.entries.merged(self.here, mine[sound], some)
        return replace(made, got=replace(made.got, entries=entries), verdict=said)

    def _carefully(self, pattern: Pattern, doubted: Ints, free: np.ndarray) -> Rounds[tuple[Recovered, Verdict]]:
        """The entries of rows in doubt by ladders, and whether they explain what f does along another direction."""
        config = replace(self.config, method=DifferentiationMethod.RICHARDSON, order=None)
        careful = replace(self, config=config, problem=replace(self.problem, step=None), free=free, straight=None)
        seeds = careful._seeds(Order(pattern, coloured(pattern)), another=True)
        wanted = Wanted(range(seeds.count + len(seeds.checks)), seeds.make, strategy=Richardson())
        ladder = yield from opened(careful.problem, config, wanted, self.evaluator)
        got = yield from recovered(careful.problem, config, ladder, seeds, self.evaluator)
        return got, verdict(careful.problem, ladder, seeds, got.entries, got.along, doubted)

    def _check_linear(self, entries: Entries, mine: Ints, ladder: Entries, cols: Ints) -> None:
        """Straight columns of these entries beside those of ladders.

        Raises
        ------
        ValueError
            f is not linear in some of them.
        """
        if self.straight is None:
            return
        xp, index = self.here.xp, self.here.indices(mine)
        values, error = (xp.take(part, index) for part in (entries.values, entries.error))
        off = self.here.as_numpy(xp.abs(values - ladder.values) > TIMES_THE_BARS * (error + ladder.error)).astype(
            np.bool_
        )
        guilty = np.unique(cols[off & self.straight[cols]])
        if guilty.size:
            raise ValueError(not_linear(self.problem, guilty.tolist()))

    def _grown(self, prepared: Prepared, made: Made, times: int) -> Rounds[Sparsity | None]:
        """The pattern with what its failing rows lack; None where nothing is found.

        Raises
        ------
        SparsityError
            The pattern is the user's.
        """
        said, known = made.verdict, made.sparsity
        if not known.detected and self.verify != "repair":
            raise SparsityError(
                f"sparsity leaves out entries of {named(said.rows)}: along a random direction {self.asked} differ by "
                f"{said.gap:.2g}, where error bars explain {said.explained:.2g}; add the entries, or pass "
                "verify_pattern='repair' to have them found, or sparsity='detect'",
                said.rows.tolist(),
                said.gap,
            )
        return (yield from self._searched(prepared, said.rows, known, times))

    def _searched(self, prepared: Prepared, rows: Ints, known: Sparsity, times: int) -> Rounds[Sparsity | None]:
        """A pattern that has grown `times` before, with what was found in these rows; None where nothing was."""
        if times >= MOST_REPAIRS:
            return None
        from arraydiff.sparse.detection import searched

        asking = searched(self.problem, self.config, prepared.value, rows, known.pattern)
        (pattern,) = yield from lockstep([asking])
        return Sparsity(pattern, detected=known.detected) if pattern.nnz > known.pattern.nnz else None

    def _detected(self) -> Rounds[Sparsity]:
        from arraydiff.sparse.detection import detected

        (values,) = yield [AtX(self.problem)]
        (pattern,) = yield from lockstep([detected(self.problem, self.config, values.at[:, 0])])
        return Sparsity(pattern, detected=True)

    def _notes(self, made: Made, sides: Sides | None) -> list[str]:
        """What a user should hear of the pattern."""
        known, (_, n) = made.sparsity, made.sparsity.shape
        notes = []
        count = self._directions(known) if sides is None else sides.count
        if 2 * count > n >= FEW_COLUMNS:
            longest = int(np.argmax(known.pattern.lengths))
            notes.append(
                f"the pattern takes {count} directions for {n} parameters, so that a dense derivative is as cheap: row "
                f"{longest} alone has {known.lower_bound} entries; leave such rows out, or leave out sparsity"
            )
        if made.verdict.unchecked:
            notes.append(
                "some rows could not be checked, since f was not finite along the direction of the check: set bounds, or scale"
            )
        return notes

    def _given(
        self,
        prepared: Prepared,
        entries: Entries,
        steps: Array,
        sparsity: Sparsity,
        repaired: Ints,
        pattern: Pattern,
        started: float,
    ) -> SparseDerivative:
        """All of it in the library of x; `pattern` is that of the entries."""
        backend = self.problem.backend
        arrays = (entries.values, entries.error, entries.status, entries.floor, steps)
        if backend.host is not None:
            arrays = tuple(backend.asarray(array) for array in arrays)
        values, error, status, floor = (part[:, None] for part in arrays[:4])
        judged = Judged(backend, tolerance(self.config), values, error, status, None, floor)
        dense, time = Dense(values, arrays[4], error, status), perf_counter() - started
        return SparseDerivative(
            self.problem, prepared, self.evaluator, dense, judged, time, sparsity, repaired, pattern
        )


def rows_of(repaired: Sequence[Ints]) -> Ints:
    """All rows that were repaired, once each."""
    return np.unique(np.concatenate(repaired)) if repaired else np.zeros(0, dtype=np.int64)
