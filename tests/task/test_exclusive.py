"""What is said of items that have exactly one class; the numbers against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch.nn import functional as F

from easylearn.errors import ArgumentError, DataError
from easylearn.losses import FocalLoss
from easylearn.task import SingleLabel, single_label
from easylearn.task.exclusive import count_confusions, precision_recall

TASK = single_label(["a", "b", "c"])
PROBS = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
TARGET = torch.randint(3, (50,), generator=torch.Generator().manual_seed(1))


def test_confusions_and_the_table_of_classes() -> None:
    y, said = TARGET.numpy(), PROBS.argmax(1).numpy()
    assert TASK.confusions(PROBS, TARGET).tolist() == sk.confusion_matrix(y, said).tolist()
    assert torch.equal(TASK.confusions(PROBS, TARGET), count_confusions(PROBS, TARGET, 3))
    expected = sk.precision_recall_fscore_support(y, said)
    table = TASK.by_name(PROBS, TARGET)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(table[name], values)


def test_what_would_be_nought_by_nought_is_nought() -> None:
    nothing = torch.zeros(2)
    assert precision_recall(nothing, nothing, nothing) == {
        "precision": [0, 0], "recall": [0, 0], "f1": [0, 0], "support": [0, 0]
    }  # fmt: skip


def test_shares_of_classes_stand_for_the_largest() -> None:
    shares = 0.8 * F.one_hot(TARGET, 3) + 0.1
    assert torch.equal(TASK.class_numbers(shares), TARGET)
    assert TASK.decode_target(shares) == TASK.decode_target(TARGET) == [TASK.names[i] for i in TARGET]
    assert torch.equal(TASK.confusions(PROBS, shares), TASK.confusions(PROBS, TARGET))
    assert TASK.count_classes(shares) == np.bincount(TARGET).tolist()


def test_soft_targets() -> None:
    assert single_label(["a", "b"]).soft_target(torch.tensor([1, 0])).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    soft = torch.tensor([[0.3, 0.7, 0.0]])
    assert torch.equal(TASK.soft_target(soft), soft)


def test_titles() -> None:
    assert TASK.title(torch.tensor([0.9, 0.1, 0.0]), torch.tensor(0)) == ("said a, but only 90%", True)
    assert TASK.title(torch.tensor([0.9, 0.1, 0.0]), torch.tensor(1)) == ("said a (90%), is b", False)


def test_how_sure_it_was() -> None:
    sure, right = TASK.calibrated(PROBS, TARGET)
    assert torch.equal(sure, PROBS.double().max(1).values) and right.mean() == sk.accuracy_score(
        TARGET, PROBS.argmax(1)
    )
    assert TASK.item_columns(PROBS, TARGET) == {"probability": PROBS.max(1).values.tolist()}


class TestTargets:
    def test_good_ones(self) -> None:
        assert TASK.check_target(torch.tensor([0, 2], dtype=torch.int8)).dtype == torch.int64

    @pytest.mark.parametrize(
        ("target", "words"),
        [
            (torch.tensor([0, 3, -1]), "row 1: class number 3 is not between 0 and 2"),
            (torch.tensor([0, -1]), "row 1: class number -1"),
            (torch.tensor([0.0, 1.0]), "class numbers"),
            (torch.tensor([[0, 1]]), r"class numbers of shape \(n,\), got \(1, 2\)"),
        ],
    )
    def test_bad_ones(self, target: torch.Tensor, words: str) -> None:
        with pytest.raises(DataError, match=words):
            TASK.check_target(target)


LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
WANTED = torch.tensor([0, 1, 2, 2, 1, 0])


def test_the_loss_is_torchs() -> None:
    plain, smooth = single_label(["a", "b", "c"]), single_label(["a", "b", "c"], label_smoothing=0.1)
    assert plain.loss(LOGITS, WANTED) == F.cross_entropy(LOGITS, WANTED)
    expected = F.cross_entropy(LOGITS, WANTED, label_smoothing=0.1)
    assert smooth.loss(LOGITS, WANTED) == expected
    torch.testing.assert_close(smooth.loss(LOGITS, smooth.soft_target(WANTED)), expected)
    each = F.cross_entropy(LOGITS, WANTED, label_smoothing=0.1, reduction="none")
    assert torch.equal(smooth.item_losses(LOGITS, WANTED), each)


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


class TestBaseRates:
    @pytest.mark.parametrize("soft", [False, True])
    def test_they_are_the_rates_of_training_and_half_an_item(self, soft: bool) -> None:
        task, y = single_label(["a", "b", "c"]), torch.tensor([0] * 6 + [1] * 3)
        target = task.soft_target(y) if soft else y
        torch.testing.assert_close(task.first_outputs(target).softmax(0) * 10.5, torch.tensor([6.5, 3.5, 0.5]).double())

    def test_weights_count(self) -> None:
        task, y = single_label(["a", "b"]), torch.tensor([0, 0, 0, 1])
        balanced = torch.tensor([2 / 3, 2 / 3, 2 / 3, 2], dtype=torch.float64)
        torch.testing.assert_close(task.first_outputs(y, balanced).softmax(0), torch.full((2,), 0.5).double())

    def test_smoothed_rates_where_labels_are(self) -> None:
        y = torch.zeros(999, dtype=torch.int64)
        found = single_label(["a", "b"], label_smoothing=0.2).first_outputs(y).softmax(0)
        torch.testing.assert_close(found, torch.tensor([0.9, 0.1]).double(), atol=1e-3, rtol=0)
