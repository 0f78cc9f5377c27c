"""Masks: one of the classes for each pixel of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError, DataError, short
from ..losses import VOID, MaskCrossEntropy
from ..mask_metrics import (
    dice,
    dice_of,
    few_at_a_time,
    iou_of,
    mask_of,
    mean_iou,
    pixel_accuracy,
    pixel_counts,
    recall_of,
)
from ..metrics import Metric
from .base import Task
from .mask_predictions import MaskPrediction, MaskPredictions
from .names import as_names

_NOTED = 3  # classes that a title names


@final
@dataclass(frozen=True, repr=False)
class Masks(Task):
    """Each pixel has exactly one of the classes: cross-entropy of the known pixels, softmax, mean IoU.

    Outputs have shape (n, classes, h, w), at any size: they are brought to that of the masks. Targets are class numbers
    (n, height, width), uint8, in which 255 says that nothing is known.

    Args:
        names, metrics, loss_fn: see `Task`.
        values: the number that each class has in a file; () is its position.
    """

    kind: ClassVar[str] = "masks"
    of_pixels: ClassVar[bool] = True
    instead: ClassVar[str] = "a mask has one of its own for each pixel: use report() or confusion_matrix()"
    prediction: ClassVar[type[Any] | None] = MaskPrediction
    predictions: ClassVar[type[Any] | None] = MaskPredictions
    values: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.names) > VOID or len(self.names) < 2:
            raise ArgumentError(f"a mask needs 2 to {VOID} classes, got {len(self.names)}")
        if self.values and (len(self.values) != len(self.names) or not all(0 <= v <= 255 for v in self.values)):
            raise ArgumentError(f"values must be a number from 0 to 255 for each class, got {self.values}")

    def default_metrics(self) -> tuple[Metric, ...]:
        return mean_iou, dice, pixel_accuracy

    def takes(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == 3 and shape[0] == self.n_out

    def compared(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if logits.shape[-2:] != target.shape[-2:]:
            logits = F.interpolate(logits, target.shape[-2:], mode="bilinear", align_corners=False)
        return logits, target

    def own_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return MaskCrossEntropy()(logits, target)

    def own_item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        known = target != VOID
        losses = F.cross_entropy(logits, target.long(), ignore_index=VOID, reduction="none")
        return losses.flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)

    def item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Task.item_losses`: a few items at a time, as their outputs at the masks' size are many."""
        size = int(target.shape[-2]), int(target.shape[-1])
        some = [Task.item_losses(self, logits[rows], target[rows]) for rows in few_at_a_time(logits, size)]
        return torch.cat(some) if some else logits.new_zeros(0)

    def activate(self, logits: Tensor) -> Tensor:
        return logits.softmax(-3)

    def outputs_for(self, probs: Tensor) -> Tensor:
        return probs.clamp_min(1e-38).log()

    def first_outputs(self, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """See `Task.first_outputs`: how frequent each class is among the known pixels; `weights` are for items."""
        counts = torch.tensor(self.count_classes(target), dtype=torch.float64) + 0.5
        return (counts / counts.sum()).log()

    def check_target(self, target: Tensor) -> Tensor:
        if target.ndim != 3 or target.is_floating_point():
            raise DataError(
                f"masks are class numbers of shape (n, height, width), got {tuple(target.shape)} {target.dtype}"
            )
        bad = torch.nonzero((target != VOID) & ((target < 0) | (target >= len(self.names))))
        if len(bad):
            row, y, x = bad[0].tolist()
            value = int(target[row, y, x])
            raise DataError(f"mask {row}: {value} at row {y}, column {x} is no class from 0 to {len(self.names) - 1}")
        return target.to(torch.uint8)

    def soft_target(self, target: Tensor) -> Tensor:
        raise ArgumentError(
            "masks cannot be mixed: MixUp would blend two classes in each pixel. CutMix takes the masks along"
        )

    def decode(self, probs: Tensor) -> list[Any]:
        """The names of the classes in each mask, the largest first."""
        return [self._found(row) for row in self.in_table(probs)]

    def decode_target(self, target: Tensor) -> list[Any]:
        return [self._found(torch.tensor(self.count_classes(row[None]))) for row in target]

    def _found(self, shares: Tensor) -> tuple[str, ...]:
        order = shares.argsort(descending=True, stable=True).tolist()
        return tuple(self.names[i] for i in order if float(shares[i]) > 0)

    def in_table(self, probs: Tensor) -> Tensor:
        """See `Task.in_table`: which share of the image each class has."""
        counts = [torch.bincount(row.argmax(0).flatten(), minlength=len(self.names)) for row in probs]
        return torch.stack(counts) / probs[0, 0].numel() if counts else probs.new_zeros(0, len(self.names))

    def in_words(self, label: Any) -> str:
        return ", ".join(label)

    @property
    def summary(self) -> str:
        """See `Task.summary`."""
        return f"one of {len(self.names)} classes for each pixel"

    def title(self, probs: Tensor, target: Tensor) -> tuple[str, bool]:
        """See `Task.title`: how much of the mask is right, and which classes were missed most."""
        counts = pixel_counts(probs[None], target[None])[0]
        found, said, there = counts.view(3, -1)
        right = float(found.sum()) / max(1, int(there.sum()))
        wrong = (said + there - 2 * found).argsort(descending=True)[:_NOTED].tolist()
        worst = [short(self.names[i], 14) for i in wrong if int(said[i] + there[i] - 2 * found[i])]
        return f"{right:.0%} right" + (f"\nwrong: {', '.join(worst)}" if worst else ""), right > 0.5

    def item_columns(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        counts = pixel_counts(probs, target)
        return {"mean_iou": [float(iou_of(row).nanmean()) for row in counts]}

    def by_name(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        counts = pixel_counts(probs, target).sum(0)
        of = {"iou": iou_of(counts), "dice": dice_of(counts), "accuracy": recall_of(counts)}
        pixels = counts.view(3, -1)[2].tolist()
        return {name: values.tolist() for name, values in of.items()} | {"pixels": pixels}

    def count_classes(self, target: Tensor) -> list[int]:
        n = len(self.names)
        counts = sum((torch.bincount(row.flatten().long(), minlength=256) for row in target), torch.zeros(256).long())
        return counts[:n].tolist()

    def confusions(self, probs: Tensor, target: Tensor) -> Tensor:
        """See `Task.confusions`: of pixels."""
        n, size = len(self.names), (int(target.shape[1]), int(target.shape[2]))
        counts = torch.zeros(n * n, dtype=torch.int64)
        for some in few_at_a_time(probs, size):
            truth = target[some].long()
            known = truth != VOID
            counts += torch.bincount((truth * n + mask_of(probs[some], size))[known], minlength=n * n)
        return counts.view(n, n)


def masks(classes: Sequence[str]) -> Masks:
    """Each pixel has exactly one of the classes.

    Args:
        classes: their names, in the order of the model's outputs.

    >>> masks(["road", "sky"])
    masks of 2 (road, sky)
    >>> masks(["road", "sky"]).loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 16, 16, dtype=torch.uint8))
    tensor(0.6931)
    """
    return Masks(as_names(classes))
