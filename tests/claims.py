"""What every derivative of the table of problems must satisfy, on any library and by any method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import arraydiff as ad
from tests.helpers import assert_array, assert_like, tonumpy
from tests.problems import Problem

UNTRACED_NAME = "untraced"
"""The default where f is not followed: by its values."""


def by(method: str) -> dict[str, Any]:
    """The options that choose it."""
    return {"trace": False} if method == UNTRACED_NAME else {"method": method}


@dataclass(frozen=True)
class Method:
    """A way to differentiate, how right it is at `Problem.magnitude`, and how far its bar may be off.

    `order`: the truncation error grows as length**-order where f changes over less than abs(x).
    `bar_factor`: true error over claimed error; the stencils claim an order of magnitude, the others 95 %.
    """

    name: str
    rtol: float
    order: int = 1
    bar_factor: float = 3.0
    accuracy: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        order = {} if self.accuracy is None else {"order": self.accuracy}
        return {**by(self.name), **order}

    def __str__(self) -> str:
        return self.name if self.accuracy is None else f"{self.name}-{self.accuracy}"


def stencil(name: str, accuracy: int, rtol: float) -> Method:
    return Method(name, rtol, order=accuracy, bar_factor=30.0, accuracy=accuracy)


ADAPTIVE = Method("adaptive", 1e-10)
UNTRACED = Method(UNTRACED_NAME, 1e-10)
EXACT = Method("exact", 1e-12)
COMPLEX_STEP = Method("complex_step", 1e-10)  # the ladder's accuracy: it stands in where the certificate is refused
RICHARDSON = Method("richardson", 1e-10)
CENTRAL = stencil("central", 2, 1e-8)
FORWARD = stencil("forward", 1, 1e-6)
BACKWARD = stencil("backward", 1, 1e-6)
METHODS = (ADAPTIVE, UNTRACED, EXACT, COMPLEX_STEP, RICHARDSON, CENTRAL, FORWARD, BACKWARD)
HIGHER_ORDERS = (
    stencil("central", 4, 1e-9),
    stencil("central", 6, 1e-9),
    stencil("central", 8, 1e-9),
    stencil("forward", 2, 1e-7),
    stencil("backward", 2, 1e-7),
)


def differentiate(problem: Problem, x: Any, method: Method, **options: Any) -> Any:
    """The result of the transform that fits the problem's output."""
    transform = ad.grad if problem.scalar else ad.jacobian
    return transform(problem, unreliable="ignore", **method.options, **options).result(x)


def assert_claim_holds(result: Any, problem: Problem, x: Any, method: Method) -> None:
    """Namespace, dtype, device, shape, value, and the honesty of the bar."""
    shape = problem.exact.shape
    what = f"{problem.name}, {method}"
    assert_like(result.derivative, x, shape, f"{what}: the derivative")
    assert_like(result.error_estimate, x, shape, f"{what}: the error estimate")
    assert_like(result.step_sizes, x, tuple(x.shape), f"{what}: the step sizes")
    assert tuple(result.status.shape) == shape, f"{what}: status has shape {tuple(result.status.shape)}"
    assert_array(result.value, problem.value, x, rtol=1e-12, atol=1e-12, what=f"{what}: the value")
    assert_values(result, problem, method)


UNVOUCHED = ad.Status.KINK | ad.Status.UNRESOLVED | ad.Status.FAILED


def vouched(result: Any, x: Any) -> np.ndarray:
    """Which entries the result vouches for: no flag against it, and a bar below 1e-3 of it or of the row's largest."""
    d, bar, status = (tonumpy(a) for a in (result.derivative, result.error_estimate, result.status))
    scale = np.where(tonumpy(x) == 0, 1.0, np.abs(tonumpy(x))).ravel()
    rows = np.abs(d).reshape(-1, scale.size)
    with np.errstate(invalid="ignore"):
        largest = np.max(np.where(np.isfinite(rows), rows, 0.0) * scale, axis=1, initial=0.0)
        size = np.maximum(rows, 1e-3 * largest[:, None] / scale).reshape(d.shape)
        return np.isfinite(d) & ((status & int(UNVOUCHED)) == 0) & (bar <= 1e-3 * size)


def assert_values(result: Any, problem: Problem, method: Method) -> None:
    """Each entry is right to the tolerance, its error covered by its bar; a stencil may flag it instead."""
    got, bar, status = (tonumpy(a) for a in (result.derivative, result.error_estimate, result.status))
    magnitude = problem.magnitude()
    with np.errstate(invalid="ignore"):
        error = np.abs(got - problem.exact)
    slack = 0.0 if method.accuracy is None else 0.01 * method.rtol * magnitude  # far below what a stencil promises
    rounding = (
        slack + 16 * np.finfo(float).eps * magnitude / problem.length
    )  # of f's own arguments, and of the closed form
    allowed = np.minimum(method.rtol * problem.length**-method.order * magnitude, 0.2 * magnitude)
    claimed = vouched(result, problem.x) | (method.accuracy is None)  # a stencil may say that it does not know
    wrong = ~(error <= allowed + rounding) & claimed
    too_sure = ~(error <= method.bar_factor * bar + rounding) & claimed
    for index in np.argwhere(wrong | too_sure):
        i = tuple(index)
        raise AssertionError(
            f"{problem.name}, {method} ({result.method_used}): entry {i} is {got[i]!r}, exactly {problem.exact[i]!r}; "
            f"off by {error[i]:.1e} of {allowed[i]:.1e} allowed, claimed {bar[i]:.1e}, {ad.Status(int(status[i]))!r}"
        )
