"""Sparse Hessians of an f that is followed: sweeps along its recorded gradient, one for each star colour, whatever n."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import arraydiff as ad
from arraydiff import Status
from arraydiff.exact.derivatives import Traced
from arraydiff.sparse import Sparsity, SparsityError
from arraydiff.sparse.differences import CurvedRequest
from tests.helpers import Backend, Recorder, tonumpy
from tests.test_sparse_hessian import X, band, exact, pairs, terms, terms_of, total, without

N = X.size
EXACT = ad.DifferentiationMethod.EXACT


def whole(matrix):
    return tonumpy(matrix.todense())


def asked(by_terms: bool, **options):
    if by_terms:
        return ad.hessian(terms, terms=True, **{"sparsity": pairs(), **options})
    return ad.hessian(total, **{"sparsity": band(), **options})


BOTH = pytest.mark.parametrize("by_terms", [False, True])


@BOTH
@pytest.mark.parametrize("n", [50, 1000])
def test_a_chain_takes_three_sweeps_whatever_n(by_terms: bool, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps, push = [], Traced.pushforward

    def pushforward(tape, tangent):
        sweeps.append(tape._shaker is None)
        return push(tape, tangent)

    monkeypatch.setattr(Traced, "pushforward", pushforward)
    x = np.linspace(0.5, 2.0, n) * (1 + 0.3 * np.sin(np.arange(n)))
    f = Recorder(terms if by_terms else total)
    result = ad.hessian(f, terms=by_terms, sparsity=pairs(n) if by_terms else band(n)).result(x)
    assert (result.method_used, result.reason, result.colours, result.warnings) == (EXACT, "", 3, [])
    assert sum(sweeps) == 3 + 1  # the check
    assert f.points == result.function_points == 6
    error, entries = np.abs(whole(result.hessian) - exact(x)), band(n)
    assert np.all(error <= 1e-13 * (1 + np.abs(exact(x))))
    assert np.mean(error[entries] <= result.error_estimate) > 0.95
    assert np.all(result.error_estimate < 3e-12)  # the widest of thousands, eight times what rounding moved


@BOTH
def test_it_is_symmetric_to_the_last_bit_with_bars_and_flags(by_terms: bool) -> None:
    result = asked(by_terms, bounds=(X - 1, np.where(np.arange(N) == 5, X, X + 1))).result(X)
    for part in (result.hessian.data, result.error_estimate, result.status):
        matrix = result.hessian.copy()
        matrix.data = part
        assert np.array_equal(matrix.toarray(), matrix.toarray().T)


@BOTH
def test_every_library_is_served(backend: Backend, by_terms: bool) -> None:
    xp = backend.namespace
    f = terms_of(xp)
    n = 12
    if by_terms:
        transform = ad.hessian(f, terms=True, sparsity=pairs(n))
    else:
        transform = ad.hessian(lambda x: xp.sum(f(x)), sparsity=band(n))
    x = backend.asarray(X[:n])
    result = transform.result(x)
    assert np.abs(whole(result.hessian) - exact(X[:n])).max() < (1e-13 if result.method_used is EXACT else 1e-9)
    assert type(result.hessian.data) is type(result.error_estimate) is type(x)
    if backend is Backend.NUMPY:
        assert result.method_used is EXACT


@pytest.mark.parametrize("seed", range(4))
def test_random_patterns_are_those_of_the_dense_hessian(seed: int) -> None:
    random = np.random.default_rng(seed)
    m, n = 40, 25
    a = np.where(random.random((m, n)) < 0.1, random.normal(size=(m, n)), 0)
    x = random.normal(size=n)

    def each(x):
        return np.exp(0.3 * (a @ x)) + (a @ x) ** 3

    s = a @ x
    wanted = a.T @ ((0.09 * np.exp(0.3 * s) + 6 * s)[:, None] * a)
    for result in (
        ad.hessian(each, terms=True, sparsity=a != 0).result(x),
        ad.hessian(each, terms=True).result(x),
        ad.hessian(lambda x: np.sum(each(x)), sparsity=(a != 0).T.astype(int) @ (a != 0) > 0).result(x),
    ):
        assert result.method_used is EXACT
        np.testing.assert_allclose(whole(result.hessian), wanted, atol=1e-13 * np.abs(wanted).max())


def test_a_block_arrow_takes_two_directions() -> None:
    pattern = np.eye(N, dtype=bool)
    pattern[-1, :] = pattern[:, -1] = True
    result = ad.hessian(lambda x: np.sum(x[:-1] ** 2 * x[-1]) + x[-1] ** 4, sparsity=pattern).result(X)
    wanted = np.diag(np.append(np.full(N - 1, 2 * X[-1]), 12 * X[-1] ** 2))
    wanted[-1, :-1] = wanted[:-1, -1] = 2 * X[:-1]
    assert result.colours == 2
    np.testing.assert_allclose(whole(result.hessian), wanted, rtol=1e-14)


def test_the_diagonal_of_terms_is_exact() -> None:
    result = ad.hessian_diag(terms, terms=True, sparsity=pairs()).result(X.reshape(4, 10)[0:4].reshape(-1))
    assert result.method_used is EXACT
    np.testing.assert_allclose(result.hessian, np.diag(exact()), rtol=1e-14)
    with pytest.raises(SparsityError, match="term 17"):
        ad.hessian_diag(terms, terms=True, sparsity=without(pairs(), (17, 18)))(X)


# a pattern is a cache, not a promise


def test_missing_entries_are_found_and_their_rows_named() -> None:
    with pytest.raises(SparsityError, match=r"Hessian in rows 17, 18.*add them, or pass gradient=") as raised:
        asked(False, sparsity=without(band(), (17, 18), (18, 17)))(X)
    assert raised.value.rows == (17, 18)
    with pytest.raises(SparsityError, match=r"Hessian in row 9:"):
        asked(False, sparsity=without(band(), (9, 9)))(X)


def test_a_small_missing_entry_is_found() -> None:
    def f(x):
        return total(x) + 1e-7 * x[3] * x[30]

    with pytest.raises(SparsityError) as raised:
        ad.hessian(f, sparsity=band())(X)
    assert raised.value.rows == (3, 30)


def test_terms_that_the_pattern_leaves_out_are_named_and_mended() -> None:
    wrong = without(pairs(), (17, 18))
    with pytest.raises(SparsityError, match="term 17") as raised:
        asked(True, sparsity=wrong)(X)
    assert raised.value.rows == (17,)
    transform = asked(True, sparsity=wrong, verify_pattern="repair")
    result = transform.result(X)
    assert (result.method_used, result.repaired_rows.tolist()) == (EXACT, [17])
    np.testing.assert_allclose(whole(result.hessian), exact(), rtol=1e-14)
    assert transform.result(X).function_points == 6


def test_what_differences_of_terms_do_not_see_is_said_by_the_tape() -> None:
    def f(x):
        return terms(x) + np.append(2e-12 * x[2:] * x[:-2], 0.0)

    with pytest.raises(SparsityError, match="entries of the Hessian in row"):
        ad.hessian(f, terms=True, sparsity=pairs())(X)


def test_the_pattern_is_taken_as_it_is_where_the_check_is_off() -> None:
    wrong = without(band(), (17, 18), (18, 17))
    hessian = asked(False, sparsity=wrong, verify_pattern=False)(X)
    assert np.abs(whole(hessian) - exact()).max() > 0.1


@BOTH
def test_whole_patterns_raise_no_alarm(by_terms: bool) -> None:
    random, n = np.random.default_rng(11), 14
    for _ in range(40):
        x = random.normal(size=n) * 10.0 ** random.uniform(-2, 1, n)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            hessian = asked(by_terms, sparsity=pairs(n) if by_terms else band(n))(x)
        np.testing.assert_allclose(whole(hessian), exact(x), rtol=1e-12, atol=1e-13)


# where f is not followed


@BOTH
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"trace": False}, "f is not to be traced"),
        ({"opaque": True}, "opaque=True"),
        ({"noise": 1e-12}, "f is noisy"),
        ({"max_step": 1e-2}, "a step was given"),
        ({"method": "richardson"}, "method='richardson' was asked for"),
    ],
    ids=str,
)
def test_values_serve_as_before_and_the_reason_is_said(by_terms: bool, options, reason: str) -> None:
    result = asked(by_terms, **options).result(X)
    assert result.method_used is not EXACT
    assert reason in result.reason
    assert np.abs(whole(result.hessian) - exact()).max() < 1e-3


@BOTH
def test_counts_are_true_where_the_attempt_fails(by_terms: bool) -> None:
    def plain(x):
        return terms(np.asarray([float(v) for v in x])) if by_terms else total(np.asarray([float(v) for v in x]))

    seen = Recorder(plain)
    transform = ad.hessian(seen, terms=by_terms, sparsity=pairs() if by_terms else band())
    first = transform.result(X)
    assert "float" in first.reason
    assert (first.function_calls, first.function_points) == (seen.calls, seen.points)
    assert np.abs(whole(first.hessian) - exact()).max() < 1e-5
    assert transform.result(X).function_points < first.function_points  # which it has learnt


@BOTH
def test_what_plain_f_does_not_confirm_is_not_taken(by_terms: bool) -> None:
    def lying(x):
        scale = 1.0 if type(x) is np.ndarray else 1.0 + 1e-3 * (x[0] - X[0]) ** 2
        return scale * (terms(x) if by_terms else total(x))

    result = ad.hessian(lying, terms=by_terms, sparsity=pairs() if by_terms else band()).result(X)
    assert "not confirmed by plain f" in result.reason
    assert np.abs(whole(result.hessian) - exact()).max() < 1e-5


@BOTH
def test_exact_by_name_raises_where_f_cannot_be_followed(by_terms: bool) -> None:
    def plain(x):
        y = terms(np.asarray([float(v) for v in x]))
        return y if by_terms else np.sum(y)

    sparsity = pairs() if by_terms else band()
    assert asked(by_terms, method="exact").result(X).method_used is EXACT
    with pytest.raises(TypeError, match="method='exact' cannot follow f"):
        ad.hessian(plain, terms=by_terms, sparsity=sparsity, method="exact")(X)
    with pytest.raises(TypeError, match="method='exact' cannot follow f: f is noisy"):
        asked(by_terms, method="exact", noise=1e-12)(X)


def test_other_methods_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("richardson", "complex_step"):
        assert asked(True, method=method).result(X).method_used == method
    seen = []
    real = CurvedRequest._by_values

    def by_values(request, known):
        seen.append(known)
        return real(request, known)

    monkeypatch.setattr(CurvedRequest, "_by_values", by_values)
    asked(True)(X)
    assert seen == []


def test_kinks_go_by_values() -> None:
    def f(x):
        return np.sum(np.abs(x[1:] - x[:-1]) ** 3)

    x = X.copy()
    x[4] = x[3]
    result = ad.hessian(f, sparsity=band(), unreliable="ignore", verify_pattern=False).result(x)
    assert result.method_used is not EXACT
    assert "abs at 0" in result.reason


@BOTH
def test_fixed_parameters_are_0_and_fixed(by_terms: bool) -> None:
    lower, upper = X - 0.5, X + 0.5
    lower[5] = upper[5] = X[5]
    result = asked(by_terms, bounds=(lower, upper)).result(X)
    expected = exact()
    expected[5, :] = expected[:, 5] = 0
    assert result.method_used is EXACT
    np.testing.assert_allclose(whole(result.hessian), expected, atol=1e-13)
    rows, cols = np.nonzero(band())
    assert np.array_equal(result.status == int(Status.FIXED), (rows == 5) | (cols == 5))


@BOTH
def test_bounds_cost_no_sweeps(by_terms: bool) -> None:
    near = np.where(np.arange(N) % 3 == 0, X, X + 1)
    result = asked(by_terms, bounds=(X - 1e-9, near)).result(X)
    if result.method_used is EXACT:  # else there was no room to confirm it
        assert result.colours == 3


def test_several_arrays_aux_and_a_pattern_that_is_kept() -> None:
    sparsity = Sparsity.from_pattern(pairs())
    transform = ad.hessian(
        lambda a, b: (terms(np.concatenate([a, b])), "said"), (0, 1), True, terms=True, sparsity=sparsity
    )
    result = transform.result(X[:12], X[12:])
    assert (result.aux, result.pattern, result.method_used) == ("said", sparsity, EXACT)
    assert result.value == pytest.approx(total(X), rel=1e-15)
    np.testing.assert_allclose(whole(result.hessian), exact(), rtol=1e-14)
