"""Every Python example of README.md and docs/ runs as written, top to bottom, file by file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if path.exists()]
BLOCK = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    return [
        match["code"] for match in BLOCK.finditer(path.read_text(encoding="utf-8")) if match["language"] == language
    ]


@pytest.mark.parametrize("path", [path for path in FILES if blocks(path, "python")], ids=lambda path: path.name)
def test_the_examples_of_a_page_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy", reason="the pages show fits with SciPy")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for number, code in enumerate(blocks(path, "python"), 1):
        exec(compile(code, f"{path.name}, example {number}", "exec"), names)


def test_quick_start_of_the_readme_is_two_shell_blocks() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    titles = list(re.finditer(r"^#+ (.*)$", BLOCK.sub(lambda m: " " * len(m[0]), readme), re.MULTILINE))
    (start,) = (number for number, title in enumerate(titles) if "quick start" in title[1].lower())
    end = titles[start + 1].start() if start + 1 < len(titles) else len(readme)
    shell = [match for match in BLOCK.finditer(readme, titles[start].end(), end) if match["language"] == "sh"]
    assert len(shell) == 2
