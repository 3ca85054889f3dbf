"""Rules for SciPy, and rules of users."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from arraydiff.exact import Refused, gradient, rule, traced

scipy_linalg = pytest.importorskip("scipy.linalg", reason="SciPy is not installed")
import scipy.special as sc  # noqa: E402 - only where there is one

from arraydiff.exact import rules_for_scipy as followed  # noqa: E402

POINT = np.array([0.31, 0.72, 0.55, 0.18])
A = np.array([[3.0, 0.4], [0.4, 2.0]])

UNARY = """
    erf erfc erfcx erfi erfinv dawsn ndtr log_ndtr ndtri expit log_expit logit gammaln gamma digamma j0 j1 i0 i1 k0 k1 entr
    expm1 log1p exp10 erfcinv rgamma loggamma y0 y1 i0e i1e k0e k1e exp1 expi gammasgn
"""
FUNCTIONS: dict[str, Callable[[Any], Any]] = {name: getattr(sc, name) for name in UNARY.split()} | {
    "jv": lambda x: sc.jv(1.5, x),
    "yv": lambda x: sc.yv(2, x),
    "iv": lambda x: sc.iv(0.5, x),
    "kv": lambda x: sc.kv(1, x),
    "yn": lambda x: sc.yn(2, x),
    "ive": lambda x: sc.ive(1.5, x),
    "kve": lambda x: sc.kve(0.5, x),
    "expn": lambda x: sc.expn(3, x),
    "betainc": lambda x: sc.betainc(1.5, 2.5, x),
    "wofz": lambda x: np.real(sc.wofz(x + 0.3j) * (1 + 2j)),
    "voigt_profile": lambda x: sc.voigt_profile(x - 0.4, 0.3 + x[0], x[1:2] * x),
    "lambertw": lambda x: np.real(sc.lambertw(x)),
    "kl_div": lambda x: sc.kl_div(x, x[::-1] * x[0]),
    "huber": lambda x: sc.huber(0.5, x * x),
    "pseudo_huber": lambda x: sc.pseudo_huber(0.5, x),
    "logsumexp with weights": lambda x: followed.logsumexp(x.reshape(2, 2) * 2, axis=0, b=np.array([[0.5], [2.0]])),
    "zeta": lambda x: sc.zeta(3.0, x),
    "beta": lambda x: sc.beta(x, x[0]),
    "betaln": lambda x: sc.betaln(2.0, x),
    "gammainc": lambda x: sc.gammainc(1.7, x),
    "gammaincc": lambda x: sc.gammaincc(1.7, x),
    "xlogy": lambda x: sc.xlogy(x, x[0]),
    "xlog1py": lambda x: sc.xlog1py(x, x[::-1]),
    "rel_entr": lambda x: sc.rel_entr(x, x[0]),
    "logsumexp": lambda x: followed.logsumexp(x * 2),
    "logsumexp of rows": lambda x: followed.logsumexp(x.reshape(2, 2) * 2, axis=1),
    "softmax": lambda x: followed.softmax(x * x),
    "log_softmax": lambda x: followed.log_softmax(x * x),
    "solve": lambda x: followed.solve(A + np.outer(x[:2], x[2:]), x[:2]),
    "solve_triangular": lambda x: followed.solve_triangular(A + x.reshape(2, 2), x[:2], lower=True),
    "cho_solve": lambda x: followed.cho_solve(followed.cho_factor(A + np.outer(x[:2], x[:2])), x[2:]),
    "cho_solve lower": lambda x: followed.cho_solve(followed.cho_factor(A + np.outer(x[:2], x[:2]), lower=True), x[2:]),
    "inv": lambda x: followed.inv(A + x.reshape(2, 2)),
    "det": lambda x: followed.det(A + x.reshape(2, 2)),
}


def differences(fun: Callable[[Any], Any], x: np.ndarray, h: float = 1e-3) -> np.ndarray:
    """Of order 6, right to about 1e-11 here."""
    weights = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
    columns = [
        sum(w * (fun(x + k * h * e) - fun(x - k * h * e)) / h for k, w in weights.items()) for e in np.eye(x.size)
    ]
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_first_and_second_derivatives_are_those_of_differences(name: str) -> None:
    fun = FUNCTIONS[name]

    def total(x: Any) -> Any:
        return np.sum(np.cos(np.arange(np.size(fun(POINT)))) * np.ravel(fun(x)))

    def gradient_at(x: np.ndarray) -> np.ndarray:
        return traced(total, x).pullback(np.float64(1.0))

    np.testing.assert_allclose(traced(total, POINT).value, total(POINT), rtol=1e-13)
    np.testing.assert_allclose(gradient_at(POINT), differences(total, POINT), rtol=1e-7, atol=1e-8)
    hessian = np.stack([traced(gradient(total), POINT).pushforward(e) for e in np.eye(4)])
    np.testing.assert_allclose(hessian, differences(gradient_at, POINT), rtol=1e-6, atol=1e-7)


def test_a_derivative_in_the_order_of_a_bessel_function_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="jv in argument 0"):
        traced(lambda x: sc.jv(x, 1.0), POINT)


@pytest.mark.parametrize("m", [1e-16, 1e-8, 0.3, 0.99, -5.0])
def test_elliptic_integrals_lose_nothing_near_0(m: float) -> None:
    mp = pytest.importorskip("mpmath", reason="the truth is computed with mpmath")
    with mp.workdps(40):
        right = [float(mp.diff(f, mp.mpf(m))) for f in (mp.ellipk, mp.ellipe)]
    np.testing.assert_allclose([ad.grad(f)(m) for f in (sc.ellipk, sc.ellipe)], right, rtol=1e-14)


@pytest.mark.parametrize(
    "at", [(1000.0, 0.01, 1.0), (3.0, 0.1, 1000.0), (14.9, 1.0, 0.5), (22.0, 1.0, 1e-6), (0.4, 0.3, 0.2)]
)
def test_the_wings_of_voigts_profile_lose_nothing(at: tuple[float, float, float]) -> None:
    mp = pytest.importorskip("mpmath", reason="the truth is computed with mpmath")

    def profile(x: Any, s: Any, g: Any) -> Any:
        z = (x + 1j * g) / (s * mp.sqrt(2))
        return mp.re(mp.exp(-z * z) * mp.erfc(-1j * z)) / (s * mp.sqrt(2 * mp.pi))

    with mp.workdps(60):
        orders = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
        right = [float(mp.diff(profile, tuple(map(mp.mpf, at)), n, h=mp.mpf(10) ** -20)) for n in orders]
    found = ad.grad(sc.voigt_profile, argnums=(0, 1, 2))(*at)
    np.testing.assert_allclose(found, right, rtol=1e-13)


def test_what_falls_with_the_size_of_x_has_a_kink_at_0() -> None:
    for f in (sc.i0e, lambda x: sc.ive(0, x)):
        assert ad.grad(f).result(0.0).status & ad.Status.KINK
    assert ad.grad(sc.i1e)(0.0) == 0.5


def test_a_ufunc_of_scipy_without_a_rule_is_refused_by_name() -> None:
    with pytest.raises(Refused, match=r"ber.*test_exact_scipy.py line \d+"):
        traced(sc.ber, POINT)
    with pytest.raises(Refused, match="spence"):
        traced(lambda x: sc.spence(x) * 2, POINT)


def test_a_rule_of_a_users_own_function_serves_both_modes_and_second_order() -> None:
    def compiled(x: Any, y: Any) -> Any:
        return np.array([float(one) for one in x]) * np.sin(y)

    kernel = rule(compiled, lambda t, z, x, y: t * np.sin(y), lambda t, z, x, y: t * x * np.cos(y))
    x = np.array([0.3, 0.8])
    both = traced(lambda x: kernel(x, x * x), x)
    wanted = np.sin(x * x) + 2 * x * x * np.cos(x * x)
    np.testing.assert_allclose(both.pullback(np.ones(2), keep=True), wanted, rtol=1e-14)
    np.testing.assert_allclose(both.pushforward(np.ones(2)), wanted, rtol=1e-14)
    np.testing.assert_array_equal(kernel(x, x), compiled(x, x))


def far(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(module), function)


Y = np.array([1.0, 0.4, 2.0, 0.1])
ELSEWHERE: dict[str, Callable[[Any], Any]] = {
    "scipy.signal.convolve": lambda x: far("scipy.signal.convolve")(x, Y[:2]),
    "scipy.signal.lfilter": lambda x: far("scipy.signal.lfilter")([1, 0.5], [1], x),
    "scipy.signal.detrend": far("scipy.signal.detrend"),
    "scipy.integrate.simpson": far("scipy.integrate.simpson"),
    "scipy.integrate.trapezoid": far("scipy.integrate.trapezoid"),
    "scipy.interpolate.CubicSpline": lambda x: far("scipy.interpolate.CubicSpline")([0, 1, 2, 3], x)(1.5),
    "scipy.interpolate.interp1d": far("scipy.interpolate.interp1d")([-2, 0, 3.0], [1, 2, 5.0]),
    "scipy.ndimage.gaussian_filter1d": lambda x: far("scipy.ndimage.gaussian_filter1d")(x, 1.0),
    "scipy.spatial.distance.euclidean": lambda x: far("scipy.spatial.distance.euclidean")(x, Y),
    "scipy.sparse.csr_array": lambda x: far("scipy.sparse.csr_array")(np.diag(Y)) @ x,
    "scipy.linalg.expm": lambda x: far("scipy.linalg.expm")(x.reshape(2, 2)),
    "scipy.linalg.lu_factor": lambda x: far("scipy.linalg.lu_factor")(x.reshape(2, 2))[0],
    "scipy.optimize.brentq": lambda x: far("scipy.optimize.brentq")(lambda z: z**3 - x[1], 0.0, 3.0) * x,
    "scipy.optimize.rosen": far("scipy.optimize.rosen"),
    "scipy.special.softmax": sc.softmax,
    "scipy.special.logsumexp": sc.logsumexp,
    "scipy.stats.skew": far("scipy.stats.skew"),
    "numpy.polynomial.legendre.legval": lambda x: far("numpy.polynomial.legendre.legval")(x, [1, 2, 3.0]),
    "numpy.poly1d": np.poly1d([1.0, 2.0, 3.0]),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_code_of_others_that_meets_a_traced_array_is_refused_or_right(name: str) -> None:
    fun = ELSEWHERE[name]
    try:
        found = traced(lambda x: np.ravel(fun(x)), POINT)
    except Refused:
        return
    np.testing.assert_allclose(found.value, np.ravel(fun(POINT)), rtol=1e-12)
    columns = np.stack([found.pushforward(e) for e in np.eye(4)], axis=-1)
    np.testing.assert_allclose(columns, differences(lambda x: np.ravel(fun(x)), POINT), rtol=1e-6, atol=1e-8)
