"""The XPCS model: against plain loops, in every library, and differentiable by the complex step."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from array_api_compat import array_namespace

import arraydiff as ad
from arraydiff.examples.xpcs import Experiment, Grid, Residual, real_like, two_time_correlation, upper_triangle

array_api_strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")

FITTED = (0.30167, 1.10606, 68480.522, -1.3269436, 1707.72745, 0.001991038739, -0.2119211, -0.00060737618, 2.0011277631)
TYPICAL = (0.3, 1.0, 1.2e4, -0.8, 1e3, 1.2e-3, -0.5, 1e-4, 2.0)
BELOW_THE_FLOOR = (0.3, 1.0, 2e3, -0.5, -3e3, 1e-3, -0.5, -9e-4, 2.0)  # both rates turn negative with age
ZEROS = (0.3, 1.0, 1e3, 0.0, 0.0, 1e-6, 0.0, 0.0, 0.0)
POINTS = {"fitted": FITTED, "typical": TYPICAL, "below the floor": BELOW_THE_FLOOR, "zeros": ZEROS}
LAMINAR = Experiment("laminar", frames=7, angles=(-10.0, 0.0, 35.0))


def by_plain_loops(theta, experiment):
    """The formulas of the model, one frame pair at a time, with nothing but the math module."""
    contrast, offset, *physical = theta
    q, dt, n = experiment.q, experiment.dt, experiment.frames
    ages = [max(k * dt, dt / 2, 1e-8) for k in range(n)]

    def integral(law, i, j):
        rates = [max(law[0] * age ** law[1] + law[2], 1e-10) for age in ages]
        total = sum((rates[k] + rates[k + 1]) / 2 for k in range(min(i, j), max(i, j)))
        return math.sqrt(total**2 + 1e-12)

    def entry(angle, i, j):
        field = math.exp(max(-(q**2) * dt / 2 * integral(physical[:3], i, j), -700.0))
        if experiment.mode == "laminar":
            along = math.cos(math.radians(physical[6] - angle))
            phase = q * experiment.gap * dt / (2 * math.pi) * along * integral(physical[3:6], i, j)
            field *= (math.sin(phase) / phase) ** 2
        return offset + contrast * max(field, 1e-10) ** 2

    return np.asarray([[[entry(a, i, j) for j in range(n)] for i in range(n)] for a in experiment.angles])


@pytest.mark.parametrize("theta", POINTS.values(), ids=POINTS)
def test_the_laminar_model_is_that_of_plain_loops(theta):
    computed = two_time_correlation(np.asarray(theta), LAMINAR)
    np.testing.assert_allclose(computed, by_plain_loops(theta, LAMINAR), rtol=1e-13)


@pytest.mark.parametrize("theta", POINTS.values(), ids=POINTS)
def test_the_static_model_is_that_of_plain_loops_and_the_same_at_every_angle(theta):
    experiment = Experiment("static", frames=9, angles=(0.0, 45.0), dt=0.5)
    computed = two_time_correlation(np.asarray(theta[:5]), experiment)
    np.testing.assert_allclose(computed, by_plain_loops(theta[:5], experiment), rtol=1e-13)


def test_c2_is_symmetric_and_falls_from_contrast_plus_offset_to_offset():
    c2 = two_time_correlation(np.asarray(TYPICAL), Experiment("laminar", frames=200))[0]
    np.testing.assert_array_equal(c2, c2.T)
    np.testing.assert_allclose(np.diagonal(c2), 1.3, rtol=1e-6)
    np.testing.assert_allclose(c2[0, -1], 1.0, atol=1e-6)


def test_frame_pairs_are_entries_of_the_matrix():
    theta, pairs = np.asarray(TYPICAL), upper_triangle(LAMINAR.frames)
    some = two_time_correlation(theta, LAMINAR, Grid.like(theta, LAMINAR, pairs))
    np.testing.assert_array_equal(some, two_time_correlation(theta, LAMINAR)[:, pairs[0], pairs[1]])


@pytest.mark.parametrize("pairs", [None, upper_triangle(7)], ids=["matrix", "pairs"])
def test_leading_axes_of_theta_are_a_batch(pairs):
    batch = np.asarray([[TYPICAL, FITTED], [ZEROS, BELOW_THE_FLOOR]])
    grid = Grid.like(batch, LAMINAR, pairs)
    together = two_time_correlation(batch, LAMINAR, grid)
    for index in np.ndindex(2, 2):
        np.testing.assert_array_equal(together[index], two_time_correlation(batch[index], LAMINAR, grid))


def test_every_angle_may_have_its_own_contrast_and_offset():
    own = Experiment("static", frames=6, angles=(0.0, 10.0), scaling_per_angle=True)
    assert own.names == ("contrast[0]", "contrast[1]", "offset[0]", "offset[1]", "D0", "alpha", "D_offset")
    assert len(own.lower) == len(own.upper) == 7
    c2 = two_time_correlation(np.asarray([0.2, 0.4, 1.0, 1.1, 1e4, -0.5, 0.0]), own)
    for p, (contrast, offset) in enumerate([(0.2, 1.0), (0.4, 1.1)]):
        alone = by_plain_loops((contrast, offset, 1e4, -0.5, 0.0), Experiment("static", frames=6))
        np.testing.assert_allclose(c2[p], alone[0], rtol=1e-13)


def _library(name):
    if name == "strict":
        return array_api_strict.asarray
    module = pytest.importorskip(name, reason=f"{name} is not installed")
    if name == "jax":
        module.config.update("jax_enable_x64", True)
        return module.numpy.asarray
    return module.asarray


@pytest.mark.parametrize("name", ["strict", "torch", "jax"])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_every_library_gives_what_numpy_gives_in_its_own_arrays(name, dtype):
    asarray, theta = _library(name), np.asarray(TYPICAL, dtype=dtype)
    theirs = two_time_correlation(asarray(theta), LAMINAR)
    assert array_namespace(theirs) is array_namespace(asarray(theta))
    np.testing.assert_allclose(np.asarray(theirs), two_time_correlation(theta, LAMINAR), rtol=1e-13)


def test_single_precision_stays_single():
    assert two_time_correlation(np.asarray(TYPICAL, dtype=np.float32), LAMINAR).dtype == np.float32


@pytest.mark.parametrize("theta", [TYPICAL, FITTED, BELOW_THE_FLOOR], ids=["typical", "fitted", "below the floor"])
def test_the_complex_step_is_the_derivative_of_the_plain_loops_in_high_precision(theta):
    mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")
    mpmath.mp.dps = 60
    experiment = Experiment("laminar", frames=4, angles=(35.0,))
    for i, value in enumerate(theta):
        point = np.asarray(theta, dtype=complex)
        point[i] += 1e-30j * abs(value)
        step = two_time_correlation(point, experiment)[0, 0, 3].imag / (1e-30 * abs(value))
        exact = float(mpmath.diff(lambda x, i=i: _in_high_precision(theta, i, x, experiment), mpmath.mpf(value)))
        assert step == pytest.approx(exact, rel=1e-12, abs=1e-14)


def _in_high_precision(theta, i, x, experiment):
    """c2 between the first and the last frame at the first angle, theta[i] replaced by x."""
    from mpmath import cos, exp, mpf, pi, sin, sqrt

    contrast, offset, *law = (x if k == i else mpf(value) for k, value in enumerate(theta))
    q, dt, gap = mpf(experiment.q), mpf(experiment.dt), mpf(experiment.gap)
    ages = [dt * k if k else dt / 2 for k in range(experiment.frames)]

    def integral(a, b, c):
        rates = [max(a * age**b + c, mpf(1e-10)) for age in ages]
        return sqrt(sum((r + s) / 2 for r, s in itertools.pairwise(rates)) ** 2 + mpf(1e-12))

    phase = q * gap * dt / (2 * pi) * cos(pi / 180 * (law[6] - mpf(experiment.angles[0]))) * integral(*law[3:6])
    field = exp(-(q**2) * dt / 2 * integral(*law[:3])) * (sin(phase) / phase) ** 2
    return offset + contrast * max(field, mpf(1e-10)) ** 2


def residual_at(theta, free=None, like=None):
    experiment, like = LAMINAR, np.zeros(1) if like is None else like
    pairs = upper_triangle(experiment.frames)
    data = by_plain_loops(TYPICAL, experiment)[:, pairs[0], pairs[1]]
    grid = Grid.like(like, experiment, pairs)
    free = tuple(range(9)) if free is None else free
    return Residual(experiment, grid, real_like(like, data), 0.5, tuple(theta), free)


def test_the_residual_counts_each_pair_once_and_scales_with_sigma():
    moved = np.asarray(TYPICAL)
    moved[1] += 0.25
    residual = residual_at(TYPICAL)(moved)
    assert residual.shape == (3 * 21,)
    np.testing.assert_allclose(residual, -0.5, rtol=1e-12)


def test_fixed_parameters_are_not_arguments_of_the_residual():
    whole, part = residual_at(TYPICAL), residual_at(TYPICAL, free=(2, 5))
    np.testing.assert_array_equal(
        part(np.asarray([9e3, 1e-3])), whole(np.asarray([*TYPICAL[:2], 9e3, *TYPICAL[3:5], 1e-3, *TYPICAL[6:]]))
    )
    assert part(np.ones((4, 2))).shape == (4, 63)


def test_the_jacobian_of_the_residual_is_that_of_the_complex_step_in_every_library():
    exact = np.stack(
        [
            residual_at(TYPICAL)(np.asarray(TYPICAL) + 1e-25j * v * row).imag / (1e-25 * v)
            for v, row in zip(TYPICAL, np.eye(9), strict=True)
        ],
        -1,
    )
    size = np.max(np.abs(exact), axis=0)
    for asarray in (np.asarray, _library("torch")):
        theta = asarray(np.asarray(TYPICAL))
        computed = np.asarray(ad.jacobian(residual_at(TYPICAL, like=theta)).result(theta).derivative)
        assert np.max(np.abs(computed - exact) / size) < 1e-12
