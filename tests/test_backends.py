"""What backends say of their libraries, how others are registered, and the table of capabilities in the docs."""

from __future__ import annotations

import importlib
import pickle
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from arraydiff.backends import backend_of, host_memory, registered
from arraydiff.backends.cupy import CupyBackend
from arraydiff.backends.generic import GenericBackend
from arraydiff.backends.jax import JaxBackend
from arraydiff.backends.numpy import NumpyBackend
from arraydiff.backends.torch import TorchBackend
from tests import capabilities
from tests.helpers import Backend, assert_array, tonumpy

GIB = 2**30
X = np.array([0.3, 0.7])


# ---- every library
def test_every_library_says_how_much_memory_is_free(backend):
    chosen = backend_of([backend.asarray(X)])
    if backend is Backend.CUPY:
        pytest.skip("the stand-in has no memory pool; the backend's sum is tested below")
    free = chosen.free_memory()
    assert free is None or 2**20 < free < 2**50


def test_every_library_can_be_waited_for(backend):
    if backend is Backend.CUPY:
        pytest.skip("the stand-in has no streams; the backend's call is tested below")
    x = backend.asarray(X)
    assert backend_of([x]).synchronize(x + 1, x) is None


def test_running_out_of_memory_is_told_from_errors_of_the_users(backend):
    chosen = backend_of([backend.asarray(X)])
    assert chosen.is_out_of_memory(MemoryError())
    assert not chosen.is_out_of_memory(RuntimeError("no such table"))
    assert not chosen.is_out_of_memory(ValueError("not enough memory of the past"))


def test_an_array_keeps_its_values_on_the_way_to_where_strategies_compute_and_back(backend):
    x = backend.asarray(X)
    chosen = backend_of([x])
    (there,) = chosen.to_host(x)
    assert_array(chosen.from_host(there, x), X, x, rtol=0)
    assert chosen.is_lazy == (backend is Backend.DASK)
    assert (chosen.host is not None) == (backend in (Backend.DASK, Backend.JAX))


def test_a_backend_can_be_pickled(backend):
    chosen = backend_of([backend.asarray(X)])
    if backend in (Backend.JAX, Backend.STRICT, Backend.STRICT_DEVICE1):
        pytest.skip("its devices cannot be pickled, or are another object afterwards")
    assert pickle.loads(pickle.dumps(chosen)) == chosen


# ---- out of memory, as each library says it
def test_torch_on_a_cpu_says_by_a_bare_runtime_error_that_memory_ran_out():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    chosen = backend_of([torch.zeros(1)])
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert chosen.is_out_of_memory(caught.value)
    assert chosen.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


def test_jax_says_resource_exhausted():
    chosen = JaxBackend(np, SimpleNamespace(platform="gpu"))
    assert chosen.is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"))


# ---- devices that are not here
class Gpu:
    """A CUDA device as CuPy hands it out: entered before it is asked."""

    mem_info = (30 * GIB, 80 * GIB)
    inside = 0

    def __enter__(self) -> None:
        self.inside += 1

    def __exit__(self, *_: object) -> None:
        self.inside -= 1


@pytest.mark.parametrize(("limit", "free"), [(0, 32), (10 * GIB, 7), (4 * GIB, 2)], ids=["none", "room", "full"])
def test_cupys_free_memory_is_the_devices_and_the_pools_within_the_pools_limit(monkeypatch, limit, free):
    device, waited = Gpu(), []
    total, used = (5 * GIB, 3 * GIB)

    def asked(value: int) -> Any:
        def answer() -> int:
            assert device.inside, "the pool of another device was asked"
            return value

        return answer

    pool = SimpleNamespace(total_bytes=asked(total), used_bytes=asked(used), get_limit=asked(limit))
    stream = SimpleNamespace(synchronize=lambda: waited.append(device.inside))
    cuda = SimpleNamespace(get_current_stream=lambda: stream)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(get_default_memory_pool=lambda: pool, cuda=cuda))
    backend = CupyBackend(np, device)
    assert backend.free_memory() == free * GIB
    backend.synchronize()
    assert waited == [1]


def test_torchs_free_memory_is_the_devices_and_what_its_allocator_holds_unused(monkeypatch):
    waited = []
    cuda = SimpleNamespace(
        mem_get_info=lambda device: (30 * GIB, 80 * GIB),
        memory_reserved=lambda device: 5 * GIB,
        memory_allocated=lambda device: 3 * GIB,
        synchronize=waited.append,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    device = SimpleNamespace(type="cuda")
    assert TorchBackend(np, device).free_memory() == 32 * GIB
    TorchBackend(np, device).synchronize()
    assert waited == [device]
    assert TorchBackend(np, SimpleNamespace(type="mps")).free_memory() is None


def test_jaxs_free_memory_is_what_its_device_tells_if_it_does():
    told: dict[str, int] = {"bytes_limit": 10 * GIB, "bytes_in_use": 3 * GIB}
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: told)
    assert JaxBackend(np, device).free_memory() == 7 * GIB
    assert JaxBackend(np, SimpleNamespace(platform="gpu", memory_stats=lambda: None)).free_memory() is None
    assert JaxBackend(np, "spread over several devices").free_memory() is None


# ---- memory of the host
@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A system's files, to be written."""
    monkeypatch.setattr(host_memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(host_memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(host_memory, "_left_by_limit", lambda: None)

    def write(**files: str) -> None:
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_free_memory_of_the_host_is_the_least_of_what_the_system_and_its_groups_leave(machine):
    machine(proc__meminfo=f"MemTotal: 99 kB\nMemAvailable: {GIB // 1024 * 8} kB\n")
    assert host_memory.free_memory() == 8 * GIB
    machine(proc__self__cgroup="0::/jobs/mine\n")
    assert host_memory.free_memory() == 8 * GIB
    machine(cgroup__jobs__mine__memory_max="max\n", cgroup__jobs__mine__memory_current="5\n")
    machine(cgroup__jobs__memory_max=f"{4 * GIB}\n", cgroup__jobs__memory_current=f"{3 * GIB}\n")
    assert host_memory.free_memory() == GIB
    machine(cgroup__jobs__memory_stat=f"anon 7\ninactive_file {GIB}\n")
    assert host_memory.free_memory() == 2 * GIB


def test_groups_of_version_1_are_read_too(tmp_path, machine):
    machine(proc__self__cgroup="3:cpu,cpuacct:/a\n2:memory:/mine\n")
    folder = tmp_path / "cgroup" / "memory" / "mine"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{3 * GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{GIB}\n")
    assert host_memory.free_memory() == 2 * GIB


def test_where_a_system_tells_nothing_free_memory_is_unknown(machine):
    assert host_memory.free_memory() is None


def test_a_limit_of_the_address_space_counts(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource", reason="a module of Unix")
    monkeypatch.setattr(host_memory, "PROC", tmp_path)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "statm").write_text("10 5 1 1 0 1 0\n")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (GIB, GIB))
    assert host_memory.free_memory() == GIB - 10 * resource.getpagesize()


# ---- backends of other packages
LIBRARY = '''
"""A library of arrays that NumPy holds."""

import numpy as np
from arraydiff.backends import Backend


class Wrapped(np.lib.mixins.NDArrayOperatorsMixin):
    def __init__(self, held):
        self.held = held

    dtype = property(lambda self: self.held.dtype)
    shape = property(lambda self: self.held.shape)
    ndim = property(lambda self: self.held.ndim)
    device = "cpu"

    def __array_namespace__(self, api_version=None):
        import wrapped_namespace
        return wrapped_namespace

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return wrap(getattr(ufunc, method)(*map(unwrap, inputs), **kwargs))

    def __getitem__(self, key):
        return wrap(self.held[unwrap(key)])

    def __setitem__(self, key, value):
        self.held[unwrap(key)] = unwrap(value)


def wrap(value):
    if isinstance(value, np.ndarray | np.generic):
        return Wrapped(np.asarray(value))
    return value


def unwrap(value):
    if isinstance(value, list | tuple):
        return type(value)(map(unwrap, value))
    return value.held if isinstance(value, Wrapped) else value


reads = []


class WrappedBackend(Backend):
    @classmethod
    def owns(cls, array):
        return isinstance(array, Wrapped)

    def read(self, codes):
        reads.append(codes)
        return codes.held.tolist()
'''

NAMESPACE = """
import numpy as np
from wrapped import unwrap, wrap


def __getattr__(name):
    found = getattr(np, name)
    if not callable(found) or isinstance(found, type) or name in ("isdtype", "finfo"):
        return found
    def call(*args, **kwargs):
        return wrap(found(*map(unwrap, args), **kwargs))
    return call
"""


def installed(folder: Path, package: str, entries: str) -> None:
    """A package as an installer leaves it."""
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[arraydiff.backends]\n{entries}\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the path, in which packages can be installed; `registered` looks anew before and after."""
    (tmp_path / "wrapped.py").write_text(LIBRARY)
    (tmp_path / "wrapped_namespace.py").write_text(NAMESPACE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(ad.backends, "_KINDS", {})
    registered.cache_clear()
    yield tmp_path
    registered.cache_clear()
    for name in ("wrapped", "wrapped_namespace"):
        sys.modules.pop(name, None)


def test_a_backend_registered_by_another_package_serves_its_arrays(site):
    installed(site, "wrapped", "wrapped = wrapped:WrappedBackend")
    wrapped = importlib.import_module("wrapped")
    x = wrapped.Wrapped(X)
    space = x.__array_namespace__()
    gradient = ad.grad(lambda x: space.sum(space.exp(x)))(x)
    assert isinstance(gradient, wrapped.Wrapped)
    np.testing.assert_allclose(gradient.held, np.exp(X), rtol=1e-14)
    assert wrapped.reads, "its own way to read was not taken"


def test_a_package_that_does_not_load_is_named_once_and_others_go_on(site):
    installed(site, "broken-one", "broken = no_such_module:Nothing")
    installed(site, "broken-two", "broken = wrapped:wrap")
    installed(site, "wrapped", "wrapped = wrapped:WrappedBackend")
    wrapped = importlib.import_module("wrapped")
    with pytest.warns(RuntimeWarning) as caught:
        assert type(backend_of([wrapped.Wrapped(X)])) is wrapped.WrappedBackend
    told = sorted(str(warning.message) for warning in caught)
    assert len(told) == 2
    assert "'broken-one'" in told[0]
    assert "ModuleNotFoundError" in told[0]
    assert "'broken-two'" in told[1]
    assert "must name a subclass" in told[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ad.backends._KINDS.clear()
        assert type(backend_of([wrapped.Wrapped(X)])) is wrapped.WrappedBackend


def test_packages_are_not_looked_at_where_a_backend_of_ours_serves(site):
    installed(site, "broken-one", "broken = no_such_module:Nothing")
    assert type(backend_of([X])) is NumpyBackend
    assert registered.cache_info().misses == 0


def test_an_array_of_an_unknown_library_is_served_by_the_generic_backend(site):
    wrapped = importlib.import_module("wrapped")
    assert type(backend_of([wrapped.Wrapped(X)])) is GenericBackend


# ---- Dask
def test_dask_is_computed_once_a_round_and_f_sees_the_chunks_of_x():
    dask = pytest.importorskip("dask", reason="dask is not installed: pip install dask")
    da = importlib.import_module("dask.array")
    computed, chunks = [], set()

    def scheduler(graph: Any, keys: Any, **kwargs: Any) -> Any:
        computed.append(len(keys))
        return dask.get(graph, keys, **kwargs)

    def f(x: Any) -> Any:
        chunks.add(x.chunks)
        return da.exp(x)

    x = da.from_array(np.array([0.5, 0.7, 3.0, 1.0, 1.0]), chunks=2)
    with dask.config.set(scheduler=scheduler):
        result = ad.derivative(f, method="richardson", bounds=(0.5, 3.0)).result(x)
    assert len(computed) == result.rounds
    assert chunks == {((2, 2, 1),)}
    np.testing.assert_allclose(tonumpy(result.derivative), np.exp(tonumpy(x)), rtol=1e-10)


def test_a_noise_function_sees_dask_arrays_where_f_does():
    da = pytest.importorskip("dask.array", reason="dask is not installed: pip install dask")
    seen = []

    def level(x: Any) -> Any:
        seen.append(type(x))
        return da.sum(x) * 1e-6

    result = ad.grad(lambda x: da.sum(da.exp(x)), noise=level).result(da.from_array(X))
    assert seen == [da.Array]
    np.testing.assert_allclose(tonumpy(result.noise_level), [1e-6 * np.sum(X)])


# ---- mparray
@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "complex_step"},
        {"method": "richardson"},
        {"method": "central", "order": 8},
        {"bounds": (0.0, 9.0), "opaque": True},
    ],
    ids=str,
)
def test_a_gradient_with_50_digits_is_right_to_40_and_its_bar_holds(options, n):
    xp = pytest.importorskip("mparray", reason="mparray is not installed: pip install mparray")
    mp = importlib.import_module("mpmath").mp
    with mp.workdps(50):
        x = xp.asarray([mp.mpf(i + 1) / 3 for i in range(n)])
        result = ad.grad(lambda x: xp.sum(xp.sin(x) * xp.exp(x)), **options).result(x)
        exact = (xp.cos(x) + xp.sin(x)) * xp.exp(x)
        for got, wanted, bar in zip(result.gradient._data, exact._data, result.error_estimate._data, strict=True):
            assert abs(got - wanted) < mp.mpf(10) ** -40 * abs(wanted)
            assert abs(got - wanted) <= 3 * bar < mp.mpf(10) ** -38
        assert not any(result.status._data)


def test_the_noise_probe_refuses_numbers_finer_than_its_own():
    xp = pytest.importorskip("mparray", reason="mparray is not installed: pip install mparray")
    with importlib.import_module("mpmath").mp.workdps(50), pytest.raises(ValueError, match="more digits than float64"):
        ad.estimate_noise(xp.sum, xp.asarray([1.0]))


# ---- the table of the docs
@pytest.mark.parametrize("title", capabilities.COLUMNS)
def test_the_table_of_capabilities_says_what_was_found_by_trying(title):
    library = capabilities.COLUMNS[title]
    reason = library.reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    assert capabilities.in_the_docs()[title] == capabilities.column(library)


def test_what_a_lazy_library_computes_is_seen():
    da = pytest.importorskip("dask.array", reason="dask is not installed: pip install dask")
    x = da.exp(da.from_array(X))
    with capabilities.refusing_to_compute():
        for read in (x.compute, x.persist, lambda: float(x[0]), lambda: x.compute(scheduler="synchronous")):
            with pytest.raises(RuntimeError, match="a value was asked for"):
                read()
