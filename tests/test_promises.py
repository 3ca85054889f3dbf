"""The promises of the design, one by one; promise 1 has a module of its own, `test_never_wrong_in_silence`."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace

import arraydiff as ad
from tests.claims import by
from tests.helpers import Backend, Recorder, assert_like, is_traced, tonumpy
from tests.problems import named

METHODS = ["adaptive", "untraced", "exact", "complex_step", "richardson", "central", "forward", "backward"]
SCHEMES: list[dict[str, Any]] = [
    *map(by, METHODS),
    *({"method": "central", "order": order} for order in (4, 6, 8)),
    *({"method": method, "order": 2} for method in ("forward", "backward")),
]
X = np.array([0.7, -1.3, 2.0])
CORRELATION, ROSENBROCK = named("correlation", "rosenbrock")


def scheme_name(scheme: dict[str, Any]) -> str:
    return "-".join(map(str, scheme.values())) if "trace" not in scheme else "untraced"


every_method = pytest.mark.parametrize("method", METHODS)
every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_name)


def cubes(x):
    return (x**3).sum()


def leaky(x):
    """Refuses the complex step, so that the ladder has to work."""
    return (np.abs(x) ** 3 + np.exp(x.real)).sum()


# ---- promise 2: x comes back untouched
class TestPromise2XComesBackUntouched:
    @every_method
    def test_f_never_sees_the_array_of_the_user(self, method):
        x = X.copy()

        def f(p):
            assert not np.shares_memory(p, x)
            p *= 2
            return cubes(p)

        ad.grad(f, **by(method))(x)
        ad.jacobian(lambda p: np.stack([f(p)]), **by(method))(x)
        np.testing.assert_array_equal(x, X)

    @every_method
    @pytest.mark.parametrize("fatal", [KeyboardInterrupt, ValueError])
    def test_also_after_an_exception_in_f(self, method, fatal):
        x, calls = X.copy(), []

        def f(p):
            calls.append(1)
            p *= 2
            if len(calls) > 1 or fatal is ValueError:
                raise fatal
            return cubes(p)

        with pytest.raises(fatal):
            ad.grad(f, **by(method))(x)
        np.testing.assert_array_equal(x, X)

    def test_arguments_that_are_not_differentiated_pass_as_the_same_objects(self):
        data, seen = np.arange(3.0), []

        def f(p, data, *, more):
            seen.append((data, more))
            return (p * data).sum()

        ad.grad(f)(X, data, more=data)
        assert all(one is data and other is data for one, other in seen)

    @pytest.mark.parametrize("x", [X[::-1], np.asfortranarray(np.ones((2, 3))), np.ones((4, 4))[::2, ::2]])
    def test_f_gets_a_contiguous_array_whatever_the_strides_of_x(self, x):
        def f(p):
            assert p.flags.c_contiguous
            assert p.flags.writeable
            return cubes(p)

        np.testing.assert_allclose(ad.grad(f)(x), 3 * x**2, rtol=1e-12)


# ---- promise 3: what comes in decides what goes out
class TestPromise3WhatComesInDecidesWhatGoesOut:
    def test_namespace_device_and_dtype_are_those_of_x_in_every_transform(self, backend):
        x = backend.asarray(X)

        def f(p):
            xp = array_namespace(p)
            return xp.sum(p * p * p)

        # an operation costs 50 ms on JAX where a shape is new, and the ladder has many of them
        cheap = {"method": "central", "unreliable": "ignore"} if backend is Backend.JAX else {}
        outputs = {
            "grad": ad.grad(f, **cheap)(x),
            "value_and_grad": ad.value_and_grad(f, **cheap)(x)[1],
            "value": ad.value_and_grad(f, **cheap)(x)[0],
            "jacobian": ad.jacobian(lambda p: p * p, **cheap)(x),
            "hessian": ad.hessian(f, **cheap)(x),
            "jvp": ad.jvp(f, (x,), (x,), **cheap)[1],
            "vjp": ad.vjp(lambda p: p * p, x, **cheap)[1](x)[0],
            "hvp": ad.hvp(f, (x,), (x,), **cheap),
            "derivative": ad.derivative(lambda p: p * p, **cheap)(x),
        }
        shapes = {"value": (), "jacobian": (3, 3), "hessian": (3, 3), "jvp": ()}
        for name, array in outputs.items():
            assert_like(array, x, shapes.get(name, (3,)), name)

    def test_each_argument_decides_for_its_own_derivative(self):
        x, y = np.array([1.0, 2.0], dtype=np.float32), np.array([3.0, 4.0])
        narrow, wide = ad.grad(lambda x, y: (x * x * y).sum(), (0, 1))(x, y)
        assert_like(narrow, x)
        assert_like(wide, y)
        np.testing.assert_allclose(narrow, 2 * x * y, rtol=1e-3)
        np.testing.assert_allclose(wide, x * x, rtol=1e-6)

    def test_two_libraries_at_once_are_refused(self):
        pytest.importorskip("torch", reason="torch is not installed: pip install torch")
        with Backend.TORCH.active() as torch, pytest.raises(TypeError, match="librar"):
            ad.grad(lambda x, y: 1.0, (0, 1))(X, torch.asarray(X))


# ---- promise 5: bounds are never crossed
class TestPromise5BoundsAreNeverCrossed:
    @every_scheme
    @pytest.mark.parametrize("vectorized", [False, True], ids=["one-by-one", "batched"])
    @pytest.mark.parametrize("where", ["at the lower", "at the upper", "near", "tight"])
    @pytest.mark.parametrize("f", [cubes, leaky], ids=["analytic", "leaky"])
    def test_at_any_order_in_any_mode(self, f, where, vectorized, scheme):
        low = {"at the lower": X, "at the upper": X - 1, "near": X - 1e-9, "tight": X - 1e-3 * np.array([1, 0, 0.1])}[
            where
        ]
        high = {"at the lower": X + 1, "at the upper": X, "near": X + 1e-7, "tight": X + 1e-3}[where]
        seen: list[np.ndarray] = []

        def recording(p):
            if not is_traced(p):
                seen.append(p.real.reshape(3, -1).copy())
            return (np.abs(p) ** 3 if f is leaky else p**3).sum(axis=0)

        options = {**scheme, "vectorized": vectorized, "bounds": (low, high), "unreliable": "ignore"}
        ad.grad(recording, **options)(X)
        points = np.concatenate(seen, axis=1)
        assert np.all(points >= low[:, None])
        assert np.all(points <= high[:, None])
        assert points.shape[1] > 1

    @every_scheme
    @pytest.mark.parametrize("step", [{"step_size": 0.5}, {"relative_step": 0.5}, {"min_step": 0.5}])
    def test_with_steps_longer_than_the_room(self, step, scheme):
        seen = Recorder(leaky)
        bounds = (X - 0.1, X + 0.2)
        refused = nullcontext()
        if scheme == by("exact"):
            refused = pytest.raises(TypeError, match="a step was given")
        elif "min_step" not in step:  # it is given to the letter
            refused = pytest.raises(ValueError, match=r"step_size.*fit between its bounds")
        with refused:
            ad.grad(seen, **scheme, **step, bounds=bounds, unreliable="ignore")(X)
        assert not seen.seen or np.all((seen.coordinates.real >= bounds[0]) & (seen.coordinates.real <= bounds[1]))
        assert seen.seen or scheme == by("exact")

    @pytest.mark.parametrize("transform", [ad.hessian, ad.jacobian, ad.value_and_grad], ids=lambda t: t.__name__)
    def test_in_every_transform(self, transform):
        seen = Recorder(leaky)
        transform(seen, bounds=(X, X + 1), unreliable="ignore")(X)
        assert np.all((seen.coordinates.real >= X) & (seen.coordinates.real <= X + 1))

    def test_in_products(self):
        seen = Recorder(leaky)
        bounds = ((X,), (X + 1,))  # of the structure of the primals
        ad.jvp(seen, (X,), (np.array([1.0, -2.0, 0.5]),), bounds=bounds, unreliable="ignore")
        ad.hvp(seen, (X,), (np.array([1.0, -2.0, 0.5]),), bounds=bounds, unreliable="ignore")
        assert np.all((seen.coordinates.real >= X) & (seen.coordinates.real <= X + 1))

    def test_bounds_of_scipy_are_understood(self):
        optimize = pytest.importorskip("scipy.optimize", reason="scipy is not installed: pip install scipy")
        seen = Recorder(leaky)
        ad.grad(seen, bounds=optimize.Bounds(X, X + 1), unreliable="ignore")(X)
        assert np.all((seen.coordinates.real >= X) & (seen.coordinates.real <= X + 1))


# ---- promise 6: one failing evaluation costs its own entries only
class TestPromise6OneFailureCostsItsOwnEntriesOnly:
    @every_method
    def test_an_exception_wherever_a_parameter_moves_costs_that_entry(self, method):
        def f(x):
            if x[1] != X[1]:
                raise OverflowError("the model does not converge")
            return cubes(x)

        result = ad.grad(f, **by(method)).result(X)
        assert np.isnan(result.gradient[1])
        assert result.status[1] & ad.Status.FAILED
        np.testing.assert_allclose(result.gradient[[0, 2]], 3 * X[[0, 2]] ** 2, rtol=1e-4)
        assert not result.status[0] & ad.Status.FAILED
        assert any(isinstance(error, OverflowError) for error in result.exceptions)
        assert "OverflowError" in result.explain()

    @pytest.mark.parametrize("method", ["adaptive", "untraced", "exact", "richardson", "central"])
    @pytest.mark.parametrize("fails", ["raises", "nan"])
    def test_a_failure_on_one_side_is_recovered_from_the_other(self, fails, method):
        def f(x):
            if np.real(x[1]) > X[1]:
                if fails == "raises":
                    raise OverflowError("beyond the edge")
                return np.nan
            return np.sum(np.abs(x) ** 3)

        result = ad.grad(f, **by(method), unreliable="ignore").result(X)
        exact = 3 * X * np.abs(X)
        np.testing.assert_allclose(result.gradient[[0, 2]], exact[[0, 2]], rtol=1e-6)
        assert result.status[1] & (ad.Status.ONE_SIDED | ad.Status.FAILED)
        if not result.status[1] & ad.Status.FAILED:
            np.testing.assert_allclose(result.gradient[1], exact[1], rtol=1e-2)

    @every_method
    def test_if_all_points_fail_the_first_exception_is_raised(self, method):
        def f(x):
            if np.any(x != X):
                raise OverflowError("nothing but x")
            return cubes(x)

        with pytest.raises(OverflowError, match="nothing but x"):
            ad.grad(f, **by(method))(X)

    @every_method
    def test_an_exception_at_x_itself_goes_through_unchanged(self, method):
        error = LookupError("no such model")

        def f(x):
            raise error

        with pytest.raises(LookupError) as caught:
            ad.grad(f, **by(method))(X)
        assert caught.value is error

    @every_method
    def test_an_interrupt_goes_through_at_once(self, method):
        calls = []

        def f(x):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return cubes(x)

        with pytest.raises(KeyboardInterrupt):
            ad.grad(f, **by(method))(X)
        assert len(calls) == 3

    @every_method
    @pytest.mark.parametrize("mode", ["batched", "threads"])
    def test_also_in_batches_and_in_threads(self, mode, method):
        def f(x):
            if np.any(x[1] != X[1]):
                raise OverflowError("the model does not converge")
            return (x**3).sum(axis=0)

        with ThreadPoolExecutor(2) as pool:
            options = {"vectorized": True} if mode == "batched" else {"workers": pool.map}
            result = ad.grad(f, **by(method), **options).result(X)
        assert np.isnan(result.gradient[1])
        np.testing.assert_allclose(result.gradient[[0, 2]], 3 * X[[0, 2]] ** 2, rtol=1e-4)


# ---- promise 8: serial and parallel evaluation give the same bits
class TestPromise8SerialAndParallelGiveTheSameBits:
    @every_scheme
    @pytest.mark.parametrize("f", [cubes, leaky], ids=["analytic", "leaky"])
    def test_threads_give_the_bits_of_one_thread(self, f, scheme):
        alone = ad.grad(f, **scheme, chunk_size=1).result(X)
        with ThreadPoolExecutor(4) as pool:
            together = ad.grad(f, **scheme, workers=pool.map, chunk_size=1).result(X)
        for name in ("gradient", "error_estimate", "step_sizes", "status", "value"):
            np.testing.assert_array_equal(getattr(together, name), getattr(alone, name), err_msg=name)

    @every_scheme
    @pytest.mark.parametrize("axis", [-1, 0])
    def test_batches_agree_to_the_rounding_of_f(self, axis, scheme):
        def f(x):
            return (x * x * x).sum(axis=0 if x.ndim == 1 or axis == -1 else 1)

        alone = ad.grad(f, **scheme)(X)
        batched = ad.grad(f, **scheme, vectorized=True, batch_axis=axis)(X)
        np.testing.assert_allclose(
            batched, alone, rtol=1e-6 if scheme.get("method") in ("forward", "backward") else 1e-8
        )

    @every_scheme
    @pytest.mark.parametrize("chunk_size", [1, 2, 100])
    def test_the_size_of_chunks_changes_the_last_bit_at_most(self, chunk_size, scheme):
        usual = ad.jacobian(CORRELATION, **scheme)(CORRELATION.x)
        chunked = ad.jacobian(CORRELATION, **scheme, chunk_size=chunk_size)(CORRELATION.x)
        np.testing.assert_allclose(chunked, usual, rtol=1e-13, atol=1e-16)


# ---- promise 9: counts are true
class TestPromise9CountsAreTrue:
    @every_scheme
    @pytest.mark.parametrize("f", [cubes, leaky], ids=["analytic", "leaky"])
    @pytest.mark.parametrize("transform", [ad.grad, ad.hessian, ad.jacobian], ids=lambda t: t.__name__)
    def test_calls_and_points_are_what_a_recording_f_saw(self, transform, f, scheme):
        seen = Recorder(f)
        result = transform(seen, **scheme, unreliable="ignore").result(X)
        assert (result.function_calls, result.function_points) == (seen.calls, seen.points)
        assert 1 <= result.rounds <= result.function_points

    @every_scheme
    @pytest.mark.parametrize("axis", [-1, 0])
    def test_in_batches(self, axis, scheme):
        seen = Recorder(lambda x: (x * x * x).sum(axis=1 + axis if axis else 1), batch_axis=axis)
        result = ad.grad(seen, **scheme, vectorized=True, batch_axis=axis).result(X)
        assert (result.function_calls, result.function_points) == (seen.calls, seen.points)
        assert seen.calls < seen.points

    @every_method
    @pytest.mark.parametrize("vectorized", [False, True], ids=["one-by-one", "batched"])
    def test_where_f_raises(self, vectorized, method):
        def f(x):
            if np.any(x[1] != X[1]):
                raise OverflowError
            return (x**3).sum(axis=0)

        seen = Recorder(f, batch_axis=-1 if vectorized else None)
        result = ad.grad(seen, **by(method), vectorized=vectorized, unreliable="ignore").result(X)
        assert (result.function_calls, result.function_points) == (seen.calls, seen.points)

    def test_of_products(self):
        seen = Recorder(cubes)
        result = ad.jvp(seen, (X,), (X,), full_output=True)
        assert (result.function_calls, result.function_points) == (seen.calls, seen.points)
        seen = Recorder(cubes)
        result = ad.hvp(seen, (X,), (X,), full_output=True)
        assert (result.function_calls, result.function_points) == (seen.calls, seen.points)

    def test_of_everything_inside_a_record(self):
        seen = Recorder(cubes)
        with ad.record() as total:
            ad.grad(seen)(X)
            ad.hessian(seen)(X)
            ad.jvp(seen, (X,), (X,))
        assert (total.calls, total.points) == (seen.calls, seen.points)

    @pytest.mark.parametrize("method", ["adaptive", "untraced", "exact", "richardson", "central"])
    @pytest.mark.parametrize("most", [1, 3, 8, 20])
    def test_max_evaluations_is_never_exceeded(self, most, method):
        seen = Recorder(leaky)
        ad.grad(seen, **by(method), max_evaluations=most, unreliable="ignore")(X)
        assert seen.points <= most


# ---- promise 10: errors name the argument and the remedy
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "unknown option": (lambda: ad.grad(cubes, setp_size=1), TypeError, "setp_size.*step_size"),
    "step of zero": (lambda: ad.grad(cubes, step_size=0.0), ValueError, "step_size.*> 0"),
    "negative step": (lambda: ad.grad(cubes, relative_step=-1.0), ValueError, "relative_step.*> 0"),
    "two steps": (lambda: ad.grad(cubes, step_size=1.0, relative_step=1.0), ValueError, "step_size.*leave"),
    "method": (lambda: ad.grad(cubes, method="centrall"), ValueError, "method.*central"),
    "order": (lambda: ad.grad(cubes, method="central", order=3), ValueError, "order.*2, 4, 6, 8"),
    "order of adaptive": (lambda: ad.grad(cubes, order=4), ValueError, "order.*leave it out"),
    "pairs as bounds": (lambda: ad.grad(cubes, bounds=[(0, 1)] * 3), ValueError, "bounds.*zip"),
    "crossed bounds": (lambda: ad.grad(cubes, bounds=(1.0, 0.0))(X), ValueError, "bounds"),
    "x outside its bounds": (lambda: ad.grad(cubes, bounds=(0.0, 5.0))(X), ValueError, "1.*bounds|bounds.*1"),
    "shape of bounds": (lambda: ad.grad(cubes, bounds=(np.zeros(2), 5.0))(X), ValueError, "bounds"),
    "shape of scale": (lambda: ad.grad(cubes, scale=np.ones(2))(X), ValueError, "scale"),
    "shape of step_size": (lambda: ad.grad(cubes, step_size=np.ones(2))(X), ValueError, "step_size"),
    "step beyond bounds": (lambda: ad.grad(cubes, step_size=9.0, bounds=(X - 1, X + 1))(X), ValueError, "step_size.*smaller"),
    "unreliable": (lambda: ad.grad(cubes, unreliable="shout"), ValueError, "unreliable.*warn"),
    "workers": (lambda: ad.grad(cubes, workers=0), ValueError, "workers.*Executor.*map"),
    "config": (lambda: ad.grad(cubes, config={"order": 2}), TypeError, "config"),
    "integers": (lambda: ad.grad(cubes)(np.array([1, 2])), TypeError, "float"),
    "no function": (lambda: ad.grad(X), TypeError, "callable"),
    "vector output": (lambda: ad.grad(lambda x: x)(X), TypeError, "scalar-output.*jacobian"),
    "not vectorized": (lambda: ad.grad(lambda x: x.sum(), vectorized=True)(X), ValueError, "vectorized"),
    "list inside": (lambda: ad.grad(lambda x: np.sum(x**2))([1.0, 2.0]), TypeError, r"np\.asarray"),
}  # fmt: skip


class TestPromise10ErrorsNameTheArgumentAndTheRemedy:
    @pytest.mark.parametrize("name", REFUSED)
    def test_what_is_refused_is_refused_by_name(self, name):
        call, kind, text = REFUSED[name]
        with pytest.raises(kind, match=text):
            call()

    @pytest.mark.parametrize("status", list(ad.Status))
    def test_every_status_has_a_remedy(self, status):
        assert len(status.remedy.split()) > 3


# ---- promise 11: the same f, x and config give the same bits
class TestPromise11TheSameInputGivesTheSameBits:
    @every_scheme
    @pytest.mark.parametrize("f", [cubes, leaky], ids=["analytic", "leaky"])
    def test_whatever_was_called_before(self, f, scheme):
        first = ad.grad(f, **scheme, unreliable="ignore")(X)
        g = ad.grad(f, **scheme, unreliable="ignore")
        g(X + 1)
        g(np.ones((2, 2)))
        np.random.default_rng().random(3)
        np.testing.assert_array_equal(g(X), first)
        np.testing.assert_array_equal(g(X), first)

    @every_method
    def test_in_every_thread(self, method):
        g = ad.grad(leaky, **by(method), unreliable="ignore")
        points = [X * (1 + 0.1 * i) for i in range(16)]
        alone = [g(x) for x in points]
        with ThreadPoolExecutor(4) as pool:
            np.testing.assert_array_equal(list(pool.map(g, points)), alone)

    def test_no_global_generator_is_touched(self):
        np.random.seed(3)  # noqa: NPY002 - the legacy global generator is what must not move
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        ad.grad(leaky)(X)
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

    def test_an_attempt_that_failed_once_is_not_needed_for_the_bits_of_the_next(self):
        g = ad.grad(lambda x: math.exp(x[0]) * x[1])  # math refuses complex numbers, and the callable may remember that
        first = g(X)
        np.testing.assert_array_equal(g(X), first)
        g.forget()
        np.testing.assert_array_equal(g(X), first)

    @every_method
    def test_on_every_library_twice(self, backend, method):
        x = backend.asarray(ROSENBROCK.x[:3])
        g = ad.grad(ROSENBROCK, **by(method))
        if method == "exact" and backend is Backend.DASK:
            with pytest.raises(TypeError, match="not followed without"):
                g(x)
            return
        np.testing.assert_array_equal(tonumpy(g(x)), tonumpy(g(x)))
