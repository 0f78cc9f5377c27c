from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from easylearn.data.loaders import ForeignLoader, LoaderData, TensorData, TensorPreprocessor
from easylearn.data.order import Batch, ItemLoader, Loader, TensorSource
from easylearn.errors import ArgumentError, DataError, WeightsError
from easylearn.task import multi_label, regression, single_label

CPU = torch.device("cpu")


def all_of(loader: Loader, **key: int) -> list[Batch]:
    return list(loader.batches(CPU, **key))


def inputs_of(loader: ItemLoader) -> Tensor:
    assert isinstance(loader.source, TensorSource)
    return loader.source.inputs[0]


class TestTensorPreprocessor:
    def test_one_row_is_an_item_and_rows_are_several(self) -> None:
        read = TensorPreprocessor([(3,)]).read
        assert read(torch.zeros(3)).single and read([0.0, 1.0, 2.0]).single
        several = read([torch.zeros(3), torch.ones(3)])
        assert not several.single and several.values[0].tolist() == [[0.0] * 3, [1.0] * 3]
        assert read(torch.zeros(2, 3), first=5).ids == ("5", "6")

    @pytest.mark.parametrize("given", ["word", {"a": 1}, None, [torch.zeros(3), torch.zeros(4)], 3.0])
    def test_what_is_no_rows_is_refused(self, given: object) -> None:
        with pytest.raises(DataError):
            TensorPreprocessor([(3,)]).read(given)

    def test_another_shape_is_refused_with_both(self) -> None:
        with pytest.raises(DataError, match=r"\(3,\).*\(2, 2, 3\)"):
            TensorPreprocessor([(3,)]).read(torch.zeros(2, 2, 3))

    @given(st.lists(st.lists(st.integers(1, 9), max_size=3).map(tuple), max_size=3))
    def test_its_recipe_is_json_and_comes_back(self, shapes: list[tuple[int, ...]]) -> None:
        recipe = json.loads(json.dumps(TensorPreprocessor(shapes).recipe()))
        assert TensorPreprocessor.from_recipe(recipe, regression()).shapes == tuple(shapes)

    @pytest.mark.parametrize("recipe", [{}, {"shapes": 3}, {"shapes": [["x"]]}, {"shapes": None}])
    def test_a_damaged_recipe_is_refused(self, recipe: dict[str, object]) -> None:
        with pytest.raises(WeightsError, match="recipe of the tensors is damaged"):
            TensorPreprocessor.from_recipe(recipe, regression())


class TestTensorData:
    def test_numpy_and_torch_give_the_same(self, make_data: Callable[..., TensorData]) -> None:
        data = make_data()
        x, y = data.loader("train"), data.loader("valid")
        assert isinstance(x, ItemLoader) and isinstance(y, ItemLoader)
        arrays = TensorData(
            (inputs_of(x).numpy().astype(np.float64), np.asarray(x.target).astype(np.int32)),
            (inputs_of(y).tolist(), np.asarray(y.target).tolist()),
            data.task,
            batch_size=4,
        )
        for part in ("train", "valid"):
            for a, b in zip(all_of(data.loader(part)), all_of(arrays.loader(part)), strict=True):
                assert torch.equal(a.inputs[0], b.inputs[0]) and a.inputs[0].dtype == b.inputs[0].dtype
                assert a.target is not None and b.target is not None
                assert torch.equal(a.target, b.target) and a.target.dtype == b.target.dtype

    def test_parts(self, make_data: Callable[..., TensorData]) -> None:
        data = make_data(n_test=3)
        assert data.splits == ("train", "valid", "test") and not data.has_views
        assert list(data.ids("valid")) == [str(i) for i in range(10)]
        assert repr(data).startswith(f"TensorData: {data.task}, rows of shape (") and "valid 10, test 3" in repr(data)
        assert all(b.target is None for b in all_of(data.loader("test")))
        bare = make_data(n_valid=None)
        assert bare.splits == ("train",)
        for part in ("valid", "test"):
            with pytest.raises(DataError, match=f"there is no {part} split; pass {part}="):
                bare.loader(part)

    def test_training_is_shuffled_and_looking_is_not(self, make_data: Callable[..., TensorData]) -> None:
        data = make_data(n_train=21)
        train = all_of(data.loader("train", training=True))
        assert torch.cat([b.index for b in train]).tolist() != list(range(21))
        assert [len(b.index) for b in train] == [4, 4, 4, 4, 5]
        assert torch.cat([b.index for b in all_of(data.loader("train"))]).tolist() == list(range(21))

    def test_two_inputs(self) -> None:
        x1, x2, y = torch.randn(6, 2), torch.randn(6, 3), torch.randn(6)
        data = TensorData(((x1, x2), y), None, regression(), test=(x1, x2), batch_size=4)
        (batch, _) = all_of(data.loader("train"))
        assert [t.shape for t in batch.inputs] == [(4, 2), (4, 3)]
        assert len(all_of(data.loader("test"))[0].inputs) == 2
        read = data.preprocessor.read((x1, x2))
        assert len(read.values) == 2 and len(read) == 6 and not read.single
        assert data.preprocessor.read((x1[0], x2[0])).single
        with pytest.raises(DataError, match="takes 2 inputs, got 1"):
            data.preprocessor.read(x1)

    @pytest.mark.parametrize(
        ("y", "task", "said"),
        [
            ([0, 1, 3], single_label(["a", "b", "c"]), "row 2: class number 3 is not between 0 and 2"),
            ([0, 1, -1], single_label(["a", "b", "c"]), "row 2: class number -1"),
            ([0.0, 1.0, 2.0], single_label(["a", "b", "c"]), "class numbers"),
            ([0, 1, 1], multi_label(["a", "b"]), r"shape \(n, 2\)"),
            ([1.0, math.nan, 2.0], regression(), "not finite numbers, the first in row 1"),
            ([[1.0, 2.0]] * 3, regression(), "1 columns"),
            ([0, 1], single_label(["a", "b", "c"]), "train.*same number of rows"),
        ],
    )
    def test_bad_targets(self, y: list[float], task: object, said: str) -> None:
        with pytest.raises(DataError, match=said):
            TensorData((torch.zeros(3, 2), torch.tensor(y)), None, task)  # type: ignore[arg-type]

    def test_an_empty_part_is_refused(self) -> None:
        with pytest.raises(DataError, match="the valid split has no items"):
            TensorData((torch.zeros(3, 2), torch.zeros(3)), (torch.zeros(0, 2), torch.zeros(0)), regression())

    def test_fingerprint_follows_all_that_a_loader_yields(self) -> None:
        x, y = torch.randn(6, 2), torch.randn(6)

        def of(x: Tensor, y: Tensor) -> str:
            return TensorData((x, y), None, regression()).fingerprint("train")

        other = x.clone()
        other[3, 1] += 1e-6
        assert of(x, y) == of(x.clone(), y.clone())
        assert len({of(x, y), of(other, y), of(x.double(), y), of(x.reshape(6, 1, 2), y), of(x, y + 1)}) == 5

    def test_fingerprint_of_a_view_that_is_not_contiguous(self) -> None:
        x = torch.randn(2, 6).t()
        a = TensorData((x, torch.zeros(6)), None, regression()).fingerprint("train")
        b = TensorData((x.contiguous(), torch.zeros(6)), None, regression()).fingerprint("train")
        assert a == b


class TestForeignLoader:
    def source(self, n: int = 10, **options: object) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(torch.randn(n, 2), torch.arange(n)), batch_size=4, **options)  # type: ignore[arg-type]

    def test_passes_batches_on(self) -> None:
        source = self.source()
        loader = ForeignLoader(source)
        batches = all_of(loader)
        assert len(loader) == 3 and loader.n_items == 10 and loader.batch_size == 4
        for batch, (x, y) in zip(batches, source, strict=True):
            assert torch.equal(batch.inputs[0], x)
            assert batch.target is not None and torch.equal(batch.target, y)
        assert torch.cat([b.index for b in batches]).tolist() == list(range(10))

    def test_starts_in_the_middle(self) -> None:
        loader = ForeignLoader(self.source())
        assert [b.index.tolist() for b in all_of(loader, start=1)] == [b.index.tolist() for b in all_of(loader)][1:]

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_positions_count_on_through_batches_of_any_size(self, kind: Callable[..., Any]) -> None:
        source = kind((torch.zeros(n, 2), torch.zeros(n)) for n in (4, 1, 3))
        indices = [[b.index.tolist() for b in ForeignLoader(source).batches(CPU, start=n)] for n in (0, 2)]
        assert indices == [[[0, 1, 2, 3], [4], [5, 6, 7]], [[5, 6, 7]]]

    def test_batches_come_to_the_device_asked_for(self) -> None:
        meta = torch.device("meta")
        (batch,) = ForeignLoader([(torch.zeros(4, 2), torch.zeros(4))]).batches(meta)
        assert batch.inputs[0].device == meta and batch.target is not None and batch.target.device == meta
        assert batch.index.device == CPU
        there = ForeignLoader([(torch.zeros(4, 2), torch.zeros(4, device=meta))])
        with pytest.raises(NotImplementedError, match="meta"):  # nothing comes back from there, but it is asked for
            all_of(there)

    def test_items_of_a_list_are_counted_not_its_batches(self) -> None:
        loader = ForeignLoader([(torch.zeros(4, 2), torch.zeros(4)), (torch.zeros(3, 2), torch.zeros(3))])
        assert loader.n_items == 7 and loader.batch_size == 4 and len(loader) == 2

    def test_dropped_items_are_not_counted(self) -> None:
        assert ForeignLoader(self.source(drop_last=True)).n_items == 8
        half = self.source(sampler=range(5))
        assert ForeignLoader(half).n_items == 5

    def test_inputs_alone(self) -> None:
        loader = ForeignLoader([torch.zeros(4, 2), (torch.zeros(3, 2),)], has_target=False)
        assert [len(b.inputs) for b in all_of(loader)] == [1, 1] and all(b.target is None for b in all_of(loader))

    def test_arrays_become_tensors(self) -> None:
        (batch,) = all_of(ForeignLoader([(np.zeros((4, 2), np.float32), np.zeros(4, np.int64))]))
        assert isinstance(batch.inputs[0], Tensor) and isinstance(batch.target, Tensor)

    def test_a_generator_is_refused(self) -> None:
        with pytest.raises(ArgumentError, match="must have a length, got generator; pass a list or a DataLoader"):
            ForeignLoader(x for x in [(torch.zeros(1), torch.zeros(1))])

    def test_batches_without_target_are_refused(self) -> None:
        with pytest.raises(DataError, match=r"\(input, target\)"):
            all_of(ForeignLoader([torch.zeros(4, 2)]))

    @pytest.mark.parametrize("given", [1, 3])
    def test_a_source_that_gives_another_number_of_batches_than_it_says(self, given: int) -> None:
        class Liar:
            def __len__(self) -> int:
                return 2

            def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
                return iter([(torch.zeros(4, 2), torch.zeros(4))] * given)

        with pytest.raises(DataError, match="says that it has 2 batches"):
            all_of(ForeignLoader(Liar()))


class TestLoaderData:
    def data(self) -> LoaderData:
        batches = [(torch.randn(4, 2), torch.randn(4)), (torch.randn(3, 2), torch.randn(3))]
        return LoaderData(batches, batches, regression(), test=[torch.randn(4, 2)])

    def test_parts(self) -> None:
        data = self.data()
        assert data.splits == ("train", "valid", "test") and data.batch_size == 4
        assert len(data.loader("train", training=True)) == 2
        assert data.ids("valid") == [str(i) for i in range(7)] and data.ids("test") == ["0", "1", "2", "3"]
        assert all(b.target is None for b in all_of(data.loader("test")))

    def test_new_items_are_a_tensor_or_batches(self) -> None:
        read = self.data().preprocessor.read
        x = torch.randn(6, 2)
        loader = DataLoader(TensorDataset(x), batch_size=4)
        for form in (x, [x[:5], x[5:]], loader, x.numpy()):
            items = read(form)
            assert torch.equal(items.values[0], x) and items.ids == ("0", "1", "2", "3", "4", "5") and not items.single

    def test_a_missing_part(self) -> None:
        bare = LoaderData([(torch.zeros(4, 2), torch.zeros(4))], None, regression())
        assert bare.splits == ("train",)
        with pytest.raises(DataError, match="there is no valid split"):
            bare.loader("valid")

    def test_it_has_no_identity(self) -> None:
        with pytest.raises(DataError, match="precompute cannot be used"):
            self.data().fingerprint("train")
