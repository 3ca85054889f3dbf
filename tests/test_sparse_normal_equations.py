"""Normal equations with a pattern: the products of the dense ones at the price of its colours, and patterns that are checked."""

from __future__ import annotations

import functools
import pickle
import warnings

import numpy as np
import pytest

import arraydiff as ad
from arraydiff import Status
from arraydiff.sparse import Sparsity, SparsityError
from arraydiff.sparse.pattern import Pattern
from arraydiff.sparse.tiles import Tiling
from tests.helpers import Backend, Recorder, tonumpy
from tests.test_sparse_jacobian import FORKS, METHODS, N, X, band, chain, chain_of, exact, without

ANGLES, EACH = 5, 30
T = np.linspace(0.1, 1.0, EACH)
LOCAL = np.concatenate([np.linspace(0.2, 0.4, ANGLES), np.linspace(0.9, 1.1, ANGLES), [0.7, 0.3]])


def residuals(x, t=T):
    """A contrast and an offset for each of several decays, which share two parameters."""
    decays = np.exp(-x[-2] * t - x[-1] * np.arange(1, ANGLES + 1)[:, None] * t * t)
    return (x[:ANGLES, None] * decays + x[ANGLES : 2 * ANGLES, None] - 1).reshape(-1)


def of_angle(x, angle):
    return residuals(x).reshape(ANGLES, EACH)[angle]


def scaled_pattern():
    own = np.repeat(np.eye(ANGLES, dtype=bool), EACH, axis=0)
    return np.concatenate([own, own, np.ones((ANGLES * EACH, 2), dtype=bool)], axis=1)


def pattern_of_angle(angle):
    return scaled_pattern()[angle * EACH : (angle + 1) * EACH]


def assert_same(triple, other, rtol=1e-10):
    for got, right in zip(triple, other, strict=True):
        right = tonumpy(right)
        assert got.shape == right.shape
        np.testing.assert_allclose(tonumpy(got), right, rtol=rtol, atol=rtol * np.max(np.abs(right), initial=0.0))


def assert_products(triple, jacobian, residual, rtol=1e-10, weights=1.0):
    weighted = (weights * jacobian.T).T
    assert_same(triple, (jacobian.T @ weighted, weighted.T @ residual, np.sum(weights * residual**2)), rtol)


# ---- values


@pytest.mark.parametrize("method", [*METHODS, "backward"])
def test_every_method_gives_the_products_of_its_sparse_jacobian(method):
    triple = ad.normal_equations(chain, sparsity=band(), method=method)(X)
    jacobian = ad.jacobian(chain, sparsity=band(), method=method)(X).toarray()
    assert_products(triple, jacobian, chain(X), rtol=1e-13)
    assert (triple[0] == triple[0].T).all()


@pytest.mark.parametrize("backend", [b for b in Backend if b is not Backend.DASK], indirect=True, ids=lambda b: b.value)
def test_every_library_gives_arrays_of_its_own(backend):
    x = backend.asarray(X)
    result = ad.normal_equations(chain_of(backend.namespace), sparsity=band(), unreliable="raise").result(x)
    assert_products(result.normal, exact(), chain(X))
    for triple in (result.normal, result.error_estimate):
        assert all(type(entry) is type(x) for entry in triple)
    assert all((tonumpy(entry) == 0).all() for entry in result.status)


def test_lazy_arrays_that_a_ladder_computes_are_served():
    array = pytest.importorskip("dask.array")

    def fun(x):
        return array.sin(x) * x

    triple = ad.normal_equations(fun, sparsity=np.eye(N, dtype=bool))(array.asarray(X))
    assert_products([entry.compute() for entry in triple], np.diag(np.sin(X) + X * np.cos(X)), X * np.sin(X))


def test_contrast_and_offset_of_each_angle_take_the_directions_of_one_angle():
    seen = Recorder(residuals)
    result = ad.normal_equations(seen, sparsity=scaled_pattern(), trace=False).result(LOCAL)
    dense = ad.normal_equations(residuals, trace=False).result(LOCAL)
    assert_same(result.normal, dense.normal)
    assert result.function_points == seen.points
    assert result.function_points == dense.function_points - LOCAL.size + 4  # directions; the certificate is the check
    assert result.rows == ANGLES * EACH


@pytest.mark.parametrize("shape", [(200, 30), (30, 200), (7, 1)])
def test_rows_of_any_pattern_are_summed_right(shape):
    random = np.random.default_rng(5)
    entries = random.random(shape) < 0.1
    entries[3], entries[4] = False, True  # a row without entries, and one with all
    a = np.where(entries, random.normal(size=shape), 0.0)
    x = random.uniform(0.5, 1.5, shape[1])
    triple = ad.normal_equations(lambda x: a @ np.sin(x) - 0.3, sparsity=entries, unreliable="ignore")(x)
    assert_products(triple, a * np.cos(x), a @ np.sin(x) - 0.3, rtol=1e-12)


def test_several_arguments_and_trees_keep_their_structure():
    def fun(p, q):
        return np.concatenate([p["a"] * q, p["b"] * p["b"] - q])

    p, q = {"a": np.array([1.0, 2.0]), "b": np.array([0.5, 0.3])}, np.array([3.0, 4.0])
    rows = np.array([0, 1, 0, 1, 2, 3, 2, 3])
    pattern = (rows, np.array([0, 1, 4, 5, 2, 3, 4, 5]), (4, 6))
    sparse = ad.normal_equations(fun, (0, 1), sparsity=pattern)(p, q)
    dense = ad.normal_equations(fun, (0, 1))(p, q)
    np.testing.assert_allclose(sparse[0][0]["a"][1], dense[0][0]["a"][1], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(sparse[1][0]["b"], dense[1][0]["b"], rtol=1e-12)
    assert sparse[2].shape == ()


def test_nothing_and_next_to_nothing_are_served():
    nothing = ad.normal_equations(lambda x: x[:0], sparsity=np.zeros((0, 2), dtype=bool))(np.ones(2))
    assert_same(nothing, (np.zeros((2, 2)), np.zeros(2), np.zeros(())))
    still = ad.normal_equations(lambda x: np.array([1.0, 2.0]), sparsity=np.zeros((2, 3), dtype=bool))(np.ones(3))
    assert_same(still, (np.zeros((3, 3)), np.zeros(3), np.asarray(5.0)))


# ---- weights, bars, flags


@pytest.mark.parametrize("weights", [2.0, np.linspace(0.0, 2.0, N)], ids=["number", "array"])
def test_weights_are_those_of_the_rows(weights):
    result = ad.normal_equations(chain, sparsity=band(), weights=weights).result(X)
    assert_products(result.normal, exact(), chain(X), weights=np.broadcast_to(weights, X.shape))


def test_rows_of_weight_zero_may_be_anything():
    def broken(x):
        y = chain(x)
        y[7] = np.nan
        return y

    weights = np.ones(N)
    weights[7] = 0.0
    triple = ad.normal_equations(broken, sparsity=band(), weights=weights, unreliable="raise")(X)
    assert_products(triple, exact(), chain(X), weights=weights)
    with pytest.warns(ad.DifferentiationWarning, match="not finite at x"):
        lost = ad.normal_equations(broken, sparsity=band())(X)
    assert np.isnan(lost[2])


@pytest.mark.parametrize("method", ["adaptive", "central", "forward"])
def test_bars_cover_the_error_and_are_those_of_the_worst_case(method):
    result = ad.normal_equations(chain, sparsity=band(), method=method).result(X)
    right = exact().T @ exact(), exact().T @ chain(X), np.sum(chain(X) ** 2)
    for got, bars, wanted in zip(result.normal, result.error_estimate, right, strict=True):
        assert (np.abs(got - wanted) <= bars * (10 if method == "forward" else 1)).all()  # right in order of magnitude
    sparse = ad.jacobian(chain, sparsity=band(), method=method).result(X)
    errors = np.zeros((N, N))
    errors[band()] = sparse.error_estimate
    size = np.abs(sparse.jacobian.toarray())
    worst = size.T @ errors + errors.T @ size + errors.T @ errors
    assert (result.error_estimate[0] >= worst * (1 - 1e-9)).all()
    assert (result.error_estimate[0] <= worst + 1e-13 * (size.T @ size) + 1e-18).all()
    assert (result.error_estimate[0][np.abs(np.subtract.outer(range(N), range(N))) > 2] == 0).all()


def test_flags_go_to_the_columns_that_have_them():
    def kinked(x):
        y = chain(x)
        y[5] = np.abs(x[5] - X[5])
        return y

    result = ad.normal_equations(kinked, sparsity=band()).result(X)
    assert Status(int(result.status[0][5, 5])) & Status.KINK
    assert result.status[0][20, 20] == 0
    assert "d r / d x[5]: 1 entries with KINK" in result.explain()


def test_parameters_without_room_have_zeros_and_say_so():
    lower, upper = X - 1, X + 1
    lower[4] = upper[4] = X[4]
    result = ad.normal_equations(chain, sparsity=band(), bounds=(lower, upper)).result(X)
    jacobian = exact()
    jacobian[:, 4] = 0.0
    assert_products(result.normal, jacobian, chain(X))
    assert result.status[0][4, 4] == Status.FIXED
    assert result.status[0][3, 3] == 0


# ---- patterns


def test_a_wrong_pattern_is_found_and_its_rows_named():
    with pytest.raises(SparsityError, match="row 3") as caught:
        ad.normal_equations(chain, sparsity=without((3, 4)))(X)
    assert caught.value.rows == (3,)
    triple = ad.normal_equations(chain, sparsity=without((3, 4)), verify_pattern="repair")(X)
    assert_products(triple, exact(), chain(X))


def test_a_pattern_that_is_not_verified_is_taken_as_it_is():
    triple = ad.normal_equations(lambda x: x @ x * np.ones(2), sparsity=np.eye(2, dtype=bool), verify_pattern=False)(
        np.ones(2)
    )
    assert triple[0].shape == (2, 2)
    with pytest.raises(ValueError, match="verify_pattern"):
        ad.normal_equations(chain, sparsity=band(), verify_pattern="perhaps")


@pytest.mark.parametrize("way", ["detect", "trace"])
def test_a_pattern_that_is_found_is_kept_until_it_is_to_be_forgotten(way):
    seen = Recorder(chain)
    g = ad.normal_equations(seen.f if way == "trace" else seen, sparsity=way)
    assert_products(g(X), exact(), chain(X))
    first, seen.points = seen.points, 0
    assert_products(g(X), exact(), chain(X))
    assert way == "trace" or seen.points < first
    second, seen.points = seen.points, 0
    g.forget()
    g(X)
    assert way == "trace" or seen.points > second


def test_a_sparsity_serves_jacobian_and_normal_equations():
    kept = Sparsity.from_pattern(band())
    triple = ad.normal_equations(chain, sparsity=kept)(X)
    assert_products(triple, ad.jacobian(chain, sparsity=kept)(X).toarray(), chain(X), rtol=1e-13)


# ---- blocks


@pytest.mark.parametrize(
    "sparsity",
    [[pattern_of_angle(i) for i in range(ANGLES)], pattern_of_angle, "detect"],
    ids=["list", "function", "detect"],
)
def test_blocks_have_patterns_of_their_own(sparsity):
    seen = Recorder(of_angle)
    g = ad.normal_equations(seen, blocks=ANGLES, sparsity=sparsity)
    for _ in range(2):
        seen.points = 0
        result = g.result(LOCAL)
        assert_same(result.normal, ad.normal_equations(residuals)(LOCAL))
        assert result.function_points == seen.points


def test_blocks_may_share_one_pattern():
    def part(x, b):
        return chain(x) * (b + 1)

    triple = ad.normal_equations(part, blocks=[0, 1], sparsity=band())(X)
    assert_products(triple, np.concatenate([exact(), 2 * exact()]), np.concatenate([chain(X), 2 * chain(X)]))


def test_several_functions_take_several_patterns():
    functions = [functools.partial(of_angle, angle=i) for i in range(ANGLES)]
    patterns = tuple(pattern_of_angle(i) for i in range(ANGLES))
    dense = ad.normal_equations(residuals)(LOCAL)
    assert_same(ad.normal_equations(functions, sparsity=patterns)(LOCAL), dense)
    assert_same(ad.normal_equations(iter(functions), sparsity="detect")(LOCAL), dense)


def test_three_patterns_are_not_taken_for_triplets():
    patterns = tuple(pattern_of_angle(i) for i in range(3))
    triple = ad.normal_equations(of_angle, blocks=3, sparsity=patterns, unreliable="ignore")(LOCAL)
    assert_same(triple, ad.normal_equations(of_angle, blocks=3, unreliable="ignore")(LOCAL))


def test_a_wrong_number_of_patterns_is_told():
    with pytest.raises(ValueError, match="one pattern a block, got 2 for 5"):
        ad.normal_equations(of_angle, blocks=ANGLES, sparsity=[pattern_of_angle(0)] * 2)(LOCAL)


# ---- the rest


def test_what_has_no_sparse_jacobian_is_refused():
    with pytest.raises(ValueError, match="sparsity must be"):
        ad.normal_equations(chain, sparsity="guess")
    with pytest.raises(ValueError, match="devices"):
        ad.normal_equations(chain, sparsity=band(), devices=["cpu"])
    with pytest.raises(TypeError, match="not a derivative"):
        ad.normal_equations(ad.grad(lambda x: np.sum(x**3)), sparsity=np.eye(N, dtype=bool))(X)
    with pytest.raises(ValueError, match="shape"):
        ad.normal_equations(chain, sparsity=band(N + 1))(X)


def test_it_is_picklable_and_two_threads_may_share_it():
    g = pickle.loads(pickle.dumps(ad.normal_equations(chain, sparsity=band())))
    assert_products(g(X), exact(), chain(X))


@pytest.mark.parametrize("options", [{"workers": 2}, {"max_memory": "1 MB"}, {"chunk_size": 1}], ids=str)
@pytest.mark.filterwarnings(*[mark.args[0] for mark in FORKS])
def test_workers_and_chunks_change_no_bit(options):
    alone = ad.normal_equations(chain, sparsity=band())(X)
    for one, other in zip(ad.normal_equations(chain, sparsity=band(), **options)(X), alone, strict=True):
        assert np.array_equal(one, other)


def test_memory_grows_with_the_entries_and_not_with_the_matrix():
    import tracemalloc

    n = 300
    rows = np.arange(20_000)
    pattern = Sparsity.from_pattern((rows, rows % n, (rows.size, n)))
    pattern.colours, pattern.tiling  # noqa: B018 - made beforehand

    def fun(x):
        return np.sin(x[rows % n]) * (1 + rows)

    x = np.linspace(0.5, 1.5, n)
    g = ad.normal_equations(fun, sparsity=pattern, method="central")
    g(x)
    tracemalloc.start()
    try:
        g(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * rows.size * n / 2


def test_a_bare_call_warns_of_what_is_not_vouched_for():
    def step(x):
        y = chain(x)
        y[5] = np.abs(x[5] - X[5])
        return y

    with pytest.warns(ad.DifferentiationWarning, match="KINK"):
        ad.normal_equations(step, sparsity=band())(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        blanked = ad.normal_equations(step, sparsity=band(), unreliable="nan")(X)
    assert np.isnan(blanked[0][5]).all()
    assert np.isfinite(blanked[0][20, 20])


# ---- tiles


def test_tiles_hold_every_entry_once_and_like_rows_together():
    random = np.random.default_rng(3)
    pattern = Pattern.of(random.random((500, 40)) < 0.1)
    tiles = list(Tiling.of(pattern))
    places = np.concatenate([tile.places.reshape(-1) for tile in tiles])
    assert np.array_equal(np.sort(places[places < pattern.nnz]), np.arange(pattern.nnz))
    for tile in tiles:
        k, t = np.nonzero(tile.places < pattern.nnz)
        assert np.array_equal(pattern.rows[tile.places[k, t]], tile.rows[t])
        assert np.array_equal(pattern.cols[tile.places[k, t]], tile.cols[k])
    alike = Tiling.of(Pattern.of(scaled_pattern()))
    assert max(tile.cols.size for tile in Tiling(alike.pattern, alike.order, EACH)) == 4
