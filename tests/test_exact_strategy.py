"""Exact as a method of the transforms: where it is taken, what it refuses, how it is held to plain f, how right its bars are."""

from __future__ import annotations

import math
import threading
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace

import arraydiff as ad
from arraydiff import exact
from arraydiff.callables import MOST_REFUSALS
from tests.helpers import Backend, Recorder, assert_array, is_traced, tonumpy

X = np.array([0.7, -1.2, 0.4, 2.0])
T = np.linspace(0.0, 2.0, 30)


def cost(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def cost_slope(x: np.ndarray) -> np.ndarray:
    g = np.zeros_like(x)
    g[1:] += 200 * (x[1:] - x[:-1] ** 2)
    g[:-1] += -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    return g


def decay(p: Any) -> Any:
    return p[0] * np.exp(-p[1] * T) + p[2]


def through_float(x: Any) -> Any:
    return float(x[0]) ** 2 + np.sum(x[1:] ** 2)


def test_the_default_follows_plain_numpy_and_takes_four_evaluations_whatever_n() -> None:
    for n in (2, 50, 2000):
        x = np.linspace(-1.0, 1.3, n)
        f = Recorder(cost)
        result = ad.grad(f).result(x)
        assert (result.method_used, result.function_points, result.function_calls) == ("exact", 4, 4)
        assert (f.points, f.calls) == (4, 4)
        np.testing.assert_allclose(result.gradient, cost_slope(x), rtol=1e-12, atol=1e-12)
        assert result.reason == ""
        assert "exact" in result.explain()


def test_a_refusal_names_what_f_did_and_where_and_values_of_f_go_on() -> None:
    f = Recorder(through_float)
    result = ad.grad(f).result(X)
    assert result.method_used == "richardson"
    assert "float(x)" in result.reason
    assert "test_exact_strategy.py line" in result.reason
    assert f.calls == result.function_calls
    untraced = ad.grad(through_float, trace=False).result(X)
    assert result.function_points == untraced.function_points + 1  # a refusal costs one evaluation
    assert np.array_equal(result.gradient, untraced.gradient)


def test_a_refusal_that_would_come_again_is_kept_on_the_callable_until_it_is_forgotten() -> None:
    g = ad.grad(through_float)
    first, second = g.result(X), g.result(X + 1)
    assert second.function_points < first.function_points
    assert "float(x)" in second.reason
    g.forget()
    assert g.result(X).function_points == first.function_points


def test_refusals_are_kept_by_what_arguments_are_and_no_more_of_them_than_so_many() -> None:
    g = ad.grad(lambda x, power: float(x[0]) ** power, unreliable="ignore")
    for power in range(2, MOST_REFUSALS + 10):
        g(X, power)
    assert len(g.learnt) == 1 + MOST_REFUSALS
    assert "complex" in g.learnt


def test_what_one_value_of_an_argument_refuses_says_nothing_of_another() -> None:
    g = ad.grad(lambda x, t: float(x[0]) ** 2 if t > 1 else np.sum(x**2))
    assert [str(g.result(X, t).method_used.value) for t in (0.5, 2.0, 0.5)] == ["exact", "richardson", "exact"]


def test_a_small_output_is_held_to_plain_f_beside_a_large_one() -> None:
    def f(x: Any, big: float) -> Any:
        slope = 7.0 if is_traced(x) else 6.0  # what no tracer sees
        return np.stack([x[0] * big, slope * x[1]])

    for big in (1.0, 1e9, 1e160):
        result = ad.jacobian(lambda x, big=big: f(x, big), unreliable="ignore").result(X[:2])
        assert result.method_used != "exact"
        assert result.jacobian[1, 1] == pytest.approx(6.0, rel=1e-9)


def test_kinks_of_some_of_many_entries_beside_x_do_not_keep_f_from_being_followed() -> None:
    random = np.random.default_rng(5)
    weights = random.normal(size=50_000)
    points = []
    for _ in range(5):
        x = random.normal(size=weights.size)
        result = ad.grad(lambda x: np.sum(weights * np.maximum(x, 0.3) ** 2)).result(x)
        points.append(result.function_points)
        np.testing.assert_allclose(result.gradient, np.where(x > 0.3, 2 * weights * x, 0), rtol=1e-14)
    assert max(points) <= 6 < sum(points)


def test_records_tell_what_rounding_leaves_where_no_bars_are_made() -> None:
    for transform in (ad.grad, ad.hessian, ad.hessian_diag, ad.value_and_grad_and_hessian):
        with ad.record() as total:
            transform(cost)(X)
        assert 2e-16 <= total.worst_bar <= 1e-15


def test_a_refusal_on_a_branch_that_another_x_does_not_take_is_not_kept() -> None:
    def f(x: Any) -> Any:
        return float(x[0]) ** 2 if x[0] > 0 else np.sum(x**2)

    g = ad.grad(f)
    assert g.result(X).method_used != "exact"
    fresh, used = ad.grad(f).result(-X), g.result(-X)
    assert fresh.method_used == used.method_used == "exact"
    assert np.array_equal(fresh.gradient, used.gradient)


def test_exact_by_name_raises_where_f_cannot_be_followed() -> None:
    with pytest.raises(TypeError, match=r"float\(x\).*test_exact_strategy.py line.*leave method out"):
        ad.grad(through_float, method="exact")(X)
    with pytest.raises(TypeError, match=r"float\(x\)"):
        ad.hessian(through_float, method="exact")(X)
    with pytest.raises(ValueError, match="trace=False"):
        ad.grad(cost, method="exact", trace=False)
    with pytest.raises(ValueError, match="opaque=True"):
        ad.grad(cost, method="exact", opaque=True)


class Shifting:
    """Gives another value each time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Any) -> Any:
        self.calls += 1
        return np.sum(x**2) + 1e-3 * self.calls


def typed(x: Any) -> Any:
    return np.sum(x**2) if type(x) is np.ndarray else 2 * np.sum(x**2)


def typed_slope(x: Any) -> Any:
    """The same value to what records it, and half the derivative."""
    return np.sum(x**2) if type(x) is np.ndarray else np.sum(x) * 0 + np.sum(x * exact.plain(x))


@pytest.mark.parametrize("f", [Shifting(), typed, typed_slope], ids=["random", "by type", "by type, in the derivative"])
def test_what_plain_f_belies_is_not_taken(f: Callable[..., Any]) -> None:
    result = ad.grad(f, unreliable="ignore").result(X)
    assert result.method_used != "exact"
    assert "not confirmed by plain f" in result.reason
    if f is not typed and not isinstance(f, Shifting):
        np.testing.assert_allclose(result.gradient, 2 * X, rtol=1e-9)
    by_name = ad.grad(f, method="exact").result(X)
    assert (by_name.status != 0).all()
    assert any("not confirmed" in text for text in by_name.warnings)
    with pytest.warns(ad.DifferentiationWarning, match="not confirmed"):
        ad.grad(f, method="exact")(X)


def test_no_outputs_have_an_empty_derivative_whoever_looks() -> None:
    for options in ({}, {"verify_trace": False}):
        assert ad.jacobian(lambda x: x[:0], **options)(X).shape == (0, X.size)


def test_verify_trace_false_calls_f_once_and_gives_the_same_bits() -> None:
    f = Recorder(cost)
    for transform in (ad.grad, ad.value_and_grad, ad.jacobian):
        f.calls = 0
        quick = transform(f, verify_trace=False)(X)
        assert f.calls == 1
        full = transform(cost)(X)
        pairs = zip(quick, full, strict=True) if isinstance(full, tuple) else [(quick, full)]
        assert all(np.array_equal(one, other) for one, other in pairs)
    wide = ad.jacobian(decay, verify_trace=False)
    assert np.array_equal(wide(X[:3]), ad.jacobian(decay).result(X[:3]).jacobian)
    with ad.record() as total:
        ad.grad(cost, verify_trace=False)(X)
    assert total.calls == 1


def test_trace_false_never_traces() -> None:
    kinds = set()

    def f(x: Any) -> Any:
        kinds.add(is_traced(x))
        return cost(x)

    assert ad.grad(f, trace=False).result(X).method_used == "complex_step"
    assert kinds == {False}


def test_entries_at_a_kink_are_flagged_and_no_others() -> None:
    x = np.array([0.0, 1.0, -2.0, 0.0])
    result = ad.grad(lambda x: np.sum(np.abs(x) * x[1]), unreliable="ignore").result(x)
    assert result.method_used == "exact"
    assert [bool(s & ad.Status.KINK) for s in result.status] == [True, False, False, True]
    np.testing.assert_allclose(result.gradient[1:3], [4.0, -1.0], rtol=1e-12)
    assert "differences stand in" in result.reason
    with pytest.warns(ad.DifferentiationWarning, match="KINK"):
        ad.grad(lambda x: np.sum(np.abs(x)))(x)
    smooth = ad.grad(lambda x: np.sum(np.abs(x) ** 2)).result(x)
    assert (smooth.status == 0).all()
    clipped = ad.jacobian(lambda x: np.maximum(x, 0.0), unreliable="ignore").result(x)
    assert (clipped.status[~np.eye(4, dtype=bool)] == 0).all()


def test_entries_whose_derivative_is_not_finite_are_taken_from_differences() -> None:
    x = np.array([0.0, 1.0, 4.0])
    with np.errstate(all="raise"):  # nothing is said in the open that plain f does not say
        result = ad.grad(lambda x: np.sum(x * np.sqrt(x)), bounds=(0.0, None)).result(x)
    np.testing.assert_allclose(result.gradient[1:], 1.5 * np.sqrt(x[1:]), rtol=1e-12)
    assert not np.isnan(result.gradient[0])
    assert "differences stand in" in result.reason
    masked = ad.grad(lambda x: np.sum(np.where(x > 0, x * np.log(np.where(x > 0, x, 1.0)), 0.0))).result(x + 0.5)
    np.testing.assert_allclose(masked.gradient, 1 + np.log(x + 0.5), rtol=1e-12)


def integral(x: Any) -> Any:
    """Differences of a long sum, whose rounding goes from each entry into all that follow."""
    total = np.cumsum(np.exp(-np.abs(x[0]) * np.linspace(0, 3, 1000, dtype=x.dtype)) * (1 + x[1] ** 2))
    return np.sum((total[100:] - total[:-100] - np.abs(x[2])) ** 2)


FAMILY: dict[str, Callable[[Any], Any]] = {
    "chain": cost,
    "log of a sum": lambda x: np.log(np.sum(np.exp(x))),
    "fit": lambda x: np.sum((x[0] * np.exp(-x[1] * T.astype(x.dtype)) + x[2] - np.exp(-T.astype(x.dtype))) ** 2),
    "statistics": lambda x: np.std(x) / (1 + np.mean(x) ** 2),
    "sums that cancel": lambda x: (np.sum(x) - 1.0001 * np.sum(x[::-1])) ** 2,
    "fast": lambda x: np.sum(np.sin(50 * x) * np.cos(x)),
    "polynomial": lambda x: np.sum(((x + 3) * x - 7) * x**3),
    "running sum": lambda x: np.sum(np.cumsum(x) ** 2),
    "integral": integral,
}


@pytest.mark.parametrize("name", FAMILY)
def test_bars_of_rounding_hold_where_single_precision_shows_them(name: str) -> None:
    f, random = FAMILY[name], np.random.default_rng(5)
    held, ratios = [], []
    for _ in range(25):
        x = (random.normal(size=5) * 10 ** random.uniform(-1, 1)).astype(np.float32)
        for transform in (ad.grad, ad.hessian):
            result = transform(f, method="exact", verify_trace=False).result(x)
            right = np.asarray(transform(f, verify_trace=False)(x.astype(np.float64)))
            error, bar = np.abs(result.derivative - right), result.error_estimate.astype(float)
            held.append(error <= bar)
            ratios += (bar[error > 0] / error[error > 0]).tolist()
    assert np.mean(np.concatenate([part.ravel() for part in held])) >= 0.95
    assert np.median(ratios) <= 100


def test_least_squares_are_followed_at_their_solution() -> None:
    a = np.random.default_rng(0).normal(size=(20, 5))
    b = a @ np.ones(5)
    for transform, f, x in (
        (ad.grad, lambda x: np.sum((a @ x - b) ** 2), np.ones(5)),
        (ad.jacobian, lambda x: (a @ x - b) ** 2, np.ones(5)),
        (ad.grad, cost, np.ones(4)),
        (ad.grad, lambda p: np.sum((decay(p) - decay(np.array([2.0, 0.5, 0.1]))) ** 2), np.array([2.0, 0.5, 0.1])),
        (ad.grad, lambda x: np.sum(x**2), np.zeros(3)),
    ):
        result = transform(f).result(x)
        assert (result.method_used, result.function_points) == ("exact", 6)
        assert not result.status.any()


def test_bars_of_long_running_sums_hold_backwards_too() -> None:
    random = np.random.default_rng(0)
    x, weights = random.normal(size=(2, 3000))
    result = ad.grad(lambda x: np.sum(np.cumsum(x) * weights)).result(x)
    right = np.asarray([math.fsum(weights[i:]) for i in range(x.size)])
    assert np.mean(np.abs(result.gradient - right) <= result.error_estimate) > 0.99


def test_second_derivatives_are_those_of_the_code() -> None:
    n = 4
    right = np.zeros((n, n))
    for i in range(n - 1):
        right[i, i] += 1200 * X[i] ** 2 - 400 * X[i + 1] + 2
        right[i + 1, i + 1] += 200
        right[i, i + 1] = right[i + 1, i] = -400 * X[i]
    result = ad.hessian(cost).result(X)
    assert (result.method_used, result.function_points) == ("exact", 6)
    np.testing.assert_allclose(result.hessian, right, rtol=1e-12, atol=1e-10)
    assert (np.abs(result.hessian - right) <= result.error_estimate + 1e-15 * np.abs(right)).all()
    assert np.array_equal(result.hessian, result.hessian.T)
    np.testing.assert_allclose(ad.hessian_diag(cost)(X), np.diag(right), rtol=1e-12)
    value, gradient, hessian = ad.value_and_grad_and_hessian(cost)(X)
    assert value == cost(X)
    np.testing.assert_allclose(gradient, cost_slope(X), rtol=1e-12)
    assert np.array_equal(hessian, result.hessian)
    v = np.array([1.0, -1.0, 0.5, 2.0])
    product = ad.hvp(cost, (X,), (v,), full_output=True)
    assert product.method_used == "exact"
    np.testing.assert_allclose(product.derivative[0], right @ v, rtol=1e-12)
    many = ad.hessian(lambda x: np.stack([cost(x), np.sum(x**3)]))(X)
    np.testing.assert_allclose(many[1], np.diag(6 * X), rtol=1e-12, atol=1e-12)
    pinned = ad.hessian(cost, bounds=(np.array([-9, -1.2, -9, -9.0]), np.array([9, -1.2, 9, 9.0]))).result(X)
    free = [0, 2, 3]
    np.testing.assert_allclose(pinned.hessian[np.ix_(free, free)], right[np.ix_(free, free)], rtol=1e-12, atol=1e-10)
    assert (pinned.hessian[1] == 0).all()
    assert (pinned.status[1] & ad.Status.FIXED != 0).all()


def test_derivatives_inside_of_derivatives_do_not_confuse_their_perturbations() -> None:
    assert ad.grad(lambda x: x * ad.grad(lambda y: x + y)(1.0))(3.0) == 1.0
    assert ad.grad(lambda x: x * ad.grad(lambda y: x * y)(1.0))(3.0) == 6.0
    assert ad.grad(lambda x: ad.jvp(lambda y: y**3 * x, (2.0,), (1.0,))[1])(3.0) == 12.0
    assert ad.grad(lambda x: ad.vjp(lambda y: y**3 * x, 2.0)[1](1.0)[0])(3.0) == pytest.approx(12.0, rel=1e-9)
    third = ad.grad(ad.grad(ad.grad(np.sin))).result(0.3)
    assert third.method_used == "exact"
    np.testing.assert_allclose(third.gradient, -np.cos(0.3), rtol=1e-14)
    nested = ad.grad(lambda y: np.sum(ad.grad(cost)(y) ** 2)).result(X)
    assert nested.method_used == "exact"
    np.testing.assert_allclose(nested.gradient, 2 * ad.hessian(cost)(X) @ cost_slope(X), rtol=1e-11)
    of_hessian = ad.jacobian(lambda x: ad.hessian(cost)(x)[0, 0]).result(X)
    assert of_hessian.method_used == "exact"
    np.testing.assert_allclose(of_hessian.jacobian, [2400 * X[0], -400, 0, 0], rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "central"},
        {"opaque": True},
        {"trace": False},
        {"noise": 1e-9},
        {"step_size": 1e-5},
        {"max_step": 1e-2},
    ],
    ids=str,
)
def test_differences_inside_of_what_is_traced_stay_differences(options: dict[str, Any]) -> None:
    result = ad.grad(lambda y: np.sum(ad.grad(cost, **options)(y) ** 2), unreliable="ignore").result(X)
    assert result.method_used != "exact"
    assert "grad inside of what is traced is made of differences: " in result.reason
    np.testing.assert_allclose(result.gradient, 2 * ad.hessian(cost)(X) @ cost_slope(X), rtol=1e-3)


@contextmanager
def served(backend: Backend) -> Iterator[Any]:
    """X in a library, or the reason why that is not there."""
    reason = backend.reason_to_skip()
    if reason:
        pytest.skip(reason)
    with backend.active():
        yield backend.asarray(X)


FOLLOWED = [backend for backend in Backend if backend is not Backend.DASK]


@pytest.mark.parametrize("backend", FOLLOWED, ids=lambda backend: backend.value)
def test_array_api_code_is_followed_on_every_library_whose_arrays_have_values(backend: Backend) -> None:
    with served(backend) as x:

        def f(x: Any) -> Any:
            xp = array_namespace(x)
            return xp.sum(xp.exp(x) * x) + xp.sum(x[1:] * x[:-1])

        right = np.exp(X) * (1 + X)
        right[1:] += X[:-1]
        right[:-1] += X[1:]
        for transform, options in ((ad.grad, {}), (ad.grad, {"verify_trace": False}), (ad.jacobian, {})):
            result = transform(f, **options).result(x)
            assert result.method_used == "exact", result.reason
            assert_array(result.derivative, right, x)
        assert_array(ad.grad(f, verify_trace=False)(x), right, x)
        by_columns = ad.jacobian(lambda x: array_namespace(x).exp(x) * x[0]).result(x)
        assert by_columns.method_used == "exact", by_columns.reason
        second = ad.hessian(lambda x: array_namespace(x).sum(x**3)).result(x)
        assert_array(second.hessian, np.diag(6 * X), x, atol=1e-6)


@pytest.mark.parametrize("backend", [Backend.TORCH, Backend.JAX], ids=lambda backend: backend.value)
def test_torch_and_jax_use_their_own_differentiation_and_are_held_to_plain_f(backend: Backend) -> None:
    with served(backend) as x:

        def f(x: Any) -> Any:
            return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

        result = ad.grad(f).result(x)
        assert result.method_used == "exact"
        assert_array(result.gradient, cost_slope(X), x)
        assert (tonumpy(result.error_estimate) < 1e-10 * np.max(np.abs(cost_slope(X)))).all()
        jacobian = ad.jacobian(lambda x: x**2 * x[0]).result(x)
        assert jacobian.method_used == "exact"
        assert_array(jacobian.jacobian, np.diag(2 * X * X[0]) + np.outer(X**2, [1, 0, 0, 0]), x)
        if backend is Backend.TORCH:
            cut = ad.grad(lambda x: (x.detach() ** 2).sum() + x.sum()).result(x)
            assert cut.method_used != "exact"
            assert_array(cut.gradient, 2 * X + 1, x)


def test_a_tape_that_takes_too_much_memory_is_not_made() -> None:
    def f(x: Any) -> Any:
        wide = np.exp(np.outer(np.ones(300_000), x))
        return np.sum(np.sin(wide) * wide)

    result = ad.grad(f, max_memory="20 MB").result(X[:2])
    assert result.method_used != "exact"
    assert "the tape takes more than 10000000 bytes" in result.reason
    assert ad.grad(f).result(X[:2]).method_used == "exact"


def test_x_comes_back_untouched_and_f_may_write_into_what_it_gets() -> None:
    def f(x: Any) -> Any:
        x[0] *= 2
        return np.sum(x**2)

    x = X.copy()
    result = ad.grad(f).result(x)
    assert np.array_equal(x, X)
    assert result.method_used == "exact"
    np.testing.assert_allclose(result.gradient, 2 * X * [4, 1, 1, 1], rtol=1e-14)


def test_the_check_stays_inside_the_bounds() -> None:
    lower, upper = X - np.array([0.0, 1e-9, 1.0, np.inf]), X + np.array([1e-9, 0.0, 1e-12, np.inf])
    f = Recorder(cost)
    result = ad.grad(f, bounds=(lower, upper)).result(X)
    assert result.method_used == "exact"
    assert (f.coordinates >= lower).all()
    assert (f.coordinates <= upper).all()
    np.testing.assert_allclose(result.gradient, cost_slope(X), rtol=1e-12)


def test_trees_aux_several_arguments_and_complex_numbers_are_followed() -> None:
    def f(p: Any, q: Any) -> Any:
        return np.sum(p["a"] * np.exp(p["b"][0])) * q + p["b"][1], {"twice": 2 * p["a"], "name": "f"}

    p, q = {"a": np.array([1.0, 2.0]), "b": (0.5, 3.0)}, 4.0
    result = ad.grad(f, (0, 1), has_aux=True).result(p, q)
    assert result.method_used == "exact"
    of_p, of_q = result.gradient
    np.testing.assert_allclose(of_p["a"], 4 * np.exp(0.5), rtol=1e-14)
    np.testing.assert_allclose([of_p["b"][0], of_p["b"][1], of_q], [12 * np.exp(0.5), 1.0, 3 * np.exp(0.5)], rtol=1e-14)
    assert np.array_equal(result.aux["twice"], [2.0, 4.0])
    z = np.array([1.0 + 2.0j, 0.5 - 1.0j])
    holomorphic = ad.grad(lambda z: np.sum(np.exp(z) * z), holomorphic=True).result(z)
    assert holomorphic.method_used == "exact"
    np.testing.assert_allclose(holomorphic.gradient, np.exp(z) * (1 + z), rtol=1e-13)
    modulus = ad.grad(lambda z: np.sum(np.abs(z) ** 2)).result(z)
    np.testing.assert_allclose(modulus.gradient, 2 * np.conj(z), rtol=1e-13)


def test_a_vectorised_f_is_followed_at_one_point() -> None:
    f = Recorder(lambda x: np.sum(x**3, axis=0), batch_axis=-1)
    result = ad.grad(f, vectorized=True).result(X)
    assert result.method_used == "exact"
    np.testing.assert_allclose(result.gradient, 3 * X**2, rtol=1e-14)
    assert result.function_points == f.points


def test_more_confidence_widens_the_bars() -> None:
    for transform in (ad.grad, ad.hessian):
        usual, sure = (transform(cost, confidence=level).result(X).error_estimate for level in (0.95, 0.999))
        assert (sure >= usual).all()
        assert (sure[usual > 0] > usual[usual > 0]).all()


def test_float32_inside_makes_bars_of_float32() -> None:
    result = ad.grad(lambda x: np.sum((x.astype(np.float32) ** 2).astype(np.float64)), unreliable="ignore").result(X)
    assert (np.abs(result.gradient - 2 * X) <= result.error_estimate).all()


def test_a_function_with_a_rule_is_followed_wherever_it_is_called() -> None:
    def table(x: Any) -> Any:
        return np.asarray([float(v) ** 3 for v in x])

    taught = exact.rule(table, lambda t, y, x: 3 * x**2 * t)
    result = ad.grad(lambda x: np.sum(taught(x) * x)).result(X)
    assert result.method_used == "exact"
    np.testing.assert_allclose(result.gradient, 4 * X**3, rtol=1e-13)
    wrong = exact.rule(lambda x: np.asarray([float(v) ** 3 for v in x]), lambda t, y, x: 2 * x**2 * t)
    assert "not confirmed" in ad.grad(lambda x: np.sum(wrong(x))).result(X).reason


def test_threads_get_the_bits_of_one_thread() -> None:
    g, got = ad.grad(lambda x: np.sum(np.exp(np.sin(x)) * x[0])), dict[int, np.ndarray]()
    alone = g(X)

    def work(i: int) -> None:
        for _ in range(20):
            got[i] = g(X)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one, alone) for one in got.values())


def test_jacobians_by_a_pattern_and_normal_equations_are_exact_too() -> None:
    n = 200
    x = np.linspace(0.5, 1.5, n)

    def chain(x: Any) -> Any:
        return x[1:] * np.exp(x[:-1])

    sparse = ad.jacobian(chain, sparsity="trace").result(x)
    assert sparse.method_used == "exact"
    dense = ad.jacobian(chain)(x)
    np.testing.assert_allclose(sparse.jacobian.toarray(), dense, rtol=1e-13)
    normal = ad.normal_equations(decay).result(X[:3])
    J = ad.jacobian(decay)(X[:3])
    assert normal.method_used == "exact"
    np.testing.assert_allclose(normal.normal[0], J.T @ J, rtol=1e-12)
    linear = ad.jacobian(decay, linear=[0, 2]).result(X[:3])
    assert linear.method_used == "exact"
    np.testing.assert_allclose(linear.jacobian, J, rtol=1e-14)


def test_an_f_without_parameters_or_outputs_is_served() -> None:
    assert ad.jacobian(lambda x: x[:0])(X).shape == (0, 4)
    assert ad.grad(lambda x: np.sum(x) + 1.0)(np.zeros(0)).shape == (0,)
    assert (ad.grad(lambda x: 3.0)(X) == 0).all()


def test_an_f_that_raises_again_what_it_caught_is_served() -> None:
    kept: list[BaseException] = []

    def f(x: Any) -> Any:
        try:
            return float(x[0]) ** 2
        except TypeError as error:
            kept.append(error)
            try:
                return np.ones(3)[:] + float(x[1])
            except TypeError as other:
                raise kept[0] from other

    result = ad.grad(f).result(X)
    assert result.method_used != "exact"
    np.testing.assert_allclose(result.gradient, [2 * X[0], 0, 0, 0], rtol=1e-9)


def test_nothing_is_warned_of_that_plain_f_does_not_warn_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ad.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(np.abs(x)), x)))(X)
        ad.hessian(cost)(X)
        ad.hvp(cost, (X,), (X,))


@pytest.mark.parametrize("options", [{}, {"verify_trace": False}], ids=["held to plain f", "not"])
def test_a_gradient_holds_little_more_than_the_tape(options: dict[str, Any]) -> None:
    x = np.linspace(-1.2, 1.5, 200_000)
    g = ad.value_and_grad(cost, **options)
    g(x)  # what is loaded on first use, and random numbers that are kept
    tracemalloc.start()
    try:
        g(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8.5 * x.nbytes  # six operations, x and its copy
