"""The most memory that a piece of work takes beyond what was there, where the system tells."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path

STATUS = Path("/proc/self/status")
NAN = float("nan")


class Peak:
    """Resets the peak when it is made; `megabytes` is what came on top since then, NaN where nobody knows.

    On Linux alone a peak can be reset. Elsewhere it is that of the whole process, so that a fresh process is needed for
    each figure; on Windows there is none.
    """

    def __init__(self) -> None:
        gc.collect()
        if sys.platform.startswith("linux"):
            with suppress(OSError, AttributeError):
                ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed before must not hide what comes
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
        self._before = _now()

    def megabytes(self) -> float:
        """Peak since then."""
        return _highest() - self._before


def _now() -> float:
    return _field("VmRSS") if STATUS.exists() else _highest()


def _highest() -> float:
    if STATUS.exists():
        return _field("VmHWM")
    try:
        import resource
    except ImportError:
        return NAN
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10


def _field(name: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 2**10
