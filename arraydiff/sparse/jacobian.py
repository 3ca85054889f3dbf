"""What `jacobian(f, sparsity=...)` returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, NoReturn

import numpy as np

from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Argnums, Layout
from arraydiff.binding import Bound
from arraydiff.callables import Options, Transform, config_of
from arraydiff.config import DifferentiationConfig
from arraydiff.engine import Derivative
from arraydiff.evaluator import Evaluator
from arraydiff.result import DerivativeResult
from arraydiff.sparse.request import Request, SparseDerivative
from arraydiff.sparse.results import SparseJacobianResult, matrix_of
from arraydiff.sparse.sparsity import Sparsity
from arraydiff.sparse.story import SparseStory

WAYS = ("detect", "trace")


class SparseJacobian(Transform):
    """What `jacobian` returns where a pattern is given, found or traced."""

    described = "Sparse Jacobian"
    result_type: ClassVar[type[DerivativeResult]] = SparseJacobianResult

    def __init__(self, fun: Callable[..., Any], options: Options, title: str, sparsity: Any, verify: Any) -> None:
        self.title = title  # type: ignore[misc]
        super().__init__(fun, options)
        if not (verify is True or verify is False or verify == "repair"):
            raise ValueError(f"verify_pattern must be True, 'repair' or False, got {verify!r}")
        if isinstance(sparsity, str) and sparsity not in WAYS:
            raise ValueError(f"sparsity must be 'detect', 'trace', a pattern or a Sparsity, got {sparsity!r}")
        self.verify = verify
        self.way = sparsity if isinstance(sparsity, str) else ""
        self.given = (
            None if self.way else sparsity if isinstance(sparsity, Sparsity) else Sparsity.from_pattern(sparsity)
        )
        self.found: dict[str, Sparsity] = {}  # what was detected, traced or repaired, for later calls

    def forget(self) -> None:
        """Forget what was learnt of `fun`, its pattern too where it was found."""
        super().forget()
        self.found.clear()

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
        self._check_inputs(bound)
        problem, config = bound.problem, self.options.config
        with problem.backend.on_device(), problem.backend.quietly():
            evaluator = Evaluator(problem, config, self._check_output)
            known = self.found.get("pattern", self.given)
            if known is None and self.way == "trace":
                known = self._traced(bound)
            evaluator.know(self.options.f0)
            derivative = evaluator.drive(self._request(bound, evaluator).derivation(known))
        if derivative.sparsity is not self.given:
            self.found["pattern"] = derivative.sparsity
        self._noted(derivative)
        return bound, derivative

    def _request(self, bound: Bound, evaluator: Evaluator) -> Request:
        return Request(bound.problem, self.options.config, free_of(bound), self.verify, evaluator)

    def _traced(self, bound: Bound) -> Sparsity:
        call = bound.problem.call
        if not call.plain:
            raise TypeError("sparsity='trace' takes a function of one array (n,): pass sparsity='detect'")

        def of_one(x: Any) -> Any:
            args, kwargs = call._placed((x,))
            return call._parted(call.fun(*args, **kwargs))[0]

        return Sparsity.trace(of_one, call.backend.as_numpy(bound.problem.x))

    def _check_inputs(self, bound: Bound) -> None:
        layout = bound.layout
        if layout.has_complex or any(leaf.constant is not None for leaf in layout.leaves):
            raise TypeError(f"{self.title} with sparsity= requires real floating inputs: leave sparsity out for others")
        if bound.problem.call.measured:
            raise TypeError(
                f"{self.title} with sparsity= takes a function of yours, not a derivative: pass sparsity= to hessian, or leave "
                "it out"
            )
        if bound.problem.backend.deferred:
            raise ValueError(
                f"{self.title} with sparsity= checks values, which are not there inside jax.jit or on lazy arrays: call it "
                "outside, or leave sparsity out there"
            )

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
        sparsity = derivative.sparsity
        story = SparseStory(
            self.described,
            bound,
            self._paths(derivative),
            sparsity,
            derivative.entries,
            self._directions(sparsity),
            derivative.judged,
            derivative.repaired,
        )
        return replace(
            super()._result(bound, derivative, told),
            pattern=sparsity,
            colours=self._directions(sparsity),
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


def free_of(bound: Bound) -> np.ndarray:
    """(n,) bool: the parameters that can move."""
    if len(bound.index) == bound.problem.n:
        return np.ones(bound.problem.n, dtype=np.bool_)
    free = np.zeros(bound.problem.n, dtype=np.bool_)
    free[np.asarray(bound.index, dtype=np.int64)] = True
    return free


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
