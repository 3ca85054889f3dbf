"""From a user's call to a problem: arguments checked and laid flat, options spread over the parameters."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from arraydiff._typing import Array, Namespace, PyTree
from arraydiff.arguments import (
    Argnums,
    Layout,
    Leaf,
    Place,
    flatten,
    is_real,
    layout_of,
    ravel,
    spread,
)
from arraydiff.backends import Backend, backend_of
from arraydiff.config import DifferentiationConfig
from arraydiff.devices import spread_over
from arraydiff.problem import Call, Later, Problem, is_measured

LEFT_OF_ZERO = 2.0**-46
"""Of the largest entry: np.linspace(-1.2, 1.5, 10) has 2e-16 where 0 is meant."""

LAST_PLACES = 2.0**-56
"""Of the largest entry, as a power of two: a size of its own, such as 1e-12 beside 1e12, is no whole multiple of that."""

ULPS_OUTSIDE = 4
"""A parameter outside its bounds by no more is a rounding error of an optimiser: it is clipped."""

SINGLE = 2.0**-23
"""eps of single precision, the coarsest that strategies compute in."""

FREE, PINNED, OUTSIDE = range(3)


@dataclass(frozen=True)
class Rules:
    """Which inputs a transform takes."""

    name: str
    holomorphic: bool = False
    allow_int: bool = False
    complex_inputs: bool = False  # gradients take them: u_x - i u_y


@dataclass(frozen=True)
class Asked:
    """A call of a transform, as the user made it."""

    fun: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    argnums: Argnums
    config: DifferentiationConfig
    rules: Rules
    has_aux: bool = False
    cotangent: Array | None = None

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the differentiated arguments stand."""
        return self.argnums.places(self.fun, self.args, self.kwargs)

    @property
    def leaves(self) -> list[Any]:
        """Of the differentiated arguments."""
        return flatten(self._tree)[0]

    @property
    def _tree(self) -> PyTree:
        """The differentiated argument, or a tuple of them."""
        chosen = [self.kwargs[at] if isinstance(at, str) else self.args[at] for at in self.places]
        return chosen[0] if self.argnums.single else tuple(chosen)

    def called(self, backend: Backend) -> tuple[Call, Layout, list[Array]]:
        """The call, how its differentiated arguments lie in the flat vector, and those that move, as arrays."""
        layout, arrays = _checked(backend, *layout_of(backend, self._tree), self.rules)
        axis = self.config.batch_axis if self.config.vectorized is True and not is_measured(self.fun) else None
        call = Call(
            self.fun,
            self.args,
            self.kwargs,
            self.places,
            self.argnums.single,
            layout,
            backend,
            backend.error_state(),
            self.has_aux,
            axis,
            self.cotangent,
        )
        return call, layout, arrays


@dataclass(frozen=True)
class Bound:
    """A call, ready to be differentiated."""

    problem: Problem
    layout: Layout
    index: Sequence[int]  # the parameters that can move


def bind(asked: Asked, *, complex_refused: str = "", trace_refused: str = "") -> Bound:
    """The problem that a call poses.

    Raises
    ------
    TypeError, ValueError
        As JAX's transforms do, and for options that do not fit x.
    """
    config = asked.config
    backend = backend_of(asked.leaves).during(config.fixed_stages, (asked.args, asked.kwargs))
    with backend.on_device():
        call, layout, arrays = asked.called(backend)
        if config.devices:
            call = spread_over(call, config.devices)
        problem, index = _posed(call, layout, arrays, config, complex_refused)
    return Bound(replace(problem, trace_refused=trace_refused) if trace_refused else problem, layout, index)


def flat_vector(backend: Backend, layout: Layout, arrays: Sequence[Array]) -> tuple[Array, Any, float]:
    """x (n,), a dtype that is narrower than its own, if any, and the coarser eps."""
    if layout.is_vector:  # the common case
        eps = float(backend.xp.finfo(arrays[0].dtype).eps)
        if eps <= SINGLE:
            return backend.copy(arrays[0]), None, eps
    moving = [leaf for leaf in layout.leaves if leaf.constant is None]
    dtype, narrow, eps = _precision(backend, moving)
    return ravel(backend, moving, arrays, dtype), narrow, eps


def _checked(backend: Backend, layout: Layout, arrays: Sequence[Array], rules: Rules) -> tuple[Layout, list[Array]]:
    """Dtypes as JAX wants them; integers that are let through become constants."""
    if layout.is_vector and not rules.holomorphic and is_real(backend, arrays[0].dtype):
        return layout, list(arrays)  # the common case
    leaves = tuple(_checked_leaf(backend, *pair, rules) for pair in zip(layout.leaves, arrays, strict=True))
    if all(map(operator.is_, leaves, layout.leaves)):  # what was learnt of this layout stays
        return layout, list(arrays)
    moving = [array for leaf, array in zip(leaves, arrays, strict=True) if leaf.constant is None]
    return Layout(layout.structure, leaves), moving


def _checked_leaf(backend: Backend, leaf: Leaf, array: Array, rules: Rules) -> Leaf:
    if rules.holomorphic:
        if not leaf.is_complex:
            raise TypeError(
                f"{rules.name} with holomorphic=True requires inputs with complex dtype, but got {leaf.dtype}; "
                "cast them to complex, or leave holomorphic out"
            )
        return leaf
    if is_real(backend, leaf.dtype) or (leaf.is_complex and rules.complex_inputs):
        return leaf
    if leaf.is_complex:
        raise TypeError(
            f"{rules.name} requires real-valued inputs (input dtype that is a sub-dtype of floating), but got {leaf.dtype}; "
            "for holomorphic functions pass holomorphic=True, or differentiate with respect to real and imaginary parts"
        )
    if rules.allow_int:
        return Leaf(leaf.shape, leaf.dtype, constant=array)
    raise TypeError(
        f"{rules.name} requires real- or complex-valued inputs (input dtype that is a sub-dtype of inexact), but got "
        f"{leaf.dtype}; cast the argument to float, as in float(x) or x.astype(float), or pass allow_int=True"
    )


def _posed(
    call: Call, layout: Layout, arrays: Sequence[Array], config: DifferentiationConfig, complex_refused: str
) -> tuple[Problem, Sequence[int]]:
    backend, xp = call.backend, call.backend.xp
    moving = [leaf for leaf in layout.leaves if leaf.constant is None]
    x, narrow, eps = flat_vector(backend, layout, arrays)
    dtype = x.dtype
    scale: Array | Callable[[], Array] = partial(own_scale, backend, moving, x)
    if config.scale is not None:
        scale = xp.abs(spread(backend, layout, config.scale, "scale", dtype, 1.0))
    step = None
    if config.step_size is not None:
        step = spread(backend, layout, config.step_size, "step_size", dtype, 1.0)
    elif config.relative_step is not None:
        scale = scale() if callable(scale) else scale
        step = config.relative_step * scale
    lower, upper = _limits(backend, layout, config.bounds, dtype)
    index: Sequence[int] = range(int(x.shape[0]))
    if lower is not None and upper is not None:
        x, index = _inside(backend, layout, x, lower, upper, eps)
    refused = complex_refused or ("f is itself a numerical derivative" if call.measured else "")
    if layout.has_complex:
        refused = "x is complex already"
    return Problem(call, x, eps, Later(scale), lower, upper, step, narrow, refused), index


def own_scale(backend: Backend, leaves: Sequence[Leaf], x: Array) -> Array:
    """|x|, perhaps x itself, and 1 where it is 0, denormal, or what rounding leaves of a 0 beside the others of its array."""
    xp, info = backend.xp, backend.xp.finfo(x.dtype)
    least = float(info.smallest_normal) / float(info.eps)
    looks = bool(backend.on_cpu and not backend.deferred and backend.host is None and x.shape[0])
    low: Any = xp.min(x) if looks else None
    positive = looks and backend.counts(low > 0) == [1]
    size = x if positive else xp.abs(x)
    if looks:  # the common case
        low = low if positive else xp.min(size)
        usual = (low >= least) & (low >= LEFT_OF_ZERO * xp.max(size))
        if backend.counts(usual) == [1]:
            return size
    none, start = size < least, 0
    parts = []
    for leaf in leaves:
        stop = start + math.prod(leaf.shape) * (2 if leaf.is_complex else 1)
        parts.append(none[start:stop] | _left_of_zero(xp, size[start:stop]) if stop - start > 1 else none[start:stop])
        start = stop
    if parts:
        none = parts[0] if len(parts) == 1 else xp.concat(parts)
    return xp.where(none, xp.ones_like(size), size)


def _left_of_zero(xp: Namespace, size: Array) -> Array:
    """Entries far below the largest that are whole multiples of its last places: differences that should have been 0."""
    finite = xp.where(xp.isfinite(size), size, xp.zeros_like(size))
    largest = xp.max(finite)
    unit = LAST_PLACES * 2.0 ** xp.floor(xp.log2(xp.where(largest > 0, largest, xp.ones_like(largest))))
    places = finite / unit
    return (finite < LEFT_OF_ZERO * largest) & (places == xp.floor(places))


def _precision(backend: Backend, leaves: Sequence[Leaf]) -> tuple[Any, Any, float]:
    """The dtype of the flat vector, a narrower one that f's arguments are cast to, and the coarser eps."""
    xp = backend.xp
    if not leaves:
        return backend.default_float, None, float(xp.finfo(backend.default_float).eps)
    by_eps = sorted((float(xp.finfo(leaf.dtype).eps), i) for i, leaf in enumerate(leaves))
    (fine, i), (coarse, j) = by_eps[0], by_eps[-1]
    widest, narrowest = _real_dtype(backend, leaves[i]), _real_dtype(backend, leaves[j])
    if fine > SINGLE:  # half precision: the tableau would overflow
        widest = xp.float32
    return widest, narrowest if widest != narrowest else None, coarse


def _real_dtype(backend: Backend, leaf: Leaf) -> Any:
    if not leaf.is_complex:
        return leaf.dtype
    return backend.xp.float64 if leaf.dtype == backend.xp.complex128 else backend.xp.float32


def _limits(backend: Backend, layout: Layout, bounds: Any, dtype: Any) -> tuple[Array | None, Array | None]:
    if bounds is None:
        return None, None
    if layout.has_complex:
        raise ValueError("bounds are for real parameters, but x is complex: differentiate its real and imaginary parts")
    low, high = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else bounds
    return (
        spread(backend, layout, low, "bounds[0]", dtype, float("-inf")),
        spread(backend, layout, high, "bounds[1]", dtype, float("inf")),
    )


def _inside(
    backend: Backend, layout: Layout, x: Array, lower: Array, upper: Array, eps: float
) -> tuple[Array, Sequence[int]]:
    """X clipped where it is outside by rounding, and the parameters that can move."""
    xp, every = backend.xp, range(int(x.shape[0]))
    if not backend.deferred and backend.counts((x > lower) & (x < upper)) == [len(every)]:
        return x, every  # the common case, by one look
    slack = ULPS_OUTSIDE * eps * xp.maximum(xp.abs(x), xp.minimum(xp.abs(lower), xp.abs(upper)))
    outside = xp.logical_or(x < lower - slack, x > upper + slack)
    crossed = xp.logical_or(outside, lower > upper)
    pinned, clipped = lower == upper, xp.minimum(xp.maximum(x, lower), upper)
    if backend.deferred:  # a parameter outside makes f NaN, one that is pinned shows in the end
        return xp.where(crossed, xp.full_like(x, float("nan")), clipped), every
    codes = xp.where(crossed, xp.full_like(x, OUTSIDE), xp.where(pinned, xp.full_like(x, PINNED), xp.zeros_like(x)))
    if backend.counts(codes != FREE) == [0]:
        return clipped, every
    read = backend.read(xp.astype(codes, xp.int8))
    if OUTSIDE in read:
        path = layout.path(read.index(OUTSIDE))
        raise ValueError(f"x{path} lies outside its bounds (or they are crossed): move it inside, or widen bounds")
    return clipped, tuple(i for i, code in enumerate(read) if code == FREE)


def tangent_of(bound: Bound, tangents: PyTree) -> Array:
    """Tangents (n,) laid flat beside x, with JAX's errors where they do not fit."""
    backend = bound.problem.backend
    layout, arrays = layout_of(backend, tangents)
    if not same_structure(bound.layout, layout):
        raise TypeError("primals and tangents must have the same tree structure")
    for mine, theirs in zip(bound.layout.leaves, layout.leaves, strict=True):
        if mine.shape != theirs.shape:
            raise ValueError(f"tangents must have the shapes of the primals, got {theirs.shape} beside {mine.shape}")
        if mine.dtype != theirs.dtype:
            raise TypeError(f"tangents must have the dtypes of the primals, got {theirs.dtype} beside {mine.dtype}")
    return ravel(backend, layout.leaves, arrays, bound.problem.x.dtype)


def same_structure(one: Layout, other: Layout) -> bool:
    """Whether two trees differ in their leaves alone."""
    first, second = (
        None if layout.structure is None or layout.structure.num_nodes == 1 else layout.structure  # None: a leaf
        for layout in (one, other)
    )
    return bool(first == second)


def checked_gradient(inputs: Layout, outputs: Layout) -> None:
    """What a gradient of the user's returns, against what it is the gradient with respect to.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    wanted, given = ([leaf.shape for leaf in layout.leaves] for layout in (inputs, outputs))
    if wanted != given:
        shapes, others = (", ".join(map(str, some)) for some in (wanted, given))
        raise ValueError(f"gradient must return the shapes of x, {shapes}, but gave {others}")


def checked_output(backend: Backend, layout: Layout, name: str, *, holomorphic: bool, complex_outputs: bool) -> None:
    """Output dtypes as JAX wants them.

    Raises
    ------
    TypeError
        Integers, and complex numbers where they are not expected.
    """
    for leaf in layout.leaves:
        if holomorphic and not leaf.is_complex:
            raise TypeError(f"{name} with holomorphic=True requires outputs with complex dtype, but got {leaf.dtype}")
        if leaf.is_complex and not (holomorphic or complex_outputs):
            raise TypeError(
                f"{name} requires real-valued outputs (output dtype that is a sub-dtype of floating), but got {leaf.dtype}; "
                "for holomorphic functions pass holomorphic=True; for others differentiate real and imaginary parts"
            )
        if not (leaf.is_complex or is_real(backend, leaf.dtype)):
            wanted = "real- or complex-valued" if complex_outputs else "real-valued"
            raise TypeError(f"{name} requires {wanted} outputs, but got {leaf.dtype}; cast what f returns to float")
