"""A derivative at a batch of points: P problems of their own that share their rounds of evaluations."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Place
from arraydiff.axes import agreed_size, checked_axes, checked_axis, flat, unflat, zip_arguments
from arraydiff.backends import Backend, float0_zeros, is_array
from arraydiff.binding import Bound
from arraydiff.callables import Transform
from arraydiff.engine import Derivative, derivation
from arraydiff.evaluator import Evaluator
from arraydiff.explain import Stories
from arraydiff.record import active_records, unrecorded
from arraydiff.result import DerivativeResult, HessianResult
from arraydiff.service import Service
from arraydiff.telling import add_to
from arraydiff.together import drive_together, kept, raised

STACKED = ("derivative", "value", "aux", "error_estimate", "step_sizes", "status", "condition", "noise_level")
"""Fields of a result that get an axis of points in front."""

OF_HESSIANS = ("gradient", "gradient_error", "gradient_status")
"""Further ones."""


class Batched:
    """A derivative of `fun` at every point of a batch, equal to a loop over the points; called like the derivative.

    The points advance in lockstep: a round serves all that still wait.  With ``vectorized=True`` a round is one call of
    f (one a point where other arguments than the differentiated ones are mapped, or with ``has_aux``); with `workers` all
    points of a round go to them together.  Options such as `bounds`, `scale` and `max_evaluations` are of one point.
    """

    def __init__(self, transform: Transform, in_axes: Any) -> None:
        functools.update_wrapper(self, transform, updated=())
        self.__doc__ = f"{transform.__doc__}\n\nAt each point of a batch, in_axes={in_axes!r}."
        self.transform, self.axes = transform, checked_axes(transform.title, in_axes)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """A derivative of a method binds like the method."""
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<{self.transform!r} at a batch of points, in_axes={self.axes!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The derivatives as bare arrays, with an axis of points in front."""
        if self.transform.options.full_output:
            return self.result(*args, **kwargs)
        transform, ready = self.transform, self._run(args, kwargs)
        with ready.backend.on_device(), ready.backend.quietly():
            delivered = []
            for i, pair in enumerate(ready.pairs):
                try:
                    delivered.append(transform._delivered(*pair))
                except Exception as error:  # noqa: BLE001
                    raised(i, error)
            transform._warn([derivative for _, derivative in ready.pairs])
            bare = [transform._bare(*pair, values) for pair, values in zip(ready.pairs, delivered, strict=True)]
            return _stacked(ready.backend, bare, "what is returned")

    def result(self, *args: Any, **kwargs: Any) -> Any:
        """The derivatives with error bars and flags, stacked; costs are totals, `rounds` are shared by the points."""
        ready = self._run(args, kwargs)
        with ready.backend.on_device(), ready.backend.quietly():
            return _joined(ready, [self.transform._result(*pair) for pair in ready.pairs])

    def measure(self, *args: Any, **kwargs: Any) -> DerivativeResult:
        """What an outer derivative needs of this one."""
        with unrecorded():
            result: DerivativeResult = self.result(*args, **kwargs)
        return result

    def forget(self) -> None:
        """Forget what was learnt of `fun`."""
        self.transform.forget()

    def plan(self, *_args: Any, **_kwargs: Any) -> Any:
        """There is none.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError("a plan is learnt at one point: call plan(x) of the derivative without in_axes")

    def stepper(self, *_args: Any, **_kwargs: Any) -> Any:
        """There is none.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError("a stepper is for one point: call stepper(x) of the derivative without in_axes, once a point")

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Done:
        batch = Batch.of(self.transform, self.axes, args, kwargs)
        return done(self.transform, [batch.entry(i) for i in range(batch.size)], batch.alike, raised)


Call = tuple[tuple[Any, ...], dict[str, Any]]


def done(transform: Transform, calls: Sequence[Call], alike: bool, lost: Callable[[int, Exception], Exception]) -> Done:
    """The derivatives for all calls, in lockstep."""
    started, config = perf_counter(), transform.options.config
    service, evaluators = Service(config), list[Evaluator]()
    bounds, works = [], []
    for i, (args, kwargs) in enumerate(calls):
        try:
            bound = transform._bind(tuple(args), kwargs)
        except Exception as error:
            lost(i, error)
            raise
        evaluator = Evaluator(bound.problem, config, transform._check_output, service)
        evaluator.turn, evaluator.looks_ahead = i, False  # the points of the batch keep workers busy
        bounds.append(bound)
        evaluators.append(evaluator)
        works.append(derivation(bound.problem, config, transform._wanted(bound), evaluator))
    backend = bounds[0].problem.backend
    with backend.on_device(), backend.quietly(), service:
        derivatives, rounds = drive_together(evaluators, works, alike=alike, lost=lost)
    pairs: list[tuple[Bound, Derivative]] = []
    errors: dict[int, Exception] = {}
    calls_lost = points_lost = 0
    for i, (bound, derivative) in enumerate(zip(bounds, derivatives, strict=True)):
        if isinstance(derivative, Exception):
            errors[i] = derivative
            calls_lost, points_lost = calls_lost + evaluators[i].calls, points_lost + evaluators[i].points
        else:
            transform._learn(bound, derivative.prepared)
            pairs.append((bound, derivative))
    ready = Done(backend, pairs, errors, calls_lost, points_lost, rounds, perf_counter() - started)
    ready.count()
    return ready


def measured(transform: Transform, calls: Sequence[Call], alike: bool) -> list[DerivativeResult | Exception]:
    """What an outer derivative needs, for several of its points at once."""
    with unrecorded():
        inner = done(transform, calls, alike, kept)
    with inner.backend.on_device(), inner.backend.quietly():
        results = [transform._result(*pair, told=False) for pair in inner.pairs]
    if inner.errors and results:  # one call at one point is counted for an exception: the rest goes with a result
        calls_more, points_more = inner.calls_lost - len(inner.errors), inner.points_lost - len(inner.errors)
        one = results[0]
        more = {"function_calls": one.function_calls + calls_more, "function_points": one.function_points + points_more}
        results[0] = replace(one, **more)
    given = iter(results)
    return [inner.errors.get(i) or next(given) for i in range(len(calls))]


@dataclass(frozen=True)
class Done:
    """All derivatives of a batch."""

    backend: Backend
    pairs: list[tuple[Bound, Derivative]]
    errors: dict[int, Exception]  # what was kept of the points that have no derivative
    calls_lost: int  # and what they cost
    points_lost: int
    rounds: int  # shared
    time: float

    def count(self) -> None:
        """Add the batch to the records that are open."""
        for total in active_records():
            rounds, time = total.rounds + self.rounds, total.time + self.time
            for _, derivative in self.pairs:
                add_to(total, derivative)
            total.rounds, total.time = rounds, time


@dataclass(frozen=True)
class Batch:
    """The arguments of a call, with the axes along which its points lie."""

    structure: Any
    leaves: list[Any]
    axes: list[int | None]
    size: int
    alike: bool  # f is the same function at all points: only differentiated arguments are mapped

    @classmethod
    def of(cls, transform: Transform, axes: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Batch:
        """Checked against the axes."""
        found = zip_arguments(transform.title, axes, args, kwargs)
        places = transform.options.argnums.places(transform.fun, args, kwargs)
        owners = [*_owners(range(len(args)), args), *_owners(kwargs, kwargs.values())]
        sizes: dict[str, int] = {}
        used: list[int | None] = []
        alike = True
        for (path, axis, leaf), owner in zip(found, owners, strict=True):
            if axis is None or leaf is None:
                used.append(None)
                continue
            shape = tuple(leaf.shape) if is_array(leaf) else ()
            checked_axis(transform.title, path, axis, shape)
            used.append(axis % len(shape))
            sizes[f"axis {axis} of {path}"] = shape[axis]
            alike = alike and owner in places
        size = agreed_size(transform.title, sizes)
        if size == 0:
            raise ValueError(f"{transform.title}: the batch has no points; in_axes wants an axis of length 1 or more")
        leaves, structure = flat((args, kwargs))
        return cls(structure, leaves, used, size, alike)

    def entry(self, i: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of point i."""
        leaves = [
            leaf if axis is None else leaf[(*[slice(None)] * axis, i, ...)]
            for leaf, axis in zip(self.leaves, self.axes, strict=True)
        ]
        args, kwargs = unflat(self.structure, leaves)
        return args, kwargs


def _owners(names: Any, trees: Any) -> list[Place]:
    """For every leaf, the argument that it is of."""
    return [name for name, tree in zip(names, trees, strict=True) for _ in flat(tree)[0]]


def _joined(ready: Done, results: Sequence[Any]) -> Any:
    """One result of those of all points."""
    names = STACKED + (OF_HESSIANS if isinstance(results[0], HessianResult) else ())
    stacked = {name: _stacked(ready.backend, [getattr(r, name) for r in results], name) for name in names}
    methods = tuple(result.method_used for result in results)
    return replace(
        results[0],
        **stacked,
        method_used=methods[0] if len(set(methods)) == 1 else methods,
        reason=_told([result.reason for result in results]),
        function_calls=sum(result.function_calls for result in results),
        function_points=sum(result.function_points for result in results),
        rounds=ready.rounds,
        computation_time=ready.time,
        warnings=[f"point {i}: {text}" for i, result in enumerate(results) for text in result.warnings],
        exceptions=tuple(error for result in results for error in result.exceptions),
        story=Stories(tuple(results)),
    )


def _told(reasons: Sequence[str]) -> str:
    """Each reason once, with the points that it holds for where it does not for all."""
    if len(set(reasons)) == 1:
        return reasons[0]
    places = {reason: [i for i, other in enumerate(reasons) if other == reason] for reason in reasons if reason}
    return "; ".join(
        f"{'points' if where[1:] else 'point'} {', '.join(map(str, where))}: {reason}"
        for reason, where in places.items()
    )


def _stacked(backend: Backend, trees: Sequence[PyTree], what: str) -> PyTree:
    """Trees of the points as one tree, an axis of points in front of each array."""
    flattened = [flat(tree) for tree in trees]
    structure = flattened[0][1]
    if any(other != structure for _, other in flattened):
        raise ValueError(f"in_axes wants the same structure at every point, but {what} has several; call it in a loop")
    columns = zip(*(leaves for leaves, _ in flattened), strict=True)
    return unflat(structure, [_column(backend, column, what) for column in columns])


def _column(backend: Backend, column: Sequence[Any], what: str) -> Any:
    if all(leaf is None for leaf in column):
        return None
    arrays: list[Array] = []
    for leaf in column:
        if isinstance(leaf, bool | int | float | complex) and not is_array(leaf):
            leaf = backend.asarray(leaf)
        arrays.append(leaf)
    if not all(map(is_array, arrays)):
        return tuple(column)  # what f returned beside its output need not be an array
    if len({tuple(array.shape) for array in arrays}) > 1:
        shapes = sorted({tuple(array.shape) for array in arrays})
        raise ValueError(f"in_axes wants the same shapes at every point, but {what} has {shapes}; call it in a loop")
    if "float0" in (getattr(arrays[0].dtype, "names", None) or ()):
        return float0_zeros((len(arrays), *arrays[0].shape))
    return backend.xp.stack(arrays, axis=0)
