"""One colour fewer: the columns of the last colour find homes in the others, and those that they drive out look on.

Blöchliger & Zufferey, Computers & Operations Research 35 (2008) 960 (PartialCol). It touches the columns of one colour and what
they drive out, not the whole pattern, and so costs little however large that is.
"""

from __future__ import annotations

from random import Random

from arraydiff.sparse.greedy import Lists

SEED = 20_240_301
"""The same pattern always gets the same colours."""

TENURE = 10
"""Moves, and as many again as columns are looking, for which a column does not return to where it was driven out (there)."""

MOVE = 20
"""Steps, each of one neighbour, that a move costs besides."""


def one_fewer(lists: Lists, bits: list[int], work: int) -> tuple[list[int] | None, int]:
    """The colours without the last one, or None, and how many of the `work` steps are left."""
    bits, last = list(bits), max(bits)
    looking = [column for column, bit in enumerate(bits) if bit == last]
    for column in looking:
        bits[column] = 0
    barred: dict[tuple[int, int], int] = {}  # until which move
    random, move = Random(SEED), 0  # noqa: S311 - no secret
    while looking and work > 0:
        move += 1
        place = random.randrange(len(looking))
        looking[place], looking[-1] = looking[-1], looking[place]
        column = looking.pop()
        visited = _neighbours(lists, column)
        work -= MOVE + len(visited) + last.bit_length()
        rivals: dict[int, list[int]] = {}
        for other in visited:
            if bits[other]:
                rivals.setdefault(bits[other], []).append(other)
        bit = _home(column, rivals, last, barred, move, random)
        bits[column] = bit
        for other in rivals.get(bit, ()):
            bits[other] = 0
            barred[other, bit] = move + len(looking) + random.randrange(TENURE)
            looking.append(other)
    return (None if looking else bits), work


def _neighbours(lists: Lists, column: int) -> set[int]:
    starts, cols = lists.row_starts, lists.cols
    rows = lists.rows[lists.column_starts[column] : lists.column_starts[column + 1]]
    return {other for row in rows for other in cols[starts[row] : starts[row + 1]]}


def _home(
    column: int,
    rivals: dict[int, list[int]],
    last: int,
    barred: dict[tuple[int, int], int],
    move: int,
    random: Random,
) -> int:
    """The colour in which a column drives out the fewest others."""
    taken = 0
    for bit in rivals:
        taken |= bit
    free = ~taken & (last - 1)
    if free:
        return free & -free
    allowed = [
        (len(others), random.random(), bit) for bit, others in rivals.items() if barred.get((column, bit), 0) < move
    ]
    return min(allowed)[2] if allowed else random.choice(list(rivals))
