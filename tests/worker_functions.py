"""Functions for workers, in a module that they can import: each says in files or in its value where it was called."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np


def waves(x: np.ndarray) -> np.ndarray:
    return np.concatenate([np.sin(x) * 1e3, np.cumsum(np.exp(x))])


def mirrored(x: np.ndarray) -> Any:
    """What came: its bits, its layout, and whether it may be written to."""
    state = (x.tobytes(), x.dtype.str, x.shape, x.flags.c_contiguous, x.flags.writeable)
    x *= 0.0
    return state


def process_id(x: np.ndarray) -> int:
    return os.getpid()


def slow_process_id(x: np.ndarray) -> int:
    time.sleep(0.02)
    return os.getpid()


def first(x: np.ndarray) -> float:
    return float(x[0])


def nested(x: np.ndarray) -> tuple[int, list[int]]:
    from arraydiff.workers import crew_of

    with crew_of(2) as crew:
        return os.getpid(), crew.run([(slow_process_id, [x, x])])[0]


def leaving_a_child_behind(x: np.ndarray) -> float:
    """Dies at 1, and what it has forked holds all of its files open."""
    if x[0] == 1.0:
        if os.fork() == 0:
            time.sleep(6.0)
        os._exit(3)
    return float(x[0])


class Unreadable:
    """Can be pickled, and not be read again."""

    def __reduce__(self) -> Any:
        return refuse, ()

    def __call__(self, x: np.ndarray) -> int:
        return os.getpid()


def refuse() -> None:
    raise ImportError("no such module here")


def leaving(x: np.ndarray) -> float:
    if x[0] == 3.0:
        sys.exit("f wants to leave")
    return float(x[0])


class Peculiar(Exception):
    """Can be pickled, and not be read again."""

    def __init__(self, wanted: str, got: str) -> None:
        super().__init__(f"wanted {wanted}, got {got}")


def raising(x: np.ndarray) -> Any:
    """As a guarded function: exceptions are values."""
    return [x[0], ValueError("negative"), Peculiar("this", "that"), Lock(), (Lock(),)][int(x[0])]


@dataclass(frozen=True)
class Noted:
    """Leaves a file for every call: its point, its process and a number."""

    folder: Path

    def note(self, x: np.ndarray) -> int:
        """How many calls there were at this point, this one included."""
        (self.folder / f"{int(x[0])}-{os.getpid()}-{time.monotonic_ns()}").touch()
        return len(list(self.folder.glob(f"{int(x[0])}-*")))

    def calls(self, point: int) -> int:
        return len(list(self.folder.glob(f"{point}-*")))

    def pids(self) -> set[int]:
        return {int(path.name.split("-")[1]) for path in self.folder.iterdir()}


@dataclass(frozen=True)
class Deadly(Noted):
    """Kills its process at some points: every time, or the first time only."""

    always: tuple[int, ...] = ()
    once: tuple[int, ...] = ()
    by_signal: bool = True

    def __call__(self, x: np.ndarray) -> float:
        count = self.note(x)
        if x[0] in self.always or (x[0] in self.once and count == 1):
            if not self.by_signal:
                os._exit(3)
            os.kill(os.getpid(), signal.SIGKILL)
        return float(x[0]) ** 2


@dataclass(frozen=True)
class Sleeping(Noted):
    seconds: float = 30.0

    def __call__(self, x: np.ndarray) -> float:
        self.note(x)
        time.sleep(self.seconds if x[0] else 0.0)
        return float(x[0])


@dataclass(frozen=True)
class Waiting:
    """At every point but 0 it waits for a file."""

    file: Path

    def __call__(self, x: np.ndarray) -> float:
        deadline = time.monotonic() + 20.0
        while x[0] and not self.file.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        return float(x[0] and self.file.exists())


class Heavy:
    """Holds an array; leaves a file wherever it is unpickled."""

    def __init__(self, folder: Path, numbers: int = 200_000) -> None:
        self.folder, self.data = folder, np.arange(float(numbers))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        (self.folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()

    def __call__(self, x: np.ndarray) -> float:
        time.sleep(0.002)
        return float(self.data[-1] + x[0])

    def read_by(self) -> list[int]:
        return [int(path.name.split("-")[0]) for path in self.folder.iterdir()]


def naps(seconds):
    time.sleep(seconds)
    return seconds


def naps_and_dies_once(point):
    log, j, deadly = Path(point[0]), point[1], point[2]
    time.sleep(0.02)
    with log.open("a") as file:
        file.write(f"{j} ")
    if j == deadly and log.read_text().split().count(str(j)) == 1:
        os._exit(7)
    return j
