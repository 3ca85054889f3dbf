"""Where a function is differentiated: samplers take a generator and a count, and give float64 points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Sampler = Callable[[np.random.Generator, int], np.ndarray]


def uniform(low: float, high: float) -> Sampler:
    """Evenly between `low` and `high`."""
    return lambda rng, count: rng.uniform(low, high, count)


def decades(low: float, high: float) -> Sampler:
    """Evenly in the logarithm between `low` and `high`, of one sign."""
    return lambda rng, count: low * (high / low) ** rng.random(count)


def beyond(origin: float, near: float, far: float) -> Sampler:
    """At a distance from `origin` that is even in its logarithm; negative distances are below."""
    return lambda rng, count: origin + decades(near, far)(rng, count)


def only(x: float) -> Sampler:
    """One point, whatever count is asked for: there is nothing to draw."""
    return lambda _rng, _count: np.asarray([x])
