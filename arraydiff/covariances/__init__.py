"""Standard errors from a Hessian or from JᵀJ."""

from arraydiff.covariances.covariance import covariance
from arraydiff.covariances.result import CovarianceResult, Direction

__all__ = ["CovarianceResult", "Direction", "covariance"]
