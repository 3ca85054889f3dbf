"""Colours of sparse Jacobians and Hessians, and the time to find them, beside SciPy's, asdex's and igraph's.

    python -m benchmarks.sparse_colours [--quick]

Fewer colours are fewer evaluations in every derivative; time is spent once a pattern. SciPy's `group_columns` is private and
takes the columns in random order, as `least_squares` has it, or in the order given, here the natural one. igraph colours the
graph of the columns, which has to be made first, by saturation, the better of its heuristics. asdex is compiled (numba), which
is not timed. A peer that is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
from scipy.optimize._numdiff import group_columns

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from arraydiff.sparse.colouring import checked, coloured, recovery, star_coloured
from arraydiff.sparse.pattern import Pattern
from benchmarks import sparse_patterns as made
from benchmarks.rows import Row, table

Colouring = Callable[[Pattern], np.ndarray]
COMPILED = ("asdex", "igraph")
Peers = dict[str, tuple[tuple[str, ...], Colouring]]  # by name: what is to be installed, and the call


def patterns(nonzeros: int) -> dict[str, Pattern]:
    """Of about so many entries each."""
    side, cube, points = round((nonzeros / 5) ** 0.5), round((nonzeros / 7) ** (1 / 3)), nonzeros // 7
    return {
        "tridiagonal": made.banded(nonzeros // 3, 1),
        "tridiagonal, permuted": made.permuted(made.banded(nonzeros // 3, 1)),
        "band of 7": made.banded(nonzeros // 7, 3),
        "grid, 5 points": made.grid(side, side),
        "grid, 5 points, permuted": made.permuted(made.grid(side, side)),
        "grid, 9 points": made.grid(side, side // 2, corners=True),
        "grid, 7 points": made.grid(cube, cube, cube),
        "grid, 7 points, permuted": made.permuted(made.grid(cube, cube, cube)),
        "random, 5 a row": made.random_rows(nonzeros // 5, nonzeros // 5, 5),
        "random, 5 a row, m = 3 n": made.random_rows(nonzeros // 5, nonzeros // 15, 5),
        "random, 5 a row, n = 3 m": made.random_rows(nonzeros // 5, nonzeros * 3 // 5, 5),
        "random, 10 a row": made.random_rows(nonzeros // 10, nonzeros // 10, 10),
        "skewed, 4 a row": made.skewed(nonzeros // 4, 4),
        "arrow, 23 groups, 7 shared": made.arrow(23, 7, max(nonzeros // 207, 1)),
        "blocks of 8": made.block_diagonal(nonzeros // 64, 8),
        "finite elements": made.mesh(points),
        "finite elements, 3 fields": made.mesh(points // 9, fields=3),
        "residual a triangle, m = 2 n": made.elements(nonzeros // 6),
        "bundle adjustment": made.bundle(20, nonzeros // 96, 4),
    }


# ---- the peers
def of_scipy(pattern: Pattern) -> np.ndarray:
    return group_columns(scipy.sparse.csr_matrix(csr(pattern)))


def of_scipy_in_order(pattern: Pattern) -> np.ndarray:
    return group_columns(scipy.sparse.csr_matrix(csr(pattern)), np.arange(pattern.shape[1]))


def of_igraph(pattern: Pattern) -> np.ndarray:
    import igraph

    matrix = csr(pattern)
    meet = scipy.sparse.triu(matrix.T @ matrix, 1).tocoo()
    graph = igraph.Graph(n=pattern.shape[1], edges=np.stack([meet.row, meet.col], axis=1))
    return np.array(graph.vertex_coloring_greedy("dsatur"))


def of_asdex(pattern: Pattern) -> np.ndarray:
    from asdex.coloring import color_cols

    return color_cols(as_asdex(pattern))[0]


def star_of_asdex(pattern: Pattern) -> np.ndarray:
    from asdex.coloring import color_symmetric

    return color_symmetric(as_asdex(pattern))[0]


def as_asdex(pattern: Pattern) -> object:
    from asdex import SparsityPattern

    return SparsityPattern(pattern.rows.astype(np.int32), pattern.cols.astype(np.int32), pattern.shape)


def csr(pattern: Pattern) -> scipy.sparse.csr_array:
    return scipy.sparse.csr_array((np.ones(pattern.nnz), pattern.cols, pattern.indptr), shape=pattern.shape)


def installed(peers: Peers) -> dict[str, Colouring]:
    there = {}
    for name, (needs, colour) in peers.items():
        missing = [module for module in needs if importlib.util.find_spec(module) is None]
        if missing:
            print(f"{name} is left out: not installed: {', '.join(missing)}")
        else:
            colour(made.banded(9, 1))  # compiled
            there[name] = colour
    return there


# ---- the tables
@dataclass(frozen=True)
class Line:
    """One pattern: colours and seconds, ours first."""

    name: str
    pattern: Pattern
    colours: dict[str, int]
    seconds: dict[str, float]

    def ratio(self, peer: str) -> float:
        return self.colours["arraydiff"] / self.colours[peer]

    def __str__(self) -> str:
        ours = self.seconds["arraydiff"]
        columns = [
            f"{count:5d}{self.ratio(tool):6.2f}{1e3 * self.seconds[tool]:9.1f}{ours / self.seconds[tool]:7.2f}"
            for tool, count in self.colours.items()
        ]
        size = f"{self.pattern.nnz:9d}{self.pattern.lengths.max():5d}"
        return f"{self.name:30}{size} |" + " |".join(columns)


def measured(name: str, pattern: Pattern, tools: dict[str, Colouring]) -> Line:
    colours, seconds = {}, {}
    for tool, colour in tools.items():
        fresh = Pattern(pattern.rows, pattern.cols, pattern.shape)  # nothing made in advance
        start = time.perf_counter()
        found = colour(fresh)
        seconds[tool] = time.perf_counter() - start
        colours[tool] = int(np.max(found)) + 1
    return Line(name, pattern, colours, seconds)


def compared(title: str, chosen: dict[str, Pattern], tools: dict[str, Colouring]) -> list[Line]:
    print(f"\n{title}: colours, ours / theirs, ms, ours / theirs")
    print(f"{'':30}{'entries':>9}{'row':>5} |" + " |".join(f"{tool:>27}" for tool in tools))
    lines = []
    for name, pattern in chosen.items():
        lines.append(measured(name, pattern, tools))
        print(lines[-1], flush=True)
    return lines


def columns_of_ours(pattern: Pattern) -> np.ndarray:
    return checked(pattern, coloured(pattern))


def stars_of_ours(pattern: Pattern) -> np.ndarray:
    colours = star_coloured(pattern)
    recovery(pattern, colours)
    return colours


def goals(lines: list[Line], stars: list[Line], large: list[Line]) -> list[Row]:
    def worst(of: list[Line], *peers: str) -> float:
        return max((line.ratio(peer) for line in of for peer in peers if peer in line.colours), default=1.0)

    grids = [line for line in lines if line.name.startswith("grid") and "permuted" not in line.name]
    rows = [
        Row(
            "colours over SciPy's, either order, worst pattern",
            1.0,
            1.0,
            worst(lines + large, "scipy", "scipy, in order"),
        ),
        Row("colours over SciPy's as least_squares has them, worst grid in order", 0.65, 0.65, worst(grids, "scipy")),
        *[Row(f"colours over {peer}'s, worst pattern", math.inf, 1.0, worst(lines + large, peer)) for peer in COMPILED],
        Row("colours of Hessians over asdex's, worst pattern", math.inf, 1.0, worst(stars, "asdex")),
    ]
    for line in large:
        rows.append(Row(f"{line.name}, {line.pattern.nnz} entries: seconds", 1.0, 0.3, line.seconds["arraydiff"]))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="patterns of 3,000 entries, the large ones left out")
    quick = parser.parse_args().quick
    scipys: Peers = {"scipy": ((), of_scipy), "scipy, in order": ((), of_scipy_in_order)}
    peers = installed(scipys | {"asdex": (("asdex", "numba"), of_asdex), "igraph": (("igraph",), of_igraph)})
    chosen = patterns(3_000 if quick else 20_000)
    lines = compared("Jacobians", chosen, {"arraydiff": columns_of_ours} | peers)
    symmetric = {name: mirrored(pattern) for name, pattern in chosen.items() if pattern.shape[0] == pattern.shape[1]}
    star_peers = installed({"asdex": (("asdex", "numba"), star_of_asdex)})
    stars = compared("Hessians", symmetric, {"arraydiff": stars_of_ours} | star_peers)
    large = (
        [] if quick else compared("Large", patterns(1_000_000), {"arraydiff": columns_of_ours} | without_igraph(peers))
    )
    rows = goals(lines, stars, large)
    print(table(rows))
    return int(any(row.verdict == "MISSED" for row in rows))


def without_igraph(peers: dict[str, Colouring]) -> dict[str, Colouring]:
    return {name: colour for name, colour in peers.items() if name != "igraph"}  # minutes, for the graph of the columns


def mirrored(pattern: Pattern) -> Pattern:
    """The pattern, its mirror image and the diagonal."""
    diagonal = np.arange(pattern.shape[0])
    rows, cols = np.concatenate([pattern.cols, diagonal]), np.concatenate([pattern.rows, diagonal])
    return pattern.with_entries(rows, cols)


if __name__ == "__main__":
    sys.exit(main())
