"""Patterns read off one call: never an entry less than the Jacobian has, refused where they cannot be read."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arraydiff.sparse.tracing import trace_pattern


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
}


@pytest.mark.parametrize("name", EXACT)
def test_the_pattern_is_that_of_the_jacobian(name: str) -> None:
    assert np.array_equal(traced(EXACT[name], X), moved(EXACT[name], X))


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


def swallowed(x: Any) -> Any:
    try:
        return x if x[0] > 0 else -x
    except TypeError:
        return np.zeros(6)


def writes_outside(x: Any) -> Any:
    y = np.zeros(6)
    y[0] = x[0]
    return y


REFUSED = {
    "float": (lambda x: float(x[0]), r"float\(x\)"),
    "math": (lambda x: math.sin(x[0]), r"float\(x\)"),
    "branch": (lambda x: x if x[0] > 0 else -x, r"bool\(x\)"),
    "asarray": (np.asarray, r"np\.asarray\(x\)"),
    "unknown": (np.unique, "unique"),
    "buffer": (writes_outside, "zeros_like"),
    "swallowed": (swallowed, r"bool\(x\)"),
    "mask": (lambda x: x[x > 0], "an index that depends on x"),
    "argsort": (lambda x: x[np.argsort(x)], "an index that depends on x"),
    "count": (lambda x: x if np.count_nonzero(x > 0) > 2 else -x, r"bool\(x\)"),
    "copied": (copy.deepcopy, "deepcopy"),
    "vectorize": (np.vectorize(lambda v: v if v > 0 else -v), r"np\.asarray\(x\)"),
    "item": (lambda x: x[0].item(), r"x\.item"),
    "ufunc.at": (lambda x: np.add.at(x, 0, 1.0), r"np\.add\.at"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_and_detection_proposed(name: str) -> None:
    fun, told = REFUSED[name]
    with pytest.raises(TypeError, match=told) as caught:
        trace_pattern(fun, X)
    assert 'sparsity="detect"' in str(caught.value)


def test_an_error_of_f_goes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        trace_pattern(lambda x: 1 / 0, X)


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="cast it to float"):
        trace_pattern(lambda x: x, np.arange(3))


def test_a_value_of_an_earlier_call_is_refused() -> None:
    kept: list[Any] = []
    trace_pattern(lambda x: kept.append(x) or x, X)
    with pytest.raises(TypeError, match=r"another call|earlier call"):
        trace_pattern(lambda x: x + kept[0], X)


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
