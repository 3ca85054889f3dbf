"""Second derivatives as functions: the Hessian, blocks of it, its diagonal, and value, gradient and Hessian in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from arraydiff import assembly
from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Argnums, Layout, part_of
from arraydiff.binding import Bound, checked_gradient
from arraydiff.callables import Transform
from arraydiff.collectors import Dense
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Lines
from arraydiff.engine import Beside, Derivative, Wanted, columns_of
from arraydiff.explain import Story
from arraydiff.levels import running
from arraydiff.options import Options, config_of, inner_config, outer_config
from arraydiff.pairs import Pairs
from arraydiff.problem import Problem
from arraydiff.result import HessianResult
from arraydiff.seam import Prepared
from arraydiff.spreading import mirrored, scattered, still
from arraydiff.strategies.exact_second import ExactSecond
from arraydiff.strategies.second_order import SecondOrder
from arraydiff.symmetry import symmetric
from arraydiff.transforms import ForwardJacobian, Jacobian, only_scalar, over_axes

__all__ = ["hessian", "hessian_diag", "value_and_grad_and_hessian"]

SERVED = (
    DifferentiationMethod.ADAPTIVE,
    DifferentiationMethod.EXACT,
    DifferentiationMethod.COMPLEX_STEP,
    DifferentiationMethod.RICHARDSON,
)
"""Methods that choose their own steps, or take none; the others difference the gradient, as they are told."""


class Nested(ForwardJacobian):
    """The Hessian as the Jacobian of a Jacobian, made symmetric."""

    title, described = "hessian", "Hessian"
    repeats = False
    result_type = HessianResult

    def _assembled(self, bound: Bound, outputs: Layout, flat: Array, kind: str) -> PyTree:
        return symmetric(bound.problem.backend, bound.layout, super()._assembled(bound, outputs, flat, kind), kind)

    def _value(self, bound: Bound, derivative: Derivative) -> PyTree:
        return derivative.output.inner_value  # what was differentiated here is the gradient


class Differenced(Nested):
    """The Hessian by differences of a gradient of the user's."""

    def _assembled(self, bound: Bound, outputs: Layout, flat: Array, kind: str) -> PyTree:
        checked_gradient(bound.layout, outputs)
        return super()._assembled(bound, outputs, flat, kind)


@dataclass(frozen=True)
class SecondNames:
    """Rows of a Hessian: an output and a parameter each."""

    outputs: Layout
    rows: Layout

    def path(self, index: int) -> str:
        """As it stands after f."""
        output, parameter = divmod(index, self.rows.size)
        return f"{self.outputs.path(output)} / d x{self.rows.path(parameter)}"


class Second(Transform):
    """A transform by second differences."""

    described = "Hessian"
    result_type = HessianResult
    complex_outputs = True
    gradient = False  # whether first derivatives are wanted, too
    nests = False

    def _wanted(self, bound: Bound) -> Wanted:
        frame = partial(columns_of, index=bound.index)
        pairs = self._pairs(bound)

        def lines(problem: Problem, index: Sequence[int]) -> Lines:
            return pairs.lines(frame(problem), index)

        def whole(problem: Problem, prepared: Prepared, dense: Dense) -> Dense:
            return self._spread(problem, bound, prepared, dense)

        numerical = SecondOrder(frame, self.gradient)
        strategy = (
            ExactSecond(frame, numerical, pairs.count > 0) if bound.index else None
        )  # else f(x) is all that is wanted
        return Wanted(range(pairs.count), lines, pairs.count, strategy, spread=whole, beside=self._beside(bound))

    def _pairs(self, bound: Bound) -> Pairs:
        """Which mixed derivatives are wanted, by number among the parameters that can move."""
        raise NotImplementedError

    def _spread(self, problem: Problem, bound: Bound, prepared: Prepared, dense: Dense) -> Dense:
        """What was found, as the columns of the derivative."""
        raise NotImplementedError

    def _beside(self, bound: Bound) -> Callable[[Problem, Prepared], Dense] | None:
        """What makes the first derivatives, where they are wanted."""
        return None

    def _condition(self, bound: Bound, derivative: Derivative) -> PyTree:
        return None

    def plan(self, *_args: Any, **_kwargs: Any) -> Any:
        """Not offered.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(
            f"{self.title} has no plan: plan the gradient and differentiate it, as in jacobian(grad(f).plan(x))"
        )


class Hessian(Second):
    """What `hessian` returns."""

    title = "hessian"

    def __init__(self, fun: Callable[..., Any], options: Options, rows: Argnums | None = None) -> None:
        super().__init__(fun, options)
        self.__wrapped__ = Jacobian(fun, options)  # as in JAX, whose Hessian is a Jacobian of one
        self.rows = rows

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The Hessian; inside of an f that is traced, the Jacobian of a Jacobian."""
        if running() and self.rows is None:
            inner = Jacobian(self.fun, self.options)
            return Nested(inner, self.options)(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def _rows(self, layout: Layout) -> tuple[Layout, Sequence[int]]:
        """The parameters that rows are of."""
        if self.rows is None:
            return layout, range(layout.size)
        places = [self.options.argnums.numbers.index(number) for number in self.rows.numbers]
        return part_of(layout, places, single=self.rows.single)

    def _pairs(self, bound: Bound) -> Pairs:
        rows = set(self._rows(bound.layout)[1])
        return Pairs.of(len(bound.index), [i for i, parameter in enumerate(bound.index) if parameter in rows])

    def _spread(self, problem: Problem, bound: Bound, prepared: Prepared, dense: Dense) -> Dense:
        return mirrored(problem, bound.index, self._rows(bound.layout)[1], self._pairs(bound), prepared, dense)

    def _assembled(self, bound: Bound, outputs: Layout, flat: Array, kind: str) -> PyTree:
        rows, _ = self._rows(bound.layout)
        return assembly.second(bound.problem.backend, outputs, rows, bound.layout, flat, kind)

    def _names(self, bound: Bound, outputs: Layout) -> SecondNames:
        return SecondNames(outputs, self._rows(bound.layout)[0])


class ValueGradientHessian(Hessian):
    """What `value_and_grad_and_hessian` returns."""

    __call__ = Second.__call__  # which is not followed

    title, described = "value_and_grad_and_hessian", "Value, gradient and Hessian"
    gradient = True

    def _check_output(self, bound_backend: Any, layout: Layout) -> None:
        only_scalar(layout)
        super()._check_output(bound_backend, layout)

    def _beside(self, bound: Bound) -> Callable[[Problem, Prepared], Dense]:
        def gradient(problem: Problem, prepared: Prepared) -> Dense:
            found = prepared.first
            return still(problem, 1) if found is None else scattered(problem, bound.index, found)

        return gradient

    def _bare(self, bound: Bound, derivative: Derivative, flat: Array) -> Any:
        value, beside = self._value(bound, derivative), gradient_of(derivative)
        columns = beside.dense.columns
        if self.options.config.unreliable == "nan":
            columns = bound.problem.xp.where(
                beside.judged.mask(), bound.problem.xp.full_like(columns, float("nan")), columns
            )
        gradient = self._first(bound, derivative, columns, "value")
        hessian = self._assembled(bound, derivative.output.layout, flat, "value")
        return ((value, derivative.output.aux) if self.options.has_aux else value), gradient, hessian

    def _first(self, bound: Bound, derivative: Derivative, part: Array, kind: str) -> PyTree:
        """Values, bars or flags of the gradient."""
        return assembly.matrix(bound.problem.backend, derivative.output.layout, bound.layout, part, kind)

    def _result(self, bound: Bound, derivative: Derivative, told: bool = True) -> Any:
        dense, whole = gradient_of(derivative).dense, super()._result(bound, derivative, told)
        parts = {"gradient": "value", "gradient_error": "error", "gradient_status": "status"}
        arrays = (dense.columns, dense.error, dense.status)
        first = {
            name: self._first(bound, derivative, part, kind)
            for (name, kind), part in zip(parts.items(), arrays, strict=True)
        }
        return replace(whole, story=self._story(bound, derivative, whole.story), **first)

    def _story(self, bound: Bound, derivative: Derivative, story: Story) -> Story:
        """That of the Hessian with that of the gradient."""
        beside, outputs = gradient_of(derivative), derivative.output.layout
        dense = beside.dense
        mine = replace(
            story, outputs=outputs, columns=dense.columns, error=dense.error, status=dense.status, judged=beside.judged
        )
        return replace(story, gradient=mine)


def gradient_of(derivative: Derivative) -> Beside:
    """What came of the same points."""
    assert derivative.beside is not None
    return derivative.beside


class Diagonal(Second):
    """What `hessian_diag` returns."""

    title, described = "hessian_diag", "Diagonal of the Hessian"

    def _pairs(self, bound: Bound) -> Pairs:
        return Pairs((), ())

    def _spread(self, problem: Problem, bound: Bound, prepared: Prepared, dense: Dense) -> Dense:
        if prepared.second is None:
            return still(problem, int(prepared.value.shape[0]))
        return scattered(problem, bound.index, prepared.second)


def hessian(
    fun: Callable[..., Any],
    argnums: Any = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    rows: Any = None,
    gradient: Callable[..., Any] | None = None,
    f0: Any = None,
    config: DifferentiationConfig | None = None,
    full_output: bool = False,
    in_axes: Any = None,
    sparsity: Any = None,
    terms: bool = False,
    verify_pattern: Any = True,
    **options: Any,
) -> Any:
    """Hessian: shape of the output, then twice the shape of x; blocks for trees and several arguments, as in JAX.

    Symmetric to the last bit. Where f can be followed its gradient is recorded once, and pushed forward along every parameter:
    exact to rounding. Else, where imaginary parts are certified to carry the derivatives of f, second differences are made of
    complex points, 2 n (n + 1) of them, and right to about 1e-13 of the largest entry; else of as many real ones, and right to
    1e-8 or better, with more where a bar is worth them. Bounds hold at all points. Parameters, errors and the returned object are
    those of :func:`grad`, with a :class:`HessianResult`, and those below.

    Parameters
    ----------
    rows : int or tuple of ints, optional
        Of several arguments in `argnums`, those that rows are of: ``hessian(f, (0, 1), rows=0)`` gives the blocks of the first
        argument against both, as ``jax.jacfwd(jax.grad(f, 0), (0, 1))`` does, and evaluates just those.
    gradient : callable, optional
        The gradient of `fun`, which takes the same arguments: it is differenced, once a parameter, and `fun` is not called.
    f0 : as fun returns, optional
        f(x), if it is known: it is not evaluated then (but in the blocks of a vectorised `fun`). It is of one x: the returned
        object is to be called there alone.
    sparsity : pattern, "detect", "trace" or Sparsity, optional
        Which entries may differ from 0, as in :func:`jacobian`; one triangle is enough. Of an f that is followed, or with
        `gradient`, it takes few directions whatever n; else two or four values of `fun` an entry of a triangle. A sparse matrix
        comes back.
    terms : bool, default False
        `fun` returns the terms whose sum is the objective, such as squared residuals. Then the Hessian takes a number of
        evaluations that does not depend on n, and comes back sparse. `sparsity` is the pattern of the terms, terms by
        parameters; it is detected where it is left out.
    verify_pattern : bool or "repair", default True
        As in :func:`jacobian`.

    Returns
    -------
    callable
        As in :func:`grad`.

    Raises
    ------
    SparsityError
        The pattern lacks entries; ``.rows`` tells in which rows, or terms, where that can be told.

    References
    ----------
    Lai & Crassidis, J. Comput. Appl. Math. 218 (2008) 43, for complex points; Ridders, Adv. Eng. Softw. 4 (1982) 75.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> H = arraydiff.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    >>> np.allclose(H, [[4, 2], [2, 0]]), bool((H == H.T).all())
    (True, True)
    """
    given = {"has_aux": has_aux, "holomorphic": holomorphic, "full_output": full_output}
    chosen, numbers = config_of(config, options, "hessian"), Argnums.of(argnums)
    if sparsity is not None or terms:
        from arraydiff.sparse.hessian import sparse_hessian  # dense derivatives need none of it

        more = {**given, "rows": rows, "f0": f0, "in_axes": in_axes}
        return sparse_hessian(
            fun, numbers, sparsity, verify_pattern, chosen, "hessian", gradient, terms=terms, given=more
        )
    lines = None if rows is None else checked_rows(numbers, rows)
    one_point(f0, in_axes)
    if gradient is not None:
        return over_axes(differenced(gradient, numbers, chosen, lines, f0, given), in_axes)
    stepped = chosen.step_size is not None or chosen.relative_step is not None
    if holomorphic or stepped or chosen.method not in SERVED:
        if lines is not None or f0 is not None:
            raise ValueError(
                "rows and f0 are served by methods that choose their own steps: leave them, or method, step_size out"
            )
        inner = Jacobian(fun, Options(numbers, inner_config(chosen), has_aux, holomorphic))
        return over_axes(Nested(inner, Options(numbers, outer_config(chosen), **given)), in_axes)
    return over_axes(Hessian(fun, Options(numbers, chosen, f0=f0, **given), lines), in_axes)


def differenced(
    gradient: Callable[..., Any],
    numbers: Argnums,
    config: DifferentiationConfig,
    rows: Any,
    f0: Any,
    given: dict[str, Any],
) -> Differenced:
    """The Hessian by differences of the user's gradient."""
    if not callable(gradient):
        raise TypeError(f"gradient wants a function of the same arguments as fun, got {type(gradient).__name__}")
    if rows is not None or f0 is not None or given["has_aux"]:
        raise ValueError(
            "gradient= is differenced as it is: leave rows, f0 and has_aux out, and wrap it if it returns more"
        )
    return Differenced(gradient, Options(numbers, config, **given))


def one_point(f0: Any, in_axes: Any) -> None:
    """Refuse f(x) beside several x."""
    if f0 is not None and in_axes is not None:
        raise ValueError("f0 is f at one point: leave it out beside in_axes, or call the derivative in a loop")


def checked_rows(numbers: Argnums, rows: Any) -> Argnums:
    """Which of the arguments rows are of."""
    chosen = Argnums.of(rows)
    if numbers.single or not set(chosen.numbers) <= set(numbers.numbers):
        raise ValueError(
            f"rows wants some of several arguments in argnums, got rows={rows!r} beside argnums={numbers.described}"
        )
    return chosen


def value_and_grad_and_hessian(
    fun: Callable[..., Any],
    argnums: Any = 0,
    has_aux: bool = False,
    *,
    f0: Any = None,
    config: DifferentiationConfig | None = None,
    full_output: bool = False,
    in_axes: Any = None,
    **options: Any,
) -> Any:
    """Value, gradient and Hessian of a scalar function in one pass: no point is evaluated twice.

    ``g(x)`` gives ``(value, gradient, hessian)``, ``((value, aux), gradient, hessian)`` with `has_aux`; ``g.result(x)`` a
    :class:`HessianResult` with `value`, `gradient`, `gradient_error` and `gradient_status`. Parameters are those of
    :func:`hessian`.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> value, gradient, H = arraydiff.value_and_grad_and_hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    >>> print(value, gradient, np.round(H, 9))
    2.0 [4. 1.] [[4. 2.]
     [2. 0.]]
    """
    given = {"has_aux": has_aux, "full_output": full_output, "f0": f0}
    one_point(f0, in_axes)
    chosen = choosing("value_and_grad_and_hessian", config, options)
    return over_axes(ValueGradientHessian(fun, Options(Argnums.of(argnums), chosen, **given)), in_axes)


def hessian_diag(
    fun: Callable[..., Any],
    argnums: Any = 0,
    has_aux: bool = False,
    *,
    f0: Any = None,
    config: DifferentiationConfig | None = None,
    full_output: bool = False,
    in_axes: Any = None,
    terms: bool = False,
    sparsity: Any = None,
    verify_pattern: Any = True,
    **options: Any,
) -> Any:
    """Diagonal of the Hessian, at a number of points that grows with n, not with its square: shape of the output, then that of x.

    With `terms` that number does not depend on n, and the diagonal is that of their sum, of the shape of x. Parameters, errors
    and the returned object are those of :func:`hessian`.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> np.round(arraydiff.hessian_diag(lambda x: x[0] ** 2 * x[1] ** 3)(np.array([1.0, 2.0])), 9)
    array([16., 12.])
    """
    given = {"has_aux": has_aux, "full_output": full_output, "f0": f0}
    one_point(f0, in_axes)
    chosen = choosing("hessian_diag", config, options)
    if terms:
        from arraydiff.sparse.hessian import sparse_hessian

        more, numbers = {**given, "in_axes": in_axes}, Argnums.of(argnums)
        return sparse_hessian(fun, numbers, sparsity, verify_pattern, chosen, "hessian_diag", terms=True, given=more)
    if sparsity is not None:
        raise ValueError(
            "sparsity is that of the terms here: pass terms=True and have fun return them, or leave it out"
        )
    return over_axes(Diagonal(fun, Options(Argnums.of(argnums), chosen, **given)), in_axes)


def choosing(caller: str, config: DifferentiationConfig | None, options: dict[str, Any]) -> DifferentiationConfig:
    """The config of a transform by second differences alone."""
    chosen = config_of(config, options, caller)
    if chosen.method not in SERVED or chosen.step_size is not None or chosen.relative_step is not None:
        raise ValueError(
            f"{caller} chooses its own steps: leave method, step_size and relative_step out, or take hessian, which serves them"
        )
    return chosen
