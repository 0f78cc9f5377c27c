"""One serving process, `python -m easylearn.serve.worker`: its parent, a `Server`, tells it all on standard input."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import EasyLearnError
from .app import Models, asgi
from .counters import Counters
from .refusals import Limits

DRAIN = 30  # seconds that requests have to end after SIGTERM


@dataclass(frozen=True)
class Settings:
    """What a worker is told: models by name, where to listen, limits, and which row of the counters is its own."""

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


async def _end_with(parent: int, server: Any) -> None:
    """End when the parent does, however it ended."""
    while os.getppid() == parent:
        await asyncio.sleep(1)
    server.should_exit = True


def main(given: str) -> int:
    """Serve until a signal ends it; 1 where a model cannot be served."""
    import uvicorn

    from .protocol import protocol

    said = Settings(**json.loads(given))
    logging.basicConfig(level=logging.INFO if said.log else logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    limits = Limits(**said.limits)
    counters = Counters(Path(said.counters), said.rows, said.row)
    try:
        models = Models({name: Path(p) for name, p in said.files.items()}, limits)
    except (EasyLearnError, OSError) as error:
        print(f"easylearn: {error}", file=sys.stderr)
        return 1
    app = asgi(models, limits=limits, hosts=said.hosts, token=said.token, counters=counters)
    config = uvicorn.Config(
        app, http=protocol(limits.deadline), ws="none", lifespan="on", log_config=None, access_log=False,
        server_header=False, date_header=False, timeout_keep_alive=20, timeout_graceful_shutdown=DRAIN, backlog=2048,
        h11_max_incomplete_event_size=64 * 1024, proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    sock = listening(said.host, said.port) if said.fd is None else socket.socket(fileno=said.fd)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        if sys.platform != "win32":
            loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, models.reload, counters))
        counters.beat()
        counters.set("ready", 1)
        orphan = asyncio.create_task(_end_with(os.getppid(), server))
        try:
            await server.serve(sockets=[sock])
        finally:
            orphan.cancel()
            counters.set("ready", 0)

    run_loop: Any = asyncio.run
    with suppress(ImportError):
        import uvloop  # quicker

        run_loop = uvloop.run
    run_loop(run())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin.read()))
