"""The noise level of a function, for those who want to know it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from arraydiff import assembly
from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Argnums
from arraydiff.binding import Asked, Rules, bind
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import FINEST, AtX
from arraydiff.evaluator import Evaluator
from arraydiff.noise import noise_at
from arraydiff.options import config_of
from arraydiff.probe import Probe, probed
from arraydiff.problem import Problem
from arraydiff.seam import Asking

__all__ = ["NoiseEstimate", "estimate_noise"]

OUTER = 1.96
"""Of a normal variable: 95 % lie within."""


@dataclass(frozen=True)
class NoiseEstimate:
    """The noise of a function at x.

    Attributes
    ----------
    level : structure and shapes of f(x)
        Standard deviation of the noise of each output, absolute; NaN where f changes too fast to tell.
    reliability : structure and shapes of f(x)
        A factor: in 95 % of cases the true level lies between ``level / reliability`` and ``level * reliability``, were the
        noise normal. Infinite where nothing could be told.
    above_rounding : structure and shapes of f(x), bool
        Whether the level is more than rounding explains.
    function_points : int
        Points at which f was evaluated.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> arraydiff.estimate_noise(lambda x: np.sum(np.sin(x)), np.ones(2)).function_points
    13
    """

    level: PyTree
    reliability: PyTree
    above_rounding: PyTree
    function_points: int


def estimate_noise(
    fun: Callable[..., Any],
    x: PyTree,
    *args: Any,
    argnums: Any = 0,
    config: DifferentiationConfig | None = None,
    **options: Any,
) -> NoiseEstimate:
    """How much a function scatters about the smooth function that it stands for: rounding, simulation, unfinished iterations.

    The level is what polynomials of low degree do not explain of f along two random rays through x, at spacings of 1e-3 of
    the size of x and, unless that shows rounding alone, at smaller ones: noise does not fall as the points draw together.

    Parameters
    ----------
    fun : callable
        As in :func:`jacobian`; it is called as ``fun(x, *args)``.
    x : array, float or a structure of them
        Where.
    *args
        Further arguments of `fun`.
    argnums : int or tuple of ints, default 0
        Which arguments are moved.
    config, **options
        As in :func:`grad`: ``scale``, ``bounds``, ``vectorized``, ``workers`` and ``max_evaluations`` count here.

    Returns
    -------
    NoiseEstimate
        Level and reliability of each output, in the structure of f(x); give ``noise=estimate.level`` to a derivative.

    Notes
    -----
    13 points where f is exact to rounding, 25 where it is noisy. After ECnoise [1]_, with irregular spacing, because equal
    spacing takes a fast wave for a slow one. An iteration that stops early is often smooth, and slightly wrong: no look at its
    values finds that.

    References
    ----------
    .. [1] J. J. Moré and S. M. Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33 (2011) 1292.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> rng = np.random.default_rng(0)
    >>> found = arraydiff.estimate_noise(lambda x: np.sum(x**2) + 1e-6 * rng.standard_normal(), np.ones(3))
    >>> bool(2e-7 < found.level < 5e-6), bool(found.above_rounding)
    (True, True)
    """
    chosen = config_of(config, options, "estimate_noise")
    bound = bind(Asked(fun, (x, *args), {}, Argnums.of(argnums), chosen, Rules("estimate_noise", complex_inputs=True)))
    problem, evaluator = bound.problem, Evaluator(bound.problem, chosen)
    with problem.backend.on_device(), problem.backend.quietly():
        ((one, two),) = evaluator.run([_twice(problem, chosen)])
        level, reliability, noisy = _together(problem, one, two)
    outputs = evaluator.base.layout
    shaped = [assembly.vector(problem.backend, outputs, flat, flat.dtype) for flat in (level, reliability, noisy)]
    level, reliability, noisy = shaped
    return NoiseEstimate(level, reliability, noisy, evaluator.points)


def _twice(problem: Problem, config: DifferentiationConfig) -> Asking[tuple[Probe, Probe]]:
    if problem.eps < FINEST:
        raise ValueError(
            "estimate_noise: x has more digits than float64, and the polynomials that noise is told by are float64; "
            "give noise= to the derivative if you know it"
        )
    values = yield AtX(problem)
    value, eps = values.at[:, 0], noise_at(problem, config, values).eps
    one = yield from probed(problem, value, eps)
    two = yield from probed(problem, value, eps, another=True)
    return one, two


def _together(problem: Problem, one: Probe, two: Probe) -> tuple[Array, Array, Array]:
    """Level, reliability and whether it is above rounding, by the degrees of freedom of both rays."""
    xp = problem.xp
    freedom = one.freedom + two.freedom
    known = freedom > 0
    number = xp.where(known, freedom, xp.ones_like(freedom))
    squares = sum(
        xp.where(probe.freedom > 0, probe.freedom * probe.level**2, xp.zeros_like(freedom)) for probe in (one, two)
    )
    level = xp.where(known, xp.sqrt(squares / number), xp.full_like(number, float("nan")))
    spread = 2 / (9 * number)  # Wilson & Hilferty, PNAS 17 (1931) 684: chi square as a cube of a normal variable
    reliability = (1 - spread - OUTER * xp.sqrt(spread)) ** -1.5
    reliability = xp.where(known, reliability, xp.full_like(number, float("inf")))
    return level, reliability, one.noisy | two.noisy
