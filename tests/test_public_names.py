"""The public names: pinned, documented, and each function with an example that runs."""

from __future__ import annotations

import doctest
import inspect
import re

import pytest

import arraydiff as ad

PUBLIC = [
    "DifferentiationConfig",
    "DifferentiationMethod",
    "DifferentiationWarning",
    "GradientResult",
    "HessianResult",
    "JacobianResult",
    "NoiseEstimate",
    "NumericalStabilityError",
    "Status",
    "check_grad",
    "derivative",
    "estimate_noise",
    "grad",
    "hessian",
    "hessian_diag",
    "hessian_operator",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "normal_equations",
    "propagate",
    "record",
    "value_and_grad",
    "value_and_grad_and_hessian",
    "vjp",
]
FUNCTIONS = [name for name in PUBLIC if not inspect.isclass(getattr(ad, name))]
SECTION = re.compile(r"^(Parameters|Returns|Yields)\n-+$", re.MULTILINE)


def test_the_public_names_are_these() -> None:
    assert sorted(ad.__all__) == PUBLIC


def test_dir_shows_the_public_names_and_submodules_alone() -> None:
    others = {name for name in vars(ad) if not name.startswith("_")} - set(PUBLIC)
    assert all(inspect.ismodule(getattr(ad, name)) for name in others)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_docstring_that_opens_with_one_sentence(name: str) -> None:
    doc = inspect.getdoc(getattr(ad, name)) or ""
    first = doc.split("\n")[0]
    assert len(first.split()) > 2
    assert first.endswith((".", ":"))


def documentation(name: str) -> str:
    """The docstring, and the one it refers to: "parameters are those of :func:`grad`"."""
    doc = inspect.getdoc(getattr(ad, name)) or ""
    reference = re.search(r":func:`(\w+)`", doc)
    return doc if SECTION.search(doc) or reference is None else doc + documentation(reference[1])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_documents_parameters_and_result_as_numpydoc(name: str) -> None:
    sections = {match[1] for match in SECTION.finditer(documentation(name))}
    assert "Returns" in sections or "Yields" in sections
    assert "Parameters" in sections or not inspect.signature(getattr(ad, name)).parameters


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example_that_runs(name: str) -> None:
    assert doctest.DocTestParser().get_examples(inspect.getdoc(getattr(ad, name)) or ""), f"{name} has no example"


def test_the_same_name_is_the_same_object_where_it_is_defined() -> None:
    for name in PUBLIC:
        assert getattr(ad, name).__module__.startswith("arraydiff.")
