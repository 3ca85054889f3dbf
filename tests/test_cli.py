"""The command line: what it prints, what it writes, and how it refuses what it cannot use."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from arraydiff import environment
from arraydiff.cli import main

QUICK = ("demo", "--mode", "static", "--frames", "30", "--dt", "0.2", "--fix", "D_offset=1000", "--plot", "none")

needs_scipy = pytest.mark.skipif(
    not importlib.util.find_spec("scipy"), reason="the demo needs scipy, which is not installed"
)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "users_functions.py").write_text(FUNCTIONS)
    yield
    sys.modules.pop("users_functions", None)


FUNCTIONS = """
import numpy as np

def total(x): return np.sum(np.sin(x))
def slope(x): return np.cos(x)
def wrong_slope(x): return np.sin(x)
def product(a, b): return a * b**2
def refuses(x): raise ValueError("no\\nsuch point")
def only_at(x):
    if float(np.sum(x)) != 3.0: raise ArithmeticError("too far")
    return np.sum(x)
number = 3
"""


def refused(capsys, *argv):
    """The one line on stderr of a command that cannot use its input."""
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("arraydiff: ")
    assert err.count("\n") == 1
    return err


@needs_scipy
def test_demo_prints_both_tables_and_writes_picture_and_numbers(capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert main([*QUICK, "--plot", "fit.png", "--json", "fit.json"]) == 0
    out, err = capsys.readouterr()
    for word in ("D0", "truth", "standard error", "fixed", "SciPy 2-point", "SciPy 3-point", "points for J", "fit.png"):
        assert word in out
    assert err == ""  # progress is for terminals
    assert Path("fit.png").stat().st_size > 10_000
    assert set(json.loads(Path("fit.json").read_text())["fits"][0]["values"]) == {"contrast", "offset", "D0", "alpha"}


@needs_scipy
def test_demo_fits_a_measured_matrix(capsys):
    assert main([*QUICK, "--json", "simulated.json"]) == 0
    from arraydiff.examples.data import TRUTH, simulate
    from arraydiff.examples.xpcs import Experiment

    experiment = Experiment("static", frames=35, dt=0.2)
    np.save("c2.npy", simulate(experiment, np.asarray(list(TRUTH.values())[:5]), 0.02, seed=0)[0])
    measured = (
        "--data",
        "c2.npy",
        "--dt",
        "0.2",
        "--fix",
        "D_offset=1000",
        "--start",
        "alpha=-0.5",
        "--bounds",
        "D0=5e3:5e4",
    )
    assert main(["demo", *measured, "--plot", "none", "--method", "central", "--angles", "0"]) == 0
    assert "35 frames" in capsys.readouterr().out
    assert (
        main(["demo", *measured, "--plot", "none", "--frames", "20", "--sigma", "0.02", "--json", "measured.json"]) == 0
    )
    out = capsys.readouterr().out
    assert "20 frames" in out
    assert "truth" not in out
    numbers = json.loads(Path("measured.json").read_text())
    assert numbers["truth"] is None
    assert not numbers["sigma_estimated"]
    assert abs(numbers["fits"][0]["values"]["contrast"] - 0.3) < 0.05


@needs_scipy
def test_demo_in_laminar_mode_takes_angles(capsys):
    quick = ("demo", "--frames", "24", "--dt", "0.4", "--plot", "none", "--method", "central", "--seed", "3")
    assert main([*quick, "--angles", "-60,0,60"]) == 0
    assert "laminar fit of 9 parameters, numpy on cpu: 3 angles, 24 frames" in capsys.readouterr().out


@needs_scipy
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--data", "none.npy"), "none.npy: no such file; expected"),
        (("--data", "flat.npy"), "shape (8, 7) is not square; expected"),
        (("--data", "nan.npy"), "not finite"),
        (("--data", "good.npy", "--frames", "9"), "--frames 9: the file has 8; expected 5 to 8"),
        (("--data", "good.npy", "--mode", "laminar"), "--angles: expected 1 in degrees"),
        (("--data", "good.npy", "--angles", "1,2"), "--angles: expected 1 in degrees"),
        (("--angles", "0"), "--angles must be at least 1"),
        (("--angles", "a,b"), "--angles: expected numbers"),
        (("--frames", "3"), "--frames must be at least 5, got 3"),
        (("--frames", "many"), "invalid int value: 'many'; see arraydiff demo --help"),
        (("--dt", "0"), "--dt must be > 0, got 0"),
        (("--sigma", "-1"), "sigma must be > 0"),
        (("--fix", "D1=3"), "unknown parameter 'D1'; a laminar fit has: contrast, offset, D0"),
        (("--fix", "D0"), "expected NAME=VALUE with a number, got 'D0'"),
        (("--bounds", "D0=1"), "expected NAME=LO:HI with numbers, got 'D0=1'"),
        (("--bounds", "D0=9:1"), "lower must be below upper"),
        (("--start", "D0=1"), "outside its bounds"),
        (("--method", "magic"), "invalid choice: 'magic'"),
        (("--plot", "no/such/folder.png"), "no such folder"),
        (("--json", "no/such/folder.json"), "no such folder"),
    ],
)
def test_demo_refuses_in_one_line_what_it_cannot_use(options, said, capsys):
    np.save("flat.npy", np.ones((8, 7)))
    np.save("nan.npy", np.full((8, 8), np.nan))
    np.save("good.npy", np.ones((8, 8)))
    assert said in refused(capsys, "demo", *options)


@needs_scipy
def test_demo_refuses_a_picture_format_that_nobody_knows(capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert main([*QUICK, "--plot", "fit.unknown"]) == 2
    assert "--plot fit.unknown:" in capsys.readouterr().err


@needs_scipy
def test_demo_without_a_library_names_its_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "pip install arraydiff[cuda12]" in refused(capsys, *QUICK, "--backend", "cupy")


def hide(monkeypatch, hidden):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == hidden else find(name, *a))


def test_demo_without_scipy_names_the_extra(capsys, monkeypatch):
    hide(monkeypatch, "scipy")
    assert "pip install arraydiff[demo]" in refused(capsys, "demo")


@needs_scipy
def test_demo_without_matplotlib_says_so_and_goes_on(capsys, monkeypatch):
    hide(monkeypatch, "matplotlib")
    assert main([*QUICK, "--plot", "fit.png"]) == 0
    assert "no picture: Matplotlib is not installed; run: pip install arraydiff[demo]" in capsys.readouterr().out


@needs_scipy
def test_progress_is_one_line_that_is_written_over_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True, raising=False)
    assert main(QUICK) == 0
    err = capsys.readouterr().err
    assert "residuals, sum of squares" in err
    assert "\n" not in err


def test_an_interrupt_leaves_quietly(capsys, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "describe", interrupted)
    assert main(["info"]) == 130
    assert capsys.readouterr() == ("", "")


@needs_scipy
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a child alone")
def test_ctrl_c_in_a_running_demo_leaves_no_traceback():
    code = (
        "import sys, os, signal, arraydiff.examples.fit as fit\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell has it ignored by what it starts with &
        "fit.starting_values = lambda problem: os.kill(os.getpid(), signal.SIGINT)\n"
        "from arraydiff.cli import main; sys.exit(main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment_here()
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")


def environment_here():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_the_module_runs_as_the_command_does_and_a_reader_that_has_gone_is_no_failure():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "arraydiff", "info"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, env=environment_here())
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("argv", [(), ("dem",), ("check",), ("check", "users_functions:total")])
def test_an_incomplete_command_is_refused_with_the_way_to_help(argv, capsys):
    assert "--help" in refused(capsys, *argv)


def test_info_prints_versions_memory_and_devices(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("arraydiff ")
    for word in ("numpy", np.__version__, "memory", "device"):
        assert word in out


def test_a_driver_that_fails_is_reported_not_raised(monkeypatch):
    def _torch_devices():
        raise RuntimeError("driver\nis too old")

    monkeypatch.setattr(environment, "_torch_devices", _torch_devices)
    assert any("torch: RuntimeError: driver is too old" in line for line in environment.describe())


def test_info_lists_cuda_devices_with_their_memory(monkeypatch):
    class Device:
        mem_info = (30 * 2**30, 80 * 2**30)

        def __init__(self, index):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    runtime = SimpleNamespace(getDeviceCount=lambda: 1, getDeviceProperties=lambda i: {"name": b"H100"})
    cupy = SimpleNamespace(is_available=lambda: True, cuda=SimpleNamespace(runtime=runtime, Device=Device))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert any("cupy: cuda:0 H100, 30.0 GiB free of 80.0 GiB" in line for line in environment.describe())
    cupy.is_available = lambda: False
    assert any("cupy: no CUDA device" in line for line in environment.describe())


def test_info_lists_cuda_devices_of_torch(monkeypatch):
    cuda = SimpleNamespace(
        device_count=lambda: 1, mem_get_info=lambda i: (2**30, 2**31), get_device_name=lambda i: "H100"
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert any("torch: cuda:0 H100, 1.0 GiB free of 2.0 GiB" in line for line in environment.describe())


def test_where_nothing_is_known_of_the_machine_info_says_so(monkeypatch):
    for name in ("torch", "jax", "cupy"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(environment.os, "sysconf", lambda name: (_ for _ in ()).throw(OSError))
    lines = "\n".join(environment.describe())
    assert "cpu only" in lines
    assert "unknown" in lines


def test_check_prints_every_method_with_value_error_bar_and_cost(capsys):
    assert main(["check", "users_functions:total", "--at", "-1.0,2.0"]) == 0
    out = capsys.readouterr().out
    for method in ("adaptive", "complex_step", "richardson", "central", "forward", "backward"):
        assert f"\n{method}\n" in out
    assert out.count("error bar") >= 6
    assert out.count(" points in ") >= 6
    assert "0.5403023058681" in out
    assert "error  " not in out


def test_check_compares_with_the_exact_derivative(capsys):
    at = ("--at", "1.0,2.0")
    assert main(["check", "users_functions:total", *at, "--exact", "users_functions:slope"]) == 0
    assert ", within the tolerance" in capsys.readouterr().out
    assert main(["check", "users_functions:total", *at, "--exact", "users_functions:wrong_slope"]) == 1
    assert "NOT within the tolerance" in capsys.readouterr().out


def test_check_differentiates_with_respect_to_every_argument(capsys):
    assert main(["check", "users_functions:product", "--at", "2", "--at", "3"]) == 0
    out = capsys.readouterr().out
    assert "users_functions:product at 2., 3." in out
    assert "derivative  9. | 12." in out


def test_check_goes_on_where_a_method_fails(capsys):
    main(["check", "users_functions:only_at", "--at", "1,2"])
    assert "raised ArithmeticError: too far" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("nothing",), "expected MODULE:FUNCTION, got 'nothing'"),
        (("no_such_module:f",), "cannot import no_such_module"),
        (("users_functions:nothing",), "has no function 'nothing'"),
        (("users_functions:number",), "has no function 'number'"),
        (("users_functions:total", "--at", "one"), "--at: expected numbers such as 1.0,2.0, got 'one'"),
        (("users_functions:total", "--at", ","), "--at: expected numbers such as 1.0,2.0, got ','"),
        (("users_functions:refuses",), "raised ValueError at [1.]: no such point"),
    ],
)
def test_check_refuses_in_one_line_what_it_cannot_use(argv, said, capsys):
    assert said in refused(capsys, "check", *(argv if "--at" in argv else (*argv, "--at", "1,")))


@needs_scipy
def test_demo_fits_without_a_jacobian_where_it_does_not_fit_in_memory(capsys):
    """The way of 1001 frames, at a fiftieth of their pairs."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    full = ("demo", "--frames", "142", "--angles", "23", "--per-angle", "--max-memory", "50 MB")
    assert main([*full, "--plot", "fit.png", "--json", "fit.json"]) == 0
    out, err = capsys.readouterr()
    for words in ("laminar fit of 53 parameters", "23 angles, 142 frames, 230253 pairs", "50 MB may be used", "J^T J"):
        assert words in " ".join(out.split())
    assert "SciPy 2-point" not in out
    assert err == ""
    numbers = json.loads(Path("fit.json").read_text())
    (fit,) = numbers["fits"]
    assert fit["converged"]
    assert abs(fit["chi2"] / fit["degrees_of_freedom"] - 1) < 0.02
    for name, true in numbers["truth"].items():
        assert abs(fit["values"][name] - true) < 5 * fit["standard_errors"][name]
    assert Path("fit.png").stat().st_size > 10_000


@needs_scipy
def test_demo_refuses_a_size_that_it_does_not_understand(capsys):
    assert "expected a size such as '512 MB', got 'much'" in refused(capsys, "demo", "--max-memory", "much")


@needs_scipy
def test_demo_fits_one_contrast_an_angle_with_the_jacobian_where_it_fits(capsys):
    quick = (
        "demo",
        "--mode",
        "static",
        "--frames",
        "24",
        "--angles",
        "2",
        "--per-angle",
        "--plot",
        "none",
        "--seed",
        "1",
    )
    assert main([*quick, "--fix", "D_offset=1000"]) == 0
    out = capsys.readouterr().out
    assert "contrast[1]" in out
    assert "SciPy 3-point" in out
