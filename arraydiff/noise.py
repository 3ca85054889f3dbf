"""The noise level of f, as far as it is known: given by the user, carried by an inner derivative, or measured (`probe`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arraydiff._typing import Array, Namespace, PyTree
from arraydiff.arguments import layout_of, ravel
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import FINEST, Lines
from arraydiff.problem import Problem
from arraydiff.rows import Rows, cut, cut_or_none
from arraydiff.seam import Values

if TYPE_CHECKING:
    from arraydiff.probe import Probe

ROUNDING_LOW = 0.2
"""Least noise ever assumed, in eps |f|: a sum of a few correctly rounded terms."""

ROUNDING_HIGH = 2.0
"""Noise up to this many eps (|f| + |x f'|) is taken for rounding."""

ABOVE_ROUNDING = 16.0
"""A level beyond this many eps |f| is real noise: steps are planned for it."""

FLOOR = 0.5
"""Times what the probe saw of a quiet output: rounding is coarse, and a handful of values may agree by accident."""

CEILING = 4.0
"""Times what the probe saw of a quiet output: more cannot be its noise."""


@dataclass(frozen=True)
class Sight:
    """Values of f on the probe's line."""

    spacing: float
    nodes: tuple[float, ...]
    at: Array  # (m, 1 + nodes): at x, and at the nodes times the spacing; (m, nodes) where the former is apart
    residual: Array  # (m,) what no low polynomial explains of them
    origin: Array | None = None  # (m,) at x

    def cut(self, rows: Rows) -> Sight:
        """The values of some outputs."""
        if rows is None:
            return self
        return replace(
            self, at=cut(self.at, rows), residual=cut(self.residual, rows), origin=cut_or_none(self.origin, rows)
        )

    def values(self, xp: Namespace) -> Array:
        """(m, 1 + nodes) at x and at the nodes."""
        return self.at if self.origin is None else xp.concat([self.origin[:, None], self.at], axis=1)


@dataclass(frozen=True)
class Noise:
    """What is known of the noise of f at x."""

    eps: float  # of the dtype that f computes in, as far as that shows
    known: Array | None  # (m,) absolute standard deviation; NaN where it has to be read off the ladder
    measured: bool  # whether more may be learnt of it from the values
    loud: bool = False  # it lies above rounding: steps are planned for it from the first
    drowned: bool = False  # so far above that imaginary parts, which do not show it, are not to be trusted
    probed: bool = False  # known from a handful of values: the lines refine it
    asks: bool = False  # no probe yet: scouts that look noisy send one out
    sight: Sight | None = None  # the values that the probe saw last
    pending: Probe | None = None  # a probe that could not tell yet
    finite: int | None = None  # outputs at x, where the probe counted them
    ceiling: Array | None = None  # (m,) what the probe leaves room for, inf where it told nothing
    floor: Array | None = None  # (m,) what it saw, 0 where it told nothing

    def beside(self, lines: Lines) -> Noise:
        """The levels as they stand beside f(x) on these lines."""
        parts = (self.known, self.ceiling, self.floor)
        known, ceiling, floor = (None if part is None else lines.at_x(part) for part in parts)
        return replace(self, known=known, ceiling=ceiling, floor=floor)

    @property
    def scatter(self) -> tuple[float, Array] | None:
        """A number times (m,): what the probe saw of quiet outputs, inf where it told nothing; None: no probe."""
        return None if self.ceiling is None else (1 / CEILING, self.ceiling)

    @property
    def lasting(self) -> Noise:
        """What chunks need to know: not the values that told it."""
        return replace(self, sight=None, pending=None)


def given(config: DifferentiationConfig) -> bool:
    """Whether the user says how large the noise is, and that it is not 0."""
    if isinstance(config.noise, int | float):
        return config.noise > 0
    return config.noise is not None and not isinstance(config.noise, str)


def noise_at(problem: Problem, config: DifferentiationConfig, first: Values) -> Noise:
    """The noise of f as far as config, dtype and an inner derivative tell it; the first point of `first` is x."""
    xp, value = problem.xp, first.at[:, 0]
    inner = None if first.noise is None else first.noise[:, 0]
    eps = problem.eps_of(value)
    least = ROUNDING_LOW * eps * xp.abs(value)
    if inner is not None:
        return Noise(eps, xp.maximum(inner, least), measured=False)
    if given(config):
        return Noise(eps, xp.maximum(_as_given(problem, config.noise, value), least), measured=False, loud=True)
    exact = not isinstance(config.noise, str)
    ceiling = CEILING * eps * xp.abs(value) if exact else None
    return Noise(eps, None, measured=True, asks=may_probe(problem, config), ceiling=ceiling)


def may_probe(problem: Problem, config: DifferentiationConfig) -> bool:
    """Whether noise is to be measured, points may go where the probe's go, and its polynomials are as fine as f."""
    return (
        problem.eps >= FINEST and isinstance(config.noise, str) and config.min_step is None and config.max_step is None
    )


def _as_given(problem: Problem, level: PyTree, value: Array) -> Array:
    """(m,) the level of a number, an array of the structure of f(x), or a callable of f's arguments."""
    backend, xp = problem.backend, problem.xp
    if callable(level):
        call = replace(problem.call, fun=level, has_aux=False, batch_axis=None, cotangent=None)
        flat = call(backend.copy(problem.x)).values
    elif isinstance(level, int | float):
        return xp.full_like(value, float(level))
    else:
        layout, leaves = layout_of(backend, level)
        flat = ravel(backend, layout.leaves, leaves, value.dtype)
    if flat.shape[0] not in (1, value.shape[0]):
        raise ValueError(
            f"noise wants one level, or one for each of the {value.shape[0]} outputs of f, got {flat.shape[0]}"
        )
    sound = xp.isfinite(flat) & (flat >= 0)
    if backend.deferred:
        return xp.where(sound, xp.astype(flat, value.dtype), xp.full_like(value, float("inf")))
    (bad,) = backend.counts(~sound)
    if bad:
        raise ValueError(
            f"noise wants finite levels >= 0, but {bad} of {flat.shape[0]} are not: say None where f is exact"
        )
    return xp.astype(flat, value.dtype) + xp.zeros_like(value)
