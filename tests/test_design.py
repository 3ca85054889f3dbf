"""The design, read off the source: layers, array libraries by name, the safe part of the array API, sizes, remedies."""

from __future__ import annotations

import ast
import re
import sys
import types
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import arraydiff as ad

PACKAGE = Path(ad.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Bottom first. A module may import from its own layer and from those below; a package stands for all of its modules.
LAYERS = (
    ("_typing", "altering", "errors", "progress", "levels"),
    ("workers",),
    ("backends", "record", "axes", "rows"),
    ("exact",),
    ("memory", "scratch"),
    ("config",),
    ("arguments", "result"),
    ("problem", "assembly", "explain", "paths", "tables", "weights"),
    ("outputs",),
    ("seam", "devices", "binding", "guarding", "options"),
    ("recording",),
    ("identity", "service"),
    ("keeping",),
    ("directions", "symmetry"),
    ("pairs",),
    ("noise", "batching"),
    ("probe",),
    ("strategies",),
    ("vouching", "rounds"),
    ("chunking", "evaluator", "collectors"),
    ("gram", "agreement"),
    ("engine", "together"),
    ("linear",),
    ("telling",),
    ("alike", "callables", "plan", "batches", "stepping", "nested"),
    ("tally", "blocks"),
    ("sparse",),
    ("transforms",),
    ("spreading",),
    ("products", "second", "normal", "normal_block", "covariances"),
    ("checking", "estimation", "uncertainty", "validation"),
    ("__init__",),
    ("_vmap", "homodyne", "examples", "environment", "testing"),
    ("fallback",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

ARRAY_LIBRARIES = {"numpy", "cupy", "torch", "jax", "dask", "mparray", "mpmath", "array_api_strict"}
MAY_NAME_THEM = {"backends", "fallback", "homodyne", "_vmap", "sparse", "examples", "environment", "cli", "testing"}
MAY_NAME_THEM |= {"covariances"}  # n × n numbers, on the host

ELEMENTWISE = """
    abs acos acosh add asin asinh atan atan2 atanh ceil conj copysign cos cosh divide equal exp expm1 floor
    floor_divide greater greater_equal hypot imag isfinite isinf isnan less less_equal log log1p log2 log10
    logaddexp logical_and logical_not logical_or logical_xor maximum minimum multiply negative nextafter
    not_equal positive pow real reciprocal remainder round signbit sin sinh square sqrt subtract tan tanh trunc
    bitwise_and bitwise_or bitwise_xor bitwise_invert bitwise_left_shift bitwise_right_shift
"""
WHOLE_ARRAYS = """
    where sum prod mean min max std var any all argmin argmax count_nonzero cumulative_sum cumulative_prod diff
    reshape permute_dims moveaxis expand_dims squeeze stack concat unstack tile flip roll broadcast_to meshgrid
    tril triu repeat take zeros ones full eye arange linspace empty asarray zeros_like ones_like full_like
    empty_like sort argsort searchsorted isin matmul vecdot tensordot matrix_transpose
"""
DTYPES = """
    astype result_type can_cast isdtype finfo iinfo bool int8 int16 int32 int64 float32 float64 complex64
    complex128 pi e inf nan newaxis
"""
SAFE = set((ELEMENTWISE + WHOLE_ARRAYS + DTYPES).split())

LONGEST_FUNCTION, LONGEST_MODULE, LONGEST_OF_EXACT = 50, 450, 400
# An error says what is wanted or what to do: a second clause after what is wrong, or one of these words.
WAYS_OUT = (
    "must wants? takes? needs? requires expected give pass leave choose name call run move set use cast differentiate"
)
REMEDY = re.compile(rf"; |\b({WAYS_OUT.replace(' ', '|')})\b", re.IGNORECASE)
FEWEST_WORDS = 5  # a message with fewer is put together from texts that are made elsewhere


def layer_of(path: Path) -> str:
    """The name in LAYERS under which a source file goes."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def where(path: Path, node: ast.stmt | ast.expr) -> str:
    return f"{path.relative_to(PACKAGE.parent)}:{node.lineno}"


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that can run: names needed for annotations alone bind no layer to another."""
    for child in ast.iter_child_nodes(tree):
        if not is_for_types_only(child):
            yield child
            yield from at_run_time(child)


def imported(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """Dotted names of what a module imports, with the statement."""
    for node in at_run_time(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where(path, node)}: relative import"
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def own_layers(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """The layers of arraydiff that a module imports."""
    for node, name in imported(path):
        parts = name.split(".")
        if parts[0] == "arraydiff":
            yield node, parts[1] if parts[1:] and parts[1] in RANK else "__init__"


def test_every_module_has_its_layer() -> None:
    assert {layer_of(path) for path in SOURCES} <= RANK.keys()


def test_no_module_imports_a_layer_above_its_own() -> None:
    upwards = [
        f"{where(path, node)} imports {name}"
        for path in SOURCES
        for node, name in own_layers(path)
        if RANK[name] > RANK[layer_of(path)]
    ]
    assert upwards == []


def test_array_libraries_are_named_only_where_they_are_special() -> None:
    named = [
        f"{where(path, node)} imports {name}"
        for path in SOURCES
        for node, name in imported(path)
        if name.split(".")[0] in ARRAY_LIBRARIES and layer_of(path) not in MAY_NAME_THEM
    ]
    assert named == []


def core() -> list[Path]:
    return [path for path in SOURCES if layer_of(path) not in MAY_NAME_THEM]


def test_the_core_uses_the_part_of_the_array_api_that_is_the_same_everywhere() -> None:
    unsafe = [
        f"{where(path, node)} uses {ast.unparse(node)}"
        for path in core()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute)
        and (ast.unparse(node.value) == "xp" or ast.unparse(node.value).endswith(".xp"))
        and node.attr not in SAFE
    ]
    assert unsafe == []


ARRAY_METHODS = {
    "clip",
    "sign",
    "nonzero",
    "argwhere",
    "unique",
    "compress",
    "cumsum",
    "dot",
    "round",
    "item",
    "fill",
    "put",
    "sort",
}


NAMESPACES = {"xp", "ops"}  # `ops` holds the operations that tracing has rules for


def takes_three(call: ast.Call) -> bool:
    return len(call.args) == 3 or any(isinstance(argument, ast.Starred) for argument in call.args)


def test_the_core_calls_functions_of_the_namespace_and_where_with_three_arguments() -> None:
    calls = [
        (where(path, node), node.func, node)
        for path in core()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    wrong = [
        f"{place} calls {ast.unparse(func)}"
        for place, func, call in calls
        if (ast.unparse(func.value).split(".")[-1] not in NAMESPACES and func.attr in ARRAY_METHODS)
        or (ast.unparse(func).endswith("xp.where") and not takes_three(call))  # with one it waits for the device
    ]
    assert wrong == []


def test_the_core_reverses_no_array_by_a_slice() -> None:
    """PyTorch has no negative steps; Python's own sequences are reversed by `reversed`."""
    backwards = [
        f"{where(path, node)}: {ast.unparse(node)}"
        for path in core()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Subscript)
        for part in (node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice])
        if isinstance(part, ast.Slice) and part.step is not None and ast.unparse(part.step).startswith("-")
    ]
    assert backwards == []


def test_the_core_picks_no_entries_by_a_mask() -> None:
    """Entries are masked by `where`: what a mask picks has a shape that the host must wait for."""
    masked = [
        f"{where(path, node)}: {ast.unparse(node)}"
        for path in core()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Subscript)
        for part in (node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice])
        if isinstance(part, ast.Compare) or (isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.Invert))
    ]
    assert masked == []


def test_array_api_extra_stays_out_of_the_core_because_its_wrappers_wait() -> None:
    assert [where(path, node) for path in core() for node, name in imported(path) if "array_api_extra" in name] == []


# Here answers are told to a user, one number after the other; everywhere else only `Backend.read` and `number` may wait.
TELLING = {"explain", "checking", "estimation", "uncertainty", "validation", "record", "config"}
OF_THE_HOST = re.compile(r"\.shape\[|finfo\(|isdtype\(|\binfo\.|Status\.|^[A-Z_]+$|^'|^len\(|^round\(")
HOST_NUMBERS = {  # what is no array, by the layer that converts it
    "arguments": {"leaf", "value"},
    "binding": {"first == second"},
    "exact": {"n"},
    "gram": {"flag"},
    "memory": {"number"},
    "noise": {"level"},
    "probe": {"i == j"},
    "tally": {"flag", "prepared.reason", "lost", "self.tally.left_out"},
    "vouching": {"flag"},
    "problem": {"getattr(self.fun, 'shares_calls', False)"},
    "together": {"wanted", "not parts"},
    "strategies": {
        "flag",
        "start",
        "n",
        "2 * i + 1",
        "2 ** i if order is None else i + 1",
        "2 ** i if side == 0 else i + 1",
        "learnt.scheme.one_sided",
        "problem.eps ** FINER_STEP",
    },
}


def conversions(path: Path) -> Iterator[tuple[ast.Call, str]]:
    """float(a), int(a) and bool(a) of what may be an array."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"float", "int", "bool", "complex"} and node.args:
            text = ast.unparse(node.args[0])
            if not OF_THE_HOST.search(text) and text not in HOST_NUMBERS.get(layer_of(path), set()):
                yield node, text


def test_where_derivatives_are_made_no_array_becomes_a_python_number() -> None:
    found = [
        f"{where(path, node)} converts {text}"
        for path in core()
        if layer_of(path) not in TELLING
        for node, text in conversions(path)
    ]
    assert found == []


def test_only_backends_bring_values_to_the_host() -> None:
    reads = [
        f"{where(path, node)} calls {ast.unparse(node.func)}"
        for path in core()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"item", "tolist", "cpu", "numpy", "compute", "__array__"}
    ]
    assert reads == []


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    doc = ast.get_docstring(function, clean=False)
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1 - (doc.count("\n") + 1 if doc else 0)


def test_functions_fit_on_a_screen_and_modules_in_a_sitting() -> None:
    functions = [
        f"{where(path, node)} {node.name}: {lines_without_docstring(node)} lines"
        for path in SOURCES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_without_docstring(node) > LONGEST_FUNCTION
    ]
    modules = [
        path.name
        for path in SOURCES
        if path.read_text(encoding="utf-8").count("\n")
        > (LONGEST_OF_EXACT if layer_of(path) == "exact" else LONGEST_MODULE)
    ]
    assert functions + modules == []


def test_every_status_says_what_to_do_next() -> None:
    from arraydiff.result import REMEDIES

    assert set(REMEDIES) == {ad.Status.CONVERGED, *ad.Status}
    assert all(len(remedy.split()) > 2 for remedy in REMEDIES.values())


def message(call: ast.Call) -> str | None:
    """The literal text of an exception's message; None where most of it is made elsewhere."""
    texts = [node.value for argument in call.args[:1] for node in ast.walk(argument) if isinstance(node, ast.Constant)]
    text = " ".join(text for text in texts if isinstance(text, str))
    return text if len(re.findall(r"[a-z]{2,}", text)) >= FEWEST_WORDS else None


def test_every_error_names_a_way_out() -> None:
    texts = [
        (where(path, node), text)
        for path in SOURCES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and (text := message(node.exc))
        if ast.unparse(node.exc.func) != "AttributeError"  # its text is Python's own
    ]
    assert len(texts) > 10
    assert "\n".join(f"{place}: {text}" for place, text in texts if not REMEDY.search(text)) == ""


def layers_on_the_stack(frame: types.FrameType | None) -> tuple[str, ...]:
    """Layers of arraydiff from the outermost frame to the innermost, each named once a run."""
    names = []
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("arraydiff."):
            names.append(name.split(".")[1])
        frame = frame.f_back
    names.reverse()
    return tuple(name for name, following in pairwise([*names, ""]) if name != following)


# From the object that a transform returns down to the one place that knows f's arguments. No strategy is on the stack:
# it asks for values, or for a record, and never calls f.
WAY_DOWN = ("callables", "engine", "evaluator", "problem")
FOLLOWED = ("callables", "engine", "evaluator", "recording", "exact", "recording", "problem")


@pytest.mark.parametrize("method", list(ad.DifferentiationMethod))
@pytest.mark.parametrize("vectorized", [False, True])
def test_layers_on_the_stack_seen_from_inside_f_come_in_the_order_of_the_diagram(
    method: ad.DifferentiationMethod, vectorized: bool
) -> None:
    seen: set[tuple[str, ...]] = set()

    def fun(x: np.ndarray) -> np.ndarray:
        seen.add(layers_on_the_stack(sys._getframe()))
        return np.sum(x * x, axis=0)

    ad.grad(fun, method=method, vectorized=vectorized, unreliable="ignore")(np.asarray([0.3, 0.7]))
    assert seen == ({WAY_DOWN, FOLLOWED} if method in ("adaptive", "exact") else {WAY_DOWN})
    assert [RANK[name] for name in WAY_DOWN[:-1]] == sorted((RANK[name] for name in WAY_DOWN[:-1]), reverse=True)


def test_a_derivative_of_a_derivative_goes_the_whole_way_down_twice() -> None:
    seen: set[tuple[str, ...]] = set()

    def fun(x: np.ndarray) -> np.ndarray:
        seen.add(layers_on_the_stack(sys._getframe()))
        return np.sum(x * x)

    ad.grad(lambda x: ad.grad(fun, trace=False)(x)[0], trace=False)(np.asarray([0.3, 0.7]))
    assert seen == {WAY_DOWN + WAY_DOWN}
    seen.clear()
    ad.grad(lambda x: ad.grad(fun)(x)[0])(np.asarray([0.3, 0.7]))
    followed_twice = (*FOLLOWED, "callables", "nested", *FOLLOWED[FOLLOWED.index("recording") :])
    assert seen == {WAY_DOWN + WAY_DOWN, WAY_DOWN + FOLLOWED, followed_twice}
