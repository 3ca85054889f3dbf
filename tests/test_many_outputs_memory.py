"""A million outputs: what one direction takes of memory, and that no single output is lost among them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from arraydiff import rows
from arraydiff.directions import Columns
from arraydiff.exact import traced
from arraydiff.seam import PREPARE_ARRAYS, Asking, Points, Prepared, Recorded, Recording, T, Values
from arraydiff.strategies import strategy_of
from tests.helpers import Backend

MANY = 400_000
SLABS = 40_000  # more than one slab
X = np.array([0.7, 0.4, 1.3])
SLAB_ARRAYS = 18
"""Arrays of MANY outputs that a slab's tableau amounts to: 55 MB, however many outputs there are."""

TIME = np.linspace(0.1, 3.0, MANY)


def analytic(p: Any) -> Any:
    return p[0] * np.exp(-p[1] * TIME) + p[2] * TIME


def real(p: Any) -> Any:
    if p.dtype.kind == "c":
        raise TypeError("real numbers only")
    return analytic(p)


def noisy(p: Any) -> Any:
    value = real(p)
    return value * (1 + 1e-7 * np.sin(1e9 * value))


def served(fun: Callable[[Any], Any], asking: Asking[T]) -> T:
    """The result of a strategy, its points evaluated one by one and nothing kept of them."""
    given = None
    while True:
        try:
            points: Any = asking.send(given)  # type: ignore[arg-type]
        except StopIteration as done:
            result: T = done.value
            return result
        given = None
        given = _recorded(fun, points) if isinstance(points, Recording) else _answered(fun, points)


def _recorded(fun: Callable[[Any], Any], wanted: Recording) -> Recorded:
    tape = traced(fun, wanted.x)
    return Recorded(tape, tape.value)


def _answered(fun: Callable[[Any], Any], points: Points) -> Values:
    at, failure = np.full((points.count, MANY), np.nan, dtype=complex if points.is_complex else float), None
    for j in range(points.count):
        try:
            at[j] = fun(points.column(j))
        except TypeError as error:
            failure = error.with_traceback(None)
    return Values(at.T, None, failure)


@contextmanager
def measured() -> Iterator[list[float]]:
    """Arrays (m,) held at the peak inside, by f too; and in the end."""
    found: list[float] = []
    tracemalloc.start()
    try:
        yield found
        now, peak = tracemalloc.get_traced_memory()
        found += [peak / (8 * MANY), now / (8 * MANY)]
    finally:
        tracemalloc.stop()


CASES: dict[str, tuple[Callable[[Any], Any], int, dict[str, Any], int, int]] = {
    # f, directions, options; arrays (m,) of prepare, and of one direction with what is kept
    "adaptive": (analytic, 3, {"trace": False}, 22, 11),
    "adaptive with a probe": (analytic, 5, {"trace": False}, 20, 11),
    "central": (analytic, 3, {"method": "central"}, 14, 10),
    "forward": (analytic, 3, {"method": "forward"}, 14, 9),
    "central of order 8": (analytic, 3, {"method": "central", "order": 8}, 13, 15),
    "ladder": (analytic, 3, {"method": "richardson"}, 4, 18 + SLAB_ARRAYS),
    "adaptive on real numbers with a probe": (real, 5, {"trace": False}, 20, 18 + SLAB_ARRAYS),
    "noisy": (noisy, 3, {"trace": False}, 6, 24),
    "noisy with a probe": (noisy, 5, {"trace": False}, 32, 15),
    "cheapest": (real, 5, {"error_tolerance": 1e-6}, 32, 11),
    "fixed ladder": (analytic, 3, {"method": "richardson", "step_size": 1e-3}, 4, 15),
}


@pytest.mark.parametrize("case", CASES)
def test_one_direction_of_many_outputs_takes_few_arrays_of_them(case: str) -> None:
    fun, directions, options, at_first, at_each = CASES[case]
    transform = ad.jacobian(fun, **options)
    problem = replace(transform._bind((X,), {}).problem, directions=directions)
    strategy, config = strategy_of(transform.options.config), transform.options.config
    with np.errstate(all="ignore"), measured() as held:
        prepared: Prepared = served(fun, strategy.prepare(problem, config))
    at_peak, kept = held
    assert at_peak <= min(at_first, PREPARE_ARRAYS)
    assert kept <= 7
    with np.errstate(all="ignore"), measured() as held:
        served(fun, prepared.pushforward(Columns(problem, (0,))))
    at_peak, _ = held
    assert at_peak <= prepared.arrays + SLAB_ARRAYS
    assert at_peak + kept <= at_each


@pytest.mark.parametrize("bars", [True, False])
def test_one_direction_along_the_tape_of_many_outputs_takes_no_more_arrays_than_are_planned_for(bars: bool) -> None:
    transform = ad.jacobian(analytic)
    problem = replace(transform._bind((X,), {}).problem, directions=3, bars=bars)
    config = transform.options.config
    prepared: Prepared = served(analytic, strategy_of(config).prepare(problem, config))
    assert prepared.method is ad.DifferentiationMethod.EXACT
    with measured() as held:
        served(analytic, prepared.pushforward(Columns(problem, (0,))))
    at_peak, kept = held
    assert at_peak <= prepared.arrays
    assert kept < 0.1  # the tape was there before


# What follows is told of one output in the middle of many slabs.
PLACE = SLABS // 2 + 7


strict_too = pytest.mark.parametrize(
    "library", [Backend.NUMPY, Backend.STRICT_DEVICE1], ids=lambda backend: backend.value, indirect=True
)


@pytest.fixture
def library(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Numbers of NumPy, unless others are asked for."""
    chosen: Backend = getattr(request, "param", Backend.NUMPY)
    if (reason := chosen.reason_to_skip()) is not None:
        pytest.skip(reason)
    with chosen.active():
        yield chosen


@pytest.fixture
def parts(library: Backend) -> tuple[Any, Any, Any]:
    """The namespace, a grid, and a mask of the one output."""
    grid, place = np.linspace(0.1, 3.0, SLABS), np.zeros(SLABS)
    place[PLACE] = 1.0
    return library.namespace, library.asarray(grid), library.asarray(place)


def smooth(xp: Any, p: Any, t: Any) -> Any:
    return p[0] * xp.exp(-p[1] * t) + p[2] * t


def result(library: Backend, fun: Callable[[Any], Any], **options: Any) -> Any:
    return ad.jacobian(fun, unreliable="ignore", **options).result(library.asarray(X))


@strict_too
def test_there_are_slabs(library: Backend) -> None:
    backend = ad.jacobian(lambda p: p)._bind((library.asarray(X),), {}).problem.backend
    assert len(rows.slabs(backend, SLABS)) == 5
    assert rows.slabs(backend, rows.WHOLE) == [None]


@strict_too
def test_one_output_of_many_that_drops_imaginary_parts_refuses_the_certificate(library, parts):
    xp, t, place = parts

    def fun(p: Any) -> Any:
        value = smooth(xp, p, t)
        plain = xp.real(value) if xp.isdtype(value.dtype, "complex floating") else value
        return xp.where(place == 1, plain + 0 * value, value)

    told = result(library, fun, trace=False)
    assert told.method_used.value == "richardson"
    assert "imaginary part" in told.reason
    assert abs(library.tonumpy(told.jacobian)[PLACE, 2] - np.linspace(0.1, 3.0, SLABS)[PLACE]) < 1e-9


@strict_too
def test_one_kink_among_many_outputs_is_flagged_there_and_nowhere_else(library, parts):
    xp, t, place = parts
    told = result(library, lambda p: smooth(xp, p, t) + place * xp.abs(p[0] - 0.7), opaque=True)
    status = library.tonumpy(told.status)
    assert np.argwhere(status & ad.Status.KINK).tolist() == [[PLACE, 0]]
    assert library.tonumpy(told.error_estimate)[PLACE, 0] >= 1.0
    assert np.max(library.tonumpy(told.error_estimate)[:PLACE, 0]) < 1e-6


@pytest.mark.parametrize("options", [{}, {"opaque": True}, {"method": "central"}], ids=str)
def test_one_output_that_is_nan_costs_its_own_row_only(library, parts, options):
    xp, t, _ = parts
    lost = library.asarray(np.where(np.arange(SLABS) == PLACE, np.nan, 0.0))
    told = result(library, lambda p: smooth(xp, p, t) + lost, **options)
    values, status = library.tonumpy(told.jacobian), library.tonumpy(told.status)
    assert np.flatnonzero(np.isnan(values).any(axis=1)).tolist() == [PLACE]
    assert np.unique(np.argwhere(status & ad.Status.FAILED)[:, 0]).tolist() == [PLACE]


def test_one_output_that_fails_beside_x_keeps_steps_below_it(library, parts):
    xp, t, place = parts
    edge = 0.7 + 1e-4

    def fun(p: Any) -> Any:
        return smooth(xp, p, t) + place * xp.sqrt(edge - p[0])

    told = result(library, fun, opaque=True)
    values, bars = library.tonumpy(told.jacobian), library.tonumpy(told.error_estimate)
    assert np.all(np.isfinite(values))
    assert float(told.step_sizes[0]) < 1e-4
    exact = np.exp(-0.4 * np.linspace(0.1, 3.0, SLABS)[PLACE]) - 0.5 / np.sqrt(edge - 0.7)
    assert abs(values[PLACE, 0] - exact) <= bars[PLACE, 0] < 1e-3 * abs(exact)


def test_one_noisy_output_is_flagged_there_and_nowhere_else(library, parts):
    xp, t, place = parts
    told = result(library, lambda p: smooth(xp, p, t) * (1 + 1e-6 * place * xp.sin(1e9 * p[0])), opaque=True)
    rows_flagged = np.unique(np.argwhere(library.tonumpy(told.status) & ad.Status.NOISE_LIMITED)[:, 0])
    assert rows_flagged.tolist() == [PLACE]


def test_a_parameter_that_moves_one_output_of_many_is_as_exact_as_alone(library, parts):
    xp, t, place = parts
    told = result(library, lambda p: xp.cos(3 * p[0]) * place + p[1] * t + p[2], opaque=True)
    error = abs(library.tonumpy(told.jacobian)[PLACE, 0] + 3 * np.sin(2.1))
    assert error <= library.tonumpy(told.error_estimate)[PLACE, 0] < 1e-9
    assert np.count_nonzero(library.tonumpy(told.jacobian)[:, 0]) == 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "central"},
        {"method": "forward"},
        {"method": "central", "order": 6},
        {"method": "richardson", "step_size": 1e-3},
        {"opaque": True, "chunk_size": 3},
        {"opaque": True, "bounds": (X, X + 5)},
        {"error_tolerance": 1e-6},
    ],
    ids=str,
)
def test_values_and_bars_are_those_without_slabs(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    t = np.linspace(0.1, 3.0, SLABS)
    transform = ad.jacobian(lambda p: smooth(np, p, t), unreliable="ignore", **options)
    slabbed = transform.result(X)
    monkeypatch.setattr(rows, "WHOLE", 2 * SLABS)
    whole = transform.result(X)
    np.testing.assert_allclose(slabbed.jacobian, whole.jacobian, rtol=1e-11)
    np.testing.assert_array_equal(slabbed.step_sizes, whole.step_sizes)
    np.testing.assert_array_equal(slabbed.status, whole.status)
    low, high = np.quantile(slabbed.error_estimate / whole.error_estimate, [0.01, 0.99])
    assert 0.5 < low <= high < 2.0  # noise is read off other rungs where the sample chose them
    assert abs(slabbed.function_points - whole.function_points) <= 4  # a stage of the witness


def test_a_plan_for_many_outputs_gives_the_bars_that_it_gives_without_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    t = np.linspace(0.1, 3.0, SLABS)
    plan = ad.jacobian(lambda p: smooth(np, p, t)).plan(X)
    slabbed = plan.result(X * 1.01)
    monkeypatch.setattr(rows, "WHOLE", 2 * SLABS)
    whole = plan.result(X * 1.01)
    np.testing.assert_allclose(slabbed.jacobian, whole.jacobian, rtol=1e-12)
    np.testing.assert_allclose(slabbed.error_estimate, whole.error_estimate, rtol=1e-9)
