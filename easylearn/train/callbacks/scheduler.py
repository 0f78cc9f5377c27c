"""Scheduler: sets each group's rate before each step."""

from __future__ import annotations

from ..callback import Callback
from ..state import Run


class Scheduler(Callback):
    """Sets the rate of each group: its base rate times `run.schedule`. A function of the step, without state."""

    def on_batch_begin(self, run: Run) -> None:
        per_epoch = run.steps_per_epoch
        epoch, n_epochs = run.step / per_epoch, run.n_steps / per_epoch
        scale = run.schedule(epoch, n_epochs)
        for group in run.optimizer.param_groups:
            group["lr"] = group["base_lr"] * scale
        if run.momentum is not None:
            momentum = run.momentum(epoch, n_epochs)
            for group in run.optimizer.param_groups:
                if "momentum" in group:
                    group["momentum"] = momentum
                elif "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
