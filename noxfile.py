"""Everything that is checked, each in a fresh environment: ``nox``, or ``nox -s lint``."""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "numpy", "library", "bare", "coverage", "lint", "types", "docs", "cupy_names", "gpu"]

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
PYTEST = ["pytest", "-q", "-n", "2"]
LIBRARIES = {
    "strict": ["array-api-strict"],
    "torch": ["torch==2.13.0"],  # pinned: other releases may bring gigabytes of CUDA libraries along
    "jax": ["jax"],
    "dask": ["dask[array]"],
}
RUNNER = ["pytest", "pytest-cov", "pytest-xdist", "hypothesis"]
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}  # the workers share the cores


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The suite on every Python found."""
    session.install("-e", ".[test]")
    session.run(*PYTEST, *session.posargs, env=ONE_THREAD)


@nox.session(python="3.11")
@nox.parametrize("release", ["oldest", "newest"])
def numpy(session: nox.Session, release: str) -> None:
    """The suite on the oldest NumPy, array-api-compat and optree that are promised, and on the newest."""
    pins = ["numpy==2.0.*", "array-api-compat==1.11.*", "optree==0.13.*"] if release == "oldest" else []
    session.install("--upgrade", "-e", ".[test]", *pins)
    session.run(*PYTEST, *session.posargs, env=ONE_THREAD)


@nox.session(python="3.11")
@nox.parametrize("name", list(LIBRARIES))
def library(session: nox.Session, name: str) -> None:
    """The tests of one array library, with no other beside NumPy."""
    session.install("-e", ".", *RUNNER, *LIBRARIES[name])
    session.run(*PYTEST, "tests", "-k", name, *session.posargs, env=ONE_THREAD)


@nox.session(python="3.11")
def bare(session: nox.Session) -> None:
    """The suite with what a plain ``pip install arraydiff`` brings, and the runner."""
    session.install("-e", ".", *RUNNER)
    session.run(*PYTEST, *session.posargs, env=ONE_THREAD)


@nox.session(python="3.11")
def coverage(session: nox.Session) -> None:
    """The share of lines and branches that the suite runs, with torch and jax: too slow beside the suite in CI."""
    session.install("-e", ".[test]", "torch==2.13.0", "jax")
    session.run(*PYTEST, "--cov", "--cov-report=term", *session.posargs, env=ONE_THREAD)


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Ruff's rules and format."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python="3.11")
def types(session: nox.Session) -> None:
    """mypy, strict, on the package."""
    session.install("-e", ".", "mypy")
    session.run("mypy")


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """Every example: of the README, of docs/, of the docstrings."""
    session.install("-e", ".[test]")
    session.run("pytest", "-q", "tests/test_documents.py", "arraydiff", env=ONE_THREAD)


@nox.session(python="3.11")
def benchmarks(session: nox.Session) -> None:
    """The package beside its peers; see benchmarks/README.md."""
    session.install("-e", ".[dev]")
    session.run("python", "benchmarks/gradient.py", *session.posargs, env=ONE_THREAD)


@nox.session(python="3.11")
def cupy_names(session: nox.Session) -> None:
    """What the package and the stand-in take for granted of CuPy, held to the real one: no GPU is needed."""
    session.install("-e", ".", *RUNNER, "cupy-cuda12x", "scipy")
    session.run("pytest", "-q", "cupy_tests", *session.posargs)


@nox.session(python="3.11")
def gpu(session: nox.Session) -> None:
    """The suite on CUDA devices, or why it skips; ``nox -s gpu -- cuda13`` installs CuPy first."""
    extras = [name for name in session.posargs if name in {"cuda12", "cuda13", "torch", "jax"}]
    session.install("-e", f".[{','.join(['test', *extras])}]")
    session.run("pytest", "-q", "gpu_tests", *[word for word in session.posargs if word not in extras])
