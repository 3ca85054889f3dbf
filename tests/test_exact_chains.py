"""Random chains of operations: both modes and second order, beside differences of order six."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from arraydiff.exact import gradient, traced
from benchmarks import exact_functions

N = 4
X = np.array([0.83, 1.31, 0.42, 0.97])
Step = Callable[[Any, Any], Any]


def written(v: Any, x: Any) -> Any:
    y = v.copy()
    part = y[1:3]
    part *= x[:2]
    y[0] = np.sin(y[1])
    return y


STEPS: dict[str, Step] = {  # (v, x) -> v, of shape (4,), smooth and of moderate size everywhere
    "sin": lambda v, x: np.sin(v),
    "tanh": lambda v, x: np.tanh(v) + 0.1 * v,
    "exp": lambda v, x: np.exp(-v * v),
    "log1p": lambda v, x: np.log1p(v * v),
    "sqrt": lambda v, x: np.sqrt(1 + v * v),
    "times x": lambda v, x: v * x[::-1],
    "over": lambda v, x: v / (2 + np.cos(x)),
    "power": lambda v, x: (1 + v**2) ** 0.3,
    "arctan2": lambda v, x: np.arctan2(v, 2 + x),
    "mean": lambda v, x: v - np.mean(v * x),
    "matmul": lambda v, x: np.outer(x, v) @ np.tanh(v),
    "einsum": lambda v, x: np.einsum("i,j,i->j", v, x, np.cos(v)) / 4,
    "cumsum": lambda v, x: np.cumsum(v) / 4,
    "roll": lambda v, x: np.roll(v, 1) + x,
    "index": lambda v, x: v[[0, 0, 3, 1]] * x,
    "stack": lambda v, x: np.stack([v, x])[:, ::2].ravel() * x[0],
    "solve": lambda v, x: np.linalg.solve(5 * np.eye(N) + np.outer(np.sin(v), x), v),
    "write": written,
    "loop": lambda v, x: np.stack([v[i] * x[(i + 1) % N] for i in range(N)]),
    "reshape": lambda v, x: (v.reshape(2, 2).T @ x.reshape(2, 2)).ravel(),
    "fft": lambda v, x: np.real(np.fft.ifft(np.fft.fft(v) * np.exp(-np.arange(N) * x[0]))),
    "prod": lambda v, x: v + np.prod(np.sin(v)) * x,
    "norm": lambda v, x: v / (1 + np.linalg.norm(v + x)),
    "where": lambda v, x: np.where(X > 0.9, np.sin(v), v * x),
    "convolve": lambda v, x: np.convolve(v, x[:2], mode="same") / 2,
    "array": lambda v, x: np.array([v[0], x[1], v[2] * x[3], 1.0]) * v,
}


def chain(names: list[str]) -> Callable[[Any], Any]:
    def fun(x: Any) -> Any:
        v = x * 1.0
        for name in names:
            v = STEPS[name](v, x)
        return v

    return fun


def differences(fun: Callable[[Any], Any], h: float = 2e-3) -> np.ndarray:
    weights = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
    return np.stack(
        [sum(w * (fun(X + k * h * e) - fun(X - k * h * e)) / h for k, w in weights.items()) for e in np.eye(N)], axis=-1
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6))
def test_chains_agree_with_differences(names: list[str]) -> None:
    fun = chain(names)
    followed = traced(fun, X)
    wanted = differences(fun)
    scale = np.max(np.abs(wanted)) + np.max(np.abs(fun(X)))
    np.testing.assert_allclose(followed.value, fun(X), rtol=1e-13, atol=1e-14 * scale)
    forward = np.stack([followed.pushforward(e) for e in np.eye(N)], axis=-1)
    backward = np.stack([followed.pullback(e, keep=True) for e in np.eye(N)])
    np.testing.assert_allclose(forward, wanted, rtol=0, atol=1e-7 * scale)
    np.testing.assert_allclose(backward, forward, rtol=0, atol=1e-12 * scale)

    def total(x: Any) -> Any:
        return np.sum(fun(x) * np.cos(np.arange(N)))

    def gradient_at(x: np.ndarray) -> np.ndarray:
        return traced(total, x).pullback(np.float64(1.0))

    hessian = traced(gradient(total), X, constant=True)
    second = differences(gradient_at)
    found = np.stack([hessian.pushforward(e) for e in np.eye(N)], axis=-1)
    np.testing.assert_allclose(found, second, rtol=0, atol=1e-7 * (scale + np.max(np.abs(second))))


def test_three_quarters_of_the_functions_that_plain_code_calls_are_followed_and_none_is_wrong() -> None:
    verdicts = exact_functions.verdicts()
    assert len(verdicts) >= 200
    assert [name for name, told in verdicts.items() if told == "WRONG"] == []
    assert sum(told == "followed" for told in verdicts.values()) >= 0.75 * len(verdicts)
