"""The pattern of a function of NumPy, read off one call with arrays that know which inputs they depend on.

Where values would decide, both branches count (`np.where`, `np.maximum`), or the call is refused (`if x > 0`), so that the
pattern is that of every x; it may hold more entries than the Jacobian has, never fewer.  What cannot be followed raises, also
where f catches the exception.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from arraydiff.arguments import flatten, unflatten
from arraydiff.sparse import rules  # fills the tables
from arraydiff.sparse.pattern import Pattern
from arraydiff.sparse.traced import NOTHING, REMEDY, Trace, Traced, lifted

assert rules.FUNCTIONS


def trace_pattern(fun: Callable[..., Any], x: Any) -> Pattern:
    """The pattern of a function of the user's at every x that takes the same way through it."""
    leaves, structure = flatten(x)
    start, roots, trace = 0, [], Trace()
    for leaf in leaves:
        value = _input(leaf)
        sets = np.empty(value.shape, dtype=object)
        for number, index in enumerate(np.ndindex(*value.shape)):
            sets[index] = frozenset((start + number,))
        start += value.size
        roots.append(Traced(trace, value, sets))
    try:
        with np.errstate(all="ignore"):
            given = fun(unflatten(structure, roots))
    except Exception as error:
        if trace.refused:
            raise TypeError(f"the pattern cannot be traced: f calls {trace.refused[0]}; {REMEDY}") from error
        raise
    finally:
        trace.live = False
    if trace.refused:
        raise TypeError(f"the pattern cannot be traced: f calls {trace.refused[0]}; {REMEDY}")
    every = list(itertools.chain.from_iterable(_outputs(trace, leaf) for leaf in flatten(given)[0]))
    rows = np.repeat(np.arange(len(every)), np.array([len(one) for one in every], dtype=np.int64))
    cols = np.fromiter(itertools.chain.from_iterable(every), dtype=np.int64, count=rows.size)
    return Pattern.of((rows, cols, (len(every), start)))


def _input(leaf: Any) -> Any:
    if not isinstance(leaf, float | np.ndarray | np.floating) or np.asarray(leaf).dtype.kind != "f":
        raise TypeError(
            f"tracing follows real floating arrays of NumPy, got {type(leaf).__name__} for x: cast it to float, or {REMEDY}"
        )
    return np.array(leaf)


def _outputs(trace: Trace, leaf: Any) -> list[frozenset[int]]:
    """The sets of one output of f, flat."""
    if isinstance(leaf, np.ndarray) and leaf.dtype == object:
        leaf = lifted(trace, leaf)
    if isinstance(leaf, Traced):
        if leaf.trace is not trace:
            raise TypeError(f"the pattern cannot be traced: f returns a value of an earlier call; {REMEDY}")
        return list(leaf.sets.ravel())
    if not isinstance(leaf, int | float | np.ndarray | np.generic):
        raise TypeError(f"tracing wants f to return arrays of NumPy, got {type(leaf).__name__}; {REMEDY}")
    return [NOTHING] * math.prod(np.shape(leaf))
