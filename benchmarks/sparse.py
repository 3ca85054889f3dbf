"""Sparse Jacobians and Hessians: points, time beside scipy's, wrong patterns found, false alarms.

    python -m benchmarks.sparse [--quick]

Times are the shortest of several, taken in turn.  A wrong pattern lacks one entry that does a given share of what the largest
entry of its row does; an alarm is false where the pattern is whole.  f is one that takes complex numbers, or an opaque one.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from scipy.optimize._numdiff import approx_derivative, group_columns
from scipy.sparse import diags_array, eye_array, vstack

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import arraydiff as ad
from arraydiff.sparse import SparsityError
from benchmarks.analytic import broyden_residual
from benchmarks.rows import Row, table

CHAIN = 100_000
BROYDEN = 1_000
SHARES = (1e-6, 1e-8)
SEED = 20260715
LINKS = 1_000
WANTED = {
    "gradient": [("gradients", (12, 12), (2e-12, 2e-12))],
    "terms": [("vectors of terms", (13, 7), (1e-9, 1e-9))],
}


def chain(x: np.ndarray) -> np.ndarray:
    """Each output of its input and both neighbours."""
    y = -2 * x * x
    y[1:] += np.sin(x[:-1])
    y[:-1] += x[1:] ** 3
    return y


def tridiagonal(n: int) -> Any:
    return diags_array([np.ones(n - 1), np.ones(n), np.ones(n - 1)], offsets=[-1, 0, 1]).tocsr()


def fastest(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of each, taken in turn."""
    best = dict.fromkeys(ways, np.inf)
    for _ in range(rounds):
        for name, way in ways.items():
            started = perf_counter()
            way()
            best[name] = min(best[name], perf_counter() - started)
    return best


def against_scipy(rounds: int) -> list[Row]:
    """The chain of n = 1e5 with bounds; both have their colours, and both make them."""
    x, pattern = np.linspace(0.5, 2.0, CHAIN), tridiagonal(CHAIN)
    groups = group_columns(pattern)

    def peer(groups: np.ndarray) -> Any:
        return approx_derivative(chain, x, method="3-point", sparsity=(pattern, groups), bounds=(0.0, np.inf))

    def ours(method: str) -> Any:
        return ad.jacobian(chain, sparsity=pattern, method=method, bounds=(0.0, None))

    ready = {method: ours(method) for method in ("forward", "central", "adaptive")}
    ways: dict[str, Callable[[], Any]] = {
        "scipy": lambda: peer(groups),
        "scipy, colours too": lambda: peer(group_columns(pattern)),
    }
    ways |= {method: lambda g=g: g(x) for method, g in ready.items()}
    ways |= {f"{method}, colours too": lambda m=method: ours(m)(x) for method in ready}
    seconds = fastest(ways, rounds)
    print(f"\nChain, n = {CHAIN}, bounds and check on")
    exact = diags_array([np.cos(x[:-1]), -4 * x, 3 * x[1:] ** 2], offsets=[-1, 0, 1]).tocsr()
    rows = []
    print(f"  scipy 3-point         {seconds['scipy']:.3f} s, with colours {seconds['scipy, colours too']:.3f} s, "
          f"error {abs(peer(groups) - exact).max():.1e}")  # fmt: skip
    for method, transform in ready.items():
        result, error = transform.result(x), abs(transform(x) - exact).max()
        print(f"  {method:20}  {seconds[method]:.3f} s, with colours {seconds[f'{method}, colours too']:.3f} s, "
              f"error {error:.1e}, {result.function_points} points")  # fmt: skip
        if method == "forward":
            rows.append(Row("chain, n = 1e5, forward: points with bounds and check", 10, 7, result.function_points))
        rows.append(
            Row(f"chain, n = 1e5, {method}: time over scipy 3-point", 1, 0.5, seconds[method] / seconds["scipy"])
        )
    return rows


def broyden(rounds: int) -> list[Row]:
    """Times over one f, as in the table of performance.md."""
    x, pattern, rows = np.full(BROYDEN, -1.0), tridiagonal(BROYDEN), []
    transforms = {m: ad.jacobian(broyden_residual, sparsity=pattern, method=m) for m in ("central", "adaptive")}
    ways: dict[str, Callable[[], Any]] = {"f": lambda: broyden_residual(x)}
    seconds = fastest(ways | {m: lambda g=g: g(x) for m, g in transforms.items()}, 20 * rounds)
    for method, must, ambitious in (("central", 120, 60), ("adaptive", 240, 120)):
        rows.append(Row(f"Broyden, n = 1000, {method}: time over f", must, ambitious, seconds[method] / seconds["f"]))
    return rows


@dataclass(frozen=True)
class Case:
    """A random f with its pattern, and what one entry more would do."""

    f: Callable[[np.ndarray], np.ndarray]
    pattern: np.ndarray
    x: np.ndarray
    missing: tuple[int, int]

    def with_entry(self, share: float, jacobian: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """f with an entry that does `share` of what the largest of its row does."""
        row, column = self.missing
        scale = np.where(self.x == 0, 1.0, np.abs(self.x))
        slope = share * np.max(np.abs(jacobian[row]) * scale) / scale[column]

        def more(x: np.ndarray) -> np.ndarray:
            y = self.f(x)
            y[row] += slope * x[column]
            return y

        return more


def cases(count: int) -> Iterator[Case]:
    """Random patterns of 1 to 4 entries a row, entries over two decades, parameters over three."""
    random = np.random.default_rng(SEED)
    kinds = [
        lambda a, b, x: a @ np.sin(x) + 0.1 * (b @ x) ** 2,
        lambda a, b, x: a @ np.exp(x / 2) + b @ x,
        lambda a, b, x: a @ (x * x * x) + 0.01 * (b @ x) * (a @ x),
        lambda a, b, x: a @ x + np.cos(b @ x),
    ]
    for _ in range(count):
        m, n, length = (int(random.integers(*ends)) for ends in ((15, 60), (20, 60), (1, 5)))
        pattern = np.zeros((m, n), dtype=bool)
        for row in pattern:
            row[random.choice(n, length, replace=False)] = True
        a = np.where(pattern, random.normal(size=(m, n)) * 10.0 ** random.uniform(-1, 1, (m, n)), 0.0)
        b = np.where(pattern, random.normal(size=(m, n)), 0.0)
        kind = kinds[random.integers(len(kinds))]
        wide = random.random() < 0.5
        x = random.normal(size=n) * 10.0 ** random.uniform(-2, 1, n) if wide else random.uniform(-2, 2, n)
        rows, columns = np.nonzero(~pattern)
        which = random.integers(rows.size)
        yield Case(lambda x, a=a, b=b, kind=kind: kind(a, b, x), pattern, x, (int(rows[which]), int(columns[which])))


def raised(f: Callable[..., Any], case: Case, options: dict[str, Any]) -> Any:
    """The Jacobian, or the error of a pattern that is said to be wrong."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return ad.jacobian(f, sparsity=case.pattern, **options)(case.x).toarray()
        except SparsityError as error:
            return error


def patterns(count: int) -> list[Row]:
    """Alarms over whole patterns, and missing entries found."""
    rows = []
    for name, options, shares in (
        ("complex", {}, SHARES),
        ("opaque", {"opaque": True}, SHARES),
        ("central", {"method": "central"}, ()),
        ("forward", {"method": "forward"}, ()),
    ):
        alarms, made, found = 0, 0, dict.fromkeys(shares, 0)
        for case in cases(count):
            jacobian = raised(case.f, case, options)
            if isinstance(jacobian, SparsityError):
                alarms += 1
                continue
            made += 1
            for share in shares:
                said = raised(case.with_entry(share, jacobian), case, options)
                found[share] += isinstance(said, SparsityError) and case.missing[0] in said.rows
        rows.append(Row(f"false alarms in {count} whole patterns, {name} f or method", count / 1000, 0, alarms))
        for share, must, ambitious in zip(shares, (0.999, 0.9), (0.999, 0.9), strict=False):
            what = f"missing entries of {share:.0e} of their row found, {name} f"
            rows.append(Row(what, must, ambitious, found[share] / max(made, 1), at_least=True))
    return rows


def link_terms(x: np.ndarray) -> np.ndarray:
    """Each of two neighbours."""
    return np.concatenate([1 - np.cos(x[:-1] - x[1:]), x**4])


def link_gradient(x: np.ndarray) -> np.ndarray:
    y, pull = 4 * x**3, np.sin(x[:-1] - x[1:])
    y[:-1] += pull
    y[1:] -= pull
    return y


def link_hessian(x: np.ndarray) -> Any:
    bent, diagonal = np.cos(x[:-1] - x[1:]), 12 * x**2
    diagonal[:-1] += bent
    diagonal[1:] += bent
    return diags_array([-bent, diagonal, -bent], offsets=[-1, 0, 1]).tocsr()


def hessians() -> list[Row]:
    """Tridiagonal, n = 1000: by the gradient, by the terms of the sum, by values, beside differences of the gradient by SciPy."""
    x, pattern = np.linspace(0.5, 2.0, LINKS), tridiagonal(LINKS)
    ones, exact = np.ones(LINKS - 1), link_hessian(x)
    of_terms = vstack([diags_array([ones, ones], offsets=[0, 1], shape=(LINKS - 1, LINKS)), eye_array(LINKS)])
    print(f"\nHessian of a chain, n = {LINKS}")
    for method in ("2-point", "3-point"):
        seen = [0]

        def counted(x: np.ndarray, seen: list[int] = seen) -> np.ndarray:
            seen[0] += 1
            return link_gradient(x)

        peer = approx_derivative(counted, x, method=method, sparsity=(pattern, group_columns(pattern)))
        told("scipy " + method, seen[0], peer, exact)

    def total(x: np.ndarray) -> Any:
        return np.sum(link_terms(x))

    ways = {
        "gradient": ad.hessian(total, gradient=link_gradient, sparsity=pattern),
        "gradient, opaque": ad.hessian(total, gradient=link_gradient, sparsity=pattern, opaque=True),
        "terms": ad.hessian(link_terms, terms=True, sparsity=of_terms),
        "terms, opaque": ad.hessian(link_terms, terms=True, sparsity=of_terms, opaque=True),
        "values": ad.hessian(total, sparsity=pattern),
    }
    rows = []
    for name, transform in ways.items():
        result = transform.result(x)
        told(name, result.function_points, result.hessian, exact, result.error_estimate.max())
        for what, evaluations, errors in WANTED.get(name, ()):
            rows.append(Row(f"Hessian of a chain, n = 1000, {name}: {what}", *evaluations, result.function_points))
            rows.append(Row(f"Hessian of a chain, n = 1000, {name}: error", *errors, abs(result.hessian - exact).max()))
    return rows


def told(name: str, points: int, hessian: Any, exact: Any, bar: float = np.nan) -> None:
    """One line: evaluations, error, largest bar, and what the matrix lacks of symmetry."""
    error, skew = abs(hessian - exact).max(), abs(hessian - hessian.T).max()
    print(f"  {name:20}  {points:5} evaluations, error {error:.1e}, largest bar {bar:.1e}, asymmetry {skew:.1e}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds")
    quick = parser.parse_args().quick
    rows = hessians() + against_scipy(5 if quick else 15) + broyden(3 if quick else 10)
    rows += patterns(200 if quick else 10_000)
    print(table(rows))
    return int(any(row.verdict == "MISSED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
