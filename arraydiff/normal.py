"""Normal equations: JᵀJ, Jᵀr and r·r of a least-squares problem whose Jacobian is never held."""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from arraydiff import assembly
from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Argnums
from arraydiff.blocks import Parts, WithBlock
from arraydiff.callables import Transform
from arraydiff.config import DifferentiationConfig
from arraydiff.errors import DifferentiationWarning, NumericalStabilityError
from arraydiff.normal_block import NormalBlock
from arraydiff.options import Options, config_of
from arraydiff.problem import Batching
from arraydiff.record import active_records, unrecorded
from arraydiff.result import DerivativeResult, JacobianResult, named
from arraydiff.service import Service
from arraydiff.tally import Normal, NormalStory, Tally, methods, worst
from arraydiff.telling import users_level
from arraydiff.weights import weights_of

if TYPE_CHECKING:
    from arraydiff.sparse.normal import Patterns

__all__ = ["normal_equations"]

Triple = tuple[PyTree, PyTree, PyTree]


class NormalEquations(Transform):
    """What `normal_equations` returns."""

    title, described = "normal_equations", "Normal equations"
    result_type: ClassVar[type[DerivativeResult]] = JacobianResult

    def __init__(
        self,
        fun: Any,
        options: Options,
        blocks: tuple[Any, ...] | None,
        weights: Any,
        sparsity: Any = None,
        verify_pattern: Any = True,
    ) -> None:
        super().__init__(fun, replace(options, config=replace(options.config, devices=None)))
        self.options, self.blocks, self.weights = options, blocks, weights
        self.sparsity = sparsity
        self.in_blocks = blocks is not None or isinstance(fun, Parts)
        self._check_devices()
        self.patterns: Patterns | None = None
        if sparsity is not None:
            from arraydiff.sparse.normal import Patterns  # others need none of it

            self.patterns = Patterns(sparsity, verify_pattern, self.in_blocks)
        self.alone = None if self.in_blocks else self._block(fun, self.learnt, self.batchings, 0)
        self.learnt_of: dict[int, dict[str, str]] = {}
        self.batchings_of: dict[int, dict[Hashable, Batching]] = {}

    def _check_devices(self) -> None:
        if self.options.config.devices is None:
            return
        if self.in_blocks:
            raise ValueError("devices take the residual as a whole: leave blocks out, or devices")
        if self.sparsity is not None:
            raise ValueError("devices are not served with sparsity=: leave one of them out")

    def _block(
        self,
        fun: Callable[..., Any],
        learnt: dict[str, str],
        batchings: dict[Hashable, Batching],
        i: int,
        label: Any = None,
        count: int | None = None,
        *,
        keep: bool = True,
    ) -> NormalBlock:
        source = None if self.patterns is None else self.patterns.of(i, label, count, keep)
        verify = None if self.patterns is None else self.patterns.verify
        return NormalBlock(fun, self.options, learnt, batchings, source, verify)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The triple in bare arrays."""
        full = self.options.full_output
        return self._answered(self._normal(args, kwargs), full)

    def result(self, *args: Any, **kwargs: Any) -> Any:
        """The triple with error bars, flags, costs and reasons."""
        return self._answered(self._normal(args, kwargs), full=True)

    def measure(self, *args: Any, **kwargs: Any) -> DerivativeResult:
        """What an outer derivative needs of this one."""
        with unrecorded():
            normal = self._normal(args, kwargs)
        result: DerivativeResult = self._answered(normal, full=True)
        return result

    @property
    def shares_calls(self) -> bool:
        """Whether several calls share those of f: no."""
        return False

    def plan(self, *args: Any, **kwargs: Any) -> Any:
        """Not offered."""
        raise TypeError(
            "normal equations have no plan: take jacobian(f).plan(x), and give steps here as step_size= or scale="
        )

    def stepper(self, *args: Any, **kwargs: Any) -> Any:
        """Not offered."""
        raise TypeError(
            "normal equations have no stepper: take jacobian(f).stepper(x), block by block where there are blocks"
        )

    def forget(self) -> None:
        """Forget what was learnt of the residual."""
        super().forget()
        self.learnt_of.clear()
        self.batchings_of.clear()
        if self.patterns is not None:
            self.patterns.forget()

    def _blocks(self) -> Iterator[tuple[NormalBlock, Any]]:
        """One transform a block, and its weights."""
        if isinstance(self.fun, Parts):
            yield from self._parts(self.fun)
        elif self.alone is not None:
            yield self.alone, self.weights
        else:
            count = len(self.blocks or ())
            for i, label in enumerate(self.blocks or ()):
                block = self._block(WithBlock(self.fun, label), self.learnt, self.batchings, i, label, count)
                yield block, weights_of(self.weights, i, label, count)

    def _parts(self, parts: Parts) -> Iterator[tuple[NormalBlock, Any]]:
        for i, function in enumerate(parts):
            learnt: dict[str, str] = {}
            batchings: dict[Hashable, Batching] = {}
            if not parts.once:
                learnt, batchings = self.learnt_of.setdefault(i, {}), self.batchings_of.setdefault(i, {})
            block = self._block(function, learnt, batchings, i, i, keep=not parts.once)
            yield block, weights_of(self.weights, i, i, None)

    def _normal(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Normal:
        tally, most, bound, value = Tally(), self.options.config.max_evaluations, None, None
        with Service(self.options.config) as service:
            for block, weights in self._blocks():
                left = None if most is None else most - tally.points
                if left is not None and left < 1 and bound is not None:
                    tally.left_out += 1
                    continue
                bound, value = block.into(tally, args, kwargs, weights, left, service, keep=not self.in_blocks)
        if bound is None:
            raise ValueError("the residual has no blocks: give at least one")
        if tally.left_out:
            assert tally.sums is not None
            nan = tally.sums.gram * float("nan")
            tally.sums = replace(tally.sums, gram=nan, bars=nan)
        normal = Normal(bound, tally, value)
        with bound.problem.backend.on_device(), bound.problem.backend.quietly():
            self._record(normal)
        return normal

    def _record(self, normal: Normal) -> None:
        tally = normal.tally
        for total in active_records():
            total.add(tally, tally.time, named(methods(tally)), dict.fromkeys(tally.reasons))
            if not normal.here.deferred:
                total.doubt(sum(normal.counts[0].values()), worst(normal))

    def _answered(self, normal: Normal, full: bool) -> Any:
        """The answer in the form that was asked for."""
        with normal.bound.problem.backend.on_device(), normal.bound.problem.backend.quietly():
            if full:
                return self._summary(normal)
            values, _ = normal.parts()
            triple = self._triple(normal, self._policed(normal, values), "value")
            return (triple, self._aux(normal)) if self.options.has_aux else triple

    def _aux(self, normal: Normal) -> Any:
        """Of the residual, or a list of those of its blocks."""
        return normal.tally.aux if self.in_blocks else normal.tally.aux[0]

    def _policed(self, normal: Normal, values: Array) -> Array:
        """What `unreliable` does about sums with entries that cannot be vouched for."""
        policy, deferred = self.options.config.unreliable, normal.here.deferred
        if policy == "raise" and deferred:
            raise ValueError(
                "unreliable='raise' wants to look at values, which are not there yet: pass unreliable='nan'"
            )
        if policy == "nan" and (deferred or normal.counts != ({}, 0)):
            return normal.blanked(values)
        if policy == "ignore" or deferred or not normal.doubted:
            return values
        text = f"{self.title} of {self.__name__}: {' '.join(normal.doubted)}"
        if policy == "raise" and (normal.counts != ({}, 0) or normal.tally.left_out):
            failures = normal.tally.failures
            told = self._summary(normal).explain()
            raise NumericalStabilityError(f"{text}\n{told}") from (failures[0].error if failures else None)
        if policy in {"warn", "raise"}:
            warnings.warn(
                f"{text} .result(...).explain() tells which.", DifferentiationWarning, stacklevel=users_level()
            )
        return values

    def _summary(self, normal: Normal) -> Any:
        tally, (values, bars) = normal.tally, normal.parts()
        triple = self._triple(normal, values, "value")
        outer = normal.bound.problem.backend
        steps = tally.steps if outer.host is None else outer.asarray(tally.steps)
        return JacobianResult(
            derivative=triple,
            value=normal.value,
            aux=self._aux(normal) if self.options.has_aux else None,
            error_estimate=self._triple(normal, bars, "error"),
            step_sizes=assembly.vector(outer, normal.bound.layout, steps),
            status=self._triple(normal, normal.status(), "status"),
            method_used=methods(tally),
            reason="; ".join(dict.fromkeys(tally.reasons)),
            function_calls=tally.calls,
            function_points=tally.points,
            rounds=tally.rounds,
            computation_time=tally.time,
            warnings=normal.said,
            exceptions=tuple(failure.error for failure in tally.failures),
            story=NormalStory(normal, 0.0 if normal.here.deferred else worst(normal)),
            normal=triple,
            rows=tally.rows if self.weights is None or isinstance(self.weights, int | float) else None,
        )

    def _triple(self, normal: Normal, whole: Array, kind: str) -> Triple:
        """(n + 1, n + 1) as matrix, vector and scalar in the structures of x."""
        backend, layout = normal.bound.problem.backend, normal.bound.layout
        whole = whole if backend.host is None else backend.asarray(whole)
        dtype = whole.dtype if kind == "status" else None
        matrix = assembly.matrix(backend, layout, layout, whole[:-1, :-1], kind)
        last = backend.xp.reshape(whole[-1:, -1:], ())  # a slice: an entry of NumPy's would be a scalar of its own kind
        return matrix, assembly.vector(backend, layout, whole[:-1, -1], dtype), last


def normal_equations(
    residual: Any,
    argnums: Any = 0,
    has_aux: bool = False,
    *,
    blocks: Any = None,
    weights: Any = None,
    sparsity: Any = None,
    verify_pattern: Any = True,
    linear: Any = None,
    config: DifferentiationConfig | None = None,
    full_output: bool = False,
    **options: Any,
) -> Any:
    """Normal equations of a least-squares problem, JᵀJ, Jᵀr and r·r, without its Jacobian being held.

    Parameters
    ----------
    residual : callable, or iterable of callables
        Takes arrays (or trees of them) and returns the real residuals r, an array or a tree of arrays. Several callables give
        a block of rows each: a list may be used again and again, a generator once.
    argnums : int or tuple of ints, default 0
        Which positional arguments to differentiate.
    has_aux : bool, default False
        ``residual`` returns ``(r, aux)``; then ``(triple, aux)`` is returned, with blocks a list of what each gave.
    blocks : int or iterable, optional
        How many blocks there are, or their labels: ``residual(x, ..., b)`` gives the rows of block b. Blocks may differ in
        their number of rows, and be empty. Each is differentiated, summed and dropped before the next.
    weights : number, array, sequence or callable, optional
        W of JᵀWJ, JᵀWr and r·Wr: one number, or the structure and shapes of the residual; with blocks one of those for every
        block, or a function of its label. Rows of weight 0 are left out, also where they are not finite.
    sparsity : pattern, "detect", "trace" or Sparsity, optional
        Which entries of J may differ from 0, as in :func:`jacobian`: then columns that share no row are displaced together, and
        J is kept as its entries alone. With blocks it is the pattern of every block, or a list with one for each, or a function
        of the label. "detect" and "trace" find that of each block and keep it.
    verify_pattern : bool or "repair", default True
        As in :func:`jacobian`, for each block.
    linear : path or list of paths, optional
        Parameters in which the residual is linear, as in :func:`jacobian`.
    config, full_output, **options
        As in :func:`grad`. ``max_memory`` bounds what is held: the columns of one block and their bars, at 16 bytes for each
        entry of its Jacobian. On the CPU what does not fit goes through a file in the folder for temporary files.

    Returns
    -------
    callable
        ``g(x)`` gives ``(JᵀJ, Jᵀr, r·r)``: for an array (n,) of shapes (n, n), (n,) and (), in other cases of the structures of
        ``hessian`` and ``grad``. JᵀJ is symmetric to the last bit. ``g.result(x)`` is a :class:`JacobianResult` whose
        ``normal`` and ``derivative`` are that triple; ``error_estimate`` and ``status`` have its structure, ``value`` is r
        where there are no blocks.

    Raises
    ------
    TypeError
        Complex or integer residuals, complex arguments, unknown options.
    ValueError
        Weights that do not fit, are negative or not finite; an iterator of callables that is used again.
    MemoryError
        On a device, columns that do not fit.
    OSError
        No room for the columns on disk.
    SparsityError
        A pattern lacks entries; ``.rows`` tells of which rows of the block.
    NumericalStabilityError
        With ``unreliable="raise"``, where entries of J cannot be vouched for.

    Warns
    -----
    DifferentiationWarning
        Entries of J that cannot be vouched for, and rows that are not finite at x: those make the sums NaN.

    Notes
    -----
    Error bars are those of the worst case, in which the errors of all rows add up: Σ |J_ri| e_rj + e_ri |J_rj| + e_ri e_rj, and
    the rounding of the sum. Errors of a status flag go to every entry in which the column takes part.

    References
    ----------
    Higham & Mary, SIAM J. Sci. Comput. 41 (2019) A2815, theorem 2.4: rounding of sums.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> t = np.linspace(0.0, 1.0, 50)
    >>> def residual(x):
    ...     return x[0] * np.exp(-x[1] * t) - 1 / (1 + t)
    >>> x = np.array([1.0, 0.7])
    >>> JtJ, Jtr, cost = arraydiff.normal_equations(residual)(x)
    >>> J = arraydiff.jacobian(residual)(x)
    >>> np.allclose(JtJ, J.T @ J, rtol=1e-12), np.allclose(Jtr, J.T @ residual(x), rtol=1e-12)
    (True, True)

    Rows made block by block:

    >>> def part(x, b):
    ...     return x[0] * np.exp(-x[1] * t[10 * b : 10 * b + 10]) - 1 / (1 + t[10 * b : 10 * b + 10])
    >>> np.allclose(arraydiff.normal_equations(part, blocks=5)(x)[0], JtJ, rtol=1e-12)
    True
    """
    chosen = config_of(config, options, "normal_equations")
    if inspect.isgeneratorfunction(residual):
        raise TypeError(
            "residual is a generator function, whose rows cannot be kept in step over displaced points: let it return the rows "
            "of one block, as residual(x, b), and pass blocks="
        )
    if not callable(residual):
        if not isinstance(residual, Iterable):
            raise TypeError(
                f"normal_equations expected a callable or an iterable of them, got {type(residual).__name__}"
            )
        if blocks is not None:
            raise ValueError(
                "blocks go with one callable: a residual that is an iterable has its blocks, leave blocks out"
            )
        residual = Parts(residual)
    if isinstance(weights, int | float) and not 0 <= weights < float("inf"):
        raise ValueError(f"weights must be finite and not negative, got {weights}")
    given = Options(Argnums.of(argnums), chosen, has_aux, full_output=full_output, linear=linear)
    return NormalEquations(residual, given, _labels(blocks), weights, sparsity, verify_pattern)


def _labels(blocks: Any) -> tuple[Any, ...] | None:
    if blocks is None:
        return None
    if isinstance(blocks, Iterable):
        labels = tuple(blocks)
        if not labels:
            raise ValueError("blocks is empty: give at least one label, or leave it out")
        return labels
    try:
        count = 0 if isinstance(blocks, bool) else operator.index(blocks)
    except TypeError:
        raise TypeError(f"blocks wants a number of blocks, or their labels, got {type(blocks).__name__}") from None
    if count < 1:
        raise ValueError(f"blocks must be at least 1, or the labels of the blocks, got {blocks!r}")
    return tuple(range(count))
