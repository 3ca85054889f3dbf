"""One noise level of f from the values of all lines: each by itself holds a sample or two, together they hold many."""

from __future__ import annotations

from dataclasses import replace

from arraydiff._typing import Array
from arraydiff.config import DifferentiationConfig
from arraydiff.noise import Noise
from arraydiff.probe import Probe, probed
from arraydiff.rows import Rows, by_rows, cut
from arraydiff.seam import Asking
from arraydiff.strategies.ladder import Ladder
from arraydiff.strategies.planning import Plan
from arraydiff.strategies.tableau import Estimate, extrapolate, lowest_sample

ENOUGH = 4  # lines from which their samples say more than the probe
OUTLIER = 4.5  # times the median: what bends within its scouts is no sample of noise
SUSPICIOUS = 64.0  # eps |f|: two rungs that miss f(x) by more saw noise, or more change of f than they resolve
STAYS = 2.0**-12  # of the bow of f: truncation of the scouts is less where they resolve f, on 60 functions
STRONG = 0.3  # the same where a mistake cannot be mended
AFFORDABLE = 24  # points a direction: a smaller budget is better spent on rungs
MOST = 3.0  # times the level that the probe found
FEW = 1.0  # relative, over sqrt n: a level from few samples is as often too low as too high, and too low costs more


def refined(ladder: Ladder) -> Ladder:
    """The level that the probe found, refined by the scouts of all lines; once, at their second rung."""
    noise, known = ladder.noise, ladder.noise.known
    if not noise.probed or known is None or ladder.side != 0 or rungs_in(ladder) < 2:
        return ladder
    xp, wider = ladder.backend.xp, 1 + FEW / ladder.lines.problem.directions**0.5
    together = ladder.lines.count >= ENOUGH and int(ladder.base.shape[1]) == 1

    def level(rows: Rows) -> list[Array]:
        mine = cut(known, rows)
        if together:
            mine = xp.maximum(mine, xp.minimum(_pooled(ladder.cut(rows))[:, None], MOST * mine))
        return [mine * wider]

    (level_found,) = by_rows(ladder.backend, ladder.slabs, level)
    return ladder.knowing(noise=replace(noise, known=level_found, probed=False))


def asked(
    ladder: Ladder, sample: Ladder, estimate: Estimate, following: Plan, config: DifferentiationConfig, value: Array
) -> Asking[Noise]:
    """The noise of f, (m,) levels, by a probe where none was sent out and the values of most outputs look noisy.

    Scouts that saw different functions look noisy too: they are given a second chance farther down. Where max_evaluations
    leaves no room for a probe, what looks like noise is taken for it.  A sample, with its estimate, tells whether to look at all.
    """
    problem, noise = ladder.lines.problem, ladder.noise
    cheap = config.max_evaluations is not None and config.max_evaluations < AFFORDABLE * problem.directions
    elementwise = int(ladder.base.shape[0]) != int(value.shape[0])  # an output a line
    if ladder.side != 0 or rungs_in(ladder) < 2:
        return noise
    if (cheap and ladder.stage > 1) or (elementwise and ladder.lines.count != int(value.shape[0])):
        return replace(noise, asks=False)
    suspected = _suspected(sample, estimate, following, cheap, elementwise)
    if not _most(sample, suspected, value if sample is ladder else sample.base[:, 0]):
        return noise
    if sample is not ladder:

        def looked(rows: Rows) -> list[Array]:
            part = ladder.cut(rows)
            seen = extrapolate(part.backend, part.rungs, part.noise, 1.0, estimate.falls)
            return [_suspected(part, seen, following, cheap, elementwise)]

        (suspected,) = by_rows(ladder.backend, ladder.slabs, looked)
        if not _most(ladder, suspected, value):
            return noise
    if cheap:
        xp = ladder.backend.xp
        known = xp.where(suspected > 0, suspected, xp.full_like(suspected, float("nan")))
        return replace(noise, asks=False, known=known, loud=True)
    probe = yield from probed(problem, value, noise.eps, Probe.begin(problem, value, suspected))
    return probe.heard(problem, noise)


def rungs_in(ladder: Ladder) -> int:
    """How many rungs there are."""
    return sum(int(seen.usable.shape[0]) for seen in ladder.met)


def _suspected(ladder: Ladder, estimate: Estimate, following: Plan, cheap: bool, elementwise: bool) -> Array:
    """(m,) the least noise that any line shows of each output; 0 where one looks like none."""
    xp, sample = ladder.backend.xp, _suspicious(ladder, STRONG if cheap else STAYS)
    if ladder.stage == 1:
        sample = xp.where(following.unresolved[None, :], xp.zeros_like(sample), sample)
    if not cheap:
        loud = estimate.sigma > SUSPICIOUS * ladder.noise.eps * ladder.rungs.largest
        sample = xp.where(estimate.noise_found & loud, estimate.sigma, sample)
    if elementwise:
        sample = xp.matrix_transpose(sample)
    suspected = xp.min(xp.where(sample > 0, sample, xp.full_like(sample, float("inf"))), axis=1)
    return xp.where(xp.isfinite(suspected), suspected, xp.zeros_like(suspected))


def _most(ladder: Ladder, suspected: Array, value: Array) -> bool:
    """Whether more than half of the outputs look noisy; one read."""
    noisy, finite = ladder.backend.counts(suspected > 0, ladder.backend.xp.isfinite(value))
    return 2 * noisy > finite


def _suspicious(ladder: Ladder, share: float) -> Array:
    """(m, k) what the scouts show of noise; 0 where it is at rounding, or small beside the bow of f, as truncation is."""
    xp, rungs = ladder.backend.xp, ladder.rungs
    even, _ = _even(ladder)
    assert rungs.mean is not None
    sample, bow = lowest_sample(ladder.backend, rungs), xp.abs(rungs.mean[0, ...] - rungs.base)
    noisy = (sample > SUSPICIOUS * ladder.noise.eps * rungs.largest) & (xp.abs(even) > share * bow)
    return xp.where(noisy, sample, xp.zeros_like(sample))


def _even(ladder: Ladder) -> tuple[Array, Array]:
    """(m, k) by how much the means of the two lowest rungs, extrapolated to step 0, miss f(x), and (k,) their gain of noise."""
    rungs, mean = ladder.rungs, ladder.rungs.mean
    assert mean is not None
    low, high = rungs.step[0, :] ** 2, rungs.step[1, :] ** 2
    first, second = high / (high - low), -low / (high - low)
    even = first * mean[0, ...] + second * mean[1, ...] - rungs.base
    return even, ladder.backend.xp.sqrt((first**2 + second**2) / 2)


def _pooled(ladder: Ladder) -> Array:
    """(m,) root mean square of what the means of the two lowest rungs, extrapolated to step 0, differ by from line to line."""
    xp, (even, spread) = ladder.backend.xp, _even(ladder)
    sample = xp.abs(even - _median(ladder, even)) / spread
    sample = xp.where(xp.isfinite(sample), sample, xp.zeros_like(sample))
    counted = xp.astype(sample <= OUTLIER * _median(ladder, sample), sample.dtype)
    number = xp.sum(counted, axis=1)
    return xp.sqrt(xp.sum(counted * sample**2, axis=1) / xp.maximum(number - 1, xp.ones_like(number)))


def _median(ladder: Ladder, entries: Array) -> Array:
    """(m, 1) over the lines; what is not finite counts as 0."""
    xp, k = ladder.backend.xp, int(entries.shape[1])
    ranked = xp.sort(xp.where(xp.isfinite(entries), entries, xp.zeros_like(entries)), axis=1)
    return (ranked[:, (k - 1) // 2 : (k - 1) // 2 + 1] + ranked[:, k // 2 : k // 2 + 1]) / 2
