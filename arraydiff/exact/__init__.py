"""Exact derivatives of plain NumPy, CuPy and array-API code: f is called once with an array that records what is done to it."""

from arraydiff.exact.derivatives import Notes, Traced, gradient, hvp, pushforward, traced
from arraydiff.exact.dispatch import rule
from arraydiff.exact.kinked import Kinked
from arraydiff.exact.reductions import as_array
from arraydiff.exact.trace import Refused, Tracer, plain

__all__ = [
    "Kinked",
    "Notes",
    "Refused",
    "Traced",
    "Tracer",
    "as_array",
    "gradient",
    "hvp",
    "plain",
    "pushforward",
    "rule",
    "traced",
]
