"""The contract, line by line: options, what comes back, when a value is vouched for."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

import arraydiff as ad
from tests.claims import by
from tests.helpers import Recorder

X = np.array([0.7, -1.3, 2.0])


def smooth(x):
    return np.sum(np.sin(x) * x)


def slope(x):
    return np.sin(x) + x * np.cos(x)


def rough(x):
    """Keeps complex numbers out."""
    return float(np.sum(np.sin(x) * x))


def displaced(recorder: Recorder, x: np.ndarray) -> np.ndarray:
    """Offsets of all points that were evaluated."""
    return recorder.coordinates.reshape(-1, x.size) - x


# ---- options
def test_a_config_is_frozen_keyword_only_and_compared_by_value():
    config = ad.DifferentiationConfig(method="central", order=4)
    assert config == ad.DifferentiationConfig(method="CENTRAL", order=4)
    with pytest.raises(AttributeError):
        config.order = 2
    with pytest.raises(TypeError):
        ad.DifferentiationConfig("central")
    assert pickle.loads(pickle.dumps(config)) == config


def test_every_option_is_described():
    text = ad.DifferentiationConfig.describe()
    assert all(name in text for name in ("method", "step_size", "bounds", "noise", "unreliable"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"method": "newton"}, "method"),
        ({"method": "exact", "order": 2}, "order"),
        ({"order": 3, "method": "central"}, "order"),
        ({"order": 4, "method": "forward"}, "order"),
        ({"order": 2}, "order"),
        ({"step_size": -0.001}, "step_size"),
        ({"step_size": 1e-3, "relative_step": 1e-3}, "relative_step"),
        ({"min_step": 1.0, "max_step": 0.1}, "min_step"),
        ({"error_tolerance": 0}, "error_tolerance"),
        ({"max_evaluations": 0}, "max_evaluations"),
        ({"confidence": 1.0}, "confidence"),
        ({"noise": "loud"}, "noise"),
        ({"noise": -1.0}, "noise"),
        ({"vectorized": "always"}, "vectorized"),
        ({"batch_axis": 1}, "batch_axis"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"max_memory": "much"}, "max_memory"),
        ({"workers": 0}, "workers"),
        ({"devices": []}, "devices"),
        ({"progress": "yes"}, "progress"),
        ({"unreliable": "maybe"}, "unreliable"),
        ({"sparsity": "detect"}, "sparsity"),
        ({"bounds": [(0, 1), (0, 1), (0, 1)]}, "zip"),
        ({"bounds": 3}, "bounds"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_served_is_refused_by_name_at_decoration(options, named):
    with pytest.raises(ValueError, match=named):
        ad.grad(smooth, **options)


def test_an_unknown_option_names_the_nearest_one():
    with pytest.raises(TypeError, match="did you mean 'step_size'"):
        ad.grad(smooth, setp_size=1e-3)


@pytest.mark.parametrize("method", ["central", "forward", "backward", "richardson"])
def test_a_step_is_kept_to_the_letter(method):
    seen = Recorder(rough)
    result = ad.grad(seen, method=method, step_size=2.0**-10, unreliable="ignore").result(X)
    steps = displaced(seen, X) / 2.0**-10
    np.testing.assert_array_equal(steps, np.round(steps))
    np.testing.assert_array_equal(result.step_sizes, np.full(3, 2.0**-10))


def test_a_step_may_follow_the_structure_of_x():
    seen = Recorder(rough)
    ad.grad(seen, method="forward", step_size=[0.5, 0.25, 0.125], unreliable="ignore")(X)
    offsets = np.abs(displaced(seen, X))
    np.testing.assert_allclose(np.max(offsets, axis=0), [1.0, 0.5, 0.25])  # the ray reaches twice the step


def test_a_relative_step_is_relative_to_the_scale():
    result = ad.grad(rough, method="central", relative_step=2.0**-12, scale=4.0).result(X)
    np.testing.assert_array_equal(result.step_sizes, np.full(3, 2.0**-10))


def test_chosen_steps_are_powers_of_two_next_to_the_wanted_value():
    steps = ad.grad(rough, method="central").result(X).step_sizes
    np.testing.assert_array_equal(np.log2(steps), np.round(np.log2(steps)))
    wanted = np.cbrt(np.finfo(float).eps) * np.abs(X)
    assert np.all((steps >= wanted / 1.5) & (steps <= wanted * 1.5))


@pytest.mark.parametrize("method", ["central", "forward", "richardson"])
def test_chosen_steps_stay_within_their_limits(method):
    seen = Recorder(rough)
    ad.grad(seen, method=method, min_step=1e-3, max_step=2e-3, unreliable="ignore")(X)
    offsets = np.abs(displaced(seen, X))
    assert np.all(offsets[offsets > 0] >= 0.99e-3)
    assert np.all(offsets <= 2 * 2.01e-3)  # the ray of a stencil reaches twice the step


@pytest.mark.parametrize("method", ["adaptive", "untraced", "exact", "richardson", "central"])
def test_what_rounding_leaves_of_a_zero_counts_as_zero(method):
    x = np.linspace(-1.2, 1.5, 10)
    assert 0 < abs(x[4]) < 1e-15
    result = ad.grad(lambda x: np.sum(np.exp(x) * x), **by(method)).result(x)
    np.testing.assert_allclose(result.gradient, np.exp(x) * (1 + x), rtol=1e-7, atol=1e-7)
    assert np.max(result.error_estimate) < 1e-5


def test_x_that_is_zero_or_denormal_counts_as_of_size_one():
    for tiny in (0.0, 1e-310):
        result = ad.grad(lambda x: float(np.exp(x[0])), method="central").result(np.array([tiny]))
        assert (
            result.step_sizes[0]
            == ad.grad(lambda x: float(np.exp(x[0])), method="central").result(np.ones(1)).step_sizes[0]
        )


def test_max_evaluations_are_never_exceeded_and_the_rest_is_unresolved():
    seen = Recorder(rough)
    result = ad.grad(seen, method="central", max_evaluations=8, unreliable="ignore").result(X)
    assert seen.points == result.function_points == 8
    assert np.any(result.status & ad.Status.UNRESOLVED)
    assert any("max_evaluations" in text for text in result.warnings)


def test_a_larger_confidence_gives_wider_bars():
    fixed = {"method": "richardson", "step_size": 1e-2}  # the adaptive ladder may stop earlier for a smaller confidence
    bars = [ad.grad(rough, confidence=c, **fixed).result(X).error_estimate for c in (0.5, 0.95, 0.999)]
    assert np.all(bars[0] < bars[1])
    assert np.all(bars[1] < bars[2])


def test_error_tolerance_saves_points_and_holds():
    full = ad.grad(rough, method="richardson").result(X)
    enough = ad.grad(rough, method="richardson", error_tolerance=1e-4).result(X)
    assert enough.function_points < full.function_points
    np.testing.assert_allclose(enough.gradient, slope(X), rtol=1e-4)


def test_noise_none_means_exact_to_rounding_and_a_number_widens_the_bars():
    exact = ad.grad(rough, method="richardson", noise=None).result(X).error_estimate
    noisy = ad.grad(rough, method="richardson", noise=1e-6).result(X)
    assert np.all(noisy.error_estimate > 1e3 * exact)
    np.testing.assert_allclose(noisy.noise_level, [1e-6])


def test_an_opaque_f_sees_real_numbers_only():
    seen = Recorder(smooth)
    ad.grad(seen, opaque=True)(X)
    assert not np.iscomplexobj(seen.coordinates)


@pytest.mark.parametrize("batch_axis", [-1, 0])
@pytest.mark.parametrize("method", ["adaptive", "untraced", "exact", "central"])
def test_a_vectorized_f_is_called_once_a_chunk_and_stage(batch_axis, method):
    calls = []

    def batched(x):
        calls.append(x.shape)
        return np.sum(np.sin(x) * x, axis=-1 if batch_axis == 0 else 0)

    result = ad.grad(batched, vectorized=True, batch_axis=batch_axis, **by(method)).result(X)
    np.testing.assert_allclose(result.gradient, slope(X), rtol=1e-8)
    assert all(len(shape) == 2 and shape[0 if batch_axis == -1 else 1] == 3 for shape in calls)
    assert len(calls) == result.function_calls == result.rounds


def test_a_vectorized_f_that_sums_over_the_points_is_told_so():
    with pytest.raises(ValueError, match="vectorized"):
        ad.grad(lambda x: np.sum(x**2), vectorized=True)(X)


@pytest.mark.parametrize("chunk_size", [1, 2, 100])
def test_chunks_change_no_more_than_the_last_bit(chunk_size):
    np.testing.assert_allclose(ad.grad(rough, chunk_size=chunk_size)(X), ad.grad(rough)(X), rtol=1e-14)


# ---- what comes back
def test_fields_have_the_structure_of_the_derivative():
    f = lambda p: {"y": p["a"] * p["b"]}  # noqa: E731
    p = {"a": np.ones(3), "b": 2.0}
    result = ad.jacobian(f).result(p)
    for tree in (result.jacobian, result.error_estimate, result.status):
        assert tree["y"]["a"].shape == (3, 3)
        assert tree["y"]["b"].shape == (3,)
    assert result.status["y"]["a"].dtype == np.int16
    assert result.step_sizes["a"].shape == (3,)


def test_the_result_tells_value_condition_costs_and_method():
    assert_told(ad.value_and_grad(smooth).result(X), ad.DifferentiationMethod.EXACT, points=4)
    assert_told(ad.value_and_grad(smooth, method="exact").result(X), ad.DifferentiationMethod.EXACT, points=4)
    assert_told(ad.value_and_grad(smooth, verify_trace=False).result(X), ad.DifferentiationMethod.EXACT, points=1)
    assert_told(ad.value_and_grad(smooth, trace=False).result(X), ad.DifferentiationMethod.COMPLEX_STEP, points=3 + 17)


def assert_told(result, method, points):
    np.testing.assert_allclose(result.value, smooth(X))
    np.testing.assert_allclose(result.condition, np.abs(X * slope(X) / smooth(X)), rtol=1e-12)
    assert result.method_used is method
    assert result.derivative is result.gradient
    assert result.function_points <= points
    assert f"{result.function_points} point" in result.explain()
    assert len(repr(result)) < 200


def test_the_reason_of_a_fallback_is_told_and_learnt():
    g = ad.grad(lambda x: float(x[0]) ** 3 * x[1])
    first, second = g.result(X), g.result(X)
    assert "complex" in first.reason
    assert second.function_points < first.function_points
    np.testing.assert_array_equal(first.gradient, second.gradient)
    g.forget()
    assert g.result(X).function_points == first.function_points


def test_records_total_what_runs_inside():
    with ad.record() as outer:
        ad.grad(smooth)(X)
        with ad.record() as inner:
            ad.hessian(rough)(X)
    assert (outer.derivatives, inner.derivatives) == (2, 1)
    assert outer.points > inner.points > 0
    assert "derivatives" in str(outer)
    assert outer.reasons


def test_lists_are_trees_and_the_error_that_follows_names_the_remedy():
    with pytest.raises(TypeError, match=r"np\.asarray"):
        ad.grad(lambda x: x**2)([1.0, 2.0])


# ---- when a value is vouched for
def test_what_is_not_vouched_for_warns_at_the_users_line_with_a_constant_text():
    g = ad.grad(np.abs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        g(0.0)
        g(0.0)
    assert [str(w.message) for w in caught[:1]] == [str(w.message) for w in caught[1:]]
    assert all(w.filename == __file__ and w.category is ad.DifferentiationWarning for w in caught)


def test_unreliable_decides_what_a_bare_call_does():
    assert np.isnan(ad.grad(np.abs, unreliable="nan")(0.0))
    assert ad.grad(np.abs, unreliable="ignore")(0.0) == 0.0
    with pytest.raises(ad.NumericalStabilityError, match="KINK"):
        ad.grad(np.abs, unreliable="raise")(0.0)
    assert ad.grad(np.abs, unreliable="raise").result(0.0).status == ad.Status.KINK


def test_rows_that_are_not_finite_at_x_are_nan_and_the_others_right():
    result = ad.jacobian(lambda x: np.stack([x[0] ** 2, np.nan * x[0], x[1]])).result(X)
    assert np.all(np.isnan(result.jacobian[1]))
    assert np.all(result.status[1] == ad.Status.FAILED)
    np.testing.assert_allclose(result.jacobian[[0, 2]], [[1.4, 0, 0], [0, 1, 0]], atol=1e-12)


def test_an_exception_at_x_goes_through_and_one_beside_it_costs_its_entries():
    def at_x(x):
        raise OSError("no such table")

    with pytest.raises(OSError, match="no such table"):
        ad.grad(at_x)(X)

    def beside(x):
        if x[1] > X[1]:
            raise OverflowError("too large")
        return rough(x)

    result = ad.grad(beside, method="central", unreliable="ignore").result(X)
    np.testing.assert_allclose(result.gradient, slope(X), rtol=1e-6)
    assert result.status[1] == ad.Status.ONE_SIDED
    assert any(isinstance(error, OverflowError) for error in result.exceptions)
    assert any("x[1]" in text for text in result.warnings)


def test_where_every_point_fails_the_first_exception_is_raised():
    def f(x):
        if not np.array_equal(x, X):
            raise RuntimeError("only x itself")
        return 1.0

    with pytest.raises(RuntimeError, match="only x itself"):
        ad.grad(f)(X)


def test_a_forward_difference_at_an_upper_bound_takes_the_other_side_and_says_so():
    result = ad.grad(rough, method="forward", bounds=(None, X), unreliable="ignore").result(X)
    assert np.all(result.status & ad.Status.ONE_SIDED)
    np.testing.assert_allclose(result.gradient, slope(X), rtol=1e-5)


def test_a_fixed_parameter_is_zero_flagged_and_free():
    seen = Recorder(rough)
    bounds = (np.array([0.0, X[1], 0.0]), np.array([1.0, X[1], 4.0]))
    result = ad.grad(seen, bounds=bounds).result(X)
    assert (result.gradient[1], result.status[1]) == (0.0, ad.Status.FIXED)
    assert np.all(displaced(seen, X)[:, 1] == 0)


def test_x_outside_by_four_units_in_the_last_place_is_clipped_and_farther_is_named():
    above = X * (1 + 2 * np.finfo(float).eps)
    ad.grad(rough, bounds=(None, np.maximum(X, X)))(np.where(X > 0, above, X))
    with pytest.raises(ValueError, match=r"x\[2\] lies outside its bounds"):
        ad.grad(rough, bounds=(None, 1.5))(X)


def test_a_complex_step_asked_for_by_name_is_certified_all_the_same():
    result = ad.grad(lambda x: np.sum(np.abs(x) ** 3), method="complex_step").result(X)
    assert np.all(result.status & ad.Status.UNRESOLVED)
    np.testing.assert_allclose(result.gradient, 3 * X * np.abs(X), rtol=1e-9)
    assert "certified" in result.explain()


def test_transforms_pickle_where_f_does():
    g = pickle.loads(pickle.dumps(ad.grad(smooth, bounds=(-3.0, 3.0))))
    np.testing.assert_array_equal(g(X), ad.grad(smooth, bounds=(-3.0, 3.0))(X))
    result = pickle.loads(pickle.dumps(ad.grad(smooth).result(X)))
    assert "points" in result.explain()
