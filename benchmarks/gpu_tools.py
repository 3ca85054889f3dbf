"""The XPCS problem on one library and device, ways to its derivatives, and what they cost there."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace

import arraydiff as ad
from arraydiff.backends import Backend, backend_of
from arraydiff.examples.xpcs import Grid, Residual
from benchmarks.peers import in_turn
from benchmarks.xpcs_points import SAMPLE, SIGMA, Data

Array = Any
ANGLES = 3
FREE = tuple(range(2, len(SAMPLE)))  # contrast and offset are known
TEMPORARIES = 12  # arrays of one number a frame pair, angle and point that the model holds at once
MOST_CALLS = 100
SHARE = 0.25  # of the free memory, for one block of points
RAY = (0.0, 1.0, -1.0, 2.0, -2.0)  # where the package's stencils look besides, for their bars
LOOP = "arraydiff: central, one by one"
CENTRAL, DEFAULT = "arraydiff: central, batched", "arraydiff: default, batched"
REAL = "arraydiff: default, real f, batched"
HAND, HAND_SAME = "hand: central, batched", "hand: as many points as arraydiff"


@dataclass(frozen=True)
class Library:
    """An array library on one kind of device."""

    name: str
    device: str

    @property
    def why_not(self) -> str | None:
        """Why it cannot be measured here, or None."""
        if importlib.util.find_spec(self.name) is None:
            return "not installed"
        try:
            self.asarray(np.zeros(1))
        except Exception as error:  # noqa: BLE001 - a driver that is missing is told in as many ways as there are drivers
            return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
        return None

    def asarray(self, host: np.ndarray) -> Array:
        if self.name == "numpy":
            return host
        library = importlib.import_module(self.name)
        if self.name == "torch":
            return library.asarray(host, device=self.device)
        if self.name == "jax":
            library.config.update("jax_enable_x64", True)
            return library.device_put(host, library.devices(self.device)[0])
        return library.asarray(host)

    def host(self, array: Array) -> np.ndarray:
        if self.name == "torch":
            return np.asarray(array.detach().cpu())
        return np.asarray(array.get() if self.name == "cupy" else array)

    def peak(self, call: Callable[[], Any], backend: Backend) -> int | None:
        """Most bytes held at once during a call, beyond what was held before; None where the library does not tell."""
        if self.name == "numpy":
            return _traced(call)
        if self.device == "cpu":
            return None
        if self.name == "cupy":
            return _pooled(call, backend)
        if self.name == "torch":
            return _allocated(call, backend)
        return None  # JAX's peak_bytes_in_use is that of the process, and cannot be set back


def _traced(call: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _pooled(call: Callable[[], Any], backend: Backend) -> int:
    """What the pool had to take from the device: it gives nothing back by itself."""
    pool = importlib.import_module("cupy").get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    backend.synchronize(*_parts(call()))
    return int(pool.total_bytes() - before)


def _allocated(call: Callable[[], Any], backend: Backend) -> int:
    cuda = importlib.import_module("torch").cuda
    cuda.synchronize()
    cuda.reset_peak_memory_stats()
    before = cuda.memory_allocated()
    backend.synchronize(*_parts(call()))
    return int(cuda.max_memory_allocated() - before)


def _parts(value: Any) -> tuple[Array, ...]:
    return value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True)
class Measured:
    """One way to one derivative: seconds over those of f at one point, host reads, calls and points of f, bytes, error."""

    time_over_f: float
    seconds: float
    reads: int
    points: int
    peak_bytes: int | None
    error: float

    def __str__(self) -> str:
        peak = "-" if self.peak_bytes is None else f"{self.peak_bytes / 2**20:.0f}"
        return f"{self.time_over_f:9.3g}{self.seconds * 1e3:11.3g}{self.reads:7}{self.points:8}{peak:>10}{self.error:10.0e}"


class OnDevice:
    """Residuals and chi2 of the seven physical parameters, one point (n,) or many (k, n)."""

    def __init__(self, library: Library, data: Data) -> None:
        self.library, self.data = library, data
        self.x = library.asarray(1.01 * SAMPLE[list(FREE)])
        self.backend = backend_of([self.x])
        first, second = (library.asarray(pair) for pair in (data.grid.first, data.grid.second))
        self.arrays = tuple(map(library.asarray, (data.grid.log_age, data.grid.angles)))
        self.arrays += first, second, library.asarray(data.c2)
        raw: Callable[..., Any] = self._residual
        self.jitted = importlib.import_module("jax").jit(raw) if library.name == "jax" else raw
        self.points = 0

    def _residual(self, arrays: tuple[Array, ...], values: Array) -> Array:
        grid = Grid(*arrays[:4])
        return Residual(self.data.experiment, grid, arrays[4], SIGMA, tuple(SAMPLE.tolist()), FREE)(values)

    def residual(self, values: Array) -> Array:
        self.points += int(values.shape[0]) if values.ndim == 2 else 1
        return self.jitted(self.arrays, values)

    def chi2(self, values: Array) -> Array:
        residual = self.residual(values)
        return array_namespace(residual).sum(residual * residual, axis=-1)

    @cached_property
    def directions(self) -> int:
        """How many directions, of two points each, fit into the memory that one block may take."""
        free = self.backend.free_memory() or 2**33
        point = 8 * TEMPORARIES * self.data.c2.size
        return max(1, min(len(FREE), int(SHARE * free) // (2 * point)))

    @cached_property
    def truth(self) -> np.ndarray:
        return self.data.true_gradient(self.library.host(self.x))

    def error(self, derivative: Array, is_jacobian: bool) -> float:
        """Largest relative error of the gradient of chi2; of a Jacobian J, of 2 Jᵀr."""
        gradient = self.library.host(derivative)
        if is_jacobian:
            gradient = 2 * self.library.host(self.residual(self.x)) @ gradient
        return float(np.max(np.abs(gradient / self.truth - 1)))


Way = Callable[[OnDevice, Callable[[Array], Array]], Array]


def ours(**options: Any) -> Way:
    def way(problem: OnDevice, fun: Callable[[Array], Array]) -> Array:
        kind = ad.grad if fun == problem.chi2 else ad.jacobian
        chunk = problem.directions if problem.directions < len(FREE) else None
        return kind(fun, unreliable="ignore", chunk_size=chunk, **options)(problem.x)

    return way


def by_hand(with_ray: bool) -> Way:
    """Central differences in blocks, written for this problem, without error bars."""

    def way(problem: OnDevice, fun: Callable[[Array], Array]) -> Array:
        x, columns = problem.x, []
        xp = array_namespace(x)
        steps = float(np.finfo(float).eps) ** (1 / 3) * xp.abs(x)
        if with_ray:
            fun(xp.stack([x + offset * steps for offset in RAY]))
        for start in range(0, len(FREE), problem.directions):
            moves = xp.stack([_one_hot(xp, steps, i) for i in range(start, min(start + problem.directions, len(FREE)))])
            values = fun(xp.concat([x + moves, x - moves]))
            half = moves.shape[0]
            columns.append(values[:half, ...] - values[half:, ...])
        joined = xp.concat(columns) if len(columns) > 1 else columns[0]
        return xp.matrix_transpose(joined) / (2 * steps) if joined.ndim == 2 else joined / (2 * steps)

    return way


def _one_hot(xp: Any, steps: Array, i: int) -> Array:
    return xp.where(xp.arange(steps.shape[0], device=steps.device) == i, steps, xp.zeros_like(steps))


def jax_own(problem: OnDevice, fun: Callable[[Array], Array]) -> Array:
    jax = importlib.import_module("jax")
    return (jax.grad if fun == problem.chi2 else jax.jacfwd)(fun)(problem.x)


def torch_own(problem: OnDevice, fun: Callable[[Array], Array]) -> Array:
    torch = importlib.import_module("torch")
    if fun != problem.chi2:
        return torch.func.jacfwd(fun)(problem.x)
    x = problem.x.detach().requires_grad_(True)
    return torch.autograd.grad(fun(x), x)[0]


BATCHED = {"vectorized": True, "batch_axis": 0}
WAYS: dict[str, Way] = {
    HAND: by_hand(with_ray=False),
    HAND_SAME: by_hand(with_ray=True),
    CENTRAL: ours(method="central", **BATCHED),
    DEFAULT: ours(**BATCHED),
    REAL: ours(opaque=True, **BATCHED),
    LOOP: ours(method="central"),
    "arraydiff: default, one by one": ours(),
}
OWN: dict[str, tuple[str, Way]] = {"jax": ("jax.grad, jax.jacfwd", jax_own), "torch": ("torch autograd", torch_own)}


def ways_of(library: Library, is_jacobian: bool) -> dict[str, Way]:
    """All of them, the library's own differentiation among them; ladders of whole Jacobians take long, two will do."""
    own = dict([OWN[library.name]]) if library.name in OWN else {}
    return {name: way for name, way in (WAYS | own).items() if not (is_jacobian and name == REAL)}


@contextlib.contextmanager
def reads_counted(backend: Backend) -> Iterator[list[int]]:
    """The sizes of what is read inside through the one place where the host may wait for the device."""
    kind, seen = type(backend), []
    read = kind.read

    def counting(self: Backend, codes: Array) -> list[int]:
        seen.append(int(codes.shape[0]))
        return read(self, codes)

    own = "read" in vars(kind)
    kind.read = counting  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        if own:
            kind.read = read  # type: ignore[method-assign]
        else:
            del kind.read


def ending(call: Callable[[], Any], backend: Backend) -> Callable[[], None]:
    """The call, with the device done."""
    return lambda: backend.synchronize(*_parts(call()))


def measured(problem: OnDevice, is_jacobian: bool, budget: float) -> dict[str, Measured]:
    """Every way to one derivative; the first call of each, which compiles, is not timed."""
    fun = problem.residual if is_jacobian else problem.chi2
    calls: dict[str, Callable[[], Any]] = {}
    facts: dict[str, tuple[int, int, float]] = {}
    for name, way in ways_of(problem.library, is_jacobian).items():

        def call(way: Way = way) -> Array:
            return way(problem, fun)

        try:
            problem.points = 0
            with reads_counted(problem.backend) as reads:
                value = call()
        except Exception as error:  # noqa: BLE001 - a way that fails is a finding, not the end of the run
            print(f"  {name}: {type(error).__name__}: {str(error).splitlines()[0][:90]}", flush=True)
            continue
        facts[name] = (len(reads), problem.points, problem.error(value, is_jacobian))
        del value
        calls[name] = call
    ended = {name: ending(call, problem.backend) for name, call in ({"f": lambda: fun(problem.x)} | calls).items()}
    times = in_turn(ended, budget, MOST_CALLS)
    peaks = {name: problem.library.peak(call, problem.backend) for name, call in calls.items()}
    return {
        name: Measured(times[name] / times["f"], times[name], reads, points, peaks[name], error)
        for name, (reads, points, error) in facts.items()
    }
