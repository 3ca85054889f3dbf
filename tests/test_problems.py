"""The table of problems on every array library, by every method: right values, honest bars, x's own kind of array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from tests.claims import (
    ADAPTIVE,
    BACKWARD,
    CENTRAL,
    EXACT,
    FORWARD,
    HIGHER_ORDERS,
    METHODS,
    UNTRACED,
    Method,
    assert_claim_holds,
    differentiate,
)
from tests.helpers import Backend, Recorder, assert_array, assert_like, tonumpy
from tests.problems import PROBLEMS, Problem, named

SCALAR_WITH_HESSIAN = [p for p in PROBLEMS if p.scalar and p.hessian is not None]
VECTOR_WITH_HESSIAN = [p for p in PROBLEMS if not p.scalar and p.hessian is not None]
FEW = named(
    "rosenbrock", "twelve_scales", "zeros", "two_dimensional_x", "zero_dimensional_x", "constant", "absolute_cube",
    "branches", "vector_output", "outer_product", "correlation",
)  # fmt: skip
SHARE: dict[Backend, list[tuple[Method, list[Problem]]]] = {
    Backend.NUMPY: [(method, list(PROBLEMS)) for method in (*METHODS, *HIGHER_ORDERS)],
    Backend.NUMPY_READONLY: [(method, FEW) for method in (ADAPTIVE, UNTRACED, EXACT, CENTRAL)],
    Backend.STRICT: [(method, FEW) for method in (ADAPTIVE, UNTRACED, EXACT, CENTRAL)],
    **{
        backend: [(ADAPTIVE, list(PROBLEMS)), *((method, FEW) for method in METHODS[1:])]
        for backend in (Backend.STRICT_DEVICE1, Backend.TORCH, Backend.JAX)
    },
    Backend.DASK: [(ADAPTIVE, list(PROBLEMS)), *((method, FEW) for method in METHODS[2:] if method is not EXACT)],
    Backend.CUPY: [(method, FEW if method in (EXACT, FORWARD, BACKWARD) else list(PROBLEMS)) for method in METHODS],
}


def cases() -> Iterator[Any]:
    for backend, shares in SHARE.items():
        for method, problems in shares:
            for problem in problems:
                yield pytest.param(backend, problem, method, id=f"{problem.name}-{backend.value}-{method}")


def name(problem: Problem) -> str:
    return problem.name


@pytest.mark.parametrize(("backend", "problem", "method"), list(cases()), indirect=["backend"])
def test_the_derivative_is_right_its_bar_honest_and_its_array_of_the_kind_of_x(backend, problem, method):
    x = backend.asarray(problem.x)
    assert_claim_holds(differentiate(problem, x, method), problem, x, method)
    np.testing.assert_array_equal(tonumpy(x), problem.x)


CERTIFIABLE = [
    p for p in PROBLEMS if p.analytic and p.length > 1e-3
]  # no ray can certify a wave 1e4 times shorter than x


@pytest.mark.parametrize("problem", PROBLEMS, ids=name)
@pytest.mark.parametrize("method", [ADAPTIVE, EXACT], ids=str)
def test_every_problem_is_followed_and_right_to_rounding(problem, method):
    result = differentiate(problem, problem.x, method)
    assert result.method_used is ad.DifferentiationMethod.EXACT, result.explain()
    assert np.all(result.step_sizes == 0)
    error = np.abs(result.derivative - problem.exact)
    assert np.all(error <= 1e-14 * problem.magnitude() / problem.length)


@pytest.mark.parametrize("problem", CERTIFIABLE, ids=name)
def test_by_values_the_complex_step_is_taken_for_analytic_functions_and_it_is_right_to_rounding(problem):
    result = differentiate(problem, problem.x, UNTRACED)
    assert result.method_used is ad.DifferentiationMethod.COMPLEX_STEP, result.explain()
    error = np.abs(result.derivative - problem.exact)
    assert np.all(error <= 1e-14 * problem.magnitude() / problem.length)


EAGER = [Backend.STRICT_DEVICE1, Backend.TORCH, Backend.CUPY]  # one operation of JAX and Dask costs too much for all


@pytest.mark.parametrize("problem", CERTIFIABLE, ids=name)
@pytest.mark.parametrize("method", [ADAPTIVE, UNTRACED], ids=str)
@pytest.mark.parametrize("backend", EAGER, indirect=True, ids=lambda b: b.value)
def test_every_library_agrees_with_numpy_on_analytic_functions(backend, method, problem):
    theirs = differentiate(problem, backend.asarray(problem.x), method)
    ours = differentiate(problem, problem.x, method)
    assert np.all(np.abs(tonumpy(theirs.derivative) - ours.derivative) <= 1e-12 * problem.magnitude())


@pytest.mark.parametrize("problem", named("absolute_cube", "signed_square", "norm"), ids=name)
def test_by_values_the_complex_step_is_refused_where_f_drops_imaginary_parts(problem):
    result = differentiate(problem, problem.x, UNTRACED)
    assert result.method_used is not ad.DifferentiationMethod.COMPLEX_STEP
    assert result.reason


def assert_hessian(problem: Problem, x: Any, result: Any, rtol: float = 1e-5) -> None:
    exact = problem.exact_hessian
    assert_like(result.hessian, x, exact.shape, f"{problem.name}: the Hessian")
    assert_like(result.error_estimate, x, exact.shape, f"{problem.name}: the error estimate")
    got, bar = tonumpy(result.hessian), tonumpy(result.error_estimate)
    m, n = problem.value.size, problem.x.size
    scale = np.where(problem.x == 0, 1.0, np.abs(problem.x)).ravel()
    area = np.multiply.outer(scale, scale)
    rows = np.abs(exact).reshape(m, n, n)
    size = np.max(rows * area, axis=(1, 2)) + np.abs(problem.value).ravel()
    magnitude = np.maximum(rows, size[:, None, None] / area).reshape(exact.shape)
    error = np.abs(got - exact)
    assert np.all(error <= min(rtol * problem.length**-2, 0.2) * magnitude), (problem.name, np.max(error / magnitude))
    assert np.all(error <= 10 * bar + 1e-9 * magnitude / problem.length), (problem.name, error, bar)
    blocks = got.reshape(m, n, n)
    np.testing.assert_array_equal(blocks, np.swapaxes(blocks, 1, 2), err_msg="the Hessian is not symmetric")


@pytest.mark.parametrize("problem", SCALAR_WITH_HESSIAN + VECTOR_WITH_HESSIAN, ids=name)
def test_the_hessian_is_right_symmetric_and_its_bar_honest(problem):
    assert_hessian(problem, problem.x, ad.hessian(problem, unreliable="ignore").result(problem.x))


OTHER_LIBRARIES = [b for b in Backend if b is not Backend.NUMPY]


@pytest.mark.parametrize("problem", named("himmelblau", "zero_dimensional_x", "norm"), ids=name)
@pytest.mark.parametrize("backend", OTHER_LIBRARIES, indirect=True, ids=lambda b: b.value)
def test_the_hessian_is_right_on_every_library(backend, problem):
    x = backend.asarray(problem.x)
    assert_hessian(problem, x, ad.hessian(problem, unreliable="ignore").result(x))


@pytest.mark.parametrize("problem", PROBLEMS, ids=name)
def test_jvp_is_the_jacobian_times_the_tangent(problem):
    tangent = np.linspace(0.5, -1.0, problem.x.size).reshape(problem.x.shape) * np.where(problem.x == 0, 1, problem.x)
    value, pushed = ad.jvp(problem, (problem.x,), (tangent,), unreliable="ignore")
    exact = np.tensordot(problem.exact, tangent, axes=problem.x.ndim)
    size = np.tensordot(problem.magnitude(), np.abs(tangent), axes=problem.x.ndim)
    assert_array(value, problem.value, problem.x, rtol=1e-12, atol=1e-12)
    assert_like(pushed, problem.x, exact.shape)
    assert np.all(np.abs(pushed - exact) <= 1e-10 / problem.length * size)


@pytest.mark.parametrize("problem", PROBLEMS, ids=name)
def test_vjp_is_the_cotangent_times_the_jacobian(problem):
    value, pull = ad.vjp(problem, problem.x, unreliable="ignore")
    cotangent = np.linspace(1.0, -0.5, problem.value.size).reshape(problem.value.shape)
    (pulled,) = pull(cotangent)
    exact = np.tensordot(cotangent, problem.exact, axes=cotangent.ndim)
    size = np.tensordot(np.abs(cotangent), problem.magnitude(), axes=cotangent.ndim)
    assert_array(value, problem.value, problem.x, rtol=1e-12, atol=1e-12)
    assert_like(pulled, problem.x, problem.x.shape)
    assert np.all(np.abs(pulled - exact) <= 1e-10 / problem.length * size)


@pytest.mark.parametrize("problem", SCALAR_WITH_HESSIAN[:8], ids=name)
def test_hvp_is_the_hessian_times_the_tangent(problem):
    tangent = np.linspace(0.5, -1.0, problem.x.size).reshape(problem.x.shape) * np.where(problem.x == 0, 1, problem.x)
    product = ad.hvp(problem, (problem.x,), (tangent,), unreliable="ignore")
    exact = np.tensordot(problem.exact_hessian, tangent, axes=problem.x.ndim)
    size = np.tensordot(np.abs(problem.exact_hessian), np.abs(tangent), axes=problem.x.ndim)
    assert_like(product, problem.x, problem.x.shape)
    assert np.all(np.abs(product - exact) <= min(1e-5 / problem.length**2, 0.2) * (size + np.max(size)))


@pytest.mark.parametrize("problem", FEW, ids=name)
@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("backend", [Backend.NUMPY, Backend.TORCH, Backend.CUPY], indirect=True, ids=lambda b: b.value)
def test_float32_comes_back_as_float32_and_is_right_to_its_digits(backend, problem, method):
    x = backend.asarray(problem.x, "float32")
    result = differentiate(problem, x, method)
    assert_like(result.derivative, x, problem.exact.shape)
    error = np.abs(tonumpy(result.derivative).astype(float) - problem.exact)
    rtol = {"forward": 1e-2, "backward": 1e-2, "central": 3e-3}.get(method.name, 1e-3)
    assert np.all(error <= rtol * problem.magnitude()), np.max(error / problem.magnitude())


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("problem", FEW, ids=name)
def test_counts_are_what_a_recording_f_saw(problem, method):
    seen = Recorder(problem)
    transform = ad.grad if problem.scalar else ad.jacobian
    result = transform(seen, unreliable="ignore", **method.options).result(problem.x)
    assert (result.function_calls, result.function_points) == (seen.calls, seen.points)


def test_the_table_agrees_with_jax():
    jax = pytest.importorskip("jax", reason="jax is not installed: pip install jax")
    jax.config.update("jax_enable_x64", True)
    for problem in PROBLEMS:
        theirs = np.asarray(jax.jacfwd(problem)(jax.numpy.asarray(problem.x)))
        np.testing.assert_allclose(problem.exact / problem.magnitude(), theirs / problem.magnitude(), atol=1e-14)


def test_problem_names_are_unique_and_the_table_is_long_enough():
    assert len({problem.name for problem in PROBLEMS}) == len(PROBLEMS) >= 40
