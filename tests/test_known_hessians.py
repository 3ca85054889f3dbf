"""Functions with exact Hessians: the truths against closed forms, and Hessians and standard errors against the truths."""

from __future__ import annotations

import numpy as np
import pytest

import arraydiff as ad
from arraydiff.uncertainty import covariance
from benchmarks.hessian_functions import FUNCTIONS, SMALL, VALLEY, Known
from benchmarks.hessian_tools import Judged, held, ours
from tests import functions as fn

NAMED = {known.name: known for known in FUNCTIONS}
CLOSED_FORMS = {
    "Rosenbrock, n = 10": fn.rosenbrock_hessian,
    "Beale": fn.beale_hessian,
    "Himmelblau": fn.himmelblau_hessian,
    "quadratic form": lambda x: fn.MATRIX,
    "sines of neighbours": fn.neighbours_hessian,
    "log-sum-exp": fn.softmax_jacobian,
    "product": fn.product_hessian,
    "entropy": lambda x: np.diag(1 / x),
    "1e4 + exponentials": lambda x: np.diag(np.exp(x)),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_the_truth_is_the_closed_form(name):
    known = NAMED[name]
    right = CLOSED_FORMS[name](known.x)
    np.testing.assert_allclose(known.hessian, right, rtol=1e-13, atol=1e-15 * np.max(np.abs(right)))


@pytest.mark.parametrize("known", [*FUNCTIONS, VALLEY, SMALL], ids=lambda known: known.name)
def test_a_function_takes_blocks_of_points_and_complex_numbers(known: Known):
    block = np.stack([known.x, known.x * (1 + 2.0**-10)], axis=1)
    np.testing.assert_allclose(known(block)[0], known(known.x), rtol=1e-14)
    assert known(known.x + 0j) == pytest.approx(known(known.x), rel=1e-14)


def test_hessians_are_right_and_their_bars_hold_in_95_percent_of_entries():
    tool = ours()
    judged = [Judged(tool(known, known.x), known.hessian) for known in FUNCTIONS if known.x.size <= 6]
    assert max(one.of_max for one in judged) < 1e-9
    assert np.median([one.of_max for one in judged]) < 1e-12
    assert held(judged)[0] >= 0.95


@pytest.mark.parametrize("name", ["normal likelihood", "Poisson likelihood", "Student's t likelihood", "logistic loss"])
def test_standard_errors_of_likelihoods_are_right_within_their_bars(name):
    known = NAMED[name]
    result = covariance(ad.hessian(known).result(known.x))
    std = np.sqrt(np.diag(np.linalg.inv(known.hessian)))
    assert (np.abs(result.std - std) <= result.std_error + 1e-15 * std).all()
    assert (result.std_error < 1e-6 * std).all()
    assert result.logdet == pytest.approx(np.linalg.slogdet(known.hessian)[1], abs=1e-9)


def test_curvatures_1e12_apart_both_give_their_standard_error():
    result = covariance(ad.hessian(VALLEY).result(VALLEY.x), unreliable="ignore")  # whatever the bars say
    np.testing.assert_allclose(result.std, [0.5**0.5, 0.5**0.5 * 1e6], rtol=1e-6)


def bell(x):
    return np.exp(-x[0] * x[0] / 2)


def damped(x):
    return np.exp(-x[0] / 3) * np.sin(3 * x[0])


WHERE_A_DERIVATIVE_VANISHES = [  # of fourth order, of any of them 3 to 6
    (bell, 0.7419637843027258, lambda x: (x * x - 1) * np.exp(-x * x / 2)),
    (bell, 2.3344142183389773, lambda x: (x * x - 1) * np.exp(-x * x / 2)),
    (lambda x: np.log(1 + np.exp(x[0])), 1.3169578969248168, lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
    *((damped, x, lambda x: np.exp(-x / 3) * ((1 / 9 - 9) * np.sin(3 * x) - 2 * np.cos(3 * x)))
      for x in (3.067821172807196, 2.994049692024599, 2.920278211242002)),
]  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"opaque": True}], ids=["analytic", "opaque"])
@pytest.mark.parametrize(("fun", "x", "truth"), WHERE_A_DERIVATIVE_VANISHES)
def test_a_vanishing_term_of_the_error_is_no_license_for_long_steps(fun, x, truth, options):
    result = ad.hessian(fun, **options).result(np.array([x]))
    assert abs(result.hessian[0, 0] - truth(x)) <= 2 * result.error_estimate[0, 0]
    assert result.error_estimate[0, 0] < 1e-5


def test_log_sum_exp_where_a_fourth_derivative_vanishes():
    x = np.array([0.5135, -0.979, 2.1653, 1.3256, -0.1928, 0.9202])  # exp(x[3]) is 0.211 of the sum
    result = ad.hessian(NAMED["log-sum-exp"]).result(x)
    off = np.abs(result.hessian - fn.softmax_jacobian(x))
    assert np.max(off) < 1e-12
    assert np.mean(off <= result.error_estimate) > 0.95
