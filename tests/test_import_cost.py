"""``import arraydiff`` is cheap: it brings in nothing that a user did not install it with."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["scipy", "torch", "jax", "dask", "cupy", "matplotlib", "h5py", "tqdm"]


@pytest.mark.parametrize("module", ["arraydiff", "arraydiff.homodyne", "arraydiff.cli", "arraydiff.examples.xpcs"])
def test_importing_imports_no_optional_package(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_differentiating_a_numpy_function_imports_no_optional_package() -> None:
    code = (
        "import sys, numpy as np, arraydiff\n"
        "arraydiff.grad(lambda x: np.sum(x * x))(np.ones(3))\n"
        f"print(*(name for name in {HEAVY} if name in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
