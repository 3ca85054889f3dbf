"""What runs in a worker: functions arrive pickled, are kept there, and are called at the points of a piece."""

from __future__ import annotations

import pickle
import threading
from collections import OrderedDict
from collections.abc import Sequence
from time import perf_counter
from typing import Any, NamedTuple

SMALL = 32 * 1024
"""Bytes of a pickled function that go with every piece: a pipe holds them, and copying them takes microseconds."""

FEW, MANY = 2, 64
"""Functions that a worker keeps: big ones, as each may hold gigabytes, and small ones."""


LONGEST = 0.1
"""Seconds after which a worker comes back with what it has: it is not lost with the worker, and the rest is cut anew."""


class Parcel(NamedTuple):
    """A function and points for it."""

    token: str  # names the function
    blob: bytes | None  # the function, pickled; None: the worker should have it
    points: bytes  # a list, pickled here: what carries it must not make its arrays read-only


class Served(NamedTuple):
    """A worker's answer to a piece."""

    answers: list[Any]  # of the first points, in order; pickled, each by itself, where they come from another process
    seconds: float = 0.0  # that the functions took
    missing: bool = False  # whether a function is not known here: then nothing was evaluated
    unreadable: str = ""  # why a function or a point cannot be read here: then neither


class Recent:
    """The things used last, by their token."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.things: OrderedDict[str, Any] = OrderedDict()

    def get(self, token: str) -> Any:
        """None where it is not kept."""
        if token in self.things:
            self.things.move_to_end(token)
        return self.things.get(token)

    def keep(self, token: str, thing: Any) -> None:
        """Keep it, and drop what was not used for longest."""
        self.things[token] = thing
        self.things.move_to_end(token)
        while len(self.things) > self.limit:
            self.things.popitem(last=False)


_big, _small = Recent(FEW), Recent(MANY)
_reading = threading.RLock()  # the threads of a worker read a function once


def serve(parcels: Sequence[Parcel]) -> Served:
    """Evaluate a piece that came from another process."""
    try:
        functions = [_function(parcel) for parcel in parcels]
        if any(function is None for function in functions):
            return Served([], missing=True)
        points = [pickle.loads(parcel.points) for parcel in parcels]  # noqa: S301 - from the process that owns this one
    except Exception as error:  # noqa: BLE001 - whatever reading runs into
        return Served([], unreadable=_named(error))
    served = serve_here(list(zip(functions, points, strict=True)))
    return served._replace(answers=[sealed(answer) for answer in served.answers])


def serve_scattered(parcels: Sequence[Parcel], *blobs: bytes) -> Served:
    """The same, where big functions came another way: in the order of the parcels that lack theirs."""
    arrived = iter(blobs)
    return serve([p if p.blob is not None else p._replace(blob=next(arrived)) for p in parcels])


def serve_here(parts: Sequence[tuple[Any, list[Any]]], stop: threading.Event | None = None) -> Served:
    """Evaluate a piece in this process; from `stop` on nobody wants its answers."""
    answers: list[Any] = []
    seconds = 0.0
    for function, points in parts:
        for point in points:
            if stop is not None and stop.is_set():
                return Served(answers, seconds)
            start = perf_counter()
            answers.append(function(point))
            seconds += perf_counter() - start
            if seconds >= LONGEST:
                return Served(answers, seconds)
    return Served(answers, seconds)


def _function(parcel: Parcel) -> Any:
    """None where it is not known here and did not come along."""
    kept = _big if parcel.blob is None or len(parcel.blob) > SMALL else _small
    with _reading:
        function = kept.get(parcel.token)
        if function is None and parcel.blob is not None:
            function = pickle.loads(parcel.blob)  # noqa: S301 - from the process that owns this one
            kept.keep(parcel.token, function)
    return function


def sealed(answer: Any) -> bytes:
    """An answer, pickled; one that cannot be sent is replaced by an exception that tells of it."""
    try:
        blob = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        if isinstance(answer, BaseException):
            pickle.loads(blob)  # noqa: S301 - exceptions with arguments of their own go in and do not come out
    except Exception as error:  # noqa: BLE001 - whatever pickling runs into
        return pickle.dumps(_unsendable(answer, error))
    return blob


def opened(blob: bytes) -> Any:
    """The answer that was sealed."""
    try:
        return pickle.loads(blob)  # noqa: S301 - from a worker of this process
    except Exception as error:  # noqa: BLE001 - whatever reading runs into
        return RuntimeError(f"what f gave cannot be read here ({_named(error)}): return arrays and numbers")


def _unsendable(answer: Any, error: Exception) -> RuntimeError:
    if isinstance(answer, BaseException):
        return RuntimeError(f"f raised {_named(answer)}")
    return RuntimeError(
        f"what f gave, a {type(answer).__name__}, cannot be sent from a worker process ({_named(error)}): "
        "return arrays, numbers and what can be pickled, or give workers=ThreadPoolExecutor(...)"
    )


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
