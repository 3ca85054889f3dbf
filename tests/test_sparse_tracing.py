"""Patterns read off one call: never an entry less than the Jacobian has, refused where f cannot be followed."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import diags_array

import arraydiff as ad
from arraydiff.exact.trace import prim
from arraydiff.sparse.tracing import trace_pattern
from tests.helpers import Backend, tonumpy


def traced(fun: Any, x: Any) -> Any:
    pattern = trace_pattern(fun, x)
    dense = np.zeros(pattern.shape, dtype=bool)
    dense[pattern.rows, pattern.cols] = True
    return dense


def moved(fun: Any, x: Any) -> Any:
    """What differs at displaced points."""
    with np.errstate(all="ignore"):
        base = np.ravel(fun(x.copy()))
        columns = []
        for j in range(x.size):
            there = x.copy()
            there.flat[j] += 1e-3
            columns.append(~(np.ravel(fun(there)) == base))
    return np.array(columns).T


X = np.array([0.3, 1.7, -0.4, 2.2, 0.9, -1.1])

EXACT = {
    "elementwise": lambda x: np.sin(x) * x + 2,
    "neighbours": lambda x: x[1:] * x[:-1],
    "difference": np.diff,
    "second difference": lambda x: np.diff(x, n=2),
    "running sum": np.cumsum,
    "accumulate": np.multiply.accumulate,
    "sums": lambda x: x.reshape(2, 3).sum(axis=0),
    "sums that keep": lambda x: np.sum(x.reshape(2, 3), axis=1, keepdims=True),
    "reduce": lambda x: np.add.reduce(x.reshape(3, 2), axis=1),
    "moved": lambda x: np.roll(x, 2) + x,
    "joined": lambda x: np.concatenate([x[:2], [1.0], x[3:] ** 2]),
    "stacked": lambda x: np.stack([x[:3], x[3:]], axis=1),
    "turned": lambda x: x.reshape(2, 3).T,
    "broadcast": lambda x: x[:2, None] * x[None, 2:],
    "outer": lambda x: np.outer(x[:2], x[2:]),
    "padded": lambda x: np.pad(x[:3], 2) + 1,
    "constant matrix": lambda x: np.diag([1.0, 2.0, 3.0], k=1) @ x[:4],
    "matrix of x": lambda x: x[:4].reshape(2, 2) @ x[4:],
    "list of numbers": lambda x: np.array([x[0] * x[1], x[2], 3.0]),
    "constant where": lambda x: np.where(np.arange(6) < 3, x, x[::-1]),
    "triangle": lambda x: np.tril(np.ones((6, 1)) * x),
    "loop": lambda x: sum(v * v for v in x[:3]),
    "one number": lambda x: x[2] * x[4],
    "dot": lambda x: x[:3].dot(x[3:]),
    "mean": lambda x: np.mean(x[1:4]),
    "method": lambda x: x.copy().ravel()[1:3].sum(),
    "split": lambda x: np.split(x, 2)[1] * 3,
    "constant matrix on the right": lambda x: x[:3] @ np.diag([1.0, 2.0, 3.0], k=1)[:3],
    "stack of matrices": lambda x: np.matmul(np.stack([np.eye(2), np.ones((2, 2))]), x[:4].reshape(2, 2)),
    "running sums of columns": lambda x: np.cumsum(x.reshape(2, 3), axis=0),
    "einstein": lambda x: np.einsum("ij,j->i", x[:4].reshape(2, 2), x[4:]),
    "einstein, turned": lambda x: np.einsum("ij->ji", x.reshape(2, 3)),
    "einstein, diagonal": lambda x: np.einsum("ii->i", x[:4].reshape(2, 2)),
    "einstein, a letter of one alone": lambda x: np.einsum("ij,kl->k", x.reshape(2, 3)[:, :1], np.ones((2, 2))),
    "inverses": lambda x: np.linalg.inv(np.stack([3 * np.eye(2) + x[0], 2 * np.eye(2) + x[1]])),
    "several solved": lambda x: np.linalg.solve(x[:2, None, None] + 3 * np.eye(2), np.ones((2, 2, 1))),
    "determinants": lambda x: np.linalg.det(x[:2, None, None] + 3 * np.eye(2)),
    "transforms": lambda x: np.abs(np.fft.fft(x.reshape(2, 3), axis=0)),
    "counted into bins": lambda x: np.bincount([0, 1, 1, 2, 0, 5], weights=x),
    "folded": lambda x: np.convolve(x, [1.0, 2.0, 1.0]),
    "table of x": lambda x: np.interp([0.5, 1.5], [0.0, 1.0, 2.0], x[:3]),
    "cast": lambda x: x.astype(np.float32),
    "object array": lambda x: np.sin(np.asarray(x)),
    "deep copy": lambda x: copy.deepcopy(x) * x[::-1],
    "real of complex": lambda x: (x * (1 + 1j)).imag,
    "number beside": lambda x: np.stack([x[0] + x[1], np.float64(3.0), x[2]]),
    "one of many": lambda x: x[[4, 4, 1]] + np.take(x, [2, 1, 0]),
}


def filled(x: Any) -> Any:
    y = np.zeros_like(x)
    for i in range(1, x.size - 1):
        y[i] = x[i - 1] * x[i + 1]
        y[i] += y[i - 1]
    y[-1] = 3.0
    return y


def listed(x: Any) -> Any:
    return np.array([x[i - 1] * x[i + 1] for i in range(1, x.size - 1)]) * x[1]


def taken_over(x: Any) -> Any:
    y = np.zeros((x.size, 2))[:, 0] + x
    kept = y.copy()
    for i in np.arange(x.size - 1):
        y[i] = np.maximum(kept[i], x[-1])
    return np.concatenate([kept, y[::-1]])


@pytest.mark.parametrize("name", EXACT)
def test_the_pattern_is_that_of_the_jacobian(name: str) -> None:
    assert np.array_equal(traced(EXACT[name], X), moved(EXACT[name], X))


@pytest.mark.parametrize("size", [6, 50])
@pytest.mark.parametrize("fun", [filled, listed, taken_over])
def test_loops_over_entries_are_followed(fun: Any, size: int) -> None:
    x = np.linspace(1.0, 2.0, size)[np.random.default_rng(1).permutation(size)]
    wanted = moved(fun, x)
    if fun is taken_over:  # the larger of two
        wanted |= np.concatenate([np.zeros((size, size), bool), np.eye(size, dtype=bool)[::-1]])
        wanted[size + 1 :, -1] = True
    assert np.array_equal(traced(fun, x), wanted)


def test_a_buffer_made_like_x_is_written_in_place() -> None:
    def fun(x: Any) -> Any:
        y = np.zeros_like(x)
        y[1:] += x[:-1]
        y[0] = x[5] * x[4]
        view = y[2:4]
        view *= x[0]
        return y

    assert np.array_equal(traced(fun, X), moved(fun, X))


def test_both_branches_of_a_where_count() -> None:
    wanted = np.eye(6, dtype=bool) | np.eye(6, dtype=bool)[::-1]
    assert np.array_equal(traced(lambda x: np.where(x > 0, x, x[::-1]), X), wanted)


def test_both_candidates_of_a_maximum_count() -> None:
    assert np.array_equal(traced(lambda x: np.maximum(x[:3], x[3:]), X), np.hstack([np.eye(3), np.eye(3)]))


def test_a_write_under_a_condition_keeps_what_was_there() -> None:
    def fun(x: Any) -> Any:
        y = x**2
        y[x > 0] = 0.0
        return y

    assert np.array_equal(traced(fun, X), np.eye(6))


def test_a_constant_output_has_no_entries() -> None:
    assert not traced(lambda x: np.zeros(3), X).any()


def test_structures_in_and_out_are_followed() -> None:
    pattern = trace_pattern(
        lambda tree: {"a": tree["v"] * tree["s"], "b": tree["s"]}, {"s": 2.0, "v": np.array([1.0, 2.0])}
    )
    entries = list(zip(pattern.rows.tolist(), pattern.cols.tolist(), strict=True))
    assert entries == [(0, 0), (0, 1), (1, 0), (1, 2), (2, 0)]


FROM_VALUES = {
    "sort": (np.sort, np.ones((6, 6))),
    "median": (lambda x: np.median(x[:3])[None], np.repeat([1.0, 0.0], 3)[None]),
    "interp": (lambda x: np.interp(x[:1], [0.0, 1.0, 2.0], x[3:]), np.array([[1.0, 0, 0, 1, 1, 1]])),
    "select": (lambda x: np.select([x > 0, x > 1], [x, x[::-1]], 0.0), np.eye(6) + np.eye(6)[::-1]),
    "largest": (lambda x: np.max(x[2:4])[None], np.array([[0.0, 0, 1, 1, 0, 0]])),
    "number as condition": (lambda x: np.where(x[0] > 0, x[1], x[2])[None], np.array([[0.0, 1, 1, 0, 0, 0]])),
}


@pytest.mark.parametrize("name", FROM_VALUES)
def test_all_that_values_choose_from_counts(name: str) -> None:
    fun, wanted = FROM_VALUES[name]
    assert np.array_equal(traced(fun, X), wanted)


BRANCHES = {
    "branch": lambda x: x if x[0] > 0 else np.roll(x, 1),
    "mask": lambda x: x[x > 0],
    "argsort": lambda x: x[np.argsort(x)],
    "count": lambda x: x if np.count_nonzero(x > 0) > 2 else x[::-1],
    "vectorize": np.vectorize(lambda v: v if v > 0 else -v),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_that_f_takes_is_followed(name: str) -> None:
    assert np.array_equal(traced(BRANCHES[name], X), moved(BRANCHES[name], X))


@pytest.mark.parametrize("name", ["branch", "argsort", "count"])
def test_where_another_x_takes_another_branch_the_pattern_is_mended(name: str) -> None:
    fun = BRANCHES[name]
    jacobian = ad.jacobian(lambda x: np.sin(fun(x)), sparsity="trace")
    jacobian(X)
    there = -X
    result = jacobian.result(there)
    assert result.repaired_rows.size
    exact = ad.jacobian(lambda x: np.sin(fun(x)))(there)
    np.testing.assert_allclose(result.jacobian.toarray(), exact, atol=1e-10)


def swallowed(x: Any) -> Any:
    try:
        return x * float(x[0])
    except TypeError:
        return np.zeros(6)


def writes_outside(x: Any) -> Any:
    y = np.zeros(6)
    y[0] = x[0]
    return y


REFUSED = {
    "float": (lambda x: float(x[0]), r"float\(x\)"),
    "math": (lambda x: math.sin(x[0]), r"float\(x\)"),
    "unknown": (np.unique, "unique"),
    "buffer": (writes_outside, "zeros_like"),
    "swallowed": (swallowed, r"float\(x\)"),
    "item": (lambda x: x[0].item(), r"x\.item"),
    "ufunc.at": (lambda x: np.multiply.at(x, 0, 2.0), r"multiply\.at"),
    "no output": (lambda x: None, "NoneType|concatenate"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_and_detection_proposed(name: str) -> None:
    fun, told = REFUSED[name]
    with pytest.raises(TypeError, match=told) as caught:
        trace_pattern(fun, X)
    assert 'sparsity="detect"' in str(caught.value)


@pytest.mark.skipif(not hasattr(prim, "sparse_matmul"), reason="sparse matrices of SciPy are not followed")
@pytest.mark.parametrize("shape", [(6,), (3, 2)])
def test_a_sparse_matrix_brings_its_own_pattern(shape: tuple[int, ...]) -> None:
    matrix = diags_array([np.ones(5), np.ones(5)], offsets=[0, 2], shape=(4, shape[0])).tocsr()
    assert np.array_equal(traced(lambda x: matrix @ x.reshape(shape), X), moved(lambda x: matrix @ x.reshape(shape), X))


def test_the_line_that_cannot_be_followed_is_named() -> None:
    with pytest.raises(TypeError, match=r"test_sparse_tracing\.py line \d+"):
        trace_pattern(lambda x: x + np.unique(x), X)


def test_an_error_of_f_goes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        trace_pattern(lambda x: 1 / 0, X)


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="cast the argument to float"):
        trace_pattern(lambda x: x, np.arange(3))


def test_a_value_of_an_earlier_call_is_refused() -> None:
    kept: list[Any] = []
    trace_pattern(lambda x: kept.append(x) or x, X)
    with pytest.raises(TypeError, match="a finished call"):
        trace_pattern(lambda x: x + kept[0], X)


def test_a_pattern_that_is_not_sparse_is_refused_before_it_is_made() -> None:
    with pytest.raises(ValueError, match="too much to be stored sparse"):
        trace_pattern(np.cumsum, np.ones(30_000))


def test_several_arguments_and_trees_are_traced() -> None:
    def fun(tree: Any, other: Any) -> Any:
        return {"product": tree["u"] * other[::-1], "sum": np.sum(tree["v"])}

    jacobian = ad.jacobian(fun, argnums=(0, 1), sparsity="trace")({"u": X, "v": np.ones((3, 1))}, X)
    assert (jacobian.shape, jacobian.nnz) == ((7, 15), 15)


def test_every_library_that_is_traced_has_patterns(backend: Backend) -> None:
    def fun(x: Any) -> Any:
        space = array_namespace(x)
        return space.concat([space.sin(x[1:]) * x[:-1], x[:1]])

    matrix = ad.jacobian(fun, sparsity="trace")(backend.asarray(X))
    assert np.count_nonzero(tonumpy(matrix.todense())) == 11


STEPS = {
    "sin": np.sin,
    "flip": lambda y: y[::-1],
    "roll": lambda y: np.roll(y, 1),
    "cumsum": np.cumsum,
    "product": lambda y: y * np.roll(y, 3),
    "sort": np.sort,
    "clip": lambda y: np.clip(y, -1.0, 1.0),
    "where": lambda y: np.where(y > 0.5, y, y[::-1]),
    "matrix": lambda y: np.tri(6, k=1) @ y,
    "mean off": lambda y: y - np.mean(y[:3]),
    "turn": lambda y: y.reshape(2, 3).T.ravel(),
    "halves": lambda y: np.concatenate([y[3:] * y[:3], y[:3]]),
    "grow": lambda y: np.pad(y[1:-1], 1, mode="edge"),
    "largest": lambda y: np.maximum(y, y[::-1]) - np.max(y[2:4]),
    "fft": lambda y: np.abs(np.fft.fft(y)),
    "take": lambda y: np.take(y, [0, 0, 5, 2, 3, 1]),
}


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6), st.integers(0, 10_000))
def test_no_entry_of_a_random_composition_is_missed(names: list[str], seed: int) -> None:
    def fun(x: Any) -> Any:
        for name in names:
            x = STEPS[name](x)
        return x

    x = np.random.default_rng(seed).normal(size=6)
    found, there = traced(fun, x), moved(fun, x)
    assert not np.any(there & ~found), names


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6), st.sampled_from("+*=v")), min_size=1, max_size=6))
def test_no_entry_is_missed_where_buffers_and_their_views_are_written(writes: list[tuple[int, int, str]]) -> None:
    def fun(x: Any) -> Any:
        y = np.zeros_like(x)
        for start, length, how in writes:
            part = slice(start, start + length)
            if how == "+":
                y[part] += x[part][::-1]
            elif how == "*":
                y[part] *= x[part]
            elif how == "=":
                y[part] = np.sin(x[part])
            else:
                view = y.reshape(2, 3).T
                view[0] += x[start]
        return y

    found, there = traced(fun, X), moved(fun, X)
    assert not np.any(there & ~found)
