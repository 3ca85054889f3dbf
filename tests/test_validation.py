"""A gradient is judged by error bars that belong to it: right, wrong, or why nothing can be said."""

from __future__ import annotations

import array_api_compat
import numpy as np
import pytest

import arraydiff as ad
from arraydiff.validation import compare_methods
from tests.helpers import Backend, Recorder

X = np.array([1.0, 2.0, -0.5])
METHODS = [method for method in ad.DifferentiationMethod if method.value != "exact"]


def cubes(x):
    xp = array_api_compat.array_namespace(x)
    return xp.sum(x**3)


def slope(x):
    return 3 * x**2


# check_grad


@pytest.mark.parametrize("given", [slope, slope(X), slope(X).tolist()], ids=["function", "array", "list"])
def test_a_right_gradient_is_right(given):
    check = ad.check_grad(cubes, given, X)
    assert check
    assert (check.verdict, check.entries, check.wrong, check.undecided) == ("right", 3, 0, 0)
    assert "right in 3 entries" in check.explain()


def test_a_wrong_gradient_is_wrong_and_the_worst_entry_is_named():
    check = ad.check_grad(cubes, slope(X) + np.array([1e-3, 0.0, 1e-6]), X)
    assert not check
    assert (check.verdict, check.wrong, check.where) == ("wrong gradient", 2, "x[0]")
    assert check.given == pytest.approx(3.001)
    assert check.computed == pytest.approx(3.0)
    assert check.difference == pytest.approx(1e-3)
    assert check.error_bar < 1e-12
    assert "wrong in 2 of 3 entries" in check.explain()
    assert "x[0]: given 3.001, found 3" in check.explain()


@pytest.mark.parametrize("mistake", [1e-9, 1e-6, 1.0, 1e6, np.nan, np.inf, -np.inf])
def test_a_mistake_of_any_size_above_rounding_is_found(mistake):
    gradient = slope(X)
    gradient[1] += 12 * mistake
    check = ad.check_grad(cubes, gradient, X)
    assert (check.verdict, check.where) == ("wrong gradient", "x[1]")


def test_rounding_in_the_given_gradient_is_no_mistake():
    assert ad.check_grad(cubes, slope(X) * (1 + 4e-16), X)
    x = X.astype(np.float32)
    assert ad.check_grad(cubes, slope(x) * np.float32(1 + 2e-7), x)


def test_parameters_of_very_different_size_are_each_held_against_their_own():
    x = np.array([1e4, 1e-3])

    def f(x):
        return np.sin(x[0] * 1e-4) * np.exp(x[1] * 1e3)

    def gradient(x, mistake=0.0):
        s, c, e = np.sin(x[0] * 1e-4), np.cos(x[0] * 1e-4), np.exp(x[1] * 1e3)
        return np.array([1e-4 * c * e * (1 + mistake), 1e3 * s * e])

    assert ad.check_grad(f, gradient, x)
    assert ad.check_grad(f, lambda x: gradient(x, 1e-6), x).where == "x[0]"


def test_structures_are_compared_entry_by_entry():
    x = {"rate": np.array([[1.0, 2.0]]), "offset": 0.5}

    def f(p):
        return np.sum(p["rate"] ** 2) * p["offset"]

    right = {"rate": x["rate"], "offset": 5.0}
    assert ad.check_grad(f, right, x)
    check = ad.check_grad(f, {**right, "rate": np.array([[1.0, 7.0]])}, x)
    assert (check.where, check.given, check.wrong) == ("x['rate'][0, 1]", 7.0, 1)
    assert ad.check_grad(f, {**right, "offset": 4.0}, x).where == "x['offset']"


def test_a_number_has_a_gradient_of_one_entry():
    check = ad.check_grad(lambda t: t**3, lambda t: 3 * t**2, 2.0)
    assert check
    assert (check.where, check.entries) == ("x", 1)
    assert "right in 1 entry," in check.explain()


def test_a_jacobian_is_checked_too():
    def f(x):
        return np.stack([x[0] * x[1], x[1] ** 2])

    x = np.array([2.0, 3.0])
    assert ad.check_grad(f, np.array([[3.0, 2.0], [0.0, 6.0]]), x)
    check = ad.check_grad(f, np.array([[3.0, 2.0], [0.0, 5.0]]), x)
    assert (check.verdict, check.where) == ("wrong gradient", "f[1] by x[1]")


def test_a_gradient_without_entries_is_right():
    check = ad.check_grad(np.sum, np.zeros(0), np.zeros(0))
    assert check
    assert check.entries == 0
    assert "no entries" in check.explain()


def test_a_zero_gradient_is_right():
    assert ad.check_grad(lambda x: 0.0 * np.sum(x) + 3.0, np.zeros(3), X)
    assert ad.check_grad(lambda x: np.sum((x - X) ** 2), np.zeros(3), X)


def test_a_kink_is_undecided_not_wrong():
    check = ad.check_grad(lambda x: np.sum(np.abs(x)), np.sign, np.array([1.0, 0.0]))
    assert (check.verdict, check.where, check.wrong) == ("kink", "x[1]", 0)
    assert not check
    assert check.status & ad.Status.KINK
    assert "KINK" in check.explain()
    assert "another x" in check.explain()


def test_a_wrong_entry_beside_a_kink_is_wrong():
    check = ad.check_grad(lambda x: np.sum(np.abs(x)), np.array([2.0, 0.0]), np.array([1.0, 0.0]))
    assert (check.verdict, check.where) == ("wrong gradient", "x[0]")


def test_where_the_error_bar_is_too_wide_it_is_undecided():
    check = ad.check_grad(cubes, slope, X, method="forward", step_size=1e-6, noise=1e-3)
    assert (check.verdict, check.wrong) == ("noise", 0)
    assert "too wide" in check.explain()


def test_a_function_that_computes_in_float32_is_not_called_wrong():
    assert ad.check_grad(lambda x: float(np.sum(x.astype(np.float32) ** 2)), 2 * X, X).verdict != "wrong gradient"


def test_a_function_that_fails_nearby_is_undecided():
    def f(x):
        return np.sum(x**2) if x[0] == 1.0 else np.nan

    check = ad.check_grad(f, 2 * X, X)
    assert (check.verdict, check.where) == ("unresolved", "x[0]")
    assert "another x" in check.explain()


def test_a_parameter_held_fixed_is_not_compared():
    bounds = ([1.0, -9.0, -9.0], [1.0, 9.0, 9.0])
    assert ad.check_grad(cubes, np.array([77.0, 12.0, 0.75]), X, bounds=bounds)


def test_other_shapes_and_structures_are_refused():
    with pytest.raises(ValueError, match=r"gradient must have the derivative's shape \(3,\), got \(2,\)"):
        ad.check_grad(cubes, np.zeros(2), X)
    with pytest.raises(ValueError, match="structure"):
        ad.check_grad(lambda p: cubes(p["a"]), {"b": X}, {"a": X})


def test_options_go_to_the_derivative_and_x_is_left_alone():
    x = X.copy()

    def overwriting(x):
        gradient = 3 * x**2
        x[:] = 0.0
        return gradient

    check = ad.check_grad(cubes, overwriting, x, config=ad.DifferentiationConfig(method="central"), order=4)
    assert check
    assert check.result.method_used == "central"
    assert (x == X).all()


def test_exceptions_of_the_given_gradient_go_through():
    with pytest.raises(ZeroDivisionError):
        ad.check_grad(cubes, lambda x: 1 / 0, X)


def test_check_grad_works_on_every_array_library(backend: Backend):
    host = np.linspace(0.5, 2.0, 5)
    x = backend.asarray(host)
    assert ad.check_grad(cubes, slope(host), x)  # a host array beside any x
    check = ad.check_grad(cubes, lambda x: 2 * slope(x), x)
    assert (check.verdict, check.wrong) == ("wrong gradient", 5)
    assert isinstance(check.given, float)


# with many parameters: a few directions first


class Coupled:
    """Terms that couple parameters of sizes 1e-9 to 1e9, with relative noise, and their gradient."""

    def __init__(self, n: int, seed: int, noise: float = 0.0) -> None:
        self.random, self.noise = np.random.default_rng(seed), noise
        self.size = 10.0 ** self.random.uniform(-9, 9, n)
        self.weight = np.exp(self.random.normal(size=n))
        self.link = np.sqrt(self.weight * np.roll(self.weight, 1))
        self.x = self.size * self.random.choice([-1.0, 1.0], n) * self.random.uniform(0.5, 2.0, n)
        self.one = int(self.random.integers(n))

    def f(self, x):
        u = x / self.size
        value = np.sum(self.weight * np.sin(u)) + np.exp(np.mean(u)) + np.sum(self.link * u * np.roll(u, 1)) / 2
        return value * (1 + self.noise * self.random.standard_normal()) if self.noise else value

    def gradient(self, x):
        u = x / self.size
        links = self.link * np.roll(u, 1) + np.roll(self.link, -1) * np.roll(u, -1)
        return (self.weight * np.cos(u) + np.exp(np.mean(u)) / u.size + links / 2) / self.size

    def wrong_in_one(self, x):
        return self.gradient(x) * np.where(np.arange(x.size) == self.one, 1.01, 1.0)


@pytest.mark.parametrize("noise", [0.0, 1e-9])
@pytest.mark.parametrize("n", [3, 40])
def test_right_and_one_percent_wrong_are_told_apart_at_all_scales_and_under_noise(n, noise):
    for seed in range(20):
        case = Coupled(n, seed, noise)
        right = ad.check_grad(case.f, case.gradient, case.x)
        assert right.verdict == "right", (seed, right.explain())
        assert right.points <= 80
        every = ad.check_grad(case.f, lambda x, c=case: 1.01 * c.gradient(x), case.x)
        assert every.verdict == "wrong gradient", (seed, every.explain())
        one = ad.check_grad(case.f, case.wrong_in_one, case.x)
        assert (one.verdict, one.where) == ("wrong gradient", f"x[{case.one}]"), (seed, one.explain())
        assert one.relative_difference == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_a_right_gradient_of_a_thousand_parameters_costs_no_more_points(noise):
    case = Coupled(1000, 1, noise)
    check = ad.check_grad(case.f, case.gradient, case.x)
    assert check.verdict == "right"
    assert check.points <= 80
    assert "random direction" in check.where
    assert "right in 1000 entries" in check.explain()
    wrong = ad.check_grad(case.f, case.wrong_in_one, case.x)
    assert (wrong.verdict, wrong.where, wrong.wrong) == ("wrong gradient", f"x[{case.one}]", 1)


def test_the_points_are_counted():
    f = Recorder(lambda x: np.sum(np.sin(x) * x))
    for factor in (1.0, 1.01):
        f.points = 0
        check = ad.check_grad(f, lambda x, k=factor: k * (np.sin(x) + x * np.cos(x)), np.linspace(0.5, 2.0, 10))
        assert check.points == f.points


def effects(k: int = -1):
    """40 sines with effects from 1e-12 to 1, and their gradient, wrong by 1 % in entry k."""
    size, x = 10.0 ** np.linspace(-12, 0, 40), np.linspace(0.5, 2.0, 40)
    wrong = np.where(np.arange(40) == k, 1.01, 1.0)
    return (lambda x: np.sum(size * np.sin(x))), (lambda x: size * np.cos(x) * wrong), x


@pytest.mark.parametrize("k", [4, 10, 20, 30, 39])
def test_a_mistake_in_a_small_effect_is_found_beside_large_ones(k):
    check = ad.check_grad(*effects(k))
    assert (check.verdict, check.where) == ("wrong gradient", f"x[{k}]")


def test_effects_of_all_sizes_are_right_in_few_points():
    check = ad.check_grad(*effects())
    assert check
    assert check.points < 40


@pytest.mark.parametrize("entry", [np.nan, np.inf, 0.0, -1.0, 1e300])
def test_one_entry_of_any_value_is_found_among_many(entry):
    case = Coupled(12, 3)
    gradient = case.gradient(case.x)
    gradient[5] = entry if entry != -1.0 else -gradient[5]
    check = ad.check_grad(case.f, gradient, case.x)
    assert (check.verdict, check.where, check.wrong) == ("wrong gradient", "x[5]", 1)


def test_mistakes_that_cancel_along_the_sizes_of_x_are_found():
    x = np.linspace(0.5, 2.0, 8)
    mistake = np.where(np.arange(8) == 2, 1e-3, 0.0) - np.where(np.arange(8) == 6, 1e-3 * x[2] / x[6], 0.0)
    assert float(mistake @ x) == pytest.approx(0.0)
    check = ad.check_grad(cubes, slope(x) + mistake, x)
    assert (check.verdict, check.wrong) == ("wrong gradient", 2)


def test_a_kink_among_many_parameters_is_named():
    x = np.linspace(0.5, 2.0, 10)
    x[7] = 0.0
    check = ad.check_grad(lambda x: np.sum(np.abs(x)), np.sign, x)
    assert (check.verdict, check.where) == ("kink", "x[7]")


def test_noise_that_hides_a_mistake_is_called_noise():
    random = np.random.default_rng(4)
    x = np.linspace(0.5, 2.0, 10)
    check = ad.check_grad(lambda x: cubes(x) * (1 + 1e-3 * random.standard_normal()), lambda x: 1.0001 * slope(x), x)
    assert (check.verdict, check.wrong) == ("noise", 0)
    assert "Undecided (noise)" in check.explain()


def test_a_step_that_is_too_coarse_is_unresolved():
    x = np.linspace(0.5, 2.0, 10)
    check = ad.check_grad(
        lambda x: np.sum(np.sin(x) * x), np.sin(x) + x * np.cos(x), x, method="central", step_size=0.5
    )
    assert (check.verdict, check.wrong) == ("unresolved", 0)


def test_many_parameters_in_a_structure_with_several_outputs_are_checked():
    x = {"a": np.linspace(0.5, 2.0, 12).reshape(3, 4), "b": [np.linspace(-1.0, 1.0, 4), 0.3]}

    def f(p):
        return {"u": np.sum(p["a"] ** 2) * p["b"][1], "v": p["b"][0][:3] * p["b"][1]}

    gradient = ad.jacobian(f)(x)
    assert ad.check_grad(f, gradient, x)
    gradient["u"]["a"][2, 3] *= 1.01
    check = ad.check_grad(f, gradient, x)
    assert (check.verdict, check.where) == ("wrong gradient", "f['u'] by x['a'][2, 3]")


def test_directions_stay_inside_the_bounds():
    x = np.linspace(0.5, 2.0, 12)
    lower = np.where(np.arange(12) % 2 == 0, x, 0.0)  # on the lower bound, on the upper one, on both, or near one
    upper = np.where(np.arange(12) % 3 == 0, x, x + 1e-6)
    f = Recorder(cubes)
    assert ad.check_grad(f, slope, x, bounds=(lower, upper), method="richardson")
    assert all((lower <= seen).all() and (seen <= upper).all() for seen in f.seen)
    check = ad.check_grad(cubes, slope(x) * np.where(np.arange(12) == 9, 1.01, 1), x, bounds=(lower, upper))
    assert (check.verdict, check.where) == ("wrong gradient", "x[9]")


def test_a_parameter_that_is_zero_takes_its_size_from_its_slope():
    x = np.linspace(0.5, 2.0, 8)
    x[5] = 0.0

    def gradient(x):
        return slope(x) + 1e9 * np.cos(1e9 * x) * (np.arange(8) == 5)

    def f(x):
        return cubes(x) + np.sin(1e9 * x[5])

    assert ad.check_grad(f, gradient, x)
    check = ad.check_grad(f, lambda x: gradient(x) * np.where(np.arange(8) == 6, 1.01, 1), x)
    assert (check.verdict, check.where) == ("wrong gradient", "x[6]")


# compare_methods


def test_every_method_is_reported_with_error_cost_and_time():
    f = Recorder(cubes)
    reports = compare_methods(f, X, exact=slope(X))
    assert list(reports) == [str(method) for method in METHODS]
    assert sum(report.evaluations for report in reports.values()) + 1 == f.points  # one more tells the shape
    for name, report in reports.items():
        assert report.method == name
        assert report.error is not None
        assert report.error < 1e-5
        assert report.time > 0
        assert report.exception is None
        assert report.result.gradient.shape == (3,)
    assert all(reports[name].within_tolerance for name in ("adaptive", "complex_step", "richardson", "central"))


def test_the_tolerance_decides():
    strict = compare_methods(cubes, X, exact=slope, tolerance=1e-13, methods=["forward", "complex_step"])
    assert [report.within_tolerance for report in strict.values()] == [False, True]


def test_errors_are_relative_where_the_derivative_is_large():
    report = compare_methods(lambda x: 1e9 * cubes(x), X, exact=1e9 * slope(X), methods=["complex_step"])
    assert report["complex_step"].within_tolerance


def test_without_an_exact_answer_nothing_is_said_of_errors():
    report = compare_methods(cubes, X, methods=["central"])["central"]
    assert (report.error, report.within_tolerance) == (None, None)


def test_a_method_that_raises_is_reported_and_the_others_go_on():
    reports = compare_methods(cubes, X, exact=slope(X), methods=["richardson", "central"], order=4)
    assert isinstance(reports["richardson"].exception, ValueError)
    assert (reports["richardson"].result, reports["richardson"].within_tolerance) == (None, False)
    assert reports["central"].within_tolerance


def test_a_derivative_that_is_not_a_number_is_not_within_tolerance():
    report = compare_methods(lambda x: np.nan * np.sum(x), X, exact=slope(X), methods=["central"])["central"]
    assert report.within_tolerance is False


def test_functions_with_array_output_are_compared_by_their_jacobian():
    reports = compare_methods(lambda x: x**2, X, exact=np.diag(2 * X))
    assert reports["adaptive"].error < 1e-14
    reports = compare_methods(lambda x: {"a": x[:1], "b": x[0]}, X, exact={"a": np.eye(3)[:1], "b": np.eye(3)[0]})
    assert reports["central"].error < 1e-8


def test_one_method_goes_by_methods():
    with pytest.raises(TypeError, match="methods="):
        compare_methods(cubes, X, method="central")
    with pytest.raises(ValueError, match="midpoint"):
        compare_methods(cubes, X, methods=["midpoint"])
