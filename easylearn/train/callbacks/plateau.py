"""ReduceLROnPlateau: lower the rates when validation stands still."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ArgumentError
from ..monitor import Patient
from ..state import Run


class ReduceLROnPlateau(Patient):
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
        if not 0.0 < factor < 1.0:
            raise ArgumentError(f"factor must be between 0 and 1, got {factor}")
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
