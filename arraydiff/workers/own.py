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


class Own(Crew):
    """So many evaluations at a time, in this process where a round is not worth sending."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width: int = width
        self._processes = Processes(width, pace=self.pace)
        self._threads = Threads(partial(ThreadPoolExecutor, width), width, self.pace)
        self._in_threads = multiprocessing.current_process().daemon  # such a process may have no children

    def serve(self, work: Work) -> None:
        """Give every task that waits its result."""
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
