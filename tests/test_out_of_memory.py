"""Where a block of points takes more memory than there is, it is halved: same values, right counts, nothing left behind."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from tests import cupy_standin
from tests.helpers import Backend, Recorder, tonumpy

X = np.linspace(0.3, 1.7, 24)
WIDE = 2000  # numbers that f makes a point: what fills the memory
METHODS = {
    "central": {"method": "central"},
    "forward": {"method": "forward"},
    "richardson": {"method": "richardson"},
    "adaptive": {"trace": False},  # else f is followed at x alone, and there is no block
}

on_the_stand_in = pytest.mark.parametrize("backend", [Backend.CUPY], indirect=True, ids=lambda b: b.value)


def hungry(x: Any) -> Any:
    """A sum over (WIDE, points); array operators alone, so that any library will do."""
    from array_api_compat import array_namespace

    xp = array_namespace(x)
    inner = xp.sum(xp.sin(x) * x, axis=0)
    wide = inner * xp.ones((WIDE, 1), dtype=xp.float64)
    return xp.sum(wide, axis=0) / WIDE


@contextlib.contextmanager
def limited(extra: int) -> Iterator[None]:
    """Memory for so many bytes more than is in use."""
    gc.collect()
    cupy_standin.machine.limit = max(cupy_standin.machine.used) + extra
    try:
        yield
    finally:
        cupy_standin.machine.limit = 0


@on_the_stand_in
@pytest.mark.parametrize("method", METHODS)
def test_a_block_that_does_not_fit_is_halved_and_the_gradient_is_the_same(backend: Backend, method: str) -> None:
    x = backend.asarray(X)
    options = {"vectorized": True, "unreliable": "ignore", **METHODS[method]}
    plain = ad.grad(hungry, **options).result(x)
    seen = Recorder(hungry, batch_axis=1)
    with limited(8 * WIDE * 12):
        halved = ad.grad(seen, **options).result(x)
    seen.seen.clear()
    np.testing.assert_allclose(tonumpy(halved.gradient), tonumpy(plain.gradient), rtol=1e-6)
    np.testing.assert_allclose(tonumpy(halved.gradient), np.cos(X) * X + np.sin(X), rtol=1e-3)
    assert halved.function_calls > plain.function_calls
    assert (halved.function_calls, halved.function_points) == (seen.calls, seen.points)


@on_the_stand_in
def test_an_f_whose_trace_does_not_fit_is_differentiated_by_its_values(backend: Backend) -> None:
    """A product of two wide arrays is kept where f is followed, and is not otherwise."""

    def wider(x: Any) -> Any:
        value = x[0]
        for _ in range(40):
            value = hungry(x[:, None])[0] + 0.5 * value
        return value

    x, seen = backend.asarray(X), Recorder(wider)
    right = ad.grad(wider).result(x)
    assert right.method_used == "exact"
    with limited(8 * WIDE * 12):
        made = ad.grad(seen).result(x)
    seen.seen.clear()
    assert made.method_used == "complex_step"
    assert "emory" in made.reason
    np.testing.assert_allclose(tonumpy(made.gradient), tonumpy(right.gradient), rtol=1e-12)
    assert (made.function_calls, made.function_points) == (seen.calls, seen.points)


@on_the_stand_in
def test_what_fits_is_remembered_and_memory_runs_out_no_more(backend: Backend) -> None:
    x, failed = backend.asarray(X), []

    def counted(p: Any) -> Any:
        try:
            return hungry(p)
        except MemoryError:
            failed.append(p.shape[1])
            raise

    with limited(8 * WIDE * 12):
        ad.grad(counted, method="central", vectorized=True, chunk_size=12)(x)
    assert failed == sorted(set(failed), reverse=True)


@on_the_stand_in
def test_memory_is_as_it_was_found(backend: Backend) -> None:
    x = backend.asarray(X)
    ad.grad(hungry, method="central", vectorized=True)(x)
    gc.collect()
    before = list(cupy_standin.machine.used)
    with limited(8 * WIDE * 12):
        ad.grad(hungry, method="central", vectorized=True)(x)
    gc.collect()
    assert cupy_standin.machine.used == before


@on_the_stand_in
def test_one_point_that_does_not_fit_is_an_error_that_says_what_to_do(backend: Backend) -> None:
    x, calls = backend.asarray(X), 0

    def f(p: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise cupy_standin.OutOfMemoryError("Out of memory allocating 4,096 bytes")
        return hungry(p)

    with pytest.raises(MemoryError, match=r"allocating 4,096 bytes.*free: \d+ bytes.*chunk_size=1"):
        ad.grad(f, method="central", vectorized=True)(x)


def test_an_exception_in_one_half_costs_its_own_point_and_every_call_is_counted() -> None:
    def f(p: np.ndarray) -> np.ndarray:
        if p.shape[1] > 3:
            raise MemoryError("too wide")
        if np.any(p[5] > X[5]):
            raise ValueError("not there")
        return np.sum(p * p, axis=0)

    seen = Recorder(f, batch_axis=1)
    result = ad.grad(seen, method="forward", vectorized=True, unreliable="ignore", bounds=(None, 2.0)).result(X[:8])
    assert (result.function_calls, result.function_points) == (seen.calls, seen.points)
    assert np.sum(~np.isfinite(result.gradient)) <= 1
    np.testing.assert_allclose(np.delete(result.gradient, 5), np.delete(2 * X[:8], 5), rtol=1e-5)


def test_an_error_of_f_that_is_not_about_memory_is_not_halved() -> None:
    widths = []

    def f(p: np.ndarray) -> np.ndarray:
        widths.append(p.shape[1])
        if p.shape[1] > 1:
            raise ValueError("one at a time")
        return np.sum(p * p, axis=0)

    ad.grad(f, method="central", vectorized=True)(X[:4])
    assert set(widths) <= {1, 5, 8}


@on_the_stand_in
@pytest.mark.parametrize("method", ["central", "richardson"])
def test_a_chunk_whose_arithmetic_does_not_fit_is_halved_and_the_jacobian_is_the_same(
    backend: Backend, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arraydiff.backends.cupy.CupyBackend.free_memory", lambda _: None)  # else it is planned for

    def f(x: Any) -> Any:
        from array_api_compat import array_namespace

        xp = array_namespace(x)
        return xp.sin(xp.sum(x) * xp.ones((4000,), dtype=xp.float64) * WEIGHTS[backend]) + x[0]

    WEIGHTS[backend] = backend.asarray(np.linspace(0.1, 0.2, 4000))
    x = backend.asarray(X)
    options = {"method": method, "unreliable": "ignore", "chunk_size": len(X)}
    plain = ad.jacobian(f, **options)(x)
    jacobian_bytes = 8 * 4000 * len(X)
    seen = Recorder(f)
    room = {"central": 8, "richardson": 40}[method]
    with limited(room * jacobian_bytes):
        halved = ad.jacobian(seen, **options).result(x)
    np.testing.assert_allclose(tonumpy(halved.jacobian), tonumpy(plain), rtol=1e-6)
    assert (halved.function_calls, halved.function_points) == (seen.calls, seen.points)
    assert seen.calls > ad.jacobian(f, **options).result(x).function_calls  # what failed counts, too


WEIGHTS: dict[Backend, Any] = {}


@on_the_stand_in
def test_one_direction_that_does_not_fit_says_what_to_do(backend: Backend) -> None:
    x = backend.asarray(X)

    def f(x: Any) -> Any:
        from array_api_compat import array_namespace

        xp = array_namespace(x)
        return xp.sum(x) * xp.ones((40_000,), dtype=xp.float64)

    with limited(8 * 40_000 * 20), pytest.raises(MemoryError, match=r"memory|Out of|out of"):
        ad.jacobian(f, method="richardson", unreliable="ignore")(x)
