"""Code that is followed on a device: exact, on the device that it came from, and held to plain f there."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

import arraydiff as ad
from gpu_tests.conftest import LIBRARIES_MAY_WARN, REHEARSAL, Device
from tests.functions import rosenbrock_hessian
from tests.helpers import assert_like, tonumpy

pytestmark = LIBRARIES_MAY_WARN
N = 1_000 if REHEARSAL else 1_000_000
X = np.array([0.7, 1.3, -0.4, 0.9])


def rosenbrock(x: Any) -> Any:
    xp = array_namespace(x)
    return xp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def slope(x: np.ndarray) -> np.ndarray:
    step, made = x[1:] - x[:-1] ** 2, np.zeros_like(x)
    made[1:] += 200 * step
    made[:-1] -= 400 * x[:-1] * step + 2 * (1 - x[:-1])
    return made


def test_a_gradient_of_a_million_parameters_takes_four_evaluations(device: Device) -> None:
    far = np.linspace(-1.0, 1.3, N)
    result = ad.grad(rosenbrock).result(device.asarray(far))
    assert result.method_used == "exact", result.reason
    assert result.function_points <= 5
    assert_like(result.gradient, device.asarray(far))
    np.testing.assert_allclose(tonumpy(result.gradient), slope(far), rtol=1e-10, atol=1e-9)


def test_rows_columns_and_products_are_those_of_the_host(device: Device) -> None:
    x = device.asarray(X)
    wide = ad.jacobian(lambda x: array_namespace(x).exp(x) * x[0]).result(x)
    assert wide.method_used == "exact", wide.reason
    right = np.diag(np.exp(X) * X[0])
    right[:, 0] += np.exp(X)
    np.testing.assert_allclose(tonumpy(wide.jacobian), right, rtol=1e-13)
    assert np.all(np.abs(tonumpy(wide.jacobian) - right) <= tonumpy(wide.error_estimate))
    hessian = ad.hessian(rosenbrock)(x)
    assert_like(hessian, x, (4, 4))
    np.testing.assert_allclose(tonumpy(hessian), rosenbrock_hessian(X), rtol=1e-10, atol=1e-9)
    product = ad.hvp(rosenbrock, (x,), (device.asarray(np.ones(4)),))
    np.testing.assert_allclose(tonumpy(product), rosenbrock_hessian(X) @ np.ones(4), rtol=1e-9, atol=1e-8)


def test_a_kink_on_the_device_is_flagged_at_its_entry(device: Device) -> None:
    x = device.asarray(np.array([0.0, 1.0, -2.0]))
    result = ad.grad(lambda x: array_namespace(x).sum(abs(x) * x[1]), unreliable="ignore").result(x)
    flags = [bool(flag & ad.Status.KINK) for flag in tonumpy(result.status).tolist()]
    assert flags == [True, False, False]


def test_what_is_not_followed_says_why(device: Device) -> None:
    result = ad.grad(lambda x: rosenbrock(x) * float(array_namespace(x).max(x))).result(device.asarray(X))
    assert result.method_used != "exact"
    assert result.reason
