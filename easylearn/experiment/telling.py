"""Telling: a line for each training of an experiment as it ends, and on a terminal a bar with the best so far."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..analysis.page import duration, number
from ..train.waiting import bars, shows_bars
from .lines import Row
from .plans import losses_of
from .store import History, Job, Key

Unit = Literal["trial", "fold", "seed"]


class Line:
    """What is told of an experiment while it runs: how each training came out, and how many there are.

    It is called with the history now and then, in the process that looks after the work; the workers say nothing.

    Args:
        total: trainings in all.
        shown: False says nothing.
        unit: what a training is of. Of trials, which compete, the best so far is told; of others the mean.
    """

    def __init__(self, total: int, shown: bool, unit: Unit = "trial") -> None:
        self.total, self.shown, self.unit = total, shown, unit
        self._bar = bars()(total=total, unit=unit, leave=True, disable=not (shown and shows_bars()))
        self._seen: set[Key] | None = None

    def __call__(self, history: History) -> None:
        """Tell of what has ended since; what had ended at the first call came out of the folder, and is not told."""
        if not self.shown or (self._seen is not None and len(history.ends) == len(self._seen)):
            return
        jobs, seen = {job.key: job for job in history.jobs}, history.ends.keys() if self._seen is None else self._seen
        ends: dict[Key, Row] = {}
        for key, row in history.ends.items():
            if key in jobs:  # else another process has planned and done it since the rounds were read: told next time
                ends[key] = row
                if key not in seen:
                    self._tell(row, jobs, ends)
        self._seen = set(ends)
        if not self._bar.disable:
            self._bar.n = len({trial for trial, _ in ends})
            self._bar.set_postfix_str(self._so_far(list(ends.values())), refresh=False)
            self._bar.refresh()

    def _tell(self, row: Row, jobs: Mapping[Key, Job], ends: Mapping[Key, Row]) -> None:
        job = jobs[row["trial"], row["rung"]]
        name = {"trial": f"trial {job.trial}", "fold": f"fold {job.fold}", "seed": f"seed {job.seed}"}[self.unit]
        if self.unit == "fold" and len({other.seed for other in jobs.values()}) > 1:
            name += f", seed {job.seed}"
        if self.unit == "seed" and job.by:
            name = f"trial {job.by}, {name}"
        parts = [f"[{len({trial for trial, _ in ends})}/{self.total}] {name}: {_outcome(row)}"]
        parts += [_values(job.point)] if self.unit == "trial" and job.point else []
        alike = [r for key, r in ends.items() if self.unit == "trial" or jobs[key].by == job.by]
        parts += [self._so_far(alike)] if len(alike) > 1 else []
        if sys.stdout is not None:  # as it is in a program of Windows without a console
            self._bar.write(_writable("; ".join(filter(None, parts))), file=sys.stdout)

    def _so_far(self, rows: Sequence[Row]) -> str:
        """The best of trials, or the mean of others; nothing where none has a value."""
        good = [row for row in rows if row.get("value") is not None]
        if not good:
            return ""
        if self.unit != "trial":
            return f"mean {number(sum(row['value'] for row in good) / len(good))}"
        losses = losses_of(good)
        best = good[losses.index(min(losses))]
        return f"best {best['metric']} {number(best['value'])} (trial {best['trial']})"

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


def _writable(text: str) -> str:
    """What the standard output can take: on Windows, into a file, that is no word in another script."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _values(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v!r:.60}" for k, v in point.items())


def _outcome(row: Row) -> str:
    """What came of a training: its value and time, or why it has none."""
    took = f"in {duration(row['seconds'])}"
    if row.get("value") is None:
        return f"{row['status']} {took}" + (f" ({row['reason']:.100})" if row.get("reason") else "")
    return f"{row['metric']} {number(row['value'])} {took}" + ("" if row["status"] == "done" else f" ({row['status']})")
