"""A server of several processes: it starts, answers, survives the death of a worker, reads new files, and ends."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from easylearn.cli import main
from easylearn.errors import ArgumentError, StateError
from easylearn.serve.app import Models
from easylearn.serve.command import token_of
from easylearn.serve.counters import Counters
from easylearn.serve.load import Plan, Result, measure, page, requests_of
from easylearn.serve.refusals import Limits
from easylearn.serve.worker import Settings, _look_around, listening
from easylearn.serve.worker import main as work
from easylearn.serve.workers import _BOOT, Server, new_token

ROOT = Path(__file__).parents[2]
ROW = {"a": 0.5, "b": "x", "c": 1.0}


def post(port: int, path: str = "/predict") -> object:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(ROW).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=100) as answer:
        return json.loads(answer.read())


def until(true, seconds: float = 100) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def model(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    shutil.copy(files / "table.onnx", path)
    return path


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    found = Server({"m": model}, port=0, workers=2, limits=Limits(deadline=4.0, max_wait=60), log=False)
    found.start()
    watching = threading.Thread(target=found.watch)
    watching.start()
    yield found
    found._stopping.set()
    watching.join()
    found.stop()
    assert all(p.poll() is not None for p in found._processes)


@pytest.mark.slow
def test_a_worker_that_dies_is_started_anew(server: Server) -> None:
    before = post(server.port)
    until(lambda: server._spare is not None)
    victim, spare = server._processes[0].pid, server._spare
    os.kill(victim, signal.SIGKILL)
    until(lambda: server._processes[0].pid != victim and server._counters.get("ready", 0))
    assert server._counters.total("restarts") == 1 and server._processes[0] is spare
    for _ in range(10):
        assert post(server.port) == before


@pytest.mark.slow
def test_a_new_file_is_read_and_a_damaged_one_is_not(server: Server, model: Path, files: Path) -> None:
    before = post(server.port)
    model.write_bytes(b"damaged")
    until(lambda: server._counters.total("reload errors") >= 2)
    assert post(server.port) == before
    shutil.copy(files / "table.onnx", model)
    server.reload()
    assert post(server.port) == before


@pytest.mark.slow
def test_half_a_head_and_silence_are_ended(server: Server) -> None:
    for said in (b"", b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            client.sendall(said)
            assert client.recv(1000).startswith(b"HTTP/1.1 408")
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:  # a second request on a connection
        client.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert client.recv(2000).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /v2")
        while b"408" not in (answer := client.recv(2000)):
            assert answer, "it ended without a word"


@pytest.mark.slow
def test_load_leaves_when_it_is_due(server: Server, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b,c\n1,x,2\n0,y,1\n")
    requests = requests_of(str(rows))
    result = asyncio.run(measure(Plan(f"http://127.0.0.1:{server.port}", str(rows), 40, 1.0), 40, requests))
    assert result.statuses == {"200": 40}
    assert 0 < result.percentile(50) <= result.percentile(99)
    assert "<svg" in page(Plan("http://h", "x", 1, 1), [result, Result(80, 1.0, [0.5], result.statuses)])
    command = ["load", f"http://127.0.0.1:{server.port}", str(rows), "--rate", "20", "--for", "500ms", "--report"]
    assert main([*command, str(tmp_path / "load.html")]) == 0
    assert "<table>" in (tmp_path / "load.html").read_text()


def test_strangers_are_not_let_in_by_mistake(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="--token-file"):
        Server({"m": files / "table.onnx"}, host="0.0.0.0")
    with pytest.raises(ArgumentError, match="workers"):
        Server({"m": files / "table.onnx"}, workers=0)
    secret = tmp_path / "token"
    secret.write_text(new_token())
    secret.chmod(0o644)
    with pytest.raises(ArgumentError, match="chmod 600"):
        token_of(str(secret))
    secret.chmod(0o600)
    assert len(token_of(str(secret)) or "") >= 32
    secret.write_text("short")
    with pytest.raises(ArgumentError, match="16"):
        token_of(str(secret))
    with pytest.raises(ArgumentError, match="cannot be read"):
        token_of(str(tmp_path / "absent"))


def test_a_model_that_cannot_be_served_ends_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"x")
    with pytest.raises(StateError, match="did not start"):
        Server({"m": tmp_path / "bad.onnx"}, port=0).start()
    assert "cannot be opened" in capfd.readouterr().err


def test_files_of_onnx_are_served_without_torch(files: Path) -> None:
    look = "print('torch' in sys.modules, 'onnxruntime' in sys.modules, file=sys.stderr)"
    code = _BOOT.replace("sys.exit(", f"import_module(name + '.serve.worker').preload(False)\n{look}\nsys.exit(")
    words = [sys.executable, "-c", code, "easylearn", str(ROOT / "easylearn"), "no"]
    done = subprocess.run(words, input="", capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert (done.returncode, done.stderr.split()) == (0, ["False", "True"]), done.stderr


def test_a_worker_ends_whose_parent_ended_before_it_could_ask() -> None:
    class Started:
        started, should_exit = True, False

    server = Started()
    asyncio.run(asyncio.wait_for(_look_around(os.getppid() + 1, server, Counters(None, 1)), 60))
    assert server.should_exit


class Dead:
    """A process that ended."""

    pid, returncode = 1, 1

    def poll(self) -> int:
        return 1


def test_a_worker_that_fails_again_keeps_nobody_waiting(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"m": files / "table.onnx"}, workers=2)
    server._counters = Counters(None, 2)
    server._processes = [Dead(), Dead()]  # type: ignore[list-item]
    server._failed = [9, 0]
    started: list[int] = []

    def spawn(row: int) -> Dead:
        started.append(row)
        return Dead()

    monkeypatch.setattr(server, "_spawn", spawn)
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    server._look_after(0)  # it failed nine times, and waits ten seconds
    server._look_after(1)
    assert started == []
    now += 0.3
    server._look_after(0)
    server._look_after(1)
    assert started == [1] and server._counters.total("restarts") == 1
    server._counters.set("alive", now, 0)
    server._counters.set("ready", 1, 0)  # one that was ready is started at once
    del server._due[0]
    server._look_after(0)
    assert started == [1, 0]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_a_worker_may_open_as_many_files_as_it_takes_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import resource

    limits, asked = asdict(Limits(max_connections=4000)), list[tuple[int, int]]()
    said = Settings(
        {"m": str(tmp_path / "absent.onnx")}, "127.0.0.1", 0, limits, None, None, str(tmp_path / "counters"), 1, 0,
        False, os.getppid(),
    )  # fmt: skip
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: asked.append(pair))
    for found in ((1024, 100_000), (1024, 2000), (1024, resource.RLIM_INFINITY), (9000, 9000)):
        monkeypatch.setattr(resource, "getrlimit", lambda which, found=found: found)
        assert work(said.to_json()) == 1 and "cannot be read" in capsys.readouterr().err
    assert asked == [(4100, 100_000), (2000, 2000), (4100, resource.RLIM_INFINITY)]
    assert not logging.getLogger("python_multipart.multipart").isEnabledFor(logging.WARNING)  # of damaged forms


def test_warnings_of_what_callers_send_are_not_kept(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    async def serve(said: Settings, models: Models, counters: Counters) -> None:
        for name in ("nix", "nox"):
            models.find("").engine.prepare({"history": [name]})

    monkeypatch.setattr("easylearn.serve.worker._serve", serve)
    said = Settings(
        {"m": str(files / "histories.easylearn")}, "127.0.0.1", 0, asdict(Limits()), None, None,
        str(tmp_path / "counters"), 1, 0, False, os.getppid(),
    )  # fmt: skip
    try:
        assert work(said.to_json()) == 0 and not [w for w in recwarn if "nix" in str(w.message)]
    finally:
        gc.unfreeze()


class Living:
    """A process that runs until it is killed; it has the signals that it was sent."""

    def __init__(self) -> None:
        self.pid, self.sent, self.stdin = 1, list[int](), io.BytesIO()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        self.sent.append(number)

    def kill(self) -> None:
        self.returncode = -9

    def wait(self) -> int | None:
        return self.returncode


@pytest.mark.parametrize("lives", [True, False])
def test_a_spare_process_that_died_takes_no_place(files: Path, monkeypatch: pytest.MonkeyPatch, lives: bool) -> None:
    server = Server({"m": files / "table.onnx"})
    server._path, server._counters = Path("counters"), Counters(None, 1)
    spare, fresh = Living(), Living()
    spare.returncode = None if lives else -9
    server._spare = spare  # type: ignore[assignment]
    monkeypatch.setattr(server, "_waiting", lambda: fresh)
    assert server._spawn(0) is (spare if lives else fresh) and server._spare is None  # type: ignore[comparison-overlap]


def test_only_workers_that_are_ready_are_told_of_new_files(files: Path) -> None:
    """Before it serves, a worker has no handler, and SIGHUP ends it."""
    server = Server({"m": files / "table.onnx"}, workers=2)
    server.reload()  # a signal may come before there are workers
    server._counters = Counters(None, 2)
    starting, ready = Living(), Living()
    server._processes = [starting, ready]  # type: ignore[list-item]
    server._counters.set("ready", 1, 1)
    server.reload()
    assert (starting.sent, ready.sent) == ([], [signal.SIGHUP])


def test_a_worker_that_never_gets_ready_is_started_anew(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"m": files / "table.onnx"})
    server._counters = Counters(None, 1)
    hung, fresh = Living(), Living()
    server._processes = [hung]  # type: ignore[list-item]
    monkeypatch.setattr(server, "_spawn", lambda row: fresh)
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    server._began[0] = now - 100
    server._look_after(0)
    assert hung.returncode is None  # it may load something large
    now += 30
    server._look_after(0)
    assert hung.returncode == -9 and server._processes[0] is hung  # it failed once, and waits a moment
    now += 1
    server._look_after(0)
    assert server._processes[0] is fresh  # type: ignore[comparison-overlap]


def test_where_no_process_can_be_made_the_others_go_on(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server({"m": files / "table.onnx"}, workers=2)
    server._path, server._counters, living = Path("counters"), Counters(None, 2), Living()
    server._processes = [living, living]  # type: ignore[list-item]
    for row in range(2):
        server._counters.set("ready", 1, row)
        server._counters.set("alive", time.monotonic(), row)
    tried = 0

    def refuse(*given: object, **more: object) -> None:
        nonlocal tried
        tried += 1
        if tried == 1:  # the spare one; now one that serves dies, too
            server._processes[0] = Dead()  # type: ignore[call-overload]
        if tried == 3:
            server._stopping.set()
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    server.watch()
    assert tried == 3 and living.returncode is None
    assert capsys.readouterr().err.count("cannot be started: Resource temporarily unavailable") == 2


def test_a_port_that_is_taken_is_told(files: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(StateError, match="cannot be listened on"):
            Server({"m": files / "table.onnx"}, port=other.getsockname()[1]).start()


def test_two_servers_do_not_share_a_port(files: Path) -> None:
    with listening("127.0.0.1", 0) as worker:  # of the first one
        worker.listen()
        with pytest.raises(StateError, match="cannot be listened on"):
            Server({"m": files / "table.onnx"}, port=worker.getsockname()[1]).start()
    with pytest.raises(StateError, match="99999 cannot be listened on"):
        Server({"m": files / "table.onnx"}, port=99999).start()


def test_a_signal_ends_a_server_that_is_not_ready(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easylearn.serve.workers._BOOT", "import time; time.sleep(300)")  # it never is
    server = Server({"m": files / "table.onnx"}, port=0, log=False)
    server._stopping.set()
    server.start()
    assert not server._counters.get("ready", 0)
    server.stop()
    assert all(p.poll() is not None for p in server._processes)


def test_what_a_command_line_says_is_checked(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(files / "table.onnx")
    for given, named in (
        (["serve", table, "--max-body", "ten"], "10MB"), (["serve", table, table], "two models"),
        (["serve", table, "--max-wait", "0s"], "1s"), (["serve", table, "--max-items", "0"], "max_items"),
        (["serve", table, "--max-pixels", "nan"], "max_pixels"), (["load", "example.org", table], "http://"),
        (["load", "http://127.0.0.1:1", str(tmp_path)], "no image"),
        (["load", "http://127.0.0.1:1", table, "--rate", "0"], "rate"),
        (["load", "http://127.0.0.1:1", table, "--rate", "inf"], "rate"),
        (["build", str(tmp_path / "x.onnx"), "--out", str(tmp_path / "o")], "cannot be read"),
    ):  # fmt: skip
        assert main(given) == 1
        assert named in capsys.readouterr().err


def test_build_writes_what_a_container_needs(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, needs in (("table.onnx", "easylearn-runtime"), ("table.easylearn", "easylearn[serve]")):
        out = tmp_path / name.replace(".", "-")
        assert main(["build", str(files / name), "--out", str(out)]) == 0
        assert "docker build" in capsys.readouterr().out
        assert (out / "requirements.txt").read_text() == needs + "\n"
        assert name in (out / "Dockerfile").read_text()
        assert (out / name).read_bytes() == (files / name).read_bytes()
