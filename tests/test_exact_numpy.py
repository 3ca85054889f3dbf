"""NumPy's spellings that JAX does not share, and SciPy's sparse products: beside differences of order six."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from arraydiff.exact import Refused, gradient, pushforward, traced
from arraydiff.exact.trace import Trace

Function = Callable[[Any], Any]
X = np.array([0.83, 1.31, 0.42, 0.97, 0.61, 1.12])
TANGENT = np.array([0.3, -0.7, 1.1, 0.2, -0.5, 0.9])
M = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
MASK = X > 0.8
STENCIL = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}


def differences(fun: Function, x: np.ndarray = X, h: float = 1e-3) -> np.ndarray:
    """Of order 6, right to about 1e-10 here."""
    return np.stack(
        [sum(w * (fun(x + k * h * e) - fun(x - k * h * e)) / h for k, w in STENCIL.items()) for e in np.eye(x.size)], -1
    )


def is_right(fun: Function) -> None:
    """Value, gradient, tangent in both ways, and a Hessian-vector product."""

    def flat(x: Any) -> Any:
        return np.ravel(fun(x))

    followed = traced(flat, X.copy())
    np.testing.assert_allclose(followed.value, flat(X.copy()), rtol=1e-12, atol=1e-14)
    jacobian, w = differences(flat), np.cos(np.arange(followed.value.size))
    np.testing.assert_allclose(followed.pullback(w, keep=True), w @ jacobian, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(followed.pushforward(TANGENT), jacobian @ TANGENT, rtol=1e-7, atol=1e-8)
    along = pushforward(flat, X.copy(), TANGENT[:, None])[1][:, 0]
    np.testing.assert_allclose(along, jacobian @ TANGENT, rtol=1e-7, atol=1e-8)

    def gradient_at(x: Any) -> Any:
        return gradient(lambda x: np.sum(flat(x) * w))(x)

    curved = traced(gradient_at, X.copy(), constant=True).pushforward(TANGENT)
    np.testing.assert_allclose(curved, differences(gradient_at) @ TANGENT, rtol=1e-6, atol=1e-7)


def matrix(x: Any) -> Any:
    return M + np.outer(x[:3], x[3:])


def tall(x: Any) -> Any:
    return x.reshape(3, 2) + M[:, :2]


def with_nan(x: Any) -> Any:
    return np.where(MASK, x, np.nan)


def changed(change: Callable[[Any, Any], Any]) -> Function:
    def fun(x: Any) -> Any:
        y = x * 1.0
        change(y, x)
        return y * x[0]

    return fun


def through_slices(x: Any) -> Any:
    y = x.reshape(2, 3) * 1
    y[:, 1:] *= x[:2]
    y[0] /= x[3]
    y[1] **= 2
    y[::2, ::2] += x[1]
    return y


def seen_in_a_diagonal(x: Any) -> Any:
    a = x.reshape(2, 3) * 1.0
    d = np.diagonal(a)
    a[0, 0] = x[1] ** 2
    return d * x[0]


def written_through_views(x: Any) -> Any:
    y = x.reshape(2, 3) * 1
    v = y[1]
    np.put(v, [0, 2], x[:2] ** 2)
    np.add.at(v, [0, 0], x[3:5])
    np.putmask(y[:, ::2], np.array([[True, False], [False, True]]), x[1] ** 2)
    return y * v[0]


def rebuilt(x: Any) -> Any:
    u, s, vt = np.linalg.svd(tall(x), full_matrices=False)
    return (u * s**2) @ vt


UNEVEN = np.array([0, 0.1, 0.3, 0.4, 0.7, 1.0])
METHODS = "linear lower higher nearest midpoint hazen weibull median_unbiased normal_unbiased interpolated_inverted_cdf"
FUNCTIONS: dict[str, Function] = {
    "interp of a period": lambda x: np.interp(x, [0, 1.0, 2.0], [1.0, 3.0, 2.0], period=3.0),
    "interp of everything": lambda x: np.interp(x * x, np.cumsum(x), x**3),
    "interp beyond its ends": lambda x: np.interp(x - 1, np.arange(6.0) * 0.3, x, left=x[0] ** 2, right=0.0),
    "prod beside a zero": lambda x: np.prod(x - X[0]),
    "prod beside zeros": lambda x: np.prod((x - X[0]) * (x - X[1])),
    "prod over axes": lambda x: np.prod(x.reshape(1, 2, 3) - X[0], axis=(0, 2)),
    "prod over axes that are kept": lambda x: np.prod(x.reshape(3, 2, 1), axis=(0, 2), keepdims=True),
    "linspace along an axis": lambda x: np.linspace(x[:2], x[2:4] ** 2, 4, axis=1),
    "linspace without its end": lambda x: np.linspace(x[0], x[1] ** 2, 7, endpoint=False),
    "full of a row": lambda x: np.full((2, 6), x**2),
    "arguments by name": lambda x: np.sum(a=x) * np.clip(a=x, a_min=0.5, a_max=1.2) + np.linalg.norm(ord=3, x=x),
    "singular vectors of a stack": lambda x: (
        np.linalg.svd(np.stack([tall(x), tall(x[::-1])]), full_matrices=False)[0] ** 2
    ),
    "norms of complex numbers": lambda x: np.linalg.norm((x + 1j * x[::-1]).reshape(2, 3), axis=0),
    "einsum of a diagonal": lambda x: np.einsum("ii->i", matrix(x) ** 2),
    "einsum of a trace": lambda x: np.einsum("ii", matrix(x) ** 2),
    "einsum of diagonals": lambda x: np.einsum("...ii->...i", np.stack([matrix(x), M]) ** 2),
    "einsum with numbers": lambda x: np.einsum(matrix(x), [0, 1], x[:3], [1], [0]),
    "einsum with numbers and dots": lambda x: np.einsum(matrix(x), [..., 1], x[:3], [1]),
    "quantile over axes": lambda x: np.quantile(x.reshape(1, 2, 3), 0.3, axis=(0, 2), keepdims=True),
    "percentiles": lambda x: np.percentile(x.reshape(2, 3), [30, 70], axis=1),
    "nanmedian": lambda x: np.nanmedian(with_nan(x)),
    "nanquantile": lambda x: np.nanquantile(with_nan(x), 0.3),
    "nanpercentile of rows": lambda x: np.nanpercentile(x.reshape(2, 3), 30, axis=1),
    "nanvar": lambda x: np.nanvar(with_nan(x), ddof=1),
    "nanstd": lambda x: np.nanstd(with_nan(x)),
    "correlate the shorter": lambda x: np.correlate(x[:3], X, "valid"),
    "correlate the shorter, same": lambda x: np.correlate(x[:2], X, "same"),
    "gradient of uneven": lambda x: np.gradient(x**2, UNEVEN),
    "gradient along x": lambda x: np.gradient(X, np.cumsum(x)),
    "gradient to second order": lambda x: np.gradient(x**2, edge_order=2),
    "gradient of uneven to second order": lambda x: np.gradient(x.reshape(2, 3) ** 2, UNEVEN[:3], axis=1, edge_order=2),
    "gradient of axes": lambda x: np.gradient(x.reshape(2, 3) ** 2, 0.1, [0.0, 0.1, 0.4])[1],
    "piecewise by an array": lambda x: np.piecewise(x, np.array([~MASK, MASK]), [lambda t: t**2, np.sin]),
    "cov by importance": lambda x: np.cov(x.reshape(2, 3), aweights=np.array([1.0, 2.0, 3.0])),
    "cov by frequency": lambda x: np.cov(x.reshape(2, 3), fweights=np.array([1, 2, 3]), ddof=0),
    "polyfit": lambda x: np.polyfit(np.cumsum(x), x**2, 2),
    "polyfit of columns": lambda x: np.polyfit(X[:3], np.outer(x[:3], x[3:]), 1, w=X[:3]),
    "polyder": lambda x: np.polyder(x, 2) ** 2,
    "polyint": lambda x: np.polyint(x, 2) ** 2,
    "polyadd": lambda x: np.polyadd(x, x[:2] ** 2),
    "polysub": lambda x: np.polysub(x[:2] ** 2, x),
    "polymul": lambda x: np.polymul(x, x[:2]),
    "histogram of weights": lambda x: np.histogram(X, bins=3, weights=x**2)[0],
    "histogram of weights as a density": lambda x: np.histogram(X, [0.5, 0.7, 1.12], weights=x**2, density=True)[0],
    "put_along_axis": changed(lambda y, x: np.put_along_axis(y, np.array([2, 0]), x[:2] ** 2, 0)),
    "putmask": changed(lambda y, x: np.putmask(y, MASK, x**2)),
    "put": changed(lambda y, x: np.put(y, [0, 2], x[:2] ** 2)),
    "put of a method": changed(lambda y, x: y.put([0, 2], x[:2] ** 2)),
    "place": changed(lambda y, x: np.place(y, MASK, x[0] ** 2)),
    "add.at": changed(lambda y, x: np.add.at(y, [0, 0, 1], x[:3] ** 2)),
    "subtract.at": changed(lambda y, x: np.subtract.at(y, [0, 0, 1], x[0] ** 2)),
    "fill_diagonal": changed(lambda y, x: np.fill_diagonal(y.reshape(3, 2), x[0] ** 2, wrap=True)),
    "compress of a method": lambda x: x.compress(MASK) ** 2,
    "through slices": through_slices,
    "written through views": written_through_views,
    "seen in a diagonal": seen_in_a_diagonal,
    "take with clip": lambda x: np.take(x, [0, 9, -3], mode="clip") ** 2,
    "take with wrap": lambda x: np.take(x, [0, 9, -3], mode="wrap") ** 2,
    "ediff1d": lambda x: np.ediff1d(x**2, to_end=x[0], to_begin=[1.0, 2.0]),
    "sum where": lambda x: np.sum(x**2, where=MASK, initial=2.0),
    "mean where": lambda x: np.mean(x.reshape(2, 3) ** 2, axis=1, where=MASK.reshape(2, 3)),
    "prod where": lambda x: np.prod(x, where=MASK),
    "max where": lambda x: np.max(x * x, where=~MASK, initial=0.1),
    "min with an initial": lambda x: np.min(x * x, initial=5.0),
    "logaddexp.reduce": lambda x: np.logaddexp.reduce(x.reshape(2, 3) * 3, axis=1),
    "cumulative_sum": lambda x: np.cumulative_sum(x**2, include_initial=True),
    "cumulative_prod": lambda x: np.cumulative_prod(x, include_initial=True),
    "svd": rebuilt,
    "left singular vectors": lambda x: np.linalg.svd(matrix(x)).U ** 2,
    "right singular vectors": lambda x: np.linalg.svd(tall(x).T, full_matrices=False)[2] ** 2,
    "qr": lambda x: np.concatenate([part.ravel() for part in np.linalg.qr(tall(x))]),
    "r alone": lambda x: np.linalg.qr(matrix(x), mode="r"),
    "cond": lambda x: np.stack([np.linalg.cond(matrix(x), p) for p in (None, 1, -1, "fro", -2)]),
    "matrix norms that are kept": lambda x: np.linalg.norm(matrix(x), 1, keepdims=True),
    "eigvalsh of the upper triangle": lambda x: np.linalg.eigvalsh(matrix(x), UPLO="U"),
    "lstsq": lambda x: np.concatenate(np.linalg.lstsq(tall(x), x[:3], rcond=None)[:2]),
    "rfft2": lambda x: abs(np.fft.rfft2(x.reshape(2, 3))) ** 2,
    "irfft2": lambda x: np.fft.irfft2(np.fft.rfft2(x.reshape(2, 3)) * x[0], (2, 3)),
    "rfftn": lambda x: abs(np.fft.rfftn(x.reshape(3, 2), (4, 3), (0, 1), norm="ortho")) ** 2,
    "irfftn": lambda x: np.fft.irfftn(np.fft.rfftn(x.reshape(3, 2)) * x[0]),
    "hfft": lambda x: np.fft.hfft(x + 1j * x[::-1]),
    "ihfft": lambda x: abs(np.fft.ihfft(x**2)) ** 2,
    "fft2 of a size": lambda x: abs(np.fft.fft2(x.reshape(2, 3), s=(4, 4))) ** 2,
} | {f"quantile, {name}": lambda x, name=name: np.quantile(x, [0.3, 0.05], method=name) for name in METHODS.split()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives_are_those_of_differences(name: str) -> None:
    is_right(FUNCTIONS[name])


@pytest.mark.parametrize(
    ("fun", "because"),
    [
        (lambda x: np.histogram(x)[0] * x[0], "pass their edges"),
        (lambda x: np.histogram(X, bins=np.sort(x))[0] * x[:5], "bins that depend on x"),
        (lambda x: np.linalg.svd(tall(x))[1], "pass full_matrices=False"),
        (lambda x: np.linalg.qr(tall(x).T)[1], "mode='reduced'"),
        (lambda x: np.polyfit(np.ones(6), x, 2), "fewer points"),
        (np.roots, "roots has no rule"),
        (lambda x: np.nanmedian(with_nan(x).reshape(2, 3), axis=1), "along an axis with NaN"),
    ],
)
def test_what_is_not_followed_says_so(fun: Function, because: str) -> None:
    with pytest.raises(Refused, match=because):
        traced(fun, X.copy())


def test_vectors_of_equal_singular_values_have_no_derivative_and_the_values_have() -> None:
    with pytest.raises(Refused, match="equal or zero singular values"):
        traced(lambda x: np.linalg.svd(np.eye(3) * x[0])[0], X).pullback(np.ones((3, 3)))
    followed = traced(lambda x: np.sum(np.linalg.svd(np.eye(3) * x[0])[1]), X)
    np.testing.assert_allclose(followed.pullback(np.float64(1.0)), [3.0, 0, 0, 0, 0, 0], atol=1e-14)


def test_counts_of_traced_numbers_in_fixed_bins_are_constants() -> None:
    followed = traced(lambda x: np.histogram(x, [0.0, 0.5, 1.0, 2.0])[0] * x[:3], X)
    np.testing.assert_array_equal(followed.pushforward(np.ones(6)), [1.0, 3.0, 2.0])
    assert set(followed.notes.branches) == {"histogram"}


def test_a_write_that_a_diagonal_of_a_transpose_would_show_is_refused() -> None:
    def fun(x: Any) -> Any:
        a = x.reshape(2, 3) * 1.0
        d = np.diagonal(a.T)
        a[0, 0] = 5.0
        return d

    with pytest.raises(Refused, match=r"np\.diagonal"):
        traced(fun, X)


@pytest.mark.parametrize("size", [3, 4, 5, 6, 7, 8])
def test_quantiles_of_every_method_are_those_of_numpy(size: int) -> None:
    x = np.random.default_rng(size).normal(size=size)
    for name in METHODS.split():
        for q in (0.0, 0.1, 0.25, 0.5, 0.73, 1.0):
            found = traced(lambda x, q=q, name=name: np.quantile(x, q, method=name), x).value
            np.testing.assert_allclose(found, np.quantile(x, q, method=name), rtol=1e-14, err_msg=f"{name} {q}")


# ---- sparse matrices

sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
D = np.array([[1.0, 0, 2, 0, 0, 3], [0, 4, 0, 0, 5, 0], [0, 0, 0, 6, 0, 7], [8, 0, 0, 0, 0, 0]])
KINDS = [f"{form}_{kind}" for form in ("csr", "csc", "coo", "dia", "lil", "bsr", "dok") for kind in ("array", "matrix")]
PRODUCTS: dict[str, Callable[[Any, Any], Any]] = {
    "A @ x": lambda a, x: a @ x**2,
    "A @ X": lambda a, x: a @ np.outer(x, x[:2]),
    "A @ a column": lambda a, x: a @ (x[:, None] ** 2),
    "A.dot(x)": lambda a, x: a.dot(x**2),
    "x @ A": lambda a, x: x[:4] ** 2 @ a,
    "X @ A": lambda a, x: np.outer(x[:2], x[:4]) @ a,
    "A.T @ A @ x": lambda a, x: a.T @ (a @ x**2),
    "of complex numbers": lambda a, x: abs((a * (1 + 2j)) @ (x + 1j * x[::-1])) ** 2,
}
PRODUCTS_OF_MATRICES: dict[str, Callable[[Any, Any], Any]] = {
    "A * x": lambda a, x: a * x**2,
    "x * A": lambda a, x: x[:4] ** 2 * a,
}


@pytest.mark.parametrize("kind", KINDS)
def test_products_with_sparse_matrices_are_followed(kind: str) -> None:
    a = getattr(sparse, kind)(D)
    for fun in (PRODUCTS | (PRODUCTS_OF_MATRICES if kind.endswith("matrix") else {})).values():
        is_right(lambda x, fun=fun: fun(a, x))


@pytest.mark.parametrize(
    "fun",
    [
        lambda a, x: (a * x[0]) @ x,
        lambda a, x: (x[0] * a) @ x,
        lambda a, x: (a / x[0]) @ x,
        lambda a, x: a + x,
        np.dot,
        lambda a, x: x.dot(a),
        lambda a, x: sparse.csr_array((x, (range(6), range(6)))) @ X,
        lambda a, x: sparse.csr_array(np.outer(x, x)) @ X,
        lambda a, x: sparse.linalg.spsolve(a[:, :4], x[:4]),
        lambda a, x: sparse.linalg.aslinearoperator(a) @ x,
    ],
)
@pytest.mark.parametrize("kind", ["csr_array", "csr_matrix"])
def test_what_else_scipy_does_with_them_is_refused(kind: str, fun: Callable[[Any, Any], Any]) -> None:
    a = getattr(sparse, kind)(D + np.eye(4, 6))
    with pytest.raises(Refused, match=r"A @ x|with an operand of type (scipy\.sparse|numpy\.matrix)"):
        traced(lambda x: fun(a, x) + 0 * x[0], X.copy())


def test_a_sparse_array_that_f_changes_is_the_one_that_it_was() -> None:
    def fun(x: Any) -> Any:
        a = sparse.csr_array(D)
        y = a @ x
        a.data[:] = 9.0
        z = a @ x**2
        a.data *= 2
        return np.concatenate([y, z, a @ x])

    is_right(fun)


def test_a_sparse_array_is_copied_once_for_all_of_its_products() -> None:
    a, kept = sparse.csr_array(D), set()
    with Trace(reverse=True) as trace:
        y = trace.root(X)
        for _ in range(3):
            y = a.T @ (a @ y)
        kept = {id(entry[4]["matrix"]) for entry in trace.tape.values() if "matrix" in entry[4]}
    assert len(kept) <= 4  # A, and a transpose for each time that f makes one


def test_a_sparse_system_is_solved_with_a_traced_right_hand_side() -> None:
    from arraydiff.exact.rules_for_scipy import spsolve

    a = sparse.csc_array(M + np.triu(np.ones((3, 3))))
    is_right(lambda x: spsolve(a, x[:3] ** 2))
    is_right(lambda x: spsolve(a, np.outer(x[:3], x[3:5])))
    is_right(lambda x: spsolve(a.tocsr(), x[:3, None] ** 2))
    assert type(spsolve(a, X[:3])) is np.ndarray
