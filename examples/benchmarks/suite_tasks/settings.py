"""What the implementations are told, and what a repeat gives back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Figures = dict[str, float]
Repeat = Callable[[], Figures]
"""One short timed repeat: set-up is done before, and not in it."""


@dataclass(frozen=True)
class Settings:
    """Of one implementation in one run of the suite.

    Args:
        quick: sizes that only show that everything runs.
        cpu: count processor time instead of wall time.
        threads: of torch.
        photos: a folder of class folders with made-up photographs, for the tasks that need them.
        scratch: a folder of the implementation's own, which is deleted after the run.
    """

    quick: bool
    cpu: bool
    threads: int
    photos: Path
    scratch: Path

    def pick(self, full: int, quick: int) -> int:
        """A size."""
        return quick if self.quick else full

    def now(self) -> float:
        """Seconds, of which only differences mean anything."""
        if not self.cpu:
            return time.perf_counter()
        import resource  # not on Windows

        used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in used)
