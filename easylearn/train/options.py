"""Training: the arguments that say how a learner trains, shared by every function that makes a learner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch

from ..errors import ArgumentError, check_number, check_whole
from ..files import StrPath
from ..task import LossFn
from .callback import Callback
from .optim import OptimizerFn
from .strategy import SingleDevice, Strategy


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
        strategy: where and how the model runs, instead of clip, accumulate, precision, compile and device.
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
    strategy: Strategy | None = None
    seed: int = 0
    path: StrPath = "models"
    callbacks: Sequence[Callback] = ()
    progress: bool = True

    def __post_init__(self) -> None:
        if self.wd is not None:
            check_number("wd", self.wd, "at least 0")
        check_number("label_smoothing", self.label_smoothing, "at least 0", "below 1")
        check_whole("seed", self.seed, 0)
        if not isinstance(self.progress, bool):
            raise ArgumentError(f"progress must be True or False, got {self.progress!r:.100}")

    def make_strategy(self) -> Strategy:
        """The strategy that was given, or one for a single device."""
        if self.strategy is None:
            return SingleDevice(self.device, self.precision, self.clip, self.accumulate, self.compile)
        usual = Training()
        for name in ("device", "precision", "clip", "accumulate", "compile"):
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
    strategy: Strategy | None
    seed: int
    path: StrPath
    callbacks: Sequence[Callback]
    progress: bool
