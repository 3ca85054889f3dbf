"""The noise level of f: what rounding alone makes, and what a user knows."""

from __future__ import annotations

from dataclasses import dataclass

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig
from arraydiff.problem import Problem
from arraydiff.seam import Values

ROUNDING_LOW = 0.2
"""Least noise ever assumed, in eps |f|: a sum of a few correctly rounded terms."""

ROUNDING_HIGH = 2.0
"""Noise up to this many eps (|f| + |x f'|) is taken for rounding."""

ABOVE_ROUNDING = 16.0
"""A given level beyond this many eps |f| is real noise: steps are planned for it."""


@dataclass(frozen=True)
class Noise:
    """What is known of the noise of f at x."""

    eps: float  # of the dtype that f computes in, as far as that shows
    known: Array | None  # (m,) absolute, where the user or an inner derivative says so
    measured: bool  # whether noise above rounding may be looked for in the values


def noise_at(problem: Problem, config: DifferentiationConfig, first: Values) -> Noise:
    """The noise of f as far as config, dtype and an inner derivative tell it; the first point of `first` is x."""
    xp, value = problem.xp, first.at[:, 0]
    inner = None if first.noise is None else first.noise[:, 0]
    eps = max(problem.eps, float(xp.finfo(value.dtype).eps))
    if inner is not None:
        return Noise(eps, xp.maximum(inner, ROUNDING_LOW * eps * xp.abs(value)), measured=False)
    if isinstance(config.noise, int | float):
        return Noise(
            eps, xp.maximum(xp.full_like(value, float(config.noise)), ROUNDING_LOW * eps * xp.abs(value)), False
        )
    return Noise(eps, None, measured=config.noise == "auto")
