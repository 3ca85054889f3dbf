"""How many directions go together: as many as the cache, or a launch, wants, and memory holds."""

from __future__ import annotations

from arraydiff.config import DifferentiationConfig
from arraydiff.memory import budget, exceeds, told
from arraydiff.problem import Problem
from arraydiff.seam import Prepared

CHUNK_BYTES = 2**25
"""What the arrays of one chunk may hold: far below any memory, large enough that Python costs little a direction."""

BLOCK_BYTES = 2**22
"""A block of points for a vectorised f stays in a CPU's cache: blocks of 64 MiB took 2.3 times as long."""

DEVICE_BLOCK_BYTES = 2**25
"""On other devices an operation costs the same up to about 2**21 numbers: there a thousand parameters are one chunk."""

BLOCK_POINTS = 4
"""Points a direction in one stage."""

NUMBER = 8
"""Bytes of a number; of narrower ones that is more than they take."""

KEPT_ARRAYS = 12
"""Arrays (m,) beside the chunks: at most 7 of what x taught, f(x) as it is returned, and what a `Watch` keeps."""


def chunk_size(problem: Problem, config: DifferentiationConfig, prepared: Prepared, directions: int, held: int) -> int:
    """How many directions at a time: as many as the cache, or a launch, wants, and memory holds."""
    m = max(int(prepared.value.shape[0]), 1)
    each = NUMBER * prepared.arrays * m
    wanted = config.chunk_size or CHUNK_BYTES // each
    if config.chunk_size is None and problem.call.batch_axis is not None:
        most = BLOCK_BYTES if problem.backend.on_cpu else DEVICE_BLOCK_BYTES
        wanted = min(wanted, most // (NUMBER * BLOCK_POINTS * (problem.n + m)))
    if config.devices and config.chunk_size is None:
        wanted = min(wanted, -(-directions // len(config.devices)))  # one chunk for each, at least
    return fitting(problem, config, prepared, max(1, min(wanted, directions)), held)


def fitting(problem: Problem, config: DifferentiationConfig, prepared: Prepared, directions: int, held: int) -> int:
    """As many of so many directions as memory holds at once, beside what is held anyhow."""
    each, held = direction(prepared), held + beside_all(prepared)
    if not exceeds(problem.backend, config.max_memory, held + directions * each):
        return directions
    room = budget(problem.backend, config.max_memory)
    if held + each > room and config.max_memory is not None:
        raise MemoryError(
            f"max_memory={config.max_memory!r} is too small for {int(prepared.value.shape[0])} outputs: one direction by "
            f"{prepared.method.value!r} takes about {told(held + each)} with what is kept beside it; give that much, or have "
            "f return fewer outputs at a time"
        )
    return max(1, min(directions, (room - held) // each))


def direction(prepared: Prepared) -> int:
    """Bytes that one more direction takes at its peak."""
    m = max(int(prepared.value.shape[0]), 1)
    return NUMBER * max(prepared.arrays * m, prepared.tableau)


def beside_all(prepared: Prepared) -> int:
    """Bytes kept for all directions."""
    return NUMBER * KEPT_ARRAYS * int(prepared.value.shape[0]) + prepared.held
