"""Code written for homodyne's numpy_gradients runs with ours in its place."""

from __future__ import annotations

import pickle
import sys
import types

import array_api_compat
import numpy as np
import pytest

from arraydiff import homodyne
from arraydiff.homodyne import (
    DifferentiationConfig,
    DifferentiationMethod,
    GradientResult,
    NumericalStabilityError,
    numpy_gradient,
    numpy_hessian,
    validate_gradient_accuracy,
)
from tests.helpers import Backend, assert_array

FIELDS = {
    "method": "adaptive",
    "relative_step": float(np.sqrt(np.finfo(float).eps)),
    "min_step": 1e-15,
    "max_step": 1e-3,
    "richardson_terms": 4,
    "error_tolerance": 1e-8,
    "max_iterations": 20,
    "use_parallel": True,
    "n_workers": 8,
    "chunk_size": 1000,
    "complex_step_threshold": 1e-12,
}
METHODS = ["forward", "backward", "central", "complex_step", "richardson", "adaptive"]


def wave(x):
    return np.sum(np.exp(-(x**2)) * np.sin(x))


def wave_slope(x):
    return np.exp(-(x**2)) * (np.cos(x) - 2 * x * np.sin(x))


X = np.array([1.0, 0.5, -0.3, 2.1])


def saddle(x):
    return 2 * x[0] ** 2 + x[1] ** 2 + 3 * x[0] * x[1]


def product(x, y, z):
    return np.sum(x**2) + np.sum(y * z) + np.sum(z**3)


XYZ = np.array([1.0, 2.0]), np.array([0.5]), np.array([1.5])


# the import


def test_everything_that_the_original_exports_is_exported():
    assert sorted(homodyne.__all__) == [
        "DifferentiationConfig",
        "DifferentiationMethod",
        "GradientResult",
        "NumericalStabilityError",
        "numpy_gradient",
        "numpy_hessian",
        "validate_gradient_accuracy",
    ]


@pytest.mark.parametrize("package", ["homodyne", "xpcsjax"])
def test_a_package_that_imports_the_module_finds_it_when_it_is_one_line_of_ours(package, monkeypatch):
    core = types.ModuleType(f"{package}.core.numpy_gradients")
    exec("from arraydiff.homodyne import *", core.__dict__)
    for name in (package, f"{package}.core"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, f"{package}.core.numpy_gradients", core)
    scope: dict[str, object] = {}
    exec(f"from {package}.core.numpy_gradients import numpy_gradient, numpy_hessian", scope)
    assert scope["numpy_gradient"] is numpy_gradient


# the configuration


def test_every_field_of_the_originals_configuration_is_accepted_and_read_back():
    config = DifferentiationConfig(**FIELDS)
    assert {name: getattr(config, name) for name in FIELDS} == FIELDS
    assert DifferentiationConfig(method="complex_step", step_size=1e-10).step_size == 1e-10
    np.testing.assert_allclose(numpy_gradient(wave, config=config)(X), wave_slope(X), rtol=1e-6)


def test_methods_are_the_strings_that_they_were():
    assert [getattr(DifferentiationMethod, name.upper()) for name in METHODS] == METHODS
    assert {DifferentiationMethod.CENTRAL: 1}["central"] == 1
    assert f"{DifferentiationMethod.COMPLEX_STEP}" == "complex_step"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_the_gradient(method):
    gradient = numpy_gradient(wave, config=DifferentiationConfig(method=method))(X)
    np.testing.assert_allclose(gradient, wave_slope(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "rtol"), [("adaptive", 1e-13), ("complex_step", 1e-13), ("richardson", 1e-10), ("central", 1e-6)]
)
def test_gradients_of_polynomials_are_as_right_as_the_method(method, rtol):
    x = np.array([1.5, -0.8, 2.1])
    gradient = numpy_gradient(lambda x: np.sum(x**4 - 2 * x**3 + x**2), config=DifferentiationConfig(method=method))(x)
    np.testing.assert_allclose(gradient, 4 * x**3 - 6 * x**2 + 2 * x, rtol=rtol)


# arguments


@pytest.mark.parametrize("x", [[2.0, -1.5], [2, -1], (2, -1), np.array([2, -1]), np.array([2.0, -1.5])], ids=repr)
def test_lists_tuples_and_integers_are_taken_as_float_arrays(x):
    matrix = np.array([[2.0, 1.0], [1.0, 3.0]])
    gradient = numpy_gradient(lambda x: 0.5 * x @ matrix @ x)(x)
    assert isinstance(gradient, np.ndarray)
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, matrix @ np.asarray(x), rtol=1e-12)


@pytest.mark.parametrize("x", [2.0, 2, True, np.float64(2.0), np.int64(2), np.array(2.0)], ids=repr)
def test_a_number_gives_a_0d_array(x):
    gradient = numpy_gradient(lambda t: t**3)(x)
    assert isinstance(gradient, np.ndarray)
    assert gradient.shape == ()
    assert gradient == pytest.approx(3 * float(x) ** 2)


def test_arrays_keep_their_shape_and_x_its_values():
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(numpy_gradient(lambda x: np.sum(x**2))(x), 2 * x, atol=1e-12)
    assert (x == np.arange(6.0).reshape(2, 3)).all()


def test_a_list_of_argnums_gives_a_list_of_gradients():
    gradients = numpy_gradient(product, argnums=[0, 2])(*XYZ)
    assert isinstance(gradients, list)
    by_x, by_z = gradients
    np.testing.assert_allclose(by_x, [2.0, 4.0], rtol=1e-12)
    np.testing.assert_allclose(by_z, [0.5 + 3 * 1.5**2], rtol=1e-12)


def test_a_list_of_one_argnum_gives_a_bare_array():
    np.testing.assert_allclose(numpy_gradient(product, [1])(*XYZ), [1.5], rtol=1e-12)
    np.testing.assert_allclose(numpy_hessian(product, [0])(*XYZ), 2 * np.eye(2), atol=1e-6)


def test_a_tuple_of_argnums_gives_what_jax_gives():
    one = numpy_gradient(product, argnums=(0,))(*XYZ)
    assert isinstance(one, tuple)
    assert len(one) == 1
    two = numpy_gradient(product, argnums=(2, 0))(*XYZ)
    assert [g.shape for g in two] == [(1,), (2,)]
    blocks = numpy_hessian(product, argnums=(0, 2))(*XYZ)
    assert [[block.shape for block in row] for row in blocks] == [[(2, 2), (2, 1)], [(1, 2), (1, 1)]]


@pytest.mark.parametrize("argnums", [0, -3, np.int64(0)], ids=repr)
def test_argnums_may_be_any_integer(argnums):
    np.testing.assert_allclose(numpy_gradient(product, argnums)(*XYZ), [2.0, 4.0], rtol=1e-12)


def test_other_arguments_are_handed_through_as_they_are():
    def f(x, power, *, scale, mode="sum"):
        assert isinstance(power, int)
        assert mode == "sum"
        return scale * np.sum(x**power)

    np.testing.assert_allclose(numpy_gradient(f)([1.0, 2.0], 3, scale=2.0), [6.0, 24.0], rtol=1e-12)


def test_an_argument_passed_by_keyword_is_differentiated_too():
    np.testing.assert_allclose(numpy_gradient(lambda x: np.sum(x**2))(x=[1, 2]), [2.0, 4.0], rtol=1e-12)


def test_a_dict_of_arrays_gives_a_dict():
    gradient = numpy_gradient(lambda p: p["a"] * np.sum(p["b"]))({"a": 2.0, "b": np.ones(3)})
    assert gradient["a"] == pytest.approx(3.0)
    np.testing.assert_allclose(gradient["b"], 2 * np.ones(3), rtol=1e-12)


def test_an_argument_that_is_no_array_is_refused_by_its_place():
    with pytest.raises(TypeError, match="argument 0"):
        numpy_gradient(wave)("abc")
    with pytest.raises(TypeError, match="argument 0"):
        numpy_gradient(wave)([[1.0], [1.0, 2.0]])


def test_a_missing_argument_is_a_type_error():
    with pytest.raises(TypeError, match="positional arguments"):
        numpy_gradient(product, argnums=5)(*XYZ)


def test_the_array_library_of_the_argument_stays(backend: Backend):
    def f(x):
        xp = array_api_compat.array_namespace(x)
        return xp.sum(x**3)

    whole = backend.asarray([1, 2], "int64")
    assert_array(numpy_gradient(f)(whole), [3.0, 12.0], like=backend.asarray([1.0, 2.0]))


# the function


def test_one_number_in_an_array_is_a_number():
    np.testing.assert_allclose(numpy_gradient(lambda x: x[:1] ** 2)([3.0, 1.0]), [6.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(numpy_hessian(lambda x: x[None, :1] ** 2)([3.0]), [[2.0]], atol=1e-6)


def test_more_than_one_number_is_refused():
    with pytest.raises(TypeError, match="scalar"):
        numpy_gradient(lambda x: x**2)([1.0, 2.0])


def test_name_and_pickle_are_kept():
    gradient = numpy_gradient(wave)
    assert gradient.__name__ == "wave"
    np.testing.assert_allclose(pickle.loads(pickle.dumps(gradient))(X), wave_slope(X), rtol=1e-12)


def test_a_derivative_of_a_derivative_is_right():
    assert numpy_gradient(numpy_gradient(lambda t: t**3))(2.0) == pytest.approx(12.0, rel=1e-8)


def test_noise_of_1e_10_is_survived():
    random = np.random.default_rng(12345)

    def noisy(x):
        return np.sum(x**2) + 1e-10 * random.random()

    x = np.array([1.0, 2.0, 0.5])
    config = DifferentiationConfig(method="richardson")
    np.testing.assert_allclose(numpy_gradient(noisy, config=config)(x), 2 * x, rtol=1e-3)


def test_a_needle_gives_its_slope_or_says_that_it_cannot():
    result = numpy_gradient(lambda x: 1.0 / (x[0] ** 2 + 1e-16)).result([1e-10, 1.0])
    slope = -2e-10 / (1e-20 + 1e-16) ** 2
    assert abs(result.gradient[0] - slope) <= 10 * result.error_estimate[0]


def test_2500_parameters_in_chunks_are_right():
    x = np.random.default_rng(0).random(2500)
    gradient = numpy_gradient(
        lambda x: 0.5 * np.sum(x**2) + np.sum(x[:-1] * x[1:]), config=DifferentiationConfig(chunk_size=500)
    )(x)
    expected = x.copy()
    expected[:-1] += x[1:]
    expected[1:] += x[:-1]
    np.testing.assert_allclose(gradient, expected, rtol=1e-9)


# failures


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("transform", [numpy_gradient, numpy_hessian])
def test_a_function_that_is_not_finite_at_x_raises(transform, value):
    with pytest.raises(NumericalStabilityError, match="not finite"):
        transform(lambda x: value + np.sum(x))(X)


@pytest.mark.parametrize("error", [ValueError, ZeroDivisionError, OverflowError, FloatingPointError])
def test_numerical_exceptions_of_the_function_at_x_are_stability_errors(error):
    def f(x):
        raise error("no value here")

    with pytest.raises(NumericalStabilityError, match="no value here") as caught:
        numpy_gradient(f)(X)
    assert isinstance(caught.value.__cause__, error)


@pytest.mark.parametrize("error", [KeyError("rate"), NumericalStabilityError("by the model")], ids=repr)
def test_other_exceptions_of_the_function_go_through(error):
    def f(x):
        raise error

    with pytest.raises(type(error)) as caught:
        numpy_gradient(f)(X)
    assert caught.value is error


def test_an_exception_beside_x_costs_nothing_but_its_own_entry():
    def f(x):
        if x[0] != 1.0:
            raise ValueError("only x[0] = 1")
        return np.sum(x**2)

    result = numpy_gradient(f).result([1.0, 2.0])
    np.testing.assert_allclose(result.gradient[1], 4.0, rtol=1e-9)
    assert np.isnan(result.gradient[0])


def test_lost_imaginary_parts_do_not_make_a_zero():
    np.testing.assert_allclose(numpy_gradient(lambda x: float(np.sum(x.real**2)))(X), 2 * X, rtol=1e-7)


# Hessians


@pytest.mark.parametrize("method", ["adaptive", "central", "complex_step", "richardson"])
def test_the_hessian_is_right_and_symmetric(method):
    hessian = numpy_hessian(saddle, config=DifferentiationConfig(method=method))([1.0, 2.0])
    np.testing.assert_allclose(hessian, [[4.0, 3.0], [3.0, 2.0]], atol=1e-4)
    assert (hessian == hessian.T).all()


def test_a_list_of_argnums_gives_one_matrix():
    def f(x, y):
        return np.sum(x**2) * y[0]

    hessian = numpy_hessian(f, argnums=[0, 1])([1.0, 2.0], [3.0])
    np.testing.assert_allclose(hessian, [[6.0, 0.0, 2.0], [0.0, 6.0, 4.0], [2.0, 4.0, 0.0]], atol=1e-6)
    table = numpy_hessian(lambda x: np.sum(x**2), argnums=[0])(np.ones((2, 3)))
    np.testing.assert_allclose(table, 2 * np.eye(6), atol=1e-6)


def test_a_number_has_a_second_derivative_of_one_entry():
    assert numpy_hessian(lambda t: t**4)(1) == pytest.approx(12.0, rel=1e-6)


# the result


def test_result_tells_what_the_bare_call_leaves_out():
    result = numpy_gradient(wave).result(X)
    assert isinstance(result, GradientResult)
    assert result.method_used == "complex_step"
    assert result.function_calls > 0
    assert result.computation_time > 0
    assert result.warnings == []
    assert result.step_sizes.shape == X.shape
    assert (np.abs(result.gradient - wave_slope(X)) <= 10 * result.error_estimate).all()


# validate_gradient_accuracy


def test_validation_reports_every_method():
    x = np.array([1.0, -0.5, 2.0])
    table = validate_gradient_accuracy(lambda x: np.sum(x**3 - x**2 + 2 * x), x, 3 * x**2 - 2 * x + 2, tolerance=1e-6)
    assert set(table) == set(METHODS)
    for method, row in table.items():
        assert row["success"]
        assert row["method"] == method
        assert row["gradient"].shape == (3,)
        assert row["error"] < 1e-5
        assert row["max_error"] == max(row["absolute_error"])
        assert (row["relative_error"] < 1e-4).all()
        assert row["evaluations"] >= 3
        assert row["time"] > 0
        assert row["accuracy_ok"] is row["within_tolerance"]
    assert table[DifferentiationMethod.COMPLEX_STEP]["accuracy_ok"]
    assert table[DifferentiationMethod.RICHARDSON]["accuracy_ok"]


def test_validation_takes_lists_and_needs_no_answer():
    table = validate_gradient_accuracy(wave, [1, 2])
    assert "error" not in table["central"]
    assert table["central"]["gradient"].shape == (2,)
    assert validate_gradient_accuracy(lambda x: np.sum(x**2), [1, 2], [2, 4])["central"]["accuracy_ok"]


def test_validation_of_a_wrong_answer_fails_for_every_method():
    table = validate_gradient_accuracy(lambda x: np.sum(x**2), [1.0, 2.0], [2.0, 5.0])
    assert not any(row["within_tolerance"] for row in table.values())


def test_validation_of_a_function_that_is_not_finite_raises():
    with pytest.raises(NumericalStabilityError):
        validate_gradient_accuracy(lambda x: np.nan, [1.0])


def test_a_method_that_raises_has_its_row(monkeypatch):
    calls = []

    def f(x):
        calls.append(x)
        if len(calls) > 2:
            raise RuntimeError("worn out")
        return np.sum(x)

    row = validate_gradient_accuracy(f, [1.0], [1.0])["backward"]
    assert row["success"] is False
    assert "worn out" in row["error"]
    assert row["within_tolerance"] is False
