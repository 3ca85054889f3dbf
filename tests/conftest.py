"""Fixtures: `backend` runs a test on every array library that is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

os.environ.setdefault("JAX_ENABLE_X64", "1")  # before anybody imports jax: without it JAX has no float64
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # each operation is compiled once and hardly used
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # devices have their own suite, gpu_tests/

from tests.helpers import Backend


@pytest.fixture(params=list(Backend), ids=lambda backend: backend.value)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """One array library, ready for use; ``indirect=True`` narrows the choice."""
    chosen: Backend = request.param
    reason = chosen.reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    with chosen.active():
        yield chosen


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--looking-for",
        default="",
        metavar="LIBRARIES",
        help="only tests that these libraries, say torch,jax, can have a part in: their names are in that of the test or, where "
        "it is of no other library, anywhere in its module",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    names = [name for name in config.getoption("--looking-for").split(",") if name]
    if names:
        chosen = [item for item in items if _looks_for(item, names)]
        config.hook.pytest_deselected(items=list(set(items) - set(chosen)))
        items[:] = chosen


def _looks_for(item: pytest.Item, names: list[str]) -> bool:
    if any(name in item.nodeid.lower() for name in names):
        return True
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    of_one = any(isinstance(one, Backend) for one in parameters)
    return not of_one and any(name in _text(item.path) for name in names)


@cache
def _text(module: Path) -> str:
    return module.read_text(encoding="utf-8").lower()
