"""The functions of `tests.problems`: array-API code for f, plain NumPy for its exact derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import device


def constant(xp: Any, values: Any, like: Any) -> Any:
    """An array of the namespace, dtype (complex at a complex step) and device of `like`."""
    return xp.asarray(np.asarray(values, dtype=float), dtype=like.dtype, device=device(like))


def cube(entries: np.ndarray) -> np.ndarray:
    """(n,) to (n, n, n) with the entries on the diagonal."""
    n = np.arange(entries.size)
    out = np.zeros((entries.size,) * 3)
    out[n, n, n] = entries
    return out


def rosenbrock(xp: Any, x: Any) -> Any:
    a = x[1:] - x[:-1] * x[:-1]
    b = 1.0 - x[:-1]
    return xp.sum(100.0 * a * a + b * b)


def rosenbrock_gradient(x: np.ndarray) -> np.ndarray:
    a, g = x[1:] - x[:-1] ** 2, np.zeros_like(x)
    g[:-1] = -400 * x[:-1] * a - 2 * (1 - x[:-1])
    g[1:] += 200 * a
    return g


def rosenbrock_hessian(x: np.ndarray) -> np.ndarray:
    main = np.zeros_like(x)
    main[:-1] = 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
    main[1:] += 200
    off = np.diag(-400 * x[:-1], 1)
    return np.diag(main) + off + off.T


MATRIX = np.array([[4.0, 1.0, -0.5, 0.0], [1.0, 3.0, 0.25, -1.0], [-0.5, 0.25, 2.0, 0.75], [0.0, -1.0, 0.75, 5.0]])
RECTANGLE = np.array([[1.0, -2.0, 0.5, 3.0], [0.0, 1.5, -1.0, 0.25], [2.0, 0.0, 0.0, -0.5]])


def quadratic(xp: Any, x: Any) -> Any:
    return 0.5 * xp.sum(x * xp.matmul(constant(xp, MATRIX, x), x)) + xp.sum(x)


def neighbours(xp: Any, x: Any) -> Any:
    return xp.sum(xp.sin(x) * xp.cos(xp.roll(x, -1)))


def neighbours_gradient(x: np.ndarray) -> np.ndarray:
    return np.cos(x) * np.cos(np.roll(x, -1)) - np.sin(np.roll(x, 1)) * np.sin(x)


def neighbours_hessian(x: np.ndarray) -> np.ndarray:
    main = -np.sin(x) * np.cos(np.roll(x, -1)) - np.sin(np.roll(x, 1)) * np.cos(x)
    off = np.diag(-np.cos(x) * np.sin(np.roll(x, -1))) @ np.roll(np.eye(x.size), 1, axis=1)
    return np.diag(main) + off + off.T


LABELS = np.array([1.0, -1.0, 1.0])


def logistic_loss(xp: Any, x: Any) -> Any:
    margin = constant(xp, LABELS, x) * xp.matmul(constant(xp, RECTANGLE, x), x)
    return xp.sum(xp.log(1.0 + xp.exp(-margin)))


def logistic_terms(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = LABELS[:, None] * RECTANGLE
    return rows, 1 / (1 + np.exp(rows @ x))


def logistic_gradient(x: np.ndarray) -> np.ndarray:
    rows, p = logistic_terms(x)
    return -rows.T @ p


def logistic_hessian(x: np.ndarray) -> np.ndarray:
    rows, p = logistic_terms(x)
    return rows.T @ ((p * (1 - p))[:, None] * rows)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.sum(np.exp(x))


def beale(xp: Any, x: Any) -> Any:
    u, v = x[0], x[1]
    a, b, c = 1.5 - u + u * v, 2.25 - u + u * v * v, 2.625 - u + u * v * v * v
    return a * a + b * b + c * c


def beale_parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u, v = x
    powers = np.array([v, v**2, v**3])
    r = np.array([1.5, 2.25, 2.625]) - u + u * powers
    slopes = np.array([1.0, 2 * v, 3 * v**2])
    rows = np.stack([powers - 1, u * slopes], axis=1)
    curves = np.array([[[0, s], [s, c]] for s, c in zip(slopes, u * np.array([0, 2, 6 * v]), strict=True)])
    return r, rows, curves


def beale_gradient(x: np.ndarray) -> np.ndarray:
    r, rows, _ = beale_parts(x)
    return 2 * r @ rows


def beale_hessian(x: np.ndarray) -> np.ndarray:
    r, rows, curves = beale_parts(x)
    return 2 * (rows.T @ rows + np.einsum("i,ijk->jk", r, curves))


def himmelblau(xp: Any, x: Any) -> Any:
    a, b = x[0] * x[0] + x[1] - 11.0, x[0] + x[1] * x[1] - 7.0
    return a * a + b * b


def himmelblau_gradient(x: np.ndarray) -> np.ndarray:
    a, b = x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7
    return np.array([4 * x[0] * a + 2 * b, 2 * a + 4 * x[1] * b])


def himmelblau_hessian(x: np.ndarray) -> np.ndarray:
    a, b, off = x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7, 4 * (x[0] + x[1])
    return np.array([[4 * a + 8 * x[0] ** 2 + 2, off], [off, 4 * b + 8 * x[1] ** 2 + 2]])


def network(xp: Any, x: Any) -> Any:
    return xp.sum(xp.tanh(xp.matmul(constant(xp, RECTANGLE, x), x)))


def network_gradient(x: np.ndarray) -> np.ndarray:
    return RECTANGLE.T @ (1 - np.tanh(RECTANGLE @ x) ** 2)


def network_hessian(x: np.ndarray) -> np.ndarray:
    t = np.tanh(RECTANGLE @ x)
    return RECTANGLE.T @ ((-2 * t * (1 - t**2))[:, None] * RECTANGLE)


def product(xp: Any, x: Any) -> Any:
    return x[0] * x[1] * x[2] * x[3]


def product_hessian(x: np.ndarray) -> np.ndarray:
    return np.prod(x) / np.outer(x, x) * (1 - np.eye(x.size))


def euclidean_norm(xp: Any, x: Any) -> Any:
    return xp.sqrt(xp.sum(xp.abs(x) * xp.abs(x)))


def norm_hessian(x: np.ndarray) -> np.ndarray:
    r = np.linalg.norm(x)
    return np.eye(x.size) / r - np.outer(x, x) / r**3


def variance(xp: Any, x: Any) -> Any:
    residual = x - xp.mean(x)
    return xp.mean(residual * residual)


def without_the_second(xp: Any, x: Any) -> Any:
    return xp.exp(x[0]) * xp.sin(x[2])


def without_the_second_hessian(x: np.ndarray) -> np.ndarray:
    e, s, c = np.exp(x[0]), np.sin(x[2]), np.cos(x[2])
    return np.array([[e * s, 0, e * c], [0, 0, 0], [e * c, 0, -e * s]])


def mirrored(xp: Any, x: Any) -> Any:
    return xp.sum(x * xp.flip(x, axis=0))


def mirrored_hessian(x: np.ndarray) -> np.ndarray:
    flip = np.eye(x.size).reshape(x.shape * 2)
    return 2 * np.flip(flip, axis=0)


def broyden(xp: Any, x: Any) -> Any:
    zero = xp.zeros_like(x[:1])
    left, right = xp.concat([zero, x[:-1]]), xp.concat([x[1:], zero])
    return (3.0 - 2.0 * x) * x - left - 2.0 * right + 1.0


def broyden_jacobian(x: np.ndarray) -> np.ndarray:
    one = np.ones(x.size - 1)
    return np.diag(3 - 4 * x) - np.diag(one, -1) - np.diag(2 * one, 1)


def powell(xp: Any, x: Any) -> Any:
    a, b = x[1] - 2.0 * x[2], x[0] - x[3]
    return xp.stack([x[0] + 10.0 * x[1], 5**0.5 * (x[2] - x[3]), a * a, 10**0.5 * b * b])


def powell_jacobian(x: np.ndarray) -> np.ndarray:
    a, b = x[1] - 2 * x[2], 10**0.5 * (x[0] - x[3])
    return np.array([[1, 10, 0, 0], [0, 0, 5**0.5, -(5**0.5)], [0, 2 * a, -4 * a, 0], [2 * b, 0, 0, -2 * b]])


GRID = np.linspace(-1.0, 2.0, 7)
TIMES = np.array([0.1, 0.3, 1.0, 2.5, 6.0])


def gaussian_peak(xp: Any, x: Any) -> Any:
    u = (constant(xp, GRID, x) - x[1]) / x[2]
    return x[0] * xp.exp(-0.5 * u * u) + x[3]


def gaussian_jacobian(x: np.ndarray) -> np.ndarray:
    u = (GRID - x[1]) / x[2]
    e = np.exp(-0.5 * u * u)
    return np.stack([e, x[0] * e * u / x[2], x[0] * e * u**2 / x[2], np.ones_like(u)], axis=1)


def damped_wave(xp: Any, x: Any) -> Any:
    t = constant(xp, TIMES, x)
    return x[0] * xp.exp(-x[1] * t) * xp.cos(x[2] * t + x[3])


def damped_jacobian(x: np.ndarray) -> np.ndarray:
    e, phase = np.exp(-x[1] * TIMES), x[2] * TIMES + x[3]
    wave, quadrature = e * np.cos(phase), -x[0] * e * np.sin(phase)
    return np.stack([wave, -x[0] * TIMES * wave, TIMES * quadrature, quadrature], axis=1)


def lorentzian(xp: Any, x: Any) -> Any:
    u = constant(xp, GRID, x) - x[1]
    return x[0] * x[2] / (u * u + x[2] * x[2])


def lorentzian_jacobian(x: np.ndarray) -> np.ndarray:
    u = GRID - x[1]
    d = u**2 + x[2] ** 2
    return np.stack([x[2] / d, 2 * x[0] * x[2] * u / d**2, x[0] * (u**2 - x[2] ** 2) / d**2], axis=1)


def correlation(xp: Any, x: Any) -> Any:
    """XPCS: offset + contrast exp(-2 q^2 D tau^(1 + alpha)); parameters contrast, offset, D, alpha."""
    power = xp.exp((1.0 + x[3]) * constant(xp, np.log(TIMES), x))
    return x[1] + x[0] * xp.exp(-5e-5 * x[2] * power)


def correlation_jacobian(x: np.ndarray) -> np.ndarray:
    power = np.exp((1 + x[3]) * np.log(TIMES))
    e = np.exp(-5e-5 * x[2] * power)
    slope = -5e-5 * power * x[0] * e
    return np.stack([e, np.ones_like(e), slope, slope * x[2] * np.log(TIMES)], axis=1)


def softmax_of(xp: Any, x: Any) -> Any:
    e = xp.exp(x)
    return e / xp.sum(e)


def softmax_jacobian(x: np.ndarray) -> np.ndarray:
    p = softmax(x)
    return np.diag(p) - np.outer(p, p)


def outer_product(xp: Any, x: Any) -> Any:
    return xp.sin(x)[:, None] * xp.exp(x)[None, :]


def outer_jacobian(x: np.ndarray) -> np.ndarray:
    one = np.eye(x.size)
    return np.einsum("i,j,ik->ijk", np.cos(x), np.exp(x), one) + np.einsum("i,j,jk->ijk", np.sin(x), np.exp(x), one)


def gram(xp: Any, x: Any) -> Any:
    return xp.matmul(x, xp.permute_dims(x, (1, 0)))


def gram_jacobian(x: np.ndarray) -> np.ndarray:
    one = np.eye(x.shape[0])
    return np.einsum("ik,jl->ijkl", one, x) + np.einsum("jk,il->ijkl", one, x)


def running_sum(xp: Any, x: Any) -> Any:
    return xp.matmul(constant(xp, np.tri(x.shape[0]), x), x * x)


def horner(xp: Any, x: Any) -> Any:
    return 1.0 + x * (-2.0 + x * (0.5 + x * (3.0 + x * (-1.0 + x * 0.25))))
