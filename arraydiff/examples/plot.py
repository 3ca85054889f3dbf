"""The picture of a fit: measured and fitted c2, residuals, and a cut with error bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from arraydiff.examples.data import model_at
from arraydiff.examples.fit import Comparison

CUT_AT = 0.1  # the cut starts at the frame this far into the experiment
MOST_CUTS = 5  # angles shown in the cut


def save_picture(done: Comparison, path: str | Path) -> None:
    """Write the picture to `path`; its suffix chooses the format.

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    OSError, ValueError
        The file cannot be written, or its format is unknown.
    """
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    problem, best = done.problem, done.best
    experiment = problem.experiment
    theta = problem.theta(best.values)

    figure: Any = Figure(figsize=(13, 7.5), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    shown = int(np.argmin(np.abs(experiment.angles)))
    measured = np.where(np.eye(experiment.frames, dtype=bool), np.nan, problem.c2[shown])
    model = model_at(experiment, theta, shown)
    _maps(top, experiment.times, measured, model, best.sigma, f"at {experiment.angles[shown]:g}°")
    cut, histogram = bottom.subplots(1, 2, width_ratios=(2, 1))
    _cut(cut, done, theta)
    _histogram(histogram, done, theta)
    figure.savefig(path, dpi=120)


def _maps(figure: Any, times: np.ndarray, measured: np.ndarray, model: np.ndarray, sigma: float, where: str) -> None:
    low, high = np.nanpercentile(measured, (0.5, 99.5))
    extent = (times[0], times[-1], times[0], times[-1])
    panels = (
        (f"measured c2 {where}", measured, "viridis", (low, high)),
        (f"fitted c2 {where}", model, "viridis", (low, high)),
        ("residuals / sigma", (measured - model) / sigma, "RdBu_r", (-4.0, 4.0)),
    )
    for axes, (title, image, colours, limits) in zip(figure.subplots(1, 3), panels, strict=True):
        drawn = axes.imshow(image, origin="lower", extent=extent, cmap=colours, vmin=limits[0], vmax=limits[1])
        axes.set(title=title, xlabel="t1 [s]", ylabel="t2 [s]")
        figure.colorbar(drawn, ax=axes, shrink=0.85)


def _cut(axes: Any, done: Comparison, theta: np.ndarray) -> None:
    experiment = done.problem.experiment
    first = int(CUT_AT * experiment.frames)
    later = slice(first + 1, None)
    lag = experiment.times[later] - experiment.times[first]
    count = len(experiment.angles)
    for colour, p in enumerate(np.unique(np.linspace(0, count - 1, min(count, MOST_CUTS)).round().astype(int))):
        style, measured = {"color": f"C{colour}"}, done.problem.c2[p, first, later]
        axes.errorbar(lag, measured, yerr=done.best.sigma, fmt=".", ms=4, lw=0.6, alpha=0.5, **style)
        axes.plot(lag, model_at(experiment, theta, p)[first, later], label=f"{experiment.angles[p]:g}°", **style)
    axes.set(title=f"cut at t1 = {experiment.times[first]:g} s", xlabel="t2 - t1 [s]", ylabel="c2", xscale="log")
    axes.legend(title="fit", fontsize="small")


def _histogram(axes: Any, done: Comparison, theta: np.ndarray) -> None:
    edges, experiment = np.linspace(-5.0, 5.0, 61), done.problem.experiment
    counts = np.zeros(len(edges) - 1)
    for angle, measured in enumerate(done.problem.c2):  # one at a time: all of them at full size would take gigabytes
        scaled = (measured - model_at(experiment, theta, angle)) / done.best.sigma
        counts += np.histogram(scaled[np.triu_indices(experiment.frames, k=1)], edges)[0]
    density = counts / max(np.sum(counts), 1.0) / (edges[1] - edges[0])
    axes.stairs(density, edges, fill=True, alpha=0.5, label="residuals / sigma")
    axes.plot(edges, np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi), label="normal distribution")
    axes.set(title="all residuals", xlabel="residual / sigma")
    axes.legend(fontsize="small")
