"""Error propagation: J·cov·Jᵀ, and a bound on the part of it that is differentiation error."""

from __future__ import annotations

import array_api_compat
import numpy as np
import pytest

import arraydiff as ad
from tests.helpers import Backend, assert_array, tonumpy

X = np.array([3.0, 2.0, -0.5])
COV = np.array([[0.04, 0.01, 0.0], [0.01, 0.09, -0.02], [0.0, -0.02, 0.01]])


def pair(x):
    xp = array_api_compat.array_namespace(x)
    return xp.stack([x[0] ** 2 / x[1], xp.exp(x[2]) * x[0]])


def slopes(x):
    a, b, c = x
    return np.array([[2 * a / b, -((a / b) ** 2), 0.0], [np.exp(c), 0.0, np.exp(c) * a]])


RIGHT = slopes(X) @ COV @ slopes(X).T


def test_the_covariance_of_the_outputs_is_j_cov_jt():
    result = ad.propagate(pair, X, COV)
    np.testing.assert_allclose(result.value, pair(X), rtol=1e-15)
    np.testing.assert_allclose(result.covariance, RIGHT, rtol=1e-13)
    np.testing.assert_allclose(result.std, np.sqrt(np.diag(RIGHT)), rtol=1e-13)
    np.testing.assert_allclose(result.jacobian.derivative, slopes(X), rtol=1e-13, atol=1e-15)


def test_variances_or_one_variance_stand_for_a_diagonal_matrix():
    for cov in ([0.04, 0.09, 0.01], np.array([0.04, 0.09, 0.01])):
        full = ad.propagate(pair, X, np.diag(cov))
        np.testing.assert_allclose(ad.propagate(pair, X, cov).covariance, full.covariance, rtol=1e-14)
    for cov in (0.04, np.array(0.04), np.float64(0.04)):
        same = ad.propagate(pair, X, 0.04 * np.eye(3))
        np.testing.assert_allclose(ad.propagate(pair, X, cov).covariance, same.covariance, rtol=1e-14)


def test_a_number_has_a_variance():
    result = ad.propagate(lambda t: t**3, 2.0, 0.01)
    assert result.covariance.shape == result.std.shape == result.differentiation_error.shape == ()
    assert float(result.covariance) == pytest.approx(1.44)
    assert float(result.std) == pytest.approx(1.2)


def test_the_covariance_is_symmetric_to_the_last_bit():
    matrix = np.random.default_rng(1).normal(size=(3, 3))
    covariance = ad.propagate(lambda x: np.sin(np.outer(x, x)).ravel(), X, matrix @ matrix.T).covariance
    assert (covariance == covariance.T).all()


def test_arrays_keep_their_shape_twice_and_structures_lie_flat():
    assert ad.propagate(lambda x: np.outer(x, x)[:2], X, COV).covariance.shape == (2, 3, 2, 3)
    x = {"rate": X[:2], "offset": -0.5}

    def f(p):
        return {"a": p["rate"][0] ** 2 / p["rate"][1], "b": np.exp(p["offset"]) * p["rate"]}

    order = [2, 0, 1]  # dicts stand in the order of their keys: offset, then rate
    result = ad.propagate(f, x, COV[np.ix_(order, order)])
    assert result.covariance.shape == (3, 3)
    np.testing.assert_allclose(result.covariance[:2, :2], RIGHT, rtol=1e-13)
    np.testing.assert_allclose(result.std["a"], np.sqrt(RIGHT[0, 0]), rtol=1e-13)
    assert result.std["b"].shape == (2,)


@pytest.mark.parametrize("options", [{}, {"method": "forward"}, {"method": "central", "step_size": 0.3}])
@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_the_differentiation_error_covers_the_true_error(options, noise):
    covered = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        x = random.uniform(0.5, 2.0, 3)
        right = slopes(x) @ COV @ slopes(x).T
        known = options if noise == 0 or not options else {**options, "noise": 20 * noise}
        result = ad.propagate(lambda x, r=random: pair(x) * (1 + noise * r.standard_normal(2)), x, COV, **known)
        assert np.isfinite(result.differentiation_error).all()
        slack = 1e-15 * np.sqrt(np.outer(np.diag(right), np.diag(right)))
        covered.append(np.abs(result.covariance - right) <= result.differentiation_error + slack)
    assert np.mean(covered) >= 0.95


def test_the_differentiation_error_is_small_where_the_jacobian_is_right():
    result = ad.propagate(pair, X, COV)
    assert (result.differentiation_error < 1e-13 * np.max(RIGHT)).all()
    rough = ad.propagate(pair, X, COV, method="forward", step_size=1e-3)
    assert (rough.differentiation_error > result.differentiation_error).all()


def test_where_there_is_no_derivative_the_error_is_infinite():
    result = ad.propagate(lambda x: np.stack([np.nan * x[0], x[1]]), X, COV)
    assert np.isinf(result.differentiation_error[0, 0])
    np.testing.assert_allclose(result.std[1], 0.3)
    assert result.differentiation_error[1, 1] < 1e-14


def test_a_parameter_without_variance_needs_no_derivative():
    def f(x):
        return x[0] ** 2 + np.abs(x[1])

    certain = ad.propagate(f, np.array([2.0, 0.0]), np.array([0.01, 0.0]))
    assert float(certain.std) == pytest.approx(0.4)
    assert certain.differentiation_error < 1e-10
    assert ad.propagate(f, np.array([2.0, 0.0]), np.array([0.01, 0.01])).differentiation_error > 1e-3


def test_variances_that_cancel_are_zero_and_negative_ones_are_no_number():
    together = np.array([[1.0, 1.0], [1.0, 1.0]])
    assert ad.propagate(lambda x: x[0] - x[1], X[:2], together).std == pytest.approx(0.0, abs=1e-7)
    impossible = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])  # every pair is possible
    assert np.isnan(ad.propagate(lambda x: x[0] - x[1] + x[2], X, impossible).std)


@pytest.mark.parametrize(
    ("cov", "text"),
    [
        (np.ones((2, 3)), r"cov must have the shape \(3, 3\) or \(3,\).*got \(2, 3\)"),
        (np.ones(2), r"got \(2,\)"),
        (-1.0, "negative variance"),
        (np.diag([1.0, -1.0, 1.0]), "negative variance"),
        (np.diag([1.0, np.nan, 1.0]), "cov must be finite"),
        (float("inf"), "cov must be finite"),
        (COV + np.eye(3, k=1) * 1e-3, "cov must be symmetric"),
        (COV + 1.0 - np.eye(3), "correlation beyond 1"),
    ],
)
def test_what_is_no_covariance_is_refused(cov, text):
    def never(_x):
        pytest.fail("f was called")

    with pytest.raises(ValueError, match=text):
        ad.propagate(never, X, cov)


@pytest.mark.parametrize("cov", [None, "0.1", 1j, object(), np.ones((3, 3)) * 1j])
def test_what_is_no_real_array_is_refused(cov):
    with pytest.raises(TypeError, match="cov must be"):
        ad.propagate(pair, X, cov)


def test_rounding_in_a_covariance_is_no_asymmetry():
    cov = COV.astype(np.float32).astype(np.float64) * (1 + 1e-8 * np.random.default_rng(2).normal(size=(3, 3)))
    np.testing.assert_allclose(ad.propagate(pair, X, cov).covariance, RIGHT, rtol=1e-5)


def test_complex_numbers_and_unknown_options_are_refused():
    with pytest.raises(TypeError, match="propagate requires real-valued inputs"):
        ad.propagate(lambda z: abs(z) ** 2, 1 + 1j, 0.1)
    with pytest.raises(TypeError, match="propagate requires real-valued outputs"):
        ad.propagate(lambda x: x * 1j, X, COV)
    with pytest.raises(TypeError, match=r"propagate\(\) has no option 'covariance'"):
        ad.propagate(pair, X, COV, covariance=COV)
    with pytest.raises(TypeError, match="function as its first argument"):
        ad.propagate(X, X, COV)


def test_it_works_on_every_array_library(backend: Backend):
    x, cov = backend.asarray(X), backend.asarray(COV)
    result = ad.propagate(pair, x, cov)
    assert_array(result.covariance, RIGHT, x)
    assert_array(result.std, np.sqrt(np.diag(RIGHT)), x)
    assert (tonumpy(result.differentiation_error) < 1e-12).all()
    with pytest.raises(ValueError, match="symmetric"):
        ad.propagate(pair, x, backend.asarray(COV + np.eye(3, k=1) * 1e-3))


def test_a_covariance_of_another_library_is_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"cov must lie where x does.*torch.*numpy"):
        ad.propagate(pair, X, torch.eye(3, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"cov must lie where x does.*numpy.*torch"):
        ad.propagate(pair, torch.tensor(X), COV)


def test_single_precision_stays_single():
    result = ad.propagate(pair, X.astype(np.float32), COV)
    assert result.covariance.dtype == result.std.dtype == np.float32
    np.testing.assert_allclose(result.covariance, RIGHT, rtol=1e-4)
