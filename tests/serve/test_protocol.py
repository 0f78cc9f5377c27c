"""Connections: the short way answers as the long one, in order; times, a number, and a client that does not read."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("httptools")

from uvicorn.server import ServerState  # noqa: E402

from easylearn.serve import protocol as module  # noqa: E402
from easylearn.serve.batching import Turns  # noqa: E402
from easylearn.serve.counters import Counters  # noqa: E402
from easylearn.serve.exchange import Answer, in_json  # noqa: E402
from easylearn.serve.guard import Guard  # noqa: E402
from easylearn.serve.protocol import protocol  # noqa: E402
from easylearn.serve.refusals import Limits  # noqa: E402
from tests.serve import clock  # noqa: E402

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy"
HEAD = "POST /predict{} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n{}\r\n"


def request(body: bytes, path: str = "", more: str = "") -> bytes:
    return HEAD.format(path, len(body), more).encode() + body


def short(path: str, headers: Mapping[bytes, bytes], body: bytes, client: str) -> bytes | None:
    """Answers all but what says "long"."""
    said = b"short " + body
    return None if body.startswith(b"long") else b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said)


async def long(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    said = b"long " + body
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
    await send({"type": "http.response.body", "body": said})


def served(
    act: Callable[[Callable[[], Awaitable[Client]], ServerState], Awaitable[None]], at_once: Any = short,
    app: Any = long, busy: Callable[[], bool] = lambda: False, refused: Any = None, **how: Any,
) -> list[int]:  # fmt: skip
    """Run some clients against a server of this process; what was refused and counted before any application."""
    counted: list[int] = []

    def told() -> bytes:
        counted.append(503)
        return BUSY

    async def run() -> None:
        kind = protocol(Limits(**how), at_once, busy, refused or told, lambda status, _: counted.append(status))
        config = uvicorn.Config(app, http=kind, lifespan="off", ws="none", log_config=None)
        config.load()
        state, loop = ServerState(), asyncio.get_running_loop()
        made = lambda: config.http_protocol_class(config=config, server_state=state, app_state={})  # noqa: E731
        server = await loop.create_server(made, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        writers: list[asyncio.StreamWriter] = []

        async def connect() -> Client:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(writer)
            return reader, writer

        await asyncio.wait_for(act(connect, state), 20)
        for writer in writers:
            writer.transport.abort()
        server.close()
        await asyncio.sleep(0.01)

    clock.run(run())
    return counted


async def answers(reader: asyncio.StreamReader, n: int) -> list[bytes]:
    found = []
    for _ in range(n):
        head = await reader.readuntil(b"\r\n\r\n")
        found.append(await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0])))
    return found


def test_answers_come_in_the_order_of_requests_whichever_way_they_go() -> None:
    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        bodies = [b"a", b"long b", b"c", b"long d", b"long e", b"f"]
        writer.write(b"".join(map(request, bodies)))
        # What comes while a long one is under way waits behind it, the long way.
        assert await answers(reader, 6) == [b"short a", *(b"long " + body for body in bodies[1:])]
        writer.write(request(b"g"))  # later on the same connection
        assert await answers(reader, 1) == [b"short g"]

    served(act)


def test_bodies_may_come_in_pieces() -> None:
    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        for body in (b"abcdef", b"long abcdef", b"x" * 20_000):
            given = request(body)
            for piece in (given[:30], given[30:-4], given[-4:-1], given[-1:]):
                writer.write(piece)
                await asyncio.sleep(0.01)
            way = b"short " if body == b"abcdef" else b"long "
            assert await answers(reader, 1) == [way + body]

    served(act)


@pytest.mark.parametrize(
    "given",
    [
        request(b"a", "?x=1"), request(b"a", "/%41"), request(b"a", "#x"), request(b"a", more="connection: close\r\n"),
        request(b"a").replace(b"1.1", b"1.0"), request(b"a").replace(b"/predict", b"/v2"),
        request(b"a").replace(b"POST", b"PUT"), request(b"a", more="expect: 100-continue\r\n"),
        b"POST /predict HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_out_of_the_ordinary_goes_the_long_way(given: bytes) -> None:
    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        writer.write(given)
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 100 " in head:
            head = await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(6) == b"long a"

    served(act)


@pytest.mark.parametrize("begun", [b"", b"POST /pre", request(b"abc")[:-1], request(b"long abc")[:-8]])
def test_a_request_has_a_time_to_come(begun: bytes) -> None:
    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        for _ in range(3):  # the time is that of a request, not of the connection
            writer.write(request(b"a"))
            assert await answers(reader, 1) == [b"short a"]
            await asyncio.sleep(0.2)
        if begun:
            writer.write(begun)
        assert (await reader.read(100)).startswith(b"HTTP/1.1 408" if begun else b"")
        assert reader.at_eof() or await reader.read() == b"" or begun

    before, module.KEPT = module.KEPT, 0.6
    try:
        assert served(act, deadline=0.5) == [408] * bool(begun)
    finally:
        module.KEPT = before


def test_many_requests_at_once_do_not_keep_the_loop() -> None:
    short_ones = 0

    def count(path: str, headers: Mapping[bytes, bytes], body: bytes, client: str) -> bytes | None:
        nonlocal short_ones
        short_ones += 1
        return short(path, headers, body, client)

    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        writer.write(request(b"a") * 50)
        assert [a[-1:] for a in await answers(reader, 50)] == [b"a"] * 50
        assert short_ones < 10  # one of what came together

    served(act, count)


def test_without_httptools_all_go_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn.protocols.http as http

    monkeypatch.delattr(http, "httptools_impl", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn.protocols.http.httptools_impl", None)

    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        for _ in range(3):
            writer.write(request(b"a"))
            assert await answers(reader, 1) == [b"long a"]
            await asyncio.sleep(0.2)
        writer.write(b"POST /pre")
        assert b"HTTP/1.1 408" in await reader.read()

    assert served(act, deadline=0.5) == [408]


def test_one_connection_too_many_is_told_so() -> None:
    async def act(connect: Any, state: ServerState) -> None:
        some = [await connect() for _ in range(3)]
        some[0][1].write(request(b"a"))
        assert await answers(some[0][0], 1) == [b"short a"]
        reader, writer = await connect()
        writer.write(request(b"a"))  # it was not read, and does not turn the answer into a reset
        assert (await reader.read()).startswith(b"HTTP/1.1 503")
        some[1][1].close()
        await asyncio.sleep(0.05)
        reader, writer = await connect()
        writer.write(request(b"b"))
        assert await answers(reader, 1) == [b"short b"]

    assert served(act, max_connections=3) == [503]


def test_a_client_that_reads_no_answers_is_read_no_further() -> None:
    seen = 0

    def count(*given: Any) -> bytes:
        nonlocal seen
        seen += 1
        return b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000

    async def act(connect: Any, state: ServerState) -> None:
        _, writer = await connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(2000):
            writer.write(request(b"a"))
        await asyncio.sleep(0.5)
        assert seen < 200  # else 200 MB of answers would be held

    served(act, count)


@pytest.mark.parametrize("said", [b"long", b"short"])
def test_a_client_that_reads_nothing_of_its_answer_is_let_go(said: bytes) -> None:
    body = b"x" * 20_000_000  # more than the system holds for a client

    async def large(scope: Any, receive: Any, send: Any) -> None:
        head = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})

    def large_at_once(path: str, headers: Mapping[bytes, bytes], given: bytes, client: str) -> bytes | None:
        return None if given == b"long" else b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)

    async def act(connect: Any, state: ServerState) -> None:
        (_, writer), (slow, begun) = [await connect() for _ in range(2)]
        for each in (writer, begun):
            each.transport.pause_reading()
            each.write(request(said))
        await asyncio.sleep(0.1)
        for n in range(12):  # one reads a little now and then
            begun.transport.resume_reading()
            assert await slow.readexactly(1_000_000 if n else 100)
            begun.transport.pause_reading()
            await asyncio.sleep(0.15)
        assert len(state.connections) == 1
        begun.transport.resume_reading()
        left = await asyncio.wait_for(slow.read(len(body)), 5)
        assert left and len(state.connections) == 1

    served(act, large_at_once, large, deadline=0.7)


def test_of_many_answers_that_nobody_reads_the_first_are_let_go() -> None:
    """Read byte by byte, answers of many megabytes would fill memory for days."""
    body = b"x" * 20_000_000

    async def large(scope: Any, receive: Any, send: Any) -> None:
        head = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})

    async def act(connect: Any, state: ServerState) -> None:
        clients = [await connect() for _ in range(3)]
        for _, writer in clients:
            writer.transport.pause_reading()
            writer.write(request(b"long"))
            await asyncio.sleep(0.1)
        assert len(state.connections) == 1
        for reader, writer in clients:
            writer.transport.resume_reading()
            with suppress(ConnectionResetError):
                whole = len(await reader.read(-1) if reader is not clients[2][0] else (await answers(reader, 1))[0])
                assert whole < len(body) or reader is clients[2][0]
        clients[2][1].write(request(b"long"))  # and goes on as before
        assert await answers(clients[2][0], 1) == [body]

    served(act, app=large, max_body=400_000)


def test_what_comes_with_a_request_that_is_answered_at_once_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 0.1)

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.6)
        await long(scope, receive, send)

    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        writer.write(request(b"a") + request(b"long b"))
        assert await answers(reader, 2) == [b"short a", b"long long b"]

    served(act, app=slow, deadline=0.2)


@pytest.mark.parametrize(
    ("begun", "more", "said"),
    [
        (b"POST /", b"a", b"HTTP/1.1 431"), (b"POST /predict HTTP/1.1\r\nx: ", b"a", b"HTTP/1.1 431"),
        (b"POST /predict HTTP/1.1\r\n", b"a: b\r\n", b"HTTP/1.1 431"),
        (b"POST /p HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n", b""),  # after a body
    ],
)  # fmt: skip
def test_a_head_has_a_limit(begun: bytes, more: bytes, said: bytes) -> None:
    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        for _ in range(2):
            writer.write(request(b"x" * 100_000))  # of a body it is none
        assert len(await answers(reader, 2)) == 2
        writer.write(begun)
        await asyncio.sleep(0.05)
        long_one = more * (module._HEAD // len(more) + 1)
        writer.write(long_one[: module._HEAD])
        await asyncio.sleep(0.05)
        assert state.connections
        writer.write(long_one[module._HEAD :][:1])
        assert (await reader.read(12)) == said

    assert served(act) == [431] * bool(said)


def test_where_the_server_is_behind_ordinary_requests_are_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 0.3)
    busy = False

    async def act(connect: Any, state: ServerState) -> None:
        nonlocal busy
        reader, writer = await connect()
        for k in range(3):  # one connection, on which others are served before and after
            busy = False
            for body in (b"a", b"long b"):
                writer.write(request(body))
                assert (await answers(reader, 1))[0].endswith(body)
            busy = True
            for more in ("connection: keep-alive\r\n", "X-Any: a b\r\n", "")[: k + 1]:
                writer.write(request(b"long c", "/name" * (k % 2), more))
                assert await answers(reader, 1) == [b"busy"]
                await asyncio.sleep(0.2)
        writer.write(request(b"x" * 20_000).replace(b"/predict", b"/v2/models/m/infer"))
        assert await answers(reader, 1) == [b"busy"]
        await asyncio.sleep(0.15)
        assert state.connections
        assert await asyncio.wait_for(reader.read(), 2) == b""  # it rests, and is ended like others

    assert served(act, busy=lambda: busy, deadline=0.2) == [503] * 7


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (request(b"a") * 2, [b"short a", b"long a"]), (request(b"a", more="connection: close\r\n"), [b"long a"]),
        (request(b"a") + b"POST", [b"short a"]), (request(b"a", "?x=1"), [b"long a"]),
        (request(b"a").replace(b"POST", b"PUT"), [b"long a"]), (request(b"a", more="expect: x\r\n"), [b"short a"]),
        (request(b"a").replace(b"/predict", b"/v2/health/live"), [b"long a"]),
        (request(b"a").replace(b"/predict", b"/metrics"), [b"long a"]),
        (request(b"a", more="a: b\r\n c\r\n"), [b"Invalid HTTP request received."]),
        (request(b"a", more="a: " + "b" * 5000 + "\r\n"), [b"short a"]),
        (request(b"a", more="content-length: 1\r\n"), [b"Invalid HTTP request received."]),
        (b"POST /predict HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", [b"long a"]),
    ],
)  # fmt: skip
def test_what_is_out_of_the_ordinary_is_read_all_the_same(given: bytes, said: list[bytes]) -> None:
    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        writer.write(given)
        assert await answers(reader, len(said)) == said

    assert served(act, busy=lambda: True) == []


def test_no_part_of_a_request_is_taken_for_another_one() -> None:
    """A body may look like a request; were it answered, all answers on a proxy's connection would go to the wrong."""

    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        inner = request(b"b")
        whole = request(b"long " + inner)
        for piece in (whole[: -len(inner)], inner):
            writer.write(piece)
            await asyncio.sleep(0.02)
        assert await answers(reader, 1) == [b"long long " + inner]
        for piece in (inner[:30], inner[30:]):
            writer.write(piece)
            await asyncio.sleep(0.02)
        assert await answers(reader, 1) == [b"short b"]
        writer.write(inner)
        assert await answers(reader, 1) == [b"busy"]

    assert served(act, busy=lambda: True) == [503]


@pytest.mark.parametrize("wish", ["h2c", "websocket", "x"])
def test_who_wishes_another_protocol_is_answered_in_this_one(wish: str) -> None:
    """Else the body would be read as a request, which a proxy's next client gets the answer to."""
    inner, more = request(b"long b"), f"connection: Upgrade, HTTP2-Settings\r\nUpgrade: {wish}\r\n"

    async def act(connect: Any, state: ServerState) -> None:
        given = request(inner, more=more)
        for cut in (0, 7, given.index(b"\r\n\r\n") + 2, len(given) - len(inner), len(given) - 3):
            reader, writer = await connect()
            for _ in range(2):
                for piece in (given[:cut], given[cut:] + request(b"c")):
                    writer.write(piece)
                    await asyncio.sleep(0.02)
                said = await answers(reader, 2)
                assert said[0].endswith(b"short " + inner) and said[1].endswith(b" c")
            chunked = given.replace(b"content-length: %d" % len(inner), b"transfer-encoding: chunked")
            chunked = chunked.replace(inner, b"1\r\na\r\n0\r\n\r\n").replace(b"POST /predict", b"PUT /b")
            writer.write(chunked + b"GET /c HTTP/1.1\r\nhost: h\r\n" + more.encode() + b"\r\n" + request(b"d"))
            assert await answers(reader, 3) == [b"long a", b"long ", b"long d"]
        writer.write(b"CONNECT h:80 HTTP/1.1\r\nhost: h\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")

    assert served(act) == []


def test_what_is_refused_comes_behind_what_runs() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.1)
        await long(scope, receive, send)

    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        for body in (b"long a", b"long b"):
            writer.write(request(body, "?"))
            await asyncio.sleep(0.02)
        writer.write(request(b"long c"))
        assert await answers(reader, 3) == [b"long long a", b"long long b", b"long long c"]

    assert served(act, app=slow, busy=lambda: True) == []


def test_of_more_than_a_turn_can_serve_the_rest_is_refused() -> None:
    counters, turns = Counters(None, 1), Turns(0.2)

    class Slow:
        """Takes 2 ms."""

        is_behind = staticmethod(turns.is_over)

        def at_once(self, path: str, content_type: str, body: bytes) -> Answer:
            time.sleep(0.002)
            return in_json(body.decode())

    guard = Guard(Slow(), Limits(), counters, None, None)  # type: ignore[arg-type]
    statuses: list[list[bytes]] = []

    async def act(connect: Any, state: ServerState) -> None:
        turns.begin(asyncio.get_running_loop())
        clients = [await connect() for _ in range(100)]
        for _ in range(3):
            for _, writer in clients:
                writer.write(request(b"a"))
            heads = await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in clients))
            bodies = [await reader.readexactly(int(re.findall(rb"length: (\d+)", head)[0]))
                      for head, (reader, _) in zip(heads, clients, strict=True)]  # fmt: skip
            statuses.append([head.split()[1] for head in heads])
            assert all(
                (body == b'"a"') == (status == b"200") for body, status in zip(bodies, statuses[-1], strict=True)
            )

    assert served(act, guard.at_once, guard, guard.is_behind, guard.refused) == []
    assert all(set(some) == {b"200", b"503"} for some in statuses)
    assert sum(some.count(b"200") for some in statuses) < 200  # twice as many come as turns can have served
    for status in (b"200", b"503"):
        assert counters.total(f"status {status.decode()}") == sum(some.count(status) for some in statuses)


_FIELDS = st.sampled_from(
    ["content-length: 3", "Content-Length:3 ", "content-length: 03", "content-length: +3", "content-length: 3, 3",
     "content-length : 3", "content-length: 99999999999", "transfer-encoding: chunked", "Transfer-Encoding: identity",
     "connection: close", "Connection: keep-alive", "connection: upgrade", "upgrade: websocket", "expect: 100-continue",
     "host: h", "x-a: \x00", "x-a: b\nc: d", "x-a: b\r", " folded", "\tcontent-length: 4", "x-a:", ": x", "x a: b", ""]
)  # fmt: skip
_FIRST = st.sampled_from(
    ["POST /predict HTTP/1.1", "POST /predict/a HTTP/1.1", "POST /v2/models/a/infer HTTP/1.1", "GET / HTTP/1.1",
     "POST /predict HTTP/1.0", "POST /predict  HTTP/1.1", "post /predict HTTP/1.1", "POST /predict/a%20 HTTP/1.1"]
)  # fmt: skip


@given(_FIRST, st.lists(_FIELDS, max_size=4))
def test_what_is_refused_unread_the_parser_takes_for_one_whole_request(first: str, fields: list[str]) -> None:
    import httptools

    head = "\r\n".join([first, *fields, ""]).encode()
    n = module._announced(head) if b"\r\n\r\n" not in head else None
    ends: list[bool] = []

    class Seen:
        def on_message_complete(self) -> None:
            ends.append(parser.should_keep_alive() and not parser.should_upgrade())

    parser = httptools.HttpRequestParser(Seen())
    event("refused" if n is not None else "read")
    if n is not None:
        whole = head + b"\r\n" + b"x" * n
        parser.feed_data(whole[:-1])
        assert not ends
        parser.feed_data(whole[-1:])
        assert ends == [True]


def test_half_a_request_behind_one_that_is_answered_has_its_time() -> None:
    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        writer.write(request(b"a") + request(b"b")[:30])
        assert await answers(reader, 1) == [b"short a"]
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408 ")

    assert served(act, deadline=0.2) == [408]


def test_the_rest_of_a_request_that_was_refused_by_its_head_is_read_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second answer follows the first one: the client would take it for that to its next request."""
    monkeypatch.setattr(module, "KEPT", 2.0)

    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})

    async def act(connect: Any, state: ServerState) -> None:
        for rest, more in ((b"c", True), (b"", False)):  # it comes, or does not
            reader, writer = await connect()
            given = request(b"abc", "?")
            writer.write(given[:-1])
            assert await answers(reader, 1) == [b"no"]
            await asyncio.sleep(0.2)
            writer.write(rest)
            await asyncio.sleep(0.5)  # longer than a request may take to come
            if more:
                writer.write(given)
                assert await answers(reader, 1) == [b"no"]
            assert await reader.read() == b""

    assert served(act, app=refusing, deadline=0.4) == []


def test_who_waits_to_be_asked_for_the_body_has_a_connection_of_its_own() -> None:
    """Refused by its head, it may leave the body out; what comes next would be taken for it."""

    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})

    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        writer.write(request(b"abc", "?", "Expect: 100-Continue\r\n")[:-3])
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 404 " in head and b"connection: close" in head.lower()
        assert await reader.read() == b"no"

    assert served(act, app=refusing) == []


def test_half_a_body_is_answered_by_a_server_that_ends() -> None:
    async def act(connect: Any, state: ServerState) -> None:
        reader, writer = await connect()
        writer.write(request(b"abc")[:-1])
        await asyncio.sleep(0.05)
        for connection in list(state.connections):
            connection.shutdown()
        writer.write(b"c")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"connection: close" in head and await reader.read() == b"long abc"

    served(act)
