"""Evaluations on many workers: waiting, rounds, speed-up, deaths; a part of `benchmarks.big`."""

from __future__ import annotations

import functools
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import arraydiff as ad
from benchmarks.rows import Row

WAITERS = 8
X16, X40, X50 = np.linspace(0.5, 1.5, 16), np.linspace(0.5, 1.5, 40), np.linspace(0.5, 1.5, 50)
BUSY = 0.02  # seconds
LONG = 0.12  # seconds of an evaluation that is not to be lost: workers come back after a tenth of a second


def waits(x: np.ndarray, seconds: float = 1.0) -> float:
    time.sleep(seconds)
    return np.sum(x**2 * np.sin(x))


def works(x: np.ndarray) -> float:
    """Bound by the processor for some 20 ms, in Python."""
    until, total = time.thread_time() + BUSY, 0
    while time.thread_time() < until:
        total += 1
    return np.sum(x**2 * np.sin(x))


def rosenbrock(x: np.ndarray) -> float:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def opaque(x: np.ndarray) -> float:
    """The same for real numbers alone."""
    return float(rosenbrock(np.array([float(v) for v in x])))


@contextmanager
def dask(workers: int) -> Iterator[Any]:
    from dask.distributed import Client, LocalCluster

    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(processes=True, **options) as cluster, Client(cluster) as client:
        yield client


def waiting(quick: bool) -> list[Row]:
    """n = 16, central, 8 workers, evaluations of 1 s: 37 of them."""
    seconds, rows = (0.2, 1.2) if quick else (1.0, 6.0)
    f = functools.partial(waits, seconds=seconds)
    engines: dict[str, Callable[[], Any]] = {
        "threads": lambda: ThreadPoolExecutor(WAITERS),
        "a process pool": lambda: ProcessPoolExecutor(WAITERS),
        "processes of our own": lambda: _bare(WAITERS),
    }
    if find_spec("distributed") is not None:
        engines["Dask"] = lambda: dask(WAITERS)
    found = []
    for name, engine in engines.items():
        with engine() as workers:
            began = time.perf_counter()
            ad.grad(f, method="central", workers=workers)(X16)
            took = time.perf_counter() - began
        what = f"{seconds:g} s evaluations, n = 16, central, 8 workers, {name}: s"
        found.append(Row(what, rows, 0.9 * rows, took))
    return found


@contextmanager
def _bare(value: Any) -> Iterator[Any]:
    yield value


class Clock(Executor):
    """So many workers at a second an evaluation, none of which is waited for."""

    def __init__(self, width: int) -> None:
        self._max_workers = width  # as the executors of the standard library say it
        self.evaluations = 0

    def map(self, function: Callable[..., Any], *tasks: Iterable[Any], **_: Any) -> Iterator[Any]:
        given = list(zip(*tasks, strict=True))
        self.evaluations += len(given)
        return iter([function(*task) for task in given])


def rounds(_: bool) -> list[Row]:
    """n = 40: rounds that are waited for."""
    found = []
    for width, name, f, options in (
        (200, "analytic f", rosenbrock, {}),
        (200, "central", opaque, {"method": "central"}),
        (200, "a ladder of 341 points, f of real numbers", opaque, {}),
        (600, "the same, workers for all its points", opaque, {}),
    ):
        result = ad.grad(f, workers=Clock(width).map, **options).result(X40)
        found.append(Row(f"n = 40, {width} workers, {name}: rounds", 3, 2, result.rounds))
    return found


def speedup(_: bool) -> list[Row]:
    """n = 50, f of 20 ms bound by the processor, two processes."""
    began = time.perf_counter()
    plain = ad.grad(works, method="central")(X50)
    serial = time.perf_counter() - began
    found = []
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(abs, range(64)))  # started
        for name, workers in (("a process pool", pool), ("processes of our own, start included", 2)):
            began = time.perf_counter()
            assert np.array_equal(ad.grad(works, method="central", workers=workers)(X50), plain)
            found.append((name, serial / (time.perf_counter() - began)))
    ideal = _two_bare_processes(round(serial / BUSY / 2))
    print(f"two bare processes without a derivative on this machine: {2 * ideal:.2f} times one")
    return [
        Row(f"20 ms of work, n = 50, 2 cores, {name}: 1.7 serial over it", 1.0, 0.9, 1.7 / got) for name, got in found
    ]


def _two_bare_processes(number: int) -> float:
    """Share of a processor that each of two has, as this machine gives it now."""
    context = get_context("fork" if os.name == "posix" else "spawn")
    began = time.perf_counter()
    both = [context.Process(target=_busy, args=(number,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    return number * BUSY / (time.perf_counter() - began)


def _busy(number: int) -> None:
    for _ in range(number):
        works(X50)


def deaths(_: bool) -> list[Row]:
    """A worker killed, an evaluation that raises, a job killed and resumed: the same result, nothing finished repeated."""
    with TemporaryDirectory() as folder:
        log = Path(folder, "calls")
        f = functools.partial(logged, str(log))
        plain = ad.grad(f)(X16)
        whole = len(log.read_bytes())
        repeated = {}
        for name, kind in (("a worker is killed", "kill"), ("an evaluation raises", "raise")):
            log.unlink()
            broken = functools.partial(once, folder, kind, f)
            got = ad.grad(broken, workers=2).result(X16)
            wrong = np.max(np.abs(got.gradient - plain) / np.abs(plain))
            repeated[name] = (len(log.read_bytes()) - whole, wrong)
            Path(folder, "done").unlink()
        log.unlink()
        store: dict[str, bytes] = {}
        stopped = functools.partial(ad.grad, f, store=_Stopping(store, 12))
        try:
            stopped()(X16)
        except KeyboardInterrupt:
            got = ad.grad(f, store=store).result(X16)
        repeated["a job is killed and resumed"] = (len(log.read_bytes()) - whole, np.max(np.abs(got.gradient - plain)))
    rows = []
    for name, (more, wrong) in repeated.items():
        rows.append(Row(f"{name}: finished evaluations repeated", 1, 0, max(more, 0)))
        rows.append(Row(f"{name}: largest relative difference", 1e-9, 0, wrong))
    return rows


class _Stopping(dict[str, bytes]):
    """A store whose job is stopped once it holds so many values."""

    def __init__(self, store: dict[str, bytes], most: int) -> None:
        super().__init__()
        self.store, self.most = store, most

    def __getitem__(self, key: str) -> bytes:
        return self.store[key]

    def __setitem__(self, key: str, value: bytes) -> None:
        self.store[key] = value
        if len(self.store) == self.most:
            raise KeyboardInterrupt


def logged(log: str, x: np.ndarray) -> float:
    time.sleep(LONG)
    value = np.sum(x**2 * np.sin(x))
    with open(log, "ab") as file:  # noqa: PTH123 - one short write, whole also where two processes write
        file.write(b".")
    return value


def once(folder: str, kind: str, f: Callable[..., float], x: np.ndarray) -> float:
    """F, but for one point at which the process dies once, or f raises."""
    done = Path(folder, "done")
    if np.isrealobj(x) and x[3] > X16[3] and np.array_equal(np.delete(x, 3), np.delete(X16, 3)):
        raise ArithmeticError("always here")
    if kind == "kill" and np.iscomplexobj(x) and x[5].imag != 0 and x[4].imag == 0 and not done.exists():
        done.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "raise" and not done.exists():
        done.touch()
    return f(x)


def messages() -> float:
    """Bytes of a point and of its answer on their way, for n = 1e5."""
    sizes: list[int] = []

    def mapped(function: Callable[..., Any], tasks: Iterable[Any]) -> list[Any]:
        given = list(tasks)
        answers = [function(task) for task in given]
        sizes.extend(
            len(pickle.dumps(task)) + len(pickle.dumps(answer)) for task, answer in zip(given, answers, strict=True)
        )
        return answers

    x = np.linspace(1.0, 2.0, 100_000)
    ad.grad(lambda x: np.sum(x[:9] ** 2), method="forward", workers=mapped, max_evaluations=100, unreliable="ignore")(x)
    return float(np.median(sizes))


def plan(_: bool) -> list[Row]:
    """The constants of the plan in docs/big.md: bytes and time of the processor for a point, memory of the parent."""
    import tracemalloc

    class Repeats:
        """Answers for all points of a round from one of them: f itself is not what is measured."""

        def __call__(self, function: Callable[..., Any], tasks: Iterable[Any]) -> list[Any]:
            given = list(tasks)
            return [function(given[0])] * len(given)

    x = np.linspace(1.0, 2.0, 100_000)
    options = {"method": "complex_step", "workers": Repeats(), "unreliable": "ignore"}
    began = time.process_time()
    points = ad.grad(lambda x: np.sum(x[:9] ** 2), **options).result(x).function_points
    spent = 1e6 * (time.process_time() - began) / points
    tracemalloc.start()
    ad.grad(lambda x: np.sum(x[:9] ** 2), **options)(x)
    most = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return [
        Row("n = 1e5: bytes of a point and its answer", 1000, 400, messages()),
        Row("n = 1e5: processor time of the parent for a point, µs", 200, 50, spent),
        Row("n = 1e5: memory of the parent, MB", 200, 50, most),
    ]


PARTS = {"waiting": waiting, "rounds": rounds, "speed-up": speedup, "deaths": deaths, "plan": plan}
