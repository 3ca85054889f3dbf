"""Derivatives by one trace and nothing else: those inside of an f that is traced, a level higher, and those that nobody checks.

The outermost one alone is held to plain f.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from arraydiff._typing import Array
from arraydiff.backends import Backend, backend_of
from arraydiff.binding import Bound, flat_vector
from arraydiff.callables import Transform
from arraydiff.config import DifferentiationConfig
from arraydiff.exact import Tracer, as_array, plain
from arraydiff.exact.dispatch import TracedNamespace
from arraydiff.exact.trace import has_tracer, ops, refuse
from arraydiff.memory import room
from arraydiff.problem import Later, Output, Problem
from arraydiff.recording import followed, record
from arraydiff.seam import Recording
from arraydiff.strategies.exact import refused_by


@dataclass(frozen=True)
class TracedBackend(Backend):
    """Arrays that are traced, and plain ones beside them."""

    plain: Backend

    @property
    def below(self) -> Backend:
        """As said."""
        return self.plain

    @classmethod
    def beside(cls, leaves: list[Any]) -> TracedBackend:
        """Of some arguments, traced or not."""
        below = backend_of([plain(leaf) for leaf in leaves])
        like = next((leaf for leaf in leaves if has_tracer(leaf)), None)
        return cls(TracedNamespace(below.xp) if like is None else like.__array_namespace__(), below.device, below)

    def asarray(self, value: Any, dtype: Any = None, *, copy: bool | None = None) -> Array:
        """A traced array as it is."""
        if not has_tracer(value):
            return self.below.asarray(value, dtype, copy=copy)
        array = as_array(value, value)
        return array if dtype is None or array.dtype == dtype else ops.astype(array, dtype)

    def indices(self, which: Any) -> Array:
        """Plain ones."""
        return self.below.indices(which)

    def copy(self, array: Array) -> Array:
        """Traced, if it was."""
        return ops.positive(array) if type(array) is Tracer else self.below.copy(array)

    @property
    def default_float(self) -> Any:
        """As below."""
        return self.below.default_float


@dataclass
class Found:
    """A derivative that was traced, as far as bare answers ask."""

    output: Output
    columns: Any

    @property
    def value(self) -> Any:
        """(m,) f(x)."""
        return self.output.values


def answer(transform: Transform, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the transform returns, traced."""
    options = transform.options
    unfollowed = why_not(transform, options.config)
    if unfollowed:
        refuse(f"{transform.title} inside of what is traced {unfollowed}", *args)
    bound = posed(transform, args, kwargs, TracedBackend.beside)
    recorded, output = followed(bound.problem.call, Recording(bound.problem.x))
    transform._check_output(bound.problem.backend, output.layout)
    columns = transform._traced(bound, recorded.tape)
    return _bare(transform, bound, output, columns)


def unverified(transform: Transform, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the transform returns where nobody wants to see it held to plain f, by the shortest way; None where that is not open.

    It is closed where f cannot be followed, at kinks, where a number is not finite, and to all who count what is done.
    """
    bound = posed(transform, args, kwargs, backend_of)
    call, backend = bound.problem.call, bound.problem.backend
    if backend.deferred or backend.is_lazy or not bound.problem.n:
        return None
    with backend.on_device(), backend.quietly():
        limit = partial(room, backend, transform.options.config.max_memory)
        answered = record(call, Recording(bound.problem.x, limit=limit))
        if isinstance(answered, Exception):
            return None
        recorded, output = answered
        if not output.values.shape[0]:
            return None
        transform._check_output(backend, output.layout)
        try:
            columns = transform._traced(bound, recorded.tape)
        except Exception:  # noqa: BLE001 - the whole way meets it again, and tells
            return None
        both = backend.xp.sum(columns) + backend.xp.sum(output.values)
        if recorded.tape.notes.kinks or backend.counts(backend.xp.isfinite(both)) != [1]:
            return None
        transform._opens(bound, output.layout)
        return _bare(transform, bound, output, columns)


def _bare(transform: Transform, bound: Bound, output: Output, columns: Any) -> Any:
    """The columns in the form that the transform gives them."""
    found: Any = Found(output, columns)  # as much of a `Derivative` as bare answers ask of it
    return transform._bare(bound, found, columns)


def why_not(transform: Transform, config: DifferentiationConfig) -> str:
    """Why it is not traced, or nothing."""
    if not transform.nests:
        return "is not followed"
    refused = refused_by(config)
    if refused:
        return f"is made of differences: {refused}"
    if transform.options.full_output or transform.options.out is not None:
        return "with full_output= or out= gives what is not traced"
    return ""


def posed(
    transform: Transform, args: tuple[Any, ...], kwargs: dict[str, Any], backend_for: Callable[[list[Any]], Backend]
) -> Bound:
    """The call with its x laid flat."""
    asked = transform._asked(args, kwargs)
    call, layout, arrays = asked.called(backend_for(asked.leaves))
    x, _, eps = flat_vector(call.backend, layout, arrays)
    return Bound(Problem(call, x, eps, Later(x)), layout, range(int(x.shape[0])))
