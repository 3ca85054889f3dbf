"""A gradient written by hand beside ours: first along a few directions, then, where they disagree, entry by entry."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from arraydiff import assembly
from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Argnums, Layout, Leaf
from arraydiff.binding import Asked, Bound, Rules, bind
from arraydiff.callables import Transform
from arraydiff.directions import ray
from arraydiff.engine import Derivative, Wanted, along, value_at
from arraydiff.options import Options, config_of
from arraydiff.result import SMALL_SHARE, UNVOUCHED, JacobianResult, Status
from arraydiff.tables import Table, copied
from arraydiff.transforms import jacobian
from arraydiff.vouching import VOUCHED_BAR

if TYPE_CHECKING:
    from collections.abc import Callable

    from arraydiff.config import DifferentiationConfig
    from arraydiff.problem import Problem
    from arraydiff.result import DerivativeResult

__all__ = ["GradientCheck", "check_grad"]

MARGIN = 10.0
"""Error bars are claimed for 95 % of entries, so one in twenty may be missed; hardly any by ten times its length."""

SUSPECTED_MARGIN = 3.0
"""Where a slope along a random direction is off by MARGIN already, an entry needs less to be called wrong."""

ROOM = 2 / 3
"""eps ** ROOM, relative: for the rounding in a gradient written by hand, far below what a mistake makes."""

DIRECTIONS = 3
"""Random directions: errors that cancel along one show along another."""

LEAST_EFFECT = 0.75
"""eps ** LEAST_EFFECT of the largest effect: smaller ones drown in the rounding of f however they are weighted."""

NOISE_SHARE = 0.1
"""Noise over the step, beside the error bar: from here on the bar comes of noise."""

Verdict = Literal["right", "wrong gradient", "kink", "noise", "unresolved"]


@dataclass(frozen=True)
class GradientCheck:
    """Whether a gradient is right; true exactly where it is.

    Attributes
    ----------
    verdict : {"right", "wrong gradient", "kink", "noise", "unresolved"}
        "wrong gradient": some entry differs by more than the error bars can explain.  The others: none does, but some
        cannot be vouched for at this x, because f has a kink there, is too noisy, or fails or hides its slope nearby.
    entries, wrong, undecided : int
        How many there are, how many are wrong, of how many nothing can be said.
    where : str
        The worst entry, as in ``x['rate'][3]``; or the direction along which the gradient was right.
    given, computed : float or complex
        The worst entry as it was given, and as it was found.
    difference, error_bar : float
        Their distance, and the absolute error bar of what was found.
    status : Status
        Flags of the worst entry.
    points : int
        Points at which f was evaluated, all in all.
    result : JacobianResult
        Our derivative: whole, or along the directions where these were enough.
    """

    verdict: Verdict
    entries: int
    wrong: int
    undecided: int
    where: str
    given: float | complex
    computed: float | complex
    difference: float
    error_bar: float
    status: Status
    points: int
    result: DerivativeResult = field(repr=False)

    def __bool__(self) -> bool:
        return self.verdict == "right"

    @property
    def relative_difference(self) -> float:
        """The difference over the size of the entry as it was found."""
        if self.difference == 0:
            return 0.0
        return self.difference / abs(self.computed) if self.computed else math.inf

    def explain(self) -> str:
        """The verdict in plain sentences."""
        if self.entries == 0:
            return "The gradient is right: it has no entries."
        cost = f"By {self.result.method_used}, {self.points} points."
        worst = (
            f"{self.where}: given {self.given:.9g}, found {self.computed:.9g}, a difference of {self.difference:.2g} "
            f"({self.relative_difference:.2g} relative) with an error bar of {self.error_bar:.2g}"
        )
        count = f"{self.entries} {'entry' if self.entries == 1 else 'entries'}"
        if self.verdict == "right":
            return (
                f"The gradient is right in {count}, within the error bars. The largest deviation is at {worst}. {cost}"
            )
        if self.verdict == "wrong gradient":
            return f"The gradient is wrong in {self.wrong} of {count}. The worst is at {worst}. {cost}"
        flags = self.status & UNVOUCHED
        reason, remedy = (flags.name, f"{flags.remedy}; or ") if flags else ("the error bar is too wide", "")
        return (
            f"Undecided ({self.verdict}): nothing is shown to be wrong, but {self.undecided} of {count} cannot be checked "
            f"at this x. The worst is at {worst}: {reason}. What helps: {remedy}check at another x. {cost}"
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
    in what was given.  A right gradient costs a few dozen points whatever the number of parameters.

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
    With more than three parameters, the slopes of f along three random directions come first.  In one every parameter
    moves by its own size; in the others those with large effects move less, so that small effects are felt too.
    Where these slopes agree with `gradient` it is right.  Where they do not, or where f does not tell, every entry is
    differentiated.  It counts as wrong where it is off by more than ten error bars and by more than eps**(2/3) of its size.
    An entry whose whole effect on f lies below the noise of f cannot be found wrong.
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
    ('wrong gradient', 'x[1]', 13.0, 12.0)
    """
    tree = gradient(copied(x)) if callable(gradient) else gradient
    chosen = config_of(config, options, "check_grad")
    bound = _bound(fun, x, chosen)
    backend = bound.problem.backend
    with backend.on_device(), backend.quietly():
        output = value_at(bound.problem, chosen)
        table = Table.of(x, assembly.value(backend, output.layout, output.values))
        given = table.matrix(tree, "gradient")
        real = not (bound.layout.has_complex or output.layout.has_complex)
        if real and chosen.scale is None and bound.index:
            chosen = replace(chosen, scale=assembly.vector(backend, bound.layout, _scale(bound.problem, table, given)))
            bound = _bound(fun, x, chosen)
        first = None
        if real and len(bound.index) > DIRECTIONS:
            at = _directions(bound.problem, given)
            first = _compared(table, given, at, Slopes(fun, Options(Argnums.of(0), chosen), at).result(x))
            if first:
                return first
        return _entry_by_entry(table, given, jacobian(fun, config=chosen).result(x), first)


def _bound(fun: Callable[[Any], Any], x: PyTree, config: DifferentiationConfig) -> Bound:
    return bind(Asked(fun, (x,), {}, Argnums.of(0), config, Rules("check_grad", complex_inputs=True)))


def _scale(problem: Problem, table: Table, given: Array) -> Array:
    """(n,) size of each parameter: one that is 0 is as small as its slope says, beside f and what the others do."""
    xp = problem.xp
    steep = xp.abs(xp.astype(given, problem.x.dtype))
    change = xp.maximum(xp.max(steep * xp.abs(problem.x)[None, :], axis=1), table.value)[:, None]
    steeper = (problem.x == 0)[None, :] & (change > 0) & (steep > change) & xp.isfinite(steep)
    return problem.scale / xp.max(xp.where(steeper, steep / change, xp.ones_like(steep)), axis=0)


class Slopes(Transform):
    """J·V along some directions; made and called at once by `check_grad`."""

    title, described = "check_grad", "Slopes"
    result_type: ClassVar[type[DerivativeResult]] = JacobianResult

    def __init__(self, fun: Callable[..., Any], options: Options, at: Array) -> None:
        super().__init__(fun, options)
        self.at = at  # (n, k)

    def _wanted(self, bound: Bound) -> Wanted:
        return along(self.at)

    def _assembled(self, bound: Bound, outputs: Layout, flat: Array, kind: str) -> PyTree:
        along = Layout(None, (Leaf((int(self.at.shape[1]),), bound.problem.x.dtype),))
        return assembly.matrix(bound.problem.backend, outputs, along, flat, kind)

    def _steps(self, bound: Bound, derivative: Derivative) -> PyTree:
        return derivative.dense.steps

    def _condition(self, bound: Bound, derivative: Derivative) -> PyTree:
        return None


def _directions(problem: Problem, given: Array) -> Array:
    """(n, 3) random directions, in which parameters of less and less effect count as much as the others."""
    xp, whole = problem.xp, ray(problem).at[:, 0]
    random = xp.reshape(problem.backend.ray(DIRECTIONS * problem.n, problem.x.dtype), (problem.n, DIRECTIONS))
    if problem.lower is not None and problem.upper is not None:  # towards the side with room, where the other has none
        tight = xp.minimum(problem.upper - problem.x, problem.x - problem.lower) < xp.abs(whole)
        random = xp.where(tight[:, None], xp.abs(random), random)
    effect = xp.abs(xp.astype(given, problem.x.dtype) * whole[None, :])
    most = xp.max(effect, axis=1, keepdims=True)
    effect = xp.max(effect / xp.where(most > 0, most, xp.ones_like(most)), axis=0)
    effect = xp.where(effect > 0, effect, xp.ones_like(effect))
    ordered = xp.sort(effect)
    least = xp.maximum(ordered[0], xp.full_like(ordered[0], float(xp.finfo(effect.dtype).eps) ** LEAST_EFFECT))
    levels = xp.stack([xp.ones_like(least), ordered[problem.n // 2], least])
    shrunk = levels[None, :] / effect[:, None]
    return whole[:, None] * random * xp.where(shrunk < 1, shrunk, xp.ones_like(shrunk))


def _compared(table: Table, given: Array, at: Array, slopes: DerivativeResult) -> GradientCheck:
    """The check along directions alone: "right" where they are enough to say so."""
    xp, count = table.backend.xp, int(at.shape[1])
    along = replace(table, columns=Layout(None, (Leaf((count,), at.dtype),)))
    computed, bar, flags = _matrices(along, slopes)
    expected, size = xp.matmul(given, at), xp.sqrt(xp.matmul(given**2, at**2))
    off, room = abs(computed - expected), _room(xp, bar, size, MARGIN)
    agrees = (off <= room) & xp.isfinite(room)
    suspect = (flags & int(UNVOUCHED)) != 0
    hidden = suspect & ((flags & int(Status.KINK)) == 0)
    typical = xp.maximum(size / math.sqrt(at.shape[0]), SMALL_SHARE * table.value[:, None])
    told = ~suspect & (_still(xp, computed, bar) | (bar <= VOUCHED_BAR * typical))
    right = bool(xp.all(told[:, 0]) & xp.all(hidden | (agrees & ~suspect)))
    wrong = bool(xp.any(~suspect & ~agrees))
    i, j = divmod(_worst(xp, off, room, ~suspect), count)
    return GradientCheck(
        verdict="right" if right else "wrong gradient" if wrong else "unresolved",
        entries=math.prod(given.shape),
        wrong=0,
        undecided=0 if right else math.prod(given.shape),
        where=table.name_along(i, f"x along random direction {j + 1} of {count}"),
        given=_number(expected[i, j]),
        computed=_number(computed[i, j]),
        difference=float(off[i, j]),
        error_bar=float(bar[i, j]),
        status=Status(int(flags[i, j])),
        points=1 + slopes.function_points,
        result=slopes,
    )


def _entry_by_entry(table: Table, given: Array, result: DerivativeResult, first: GradientCheck | None) -> GradientCheck:
    """The check of every entry, after what the directions said, if they were asked."""
    xp, entries = table.backend.xp, math.prod(given.shape)
    points = result.function_points + (1 if first is None else first.points)
    if not entries:
        return GradientCheck("right", 0, 0, 0, "x", 0.0, 0.0, 0.0, 0.0, Status.CONVERGED, points, result)
    suspected = first is not None and first.verdict == "wrong gradient"
    computed, bar, flags = _matrices(table, result)
    off, scale = abs(computed - given), table.scale(computed)
    room = _room(xp, bar, scale, SUSPECTED_MARGIN if suspected else MARGIN)
    compared = (flags & int(Status.FIXED)) == 0
    suspect = (flags & int(UNVOUCHED)) != 0
    wrong = compared & ~suspect & ~(off <= room)
    undecided = compared & ~wrong & (suspect | ~(_still(xp, computed, bar) | (bar <= VOUCHED_BAR * scale)))
    counts = [int(xp.sum(xp.astype(mask, xp.int32))) for mask in (wrong, undecided)]
    if first is not None and suspected and not any(counts):
        return replace(first, verdict="unresolved", points=points)  # off as a whole, by too little in any one entry
    listed = wrong if counts[0] else undecided if counts[1] else compared
    i, j = divmod(_worst(xp, off, room, listed), table.columns.size)
    status, noisy = Status(int(flags[i, j])), _is_noise(table, result, i, j, float(bar[i, j]))
    return GradientCheck(
        verdict="wrong gradient" if counts[0] else _doubt(status, noisy) if counts[1] else "right",
        entries=entries,
        wrong=counts[0],
        undecided=counts[1],
        where=table.name(i, j),
        given=_number(given[i, j]),
        computed=_number(computed[i, j]),
        difference=float(off[i, j]),
        error_bar=float(bar[i, j]),
        status=status,
        points=points,
        result=result,
    )


def _matrices(table: Table, result: DerivativeResult) -> tuple[Array, Array, Array]:
    """Values, error bars and flags."""
    trees = {"derivative": result.derivative, "error_estimate": result.error_estimate, "status": result.status}
    values, bars, flags = (table.matrix(tree, name) for name, tree in trees.items())
    return values, bars, flags


def _room(xp: Any, bar: Array, size: Array, margin: float) -> Array:
    """How far off a right entry may be."""
    return margin * bar + float(xp.finfo(bar.dtype).eps) ** ROOM * size


def _still(xp: Any, computed: Array, bar: Array) -> Array:
    """Where f does not react: a true 0, as far as f can tell."""
    return (computed == 0) & xp.isfinite(bar)


def _worst(xp: Any, off: Array, room: Array, listed: Array) -> int:
    """The flat index of what is off by most, in units of its room, among what is listed."""
    rank = off / (room + float(xp.finfo(off.dtype).smallest_normal))
    rank = xp.where(xp.isfinite(off), rank, xp.full_like(off, math.inf))
    return int(xp.argmax(xp.reshape(xp.where(listed, rank, -xp.ones_like(rank)), (-1,))))


def _is_noise(table: Table, result: DerivativeResult, row: int, column: int, bar: float) -> bool:
    """Whether the noise of f, where it is known, makes up the error bar."""
    level = result.noise_level
    if level is None or level.shape[0] != table.value.shape[0]:
        return False
    step = float(table.vector(result.step_sizes)[column])
    return step > 0 and float(level[row]) >= NOISE_SHARE * bar * step


def _doubt(status: Status, noisy: bool) -> Verdict:
    """Why nothing can be said of an entry."""
    if status & Status.KINK:
        return "kink"
    if status & Status.FAILED:
        return "unresolved"
    return "noise" if noisy or status & Status.NOISE_LIMITED else "unresolved"


def _number(entry: Any) -> float | complex:
    """A 0-d array as a Python number."""
    number = complex(entry)
    return number if number.imag else number.real
