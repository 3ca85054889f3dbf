"""Batches: what vectorized="auto" finds out, that it is never wrong, what it remembers, and what batches cost."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from tests import cupy_standin
from tests.helpers import Backend, Recorder, assert_array, tonumpy

X = np.array([0.7, -1.3, 2.0])
SQUARE = np.array([[1.0, 0.5, 0.2], [0.1, 2.0, 0.3], [0.4, 0.6, 3.0]])
DATA = np.array([0.5, 1.5, 1.0, 2.0])
METHODS = ["adaptive", "complex_step", "richardson", "central", "forward"]
BLOCKS, VMAP, ALONE = "blocks of points, as f takes them", "by the vmap of the array library", "one point a call"


def told(result: Any) -> str:
    """What the result says of batches."""
    (line,) = [line for line in result.explain().splitlines() if line.startswith("vectorized='auto'")]
    return line


def natural(x):
    return np.sum(np.sin(x) * x, axis=0)


def mean_square_by_row(x):
    """Weighs with the mean of the whole block."""
    return np.sum(x**2, axis=0) / np.mean(np.abs(x))


NOT_VECTORIZED: dict[str, Callable[[Any], Any]] = {
    "sums over the block": lambda x: np.sum(x**2),
    "has the norm of the block": np.linalg.norm,
    "divides by the largest of the block": lambda x: np.sum(x**2, axis=0) / np.max(np.abs(x)),
    "divides by the mean of the block": mean_square_by_row,
    "takes the last axis": lambda x: x[..., -1] ** 2 * x[..., 0],
    "sums the last axis": lambda x: np.sum(x**3, axis=-1),
    "sorts along the block": lambda x: np.sort(x)[0] + 0 * x[1],
    "accumulates along the block": lambda x: np.maximum.accumulate(x, axis=-1)[0] * x[1],
    "is a quadratic form": lambda x: x @ SQUARE @ x,
    "calls float": lambda x: float(x[0]) ** 2 + float(x[1]) * float(x[2]),
    "branches": lambda x: x[0] ** 2 * x[1] if x[2] > 0 else x[1],
    "compares with data of its own": lambda x: np.sum((x[0] * DATA + x[1] - DATA**2) ** 2),
    "refuses two axes": lambda x: np.sum(x**2) if x.ndim == 1 else int("no"),
    "gives too few": lambda x: natural(x)[: x.shape[1] - 1] if x.ndim == 2 else natural(x),
    "keeps the points apart": lambda x: natural(x)[None] if x.ndim == 2 else natural(x),
    "rounds to single": lambda x: natural(x).astype(np.float32) if x.ndim == 2 else natural(x),
}


class TestNeverWrong:
    @pytest.mark.parametrize("method", ["central", "adaptive"])
    @pytest.mark.parametrize("f", NOT_VECTORIZED.values(), ids=NOT_VECTORIZED.keys())
    def test_an_f_that_takes_no_blocks_is_called_point_by_point(self, f, method):
        auto = ad.grad(f, method=method, vectorized="auto").result(X)
        np.testing.assert_array_equal(auto.gradient, ad.grad(f, method=method)(X))
        assert ALONE in told(auto)

    @pytest.mark.parametrize("n", range(1, 8))
    @pytest.mark.parametrize("x", [np.arange(1.0, 8.0), np.arange(7.0, 0.0, -1.0)], ids=["up", "down"])
    @pytest.mark.parametrize("bounded", [False, True])
    def test_whatever_the_number_of_parameters(self, n, x, bounded):
        x = x[:n]
        square = np.eye(n) + 0.1 * np.arange(n)
        for f in (
            lambda x: x @ square,
            lambda x: np.sort(x)[..., :n],
            lambda x: np.maximum.accumulate(x, axis=-1),
            lambda x: np.cumsum(x, axis=-1),
            lambda x: x / np.max(x),
            lambda x: x * np.arange(1.0, n + 1),
        ):
            options: dict[str, Any] = {"method": "central", "unreliable": "ignore"}
            if bounded:
                options["bounds"] = (x, 10.0)
            auto = ad.jacobian(f, vectorized="auto", **options)(x)
            np.testing.assert_allclose(auto, ad.jacobian(f, **options)(x), rtol=1e-9, atol=1e-9)

    def test_a_block_that_is_another_function_elsewhere_is_given_up(self):
        def f(x):
            return natural(x) * (1 if x.ndim == 1 or np.all(x[0] > 0) else 2)

        g = ad.grad(f, method="central", vectorized="auto")
        assert BLOCKS in told(g.result(X))
        there = g.result(-X)
        np.testing.assert_array_equal(there.gradient, ad.grad(f, method="central")(-X))
        assert "its value at x was not f(x)" in told(there)

    def test_a_block_that_fails_later_is_done_one_by_one(self):
        def f(x):
            if x.ndim == 2 and x.shape[1] > 5:
                raise RuntimeError("too many")
            return natural(x)

        seen = Recorder(f)
        result = ad.grad(seen, method="central", vectorized="auto").result(X)
        np.testing.assert_array_equal(result.gradient, ad.grad(natural, method="central")(X))
        assert "since a block failed: RuntimeError: too many" in told(result)
        assert result.function_calls == seen.calls

    def test_other_data_in_the_same_call_are_probed_anew(self):
        def f(x, data):
            return np.sum((x[0] * data + x[1] - data**2) ** 2)

        g = ad.grad(f, method="central", vectorized="auto")
        for length in range(1, 9):
            data = np.linspace(0.5, 2.0, length)
            np.testing.assert_array_equal(g(X, data), ad.grad(f, method="central")(X, data))

    def test_an_exception_at_x_goes_through_and_a_wrong_output_is_told_as_ever(self):
        with pytest.raises(ZeroDivisionError):
            ad.grad(lambda x: 1 / 0, vectorized="auto")(X)
        with pytest.raises(TypeError, match="scalar-output"):
            ad.grad(lambda x: x, vectorized="auto")(X)


class TestFound:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("axis", [-1, 0])
    def test_an_f_that_takes_blocks_gets_them(self, method, axis):
        def f(x):
            return np.sum(np.sin(x) * x, axis=-1 if axis == 0 else 0)

        seen = Recorder(f)
        g = ad.grad(seen, method=method, vectorized="auto", batch_axis=axis)
        g(X)
        seen.calls, seen.seen = 0, []
        again = g.result(X)
        given = ad.grad(f, method=method, vectorized=True, batch_axis=axis).result(X)
        np.testing.assert_array_equal(again.gradient, given.gradient)
        assert BLOCKS in told(again)
        assert again.function_calls == seen.calls == given.function_calls + 1  # x alone
        assert again.function_points == given.function_points + 1
        assert [x.ndim for x in seen.seen].count(1) == 1

    def test_every_call_counts_those_of_the_probe_too(self):
        seen = Recorder(natural)
        result = ad.grad(seen, method="central", vectorized="auto").result(X)
        assert result.function_calls == seen.calls == 8  # f(x) and three points alone, all four, f(x), its ray, columns
        assert result.function_points == sum(1 if x.ndim == 1 else x.shape[1] for x in seen.seen)

    def test_an_elementwise_derivative_a_product_and_a_hessian_take_blocks(self):
        first = ad.derivative(np.sin, method="central", vectorized="auto").result(X)
        np.testing.assert_allclose(first.derivative, np.cos(X), rtol=1e-8)
        assert BLOCKS in told(first)
        _, tangent = ad.jvp(natural, (X,), (np.ones(3),), vectorized="auto")
        np.testing.assert_allclose(tangent, np.sum(np.cos(X) * X + np.sin(X)), rtol=1e-12)
        many, few = Recorder(natural), Recorder(natural)
        H = ad.hessian(few, method="central", order=4, vectorized="auto")(X)
        np.testing.assert_allclose(H, ad.hessian(many, method="central", order=4)(X), rtol=1e-6, atol=1e-6)
        assert few.calls < many.calls

    @pytest.mark.parametrize("f", [natural, NOT_VECTORIZED["sums over the block"]], ids=["natural", "not"])
    def test_a_batch_of_x_is_equal_to_a_loop(self, f):
        xs = np.stack([X, -X, 2 * X])
        together = ad.grad(f, method="central", vectorized="auto", in_axes=0)(xs)
        np.testing.assert_array_equal(together, [ad.grad(f, method="central", vectorized="auto")(x) for x in xs])

    def test_aux_is_that_of_x(self):
        def f(x):
            return natural(x), x.shape

        (_, aux), _ = ad.value_and_grad(f, has_aux=True, vectorized="auto")(X)
        assert aux == (3,)

    def test_trees_and_other_arguments_go_along(self):
        def f(p, factor):
            return {"sum": factor * np.sum(p["a"] ** 2, axis=0) * p["b"], "both": (p["a"], p["b"])}

        p = {"a": X, "b": 2.0}
        auto, alone = (ad.jacobian(f, method="central", vectorized=v) for v in ("auto", False))
        assert BLOCKS in told(auto.result(p, 3.0))
        np.testing.assert_array_equal(auto(p, 3.0)["sum"]["a"], alone(p, 3.0)["sum"]["a"])
        np.testing.assert_array_equal(auto(p, 3.0)["both"][0]["a"], np.eye(3))


class TestRemembered:
    def test_the_probe_runs_once_a_structure_and_again_after_forget(self):
        seen = Recorder(natural)
        g = ad.grad(seen, method="central", vectorized="auto", unreliable="ignore")
        costs = []
        for x in (X, X, X[:2], X[:2], X.astype(np.float32)):
            seen.calls = 0
            g(x)
            costs.append(seen.calls)
        assert costs == [8, 3, 8, 3, 8]
        g.forget()
        seen.calls = 0
        g(X)
        assert seen.calls == 8

    def test_a_refusal_is_remembered_and_saves_the_attempt(self):
        seen = Recorder(lambda x: np.sum(x**2))
        g = ad.grad(seen, method="central", vectorized="auto")
        first, second = g.result(X), g.result(X)
        assert told(first) == told(second)
        assert second.function_calls == second.function_points == 11
        assert {x.ndim for x in seen.seen[-11:]} == {1}

    def test_the_second_call_gives_the_same_bits(self):
        for f in (natural, NOT_VECTORIZED["sums over the block"]):
            g = ad.grad(f, vectorized="auto")
            np.testing.assert_array_equal(g(X), g(X))

    def test_a_probe_that_could_not_be_made_is_made_again(self):
        def f(x):
            if np.any(x[0] > 1):
                raise OverflowError("beyond")
            return natural(x)

        g = ad.grad(f, method="central", vectorized="auto", unreliable="ignore")
        edge = np.array([1.0, 2.0, 3.0])
        assert "OverflowError" in told(g.result(edge))
        assert BLOCKS in told(g.result(np.array([0.2, 2.0, 3.0])))

    def test_what_was_found_can_be_pickled(self):
        g = ad.grad(natural, method="central", vectorized="auto")
        g(X)
        again = pickle.loads(pickle.dumps(g))
        assert again.result(X).function_calls == 3


class TestNotAsked:
    def test_with_a_factory_for_several_devices_it_is_not(self):
        result = ad.grad(lambda _device: natural, devices=["cpu"], vectorized="auto").result(X)
        np.testing.assert_allclose(result.gradient, np.cos(X) * X + np.sin(X), rtol=1e-12)
        assert ALONE in told(result)

    @pytest.mark.parametrize("option", [{"opaque": True}, {"max_evaluations": 30}], ids=lambda o: next(iter(o)))
    def test_f_sees_single_points_only(self, option):
        seen = Recorder(natural)
        result = ad.grad(seen, vectorized="auto", **option).result(X)
        assert {x.ndim for x in seen.seen} == {1}
        assert next(iter(option)) in told(result)
        assert result.function_points == seen.calls

    def test_a_numerical_derivative_inside_is_called_as_it_is(self):
        outer = ad.jacobian(ad.grad(natural), vectorized="auto", method="central").result(X)
        assert "itself a numerical derivative" in told(outer)


class TestOnEveryLibrary:
    def test_blocks_or_vmap_agree_with_single_points(self, backend):
        xp = backend.namespace
        x = backend.asarray(X)
        method = "richardson" if backend is Backend.DASK else "central"  # on lazy arrays central looks at no value
        g = ad.grad(lambda x: xp.sum(xp.sin(x) * x, axis=0), method=method, vectorized="auto")
        g(x)
        result = g.result(x)
        assert_array(result.gradient, np.cos(X) * X + np.sin(X), x, rtol=1e-8)
        assert (VMAP if backend in (Backend.JAX, Backend.TORCH) else BLOCKS) in told(result)
        assert result.function_calls == result.rounds + 1

    @pytest.mark.parametrize("backend", [Backend.DASK], indirect=True, ids=lambda b: b.value)
    def test_lazy_arrays_are_not_computed_to_find_out(self, backend):
        xp, x = backend.namespace, backend.asarray(X)
        result = ad.grad(lambda x: xp.sum(xp.sin(x), axis=0), method="central", vectorized="auto").result(x)
        assert "vectorized=True sends blocks" in told(result)

    @pytest.mark.parametrize("backend", [Backend.TORCH, Backend.JAX], indirect=True, ids=lambda b: b.value)
    def test_vmap_serves_functions_of_one_point(self, backend):
        matrix = backend.asarray(SQUARE)

        def f(p, scale):
            return scale * (p["x"] @ matrix @ p["x"]) * p["b"], "aux"

        p = {"x": backend.asarray(X), "b": backend.asarray(2.0)}
        result = ad.grad(f, has_aux=True, method="central", vectorized="auto").result(p, 3.0)
        assert VMAP in told(result)
        assert result.aux == "aux"
        np.testing.assert_allclose(tonumpy(result.value), 6 * X @ SQUARE @ X)
        assert_array(result.gradient["x"], 6 * (SQUARE + SQUARE.T) @ X, p["x"], rtol=1e-8)

    @pytest.mark.parametrize("backend", [Backend.TORCH, Backend.JAX], indirect=True, ids=lambda b: b.value)
    def test_what_vmap_refuses_is_tried_as_a_block_and_then_point_by_point(self, backend):
        x = backend.asarray(X)
        xp = backend.namespace

        def through_numpy(x):
            values = np.asarray(x)
            return xp.asarray(np.sum(values * values, axis=0))

        def item(x):
            return xp.sum(x * x) if float(x[0]) > 0 else x[1]

        for f, outcome in ((through_numpy, BLOCKS), (item, ALONE)):
            result = ad.grad(f, method="central", vectorized="auto", opaque=False, unreliable="ignore").result(x)
            np.testing.assert_allclose(tonumpy(result.gradient), 2 * X, rtol=1e-8)
            assert outcome in told(result)
        assert "vmap: " in told(result)

    @pytest.mark.parametrize("backend", [Backend.TORCH], indirect=True, ids=lambda b: b.value)
    def test_vmap_takes_complex_points(self, backend):
        torch = backend.module
        g = ad.grad(lambda x: torch.sum(torch.exp(x) * x), method="complex_step", vectorized="auto")
        result = g.result(torch.asarray(X))
        np.testing.assert_allclose(tonumpy(result.gradient), np.exp(X) * (1 + X), rtol=1e-14)
        assert VMAP in told(result)
        assert result.method_used == "complex_step"


class TestCosts:
    @pytest.mark.parametrize("axis", [-1, 0])
    def test_a_block_is_contiguous(self, axis):
        def f(x):
            assert x.flags.c_contiguous
            return np.sum(x * x, axis=-1 if axis == 0 else 0)

        np.testing.assert_allclose(ad.grad(f, vectorized=True, batch_axis=axis)(X), 2 * X, rtol=1e-12)

    @pytest.mark.parametrize("order", [2, 4, 6, 8])
    @pytest.mark.parametrize("chunk_size", [None, 53, 20, 7])
    def test_a_gradient_takes_one_call_a_chunk(self, order, chunk_size):
        x = np.linspace(0.5, 1.5, 53)
        chunks = -(-53 // (chunk_size or 53))
        seen = Recorder(natural, batch_axis=-1)
        result = ad.grad(seen, method="central", order=order, vectorized=True, chunk_size=chunk_size).result(x)
        assert result.function_calls == seen.calls == 1 + chunks  # f(x) goes out with the ray of the bars
        assert result.function_points == seen.points == 5 + order * 53
        auto = ad.grad(natural, method="central", order=order, vectorized="auto", chunk_size=chunk_size)
        auto(x)
        assert auto.result(x).function_calls == 2 + chunks

    @pytest.mark.parametrize(
        ("method", "stages"), [("central", 2), ("forward", 2), ("richardson", 4), ("complex_step", 3), ("adaptive", 3)]
    )
    def test_launches_do_not_grow_with_the_number_of_parameters(self, method, stages):
        counts = set()
        with Backend.CUPY.active():
            xp = Backend.CUPY.namespace
            g = ad.grad(lambda x: xp.sum(xp.sin(x), axis=0), method=method, vectorized=True, unreliable="ignore")
            for n in (10, 100, 1000):
                x = Backend.CUPY.asarray(np.tile([0.7, -0.7], n // 2))  # f(x) = 0: one line's share does not shrink
                g(x)  # what depends on n and the method alone is uploaded once
                cupy_standin.machine.launches = cupy_standin.machine.uploads = 0
                result = g.result(x)
                assert result.function_calls == result.rounds == stages
                counts.add((cupy_standin.machine.launches, cupy_standin.machine.uploads))
        assert len(counts) == 1
