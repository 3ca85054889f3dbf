"""Functions of trees of arguments, as a transform hands them to a strategy: traced through `Call.followed`."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace

import arraydiff as ad
from arraydiff.arguments import layout_of, ravel
from arraydiff.backends import backend_of
from arraydiff.exact import Refused, hvp, pushforward, traced
from arraydiff.exact.trace import ops
from arraydiff.problem import Call, Followed


def called(fun: Any, tree: Any, **facts: Any) -> tuple[Call, Any]:
    """A call of f(tree), and the flat vector."""
    leaves = list(tree.values()) if isinstance(tree, dict) else [tree]
    backend = backend_of(leaves)
    layout, arrays = layout_of(backend, tree)
    call = Call(fun, (tree,), {}, (0,), True, layout, backend, {}, **facts)
    return call, ravel(backend, layout.leaves, arrays, arrays[0].dtype)


def followed(call: Call, x: Any) -> tuple[Any, Followed]:
    told: list[Followed] = []

    def flat(point: Any) -> Any:
        told.append(call.followed(point))
        return told[0].values

    return traced(flat, x), told[0]


def test_a_tree_of_arguments_and_outputs_is_laid_out_as_without_tracing() -> None:
    def fun(tree: dict[str, Any]) -> dict[str, Any]:
        a, b, c = tree["a"], tree["b"], tree["c"]
        assert a.shape == (2, 2)
        return {"u": a @ a * b, "v": [c * (1 + 2j) * a[0], 3.0], "w": np.sum(a)}

    call, x = called(fun, {"a": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": 0.5, "c": 2.0})
    trace, told = followed(call, x)
    plain = call(x)
    assert [(leaf.shape, leaf.is_complex) for leaf in told.layout.leaves] == [
        (leaf.shape, leaf.is_complex) for leaf in plain.layout.leaves
    ]
    assert told.layout.structure == plain.layout.structure
    np.testing.assert_allclose(trace.value, plain.values, rtol=1e-15)
    step = 1e-6
    for e in np.eye(x.size):
        difference = (call(x + step * e).values - call(x - step * e).values) / (2 * step)
        np.testing.assert_allclose(trace.pushforward(e), difference, rtol=1e-8, atol=1e-8)


def test_aux_comes_back_as_plain_arrays() -> None:
    call, x = called(lambda x: (np.sum(x * x), {"twice": 2 * x, "name": "f"}), np.array([1.0, 2.0]), has_aux=True)
    _, told = followed(call, x)
    assert type(told.aux["twice"]) is np.ndarray
    assert told.aux["name"] == "f"
    np.testing.assert_array_equal(told.aux["twice"], [2.0, 4.0])


def test_complex_arguments_go_as_real_and_imaginary_parts() -> None:
    z = np.array([1.0 + 2.0j, 0.5 - 1.0j])
    backend = backend_of([z])
    layout, arrays = layout_of(backend, z)
    call = Call(lambda z: np.sum(np.abs(z) ** 2), (z,), {}, (0,), True, layout, backend, {})
    x = ravel(backend, layout.leaves, arrays, np.float64)
    trace, _ = followed(call, x)
    np.testing.assert_allclose(trace.pullback(np.ones(1)), [2.0, 1.0, 4.0, -2.0], rtol=1e-15)


def test_a_single_precision_argument_stays_in_single_precision() -> None:
    call, x = called(lambda x: x * x, np.array([1.5, 2.5], dtype=np.float32))
    trace, _ = followed(call, x)
    assert trace.value.dtype == np.float32


def test_an_output_that_is_no_array_is_refused() -> None:
    call, x = called(lambda x: "text", np.array([1.0, 2.0]))
    with pytest.raises(Refused, match="neither a number nor an array"):
        followed(call, x)


def test_a_derivative_of_ours_imports_nothing_of_tracing_until_it_is_asked_for() -> None:
    code = "import sys, arraydiff; print(*(name for name in sys.modules if name.startswith('arraydiff.exact')))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
    assert ad.__name__ == "arraydiff"


# ---- array-API code


def libraries() -> list[Any]:
    names = ["array_api_compat.torch", "array_api_strict", "array_api_compat.numpy"]
    return [pytest.param(name, id=name.rpartition(".")[2]) for name in names]


def model(x: Any) -> Any:
    """In the standard's own words."""
    import array_api_compat

    xp = array_api_compat.array_namespace(x)
    a = xp.reshape(xp.exp(x) * x[0], (2, 2))
    b = xp.matmul(a, xp.matrix_transpose(a)) + xp.eye(2, dtype=x.dtype)
    c = xp.concat([xp.sum(b, axis=0), xp.stack([x[1], xp.mean(x)])]) ** 2
    d = xp.where(x > 0, xp.sqrt(xp.abs(x)), x * x) + xp.cumulative_sum(x, axis=0) / (1 + xp.max(x))
    e = xp.clip(xp.tensordot(b, b, axes=1), 1.0, 50.0) - xp.atan2(b, a) + xp.linalg.vector_norm(x) * xp.linalg.inv(b)
    z = xp.zeros((4,), dtype=x.dtype)
    z[1:3] = x[:2] * x[2:]
    return xp.concat([c, d, xp.reshape(e, (-1,)), z, xp.roll(xp.flip(x), 1), xp.expand_dims(xp.vecdot(x, x), axis=0)])


@pytest.mark.parametrize("library", libraries())
def test_code_on_the_array_api_is_followed_on_other_libraries(library: str) -> None:
    xp = pytest.importorskip(library, reason=f"{library} is not installed")
    host = np.array([0.3, 1.2, -0.7, 2.0])
    here, there = traced(model, host), traced(model, xp.asarray(host.tolist(), dtype=xp.float64))
    w = np.cos(np.arange(here.value.size))
    weights = xp.asarray(w.tolist(), dtype=xp.float64)
    assert type(there.value) is type(weights)
    np.testing.assert_allclose(np.asarray(there.value), here.value, rtol=1e-13)
    gradient, wanted = there.pullback(weights, keep=True), here.pullback(w, keep=True)
    np.testing.assert_allclose(np.asarray(gradient), wanted, rtol=1e-12)
    tangent = there.pushforward(xp.asarray([1.0, 0.0, 2.0, 0.0], dtype=xp.float64))
    np.testing.assert_allclose(np.asarray(tangent), here.pushforward(np.array([1.0, 0.0, 2.0, 0.0])), rtol=1e-12)


# ---- another device than the library's own


def on_device1(values: Any) -> Any:
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    return strict.asarray(values, dtype=strict.float64, device=strict.Device("device1"))


def symmetric(xp: Any, x: Any) -> Any:
    a = xp.reshape(x, (2, 2)) + on_device1([[4.0, 1.0], [0.0, 3.0]])
    return a + xp.matrix_transpose(a)


ON_ITS_DEVICE: dict[str, Any] = {
    "eigh": lambda xp, x: xp.linalg.eigh(symmetric(xp, x))[1] ** 2,
    "eigvalsh": lambda xp, x: xp.linalg.eigvalsh(symmetric(xp, x)),
    "det": lambda xp, x: xp.linalg.det(symmetric(xp, x)),
    "inv": lambda xp, x: xp.linalg.inv(symmetric(xp, x)),
    "pinv": lambda xp, x: xp.linalg.pinv(symmetric(xp, x)),
    "svdvals": lambda xp, x: xp.linalg.svdvals(symmetric(xp, x)),
    "solve": lambda xp, x: xp.linalg.solve(symmetric(xp, x), x[:2]),
    "trace": lambda xp, x: xp.linalg.trace(symmetric(xp, x)),
    "diagonal": lambda xp, x: xp.linalg.diagonal(symmetric(xp, x), offset=-1),
    "diag": lambda xp, x: ops.diag(x, -1),
    "power of a number": lambda xp, x: 2.0**x,
    "asarray of numbers": lambda xp, x: xp.asarray([x[0] * x[1], 2.0]) ** 2,
    "ones_like": lambda xp, x: xp.ones_like(x) * x,
    "linspace": lambda xp, x: xp.linspace(x[0], x[1], 4),
    "fft": lambda xp, x: xp.abs(xp.fft.fft(x + 0j)) ** 2,
    "rfft": lambda xp, x: xp.fft.irfft(xp.fft.rfft(x) * 2),
    "nan_to_num": lambda xp, x: ops.nan_to_num(x / xp.where(x > 1, x * 0 + 1.0, 2.0)),
    "unwrap": lambda xp, x: ops.unwrap(5 * x),
    "unwrap of columns": lambda xp, x: ops.unwrap(7 * symmetric(xp, x), axis=0, period=2.0),
    "nanmean": lambda xp, x: ops.nanmean(x * x),
    "corrcoef": lambda xp, x: ops.corrcoef(symmetric(xp, x)),
}


@pytest.mark.parametrize("name", ON_ITS_DEVICE)
def test_everything_is_made_on_the_device_of_x(name: str) -> None:
    x = on_device1([0.3, 1.2, 0.7, 2.0])

    def fun(x: Any) -> Any:
        return ops.ravel(ON_ITS_DEVICE[name](array_namespace(x), x))

    followed = traced(fun, x)
    size, step = followed.value.shape[0], 1e-6
    ends = [(traced(fun, x + step * e), traced(fun, x - step * e)) for e in map(on_device1, np.eye(4).tolist())]
    moved = [(after.value - before.value) / (2 * step) for after, before in ends]
    w, t = on_device1(np.cos(np.arange(size)).tolist()), on_device1([1.0, 0.0, 2.0, -1.0])
    gradient, tangent = followed.pullback(w, keep=True), followed.pushforward(t)
    _, along = pushforward(fun, x, t[:, None])
    _, curved = hvp(lambda x: ops.sum(fun(x) * w), x, t[:, None])
    assert {one.device for one in (followed.value, gradient, tangent, along, curved)} == {x.device}
    wanted = np.array([[float(one) for one in column] for column in moved])
    np.testing.assert_allclose([float(one) for one in gradient], wanted @ np.cos(np.arange(size)), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose([float(one) for one in tangent], [1.0, 0.0, 2.0, -1.0] @ wanted, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose([float(one) for one in along[:, 0]], [float(one) for one in tangent], rtol=1e-12)


@pytest.mark.parametrize(
    ("array", "fixed"),
    [([1.0, math.nan, math.inf, -math.inf], [1.0, 0.5, np.finfo(float).max, np.finfo(float).min])],
)
def test_what_is_not_finite_is_replaced_as_by_numpy(array: list[float], fixed: list[float]) -> None:
    found = traced(lambda x: ops.nan_to_num(x * 1.0, nan=0.5), on_device1(array)).value
    assert [float(one) for one in found] == fixed


@pytest.mark.parametrize("period", [2 * math.pi, 3.0])
def test_whole_periods_are_those_of_numpy(period: float) -> None:
    steps = np.cumsum([0.0, 1.5, 1.6, -1.5, 6.5, -9.0, 3.2, -3.2, 12.0, 0.75 * period, -0.5 * period, 0.5 * period])
    found = traced(lambda x: ops.unwrap(x * 1.0, period=period), on_device1(steps.tolist())).value
    np.testing.assert_allclose([float(one) for one in found], np.unwrap(steps, period=period), rtol=1e-13)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 1, (0, 1)])
def test_the_norm_of_the_standard_has_the_shape_that_it_has_there(axis: Any, keepdims: bool) -> None:
    x = np.array([[0.3, 1.2], [-0.7, 2.0], [1.0, 1.0]])

    def fun(x: Any) -> Any:
        return array_namespace(x).linalg.vector_norm(x.reshape(3, 2), axis=axis, keepdims=keepdims)

    wanted = np.linalg.vector_norm(x, axis=axis, keepdims=keepdims)
    found = traced(fun, x.ravel()).value
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-15)


MATRICES = {
    "equal eigenvalues": (lambda m: np.sum(np.linalg.eigvalsh((m + m.T) / 2) ** 3), np.eye(3)),
    "equal singular values": (lambda m: np.linalg.norm(m, "nuc"), np.eye(2, 3)),
    "a singular matrix": (lambda m: np.linalg.slogdet(m)[1], np.zeros((2, 2))),
    "no triangle": (lambda m: np.sum(np.linalg.qr(m)[1] ** 2), np.zeros((2, 2))),
}


@pytest.mark.parametrize("options", [{}, {"verify_trace": False}], ids=["held to plain f", "not"])
@pytest.mark.parametrize("name", MATRICES)
def test_what_a_rule_refuses_in_a_sweep_is_made_of_values(name: str, options: dict[str, Any]) -> None:
    f, m = MATRICES[name]
    with np.errstate(all="ignore"):
        for transform in (ad.grad, ad.hessian, ad.hessian_diag, ad.value_and_grad_and_hessian):
            transform(f, unreliable="ignore", **options)(m)
        ad.hvp(f, (m,), (m + 1,), unreliable="ignore", **options)
        ad.jvp(f, (m,), (m + 1,), unreliable="ignore", **options)


def test_second_derivatives_of_the_singular_values_of_a_wide_matrix_are_exact() -> None:
    m = np.random.default_rng(3).normal(size=(3, 5))
    for f in (lambda m: np.linalg.norm(m, "nuc"), lambda m: np.sum(np.linalg.svd(m, compute_uv=False) ** 3)):
        wide, tall = ad.hessian(f).result(m), ad.hessian(lambda m, f=f: f(m.T)).result(m)
        assert wide.method_used == tall.method_used == "exact"
        np.testing.assert_allclose(wide.hessian, tall.hessian, rtol=1e-10, atol=1e-10)


def test_numbers_beside_traced_ones_in_an_array_are_refused_with_the_way_out() -> None:
    result = ad.grad(lambda x: np.sum(np.exp(np.array([0.0, x[0]])))).result(np.ones(2))
    assert "np.stack" in result.reason


def test_gradient_gives_the_values_of_numpy_to_the_last_bit() -> None:
    x = np.random.default_rng(4).normal(size=(4, 5))
    for order in (1, 2):
        followed = traced(lambda v, order=order: np.gradient(v, 0.3, edge_order=order), x[0])
        np.testing.assert_array_equal(followed.value, np.gradient(x[0], 0.3, edge_order=order))
