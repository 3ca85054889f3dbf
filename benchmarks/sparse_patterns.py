"""Patterns of Jacobians as they occur: bands, grids, meshes, blocks, random rows; in order or permuted."""

from __future__ import annotations

from itertools import product

import numpy as np

from arraydiff.sparse.pattern import Pattern


def banded(n: int, reach: int) -> Pattern:
    """Entries (i, j) with |i - j| <= reach."""
    rows = np.repeat(np.arange(n), 2 * reach + 1)
    cols = rows + np.tile(np.arange(-reach, reach + 1), n)
    inside = (cols >= 0) & (cols < n)
    return Pattern.of((rows[inside], cols[inside], (n, n)))


def grid(*sides: int, corners: bool = False) -> Pattern:
    """Each point of a grid and its neighbours: 5 or 9 entries on two axes, 7 or 27 on three."""
    places = np.indices(sides).reshape(len(sides), -1)
    steps = [step for step in product((-1, 0, 1), repeat=len(sides)) if corners or np.count_nonzero(step) <= 1]
    rows, cols = [], []
    for step in steps:
        moved = places + np.array(step)[:, np.newaxis]
        inside = np.all((moved >= 0) & (moved < np.array(sides)[:, np.newaxis]), axis=0)
        rows.append(np.flatnonzero(inside))
        cols.append(np.ravel_multi_index(tuple(moved[:, inside]), sides))
    n = places.shape[1]
    return Pattern.of((np.concatenate(rows), np.concatenate(cols), (n, n)))


def permuted(pattern: Pattern, seed: int = 5) -> Pattern:
    """The same with its unknowns in random order; rows and columns alike where it is square."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(pattern.shape[0])
    cols = rows if pattern.shape[0] == pattern.shape[1] else rng.permutation(pattern.shape[1])
    return Pattern.of((rows[pattern.rows], cols[pattern.cols], pattern.shape))


def random_rows(m: int, n: int, entries: int, seed: int = 1) -> Pattern:
    cols = np.random.default_rng(seed).integers(0, n, m * entries)
    return Pattern.of((np.repeat(np.arange(m), entries), cols, (m, n)))


def arrow(groups: int, shared: int, rows: int, own: int = 2) -> Pattern:
    """Residuals in groups, each with parameters of its own, beside those that all share: the XPCS fit with one contrast and
    one offset an angle is ``arrow(23, 7, ...)``."""
    group = np.repeat(np.arange(groups), rows)[:, np.newaxis]
    cols = np.hstack([np.broadcast_to(np.arange(shared), (group.size, shared)), shared + own * group + np.arange(own)])
    shape = (group.size, shared + own * groups)
    return Pattern.of((np.repeat(np.arange(group.size), shared + own), cols.ravel(), shape))


def block_diagonal(blocks: int, size: int) -> Pattern:
    rows = np.repeat(np.arange(blocks * size), size)
    cols = rows // size * size + np.tile(np.arange(size), blocks * size)
    return Pattern.of((rows, cols, (blocks * size, blocks * size)))


def _triangles(n: int, seed: int) -> np.ndarray:
    from scipy.spatial import Delaunay

    return Delaunay(np.random.default_rng(seed).random((n, 2))).simplices


def elements(n: int, seed: int = 2) -> Pattern:
    """A residual for each triangle of a mesh of n points: m is about 2 n."""
    corners = _triangles(n, seed)
    return Pattern.of((np.repeat(np.arange(len(corners)), 3), corners.ravel(), (len(corners), n)))


def mesh(n: int, fields: int = 1, seed: int = 2) -> Pattern:
    """Linear finite elements on the same mesh, with several unknowns a point."""
    corners = _triangles(n, seed)
    unknowns = (corners[:, :, np.newaxis] * fields + np.arange(fields)).reshape(len(corners), -1)
    each = unknowns.shape[1]
    rows, cols = np.repeat(unknowns, each, axis=1), np.tile(unknowns, each)
    return Pattern.of((rows.ravel(), cols.ravel(), (n * fields, n * fields)))


def bundle(cameras: int, points: int, views: int, seed: int = 4) -> Pattern:
    """Bundle adjustment: two residuals a view, of nine numbers of a camera and three of a point."""
    point = np.repeat(np.arange(points), views)[:, np.newaxis]
    camera = np.random.default_rng(seed).integers(0, cameras, point.shape)
    cols = np.repeat(np.hstack([9 * camera + np.arange(9), 9 * cameras + 3 * point + np.arange(3)]), 2, axis=0)
    shape = (len(cols), 9 * cameras + 3 * points)
    return Pattern.of((np.repeat(np.arange(len(cols)), 12), cols.ravel(), shape))


def skewed(n: int, entries: int, seed: int = 3) -> Pattern:
    """Random rows in which the first columns are much more common than the last."""
    cols = (n * np.random.default_rng(seed).random(n * entries) ** 3).astype(np.int64)
    return Pattern.of((np.repeat(np.arange(n), entries), cols, (n, n)))
