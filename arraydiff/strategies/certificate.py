"""Whether imaginary parts carry the derivative of f at one x: the certificate of the complex step.

abs, norm, conj, float and their kin drop imaginary parts without a word.  So along one random ray the complex step must agree
with real differences, with itself at a second step, and with f(x).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from arraydiff._typing import Array, Namespace
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import FINEST, Columns, Lines, Tangents, ray, relative_step
from arraydiff.errors import BudgetSpent
from arraydiff.noise import Noise, Sight, given
from arraydiff.probe import first_sight, further
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.rows import Pieces, Rows, by_rows, cut, folded, mean_of
from arraydiff.seam import Asking, Points
from arraydiff.strategies import richardson
from arraydiff.strategies.ladder import Ladder, Witness, witness_of
from arraydiff.strategies.sighting import sighted_slope, typical_share

SECOND_STEP = 2.0  # times the first: rounding noise of a complex power does not scale with the step
SAME = 1e-12  # relative agreement of the two, in eps of float64
VALUE_SAME = 64.0  # eps by which the real part may differ from f(x)
CLEAR = 1e-3  # relative error bar that the real differences must reach, to be a witness
WITNESS_STAGES = 3  # of four points each: a witness that needs more costs as much as it saves
WITNESS_TOLERANCE = 1e-12  # by then truncation is gone, and what is left shows the noise
WITHIN = 3.0  # bars of the real differences, times 1 + log2 m: of many bars some are missed by more
# The threshold on relative disagreement grows as sqrt m, for the same reason; what drops imaginary parts is off by O(1).
RARE = 1e-3  # of the outputs: so many bars of a witness are far too small
TINY = 1e-6  # relative: what is missed there; what drops imaginary parts misses far more
ROUNDED = 2.0**14  # eps |f| / scale: a bar at the rounding of f
SMALL_SLOPE = 1e-3  # of the mean slope: outputs that move less are held to that
NOISY = 2.0**14  # eps (|f| + |x f'|): up to there the bar grows with the noise, which hides in the real part
NOISY_TOGETHER = 2.0**9  # the same for the mean size of all outputs: a residual near 0 is noisy only beside itself
BROKEN_SHARE = 1e-2  # of the outputs

CHANGES = "the real part of f changes with an imaginary step"
UNSCALED = "the imaginary part does not scale with the step, it is rounding noise"
INEXACT = "the real differences that would vouch for it are too inexact"
DROPPED = "the imaginary part does not carry the derivative along a random direction"
BROKEN = "f has a kink at x, of which imaginary parts see one side"
DROWNED = "f is noisy, which imaginary parts do not show"
FINAL = (CHANGES, UNSCALED)
"""Reasons that no better witness could mend."""


@dataclass(frozen=True)
class Evidence:
    """What the bars of complex columns need to know, in units of the scale of the line."""

    eps: float  # of f
    rounds: Array  # (m,) how many times f rounds, as it shows
    curvature: Array  # (m,)
    unseen: Array  # (m,) what the witness could not see, and by how much more than its bars it is missed
    slope: Array | None  # (m, 1) along the line itself, where no other line is wanted
    line: Tangents | None = None  # the line, where it is wanted too
    along: Array | None = None  # and the slope along it, (m, 1)


@dataclass(frozen=True)
class Certificate:
    """What one ray showed."""

    reason: str  # why it does not hold; empty where it does
    noise: Noise  # as far as it had to be known
    evidence: Evidence | None = None
    ladder: Ladder | None = None  # the witness's, to go on with where the ray is the one column that there is

    @property
    def holds(self) -> bool:
        """Whether complex columns are to be trusted."""
        return not self.reason


@dataclass(frozen=True)
class Trial:
    """Two imaginary steps along a line, to be held against themselves and against a witness."""

    config: DifferentiationConfig
    value: Array  # (m,) f(x)
    line: Lines
    at: Array  # (m, 2) complex
    step: Array  # (1,) the first one
    along: bool = False  # whether the derivative along the line is wanted too

    @property
    def problem(self) -> Problem:
        """Of the line."""
        return self.line.problem

    def judged(self, noise: Noise, witness: Callable[[Rows], Witness], ladder: Ladder | None = None) -> Certificate:
        """The verdict, by one read, on what the witness says of some outputs."""
        xp, backend = self.problem.xp, self.problem.backend
        compared = self.compared(witness)
        met = self.checks(noise, compared)
        finite = folded(operator.add, [xp.sum(xp.astype(xp.isfinite(part.base), xp.int32)) for part in compared])
        *read, count = backend.read(xp.stack([*(xp.astype(passed, xp.int32) for passed in met.values()), finite]))
        failed = [reason for reason, passed in zip(met, read, strict=True) if not passed]
        evidence = self.evidence(noise, compared) if not failed else None
        return Certificate(failed[0] if failed else "", replace(noise, finite=count), evidence, ladder)

    def compared(self, witness: Callable[[Rows], Witness]) -> Pieces[Compared]:
        """Slab by slab."""
        number = int(self.value.shape[0])

        def part(rows: Rows) -> Compared:
            return Compared(
                self.config, self.line, cut(self.value, rows), cut(self.at, rows), self.step, witness(rows), number
            )

        return Pieces(self.line.slabs(number), part)

    def checks(self, noise: Noise, compared: Pieces[Compared]) -> dict[str, Array]:
        """() bool: what has to hold, by the reason that is given where it does not."""
        means = [part.means() for part in compared]
        together = Together.of(
            self.problem.xp, [mean_of(compared.slabs, column) for column in zip(*means, strict=True)]
        )
        parts = [part.checks(noise, together) for part in compared]
        return {reason: folded(self.problem.xp.logical_and, [part[reason] for part in parts]) for reason in parts[0]}

    def evidence(self, noise: Noise, compared: Pieces[Compared]) -> Evidence:
        """What the bars of complex columns need to know."""
        parts = iter(compared)
        rounds, curvature, unseen = by_rows(
            self.problem.backend, compared.slabs, lambda _: next(parts).evidence(noise.eps)
        )
        alone, line = self.problem.n == 1, self.line
        slope = self.problem.xp.imag(self.at[:, :1]) / self.step[None, :] if alone or self.along else None
        evidence = Evidence(noise.eps, rounds, curvature, unseen, slope if alone else None)
        return replace(evidence, line=line, along=slope) if isinstance(line, Tangents) and self.along else evidence


@dataclass(frozen=True)
class Together:
    """What counts of all outputs at once."""

    reached: Array  # () root mean square of the values, or of what the slopes make of them
    witnessed: Array  # () of the slopes that the witness saw
    slope: Array  # () of those by the complex step
    shaken: Array  # () of values and what the witness's slopes make of them
    strayed: Array  # () the share of outputs whose slope is not that of the witness
    broken: Array  # () the share of those that look like kinks

    @classmethod
    def of(cls, xp: Namespace, means: Sequence[Array]) -> Together:
        """From the means of `Compared`."""
        return cls(*(xp.sqrt(mean) for mean in means[:4]), *means[4:])


@dataclass(frozen=True)
class Compared:
    """Two imaginary steps and a witness, of some of the outputs."""

    config: DifferentiationConfig
    line: Lines
    value: Array  # (m,) f(x)
    at: Array  # (m, 2) complex
    step: Array  # (1,)
    witness: Witness
    number: int  # of all outputs

    @property
    def xp(self) -> Namespace:
        """Of the line."""
        return self.line.problem.xp

    @property
    def base(self) -> Array:
        """(m, 1) f(x)."""
        return self.value[:, None]

    @cached_property
    def slope(self) -> Array:
        """(m, 1) by the first step."""
        return self.xp.imag(self.at[:, :1]) / self.step[None, :]

    @property
    def many(self) -> bool:
        """Whether there are outputs to be held to one another."""
        return self.number > 1

    def means(self) -> list[Array]:
        """() over these outputs, of what makes up `Together`."""
        sizes = (self._size, self.xp.abs(self.witness.value), self.xp.abs(self.slope), self._shaken)
        squares = [self._mean_square(size) for size in sizes]
        shares = [self.xp.mean(self.xp.astype(mask, self.value.dtype)) for mask in (~self._agreed, self._broken)]
        return squares + shares

    def checks(self, noise: Noise, together: Together) -> dict[str, Array]:
        """() bool: what has to hold, by the reason that is given where it does not."""
        xp = self.xp
        same = SAME * noise.eps / 2.2e-16
        second = xp.imag(self.at[:, 1:]) / (SECOND_STEP * self.step)[None, :]
        least = noise.eps * xp.abs(self.base) / self.line.scale
        checks = {
            CHANGES: self._astray <= noise.eps * self._allowed(together),
            UNSCALED: xp.abs(self.slope - second) <= same * xp.maximum(xp.abs(self.slope), least),
            INEXACT: self._clear(noise, together),
            DROPPED: self._carried(together),
            BROKEN: ~self._broken | (together.broken < BROKEN_SHARE),  # of thousands a few look like one by accident
            DROWNED: self._calm(noise, together),
        }
        lost = ~xp.isfinite(self.base)  # outputs that are not finite at x have no derivative to certify
        return {reason: xp.all(passed | lost) for reason, passed in checks.items()}

    def evidence(self, eps: float) -> list[Array]:
        """Rounds, curvature and what was not seen, of :class:`Evidence`."""
        xp, scale, witness = self.xp, self.line.scale, self.witness.in_units(self.line.scale)
        missed = xp.abs(self.slope - self.witness.value)
        missed = xp.where(self._agreed, xp.zeros_like(missed), missed) * scale
        slope, clear = xp.abs(witness.value), witness.error
        size = xp.abs(self.base) + slope
        rounds = xp.maximum(witness.sigma, 2 * self._astray)  # complex functions round on other paths
        rounds = rounds / (eps * xp.where(size > 0, size, xp.ones_like(size)))
        blind = xp.where(clear > CLEAR * slope, WITHIN * clear, xp.zeros_like(clear))
        parts = (xp.maximum(xp.ones_like(rounds), rounds), witness.curvature, blind + missed)
        return [part[:, 0] for part in parts]

    @cached_property
    def _astray(self) -> Array:
        """(m, 1) by how much the real part misses f(x)."""
        return self.xp.abs(self.xp.real(self.at[:, :1]) - self.base)

    @property
    def _size(self) -> Array:
        return self.xp.maximum(self.xp.abs(self.base), self.xp.abs(self.slope) * self.line.scale)

    @property
    def _shaken(self) -> Array:
        return self.xp.abs(self.base) + self.xp.abs(self.witness.value) * self.line.scale

    @property
    def _broken(self) -> Array:
        return (self.witness.status & int(Status.KINK)) != 0

    def _allowed(self, together: Together) -> Array:
        """(m, 1) in eps, what the real part may miss."""
        size = VALUE_SAME * self._size
        return (
            self._at_least(size, NOISY_TOGETHER * together.reached) if self.many else size
        )  # larger ones round inside f

    def _clear(self, noise: Noise, together: Together) -> Array:
        """The bar of the witness is small against the slope, or at the rounding of f, where no difference sees more."""
        xp, slope, error = self.xp, self.xp.abs(self.witness.value), self.witness.error
        rounding = noise.eps * xp.abs(self.base) / self.line.scale * ROUNDED
        least = SMALL_SLOPE * together.witnessed  # along one ray, some of many slopes vanish
        return (error <= CLEAR * self._at_least(slope, least)) | (error <= rounding)

    @cached_property
    def _agreed(self) -> Array:
        """(m, 1) the slope is that of the witness, within its bars."""
        xp, witness, number = self.xp, self.witness, self.number
        return xp.abs(self.slope - witness.value) <= xp.maximum(
            WITHIN * (1 + math.log2(max(number, 1))) * witness.error,
            self.config.complex_step_threshold * math.sqrt(number) * xp.abs(witness.value),
        )

    def _carried(self, together: Together) -> Array:
        """The same, or nearly so: of thousands of bars some are too small by accident."""
        xp, size = self.xp, self.xp.abs(self.slope)
        rare = together.strayed < RARE
        allowed = TINY * self._at_least(size, SMALL_SLOPE * together.slope)
        return self._agreed | (rare & (xp.abs(self.slope - self.witness.value) <= allowed))

    def _calm(self, noise: Noise, together: Together) -> Array:
        """The noise of each output is small against it, or against all of them."""
        size = NOISY * self._shaken
        return self.witness.sigma <= noise.eps * self._at_least(size, NOISY_TOGETHER * together.shaken)

    def _mean_square(self, sizes: Array) -> Array:
        """() of those that are finite."""
        xp = self.xp
        finite = xp.where(xp.isfinite(sizes), sizes, xp.zeros_like(sizes))
        return xp.mean(finite * finite)

    def _at_least(self, sizes: Array, least: Array) -> Array:
        return self.xp.maximum(sizes, self.xp.zeros_like(sizes) + least)


def certify(
    problem: Problem, config: DifferentiationConfig, value: Array, noise: Noise, along: bool = False
) -> Asking[Certificate]:
    """Whether imaginary parts carry the derivative of every output at this x; `along`: the one along its ray is kept.

    The probe's first values vouch for them where they can; where they cannot, the probe goes on, and the ray's ladder comes last.
    """
    refused = refused_beforehand(problem, config) if value.shape[0] else "f has no outputs"
    if refused or noise.drowned:
        return Certificate(refused or DROWNED, noise)
    if noise.pending is not None and not noise.pending.calm:
        noise = yield from further(problem, value, noise)
        if noise.drowned:
            return Certificate(DROWNED, noise)
    problem = replace(problem, step=None)
    line = _line(problem)
    trial = yield from tried(config, value, line)
    if isinstance(trial, Exception):
        return Certificate(_told(trial), noise)
    trial = replace(trial, along=along)
    while isinstance(line, Tangents) and noise.sight is not None:
        certificate = trial.judged(noise, _seeing(line, noise.sight))
        if certificate.holds or certificate.reason in FINAL:
            return certificate
        if noise.pending is None:
            break
        noise = yield from further(problem, value, noise)
    noise = replace(noise, sight=None)  # it has served
    heard = noise if problem.n == 1 else replace(noise, asks=False)
    finished, ladder = yield from richardson.ladders(line, witnessing(problem, config), value, heard, ending=witness_of)
    assert isinstance(finished, Witness)
    return trial.judged(noise, finished.cut, ladder if problem.n == 1 else None)


def certifying(problem: Problem, config: DifferentiationConfig) -> Points:
    """The complex points that are tried first."""
    points: Points = next(tried(config, problem.x, _line(replace(problem, step=None))))
    return points


def vouching(problem: Problem, config: DifferentiationConfig) -> Points:
    """The real points that vouch for them first, where the probe's cannot."""
    return richardson.scouting(_line(replace(problem, step=None)), witnessing(problem, config))


def _line(problem: Problem) -> Lines:
    return ray(problem) if problem.n > 1 else Columns(problem, (0,))


def _seeing(line: Tangents, sight: Sight) -> Callable[[Rows], Witness]:
    """What the probe's values say of some outputs."""
    typical = typical_share(line.problem, sight)
    return lambda rows: sighted_slope(line.problem, line, sight.cut(rows), typical)


def unread(problem: Problem, config: DifferentiationConfig) -> Asking[tuple[Array, Certificate, Array]]:
    """f(x), its certificate where nothing can be read, and () bool whether that holds."""
    value, noise = yield from first_sight(problem, config, always=True)
    assert noise.sight is not None
    problem = replace(problem, step=None)
    line = ray(problem)
    trial = yield from tried(config, value, line)
    if isinstance(trial, Exception):
        raise trial
    compared = trial.compared(_seeing(line, noise.sight))
    held = problem.xp.all(problem.xp.stack(list(trial.checks(noise, compared).values())))
    return value, Certificate("", noise, trial.evidence(noise, compared)), held


def tried(config: DifferentiationConfig, value: Array, line: Lines) -> Asking[Trial | Exception]:
    """Two imaginary steps along a line, or why f does not take them."""
    xp, step = line.problem.xp, relative_step(line.problem) * line.scale
    values = yield line.points(xp.stack([step, SECOND_STEP * step]), turn=1j)
    return Trial(config, value, line, values.at, step) if values.failure is None else values.failure


def refused_beforehand(problem: Problem, config: DifferentiationConfig) -> str:
    """Why complex points are not tried, or nothing."""
    if problem.complex_refused:
        return problem.complex_refused
    if config.opaque:
        return "opaque=True: f sees real numbers only"
    if given(config):
        return "f is noisy (noise= says so), which imaginary parts do not show"
    return ""


def witnessing(problem: Problem, config: DifferentiationConfig) -> DifferentiationConfig:
    """The options of the ray's ladder: no limits that are meant for single parameters."""
    fine = problem.eps < FINEST  # more digits take more rungs
    stages = config.max_iterations if fine else min(config.max_iterations, WITNESS_STAGES)
    tolerance = None if fine else WITNESS_TOLERANCE
    config = replace(config, error_tolerance=tolerance, max_iterations=stages, confidence=0.95)
    return config if problem.n == 1 else replace(config, min_step=None, max_step=None)


def _told(failure: Exception) -> str:
    if isinstance(failure, BudgetSpent):
        return str(failure)
    return f"f does not take complex numbers ({type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''})"
