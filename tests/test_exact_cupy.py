"""CuPy's hook, on kernels that look like CuPy's; `cupy_tests` holds its names to the real package."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest

from arraydiff.backends import cupy_rules
from arraydiff.exact import Refused, traced

X = np.array([0.3, 1.2, 0.7])


class Kernel:
    """As cupy.ufunc and cupy.ElementwiseKernel do: an argument with the hook is asked before memory is read."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any, **options: Any) -> Any:
        for one in args:
            if hasattr(one, cupy_rules.HOOKS[0]):
                return one.__cupy_override_elementwise_kernel__(self, *args, **options)
        raise AssertionError("memory was read")


class Reduction(Kernel):
    def __call__(self, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return a.__cupy_override_reduction_kernel__(self, axis, dtype, out, keepdims)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = types.ModuleType("cupy")
    for name in ("sin", "multiply", "power", "arctan2", "frexp"):
        setattr(module, name, Kernel(f"cupy_{name}"))
    module.mine = Kernel("sin")  # type: ignore[attr-defined]
    module.kernel_sum = Reduction("cupy_sum")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_kernels_of_cupy_reach_their_rules(cupy: Any) -> None:
    followed = traced(lambda x: cupy.multiply(cupy.sin(x), cupy.power(x, 2.0)) + cupy.arctan2(1.0, x), X)
    wanted = np.cos(X) * X**2 + 2 * X * np.sin(X) - 1 / (1 + X * X)
    np.testing.assert_allclose(followed.pullback(np.ones(3)), wanted, rtol=1e-14)


def test_a_users_kernel_is_refused_whatever_its_name(cupy: Any) -> None:
    with pytest.raises(Refused, match="the CuPy kernel sin has no rule"):
        traced(cupy.mine, X)


def test_a_kernel_without_a_rule_and_one_with_options_are_refused(cupy: Any) -> None:
    with pytest.raises(Refused, match="cupy_frexp"):
        traced(cupy.frexp, X)
    with pytest.raises(Refused, match="options"):
        traced(lambda x: cupy.sin(x, dtype="float32"), X)


def test_a_reduction_kernel_that_is_not_public_is_refused(cupy: Any) -> None:
    with pytest.raises(Refused, match="the CuPy reduction cupy_sum"):
        traced(cupy.kernel_sum, X)
