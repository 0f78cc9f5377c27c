"""Follower: hands on what is written in the record of a fit, without a part in the training."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from ..errors import check_number
from ..train.callback import Callback
from ..train.state import Run

SHORT = 0.25  # seconds since the last look, below which the end of an epoch brings no other


class Follower(Callback):
    """Hands on new rows of the record: every few seconds, after an epoch of some length, and at the end of a fit.

    Whatever a subclass does, it does in `begin`, `follow` and `finish`. In a fit that is resumed `begin` comes when the
    state that the checkpoint held is known. In several processes the first one alone follows.

    Args:
        every: seconds between two looks at the steps of an epoch. A GPU is waited for at each.
    """

    def __init__(self, every: float = 5.0) -> None:
        self.every = check_number("every", every, "at least 0")
        self.state: dict[str, Any] = {}  # what a checkpoint shall hold
        self.restored: Mapping[str, Any] | None = None  # what it held, if this fit goes on from one
        self.steps = self.epochs = 0  # rows that were handed on
        self._run: Run | None = None
        self._next = math.inf

    def begin(self, run: Run) -> None:
        """Before the first batch: set `steps` and `epochs` to what needs not be handed on."""

    def follow(self, run: Run) -> None:
        """Hand on the rows of `run.record` from `steps` and `epochs` on, and count them there."""

    def finish(self, run: Run) -> None:
        """After the last batch, or an error."""

    def on_fit_begin(self, run: Run) -> None:
        self._run, self._next, self.restored = (run if run.strategy.is_main else None), math.inf, None
        self.steps = self.epochs = 0
        self.state = {}
        if self._run is not None and not run.resumed:
            self._begin(run)

    def on_epoch_begin(self, run: Run) -> None:
        if self._run is not None and self._next == math.inf:
            self._begin(run)

    def _begin(self, run: Run) -> None:
        started, self._run = self._run, None  # whoever refuses to begin has nothing to finish
        self.begin(run)
        self._run, self._next = started, time.monotonic() + self.every

    def on_batch_end(self, run: Run) -> None:
        if time.monotonic() >= self._next:
            self._look(run)

    def on_epoch_end(self, run: Run) -> None:
        # Epochs of milliseconds wait for each other: to open a file takes as long as to write fifty rows.
        if self._run is not None and time.monotonic() >= self._next - self.every + min(self.every, SHORT):
            self._look(run)

    def _look(self, run: Run) -> None:
        self.follow(run)
        self._next = time.monotonic() + self.every

    def on_fit_end(self, run: Run) -> None:
        if self._run is not None and self._next == math.inf and self.restored is not None:
            self._begin(run)  # a finished run that is resumed has no epoch
        if self._run is not None and self._next < math.inf:
            self._run, self._next = None, math.inf
            self.follow(run)
            self.finish(run)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._next == math.inf:  # a checkpoint in the middle of an epoch is restored once more, after `begin`
            self.restored = self.state = dict(state)


def how_it_ended(run: Run) -> str:
    """One of "done", "stopped" (for a reason) and "failed" (by an error)."""
    if run.stop_reason is not None:
        return "stopped"
    return "done" if run.step >= run.n_steps else "failed"
