"""Levenberg-Marquardt over normal equations finds what SciPy's least_squares finds with the Jacobian."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the demo needs scipy, which is not installed")

from pathlib import Path

from scipy.optimize import least_squares

import arraydiff as ad
from arraydiff.examples import levenberg_marquardt as module
from arraydiff.examples.data import angle_fan, simulate, truth_of
from arraydiff.examples.levenberg_marquardt import levenberg_marquardt
from arraydiff.examples.problem import FitProblem, starting_values
from arraydiff.examples.xpcs import Experiment
from benchmarks.nist import DATASETS
from tests.helpers import is_traced

EASY = {"Misra1a", "DanWood", "Rat42", "Rat43", "MGH09"}


def peer(residual, start, lower=-np.inf, upper=np.inf):
    jacobian = ad.jacobian(residual, unreliable="ignore")
    limits = {"ftol": 1e-12, "xtol": 1e-12, "gtol": 1e-12, "max_nfev": 2000}
    return least_squares(residual, start, jac=jacobian, bounds=(lower, upper), x_scale="jac", **limits)


@pytest.mark.parametrize("data", [data for data in DATASETS if data.name in EASY], ids=lambda data: data.name)
@pytest.mark.parametrize("start", [0, 1])
def test_certified_problems_end_at_the_certified_sum_of_squares(data, start):
    normal = ad.normal_equations(data.residual, unreliable="ignore")
    found = levenberg_marquardt(normal, data.starts[start])
    assert found.converged
    assert found.cost == pytest.approx(data.squares, rel=1e-9)
    np.testing.assert_allclose(found.x, data.certified, rtol=1e-4)
    assert found.evaluations == found.trials + 1


@pytest.mark.parametrize(
    "data", [data for data in DATASETS if data.name in EASY - {"MGH09"}], ids=lambda data: data.name
)
def test_inside_bounds_the_fit_is_that_of_least_squares(data):
    right = np.asarray(data.certified)
    lower, upper = (
        0.5 * right,
        np.where(np.arange(len(right)) == 0, 0.97, 2.0) * right,
    )  # the first one ends on its bound
    start = np.clip(np.asarray(data.starts[1], dtype=float), lower, upper)
    seen = []

    def residual(b):
        if not is_traced(b):
            seen.append(np.real(b))
        return data.residual(b)

    normal = ad.normal_equations(residual, bounds=(lower, upper), unreliable="ignore")
    found = levenberg_marquardt(normal, start, lower, upper)
    theirs = peer(data.residual, np.clip(start, lower * 1.001, upper * 0.999), lower, upper)
    assert found.converged
    assert found.x[0] == upper[0]
    assert found.cost <= 2 * theirs.cost * (1 + 1e-8)
    assert (np.asarray(seen) <= upper).all()
    assert (np.asarray(seen) >= lower).all()


def test_an_xpcs_fit_is_that_of_least_squares():
    experiment = Experiment("laminar", frames=30, angles=angle_fan(3), dt=0.3, scaling_per_angle=True)
    problem = FitProblem(experiment, simulate(experiment, list(truth_of(experiment).values()), 0.01, seed=2), 0.01)
    start, residual = starting_values(problem), problem.residual(np.zeros(1))
    bounds = problem.lower, problem.upper
    normal = ad.normal_equations(residual, bounds=bounds)
    found = levenberg_marquardt(normal, start, *bounds, cost=lambda x: float(residual(x) @ residual(x)))
    theirs = peer(residual, start, *bounds)
    assert found.converged
    assert found.cost == pytest.approx(2 * theirs.cost, rel=1e-9)
    np.testing.assert_allclose(found.x, theirs.x, rtol=1e-3)
    errors = np.sqrt(np.diag(np.linalg.inv(found.normal)))
    np.testing.assert_allclose(errors, np.sqrt(np.diag(np.linalg.inv(theirs.jac.T @ theirs.jac))), rtol=1e-3)
    assert found.evaluations <= found.trials + 1


def test_a_cost_that_is_not_finite_is_stepped_back_from():
    def residual(x):
        return np.log(x) + np.asarray([3.0, 2.0])

    with np.errstate(invalid="ignore", divide="ignore"):
        normal = ad.normal_equations(residual, unreliable="ignore")
        found = levenberg_marquardt(normal, [4.0, 9.0])
    assert found.converged
    np.testing.assert_allclose(found.x, np.exp([-3.0, -2.0]), rtol=1e-6)


def test_what_does_not_converge_says_so_and_a_start_without_values_is_refused():
    data = DATASETS[0]
    normal = ad.normal_equations(data.residual, unreliable="ignore")
    found = levenberg_marquardt(normal, data.starts[0], most=2)
    assert not found.converged
    assert "2 steps were not enough" in found.message
    with pytest.raises(ValueError, match="choose another"):
        levenberg_marquardt(lambda x: (np.full((1, 1), np.nan), np.zeros(1), np.nan), [1.0])


def test_parameters_without_influence_stay_where_they_are():
    normal = ad.normal_equations(lambda x: np.stack([x[0] - 1, 0 * x[1]]), method="central")
    found = levenberg_marquardt(normal, [3.0, 7.0])
    np.testing.assert_allclose(found.x, [1.0, 7.0], rtol=1e-8)


def test_the_example_can_be_read_at_a_sitting():
    assert len(Path(module.__file__).read_text(encoding="utf-8").splitlines()) <= 100
