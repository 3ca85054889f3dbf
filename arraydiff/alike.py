"""Calls like one that went well: f followed, held to plain f by two points, and nothing else on the way.

What a call that is not alike needs, and one that does not go well, is done by the whole way, from its start.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from arraydiff._typing import Array
from arraydiff.arguments import Layout, Leaf
from arraydiff.backends import Backend, raw
from arraydiff.binding import Bound, own_scale
from arraydiff.exact import traced
from arraydiff.memory import room
from arraydiff.recording import matrix
from arraydiff.strategies.confirming import POWER, same_value, step_of, two_points

if TYPE_CHECKING:
    from arraydiff.callables import Transform

Function = Callable[[Any], Any]
Pair = tuple[Array, Array]
"""F(x) and its derivative."""

MOST = 2**14
"""Entries of a Jacobian that is made in one go, without a look at memory."""


@dataclass(frozen=True)
class Alike:
    """One array (n,) is differentiated, and f returns one array, () or (m,), of its dtype."""

    backend: Backend
    place: int  # of x among so many positional arguments
    count: int
    kind: type  # of x
    leaf: Leaf
    eps: float
    outputs: tuple[int, ...]
    one: Array  # () a cotangent

    def answer(self, transform: Transform, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pair | None:
        """F(x) and its derivative; None where the call is not alike, or is to be made by the whole way."""
        place = self.place
        if len(args) != self.count or not self._is_like(args[place]):
            return None
        x = args[place]
        backend, f = self.backend, transform.fun
        if kwargs or len(args) > 1:
            f = partial(_with, f, args, kwargs, place)
        verified = transform.options.config.verify_trace
        value = f(backend.copy(x)) if verified else None  # in the open, and before f may keep what is traced
        try:
            with backend.quietly():
                return self._held_to(backend.flat(value), f, x) if verified else self._sound(f, x)
        except Exception:  # noqa: BLE001 - the whole way meets it again, and tells
            return None

    def _is_like(self, x: Any) -> bool:
        same = type(x) is self.kind
        return same and x.shape == self.leaf.shape and x.dtype == self.leaf.dtype

    def _followed(self, f: Function, x: Array) -> Pair | None:
        """F(x) and its derivative by one trace, where there is no kink."""
        backend = self.backend
        tape = traced(f, x, limit=partial(room, backend, None))
        value = tape.value
        if value.shape != self.outputs or value.dtype != self.leaf.dtype or tape.kinked():
            return None
        return value, matrix(backend, tape, x.shape[0]) if self.outputs else tape.pullback(self.one)

    def _sound(self, f: Function, x: Array) -> Pair | None:
        """The same where all of it is finite."""
        found = self._followed(f, x)
        if found is None:
            return None
        value, rows = found
        sound = math.isfinite(raw.total(rows) + (raw.total(value) if self.outputs else value))
        return (self.backend.asarray(value, copy=True), rows) if sound else None  # it may lie in x

    def _held_to(self, value: Array | None, f: Function, x: Array) -> Pair | None:
        """The same where plain f gave this value (m,), and gives the slope at two points of a ray."""
        backend, xp = self.backend, self.backend.xp
        found = self._followed(f, x)
        if found is None or value is None:
            return None
        followed, rows = xp.reshape(found[0], (-1,)), found[1]
        direction = own_scale(backend, [self.leaf], x)
        direction *= backend.ray(x.shape[0], x.dtype)
        slope = xp.reshape(xp.matmul(rows, direction), (-1,))
        if same_value(backend, self.eps, value, followed, slope):
            return None
        t = step_of(self.eps, POWER)
        direction *= t
        ahead, behind = backend.flat(f(x + direction)), backend.flat(f(x - direction))
        if any(one is None or one.shape != followed.shape for one in (value, ahead, behind)):
            return None
        met, _ = two_points(xp, self.eps, t, (value, ahead, behind), slope)
        return (xp.reshape(value, self.outputs), rows) if backend.counts(~met) == [0] else None


def _with(fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], place: int, point: Any) -> Any:
    return fun(*args[:place], point, *args[place + 1 :], **kwargs)


def alike_to(bound: Bound, outputs: Layout) -> Alike | None:
    """What calls like this one are, where they may be made in the short way."""
    call, x = bound.problem.call, bound.problem.x
    usual = call.plain and call.backend.immediate and not (call.measured or call.has_aux)
    place = call.places[0]
    if not usual or outputs.structure is not None or isinstance(place, str):
        return None
    (leaf,), (out,) = bound.layout.leaves, outputs.leaves
    small = len(out.shape) == 1 and out.shape[0] * bound.problem.n <= MOST
    if not (small or out.shape == ()) or out.dtype != x.dtype or leaf.dtype != x.dtype:
        return None
    one = call.backend.scalar(call.backend.asarray(1.0, x.dtype))  # of NumPy a number, which takes less than an array
    return Alike(call.backend, place, len(call.args), type(x), leaf, bound.problem.eps, out.shape, one)
