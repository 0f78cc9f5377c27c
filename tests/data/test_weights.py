"""How often items are drawn: by item, by class, balanced; and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from easylearn.data.order import Order
from easylearn.data.weights import draw_weights
from easylearn.errors import ArgumentError, DataError

CLASSES = ["cat", "dog"]
TARGET = torch.tensor([0, 0, 0, 1])


def test_nothing_given() -> None:
    assert draw_weights(None, 4, TARGET, CLASSES) is None


@pytest.mark.parametrize(
    "given", [[1, 2, 0, 3], (1.0, 2.0, 0.0, 3.0), np.array([1, 2, 0, 3]), torch.tensor([1, 2, 0, 3])]
)
def test_one_number_per_item(given: Any) -> None:
    found = draw_weights(given, 4)
    assert found is not None and found.dtype == np.float64 and found.tolist() == [1, 2, 0, 3]


def test_balanced_classes_come_equally_often() -> None:
    target = torch.tensor([0] * 90 + [1] * 10)
    weights = draw_weights("balanced", 100, target, CLASSES)
    drawn = np.concatenate(Order(100, 20, shuffle=True, weights=weights).batches(seed=1))
    assert np.bincount(target.numpy()[drawn]).tolist() == [50, 50]


def test_by_class_and_a_class_without_items() -> None:
    assert draw_weights({"dog": 3}, 4, TARGET, CLASSES).tolist() == [1, 1, 1, 3]  # type: ignore[union-attr]
    assert draw_weights({1: 3}, 4, TARGET, ["0", "1"]).tolist() == [1, 1, 1, 3]  # type: ignore[union-attr, dict-item]
    assert np.isfinite(draw_weights("balanced", 4, TARGET, ["cat", "dog", "emu"])).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1, 2, 3], r"each of the 4 training items, got shape \(3,\)"),
        ([1, 2, -1, 3], "item 2 has -1"),
        ([1, np.nan, 1, 3], "item 1 has nan"),
        ([0, 0, 0, 0], "all weights are 0"),
        ({"dog": -1}, "class 1"),
    ],
)
def test_wrong_numbers(given: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        draw_weights(given, 4, TARGET, CLASSES)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("balance", "Did you mean 'balanced'"),
        ({"dgo": 2}, "'dgo'.*Did you mean 'dog'"),
        (["a"] * 4, "a number per item"),
    ],
)
def test_wrong_arguments(given: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        draw_weights(given, 4, TARGET, CLASSES)


@pytest.mark.parametrize("target", [None, torch.zeros(4, 2), torch.zeros(4)])
def test_by_class_without_classes(target: Any) -> None:
    with pytest.raises(ArgumentError, match="one class for each item"):
        draw_weights("balanced", 4, target, CLASSES)
