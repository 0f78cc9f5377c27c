"""A loop with a time of its own, which passes only while nothing happens: a busy machine changes no test's outcome."""

from __future__ import annotations

import asyncio
import selectors
import socket
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")
_ON_ITS_WAY = 0.01  # seconds in which what one socket sent reaches another one of this machine


class Wire:
    """Two ends of a connection within this machine: what was sent before over others is there when its byte is."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as door:
            self._here = socket.create_connection(door.getsockname())
            self._there, _ = door.accept()

    def wait(self) -> None:
        """Wait until what was sent has arrived, which a busy system may leave for later."""
        self._here.sendall(b"x")
        assert self._there.recv(1) == b"x"

    def close(self) -> None:
        self._here.close()
        self._there.close()


class _Selector(selectors.DefaultSelector):
    """Where nothing is to be read or written it does not wait, but lets the time pass at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self._wire = 1000.0, Wire()

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found and (timeout is None or timeout > 0):
            self._wire.wait()
            found = super().select(_ON_ITS_WAY)
            if not found and timeout is not None:
                self.now += timeout
        return found

    def close(self) -> None:
        self._wire.close()
        super().close()


def run(main: Coroutine[Any, Any, T]) -> T:
    """What `asyncio.run` gives, by that time, which `time.perf_counter` tells, too; no thread may be waited for."""
    selector = _Selector()
    loop = asyncio.SelectorEventLoop(selector)
    now = lambda: selector.now  # noqa: E731
    with mock.patch.object(loop, "time", now), mock.patch.object(time, "perf_counter", now):
        try:
            return loop.run_until_complete(main)
        finally:
            loop.run_until_complete(_end(asyncio.all_tasks(loop)))
            loop.close()


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
