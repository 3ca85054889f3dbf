"""A plan: learnt at one x, a function of x alone, as cheap as a fixed stencil, and able to say that it is out of date."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from arraydiff.plan import Plan
from tests.helpers import Backend, Recorder, assert_array

N = 8
START = np.linspace(0.5, 1.2, N)
X = START * (1 + 0.1 * np.cos(np.arange(N)))
WAYS = [
    {},
    {"trace": False},
    {"error_tolerance": 1e-3, "trace": False},
    {"method": "forward"},
    {"method": "central"},
    {"method": "central", "order": 4},
    {"error_tolerance": 1e-3, "noise": None, "trace": False},
]


def cost(x: Any) -> Any:
    return np.sum((x[1:] - x[:-1] ** 2) ** 2) + np.sum((1 - x) ** 2)


def slope(x: np.ndarray) -> np.ndarray:
    step = x[1:] - x[:-1] ** 2
    gradient = -2 * (1 - x)
    gradient[1:] += 2 * step
    gradient[:-1] -= 4 * x[:-1] * step
    return gradient


def residual(x: Any) -> Any:
    return np.concatenate([x[1:] - x[:-1] ** 2, 1 - x])


def shaken(level: float) -> Any:
    def fun(x: np.ndarray) -> float:
        rng = np.random.default_rng(np.ascontiguousarray(x).view(np.uint32))
        return float(cost(x)) + level * rng.standard_normal()

    return fun


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_a_plan_gives_the_gradient_at_other_points(options: dict[str, Any]) -> None:
    plan = ad.grad(cost, **options).plan(START)
    result = plan.result(X)
    np.testing.assert_allclose(plan(X), slope(X), atol=1e-5)
    assert np.array_equal(plan(X), result.gradient)
    assert np.mean(np.abs(result.gradient - slope(X)) <= result.error_estimate) >= 0.85
    assert result.value == cost(X)


@pytest.mark.parametrize(
    ("options", "points"),
    [({"trace": False}, 2 * N + 1), ({"error_tolerance": 1e-3, "trace": False}, N + 1), ({"method": "forward"}, N + 1)],
    ids=str,
)
def test_a_plan_costs_a_fixed_number_of_points(options: dict[str, Any], points: int) -> None:
    seen = Recorder(cost)
    plan = ad.value_and_grad(seen, **options).plan(START)
    for bare, extra in ((True, 0), (False, 2)):
        before = seen.points
        plan(X) if bare else plan.result(X)
        assert seen.points - before == points + extra


def test_a_plan_of_code_that_is_followed_calls_f_once_and_is_held_to_plain_f_now_and_then() -> None:
    seen = Recorder(cost)
    plan, costs = ad.value_and_grad(seen).plan(START), []
    assert plan.method == "exact"
    for k in range(160):
        before = seen.calls
        value, gradient = plan(X + 1e-3 * k)
        costs.append(seen.calls - before)
        assert value == cost(X + 1e-3 * k)
        np.testing.assert_allclose(gradient, slope(X + 1e-3 * k), rtol=1e-11, atol=1e-12)
    assert set(costs) == {1, 4}
    assert 2 <= costs.count(4) <= 30
    again = pickle.loads(pickle.dumps(ad.grad(cost).plan(START)))
    assert np.array_equal(again(X), ad.grad(cost)(X))
    with pytest.raises(TypeError, match="cannot follow f"):
        ad.grad(lambda x: float(cost(x)), method="exact").plan(START)


def test_learning_takes_a_few_points_a_parameter() -> None:
    seen = Recorder(cost)
    plan = ad.grad(seen, trace=False).plan(START)
    assert plan.points_learnt == seen.points <= 4 * N + 13
    assert ad.grad(cost, error_tolerance=1e-3, trace=False).plan(START).points_learnt <= 17


def test_a_plan_is_a_function_of_x_alone() -> None:
    plan = ad.grad(cost).plan(START)
    first = plan(X)
    for other in (START, 2 * X, -X):
        plan(other), plan.result(other), plan.stale(other)
    assert np.array_equal(plan(X), first)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(again, first) for again in pool.map(plan, [X] * 16))


def test_a_plan_can_be_pickled() -> None:
    plan = ad.grad(cost, error_tolerance=1e-3).plan(START)
    copy: Plan = pickle.loads(pickle.dumps(plan))
    assert np.array_equal(copy(X), plan(X))


@pytest.mark.parametrize("level", [1e-9, 1e-6])
def test_bars_of_a_noisy_function_cover_the_truth_elsewhere(level: float) -> None:
    fun, covered = shaken(level), []
    plan = ad.grad(fun, unreliable="ignore").plan(START)
    for i in range(20):
        x = START * (1 + 0.1 * np.cos(np.arange(N) + i))
        result = plan.result(x)
        covered.append(np.abs(result.gradient - slope(x)) <= result.error_estimate)
        np.testing.assert_allclose(result.noise_level, level, rtol=5)
    assert np.mean(covered) >= 0.95


def test_a_plan_says_when_f_changes_faster_than_where_it_was_learnt() -> None:
    def bent(x: np.ndarray) -> float:  # lengths of 1 at x = 1, of 1 / 30 at x = 6
        return float(np.sum(np.sin(x**3)))

    plan = ad.grad(bent, opaque=True).plan(np.full(N, 0.5))
    far = np.linspace(7.7, 8.3, N)
    assert not plan.stale(np.full(N, 0.6))
    assert plan.stale(far)
    assert any("refresh" in text for text in plan.result(far).warnings)
    fresh = plan.refresh(far)
    assert not fresh.stale(far)
    exact = 3 * far**2 * np.cos(far**3)
    assert np.max(np.abs(fresh(far) - exact)) < np.max(np.abs(plan(far) - exact))


def test_parameters_of_all_lengths_have_their_own_steps() -> None:
    lengths = 10.0 ** np.linspace(-4, 4, N)

    def stretched(x: np.ndarray) -> float:
        return float(np.sum(np.sin(x / lengths) + (x / lengths) ** 2))

    x = lengths * np.linspace(0.5, 1.5, N)
    plan = ad.grad(stretched, opaque=True, scale=np.ones(N)).plan(x * 1.1)
    exact = (np.cos(x / lengths) + 2 * x / lengths) / lengths
    np.testing.assert_allclose(plan(x)[:6], exact[:6], rtol=1e-6)


def test_bounds_hold_at_every_x() -> None:
    lower, upper = np.full(N, 0.5), np.full(N, 1.3)
    upper[2] = lower[2] + 1e-9
    lower[3] = upper[3] = 0.8
    start = np.clip(START, lower, upper)
    for options in WAYS:
        seen = Recorder(cost)
        plan = ad.grad(seen, bounds=(lower, upper), unreliable="ignore", **options).plan(start)
        for x in (start, lower.copy(), upper.copy()):
            plan.result(x)
            free = np.arange(N) > 3
            np.testing.assert_allclose(plan(x)[free], slope(x)[free], atol=1e-4)
        assert np.all(seen.coordinates >= lower)
        assert np.all(seen.coordinates <= upper)


def test_jacobians_and_trees_come_back_in_their_form() -> None:
    plan = ad.jacobian(residual).plan(START)
    np.testing.assert_allclose(plan(X), ad.jacobian(residual)(X), atol=1e-9)
    tree = {"a": START[:3], "b": START[3:]}
    gradient = ad.grad(lambda t: cost(np.concatenate([t["a"], t["b"]]))).plan(tree)(tree)
    np.testing.assert_allclose(np.concatenate([gradient["a"], gradient["b"]]), slope(START), atol=1e-8)


def test_the_jacobian_of_a_planned_gradient_is_a_hessian() -> None:
    plan = ad.grad(cost).plan(START)
    hessian = ad.jacobian(plan, unreliable="ignore")(X)
    np.testing.assert_allclose(hessian, ad.hessian(cost)(X), atol=1e-4)


def test_what_cannot_be_planned_names_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"jacobian\(grad\(f\).plan"):
        ad.hessian(cost).plan(START)
    with pytest.raises(ValueError, match="call it as it is"):
        ad.derivative(np.sin).plan(START)
    with pytest.raises(ValueError, match="'forward' or 'central'"):
        ad.grad(cost, method="complex_step").plan(START)
    with pytest.raises(ValueError, match="anew"):
        ad.grad(cost, trace=False).plan(START)(START[:3])


def test_a_failure_of_f_is_warned_of_by_a_bare_call() -> None:
    def limited(x: np.ndarray) -> float:
        return float(cost(x)) if x[0] == X[0] else float("nan")

    plan = ad.grad(cost, trace=False).plan(START)
    failing = Plan(ad.grad(limited), plan.learnt, 0)
    with pytest.warns(ad.DifferentiationWarning, match="FAILED"):
        gradient = failing(X)
    assert np.isnan(gradient[0])
    np.testing.assert_allclose(gradient[1:], slope(X)[1:], atol=1e-8)


@pytest.mark.parametrize("options", [{}, {"trace": False}, {"error_tolerance": 1e-3, "trace": False}], ids=str)
def test_every_library(backend: Backend, options: dict[str, Any]) -> None:
    start, x, xp = backend.asarray(START), backend.asarray(X), backend.namespace
    plan = ad.grad(lambda x: xp.sum(xp.sin(x) * x), **options).plan(start)
    assert_array(plan(x), np.sin(X) + X * np.cos(X), x, rtol=1e-6)
    assert_array(plan.result(x).derivative, np.sin(X) + X * np.cos(X), x, rtol=1e-6)


def test_least_squares_with_a_plan_ends_where_two_point_differences_end() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    seen = Recorder(residual)
    found = optimize.least_squares(residual, START, jac=ad.jacobian(seen, error_tolerance=1e-3).plan(START))
    theirs = optimize.least_squares(residual, START)
    assert found.cost <= theirs.cost + 1e-12
    assert found.njev <= theirs.njev + 1
