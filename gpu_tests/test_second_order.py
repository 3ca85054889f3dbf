"""Second derivatives and sparse ones on a device: right, on the device they came from, and matrices of its library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace, is_cupy_array

import arraydiff as ad
from arraydiff.uncertainty import covariance
from gpu_tests.conftest import LIBRARIES_MAY_WARN, REHEARSAL, Device
from tests.functions import rosenbrock_hessian
from tests.helpers import assert_like, tonumpy

pytestmark = LIBRARIES_MAY_WARN
N = 40 if REHEARSAL else 2_000
X = np.array([0.7, 1.3, -0.4, 0.9])
BAND = abs(np.subtract.outer(np.arange(N), np.arange(N))) <= 1
OPTIONS = pytest.mark.parametrize("options", [{}, {"opaque": True}], ids=["analytic", "opaque"])


def rosenbrock(x: Any) -> Any:
    xp = array_namespace(x)
    return xp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def chain(x: Any) -> Any:
    """Each output sees its parameter and the two beside it."""
    xp, nothing = array_namespace(x), x[:1] * 0.0
    left, right = xp.concat([nothing, x[:-1]]), xp.concat([x[1:], nothing])
    return xp.sin(x) * (1.0 + left * left) + right


def far(n: int) -> np.ndarray:
    return np.linspace(0.3, 1.7, n)


def dense(matrix: Any) -> np.ndarray:
    """What cupyx, or triplets, hold."""
    if hasattr(matrix, "todense"):
        return np.asarray(tonumpy(matrix.todense()))
    out = np.zeros(matrix.shape)
    out[tonumpy(matrix.row), tonumpy(matrix.col)] = tonumpy(matrix.data)
    return out


@OPTIONS
def test_value_gradient_and_hessian_stay_on_the_device(device: Device, options: dict[str, Any]) -> None:
    x, truth = device.asarray(X), rosenbrock_hessian(X)
    value, gradient, hessian = ad.value_and_grad_and_hessian(rosenbrock, **options)(x)
    assert_like(value, x, ())
    assert_like(gradient, x)
    assert_like(hessian, x, (4, 4))
    np.testing.assert_allclose(tonumpy(hessian), truth, atol=1e-7 * np.max(np.abs(truth)))
    assert np.array_equal(tonumpy(hessian), tonumpy(hessian).T)
    np.testing.assert_allclose(tonumpy(gradient), np.asarray(ad.grad(rosenbrock)(X)), rtol=1e-8, atol=1e-6)


@OPTIONS
def test_the_diagonal_and_a_product_are_those_of_the_hessian(device: Device, options: dict[str, Any]) -> None:
    x, truth = device.asarray(X), rosenbrock_hessian(X)
    allowed = 1e-7 * np.max(np.abs(truth))
    diagonal = ad.hessian_diag(rosenbrock, **options)(x)
    assert_like(diagonal, x)
    np.testing.assert_allclose(tonumpy(diagonal), np.diag(truth), atol=allowed)
    v = np.array([1.0, -0.5, 2.0, 0.25])
    product = ad.hvp(rosenbrock, (x,), (device.asarray(v),), **options)
    np.testing.assert_allclose(tonumpy(product), truth @ v, atol=10 * allowed)


def test_a_covariance_takes_a_hessian_of_the_device(device: Device) -> None:
    least = np.ones(4)
    truth = rosenbrock_hessian(least)
    found = covariance(ad.hessian(rosenbrock).result(device.asarray(least)))
    np.testing.assert_allclose(tonumpy(found.covariance), np.linalg.inv(truth), rtol=1e-6, atol=1e-9)


@OPTIONS
@pytest.mark.parametrize("sparsity", ["given", "detect"])
def test_a_sparse_jacobian_is_a_matrix_of_the_device(device: Device, sparsity: str, options: dict[str, Any]) -> None:
    x = far(N)
    found = ad.jacobian(chain, sparsity=BAND if sparsity == "given" else "detect", **options).result(device.asarray(x))
    left, right = np.concatenate([[0.0], x[:-1]]), np.ones(N - 1)
    truth = np.diag(np.cos(x) * (1 + left**2)) + np.diag(right, 1) + np.diag((2 * np.sin(x) * left)[1:], -1)
    np.testing.assert_allclose(dense(found.jacobian), truth, atol=1e-7)
    assert_like(found.jacobian.data, device.asarray(x), tuple(found.jacobian.data.shape))
    if is_cupy_array(found.jacobian.data) and not REHEARSAL:
        assert type(found.jacobian).__module__.startswith("cupyx")
    assert found.function_points < 40 if sparsity == "given" else found.function_points < 200


def test_an_entry_that_the_pattern_leaves_out_is_named(device: Device) -> None:
    pattern = BAND.copy()
    pattern[7, 6] = False
    with pytest.raises(ad.sparse.SparsityError, match=r"row 7\b"):
        ad.jacobian(chain, sparsity=pattern)(device.asarray(far(N)))


def test_a_sparse_hessian_by_terms_and_by_the_gradient(device: Device) -> None:
    x = far(N)

    def terms(x: Any) -> Any:
        return 100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2

    def gradient(x: Any) -> Any:
        xp, nothing, pull = array_namespace(x), x[:1] * 0.0, x[1:] - x[:-1] ** 2
        up = xp.concat([nothing, 200.0 * pull])
        return up - xp.concat([400.0 * x[:-1] * pull + 2.0 * (1.0 - x[:-1]), nothing])

    truth, placed = rosenbrock_hessian(x), device.asarray(x)
    for matrix in (
        ad.hessian(terms, terms=True)(placed),
        ad.hessian(rosenbrock, gradient=gradient, sparsity=BAND)(placed),
    ):
        np.testing.assert_allclose(dense(matrix), truth, atol=1e-6 * np.max(np.abs(truth)))


def test_columns_in_which_f_is_linear_are_right_to_rounding(device: Device) -> None:
    t = np.linspace(0.0, 1.0, 50)

    def decay(p: Any) -> Any:
        times = device.asarray(t)
        return p[0] * array_namespace(p).exp(-p[1] * times) + p[2]

    jacobian = tonumpy(ad.jacobian(decay, method="central", linear=[0, 2])(device.asarray([1.3, 0.7, 0.2])))
    np.testing.assert_allclose(jacobian[:, 0], np.exp(-0.7 * t), atol=1e-13)
    np.testing.assert_allclose(jacobian[:, 2], 1.0, atol=1e-13)
