"""Derivatives of any array function, on any array library, that say how right they are.

Examples
--------
>>> import numpy as np
>>> import arraydiff
>>> def energy(x):
...     return np.sum(x**2) / 2 + np.sin(x[0])
>>> arraydiff.grad(energy)(np.array([0.0, 3.0]))
array([1., 3.])
"""

from arraydiff.checking import check_grad
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.errors import DifferentiationWarning, NumericalStabilityError
from arraydiff.estimation import NoiseEstimate, estimate_noise
from arraydiff.normal import normal_equations
from arraydiff.products import hessian_operator, hvp, jvp, vjp
from arraydiff.record import record
from arraydiff.result import GradientResult, HessianResult, JacobianResult, Status
from arraydiff.second import hessian, hessian_diag, value_and_grad_and_hessian
from arraydiff.transforms import derivative, grad, jacfwd, jacobian, jacrev, value_and_grad
from arraydiff.uncertainty import propagate

__all__ = [
    "DifferentiationConfig",
    "DifferentiationMethod",
    "DifferentiationWarning",
    "GradientResult",
    "HessianResult",
    "JacobianResult",
    "NoiseEstimate",
    "NumericalStabilityError",
    "Status",
    "check_grad",
    "derivative",
    "estimate_noise",
    "grad",
    "hessian",
    "hessian_diag",
    "hessian_operator",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "normal_equations",
    "propagate",
    "record",
    "value_and_grad",
    "value_and_grad_and_hessian",
    "vjp",
]

__version__ = "0.1.0"
