"""EarlyStopping: end the fit when validation no longer gets better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ArgumentError
from ..callback import Callback
from ..monitor import Monitor
from ..state import Pause, Run


class EarlyStopping(Callback):
    """Stop after `patience` epochs without a better value.

    Args:
        monitor: a metric's name or "valid_loss"; None takes the first metric with a known direction.
        patience: epochs without improvement before the fit ends.
        min_delta: by how much a value must be better to count.
    """

    def __init__(self, monitor: str | None = "valid_loss", patience: int = 3, min_delta: float = 0.0) -> None:
        if patience < 1:
            raise ArgumentError(f"patience must be at least 1 epoch, got {patience}")
        self.monitor = Monitor(monitor, min_delta)
        self.patience = patience
        self._waited = 0

    def on_fit_begin(self, run: Run) -> None:
        """Find the metric and begin to count."""
        self.monitor.begin(run)
        if run.step == 0:
            self.monitor.forget()
            self._waited = 0

    def on_epoch_end(self, run: Run) -> None:
        """Count epochs without improvement, and stop after `patience` of them."""
        if self.monitor.improved(run):
            self._waited = 0
            return
        self._waited += 1
        # Who interrupts a fit that is over anyway must not find it going on when it is resumed.
        paused = isinstance(run.stop_reason, Pause) and bool(run.metrics)
        if self._waited >= self.patience and (run.stop_reason is None or paused):
            best = self.monitor
            run.stop_reason = f"{best.name} was no better than {best.best_value:.6g} for {self._waited} epochs"

    def state_dict(self) -> dict[str, Any]:
        """Best value and epochs waited."""
        return {**self.monitor.state_dict(), "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.monitor.load_state_dict(state)
        self._waited = int(state["waited"])
