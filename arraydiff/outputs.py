"""What calls of f gave, beside one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arraydiff.backends import backend_of
from arraydiff.problem import Output


class NotAsked(TypeError):
    """Stands in the place of values that f was not asked for."""


@dataclass(frozen=True)
class Failure:
    """An exception of f at a displaced point, kept."""

    parameter: int | None  # which entry of the flat x was displaced; None: several
    error: Exception


def joined(pieces: Sequence[Output]) -> Output:
    """What several calls gave for parts of a block, as if it were one."""
    there = backend_of([pieces[0].values])
    with there.on_device():  # of several devices, that of the block
        values = there.xp.concat([piece.values for piece in pieces], axis=1)
    calls, points = sum(piece.calls for piece in pieces), sum(piece.points for piece in pieces)
    return pieces[0]._replace(values=values, calls=calls, points=points)


def width(output: Output) -> int:
    """How many points an answer is for."""
    return 1 if output.values.ndim == 1 else int(output.values.shape[1])


def alike(one: Output, other: Output) -> bool:
    """Whether f gave the same structure, shapes and kinds of numbers."""
    mine, theirs = ([(leaf.shape, leaf.is_complex) for leaf in o.layout.leaves] for o in (one, other))
    return mine == theirs and one.layout.structure == other.layout.structure
