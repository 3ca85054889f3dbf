"""Standard errors from a Hessian or JᵀJ: what is determined is right, what is not is said, and the bars hold."""

from __future__ import annotations

import pickle
import warnings

import array_api_compat
import mpmath
import numpy as np
import pytest

import arraydiff as ad
from arraydiff.uncertainty import covariance
from benchmarks.nist import DATASETS
from benchmarks.xpcs_points import SAMPLE, simulate
from tests.helpers import Backend, assert_array, assert_like, tonumpy

H = np.array([[4.0, 1.0, 0.5], [1.0, 9.0, -2.0], [0.5, -2.0, 2.0]])
TIME = np.linspace(0.1, 3.0, 40)


def decay(p):
    xp = array_api_compat.array_namespace(p)
    t = xp.asarray(TIME.tolist(), dtype=p.dtype, device=array_api_compat.device(p))
    return (p[0] * xp.exp(-p[1] * t) + p[2] - 2.0 * xp.exp(-0.7 * t)) / 0.05


def inverse(matrix):
    """In 60 digits, rounded."""
    with mpmath.workdps(60):
        exact = mpmath.matrix(matrix.tolist()) ** -1
        return np.array(exact.tolist(), dtype=float)


def hilbert(n):
    return 1.0 / (np.arange(n)[:, None] + np.arange(n) + 1.0)


def ill_conditioned(n, condition, random):
    q, _ = np.linalg.qr(random.normal(size=(n, n)))
    matrix = (q * np.geomspace(1.0, 1.0 / condition, n)) @ q.T
    return (matrix + matrix.T) / 2


@pytest.mark.parametrize("data", DATASETS, ids=lambda data: data.name)
def test_standard_errors_are_those_that_nist_certified(data):
    result = covariance(ad.normal_equations(data.residual).result(np.array(data.certified)), scale="residuals")
    np.testing.assert_allclose(result.std, data.errors, rtol=2e-9)
    assert (result.std_error < 1e-6 * result.std).all()
    assert result.scale == pytest.approx(data.squares / (len(data.x) - len(data.certified)), rel=1e-8)


def test_a_negative_log_likelihood_and_the_chi2_of_the_same_data_agree():
    x = np.array([2.0, 0.7, 0.0])

    def chi2(p):
        return np.sum(decay(p) ** 2)

    def likelihood(p):
        return chi2(p) / 2 + 17.0

    fit = covariance(ad.normal_equations(decay).result(x))  # the residuals are 0, so H = 2 JᵀJ
    of_chi2 = covariance(ad.hessian(chi2).result(x), objective="chi2")
    of_likelihood = covariance(ad.hessian(likelihood).result(x))
    np.testing.assert_allclose(of_chi2.std, fit.std, rtol=1e-6)
    np.testing.assert_allclose(of_likelihood.std, fit.std, rtol=1e-6)
    np.testing.assert_allclose([of_chi2.logdet, of_likelihood.logdet], fit.logdet, rtol=1e-6)


def test_it_is_what_curve_fit_gives_with_and_without_absolute_sigma():
    optimize = pytest.importorskip("scipy.optimize")
    y = 2.0 * np.exp(-0.7 * TIME) + 0.05 * np.random.default_rng(3).normal(size=TIME.size)

    def model(t, a, b, c):
        return a * np.exp(-b * t) + c

    def residual(p):
        return (model(TIME, *p) - y) / 0.05

    for absolute in (True, False):
        best, cov = optimize.curve_fit(
            model, TIME, y, (1, 1, 0), sigma=np.full(TIME.size, 0.05), absolute_sigma=absolute
        )
        ours = covariance(ad.normal_equations(residual).result(best), scale=None if absolute else "residuals")
        np.testing.assert_allclose(ours.covariance, cov, rtol=1e-3)  # of the step before the last
    squares = float(np.sum(residual(best) ** 2))
    by_hand = covariance(ad.normal_equations(residual).result(best), scale=squares / (TIME.size - 3))
    np.testing.assert_allclose(by_hand.covariance, ours.covariance, rtol=1e-13)


@pytest.mark.parametrize("n", [2, 4, 6, 8, 10])
def test_the_inverse_of_badly_scaled_hilbert_matrices_is_right_within_its_bars(n):
    units = np.geomspace(1e-6, 1e5, n)
    matrix = hilbert(n) / np.outer(units, units)
    matrix = (matrix + matrix.T) / 2
    exact = inverse(matrix)
    result = covariance(matrix, error=0.0, unreliable="ignore")
    assert result.rank == n
    assert (np.abs(result.covariance - exact) <= result.differentiation_error).all()
    std = np.sqrt(np.diag(exact))
    assert (np.abs(result.std - std) <= result.std_error).all()
    assert (np.abs(result.std - std) < 1e-15 * result.condition * std).all()
    with mpmath.workdps(60):
        logdet = float(mpmath.log(mpmath.det(mpmath.matrix(matrix.tolist()))))
    assert abs(result.logdet - logdet) <= result.logdet_error


def test_units_of_the_parameters_do_not_matter():
    units = np.array([1e-6, 1.0, 1e5])
    plain, scaled = covariance(H), covariance(H / np.outer(units, units))
    np.testing.assert_allclose(scaled.std, plain.std * units, rtol=1e-14)
    np.testing.assert_allclose(scaled.eigenvalues, plain.eigenvalues, rtol=1e-13)
    assert scaled.condition == pytest.approx(plain.condition)


def test_a_minimum_with_curvatures_1e12_apart_has_both_standard_errors():
    matrix, error = np.diag([2.0, 2e-12]), np.diag([2e-12, 2e-19])
    result = covariance(matrix, error=error)
    np.testing.assert_allclose(result.std, [0.5**0.5, 0.5**0.5 * 1e6], rtol=1e-12)
    assert result.condition == pytest.approx(1.0)


@pytest.mark.parametrize("condition", [1e2, 1e6])
@pytest.mark.parametrize("share", [1e-3, 0.3])
def test_every_matrix_within_the_bars_has_its_standard_errors_within_theirs(condition, share):
    """Random signs of full bars, too: those reach farthest."""
    random = np.random.default_rng(int(condition))
    for n in (2, 3, 6):
        matrix = ill_conditioned(n, condition, random)
        units = 10.0 ** random.uniform(-6, 5, n)
        matrix = matrix * np.outer(units, units)
        bars = np.abs(random.normal(size=(n, n)))
        bars = (bars + bars.T) * np.outer(units, units) * share / (condition * n * n)
        result = covariance(matrix, error=bars, unreliable="ignore")
        assert result.rank == n
        for k in range(50):
            draw = random.uniform(-1, 1, (n, n)) if k % 2 else random.choice([-1.0, 1.0], (n, n))
            other = matrix + np.triu(draw) * bars + np.triu(draw, 1).T * bars
            exact = inverse(other)
            assert (np.abs(np.sqrt(np.diag(exact)) - result.std) <= result.std_error).all()
            assert (np.abs(exact - result.covariance) <= result.differentiation_error).all()
            assert abs(
                np.linalg.slogdet(other / np.outer(units, units))[1] + 2 * np.sum(np.log(units)) - result.logdet
            ) <= (result.logdet_error + 1e-9)


def test_small_bars_carry_over_to_first_order():
    bars = 1e-6 * np.abs(H)
    result = covariance(H, error=bars)
    inverted = np.abs(np.linalg.inv(H))
    np.testing.assert_allclose(result.differentiation_error, inverted @ bars @ inverted, rtol=1e-4)
    np.testing.assert_allclose(result.std_error, np.diag(result.differentiation_error) / (2 * result.std), rtol=1e-4)


def test_wide_bars_are_told():
    with pytest.warns(ad.DifferentiationWarning, match="differentiation error makes up more than 1 %"):
        result = covariance(H, error=0.1)
    assert (result.std_error > 0.01 * result.std).any()
    assert (covariance(H, error=1e-9).std_error < 1e-8).all()


def xpcs(**changes):
    x, names = (
        SAMPLE.copy(),
        ["contrast", "offset", "D0", "alpha", "D_offset", "shear_rate0", "beta", "shear_rate_offset"],
    )
    for name, value in changes.items():
        x[names.index(name)] = value
    return ad.normal_equations(simulate(SAMPLE, frames=40, angles=5).residual).result(x)


def test_all_nine_parameters_of_xpcs_are_determined_at_the_typical_point():
    result = covariance(xpcs())
    assert result.rank == 9
    assert (result.std_error < 1e-7 * result.std).all()


@pytest.mark.parametrize(
    ("changes", "pair"),
    [({"beta": 0.0}, (5, 7)), ({"alpha": 0.0}, (2, 4)), ({"alpha": 0.0, "beta": 0.0}, (2, 4, 5, 7))],
)
def test_xpcs_parameters_that_do_the_same_are_named_and_the_others_keep_their_standard_errors(changes, pair):
    with pytest.warns(ad.DifferentiationWarning, match="does not determine some parameters"):
        result = covariance(xpcs(**changes))
    others = [i for i in range(9) if i not in pair]
    assert np.isinf(result.std[list(pair)]).all()
    assert (result.std_error[others] < 1e-7 * result.std[others]).all()
    assert result.rank == 9 - len(result.undetermined) == 9 - len(pair) // 2
    assert result.condition == np.inf
    assert not result.negative
    named = {path for direction in result.undetermined for path, _ in direction.parts}
    assert named == {f"[{i}]" for i in pair}
    assert all(direction.explained for direction in result.undetermined)
    assert result.undetermined[0].parts[0][1] == pytest.approx(0.5**0.5)
    for path in named:
        assert f"x{path}" in result.explain()


def test_the_others_are_right_where_a_pair_is_not_determined():
    """One of the pair held gives the others the same standard errors: what is fitted is the same."""
    x = np.array([2.0, 0.7, 0.0, 0.3])

    def twice(p):
        return decay(np.stack([p[0], p[1] + p[3], p[2]]))

    result = covariance(ad.normal_equations(twice).result(x), unreliable="ignore")
    held = covariance(ad.normal_equations(lambda p: twice(np.append(p, 0.3))).result(x[:3]))
    np.testing.assert_allclose(result.std[[0, 2]], held.std[[0, 2]], rtol=1e-10)
    assert np.isinf(result.std[[1, 3]]).all()


def test_without_contrast_only_contrast_and_offset_are_determined():
    result = covariance(xpcs(contrast=0.0), unreliable="ignore")
    assert np.isfinite(result.std[:2]).all()
    assert np.isinf(result.std[2:]).all()
    assert len(result.undetermined) == 7


def test_a_saddle_is_told_with_its_direction_and_the_rest_is_right():
    matrix = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 3.0], [0.0, 3.0, 1.0]])
    with pytest.warns(ad.DifferentiationWarning, match="x is no minimum"):
        result = covariance(matrix)
    np.testing.assert_allclose(result.std[0], 0.5**0.5)
    assert np.isnan(result.std[1:]).all()
    (direction,) = result.negative
    assert direction.curvature == pytest.approx(-2.0 / 3.0)  # with the largest entry scaled to 1
    assert not direction.explained
    assert abs(direction.vector[0]) < 1e-12
    assert direction.vector[1] == pytest.approx(-direction.vector[2])
    assert np.isnan(result.logdet)
    assert "negative: +0.71 x[1] -0.71 x[2]" in result.explain()


def test_negative_curvature_that_the_bars_explain_is_undetermined():
    matrix = np.array([[1.0, 1.0 + 1e-9], [1.0 + 1e-9, 1.0]])
    sharp = covariance(matrix, error=1e-12, unreliable="ignore")
    blunt = covariance(matrix, error=1e-8, unreliable="ignore")
    assert (len(sharp.negative), len(sharp.undetermined)) == (1, 0)
    assert (len(blunt.negative), len(blunt.undetermined)) == (0, 1)
    assert blunt.undetermined[0].curvature < 0
    assert blunt.undetermined[0].explained
    assert np.isinf(blunt.std).all()


def test_a_diagonal_of_zero_with_a_row_that_is_not_is_a_saddle_in_any_units():
    for units in (1.0, 1e-6, 1e5):
        d = np.array([1.0, units, 1.0])
        result = covariance(
            np.array([[2.0, 3.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 4.0]]) * np.outer(d, d), unreliable="ignore"
        )
        assert len(result.negative) == 1
        np.testing.assert_allclose(result.std, [np.nan, np.nan, 0.5])


def test_a_row_of_zeros_is_a_parameter_without_influence():
    result = covariance(np.diag([4.0, 0.0, 1.0]), unreliable="ignore")
    np.testing.assert_allclose(result.std, [0.5, np.inf, 1.0])
    assert [path for path, _ in result.undetermined[0].parts] == ["[1]"]
    assert result.status.tolist() == [0, int(ad.Status.UNRESOLVED), 0]


def test_a_parameter_that_bounds_hold_has_variance_0_and_the_others_are_those_of_the_fit_without_it():
    def f(x):
        return x @ H @ x / 2

    x = np.array([1.0, -2.0, 0.5])
    result = covariance(ad.hessian(f, bounds=([-9, -2, -9], [9, -2, 9])).result(x))
    assert result.status.tolist() == [0, int(ad.Status.FIXED), 0]
    assert (result.covariance[1] == 0).all()
    free = np.ix_([0, 2], [0, 2])
    np.testing.assert_allclose(result.covariance[free], np.linalg.inv(H[free]), rtol=1e-9)
    assert result.logdet == pytest.approx(np.linalg.slogdet(H[free])[1], rel=1e-8)
    assert "Held by bounds, so of variance 0: x[1]" in result.explain()


def test_entries_that_are_not_finite_leave_nothing_known():
    with pytest.warns(ad.DifferentiationWarning, match="not finite"):
        result = covariance(np.where(np.eye(3) == 1, np.nan, H))
    assert np.isnan(result.std).all()
    assert (result.status == int(ad.Status.FAILED)).all()
    assert np.isnan(result.logdet)
    assert np.isnan(result.condition)


def test_an_entry_without_a_bar_leaves_standard_errors_without_one():
    bars = np.zeros((3, 3))
    bars[0, 0] = np.inf
    matrix = np.array([[4.0, 1.0, 0.0], [1.0, 9.0, 0.0], [0.0, 0.0, 2.0]])
    result = covariance(matrix, error=bars, unreliable="ignore")
    np.testing.assert_allclose(result.std, np.sqrt(np.diag(np.linalg.inv(matrix))))
    assert np.isinf(result.std_error).tolist() == [True, True, False]
    assert np.isinf(result.logdet_error)


def test_a_kink_in_the_hessian_is_no_curvature():
    def f(x):
        return x[0] ** 2 + x[1] * np.abs(x[1])

    result = covariance(ad.hessian(f, unreliable="ignore").result(np.array([1.0, 0.0])), unreliable="ignore")
    assert result.warnings
    assert np.isinf(result.std_error[1])
    np.testing.assert_allclose(result.std[0], 0.5**0.5, rtol=1e-6)


def test_what_unreliable_says_is_done():
    singular = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 4.0]])
    with pytest.warns(ad.DifferentiationWarning):
        covariance(singular)
    with pytest.raises(ad.NumericalStabilityError, match=r"undetermined: \+0.71 x\[0\] -0.71 x\[1\]"):
        covariance(singular, unreliable="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isinf(covariance(singular, unreliable="ignore").std[0])
        blank = covariance(singular, unreliable="nan")
    np.testing.assert_allclose(blank.std, [np.nan, np.nan, 0.5])
    assert np.isnan(blank.covariance[0, 0])


def test_structures_come_back_as_they_came():
    def f(p):
        flat = np.concatenate([[p["offset"]], p["rate"].ravel()])
        return flat @ H @ flat / 2

    x = {"rate": np.array([[1.0], [0.3]]), "offset": np.asarray(-0.5)}
    result = covariance(ad.hessian(f).result(x))
    right = np.linalg.inv(H)
    np.testing.assert_allclose(result.covariance, right, rtol=1e-9)
    assert result.std["rate"].shape == (2, 1)
    np.testing.assert_allclose(result.std["rate"].ravel(), np.sqrt(np.diag(right))[1:], rtol=1e-9)
    np.testing.assert_allclose(result.std["offset"], np.sqrt(right[0, 0]), rtol=1e-9)
    assert set(result.std_error) == set(result.status) == {"rate", "offset"}
    same = covariance(ad.hessian(f)(x))  # the blocks alone
    np.testing.assert_allclose(same.std["rate"], result.std["rate"], rtol=1e-12)
    flat = covariance(np.diag([1.0, 0.0]).reshape(2, 1, 2, 1), unreliable="ignore")
    assert flat.std.shape == (2, 1)
    assert flat.undetermined[0].parts[0][0] == "[1, 0]"


def test_directions_are_steps_in_the_structure_of_x():
    def f(p):
        return (1e3 * p["a"] + p["b"]) ** 2

    result = covariance(ad.hessian(f).result({"a": np.asarray(0.0), "b": np.asarray(1.0)}), unreliable="ignore")
    (direction,) = result.undetermined
    assert 1e3 * direction.vector["a"] == pytest.approx(-direction.vector["b"], rel=1e-6)
    assert "x['a'] -0.71 x['b']" in str(direction)


def test_several_arguments_and_numbers():
    def f(a, b):
        return a**2 + a * b[0] + b[0] ** 2 + 3 * b[1] ** 2

    result = covariance(ad.hessian(f, argnums=(0, 1)).result(1.0, np.array([2.0, 0.5])))
    right = np.sqrt(np.diag(np.linalg.inv([[2.0, 1, 0], [1, 2, 0], [0, 0, 6]])))
    np.testing.assert_allclose(result.std[0], right[0], rtol=1e-9)
    np.testing.assert_allclose(result.std[1], right[1:], rtol=1e-9)
    alone = covariance(ad.hessian(lambda t: 2 * t**2).result(3.0))
    assert alone.std.shape == ()
    assert float(alone.std) == pytest.approx(0.5)
    np.testing.assert_allclose(covariance([[2.0, 0.0], [0.0, 8.0]]).covariance, np.diag([0.5, 0.125]))
    np.testing.assert_allclose(covariance(np.diag([2, 8])).std, np.diag([0.5, 0.125]).diagonal() ** 0.5)


def test_the_error_of_a_residual_scale_is_counted():
    result = ad.normal_equations(decay, noise=1e-3).result(np.array([2.1, 0.7, 0.0]))
    known, found = (covariance(result, scale=scale, unreliable="ignore") for scale in (None, "residuals"))
    assert (found.std_error / found.std > known.std_error / known.std).all()


def test_a_covariance_can_be_propagated():
    fit = covariance(ad.normal_equations(decay).result(np.array([2.0, 0.7, 0.0])))
    half = ad.propagate(lambda p: np.log(2) / p[1], np.array([2.0, 0.7, 0.0]), fit.covariance)
    assert float(half.std) == pytest.approx(np.log(2) / 0.49 * fit.std[1], rel=1e-9)


def test_the_residual_scale_wants_to_know_what_counts():
    x = np.array([2.0, 0.7, 0.1])
    weighted = ad.normal_equations(decay, weights=np.where(TIME > 1, 1.0, 0.0)).result(x)
    with pytest.raises(ValueError, match="give count="):
        covariance(weighted, scale="residuals")
    used = covariance(weighted, scale="residuals", count=int(np.sum(TIME > 1)))
    alone = ad.normal_equations(lambda p: decay(p)[TIME > 1]).result(x)
    np.testing.assert_allclose(used.std, covariance(alone, scale="residuals").std, rtol=1e-9)
    by_blocks = ad.normal_equations([lambda p: decay(p)[:20], lambda p: decay(p)[20:]]).result(x)
    assert by_blocks.rows == TIME.size
    with pytest.raises(ValueError, match="their sum of squares"):
        covariance(H, scale="residuals")
    with pytest.raises(ValueError, match="their sum of squares"):
        covariance(ad.hessian(lambda p: np.sum(p**2)).result(x), scale="residuals", count=9)
    with pytest.raises(ValueError, match="more residuals than parameters, got 3 and 3"):
        covariance(ad.normal_equations(lambda p: p**2).result(x), scale="residuals")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: covariance(H, objective="least squares"), ValueError, "objective wants one of 'nll', 'chi2'"),
        (lambda: covariance(H, unreliable="no"), ValueError, "unreliable wants one of"),
        (lambda: covariance(H, scale=-1.0), ValueError, "scale wants a number > 0"),
        (lambda: covariance(H, scale="rms"), ValueError, "scale wants a number, 'residuals' or None"),
        (lambda: covariance(H, count=0), ValueError, "count wants the number of residuals"),
        (lambda: covariance(H, error=-H), ValueError, "error must not be negative"),
        (lambda: covariance(H, error=np.ones(3)), ValueError, "error must have the structure and shapes of the matrix"),
        (lambda: covariance(H[:2]), ValueError, r"the shapes of x, each twice, got \(2, 3\)"),
        (lambda: covariance(np.stack([H, H])), ValueError, r"got \(2, 3, 3\)"),
        (lambda: covariance({"a": H, "b": H}), ValueError, "each twice"),
        (lambda: covariance([]), ValueError, "without entries"),
        (lambda: covariance(H * 1j), TypeError, "real numbers, got complex128"),
        (lambda: covariance("H"), TypeError, "covariance wants"),
        (lambda: covariance(ad.jacobian(decay).result(H[0])), TypeError, "normal_equations"),
        (lambda: covariance(ad.grad(np.sum).result(H[0])), TypeError, "got GradientResult"),
        (lambda: covariance(ad.normal_equations(decay).result(H[0]), error=H), ValueError, "leave error out"),
        (lambda: covariance(ad.hessian(lambda x: x**2).result(H[0])), ValueError, "each twice"),
    ],
)
def test_what_is_no_matrix_of_second_derivatives_is_refused_with_a_remedy(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_values_that_are_not_there_yet_are_asked_for():
    jax = pytest.importorskip("jax")
    with pytest.raises(ValueError, match=r"inside jax.jit: call it outside"):
        jax.jit(lambda h: covariance(h).std)(jax.numpy.asarray(H))


def test_an_asymmetry_counts_as_error():
    lopsided = H + np.array([[0, 1e-3, 0], [-1e-3, 0, 0], [0, 0, 0]])
    result = covariance(lopsided)
    np.testing.assert_allclose(result.covariance, np.linalg.inv(H), rtol=1e-12)
    assert (result.std_error[:2] > 1e-6).all()


def test_it_works_on_every_array_library(backend: Backend):
    matrix = backend.asarray(H)
    result = covariance(matrix)
    right = np.linalg.inv(H)
    assert_array(result.covariance, right, matrix)
    assert_array(result.std, np.sqrt(np.diag(right)), matrix)
    assert_like(result.std_error, matrix, (3,))
    assert_like(result.correlation, matrix, (3, 3))
    assert_like(result.differentiation_error, matrix, (3, 3))
    assert tonumpy(result.status).tolist() == [0, 0, 0]
    assert result.logdet == pytest.approx(np.linalg.slogdet(H)[1])
    singular = covariance(backend.asarray([[1.0, 1.0], [1.0, 1.0]]), unreliable="ignore")
    assert_like(singular.undetermined[0].vector, matrix, (2,))


def test_a_fit_works_on_every_array_library(backend: Backend):
    x = backend.asarray([2.0, 0.7, 0.1])
    result = covariance(ad.normal_equations(decay).result(x), scale="residuals")
    on_numpy = covariance(ad.normal_equations(decay).result(tonumpy(x)), scale="residuals")
    assert_array(result.std, on_numpy.std, x, rtol=1e-9)


def test_single_precision_stays_single_and_counts_as_error():
    result = covariance(H.astype(np.float32))
    assert result.covariance.dtype == result.std.dtype == np.float32
    np.testing.assert_allclose(result.covariance, np.linalg.inv(H), rtol=1e-5)
    assert (result.std_error > 1e-8).all()


def test_a_result_can_be_kept_in_a_file():
    result = covariance(H)
    again = pickle.loads(pickle.dumps(result))
    assert (again.std == result.std).all()
    assert again.explain() == result.explain()
    assert "rank 3" in repr(again)


def test_a_thousand_parameters_take_seconds():
    random = np.random.default_rng(5)
    rows = random.normal(size=(1500, 1000)) * 10.0 ** random.uniform(-6, 5, 1000)
    matrix = rows.T @ rows
    result = covariance(matrix, error=1e-13 * np.sqrt(np.outer(np.diag(matrix), np.diag(matrix))))
    assert result.rank == 1000
    std = np.linalg.norm(np.linalg.pinv(rows / np.linalg.norm(rows, axis=0)), axis=1) / np.linalg.norm(rows, axis=0)
    np.testing.assert_allclose(result.std, std, rtol=1e-10)
