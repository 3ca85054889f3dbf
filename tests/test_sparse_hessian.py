"""Sparse Hessians: the entries of the dense one, symmetric to the last bit, at few points, and never wrong in silence."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

import arraydiff as ad
from arraydiff import Status
from arraydiff.sparse import Sparsity, SparsityError, Triplets
from tests.helpers import Backend, Recorder, is_traced, tonumpy

N = 40
X = np.linspace(0.5, 2.0, N) * (1 + 0.3 * np.sin(np.arange(N)))
FORKS = [  # other tests have threads; f needs no lock of theirs
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning"),
]
ACCURACY = {"gradient": 1e-11, "terms": 1e-9, "values": 1e-9}
OPAQUE = {"gradient": 1e-9, "terms": 1e-7, "values": 1e-5}


def terms(x):
    """Each of two neighbours."""
    d = x[:-1] - x[1:]
    return 1 - np.cos(d) + x[1:] ** 4


def total(x):
    return np.sum(terms(x))


def slope(x):
    y, d = 4 * x**3, np.sin(x[:-1] - x[1:])
    y[0] = 0
    y[:-1] += d
    y[1:] -= d
    return y


def exact(x=X):
    d, diagonal = np.cos(x[:-1] - x[1:]), 12 * x**2
    diagonal[0] = 0
    diagonal[:-1] += d
    diagonal[1:] += d
    return np.diag(diagonal) - np.diag(d, 1) - np.diag(d, -1)


def terms_of(xp):
    def f(x):
        d = x[:-1] - x[1:]
        return 1 - xp.cos(d) + x[1:] ** 4

    return f


def slope_of(xp):
    def g(x):
        none = xp.zeros_like(x[:1])
        d = xp.sin(x[:-1] - x[1:])
        return xp.concat([none, 4 * x[1:] ** 3]) + xp.concat([d, none]) - xp.concat([none, d])

    return g


def band(n=N):
    return np.abs(np.arange(n)[:, None] - np.arange(n)) <= 1


def pairs(n=N):
    """The pattern of the terms."""
    return (np.eye(n, dtype=bool) | np.eye(n, k=1, dtype=bool))[:-1]


def without(pattern, *entries):
    pattern = pattern.copy()
    for entry in entries:
        pattern[entry] = False
    return pattern


def asked(way, f=terms, **options):
    """The transform of the chain, made in one of three ways."""
    if way == "gradient":
        return ad.hessian(total, gradient=slope, **{"sparsity": band(), **options})
    if way == "terms":
        return ad.hessian(f, terms=True, **{"sparsity": pairs(), **options})
    return ad.hessian(total, **{"sparsity": band(), **options})


def whole(matrix):
    return tonumpy(matrix.todense())


WAYS = ["gradient", "terms", "values"]


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_sparse_hessian_is_the_exact_one_within_its_bars(way: str, opaque: bool) -> None:
    result = asked(way, opaque=opaque).result(X)
    error = np.abs(whole(result.hessian) - exact())
    assert error.max() < (OPAQUE if opaque else ACCURACY)[way]
    bars = result.hessian.copy()
    bars.data = result.error_estimate
    assert np.mean(error[band()] <= bars.toarray()[band()]) >= 0.95
    assert result.warnings == []
    assert result.lower_bound == (2 if way == "terms" else 3)


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_symmetric_to_the_last_bit_with_its_bars_and_flags(way: str, opaque: bool) -> None:
    result = asked(way, opaque=opaque).result(X)
    for part in (result.hessian.data, result.error_estimate, result.status):
        matrix = result.hessian.copy()
        matrix.data = part
        assert np.array_equal(matrix.toarray(), matrix.toarray().T)


@pytest.mark.parametrize("way", ["gradient", "terms"])
def test_points_do_not_depend_on_the_number_of_parameters(way: str) -> None:
    points = []
    for n in (50, 500):
        x = np.linspace(0.5, 2.0, n)
        points.append(asked(way, sparsity=pairs(n) if way == "terms" else band(n)).result(x).function_points)
    assert points[0] == points[1] <= 13


@pytest.mark.parametrize(("trace", "gradients", "vectors"), [(True, 4, 6), (False, 12, 13)])
def test_a_tridiagonal_hessian_takes_few_gradients_and_vectors_of_terms(trace, gradients, vectors) -> None:
    assert asked("gradient", trace=trace).result(X).function_points == gradients
    assert asked("terms", trace=trace).result(X).function_points == vectors


def test_a_gradient_that_can_be_followed_is_evaluated_four_times() -> None:
    result = asked("gradient").result(X)
    assert result.method_used is ad.DifferentiationMethod.EXACT
    assert result.function_points == 4  # x, followed, and two along a ray


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_counts_are_those_that_f_saw(way: str, opaque: bool) -> None:
    recorder = Recorder({"gradient": slope, "terms": terms, "values": total}[way])
    options = {"opaque": opaque, "sparsity": pairs() if way == "terms" else band()}
    if way == "gradient":
        result = ad.hessian(total, gradient=recorder, **options).result(X)
    else:
        result = ad.hessian(recorder, terms=way == "terms", **options).result(X)
    assert (result.function_calls, result.function_points) == (recorder.calls, recorder.points)


@pytest.mark.parametrize("way", ["gradient", "terms"])
def test_every_library_gives_its_own_arrays(backend: Backend, way: str) -> None:
    xp, x = backend.namespace, backend.asarray(X)
    if way == "gradient":
        result = ad.hessian(total, gradient=slope_of(xp), sparsity=band()).result(x)
    else:
        result = ad.hessian(terms_of(xp), terms=True, sparsity=pairs()).result(x)
    assert np.abs(whole(result.hessian) - exact()).max() < 1e-9
    plain = backend in (Backend.NUMPY, Backend.NUMPY_READONLY)
    assert isinstance(result.hessian, Triplets) is not plain
    assert type(result.hessian.data) is type(result.error_estimate) is type(x)


def test_values_serve_every_library(backend: Backend) -> None:
    xp = backend.namespace
    f = terms_of(xp)
    result = ad.hessian(lambda x: xp.sum(f(x)), sparsity=band(12)).result(backend.asarray(X[:12]))
    assert np.abs(whole(result.hessian) - exact(X[:12])).max() < 1e-9


def test_values_take_points_by_the_entry_not_by_the_square_of_n() -> None:
    assert asked("values").result(X).function_points < 10 * (2 * N)


def test_the_value_is_the_sum_of_the_terms() -> None:
    assert asked("terms").result(X).value == pytest.approx(total(X), rel=1e-15)
    assert asked("values").result(X).value == total(X)


def test_one_triangle_of_the_pattern_is_enough() -> None:
    for way in ("gradient", "values"):
        np.testing.assert_array_equal(
            whole(asked(way, sparsity=np.triu(band()))(X)), whole(asked(way, sparsity=band())(X))
        )


# other shapes


def grid_terms(x):
    """Neighbours on a grid of 6 x 6."""
    z = x.reshape(6, 6)
    down, right = z[1:] - z[:-1], z[:, 1:] - z[:, :-1]
    return np.concatenate([np.cosh(down).ravel(), (right * right * right).ravel(), np.exp(z / 2).ravel()])


def grid_hessian(x):
    number, hessian = np.arange(36).reshape(6, 6), np.diag(np.exp(x / 2) / 4)
    for ends, curve in (((number[1:], number[:-1]), np.cosh), ((number[:, 1:], number[:, :-1]), lambda d: 6 * d)):
        for i, j in zip(*(part.ravel() for part in ends), strict=True):
            bent = curve(x[i] - x[j])
            for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                hessian[a, b] += sign * bent
    return hessian


def test_a_grid_by_terms_whose_pattern_is_detected_or_traced() -> None:
    x = np.random.default_rng(3).uniform(0.5, 1.5, 36)
    for way in ("detect", "trace"):
        result = ad.hessian(grid_terms, terms=True, sparsity=way).result(x)
        assert np.abs(whole(result.hessian) - grid_hessian(x)).max() < 1e-9
        assert result.warnings == []


ANGLES, DELAYS = 12, 9
RATES = np.geomspace(0.3, 3.0, DELAYS)


def arrow(p):
    """Contrast and offset of each angle, and three parameters that all share."""
    contrast, offset, shared = p[:ANGLES, None], p[ANGLES : 2 * ANGLES, None], p[2 * ANGLES :]
    decay = shared[0] * RATES + shared[1] * RATES**2 * np.linspace(0.5, 1.5, ANGLES)[:, None]
    return ((contrast * np.exp(-decay) * shared[2] + offset - 1) ** 2).ravel()


def test_a_block_arrow_costs_its_longest_term() -> None:
    p = np.concatenate([np.linspace(0.2, 0.4, ANGLES), np.linspace(0.9, 1.1, ANGLES), [0.4, 0.1, 0.9]])
    result = ad.hessian(arrow, terms=True, sparsity="detect").result(p)
    dense = ad.hessian(lambda p: np.sum(arrow(p)))(p)
    assert result.colours == 5
    np.testing.assert_allclose(whole(result.hessian), dense, atol=1e-9 * np.abs(dense).max())
    again = ad.hessian(arrow, terms=True, sparsity=result.pattern).result(p)
    assert again.function_points <= 5 * 5 + 5 + 7


def test_a_block_arrow_by_its_gradient() -> None:
    n = 20

    def f(x):
        return np.sum(x[:-1] ** 2 * x[-1]) + x[-1] ** 4 + np.sum(np.sin(x))

    def gradient(x):
        return np.concatenate([2 * x[:-1] * x[-1], [np.sum(x[:-1] ** 2) + 4 * x[-1] ** 3]]) + np.cos(x)

    pattern = np.eye(n, dtype=bool)
    pattern[-1, :] = pattern[:, -1] = True
    x = np.linspace(0.5, 1.5, n)
    result = ad.hessian(f, gradient=gradient, sparsity=pattern).result(x)
    expected = np.diag(np.append(2 * np.full(n - 1, x[-1]), 12 * x[-1] ** 2) - np.sin(x))
    expected[-1, :-1] = expected[:-1, -1] = 2 * x[:-1]
    assert result.colours == 2  # where columns take 20
    np.testing.assert_allclose(whole(result.hessian), expected, atol=1e-12)


# a pattern is a cache, not a promise


@pytest.mark.parametrize("opaque", [False, True])
def test_a_wrong_pattern_of_the_gradient_is_found_and_its_rows_named(opaque: bool) -> None:
    pattern = without(band(), (17, 18), (18, 17))
    with pytest.raises(SparsityError, match=r"rows 17, 18.*the gradient and its Hessian differ") as raised:
        asked("gradient", sparsity=pattern, opaque=opaque)(X)
    assert raised.value.rows == (17, 18)


@pytest.mark.parametrize("opaque", [False, True])
def test_a_wrong_pattern_of_terms_is_found_and_its_terms_named(opaque: bool) -> None:
    with pytest.raises(SparsityError, match=r"term 17:.*verify_pattern='repair'") as raised:
        asked("terms", sparsity=without(pairs(), (17, 18)), opaque=opaque)(X)
    assert raised.value.rows == (17,)
    assert raised.value.gap > 1e-3


@pytest.mark.parametrize(("opaque", "rows"), [(False, (17, 18)), (True, ())])
def test_a_wrong_pattern_is_found_by_values_which_name_rows_where_f_is_followed(
    opaque: bool, rows: tuple[int, ...]
) -> None:
    pattern = without(band(), (17, 18), (18, 17))
    with pytest.raises(SparsityError, match=r"entries of the Hessian.*gradient=, or terms=True") as raised:
        asked("values", sparsity=pattern, opaque=opaque)(X)
    assert raised.value.rows == rows


@pytest.mark.parametrize("way", ["gradient", "terms"])
def test_a_wrong_pattern_is_repaired_where_that_is_asked_for(way: str) -> None:
    pattern = without(band(), (17, 18), (18, 17)) if way == "gradient" else without(pairs(), (17, 18))
    transform = asked(way, sparsity=pattern, verify_pattern="repair")
    result = transform.result(X)
    assert result.repaired_rows.tolist() == ([17, 18] if way == "gradient" else [17])
    assert np.abs(whole(result.hessian) - exact()).max() < ACCURACY[way]
    assert np.array_equal(whole(result.hessian), whole(result.hessian).T)
    again = transform.result(X)
    assert again.repaired_rows.size == 0
    assert again.function_points < result.function_points


@pytest.mark.parametrize("trace", [True, False])
def test_a_detected_pattern_grows_where_a_switch_of_f_asks_for_it(trace: bool) -> None:
    def switching(x):
        return terms(x) + np.append(x[2:] ** 2 * x[:-2], 0.0) * (x[0] > 1)

    transform = ad.hessian(switching, terms=True, trace=trace)
    x = X.copy()
    transform(x)
    x[0] = 1.5
    result = transform.result(x)
    assert result.repaired_rows.size == N - 2
    assert result.method_used == ("exact" if trace else "complex_step")
    expected = exact(x) + np.diag(np.concatenate([[0, 0], 2 * x[:-2]]))
    expected += np.diag(2 * x[2:], 2) + np.diag(2 * x[2:], -2)
    assert np.abs(whole(result.hessian) - expected).max() < 1e-9


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_pattern_is_taken_where_the_check_is_off(way: str) -> None:
    wrong = without(pairs(), (17, 18)) if way == "terms" else without(band(), (17, 18), (18, 17))
    assert np.abs(whole(asked(way, sparsity=wrong, verify_pattern=False)(X)) - exact()).max() > 0.1


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_whole_patterns_raise_no_alarm(way: str, opaque: bool) -> None:
    random, n = np.random.default_rng(11), 14
    for _ in range(20):
        x = random.normal(size=n) * 10.0 ** random.uniform(-1, 1, n)
        sparsity = pairs(n) if way == "terms" else band(n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hessian = asked(way, sparsity=sparsity, opaque=opaque)(x)
        scale = np.sqrt(np.outer(*[np.abs(np.diag(exact(x)))] * 2)) + np.abs(exact(x))
        assert (np.abs(whole(hessian) - exact(x)) <= 1e-4 * scale.max()).all()


# functions that imaginary parts say too little of


@pytest.mark.parametrize(
    "dropping",
    [
        lambda x: np.abs(x[:-1] - x[1:]) ** 2,
        lambda x: np.real((x[:-1] - x[1:]) ** 2),
        lambda x: (x[:-1] - x[1:]) ** 2 + 1e-3 * np.abs(x[1:]) ** 3,
        lambda x: np.hypot(np.real(x[:-1]), np.real(x[1:])),
    ],
)
@pytest.mark.parametrize("x", [X, np.ones(N)])
def test_terms_that_drop_imaginary_parts_are_differenced_in_real_steps(dropping, x) -> None:
    result = ad.hessian(dropping, terms=True, sparsity=pairs(), trace=False).result(x)
    real = ad.hessian(dropping, terms=True, sparsity=pairs(), method="richardson")(x)
    assert result.method_used is ad.DifferentiationMethod.RICHARDSON
    assert np.abs(whole(result.hessian) - whole(real)).max() < 1e-6


def test_terms_that_refuse_complex_numbers_are_differenced_in_real_steps() -> None:
    def refusing(x):
        return terms(np.asarray(x, dtype=float))

    transform = ad.hessian(refusing, terms=True, sparsity=pairs())
    result = transform.result(X)
    assert result.method_used is ad.DifferentiationMethod.RICHARDSON
    assert "complex" in result.reason
    assert np.abs(whole(result.hessian) - exact()).max() < 1e-7
    assert transform.result(X).function_points < result.function_points  # which it has learnt


def test_noisy_terms_have_wide_bars() -> None:
    random = np.random.default_rng(5)

    def noisy(x):
        y = terms(x)
        return y * (1 + 1e-7 * random.normal(size=y.shape))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = ad.hessian(noisy, terms=True, sparsity=pairs()).result(X)
    error = np.abs(whole(result.hessian) - exact())
    bars = result.hessian.copy()
    bars.data = result.error_estimate
    assert np.mean(error[band()] <= bars.toarray()[band()]) > 0.9


def test_fast_terms_get_the_steps_that_they_need() -> None:
    def fast(x):
        return np.sin(60 * (x[:-1] + x[1:]))

    result = ad.hessian(fast, terms=True, sparsity=pairs()).result(X)
    bent = -3600 * fast(X)
    expected = np.diag(np.append(bent, 0) + np.append(0, bent)) + np.diag(bent, 1) + np.diag(bent, -1)
    error = np.abs(whole(result.hessian) - expected)
    bars = result.hessian.copy()
    bars.data = result.error_estimate
    assert np.mean(error[band()] <= bars.toarray()[band()]) > 0.95
    assert error.max() < 1e-6 * 3600


# bounds, failures, fixed parameters


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_no_point_leaves_the_bounds(way: str, opaque: bool) -> None:
    lower, upper = X - 0.5, X + 0.5
    lower[3], upper[7], lower[11] = X[3], X[7], X[11] - 1e-7
    f = Recorder({"gradient": slope, "terms": terms, "values": total}[way])
    seen = []

    def watched(x):
        if not is_traced(x):
            seen.append(np.real(x).copy())
        return f(x)

    options = {"opaque": opaque, "bounds": (lower, upper), "sparsity": pairs() if way == "terms" else band()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if way == "gradient":
            result = ad.hessian(total, gradient=watched, **options).result(X)
        else:
            result = ad.hessian(watched, terms=way == "terms", **options).result(X)
    points = np.stack(seen)
    assert (points >= lower).all()
    assert (points <= upper).all()
    bars = result.hessian.copy()
    bars.data = result.error_estimate
    error = np.abs(whole(result.hessian) - exact())
    sided = result.hessian.copy()
    sided.data = (result.status & Status.ONE_SIDED) != 0
    assert (error <= np.where(sided.toarray(), 1e-5, 4 * bars.toarray() + 1e-14)).all()


@pytest.mark.parametrize("way", WAYS)
def test_entries_of_fixed_parameters_are_0_and_fixed(way: str) -> None:
    lower, upper = X - 0.5, X + 0.5
    lower[5] = upper[5] = X[5]
    result = asked(way, bounds=(lower, upper)).result(X)
    expected = exact()
    expected[5, :] = expected[:, 5] = 0
    assert np.abs(whole(result.hessian) - expected).max() < 1e-9
    flags = result.hessian.copy()
    flags.data = result.status
    flags = flags.toarray()
    assert (flags[5, 4:7] == Status.FIXED).all()
    assert (flags[4:7, 5] == Status.FIXED).all()
    assert np.count_nonzero(flags) == 5


def test_a_term_that_is_not_finite_loses_its_own_entries_alone() -> None:
    def f(x):
        y = terms(x)
        y[10] = np.nan
        return y

    with pytest.warns(ad.DifferentiationWarning, match="FAILED"):
        result = whole(ad.hessian(f, terms=True, sparsity=pairs())(X))
    lost = np.isnan(result)
    assert lost[10:12, 10:12].all()
    assert lost.sum() == 4
    assert np.abs(result - exact())[~lost].max() < 1e-9


@pytest.mark.parametrize(
    ("most", "trace"), [(1, True), (2, True), (3, True), *((most, False) for most in (1, 4, 8, 10, 11))]
)
@pytest.mark.parametrize("way", WAYS)
def test_what_max_evaluations_leaves_out_is_unresolved(way: str, most: int, trace: bool) -> None:
    transform = asked(way, max_evaluations=most, trace=trace)
    with pytest.warns(ad.DifferentiationWarning, match="UNRESOLVED"):
        data = transform(X).data
    full = asked(way, max_evaluations=most, trace=trace).result(X)
    assert full.function_points <= most
    lost = np.isnan(data)
    assert lost.any()
    assert ((full.status & Status.UNRESOLVED) != 0)[lost].all()
    rows, cols = np.nonzero(band())
    assert np.abs(data - exact()[rows, cols])[~lost].max(initial=0) < 1e-9


# options


@pytest.mark.parametrize("way", WAYS)
def test_a_vectorised_f_gives_the_same(way: str) -> None:
    f = {"gradient": slope, "terms": terms, "values": total}[way]

    def block(x):
        return np.stack([f(column) for column in np.asarray(x).T], axis=-1)

    options = {"vectorized": True, "sparsity": pairs() if way == "terms" else band()}
    if way == "gradient":
        result = ad.hessian(total, gradient=block, **options)(X)
    else:
        result = ad.hessian(block, terms=way == "terms", **options)(X)
    assert np.array_equal(result.data, asked(way)(X).data)


@pytest.mark.filterwarnings(*[mark.args[0] for mark in FORKS])
@pytest.mark.parametrize("way", WAYS)
def test_workers_give_the_same_bits(way: str) -> None:
    alone, together = asked(way).result(X), asked(way, workers=2).result(X)
    np.testing.assert_array_equal(alone.hessian.data, together.hessian.data)
    np.testing.assert_array_equal(alone.error_estimate, together.error_estimate)


def test_several_arrays_are_counted_along_their_flat_order() -> None:
    def f(a, b):
        return a * a * b + np.sin(b)

    a, b = np.linspace(0.5, 1.0, 4), np.linspace(1.0, 2.0, 4)
    hessian = whole(ad.hessian(f, (0, 1), terms=True)(a, b))
    np.testing.assert_allclose(
        hessian, np.block([[np.diag(2 * b), np.diag(2 * a)], [np.diag(2 * a), np.diag(-np.sin(b))]]), atol=1e-9
    )


def test_aux_and_f0_are_served() -> None:
    recorder = Recorder(terms)
    f0 = terms(X)
    result = ad.hessian(recorder, terms=True, sparsity=pairs(), f0=f0).result(X)
    assert result.function_points == recorder.points == 5
    hessian, aux = ad.hessian(lambda x: (terms(x), "said"), has_aux=True, terms=True, sparsity=pairs())(X)
    assert aux == "said"
    np.testing.assert_allclose(whole(hessian), exact(), atol=1e-9)


def test_a_sparsity_is_reused_and_pickled() -> None:
    sparsity = pickle.loads(pickle.dumps(Sparsity.detect(terms, X)))
    result = ad.hessian(terms, terms=True, sparsity=sparsity).result(X)
    assert result.pattern is sparsity
    assert result.function_points == 6
    transform = pickle.loads(pickle.dumps(ad.hessian(terms, terms=True, sparsity=pairs())))
    np.testing.assert_array_equal(transform(X).data, result.hessian.data)


@pytest.mark.parametrize("way", ["detect", "trace"])
def test_the_pattern_of_a_gradient_is_found(way: str) -> None:
    def plain(x):
        d = np.sin(x[:-1] - x[1:])
        none = np.zeros(1)
        return np.concatenate([none, 4 * x[1:] ** 3]) + np.concatenate([d, none]) - np.concatenate([none, d])

    result = ad.hessian(total, gradient=plain, sparsity=way).result(X)
    assert result.hessian.nnz == 3 * N - 2
    np.testing.assert_allclose(whole(result.hessian), exact(), atol=1e-11)


def test_explain_tells_directions_and_bars() -> None:
    text = asked("terms").result(X).explain()
    assert "118 entries of 40 x 40 in 3 directions" in text
    assert "All 118 entries are vouched for" in text


# the diagonal


@pytest.mark.parametrize("opaque", [False, True])
def test_the_diagonal_of_terms_takes_points_that_do_not_depend_on_n(opaque: bool) -> None:
    points = []
    for n in (50, 500):
        x = np.linspace(0.5, 2.0, n)
        result = ad.hessian_diag(terms, terms=True, sparsity=pairs(n), opaque=opaque).result(x)
        np.testing.assert_allclose(result.hessian, np.diag(exact(x)), atol=1e-7 if opaque else 1e-9)
        assert (np.abs(result.hessian - np.diag(exact(x))) <= 4 * result.error_estimate).all()
        points.append(result.function_points)
    assert abs(points[0] - points[1]) <= 4
    assert opaque or points == [6, 6]


def test_the_diagonal_has_the_shape_of_x_and_finds_wrong_patterns(backend: Backend) -> None:
    x = backend.asarray(X.reshape(4, 10))
    f = terms_of(backend.namespace)
    flat = backend.namespace
    diagonal = ad.hessian_diag(lambda x: f(flat.reshape(x, (-1,))), terms=True)(x)
    assert diagonal.shape == (4, 10)
    assert type(diagonal) is type(x)
    np.testing.assert_allclose(tonumpy(diagonal).ravel(), np.diag(exact()), atol=1e-8)
    with pytest.raises(SparsityError, match="term 17"):
        ad.hessian_diag(f, terms=True, sparsity=without(pairs(), (17, 18)))(backend.asarray(X))


# refused by name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": "detect"}, "gradient=.*terms=True"),
        ({"sparsity": "trace"}, "gradient=.*terms=True"),
        ({"sparsity": band(), "verify_pattern": "repair"}, "gradient=.*terms=True"),
        ({"sparsity": pairs()}, "must be square"),
        ({"sparsity": band(), "method": "central"}, "leave method"),
        ({"sparsity": band(), "in_axes": 0}, "in_axes is not served"),
        ({"terms": True, "rows": 0}, "rows is not served"),
        ({"terms": True, "gradient": slope}, "leave terms or gradient out"),
        ({"sparsity": band(), "gradient": slope, "f0": 1.0}, "f0 is not served"),
        ({"sparsity": "sparse"}, "'detect', 'trace'"),
    ],
)
def test_what_is_not_served_is_refused_by_name(options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ad.hessian(total, **options)


def test_shapes_that_do_not_fit_are_told_apart() -> None:
    with pytest.raises(ValueError, match="x has 40 numbers"):
        ad.hessian(total, sparsity=band(39))(X)
    with pytest.raises(ValueError, match="f gives 39 numbers"):
        ad.hessian(terms, terms=True, sparsity=band())(X)
    with pytest.raises(ValueError, match="the gradient has 39"):
        ad.hessian(total, gradient=terms, sparsity=band())(X)
    with pytest.raises(TypeError, match="pass terms=True"):
        ad.hessian(terms, sparsity=band())(X)
