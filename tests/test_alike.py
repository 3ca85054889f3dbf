"""Calls like one that went well: made in a shorter way, with the same bits, the same guards and the same honesty."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import arraydiff as ad
from tests.exact_functions import FUNCTIONS, POINT
from tests.helpers import Recorder
from tests.test_exact_strategy import X, cost, cost_slope, decay

TRANSFORMS = (ad.grad, ad.value_and_grad, ad.jacobian, ad.jacfwd, ad.jacrev)
HELD = pytest.mark.parametrize("options", [{}, {"verify_trace": False}], ids=["held to plain f", "not"])


def opened(transform: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """A derivative that was taken once at these arguments, which opens the shorter way."""
    g = transform(*args[:1], **options)
    g(*args[1:])
    assert g.alike is not None
    return g


def parts(answer: Any) -> tuple[Any, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


@HELD
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_second_call_gives_the_bits_of_the_first(name: str, options: dict[str, Any]) -> None:
    for transform in TRANSFORMS:
        g = transform(lambda x: FUNCTIONS[name](np, x), unreliable="ignore", **options)
        try:
            first = g(POINT)
        except TypeError:  # a gradient of several outputs
            continue
        for one, other in zip(parts(first), parts(g(POINT)), strict=True):
            assert (type(one), one.dtype, one.shape) == (type(other), other.dtype, other.shape)
            np.testing.assert_array_equal(one, other)


def test_most_functions_open_it() -> None:
    derivatives = [ad.jacobian(lambda x, f=f: f(np, x), unreliable="ignore") for f in FUNCTIONS.values()]
    for g in derivatives:
        g(POINT)
    assert sum(g.alike is not None for g in derivatives) > 0.8 * len(derivatives)


@HELD
@given(scale=st.floats(-3, 3), others=st.lists(st.floats(0.1, 2.0), min_size=4, max_size=4))
def test_other_points_give_what_the_whole_way_gives(scale: float, others: list[float], options: dict[str, Any]) -> None:
    x = 10.0**scale * np.asarray(others) * np.sign(X)
    value, gradient = opened(ad.value_and_grad, cost, X, **options)(x)
    whole = ad.value_and_grad(cost).result(x)
    assert value == whole.value
    np.testing.assert_array_equal(gradient, whole.gradient)


@HELD
def test_it_asks_f_as_often_and_hands_it_copies(options: dict[str, Any]) -> None:
    seen = []

    def f(x: Any) -> Any:
        out = cost(x)
        x[0] = 7.0  # writes into what it gets
        seen.append(x)
        return out

    recorded, x = Recorder(f), X.copy()
    g = opened(ad.value_and_grad, recorded, x, **options)
    for _ in range(2):
        recorded.calls = 0
        value, gradient = g(x)
        assert recorded.calls == (1 if options else 4)
        np.testing.assert_array_equal(x, X)
        np.testing.assert_allclose(gradient, cost_slope(X), rtol=1e-12)
        assert value == cost(X)
        assert g.alike is not None
    assert not any(isinstance(one, np.ndarray) and np.may_share_memory(one, x) for one in seen)


@HELD
def test_what_it_returns_does_not_lie_in_x(options: dict[str, Any]) -> None:
    x = X.copy()
    value, gradient = opened(ad.value_and_grad, lambda x: x[1:2].reshape(()), x, **options)(x)
    x[:] = 5.0
    assert value == X[1]
    np.testing.assert_array_equal(gradient, [0, 1, 0, 0])


@HELD
def test_x_counts_as_it_was_handed_over(options: dict[str, Any]) -> None:
    work = X.copy()

    def f(x: Any) -> Any:
        y = x * x * x
        work[:] = 0.5  # what the caller passes as x is scratch
        return np.sum(y)

    g = ad.value_and_grad(f, **options)
    for _ in range(2):
        work[:] = X
        value, gradient = g(work)
        assert value == np.sum(X * X * X)
        np.testing.assert_allclose(gradient, 3 * X**2, rtol=1e-14)


@HELD
def test_arrays_that_are_not_contiguous_give_the_bits_of_the_whole_way(options: dict[str, Any]) -> None:
    matrix, wide = np.random.default_rng(0).normal(size=(40, 40)), np.linspace(-1.0, 1.0, 80)
    for x in (wide[::-2], wide[::2], np.stack([wide, wide], axis=1)[:40, 0], np.broadcast_to(0.3, (40,))):
        g = ad.value_and_grad(lambda x: np.sum(np.tanh(matrix @ x)) * np.dot(x, x), **options)
        for one, other in zip(g(x), g(x), strict=True):
            np.testing.assert_array_equal(one, other)


def test_other_arguments_are_handed_on_whatever_their_number() -> None:
    def f(*args: Any, power: int = 2) -> Any:
        return np.sum(args[-1] ** power) * len(args)

    g = opened(ad.grad, f, 1.0, X, argnums=-1)
    np.testing.assert_allclose(g(1.0, X, power=3), 6 * X**2, rtol=1e-14)
    np.testing.assert_allclose(g(1.0, X, 2 * X), 12 * X, rtol=1e-14)  # x is the third now
    np.testing.assert_allclose(ad.grad(f, argnums=-1)(X), 2 * X, rtol=1e-14)

    class Model:
        @ad.grad
        def __call__(self, x: Any) -> Any:
            return np.sum(x**2)

    with pytest.raises(TypeError):
        Model()(X)  # argnums=0 is the model
    h = opened(ad.grad, lambda a, x, b: np.sum(a * x**2) + b, 3.0, X, 1.0, argnums=1)
    np.testing.assert_allclose(h(4.0, 2 * X, 1.0), 16 * X, rtol=1e-14)


def test_other_inputs_go_the_whole_way() -> None:
    g = opened(ad.grad, lambda x: np.sum(np.real(x) ** 2), X)
    for x in (X[:2], X.astype(np.float32), X.reshape(2, 2), X + 0j):
        np.testing.assert_allclose(g(x), 2 * x, rtol=1e-6)
    with pytest.raises(TypeError):
        g(np.arange(4))
    np.testing.assert_allclose(g(X), 2 * X, rtol=1e-14)


class Turning:
    """A function that becomes another one after its first derivatives."""

    def __init__(self, later: Callable[[Any], Any]) -> None:
        self.later, self.turned = later, False

    def __call__(self, x: Any) -> Any:
        return self.later(x) if self.turned else np.sum(x**2)


def sees_types(x: Any) -> Any:
    return np.sum(x**2) if type(x) is np.ndarray else np.sum(x**2) * 1.001


def same_value_other_slope(x: Any) -> Any:
    return np.sum(x**2) if type(x) is np.ndarray else np.sum(x**2 + 0.01 * (x - X))


@pytest.mark.parametrize("later", [sees_types, same_value_other_slope, lambda x: float(np.sum(x**2))])
def test_each_call_is_held_to_plain_f(later: Callable[[Any], Any]) -> None:
    f = Turning(later)
    g = opened(ad.value_and_grad, f, X)
    f.turned = True
    for _ in range(3):
        value, gradient = g(X)
        assert value == np.sum(X**2)
        np.testing.assert_allclose(gradient, 2 * X, rtol=1e-8)
        assert g.alike is None


def test_a_refusal_costs_one_f() -> None:
    kinds = list[bool]()

    def f(x: Any) -> Any:
        kinds.append(type(x) is np.ndarray)
        return float(x[0]) ** 2 if np.all(x > 2) else np.sum(x**2)

    g = opened(ad.grad, f, np.ones(3))
    kinds.clear()
    np.testing.assert_allclose(g(np.full(3, 3.0)), [6.0, 0.0, 0.0], rtol=1e-9, atol=1e-9)
    assert kinds.count(False) == 1


def test_it_is_refused_by_name_where_f_changes_under_method_exact() -> None:
    f = Turning(sees_types)
    g = opened(ad.grad, f, X, method="exact")
    f.turned = True
    with pytest.warns(ad.DifferentiationWarning, match="not confirmed"):
        g(X)


@HELD
def test_kinks_and_what_is_not_finite_are_told_as_ever(options: dict[str, Any]) -> None:
    g = opened(ad.grad, lambda x: np.sum(np.abs(x)), X, **options)
    with pytest.warns(ad.DifferentiationWarning):
        g(np.array([0.0, 1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(g(X), np.sign(X))
    h = opened(ad.grad, lambda x: np.sum(np.sqrt(x)), np.abs(X), **options)
    with np.errstate(all="ignore"), pytest.warns(ad.DifferentiationWarning):
        h(np.array([0.0, 1.0, 2.0, 3.0]))
    with np.errstate(all="ignore"), pytest.warns(ad.DifferentiationWarning):
        h(-np.abs(X))
    big = opened(ad.value_and_grad, lambda x: np.sum(np.exp(x)), X, **options)
    with np.errstate(all="ignore"), pytest.warns(ad.DifferentiationWarning):
        big(np.array([800.0, 1.0, 1.0, 1.0]))


def test_what_f_raises_and_warns_of_at_x_is_the_users() -> None:
    def f(x: Any) -> Any:
        if x[0] > 100:
            raise RuntimeError("too hot")
        return np.sum(np.log(x))

    g = opened(ad.grad, f, np.abs(X))
    with pytest.raises(RuntimeError, match="too hot"):
        g(np.full(4, 200.0))
    with pytest.warns(RuntimeWarning, match="invalid value"), pytest.warns(ad.DifferentiationWarning):
        g(-np.abs(X))
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        g(np.zeros(4))


def test_what_goes_the_whole_way_after_all_asks_f_at_x_once() -> None:
    def f(x: Any) -> Any:
        if type(x) is np.ndarray and np.array_equal(x, kink):
            at_x.append(1)
        return np.sum(np.abs(x))

    at_x, kink = list[int](), np.array([0.0, 1.0, 2.0, 3.0])
    g = opened(ad.grad, f, X, unreliable="ignore")
    g(kink)
    assert len(at_x) == 1
    assert g.alike is None


def test_an_output_of_another_shape_is_not_taken_for_a_number() -> None:
    f = Turning(lambda x: np.sum(x**2).reshape(1) if type(x) is np.ndarray else np.sum(x**2))
    g = opened(ad.grad, f, X)
    f.turned = True
    with pytest.raises(TypeError, match="scalar-output"):
        g(X)


def test_f_that_fails_beside_x_is_differentiated_as_ever() -> None:
    def f(x: Any) -> Any:
        if x[0] > 1.0:
            raise ValueError("beyond the edge")
        return np.sum(x**2)

    g = opened(ad.grad, f, X)
    edge = np.array([1.0, 2.0, 3.0, 4.0])
    with pytest.warns(ad.DifferentiationWarning, match="FAILED"):
        first = g(edge)
    assert g.alike is None
    np.testing.assert_array_equal(first, ad.grad(f, unreliable="ignore")(edge))


def test_jacobians_open_it_too_and_large_ones_do_not() -> None:
    p = np.array([2.0, 0.5, 0.1])
    g = opened(ad.jacobian, decay, p)
    np.testing.assert_array_equal(g(1.1 * p), ad.jacobian(decay).result(1.1 * p).jacobian)
    large = ad.jacobian(np.sin)
    large(np.linspace(0.1, 1.0, 200))
    assert large.alike is None


def test_records_count_what_is_asked_and_options_that_want_more_never_open_it() -> None:
    g = opened(ad.grad, cost, X)
    with ad.record() as total:
        g(X)
    assert (total.derivatives, total.points, total.methods["exact"]) == (1, 4, 1)
    for options in ({"max_memory": "1 GB"}, {"confidence": 0.9999}, {"unreliable": "raise"}, {"bounds": (-9.0, 9.0)}):
        other = ad.grad(cost, **options)
        other(X)
        assert other.alike is None
    aux = ad.grad(lambda x: (cost(x), "aux"), has_aux=True)
    assert aux(X)[1] == aux(X)[1] == "aux"
    g(X[:2])
    assert g.alike is not None  # another shape closes nothing
    g.forget()
    assert g.alike is None


def test_threads_share_it_and_it_is_pickled() -> None:
    g = opened(ad.value_and_grad, cost, X)
    points = [X * (1 + k / 50) for k in range(60)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(g, points))
    for x, (value, gradient) in zip(points, found, strict=True):
        assert value == cost(x)
        np.testing.assert_array_equal(gradient, ad.grad(cost)(x))
    again = pickle.loads(pickle.dumps(g))
    np.testing.assert_array_equal(again(X)[1], g(X)[1])


def test_inside_of_another_derivative_it_is_not_taken() -> None:
    inner = opened(ad.grad, cost, X)
    outer = ad.jacobian(inner)
    first = outer(X)
    np.testing.assert_allclose(first, ad.hessian(cost)(X), rtol=1e-12)
    np.testing.assert_array_equal(outer(X), first)
    hessian = ad.hessian(cost)
    np.testing.assert_array_equal(hessian(X), hessian(X).T)
