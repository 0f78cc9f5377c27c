from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor
from torch.nn import functional as F

from easylearn.errors import ArgumentError, DataError
from easylearn.task import multi_label

LOGITS = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
TARGET = (torch.rand(40, 3, generator=torch.Generator().manual_seed(1)) < 0.4).float()
TASK = multi_label(["a", "b", "c"], threshold=0.4)


def test_the_loss_is_torchs() -> None:
    assert TASK.loss(LOGITS, TARGET) == F.binary_cross_entropy_with_logits(LOGITS, TARGET)
    assert TASK.loss(LOGITS, TARGET.long()) == TASK.loss(LOGITS, TARGET.bool()) == TASK.loss(LOGITS, TARGET)
    each = F.binary_cross_entropy_with_logits(LOGITS, TARGET, reduction="none").mean(1)
    assert torch.equal(TASK.item_losses(LOGITS, TARGET), each)


def test_probabilities_and_labels() -> None:
    probs = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    assert multi_label(["a", "b"]).decode(probs) == [("a",), ("a", "b")]
    assert multi_label(["a", "b"], threshold=0.7).decode(probs) == [("a",), ()]
    assert multi_label(["a", "b"]).index(probs[1]) == (0, 1) and multi_label(["a", "b"]).index(probs[0]) == (0,)
    assert torch.equal(TASK.activate(LOGITS), LOGITS.sigmoid())
    assert [m.name for m in TASK.metrics] == ["accuracy_at_0.4"] and TASK.settings() == {"threshold": 0.4}
    assert (TASK.is_exclusive, TASK.is_multi, TASK.predicts_numbers) == (False, True, False)
    assert TASK.row(("haze", "road"), torch.zeros(1)) == ["haze road", "0"] and TASK.summary == "any of 3 labels"


def test_a_threshold_is_for_predictions_and_not_for_the_truth() -> None:
    low = multi_label(["a", "b"], threshold=0.0)
    assert low.decode_target(torch.tensor([[0.0, 1.0]])) == [("b",)]


def test_what_is_said_of_mistakes() -> None:
    probs = LOGITS.sigmoid()
    expected = sk.precision_recall_fscore_support(TARGET.numpy(), (probs >= 0.4).numpy(), zero_division=0)
    table = TASK.by_name(probs, TARGET)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(table[name], values)
    assert TASK.count_classes(TARGET) == TARGET.sum(0).tolist()
    truth = torch.where(TARGET > 0, probs, 1 - probs).min(1).values
    assert TASK.item_columns(probs, TARGET) == {"probability": truth.tolist()}
    assert TASK.title(torch.tensor([0.1, 0.2, 0.0]), torch.tensor([0.0, 0.0, 1.0])) == ("said nothing,\nis c", False)
    with pytest.raises(ArgumentError, match="precision and recall of each label"):
        TASK.confusions(probs, TARGET)


@pytest.mark.parametrize("target", [torch.tensor([[0, 1]]), torch.tensor([[False, True]]), torch.tensor([[0.2, 1.0]])])
def test_good_targets(target: Tensor) -> None:
    assert multi_label(["a", "b"]).check_target(target) is target


@pytest.mark.parametrize(
    ("names", "target", "words"),
    [
        (["a", "b"], torch.zeros(3, 3), r"shape \(n, 2\), got \(3, 3\)"),
        (["a", "b"], torch.zeros(3), r"got \(3,\)"),
        (["a", "b"], torch.tensor([[0, 1], [0, 2]]), "zeros and ones, but 1 rows.*row 1"),
        (["a"], torch.tensor([[float("nan")]]), "zeros and ones"),
    ],
)
def test_bad_targets(names: list[str], target: Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words):
        multi_label(names).check_target(target)


@pytest.mark.parametrize("threshold", [-0.1, 2.0, float("nan")])
def test_thresholds_that_are_none(threshold: float) -> None:
    with pytest.raises(ArgumentError, match="threshold"):
        multi_label(["a"], threshold=threshold)


def test_base_rates_are_those_of_training_and_half_an_item() -> None:
    y = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    task = multi_label(["a", "b", "c"])
    torch.testing.assert_close(task.first_outputs(y).sigmoid() * 4, torch.tensor([3.5, 0.5, 1.5]).double())
    weighted = task.first_outputs(y, torch.tensor([3.0, 0.0, 0.0]).double()).sigmoid() * 4
    torch.testing.assert_close(weighted, torch.tensor([3.5, 0.5, 3.5]).double())
