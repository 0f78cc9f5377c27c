"""EarlyStopping and ReduceLROnPlateau: what is done when validation no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...errors import check_number, check_whole
from ..callback import Callback
from ..monitor import Monitor
from ..state import Pause, Run


class _Patient(Callback):
    """Counts epochs without a better value, and calls `_run_out` from `patience` of them on."""

    def __init__(self, monitor: str | None, patience: int, min_delta: float) -> None:
        check_whole("patience", patience)
        self.monitor = Monitor(monitor, min_delta)
        self.patience = patience
        self._waited = 0

    def on_fit_begin(self, run: Run) -> None:
        self.monitor.begin(run)
        if run.step == 0:
            self.monitor.best = -math.inf
            self._waited = 0

    def on_epoch_end(self, run: Run) -> None:
        self._waited = 0 if self.monitor.improved(run) else self._waited + 1
        if self._waited >= self.patience:
            self._run_out(run)

    def _run_out(self, run: Run) -> None:
        """What is done then."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return {**self.monitor.state_dict(), "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.monitor.load_state_dict(state)
        self._waited = int(state["waited"])


class EarlyStopping(_Patient):
    """Stop after `patience` epochs without a better value.

    Args:
        monitor: a metric's name or "valid_loss"; None takes the first metric with a known direction.
        patience: epochs without improvement before the fit ends.
        min_delta: by how much a value must be better to count.
    """

    def __init__(self, monitor: str | None = "valid_loss", patience: int = 3, min_delta: float = 0.0) -> None:
        super().__init__(monitor, patience, min_delta)

    def _run_out(self, run: Run) -> None:
        # Who interrupts a fit that is over anyway must not find it going on when it is resumed.
        paused = isinstance(run.stop_reason, Pause) and bool(run.metrics)
        if run.stop_reason is None or paused:
            best = self.monitor
            run.stop_reason = f"{best.name} was no better than {best.best_value:.6g} for {self._waited} epochs"


class ReduceLROnPlateau(_Patient):
    """Multiply every rate by `factor` after `patience` epochs without a better value.

    Works on top of the schedule, best with `fit(lr, n, cycle_len=None)`.

    Args:
        monitor: a metric's name or "valid_loss"; None takes the first metric with a known direction.
        factor: between 0 and 1.
        patience: epochs without improvement after which the rates fall. torch's class of this name waits for one more.
        min_delta: by how much a value must be better to count.
    """

    def __init__(
        self, monitor: str | None = "valid_loss", factor: float = 0.1, patience: int = 2, min_delta: float = 0.0
    ) -> None:
        check_number("factor", factor, "above 0", "below 1")
        super().__init__(monitor, patience, min_delta)
        self.factor = factor
        self._scale = 1.0

    def on_fit_begin(self, run: Run) -> None:
        super().on_fit_begin(run)
        if run.step == 0:
            self._scale = 1.0

    def on_batch_begin(self, run: Run) -> None:
        """Scale the rates that the scheduler has set."""
        if self._scale != 1.0:
            for group in run.optimizer.param_groups:
                group["lr"] *= self._scale

    def _run_out(self, run: Run) -> None:
        self._scale *= self.factor
        self._waited = 0

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "scale": self._scale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._scale = float(state["scale"])
