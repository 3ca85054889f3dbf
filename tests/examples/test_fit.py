"""The XPCS fit: the truth is found, standard errors are right, and what the data do not determine is said."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the demo needs scipy, which is not installed")

from arraydiff.examples import report
from arraydiff.examples.data import TRUTH, angle_fan, simulate
from arraydiff.examples.fit import Derivatives, compare, fit
from arraydiff.examples.library import MissingLibraryError, library
from arraydiff.examples.problem import FitProblem, starting_values
from arraydiff.examples.uncertainty import explain, uncertainty
from arraydiff.examples.xpcs import Experiment, two_time_correlation


def problem_of(experiment, sigma=0.02, seed=1, **options):
    theta = np.asarray([{**TRUTH, **options.get("fixed", {})}[name] for name in experiment.names])
    return FitProblem(experiment, simulate(experiment, theta, 0.02, seed), sigma, **options)


STATIC = Experiment("static", frames=60, dt=0.1)
LAMINAR = Experiment("laminar", frames=40, angles=angle_fan(4), dt=0.25)


@pytest.fixture(scope="module")
def static():
    return compare(problem_of(STATIC, fixed={"D_offset": 1e3}))


@pytest.fixture(scope="module")
def laminar():
    return compare(problem_of(LAMINAR), peers=())


def assert_true_within(fit, names, errors):
    for name, value, error in zip(names, fit.values, fit.uncertainty.standard_errors, strict=True):
        assert abs(value - TRUTH[name]) < errors * error, f"{name}: {value} ± {error}, truth {TRUTH[name]}"


def test_a_laminar_fit_of_all_parameters_finds_the_truth(laminar):
    assert laminar.best.converged
    assert_true_within(laminar.best, laminar.problem.names, 4)
    assert abs(laminar.best.chi2 / laminar.best.degrees_of_freedom - 1) < 0.1
    assert explain(laminar.best.uncertainty, laminar.problem.names) == []


def test_a_static_fit_finds_the_truth_and_scipys_differences_find_the_same(static):
    assert_true_within(static.best, static.problem.names, 4)
    assert [each.derivatives for each in static.fits] == ["arraydiff", "2-point", "3-point"]
    for each in static.fits[1:]:
        assert each.chi2 == pytest.approx(static.best.chi2, rel=1e-6)
        np.testing.assert_allclose(each.values, static.best.values, rtol=1e-3)
        assert each.cost.error_at_end < 1e-2
        assert each.cost.points > 0


def test_standard_errors_are_the_spread_of_repeated_experiments():
    fits = []
    for seed in range(40):
        problem = problem_of(Experiment("static", frames=30, dt=0.2), seed=seed, fixed={"D_offset": 1e3})
        at = library("numpy")
        fits.append(
            fit(
                problem,
                problem.theta(starting_values(problem))[list(problem.free)],
                at,
                Derivatives(problem, at, method="central"),
            )
        )
    claimed = np.mean([each.uncertainty.standard_errors for each in fits], axis=0)
    np.testing.assert_allclose(np.std([each.values for each in fits], axis=0, ddof=1) / claimed, 1.0, atol=0.4)


def test_an_unknown_sigma_is_estimated_and_gives_the_same_fit(static):
    unknown = compare(problem_of(STATIC, sigma=None, fixed={"D_offset": 1e3}), peers=()).best
    assert unknown.sigma == pytest.approx(0.02, rel=0.1)
    np.testing.assert_allclose(unknown.values, static.best.values, rtol=1e-5)
    scale = unknown.sigma / 0.02
    np.testing.assert_allclose(
        unknown.uncertainty.standard_errors, scale * static.best.uncertainty.standard_errors, rtol=1e-4
    )


def test_what_the_derivatives_cost_is_what_the_residual_saw(static):
    problem, seen = static.problem, []
    derivatives = Derivatives(problem, library("numpy"))

    def recording(values):
        seen.append(values.shape)
        return derivatives.residual(values)

    import arraydiff as ad

    derivatives.jacobian = ad.jacobian(recording, bounds=(problem.lower, problem.upper))
    with ad.record() as totals:
        derivatives(static.start)
        derivatives(static.best.values)
    assert derivatives.cost.points == derivatives.cost.calls == len(seen) == totals.points
    assert derivatives.cost.jacobians == 2
    assert derivatives.cost.rounds > 0
    assert derivatives.cost.worst_bar < 1e-3


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_every_library_finds_the_same_optimum(backend, static):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    done = compare(static.problem, backend=backend, method="central", peers=())
    np.testing.assert_allclose(done.best.values, static.best.values, rtol=1e-5)
    assert backend in done.library


def test_on_a_device_all_points_of_a_stage_go_in_one_call(static):
    at = library("numpy")
    one_by_one, together = (Derivatives(static.problem, replace(at, place=place)) for place in ("cpu", "cuda"))
    np.testing.assert_allclose(together(static.start), one_by_one(static.start), rtol=1e-9, atol=1e-9)
    assert together.cost.calls == together.cost.rounds < one_by_one.cost.calls


def test_cupy_is_used_on_a_device_and_refused_without_one(monkeypatch):
    cupy = SimpleNamespace(is_available=lambda: True, asarray=np.asarray, asnumpy=np.asarray)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert (library("cupy").place, library("cupy").array(np.zeros(2)).dtype) == ("cuda", float)
    cupy.is_available = lambda: False
    with pytest.raises(MissingLibraryError, match="no CUDA device; use --backend numpy"):
        library("cupy")


def test_a_library_that_is_not_there_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingLibraryError, match=r"pip install arraydiff\[cuda12\]"):
        library("cupy")
    with pytest.raises(ValueError, match="numpy, torch, jax, cupy"):
        library("tensorflow")


def test_a_fit_that_the_data_do_not_determine_says_so_and_names_the_parameters():
    experiment = Experiment("static", frames=60, dt=1.0)
    theta = np.asarray([0.06, 1.03, 2e4, 0.0, 0.0])  # no ageing: D0 and D_offset add up
    c2 = simulate(experiment, theta, 0.02, seed=2)
    done = compare(FitProblem(experiment, c2, start={"alpha": 0.0}, fixed={"alpha": 0.0}), peers=())
    assert done.best.uncertainty.degenerate
    said = " ".join(explain(done.best.uncertainty, done.problem.names))
    assert "degenerate" in said
    assert "D0 and D_offset" in said
    assert "--fix D_offset=0" in said


def judged(jacobian, values=(1.0, 1.0, 1.0), lower=(0.0, 0.0, 0.0), upper=(2.0, 2.0, 2.0), spread=1.0):
    return uncertainty(np.asarray(jacobian), spread, *map(np.asarray, (values, lower, upper)))


def random_jacobian(seed=0):
    return np.random.default_rng(seed).normal(size=(50, 3)) * [1e-3, 1.0, 1e4]


def test_standard_errors_are_those_of_the_inverse_of_the_normal_matrix():
    jacobian = random_jacobian()
    found = judged(jacobian, spread=2.0)
    np.testing.assert_allclose(
        found.standard_errors, 2 * np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian))), rtol=1e-6
    )
    np.testing.assert_allclose(np.diag(found.correlation), 1.0)
    assert not found.degenerate


def test_a_parameter_on_its_bound_is_held_there():
    jacobian = random_jacobian()
    found = judged(jacobian, values=(1.0, 2.0, 0.0))
    assert found.at_bound == (None, "upper", "lower")
    assert found.standard_errors[0] == pytest.approx(1 / np.linalg.norm(jacobian[:, 0]))
    assert np.isnan(found.standard_errors[1:]).all()
    assert ["b ended on its upper bound" in line for line in explain(found, ("a", "b", "c"))] == [True, False]


def test_a_parameter_without_influence_is_idle_and_has_no_error():
    jacobian = random_jacobian()
    jacobian[:, 1] = 0.0
    found = judged(jacobian)
    assert found.idle == (1,)
    assert found.degenerate
    assert np.isnan(found.standard_errors[1])
    assert np.isfinite(found.standard_errors[[0, 2]]).all()
    assert "do not depend on b" in explain(found, ("a", "b", "c"))[0]


def test_residuals_without_any_slope_leave_everything_undetermined():
    found = judged(np.zeros((50, 3)))
    assert found.idle == (0, 1, 2)
    assert np.isnan(found.standard_errors).all()


def test_three_parameters_that_only_together_are_degenerate_are_all_named():
    jacobian = random_jacobian() / [1e-3, 1.0, 1e4]
    jacobian[:, 2] = jacobian[:, 0] + jacobian[:, 1]
    found = judged(jacobian)
    assert found.inseparable == (0, 1, 2)
    assert "a, b and c" in explain(found, ("a", "b", "c"))[0]
    assert "--fix c=VALUE" in explain(found, ("a", "b", "c"))[1]


def test_a_degenerate_parameter_on_a_bound_does_not_make_the_others_look_certain():
    jacobian = random_jacobian() / [1e-3, 1.0, 1e4]
    jacobian[:, 2] = jacobian[:, 1] * (1 + 1e-9) + 1e-9 * jacobian[:, 0]
    assert judged(jacobian, values=(1.0, 1.0, 2.0)).standard_errors[1] > 1e3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fixed": {"D1": 1.0}}, "unknown parameter 'D1'; a static fit has: contrast, offset, D0"),
        ({"start": {"D0": 1.0}}, "outside its bounds 100:100000"),
        ({"bounds": {"D0": (5.0, 1.0)}}, "lower must be below upper"),
        ({"fixed": {"D0": float("nan")}}, "give a finite number"),
        ({"fixed": dict.fromkeys(STATIC.names, 1.0)}, "leave at least one free"),
        ({"sigma": 0.0}, "sigma must be > 0"),
        ({"c2": np.ones((2, 60, 60))}, "must have shape"),
    ],
)
def test_a_problem_that_makes_no_sense_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        FitProblem(**{"experiment": STATIC, "c2": np.ones((1, 60, 60)), **options})


def test_starting_values_are_those_given_and_else_strictly_inside_the_bounds():
    problem = problem_of(
        LAMINAR, start={"beta": 0.1}, bounds={"phi0": (1.0, 3.0)}, fixed={"contrast": 0.3, "offset": 1.0}
    )
    start = dict(zip(problem.names, starting_values(problem), strict=True))
    assert start["beta"] == 0.1
    assert all(problem.limits(name)[0] < value < problem.limits(name)[1] for name, value in start.items())
    assert set(start) == set(LAMINAR.names) - {"contrast", "offset"}


def test_a_contrast_for_every_angle_is_fitted():
    experiment = Experiment("static", frames=40, angles=(0.0, 1.0), dt=0.2, scaling_per_angle=True)
    theta = np.asarray([0.2, 0.4, 1.0, 1.1, 1.2e4, -0.8, 1e3])
    problem = FitProblem(experiment, simulate(experiment, theta, 0.01, seed=4), 0.01, fixed={"D_offset": 1e3})
    best = compare(problem, peers=()).best
    np.testing.assert_array_less(abs(best.values - theta[:-1]), 4 * best.uncertainty.standard_errors)
    assert two_time_correlation(problem.theta(best.values), experiment).shape == (2, 40, 40)


def test_the_report_shows_every_parameter_and_every_fit(static):
    text = report.text(static, TRUTH)
    for word in (
        *STATIC.names,
        "fixed",
        "truth",
        "standard error",
        "arraydiff",
        "SciPy 2-point",
        "SciPy 3-point",
        "chi2",
    ):
        assert word in text
    assert "truth" not in report.text(static)


def test_the_numbers_of_the_report_survive_json(static):
    numbers = json.loads(json.dumps(report.as_dict(static, TRUTH), allow_nan=False))
    assert numbers["fits"][0]["values"]["D0"] == pytest.approx(static.best.values[2])
    assert numbers["truth"]["D0"] == TRUTH["D0"]
    assert numbers["fits"][1]["cost"]["worst_bar"] is None


def test_the_report_says_what_was_estimated_and_what_did_not_converge(monkeypatch):
    monkeypatch.setattr("arraydiff.examples.fit.MOST_EVALUATIONS", 2)
    text = report.text(compare(problem_of(STATIC, sigma=None), peers=()))
    assert "sigma was not given" in text
    assert "did not converge" in text


def test_the_picture_shows_maps_a_cut_and_residuals(static, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from arraydiff.examples.plot import save_picture

    save_picture(static, tmp_path / "fit.png")
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")


def test_a_fit_with_contrast_and_offset_per_angle_moves_those_of_all_angles_at_once():
    experiment = Experiment("static", frames=12, angles=tuple(range(8)), dt=0.5, scaling_per_angle=True)
    truth = [0.3] * 8 + [1.0] * 8 + [TRUTH[name] for name in experiment.names[16:]]
    done = compare(
        FitProblem(experiment, simulate(experiment, np.asarray(truth), 0.01, seed=2), 0.01), peers=("2-point",)
    )
    ours, peer = done.fits
    assert ours.cost.colours == 5
    size = np.abs(peer.jacobian).max(axis=0)
    assert (np.abs(ours.jacobian - peer.jacobian) <= 1e-3 * size).all()
    assert "19 columns in 5 directions" in report.text(done)
