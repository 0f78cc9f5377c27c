"""All connections that wait are taken in a turn of the loop, also by uvloop, also after there was no file for one."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

uvicorn = pytest.importorskip("uvicorn")

from easylearn.serve.doors import Doors  # noqa: E402
from easylearn.serve.worker import listening  # noqa: E402
from tests.serve.clock import Wire  # noqa: E402


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def begun() -> tuple[Doors, int]:
    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None)
    config.load()
    sock = listening("127.0.0.1", 0)
    server = Doors(config, sock)
    server.lifespan = config.lifespan_class(config)
    port = sock.getsockname()[1]
    await server.startup()
    return server, port


def connected(port: int, n: int) -> list[socket.socket]:
    """Connections of which the server's side knows, too."""
    some, wire = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(n)], Wire()
    wire.wait()
    wire.close()
    return some


async def opened(act: Callable[[Doors, int], Awaitable[None]]) -> None:
    server, port = await begun()
    await asyncio.wait_for(act(server, port), 60)
    await server.shutdown()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 5)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_none_of_many_waits_for_the_others(loop: str) -> None:
    run = asyncio.run if loop == "asyncio" else pytest.importorskip("uvloop").run

    async def act(server: Doors, port: int) -> None:
        some = connected(port, 100)
        for _ in range(8):
            await asyncio.sleep(0)
        assert len(server.server_state.connections) == 100
        some[99].sendall(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        some[99].setblocking(False)
        answer = await asyncio.get_running_loop().sock_recv(some[99], 1000)
        assert answer.startswith(b"HTTP/1.1 200")
        for each in some:
            each.close()
        while server.server_state.connections:
            await asyncio.sleep(0.01)

    run(opened(act))


def test_connections_that_are_being_opened_end_with_the_server() -> None:
    async def run() -> None:
        server, port = await begun()
        some = connected(port, 5)
        server._take()
        assert len(server._opening) == 5
        await asyncio.wait_for(server.shutdown(), 60)
        assert not server.server_state.connections
        for each in some:
            assert each.recv(10) == b""
            each.close()

    asyncio.run(run())


def test_where_no_file_is_left_for_a_connection_it_is_taken_later() -> None:
    class Full:
        """A listening socket of a process that has no file left, twice."""

        def __init__(self, real: socket.socket) -> None:
            self.real, self.times = real, 0
            self.fileno, self.close = real.fileno, real.close

        def accept(self) -> Any:
            self.times += 1
            if self.times <= 2:
                raise OSError(errno.EMFILE, "Too many open files")
            return self.real.accept()

    async def act(server: Doors, port: int) -> None:
        server._sock = full = Full(server._sock)  # type: ignore[assignment]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        while not server.server_state.connections:
            await asyncio.sleep(0.01)
        assert full.times == 4  # twice none, one, and no more
        writer.close()
        while server.server_state.connections:
            await asyncio.sleep(0.01)

    asyncio.run(opened(act))
