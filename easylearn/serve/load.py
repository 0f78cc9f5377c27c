"""Load at a steady rate. Requests leave when they are due, whether or not others were answered (an open loop): a server
that stalls is charged with all who would have waited, which a closed loop leaves out ("coordinated omission").
"""

from __future__ import annotations

import asyncio
import csv
import gc
import html
import json
import math
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..analysis.page import section, table, whole_page
from ..errors import ArgumentError, DataError, StateError, check_number
from ..files import atomic_write

_TIMEOUT = 60.0
_CURVES = {"p50": 50, "p90": 90, "p99": 99}
_IMAGES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif"}
Request = tuple[str, bytes]  # content type and body


@dataclass(frozen=True)
class Plan:
    """What is asked: where, with which items, how many per second and how long (in seconds)."""

    url: str
    items: str
    rate: float
    duration: float
    token: str | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            good = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
        except ValueError:  # of a port that is none
            good = False
        if not good:
            raise ArgumentError(f"expected the address of a server, as http://127.0.0.1:8000, got {self.url!r}")
        check_number("rate", self.rate, "above 0")


@dataclass
class Result:
    """What came of a rate: how many requests there were, seconds to each answer from when it was due, statuses."""

    rate: float
    wall: float = 0.0
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    late: float = 0.0  # seconds by which a request left after it was due, the most

    @property
    def served(self) -> float:
        """Answered with 200, per second."""
        return self.statuses["200"] / self.wall if self.wall else 0.0

    def percentile(self, p: float) -> float:
        """Milliseconds within which this percentage of the good answers came; NaN where there is none."""
        good = sorted(self.seconds)
        return 1000 * good[min(len(good) - 1, math.ceil(p / 100 * len(good)) - 1)] if good else math.nan

    def line(self) -> str:
        """As a line for people."""
        others = ", ".join(f"{n} x {s}" for s, n in sorted(self.statuses.items()) if s != "200")
        return (
            f"{self.rate:8.1f}/s asked, {self.served:8.1f}/s served, p50 {self.percentile(50):7.1f} ms, "
            f"p90 {self.percentile(90):7.1f}, p99 {self.percentile(99):7.1f}" + (f"; {others}" if others else "")
        )


def requests_of(items: str) -> list[Request]:
    """The bodies of requests: images, texts, or rows of a csv as JSON."""
    path = Path(items)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found: list[Request] = []
    for file in files[:1000]:
        suffix = file.suffix.lower()
        try:
            if suffix in _IMAGES:
                found.append((_IMAGES[suffix], file.read_bytes()))
            elif suffix == ".txt":
                found.append(("text/plain; charset=utf-8", file.read_bytes()))
            elif suffix == ".csv":
                found += [("application/json", json.dumps(row).encode()) for row in _rows_of(file)]
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}") from error
    if not found:
        raise DataError(f"{items} holds no image, no .txt and no .csv to send")
    return found


def _rows_of(file: Path) -> list[dict[str, str | None]]:
    with open(file, newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle, strict=True)
        try:
            rows = [row for row, _ in zip(reader, range(1000), strict=False)]
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{file} is no csv in UTF-8, after line {reader.line_num}: {error}") from error
    long = next((i for i, row in enumerate(rows, 2) if None in row), None)
    if long is not None:
        raise DataError(f"row {long} of {file} has more fields than its first line")
    return rows


class _Connection(asyncio.Protocol):
    """A connection with a request at a time; of an answer it wants to know the status, and where it ends.

    As little as can be is done for a request, for the tool shares its machine with the server, and what it waits for
    itself is counted as the server's.
    """

    def __init__(self, free: deque[_Connection]) -> None:
        self._free, self._seen = free, b""
        self._loop = asyncio.get_running_loop()
        self._answered: Callable[[str], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def ask(self, request: bytes, answered: Callable[[str], None]) -> None:
        """Send a request; `answered` is called with its status, or with the name of what went wrong."""
        self._answered, self._timer = answered, self._loop.call_later(_TIMEOUT, self._end, "timeout")
        if not self._transport.is_closing():
            self._transport.write(request)
        if self._seen:  # a server that is full says so before it is asked
            self.data_received(b"")
        if self._answered is not None and self._transport.is_closing():
            self._end("IncompleteReadError")

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, blank, body = self._seen.partition(b"\r\n\r\n")
        if not blank or self._answered is None:
            return
        head = head.lower()
        try:
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(body) >= length:
                self._end(head.split(None, 2)[1].decode("latin-1"), b"connection: close" not in head)
        except (ValueError, IndexError) as error:
            self._end(type(error).__name__)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None:
            self._end("IncompleteReadError" if exc is None else type(exc).__name__)
        elif self in self._free:
            self._free.remove(self)

    def _end(self, status: str, kept: bool = False) -> None:
        answered, self._answered, self._seen = self._answered, None, b""
        self._timer.cancel()
        if kept:
            self._free.append(self)
        else:
            self.close()
        if answered is not None:
            answered(status)

    def close(self) -> None:
        """End it."""
        self._transport.close()


class _Asking:
    """Requests to a server, on connections that are used again."""

    def __init__(self, plan: Plan, requests: Sequence[Request], result: Result) -> None:
        parts = urlsplit(plan.url)
        self._where = parts.hostname or "", parts.port or 80
        host = f"[{self._where[0]}]" if ":" in self._where[0] else self._where[0]
        path = parts.path if parts.path not in ("", "/") else "/predict"
        token = "" if plan.token is None else f"authorization: Bearer {plan.token}\r\n"
        first = f"POST {path} HTTP/1.1\r\nhost: {host}:{self._where[1]}\r\n{token}"
        heads = (f"{first}content-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n" for kind, body in requests)
        raw = [head.encode() + body for head, (_, body) in zip(heads, requests, strict=True)]
        self._coming: Iterator[bytes] = cycle(raw)
        self._result, self._free = result, deque[_Connection]()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open, self._all = 0, asyncio.Event()

    def leave(self, due: float) -> None:
        """Send the next request, which was due at a time."""
        self._open += 1
        request, answered = next(self._coming), partial(self._answered, due)
        if self._free:
            self._free.popleft().ask(request, answered)  # in turn, for a server deals out connections to its workers
        else:
            task = asyncio.get_running_loop().create_task(self._connect(request, answered))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, request: bytes, answered: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            connecting = loop.create_connection(lambda: _Connection(self._free), *self._where)
            _, connection = await asyncio.wait_for(connecting, _TIMEOUT)
        except (TimeoutError, asyncio.TimeoutError):
            answered("timeout")
        except OSError as error:
            answered(type(error).__name__)
        else:
            connection.ask(request, answered)

    def _answered(self, due: float, status: str) -> None:
        self._open -= 1
        self._result.statuses[status] += 1
        if status == "200":
            self._result.seconds.append(time.perf_counter() - due)
        if not self._open:
            self._all.set()

    async def close(self) -> None:
        """Wait for what was asked, and end the connections."""
        while self._open:
            self._all.clear()
            await self._all.wait()
        for connection in list(self._free):
            connection.close()


async def measure(plan: Plan, rate: float, requests: Sequence[Request]) -> Result:
    """Ask at a `rate` for the plan's time; latency counts from when a request was due."""
    result = Result(rate)
    asking = _Asking(plan, requests, result)
    gc.collect()
    gc.freeze()  # a collection of what is there already would stop all, and be counted as the server's
    began = time.perf_counter()
    for k in range(max(1, round(rate * plan.duration))):
        due = began + k / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        result.late = max(result.late, time.perf_counter() - due)
        asking.leave(due)
        if wait <= 0 and k % 8 == 0:
            await asyncio.sleep(0)  # where it is late, answers are read all the same
    await asking.close()
    gc.unfreeze()
    result.wall = max(time.perf_counter() - began, plan.duration)
    return result


def measured(plan: Plan, rate: float, requests: Sequence[Request]) -> Result:
    """`measure`, in the quickest loop that is there."""
    run: Callable[[Coroutine[Any, Any, Result]], Result] = asyncio.run
    with suppress(ImportError):
        import uvloop

        run = uvloop.run
    return run(measure(plan, rate, requests))


def _find(url: str) -> None:
    """Look once whether anybody answers there, before asking for the whole time."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), _TIMEOUT).close()
    except OSError as error:
        raise StateError(
            f"nothing answers at {url} ({error.strerror or error}): start the server, with easylearn serve, or look at "
            "the port"
        ) from error


def run(plan: Plan, sweep: bool, report: str | None) -> int:
    """Measure, print a line per rate and write the page; 1 where a request failed in another way than by 503."""
    requests, results, rate = requests_of(plan.items), [], plan.rate
    _find(plan.url)
    while True:
        results.append(measured(plan, rate, requests))
        print(results[-1].line(), flush=True)
        if not sweep or results[-1].served < 0.9 * rate:
            break
        rate *= 2
    if report is not None:
        with atomic_write(report) as temporary:
            temporary.write_text(page(plan, results), encoding="utf-8")
        print(f"The page is {report}.")
    odd = [s for r in results for s in r.statuses if s not in ("200", "503")]
    return 1 if odd else 0


def page(plan: Plan, results: Sequence[Result]) -> str:
    """A page with a table, and the curve of rate against latency as a drawing."""
    heads = ["asked/s", "served/s", *(f"{name} ms" for name in _CURVES), "longest ms", "left late ms", "answers"]
    rows = []
    for r in results:
        numbers = [r.rate, r.served, *map(r.percentile, _CURVES.values()), r.percentile(100), 1000 * r.late]
        answers = ", ".join(f"{n} x {status}" for status, n in sorted(r.statuses.items()))
        rows.append((*(f"{x:.1f}" for x in numbers), answers))
    said = (
        f"{plan.duration:g} s at each rate. Requests leave when they are due, whether or not others were answered, and "
        "latency counts from when one was due: whoever had to wait is counted as waiting. Latencies are those of "
        "answers with 200. Where requests left late, this machine was too slow to ask at that rate."
    )
    parts = [
        section(f"Load of {plan.url}", [f"<p>{html.escape(said)}</p>", table(heads, rows, heads[:-1])]),
        section("Rate and latency", [_curve(results)]),
    ]
    return whole_page(f"Load of {plan.url}", parts, dpi=100)


def _curve(results: Sequence[Result]) -> str:
    """Latencies over rates, both axes logarithmic, with a line for each percentile."""
    points = {
        name: [(r.rate, r.percentile(p)) for r in results if math.isfinite(r.percentile(p))]
        for name, p in _CURVES.items()
    }
    rates, times = ([point[k] for some in points.values() for point in some] for k in (0, 1))
    if not rates:
        return "<p>No request was answered.</p>"
    across, up = _Axis(rates, 60, 620), _Axis(times, 300, 20)
    grid = [_tick(f"M{across.at(x):.1f} 20V300", across.at(x), 318, "middle", x) for x in across.ticks]
    grid += [_tick(f"M60 {up.at(y):.1f}H620", 54, up.at(y) + 4, "end", y) for y in up.ticks]
    lines: list[str] = []
    for colour, (name, some) in zip(("#2a6f97", "#b26a00", "#a3122a"), points.items(), strict=True):
        places = [(across.at(x), up.at(y)) for x, y in some]
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        lines.append(
            f'<g stroke="{colour}" fill="{colour}"><polyline fill="none" stroke-width="2" points="{line}"/>{dots}'
            f'<text x="{75 + 40 * len(lines)}" y="38" stroke="none">{name}</text></g>'
        )
    return (
        '<svg viewBox="0 0 680 345" role="img" aria-label="Latency in milliseconds over requests per second" '
        f'font-size="12" fill="currentColor">{"".join(grid)}{"".join(lines)}'
        '<text x="340" y="338" text-anchor="middle">requests per second</text>'
        '<text x="8" y="12">milliseconds</text></svg>'
    )


def _tick(line: str, x: float, y: float, anchor: str, number: float) -> str:
    text = f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{number:g}</text>'
    return f'<path stroke="#8886" d="{line}"/>{text}'


class _Axis:
    """A logarithmic axis from one place of a drawing to another, with round ticks around some numbers."""

    def __init__(self, numbers: Sequence[float], first: float, last: float) -> None:
        low, high = max(min(numbers), 1e-3), max(max(numbers), 1e-3)
        steps = [m * 10.0**e for e in range(-3, 9) for m in (1, 2, 5)]
        begin = max((s for s in steps if s <= low), default=steps[0])
        end = min((s for s in steps if s >= high and s > begin), default=steps[-1])
        self.ticks = [s for s in steps if begin <= s <= end]
        self._begin, self._ratio = begin, math.log(end / begin)
        self._first, self._length = first, last - first

    def at(self, x: float) -> float:
        """The place of a number."""
        return self._first + self._length * math.log(max(x, 1e-3) / self._begin) / self._ratio
