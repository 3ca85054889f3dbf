"""Evaluations that need not be made: made ahead of time, or by a job that died, and kept in a mapping of the user's."""

from __future__ import annotations

import functools
import hashlib
import pickle
import types
from collections.abc import Iterable, MutableMapping
from typing import Any

from arraydiff.backends import Backend, backend_of, is_array
from arraydiff.problem import Answer, Call, Output, Problem
from arraydiff.seam import Moved, Task

FORMAT = b"arraydiff 1"
"""Of what is stored: another one is another key."""


class Kept:
    """Answers by the point that they are for, to the last bit."""

    def __init__(self, problem: Problem, store: MutableMapping[str, bytes] | None) -> None:
        self.backend, self.store = problem.backend, store
        self.mine = b"" if store is None else identity(problem.call)
        self.x = _digest(self.backend.as_numpy(problem.x))
        self.early: dict[str, Answer] = {}

    def find(self, task: Task) -> Answer | None:
        """The answer, once, if it was made ahead of time; or as stored, which costs no call of f."""
        key = self._key(task)
        if key in self.early:
            return self.early.pop(key)
        if self.store is None:
            return None
        try:
            return _unpacked(self.backend, self.store[key])
        except KeyError:
            return None
        except Exception:  # noqa: BLE001 - half an entry, as of a job that was killed while it wrote
            return None

    def unknown(self, tasks: Iterable[Task], others: Iterable[Task]) -> list[Task]:
        """Those of the tasks, each once, whose answers are not kept, and that are not among the others."""
        known, new = {self._key(task) for task in others}, []
        for task in tasks:
            key = self._key(task)
            if key not in known and (self.store is None or key not in self.store):
                new.append(task)
            known.add(key)
        return new

    def ahead(self, task: Task, answer: Answer) -> None:
        """An answer that nobody has asked for yet."""
        self.early[self._key(task)] = answer

    def keep(self, task: Task, answer: Answer) -> None:
        """Stored for later calls, if it is a value: what was raised is tried again."""
        if self.store is not None and isinstance(answer, Output):
            self.store[self._key(task)] = _packed(self.backend, answer)

    def _key(self, task: Task) -> str:
        if isinstance(task, Moved):
            told = self.x + f"{task.index} ".encode() + _digest(self.backend.as_numpy(task.value))
        else:
            told = _digest(self.backend.as_numpy(task))
        return hashlib.sha256(self.mine + told).hexdigest()


def _digest(numbers: Any) -> bytes:
    return hashlib.sha256(f"{numbers.dtype} {numbers.shape} ".encode() + numbers.tobytes()).digest()


def _packed(backend: Backend, answer: Output) -> bytes:
    noise = None if answer.noise is None else backend.as_numpy(answer.noise)
    try:
        return pickle.dumps(answer._replace(values=backend.as_numpy(answer.values), noise=noise))
    except Exception as error:
        raise TypeError(
            f"store keeps what f returned, which cannot be pickled ({error}): let f give arrays and plain values, also as aux"
        ) from error


def _unpacked(backend: Backend, stored: bytes) -> Output:
    answer: Output = pickle.loads(stored)  # noqa: S301 - the user's own mapping
    noise = None if answer.noise is None else backend.asarray(answer.noise)
    return answer._replace(values=backend.asarray(answer.values), noise=noise, calls=0, points=0)


def identity(call: Call) -> bytes:
    """What tells one f, with its other arguments, from another: a digest of its code and of all that it holds."""
    args = [None if place in call.places else value for place, value in enumerate(call.args)]
    kwargs = {name: value for name, value in sorted(call.kwargs.items()) if name not in call.places}
    digest = hashlib.sha256(FORMAT)
    for part in (call.fun, args, kwargs, call.places, call.has_aux, call.batch_axis, call.layout.leaves):
        digest.update(_told(part, ()))
    if call.cotangent is not None:
        digest.update(call.backend.as_numpy(call.cotangent).tobytes())
    return digest.digest()


def _told(value: Any, around: tuple[int, ...]) -> bytes:
    """The bytes of a value; functions by their code, since a name says nothing of what it stands for."""
    if id(value) in around:
        return b"itself"
    if is_array(value):
        return _digest(backend_of([value]).as_numpy(value))
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    parts = _parts(value)
    if parts is None:
        try:
            return pickle.dumps(value)
        except Exception:  # noqa: BLE001 - whatever says that it cannot be pickled
            parts = list(getattr(value, "__dict__", {}).items())
    told = b",".join(_told(part, (*around, id(value))) for part in parts)
    return f"{kind} {len(parts)} {len(told)} ".encode() + told


def _parts(value: Any) -> list[Any] | None:
    """What a value is made of, where its pickle would not tell."""
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [value.__module__, value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, cells]
    if isinstance(value, types.CodeType):
        return [value.co_code, value.co_names, value.co_consts]
    if isinstance(value, tuple | list):
        return list(value)
    return list(value.items()) if isinstance(value, dict) else None
