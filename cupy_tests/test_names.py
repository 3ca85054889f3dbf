"""What the package and the stand-in take for granted of CuPy, held to the real package, which imports without a GPU.

Not under tests/: a CuPy that is imported takes the place of the stand-in.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

cupy = pytest.importorskip("cupy", reason="CuPy is not installed: pip install cupy-cuda12x")
import array_api_compat.cupy as xp  # noqa: E402 - only where there is one
import cupyx.scipy.special as special  # noqa: E402

import arraydiff  # noqa: E402
from arraydiff.backends import cupy_rules  # noqa: E402
from arraydiff.backends.cupy import CupyBackend  # noqa: E402
from tests import cupy_standin  # noqa: E402

PACKAGE = Path(arraydiff.__file__).parent
ELSEWHERE = {"numpy.py", "torch.py", "jax.py", "dask.py", "generic.py", "mparray.py", "mparray_namespace.py"}
"""Backends of other libraries: their xp is never CuPy's."""

NO_LOOP = ["logaddexp", "cbrt", "floor", "ceil", "remainder", "heaviside"]  # a TypeError at complex arrays
NO_LOOP_SPECIAL = ["erf", "erfc", "erfcx", "ndtr", "exp1", "expi", "gammaln"]
LOOP_WITHOUT_KERNEL = ["hypot", "arctan2", "copysign", "nextafter"]  # listed, yet a CompileException
COMPLEX = [
    "exp",
    "log",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "sqrt",
    "square",
    "power",
    "abs",
    "conj",
    "expm1",
    "log1p",
    "add",
    "multiply",
    "divide",
]


def is_namespace(node: ast.expr) -> bool:
    """Whether an expression is the namespace of x, as the package writes it."""
    return ast.unparse(node) == "xp" or ast.unparse(node).endswith(".xp")


def dotted(node: ast.expr) -> str | None:
    """The name in the namespace that an expression stands for: 'sum', 'linalg.solve'."""
    if not isinstance(node, ast.Attribute):
        return None
    if is_namespace(node.value):
        return node.attr
    outer = dotted(node.value)
    return outer and f"{outer}.{node.attr}"


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if not (path.parent.name == "backends" and path.name in ELSEWHERE):
            yield from ((f"{path.name}:{getattr(n, 'lineno', 0)}", n) for n in ast.walk(ast.parse(path.read_text())))


def found(name: str) -> Any:
    value: Any = xp
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


USED = sorted(
    {name for _, node in nodes() if isinstance(node, ast.Attribute) and (name := dotted(node))} - {"__name__"}
)


@pytest.mark.parametrize("name", [name for name in USED if "." not in name or name.startswith("linalg.")])
def test_every_name_that_the_package_takes_from_the_namespace_exists(name: str) -> None:
    assert found(name) is not None


def call_fits(call: ast.Call, function: Any) -> bool:
    """Whether the function takes as many positional arguments, and these keywords."""
    keywords = {word.arg for word in call.keywords if word.arg}
    if isinstance(function, cupy.ufunc):
        return len(call.args) <= function.nargs and keywords <= {"out", "dtype", "casting"}
    try:
        signature = inspect.signature(function)
    except ValueError:  # a compiled function that does not tell
        return True
    starred = any(isinstance(argument, ast.Starred) for argument in call.args)
    given = [] if starred else call.args
    try:
        signature.bind_partial(*given, **dict.fromkeys(keywords)) if starred else signature.bind(
            *given, **dict.fromkeys(keywords)
        )
    except TypeError:
        return False
    return True


def test_every_call_fits_the_signature_of_the_real_function() -> None:
    calls = [(place, node, dotted(node.func)) for place, node in nodes() if isinstance(node, ast.Call)]
    ours = [(place, call, name) for place, call, name in calls if name and name in USED]
    assert len(ours) > 100
    assert [f"{place}: {ast.unparse(call)}" for place, call, name in ours if not call_fits(call, found(name))] == []


def has_complex_loop(function: Any) -> bool:
    return any(set("FD") & set(loop.partition("->")[0]) for loop in function.types)


@pytest.mark.parametrize("name", NO_LOOP)
def test_a_function_without_complex_loop_raises_on_complex_arrays(name: str) -> None:
    assert not has_complex_loop(getattr(cupy, name))


@pytest.mark.parametrize("name", NO_LOOP_SPECIAL)
def test_a_special_function_has_no_complex_loop(name: str) -> None:
    assert not has_complex_loop(getattr(special, name))


@pytest.mark.parametrize("name", LOOP_WITHOUT_KERNEL)
def test_a_loop_that_does_not_compile_is_listed_and_the_stand_in_knows_it(name: str) -> None:
    assert has_complex_loop(getattr(cupy, name))
    assert name in cupy_standin.NO_COMPLEX_KERNEL


@pytest.mark.parametrize("name", COMPLEX)
def test_a_function_that_lets_complex_steps_through_has_a_complex_loop(name: str) -> None:
    assert has_complex_loop(getattr(cupy, name))


@pytest.mark.parametrize("module", [name for name in cupy_standin.modules() if name != "cupy.cuda"])
def test_the_stand_in_offers_no_name_that_the_real_one_lacks(module: str) -> None:
    real: Any = cupy
    for part in module.split(".")[1:]:
        real = getattr(real, part)
    offered = [name for name in vars(cupy_standin.modules()[module]) if not name.startswith("_")]
    assert [name for name in offered if not hasattr(real, name)] == []


def test_what_the_stand_in_calls_missing_is_missing() -> None:
    def real(name: str) -> Any:
        outer, _, inner = name.rpartition(".")
        return getattr(getattr(cupy, outer) if outer else cupy, inner, None)

    assert [name for name in cupy_standin.MISSING | cupy_standin.NOT_OF_ARRAYS if real(name) is not None] == []


def test_a_device_has_no_hash_and_the_stand_in_has_none_either() -> None:
    for device in (cupy.cuda.Device(0), cupy_standin.Device(0)):
        with pytest.raises(TypeError, match="unhashable"):
            hash(device)


def test_a_device_is_made_of_a_number_or_a_device_and_equal_to_its_like() -> None:
    device = cupy.cuda.Device(0)
    assert device == cupy.cuda.Device(device) == cupy.cuda.Device(0)
    assert device != "cpu"


def test_the_backend_of_a_device_is_a_key() -> None:
    def backend() -> CupyBackend:
        return CupyBackend(xp, cupy.cuda.Device(0))

    assert {backend(): "found"}[backend()] == "found"


def test_the_stand_in_s_arrays_have_no_attribute_that_the_real_ones_lack() -> None:
    lacking = {name for name in dir(np.ndarray) if not name.startswith("__") and not hasattr(cupy.ndarray, name)}
    assert lacking <= cupy_standin.NOT_OF_AN_ARRAY


def test_the_stand_in_lacks_the_complex_loops_that_numpy_has_and_cupy_lacks() -> None:
    ufuncs = {name: f for name, f in vars(np).items() if isinstance(f, np.ufunc) and has_complex_loop(f)}
    real = {name: getattr(cupy, name, None) for name in ufuncs}
    lacking = {name for name, f in real.items() if isinstance(f, cupy.ufunc) and not has_complex_loop(f)}
    assert lacking == cupy_standin.NO_COMPLEX_LOOP


def test_kernels_without_complex_loops_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {}
    for module in (cupy, special):
        ufuncs = {name: f for name, f in vars(module).items() if isinstance(f, cupy.ufunc)}
        listed[module.__name__] = sorted(name for name, f in ufuncs.items() if not has_complex_loop(f))
    with capsys.disabled():
        for name, lacking in listed.items():
            print(f"\n{name} {cupy.__version__}, no complex loop: {' '.join(lacking)}")
    assert {"cbrt", "logaddexp"} <= set(listed["cupy"])


class Asked:
    """An argument that notes what it is asked for before a kernel reads memory."""

    def __init__(self) -> None:
        self.kernels: list[Any] = []

    def __cupy_override_elementwise_kernel__(self, kernel: Any, *args: Any, **options: Any) -> str:
        self.kernels.append(kernel)
        return "asked"

    def __cupy_override_reduction_kernel__(self, *arguments: Any) -> str:
        self.kernels.extend(arguments)
        return "asked too"


def test_kernels_ask_their_arguments_by_the_hook_that_tracing_implements() -> None:
    asked = Asked()
    square = cupy.ElementwiseKernel("float64 x", "float64 y", "y = x * x", "square")
    assert [cupy.sin(asked), cupy.multiply(2.0, asked), square(asked)] == ["asked"] * 3
    assert asked.kernels == [cupy.sin, cupy.multiply, square]
    assert cupy_rules.operation_of(cupy.sin) == "sin"
    assert cupy_rules.operation_of(square) is None


def test_reductions_ask_by_the_other_hook_and_hand_on_what_tracing_takes() -> None:
    total = cupy._core.create_reduction_func("total", ("d->d",), ("in0", "a + b", "out0 = a", None), 0)
    asked = Asked()
    assert total(asked, 1, keepdims=True) == "asked too"
    assert asked.kernels == [total, 1, None, None, True]


def test_private_kernels_are_where_tracing_looks_for_them() -> None:
    for kernel, (module, name, _) in cupy_rules.PRIVATE.items():
        assert getattr(importlib.import_module(module), name).name == kernel


def test_most_ufuncs_of_cupy_that_have_a_derivative_have_a_rule() -> None:
    from arraydiff.exact.dispatch import UFUNCS_BY_NAME

    known = {name for name in vars(cupy) if isinstance(getattr(cupy, name), cupy.ufunc)}
    followed = {name for name in known if cupy_rules.operation_of(getattr(cupy, name)) in UFUNCS_BY_NAME}
    assert {"sin", "exp", "multiply", "power", "true_divide", "arctan2", "logaddexp", "maximum", "square"} <= followed
    print("cupy, ufuncs without a rule:", *sorted(known - followed))
