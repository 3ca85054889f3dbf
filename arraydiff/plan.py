"""A plan: what one x teaches about a function, kept for the gradients at others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from arraydiff.backends import bits_of
from arraydiff.config import DifferentiationMethod
from arraydiff.engine import Derivative, Wanted, differentiate
from arraydiff.evaluator import Evaluator
from arraydiff.record import active_records
from arraydiff.seam import Prepared
from arraydiff.strategies.adaptive import not_tried
from arraydiff.strategies.exact import attempt
from arraydiff.strategies.frozen import STALE, Frozen, Learnt, learn, scheme_for
from arraydiff.telling import add_to

if TYPE_CHECKING:
    from arraydiff.binding import Bound
    from arraydiff.callables import Transform
    from arraydiff.result import DerivativeResult

__all__ = ["Plan"]

REPEATED = 16
"""At one x of so many a derivative that is followed is held to plain f."""

OLD = "the plan is stale: f changes over less than a quarter of the lengths that it was learnt with; p.refresh(x) learns anew"


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """A gradient or Jacobian for the x of a fit, as ``g.plan(x0)`` learnt to make it.

    ``p(x)`` is bare like ``g(x)``. Of code that can be followed it is exact, and held to plain f at one x of 16: f is called once
    at the others. Else its steps are those of x0, and it costs n + 1 points (forward differences, where those hold
    ``error_tolerance``) or 2n + 1 (central ones), f(x) among them.  It is a function of x alone: nothing is carried from call to
    call, and threads may share it.  It can be pickled where f can.

    Attributes
    ----------
    transform : callable
        What made it: f, the options, and the form of the answers.
    points_learnt : int
        Points that learning took.

    Notes
    -----
    A bare call warns where f fails, and of nothing else: bars cost two points, so ``p.result(x)`` has them.  They rest on
    noise and lengths as they were learnt and on how f bends along one ray at x.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> def cost(x):
    ...     return np.sum((x[1:] - x[:-1] ** 2) ** 2) + np.sum((1 - x) ** 2)
    >>> x = np.full(5, 0.9)
    >>> for options in ({}, {"trace": False}):
    ...     p = arraydiff.grad(cost, **options).plan(np.full(5, 0.5))
    ...     assert np.allclose(p(x), arraydiff.grad(cost)(x), rtol=1e-8)
    ...     print(p.method, p.result(x).function_points, p.stale(x))
    exact 4 False
    central 13 False
    """

    transform: Transform
    learnt: Learnt | None  # None: it is followed
    points_learnt: int

    def __repr__(self) -> str:
        return f"<plan of {self.transform!r}: {self.method.value}, learnt at {self.points_learnt} points>"

    @property
    def _known(self) -> Learnt:
        assert self.learnt is not None
        return self.learnt

    @property
    def method(self) -> DifferentiationMethod:
        """Exact, or forward or central differences."""
        return self._known.scheme.method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The derivative as bare arrays, in the form that the transform gives it."""
        bound, derivative = self._run(args, kwargs, Frozen(self._known, checked=self.transform.options.full_output))
        return self.transform._given(bound, derivative, self.transform.options.full_output)

    def result(self, *args: Any, **kwargs: Any) -> DerivativeResult:
        """The derivative with error bars, flags and costs, at two points more; its warnings say where the plan is stale."""
        frozen = Frozen(self._known)
        bound, derivative = self._run(args, kwargs, frozen)
        result: DerivativeResult = self.transform._given(bound, derivative, full_output=True)
        return replace(result, warnings=[OLD, *result.warnings]) if self._is_old(bound, frozen) else result

    measure = result
    """What an outer derivative needs of this one."""

    def stale(self, *args: Any, **kwargs: Any) -> bool:
        """Whether f changes over less than the lengths that were learnt, seen along one ray; costs as much as `result`."""
        frozen = Frozen(self._known)
        bound, _ = self._run(args, kwargs, frozen)
        return self._is_old(bound, frozen)

    def refresh(self, *args: Any, **kwargs: Any) -> Plan:
        """A new plan, learnt here."""
        return planned(self.transform, args, kwargs)

    def _is_old(self, bound: Bound, frozen: Frozen) -> bool:
        xp = bound.problem.xp
        with bound.problem.backend.on_device(), bound.problem.backend.quietly():
            old = [xp.reshape(xp.astype(length < STALE, xp.int8), (1,)) for length in frozen.shortest]
            return any(code for part in old for code in bound.problem.backend.read(part))

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any], frozen: Frozen) -> tuple[Bound, Derivative]:
        transform = self.transform
        bound = transform._bind(args, kwargs)
        if bound.problem.n != int(self._known.steps.shape[0]):
            raise ValueError(
                f"the plan was learnt for {self._known.steps.shape[0]} parameters, but x has {bound.problem.n}: call plan(x) anew"
            )
        config = replace(transform.options.config, chunk_size=max(bound.problem.n, 1))
        with bound.problem.backend.on_device(), bound.problem.backend.quietly():
            wanted = Wanted(transform._index(bound), strategy=frozen)
            derivative = differentiate(bound.problem, config, wanted, transform._check_output)
        for total in active_records():
            add_to(total, derivative)
        return bound, derivative


class FollowedPlan(Plan):
    """The same of code that is followed: nothing is learnt but that it can be."""

    @property
    def method(self) -> DifferentiationMethod:
        """Exact."""
        return DifferentiationMethod.EXACT

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The derivative as bare arrays, held to plain f now and then: where the bits of x say so."""
        return (self.transform if self._is_due(args, kwargs) else self.transform.unchecked)(*args, **kwargs)

    def result(self, *args: Any, **kwargs: Any) -> DerivativeResult:
        """As that of the transform."""
        result: DerivativeResult = self.transform.result(*args, **kwargs)
        return result

    measure = result

    def stale(self, *args: Any, **kwargs: Any) -> bool:
        """Never: nothing was learnt that could be."""
        return False

    def _is_due(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        return sum(bits_of(leaf) for leaf in self.transform._asked(args, kwargs).leaves) % REPEATED == 0


def planned(transform: Transform, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    """A plan learnt at the x among these arguments."""
    config = transform.options.config
    if config.method is not DifferentiationMethod.EXACT:
        scheme_for(config)
    if transform.elementwise:
        raise ValueError(
            f"{transform.title} has no plan: it takes a few calls whatever the size of x; call it as it is"
        )
    if transform.options.linear is not None:
        raise ValueError(f"{transform.title} with linear= has no plan: leave linear out, or call it as it is")
    bound = transform._bind(args, kwargs)
    if bound.problem.call.measured:
        raise ValueError(
            f"{transform.title} of a derivative has no plan: plan the derivative inside and differentiate it, as in "
            "jacobian(grad(f).plan(x))"
        )
    evaluator = Evaluator(bound.problem, config, transform._check_output)
    if config.follows and bound.index and bound.problem.backend.host is None and not not_tried(bound.problem, config):
        with bound.problem.backend.on_device(), bound.problem.backend.quietly():
            (found,) = evaluator.run([attempt(bound.problem.asked(len(bound.index), bars=False), config)])
        if isinstance(found, Prepared):
            return FollowedPlan(transform, None, evaluator.points)
        if config.method is DifferentiationMethod.EXACT:
            found.refused()
    with bound.problem.backend.on_device(), bound.problem.backend.quietly():
        (learnt,) = evaluator.run([learn(bound.problem, config, transform._index(bound))])
    return Plan(transform, learnt, evaluator.points)
