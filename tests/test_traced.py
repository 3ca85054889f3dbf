"""Where nobody has values: derivatives inside JAX's transformations, and on Dask's arrays without computing them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from arraydiff.result import Status
from tests.helpers import Backend
from tests.problems import PROBLEMS, Problem

on_jax = pytest.mark.parametrize("backend", [Backend.JAX], ids=["jax"], indirect=True)
on_dask = pytest.mark.parametrize("backend", [Backend.DASK], ids=["dask"], indirect=True)
on_both = pytest.mark.parametrize("backend", [Backend.JAX, Backend.DASK], ids=["jax", "dask"], indirect=True)

POINT = np.array([0.3, -1.0, 2.0, 0.7])
LOWER, UPPER = (
    np.array([0.3, -2.0, 0.0, 0.7]),
    np.array([5.0, 0.0, 2.0, 0.7]),
)  # at the edge, inside, at the edge, pinned
FIXED: dict[str, dict[str, Any]] = {
    "central": {"method": "central"},
    "central-8": {"method": "central", "order": 8},
    "forward": {"method": "forward"},
    "backward-2": {"method": "backward", "order": 2},
    "fixed-ladder": {"method": "richardson", "relative_step": 1e-3},
    "step-given": {"step_size": 1e-3},
    "bounds": {"method": "central", "bounds": (LOWER, UPPER)},
    "noise": {"method": "central", "noise": 1e-10},
}
CHOSEN = [p for p in PROBLEMS if p.name in ("rosenbrock", "twelve_scales", "zeros")]


def vector(xp: Any) -> Callable[[Any], Any]:
    return lambda x: xp.exp(x[0] * x) * xp.sin(x)


def scalar(xp: Any) -> Callable[[Any], Any]:
    return lambda x: xp.sum(xp.exp(x[0] * x) * xp.sin(x))


def told(result: Any) -> tuple[Any, ...]:
    """The arrays of a result."""
    return result.derivative, result.error_estimate, result.status, result.step_sizes, result.value


def traced(backend: Backend, call: Callable[[Any], Any], x: Any) -> Any:
    """What `call` gives where x has no value: compiled by JAX, or computed by Dask in the end."""
    if backend is Backend.JAX:
        import jax

        return jax.jit(call)(x)
    import dask

    with dask.config.set(scheduler=refused):
        lazy = call(x)
    return dask.compute(lazy, scheduler="synchronous")[0]


def refused(*_args: Any, **_kwargs: Any) -> Any:
    raise AssertionError("a graph was computed")


def same(backend: Backend, got: Any, wanted: Any, what: str) -> None:
    """Equal to what rounding leaves of the difference quotients, which share no compiler."""
    got, wanted = backend.tonumpy(got), np.asarray(wanted)
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-9 * np.max(np.abs(wanted), initial=0.0), err_msg=what)


@on_both
@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_stage_method_gives_without_values_what_it_gives_with_them(name: str, backend: Backend) -> None:
    options = FIXED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = traced(
            backend, lambda x: told(ad.grad(scalar(backend.namespace), **options).result(x)), backend.asarray(POINT)
        )
    wanted = ad.grad(scalar(np), **options).result(POINT)
    gradient, error, status, steps, value = map(backend.tonumpy, got)
    same(backend, gradient, wanted.gradient, "gradient")
    np.testing.assert_array_equal(status, wanted.status)
    same(backend, value, wanted.value, "value")
    same(backend, steps, wanted.step_sizes, "steps")
    there = status != Status.FIXED
    assert np.all(error[there] <= 30 * wanted.error_estimate[there])  # whose smallest part is noise of the values


@on_jax
@pytest.mark.parametrize("problem", CHOSEN, ids=lambda problem: problem.name)
def test_problems_are_solved_inside_jit(problem: Problem, backend: Backend) -> None:
    import jax

    make = ad.grad if problem.scalar else ad.jacobian
    result = jax.jit(lambda x: told(make(problem, method="central", order=4).result(x)))(backend.asarray(problem.x))
    derivative, error, status = (np.asarray(part) for part in result[:3])
    assert np.all(np.abs(derivative - problem.exact) <= 3 * error + 1e-9 * problem.magnitude())
    assert not np.any(status)


@on_both
def test_every_transform_goes_through(backend: Backend) -> None:
    xp = backend.namespace
    calls: dict[str, Callable[[Any, Any], Any]] = {
        "value_and_grad": lambda xp, x: ad.value_and_grad(scalar(xp), method="central")(x),
        "jacobian": lambda xp, x: ad.jacobian(vector(xp), method="central")(x),
        "derivative": lambda xp, x: ad.derivative(xp.exp, method="central")(x),
        "second derivative": lambda xp, x: ad.derivative(xp.exp, n=2, method="central")(x),
        "jvp": lambda xp, x: ad.jvp(vector(xp), (x,), (x,), method="central"),
        "vjp": lambda xp, x: ad.vjp(vector(xp), x, method="central")[1](x),
        "hessian": lambda xp, x: ad.hessian(scalar(xp), method="central", order=4)(x),
    }
    got = traced(backend, lambda x: [call(xp, x) for call in calls.values()], backend.asarray(POINT[:2]))
    for (name, call), values in zip(calls.items(), got, strict=True):
        wanted = call(np, POINT[:2])
        pairs = zip(values, wanted, strict=True) if isinstance(wanted, tuple) else [(values, wanted)]
        for one, other in pairs:
            np.testing.assert_allclose(backend.tonumpy(one), other, rtol=1e-4, atol=1e-6, err_msg=name)


@on_jax
@pytest.mark.parametrize("options", [{}, {"method": "richardson"}, {"error_tolerance": 1e-3}], ids=str)
def test_what_decides_by_values_is_refused_inside_jit_before_f_is_called(
    options: dict[str, Any], backend: Backend
) -> None:
    import jax

    seen: list[Any] = []
    with pytest.raises(
        ValueError, match=r"jax.jit.*pass method='central'.*step_size=.*jax.grad; outside, the default works"
    ):
        jax.jit(ad.grad(seen.append, **options))(backend.asarray(POINT))
    assert not seen


@on_jax
def test_a_read_of_a_tracer_is_refused_by_the_same_error(backend: Backend) -> None:
    import jax

    planned = ad.grad(scalar(backend.namespace)).plan
    with pytest.raises(ValueError, match=r"jax.jit.*pass method='central'"):
        jax.jit(lambda x: planned(x)(x))(backend.asarray(POINT))


@on_jax
def test_ladders_inside_jit_take_no_bounds(backend: Backend) -> None:
    import jax

    limited = ad.grad(scalar(backend.namespace), step_size=1e-3, bounds=(-9.0, 9.0))
    with pytest.raises(ValueError, match="pass method='central', or leave bounds out"):
        jax.jit(limited)(backend.asarray(POINT))


@on_jax
def test_vmap_scan_and_grad_go_through_a_derivative(backend: Backend) -> None:
    import jax
    import jax.numpy as jnp

    slope = ad.grad(lambda x: jnp.sum(x**3), method="central", order=4)
    x = backend.asarray(POINT)
    np.testing.assert_allclose(jax.vmap(slope)(jnp.stack([x, 2 * x])), [3 * POINT**2, 12 * POINT**2], rtol=1e-9)
    after, _ = jax.lax.scan(lambda p, _: (p - 0.1 * slope(p), None), x, None, length=2)
    once = POINT - 0.3 * POINT**2
    np.testing.assert_allclose(after, once - 0.3 * once**2, rtol=1e-9)
    np.testing.assert_allclose(jax.grad(lambda p: jnp.sum(slope(p)))(x), 6 * POINT, rtol=1e-6)


@on_jax
def test_arguments_and_closures_may_be_traced_where_x_is_not(backend: Backend) -> None:
    import jax
    import jax.numpy as jnp

    x = backend.asarray(POINT)
    by_argument = jax.jit(lambda a: ad.grad(lambda p, a: jnp.sum(a * p * p), method="central")(x, a))(x)
    by_closure = jax.jit(lambda a: ad.grad(lambda p: jnp.sum(a * p * p), method="central")(x))(x)
    again = ad.grad(lambda p: jnp.sum(x * p * p), method="central")(x)  # nothing traced was kept
    for got in (by_argument, by_closure, again):
        np.testing.assert_allclose(got, 2 * POINT**2, rtol=1e-8)


@on_jax
def test_a_closure_that_vmap_traces_is_refused_where_x_is_not_traced(backend: Backend) -> None:
    import jax
    import jax.numpy as jnp

    x, batch = backend.asarray(POINT), backend.asarray([POINT, 2 * POINT])
    with pytest.raises(ValueError, match=r"pass what f closes over as one more argument of f"):
        jax.vmap(lambda a: ad.grad(lambda p: jnp.sum(a * p), method="central")(x))(batch)
    by_argument = jax.vmap(lambda a: ad.grad(lambda p, a: jnp.sum(a * p), method="central")(x, a))(batch)
    np.testing.assert_allclose(by_argument, [POINT, 2 * POINT], rtol=1e-8)


@pytest.mark.parametrize("backend", [Backend.TORCH], ids=["torch"], indirect=True)
@pytest.mark.parametrize("name", ["vmap", "grad"])
def test_transforms_of_torch_are_refused_with_what_to_use_instead(name: str, backend: Backend) -> None:
    import torch

    slope = ad.grad(lambda x: torch.sum(x**3), method="central")
    made = {"vmap": slope, "grad": lambda x: torch.sum(slope(x))}[name]
    with pytest.raises(ValueError, match=r"torch\.func.*pass in_axes=0"):
        getattr(torch.func, name)(made)(backend.asarray(POINT if name == "grad" else [POINT, POINT]))


@on_both
def test_flags_tell_without_values_what_failed(backend: Backend) -> None:
    xp = backend.namespace
    logarithm = lambda x: xp.log(xp.where(x > 0, x, xp.full_like(x, float("nan"))))  # noqa: E731
    jacobian = ad.jacobian(logarithm, method="central", step_size=1e-3)
    got = traced(backend, lambda x: told(jacobian.result(x)), backend.asarray([1e-4, 1.0]))
    derivative, error, status = map(backend.tonumpy, got[:3])
    assert status[0, 0] == Status.FAILED
    assert np.isnan(derivative[0, 0])
    assert error[0, 0] == np.inf
    np.testing.assert_allclose(derivative[1, 1], 1.0, rtol=1e-5)


@on_both
def test_x_outside_its_bounds_fails_in_all_entries(backend: Backend) -> None:
    make = ad.grad(scalar(backend.namespace), method="central", bounds=(0.0, 1.0))
    _, _, status, *_ = traced(backend, lambda x: told(make.result(x)), backend.asarray(POINT))
    assert np.all(backend.tonumpy(status) == Status.FAILED)


@on_both
def test_bounds_are_not_crossed_without_values(backend: Backend) -> None:
    xp = backend.namespace
    lower, upper = backend.asarray(LOWER), backend.asarray(UPPER)

    def inside(x: Any) -> Any:
        crossed = xp.any((x < lower) | (x > upper))
        return xp.sum(x * x) + xp.where(crossed, xp.asarray(float("nan")), xp.asarray(0.0))

    made = ad.grad(inside, method="central", bounds=(lower, upper))
    derivative, _, status, *_ = traced(backend, lambda x: told(made.result(x)), backend.asarray(POINT))
    np.testing.assert_allclose(backend.tonumpy(derivative), [0.6, -2.0, 4.0, 0.0], rtol=1e-4)
    one_sided, pinned = int(Status.ONE_SIDED), int(Status.FIXED)
    np.testing.assert_array_equal(backend.tonumpy(status), [one_sided, 0, one_sided, pinned])


@on_both
def test_unreliable_serves_nan_without_values_and_refuses_to_raise(backend: Backend) -> None:
    xp, x = backend.namespace, backend.asarray(POINT)
    wild = lambda x: xp.sum(xp.sin(1e9 * x))  # noqa: E731
    blanked = traced(backend, ad.grad(wild, method="central", unreliable="nan"), x)
    assert np.all(np.isnan(backend.tonumpy(blanked)))
    with pytest.raises(ValueError, match=r"unreliable='raise'.*pass unreliable='nan'"):
        traced(backend, ad.grad(wild, method="central", unreliable="raise"), x)


@on_jax
def test_the_complex_step_is_certified_by_arrays_inside_jit(backend: Backend) -> None:
    import jax
    import jax.numpy as jnp

    def told_of(f: Callable[[Any], Any], x: Any) -> list[np.ndarray]:
        return [np.asarray(part) for part in jax.jit(lambda x: told(ad.grad(f, method="complex_step").result(x)))(x)]

    for x in (backend.asarray(POINT), backend.asarray(POINT[:1])):
        gradient, error, status, *_ = told_of(scalar(jnp), x)
        exact = jax.grad(scalar(jnp))(x)
        assert np.all(np.abs(gradient - exact) <= error)
        assert np.all(error <= 1e-13)
        assert not np.any(status)
        _, error, status, *_ = told_of(lambda x: jnp.sum(jnp.abs(x) * x), x)  # abs drops imaginary parts
        assert np.all(status == Status.UNRESOLVED)
        assert np.all(error == np.inf)


@on_jax
def test_a_complex_step_that_is_refused_beforehand_is_an_error_inside_jit(backend: Backend) -> None:
    import jax

    with pytest.raises(ValueError, match=r"opaque=True.*pass method='central'"):
        jax.jit(ad.grad(scalar(backend.namespace), method="complex_step", opaque=True))(backend.asarray(POINT))


@on_jax
@pytest.mark.parametrize(("vectorized", "calls"), [(True, 3), ("auto", 14)])
def test_blocks_go_through_jit_and_auto_sends_none(vectorized: Any, calls: int, backend: Backend) -> None:
    import jax
    import jax.numpy as jnp

    slope = ad.grad(lambda x: jnp.sum(x**3, axis=0), method="central", vectorized=vectorized)
    with ad.record() as total:
        got = jax.jit(slope)(backend.asarray(POINT))
    np.testing.assert_allclose(got, 3 * POINT**2, rtol=1e-8)
    assert total.calls == calls


@on_dask
def test_a_fixed_stage_derivative_of_a_graph_is_a_graph(backend: Backend) -> None:
    import dask

    da = backend.module
    calls = 0

    def counted(block: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return np.sin(block)

    f = lambda x: da.sum(x.map_blocks(counted, dtype=float, meta=np.zeros(0)))  # noqa: E731
    with dask.config.set(scheduler=refused):
        result = ad.grad(f, method="central").result(backend.asarray(POINT))
    assert calls == 0
    np.testing.assert_allclose(result.gradient.compute(scheduler="synchronous"), np.cos(POINT), rtol=1e-8)
    assert calls > 0
    assert "entries are vouched for" in result.explain()


@on_dask
def test_the_adaptive_method_computes_a_graph_once_a_stage(backend: Backend) -> None:
    from dask.callbacks import Callback

    class Counting(Callback):  # type: ignore[misc]
        computed = 0

        def _start(self, _graph: Any) -> None:
            type(self).computed += 1

    with Counting():
        result = ad.derivative(backend.module.sin, method="richardson").result(backend.asarray(POINT))
    assert Counting.computed >= result.rounds
    with Counting():
        before = Counting.computed
        result.derivative.compute(scheduler="synchronous")
    assert Counting.computed == before + 1


@on_jax
def test_records_count_what_is_traced(backend: Backend) -> None:
    import jax

    with ad.record() as total:
        jax.jit(ad.grad(scalar(backend.namespace), method="central"))(backend.asarray(POINT))
    assert (total.derivatives, total.points) == (1, 14)
