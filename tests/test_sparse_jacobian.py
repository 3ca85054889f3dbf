"""Sparse Jacobians: few points whatever n, the entries of the dense one, and never a wrong row in silence."""

from __future__ import annotations

import builtins
import pickle
import warnings

import numpy as np
import pytest

import arraydiff as ad
from arraydiff import Status
from arraydiff.sparse import Sparsity, SparsityError, Triplets
from arraydiff.sparse.order import NO_LINE
from arraydiff.sparse.seeds import numbered
from tests.helpers import Backend, Recorder, assert_like, tonumpy

N = 40
X = np.linspace(0.5, 2.0, N)
FORKS = [  # other tests have threads; f needs no lock of theirs
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning"),
]
METHODS = ["adaptive", "complex_step", "richardson", "central", "forward"]
ACCURACY = {"central": 1e-8, "forward": 1e-5, "backward": 1e-5}


def chain(x):
    """Each output of its input and both neighbours."""
    y = -2 * x * x
    y[1:] += np.sin(x[:-1])
    y[:-1] += x[1:] ** 3
    return y


def chain_of(xp):
    def f(x):
        none = xp.zeros_like(x[:1])
        return xp.sin(xp.concat([none, x[:-1]])) - 2 * x * x + xp.concat([x[1:], none]) ** 3

    return f


def band(n=N):
    return np.abs(np.arange(n)[:, None] - np.arange(n)) <= 1


def exact(x=X):
    return np.diag(-4 * x) + np.diag(np.cos(x[:-1]), -1) + np.diag(3 * x[1:] ** 2, 1)


def whole(matrix):
    """A sparse matrix of any library, dense and on the host."""
    return tonumpy(matrix.todense())


def without(*entries, n=N):
    pattern = band(n)
    for entry in entries:
        pattern[entry] = False
    return pattern


@pytest.mark.parametrize("method", METHODS)
def test_a_sparse_jacobian_is_the_dense_one_of_x_s_library(backend: Backend, method: str) -> None:
    if backend is Backend.DASK and method in ("central", "forward"):
        pytest.skip("fixed stencils leave Dask's arrays lazy, where nothing can be checked: see the refusal below")
    x = backend.asarray(X)
    result = ad.jacobian(chain_of(backend.namespace), sparsity=band(), method=method).result(x)
    assert np.abs(whole(result.jacobian) - exact()).max() < ACCURACY.get(method, 1e-11)
    assert_like(result.jacobian.data, x, (3 * N - 2,), "the entries")
    assert_like(result.error_estimate, x, (3 * N - 2,), "the bars")
    assert (result.colours, result.lower_bound, result.warnings) == (3, 3, [])


def test_numpy_gives_csr_and_other_libraries_triplets(backend: Backend) -> None:
    pytest.importorskip("scipy", reason="csr_array is SciPy's")
    jacobian = ad.jacobian(chain_of(backend.namespace), sparsity=band())(backend.asarray(X))
    plain = backend in (Backend.NUMPY, Backend.NUMPY_READONLY)
    assert type(jacobian).__name__ == ("csr_array" if plain else "Triplets")
    assert jacobian.shape == (N, N)


def test_without_scipy_numpy_gives_triplets(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    jacobian = ad.jacobian(chain, sparsity=band())(X)
    assert isinstance(jacobian, Triplets)
    np.testing.assert_allclose(jacobian.todense(), exact(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_points_do_not_depend_on_the_number_of_parameters(method: str) -> None:
    points = [
        ad.jacobian(chain, sparsity=band(n), method=method).result(np.linspace(0.5, 2.0, n)).function_points
        for n in (50, 500)
    ]
    assert max(points) <= 60
    assert method == "richardson" or points[0] == points[1]


@pytest.mark.parametrize(("method", "points"), [("forward", 7), ("backward", 7), ("central", 10)])
def test_stencils_take_three_points_for_bars_and_check_beside_f_and_the_columns(method: str, points: int) -> None:
    recorder = Recorder(chain)
    result = ad.jacobian(recorder, sparsity=band(), method=method, bounds=(0.0, None)).result(X)
    assert result.function_points == recorder.points == points


@pytest.mark.parametrize("method", ["forward", "backward", "central"])
@pytest.mark.parametrize("room", [1e-3, 1e-5, 1e-7, 1e-9, 0.0])
def test_where_a_bound_is_near_the_check_has_points_of_its_own_inside(method: str, room: float) -> None:
    lower, upper = X - 1, X + 1
    lower[3], upper[9] = X[3] - room, X[9] + room
    recorder = Recorder(chain)
    result = ad.jacobian(recorder, sparsity=band(), method=method, bounds=(lower, upper), unreliable="ignore").result(X)
    for x in recorder.seen:
        assert ((lower <= x) & (x <= upper)).all()
    if room:
        error = np.abs(result.jacobian.toarray() - exact())[band()]
        assert np.mean(error <= result.error_estimate) > 0.9  # of stencils no more is claimed
    with pytest.raises(SparsityError, match="row 20"):
        ad.jacobian(chain, sparsity=without((20, 21)), method=method, bounds=(lower, upper), unreliable="ignore")(X)


@pytest.mark.parametrize("method", METHODS)
def test_counts_are_those_that_f_saw(method: str) -> None:
    recorder = Recorder(chain)
    result = ad.jacobian(recorder, sparsity=band(), method=method).result(X)
    assert (result.function_calls, result.function_points) == (recorder.calls, recorder.points)


# a pattern is a cache, not a promise


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_pattern_is_found_and_its_rows_named(method: str, opaque: bool) -> None:
    with pytest.raises(SparsityError, match=r"row.* 17.*verify_pattern='repair'") as raised:
        ad.jacobian(chain, sparsity=without((17, 18), (30, 30)), method=method, opaque=opaque)(X)
    assert raised.value.rows == (17, 30)
    assert raised.value.gap > 0.01


def test_a_wrong_pattern_is_taken_where_the_check_is_off() -> None:
    jacobian = ad.jacobian(chain, sparsity=without((17, 18)), verify_pattern=False)(X)
    assert abs(whole(jacobian) - exact()).max() > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_pattern_is_repaired_where_that_is_asked_for(method: str) -> None:
    transform = ad.jacobian(chain, sparsity=without((17, 18), (30, 29)), verify_pattern="repair", method=method)
    result = transform.result(X)
    assert result.repaired_rows.tolist() == [17, 30]
    assert np.abs(whole(result.jacobian) - exact()).max() < ACCURACY.get(method, 1e-11)
    assert "lacked entries of rows 17, 30" in result.explain()
    again = transform.result(X)  # the grown pattern is kept
    assert again.repaired_rows.size == 0
    assert again.function_points < result.function_points


def test_a_column_that_the_pattern_leaves_out_altogether_is_missed() -> None:
    pattern = band()
    pattern[:, 11] = False
    with pytest.raises(SparsityError) as raised:
        ad.jacobian(chain, sparsity=pattern)(X)
    assert set(raised.value.rows) <= {10, 11, 12}
    assert raised.value.rows


def switching(x):
    """Depends on another input where x is large."""
    y = np.sin(x)
    return np.where(x > 1, y * np.roll(x, 3), y * np.roll(x, 1))


@pytest.mark.parametrize("method", ["adaptive", "richardson", "central"])
def test_no_row_is_wrong_in_silence_while_the_pattern_of_f_switches(method: str) -> None:
    random = np.random.default_rng(3)
    transform, dense = ad.jacobian(switching, sparsity="detect", method=method), ad.jacobian(switching)
    repaired = 0
    for _ in range(8):
        x = random.uniform(0.2, 1.9, 120)
        result = transform.result(x)
        repaired += result.repaired_rows.size
        assert np.abs(whole(result.jacobian) - dense(x)).max() < ACCURACY.get(method, 1e-9)
    assert repaired > 50


def test_a_detected_pattern_is_kept_and_forgotten_on_demand() -> None:
    transform = ad.jacobian(chain, sparsity="detect")
    first, second = transform.result(X), transform.result(X)
    assert second.function_points < first.function_points
    assert second.pattern is first.pattern
    transform.forget()
    assert transform.result(X).function_points == first.function_points


def test_a_detected_pattern_is_that_of_f() -> None:
    np.testing.assert_allclose(whole(ad.jacobian(chain, sparsity="detect")(X)), exact(), rtol=1e-12, atol=1e-12)


def test_a_row_that_no_entry_explains_is_unresolved_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(problem, config, value, rows, known):
        yield from ()
        return known

    monkeypatch.setattr("arraydiff.sparse.detection.searched", blind)
    transform = ad.jacobian(chain, sparsity=without((17, 18)), verify_pattern="repair")
    with pytest.warns(ad.DifferentiationWarning, match="no entry outside the pattern was found") as caught:
        transform(X)
    assert len(caught) == 1
    result = transform.result(X)
    unresolved = (result.status & int(Status.UNRESOLVED)) != 0
    assert np.array_equal(unresolved, result.pattern.pattern.rows == 17)


def test_a_traced_pattern_is_that_of_one_call() -> None:
    result = ad.jacobian(lambda x, a: a * chain(x), sparsity="trace").result(X, 2.0)
    assert result.jacobian.data.shape == (3 * N - 2,)
    np.testing.assert_allclose(whole(result.jacobian), 2 * exact(), rtol=1e-12, atol=1e-12)


def test_no_false_alarm_over_random_patterns_and_functions() -> None:
    random = np.random.default_rng(7)
    for _ in range(40):
        m, n = random.integers(5, 40, 2)
        pattern = random.random((m, n)) < 3 / n
        a, b = (np.where(pattern, random.normal(size=(m, n)), 0) for _ in range(2))
        x = random.normal(size=n) * 10.0 ** random.uniform(-2, 1, n)
        for method in METHODS:
            jacobian = ad.jacobian(
                lambda x, a=a, b=b: a @ np.sin(x) + (b @ x) ** 2, sparsity=pattern, method=method, unreliable="ignore"
            )(x)
            wanted = a * np.cos(x) + 2 * (b @ x)[:, None] * b
            assert np.allclose(whole(jacobian), wanted, rtol=1e-3, atol=1e-3 * max(1, abs(wanted).max()))


def test_what_the_check_cannot_see_is_said() -> None:
    assert "1e-8 of their row" in ad.jacobian(chain, sparsity=band()).result(X).explain()


# one failing evaluation costs its own entries only


def raising(x):
    if x[7] != X[7]:
        raise ValueError("x[7] must not be moved")
    return chain(x)


def spoiling(x):
    return chain(x) if x[7] == X[7] else chain(x) * np.nan


def spoiling_its_own(x):
    y = chain(x)
    y[7] = y[7] if x[7] == X[7] else np.nan
    return y


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("f", [raising, spoiling, spoiling_its_own])
def test_a_column_at_which_f_fails_is_lost_alone(f, method: str) -> None:
    result = ad.jacobian(f, sparsity=band(), method=method, unreliable="ignore").result(X)
    jacobian, lost = whole(result.jacobian), np.zeros((N, N), bool)
    lost[[7] if f is spoiling_its_own else [6, 7, 8], 7] = True
    assert np.array_equal(np.isnan(jacobian), lost)
    assert np.abs((jacobian - exact())[~lost]).max() < ACCURACY.get(method, 1e-8)
    assert f"{lost.sum()} entr" in " ".join(result.warnings)


def test_what_f_raises_everywhere_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        ad.jacobian(lambda x: chain(x) if np.array_equal(x, X) else 1 / 0, sparsity=band())(X)


def test_rows_that_are_not_finite_at_x_are_lost_alone() -> None:
    def f(x):
        return np.where(np.arange(N) == 4, np.nan, chain(x))

    result = ad.jacobian(f, sparsity=band()).result(X)
    jacobian = whole(result.jacobian)
    assert np.array_equal(np.isnan(jacobian), band() & (np.arange(N) == 4)[:, None])
    assert np.nanmax(np.abs(jacobian - exact())) < 1e-11


# bounds


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_bound_next_to_a_parameter_leaves_linear_columns_and_all_others_their_digits(method):
    def f(x):
        y = chain(x)
        y[0] += 2 * x[0] ** 2 + x[0]
        y[1] -= np.sin(x[0]) - x[0]
        return y

    x = np.linspace(0.5, 2.0, 8)
    wanted = exact(x)
    wanted[0, 0], wanted[1, 0] = 1.0, 1.0
    for lower, upper in ((None, x[4] + 1e-9), (x[4] - 1e-9, None)):
        bounds = [np.full(8, far) for far in (-np.inf, np.inf)]
        for side, bound in zip(bounds, (lower, upper), strict=True):
            side[4] = side[4] if bound is None else bound
        result = ad.jacobian(f, sparsity=band(8), method=method, bounds=tuple(bounds), linear=[0]).result(x)
        assert not result.warnings
        assert np.all(result.error_estimate < 1e-5)
        assert np.all(abs(whole(result.jacobian) - wanted)[band(8)] <= result.error_estimate)


@pytest.mark.parametrize("backend", [Backend.TORCH, Backend.JAX], indirect=True, ids=lambda backend: backend.value)
@pytest.mark.parametrize("side", [0, 1])
def test_nor_does_x_where_the_library_differentiates_by_itself_and_its_rounding_is_looked_at(backend, side) -> None:
    bounds, outside = (backend.asarray([1.0, 0.5, -2.0]), backend.asarray([2.0, 1.5, -1.0])), []

    def f(x):
        outside.append(bool(((x < bounds[0]) | (x > bounds[1])).any()))
        return x * x

    result = ad.jacobian(f, bounds=bounds).result(bounds[side])
    assert result.method_used is ad.DifferentiationMethod.EXACT
    assert not any(outside)
    error = np.abs(tonumpy(result.jacobian) - np.diag(2 * tonumpy(bounds[side])))
    assert (error <= tonumpy(result.error_estimate)).all()
    assert (np.diag(tonumpy(result.error_estimate)) > 0).all()


@pytest.mark.parametrize("method", [*METHODS, "backward"])
def test_no_column_leaves_its_bounds(method: str) -> None:
    place = np.arange(N) % 4
    lower = np.select([place == 0, place == 1], [X, X - 1e-9], 0.0)
    upper = np.select([place == 2, place == 3], [X, X + 1e-3], 9.0)
    recorder = Recorder(chain)
    result = ad.jacobian(recorder, sparsity=band(), bounds=(lower, upper), method=method).result(X)
    points = np.stack([x for x in recorder.seen if not np.iscomplexobj(x)])
    assert (points >= lower).all()
    assert (points <= upper).all()
    assert np.abs(whole(result.jacobian) - exact()).max() < ACCURACY.get(method, 1e-6)


def test_columns_at_an_upper_bound_move_down_while_others_move_up() -> None:
    upper = np.where(np.arange(N) % 2 == 0, X, 9.0)
    result = ad.jacobian(chain, sparsity=band(), bounds=(None, upper), method="forward").result(X)
    sided = (result.status & int(Status.ONE_SIDED)) != 0
    assert np.array_equal(sided, result.pattern.pattern.cols % 2 == 0)
    assert result.function_points == 9


def test_room_on_one_side_of_some_columns_costs_the_others_nothing() -> None:
    lower = np.where(np.arange(N) == 3, X, 0.0)
    result = ad.jacobian(chain, sparsity=band(), bounds=(lower, None), method="central").result(X)
    sided = (result.status & int(Status.ONE_SIDED)) != 0
    assert np.array_equal(sided, result.pattern.pattern.cols == 3)


def test_fixed_parameters_are_not_moved_and_have_no_colour() -> None:
    fixed = np.arange(N) == 3
    lower, upper = np.where(fixed, X, 0.0), np.where(fixed, X, 3.0)
    recorder = Recorder(chain)
    result = ad.jacobian(recorder, sparsity=band(), bounds=(lower, upper)).result(X)
    of_it = result.pattern.pattern.cols == 3
    assert (result.status[of_it] == int(Status.FIXED)).all()
    assert (result.jacobian.data[of_it] == 0).all()
    assert all(x[3] == X[3] for x in recorder.seen)
    np.testing.assert_allclose(whole(result.jacobian)[:, ~fixed], exact()[:, ~fixed], rtol=1e-12, atol=1e-12)


# shapes


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (0, 5), (5, 0), (1, 1)])
def test_any_shape_empty_rows_and_columns(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(5)
    _, n = shape
    a = np.where(random.random(shape) < 0.2, random.normal(size=shape), 0.0)
    x = random.normal(size=n)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jacobian = ad.jacobian(lambda x: a @ (x * x), sparsity=a != 0)(x)
    np.testing.assert_allclose(whole(jacobian), 2 * a * x, rtol=1e-11, atol=1e-11)


def test_a_dense_pattern_is_served_with_one_word_on_its_cost() -> None:
    with pytest.warns(ad.DifferentiationWarning, match=r"40 directions for 40 parameters.*row 0") as caught:
        jacobian = ad.jacobian(chain, sparsity=np.ones((N, N), bool))(X)
    assert len(caught) == 1
    np.testing.assert_allclose(whole(jacobian), exact(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("given", [band(), (*np.nonzero(band()), (N, N)), (*map(np.flip, np.nonzero(band())), (N, N))])
def test_a_pattern_is_given_in_several_ways(given) -> None:
    np.testing.assert_allclose(whole(ad.jacobian(chain, sparsity=given)(X)), exact(), rtol=1e-12, atol=1e-12)
    kept = Sparsity.from_pattern(given)
    np.testing.assert_allclose(whole(ad.jacobian(chain, sparsity=kept)(X)), exact(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(N, N + 1), (N + 1, N)])
def test_a_pattern_of_another_shape_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="sparsity has shape"):
        ad.jacobian(chain, sparsity=np.ones(shape, bool))(X)


def test_outputs_and_inputs_of_several_arrays_are_counted_along_flat_arrays() -> None:
    def f(a, b):
        y = chain(np.concatenate([a.reshape(-1), b]))
        return {"first": y[:10], "rest": y[10:].reshape(3, 10)}

    jacobian = ad.jacobian(f, argnums=(0, 1), sparsity=band())(X[:12].reshape(3, 4), X[12:])
    np.testing.assert_allclose(whole(jacobian), exact(), rtol=1e-12, atol=1e-12)


# options


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_size": 1},
        {"max_memory": "1 MB"},
        pytest.param({"workers": 2}, marks=FORKS),
        pytest.param({"workers": 2, "opaque": True}, marks=FORKS),
        {"vectorized": "auto"},
        {"vectorized": True},
        {"error_tolerance": 1e-4},
        {"store": {}},
        {"step_size": 1e-3},
        {"step_size": 1e-3, "method": "central", "order": 4, "bounds": (0.0, 2.0)},
        {"step_size": 1e-2, "method": "richardson", "bounds": (0.0, 2.0)},
    ],
    ids=str,
)
def test_options_mean_what_they_mean_elsewhere(options) -> None:
    jacobian = ad.jacobian(chain, sparsity=band(), **options)(X)
    np.testing.assert_allclose(whole(jacobian), exact(), rtol=1e-5, atol=1e-5)


def test_a_step_is_kept_to_the_letter() -> None:
    recorder = Recorder(chain)
    ad.jacobian(recorder, sparsity=band(), method="central", step_size=2.0**-10)(X)
    steps = (recorder.coordinates - X) / 2.0**-10
    assert np.abs(steps - np.round(steps)).max() < 1e-9


def test_aux_other_arguments_and_full_output() -> None:
    transform = ad.jacobian(lambda x, a: (a * chain(x), "aux"), sparsity=band(), has_aux=True)
    jacobian, aux = transform(X, 2.0)
    assert aux == "aux"
    np.testing.assert_allclose(whole(jacobian), 2 * exact(), rtol=1e-12, atol=1e-12)
    assert ad.jacobian(chain, sparsity=band(), full_output=True)(X).colours == 3


@pytest.mark.parametrize("transform", [ad.jacfwd, ad.jacrev])
def test_jacfwd_and_jacrev_take_patterns_too(transform) -> None:
    np.testing.assert_allclose(whole(transform(chain, sparsity=band())(X)), exact(), rtol=1e-12, atol=1e-12)


def test_the_transform_can_be_pickled() -> None:
    transform = pickle.loads(pickle.dumps(ad.jacobian(chain, sparsity=band())))
    np.testing.assert_allclose(whole(transform(X)), exact(), rtol=1e-12, atol=1e-12)


def test_what_cannot_be_vouched_for_is_flagged_warned_of_raised_or_blanked() -> None:
    def f(x):
        return np.abs(x - X[3])

    pattern = np.eye(N, dtype=bool)
    with pytest.warns(ad.DifferentiationWarning, match="KINK"):
        ad.jacobian(f, sparsity=pattern)(X)
    with pytest.raises(ad.NumericalStabilityError, match=r"d f\[3\] / d x\[3\]"):
        ad.jacobian(f, sparsity=pattern, unreliable="raise")(X)
    blanked = ad.jacobian(f, sparsity=pattern, unreliable="nan")(X).data
    assert np.array_equal(np.isnan(blanked), np.arange(N) == 3)


@pytest.mark.parametrize(("most", "trace"), [(1, True), (2, True), (3, True), (8, False)])
def test_max_evaluations_is_never_exceeded(most: int, trace: bool) -> None:
    recorder = Recorder(chain)
    result = ad.jacobian(recorder, sparsity=band(), max_evaluations=most, trace=trace).result(X)
    assert recorder.points <= most
    assert "max_evaluations is spent" in result.explain()


def test_the_same_call_gives_the_same_bits() -> None:
    first, second = (ad.jacobian(chain, sparsity=band(), opaque=True).result(X) for _ in range(2))
    assert np.array_equal(first.jacobian.data, second.jacobian.data)
    assert np.array_equal(first.error_estimate, second.error_estimate)


@pytest.mark.parametrize("workers", [pytest.param(2, marks=FORKS)])
def test_workers_and_none_give_the_same_bits(workers) -> None:
    alone, shared = (ad.jacobian(chain, sparsity=band(), opaque=True, workers=w)(X) for w in (None, workers))
    assert np.array_equal(alone.data, shared.data)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"sparsity": "detct"}, ValueError, "'detect', 'trace'"),
        ({"sparsity": band(), "verify_pattern": "mend"}, ValueError, "'repair' or False"),
        ({"sparsity": band(), "holomorphic": True}, ValueError, "holomorphic is not served"),
        ({"sparsity": band(), "in_axes": 0}, ValueError, "in_axes is not served"),
        ({"sparsity": band(), "out": np.zeros((N, N))}, ValueError, "out is not served"),
    ],
)
def test_what_does_not_go_with_a_pattern_is_refused_by_name(options, error, says) -> None:
    with pytest.raises(error, match=says):
        ad.jacobian(chain, **options)


def test_complex_numbers_lazy_arrays_and_second_derivatives_are_refused() -> None:
    with pytest.raises(TypeError, match="real"):
        ad.jacobian(chain, sparsity=band())(X + 0j)
    with pytest.raises(TypeError, match="real and imaginary parts"):
        ad.jacobian(lambda x: chain(x) * 1j, sparsity=band())(X)
    with pytest.raises(TypeError, match="leave sparsity out"):
        ad.jacobian(ad.jacobian(chain, sparsity=band()))(X)
    for name in ("plan", "stepper"):
        with pytest.raises(TypeError, match="without sparsity"):
            getattr(ad.jacobian(chain, sparsity=band()), name)(X)
    dask = pytest.importorskip("dask.array", reason="Dask's arrays are lazy")
    with pytest.raises(ValueError, match="lazy"):
        ad.jacobian(lambda x: x * x, sparsity=np.eye(3, dtype=bool), method="central")(dask.ones(3))


def test_lines_are_numbered_without_gaps() -> None:
    assert numbered(np.asarray([5, NO_LINE, 2, 5])).tolist() == [1, NO_LINE, 0, 1]
