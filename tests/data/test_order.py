from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, SequentialSampler

from easylearn.data.order import Batch, ItemLoader, Loader, Order, TensorSource, batch_bounds, tensor_loader
from easylearn.errors import ArgumentError, DataError

CPU = torch.device("cpu")


def all_of(loader: Loader, **key: Any) -> list[Batch]:
    return list(loader.batches(CPU, **key))


def items(batches: list[Any]) -> list[int]:
    return [int(i) for b in batches for i in b]


class TestBatchBounds:
    @given(n=st.integers(1, 200), size=st.integers(1, 50))
    def test_is_what_torchs_batch_sampler_gives(self, n: int, size: int) -> None:
        expected = [(b[0], b[-1] + 1) for b in BatchSampler(SequentialSampler(range(n)), size, drop_last=False)]
        assert batch_bounds(n, size) == expected

    @given(n=st.integers(1, 200), size=st.integers(2, 50))
    def test_merging_leaves_nothing_out_and_no_single_item(self, n: int, size: int) -> None:
        bounds = batch_bounds(n, size, merge_single=True)
        assert [i for a, b in bounds for i in range(a, b)] == list(range(n))
        assert all(b - a >= 2 for a, b in bounds) or n == 1
        assert all(b - a == size for a, b in bounds[:-1])
        assert bounds[-1][1] - bounds[-1][0] <= size + 1

    def test_a_batch_larger_than_the_data(self) -> None:
        assert batch_bounds(3, 100) == [(0, 3)]
        assert batch_bounds(1, 100, merge_single=True) == [(0, 1)]


class TestTensorLoader:
    def loader(self, n: int = 11, size: int = 4, shuffle: bool = True) -> ItemLoader:
        x = torch.arange(n * 2.0).reshape(n, 2)
        return tensor_loader([x], torch.arange(n), size, shuffle=shuffle)

    def test_in_order_it_gives_the_very_rows(self) -> None:
        loader = self.loader(shuffle=False)
        batches = all_of(loader, seed=3, epoch=5)
        assert [len(b.index) for b in batches] == [4, 4, 3] and len(loader) == 3 and loader.n_items == 11
        assert torch.equal(torch.cat([b.inputs[0] for b in batches]), loader.source.inputs[0])
        assert torch.cat([b.index for b in batches]).tolist() == list(range(11))

    @given(seed=st.integers(0, 99), epoch=st.integers(0, 99), start=st.integers(0, 3))
    def test_shuffled_each_item_comes_once_and_only_the_key_decides(self, seed: int, epoch: int, start: int) -> None:
        loader = self.loader()
        torch.manual_seed(seed)
        batches = all_of(loader, seed=seed, epoch=epoch)
        torch.manual_seed(seed + 1)
        again = all_of(loader, seed=seed, epoch=epoch, start=start)
        assert sorted(torch.cat([b.index for b in batches]).tolist()) == list(range(11))
        for batch in batches:
            assert torch.equal(batch.inputs[0], loader.source.inputs[0][batch.index])
            assert batch.target is not None and torch.equal(batch.target, batch.index)
        for a, b in zip(batches[start:], again, strict=True):
            assert torch.equal(a.index, b.index)

    def test_another_seed_or_epoch_is_another_order(self) -> None:
        orders = {
            tuple(torch.cat([b.index for b in all_of(self.loader(40), seed=seed, epoch=epoch)]).tolist())
            for seed in range(3)
            for epoch in range(3)
        }
        assert len(orders) == 9

    def test_it_neither_reads_nor_moves_the_global_generator(self) -> None:
        before = torch.get_rng_state()
        all_of(self.loader(), seed=0, epoch=0)
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_last_item_joins_the_batch_before_in_training_only(self) -> None:
        assert [len(b.index) for b in all_of(self.loader(9))] == [4, 5]
        assert [len(b.index) for b in all_of(self.loader(9, shuffle=False))] == [4, 4, 1]

    def test_several_inputs_and_no_target(self) -> None:
        loader = tensor_loader([torch.zeros(3, 2), torch.ones(3)], None, 2)
        (a, b), target = all_of(loader)[0].inputs, all_of(loader)[0].target
        assert a.shape == (2, 2) and b.shape == (2,) and target is None

    def test_different_lengths_are_refused(self) -> None:
        with pytest.raises(DataError, match=r"same number of rows, got \[3, 3, 4\]"):
            tensor_loader([torch.zeros(3, 2)], torch.zeros(4), 2)


class TestOrder:
    @given(
        n=st.integers(1, 60), size=st.integers(1, 20), seed=st.integers(0, 9), epoch=st.integers(0, 9),
        by_length=st.booleans(), shuffle=st.booleans(),
    )  # fmt: skip
    def test_each_item_comes_once_and_a_later_start_gives_the_rest(
        self, n: int, size: int, seed: int, epoch: int, by_length: bool, shuffle: bool
    ) -> None:
        lengths = np.arange(n, dtype=np.int64) * 7 % 5 if by_length else None
        order = Order(n, size, shuffle=shuffle, lengths=lengths)
        batches = order.batches(seed, epoch)
        assert sorted(items(batches)) == list(range(n)) and len(batches) == len(order)
        for start in range(len(order) + 1):
            assert items(order.batches(seed, epoch, start)) == items(batches[start:])

    @given(n=st.integers(1, 60), size=st.integers(1, 20), world=st.integers(1, 5), shuffle=st.booleans())
    def test_the_shards_of_a_batch_are_the_batch(self, n: int, size: int, world: int, shuffle: bool) -> None:
        order = Order(n, size, shuffle=shuffle)
        whole = order.batches(1, 2)
        shards = [order.batches(1, 2, shard=(rank, world)) for rank in range(world)]
        for number, batch in enumerate(whole):
            assert items([s[number] for s in shards]) == batch.tolist()
            sizes = [len(s[number]) for s in shards]
            assert max(sizes) - min(sizes) <= 1

    @given(weights=st.lists(st.floats(0, 10), min_size=2, max_size=30).filter(lambda w: sum(w) > 1e-3))
    def test_weights_say_how_often_an_item_comes(self, weights: list[float]) -> None:
        n = len(weights)
        order = Order(n, 4, shuffle=True, weights=np.array(weights))
        for epoch in range(3):
            drawn = np.bincount(items(order.batches(0, epoch)), minlength=n)
            expected = np.array(weights) / sum(weights) * n
            assert drawn.sum() == n and (np.abs(drawn - expected) < 1 + 1e-6).all()

    def test_weights_are_kept_on_average_over_epochs(self) -> None:
        order = Order(4, 2, shuffle=True, weights=np.array([1.0, 1.0, 1.0, 0.25]))
        drawn = np.bincount(items([b for epoch in range(400) for b in order.batches(0, epoch)]), minlength=4) / 400
        assert drawn == pytest.approx(np.array([1, 1, 1, 0.25]) / 3.25 * 4, abs=0.1)

    def test_evaluation_knows_no_weights(self) -> None:
        assert items(Order(4, 2, weights=np.array([1.0, 0, 0, 0])).batches()) == [0, 1, 2, 3]

    def test_items_of_like_length_share_a_batch_the_longest_first(self) -> None:
        lengths = np.array([3, 9, 1, 7, 5, 2, 8, 4, 6], dtype=np.int64)
        plain = Order(9, 3, lengths=lengths).batches()
        assert [lengths[b].tolist() for b in plain] == [[9, 8, 7], [6, 5, 4], [3, 2, 1]]
        mixed = Order(9, 3, shuffle=True, lengths=lengths).batches(seed=4)
        assert sorted(lengths[b].tolist() for b in mixed) == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
        assert lengths[mixed[0]].tolist() == [9, 8, 7]  # too large a batch fails at once

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"batch_size": 0}, ArgumentError),
            ({"weights": np.ones(3)}, DataError),
            ({"lengths": np.ones(3)}, DataError),
        ],
    )
    def test_bad_settings(self, changes: dict[str, Any], error: type[Exception]) -> None:
        with pytest.raises(error, match=next(iter(changes))):
            Order(**{"n_items": 2, "batch_size": 1, **changes})


class TestTensorSource:
    @given(st.lists(st.integers(0, 9), min_size=0, max_size=12))
    def test_it_gives_the_rows_asked_for(self, index: list[int]) -> None:
        table = torch.randn(10, 3)
        rows = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3])
        at = np.array(index, dtype=np.int64)
        assert torch.equal(TensorSource([table]).fetch(at, CPU)[0], table[index])
        assert torch.equal(TensorSource([table], rows).fetch(at, CPU)[0], table[rows[index]])

    def test_neighbours_are_not_copied(self) -> None:
        table = torch.randn(10, 3)
        (found,) = TensorSource([table]).fetch(np.arange(2, 5), CPU)
        assert found.data_ptr() == table[2].data_ptr()
