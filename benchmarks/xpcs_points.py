"""The XPCS problems of the benchmark, with a second model: written by hand with its derivatives, in long double.

The truth shares no line with the package: the Jacobian below is the chain rule on paper, with 64 bits or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arraydiff.examples.data import TRUTH
from arraydiff.examples.xpcs import Experiment, Grid, two_time_correlation, upper_triangle

Real = NDArray[np.floating]

EXTENDED = np.longdouble
PI = 4 * np.arctan(EXTENDED(1))
COMPLEX_STEP = 1e-30  # relative
EXTENDED_ENOUGH = float(np.finfo(EXTENDED).eps) < 1e-18
SIGMA = 0.02
# Contrast, offset; D0, alpha, D_offset; shear_rate0, beta, shear_rate_offset; phi0. Fitted to a laminar measurement.
DIFFUSION = (68480.52195790324, -1.3269436198729994, 1707.7274469848635)
SHEAR = (0.001991038738577138, -0.21192108453016917, -0.0006073761826881216)
MEASURED = np.asarray([0.30167, 1.10606, *DIFFUSION, *SHEAR, 2.0011277630944875])
WEAK_SHEAR = np.asarray([0.30167, 1.10606, 68480.5, -1.327, 1707.7, 1e-6, -0.2, 0.0, 2.0])
ZEROS = np.asarray([0.30167, 1.10606, 4e3, 0.0, 1e3, 2e-3, -0.2, 1e-4, 0.0])
SAMPLE = np.asarray(list(TRUTH.values()))  # what the demo fits: every parameter leaves its mark in 100 frames
POINTS = {"typical": MEASURED, "shear rate 1e-6": WEAK_SHEAR, "alpha = phi0 = 0": ZEROS}


@dataclass(frozen=True)
class Data:
    """Simulated c2 at every angle and pair t1 < t2, with the truth it came from."""

    experiment: Experiment
    grid: Grid
    truth: Real
    c2: Real

    def residual(self, theta: Real) -> Real:
        model = two_time_correlation(theta, self.experiment, self.grid)
        return np.reshape((self.c2 - model) / SIGMA, (*theta.shape[:-1], -1))

    def chi2(self, physical: Real) -> Real:
        """Chi2 of the seven physical parameters, at the true contrast and offset."""
        residual = self.residual(np.concatenate([self.truth[:2].astype(physical.dtype), physical]))
        return np.sum(residual * residual)

    def true_gradient(self, physical: Real) -> Real:
        return self._gradient(physical).astype(float)

    def true_hessian(self, physical: Real) -> Real:
        """Complex steps of the gradient by hand, in long double."""
        steps = COMPLEX_STEP * np.abs(physical).astype(EXTENDED)
        moves = 1j * np.diag(steps)
        columns = [np.imag(self._gradient(physical + move)) / step for move, step in zip(moves, steps, strict=True)]
        return np.stack(columns, axis=-1).astype(float)

    def _gradient(self, physical: Any) -> Any:
        model, columns = reference(np.concatenate([self.truth[:2], physical]), self.experiment)
        residual = (self.c2.astype(EXTENDED) - model) / SIGMA
        return np.asarray([-2 * np.sum(residual * column) / SIGMA for column in columns[2:]])

    def true_jacobian(self, theta: Real) -> Real:
        columns = reference(theta, self.experiment)[1]
        return np.stack([(-column / SIGMA).astype(float).ravel() for column in columns], axis=-1)


def simulate(truth: Real, frames: int, angles: int, seed: int = 20) -> Data:
    """Data with Gaussian noise; every pair of frames once, since c2 is symmetric."""
    experiment = Experiment("laminar", frames=frames, angles=tuple(np.linspace(-10, 10, angles).tolist()))
    grid = Grid.like(truth, experiment, upper_triangle(frames))
    model = reference(truth, experiment)[0].astype(float)
    noise = np.random.default_rng(seed).normal(scale=SIGMA, size=model.shape)
    return Data(experiment, grid, truth, model + noise)


def reference(theta: Any, experiment: Experiment) -> tuple[Any, list[Any]]:
    """c2 (angles, pairs) and its derivative by every one of the nine parameters, which may be complex."""
    contrast, offset, *physical = np.asarray(theta, dtype=np.result_type(theta, EXTENDED))
    q, dt = EXTENDED(experiment.q), EXTENDED(experiment.dt)
    age = np.maximum(experiment.times, max(experiment.dt / 2, 1e-8)).astype(EXTENDED)
    pairs = np.triu_indices(experiment.frames, k=1)
    travel, travel_columns = smooth_integral(*power_law(age, *physical[:3]), pairs)
    strain, strain_columns = smooth_integral(*power_law(age, *physical[3:6]), pairs)

    rate = q * q * dt / 2
    diffusive = np.exp(-rate * travel)
    turn = PI / 180
    angle = turn * (physical[6] - np.asarray(experiment.angles, dtype=EXTENDED))[:, None]
    reach = q * EXTENDED(experiment.gap) * dt / (2 * PI)
    phase = reach * np.cos(angle) * strain
    sinc, slope = sinc_and_slope(phase)

    field = diffusive * sinc**2
    c2 = offset + contrast * field**2
    by_field = 2 * contrast * field
    by_phase = by_field * diffusive * 2 * sinc * slope
    columns = [field**2, np.ones_like(field)]
    columns += [by_field * field * -rate * column for column in travel_columns]
    columns += [by_phase * reach * np.cos(angle) * column for column in strain_columns]
    columns.append(by_phase * -reach * turn * np.sin(angle) * strain)
    return c2, columns


def power_law(age: Real, a: Real, b: Real, c: Real) -> tuple[Real, list[Real]]:
    """a t^b + c with its three derivatives, both floored at 1e-10."""
    power = age**b
    value = a * power + c
    free = np.real(value) > 1e-10
    return np.where(free, value, 1e-10), [free * power, free * a * power * np.log(age), free * np.ones_like(age)]


def smooth_integral(rate: Real, rate_columns: list[Real], pairs: tuple[Real, Real]) -> tuple[Real, list[Real]]:
    distance, *columns = (total[pairs[1]] - total[pairs[0]] for total in map(trapezoids, (rate, *rate_columns)))
    smooth = np.sqrt(distance**2 + EXTENDED(1e-12))
    return smooth, [distance / smooth * column for column in columns]


def trapezoids(rate: Real) -> Real:
    return np.concatenate([np.zeros(1, dtype=EXTENDED), np.cumsum((rate[1:] + rate[:-1]) / 2)])


def sinc_and_slope(x: Real) -> tuple[Real, Real]:
    """sin(x)/x and its derivative; the series where the closed form would cancel."""
    small = np.abs(x) < 0.05
    safe = np.where(small, 1, x)
    square = x * x
    series = 1 - square / 6 * (1 - square / 20 * (1 - square / 42 * (1 - square / 72 * (1 - square / 110))))
    slope = -x / 3 * (1 - square / 10 * (1 - square / 28 * (1 - square / 54 * (1 - square / 88 * (1 - square / 130)))))
    far = np.sin(safe) / safe
    return np.where(small, series, far), np.where(small, slope, (np.cos(safe) - far) / safe)
