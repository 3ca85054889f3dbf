"""Second derivatives from second differences along lines, and along the lines between them.

Good for Hessians, their diagonals and blocks: with two rungs 2 n (n + 1) points, complex ones where f is certified to be
analytic, and further rungs where a bar is worth them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Lines
from arraydiff.noise import CEILING, Noise, may_probe
from arraydiff.probe import first_sight, further
from arraydiff.problem import Problem
from arraydiff.seam import Asking, Prepared
from arraydiff.strategies.along import lines_alone
from arraydiff.strategies.between import pairs
from arraydiff.strategies.bows import CENTRAL, CROSSED, CROSSED_SIDED, SIDED, Levels
from arraydiff.strategies.certificate import Certificate, certify
from arraydiff.strategies.richardson import bar_factor
from arraydiff.strategies.surveying import View

QUIET = 0.5  # eps |f|: noise that is assumed at least
UNHEARD = 2.0  # eps |f|: noise that is assumed where the probe told nothing
ARRAYS = 40  # (m,) of numbers that one more pair holds


@dataclass(frozen=True)
class SecondOrder:
    """The strategy, for a frame of lines whose second derivatives, and those of pairs of them, are wanted."""

    frame: Callable[[Problem], Lines]
    gradient: bool = False  # whether first derivatives along all lines are wanted beside them
    beside: Callable[[Problem], Lines] | None = None  # further lines, of which no pairs are made

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """F(x), its noise, whether imaginary parts are to be trusted, and all lines by themselves."""
        value, noise = yield from first_sight(problem, config, always=may_probe(problem, config))
        return (yield from self.after(problem, config, value, noise))

    def after(self, problem: Problem, config: DifferentiationConfig, value: Array, noise: Noise) -> Asking[Prepared]:
        """The same, once f(x) and first values of a probe are there."""
        method, certificate, notes = DifferentiationMethod.RICHARDSON, None, tuple[str, ...]()
        if config.method is not DifferentiationMethod.RICHARDSON:
            certificate = yield from certify(problem, config, value, noise)
            noise = certificate.noise
        held = certificate is not None and certificate.holds
        if held:
            method = DifferentiationMethod.COMPLEX_STEP
        else:
            noise = yield from further(problem, value, noise)
        asked = config.method is DifferentiationMethod.COMPLEX_STEP and not held
        reason = "" if certificate is None else certificate.reason
        if asked:
            notes = (f"the complex step is not certified: {reason}; the values are real differences",)
        views = _views(problem, config, value, noise, certificate if held else None)
        evidence = certificate.evidence if certificate is not None and held else None
        alone = yield from lines_alone(self.frame(problem), views, evidence, asked, slopes=self.gradient)
        single = yield from alone.with_diagonal()
        prepared = Prepared(
            method, value, partial(pairs, single=single), reason, noise.known, notes, noise.finite, ARRAYS
        )
        first = single.slopes() if self.gradient or (evidence is None and self.beside is not None) else None
        prepared = replace(prepared, second=single.diagonal, first=first)
        if self.beside is None:
            return prepared
        other = yield from lines_alone(self.beside(problem), views, evidence, asked, slopes=self.gradient)
        other = yield from other.with_diagonal()
        along = other.slopes() if self.gradient or evidence is None else None
        return replace(prepared, beside=other.diagonal, beside_first=along)


def _views(
    problem: Problem, config: DifferentiationConfig, value: Array, noise: Noise, certificate: Certificate | None
) -> tuple[View, View]:
    """How lines with room on both sides are looked at, and how the others."""
    xp, base = problem.xp, value[:, None]
    size = xp.abs(base)
    size = xp.where(xp.isfinite(size) & (size > 0), size, xp.ones_like(size))
    real = level_of(problem, value, noise)[:, None]
    share = xp.full_like(real, noise.eps)
    if certificate is not None and certificate.evidence is not None:
        share = noise.eps * certificate.evidence.rounds[:, None]
        share = xp.where(xp.isfinite(share), share, xp.full_like(share, noise.eps))  # of outputs that are not finite
        real = xp.maximum(real, share * xp.abs(base))
    levels, widen = Levels(real, QUIET * noise.eps, share), bar_factor(config.confidence)
    schemes = (CENTRAL, SIDED) if certificate is None else (CROSSED, CROSSED_SIDED)
    first, second = (View(scheme, config, base, size, levels, noise.eps, widen) for scheme in schemes)
    return first, second


def level_of(problem: Problem, value: Array, noise: Noise) -> Array:
    """(m,) the noise of a value."""
    xp, rounding = problem.xp, noise.eps * problem.xp.abs(value)
    level = UNHEARD * rounding
    if noise.ceiling is not None:
        level = xp.where(xp.isfinite(noise.ceiling), xp.maximum(noise.ceiling / CEILING, QUIET * rounding), level)
    if noise.known is not None:
        level = xp.where(xp.isfinite(noise.known), noise.known, level)
    return level
