"""Complex step: exact to rounding where f is analytic and lets imaginary parts through.

Squire & Trapp, SIAM Rev. 40 (1998) 110; Martins, Sturdza & Alonso, ACM TOMS 29 (2003) 245.  It is trusted only where it is
certified for this very x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.directions import Lines, Tangents, relative_step
from arraydiff.probe import first_sight, further
from arraydiff.problem import Problem
from arraydiff.result import Status
from arraydiff.rows import Rows, by_rows, cut
from arraydiff.seam import Asking, Points, Prepared, Pushforward, Seen
from arraydiff.strategies import richardson
from arraydiff.strategies.certificate import (
    Certificate,
    Evidence,
    certify,
    certifying,
    refused_beforehand,
    unread,
    vouching,
)

BAR = 2.0  # eps
ARRAYS = 8  # (m,) a direction: its complex values, twice while they are brought together; then values, bars and flags


@dataclass(frozen=True)
class ComplexStep:
    """The strategy, asked for by name: where the certificate is refused, differences with the flag UNRESOLVED."""

    along: bool = False  # whether the derivative along the certificate's ray is wanted too

    def watching(
        self, problem: Problem, config: DifferentiationConfig, line: Callable[[Problem], Tangents] | None
    ) -> ComplexStep:
        """The certificate's ray is random anyhow; of one parameter it is the column itself."""
        return replace(self, along=problem.n > 1)

    def prepare(self, problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
        """F(x) and its certificate."""
        if problem.backend.deferred:
            return (yield from _unread(problem, config))
        value, noise = yield from first_sight(problem, config)
        certificate = yield from certify(problem, config, value, noise, self.along)
        if certificate.holds:
            return prepared(value, certificate)
        noise = yield from further(problem, value, certificate.noise)
        ladder = richardson.prepared(problem, config, value, noise, certificate.reason, certificate.ladder)
        note = f"the complex step is not certified: {certificate.reason}; the values are real differences"
        return replace(ladder, pushforward=partial(_unresolved, ladder), notes=(note,))

    def foreseen(self, problem: Problem, config: DifferentiationConfig, lines: Lines) -> Sequence[Sequence[Points]]:
        """The certificate's points, the columns, and what a refused certificate makes of it."""
        return expected(problem, config, lines)


def expected(problem: Problem, config: DifferentiationConfig, lines: Lines) -> list[list[Points]]:
    """Points of the certificate, of the columns, of what vouches for them, and of the ladder where nothing does."""
    closer, *ladder = richardson.expected(lines, config)
    if refused_beforehand(problem, config):
        return [[], [], closer, *ladder]
    alone = problem.n == 1  # the certificate's line is the one column
    columns = [] if alone else [lines.points(imaginary_steps(lines), turn=1j)]
    return [[certifying(problem, config)], columns, [*closer, vouching(problem, config)], *ladder]


def _unread(problem: Problem, config: DifferentiationConfig) -> Asking[Prepared]:
    """Complex columns with a certificate that nobody reads: all are UNRESOLVED where it does not hold."""
    refused = refused_beforehand(problem, config)
    if refused:
        problem.backend.refuse(f"what method='complex_step' does instead ({refused})")
    value, certificate, held = yield from unread(problem, config)
    assert certificate.evidence is not None
    push = partial(_where_held, held=held, evidence=certificate.evidence)
    return replace(prepared(value, certificate), pushforward=push)


def _where_held(lines: Lines, held: Array, evidence: Evidence) -> Asking[Pushforward]:
    xp, pushed = lines.problem.xp, (yield from columns(lines, evidence))
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
    noise, evidence = certificate.noise, certificate.evidence
    assert evidence is not None
    push = partial(columns, evidence=evidence)
    first = Prepared(DifferentiationMethod.COMPLEX_STEP, value, push, "", noise.known, arrays=ARRAYS)
    return replace(first, finite=noise.finite, bar=partial(_bar, evidence=evidence), along=_along(evidence))


def _along(evidence: Evidence) -> Seen | None:
    """The derivative along the certificate's ray, where it is wanted."""
    line, slope = evidence.line, evidence.along
    if line is None or slope is None:
        return None
    xp = line.problem.xp

    def told(rows: Rows) -> list[Array]:
        some = cut(slope, rows)
        finite = xp.isfinite(some)
        error = xp.where(finite, _bar(line, some, rows, evidence), xp.full_like(some, float("inf")))
        return [error, xp.astype(~finite, xp.int16) * int(Status.FAILED)]

    error, status = by_rows(line.problem.backend, line.slabs(int(slope.shape[0])), told)
    return Seen(line.at[:, 0], Pushforward(slope, error, imaginary_steps(line)[0, :], status))


def columns(lines: Lines, evidence: Evidence) -> Asking[Pushforward]:
    """J·V for one chunk, by one complex point a line."""
    xp, problem, steps = lines.problem.xp, lines.problem, imaginary_steps(lines)
    alone = not problem.backend.deferred and not isinstance(lines, Tangents) and lines.step is None
    values = None
    if not alone or evidence.slope is None:  # else the line of the certificate was this one
        values = yield lines.points(steps, turn=1j)

    def pushed(rows: Rows) -> list[Array]:
        if values is None:
            assert evidence.slope is not None
            slope = cut(evidence.slope, rows)
            finite = xp.isfinite(slope)
        else:
            moved = lines.values(values, rows)[0, ...]
            slope = xp.imag(moved) / steps
            finite = xp.isfinite(moved) & xp.isfinite(slope)  # NaN without an imaginary part is no slope of 0
        status = xp.astype(xp.logical_not(finite), xp.int16) * int(Status.FAILED)
        error = _bar(lines, slope, rows, evidence)
        if lines.step is not None:  # a step of the user's may be large enough to truncate
            error = error + xp.abs(slope) * (steps / lines.scale[None, :]) ** 2
        error = xp.where(finite, error, xp.full_like(slope, float("inf")))
        return [xp.where(finite, slope, xp.full_like(slope, float("nan"))), error, status]

    outputs = lines.slabs(int(evidence.rounds.shape[0]))
    slope, error, status = by_rows(problem.backend, outputs, pushed)
    return Pushforward(slope, error, steps[0, :], status)


def imaginary_steps(lines: Lines) -> Array:
    """(1, k)."""
    return (relative_step(lines.problem) * lines.scale if lines.step is None else lines.step)[None, :]


def _bar(lines: Lines, pushed: Array, rows: Rows, evidence: Evidence) -> Array:
    """2 eps (2 |f'| + |x f''|), more where f rounds more than once, what the witness could not see, and what it missed."""
    xp, inverse = lines.problem.xp, 1 / lines.scale[None, :]
    rounds, curvature, unseen = (
        lines.at_x(part, rows) for part in (evidence.rounds, evidence.curvature, evidence.unseen)
    )
    return BAR * evidence.eps * rounds * (2 * xp.abs(pushed) + curvature * inverse) + unseen * inverse
