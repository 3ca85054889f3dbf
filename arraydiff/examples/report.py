"""A finished comparison as text, and as numbers for other programs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arraydiff.examples.fit import Comparison, Fit
from arraydiff.examples.uncertainty import explain

LINE = 110
COSTS = (
    *("derivatives", "residuals", "Jacobians", "points for J", "rounds", "s for J", "s in all"),
    *("error of J", "chi2"),
)

ERROR_OF_J = (
    "error of J: relative to the largest entry of its column; for arraydiff its own error bar, the worst of\n"
    "the whole fit; for SciPy, which gives none, the difference from arraydiff's Jacobian at the end."
)
ERROR_OF_PRODUCTS = (
    "Jacobians and points are counted for every block of frame pairs and every angle. error of J: the error bar of an\n"
    "entry of J^T J, in which the errors of all rows add up, relative to its diagonal; the worst of the whole fit."
)


def text(done: Comparison, truth: Mapping[str, float] | None = None) -> str:
    """The tables and remarks that the demo prints.

    Parameters
    ----------
    done : Comparison
        The fits of one problem.
    truth : mapping of name to value, optional
        Known for simulated data: adds the columns truth and difference.
    """
    best, problem = done.best, done.problem
    parts = [_headline(done), table(*_parameter_table(done, truth))]
    if done.note:
        parts.append(textwrap.fill(done.note, LINE))
    if problem.sigma is None:
        parts.append(
            f"sigma was not given: {best.sigma:.4g} is estimated from the residuals, and the errors follow from it."
        )
    parts.extend(textwrap.fill(remark, LINE) for remark in explain(best.uncertainty, problem.names))
    if not best.converged:
        parts.append(f"The fit did not converge: {best.message}")
    parts.append("\nWhat the derivatives cost over the whole fit")
    parts.append(table(*_cost_table(done)))
    parts.append(ERROR_OF_PRODUCTS if done.note else ERROR_OF_J)
    if best.cost.colours is not None:
        each = best.cost.points / max(best.cost.jacobians, 1)
        parts.append(
            f"arraydiff's Jacobian is sparse: {len(problem.names)} columns in {best.cost.colours} directions, {each:.0f} points "
            "each time with bars and check;\na contrast and an offset move beside those of all other angles."
        )
    parts.extend(f"arraydiff: {warning}" for warning in sorted(best.cost.warnings))
    return "\n".join(parts)


def as_dict(done: Comparison, truth: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Everything in the tables, ready for JSON: numbers, strings and None."""
    problem, experiment = done.problem, done.problem.experiment
    return {
        "mode": experiment.mode,
        "frames": experiment.frames,
        "angles": list(experiment.angles),
        "q": experiment.q,
        "dt": experiment.dt,
        "sigma": _number(done.best.sigma),
        "sigma_estimated": problem.sigma is None,
        "library": done.library,
        "note": done.note,
        "fixed": dict(problem.fixed),
        "start": {name: _number(value) for name, value in zip(problem.names, done.start, strict=True)},
        "truth": {name: truth[name] for name in problem.names} if truth is not None else None,
        "remarks": explain(done.best.uncertainty, problem.names),
        "fits": [_fit_as_dict(fit, problem.names) for fit in done.fits],
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be; the first to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = ["  ".join(map(_aligned, range(len(row)), row, widths)).rstrip() for row in (header, *rows)]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _aligned(column: int, cell: str, width: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)


def _headline(done: Comparison) -> str:
    experiment, best = done.problem.experiment, done.best
    angles = len(experiment.angles)
    return (
        f"{experiment.mode} fit of {len(done.problem.names)} parameters, {done.library}: "
        f"{angles} angle{'s' * (angles != 1)}, {experiment.frames} frames, {best.residuals} pairs t1 < t2, "
        f"q {experiment.q:g} 1/Å, dt {experiment.dt:g} s, sigma {best.sigma:.4g}\n"
        f"chi2 / degrees of freedom = {best.chi2:.1f} / {best.degrees_of_freedom} = "
        f"{best.chi2 / max(best.degrees_of_freedom, 1):.4f}\n"
    )


def _parameter_table(done: Comparison, truth: Mapping[str, float] | None) -> tuple[list[str], list[list[str]]]:
    problem, found = done.problem, done.best.uncertainty
    known = truth is not None
    difference = ["difference / s.e."] * known
    header = ["parameter", "unit", *["truth"] * known, "fit", "standard error", *difference, "remark"]
    rows = []
    fitted = iter(zip(done.best.values, found.standard_errors, found.at_bound, strict=True))
    for parameter in problem.experiment.parameters:
        true = [f"{truth[parameter.name]:.6g}"] if truth is not None else []
        if parameter.name in problem.fixed:
            row = [*true, f"{problem.fixed[parameter.name]:.6g}", "-", *["-"] * known, "fixed"]
        else:
            value, error, side = next(fitted)
            gap = [_plain((value - truth[parameter.name]) / error, "+.2f")] if truth is not None else []
            row = [*true, f"{value:.6g}", _plain(error, ".2g"), *gap, f"at {side} bound" if side else ""]
        rows.append([parameter.name, parameter.unit, *row])
    return header, rows


def _cost_table(done: Comparison) -> tuple[Sequence[str], list[list[str]]]:
    rows = []
    for fit in done.fits:
        cost = fit.cost
        error = cost.worst_bar if cost.worst_bar is not None else cost.error_at_end
        rows.append(
            [
                fit.derivatives if fit.derivatives == "arraydiff" else f"SciPy {fit.derivatives}",
                str(fit.evaluations),
                " + ".join(f"{count} {name}" for name, count in cost.methods.items()),
                str(cost.points),
                str(cost.rounds),
                _plain(cost.seconds, ".2f"),
                f"{fit.seconds:.2f}",
                _plain(error, ".0e"),
                f"{fit.chi2:.6f}",
            ]
        )
    return COSTS, rows


def _fit_as_dict(fit: Fit, names: tuple[str, ...]) -> dict[str, Any]:
    found, cost = fit.uncertainty, fit.cost
    return {
        "derivatives": fit.derivatives,
        "values": {name: _number(value) for name, value in zip(names, fit.values, strict=True)},
        "standard_errors": {name: _number(error) for name, error in zip(names, found.standard_errors, strict=True)},
        "correlation": [[_number(entry) for entry in row] for row in found.correlation],
        "condition": _number(found.condition),
        "at_bound": {name: side for name, side in zip(names, found.at_bound, strict=True) if side},
        "inseparable": [names[i] for i in found.inseparable],
        "idle": [names[i] for i in found.idle],
        "chi2": _number(fit.chi2),
        "degrees_of_freedom": fit.degrees_of_freedom,
        "converged": fit.converged,
        "message": fit.message,
        "evaluations": fit.evaluations,
        "seconds": fit.seconds,
        "cost": {
            "methods": cost.methods,
            "jacobians": cost.jacobians,
            "calls": cost.calls,
            "points": cost.points,
            "rounds": cost.rounds,
            "seconds": cost.seconds,
            "worst_bar": _number(cost.worst_bar),
            "error_at_end": _number(cost.error_at_end),
            "warnings": sorted(cost.warnings),
        },
    }


def _plain(value: float | None, form: str) -> str:
    return "-" if value is None or not np.isfinite(value) else format(value, form)


def _number(value: float | None) -> float | None:
    """A float that JSON can hold."""
    return float(value) if value is not None and math.isfinite(value) else None
