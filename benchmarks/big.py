"""What large problems cost, in memory above all: each measurement in a process of its own, so that its peak is its own.

    python -m benchmarks.big [--quick] [NAME ...]        # names: as --help prints them

A peak is the resident memory of the whole process, interpreter and libraries included, unless the line says "beyond". Times
of normal equations are of the processor, which neighbours slow down less, on one thread; the fit takes a few threads. ``--quick``
takes sizes that fit in a minute or two.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.big_workers import PARTS as WORKERS
from benchmarks.rows import Row, table

ROOT = Path(__file__).resolve().parents[1]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
GB, MB = 1e9, 1e6
PARAMETERS = 53
DECAYS = (PARAMETERS - 1) // 2
X = np.concatenate([[0.1], np.linspace(0.5, 1.0, DECAYS), np.linspace(0.1, 8.0, DECAYS)])
BLOCK = 100_000  # rows
ROOM = {  # max_memory of the Jacobian; a ladder takes 65 MB for the outputs that stand for all, however many there are
    "jacobian": {False: "256 MB", True: "64 MB"},
    "jacobian-opaque": {False: "256 MB", True: "128 MB"},
}


def peak() -> float:
    """Bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


@dataclass(frozen=True)
class Decays:
    """Sums of exponentials over a grid: all of it, or block b of it, made where it is asked for."""

    rows: int

    def __call__(self, x: np.ndarray, b: int | None = None) -> np.ndarray:
        first, last = (0, self.rows) if b is None else (b * BLOCK, min((b + 1) * BLOCK, self.rows))
        t = (np.arange(first, last) + 0.5) / self.rows
        r = x[0] - 1 / (1 + t)
        for amplitude, rate in zip(x[1 : 1 + DECAYS], x[1 + DECAYS :], strict=True):
            r += amplitude * np.exp(-rate * t)
        return r


class Clock:
    """Started when it is made: by the wall, and of the processor, which neighbours do not slow down as much."""

    def __init__(self) -> None:
        self.wall, self.busy = time.perf_counter(), time.process_time()

    def told(self) -> dict[str, float]:
        return {"seconds": time.perf_counter() - self.wall, "busy": time.process_time() - self.busy}


class Timed:
    """f, and what a point took on average at which one parameter is displaced along the imaginary axis.

    Timed where it happens, so that caches, allocator and neighbours are those of the derivative.
    """

    def __init__(self, f: Decays) -> None:
        self.f, self.spent, self.count = f, 0.0, 0

    def __call__(self, x: np.ndarray, b: int | None = None) -> np.ndarray:
        began = time.process_time()
        values = self.f(x, b)
        if np.count_nonzero(np.imag(x)) == 1:
            self.spent, self.count = self.spent + time.process_time() - began, self.count + 1
        return values


def costs(timed: Timed, began: Clock, blocks: int, points: int) -> dict[str, Any]:
    """Memory, and time beside n + 1 complex evaluations."""
    took, evaluation = began.told(), blocks * timed.spent / timed.count
    ratio = took["busy"] / ((PARAMETERS + 1) * evaluation)
    found = {"rows": timed.f.rows, "peak": peak(), **took, "evaluation": evaluation, "ratio": ratio}
    return found | {"points": points / blocks}


def normal_equations(quick: bool) -> dict[str, Any]:
    """M = 2e7 in blocks, by the complex step."""
    import arraydiff as ad

    f = Timed(Decays(1_000_000 if quick else 20_000_000))
    blocks = f.f.rows // BLOCK
    began = Clock()
    result = ad.normal_equations(f, blocks=blocks, method="complex_step", unreliable="raise").result(X)
    return costs(f, began, blocks, result.function_points)


def normal_equations_plain(quick: bool) -> dict[str, Any]:
    """The same residual in one piece: its columns in memory where they fit, else in a file."""
    import arraydiff as ad

    f = Timed(Decays(200_000 if quick else 20_000_000))
    began = Clock()
    result = ad.normal_equations(f, method="complex_step", max_memory="200 MB" if quick else "4 GB").result(X)
    return costs(f, began, 1, result.function_points)


def jacobian_beyond(quick: bool, name: str, **options: Any) -> dict[str, Any]:
    """What a bare Jacobian of M = 1e6 outputs takes beside itself and one call of f."""
    import arraydiff as ad

    rows = 250_000 if quick else 1_000_000
    f = Decays(rows)
    began = Clock()
    jacobian = ad.jacobian(f, max_memory=ROOM[name][quick], **options)(X)
    took = began.told()
    assert jacobian.shape == (rows, PARAMETERS)
    return {"rows": rows, "peak": peak(), **took}


def jacobian_alone(quick: bool) -> dict[str, Any]:
    """The Jacobian's room, filled, and one complex call of f: what `jacobian_beyond` is beyond."""
    import arraydiff as ad

    f = Decays(250_000 if quick else 1_000_000)
    ad.jacobian(np.sin)(np.ones(3))  # what a derivative imports
    jacobian = np.ones((f.rows, PARAMETERS))
    f(X + 1e-20j)
    return {"rows": f.rows, "peak": peak(), "size": jacobian.nbytes}


def xpcs_fit(quick: bool, frames: int = 1001) -> dict[str, Any]:
    """The command line's own fit of 53 parameters, simulation and report included."""
    from arraydiff.cli import main as command_line

    began = Clock()
    with TemporaryDirectory() as folder:
        numbers = Path(folder, "fit.json")
        size = ["--frames", str(142 if quick else frames), "--angles", "23", "--per-angle", "--json", str(numbers)]
        limit = ["--max-memory", "50 MB"] if quick else []
        with redirect_stdout(StringIO()):
            assert command_line(["demo", *size, *limit, "--plot", str(Path(folder, "fit.png"))]) == 0
        (fit,) = json.loads(numbers.read_text(encoding="utf-8"))["fits"]
    chi2 = fit["chi2"] / fit["degrees_of_freedom"]
    found = {"rows": fit["degrees_of_freedom"] + PARAMETERS, "converged": fit["converged"], "chi2": chi2}
    return found | {
        "peak": peak(),
        **began.told(),
        "evaluations": fit["evaluations"],
        "jacobians": fit["cost"]["jacobians"],
    }


MEASUREMENTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "normal-equations": normal_equations,
    "normal-equations-plain": normal_equations_plain,
    "jacobian-alone": jacobian_alone,
    "jacobian": partial(jacobian_beyond, name="jacobian"),
    "jacobian-opaque": partial(jacobian_beyond, name="jacobian-opaque", opaque=True),
    "xpcs-fit": xpcs_fit,
    "xpcs-fit-23M": partial(xpcs_fit, frames=1416),
}


def of_blocks(quick: bool) -> list[Row]:
    found = told("normal-equations", quick)
    what = f"normal equations, M = {found['rows']:.0e}, n = {PARAMETERS}"
    return [
        Row(f"{what}: resident memory in all, GB", 2.0, 0.5, found["peak"] / GB),
        Row(f"{what}: time over (n + 1) complex evaluations", 1.3, 1.1, found["ratio"]),
    ]


def of_one_piece(quick: bool) -> list[Row]:
    found = told("normal-equations-plain", quick)
    rows, room = ("2e+05", "0.2 GB") if quick else ("2e+07", "4 GB")
    held = found["peak"] / GB if "peak" in found else float("inf")
    return [Row(f"normal equations in one piece, M = {rows}, max_memory {room}: in all, GB", 6.0, 4.0, held)]


def of_jacobian(quick: bool) -> list[Row]:
    alone, rows = told("jacobian-alone", quick), []
    for name, how in (("jacobian", "as it comes"), ("jacobian-opaque", "opaque")):
        found, limit = told(name, quick), float(ROOM[name][quick].split()[0])
        what = f"memory beyond J and one call of f, M = {alone['rows']:.1g}, n = {PARAMETERS}, {how}, MB"
        beyond = (found["peak"] - alone["peak"]) / MB if "peak" in found else float("inf")
        rows.append(Row(what, limit, limit / 2, beyond))
    return rows


def of_fit(quick: bool) -> list[Row]:
    rows = []
    for name in ("xpcs-fit",) if quick else ("xpcs-fit", "xpcs-fit-23M"):
        found = told(name, quick)
        what = f"XPCS fit, {found['rows']:.3g} residuals x {PARAMETERS}"
        rows += [
            Row(f"{what}: resident memory in all, GB", 4.0, 2.0, found["peak"] / GB),
            Row(f"{what}: minutes", 8.0, 4.0, found["seconds"] / 60),
            Row(f"{what}: chi2 over degrees of freedom, off 1", 0.02, 0.002, abs(found["chi2"] - 1)),
        ]
    return rows


PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "normal-equations": of_blocks,
    "one-piece": of_one_piece,
    "jacobian": of_jacobian,
    "xpcs-fit": of_fit,
    **WORKERS,
}


def told(name: str, quick: bool) -> dict[str, Any]:
    """What a measurement gives in a process of its own, printed as it comes."""
    command = [sys.executable, "-m", "benchmarks.big", "--child", name, *["--quick"] * quick]
    environment = os.environ | dict.fromkeys(THREADS, "1")
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    shown = ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in found.items()
    )
    print(f"{name}: {shown}", flush=True)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--child", metavar="NAME", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child:
        try:
            print(json.dumps(MEASUREMENTS[arguments.child](arguments.quick)))
        except (MemoryError, OSError) as error:
            print(json.dumps({"failed": str(error)}))
        return 0
    if unknown := set(arguments.names) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    rows = [row for name in arguments.names or PARTS for row in PARTS[name](arguments.quick)]
    print(table(rows))
    return int(any(row.verdict == "MISSED" for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
