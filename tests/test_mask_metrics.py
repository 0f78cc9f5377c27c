"""Metrics of masks against scikit-learn's, of all pixels together, batch by batch or at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from easylearn.errors import ArgumentError
from easylearn.losses import VOID
from easylearn.mask_metrics import dice, iou_of, mask_of, mean_iou, pixel_accuracy, pixel_counts
from easylearn.task import masks


def some(n: int = 5, c: int = 4) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, c, (n, 6, 8), generator=g, dtype=torch.uint8)
    probs = (torch.randn(n, c, 6, 8, generator=g) + 2 * F.one_hot(target.long(), c).movedim(-1, 1)).softmax(1)
    target[torch.rand(target.shape, generator=g) < 0.2] = VOID
    return probs, target


def test_they_agree_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, f1_score, jaccard_score

    probs, target = some()
    known = target != VOID
    y, said = target[known].numpy(), probs.argmax(1)[known].numpy()
    assert mean_iou(probs, target) == pytest.approx(jaccard_score(y, said, average="macro"))
    assert dice(probs, target) == pytest.approx(f1_score(y, said, average="macro"))
    assert pixel_accuracy(probs, target) == pytest.approx(accuracy_score(y, said))
    each = iou_of(pixel_counts(probs, target).sum(0))
    assert each.tolist() == pytest.approx(jaccard_score(y, said, average=None).tolist())


def test_batches_add_up_to_the_whole() -> None:
    probs, target = some()
    task = masks(["a", "b", "c", "d"])
    total = task.accumulator()
    for rows in (slice(0, 1), slice(1, 5)):
        total.add(probs[rows].log(), target[rows])
    found = total.result()
    assert found["mean_iou"] == pytest.approx(mean_iou(probs, target))
    assert found["dice"] == pytest.approx(dice(probs, target))
    assert found["pixel_accuracy"] == pytest.approx(pixel_accuracy(probs, target))
    assert found["valid_loss"] == pytest.approx(float(task.item_losses(probs.log(), target).mean()))


def test_coarse_probabilities_are_brought_to_the_masks_size() -> None:
    probs, _ = some()
    wide = F.interpolate(probs, (12, 16), mode="bilinear", align_corners=False)
    assert torch.equal(mask_of(probs, (12, 16)).long(), wide.argmax(1))


def test_a_class_that_is_nowhere_does_not_count() -> None:
    probs = torch.tensor([[[[0.9, 0.1]], [[0.1, 0.9]], [[0.0, 0.0]]]])
    assert mean_iou(probs, torch.tensor([[[0, 1]]])) == 1.0
    assert mean_iou(probs, torch.tensor([[[0, 2]]])) == pytest.approx(1 / 3)  # predicted, or there, it does


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"\(n, c, h, w\)"):
        mean_iou(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))
