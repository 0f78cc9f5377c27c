"""Uvicorn's server, with doors that are wide enough.

The loop of uvloop takes one connection a turn, however many wait (libuv since 1.45). In a turn it reads all that the
connections there have sent; so where requests come faster than they can be answered, new connections waited for
seconds, and nobody refused them, for nobody had read them.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import uvicorn

_AT_ONCE = 512  # connections that are taken in a turn
_PAUSE = 0.1  # seconds until connections are taken again, after the process had no file left for one


class Doors(uvicorn.Server):  # type: ignore[misc]
    """A server of one socket, to which connections come.

    Args:
        config: as uvicorn wants it.
        sock: bound, not listening yet.
    """

    def __init__(self, config: Any, sock: socket.socket) -> None:
        super().__init__(config)
        self._sock, self._loop = sock, asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: Any = None) -> None:
        """Called by uvicorn when the application is ready."""
        self._sock.setblocking(False)
        self._sock.listen(self.config.backlog)
        await super().startup(sockets=[])
        self._loop.add_reader(self._sock, self._take)

    async def shutdown(self, sockets: Any = None) -> None:
        """Called by uvicorn when it is to end: what is under way is answered, nothing new is taken."""
        self._loop.remove_reader(self._sock)
        self._sock.close()
        if self._opening:  # what is opened later would not hear that it is to end, and all would wait for it
            await asyncio.wait(self._opening)
        await super().shutdown(sockets=[])

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no file is left
                self._loop.remove_reader(self._sock)
                self._loop.call_later(_PAUSE, self._again)
                return
            task = self._loop.create_task(self._open(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _again(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock, self._take)

    async def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with suppress(OSError):  # it left again
            await self._loop.connect_accepted_socket(self._made, connection)

    def _made(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        made: asyncio.Protocol = kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        return made
