"""Which entries of a Jacobian the kinks touch that were met: masks at the kinks, swept to x and to the result."""

from __future__ import annotations

from typing import Any, NamedTuple

from arraydiff._typing import Array
from arraydiff.backends import raw
from arraydiff.exact.arrays import whole
from arraydiff.exact.sweeps import backward, forward
from arraydiff.exact.trace import Kink, Trace, Tracer, plain

Seeds = dict[int, Any]


class Kinked(NamedTuple):
    """A kink, and the entries of the Jacobian (m, n) that it touches: those in these rows and in these columns."""

    text: str
    """What was met: "abs at 0"."""

    place: str
    """Where, in the user's code; all that a line meets is told together."""

    rows: Array
    """Shape (m,), booleans: the outputs whose derivative may not exist.

    Not those where the derivative of what has the kink vanishes, as in abs(x)**2 at 0: their first derivative exists. What f
    made of a comparison is not known: there, all of them.
    """

    columns: Array
    """Shape (n,), booleans: the entries of x that lead there."""


def met(trace: Trace) -> list[Kink]:
    """The kinks that were met indeed; on a device this waits for it."""
    trace.kinks[:] = [one._replace(flag=True) for one in trace.kinks if one.flag]
    return trace.kinks


def touched(trace: Trace, kinks: list[Kink], root: Tracer, out: Any) -> list[Kinked]:
    """By place, in the order in which they were met."""
    places: dict[tuple[str, str], list[Kink]] = {}
    for one in kinks:
        places.setdefault((one.text, one.place), []).append(one)
    with raw.quietly():
        return [Kinked(*at, _rows(trace, found, out), _columns(trace, found, root)) for at, found in places.items()]


def _columns(trace: Trace, kinks: list[Kink], root: Tracer) -> Array:
    seeds: Seeds = {}
    for one in kinks:
        mask, nodes = (one.mask, one.nodes) if one.nodes else _told(trace, one)
        for node in nodes:
            _add(seeds, node, root.value if node == root.node else _entry(trace, node)[3], mask)
    return plain(backward(trace, seeds, root, release=False)) != 0


def _rows(trace: Trace, kinks: list[Kink], out: Any) -> Array:
    value = plain(out.value if type(out) is Tracer else out)
    if any(one.made is None for one in kinks):
        return raw.zeros(value.shape, value.dtype, value) == 0
    seeds: Seeds = {}
    for one in kinks if type(out) is Tracer else ():
        assert one.made is not None
        if one.made <= out.node:
            options, made = _entry(trace, one.made)[4], _entry(trace, one.made)[3]
            mask = one.mask if one.nodes else _told(trace, one)[0]
            if mask is not None and "axis" in options and not one.nodes:
                mask = raw.any_along(mask, options["axis"], options["keepdims"])
            _add(seeds, one.made, made, mask)
    return (
        plain(whole(forward(trace, out, seeds), value.shape)) != 0
        if seeds
        else raw.zeros(value.shape, value.dtype, value) != 0
    )


def _entry(trace: Trace, node: int) -> tuple[Any, ...]:
    assert trace.tape is not None
    return trace.tape[node]


def _told(trace: Trace, kink: Kink) -> tuple[Any, list[int]]:
    """Where a primitive has its kinks, which its entry on the tape tells again, and what it depends on."""
    assert kink.made is not None
    primitive, nodes, values, made, options = _entry(trace, kink.made)
    return primitive.kinks(made, *values, **options), [node for node in nodes if node is not None]


def _add(seeds: Seeds, node: int, value: Any, mask: Any) -> None:
    """What the sweep starts with at a node: positive numbers at the entries in question, at all where they are not known."""
    value = plain(value)
    seed = raw.weights(value.shape, value, node)
    if mask is not None:
        seed = seed * raw.fitted(mask, value)
    seeds[node] = seeds[node] + seed if node in seeds else seed
