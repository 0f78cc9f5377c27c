"""EarlyStopping: end the fit when validation no longer gets better."""

from __future__ import annotations

from ..monitor import Patient
from ..state import Pause, Run


class EarlyStopping(Patient):
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
