"""The suite that waits for a GPU, on CPU arrays: it must not be wrong on the one day when there is a device."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_what_only_a_device_can_show_passes_its_rehearsal_on_the_stand_in() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "gpu_tests/test_devices.py",
        "gpu_tests/test_big.py",
        "gpu_tests/test_second_order.py",
        "gpu_tests/test_exact.py",
        "-k",
        "cupy",
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"ARRAYDIFF_REHEARSE": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 35
