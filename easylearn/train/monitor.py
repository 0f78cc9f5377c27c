"""Monitor: watches one metric of each epoch, of which it knows whether higher is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentError, check_number, did_you_mean
from .state import Run


class Monitor:
    """The best value of a metric so far.

    Args:
        name: a metric's name or "valid_loss"; None takes the first metric with a known direction, else the
            validation loss.
        min_delta: by how much a value must be better to count.

    Raises:
        ArgumentError: there is no such metric, its direction is unknown, or there is no validation data.
    """

    def __init__(self, name: str | None = None, min_delta: float = 0.0) -> None:
        self.asked = name
        self.min_delta = check_number("min_delta", min_delta, "at least 0")
        self.name = name or "valid_loss"
        self.sign = 1.0
        self.best = -math.inf

    def begin(self, run: Run) -> None:
        """Find the metric."""
        if run.valid_loader is None:
            raise ArgumentError("the best epoch is chosen on validation data, and there is none")
        direction = {m.name: m.higher_is_better for m in run.task.metrics}
        if self.asked is None:
            self.name = next((n for n, d in direction.items() if d is not None), "valid_loss")
        elif self.asked not in {"valid_loss", *direction}:
            raise ArgumentError(f"no metric {self.asked!r}. {did_you_mean(self.asked, ['valid_loss', *direction])}")
        higher = False if self.name == "valid_loss" else direction[self.name]
        if higher is None:
            raise ArgumentError(
                f"whether higher or lower {self.name!r} is better is not known; make it a "
                f"Metric({self.name!r}, fn, higher_is_better=...)"
            )
        self.sign = 1.0 if higher else -1.0

    def improved(self, run: Run) -> bool:
        """Whether this epoch is the best so far; an epoch without validation, or with NaN, never is."""
        if self.name not in run.metrics:
            return False
        value = self.sign * run.metrics[self.name]
        if math.isnan(value) or not value > self.best + (self.min_delta if math.isfinite(self.best) else 0.0):
            return False
        self.best = value
        return True

    @property
    def best_value(self) -> float:
        """The best value, with its own sign."""
        return self.sign * self.best

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best if math.isfinite(self.best) else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = -math.inf if state["best"] is None else float(state["best"])
