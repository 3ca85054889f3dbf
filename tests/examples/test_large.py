"""The fit whose Jacobian is not held: the same numbers as with it, in blocks of frame pairs and angles."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the demo needs scipy, which is not installed")

from arraydiff.examples import large, report
from arraydiff.examples.data import angle_fan, simulate, truth_of
from arraydiff.examples.fit import compare
from arraydiff.examples.large import NormalEquations, fit_large, square_root, too_large
from arraydiff.examples.library import library
from arraydiff.examples.problem import FitProblem, starting_values
from arraydiff.examples.uncertainty import uncertainty
from arraydiff.examples.xpcs import Experiment


def problem_of(mode="laminar", sigma=0.02, per_angle=True, **options):
    experiment = Experiment(mode, 40, angle_fan(3), dt=0.25, scaling_per_angle=per_angle)
    theta = np.asarray(list((truth_of(experiment) | options.get("fixed", {})).values()))
    return FitProblem(experiment, simulate(experiment, theta, 0.02, seed=1), sigma, **options)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(large, "PAIRS", 300)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize(
    "problem",
    [
        problem_of(),
        problem_of(per_angle=False, fixed={"beta": -0.5, "offset": 1.0}),
        problem_of("static", fixed={"D_offset": 1e3, "contrast[1]": 0.3}),
    ],
    ids=["laminar", "shared", "static"],
)
def test_blocks_add_up_to_the_products_of_the_whole_jacobian(backend, problem, small_blocks):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    import arraydiff as ad

    start, residual = starting_values(problem), problem.residual(np.zeros(1))
    bounds = problem.lower, problem.upper
    jacobian = ad.jacobian(residual, bounds=bounds, method="complex_step", unreliable="ignore")(start)
    normal = NormalEquations(problem, library(backend), "complex_step")
    got = normal(start)
    lengths = np.linalg.norm(jacobian, axis=0)
    np.testing.assert_allclose(
        got[0] / np.outer(lengths, lengths), jacobian.T @ jacobian / np.outer(lengths, lengths), atol=1e-11
    )
    np.testing.assert_allclose(got[1] / lengths, jacobian.T @ residual(start) / lengths, rtol=1e-10, atol=1e-8)
    assert got[2] == pytest.approx(residual(start) @ residual(start), rel=1e-12)
    assert normal.squares(start) == pytest.approx(got[2], rel=1e-12)
    assert 0 < normal.cost.worst_bar < 1e-8


def test_the_fit_and_its_standard_errors_are_those_with_the_jacobian(small_blocks, monkeypatch):
    monkeypatch.setattr(large, "SAMPLE", 500)
    problem = problem_of()
    right, done = compare(problem, peers=()).best, fit_large(problem, "it is to be tried")
    best = done.best
    assert best.converged
    assert best.chi2 == pytest.approx(right.chi2, rel=1e-9)
    np.testing.assert_allclose(best.values, right.values, rtol=2e-3)
    np.testing.assert_allclose(best.uncertainty.standard_errors, right.uncertainty.standard_errors, rtol=1e-3)
    np.testing.assert_allclose(best.uncertainty.correlation, right.uncertainty.correlation, atol=1e-3)
    told = report.text(done, truth_of(problem.experiment))
    for words in (
        "because it is to be tried",
        "SciPy's differences",
        "left out",
        "in blocks of 300",
        "one pair in 4",
        "J^T J",
    ):
        assert words in told
    assert report.as_dict(done)["note"]


def test_an_unknown_sigma_is_estimated_from_the_sum_of_squares(small_blocks):
    best = fit_large(problem_of(sigma=None, per_angle=False), "it is to be tried", method="central").best
    assert best.sigma == pytest.approx(0.02, rel=0.05)
    assert best.chi2 == pytest.approx(best.degrees_of_freedom)


def test_it_depends_on_size_and_memory_whether_the_jacobian_is_held(monkeypatch):
    problem = problem_of()
    assert too_large(problem) == ""
    assert "300 kB may be used" in too_large(problem, "300 kB")
    monkeypatch.setattr(large, "MOST_ENTRIES", 1000)
    assert too_large(problem).startswith("it has ")


def test_a_square_root_of_the_products_stands_for_the_jacobian():
    jacobian = np.random.default_rng(0).normal(size=(50, 4)) * [1e-3, 1.0, 1e4, 0.0]
    root = square_root(jacobian.T @ jacobian)
    judged = [uncertainty(part, 2.0, *np.asarray([[1.0] * 4, [0.0] * 4, [2.0] * 4])) for part in (jacobian, root)]
    np.testing.assert_allclose(judged[1].standard_errors, judged[0].standard_errors, rtol=1e-8)
    assert judged[0].idle == judged[1].idle == (3,)
    assert judged[1].condition == pytest.approx(judged[0].condition, rel=1e-6)


def test_warnings_of_all_blocks_are_counted_together():
    normal = NormalEquations(problem_of(), library("numpy"), "complex_step")
    for told in (["1 entry of J flagged KINK"], ["3 entries of J flagged KINK", "not certified"]):
        normal._hear(told)
    assert normal.cost.warnings == {"4 entries of J flagged KINK", "not certified"}
