"""What `covariance` returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from arraydiff._typing import Array, PyTree

__all__ = ["CovarianceResult", "Direction"]


@dataclass(frozen=True, eq=False)
class Direction:
    """A combination of parameters along which the objective does not curve upwards.

    Attributes
    ----------
    curvature, error : float
        Eigenvalue of the matrix with unit diagonal, and its error bar.
    parts : tuple of (str, float)
        Where its largest components are, ``("[2]", 0.71)``, in units in which every parameter counts alike.
    vector : structure of x
        The same in the units of x, as a step: along ``x + t * vector`` the objective is flat, or falls.
    """

    curvature: float
    error: float
    parts: tuple[tuple[str, float], ...]
    vector: PyTree = field(repr=False)

    @property
    def explained(self) -> bool:
        """Whether the error bars of the matrix allow for a curvature of 0."""
        return abs(self.curvature) <= self.error

    def __str__(self) -> str:
        combination = " ".join(f"{share:+.2f} x{path}" for path, share in self.parts)
        return f"{combination}: curvature {self.curvature:.2g} ± {self.error:.1g}"


@dataclass(frozen=True, eq=False)
class CovarianceResult:
    """The covariance of estimated parameters, and what the matrix that it came from leaves open.

    Attributes
    ----------
    covariance : array, shape (n, n)
        In the order in which the arrays of x stand one after the other, as :func:`arraydiff.propagate` takes it. Variances are
        infinite where the matrix does not determine a parameter, NaN where it is no minimum, 0 where bounds hold it.
    std : structure of x
        Standard errors: square roots of the variances.
    correlation : array, shape (n, n)
        NaN for parameters without a finite standard error larger than 0.
    differentiation_error : array, shape (n, n)
        Bound on the part of each entry of `covariance` that comes from the error bars of the matrix, and from rounding.
    std_error : structure of x
        The same for each standard error.
    status : structure of x, int16
        Flags, see :class:`arraydiff.Status`: UNRESOLVED where a parameter has a share in a direction of `undetermined` or
        `negative`, FAILED where the matrix is not finite, FIXED where bounds hold it.
    eigenvalues, eigenvalue_errors : array, shape (parameters that are free,)
        Of the matrix scaled to a unit diagonal, ascending.
    condition : float
        Condition number of that matrix; infinite where it may be singular.
    logdet, logdet_error : float
        Logarithm of the determinant of the inverse covariance of the free parameters, as in the Laplace approximation of an
        integral, and its bar; NaN and infinite where the matrix is not positive definite.
    rank : int
        Directions of positive curvature.
    undetermined : tuple of Direction
        Along these the curvature cannot be told from 0 within the error bars: perhaps there is no minimum along them.
    negative : tuple of Direction
        Along these it is negative, and the error bars do not explain it: x is no minimum.
    scale : float
        What the inverse was multiplied by.
    warnings : list of str
        What a user should hear.

    Examples
    --------
    >>> import numpy as np
    >>> from arraydiff.uncertainty import covariance
    >>> result = covariance(np.array([[4.0, 1.0], [1.0, 9.0]]))
    >>> print(np.round(result.std, 6), result.rank)
    [0.507093 0.338062] 2
    """

    covariance: Array
    std: PyTree
    correlation: Array
    differentiation_error: Array
    std_error: PyTree
    status: PyTree
    eigenvalues: Array
    eigenvalue_errors: Array
    condition: float
    logdet: float
    logdet_error: float
    rank: int
    undetermined: tuple[Direction, ...]
    negative: tuple[Direction, ...]
    scale: float
    warnings: list[str]
    story: tuple[str, ...] = field(repr=False)

    def explain(self) -> str:
        """What was taken for what, what is determined, what is not, and what to do: plain sentences."""
        return "\n".join(self.story)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: rank {self.rank}, condition {self.condition:.2g}"
            f"{f', {len(self.warnings)} warnings' if self.warnings else ''}; .std, .std_error, .covariance, .explain()>"
        )
