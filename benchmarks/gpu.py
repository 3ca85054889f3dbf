"""XPCS gradients and Jacobians on CPU and GPU: time over one evaluation, host reads, peak memory, in one run.

    python -m benchmarks.gpu [--json FILE] [--quick] [--device cpu|cuda] [--library cupy ...]

Beside arraydiff run a batched central difference written by hand on the same library, jax.grad and jax.jacfwd, and PyTorch's
autograd. What is not installed, or finds no device, is named and left out. Times are the shortest of several calls that take
turns, with the device done; the first call, which compiles, does not count. JAX's f is under jax.jit everywhere.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes three quarters of a GPU's memory

from arraydiff.environment import describe
from benchmarks.gpu_tools import ANGLES, CENTRAL, FREE, HAND, HAND_SAME, LOOP, Library, Measured, OnDevice, measured
from benchmarks.rows import Row, table
from benchmarks.xpcs_points import SAMPLE, simulate

FRAMES = {False: (64, 128, 256, 512, 1024, 2048), True: (64, 128)}
ON_CPU = 512  # more frames take minutes there
ROW_FRAMES = 512
BUDGET = {False: 0.5, True: 0.1}  # seconds a way
LIBRARIES = {
    "cuda": [Library("cupy", "cuda"), Library("torch", "cuda"), Library("jax", "cuda")],
    "cpu": [Library("numpy", "cpu"), Library("torch", "cpu"), Library("jax", "cpu")],
}
KINDS = {"gradient": False, "Jacobian": True}
NAME_WIDTH = 38
HEADING = f"{'time/f':>9}{'ms':>11}{'reads':>7}{'points':>8}{'peak MiB':>10}{'error':>10}"

Found = dict[tuple[str, str, int, str], dict[str, Measured]]


def present(wanted: list[Library]) -> list[Library]:
    """The libraries that can be measured; the others are named."""
    found = []
    for library in wanted:
        reason = library.why_not
        if reason is None:
            found.append(library)
        else:
            print(f"left out: {library.name} on {library.device}: {reason}")
    return found


def run(libraries: list[Library], quick: bool, keep: Callable[[Found], None]) -> Found:
    """All figures, printed and kept as they come: a lease may end first."""
    found: Found = {}
    for frames in FRAMES[quick]:
        data = simulate(SAMPLE, frames, ANGLES)
        for library in libraries:
            if library.device == "cpu" and frames > ON_CPU:
                continue
            problem = OnDevice(library, data)
            for kind, is_jacobian in KINDS.items():
                print(
                    f"\n{f'{library.name} on {library.device}, N = {frames}, {kind}':{NAME_WIDTH}}{HEADING}", flush=True
                )
                got = measured(problem, is_jacobian, BUDGET[quick])
                found[library.name, library.device, frames, kind] = got
                for name, one in got.items():
                    print(f"  {name:{NAME_WIDTH - 2}}{one}", flush=True)
                keep(found)
    return found


def rows(found: Found) -> list[Row]:
    """The limits for ROW_FRAMES frames, or for as many as were measured."""
    lines = []
    for (library, device, frames, kind), got in found.items():
        largest = max(n for name, place, n, _ in found if (name, place) == (library, device))
        if kind != "gradient" or frames != min(ROW_FRAMES, largest) or not {HAND, HAND_SAME, CENTRAL} <= got.keys():
            continue
        ours = got[CENTRAL].time_over_f
        where = f"{library} on {device}, N = {frames}: overhead over a central difference by hand"
        lines.append(Row(f"{where}, same points", 0.15, 0.1, ours / got[HAND_SAME].time_over_f - 1))
        lines.append(Row(f"{where}, 2n points", 0.15, 0.1, ours / got[HAND].time_over_f - 1))
        if LOOP in got:
            lines.append(
                Row(
                    f"{library} on {device}, N = {frames}: batched over one by one",
                    1.0,
                    0.5,
                    ours / got[LOOP].time_over_f,
                )
            )
    return lines


def record(found: Found, command: list[str]) -> dict[str, Any]:
    """When, where, with what, and every figure."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks.gpu", *command]),
        "machine": describe(),
        "problem": {"parameters": len(FREE), "angles": ANGLES},
        "rows": [asdict(line) | {"verdict": line.verdict} for line in rows(found)],
        "figures": [
            {"library": library, "device": device, "frames": frames, "derivative": kind, "way": way} | asdict(one)
            for (library, device, frames, kind), got in found.items()
            for way, one in got.items()
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the record here")
    parser.add_argument("--quick", action="store_true", help="64 and 128 frames, a fifth of the time a way")
    parser.add_argument("--device", choices=list(LIBRARIES), help="one kind of device only; default: both")
    parser.add_argument("--library", nargs="+", help="some array libraries only")
    options = parser.parse_args()
    print("\n".join(describe()))
    wanted = [library for device, those in LIBRARIES.items() if options.device in (None, device) for library in those]

    def keep(found: Found) -> None:
        if options.json:
            options.json.write_text(json.dumps(record(found, sys.argv[1:]), indent=1) + "\n")

    libraries = present([one for one in wanted if options.library is None or one.name in options.library])
    print(table(rows(run(libraries, options.quick, keep))))


if __name__ == "__main__":
    main()
