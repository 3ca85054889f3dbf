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
from arraydiff.exact import Refused, traced
from arraydiff.memory import room
from arraydiff.recording import matrix
from arraydiff.strategies.confirming import POWER, same_value, step_of, two_points
from arraydiff.strategies.exact import first_line

if TYPE_CHECKING:
    from arraydiff.callables import Transform

Function = Callable[[Any], Any]
Answer = tuple[Array, Array]
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

    def taken(self, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The arguments with x as it is now, into which f or another thread may write; None where they are not alike."""
        if len(args) != self.count:
            return None
        x: Any = args[self.place]
        kind: type = type(x)
        if kind is not self.kind or x.shape != self.leaf.shape or x.dtype != self.leaf.dtype:
            return None
        return (*args[: self.place], self.backend.copy(x), *args[self.place + 1 :])

    def answer(
        self, transform: Transform, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Answer | None, bool, str]:
        """F(x) and its derivative, or None: then whether x is as it was, and why f was not followed here, for the whole way."""
        backend, f, x = self.backend, transform.fun, args[self.place]
        if kwargs or len(args) > 1:
            f = partial(_with, f, args, kwargs, self.place)
        try:
            with backend.quietly():
                if not transform.options.config.verify_trace:
                    return self._sound(f, x), True, ""
                found = self._sloped(f, x)
        except Refused as refused:  # which costs one f, and no second
            return None, True, first_line(refused)
        except Exception:  # noqa: BLE001 - the whole way meets it again, and tells
            return None, True, ""
        if found is None:
            return None, True, ""
        followed, rows, slope = found
        value = self._value(f(x))  # in the open; nobody needs x any more, so that f may have it
        if value is None or same_value(backend, self.eps, value, followed, slope):
            return None, False, ""
        return (value, rows), False, ""

    def _value(self, made: Any) -> Array | None:
        """A copy of what f gave, in its shape; None if that is not what f gave before."""
        flat = self.backend.flat(made) if getattr(made, "shape", ()) == self.outputs else None
        return None if flat is None else self.backend.xp.reshape(flat, self.outputs)

    def _followed(self, f: Function, x: Array) -> Answer | None:
        """F(x) and its derivative by one trace, where there is no kink."""
        backend = self.backend
        tape = traced(f, x, limit=partial(room, backend, None))
        value = tape.value
        if value.shape != self.outputs or value.dtype != self.leaf.dtype or tape.kinked():
            return None
        return value, matrix(backend, tape, x.shape[0]) if self.outputs else tape.pullback(self.one)

    def _sound(self, f: Function, x: Array) -> Answer | None:
        """The same where all of it is finite."""
        found = self._followed(f, x)
        if found is None:
            return None
        value, rows = found
        sound = math.isfinite(raw.total(rows) + (raw.total(value) if self.outputs else value))
        return (self.backend.asarray(value, copy=True), rows) if sound else None  # it may lie in x

    def _sloped(self, f: Function, x: Array) -> tuple[Array, Array, Array] | None:
        """The same, and the slope along a ray, where plain f has it at two points."""
        backend, xp = self.backend, self.backend.xp
        found = self._followed(f, x)
        if found is None:
            return None
        followed, rows = found
        direction = own_scale(backend, [self.leaf], x) * backend.ray(x.shape[0], x.dtype)
        slope = xp.matmul(rows, direction)
        t = step_of(self.eps, POWER)
        direction *= t
        behind = self._value(f(x - direction))
        ahead = self._value(f(backend.added(direction, x)))
        if ahead is None or behind is None:
            return None
        pair = two_points(xp, self.eps, t, (followed, ahead, behind), slope)
        return (followed, rows, slope) if backend.counts(~pair.met | pair.apart) == [0] else None


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
    if not (small or out.shape == ()) or any(kind != call.backend.default_float for kind in (out.dtype, leaf.dtype)):
        return None
    one = call.backend.scalar(call.backend.asarray(1.0, x.dtype))  # of NumPy a number, which takes less than an array
    return Alike(call.backend, place, len(call.args), type(x), leaf, bound.problem.eps, out.shape, one)
