"""The user's call as f: Rⁿ → Rᵐ on one namespace.

f gets its own contiguous copy of every point, and what it gives is copied at once: it may change its arguments and
reuse its buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

from arraydiff._typing import Array, Namespace, PyTree
from arraydiff.altering import altered
from arraydiff.arguments import Layout, Leaf, Place, array_layout, flatten, is_complex, is_real, layout_of, unflatten
from arraydiff.backends import Backend, is_array


@runtime_checkable
class Measured(Protocol):
    """A function that knows how right its values are: a derivative of ours, differentiated again."""

    def measure(self, *args: Any, **kwargs: Any) -> Any:
        """A result with `derivative`, `error_estimate` of the same structure, `value`, `aux`, and what it cost."""


def is_measured(fun: Callable[..., Any]) -> bool:
    """Whether `fun` is `Measured`: a derivative of ours."""
    return hasattr(type(fun), "measure")


class Output(NamedTuple):
    """What one call of f gave."""

    values: Array  # (m,), or (m, k) of a batch
    layout: Layout
    aux: Any = None
    noise: Array | None = None  # (m,) where f is `Measured`
    calls: int = 1
    points: int = 1
    inner_value: PyTree = None  # of the function whose derivative f is


@dataclass(frozen=True)
class Batching:
    """What vectorized="auto" found out: whether f takes a block of points, and how."""

    told: str  # in words
    axis: int | None = None  # that the points of a block lie on; None: f takes one point a call
    vmapped: bool = False  # by the vmap of the library
    lasting: bool = True  # whether it is of f rather than of this x
    calls: int = 0  # of f, that finding out took in this differentiation
    points: int = 0


@dataclass(frozen=True)
class Call:
    """f as a function of the flat vector; picklable where f and its other arguments are."""

    fun: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    places: tuple[Place, ...]
    single: bool  # one argument is differentiated, not a tuple of them
    layout: Layout
    backend: Backend
    error_state: dict[str, Any]  # the caller's, for f at x itself
    has_aux: bool = False
    batch_axis: int | None = None  # None: f takes one point a call
    cotangent: Array | None = None  # (m,) what the outputs are summed with, for uᵀ·J
    batching: Batching | None = None  # found, not told by the user: then f takes single points too

    def batched(self, batching: Batching) -> Call:
        """F called as was found out."""
        return replace(self, batch_axis=batching.axis, batching=batching)

    @property
    def has_list(self) -> bool:
        """Whether f receives a list where its author may have meant an array."""
        return any(isinstance(self.kwargs[p] if isinstance(p, str) else self.args[p], list) for p in self.places)

    @property
    def measured(self) -> bool:
        """Whether f is `Measured`: a derivative of ours."""
        return is_measured(self.fun)

    @property
    def plain(self) -> bool:
        """Whether f takes the flat vector as it is."""
        return self.single and self.layout.is_vector

    @property
    def joins(self) -> bool:
        """Whether points of several problems can go in one call, where they differ in what is displaced alone."""
        apart = self.has_aux or self.measured or self.batching is not None  # what was found out is checked at each x
        return not (apart or any(leaf.constant is not None for leaf in self.layout.leaves))

    def __call__(self, points: Array) -> Output:
        """f at one point (n,), or at a block (n, k) where f is vectorised."""
        mapped = self._vmapped if points.ndim == 2 else None
        if mapped is not None:
            return self._output(mapped(points), points, None)
        args, kwargs = self._arguments(points)
        if self.measured:
            return self._measured(self.fun.measure(*args, **kwargs), points)  # type: ignore[attr-defined]
        return self.given(self.fun(*args, **kwargs), points)

    def given(self, value: Any, points: Array) -> Output:
        """What f gave there, laid flat."""
        value, aux = self._parted(value)
        return self._output(value, points, aux)

    def followed(self, point: Any) -> Followed:
        """F at a point that is traced (`exact.traced` calls this): its outputs as one traced array, in the layout of `Output`."""
        if self.plain and self.cotangent is None and not self.has_aux and self.batch_axis is None:
            args, kwargs = self._placed((point,))
            value = self.fun(*args, **kwargs)
            if is_traced(value) and is_real(self.backend, value.dtype):
                return Followed(value.reshape(-1), array_layout(self.backend.xp, tuple(value.shape), value.dtype))
            return Followed(*_traced_output(self._beside(point).backend, value, point))
        call = self._beside(point)
        in_block = self.batch_axis is not None and self.batching is None  # f takes nothing else than blocks
        args, kwargs = call._arguments(point[:, None] if in_block else point)
        value, aux = self._parted(self.fun(*args, **kwargs))
        if in_block:
            value = _of_one(value, -1 if self.batch_axis != 0 else 0)
        values, layout = _traced_output(call.backend, value, point)
        if self.cotangent is not None:
            values = call.backend.xp.reshape(call.backend.xp.sum(self.cotangent * values), (1,))
            layout = _one_number(layout, point)
        return Followed(values, layout, untraced(aux) if is_traced(point) else None)

    def _beside(self, point: Any) -> Call:
        """The same with the namespace of what is traced."""
        return (
            replace(self, backend=replace(self.backend, xp=point.__array_namespace__())) if is_traced(point) else self
        )

    @cached_property
    def _vmapped(self) -> Callable[[Array], PyTree] | None:
        """Of a block, where the library's vmap was chosen."""
        chosen = self.batching is not None and self.batching.vmapped
        return self.backend.vmapped(self._value) if chosen else None

    def _value(self, point: Array) -> PyTree:
        """What the library's vmap maps: f at one point, without its aux."""
        args, kwargs = self._arguments(point)
        return self._parted(self.fun(*args, **kwargs))[0]

    def _parted(self, value: PyTree) -> tuple[PyTree, Any]:
        if not self.has_aux:
            return value, None
        if not isinstance(value, tuple) or len(value) != 2:
            raise TypeError(f"has_aux=True: the function must return a pair (output, aux), got {type(value).__name__}")
        return value

    def at_x(self, points: Array) -> Output:
        """F at x itself, in the open: what it raises and warns of there is the user's."""
        try:
            with self.backend.openly(self.error_state):
                return self(points)
        except TypeError as error:
            if self.has_list:
                error.add_note(
                    "an argument is a list: a tree of numbers, as in JAX; pass np.asarray(x) to have an array"
                )
            raise

    @cached_property
    def measured_in_blocks(self) -> bool:
        """Whether f is a derivative of a vectorised function, which serves several of our points in one call."""
        return self.measured and bool(getattr(self.fun, "shares_calls", False))

    def many(self, points: Sequence[Array]) -> list[Output | Exception]:
        """As called at each point, f's own calls shared by them; what is raised at a point stands in its place."""
        calls, fun = [self._arguments(point) for point in points], self.fun
        alike = set(self.places) <= set(fun.options.argnums.places(fun, *calls[0]))  # type: ignore[attr-defined]
        results = fun.measure_all(calls, alike=alike)  # type: ignore[attr-defined]
        return [
            one if isinstance(one, Exception) else self._measured(one, point)
            for one, point in zip(results, points, strict=True)
        ]

    def _measured(self, inner: Any, points: Array) -> Output:
        output = self._output(inner.derivative, points, inner.aux)
        noise = self._output(inner.error_estimate, points, None).values
        cost = {"calls": inner.function_calls, "points": inner.function_points}
        return output._replace(noise=noise, inner_value=inner.value, **cost)

    def _arguments(self, points: Array) -> tuple[list[Any], dict[str, Any]]:
        if self.plain and points.ndim == 1 and points.dtype == self.layout.leaves[0].dtype:
            return self._placed((points,))
        tree = unflatten(self.layout.structure, [self._leaf(points, *span) for span in self.layout.spans])
        return self._placed((tree,) if self.single else tree)

    def _placed(self, values: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = list(self.args), dict(self.kwargs)
        for place, value in zip(self.places, values, strict=True):
            if isinstance(place, str):
                kwargs[place] = value
            else:
                args[place] = value
        return args, kwargs

    def _leaf(self, points: Array, leaf: Leaf, start: int, stop: int) -> Any:
        xp = self.backend.xp
        if leaf.constant is not None:
            return self.backend.copy(leaf.constant)
        if leaf.shape == points.shape and points.ndim == 1 and leaf.dtype == points.dtype:
            return points
        part = points if stop - start == points.shape[0] else points[start:stop, ...]
        if leaf.is_complex:
            half = (stop - start) // 2
            part = xp.astype(part[:half, ...], leaf.dtype) + xp.astype(part[half:, ...], leaf.dtype) * 1j
        if not is_complex(self.backend, points.dtype) or leaf.is_complex:
            part = xp.astype(part, leaf.dtype, copy=False)
        elif leaf.dtype != xp.float64 and leaf.dtype == xp.float32:
            part = xp.astype(part, xp.complex64, copy=False)
        if points.ndim == 1:
            part = xp.reshape(part, leaf.shape)
            return self.backend.scalar(part) if leaf.is_number else part
        part = xp.reshape(part, (*leaf.shape, points.shape[1]))
        if self.batch_axis != 0 or part.ndim == 1:
            return part
        part = xp.moveaxis(part, -1, 0)
        return xp.reshape(xp.reshape(part, (-1,)), part.shape)  # contiguous: f computes along the rows

    def _output(self, value: PyTree, points: Array, aux: Any) -> Output:
        backend, xp = self.backend, self.backend.xp
        flat = backend.flat(value) if points.ndim == 1 and self.cotangent is None else None
        if flat is not None:
            layout = array_layout(xp, getattr(value, "shape", ()), flat.dtype)
            return Output(flat if points.dtype == flat.dtype else self._as_complex(flat, points), layout, aux)
        complex_points = is_complex(backend, points.dtype)
        layout, arrays = layout_of_output(backend, value)
        if points.ndim == 2:
            layout, arrays = self._unbatch(layout, arrays, points.shape[1])
        parts = []
        for leaf, array in zip(layout.leaves, arrays, strict=True):
            flat = xp.reshape(array, (-1, *points.shape[1:]))
            if not (leaf.is_complex or is_real(backend, leaf.dtype)):
                flat = xp.astype(flat, backend.default_float)
            parts += [xp.real(flat), xp.imag(flat)] if leaf.is_complex and not complex_points else [flat]
        if not parts:
            return Output(backend.asarray([], points.dtype), layout, aux, points=points_in(points))
        parts = [self._as_complex(part, points) for part in parts]
        joined = backend.copy(parts[0]) if len(parts) == 1 else xp.concat(parts)
        if self.cotangent is not None:
            return self._contracted(joined, layout, points, aux)
        return Output(joined, layout, aux, points=points_in(points))

    def _as_complex(self, flat: Array, points: Array) -> Array:
        """What f made real out of complex points stands among complex numbers, with an imaginary part of 0."""
        if not is_complex(self.backend, points.dtype) or is_complex(self.backend, flat.dtype):
            return flat
        dtype = self.backend.xp.complex128 if flat.dtype == self.backend.xp.float64 else self.backend.xp.complex64
        return self.backend.xp.astype(flat, dtype)

    def _contracted(self, values: Array, layout: Layout, points: Array, aux: Any) -> Output:
        xp = self.backend.xp
        weights = xp.astype(self.cotangent, values.dtype)
        total = xp.sum((weights if points.ndim == 1 else weights[:, None]) * values, axis=0, keepdims=True)
        return Output(total, _one_number(layout, points), aux, points=points_in(points))

    def _unbatch(self, layout: Layout, arrays: list[Array], k: int) -> tuple[Layout, list[Array]]:
        leaves, moved = [], []
        for leaf, array in zip(layout.leaves, arrays, strict=True):
            axis = self.batch_axis or 0
            if not leaf.shape or leaf.shape[axis] != k:
                came = "(k, n) and gives (k,) or (k, m)" if axis == 0 else "(n, k) and gives (k,) or (m, k)"
                raise ValueError(
                    f"a block of {k} points gave shape {leaf.shape}, but a vectorized f takes {came}: "
                    "let it sum over the parameters' axis alone, or leave vectorized out"
                )
            array = self.backend.xp.moveaxis(array, 0, -1) if axis == 0 and array.ndim > 1 else array
            leaves.append(Leaf(tuple(array.shape[:-1]), leaf.dtype, leaf.is_complex))
            moved.append(array)
        return Layout(layout.structure, tuple(leaves)), moved


class Followed(NamedTuple):
    """What one call of f gave of a traced point."""

    values: Any  # (m,) traced
    layout: Layout
    aux: Any = None


def _one_number(layout: Layout, points: Any) -> Layout:
    """Of outputs that are summed with a cotangent."""
    return Layout(None, (Leaf((), layout.leaves[0].dtype if layout.leaves else points.dtype),))


def _of_one(value: PyTree, axis: int) -> PyTree:
    """What a vectorised f gave for a block of one point, without the axis of points."""
    leaves, structure = flatten(value)
    return unflatten(structure, [leaf[0, ...] if axis == 0 else leaf[..., 0] for leaf in leaves])


def _traced_output(backend: Backend, value: PyTree, point: Any) -> tuple[Any, Layout]:
    xp = backend.xp
    leaves, structure = flatten(value)
    specs, parts = [], []
    for leaf in leaves:
        array = _recorded_leaf(backend, leaf, point)
        spec = Leaf(tuple(array.shape), array.dtype, is_complex(backend, array.dtype))
        flat = xp.reshape(array, (-1,))
        if not (spec.is_complex or is_real(backend, spec.dtype)):
            flat = xp.astype(flat, backend.default_float)
        parts += [xp.real(flat), xp.imag(flat)] if spec.is_complex else [flat]
        specs.append(spec)
    return parts[0] if len(parts) == 1 else xp.concat(parts), Layout(structure, tuple(specs))


def is_traced(point: Any) -> bool:
    """Whether we trace it, and not the library that it is of."""
    return type(point).__name__ == "Tracer" and type(point).__module__ == "arraydiff.exact.trace"


def _recorded_leaf(backend: Backend, leaf: Any, point: Any) -> Any:
    if not is_traced(point):
        return leaf if is_array(leaf) else backend.asarray(leaf)
    from arraydiff.exact import as_array

    return as_array(leaf, point)


def untraced(tree: PyTree) -> PyTree:
    """A tree with plain arrays in the place of traced ones: what the user is handed."""
    from arraydiff.exact import plain

    leaves, structure = flatten(tree)
    return unflatten(structure, [plain(leaf) for leaf in leaves])


Answer = Output | Exception
"""What f gave at a point, or raised there."""


@dataclass(frozen=True)
class Guarded:
    """A call whose exceptions come back as values, so that one costs its own point only."""

    call: Call

    def __call__(self, point: Array) -> Answer:
        try:
            return self.call(point)
        except Exception as error:  # noqa: BLE001 - whatever f raises costs its own point only
            return error.with_traceback(None)


def points_in(points: Array) -> int:
    """1, or how many a block has."""
    return int(points.shape[1]) if points.ndim == 2 else 1


def layout_of_output(backend: Backend, value: PyTree) -> tuple[Layout, list[Array]]:
    """As `layout_of`, with an error that speaks of outputs."""
    try:
        return layout_of(backend, value)
    except TypeError as error:
        kinds = ", ".join(sorted({type(leaf).__name__ for leaf in flatten(value)[0]}))
        raise TypeError(f"f must return floats or arrays of x's library, got {kinds}: {error}") from error


class Later:
    """An array that is made when it is asked for first."""

    def __init__(self, made: Array | Callable[[], Array]) -> None:
        self._make = made if callable(made) else None
        self._made = None if callable(made) else made

    def __call__(self) -> Array:
        """The array."""
        if self._made is None:
            assert self._make is not None
            self._made = self._make()
        return self._made


@dataclass(frozen=True)
class Problem:
    """f, where it is differentiated, and what the user knows about x."""

    call: Call
    x: Array  # (n,) real, never handed to f itself
    eps: float  # of the coarsest dtype among the arguments
    scaling: Later  # of `scale`, which exact derivatives need no sight of
    lower: Array | None = None  # (n,)
    upper: Array | None = None
    step: Array | None = None  # (n,) where the user gave steps
    narrow: Any = None  # the dtype that f's arguments are cast to, where it is narrower than x's
    complex_refused: str = ""  # why f cannot be asked at complex points, where that is known
    trace_refused: str = ""  # why f cannot be followed, where that is known
    directions: int = 1  # how many derivatives are wanted in all: what is learnt once is shared by them
    bars: bool = True  # whether somebody looks at bars: else they only have to be safe

    def asked(self, directions: int, bars: bool) -> Problem:
        """For so many directions, and bars that somebody looks at, or not."""
        return altered(self, directions=directions, bars=bars)

    @property
    def scale(self) -> Array:
        """(n,) > 0: the typical size of each parameter."""
        return self.scaling()

    @property
    def backend(self) -> Backend:
        """The array library of x."""
        return self.call.backend

    @property
    def xp(self) -> Namespace:
        """The namespace of x."""
        return self.call.backend.xp

    @property
    def n(self) -> int:
        """Number of parameters."""
        return int(self.x.shape[0])

    def eps_of(self, value: Array) -> float:
        """Of the coarser of x and what f gave."""
        return max(self.eps, float(self.xp.finfo(value.dtype).eps))

    def at(self, moved: Array, index: Any = None) -> Array:
        """Coordinates as f will see them: inside the bounds, and representable.

        `moved` holds new values of the parameters `index` along its last axis (None: of all, along the first).
        """
        if self.narrow is None and self.lower is None and self.upper is None:
            return moved
        xp = self.xp
        if self.narrow is not None:
            moved = xp.astype(xp.astype(moved, self.narrow), moved.dtype)
        for bound, limit in ((self.lower, xp.maximum), (self.upper, xp.minimum)):
            if bound is not None:
                if index is not None:
                    bound = xp.take(bound, index)
                elif moved.ndim == 2:
                    bound = bound[:, None]
                moved = limit(moved, bound)
        return moved
