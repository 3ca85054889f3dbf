"""Evaluations that need not be made: made ahead of time, or by a job that died, and kept in a mapping of the user's."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress

from arraydiff.backends import Backend
from arraydiff.identity import digest, identity
from arraydiff.problem import Answer, Output, Problem
from arraydiff.seam import Moved, Task

HALF = (pickle.UnpicklingError, EOFError)
"""What a mapping that unpickles by itself, as a shelf does, raises of half an entry."""


class Kept:
    """Answers by the point that they are for, to the last bit."""

    def __init__(self, problem: Problem, store: MutableMapping[str, bytes] | None) -> None:
        self.backend, self.store, self.call = problem.backend, store, problem.call
        self.now = b"" if store is None else identity(problem.call, store)  # of f with its state
        first = self._read(self.now.hex())  # before it changed while it was evaluated
        self.mine = first if isinstance(first, bytes) and len(first) == len(self.now) else self.now
        self.missed = False  # whether f may have been evaluated since then
        self.x = digest(self.backend.as_numpy(problem.x))
        self.early: dict[str, Answer] = {}  # that nobody has asked for yet

    def find(self, key: str) -> Answer | None:
        """The answer, once, if it was made ahead of time; or as stored, which costs no call of f."""
        if key in self.early:
            return self.early.pop(key)
        stored = self._read(key)
        answer = None if stored is None else _unpacked(self.backend, stored)
        self.missed = self.missed or answer is None
        return answer

    def _read(self, key: str) -> bytes | None:
        if self.store is None:
            return None
        with suppress(KeyError, *HALF), _told_of("was asked for an evaluation"):
            return self.store[key]
        return None

    def has(self, key: str) -> bool:
        """Whether it is stored."""
        return self.store is not None and key in self.store

    def keep(self, key: str, answer: Answer) -> None:
        """Stored for later calls, if it is a value: what was raised is tried again."""
        if self.store is None or not isinstance(answer, Output):
            return
        self._write(key, _packed(self.backend, answer))

    def settle(self) -> None:
        """What changed in f while it was evaluated, such as a count or a cache, makes no other f of it."""
        if self.store is None or not self.missed:
            return
        self.missed, before = False, self.now
        with suppress(TypeError):  # f holds now what cannot be told: the next call says so
            self.now = identity(self.call, self.store)
        if self.now != before:
            self._write(self.now.hex(), self.mine)

    def _write(self, key: str, value: bytes) -> None:
        assert self.store is not None
        with _told_of("was given an evaluation to keep"):
            self.store[key] = value

    def key(self, task: Task) -> str:
        """What names the answer for a point: this f, there."""
        told = self.x + self._told(task) if isinstance(task, Moved) else digest(self.backend.as_numpy(task))
        return hashlib.sha256(self.mine + told).hexdigest()

    def _told(self, moved: Moved) -> bytes:
        mine = f"{moved.index} ".encode() + digest(self.backend.as_numpy(moved.value))
        return mine if moved.other is None else mine + self._told(moved.other)


@contextmanager
def _told_of(what: str) -> Iterator[None]:
    """Who raised, where it was not f."""
    try:
        yield
    except Exception as error:
        error.add_note(f"raised by store when it {what}; repair it, or leave store out")
        raise


def _packed(backend: Backend, answer: Output) -> bytes:
    noise = None if answer.noise is None else backend.as_numpy(answer.noise)
    try:
        return pickle.dumps(answer._replace(values=backend.as_numpy(answer.values), noise=noise))
    except Exception as error:
        raise TypeError(
            f"store keeps what f returned, which cannot be pickled ({error}): let f give arrays and plain values, also as aux"
        ) from error


def _unpacked(backend: Backend, stored: bytes) -> Output | None:
    """None where it is half an entry, as of a job that was killed while it wrote."""
    try:
        answer = pickle.loads(stored)  # noqa: S301 - the user's own mapping
    except Exception:  # noqa: BLE001 - a pickle that is cut short raises almost anything
        return None
    if not isinstance(answer, Output):
        return None
    noise = None if answer.noise is None else backend.asarray(answer.noise)
    return answer._replace(values=backend.asarray(answer.values), noise=noise, calls=0, points=0)
