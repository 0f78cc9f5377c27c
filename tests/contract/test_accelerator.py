"""What a GPU would do: tests/accelerator_checks.py, in its own process, since torch learns of devices only once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import accelerator

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not accelerator.DEVICE_THERE, reason="this torch lets no Python stand in for a device")
def test_the_checks_pass_on_a_device_that_pretends() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/accelerator_checks.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= 35
    assert "skipped" not in done.stdout and "deselected" not in done.stdout
