"""Promise 7: memory is bounded by max_memory, and what is given and warned of does not depend on it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest

import arraydiff as ad
from arraydiff.backends import backend_of
from arraydiff.memory import budget, in_bytes
from tests.helpers import is_traced

M = 200_000
T = np.linspace(0.0, 1.0, M)
X = np.array([1.3, 0.7, 2.0, 1e-3, 0.0])
LITTLE = 30 * 8 * M  # thirty numbers an output: less than J with bars and flags


def waves(p: np.ndarray) -> np.ndarray:
    return p[0] * np.sin(p[1] * T) + p[2] * np.exp(-p[0] * T) + 1e3 * p[3] * T * T + p[4] * T


def kinked(p: np.ndarray) -> np.ndarray:
    values = waves(p)
    values[M // 2] = np.abs(p[1] - 0.7)
    return values


def test_sizes_are_told_as_people_tell_them():
    assert [in_bytes(text) for text in ("512 MB", "2GiB", "1e3 kB", "100", "1.5 g", "x", "-1", "0 MB")] == [
        512_000_000,
        2 * 2**30,
        10**6,
        100,
        1_500_000_000,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize("max_memory", [0, -1, True, "much", float("nan"), float("inf"), [], "10 %"])
def test_a_memory_that_is_no_size_is_refused_with_what_is_wanted(max_memory):
    with pytest.raises(ValueError, match=r"max_memory wants bytes, a text such as '512 MB'.*fraction"):
        ad.grad(np.sum, max_memory=max_memory)


def test_a_fraction_is_of_what_is_free():
    backend = backend_of([X])
    free = backend.free_memory()
    assert free is not None
    assert budget(backend, 0.25) == pytest.approx(free / 4, rel=0.2)
    assert budget(backend, 10**6) == budget(backend, "1 MB") == 10**6
    assert budget(backend, None) == pytest.approx(free / 2, rel=0.2)


@pytest.mark.parametrize("method", ["adaptive", "complex_step", "central", "forward"])
def test_a_bare_jacobian_is_the_same_where_its_bars_are_not_kept(method):
    free = ad.jacobian(waves, method=method, trace=False)(X)
    np.testing.assert_array_equal(ad.jacobian(waves, method=method, max_memory="60 MB", trace=False)(X), free)


def test_a_jacobian_whose_tape_does_not_fit_is_made_of_values_and_agrees():
    followed, by_values = (ad.jacobian(waves, max_memory=most).result(X) for most in (None, "60 MB"))
    assert (followed.method_used, by_values.method_used) == ("exact", "complex_step")
    assert "tape" in by_values.reason
    np.testing.assert_allclose(by_values.jacobian, followed.jacobian, rtol=1e-12, atol=1e-13)


def test_the_same_is_warned_of_where_bars_are_not_kept():
    told = []
    for max_memory in (None, LITTLE * 2):
        with warnings.catch_warnings(record=True) as caught, ad.record() as total:
            warnings.simplefilter("always")
            ad.jacobian(kinked, method="richardson", max_memory=max_memory)(X)
        told.append(([str(warning.message) for warning in caught], total.unvouched, total.worst_bar))
    assert told[0][0] == told[1][0]
    assert "KINK" in told[0][0][0]
    assert told[0][1:] == pytest.approx(told[1][1:])


def test_a_bar_that_is_wide_beside_its_value_alone_is_not_warned_of_where_a_later_parameter_moves_the_output():
    """1e-9 x0 is drowned in the rounding of x1; chunk by chunk x0 comes first."""

    def f(p):
        return np.stack([1e-9 * p[0] + 1e3 * np.cosh(p[1]) * (1 + 0 * T[:2000])] * 1)[0]

    x = np.arange(1.0, 9.0)
    for max_memory in (None, "320 kB"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            jacobian = ad.jacobian(f, opaque=True, method="central", max_memory=max_memory, chunk_size=1)(x)
        np.testing.assert_allclose(jacobian[:, 1], 1e3 * np.sinh(2.0), rtol=1e-6)
        assert np.all(np.abs(jacobian[:, 0] - 1e-9) < 1e-4)  # drowned: anything near 0 beside the effect of x1


def test_an_output_that_is_lost_or_a_parameter_that_is_fixed_is_the_same_without_bars():
    def f(p):
        values = waves(p)
        values[3] = np.nan
        return values

    bounds = (np.array([0, 0.7, 0, 0, 0]), np.array([9, 0.7, 9, 9, 9]))
    options = {"method": "central", "bounds": bounds, "unreliable": "ignore"}
    free, tight = (ad.jacobian(f, max_memory=most, **options)(X) for most in (None, "40 MB"))
    np.testing.assert_array_equal(free, tight)
    assert np.isnan(tight[3, [0, 2, 3, 4]]).all()
    assert (tight[:, 1] == 0).all()


def test_a_memory_in_which_not_one_direction_fits_is_refused_with_what_it_takes():
    with pytest.raises(
        MemoryError,
        match=r"max_memory='1 MB' is too small for 200000 outputs: one direction .* MB with what is kept.*; give",
    ):
        ad.jacobian(waves, max_memory="1 MB")(X)


def peak_of(call):
    tracemalloc.start()
    try:
        kept = call()
        return tracemalloc.get_traced_memory()[1], kept
    finally:
        tracemalloc.stop()


MANY = np.linspace(0.5, 1.0, 12)
"""Of so many parameters the bars and flags take 24 MB, the values 19 MB."""


def decays(p: np.ndarray) -> np.ndarray:
    values = np.zeros(M, dtype=p.dtype)
    for i in range(0, len(p), 2):
        values += p[i] * np.exp(-p[i + 1] * T)
    return values


def scaled(p: np.ndarray) -> np.ndarray:
    return np.linspace(0.1, 1, M) * np.sum(p**2)


METHODS = {"adaptive": {}, "untraced": {"trace": False}, "opaque": {"opaque": True}, "central": {"method": "central"}}
LIMITS = {
    "adaptive": ("34 MB", "60 MB", "150 MB"),
    "untraced": ("34 MB", "60 MB", "150 MB"),
    "opaque": ("82 MB",),
    "central": ("32 MB", "60 MB"),
}


@pytest.mark.parametrize("form", ["bare", "out", "result"])
@pytest.mark.parametrize(("method", "limit"), [(method, limit) for method in METHODS for limit in LIMITS[method]])
def test_memory_beyond_what_is_returned_and_one_call_of_f_stays_within_max_memory(method, limit, form):
    options, f = METHODS[method], scaled if method in ("adaptive", "untraced") else decays
    x = MANY[:4] if method == "opaque" else MANY  # 25 s a case, else
    ad.jacobian(np.exp, **options).result(x)  # what is imported
    one, _ = peak_of(lambda: f(x + 0j if f is scaled else x))
    out = np.zeros((M, len(x))) if form == "out" else None
    transform = ad.jacobian(f, max_memory=limit, out=out, **options)
    most, found = peak_of(lambda: transform.result(x) if form == "result" else transform(x))
    returned = found.nbytes if form == "bare" else 0
    if form == "result":
        returned = sum(part.nbytes for part in (found.jacobian, found.error_estimate, found.status, found.step_sizes))
    assert most - one - returned <= in_bytes(limit)


@pytest.mark.parametrize("refusal", [float, np.linalg.eig, lambda _: 1 / 0], ids=["float", "no rule", "error"])
def test_what_f_had_made_when_it_could_not_be_followed_is_held_no_longer(refusal):
    held = []

    def f(x):
        held.append(tracemalloc.get_traced_memory()[0] / (8 * M))
        parts = [np.sin(x * k) for k in range(20)]
        total = sum(np.sum(part) for part in parts)
        if is_traced(total):
            refusal(total)
        return total

    x = np.linspace(0.0, 1.0, M)
    _, result = peak_of(lambda: ad.jvp(f, (x,), (np.ones(M),), full_output=True))
    assert result.method_used == "complex_step"
    assert max(held) < 16  # x, and what the points take


def test_a_ladder_of_few_outputs_stays_within_max_memory():
    """All outputs are compared at once there, some 350 numbers for each: that is what limits a chunk."""
    t = np.linspace(0.0, 1.0, 10_000)

    def f(p):
        return np.exp(-t * p[0]) + np.sum(np.sin(p[1:])) * t

    ad.jacobian(np.exp, opaque=True)(MANY)
    most, jacobian = peak_of(lambda: ad.jacobian(f, opaque=True, max_memory="65 MB")(MANY))
    assert most - jacobian.nbytes <= in_bytes("65 MB")
    np.testing.assert_allclose(jacobian, ad.jacobian(f, opaque=True)(MANY), rtol=1e-9, atol=1e-10)


def test_what_is_doubtful_of_many_outputs_is_watched_with_the_strictest_library():
    import array_api_strict as xp

    with xp.ArrayAPIStrictFlags(api_version="2024.12"):
        t = xp.linspace(0.0, 1.0, 70_000)

        def f(p):
            return xp.abs(p[0] - t) + p[1] * t

        x = xp.asarray([0.5, 2.0])
        told = []
        for out in (None, xp.zeros((70_000, 2))):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                jacobian = ad.jacobian(f, method="central", out=out)(x)
            told.append([str(warning.message) for warning in caught])
        assert told[0] == told[1]
        assert float(jacobian[69_999, 0]) == pytest.approx(-1)


def test_a_jacobian_goes_into_a_memory_map_and_is_the_same(tmp_path):
    out = np.memmap(tmp_path / "J", dtype=float, mode="w+", shape=(M, len(X)))
    given = ad.jacobian(waves, out=out)(X)
    assert given is out
    np.testing.assert_array_equal(out, ad.jacobian(waves)(X))
    result = ad.jacobian(waves, out=out, method="central").result(X)
    assert result.jacobian is out
    assert result.error_estimate.shape == out.shape
    np.testing.assert_array_equal(out, ad.jacobian(waves, method="central")(X))


def test_an_array_for_the_jacobian_may_have_any_shape_that_the_jacobian_has(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")

    def f(p):
        return np.outer(p[0], np.arange(3.0)) * np.sum(p[1])

    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    with h5py.File(tmp_path / "J.h5", "w") as file:
        out = file.create_dataset("J", shape=(2, 3, 2, 2), dtype="f8")
        assert ad.jacobian(f, out=out, chunk_size=1)(x) is out
        np.testing.assert_allclose(out[...], ad.jacobian(f)(x), rtol=1e-6)
    with pytest.raises(ValueError, match=r"out must have the shape of the Jacobian, \(2, 3, 2, 2\), got \(2, 3\)"):
        ad.jacobian(f, out=np.zeros((2, 3)))(x)
    with pytest.raises(ValueError, match="out takes the Jacobian of one real array"):
        ad.jacobian(lambda x: {"a": x, "b": x}, out=np.zeros((2, 2)))(x[0])
    with pytest.raises(ValueError, match="out is an option of jacobian, not of grad"):
        ad.grad(f, out=np.zeros(2))
    with pytest.raises(ValueError, match="out takes the Jacobian at one point"):
        ad.jacobian(f, out=np.zeros(2), in_axes=0)


HUNGRY = """
import numpy as np
import arraydiff as ad

asked = []

def hungry(x):
    asked.append(x.shape[1])
    wide = np.ones((1_000_000, 1)) * np.sum(np.sin(x), axis=0)  # 8 MB a point
    return wide[0] + 0 * np.sum(wide[:10], axis=0)

gradient = ad.grad(hungry, method="central", vectorized=True, max_memory="80 MB")(np.linspace(0.1, 1, 60))
assert np.allclose(gradient, np.cos(np.linspace(0.1, 1, 60)), rtol=1e-6)
print(asked)
"""


def test_one_measured_evaluation_tells_how_many_points_a_block_may_have():
    run = subprocess.run([sys.executable, "-c", HUNGRY], capture_output=True, text=True, check=True, timeout=60)
    first, *others = eval(run.stdout)
    assert first == 5  # f(x) and the ray
    assert 3 <= max(others) <= 11
    assert sum(others) == 120


def test_an_exact_hessian_holds_two_tapes_at_a_time() -> None:
    held = []
    for options in ({"full_output": True}, {}):  # with bars, and without
        hessian = ad.hessian(lambda p: np.sum(waves(p) ** 2), **options)
        hessian(X)
        tracemalloc.start()
        hessian(X)
        held.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert held[0] < 2.5 * held[1]


FREED = """
import numpy as np
import arraydiff as ad
from arraydiff.backends.host_memory import memory_in_use

ad.grad(lambda x: np.sum(x[1:] * x[:-1]))(np.linspace(-1.2, 1.5, 1000))
before, _ = memory_in_use()
tape = [np.ones(100_000) for _ in range(40)]  # 32 MB
tape.clear()
print(memory_in_use()[0] - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is freed goes back by other rules there")
def test_what_a_tape_gives_back_is_kept_for_the_next_one():
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")
    }  # distributed sets some
    run = subprocess.run(
        [sys.executable, "-c", FREED], env=plain, capture_output=True, text=True, check=True, timeout=60
    )
    assert int(run.stdout) > 16_000_000


def test_what_is_blanked_is_blank_in_the_array_of_the_users_too():
    def f(x):
        return np.array([x[0] ** 2, abs(x[2]) + x[1]])

    x, out = np.array([1.0, 2.0, 0.0]), np.empty((2, 3))
    ad.jacobian(f, unreliable="nan", out=out)(x)
    np.testing.assert_array_equal(out, ad.jacobian(f, unreliable="nan")(x))
    assert np.isnan(out[1, 2])


def test_an_array_that_cannot_hold_the_values_is_refused_with_what_is_wanted():
    read_only = np.zeros((3, 3))
    read_only.flags.writeable = False
    for out in (np.zeros((3, 3), int), read_only):
        with pytest.raises(ValueError, match="out must be an array of floats that can be written by slices"):
            ad.jacobian(lambda x: x * np.pi, out=out)(np.ones(3))
