"""Patterns found from values: complete, without spurious entries, in few points, inside the bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import arraydiff.sparse.detection as detection
from arraydiff.sparse import Sparsity
from arraydiff.sparse.detection import detect_pattern
from arraydiff.sparse.pattern import Pattern
from arraydiff.sparse.tracing import trace_pattern
from tests.helpers import Backend

Function = Callable[[Any], Any]


class Counted:
    """A function that keeps the points it was asked at."""

    def __init__(self, fun: Function) -> None:
        self.fun, self.points = fun, list[Any]()

    def __call__(self, x: Any) -> Any:
        self.points.append(np.array(x))
        return self.fun(x)


def tridiagonal(x: Any) -> Any:
    y = x**2
    y[1:] += np.sin(x[:-1])
    y[:-1] -= x[1:] * x[:-1]
    return y


def band(n: int) -> Any:
    return sp.diags_array([np.ones(n - 1), np.ones(n), np.ones(n - 1)], offsets=[-1, 0, 1])


def scattered(m: int, n: int, each: int, decades: float = 0, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    cols = np.concatenate([random.choice(n, each, replace=False) for _ in range(m)])
    sizes = 10 ** (-decades * random.random(m * each)) * random.choice([-1, 1], m * each)
    return sp.csr_array((sizes * random.uniform(0.5, 1, m * each), (np.repeat(np.arange(m), each), cols)), shape=(m, n))


def five_points(side: int) -> Any:
    line = sp.diags_array([np.ones(side - 1), -2 * np.ones(side), np.ones(side - 1)], offsets=[-1, 0, 1])
    return sp.csr_array(sp.kron(line, sp.eye_array(side)) + sp.kron(sp.eye_array(side), line))


def block_arrow(blocks: int, shared: int) -> Any:
    return sp.csr_array(sp.hstack([sp.kron(sp.eye_array(blocks), np.ones((3, 2))), np.ones((3 * blocks, shared))]))


def arrow(n: int) -> Any:
    matrix = sp.lil_array((n, n))
    matrix.setdiag(1.0)
    matrix[:, 0] = matrix[0, :] = 1.0
    return sp.csr_array(matrix)


def permuted(matrix: Any, seed: int = 0) -> Any:
    order = np.random.default_rng(seed).permutation(matrix.shape[0])
    return sp.csr_array(matrix)[order][:, order]


MATRICES = {
    "tridiagonal": lambda: sp.csr_array(band(2000)),
    "5-point grid": lambda: five_points(40),
    "permuted tridiagonal": lambda: permuted(band(1500)),
    "permuted grid": lambda: permuted(five_points(30)),
    "scattered": lambda: scattered(1500, 1500, 5),
    "tall": lambda: scattered(2000, 300, 3),
    "wide": lambda: scattered(100, 3000, 3),
    "long rows": lambda: scattered(400, 400, 15),
    "blocks": lambda: sp.csr_array(sp.block_diag([np.ones((4, 4))] * 100)),
    "block arrow": lambda: block_arrow(60, 7),
    "one dense row": lambda: arrow(1500),
    "few parameters": lambda: scattered(90, 40, 3),
    "empty rows and columns": lambda: sp.csr_array((np.ones(2), ([3, 70], [5, 90])), shape=(200, 300)),
}


def at(n: int) -> Any:
    return np.random.default_rng(7).uniform(0.5, 2.0, n)


def assert_is(found: Pattern, matrix: Any) -> None:
    true = Pattern.of(sp.csr_array(matrix))
    wanted, got = (set(zip(p.rows.tolist(), p.cols.tolist(), strict=True)) for p in (true, found))
    assert found.shape == true.shape
    assert wanted - got == set(), "missed"
    assert got - wanted == set(), "spurious"


@pytest.mark.parametrize("name", MATRICES)
def test_a_smooth_pattern_is_found_whole_and_without_spurious_entries(name: str) -> None:
    matrix = MATRICES[name]()
    found = detect_pattern(lambda x: matrix @ x**2 + 1, at(matrix.shape[1]))
    assert_is(found, matrix)


@pytest.mark.parametrize("name", ["tridiagonal", "scattered", "one dense row", "few parameters"])
def test_group_testing_alone_finds_the_same(name: str) -> None:
    matrix = MATRICES[name]()
    assert_is(detect_pattern(lambda x: matrix @ np.sin(x), at(matrix.shape[1]), method="group"), matrix)


def test_a_tridiagonal_pattern_of_1e5_takes_21_points_and_15_at_one_place() -> None:
    for points, most in ((3, 21), (1, 15)):
        fun = Counted(tridiagonal)
        assert_is(detect_pattern(fun, at(100_000), points=points), band(100_000))
        assert len(fun.points) <= most


def test_five_entries_a_row_of_1e4_take_at_most_250_points() -> None:
    matrix = scattered(10_000, 10_000, 5)
    fun = Counted(lambda x: matrix @ x**2)
    assert_is(detect_pattern(fun, at(10_000)), matrix)
    assert len(fun.points) <= 250


def test_entries_over_six_decades_are_found() -> None:
    matrix = scattered(500, 500, 5, decades=6)
    assert_is(detect_pattern(lambda x: matrix @ x**2, at(500)), matrix)


@pytest.mark.parametrize("noise", [1e-17, 1e-9])
def test_noise_does_not_fill_the_pattern(noise: float) -> None:
    random = np.random.default_rng(0)
    found = detect_pattern(lambda x: tridiagonal(x) + noise * random.standard_normal(x.shape), at(2000))
    assert_is(found, band(2000))


def test_float32_is_noise_that_does_not_fill_the_pattern() -> None:
    assert_is(detect_pattern(tridiagonal, at(1000).astype(np.float32)), band(1000))


def test_rounding_that_every_output_has_of_every_input_is_no_entry() -> None:
    kernel = np.zeros(1024)
    kernel[[0, 1, -1]] = 2.0, -1.0, -1.0
    true = sp.lil_array(-band(1024))
    true[0, -1] = true[-1, 0] = 1.0
    found = detect_pattern(lambda x: np.fft.irfft(np.fft.rfft(x**2) * np.fft.rfft(kernel)), at(1024))
    assert_is(found, true)


@pytest.mark.parametrize("n", [40, 300])
def test_all_points_lie_inside_the_bounds(n: int) -> None:
    x, lower = at(n), np.zeros(n)
    upper = x + np.where(np.arange(n) % 2, 1e-3, 0.0)  # every other one at its bound
    fun = Counted(tridiagonal)
    assert_is(detect_pattern(fun, x, options={"bounds": (lower, upper)}), band(n))
    points = np.array(fun.points)
    assert np.all(points >= lower)
    assert np.all(points <= upper)


@pytest.mark.parametrize("n", [40, 300])
def test_fixed_parameters_have_no_entries(n: int) -> None:
    x = at(n)
    lower, upper = np.where(np.arange(n) == 7, x, 0.0), np.where(np.arange(n) == 7, x, 5.0)
    true = sp.lil_array(band(n))
    true[:, 7] = 0.0
    assert_is(detect_pattern(tridiagonal, x, options={"bounds": (lower, upper)}), true.tocsr().tocoo())


@pytest.mark.parametrize("n", [40, 300])
def test_a_probe_that_fails_counts_as_moved(n: int) -> None:
    def fails_beside_x(x: Any) -> Any:
        if x[3] != 1.0:
            raise ValueError("not here")
        return x[:2] ** 2

    found = detect_pattern(fails_beside_x, np.ones(n), points=1)
    assert {0, 1} <= set(found.rows[found.cols == 3].tolist())


def test_an_entry_that_vanishes_at_x_is_found_beside_it() -> None:
    found = detect_pattern(lambda x: x[:-1] * x[1:], np.zeros(200))
    assert_is(found, sp.diags_array([np.ones(199), np.ones(199)], offsets=[0, 1], shape=(199, 200)))


def test_rows_that_are_finite_nowhere_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"rows 2 .*pass the pattern"):
        detect_pattern(lambda x: np.concatenate([x[:2], np.full(1, np.nan)]), at(5))


def test_the_same_f_and_x_give_the_same_points() -> None:
    first, second = Counted(tridiagonal), Counted(tridiagonal)
    for fun in (first, second):
        detect_pattern(fun, at(200))
    assert np.array_equal(np.array(first.points), np.array(second.points))


def test_too_few_evaluations_are_an_error_not_a_pattern() -> None:
    with pytest.raises(ValueError, match="max_evaluations is too small"):
        detect_pattern(tridiagonal, at(200), options={"max_evaluations": 12})


def test_nan_through_f_finds_what_depends_on_all() -> None:
    assert_is(detect_pattern(tridiagonal, at(200), method="nan"), band(200))


@pytest.mark.parametrize(("wrong", "word"), [({"points": 0}, "points"), ({"method": "fast"}, "method")])
def test_a_wrong_argument_is_named(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        detect_pattern(tridiagonal, at(10), **wrong)


def test_arguments_and_outputs_may_be_structures() -> None:
    def fun(tree: Any) -> Any:
        return {"sum": tree["a"].sum(), "each": tree["b"] * tree["a"][0]}

    found = detect_pattern(fun, {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0, 5.0])})
    assert found.shape == (4, 5)
    assert sorted(zip(found.rows.tolist(), found.cols.tolist(), strict=True)) == [
        *((0, 0), (0, 2), (1, 0), (1, 3), (2, 0), (2, 4)),
        *((3, 0), (3, 1)),
    ]


def test_a_sparsity_made_by_detection_says_so() -> None:
    sparsity = Sparsity.detect(tridiagonal, at(200))
    assert sparsity.detected
    assert sparsity.count == 3


def test_it_works_on_arrays_of_other_libraries(backend: Backend) -> None:
    found = detect_pattern(lambda x: x[1:] * x[:-1], backend.asarray(at(70)))
    assert_is(found, sp.diags_array([np.ones(69), np.ones(69)], offsets=[0, 1], shape=(69, 70)))


def test_rows_searched_anew_bring_what_the_known_pattern_lacks() -> None:
    from arraydiff.arguments import Argnums
    from arraydiff.binding import Asked, Rules, bind
    from arraydiff.directions import AtX
    from arraydiff.evaluator import Evaluator
    from arraydiff.options import DEFAULT

    n, known = 300, Pattern.of(sp.csr_array(sp.eye_array(300)))
    problem = bind(Asked(tridiagonal, (at(n),), {}, Argnums.of(0), DEFAULT, Rules("test"))).problem

    def whole() -> Any:
        values = yield AtX(problem)
        return (yield from detection.searched(problem, DEFAULT, values.at[:, 0], [4, 9], known))

    (found,) = Evaluator(problem, DEFAULT).run([whole()])
    true = sp.lil_array(sp.eye_array(n))
    for row in (4, 9):
        true[row, row - 1] = true[row, row + 1] = 1.0
    assert_is(found, true)


def test_detection_and_tracing_agree() -> None:
    detected, traced = detect_pattern(tridiagonal, at(80)), trace_pattern(tridiagonal, at(80))
    assert np.array_equal(detected.rows, traced.rows)
    assert np.array_equal(detected.cols, traced.cols)
