"""Uvicorn's protocols with what they lack: a time for a request to come, a limit of connections, and a short way.

The short way: a small request that a quick model is free for is answered where its last byte is read. No task is made,
no message of ASGI is passed on, and nothing waits, which is most of what such a request costs otherwise. And where the
server is behind, an ordinary request is refused before it is parsed, for that takes longer than saying no.
"""

from __future__ import annotations

import asyncio
import functools
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from .exchange import by_name
from .refusals import Limits

AtOnce = Callable[[str, Mapping[bytes, bytes], bytes, str], bytes | None]
Behind = Callable[[], bool]  # whether others are before whoever asks now
Refused = Callable[[], bytes]  # what to say then, to one of them
Counted = Callable[[int, float], None]  # of a status, after some seconds
KEPT = 20.0  # seconds that a connection is kept open without a request
_LAST = 1.0  # seconds for a client to read that there are too many
_SMALL = 16 * 1024  # bytes of a body that may go the short way
_PLAIN_HEAD = 4096  # bytes of a head that may be refused unread
_HEAD = 64 * 1024  # bytes of a head, and of what else comes without a byte of a body: httptools keeps any number
_PLAIN = re.compile(
    rb"POST /(?:predict(?:/[^\s?%/]+)?|v2/models/[^\s?%/]+/infer) HTTP/1\.1\r\n"
    rb"(?i:(?!expect|transfer-encoding|upgrade|connection(?!: *keep-alive\r))[\w-]+:[^\r\n\0]*\r\n)+"
)
_SHORT = re.compile(rb"/predict[!\"$&->@-~]*")  # paths that are what they look like: without ? % or #, and in ASCII
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*(\d{0,9})(\r)?", re.IGNORECASE)
_INVALID = "Invalid HTTP request received."
_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"


class _Limited(asyncio.Protocol):
    """What stands in front of a protocol of uvicorn's, whose attributes it reads.

    Uvicorn itself waits for ever for the second half of a head, and for a client that connects and says nothing; a
    thousand of them hold a thousand sockets. The time counts from the first byte of a request, or from the connection,
    and no further byte prolongs it. It waits for ever, too, for a client that does not read its answer; here the
    connection ends when nothing was read for as long, or it was the first of so many that memory would be full of them.
    """

    limits: Limits
    counted: Counted
    cycle: Any
    connections: set[Any]
    unread: dict[_Limited, None]  # of all connections those whose answers wait to be read, in the order of time
    loop: asyncio.AbstractEventLoop
    transport: Any
    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None  # where an answer is longer than what the client reads of it
    _until = math.inf  # when the time is over
    _is_resting = False  # nothing of a request has come yet since the last one was answered, or is being answered
    _is_over = False  # it was one too many
    _is_answered = False  # the short way, since data came
    _is_between = True  # the parser has seen the end of a request, and nothing of another one
    _is_begun = False  # the parser has seen the head of a request, which has become the `cycle`

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._is_over = True
            self.connections.discard(self)
            self._refuse(503, _FULL)
            self.transport.write_eof()  # closed with unread bytes of a request, it would not tell them why
            self._timer = self.loop.call_later(_LAST, self.transport.close)
            return
        self._until = self.loop.time() + self.limits.deadline
        self._look()

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        if self._is_resting:
            self._is_resting, self._until = False, self.loop.time() + self.limits.deadline
        self._feed(data)
        is_answered, self._is_answered = self._is_answered, False
        if self._is_busy:  # also where one that came with it was answered at once
            self._is_resting, self._until = True, math.inf  # uvicorn counts from the answer
        elif is_answered:  # some of the next one may have come with it
            self._is_resting = self._is_between
            self._until = self.loop.time() + (KEPT if self._is_between else self.limits.deadline)

    def _feed(self, data: bytes) -> None:
        super().data_received(data)

    def _refuse(self, status: int, said: bytes, seconds: float = 0.0) -> None:
        self.transport.write(said)
        type(self).counted(status, seconds)

    @property
    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_told(self) -> bool:
        """Whether the request that comes was answered already: it was refused by its head, and its body still comes."""
        return self._is_begun and not self._is_busy

    def pause_writing(self) -> None:
        super().pause_writing()
        self.unread[self] = None
        self._wait_for_reader(math.inf)
        held = sum(each.transport.get_write_buffer_size() for each in self.unread)
        while held > self.limits.together and len(self.unread) > 1:
            first = next(iter(self.unread))
            held -= first.transport.get_write_buffer_size()
            del self.unread[first]
            first.transport.abort()

    def resume_writing(self) -> None:
        self.unread.pop(self, None)
        if self._unread is not None and not self.transport.is_closing():
            self._unread.cancel()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._unread):
            if timer is not None:
                timer.cancel()
        self.unread.pop(self, None)
        super().connection_lost(exc)

    def _wait_for_reader(self, before: float) -> None:
        """End the connection where no byte of an answer was read since `before` bytes of it were left."""
        if self._unread is not None:
            self._unread.cancel()
        left = self.transport.get_write_buffer_size()
        if left >= before:
            self.transport.abort()
        else:
            self._unread = self.loop.call_later(self.limits.deadline, self._wait_for_reader, left)

    def _look(self) -> None:
        """Whether the time is over; looked at seldom, for a timer of each request would cost more than the look."""
        left = self._until - self.loop.time()
        if left > 0 and not self.transport.is_closing():
            self._timer = self.loop.call_later(min(left, self.limits.deadline), self._look)
            return
        if not self.transport.is_closing():
            if not self._is_resting and not self._is_told:
                self._refuse(408, _LATE, self.limits.deadline)
            self.transport.close()
        self._wait_for_reader(math.inf)  # what was written goes out first, if it is read


class _Short(_Limited):
    """The short way, in front of the protocol by httptools."""

    at_once: AtOnce
    is_behind: Behind
    refused: Refused
    headers: list[tuple[bytes, bytes]]
    client: tuple[str, int] | None
    expect_100_continue: bool
    flow: Any
    parser: Any
    url: bytes
    _unset_keepalive_if_required: Callable[[], None]
    send_400_response: Callable[[str], None]
    _held: bytearray | None = None  # the body so far, of a request that may go the short way
    _quiet = 0  # bytes since a head began, or since a piece of a body

    def data_received(self, data: bytes) -> None:
        if self._is_between and type(self).is_behind() and self._is_refused(data):
            return
        self._quiet += len(data)
        super().data_received(data)
        if self._quiet > _HEAD and not self._is_over and not self.transport.is_closing():
            if not self._is_busy:
                self._refuse(431, _LONG)
            self.transport.close()

    def _is_refused(self, data: bytes) -> bool:
        """Whether a request was refused unread: a whole one, with nothing out of the ordinary and none before it."""
        if self._is_over or self._is_busy or self.flow.write_paused or self.transport.is_closing():
            return False
        end = data.find(b"\r\n\r\n", 0, _PLAIN_HEAD)
        if end < 0 or len(data) - end - 4 != _announced(data[: end + 2]):
            return False
        self._unset_keepalive_if_required()  # else uvicorn ends the connection some time after its last answer
        self._is_resting, self._until = True, self.loop.time() + KEPT
        self.transport.write(type(self).refused())
        return True

    def _feed(self, data: bytes) -> None:
        """As uvicorn does it, but for requests that would rather speak another protocol (h2c, of some clients each).

        What follows the head of such a one its parser takes for that protocol: the body is lost, or read as a request
        of its own, whose answer goes to who asked for something else. So its head is parsed again, without the wish.
        """
        import httptools

        self._unset_keepalive_if_required()
        while True:
            try:
                return self.parser.feed_data(data)  # type: ignore[no-any-return]
            except httptools.HttpParserUpgrade as wish:
                if self.parser.get_method() == b"CONNECT":  # to be a tunnel
                    return self.send_400_response(_INVALID)
                data = self._head_without_upgrade() + data[wish.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                with suppress(AttributeError):  # of an older httptools; as uvicorn has it
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            except httptools.HttpParserError:
                return self.send_400_response(_INVALID)

    def _head_without_upgrade(self) -> bytes:
        first = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        lines = [b"%s: %s" % pair for pair in self.headers if pair[0] != b"upgrade"]
        return b"\r\n".join([first, *lines, b"", b""])

    def on_message_begin(self) -> None:
        self._quiet, self._is_between, self._is_begun = 0, False, False
        super().on_message_begin()  # type: ignore[misc]

    def on_headers_complete(self) -> None:
        self._quiet = 0
        if self.parser.should_upgrade():
            return
        if self._may_be_short():
            self._held = bytearray()
        else:
            self._begin()

    def _begin(self) -> None:
        super().on_headers_complete()  # type: ignore[misc]
        self._is_begun = True
        if self.expect_100_continue:  # refused, a client may leave the body out; its next request would be taken for it
            self.cycle.keep_alive = False

    def _may_be_short(self) -> bool:
        if self._is_answered:  # one in a turn of the loop: others wait, too
            return False
        if not _SHORT.fullmatch(self.url) or self.expect_100_continue:
            return False
        parser = self.parser
        if (
            self._is_busy
            or self.flow.write_paused
            or parser.get_method() != b"POST"
            or parser.get_http_version() != "1.1"
        ):
            return False
        if not parser.should_keep_alive():
            return False
        length = dict(self.headers).get(b"content-length", b"")  # the parser takes one alone
        return length.isdigit() and int(length) <= _SMALL

    def on_body(self, body: bytes) -> None:
        self._quiet = 0
        if self._held is None:
            super().on_body(body)  # type: ignore[misc]
        else:
            self._held += body

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return None
        self._is_between = True
        self._is_answered |= self._is_told  # the connection rests from here on
        if self._held is None:
            return super().on_message_complete()  # type: ignore[misc,no-any-return]
        client = self.client[0] if self.client else ""
        said = type(self).at_once(self.url.decode("latin-1"), by_name(self.headers), bytes(self._held), client)
        if said is None:
            self._go_on()
            return super().on_message_complete()  # type: ignore[misc,no-any-return]
        self._held, self._is_answered = None, True
        self.transport.write(said)
        return None

    def shutdown(self) -> None:
        if self._held is not None:  # half of a body is there: the other half may come
            self._go_on()
        super().shutdown()  # type: ignore[misc]

    def _go_on(self) -> None:
        """Give uvicorn what is there so far."""
        held, self._held = bytes(self._held or b""), None
        self._begin()
        if held:
            super().on_body(held)  # type: ignore[misc]


@functools.lru_cache(256)
def _announced(head: bytes) -> int | None:
    """How many bytes follow the head of a request for a prediction, if it has nothing out of the ordinary."""
    lengths = _LENGTH.findall(head) if _PLAIN.fullmatch(head) else []
    return int(lengths[0][0]) if len(lengths) == 1 and all(lengths[0]) else None


def protocol(
    limits: Limits, at_once: AtOnce, is_behind: Behind, refused: Refused, counted: Counted
) -> type[asyncio.Protocol]:
    """The quicker one of uvicorn's HTTP protocols that is there, with our limits; by httptools with the short way."""
    base: Any
    given: dict[str, Any] = {"limits": limits, "counted": staticmethod(counted), "unread": {}}
    try:
        from uvicorn.protocols.http import httptools_impl

        base = httptools_impl.HttpToolsProtocol
    except ImportError:
        from uvicorn.protocols.http import h11_impl

        return type("Limited", (_Limited, h11_impl.H11Protocol), given)
    more: dict[str, Callable[..., Any]] = {"at_once": at_once, "is_behind": is_behind, "refused": refused}
    return type("Short", (_Short, base), {**given, **{name: staticmethod(act) for name, act in more.items()}})
