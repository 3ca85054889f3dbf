"""What only a device can show: hidden waits, full memory, streams, kernels that are missing, a second device."""

from __future__ import annotations

import contextlib
import gc
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace

import arraydiff as ad
from gpu_tests.conftest import LIBRARIES_MAY_WARN, REHEARSAL, Device, of
from gpu_tests.guards import no_transfer
from tests import cupy_standin
from tests.helpers import assert_like, tonumpy

pytestmark = LIBRARIES_MAY_WARN
X = np.linspace(0.3, 1.7, 24)
SLOPE = np.cos(X) * X + np.sin(X)
METHODS = ["adaptive", "complex_step", "richardson", "central", "forward"]
MOST_READS = 6  # of any method, see docs/how-it-works.md
WIDE = 20_000


def smooth(p: Any) -> Any:
    xp = array_namespace(p)
    return xp.sum(xp.sin(p) * p, axis=0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_waits_for_the_device_but_the_few_reads(device, method, dtype, monkeypatch):
    x = device.asarray(X, dtype)
    g = ad.grad(smooth, method=method, vectorized=True, unreliable="ignore")
    g(x)
    with no_transfer(device, x, monkeypatch) as seen:
        gradient = g(x)
    on_host = REHEARSAL and device is Device.JAX  # on a CPU strategies for JAX compute on NumPy's arrays
    name, most = ("to_host", 2 * MOST_READS) if on_host else ("read", MOST_READS)
    assert 0 < seen[name] <= most
    assert_like(gradient, x)
    tolerance = {"float64": 1e-6, "float32": 5e-2}[dtype]
    np.testing.assert_allclose(tonumpy(gradient), SLOPE, rtol=tolerance, atol=tolerance)


def waits() -> list[Any]:
    return [lambda a: bool(a[0] > 0), lambda a: float(a[1]), lambda a: a[a > 0.5]]


@pytest.mark.parametrize("wait", waits(), ids=["bool", "float", "mask"])
def test_the_guard_sees_a_hidden_wait(device, wait, monkeypatch):
    if device is Device.JAX and REHEARSAL:
        pytest.skip("JAX guards transfers from a device only, and on a CPU there are none")
    x = device.asarray(X)
    with no_transfer(device, x, monkeypatch), pytest.raises(Exception, match=r"(?i)wait|synchroniz|transfer"):
        wait(x)


@pytest.mark.parametrize("method", ["adaptive", "central"])
def test_totals_in_a_record_are_read_in_the_backend_s_own_place(device, method, monkeypatch):
    x = device.asarray(X)
    with no_transfer(device, x, monkeypatch), ad.record() as total:
        ad.grad(smooth, method=method, vectorized=True, unreliable="ignore")(x)
    assert 0 < total.worst_bar < 1e-3


def hungry(p: Any) -> Any:
    xp = array_namespace(p)
    wide = smooth(p) * xp.ones((WIDE, 1), dtype=p.dtype, device=p.device)
    return xp.sum(wide, axis=0) / WIDE


@contextlib.contextmanager
def limited(points: int) -> Iterator[None]:
    """Memory of CuPy's pool for so many points of `hungry` beyond what is in use."""
    extra = 8 * WIDE * points
    gc.collect()
    if REHEARSAL:
        cupy_standin.machine.limit = max(cupy_standin.machine.used) + extra
        try:
            yield
        finally:
            cupy_standin.machine.limit = 0
        return
    pool = importlib.import_module("cupy").get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.get_limit()
    pool.set_limit(size=pool.total_bytes() + extra)
    try:
        yield
    finally:
        pool.set_limit(size=before)


@of(Device.CUPY)
@pytest.mark.parametrize("method", ["adaptive", "richardson", "central"])
def test_a_block_that_does_not_fit_the_pool_is_halved(device, method):
    x = device.asarray(X)
    options = {"method": method, "vectorized": True, "unreliable": "ignore", "trace": False}
    free = ad.grad(hungry, **options).result(x)
    with limited(12):
        halved = ad.grad(hungry, **options).result(x)
    assert halved.function_calls > free.function_calls
    np.testing.assert_allclose(tonumpy(halved.gradient), SLOPE, rtol=1e-5)


def serves(**options: Any) -> str | None:
    """Why the options are refused, or None."""
    try:
        ad.DifferentiationConfig(**options)
    except ValueError as error:
        return str(error)
    return None


@of(Device.CUPY)
def test_max_memory_keeps_the_pool_below_it(device):
    most = 8 * WIDE * 12
    refused = serves(max_memory=most)
    if refused is not None:
        pytest.skip(refused)
    x = device.asarray(X)
    with limited(12):
        g = ad.grad(hungry, method="central", vectorized=True, max_memory=most // 3)
        gradient = g(x)
    np.testing.assert_allclose(tonumpy(gradient), SLOPE, rtol=1e-5)


@of(Device.CUPY)
def test_one_point_that_does_not_fit_is_a_memory_error_and_the_pool_is_left_as_it_was(device):
    pool = importlib.import_module("cupy").get_default_memory_pool()
    x = device.asarray(X)
    gc.collect()
    before = pool.used_bytes()
    with limited(0), pytest.raises(MemoryError):
        ad.grad(hungry, method="central", vectorized=True)(x)
    gc.collect()
    assert pool.used_bytes() == before


@of(Device.CUPY)
def test_the_pool_is_left_as_it_was_found(device):
    pool = importlib.import_module("cupy").get_default_memory_pool()
    x = device.asarray(X)
    g = ad.grad(hungry, method="central", vectorized=True)
    g(x)
    gc.collect()
    before = pool.used_bytes(), pool.get_limit()
    g(x)
    gc.collect()
    assert (pool.used_bytes(), pool.get_limit()) == before


def streams(device: Device) -> list[Any]:
    """Contexts of streams that are not the default one."""
    if REHEARSAL:
        return [contextlib.nullcontext()]
    if device is Device.CUPY:
        stream = importlib.import_module("cupy").cuda.Stream
        return [stream(), stream(non_blocking=True)]
    cuda = importlib.import_module("torch").cuda
    return [cuda.stream(cuda.Stream())]


@of(Device.CUPY, Device.TORCH)
@pytest.mark.parametrize("method", METHODS)
def test_a_derivative_is_right_inside_any_stream(device, method):
    for stream in streams(device):
        with stream:
            x = device.asarray(X)
            gradient = tonumpy(ad.grad(smooth, method=method, vectorized=True, unreliable="ignore")(x))
        np.testing.assert_allclose(gradient, SLOPE, rtol=1e-6)


def special(name: str) -> Any:
    """erf and gammaln are CuPy's own, the rest are of the array API or of NumPy."""
    return getattr(importlib.import_module("cupyx.scipy.special"), name)


def slope_of(name: str) -> np.ndarray:
    from scipy.special import digamma

    return {
        "erf": 2 / np.sqrt(np.pi) * np.exp(-X * X),
        "gammaln": digamma(X),
        "cbrt": X ** (-2 / 3) / 3,
        "logaddexp": np.exp(X) / (np.exp(X) + np.e),
        "hypot": X / np.hypot(X, 1),
        "arctan2": 1 / (1 + X * X),
    }[name]


@of(Device.CUPY)
@pytest.mark.parametrize("name", ["erf", "gammaln", "cbrt", "logaddexp", "hypot", "arctan2"])
def test_adaptive_takes_real_differences_where_cupy_has_no_complex_kernel_and_says_so(device, name):
    if REHEARSAL and name in {"erf", "gammaln"}:
        pytest.skip("the stand-in has no cupyx.scipy.special")
    cupy, x = importlib.import_module("cupy"), device.asarray(X)

    def f(p: Any) -> Any:
        if name in {"erf", "gammaln"}:
            return cupy.sum(special(name)(p))
        function = getattr(cupy, name)
        return cupy.sum(function(p) if name == "cbrt" else function(p, cupy.ones_like(p)))

    result = ad.grad(f, trace=False).result(x)
    assert result.method_used is ad.DifferentiationMethod.RICHARDSON
    assert result.reason
    np.testing.assert_allclose(tonumpy(result.gradient), slope_of(name), rtol=1e-8)


@of(Device.CUPY)
@pytest.mark.parametrize("name", ["cbrt", "logaddexp", "hypot", "arctan2"])
def test_a_function_of_cupy_that_is_followed_needs_no_complex_kernel(device, name):
    cupy, x = importlib.import_module("cupy"), device.asarray(X)
    function = getattr(cupy, name)
    result = ad.grad(lambda p: cupy.sum(function(p) if name == "cbrt" else function(p, cupy.ones_like(p)))).result(x)
    if result.method_used is not ad.DifferentiationMethod.EXACT:  # the kernel is one for which there is no rule
        assert result.reason
        assert not REHEARSAL
    np.testing.assert_allclose(tonumpy(result.gradient), slope_of(name), rtol=1e-8)


def two_devices(device: Device) -> list[Any]:
    """Two of the library's devices; a test skips where there is one."""
    library = importlib.import_module(device.value)
    if device is Device.CUPY:
        count = 2 if REHEARSAL else library.cuda.runtime.getDeviceCount()
        found: list[Any] = [library.cuda.Device(i) for i in range(count)]
    elif device is Device.TORCH:
        found = [f"cuda:{i}" for i in range(library.cuda.device_count())]
    else:
        found = library.devices("cpu" if REHEARSAL else "cuda")
    if len(found) < 2:
        pytest.skip(f"{device.value} finds {len(found)} device")
    return found[:2]


@pytest.mark.parametrize("vectorized", [False, True])
def test_chunks_go_round_two_devices_and_the_answer_lies_on_that_of_x(device, vectorized):
    devices, x = two_devices(device), device.asarray(X)
    seen = set()

    def factory(_place: Any) -> Any:
        def f(p: Any) -> Any:
            seen.add(str(p.device))
            return smooth(p)

        return f

    gradient = ad.grad(factory, method="central", devices=devices, vectorized=vectorized)(x)
    assert_like(gradient, x)
    assert len(seen) == 2
    np.testing.assert_allclose(tonumpy(gradient), SLOPE, rtol=1e-6)


def test_a_batch_of_points_is_that_of_a_loop(device):
    points = device.asarray(np.stack([X, 2 * X]))
    batch = ad.grad(smooth, method="central", in_axes=0, vectorized=True)(points)
    alone = [tonumpy(ad.grad(smooth, method="central", vectorized=True)(points[i, :])) for i in range(2)]
    assert_like(batch, points)
    np.testing.assert_allclose(tonumpy(batch), np.stack(alone), rtol=1e-8)
