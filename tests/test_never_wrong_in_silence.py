"""Promise 1: a value that cannot be vouched for carries a status and a warning, never a confident zero."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace

import arraydiff as ad
from tests.claims import UNVOUCHED, by, vouched
from tests.helpers import Backend, is_traced, tonumpy

METHODS = ["adaptive", "untraced", "exact", "complex_step", "richardson", "central", "forward", "backward"]
BOTH_SIDED = METHODS[:-2]
TOLERANCE = {"central": 1e-7, "forward": 1e-5, "backward": 1e-5}
"""Relative to the largest entry; the others are right to 1e-9."""

X = np.array([0.7, -1.3, 2.0])


def assert_right(result: Any, exact: Any, method: str = "adaptive", rtol: float | None = None) -> None:
    rtol = TOLERANCE.get(method, 1e-9) if rtol is None else rtol
    got = tonumpy(result.derivative)
    np.testing.assert_allclose(got, exact, rtol=0, atol=rtol * np.max(np.abs(exact)), err_msg=result.explain())


def assert_right_or_flagged(result: Any, exact: Any, x: Any) -> None:
    """Each vouched entry is within its bar (ten times it, for the stencils promise no more) of the truth."""
    d, bar = tonumpy(result.derivative), tonumpy(result.error_estimate)
    error = np.abs(d - exact)
    silent = vouched(result, x) & ~(error <= 10 * bar + 1e-9 * np.max(np.abs(exact)))
    assert not np.any(silent), f"{d} is vouched for, exactly {exact}, claimed {bar}: {result.explain()}"
    if not np.all(vouched(result, x)):
        assert result.warnings, "an entry is not vouched for and no warning says so"


# ---- imaginary parts lost inside f
def quiet_cast(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.sum(x.astype(float) ** 3)


def into_a_real_buffer(x):
    buffer = np.empty(x.shape)
    buffer[:] = x
    return np.sum(buffer**3)


CUBES = 3 * X**2
UNIT = X / np.linalg.norm(X)
DROPPING = {
    "float": (lambda x: float(x[0]) ** 3 + float(x[1]) ** 3 + float(x[2]) ** 3, CUBES),
    "math": (lambda x: math.sin(x[0]) + math.exp(x[1]) * math.cos(x[2]), None),
    "abs": (lambda x: np.sum(np.abs(x) ** 3), 3 * X * np.abs(X)),
    "abs of a small share": (lambda x: np.sum(x * x) + 1e-5 * np.abs(x[1]) ** 3, None),
    "real": (lambda x: np.sum(x.real**3), CUBES),
    "real of one entry": (lambda x: x[0] * x[1].real * x[2], None),
    "conj": (lambda x: np.sum(x * np.conj(x)), 2 * X),
    "real of conj": (lambda x: np.sum((x * np.conj(x)).real), 2 * X),
    "norm by abs": (lambda x: np.sqrt(np.sum(np.abs(x) ** 2)), UNIT),
    "linalg.norm": (np.linalg.norm, UNIT),
    "vdot": (lambda x: np.vdot(x, x), 2 * X),
    "arctan2": (lambda x: np.arctan2(x[0], x[1]) + x[2], None),
    "hypot": (lambda x: np.hypot(x[0], x[1]) + x[2], None),
    "max": (lambda x: np.max(x) ** 3, np.array([0, 0, 12.0])),
    "maximum": (lambda x: np.sum(np.maximum(x, 0.5) ** 3), np.array([3 * 0.49, 0, 12.0])),
    "clip": (lambda x: np.sum(np.clip(x, -1.0, 1.0) ** 3), np.array([3 * 0.49, 0, 0])),
    "sign": (lambda x: np.sum(np.sign(x) * x**3), 3 * X**2 * np.sign(X)),
    "sort": (lambda x: np.sum(np.sort(x) ** 3 * np.array([1.0, 2.0, 3.0])), CUBES * np.array([2.0, 1.0, 3.0])),
    "sort by size": (
        lambda x: np.sum(x[np.argsort(np.abs(x))] ** 3 * np.array([1.0, 2, 3])),
        CUBES * np.array([1.0, 2, 3]),
    ),
    "astype": (lambda x: np.sum(x.astype(float) ** 3), CUBES),
    "astype, warning silenced": (quiet_cast, CUBES),
    "asarray": (lambda x: np.sum(np.asarray(x, dtype=float) ** 3), CUBES),
    "a real buffer": (into_a_real_buffer, CUBES),
    "branches": (lambda x: np.sum(np.where(x > 0, x**3, x**2)), np.where(X > 0, CUBES, 2 * X)),
    "branches on abs": (lambda x: np.sum(np.where(np.abs(x) > 1, x**3, x)), np.where(np.abs(X) > 1, CUBES, 1.0)),
    "python branches": (lambda x: x[0] ** 3 if x[0] > 0 else x[1], np.array([3 * 0.49, 0, 0])),
    "interp": (lambda x: np.sum(np.interp(x, [-2.0, 0.0, 3.0], [4.0, 0.0, 9.0])), np.array([3.0, -2.0, 3.0])),
    "text": (lambda x: sum(float(str(v)) ** 3 for v in x.tolist()), CUBES),
}
BY_HAND = {
    "math": np.array([math.cos(0.7), math.exp(-1.3) * math.cos(2.0), -math.exp(-1.3) * math.sin(2.0)]),
    "abs of a small share": 2 * X + np.array([0, -3e-5 * 1.69, 0]),
    "real of one entry": np.array([-2.6, 1.4, -0.91]),
    "arctan2": np.array([-1.3 / 2.18, -0.7 / 2.18, 1.0]),
    "hypot": np.array([0.7, -1.3, 0]) / math.hypot(0.7, 1.3) + np.array([0, 0, 1.0]),
}


@pytest.mark.parametrize("name", DROPPING)
@pytest.mark.parametrize("method", ["adaptive", "untraced"])
def test_adaptive_is_right_and_vouched_for_where_f_drops_imaginary_parts(method, name):
    f, exact = DROPPING[name]
    result = ad.grad(f, **by(method)).result(X)
    assert_right(result, BY_HAND.get(name, exact))
    assert np.all(vouched(result, X)), result.explain()


@pytest.mark.parametrize("name", DROPPING)
def test_complex_step_by_name_is_right_where_f_drops_imaginary_parts(name):
    f, exact = DROPPING[name]
    assert_right(ad.grad(f, method="complex_step", unreliable="ignore").result(X), BY_HAND.get(name, exact))


@pytest.mark.parametrize("name", ["abs", "real", "linalg.norm", "astype", "conj"])
def test_complex_step_by_name_says_so_where_its_certificate_is_refused(name):
    f, _ = DROPPING[name]
    result = ad.grad(f, method="complex_step").result(X)
    assert np.all(result.status & ad.Status.UNRESOLVED)
    assert result.warnings
    with pytest.warns(ad.DifferentiationWarning):
        ad.grad(f, method="complex_step")(X)


@pytest.mark.parametrize("method", ["adaptive", "untraced", "exact", "complex_step"])
def test_each_output_of_a_vector_is_certified(method):
    def f(x):
        return np.stack([np.sum(x**3), np.sum(np.abs(x) ** 3)])

    result = ad.jacobian(f, **by(method), unreliable="ignore").result(X)
    np.testing.assert_allclose(result.jacobian, [CUBES, 3 * X * np.abs(X)], rtol=1e-9)


# ---- complex powers that return rounding noise
POWERS = {
    "x**3": (lambda x: array_namespace(x).sum(x**3), CUBES),
    "x**4": (lambda x: array_namespace(x).sum(x**4), 4 * X**3),
    "x**-3.0": (lambda x: array_namespace(x).sum(x**-3.0), -3 * X**-4),
    "x**5.0": (lambda x: array_namespace(x).sum(x**5.0), 5 * X**4),
    "x**100": (lambda x: array_namespace(x).sum((0.5 * x) ** 100), 50 * (0.5 * X) ** 99),
}


@pytest.mark.parametrize("name", POWERS)
@pytest.mark.parametrize("method", ["adaptive", "untraced", "exact", "complex_step"])
@pytest.mark.parametrize(
    "backend", [Backend.NUMPY, Backend.TORCH, Backend.JAX, Backend.CUPY], indirect=True, ids=lambda b: b.value
)
def test_powers_of_negative_numbers_are_right_where_their_imaginary_part_is_rounding_noise(backend, method, name):
    f, exact = POWERS[name]
    result = ad.grad(f, **by(method), unreliable="ignore").result(backend.asarray(X))
    assert_right(result, exact, rtol=1e-8)


def test_the_standin_does_return_rounding_noise_for_complex_powers():
    with Backend.CUPY.active() as backend:
        z = backend.asarray([-1.3]) + backend.asarray([1.0]) * 1e-20j
        assert abs(tonumpy(z**3).imag[0] / 1e-20 - 3 * 1.69) > 1e3


# ---- buffers and arguments
class Reusing:
    """Writes every result into the same array."""

    def __init__(self) -> None:
        self.buffers: dict[Any, np.ndarray] = {}

    def __call__(self, x):
        buffer = self.buffers.setdefault(x.dtype, np.empty_like(x))
        np.multiply(x, x, out=buffer)
        buffer *= x
        return buffer


@pytest.mark.parametrize("method", METHODS)
def test_the_jacobian_of_a_function_that_reuses_its_buffer_is_right(method):
    if method == "exact":
        with pytest.raises(TypeError, match=r"exact.*cannot follow f: out="):
            ad.jacobian(Reusing(), **by(method))(X)
        return
    assert_right(ad.jacobian(Reusing(), **by(method)).result(X), np.diag(CUBES), method)


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_of_a_function_that_returns_a_view_of_its_buffer_is_right(method):
    reusing = Reusing()
    if method == "exact":
        with pytest.raises(TypeError, match=r"exact.*cannot follow f: out="):
            ad.grad(lambda x: reusing(x)[1, ...], **by(method))(X)
        return
    result = ad.grad(lambda x: reusing(x)[1, ...], **by(method)).result(X)
    assert_right(result, [0, CUBES[1], 0], method)


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_of_a_function_that_overwrites_its_argument_is_right(method):
    def f(x):
        x *= x
        x[0] = x[0] * x[0]
        return np.sum(x)

    x = X.copy()
    assert_right(ad.grad(f, **by(method)).result(x), [4 * 0.7**3, -2.6, 4.0], method)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("method", METHODS)
def test_a_function_that_returns_its_overwritten_argument_has_the_right_jacobian(method):
    def f(x):
        x *= x
        return x

    assert_right(ad.jacobian(f, **by(method)).result(X), np.diag(2 * X), method)


# ---- integers
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("transform", [ad.grad, ad.jacobian, ad.hessian], ids=lambda t: t.__name__)
@pytest.mark.parametrize("x", [3, np.array([1, 2]), np.array([True, False])], ids=repr)
def test_integers_are_refused_and_never_give_zero(transform, x, method):
    with pytest.raises(TypeError, match="float"):
        transform(lambda x: np.sum(x * 1.0), **by(method))(x)


# ---- values that are not finite
@pytest.mark.parametrize("method", METHODS)
def test_one_nan_among_many_outputs_costs_its_row_only_and_is_warned_of(method):
    def f(x):
        return np.stack([x[0] ** 3, x[1] * np.nan, x[2] ** 3])

    with pytest.warns(ad.DifferentiationWarning):
        got = ad.jacobian(f, **by(method))(X)
    assert np.all(np.isnan(got[1]))
    np.testing.assert_allclose(got[[0, 2]], [[CUBES[0], 0, 0], [0, 0, CUBES[2]]], atol=12 * TOLERANCE.get(method, 1e-9))
    status = ad.jacobian(f, **by(method)).result(X).status
    assert np.all(status[1] & ad.Status.FAILED)
    assert not np.any(status[[0, 2]] & UNVOUCHED)


@pytest.mark.parametrize("method", METHODS)
def test_a_function_that_is_nowhere_finite_gives_nan_a_flag_and_a_warning(method):
    g = ad.grad(lambda x: np.sum(x) * np.inf, **by(method))
    with pytest.warns(ad.DifferentiationWarning):
        assert np.all(np.isnan(g(X)))
    assert np.all(g.result(X).status & ad.Status.FAILED)


@pytest.mark.parametrize("method", METHODS)
def test_the_edge_of_the_domain_is_right_or_flagged(method):
    x = np.array([1e-7, 0.5])
    with np.errstate(all="ignore"):
        result = ad.grad(lambda x: np.sum(np.sqrt(x)), **by(method), scale=1.0, unreliable="ignore").result(x)
    assert_right_or_flagged(result, 0.5 / np.sqrt(x), x)


# ---- bounds
@pytest.mark.parametrize("method", METHODS)
def test_a_parameter_between_equal_bounds_is_zero_flagged_and_never_moved(method):
    seen = []

    def f(x):
        if not is_traced(x):
            seen.append(x[1].real)
        return np.sum(x**3)

    result = ad.grad(f, **by(method), bounds=([-5, -1.3, -5], [5, -1.3, 5])).result(X)
    assert result.gradient[1] == 0
    assert result.status[1] == ad.Status.FIXED
    assert set(seen) == {-1.3}
    assert_right(result, [CUBES[0], 0, CUBES[2]], method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "bounds", [(X, 5.0), (-5.0, X), ([0.7, -5, -5], [5, -1.3, 5])], ids=["lower", "upper", "mixed"]
)
def test_a_parameter_at_its_bound_is_right_or_flagged(bounds, method):
    result = ad.grad(lambda x: np.sum(np.exp(x)), **by(method), bounds=bounds).result(X)
    assert_right_or_flagged(result, np.exp(X), X)
    assert_right(result, np.exp(X), rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("room", [1e-3, 1e-9, 1e-15])
def test_a_parameter_between_nearly_equal_bounds_is_right_or_flagged(room, method):
    bounds = (X - room * np.array([1, 0, 0.3]), X + room * np.array([1, 1, 0.7]))
    result = ad.grad(lambda x: np.sum(np.abs(x) ** 3), **by(method), bounds=bounds, unreliable="ignore").result(X)
    assert_right_or_flagged(result, 3 * X * np.abs(X), X)


# ---- kinks
KINKS = {
    "abs": (np.abs, 0.0),
    "relu": (lambda x: np.maximum(x, 0.0), 0.0),
    "abs beside a slope": (lambda x: np.abs(x - 1.0) + 3.0 * x, 1.0),
}


@pytest.mark.parametrize("name", KINKS)
@pytest.mark.parametrize("method", BOTH_SIDED)
def test_a_derivative_at_a_kink_is_not_vouched_for_and_warned_of(method, name):
    f, x = KINKS[name]
    result = ad.grad(f, **by(method)).result(np.array(x))
    assert not vouched(result, np.array(x)), result.explain()
    with pytest.warns(ad.DifferentiationWarning):
        ad.grad(f, **by(method))(np.array(x))


@pytest.mark.parametrize("method", ["adaptive", "untraced", "exact"])
def test_a_kink_of_one_parameter_costs_its_entry_only(method):
    x = np.array([0.7, 0.0, 2.0])
    result = ad.grad(lambda x: np.sum(x**3) + np.abs(x[1]), unreliable="ignore", **by(method)).result(x)
    np.testing.assert_array_equal(vouched(result, x), [True, False, True])
    np.testing.assert_allclose(result.gradient[[0, 2]], [3 * 0.49, 12.0], rtol=1e-9)


@pytest.mark.parametrize("distance", [1e-1, 1e-2, 1e-3, 1e-5, 1e-7, 1e-9])
@pytest.mark.parametrize("method", BOTH_SIDED)
def test_beside_a_kink_the_derivative_is_right_or_flagged(method, distance):
    x = np.array([1.0 + distance, 2.0])
    result = ad.grad(lambda x: np.sum(np.abs(x - 1.0) * x), **by(method), unreliable="ignore").result(x)
    assert_right_or_flagged(result, 2 * x - 1.0, x)


# ---- noise: a ladder is told of float32; finding such a level in three parameters takes a probe of its own
LADDERS = ("adaptive", "untraced", "complex_step", "richardson")


@pytest.mark.parametrize("method", METHODS)
def test_float32_inside_f_is_right_or_flagged(method):
    def f(x):
        narrow = x.astype(np.complex64 if np.iscomplexobj(x) else np.float32)
        return np.sum(np.sin(narrow) * narrow).astype(x.dtype)

    exact = np.sin(X) + X * np.cos(X)
    known = {"noise": 2e-7} if method in LADDERS else {}
    assert_right_or_flagged(ad.grad(f, **by(method), **known, unreliable="ignore").result(X), exact, X)


@pytest.mark.parametrize("method", METHODS)
def test_float32_inside_f_on_real_numbers_only_is_right_or_flagged(method):
    def f(x):
        return float(np.sum(np.sin(x.astype(np.float32)) * x.astype(np.float32)))

    exact = np.sin(X) + X * np.cos(X)
    if method == "exact":
        with pytest.raises(TypeError, match=r"exact.*cannot follow f: float\(x\)"):
            ad.grad(f, **by(method))(X)
        return
    known = {"noise": 2e-7} if method in LADDERS else {}
    result = ad.grad(f, **by(method), opaque=method != "complex_step", **known, unreliable="ignore").result(X)
    assert_right_or_flagged(result, exact, X)


def with_noise(level):
    def f(x):
        bits = int(np.sum(x).real.view(np.uint64)) * 0x9E3779B97F4A7C15 % 2**64
        return np.sum(np.exp(x)) * (1 + level * (bits / 2**63 - 1))

    return f


@pytest.mark.parametrize("level", [1e-12, 1e-9])
@pytest.mark.parametrize("method", LADDERS)
def test_noise_is_right_or_flagged(method, level):
    result = ad.grad(with_noise(level), **by(method), unreliable="ignore").result(X)
    assert_right_or_flagged(result, np.exp(X), X)


@pytest.mark.parametrize("level", [1e-12, 1e-9, 1e-6])
@pytest.mark.parametrize("method", METHODS)
def test_noise_of_a_known_level_is_right_or_flagged_by_every_method(method, level):
    noise = level * float(np.sum(np.exp(X)))
    if method == "exact":
        with pytest.raises(TypeError, match="f is noisy"):
            ad.grad(with_noise(level), **by(method), noise=noise)(X)
        return
    result = ad.grad(with_noise(level), **by(method), noise=noise, unreliable="ignore").result(X)
    assert_right_or_flagged(result, np.exp(X), X)


@pytest.mark.parametrize("method", METHODS)
def test_a_function_that_does_not_react_has_a_true_zero(method):
    result = ad.grad(lambda x: np.sum(x[:2] ** 3) + 10.0, **by(method)).result(X)
    assert abs(result.gradient[2]) <= 1e-12
    assert np.isfinite(result.error_estimate[2])
    assert not result.status[2] & UNVOUCHED
    assert not result.warnings


@pytest.mark.parametrize("method", ["adaptive", "untraced", "exact"])
def test_what_cannot_be_vouched_for_warns_raises_or_becomes_nan_as_asked(method):
    def f(x):
        return np.sum(x**3) + np.abs(x[1])

    x = np.array([0.7, 0.0, 2.0])
    with pytest.warns(ad.DifferentiationWarning):
        ad.grad(f, **by(method))(x)
    with pytest.raises(ad.NumericalStabilityError):
        ad.grad(f, **by(method), unreliable="raise")(x)
    np.testing.assert_array_equal(np.isnan(ad.grad(f, **by(method), unreliable="nan")(x)), [False, True, False])
    assert np.all(np.isfinite(ad.grad(f, **by(method), unreliable="ignore")(x)))


@pytest.mark.parametrize("lost", [np.nan, np.inf])
@pytest.mark.parametrize("parts", [1, 3], ids=["a number", "an entry of an array"])
def test_what_is_not_finite_at_one_complex_point_is_no_slope_of_zero(lost: float, parts: int) -> None:
    """A real NaN among complex numbers has an imaginary part of 0."""

    def f(x: Any) -> Any:
        whole = np.stack([np.sum(x**3) * k for k in range(1, parts + 1)])
        if np.iscomplexobj(x) and np.sum(np.imag(x) != 0) == 1 and np.imag(x[0]) != 0:
            if parts == 1:
                return np.array([lost])
            whole[1] = lost
        return whole

    result = ad.jacobian(f, trace=False).result(np.array([0.5, 1.2, -0.7]))
    failed = (result.status & int(ad.Status.FAILED)) != 0
    assert np.argwhere(failed).tolist() == [[min(1, parts - 1), 0]]
    assert np.isnan(result.jacobian[failed]).all()


@pytest.mark.parametrize("most", [9, 10, 12])
def test_complex_points_that_max_evaluations_leaves_out_are_no_zeros(most):
    x = np.linspace(0.5, 2.0, 12)
    with pytest.warns(ad.DifferentiationWarning, match="UNRESOLVED"):
        gradient = ad.grad(lambda x: np.sum(x**3), max_evaluations=most, trace=False)(x)
    lost = np.isnan(gradient)
    assert np.count_nonzero(lost) == 12 - (most - 9)
    np.testing.assert_allclose(gradient[~lost], 3 * x[~lost] ** 2, rtol=1e-13)


@pytest.mark.filterwarnings("ignore::arraydiff.DifferentiationWarning")
def test_a_complex_point_at_which_f_raises_is_no_zero():
    x = np.linspace(0.5, 2.0, 12)

    def f(x):
        if np.iscomplexobj(x) and np.count_nonzero(np.imag(x)) == 1 and np.imag(x[3]):
            raise ArithmeticError("there")
        return np.sum(x**3)

    result = ad.grad(f, trace=False).result(x)
    assert np.flatnonzero(np.isnan(result.gradient)).tolist() == [3]
    assert result.status[3] == ad.Status.FAILED


# ---- a value of f that is one for itself
ISOLATED = {
    "a guard against a division by 0": (lambda x: 1 / x[0] ** 2 if x[0] != 0 else 0 * x[0], [0.0]),
    "a jump": (lambda x: 0 * x[0] if x[0] == 0 else 1.0 + 0 * x[0], [0.0]),
    "a jump on a slope": (lambda x: 3 * x[0] + (0.0 if x[0] == 0 else 1.0), [0.0]),
    "where": (lambda x: np.sum(np.where(x == 0, 0.0, 1 / np.where(x == 0, 1.0, x) ** 2)), [0.0]),
    "a matrix without full rank": (lambda x: np.sum(np.linalg.pinv(np.reshape(x, (1, 1))) ** 2), [0.0]),
}


@pytest.mark.parametrize("name", ISOLATED)
@pytest.mark.parametrize("method", ["adaptive", "untraced", "richardson"])
def test_a_derivative_where_f_has_a_value_for_itself_is_flagged(method, name):
    f, x = ISOLATED[name]
    result = ad.grad(f, **by(method)).result(np.asarray(x))
    assert result.status[0] & UNVOUCHED
    with pytest.warns(ad.DifferentiationWarning):
        ad.grad(f, **by(method))(np.asarray(x))


@pytest.mark.parametrize("f", [lambda x: np.sum(x**2), lambda x: np.sum(x**4), lambda x: np.sum(1 - np.cos(x))])
@pytest.mark.parametrize("method", ["adaptive", "untraced", "richardson"])
def test_a_minimum_of_0_is_none(method, f):
    for x in (np.zeros(1), np.zeros(3)):
        result = ad.grad(f, **by(method)).result(x)
        assert not np.any(result.status & UNVOUCHED)
        np.testing.assert_array_equal(result.gradient, 0.0)
