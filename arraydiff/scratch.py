"""Columns on disk, where they do not fit in memory: written one after the other, read back some rows of all at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from shutil import disk_usage
from typing import Any

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.memory import told

REMEDY = "give more as max_memory=, or part the residual into blocks (blocks=), which need no file"


class Scratch:
    """A file of pairs of columns, n times two of length m: gone once it is closed, or the program ends.

    It is written and read in plain stretches: a memory map would count as memory of the process.
    """

    def __init__(self, backend: Backend, m: int, n: int, dtype: Any, width: int) -> None:
        self.backend, self.m, self.n, self.dtype = backend, m, n, dtype
        self.width, self.wanted = width, 2 * m * n * width  # bytes of a number, and of all
        folder = tempfile.gettempdir()
        free = disk_usage(folder).free
        if free < self.wanted:
            raise OSError(
                f"J does not fit in memory, and its columns need {told(self.wanted)} in {folder}, which has {told(free)} left: "
                f"let TMPDIR name a folder with more room, {REMEDY}"
            )
        self.file = tempfile.TemporaryFile(prefix="arraydiff-", buffering=0)  # noqa: SIM115 - closed by whoever made this
        self.written: set[int] = set()

    def write(self, which: Sequence[int], columns: Array, errors: Array) -> None:
        """Columns `which` (m, k), and what belongs to each, (m, k)."""
        for j, i in enumerate(which):
            for place, part in ((i, columns), (self.n + i, errors)):
                self._put(place, self.backend.as_numpy(part[:, j]))
            self.written.add(i)

    def _put(self, place: int, column: Any) -> None:
        data = memoryview(column if column.flags.c_contiguous else column.copy()).cast("B")
        self.file.seek(place * self.m * self.width)
        try:
            while data:
                data = data[self.file.write(data) :]
        except OSError as error:
            raise OSError(
                f"J does not fit in memory, and its columns ({told(self.wanted)}) could not be written to a file in "
                f"{tempfile.gettempdir()} ({error}); let TMPDIR name a folder with more room, {REMEDY}"
            ) from error

    def slabs(self, rows: int) -> Iterator[tuple[Array, Array]]:
        """All columns and what belongs to them, (n, r) each, some rows at a time; columns never written are 0."""
        for start in range(0, self.m, rows):
            length = min(rows, self.m - start)
            yield self._slab(0, start, length), self._slab(self.n, start, length)

    def _slab(self, first: int, start: int, length: int) -> Array:
        size = length * self.width
        data = bytearray(self.n * size)
        for i in range(self.n):
            if i in self.written:
                self.file.seek(((first + i) * self.m + start) * self.width)
                self._fill(memoryview(data)[i * size : (i + 1) * size])
        return self.backend.of_bytes(data, (self.n, length), self.dtype)

    def _fill(self, data: memoryview) -> None:
        while data:
            got = self.file.readinto(data)
            if not got:
                raise OSError(f"the file that holds the columns of J ended too early; {REMEDY}")
            data = data[got:]

    def close(self) -> None:
        """Give the disk its room back."""
        self.file.close()
