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

from ..errors import ArgumentError, DataError

_TIMEOUT = 60.0
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
        if urlsplit(self.url).scheme != "http" or not urlsplit(self.url).hostname:
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
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            return type(error).__name__
        except (TimeoutError, asyncio.TimeoutError):
            return "timeout"

    async def _ask(self, kind: str, body: bytes) -> str:
        while self._free and (self._free[-1][0].at_eof() or self._free[-1][0].exception() is not None):
            self._free.pop()[1].close()  # the server ended it since
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection(self._host, self._port)
        head = (
            f"POST {self._path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\ncontent-type: {kind}\r\n"
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
        from ..files import atomic_write

        with atomic_write(report) as temporary:
            temporary.write_text(page(plan, results), encoding="utf-8")
        print(f"The page is {report}.")
    odd = [s for r in results for s in r.statuses if s not in ("200", "503")]
    return 1 if odd else 0


def page(plan: Plan, results: Sequence[Result]) -> str:
    """A page with a table, and the curve of rate against latency as a drawing."""
    rows = "".join(
        f"<tr><td>{r.rate:.1f}<td>{r.served:.1f}<td>{r.percentile(50):.1f}<td>{r.percentile(90):.1f}"
        f"<td>{r.percentile(99):.1f}<td>{html.escape(', '.join(f'{n} x {s}' for s, n in sorted(r.statuses.items())))}"
        for r in results
    )
    return (
        "<!doctype html><meta charset=utf-8><title>Load</title><style>body{font:16px system-ui;margin:2rem auto;"
        "max-width:50rem}table{border-collapse:collapse}td,th{padding:.3rem .8rem;text-align:right;"
        "border-bottom:1px solid #ccc}</style>"
        f"<h1>Load of {html.escape(plan.url)}</h1><p>{plan.duration:g} s at each rate, requests leave when due; "
        "latency counts from then.</p><table><tr><th>asked/s<th>served/s<th>p50 ms<th>p90<th>p99<th>answers"
        f"{rows}</table>{_curve(results)}"
    )


def _curve(results: Sequence[Result]) -> str:
    points = [(r.rate, p, r.percentile(p)) for r in results for p in (50, 99) if math.isfinite(r.percentile(p))]
    if len(results) < 2 or not points:
        return ""
    width, height = 640, 320
    most_x, most_y = max(x for x, _, _ in points), max(y for _, _, y in points)
    least_x, least_y = min(x for x, _, _ in points), min(y for _, _, y in points)

    def at(x: float, y: float) -> str:
        across = math.log(x / least_x) / math.log(most_x / least_x or 2) if most_x > least_x else 0.5
        up = math.log(y / least_y) / math.log(most_y / least_y) if most_y > least_y else 0.5
        return f"{50 + across * (width - 80):.1f},{height - 40 - up * (height - 70):.1f}"

    lines = "".join(
        f"<polyline fill=none stroke={colour} stroke-width=2 "
        f'points="{" ".join(at(x, y) for x, q, y in points if q == p)}"/>'
        f"<text x={width - 60} y={20 + 18 * k} fill={colour}>p{p}</text>"
        for k, (p, colour) in enumerate([(50, "#2a6f97"), (99, "#c1121f")])
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role=img aria-label="latency against rate">{lines}'
        f"<text x=50 y={height - 12}>{least_x:.0f} to {most_x:.0f} requests per second (logarithmic)</text>"
        f"<text x=4 y=16>{least_y:.1f} to {most_y:.1f} ms (logarithmic)</text></svg>"
    )
