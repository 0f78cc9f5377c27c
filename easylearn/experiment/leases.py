"""Leases: who does which job, by files that are made exclusively; no lock, no server.

The holder of a claim is whoever made the file with the highest number, `0007-1.0`, `0007-1.1`, ... A claim ends with
its process: on the same machine that is seen at once, from another one when the holder has not renewed it for a while.
A claim saves work; results do not rest on it, since a job done twice gives the same twice.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from .lines import Row, line_of
from .store import create_once, read_once

LEASE = 60.0
"""Seconds after which a claim that was not renewed is nobody's, where its process cannot be looked at."""


class Leases:
    """Claims of one worker in a folder.

    Args:
        folder: of the claims; it must be there.
        seconds: see `LEASE`.
    """

    def __init__(self, folder: Path, seconds: float = LEASE) -> None:
        self.folder, self.seconds = folder, seconds
        self._held: dict[str, Path] = {}
        self._mutex, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, name: str) -> bool:
        """Claim a job; False while somebody else has it."""
        number = 0
        while (path := self._path(name, number)).exists():
            number += 1
        if number and self._is_live(self._path(name, number - 1)):
            return False
        if not create_once(path, line_of(_owner()), sync=False):
            return False
        with self._mutex:
            self._held[name] = path
        if self._thread is None:
            self._thread = threading.Thread(target=self._renew, daemon=True)
            self._thread.start()
        return True

    def _path(self, name: str, number: int) -> Path:
        return self.folder / f"{name}.{number}"

    def give_back(self, name: str) -> None:
        """End a claim: whoever comes next may have the job."""
        with self._mutex:
            path = self._held.pop(name, None)
        if path is not None:  # marked, not deleted: a number must not be given twice
            with suppress(OSError):
                path.write_text(line_of({"given back": True}))

    def done(self, name: str) -> None:
        """Forget a claim whose job has ended."""
        with self._mutex:
            self._held.pop(name, None)

    def is_lost(self, name: str) -> bool:
        """Whether somebody else took a job over, since this worker seemed dead: it slept, say."""
        with self._mutex:
            path = self._held.get(name)
        return path is None or self._path(name, int(path.suffix[1:]) + 1).exists()

    def close(self) -> None:
        """Give back what is held."""
        self._stop.set()
        for name in list(self._held):
            self.give_back(name)

    def _renew(self) -> None:
        while not self._stop.wait(self.seconds / 4):
            with self._mutex:
                held = list(self._held.values())
            for path in held:
                with suppress(OSError):
                    os.utime(path)

    def _is_live(self, path: Path) -> bool:
        owner = read_once(path)
        if owner is not None and "given back" in owner:
            return False
        if owner is not None and owner.get("machine") == _machine():
            here = started(owner["pid"])
            if here is None or (here and here != owner["started"]):
                return False
            if here:  # the very process
                return True
        return self._age(path) < self.seconds

    def _age(self, path: Path) -> float:
        """Seconds since a claim was renewed, by the clock of the file system: those of machines may differ."""
        clock = self.folder / f".clock-{_machine()[:40]}-{os.getpid()}"
        try:
            clock.touch()
            os.utime(clock)
            return clock.stat().st_mtime - path.stat().st_mtime
        except OSError:
            return 0.0
        finally:
            with suppress(OSError):
                clock.unlink()


def _owner() -> Row:
    return {"machine": _machine(), "pid": os.getpid(), "started": started(os.getpid()) or "", "at": time.time()}


@lru_cache(1)
def _machine() -> str:
    """What tells a machine from another of the same name, and a container from its neighbour."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid").strip("pid:[]"))
    return "-".join(parts)


def started(pid: int) -> str | None:
    """When a process began, None if there is none; "" where the system does not say."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        except OSError:
            return ""
        return None if fields[0] in "ZX" else fields[19]
    if sys.platform == "win32":
        return ""  # asking there ends the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return ""
    return ""
