"""What each operation on a tape does to dependence: a row of a pattern for each entry of an array, the inputs it depends on.

Values do not count, but for those of constants that stand where an operation takes its entries from.  An operation without a line
here makes every entry of its result depend on every entry of what it got: too much, and never too little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from arraydiff.backends import backend_of, raw
from arraydiff.exact.primitives import Elementwise, Primitive
from arraydiff.exact.trace import prim
from arraydiff.sparse.pattern import Ints, Pattern, refuse_dense

Shape = tuple[int, ...]


class Step(NamedTuple):
    """One operation on the tape."""

    primitive: Primitive
    sources: Sequence[Pattern | None]  # of its arguments; None: it does not depend on x
    values: Sequence[Any]
    shape: Shape  # of the result
    options: dict[str, Any]
    inputs: int
    chosen: bool  # from where values of x said: another x may say otherwise
    noted: bool  # values of x were compared somewhere: conditions and masks may be of x

    @property
    def size(self) -> int:
        """Entries of the result."""
        return prod(self.shape)

    @property
    def x(self) -> Pattern:
        """What the first argument depends on."""
        return self.nothing if self.sources[0] is None else self.sources[0]

    @property
    def nothing(self) -> Pattern:
        """A result that does not depend on x."""
        return empty(self.size, self.inputs)

    @property
    def given(self) -> list[tuple[Pattern, Shape]]:
        """What depends on x, and its shape."""
        pairs = zip(self.sources, self.values, strict=False)
        return [(source, shape_of(value)) for source, value in pairs if source is not None]

    def joined(self, parts: Sequence[Pattern]) -> Pattern:
        """What depends on all of these."""
        different = {id(part): part for part in parts if part.nnz}
        if not different:
            return self.nothing
        first, *others = different.values()
        return first.joined(others) if others else first


def structure_of(step: Step) -> Pattern:
    """The inputs that each entry of the result depends on."""
    if all(source is None for source in step.sources):
        return step.nothing
    usual = _elementwise if isinstance(step.primitive, Elementwise) else _everything
    return RULES.get(step.primitive, usual)(step)


def identity(n: int) -> Pattern:
    """Of x itself."""
    return Pattern(np.arange(n, dtype=np.int64), np.arange(n, dtype=np.int64), (n, n))


def empty(size: int, n: int) -> Pattern:
    """Of what does not depend on x."""
    return Pattern(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), (size, n))


def shape_of(value: Any) -> Shape:
    """Of an array, or of a number."""
    return tuple(getattr(value, "shape", ()))


def on_host(value: Any) -> Any:
    """Arrays of any library, also in an index, as those of NumPy."""
    if isinstance(value, tuple):
        return tuple(map(on_host, value))
    if raw.is_host(value) or not raw.is_plain(value) or isinstance(value, int | float | complex):
        return value
    return backend_of([value]).as_numpy(value)


def numbers(shape: Shape) -> Ints:
    """Entries by number, in the shape of the array."""
    return np.arange(prod(shape), dtype=np.int64).reshape(shape)


def spread(source: Pattern, shape: Shape, to: Shape) -> Pattern:
    """Broadcast to another shape."""
    if prod(shape) == prod(to):
        return source
    return taken(source, np.broadcast_to(numbers(shape), to))


def taken(source: Pattern, places: Any) -> Pattern:
    """Of entries that are taken from these places."""
    which = np.reshape(places, (-1,))
    refuse_dense(int(np.sum(source.lengths[which])), (which.size, source.shape[1]))
    return source.rows_of(which)


def placed(source: Pattern, places: Any, size: int) -> Pattern:
    """Of a result of `size` entries: each is added to the one at its place."""
    return source.moved(places.reshape(-1)[source.rows], (size, source.shape[1]))


def kept(source: Pattern, which: Any) -> Pattern:
    """Entries that are marked keep what they depend on, the others depend on nothing."""
    mine = which.reshape(-1)[source.rows]
    return Pattern(source.rows[mine], source.cols[mine], source.shape)


def summed(source: Pattern, shape: Shape, axes: Sequence[int]) -> tuple[Pattern, Shape]:
    """All along some axes together, which keep the length 1."""
    left = tuple(1 if axis in axes else length for axis, length in enumerate(shape))
    if left == shape:
        return source, shape
    return placed(source, np.broadcast_to(numbers(left), shape), prod(left)), left


# ---- the rules


def _everything(step: Step) -> Pattern:
    """Every entry depends on all of all arguments."""
    parts = [summed(source, (prod(shape),), (0,))[0] for source, shape in step.given]
    together = step._replace(shape=(1,)).joined(parts)
    return spread(together, (1,), (step.size,))


def _elementwise(step: Step) -> Pattern:
    return step.joined([spread(source, shape, step.shape) for source, shape in step.given])


def _same(step: Step) -> Pattern:
    return step.x


def _moved(step: Step) -> Pattern:
    """Taken from where the operation takes the numbers of the entries."""
    if step.chosen:
        return _everything(step)
    rest, options = map(on_host, step.values[1:]), {name: on_host(one) for name, one in step.options.items()}
    places = step.primitive.evaluate(numbers(shape_of(step.values[0])), *rest, **options)
    return taken(step.x, places)


def _where(step: Step) -> Pattern:
    """Of a condition that may be of x both branches count; else those that it takes."""
    condition, *branches = step.values
    parts = [
        None if source is None else spread(source, shape_of(value), step.shape)
        for source, value in zip(step.sources[1:], branches, strict=True)
    ]
    if not (step.chosen or step.noted):
        first = np.broadcast_to(on_host(condition), step.shape) != 0
        masks = first, ~first
        parts = [None if one is None else kept(one, mask) for one, mask in zip(parts, masks, strict=True)]
    return step.joined([one for one in parts if one is not None])


def _reduced(step: Step) -> Pattern:
    shape = shape_of(step.values[0])
    axis = step.options.get("axis")
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    source, _ = summed(step.x, shape, [one % max(len(shape), 1) for one in axes])
    return source


def _running(step: Step) -> Pattern:
    """All before and here: from the first of a lane that depends on an input, each does."""
    shape = shape_of(step.values[0])
    axis = step.options["axis"] % len(shape)
    length, after = shape[axis], prod(shape[axis + 1 :])
    source = step.x
    before, rest = np.divmod(source.rows, length * after)
    at, lane = np.divmod(rest, after)
    order = np.lexsort((at, source.cols, lane, before))
    keys = np.stack([before[order], lane[order], source.cols[order]])
    first = order[np.any(np.diff(keys, prepend=-1, axis=1) != 0, axis=0)]
    counts = length - at[first]
    refuse_dense(int(np.sum(counts)), source.shape)
    number = np.repeat(np.arange(first.size), counts)
    steps = np.arange(number.size) - (np.cumsum(counts) - counts)[number]
    rows, cols = source.rows[first][number] + steps * after, source.cols[first][number]
    return Pattern(rows, cols, source.shape).moved(rows, source.shape)


def _concatenated(step: Step) -> Pattern:
    axis = step.options["axis"] % len(step.shape)
    places, start, rows, cols = numbers(step.shape), 0, [], []
    for source, value in zip(step.sources, step.values, strict=False):
        stop = start + shape_of(value)[axis]
        if source is not None:
            index = (slice(None),) * axis + (slice(start, stop),)
            rows.append(places[index].reshape(-1)[source.rows])
            cols.append(source.cols)
        start = stop
    return step.nothing.joined([Pattern(*pair, (step.size, step.inputs)) for pair in zip(rows, cols, strict=True)])


def _scattered(step: Step) -> Pattern:
    places = step.values[1] if len(step.values) > 1 else step.options["index"]
    return placed(step.x, numbers(step.shape)[on_host(places)], step.size)


def _written(step: Step) -> Pattern:
    """The old entries but those that are written over, and the new ones; both where a mask may be of x."""
    index = on_host(step.options["index"])
    places = numbers(step.shape)[index]
    old, new = step.sources[:2]
    masked = step.noted and _has_mask(index)
    parts = []
    if old is not None:
        untouched = np.ones(step.size, dtype=np.bool_)
        untouched[places.reshape(-1)] = masked
        parts.append(kept(old, untouched))
    if new is not None:
        shape = shape_of(step.values[1])
        if masked and prod(shape) == 1:
            parts.append(spread(new, (1,), (step.size,)))
        else:
            parts.append(placed(spread(new, shape, places.shape), places, step.size))
    return step.joined(parts)


def _has_mask(index: Any) -> bool:
    each = index if isinstance(index, tuple) else (index,)
    return any(getattr(one, "dtype", None) == np.bool_ for one in each)


def _triangle(step: Step) -> Pattern:
    """As the operation leaves ones."""
    ones = np.ones(shape_of(step.values[0]), dtype=np.bool_)
    return kept(step.x, np.asarray(step.primitive.evaluate(ones, **step.options)))


def _multiplied(step: Step) -> Pattern:
    """Row i, column k: all of the row and of the column, where a constant factor is not 0."""
    parts = []
    for k, (source, value) in enumerate(zip(step.sources, step.values, strict=False)):
        if source is None:
            continue
        shape, other = shape_of(value), step.values[1 - k]
        constant = None if step.sources[1 - k] is not None else on_host(other)
        if constant is not None and not np.all(constant):
            parts.append(_by_entries(source, shape, np.asarray(constant) != 0, k, step))
        else:
            lines, left = summed(source, shape, (len(shape) - 1 - k,))
            parts.append(spread(lines, left, step.shape))
    return step.joined(parts)


def _by_entries(source: Pattern, shape: Shape, there: Any, k: int, step: Step) -> Pattern:
    """The same by a constant matrix of which some entries are 0, on the left (k = 1) or on the right."""
    batch = step.shape[:-2]
    there = np.broadcast_to(there, (*batch, *there.shape[-2:]))
    mine: Any = np.broadcast_to(numbers(shape), (*batch, *shape[-2:]))
    place: Any = numbers(step.shape)
    *which, i, j = np.nonzero(there)
    if k == 1:  # entry (i, j) brings row j of x to row i
        came, went = mine[(*which, j)], place[(*which, i)]
    else:  # column i of x to column j
        came, went = mine[(*which, slice(None), i)], place[(*which, slice(None), j)]
    return placed(taken(source, came), went, step.size)


def _by_sparse(step: Step) -> Pattern:
    """A sparse matrix of SciPy times x: as its entries."""
    entries = Pattern.of(step.options["matrix"])
    came, went = numbers(shape_of(step.values[0]))[entries.cols], numbers(step.shape)[entries.rows]
    return placed(taken(step.x, came), went, step.size)


def _contracted(step: Step) -> Pattern:
    """Einstein sums: letters that are summed together, others side by side."""
    inputs, to = step.options["subscripts"].split("->")
    parts = []
    for source, value, term in zip(step.sources, step.values, inputs.split(","), strict=False):
        if source is None:
            continue
        shape, unique = shape_of(value), "".join(dict.fromkeys(term))
        places = np.einsum(f"{term}->{unique}", numbers(shape))  # diagonals
        source, shape = taken(source, places), places.shape
        source, shape = summed(source, shape, [i for i, letter in enumerate(unique) if letter not in to])
        lengths = dict(zip(unique, shape, strict=True))
        order = [unique.index(letter) for letter in to if letter in unique]
        order += [i for i, letter in enumerate(unique) if letter not in to]
        source = taken(source, numbers(shape).transpose(order))
        parts.append(spread(source, tuple(lengths.get(letter, 1) for letter in to), step.shape))
    return step.joined(parts)


def _along(step: Step) -> Pattern:
    """Lanes along an axis, each mixed."""
    shape = shape_of(step.values[0])
    source, left = summed(step.x, shape, (step.options.get("axis", -1) % len(shape),))
    return spread(source, left, step.shape)


def _by_matrices(step: Step) -> Pattern:
    """Each matrix of a stack mixed, and no two of them."""
    parts = []
    for source, shape in step.given:
        batch = len(shape) - 2
        if shape[:batch] != step.shape[:batch]:
            return _everything(step)
        mixed, _ = summed(source, shape, (batch, batch + 1))
        parts.append(spread(mixed, (*shape[:batch], *(1,) * (len(step.shape) - batch)), step.shape))
    return step.joined(parts)


RULES: dict[Any, Callable[[Step], Pattern]] = {
    **dict.fromkeys([prim.reshape, prim.real, prim.imag, prim.conj, prim.astype], _same),
    **dict.fromkeys([prim.permute_dims, prim.broadcast_to, prim.getitem, prim.flip], _moved),
    **dict.fromkeys([prim.sum, prim.max, prim.min], _reduced),
    **dict.fromkeys([prim.tril, prim.triu], _triangle),
    **dict.fromkeys([prim.fft, prim.ifft], _along),
    **dict.fromkeys([prim.solve, prim.inv, prim.det, prim.logabsdet, prim.cholesky, prim.eigh, prim.eigvalsh, prim.pinv,
                     prim.svdvals], _by_matrices),
    prim.where: _where,
    prim.cumulative_sum: _running,
    prim.concat: _concatenated,
    prim.scatter: _scattered,
    prim.setitem: _written,
    prim.matmul: _multiplied,
    prim.einsum: _contracted,
    prim.sparse_matmul: _by_sparse,
}  # fmt: skip
"""By identity: a rule of the user's may have any name."""
