"""What batches cost: calls of f, launches on a device, and time beside a central difference written by hand.

    python -m benchmarks.batched [--frames N]

The hand-written gradient has no f(x), no error bars and no checks: 2n points in one call of the same vectorized f.  Ours takes
2n + 5 in two, and with vectorized="auto" x once more, alone.  So the overhead of the library is measured against the same 2n + 5
points in the same two calls, written by hand; what the five points cost is a line of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from time import perf_counter

import numpy as np

import arraydiff as ad
from benchmarks import xpcs_points
from benchmarks.rows import Row, table
from benchmarks.xpcs_points import Real
from tests import cupy_standin
from tests.helpers import Backend, Recorder

ANGLES = 1
STEP = np.finfo(float).eps ** (1 / 3)
EXTRA = 5  # f(x) and the ray of the error bars
PARAMETERS = 53
SIZES = (10, 100, 1000)
ROUNDS = 40

Gradient = Callable[[Real], Real]


def by_hand(f: Callable[[Real], Real], beside: int = 0) -> Gradient:
    """Central differences in one call, points along the first axis; `beside` more points in a call before."""

    def gradient(x: Real) -> Real:
        steps = STEP * np.abs(x)
        if beside:
            f(x + np.arange(beside)[:, None] * steps)
        step = np.diag(steps)
        up, down = x + step, x - step
        values = f(np.concatenate([up, down]))
        return (values[: x.size] - values[x.size :]) / np.diag(up - down)

    return gradient


def in_turn(gradients: Iterable[Gradient], x: Real) -> list[float]:
    """Least seconds of each, measured in turn so that the machine treats them alike."""
    gradients = list(gradients)
    best = [float("inf")] * len(gradients)
    for _ in range(ROUNDS):
        for i, gradient in enumerate(gradients):
            began = perf_counter()
            gradient(x)
            best[i] = min(best[i], perf_counter() - began)
    return best


def overhead(frames: int) -> list[Row]:
    """Time of a gradient of the XPCS chi2 with seven parameters over that of the hand-written one."""
    data = xpcs_points.simulate(1.02 * xpcs_points.MEASURED, frames, ANGLES)
    x = xpcs_points.MEASURED[2:]

    def chi2(theta: Real) -> Real:
        fixed = np.broadcast_to(data.truth[:2].astype(theta.dtype), (*theta.shape[:-1], 2))
        residual = data.residual(np.concatenate([fixed, theta], axis=-1))
        return np.sum(residual * residual, axis=-1)

    ours = ad.grad(chi2, method="central", vectorized=True, batch_axis=0)
    found = ad.grad(chi2, method="central", vectorized="auto", batch_axis=0)
    costs = {"vectorized=True": ours.result(x), "vectorized='auto'": (found(x), found.result(x))[1]}
    seconds = in_turn([by_hand(chi2), by_hand(chi2, EXTRA), ours, found], x)
    least, same = seconds[:2]
    print(f"XPCS chi2, n = {x.size}, N = {frames} frames, {ANGLES} angle(s)")
    print(
        f"  by hand: {least * 1e3:.2f} ms, {2 * x.size} points in 1 call; at our points: {same * 1e3:.2f} ms, 2 calls"
    )
    for (name, cost), taken in zip(costs.items(), seconds[2:], strict=True):
        told = f"{cost.function_points} points in {cost.function_calls} calls"
        print(f"  {name}: {taken * 1e3:.2f} ms, {told}; {taken / same:.3f} of the same points by hand")
    share = EXTRA / (2 * x.size)
    return [
        Row(
            "overhead over a hand-written central difference at the same points, XPCS", 0.1, 0.05, seconds[2] / same - 1
        ),
        Row("the same over one without f(x) and error bars", 1.1 * (1 + share) - 1, share, seconds[2] / least - 1),
    ]


def calls() -> Row:
    """Calls of a vectorized f for one chunk of 53 parameters, beyond f(x) with the ray of the error bars."""
    f = Recorder(lambda x: np.sum(np.sin(x) * x, axis=0), batch_axis=-1)
    result = ad.grad(f, method="central", vectorized=True).result(np.linspace(0.5, 1.5, PARAMETERS))
    assert result.function_calls == f.calls
    return Row(f"calls of a vectorized f for the {PARAMETERS} columns of a central gradient", 1, 1, f.calls - 1)


def launches(method: str) -> Row:
    """Growth of the launches on the CuPy stand-in from n = 10 to n = 1000."""
    counts = []
    with Backend.CUPY.active():
        xp = Backend.CUPY.namespace
        gradient = ad.grad(lambda x: xp.sum(xp.sin(x) * x, axis=0), method=method, vectorized=True)
        for n in SIZES:
            x = Backend.CUPY.asarray(np.linspace(0.5, 1.5, n))
            gradient(x)
            cupy_standin.machine.launches = 0
            gradient(x)
            counts.append(cupy_standin.machine.launches)
    print(f"launches of {method} at n = {', '.join(map(str, SIZES))}: {counts}")
    return Row(
        f"launches on the stand-in, {method}: growth from n = 10 to 1000, relative", 0.01, 0, counts[-1] / counts[0] - 1
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=200)
    options = parser.parse_args()
    rows = [*overhead(options.frames), calls(), *map(launches, ("central", "richardson", "complex_step"))]
    print(table(rows))
    return sum(not row.holds(row.must) for row in rows)


if __name__ == "__main__":
    raise SystemExit(main())
