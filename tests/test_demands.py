"""What users of differentiators ask for, as claims: right where an answer exists, flagged where there is none."""

from __future__ import annotations

import numpy as np
import pytest

import arraydiff as ad
from benchmarks.demand_tools import arraydiff as ours
from benchmarks.demands import DEMANDS, verdict
from benchmarks.noisy_numbers import ours as value_and_bar
from tests.claims import by

NO_ANSWER = {"|x| at 0", "max(x, 0) at 0", "max at a tie", "a jump at x", "integer x"}
SEEDS = range(50)
LEVELS = [1e-9, 1e-6, 1e-3]


@pytest.mark.parametrize("demand", DEMANDS, ids=lambda demand: demand.name)
def test_each_demand_is_met_by_the_default_call(demand):
    assert verdict(ours, demand) == ("flagged" if demand.name in NO_ANSWER else "right")


def test_one_call_is_right_for_a_fast_and_for_a_far_sine():
    g = ad.grad(lambda x: np.sin(1e9 * x[0]) + np.sin(x[1]))
    np.testing.assert_allclose(g(np.array([1.3e-9, 1e10])), [1e9 * np.cos(1.3), np.cos(1e10)], rtol=1e-8)


@pytest.mark.parametrize("level", LEVELS)
def test_under_noise_the_bar_holds_in_95_percent_and_is_no_longer_than_twenty_errors(level):
    errors, bars = [], []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        value, bar = value_and_bar(lambda x, rng=rng: np.sin(x) + level * rng.standard_normal(), 1.0)
        errors.append(abs(value - np.cos(1.0)))
        bars.append(bar)
    assert np.mean(np.array(errors) <= np.array(bars)) >= 0.95
    assert np.median(bars) <= 20 * np.median(errors)


@pytest.mark.parametrize("told", [False, True], ids=["auto", "noise="])
def test_noise_of_1e_6_leaves_errors_of_1e_4_for_twelve_points_a_parameter(told):
    x, errors = np.linspace(0.4, 1.3, 7), []
    for seed in SEEDS[:10]:
        rng = np.random.default_rng(seed)
        noise = {"noise": 1e-6} if told else {}
        result = ad.grad(lambda x, rng=rng: np.sum(np.sin(x)) + 1e-6 * rng.standard_normal(), **noise).result(x)
        errors += list(np.abs(result.gradient - np.cos(x)))
        assert result.function_points <= 12 * x.size
    assert np.median(errors) <= 1e-4


@pytest.mark.parametrize(
    ("level", "method"),
    [(1e-12, "richardson"), (1e-11, "untraced"), *((level, "adaptive") for level in (*LEVELS, 1e-2))],
)  # below 256 eps of f the complex step, which it does not touch, leaves it unmeasured; so does what is traced
def test_the_noise_level_that_a_result_reports_is_within_a_factor_of_five(level, method):
    x, factors = np.linspace(0.4, 1.3, 7), []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        result = ad.grad(
            lambda x, rng=rng: np.sum(np.exp(x)) + level * rng.standard_normal(), **by(method), unreliable="ignore"
        ).result(x)
        factors.append(result.noise_level[0] / level)
    assert np.mean((np.array(factors) > 0.2) & (np.array(factors) < 5)) >= 0.95


def test_on_exp_the_error_falls_with_every_order_and_reaches_1e_12():
    errors = [abs(float(ad.grad(np.exp, method="central", order=order)(1.0)) / np.e - 1) for order in (2, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] <= 1e-12


@pytest.mark.parametrize("kink", [np.abs, lambda x: np.maximum(x, 0.0), lambda x: np.maximum(2 * x, -3 * x)])
def test_the_bar_at_a_kink_is_half_the_difference_of_the_slopes_or_more(kink):
    result = ad.grad(kink, unreliable="ignore").result(0.0)
    assert result.status & ad.Status.KINK
    assert result.error_estimate >= 0.49 * abs(kink(1.0) + kink(-1.0))
