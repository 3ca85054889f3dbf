"""What a tape need not keep: large arrays that no rule of their operation reads are there by shape and dtype alone.

Griewank & Walther, section 4.3: a sweep needs of an operation what its partial derivatives are made of.  Where one would be read
all the same it is not a number, which no derivative hides.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Sequence
from functools import cache
from types import FunctionType
from typing import Any

from arraydiff.backends import large

OUT = -1
"""The place of the result among what a rule reads; operands are counted from 0."""


def hollowed(primitive: Any, nodes: Sequence[Any], values: Sequence[Any], out: Any) -> tuple[Sequence[Any], Any]:
    """The operands and the result of an operation as the tape keeps them."""
    if primitive.kinks is not None:
        return values, out
    read: set[int] = set()
    for k, node in enumerate(nodes):
        if node is not None:
            found = _read_by(primitive, k)
            if found is None:
                return values, out
            read |= found
    kept = [
        one if node is None or k in read else large.hollow(one)
        for k, (node, one) in enumerate(zip(nodes, values, strict=True))
    ]
    return kept, out if OUT in read else large.hollow(out)


def _read_by(primitive: Any, k: int) -> frozenset[int] | None:
    """What is read for the derivative in argument k; None: that is not known."""
    if primitive.asks_shapes:
        return frozenset()
    return _named_in(primitive.rules[k]) if primitive.by_name and k < len(primitive.rules) else None


@cache
def _named_in(rule: Callable[..., Any]) -> frozenset[int] | None:
    """What a rule (t, result, *operands) names in its body."""
    if not isinstance(rule, FunctionType) or rule.__code__.co_flags & VARIADIC:
        return None
    named = {name for step in dis.get_instructions(rule) for name in _names(step.argval)}
    places = rule.__code__.co_varnames[1 : rule.__code__.co_argcount]
    return frozenset(OUT + place for place, name in enumerate(places) if name in named)


VARIADIC = 0x04 | 0x08  # *args and **options


def _names(argument: Any) -> tuple[Any, ...]:
    return argument if isinstance(argument, tuple) else (argument,)
