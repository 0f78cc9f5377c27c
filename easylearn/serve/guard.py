"""What stands in front of every route: who may ask, how much and how slowly; ids, log and counters."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import logging
import sys
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Protocol
from urllib.parse import urlsplit

from .counters import Counters
from .exchange import Answer, Message, Receive, Request, Scope, Send, by_name, refusal
from .refusals import Limits, RefusedError, behind

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_FREE = ("/v2/health/", "/page.")  # asked for without a token; so is the page itself
_LOGGED = 200  # letters of a path in a line of the log
log = logging.getLogger("easylearn.serve")


class Service(Protocol):
    """What is guarded."""

    async def answer(self, request: Request) -> Answer:
        """The answer to a request."""

    def at_once(self, path: str, content_type: str, body: bytes) -> Answer | None:
        """The answer to a POST, if it needs no waiting."""

    def is_behind(self) -> bool:
        """Whether a request that comes now would have to wait too long."""

    def begin(self) -> None:
        """Called when a loop begins, and before each request: a mounted application is not told of the first."""

    def end(self) -> None:
        """Called when the loop ends."""


class Guard:
    """An ASGI application around a service, which it protects.

    Args:
        service: what answers.
        limits: of bodies and times.
        counters: what is counted into.
        hosts: names that the header Host may have; None takes any (a proxy in front checks it).
        token: what a caller has to send as "Authorization: Bearer ...", but for health; None asks for none.
    """

    def __init__(
        self, service: Service, limits: Limits, counters: Counters, hosts: Collection[str] | None, token: str | None
    ) -> None:
        self._service, self._limits, self._counters = service, limits, counters
        self._hosts = None if hosts is None else {h.lower() for h in hosts}
        self._token = token
        self._held = 0  # bytes of bodies
        self._refused, self._refusal = 0, ("", b"")  # in this turn: how many, under which id and in which words
        first = uuid.uuid4().hex[:10]
        self._ids = (f"{first}{n:06x}" for n in itertools.count())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close"})
        self._service.begin()
        began, headers = time.perf_counter(), by_name(scope["headers"])
        request_id, answer, body = self._id(headers), None, _Body(receive, began, self._limits, self._hold)
        path = scope["path"].removeprefix(scope.get("root_path", ""))  # of where we are mounted
        try:
            self._admit(path, headers)
            answer = await self._service.answer(Request(scope["method"], path, headers, body.receive))
        except RefusedError as refused:
            answer = refusal(refused, request_id)
        except (asyncio.CancelledError, GoneError):
            pass
        except Exception:
            log.exception("request %s failed", request_id)  # the caller learns the id and no more
            answer = refusal(RefusedError(500, "the server failed; its log says why, under this id"), request_id)
        finally:
            self._held -= body.seen
        if answer is not None:
            with suppress(OSError):  # the client left meanwhile
                await answer.send(send, request_id)
        where = ((scope.get("client") or ("",))[0], scope["method"], scope["path"])
        self._count(request_id, 499 if answer is None else answer.status, began, where)

    def at_once(self, path: str, headers: Mapping[bytes, bytes], body: bytes, client: str) -> bytes | None:
        """What to write for a POST that needs no waiting; None where it has to go the long way."""
        began, request_id = time.perf_counter(), self._id(headers)
        try:
            self._admit(path, headers)
            answer = self._service.at_once(path, headers.get(b"content-type", b"").decode("latin-1"), body)
        except RefusedError as refused:
            if "connection" in refused.headers:  # which is to be closed
                return None
            answer = refusal(refused, request_id)
        except Exception:  # the long way meets it, too, and tells
            return None
        if answer is None:
            return None
        self._count(request_id, answer.status, began, (client, "POST", path))
        return answer.raw(request_id)

    def is_behind(self) -> bool:
        """Whether whoever asks for a prediction now is to be `refused`."""
        return self._service.is_behind()

    def refused(self) -> bytes:
        """What to write to one who asks for a prediction where the server is behind.

        It is the same for all of a turn, with one id, and they are counted, and logged in a line, when the turn ends.
        Nobody's token is asked for, for nothing is told that it would have to guard.
        """
        if not self._refused:
            request_id = next(self._ids)
            self._refusal = request_id, refusal(behind(), request_id).raw(request_id)
            asyncio.get_running_loop().call_soon(self._count_refused)
        self._refused += 1
        return self._refusal[1]

    def _count_refused(self) -> None:
        n, self._refused = self._refused, 0
        self._count(self._refusal[0], 503, time.perf_counter(), ("", "POST", ""), n)

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] == "lifespan.startup":
            self._service.begin()
            await send({"type": "lifespan.startup.complete"})
        self._service.end()
        await send({"type": "lifespan.shutdown.complete"})

    def _count(self, request_id: str, status: int, began: float, where: tuple[str, str, str], n: int = 1) -> None:
        took = time.perf_counter() - began
        self._counters.observe(status, took, n)
        if log.isEnabledFor(logging.INFO):
            client, method, path = where[0], where[1], where[2][:_LOGGED]
            said = {
                "time": round(time.time(), 3), "id": request_id, "client": client, "method": method, "path": path,
                "status": status, "ms": round(1000 * took, 2), **({"requests": n} if n > 1 else {}),
            }  # fmt: skip
            log.info(json.dumps(said))

    def _id(self, headers: Mapping[bytes, bytes]) -> str:
        """The request's id: the caller's, if it is a short plain word, or a new one."""
        given = headers.get(b"x-request-id", b"")
        return given.decode() if given.isalnum() and len(given) <= 64 else next(self._ids)

    def _admit(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        host = _host(headers.get(b"host", b"").decode("latin-1"))
        if self._hosts is not None and host not in self._hosts:
            raise RefusedError(
                403, f"this server does not answer to the name {host[:60]!r}; start it with --host-name for it"
            )
        origin = headers.get(b"origin")
        if origin is not None and _origin(origin.decode("latin-1")) != host:
            raise RefusedError(403, "pages of other sites may not ask this server")
        if self._token is not None and path != "/" and not path.startswith(_FREE):
            given = headers.get(b"authorization", b"").decode("latin-1")
            if not given:
                raise RefusedError(401, "send the token: Authorization: Bearer ...", {"www-authenticate": "Bearer"})
            if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                raise RefusedError(403, "the token is wrong")
        coded = headers.get(b"transfer-encoding", b"chunked"), headers.get(b"content-encoding") or b"identity"
        if tuple(map(bytes.lower, coded)) != (b"chunked", b"identity"):
            raise RefusedError(
                415, "a compressed body is not taken: send it as it is, without Content-Encoding; that names no charset"
            )
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise RefusedError(400, f"Content-Length is a number of bytes, got {length[:20]!r}")
        if len(length) > 18 or int(length) > self._limits.max_body:
            raise _too_large(self._limits)

    def _hold(self, n: int) -> None:
        """Count bytes that came, which are too many where they are the last straw."""
        self._held += n
        if self._held > self._limits.together:
            said = "the server holds as much as it can of what comes: come again"
            raise RefusedError(503, said, {"retry-after": "1", "connection": "close"})


class _Body:
    """A body as it comes; refused if it is too large or too late, or one of too many."""

    def __init__(self, receive: Receive, began: float, limits: Limits, hold: Callable[[int], None]) -> None:
        self._receive, self._began, self._limits, self._hold = receive, began, limits, hold
        self.seen, self._is_complete = 0, False

    async def receive(self) -> Message:
        """The next message; beyond the end, when the client leaves."""
        if self._is_complete:
            return await self._receive()
        left = self._limits.deadline - (time.perf_counter() - self._began)
        message = await _in_time(self._receive, max(left, 0.001))
        if message is None:
            said = f"the body did not come within {self._limits.deadline:g} s"
            raise RefusedError(408, said, {"connection": "close"})
        if message["type"] == "http.disconnect":
            raise GoneError
        n = len(message.get("body", b""))
        self.seen += n
        self._hold(n)
        if self.seen > self._limits.max_body:
            raise _too_large(self._limits)
        self._is_complete = not message.get("more_body", False)
        return message


async def _in_time(receive: Receive, seconds: float) -> Message | None:
    """A message, None where it does not come; `asyncio.wait_for` would make a task for it."""
    task, is_late = asyncio.current_task(), False
    assert task is not None

    def end() -> None:
        nonlocal is_late
        is_late = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, end)
    try:
        return await receive()
    except asyncio.CancelledError:
        if not is_late:
            raise
        if sys.version_info >= (3, 11):
            task.uncancel()
        return None
    finally:
        timer.cancel()


class GoneError(Exception):
    """The client left before it had its answer."""


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(413, f"the body is larger than {limits.max_body:,} bytes", {"connection": "close"})


def _host(given: str) -> str:
    """The name of a host without its port."""
    if given.startswith("["):
        return given[1:].partition("]")[0].lower()
    return given.rpartition(":")[0].lower() if given.count(":") == 1 else given.lower()


def _origin(given: str) -> str | None:
    """The name of the host that a page came from; None where the header says none."""
    try:
        return _host(urlsplit(given).netloc)
    except ValueError:
        return None
