"""Ask and tell: a derivative whose points are evaluated by somebody else, somewhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from arraydiff._typing import Array
from arraydiff.engine import derivation
from arraydiff.evaluator import Evaluator
from arraydiff.problem import Answer
from arraydiff.rounds import Round
from arraydiff.seam import Points, Task

if TYPE_CHECKING:
    from arraydiff.binding import Bound
    from arraydiff.callables import Transform


def stepping(transform: Transform, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stepper:
    """A stepper for the derivative at the x among these arguments, its first points ready."""
    config = transform.options.config
    if config.vectorized is not False or config.devices is not None:
        raise ValueError(
            "a stepper asks for points one by one, to be evaluated anywhere: leave vectorized and devices out"
        )
    bound = transform._bind(args, kwargs)
    if bound.problem.call.measured:
        raise ValueError(
            f"{transform.title} is a derivative of a derivative, and its points are not points of f: call the stepper "
            "of the inner one, as in grad(f).stepper(x)"
        )
    if bound.problem.backend.deferred:
        raise ValueError("there are no values to tell inside jax.jit or on lazy arrays: leave the stepper out there")
    return Stepper(transform, bound)


class Stepper:
    """A derivative at one x, a round at a time; what ``g.stepper(x)`` gives.

    ``ask()`` gives the points of a round, each as f would receive it: an array of the structure of the differentiated
    argument, a tuple of them where there are several. ``tell(values)`` takes what f gives there, in that order, an exception
    where it failed. Once ``ask()`` gives no more, ``result()`` is there.

    Points may be complex: give what f gives there, and a TypeError where it takes no complex numbers.  With ``store=`` they are
    asked for once; with ``workers=200``, as many may be evaluated at a time, and fewer rounds are asked.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> f = lambda x: np.sum(np.sin(x))
    >>> stepper = arraydiff.grad(f).stepper(np.array([0.5, 1.0]))
    >>> while points := stepper.ask():
    ...     stepper.tell([f(point) for point in points])
    >>> np.allclose(stepper.result().gradient, np.cos([0.5, 1.0]), rtol=1e-14)
    True
    """

    def __init__(self, transform: Transform, bound: Bound) -> None:
        self._transform, self._bound = transform, bound
        problem, config = bound.problem, transform.options.config
        self._backend = problem.backend
        problem = replace(problem, trace_refused="its points are evaluated elsewhere")
        self._evaluator = Evaluator(problem, config, transform._check_output)
        self._rounds = derivation(problem, config, transform._wanted(bound), self._evaluator)
        self._derivative: Any = None
        self._failure: Exception | None = None
        self._wanted: list[Points] = []
        self._round: Round | None = None
        self._advance(None)

    def __repr__(self) -> str:
        state = "done" if self._round is None else f"{len(self._round.tasks)} points wait for their values"
        state = state if self._failure is None else "failed"
        return f"<stepper of {self._transform!r}: {state}>"

    def ask(self) -> list[Any]:
        """The points whose values are wanted next; the same ones until they are told. None are left in the end."""
        self._check()
        tasks = [] if self._round is None else self._round.tasks
        return [self._shown(self._evaluator.sent.point(task)) for task in tasks]

    def tell(self, values: Sequence[Any]) -> None:
        """What f gave at the points asked for, in their order; an exception where it failed.

        Raises
        ------
        ValueError
            Nothing was asked for, or there is not one value a point.
        TypeError
            A value that is no output of f.
        """
        self._check()
        if self._round is None:
            raise ValueError("nothing is asked for: the derivative is done, take result()")
        given = list(values)
        if len(given) != len(self._round.tasks):
            raise ValueError(f"tell takes one value a point, {len(self._round.tasks)} in all, got {len(given)}")
        with self._backend.on_device(), self._backend.quietly():
            answers = [self._answer(*pair) for pair in zip(self._round.tasks, given, strict=True)]
            self._evaluator.check_shapes(answers)
            for k, answer in enumerate(answers):
                self._round.keep(k, answer)
            if self._evaluator.kept is not None:
                self._evaluator.kept.settle()
        self._advance(self._round)

    def result(self) -> Any:
        """The derivative with error bars, flags and costs, as ``g.result(x)`` gives it.

        Raises
        ------
        ValueError
            Points still wait for their values.
        """
        self._check()
        if self._derivative is None:
            raise ValueError("the derivative is not done: call ask() and tell() until ask() gives nothing")
        return self._transform._given(self._bound, self._derivative, full_output=True)

    def _check(self) -> None:
        if self._failure is not None:
            raise ValueError("the derivative failed: call stepper(x) anew") from self._failure

    def _advance(self, done: Round | None) -> None:
        """To the next round for which values are missing."""
        try:
            self._go_on(done)
        except Exception as error:
            self._failure = error
            raise

    def _go_on(self, done: Round | None) -> None:
        evaluator, self._round = self._evaluator, None
        with self._backend.on_device(), self._backend.quietly():
            given = None if done is None else evaluator.finish(self._wanted, done.close())
            while True:
                try:
                    self._wanted = self._rounds.send(given)  # type: ignore[arg-type]
                except StopIteration as finished:
                    self._derivative = finished.value
                    break
                answers = evaluator.refused(self._wanted)
                if answers is None:
                    asked = Round(evaluator, self._wanted, evaluator.begin(self._wanted))
                    if asked.tasks:
                        self._round = asked
                        return
                    answers = asked.close()
                given = evaluator.finish(self._wanted, answers)
        evaluator.close()
        if evaluator.progress is not None:
            evaluator.progress.close()
        self._transform._noted(self._bound, self._derivative)

    def _shown(self, point: Array) -> Any:
        call = self._evaluator.call
        with self._backend.on_device():
            args, kwargs = call._arguments(self._backend.copy(point))
        values = tuple(kwargs[place] if isinstance(place, str) else args[place] for place in call.places)
        return values[0] if call.single else values

    def _answer(self, task: Task, value: Any) -> Answer:
        evaluator = self._evaluator
        return value if isinstance(value, Exception) else evaluator.call.given(value, evaluator.sent.point(task))
