"""Complex step: exact to rounding where f is analytic and lets imaginary parts through.

Squire & Trapp, SIAM Rev. 40 (1998) 110; Martins, Sturdza & Alonso, ACM TOMS 29 (2003) 245.  abs, norm, conj, float and their
kin drop imaginary parts without a word, so it is trusted only where it is certified for this very x: along one random ray it
must agree with a ladder of real differences, and with itself at a second step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Columns, Lines, Tangents, ray
from arraydiff.errors import BudgetSpent
from arraydiff.noise import FINEST, Noise, given
from arraydiff.probe import first_sight, further
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.seam import Asking, Prepared, Pushforward
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
# The threshold on relative disagreement grows as sqrt m, for the same reason; what drops imaginary parts is off by O(1).
RARE = 1e-3  # of the outputs: so many bars of a witness are far too small
TINY = 1e-6  # relative: what is missed there; what drops imaginary parts misses far more
WITHIN = 3.0  # bars of the real differences, times 1 + log2 m: of many bars some are missed by more
ROUNDED = 2.0**14  # eps |f| / scale: a bar at the rounding of f
SMALL_SLOPE = 1e-3  # of the mean slope: outputs that move less are held to that
NOISY = 2.0**14  # eps (|f| + |x f'|): up to there the bar grows with the noise, which hides in the real part
NOISY_TOGETHER = (
    2.0**9
)  # the same, and what the real part may miss, for the mean size of all outputs: a residual near 0
# is noisy only beside itself
BROKEN_SHARE = 1e-2  # of the outputs
BAR = 2.0  # eps


@dataclass(frozen=True)
class Certificate:
    """What one ray showed."""

    holds: bool
    reason: str
    noise: Noise  # as far as it had to be known
    witness: Finished | None = None
    ladder: Ladder | None = None  # the witness's, to go on with
    slope: Array | None = None  # (m, 1) along the ray
    astray: Array | None = None  # (m, 1) by how much the real part misses f(x)

    def alone(self, problem: Problem) -> Ladder | None:
        """The witness's ladder where the ray is the one column that there is."""
        return self.ladder if problem.n == 1 else None


@dataclass(frozen=True)
class ComplexStep:
    """The strategy, asked for by name: where the certificate is refused, differences with the flag UNRESOLVED."""

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """F(x) and its certificate."""
        if problem.backend.deferred:
            return (yield from _unread(problem, config))
        value, noise = yield from first_sight(problem, config)
        certificate = yield from certify(problem, config, value, noise)
        if certificate.holds:
            return prepared(value, certificate)
        noise = yield from further(problem, value, certificate.noise)
        ladder = richardson.prepared(config, value, noise, certificate.reason, certificate.alone(problem))
        note = f"the complex step is not certified: {certificate.reason}; the values are real differences"
        return replace(ladder, pushforward=partial(_unresolved, ladder), notes=(note,))


def _unread(problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
    """Complex columns with a certificate that nobody reads: all are UNRESOLVED where it does not hold."""
    refused = _refused_beforehand(problem, config)
    if refused:
        problem.backend.refuse(f"what method='complex_step' does instead ({refused})")
    value, noise = yield from first_sight(problem, config, always=True)
    assert noise.sight is not None
    xp, free = problem.xp, replace(problem, step=None)
    line = ray(free)
    step = _relative_step(free) * line.scale
    values = yield line.points(xp.stack([step, SECOND_STEP * step]), imaginary=True)
    if values.failure is not None:
        raise values.failure
    seen, witness = Imaginary.of(line, line.values(values), step), sighted_slope(free, line, noise.sight)
    met = _checks(free, config, value, noise, line, seen, witness)
    certificate = Certificate(True, "", noise, witness.in_units(line.scale), astray=xp.abs(seen.real - value[:, None]))
    push = partial(_where_held, held=xp.all(xp.stack(list(met.values()))), value=value, certificate=certificate)
    return Prepared(DifferentiationMethod.COMPLEX_STEP, value, push, "", noise.known)


def _where_held(lines: Lines, held: Array, value: Array, certificate: Certificate) -> Asking[Pushforward]:
    xp, pushed = lines.problem.xp, (yield from columns(lines, value, certificate))
    flag = xp.astype(~held, pushed.status.dtype) * int(Status.UNRESOLVED)
    error = xp.where(held, pushed.error, xp.full_like(pushed.error, float("inf")))
    return replace(pushed, error=error, status=pushed.status + flag)


def _unresolved(ladder: Prepared, lines: Lines) -> Asking[Pushforward]:
    pushed = yield from ladder.pushforward(lines)
    flag = int(Status.UNRESOLVED)
    return replace(
        pushed, status=lines.problem.xp.bitwise_or(pushed.status, lines.problem.xp.full_like(pushed.status, flag))
    )


def prepared(value: Array, certificate: Certificate) -> Prepared:
    """Complex columns for every chunk, under a certificate that holds."""
    push = partial(columns, value=value, certificate=certificate)
    return Prepared(
        DifferentiationMethod.COMPLEX_STEP, value, push, "", certificate.noise.known, finite=certificate.noise.finite
    )


def columns(lines: Lines, value: Array, certificate: Certificate) -> Asking[Pushforward]:
    """J·V for one chunk, by one complex point a line."""
    xp = lines.problem.xp
    steps = (_relative_step(lines.problem) * lines.scale if lines.step is None else lines.step)[None, :]
    if (
        certificate.slope is not None
        and lines.problem.n == 1
        and lines.step is None
        and not isinstance(lines, Tangents)
    ):
        pushed = certificate.slope  # of the ray, which was this line
    else:
        values = yield lines.points(steps, imaginary=True)
        pushed = xp.imag(lines.values(values)[0, ...]) / steps
    finite = xp.isfinite(pushed)
    status = xp.astype(xp.logical_not(finite), xp.int16) * int(Status.FAILED)
    error = _bar(lines, pushed, value, certificate)
    if lines.step is not None:  # a step of the user's may be large enough to truncate
        error = error + xp.abs(pushed) * (steps / lines.scale[None, :]) ** 2
    error = xp.where(finite, error, xp.full_like(pushed, float("inf")))
    pushed = xp.where(finite, pushed, xp.full_like(pushed, float("nan")))
    return Pushforward(pushed, error, steps[0, :], status)


def _bar(lines: Lines, pushed: Array, value: Array, certificate: Certificate) -> Array:
    """2 eps (2 |f'| + |x f''|), more where f rounds more than once, and what the witness could not see."""
    xp, witness, noise = lines.problem.xp, certificate.witness, certificate.noise
    assert witness is not None
    assert certificate.astray is not None
    base, scale = lines.at_x(value), lines.scale[None, :]
    sigma, curvature = lines.at_x(witness.sigma[:, 0]), lines.at_x(witness.curvature[:, 0])
    clear, slope = lines.at_x(witness.error[:, 0]), lines.at_x(xp.abs(witness.value[:, 0]))
    size = xp.abs(base) + slope
    rounds = xp.maximum(sigma, 2 * lines.at_x(certificate.astray[:, 0]))  # complex functions round on other paths
    rounds = rounds / (noise.eps * xp.where(size > 0, size, xp.ones_like(size)))
    rounds = xp.maximum(xp.ones_like(rounds), rounds)
    bar = BAR * noise.eps * rounds * (2 * xp.abs(pushed) + curvature / scale)
    blind = xp.where(clear > CLEAR * slope, WITHIN * clear, xp.zeros_like(clear))
    return bar + blind / scale


def certify(problem: Problem, config: DifferentiationConfig, value: Array, noise: Noise) -> Asking[Certificate]:
    """Whether imaginary parts carry the derivative of every output at this x.

    The probe's first values vouch for them where they can; where they cannot, the probe goes on, and the ray's ladder comes last.
    """
    refused = _refused_beforehand(problem, config) if value.shape[0] else "f has no outputs"
    if refused or noise.drowned:
        return Certificate(False, refused or DROWNED, noise)
    if noise.pending is not None and not noise.pending.calm:
        noise = yield from further(problem, value, noise)
        if noise.drowned:
            return Certificate(False, DROWNED, noise)
    xp, problem = problem.xp, replace(problem, step=None)
    line = ray(problem) if problem.n > 1 else Columns(problem, (0,))
    step = _relative_step(problem) * line.scale
    values = yield line.points(xp.stack([step, SECOND_STEP * step]), imaginary=True)
    if values.failure is not None:
        return Certificate(False, _told(values.failure), noise)
    seen = Imaginary.of(line, line.values(values), step)
    while isinstance(line, Tangents) and noise.sight is not None:
        witness = sighted_slope(problem, line, noise.sight)
        certificate = _judged(problem, config, value, noise, line, seen, witness, None)
        if certificate.holds or certificate.reason in FINAL:
            return certificate
        if noise.pending is None:
            break
        noise = yield from further(problem, value, noise)
    heard = noise if problem.n == 1 else replace(noise, asks=False)
    climbed, ladder = yield from richardson.ladders(line, _witnessing(problem, config), value, heard)
    return _judged(problem, config, value, noise, line, seen, climbed, ladder)


@dataclass(frozen=True)
class Imaginary:
    """What two imaginary steps along a line showed."""

    real: Array  # (m, 1) real part at the first
    slope: Array  # (m, 1) by the first
    second: Array  # (m, 1) by the second

    @classmethod
    def of(cls, line: Lines, values: Array, step: Array) -> Imaginary:
        """From values (2, m, 1) at i step and i SECOND_STEP step."""
        xp = line.problem.xp
        slope, second = (xp.imag(values[i, ...]) / (times * step)[None, :] for i, times in ((0, 1.0), (1, SECOND_STEP)))
        return cls(xp.real(values[0, ...]), slope, second)


CHANGES = "the real part of f changes with an imaginary step"
UNSCALED = "the imaginary part does not scale with the step, it is rounding noise"
DROWNED = "f is noisy, which imaginary parts do not show"
FINAL = (CHANGES, UNSCALED)
"""Reasons that no better witness could mend."""


def _judged(
    problem: Problem,
    config: DifferentiationConfig,
    value: Array,
    noise: Noise,
    line: Lines,
    seen: Imaginary,
    witness: Finished,
    ladder: Ladder | None,
) -> Certificate:
    """The imaginary parts held against themselves, and against the witness."""
    xp, astray = problem.xp, problem.xp.abs(seen.real - value[:, None])
    met = _checks(problem, config, value, noise, line, seen, witness)
    counted = [xp.sum(xp.astype(mask, xp.int32)) for mask in (*met.values(), xp.isfinite(value))]
    *read, count = problem.backend.read(xp.stack(counted))
    failed = [reason for reason, passed in zip(met, read, strict=True) if not passed]
    return Certificate(
        not failed,
        failed[0] if failed else "",
        replace(noise, finite=count),
        witness.in_units(line.scale),
        ladder,
        seen.slope,
        astray,
    )


def _checks(
    problem: Problem,
    config: DifferentiationConfig,
    value: Array,
    noise: Noise,
    line: Lines,
    seen: Imaginary,
    witness: Finished,
) -> dict[str, Array]:
    """() bool: what has to hold, by the reason that is given where it does not."""
    xp, base, slope = problem.xp, value[:, None], seen.slope
    astray, size = xp.abs(seen.real - base), xp.maximum(xp.abs(base), xp.abs(slope) * line.scale)
    allowed = VALUE_SAME * size
    if value.shape[0] > 1:  # a residual near 0 misses by what larger numbers round
        allowed = xp.maximum(allowed, xp.zeros_like(size) + NOISY_TOGETHER * _together(problem, size))
    checks = {
        CHANGES: astray <= noise.eps * allowed,
        UNSCALED: xp.abs(slope - seen.second)
        <= SAME * noise.eps / 2.2e-16 * xp.maximum(xp.abs(slope), noise.eps * xp.abs(base) / line.scale),
        "the real differences that would vouch for it are too inexact": _clear(problem, witness, base, noise, line),
        "the imaginary part does not carry the derivative along a random direction": _carried(
            problem, config, witness, slope
        ),
        "f has a kink at x, of which imaginary parts see one side": _unbroken(problem, witness),
        DROWNED: _calm(problem, witness, base, noise, line),
    }
    lost = ~xp.isfinite(base)  # outputs that are not finite at x have no derivative to certify
    return {reason: xp.all(passed | lost) for reason, passed in checks.items()}


def _carried(problem: Problem, config: DifferentiationConfig, witness: Finished, slope: Array) -> Array:
    """(m, 1) the slope agrees with that of the witness; of thousands of its bars some are too small by accident."""
    xp, number = problem.xp, int(slope.shape[0])
    missed = xp.abs(slope - witness.value)
    agreed = missed <= xp.maximum(
        WITHIN * (1 + math.log2(max(number, 1))) * witness.error,
        config.complex_step_threshold * math.sqrt(number) * xp.abs(witness.value),
    )
    rare = xp.mean(xp.astype(~agreed, slope.dtype)) < RARE
    least = SMALL_SLOPE * _together(problem, slope)
    return agreed | (rare & (missed <= TINY * xp.maximum(xp.abs(slope), xp.zeros_like(slope) + least)))


def _witnessing(problem: Problem, config: DifferentiationConfig) -> DifferentiationConfig:
    """The options of the ray's ladder: no limits that are meant for single parameters."""
    fine = problem.eps < FINEST  # more digits take more rungs
    stages = config.max_iterations if fine else min(config.max_iterations, WITNESS_STAGES)
    tolerance = None if fine else WITNESS_TOLERANCE
    if problem.n == 1:
        return replace(config, error_tolerance=tolerance, max_iterations=stages, confidence=0.95)
    return replace(
        config, error_tolerance=tolerance, max_iterations=stages, min_step=None, max_step=None, confidence=0.95
    )


def _clear(problem: Problem, witness: Finished, base: Array, noise: Noise, line: Lines) -> Array:
    """The bar of the witness is small against the slope, or at the rounding of f, where no difference sees more."""
    xp, slope = problem.xp, problem.xp.abs(witness.value)
    rounding = noise.eps * xp.abs(base) / line.scale * ROUNDED
    floor = SMALL_SLOPE * _together(problem, slope)  # along one ray, some of many slopes vanish
    return xp.logical_or(
        witness.error <= CLEAR * xp.maximum(slope, xp.zeros_like(slope) + floor), witness.error <= rounding
    )


def _calm(problem: Problem, witness: Finished, base: Array, noise: Noise, line: Lines) -> Array:
    """The noise of each output is small against it, or against all of them."""
    size = problem.xp.abs(base) + problem.xp.abs(witness.value) * line.scale
    together = NOISY_TOGETHER * _together(problem, size)
    return witness.sigma <= noise.eps * problem.xp.maximum(NOISY * size, together)


def _unbroken(problem: Problem, witness: Finished) -> Array:
    """(m, 1) no kink; of thousands of outputs a few look like one by accident."""
    xp, broken = problem.xp, (witness.status & int(Status.KINK)) != 0
    share = xp.mean(xp.astype(broken, witness.value.dtype))
    return ~broken | (share < BROKEN_SHARE)


def _together(problem: Problem, sizes: Array) -> Array:
    """Root mean square over the outputs that are finite."""
    xp = problem.xp
    finite = xp.where(xp.isfinite(sizes), sizes, xp.zeros_like(sizes))
    return xp.sqrt(xp.mean(finite * finite))


def _refused_beforehand(problem: Problem, config: DifferentiationConfig) -> str:
    if problem.complex_refused:
        return problem.complex_refused
    if config.opaque:
        return "opaque=True: f sees real numbers only"
    if given(config):
        return "f is noisy (noise= says so), which imaginary parts do not show"
    return ""


def _told(failure: Exception) -> str:
    if isinstance(failure, BudgetSpent):
        return str(failure)
    return f"f does not take complex numbers ({type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''})"


def _relative_step(problem: Problem) -> float:
    step = next(step for bits, step in RELATIVE_STEP.items() if bits == 0 or problem.eps <= 2.0 ** -(bits - 1))
    return step if problem.eps >= FINEST else float(problem.eps**FINER_STEP)
