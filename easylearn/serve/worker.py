"""One serving process. Its parent, a `Server`, tells it all on standard input, which may be long after it began."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import EasyLearnError, EasyLearnWarning
from .app import Models, asgi
from .counters import Counters
from .refusals import Limits

_OTHERS = 100  # files beside connections
DRAIN = 30  # seconds that requests have to end after SIGTERM


@dataclass(frozen=True)
class Settings:
    """What a worker is told: models by name, where to listen, limits, which row of the counters is its own, and the id
    of its parent, which may end before the worker could ask for it.
    """

    files: dict[str, str]
    host: str
    port: int
    limits: dict[str, Any]
    hosts: list[str] | None
    token: str | None
    counters: str
    rows: int
    row: int
    log: bool
    parent: int
    fd: int | None = None

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))


def listening(host: str, port: int, shared: bool = True) -> socket.socket:
    """A socket of our own; `shared` lets others have the port too, among whom connections are dealt out."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: asyncio sends small answers at once (TCP_NODELAY) over such alone, others wait 40 ms.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared and sys.platform == "linux":
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        found.bind((host, port))
    except (OSError, OverflowError):
        found.close()
        raise
    return found


async def _look_around(parent: int, server: Any, counters: Counters) -> None:
    """Say when the server listens; end when the parent does, however it ended."""
    while not server.started:
        await asyncio.sleep(0.005)
    counters.set("ready", 1)
    while os.getppid() == parent or sys.platform == "win32":  # there the id stays
        await asyncio.sleep(1)
    server.should_exit = True


def allow_files(n: int) -> None:
    """Let this process open so many files, as far as the system does: connections are files, and 1024 are usual."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # which Windows lacks, as it does the limit

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = n if hard == resource.RLIM_INFINITY else min(n, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def preload(with_torch: bool) -> None:
    """Import what serving takes, which is most of the time that a worker needs to start."""
    names = ["numpy", "onnxruntime", "PIL.Image", "uvicorn.protocols.http.httptools_impl", "uvloop", "python_multipart"]
    for name in [*names, *(f"{__package__}.{name}" for name in ("pixels", "sentences", "protocol", "doors"))]:
        with suppress(ImportError):
            import_module(name)
    if with_torch:
        from .torch_engine import preload_torch

        preload_torch()


def main(given: str) -> int:
    """Serve until a signal ends it; 1 where a model cannot be served."""
    said = Settings(**json.loads(given))
    logging.basicConfig(level=logging.INFO if said.log else logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # else each damaged form writes a line of its own
    limits = Limits(**said.limits)
    allow_files(limits.max_connections + _OTHERS)
    try:
        counters = Counters(Path(said.counters), said.rows, said.row)
        models = Models({name: Path(p) for name, p in said.files.items()}, limits)
    except (EasyLearnError, OSError) as error:
        print(f"easylearn: {error}", file=sys.stderr)
        return 1
    warnings.simplefilter("ignore", EasyLearnWarning)  # of items: each would be printed, and its text kept for ever
    gc.collect()
    gc.freeze()  # what is there stays, and no collection looks at it again, which took a tenth of a second with torch
    run_loop: Any = asyncio.run
    with suppress(ImportError):
        import uvloop  # quicker

        run_loop = uvloop.run
    run_loop(_serve(said, models, counters))
    return 0


async def _serve(said: Settings, models: Models, counters: Counters) -> None:
    import uvicorn

    from .doors import Doors
    from .protocol import KEPT, protocol

    limits, loop = models.limits, asyncio.get_running_loop()
    app = asgi(models, limits=limits, hosts=said.hosts, token=said.token, counters=counters)
    config = uvicorn.Config(
        app, http=protocol(limits, app.at_once, app.is_behind, app.refused, counters.observe), ws="none",
        lifespan="on", log_config=None, access_log=False, server_header=False, date_header=False, backlog=2048,
        timeout_keep_alive=int(KEPT), timeout_graceful_shutdown=DRAIN, h11_max_incomplete_event_size=64 * 1024,
        proxy_headers=False,
    )  # fmt: skip
    sock = listening(said.host, said.port) if said.fd is None else socket.socket(fileno=said.fd)
    server = Doors(config, sock)
    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, models.reload, counters))
    counters.beat()
    looking = asyncio.create_task(_look_around(said.parent, server, counters))
    try:
        await server.serve()
    finally:
        looking.cancel()
        counters.set("ready", 0)


def run(with_torch: bool) -> int:
    """Be a worker: import, wait to be told what to serve, and serve it; 0 where the parent ends without a word."""
    preload(with_torch)
    given = sys.stdin.read()
    return main(given) if given else 0
