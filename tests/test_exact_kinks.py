"""Which entries of the Jacobian a kink touches, and how much a tape takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace

from arraydiff.exact import Kinked, Refused, gradient, traced

Function = Callable[[Any], Any]
X = np.array([0.0, 1.0, 2.0])


def loop(x: Any) -> Any:
    total = 0.0
    for i in range(3):
        total = total + abs(x[i]) + abs(x[i] - 1)
    return total


def branching(x: Any) -> Any:
    return x * 2 if x[1] <= 1.0 else x**3


@pytest.mark.parametrize(
    ("fun", "rows", "columns"),
    [
        (lambda x: np.sum(np.abs(x)), [1], [1, 0, 0]),
        (np.abs, [1, 0, 0], [1, 0, 0]),
        (lambda x: np.abs(x) ** 2, [0, 0, 0], [1, 0, 0]),
        (lambda x: np.abs(x) * x[1] + x[2], [1, 0, 0], [1, 0, 0]),
        (lambda x: np.cumsum(np.abs(x - 1)), [0, 1, 1], [0, 1, 0]),
        (lambda x: np.abs(x[1] + x[0] - 1) * np.ones(2), [1, 1], [1, 1, 0]),
        (lambda x: np.maximum(x, 1.0)[::-1], [0, 1, 0], [0, 1, 0]),
        (lambda x: np.maximum(x, x[1]), [0, 1, 0], [0, 1, 0]),
        (lambda x: np.minimum(x[:, None], x[:2]), [1, 0, 0, 1, 0, 0], [1, 1, 0]),
        (lambda x: np.max(x * np.array([1.0, 2.0, 1.0])), [1], [0, 1, 1]),
        (lambda x: np.max(np.stack([x, x * [1, 1, 2]]), axis=0), [1, 1, 0], [1, 1, 0]),
        (lambda x: np.max(np.stack([x, x[[0, 2, 2]]]), axis=0), [1, 0, 1], [1, 0, 1]),
        (lambda x: np.max(np.stack([x, 2 - x]), axis=0, keepdims=True), [0, 1, 0], [0, 1, 0]),
        (lambda x: np.clip(x, 0.5, 1.0), [0, 1, 0], [0, 1, 0]),
        (lambda x: np.sort(np.concatenate([x, x[:1] + 1]))[1:], [1, 1, 0], [1, 1, 0]),
        (lambda x: np.median(np.stack([x[0] + 1, x[1], x[2], x[2]])), [1], [1, 1, 1]),
        (lambda x: np.interp(x, [-1.0, 1.0, 3.0], [1.0, 2.0, 0.0]), [0, 1, 0], [0, 1, 0]),
        (lambda x: np.interp([0.5, 1.0, 2.0], np.cumsum(x), X), [1, 1, 1], [1, 1, 1]),
        (lambda x: np.interp([0.5, 1.0], X, x * x), [0, 0], [0, 0, 0]),
        (lambda x: np.where(x > 1, x, 2 * x), [1, 1, 1], [0, 1, 0]),
        (branching, [1, 1, 1], [0, 1, 0]),
        (lambda x: x * 2 if x[0] else x, [1, 1, 1], [1, 0, 0]),
        (lambda x: x[:, None] * (x[:, None] <= x[1:]), [1] * 6, [0, 1, 1]),
        (lambda x: x * np.floor(x + 0.5), [0, 0, 0], [0, 0, 0]),
        (lambda x: x + np.floor(x * [0.5, 1, 0.3]), [1, 1, 1], [1, 1, 0]),
        (lambda x: np.abs(x * (1 + 1j)) + abs(x), [1, 0, 0], [1, 0, 0]),
        (lambda x: np.remainder(x * [1, 1, 0.4], 1.0), [1, 1, 0], [1, 1, 0]),
        (loop, [1], [1, 1, 0]),
        (lambda x: np.sqrt(np.abs(x)), [1, 0, 0], [1, 0, 0]),
        (lambda x: np.abs(np.fft.fft(x - x)).sum() + x[2], [0], [0, 0, 0]),
        (np.exp, [0, 0, 0], [0, 0, 0]),
    ],
)
def test_a_kink_touches_the_outputs_and_the_entries_of_x_that_meet_there(
    fun: Function, rows: list[int], columns: list[int]
) -> None:
    followed = traced(lambda x: np.ravel(fun(x)), X.copy())
    found = followed.kinked()
    touched_rows, touched_columns = np.zeros(len(rows), bool), np.zeros(3, bool)
    for one in found:
        touched_rows |= one.rows
        touched_columns |= one.columns
    assert touched_rows.astype(int).tolist() == rows
    assert touched_columns.astype(int).tolist() == columns
    assert {one.text for one in found} == set(followed.notes.kinks)
    assert all(one.place.startswith("test_exact_kinks.py line ") for one in found)
    with np.errstate(all="ignore"):
        followed.pullback(np.ones(len(rows)))  # the tape is still there


def test_two_kinks_of_one_f_are_told_apart() -> None:
    def fun(x: Any) -> Any:
        a = np.abs(x)
        b = np.maximum(x, 2.0)
        return a + b

    first, second = traced(fun, X).kinked()
    assert (first.text, second.text) == ("abs at 0", "maximum at a tie")
    assert (first.rows.tolist(), second.columns.tolist()) == ([True, False, False], [False, False, True])


def test_a_result_that_a_branch_alone_leaves_to_x_has_a_kink_in_all_rows() -> None:
    followed = traced(lambda x: np.ones(2) if x[0] > 0 else np.zeros(2), X, constant=True)
    (found,) = followed.kinked()
    assert found.rows.tolist() == [True, True]
    assert found.columns.tolist() == [True, False, False]


def test_a_tape_that_is_used_up_says_so_where_there_are_kinks() -> None:
    followed = traced(lambda x: np.sum(np.abs(x)), X)
    followed.pullback(np.float64(1.0))
    with pytest.raises(RuntimeError, match="keep=True"):
        followed.kinked()
    smooth = traced(lambda x: np.sum(x * x), X)
    smooth.pullback(np.float64(1.0))
    assert smooth.kinked() == []


def test_thousands_of_kinks_on_one_line_cost_two_sweeps() -> None:
    def fun(x: Any) -> Any:
        return sum(abs(x[i]) for i in range(2000))

    x = np.arange(2000.0) % 2
    start = time.perf_counter()
    followed = traced(fun, x)
    along = time.perf_counter()
    (found,) = followed.kinked()
    assert time.perf_counter() - along < 20 * (along - start)
    np.testing.assert_array_equal(found.columns, x == 0)
    assert found.rows.tolist() is True


def test_kinks_on_one_line_do_not_cancel_each_other() -> None:
    def fun(x: Any) -> Any:
        return sum(abs(one) for one in (x[0] + x[1], x[0] - x[1]))

    (found,) = traced(fun, np.zeros(2)).kinked()
    assert found.columns.tolist() == [True, True]


def test_kinks_of_a_gradient_are_found_as_well() -> None:
    found = traced(gradient(lambda x: np.sum(np.abs(x) ** 3 / 3)), X).kinked()
    assert all(not one.rows.any() or one.columns.tolist() == [True, False, False] for one in found)


def test_kinks_of_arrays_on_another_device_wait_for_it() -> None:
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    device = strict.Device("device1")
    x = strict.asarray([0.0, 1.0, 2.0], dtype=strict.float64, device=device)

    def fun(x: Any) -> Any:
        xp = array_namespace(x)
        return xp.abs(x) + xp.where(x > 1.0, x, 2 * x)

    first, second = traced(fun, x).kinked()
    assert isinstance(first, Kinked)
    assert {first.rows.device, first.columns.device, second.rows.device, second.columns.device} == {device}
    assert [bool(one) for one in first.rows] == [bool(one) for one in first.columns] == [True, False, False]
    assert [bool(one) for one in second.rows] == [True, True, True]
    assert [bool(one) for one in second.columns] == [True, True, True]  # the mask of a comparison is not kept there


# ---- memory

LARGE = np.linspace(0.5, 1.5, 20_000)


def test_a_tape_that_takes_more_than_its_limit_is_refused() -> None:
    def fun(x: Any) -> Any:
        for _ in range(10):
            x = np.sin(x) * x
        return x

    counted = traced(fun, LARGE, limit=math.inf)
    assert counted.held == 19 * LARGE.nbytes  # no rule reads the last product
    assert traced(fun, LARGE).held == 0
    assert traced(fun, LARGE, limit=counted.held).held == counted.held
    with pytest.raises(Refused, match=r"the tape takes more than 1600000 bytes, test_exact_kinks\.py line \d+"):
        traced(fun, LARGE, limit=10 * LARGE.nbytes)


def test_views_and_small_arrays_are_not_counted() -> None:
    followed = traced(lambda x: np.sum(x.reshape(2, -1)[0].copy() * 2.0) * x[:100], LARGE, limit=math.inf)
    assert followed.held == 0
    followed = traced(lambda x: np.exp(x.reshape(2, -1).T), LARGE, limit=math.inf)
    assert followed.held == LARGE.nbytes


def test_what_no_rule_reads_is_not_kept() -> None:
    followed = traced(lambda x: np.sum(3.0 * (x[1:] - x[:-1] + 1.0) ** 2), LARGE, limit=math.inf)
    assert followed.held == LARGE[1:].nbytes  # what is squared
    followed = traced(lambda x: -2.0 * np.cumsum(np.concatenate([x[:10_000] + x[10_000:], x])), LARGE, limit=math.inf)
    assert followed.held == 0


def test_copies_that_the_tape_keeps_of_plain_arrays_are_counted() -> None:
    fixed = LARGE.copy()
    fixed.flags.writeable = False
    assert traced(lambda x: x * LARGE, LARGE, limit=math.inf).held == LARGE.nbytes
    assert traced(lambda x: x * fixed, LARGE, limit=math.inf).held == fixed.nbytes
    matrix = np.ones((10, LARGE.size))
    assert traced(lambda x: matrix @ x, LARGE, limit=math.inf).held == matrix.nbytes


@pytest.mark.parametrize("library", ["array_api_strict", "torch"])
def test_arrays_of_other_libraries_are_counted(library: str) -> None:
    xp = pytest.importorskip(library, reason=f"{library} is not installed")
    x = xp.ones(20_000, dtype=xp.float32)
    assert traced(lambda x: x * 2.0 + 1.0, x, limit=math.inf).held == 2 * 80_000
