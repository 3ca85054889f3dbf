"""What tracing must not get wrong in silence: each rule by itself."""

from __future__ import annotations

import copy
import functools
import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from arraydiff.backends.displaced import Displacer
from arraydiff.exact import Refused, gradient, hvp, pushforward, traced

X = np.array([0.3, 1.2, -0.7, 2.0])
ONE = np.float64(1.0)
Function = Callable[[Any], Any]


def jacobian(fun: Function, x: np.ndarray = X) -> np.ndarray:
    """By both modes, which agree."""
    followed = traced(fun, x.copy())
    forward = np.stack([np.ravel(followed.pushforward(e)) for e in np.eye(x.size)], axis=-1)
    cotangents = np.eye(followed.value.size).reshape(-1, *followed.value.shape)
    backward = np.stack([followed.pullback(one, keep=True) for one in cotangents])
    along = pushforward(lambda x: np.ravel(fun(x)), x.copy(), np.eye(x.size)[:, :1])[1][:, 0]
    np.testing.assert_allclose(forward, backward, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(forward[:, 0], along, rtol=1e-12, atol=1e-13)
    return forward


def differences(fun: Function, x: np.ndarray = X, h: float = 1e-5) -> np.ndarray:
    return np.stack([np.ravel(fun(x + h * e) - fun(x - h * e)) / (2 * h) for e in np.eye(x.size)], axis=-1)


def is_right(fun: Function) -> None:
    np.testing.assert_allclose(traced(fun, X.copy()).value, fun(X.copy()), rtol=1e-14)
    np.testing.assert_allclose(jacobian(fun), differences(fun), rtol=1e-6, atol=1e-8)


def is_refused(fun: Function, because: str = "") -> None:
    with pytest.raises(Refused, match=because or None):
        traced(fun, X.copy())


# ---- refusals


@pytest.mark.parametrize(
    "asked",
    [
        float,
        int,
        complex,
        hash,
        pickle.dumps,
        math.sin,
        round,
        lambda x: f"{x:.3f}",
        lambda x: x.item(),
        lambda x: x.tolist(),
        lambda x: x.tobytes(),
        lambda x: x.data,
        lambda x: x.flat,
        lambda x: [1.0, 2.0][x],
        lambda x: np.asarray(x, dtype=float),
        lambda x: np.zeros(2).__setitem__(0, x),
        lambda x: np.random.default_rng(0).normal(x),
        np.from_dlpack,
        functools.lru_cache(lambda x: x * 2),
    ],
)
def test_what_asks_for_a_plain_number_is_refused_even_where_f_catches_the_exception(asked: Function) -> None:
    def fun(x: Any) -> Any:
        try:
            asked(x[0])
        except Exception:  # noqa: BLE001 - as users do
            return x * 3
        return x * 2

    is_refused(fun)


def test_a_refusal_names_the_line_of_the_user() -> None:
    with pytest.raises(Refused) as caught:
        traced(lambda x: np.linalg.eigvals(x.reshape(2, 2)), X)
    assert "eigvals" in caught.value.reason
    assert caught.value.place.startswith("test_exact_honesty.py line ")


def test_an_exception_of_f_is_a_refusal_that_tells_it() -> None:
    def fun(x: Any) -> Any:
        raise ZeroDivisionError("by nought")

    with pytest.raises(
        Refused, match=r"ZeroDivisionError while f was traced: by nought, test_exact_honesty\.py"
    ) as caught:
        traced(fun, X)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: np.sum(x, out=np.zeros(())),
        lambda x: np.add(x, 1, where=X > 0),
        lambda x: np.var(x, where=X > 0),
        lambda x: np.add.reduceat(x, [0, 2]),
        lambda x: np.add.at(np.zeros(4), [0], x[0]) or x,
        lambda x: np.exp(x, dtype=np.float32),
        lambda x: np.matrix(np.eye(4)) * x,
        lambda x: np.ma.array(X) * x,
        lambda x: x * "a",
        np.frompyfunc(lambda v: 2.0, 1, 1),
        lambda x: np.linalg.eig(x.reshape(2, 2))[0],
        lambda x: np.partition(x, 2),
        lambda x: X[x],
        lambda x: x[x],
        np.sign,
        np.floor,
        lambda x: x.astype(int),
        np.argsort,
        lambda x: 3.0,
        lambda x: X * 2,
        lambda x: None,
    ],
)
def test_what_has_no_rule_and_what_does_not_depend_on_x_is_refused(fun: Function) -> None:
    is_refused(fun)


def test_a_refusal_in_a_worker_thread_counts_even_where_the_thread_catches_it() -> None:
    def part(x: Any, i: int) -> Any:
        try:
            return np.sum(x * i, out=np.zeros(()))
        except Exception:  # noqa: BLE001 - as users do
            return 1.0

    def fun(x: Any) -> Any:
        with ThreadPoolExecutor(2) as pool:
            return x * sum(pool.map(lambda i: part(x, i), range(3)))

    is_refused(fun, "out=")


def test_threads_of_f_may_record_at_once() -> None:
    def fun(x: Any) -> Any:
        with ThreadPoolExecutor(4) as pool:
            return np.stack(list(pool.map(lambda i: np.sum(np.sin(x * i) * x), range(40))))

    is_right(fun)


def test_a_value_kept_from_an_earlier_call_is_refused() -> None:
    kept: list[Any] = []

    def fun(x: Any) -> Any:
        kept.append(x * 2)
        return kept[0] * x

    traced(fun, X)
    is_refused(fun, "finished call")
    is_refused(lambda x: kept[0], "does not depend")


# ---- writes


def through_a_slice(x: Any) -> Any:
    y = x.copy()
    y[1:3] *= x[:2]
    return y


def two_names(x: Any) -> Any:
    y = x * 1
    z = y
    y += x
    return y * z


def seen_through_a_view(x: Any) -> Any:
    y = x * 1.0
    v = y[1:]
    y[2] = x[0] ** 2
    return v * y[0]


def through_a_transpose(x: Any) -> Any:
    y = x.reshape(2, 2).copy()
    y.T[0] = x[2:] ** 2
    v = y.ravel()
    v[0] = x[3] ** 2
    return y.ravel() * x[1]


def into_x_itself(x: Any) -> Any:
    x[0] = x[1] ** 2
    return x * x


def into_a_view_of_x(x: Any) -> Any:
    y = x[::2]
    y[0] = x[1] ** 2
    return x * x


def a_buffer_used_again(x: Any) -> Any:
    c = np.ones(4)
    y = x * c
    c[:] = 5
    return y * c


def indices_used_again(x: Any) -> Any:
    at = np.array([0, 1])
    y = x[at]
    at[:] = 2
    return y**2


def a_list_used_again(x: Any) -> Any:
    factors = [1.0, 2.0, 3.0, 4.0]
    y = x * factors
    factors[0] = 7.0
    return y * x


def filled_by_a_loop(x: Any) -> Any:
    y = np.zeros_like(x)
    for i in range(4):
        y[i] = x[i] ** 2 * x[i - 1]
    return y


def filled_in_rows(x: Any) -> Any:
    y = np.zeros_like(x, shape=(2, 4))
    y[0] = x
    y[1, ::2] = x[:2] * x[2:]
    return y


def by_a_mask(x: Any) -> Any:
    y = x * x
    y[x < 0] = x[0] * 3
    return y


def at_indices(x: Any) -> Any:
    y = x * x
    y[[2, 0]] = x[:2] ** 3
    return y


def numbers_are_values(x: Any) -> Any:
    t = x[0]
    s = t
    t += 1
    return s * t * x


def no_number_is_a_view(x: Any) -> Any:
    y = np.sum(x)
    z = y
    y *= 2
    return z * y * x


def out_of_a_ufunc(x: Any) -> Any:
    y = np.ones_like(x)
    np.multiply(y, x, out=y)
    np.add(y, x[0], out=y)
    return y * x


def copied_and_changed(x: Any) -> Any:
    y = copy.deepcopy(x)
    y[0] = 3.0
    return y * x


def array_of_numbers(x: Any) -> Any:
    a = np.array([x[0] * x[1], 2.0, x[2]])
    a[1] = x[3] ** 2
    return a * np.array([1.0, 2.0, 3.0]) * x[0] + np.sin(a)


def array_copied(x: Any) -> Any:
    a = np.array(x)
    a[0] = x[1] ** 2
    return np.sum(a * x) * np.sin(a)


def diagonal_filled(x: Any) -> Any:
    y = x.copy()
    np.fill_diagonal(y.reshape(2, 2), x[0] ** 2)
    return y


def in_place_power(x: Any) -> Any:
    y = x * 2
    w = y[1:]
    w **= 2
    w /= x[0]
    y -= x
    return y


def vectorized_by_numpy(x: Any) -> Any:
    return np.vectorize(lambda t: t**2 + np.sin(t))(x)


def asarray_of_x(x: Any) -> Any:
    return np.asarray(x) ** 2 * x


def full(x: Any) -> Any:
    return np.full(3, x[0] ** 2) * x[:3]


RIGHT = [
    through_a_slice, two_names, seen_through_a_view, through_a_transpose, into_x_itself, into_a_view_of_x, a_buffer_used_again,
    indices_used_again, a_list_used_again, filled_by_a_loop, filled_in_rows, by_a_mask, at_indices, numbers_are_values,
    no_number_is_a_view, out_of_a_ufunc, copied_and_changed, array_of_numbers, array_copied, diagonal_filled, in_place_power,
    vectorized_by_numpy, asarray_of_x, full,
]  # fmt: skip


@pytest.mark.parametrize("fun", RIGHT, ids=lambda fun: fun.__name__)
def test_writes_and_copies_mean_what_they_mean_to_numpy(fun: Function) -> None:
    is_right(fun)


def test_a_write_after_asarray_which_numpy_would_see_there_is_refused() -> None:
    def fun(x: Any) -> Any:
        a = np.asarray(x)
        x[0] = 5.0
        return a * 2

    is_refused(fun, "np.asarray")

    def other(x: Any) -> Any:
        np.asarray(x)[0] = 5.0
        return x * 2

    is_refused(other, "read-only")


def test_a_write_with_an_index_that_occurs_twice_is_refused() -> None:
    def fun(x: Any) -> Any:
        y = x * 1
        y[[0, 0]] = x[1:3]
        return y

    is_refused(fun, "twice")


def test_x_comes_back_untouched() -> None:
    x = X.copy()
    x.flags.writeable = False
    traced(into_x_itself, x)
    np.testing.assert_array_equal(x, X)


def test_the_pulled_back_cotangent_is_never_the_callers_array() -> None:
    cotangent = np.ones(4)
    result = traced(lambda x: x, X).pullback(cotangent)
    result[0] = 7.0
    assert cotangent[0] == 1.0


# ---- kinks


@pytest.mark.parametrize(
    ("fun", "told"),
    [
        (lambda x: np.abs(x - x[0].copy() * 1.0), "abs at 0"),
        (lambda x: np.maximum(x, 1.2), "maximum at a tie"),
        (lambda x: np.minimum(x, X), "minimum at a tie"),
        (lambda x: np.max(x * [1, 0, 0, 0.15]), "max at a tie"),
        (lambda x: np.clip(x, 0.3, 1.0), "maximum at a tie"),
        (lambda x: np.where(x > 0.3, x, 2 * x), "comparison at equality"),
        (lambda x: x if x[1] <= 1.2 else 2 * x, "comparison at equality"),
        (lambda x: x * 2 if x[0] - 0.3 else x, "a branch at 0"),
        (lambda x: np.sort(np.concatenate([x, x])), "sort at a tie"),
        (lambda x: x + np.floor(x), "floor at a jump"),
        (lambda x: x * np.sign(x - 0.3), "sign at a jump"),
        (lambda x: np.interp(x, [0.0, 0.3, 3.0], [1.0, 2.0, 0.0]), "interp at a point"),
        (lambda x: x % 0.3, "remainder at a jump"),
    ],
)
def test_a_kink_that_is_met_is_noted_with_its_place(fun: Function, told: str) -> None:
    kinks = traced(fun, X).notes.kinks
    assert any(told in text for text in kinks), kinks
    assert all(place.startswith("test_exact_honesty.py line ") for place in kinks.values())


def test_a_way_that_is_taken_is_noted_and_is_no_kink_by_itself() -> None:
    notes = traced(lambda x: np.where(x > 0, x, 2 * x) if x[0] < 1 and not np.any(np.isnan(x)) else x, X).notes
    assert notes.kinks == {}
    assert set(notes.branches) == {"a comparison", "isnan"}


# ---- levels


def derivative(fun: Function) -> Function:
    """Of a number."""
    return lambda x: gradient(lambda v: fun(v[0]))(np.stack([x]))[0]


def test_derivatives_of_derivatives_are_not_confused_with_each_other() -> None:
    """Siskind & Pearlmutter, Trends in Functional Programming 6 (2005) 1."""
    assert derivative(lambda x: x * derivative(lambda y: x + y)(1.0 * x))(3.0) == 1.0
    assert derivative(lambda x: x * derivative(lambda y: x * y)(2.0 + 0 * x))(3.0) == 6.0
    assert derivative(lambda x: derivative(lambda y: x**2 * y**3)(x))(2.0) == 12 * 2.0**3


@pytest.mark.parametrize("number", [np.array(1.3), np.float64(1.3)], ids=["array", "number"])
def test_terms_of_a_number_read_in_place_are_not_lost_inside_of_a_derivative(number: Any) -> None:
    def squared_slope(x: Any) -> Any:
        return ad.grad(lambda y: y * 3.0 + y * x[0] * y + y[...] * 2.0)(number) ** 2

    value, gradient = ad.value_and_grad(squared_slope, method="exact")(np.array([2.0, 3.0]))
    np.testing.assert_allclose(value, 10.2**2, rtol=1e-14)
    np.testing.assert_allclose(gradient, [2 * 10.2 * 2.6, 0.0], rtol=1e-14)


def test_a_square_is_as_exact_as_a_product_at_the_edge_of_the_range() -> None:
    result = ad.grad(lambda x: np.sum(x * x * 1e308)).result(np.array([1e-10, 2e-10]))
    assert result.method_used == "exact"
    np.testing.assert_allclose(result.gradient, [2e298, 4e298], rtol=1e-15)


def test_third_derivatives_are_right() -> None:
    assert derivative(derivative(derivative(lambda x: x**5)))(2.0) == 240.0
    assert derivative(derivative(derivative(np.sin)))(0.5) == pytest.approx(-math.cos(0.5), rel=1e-15)


def test_the_hessian_of_a_linear_function_is_a_true_zero() -> None:
    value, hessian = hvp(lambda x: np.sum(x * X), X, np.eye(4))
    np.testing.assert_array_equal(value, X)
    np.testing.assert_array_equal(hessian, np.zeros((4, 4)))


def test_an_outer_array_that_is_changed_inside_an_inner_derivative_leaves_its_tape_alone() -> None:
    def fun(x: Any) -> Any:
        y = x * 2

        def inner(z: Any) -> Any:
            return np.sum(z * z * y)

        followed = traced(inner, x)
        y += 1  # after it was recorded
        return followed.pullback(ONE) * y

    is_right_value = 2 * X * (2 * X) * (2 * X + 1)
    np.testing.assert_allclose(traced(fun, X).value, is_right_value)
    np.testing.assert_allclose(np.diag(jacobian(fun)), 8 * X * (2 * X + 1) + 8 * X**2, rtol=1e-13)


def test_a_tape_that_is_used_up_says_so() -> None:
    followed = traced(lambda x: np.sum(x * x), X)
    np.testing.assert_array_equal(followed.pullback(ONE, keep=True), 2 * X)
    np.testing.assert_array_equal(followed.pullback(ONE), 2 * X)
    with pytest.raises(RuntimeError, match="keep=True"):
        followed.pullback(ONE)


def test_isinstance_says_what_it_says_of_plain_arrays() -> None:
    def fun(x: Any) -> Any:
        assert isinstance(x, np.ndarray)
        assert isinstance(x[0], float)
        assert not isinstance(x[0], np.ndarray)
        return x * 2

    is_right(fun)


@pytest.mark.parametrize("dtype", [np.float32, np.longdouble])
def test_the_precision_of_x_stays(dtype: Any) -> None:
    x = X.astype(dtype)
    followed = traced(lambda x: np.sum(2.0 * x * x[0] + np.mean(x)), x)
    assert (followed.value.dtype, followed.pullback(dtype(1)).dtype) == (dtype, dtype)


def test_a_tape_that_is_used_up_is_not_pushed_forward_in_silence() -> None:
    followed = traced(lambda x: np.stack([np.sum(x), x[0]]), X)
    followed.pullback(np.ones(2))
    with pytest.raises(RuntimeError, match="used up"):
        followed.pushforward(np.ones(X.size))


@pytest.mark.parametrize("size", [100, 5000])
def test_no_two_roundings_of_large_arrays_are_alike(size: int) -> None:
    displace = Displacer(8.0)
    one, other = displace(np.ones(size)), displace(np.ones(size))
    assert np.mean(one == other) < 0.2


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", [(2, 0), (0, 2), (2, 2)])
def test_products_have_the_shape_that_numpy_gives(shape: tuple[int, int], axis: Any, keepdims: bool) -> None:
    def shaped(x: Any) -> Any:
        return np.prod(np.reshape(x[: shape[0] * shape[1]], shape), axis=axis, keepdims=keepdims)

    seen: list[tuple[int, ...]] = []
    traced(lambda x: (seen.append(shaped(x).shape), np.sum(x))[1], X)
    assert seen == [shaped(X).shape]


def test_nanvar_of_complex_numbers_is_real() -> None:
    slope = gradient(lambda x: np.nanvar(x * (1 + 2j)))(X)
    np.testing.assert_allclose(slope, 10 * (X - X.mean()) / X.size, rtol=1e-13)
