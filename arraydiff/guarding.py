"""How f is called where what surrounds a derivative does not reach: in other threads and processes."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from arraydiff._typing import Array
from arraydiff.arguments import is_complex
from arraydiff.backends import Backend
from arraydiff.problem import Answer, Guarded
from arraydiff.seam import Moved, Task


@dataclass(frozen=True)
class Sent(Guarded):
    """A call by a worker, whose thread or process knows nothing of the derivative that it is for."""

    x: Array

    def __call__(self, task: Task) -> Answer:
        backend, point = self.call.backend, self.point(task)
        with backend.on_device(), backend.quietly(), strictly(backend, is_complex(backend, point.dtype)):
            return super().__call__(point)

    def point(self, task: Task) -> Array:
        """The point that a task stands for."""
        return task.made(self.call.backend, self.x) if isinstance(task, Moved) else task


def strictly(backend: Backend, is_complex: bool) -> AbstractContextManager[None]:
    """At complex points a warning that an imaginary part is lost counts as an exception."""
    return _raising(backend.complex_warnings) if is_complex else nullcontext()


class _Raising:
    """Warnings of some kinds raise inside, in every thread that is inside.

    warnings.catch_warnings restores what it found, which two threads that overlap do in the wrong order.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Nobody is inside."""
        self.lock, self.depth = threading.Lock(), 0

    @contextmanager
    def __call__(self, kinds: tuple[type[Warning], ...]) -> Iterator[None]:
        with self.lock:
            self.depth += 1
            if self.depth == 1:
                for kind in kinds:
                    warnings.filterwarnings("error", category=kind)
        try:
            yield
        finally:
            with self.lock:
                self.depth -= 1
                if self.depth == 0:
                    for kind in kinds:
                        _forget_filter(kind)


_raising = _Raising()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_raising.begin_anew)  # another thread may have been inside


def _forget_filter(kind: type[Warning]) -> None:
    mine = next((f for f in warnings.filters if f[0] == "error" and f[2] is kind), None)
    if mine is not None:
        warnings.filters.remove(mine)  # type: ignore[attr-defined]
