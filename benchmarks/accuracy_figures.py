"""The figures of a row: how right a tool is, at what price, and whether it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.accuracy_tools import Answer

WRONG = 1e-3  # relative error of an answer that is of no use
SILENT = 10.0  # wrong in silence: the error is more than so many claims
ROUNDING = 4 * float(np.finfo(np.float64).eps)  # errors below this say nothing about the sharpness of a bar


@dataclass(frozen=True)
class Figures:
    """Relative errors and shares of answers; NaN where there is nothing to tell.

    An answer that is not finite is wrong, and counts as an infinite error in the median and the 90th percentile.
    Coverage (true error <= claim) is over finite answers with a claim; a tool that claims nothing is silent when wrong.
    """

    answers: int
    points: float
    median: float
    p90: float
    not_finite: float
    wrong: float
    silent: float
    coverage: float
    sharpness: float


def figures(answers: Sequence[Answer]) -> Figures:
    error = np.asarray([answer.error for answer in answers])
    relative = np.asarray([answer.relative_error for answer in answers])
    claim = np.asarray([answer.claim for answer in answers])
    finite, claimed = np.isfinite(error), ~np.isnan(claim)
    judged = finite & claimed
    unsharp = judged & (relative > ROUNDING)
    wrong = ~(relative <= WRONG)
    silent = wrong & finite & ~(claim >= error / SILENT)
    median, p90 = np.quantile(relative, [0.5, 0.9], method="higher")
    return Figures(
        answers=len(answers),
        points=float(np.mean([answer.points for answer in answers])),
        median=float(median),
        p90=float(p90),
        not_finite=float(np.mean(~finite)),
        wrong=float(np.mean(wrong)),
        silent=float(np.mean(silent)),
        coverage=float(np.mean(error[judged] <= claim[judged])) if np.any(judged) else np.nan,
        sharpness=float(np.median(claim[unsharp] / error[unsharp])) if np.any(unsharp) else np.nan,
    )


HEADINGS = ("points", "median", "p90", "NaN", "wrong", "silent", "coverage", "sharpness")
NAME_WIDTH = 24


def heading(text: str) -> str:
    return f"\n{text}\n{'':{NAME_WIDTH}}" + "".join(f"{name:>10}" for name in HEADINGS)


def line(name: str, row: Figures) -> str:
    cells = [f"{row.points:.1f}", _error(row.median), _error(row.p90)]
    cells += [_share(share) for share in (row.not_finite, row.wrong, row.silent, row.coverage)]
    cells.append(
        "-" if np.isnan(row.sharpness) else f"{row.sharpness:.1f}" if row.sharpness < 1e3 else f"{row.sharpness:.0e}"
    )
    return f"{name:{NAME_WIDTH}}" + "".join(f"{cell:>10}" for cell in cells)


def _error(value: float) -> str:
    return f"{value:.1e}" if np.isfinite(value) else "NaN"


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f} %"
