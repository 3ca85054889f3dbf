"""Values, gradients, tangents and Hessian-vector products of functions of NumPy, beside those of JAX."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from arraydiff.exact import hvp, pushforward, traced
from tests.exact_functions import FUNCTIONS, POINT, Function

TANGENT = np.array([0.3, -0.7, 1.1, 0.2, -0.5, 0.9])
AGREED = 1e-12  # of the largest entry: both are exact to rounding


@pytest.fixture(scope="module")
def jax() -> Any:
    library = pytest.importorskip("jax", reason="JAX is not installed")
    library.config.update("jax_enable_x64", True)
    return library


def flat(np_: Any, fun: Function, x: Any) -> Any:
    return np_.ravel(fun(np_, x))


def weights(size: int) -> np.ndarray:
    return np.cos(np.arange(size))


def agree(got: Any, wanted: Any, what: str) -> None:
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape, what
    np.testing.assert_allclose(got, wanted, rtol=0, atol=AGREED * max(np.max(np.abs(wanted)), 1e-2), err_msg=what)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_all_derivatives_are_those_of_jax(name: str, jax: Any) -> None:
    fun, there = FUNCTIONS[name], functools.partial(flat, jax.numpy, FUNCTIONS[name])
    here = functools.partial(flat, np, fun)
    value, tangent = jax.jvp(there, (jax.numpy.asarray(POINT),), (jax.numpy.asarray(TANGENT),))
    w = weights(value.size)
    gradient = jax.grad(lambda x: there(x) @ w)
    moved = jax.jvp(gradient, (jax.numpy.asarray(POINT),), (jax.numpy.asarray(TANGENT),))
    followed = traced(here, POINT)
    agree(followed.value, here(POINT), "value")
    agree(followed.value, value, "value of JAX")
    agree(followed.pullback(w, keep=True), moved[0], "gradient")
    agree(followed.pushforward(TANGENT), tangent, "tangent along the tape")
    agree(pushforward(here, POINT, TANGENT[:, None])[1][:, 0], tangent, "tangent along with f")
    agree(hvp(lambda x: here(x) @ w, POINT, TANGENT[:, None])[1][:, 0], moved[1], "Hessian-vector product")


def test_there_are_at_least_a_hundred_of_them() -> None:
    assert len(FUNCTIONS) >= 100
