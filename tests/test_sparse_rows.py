"""Rows by pullback: long rows are read off uᵀ·J where f can be followed, and all that holds of columns holds of them."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

import arraydiff as ad
from arraydiff import Status
from arraydiff.exact.derivatives import Traced
from arraydiff.sparse import Sparsity, SparsityError
from tests.helpers import Backend, tonumpy

N = 40
X = np.linspace(0.5, 2.0, N)
FOLLOWED = ad.DifferentiationMethod.EXACT


def arrow_of(xp):
    """A dense first row, a dense first column, a diagonal."""

    def f(x):
        return xp.concat([xp.reshape(xp.sum(xp.sin(x)), (1,)) * x[:1], x[1:] ** 2 * x[0]])

    return f


arrow = arrow_of(np)


def arrow_entries(n=N):
    every, zeros = np.arange(n), np.zeros(n, dtype=int)
    return np.concatenate([zeros, every, every]), np.concatenate([every, zeros, every]), (n, n)


def arrow_exact(x=X):
    jacobian = np.diag(2 * x * x[0])
    jacobian[1:, 0] = x[1:] ** 2
    jacobian[0] = np.cos(x) * x[0]
    jacobian[0, 0] += np.sum(np.sin(x))
    return jacobian


def constrained(x):
    """A band, and one row of all parameters."""
    y = np.concatenate([x[:1] ** 2, x[1:] * np.sin(x[:-1])])
    return np.concatenate([y, np.sum(x**3)[None]])


def constrained_pattern(n=N):
    pattern = np.zeros((n + 1, n), dtype=bool)
    pattern[:n] = np.eye(n, dtype=bool) | np.eye(n, k=-1, dtype=bool)
    pattern[n] = True
    return pattern


def whole(matrix):
    return tonumpy(matrix.todense())


def without(pattern, *entries):
    pattern = pattern.copy()
    for entry in entries:
        pattern[entry] = False
    return pattern


def arrow_pattern(n=N):
    pattern = np.eye(n, dtype=bool)
    pattern[0] = pattern[:, 0] = True
    return pattern


class Sweeps:
    """Counts those along the tape itself, without those with other roundings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pushed = self.pulled = 0
        push, pull = Traced.pushforward, Traced.pullback

        def pushforward(tape, tangent):
            self.pushed += tape._shaker is None
            return push(tape, tangent)

        def pullback(tape, cotangent, *, keep=False):
            self.pulled += tape._shaker is None
            return pull(tape, cotangent, keep=keep)

        monkeypatch.setattr(Traced, "pushforward", pushforward)
        monkeypatch.setattr(Traced, "pullback", pullback)


CHECKS = 2
"""Sweeps that hold the tape to f, and the pattern to the tape."""


def test_an_arrow_takes_three_sweeps_and_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    n, sweeps = 10_000, Sweeps(monkeypatch)
    x = np.linspace(0.5, 2.0, n)
    result = ad.jacobian(arrow, sparsity=arrow_entries(n)).result(x)
    assert (result.method_used, result.colours, result.lower_bound, result.warnings) == (FOLLOWED, 3, n, [])
    assert sweeps.pushed + sweeps.pulled - CHECKS <= 3
    assert "2 directions and 1 cotangent" in result.explain()
    rows, cols = result.pattern.pattern.rows, result.pattern.pattern.cols
    wanted = np.where(rows == cols, 2 * x[rows] * x[0], x[rows] ** 2)
    wanted = np.where(rows == 0, np.cos(x)[cols] * x[0], wanted)
    wanted[0] += np.sum(np.sin(x))
    np.testing.assert_allclose(result.jacobian.data, wanted, rtol=1e-15)
    assert (np.abs(result.jacobian.data - wanted) <= result.error_estimate).all()
    assert np.all(result.error_estimate <= 1e-13 * np.abs(wanted))


@pytest.mark.parametrize("n", [40, 400])
def test_a_dense_row_over_a_band_takes_the_band_and_one(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = Sweeps(monkeypatch)
    result = ad.jacobian(constrained, sparsity=constrained_pattern(n)).result(np.linspace(0.5, 2.0, n))
    assert (result.colours, sweeps.pulled, sweeps.pushed - CHECKS) == (3, 1, 2)
    assert result.warnings == []


def test_few_rows_and_many_columns_are_not_pulled_back_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    n, m, sweeps = 1000, 50, Sweeps(monkeypatch)
    pattern = np.zeros((m, n), dtype=bool)
    pattern[np.arange(m), np.arange(m)] = pattern[7] = True

    def f(x):
        y = x[:m] ** 2
        y[7] = np.sum(np.cos(x))
        return y

    result = ad.jacobian(f, sparsity=pattern).result(np.linspace(0.5, 2.0, n))
    assert result.colours == 2
    assert sweeps.pushed + sweeps.pulled - CHECKS == 2


def test_every_library_reads_both_sides(backend: Backend) -> None:
    x = backend.asarray(X)
    result = ad.jacobian(arrow_of(backend.namespace), sparsity=arrow_pattern()).result(x)
    np.testing.assert_allclose(whole(result.jacobian), arrow_exact(), rtol=1e-13)
    assert type(result.jacobian.data) is type(result.error_estimate) is type(x)
    if result.method_used is FOLLOWED:
        assert (result.colours, result.warnings) == (3, [])


def test_many_lines_are_checked_in_every_library(backend: Backend) -> None:
    if backend is Backend.DASK:
        pytest.skip("seventy ladders on lazy arrays take long; its lines are summed on the host")
    n = 70
    f, x = arrow_of(backend.namespace), backend.asarray(np.linspace(0.5, 2.0, n))
    with pytest.raises(SparsityError, match="rows 0, 30"):
        ad.jacobian(f, sparsity=without(arrow_pattern(n), (0, 20), (30, 0)))(x)


@pytest.mark.parametrize("seed", range(6))
def test_random_patterns_with_dense_rows_and_columns_are_exact(seed: int) -> None:
    random = np.random.default_rng(seed)
    m, n = random.integers(30, 80, 2)
    pattern = random.random((m, n)) < 1.5 / n
    pattern[random.choice(m, 2)] |= random.random((2, n)) < 0.9
    pattern[:, random.choice(n, 1 + seed % 2)] = True
    a, b = (np.where(pattern, random.normal(size=(m, n)), 0) for _ in range(2))
    x = random.normal(size=n) * 10.0 ** random.uniform(-1, 1, n)
    result = ad.jacobian(lambda x: a @ np.sin(x) + (b @ x) ** 2, sparsity=pattern).result(x)
    wanted = a * np.cos(x) + 2 * (b @ x)[:, None] * b
    assert result.colours < Sparsity.from_pattern(pattern).count / 2
    error = np.abs(whole(result.jacobian) - wanted)
    np.testing.assert_allclose(error, 0, atol=1e-12 * np.abs(wanted).max())
    assert np.mean(error[pattern] <= result.error_estimate) > 0.95
    assert result.warnings == []


def test_rows_alone_serve_where_there_are_few(backend: Backend) -> None:
    xp = backend.namespace
    x, rates = backend.asarray(X), backend.asarray([1.0, 2.0, 0.5])
    result = ad.jacobian(
        lambda x: xp.sum(xp.sin(rates[:, None] * x[None, :]), axis=1), sparsity=np.ones((3, N), bool)
    ).result(x)
    np.testing.assert_allclose(
        whole(result.jacobian), tonumpy(rates)[:, None] * np.cos(np.outer(tonumpy(rates), X)), rtol=1e-9
    )
    if result.method_used is FOLLOWED:
        assert (result.colours, result.warnings) == (3, [])
        assert "0 directions and 3 cotangents" in result.explain()


# a pattern is a cache, not a promise


@pytest.mark.parametrize("entries", [[(0, 20)], [(30, 0)], [(9, 9)], [(0, 20), (30, 0), (9, 9)]])
def test_a_missing_entry_is_found_wherever_it_would_be_read(entries) -> None:
    with pytest.raises(SparsityError) as raised:
        ad.jacobian(arrow, sparsity=without(arrow_pattern(), *entries))(X)
    assert raised.value.rows == tuple(sorted(row for row, _ in entries))


def test_a_grown_pattern_is_coloured_anew_on_both_sides() -> None:
    pattern = without(arrow_pattern(), (0, 20), (30, 0), (9, 9))
    transform = ad.jacobian(arrow, sparsity=pattern, verify_pattern="repair")
    result = transform.result(X)
    assert result.repaired_rows.tolist() == [0, 9, 30]
    assert (result.colours, transform.result(X).colours) == (3, 3)
    np.testing.assert_allclose(whole(result.jacobian), arrow_exact(), rtol=1e-14)


@pytest.mark.parametrize("way", ["detect", "trace"])
def test_a_pattern_that_is_found_is_read_on_both_sides(way: str) -> None:
    transform = ad.jacobian(arrow, sparsity=way)
    assert transform.result(X).colours == 3
    np.testing.assert_allclose(whole(transform(X)), arrow_exact(), rtol=1e-14)


def test_a_wrong_pattern_is_taken_where_the_check_is_off() -> None:
    jacobian = ad.jacobian(arrow, sparsity=without(arrow_pattern(), (0, 20)), verify_pattern=False)(X)
    assert whole(jacobian)[0, 20] == 0


# other ways stay as they are


@pytest.mark.parametrize(
    "options",
    [
        {"trace": False},
        {"opaque": True},
        {"method": "central"},
        {"method": "complex_step"},
        {"linear": slice(1, 3)},
    ],
    ids=str,
)
def test_what_does_not_pull_back_goes_by_columns(options) -> None:
    f = constrained if "linear" not in options else lambda x: np.concatenate([x[:1] * x[1:], np.sum(x)[None]])
    pattern = constrained_pattern()
    if "linear" in options:
        pattern = pattern[1:]
        pattern[:, 0] = True
    result = ad.jacobian(f, sparsity=pattern, unreliable="ignore", **options).result(X)
    assert result.colours == N
    dense = ad.jacobian(f)(X)
    np.testing.assert_allclose(whole(result.jacobian), dense, atol=1e-7)


@pytest.mark.parametrize("options", [{"chunk_size": 1}, {"max_memory": "1 MB"}, {"bounds": (0.0, 3.0)}], ids=str)
def test_options_mean_what_they_mean_elsewhere(options) -> None:
    result = ad.jacobian(arrow, sparsity=arrow_pattern(), **options).result(X)
    assert result.colours == 3
    np.testing.assert_allclose(whole(result.jacobian), arrow_exact(), rtol=1e-14)


def test_lines_are_halved_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Traced.pushforward
    left = [1]

    def short(tape, tangent):
        if np.count_nonzero(tangent) == N - 1 and left[0]:
            left[0] -= 1
            raise MemoryError("no room")
        return real(tape, tangent)

    monkeypatch.setattr(Traced, "pushforward", short)
    np.testing.assert_allclose(whole(ad.jacobian(arrow, sparsity=arrow_pattern())(X)), arrow_exact(), rtol=1e-14)
    assert left == [0]


def test_normal_equations_read_both_sides() -> None:
    sparse = ad.normal_equations(arrow, sparsity=arrow_pattern()).result(X)
    np.testing.assert_allclose(sparse.normal[0], arrow_exact().T @ arrow_exact(), rtol=1e-13)


# bounds, kinks, what is not finite


def test_fixed_parameters_are_0_and_fixed_on_both_sides() -> None:
    fixed = np.isin(np.arange(N), [0, 7])
    lower, upper = np.where(fixed, X, 0.0), np.where(fixed, X, 3.0)
    result = ad.jacobian(arrow, sparsity=arrow_pattern(), bounds=(lower, upper)).result(X)
    of_them = fixed[result.pattern.pattern.cols]
    assert np.array_equal(result.status != 0, of_them)
    assert (result.status[of_them] == int(Status.FIXED)).all()
    assert (result.jacobian.data[of_them] == 0).all()
    np.testing.assert_allclose(whole(result.jacobian)[:, ~fixed], arrow_exact()[:, ~fixed], rtol=1e-14)


def test_near_bounds_exact_entries_have_finite_bars() -> None:
    lower, upper = X - 1, X + 1
    lower[3], upper[3] = X[3] - 1e-5, X[3] + 1e-5
    for pattern, f in ((arrow_pattern(), arrow), (constrained_pattern(), constrained)):
        result = ad.jacobian(f, sparsity=pattern, bounds=(lower, upper)).result(X)
        assert result.warnings == []
        assert np.all(result.error_estimate < 1e-12)


def test_a_kink_in_a_row_that_is_pulled_back_is_said() -> None:
    def f(x):
        return np.concatenate([np.sum(np.abs(x - X[5]) + x**2)[None], x[1:] ** 2 * x[0]])

    result = ad.jacobian(f, sparsity=arrow_pattern(), unreliable="ignore").result(X)
    kink = (result.status & int(Status.KINK)) != 0
    rows, cols = result.pattern.pattern.rows, result.pattern.pattern.cols
    assert np.array_equal(kink, (rows == 0) & (cols == 5))
    assert result.colours == 3
    wanted = np.sign(np.arange(N) - 5) + 2 * X
    np.testing.assert_allclose(np.delete(whole(result.jacobian)[0], 5), np.delete(wanted, 5), rtol=1e-14)
    assert "KINK" in " ".join(result.warnings)
    assert "differences stand in for entries" in result.reason


def test_an_entry_at_which_the_derivative_of_the_code_is_not_finite_is_right() -> None:
    def f(x):
        return np.concatenate([np.sum(np.sqrt((x - X[4]) ** 4) + x)[None], x[1:] ** 2 * x[0]])

    result = ad.jacobian(f, sparsity=arrow_pattern(), unreliable="ignore").result(X)
    wanted = 1 + 2 * (X - X[4])
    assert np.all(np.abs(whole(result.jacobian)[0] - wanted) <= np.maximum(result.error_estimate[:N], 1e-9))
    assert np.all(np.abs(whole(result.jacobian)[1:] - arrow_exact()[1:]) < 1e-13)


def test_rows_that_are_not_finite_at_x_are_lost_alone() -> None:
    for row in (0, 4):
        with pytest.warns(ad.DifferentiationWarning, match="FAILED"):
            jacobian = ad.jacobian(
                lambda x, row=row: np.where(np.arange(N) == row, np.nan, arrow(x)), sparsity=arrow_pattern()
            )(X)
        lost = arrow_pattern() & (np.arange(N) == row)[:, None]
        assert np.array_equal(np.isnan(whole(jacobian)), lost)
        assert np.nanmax(np.abs(whole(jacobian) - arrow_exact())) < 1e-13


def test_no_false_alarm_over_random_points() -> None:
    random = np.random.default_rng(7)
    transform = ad.jacobian(constrained, sparsity=constrained_pattern())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(40):
            x = random.normal(size=N) * 10.0 ** random.uniform(-3, 2, N)
            jacobian = whole(transform(x))
            np.testing.assert_allclose(jacobian[N], 3 * x**2, rtol=1e-13)


# what is kept


def test_sparsity_keeps_both_colourings_and_can_be_pickled() -> None:
    sparsity = Sparsity.from_pattern(arrow_pattern())
    assert "cotangent" not in sparsity.explain()
    ad.jacobian(arrow, sparsity=sparsity)(X)
    assert "2 directions and 1 cotangent, where f can be followed" in sparsity.explain()
    again = pickle.loads(pickle.dumps(sparsity))
    assert np.array_equal(again.two_sided.by_rows, sparsity.two_sided.by_rows)
    np.testing.assert_array_equal(
        whole(ad.jacobian(arrow, sparsity=again)(X)), whole(ad.jacobian(arrow, sparsity=sparsity)(X))
    )


def test_two_sides_are_not_looked_for_where_they_promise_little() -> None:
    for matrix in (np.eye(N, dtype=bool), np.abs(np.subtract.outer(np.arange(N), np.arange(N))) <= 3):
        sparsity = Sparsity.from_pattern(matrix)
        assert sparsity.promised == sparsity.count
        assert sparsity.sides is None
