"""What stands in front of every route: who may ask, how much and how slowly; ids, log and counters."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from .counters import Counters
from .refusals import Limits, RefusedError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SAFE = [
    (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'self'",
    ),
]  # fmt: skip
_FREE = ("/v2/health/", "/page.")  # asked for without a token; so is the page itself
log = logging.getLogger("easylearn.serve")


class Guard:
    """An ASGI application around another one, which it protects.

    Args:
        app: what answers.
        limits: of bodies and times.
        counters: what is counted into.
        hosts: names that the header Host may have; None takes any (a proxy in front checks it).
        token: what a caller has to send as "Authorization: Bearer ...", but for health; None asks for none.
    """

    def __init__(
        self, app: App, limits: Limits, counters: Counters, hosts: Collection[str] | None, token: str | None
    ) -> None:
        self._app, self._limits, self._counters = app, limits, counters
        self._hosts = None if hosts is None else {h.lower() for h in hosts}
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), 0
        headers = dict(scope["headers"])
        request_id = _id(headers)
        scope.setdefault("state", {})["id"] = request_id

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SAFE, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            self._admit(scope, headers)
            await self._app(scope, self._bounded(headers, receive, began), answered)
        except RefusedError as refused:
            if not status:
                await refuse(answered, refused, request_id)
        except (asyncio.CancelledError, _GoneError):
            status = status or 499
        except Exception:
            log.exception("request %s failed", request_id)  # the caller learns the id and no more
            if not status:
                await refuse(
                    answered, RefusedError(500, "the server failed; its log says why, under this id"), request_id
                )
        took = time.perf_counter() - began
        self._counters.observe(status or 499, took)
        if log.isEnabledFor(logging.INFO):
            client = scope.get("client") or ("", 0)
            said = {
                "time": round(time.time(), 3), "id": request_id, "client": client[0], "method": scope["method"],
                "path": scope["path"], "status": status or 499, "ms": round(1000 * took, 2),
            }  # fmt: skip
            log.info(json.dumps(said))

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        host = _host(headers.get(b"host", b"").decode("latin-1"))
        if self._hosts is not None and host not in self._hosts:
            raise RefusedError(
                403, f"this server does not answer to the name {host[:60]!r}; start it with --host-name for it"
            )
        origin = headers.get(b"origin")
        if origin is not None and _origin(origin.decode("latin-1")) != host:
            raise RefusedError(403, "pages of other sites may not ask this server")
        path = scope["path"].removeprefix(scope.get("root_path", ""))  # of where we are mounted
        if self._token is not None and path != "/" and not path.startswith(_FREE):
            given = headers.get(b"authorization", b"").decode("latin-1")
            if not given:
                raise RefusedError(401, "send the token: Authorization: Bearer ...", {"www-authenticate": "Bearer"})
            if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                raise RefusedError(403, "the token is wrong")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise RefusedError(400, f"Content-Length is a number of bytes, got {length[:20]!r}")
        if int(length) > self._limits.max_body:
            raise _too_large(self._limits)

    def _bounded(self, headers: dict[bytes, bytes], receive: Receive, began: float) -> Receive:
        """`receive` that refuses a body that is too large or comes too late."""
        seen, complete = 0, False

        async def bounded() -> Message:
            nonlocal seen, complete
            if complete:
                return await receive()
            left = self._limits.deadline - (time.perf_counter() - began)
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except (TimeoutError, asyncio.TimeoutError) as error:
                raise RefusedError(
                    408, f"the body did not come within {self._limits.deadline:g} s", {"connection": "close"}
                ) from error
            if message["type"] == "http.disconnect":
                raise _GoneError
            seen += len(message.get("body", b""))
            if seen > self._limits.max_body:
                raise _too_large(self._limits)
            complete = not message.get("more_body", False)
            return message

        return bounded


class _GoneError(Exception):
    """The client left before its request was whole."""


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(413, f"the body is larger than {limits.max_body:,} bytes", {"connection": "close"})


def _id(headers: dict[bytes, bytes]) -> str:
    """The request's id: the caller's, if it is a short plain word, or a new one."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if given.isalnum() and given.isascii() and len(given) <= 64 else uuid.uuid4().hex[:16]


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


async def refuse(send: Send, refused: RefusedError, request_id: str) -> None:
    """Answer with an error as JSON: what was wrong, and the id under which the log has it."""
    body = json.dumps({"error": str(refused), "id": request_id}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
