"""The XPCS fit: least squares inside physical bounds, with derivatives by arraydiff or by SciPy's own differences."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arraydiff.examples.library import Library, library
from arraydiff.examples.problem import FitProblem, starting_values
from arraydiff.examples.uncertainty import Uncertainty, uncertainty

TOLERANCE = 1e-10  # of cost, step and gradient: well below a standard error, above the rounding of the cost
MOST_EVALUATIONS = 60  # of the optimiser; a fit that needs more is degenerate
PEERS = ("2-point", "3-point")  # SciPy's own differences

Progress = Callable[[str], None]


@dataclass
class Cost:
    """What the derivatives of one fit took, and how right they were."""

    methods: dict[str, int] = field(default_factory=dict)
    """How many Jacobians each method gave."""
    calls: int = 0
    points: int = 0
    rounds: int = 0
    seconds: float | None = None
    worst_bar: float | None = None
    """Largest error bar of the Jacobian over the whole fit, relative to the largest entry of its column."""
    error_at_end: float | None = None
    """Largest difference from arraydiff's Jacobian at the optimum, relative to the largest entry of its column."""
    warnings: set[str] = field(default_factory=set)
    colours: int | None = None
    """Directions that the columns of a sparse Jacobian take."""

    @property
    def jacobians(self) -> int:
        """Jacobians in all."""
        return sum(self.methods.values())


@dataclass(frozen=True)
class Fit:
    """An optimum with standard errors, and what it took."""

    derivatives: str
    values: np.ndarray
    jacobian: np.ndarray
    uncertainty: Uncertainty
    chi2: float
    sigma: float
    residuals: int
    evaluations: int
    seconds: float
    converged: bool
    message: str
    cost: Cost

    @property
    def degrees_of_freedom(self) -> int:
        """Residuals minus fitted parameters."""
        return self.residuals - len(self.values)


@dataclass(frozen=True)
class Comparison:
    """The same problem from the same start, with derivatives of several kinds; the first fit is arraydiff's."""

    problem: FitProblem
    start: np.ndarray
    fits: tuple[Fit, ...]
    library: str
    note: str = ""
    """How the fit was made, where its Jacobian was not held."""

    @property
    def best(self) -> Fit:
        """The fit with arraydiff's derivatives."""
        return self.fits[0]


class Derivatives:
    """The Jacobian of the residuals by arraydiff, for SciPy, with a tally of what it cost."""

    def __init__(self, problem: FitProblem, at: Library, **options: Any) -> None:
        import arraydiff as ad

        self.library = at
        self.residual = at.compiled(problem.residual(at.array(np.zeros(1))))
        bounds = (at.array(problem.lower), at.array(problem.upper))
        if at.place != "cpu":  # a launch costs more than a point, so all points of a stage go in one call
            options = {"vectorized": True, "batch_axis": 0, **options}
        self.jacobian = ad.jacobian(self.residual, bounds=bounds, sparsity=problem.pattern, **options)
        self.cost = Cost(seconds=0.0, worst_bar=0.0)

    def values(self, x: np.ndarray) -> np.ndarray:
        """Residuals on the host."""
        return self.library.host(self.residual(self.library.array(x)))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Jacobian on the host, shape (m, n)."""
        result = self.jacobian.result(self.library.array(x))
        jacobian, bars = self._dense(result)
        cost = self.cost
        method = result.method_used.value
        cost.methods[method] = cost.methods.get(method, 0) + 1
        cost.calls += result.function_calls
        cost.points += result.function_points
        cost.rounds += result.rounds
        cost.seconds = (cost.seconds or 0.0) + result.computation_time
        cost.worst_bar = max(cost.worst_bar or 0.0, relative_to_columns(bars, jacobian))
        cost.warnings.update(result.warnings)
        return jacobian

    def _dense(self, result: Any) -> tuple[np.ndarray, np.ndarray]:
        """The Jacobian and its bars on the host, as the optimiser takes them."""
        pattern = getattr(result, "pattern", None)
        if pattern is None:
            return self.library.host(result.derivative), self.library.host(result.error_estimate)
        self.cost.colours = result.colours
        jacobian, bars = np.zeros(pattern.shape), np.zeros(pattern.shape)
        for whole, part in ((jacobian, result.derivative.data), (bars, result.error_estimate)):
            whole[pattern.pattern.rows, pattern.pattern.cols] = self.library.host(part)
        return jacobian, bars


def compare(
    problem: FitProblem,
    *,
    backend: str = "numpy",
    method: str = "adaptive",
    peers: tuple[str, ...] = PEERS,
    progress: Progress | None = None,
) -> Comparison:
    """Fit with arraydiff's derivatives, and again with each of SciPy's.

    Parameters
    ----------
    problem : FitProblem
        Data, free parameters, bounds.
    backend : {"numpy", "torch", "jax", "cupy"}
        Where residuals and derivatives are computed; the optimiser itself runs on the host.
    method : str
        arraydiff's method.
    peers : tuple of str
        SciPy's methods to compare with.
    progress : callable
        Receives one line of text after every evaluation of the residuals.

    Returns
    -------
    Comparison

    Examples
    --------
    >>> from arraydiff.examples.data import TRUTH, simulate
    >>> from arraydiff.examples.xpcs import Experiment
    >>> experiment = Experiment("static", frames=30, dt=1.0)
    >>> truth = [TRUTH[name] for name in experiment.names]
    >>> problem = FitProblem(experiment, simulate(experiment, truth, 0.01, seed=1), 0.01, fixed={"D_offset": 1e3})
    >>> fit = compare(problem, peers=()).best
    >>> bool(abs(fit.values[0] - 0.3) < 4 * fit.uncertainty.standard_errors[0])
    True
    """
    at = library(backend)
    start = starting_values(problem)
    ours = fit(problem, start, at, Derivatives(problem, at, method=method), progress)
    fits = [ours]
    for peer in peers:
        fits.append(fit(problem, start, at, peer, progress))
        reference = Derivatives(problem, at, method=method)(fits[-1].values)
        fits[-1].cost.error_at_end = relative_to_columns(fits[-1].jacobian - reference, reference)
    return Comparison(problem, start, tuple(fits), f"{at.name} on {at.place}")


def fit(
    problem: FitProblem,
    start: np.ndarray,
    at: Library,
    derivatives: Derivatives | str,
    progress: Progress | None = None,
) -> Fit:
    """One least-squares fit inside the bounds; `derivatives` are arraydiff's, or the name of SciPy's."""
    from scipy.optimize import least_squares

    label = derivatives if isinstance(derivatives, str) else "arraydiff"
    counted = Counted(Derivatives(problem, at).values, label, progress)
    began = time.perf_counter()
    found = least_squares(
        counted,
        start,
        jac=derivatives,
        bounds=(problem.lower, problem.upper),
        x_scale="jac",  # one parameter is 1e4, another 1e-3
        ftol=TOLERANCE,
        xtol=TOLERANCE,
        gtol=TOLERANCE,
        max_nfev=MOST_EVALUATIONS,
    )
    seconds = time.perf_counter() - began
    chi2 = 2.0 * float(found.cost)
    spread = 1.0 if problem.sigma is not None else (chi2 / max(len(found.fun) - len(found.x), 1)) ** 0.5
    if isinstance(derivatives, str):
        extra = counted.calls - int(found.nfev)  # SciPy's own count leaves out what its differences took
        cost = Cost({label: int(found.njev)}, calls=extra, points=extra, rounds=extra)
    else:
        cost = derivatives.cost
    return Fit(
        derivatives=label,
        values=found.x,
        jacobian=found.jac,
        uncertainty=uncertainty(found.jac, spread, found.x, problem.lower, problem.upper),
        chi2=chi2 / spread**2,
        sigma=problem.sigma if problem.sigma is not None else spread,
        residuals=len(found.fun),
        evaluations=int(found.nfev),
        seconds=seconds,
        converged=bool(found.success),
        message=str(found.message),
        cost=cost,
    )


class Counted:
    """Residuals that count their calls and report progress."""

    def __init__(self, residual: Callable[[np.ndarray], np.ndarray], label: str, progress: Progress | None) -> None:
        self.residual, self.label, self.progress = residual, label, progress
        self.calls = 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.calls += 1
        values = self.residual(x)
        if self.progress is not None:
            squares = float(values @ values)
            self.progress(f"fit with {self.label} derivatives: {self.calls} residuals, sum of squares {squares:.6g}")
        return values


def relative_to_columns(part: np.ndarray, jacobian: np.ndarray) -> float:
    """Largest entry of `part`, each relative to the largest entry of its column of the Jacobian."""
    scale = np.max(np.abs(jacobian), axis=0)
    return float(np.max(np.abs(part) / np.where(scale > 0.0, scale, 1.0)))
