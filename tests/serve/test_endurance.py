"""What `examples/benchmarks/serving.py` measures, in short: bad clients, deaths, new files and an end under load."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
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
    assert found["lost"] <= 30 < found["requests"], found  # a tenth of a second's requests, on a busy machine more


def test_new_files_under_load_cost_no_request(script: ModuleType, models: Any) -> None:
    found = script.reloads(models[0], 8, 8)
    assert found["errors"] == 0
    # by each worker once; twice where it saw the change before the signal came, which asks for reading it again
    assert 2 <= found["damaged files refused"] <= 4
    assert found["reloads"] >= 2


def test_the_engines_give_what_the_predictor_gives(script: ModuleType, models: Any) -> None:
    found = script.parity(*models)
    assert {name: off for name, off in found.items() if off > (0 if "torch" in name else 1e-3)} == {}
    assert all(off <= 1e-4 for name, off in found.items() if "our own pixels" not in name)


def test_what_runs_when_the_server_is_ended_is_answered(script: ModuleType, models: Any) -> None:
    words = [sys.executable, "-m", "easylearn", "serve", str(models[0] / "table.onnx"), "--port", "0", "--quiet"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ}) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().partition("http://127.0.0.1:")[2].split()[0])
            body = json.dumps(script.ROW).encode()
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                client.sendall(script.head("/predict", len(body), "application/json") + body[:5])
                threading.Timer(1.0, lambda: client.sendall(body[5:])).start()
                threading.Timer(0.3, lambda: server.send_signal(signal.SIGTERM)).start()
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
            assert server.wait(60) == 0
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", port), timeout=5)
        finally:
            server.kill()
