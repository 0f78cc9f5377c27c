from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from easylearn.data.bunch import BlankData, Data, SplitName
from easylearn.data.loaders import TensorData, TensorPreprocessor
from easylearn.data.order import Batch, Loader, Source, TensorSource, tensor_loader
from easylearn.data.preprocess import Items, Preprocessor
from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.task import Task, multi_label, regression, single_label


class LeastPreprocessor(Preprocessor):
    """Implements what must be implemented, and nothing else."""

    kind = "least"

    def read(self, given: Any, first: int = 0) -> Items:
        return Items(torch.as_tensor(given), tuple(str(first + i) for i in range(len(given))))

    def source(self, values: torch.Tensor) -> Source:
        return TensorSource([values])


class Least(Data[Sequence[str]]):
    """Implements what must be implemented, and nothing else."""

    def __init__(self, task: Task, batch_size: int, **splits: Sequence[str]) -> None:
        super().__init__(task, batch_size, LeastPreprocessor(), splits or {"train": ["a", "b", "c"]})  # type: ignore[arg-type]

    def loader(self, split: SplitName, *, training: bool = False, view: int = 0) -> Loader:
        n = len(self._split(split))
        return tensor_loader([torch.zeros(n, 2)], torch.zeros(n), self.batch_size, shuffle=training)

    def ids(self, split: SplitName) -> Sequence[str]:
        return self._split(split)

    def fingerprint(self, split: SplitName) -> str:
        return "same"


def test_everything_else_has_a_default() -> None:
    data = Least(single_label(["no", "yes"]), 2)
    assert data.splits == ("train",) and not data.has_views and data.notes() == []
    assert data.classes == ("no", "yes")
    assert Least(regression(), 2).classes == ()
    assert data.for_model(nn.Linear(2, 2)) is data
    assert data.describe_item("train", 0) == {}
    preprocessor = data.preprocessor
    assert preprocessor.for_model(nn.Linear(2, 2)) is preprocessor and preprocessor.complete(data.task) is data.task
    assert len(preprocessor.order(torch.zeros(5, 1), TensorSource([torch.zeros(5, 1)]), 2)) == 3
    with pytest.raises(StateError, match=r"LeastPreprocessor.*recipe"):
        preprocessor.recipe()
    with pytest.raises(StateError, match="LeastPreprocessor"):
        LeastPreprocessor.from_recipe({}, data.task)
    with pytest.raises(DataError, match="LeastPreprocessor reads no items from files"):
        preprocessor.read_file(Path("x"), 1)


def test_what_must_be_implemented_is_asked_for() -> None:
    class Less(Least):
        fingerprint = Data.fingerprint

    with pytest.raises(TypeError, match="fingerprint"):
        Less(regression(), 2)  # type: ignore[abstract]


def test_splits_come_in_their_order_and_missing_ones_are_named() -> None:
    data = Least(regression(), 2, test=["c"], train=["a"])
    assert data.splits == ("train", "test")
    with pytest.raises(DataError, match="there is no valid split; pass valid="):
        data.ids("valid")
    with pytest.raises(ArgumentError, match=r"'tset'.*'test'"):
        data.ids("tset")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the valid split has no items"):
        Least(regression(), 2, train=["a"], valid=[])


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "64", True])
def test_batch_size_is_a_whole_number_of_at_least_one(batch_size: Any) -> None:
    with pytest.raises(ArgumentError, match=f"batch_size.*{batch_size}"):
        Least(regression(), batch_size)


def test_data_without_a_size_says_so() -> None:
    with pytest.raises(ArgumentError, match=r"Least has no size; set_data\(160\) is for images"):
        Least(regression(), 2).resized(160)


class TestBlankData:
    def test_it_has_no_items_and_says_what_to_do(self) -> None:
        blank = BlankData(single_label(["a", "b"]), 4, TensorPreprocessor([(2,)]))
        assert blank.splits == () and blank.classes == ("a", "b")
        for call in (blank.loader, blank.ids, blank.fingerprint):
            with pytest.raises(DataError, match=r"set_data\(data\)"):
                call("train")

    def test_other_data_can_take_its_place(self, make_data: Callable[..., TensorData]) -> None:
        data = make_data()
        assert data.adopt(BlankData(data.task, 4, TensorPreprocessor([(5,)]))) is data


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
