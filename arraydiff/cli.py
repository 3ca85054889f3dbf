"""The command line: ``arraydiff demo | info | check``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    from arraydiff.examples.fit import Comparison
    from arraydiff.examples.problem import FitProblem
    from arraydiff.examples.xpcs import Experiment, Mode
    from arraydiff.validation import MethodReport

PICTURE = "arraydiff-demo.png"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
WRONG_INPUT = 2
PROGRESS_EVERY = 0.1  # s
BACKENDS = ("numpy", "torch", "jax", "cupy")
METHODS = ("adaptive", "complex_step", "richardson", "central", "forward", "backward")


class UsageError(Exception):
    """What the user gave cannot be used; the text is one line with what is wrong and what is expected."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; default those of the process.

    Returns
    -------
    int
        0: done; 1: a check found a wrong derivative; 2: the input cannot be used; 130: interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # Å and ² on a terminal that has none
    try:
        arguments = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
        code = int(arguments.run(arguments))
        sys.stdout.flush()  # a reader that has gone is noticed here, not after the end
        return code
    except UsageError as error:
        print(f"arraydiff: {error}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


# ---- arguments


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="arraydiff", description="Numerical derivatives of array functions, each with an error bar.")
    commands = parser.add_subparsers(required=True, metavar="demo | info | check", parser_class=_Parser)
    _add_demo(commands.add_parser("demo", help="fit XPCS data, simulated or measured"))
    info = commands.add_parser("info", help="versions, array libraries, devices, memory")
    info.set_defaults(run=_info)
    _add_check(commands.add_parser("check", help="differentiate your function with every method"))
    return parser


def _add_demo(demo: argparse.ArgumentParser) -> None:
    add = demo.add_argument
    add("--data", metavar="FILE", help="measured C2, (frames, frames) or (angles, frames, frames): .npy, .npz or HDF5")
    add("--dataset", metavar="NAME", help="name of the array in an .npz or HDF5 file")
    add("--mode", choices=("static", "laminar"), help="default: laminar; static with --data")
    add("--frames", type=int, metavar="N", help="number of frames (default 100); with --data only the first N are used")
    add("--angles", metavar="N|A,B,...", help="how many angles to simulate (default 5), or the angles in degrees")
    add("--per-angle", action="store_true", help="one contrast and one offset for each angle")
    add("--q", type=float, default=0.0054, help="wavevector in 1/Å (default %(default)s)")
    add("--dt", type=float, metavar="S", help="time between frames in s (default 0.1; 1 with --data)")
    add("--gap", type=float, default=2e6, metavar="L", help="gap of the shear cell in Å (default 2e6)")
    add("--sigma", type=float, help="standard deviation of the noise (default 0.02; with --data estimated)")
    add("--fix", type=_assignment, action="append", default=[], metavar="NAME=VALUE", help="do not fit this parameter")
    add("--start", type=_assignment, action="append", default=[], metavar="NAME=VALUE", help="where the search starts")
    add("--bounds", type=_interval, action="append", default=[], metavar="NAME=LO:HI", help="bounds of a parameter")
    add("--method", choices=METHODS, default="adaptive", help="how to differentiate (default %(default)s)")
    add("--backend", choices=BACKENDS, default="numpy", help="array library (default %(default)s)")
    add(
        "--max-memory", metavar="SIZE", type=_size, help="such as '2 GB': where the Jacobian needs more, it is not held"
    )
    add("--plot", metavar="FILE", default=PICTURE, help="the picture (default %(default)s); none: no picture")
    add("--json", metavar="FILE", help="write all numbers there")
    add("--seed", type=int, default=0, help="of the simulated noise (default %(default)s)")
    demo.set_defaults(run=_demo)


def _add_check(check: argparse.ArgumentParser) -> None:
    add = check.add_argument
    add("target", metavar="MODULE:FUNCTION", help="a function of arrays")
    add(
        "--at",
        action="append",
        required=True,
        metavar="1.0,2.0",
        help="an argument; again for each one (2.0, is an array)",
    )
    add("--exact", metavar="MODULE:FUNCTION", help="the derivative as it should be, to compare with")
    add("--tolerance", type=float, default=1e-6, help="largest error allowed with --exact (default %(default)s)")
    check.set_defaults(run=_check)


def _joined(argv: Sequence[str]) -> list[str]:
    """`--at -1,2` as `--at=-1,2`: argparse would take the numbers for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--at", "--angles") and word[:1] == "-" and word[1:2] in "0123456789.":
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _assignment(word: str) -> tuple[str, float]:
    name, _, value = word.partition("=")
    with contextlib.suppress(ValueError):
        return name, float(value)
    raise argparse.ArgumentTypeError(f"expected NAME=VALUE with a number, got {word!r}")


def _interval(word: str) -> tuple[str, tuple[float, float]]:
    name, _, limits = word.partition("=")
    low, _, high = limits.partition(":")
    with contextlib.suppress(ValueError):
        return name, (float(low), float(high))
    raise argparse.ArgumentTypeError(f"expected NAME=LO:HI with numbers, got {word!r}")


def _size(words: str) -> str:
    from arraydiff.memory import in_bytes

    if in_bytes(words) is None:
        raise argparse.ArgumentTypeError(f"expected a size such as '512 MB', got {words!r}")
    return words


def _numbers(words: str, option: str) -> list[float]:
    with contextlib.suppress(ValueError):
        return [float(word) for word in words.split(",") if word.strip()]
    raise UsageError(f"{option}: expected numbers such as 1.0,2.0, got {words!r}")


# ---- demo


def _demo(arguments: argparse.Namespace) -> int:
    _require_scipy()
    from arraydiff.examples import report
    from arraydiff.examples.fit import compare
    from arraydiff.examples.large import fit_large, too_large
    from arraydiff.examples.library import MissingLibraryError

    _check_folders(arguments)
    problem, truth = _problem(arguments)
    with _Progress() as progress:
        try:
            options = {"backend": arguments.backend, "method": arguments.method, "progress": progress}
            why = too_large(problem, arguments.max_memory)
            done = (
                fit_large(problem, why, max_memory=arguments.max_memory, **options)
                if why
                else compare(problem, **options)
            )
        except MissingLibraryError as error:
            raise UsageError(str(error)) from error
    print(report.text(done, truth))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report.as_dict(done, truth), indent=1) + "\n", encoding="utf-8")
        print(f"numbers: {arguments.json}")
    if arguments.plot != "none":
        _save_picture(done, arguments.plot)
    return 0


def _require_scipy() -> None:
    if importlib.util.find_spec("scipy") is None:
        raise UsageError("the demo needs SciPy for its optimiser; run: pip install arraydiff[demo]")


def _check_folders(arguments: argparse.Namespace) -> None:
    """Before the fit, not after it."""
    for option, name in (("--plot", arguments.plot), ("--json", arguments.json)):
        if name and not Path(name).absolute().parent.is_dir():
            raise UsageError(f"{option} {name}: no such folder; make it first")


def _problem(arguments: argparse.Namespace) -> tuple[FitProblem, dict[str, float] | None]:
    """What to fit, and the truth where it is known."""
    from arraydiff.examples.data import DataError, simulate, truth_of
    from arraydiff.examples.problem import FitProblem

    fixed = dict(arguments.fix)
    try:
        c2 = _measured(arguments) if arguments.data else None
        experiment = _experiment(arguments, c2)
        sigma, truth = arguments.sigma, None
        options = {"fixed": fixed, "start": dict(arguments.start), "bounds": dict(arguments.bounds)}
        if c2 is None:
            sigma = 0.02 if sigma is None else sigma
            truth = truth_of(experiment) | {name: fixed[name] for name in experiment.names if name in fixed}
            blank = np.zeros((len(experiment.angles), experiment.frames, experiment.frames))
            FitProblem(experiment, blank, sigma, **options)  # refuses wrong names before anything is computed
            c2 = simulate(experiment, np.asarray(list(truth.values())), sigma, arguments.seed)
        return FitProblem(experiment, c2, sigma, **options), truth
    except DataError as error:
        raise UsageError(str(error)) from error
    except ValueError as error:
        raise UsageError(f"demo: {error}") from error


def _measured(arguments: argparse.Namespace) -> np.ndarray:
    from arraydiff.examples.data import FEWEST_FRAMES, load_c2

    c2 = load_c2(arguments.data, arguments.dataset)
    frames = c2.shape[-1] if arguments.frames is None else arguments.frames
    if not FEWEST_FRAMES <= frames <= c2.shape[-1]:
        raise UsageError(f"--frames {frames}: the file has {c2.shape[-1]}; expected {FEWEST_FRAMES} to {c2.shape[-1]}")
    return c2[:, :frames, :frames]


def _experiment(arguments: argparse.Namespace, c2: np.ndarray | None) -> Experiment:
    from arraydiff.examples.data import FEWEST_FRAMES
    from arraydiff.examples.xpcs import Experiment

    mode: Mode = arguments.mode or ("laminar" if c2 is None else "static")
    frames = (100 if arguments.frames is None else arguments.frames) if c2 is None else c2.shape[-1]
    dt = arguments.dt if arguments.dt is not None else (0.1 if c2 is None else 1.0)
    for option, value in (("--dt", dt), ("--q", arguments.q), ("--gap", arguments.gap)):
        if not (np.isfinite(value) and value > 0):
            raise UsageError(f"{option} must be > 0, got {value:g}")
    if frames < FEWEST_FRAMES:
        raise UsageError(f"--frames must be at least {FEWEST_FRAMES}, got {frames}")
    return Experiment(mode, frames, _angles(arguments, mode, c2), arguments.q, dt, arguments.gap, arguments.per_angle)


def _angles(arguments: argparse.Namespace, mode: Mode, c2: np.ndarray | None) -> tuple[float, ...]:
    from arraydiff.examples.data import angle_fan

    given = arguments.angles
    if c2 is None:
        if given is None or given.strip().isdigit():
            count = int(given) if given is not None else (5 if mode == "laminar" else 1)
            if count < 1:
                raise UsageError("--angles must be at least 1")
            return angle_fan(count)
        return tuple(_numbers(given, "--angles")) or angle_fan(1)
    if given is None and mode == "static":
        return (0.0,) * len(c2)
    angles = tuple(_numbers(given or "", "--angles"))
    if len(angles) != len(c2):
        raise UsageError(f"--angles: expected {len(c2)} in degrees, one for each matrix in the file, got {len(angles)}")
    return angles


def _save_picture(done: Comparison, name: str) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        print("no picture: Matplotlib is not installed; run: pip install arraydiff[demo]")
        return
    from arraydiff.examples.plot import save_picture

    try:
        save_picture(done, name)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--plot {name}: {reason}") from error
    print(f"picture: {name}")


class _Progress:
    """One line on the terminal that is written over; silent elsewhere."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()
        self.last = 0.0

    def __enter__(self) -> _Progress:
        return self

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if self.shown and now - self.last > PROGRESS_EVERY:
            self.last = now
            print(f"\r{text:<79.79}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self.shown:
            print(f"\r{'':<79}\r", end="", file=sys.stderr, flush=True)


# ---- info


def _info(_: argparse.Namespace) -> int:
    from arraydiff.environment import describe

    print("\n".join(describe()))
    return 0


# ---- check


def _check(arguments: argparse.Namespace) -> int:
    from arraydiff.validation import compare_methods

    function = _load(arguments.target)
    values = [_array(words) for words in arguments.at]
    _call(arguments.target, function, values)  # what fails at the point itself has no derivative there
    exact = _call(arguments.exact, _load(arguments.exact), values) if arguments.exact else None
    several = len(values) > 1
    reports = compare_methods(
        (lambda everything: function(*everything)) if several else function,
        tuple(values) if several else values[0],
        exact=exact,
        tolerance=arguments.tolerance,
        unreliable="ignore",
    )
    print(f"{arguments.target} at {', '.join(map(_shown, values))}")
    for name, found in reports.items():
        print(f"\n{name}\n{_indented(_report_lines(found))}")
    best = reports["adaptive"]
    return 1 if best.exception is not None or best.within_tolerance is False else 0


def _call(target: str, function: Callable[..., Any], values: list[np.ndarray]) -> Any:
    try:
        return function(*(value.copy() for value in values))
    except Exception as error:
        shown = ", ".join(map(_shown, values))
        raise UsageError(
            f"{target}: raised {type(error).__name__} at {shown}: {' '.join(str(error).split())}"
        ) from error


def _load(target: str) -> Callable[..., Any]:
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise UsageError(f"expected MODULE:FUNCTION, got {target!r}")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` would
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{target}: cannot import {module} ({error}); run this where it can be imported") from error
    for part in name.split("."):
        found = getattr(found, part, None)  # type: ignore[assignment]
    if not callable(found):
        raise UsageError(f"{target}: {module} has no function {name!r}")
    return found


def _array(words: str) -> np.ndarray:
    numbers = _numbers(words, "--at")
    if not numbers:
        raise UsageError(f"--at: expected numbers such as 1.0,2.0, got {words!r}")
    return np.asarray(numbers if "," in words else numbers[0])


def _report_lines(found: MethodReport) -> list[str]:
    if found.exception is not None or found.result is None:
        return [f"raised {type(found.exception).__name__}: {found.exception}"]
    result = found.result
    cost = (
        f"{result.function_points} points in {result.function_calls} calls and {result.rounds} rounds, "
        f"{result.computation_time:.2g} s"
    )
    lines = [
        f"derivative  {_shown(result.derivative)}",
        f"error bar   {_shown(result.error_estimate)}",
        f"cost        {cost}",
    ]
    if found.error is not None:
        verdict = "within" if found.within_tolerance else "NOT within"
        lines.append(f"error       {found.error:.2g}, {verdict} the tolerance")
    return lines + result.explain().splitlines()


def _shown(values: Any) -> str:
    if isinstance(values, tuple):
        return " | ".join(_shown(value) for value in values)
    shown = np.array2string(np.asarray(values), precision=15, threshold=12, separator=", ")
    return shown.replace("\n", "\n" + " " * 12)


def _indented(lines: list[str]) -> str:
    return "\n".join("  " + line for text in lines for line in text.splitlines())
