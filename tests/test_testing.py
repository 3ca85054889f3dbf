"""The suite of functions of ``arraydiff.testing``: what it says of each function is so."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from arraydiff.testing import CLASSES, HALVES, Case, cases
from arraydiff.testing.imperfections import hash_noise, random_noise
from arraydiff.testing.namespaces import STEP, exact_derivative
from benchmarks.accuracy_figures import figures
from benchmarks.accuracy_tools import Answer, Tool, asked

SUITE = cases(points=3, seed=5)
NOISELESS = [case for case in SUITE if case.class_name != "noisy"]
CLOSED_FORMS: dict[str, Callable[[float], float]] = {
    "sin": math.cos,
    "exp": math.exp,
    "cubic": lambda x: 3 * x * x - 2,
    "erf": lambda x: 2 / math.sqrt(math.pi) * math.exp(-x * x),
    "x^-7 near 1e3": lambda x: -7 * x**-8.0,
    "sin(1e9 x)": lambda x: 1e9 * math.cos(1e9 * x),
    "cos ends at 2": lambda x: -math.sin(x),
    "exp(-|x|) near 0.1": lambda x: -math.exp(-x),
    "sin between knots": lambda x: 10 * (math.sin(math.ceil(10 * x) / 10) - math.sin(math.floor(10 * x) / 10)),
    "2 + sin, drawn noise 1e-6": math.cos,
    "fraction to 1e-9": lambda x: 1 / math.sqrt(1 + 4 * x),
}


def every(suite: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", suite, ids=lambda case: case.name)


def value(case: Case, x: Any) -> Any:
    """f(x); a test of a special function is skipped without SciPy."""
    try:
        return case.function(x)
    except ImportError as missing:
        pytest.skip(f"{case.name} needs {missing.name}")


def named(name: str) -> Case:
    return next(case for case in SUITE if case.name == name)


def test_there_are_functions_enough_and_each_has_its_own_name() -> None:
    assert len(SUITE) >= 120
    assert len({case.name for case in SUITE}) == len(SUITE)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_in_both_halves(name: str, half: str) -> None:
    assert len([case for case in SUITE if (case.class_name, case.half) == (name, half)]) >= 5


def test_the_halves_make_up_the_suite_and_share_no_function() -> None:
    tuning, held_out = ({case.name for case in cases(half)} for half in HALVES)
    assert not tuning & held_out
    assert tuning | held_out == {case.name for case in SUITE}


def test_a_case_has_the_same_points_whatever_else_is_selected() -> None:
    for case in cases("held-out", seed=5, points=3, classes=("kink", "noisy")):
        assert np.array_equal(case.points, named(case.name).points)


def test_another_seed_draws_other_points() -> None:
    pairs = list(zip(SUITE, cases(points=3, seed=6), strict=True))
    assert all(a.points.size in {1, 3} for a, _ in pairs)
    assert all(
        not np.any(a.points == b.points) for a, b in pairs if a.points.size > 1 and a.name != "sin between knots"
    )


@pytest.mark.parametrize(
    ("arguments", "way_out"), [({"half": "holdout"}, "'held-out'"), ({"classes": "noise"}, "noisy")], ids=str
)
def test_a_part_that_does_not_exist_is_refused_with_those_that_do(arguments: dict[str, Any], way_out: str) -> None:
    with pytest.raises(ValueError, match=way_out):
        cases(**arguments)


def test_importing_the_suite_needs_numpy_alone() -> None:
    code = "import sys, arraydiff.testing as t; t.cases(); print(*{'mpmath', 'scipy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@every(SUITE)
def test_the_true_derivative_has_forty_digits(case: Case) -> None:
    mp = pytest.importorskip("mpmath", reason="the truth is computed with mpmath")
    with mp.workdps(60):
        for x in case.points:
            one, other = (exact_derivative(case._expression, x, step) for step in (STEP, STEP + 3))
            assert abs(one - other) <= abs(one) * mp.mpf(10) ** -40
            assert one != 0


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_the_true_derivative_is_the_closed_form(name: str) -> None:
    pytest.importorskip("mpmath", reason="the truth is computed with mpmath")
    case = named(name)
    assert case.derivative(case.points) == pytest.approx([CLOSED_FORMS[name](x) for x in case.points], rel=1e-12)


@every(NOISELESS)
def test_differences_of_a_noiseless_function_approach_its_true_derivative(case: Case) -> None:
    pytest.importorskip("mpmath", reason="the truth is computed with mpmath")
    for x, truth in zip(case.points, case.derivative(case.points), strict=True):
        value(case, x)
        errors = [
            abs((case.function(x + h) - case.function(x)) / h / truth - 1)
            for h in [side * (abs(x) or 1) * 2.0**-k for k in range(8, 50, 2) for side in (1, -1)]
            if case.vectorized or x + h > (-2 if "-2" in case.name else -1)
        ]
        assert np.nanmin(errors) < 1e-2


@every([case for case in SUITE if case.vectorized])
def test_a_vectorized_function_takes_arrays_elementwise(case: Case) -> None:
    x = np.asarray([[case.points[0]] * 2] * 3)
    assert np.shape(value(case, x)) == (3, 2)
    assert np.ndim(case.function(x[0, 0])) == 0


@every([case for case in SUITE if case.analytic and case.vectorized])
def test_imaginary_parts_come_through_an_analytic_function(case: Case) -> None:
    pytest.importorskip("mpmath", reason="the truth is computed with mpmath")
    for x, truth in zip(case.points, case.derivative(case.points), strict=True):
        h = 1e-20 * (abs(x) or 1)
        assert np.imag(value(case, complex(x, h))) / h == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "x"), [("x⁴ ends at 1", 1.01), ("sqrt near 1e-6", -1e-9), ("asin near 0.999", 1.1)], ids=str
)
def test_a_function_is_nan_outside_its_domain_and_says_nothing(name: str, x: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(named(name).function(x))


def test_one_function_is_infinite_and_one_raises_outside_its_domain() -> None:
    assert named("exp is infinite beyond 0.5").function(0.51) == np.inf
    with pytest.raises(ValueError, match="domain"):
        named("log(1 + x) raises below -1").function(-1.5)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("kind", [hash_noise, random_noise])
def test_noise_has_the_level_it_is_said_to_have(kind: Callable[..., Any], relative: bool) -> None:
    noisy = kind(1e-3, relative=relative)(lambda x: np.full(np.shape(x), 4.0), np.random.default_rng(1))
    values = noisy(np.linspace(1, 2, 10_000))
    assert np.std(values) == pytest.approx(4e-3 if relative else 1e-3, rel=0.05)
    assert np.mean(values) == pytest.approx(4, abs=3e-4)


def test_hashed_noise_is_the_same_at_the_same_x_and_drawn_noise_is_not() -> None:
    hashed, drawn = named("sin, noise 1e-6"), named("2 + sin, drawn noise 1e-6")
    assert hashed.function(0.7) == hashed.function(np.asarray([0.7]))[0]
    assert drawn.function(0.7) != drawn.function(0.7)


@every([case for case in SUITE if "float32" in case.name])
def test_a_function_of_float32_inside_is_off_by_its_rounding(case: Case) -> None:
    values = np.asarray([case.function(x) for x in np.linspace(0.5, 0.5001, 200)])
    assert values.dtype == np.float64
    rough = np.std(np.diff(values, n=2)) / abs(values[0])
    assert 1e-9 < rough < 1e-5


def answer(value: float, claim: float) -> Answer:
    return Answer("f", "smooth", x=1.0, truth=2.0, value=value, claim=claim, points=4)


def test_figures_tell_wrong_from_silent() -> None:
    right, honest, silent = answer(2.0 + 1e-9, 4e-9), answer(2.1, 0.2), answer(2.1, 1e-9)
    row = figures([right, honest, silent, answer(math.nan, math.inf)])
    assert (row.not_finite, row.wrong, row.silent) == (0.25, 0.75, 0.25)
    assert row.coverage == pytest.approx(2 / 3)
    assert row.sharpness == pytest.approx(2, rel=1e-6)
    assert row.p90 == math.inf


def test_a_tool_without_a_claim_is_silent_where_it_is_wrong() -> None:
    row = figures([answer(2.1, math.nan), answer(2.0, math.nan)])
    assert row.silent == 0.5
    assert math.isnan(row.coverage)


def test_an_exception_of_a_tool_is_an_answer_of_nan() -> None:
    def run(fun: Callable[[Any], Any], x: float) -> tuple[float, float]:
        fun(x)
        raise RuntimeError("this tool gives up")

    (said,) = asked(Tool("fragile", "nowhere", run), named("exp at 0"), np.asarray([1.0]))
    assert math.isnan(said.value)
    assert (said.points, said.error) == (1, math.inf)
