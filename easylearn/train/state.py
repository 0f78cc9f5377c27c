"""Run: the state of one fit, which every hook of a callback is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.order import Batch, Loader
from ..nn.groups import ParamGroup, set_train_mode
from ..schedules import Schedule
from ..task import Task
from .record import Record
from .strategy import Strategy


class Pause(str):
    """A `stop_reason` after which the fit is not over: Ctrl-C gives one, and a callback may.

    With `fit(..., checkpoint=...)` a last checkpoint is then written, from which `learn.resume` goes on.

    >>> run_out_of_time = Pause("the hour is over")
    """

    __slots__ = ()


@dataclass(slots=True)
class Run:
    """The state of one fit.

    Args:
        model: what is trained now (the head alone while precomputed features are used).
        task: owns loss and metrics.
        optimizer: made for this fit; each of its param groups has the name of its layer group under "group".
        strategy: device, precision, clipping, accumulation.
        groups: the layer groups of `model`.
        train_loader, valid_loader: give the batches of an epoch.
        record: where each step and epoch is written down.
        rates: base learning rate of each group.
        schedule: multiplies the base rates; see `easylearn.schedules`.
        momentum: absolute momentum (SGD) or first beta (Adam) by the same clock, or None to leave it alone.
        n_steps: batches in the whole fit.
        seed: of the learner.
        first_epoch: epochs trained in the learner's life before this fit.
        freeze_stats: batch-norm statistics of all groups but the last stay as they are.
        cycle_ends: the steps after which a cycle is over.
        save: saves the weights under a name, as `learn.save`; None where no learner made the run.
        context: the `RunContext` of whoever made the run: its data and whole model, and the facts that describe them.
        saved_best: of each file of best weights, by name: the metric, its value, and where it is. The learner's own.
        callbacks: all that are called, in their order; the loop sets them.
        resumed: it goes on from a checkpoint, whose state callbacks get after `on_fit_begin`.
        step: batches done in this fit.
        epoch: whole epochs done in this fit.
        batch: the batch at hand; a callback may replace it in `on_batch_begin`.
        logits: the model's output for it.
        loss: its loss, with gradients; a callback may replace it in `on_loss`.
        metrics: of the epoch's validation, "valid_loss" among them; empty if there was none.
        stop_reason: set it, and the fit ends after the present step, or epoch; a `Pause` is to be resumed.
        steps_per_epoch: batches in one epoch.
    """

    model: nn.Module
    task: Task
    optimizer: torch.optim.Optimizer
    strategy: Strategy
    groups: tuple[ParamGroup, ...]
    train_loader: Loader
    valid_loader: Loader | None
    record: Record
    rates: tuple[float, ...]
    schedule: Schedule
    momentum: Schedule | None
    n_steps: int
    seed: int = 0
    first_epoch: int = 0
    freeze_stats: bool = False
    cycle_ends: tuple[int, ...] = ()
    save: Callable[[str], Path] | None = None
    saved_best: dict[str, tuple[str, float, Path]] = field(default_factory=dict)
    context: Any = None
    callbacks: Sequence[Any] = ()
    resumed: bool = False
    step: int = 0
    epoch: int = 0
    batch: Batch | None = None
    logits: Tensor | None = None
    loss: Tensor | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    stop_reason: str | None = None
    steps_per_epoch: int = field(init=False)

    def __post_init__(self) -> None:
        self.steps_per_epoch = len(self.train_loader)

    @property
    def n_epochs(self) -> int:
        """Epochs in this fit, a last partial one counted whole."""
        return -(-self.n_steps // self.steps_per_epoch)

    @property
    def batch_in_epoch(self) -> int:
        """Batches done in the present epoch."""
        return self.step - self.epoch * self.steps_per_epoch

    @property
    def life_epoch(self) -> int:
        """The present epoch, counted over the learner's life: what shuffles and augmentation are keyed by."""
        return self.first_epoch + self.epoch

    def train_mode(self) -> None:
        """Set training mode for groups that train and evaluation mode for frozen ones."""
        still = {g.name for g, rate in zip(self.groups, self.rates, strict=True) if g.branch and not rate}
        set_train_mode(self.model, self.groups, self.freeze_stats, still)
