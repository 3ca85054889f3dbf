"""Uncertain parameters: how uncertain a minimum leaves them, what they make of f(x), and what of it is differentiation error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from arraydiff import assembly
from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Argnums, Layout
from arraydiff.backends import Backend, backend_of, is_array
from arraydiff.binding import Bound
from arraydiff.config import DifferentiationConfig
from arraydiff.covariances import CovarianceResult, Direction, covariance
from arraydiff.engine import Derivative
from arraydiff.options import Options, config_of
from arraydiff.result import JacobianResult
from arraydiff.transforms import ForwardJacobian

__all__ = ["CovarianceResult", "Direction", "PropagationResult", "covariance", "propagate"]

ROUNDED = 1e-6
"""A covariance printed with seven digits, or computed in single precision, is as symmetric as this."""

FLAWS = (
    "cov must be finite; fix a parameter by a variance of 0",
    "cov must have no negative variance on its diagonal",
    "cov must be symmetric; (cov + cov.T) / 2 is",
    "cov must have no correlation beyond 1: |cov[i, j]| <= sqrt(cov[i, i] * cov[j, j])",
)


@dataclass(frozen=True, eq=False)
class PropagationResult:
    """An uncertain f(x).

    Attributes
    ----------
    value : as f returns
        f(x).
    covariance : array, shape f.shape + f.shape
        J·cov·Jᵀ; a variance where f gives a number, and of shape (m, m) over all m outputs where it gives a structure.
    std : as f returns
        Square roots of the variances; NaN where `cov` makes one negative, which no covariance matrix does.
    differentiation_error : array, shape of covariance
        Bound on the error of each entry of `covariance` that comes from differentiating numerically: as good as the
        error bars of `jacobian`, and infinite where it has none.
    jacobian : JacobianResult
        The Jacobian with its error bars, flags and costs.
    """

    value: PyTree
    covariance: Array
    std: PyTree
    differentiation_error: Array
    jacobian: JacobianResult = field(repr=False)


def propagate(
    fun: Callable[[Any], Any],
    x: PyTree,
    cov: Any,
    *,
    config: DifferentiationConfig | None = None,
    **options: Any,
) -> PropagationResult:
    """Propagate the covariance of x through f, to first order.

    Parameters
    ----------
    fun : callable
        As in :func:`jacobian`, with real inputs and outputs.
    x : array, float or a structure of them
        The best estimate of n parameters.
    cov : array, shape (n, n) or (n,), or float
        Their covariance, in the order in which the arrays of x stand one after the other; or the variances of
        independent ones; or one variance for all.
    config, **options
        As in :func:`grad`.

    Returns
    -------
    PropagationResult
        f(x), its covariance J·cov·Jᵀ and standard deviations, and the part that is differentiation error.

    Raises
    ------
    TypeError
        `cov` is of another array library or device than x, or not real.
    ValueError
        `cov` is no covariance of n parameters.

    Notes
    -----
    First order only: f is taken to be linear over the uncertainty of x. With the Jacobian's error bars E the error of
    the covariance is at most ``|J| |cov| Eᵀ + E |cov| |J|ᵀ + E |cov| Eᵀ``.
    Parameters that `bounds` hold fixed contribute nothing.

    References
    ----------
    JCGM 100:2008 (GUM), Evaluation of measurement data, 5.1.2 and 5.2.2; JCGM 102:2011, 6.2, for several outputs.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> power = arraydiff.propagate(lambda x: x[0] ** 2 / x[1], np.array([3.0, 2.0]), np.array([0.01, 0.04]))
    >>> print(power.value, np.round(power.std, 9), power.differentiation_error < 1e-13)
    4.5 0.540832691 True
    """
    if not callable(fun):
        raise TypeError(f"propagate expected a function as its first argument, got {type(fun).__name__}")
    chosen = config_of(config, options, "propagate")
    return Propagation(fun, Options(Argnums.of(0), chosen)).through(x, cov)


class Propagation(ForwardJacobian):
    """The Jacobian that carries a covariance; made and used at once by `propagate`."""

    title = "propagate"
    complex_outputs = False

    def through(self, x: PyTree, cov: Any) -> PropagationResult:
        """f(x) with its covariance."""
        bound = self._bind((x,), {})
        backend = bound.problem.backend
        with backend.on_device(), backend.quietly():
            given = _covariance(bound, cov)  # before f is called
        bound, derivative = self._run((x,), {})
        with backend.on_device(), backend.quietly():
            return self._propagated(bound, derivative, given)

    def _propagated(self, bound: Bound, derivative: Derivative, cov: Array) -> PropagationResult:
        problem, outputs, xp = bound.problem, derivative.output.layout, bound.problem.xp
        certain = (cov if cov.ndim == 1 else xp.sum(xp.abs(cov), axis=0)) == 0
        slopes = xp.where(certain, xp.zeros_like(derivative.dense.columns), derivative.dense.columns)
        bars = xp.where(certain, xp.zeros_like(slopes), derivative.dense.error)
        covariance = _symmetric(xp, _product(xp, slopes, cov, slopes))
        size, mixed = xp.abs(cov), _product(xp, xp.abs(slopes), xp.abs(cov), bars)
        error = _symmetric(xp, 2 * mixed + _product(xp, bars, size, bars))
        error = xp.where(xp.isnan(error), xp.full_like(error, float("inf")), error)
        rounding = float(xp.finfo(cov.dtype).eps) * problem.n * _product(xp, xp.abs(slopes), size, xp.abs(slopes))
        variances = [_diagonal(problem.backend, matrix) for matrix in (covariance, rounding)]
        cancelled = xp.abs(variances[0]) <= variances[1]
        std = xp.sqrt(xp.where(cancelled, xp.abs(variances[0]), variances[0]))
        covariance, error, std = problem.backend.computed(covariance, error, std)
        return PropagationResult(
            value=self._value(bound, derivative),
            covariance=_shaped(xp, outputs, covariance),
            std=assembly.value(problem.backend, outputs, std),
            differentiation_error=_shaped(xp, outputs, error),
            jacobian=self._result(bound, derivative),
        )


def _covariance(bound: Bound, cov: Any) -> Array:
    """`cov` as (n, n) or (n,) beside x, checked."""
    problem, backend, xp = bound.problem, bound.problem.backend, bound.problem.xp
    given, n = _as_array(backend, cov, problem.x), problem.n
    if not xp.isdtype(given.dtype, ("real floating", "integral")):
        raise TypeError(f"cov must be real numbers, got {given.dtype}")
    shape = tuple(given.shape)
    if shape not in ((), (n,), (n, n)):
        raise ValueError(f"cov must have the shape ({n}, {n}) or ({n},) of {n} parameters, or be a number, got {shape}")
    given = xp.astype(given, problem.x.dtype)
    given = xp.broadcast_to(given, (n,)) if not shape else given
    for flaw, found in zip(FLAWS, backend.read(_flaws(backend, given)), strict=True):
        if found:
            raise ValueError(flaw)
    return given


def _as_array(backend: Backend, cov: Any, x: Array) -> Array:
    if is_array(cov):
        try:
            backend_of([cov, x])
        except TypeError as error:
            raise TypeError(f"cov must lie where x does: {error}") from error
    try:
        return backend.asarray(cov)
    except (TypeError, ValueError) as error:
        raise TypeError(f"cov must be an array or a number, got {type(cov).__name__}: {error}") from error


def _flaws(backend: Backend, cov: Array) -> Array:
    """(4,) which of `FLAWS` it has."""
    xp = backend.xp
    variances = cov if cov.ndim == 1 else _diagonal(backend, cov)
    flaws = [~xp.isfinite(cov), variances < 0]
    if cov.ndim == 2:
        root = xp.sqrt(xp.where(variances > 0, variances, xp.zeros_like(variances)))
        largest = root[:, None] * root[None, :]
        uneven = xp.abs(cov - xp.matrix_transpose(cov)) > ROUNDED * largest
        flaws += [uneven, xp.abs(cov) > (1 + ROUNDED) * largest]
    else:
        flaws += [xp.zeros_like(flaws[0])] * 2
    return xp.stack([xp.astype(xp.any(flaw), xp.int8) for flaw in flaws])


def _product(xp: Any, left: Array, cov: Array, right: Array) -> Array:
    """left·cov·rightᵀ, (m, m)."""
    weighted = left * cov[None, :] if cov.ndim == 1 else xp.matmul(left, cov)
    return xp.matmul(weighted, xp.matrix_transpose(right))


def _symmetric(xp: Any, matrix: Array) -> Array:
    return (matrix + xp.matrix_transpose(matrix)) / 2


def _diagonal(backend: Backend, matrix: Array) -> Array:
    xp = backend.xp
    here = xp.eye(matrix.shape[0], dtype=xp.bool, device=backend.device)
    return xp.sum(xp.where(here, matrix, xp.zeros_like(matrix)), axis=1)


def _shaped(xp: Any, outputs: Layout, matrix: Array) -> Array:
    shape = outputs.leaves[0].shape if outputs.structure is None else (outputs.size,)
    return xp.reshape(matrix, shape + shape)
