"""Exact derivatives of plain NumPy, CuPy and array-API code: f is called once with an array that records what is done to it."""

from arraydiff.exact.derivatives import Notes, Traced, gradient, hvp, pushforward, traced
from arraydiff.exact.dispatch import rule
from arraydiff.exact.trace import Refused

__all__ = ["Notes", "Refused", "Traced", "gradient", "hvp", "pushforward", "rule", "traced"]
