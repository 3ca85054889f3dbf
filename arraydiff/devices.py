"""One function on several devices: a factory makes it for each, points go there, values come back to x's device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import optree

from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Leaf
from arraydiff.backends import Backend, backend_of, is_array
from arraydiff.problem import Call, Output, is_measured
from arraydiff.seam import Carried, Points


class PerDevice:
    """What a factory of functions made, kept by device; pickled without."""

    def __init__(self, factory: Callable[[Any], Any]) -> None:
        if is_measured(factory):
            raise ValueError("devices are for a factory of functions: give them to the derivative inside alone")
        functools.update_wrapper(self, factory)
        self.factory = factory
        self.made: list[tuple[Any, Callable[..., Any]]] = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"made": []}

    def on(self, device: Any) -> Callable[..., Any]:
        """The function of one device, made when it is asked for first."""
        kept = next((fun for other, fun in self.made if other == device), None)
        if kept is not None:
            return kept
        fun: Callable[..., Any] = self.factory(device)
        if not callable(fun):
            raise TypeError(
                f"with devices= the function must be a factory: called with {device!r} it gives f for that device, but it "
                f"gave {type(fun).__name__}; wrap f, as in lambda device: f"
            )
        self.made.append((device, fun))
        return fun

    def __call__(self, device: Any) -> Any:
        """As the factory."""
        return self.factory(device)


@dataclass(frozen=True)
class SpreadCall(Call):
    """A call that is made where its points lie, on one of several devices; what it gives stays there until brought home."""

    away: tuple[Call, ...] = ()

    def __call__(self, points: Array) -> Output:
        """f on the device of the points."""
        there = backend_of([points])
        call = next(call for call in self.away if call.backend == there)
        with there.on_device():
            return call(points)

    def placed(self, wanted: Sequence[Points], turn: int) -> list[Points]:
        """Chunks go round the devices, beginning with number `turn`."""
        return [
            Carried(points, self.away[(turn + i) % len(self.away)].backend.moved) for i, points in enumerate(wanted)
        ]

    def home(self, output: Output) -> Output:
        """What f gave, on the device of x."""
        return output._replace(values=self.backend.moved(output.values), aux=_moved(self.backend, output.aux))


def spread_over(call: Call, devices: Sequence[Any]) -> Call:
    """The call on several devices, f made by its factory on each."""
    fun = call.fun if isinstance(call.fun, PerDevice) else PerDevice(call.fun)
    home = {item.name: getattr(call, item.name) for item in fields(call)}
    return SpreadCall(**home | {"fun": fun, "away": tuple(_on(call, fun, device) for device in devices)})


def _on(call: Call, fun: PerDevice, device: Any) -> Call:
    try:
        there = call.backend.elsewhere(device)
    except Exception as error:
        raise ValueError(
            f"devices wants devices of x's library, such as {call.backend.device!r}, got {device!r}: {error}"
        ) from error
    with there.on_device():
        args, kwargs = _moved(there, (call.args, call.kwargs), call.backend)
        layout = replace(call.layout, leaves=tuple(_leaf(there, leaf) for leaf in call.layout.leaves))
        cotangent = None if call.cotangent is None else there.moved(call.cotangent)
        return replace(
            call, fun=fun.on(device), args=args, kwargs=kwargs, layout=layout, backend=there, cotangent=cotangent
        )


def _leaf(there: Backend, leaf: Leaf) -> Leaf:
    return leaf if leaf.constant is None else replace(leaf, constant=there.moved(leaf.constant))


def _moved(there: Backend, tree: PyTree, home: Backend | None = None) -> PyTree:
    """Arrays of the same library, moved; all else as it is."""

    def move(leaf: Any) -> Any:
        if not is_array(leaf):
            return leaf
        lies = backend_of([leaf])
        return there.moved(leaf) if type(lies) is type(there) and home in (None, lies) else leaf

    return optree.tree_map(move, tree)
