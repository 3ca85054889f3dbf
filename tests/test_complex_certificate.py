"""The complex step is taken where f carries imaginary parts, and only there: many functions that lose them, many that do not.

So it is by values of f; where f is followed, the same functions are differentiated as they were written.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="some of the functions are SciPy's: pip install scipy")

import arraydiff as ad
from benchmarks.unsafe_complex import TOLERANCE, Answer, Tool, Verdict, judged
from benchmarks.unsafe_functions import SAFE, SAFE_VECTORS, UNSAFE, UNSAFE_VECTORS, Function, Subject, points

POINTS = points(4, seed=5)
MOST_REFUSED = 0.05  # of derivatives of analytic functions
LOSING = [(subject, subject in UNSAFE_VECTORS) for subject in (*UNSAFE, *UNSAFE_VECTORS)]
CARRYING = [(subject, subject in SAFE_VECTORS) for subject in (*SAFE, *SAFE_VECTORS)]


def name(value: object) -> str:
    return value.name if isinstance(value, Subject) else ""


def answered(accepting: ad.DifferentiationMethod, **options: object) -> Tool:
    """A call that accepts what this method gave."""

    def tool(fun: Function, x: np.ndarray, vector: bool) -> Answer:
        transform = ad.jacobian if vector else ad.grad
        result = transform(fun, unreliable="ignore", **options).result(x)
        return result.method_used is accepting, result.derivative, result.error_estimate, result.function_points

    return tool


BY_VALUES = answered(ad.DifferentiationMethod.COMPLEX_STEP, trace=False)
FOLLOWED = answered(ad.DifferentiationMethod.EXACT)
both = pytest.mark.parametrize("tool", [BY_VALUES, FOLLOWED], ids=["by values", "followed"])


def verdicts(tool: Tool, subject: Subject, vector: bool) -> list[Verdict]:
    return [judged(tool, subject, x, vector) for x in POINTS]


@both
@pytest.mark.parametrize(("subject", "vector"), LOSING, ids=name)
def test_what_is_wrong_is_never_accepted(subject, vector, tool):
    for v in verdicts(tool, subject, vector):
        told = tool is FOLLOWED and not v.beyond_bar  # of float32 inside f the bars say what it leaves
        assert told or not (v.accepted and v.wrong), f"{v.name} at {v.x}: off by {v.excess:.1e} of what is allowed"
        assert not v.silent, f"{v.name} at {v.x}: off by more than ten bars"


@both
@pytest.mark.parametrize(("subject", "vector"), CARRYING, ids=name)
def test_what_is_answered_for_an_analytic_function_is_right(subject, vector, tool):
    for v in verdicts(tool, subject, vector):
        wrong = v.silent or (v.accepted and v.wrong)
        assert not wrong, f"{v.name} at {v.x}: off by {v.excess:.1e} of what is allowed"


@both
def test_analytic_functions_are_hardly_ever_refused(tool):
    refused = [v.name for subject, vector in CARRYING for v in verdicts(tool, subject, vector) if not v.accepted]
    assert len(refused) <= MOST_REFUSED * len(CARRYING) * len(POINTS), refused


def test_there_are_functions_enough_and_most_of_them_mislead_a_plain_complex_step():
    def plain(subject: Subject, x: np.ndarray) -> np.ndarray:
        moved = x + 1e-20j * np.eye(x.size)
        return np.stack([np.imag(subject.fun(row)) / 1e-20 for row in moved], axis=-1)

    misled = 0
    for subject, _ in LOSING:
        truth = subject.truth(POINTS[0])
        try:
            with np.errstate(all="ignore"):
                off = np.abs(plain(subject, POINTS[0]) - truth)
        except (TypeError, ValueError, np.exceptions.ComplexWarning):
            continue
        misled += bool(np.max(off) > TOLERANCE * np.max(np.abs(truth)))
    assert len(LOSING) >= 40
    assert len(CARRYING) >= 25
    assert misled >= 40


@pytest.mark.parametrize("subject", [subject for subject, _ in (*LOSING, *CARRYING)], ids=name)
def test_the_twin_is_its_function_for_real_arguments(subject):
    """The twin is the truth of the other tests: value and slope are held against the function itself."""
    for x in POINTS[:2]:
        value = np.asarray(subject.fun(x.copy()), dtype=float)
        np.testing.assert_allclose(np.real(subject.twin(x + 0j, x)), value, rtol=1e-5, atol=1e-9)
        step = 1e-3 if {"float32", "complex64"} & set(subject.name.split()) else 1e-5
        moves = step * np.eye(x.size)
        slopes = np.stack([(subject.fun(x + d) - subject.fun(x - d)) / (2 * step) for d in moves], axis=-1)
        truth = subject.truth(x)
        room = 20 * step * np.max(np.abs(truth), axis=-1, keepdims=True) + 1e-4 * step * np.max(np.abs(value))
        assert np.all(np.abs(slopes - truth) <= room), (slopes, truth)
