"""What exact derivatives are timed on, and every tool behind one call: ``tool(fun, x)() -> value, gradient``."""

from __future__ import annotations

import functools
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace

import arraydiff as ad
from arraydiff.exact import traced
from arraydiff.examples.data import truth_of
from arraydiff.examples.xpcs import Experiment, Grid, Residual, upper_triangle

Function = Callable[[Any, Any], Any]
"""Of a module that is written like numpy, and x."""

Call = Callable[[], tuple[Any, Any]]
Tool = Callable[[Function, np.ndarray], Call]
ROOT = Path(__file__).resolve().parents[1]
ENGINE, UNGUARDED, GUARDED = "engine", "exact, unguarded", "exact, guarded"
COMPLEX, AUTOGRAD, TORCH, JAX = "complex step", "autograd", "torch", "jax, jit"
LOOPS = 100
ANGLES, FRAMES, SIGMA = 23, 60, 0.02


def rosenbrock(np: Any, x: Any) -> Any:
    head, tail = x[:-1], x[1:]
    return np.sum(100.0 * (tail - head * head) ** 2 + (1.0 - head) ** 2)


def composed(np: Any, x: Any) -> Any:
    return np.sum(np.log1p(np.tanh(np.sin(np.exp(x))) ** 2))


def looped(np: Any, x: Any) -> Any:
    total = 0.0
    for i in range(len(x)):
        total = total + x[i] * x[i - 1]
    return total


class Chi2:
    """Of simulated XPCS data, as a function of the flow's and the diffusion's seven parameters, or of all 53."""

    def __init__(self, parameters: int) -> None:
        angles = tuple(np.linspace(-10, 10, ANGLES).tolist())
        self.experiment = Experiment("laminar", FRAMES, angles, scaling_per_angle=parameters > len(angles))
        self.truth = np.asarray(list(truth_of(self.experiment).values()))
        self.free = tuple(range(len(self.truth)))[-parameters:]
        self.grid = Grid.like(self.truth, self.experiment, upper_triangle(FRAMES))
        noise = np.random.default_rng(20).normal(scale=SIGMA, size=(ANGLES, len(self.grid.first)))
        self.c2 = noise + Residual(self.experiment, self.grid, 0.0, -1.0, tuple(self.truth), self.free)(
            self.x / 1.01
        ).reshape(noise.shape)
        self.residuals: dict[str, Residual] = {}

    @property
    def x(self) -> np.ndarray:
        return 1.01 * self.truth[list(self.free)]

    def __call__(self, np: Any, x: Any) -> Any:
        residual = self.of(np)(x)
        xp = array_namespace(residual)
        return xp.sum(residual * residual)

    def of(self, library: Any) -> Residual:
        """With the data where the library has its arrays, put there once."""
        if library.__name__ not in self.residuals:
            data = (self.grid.log_age, self.grid.angles, self.grid.first, self.grid.second, self.c2)
            *grid, c2 = map(library.asarray, data)
            theta = tuple(self.truth.tolist())
            self.residuals[library.__name__] = Residual(self.experiment, Grid(*grid), c2, SIGMA, theta, self.free)
        return self.residuals[library.__name__]


def engine(fun: Function, x: np.ndarray) -> Call:
    """Tracing alone, without the package around it."""
    f, one = functools.partial(fun, np), np.float64(1.0)

    def call() -> tuple[Any, Any]:
        followed = traced(f, x)
        return followed.value, followed.pullback(one)

    return call


def ours(**options: Any) -> Tool:
    def tool(fun: Function, x: np.ndarray) -> Call:
        derivative = ad.value_and_grad(functools.partial(fun, np), unreliable="ignore", **options)
        return lambda: derivative(x)

    return tool


def by_autograd(fun: Function, x: np.ndarray) -> Call:
    import autograd
    import autograd.numpy

    derivative = autograd.value_and_grad(functools.partial(fun, autograd.numpy))
    return lambda: derivative(x)


def by_torch(fun: Function, x: np.ndarray) -> Call:
    import torch

    def call() -> tuple[Any, Any]:
        leaf = torch.from_numpy(x).requires_grad_(True)
        value = fun(torch, leaf)
        value.backward()
        return value.detach(), leaf.grad

    return call


def by_jax(fun: Function, x: np.ndarray) -> Call:
    import jax

    jax.config.update("jax_enable_x64", True)
    there = jax.numpy.asarray(x)
    compiled = jax.jit(jax.value_and_grad(functools.partial(fun, jax.numpy))).lower(there).compile()
    return lambda: jax.block_until_ready(compiled(there))


TOOLS: dict[str, tuple[str, Tool]] = {
    ENGINE: ("arraydiff.exact", engine),
    UNGUARDED: ("arraydiff", ours(method="exact", verify_trace=False)),
    GUARDED: ("arraydiff", ours(method="exact")),
    COMPLEX: ("arraydiff", ours(method="complex_step")),
    AUTOGRAD: ("autograd", by_autograd),
    TORCH: ("torch", by_torch),
    JAX: ("jax", by_jax),
}


def rosenbrock_of_numpy(x: Any) -> Any:
    return rosenbrock(np, x)


def python(code: str) -> str:
    """What a new process prints last."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


def loaded_at_import() -> int:
    """Modules of tracing that `import arraydiff` loads."""
    code = "import sys, arraydiff; print(sum(name.startswith('arraydiff.exact') for name in sys.modules))"
    return int(python(code))


# ---- memory
def peak_arrays(name: str, n: int, of_process: bool) -> float:
    """Most that is held during Rosenbrock's value and gradient, beyond x, in arrays of its size, in a process of its own."""
    return round(
        float(python(f"from benchmarks.exact_tools import peak_here; print(peak_here({name!r}, {n}, {of_process}))")), 2
    )


def peak_here(name: str, n: int, of_process: bool) -> float:
    """What NumPy allocates is traced; of other libraries only the resident memory of the process is known."""
    x = np.linspace(0.3, 1.7, n)
    tool = (lambda fun, x: functools.partial(fun, np, x)) if name == "f" else TOOLS[name][1]
    tool(rosenbrock, x[:1000].copy())()  # what a first call imports
    call = tool(rosenbrock, x)
    if of_process:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
        before = resident("VmRSS")
        call()
        return (resident("VmHWM") - before) / x.nbytes
    tracemalloc.start()
    call()
    return tracemalloc.get_traced_memory()[1] / x.nbytes


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
