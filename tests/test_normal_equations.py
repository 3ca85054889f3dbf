"""Normal equations: JᵀJ, Jᵀr and r·r as a Jacobian would give them, in blocks or not, in memory or not."""

from __future__ import annotations

import functools
import pickle
import tempfile
import tracemalloc
import warnings
from collections import namedtuple

import numpy as np
import pytest

import arraydiff as ad
from arraydiff import gram, memory, scratch
from tests.helpers import Backend, Recorder, tonumpy

ROWS = 700
T = np.linspace(0.0, 1.0, ROWS)
X = np.asarray([1.0, 0.7, 0.2])
METHODS = [method for method in ad.DifferentiationMethod if method.value not in ("exact", "backward")]


def decay(x, t=T):
    return x[0] * np.exp(-x[1] * t) + x[2] * np.sin(3 * t) - 1 / (1 + t)


def exact(x=X, t=T):
    decaying = np.exp(-x[1] * t)
    return np.stack([decaying, -x[0] * t * decaying, np.sin(3 * t)], axis=1)


def part(x, b, blocks=7):
    rows = ROWS // blocks
    return decay(x, T[b * rows : (b + 1) * rows])


def assert_normal(triple, jacobian, residual, rtol=1e-10, weights=1.0):
    wanted = (
        jacobian.T @ (weights * jacobian.T).T,
        jacobian.T @ (weights * residual),
        np.sum(weights * residual * residual),
    )
    for got, right in zip(triple, wanted, strict=True):
        assert got.shape == right.shape
        np.testing.assert_allclose(tonumpy(got), right, rtol=rtol, atol=rtol * np.max(np.abs(right), initial=0.0))


# ---- values


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_the_products_of_its_jacobian(method):
    triple = ad.normal_equations(decay, method=method)(X)
    assert_normal(triple, ad.jacobian(decay, method=method)(X), decay(X), rtol=1e-12)
    assert (triple[0] == triple[0].T).all()


@pytest.mark.parametrize("backend", [*Backend], indirect=True, ids=lambda backend: backend.value)
def test_every_library_gives_arrays_of_its_own(backend):
    xp, t = backend.namespace, backend.asarray(T)

    def fun(x):
        return x[0] * xp.exp(-x[1] * t) + x[2] * xp.sin(3 * t) - 1 / (1 + t)

    result = ad.normal_equations(fun, unreliable="raise").result(backend.asarray(X))
    assert_normal(result.normal, exact(), decay(X))
    for triple in (result.normal, result.error_estimate):
        assert all(type(entry) is type(backend.asarray(X)) for entry in triple)
    assert (tonumpy(result.status[0]) == 0).all()


def test_the_same_products_come_out_of_blocks():
    whole = ad.normal_equations(decay)(X)
    seen = Recorder(part)
    in_blocks = ad.normal_equations(seen, blocks=7).result(X)
    assert_normal(in_blocks.normal, exact(), decay(X))
    assert in_blocks.function_points == seen.points
    assert in_blocks.function_calls == seen.calls
    assert in_blocks.value is None
    for one, other in zip(whole, in_blocks.normal, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13)


def test_blocks_are_labels_of_any_kind_and_may_differ_in_rows_and_be_empty():
    cuts = {"a": slice(0, 5), "none": slice(5, 5), "b": slice(5, 6), "rest": slice(6, None)}
    g = ad.normal_equations(lambda x, label: decay(x, T[cuts[label]]), blocks=iter(cuts))
    for _ in range(2):
        assert_normal(g(X), exact(), decay(X))


def test_a_list_of_callables_serves_again_and_a_generator_once():
    functions = [functools.partial(part, b=b) for b in range(7)]
    g = ad.normal_equations(functions)
    assert_normal(g(X), exact(), decay(X))
    assert_normal(g(X), exact(), decay(X))
    once = ad.normal_equations(iter(functions))
    assert_normal(once(X), exact(), decay(X))
    with pytest.raises(ValueError, match=r"used up.*pass a list"):
        once(X)


def test_blocks_with_several_leaves_and_other_arguments():
    def residual(x, scale, b, *, shift=0.0):
        rows = scale * part(x, b) + shift
        return {"even": rows[::2], "odd": (rows[1::2], np.zeros(0))}

    triple = ad.normal_equations(residual, blocks=7)(X, 2.0, shift=0.5)
    assert_normal(triple, 2 * exact(), 2 * decay(X) + 0.5)


Pair = namedtuple("Pair", "amplitude rate")


def test_structures_are_those_of_hessian_and_grad():
    def residual(pair, c):
        return decay(np.asarray([pair.amplitude, pair.rate, c[0]]))

    def real(pair, c):
        return pair.amplitude * np.exp(-pair.rate * T) + c[0] * np.sin(3 * T) - 1 / (1 + T)

    args = (Pair(1.0, np.asarray(0.7)), np.asarray([0.2]))
    (jtj, jtr, cost) = ad.normal_equations(real, argnums=(0, 1))(*args)
    assert jtj[0].rate[1].shape == (1,)
    assert jtj[1][0].amplitude.shape == (1,)
    right = exact().T @ exact()
    assert jtj[0].amplitude[0].rate == pytest.approx(right[0, 1])
    assert jtj[1][1][0, 0] == pytest.approx(right[2, 2])
    np.testing.assert_allclose(jtr[0].rate, (exact().T @ decay(X))[1], rtol=1e-12)
    assert cost == pytest.approx(decay(X) @ decay(X))

    def squares(*a):
        return np.sum(real(*a) ** 2)

    hessian = ad.hessian(squares, argnums=(0, 1), unreliable="ignore")(*args)
    gradient = ad.grad(squares, argnums=(0, 1), unreliable="ignore")(*args)
    import optree

    assert optree.tree_structure(hessian) == optree.tree_structure(jtj)
    assert optree.tree_structure(gradient) == optree.tree_structure(jtr)


def test_matrices_as_arguments_give_four_axes():
    triple = ad.normal_equations(lambda x: np.sin(x).reshape(-1) * T[:6])(np.arange(6.0).reshape(2, 3))
    assert [part.shape for part in triple] == [(2, 3, 2, 3), (2, 3), ()]


def test_aux_comes_beside_the_triple_and_from_blocks_as_a_list():
    (jtj, _, _), aux = ad.normal_equations(lambda x: (decay(x), "kept"), has_aux=True)(X)
    assert aux == "kept"
    triple, aux = ad.normal_equations(lambda x, b: (part(x, b), b), has_aux=True, blocks=7)(X)
    assert aux == list(range(7))
    np.testing.assert_allclose(triple[0], jtj, rtol=1e-12)


def test_the_result_holds_what_a_jacobian_says():
    result = ad.normal_equations(decay).result(X)
    assert result.normal is result.derivative
    np.testing.assert_array_equal(result.value, decay(X))
    assert result.method_used is ad.DifferentiationMethod.EXACT
    assert result.rounds > 0
    assert result.step_sizes.shape == (3,)
    assert "700 rows in 1 block" in result.explain()
    with ad.record() as total:
        ad.normal_equations(part, blocks=7, full_output=True)(X)
    assert total.derivatives == 1
    assert total.points == total.calls > 7


def test_it_can_be_pickled():
    for g in (
        ad.normal_equations(part, blocks=7),
        ad.normal_equations([functools.partial(part, b=b) for b in range(7)]),
    ):
        for one, other in zip(g(X), pickle.loads(pickle.dumps(g))(X), strict=True):
            np.testing.assert_array_equal(one, other)


def test_workers_and_vectorised_residuals_serve_blocks():
    plain = ad.normal_equations(part, blocks=7)(X)
    with_workers = ad.normal_equations(part, blocks=7, workers=map)(X)

    def columns(x, b):
        t = T[b * 100 : (b + 1) * 100, None]
        return x[0] * np.exp(-x[1] * t) + x[2] * np.sin(3 * t) - 1 / (1 + t)

    together = ad.normal_equations(columns, blocks=7, vectorized=True).result(X)
    assert together.function_calls < together.function_points
    for one, other, third in zip(plain, with_workers, together.normal, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, third, rtol=1e-12)


# ---- weights


def test_weights_are_one_number_an_array_or_a_function_of_the_block():
    weights = 1 + T
    for g in (
        ad.normal_equations(decay, weights=weights),
        ad.normal_equations(part, blocks=7, weights=lambda b: weights[100 * b : 100 * b + 100]),
        ad.normal_equations(part, blocks=7, weights=weights.reshape(7, 100)),
    ):
        assert_normal(g(X), exact(), decay(X), weights=weights)
    assert_normal(ad.normal_equations(decay, weights=2)(X), exact(), decay(X), weights=2.0)


@pytest.mark.parametrize(
    "weights", [-1.0, float("nan"), np.where(T[3] == T, -1, 1.0), np.where(T[3] == T, np.inf, 1.0)]
)
def test_weights_that_are_negative_or_not_finite_are_refused(weights):
    with pytest.raises(ValueError, match="finite and not negative"):
        ad.normal_equations(decay, weights=weights)(X)


def test_weights_that_do_not_fit_are_refused_with_the_shapes():
    with pytest.raises(ValueError, match=r"structure and shapes of the residual, \(700,\)"):
        ad.normal_equations(decay, weights=np.ones(3))(X)
    with pytest.raises(ValueError, match="one entry a block, got 2 for 7"):
        ad.normal_equations(part, blocks=7, weights=[1.0, 2.0])(X)
    with pytest.raises(ValueError, match="one entry a block, got 1"):
        ad.normal_equations([decay, decay], weights=[1.0])(X)


# ---- bars


@pytest.mark.parametrize("method", METHODS)
def test_bars_hold_and_are_not_absurdly_wide(method):
    result = ad.normal_equations(decay, method=method).result(X)
    right = (exact().T @ exact(), exact().T @ decay(X), decay(X) @ decay(X))
    jacobian = ad.jacobian(decay, method=method).result(X)
    size, bar, rounding = np.abs(jacobian.jacobian), jacobian.error_estimate, 1e-12
    worst = size.T @ bar + bar.T @ size + bar.T @ bar + rounding * size.T @ size
    for got, wide, wanted in zip(result.normal, result.error_estimate, right, strict=True):
        assert (np.abs(got - wanted) <= wide).all()
    assert (result.error_estimate[0] <= worst).all()
    assert result.error_estimate[2] < 1e-12 * right[2]


def test_the_noise_of_f_widens_the_bars_of_the_gradient_and_the_cost():
    result = ad.normal_equations(decay, noise=1e-6, method="central", unreliable="ignore").result(X)
    residual = np.abs(decay(X))
    assert result.error_estimate[2] == pytest.approx(np.sum(2 * residual * 1e-6 + 1e-12), rel=1e-3)
    assert (result.error_estimate[1] >= 1e-6 * np.sum(np.abs(exact()), axis=0) * 0.99).all()


def test_many_rows_sum_to_the_last_digits():
    rows = np.random.default_rng(1).normal(size=(300_000, 3)) * [1.0, 1e3, 1e-3]
    result = ad.normal_equations(lambda x: rows @ x + 0.1, method="central").result(X)
    jacobian = ad.jacobian(lambda x: rows @ x + 0.1, method="central")(X).astype(np.longdouble)
    right = jacobian.T @ jacobian
    diagonal = np.sqrt(np.diag(right))
    assert np.max(np.abs(result.normal[0] - right) / np.outer(diagonal, diagonal)) < 1e-14
    assert np.linalg.eigvalsh(result.normal[0] / np.outer(diagonal, diagonal).astype(float))[0] > 0


# ---- memory


def test_of_many_blocks_one_is_held_at_a_time():
    rows, blocks, n = 5000, 40, 20
    rates = np.linspace(0.1, 2.0, n)

    def residual(x, b):
        return np.exp(-np.linspace(b, b + 1, rows)[:, None] * rates) @ x

    g = ad.normal_equations(residual, blocks=blocks, method="complex_step")
    g(rates)
    tracemalloc.start()
    try:
        g(rates)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 * rows * blocks * n / 3  # J is 32 MB, the columns of a block and their bars 1.6


def allow(monkeypatch, size):
    """So many bytes, whatever max_memory says."""
    for module in (memory, gram):
        monkeypatch.setattr(module, "budget", lambda backend, max_memory: size)


def scratch_files(monkeypatch, folder):
    """Let files go to `folder`, and return what is told of them."""
    opened = []

    class Watched(scratch.Scratch):
        def __init__(self, *args):
            super().__init__(*args)
            opened.append(self)

    monkeypatch.setattr(gram, "Scratch", Watched)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return opened


@pytest.mark.parametrize(
    "backend", [Backend.NUMPY, Backend.STRICT, Backend.TORCH], indirect=True, ids=lambda b: b.value
)
def test_columns_that_do_not_fit_go_through_a_file_and_give_the_same_bits(backend, monkeypatch, tmp_path):
    xp, t = backend.namespace, backend.asarray(np.linspace(0.0, 1.0, 9001))

    def fun(x):
        return x[0] * xp.exp(-x[1] * t) + x[2] * xp.sin(3 * t) - 1 / (1 + t)

    x = backend.asarray(X)
    options = {"method": "central", "chunk_size": 1}
    options["bounds"] = backend.asarray([-9.0, 0.7, -9.0]), backend.asarray([9.0, 0.7, 9.0])
    right = ad.normal_equations(fun, **options).result(x)
    opened = scratch_files(monkeypatch, tmp_path)
    allow(monkeypatch, 9001 * 8 * 6)
    result = ad.normal_equations(fun, max_memory="1 GB", **options).result(x)
    assert len(opened) == 1
    assert opened[0].file.closed
    assert list(tmp_path.iterdir()) == []
    for one, other in zip(right.normal + right.error_estimate, result.normal + result.error_estimate, strict=True):
        np.testing.assert_array_equal(tonumpy(one), tonumpy(other))
    assert (tonumpy(result.status[0])[1] == ad.Status.FIXED).all()
    assert (tonumpy(result.normal[0])[1] == 0).all()


def test_the_file_is_gone_after_an_exception(monkeypatch, tmp_path):
    opened = scratch_files(monkeypatch, tmp_path)
    allow(monkeypatch, 1)
    seen = Recorder(decay)

    def stops(x):
        if seen.calls == 9:
            raise KeyboardInterrupt
        return seen(x)

    with pytest.raises(KeyboardInterrupt):
        ad.normal_equations(stops, max_memory="1 GB", method="central", chunk_size=1)(X)
    assert opened[0].file.closed


def test_a_disk_without_room_is_named_with_the_remedy(monkeypatch, tmp_path):
    scratch_files(monkeypatch, tmp_path)
    allow(monkeypatch, 1)
    g = ad.normal_equations(decay, max_memory="1 GB", method="central", chunk_size=1)
    with monkeypatch.context() as patch:
        patch.setattr(scratch, "disk_usage", lambda folder: namedtuple("usage", "free")(10))
        with pytest.raises(OSError, match="which has 10 bytes left: let TMPDIR"):
            g(X)

    class Full:
        def __init__(self, **kwargs):
            self.closed = False

        def seek(self, place):
            pass

        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self):
            self.closed = True

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(OSError, match=r"could not be written.*No space left.*blocks="):
        g(X)


@pytest.mark.parametrize("backend", [Backend.CUPY], indirect=True, ids=lambda backend: backend.value)
def test_on_a_device_columns_that_do_not_fit_are_refused_with_the_remedy(backend, monkeypatch):
    allow(monkeypatch, 1)
    xp, t = backend.namespace, backend.asarray(T)
    with pytest.raises(MemoryError, match="part the residual into blocks"):
        ad.normal_equations(lambda x: xp.sin(x[0] * t), max_memory="1 GB", method="central")(backend.asarray(X))


# ---- what cannot be vouched for


def kinked(x):
    return np.concatenate([decay(x), np.abs(x[:1] - 1.0)])


def test_a_kink_in_one_row_is_warned_of_and_flagged():
    g = ad.normal_equations(kinked)
    with pytest.warns(
        ad.DifferentiationWarning, match="normal_equations of kinked: some entries of J are KINK"
    ) as caught:
        g(X)
    assert caught[0].filename == __file__
    result = g.result(X)
    assert "1 entry of J flagged KINK" in result.warnings
    assert (result.status[0][0] & ad.Status.KINK).all()
    assert not result.status[0][1, 1] & ad.Status.KINK
    assert "d r / d x[0]: 1 entries with KINK" in result.explain()
    with pytest.raises(ad.NumericalStabilityError, match="KINK"):
        ad.normal_equations(kinked, unreliable="raise")(X)
    jtj, jtr, cost = ad.normal_equations(kinked, unreliable="nan")(X)
    np.testing.assert_array_equal(np.isnan(jtj), [[1, 1, 1], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(np.isnan(jtr), [1, 0, 0])
    assert np.isfinite(cost)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(ad.normal_equations(kinked, unreliable="ignore")(X)[0]).all()


def test_a_wide_bar_is_warned_of():
    def noisy(x):
        return decay(x) + 1e-3 * np.sin(1e9 * np.sum(x))

    with pytest.warns(ad.DifferentiationWarning, match="error bars are wider|UNRESOLVED"):
        ad.normal_equations(noisy, method="central")(X)


def holed(x):
    rows = decay(x)
    rows[3:5] = np.nan
    return rows


def test_rows_that_are_not_finite_make_the_sums_nan_and_weight_zero_leaves_them_out():
    with pytest.warns(ad.DifferentiationWarning, match="rows of the residual are not finite at x.*weight 0"):
        jtj, jtr, cost = ad.normal_equations(holed)(X)
    assert np.isnan(jtj).all()
    assert np.isnan(jtr).all()
    assert np.isnan(cost)
    result = ad.normal_equations(holed).result(X)
    assert any(text.startswith("2 of 700 rows: some rows") for text in result.warnings)
    assert result.status[2] == ad.Status.FAILED
    weights = np.ones(ROWS)
    weights[3:5] = 0.0
    kept = ad.normal_equations(holed, weights=weights, unreliable="raise").result(X)
    assert_normal(kept.normal, exact(), decay(X), weights=weights)
    assert kept.warnings == []
    assert (kept.status[0] == 0).all()


def test_a_block_that_is_nowhere_finite_is_said_too():
    result = ad.normal_equations(lambda x, b: part(x, b) * (np.nan if b == 2 else 1.0), blocks=7).result(X)
    assert any(text.startswith("100 of 700 rows") for text in result.warnings)
    assert np.isnan(result.normal[0]).all()


@pytest.mark.parametrize(("most", "trace"), [(50, False), (4, True), (20, True), (24, True)])
def test_max_evaluations_holds_for_all_blocks_together(most, trace):
    seen = Recorder(part)
    with pytest.warns(ad.DifferentiationWarning, match="max_evaluations is spent"):
        triple = ad.normal_equations(seen, blocks=7, max_evaluations=most, trace=trace)(X)
    assert seen.points <= most
    assert np.isnan(triple[0]).all()
    result = ad.normal_equations(part, blocks=7, max_evaluations=most, trace=trace).result(X)
    assert (result.status[0] & ad.Status.UNRESOLVED).all()


@pytest.mark.parametrize("most", [1, 2, 3, 5, 6, 7, 25, 26, 27])
def test_a_block_for_which_evaluations_run_out_while_it_is_followed_is_unresolved(most):
    seen = Recorder(part)
    with pytest.warns(ad.DifferentiationWarning, match="UNRESOLVED"):
        triple = ad.normal_equations(seen, blocks=7, max_evaluations=most)(X)
    assert seen.points <= most
    assert np.isnan(triple[0]).all()
    result = ad.normal_equations(part, blocks=7, max_evaluations=most).result(X)
    assert (result.status[0] & ad.Status.UNRESOLVED).all()
    assert result.function_points == most


def test_a_residual_that_refuses_complex_numbers_is_asked_once_for_all_blocks():
    refused = []

    def real(x, b):
        if np.iscomplexobj(x):
            refused.append(b)
            raise TypeError("real numbers only")
        return part(x, b)

    g = ad.normal_equations(real, blocks=7, trace=False)
    assert "complex" in g.result(X).reason
    assert set(refused) == {0}
    g.forget()
    assert g.learnt == {}


# ---- what is refused


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: ad.normal_equations(3), TypeError, "a callable or an iterable"),
        (lambda: ad.normal_equations([3])(X), TypeError, "must be callable"),
        (lambda: ad.normal_equations([])(X), ValueError, "no blocks"),
        (lambda: ad.normal_equations([decay], blocks=2), ValueError, "leave blocks out"),
        (lambda: ad.normal_equations(decay, blocks=0), ValueError, "at least 1"),
        (lambda: ad.normal_equations(decay, blocks=()), ValueError, "empty"),
        (lambda: ad.normal_equations(decay, blocks=1.5), TypeError, "a number of blocks"),
        (lambda: ad.normal_equations(decay, blocks=2, devices=["cpu"]), ValueError, "leave blocks out"),
        (lambda: ad.normal_equations(decay).plan(X), TypeError, "no plan"),
        (lambda: ad.normal_equations(lambda x: decay(x) * 1j)(X), TypeError, "real and imaginary parts"),
        (lambda: ad.normal_equations(decay)(X * 1j), TypeError, "real-valued inputs"),
        (lambda: ad.normal_equations(decay)(np.asarray([1, 2, 3])), TypeError, "cast"),
        (lambda: ad.normal_equations(decay, blokcs=2), TypeError, "blokcs"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_remedy(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_a_generator_function_is_refused_with_the_remedy():
    def rows(x):
        yield decay(x)

    with pytest.raises(TypeError, match=r"residual\(x, b\), and pass blocks="):
        ad.normal_equations(rows)


def test_no_parameters_and_no_rows_give_empty_and_zero_sums():
    triple = ad.normal_equations(lambda x: x[:0])(X)
    assert_normal(triple, np.zeros((0, 3)), np.zeros(0))
    triple = ad.normal_equations(lambda x: T)(np.zeros(0))
    assert [part.shape for part in triple] == [(0, 0), (0,), ()]


@pytest.mark.parametrize("backend", [Backend.JAX], indirect=True, ids=lambda backend: backend.value)
def test_inside_jit_the_sums_are_those_outside(backend):
    import jax

    t = backend.asarray(T)
    bounds = backend.asarray([-9.0, 0.7, -9.0]), backend.asarray([9.0, 0.7, 9.0])
    g = ad.normal_equations(lambda x: x[0] * t**2 - x[1] * t + x[2], method="central", bounds=bounds)
    x = backend.asarray(X)
    for one, other in zip(g(x), jax.jit(g)(x), strict=True):
        np.testing.assert_allclose(tonumpy(one), tonumpy(other), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="unreliable='nan'"):
        jax.jit(ad.normal_equations(lambda x: x * t[:3], method="central", unreliable="raise"))(x)


def test_a_derivative_of_normal_equations_knows_their_bars():
    result = ad.jacobian(ad.normal_equations(lambda x: np.stack([x[0] ** 2, x[1] * x[0]]))).result(
        np.asarray([1.0, 2.0])
    )
    jtj, jtr, cost = result.jacobian
    np.testing.assert_allclose(jtj, [[[8, 4], [2, 1]], [[2, 1], [2, 0]]], atol=1e-6)
    np.testing.assert_allclose(jtr, [[6 + 4, 4], [4, 1]], atol=1e-6)
    np.testing.assert_allclose(cost, [12, 4], atol=1e-6)
    assert (result.error_estimate[0] < 1e-6).all()


def test_a_record_counts_each_reason_of_the_blocks_once():
    def residual(x, b):
        return np.array([float(x[0]) ** 2, float(x[1]) * b])

    with ad.record() as total:
        for _ in range(2):
            ad.normal_equations(residual, blocks=3)(np.array([1.0, 2.0]))
    (count,) = set(total.reasons.values())
    assert (total.derivatives, count) == (2, 2)
