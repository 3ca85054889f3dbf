"""What `jacobian(f, sparsity=...)` returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, NoReturn

from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Argnums, Layout
from arraydiff.binding import Bound
from arraydiff.callables import Transform
from arraydiff.config import DifferentiationConfig
from arraydiff.engine import Derivative
from arraydiff.evaluator import Evaluator
from arraydiff.linear import linear_of
from arraydiff.options import Options, config_of
from arraydiff.result import DerivativeResult
from arraydiff.sparse.request import Request, SparseDerivative
from arraydiff.sparse.results import SparseJacobianResult, matrix_of
from arraydiff.sparse.sides import counted
from arraydiff.sparse.sources import Source, check_inputs, checked_verify, free_of, mask_of
from arraydiff.sparse.sparsity import Sparsity
from arraydiff.sparse.story import SparseStory


class SparseJacobian(Transform):
    """What `jacobian` returns where a pattern is given, found or traced."""

    described = "Sparse Jacobian"
    result_type: ClassVar[type[DerivativeResult]] = SparseJacobianResult
    nests = False

    def __init__(self, fun: Callable[..., Any], options: Options, title: str, sparsity: Any, verify: Any) -> None:
        self.title = title  # type: ignore[misc]
        super().__init__(fun, options)
        self.verify, self.source = checked_verify(verify), self._source(sparsity)

    def _source(self, sparsity: Any) -> Source:
        return Source(sparsity)

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
            evaluator.know(self.options.f0)
            derivative = evaluator.drive(self._request(bound, evaluator).derivation(known))
        self.source.keep(derivative.sparsity)
        self._noted(bound, derivative)
        return bound, derivative

    def _request(self, bound: Bound, evaluator: Evaluator) -> Request:
        straight = mask_of(bound.problem, linear_of(bound, self.options.argnums, self.options.linear))
        return Request(bound.problem, self.options.config, free_of(bound), self.verify, evaluator, straight)

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
        return matrix_of(bound.problem.backend, derivative.entries, data)

    def _condition(self, bound: Bound, derivative: Derivative) -> PyTree:
        return None

    def _result(self, bound: Bound, derivative: Derivative, told: bool = True) -> Any:
        assert isinstance(derivative, SparseDerivative)
        assert derivative.judged is not None
        sparsity, sides = derivative.sparsity, derivative.sides
        directions = derivative.directions if sides is None else sides.count
        directions = self._directions(sparsity) if directions is None else directions
        story = SparseStory(
            self.described,
            bound,
            self._paths(derivative),
            sparsity,
            derivative.entries,
            counted(directions, "direction") if sides is None else sides.told,
            derivative.judged,
            derivative.repaired,
        )
        return replace(
            super()._result(bound, derivative, told),
            pattern=sparsity,
            colours=directions,
            lower_bound=sparsity.lower_bound,
            repaired_rows=derivative.repaired,
            story=story,
        )

    def _directions(self, known: Sparsity) -> int:
        """That the columns went into."""
        return known.count

    def _paths(self, derivative: SparseDerivative) -> Callable[[int], str]:
        """How rows of entries are called."""
        return lambda row: f"d f{derivative.output.layout.path(row)}"


def refuse(given: dict[str, Any], names: tuple[str, ...], beside: str = "sparsity=") -> None:
    """Take out what does not go with a pattern.

    Raises
    ------
    ValueError
        It is wanted.
    """
    for name in names:
        value = given.pop(name, None)
        if value is not None and value is not False:
            raise ValueError(f"{name} is not served with {beside}: leave one of them out")


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
    refuse(given, ("holomorphic", "allow_int", "in_axes", "out"))
    chosen = config_of(config, options, title)
    refuse({"devices": chosen.devices}, ("devices",))
    return SparseJacobian(fun, Options(Argnums.of(argnums), chosen, **given), title, sparsity, verify_pattern)
