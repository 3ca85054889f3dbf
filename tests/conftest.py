"""Fixtures: `backend` runs a test on every array library that is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator

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
