"""Values of f at new rungs of a ladder, as they came: what each output's rungs are made from when they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from arraydiff._typing import Array
from arraydiff.backends import Backend
from arraydiff.rows import Pieces, Rows, cut, folded
from arraydiff.strategies.tableau import Rungs

SMALL_OUTPUT = 1e-3  # of the mean size of all outputs


@dataclass(frozen=True)
class Stage:
    """What f gave at new rungs of k lines."""

    backend: Backend
    side: int  # 0: central; +1, -1: one-sided
    taken: Array  # (p, k) offsets as f saw them: h, -h, or h alone
    values: Array  # (p, m, k) there; NaN where f failed
    base: Array  # (m, 1) or (1, k): f(x)

    @cached_property
    def step(self) -> Array:
        """(r, k)."""
        return (self.taken[::2, ...] - self.taken[1::2, ...]) / 2 if self.side == 0 else self.side * self.taken

    @cached_property
    def quotient(self) -> Array:
        """(r, m, k)."""
        if self.side == 0:
            return (self.values[::2, ...] - self.values[1::2, ...]) / (2 * self.step[:, None, :])
        moved = self.values - self.base if self.side > 0 else self.base - self.values
        return moved / self.step[:, None, :]

    @cached_property
    def mean(self) -> Array | None:
        """(r, m, k), central only."""
        return (self.values[::2, ...] + self.values[1::2, ...]) / 2 if self.side == 0 else None

    @cached_property
    def seen(self) -> tuple[Array, Array]:
        """(m, k) the largest |f|, and its range."""
        xp = self.backend.xp
        seen = xp.where(xp.isfinite(self.values), self.values, xp.zeros_like(self.values) + self.base)
        return xp.max(xp.abs(seen), axis=0), xp.max(seen, axis=0) - xp.min(seen, axis=0)

    @property
    def failed(self) -> Array:
        """(p, k) bool: f is finite at x but not there."""
        xp = self.backend.xp
        finite = xp.logical_or(xp.isfinite(self.values), xp.logical_not(xp.isfinite(self.base)))
        return xp.any(xp.logical_not(finite), axis=1)

    @property
    def usable(self) -> Array:
        """(r, k) bool: rungs at which f was finite wherever it is finite at x."""
        xp = self.backend.xp
        return xp.all(
            xp.logical_or(xp.isfinite(self.quotient), xp.logical_not(xp.isfinite(self.base))[None, ...]), axis=1
        )

    @property
    def moved(self) -> Array:
        """(k,) bool: f reacted."""
        xp, (_, span) = self.backend.xp, self.seen
        return xp.any(xp.logical_or(span > 0, xp.logical_not(xp.isfinite(span))), axis=0)

    def cut(self, rows: Rows) -> Stage:
        """Some of the outputs."""
        return self if rows is None else replace(self, values=self.values[:, rows, :], base=cut(self.base, rows))

    def picked(self, places: Array) -> Stage:
        """Outputs by their places."""
        xp = self.backend.xp
        return replace(self, values=xp.take(self.values, places, axis=1), base=xp.take(self.base, places, axis=0))

    def narrowed(self, pick: Callable[[Array], Array]) -> Stage:
        """Some of the lines."""
        return replace(self, taken=pick(self.taken), values=pick(self.values), base=pick(self.base))


@dataclass(frozen=True)
class Met:
    """What all outputs together say of a stage, and of the stages before it."""

    failed: Array  # (p, k)
    usable: Array  # (r, k)
    moved: Array  # (k,)
    lively: tuple[Array, ...] = ()  # (k,) places: of many outputs, in each slab the one that reacted most

    def narrowed(self, pick: Callable[[Array], Array]) -> Met:
        """Some of the lines."""
        lively = tuple(pick(place) for place in self.lively)
        return Met(pick(self.failed), pick(self.usable), pick(self.moved), lively)


def met(stage: Stage, slabs: Sequence[Rows]) -> Met:
    """Of all outputs, slab by slab."""
    xp, whole = stage.backend.xp, len(slabs) == 1
    parts = Pieces(slabs, stage.cut)
    least = None if whole else _typical(stage, slabs)
    failed, usable, moved, lively = [], [], [], []
    for part, rows in zip(parts, slabs, strict=True):
        failed.append(part.failed)
        usable.append(part.usable)
        moved.append(part.moved)
        if least is not None and rows is not None:
            reaction = part.seen[1] / xp.maximum(xp.abs(part.base), xp.zeros_like(part.base) + least)
            reaction = xp.where(xp.isfinite(reaction), reaction, xp.zeros_like(reaction))
            lively.append(xp.argmax(reaction, axis=0) + rows.start)
    return Met(
        folded(xp.logical_or, failed), folded(xp.logical_and, usable), folded(xp.logical_or, moved), tuple(lively)
    )


def _typical(stage: Stage, slabs: Sequence[Rows]) -> Array:
    """() a small share of the largest mean size of f(x) over the slabs."""
    xp, means = stage.backend.xp, []
    for rows in slabs:
        base = cut(stage.base, rows)
        means.append(xp.mean(xp.where(xp.isfinite(base), xp.abs(base), xp.zeros_like(base))))
    least = SMALL_OUTPUT * xp.max(xp.stack(means))
    return xp.where(least > 0, least, xp.ones_like(least))


def rungs_of(stages: Sequence[Stage], order: Array, base: Array, reach: Array) -> Rungs:
    """The rungs of all stages, sorted by `order` (K, k)."""
    backend, xp = stages[0].backend, stages[0].backend.xp
    means = [stage.mean for stage in stages if stage.mean is not None]
    largest, span = stages[0].seen
    largest = xp.maximum(xp.zeros_like(largest) + xp.abs(base), largest)
    for stage in stages[1:]:
        largest, span = xp.maximum(largest, stage.seen[0]), xp.maximum(span, stage.seen[1])
    return Rungs(
        step=ordered(backend, order, [stage.step for stage in stages]),
        quotient=ordered(backend, order, [stage.quotient for stage in stages]),
        mean=ordered(backend, order, means) if means else None,
        base=base,
        reach=reach,
        largest=largest,
        span=span,
    )


def order_of(backend: Backend, steps: Sequence[Array]) -> Array:
    """(K, k) the places of rungs from the smallest step to the largest; of equal ones the earlier first."""
    xp, step = backend.xp, _joined(backend, steps)
    count = int(step.shape[0])
    place = xp.arange(count, dtype=backend.index_dtype, device=backend.device)
    earlier = (place[None, :] < place[:, None])[:, :, None]
    mine, others = step[:, None, :], step[None, :, :]
    before = xp.logical_or(others < mine, xp.logical_and(others == mine, earlier))
    rank = xp.sum(xp.astype(before, backend.index_dtype), axis=1)  # (K, k)
    return xp.argmax(xp.astype(rank[None, :, :] == place[:, None, None], xp.int8), axis=1)


def ordered(backend: Backend, order: Array, parts: Sequence[Array]) -> Array:
    """Parts (r, k) or (r, m, k) joined, in this order on every line."""
    xp, array = backend.xp, _joined(backend, parts)
    count, k = int(array.shape[0]), int(array.shape[-1])
    if count == 1:
        return array
    if k == 1:
        return xp.take(array, order[:, 0], axis=0)
    shape, size = array.shape, 1
    for length in shape[1:]:
        size *= length
    index = xp.arange(size, dtype=order.dtype, device=backend.device)
    places = xp.reshape(index, (1, -1, k)) + size * order[:, None, :]
    return xp.reshape(xp.take(xp.reshape(array, (-1,)), xp.reshape(places, (-1,))), shape)


def _joined(backend: Backend, parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else backend.xp.concat(list(parts))
