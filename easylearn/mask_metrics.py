"""Metrics of masks: counts of pixels, added up over batches, and what is made of them at last.

Each takes probabilities (n, c, h, w), which may be at a coarser size, and class numbers (n, h, w), of which those that
are `losses.VOID` do not count. A class that is neither there nor predicted anywhere is left out of a mean.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import ArgumentError
from .losses import VOID
from .metrics import Metric, mean_metric

AT_ONCE = 2**24  # numbers of probabilities at the masks' size


def mask_of(probs: Tensor, size: tuple[int, int]) -> Tensor:
    """The most probable class of each pixel at a (height, width), uint8: of (n, c, h, w) shape (n, *size).

    >>> mask_of(torch.tensor([[[[0.9, 0.2]], [[0.1, 0.8]]]]), (1, 4))
    tensor([[[0, 0, 1, 1]]], dtype=torch.uint8)
    """
    same = tuple(probs.shape[-2:]) == tuple(size)
    wide = probs if same else F.interpolate(probs, size, mode="bilinear", align_corners=False)
    return wide.argmax(1).to(torch.uint8)


def few_at_a_time(probs: Tensor, size: tuple[int, int]) -> Iterator[slice]:
    """Slices of as many items as are enlarged together to a (height, width)."""
    few = max(1, AT_ONCE // (probs.shape[1] * size[0] * size[1]))
    return (slice(a, a + few) for a in range(0, len(probs), few))


def pixel_counts(probs: Tensor, target: Tensor) -> Tensor:
    """How many pixels of each class are found, predicted and there: (n, 3 * c), in this order.

    Args:
        probs: shape (n, c, h, w).
        target: class numbers, (n, height, width).
    """
    if probs.ndim != 4 or target.ndim != 3 or len(probs) != len(target):
        raise ArgumentError(
            f"metrics of masks need probabilities (n, c, h, w) and class numbers (n, h, w), got {tuple(probs.shape)} "
            f"and {tuple(target.shape)}"
        )
    n_classes, size = probs.shape[1], (int(target.shape[1]), int(target.shape[2]))
    rows = []
    for some in few_at_a_time(probs, size):
        truth = target[some].flatten(1).long()
        said = mask_of(probs[some], size).flatten(1).long()
        known = truth != VOID
        first = torch.arange(len(truth), device=truth.device)[:, None] * 3 * n_classes
        hits = known & (said == truth)
        places = [(first + said)[hits], (first + n_classes + said)[known], (first + 2 * n_classes + truth)[known]]
        rows.append(torch.bincount(torch.cat(places), minlength=3 * n_classes * len(truth)).view(len(truth), -1))
    return torch.cat(rows) if rows else torch.zeros(0, 3 * n_classes)


def _thirds(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    found, said, there = counts.double().view(3, -1)
    return found, said, there


def iou_of(counts: Tensor) -> Tensor:
    """Intersection over union of each class, (c,), from summed or mean `pixel_counts`; NaN where neither is."""
    found, said, there = _thirds(counts)
    return found / (said + there - found)


def dice_of(counts: Tensor) -> Tensor:
    """The Dice overlap of each class, (c,), as `iou_of`."""
    found, said, there = _thirds(counts)
    return 2 * found / (said + there)


def recall_of(counts: Tensor) -> Tensor:
    """The share of each class's pixels that are found, (c,), as `iou_of`."""
    found, _, there = _thirds(counts)
    return found / there


def _mean_iou(counts: Tensor) -> Tensor:
    return iou_of(counts).nanmean()


def _mean_dice(counts: Tensor) -> Tensor:
    return dice_of(counts).nanmean()


def _accuracy(counts: Tensor) -> Tensor:
    found, _, there = _thirds(counts)
    return found.sum() / there.sum()


mean_iou: Metric = mean_metric("mean_iou", pixel_counts, True, finish=_mean_iou)
"""The mean over classes of intersection over union, of all pixels of a split together."""

dice: Metric = mean_metric("dice", pixel_counts, True, finish=_mean_dice)
"""The mean over classes of the Dice overlap, of all pixels of a split together."""

pixel_accuracy: Metric = mean_metric("pixel_accuracy", pixel_counts, True, finish=_accuracy)
"""The share of all known pixels that are predicted right."""
