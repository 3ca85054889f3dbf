"""Derivatives of a function of one flat array: f once on a tracer, and then sweeps over its tape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arraydiff._typing import Array
from arraydiff.backends import large, raw
from arraydiff.backends.displaced import Displacer
from arraydiff.exact.kinked import Kinked, met, touched
from arraydiff.exact.reductions import array
from arraydiff.exact.shaking import shaken
from arraydiff.exact.sweeps import backward, forward
from arraydiff.exact.trace import Limit, Refused, Trace, Tracer, has_tracer, is_users, ops, prim, refuse, snapshot


@dataclass(frozen=True)
class Notes:
    """What tracing met that a derivative at one point does not tell: each with its place in the user's code."""

    kinks: dict[str, str] = field(default_factory=dict)
    """Where the derivative may not exist: abs at 0, a tie of max, a branch at equality."""

    branches: dict[str, str] = field(default_factory=dict)
    """What was asked of values: comparisons, signs, casts that lose digits; another x may take another way."""


class Traced:
    """f at x, with its tape.

    Attributes
    ----------
    value : array, shape (m,)
        As f gave it.
    """

    def __init__(self, trace: Trace, root: Tracer, out: Any, shaker: Displacer | None = None) -> None:
        self._trace, self._root, self._out, self._shaker = trace, root, out, shaker
        self.value: Array = snapshot(out.value) if type(out) is Tracer else out

    @property
    def constant(self) -> bool:
        """Whether f does not depend on x."""
        return type(self._out) is not Tracer

    @property
    def notes(self) -> Notes:
        """What was met on the way; on a device this waits for it."""
        places: dict[str, str] = {}
        for one in met(self._trace):
            places.setdefault(one.text, one.place)
        return Notes(places, dict(self._trace.notes))

    @property
    def held(self) -> int:
        """Bytes of the large arrays on the tape, as counted where a limit was given."""
        return self._trace.held

    def kinked(self) -> list[Kinked]:
        """Which entries of the Jacobian the kinks of f touch: two sweeps for each line of f that met one; the tape is kept.

        Examples
        --------
        >>> import numpy as np
        >>> from arraydiff.exact import traced
        >>> met = traced(lambda x: np.stack([np.sum(np.abs(x)), x[0]]), np.array([0.0, 1.0])).kinked()
        >>> [(one.text, one.rows.tolist(), one.columns.tolist()) for one in met]
        [('abs at 0', [True, False], [True, False])]
        """
        kinks = met(self._trace)
        if not kinks:
            return []
        if not self.constant:
            self._check()
        return touched(self._trace, kinks, self._root, self._out)

    def _check(self) -> None:
        tape = self._trace.tape
        if tape is None or (self._out.node not in tape and self._out.node != self._root.node):
            raise RuntimeError("the tape of this trace is used up; pass keep=True where it is needed again")

    def pullback(self, cotangent: Array, *, keep: bool = False) -> Array:
        """The cotangent (m,) of the value as one of x, (n,); without `keep` the tape is used up, and its memory freed."""
        if self.constant:
            return raw.zeros(self._root.value.shape, self._root.value.dtype, self._root.value)
        self._check()
        return backward(self._trace, {self._out.node: cotangent}, self._root, release=not keep, shake=self._shaker)

    def pushforward(self, tangent: Array) -> Array:
        """The tangent (n,) of x as one of the value, (m,); the tape is kept."""
        if self.constant:
            return raw.zeros(self.value.shape, self.value.dtype, self.value)
        self._check()
        return forward(self._trace, self._out, {self._root.node: tangent}, shake=self._shaker)

    def shaken(self, units: float, sample: int = 0, *, keep: bool = False) -> Traced | None:
        """The same operations with roundings off by so many eps, in one way or another, where there is a tape.

        Without `keep` it is used up.
        """
        if self.constant or self._trace.tape is None:
            return None
        self._check()
        trace, root, out = shaken(self._trace, self._root, self._out, Displacer(units, sample), keep=keep)
        return Traced(trace, root, out, Displacer(units, sample))


def traced(function: Callable[[Any], Any], x: Array, *, constant: bool = False, limit: Limit = None) -> Traced:
    """Follow f at x.

    Parameters
    ----------
    function : callable
        Of an array (n,), gives an array (m,), or a number. It is called once.
    x : array, shape (n,), real floating
        Or a traced array, where derivatives are nested.
    constant : bool, optional
        Allow a result that does not depend on x, as the gradient of a linear function does not.
    limit : float or callable, optional
        Refuse when the tape takes more bytes than that; arrays of up to 2**14 entries are not counted. math.inf: count alone. A
        callable gives the number for a tape that holds so many, and is called when it holds more than was allowed before.

    Returns
    -------
    Traced
        Its value, pullback and pushforward, and what was noted.

    Raises
    ------
    Refused
        f cannot be followed; `reason` and `place` say why and where. Also where f catches the exception.

    Examples
    --------
    >>> import numpy as np
    >>> from arraydiff.exact import traced
    >>> followed = traced(lambda x: np.exp(x) * x[0], np.array([0.0, 1.0]))
    >>> followed.pullback(np.array([1.0, 0.0]))
    array([1., 0.])
    """
    large.keep_freed()
    with Trace(reverse=True, limit=limit) as trace:
        root = trace.root(x)
        try:
            out = _run(trace, function, root, constant)
        except Refused as refused:
            refused.lasting = not trace.notes and trace.held <= trace.room
            raise
    return Traced(trace, root, out)


def pushforward(function: Callable[[Any], Any], x: Array, tangents: Array) -> tuple[Array, Array]:
    """The value (m,) and J·tangents (m, k) in forward mode: one tangent goes along with f, several along its tape.

    Examples
    --------
    >>> import numpy as np
    >>> from arraydiff.exact import pushforward
    >>> pushforward(lambda x: x * x, np.array([3.0, 4.0]), np.array([[1.0], [1.0]]))
    (array([ 9., 16.]), array([[6.],
           [8.]]))
    """
    if tangents.shape[1] != 1:
        followed = traced(function, x, constant=True)
        columns = [followed.pushforward(tangents[:, j]) for j in range(tangents.shape[1])]
        return followed.value, ops.stack(columns, axis=1)
    with Trace(reverse=False) as trace:
        out = _run(trace, function, trace.root(x, tangents[:, 0]), True)
    if type(out) is not Tracer:
        return out, raw.zeros((*out.shape, 1), out.dtype, out)
    return snapshot(out.value), prim.reshape(out.node, (-1, 1))


def gradient(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The gradient of a function with one real result, as a function that can be followed in turn: forward over reverse."""

    def gradient_at(x: Any) -> Any:
        followed = traced(function, x, constant=True)
        if followed.value.shape not in ((), (1,)):
            refuse(f"a gradient of {followed.value.shape} numbers, not of one; take pullback", x)
        return followed.pullback(ops.ones_like(followed.value))

    return gradient_at


def hvp(function: Callable[[Any], Any], x: Array, tangents: Array) -> tuple[Array, Array]:
    """The gradient (n,) and H·tangents (n, k): forward over reverse, f once.

    Examples
    --------
    >>> import numpy as np
    >>> from arraydiff.exact import hvp
    >>> hvp(lambda x: x[0] ** 2 * x[1], np.array([1.0, 2.0]), np.eye(2))
    (array([4., 1.]), array([[4., 2.],
           [2., 0.]]))
    """
    return pushforward(gradient(function), x, tangents)


def _run(trace: Trace, function: Callable[[Any], Any], root: Tracer, constant: bool) -> Any:
    """What f gives, checked: a refusal stands, whatever f or a library made of the exception."""
    try:
        out = function(snapshot(root))  # f may write into what it gets
    except Refused as refused:
        raise (trace.refused[0] if trace.refused else refused) from None
    except Exception as error:
        if trace.refused:
            raise trace.refused[0] from error
        told = f"{type(error).__name__} while f was traced: {error}{_remedy(error)}"
        raise Refused(told, _raised_at(error)) from error
    if trace.refused:
        raise trace.refused[0]
    if type(out) is not Tracer and has_tracer(out):
        out = array(out, root)
    if type(out) is Tracer and out.home is trace:
        return snapshot(out)
    if constant and (type(out) is Tracer or raw.is_plain(out)):
        return out if hasattr(out, "shape") else array(out, root)
    if type(out) is not Tracer or not out.home.live:
        told = f" ({', '.join(sorted(trace.notes))})" if trace.notes else ""
        refuse(
            f"the result, a {type(out).__name__}, does not depend on x through operations that are followed{told}", root
        )
    return refuse("the result depends on another x than that of this derivative", root)


def _raised_at(error: BaseException) -> str:
    """The innermost line of the user's on the way of an exception."""
    place, step = "", error.__traceback__
    while step is not None:
        if is_users(step.tb_frame):
            place = f"{Path(step.tb_frame.f_code.co_filename).name} line {step.tb_lineno}"
        step = step.tb_next
    return place


OF_OBJECTS = ("dtype('O')", "which has no callable")
"""In what NumPy says of arrays of objects."""


def _remedy(error: BaseException) -> str:
    """What to do about an exception that NumPy or SciPy raises of an array that it does not know."""
    if any(text in str(error) for text in OF_OBJECTS):
        return "; np.array of x[0] and plain numbers holds objects: take np.stack([x[0], 2.0])"
    modules, step = [], error.__traceback__
    while step is not None:
        modules.append(step.tb_frame.f_globals.get("__name__", ""))
        step = step.tb_next
    if any(name.startswith("scipy.sparse") for name in modules):
        return "; of sparse matrices, A @ x and x @ A are followed, where A does not depend on x"
    if any(name.startswith("scipy.") for name in modules):
        return (
            "; take the function from arraydiff.exact.rules_for_scipy, or teach its derivative by arraydiff.exact.rule"
        )
    return ""
