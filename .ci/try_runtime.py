"""Serve a model with the runtime that this Python has installed: `try_runtime.py FILE.onnx`.

It fails where the environment has torch, is larger than 230 MB, is not ready soon, or answers wrongly. Two seconds of
CPU time are allowed; the wall clock of a shared machine says little.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import easylearn_runtime

MOST_BYTES, MOST_SECONDS = 230e6, 2.0


def main() -> None:
    """Measure the environment, and the server from its start to its end."""
    assert importlib.util.find_spec("torch") is None and importlib.util.find_spec("easylearn") is None
    here = Path(easylearn_runtime.__file__).parents[1]
    left_out = ("pip", "setuptools", "pkg_resources", "wheel")  # what an empty environment has already
    folders = [f for f in here.iterdir() if not f.name.startswith(left_out)]
    size = sum(p.stat().st_size for f in folders for p in ([f] if f.is_file() else f.rglob("*")) if p.is_file())
    command = [sys.executable, "-m", "easylearn_runtime.main", "serve", sys.argv[1], "--port", "0", "--quiet"]
    began, before = time.monotonic(), os.times()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().partition(" at ")[2].split()[0]
        wall = time.monotonic() - began
        body = json.dumps({"a": 1, "b": "x"}).encode()
        request = urllib.request.Request(f"{url}/predict", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            said = json.loads(answer.read())
        server.terminate()
    after = os.times()  # of the server and its worker, which have ended
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"runtime: {size / 1e6:.0f} MB, ready in {wall:.2f} s, {cpu:.2f} s of CPU in all; it says {said}")
    assert server.returncode == 0 and isinstance(said["label"], float)
    assert size <= MOST_BYTES and cpu <= MOST_SECONDS


if __name__ == "__main__":
    main()
