"""SingleLabel: each item has exactly one of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError
from .base import Task
from .checks import as_names
from .exclusive import ExclusiveTask


@final
@dataclass(frozen=True, repr=False)
class SingleLabel(ExclusiveTask):
    """Each item has exactly one of the classes: cross-entropy, softmax, accuracy.

    Args:
        names, metrics, loss_fn: see `Task`.
        label_smoothing: fraction of the target spread over all classes (arXiv 1512.00567).
    """

    kind: ClassVar[str] = "single_label"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ArgumentError(f"label_smoothing must be at least 0 and below 1, got {self.label_smoothing}")
        super().__post_init__()

    def own_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)

    def own_item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing, reduction="none")

    def activate(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def outputs_for(self, probs: Tensor) -> Tensor:
        return probs.clamp_min(1e-38).log()

    def smoothed(self, label_smoothing: float) -> Task:
        if self.loss_fn is not None:
            raise ArgumentError("label_smoothing is a setting of the task's own loss; leave it out, or leave out loss=")
        return replace(self, label_smoothing=label_smoothing)


def single_label(classes: Sequence[str], label_smoothing: float = 0.0) -> SingleLabel:
    """Each item has exactly one of the classes: cross-entropy, softmax, accuracy.

    Args:
        classes: their names, in the order of the model's outputs.
        label_smoothing: fraction of the target spread over all classes (arXiv 1512.00567).

    >>> single_label(["cat", "dog"])
    single_label of 2 (cat, dog)
    """
    return SingleLabel(as_names(classes), label_smoothing=label_smoothing)
