"""Whether imaginary parts carry the derivative of f at one x: the certificate of the complex step.

abs, norm, conj, float and their kin drop imaginary parts without a word.  So along one random ray the complex step must agree
with real differences, with itself at a second step, and with f(x).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig
from arraydiff.directions import Columns, Lines, Tangents, ray
from arraydiff.errors import BudgetSpent
from arraydiff.noise import FINEST, Noise, given
from arraydiff.probe import first_sight, further
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.seam import Asking
from arraydiff.strategies import richardson
from arraydiff.strategies.ladder import Finished, Ladder
from arraydiff.strategies.sighting import sighted_slope

RELATIVE_STEP = {
    52: 1e-20,
    0: 1e-15,
}  # squared far below eps, so that nothing is truncated; not so small that it underflows
FINER_STEP = 1.25  # the power of eps that does the same for numbers of more digits, which have no underflow
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

    witness: Finished
    astray: Array  # (m, 1) by how much the real part misses f(x)
    missed: Array  # (m, 1) by how much more than its bars the witness is missed
    slope: Array  # (m, 1) along the line itself


@dataclass(frozen=True)
class Certificate:
    """What one ray showed."""

    reason: str  # why it does not hold; empty where it does
    noise: Noise  # as far as it had to be known
    evidence: Evidence | None = None
    ladder: Ladder | None = None  # the witness's, to go on with

    @property
    def holds(self) -> bool:
        """Whether complex columns are to be trusted."""
        return not self.reason

    def alone(self, problem: Problem) -> Ladder | None:
        """The witness's ladder where the ray is the one column that there is."""
        return self.ladder if problem.n == 1 else None


@dataclass(frozen=True)
class Trial:
    """Two imaginary steps along a line, to be held against themselves and against a witness."""

    config: DifferentiationConfig
    value: Array  # (m,) f(x)
    line: Lines
    real: Array  # (m, 1) real part at the first step
    slope: Array  # (m, 1) by the first
    second: Array  # (m, 1) by the second

    @property
    def problem(self) -> Problem:
        """Of the line."""
        return self.line.problem

    @property
    def base(self) -> Array:
        """(m, 1) f(x)."""
        return self.value[:, None]

    @property
    def many(self) -> bool:
        """Whether there are outputs to be held to one another."""
        return int(self.value.shape[0]) > 1

    def judged(self, noise: Noise, witness: Finished, ladder: Ladder | None = None) -> Certificate:
        """The verdict, by one read."""
        xp, met = self.problem.xp, self.checks(noise, witness)
        counted = [xp.sum(xp.astype(mask, xp.int32)) for mask in (*met.values(), xp.isfinite(self.value))]
        *read, count = self.problem.backend.read(xp.stack(counted))
        failed = [reason for reason, passed in zip(met, read, strict=True) if not passed]
        return Certificate(failed[0] if failed else "", replace(noise, finite=count), self.evidence(witness), ladder)

    def evidence(self, witness: Finished) -> Evidence:
        """What the bars of complex columns need to know."""
        xp, scale = self.problem.xp, self.line.scale
        missed = xp.abs(self.slope - witness.value)
        missed = xp.where(self._agreed(witness), xp.zeros_like(missed), missed)
        return Evidence(witness.in_units(scale), self._astray, missed * scale, self.slope)

    def checks(self, noise: Noise, witness: Finished) -> dict[str, Array]:
        """() bool: what has to hold, by the reason that is given where it does not."""
        xp = self.problem.xp
        same = SAME * noise.eps / 2.2e-16
        least = noise.eps * xp.abs(self.base) / self.line.scale
        checks = {
            CHANGES: self._astray <= noise.eps * self._allowed,
            UNSCALED: xp.abs(self.slope - self.second) <= same * xp.maximum(xp.abs(self.slope), least),
            INEXACT: self._clear(noise, witness),
            DROPPED: self._carried(witness),
            BROKEN: self._unbroken(witness),
            DROWNED: self._calm(noise, witness),
        }
        lost = ~xp.isfinite(self.base)  # outputs that are not finite at x have no derivative to certify
        return {reason: xp.all(passed | lost) for reason, passed in checks.items()}

    @property
    def _astray(self) -> Array:
        return self.problem.xp.abs(self.real - self.base)

    @property
    def _allowed(self) -> Array:
        """(m, 1) in eps, what the real part may miss."""
        xp = self.problem.xp
        size = xp.maximum(xp.abs(self.base), xp.abs(self.slope) * self.line.scale)
        if not self.many:
            return VALUE_SAME * size
        return self._at_least(VALUE_SAME * size, NOISY_TOGETHER * self._together(size))  # larger numbers round inside f

    def _clear(self, noise: Noise, witness: Finished) -> Array:
        """The bar of the witness is small against the slope, or at the rounding of f, where no difference sees more."""
        xp, slope = self.problem.xp, self.problem.xp.abs(witness.value)
        rounding = noise.eps * xp.abs(self.base) / self.line.scale * ROUNDED
        least = SMALL_SLOPE * self._together(slope)  # along one ray, some of many slopes vanish
        return (witness.error <= CLEAR * self._at_least(slope, least)) | (witness.error <= rounding)

    def _agreed(self, witness: Finished) -> Array:
        """(m, 1) the slope is that of the witness, within its bars."""
        xp, number = self.problem.xp, int(self.value.shape[0])
        return xp.abs(self.slope - witness.value) <= xp.maximum(
            WITHIN * (1 + math.log2(max(number, 1))) * witness.error,
            self.config.complex_step_threshold * math.sqrt(number) * xp.abs(witness.value),
        )

    def _carried(self, witness: Finished) -> Array:
        """The same, or nearly so: of thousands of bars some are too small by accident."""
        xp, agreed, size = self.problem.xp, self._agreed(witness), self.problem.xp.abs(self.slope)
        rare = xp.mean(xp.astype(~agreed, size.dtype)) < RARE
        allowed = TINY * self._at_least(size, SMALL_SLOPE * self._together(size))
        return agreed | (rare & (xp.abs(self.slope - witness.value) <= allowed))

    def _unbroken(self, witness: Finished) -> Array:
        """(m, 1) no kink; of thousands of outputs a few look like one by accident."""
        xp, broken = self.problem.xp, (witness.status & int(Status.KINK)) != 0
        return ~broken | (xp.mean(xp.astype(broken, witness.value.dtype)) < BROKEN_SHARE)

    def _calm(self, noise: Noise, witness: Finished) -> Array:
        """The noise of each output is small against it, or against all of them."""
        size = self.problem.xp.abs(self.base) + self.problem.xp.abs(witness.value) * self.line.scale
        return witness.sigma <= noise.eps * self._at_least(NOISY * size, NOISY_TOGETHER * self._together(size))

    def _together(self, sizes: Array) -> Array:
        """() root mean square over the outputs that are finite."""
        xp = self.problem.xp
        finite = xp.where(xp.isfinite(sizes), sizes, xp.zeros_like(sizes))
        return xp.sqrt(xp.mean(finite * finite))

    def _at_least(self, sizes: Array, least: Array) -> Array:
        return self.problem.xp.maximum(sizes, self.problem.xp.zeros_like(sizes) + least)


def certify(problem: Problem, config: DifferentiationConfig, value: Array, noise: Noise) -> Asking[Certificate]:
    """Whether imaginary parts carry the derivative of every output at this x.

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
    line = ray(problem) if problem.n > 1 else Columns(problem, (0,))
    trial = yield from tried(config, value, line)
    if isinstance(trial, Exception):
        return Certificate(_told(trial), noise)
    while isinstance(line, Tangents) and noise.sight is not None:
        certificate = trial.judged(noise, sighted_slope(problem, line, noise.sight))
        if certificate.holds or certificate.reason in FINAL:
            return certificate
        if noise.pending is None:
            break
        noise = yield from further(problem, value, noise)
    heard = noise if problem.n == 1 else replace(noise, asks=False)
    witness, ladder = yield from richardson.ladders(line, _witnessing(problem, config), value, heard)
    return trial.judged(noise, witness, ladder)


def unread(problem: Problem, config: DifferentiationConfig) -> Asking[tuple[Array, Certificate, Array]]:
    """f(x), its certificate where nothing can be read, and () bool whether that holds."""
    value, noise = yield from first_sight(problem, config, always=True)
    assert noise.sight is not None
    problem = replace(problem, step=None)
    line = ray(problem)
    trial = yield from tried(config, value, line)
    if isinstance(trial, Exception):
        raise trial
    witness = sighted_slope(problem, line, noise.sight)
    held = problem.xp.all(problem.xp.stack(list(trial.checks(noise, witness).values())))
    return value, Certificate("", noise, trial.evidence(witness)), held


def tried(config: DifferentiationConfig, value: Array, line: Lines) -> Asking[Trial | Exception]:
    """Two imaginary steps along a line, or why f does not take them."""
    xp, step = line.problem.xp, relative_step(line.problem) * line.scale
    values = yield line.points(xp.stack([step, SECOND_STEP * step]), imaginary=True)
    if values.failure is not None:
        return values.failure
    seen = line.values(values)  # (2, m, 1)
    slope, second = (xp.imag(seen[i, ...]) / (times * step)[None, :] for i, times in ((0, 1.0), (1, SECOND_STEP)))
    return Trial(config, value, line, xp.real(seen[0, ...]), slope, second)


def relative_step(problem: Problem) -> float:
    """An imaginary step, over the scale."""
    step = next(step for bits, step in RELATIVE_STEP.items() if bits == 0 or problem.eps <= 2.0 ** -(bits - 1))
    return step if problem.eps >= FINEST else float(problem.eps**FINER_STEP)


def refused_beforehand(problem: Problem, config: DifferentiationConfig) -> str:
    """Why complex points are not tried, or nothing."""
    if problem.complex_refused:
        return problem.complex_refused
    if config.opaque:
        return "opaque=True: f sees real numbers only"
    if given(config):
        return "f is noisy (noise= says so), which imaginary parts do not show"
    return ""


def _witnessing(problem: Problem, config: DifferentiationConfig) -> DifferentiationConfig:
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
