"""The object that a transform returns: called like JAX's functions, and asked for more."""

from __future__ import annotations

import copy
import functools
import types
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from arraydiff import assembly
from arraydiff._typing import Array, PyTree
from arraydiff.altering import altered
from arraydiff.arguments import Layout, flatten
from arraydiff.backends import is_array
from arraydiff.batching import batched
from arraydiff.binding import Asked, Bound, Rules, bind, checked_output
from arraydiff.devices import PerDevice
from arraydiff.engine import Derivative, Wanted, columns_of, differentiate, elementwise, outside
from arraydiff.errors import DifferentiationWarning, NumericalStabilityError
from arraydiff.explain import Names, Story
from arraydiff.levels import running
from arraydiff.linear import linear_of, with_linear
from arraydiff.options import OF_NO_VALUE, Options, is_plain
from arraydiff.problem import Batching
from arraydiff.record import active_records, unrecorded
from arraydiff.recording import matrix
from arraydiff.result import DerivativeResult
from arraydiff.seam import Prepared, Tape
from arraydiff.telling import add_to, doubted, said, users_level

if TYPE_CHECKING:
    from arraydiff.alike import Alike
    from arraydiff.plan import Plan
    from arraydiff.stepping import Stepper

PLAIN_KINDS = (bool, int, float, complex, str)
"""Arguments that are told from others by their value."""

LEAST_POINTS = 4
"""Of a call that went well: f(x), f followed, and two on a ray."""

MOST_REFUSALS = 64
"""That a transform remembers, of as many values of arguments."""

LEARNT = (
    "learnt",
    "batchings",
    "learnt_of",
    "batchings_of",
    "source",
    "patterns",
    "alike",
    "unverified",
    "unchecked",
    "_rules",
)
"""Attributes of a transform that change as it is called."""


class Transform:
    """A derivative of `fun`: ``g(x)`` gives bare arrays, ``g.result(x)`` all that is known of them.

    It holds no state of a call: several threads may call it at once, and it can be pickled where `fun` can.
    """

    title: ClassVar[str]
    result_type: ClassVar[type[DerivativeResult]]
    complex_inputs: ClassVar[bool] = False
    complex_outputs: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False
    cotangent: Array | None = None  # what outputs are summed with
    nests: ClassVar[bool] = True  # whether it is traced, inside of an f that is
    repeats: ClassVar[bool] = False  # whether it is one number, or rows, for each output: what `Alike` makes

    def __init__(self, fun: Callable[..., Any], options: Options) -> None:
        if not callable(fun):
            raise TypeError(f"{self.title} expected a callable to differentiate, got {type(fun).__name__}")
        functools.update_wrapper(self, fun, updated=())
        for attribute, value in getattr(fun, "__dict__", {}).items():
            if not hasattr(type(self), attribute):  # those of an object that is called replace none of ours
                self.__dict__.setdefault(attribute, value)
        name = getattr(fun, "__name__", type(fun).__name__)
        self.__name__ = name
        self.__doc__ = (
            f"{self.described} of {name} with respect to positional argument(s) {options.argnums.described}. Takes the same "
            f"arguments as {name}. {fun.__doc__ or ''}"
        )
        self.fun, self.options = (PerDevice(fun) if options.config.devices else fun), options
        self.unverified = self._is_unverified()
        self.alike: Alike | None = None  # how calls are made that are like one that went well
        self.learnt: dict[str, str] = {}
        self.batchings: dict[Hashable, Batching] = {}

    described: ClassVar[str]

    def told_parts(self) -> list[Any]:
        """What its values depend on, by which a store tells it from others: not what it learnt, nor who evaluates."""
        state = {name: part for name, part in vars(self).items() if name not in LEARNT and not name.startswith("__")}
        config = replace(self.options.config, **OF_NO_VALUE)
        return [state | {"options": replace(self.options, config=config, full_output=False, out=None)}]

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """A transform of a method binds like the method."""
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<{self.title} of {self.__name__}, argnums={self.options.argnums.described}, {self.options.config!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The derivative as bare arrays, in JAX's structure."""
        if running():
            from arraydiff.nested import answer  # which loads what traces

            return answer(self, args, kwargs)
        alike = None if active_records() else self.alike
        taken = None if alike is None else alike.taken(args)
        if alike is not None and taken is not None:
            pair, intact, refused = alike.answer(self, taken, kwargs)
            if pair is not None:
                return self._paired(*pair)
            self.alike = None  # until another call goes well
            return self._whole(taken if intact else args, kwargs, refused)
        if self.unverified and not self.learnt and not active_records():
            from arraydiff.nested import unverified  # which loads what traces

            found = unverified(self, args, kwargs)
            if found is not None:
                return found
        return self._whole(args, kwargs)

    def _whole(self, args: tuple[Any, ...], kwargs: dict[str, Any], refused: str = "") -> Any:
        """The answer by the whole way; `refused` is why f is not followed, where that was tried."""
        full = self.options.full_output
        bare = not full and self.options.config.unreliable in ("warn", "ignore")
        if not refused:
            return self._given(*self._run(args, kwargs, bare), full)
        bound = self._bind(args, kwargs)
        bound = replace(bound, problem=replace(bound.problem, trace_refused=refused))
        return self._given(*self._made(bound, bare), full)

    def _opens(self, bound: Bound, outputs: Layout) -> None:
        """Have calls like this one, which went well by following f, made in a shorter way."""
        if self.repeats and is_plain(self.options):
            from arraydiff.alike import alike_to  # which loads what traces

            self.alike = alike_to(bound, outputs)

    def result(self, *args: Any, **kwargs: Any) -> Any:
        """The derivative with error bars, flags, costs and reasons."""
        return self._given(*self._run(args, kwargs), full_output=True)

    def _given(self, bound: Bound, derivative: Derivative, full_output: bool) -> Any:
        """The answer in the form that was asked for."""
        with bound.problem.backend.on_device(), bound.problem.backend.quietly():
            if full_output:
                return self._result(bound, derivative)
            flat = self._delivered(bound, derivative)
            self._warn([derivative])
            return self._bare(bound, derivative, flat)

    def plan(self, *args: Any, **kwargs: Any) -> Plan:
        """Learn noise, lengths and steps at this x, for cheap derivatives at others: see :class:`arraydiff.plan.Plan`."""
        from arraydiff.plan import planned  # which knows this class

        return planned(self, args, kwargs)

    def stepper(self, *args: Any, **kwargs: Any) -> Stepper:
        """The derivative at this x with its points asked for, and their values told: see :class:`arraydiff.stepping.Stepper`.

        Raises
        ------
        ValueError
            Inside jit, on lazy arrays, and for derivatives that are not made of values of f alone.
        """
        from arraydiff.stepping import stepping  # which knows this class

        return stepping(self, args, kwargs)

    def forget(self) -> None:
        """Forget what was learnt of `fun`: that it does not take complex numbers, and whether it takes blocks of points."""
        self.learnt.clear()
        self.batchings.clear()
        self.alike = None

    def measure(self, *args: Any, **kwargs: Any) -> DerivativeResult:
        """What an outer derivative needs of this one."""
        with unrecorded():
            bound, derivative = self._run(args, kwargs)
        with bound.problem.backend.on_device(), bound.problem.backend.quietly():
            result: DerivativeResult = self._result(bound, derivative, told=False)
        return result

    @property
    def shares_calls(self) -> bool:
        """Whether `measure_all` shares calls of f: f is vectorised, and differentiated the common way."""
        mine = type(self)
        common = mine._wanted is Transform._wanted and mine._bind is Transform._bind
        return common and self.options.config.vectorized is True

    def measure_all(self, calls: Sequence[tuple[Any, Any]], *, alike: bool) -> list[DerivativeResult | Exception]:
        """`measure` for several calls in lockstep, exceptions in the places of results.

        `alike`: the calls differ in the differentiated arguments alone.
        """
        from arraydiff.batches import measured  # which knows this class

        return measured(self, calls, alike)

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any], bare: bool = False) -> tuple[Bound, Derivative]:
        return self._made(self._bind(args, kwargs), bare)

    def _made(self, bound: Bound, bare: bool) -> tuple[Bound, Derivative]:
        with bound.problem.backend.on_device(), bound.problem.backend.quietly():
            wanted = altered(self._wanted(bound), bare=bare, out=self.options.out if bare else None)
            derivative = differentiate(bound.problem, self.options.config, wanted, self._check_output, self.options.f0)
        self._noted(bound, derivative)
        points = LEAST_POINTS if self.options.config.verify_trace else 1
        if derivative.prepared.goes_well and derivative.evaluator.points == points:
            self._opens(bound, derivative.output.layout)
        return bound, derivative

    def _noted(self, bound: Bound, derivative: Derivative) -> None:
        """What it taught, and cost."""
        self._learn(bound, derivative.prepared)
        for total in active_records():
            add_to(total, derivative)

    def _asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Asked:
        options = self.options
        return Asked(
            self.fun, args, kwargs, options.argnums, options.config, self._rules, options.has_aux, self.cotangent
        )

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound:
        options = self.options
        bound = bind(
            self._asked(args, kwargs),
            complex_refused=self.learnt.get("complex", ""),
            trace_refused=self.learnt.get(_untraced(args, kwargs), "") if self.learnt else "",
        )
        if options.config.vectorized != "auto":
            return bound
        with bound.problem.backend.on_device(), bound.problem.backend.quietly():
            return replace(bound, problem=batched(bound.problem, options.config, self.batchings, self._check_output))

    @functools.cached_property
    def _rules(self) -> Rules:
        options = self.options
        return Rules(self.title, options.holomorphic, options.allow_int, self.complex_inputs)

    def _wanted(self, bound: Bound) -> Wanted:
        """What is asked of the engine."""
        wanted = Wanted(self._index(bound), elementwise if self.elementwise else columns_of)
        linear = linear_of(bound, self.options.argnums, self.options.linear)
        return with_linear(wanted, linear, self.options.config)

    def _is_unverified(self) -> bool:
        """Whether f followed once is all that is asked for."""
        return self.nests and not self.options.config.verify_trace and is_plain(self.options)

    @functools.cached_property
    def unchecked(self) -> Transform:
        """The same without the check against plain f."""
        made = copy.copy(self)
        made.options = replace(self.options, config=replace(self.options.config, verify_trace=False))
        made.unverified, made.alike = made._is_unverified(), None
        return made

    def _traced(self, bound: Bound, tape: Tape) -> Any:
        """The columns (m, n) of f that was traced a level higher."""
        return matrix(bound.problem.backend.below, tape, bound.problem.n)

    def _index(self, bound: Bound) -> Sequence[int]:
        """The directions that are needed."""
        if not self.options.holomorphic:
            return bound.index
        free = set(bound.index)
        return tuple(
            i for _, start, stop in bound.layout.spans for i in range(start, start + (stop - start) // 2) if i in free
        )

    def _check_output(self, bound_backend: Any, layout: Layout) -> None:
        checked_output(
            bound_backend,
            layout,
            self.title,
            holomorphic=self.options.holomorphic,
            complex_outputs=self.complex_outputs,
        )

    def _learn(self, bound: Bound, prepared: Prepared) -> None:
        reason = prepared.reason.rpartition("; ")[2]
        if prepared.untraced:
            self.learnt[_untraced(bound.problem.call.args, bound.problem.call.kwargs)] = prepared.untraced
            refusals = [name for name in list(self.learnt) if name != "complex"]  # a copy: other threads learn, too
            for name in refusals[:-MOST_REFUSALS]:
                self.learnt.pop(name, None)
        if reason.startswith("f does not take complex numbers (") and (
            "TypeError" in reason or "ComplexWarning" in reason
        ):
            self.learnt["complex"] = reason

    def _assembled(self, bound: Bound, outputs: Layout, flat: Array, kind: str) -> PyTree:
        return assembly.matrix(
            bound.problem.backend, outputs, bound.layout, flat, kind, holomorphic=self.options.holomorphic
        )

    def _result(self, bound: Bound, derivative: Derivative, told: bool = True) -> Any:
        """All that is known; untold, without the warnings, for which the doubtful entries are counted."""
        problem, dense, evaluator = bound.problem, derivative.dense, derivative.evaluator
        outputs, backend = derivative.output.layout, problem.backend
        assert derivative.judged is not None  # bars are kept for a result
        return self.result_type(
            derivative=self._written(bound, derivative, dense.columns),
            value=self._value(bound, derivative),
            aux=derivative.output.aux,
            error_estimate=self._assembled(bound, outputs, dense.error, "error"),
            step_sizes=self._steps(bound, derivative),
            status=self._assembled(bound, outputs, dense.status, "status"),
            method_used=derivative.prepared.method,
            reason=derivative.prepared.reason,
            function_calls=evaluator.calls,
            function_points=evaluator.points,
            rounds=evaluator.rounds,
            computation_time=derivative.time,
            noise_level=derivative.prepared.noise,
            condition=self._condition(bound, derivative),
            warnings=said(bound, derivative) if told else [],
            exceptions=tuple(failure.error for failure in evaluator.failures),
            story=Story(
                backend,
                bound.layout,
                self._names(bound, outputs),
                dense.columns,
                dense.error,
                dense.status,
                derivative.judged,
                problem.scale if problem.n == dense.columns.shape[1] else problem.xp.ones_like(dense.steps),
                evaluator.call.batching.told if evaluator.call.batching is not None else "",
            ),
        )

    def _names(self, bound: Bound, outputs: Layout) -> Names:
        """How rows of the derivative are called."""
        return outputs

    def _steps(self, bound: Bound, derivative: Derivative) -> PyTree:
        return assembly.vector(bound.problem.backend, bound.layout, derivative.dense.steps)

    def _condition(self, bound: Bound, derivative: Derivative) -> PyTree:
        """|x df/dx| / |f| for scalar f."""
        problem, value = bound.problem, derivative.prepared.value
        if value.shape[0] != 1 or bound.layout.has_complex:
            return None
        xp = problem.xp
        size = xp.where(value == 0, xp.full_like(value, float("nan")), xp.abs(value))
        return assembly.vector(problem.backend, bound.layout, xp.abs(problem.x * derivative.dense.columns[0, :]) / size)

    def _delivered(self, bound: Bound, derivative: Derivative) -> Array:
        """The flat values of a bare call, after what `unreliable` does about those that cannot be vouched for."""
        policy, dense = self.options.config.unreliable, derivative.dense
        if bound.problem.backend.deferred:
            return self._flagged(derivative)
        if policy == "raise" and derivative.doubts:
            failures = derivative.evaluator.failures
            explained = self._result(bound, derivative).explain()
            raise NumericalStabilityError(f"{self._doubt(doubted(derivative))}\n{explained}") from (
                failures[0].error if failures else None
            )
        if policy == "nan" and derivative.doubts:
            return _blanked(derivative)
        return dense.columns

    def _flagged(self, derivative: Derivative) -> Array:
        """The same where values come later."""
        policy = self.options.config.unreliable
        if policy == "raise":
            raise ValueError(
                "unreliable='raise' wants to look at values, which are not there inside jax.jit or on lazy arrays: pass "
                "unreliable='nan', or look at .result(...).status"
            )
        return _blanked(derivative) if policy == "nan" else derivative.dense.columns

    def _warn(self, derivatives: Sequence[Derivative]) -> None:
        """One warning of what is delivered and cannot be vouched for."""
        policy = self.options.config.unreliable
        if policy == "ignore":
            return
        told = (d for d in derivatives if not (policy == "nan" and d.doubts))
        reasons = dict.fromkeys(reason for derivative in told for reason in doubted(derivative))
        if reasons:
            text = f"{self._doubt(reasons)} .result(...).explain() tells which."
            warnings.warn(text, DifferentiationWarning, stacklevel=users_level())

    def _doubt(self, reasons: Iterable[str]) -> str:
        return f"{self.title} of {self.__name__}: {' '.join(reasons)}"

    def _bare(self, bound: Bound, derivative: Derivative, flat: Array) -> Any:
        output = derivative.output
        values = self._written(bound, derivative, flat)
        return (values, output.aux) if self.options.has_aux else values

    def _written(self, bound: Bound, derivative: Derivative, flat: Array) -> PyTree:
        """The values in their structure, or in the array that the user gave for them."""
        out, output = self.options.out, derivative.output
        if out is None:
            return self._assembled(bound, output.layout, flat, "value")
        if derivative.dense.watch is None:  # they were not written chunk by chunk
            outside(derivative.problem, output, out).whole(flat)
        return out

    def _paired(self, value: Array, rows: Array) -> Any:
        """The answer of a call that is alike: f(x) (*m,) and its derivative (*m, n)."""
        return rows

    def _value(self, bound: Bound, derivative: Derivative) -> PyTree:
        return assembly.value(bound.problem.backend, derivative.output.layout, derivative.value)


def _untraced(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The name under which is learnt that f cannot be followed, for arguments of these shapes and values."""
    leaves, structure = flatten((args, kwargs))
    told = [
        str(leaf.shape) if is_array(leaf) else leaf if isinstance(leaf, PLAIN_KINDS) else type(leaf) for leaf in leaves
    ]
    return f"traced {structure} {told}"


def _blanked(derivative: Derivative) -> Array:
    """The values, NaN where they are not vouched for."""
    columns, xp = derivative.dense.columns, derivative.problem.xp
    assert derivative.judged is not None
    return xp.where(derivative.judged.mask(), xp.full_like(columns, float("nan")), columns)
