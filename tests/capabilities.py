"""What works on which array library, found out by trying.

``python -m tests.capabilities`` prints the table of docs/backends.md, ``--write`` renews it there.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace

import arraydiff as ad
from tests.helpers import Backend

PAGE = Path(__file__).resolve().parents[1] / "docs" / "backends.md"
MARKED = re.compile(r"(?<=<!-- capabilities -->\n).*?(?=<!-- end -->)", re.DOTALL)
YES, NO, NONE = "yes", "no", "–"
X = [0.3, 0.7]


class Mparray:
    """mparray, as `tests.helpers.Backend` has the others."""

    value = library = "mparray"

    def reason_to_skip(self) -> str | None:
        return None if importlib.util.find_spec("mparray") else "mparray is not installed: pip install mparray"

    def active(self) -> contextlib.AbstractContextManager[Any]:
        return importlib.import_module("mpmath").mp.workdps(50)

    def asarray(self, values: Any, dtype: str = "float64") -> Any:
        return importlib.import_module("mparray").asarray(np.asarray(values, dtype=dtype))

    @staticmethod
    def tonumpy(array: Any) -> np.ndarray:
        return np.asarray(array._data, dtype=float)


COLUMNS: dict[str, Any] = {
    "NumPy": Backend.NUMPY,
    "CuPy (stand-in)": Backend.CUPY,
    "PyTorch": Backend.TORCH,
    "JAX": Backend.JAX,
    "Dask": Backend.DASK,
    "array-api-strict": Backend.STRICT_DEVICE1,
    "mparray": Mparray(),
}


def total(x: Any) -> Any:
    xp = array_namespace(x)
    return xp.sum(xp.exp(x) * x)


def slope(x: Any) -> np.ndarray:
    return np.exp(x) * (1 + np.asarray(x))


def each(x: Any) -> Any:
    return array_namespace(x).exp(x) * x


@dataclass(frozen=True)
class Trial:
    """A library, and whether arrays of it hold what they should."""

    backend: Any

    def x(self, values: Any = X, dtype: str = "float64") -> Any:
        return self.backend.asarray(values, dtype)

    def right(self, array: Any, exact: Any, rtol: float = 1e-6) -> bool:
        return bool(np.allclose(self.backend.tonumpy(array), exact, rtol=rtol, atol=rtol))


def by_method(method: str) -> Callable[[Trial], bool]:
    def works(trial: Trial) -> bool:
        result = ad.grad(total, method=method, unreliable="ignore").result(trial.x())
        taken = method == "adaptive" or result.method_used.value == method
        return taken and trial.right(result.gradient, slope(X), 1e-5)

    return works


def jacobian(trial: Trial) -> bool:
    return trial.right(ad.jacobian(each, method="central")(trial.x()), np.diag(slope(X)))


def hessian(trial: Trial) -> bool:
    exact = np.diag(np.exp(X) * (2 + np.asarray(X)))
    return trial.right(ad.hessian(total, method="central", unreliable="ignore")(trial.x()), exact, 1e-2)


def elementwise(trial: Trial) -> bool:
    return trial.right(ad.derivative(each, method="central")(trial.x()), slope(X))


def vectorized(trial: Trial) -> bool:
    def batched(x: Any) -> Any:
        xp = array_namespace(x)
        return xp.sum(xp.exp(x) * x, axis=0)

    result = ad.grad(batched, method="central", vectorized=True).result(trial.x())
    return result.function_calls < result.function_points and trial.right(result.gradient, slope(X))


def bounds(trial: Trial) -> bool:
    result = ad.grad(total, method="central", bounds=(0.3, 0.7), unreliable="ignore").result(trial.x())
    return trial.right(result.gradient, slope(X), 1e-5)


def zero_dimensional(trial: Trial) -> bool:
    gradient = ad.grad(total, method="central")(trial.x(0.7))
    return tuple(gradient.shape) == () and trial.right(gradient, slope(0.7))


def pytrees(trial: Trial) -> bool:
    gradient = ad.grad(lambda p: total(p["a"]) + total(p["b"]), method="central")({"a": trial.x(), "b": trial.x(0.7)})
    return trial.right(gradient["a"], slope(X)) and trial.right(gradient["b"], slope(0.7))


def single_precision(trial: Trial) -> bool:
    x = trial.x(X, "float32")
    gradient = ad.grad(total, method="central", unreliable="ignore")(x)
    return bool(gradient.dtype == x.dtype) and trial.right(gradient, slope(X), 1e-2)


def deferred(trial: Trial) -> bool | None:
    """Whether a fixed stencil asks for no value: under jax.jit, and without a computation of Dask."""
    gradient = ad.grad(total, method="central", unreliable="ignore")
    if trial.backend is Backend.JAX:
        return trial.right(importlib.import_module("jax").jit(gradient)(trial.x()), slope(X))
    if trial.backend is Backend.DASK:
        x = trial.x()
        with refusing_to_compute():
            lazy = gradient(x)
        return trial.right(lazy, slope(X))
    return None


@contextlib.contextmanager
def refusing_to_compute() -> Any:
    """Inside, nothing of Dask is computed."""
    base, dask = importlib.import_module("dask.base"), importlib.import_module("dask")

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a value was asked for")

    kept = base.get_scheduler
    base.get_scheduler = refuse
    try:
        with dask.config.set(scheduler=refuse):
            yield
    finally:
        base.get_scheduler = kept


ROWS: dict[str, Callable[[Trial], bool | None]] = {
    **{f"gradient, `method={method.value!r}`".replace("'", '"'): by_method(method.value)
       for method in ad.DifferentiationMethod if method.value != "exact"},
    "Jacobian": jacobian,
    "Hessian": hessian,
    "`derivative`, elementwise": elementwise,
    "`vectorized=True`": vectorized,
    "`bounds`": bounds,
    "0-d arrays": zero_dimensional,
    "pytrees": pytrees,
    "float32 in, float32 out": single_precision,
    "`central` under `jax.jit`, or lazily on Dask": deferred,
}  # fmt: skip


def cell(backend: Any, works: Callable[[Trial], bool | None]) -> str:
    """Whether it works; an exception is a no."""
    try:
        answer = works(Trial(backend))
    except Exception:  # noqa: BLE001
        return NO
    return NONE if answer is None else YES if answer else NO


def column(backend: Any) -> dict[str, str]:
    """What works on one library, by the names of the rows."""
    with backend.active():
        return {name: cell(backend, works) for name, works in ROWS.items()}


def table() -> str:
    """All of it as Markdown."""
    found = {title: column(backend) for title, backend in COLUMNS.items()}
    lines = [["", *found], ["---"] * (len(found) + 1)]
    lines += [[name, *(answers[name] for answers in found.values())] for name in ROWS]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def in_the_docs() -> dict[str, dict[str, str]]:
    """The table of the page, by column and row."""
    match = MARKED.search(PAGE.read_text(encoding="utf-8"))
    assert match is not None
    head, _, *rows = [[entry.strip() for entry in line.strip("|").split("|")] for line in match[0].splitlines()]
    return {title: {row[0]: row[i] for row in rows} for i, title in enumerate(head) if i}


if __name__ == "__main__":
    made = table()
    if "--write" in sys.argv:
        PAGE.write_text(MARKED.sub(made.replace("\\", r"\\"), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(made)
