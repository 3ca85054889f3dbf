"""Every Python example of README.md and docs/ runs as written, top to bottom, file by file, with torch and jax where they are."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import cupy_standin

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if path.exists()]
BLOCK = re.compile(r"^```(?P<language>\w*)(?P<needs>[^\n]*)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


def matches(path: Path, language: str) -> list[re.Match[str]]:
    return [match for match in BLOCK.finditer(path.read_text(encoding="utf-8")) if match["language"] == language]


def blocks(path: Path, language: str) -> list[str]:
    return [match["code"] for match in matches(path, language)]


def is_at_hand(stack: contextlib.ExitStack, library: str) -> bool:
    """Whether what an example names behind its language is installed; CuPy's stand-in is."""
    if library == "cupy" and not cupy_standin.is_hidden_by_a_real_one():
        stack.enter_context(cupy_standin.installed())
        return True
    if library == "mpi-script":
        return False  # it is a script of its own
    return importlib.util.find_spec(library) is not None


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings(
    "ignore:os.fork.. was called:RuntimeWarning"
)  # other tests have threads; f needs no lock of theirs
@pytest.mark.parametrize("path", [path for path in FILES if blocks(path, "python")], ids=lambda path: path.name)
def test_the_examples_of_a_page_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy", reason="the pages show fits with SciPy")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    with contextlib.ExitStack() as stack:
        for number, match in enumerate(matches(path, "python"), 1):
            if all(is_at_hand(stack, library) for library in match["needs"].split()):
                exec(compile(match["code"], f"{path.name}, example {number}", "exec"), names)


@pytest.mark.skipif(
    not (Path(sys.executable).with_name("mpiexec").exists() and importlib.util.find_spec("mpi4py")),
    reason="mpi4py, or an mpiexec beside this Python, is not installed",
)
def test_the_example_of_mpi_runs_on_two_ranks(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="the script takes its function from SciPy")
    (match,) = (m for m in matches(ROOT / "docs" / "big.md", "python") if m["needs"].strip() == "mpi-script")
    (tmp_path / "script.py").write_text(match["code"], encoding="utf-8")
    command = [
        Path(sys.executable).with_name("mpiexec"),
        "-n",
        "2",
        sys.executable,
        "-m",
        "mpi4py.futures",
        "script.py",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "the same bits\n", done.stderr


def test_quick_start_of_the_readme_is_two_shell_blocks() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    titles = list(re.finditer(r"^#+ (.*)$", BLOCK.sub(lambda m: " " * len(m[0]), readme), re.MULTILINE))
    (start,) = (number for number, title in enumerate(titles) if "quick start" in title[1].lower())
    end = titles[start + 1].start() if start + 1 < len(titles) else len(readme)
    shell = [match for match in BLOCK.finditer(readme, titles[start].end(), end) if match["language"] == "sh"]
    assert len(shell) == 2
