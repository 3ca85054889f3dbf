"""Several devices: f from a factory, chunks in turn, values back on x's device."""

from __future__ import annotations

import pickle
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from tests import cupy_standin
from tests.helpers import Backend, assert_like, tonumpy

WEIGHTS = np.linspace(0.5, 2.0, 12)
X = np.linspace(0.2, 1.9, 12)
METHODS = ["adaptive", "richardson", "central", "forward"]

twice = pytest.mark.parametrize("backend", [Backend.CUPY, Backend.STRICT], indirect=True)
"""The libraries that have two devices without a GPU."""


class Factory:
    """Functions with weights of their own on each device; counts the calls there, and how often each was made."""

    def __init__(self, backend: Backend, vectorized: bool = False) -> None:
        self.backend, self.vectorized = backend, vectorized
        self.calls: Counter[str] = Counter()
        self.made: Counter[str] = Counter()

    def __call__(self, device: Any) -> Any:
        xp = self.backend.namespace
        weights = on(self.backend, WEIGHTS, device)
        self.made[str(device)] += 1

        def fun(x: Any) -> Any:
            self.calls[str(device)] += 1
            assert x.device == weights.device
            product = xp.sin(x) * (weights[:, None] if self.vectorized else weights)
            return xp.sum(product * product, axis=0)

        return fun


def devices_of(backend: Backend) -> list[Any]:
    """The two of them."""
    if backend is Backend.CUPY:
        return [backend.module.cuda.Device(0), backend.module.cuda.Device(1)]
    return [backend.module.Device("CPU_DEVICE"), backend.module.Device("device1")]


def on(backend: Backend, values: Any, device: Any) -> Any:
    """Host values on one device."""
    if backend is not Backend.CUPY:
        return backend.module.asarray(values, device=device)
    with device:
        return backend.module.asarray(values)


def here(backend: Backend, device: Any) -> Any:
    """The function without a factory, of one device."""
    return Factory(backend)(device)


@twice
@pytest.mark.parametrize("method", METHODS)
def test_several_devices_give_the_bits_of_one_and_on_the_device_of_x(backend: Backend, method: str) -> None:
    devices, factory = devices_of(backend), Factory(backend)
    for home in devices:
        x = on(backend, X, home)
        got = ad.grad(factory, method=method, devices=devices, chunk_size=5).result(x)
        with device_context(backend, home):
            one = ad.grad(here(backend, home), method=method, chunk_size=5, trace=False).result(x)
        assert_like(got.gradient, x)
        assert_like(got.error_estimate, x)
        assert_like(got.value, x, ())
        assert np.array_equal(tonumpy(got.gradient), tonumpy(one.gradient))
        assert np.array_equal(tonumpy(got.error_estimate), tonumpy(one.error_estimate))
        assert got.function_points == one.function_points


def device_context(backend: Backend, device: Any) -> Any:
    return device if backend is Backend.CUPY else warnings.catch_warnings()


@twice
def test_chunks_go_round_the_devices_and_each_call_is_counted(backend: Backend) -> None:
    devices, factory = devices_of(backend), Factory(backend)
    result = ad.grad(factory, method="central", devices=devices).result(on(backend, X, devices[0]))
    assert result.function_calls == sum(factory.calls.values())
    assert factory.calls[str(devices[1])] == 12  # half of the columns, two points each
    assert factory.calls[str(devices[0])] == 5 + 12


@twice
def test_a_vectorised_f_gets_a_block_a_device(backend: Backend) -> None:
    devices, factory = devices_of(backend), Factory(backend, vectorized=True)
    x = on(backend, X, devices[0])
    result = ad.grad(factory, method="central", devices=devices, vectorized=True).result(x)
    assert factory.calls == {str(devices[0]): 2, str(devices[1]): 1}
    np.testing.assert_allclose(tonumpy(result.gradient), WEIGHTS**2 * np.sin(2 * X), rtol=1e-8)


@twice
def test_f_is_made_once_a_device_by_one_derivative(backend: Backend) -> None:
    devices, factory = devices_of(backend), Factory(backend)
    g = ad.grad(factory, method="central", devices=devices)
    for _ in range(3):
        g(on(backend, X, devices[0]))
    assert set(factory.made.values()) == {1}
    assert len(factory.made) == 2


@twice
def test_other_arguments_follow_to_the_device_of_the_call(backend: Backend) -> None:
    devices, xp = devices_of(backend), backend.namespace
    data = {"w": on(backend, WEIGHTS, devices[0]), "name": "w", "k": 2}
    x = on(backend, X, devices[0])
    got = ad.jacobian(lambda _: lambda x, d: x * d["w"] * d["k"], method="central", devices=devices)(x, data)
    np.testing.assert_allclose(tonumpy(got), np.diag(2 * WEIGHTS), atol=1e-9)
    assert_like(got, x, (12, 12))
    assert xp.isdtype(got.dtype, "real floating")


@twice
def test_hessian_and_batches_go_round_the_devices_too(backend: Backend) -> None:
    devices, factory = devices_of(backend), Factory(backend)
    x = on(backend, X[:2], devices[0])
    H = ad.hessian(lambda device: lambda x: backend.namespace.sum(x * x * x), devices=devices)(x)
    np.testing.assert_allclose(tonumpy(H), np.diag(6 * X[:2]), atol=1e-8)
    G = ad.grad(factory, method="central", devices=devices, in_axes=0)(
        on(backend, np.stack([X, X + 1, X + 2]), devices[0])
    )
    expected = [WEIGHTS**2 * np.sin(2 * (X + i)) for i in range(3)]
    np.testing.assert_allclose(tonumpy(G), expected, rtol=1e-7, atol=1e-8)
    assert min(factory.calls.values()) > 0.3 * max(factory.calls.values())


@twice
def test_aux_comes_home(backend: Backend) -> None:
    devices, xp = devices_of(backend), backend.namespace
    x = on(backend, X, devices[0])
    fun = lambda x: (xp.sum(x * x), {"x": x, "told": "yes"})  # noqa: E731
    _, aux = ad.grad(lambda device: fun, method="central", devices=devices[1:], has_aux=True)(x)
    assert_like(aux["x"], x)
    assert aux["told"] == "yes"


def test_all_chunks_are_launched_before_any_value_is_brought_home() -> None:
    events: list[str] = []
    with Backend.CUPY.active():
        cupy = Backend.CUPY.module
        devices = [cupy.cuda.Device(0), cupy.cuda.Device(1)]
        copy = cupy_standin.ndarray.copy

        def noted(self: Any, order: str = "C") -> Any:
            events.append(f"copy to {cupy_standin.machine.current}")
            return copy(self, order)

        def factory(device: Any) -> Any:
            def fun(x: Any) -> Any:
                events.append(f"f on {device.id}")
                return cupy.sum(x * x, axis=0)

            return fun

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cupy_standin.ndarray, "copy", noted)
            x = cupy.asarray(X)
            ad.grad(factory, method="central", vectorized=True, devices=devices, chunk_size=3)(x)
    calls = [i for i, event in enumerate(events) if event.startswith("f on")][1:]
    homeward = [i for i, event in enumerate(events) if event == "copy to 0" and i > calls[0]]
    assert [events[i] for i in calls] == ["f on 0", "f on 1", "f on 0", "f on 1"]
    assert min(homeward) > max(calls)


def test_no_read_of_the_host_is_added_by_a_second_device() -> None:
    with Backend.CUPY.active():
        cupy, machine = Backend.CUPY.module, cupy_standin.machine
        devices = [cupy.cuda.Device(0), cupy.cuda.Device(1)]
        factory, x = (lambda device: lambda x: cupy.sum(x * x, axis=0)), cupy.asarray(X)

        def reads(**options: Any) -> int:
            machine.syncs.clear()
            ad.grad(factory, vectorized=True, method="central", chunk_size=6, **options)(x)
            return len(machine.syncs)

        assert reads(devices=devices) == reads(devices=devices[:1])


def test_workers_serve_several_devices() -> None:
    with Backend.STRICT.active(), ThreadPoolExecutor(2) as pool:
        devices, factory = devices_of(Backend.STRICT), Factory(Backend.STRICT)
        x = on(Backend.STRICT, X, devices[0])
        got = ad.grad(factory, devices=devices, workers=pool.map, method="central")(x)
        assert np.array_equal(tonumpy(got), tonumpy(ad.grad(factory, devices=devices, method="central")(x)))
    assert len(factory.calls) == 2


def test_numpy_and_torch_and_jax_take_their_one_device() -> None:
    numpy_gradient = ad.grad(lambda device: np.sum, method="central", devices=["cpu"])(X)
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    of_torch = ad.grad(lambda device: torch.sum, method="central", devices=["cpu"])(torch.asarray(X))
    (device,) = jax.devices()[:1]
    of_jax = ad.grad(lambda device: jax.numpy.sum, method="central", devices=[device])(jax.numpy.asarray(X[:2]))
    for gradient in (numpy_gradient, of_torch, of_jax):
        np.testing.assert_allclose(tonumpy(gradient), 1, rtol=1e-6)


@pytest.mark.parametrize(
    "backend", [Backend.NUMPY, Backend.STRICT, Backend.TORCH, Backend.CUPY, Backend.DASK], indirect=True
)
def test_a_device_that_does_not_exist_is_an_error_that_names_devices(backend: Backend) -> None:
    unknown = 7 if backend is Backend.CUPY else "cuda:7"
    with pytest.raises(ValueError, match=r"devices wants devices of x's library, such as .*7"):
        ad.grad(lambda device: backend.namespace.sum, devices=[unknown])(backend.asarray([1.0, 2.0]))


def test_a_plain_function_where_a_factory_is_meant_is_an_error() -> None:
    with pytest.raises(TypeError, match="must be a factory"):
        ad.grad(lambda x: 3.0, devices=["cpu"])(X)


def test_devices_of_an_outer_derivative_are_refused() -> None:
    with pytest.raises(ValueError, match="derivative inside"):
        ad.jacobian(ad.grad(np.sum), devices=["cpu"])


def test_a_derivative_on_devices_can_be_pickled() -> None:
    g = ad.grad(sums, method="central", devices=["cpu"])
    g(X)
    assert np.array_equal(pickle.loads(pickle.dumps(g))(X), g(X))


def sums(_device: Any) -> Any:
    return lambda x: np.sum(x * x)
