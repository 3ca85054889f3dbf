"""Large problems on a device: memory that is bounded and given back, a Jacobian on the host, normal equations, a store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace, device

import arraydiff as ad
from arraydiff.backends import backend_of
from gpu_tests.conftest import LIBRARIES_MAY_WARN, REHEARSAL, Device
from tests.helpers import assert_like, tonumpy

pytestmark = LIBRARIES_MAY_WARN
ROWS = 4_000 if REHEARSAL else 400_000
X = np.array([1.3, 0.7, 2.0, 0.4])


def residual(p: Any) -> Any:
    xp = array_namespace(p)
    t = xp.linspace(0.0, 1.0, ROWS, dtype=xp.float64, device=device(p))
    return p[0] * xp.exp(-p[1] * t) + p[2] * xp.sin(p[3] * t) - 1.0


def on_host() -> np.ndarray:
    return np.asarray(ad.jacobian(residual, method="complex_step")(X))


@pytest.mark.parametrize("method", ["adaptive", "central", "richardson"])
def test_a_jacobian_is_the_same_within_little_memory_and_the_device_is_left_as_found(
    device: Device, method: str
) -> None:
    x = device.asarray(X)
    g = ad.jacobian(residual, method=method, max_memory=8 * 400 * ROWS, unreliable="ignore")
    np.testing.assert_allclose(tonumpy(g(x)), on_host(), rtol=1e-6, atol=1e-6)
    used = backend_of([x]).memory_in_use()
    g(x)
    after = backend_of([x]).memory_in_use()
    if used is not None and after is not None and not REHEARSAL:
        assert after[0] <= used[0] + 2**20


def test_a_jacobian_of_a_device_goes_into_a_file_on_the_host(device: Device, tmp_path: Path) -> None:
    out = np.memmap(tmp_path / "J", dtype=float, mode="w+", shape=(ROWS, len(X)))
    assert ad.jacobian(residual, out=out)(device.asarray(X)) is out
    np.testing.assert_allclose(out, on_host(), rtol=1e-9, atol=1e-9)


def test_normal_equations_stay_on_the_device(device: Device) -> None:
    x, jacobian = device.asarray(X), on_host()
    triple = ad.normal_equations(residual)(x)
    for part, truth in zip(triple[:2], (jacobian.T @ jacobian, jacobian.T @ np.asarray(residual(X))), strict=True):
        np.testing.assert_allclose(tonumpy(part), truth, rtol=1e-8, atol=1e-8 * float(np.max(np.abs(truth))))
    assert_like(triple[1], x)


def test_what_was_stored_on_a_device_is_found_there_again(device: Device) -> None:
    x, store = device.asarray(X), {}
    first = ad.jacobian(residual, store=store, method="central").result(x)
    again = ad.jacobian(residual, store=store, method="central").result(x)
    assert again.function_points == 0 < first.function_points
    np.testing.assert_array_equal(tonumpy(again.jacobian), tonumpy(first.jacobian))


def test_threads_evaluate_on_the_device(device: Device) -> None:
    x = device.asarray(X)
    with ThreadPoolExecutor(2) as pool:
        got = ad.jacobian(residual, method="central", workers=pool)(x)
    np.testing.assert_array_equal(tonumpy(got), tonumpy(ad.jacobian(residual, method="central")(x)))
