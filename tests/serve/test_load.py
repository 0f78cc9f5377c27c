"""Load at a steady rate, against servers that answer, stall, refuse and fail."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.serve import load
from easylearn.serve.load import Plan, Request, Result, measure, page, requests_of
from tests.serve import clock

ROW: Request = ("application/json", b'{"a": 1}')
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def run(answer: Callable[[int], Awaitable[bytes]], rate: float, duration: float) -> tuple[Result, list[bytes]]:
    """What comes of a rate, and the requests; `answer` gives a server's answer to its n-th request."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
                asked.append(head + body)
                said = await answer(len(asked) - 1)
                writer.write(said)
                if said != OK:
                    break
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    async def go() -> Result:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        result = await measure(Plan(f"http://127.0.0.1:{port}", "x", rate, duration, "secret"), rate, [ROW])
        server.close()
        return result

    return clock.run(go()), asked


def test_a_server_that_stalls_is_charged_with_all_who_would_have_waited() -> None:
    """One stall of half a second: a closed loop would see one slow answer, and 9 quick ones."""
    stalled = asyncio.Lock()

    async def answer(n: int) -> bytes:
        async with stalled:  # one at a time, as one worker does
            await asyncio.sleep(0.5 if n == 2 else 0)
        return OK

    result, asked = run(answer, 20, 0.5)
    assert result.statuses == {"200": 10} and len(asked) == 10
    slow = sum(s > 0.1 for s in result.seconds)
    assert 7 <= slow <= 8  # all that were due while it stalled
    assert result.percentile(50) > 150 and result.percentile(100) >= 490


def test_every_way_to_fail_is_counted_and_none_ends_the_run() -> None:
    async def answer(n: int) -> bytes:
        said = {
            0: b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            1: b"",
            2: b"HTTP/1.1 200 OK\r\ncont",
        }
        return said.get(n, OK)

    result, asked = run(answer, 50, 0.1)
    assert result.statuses["503"] == 1 and result.statuses["200"] == 2 and result.statuses.total() == 5
    assert result.statuses["IncompleteReadError"] == 2 and len(result.seconds) == 2
    assert all(b"authorization: Bearer secret" in head and head.endswith(ROW[1]) for head in asked)


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    result = Result(1.0, 1.0, [k / 1000 for k in range(1, 101)])
    assert [result.percentile(p) for p in (50, 90, 99, 100)] == pytest.approx([50, 90, 99, 100])
    assert result.percentile(50) == result.percentile(50) and Result(1.0).percentile(50) != Result(1.0).percentile(50)


def test_a_page_has_a_row_and_three_points_for_each_rate() -> None:
    results = [Result(rate, 1.0, [0.002 * rate, 0.004 * rate], late=0.25) for rate in (1, 8, 300.0)]
    for r in results:
        r.statuses.update({"200": 2, "<b>": 1})
    text = page(Plan("http://h/<x>", "items", 1, 2), results)
    assert text.count("<tr>") == 4 and "<b>" not in text and "<x>" not in text and "250.0" in text
    drawn = ElementTree.fromstring(re.search("<svg.*</svg>", text, re.DOTALL)[0])  # type: ignore[index]
    places = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in drawn.iter("circle")]
    assert len(places) == 9 and all(60 <= x <= 620 and 20 <= y <= 300 for x, y in places)
    assert places[0][0] < places[1][0] < places[2][0] and places[0][1] > places[1][1] > places[2][1]
    assert "No request was answered" in page(Plan("http://h", "items", 1, 2), [Result(5.0)])


def test_items_are_found_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.JPG").write_bytes(b"image")
    (tmp_path / "b.txt").write_text("a text")
    (tmp_path / "c.csv").write_text("x,y\n1,ü\n2,\n")
    (tmp_path / "d.zip").write_bytes(b"x")
    assert [kind for kind, _ in requests_of(str(tmp_path))] == ["image/jpeg", "text/plain; charset=utf-8"] + [
        "application/json"
    ] * 2
    with pytest.raises(DataError, match="no image"):
        requests_of(str(tmp_path / "d.zip"))
    with pytest.raises(DataError, match=r"absent\.csv"):
        requests_of(str(tmp_path / "absent.csv"))
    for held, named in ((b"a,b\n1,\xff\n", "UTF-8"), (b'a\n1\n"2', "after line 2"), (b"a\n1,2\n", "row 2")):
        (tmp_path / "c.csv").write_bytes(held)
        with pytest.raises(DataError, match=named) as caught:
            requests_of(str(tmp_path))
        assert "c.csv" in str(caught.value)
    with pytest.raises(ArgumentError, match="http://"):
        Plan("https://h", "x", 1, 1)


@pytest.mark.parametrize("url", ["http://h:99999", "http://h:x", "http://[::1", "https://h", "h"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ArgumentError, match="address of a server"):
        Plan(url, "x", 1, 1)


def test_what_is_no_answer_is_counted() -> None:
    async def run() -> Result:
        async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(b"x\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
        plan = Plan(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "x", 20, 0.1)
        async with server:
            return await measure(plan, 20, [("text/plain", b"a")])

    assert dict(asyncio.run(run()).statuses) == {"IndexError": 2}


def test_answers_are_read_also_where_requests_leave_late() -> None:
    """Nothing that is asked faster than it can be answered may open a connection for each request."""
    opened = 0

    class Answering(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal opened
            opened += 1
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(OK)  # type: ignore[attr-defined]

    async def go() -> Result:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
        plan = Plan(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "x", 1e6, 0.002)
        result = await measure(plan, 1e6, [ROW])
        server.close()
        return result

    assert dict(asyncio.run(go()).statuses) == {"200": 2000} and opened < 1000


def test_a_server_that_is_full_before_it_is_asked_is_counted() -> None:
    async def go() -> Result:
        async def full(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 503 Full\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(full, "127.0.0.1", 0)
        plan = Plan(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "x", 50, 0.1)
        result = await measure(plan, 50, [ROW])
        server.close()
        return result

    statuses = asyncio.run(go()).statuses
    assert statuses.total() == 5 and set(statuses) <= {"503", "ConnectionResetError", "BrokenPipeError"}


def test_a_port_where_nobody_answers_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")
    with pytest.raises(StateError, match=r"nothing answers at http://127\.0\.0\.1:1 .*start the server"):
        load.run(Plan("http://127.0.0.1:1", str(tmp_path), 1, 1e9), False, None)
