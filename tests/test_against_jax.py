"""One call to JAX on its arrays and to arraydiff on NumPy's: same structure, shapes, dtypes and types of errors."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import arraydiff as ad

FLOAT0 = np.dtype([("float0", "V")])  # what JAX calls the dtype of a derivative with respect to an integer
Point = namedtuple("Point", "a b")

x3 = np.array([1.0, 2.0, 3.0])
y2 = np.array([4.0, 5.0])


def f2(x, y):
    return (x * x).sum() + y.sum() * x[0]


Call = Callable[[Any, Any], Any]
AGAINST_JAX: dict[str, Call] = {
    "grad": lambda api, xp: api.grad(f2)(xp.asarray(x3), xp.asarray(y2)),
    "argnums 1": lambda api, xp: api.grad(f2, 1)(xp.asarray(x3), xp.asarray(y2)),
    "argnums -1": lambda api, xp: api.grad(f2, -1)(xp.asarray(x3), xp.asarray(y2)),
    "argnums True": lambda api, xp: api.grad(f2, True)(xp.asarray(x3), xp.asarray(y2)),
    "argnums np.int64": lambda api, xp: api.grad(f2, np.int64(1))(xp.asarray(x3), xp.asarray(y2)),
    "argnums (0,)": lambda api, xp: api.grad(f2, (0,))(xp.asarray(x3), xp.asarray(y2)),
    "argnums [1, 0]": lambda api, xp: api.grad(f2, [1, 0])(xp.asarray(x3), xp.asarray(y2)),
    "argnums ()": lambda api, xp: api.grad(f2, ())(xp.asarray(x3), xp.asarray(y2)),
    "argnums (0, 0)": lambda api, xp: api.grad(f2, (0, 0))(xp.asarray(x3), xp.asarray(y2)),
    "argnums 'x'": lambda api, xp: api.grad(f2, "x"),
    "argnums None": lambda api, xp: api.grad(f2, None),
    "argnums 5": lambda api, xp: api.grad(f2, 5)(xp.asarray(x3), xp.asarray(y2)),
    "argnums -3": lambda api, xp: api.grad(f2, -3)(xp.asarray(x3), xp.asarray(y2)),
    "jacfwd argnums 5": lambda api, xp: api.jacfwd(f2, -3)(xp.asarray(x3), xp.asarray(y2)),
    "dict": lambda api, xp: api.grad(lambda d: d["a"].sum() * d["b"])({"b": 2.0, "a": xp.asarray(x3)}),
    "list of floats": lambda api, xp: api.grad(lambda v: v[0] * v[1])([2.0, 5.0]),
    "list of ints": lambda api, xp: api.grad(lambda v: v[0] * v[1])([2, 5]),
    "namedtuple": lambda api, xp: api.grad(lambda p: p.a * p.b)(Point(2.0, 3.0)),
    "None inside": lambda api, xp: api.grad(lambda d: d["a"] ** 2)({"a": 2.0, "b": None}),
    "None": lambda api, xp: api.grad(lambda _: 1.0)(None),
    "float": lambda api, xp: api.grad(lambda x: x**3)(2.0),
    "int": lambda api, xp: api.grad(lambda x: x * 2.0)(3),
    "bool": lambda api, xp: api.grad(lambda x: x * 2.0)(True),
    "str": lambda api, xp: api.grad(lambda x: 1.0)("a"),
    "object": lambda api, xp: api.grad(lambda x: 1.0)(object()),
    "str inside": lambda api, xp: api.grad(lambda d: d["a"] * 2)({"a": 1.0, "b": "s"}),
    "allow_int": lambda api, xp: api.grad(lambda x: x.sum() * 1.0, allow_int=True)(xp.asarray([3, 4])),
    "float32": lambda api, xp: api.grad(lambda x: (x * x).sum())(xp.asarray(x3, dtype=xp.float32)),
    "two dimensions": lambda api, xp: api.grad(lambda x: (x * x).sum())(xp.ones((2, 3))),
    "empty": lambda api, xp: api.grad(lambda x: x.sum())(xp.zeros((0,))),
    "vector output": lambda api, xp: api.grad(lambda x: x)(xp.asarray(x3)),
    "output of one entry": lambda api, xp: api.grad(lambda x: x[:1])(xp.asarray(x3)),
    "no output": lambda api, xp: api.grad(lambda x: None)(xp.asarray(x3)),
    "tuple output": lambda api, xp: api.grad(lambda x: (x[0], x[1]))(xp.asarray(x3)),
    "string output": lambda api, xp: api.grad(lambda x: "a")(xp.asarray(x3)),
    "integer output": lambda api, xp: api.grad(lambda x: 3)(xp.asarray(x3)),
    "complex output": lambda api, xp: api.grad(lambda x: x.sum() * 1j)(xp.asarray(x3)),
    "constant output": lambda api, xp: api.grad(lambda x: 3.0)(xp.asarray(x3)),
    "complex input": lambda api, xp: api.grad(lambda z: (z * z.conj()).real)(xp.asarray(1 + 2j)),
    "complex vector": lambda api, xp: api.grad(lambda z: (z * z * z.conj()).real.sum())(xp.asarray([1 + 2j, 0.5 - 1j])),
    "holomorphic": lambda api, xp: api.grad(lambda z: z * z * z, holomorphic=True)(xp.asarray(1 + 2j)),
    "holomorphic, real in": lambda api, xp: api.grad(lambda z: z * z, holomorphic=True)(1.0),
    "holomorphic, real out": lambda api, xp: api.grad(lambda z: (z * z).real, holomorphic=True)(xp.asarray(1 + 2j)),
    "jacfwd, complex in": lambda api, xp: api.jacfwd(lambda z: z.real)(xp.asarray([1 + 2j])),
    "jacfwd, holomorphic": lambda api, xp: api.jacfwd(lambda z: z * z, holomorphic=True)(xp.asarray([1 + 2j, 3j])),
    "jacrev, complex out": lambda api, xp: api.jacrev(lambda x: x * 1j)(xp.asarray(x3)),
    "jacrev, integer out": lambda api, xp: api.jacrev(lambda x: 3)(xp.asarray(x3)),
    "has_aux": lambda api, xp: api.grad(lambda x: (x * x, 3.0), has_aux=True)(2.0)[0],
    "has_aux, bare": lambda api, xp: api.grad(lambda x: x * x, has_aux=True)(2.0),
    "has_aux, triple": lambda api, xp: api.grad(lambda x: (x, x, x), has_aux=True)(2.0),
    "value_and_grad": lambda api, xp: api.value_and_grad(f2, (0,))(xp.asarray(x3), xp.asarray(y2)),
    "value_and_grad, aux": lambda api, xp: api.value_and_grad(lambda x: (x * x, xp.ones(2)), has_aux=True)(2.0),
    "no function": lambda api, xp: api.grad(3),
    "unknown keyword": lambda api, xp: api.grad(f2, foo=3),
    "grad of grad": lambda api, xp: api.grad(api.grad(lambda x: x**3))(2.0),
    "jacfwd of a matrix": lambda api, xp: api.jacfwd(lambda x: x[:, None] * xp.ones(2))(xp.asarray(x3)),
    "jacrev of a structure": lambda api, xp: api.jacrev(lambda x: {"b": x * 2, "a": (x[0],)})(xp.asarray(x3)),
    "jacfwd, two arguments": lambda api, xp: api.jacfwd(lambda x, y: x * y[0], (0, 1))(xp.asarray(x3), xp.asarray(y2)),
    "jacfwd of None": lambda api, xp: api.jacfwd(lambda x: None)(xp.asarray(x3)),
    "jacfwd of integers": lambda api, xp: api.jacfwd(lambda x: x * 1.0)(xp.asarray([1, 2])),
    "hessian": lambda api, xp: api.hessian(f2)(xp.asarray(x3), xp.asarray(y2)),
    "hessian (0,)": lambda api, xp: api.hessian(f2, (0,))(xp.asarray(x3), xp.asarray(y2)),
    "hessian (0, 1)": lambda api, xp: api.hessian(f2, (0, 1))(xp.asarray(x3), xp.asarray(y2)),
    "hessian, two dimensions": lambda api, xp: api.hessian(lambda x: (x * x).sum())(xp.ones((2, 3))),
    "hessian of a float": lambda api, xp: api.hessian(lambda x: x**3)(2.0),
    "hessian of a dict": lambda api, xp: api.hessian(lambda d: d["a"].sum() * d["b"])({"a": xp.asarray(x3), "b": 2.0}),
    "hessian, vector out": lambda api, xp: api.hessian(lambda x: x * x)(xp.asarray(x3)),
    "hessian, dict out": lambda api, xp: api.hessian(lambda x: {"a": x * x, "b": x[0]})(xp.asarray(x3)),
    "hessian, empty": lambda api, xp: api.hessian(lambda x: x.sum())(xp.zeros((0,))),
    "hessian of integers": lambda api, xp: api.hessian(lambda x: x * 1.0)(3),
    "jvp": lambda api, xp: api.jvp(f2, (xp.asarray(x3), xp.asarray(y2)), (xp.ones(3), xp.ones(2))),
    "jvp, lists": lambda api, xp: api.jvp(lambda x: x * x, [xp.asarray(x3)], [xp.ones(3)]),
    "jvp, no tuples": lambda api, xp: api.jvp(lambda x: x * x, xp.asarray(x3), xp.ones(3)),
    "jvp, lengths": lambda api, xp: api.jvp(lambda x: x * x, (xp.asarray(x3),), (xp.ones(3), xp.ones(3))),
    "jvp, shapes": lambda api, xp: api.jvp(lambda x: x * x, (xp.asarray(x3),), (xp.ones(2),)),
    "jvp, integers": lambda api, xp: api.jvp(lambda x: x * 1.0, (3,), (1.0,)),
    "jvp, integer tangents": lambda api, xp: api.jvp(lambda x: x, (xp.asarray(x3),), (xp.asarray([1, 2, 3]),)),
    "vjp": lambda api, xp: api.vjp(f2, xp.asarray(x3), xp.asarray(y2))[1](xp.asarray(2.0)),
    "vjp, shapes": lambda api, xp: api.vjp(f2, xp.asarray(x3), xp.asarray(y2))[1](xp.ones(3)),
    "vjp, structures": lambda api, xp: api.vjp(f2, xp.asarray(x3), xp.asarray(y2))[1]((xp.asarray(2.0),)),
    "vjp, aux": lambda api, xp: api.vjp(lambda x: (x * x, "kept"), xp.asarray(x3), has_aux=True)[2],
}  # fmt: skip


def outcome(case: Call, api: Any, xp: Any) -> Any:
    """What came back with arrays of NumPy as leaves, or the type of the error."""
    try:
        return on_host(case(api, xp))
    except Exception as error:  # noqa: BLE001 - whatever it is, its type is compared
        return type(error)


def on_host(tree: Any) -> Any:
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*map(on_host, tree))
    if isinstance(tree, tuple | list):
        return type(tree)(map(on_host, tree))
    if isinstance(tree, dict):
        return {key: on_host(tree[key]) for key in sorted(tree)}
    return tree if tree is None or isinstance(tree, str) else np.asarray(tree)


def assert_same_outcome(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, type):
        assert ours is theirs, f"JAX raises {theirs.__name__}, ours: {ours!r}"
    elif isinstance(theirs, np.ndarray) and theirs.dtype != FLOAT0:
        assert isinstance(ours, np.ndarray), f"JAX returns an array, ours: {ours!r}"
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours, theirs, rtol=1e-3 if theirs.dtype == np.float32 else 1e-6, atol=1e-6)
    elif isinstance(theirs, np.ndarray):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        assert_same_outcome(list(ours.values()), list(theirs.values()))
    elif isinstance(theirs, tuple | list):
        assert type(ours) is type(theirs)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same_outcome(one, other)
    else:
        assert ours == theirs


@pytest.mark.parametrize("case", AGAINST_JAX.values(), ids=AGAINST_JAX.keys())
def test_structure_shape_dtype_and_error_are_those_of_jax(case):
    jax = pytest.importorskip("jax", reason="jax is not installed: pip install jax")
    jax.config.update("jax_enable_x64", True)
    assert_same_outcome(outcome(case, ad, np), outcome(case, jax, jax.numpy))


def test_at_least_forty_cases_are_compared():
    assert len(AGAINST_JAX) >= 40
