"""Two pictures: relative error against evaluations for every tool, and true errors against claimed ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy_figures import figures
from benchmarks.accuracy_tools import Answer

LEAST = 1e-17  # where errors of 0 are drawn
MOST = 1e3
FEWEST = 8  # answers a point of the calibration curve
QUANTILE = 0.95
COLOURS = 128


def draw(answers: dict[str, list[Answer]], file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    colours = plt.get_cmap("tab10").colors
    for colour, (tool, given) in zip(colours, answers.items(), strict=False):
        _error_against_points(left, tool, given, colour)
        _true_against_claimed(right, tool, given, colour)
    left.set(xscale="log", yscale="log", ylim=(LEAST, MOST), xlabel="evaluations of f", ylabel="relative error")
    left.set_xticks([2, 5, 10, 20, 30], ["2", "5", "10", "20", "30"])
    left.minorticks_off()
    left.set_title("median (dot) to 90th percentile", fontsize=10)
    right.plot([LEAST, MOST], [LEAST, MOST], color="black", linewidth=0.8)
    right.set(xscale="log", yscale="log", xlim=(LEAST, MOST), ylim=(LEAST, MOST))
    right.set(xlabel="claimed relative error", ylabel="true relative error, 95th percentile")
    right.set_title("above the line: errors that were not claimed", fontsize=10)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    figure.savefig(file, dpi=80)
    plt.close(figure)
    _with_few_colours(file)


def _with_few_colours(file: Path) -> None:
    """A third of the size, and looks the same."""
    from PIL import Image

    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)
    small.save(file, format="PNG", optimize=True)


def _error_against_points(axes: Any, tool: str, given: Sequence[Answer], colour: Any) -> None:
    row = figures(given)
    ends = np.clip(np.nan_to_num([row.median, row.p90], posinf=MOST), LEAST, MOST)
    weight = 2.5 if tool.startswith("arraydiff") else 1.0
    axes.plot([row.points] * 2, ends, color=colour, linewidth=weight)
    axes.plot([row.points], ends[:1], "o", color=colour, markersize=4 + weight, label=tool)


def _true_against_claimed(axes: Any, tool: str, given: Sequence[Answer], colour: Any) -> None:
    """The 95th percentile of the true error over answers that claim about as much, a decade at a time."""
    both = np.asarray([(answer.claim / abs(answer.truth), answer.relative_error) for answer in given])
    claimed, true = both[np.all(np.isfinite(both), axis=1)].T
    decade = np.round(np.log10(np.clip(claimed, LEAST, MOST)))
    bins = [level for level in np.unique(decade) if np.sum(decade == level) >= FEWEST]
    if bins:
        heights = [max(np.quantile(true[decade == level], QUANTILE), LEAST) for level in bins]
        weight = 2.5 if tool.startswith("arraydiff") else 1.0
        axes.plot(10.0 ** np.asarray(bins), heights, ".-", color=colour, linewidth=weight)
