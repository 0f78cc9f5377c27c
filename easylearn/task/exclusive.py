"""Tasks in which each item has exactly one of the classes: what they share, and the usual one, `SingleLabel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError, DataError, short
from ..metrics import Metric, accuracy
from .base import Task
from .names import as_names


class ExclusiveTask(Task):
    """Each item has exactly one of the classes; targets are class numbers, or shares of the classes that add up to 1.

    Abstract: a kind of task says what its loss is and how probabilities come out of logits. This is all of one that a
    learner trains with, reports, exports and loads:

    >>> class Margin(ExclusiveTask):
    ...     kind = "margin"
    ...
    ...     def own_item_losses(self, logits, target):
    ...         return F.multi_margin_loss(logits, target, reduction="none")
    ...
    ...     def activate(self, logits):
    ...         return logits.softmax(-1)
    >>> task = Margin(["cat", "dog"])
    >>> task.loss(torch.tensor([[0.5, 0.0]]), torch.tensor([1]))
    tensor(0.7500)
    >>> Task.from_json(task.to_json())
    margin of 2 (cat, dog)
    """

    is_exclusive = True

    def default_metrics(self) -> tuple[Metric, ...]:
        return (accuracy,)

    def decode(self, probs: Tensor) -> list[Any]:
        return [self.names[i] for i in probs.argmax(-1).tolist()]

    def index(self, probs: Tensor) -> int | tuple[int, ...] | None:
        return int(probs.argmax())

    def decode_target(self, target: Tensor) -> list[Any]:
        return [self.names[i] for i in self.class_numbers(target).tolist()]

    def class_numbers(self, target: Tensor) -> Tensor:
        """The class of each item of a `target`, shape (n,); of shares of classes (distillation) the largest."""
        return target.argmax(-1) if target.is_floating_point() else target

    def check_target(self, target: Tensor) -> Tensor:
        if target.ndim != 1 or target.is_floating_point():
            raise DataError(
                f"{self.kind} targets are class numbers of shape (n,), got {tuple(target.shape)} {target.dtype}"
            )
        bad = torch.nonzero((target < 0) | (target >= len(self.names))).flatten()
        if len(bad):
            row = int(bad[0])
            raise DataError(f"row {row}: class number {int(target[row])} is not between 0 and {len(self.names) - 1}")
        return target.long()  # class codes come as int8 or int32, too, which torch's losses refuse

    def soft_target(self, target: Tensor) -> Tensor:
        return target.float() if target.is_floating_point() else F.one_hot(target, len(self.names)).float()

    @property
    def summary(self) -> str:
        """See `Task.summary`."""
        return f"one of {len(self.names):,} classes"

    def title(self, probs: Tensor, target: Tensor) -> tuple[str, bool]:
        """See `Task.title`: also how sure the model was.

        >>> from easylearn.task import single_label
        >>> single_label(["cat", "dog"]).title(torch.tensor([0.25, 0.75]), torch.tensor(0))
        ('said dog (75%), is cat', False)
        """
        best, truth = int(probs.argmax()), int(self.class_numbers(target))
        predicted, sure = short(self.names[best], 18), f"{float(probs[best]):.0%}"
        if best == truth:
            return f"said {predicted}, but only {sure}", True
        return f"said {predicted} ({sure}), is {short(self.names[truth], 18)}", False

    def item_columns(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        return {"probability": probs.max(1).values.tolist()}

    def by_name(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        counts = self.confusions(probs, target)
        return precision_recall(counts.diagonal(), counts.sum(0), counts.sum(1))

    def count_classes(self, target: Tensor) -> list[int]:
        return torch.bincount(self.class_numbers(target), minlength=len(self.names)).tolist()

    def calibrated(self, probs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        sure, chosen = probs.double().max(1)
        return sure, (chosen == self.class_numbers(target)).double()

    def confusions(self, probs: Tensor, target: Tensor) -> Tensor:
        return count_confusions(probs, self.class_numbers(target), len(self.names))


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

    def first_outputs(self, target: Tensor, weights: Tensor | None = None) -> Tensor | None:
        target = target.cpu()
        if target.is_floating_point():
            counts = (target.double() if weights is None else target * weights.unsqueeze(1)).sum(0)
        else:
            counts = torch.bincount(target, weights, minlength=len(self.names)).double()
        rates = (counts + 0.5) / (counts + 0.5).sum()  # half an item more, as no class is impossible
        return torch.lerp(rates, torch.full_like(rates, 1 / len(rates)), self.label_smoothing).log()

    def smoothed(self, label_smoothing: float) -> Task:
        if self.loss_fn is not None:
            raise ArgumentError("label_smoothing is a setting of the task's own loss; leave it out, or leave out loss=")
        return replace(self, label_smoothing=label_smoothing)


def count_confusions(probs: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    """Counts of shape (n_classes, n_classes): rows are the classes in `targets`, columns the most probable."""
    pairs = targets * n_classes + probs.argmax(1)
    return torch.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def precision_recall(hits: Tensor, chosen: Tensor, true: Tensor) -> dict[str, list[Any]]:
    """Precision, recall, f1 and support per class, as scikit-learn defines them; what would be 0/0 is 0.

    Args:
        hits, chosen, true: how often each class was predicted rightly, was predicted, and is there.
    """
    hits, chosen, true = hits.double(), chosen.double(), true.double()
    return {
        "precision": (hits / chosen.clamp_min(1)).tolist(),
        "recall": (hits / true.clamp_min(1)).tolist(),
        "f1": (2 * hits / (chosen + true).clamp_min(1)).tolist(),
        "support": true.long().tolist(),
    }


def single_label(classes: Sequence[str], label_smoothing: float = 0.0) -> SingleLabel:
    """Each item has exactly one of the classes: cross-entropy, softmax, accuracy.

    Args:
        classes: their names, in the order of the model's outputs.
        label_smoothing: fraction of the target spread over all classes (arXiv 1512.00567).

    >>> single_label(["cat", "dog"])
    single_label of 2 (cat, dog)
    """
    return SingleLabel(as_names(classes), label_smoothing=label_smoothing)
