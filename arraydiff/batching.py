"""vectorized="auto": whether f takes a block of points, found out by asking it once, and never believed unseen.

f is called at a few points one by one, then at all of them in one block: by the library's vmap where there is one, else as it
is.  A block counts where every value has the shape, the dtype and, to rounding, the value of the single call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, MutableMapping, Sequence
from dataclasses import replace

from arraydiff._typing import Array
from arraydiff.arguments import Layout
from arraydiff.backends import Backend
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import ray
from arraydiff.problem import Batching, Call, Output, Problem
from arraydiff.seam import Points

Check = Callable[[Backend, Layout], None]
"""Of the structure of f(x)."""

Found = MutableMapping[Hashable, Batching]
"""What a callable remembers: a verdict for every structure of arguments."""

FEWEST = 4
"""Points of the probe.  Neighbours in a row go up and down, at a bound too: nothing sorted or accumulated passes for itself."""

OFFSET = 2.0**-3
"""Of the typical size: far enough apart for a function that mixes the points of a block to be seen."""

ROUNDING = 2.0**6
"""In eps of an output's largest value at these points: sums of a block are taken in another order."""

BRANCH = 2.0**20
"""In eps of the largest output at x, where a block is held to f(x) again: this is for another branch of f, not for rounding."""


def batched(problem: Problem, config: DifferentiationConfig, found: Found, check: Check) -> Problem:
    """The problem, f called by what is known of it, or by what the probe finds."""
    refused = _refused(problem.call, config)
    if refused:
        return replace(problem, call=problem.call.batched(Batching(f"one point a call: {refused}")))
    key = _key(problem.call)
    known = found.get(key)
    if known is None:
        known = _probed(problem, config.batch_axis, check)
        if known.lasting:
            found[key] = replace(known, calls=0, points=0)
    return replace(problem, call=problem.call.batched(known))


def _refused(call: Call, config: DifferentiationConfig) -> str:
    """Why f is not probed."""
    if call.measured:
        return "f is itself a numerical derivative"
    if call.backend.deferred:
        return "there are no values to compare inside jit or on lazy arrays; vectorized=True sends blocks"
    if config.opaque:
        return "opaque=True keeps blocks from f; vectorized=True sends them"
    if config.devices:
        return "f is made anew on each device; vectorized=True says that it takes blocks"
    if config.max_evaluations is not None:
        return "finding out would take points of max_evaluations; vectorized=True takes none"
    return "" if call.layout.size else "there is nothing to displace"


def _key(call: Call) -> Hashable:
    """Where a verdict holds: the structure of what f is called with, without its values."""
    leaves = tuple((leaf.shape, leaf.dtype, leaf.is_number, leaf.constant is None) for leaf in call.layout.leaves)
    given = (*call.args, *(call.kwargs[name] for name in sorted(call.kwargs)))
    others = tuple(tuple(getattr(value, "shape", ())) for value in given)
    return (call.backend, call.places, call.layout.structure, leaves, others, tuple(sorted(call.kwargs)))


def _probed(problem: Problem, axis: int, check: Check) -> Batching:
    """The first way that gives what single calls give; the cost of all that were tried."""
    call = problem.call
    at_x = call.at_x(problem.backend.copy(problem.x))
    check(problem.backend, at_x.layout)
    k = _width(call, at_x.layout)
    offsets = [[OFFSET * (-1) ** (j + 1) / j if j else 0.0] for j in range(k)]
    points = ray(problem).points(problem.backend.asarray(offsets, problem.x.dtype), starts_at_x=True)
    alone, calls = [at_x], 1
    for j in range(1, k):
        calls += 1
        try:
            alone.append(call(points.column(j)))
        except Exception as error:  # noqa: BLE001 - whatever f raises beside x
            told = f"one point a call: f could not be tried beside x ({_said(error)})"
            return Batching(told, lasting=False, calls=calls, points=calls)
    tried, reasons = 0, []
    for batching in _ways(call, axis):
        tried += 1
        reason, finite = _compared(problem, call.batched(batching), points, alone)
        if not reason and finite:
            return replace(batching, calls=calls + tried, points=k * (1 + tried))
        reasons.append(f"{'vmap' if batching.vmapped else 'a block'}: {reason or 'f is not finite beside x'}")
    lasting = not any(reason.endswith("beside x") for reason in reasons)
    told = f"one point a call: {'; '.join(reasons)}"
    return Batching(told, lasting=lasting, calls=calls + tried, points=k * (1 + tried))


def _width(call: Call, outputs: Layout) -> int:
    """How many points: no length that an array of f's has, so that no axis is taken for that of the points."""
    lengths = {length for layout in (call.layout, outputs) for leaf in layout.leaves for length in leaf.shape}
    return next(k for k in range(FEWEST, FEWEST + len(lengths) + 1) if k not in lengths)


def _ways(call: Call, axis: int) -> Sequence[Batching]:
    """What is tried, the best first."""
    as_it_is = Batching("blocks of points, as f takes them", axis)
    if call.backend.vmapped(call) is None:
        return (as_it_is,)
    return Batching("blocks of points, by the vmap of the array library", 0, vmapped=True), as_it_is


def _compared(problem: Problem, call: Call, points: Points, alone: Sequence[Output]) -> tuple[str, bool]:
    """What is wrong with a block, or nothing; and whether every point of it was finite."""
    try:
        block = call(points.block(0, points.count))
    except Exception as error:  # noqa: BLE001 - f does not take blocks, whichever way it says so
        return _said(error), True
    singles = problem.backend.gather([output.values for output in alone])
    if [leaf.shape for leaf in block.layout.leaves] != [leaf.shape for leaf in alone[0].layout.leaves]:
        return "the outputs have other shapes", True
    if tuple(block.values.shape) != tuple(singles.shape) or block.values.dtype != singles.dtype:
        return "the outputs have another shape or dtype", True
    xp = problem.xp
    eps = problem.eps_of(singles)
    size = xp.max(xp.where(xp.isfinite(singles), xp.abs(singles), xp.zeros_like(singles)), axis=1, keepdims=True)
    wrong = differing(problem.backend, block.values, singles, ROUNDING * eps * size)
    lost = xp.all(~xp.isfinite(singles), axis=0)
    differences, unseen = problem.backend.counts(wrong, lost)
    return ("the values differ from those of single points" if differences else ""), not unseen


def differing(backend: Backend, block: Array, alone: Array, tolerance: Array) -> Array:
    """Mask of the values that are not those of the single calls."""
    xp = backend.xp
    here, there = xp.isfinite(block), xp.isfinite(alone)
    both = here & there
    zero = xp.zeros_like(alone)
    apart = xp.abs(xp.where(both, block, zero) - xp.where(both, alone, zero))
    return (here != there) | (apart > tolerance)


def same_branch(backend: Backend, block: Array, alone: Array) -> bool:
    """Whether the first point of a block, x, is f(x): one read."""
    xp = backend.xp
    size = xp.max(xp.where(xp.isfinite(alone), xp.abs(alone), xp.zeros_like(alone)))
    wrong = differing(backend, block[:, 0], alone, BRANCH * float(xp.finfo(alone.dtype).eps) * size)
    return backend.counts(wrong) == [0]


def gave_up(block: Output | Exception) -> Batching:
    """What is said where a block failed that was expected to do."""
    why = _said(block) if isinstance(block, Exception) else "its value at x was not f(x)"
    return Batching(f"one point a call since a block failed: {why}")


def _said(error: Exception) -> str:
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
