"""Functions of one array (6,) that NumPy and jax.numpy spell in the same way, for the tests of exact derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[[Any, Any], Any]

M = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
W = np.array([0.3, -1.2, 2.0, 0.7, 0.1, -0.4])
UNARY = """
    exp exp2 expm1 log log1p log2 log10 sqrt cbrt square reciprocal sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh
    arctanh abs negative positive degrees radians deg2rad rad2deg sinc conj real fabs cumsum cumprod sort ravel flip fliplr_
    diff gradient_ nan_to_num i_ copy
"""


def weighted(xp: Any, w: Any, v: Any) -> Any:
    """A number that does not depend on the signs of eigenvectors."""
    return xp.sum(v**4 * xp.sin(w))


def outer_of(xp: Any, u: Any, s: Any, vt: Any) -> Any:
    """Neither does this."""
    return (u * xp.sin(s)) @ vt


def unary(name: str) -> Function:
    return lambda xp, x: getattr(xp, name)(0.9 * x / (1 + x))


FUNCTIONS: dict[str, Function] = {name: unary(name) for name in UNARY.split() if not name.endswith("_")}
FUNCTIONS |= {
    "arccosh": lambda xp, x: xp.arccosh(1.5 + x),
    "add": lambda xp, x: xp.add(x, x[::-1]),
    "subtract": lambda xp, x: xp.subtract(x, W) - x[0],
    "multiply": lambda xp, x: xp.multiply(x, W) * x,
    "divide": lambda xp, x: xp.divide(W, x) / (1 + x),
    "power": lambda xp, x: xp.power(x, W),
    "power of numbers": lambda xp, x: x**3 + x**-1.5 + 2.0**x + x**2 + x**1 + x**0,
    "power of arrays": lambda xp, x: x ** x[::-1],
    "remainder": lambda xp, x: xp.remainder(x, 0.37) + xp.remainder(5.0, x),
    "mod": lambda xp, x: (7 * x) % 1.3,
    "fmod": lambda xp, x: xp.fmod(5 * x, 0.7),
    "maximum": lambda xp, x: xp.maximum(x, x[::-1]) * x,
    "minimum": lambda xp, x: xp.minimum(x, 0.8) * x,
    "fmax": lambda xp, x: xp.fmax(x, 0.8) * x,
    "fmin": lambda xp, x: xp.fmin(x, 0.8) * x,
    "arctan2": lambda xp, x: xp.arctan2(x, x[::-1] + W),
    "hypot": lambda xp, x: xp.hypot(x, W),
    "logaddexp": lambda xp, x: xp.logaddexp(x, x[::-1] * 2),
    "logaddexp2": lambda xp, x: xp.logaddexp2(x, W),
    "copysign": lambda xp, x: xp.copysign(x * x, W),
    "float_power": lambda xp, x: xp.float_power(x, 1.7),
    "clip": lambda xp, x: xp.clip(x, 0.5, 1.0) * x,
    "where": lambda xp, x: xp.where(x > 0.8, xp.log(x), x * x),
    "select": lambda xp, x: xp.select([x > 1.0, x > 0.6], [x**2, xp.sin(x)], x),
    "sum": lambda xp, x: xp.sum(x * x),
    "sum of an axis": lambda xp, x: xp.sum(x.reshape(2, 3) ** 3, axis=1, keepdims=True)[:, 0],
    "mean": lambda xp, x: xp.mean(xp.sin(x)),
    "var": lambda xp, x: xp.var(x),
    "std": lambda xp, x: xp.std(x, ddof=1),
    "average": lambda xp, x: xp.average(x * x, weights=abs(W)),
    "median": lambda xp, x: xp.median(x * x),
    "percentile": lambda xp, x: xp.percentile(x * x, 30.0),
    "quantile": lambda xp, x: xp.quantile(x * x, 0.77),
    "ptp": lambda xp, x: xp.ptp(x * x),
    "max": lambda xp, x: xp.max(x.reshape(2, 3) * x[0], axis=1),
    "min": lambda xp, x: xp.min(x * x[1]),
    "prod": lambda xp, x: xp.prod(x),
    "prod of an axis": lambda xp, x: xp.prod(x.reshape(2, 3), axis=1),
    "nansum": lambda xp, x: xp.nansum(x * x),
    "nanmean": lambda xp, x: xp.nanmean(x * x),
    "nanvar": lambda xp, x: xp.nanvar(x * x),
    "nanstd": lambda xp, x: xp.nanstd(x * x),
    "nanmax": lambda xp, x: xp.nanmax(x * x),
    "nanmin": lambda xp, x: xp.nanmin(x * x),
    "cov": lambda xp, x: xp.cov(x.reshape(2, 3)),
    "corrcoef": lambda xp, x: xp.corrcoef(x.reshape(2, 3))[0, 1],
    "reshape": lambda xp, x: xp.reshape(x, (3, 2))[1] * x[0],
    "transpose": lambda xp, x: xp.transpose(x.reshape(2, 3)) @ x[:2],
    "moveaxis": lambda xp, x: xp.moveaxis(x.reshape(1, 2, 3), 0, -1)[..., 0] ** 2,
    "swapaxes": lambda xp, x: xp.swapaxes(x.reshape(1, 2, 3), 0, 2)[1] ** 2,
    "rollaxis": lambda xp, x: xp.rollaxis(x.reshape(1, 2, 3), 2)[1] ** 2,
    "expand_dims": lambda xp, x: xp.expand_dims(x, 0)[0] ** 2,
    "squeeze": lambda xp, x: xp.squeeze(x.reshape(1, 6)) ** 2,
    "broadcast_to": lambda xp, x: xp.broadcast_to(x, (2, 6)) * xp.sin(x),
    "atleast_2d": lambda xp, x: xp.atleast_2d(x) ** 2,
    "concatenate": lambda xp, x: xp.concatenate([x, x * x, xp.ones(2)]),
    "stack": lambda xp, x: xp.stack([x, xp.exp(x)], axis=1) ** 2,
    "vstack": lambda xp, x: xp.vstack([x, x**2]) ** 2,
    "hstack": lambda xp, x: xp.hstack([x, x**2]) ** 2,
    "dstack": lambda xp, x: xp.dstack([x, x**2]) ** 2,
    "column_stack": lambda xp, x: xp.column_stack([x, x**2]) ** 2,
    "append": lambda xp, x: xp.append(x, x[0] * x) ** 2,
    "split": lambda xp, x: xp.split(x, 2)[0] * xp.split(x, [1, 4])[1],
    "array_split": lambda xp, x: xp.array_split(x, 4)[1] ** 2,
    "roll": lambda xp, x: xp.roll(x, 2) * x,
    "rot90": lambda xp, x: xp.rot90(x.reshape(2, 3)) ** 2,
    "take": lambda xp, x: xp.take(x, np.array([0, 2, 2])) ** 2,
    "take_along_axis": lambda xp, x: xp.take_along_axis(x, np.array([3, 3, 1]), 0) ** 2,
    "delete": lambda xp, x: xp.delete(x, 2) ** 2,
    "insert": lambda xp, x: xp.insert(x, 2, x[0]) ** 2,
    "repeat": lambda xp, x: xp.repeat(x, 2) ** 2,
    "tile": lambda xp, x: xp.tile(x, (2, 2)) ** 2,
    "pad": lambda xp, x: xp.pad(x, 2) ** 2,
    "pad reflect": lambda xp, x: xp.pad(x, (2, 1), mode="reflect") ** 2,
    "diagonal": lambda xp, x: xp.diagonal(xp.outer(x, x)) * x,
    "diag": lambda xp, x: xp.diag(x[:3]) @ x[3:],
    "tril": lambda xp, x: xp.tril(xp.outer(x, x)) @ x,
    "triu": lambda xp, x: xp.triu(xp.outer(x, x), 1) @ x,
    "trace": lambda xp, x: xp.trace(xp.outer(x, x)),
    "index": lambda xp, x: x[1:4] * x[-1] + x[np.array([0, 0, 2])] + x[np.array([True, False] * 3)],
    "matmul": lambda xp, x: M @ x[:3] * x[3:],
    "dot": lambda xp, x: xp.dot(x, x) + xp.dot(x.reshape(3, 2), x[:2]),
    "inner": lambda xp, x: xp.inner(x.reshape(2, 3), x[3:]) ** 2,
    "outer": lambda xp, x: xp.outer(x, xp.sin(x)),
    "vdot": lambda xp, x: xp.vdot(x, x * W),
    "tensordot": lambda xp, x: xp.tensordot(x.reshape(2, 3), x.reshape(3, 2), 1) ** 2,
    "einsum": lambda xp, x: xp.einsum("ij,jk->ik", x.reshape(2, 3), x.reshape(3, 2)),
    "einsum of a diagonal": lambda xp, x: xp.einsum("ii,ij->j", xp.outer(x, x), xp.outer(x, W)),
    "einsum with dots": lambda xp, x: xp.einsum("...i,i->...", x.reshape(2, 3), x[:3]),
    "kron": lambda xp, x: xp.kron(x[:2], x[2:]),
    "cross": lambda xp, x: xp.cross(x[:3], x[3:]),
    "vander": lambda xp, x: xp.vander(x, 3),
    "polyval": lambda xp, x: xp.polyval(x, 0.7) + xp.polyval(np.array([1.0, 2.0, 3.0]), x),
    "interp": lambda xp, x: xp.interp(x * x, np.array([0.0, 0.7, 1.9, 5.0]), np.array([1.0, 3.0, 2.0, 8.0])),
    "interp of a period": lambda xp, x: xp.interp(x, np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 2.0]), period=3.0),
    "interp of heights": lambda xp, x: xp.interp(np.array([0.1, 2.2, 3.3]), xp.arange(6.0), x * x),
    "trapezoid": lambda xp, x: xp.trapezoid(x * x, xp.cumsum(x)),
    "gradient": lambda xp, x: xp.gradient(x * x, 0.3),
    "convolve": lambda xp, x: xp.convolve(x, x[:3], mode="same"),
    "correlate": lambda xp, x: xp.correlate(x, x[:2], mode="full"),
    "linspace": lambda xp, x: xp.linspace(x[0], x[1] * x[2], 5),
    "meshgrid": lambda xp, x: xp.meshgrid(x[:2], x[2:])[0] * xp.meshgrid(x[:2], x[2:])[1],
    "solve": lambda xp, x: xp.linalg.solve(M + xp.outer(x[:3], x[:3]), x[3:]),
    "inv": lambda xp, x: xp.linalg.inv(M + xp.outer(x[:3], x[3:])),
    "det": lambda xp, x: xp.linalg.det(M + xp.outer(x[:3], x[3:])),
    "slogdet": lambda xp, x: xp.linalg.slogdet(M + xp.outer(x[:3], x[3:]))[1],
    "cholesky": lambda xp, x: xp.linalg.cholesky(M + xp.outer(x[:3], x[:3])),
    "eigvalsh": lambda xp, x: xp.linalg.eigvalsh(M + xp.outer(x[:3], x[:3])),
    "eigh": lambda xp, x: weighted(xp, *xp.linalg.eigh(M + xp.outer(x[:3], x[:3]))),
    "pinv": lambda xp, x: xp.linalg.pinv(x.reshape(3, 2) + M[:, :2]),
    "singular values": lambda xp, x: xp.linalg.svd(x.reshape(3, 2) + M[:, :2], compute_uv=False),
    "svd": lambda xp, x: outer_of(xp, *xp.linalg.svd(x.reshape(3, 2) + M[:, :2], full_matrices=False)),
    "qr": lambda xp, x: xp.linalg.qr(x.reshape(3, 2) + M[:, :2])[1] ** 2,
    "lstsq": lambda xp, x: xp.linalg.lstsq(x.reshape(3, 2) + M[:, :2], x[:3])[0],
    "cond": lambda xp, x: xp.linalg.cond(M + xp.outer(x[:3], x[3:]), 1),
    "norm": lambda xp, x: xp.linalg.norm(x) + xp.linalg.norm(x, 1) + xp.linalg.norm(x, 3),
    "norm of rows": lambda xp, x: xp.linalg.norm(x.reshape(2, 3), axis=1),
    "matrix_power": lambda xp, x: xp.linalg.matrix_power(x[:4].reshape(2, 2), 3),
    "multi_dot": lambda xp, x: xp.linalg.multi_dot([x.reshape(2, 3), M, x.reshape(3, 2)]),
    "fft": lambda xp, x: xp.abs(xp.fft.fft(x * x)) ** 2,
    "ifft": lambda xp, x: xp.real(xp.fft.ifft(x * xp.exp(x))),
    "rfft": lambda xp, x: xp.abs(xp.fft.rfft(x)) ** 2,
    "irfft": lambda xp, x: xp.fft.irfft(xp.fft.rfft(x) * (1 + x[:4])),
    "fft2": lambda xp, x: xp.abs(xp.fft.fft2(x.reshape(2, 3))) ** 2,
    "rfft2": lambda xp, x: xp.abs(xp.fft.rfft2(x.reshape(2, 3))) ** 2,
    "hfft": lambda xp, x: xp.fft.hfft(x + 1j * x[::-1]),
    "fftshift": lambda xp, x: xp.fft.fftshift(x) * x,
    "complex": lambda xp, x: xp.abs(xp.exp(1j * x) * (x[0] + 2j * x)) ** 2 + xp.angle(x + 1j * x[::-1]),
    "imag": lambda xp, x: xp.imag((x + 0.5j) ** 3) * xp.real(xp.conj(x + 0.5j)),
    "softmax": lambda xp, x: xp.exp(x - xp.max(x)) / xp.sum(xp.exp(x - xp.max(x))),
    "rosenbrock": lambda xp, x: xp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
    "loop": lambda xp, x: sum(x[i] * xp.sin(x[i - 1]) for i in range(6)),
    "methods": lambda xp, x: (x.reshape(2, 3).sum(axis=0) * x.max() + x.mean()).cumsum().dot(x[:3]) * x.std(),
    "nan_to_num": lambda xp, x: xp.nan_to_num(x * x),
    "unwrap": lambda xp, x: xp.unwrap(5 * x) * x,
    "array of numbers": lambda xp, x: xp.array([x[0] * x[1], x[2], 1.0]) ** 2,
}
POINT = np.array([0.83, 1.31, 0.42, 0.97, 0.61, 1.12])
