"""Functions with exact derivatives, as data: every backend and every method runs them.

``f(xp, x)`` uses only array-API functions that all supported libraries have with the same result; exact derivatives are
closed forms in plain NumPy. A new problem is one entry of `PROBLEMS` and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from tests import functions as fn

Function = Callable[[Any, Any], Any]
Exact = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Problem:
    """A function of one array, a point, and its exact derivatives there.

    Attributes
    ----------
    f : ``f(xp, x)`` with x of namespace xp.
    x : float64 point, any shape.
    jacobian : exact derivative as a function of x, shape of f(x) + shape of x.
    hessian : exact second derivative, shape of f(x) + shape of x + shape of x; None where there is no closed form.
    analytic : f lets a complex step through in every library.
    length : over which distance f changes, relative to abs(x) (1 where x is 0).
    """

    name: str
    f: Function
    x: np.ndarray = field(repr=False)
    jacobian: Exact = field(repr=False)
    hessian: Exact | None = field(default=None, repr=False)
    analytic: bool = True
    length: float = 1.0

    def __call__(self, x: Any) -> Any:
        return self.f(array_namespace(x), x)

    @property
    def exact(self) -> np.ndarray:
        return np.asarray(self.jacobian(self.x), dtype=float)

    @property
    def exact_hessian(self) -> np.ndarray:
        assert self.hessian is not None, f"{self.name} has no exact Hessian"
        return np.asarray(self.hessian(self.x), dtype=float)

    @property
    def value(self) -> np.ndarray:
        return np.asarray(self(self.x))

    @property
    def scalar(self) -> bool:
        return self.value.shape == ()

    def magnitude(self) -> np.ndarray:
        """What an error of entry (i, j) is measured against: |f_i| + max |J_i x| over |x_j|, or |J_ij|."""
        scale = np.where(self.x == 0, 1.0, np.abs(self.x)).ravel()
        matrix = np.abs(self.exact.reshape(self.value.size, self.x.size))
        row = np.max(matrix * scale, axis=1, initial=0.0) + np.abs(self.value).ravel()
        return np.maximum(matrix, row[:, None] / scale).reshape(self.exact.shape)


def diagonal(entries: np.ndarray) -> np.ndarray:
    """Shape s to s + s: the derivative of a function in which each output has its own input."""
    return np.diag(entries.ravel()).reshape(entries.shape * 2)


def summed(name: str, g: Function, slope: Exact, curvature: Exact, x: Any, **flags: Any) -> Problem:
    """Sum over g(x), entry by entry."""
    return Problem(
        name,
        lambda xp, p: xp.sum(g(xp, p)),
        np.asarray(x, dtype=float),
        slope,
        lambda p: diagonal(curvature(p)),
        **flags,
    )


def elementwise(name: str, g: Function, slope: Exact, curvature: Exact, x: Any, **flags: Any) -> Problem:
    """Output i is g(x_i)."""
    return Problem(
        name, g, np.asarray(x, dtype=float), lambda p: diagonal(slope(p)), lambda p: fn.cube(curvature(p)), **flags
    )


POLYNOMIAL = np.polynomial.Polynomial([1.0, -2.0, 0.5, 3.0, -1.0, 0.25])
SCALES = 10.0 ** np.arange(-6, 6)
PEAK = np.array([2.0, 0.3, 0.8, 0.1])
SINGULAR = 1.0 + np.array([1e-3, 2e-2, 0.5])


PROBLEMS: tuple[Problem, ...] = (
    Problem(
        "rosenbrock",
        fn.rosenbrock,
        np.array([-1.2, 1.0, 0.7, -0.4, 1.5]),
        fn.rosenbrock_gradient,
        fn.rosenbrock_hessian,
    ),
    Problem(
        "quadratic", fn.quadratic, np.array([0.3, -1.0, 2.0, 0.7]), lambda x: fn.MATRIX @ x + 1, lambda x: fn.MATRIX
    ),
    summed("cubic", lambda xp, x: x * x * x, lambda x: 3 * x**2, lambda x: 6 * x, [0.5, -1.3, 2.0]),
    summed("exp_sum", lambda xp, x: xp.exp(x), np.exp, np.exp, [0.1, -1.0, 2.0]),
    summed("log_sum", lambda xp, x: xp.log(x), lambda x: 1 / x, lambda x: -1 / x**2, [0.2, 1.0, 3e3]),
    Problem(
        "trig_products", fn.neighbours, np.array([0.4, -1.1, 2.0, 0.9]), fn.neighbours_gradient, fn.neighbours_hessian
    ),
    summed(
        "twelve_scales",
        lambda xp, x: xp.sin(x * fn.constant(xp, 1 / SCALES, x)),
        lambda x: np.cos(x / SCALES) / SCALES,
        lambda x: -np.sin(x / SCALES) / SCALES**2,
        SCALES * np.linspace(0.6, 1.3, SCALES.size),
    ),
    summed(
        "fast_oscillation",
        lambda xp, x: xp.sin(1e4 * x),
        lambda x: 1e4 * np.cos(1e4 * x),
        lambda x: -1e8 * np.sin(1e4 * x),
        [0.3, 1.2, -0.8],
        length=1e-4,
    ),
    summed(
        "zeros",
        lambda xp, x: xp.exp(x) * xp.cos(x),
        lambda x: np.exp(x) * (np.cos(x) - np.sin(x)),
        lambda x: -2 * np.exp(x) * np.sin(x),
        [0.0, 1.0, 0.0, -2.0],
    ),
    summed(
        "two_dimensional_x",
        lambda xp, x: x * xp.sin(x),
        lambda x: np.sin(x) + x * np.cos(x),
        lambda x: 2 * np.cos(x) - x * np.sin(x),
        [[0.3, -1.2, 2.0], [0.8, 1.4, -0.5]],
    ),
    Problem(
        "three_dimensional_x",
        fn.mirrored,
        np.arange(1.0, 9.0).reshape(2, 2, 2),
        lambda x: 2 * np.flip(x, axis=0),
        fn.mirrored_hessian,
    ),
    summed(
        "zero_dimensional_x",
        lambda xp, x: xp.exp(x) * xp.sin(x),
        lambda x: np.exp(x) * (np.sin(x) + np.cos(x)),
        lambda x: 2 * np.exp(x) * np.cos(x),
        0.7,
    ),
    Problem(
        "logistic_loss", fn.logistic_loss, np.array([0.2, -0.4, 1.0, 0.3]), fn.logistic_gradient, fn.logistic_hessian
    ),
    Problem(
        "logsumexp",
        lambda xp, x: xp.log(xp.sum(xp.exp(x))),
        np.array([0.5, -1.0, 2.0]),
        fn.softmax,
        fn.softmax_jacobian,
    ),
    summed("polynomial", fn.horner, POLYNOMIAL.deriv(), POLYNOMIAL.deriv(2), [0.5, -0.7, 1.6]),
    summed(
        "rational",
        lambda xp, x: 1.0 / (1.0 + 25.0 * x * x),
        lambda x: -50 * x / (1 + 25 * x**2) ** 2,
        lambda x: (3750 * x**2 - 50) / (1 + 25 * x**2) ** 3,
        [0.1, -0.4, 0.9],
    ),
    summed(
        "near_singular_log",
        lambda xp, x: xp.log(x - 1.0),
        lambda x: 1 / (x - 1),
        lambda x: -1 / (x - 1) ** 2,
        SINGULAR,
        length=1e-3,
    ),
    summed("large_offset", lambda xp, x: 1e4 + xp.exp(x), np.exp, np.exp, [0.2, 1.1, -0.6]),
    Problem(
        "constant", lambda xp, x: xp.sum(0.0 * x) + 3.0, np.array([1.0, 2.0]), np.zeros_like, lambda x: np.zeros((2, 2))
    ),
    Problem(
        "without_the_second",
        fn.without_the_second,
        np.array([0.4, 5.0, 1.1]),
        lambda x: np.exp(x[0]) * np.array([np.sin(x[2]), 0, np.cos(x[2])]),
        fn.without_the_second_hessian,
    ),
    summed(
        "absolute_cube",
        lambda xp, x: xp.abs(x) * xp.abs(x) * xp.abs(x),
        lambda x: 3 * x * np.abs(x),
        lambda x: 6 * np.abs(x),
        [0.5, -1.3, 2.0],
        analytic=False,
    ),
    summed(
        "signed_square",
        lambda xp, x: x * xp.abs(x),
        lambda x: 2 * np.abs(x),
        lambda x: 2 * np.sign(x),
        [
            0.7,
            -1.3,
            2.0,
        ],  # no dyadic fraction: a ladder whose rung ends on the kink of f'' is fooled there (docs/methods.md)
        analytic=False,
    ),
    summed(
        "branches",
        lambda xp, x: xp.where(x > 0.0, x * x * x, x * x),
        lambda x: np.where(x > 0, 3 * x**2, 2 * x),
        lambda x: np.where(x > 0, 6 * x, 2.0),
        [0.5, -1.3, 2.0],
        analytic=False,
    ),
    Problem(
        "norm",
        fn.euclidean_norm,
        np.array([0.5, -1.3, 2.0]),
        lambda x: x / np.linalg.norm(x),
        fn.norm_hessian,
        analytic=False,
    ),
    Problem("beale", fn.beale, np.array([1.2, 0.6]), fn.beale_gradient, fn.beale_hessian),
    Problem("himmelblau", fn.himmelblau, np.array([1.5, -2.2]), fn.himmelblau_gradient, fn.himmelblau_hessian),
    Problem("network", fn.network, np.array([0.2, -0.1, 0.4, 0.3]), fn.network_gradient, fn.network_hessian),
    Problem("product", fn.product, np.array([2e-4, 3.0, -1.5, 1e3]), lambda x: np.prod(x) / x, fn.product_hessian),
    summed(
        "square_root",
        lambda xp, x: xp.sqrt(1.0 + x * x),
        lambda x: x / np.sqrt(1 + x**2),
        lambda x: (1 + x**2) ** -1.5,
        [0.4, -2.0, 7.0],
    ),
    summed(
        "arctangent",
        lambda xp, x: xp.atan(x),
        lambda x: 1 / (1 + x**2),
        lambda x: -2 * x / (1 + x**2) ** 2,
        [0.4, -0.8, 3.0],
    ),
    Problem(
        "variance",
        fn.variance,
        np.array([0.5, -1.3, 2.0]),
        lambda x: 2 * (x - np.mean(x)) / x.size,
        lambda x: 2 * (np.eye(x.size) - 1 / x.size) / x.size,
    ),
    elementwise(
        "vector_output",
        lambda xp, x: xp.exp(-x) * xp.sin(3.0 * x),
        lambda x: np.exp(-x) * (3 * np.cos(3 * x) - np.sin(3 * x)),
        lambda x: -np.exp(-x) * (8 * np.sin(3 * x) + 6 * np.cos(3 * x)),
        [0.3, 1.1, -0.4],
    ),
    elementwise("one_output_of_one_input", lambda xp, x: xp.cosh(x), np.sinh, np.cosh, [0.7]),
    Problem(
        "linear_map",
        lambda xp, x: xp.matmul(fn.constant(xp, fn.RECTANGLE, x), x),
        np.array([0.3, -1.0, 2.0, 0.7]),
        lambda x: fn.RECTANGLE,
        lambda x: np.zeros((3, 4, 4)),
    ),
    Problem(
        "broyden",
        fn.broyden,
        np.array([-1.0, 0.4, 0.8, -0.3, 1.2]),
        fn.broyden_jacobian,
        lambda x: -4 * fn.cube(np.ones_like(x)),
    ),
    Problem("powell", fn.powell, np.array([3.0, -1.0, 0.5, 1.0]), fn.powell_jacobian),
    Problem("gaussian_peak", fn.gaussian_peak, PEAK, fn.gaussian_jacobian),
    Problem("damped_wave", fn.damped_wave, np.array([1.5, 0.3, 2.0, 0.4]), fn.damped_jacobian, length=0.1),
    Problem("lorentzian", fn.lorentzian, np.array([2.0, 0.3, 0.4]), fn.lorentzian_jacobian),
    Problem("correlation", fn.correlation, np.array([0.3, 1.1, 6.8e4, -0.4]), fn.correlation_jacobian),
    Problem("softmax", fn.softmax_of, np.array([0.5, -1.0, 2.0]), fn.softmax_jacobian),
    Problem("outer_product", fn.outer_product, np.array([0.5, -1.0, 1.2]), fn.outer_jacobian),
    Problem("gram_matrix", fn.gram, np.array([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]]), fn.gram_jacobian),
    Problem(
        "running_sum",
        fn.running_sum,
        np.array([0.5, -1.0, 2.0]),
        lambda x: np.tri(x.size) * 2 * x,
        lambda x: 2 * np.einsum("ij,jk->ijk", np.tri(x.size), np.eye(x.size)),
    ),
)


def named(*names: str) -> list[Problem]:
    """The problems of these names, in this order."""
    table = {problem.name: problem for problem in PROBLEMS}
    return [table[name] for name in names]
