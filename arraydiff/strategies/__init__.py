"""The methods, by name: one file each."""

from __future__ import annotations

from arraydiff.config import DifferentiationConfig, DifferentiationMethod
from arraydiff.seam import Strategy
from arraydiff.strategies.adaptive import Adaptive
from arraydiff.strategies.complex_step import ComplexStep
from arraydiff.strategies.exact import Exact
from arraydiff.strategies.richardson import Richardson
from arraydiff.strategies.stencil import Backward, Central, Forward

STRATEGIES: dict[DifferentiationMethod, type[Strategy]] = {
    DifferentiationMethod.ADAPTIVE: Adaptive,
    DifferentiationMethod.EXACT: Exact,
    DifferentiationMethod.COMPLEX_STEP: ComplexStep,
    DifferentiationMethod.RICHARDSON: Richardson,
    DifferentiationMethod.CENTRAL: Central,
    DifferentiationMethod.FORWARD: Forward,
    DifferentiationMethod.BACKWARD: Backward,
}


def strategy_of(config: DifferentiationConfig) -> Strategy:
    """The strategy that a config asks for."""
    return STRATEGIES[config.method]()
