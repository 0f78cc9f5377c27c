"""ReduceLROnPlateau: lower the rates when validation stands still."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ArgumentError
from ..callback import Callback
from ..monitor import Monitor
from ..state import Run


class ReduceLROnPlateau(Callback):
    """Multiply every rate by `factor` after `patience` epochs without a better value.

    Works on top of the schedule, best with `fit(lr, n, cycle_len=None)`.

    Args:
        monitor: a metric's name or "valid_loss"; None takes the first metric with a known direction.
        factor: between 0 and 1.
        patience: the epochs without improvement after which the rates fall. torch's class of this name waits
            for one more.
        min_delta: by how much a value must be better to count.
    """

    def __init__(
        self, monitor: str | None = "valid_loss", factor: float = 0.1, patience: int = 2, min_delta: float = 0.0
    ) -> None:
        if not 0.0 < factor < 1.0:
            raise ArgumentError(f"factor must be between 0 and 1, got {factor}")
        if patience < 1:
            raise ArgumentError(f"patience must be at least 1 epoch, got {patience}")
        self.monitor = Monitor(monitor, min_delta)
        self.factor = factor
        self.patience = patience
        self._waited = 0
        self._scale = 1.0

    def on_fit_begin(self, run: Run) -> None:
        """Find the metric and begin with the scheduled rates."""
        self.monitor.begin(run)
        if run.step == 0:
            self.monitor.forget()
            self._waited, self._scale = 0, 1.0

    def on_batch_begin(self, run: Run) -> None:
        """Scale the rates that the scheduler has set."""
        if self._scale != 1.0:
            for group in run.optimizer.param_groups:
                group["lr"] *= self._scale

    def on_epoch_end(self, run: Run) -> None:
        """Count epochs without improvement, and lower the rates after `patience` of them."""
        if self.monitor.improved(run):
            self._waited = 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            self._scale *= self.factor
            self._waited = 0

    def state_dict(self) -> dict[str, Any]:
        """Best value, epochs waited, present scale."""
        return {**self.monitor.state_dict(), "waited": self._waited, "scale": self._scale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.monitor.load_state_dict(state)
        self._waited, self._scale = int(state["waited"]), float(state["scale"])
