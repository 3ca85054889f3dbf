"""Workers of Dask: pieces are submitted to a Client, big functions scattered.  Nothing of Dask is imported here but by it."""

from __future__ import annotations

from concurrent.futures import CancelledError
from importlib import import_module
from typing import Any

from arraydiff.workers.executors import Future, Submitting
from arraydiff.workers.post import Letter, Post, Unsendable
from arraydiff.workers.serving import serve_scattered
from arraydiff.workers.work import Piece, Work


class Cluster(Submitting):
    """A Client of the user's.  Dask runs again what a dead worker had; what it gives up is tried once more, alone."""

    ahead = 2  # the way by the scheduler takes ten milliseconds

    def __init__(self, client: Any) -> None:
        super().__init__()
        self._client = client
        self._post = Post(_by_value)
        self._scattered: dict[str, Future] = {}

    @property
    def width(self) -> int | None:  # type: ignore[override]
        """Threads of all workers, as many as there are when it is asked for."""
        if self._client.status != "running":
            raise RuntimeError("workers could not evaluate f: the Client of Dask is closed; give one that is open")
        return sum(self._client.nthreads().values()) or None

    def serve(self, work: Work) -> None:
        """Give every task that waits its result."""
        try:
            self._post.collect(work.functions)
        except Unsendable as error:
            raise TypeError(
                f"workers=Client needs an f that can be pickled ({error}); define f and what it holds at the level of a "
                "module, or give workers=ThreadPoolExecutor(...)"
            ) from error
        super().serve(work)

    def close(self, hurry: bool) -> None:
        """Let the cluster forget what was scattered."""
        self._scattered.clear()

    def _may_send(self, work: Work, flying: int) -> bool:
        if work.waiting and work.waiting[0].again:  # alone: whom it kills is then known
            return not flying
        return super()._may_send(work, flying)

    def _submitted(self, work: Work, piece: Piece) -> Future:
        blobs: list[Future] = []

        def along(letter: Letter) -> bool:
            if letter.is_big:
                blobs.append(self._scatter(letter, len(work.tasks)))
            return not letter.is_big

        parcels = self._post.parcels(work, piece, along)
        return self._client.submit(serve_scattered, parcels, *blobs, pure=False)

    def _scatter(self, letter: Letter, tasks: int) -> Future:
        if letter.token not in self._scattered:
            # To everyone where everyone will ask for it: then it also outlives the worker that was given it.
            everywhere = tasks >= len(self._client.nthreads())
            self._scattered[letter.token] = self._client.scatter(letter.blob, broadcast=everywhere, hash=False)
        return self._scattered[letter.token]

    def _failed(self, work: Work, piece: Piece, error: Exception) -> None:
        lost = isinstance(error, CancelledError) or type(error).__name__ == "KilledWorker"
        if not lost or self._client.status != "running":
            super()._failed(work, piece, error)
        self._scattered.clear()  # it may have been lost as well
        work.lose(piece, "the Dask worker that evaluated f here died")


def is_client(thing: object) -> bool:
    """Whether it is a Client of Dask."""
    of_dask = any(base.__module__.partition(".")[0] == "distributed" for base in type(thing).__mro__)
    return of_dask and hasattr(thing, "scatter") and hasattr(thing, "submit")


def _by_value(function: object) -> bytes:
    """As Dask pickles: functions of the main script by value, since its workers have another one."""
    blob: bytes = import_module("cloudpickle").dumps(function)
    return blob
