"""The parent of the workers: it starts them, starts them again when they die, and passes signals on."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, StateError
from .counters import Counters
from .guard import LOOPBACK
from .refusals import Limits
from .worker import DRAIN, Settings, listening

SILENT = 60.0  # seconds without a sign of life after which a worker is started anew
_PAUSE = 0.05  # between looks at the workers
_START = 120.0  # seconds in which a worker must be ready
_LONGEST = 10.0  # seconds until a worker that fails again and again is started once more
# The package as such imports torch, which files of ONNX do not need; its modules have only to be found.
_BOOT = """
import sys
from importlib import import_module, machinery, util
name, folder, with_torch = sys.argv[1:]
if with_torch == "no":
    spec = machinery.ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [folder]
    sys.modules[name] = util.module_from_spec(spec)
sys.exit(import_module(name + ".serve.worker").run(with_torch == "yes"))
"""


@dataclass
class Server:
    """Workers that serve models, a process each.

    Args:
        files: the model file of each name.
        host: the address to listen on; any but the machine's own wants a `token`, or `open`.
        port: 0 takes a free one, which `port` then is.
        workers: how many processes; each uses one core.
        limits: of what a request may cost.
        host_names: names beside its own by which the server may be asked.
        token: what callers send as "Authorization: Bearer ...".
        open: let everyone in who reaches it.
        log: write a line of JSON per request.

    Raises:
        ArgumentError: the address would let strangers in; StateError: a worker does not start.
    """

    files: Mapping[str, str | Path]
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    host_names: tuple[str, ...] = ()
    token: str | None = None
    open: bool = False
    log: bool = True

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ArgumentError(f"workers must be at least 1, got {self.workers}")
        if self.host not in LOOPBACK and self.token is None and not self.open:
            raise ArgumentError(
                f"{self.host} can be reached from elsewhere: give --token-file FILE, or --open to let everyone in"
            )
        self._stopping = threading.Event()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._spare: subprocess.Popen[bytes] | None = None  # has imported all, and waits to be told what to serve
        self._spared = -_LONGEST  # when it was started
        self._failed = [0] * self.workers
        self._began = [0.0] * self.workers
        self._due: dict[int, float] = {}  # when a worker that failed is started anew

    @property
    def _hosts(self) -> list[str] | None:
        return None if self.open and not self.host_names else [*LOOPBACK, self.host, *self.host_names]

    def start(self) -> None:
        """Start the workers, and return when all of them are ready."""
        try:
            listening(self.host, self.port, shared=False).close()  # else another server of ours would share the port
            self._socket = listening(self.host, self.port)
        except (OSError, OverflowError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            raise StateError(f"{self.host}:{self.port} cannot be listened on: {said}") from error
        self.port = self._socket.getsockname()[1]
        if sys.platform != "linux":  # elsewhere the system does not deal out connections: one socket for all
            self._socket.listen(2048)
        self._counters = self._shared_counters()
        self._processes = [self._spawn(row) for row in range(self.workers)]
        until = time.monotonic() + _START
        while not self._are_ready:
            dead = [p.poll() for p in self._processes if p.poll() is not None]
            if self._stopping.is_set():  # a signal came before they were ready
                return
            if dead or time.monotonic() > until:
                self.stop()
                raise StateError(
                    f"a worker did not start ({f'it ended with {dead[0]}' if dead else 'it took too long'})"
                )
            time.sleep(_PAUSE)

    def _shared_counters(self) -> Counters:
        """Counters in a file of a folder of our own, which the workers have, too."""
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="easylearn-serve-")
        except OSError as error:
            self._socket.close()
            raise StateError(f"there is no folder for temporary files: {error.strerror}; TMPDIR names one") from error
        self._path = Path(self._folder.name) / "counters"
        try:
            return Counters(self._path, self.workers)
        except StateError:
            self._socket.close()
            self._folder.cleanup()
            raise

    def _spawn(self, row: int) -> subprocess.Popen[bytes]:
        """A worker: the spare one, which needs a moment where a new one needs a second or two, or a new one."""
        said = Settings(
            {n: str(Path(p).resolve()) for n, p in self.files.items()}, self.host, self.port, asdict(self.limits),
            self._hosts, self.token, str(self._path), self.workers, row, self.log, os.getpid(), self._shared,
        )  # fmt: skip
        self._counters.set("ready", 0, row)
        self._counters.set("resident", 0, row)
        self._began[row] = time.monotonic()
        spare, self._spare = self._spare, None
        process = spare if spare is not None and spare.poll() is None else self._waiting()
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as pipe:  # not as an argument: others would see the token
            pipe.write(said.to_json().encode())
        return process

    @property
    def _are_ready(self) -> bool:
        return all(self._counters.get("ready", row) for row in range(self.workers))

    @property
    def _shared(self) -> int | None:
        """The socket that workers have together, where the system does not deal out connections among theirs."""
        return None if sys.platform == "linux" else self._socket.fileno()

    def _waiting(self) -> subprocess.Popen[bytes]:
        """A process that is ready to be told what to serve."""
        settings = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with_torch = any(Path(p).suffix.lower() != ".onnx" for p in self.files.values())
        name, here = str(__package__).partition(".")[0], str(Path(__file__).resolve().parents[1])
        command = [sys.executable, "-c", _BOOT, name, here, "yes" if with_torch else "no"]
        extra: dict[str, Any] = {} if self._shared is None else {"pass_fds": [self._shared]}
        return subprocess.Popen(command, env=settings, stdin=subprocess.PIPE, start_new_session=True, **extra)

    def watch(self) -> None:
        """Keep the workers alive until `stop`; one that dies or falls silent is started anew."""
        while not self._stopping.wait(_PAUSE):
            for row in range(self.workers):
                self._look_after(row)
            is_there = self._spare is not None and self._spare.poll() is None
            if not is_there and time.monotonic() > self._spared + _LONGEST and self._are_ready:
                self._spared = time.monotonic()
                with suppress(OSError):  # no process can be made now; the workers go on
                    self._spare = self._waiting()

    def _look_after(self, row: int) -> None:
        process, now = self._processes[row], time.monotonic()
        alive, ready = self._counters.get("alive", row), self._counters.get("ready", row)
        silent = now - max(alive, self._began[row]) > (SILENT if ready else _START)
        if process.poll() is None:
            if not silent:
                self._failed[row] = 0 if ready else self._failed[row]
                return
            process.kill()
            process.wait()
        if row not in self._due:
            if not ready:  # it never came so far: the file may be damaged by now
                self._failed[row] += 1
            self._due[row] = now + (min(0.1 * 2 ** self._failed[row], _LONGEST) if not ready else 0.0)
        if now < self._due[row]:
            return
        del self._due[row]
        print(f"easylearn: worker {row} ended ({process.returncode}) and is started anew", file=sys.stderr)
        self._counters.set("restarts", self._counters.get("restarts", row) + 1, row)
        try:
            self._processes[row] = self._spawn(row)
        except OSError as error:  # no process can be made now; the other workers go on
            print(f"easylearn: worker {row} cannot be started: {error.strerror}", file=sys.stderr)

    def reload(self) -> None:
        """Let every worker read its files again; one that is not ready does so anyway, and a signal would end it."""
        for row, process in enumerate(self._processes):
            if self._counters.get("ready", row):
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End the workers: what they are asked now is answered, nothing new is taken."""
        self._stopping.set()
        if self._spare is not None:
            self._spare.kill()
            self._spare.communicate()
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.terminate()
        until = time.monotonic() + DRAIN + 5
        for process in self._processes:
            try:
                process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._socket.close()
        self._folder.cleanup()

    def run(self) -> int:
        """Serve until SIGTERM or Ctrl-C; SIGHUP reads the files again."""
        for name in ("SIGTERM", "SIGINT"):
            signal.signal(getattr(signal, name), lambda *_: self._stopping.set())
        if sys.platform != "win32":
            signal.signal(signal.SIGHUP, lambda *_: self.reload())
        self.start()
        if self._stopping.is_set():
            self.stop()
            return 0
        shown = f"[{self.host}]" if ":" in self.host else self.host
        print(f"Serving {', '.join(self.files)} at http://{shown}:{self.port} by {self.workers} worker(s).", flush=True)
        try:
            self.watch()
        finally:
            self.stop()
        return 0


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(32)
