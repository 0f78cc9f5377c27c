"""Progress: a bar for the batches and a line for each epoch."""

from __future__ import annotations

import sys
import time
from typing import Any

from ...nn.body_head import BodyHead, is_linear
from ..callback import Callback
from ..record import format_table
from ..state import Run
from ..waiting import Waiting, bars, shows_bars

FEW_STEPS = 10
"""A fit of fewer is hardly begun; with little data that is easily overlooked."""
LONG = 10.0
"""Seconds without a row after which a log is told that the training goes on."""


class Progress(Callback):
    """A tqdm bar (on a terminal, or in a notebook that has ipywidgets) while an epoch runs, then its row of the record.

    Where nobody sees a bar, the rows are printed, and of an epoch that takes long a line on the standard error says now
    and then how many batches of the fit are done. The loss is looked at only when the bar is drawn.

    Args:
        interval: seconds between two drawings of the bar.
    """

    def __init__(self, interval: float = 0.2) -> None:
        self.interval = interval
        self._bar: Any = None
        self._wait: Waiting | None = None  # where there is no bar
        self._next = 0.0
        self._header = ""
        self._shown = True

    def on_fit_begin(self, run: Run) -> None:
        self._shown = run.strategy.is_main  # one of several processes is enough
        off = not (self._shown and shows_bars())
        self._bar = bars()(total=run.n_steps, initial=run.step, leave=False, disable=off, unit="batch")
        self._next, self._header = 0.0, ""
        if self._shown and off:
            self._wait = Waiting("training", run.n_steps - run.step, True, "batches", LONG).__enter__()
        if run.step == 0 and run.n_steps < FEW_STEPS and not _began_solved(run):
            self._print(
                f"{run.n_steps} step{'s' if run.n_steps > 1 else ''} in all, which is few: a smaller batch_size, or "
                "more epochs, makes more of them"
            )

    def on_batch_end(self, run: Run) -> None:
        if self._wait is not None:
            self._wait.add(1)
        elif not self._bar.disable and (now := time.perf_counter()) >= self._next:
            self._next = now + self.interval
            self._bar.n = run.step
            self._bar.set_description(f"epoch {run.life_epoch}", refresh=False)
            self._bar.set_postfix_str(f"loss {run.record.last_loss:.4f}", refresh=False)
            self._bar.refresh()

    def on_validate_begin(self, run: Run) -> None:
        if not self._bar.disable:
            self._bar.set_description(f"epoch {run.life_epoch}, validating")

    def on_epoch_end(self, run: Run) -> None:
        header, row = format_table([run.record.last]).splitlines()
        if header != self._header:
            self._header = header
            self._print(header)
        self._print(row)
        if self._wait is not None:
            self._wait.put_off()

    def _print(self, line: str) -> None:
        if self._shown:
            bars().write(line, file=sys.stdout)

    def on_fit_end(self, run: Run) -> None:
        self._bar.close()
        if self._wait is not None:
            self._wait.__exit__(None)
            self._wait = None
        if run.stop_reason is not None:
            self._print(f"stopped: {run.stop_reason}")


def _began_solved(run: Run) -> bool:
    """Whether a linear head is trained on a frozen body: its first fit began at the solution; see `start_head`."""
    if run.context is None or run.task.loss_fn is not None or any(g.trainable for g in run.context.groups[:-1]):
        return False
    return isinstance(run.context.model, BodyHead) and is_linear(run.context.model.head)
