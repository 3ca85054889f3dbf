"""The table of `tests.problems` on CUDA arrays: same values, same bars, nothing leaves the device."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace

import arraydiff as ad
from gpu_tests.conftest import LIBRARIES_MAY_WARN, REHEARSAL, Device
from tests.claims import METHODS, assert_claim_holds, differentiate
from tests.helpers import assert_like, tonumpy
from tests.problems import PROBLEMS, named

pytestmark = LIBRARIES_MAY_WARN
FEW = named("rosenbrock", "zeros", "two_dimensional_x", "zero_dimensional_x", "norm", "vector_output", "correlation")


def name(problem: Any) -> str:
    return problem.name


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("problem", PROBLEMS, ids=name)
def test_the_derivative_is_right_its_bar_honest_and_its_array_on_the_device_of_x(problem, method, device):
    if device is Device.JAX and problem not in FEW:
        pytest.skip("JAX compiles every operation anew for every shape: a few problems will do")
    x = device.asarray(problem.x)
    assert_claim_holds(differentiate(problem, x, method), problem, x, method)
    np.testing.assert_array_equal(tonumpy(x), problem.x)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("problem", FEW, ids=name)
def test_float32_comes_back_as_float32_and_is_right_to_its_digits(problem, method, device):
    x = device.asarray(problem.x, "float32")
    result = differentiate(problem, x, method)
    assert_like(result.derivative, x, problem.exact.shape)
    error = np.abs(tonumpy(result.derivative).astype(float) - problem.exact)
    rtol = {"forward": 1e-2, "backward": 1e-2, "central": 3e-3}.get(method.name, 1e-3)
    assert np.all(error <= rtol * problem.magnitude()), np.max(error / problem.magnitude())


@pytest.mark.parametrize("problem", FEW, ids=name)
def test_the_hessian_is_right_and_on_the_device_of_x(problem, device):
    if problem.hessian is None or device is Device.JAX:
        pytest.skip("no exact Hessian in the table, or a library that compiles every shape anew")
    x = device.asarray(problem.x)
    H = ad.hessian(problem, unreliable="ignore")(x)
    exact = problem.exact_hessian
    assert_like(H, x, exact.shape)
    np.testing.assert_allclose(tonumpy(H), exact, rtol=0, atol=1e-5 * max(np.max(np.abs(exact)), 1.0))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_batched_evaluation_agrees_with_one_point_a_call(method, device):
    x = device.asarray(np.linspace(0.5, 2.0, 50))

    def f(p):
        xp = array_namespace(p)
        return xp.sum(xp.sin(p) * p, axis=0)

    alone = tonumpy(ad.grad(f, **method.options)(x))
    batched = tonumpy(ad.grad(f, **method.options, vectorized=True)(x))
    np.testing.assert_allclose(batched, alone, rtol=1e-5)  # one rounding of f over h, where one-sided


@contextlib.contextmanager
def waits_counted() -> Iterator[list[str]]:
    """What torch warns of inside: calls that make the host wait for the device."""
    torch = importlib.import_module("torch")
    seen: list[str] = []
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield seen
    finally:
        torch.cuda.set_sync_debug_mode("default")
    seen.extend(str(w.message) for w in caught if "synchroniz" in str(w.message))


@pytest.mark.parametrize("n", [10, 1000])
def test_the_number_of_waits_does_not_grow_with_the_number_of_parameters(n, device):
    if device is not Device.TORCH or REHEARSAL:
        pytest.skip("only torch tells of hidden waits without forbidding them")
    x = device.asarray(np.linspace(0.5, 2.0, n))
    with waits_counted() as waits:
        ad.grad(lambda p: (p.sin() * p).sum(0), method="central", vectorized=True)(x)
    assert len(waits) <= 10
