"""Complex step: exact to rounding where f is analytic and lets imaginary parts through.

Squire & Trapp, SIAM Rev. 40 (1998) 110; Martins, Sturdza & Alonso, ACM TOMS 29 (2003) 245.  It is trusted only where it is
certified for this very x.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Lines, Tangents
from arraydiff.probe import first_sight, further
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.seam import Asking, Prepared, Pushforward
from arraydiff.strategies import richardson
from arraydiff.strategies.certificate import (
    CLEAR,
    WITHIN,
    Certificate,
    certify,
    refused_beforehand,
    relative_step,
    unread,
)

BAR = 2.0  # eps


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
    refused = refused_beforehand(problem, config)
    if refused:
        problem.backend.refuse(f"what method='complex_step' does instead ({refused})")
    value, certificate, held = yield from unread(problem, config)
    push = partial(_where_held, held=held, value=value, certificate=certificate)
    return replace(prepared(value, certificate), pushforward=push)


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
    push, noise = partial(columns, value=value, certificate=certificate), certificate.noise
    return Prepared(DifferentiationMethod.COMPLEX_STEP, value, push, "", noise.known, finite=noise.finite)


def columns(lines: Lines, value: Array, certificate: Certificate) -> Asking[Pushforward]:
    """J·V for one chunk, by one complex point a line."""
    xp, problem, evidence = lines.problem.xp, lines.problem, certificate.evidence
    steps = (relative_step(problem) * lines.scale if lines.step is None else lines.step)[None, :]
    tried = problem.n == 1 and not problem.backend.deferred and not isinstance(lines, Tangents)
    if tried and lines.step is None and evidence is not None:  # the line of the certificate was this one
        pushed = evidence.slope
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
    """2 eps (2 |f'| + |x f''|), more where f rounds more than once, what the witness could not see, and what it missed."""
    xp, evidence, eps = lines.problem.xp, certificate.evidence, certificate.noise.eps
    assert evidence is not None
    witness, scale = evidence.witness, lines.scale[None, :]
    sigma, curvature = lines.at_x(witness.sigma[:, 0]), lines.at_x(witness.curvature[:, 0])
    clear, slope = lines.at_x(witness.error[:, 0]), lines.at_x(xp.abs(witness.value[:, 0]))
    size = xp.abs(lines.at_x(value)) + slope
    rounds = xp.maximum(sigma, 2 * lines.at_x(evidence.astray[:, 0]))  # complex functions round on other paths
    rounds = rounds / (eps * xp.where(size > 0, size, xp.ones_like(size)))
    rounds = xp.maximum(xp.ones_like(rounds), rounds)
    bar = BAR * eps * rounds * (2 * xp.abs(pushed) + curvature / scale)
    blind = xp.where(clear > CLEAR * slope, WITHIN * clear, xp.zeros_like(clear))
    return bar + (blind + lines.at_x(evidence.missed[:, 0])) / scale
