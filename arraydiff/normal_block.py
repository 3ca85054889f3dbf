"""One block of the residual whose normal equations are wanted: its products, by its columns or by its entries."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from arraydiff import assembly
from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Layout
from arraydiff.binding import Bound
from arraydiff.callables import Transform
from arraydiff.config import DifferentiationConfig
from arraydiff.engine import streamed
from arraydiff.evaluator import Evaluator
from arraydiff.gram import GramCollector, Sums
from arraydiff.linear import linear_of
from arraydiff.options import Options
from arraydiff.problem import Batching
from arraydiff.seam import Prepared
from arraydiff.service import Service
from arraydiff.tally import Tally
from arraydiff.weights import root_of

if TYPE_CHECKING:
    from arraydiff.sparse.sources import Source


class NormalBlock(Transform):
    """The residual of one block."""

    title, described = "normal_equations", "Normal equations"

    def __init__(
        self,
        fun: Callable[..., Any],
        options: Options,
        learnt: dict[str, str],
        batchings: dict[Hashable, Batching],
        source: Source | None = None,
        verify: Any = None,
    ) -> None:
        super().__init__(fun, options)
        self.learnt, self.batchings, self.source, self.verify = learnt, batchings, source, verify

    def into(
        self,
        tally: Tally,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        weights: Any,
        most: int | None,
        service: Service,
        *,
        keep: bool,
    ) -> tuple[Bound, PyTree]:
        """Add the products of this block; the problem, and the residuals where they are to be kept."""
        started, bound = perf_counter(), self._bind(args, kwargs)
        problem, config = bound.problem, replace(self.options.config, max_evaluations=most)
        with problem.backend.on_device(), problem.backend.quietly():
            evaluator = Evaluator(problem, config, self._check_output, service)

            def root() -> Array | None:
                if weights is None:
                    return None
                return root_of(problem.backend, evaluator.base.layout, weights, problem.x.dtype)

            prepared, sums, steps = self._products(bound, config, evaluator, root)
            value = assembly.value(problem.backend, evaluator.base.layout, prepared.value) if keep else None
            tally.take(evaluator, prepared, sums, steps, perf_counter() - started)
        self._learn(bound, prepared)
        return bound, value

    def _products(
        self, bound: Bound, config: DifferentiationConfig, evaluator: Evaluator, root: Callable[[], Array | None]
    ) -> tuple[Prepared, Sums, Array]:
        """What x teaches, the sums over the rows of this block, and the steps."""
        if self.source is not None:
            from arraydiff.sparse.normal import block_sums  # others need none of it

            linear = linear_of(bound, self.options.argnums, self.options.linear)
            return block_sums(bound, config, self.source, self.verify, evaluator, root, linear)
        problem, wanted, collectors = bound.problem, self._wanted(bound), list[GramCollector]()

        def collector(prepared: Prepared) -> GramCollector:
            collectors.append(GramCollector(problem, config, prepared, wanted.index, root()))
            return collectors[0]

        try:
            rounds = streamed(problem, config, wanted, evaluator, collector)
            prepared, (sums, steps) = evaluator.drive(rounds)
        finally:
            for one in collectors:
                one.close()
        return prepared, sums, steps

    def _check_output(self, bound_backend: Any, layout: Layout) -> None:
        if layout.has_complex:
            raise TypeError(
                "normal_equations requires a real residual, but it is complex: return its real and imaginary parts, as in "
                "xp.concat([xp.real(r), xp.imag(r)]), whose squares add up to |r|²"
            )
        super()._check_output(bound_backend, layout)
