"""Rules for SciPy, in the way of any user: `rule(function, jvp)`.

The ufuncs of scipy.special are followed wherever f calls them; this module is loaded when f calls the first.  What SciPy does in
Python or LAPACK does not reach a tracer: f imports `logsumexp`, `softmax`, `log_softmax`, `solve`, `solve_triangular`,
`cho_factor`, `cho_solve`, `inv`, `det` and `spsolve` from here, which are SciPy's on plain arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import scipy.linalg
import scipy.special as sc

from arraydiff.backends import scipy_rules
from arraydiff.exact.dispatch import rule
from arraydiff.exact.primitives import Linear
from arraydiff.exact.products import linalg
from arraydiff.exact.reductions import array, only
from arraydiff.exact.trace import has_tracer, ops, plain, prim

__all__ = [
    "cho_factor",
    "cho_solve",
    "det",
    "inv",
    "log_softmax",
    "logsumexp",
    "softmax",
    "solve",
    "solve_triangular",
    "spsolve",
]

# Followed by the rules below.
digamma, zeta, expit, wofz, expn = sc.digamma, sc.zeta, sc.expit, sc.wofz, sc.expn
jv, yv, iv, kv, ive, kve = sc.jv, sc.yv, sc.iv, sc.kv, sc.ive, sc.kve
ROOT_PI, ROOT_TAU = math.sqrt(math.pi), math.sqrt(2 * math.pi)

FAR = 10.0
"""Of Faddeeva's function: beyond, its slope cancels by more than 200, and the terms of its series are exact."""

TERMS = [math.prod(range(1, 2 * k + 2, 2)) / 2**k for k in range(14)]
"""Of the slope, times -i/√π and by powers of 1/z² (DLMF 7.12.1)."""


def _series(z: Any, terms: list[float]) -> tuple[Any, Any, Any]:
    """Where z lies far from 0 in the upper half plane, 1/z there, and the series in its square."""
    far = (abs(plain(z)) > FAR) & (plain(z).imag >= 0)
    once = 1 / ops.where(far, z, FAR)
    inverse = once * once
    total = terms[-1] * inverse
    for term in reversed(terms[:-1]):
        total = (total + term) * inverse
    return far, once, total


def _faddeeva_slope(z: Any, w: Any) -> Any:
    """2i/√π - 2 z w(z)."""
    far, _, series = _series(z, TERMS)
    return ops.where(far, series * (-1j / ROOT_PI), 2j / ROOT_PI - 2 * z * w)


def _faddeeva_bend(z: Any, w: Any) -> Any:
    """Its derivative."""
    far, once, series = _series(z, [(2 * k + 2) * term for k, term in enumerate(TERMS)])
    return ops.where(far, series * once * (1j / ROOT_PI), -2 * w - 2 * z * (2j / ROOT_PI - 2 * z * w))


def _with_sign(x: Any, y: Any) -> Any:
    """Y sign(x); not a number at 0, where exp(-|x|) has a kink, unless y is 0 there."""
    return ops.where((plain(x) == 0) & (plain(y) != 0), math.nan, ops.sign(x) * y)


rule(sc.erf, lambda t, y, x: t * (2 / ROOT_PI) * ops.exp(-x * x))
rule(sc.erfc, lambda t, y, x: t * (-2 / ROOT_PI) * ops.exp(-x * x))
rule(sc.erfcx, lambda t, y, x: t * (2 * x * y - 2 / ROOT_PI))
rule(sc.erfi, lambda t, y, x: t * (2 / ROOT_PI) * ops.exp(x * x))
rule(sc.erfinv, lambda t, y, x: t * (ROOT_PI / 2) * ops.exp(y * y))
rule(sc.erfcinv, lambda t, y, x: t * (-ROOT_PI / 2) * ops.exp(y * y))
rule(sc.wofz, lambda t, y, z: t * _faddeeva_slope(z, y))
rule(sc.dawsn, lambda t, y, x: t * (1 - 2 * x * y))
rule(sc.ndtr, lambda t, y, x: t * ops.exp(-0.5 * x * x) / ROOT_TAU)
rule(sc.log_ndtr, lambda t, y, x: t * ops.exp(-0.5 * x * x - y) / ROOT_TAU)
rule(sc.ndtri, lambda t, y, x: t * ROOT_TAU * ops.exp(0.5 * y * y))
rule(sc.expit, lambda t, y, x: t * y * (1 - y))
rule(sc.log_expit, lambda t, y, x: t * expit(-x))
rule(sc.logit, lambda t, y, x: t / (x * (1 - x)))
rule(sc.gammaln, lambda t, y, x: t * digamma(x))
rule(sc.gamma, lambda t, y, x: t * y * digamma(x))
rule(sc.rgamma, lambda t, y, x: -t * y * digamma(x))
rule(sc.loggamma, lambda t, y, x: t * digamma(x))
rule(sc.gammasgn, lambda t, y, x: t * 0)
rule(sc.digamma, lambda t, y, x: t * zeta(2.0, x))
rule(sc._ufuncs._zeta, None,  # which sc.zeta calls
      lambda t, y, s, x: -t * s * zeta(s + 1, x))  # fmt: skip
rule(
    sc.beta,
    lambda t, y, a, b: t * y * (digamma(a) - digamma(a + b)),
    lambda t, y, a, b: t * y * (digamma(b) - digamma(a + b)),
)
rule(
    sc.betaln,
    lambda t, y, a, b: t * (digamma(a) - digamma(a + b)),
    lambda t, y, a, b: t * (digamma(b) - digamma(a + b)),
)
rule(sc.betainc, None, None, lambda t, y, a, b, x: (
    t * ops.exp((a - 1) * ops.log(x) + (b - 1) * ops.log1p(-x) - sc.betaln(a, b))))  # fmt: skip
rule(sc.gammainc, None, lambda t, y, a, x: t * ops.exp((a - 1) * ops.log(x) - x - sc.gammaln(a)))
rule(sc.gammaincc, None, lambda t, y, a, x: -t * ops.exp((a - 1) * ops.log(x) - x - sc.gammaln(a)))
rule(sc.jv, None, lambda t, y, v, x: t * 0.5 * (jv(v - 1, x) - jv(v + 1, x)))
rule(sc.yv, None, lambda t, y, v, x: t * 0.5 * (yv(v - 1, x) - yv(v + 1, x)))
rule(sc.iv, None, lambda t, y, v, x: t * 0.5 * (iv(v - 1, x) + iv(v + 1, x)))
rule(sc.kv, None, lambda t, y, v, x: t * -0.5 * (kv(v - 1, x) + kv(v + 1, x)))
rule(sc.ive, None, lambda t, y, v, x: t * (0.5 * (ive(v - 1, x) + ive(v + 1, x)) - _with_sign(x, y)))
rule(sc.kve, None, lambda t, y, v, x: t * (y - 0.5 * (kve(v - 1, x) + kve(v + 1, x))))
rule(sc.yn, None, lambda t, y, v, x: t * 0.5 * (yv(v - 1.0, x) - yv(v + 1.0, x)))
rule(sc.y0, lambda t, y, x: -t * yv(1.0, x))
rule(sc.y1, lambda t, y, x: t * 0.5 * (yv(0.0, x) - yv(2.0, x)))
rule(sc.i0e, lambda t, y, x: t * (ive(1.0, x) - _with_sign(x, y)))
rule(sc.i1e, lambda t, y, x: t * (0.5 * (ive(0.0, x) + ive(2.0, x)) - _with_sign(x, y)))
rule(sc.k0e, lambda t, y, x: t * (y - kve(1.0, x)))
rule(sc.k1e, lambda t, y, x: t * (y - 0.5 * (kve(0.0, x) + kve(2.0, x))))
rule(sc.j0, lambda t, y, x: -t * jv(1.0, x))
rule(sc.j1, lambda t, y, x: t * 0.5 * (jv(0.0, x) - jv(2.0, x)))
rule(sc.i0, lambda t, y, x: t * iv(1.0, x))
rule(sc.i1, lambda t, y, x: t * 0.5 * (iv(0.0, x) + iv(2.0, x)))
rule(sc.k0, lambda t, y, x: -t * kv(1.0, x))
rule(sc.k1, lambda t, y, x: t * -0.5 * (kv(0.0, x) + kv(2.0, x)))
rule(sc.xlogy, lambda t, y, x, z: t * ops.log(z), lambda t, y, x, z: t * x / z)
rule(sc.xlog1py, lambda t, y, x, z: t * ops.log1p(z), lambda t, y, x, z: t * x / (1 + z))
rule(sc.entr, lambda t, y, x: -t * (ops.log(x) + 1))
rule(sc.rel_entr, lambda t, y, p, q: t * (ops.log(p / q) + 1), lambda t, y, p, q: -t * p / q)
rule(sc.kl_div, lambda t, y, p, q: t * ops.log(p / q), lambda t, y, p, q: t * (1 - p / q))
rule(sc.huber, None, lambda t, y, d, r: t * ops.clip(r, -d, d))
rule(sc.pseudo_huber, None, lambda t, y, d, r: t * r / ops.sqrt(1 + (r / d) ** 2))
rule(
    sc.ellipk, lambda t, y, m: t * sc.elliprd(0.0, 1.0, 1 - m) / 6
)  # (E / (1 - m) - K) / 2m cancels; DLMF 19.4.1, 19.25.1
rule(sc.ellipe, lambda t, y, m: -t * sc.elliprd(0.0, 1 - m, 1.0) / 6)
rule(sc.exp1, lambda t, y, x: -t * ops.exp(-x) / x)
rule(sc.expi, lambda t, y, x: t * ops.exp(x) / x)
rule(sc.expn, None, lambda t, y, n, x: -t * expn(n - 1, x))
rule(sc._ufuncs._lambertw, lambda t, y, z, k, tol: t * y / (z * (1 + y)), None, None)  # which sc.lambertw calls
rule(sc.expm1, lambda t, y, x: t * ops.exp(x))
rule(sc.log1p, lambda t, y, x: t / (1 + x))
rule(sc.exp10, lambda t, y, x: t * y * math.log(10))


def _line(x: Any, s: Any, g: Any) -> Any:
    """The argument of Faddeeva's function in Voigt's profile, which is Re w / (s √τ)."""
    return (x + 1j * g) / (s * math.sqrt(2))


def _voigt_slope(x: Any, s: Any, g: Any) -> Any:
    z = _line(x, s, g)
    return _faddeeva_slope(z, wofz(z)) / (s * s * (2 * ROOT_PI))


def _voigt_bend(x: Any, s: Any, g: Any) -> Any:
    z = _line(x, s, g)
    return _faddeeva_bend(z, wofz(z)) / (s * s * (2 * ROOT_TAU))


rule(
    sc.voigt_profile,
    lambda t, y, x, s, g: t * ops.real(_voigt_slope(x, s, g)),
    lambda t, y, x, s, g: (
        t * ops.real(_voigt_bend(x, s, g))
    ),  # what widens it diffuses: σ times the second derivative in x
    lambda t, y, x, s, g: -t * ops.imag(_voigt_slope(x, s, g)),
)


def _kept(y: Any, axis: Any, keepdims: bool) -> Any:
    """A reduced array, so that it broadcasts to what it was reduced from."""
    return y if keepdims or axis is None else ops.expand_dims(y, axis)


def _of_logsumexp(t: Any, y: Any, a: Any, axis: Any = None, b: Any = 1.0, keepdims: bool = False) -> Any:
    return ops.sum(t * b * ops.exp(a - _kept(y, axis, keepdims)), axis=axis, keepdims=keepdims)


logsumexp = rule(sc.logsumexp, _of_logsumexp)
softmax = rule(sc.softmax, lambda t, y, x, axis=None: y * (t - ops.sum(t * y, axis=axis, keepdims=True)))
log_softmax = rule(sc.log_softmax, lambda t, y, x, axis=None: t - ops.sum(t * ops.exp(y), axis=axis, keepdims=True))


def _where_traced(plainly: Callable[..., Any], composite: Callable[..., Any]) -> Callable[..., Any]:
    """SciPy's function on plain arrays, and one made of followed operations on others."""

    def either(*args: Any, **options: Any) -> Any:
        return (composite if has_tracer(args) else plainly)(*args, **options)

    return either


def _triangle(a: Any, lower: bool) -> Any:
    return prim.tril(a, k=0) if lower else prim.triu(a, k=0)


def _solve_triangular(
    a: Any, b: Any, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False, **_: Any
) -> Any:
    only(a, b, unit_diagonal=unit_diagonal or None)
    a = _triangle(array(a, b), lower)
    turned = {0: a, "N": a, 1: ops.matrix_transpose(a), "T": ops.matrix_transpose(a)}
    return linalg.solve(turned[trans] if trans in turned else ops.adjoint(a), b)


def _cho_factor(a: Any, lower: bool = False, **_: Any) -> tuple[Any, bool]:
    """With zeros in the other triangle, which SciPy leaves as it is."""
    factor = prim.cholesky(a)
    return (factor if lower else ops.adjoint(factor)), lower


def _cho_solve(c_and_lower: tuple[Any, bool], b: Any, **_: Any) -> Any:
    c, lower = c_and_lower
    triangle = _triangle(array(c, b), lower)
    factor = triangle if lower else ops.adjoint(triangle)
    return linalg.solve(ops.adjoint(factor), linalg.solve(factor, b))


def _solve(a: Any, b: Any, lower: bool = False, overwrite_a: bool = False, overwrite_b: bool = False,
           check_finite: bool = True, assume_a: Any = None, transposed: bool = False) -> Any:  # fmt: skip
    only(a, b, assume_a=None if assume_a in (None, "gen") else assume_a)  # else one triangle alone may be read
    return linalg.solve(ops.matrix_transpose(array(a, b)) if transposed else a, b)


solve = _where_traced(scipy.linalg.solve, _solve)
solve_triangular = _where_traced(scipy.linalg.solve_triangular, _solve_triangular)
cho_factor = _where_traced(scipy.linalg.cho_factor, _cho_factor)
cho_solve = _where_traced(scipy.linalg.cho_solve, _cho_solve)
inv = _where_traced(scipy.linalg.inv, lambda a, **_: prim.inv(a))
det = _where_traced(scipy.linalg.det, lambda a, **_: prim.det(a))


def spsolve(A: Any, b: Any, permc_spec: Any = None, use_umfpack: bool = True) -> Any:
    """x of A x = b, for a sparse A that does not depend on x."""
    if not has_tracer(b):
        return _plain_spsolve(A, b, permc_spec, use_umfpack)
    if b.ndim == 2 and b.shape[1] == 1:
        b = ops.ravel(b)  # as SciPy does
    return _sparse_solve(b, matrix=scipy_rules.kept(A.tocsc()), permc_spec=permc_spec, use_umfpack=use_umfpack)


def _plain_spsolve(matrix: Any, b: Any, permc_spec: Any, use_umfpack: bool) -> Any:
    from scipy.sparse.linalg import spsolve

    return spsolve(matrix, b, permc_spec, use_umfpack)


_sparse_solve: Linear = Linear(
    "spsolve",
    lambda b, matrix, **options: _plain_spsolve(matrix, b, **options),
    (lambda g, y, b, matrix, **options: _sparse_solve(g, matrix=matrix.T.tocsc(), **options),),
)
