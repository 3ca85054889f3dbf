"""Columns in which f is linear: one difference each, exact whatever the step, and a look that finds those in which it is not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import arraydiff as ad
from arraydiff import Status
from tests.claims import by
from tests.helpers import Backend, Recorder, assert_array, tonumpy
from tests.test_sparse_jacobian import FORKS
from tests.test_sparse_normal_equations import ANGLES, LOCAL, residuals, scaled_pattern

T = np.linspace(0.0, 1.0, 50)
X = np.array([0.3, 1.1, 0.7, 0.4])
METHODS = ["adaptive", "untraced", "exact", "complex_step", "richardson", "central", "forward", "backward"]
ACCURACY = {"central": 1e-8, "forward": 1e-5, "backward": 1e-5}


def model(p, t=T):
    """Linear in contrast and offset, p[0] and p[1]."""
    return p[0] * np.exp(-p[2] * t) + p[1] + np.sin(p[3] * t)


def exact(p=X, t=T):
    decay = np.exp(-p[2] * t)
    return np.stack([decay, np.ones_like(t), -p[0] * t * decay, t * np.cos(p[3] * t)], axis=1)


def product(p):
    """Linear in each of two parameters, not in both together."""
    return p[0] * p[1] * np.exp(T) + p[0]


# ---- values


@pytest.mark.parametrize("method", METHODS)
def test_linear_columns_are_right_to_rounding_by_every_method(method):
    result = ad.jacobian(model, linear=[0, 1], **by(method)).result(X)
    np.testing.assert_allclose(result.jacobian[:, :2], exact()[:, :2], rtol=1e-14)
    np.testing.assert_allclose(result.jacobian, exact(), rtol=ACCURACY.get(method, 1e-12), atol=1e-6)
    error = np.abs(result.jacobian - exact())[:, :2]
    assert (error <= result.error_estimate[:, :2]).all()
    assert result.error_estimate[:, :2].max() < 1e-14
    assert (result.status[:, :2] == 0).all()


@pytest.mark.parametrize("step", [1e-3, 0.1, 30.0])
def test_the_step_does_not_matter(step):
    result = ad.jacobian(model, linear=[0, 1], step_size=np.array([step, step, 1e-3, 1e-3]), method="central").result(X)
    np.testing.assert_allclose(result.jacobian[:, :2], exact()[:, :2], rtol=1e-11)
    np.testing.assert_allclose(result.step_sizes[:2], step, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_column_costs_one_point_and_all_together_one_direction(method):
    n = 12

    def fun(x):
        return np.exp(x[-1] * T) + sum(x[i] * T**i for i in range(n - 1))

    x, seen = np.linspace(0.5, 1.0, n), Recorder(fun)
    result = ad.jacobian(seen, linear=slice(0, n - 1), **by(method), noise=None).result(x)
    assert result.function_points == seen.points
    two = ad.jacobian(lambda p: fun(np.concatenate([p[:1], x[1:-1], p[1:]])), **by(method), noise=None)
    of_two = two.result(x[[0, -1]]).function_points
    assert seen.points <= of_two + (n - 1) + 4


@pytest.mark.parametrize("backend", [b for b in Backend if b is not Backend.DASK], indirect=True, ids=lambda b: b.value)
def test_every_library_is_served(backend):
    xp, t = backend.namespace, backend.asarray(T)

    def fun(p):
        return p[0] * xp.exp(-p[2] * t) + p[1] + xp.sin(p[3] * t)

    x = backend.asarray(X)
    for method in ("adaptive", "central"):
        jacobian = ad.jacobian(fun, linear=[0, 1], **by(method), unreliable="raise")(x)
        assert_array(jacobian, exact(), x, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(tonumpy(jacobian)[:, :2], exact()[:, :2], rtol=1e-14)


def test_all_columns_may_be_linear():
    a = np.random.default_rng(1).normal(size=(7, 5))
    result = ad.jacobian(lambda x: a @ x + 1, linear=slice(None), opaque=True).result(np.linspace(-2, 2, 5))
    np.testing.assert_allclose(result.jacobian, a, rtol=1e-13, atol=1e-14)
    assert (np.abs(result.jacobian - a) <= result.error_estimate).all()


def test_no_column_may_be_linear():
    assert np.array_equal(ad.jacobian(model, linear=[])(X), ad.jacobian(model)(X))


# ---- what linear means


@pytest.mark.parametrize("method", METHODS)
def test_a_product_of_two_parameters_is_linear_in_each(method):
    x = np.array([0.3, 2.0])
    jacobian = ad.jacobian(product, linear=[0, 1], **by(method))(x)
    np.testing.assert_allclose(jacobian, np.stack([2 * np.exp(T) + 1, 0.3 * np.exp(T)], axis=1), rtol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_columns_in_which_f_is_not_linear_are_found_and_named(method):
    with pytest.raises(ValueError, match=r"not linear: x\[2\], x\[3\]; .* leave them out of linear="):
        ad.jacobian(model, linear=[0, 2, 3], **by(method))(X)
    with pytest.raises(ValueError, match=r"not linear: x\[2\];"):
        ad.normal_equations(model, linear=[0, 1, 2], **by(method))(X)


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("opaque", [False, True])
def test_a_small_bend_in_one_of_many_columns_is_found(size, opaque):
    def bent(x):
        return np.outer(np.ones(4), x).sum(axis=1) + size * np.array([0, 0, 1, 0]) * x[7] ** 2

    with pytest.raises(ValueError, match=r"x\[7\];"):
        ad.jacobian(bent, linear=slice(None), opaque=opaque)(np.linspace(0.5, 1.5, 20))


def test_a_kink_beside_x_that_a_large_step_would_cross_is_found():
    with pytest.raises(ValueError, match=r"not linear: x\[0\];"):
        ad.jacobian(lambda x: np.maximum(x[:1], 1.2) + x[1:], linear=[0], opaque=True)(np.array([1.0, 1.0]))


def test_linear_functions_raise_no_alarm():
    random = np.random.default_rng(7)
    for _ in range(60):
        m, n = random.integers(2, 12, 2)
        a, b = random.normal(size=(m, n)) * 10.0 ** random.uniform(-3, 3, (m, 1)), random.normal(size=(m, n))
        x = random.normal(size=n) * 10.0 ** random.uniform(-2, 2, n)
        half = n // 2

        def fun(x, a=a, b=b, half=half):
            return a[:, :half] @ x[:half] * np.cos(b[:, half:] @ np.tanh(x[half:])) - 3

        for options in ({}, {"opaque": True}, {"method": "central"}, {"method": "forward"}):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = ad.jacobian(fun, linear=range(half), **options).result(x)
            right = a[:, :half] * np.cos(b[:, half:] @ np.tanh(x[half:]))[:, None]
            assert (np.abs(got.jacobian[:, :half] - right) <= 3 * got.error_estimate[:, :half]).all()


def test_a_small_parameter_beside_large_values_loses_nothing_where_imaginary_parts_carry_derivatives():
    basis = np.random.default_rng(2).normal(size=(3, len(T)))

    def fun(p):  # of about 30, where a parameter is 2e-4
        return p[:3] @ (basis * np.exp(-p[3] * T)) + np.sin(p[4] * T)

    x = np.array([17.0, 2e-4, 29.0, 0.9, 0.7])
    got, right = ad.jacobian(fun, linear=[0, 1, 2], trace=False).result(x), (basis * np.exp(-x[3] * T)).T
    assert got.method_used == "complex_step"
    np.testing.assert_allclose(got.jacobian[:, :3], right, rtol=1e-15)
    assert (np.abs(got.jacobian[:, :3] - right) <= got.error_estimate[:, :3]).all()


def test_noise_that_is_measured_or_given_raises_no_alarm():
    random = np.random.default_rng(3)

    def noisy(x):
        return model(x) + 1e-6 * random.normal(size=T.size)

    for options, share in (({"method": "richardson"}, 0.9), ({"method": "central"}, 0.5), ({"noise": 1e-6}, 0.95)):
        result = ad.jacobian(noisy, linear=[0, 1], unreliable="ignore", opaque=True, **options).result(X)
        error = np.abs(result.jacobian - exact())[:, :2]
        assert np.mean(error <= result.error_estimate[:, :2]) > share  # of stencils right in order of magnitude


def test_float32_inside_f_is_seen():
    def single(x):
        return model(x.astype(np.float32), T.astype(np.float32)).astype(np.float64)

    result = ad.jacobian(single, linear=[0, 1], opaque=True, unreliable="ignore").result(X)
    error = np.abs(result.jacobian - exact())[:, :2]
    assert error.max() > 1e-9
    assert np.mean(error <= result.error_estimate[:, :2]) > 0.85


# ---- bounds, failures


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "bounds",
    [(X - 1e-3, X + 1.0), (X - 1.0, X + 1e-3), (X, X + 1.0), (X - 1.0, X), (X - 1e-6, X + 1e-6)],
    ids=["below", "above", "at the lower", "at the upper", "between"],
)
def test_points_stay_inside_the_bounds(method, bounds):
    seen = Recorder(model)
    result = ad.jacobian(seen, linear=[0, 1], **by(method), bounds=bounds, unreliable="ignore").result(X)
    for x in seen.seen:
        x = np.real(x)
        assert (x >= bounds[0]).all()
        assert (x <= bounds[1]).all()
    assert (np.abs(result.jacobian - exact())[:, :2] <= result.error_estimate[:, :2]).all()


def test_parameters_without_room_are_fixed():
    lower, upper = X - 1, X + 1
    lower[0] = upper[0] = X[0]
    result = ad.jacobian(model, linear=[0, 1], bounds=(lower, upper)).result(X)
    assert (result.status[:, 0] == Status.FIXED).all()
    assert (result.jacobian[:, 0] == 0).all()
    np.testing.assert_allclose(result.jacobian[:, 1], 1.0, rtol=1e-14)


def test_where_f_fails_the_other_side_is_taken():
    def picky(x):
        if np.real(x[0]) > 1.3 * X[0]:
            raise ArithmeticError("too much contrast")
        return model(x)

    result = ad.jacobian(picky, linear=[0, 1], opaque=True).result(X)
    np.testing.assert_allclose(result.jacobian[:, :2], exact()[:, :2], rtol=1e-13)
    assert result.step_sizes[0] < 0 or abs(result.step_sizes[0]) < X[0]
    assert isinstance(result.exceptions[0], ArithmeticError)


def test_where_it_fails_on_both_the_column_is_lost_alone():
    def picky(x):
        if abs(np.real(x[0]) - X[0]) > 0.1 * X[0]:
            raise ArithmeticError("another contrast")
        return model(x)

    with pytest.warns(ad.DifferentiationWarning, match="FAILED"):
        jacobian = ad.jacobian(picky, linear=[0, 1], opaque=True)(X)
    assert np.isnan(jacobian[:, 0]).all()
    np.testing.assert_allclose(jacobian[:, 1], 1.0, rtol=1e-13)


def test_rows_that_are_not_finite_at_x_are_lost_alone():
    def broken(x):
        y = model(x)
        y[3] = np.nan
        return y

    result = ad.jacobian(broken, linear=[0, 1]).result(X)
    rows = np.arange(T.size) != 3
    np.testing.assert_allclose(result.jacobian[rows], exact()[rows], rtol=1e-12, atol=1e-14)
    assert (result.status[3] == Status.FAILED).all()


# ---- paths


TREE = {"contrast": np.array([0.3, 0.4]), "model": {"offset": np.array(1.1), "rate": np.array([0.7, 0.2])}}


def of_tree(p):
    inner = p["model"]
    return (
        p["contrast"][0] * np.exp(-inner["rate"][0] * T) + p["contrast"][1] * T + inner["offset"] + inner["rate"][1] * T
    )


@pytest.mark.parametrize(
    "linear",
    [
        ["contrast", ("model", "offset"), ("model", "rate", 1)],
        ("contrast", ("model", "offset"), ("model", "rate", slice(1, None))),
        [("contrast", 0), ("contrast", -1), ("model", "offset")],
        "contrast",
    ],
    ids=str,
)
def test_keys_name_the_arrays_of_a_tree(linear):
    result = ad.jacobian(of_tree, linear=linear, method="forward").result(TREE)
    np.testing.assert_allclose(result.jacobian["contrast"][:, 0], np.exp(-0.7 * T), rtol=1e-14)
    assert result.step_sizes["contrast"][0] > 0.1
    assert result.step_sizes["model"]["rate"][0] < 1e-6


def test_positions_name_arguments_where_several_are_differentiated():
    def fun(a, b, c):
        return a * np.exp(-b["rate"] * T) + c

    arguments = np.array(0.3), {"rate": np.array(0.7)}, np.array(1.1)
    for linear in ([0, 2], (0, (2,)), [0]):
        result = ad.jacobian(fun, argnums=(0, 1, 2), linear=linear, method="forward").result(*arguments)
        np.testing.assert_allclose(result.jacobian[0], np.exp(-0.7 * T), rtol=1e-14)
        assert (result.step_sizes[2] > 0.1) == (linear != [0])
    result = ad.jacobian(fun, argnums=(1, 2), linear=2, method="forward").result(*arguments)
    assert result.step_sizes[1] > 0.1
    with pytest.raises(ValueError, match=r"linear names 0, which x does not have; it has \(1, 'rate'\) \(1\), 2 \(1\)"):
        ad.jacobian(fun, argnums=(1, 2), linear=0)(*arguments)


@pytest.mark.parametrize(
    ("linear", "said"),
    [
        (
            ["contrast", "offset"],
            r"'offset', which x does not have; it has 'contrast' \(2\), \('model', 'offset'\) \(1\)",
        ),
        ([("model", "slope")], r"\('model', 'slope'\), which x does not have"),
        ([("contrast", 5)], r"x\['contrast'\] is one array: it has 2 entries, got 5"),
        ([("contrast", "first")], r"an int or a slice chooses among its entries, got 'first'"),
    ],
)
def test_a_path_that_is_not_there_is_told_with_those_that_are(linear, said):
    with pytest.raises(ValueError, match=said):
        ad.jacobian(of_tree, linear=linear)(TREE)


def test_an_entry_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="it has 4 entries, got 4"):
        ad.jacobian(model, linear=4)(X)


# ---- with all the rest


@pytest.mark.parametrize("options", [{"workers": 3}, {"chunk_size": 1}, {"max_memory": "200 kB"}], ids=str)
@pytest.mark.filterwarnings(*[mark.args[0] for mark in FORKS])
def test_workers_and_chunks_change_no_bit_of_linear_columns(options):
    alone = ad.jacobian(model, linear=[0, 1], method="central")(X)
    assert np.array_equal(ad.jacobian(model, linear=[0, 1], method="central", **options)(X), alone)


def test_vectorized_functions_batches_and_steppers_are_served():
    def blocks(p):
        return p[:1] * np.exp(-p[2:3] * T[:, None]) + p[1:2] + np.sin(p[3:4] * T[:, None])

    jacobian = ad.jacobian(blocks, linear=[0, 1], vectorized=True)(X)
    np.testing.assert_allclose(jacobian, exact(), rtol=1e-12, atol=1e-14)
    batch = ad.jacobian(model, linear=[0, 1], in_axes=0)(np.stack([X, 2 * X]))
    np.testing.assert_allclose(batch[1], exact(2 * X), rtol=1e-12, atol=1e-14)
    stepper = ad.jacobian(model, linear=[0, 1]).stepper(X)
    while points := stepper.ask():
        stepper.tell([model(point) for point in points])
    np.testing.assert_allclose(stepper.result().jacobian, exact(), rtol=1e-12, atol=1e-14)


def test_a_jacobian_goes_into_an_array_of_the_users():
    out = np.zeros((T.size, X.size))
    assert ad.jacobian(model, linear=[1, 3], out=out, method="central", unreliable="ignore") is not None
    ad.jacobian(model, linear=[1, 0], out=out)(X)
    np.testing.assert_allclose(out, exact(), rtol=1e-12, atol=1e-14)


def test_what_cannot_be_served_is_refused_by_name():
    with pytest.raises(ValueError, match="linear= has no plan"):
        ad.jacobian(model, linear=[0], method="central").plan(X)
    with pytest.raises(TypeError, match="linear"):
        ad.grad(lambda x: x @ x, linear=[0])
    with pytest.raises(ValueError, match="linear takes real parameters"):
        ad.jacrev(np.real, linear=[0])(X + 0j)
    jax = pytest.importorskip("jax")
    with pytest.raises(ValueError, match="linear is checked by values"):
        jax.jit(ad.jacobian(lambda x: x * 2, linear=[0], method="central"))(jax.numpy.ones(2))


def test_max_evaluations_is_kept():
    result = ad.jacobian(model, linear=[0, 1], method="central", max_evaluations=8).result(X)
    assert result.function_points <= 8


# ---- sparse, and normal equations


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bounds", [None, (LOCAL - 1e-3, LOCAL + 1.0)], ids=["open", "bounds"])
def test_straight_columns_of_a_sparse_jacobian_take_one_difference_a_colour(method, bounds):
    options = {"sparsity": scaled_pattern(), **by(method), "bounds": bounds, "unreliable": "ignore"}
    right = ad.jacobian(residuals)(LOCAL)
    seen = Recorder(residuals)
    result = ad.jacobian(seen, linear=slice(0, 2 * ANGLES), **options).result(LOCAL)
    jacobian = result.jacobian.toarray()
    np.testing.assert_allclose(jacobian[:, : 2 * ANGLES], right[:, : 2 * ANGLES], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(jacobian, right, rtol=ACCURACY.get(method, 1e-10), atol=1e-6)
    assert result.colours == 4
    for x in seen.seen if bounds is not None else ():
        assert (np.real(x) >= bounds[0]).all()
        assert (np.real(x) <= bounds[1]).all()


def test_columns_of_a_sparse_jacobian_in_which_f_is_not_linear_are_named():
    with pytest.raises(ValueError, match=r"not linear: x\[10\];"):
        ad.jacobian(residuals, sparsity=scaled_pattern(), linear=range(11))(LOCAL)
    with pytest.raises(ValueError, match=r"not linear: x\[10\];"):
        ad.normal_equations(residuals, sparsity=scaled_pattern(), linear=range(11))(LOCAL)


def test_colours_that_both_kinds_share_are_parted():
    def fun(x):
        return np.concatenate([2 * x[:3], np.exp(x[3:])])

    x = np.linspace(0.3, 0.8, 6)
    result = ad.jacobian(fun, sparsity=np.eye(6, dtype=bool), linear=[0, 1, 2], method="forward").result(x)
    np.testing.assert_allclose(result.jacobian.diagonal()[:3], 2.0, rtol=1e-14)
    assert (result.step_sizes[:3] > 0.1).all()
    assert (result.step_sizes[3:] < 1e-6).all()


@pytest.mark.parametrize("method", METHODS)
def test_normal_equations_take_linear_columns_too(method):
    result = ad.normal_equations(model, linear=[1, 3 - 3], **by(method)).result(X)
    tolerance = ACCURACY.get(method, 1e-11)
    np.testing.assert_allclose(
        result.normal[0], exact().T @ exact(), rtol=tolerance, atol=1e-5 if method in ACCURACY else 0
    )
    np.testing.assert_allclose(result.normal[0][:2, :2], (exact().T @ exact())[:2, :2], rtol=1e-13)
    assert (result.step_sizes[:2] == 0 if result.method_used == "exact" else result.step_sizes[:2] > 0.1).all()
    assert result.step_sizes[2] < 0.01


def test_blocks_check_what_is_linear_one_by_one():
    def part(p, b):
        return model(p, T[10 * b : 10 * b + 10])

    triple = ad.normal_equations(part, blocks=5, linear=[0, 1])(X)
    np.testing.assert_allclose(triple[0], exact().T @ exact(), rtol=1e-12)
    with pytest.raises(ValueError, match="not linear"):
        ad.normal_equations(part, blocks=5, linear=[2])(X)
