"""Load at a steady rate. Requests leave when they are due, whether or not others were answered (an open loop): a server
that stalls is charged with all who would have waited, which a closed loop leaves out ("coordinated omission").
"""

from __future__ import annotations

import asyncio
import csv
import html
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

from ..analysis.page import section, table, whole_page
from ..errors import ArgumentError, DataError
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
        if not self.rate > 0:
            raise ArgumentError(f"rate must be above 0, got {self.rate}")


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
                with open(file, newline="", encoding="utf-8-sig") as handle:
                    rows = [row for row, _ in zip(csv.DictReader(handle), range(1000), strict=False)]
                found += [("application/json", json.dumps(row).encode()) for row in rows]
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}") from error
    if not found:
        raise DataError(f"{items} holds no image, no .txt and no .csv to send")
    return found


class _Connections:
    """Connections to a server, kept and used again."""

    def __init__(self, plan: Plan) -> None:
        parts = urlsplit(plan.url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._path = parts.path if parts.path not in ("", "/") else "/predict"
        self._token = "" if plan.token is None else f"authorization: Bearer {plan.token}\r\n"
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, request: Request) -> str:
        """The status of an answer, or what went wrong."""
        try:
            return await asyncio.wait_for(self._ask(*request), _TIMEOUT)
        except (OSError, ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            return type(error).__name__
        except (TimeoutError, asyncio.TimeoutError):
            return "timeout"

    async def _ask(self, kind: str, body: bytes) -> str:
        while self._free and (self._free[-1][0].at_eof() or self._free[-1][0].exception() is not None):
            self._free.pop()[1].close()  # the server ended it since
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection(self._host, self._port)
        host = f"[{self._host}]" if ":" in self._host else self._host
        head = (
            f"POST {self._path} HTTP/1.1\r\nhost: {host}:{self._port}\r\ncontent-type: {kind}\r\n"
            f"content-length: {len(body)}\r\n{self._token}\r\n"
        )
        kept = False
        try:
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = answer.partition("content-length:")[2].partition("\r\n")[0].strip()
            await reader.readexactly(int(length or 0))
            kept = "connection: close" not in answer
        finally:
            if not kept:
                writer.close()
        if kept:
            self._free.append((reader, writer))
        return answer.split()[1]

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()


async def measure(plan: Plan, rate: float, requests: Sequence[Request]) -> Result:
    """Ask at a `rate` for the plan's time; latency counts from when a request was due."""
    connections, result = _Connections(plan), Result(rate)
    coming: Iterator[Request] = cycle(requests)
    tasks: set[asyncio.Task[None]] = set()
    began = time.perf_counter()

    async def one(due: float) -> None:
        status = await connections.ask(next(coming))
        result.statuses[status] += 1
        if status == "200":
            result.seconds.append(time.perf_counter() - due)

    for k in range(max(1, round(rate * plan.duration))):
        due = began + k / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        result.late = max(result.late, time.perf_counter() - due)
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks)
    result.wall = max(time.perf_counter() - began, plan.duration)
    connections.close()
    return result


def run(plan: Plan, sweep: bool, report: str | None) -> int:
    """Measure, print a line per rate and write the page; 1 where a request failed in another way than by 503."""
    requests, results, rate = requests_of(plan.items), [], plan.rate
    while True:
        results.append(asyncio.run(measure(plan, rate, requests)))
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
