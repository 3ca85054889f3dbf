"""The pattern of a function, read off the tape that the tracer of the exact method makes of one call.

Where values choose between entries, all of them count (`np.where`, `np.maximum`, `np.sort`), so that the pattern is that of every
x which takes the same branches; it may hold more entries than the Jacobian has, never fewer.  A branch that f takes itself
(`if x[0] > 0`, `x[x > 0]`) is followed: the check in every call finds where another x takes another.  What cannot be followed
raises, also where f catches the exception.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest
from math import prod
from types import CodeType, FrameType
from typing import Any, NamedTuple

import numpy as np

from arraydiff.arguments import Argnums
from arraydiff.backends import backend_of
from arraydiff.binding import Asked, Rules, bind
from arraydiff.config import DifferentiationConfig
from arraydiff.exact import Refused, traced
from arraydiff.exact.primitives import Elementwise
from arraydiff.exact.trace import has_tracer, is_users, ops, prim
from arraydiff.problem import Problem
from arraydiff.sparse.loops import LONG, Cells, Known, as_pattern, joined, of_one, written
from arraydiff.sparse.pattern import Pattern
from arraydiff.sparse.structure import Step, empty, identity, shape_of, structure_of

REMEDY = 'use sparsity="detect" (or Sparsity.detect), which needs no more than values of f'

CHOOSING: dict[CodeType, tuple[str, ...]] = {ops.sort.__code__: ("x",), ops.interp.__code__: ("x", "xp")}
"""Functions that look at values of these arguments for where to take entries from, and leave no note of it."""


def trace_pattern(fun: Callable[..., Any], x: Any) -> Pattern:
    """The pattern of a function of the user's at every x that takes the same way through it."""
    bound = bind(Asked(fun, (x,), {}, Argnums.of(0), DifferentiationConfig(), Rules("Sparsity.trace")))
    with bound.problem.backend.on_device():
        return pattern_of(bound.problem)


def pattern_of(problem: Problem) -> Pattern:
    """That of a call which is bound."""
    call, x = problem.call, problem.x
    if (
        problem.backend.is_lazy
    ):  # a look at a value would compute all of it; where the entries lie is no matter of values
        x = problem.backend.as_numpy(x)
        call = replace(call, backend=backend_of([x]))

    def followed(point: Any) -> Any:
        point.home.tape = Tape()
        return call.followed(point).values

    try:
        with np.errstate(all="ignore"):
            tape = traced(followed, x, constant=True)
    except Refused as refused:
        if refused.__cause__ is not None:
            problem.call.at_x(problem.x)  # an error of f's own is raised
        raise TypeError(f"the pattern cannot be traced: {refused}; {REMEDY}") from refused
    if tape.constant:
        return empty(tape.value.shape[0], problem.n)
    return Walk(tape).pattern()


class Like(NamedTuple):
    """Stands for an array of which the shape alone is needed."""

    shape: tuple[int, ...]


class Tape(dict[int, tuple[Any, ...]]):
    """Operations without the values that patterns do not ask for, and those of them that values of x chose entries for."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen: set[int] = set()

    def __setitem__(self, node: int, entry: tuple[Any, ...]) -> None:
        primitive, nodes, values, made, options = entry
        bare = isinstance(primitive, Elementwise) and primitive is not prim.where
        light = [
            Like(shape_of(value)) if bare or source is not None else value
            for source, value in zip_longest(nodes, values)
        ]
        super().__setitem__(node, (primitive, nodes, light, shape_of(made), options))
        if (primitive is prim.getitem or primitive is prim.where) and type(values[1]) is not int and _chooses():
            self.chosen.add(node)


def _chooses() -> bool:
    """Whether an operation is part of a function that looks at values."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not is_users(frame):
        names = CHOOSING.get(frame.f_code)
        if names is not None and has_tracer(tuple(frame.f_locals[name] for name in names)):
            return True
        frame = frame.f_back
    return False


class Walk:
    """Through the operations that the result was made by, in their order; what no later one needs is dropped."""

    def __init__(self, followed: Any) -> None:
        trace, self.out = followed._trace, followed._out.node
        self.tape: Tape = trace.tape
        self.noted = bool(trace.notes)  # a condition may be of x
        self.n: int = followed._root.value.shape[0]
        self.last, self.runs = _uses(self.tape, self.out)
        self.known: dict[int, Known] = {followed._root.node: identity(self.n)}

    def pattern(self) -> Pattern:
        """Of the result."""
        for node in sorted(self.tape):
            if node not in self.last:
                continue
            found = self._of_entries(node)
            self.known[node] = self._of_arrays(node) if found is None else found
            for source in self.tape[node][1]:
                if source is not None and self.last[source] == node:
                    self.known.pop(source, None)
        return as_pattern(self.known[self.out], self.n)

    def _of_entries(self, node: int) -> Known | None:
        """What an operation on numbers gives, or on one entry of an array; None: it is another."""
        primitive, nodes, values, shape, options = self.tape[node]
        if shape not in ((), (1,)) and primitive is not prim.concat and primitive is not prim.setitem:
            return None
        sources = [None if source is None else self.known[source] for source in nodes]
        if shape in ((), (1,)):
            return of_one(primitive, sources, values)
        if primitive is prim.concat:
            return joined(sources, prod(shape), self.n)
        alone = self.last.get(nodes[0]) == node and (self.runs[node] >= LONG or isinstance(sources[0], Cells))
        return written(sources, values, options["index"]) if alone else None

    def _of_arrays(self, node: int) -> Pattern:
        primitive, nodes, values, shape, options = self.tape[node]
        sources = [None if source is None else self._whole(source) for source in nodes]
        return structure_of(
            Step(primitive, sources, values, shape, options, self.n, node in self.tape.chosen, self.noted)
        )

    def _whole(self, node: int) -> Pattern:
        """As a pattern from now on."""
        self.known[node] = pattern = as_pattern(self.known[node], self.n)
        return pattern


def _uses(tape: Tape, out: int) -> tuple[dict[int, int], dict[int, int]]:
    """The last use of each node that the result needs, and how many writes of one array follow each other from one on."""
    last: dict[int, int] = {out: out}
    runs: dict[int, int] = {}
    for node in sorted(tape, reverse=True):
        if node not in last:
            continue
        primitive, nodes, *_ = tape[node]
        if primitive is prim.setitem:
            then = last[node]
            follows = then in runs and then != node and tape[then][1][0] == node
            runs[node] = runs[then] + 1 if follows else 1
        for source in nodes:
            if source is not None:
                last.setdefault(source, node)
    return last, runs
