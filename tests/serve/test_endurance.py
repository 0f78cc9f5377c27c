"""What `examples/benchmarks/serving.py` measures, in short: bad clients, deaths, new files and an end under load."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serving", ROOT / "examples" / "benchmarks" / "serving.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("models")
    return folder, script.exported(folder, 32)


def test_each_kind_of_bad_client_is_refused_and_the_others_notice_nothing(script: ModuleType, models: Any) -> None:
    assert len(script.hostile()) == 14
    found = script.endure(models[0], 2, sockets=200)
    assert found["wrong"] == {}, found["answered"]
    assert found["answered"].keys() == script.hostile().keys()
    assert found["workers alive"] and found["MiB more"] < 100
    assert set(found["healthy"]) == {"200"}


def test_of_a_worker_that_is_killed_only_what_it_was_asked_is_lost(script: ModuleType, models: Any) -> None:
    found = script.kill(models[0], 6)
    assert found["ready again, s"] < 60
    # Connections end, and none is refused or waits in vain; how many were open hangs on how busy the machine is.
    assert found["by"].keys() <= {"ConnectionResetError", "IncompleteReadError", "BrokenPipeError"}, found
    assert found["lost"] < found["requests"] / 4, found


def test_new_files_under_load_cost_no_request(script: ModuleType, models: Any) -> None:
    found = script.reloads(models[0], 8, 8)
    assert found["errors"] == 0
    # By each of two workers at least once; again where it was seen before its signal, or earlier signals are late.
    assert 2 <= found["damaged files refused"] <= 2 * (8 + 1)
    assert found["reloads"] >= 2 * 6  # by each, but for the damaged one and that after it, which is as the one before


def test_the_engines_give_what_the_predictor_gives(script: ModuleType, models: Any) -> None:
    found = script.parity(*models)
    assert {name: off for name, off in found.items() if off > (0 if "torch" in name else 1e-3)} == {}
    assert all(off <= 1e-4 for name, off in found.items() if "our own pixels" not in name)


def refuses(port: int) -> bool:
    """Whether nobody listens there any more."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except OSError:  # the listener ended between two steps of connecting
        return False
    return False


def test_what_runs_when_the_server_is_ended_is_answered(script: ModuleType, models: Any) -> None:
    words = [sys.executable, "-m", "easylearn", "serve", str(models[0] / "table.onnx"), "--port", "0", "--quiet"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ}) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().partition("http://127.0.0.1:")[2].split()[0])
            body = json.dumps(script.ROW).encode()
            with socket.create_connection(("127.0.0.1", port), timeout=100) as client:
                client.sendall(script.head("/predict", len(body), "application/json", expect="100-continue"))
                assert client.recv(4096).startswith(b"HTTP/1.1 100")  # it is under way
                server.send_signal(signal.SIGTERM)
                until = time.monotonic() + 100
                while not refuses(port):
                    assert time.monotonic() < until
                    time.sleep(0.05)
                client.sendall(body)
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
            assert server.wait(100) == 0
        finally:
            server.kill()
