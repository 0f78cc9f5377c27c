"""Ranking: the multinomial likelihood by hand, lists, and what is left out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from easylearn.errors import ArgumentError, DataError
from easylearn.task import Ranking, ranking

TASK = ranking(["a", "b", "c", "d"], k=2)
LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 1.0, 2.0, 3.0]])


def test_the_loss_is_the_likelihood_of_what_is_wanted_among_what_is_not_left_out() -> None:
    target = torch.tensor([[0.0, 1.0, 0.0, 1.0], [-1.0, 2.0, 1.0, 0.0]])
    first = -LOGITS[0].log_softmax(0)[[1, 3]].sum()
    log = LOGITS[1, 1:].log_softmax(0)  # item 0 is not there at all
    second = -(2 * log[0] + log[1])
    torch.testing.assert_close(TASK.item_losses(LOGITS, target), torch.stack([first, second]), atol=1e-4, rtol=1e-4)


def test_one_wanted_item_is_cross_entropy() -> None:
    classes = torch.tensor([1, 3])
    torch.testing.assert_close(TASK.loss(LOGITS, F.one_hot(classes, 4)), F.cross_entropy(LOGITS, classes))


def test_what_is_left_out_gets_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    TASK.loss(logits, torch.tensor([[-1.0, 1.0, 0.0, 0.0]] * 2)).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert bool((logits.grad[:, 0] == 0).all()) and bool((logits.grad[:, 1:] != 0).all())


def test_a_person_who_wants_nothing_has_no_loss() -> None:
    assert TASK.item_losses(LOGITS, torch.zeros(2, 4)).tolist() == [0, 0]


def test_lists() -> None:
    probs = torch.tensor([[0.1, 0.0, 0.7, 0.2], [0.0, 1.0, 0.0, 0.0]])
    assert TASK.decode(probs) == [("c", "d"), ("b",)] and TASK.index(probs[0]) == (2, 3)
    assert TASK.decode_target(torch.tensor([[1.0, -1.0, 0.0, 2.0]])) == [("a", "d")]
    assert TASK.in_words(("a", "d")) == "a, d" and "4 items" in TASK.summary
    target = torch.tensor([[1.0, 0, 1, -1], [0, 0, 1, 0]])
    assert TASK.item_columns(probs, target) == {"hits": [2, 0]}
    assert TASK.title(probs[0], target[0]) == ("2 of the first 2 are wanted,\nof 2 that are", True)
    assert TASK.by_name(probs, target)["hits"] == [1, 0, 1, 0] and TASK.count_classes(target) == [1, 0, 2, 0]
    assert sum(TASK.by_name(probs, target)["recommended"]) == 4


def test_what_it_begins_with_is_how_many_persons_took_each_item() -> None:
    target = torch.tensor([[1.0, -1, 0, 0], [0, 2.0, 0, 0]])
    first = TASK.first_outputs(target)
    assert first is not None
    torch.testing.assert_close(first.exp(), torch.tensor([1.5, 2.5, 0.5, 0.5], dtype=torch.float64) / 5)


@pytest.mark.parametrize("k", [0, -3])
def test_a_list_has_an_item(k: int) -> None:
    with pytest.raises(ArgumentError, match=f"k={k}"):
        Ranking(("a", "b"), k=k)


def test_targets_are_a_row_of_numbers_for_each_person() -> None:
    with pytest.raises(DataError, match=r"\(n, 4\)"):
        TASK.check_target(torch.zeros(3, 2))
    with pytest.raises(DataError, match="row 1"):
        TASK.check_target(torch.tensor([[0.0] * 4, [0, 0, float("inf"), 0]]))
