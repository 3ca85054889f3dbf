"""Colours on both sides: every entry is read off one product, and never more of them than one side takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from arraydiff.sparse.clashes import count_of
from arraydiff.sparse.colouring import coloured
from arraydiff.sparse.pattern import Pattern
from arraydiff.sparse.two_sided import PULLBACK, TwoSided, promised, trimmed, two_sided

MATRICES = st.tuples(st.integers(0, 12), st.integers(0, 12)).flatmap(lambda shape: arrays(np.bool_, shape))


def assert_recovered(pattern: Pattern, found: TwoSided) -> None:
    """From the products themselves, to the last bit."""
    rng, (m, n) = np.random.default_rng(0), pattern.shape
    matrix = np.zeros((m, n))
    matrix[pattern.rows, pattern.cols] = rng.normal(size=pattern.nnz)
    pushed = matrix @ (found.columns[:, None] == np.arange(count_of(found.columns)))
    pulled = (found.rows[:, None] == np.arange(count_of(found.rows))).T @ matrix
    read = np.empty(pattern.nnz)
    mine = ~found.by_rows
    read[mine] = pushed[pattern.rows[mine], found.columns[pattern.cols[mine]]]
    mine = found.by_rows
    read[mine] = pulled[found.rows[pattern.rows[mine]], pattern.cols[mine]]
    assert np.array_equal(read, matrix[pattern.rows, pattern.cols])
    assert np.all(found.columns[pattern.cols[~found.by_rows]] >= 0)
    assert np.all(found.rows[pattern.rows[found.by_rows]] >= 0)


def one_side(pattern: Pattern) -> float:
    return min(count_of(coloured(pattern)), PULLBACK * count_of(coloured(pattern.transposed)))


@settings(deadline=None)
@given(MATRICES)
def test_every_entry_is_read_off_and_one_side_never_costs_less(matrix: np.ndarray) -> None:
    pattern = Pattern.of(matrix)
    found = two_sided(pattern)
    assert_recovered(pattern, found)
    assert found.cost <= one_side(pattern)


@pytest.mark.parametrize("seed", range(8))
def test_random_patterns_with_dense_rows_and_columns_are_read_off(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n = rng.integers(30, 120, 2)
    matrix = rng.random((m, n)) < 2 / n
    matrix[rng.choice(m, seed // 2)] |= rng.random((seed // 2, n)) < 0.9
    matrix[:, rng.choice(n, seed // 2)] |= rng.random((m, seed // 2)) < 0.9
    pattern = Pattern.of(matrix)
    found = two_sided(pattern)
    assert_recovered(pattern, found)
    assert found.cost <= one_side(pattern)
    if seed >= 2:
        assert found.cost < one_side(pattern) / 2


@given(MATRICES)
def test_no_more_is_promised_than_peeling_may_need(matrix: np.ndarray) -> None:
    pattern = Pattern.of(matrix)
    assert promised(pattern) <= PULLBACK * count_of(coloured(pattern.transposed))
    assert promised(arrow(50)) == 1 + 1 + PULLBACK


def arrow(n: int, width: int = 1) -> Pattern:
    matrix = np.eye(n, dtype=bool)
    matrix[:width], matrix[:, :width] = True, True
    return Pattern.of(matrix)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1000])
def test_an_arrow_takes_three(n: int) -> None:
    found = two_sided(arrow(n))
    assert_recovered(arrow(n), found)
    assert found.count <= 3


@pytest.mark.parametrize("width", [2, 5])
def test_a_wide_arrow_takes_its_width_twice_and_one(width: int) -> None:
    found = two_sided(arrow(200, width))
    assert_recovered(arrow(200, width), found)
    assert found.count <= 2 * width + 1


def test_blocks_that_want_different_sides_get_them() -> None:
    matrix = np.zeros((60, 60), dtype=bool)
    matrix[:2, :50], matrix[10:, 50:52] = True, True
    found = two_sided(Pattern.of(matrix))
    assert_recovered(Pattern.of(matrix), found)
    assert found.count == 4


def test_a_dense_row_over_a_band_takes_one_more_than_the_band() -> None:
    matrix = np.abs(np.subtract.outer(np.arange(300), np.arange(300))) <= 1
    matrix[150] = True
    found = two_sided(Pattern.of(matrix))
    assert_recovered(Pattern.of(matrix), found)
    assert found.count == 4
    assert np.array_equal(found.turned.turned.columns, found.columns)
    assert_recovered(found.pattern.transposed, found.turned)


def test_stars_save_colours_where_rows_and_columns_of_all_lengths_cross(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, n = np.random.default_rng(0), 2000
    weights = 1 / (1 + np.arange(n)) ** 0.9
    rows, cols = (rng.choice(n, 4 * n, p=each / each.sum()) for each in (weights, rng.permutation(weights)))
    pattern = Pattern.of((rows, cols, (n, n)))
    found = two_sided(pattern)
    assert_recovered(pattern, found)
    monkeypatch.setattr("arraydiff.sparse.two_sided.STAR_ENTRIES", 0)
    assert found.cost < two_sided(pattern).cost < one_side(pattern) / 5


def test_a_band_stays_on_one_side() -> None:
    matrix = np.abs(np.subtract.outer(np.arange(300), np.arange(300))) <= 1
    assert two_sided(Pattern.of(matrix)).count == 3


def test_colours_that_leave_an_entry_out_are_refused() -> None:
    pattern = arrow(4)
    with pytest.raises(ValueError, match=r"entry \(0, 0\) is alone with neither"):
        trimmed(pattern, np.zeros(4, dtype=np.int64), np.zeros(4, dtype=np.int64))
