"""X-ray photon correlation spectroscopy: two-time correlations of a suspension at rest or in laminar flow.

The model is that of homodyne scattering from a sample whose diffusion and shear rate change with its age
(He et al., PNAS 121 (2024) e2401162121): diffusion decorrelates the speckle of every frame pair, shear decorrelates it
faster along the flow than across. Lengths are in ångström, times in seconds, angles in degrees.

Everything here is written once on the array API and keeps the complex step exact: powers are ``exp(a log t)``,
conditions look at the real part, floors and clips are ``where``, and residuals are never squared here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace, device

Array = Any
Mode = Literal["static", "laminar"]

RATE_FLOOR = 1e-10  # diffusion and shear rate are kept positive; below it their derivatives vanish
FIELD_FLOOR = 1e-10  # smallest field correlation g1
LOG_FIELD_LOWEST = -700.0  # exp of less is subnormal in float64
SHORTEST_AGE = 1e-8  # s; the age of frame 0 is half a frame, but never less than this
DISTANCE_SMOOTHING = 1e-12  # |d| is replaced by sqrt(d^2 + this), so that the diagonal has a derivative
SERIES_BELOW = 1e-4  # three terms of the series of sin(x)/x are exact to rounding here


@dataclass(frozen=True)
class Parameter:
    """One parameter of the model: its unit, the physically meaningful range, and what it is."""

    name: str
    unit: str
    lower: float
    upper: float
    meaning: str


CONTRAST = Parameter("contrast", "1", 0.0, 1.0, "speckle contrast")
OFFSET = Parameter("offset", "1", 0.5, 1.5, "baseline of c2")
STATIC_PARAMETERS = (
    Parameter("D0", "Å²/s^(1+alpha)", 1e2, 1e5, "diffusion at an age of 1 s"),
    Parameter("alpha", "1", -2.0, 2.0, "exponent of the ageing of diffusion"),
    Parameter("D_offset", "Å²/s", -1e5, 1e5, "diffusion that does not age"),
)
FLOW_PARAMETERS = (
    Parameter("shear_rate0", "1/s^(1+beta)", 1e-6, 0.5, "shear rate at an age of 1 s"),
    Parameter("beta", "1", -2.0, 2.0, "exponent of the ageing of the shear rate"),
    Parameter("shear_rate_offset", "1/s", -0.1, 0.1, "shear rate that does not age"),
    Parameter("phi0", "deg", -10.0, 10.0, "direction of the flow"),
)


@dataclass(frozen=True)
class Experiment:
    """What is known about a measurement before any fit.

    Parameters
    ----------
    mode : {"static", "laminar"}
        With or without the shear of a laminar flow.
    frames : int
        Number of frames N.
    angles : tuple of float
        Azimuthal angle of every detector region, in degrees; a static experiment does not depend on them.
    q : float
        Wavevector in 1/Å.
    dt : float
        Time from frame to frame in s.
    gap : float
        Distance between the plates of the shear cell in Å (laminar only).
    scaling_per_angle : bool
        One contrast and one offset for each angle, instead of one of each.

    Examples
    --------
    >>> Experiment("static", frames=100).names
    ('contrast', 'offset', 'D0', 'alpha', 'D_offset')
    """

    mode: Mode = "laminar"
    frames: int = 100
    angles: tuple[float, ...] = (0.0,)
    q: float = 0.0054
    dt: float = 0.1
    gap: float = 2e6
    scaling_per_angle: bool = False

    @property
    def scalings(self) -> int:
        """How many contrasts, and how many offsets, there are."""
        return len(self.angles) if self.scaling_per_angle else 1

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters in the order in which theta holds them: contrasts, offsets, diffusion, flow."""
        physical = STATIC_PARAMETERS + (FLOW_PARAMETERS if self.mode == "laminar" else ())
        if not self.scaling_per_angle:
            return (CONTRAST, OFFSET, *physical)
        scalings = [replace(p, name=f"{p.name}[{i}]") for p in (CONTRAST, OFFSET) for i in range(self.scalings)]
        return (*scalings, *physical)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters, in the order of theta."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def lower(self) -> np.ndarray:
        """Lower physical bounds, shape (n,)."""
        return np.asarray([parameter.lower for parameter in self.parameters])

    @property
    def upper(self) -> np.ndarray:
        """Upper physical bounds, shape (n,)."""
        return np.asarray([parameter.upper for parameter in self.parameters])

    @property
    def times(self) -> np.ndarray:
        """Times of the frames in s, shape (N,)."""
        return self.dt * np.arange(self.frames)


@dataclass(frozen=True, eq=False)
class Grid:
    """What the model needs besides theta, as arrays of the library and on the device of theta.

    Parameters
    ----------
    log_age : array, shape (N,)
        Logarithm of the age of every frame in s.
    angles : array, shape (P,)
        Azimuthal angles in degrees.
    first, second : array of int, shape (M,), or None
        Frame pairs; None for all N x N of them.
    """

    log_age: Array
    angles: Array
    first: Array | None = None
    second: Array | None = None

    @classmethod
    def like(cls, x: Array, experiment: Experiment, pairs: tuple[np.ndarray, np.ndarray] | None = None) -> Grid:
        """Put the grid where the array x lives."""
        age = np.maximum(experiment.times, max(experiment.dt / 2, SHORTEST_AGE))  # no 0**alpha at frame 0
        log_age, angles = (real_like(x, values) for values in (np.log(age), np.asarray(experiment.angles)))
        if pairs is None:
            return cls(log_age, angles)
        xp, place = array_namespace(x), device(x)
        return cls(log_age, angles, *(xp.asarray(index, device=place) for index in pairs))


def real_like(x: Array, values: np.ndarray) -> Array:
    """Host numbers in the library, on the device and in the precision of x."""
    xp = array_namespace(x)
    return xp.asarray(values, dtype=_real(xp, x).dtype, device=device(x))


def upper_triangle(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Every frame pair t1 < t2 once: c2 is symmetric, and its diagonal holds no dynamics."""
    first, second = np.triu_indices(frames, k=1)
    return first, second


def two_time_correlation(theta: Array, experiment: Experiment, grid: Grid | None = None) -> Array:
    """Model of c2(phi, t1, t2).

    Parameters
    ----------
    theta : array, shape (..., n), real or complex floating
        Contrast and offset (one each, or one an angle), then D0, alpha, D_offset, and in laminar mode shear_rate0,
        beta, shear_rate_offset, phi0.
    experiment : Experiment
        Geometry and times.
    grid : Grid, optional
        Made once with ``Grid.like`` it saves a copy to the device at every call; default: all frame pairs.

    Returns
    -------
    array, shape (..., P, N, N), or (..., P, M) for a grid of M pairs
        In the array library, on the device and of the dtype of theta.

    References
    ----------
    He et al., PNAS 121 (2024) e2401162121, as the package homodyne implements it: sin(x)/x is not normalised, and c2
    holds its fourth power.

    Examples
    --------
    >>> import numpy as np
    >>> experiment = Experiment("static", frames=3, dt=1.0)
    >>> c2 = two_time_correlation(np.asarray([0.3, 1.0, 1e4, 0.0, 0.0]), experiment)
    >>> c2.shape, bool(c2[0, 0, 1] < c2[0, 0, 0])
    ((1, 3, 3), True)
    """
    xp = array_namespace(theta)
    grid = Grid.like(theta, experiment) if grid is None else grid
    s = experiment.scalings
    pair_axes = 2 if grid.first is None else 1

    field = xp.expand_dims(
        decay(theta[..., 2 * s : 2 * s + 3], experiment, grid), axis=-1 - pair_axes
    )  # one for all angles
    if experiment.mode == "laminar":
        strained = xp.expand_dims(strain(theta[..., 2 * s + 3 : 2 * s + 6], grid), axis=-1 - pair_axes)
        sinc = decorrelation(theta[..., 2 * s + 6 : 2 * s + 7], strained, experiment, grid.angles, pair_axes)
        field = field * sinc * sinc
    field = floored(field)

    contrast = _with_axes(xp, theta[..., :s], pair_axes)
    offset = _with_axes(xp, theta[..., s : 2 * s], pair_axes)
    c2 = offset + contrast * field * field
    return xp.broadcast_to(c2, (*theta.shape[:-1], len(experiment.angles), *c2.shape[-pair_axes:]))


def decay(law: Array, experiment: Experiment, grid: Grid) -> Array:
    """Decorrelation by diffusion between the frames of every pair; law (..., 3) holds D0, alpha, D_offset."""
    xp = array_namespace(law)
    exponent = -(experiment.q**2 * experiment.dt / 2) * _integral(xp, _ageing(xp, law, grid), grid)
    return xp.exp(_clip_exponent(xp, exponent))


def strain(law: Array, grid: Grid) -> Array:
    """Strain between the frames of every pair, over dt; law (..., 3) holds shear_rate0, beta, shear_rate_offset."""
    xp = array_namespace(law)
    return _integral(xp, _ageing(xp, law, grid), grid)


def decorrelation(phi0: Array, strained: Array, experiment: Experiment, angles: Array, axes: int) -> Array:
    """sin(x)/x of the shear at every angle, followed by so many axes of pairs; phi0 (..., 1)."""
    xp = array_namespace(phi0)
    phase = (experiment.q * experiment.gap * experiment.dt / (2 * math.pi)) * xp.cos((math.pi / 180) * (phi0 - angles))
    return _sinc(xp, _with_axes(xp, phase, axes) * strained)


def floored(field: Array) -> Array:
    """The field correlation g1, kept above its floor."""
    return _floor(array_namespace(field), field, FIELD_FLOOR)


def _ageing(xp: Any, law: Array, grid: Grid) -> Array:
    """a t^b + c for every frame, kept above the floor; law (..., 3) holds a, b, c."""
    amplitude, exponent, constant = law[..., 0:1], law[..., 1:2], law[..., 2:3]
    return _floor(xp, amplitude * xp.exp(exponent * grid.log_age) + constant, RATE_FLOOR)


def _integral(xp: Any, rate: Array, grid: Grid) -> Array:
    """Smoothed absolute integral of a rate between the frames of every pair, in units of dt (trapezoidal rule)."""
    steps = (rate[..., 1:] + rate[..., :-1]) / 2
    total = xp.concat((xp.zeros_like(rate[..., :1]), xp.cumulative_sum(steps, axis=-1)), axis=-1)
    if grid.first is None:
        distance = xp.expand_dims(total, axis=-1) - xp.expand_dims(total, axis=-2)
    else:
        distance = xp.take(total, grid.second, axis=-1) - xp.take(total, grid.first, axis=-1)
    return xp.sqrt(distance * distance + DISTANCE_SMOOTHING)


def _sinc(xp: Any, x: Array) -> Array:
    """sin(x)/x, by its series near 0."""
    near = xp.abs(_real(xp, x)) < SERIES_BELOW
    away = xp.where(near, xp.ones_like(x[..., :1]), x)
    square = x * x
    return xp.where(near, 1 - square / 6 + square * square / 120, xp.sin(away) / away)


def _clip_exponent(xp: Any, x: Array) -> Array:
    """x between the lowest exponent and 0, judged by its real part."""
    x = _floor(xp, x, LOG_FIELD_LOWEST)
    return xp.where(_real(xp, x) < 0.0, x, xp.zeros_like(x[..., :1]))


def _floor(xp: Any, x: Array, floor: float) -> Array:
    """x where its real part is above the floor, else the floor, with derivative zero there."""
    return xp.where(_real(xp, x) > floor, x, xp.full_like(x[..., :1], floor))


def _with_axes(xp: Any, x: Array, axes: int) -> Array:
    """x with so many trailing axes of length 1."""
    return xp.reshape(x, (*x.shape, *(1,) * axes))


def _real(xp: Any, x: Array) -> Array:
    """Real part; the standard defines `real` for complex arrays only."""
    return xp.real(x) if xp.isdtype(x.dtype, "complex floating") else x


@dataclass(frozen=True, eq=False)
class Residual:
    """(c2 - model)/sigma of every frame pair, as a function of the parameters that are free.

    Each pair t1 < t2 counts once: the lower triangle repeats the same measurements, so counting both would shrink the
    standard errors by sqrt(2) for nothing.

    Parameters
    ----------
    experiment : Experiment
        Geometry and times.
    grid : Grid
        With frame pairs.
    c2 : array, shape (P, M)
        The data at these pairs.
    sigma : float
        Standard deviation of one entry.
    theta : tuple of float
        All parameters; those that are free are replaced.
    free : tuple of int
        Which entries of theta are free, in the order in which they are passed.
    """

    experiment: Experiment
    grid: Grid
    c2: Array
    sigma: float
    theta: tuple[float, ...]
    free: tuple[int, ...]

    def __call__(self, values: Array) -> Array:
        """Residuals, shape (..., P * M), at free parameters of shape (..., n)."""
        xp = array_namespace(values)
        model = two_time_correlation(self.complete(values), self.experiment, self.grid)
        return xp.reshape((self.c2 - model) / self.sigma, (*values.shape[:-1], -1))

    def complete(self, values: Array) -> Array:
        """All parameters, shape (..., n + number of fixed ones)."""
        if self.free == tuple(range(len(self.theta))):
            return values
        xp = array_namespace(values)
        place = {index: position for position, index in enumerate(self.free)}
        columns = [
            values[..., place[i]] if i in place else xp.full_like(values[..., 0], fixed)
            for i, fixed in enumerate(self.theta)
        ]
        return xp.stack(columns, axis=-1)
