"""A batch of points: equal to a loop, in as many rounds as the slowest point takes."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from tests.helpers import Backend, Recorder, assert_array, assert_like, tonumpy

rng = np.random.default_rng(7)
POINTS = rng.uniform(0.2, 2.0, (5, 3))
METHODS = ["adaptive", "richardson", "central", "forward", "complex_step"]


def wavy(x: Any) -> Any:
    """Scalar, from (n,) or (n, k)."""
    return np.sum(np.sin(x) ** 2 * x[:1] ** 2, axis=0)


def curve(x: Any) -> Any:
    """(2,) from (n,), or (2, k) from (n, k)."""
    return np.stack([x[0] * x[1], np.exp(x[2])])


def loop(make: Callable[[], Any], points: Any) -> list[Any]:
    """Results at all points, each by a fresh derivative: nothing is learnt from one to the next."""
    return [make().result(x) for x in points]


FIELDS = ("derivative", "error_estimate", "status", "step_sizes", "value")


def assert_is_the_loop(batch: Any, singles: list[Any], rtol: float = 0.0) -> None:
    for name in FIELDS:
        expected = np.stack([tonumpy(getattr(single, name)) for single in singles])
        np.testing.assert_allclose(tonumpy(getattr(batch, name)), expected, rtol=rtol, err_msg=name)
    assert batch.function_points == sum(single.function_points for single in singles)
    assert batch.rounds == max(single.rounds for single in singles)
    assert batch.method_used in (singles[0].method_used, tuple(single.method_used for single in singles))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [3, 6])
def test_a_batch_of_gradients_has_the_bits_of_a_loop(method: str, n: int) -> None:
    points = rng.uniform(0.2, 2.0, (4, n))
    batch = ad.grad(wavy, in_axes=0, method=method).result(points)
    assert_is_the_loop(batch, loop(lambda: ad.grad(wavy, method=method), points))
    assert batch.gradient.shape == (4, n)


@pytest.mark.parametrize("transform", [ad.jacobian, ad.jacfwd, ad.jacrev])
def test_a_batch_of_jacobians_has_the_bits_of_a_loop(transform: Any) -> None:
    batch = transform(curve, in_axes=0).result(POINTS)
    assert_is_the_loop(batch, loop(lambda: transform(curve), POINTS))
    assert batch.jacobian.shape == (5, 2, 3)


def test_a_batch_of_hessians_has_the_bits_of_a_loop() -> None:
    batch = ad.hessian(wavy, in_axes=0).result(POINTS)
    assert_is_the_loop(batch, loop(lambda: ad.hessian(wavy), POINTS))
    assert batch.hessian.shape == (5, 3, 3)


def test_value_and_grad_gives_a_value_a_point() -> None:
    value, gradient = ad.value_and_grad(wavy, in_axes=0)(POINTS)
    assert np.array_equal(value, [wavy(x) for x in POINTS])
    assert np.array_equal(gradient, [ad.grad(wavy)(x) for x in POINTS])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch_axis", [-1, 0])
def test_a_vectorised_f_is_called_once_a_round(method: str, batch_axis: int) -> None:
    f = Recorder(wavy if batch_axis else lambda x: wavy(x.T), batch_axis)
    options = {"method": method, "vectorized": True, "batch_axis": batch_axis, "trace": False}
    batch = ad.grad(f, in_axes=0, **options).result(POINTS)
    assert f.calls == batch.function_calls == batch.rounds
    assert f.points == batch.function_points
    assert_is_the_loop(batch, loop(lambda: ad.grad(f, **options), POINTS), rtol=1e-9)


@pytest.mark.parametrize("batch_axis", [-1, 0])
def test_a_vectorised_f_is_followed_at_each_point_by_itself_and_called_once_a_round_else(batch_axis: int) -> None:
    f = Recorder(wavy if batch_axis else lambda x: wavy(x.T), batch_axis)
    options = {"vectorized": True, "batch_axis": batch_axis}
    batch = ad.grad(f, in_axes=0, **options).result(POINTS)
    assert batch.method_used == "exact"
    assert f.calls == batch.function_calls == batch.rounds - 1 + len(POINTS)
    assert f.points == batch.function_points
    assert_is_the_loop(batch, loop(lambda: ad.grad(f, **options), POINTS), rtol=1e-9)


def test_a_vectorised_jacobian_is_called_once_a_round() -> None:
    f = Recorder(curve, -1)
    batch = ad.jacobian(f, in_axes=0, vectorized=True, trace=False).result(POINTS)
    assert f.calls == batch.function_calls == batch.rounds
    np.testing.assert_allclose(batch.jacobian, [ad.jacobian(curve)(x) for x in POINTS], rtol=1e-12)


@pytest.mark.parametrize("method", ["adaptive", "richardson", "central"])
def test_the_points_of_a_vectorised_hessian_share_the_calls_of_f(method: str) -> None:
    f, options = Recorder(wavy, -1), {"method": method, "trace": False}
    singles = loop(lambda: ad.hessian(wavy, **options), POINTS)
    one = ad.hessian(f, vectorized=True, **options).result(POINTS[0])
    np.testing.assert_allclose(one.hessian, singles[0].hessian, rtol=1e-7)
    assert (one.function_calls, one.function_points) == (f.calls, f.points)
    assert one.function_calls < one.function_points / 5
    all_of_them = ad.hessian(f, in_axes=0, vectorized=True, **options).result(POINTS)
    np.testing.assert_allclose(all_of_them.hessian, [single.hessian for single in singles], rtol=1e-7)
    assert all_of_them.function_calls == f.calls - one.function_calls <= 1.5 * one.function_calls


def test_a_vectorised_hessian_is_followed_at_each_point_and_its_checks_share_a_call() -> None:
    f = Recorder(wavy, -1)
    batch = ad.hessian(f, in_axes=0, vectorized=True).result(POINTS)
    assert batch.method_used == "exact"
    assert (batch.function_calls, batch.function_points) == (f.calls, f.points) == (2 + len(POINTS), 6 * len(POINTS))
    assert_is_the_loop(batch, loop(lambda: ad.hessian(wavy, vectorized=True), POINTS), rtol=1e-9)


def test_a_vectorised_hessian_counts_what_f_saw_where_it_raises() -> None:
    def f(x: Any) -> Any:
        if np.any(x[0].real > 1.0001):
            raise ValueError("outside")
        return np.sum(x**3, axis=0)

    recorded, x = Recorder(f, -1), np.array([1.0, 2.0])
    result = ad.hessian(recorded, vectorized=True, method="central", step_size=1e-3, bounds=(0, None)).result(x)
    assert (result.function_calls, result.function_points) == (recorded.calls, recorded.points)
    assert result.exceptions
    assert abs(result.hessian[1, 1] - 12) < 1e-4
    with pytest.raises(ValueError, match="outside") as caught:
        ad.hessian(f, vectorized=True, in_axes=0)(np.array([[0.5, 1.0], [2.0, 1.0]]))
    assert any("point 1 of the batch" in note for note in caught.value.__notes__)


def test_a_block_for_all_points_stays_as_small_as_one_for_a_chunk() -> None:
    sizes: list[int] = []

    def f(x: Any) -> Any:
        sizes.append(8 * (x.shape[0] + 1) * x.shape[1])
        return np.sum(x * x, axis=0)

    points = rng.uniform(1, 2, (40, 100))
    batch = ad.grad(f, in_axes=0, vectorized=True, method="central").result(points)
    assert max(sizes) <= 2**22
    assert batch.function_calls == len(sizes) > batch.rounds
    np.testing.assert_allclose(batch.gradient, 2 * points, rtol=1e-6)


def test_points_that_take_different_ways_keep_their_own() -> None:
    points = np.array([[1.0, 0.5], [0.0, 1.0], [-1.0, 2.0]])
    f = lambda x: np.abs(x[0]) * x[1] if x[0].real <= 0 else x[0] ** 3 * x[1]  # noqa: E731
    followed = ad.grad(f, in_axes=0).result(points)
    assert_is_the_loop(followed, loop(lambda: ad.grad(f), points))
    assert "point 1: differences stand in" in followed.reason
    assert ad.Status.KINK & int(followed.status[1, 0])
    batch = ad.grad(f, in_axes=0, trace=False).result(points)
    assert_is_the_loop(batch, loop(lambda: ad.grad(f, trace=False), points))
    assert len(set(batch.method_used)) == 2
    assert "the real part of f changes" in batch.reason
    assert ad.Status.KINK & int(batch.status[1, 0])
    assert repr(batch).startswith("<GradientResult: complex_step, richardson, ")


def test_workers_get_all_points_of_a_round_together() -> None:
    sizes: list[int] = []
    with ThreadPoolExecutor(2) as pool:

        def mapping(fun: Any, points: Any) -> list[Any]:
            tasks = list(points)
            sizes.append(len(tasks))
            return list(pool.map(fun, tasks))

        batch = ad.grad(wavy, in_axes=0, workers=mapping, method="central").result(POINTS)
    assert_is_the_loop(batch, loop(lambda: ad.grad(wavy, method="central"), POINTS))
    assert len(sizes) == batch.rounds
    assert min(sizes) >= len(POINTS)


@pytest.mark.parametrize("vectorized", [False, True])
def test_other_arguments_are_shared_or_mapped(vectorized: bool) -> None:
    def chi2(p: Any, data: Any) -> Any:
        column = data[:, None] if p.ndim == 2 else data
        return np.sum((p[:1] * np.exp(-p[1] * column) - column) ** 2, axis=0)

    data, points = rng.uniform(0.5, 1.0, (5, 4)), POINTS[:, :2]
    g = ad.grad(chi2, vectorized=vectorized)
    both = ad.grad(chi2, in_axes=0, vectorized=vectorized)(points, data)
    np.testing.assert_allclose(both, [g(p, d) for p, d in zip(points, data, strict=True)], rtol=1e-12)
    shared = ad.grad(chi2, in_axes=(0, None), vectorized=vectorized)(points, data[0])
    np.testing.assert_allclose(shared, [g(p, data[0]) for p in points], rtol=1e-12)
    over_data = ad.grad(chi2, in_axes=(None, 0), vectorized=vectorized)(points[0], data)
    np.testing.assert_allclose(over_data, [g(points[0], d) for d in data], rtol=1e-12)


def test_any_axis_any_tree_and_keywords_as_in_vmap() -> None:
    f = lambda p, k=1.0: np.sum(p["a"] ** 2 * k) * p["b"]  # noqa: E731
    a, b, k = rng.uniform(1, 2, (2, 4)), rng.uniform(1, 2, 4), rng.uniform(1, 2, 4)
    got = ad.grad(f, in_axes=({"a": -1, "b": 0},))({"a": a, "b": b}, k=k)
    np.testing.assert_allclose(got["a"], (2 * a * b * k).T, rtol=1e-12)
    np.testing.assert_allclose(got["b"], np.sum(a**2, axis=0) * k, rtol=1e-12)


def test_several_arguments_and_aux_are_stacked() -> None:
    f = lambda x, y: (np.sum(x) * y, {"half": x / 2, "name": "f"})  # noqa: E731
    y = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    (dx, dy), aux = ad.grad(f, argnums=(0, 1), has_aux=True, in_axes=0)(POINTS, y)
    np.testing.assert_allclose(dx, np.broadcast_to(y[:, None], POINTS.shape), rtol=1e-13)
    np.testing.assert_allclose(dy, np.sum(POINTS, axis=1), rtol=1e-13)
    assert np.array_equal(aux["half"], POINTS / 2)
    assert aux["name"] == ("f",) * 5


def test_a_batch_agrees_with_vmap_of_jax() -> None:
    jax = pytest.importorskip("jax")
    f = lambda x, w: jax.numpy.sum(jax.numpy.sin(x) * w)  # noqa: E731
    x, w = jax.numpy.asarray(POINTS[:2]), jax.numpy.asarray(POINTS[2])
    theirs = jax.vmap(jax.grad(f), in_axes=(0, None))(x, w)
    ours = ad.grad(f, in_axes=(0, None), method="central")(x, w)
    assert_array(ours, np.asarray(theirs), x, rtol=1e-6)


@pytest.mark.parametrize("backend", [b for b in Backend if b not in (Backend.JAX, Backend.DASK)], indirect=True)
def test_a_batch_stays_in_the_library_and_on_the_device_of_x(backend: Backend) -> None:
    xp, points = backend.namespace, backend.asarray(POINTS)
    result = ad.grad(lambda x: xp.sum(x**3, axis=0), in_axes=0, vectorized=True).result(points)
    assert_array(result.gradient, 3 * POINTS**2, points)
    assert_like(result.error_estimate, points)
    assert_like(result.value, points, (5,))


def test_dask_points_are_differentiated_in_lockstep() -> None:
    da = pytest.importorskip("dask.array")
    got = ad.grad(lambda x: (x**2).sum(axis=0), in_axes=0, method="forward", vectorized=True)(da.asarray(POINTS[:2]))
    np.testing.assert_allclose(tonumpy(got), 2 * POINTS[:2], rtol=1e-6)


def test_a_failure_names_its_point() -> None:
    def f(x: Any) -> Any:
        if x[0] == POINTS[3, 0]:
            raise ArithmeticError("no root found")
        return np.sum(x)

    with pytest.raises(ArithmeticError, match="no root") as caught:
        ad.grad(f, in_axes=0)(POINTS)
    assert any("point 3 of the batch" in note for note in caught.value.__notes__)


def test_a_point_outside_its_bounds_is_named() -> None:
    with pytest.raises(ValueError, match=r"x\[1\] lies outside") as caught:
        ad.grad(np.sum, in_axes=0, bounds=(0, 1))(np.array([[0.5, 0.5], [0.5, 2.0]]))
    assert any("point 1 of the batch" in note for note in caught.value.__notes__)


def test_a_vectorised_failure_names_its_point() -> None:
    def f(x: Any) -> Any:
        if np.any(x[0] == POINTS[3, 0]):
            raise ArithmeticError("no root found")
        return np.sum(x, axis=0)

    with pytest.raises(ArithmeticError, match="no root") as caught:
        ad.grad(f, in_axes=0, vectorized=True)(POINTS)
    assert any("point 3 of the batch" in note for note in caught.value.__notes__)


def test_a_displaced_failure_costs_its_own_point_alone() -> None:
    def f(x: Any) -> Any:
        if np.any(x[0].real < 0):
            raise ValueError("outside")
        return np.sum(np.sqrt(x), axis=0) * x[1]

    points = np.array([[1.0, 2.0], [1e-9, 1.0], [2.0, 1.0]])
    options = {"vectorized": True, "method": "central", "step_size": 1e-5}
    f_recorded = Recorder(f, -1)
    batch = ad.grad(f_recorded, in_axes=0, **options).result(points)
    assert (batch.function_calls, batch.function_points) == (f_recorded.calls, f_recorded.points)
    singles = loop(lambda: ad.grad(f, **options), points)
    for name in FIELDS:
        expected = np.stack([getattr(single, name) for single in singles])
        np.testing.assert_allclose(getattr(batch, name), expected, rtol=1e-8, err_msg=name)
    assert isinstance(batch.exceptions[0], ValueError)
    assert all(text.startswith("point 1: ") for text in batch.warnings)


def test_one_warning_speaks_for_all_points() -> None:
    points = np.array([[0.0, 1.0], [0.0, 2.0], [1.0, 1.0]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ad.grad(lambda x: np.sum(np.abs(x)), in_axes=0)(points)
    (warning,) = caught
    assert "KINK" in str(warning.message)
    assert warning.filename == __file__
    explained = ad.grad(lambda x: np.sum(np.abs(x)), in_axes=0).result(points).explain()
    assert "at 3 points in lockstep" in explained
    assert "2 of them with warnings" in explained
    assert explained.count("KINK") >= 2


def test_what_unreliable_asks_for_is_done_point_by_point() -> None:
    points = np.array([[1.0, 1.0], [0.0, 2.0]])
    f = lambda x: np.sum(np.abs(x))  # noqa: E731
    assert np.array_equal(np.isnan(ad.grad(f, in_axes=0, unreliable="nan")(points)), points == 0)
    with pytest.raises(ad.NumericalStabilityError) as caught:
        ad.grad(f, in_axes=0, unreliable="raise")(points)
    assert "point 1 of the batch" in caught.value.__notes__[0]


def test_the_budget_is_that_of_each_point() -> None:
    batch = ad.grad(wavy, in_axes=0, max_evaluations=7).result(POINTS)
    assert_is_the_loop(batch, loop(lambda: ad.grad(wavy, max_evaluations=7), POINTS))
    assert batch.function_points <= 7 * len(POINTS)


def test_records_count_shared_rounds_once() -> None:
    with ad.record() as total:
        batch = ad.grad(wavy, in_axes=0).result(POINTS)
    assert (total.derivatives, total.points, total.calls) == (5, batch.function_points, batch.function_calls)
    assert total.rounds == batch.rounds


def test_a_batch_can_be_differentiated_and_pickled() -> None:
    g = ad.grad(wavy, in_axes=0, method="central")
    assert np.array_equal(pickle.loads(pickle.dumps(g))(POINTS), g(POINTS))
    J = ad.jacobian(ad.grad(wavy, in_axes=0))(POINTS[:2])
    assert J.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(J[0, :, 0], ad.hessian(wavy)(POINTS[0]), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(J[0, :, 1], 0, atol=1e-9)


@pytest.mark.parametrize(
    ("axes", "args", "error", "said"),
    [
        ("x", (POINTS,), TypeError, "in_axes wants an int"),
        (True, (POINTS,), TypeError, "in_axes wants an int"),
        ((0, 0), (POINTS,), ValueError, "one entry an argument"),
        (2, (POINTS,), ValueError, "no axis 2; None"),
        (0, (2.0,), ValueError, "no axis 0; None"),
        ((None,), (POINTS,), ValueError, "no argument is mapped"),
        (0, (POINTS, POINTS[:2]), ValueError, "inconsistent sizes"),
        (0, (POINTS[:0],), ValueError, "no points"),
    ],
)
def test_axes_that_do_not_fit_are_refused(axes: Any, args: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ad.grad(lambda x, *_: np.sum(x), in_axes=axes)(*args)


def test_transforms_that_have_no_batches_say_so() -> None:
    with pytest.raises(ValueError, match="in_axes"):
        ad.derivative(np.sin, in_axes=0)
    with pytest.raises(ValueError, match="without in_axes"):
        ad.grad(wavy, in_axes=0).plan(POINTS)
