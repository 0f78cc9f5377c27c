"""Counters of several processes in one file of memory, and as Prometheus reads them."""

from __future__ import annotations

import mmap
import os
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import StateError

STATUSES = (200, 400, 401, 403, 404, 405, 406, 408, 411, 413, 415, 422, 431, 499, 500, 503)
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
_NAMES = (
    *(f"status {s}" for s in STATUSES), *(f"le {b}" for b in BOUNDS), "requests", "seconds",
    "items", "batches", "model seconds", "restarts", "reloads", "reload errors", "alive", "ready", "now", "resident",
)  # fmt: skip
_PLACE = {name: i for i, name in enumerate(_NAMES)}
_OF_STATUS = {s: _PLACE[f"status {s}"] for s in STATUSES}
_REQUESTS, _SECONDS, _FIRST = _PLACE["requests"], _PLACE["seconds"], _PLACE[f"le {BOUNDS[0]}"]


class Counters:
    """A row of numbers per worker. Each worker writes its own row, anyone reads all; a restarted worker goes on in its.

    Args:
        path: the file; None holds them in memory alone.
        rows: how many workers.
        row: which row is ours.

    Raises:
        StateError: the file cannot be made, or its disk is full.

    >>> counters = Counters(None, rows=2)
    >>> counters.add("items", 3)
    >>> counters.total("items")
    3.0
    """

    def __init__(self, path: Path | None, rows: int, row: int = 0) -> None:
        self._path, self._rows, self._base = path, rows, row * len(_NAMES)
        size = rows * len(_NAMES) * 8
        if path is None:
            held = mmap.mmap(-1, size)
        else:
            try:
                with open(path, "r+b" if path.exists() else "w+b") as file:
                    # Written, not only made longer: on a full disk whoever counts first would end without a word.
                    file.write(bytes(max(0, size - file.seek(0, os.SEEK_END))))
                    file.flush()
                    held = mmap.mmap(file.fileno(), size)
            except OSError as error:
                raise StateError(
                    f"{path} cannot hold the counters of the workers: {error.strerror}; TMPDIR names another folder"
                ) from error
        self._values = memoryview(held).cast("d")

    def add(self, name: str, by: float = 1.0) -> None:
        """Count in our row."""
        self._values[self._base + _PLACE[name]] += by

    def set(self, name: str, value: float, row: int | None = None) -> None:
        """Write a number into a row, ours where none is named."""
        self._values[(self._base if row is None else row * len(_NAMES)) + _PLACE[name]] = value

    def get(self, name: str, row: int) -> float:
        """A number of a row."""
        return self._values[row * len(_NAMES) + _PLACE[name]]

    def total(self, name: str) -> float:
        """Over all rows."""
        return sum(self.get(name, row) for row in range(self._rows))

    def observe(self, status: int, seconds: float, n: int = 1) -> None:
        """Count an answered request, or `n` that were answered alike."""
        values, base, bucket = self._values, self._base, bisect_left(BOUNDS, seconds)
        values[base + _OF_STATUS.get(status, _OF_STATUS[500])] += n
        values[base + _REQUESTS] += n
        values[base + _SECONDS] += n * seconds
        if bucket < len(BOUNDS):
            values[base + _FIRST + bucket] += n

    def beat(self) -> None:
        """Say that this worker lives, and that its file is in use: cleaners of temporary folders take old ones."""
        self.set("alive", time.monotonic())
        self.set("resident", float(resident_bytes()))
        if self._path is not None:
            with suppress(OSError):
                os.utime(self._path)  # writing to its memory leaves no time

    def text(self, models: Mapping[str, str]) -> str:
        """All of them in Prometheus' text format; `models` has the version of each model by its name."""
        out: list[str] = []

        def family(name: str, kind: str, what: str, rows: Sequence[tuple[str, float]]) -> None:
            out.append(f"# HELP easylearn_{name} {what}\n# TYPE easylearn_{name} {kind}")
            out.extend(f"easylearn_{name}{label} {value:.10g}" for label, value in rows)

        statuses = [(f'{{status="{s}"}}', self.total(f"status {s}")) for s in STATUSES]
        family(
            "requests_total", "counter", "Requests answered.", [r for r in statuses if r[1]] or [('{status="200"}', 0)]
        )
        below = 0.0
        buckets: list[tuple[str, float]] = []
        for bound in BOUNDS:
            below += self.total(f"le {bound}")
            buckets.append((f'_bucket{{le="{bound:g}"}}', below))
        n = self.total("requests")
        buckets += [('_bucket{le="+Inf"}', n), ("_sum", self.total("seconds")), ("_count", n)]
        family("request_seconds", "histogram", "Seconds from the head of a request to its answer.", buckets)
        for name, what in (
            ("items", "Items predicted."), ("batches", "Batches that went through a model."),
            ("model seconds", "Seconds in which a model computed."), ("restarts", "Workers started anew."),
            ("reloads", "Models replaced while serving."), ("reload errors", "Model files that were not taken."),
        ):  # fmt: skip
            family(f"{name.replace(' ', '_')}_total", "counter", what, [("", self.total(name))])
        family("workers", "gauge", "Workers that are ready.", [("", self.total("ready"))])
        family("resident_bytes", "gauge", "Memory of all workers.", [("", self.total("resident"))])
        named = [(f'{{model="{_escaped(name)}",version="{version[:12]}"}}', 1.0) for name, version in models.items()]
        family("model_info", "gauge", "The models that are served.", named)
        return "\n".join(out) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resident_bytes() -> int:
    """The memory of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
