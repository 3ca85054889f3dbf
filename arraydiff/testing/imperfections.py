"""What keeps a computed function from its formula: noise, few digits, unfinished iterations, the end of a domain.

Each one takes the exact function and a generator, and gives the function that is differentiated.
"""

# ruff: noqa: ARG001, ARG005 - not every imperfection draws, and one has no use for the formula
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from arraydiff._typing import Array

Function = Callable[[Any], Any]
Imperfection = Callable[[Function, np.random.Generator], Function]


def hashed(x: Array, seed: int = 0) -> Array:
    """Numbers of mean 0 and standard deviation 1 that look random and depend on the bits of x alone (splitmix64)."""
    bits = np.asarray(np.real(x), dtype=np.float64).copy().view(np.uint64) ^ np.uint64(seed)
    with np.errstate(over="ignore"):
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return (2 * np.asarray((bits >> np.uint64(11)) / 2.0**53) - 1) * np.sqrt(3.0)


def hash_noise(level: float, *, relative: bool = False) -> Imperfection:
    """Noise that is the same at the same x, of standard deviation `level`, times f if relative."""

    def spoil(function: Function, rng: np.random.Generator) -> Function:
        seed = int(rng.integers(2**63))

        def noisy(x: Any) -> Array:
            value, noise = function(x), level * hashed(x, seed)
            return value * (1 + noise) if relative else value + noise

        return noisy

    return spoil


def random_noise(level: float, *, relative: bool = False) -> Imperfection:
    """Normal noise, drawn anew at every evaluation."""

    def spoil(function: Function, rng: np.random.Generator) -> Function:
        def noisy(x: Any) -> Array:
            value, noise = function(x), level * rng.standard_normal(np.shape(x))
            return value * (1 + noise) if relative else value + noise

        return noisy

    return spoil


def wave(amplitude: float, frequency: float) -> Imperfection:
    """A sine far too fast for anyone to follow."""
    return lambda function, rng: lambda x: function(x) + amplitude * np.sin(frequency * np.real(x))


def inside_float32(function: Function, rng: np.random.Generator) -> Function:
    """Computed in float32, returned in float64."""
    return lambda x: np.asarray(function(np.asarray(np.real(x), dtype=np.float32)), dtype=np.float64)[()]


def rounded(decimals: int) -> Imperfection:
    """Read back from a text with so many decimals."""
    return lambda function, rng: lambda x: np.round(np.real(function(x)), decimals)


def printed(digits: int) -> Imperfection:
    """Read back from a text with so many significant digits; one number a call."""
    return lambda function, rng: lambda x: float(f"{float(function(float(x))):.{digits - 1}e}")


def instead(computed: Function) -> Imperfection:
    """Computed in another way than by the formula."""
    return lambda function, rng: computed


def within(low: float, high: float, outside: float = np.nan) -> Imperfection:
    """NaN, or another value, outside the domain."""

    def limit(function: Function, rng: np.random.Generator) -> Function:
        def limited(x: Any) -> Array:
            inside = (np.real(x) >= low) & (np.real(x) <= high)
            return np.where(inside, function(x), outside)[()]

        return limited

    return limit


def raising(low: float, high: float) -> Imperfection:
    """ValueError outside the domain, as from the math module; one number a call."""

    def limit(function: Function, rng: np.random.Generator) -> Function:
        def limited(x: Any) -> Array:
            if not low <= np.real(x) <= high:
                raise ValueError("math domain error")
            return function(x)

        return limited

    return limit
