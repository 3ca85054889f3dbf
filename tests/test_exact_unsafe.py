"""Functions that a tracer could get wrong: none is wrong in silence, and most that are not refused are right."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from arraydiff.exact import Refused, traced
from benchmarks import unsafe_exact
from benchmarks.unsafe_functions import SAFE, SAFE_VECTORS, UNSAFE, UNSAFE_VECTORS, Subject, points

STOPPED = {  # not refused and not right: plain f, or its differences, tell; why tracing by itself cannot
    "a counter": "f counts its calls",
    "decimal": "f catches the TypeError of decimal, which asks isinstance(x, float) and then C",
    "fraction": "the same",
    "global cache": "the second call gets what the first one kept, as without tracing",
    "in": "1.2 is in x at x alone: a jump",
    "int of an array": "a step lies within the differences",
    "interface": "f catches the AttributeError: there is no __array_interface__",
    "json of an item": "f catches the error of json, which asks for a float of C",
    "memoryview": "f catches the TypeError: there is no buffer",
    "np.nditer": "f catches the error: NumPy iterates over objects",
    "private": "f takes the tracer apart",
    "random numbers": "f is random",
    "repr": "f catches the ValueError of float('<traced ...>')",
    "statistics": "f catches the error of statistics, which asks for ratios of integers",
    "text": "f catches the ValueError of float('<traced ...>')",
    "type": "f asks for the type itself, not isinstance",
    "type of an entry": "the same",
}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    return unsafe_exact.verdicts()


def test_none_of_more_than_a_hundred_is_wrong_in_silence(verdicts: dict[str, str]) -> None:
    assert len(verdicts) > 100
    assert [name for name, told in verdicts.items() if told == "WRONG IN SILENCE"] == []


def test_those_that_only_the_guards_stop_are_known(verdicts: dict[str, str]) -> None:
    assert {name for name, told in verdicts.items() if told.startswith("stopped")} <= STOPPED.keys()


def test_more_are_right_than_are_refused(verdicts: dict[str, str]) -> None:
    told = list(verdicts.values())
    assert told.count("right") >= 70
    assert told.count("right") >= told.count("refused")


IN_SINGLE_PRECISION = 2e-6


@pytest.mark.parametrize("subject", [*UNSAFE, *UNSAFE_VECTORS, *SAFE, *SAFE_VECTORS], ids=lambda subject: subject.name)
def test_what_is_unsafe_for_the_complex_step_is_refused_or_right(subject: Subject) -> None:
    """These were written by others, for another method, with exact derivatives."""
    for x in points(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = followed(subject, x)
            if found is None:
                continue
            plain = np.ravel(subject.fun(x.copy()))
            truth = subject.truth(x).reshape(plain.size, -1)
        np.testing.assert_allclose(found.value, plain, rtol=1e-12, atol=1e-14)
        narrowed = any("cast" in text for text in found.notes.branches)
        rtol = IN_SINGLE_PRECISION if narrowed else 1e-9
        columns = np.stack([found.pushforward(e) for e in np.eye(x.size)], axis=-1)
        np.testing.assert_allclose(columns, truth, rtol=rtol, atol=rtol * np.max(np.abs(truth)))


def followed(subject: Subject, x: np.ndarray) -> Any:
    try:
        return traced(lambda x: np.ravel(subject.fun(x)), x.copy())
    except Refused:
        return None


def test_a_cast_that_loses_digits_is_noted() -> None:
    notes = traced(lambda x: np.sum(x.astype(np.float32)), np.ones(3)).notes
    assert list(notes.branches) == ["a cast to float32"]
