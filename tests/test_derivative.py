"""Elementwise derivatives of order 2, 3 and 4: how right they are, what their bars are worth, and what they ask of f."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from math import factorial
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from tests.helpers import Backend, Recorder, assert_array, tonumpy

ORDERS = (2, 3, 4)
MEDIAN_ERROR = {2: 1e-12, 3: 1e-10, 4: 1e-8}
SMOOTH_ERROR = {2: 1e-11, 3: 1e-8, 4: 1e-6}  # the worst of well-scaled entries
MOST_POINTS = 25

Function = Callable[[Any, Any], Any]


def both(name: str, numpy_name: str) -> Function:
    """A function that NumPy and mpmath name differently."""
    return lambda m, x: getattr(m, numpy_name if m is np else name)(x)


SMOOTH: dict[str, tuple[Function, Any]] = {
    "exp": (lambda m, x: m.exp(x), np.linspace(0.1, 3, 8)),
    "sin": (lambda m, x: m.sin(x), np.linspace(0.15, 6, 8)),
    "log": (lambda m, x: m.log(x), np.geomspace(1e-4, 1e4, 8)),
    "sqrt": (lambda m, x: m.sqrt(x), np.geomspace(1e-3, 1e3, 8)),
    "reciprocal": (lambda m, x: 1 / x, np.geomspace(1e-5, 1e5, 8)),
    "quintic": (lambda m, x: x**5 - 3 * x**4 + x, np.linspace(-2.1, 2.3, 8)),
    "gauss": (lambda m, x: m.exp(-x * x), np.linspace(-2, 2.2, 8)),
    "tanh": (lambda m, x: m.tanh(x), np.linspace(-2, 2.3, 8)),
    "atan": (both("atan", "arctan"), np.linspace(-5, 5.5, 8)),
    "cosh": (lambda m, x: m.cosh(x), np.linspace(-2.2, 3, 8)),
    "product": (lambda m, x: x * m.sin(x) * m.exp(-x / 3), np.linspace(0.2, 9, 8)),
    "rational": (lambda m, x: (x**3 - 2 * x) / (x * x + 2), np.linspace(-4, 5, 8)),
    "chirp": (lambda m, x: m.sin(x * x), np.linspace(0.2, 4, 8)),
    "lorentz": (lambda m, x: m.log(1 + x * x), np.linspace(-3, 3.3, 8)),
}
HARD: dict[str, tuple[Function, Any]] = {
    "cos near 0": (lambda m, x: m.cos(x), np.array([1e-6, 1e-5, 1e-4, 1e-3, 0.01, -0.02, 0.03, 0.05])),
    "x^2.5": (lambda m, x: x**2 * m.sqrt(x), np.geomspace(0.01, 100, 8)),
    "x^8": (lambda m, x: x**8, np.linspace(0.3, 2, 8)),
    "runge": (lambda m, x: 1 / (1 + 25 * x * x), np.linspace(-1, 1.1, 8)),
    "tan": (lambda m, x: m.tan(x), np.linspace(-1.4, 1.3, 8)),
    "fast": (lambda m, x: m.sin(20 * x), np.linspace(0.2, 3, 8)),
    "faster": (lambda m, x: m.sin(100 * x), np.linspace(0.2, 3, 8)),
    "fastest": (lambda m, x: m.sin(1000 * x), np.linspace(0.2, 3, 8)),
    "slow": (lambda m, x: m.sin(x / 100), np.linspace(0.2, 3, 8)),
    "exp of sin": (lambda m, x: m.exp(m.sin(3 * x)), np.linspace(0.3, 5, 8)),
    "offset": (lambda m, x: 1e6 + m.sin(x), np.linspace(0.3, 5, 8)),
    "logistic": (lambda m, x: 1 / (1 + m.exp(-5 * (x - 1))), np.linspace(-0.5, 3, 8)),
    "gauss far out": (lambda m, x: m.exp(-((x - 1000) ** 2) / 2), np.linspace(998.1, 1002.3, 8)),
    "pole nearby": (lambda m, x: 1 / (x - 1.001), np.linspace(0.8, 1.2, 8)),
    "asinh": (lambda m, x: both("asinh", "arcsinh")(m, 3 * x), np.linspace(-2, 2.2, 8)),
    "decaying wave": (lambda m, x: m.exp(-x) * m.cos(6 * x), np.linspace(0.1, 3, 8)),
    "at 0": (lambda m, x: m.exp(x) * m.cos(2 * x), np.zeros(1)),
    "edge nearby": (lambda m, x: m.log(x - 0.0999), np.array([0.1, 0.15, 0.3])),
}


def of(f: Function) -> Callable[[Any], Any]:
    """The function of NumPy arrays."""
    return lambda x: f(np, x)


def result(f: Callable[[Any], Any], n: int, x: Any, **options: Any) -> Any:
    return ad.derivative(f, n=n, unreliable="ignore", **options).result(x)


def status(found: Any) -> list[ad.Status]:
    return [ad.Status(int(flags)) for flags in np.ravel(tonumpy(found.status))]


@pytest.fixture(scope="module")
def truth() -> Callable[[str, int], np.ndarray]:
    """The exact n-th derivative of a function of the table at its points."""
    mp = pytest.importorskip("mpmath", reason="the truth is computed with mpmath")
    known: dict[str, np.ndarray] = {}

    def exact(name: str, n: int) -> np.ndarray:
        if name not in known:
            f, points = (SMOOTH | HARD)[name]
            with mp.workdps(50):
                terms = [mp.taylor(lambda t, f=f: f(mp, t), mp.mpf(float(x)), 4) for x in points]
                known[name] = np.array([[float(c * factorial(k)) for k, c in enumerate(row)] for row in terms])
        return known[name][:, n]

    return exact


@pytest.mark.parametrize("n", ORDERS)
def test_bars_cover_the_truth_and_are_sharp(n: int, truth: Callable[[str, int], np.ndarray]) -> None:
    errors, covered, sharpness, relative = [], [], [], []
    for name, (f, points) in (SMOOTH | HARD).items():
        exact, found = truth(name, n), result(of(f), n, points)
        error, bar = np.abs(found.derivative - exact), found.error_estimate
        assert found.function_points <= MOST_POINTS, name
        assert not np.any((error > 1e-3 * np.abs(exact)) & (bar < error / 10)), f"{name} is wrong in silence"
        errors += list(error)
        relative += list(error[exact != 0] / np.abs(exact[exact != 0]))
        covered += list(error <= bar + 1e-15 * np.abs(exact))
        sharpness += list(bar[error > 0] / error[error > 0])
    assert np.mean(covered) >= 0.97
    assert np.median(sharpness) <= 12
    assert np.median(relative) <= MEDIAN_ERROR[n]


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("name", ["exp", "sin", "quintic", "cosh", "log", "reciprocal", "sqrt"])
def test_smooth_functions_of_one_scale_come_out_right(
    name: str, n: int, truth: Callable[[str, int], np.ndarray]
) -> None:
    f, points = SMOOTH[name]
    exact = truth(name, n)
    size = np.maximum(np.abs(exact), np.abs(f(np, points)) / np.abs(points) ** n)  # a derivative may pass through 0
    found = result(of(f), n, points)
    assert np.max(np.abs(found.derivative - exact) / size) <= SMOOTH_ERROR[n]
    assert status(found) == [ad.Status.CONVERGED] * 8


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("noise", [1e-9, 1e-6])
def test_a_given_noise_is_planned_for_and_covered(
    noise: float, n: int, truth: Callable[[str, int], np.ndarray]
) -> None:
    covered = []
    for name, (f, points) in SMOOTH.items():
        for seed in (0, 1):
            random = np.random.default_rng(seed)
            noisy = lambda x, f=f, random=random: f(np, x) + noise * random.standard_normal(x.shape)  # noqa: E731
            found = result(noisy, n, points, noise=noise)
            covered += list(np.abs(found.derivative - truth(name, n)) <= found.error_estimate)
    assert np.mean(covered) >= 0.9


@pytest.mark.parametrize("n", ORDERS)
def test_noise_that_is_not_given_is_found(n: int) -> None:
    random, x = np.random.default_rng(3), np.linspace(0.5, 2.0, 40)
    found = result(lambda x: np.exp(x) + 1e-9 * random.standard_normal(x.shape), n, x)
    assert np.mean(np.abs(found.derivative - np.exp(x)) <= found.error_estimate) >= 0.85
    assert np.mean([bool(flags & ad.Status.NOISE_LIMITED) for flags in status(found)]) >= 0.8


@pytest.mark.parametrize("n", ORDERS)
def test_entries_of_very_different_size_are_each_right(n: int) -> None:
    x = np.geomspace(1e-6, 1e5, 12) * np.array([1, -1] * 6)
    exact = (-1) ** n * factorial(n + 1) * x ** (-2.0 - n)
    found = result(lambda x: x**-2.0, n, x)
    assert np.max(np.abs(found.derivative / exact - 1)) <= SMOOTH_ERROR[n]


@pytest.mark.parametrize("n", ORDERS)
def test_a_tiny_x_is_no_scale_of_f(n: int) -> None:
    x = np.array([0.0, 1e-7, -1e-6])
    found = result(lambda x: np.exp(x) + np.cos(x), n, x)
    exact = np.exp(x) + [-np.cos(x), np.sin(x), np.cos(x)][n - 2]
    assert np.max(np.abs(found.derivative - exact)) <= {2: 1e-7, 3: 1e-6, 4: 1e-4}[n]
    assert np.all(np.abs(found.derivative - exact) <= found.error_estimate)


@pytest.mark.parametrize("n", ORDERS)
def test_an_entry_does_not_depend_on_its_neighbours(n: int) -> None:
    x = np.array([0.3, -2.0, 1e3, 1e-4, 7.0])
    f = lambda x: 1 / (1 + x * x)  # noqa: E731
    alone = [ad.derivative(f, n=n, unreliable="ignore")(x[i : i + 1])[0] for i in range(5)]
    assert list(ad.derivative(f, n=n, unreliable="ignore")(x)) == alone


def test_the_cost_does_not_depend_on_the_number_of_entries() -> None:
    x = np.linspace(0.5, 1.5, 9001)
    f = Recorder(np.exp)
    found = result(f, 2, x)
    assert f.calls == found.function_points <= MOST_POINTS
    assert np.max(np.abs(found.derivative / np.exp(x) - 1)) < 1e-11


@pytest.mark.parametrize("n", ORDERS)
def test_a_jump_of_the_derivative_is_a_kink(n: int) -> None:
    found = result(lambda x: x ** (n - 1) * np.abs(x), n, np.array([0.0, 1.0]))
    assert status(found)[0] == ad.Status.KINK
    assert found.error_estimate[0] >= factorial(n) * (1 - 1e-9)  # half of what lies between the sides
    assert status(found)[1] == ad.Status.CONVERGED
    assert found.derivative[1] == pytest.approx(factorial(n), rel=1e-9)


def test_the_third_derivative_of_a_cubed_modulus_is_a_kink() -> None:
    found = result(lambda x: np.abs(x) ** 3, 3, np.zeros(1))
    assert status(found) == [ad.Status.KINK]
    assert found.error_estimate[0] >= 6


@pytest.mark.parametrize("n", ORDERS)
def test_a_derivative_that_does_not_exist_is_not_vouched_for(n: int) -> None:
    with pytest.warns(ad.DifferentiationWarning):
        ad.derivative(np.abs, n=n)(np.zeros(1))


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("power", [0, 1, 2, 3, 4])
def test_polynomials_at_0_are_right_and_vouched_for(n: int, power: int) -> None:
    found = result(lambda x: 3.0 * x**power, n, np.array([0.0]))
    exact = 3.0 * factorial(n) if n == power else 0.0
    assert abs(found.derivative[0] - exact) <= found.error_estimate[0] + 1e-15
    assert found.error_estimate[0] < 1e-3
    assert status(found) == [ad.Status.CONVERGED]


@pytest.mark.parametrize("n", ORDERS)
def test_a_function_that_is_0_has_derivative_0(n: int) -> None:
    found = result(lambda x: 0 * x, n, np.array([0.0, 2.0]))
    assert list(found.derivative) == list(found.error_estimate) == [0.0, 0.0]


@pytest.mark.parametrize("n", ORDERS)
def test_bounds_are_never_crossed_and_leave_one_side(n: int) -> None:
    f = Recorder(np.exp)
    x = np.array([0.0, 0.5, 1.0])
    found = result(f, n, x, bounds=(0.0, 1.0))
    assert f.coordinates.min() >= 0.0
    assert f.coordinates.max() <= 1.0
    assert [bool(flags & ad.Status.ONE_SIDED) for flags in status(found)] == [True, False, True]
    assert np.all(np.abs(found.derivative - np.exp(x)) <= np.array([1e-8, 1e-6, 1e-4])[n - 2])
    assert np.all(np.abs(found.derivative - np.exp(x)) <= found.error_estimate)


@pytest.mark.parametrize("width", [1e-3, 1e-10])
def test_narrow_bounds_are_kept_and_the_bar_says_what_they_cost(width: float) -> None:
    f, (low, high) = Recorder(np.exp), (1 - width, 1 + width)
    found = result(f, 2, np.ones(1), bounds=(low, high))
    assert low <= f.coordinates.min() <= f.coordinates.max() <= high
    assert abs(found.derivative[0] - np.e) <= found.error_estimate[0]


def test_a_parameter_without_room_is_fixed() -> None:
    found = result(np.exp, 2, np.array([0.5, 1.0]), bounds=([0.0, 1.0], [2.0, 1.0]))
    assert status(found)[1] == ad.Status.FIXED
    assert found.derivative[1] == 0.0


@pytest.mark.parametrize("n", ORDERS)
def test_where_f_ends_the_other_side_is_taken(n: int) -> None:
    found = result(lambda x: np.where(x < 0, np.nan, np.exp(x)), n, np.array([0.0, 1.0]))
    assert status(found) == [ad.Status.ONE_SIDED, ad.Status.CONVERGED]
    assert np.all(np.abs(found.derivative - np.exp([0.0, 1.0])) <= found.error_estimate)
    assert found.error_estimate[0] < {2: 1e-8, 3: 1e-6, 4: 1e-4}[n]


@pytest.mark.parametrize("n", ORDERS)
def test_an_f_that_raises_beyond_an_edge_is_differentiated_before_it(n: int) -> None:
    def f(x: np.ndarray) -> np.ndarray:
        if x[0] > 1.0:
            raise OverflowError("beyond the table")
        return np.exp(x)

    found = result(f, n, np.ones(1))
    assert abs(found.derivative[0] - np.e) <= found.error_estimate[0] < 1e-3
    assert status(found)[0] & ad.Status.ONE_SIDED


def test_an_entry_where_f_is_not_finite_fails_alone() -> None:
    with np.errstate(invalid="ignore"):
        found = result(np.log, 2, np.array([-1.0, 1.0]))
    assert status(found) == [ad.Status.FAILED, ad.Status.CONVERGED]
    assert np.isnan(found.derivative[0])


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("options", [{"step_size": 0.125}, {"relative_step": 0.0625}], ids=["absolute", "relative"])
@pytest.mark.parametrize("method", ["adaptive", "central"])
def test_a_given_step_is_taken_to_the_letter(method: str, options: dict[str, float], n: int) -> None:
    f, x = Recorder(np.exp), np.array([2.0])
    found = result(f, n, x, method=method, **options)
    multiples = (f.coordinates[:, 0] - 2.0) / 0.125
    assert np.all(multiples == np.round(multiples))
    assert found.derivative[0] == pytest.approx(np.exp(2.0), rel=0.1)
    assert abs(found.derivative[0] - np.exp(2.0)) <= found.error_estimate[0]


def test_a_given_step_that_does_not_fit_the_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="make the step smaller"):
        ad.derivative(np.exp, n=3, step_size=0.5, bounds=(0.0, 1.0))(np.array([0.5]))


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("order", [2, 4, 6])
def test_central_differences_by_name_have_bars_of_their_own(order: int, n: int) -> None:
    x = np.array([0.0, 0.5, 2.0])
    found = result(np.exp, n, x, method="central", order=order)
    assert found.method_used == "central"
    assert found.function_points == 2 * ((n - 1) // 2 + 1 + order // 2) + 1
    error = np.abs(found.derivative - np.exp(x))
    assert np.all(error <= found.error_estimate)
    assert np.all(error <= {2: 1e-6, 3: 1e-4, 4: 1e-2}[n] * np.exp(x))


def test_limits_of_the_step_are_kept() -> None:
    f = Recorder(np.exp)
    result(f, 3, np.ones(1), min_step=0.01, max_step=0.05)
    steps = np.abs(f.coordinates[1:, 0] - 1)
    assert 0.0099 < steps.min() <= steps.max() < 0.0501


@pytest.mark.parametrize("most", [1, 3, 5, 8, 17, 20])
def test_max_evaluations_is_never_exceeded(most: int) -> None:
    f, x = Recorder(np.exp), np.array([0.5, 1e-5])
    found = result(f, 2, x, max_evaluations=most)
    assert f.calls <= most
    missed = np.abs(found.derivative - np.exp(x)) > found.error_estimate
    assert not np.any(missed & np.isfinite(found.derivative))
    if most < 3:
        assert status(found) == [ad.Status.UNRESOLVED] * 2


def test_confidence_widens_the_bar() -> None:
    x = np.array([0.7])
    bars = [result(np.exp, 3, x, confidence=confidence).error_estimate[0] for confidence in (0.5, 0.95, 0.999)]
    assert bars[0] < bars[1] < bars[2]


def test_an_error_tolerance_saves_points() -> None:
    f, x = (lambda x: np.sin(100 * x)), np.array([0.2])
    easy = result(f, 2, x, error_tolerance=1e-2)
    assert easy.function_points <= result(f, 2, x).function_points
    assert easy.derivative[0] == pytest.approx(-1e4 * np.sin(20.0), rel=1e-2)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_library_gets_its_own_arrays_back(backend: Backend, dtype: str) -> None:
    xp, x = backend.namespace, backend.asarray([0.5, 1.0, 2.0], dtype)
    found = ad.derivative(xp.exp, n=3).result(x)
    exact = np.exp([0.5, 1.0, 2.0])
    assert_array(found.derivative, exact, x, rtol=1e-8 if dtype == "float64" else 1e-3)
    assert np.all(np.abs(tonumpy(found.derivative) - exact) <= tonumpy(found.error_estimate))


@pytest.mark.parametrize("backend", [Backend.STRICT_DEVICE1, Backend.TORCH, Backend.JAX], indirect=True)
@pytest.mark.parametrize(
    "options", [{"bounds": (0.5, 3.0)}, {"step_size": 0.1}, {"method": "central"}, {"noise": 1e-9}]
)
def test_every_library_takes_every_way(backend: Backend, options: dict[str, Any]) -> None:
    xp, x = backend.namespace, backend.asarray([0.5, 1.0, 2.0])
    found = result(xp.exp, 2, x, **options)
    assert np.all(np.abs(tonumpy(found.derivative) - np.exp([0.5, 1.0, 2.0])) <= tonumpy(found.error_estimate))
    assert np.all(tonumpy(found.error_estimate) < 1e-2)


@pytest.mark.parametrize("n", ORDERS)
def test_float32_is_differentiated_in_float32(n: int) -> None:
    x = np.linspace(0.5, 2.0, 20, dtype=np.float32)
    found = result(np.exp, n, x)
    exact = np.exp(x.astype(float))
    assert found.derivative.dtype == np.float32
    assert np.median(np.abs(found.derivative / exact - 1)) < {2: 1e-5, 3: 2e-4, 4: 2e-3}[n]
    assert np.mean(np.abs(found.derivative - exact) <= found.error_estimate) >= 0.95


def test_shapes_and_numbers_are_kept() -> None:
    assert ad.derivative(np.exp, n=2)(np.ones((2, 3))).shape == (2, 3)
    assert ad.derivative(lambda x: x**4, n=4)(2.0) == pytest.approx(24.0, rel=1e-8)
    assert ad.derivative(np.exp, n=2)(np.zeros(0)).shape == (0,)


def test_a_derivative_of_a_derivative_carries_the_inner_bar() -> None:
    x = np.array([0.5, 1.0])
    found = result(ad.derivative(np.exp, n=2), 2, x)
    assert np.all(np.abs(found.derivative - np.exp(x)) <= found.error_estimate)
    assert np.max(found.error_estimate) < 1e-5


def test_a_higher_derivative_can_be_pickled_and_names_its_method() -> None:
    again = pickle.loads(pickle.dumps(ad.derivative(np.exp, n=2)))
    found = again.result(np.ones(1))
    assert found.method_used == "richardson"
    assert "real differences" in found.explain()
    assert found.condition is None


@pytest.mark.parametrize("n", [0, 5, -1, 2.0, True, "2", None])
def test_an_order_that_is_not_served_is_refused_with_a_way_out(n: Any) -> None:
    with pytest.raises(ValueError, match=r"n wants 1, 2, 3 or 4, got .*nest"):
        ad.derivative(np.exp, n=n)


@pytest.mark.parametrize("method", ["forward", "backward", "complex_step"])
def test_a_method_for_first_derivatives_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match="leave method out"):
        ad.derivative(np.exp, n=2, method=method)


def test_entries_that_need_one_side_are_taken_out_and_put_back(backend):
    x = backend.asarray([0.5, 0.7, 3.0, 1.0, 1.0])  # the first and the third are on a bound
    exp = backend.namespace.exp
    result = ad.derivative(exp, method="richardson", bounds=(0.5, 3.0)).result(x)
    np.testing.assert_allclose(tonumpy(result.derivative), np.exp(tonumpy(x)), rtol=1e-10)
    one_sided = tonumpy(result.status) & int(ad.Status.ONE_SIDED)
    assert [bool(flag) for flag in one_sided] == [True, False, True, False, False]
