"""How right is a gradient: every method beside the exact answer, and a user's own gradient beside ours."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import optree

from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Layout, flatten, layout_of, unflatten
from arraydiff.backends import Backend, backend_of, is_array
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.result import UNVOUCHED, Status
from arraydiff.transforms import grad, jacobian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from arraydiff.result import DerivativeResult

__all__ = ["GradientCheck", "MethodReport", "check_grad", "compare_methods"]

MARGIN = 10.0
"""Error bars are claimed for 95 % of entries, so one in twenty may be missed; hardly any by ten times its length."""

ROOM = 2 / 3
"""eps ** ROOM, relative: for the rounding in a gradient written by hand, far below what a mistake makes."""

TOO_WIDE = 1e-3
"""An error bar longer than this part of the entry cannot vouch for it."""

SMALL = 1e-3
"""Entries are measured against themselves, or against this part of the one that changes f most."""


@dataclass(frozen=True)
class MethodReport:
    """What one method made of a derivative.

    Attributes
    ----------
    method : DifferentiationMethod
        The method asked for; ``result.method_used`` says which one answered.
    result : GradientResult or JacobianResult or None
        The derivative with its error bars; None where the method raised.
    error : float or None
        Largest ``|derivative - exact| / max(1, |exact|)`` over the entries; None where no exact answer was given.
    within_tolerance : bool or None
        Whether `error` is at most the tolerance.
    evaluations : int
        Points at which f was evaluated.
    time : float
        Seconds.
    exception : Exception or None
        What the method raised.
    """

    method: DifferentiationMethod
    result: DerivativeResult | None
    error: float | None
    within_tolerance: bool | None
    evaluations: int
    time: float
    exception: Exception | None = None


def compare_methods(
    fun: Callable[[Any], Any],
    x: PyTree,
    *,
    exact: PyTree = None,
    tolerance: float = 1e-6,
    methods: Iterable[DifferentiationMethod | str] | None = None,
    **options: Any,
) -> dict[str, MethodReport]:
    """Differentiate with every method, one beside the other.

    Parameters
    ----------
    fun : callable
        Takes x; gives a number, for its gradient, or arrays, for their Jacobian.
    x : array, float or a structure of them
        Where.
    exact : array, structure or callable, optional
        The derivative as it should be, or the function that gives it at x.
    tolerance : float, default 1e-6
        What `error` of a report is held against.
    methods : iterable, optional
        Which methods; None for all of them.
    **options
        Fields of :class:`DifferentiationConfig`, the same for every method.

    Returns
    -------
    dict of str to MethodReport
        In the order of `methods`, by name.  A method that raises is reported, and the others go on.

    Examples
    --------
    >>> import numpy as np
    >>> from arraydiff.validation import compare_methods
    >>> reports = compare_methods(lambda x: np.sum(x**3), np.array([1.0, 2.0]), exact=np.array([3.0, 12.0]))
    >>> reports["central"].within_tolerance, reports["complex_step"].error < 1e-14
    (True, True)
    """
    wanted = [m for m in DifferentiationMethod if m is not DifferentiationMethod.EXACT] if methods is None else methods
    if "method" in options:
        raise TypeError("compare_methods() takes methods=, several of them, in place of method=")
    right = exact(_copy(x)) if callable(exact) else exact
    transform = _transform_for(fun, x)
    return {
        str(method): _report(transform, fun, x, right, tolerance, method, options)
        for method in map(DifferentiationMethod, wanted)
    }


def _report(
    transform: Callable[..., Any],
    fun: Callable[[Any], Any],
    x: PyTree,
    exact: PyTree,
    tolerance: float,
    method: DifferentiationMethod,
    options: dict[str, Any],
) -> MethodReport:
    start = time.perf_counter()
    try:
        result = transform(fun, method=method, **options).result(x)
    except Exception as error:  # noqa: BLE001  # one method's failure is part of the comparison
        return MethodReport(method, None, None, False, 0, time.perf_counter() - start, error)
    points, spent = result.function_points, result.computation_time
    if exact is None:
        return MethodReport(method, result, None, None, points, spent)
    off = _largest_error(_Table.of(x, result), exact)
    return MethodReport(method, result, off, off <= tolerance, points, spent)


def _largest_error(table: _Table, exact: PyTree) -> float:
    right, xp = table.matrix(exact, "exact"), table.backend.xp
    size = abs(right)
    off = abs(table.computed - right) / xp.where(size > 1, size, xp.ones_like(size))
    return float(xp.max(off)) if math.prod(off.shape) else 0.0


@dataclass(frozen=True)
class GradientCheck:
    """Whether a gradient is right; true exactly where it is.

    Attributes
    ----------
    verdict : {"right", "wrong", "undecided"}
        "wrong": some entry differs by more than the error bars can explain.  "undecided": none does, but some cannot
        be vouched for at this x (a kink, noise, a function that fails nearby).
    entries, wrong, undecided : int
        How many there are, how many are wrong, of how many nothing can be said.
    where : str
        The worst entry, as in ``x['rate'][3]``.
    given, computed : float or complex
        The worst entry as it was given, and as it was found.
    difference, error_bar : float
        Their distance, and the absolute error bar of what was found.
    status : Status
        Flags of the worst entry.
    result : GradientResult or JacobianResult
        Our derivative, whole.
    """

    verdict: str
    entries: int
    wrong: int
    undecided: int
    where: str
    given: float | complex
    computed: float | complex
    difference: float
    error_bar: float
    status: Status
    result: DerivativeResult = field(repr=False)

    def __bool__(self) -> bool:
        return self.verdict == "right"

    def explain(self) -> str:
        """The verdict in plain sentences."""
        if self.entries == 0:
            return "The gradient is right: it has no entries."
        cost = f"By {self.result.method_used}, {self.result.function_points} points."
        worst = (
            f"{self.where}: given {self.given:.9g}, found {self.computed:.9g}, "
            f"a difference of {self.difference:.2g} with an error bar of {self.error_bar:.2g}"
        )
        count = f"{self.entries} {'entry' if self.entries == 1 else 'entries'}"
        if self.verdict == "right":
            return (
                f"The gradient is right in {count}, within the error bars. The largest deviation is at {worst}. {cost}"
            )
        if self.verdict == "wrong":
            return f"The gradient is wrong in {self.wrong} of {count}. The worst is at {worst}. {cost}"
        flags = self.status & UNVOUCHED
        reason, remedy = (flags.name, f"{flags.remedy}; or ") if flags else ("the error bar is too wide", "")
        return (
            f"Undecided: nothing is shown to be wrong, but {self.undecided} of {count} cannot be checked at this x. "
            f"The worst is at {worst}: {reason}. What helps: {remedy}check at another x. {cost}"
        )


def check_grad(
    fun: Callable[[Any], Any],
    gradient: PyTree,
    x: PyTree,
    *,
    config: DifferentiationConfig | None = None,
    **options: Any,
) -> GradientCheck:
    """Compare a gradient written by hand with ours, within error bars that belong to this f and this x.

    There is no step and no tolerance to choose: each entry is held against its own error bar, with room for rounding
    in what was given.

    Parameters
    ----------
    fun : callable
        Takes x; gives a number, or arrays, where `gradient` is their Jacobian.
    gradient : callable, array or structure
        The function that gives the gradient at x, or what it gives; the structure and shapes of x.
    x : array, float or a structure of them
        Where to compare; best a point in general position.  Never modified.
    config : DifferentiationConfig, optional
        How to differentiate `fun`.
    **options
        Its fields, one by one.

    Returns
    -------
    GradientCheck
        True where the gradient is right.  ``explain()`` names the worst entry and tells a wrong gradient from a
        point at which nothing can be said.

    Raises
    ------
    ValueError
        The gradient has another structure or other shapes than the derivative.

    Notes
    -----
    An entry counts as wrong where it is off by more than ten error bars and by more than eps**(2/3) of its size.
    Parameters held fixed by their bounds are not compared.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> x = np.array([1.0, 2.0])
    >>> bool(arraydiff.check_grad(lambda x: np.sum(x**3), lambda x: 3 * x**2, x))
    True
    >>> check = arraydiff.check_grad(lambda x: np.sum(x**3), lambda x: 3 * x**2 + [0, 1], x)
    >>> check.verdict, check.where, check.given, round(check.computed, 9)
    ('wrong', 'x[1]', 13.0, 12.0)
    """
    given = gradient(_copy(x)) if callable(gradient) else gradient
    result = _transform_for(fun, x)(fun, config=config, **options).result(x)
    table = _Table.of(x, result)
    return _judge(table, table.matrix(given, "gradient"))


@dataclass(frozen=True)
class _Table:
    """A derivative as a matrix, a row for each output and a column for each parameter, whatever the structures."""

    backend: Backend
    result: DerivativeResult
    rows: Layout
    columns: Layout
    typical: Array  # (n,) size of each parameter, 1 where it is 0
    value: Array  # (m,) size of f

    @classmethod
    def of(cls, x: PyTree, result: DerivativeResult) -> _Table:
        """The table of a result at x."""
        backend = backend_of(flatten(x)[0])
        columns, sizes = _sizes(backend, x)
        rows, value = _sizes(backend, result.value)
        typical = backend.xp.where(sizes > 0, sizes, backend.xp.ones_like(sizes))
        return cls(backend, result, rows, columns, typical, value)

    @property
    def computed(self) -> Array:
        """Our derivative, (m, n)."""
        return self.matrix(self.result.derivative, "derivative")

    def matrix(self, tree: PyTree, name: str) -> Array:
        """A tree like the derivative as (m, n), checked."""
        xp, wanted = self.backend.xp, flatten(self.result.derivative)
        try:
            parts = [tree] if wanted[1] is None else wanted[1].flatten_up_to(tree)
        except ValueError as error:
            raise ValueError(f"{name} must have the structure of the derivative: {error}") from None
        parts = [self._leaf(part, like, name) for part, like in zip(parts, wanted[0], strict=True)]
        width, blocks = len(self.columns.leaves), []
        for i, row in enumerate(self.rows.leaves):
            block = parts[i * width : (i + 1) * width]
            sized = zip(block, self.columns.leaves, strict=True)
            blocks.append(xp.concat([xp.reshape(part, (row.size, column.size)) for part, column in sized], axis=1))
        return xp.concat(blocks, axis=0) if blocks else xp.zeros((0, 0))

    def _leaf(self, part: Any, like: Array, name: str) -> Array:
        array, xp = self.backend.asarray(part), self.backend.xp
        if tuple(array.shape) != tuple(like.shape):
            shape = tuple(like.shape)
            raise ValueError(f"{name} must have the derivative's shape {shape}, got {tuple(array.shape)}")
        counted = xp.isdtype(array.dtype, ("integral", "bool")) and name != "status"
        return xp.astype(array, like.dtype) if counted else array

    def scale(self, computed: Array) -> Array:
        """What entries are measured against, (m, n): themselves, or a small part of what changes f most."""
        xp, size = self.backend.xp, abs(computed)
        change = xp.max(size * self.typical[None, :], axis=1)
        change = xp.where(change > self.value, change, self.value)
        floor = SMALL * change[:, None] / self.typical[None, :]
        return xp.where(size > floor, size, floor)

    def name(self, row: int, column: int) -> str:
        """How a user names an entry."""
        parameter = "x" + self.columns.path(column)
        return parameter if self.rows.size == 1 else f"f{self.rows.path(row)} by {parameter}"


def _sizes(backend: Backend, tree: PyTree) -> tuple[Layout, Array]:
    """The layout of the absolute values of a tree, and these as one vector."""
    layout, arrays = layout_of(backend, tree)
    real = Layout(layout.structure, tuple(replace(leaf, is_complex=False) for leaf in layout.leaves))
    flat = [backend.xp.reshape(abs(array), (-1,)) for array in arrays]
    return real, backend.xp.concat(flat)


def _judge(table: _Table, given: Array) -> GradientCheck:
    xp, result, computed = table.backend.xp, table.result, table.computed
    bar, flags = table.matrix(result.error_estimate, "error_estimate"), table.matrix(result.status, "status")
    off, entries = abs(computed - given), math.prod(computed.shape)
    if not entries:
        return GradientCheck("right", 0, 0, 0, "x", 0.0, 0.0, 0.0, 0.0, Status.CONVERGED, result)
    scale = table.scale(computed)
    eps = float(xp.finfo(off.dtype).eps)
    room = MARGIN * bar + eps**ROOM * scale
    compared = (flags & int(Status.FIXED)) == 0
    suspect = (flags & int(UNVOUCHED)) != 0
    wrong = compared & ~suspect & ~(off <= room)
    still = (computed == 0) & xp.isfinite(bar)  # f does not react: a true 0, as far as f can tell
    undecided = compared & ~wrong & (suspect | ~(still | (bar <= TOO_WIDE * scale)))
    rank = xp.where(
        xp.isfinite(off), off / (room + float(xp.finfo(off.dtype).smallest_normal)), xp.full_like(off, math.inf)
    )
    counts = [int(xp.sum(xp.astype(mask, xp.int32))) for mask in (wrong, undecided)]
    listed = wrong if counts[0] else undecided if counts[1] else compared
    where = int(xp.argmax(xp.reshape(xp.where(listed, rank, -xp.ones_like(rank)), (-1,))))
    i, j = divmod(where, table.columns.size)
    return GradientCheck(
        verdict="wrong" if counts[0] else "undecided" if counts[1] else "right",
        entries=entries,
        wrong=counts[0],
        undecided=counts[1],
        where=table.name(i, j),
        given=_number(given[i, j]),
        computed=_number(computed[i, j]),
        difference=float(off[i, j]),
        error_bar=float(bar[i, j]),
        status=Status(int(flags[i, j])),
        result=result,
    )


def _number(entry: Any) -> float | complex:
    """A 0-d array as a Python number."""
    number = complex(entry)
    return number if number.imag else number.real


def _copy(tree: PyTree) -> PyTree:
    """A tree that a user's function may write into."""
    leaves, structure = flatten(tree)
    backend = backend_of(leaves)
    return unflatten(structure, [backend.copy(leaf) if is_array(leaf) else leaf for leaf in leaves])


def _transform_for(fun: Callable[[Any], Any], x: PyTree) -> Callable[..., Any]:
    """`grad` where f gives a number; one more call of f tells."""
    value = fun(_copy(x))
    leaves, structure = flatten(value)
    several = (structure is not None and not optree.treespec_is_leaf(structure)) or getattr(leaves[0], "ndim", 0) > 0
    return jacobian if several else grad
