from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from easylearn.data.bunch import Batch, Data, Loader, PartName
from easylearn.data.loaders import TensorData, TensorLoader
from easylearn.errors import ArgumentError, DataError
from easylearn.task import multi_label, regression, single_label


class Least(Data):
    """Implements what must be implemented, and nothing else."""

    def train_loader(self) -> Loader:
        return TensorLoader([torch.zeros(3, 2)], torch.zeros(3), self.batch_size, shuffle=True)

    def loader(self, part: PartName, view: int = 0) -> Loader:
        return TensorLoader([torch.zeros(3, 2)], torch.zeros(3), self.batch_size)

    def new_loader(self, items: Any) -> Loader:
        return TensorLoader([torch.as_tensor(items)], None, self.batch_size)

    def ids(self, part: PartName) -> Sequence[str]:
        return ["a", "b", "c"]

    def fingerprint(self, part: PartName) -> str:
        return "same"


def test_everything_else_has_a_default() -> None:
    data = Least(single_label(["no", "yes"]), 2)
    assert data.has_valid and not data.has_test and not data.has_views
    assert data.classes == ("no", "yes")
    assert Least(regression(), 2).classes == ()
    assert data.for_model(nn.Linear(2, 2)) is data
    assert data.is_single("one") and not data.is_single(["one", "two"]) and not data.is_single(("one",))


def test_what_must_be_implemented_is_asked_for() -> None:
    class Less(Least):
        fingerprint = Data.fingerprint

    with pytest.raises(TypeError, match="fingerprint"):
        Less(regression(), 2)  # type: ignore[abstract]


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_is_at_least_one(batch_size: int) -> None:
    with pytest.raises(ArgumentError, match=f"at least 1, got {batch_size}"):
        Least(regression(), batch_size)


def test_data_without_a_size_says_so() -> None:
    with pytest.raises(ArgumentError, match=r"Least has no size; set_data\(160\) is for images"):
        Least(regression(), 2).resized(160)


def test_adopt_takes_the_same_task() -> None:
    old = Least(single_label(["a", "b"]), 2)
    new = Least(single_label(["a", "b"]), 4)
    assert new.adopt(old) is new


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (single_label(["a", "c"]), r"only in the first: \['c'\], only in the second: \['b'\]"),
        (single_label(["b", "a"]), "the order differs"),
        (multi_label(["a", "b"]), "one is multi_label, the other single_label"),
    ],
)
def test_adopt_names_the_difference(task: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Least(task, 2).adopt(Least(single_label(["a", "b"]), 2))


def test_adopt_refuses_another_kind_of_data(make_data: Callable[..., TensorData]) -> None:
    tensors = make_data()
    with pytest.raises(DataError, match="one is Least, the other TensorData"):
        Least(tensors.task, 2).adopt(tensors)

    class Special(TensorData):
        pass

    x, y = torch.zeros(3, 5), torch.tensor([0, 1, 2])
    special = Special((x, y), None, tensors.task)
    assert special.adopt(tensors) is special  # a special kind of the same is the same kind
    assert tensors.adopt(special) is tensors


def test_batch_has_slots() -> None:
    batch = Batch((torch.zeros(1),), None, torch.zeros(1))
    with pytest.raises(AttributeError):
        batch.targets = 1  # type: ignore[attr-defined]
