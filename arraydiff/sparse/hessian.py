"""What `hessian(f, sparsity=...)` and `hessian_diag(f, terms=True)` return.

By the user's gradient, whose Jacobian takes few directions; by values of f, entry by entry of the pattern; or by the terms of
which f is the sum, in a number of evaluations that does not depend on n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from arraydiff import assembly
from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Argnums, Layout
from arraydiff.binding import Bound
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.engine import Derivative
from arraydiff.evaluator import Evaluator
from arraydiff.options import Options
from arraydiff.result import DerivativeResult
from arraydiff.sparse.clashes import count_of
from arraydiff.sparse.differences import CurvedRequest
from arraydiff.sparse.gradients import GradientRequest
from arraydiff.sparse.jacobian import SparseJacobian, refuse
from arraydiff.sparse.request import Request, SparseDerivative
from arraydiff.sparse.results import SparseHessianResult
from arraydiff.sparse.sources import Source, free_of
from arraydiff.sparse.sparsity import Sparsity

CHOOSING = (
    DifferentiationMethod.ADAPTIVE,
    DifferentiationMethod.EXACT,
    DifferentiationMethod.COMPLEX_STEP,
    DifferentiationMethod.RICHARDSON,
)
"""Methods that choose their own steps, or take none."""


class SparseHessian(SparseJacobian):
    """What all sparse Hessians have in common."""

    described = "Sparse Hessian"
    result_type: ClassVar[type[DerivativeResult]] = SparseHessianResult

    def _paths(self, derivative: SparseDerivative) -> Callable[[int], str]:
        return lambda row: f"d2 f / d x{derivative.problem.call.layout.path(row)}"

    def _value(self, bound: Bound, derivative: Derivative) -> PyTree:
        return None


class ByGradient(SparseHessian):
    """By differences of the user's gradient."""

    def _source(self, sparsity: Any) -> Source:
        return Source(sparsity, symmetric)

    def _directions(self, known: Sparsity) -> int:
        return count_of(known.star)

    def _request(self, bound: Bound, evaluator: Evaluator) -> Request:
        return GradientRequest(bound.problem, self.options.config, free_of(bound), self.verify, evaluator)


class ByValues(SparseHessian):
    """By values of f: two or four points an entry on the diagonal or on one side of it."""

    terms: ClassVar[bool] = False
    diagonal: ClassVar[bool] = False

    def __init__(self, fun: Callable[..., Any], options: Options, title: str, sparsity: Any, verify: Any) -> None:
        super().__init__(fun, options, title, sparsity, verify)
        config = options.config
        if config.method not in CHOOSING or config.step_size is not None or config.relative_step is not None:
            raise ValueError(
                f"{title} chooses its own steps here: leave method, step_size and relative_step out, or pass gradient="
            )
        if not self.terms and (self.source.way or self.verify == "repair"):
            wanted = f"sparsity={self.source.way!r}" if self.source.way else "verify_pattern='repair'"
            raise ValueError(
                f"{wanted} wants more than one value to tell entries by: pass gradient=, or have f return the terms of its sum "
                "and pass terms=True, or pass the whole pattern"
            )

    def _source(self, sparsity: Any) -> Source:
        return Source(sparsity) if self.terms else Source(sparsity, symmetric)

    def _request(self, bound: Bound, evaluator: Evaluator) -> Request:
        config, free = self.options.config, free_of(bound)
        return CurvedRequest(
            bound.problem, config, free, self.verify, evaluator, terms=self.terms, diagonal=self.diagonal
        )

    def _check_output(self, bound_backend: Any, layout: Layout) -> None:
        super()._check_output(bound_backend, layout)
        if not self.terms and layout.size != 1:
            raise TypeError(
                f"{self.title} with sparsity= takes a scalar function, but f returned {layout.size} numbers: if they are the "
                "terms of a sum, pass terms=True"
            )

    def _value(self, bound: Bound, derivative: Derivative) -> PyTree:
        """The sum of the terms."""
        return bound.problem.xp.sum(derivative.prepared.value)


class ByTerms(ByValues):
    """By the terms whose sum is the objective."""

    terms = True

    def _paths(self, derivative: SparseDerivative) -> Callable[[int], str]:
        return lambda row: f"d2 sum f / d x{derivative.problem.call.layout.path(row)}"


class DiagonalByTerms(ByTerms):
    """The diagonal alone, as an array like x."""

    described, diagonal = "Diagonal of the Hessian", True

    def _assembled(self, bound: Bound, outputs: Layout, flat: Array, kind: str) -> PyTree:
        entries = bound.problem.xp.reshape(flat, (-1,))
        return assembly.vector(bound.problem.backend, bound.layout, entries, flat.dtype if kind == "status" else None)

    def _written(self, bound: Bound, derivative: Derivative, flat: Array) -> PyTree:
        return self._assembled(bound, bound.layout, flat, "value")


def symmetric(known: Sparsity) -> Sparsity:
    """A pattern of which a triangle may have been given."""
    if known.shape[0] != known.shape[1]:
        raise ValueError(
            f"sparsity of a Hessian must be square, got shape {known.shape}; that of the terms of a sum goes with terms=True"
        )
    return known.both_ways


def sparse_hessian(
    fun: Callable[..., Any],
    argnums: Argnums,
    sparsity: Any,
    verify_pattern: Any,
    config: DifferentiationConfig,
    title: str,
    gradient: Callable[..., Any] | None = None,
    *,
    terms: bool,
    given: dict[str, Any],
) -> SparseHessian:
    """The transform, after a look at what does not go together."""
    beside = "terms=True" if terms else "sparsity="
    refuse(given, ("holomorphic", "in_axes", "rows"), beside)
    refuse({"devices": config.devices}, ("devices",), beside)
    if gradient is None:
        diagonal = DiagonalByTerms if title == "hessian_diag" else ByTerms
        kind: type[SparseHessian] = diagonal if terms else ByValues
        return kind(
            fun, Options(argnums, config, **given), title, "detect" if sparsity is None else sparsity, verify_pattern
        )
    if not callable(gradient):
        raise TypeError(f"gradient wants a function of the same arguments as fun, got {type(gradient).__name__}")
    if terms:
        raise ValueError("terms=True differences f itself: leave terms or gradient out")
    refuse(given, ("f0", "has_aux"), "gradient=")
    return ByGradient(gradient, Options(argnums, config, **given), title, sparsity, verify_pattern)
