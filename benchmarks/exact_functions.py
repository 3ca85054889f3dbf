"""Which functions of NumPy are followed, of nearly 300: `python -m benchmarks.exact_functions`.

Functions of numpy, numpy.linalg and numpy.fft that take floating arrays and that a model, a residual or a likelihood may call;
`numpy_functions.py` has those that other packages' documents call, and how often. A function is followed where its value agrees
with NumPy's and its derivatives, in both directions, along one vector with a central difference. Those whose results are
booleans, integers or piecewise constant have no derivative: they stand beside something smooth.
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
KNOTS = np.array([0.0, 0.9, 2.0])
STEP = 1e-5
AGREED = 1e-6

Probe = Callable[[Any, Any], Any]
"""Of a module that is written like numpy, and x."""

ONE_ARGUMENT = """
    abs absolute fabs sqrt cbrt square reciprocal exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh cosh
    tanh arcsinh arctanh degrees radians deg2rad rad2deg negative positive sinc i0 sum prod mean var std max min amax amin ptp
    median cumsum cumprod nansum nanprod nanmean nanvar nanstd nanmax nanmin nanmedian nancumsum nancumprod average ravel flip
    flipud sort diff gradient copy real conj conjugate nan_to_num unwrap trapezoid squeeze atleast_1d atleast_2d atleast_3d
    diag diagflat fft.fft fft.ifft fft.rfft fft.hfft fft.fftshift fft.ifftshift fft.fft2 fft.fftn fft.ifft2 fft.ifftn fft.irfft
    linalg.norm linalg.inv linalg.det linalg.slogdet linalg.cholesky linalg.eigvalsh linalg.eigh
    linalg.qr linalg.svdvals linalg.pinv linalg.cond linalg.matrix_norm linalg.vector_norm trace transpose tril triu
    diagonal fliplr rot90 corrcoef cov vander poly roots polyder matrix_transpose ediff1d unique modf frexp spacing asarray
    ascontiguousarray trim_zeros imag real_if_close
"""
NO_DERIVATIVE = """
    sign floor ceil trunc rint fix round around isnan isfinite isinf signbit argmax argmin argsort nonzero flatnonzero
    count_nonzero any all heaviside floor_divide digitize searchsorted allclose isclose array_equal greater less equal
    logical_and logical_not shape size ndim zeros_like ones_like argwhere histogram
    isin logical_or nanargmax linalg.matrix_rank logical_or.reduce
"""
SECOND = dict.fromkeys(["allclose", "isclose", "array_equal", "logical_and", "logical_or", "isin"], X + 1) | {
    "heaviside": 0.5, "floor_divide": 0.3, "digitize": np.array([0.5, 1.0]), "greater": 0.8, "less": 0.8, "equal": 0.8,
    "searchsorted": 0.8,
}  # fmt: skip
ON_A_MATRIX = """
    trace transpose tril triu diagonal fliplr rot90 corrcoef cov matrix_transpose fft.fft2 fft.fftn fft.ifft2
"""
MATRIX = frozenset(ON_A_MATRIX.split())


def named(space: Any, name: str) -> Any:
    for part in name.split("."):
        space = getattr(space, part)
    return space


def joined(np: Any, value: Any) -> Any:
    """All numbers of a result, real."""
    several = isinstance(value, tuple | list) or (not hasattr(value, "shape") and hasattr(value, "__len__"))
    parts = [np.ravel(value[i]) for i in range(len(value))] if several else [np.ravel(value)]
    parts = [part for part in parts if part.dtype.kind in "fc"] or [parts[0]]
    whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return np.concatenate([np.real(whole), np.imag(whole)]) if whole.dtype.kind == "c" else whole


def changed(y: Any, change: Callable[[Any], None]) -> Any:
    change(y)
    return y


def leading(np: Any, u: Any, s: Any, vt: Any) -> Any:
    """Of rank one, as it is without the signs of singular vectors."""
    return np.outer(s[0] * u[:, 0], vt[0])


def argument(name: str, x: Any) -> Any:
    if name.startswith("linalg.") and name not in ("linalg.norm", "linalg.vector_norm"):
        return M + x[:3, None] * x[:3]
    if name.startswith("arc"):
        return x * 0.5
    return x.reshape(2, 3) if name in MATRIX else x


PROBES: dict[str, Probe] = {
    name: lambda np, x, name=name: named(np, name)(argument(name, x)) for name in ONE_ARGUMENT.split()
}
PROBES |= {
    "arccosh": lambda np, x: np.arccosh(1 + x),
    "angle": lambda np, x: np.angle(x + 1j * X),
    "add": lambda np, x: np.add(x, 1.0),
    "subtract": lambda np, x: np.subtract(1.0, x),
    "multiply": lambda np, x: np.multiply(x, X),
    "divide": lambda np, x: np.divide(X, x),
    "true_divide": lambda np, x: np.true_divide(x, 2),
    "power": lambda np, x: np.power(x, 1.7),
    "float_power": lambda np, x: np.float_power(x, 2),
    "mod": lambda np, x: np.mod(x, 0.37),
    "remainder": lambda np, x: np.remainder(x, 0.37),
    "fmod": lambda np, x: np.fmod(x, 0.37),
    "divmod": lambda np, x: np.divmod(x, 0.37)[1],
    "maximum": lambda np, x: np.maximum(x, 0.8),
    "minimum": lambda np, x: np.minimum(x, 0.8),
    "fmax": lambda np, x: np.fmax(x, 0.8),
    "fmin": lambda np, x: np.fmin(x, 0.8),
    "arctan2": lambda np, x: np.arctan2(x, X),
    "hypot": lambda np, x: np.hypot(x, X),
    "logaddexp": lambda np, x: np.logaddexp(x, X),
    "logaddexp2": lambda np, x: np.logaddexp2(x, X),
    "copysign": lambda np, x: np.copysign(x, -X),
    "nextafter": lambda np, x: np.nextafter(x, 5.0),
    "ldexp": lambda np, x: np.ldexp(x, 2),
    "clip": lambda np, x: np.clip(x, 0.5, 1.0),
    "where": lambda np, x: np.where(x > 0.8, x * x, x),
    "select": lambda np, x: np.select([x > 1, x > 0.6], [x**2, np.sin(x)], x),
    "piecewise": lambda np, x: np.piecewise(x, [x < 0.8], [lambda t: t**2, np.sin]),
    "choose": lambda np, x: np.choose(np.array([0, 1, 0, 1, 0, 1]), [x, x * x]),
    "compress": lambda np, x: np.compress(X > 0.8, x),
    "extract": lambda np, x: np.extract(X > 0.8, x),
    "percentile": lambda np, x: np.percentile(x, 30),
    "quantile": lambda np, x: np.quantile(x, 0.3),
    "nanpercentile": lambda np, x: np.nanpercentile(x, 30),
    "reshape": lambda np, x: np.reshape(x, (2, 3)),
    "moveaxis": lambda np, x: np.moveaxis(x.reshape(2, 3), 0, 1),
    "swapaxes": lambda np, x: np.swapaxes(x.reshape(2, 3), 0, 1),
    "rollaxis": lambda np, x: np.rollaxis(x.reshape(2, 3), 1),
    "expand_dims": lambda np, x: np.expand_dims(x, 0),
    "broadcast_to": lambda np, x: np.broadcast_to(x, (2, 6)),
    "broadcast_arrays": lambda np, x: np.broadcast_arrays(x, np.ones((2, 6)))[0],
    "concatenate": lambda np, x: np.concatenate([x, X]),
    "stack": lambda np, x: np.stack([x, X]),
    "vstack": lambda np, x: np.vstack([x, X]),
    "hstack": lambda np, x: np.hstack([x, X]),
    "dstack": lambda np, x: np.dstack([x, X]),
    "column_stack": lambda np, x: np.column_stack([x, X]),
    "block": lambda np, x: np.block([[x.reshape(2, 3)], [np.ones((1, 3))]]),
    "append": lambda np, x: np.append(x, 1.0),
    "insert": lambda np, x: np.insert(x, 1, 2.0),
    "delete": lambda np, x: np.delete(x, 1),
    "split": lambda np, x: np.split(x, 2)[1],
    "array_split": lambda np, x: np.array_split(x, 4)[1],
    "hsplit": lambda np, x: np.hsplit(x, 2)[1],
    "vsplit": lambda np, x: np.vsplit(x.reshape(2, 3), 2)[1],
    "roll": lambda np, x: np.roll(x, 2),
    "tile": lambda np, x: np.tile(x, 2),
    "repeat": lambda np, x: np.repeat(x, 2),
    "pad": lambda np, x: np.pad(x, 1, mode="edge"),
    "resize": lambda np, x: np.resize(x, (2, 2)),
    "take": lambda np, x: np.take(x, np.array([0, 2])),
    "take_along_axis": lambda np, x: np.take_along_axis(x, np.array([2, 0]), 0),
    "put_along_axis": lambda np, x: changed(x.copy(), lambda y: np.put_along_axis(y, np.array([2]), x[:1] ** 2, 0)),
    "fill_diagonal": lambda np, x: changed(x.reshape(2, 3).copy(), lambda y: np.fill_diagonal(y, x[0] ** 2)),
    "copyto": lambda np, x: changed(np.zeros_like(x), lambda y: np.copyto(y, x**2)),
    "dot": lambda np, x: np.dot(x, X),
    "vdot": lambda np, x: np.vdot(x, X),
    "inner": lambda np, x: np.inner(x, X),
    "outer": lambda np, x: np.outer(x, X),
    "matmul": lambda np, x: np.matmul(M, x[:3]),
    "vecdot": lambda np, x: np.vecdot(x, X),
    "tensordot": lambda np, x: np.tensordot(x.reshape(2, 3), M, 1),
    "einsum": lambda np, x: np.einsum("ij,j", M, x[:3]),
    "kron": lambda np, x: np.kron(x, X),
    "cross": lambda np, x: np.cross(x[:3], x[3:]),
    "convolve": lambda np, x: np.convolve(x, X[:2]),
    "correlate": lambda np, x: np.correlate(x, X[:2]),
    "interp": lambda np, x: np.interp(x, KNOTS, np.array([1.0, 3.0, 2.0])),
    "polyval": lambda np, x: np.polyval(KNOTS, x),
    "polyfit": lambda np, x: np.polyfit(X, np.sin(3 * x), 2),
    "polymul": lambda np, x: np.polymul(x, x),
    "polyadd": lambda np, x: np.polyadd(x, x),
    "linspace": lambda np, x: np.linspace(x[0], x[1], 5),
    "logspace": lambda np, x: np.logspace(x[0], x[1], 5),
    "geomspace": lambda np, x: np.geomspace(x[0], x[1], 5),
    "arange": lambda np, x: np.arange(0.0, 3.0 * x[0], x[0]),
    "full": lambda np, x: np.full(3, x[0]),
    "full_like": lambda np, x: np.full_like(x, x[0]),
    "meshgrid": lambda np, x: np.meshgrid(x[:2], x[2:])[0],
    "apply_along_axis": lambda np, x: np.apply_along_axis(np.cumsum, 1, x.reshape(2, 3)),
    "apply_over_axes": lambda np, x: np.apply_over_axes(np.sum, x.reshape(2, 3), [0]),
    "vectorize": lambda np, x: np.vectorize(lambda t: t * t)(x),
    "add.outer": lambda np, x: np.add.outer(x, X),
    "add.reduce": lambda np, x: np.add.reduce(x * x),
    "add.accumulate": lambda np, x: np.add.accumulate(x * x),
    "bincount": lambda np, x: np.bincount(np.array([0, 1, 1, 0, 2, 2]), weights=x),
    "lexsort": lambda np, x: x[np.lexsort((x,))],
    "partition": lambda np, x: np.partition(x, 2)[2:3],
    "linalg.eig": lambda np, x: np.real(np.sum(np.linalg.eig(M + np.outer(x[:3], x[3:]))[0] ** 3)),
    "linalg.eigvals": lambda np, x: np.real(np.sum(np.linalg.eigvals(M + np.outer(x[:3], x[3:])) ** 3)),
    "linalg.svd": lambda np, x: leading(np, *np.linalg.svd(M + np.outer(x[:3], x[3:]), full_matrices=False)),
    "linalg.solve": lambda np, x: np.linalg.solve(M + np.outer(x[:3], x[:3]), x[3:]),
    "linalg.lstsq": lambda np, x: np.linalg.lstsq(x.reshape(3, 2) + M[:, :2], X[:3], rcond=None)[0],
    "linalg.multi_dot": lambda np, x: np.linalg.multi_dot([M, x[:3]]),
    "linalg.matrix_power": lambda np, x: np.linalg.matrix_power(M * x[0], 3),
    "linalg.tensorsolve": lambda np, x: np.linalg.tensorsolve(M * x[0], x[:3]),
    "array": lambda np, x: np.array([x[0], x[1] * x[2], 1.0]),
    "asanyarray": lambda np, x: np.asanyarray(x) ** 2,
    "asfortranarray": lambda np, x: np.asfortranarray(x.reshape(2, 3)),
    "intersect1d": lambda np, x: np.intersect1d(x, np.concatenate([x[2:4], X[:1] + 4])),
    "setdiff1d": lambda np, x: np.setdiff1d(x, KNOTS),
    "union1d": lambda np, x: np.union1d(x, KNOTS),
    "minimum.reduce": lambda np, x: np.minimum.reduce(x),
    "place": lambda np, x: changed(x.copy(), lambda y: np.place(y, X > 0.8, KNOTS)),
    "poly1d": lambda np, x: np.poly1d(x)(0.7),
    "empty_like": lambda np, x: np.empty_like(x).size * x * x,
    "histogram2d": lambda np, x: np.sum(np.histogram2d(x, X, [KNOTS, KNOTS])[0][0]) * x,
}  # fmt: skip


def constant_probe(name: str) -> Probe:
    """x beside what has no derivative, so that the whole depends on x."""
    second = [SECOND[name]] if name in SECOND else []

    def probe(np: Any, x: Any) -> Any:
        found = named(np, name)(argument(name, x), *second)
        found = found[0] if isinstance(found, tuple) else found
        return (np.sum(found) + 1.0) * np.sum(x * x)

    return probe


PROBES |= {name: constant_probe(name) for name in NO_DERIVATIVE.split()}


class Flagged(Exception):
    """A tool says that something is wrong, or that it cannot."""


def ours(probe: Probe) -> tuple[Any, Any]:
    """The value, and the tangent along `ALONG`, in both directions."""
    try:
        followed = traced(lambda x: joined(np, probe(np, x)), X.copy())
    except Refused as refused:
        raise Flagged(f"refused: {refused.reason}") from None
    tangent = followed.pushforward(ALONG)
    rows = [followed.pullback(row, keep=True) for row in np.eye(tangent.size).reshape(-1, *followed.value.shape)]
    return followed.value, np.where(np.isclose(np.stack(rows) @ ALONG, np.ravel(tangent)), np.ravel(tangent), np.inf)


def by_autograd(probe: Probe) -> tuple[Any, Any]:
    import autograd
    import autograd.numpy as there

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pull, value = autograd.make_vjp(lambda x: joined(there, probe(there, x)))(X.copy())
    if any("independent of input" in str(warning.message) for warning in caught):
        raise Flagged("warned: the output seems independent of x")
    rows = [pull(row) for row in np.eye(np.size(value)).reshape(-1, *np.shape(value))]
    return value, np.stack(rows) @ ALONG


def by_jax(probe: Probe) -> tuple[Any, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    along = (jax.numpy.asarray(ALONG),)
    return jax.jvp(lambda x: joined(jax.numpy, probe(jax.numpy, x)), (jax.numpy.asarray(X),), along)


Tool = Callable[[Probe], tuple[Any, Any]]
TOOLS: dict[str, tuple[str, Tool]] = {
    "arraydiff.exact": ("arraydiff", ours),
    "autograd": ("autograd", by_autograd),
    "jax": ("jax", by_jax),
}


def verdict(probe: Probe, tool: Tool = ours) -> str:
    """'followed', or why not; 'WRONG' where the tool and differences disagree."""
    plain = joined(np, probe(np, X.copy()))
    ahead, behind = (joined(np, probe(np, X + move)) for move in (STEP * ALONG, -STEP * ALONG))
    try:
        value, tangent = (np.asarray(part) for part in tool(probe))
    except Flagged as flagged:
        return str(flagged)
    except Exception as error:
        if tool is ours:
            raise
        return f"{type(error).__name__}: {' '.join(str(error).split())[:70]}"
    difference = np.ravel((ahead - behind) / (2 * STEP))
    if value.shape != plain.shape or not np.allclose(value, plain, rtol=1e-12, atol=1e-15):
        return "WRONG"
    right = np.allclose(np.ravel(tangent), difference, rtol=AGREED, atol=AGREED)
    return "followed" if right else "WRONG"


def verdicts(probes: dict[str, Probe] | None = None, tool: Tool = ours) -> dict[str, str]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return {name: verdict(probe, tool) for name, probe in (PROBES if probes is None else probes).items()}


def main() -> None:
    found = verdicts()
    for name, told in found.items():
        if told != "followed":
            print(f"{name:20s} {told}")
    followed = sum(told == "followed" for told in found.values())
    print(f"{followed} of {len(found)} followed ({followed / len(found):.0%})")


if __name__ == "__main__":
    main()
