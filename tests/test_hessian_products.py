"""Products with a Hessian that is never held: `hvp` with a gradient of the user's, and the linear operator."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from array_api_compat import array_namespace
from scipy.optimize import rosen, rosen_der, rosen_hess

import arraydiff as ad
from tests.helpers import Backend, Recorder

X = np.array([0.5, 1.2, -0.7])
POINT = np.linspace(0.5, 1.5, 8)
DIRECTION = np.cos(np.arange(8.0))


def test_a_product_with_a_given_gradient_takes_a_few_of_it_whatever_n() -> None:
    points = set()
    for n in (4, 16, 64):
        x, v = np.linspace(0.5, 1.5, n), np.cos(np.arange(n))
        recorded = Recorder(rosen_der)
        product = ad.hvp(rosen, (x,), (v,), gradient=recorded)
        np.testing.assert_allclose(product, rosen_hess(x) @ v, atol=1e-9)
        points.add(recorded.points)
    assert max(points) <= 12


def test_a_product_without_one_takes_values_in_proportion_to_n() -> None:
    for n in (4, 16, 64):
        x, v = np.linspace(0.5, 1.5, n), np.cos(np.arange(n))
        recorded = Recorder(lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())
        np.testing.assert_allclose(ad.hvp(recorded, (x,), (v,)), rosen_hess(x) @ v, atol=1e-7)
        assert recorded.points <= 10 * (n + 9)


def test_several_primals_give_a_tuple() -> None:
    def slopes(p, q):
        return 2 * p * np.sum(q**3), 3 * p @ p * q**2

    p, q = np.array([1.0, 2.0]), np.array([0.5])
    ours = ad.hvp(lambda p, q: p @ p * np.sum(q**3), (p, q), (p, q), gradient=slopes)
    np.testing.assert_allclose(ours[0], 2 * p * 0.125 + 6 * p * 0.125)
    np.testing.assert_allclose(ours[1], [6 * 0.25 * 5 + 6 * 5 * 0.25])


def test_a_gradient_that_does_not_fit_is_named() -> None:
    x = POINT
    with pytest.raises(ValueError, match="gradient must return the shapes of x"):
        ad.hvp(rosen, (x,), (x,), gradient=lambda x: x[:2])
    with pytest.raises(TypeError, match="gradient wants a function"):
        ad.hvp(rosen, (x,), (x,), gradient=3)


@pytest.mark.parametrize("given", [None, rosen_der], ids=["by values", "by gradients"])
def test_an_operator_serves_the_solvers_of_scipy(given) -> None:
    linalg, optimize = pytest.importorskip("scipy.sparse.linalg"), pytest.importorskip("scipy.optimize")
    x = np.linspace(0.9, 1.1, 8)
    H, exact = ad.hessian_operator(rosen, x, gradient=given, unreliable="ignore"), rosen_hess(x)
    assert isinstance(H, linalg.LinearOperator)
    assert (H.shape, H.dtype) == ((8, 8), np.float64)
    step, failed = linalg.cg(H, rosen_der(x), rtol=1e-10)
    assert failed == 0
    np.testing.assert_allclose(step, np.linalg.solve(exact, rosen_der(x)), rtol=1e-6)
    np.testing.assert_allclose(linalg.eigsh(H, 2)[0], np.linalg.eigvalsh(exact)[-2:], rtol=1e-8)
    np.testing.assert_allclose(H @ np.eye(8), exact, atol=1e-6)
    np.testing.assert_allclose(H.T @ x, exact @ x, atol=1e-6)
    start = np.full(5, 0.7)
    newton = optimize.minimize(
        rosen,
        start,
        jac=rosen_der,
        hess=lambda p: ad.hessian_operator(rosen, p, gradient=given),
        method="Newton-CG",
    )
    krylov = optimize.minimize(
        rosen,
        start,
        jac=rosen_der,
        hessp=lambda p, v: ad.hessian_operator(rosen, p, gradient=given) @ v,
        method="trust-krylov",
    )
    np.testing.assert_allclose([newton.x, krylov.x], np.ones((2, 5)), atol=1e-3)


def test_an_operator_is_over_all_numbers_of_the_primals() -> None:
    def f(p, q):
        return p["a"] ** 2 * np.sum(q**3)

    H = ad.hessian_operator(f, {"a": 2.0}, np.array([[1.0, 2.0]]))
    np.testing.assert_allclose(H @ np.eye(3), [[18, 12, 48], [12, 24, 0], [48, 0, 48]], atol=1e-9)


@pytest.mark.parametrize("size", [0.0, 1e-300, 1e300])
def test_an_operator_is_linear_whatever_the_size_of_the_vector(size) -> None:
    H = ad.hessian_operator(lambda x: np.sum(x**4), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(H @ np.full(3, size), size * np.array([12.0, 48, 108]), rtol=1e-12)
    np.testing.assert_allclose(H @ np.full((3, 1), 1j * size), 1j * size * np.array([[12.0], [48], [108]]), rtol=1e-12)


def test_an_operator_in_single_precision_has_its_dtype() -> None:
    H = ad.hessian_operator(lambda x: (x**4).sum(), np.ones(3, np.float32))
    assert H.dtype == (H @ np.ones(3, np.float32)).dtype == np.float32


def test_an_operator_can_be_pickled() -> None:
    H = pickle.loads(pickle.dumps(ad.hessian_operator(rosen, POINT, gradient=rosen_der)))
    np.testing.assert_allclose(H @ DIRECTION, rosen_hess(POINT) @ DIRECTION, atol=1e-9)


@pytest.mark.parametrize("backend", [Backend.TORCH, Backend.JAX, Backend.STRICT], indirect=True, ids=lambda b: b.value)
def test_a_library_without_operators_is_refused_with_a_way_out(backend) -> None:
    with pytest.raises(TypeError, match="no linear operators: pass NumPy or CuPy arrays, or give hvp"):
        ad.hessian_operator(lambda x: array_namespace(x).sum(x), backend.asarray(X))


def test_an_operator_wants_a_point_of_floats() -> None:
    with pytest.raises(TypeError, match="takes the point too"):
        ad.hessian_operator(rosen)
    with pytest.raises(TypeError, match="int64"):
        ad.hessian_operator(rosen, np.array([1, 2]))
