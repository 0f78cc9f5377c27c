"""SaveBest and SaveCycles: save weights during a fit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ArgumentError, EasyLearnWarning, StateError
from ..callback import Callback
from ..monitor import Monitor
from ..state import Run


def _save(run: Run, name: str) -> Path:
    if run.save is None:
        raise StateError(f"this run cannot save {name!r}: weights are saved by a Learner's fit")
    return run.save(name)


class SaveBest(Callback):
    """Save the weights after each epoch that is the best so far. Load them with `learn.load(name)`.

    In several fits of one learner on the same data the file keeps the best of all of them. A warning says so at the end
    of a fit that had no better epoch.

    Args:
        name: of the file, as for `learn.save`.
        monitor: a metric's name or "valid_loss"; None takes the first metric with a known direction.
    """

    def __init__(self, name: str = "best", monitor: str | None = None) -> None:
        self.name = name
        self.monitor = Monitor(monitor)
        self._file: Path | None = None
        self._improved = False

    def on_fit_begin(self, run: Run) -> None:
        self.monitor.begin(run)
        metric, value, file = run.saved_best.get(self.name, ("", 0.0, None))
        known = file is not None and metric == self.monitor.name and file.exists()
        self.monitor.best = self.monitor.sign * value if known else -math.inf
        self._file, self._improved = file if known else None, False

    def on_epoch_end(self, run: Run) -> None:
        if self.monitor.improved(run):
            self._file, self._improved = _save(run, self.name), True

    def on_fit_end(self, run: Run) -> None:
        if self._file is None:
            return
        best = self.monitor.best_value
        run.saved_best[self.name] = self.monitor.name, best, self._file
        if run.epoch and not self._improved:
            warnings.warn(
                f"{self._file} keeps the weights of an earlier fit, whose {self.monitor.name} of {best:.4g} no epoch "
                "of this one surpassed",
                EasyLearnWarning,
                stacklevel=2,
            )

    def state_dict(self) -> dict[str, Any]:
        file = None if self._file is None else str(self._file)
        return {**self.monitor.state_dict(), "file": file, "improved": self._improved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.monitor.load_state_dict(state)
        file = state.get("file")  # which older checkpoints do not have
        self._file, self._improved = None if file is None else Path(file), bool(state.get("improved"))


class SaveCycles(Callback):
    """Save the weights exactly at the last batch of each cycle, as `name_0`, `name_1` ...

    Args:
        name: of the files, as for `learn.save`.
    """

    def __init__(self, name: str = "cycle") -> None:
        self.name = name

    def on_batch_end(self, run: Run) -> None:
        if run.step in run.cycle_ends:
            _save(run, f"{self.name}_{run.cycle_ends.index(run.step)}")


def make_savers(save_best: str | SaveBest | None, save_cycles: str | None) -> list[Callback]:
    """The callbacks that the arguments of `Learner.fit` with these names ask for."""
    if not isinstance(save_best, str | SaveBest | None) or not isinstance(save_cycles, str | None):
        raise ArgumentError(
            f"save_best must be a file's name or a SaveBest, save_cycles a name, got {save_best!r} and {save_cycles!r}"
        )
    best = SaveBest(save_best) if isinstance(save_best, str) else save_best
    cycles = None if save_cycles is None else SaveCycles(save_cycles)
    return [saver for saver in (best, cycles) if saver is not None]
