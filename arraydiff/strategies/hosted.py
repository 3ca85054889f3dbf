"""Strategies whose arithmetic runs on the host, while f sees its own kind of array.

An operation of a lazy library costs a node of a graph, one of a compiling library a compilation for every shape: thousands of
times an operation on numbers, and a strategy makes thousands between two evaluations of f.  So points go up to f as arrays of its
library, and values come down: once a stage, all together.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import Lines
from arraydiff.problem import Later, Problem
from arraydiff.seam import (
    Asking,
    Carried,
    Noted,
    Prepared,
    Pushforward,
    Recorded,
    Recording,
    Strategy,
    Tape,
    Touched,
    Values,
)
from arraydiff.strategies.frozen import Frozen

NO_VALUES = "x has no values yet, and f is not followed without them; pass x computed"

T = TypeVar("T")


def hosted(strategy: Strategy, backend: Backend) -> Strategy:
    """The strategy itself where arrays are eager; a frozen one keeps arrays of its own."""
    return strategy if backend.host is None or isinstance(strategy, Frozen) else Hosted(strategy)


@dataclass(frozen=True)
class Hosted:
    """A strategy whose problem is on the host."""

    strategy: Strategy

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """As the strategy does, with arrays of x's library on the outside."""
        backend, local = problem.backend, on_host(problem)
        if callable(config.noise):  # a function of the user's sees what f sees
            call = replace(problem.call, fun=config.noise, has_aux=False, batch_axis=None, cotangent=None)
            (level,) = backend.to_host(call(backend.copy(problem.x)).values)
            config = replace(config, noise=level)
        prepared = yield from translated(problem, self.strategy.prepare(local, config))
        noise = None if prepared.noise is None else backend.asarray(prepared.noise)
        push = partial(_pushed, prepared=prepared, local=local)
        return replace(prepared, value=backend.asarray(prepared.value), noise=noise, pushforward=push)


def on_host(problem: Problem) -> Problem:
    """The same problem, its arrays on the host."""
    backend, names = problem.backend, ("x", "scale", "lower", "upper", "step")
    assert backend.host is not None
    given = {name: array for name in names if (array := getattr(problem, name)) is not None}
    arrays = dict(zip(given, backend.to_host(*given.values()), strict=True))
    arrays["scaling"] = Later(arrays.pop("scale"))
    return replace(problem, call=replace(problem.call, backend=backend.host), **arrays)


def _pushed(lines: Lines, prepared: Prepared, local: Problem) -> Asking[Pushforward]:
    outer, pushforward = lines.problem, prepared.pushforward
    pushed = yield from translated(outer, pushforward(lines.posed(local)))
    parts = (pushed.columns, pushed.error, pushed.steps, pushed.status)
    return Pushforward(*(outer.backend.asarray(part) for part in parts))


def translated(problem: Problem, asking: Asking[T]) -> Generator[Any, Any, T]:
    """Points as arrays of x's library, values as arrays of the host."""
    backend = problem.backend
    given: Any = None
    carry = partial(backend.from_host, like=problem.x)
    while True:
        try:
            points = asking.send(given)
        except StopIteration as done:
            result: T = done.value
            return result
        given = None  # not kept while f is evaluated: they may be many
        if isinstance(points, Recording):
            recorded = TypeError(NO_VALUES) if backend.is_lazy else (yield replace(points, x=carry(points.x)))
            given = _hosted(backend, problem.x, recorded)
        else:
            given = _brought(backend, (yield Carried(points, carry)))


def _hosted(backend: Backend, x: Array, recorded: Recorded | Exception) -> Recorded | Exception:
    """A tape of x's library as one that takes arrays of the host."""
    if isinstance(recorded, Exception):
        return recorded
    return Recorded(HostedTape(backend, x, recorded.tape), *backend.to_host(recorded.value))


@dataclass(frozen=True)
class HostedTape:
    """A tape whose arrays are on the host."""

    backend: Backend
    x: Array
    tape: Tape

    @property
    def value(self) -> Array:
        """(m,)."""
        return self.backend.to_host(self.tape.value)[0]

    @property
    def held(self) -> int:
        """As it is."""
        return self.tape.held

    @property
    def notes(self) -> Noted:
        """As they are."""
        return self.tape.notes

    def pullback(self, cotangent: Array, *, keep: bool = False) -> Array:
        """uᵀ·J."""
        return self.backend.to_host(self.tape.pullback(self._up(cotangent), keep=keep))[0]

    def pushforward(self, tangent: Array) -> Array:
        """J·v."""
        return self.backend.to_host(self.tape.pushforward(self._up(tangent)))[0]

    def kinked(self) -> Sequence[Touched]:
        """Masks on the host."""
        return [HostedKink(*self.backend.to_host(one.rows, one.columns)) for one in self.tape.kinked()]

    def shaken(self, units: float, sample: int = 0, *, keep: bool = False) -> Tape | None:
        """The same with other roundings, if there is one."""
        shaken = self.tape.shaken(units, sample, keep=keep)
        return None if shaken is None else HostedTape(self.backend, self.x, shaken)

    def _up(self, array: Array) -> Array:
        return self.backend.from_host(array, like=self.x)


class HostedKink(NamedTuple):
    """A kink whose masks are on the host."""

    rows: Array
    columns: Array


def _brought(backend: Backend, values: Values) -> Values:
    """Values of x's library as arrays of the host."""
    noise = () if values.noise is None else (values.noise,)
    at, *bars = backend.to_host(values.at, *noise)
    return replace(values, at=at, noise=bars[0] if bars else None)
