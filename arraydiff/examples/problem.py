"""What is fitted: data, parameters that are free or fixed, their bounds, and where the search starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from arraydiff.examples.xpcs import Array, Experiment, Grid, Residual, real_like, two_time_correlation, upper_triangle

CANDIDATES = 1000  # random starting points that are looked at; one call of the model serves all of them
CANDIDATE_FRAMES = 24  # on so many frames
CANDIDATE_SEED = 11
RATE_OF = {"D_offset": "D0", "shear_rate_offset": "shear_rate0"}  # what does not age, beside what does


@dataclass(frozen=True)
class FitProblem:
    """A least-squares problem.

    Parameters
    ----------
    experiment : Experiment
        Geometry and times.
    c2 : ndarray, shape (P, N, N)
        Symmetric data; the diagonal is ignored.
    sigma : float, optional
        Standard deviation of one entry; None: estimated from the residuals of the fit.
    fixed : mapping of name to value
        Parameters that are not fitted.
    start : mapping of name to value
        Where the search starts; the others are derived from the data.
    bounds : mapping of name to (lower, upper)
        Narrower or wider than the physical ones.

    Raises
    ------
    ValueError
        A name is unknown, a value is not finite or outside its bounds, or nothing is left to fit.
    """

    experiment: Experiment
    c2: np.ndarray
    sigma: float | None = None
    fixed: Mapping[str, float] = field(default_factory=dict)
    start: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_shapes()
        known = self.experiment.names
        for name in (*self.fixed, *self.start, *self.bounds):
            if name not in known:
                raise ValueError(f"unknown parameter {name!r}; a {self.experiment.mode} fit has: {', '.join(known)}")
        for name, (low, high) in self.bounds.items():
            if not low < high:
                raise ValueError(f"bounds of {name}: lower must be below upper, got {low:g}:{high:g}")
        for name, value in self.fixed.items():
            if not np.isfinite(value):
                raise ValueError(f"{name} is fixed at {value}; give a finite number")
        for name, value in self.start.items():
            low, high = self.limits(name)
            if not low <= value <= high:
                raise ValueError(
                    f"start of {name}: {value:g} lies outside its bounds {low:g}:{high:g}; widen them or move it"
                )
        if not self.names:
            raise ValueError("every parameter is fixed; leave at least one free")

    def _check_shapes(self) -> None:
        wanted = (len(self.experiment.angles), self.experiment.frames, self.experiment.frames)
        if self.c2.shape != wanted:
            raise ValueError(f"c2 must have shape {wanted} (angles, frames, frames), got {self.c2.shape}")
        if self.sigma is not None and not (np.isfinite(self.sigma) and self.sigma > 0):
            raise ValueError(f"sigma must be > 0, got {self.sigma:g}; leave it out to have it estimated")

    @property
    def free(self) -> tuple[int, ...]:
        """Positions of the fitted parameters in theta."""
        return tuple(i for i, name in enumerate(self.experiment.names) if name not in self.fixed)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fitted parameters."""
        return tuple(self.experiment.names[i] for i in self.free)

    @property
    def lower(self) -> np.ndarray:
        """Lower bounds of the fitted parameters."""
        return np.asarray([self.limits(name)[0] for name in self.names])

    @property
    def upper(self) -> np.ndarray:
        """Upper bounds of the fitted parameters."""
        return np.asarray([self.limits(name)[1] for name in self.names])

    def limits(self, name: str) -> tuple[float, float]:
        """Bounds of one parameter."""
        parameter = self.experiment.parameters[self.experiment.names.index(name)]
        return self.bounds.get(name, (parameter.lower, parameter.upper))

    def residual(self, like: Array) -> Residual:
        """The residuals as a function of the free parameters, in the library and on the device of `like`."""
        pairs = upper_triangle(self.experiment.frames)
        grid = Grid.like(like, self.experiment, pairs)
        data = self.c2[:, pairs[0], pairs[1]]
        template = tuple(float(self.fixed.get(name, 0.0)) for name in self.experiment.names)
        return Residual(self.experiment, grid, real_like(like, data), self.sigma or 1.0, template, self.free)

    @property
    def pattern(self) -> tuple[np.ndarray, np.ndarray, tuple[int, int]] | None:
        """(rows, cols, shape) of the Jacobian where each angle has a contrast and an offset of its own, else None."""
        angles, frames = len(self.experiment.angles), self.experiment.frames
        if self.experiment.scalings < 2:
            return None
        pairs = frames * (frames - 1) // 2
        seen = [
            [not name.endswith("]") or name.endswith(f"[{angle}]") for name in self.names] for angle in range(angles)
        ]
        rows, cols = np.nonzero(np.repeat(np.asarray(seen), pairs, axis=0))
        return rows, cols, (angles * pairs, len(self.names))

    def theta(self, values: np.ndarray) -> np.ndarray:
        """All parameters, from the fitted ones."""
        theta = np.asarray([self.fixed.get(name, 0.0) for name in self.experiment.names], dtype=float)
        theta[list(self.free)] = values
        return theta


def starting_values(problem: FitProblem) -> np.ndarray:
    """Free parameters from which the search finds the best fit.

    Random points between the bounds are compared with the data on a few frames, contrast and offset solved for; the
    best one wins. Dynamics that are far too fast or too slow give residuals without a slope, which is why the middle
    of the bounds will not do.
    """
    experiment, names = problem.experiment, problem.experiment.names
    physical = names[2 * experiment.scalings :]
    rng = np.random.default_rng(CANDIDATE_SEED)
    draws: dict[str, np.ndarray] = {}
    for name in physical:
        draws[name] = _draw(rng, name, *problem.limits(name), draws)
    for name, value in {**problem.start, **problem.fixed}.items():
        if name in draws:
            draws[name] = np.full(CANDIDATES, value)

    shared = replace(experiment, scaling_per_angle=False)
    unit = np.stack([np.ones(CANDIDATES), np.zeros(CANDIDATES), *draws.values()], axis=-1)
    chosen = np.unique(np.linspace(0, experiment.frames - 1, CANDIDATE_FRAMES).round().astype(int))
    close = upper_triangle(len(chosen))
    pairs = (np.append(chosen[close[0]], chosen[:-1]), np.append(chosen[close[1]], chosen[:-1] + 1))
    decays = two_time_correlation(unit, shared, Grid.like(unit, shared, pairs)).reshape(CANDIDATES, -1)
    data = problem.c2[:, pairs[0], pairs[1]].reshape(-1)
    contrast, offset = _scaling(problem, decays, data)
    misfit = np.sum((data - offset[:, None] - contrast[:, None] * decays) ** 2, axis=-1)
    best = int(np.argmin(misfit))

    found = {name: float(values[best]) for name, values in draws.items()}
    found |= dict.fromkeys(names[: experiment.scalings], float(contrast[best]))
    found |= dict.fromkeys(names[experiment.scalings : 2 * experiment.scalings], float(offset[best]))
    return np.asarray([problem.start.get(name, _inside(found[name], *problem.limits(name))) for name in problem.names])


def _scaling(problem: FitProblem, decays: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares contrast and offset of every candidate, inside their bounds."""
    first, last = problem.experiment.names[0], problem.experiment.names[problem.experiment.scalings]
    centred = decays - np.mean(decays, axis=-1, keepdims=True)
    spread = np.sum(centred**2, axis=-1)
    contrast = centred @ data / np.where(spread > 0.0, spread, 1.0)
    contrast = np.clip(contrast, *problem.limits(first))
    if first in problem.fixed:
        contrast = np.full_like(contrast, problem.fixed[first])
    offset = np.clip(np.mean(data) - contrast * np.mean(decays, axis=-1), *problem.limits(last))
    return contrast, np.full_like(offset, problem.fixed[last]) if last in problem.fixed else offset


def _draw(
    rng: np.random.Generator, name: str, low: float, high: float, earlier: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Candidates for one parameter: rates over their decades, constants a part of them, the rest around 0."""
    if name in RATE_OF.values():
        return np.exp(rng.uniform(np.log(max(low, 1e-12)), np.log(max(high, 1e-12)), CANDIDATES))
    if name in RATE_OF:  # not exactly 0, which would tell no difference quotient how large a step may be
        return np.clip(earlier[RATE_OF[name]] * rng.uniform(0.01, 0.3, CANDIDATES), low, high)
    middle = min(max(0.0, low), high)
    return middle + (rng.uniform(low, high, CANDIDATES) - middle) / (1 if name == "phi0" else 2)


def _inside(value: float, low: float, high: float) -> float:
    """The value, moved off a bound that it would otherwise start on."""
    margin = 0.01 * min(high - low, 1.0)
    return low + margin if value <= low else high - margin if value >= high else value
