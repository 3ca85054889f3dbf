"""NumPy's functions that plain scientific code calls, and how many of them are followed: `python -m benchmarks.numpy_functions`.

The functions are facts counted by `numpy_counts.py` in the documents of 17 packages: whatever acts on arrays of floats, once
or more, in the namespaces numpy, numpy.linalg and numpy.fft. Of two names for one function the commoner stands for both
(trapz is trapezoid, in1d is isin, absolute is abs, conjugate is conj, around is round; amax and amin are functions of their own).

Left out, since no array of floats goes in: what reads or writes files (loadtxt, save), prints (set_printoptions, array_str), asks
for types (dtype, finfo, issubdtype, int64, datetime64) or settings (errstate), and what makes arrays out of shapes or integers
(zeros, ones, empty, eye, identity, tri, indices, ix_, fftfreq, hanning, triu_indices, unravel_index, ndindex, broadcast_shapes);
also isscalar, shares_memory, asmatrix, and the namespaces random, testing, ma, char, rec, polynomial, lib. Nothing was left out
for how it is followed: arange, linspace and full take floats, and stay.

A function counts as followed where its probe in `exact_functions.py` is: it is called on x, with value and derivatives right.
`WITHOUT` have no derivative (booleans, integers, piecewise constant, sizes): f is smooth beside them, and has to come out right.
autograd runs the same probes with autograd.numpy, JAX with jax.numpy: code that was written for them. "Flagged" is any exception
or warning; "wrong" came without one.
"""

from __future__ import annotations

import argparse
import collections
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.exact_functions import NO_DERIVATIVE, PROBES, TOOLS, Probe, changed, verdicts
from benchmarks.peers import importable
from benchmarks.rows import Row, table

PACKAGES = {
    "scipy": "3dbf660a919b of 2026-08-22", "statsmodels": "82c59e378bdf of 2026-08-22, 0.15 dev",
    "mne-python": "8aa8dec45a52 of 2026-08-21, after 1.12.0", "scikit-image": "cd0a3d22b9f3 of 2026-06-23, 0.26.0",
    "astropy": "1fdfae1fe188 of 2026-08-08, 8.1 dev", "nilearn": "59fffa24b817 of 2026-08-21, 0.14.0",
    "python-control": "e60e5ebc593b of 2026-08-08, 0.10.2", "xarray": "b1c1dc549b62 of 2026-08-19, 2026.07.0",
    "sunpy": "d2ae0740e520 of 2026-08-20, 8.1 dev", "lmfit": "fe389bbbd1fe of 2026-08-03, 1.3.4",
    "bumps": "5c334abeb2f6 of 2026-07-01, 1.0.5", "librosa": "b7e7bf486353 of 2026-07-21, 0.11.0",
    "emcee": "8ab6c0fcc4af of 2026-03-15, 3.1.6", "obspy": "0fd195ee4c37 of 2026-03-13, 1.5.0",
    "dynesty": "99451618a10e of 2026-06-30, 3.0.0", "MDAnalysis": "d2729f71809f of 2024-10-24, 2.7.0",
    "sasmodels": "5d0a40b3b77b of 2026-08-04, 1.1.0a3",
}  # fmt: skip
# Name, in how many of the packages, how many calls.
COUNTED = """
    array 16 1818, arange 16 918, linspace 16 867, exp 16 316, sqrt 16 287, abs 15 326, sum 15 169, sin 14 393,
    cos 14 237, log 14 209, mean 13 171, diag 12 225, max 12 90, ones_like 12 74, concatenate 12 65, log10 11 133,
    meshgrid 11 70, zeros_like 11 69, diff 11 68, min 11 28, asarray 10 163, logspace 10 67, argmax 10 43, allclose 9 294,
    vstack 9 76, linalg.inv 9 65, dot 8 213, round 8 100, where 8 73, std 8 70, isnan 8 42, all 8 35, median 8 27,
    cumsum 8 20, hstack 7 62, unique 7 53, argsort 7 45, reshape 7 30, sign 7 28, argmin 6 56, clip 6 53,
    linalg.norm 6 29, percentile 6 25, sort 6 25, logical_and 6 17, any 6 10, stack 5 36, angle 5 34, repeat 5 33,
    cov 5 27, full 5 26, squeeze 5 24, histogram 5 17, interp 5 16, convolve 5 15, tile 5 13, isfinite 5 11,
    logical_or 5 9, var 5 8, column_stack 4 100, real 4 29, arctan2 4 27, array_equal 4 20, maximum 4 17, rad2deg 4 15,
    atleast_2d 4 11, append 4 9, dstack 4 9, count_nonzero 4 8, deg2rad 4 8, nonzero 4 8, trace 4 8, conj 4 7,
    fft.fft 4 5, outer 3 36, tan 3 31, bincount 3 23, corrcoef 3 23, linalg.det 3 15, flip 3 14, floor 3 9, ceil 3 8,
    roll 3 8, size 3 8, minimum 3 6, mod 3 6, prod 3 6, triu 3 6, amax 3 5, atleast_1d 3 5, broadcast_to 3 5,
    empty_like 3 5, full_like 3 5, imag 3 5, isinf 3 5, searchsorted 3 5, hypot 3 4, geomspace 3 3, nanmax 3 3,
    nanmean 3 3, kron 2 25, isclose 2 18, transpose 2 13, linalg.eigvals 2 12, unwrap 2 12, copy 2 9, fill_diagonal 2 9,
    sinc 2 9, vander 2 8, fft.fftshift 2 7, radians 2 7, fft.fft2 2 6, logaddexp 2 6, degrees 2 5, digitize 2 5,
    fft.ifft2 2 5, flatnonzero 2 5, linalg.eigh 2 5, linalg.solve 2 5, polyfit 2 5, power 2 5, square 2 5, fft.rfft 2 4,
    isin 2 4, linalg.cond 2 4, linalg.eig 2 4, pad 2 4, arccos 2 3, correlate 2 3, fabs 2 3, gradient 2 3, linalg.qr 2 3,
    matmul 2 3, nanpercentile 2 3, poly1d 2 3, ptp 2 3, amin 2 2, apply_along_axis 2 2, fft.fftn 2 2, fft.ifft 2 2,
    ravel 2 2, split 2 2, tril 2 2, block 1 17, cosh 1 6, linalg.eigvalsh 1 5, log2 1 5, moveaxis 1 5, roots 1 5,
    asanyarray 1 4, linalg.pinv 1 4, linalg.slogdet 1 4, logical_not 1 4, average 1 3, linalg.cholesky 1 3,
    minimum.reduce 1 3, quantile 1 3, rot90 1 3, swapaxes 1 3, arctanh 1 2, argwhere 1 2, cbrt 1 2, cross 1 2,
    diagonal 1 2, expand_dims 1 2, linalg.matrix_rank 1 2, linalg.svd 1 2, negative 1 2, nextafter 1 2, place 1 2,
    rollaxis 1 2, setdiff1d 1 2, trunc 1 2, add.reduce 1 1, arcsin 1 1, arctan 1 1, ascontiguousarray 1 1,
    asfortranarray 1 1, copysign 1 1, copyto 1 1, delete 1 1, divide 1 1, fft.ifftn 1 1, fft.ifftshift 1 1, fft.irfft 1 1,
    flipud 1 1, fmax 1 1, histogram2d 1 1, intersect1d 1 1, log1p 1 1, logical_or.reduce 1 1, nan_to_num 1 1,
    nanargmax 1 1, nanmedian 1 1, nanmin 1 1, nansum 1 1, ndim 1 1, poly 1 1, polymul 1 1, rint 1 1, take_along_axis 1 1,
    tensordot 1 1, trapezoid 1 1, union1d 1 1, vectorize 1 1
"""
# Methods and attributes in two packages or more; what they were called on is not known. Memory (flags, nbytes) is left out.
COUNTED_METHODS = """
    T 16 492, copy 14 289, reshape 13 309, max 13 285, min 13 192, mean 12 557, sum 10 269, std 10 127, real 10 75,
    astype 9 264, ravel 9 177, flatten 9 53, sort 9 38, flat 9 37, dot 8 101, tolist 8 50, round 8 46, transpose 8 38,
    imag 7 39, var 6 85, all 6 44, argmax 6 34, item 6 27, any 5 32, squeeze 5 28, argmin 5 24, prod 3 43, cumsum 3 35,
    conj 3 18, argsort 3 13, fill 3 13, searchsorted 3 8, clip 3 8, diagonal 3 4, repeat 2 7, swapaxes 2 4, partition 2 3,
    nonzero 2 2
"""
WITHOUT = frozenset([*NO_DERIVATIVE.split(), "empty_like", "histogram2d"])


def facts(counted: str) -> dict[str, tuple[int, int]]:
    lines = (line.split() for line in counted.split(","))
    return {name: (int(packages), int(calls)) for name, packages, calls in lines}


FUNCTIONS = facts(COUNTED)
METHODS: dict[str, Probe] = {
    "T": lambda np, x: x.reshape(2, 3).T ** 2,
    "copy": lambda np, x: x.copy() ** 2,
    "reshape": lambda np, x: x.reshape(2, 3) ** 2,
    "max": lambda np, x: x.max(),
    "min": lambda np, x: x.min(),
    "mean": lambda np, x: x.mean(),
    "sum": lambda np, x: x.sum(),
    "std": lambda np, x: x.std(),
    "real": lambda np, x: np.exp(1j * x).real,
    "astype": lambda np, x: x.astype(float) ** 2,
    "ravel": lambda np, x: x.reshape(2, 3).ravel(),
    "flatten": lambda np, x: x.reshape(2, 3).flatten(),
    "sort": lambda np, x: changed(x.copy(), lambda y: y.sort()),
    "flat": lambda np, x: x.flat[2] * x,
    "dot": lambda np, x: x.dot(x),
    "tolist": lambda np, x: x.tolist()[0] * x,
    "round": lambda np, x: x.round() * x,
    "transpose": lambda np, x: x.reshape(2, 3).transpose(),
    "imag": lambda np, x: np.exp(1j * x).imag,
    "var": lambda np, x: x.var(),
    "all": lambda np, x: (x > 0).all() * x,
    "argmax": lambda np, x: x[x.argmax()] ** 2,
    "item": lambda np, x: x.item(1) * x,
    "any": lambda np, x: (x > 1).any() * x,
    "squeeze": lambda np, x: x.reshape(1, 6).squeeze(),
    "argmin": lambda np, x: x[x.argmin()] ** 2,
    "prod": lambda np, x: x.prod(),
    "cumsum": lambda np, x: x.cumsum(),
    "conj": lambda np, x: np.exp(1j * x).conj(),
    "argsort": lambda np, x: x[x.argsort()],
    "fill": lambda np, x: changed(np.zeros_like(x), lambda y: y.fill(x[0])),
    "searchsorted": lambda np, x: np.sort(x).searchsorted(0.8) * x,
    "clip": lambda np, x: x.clip(0.5, 1.0),
    "diagonal": lambda np, x: np.outer(x, x).diagonal(),
    "repeat": lambda np, x: x.repeat(2),
    "swapaxes": lambda np, x: x.reshape(2, 3).swapaxes(0, 1),
    "partition": lambda np, x: changed(x.copy(), lambda y: y.partition(2))[2:3],
    "nonzero": lambda np, x: x[(x > 0.8).nonzero()],
}


def share(found: dict[str, str], weights: dict[str, int]) -> float:
    """Of the weight, what is followed."""
    return sum(weights[name] for name, told in found.items() if told == "followed") / sum(
        weights[name] for name in found
    )


def shares(found: dict[str, str]) -> dict[str, float]:
    """Of all functions alike, weighted in two ways, and of the two classes."""
    one = dict.fromkeys(found, 1)
    return {
        "followed": share(found, one),
        "weighted by packages": share(found, {name: FUNCTIONS[name][0] for name in found}),
        "weighted by calls": share(found, {name: FUNCTIONS[name][1] for name in found}),
        "those with a derivative": share({name: told for name, told in found.items() if name not in WITHOUT}, one),
        "those without": share({name: told for name, told in found.items() if name in WITHOUT}, one),
    }


def measured(names: Sequence[str] = tuple(TOOLS)) -> dict[str, Any]:
    """Every tool that is here: verdicts of functions and methods, and the shares."""
    found = {}
    for name, tool in importable({name: TOOLS[name] for name in names}).items():
        functions = verdicts({function: PROBES[function] for function in FUNCTIONS}, tool)
        methods = verdicts(METHODS, tool)
        found[name] = {"functions": functions, "methods": methods, "shares": shares(functions)}
    return found


def report(found: dict[str, Any]) -> None:
    without = sum(name in WITHOUT for name in FUNCTIONS)
    print(
        f"{len(FUNCTIONS)} functions of NumPy in the documents of {len(PACKAGES)} packages, {without} without a derivative"
    )
    print(f"{'':28}" + "".join(f"{name:>17}" for name in found))
    for what in next(iter(found.values()))["shares"]:
        print(f"{what:28}" + "".join(f"{one['shares'][what]:17.1%}" for one in found.values()))
    for kind in ("functions", "methods"):
        for word in ("followed", "WRONG"):
            counts = [collections.Counter(one[kind].values())[word] for one in found.values()]
            total = len(FUNCTIONS if kind == "functions" else METHODS)
            print(f"{f'{kind} {word.lower()}, of {total}':28}" + "".join(f"{count:17}" for count in counts))
    for name, one in found.items():
        wrong = [what for kind in ("functions", "methods") for what, told in one[kind].items() if told == "WRONG"]
        print(f"wrong in silence, {name}: {', '.join(wrong) or 'none'}")
    ours = found["arraydiff.exact"]
    for kind in ("functions", "methods"):
        for name, told in ours[kind].items():
            if told != "followed":
                print(f"  {'.' * (kind == 'methods') + name:20} {told[:110]}")


def rows(found: dict[str, Any]) -> list[Row]:
    ours = found["arraydiff.exact"]
    told = [*ours["functions"].values(), *ours["methods"].values()]
    return [
        Row(
            "NumPy's functions that scientific code calls: share followed", 0.75, 0.9, ours["shares"]["followed"], True
        ),
        Row("the same: wrong in silence", 0, 0, told.count("WRONG")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="How many of NumPy's functions in other packages' documents are followed."
    )
    parser.add_argument("--json", type=Path, help="write the verdicts to this file")
    arguments = parser.parse_args()
    found = measured()
    report(found)
    print(table(rows(found)))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
