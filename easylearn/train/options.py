"""Training: the arguments that say how a learner trains, shared by every function that makes a learner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import torch

from ..errors import ArgumentError, check_number, check_whole
from ..files import StrPath
from ..task import LossFn
from .callback import Callback
from .distributed import Lanes
from .optim import OptimizerFn, check_optimizer
from .processes import join, local_device, wants_processes
from .sharded import Sharded
from .strategy import SingleDevice, Strategy

OLD_FIT = {
    "n_cycle": "n", "n_epoch": "epochs", "lrs": "lr", "lr_max": "lr", "wds": "wd", "cbs": "callbacks",
    "best_save_name": "save_best", "cycle_save_name": "save_cycles",
    "use_clr": "schedule=slanted_triangular(...)", "use_clr_beta": "schedule=one_cycle(...)",
}  # fmt: skip
"""Arguments of `fit` in other libraries, and what they are called here."""


@dataclass(frozen=True)
class Training:
    """How a learner trains, whatever it trains on.

    Args:
        optimizer: a torch optimizer class, or a function of (param groups, lr=); None takes AdamW.
        metrics: a list instead of the task's own: `Metric`s or functions of (probabilities, targets).
        loss: instead of the task's own: a function of (logits, target) giving the mean loss.
        label_smoothing: share of a single-label target spread over all classes (arXiv 1512.00567).
        threshold: of a task of several labels: the probability from which a label counts as given, or one for each
            label; None is 0.5. `choose_threshold` finds one, and `learn.task = learn.task.with_threshold(...)` sets it.
        wd: weight decay; None leaves the optimizer's default.
        clip: largest norm of the gradients; None for no clipping.
        accumulate: batches per optimizer step.
        precision: "fp32", "bf16" or "fp16".
        compile: run training steps through `torch.compile`: True, or one of its modes. It takes a minute or so before
            the first step, and what it gains depends on model and device.
        device: None takes the best there is.
        lanes: into how many each batch is cut, so that weights do not depend on how many processes compute them: a
            power of 2 times their number. None is one for each process that torchrun, or `launch`, has started.
        exact: the same weights to the bit on any number of processes; False is quicker from four on, and equal up to
            rounding.
        shard: "fsdp" for a model that does not fit on one device: each process holds a share of weights, gradients and
            the optimizer's state (FSDP2). The results are equal up to rounding.
        strategy: where and how the model runs, instead of device, precision, clip, accumulate, compile, lanes, exact,
            shard.
        seed: of shuffles, augmentation and dropout.
        path: folder for saved weights.
        callbacks: used in every fit.
        progress: draw bars and print a line per epoch.
    """

    optimizer: OptimizerFn | None = None
    metrics: Sequence[Any] | None = None
    loss: LossFn | None = None
    label_smoothing: float = 0.0
    threshold: float | Sequence[float] | None = None
    wd: float | None = None
    clip: float | None = None
    accumulate: int = 1
    precision: str = "fp32"
    compile: bool | str = False
    device: str | torch.device | None = None
    lanes: int | None = None
    exact: bool = True
    shard: Literal["fsdp"] | None = None
    strategy: Strategy | None = None
    seed: int = 0
    path: StrPath = "models"
    callbacks: Sequence[Callback] = ()
    progress: bool = True

    def __post_init__(self) -> None:
        if self.optimizer is not None:
            check_optimizer(self.optimizer)
        if self.wd is not None:
            check_number("wd", self.wd, "at least 0")
        check_number("label_smoothing", self.label_smoothing, "at least 0", "below 1")
        check_whole("seed", self.seed, 0)
        if self.shard not in (None, "fsdp"):
            raise ArgumentError(f'shard must be "fsdp" or None, got {self.shard!r:.100}')
        if not isinstance(self.progress, bool):
            raise ArgumentError(f"progress must be True or False, got {self.progress!r:.100}")

    def make_strategy(self) -> Strategy:
        """The strategy that was given, or one for a single device, or for the processes that run this script."""
        if self.strategy is None:
            how = self.precision, self.clip, self.accumulate, self.compile
            processes = join() if wants_processes() else None
            if processes is None and self.lanes in (None, 1):
                return SingleDevice(self.device, *how)
            world, nearest = (1, None) if processes is None else (processes.world, local_device())
            lanes, device = world if self.lanes is None else self.lanes, nearest if self.device is None else self.device
            if self.shard is not None and processes is not None:
                return Sharded(lanes, self.exact, processes, device, *how)
            return Lanes(lanes, self.exact, processes, device, *how)
        usual = Training()
        for name in ("device", "precision", "clip", "accumulate", "compile", "lanes", "exact", "shard"):
            if getattr(self, name) != getattr(usual, name):
                raise ArgumentError(f"strategy= says where and how the model runs; give {name}= to the strategy itself")
        return self.strategy


class TrainingOptions(TypedDict, total=False):
    """The fields of `Training` as keywords, for type checkers."""

    optimizer: OptimizerFn | None
    metrics: Sequence[Any] | None
    loss: LossFn | None
    label_smoothing: float
    threshold: float | Sequence[float] | None
    wd: float | None
    clip: float | None
    accumulate: int
    precision: str
    compile: bool | str
    device: str | torch.device | None
    lanes: int | None
    exact: bool
    shard: Literal["fsdp"] | None
    strategy: Strategy | None
    seed: int
    path: StrPath
    callbacks: Sequence[Callback]
    progress: bool
