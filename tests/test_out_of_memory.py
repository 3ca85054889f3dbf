"""Blocks that memory does not hold are halved until it does; the derivative is the same, and what f saw is counted."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from tests import cupy_standin
from tests.claims import METHODS
from tests.helpers import Backend, Recorder, tonumpy

N, GRID = 12, 4000
X = np.linspace(0.5, 1.5, N)


def hungry(x: Any) -> Any:
    """Takes 8 GRID bytes and more for every point."""
    xp = __import__("array_api_compat").array_namespace(x)
    t = xp.linspace(0.0, 1.0, GRID, dtype=x.real.dtype if x.dtype == xp.complex128 else x.dtype)
    return xp.sum(xp.exp(-t[:, None] * xp.sum(x, axis=0)[None, :]), axis=0) / GRID + xp.sum(x * x, axis=0)


@pytest.fixture
def machine() -> Iterator[Any]:
    """The stand-in's device, without a limit again afterwards."""
    with Backend.CUPY.active():
        gc.collect()
        yield cupy_standin.machine
        cupy_standin.machine.limit = 0


def peak(machine: Any, options: dict[str, Any]) -> tuple[Any, int, int]:
    """A gradient without a limit, what it took at most, and what it left."""
    x = Backend.CUPY.asarray(X)
    machine.peak = before = machine.used[0]
    result = ad.grad(hungry, vectorized=True, **options).result(x)
    return result, machine.peak - before, before


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_block_that_memory_does_not_hold_is_halved_and_the_result_is_the_same(machine, method):
    if Backend.CUPY.reason_to_skip():
        pytest.skip(Backend.CUPY.reason_to_skip())
    whole, most, used = peak(machine, method.options)
    machine.limit = used + most // 2
    f = Recorder(hungry, batch_axis=1)
    halved = ad.grad(f, vectorized=True, **method.options).result(Backend.CUPY.asarray(X))
    machine.limit = 0
    np.testing.assert_allclose(tonumpy(halved.gradient), tonumpy(whole.gradient), rtol=1e-9)
    assert halved.function_calls == f.calls > whole.function_calls
    assert halved.function_points == f.points > whole.function_points


def test_f_that_does_not_fit_at_one_point_is_told_of_with_a_remedy(machine):
    x = Backend.CUPY.asarray(X)
    machine.limit = machine.used[0] + 8 * GRID
    with pytest.raises(MemoryError, match=r"Out of memory|chunk_size"):
        ad.grad(hungry, vectorized=True, method="central")(x)
    machine.limit = 0
    np.testing.assert_allclose(
        tonumpy(ad.grad(hungry, vectorized=True, method="central")(x)),
        tonumpy(ad.grad(hungry, vectorized=True)(x)),
        rtol=1e-6,
    )


def test_one_that_runs_out_beside_x_alone_names_chunk_size():
    def f(x: np.ndarray) -> Any:
        if not np.array_equal(x[:, 0], X):
            raise MemoryError("no more")
        return np.sum(x * x, axis=0)

    with pytest.raises(MemoryError, match="chunk_size"):
        ad.grad(f, vectorized=True, method="central")(X)
