"""Accuracy of scalar derivatives and of their error bars, beside the peers in one run, on the suite of arraydiff.testing.

    python -m benchmarks.accuracy [--half held-out|tuning|all] [--seed N] [--points K] [--quick]
                                  [--tools NAME ...] [--worst N] [--json FILE] [--plot FILE]

Constants of arraydiff were tuned on the half "tuning": figures to be quoted are those of the half "held-out", with any seed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from arraydiff.testing import CLASSES, HALVES, cases
from benchmarks.accuracy_figures import Figures, figures, heading, line
from benchmarks.accuracy_tools import TOOLS, Answer, Tool, asked, float32, present

POINTS, QUICK_POINTS = 16, 3
NOISY = "noisy"
FLOAT32_CLASSES = ("smooth", "zero")  # elsewhere float32 does not hold what makes the function what it is

Answers = dict[str, list[Answer]]


def answers_of(tools: Sequence[Tool], half: str | None, seed: int, points: int) -> Answers:
    """Every tool on every case; each one gets its own cases, so that the noise that is drawn is the same for all."""
    truths = [case.derivative(case.points) for case in cases(half, seed=seed, points=points)]
    return {
        tool.name: [
            answer
            for case, truth in zip(cases(half, seed=seed, points=points), truths, strict=True)
            for answer in asked(tool, case, truth)
        ]
        for tool in tools
    }


def sections(answers: Answers) -> dict[str, dict[str, Figures]]:
    """Figures of every tool by class, for the noiseless classes, and overall."""
    groups = {name: {name} for name in CLASSES} | {
        "noiseless": set(CLASSES) - {NOISY},
        "overall": set(CLASSES),
    }
    return {
        group: {
            tool: figures([answer for answer in given if answer.class_name in members])
            for tool, given in answers.items()
        }
        for group, members in groups.items()
    }


def in_float32(tools: Sequence[Tool], half: str | None, seed: int, points: int) -> dict[str, Figures]:
    """Our figures with x in float32 and f computed in float32, against the truth at that x."""
    rounded = [
        replace(case, points=case.points.astype(np.float32).astype(np.float64))
        for case in cases(half, seed=seed, points=points, classes=FLOAT32_CLASSES)
    ]
    truths = [case.derivative(case.points) for case in rounded]
    pairs = list(zip(rounded, truths, strict=True))
    ours = [tool for tool in tools if tool.module == "arraydiff"]
    return {tool.name: figures([a for pair in pairs for a in asked(float32(tool), *pair)]) for tool in ours}


def worst(given: Sequence[Answer], count: int) -> list[str]:
    """The answers that are most wrong beyond what they claim, then those that are most wrong."""

    def text(answer: Answer) -> str:
        return (
            f"  {answer.class_name:12}{answer.name:36} x = {answer.x!r:24} error {answer.relative_error:.1e}"
            f"  bar {answer.claim / abs(answer.truth):.1e}  {answer.points} points"
        )

    uncovered = sorted(given, key=lambda answer: answer.error / max(answer.claim, 1e-300), reverse=True)
    uncovered = [answer for answer in uncovered[:count] if answer.error > answer.claim]
    largest = sorted(given, key=lambda answer: answer.relative_error, reverse=True)[:count]
    return [" beyond the bar:", *map(text, uncovered), " largest error:", *map(text, largest)]


def report(table: dict[str, dict[str, Figures]]) -> None:
    for group, rows in table.items():
        print(heading(f"{group}, {next(iter(rows.values())).answers} derivatives"))
        for tool, row in rows.items():
            print(line(tool, row))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--half", choices=(*HALVES, "all"), default="held-out")
    parser.add_argument("--seed", type=int, default=0, help="draws the points and the noise")
    parser.add_argument("--points", type=int, help=f"points a function, {POINTS} unless said")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_POINTS} points a function")
    parser.add_argument("--tools", nargs="+", help="only tools whose names begin so")
    parser.add_argument("--worst", type=int, default=0, help="list so many of our worst answers")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="draw errors against evaluations, and claimed against true errors")
    return parser.parse_args()


def main() -> int:
    options = parsed()
    half = None if options.half == "all" else options.half
    points = options.points or (QUICK_POINTS if options.quick else POINTS)
    tools = present(options.tools)
    if not tools:
        print(f"no tool is left; --tools wants beginnings of {', '.join(tool.name for tool in TOOLS)}")
        return 1
    answers = answers_of(tools, half, options.seed, points)
    table = sections(answers)
    if ours := in_float32(tools, half, options.seed, points):
        table["x and f in float32"] = ours
    print(f"half: {options.half}, seed {options.seed}, {points} points a function")
    report(table)
    for tool in answers if options.worst else ():
        if tool.startswith("arraydiff"):
            print(f"\nworst of {tool}", *worst(answers[tool], options.worst), sep="\n")
    if options.json:
        record: dict[str, Any] = {"half": options.half, "seed": options.seed, "points": points}
        record["figures"] = {group: {tool: asdict(row) for tool, row in rows.items()} for group, rows in table.items()}
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.plot:
        from benchmarks.accuracy_plot import draw

        draw(answers, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
