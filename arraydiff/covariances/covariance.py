"""Standard errors from the second derivatives at a minimum: what is determined, how well, and what is not.

The matrix is inverted on the host: it has n × n entries, and n is small beside the data. Results go back to x's library.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from arraydiff import assembly
from arraydiff.config import UNRELIABLE
from arraydiff.covariances.given import given
from arraydiff.covariances.judged import FACTORS, Judged
from arraydiff.covariances.result import CovarianceResult
from arraydiff.errors import DifferentiationWarning, NumericalStabilityError
from arraydiff.result import Status
from arraydiff.telling import users_level

__all__ = ["covariance"]

TOLD = 4
"""Directions of each kind that are told of."""


def covariance(
    source: Any,
    *,
    objective: str = "nll",
    error: Any = None,
    scale: float | str | None = None,
    count: int | None = None,
    unreliable: str = "warn",
) -> CovarianceResult:
    """Covariance and standard errors of parameters from the Hessian, or JᵀJ, at the minimum.

    Parameters
    ----------
    source : HessianResult, JacobianResult or array
        ``hessian(f).result(x)``; or ``normal_equations(residual).result(x)``; or a bare matrix, as an array of the shape of x
        twice, or in blocks as `hessian` returns them.
    objective : {"nll", "chi2"}, default "nll"
        What the Hessian H is of. "nll": a negative log-likelihood, or half a sum of squares; cov = H⁻¹. "chi2": a sum of squares
        of residuals, each over its standard deviation; cov = 2 H⁻¹. For normal equations it is (JᵀJ)⁻¹ either way; a bare JᵀJ
        goes with "nll".
    error : array or float, optional
        Absolute error bars of a bare matrix, in its structure; None: its entries are right to rounding. A result brings its own.
    scale : float or "residuals", optional
        None: the standard deviations that residuals were divided by are right. A number: the covariance is multiplied by it.
        "residuals": they are right up to a common factor, which the residuals tell: the covariance is multiplied by
        r·r / (m - n), n being the rank.
    count : int, optional
        m, the number of residuals; known for normal equations without weights of zero.
    unreliable : {"warn", "raise", "nan", "ignore"}, default "warn"
        What to do about standard errors that cannot be vouched for.

    Returns
    -------
    CovarianceResult
        Covariance, standard errors and correlations, how much of them is differentiation error, and which combinations of
        parameters are not determined.

    Raises
    ------
    TypeError
        `source` is no such result and no real matrix.
    ValueError
        The matrix does not belong to one number, or an option does not fit it.
    NumericalStabilityError
        With ``unreliable="raise"``.

    Warns
    -----
    DifferentiationWarning
        Parameters that are not determined, a point that is no minimum, standard errors that are mostly differentiation error.

    Notes
    -----
    The same numbers elsewhere: "nll" is ``errordef = 0.5`` of iminuit, "chi2" ``errordef = 1``. ``scale="residuals"`` is
    ``absolute_sigma=False`` of :func:`scipy.optimize.curve_fit` and ``scale_covar=True`` of lmfit, the defaults there.
    Of a sum of squares, H is 2 JᵀJ + 2 Σ r ∇²r: its standard errors differ from those of JᵀJ by some percent, a tenth and more
    where few residuals are large. Certified ones, and those of fitting programs, are of JᵀJ.

    A parameter keeps a finite standard error where no undetermined direction has a share in it. Parameters that bounds hold
    have a variance of 0; the others are what they are with these held.

    References
    ----------
    Cox & Hinkley, Theoretical Statistics (1974), 9.2; Seber & Wild, Nonlinear Regression (1989), 2.1 and 5.1;
    James, Statistical Methods in Experimental Physics, 2nd ed. (2006), 7.2 and 9.3; Demmel, SIAM J. Matrix Anal. Appl. 13
    (1992) 1204, for the scaling.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> from arraydiff.uncertainty import covariance
    >>> t = np.linspace(0.0, 1.0, 20)
    >>> def residual(p):
    ...     return (p[0] + p[1] * t - 3 * t) / 0.1
    >>> fit = covariance(arraydiff.normal_equations(residual).result(np.array([0.0, 3.0])))
    >>> print(np.round(fit.std, 6), fit.rank)
    [0.043095 0.073679] 2
    >>> def chi2(p):
    ...     return np.sum(residual(p) ** 2)
    >>> same = covariance(arraydiff.hessian(chi2).result(np.array([0.0, 3.0])), objective="chi2")
    >>> np.allclose(same.std, fit.std, rtol=1e-8)
    True
    """
    if objective not in FACTORS:
        raise ValueError(f"objective wants one of {', '.join(map(repr, FACTORS))}, got {objective!r}")
    if unreliable not in UNRELIABLE:
        raise ValueError(f"unreliable wants one of {', '.join(map(repr, UNRELIABLE))}, got {unreliable!r}")
    _check_scale(scale, count)
    found = given(source, error)
    with found.backend.on_device(), found.backend.quietly(), np.errstate(all="ignore"):
        judged = Judged(found, objective, scale, count)
        return _answered(judged, unreliable)


def _check_scale(scale: Any, count: Any) -> None:
    if isinstance(scale, str):
        if scale != "residuals":
            raise ValueError(f"scale wants a number, 'residuals' or None, got {scale!r}")
    elif scale is not None and not 0 < scale < float("inf"):
        raise ValueError(f"scale wants a number > 0, got {scale!r}; it multiplies the covariance")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"count wants the number of residuals, a whole number >= 1, got {count!r}")


def _answered(judged: Judged, unreliable: str) -> CovarianceResult:
    """The result, after what `unreliable` does about doubts."""
    backend, layout, dtype = judged.given.backend, judged.given.layout, judged.given.dtype
    (values, bars), (std, std_error), found = judged.matrices, judged.errors, judged.spectrum
    if unreliable == "nan":
        blank = judged.wide | ((judged.status & int(Status.UNRESOLVED)) != 0)
        std = np.where(blank, np.nan, std)
        values = np.where(blank[:, None] | blank, np.nan, values)
    logdet, logdet_error = found.logdet if judged.finite else (float("nan"), float("inf"))
    size = len(found.values)
    result = CovarianceResult(
        covariance=backend.asarray(values, dtype),
        std=assembly.vector(backend, layout, backend.asarray(std, dtype)),
        correlation=backend.asarray(_correlation(values), dtype),
        differentiation_error=backend.asarray(bars, dtype),
        std_error=assembly.vector(backend, layout, backend.asarray(std_error, dtype)),
        status=assembly.vector(backend, layout, backend.asarray(judged.status), backend.xp.int16),
        eigenvalues=backend.asarray(found.values, dtype),
        eigenvalue_errors=backend.asarray(found.bars, dtype),
        condition=found.condition if judged.finite else float("nan"),
        logdet=logdet - size * float(np.log(judged.factor)) if size else logdet,
        logdet_error=logdet_error + size * judged.variance[1],
        rank=judged.rank,
        undetermined=judged.undetermined,
        negative=judged.negative,
        scale=judged.factor,
        warnings=judged.doubts,
        story=tuple(_story(judged)),
    )
    _police(result, unreliable)
    return result


def _correlation(values: np.ndarray) -> np.ndarray:
    std = np.sqrt(np.diag(values))
    size = std * std[:, None]
    good = np.isfinite(size) & (size > 0)
    correlation = np.where(good, values / np.where(good, size, 1.0), np.nan)
    return np.where(np.eye(len(std), dtype=bool) & good, 1.0, correlation)


def _police(result: CovarianceResult, unreliable: str) -> None:
    if not result.warnings or unreliable in {"ignore", "nan"}:
        return
    text = f"covariance: {' '.join(result.warnings)}"
    if unreliable == "raise":
        raise NumericalStabilityError(f"{text}\n{result.explain()}")
    warnings.warn(f"{text} .explain() tells which.", DifferentiationWarning, stacklevel=users_level())


def _story(judged: Judged) -> list[str]:
    """What explain() tells."""
    n, found = len(judged.free), judged.spectrum
    meaning = "(JᵀJ)⁻¹" if judged.given.normal else {"nll": "H⁻¹", "chi2": "2 H⁻¹"}[judged.objective]
    what = {
        "(JᵀJ)⁻¹": "for residuals over their standard deviations",
        "H⁻¹": "for the Hessian of a negative log-likelihood; objective='chi2' gives that of a sum of squares",
        "2 H⁻¹": "for the Hessian of a sum of squares of residuals over their standard deviations",
    }[meaning]
    lines = [f"Covariance of {n} parameter{'s' * (n != 1)}: {meaning}, {what}."]
    if judged.scale is not None:
        lines.append(f"It is multiplied by {judged.variance[0]:.6g}, the variance of a residual in these units.")
    if held := [judged.given.layout.path(int(i)) for i in np.flatnonzero(judged.given.fixed)]:
        lines.append(f"Held by bounds, so of variance 0: {', '.join(f'x{path}' for path in held)}.")
    lines += [f"{text[0].upper()}{text[1:]}" for text in judged.doubts]
    for kind, directions in (("undetermined", judged.undetermined), ("negative", judged.negative)):
        lines += [f"  {kind}: {direction}" for direction in directions[:TOLD]]
        lines += [f"  ... and {len(directions) - TOLD} more."] * (len(directions) > TOLD)
    if judged.finite and found.definite and len(found.values):
        std, bars = judged.errors
        part = float(np.max(np.where(std > 0, bars / np.where(std > 0, std, 1.0), 0.0)))
        lines.append(
            f"All are determined: the condition number is {found.condition:.2g} with a unit diagonal, and differentiation error "
            f"makes up at most {part:.1e} of a standard error."
        )
    return lines
