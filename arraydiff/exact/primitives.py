"""Operations with a derivative, in three classes, and how they come on a tape.

An elementwise rule is a line ``t -> d·t``: a diagonal map is its own transpose, so that the line serves both modes.  A linear
operation is its own forward rule, and states its transpose.  A smooth one states its forward rule alone, which is linear in t:
it is transposed by tracing it.  Composites, the fourth class, are functions made of these (modules `reductions` to
`products`).  Cotangents are paired as Re(g·t), without conjugation, as in JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from arraydiff.backends import large, raw
from arraydiff.exact.arrays import unbroadcast, whole, zeros_like
from arraydiff.exact.hollow import hollowed
from arraydiff.exact.sweeps import backward
from arraydiff.exact.trace import Alias, Memory, Trace, Tracer, is_met, ops, plain, prim, refuse, snapshot

Rule = Callable[..., Any]
NO_VIEW_TOLD = "an array that is or has a view, of a library that does not tell which are views; compute a new one"
FINISHED = "a value of a finished call of f is used (kept in a cache or a global?)"


class Primitive:
    """An operation, and how it acts on tangents and cotangents of its k-th argument."""

    __slots__ = (
        "arrays",
        "asks_shapes",
        "evaluate",
        "forward",
        "kinks",
        "name",
        "rules",
        "takes_view",
        "uses_values",
        "words",
    )

    by_name = False
    """Whether rules are lines that read what they name, and nothing else."""

    def __init__(
        self,
        name: str,
        compute: Callable[..., Any],
        rules: Sequence[Rule | None],
        *,
        arrays: int | None = None,
        takes_view: bool = False,
        uses_values: bool = True,
        kinks: Rule | None = None,
        words: str = "",
        forward: dict[int, Rule] | None = None,
        asks_shapes: bool = False,
    ) -> None:
        self.name, self.evaluate, self.rules = name, compute, tuple(rules)
        self.arrays = len(self.rules) if arrays is None else arrays  # so many leading arguments are arrays
        self.takes_view = takes_view  # what it gives may lie in the memory of what it got
        self.uses_values = uses_values  # whether its rules look at values, which f may change later
        self.kinks = kinks  # (out, *arguments) -> at which entries the derivative does not exist
        self.words = words  # where that is
        self.asks_shapes = asks_shapes  # whether rules ask arrays for shape and dtype alone
        self.forward = forward or {}  # of a linear operation: rules of the arguments that it is not linear in

    def __call__(self, *args: Any, **options: Any) -> Any:
        if len(args) == 1 and type(args[0]) is Tracer and self.kinks is None and not self.takes_view:
            x = args[0]
            trace = tape_of(x)
            if trace is not None:
                return on_tape(self, trace, (x.node,), (x.value,), self.evaluate(x.value, **options), options)
        top = None
        for one in args:
            if type(one) is Tracer:
                if one.alias is not None:
                    refresh(one)
                if top is None or one.home.level > top.level:
                    top = one.home
        return self.evaluate(*args, **options) if top is None else self.recorded(top, args, options)

    def recorded(self, top: Trace, args: Sequence[Any], options: dict[str, Any]) -> Any:
        """The operation at its highest level; the values below are operated on in the same way."""
        if not top.live:
            refuse(FINISHED, *args)
        values: list[Any] = []
        nodes: list[Any] = []
        nested = False
        for k, one in enumerate(args):
            if type(one) is not Tracer:
                if k < self.arrays and type(one) not in raw.NUMBERS:
                    one = self._operand(one, args, top)
                    if type(one) is Tracer:  # made of traced numbers
                        return self(*args[:k], one, *args[k + 1 :], **options)
                values.append(one)
                nodes.append(None)
            elif one.home is top:
                values.append(one.value)
                nodes.append(one.node)
                nested |= type(one.value) is Tracer
            else:
                values.append(snapshot(one))
                nodes.append(None)
                nested = True
        out = self(*values, **options) if nested else self.evaluate(*values, **options)
        if type(out) in raw.NUMBERS:  # Python takes 1j * np.float64(2) for its own
            out = raw.numpy_number(out)
        alias = self._alias(args, out, options) if self.takes_view else None
        held: tuple[Sequence[Any], Any] = (values, out)
        if not nested and (large.may_be(out) or large.any_of(values)):
            held = kept(top, self, nodes, *held)
        node = self._node(top, nodes, *held, options)
        if self.kinks is not None and not nested:
            self._note_kink(top, node, raw.any_of(self.kinks(out, *values, **options)))
        return Tracer(top, out, node, alias)

    def _node(self, top: Trace, nodes: Sequence[Any], values: Sequence[Any], out: Any, options: dict[str, Any]) -> Any:
        """Its number on the tape, or its tangent."""
        if top.tape is None:
            return self._tangent(nodes, out, values, options)
        node = next(top.count)
        top.tape[node] = (self, nodes, values, out, options)
        return node

    def _note_kink(self, top: Trace, node: Any, flag: Any) -> None:
        if is_met(flag):
            top.kink(f"{self.name} {self.words}", flag, None if top.tape is None else node)

    def _operand(self, one: Any, args: Sequence[Any], top: Trace) -> Any:
        """What is not traced, as it is now where a rule looks at it later."""
        found = raw.taken(one, copy=self.uses_values)
        if found is not None:
            return found
        if isinstance(one, list | tuple) or raw.holds_objects(one):
            return ops.array(one, next(other for other in args if type(other) is Tracer))
        if not raw.is_plain(one):
            kind = type(one)
            refuse(f"{self.name} with an operand of type {kind.__module__}.{kind.__qualname__}", *args)
        return raw.kept(one) if self.uses_values else one

    def _tangent(self, nodes: Sequence[Any], out: Any, values: Sequence[Any], options: dict[str, Any]) -> Any:
        total = None
        for k, tangent in enumerate(nodes):
            if tangent is not None:
                term = self.jvp(k, tangent, out, values, options)
                total = term if total is None else total + term
        return whole(total, out.shape)

    def _alias(self, args: Sequence[Any], out: Any, options: dict[str, Any]) -> Alias | None:
        shared = raw.shares_memory(plain(out), plain(args[0]))
        if shared is False:
            return None
        if shared is None:
            lock(args[0], NO_VIEW_TOLD)
        return view_of(args[0], self, tuple(args[1:]), options)

    def jvp(self, k: int, t: Any, out: Any, values: Sequence[Any], options: dict[str, Any]) -> Any:
        """What a tangent t of argument k makes of the result's tangent."""
        raise NotImplementedError

    def vjp(self, k: int, g: Any, out: Any, values: Sequence[Any], options: dict[str, Any]) -> Any:
        """What a cotangent g of the result makes of argument k's; g broadcasts to the shape of `out`."""
        raise NotImplementedError


NO_OPTIONS: dict[str, Any] = {}


def tape_of(x: Tracer) -> Trace | None:
    """The trace of plain numbers that are on its tape, as they are now; else None."""
    alias = x.alias
    if alias is not None and alias.version != alias.memory.version:
        refresh(x)
    trace = x.home
    return None if trace.tape is None or not trace.live or type(x.value) is Tracer else trace


def on_tape(
    primitive: Primitive,
    trace: Trace,
    nodes: Sequence[Any],
    values: Sequence[Any],
    out: Any,
    options: dict[str, Any] = NO_OPTIONS,
) -> Tracer:
    """As `Primitive.recorded`, of plain numbers on one tape, where there is no kink and no view: most of f consists of that."""
    if type(out) in raw.NUMBERS:  # Python takes 1j * np.float64(2) for its own
        out = raw.numpy_number(out)
    node, result = next(trace.count), out
    if large.may_be(out) or (not primitive.by_name and large.any_of(values)):
        values, result = kept(trace, primitive, nodes, values, out)
    assert trace.tape is not None
    trace.tape[node] = (primitive, nodes, values, result, options)
    return Tracer(trace, out, node, None)


def kept(
    trace: Trace, primitive: Primitive, nodes: Sequence[Any], values: Sequence[Any], out: Any
) -> tuple[Sequence[Any], Any]:
    """Operands and result of an operation as the tape keeps them, counted."""
    if type(trace.tape) is dict:
        values, out = hollowed(primitive, nodes, values, out)
    if trace.limit is not None:
        trace.hold(*values, out)
    return values, out


class Elementwise(Primitive):
    """rule(t, out, *arguments) = derivative · t, for tangents and cotangents alike."""

    __slots__ = ()
    by_name = True

    def jvp(self, k: int, t: Any, out: Any, values: Sequence[Any], options: dict[str, Any]) -> Any:
        return self.rules[k](t, out, *values)  # type: ignore[misc]

    def vjp(self, k: int, g: Any, out: Any, values: Sequence[Any], options: dict[str, Any]) -> Any:
        c = self.rules[k](g, out, *values)  # type: ignore[misc]
        shape = values[k].shape
        return c if out.shape == shape else unbroadcast(c, out.shape, shape)


class Linear(Primitive):
    """Its own forward rule in every argument; rule(g, out, *arguments) is the transpose."""

    __slots__ = ()

    def jvp(self, k: int, t: Any, out: Any, values: Sequence[Any], options: dict[str, Any]) -> Any:
        if k in self.forward:
            return self.forward[k](t, out, *values, **options)
        return self(*values[:k], t, *values[k + 1 :], **options)

    def vjp(self, k: int, g: Any, out: Any, values: Sequence[Any], options: dict[str, Any]) -> Any:
        return self.rules[k](whole(g, out.shape), out, *values, **options)  # type: ignore[misc]


class Concatenation(Linear):
    """Linear in its arguments taken together, however many."""

    __slots__ = ()

    def jvp(self, k: int, t: Any, out: Any, values: Sequence[Any], options: dict[str, Any]) -> Any:
        return self(*(t if j == k else zeros_like(one) for j, one in enumerate(values)), **options)

    def vjp(self, k: int, g: Any, out: Any, values: Sequence[Any], options: dict[str, Any]) -> Any:
        axis = options["axis"]
        start = sum(one.shape[axis] for one in values[:k])
        index = (slice(None),) * (axis % len(out.shape)) + (slice(start, start + values[k].shape[axis]),)
        return prim.getitem(whole(g, out.shape), index)


class Smooth(Primitive):
    """rule(t, out, *arguments), linear in t; its transpose is found by tracing it."""

    __slots__ = ()

    def jvp(self, k: int, t: Any, out: Any, values: Sequence[Any], options: dict[str, Any]) -> Any:
        return self.rules[k](t, out, *values, **options)  # type: ignore[misc]

    def vjp(self, k: int, g: Any, out: Any, values: Sequence[Any], options: dict[str, Any]) -> Any:
        with Trace(reverse=True) as trace:
            t = trace.root(zeros_like(values[k]))
            moved = self.rules[k](t, out, *values, **options)  # type: ignore[misc]
        if type(moved) is not Tracer or moved.home is not trace:
            return zeros_like(values[k])
        return backward(trace, {moved.node: whole(g, out.shape)}, t, release=True)


def library(name: str, part: str = "", *, pair: bool = False) -> Callable[..., Any]:
    """The function of that name in the library of the arguments; `pair`: Python's numbers become arrays where they must."""
    known: dict[type, Callable[..., Any]] = {}

    def compute(*args: Any, **options: Any) -> Any:
        first = type(args[0])
        function = known.get(first)
        if function is not None:
            return function(*args, **options)
        space = raw.namespace_of(*args)
        function = getattr(getattr(space, part) if part else space, name)
        like = next((one for one in args if type(one) in raw.NAMESPACES and type(one) is not bool), None)
        if like is not None and raw.is_host(like):
            if first in raw.NAMESPACES:
                known[first] = function
        elif pair and like is not None:
            args = tuple(_array(one, args) for one in args)
        return function(*args, **options)

    return compute


def _array(value: Any, others: Sequence[Any]) -> Any:
    if type(value) not in raw.NUMBERS:
        return value
    like = next(one for one in reversed(others) if type(one) not in raw.NUMBERS)
    return raw.zeros((), like.dtype, like) + value


def refresh(view: Tracer) -> None:
    """Take a view again where its memory was written to since."""
    alias = view.alias
    if alias is None or alias.version == alias.memory.version:
        return
    primitive, rest, options = alias.take
    fresh = primitive(alias.parent, *rest, **options)
    view.home, view.value, view.node = fresh.home, fresh.value, fresh.node
    alias.version = alias.memory.version


def view_of(parent: Tracer, primitive: Primitive, rest: tuple[Any, ...], options: dict[str, Any]) -> Alias:
    """How a view is taken of an array."""
    if parent.alias is None:
        parent.alias = Alias(Memory(), None, ())
    return Alias(parent.alias.memory, parent, (primitive, rest, options))


def lock(array: Tracer, reason: str) -> None:
    """Let nothing be written into the memory of an array any more."""
    if array.alias is None:
        array.alias = Alias(Memory(), None, ())
    array.alias.memory.locked = reason


ops.refresh = refresh
