"""Colours of columns: valid on every pattern, the fewest there can be on those whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from arraydiff.sparse import colouring
from arraydiff.sparse.colouring import checked, coloured, recovery, star_coloured
from arraydiff.sparse.greedy import Lists, numbers
from arraydiff.sparse.pattern import Pattern
from arraydiff.sparse.search import one_fewer
from arraydiff.sparse.star import restricted, stars
from benchmarks.sparse_patterns import arrow, banded, block_diagonal, grid, permuted

MATRICES = st.tuples(st.integers(0, 12), st.integers(0, 12)).flatmap(lambda shape: arrays(np.bool_, shape))
SQUARES = st.integers(0, 12).flatmap(lambda n: arrays(np.bool_, (n, n)))


def assert_each_row_sees_a_colour_once(matrix: np.ndarray, colours: np.ndarray) -> None:
    assert np.array_equal(colours < 0, ~matrix.any(axis=0))
    for row in matrix:
        seen = colours[row]
        assert np.unique(seen).size == seen.size


def assert_each_entry_is_recovered(matrix: np.ndarray, colours: np.ndarray) -> None:
    """By definition, for every entry and its mirror image; and from the numbers themselves."""

    def alone(i: int, j: int) -> bool:
        return np.count_nonzero(matrix[i] & (colours == colours[j])) == 1

    assert all(alone(i, j) or alone(j, i) for i, j in zip(*np.nonzero(matrix), strict=True))
    pattern, count = Pattern.of(matrix), int(colours.max(initial=-1)) + 1
    values = np.where(matrix, np.random.default_rng(0).normal(size=matrix.shape), 0.0)
    hessian = values + values.T
    seeds = (colours[:, np.newaxis] == np.arange(count)).astype(float)
    found = (hessian @ seeds).ravel()[recovery(pattern, colours)]
    assert np.allclose(found, hessian[pattern.rows, pattern.cols], rtol=1e-15, atol=1e-15)
    again = np.zeros(matrix.shape)
    again[pattern.rows, pattern.cols] = found
    assert np.array_equal(again, again.T)


@given(MATRICES)
def test_no_row_sees_a_colour_twice(matrix: np.ndarray) -> None:
    colours = coloured(Pattern.of(matrix))
    assert_each_row_sees_a_colour_once(matrix, colours)
    assert np.array_equal(np.unique(colours[colours >= 0]), np.arange(colours.max(initial=-1) + 1))


@given(MATRICES)
def test_each_attempt_and_a_search_from_it_are_colourings_by_themselves(matrix: np.ndarray) -> None:
    pattern, filled = Pattern.of(matrix), matrix.any(axis=0)
    lists = Lists.of(pattern)
    for bits in colouring._attempts(pattern, lists, 3) if matrix.size else ():
        assert_each_row_sees_a_colour_once(matrix, np.where(filled, numbers(bits), -1))
        better, left = one_fewer(lists, bits, 500) if max(bits) > 1 else (None, 0)
        assert left < 500
        if better is not None:
            assert_each_row_sees_a_colour_once(matrix, np.where(filled, numbers(better), -1))
            assert 0 < max(better) < max(bits)


@given(SQUARES, st.booleans())
def test_a_star_colouring_lets_every_entry_be_recovered(matrix: np.ndarray, with_diagonal: bool) -> None:
    matrix = matrix | matrix.T | (np.eye(len(matrix), dtype=bool) & with_diagonal)
    assert_each_entry_is_recovered(matrix, star_coloured(Pattern.of(matrix)))


@pytest.mark.parametrize("colour", [restricted, stars])
@given(matrix=SQUARES, random=st.randoms(use_true_random=False))
def test_either_kind_of_star_colouring_holds_in_any_order(colour: Callable[..., Any], matrix: Any, random: Any) -> None:
    matrix = matrix | matrix.T
    pattern, order = Pattern.of(matrix), list(range(len(matrix)))
    random.shuffle(order)
    bits = colour(order, pattern.indptr.tolist(), pattern.cols.tolist(), 1 << 20)
    assert_each_entry_is_recovered(matrix, np.where(matrix.any(axis=0), numbers(bits), -1))


def test_equal_rows_count_once_and_single_entries_not_at_all() -> None:
    matrix = np.zeros((7, 4), dtype=bool)
    matrix[[0, 2, 4], :2] = matrix[[1, 5], 2:] = matrix[3, 0] = True
    core = colouring._core(Pattern.of(matrix))
    assert core.shape == (2, 4)
    assert core.cols.tolist() == [0, 1, 2, 3]


def test_rows_that_only_share_a_hash_are_not_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng

    class Constant:
        def __init__(self, seed: int) -> None:
            self.permutation = generator(seed).permutation

        def integers(self, high: int, size: int, dtype: type) -> np.ndarray:
            return np.zeros(size, dtype=dtype)

    matrix = np.zeros((3, 5), dtype=bool)
    matrix[0, :2] = matrix[1, 1:3] = matrix[2, 2:] = True
    monkeypatch.setattr(np.random, "default_rng", Constant)
    assert_each_row_sees_a_colour_once(matrix, coloured(Pattern.of(matrix)))


KNOWN = {
    "tridiagonal": (banded(200, 1), 3),
    "tridiagonal, permuted": (permuted(banded(200, 1)), 3),
    "band of 9": (banded(150, 4), 9),
    "grid": (grid(23, 17), 5),
    "grid whose width is a multiple of 5": (grid(25, 20), 5),
    "grid, permuted": (permuted(grid(23, 17)), 5),
    "grid of three axes": (grid(8, 7, 9), 7),
    "blocks": (block_diagonal(12, 6), 6),
    "arrow": (arrow(23, 7, 5), 9),
    "dense": (Pattern.of(np.ones((7, 40), dtype=bool)), 40),
    "one column": (Pattern.of(np.ones((7, 1), dtype=bool)), 1),
    "one row": (Pattern.of(np.ones((1, 9), dtype=bool)), 9),
}


@pytest.mark.parametrize("name", KNOWN)
def test_patterns_whose_answer_is_known_get_as_few_colours_as_can_be(name: str) -> None:
    pattern, fewest = KNOWN[name]
    colours = checked(pattern, coloured(pattern))
    assert colours.max() + 1 == fewest == pattern.lengths.max()


def test_a_band_with_a_gap_needs_a_colour_more_than_its_rows_have_entries() -> None:
    n = 60
    matrix = np.eye(n, dtype=bool) | np.eye(n, k=1, dtype=bool) | np.eye(n, k=3, dtype=bool)
    assert coloured(Pattern.of(matrix)).max() + 1 == 4


def test_where_greedy_orders_fail_colours_that_repeat_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colouring, "_fewest", lambda core, bound: [1 << column for column in range(core.shape[1])])
    matrix = np.eye(60, dtype=bool) | np.eye(60, k=1, dtype=bool) | np.eye(60, k=3, dtype=bool)
    assert np.array_equal(coloured(Pattern.of(matrix)), np.arange(60) % 4)


STARS = {
    "tridiagonal": (banded(200, 1), 3),
    "arrowhead": (Pattern.of(np.eye(90, dtype=bool) | (np.arange(90) == 0) | (np.arange(90) == 0)[:, np.newaxis]), 2),
    "grid": (grid(20, 20), 5),
    "blocks of two": (Pattern.of(np.kron(np.eye(23), np.ones((2, 2))).astype(bool)), 2),
    "diagonal": (Pattern.of(np.eye(9, dtype=bool)), 1),
    "nothing": (Pattern.of(np.zeros((5, 5), dtype=bool)), 0),
}


@pytest.mark.parametrize("name", STARS)
def test_symmetry_saves_colours(name: str) -> None:
    pattern, most = STARS[name]
    colours = star_coloured(pattern)
    assert recovery(pattern, colours).shape == (pattern.nnz,)
    assert colours.max() + 1 <= most


def test_a_pattern_that_is_not_symmetric_gets_no_star_colouring() -> None:
    for matrix in (np.triu(np.ones((3, 3), dtype=bool)), np.ones((3, 2), dtype=bool)):
        with pytest.raises(ValueError, match="wants a symmetric pattern: pass that of the Hessian"):
            star_coloured(Pattern.of(matrix))


def test_the_same_pattern_gets_the_same_colours() -> None:
    rng = np.random.default_rng(1)
    rows, cols = np.repeat(np.arange(300), 5), rng.integers(0, 300, 1500)
    order = rng.permutation(1500)
    one, other = Pattern.of((rows, cols, (300, 300))), Pattern.of((rows[order], cols[order], (300, 300)))
    assert np.array_equal(coloured(one), coloured(other))


def test_dense_rows_beyond_the_budget_are_coloured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colouring, "WORK", 1)
    monkeypatch.setattr(colouring, "SEARCH", 1)
    matrix = np.random.default_rng(2).random((60, 40)) < 0.2
    assert_each_row_sees_a_colour_once(matrix, coloured(Pattern.of(matrix)))


# ---- colours from outside
def test_colours_from_outside_are_numbered_from_zero() -> None:
    matrix = np.array([[1, 1, 0, 0], [0, 1, 1, 0]], dtype=bool)
    assert checked(Pattern.of(matrix), [7, 3, 7, 12]).tolist() == [1, 0, 1, -1]
    assert checked(Pattern.of(matrix), [0, 1, 0, -1]).tolist() == [0, 1, 0, -1]


def test_two_columns_of_a_row_with_one_colour_are_named() -> None:
    matrix = np.zeros((5, 6), dtype=bool)
    matrix[3, [1, 4, 5]] = True
    with pytest.raises(ValueError, match="columns 1 and 5 of row 3 share colour 2; leave colours out"):
        checked(Pattern.of(matrix), [2, 2, 2, 2, 0, 2])


@pytest.mark.parametrize(
    ("colours", "said"),
    [
        ([0, 1], r"must be 3 integers, one a column, got int64 of shape \(2,\)"),
        ([0.0, 1.0, 2.0], "must be 3 integers, one a column, got float64"),
        ([0, -1, 2], "must be >= 0 where a column has entries, got -1 for column 1"),
    ],
)
def test_what_is_no_colouring_is_refused(colours: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked(Pattern.of(np.eye(3, dtype=bool)), colours)


@given(MATRICES, st.data())
def test_colours_from_outside_are_refused_just_where_a_row_sees_one_twice(matrix: Any, data: st.DataObject) -> None:
    colours = data.draw(arrays(np.int64, matrix.shape[1], elements=st.integers(0, 5)))
    good = all(np.unique(colours[row]).size == np.count_nonzero(row) for row in matrix)
    if good:
        assert_each_row_sees_a_colour_once(matrix, checked(Pattern.of(matrix), colours))
    else:
        with pytest.raises(ValueError, match="must differ within a row"):
            checked(Pattern.of(matrix), colours)


def test_a_recovery_from_colours_that_will_not_do_names_the_entry() -> None:
    path = Pattern.of(banded(4, 1))
    with pytest.raises(ValueError, match=r"entry \(1, 2\) is never alone with its colour"):
        recovery(path, np.array([0, 1, 0, 1]))


def test_a_search_finds_homes_for_the_columns_of_a_colour_too_many() -> None:
    pattern = permuted(grid(12, 12))
    lists = Lists.of(pattern)
    bits = [1 << column for column in range(pattern.shape[1])]
    while True:
        better, _ = one_fewer(lists, bits, 100_000)
        if better is None:
            break
        bits = better
    assert checked(pattern, numbers(bits)).max() + 1 <= 8
