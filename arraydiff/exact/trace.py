"""One level of differentiation: what f did to x, what was met on the way, and what could not be followed."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace, TracebackType
from typing import Any, NamedTuple, NoReturn, Self

from arraydiff._typing import Array
from arraydiff.backends import large, raw
from arraydiff.levels import running

ops = SimpleNamespace()
"""Operations on arrays, traced or not, as NumPy and the array API name and call them; the modules above fill it."""

prim = SimpleNamespace()
"""Operations with a rule that take their arguments in one way only; `ops` is made of them."""

LIBRARIES = frozenset({"arraydiff", "numpy", "cupy", "torch", "array_api_compat", "array_api_strict", "scipy"})
"""A refusal is reported at the innermost line that is in none of them."""
USERS_OWN = ("arraydiff.examples", "arraydiff.homodyne")  # in our package, and traced as any f

_levels = itertools.count()


class Refused(TypeError):
    """f cannot be followed.

    Attributes
    ----------
    reason : str
        What f did.
    place : str
        Where, in the user's code: ``"model.py line 41"``.
    lasting : bool
        Whether no value of x had been asked for until then: at another x it would be the same.
    """

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(f"{reason}, {place}" if place else reason)
        self.reason, self.place, self.lasting = reason, place, False


class Kink(NamedTuple):
    """A point where the derivative may not exist, met on a tape."""

    text: str
    place: str
    flag: Any  # whether it was met: true, or a boolean that only the device knows as yet
    made: int | None = None  # the node of what has the kink; None of a plain result, as that of a comparison
    nodes: tuple[int, ...] = ()  # those of what it depends on; none: the arguments of `made`, as they stand on the tape
    mask: Any = None  # at which entries; None: at all, or where the primitive says


Limit = float | Callable[[int], float] | None
"""Bytes, or what tells them to a tape that holds more than it was told before."""


class Trace:
    """One level of differentiation: a tape of operations, or tangents that go along with the values (`tape` is None)."""

    __slots__ = ("count", "counted", "held", "kinks", "level", "limit", "live", "notes", "refused", "room", "tape")

    def __init__(self, reverse: bool, limit: Limit = None) -> None:
        self.level = next(_levels)
        self.tape: dict[int, tuple[Any, ...]] | None = {} if reverse else None
        self.count = itertools.count()  # numbers and dict, not a list: threads of f may record at once
        self.live = True
        self.refused: list[Refused] = []
        self.notes: dict[str, str] = {}
        self.kinks: list[Kink] = []
        self.limit: Limit = limit  # bytes, of large arrays on the tape; not counted without a limit
        self.held = 0
        self.counted: set[int] = set()  # what was counted
        self.room: float = 0 if callable(limit) else math.inf if limit is None else limit

    def __enter__(self) -> Self:
        running().append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        running().remove(self)
        self.live = False

    def root(self, x: Array, tangent: Array | None = None) -> Tracer:
        """What stands for x."""
        self.counted.add(id(large.owner_of(x)))
        if self.tape is None:
            return Tracer(self, snapshot(x), tangent, None)
        return Tracer(self, snapshot(x), next(self.count), None)

    def kink(
        self, text: str, flag: Any, made: int | None = None, nodes: tuple[int, ...] = (), mask: Any = None
    ) -> None:
        """Note that the derivative may not exist, where `flag` (one boolean) is true."""
        if is_met(flag):
            self.kinks.append(Kink(text, place(), flag, made, nodes, mask if raw.is_host(mask) else None))

    def hold(self, *values: Any) -> None:
        """Count what the tape keeps, once, and refuse beyond the limit."""
        before = self.held
        for value in values:
            whole = large.owner_of(value)
            size = 0 if type(value) is Tracer or id(whole) in self.counted else large.bytes_of(whole)
            if size:
                self.counted.add(id(whole))
                self.held += size
        if self.held == before:
            return
        if self.held > self.room and callable(self.limit):
            self.room = self.limit(self.held)
        if self.held > self.room:
            refuse(f"the tape takes more than {self.room} bytes", *(Tracer(self, one, None, None) for one in values))


class Alias:
    """Which memory an array lies in: what is written into one of its views is seen in the others."""

    __slots__ = ("memory", "parent", "take", "version")

    def __init__(self, memory: Memory, parent: Tracer | None, take: tuple[Any, ...]) -> None:
        self.memory, self.parent, self.take = memory, parent, take  # take: (primitive, arguments), of the parent
        self.version = memory.version


class Memory:
    """What an array and its views share."""

    __slots__ = ("locked", "version")

    def __init__(self) -> None:
        self.version, self.locked = 0, ""  # locked: why nothing may be written into it


class Tracer:
    """Stands for an array; its face is in `face`, what is done to it in `primitives`."""

    __slots__ = ("alias", "home", "node", "value")

    shape: Any  # these come from `face`
    ndim: Any
    dtype: Any

    def __init__(self, trace: Trace, value: Any, node: Any, alias: Alias | None) -> None:
        self.home = trace  # not `trace`, which arrays have as a method
        self.value = value  # a plain array, or a tracer of a lower level
        self.node = node  # its number on the tape, or its tangent
        self.alias = alias  # None: nothing else lies in its memory

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """As isinstance sees it, so that f takes the branches that it takes with plain arrays and numbers."""
        if is_sparse_product(sys._getframe(1)):
            return Tracer
        return raw.class_of(plain(self)) or Tracer


def refuse(reason: str, *about: Any) -> NoReturn:
    """Say that f cannot be followed, and note it where no ``except`` of f can hide it."""
    refused = Refused(reason, place())
    record(refused, *about)
    raise refused


def record(refused: Refused, *about: Any) -> None:
    """Note a refusal on every trace that this thread is in, and on those of these tracers, whatever thread made them."""
    for trace in {*running(), *(level.home for one in about for level in levels_of(one))}:
        if refused not in trace.refused:
            trace.refused.append(refused)


def levels_of(value: Any) -> Iterator[Tracer]:
    """A tracer and those below it, highest first."""
    while type(value) is Tracer:
        yield value
        value = value.value


def note(text: str, value: Any) -> None:
    """Remember what f asked of a traced value that has no derivative."""
    while type(value) is Tracer:
        if text not in value.home.notes:
            value.home.notes[text] = place()
        value = value.value


def is_met(flag: Any) -> Any:
    """Whether a flag is true, or known to the device alone."""
    return flag if type(flag) is bool or raw.is_host(flag) else True


def kink(text: str, mask: Any, *values: Any, made: Any = None) -> None:
    """Note a kink on all levels of tracers: at which of their entries, and what has it that is made of them."""
    flag = raw.any_of(mask)
    if not is_met(flag):
        return
    outs = {one.home: one.node for one in levels_of(made)}
    nodes: dict[Trace, tuple[int, ...]] = {}
    for value in values:
        for one in levels_of(value):
            nodes[one.home] = (*nodes.get(one.home, ()), one.node)
    for trace, found in nodes.items():
        trace.kink(text, flag, *((outs.get(trace), found, mask) if trace.tape is not None else ()))


def plain(value: Any) -> Any:
    """The array below all levels, as it is now."""
    while type(value) is Tracer:
        if value.alias is not None:
            ops.refresh(value)
        value = value.value
    return value


def snapshot(value: Any) -> Any:
    """The value as it is now: f may assign into the tracer that it holds."""
    if type(value) is not Tracer:
        return value
    if value.alias is not None:
        ops.refresh(value)
    return Tracer(value.home, value.value, value.node, None)


def has_tracer(value: Any) -> bool:
    """Whether something is traced, or a list or tuple with something traced in it, or an array of such objects."""
    if type(value) is Tracer:
        return True
    if isinstance(value, list | tuple):
        return any(map(has_tracer, value))
    return raw.holds_objects(value) and any(map(has_tracer, raw.entries(value)))


def is_users(frame: FrameType) -> bool:
    """Whether a line of code is the user's."""
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] not in LIBRARIES or name.startswith(USERS_OWN)


def is_sparse_product(frame: FrameType) -> bool:
    """Whether SciPy's A @ x asks: what it does not know as an array it leaves to x.__rmatmul__, which is its one hook."""
    return frame.f_code.co_name == "_matmul_dispatch" and frame.f_globals.get("__name__", "").startswith("scipy.sparse")


def place() -> str:
    """The innermost line that is the user's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_users(frame):
            return f"{Path(frame.f_code.co_filename).name} line {frame.f_lineno}"
        frame = frame.f_back
    return ""
