"""A request and its answer, as routes see them: no framework is needed for a dozen routes, and none is quicker."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

from .refusals import LONG, RefusedError

T = TypeVar("T")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = "application/json"
SAFE = [
    (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'self'",
    ),
]  # fmt: skip
_SAFE = b"".join(b"%s: %s\r\n" % pair for pair in SAFE).decode()
LONG_ANSWER = 20_000  # numbers that are written in a thread
in_text = json.JSONEncoder(ensure_ascii=False).encode
_WEIGHT = re.compile(r";[ \t]*q[ \t]*=[ \t]*([0-9.]*)", re.IGNORECASE)


def by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by their names; one that came several times has its values in one, as HTTP reads lists.

    What may come once is no longer what it should be then, and refused like anything odd.

    >>> by_name([(b"accept", b"a/b"), (b"host", b"h"), (b"accept", b"c/d")])
    {b'accept': b'a/b, c/d', b'host': b'h'}
    """
    given = list(headers)
    found = dict(given)
    if len(found) == len(given):
        return found
    several: dict[bytes, list[bytes]] = {}
    for name, value in given:
        several.setdefault(name, []).append(value)
    return {name: b", ".join(values) for name, values in several.items()}


def qualities(accept: str, *kinds: str) -> tuple[float, ...]:
    """How much a header Accept wants each kind, from 0 to 1: the narrowest range that it lies in says so.

    >>> qualities("image/*;q=0.5, image/png;q=0, */*;q=0.1", "image/png", "image/gif", "text/csv")
    (0.0, 0.5, 0.1)
    """
    ranges: dict[str, float] = {}
    for each in accept[:2000].split(","):
        name, weight = each.partition(";")[0].strip().lower(), _WEIGHT.search(each)
        try:
            ranges[name] = max(ranges.get(name, 0.0), min(1.0, float(weight[1]) if weight else 1.0))
        except ValueError:  # a weight that is no number says nothing of the range
            continue
    wider = ((kind, f"{kind.partition('/')[0]}/*", "*/*") for kind in kinds)
    return tuple(next((ranges[name] for name in names if name in ranges), 0.0) for names in wider)


@dataclass
class Request:
    """What is asked: where, by which method, with which headers (names in small letters); `receive` gives the body."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    receive: Receive

    def header(self, name: str) -> str:
        """A header's value, "" where there is none."""
        return self.headers.get(name.encode(), b"").decode("latin-1")

    async def body(self) -> bytes:
        """The whole body."""
        pieces: list[bytes] = []
        while True:
            message = await self.receive()
            pieces.append(message.get("body", b""))
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self, parse: Callable[[bytes], T]) -> T:
        """What a function makes of the whole body: in a thread where it is long, for others are asking meanwhile."""
        body = await self.body()
        if len(body) < LONG:
            return parse(body)
        return await asyncio.get_running_loop().run_in_executor(None, parse, body)


@dataclass
class Answer:
    """What is answered."""

    body: bytes
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200

    async def send(self, send: Send, request_id: str) -> None:
        """As messages of ASGI."""
        headers = [(b"content-type", self.kind.encode()), (b"content-length", str(len(self.body)).encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        headers += [*SAFE, (b"x-request-id", request_id.encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})

    def raw(self, request_id: str) -> bytes:
        """As it goes over the wire."""
        more = "".join(f"{name.lower()}: {value}\r\n" for name, value in self.headers.items())
        head = f"{_head(self.status, self.kind)}{len(self.body)}\r\nx-request-id: {request_id}\r\n{more}\r\n"
        return head.encode("latin-1") + self.body


@functools.lru_cache(64)
def _head(status: int, kind: str) -> str:
    """What begins an answer, up to its length."""
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{_SAFE}content-type: {kind}\r\ncontent-length: "


def in_json(said: Any) -> Answer:
    """An answer that says something as JSON."""
    return Answer(in_text(said).encode())


def refusal(refused: RefusedError, request_id: str) -> Answer:
    """An error as JSON: what was wrong, and the id under which the log has it."""
    body = json.dumps({"error": str(refused), "id": request_id}).encode()
    return Answer(body, headers=refused.headers, status=refused.status)
