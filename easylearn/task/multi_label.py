"""MultiLabel: each item has any number of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError, DataError
from ..metrics import Metric, accuracy_at
from ..thresholds import Threshold, as_threshold, reaches
from .base import Task
from .exclusive import precision_recall
from .names import as_names


@final
@dataclass(frozen=True, repr=False)
class MultiLabel(Task):
    """Each item has any number of the classes: binary cross-entropy, sigmoid, accuracy at the threshold.

    Targets are zeros and ones, or shares between them, one per class.

    Args:
        names, metrics, loss_fn: see `Task`.
        threshold: the probability from which a label counts as given, or one for each label. Metrics that were made
            without one of their own count at it.
    """

    kind: ClassVar[str] = "multi_label"
    is_multi = True
    instead = "items have several labels here: use report() for the precision and recall of each label"
    threshold: Threshold = field(default=0.5, metadata={"per_name": True})

    def __post_init__(self) -> None:
        threshold = as_threshold(self.threshold)
        object.__setattr__(self, "threshold", threshold)
        super().__post_init__()
        if isinstance(threshold, tuple) and len(threshold) != len(self.names):
            raise ArgumentError(
                f"there are {len(threshold)} thresholds for {len(self.names)} labels: give one for each, in the order "
                f"of {list(self.names[:10])}, or one number for all"
            )
        object.__setattr__(self, "metrics", tuple(m.at(threshold) if m.at else m for m in self.metrics))

    def default_metrics(self) -> tuple[Metric, ...]:
        return (accuracy_at(),)

    def with_threshold(self, threshold: Any) -> Task:
        return replace(self, threshold=threshold)

    def own_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))

    def own_item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        wide = target.reshape(len(target), -1).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, wide, reduction="none").mean(1)

    def activate(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def first_outputs(self, target: Tensor, weights: Tensor | None = None) -> Tensor | None:
        given = target.cpu().double() if weights is None else target.cpu() * weights.unsqueeze(1)
        return ((given.sum(0) + 0.5) / (len(target) + 1)).logit()  # half an item with the label, and half one without

    def outputs_for(self, probs: Tensor) -> Tensor:
        return probs.logit(1e-7)

    def decode(self, probs: Tensor) -> list[Any]:
        return self._named(reaches(probs, self.threshold))

    def decode_target(self, target: Tensor) -> list[Any]:
        return self._named(target > 0.5)

    def _named(self, flags: Tensor) -> list[Any]:
        return [tuple(n for n, on in zip(self.names, row, strict=True) if on) for row in flags.tolist()]

    def index(self, probs: Tensor) -> int | tuple[int, ...] | None:
        return tuple(torch.nonzero(reaches(probs, self.threshold)).flatten().tolist())

    def check_target(self, target: Tensor) -> Tensor:
        if target.ndim != 2 or target.shape[1] != len(self.names):
            raise DataError(f"multi-label targets have shape (n, {len(self.names)}), got {tuple(target.shape)}")
        bad = torch.nonzero(~((target >= 0) & (target <= 1)).all(1)).flatten()
        if len(bad):
            raise DataError(
                f"multi-label targets are zeros and ones, but {len(bad)} rows hold something else, the first is row "
                f"{bad[0].item()}"
            )
        return target

    @property
    def summary(self) -> str:
        return f"any of {len(self.names):,} labels"

    def in_words(self, label: Any) -> str:
        return " ".join(label)

    def item_columns(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        return {"probability": torch.where(target > 0.5, probs, 1 - probs).min(1).values.tolist()}

    def by_name(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        chosen, true = reaches(probs, self.threshold), target > 0.5
        return precision_recall((chosen & true).sum(0), chosen.sum(0), true.sum(0))

    def count_classes(self, target: Tensor) -> list[int]:
        return target.sum(0).int().tolist()

    def calibrated(self, probs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return probs.double().flatten(), (target > 0.5).double().flatten()


def multi_label(classes: Sequence[str], threshold: Threshold = 0.5) -> MultiLabel:
    """Each item has any number of the classes: binary cross-entropy, sigmoid, accuracy at the threshold.

    Args:
        classes: their names, in the order of the model's outputs.
        threshold: the probability from which a label counts as given, or one for each label.

    >>> multi_label(["haze", "road"]).decode(torch.tensor([[0.7, 0.6], [0.1, 0.2]]))
    [('haze', 'road'), ()]
    """
    return MultiLabel(as_names(classes), threshold=threshold)
