"""Patterns of sparse derivatives: whatever a user has, sorted and without duplicates; and Sparsity, which keeps it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from arraydiff.sparse import Sparsity, SparsityError
from arraydiff.sparse.pattern import Pattern

MATRICES = st.tuples(st.integers(0, 9), st.integers(0, 9)).flatmap(lambda shape: arrays(np.bool_, shape))


def dense(pattern: Pattern) -> np.ndarray:
    matrix = np.zeros(pattern.shape, dtype=bool)
    matrix[pattern.rows, pattern.cols] = True
    return matrix


def tridiagonal(n: int) -> np.ndarray:
    return np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= 1


@given(MATRICES)
def test_a_boolean_array_becomes_its_entries_row_by_row(matrix: np.ndarray) -> None:
    pattern = Pattern.of(matrix)
    assert np.array_equal(dense(pattern), matrix)
    assert pattern.rows.dtype == pattern.cols.dtype == np.int64
    assert pattern.nnz == matrix.sum()
    assert np.array_equal(pattern.lengths, matrix.sum(axis=1))
    assert np.array_equal(np.diff(pattern.column_indptr), matrix.sum(axis=0))
    assert np.array_equal(pattern.rows[pattern.by_columns], np.nonzero(matrix.T)[1])
    assert pattern.symmetric == (matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, matrix.T))


@given(MATRICES, st.randoms(use_true_random=False))
def test_triplets_may_be_unsorted_and_repeat_themselves(matrix: np.ndarray, random: Any) -> None:
    entries = [*zip(*np.nonzero(matrix), strict=True)] * 2
    random.shuffle(entries)
    rows, cols = [entry[0] for entry in entries], [entry[1] for entry in entries]
    pattern = Pattern.of((rows, cols, matrix.shape))
    assert np.array_equal(dense(pattern), matrix)
    assert pattern.nnz == matrix.sum()


@pytest.mark.parametrize("kind", ["coo", "csr", "csc", "bsr", "dia", "dok", "lil"])
@pytest.mark.parametrize("of", ["array", "matrix"])
def test_every_format_of_scipy_is_taken(kind: str, of: str) -> None:
    matrix = tridiagonal(6)
    given_as = getattr(scipy.sparse, f"{kind}_{of}")(matrix.astype(float))
    assert np.array_equal(dense(Pattern.of(given_as)), matrix)


def test_explicit_zeros_are_entries() -> None:
    zeros = scipy.sparse.csr_array((np.zeros(2), ([0, 2], [1, 0])), shape=(3, 2))
    assert Pattern.of(zeros).nnz == 2


def test_zeros_on_a_stored_diagonal_are_entries() -> None:
    diagonals = scipy.sparse.dia_array((np.zeros((2, 4)), [0, -2]), shape=(5, 3))
    assert np.array_equal(dense(Pattern.of(diagonals)), np.eye(5, 3, dtype=bool) | np.eye(5, 3, k=-2, dtype=bool))


def test_indices_of_a_scipy_array_may_be_unsorted_and_repeat_themselves() -> None:
    rows = scipy.sparse.csr_array((np.ones(4), [2, 0, 2, 1], [0, 3, 4]), shape=(2, 3))
    pattern = Pattern.of(rows)
    assert pattern.rows.tolist() == [0, 0, 1]
    assert pattern.cols.tolist() == [0, 2, 1]


def test_a_shape_too_large_for_one_index_is_sorted_all_the_same() -> None:
    huge = 2**40
    pattern = Pattern.of(([7, 7, 0, 7], [huge - 1, 3, 5, 3], (huge, huge)))
    assert pattern.rows.tolist() == [0, 7, 7]
    assert pattern.cols.tolist() == [5, 3, huge - 1]


def test_what_the_user_gave_is_neither_changed_nor_kept() -> None:
    rows, cols = np.array([0, 1, 2]), np.array([0, 1, 2])
    pattern = Pattern.of((rows, cols, (3, 3)))
    rows[:] = 0
    assert pattern.rows.tolist() == [0, 1, 2]
    assert not pattern.rows.flags.writeable


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (np.eye(3), TypeError, "must be boolean, got float64"),
        (np.ones(3, dtype=bool), TypeError, "must have two axes"),
        ("detect", TypeError, "must have two axes"),
        (([0, 3], [0, 0], (3, 3)), ValueError, r"rows of the pattern must lie in 0 .. 2, got 3 at 1"),
        (([0, 1], [0, -1], (3, 3)), ValueError, r"cols of the pattern must lie in 0 .. 2, got -1 at 1"),
        (([0, 1], [0], (3, 3)), ValueError, "equal lengths, got 2 and 1"),
        (([0.0], [0], (3, 3)), TypeError, "must be a list of integers"),
        (([0], [0], 3), TypeError, "must be two integers, got 3"),
        (([0], [0], (3, -3)), ValueError, "must not be negative"),
        (scipy.sparse.coo_array(np.ones(3)), ValueError, "must have two axes"),
    ],
)
def test_what_is_no_pattern_is_refused_with_a_way_out(wrong: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Pattern.of(wrong)


@given(MATRICES, st.data())
def test_entries_are_added_and_rows_taken_out(matrix: np.ndarray, data: st.DataObject) -> None:
    pattern = Pattern.of(matrix)
    more = data.draw(arrays(np.bool_, matrix.shape))
    assert np.array_equal(dense(pattern.with_entries(*np.nonzero(more))), matrix | more)
    which = data.draw(st.lists(st.integers(0, matrix.shape[0] - 1))) if matrix.shape[0] else []
    assert np.array_equal(dense(pattern.rows_of(which)), matrix[np.array(which, dtype=int)])


# ---- Sparsity
def test_a_sparsity_tells_its_colours_and_that_no_fewer_will_do() -> None:
    sparsity = Sparsity.from_pattern(tridiagonal(10))
    assert (sparsity.count, sparsity.lower_bound, sparsity.optimal) == (3, 3, True)
    assert sparsity.shape == (10, 10)
    assert not sparsity.detected
    assert not sparsity.colours.flags.writeable
    assert sparsity.colours is sparsity.colours


def test_colours_from_another_tool_are_kept() -> None:
    colours = np.arange(10) % 5
    sparsity = Sparsity.from_pattern(tridiagonal(10), colours=colours)
    assert np.array_equal(sparsity.colours, colours)
    assert (sparsity.count, sparsity.optimal) == (5, False)
    assert "at least that many" in sparsity.explain()


def test_a_sparsity_survives_a_pickle_with_the_colours_that_were_made() -> None:
    sparsity = Sparsity(Pattern.of(tridiagonal(10)), detected=True)
    colours, star = sparsity.colours, sparsity.star
    back = pickle.loads(pickle.dumps(sparsity))
    assert {"colours", "star"} <= back.__dict__.keys()
    assert back.detected
    assert np.array_equal(back.colours, colours)
    assert np.array_equal(back.star, star)
    assert np.array_equal(dense(back.pattern), tridiagonal(10))
    assert not any(array.flags.writeable for array in (back.colours, back.star, back.pattern.rows))


@pytest.mark.parametrize("colours", [None, np.arange(9) % 4])
@pytest.mark.parametrize("made", [True, False])
def test_a_sparsity_is_saved_and_loaded(tmp_path: Path, colours: Any, made: bool) -> None:
    sparsity = Sparsity.from_pattern(tridiagonal(9), colours=colours)
    if made:
        assert sparsity.colours.size == sparsity.star.size == 9
    sparsity.save(tmp_path / "pattern")
    back = Sparsity.load(tmp_path / "pattern")
    assert np.array_equal(dense(back.pattern), tridiagonal(9))
    assert np.array_equal(back.colours, sparsity.colours)
    assert np.array_equal(back.star, sparsity.star)
    assert back.detected is False


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing")
    (tmp_path / "empty").write_bytes(b"")
    np.save(tmp_path / "array.npy", np.ones(3))
    np.savez(tmp_path / "arrays.npz", rows=np.ones(3))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=r"holds no Sparsity; give a file that Sparsity\.save has written"):
            Sparsity.load(path)


def kept(path: Path, **changed: Any) -> Path:
    sparsity = Sparsity.from_pattern(tridiagonal(6))
    assert sparsity.colours.size == sparsity.star.size
    sparsity.save(path)
    with np.load(path) as file:
        arrays_of = {name: file[name] for name in file.files}
    with path.open("wb") as file_out:
        np.savez(file_out, **{**arrays_of, **changed})
    return path


@pytest.mark.parametrize("name", ["colours", "star"])
def test_colours_in_a_file_that_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="colours must"):
        Sparsity.load(kept(tmp_path / "a", **{name: np.zeros(6, dtype=np.int64)}))
    with pytest.raises(ValueError, match="colours must"):
        Sparsity.load(kept(tmp_path / "b", **{name: np.arange(5)}))


def test_dense_rows_are_named_with_what_they_cost() -> None:
    matrix = tridiagonal(60)
    matrix[[0, 7]] = True
    sparsity = Sparsity.from_pattern(matrix)
    assert sparsity.dense_rows.tolist() == [0, 7]
    assert (
        "Rows 0 and 7 depend on all inputs: 60 directions, where the other rows need at least 3" in sparsity.explain()
    )
    assert "leave them out or pass their gradient" in sparsity.explain()


def test_one_dense_row_and_many_are_named_in_good_english() -> None:
    matrix = tridiagonal(400)
    matrix[5, :300] = True
    assert "Row 5 depends on up to 300 of 400 inputs" in Sparsity.from_pattern(matrix).explain()
    matrix[:12] = True
    assert "Rows 0, 1, 2, 3, 4, 5, 6, 7 and 4 others depend on all inputs" in Sparsity.from_pattern(matrix).explain()


def test_a_dense_matrix_has_no_dense_rows_but_is_told_to_be_dense() -> None:
    sparsity = Sparsity.from_pattern(np.ones((30, 20), dtype=bool))
    assert sparsity.dense_rows.size == 0
    assert (sparsity.count, sparsity.optimal) == (20, True)
    assert "A dense derivative takes 20 directions" in sparsity.explain()


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (0, 3), (3, 4)])
def test_a_pattern_without_entries_has_no_colours(shape: tuple[int, int]) -> None:
    sparsity = Sparsity.from_pattern(np.zeros(shape, dtype=bool))
    assert (sparsity.count, sparsity.lower_bound, sparsity.optimal) == (0, 0, True)
    assert sparsity.colours.tolist() == [-1] * shape[1]
    assert sparsity.dense_rows.size == 0
    assert "0 entries" in sparsity.explain()


def test_explain_tells_size_colours_and_what_the_check_cannot_see() -> None:
    sparsity = Sparsity(Pattern.of(tridiagonal(50)), detected=True)
    assert sparsity.star.size == 50
    told = sparsity.explain()
    assert "50 x 50 matrix, found from the function: 148 entries" in told
    assert "3 colours of columns; the longest row has 3 entries, so no colouring has fewer" in told
    assert "3 colours where symmetry gives the rest" in told
    assert "below about 1e-8 of its row" in told


def test_the_error_of_a_wrong_pattern_carries_its_rows_and_survives_a_pickle() -> None:
    error = pickle.loads(pickle.dumps(SparsityError("row 3 is incomplete", rows=[3], gap=0.5)))
    assert (str(error), error.rows, error.gap) == ("row 3 is incomplete", (3,), 0.5)
    assert isinstance(error, ValueError)
