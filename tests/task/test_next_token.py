from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from easylearn import metrics
from easylearn.errors import ArgumentError, DataError
from easylearn.task import NO_TARGET, NextToken, next_token


def test_the_loss_leaves_out_what_has_no_target() -> None:
    task = next_token(["the", "film", "was"])
    logits, target = torch.randn(2, 4, 3), torch.randint(3, (2, 4))
    torch.testing.assert_close(task.loss(logits, target), F.cross_entropy(logits.flatten(0, 1), target.flatten()))
    padded = target.clone()
    padded[1, 2:] = NO_TARGET
    kept = padded != NO_TARGET
    torch.testing.assert_close(task.loss(logits, padded), F.cross_entropy(logits[kept], target[kept]))


def test_what_it_is() -> None:
    task = next_token(["the", "film"])
    assert (task.kind, task.n_out, task.classes, task.is_streamed) == ("next_token", 2, ("the", "film"), True)
    assert [m.name for m in task.metrics] == ["perplexity", "accuracy"] and task.summary == "the next of 2 tokens"
    logits = torch.randn(4, 2)
    assert torch.equal(task.activate(logits), logits.softmax(-1))
    assert task.decode(torch.tensor([[0.1, 0.9], [0.6, 0.4]])) == ["film", "the"]


def test_a_loss_of_ones_own() -> None:
    task = next_token(["a", "b"]).with_loss(lambda logits, target: logits.sum() + target.sum())
    assert task.loss(torch.ones(1, 3, 2), torch.ones(1, 3)) == 9


def test_out_of_a_file_it_waits_for_its_vocabulary() -> None:
    assert NextToken(()).n_out == 0
    with pytest.raises(DataError, match="at least one token"):
        next_token([])
    with pytest.raises(DataError, match="each token must be named once"):
        next_token(["a", "a"])


def test_refused() -> None:
    task = next_token(["a", "b"])
    with pytest.raises(ArgumentError, match=r"top_k\(5\)\), and 'f1' is not: it has no per_item"):
        task.with_metrics([metrics.accuracy, metrics.f1])
    with pytest.raises(ArgumentError, match="is not"):
        task.with_metrics([lambda outputs, targets: 0.0])
    assert [m.name for m in task.with_metrics([metrics.top_k(2)]).metrics] == ["top_2_accuracy"]
    with pytest.raises(ArgumentError, match="make the data with TextLMData"):
        task.check_target(torch.zeros(3, dtype=torch.int64))
    for loss in (task, task.with_loss(F.cross_entropy)):
        with pytest.raises(ArgumentError, match="loss per token"):
            loss.item_losses(torch.zeros(1, 2, 2), torch.zeros(1, 2).long())
