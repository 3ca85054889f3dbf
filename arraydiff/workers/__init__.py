"""Evaluating functions at many points, on whatever workers there are.  Nothing here knows of derivatives.

``workers`` may be a whole number (that many processes of our own), an executor of `concurrent.futures` or one that derives from
it, such as MPI's, a Client of Dask, or a callable like `map`.
"""

from __future__ import annotations

from concurrent.futures import Executor
from numbers import Integral
from operator import index
from typing import Any

from arraydiff.workers.cluster import Cluster, is_client
from arraydiff.workers.crew import Crew
from arraydiff.workers.executors import Executors, Threads, in_this_process, width_of
from arraydiff.workers.mapping import Mapping
from arraydiff.workers.own import Own

__all__ = ["Crew", "crew_of"]

WANTED = (
    "workers wants a whole number >= 1, an Executor such as ProcessPoolExecutor(4), a Client of Dask, or a map-like callable "
    "such as multiprocessing.Pool(4).map"
)


def crew_of(workers: Any) -> Crew:
    """The crew for what a user gave as ``workers``; nothing is started yet.

    Parameters
    ----------
    workers : int, Executor, distributed.Client or callable
        A callable is called like ``map``: ``workers(function, points)``.

    Raises
    ------
    ValueError
        It is none of these, or cannot be used.

    Examples
    --------
    >>> with crew_of(map) as crew:
    ...     crew.run([(abs, [-1.0, 2.0]), (round, [0.6])])
    [[1.0, 2.0], [1]]
    """
    if not isinstance(workers, bool) and isinstance(workers, Integral) and index(workers) >= 1:
        return Own(index(workers))
    if isinstance(workers, Executor):
        return Threads(workers, width_of(workers)) if in_this_process(workers) else Executors(workers)
    if is_client(workers):
        if workers.asynchronous:
            raise ValueError("workers got an asynchronous Client; give one that was made without asynchronous=True")
        return Cluster(workers)
    if is_client(getattr(workers, "__self__", None)):
        raise ValueError(f"workers got the {workers.__name__} of a Client, which gives futures; give the Client itself")
    if callable(workers) and not (isinstance(workers, type) and issubclass(workers, Executor)):
        return Mapping(workers)
    raise ValueError(f"{WANTED}, got {workers!r}")
