"""What a derivative is returned as: its values, how right they are, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any, Protocol

from arraydiff._typing import Array, PyTree
from arraydiff.config import DifferentiationMethod

__all__ = ["GradientResult", "HessianResult", "JacobianResult", "Status"]


class Status(IntFlag):
    """What to know of one entry of a derivative; several may hold at once.

    Examples
    --------
    >>> Status(6)
    <Status.ONE_SIDED|KINK: 6>
    >>> print(Status.KINK.remedy)
    the one-sided derivatives differ: take the side that you mean (method='forward' or 'backward'), or move x
    """

    CONVERGED = 0
    NOISE_LIMITED = 1
    ONE_SIDED = 2
    KINK = 4
    UNRESOLVED = 8
    FAILED = 16
    FIXED = 32

    @property
    def remedy(self) -> str:
        """What to do next, in one sentence a flag."""
        return "; ".join(REMEDIES[flag] for flag in self) if self else REMEDIES[Status.CONVERGED]


REMEDIES: dict[Status, str] = {
    Status.CONVERGED: "nothing: the error bar is as small as f allows",
    Status.NOISE_LIMITED: "f is noisy and the bar says how much: make f more exact, or give its level as noise=",
    Status.ONE_SIDED: "only one side of x could be used: widen the bounds if the other side exists",
    Status.KINK: "the one-sided derivatives differ: take the side that you mean (method='forward' or 'backward'), or move x",
    Status.UNRESOLVED: "no step told what f does here: give the typical size of the parameter as scale=, or more stages as "
    "max_iterations=, or raise max_evaluations=",
    Status.FAILED: "f was not finite or raised: set bounds= to where f is defined, or scale x",
    Status.FIXED: "the bounds leave the parameter no room, so its derivative is given as 0: widen them to have it",
}

UNVOUCHED = Status.KINK | Status.UNRESOLVED | Status.FAILED
"""Flags under which an entry is not vouched for."""

SMALL_SHARE = 1e-3
"""Entries whose effect is below this share of the largest of their output are held to that share."""


def named(method: DifferentiationMethod | tuple[DifferentiationMethod, ...]) -> str:
    """A method, or those of a batch, each once."""
    methods = method if isinstance(method, tuple) else (method,)
    return ", ".join(dict.fromkeys(one.value for one in methods))


class Telling(Protocol):
    """What explain() asks."""

    def told(self, result: DerivativeResult) -> str:
        """Plain sentences about a result."""


@dataclass(frozen=True, eq=False)
class DerivativeResult:
    """Values of a derivative and all that is known of them; the fields are those of :class:`GradientResult`."""

    derivative: PyTree
    value: PyTree = None
    aux: Any = None
    error_estimate: PyTree = None
    step_sizes: PyTree = None
    status: PyTree = None
    method_used: DifferentiationMethod | tuple[DifferentiationMethod, ...] = DifferentiationMethod.ADAPTIVE
    reason: str = ""
    function_calls: int = 0
    function_points: int = 0
    rounds: int = 0
    computation_time: float = 0.0
    noise_level: Array | None = None
    condition: PyTree = None
    warnings: list[str] = field(default_factory=list)
    exceptions: tuple[Exception, ...] = ()
    story: Telling | None = field(default=None, repr=False)

    def explain(self) -> str:
        """What was done, how right the values are, and what to do about those that are not: plain sentences."""
        return "" if self.story is None else self.story.told(self)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {named(self.method_used)}, {self.function_points} points in {self.function_calls} calls"
            f"{f', {len(self.warnings)} warnings' if self.warnings else ''}; .derivative, .error_estimate, .status, .explain()>"
        )


@dataclass(frozen=True, eq=False, repr=False)
class GradientResult(DerivativeResult):
    """The gradient of a scalar function, or an elementwise derivative.

    Attributes
    ----------
    derivative, gradient : array or pytree, shape of x
        The values.
    value, aux
        f(x), and what f returned beside it with ``has_aux``.
    error_estimate : structure of the derivative
        Absolute; meant to hold in 95 % of entries for the ladder and the complex step, right in order of magnitude for the
        fixed stencils.
    step_sizes : structure of x
        Steps as taken, (x + h) - x.
    status : structure of the derivative, int16
        Flags: see :class:`Status`.
    method_used, reason
        The method, and why not the one before it; of a batch with several methods, a tuple with one entry a point.
    function_calls, function_points, rounds
        Calls of f, points at which it was evaluated, and how often values were waited for.
    computation_time : float
        Seconds, by the clock of the host.
    noise_level : array, shape (m,)
        Absolute noise of f where it is known or was found, else None.
    condition : structure of x
        abs(x df/dx) / abs(f), the relative condition number of each parameter, for scalar f.
    warnings, exceptions
        What a user should hear, and what f raised at displaced points.

    Examples
    --------
    >>> import arraydiff
    >>> result = arraydiff.grad(lambda x: x**3).result(2.0)
    >>> print(result.gradient, result.error_estimate < 1e-13)
    12.0 True
    """

    @property
    def gradient(self) -> PyTree:
        """The same as `derivative`."""
        return self.derivative


@dataclass(frozen=True, eq=False, repr=False)
class JacobianResult(DerivativeResult):
    """A Jacobian, or its product with a tangent, or the normal equations; fields as in :class:`GradientResult`.

    Attributes
    ----------
    normal : tuple
        JᵀJ, Jᵀr and r·r, of :func:`normal_equations` alone; else None.
    rows : int
        How many residuals these are of; None where weights may leave some out.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> result = arraydiff.jacobian(lambda x: x[:2] * x[2]).result(np.array([1.0, 2.0, 3.0]))
    >>> result.jacobian.shape
    (2, 3)
    """

    normal: PyTree = None
    rows: int | None = None

    @property
    def jacobian(self) -> PyTree:
        """The same as `derivative`."""
        return self.derivative


@dataclass(frozen=True, eq=False, repr=False)
class HessianResult(DerivativeResult):
    """A Hessian, its diagonal, or its product with a vector; fields as in :class:`GradientResult`.

    Attributes
    ----------
    gradient, gradient_error, gradient_status : structure of x
        The gradient with its bars and flags, of :func:`value_and_grad_and_hessian` alone; else None.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> result = arraydiff.hessian(lambda x: x[0] ** 2 * x[1]).result(np.array([1.0, 2.0]))
    >>> np.allclose(result.hessian, [[4, 2], [2, 0]])
    True
    """

    gradient: PyTree = None
    gradient_error: PyTree = None
    gradient_status: PyTree = None

    @property
    def hessian(self) -> PyTree:
        """The same as `derivative`."""
        return self.derivative
