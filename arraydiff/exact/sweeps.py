"""The two sweeps over a tape: cotangents back to x, and tangents of x forth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from arraydiff.backends import large, raw
from arraydiff.backends.displaced import Displacer
from arraydiff.exact.arrays import is_complex, whole, zeros_like
from arraydiff.exact.trace import Trace, Tracer, ops, prim

RUNNING = "cumulative_sum"
"""The operation whose every sum goes into those that follow."""


def rounded(name: str, shake: Displacer, made: Any, again: Callable[[Any], Any]) -> Any:
    """What a linear operation made, rounded otherwise: each partial sum is rounded by itself, and goes into all that follow."""
    if name == RUNNING:
        made = made + again(shake.alone(made) - made)
    return shake(made)


def backward(
    trace: Trace, cotangents: dict[int, Any], root: Tracer, *, release: bool, shake: Displacer | None = None
) -> Any:
    """Cotangents of nodes pulled back to `root`; `shake` rounds what every operation gives otherwise.

    A cotangent has any shape that broadcasts to that of its node: the gradient of a sum stays a number until it meets an array.
    With `release` the tape is used up on the way, so that its memory serves the next operations.
    """
    tape, sums, getitem = trace.tape, _Sums(cotangents), prim.getitem
    assert tape is not None
    found = sums.found
    for node in range(max(cotangents), root.node, -1):
        g, entry = found.pop(node, None), tape.pop(node, None) if release else tape[node]
        if g is None or entry is None:
            continue
        primitive, nodes, values, made, options = entry
        for k, source in enumerate(nodes):
            if source is None:
                continue
            x = values[k]
            if primitive is getitem and sums.scatter(source, g, x, values[1]):
                continue
            if primitive.by_name and made.shape == x.shape:  # most of them: `Elementwise.vjp` written out
                c = primitive.rules[k](g, made, *values)
            else:
                c = primitive.vjp(k, g, made, values, options)
            if c.dtype is not x.dtype and is_complex(c) and not is_complex(x):
                c = ops.real(c)
            if shake is not None:
                again = partial(primitive.vjp, k, out=made, values=values, options=options)
                c = rounded(primitive.name, shake, c, again)
            if source in found:
                sums.add(source, c, x)
            else:
                found[source] = c
    return sums.whole(root)


class _Sums:
    """Cotangents by node; `ours` are buffers made here, which are added into in place."""

    __slots__ = ("found", "ours")

    def __init__(self, found: dict[int, Any]) -> None:
        self.found = found
        self.ours: set[int] = set()

    def add(self, node: int, c: Any, x: Any) -> None:
        """To what is found."""
        old = self.found[node]
        if node in self.ours and type(c) is not Tracer and (c.dtype is old.dtype or not is_complex(c)):
            old += c
            return
        self.found[node] = total = old + c
        self.ours.discard(node)
        if raw.is_host(total) and not raw.is_number(total) and total.shape == x.shape:
            self.ours.add(node)

    def whole(self, root: Tracer) -> Any:
        """That of `root`: never the caller's own array, nor one broadcast."""
        g = self.found.get(root.node)
        if g is None:
            return zeros_like(root.value)
        g = whole(g, root.value.shape)
        return g if root.node in self.ours else g * 1

    def scatter(self, node: int, g: Any, x: Any, index: Any) -> bool:
        """Add the cotangent of x[index] into one buffer, so that n of them cost O(n)."""
        old = self.found.get(node)
        if type(g) is Tracer or type(old) is Tracer or not raw.is_host(x):
            return False
        if g.dtype is not x.dtype and is_complex(g) and not is_complex(x):
            g = g.real
        simple = type(index) is int or type(index) is slice
        buffer: Any = old
        if node not in self.ours:
            self.ours.add(node)
            if simple and old is None:
                self.found[node] = large.scattered(g, index, x)
                return True
            self.found[node] = buffer = raw.zeros(x.shape, x.dtype, x)
            if old is not None:
                buffer += old
        if simple:
            buffer[index] += g
            return True
        return raw.add_at(buffer, index, g)


def forward(trace: Trace, out: Tracer, tangents: dict[int, Any], shake: Displacer | None = None) -> Any:
    """Tangents of nodes pushed along the tape to `out`; each one goes when nothing needs it any more."""
    tape = trace.tape
    assert tape is not None
    last = _last_uses(tape)
    for node in range(min(tangents) + 1, out.node + 1):
        entry = tape.get(node)
        if entry is None:
            continue
        primitive, nodes, values, made, options = entry
        moved = [tangents.get(source) for source in nodes]
        if any(one is not None for one in moved):
            change = primitive._tangent(moved, made, values, options)
            if shake is not None:
                again = partial(primitive.jvp, 0, out=made, values=values, options=options)
                change = rounded(primitive.name, shake, change, again)
            tangents[node] = tangents[node] + change if node in tangents else change
        for source in nodes:
            if source is not None and last[source] == node:
                tangents.pop(source, None)
    moved_out = tangents.get(out.node)
    return zeros_like(out.value) if moved_out is None else moved_out


def _last_uses(tape: dict[int, tuple[Any, ...]]) -> dict[int, int]:
    return {source: node for node in sorted(tape) for source in tape[node][1] if source is not None}
