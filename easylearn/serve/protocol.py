"""Uvicorn's protocols with what they lack: a time in which a request's head must have come."""

from __future__ import annotations

import asyncio
from typing import Any


class _WithDeadline(asyncio.Protocol):
    """What stands in front of a protocol of uvicorn's, whose attributes it reads."""

    deadline: float
    cycle: Any
    loop: asyncio.AbstractEventLoop
    transport: Any
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before or (self.cycle is not None and not self.cycle.response_complete):
            self._disarm()
        else:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.deadline, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()


def protocol(deadline: float) -> type[asyncio.Protocol]:
    """The quicker one of uvicorn's HTTP protocols that is there, with a deadline in seconds for the head of a request.

    Uvicorn itself waits for ever for the second half of a head, and for a client that connects and says nothing; a
    thousand of them hold a thousand sockets. The time counts from the first byte of a request, or from the connection,
    and no further byte prolongs it.
    """
    base: Any
    try:
        from uvicorn.protocols.http import httptools_impl

        base = httptools_impl.HttpToolsProtocol
    except ImportError:
        from uvicorn.protocols.http import h11_impl

        base = h11_impl.H11Protocol
    return type("WithDeadline", (_WithDeadline, base), {"deadline": deadline})
