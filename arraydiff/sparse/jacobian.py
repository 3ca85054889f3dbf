"""What `jacobian(f, sparsity=...)` returns: the transform, and the way from a pattern to a Jacobian that has been checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, ClassVar, NoReturn

import numpy as np

from arraydiff._typing import Array, PyTree
from arraydiff.agreement import TIMES_THE_BARS
from arraydiff.arguments import Argnums, Layout
from arraydiff.backends import Backend
from arraydiff.binding import Bound
from arraydiff.callables import Options, Transform, config_of
from arraydiff.collectors import Dense
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.engine import Derivative, Wanted, opened, unless_all_failed
from arraydiff.errors import SparsityError
from arraydiff.evaluator import Evaluator
from arraydiff.linear import linear_of, not_linear
from arraydiff.problem import Problem
from arraydiff.result import DerivativeResult
from arraydiff.rounds import lockstep
from arraydiff.seam import Prepared, Rounds, Strategy
from arraydiff.sparse.checking import UNCHECKED, Verdict, named, unresolved, verdict
from arraydiff.sparse.colouring import coloured
from arraydiff.sparse.compressed import Entries, Recovered, pushed_lines, recovered, seen_along
from arraydiff.sparse.order import NO_LINE, Order
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.results import SparseJacobianResult, matrix_of
from arraydiff.sparse.seeds import Seeds, checks_of, seeds_of, sizes_of, straightened
from arraydiff.sparse.sources import Source, check_inputs, checked_verify, free_of, mask_of
from arraydiff.sparse.sparsity import Sparsity
from arraydiff.sparse.story import SparseStory
from arraydiff.strategies import strategy_of
from arraydiff.strategies.adaptive import Adaptive
from arraydiff.strategies.complex_step import ComplexStep
from arraydiff.strategies.richardson import Richardson
from arraydiff.strategies.stencil import Stencil
from arraydiff.strategies.stencil_ray import HIGHEST
from arraydiff.strategies.straight import WithStraight
from arraydiff.vouching import Judged, tolerance

FEW_COLUMNS = 16
"""Below it nobody minds whether dense is as cheap."""

MOST_REPAIRS = 3
"""Times that a pattern may grow in one call: every time what was missed is searched for where it shows."""


@dataclass(frozen=True)
class SparseDerivative(Derivative):
    """A Jacobian's entries, flat as (nnz, 1), with all that is known of them."""

    sparsity: Sparsity
    repaired: Ints  # rows


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


class SparseJacobian(Transform):
    """What `jacobian` returns where a pattern is given, found or traced."""

    described = "Sparse Jacobian"
    result_type: ClassVar[type[DerivativeResult]] = SparseJacobianResult

    def __init__(self, fun: Callable[..., Any], options: Options, title: str, sparsity: Any, verify: Any) -> None:
        self.title = title  # type: ignore[misc]
        super().__init__(fun, options)
        self.verify, self.source = checked_verify(verify), Source(sparsity)

    def forget(self) -> None:
        """Forget what was learnt of `fun`, its pattern too where it was found."""
        super().forget()
        self.source.forget()

    def measure(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not offered."""
        raise TypeError("a sparse Jacobian cannot be differentiated again: leave sparsity out in the inner derivative")

    def plan(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not offered."""
        raise TypeError("a sparse Jacobian has no plan: call it, or take jacobian(f).plan(x) without sparsity")

    def stepper(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not offered."""
        raise TypeError("a sparse Jacobian has no stepper: call it, or take jacobian(f).stepper(x) without sparsity")

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any], bare: bool = False) -> tuple[Bound, Derivative]:
        bound = self._bind(args, kwargs)
        check_inputs(bound, self.title)
        problem, config = bound.problem, self.options.config
        with problem.backend.on_device(), problem.backend.quietly():
            evaluator = Evaluator(problem, config, self._check_output)
            known = self.source.known(bound)
            straight = mask_of(problem, linear_of(bound, self.options.argnums, self.options.linear))
            request = Request(problem, config, free_of(bound), self.verify, evaluator, straight)
            derivative = evaluator.drive(request.derivation(known))
        self.source.keep(derivative.sparsity)
        self._noted(derivative)
        return bound, derivative

    def _check_output(self, bound_backend: Any, layout: Layout) -> None:
        if layout.has_complex:
            raise TypeError(
                f"{self.title} with sparsity= requires real outputs, but f returned complex numbers: return their real and "
                "imaginary parts, or leave sparsity out"
            )
        super()._check_output(bound_backend, layout)

    def _assembled(self, bound: Bound, outputs: Layout, flat: Array, kind: str) -> PyTree:
        return bound.problem.xp.reshape(flat, (-1,))

    def _written(self, bound: Bound, derivative: Derivative, flat: Array) -> PyTree:
        assert isinstance(derivative, SparseDerivative)
        data = bound.problem.xp.reshape(flat, (-1,))
        return matrix_of(bound.problem.backend, derivative.sparsity.pattern, data)

    def _condition(self, bound: Bound, derivative: Derivative) -> PyTree:
        return None

    def _result(self, bound: Bound, derivative: Derivative, told: bool = True) -> Any:
        assert isinstance(derivative, SparseDerivative)
        assert derivative.judged is not None
        sparsity = derivative.sparsity
        story = SparseStory(bound, derivative.output.layout, sparsity, derivative.judged, derivative.repaired)
        return replace(
            super()._result(bound, derivative, told),
            pattern=sparsity,
            colours=sparsity.count,
            lower_bound=sparsity.lower_bound,
            repaired_rows=derivative.repaired,
            story=story,
        )


@dataclass(frozen=True)
class Request:
    """One call."""

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
        return self._finished(checked, started)

    def checked(self, known: Sparsity | None) -> Rounds[Checked]:
        """The entries, checked; a pattern that is ours to mend grows until it explains what f does."""
        notes = list[str]()
        if known is None:
            known = yield from self._detected()
        self._fits(known, self.problem.n, 1)
        seeds = self._seeds(known.order)
        wanted = Wanted(range(seeds.count + len(seeds.checks)), seeds.make, strategy=self._strategy(seeds))
        prepared = yield from opened(self.problem, self.config, wanted, self.evaluator)
        self._fits(known, int(prepared.value.shape[0]), 0)
        repaired = list[Ints]()
        if prepared.method is DifferentiationMethod.COMPLEX_STEP and seeds.sizes.limited:
            seeds = self._seeds(known.order, real=False)  # imaginary parts know no bounds
        made = yield from self._made(prepared, known, seeds)
        while made.rows.size:
            made = yield from self._confirmed(made)
            rows = made.rows
            if not rows.size:
                break
            grown = yield from self._grown(prepared, made, len(repaired))
            if grown is None:
                entries = unresolved(self.here, made.sparsity.pattern.rows, rows, made.got.entries)
                made = replace(made, got=replace(made.got, entries=entries), verdict=UNCHECKED)
                notes.append(
                    "some rows disagree with f along a random direction, and no entry outside the pattern was found to explain "
                    "it: f may jump or be noisy there; give noise=, or scale="
                )
                break
            repaired.append(rows)
            real = prepared.method is not DifferentiationMethod.COMPLEX_STEP
            seeds = self._seeds(grown.order, real=real)
            made = yield from self._made(prepared, grown, seeds)
        unless_all_failed(self.evaluator)
        notes += self._notes(made)
        rows = np.unique(np.concatenate(repaired)) if repaired else np.zeros(0, dtype=np.int64)
        return Checked(replace(prepared, notes=(*prepared.notes, *notes)), made.sparsity, made.got, rows)

    def _fits(self, known: Sparsity, size: int, axis: int) -> None:
        if known.shape[axis] != size:
            what = ("outputs f gives", "parameters x has")[axis]
            raise ValueError(
                f"sparsity has shape {known.shape}, but {what.split()[1]} {what.split()[2]} {size} {what.split()[0]}: it must be "
                "(outputs, parameters), both counted along their flat arrays"
            )

    def _seeds(self, order: Order, another: bool = False, real: bool = True) -> Seeds:
        sizes = sizes_of(self.problem, self.config, real)
        checks = checks_of(self.problem, self.config, sizes, self.free, another) if self.verify is not False else ()
        if self.straight is not None:
            sizes = straightened(self.problem, self.config, sizes, self.straight)
        return seeds_of(order, self.free, sizes, checks, self.straight)

    def _strategy(self, seeds: Seeds) -> Strategy | None:
        """That of the config (None), with a ray that serves the check too: a stencil's where there is room, a certificate's."""
        strategy = strategy_of(self.config)
        low = (self.config.order or 1) <= HIGHEST and self.problem.step is None and self.problem.backend.host is None
        if isinstance(strategy, Stencil) and low and seeds.sizes.ample and len(seeds.checks) == 1:
            strategy = replace(strategy, check=seeds.check)
        elif isinstance(strategy, Adaptive | ComplexStep) and seeds.checks and self.problem.n > 1:
            strategy = replace(strategy, along=True)
        elif self.straight is None:
            return None
        return strategy if self.straight is None else WithStraight(strategy, seeds.straight_count)

    def _made(self, prepared: Prepared, known: Sparsity, seeds: Seeds) -> Rounds[Made]:
        shared = None if prepared.along is None or not seeds.checks else seen_along(prepared.along)
        lines = seeds if shared is None else replace(seeds, checks=())
        got = yield from recovered(self.problem, self.config, prepared, lines, self.evaluator)
        if not seeds.checks or self.evaluator.exhausted:
            return Made(known, got)
        along = got.along if shared is None else (shared,)
        if got.lost is not None:  # the direction of the check goes on without those columns
            sound = replace(self, free=self.free & ~got.lost)
            checks = sound._seeds(Order(known.pattern, np.full_like(known.colours, NO_LINE)))
            along = (yield from pushed_lines(self.problem, self.config, prepared, checks, self.evaluator)).along
        return Made(known, got, verdict(self.problem, prepared, seeds, got.entries, along))

    def _confirmed(self, made: Made) -> Rounds[Made]:
        """The rows in doubt once more, by ladders and along another direction: bars of fixed stencils are no promise."""
        whole, doubted = made.sparsity.pattern, made.rows
        mine = np.flatnonzero(np.isin(whole.rows, doubted))
        pattern = Pattern(whole.rows[mine].copy(), whole.cols[mine].copy(), whole.shape)
        config = replace(self.config, method=DifferentiationMethod.RICHARDSON, order=None)
        free = self.free if made.got.lost is None else self.free & ~made.got.lost
        careful = replace(self, config=config, problem=replace(self.problem, step=None), free=free, straight=None)
        seeds = careful._seeds(Order(pattern, coloured(pattern)), another=True)
        wanted = Wanted(range(seeds.count + len(seeds.checks)), seeds.make, strategy=Richardson())
        ladder = yield from opened(careful.problem, config, wanted, self.evaluator)
        got = yield from recovered(careful.problem, config, ladder, seeds, self.evaluator)
        self._check_linear(made.got.entries, mine, got.entries, pattern.cols)
        said = verdict(careful.problem, ladder, seeds, got.entries, got.along, doubted)
        rows = said.rows
        sound = np.flatnonzero(~np.isin(pattern.rows, rows))  # these are taken from the ladders
        index, new = self.here.indices(sound), got.entries
        some = replace(new, **{name: self.here.xp.take(part, index) for name, part in vars(new).items()})
        entries = made.got.entries.merged(self.here, mine[sound], some)
        return replace(made, got=replace(made.got, entries=entries), verdict=said)

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
                f"sparsity leaves out entries of {named(said.rows)}: along a random direction f and its Jacobian differ by "
                f"{said.gap:.2g}, where error bars explain {said.explained:.2g}; add the entries, or pass "
                "verify_pattern='repair' to have them found, or sparsity='detect'",
                said.rows.tolist(),
                said.gap,
            )
        if times >= MOST_REPAIRS:
            return None
        from arraydiff.sparse.detection import searched

        asking = searched(self.problem, self.config, prepared.value, said.rows, known.pattern)
        (pattern,) = yield from lockstep([asking])
        return Sparsity(pattern, detected=known.detected) if pattern.nnz > known.pattern.nnz else None

    def _detected(self) -> Rounds[Sparsity]:
        from arraydiff.directions import x_itself
        from arraydiff.sparse.detection import detected

        (values,) = yield [x_itself(self.problem)]
        (pattern,) = yield from lockstep([detected(self.problem, self.config, values.at[:, 0])])
        return Sparsity(pattern, detected=True)

    def _notes(self, made: Made) -> list[str]:
        """What a user should hear of the pattern."""
        known, (_, n) = made.sparsity, made.sparsity.shape
        notes = []
        if 2 * known.count > n >= FEW_COLUMNS:
            longest = int(np.argmax(known.pattern.lengths))
            notes.append(
                f"the pattern takes {known.count} directions for {n} parameters, so that a dense Jacobian is as cheap: row "
                f"{longest} alone has {known.lower_bound} entries; leave such rows out, or leave out sparsity"
            )
        if made.verdict.unchecked:
            notes.append(
                "some rows could not be checked, since f was not finite along the direction of the check: set bounds, or scale"
            )
        return notes

    def _finished(self, checked: Checked, started: float) -> SparseDerivative:
        """All of it in the library of x."""
        backend, entries = self.problem.backend, checked.got.entries
        arrays = (entries.values, entries.error, entries.status, entries.floor, checked.got.steps)
        if backend.host is not None:
            arrays = tuple(backend.asarray(array) for array in arrays)
        values, error, status, floor, steps = arrays
        values, error, status, floor = (part[:, None] for part in (values, error, status, floor))
        judged = Judged(backend, tolerance(self.config), values, error, status, None, floor)
        dense = Dense(values, steps, error, status)
        time = perf_counter() - started
        return SparseDerivative(
            self.problem, checked.prepared, self.evaluator, dense, judged, time, checked.sparsity, checked.repaired
        )


def sparse_jacobian(
    fun: Callable[..., Any],
    argnums: Any,
    sparsity: Any,
    verify_pattern: Any,
    config: DifferentiationConfig | None,
    options: dict[str, Any],
    title: str,
    **given: Any,
) -> SparseJacobian:
    """The transform, after a look at what does not go with a pattern."""
    refused = {name: given.pop(name, None) for name in ("holomorphic", "allow_int", "in_axes", "out")}
    for name, value in refused.items():
        if value is not None and value is not False:
            raise ValueError(f"{name} is not served with sparsity=: leave one of them out")
    chosen = config_of(config, options, title)
    if chosen.devices is not None:
        raise ValueError("devices are not served with sparsity=: leave one of them out")
    return SparseJacobian(fun, Options(Argnums.of(argnums), chosen, **given), title, sparsity, verify_pattern)
