"""Where the pattern of a function comes from: given, or found on the first call and kept for later ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from arraydiff.binding import Bound
from arraydiff.problem import Problem
from arraydiff.sparse.sparsity import Sparsity

WAYS = ("detect", "trace")


def checked_verify(verify: Any) -> Any:
    """`verify_pattern`, if it is one of its three values.

    Raises
    ------
    ValueError
        It is not.
    """
    if not (verify is True or verify is False or verify == "repair"):
        raise ValueError(f"verify_pattern must be True, 'repair' or False, got {verify!r}")
    return verify


def checked_way(sparsity: str) -> str:
    """`sparsity`, if it is a way to find a pattern.

    Raises
    ------
    ValueError
        It is not.
    """
    if sparsity not in WAYS:
        raise ValueError(f"sparsity must be 'detect', 'trace', a pattern or a Sparsity, got {sparsity!r}")
    return sparsity


class Source:
    """The pattern of one function; `whole` makes of it what is meant, where a part of it may be given."""

    def __init__(self, sparsity: Any, whole: Callable[[Sparsity], Sparsity] | None = None) -> None:
        self.way = checked_way(sparsity) if isinstance(sparsity, str) else ""
        self.whole, self.given = whole, None
        if not self.way:
            self.given = self._whole(sparsity if isinstance(sparsity, Sparsity) else Sparsity.from_pattern(sparsity))
        self.found: Sparsity | None = None  # what was detected, traced or repaired

    def known(self, bound: Bound) -> Sparsity | None:
        """The pattern; None where it has to be detected."""
        known = self.found or self.given
        return self._whole(_traced(bound)) if known is None and self.way == "trace" else known

    def _whole(self, known: Sparsity) -> Sparsity:
        return known if self.whole is None else self.whole(known)

    def keep(self, sparsity: Sparsity) -> None:
        """What a call ended with, for later ones."""
        if sparsity is not self.given:
            self.found = sparsity

    def forget(self) -> None:
        """Drop what was found."""
        self.found = None


def _traced(bound: Bound) -> Sparsity:
    from arraydiff.sparse.tracing import pattern_of

    return Sparsity(pattern_of(bound.problem), detected=True)


def free_of(bound: Bound) -> np.ndarray:
    """(n,) bool: the parameters that can move."""
    if len(bound.index) == bound.problem.n:
        return np.ones(bound.problem.n, dtype=np.bool_)
    free = np.zeros(bound.problem.n, dtype=np.bool_)
    free[np.asarray(bound.index, dtype=np.int64)] = True
    return free


def mask_of(problem: Problem, which: Sequence[int]) -> np.ndarray | None:
    """(n,) bool: these parameters; None where there are none."""
    if not which:
        return None
    mask = np.zeros(problem.n, dtype=np.bool_)
    mask[np.asarray(which, dtype=np.int64)] = True
    return mask


def check_inputs(bound: Bound, title: str) -> None:
    """Refuse what has no sparse Jacobian.

    Raises
    ------
    TypeError, ValueError
        Complex or integer inputs, derivatives of ours, values that come later.
    """
    layout = bound.layout
    if layout.has_complex or any(leaf.constant is not None for leaf in layout.leaves):
        raise TypeError(f"{title} with sparsity= requires real floating inputs: leave sparsity out for others")
    if bound.problem.call.measured:
        raise TypeError(
            f"{title} with sparsity= takes a function of yours, not a derivative: pass sparsity= to hessian, or leave it out"
        )
    if bound.problem.backend.deferred:
        raise ValueError(
            f"{title} with sparsity= checks values, which are not there inside jax.jit or on lazy arrays: call it outside, or "
            "leave sparsity out there"
        )
