"""Which functions of NumPy that plain code calls are followed, of more than 200: `python -m benchmarks.exact_functions`.

The list is chosen by hand, not counted in other packages: functions of numpy, numpy.linalg and numpy.fft that take floating
arrays and that a model, a residual or a likelihood may call.  A function is followed where its value agrees with NumPy's and
its derivative along a direction with a central difference; those that are piecewise constant stand beside something smooth.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from arraydiff.exact import Refused, traced

X = np.array([0.83, 1.31, 0.42, 0.97, 0.61, 1.12])
ALONG = np.array([0.3, -0.7, 1.1, 0.2, -0.5, 0.9])
M = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
STEP = 1e-5
AGREED = 1e-6

Probe = Callable[[Any], Any]

ONE_ARGUMENT = """
    abs absolute fabs sqrt cbrt square reciprocal exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh cosh
    tanh arcsinh arctanh degrees radians deg2rad rad2deg negative positive sinc i0 sum prod mean var std max min amax amin ptp
    median cumsum cumprod nansum nanprod nanmean nanvar nanstd nanmax nanmin nanmedian nancumsum nancumprod average ravel flip
    flipud sort diff gradient copy real conj conjugate angle nan_to_num unwrap trapezoid squeeze atleast_1d atleast_2d atleast_3d
    diag diagflat fft.fft fft.ifft fft.rfft fft.hfft fft.fftshift fft.ifftshift fft.fft2 fft.fftn fft.ifft2 fft.ifftn fft.irfft
    linalg.norm linalg.inv linalg.det linalg.slogdet linalg.cholesky linalg.eigvalsh linalg.eigh linalg.eig linalg.eigvals
    linalg.qr linalg.svd linalg.svdvals linalg.pinv linalg.cond linalg.matrix_norm linalg.vector_norm trace transpose tril triu
    diagonal fliplr rot90 corrcoef cov vander poly roots polyder matrix_transpose ediff1d modf frexp spacing asarray array
    ascontiguousarray asfarray_ trim_zeros imag real_if_close
"""
NO_DERIVATIVE = """
    sign floor ceil trunc rint fix round around isnan isfinite isinf signbit argmax argmin argsort nonzero flatnonzero
    count_nonzero any all heaviside floor_divide digitize searchsorted allclose isclose array_equal greater less equal
    logical_and logical_not shape size ndim zeros_like ones_like argwhere unique histogram
"""
SECOND = dict.fromkeys(["allclose", "isclose", "array_equal", "logical_and"], X + 1) | {
    "heaviside": 0.5, "floor_divide": 0.3, "digitize": np.array([0.5, 1.0]), "greater": 0.8, "less": 0.8, "equal": 0.8,
    "searchsorted": 0.8,
}  # fmt: skip
ON_A_MATRIX = """
    trace transpose tril triu diagonal fliplr rot90 corrcoef cov matrix_transpose fft.fft2 fft.fftn fft.ifft2
"""
MATRIX = frozenset(ON_A_MATRIX.split())


def named(name: str) -> Any:
    space: Any = np
    for part in name.split("."):
        space = getattr(space, part, None)
    return space


def joined(value: Any) -> Any:
    """All numbers of a result, real."""
    parts = [np.ravel(part) for part in (value if isinstance(value, tuple | list) else (value,))]
    parts = [part for part in parts if part.dtype.kind in "fc"] or [parts[0]]
    whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return np.concatenate([np.real(whole), np.imag(whole)]) if whole.dtype.kind == "c" else whole


def changed(y: Any, change: Callable[[Any], None]) -> Any:
    change(y)
    return y


def argument(name: str, x: Any) -> Any:
    if name.startswith("linalg.") and name not in ("linalg.norm", "linalg.vector_norm"):
        return M + x[:3, None] * x[:3]
    if name.startswith("arc"):
        return x * 0.5
    return x.reshape(2, 3) if name in MATRIX else x


PROBES: dict[str, Probe] = {
    name: lambda x, name=name: named(name)(argument(name, x))
    for name in ONE_ARGUMENT.split()
    if not name.endswith("_") and named(name) is not None
}
PROBES |= {
    "arccosh": lambda x: np.arccosh(1 + x),
    "add": lambda x: np.add(x, 1.0),
    "subtract": lambda x: np.subtract(1.0, x),
    "multiply": lambda x: np.multiply(x, X),
    "divide": lambda x: np.divide(X, x),
    "true_divide": lambda x: np.true_divide(x, 2),
    "power": lambda x: np.power(x, 1.7),
    "float_power": lambda x: np.float_power(x, 2),
    "mod": lambda x: np.mod(x, 0.37),
    "remainder": lambda x: np.remainder(x, 0.37),
    "fmod": lambda x: np.fmod(x, 0.37),
    "divmod": lambda x: np.divmod(x, 0.37)[1],
    "maximum": lambda x: np.maximum(x, 0.8),
    "minimum": lambda x: np.minimum(x, 0.8),
    "fmax": lambda x: np.fmax(x, 0.8),
    "fmin": lambda x: np.fmin(x, 0.8),
    "arctan2": lambda x: np.arctan2(x, X),
    "hypot": lambda x: np.hypot(x, X),
    "logaddexp": lambda x: np.logaddexp(x, X),
    "logaddexp2": lambda x: np.logaddexp2(x, X),
    "copysign": lambda x: np.copysign(x, -X),
    "nextafter": lambda x: np.nextafter(x, 5.0),
    "ldexp": lambda x: np.ldexp(x, 2),
    "clip": lambda x: np.clip(x, 0.5, 1.0),
    "where": lambda x: np.where(x > 0.8, x * x, x),
    "select": lambda x: np.select([x > 1, x > 0.6], [x**2, np.sin(x)], x),
    "piecewise": lambda x: np.piecewise(x, [x < 0.8], [lambda t: t**2, np.sin]),
    "choose": lambda x: np.choose(np.array([0, 1, 0, 1, 0, 1]), [x, x * x]),
    "compress": lambda x: np.compress(X > 0.8, x),
    "extract": lambda x: np.extract(X > 0.8, x),
    "percentile": lambda x: np.percentile(x, 30),
    "quantile": lambda x: np.quantile(x, 0.3),
    "nanpercentile": lambda x: np.nanpercentile(x, 30),
    "reshape": lambda x: np.reshape(x, (2, 3)),
    "moveaxis": lambda x: np.moveaxis(x.reshape(2, 3), 0, 1),
    "swapaxes": lambda x: np.swapaxes(x.reshape(2, 3), 0, 1),
    "rollaxis": lambda x: np.rollaxis(x.reshape(2, 3), 1),
    "expand_dims": lambda x: np.expand_dims(x, 0),
    "broadcast_to": lambda x: np.broadcast_to(x, (2, 6)),
    "broadcast_arrays": lambda x: np.broadcast_arrays(x, np.ones((2, 6)))[0],
    "concatenate": lambda x: np.concatenate([x, X]),
    "stack": lambda x: np.stack([x, X]),
    "vstack": lambda x: np.vstack([x, X]),
    "hstack": lambda x: np.hstack([x, X]),
    "dstack": lambda x: np.dstack([x, X]),
    "column_stack": lambda x: np.column_stack([x, X]),
    "block": lambda x: np.block([[x.reshape(2, 3)], [np.ones((1, 3))]]),
    "append": lambda x: np.append(x, 1.0),
    "insert": lambda x: np.insert(x, 1, 2.0),
    "delete": lambda x: np.delete(x, 1),
    "split": lambda x: np.split(x, 2)[1],
    "array_split": lambda x: np.array_split(x, 4)[1],
    "hsplit": lambda x: np.hsplit(x, 2)[1],
    "vsplit": lambda x: np.vsplit(x.reshape(2, 3), 2)[1],
    "roll": lambda x: np.roll(x, 2),
    "tile": lambda x: np.tile(x, 2),
    "repeat": lambda x: np.repeat(x, 2),
    "pad": lambda x: np.pad(x, 1, mode="edge"),
    "resize": lambda x: np.resize(x, (2, 2)),
    "take": lambda x: np.take(x, [0, 2]),
    "take_along_axis": lambda x: np.take_along_axis(x, np.array([2, 0]), 0),
    "put_along_axis": lambda x: changed(x.copy(), lambda y: np.put_along_axis(y, np.array([2]), x[:1] ** 2, 0)),
    "fill_diagonal": lambda x: changed(x.reshape(2, 3).copy(), lambda y: np.fill_diagonal(y, x[0] ** 2)),
    "copyto": lambda x: changed(np.zeros_like(x), lambda y: np.copyto(y, x**2)),
    "dot": lambda x: np.dot(x, X),
    "vdot": lambda x: np.vdot(x, X),
    "inner": lambda x: np.inner(x, X),
    "outer": lambda x: np.outer(x, X),
    "matmul": lambda x: np.matmul(M, x[:3]),
    "vecdot": lambda x: np.vecdot(x, X),
    "tensordot": lambda x: np.tensordot(x.reshape(2, 3), M, 1),
    "einsum": lambda x: np.einsum("ij,j", M, x[:3]),
    "kron": lambda x: np.kron(x, X),
    "cross": lambda x: np.cross(x[:3], x[3:]),
    "convolve": lambda x: np.convolve(x, X[:2]),
    "correlate": lambda x: np.correlate(x, X[:2]),
    "interp": lambda x: np.interp(x, [0.0, 0.9, 2.0], [1.0, 3.0, 2.0]),
    "polyval": lambda x: np.polyval([1.0, 2.0, 3.0], x),
    "polyfit": lambda x: np.polyfit(X, x, 2),
    "polymul": lambda x: np.polymul(x, x),
    "polyadd": lambda x: np.polyadd(x, x),
    "linspace": lambda x: np.linspace(x[0], x[1], 5),
    "logspace": lambda x: np.logspace(x[0], x[1], 5),
    "geomspace": lambda x: np.geomspace(x[0], x[1], 5),
    "arange": lambda x: np.arange(0.0, 3.0 * x[0], x[0]),
    "full": lambda x: np.full(3, x[0]),
    "full_like": lambda x: np.full_like(x, x[0]),
    "meshgrid": lambda x: np.meshgrid(x[:2], x[2:])[0],
    "apply_along_axis": lambda x: np.apply_along_axis(np.cumsum, 1, x.reshape(2, 3)),
    "apply_over_axes": lambda x: np.apply_over_axes(np.sum, x.reshape(2, 3), [0]),
    "vectorize": np.vectorize(lambda t: t * t),
    "add.outer": lambda x: np.add.outer(x, X),
    "add.reduce": lambda x: np.add.reduce(x * x),
    "add.accumulate": lambda x: np.add.accumulate(x * x),
    "bincount": lambda x: np.bincount(np.array([0, 1, 1, 0, 2, 2]), weights=x),
    "lexsort": lambda x: x[np.lexsort((x,))],
    "partition": lambda x: np.partition(x, 2),
    "linalg.solve": lambda x: np.linalg.solve(M + np.outer(x[:3], x[:3]), x[3:]),
    "linalg.lstsq": lambda x: np.linalg.lstsq(x.reshape(3, 2) + M[:, :2], X[:3], rcond=None)[0],
    "linalg.multi_dot": lambda x: np.linalg.multi_dot([M, x[:3]]),
    "linalg.matrix_power": lambda x: np.linalg.matrix_power(M * x[0], 3),
    "linalg.tensorsolve": lambda x: np.linalg.tensorsolve(M * x[0], x[:3]),
}  # fmt: skip


def constant_probe(name: str) -> Probe:
    """x beside what has no derivative, so that the whole depends on x."""
    function = named(name)
    second = [SECOND[name]] if name in SECOND else []

    def probe(x: Any) -> Any:
        found = function(x, *second)
        found = found[0] if isinstance(found, tuple) else found
        return (np.sum(found) + 1.0) * np.sum(x * x)

    return probe


PROBES |= {name: constant_probe(name) for name in NO_DERIVATIVE.split()}


def verdict(probe: Probe) -> str:
    """'followed', or why not; 'WRONG' where tracing and differences disagree."""
    try:
        followed = traced(lambda x: joined(probe(x)), X.copy())
    except Refused as refused:
        return f"refused: {refused.reason}"
    difference = (joined(probe(X + STEP * ALONG)) - joined(probe(X - STEP * ALONG))) / (2 * STEP)
    found = followed.pushforward(ALONG)
    right = np.allclose(followed.value, joined(probe(X.copy())), rtol=1e-12) and np.allclose(
        found, difference, rtol=AGREED, atol=AGREED
    )
    return "followed" if right else "WRONG"


def verdicts() -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: verdict(probe) for name, probe in PROBES.items()}


def main() -> None:
    found = verdicts()
    for name, told in found.items():
        if told != "followed":
            print(f"{name:20s} {told}")
    followed = sum(told == "followed" for told in found.values())
    print(f"{followed} of {len(found)} followed ({followed / len(found):.0%})")


if __name__ == "__main__":
    main()
