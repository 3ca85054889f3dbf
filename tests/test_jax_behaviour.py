"""What JAX's transforms return and raise, case by case, written down: no JAX is needed to run this."""

from __future__ import annotations

import functools
import operator
from collections import namedtuple
from typing import Any

import numpy as np
import pytest

import arraydiff as ad
from tests.helpers import assert_like

FLOAT0 = np.dtype([("float0", "V")])  # what JAX calls the dtype of a derivative with respect to an integer
Point = namedtuple("Point", "a b")

x3 = np.array([1.0, 2.0, 3.0])
y2 = np.array([4.0, 5.0])


def f2(x, y):
    return (x * x).sum() + y.sum() * x[0]


def named(x, y=3.0):
    """About named."""
    return x * y


named.tag = 7

GRAD_X, GRAD_Y = np.array([11.0, 4.0, 6.0]), np.array([1.0, 1.0])


def assert_tree(actual: Any, expected: Any, rtol: float = 1e-9) -> None:
    """The same containers of the same types, and in each leaf an array of the expected shape, dtype and values."""
    if isinstance(expected, tuple | list):
        assert type(actual) is type(expected)
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_tree(one, other, rtol)
    elif isinstance(expected, dict):
        assert type(actual) is dict
        assert list(actual) == list(expected)
        for key, value in expected.items():
            assert_tree(actual[key], value, rtol)
    elif expected is None:
        assert actual is None
    else:
        assert_like(actual, np.asarray(expected))
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-9)


class TestArgnums:
    @pytest.mark.parametrize(("argnums", "exact"), [(0, GRAD_X), (1, GRAD_Y), (-1, GRAD_Y), (np.int64(1), GRAD_Y)])
    def test_an_integer_gives_a_bare_array_of_the_shape_of_that_argument(self, argnums, exact):
        assert_tree(ad.grad(f2, argnums)(x3, y2), exact)

    def test_a_tuple_of_one_gives_a_tuple_of_one(self):
        assert_tree(ad.grad(f2, (0,))(x3, y2), (GRAD_X,))

    @pytest.mark.parametrize("argnums", [(0, 1), [0, 1], (-2, -1)])
    def test_several_give_a_tuple_even_where_a_list_came(self, argnums):
        assert_tree(ad.grad(f2, argnums)(x3, y2), (GRAD_X, GRAD_Y))

    def test_the_order_is_the_one_asked_for(self):
        assert_tree(ad.grad(f2, (1, 0))(x3, y2), (GRAD_Y, GRAD_X))

    def test_none_at_all_is_a_value_error(self):
        with pytest.raises(ValueError, match="argnums"):
            ad.grad(f2, ())(x3, y2)

    @pytest.mark.parametrize("argnums", [(0, 0), (0, -2)])
    def test_the_same_argument_twice_is_a_type_error(self, argnums):
        with pytest.raises(TypeError, match="argnums"):
            ad.grad(f2, argnums)(x3, y2)

    @pytest.mark.parametrize("argnums", ["x", 1.0, None, (0, "x")])
    def test_what_is_no_integer_is_a_type_error_at_once(self, argnums):
        with pytest.raises(TypeError, match="argnums"):
            ad.grad(f2, argnums)

    def test_too_large_a_number_is_a_type_error_that_says_how_many_arguments_are_required(self):
        with pytest.raises(TypeError, match="requires at least 6 positional arguments"):
            ad.grad(f2, 5)(x3, y2)

    def test_too_negative_a_number_is_a_value_error(self):
        with pytest.raises(ValueError, match="-3"):
            ad.grad(f2, -3)(x3, y2)

    def test_beyond_jax_the_differentiated_argument_may_come_by_keyword(self):
        assert_tree(ad.grad(f2)(x=x3, y=y2), GRAD_X)
        assert_tree(ad.grad(f2, (0, 1))(x3, y=y2), (GRAD_X, GRAD_Y))

    def test_a_missing_argument_is_a_type_error(self):
        with pytest.raises(TypeError, match="requires at least 2 positional arguments"):
            ad.grad(f2, 1)(x3)


class TestArguments:
    def test_other_arguments_pass_untouched(self):
        token, seen = object(), []

        def f(x, text, *, flag, thing):
            seen.append((text, flag, thing))
            return (x * x).sum()

        assert_tree(ad.grad(f)(x3, "text", flag=True, thing=token), 2 * x3)
        assert all(text == "text" and flag is True and thing is token for text, flag, thing in seen)

    @pytest.mark.parametrize(
        ("tree", "f", "exact"),
        [
            ({"b": 2.0, "a": x3}, lambda t: (t["a"] * t["a"]).sum() * t["b"], {"a": 4 * x3, "b": 14.0}),
            ([x3, 2.0], lambda t: t[0].sum() * t[1], [np.full(3, 2.0), 6.0]),
            ((x3, (2.0,)), lambda t: t[0].sum() * t[1][0], (np.full(3, 2.0), (6.0,))),
            (Point(2.0, 3.0), lambda t: t.a * t.b, Point(3.0, 2.0)),
            ({"a": 2.0, "b": None}, lambda t: t["a"] ** 2, {"a": 4.0, "b": None}),
            (None, lambda t: 1.0, None),
        ],
        ids=["dict", "list", "nested-tuple", "namedtuple", "none-inside", "none"],
    )
    def test_a_structure_comes_back_as_the_same_structure(self, tree, f, exact):
        got = ad.grad(f)(tree)
        assert_tree({k: got[k] for k in exact} if isinstance(exact, dict) else got, exact)

    def test_a_list_of_numbers_is_a_structure_of_scalars_and_f_receives_a_list(self):
        kinds = set()

        def f(values):
            kinds.add(type(values))
            return values[0] * values[1]

        assert_tree(ad.grad(f)([2.0, 5.0]), [5.0, 2.0])
        assert kinds == {list}

    @pytest.mark.parametrize("x", [2.0, np.float64(2.0), np.array(2.0)], ids=["float", "numpy-scalar", "0-d"])
    def test_a_scalar_gives_a_zero_dimensional_array(self, x):
        assert_tree(ad.grad(lambda x: x**3)(x), np.array(12.0))

    @pytest.mark.parametrize("x", [3, True, np.array([1, 2]), np.array([True]), np.int32(3), [1, 2]], ids=repr)
    def test_integers_and_booleans_are_a_type_error_that_names_the_cast(self, x):
        with pytest.raises(TypeError, match=r"requires real- or complex-valued inputs.*(float|astype)"):
            ad.grad(lambda x: np.sum(np.asarray(x) * 1.0))(x)

    @pytest.mark.parametrize(
        "transform", [ad.jacfwd, ad.jacrev, ad.hessian, ad.value_and_grad], ids=lambda t: t.__name__
    )
    def test_integers_are_a_type_error_in_every_transform(self, transform):
        with pytest.raises(TypeError, match="requires real"):
            transform(lambda x: (x * 1.0).sum())(np.array([1, 2]))

    @pytest.mark.parametrize(("x", "shape"), [(3, ()), (np.array([1, 2]), (2,))])
    def test_allow_int_gives_float0(self, x, shape):
        got = ad.grad(lambda x: np.sum(x * 1.0), allow_int=True)(x)
        assert got.dtype == FLOAT0
        assert got.shape == shape

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_a_narrow_dtype_comes_back_even_if_f_computes_in_float64(self, dtype):
        got = ad.grad(lambda x: np.sum(x.astype(np.float64) ** 2), unreliable="ignore")(x3.astype(dtype))
        assert got.dtype == dtype
        np.testing.assert_allclose(got, 2 * x3, rtol=2e-2 if dtype == "float16" else 1e-3)

    @pytest.mark.parametrize("shape", [(2, 3), (2, 1, 3), (0,), (3, 0)], ids=str)
    def test_the_gradient_has_the_shape_of_the_argument(self, shape):
        x = np.linspace(1.0, 2.0, int(np.prod(shape))).reshape(shape)
        assert_tree(ad.grad(lambda x: (x * x).sum())(x), 2 * x)

    @pytest.mark.parametrize("x", ["text", object()])
    def test_what_cannot_be_differentiated_is_a_type_error(self, x):
        with pytest.raises(TypeError):
            ad.grad(lambda x: 1.0)(x)


class TestOutputs:
    @pytest.mark.parametrize(
        ("f", "came"),
        [
            (lambda x: x, r"\(3,\)"),
            (lambda x: x[:1], r"\(1,\)"),
            (lambda x: None, "None"),
            (lambda x: (x[0], x[1]), "tuple|\\("),
        ],
        ids=["vector", "one-entry", "none", "tuple"],
    )
    def test_grad_of_what_is_no_scalar_is_a_type_error_that_says_what_came(self, f, came):
        with pytest.raises(TypeError, match=f"Gradient only defined for scalar-output functions.*{came}"):
            ad.grad(f)(x3)

    @pytest.mark.parametrize("f", [lambda x: 3, lambda x: np.int64(3)], ids=["int", "numpy-int"])
    def test_an_integer_output_is_a_type_error(self, f):
        with pytest.raises(TypeError, match="real-valued outputs"):
            ad.grad(f)(x3)

    def test_a_complex_output_is_a_type_error_that_hints_at_holomorphic(self):
        with pytest.raises(TypeError, match="holomorphic"):
            ad.grad(lambda x: x.sum() * 1j)(x3)

    def test_a_constant_python_float_has_zeros(self):
        assert_tree(ad.grad(lambda x: 3.0)(x3), np.zeros(3))

    def test_complex_input_and_real_output_give_the_conjugate_convention(self):
        got = ad.grad(lambda z: (z * z.conjugate()).real)(np.asarray(1 + 2j))
        assert got.dtype == np.complex128
        assert got.shape == ()
        np.testing.assert_allclose(got, 2 - 4j, rtol=1e-9)

    def test_holomorphic_gives_the_complex_derivative(self):
        got = ad.grad(lambda z: z**3, holomorphic=True)(np.asarray(1 + 2j))
        assert got.dtype == np.complex128
        np.testing.assert_allclose(got, 3 * (1 + 2j) ** 2, rtol=1e-9)

    def test_holomorphic_with_a_real_input_or_a_real_output_is_a_type_error(self):
        with pytest.raises(TypeError, match="holomorphic"):
            ad.grad(lambda z: z * z, holomorphic=True)(1.0)
        with pytest.raises(TypeError, match="holomorphic"):
            ad.grad(abs, holomorphic=True)(np.asarray(1 + 2j))

    def test_has_aux_gives_the_gradient_and_what_f_said_beside_its_value(self):
        got, aux = ad.grad(lambda x: ((x * x).sum(), {"note": "kept"}), has_aux=True)(x3)
        assert_tree(got, 2 * x3)
        assert aux == {"note": "kept"}

    @pytest.mark.parametrize("transform", [ad.grad, ad.value_and_grad, ad.jacfwd, ad.hessian], ids=lambda t: t.__name__)
    @pytest.mark.parametrize("f", [lambda x: (x * x).sum(), lambda x: (x.sum(),) * 3], ids=["bare", "triple"])
    def test_has_aux_without_a_pair_is_a_type_error(self, transform, f):
        with pytest.raises(TypeError, match="aux"):
            transform(f, has_aux=True)(x3)

    def test_hessian_with_aux_gives_a_pair(self):
        H, aux = ad.hessian(lambda x: ((x * x).sum(), "kept"), has_aux=True)(x3)
        np.testing.assert_allclose(H, 2 * np.eye(3), atol=1e-6)
        assert aux == "kept"

    def test_value_and_grad_gives_a_pair_and_with_aux_a_pair_in_a_pair(self):
        assert_tree(ad.value_and_grad(f2)(x3, y2), (np.array(23.0), GRAD_X))
        assert_tree(ad.value_and_grad(f2, (0,))(x3, y2), (np.array(23.0), (GRAD_X,)))
        (value, aux), got = ad.value_and_grad(lambda x: ((x * x).sum(), "kept"), has_aux=True)(x3)
        assert (float(value), aux) == (14.0, "kept")
        assert_tree(got, 2 * x3)

    def test_outside_the_domain_the_gradient_is_nan_and_said_to_be(self):
        with np.errstate(invalid="ignore"), pytest.warns(ad.DifferentiationWarning):  # NumPy's own warning at x stays
            assert np.isnan(ad.grad(np.sqrt)(np.array(-1.0)))

    @pytest.mark.parametrize("f", [np.abs, lambda x: np.maximum(x, 0.0)], ids=["abs", "relu"])
    def test_at_a_kink_there_is_no_derivative_and_a_flag_says_so(self, f):
        result = ad.grad(f, unreliable="ignore").result(np.array(0.0))
        assert int(result.status) != 0


class TestTheReturnedObject:
    @pytest.mark.parametrize(
        ("transform", "beginning"),
        [
            (ad.grad, "Gradient of named"),
            (ad.value_and_grad, "Value and gradient of named"),
            (ad.jacfwd, "Jacobian of named"),
        ],
        ids=["grad", "value_and_grad", "jacfwd"],
    )
    def test_it_carries_name_document_attributes_and_the_function(self, transform, beginning):
        g = transform(named)
        assert g.__name__ == "named"
        assert g.__doc__.startswith(f"{beginning} with respect to positional argument(s) 0. ")
        assert g.tag == 7
        assert g.__wrapped__ is named

    def test_that_of_hessian_does_not_wrap_the_function_itself(self):
        g = ad.hessian(named)
        assert g.__name__ == "named"
        assert getattr(g, "__wrapped__", None) is not named

    def test_partials_lambdas_and_callable_objects_work(self):
        assert_tree(ad.grad(functools.partial(named, y=2.0))(1.0), np.array(2.0))
        assert_tree(ad.grad(operator.methodcaller("sum"))(x3), np.ones(3))
        assert ad.grad(lambda x: x).__name__ == "<lambda>"

    @pytest.mark.parametrize("transform", [ad.grad, ad.value_and_grad, ad.jacobian, ad.jacfwd, ad.jacrev, ad.hessian])
    def test_what_cannot_be_called_or_an_unknown_option_is_a_type_error_at_once(self, transform):
        with pytest.raises(TypeError, match="callable"):
            transform(3)
        with pytest.raises(TypeError, match="foo"):
            transform(f2, foo=3)

    def test_the_gradient_of_the_gradient_is_the_second_derivative(self):
        np.testing.assert_allclose(ad.grad(ad.grad(lambda x: x**3))(2.0), 12.0, rtol=1e-6)

    def test_three_deep_works(self):
        got = ad.grad(ad.grad(ad.grad(lambda x: x**4, unreliable="ignore"), unreliable="ignore"), unreliable="ignore")(
            2.0
        )
        np.testing.assert_allclose(got, 48.0, rtol=1e-3)


class TestHessians:
    @pytest.mark.parametrize(
        ("x", "shape"), [(x3, (3, 3)), (np.ones((2, 3)), (2, 3, 2, 3)), (2.0, ()), (np.zeros(0), (0, 0))]
    )
    def test_the_shape_is_that_of_the_argument_twice(self, x, shape):
        got = ad.hessian(lambda x: (x * x).sum())(x)
        n = int(np.prod(np.shape(x)))
        assert_like(got, x3, shape)
        np.testing.assert_allclose(got.reshape(n, n), 2 * np.eye(n), atol=1e-6)

    def test_a_tuple_of_argnums_gives_blocks_in_tuples(self):
        ((H,),) = ad.hessian(f2, (0,))(x3, y2)
        np.testing.assert_allclose(H, 2 * np.eye(3), atol=1e-6)
        blocks = ad.hessian(f2, (0, 1))(x3, y2)
        cross = np.array([[1.0, 1.0], [0, 0], [0, 0]])
        for got, exact in zip(sum(blocks, ()), (2 * np.eye(3), cross, cross.T, np.zeros((2, 2))), strict=True):
            assert_like(got, x3, exact.shape)
            np.testing.assert_allclose(got, exact, atol=1e-6)

    def test_a_dict_gives_a_dict_of_dicts(self):
        H = ad.hessian(lambda d: (d["a"] * d["a"]).sum() * d["b"])({"a": x3, "b": 2.0})
        assert {k: {j: v.shape for j, v in row.items()} for k, row in H.items()} == {
            "a": {"a": (3, 3), "b": (3,)},
            "b": {"a": (3,), "b": ()},
        }
        np.testing.assert_allclose(H["a"]["b"], 2 * x3, atol=1e-6)

    def test_vector_and_structured_outputs_have_one_hessian_an_output(self):
        H = ad.hessian(lambda x: {"square": x * x, "first": x[0] * x[1]})(x3)
        assert {k: v.shape for k, v in H.items()} == {"square": (3, 3, 3), "first": (3, 3)}
        np.testing.assert_allclose(H["first"], [[0, 1, 0], [1, 0, 0], [0, 0, 0]], atol=1e-6)


class TestJacobians:
    @pytest.mark.parametrize("transform", [ad.jacfwd, ad.jacrev, ad.jacobian], ids=lambda t: t.__name__)
    def test_the_shape_is_output_then_input(self, transform):
        got = transform(lambda x: x[:, None] * np.ones(2))(x3)
        assert_like(got, x3, (3, 2, 3))
        assert_tree(transform(f2, (0, 1))(x3, y2), (GRAD_X, GRAD_Y))

    def test_structured_outputs_have_one_jacobian_a_leaf(self):
        got = ad.jacfwd(lambda x: {"double": x * 2, "parts": (x[0],)})(x3)
        assert_tree(got, {"double": 2 * np.eye(3), "parts": (np.array([1.0, 0, 0]),)})

    def test_aux_stands_beside(self):
        got, aux = ad.jacfwd(lambda x: (x * 2, "kept"), has_aux=True)(x3)
        assert_tree(got, 2 * np.eye(3))
        assert aux == "kept"

    def test_jvp_and_vjp_give_value_and_product(self):
        assert_tree(ad.jvp(f2, (x3, y2), (np.ones(3), np.zeros(2))), (np.array(23.0), np.array(21.0)))
        value, pull = ad.vjp(f2, x3, y2)
        assert_tree((value, pull(np.array(2.0))), (np.array(23.0), (2 * GRAD_X, 2 * GRAD_Y)))

    @pytest.mark.parametrize(
        ("primals", "tangents", "error"),
        [
            (x3, x3, TypeError),
            ((x3,), (x3, x3), TypeError),
            ((x3,), (y2,), ValueError),
            ((3,), (1.0,), TypeError),
        ],
        ids=["no-tuple", "structure", "shape", "integer"],
    )
    def test_jvp_refuses_what_does_not_match(self, primals, tangents, error):
        with pytest.raises(error):
            ad.jvp(lambda x: x * 1.0, primals, tangents)

    def test_vjp_refuses_a_cotangent_that_does_not_match(self):
        _, pull = ad.vjp(f2, x3, y2)
        with pytest.raises(ValueError, match="cotangent"):
            pull(x3)


def test_beyond_jax_numpy_float_and_writing_in_place_work_inside_f():
    def f(x):
        x[0] = float(x[0]) ** 2
        return np.sum(np.sqrt(x)) + float(np.dot(x, x))

    def exact(x):
        return np.concatenate([[1 + 4 * x[0] ** 3], 0.5 / np.sqrt(x[1:]) + 2 * x[1:]])

    np.testing.assert_allclose(ad.grad(f)(x3.copy()), exact(x3), rtol=1e-9)
