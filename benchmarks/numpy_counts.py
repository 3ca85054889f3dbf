"""Which functions of NumPy other packages' documents call, and how often: `python -m benchmarks.numpy_counts CHECKOUT ...`.

What is read of a checkout: Python files, notebooks and the code in .rst and .md under folders called doc, docs, example,
examples, tutorial, tutorials or demos, and the doctests of every docstring; tests are left out. Code that does not parse is
read line by line.

Calls of np.f, np.linalg.f and np.fft.f count, under whatever name numpy was imported; so do methods and attributes that arrays
have, though what they were called on is not known. The facts are kept in `numpy_functions.py`.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import doctest
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

DOCUMENTS = frozenset(["doc", "docs", "example", "examples", "tutorial", "tutorials", "demos"])
RENAMED = {
    "trapz": "trapezoid", "in1d": "isin", "row_stack": "vstack", "product": "prod", "cumproduct": "cumprod", "round_": "round",
    "sometrue": "any", "alltrue": "all", "absolute": "abs", "conjugate": "conj", "around": "round",
}  # fmt: skip
METHODS = frozenset(
    (
        set(dir(np.ndarray))
        - {"shape", "size", "ndim", "dtype", "base", "data", "ctypes", "dump", "dumps", "itemset", "view"}
    )
    - {name for name in dir(np.ndarray) if name.startswith("_")}
)
FENCED = re.compile(r"^```\s*\{?(?:python|py|ipython|code-cell)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^([ \t]*)(?:\.\. [^\n]*|[^\n]*)::[^\n]*\n((?:\1[ \t]+[^\n]*\n|[ \t]*\n)+)", re.MULTILINE)
PROMPT = re.compile(r"^(?:In \[\d+\]: |\s*\.\.\.: |:[\w-]+:.*$|@\w+.*$)", re.MULTILINE)
Counts = collections.Counter[str]


def name_of(node: ast.expr, imported: dict[str, str]) -> str:
    """'linalg.norm' for np.linalg.norm; '' for what is not of numpy."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in imported:
        return ""
    return ".".join([*imported[node.id].split("."), *reversed(parts)]).lstrip(".")


def imports(tree: ast.AST) -> dict[str, str]:
    """What numpy and its functions are called here; np and numpy always, since snippets leave the import out."""
    found = {"np": "", "numpy": ""}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.asname and name.name.split(".")[0] == "numpy":
                    found[name.asname] = name.name[len("numpy.") :]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "numpy":
            space = node.module[len("numpy.") :]
            for name in node.names:
                found[name.asname or name.name] = f"{space}.{name.name}".lstrip(".")
    return found


def calls(tree: ast.AST, imported: dict[str, str]) -> Counts:
    """Functions by their name, methods and attributes with a dot before it."""
    found: Counts = collections.Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := name_of(node.func, imported)):
            found[RENAMED.get(name, name)] += 1
        elif isinstance(node, ast.Attribute) and node.attr in METHODS and not name_of(node, imported):
            found[f".{node.attr}"] += 1
    return found


def parsed(code: str) -> list[ast.AST]:
    lines = [line for line in PROMPT.sub("", code).splitlines() if not line.lstrip().startswith(("%", "!"))]
    with contextlib.suppress(SyntaxError, ValueError):
        return [ast.parse("\n".join(lines))]
    found: list[ast.AST] = []
    for line in lines:
        with contextlib.suppress(SyntaxError, ValueError):
            found.append(ast.parse(line.strip()))
    return found


def doctests(text: str) -> str:
    with contextlib.suppress(ValueError):
        return "".join(example.source for example in doctest.DocTestParser().get_examples(text))
    return "\n".join(line.lstrip()[4:] for line in text.splitlines() if line.lstrip().startswith((">>> ", "... ")))


def docstrings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield text


def blocks(path: Path, is_document: bool) -> Iterator[str]:
    """The code in a file; of a module that is no document, the doctests of its docstrings."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".py":
        if is_document:
            yield text
        for tree in parsed(text)[:1]:
            yield "\n".join(doctests(told) for told in docstrings(tree))
    elif not is_document:
        return
    elif path.suffix == ".ipynb":
        with contextlib.suppress(ValueError):
            cells = json.loads(text).get("cells", [])
            yield "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    else:
        yield doctests(text)
        yield from (block[1] for block in FENCED.finditer(text))
        for block in INDENTED.finditer(text):
            if ">>>" not in block[2]:
                yield textwrap.dedent(block[2])


def counted(checkout: Path) -> Counts:
    found: Counts = collections.Counter()
    for path in sorted(checkout.rglob("*")):
        parts = path.relative_to(checkout).parts
        if path.suffix not in (".py", ".rst", ".md", ".ipynb") or not path.is_file() or {"test", "tests"} & set(parts):
            continue
        for code in blocks(path, bool(DOCUMENTS & set(parts[:-1]))):
            trees = parsed(code)
            imported = {name: value for tree in trees for name, value in imports(tree).items()}
            for tree in trees:
                found += calls(tree, imported)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Calls of NumPy's functions in the documents of packages.")
    parser.add_argument("checkouts", nargs="+", type=Path)
    found = [counted(checkout) for checkout in parser.parse_args().checkouts]
    total: Counts = sum(found, collections.Counter())
    packages = collections.Counter(name for one in found for name in one)
    for name, number in sorted(total.items(), key=lambda item: (-packages[item[0]], -item[1], item[0])):
        print(packages[name], number, name)


if __name__ == "__main__":
    main()
