"""Evaluations that need not be made: made ahead of time, or by a job that died, and kept in a mapping of the user's."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import MutableMapping

from arraydiff.backends import Backend
from arraydiff.identity import digest, identity
from arraydiff.problem import Answer, Output, Problem
from arraydiff.seam import Moved, Task

HALF = (pickle.UnpicklingError, EOFError)
"""What a mapping that unpickles by itself, as a shelf does, raises of half an entry."""


class Kept:
    """Answers by the point that they are for, to the last bit."""

    def __init__(self, problem: Problem, store: MutableMapping[str, bytes] | None) -> None:
        self.backend, self.store = problem.backend, store
        self.mine = b"" if store is None else identity(problem.call)
        self.x = digest(self.backend.as_numpy(problem.x))
        self.early: dict[str, Answer] = {}  # that nobody has asked for yet

    def find(self, key: str) -> Answer | None:
        """The answer, once, if it was made ahead of time; or as stored, which costs no call of f."""
        if key in self.early:
            return self.early.pop(key)
        if self.store is None:
            return None
        try:
            stored = self.store[key]
        except (KeyError, *HALF):
            return None
        except Exception as error:
            error.add_note("raised by store when it was asked for an evaluation; repair it, or leave store out")
            raise
        return _unpacked(self.backend, stored)

    def has(self, key: str) -> bool:
        """Whether it is stored."""
        return self.store is not None and key in self.store

    def keep(self, key: str, answer: Answer) -> None:
        """Stored for later calls, if it is a value: what was raised is tried again."""
        if self.store is None or not isinstance(answer, Output):
            return
        packed = _packed(self.backend, answer)
        try:
            self.store[key] = packed
        except Exception as error:
            error.add_note("raised by store when it was given an evaluation to keep; repair it, or leave store out")
            raise

    def key(self, task: Task) -> str:
        """What names the answer for a point: this f, there."""
        if isinstance(task, Moved):
            told = self.x + f"{task.index} ".encode() + digest(self.backend.as_numpy(task.value))
        else:
            told = digest(self.backend.as_numpy(task))
        return hashlib.sha256(self.mine + told).hexdigest()


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
