"""What the implementations are told, and what a repeat gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Figures = dict[str, float]
Repeat = Callable[[], Figures]
"""One timed repeat: set-up is done before, and not in it."""


@dataclass(frozen=True)
class Settings:
    """Of one run of the suite.

    Args:
        quick: sizes that only show that everything runs.
        threads: of torch.
        photos: a folder of class folders with made-up photographs, for the tasks that need them.
        scratch: a folder that is deleted after the run.
    """

    quick: bool
    threads: int
    photos: Path
    scratch: Path

    def pick(self, full: int, quick: int) -> int:
        """A size."""
        return quick if self.quick else full
