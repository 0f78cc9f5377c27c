from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from easylearn.errors import ArgumentError
from easylearn.losses import FocalLoss
from easylearn.task import SingleLabel, single_label

LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 2, 2, 1, 0])


def test_the_loss_is_torchs() -> None:
    plain, smooth = single_label(["a", "b", "c"]), single_label(["a", "b", "c"], label_smoothing=0.1)
    assert plain.loss(LOGITS, TARGET) == F.cross_entropy(LOGITS, TARGET)
    expected = F.cross_entropy(LOGITS, TARGET, label_smoothing=0.1)
    assert smooth.loss(LOGITS, TARGET) == expected
    torch.testing.assert_close(smooth.loss(LOGITS, smooth.soft_target(TARGET)), expected)
    each = F.cross_entropy(LOGITS, TARGET, label_smoothing=0.1, reduction="none")
    assert torch.equal(smooth.item_losses(LOGITS, TARGET), each)


def test_probabilities_and_labels() -> None:
    task = single_label(["a", "b", "c"])
    assert torch.equal(task.activate(LOGITS), LOGITS.softmax(-1))
    assert task.decode(torch.tensor([[0.7, 0.3, 0.0], [0.5, 0.5, 0.0]])) == ["a", "a"]
    assert task.index(torch.tensor([0.1, 0.9, 0.0])) == 1
    assert (task.is_exclusive, task.is_multi, task.predicts_numbers, task.is_streamed) == (True, False, False, False)
    assert (task.summary, task.row_names) == ("one of 3 classes", ["label", "p_a", "p_b", "p_c"])
    assert task.row("a", torch.tensor([0.75, 0.25, 0.0])) == ["a", "0.75", "0.25", "0"]


def test_smoothing() -> None:
    task = single_label(["a", "b"]).smoothed(0.2)
    assert task == SingleLabel(("a", "b"), label_smoothing=0.2) and task.settings() == {"label_smoothing": 0.2}
    with pytest.raises(ArgumentError, match="leave it out, or leave out loss="):
        single_label(["a", "b"]).with_loss(FocalLoss()).smoothed(0.2)
    for wrong in (-0.1, 1.0, float("nan")):
        with pytest.raises(ArgumentError, match="label_smoothing"):
            single_label(["a"], label_smoothing=wrong)
