"""Jacobians with thousands of entries: what happens to one in a thousand by accident must not fool a bar, or a whole column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arraydiff as ad

GRID = np.linspace(0.0, 10.0, 2000)
TIME = np.linspace(0.0, 4.0, 800)


def peaks(p: Any) -> Any:
    """Five Gaussians: heights, centres, widths."""
    height, centre, width = p.reshape(3, 5)
    return np.sum(height * np.exp(-0.5 * ((GRID[:, None] - centre) / width) ** 2), axis=1)


def peaks_jacobian(p: np.ndarray) -> np.ndarray:
    height, centre, width = p.reshape(3, 5)
    away = (GRID[:, None] - centre) / width
    bell = np.exp(-0.5 * away**2)
    return np.concatenate([bell, height * bell * away / width, height * bell * away**2 / width], axis=1)


def residual(p: Any) -> Any:
    """Beside data that the model meets: what is left of the digits is little."""
    return (p[0] * np.exp(-p[1] * TIME) + p[2] + p[3] * TIME - 1.5) / 0.01


def residual_jacobian(p: np.ndarray) -> np.ndarray:
    decay = np.exp(-p[1] * TIME) / 0.01
    return np.stack([decay, -TIME * p[0] * decay, np.full_like(TIME, 100.0), TIME / 0.01], axis=1)


PEAKS = np.concatenate([np.linspace(1.0, 3.0, 5), np.linspace(1.0, 9.0, 5), np.linspace(0.3, 0.7, 5)])
RESIDUAL = np.array([0.3, 0.7, 1.1, 0.02])
CASES = {"peaks": (peaks, peaks_jacobian, PEAKS), "residual": (residual, residual_jacobian, RESIDUAL)}


@pytest.mark.parametrize("case", CASES)
def test_of_thousands_of_bars_of_a_ladder_95_percent_hold_and_none_is_far_off(case):
    f, jacobian, x = CASES[case]
    result = ad.jacobian(f, opaque=True).result(x)
    error = np.abs(result.jacobian - jacobian(x.astype(np.longdouble)).astype(float))
    assert np.mean(error <= result.error_estimate) >= 0.95
    assert np.mean(error <= 100 * result.error_estimate) >= 0.999
    assert np.max(error / np.max(np.abs(result.jacobian), axis=0)) <= 1e-10


def test_outputs_that_look_like_kinks_by_accident_do_not_end_the_ladder_of_a_parameter_at_0():
    rate, t = 1e7, np.linspace(0.1, 3.0, 2000)
    x = np.array([0.0, 0.3, 0.2, 0.1])  # the first changes f over 1e-7, and 0 does not tell that
    result = ad.jacobian(lambda p: np.cos(rate * p[0] * t + 0.1) + p[1] * t + p[2] * t**2 + p[3], opaque=True).result(x)
    np.testing.assert_allclose(result.jacobian[:, 0], -rate * t * np.sin(0.1), rtol=1e-4)


def test_a_parameter_in_which_f_is_linear_is_not_taken_for_more_exact_than_f_rounds():
    x = np.array([0.3, 0.7, 1.1, 0.02])
    result = ad.jacobian(residual, opaque=True).result(x)
    error = np.abs(result.jacobian - residual_jacobian(x))[:, [0, 2, 3]]
    assert np.mean(error <= result.error_estimate[:, [0, 2, 3]]) >= 0.95
