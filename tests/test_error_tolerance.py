"""error_tolerance: the cheapest scheme that holds it, with bars that say so."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from tests.helpers import Backend, Recorder, assert_array, tonumpy

N = 12
X = np.linspace(0.6, 1.7, N)
TOLERANCES = [10.0**-k for k in range(1, 15)]


def smooth(x: Any) -> Any:
    return np.sum(np.sin(x) * np.exp(x / 3))


def slope(x: np.ndarray) -> np.ndarray:
    return (np.cos(x) + np.sin(x) / 3) * np.exp(x / 3)


def real_only(x: np.ndarray) -> float:
    return float(smooth(x))


def many(x: np.ndarray) -> np.ndarray:
    """Outputs of different sizes, each of all parameters; real numbers only."""
    weights = np.cos(np.outer(np.arange(5), np.arange(N)))
    return (np.float64(1) * np.tanh(weights @ x / N) * 10.0 ** np.arange(-2, 3)).astype(float)


def jacobian_of_many(x: np.ndarray) -> np.ndarray:
    weights = np.cos(np.outer(np.arange(5), np.arange(N)))
    return (10.0 ** np.arange(-2, 3) / np.cosh(weights @ x / N) ** 2)[:, None] * weights / N


def shaken(level: float, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return lambda x: real_only(x) * (1 + level * rng.standard_normal())


def held_to(derivative: np.ndarray, x: np.ndarray) -> np.ndarray:
    effect = np.max(np.abs(derivative * x), axis=-1, keepdims=True)
    return np.maximum(np.abs(derivative), 1e-3 * effect / x)


@pytest.mark.parametrize("tolerance", TOLERANCES)
def test_an_analytic_function_costs_one_point_a_parameter_at_every_tolerance(tolerance: float) -> None:
    seen = Recorder(smooth)
    result = ad.grad(seen, error_tolerance=tolerance).result(X)
    assert seen.points == result.function_points <= N + 1 + 17
    assert np.all(np.abs(result.gradient - slope(X)) <= tolerance * held_to(slope(X), X))


@pytest.mark.parametrize(
    ("tolerance", "method", "a_parameter"), [(1e-3, "forward", 1), (1e-8, "central", 2), (1e-10, "central", 4)]
)
def test_real_differences_are_as_many_as_the_tolerance_asks_for(
    tolerance: float, method: str, a_parameter: int
) -> None:
    result = ad.grad(real_only, error_tolerance=tolerance).result(X)
    assert result.method_used == method
    assert result.function_points <= a_parameter * N + 17
    assert np.all(np.abs(result.gradient - slope(X)) <= tolerance * held_to(slope(X), X))


def test_a_tolerance_that_no_difference_holds_is_left_to_the_ladder_and_warned_of() -> None:
    with pytest.warns(ad.DifferentiationWarning, match="error_tolerance"):
        ad.grad(real_only, error_tolerance=1e-14)(X)
    result = ad.grad(real_only, error_tolerance=1e-14).result(X)
    assert result.method_used == "richardson"
    np.testing.assert_allclose(result.gradient, slope(X), rtol=1e-11)


def test_a_tolerance_that_is_held_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient = ad.grad(real_only, error_tolerance=1e-3)(X)
        jacobian = ad.jacobian(many, error_tolerance=1e-3)(X)
    np.testing.assert_allclose(gradient, slope(X), rtol=1e-3)
    assert jacobian.shape == (*many(X).shape, *X.shape)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-7, 1e-9])
@pytest.mark.parametrize("level", [0.0, 1e-9, 1e-6])
def test_bars_cover_the_truth_with_noise_and_without(level: float, tolerance: float) -> None:
    covered = [
        np.abs(result.gradient - slope(X)) <= result.error_estimate
        for seed in range(12)
        for result in [ad.grad(shaken(level, seed), error_tolerance=tolerance, opaque=True).result(X)]
    ]
    assert np.mean(covered) >= 0.95


def test_noise_makes_a_tolerance_dearer() -> None:
    def points(level: float) -> int:
        return ad.grad(shaken(level), error_tolerance=1e-3, opaque=True).result(X).function_points

    assert points(0.0) < points(1e-8) < points(1e-5)


def test_what_is_vouched_for_has_a_bar_within_the_tolerance() -> None:
    result = ad.grad(shaken(1e-6), error_tolerance=1e-2, opaque=True).result(X)
    bare = ad.grad(shaken(1e-6), error_tolerance=1e-2, opaque=True, unreliable="nan")(X)
    vouched = np.isfinite(bare)
    assert np.mean(vouched) > 0.5
    assert np.all(result.error_estimate[vouched] <= 1.001e-2 * held_to(result.gradient, X)[vouched])


@pytest.mark.parametrize("tolerance", [1e-3, 1e-8])
def test_all_outputs_of_a_vector_share_one_scheme(tolerance: float) -> None:
    result = ad.jacobian(many, error_tolerance=tolerance, opaque=True).result(X)
    error, exact = np.abs(result.jacobian - jacobian_of_many(X)), jacobian_of_many(X)
    assert result.function_points <= (1 if tolerance > 1e-6 else 2) * N + 17
    assert np.mean(error <= tolerance * held_to(exact, X)) >= 0.95
    assert np.mean(error <= result.error_estimate) >= 0.95


@pytest.mark.parametrize("tolerance", [1e-3, 1e-8, 1e-10])
def test_bounds_are_never_crossed_and_a_parameter_on_one_is_right(tolerance: float) -> None:
    lower, upper = X - 1e-3, X + 0.5
    lower[0], upper[1], lower[2], upper[2] = X[0], X[1], X[2] - 1e-10, X[2] + 1e-10
    lower[3] = upper[3] = X[3]
    seen = Recorder(real_only)
    result = ad.grad(seen, error_tolerance=tolerance, bounds=(lower, upper), unreliable="ignore").result(X)
    assert np.all(seen.coordinates >= lower)
    assert np.all(seen.coordinates <= upper)
    assert result.gradient[3] == 0
    assert result.status[3] == ad.Status.FIXED
    free = np.arange(N) != 3
    error = np.abs(result.gradient - slope(X))
    assert np.all(error[free] <= np.maximum(result.error_estimate, 1e-12)[free])


def test_a_kink_is_found_at_loose_tolerances_too() -> None:
    def kinked(x: np.ndarray) -> float:
        return real_only(x) + float(np.abs(x[4] - X[4]))

    result = ad.grad(kinked, error_tolerance=1e-2, opaque=True).result(X)
    assert ad.Status(int(result.status[4])) & ad.Status.KINK


def test_an_edge_beside_one_parameter_costs_that_parameter_alone_more() -> None:
    def edged(x: np.ndarray) -> float:
        return real_only(x) + float(np.sqrt(x[0] - X[0] + 1e-9))

    result = ad.grad(edged, error_tolerance=1e-2, opaque=True, unreliable="ignore").result(X)
    exact = slope(X)
    exact[0] += 0.5 / np.sqrt(1e-9)
    error = np.abs(result.gradient - exact)
    assert np.all(error <= np.maximum(result.error_estimate, 1e-9 * np.abs(exact)))


@pytest.mark.parametrize("budget", [1, 8, 20, 26, 40])
def test_max_evaluations_is_never_exceeded_and_what_is_missing_is_flagged(budget: int) -> None:
    seen = Recorder(real_only)
    options = {"error_tolerance": 1e-8, "max_evaluations": budget, "opaque": True, "unreliable": "ignore"}
    result = ad.grad(seen, **options).result(X)
    assert seen.points <= budget
    right = np.abs(result.gradient - slope(X)) <= 1e-6 * np.abs(slope(X))
    assert np.all(right | ((result.status & int(ad.Status.UNRESOLVED)) != 0))


def test_the_same_bits_whatever_the_chunks() -> None:
    whole = ad.grad(real_only, error_tolerance=1e-8).result(X)
    parts = ad.grad(real_only, error_tolerance=1e-8, chunk_size=5).result(X)
    assert np.array_equal(whole.gradient, parts.gradient)
    assert np.array_equal(whole.error_estimate, parts.error_estimate)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-8])
def test_batches_give_the_same_in_few_rounds(tolerance: float) -> None:
    def batched(x: np.ndarray) -> np.ndarray:
        return np.sum(np.sin(x) * np.exp(x / 3), axis=0)

    result = ad.grad(batched, error_tolerance=tolerance, opaque=True, vectorized=True).result(X)
    assert result.rounds <= 4
    np.testing.assert_allclose(result.gradient, slope(X), rtol=10 * tolerance)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-8])
def test_every_library(backend: Backend, tolerance: float) -> None:
    x, xp = backend.asarray(X), backend.namespace
    result = ad.grad(lambda x: xp.sum(xp.sin(x) * xp.exp(x / 3)), error_tolerance=tolerance, opaque=True).result(x)
    assert_array(result.gradient, slope(X), x, rtol=tolerance)
    assert_array(result.error_estimate, tonumpy(result.error_estimate), x)


def test_float32_takes_its_own_rounding_into_account() -> None:
    x = X.astype(np.float32)
    result = ad.grad(smooth, error_tolerance=1e-2, opaque=True).result(x)
    assert result.gradient.dtype == np.float32
    np.testing.assert_allclose(result.gradient, slope(X), rtol=2e-2)


def test_elementwise_derivatives_and_hessians_take_a_tolerance() -> None:
    elementwise = ad.derivative(np.sin, error_tolerance=1e-3)(X)
    np.testing.assert_allclose(elementwise, np.cos(X), atol=1e-3)
    hessian = ad.hessian(real_only, error_tolerance=1e-3, unreliable="ignore")(X[:4])
    exact = np.diag((2 / 3 * np.cos(X) + (1 / 9 - 1) * np.sin(X)) * np.exp(X / 3))[:4, :4]
    np.testing.assert_allclose(hessian, exact, atol=1e-3)
