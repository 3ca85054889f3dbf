"""What a tape does not keep, no sweep misses: derivatives have the same bits with all arrays hollow that may be."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from arraydiff.backends import large
from arraydiff.exact import Refused, hvp, traced
from arraydiff.exact.hollow import OUT, _read_by
from arraydiff.exact.trace import prim
from tests.exact_functions import FUNCTIONS, POINT

TANGENT = np.array([0.3, -0.7, 1.1, 0.2, -0.5, 0.9])


def every_sweep(fun: Any) -> list[Any]:
    """Gradient, tangent, the same with other roundings, kinks, Hessian."""
    tape = traced(fun, POINT)
    ones = np.ones(np.shape(tape.value))
    found = [tape.pullback(ones, keep=True), tape.pushforward(TANGENT)]
    other = tape.shaken(64.0, 1, keep=True)
    found += [] if other is None else [other.pullback(ones, keep=True), other.pushforward(TANGENT)]
    found += [(kink.text, kink.rows.tolist(), kink.columns.tolist()) for kink in tape.kinked()]
    if tape.value.size == 1:
        try:
            found.append(hvp(fun, POINT, np.eye(POINT.size))[1])
        except Refused as refused:
            found.append(refused.reason)
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hollow_arrays_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fun = functools.partial(FUNCTIONS[name], np)
    with np.errstate(all="ignore"):
        full = every_sweep(fun)
        monkeypatch.setattr(large, "SMALL", 0)
        hollow = every_sweep(fun)
    for one, other in zip(full, hollow, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_rules_read_is_read_off_their_lines() -> None:
    assert _read_by(prim.add, 0) == frozenset()
    assert (_read_by(prim.multiply, 0), _read_by(prim.multiply, 1)) == ({1}, {0})
    assert (_read_by(prim.exp, 0), _read_by(prim.sin, 0)) == ({OUT}, {0})
    assert _read_by(prim.sum, 0) == frozenset()
    assert _read_by(prim.matmul, 0) is None


def test_a_hollow_array_is_no_number_wherever_it_is_read() -> None:
    array = np.arange(40_000, dtype=np.float32).reshape(2, -1)
    hollow = large.hollow(array)
    assert (hollow.shape, hollow.dtype, type(hollow)) == (array.shape, array.dtype, np.ndarray)
    assert np.isnan(hollow).all()
    assert not hollow.flags.writeable
    assert large.bytes_of(large.owner_of(hollow)) == 0
    whole = np.arange(40_000)
    assert large.hollow(whole) is whole  # of whole numbers nothing says that they are none
