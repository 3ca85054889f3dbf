"""A sparse Hessian by second differences of f, or of the terms whose sum is the objective, checked along one random direction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from arraydiff._typing import Array
from arraydiff.agreement import compared
from arraydiff.collectors import Dense, DenseCollector
from arraydiff.config import DifferentiationMethod
from arraydiff.directions import Columns, Lines, ray
from arraydiff.engine import Wanted, opened, pushed_on, unless_all_failed
from arraydiff.errors import SparsityError
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.seam import Prepared, Pushforward, Rounds, Strategy
from arraydiff.sparse.checking import named, unexplained, unresolved, worst_of
from arraydiff.sparse.clashes import count_of
from arraydiff.sparse.curved import Curved, Items, along, entries_of, sloping
from arraydiff.sparse.order import NO_LINE
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.recorded import NOT_FINITE, RecordedRequest, diagonal_of
from arraydiff.sparse.request import Made, Request, SparseDerivative, rows_of
from arraydiff.sparse.seeds import seeds_of, sizes_of
from arraydiff.sparse.sparsity import Sparsity
from arraydiff.strategies.second_order import SecondOrder
from arraydiff.strategies.turned_once import TurnedOnce

FAR = 1e-3
"""Of what the entries of a term do along a direction: by less than that, bars may be missed though the pattern is whole."""

NEAR = 1e-6
"""The same of one value with room on both sides."""

NO_ROWS = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Found:
    """What the lines and pairs gave, on the library that computes."""

    curved: Curved
    prepared: Prepared
    sizes: Array  # (n,)
    parts: tuple[Array, ...]  # values, bars, flags: (terms, pairs + lines)
    rows: Ints = field(
        default_factory=lambda: NO_ROWS
    )  # terms whose entries do not explain what f does along a random direction
    far: Ints = field(default_factory=lambda: NO_ROWS)  # those of them that are off by far
    gap: float = 0.0
    explained: float = 0.0


@dataclass(frozen=True, eq=False)
class Compared:
    """Terms along one direction, (terms,)."""

    off: Array  # by how much each is off
    may: Array  # by how much it may be
    size: Array  # what its entries do there
    curved: bool  # second derivatives


@dataclass(frozen=True)
class CurvedRequest(Request):
    """One Hessian, or its diagonal, by values of f."""

    terms: bool = True
    diagonal: bool = False

    def derivation(self, known: Sparsity | None) -> Rounds[SparseDerivative]:
        """The Hessian, checked; a pattern of the terms that is ours to mend grows until it explains what they do."""
        started = perf_counter()
        if known is None:
            known = yield from self._detected()
        self._fits(known, self.problem.n, 1)
        request = RecordedRequest(self.problem, self.config, self.free, self.verify, self.evaluator, terms=self.terms)
        prepared, why = yield from request.recorded()
        made = None
        if prepared is not None:
            self._fits(known, int(self.evaluator.base.values.shape[0]) if self.terms else known.shape[0], 0)
            made = yield from request.made(prepared, self._whole_of(known))
            why = NOT_FINITE
        if prepared is None or made is None:
            found, known, repaired, notes = yield from self._by_values(known)
            other = found.prepared
            told = why.told_with(replace(other, notes=(*other.notes, *notes)))
            return self._ended(told, found, known, repaired, started)
        repaired = list[Ints]()
        if made.rows.size and self.terms:  # differences of terms tell which of them
            _, known, repaired, _ = yield from self._by_values(known)
            if repaired:
                made = (yield from request.made(prepared, self._whole_of(known))) or made
        return self._exactly(prepared, made, known, repaired, started)

    def _by_values(self, known: Sparsity) -> Rounds[tuple[Found, Sparsity, list[Ints], list[str]]]:
        """By differences, with the pattern as it has grown, the terms that were repaired, and what is to be said."""
        notes, repaired = list[str](), list[Ints]()
        found = yield from self._found(known)
        while found.rows.size:
            found = yield from self._looked_at(found, known)
            rows = found.rows
            if not rows.size:
                break
            grown = yield from self._more(found, known, len(repaired))
            if grown is None:
                found = self._doubted(found)
                notes.append(unexplained("terms"))
                break
            repaired.append(rows)
            known = grown
            found = yield from self._found(known)
        unless_all_failed(self.evaluator)
        return found, known, repaired, notes

    def _whole_of(self, known: Sparsity) -> Sparsity:
        """The pattern of the Hessian."""
        return known.of_sum if self.terms else known

    def _exactly(
        self, prepared: Prepared, made: Made, known: Sparsity, repaired: list[Ints], started: float
    ) -> SparseDerivative:
        """What the recorded gradient gave.

        Raises
        ------
        SparsityError
            The user's pattern leaves something out.
        """
        entries, pattern, rows = made.got.entries, made.sparsity.pattern, made.rows
        if rows.size and not known.detected and self.verify != "repair":
            remedy = "sparsity='detect'" if self.terms else "pass gradient=, or terms=True, which find them"
            raise SparsityError(
                f"sparsity leaves out entries of the Hessian in {named(rows)}: along a random direction the gradient of f and "
                f"its Hessian differ by {made.verdict.gap:.2g}, where error bars explain {made.verdict.explained:.2g}; add "
                f"them, or {remedy}",
                () if self.terms else rows.tolist(),
                made.verdict.gap,
            )
        notes = list(prepared.notes)
        if rows.size:
            entries = unresolved(self.here, pattern.rows, rows, entries)
            notes.append(unexplained("rows"))
        if self.diagonal:
            entries, pattern = entries.taken(self.here, diagonal_of(pattern)), self._pattern(known)
        value = self.problem.xp.reshape(self.evaluator.base.values, (-1,))  # a block of one point where f takes blocks
        prepared = replace(prepared, value=value, notes=tuple(notes), along=None)
        given = self._given(prepared, entries, made.got.steps, known, rows_of(repaired), pattern, started)
        return replace(given, directions=count_of(made.sparsity.star))

    def _looked_at(self, found: Found, known: Sparsity) -> Rounds[Found]:
        """What is in doubt, once more: bars of second differences are no promise.

        Of terms their Jacobian tells whether they depend on more than the pattern says; where it does not, second differences are
        made of real steps, and only what is off by far is a matter of the pattern.
        """
        if self.terms and self.verify is not False:
            whole = known.pattern
            mine = np.isin(whole.rows, found.rows)
            pattern = Pattern(whole.rows[mine], whole.cols[mine], whole.shape)
            _, said = yield from self._carefully(pattern, found.rows, self.free)
            if said.rows.size:
                return replace(found, rows=said.rows, gap=said.gap, explained=said.explained)
        again = yield from self._found(known, another=True)
        if self.verify is False:
            return replace(again, rows=NO_ROWS)
        return replace(again, rows=np.intersect1d(found.rows, again.far if self.terms else again.rows))

    @property
    def _sides(self) -> tuple[tuple[str, str], tuple[str, str]]:
        parameters = ("parameters", "x has")
        return ("terms", "f gives") if self.terms else parameters, parameters

    def _curved(self, known: Sparsity, another: bool) -> Curved:
        """The lines that are needed, and the direction of the check."""
        problem, free, xp = self.problem, self.free, self.problem.xp
        sizes = sizes_of(problem, self.config)
        direction = ray(replace(problem, step=None), another).at[:, 0]
        if self.terms:
            seeds = seeds_of(known.order, free, sizes)
            items = Items.of_terms(known.pattern, seeds.lines != NO_LINE)
            items = items.diagonal() if self.diagonal else items
            frame: Lines = seeds.make(problem, range(seeds.count)) if seeds.count else Columns(problem, ())
            return Curved(items, problem.n, seeds.lines, sizes.signed, frame, direction)
        items = Items.of_value(known.pattern, free)
        used = np.unique(np.concatenate([items.i, items.j]))
        lines = np.full(problem.n, NO_LINE, dtype=np.int64)
        lines[used] = np.arange(used.size)
        frame = Columns(problem, tuple(used.tolist()))
        return Curved(items, problem.n, lines, xp.ones_like(sizes.signed), frame, direction)

    def _found(self, known: Sparsity, another: bool = False) -> Rounds[Found]:
        """All lines and pairs, and what the check says of them; once more, along another direction and in real steps."""
        curved = self._curved(known, another)
        problem, config, pairs = self.problem, self.config, curved.pairs
        if another and self.terms:
            config = replace(config, method=DifferentiationMethod.RICHARDSON)
        strategy: Strategy | None = None
        if curved.count and self.terms and not another:
            strategy = TurnedOnce(curved.framed, curved.beside)
        elif curved.count:
            strategy = SecondOrder(curved.framed, beside=None if self.verify is False else curved.beside)

        def make(problem: Problem, index: Sequence[int]) -> Lines:
            return pairs.lines(curved.framed(problem), index)

        wanted = Wanted(range(pairs.count), make, pairs.count, strategy)
        prepared = yield from opened(problem, config, wanted, self.evaluator)
        m = int(prepared.value.shape[0])
        self._fits(known, m if self.terms else known.shape[0], 0)
        collector = DenseCollector(problem, m, pairs.count, wanted.index, 0)
        yield from pushed_on(problem, config, prepared, wanted, self.evaluator, collector)
        dense: Dense = collector.finish()
        second, xp = prepared.second, self.here.xp
        parts = self._brought(dense.columns, dense.error, dense.status)
        if second is not None:
            alone = self._brought(second.columns, second.error, second.status)
            parts = tuple(xp.concat(list(pair), axis=1) for pair in zip(parts, alone, strict=True))
        if self.evaluator.exhausted:  # what was not asked did not fail
            values, error, status = parts
            lost = (status & int(Status.FAILED)) != 0
            parts = values, error, xp.where(lost, xp.full_like(status, int(Status.UNRESOLVED)), status)
        found = Found(curved, prepared, self._brought(curved.sizes)[0], parts)
        return found if self.evaluator.exhausted else self._checked(found)

    def _brought(self, *arrays: Array) -> tuple[Array, ...]:
        """On the library that computes; what a strategy gave is there already."""
        backend = self.problem.backend
        return arrays if backend.host is None else tuple(backend.to_host(*arrays))

    def _checked(self, found: Found) -> Found:
        """With the terms that do not change along the direction of the check as their entries, or slopes, say.

        Where second derivatives disagree, the bars of the term's entries are widened until they explain it.
        """
        here, xp = self.here, self.here.xp
        (value,) = self._brought(found.prepared.value)
        masks, gap, allowed = [xp.isfinite(value) & False] * 2, xp.zeros_like(value), xp.zeros_like(value)
        for one in self._compared(found):
            bad, far = (
                xp.isfinite(value) & (one.off > limit) for limit in (one.may, xp.maximum(one.may, FAR * one.size))
            )
            masks = [masks[0] | bad, masks[1] | far]
            gap, allowed = xp.where(bad, one.off, gap), xp.where(bad, one.may, allowed)
            if one.curved:
                missed = xp.where(bad & (one.size > 0), one.off, xp.zeros_like(one.off))
                share = missed / xp.where(one.size > 0, one.size, xp.ones_like(one.size))
                values, error, status = found.parts
                found = replace(found, parts=(values, error + share[:, None] * xp.abs(values), status))
        if here.counts(masks[0]) == [0]:
            return found
        far = np.flatnonzero(here.as_numpy(masks[1]).astype(np.bool_))
        rows, off, may = worst_of(here, masks[0], gap, allowed)
        return replace(found, rows=rows, far=far, gap=off, explained=may)

    def _compared(self, found: Found) -> Iterator[Compared]:
        """Along the direction of the check: slopes of the terms, and their second derivatives."""
        here, xp, prepared, curved = self.here, self.here.xp, found.prepared, found.curved
        ratio = self._brought(curved.direction)[0] / found.sizes
        sides: list[tuple[Pushforward, tuple[Array, Array, Array], bool]] = []
        if self.terms and prepared.beside_first is not None and prepared.first is not None:
            slopes = self._brought(prepared.first.columns, prepared.first.error)
            sides.append((prepared.beside_first, sloping(here, curved, ratio, slopes), False))
        if prepared.beside is not None and not self.diagonal:
            sides.append((prepared.beside, along(here, curved, ratio, found.parts), True))
        for beside, sums, bent in sides:
            column, error, status = self._brought(beside.columns[:, 0], beside.error[:, 0], beside.status[:, 0])
            (off, may), size = compared(here, self.problem.eps, sums, column, error), sums[1]
            largest = xp.max(xp.where(xp.isfinite(size), size, xp.zeros_like(size)))
            may = xp.maximum(may, xp.full_like(may, self.problem.eps) * largest)  # less is lost when terms are added
            if not self.terms:  # nothing else tells whether bars are too small
                sided = (status & int(Status.ONE_SIDED)) != 0
                may = xp.maximum(may, xp.where(sided, FAR * size, NEAR * size))
            yield Compared(off, may, size, bent)

    def _more(self, found: Found, known: Sparsity, times: int) -> Rounds[Sparsity | None]:
        """The pattern of the terms with what they lack; None where nothing is found.

        Raises
        ------
        SparsityError
            The pattern is the user's.
        """
        if not self.terms or (not known.detected and self.verify != "repair"):
            what = f"entries of {named(found.rows).replace('row', 'term')}" if self.terms else "entries of the Hessian"
            remedy = "pass verify_pattern='repair' to have them found, or sparsity='detect'"
            raise SparsityError(
                f"sparsity leaves out {what}: along a random direction f and its Hessian differ by {found.gap:.2g}, where error "
                f"bars explain {found.explained:.2g}; add them, or "
                + (remedy if self.terms else "pass gradient=, or terms=True, which tell more"),
                found.rows.tolist() if self.terms else (),
                found.gap,
            )
        return (yield from self._searched(found.prepared, found.rows, known, times))

    def _doubted(self, found: Found) -> Found:
        """The terms in doubt marked: they and their entries disagree, and nothing else explains it."""
        xp, status = self.here.xp, found.parts[2]
        mine = np.zeros(int(status.shape[0]), dtype=np.bool_)
        mine[found.rows] = True
        flag = xp.full_like(status, int(Status.UNRESOLVED))
        marked = xp.where(self.here.asarray(mine, xp.bool)[:, None], xp.bitwise_or(status, flag), status)
        return replace(found, parts=(*found.parts[:2], marked))

    def _ended(
        self, prepared: Prepared, found: Found, known: Sparsity, repaired: list[Ints], started: float
    ) -> SparseDerivative:
        pattern = self._pattern(known)
        entries = entries_of(self.here, found.curved, pattern, found.sizes, found.parts)
        return self._given(prepared, entries, self._steps(found), known, rows_of(repaired), pattern, started)

    def _pattern(self, known: Sparsity) -> Pattern:
        """Of the entries that are returned."""
        n = self.problem.n
        if self.diagonal:
            every = np.arange(n, dtype=np.int64)
            return Pattern(every, every.copy(), (n, n))
        return self._whole_of(known).pattern

    def _steps(self, found: Found) -> Array:
        """(n,) of the parameters, from those of the lines."""
        here, xp, second = self.here, self.here.xp, found.prepared.second
        if second is None:
            return xp.zeros_like(found.sizes)
        (steps,) = self._brought(second.steps)
        none = xp.zeros((1,), dtype=steps.dtype, device=here.device)
        return xp.take(xp.concat([none, steps]), here.indices(found.curved.lines + 1)) * xp.abs(found.sizes)
