"""Is the rest of the machine quiet? Processor time of everybody, less that of the process that is measured."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

try:
    import psutil
except ImportError:
    psutil = None

QUIET = 0.2  # cores that others may use when a round begins
DISTURBED = 0.15  # cores of others, on average over a repeat, above which its round is done again
LONGEST_WAIT = 240.0  # seconds, in a whole run: a machine that never rests must not stop it


class Guard:
    """Waits for a quiet machine, and tells afterwards whether a repeat was disturbed.

    Args:
        on: False never waits and finds nothing disturbed.

    Attributes:
        waited: seconds so far.
        redone: rounds that were done again.
        loads: the most cores that others used, for each round that was kept.
    """

    def __init__(self, on: bool = True) -> None:
        self.on = on and (psutil is not None or Path("/proc/stat").exists())
        self.waited = 0.0
        self.redone = 0
        self.loads: list[float] = []

    def wait(self) -> None:
        """Until others use less than `QUIET` cores."""
        while self.on and self.waited < LONGEST_WAIT:
            busy, begun = machine_seconds(), time.perf_counter()
            time.sleep(0.3)
            took = time.perf_counter() - begun
            if (machine_seconds() - busy) / took <= QUIET:
                return
            self.waited += took

    def start(self, pid: int) -> tuple[float, float, float]:
        """What to give to `load` when the repeat of process `pid` is over."""
        return (time.perf_counter(), machine_seconds(), process_seconds(pid)) if self.on else (0.0, 0.0, 0.0)

    def load(self, pid: int, start: tuple[float, float, float]) -> float:
        """Cores that others used since `start`."""
        if not self.on:
            return 0.0
        took, busy, own = (
            now - then
            for now, then in zip((time.perf_counter(), machine_seconds(), process_seconds(pid)), start, strict=True)
        )
        return max(0.0, (busy - own) / took)


def machine_seconds() -> float:
    """Processor time that all processes together have used."""
    if psutil is not None:
        times = psutil.cpu_times()._asdict()
        return sum(times.get(kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq"))
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq = (int(field) for field in fields[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def process_seconds(pid: int) -> float:
    """Processor time of a process and of all that it started, those that have ended among them."""
    return _by_psutil(pid) if psutil is not None else _by_proc(pid)


def _by_psutil(pid: int) -> float:
    total = 0.0
    gone: Any = psutil.Error
    with suppress(gone):
        family = psutil.Process(pid)
        for process in (family, *family.children(recursive=True)):
            with suppress(gone):
                total += sum(process.cpu_times()[:4])  # of itself, and of children that ended
    return total


def _by_proc(session: int) -> float:
    """Workers lead a session of their own, so whoever is in it belongs to them."""
    ticks = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                if int(fields[3]) == session:
                    ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")
