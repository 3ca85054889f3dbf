"""The normal equations of a residual whose Jacobian is sparse: a pattern for each block, and the sums over its entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from arraydiff._typing import Array
from arraydiff.binding import Bound
from arraydiff.config import DifferentiationConfig
from arraydiff.evaluator import Evaluator
from arraydiff.gram import Sums
from arraydiff.seam import Prepared
from arraydiff.sparse.products import sums_of
from arraydiff.sparse.request import Request
from arraydiff.sparse.sources import Source, check_inputs, checked_verify, checked_way, free_of, mask_of
from arraydiff.vouching import tolerance


class Patterns:
    """Where the pattern of each block comes from; what is found of one is kept for it."""

    def __init__(self, sparsity: Any, verify: Any, in_blocks: bool) -> None:
        self.verify = checked_verify(verify)
        self.each = in_blocks and (callable(sparsity) or _several(sparsity))
        way = checked_way(sparsity) if isinstance(sparsity, str) else None
        self.given: Any = way or (sparsity if self.each else Source(sparsity).given)  # coloured once, for all blocks
        self.sources: dict[int, Source] = {}

    def of(self, i: int, label: Any, count: int | None, keep: bool) -> Source:
        """That of block i."""
        if i in self.sources:
            return self.sources[i]
        source = Source(self._given(i, label, count))
        if keep:
            self.sources[i] = source
        return source

    def _given(self, i: int, label: Any, count: int | None) -> Any:
        if not self.each:
            return self.given
        if callable(self.given):
            return self.given(label)
        if i >= len(self.given) or (count is not None and len(self.given) != count):
            raise ValueError(
                f"sparsity must have one pattern a block, got {len(self.given)} for "
                f"{'more blocks than that' if count is None else f'{count} blocks'}"
            )
        return self.given[i]

    def forget(self) -> None:
        """Drop what was found."""
        for source in self.sources.values():
            source.forget()


def _several(sparsity: Any) -> bool:
    """Whether it is a list of patterns, or a tuple of them that is none itself: (rows, cols, shape)."""
    if not isinstance(sparsity, tuple) or len(sparsity) != 3:
        return isinstance(sparsity, list | tuple)
    shape = sparsity[2]
    return not (isinstance(shape, list | tuple) and all(isinstance(length, Integral) for length in shape))


def block_sums(
    bound: Bound,
    config: DifferentiationConfig,
    source: Source,
    verify: Any,
    evaluator: Evaluator,
    root_of: Callable[[], Array | None],
    linear: Sequence[int] = (),
) -> tuple[Prepared, Sums, Array]:
    """What x teaches, the sums over all rows, and the steps (n,), where sums are made; `root_of` gives roots of weights (m,)."""
    check_inputs(bound, "normal_equations")
    problem = bound.problem
    request = Request(problem, config, free_of(bound), verify, evaluator, mask_of(problem, linear))
    checked = evaluator.drive(request.checked(source.known(bound)))
    source.keep(checked.sparsity)
    prepared, outer, here = checked.prepared, problem.backend, request.here
    value, noise, root = prepared.value, prepared.noise, root_of()
    if outer.host is not None:
        value, noise, root = (None if part is None else outer.to_host(part)[0] for part in (value, noise, root))
    bars = problem.eps * here.xp.abs(value) if noise is None else here.xp.astype(noise, value.dtype)
    residual = value, bars
    sums = sums_of(here, checked.sparsity, checked.got.entries, residual, root, problem.eps, tolerance(config))
    return prepared, sums, checked.got.steps
