"""workers=k: so many processes of our own, or threads where f cannot be sent to a process."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from arraydiff.workers.crew import Crew
from arraydiff.workers.executors import Threads
from arraydiff.workers.post import Unsendable
from arraydiff.workers.processes import Processes, Unreadable
from arraydiff.workers.work import Work

UNFORKED = {"torch", "cupy"}
"""Libraries whose threads, or whose device, do not survive a fork: what is computed in a forked process waits for ever."""

UNSENT = {"jax", "jaxlib"}
"""Nor does JAX; and a process that is started anew has not its x64 switched on, and would read float64 as float32."""


class Own(Crew):
    """So many evaluations at a time, in this process where a round is not worth sending."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width: int = width
        self._processes = Processes(width, pace=self.pace)
        self._threads = Threads(partial(ThreadPoolExecutor, width), width, self.pace)
        self._in_threads: bool | None = None  # not decided yet

    def serve(self, work: Work) -> None:
        """Give every task that waits its result."""
        if self._in_threads is None:
            self._in_threads = _may_have_no_children() or _is_safe_in_threads_only(work)
        if self._stays(work):
            self.pace.learn(len(work.tasks), work.evaluate_here())
        elif not self._in_threads:
            try:
                self._processes.serve(work)
            except (Unsendable, Unreadable):  # a lambda, or a function that only this process has
                self._in_threads = True
        if work.waiting:
            self._threads.serve(work)

    def close(self, hurry: bool) -> None:
        """End what was started."""
        self._processes.close(hurry)
        self._threads.close(hurry)

    def _stays(self, work: Work) -> bool:
        """Whether the round is evaluated in this thread; never where f has killed a process."""
        return not self._processes.deaths and self.pace.is_cheaper_here(len(work.tasks))


def _may_have_no_children() -> bool:
    return multiprocessing.current_process().daemon


def _is_safe_in_threads_only(work: Work) -> bool:
    """By the library of the points; such libraries compute beside each other in threads."""
    libraries = {type(points[0]).__module__.partition(".")[0] for _, points in work.asked if len(points)}
    forks = multiprocessing.get_start_method() == "fork"
    return not (libraries.isdisjoint(UNSENT) and (libraries.isdisjoint(UNFORKED) or not forks))
