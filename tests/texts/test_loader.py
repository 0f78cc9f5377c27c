from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from easylearn.data.order import ItemLoader, Order
from easylearn.errors import ArgumentError, DataError
from easylearn.nn.awd_lstm import AWDLSTM
from easylearn.nn.text_models import LanguageModel
from easylearn.task import NO_TARGET
from easylearn.texts.loader import DocumentSource, StreamLoader
from easylearn.texts.store import TokenStore

CPU = torch.device("cpu")
PAD, BOS = 1, 2


def numbered(lengths: list[int]) -> TokenStore:
    """Documents that begin with BOS, all their other tokens different."""
    new = iter(range(10, 10**6))
    ids = [i for n in lengths for i in (BOS, *(next(new) for _ in range(n - 1)))]
    return TokenStore(np.array(ids, np.int32), np.array(lengths))


def rows_of(loader: StreamLoader, **at: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All windows of an epoch side by side."""
    batches = list(loader.batches(CPU, **at))
    return torch.cat([b.inputs[0] for b in batches], 1), torch.cat([b.target for b in batches], 1)  # type: ignore[misc]


lengths = st.lists(st.integers(1, 12), min_size=1, max_size=12).filter(lambda ls: sum(ls) >= 2)


class TestStreamInEvaluation:
    @given(lengths, st.integers(1, 9), st.integers(1, 9))
    @settings(max_examples=60)
    def test_each_token_is_a_target_once_and_the_rest_is_marked(self, ls: list[int], rows: int, bptt: int) -> None:
        store = numbered(ls)
        loader = StreamLoader(store, rows, bptt, pad=PAD)
        x, y = rows_of(loader)
        kept = y.flatten()[y.flatten() != NO_TARGET]
        assert kept.tolist() == store.ids[1:].tolist()
        given = x.flatten()[: store.n_tokens].tolist()
        assert given == store.ids[: len(given)].tolist() and len(given) >= store.n_tokens - 1
        assert (x.flatten()[store.n_tokens :] == PAD).all()
        assert (y == NO_TARGET).sum() == y.numel() - (store.n_tokens - 1)
        assert len(list(loader.batches(CPU))) == len(loader)

    def test_the_windows_by_hand(self) -> None:
        store = numbered([4, 5])  # 2 10 11 12 2 13 14 15 16
        batches = list(StreamLoader(store, 3, 2, pad=PAD).batches(CPU))
        assert [b.inputs[0].tolist() for b in batches] == [[[2, 10], [12, 2], [14, 15]], [[11], [13], [16]]]
        assert [b.target.tolist() for b in batches] == [  # type: ignore[union-attr]
            [[10, 11], [2, 13], [15, 16]],
            [[12], [14], [NO_TARGET]],
        ]
        assert [b.inputs[1].item() for b in batches] == [False, True]
        assert batches[0].index.tolist() == [0, 1, 2]

    def test_more_rows_than_text_become_fewer(self) -> None:
        loader = StreamLoader(numbered([12]), 64, 5)
        assert loader.batch_size == loader.n_items == 2 and len(loader) == 2
        assert StreamLoader(numbered([2]), 64, 70).batch_size == 1


class TestStreamInTraining:
    @given(lengths.filter(lambda ls: sum(ls) > 12), st.integers(1, 9), st.integers(1, 9), st.integers(0, 3))
    @settings(max_examples=60)
    def test_windows_tile_each_row(self, ls: list[int], rows: int, bptt: int, epoch: int) -> None:
        store = numbered(ls)
        loader = StreamLoader(store, rows, bptt, shuffle=True)
        bounds = loader.bounds(0, epoch)
        assert bounds[0] == 0 and bounds[-1] == loader.row_length and (np.diff(bounds) > 0).all()
        batches = list(loader.batches(CPU, 0, epoch))
        assert len(batches) == len(loader) == len(bounds) - 1
        x, y = rows_of(loader, epoch=epoch)
        assert x.shape == (rows, loader.row_length)
        assert torch.equal(x[:, 1:], y[:, :-1]) and torch.equal(x[1:, 0], y[:-1, -1])
        assert store.n_tokens - 1 - x.numel() < rows, "no more than a token in each row is left out"
        assert not (y == NO_TARGET).any()

    def test_documents_are_whole_and_in_a_new_order(self) -> None:
        store = numbered([5, 7, 3, 9, 4])
        loader = StreamLoader(store, 1, 6, shuffle=True)
        orders = set()
        for epoch in range(4):
            stream = [*rows_of(loader, epoch=epoch)[0].flatten().tolist()]
            stream.append(int(rows_of(loader, epoch=epoch)[1][0, -1]))
            begins = [i for i, t in enumerate(stream) if t == BOS]
            found = [tuple(stream[a:b]) for a, b in zip(begins, [*begins[1:], len(stream)], strict=True)]
            assert sorted(found) == sorted(tuple(store.doc(i).tolist()) for i in range(5))
            orders.add(tuple(found))
        assert len(orders) > 1

    def test_keyed_by_seed_and_epoch(self, disturb: Callable[[], None]) -> None:
        loader = StreamLoader(numbered([9] * 30), 3, 10, shuffle=True)

        def read(seed: int, epoch: int) -> list[Any]:
            disturb()
            return [b.inputs[0].tolist() for b in loader.batches(CPU, seed, epoch)]

        assert read(0, 0) == read(0, 0)
        assert read(0, 0) != read(0, 1) and read(0, 0) != read(1, 0)
        assert len(read(0, 0)) == len(read(0, 1)) == len(read(5, 7)) == len(loader)

    def test_a_later_start_drops_batches(self) -> None:
        for shuffle in (False, True):
            loader = StreamLoader(numbered([9] * 30), 3, 10, shuffle=shuffle)
            whole = list(loader.batches(CPU, 1, 2))
            for k in (1, 4, len(loader)):
                later = list(loader.batches(CPU, 1, 2, start=k))
                assert len(later) == len(whole) - k
                for a, b in zip(whole[k:], later, strict=True):
                    assert torch.equal(a.inputs[0], b.inputs[0]) and torch.equal(a.target, b.target)  # type: ignore[arg-type]
                    assert bool(a.inputs[1]) and bool(b.inputs[1])

    def test_a_model_goes_on_in_the_middle_to_the_bit(self) -> None:
        loader = StreamLoader(numbered([9] * 30), 3, 10, shuffle=True)
        torch.manual_seed(0)
        model = LanguageModel(AWDLSTM(400, 8, 12, 2)).eval()
        with torch.no_grad():
            whole = [model(*b.inputs) for b in loader.batches(CPU)]
            model.reset()
            for number, batch in enumerate(loader.batches(CPU)):
                if number == 3:
                    break
                model(*batch.inputs)
            later = [model(*b.inputs) for b in loader.batches(CPU, start=3)]
        assert all(torch.equal(a, b) for a, b in zip(whole[3:], later, strict=True))

    def test_windows_are_of_about_the_length_wanted(self) -> None:
        loader = StreamLoader(numbered([1000] * 40), 2, 70, shuffle=True)
        sizes = np.diff(loader.bounds())
        assert abs(sizes.mean() - 68) < 3 and 3 < np.sort(sizes)[len(sizes) // 10 :].std() < 12
        assert (sizes < 50).mean() < 0.15

    def test_windows_of_one_token(self) -> None:
        loader = StreamLoader(numbered([50, 50]), 2, 1, shuffle=True)
        assert set(np.diff(loader.bounds())) == {1} and len(loader) == loader.row_length


class TestBackwardStream:
    def test_each_document_is_read_from_its_end_after_its_mark(self) -> None:
        store = numbered([4, 1, 3])  # 2 10 11 12 | 2 | 2 13 14
        x, y = rows_of(StreamLoader(store, 1, 3, backward=True))
        assert [*x[0].tolist(), int(y[0, -1])] == [2, 12, 11, 10, 2, 2, 14, 13]
        loader = StreamLoader(store, 1, 3, backward=True, shuffle=True)
        x, y = rows_of(loader)
        stream = [*x[0].tolist(), int(y[0, -1])]
        assert sorted(stream) == sorted(store.ids.tolist()) and "12, 11, 10" in str(stream)


class TestTooLittleText:
    def test_refused(self) -> None:
        with pytest.raises(DataError, match="at least two tokens, got 1 in 1 documents"):
            StreamLoader(numbered([1]), 4)
        with pytest.raises(
            DataError, match="10 tokens do not fill 64 rows; give more text, or a batch_size of at most 9"
        ):
            StreamLoader(numbered([10]), 64, shuffle=True)
        assert len(StreamLoader(numbered([10]), 9, shuffle=True)) == 1
        with pytest.raises(ArgumentError, match="bptt must be at least 1"):
            StreamLoader(numbered([10]), 2, 0)
        with pytest.raises(ArgumentError, match="batch_size must be at least 1"):
            StreamLoader(numbered([10]), 0)


class TestShards:
    @given(lengths.filter(lambda ls: sum(ls) > 12), st.integers(1, 9), st.booleans(), st.integers(1, 4))
    @settings(max_examples=40)
    def test_together_they_are_the_whole_batch(self, ls: list[int], rows: int, shuffle: bool, world: int) -> None:
        loader = StreamLoader(numbered(ls), rows, 4, pad=PAD, shuffle=shuffle)
        shards = [list(loader.batches(CPU, 1, 2, 0, (rank, world))) for rank in range(world)]
        for number, whole in enumerate(loader.batches(CPU, 1, 2)):
            pieces = [shard[number] for shard in shards]
            assert torch.equal(torch.cat([p.inputs[0] for p in pieces]), whole.inputs[0])
            assert torch.equal(torch.cat([p.target for p in pieces]), whole.target)  # type: ignore[misc, arg-type]
            assert torch.cat([p.index for p in pieces]).tolist() == whole.index.tolist()
            assert all(torch.equal(p.inputs[1], whole.inputs[1]) for p in pieces)


def documents(store: TokenStore, size: int, shuffle: bool = False, **how: Any) -> ItemLoader:
    """Documents by length, their own numbers as targets."""
    order = Order(len(store), size, shuffle=shuffle, lengths=store.lengths)
    return ItemLoader(order, DocumentSource(store, **how), torch.arange(len(store)))


class TestDocumentSource:
    @given(lengths, st.integers(1, 5), st.booleans(), st.integers(0, 2))
    @settings(max_examples=60)
    def test_each_document_once_and_the_longest_first(
        self, ls: list[int], size: int, shuffle: bool, epoch: int
    ) -> None:
        store = numbered(ls)
        batches = list(documents(store, size, shuffle, pad=PAD).batches(CPU, 0, epoch))
        assert Counter(torch.cat([b.index for b in batches]).tolist()) == Counter(range(len(ls)))
        for batch in batches:
            tokens, sizes = batch.inputs
            assert batch.target is not None and torch.equal(batch.target, batch.index)
            assert sizes.tolist() == sorted(sizes.tolist(), reverse=True) and tokens.shape[1] == sizes[0]
            for row, n, i in zip(tokens, sizes, batch.index, strict=True):
                assert row[:n].tolist() == store.doc(int(i)).tolist() and (row[n:] == PAD).all()
        assert batches[0].inputs[1].max() == max(ls)

    def test_lengths_are_alike_within_a_batch(self) -> None:
        rng = np.random.default_rng(0)
        store = numbered(rng.integers(1, 200, 400).tolist())
        padded = sum(b.inputs[0].numel() for b in documents(store, 8, shuffle=True).batches(CPU))
        assert padded < 1.1 * store.n_tokens

    def test_long_documents_keep_head_and_tail(self) -> None:
        store = numbered([21, 5])
        (batch,) = documents(store, 2, max_tokens=8).batches(CPU)
        ids = store.doc(0).tolist()
        assert batch.inputs[0][0].tolist() == [*ids[:2], *ids[-6:]] and batch.inputs[1].tolist() == [8, 5]

    def test_backward(self) -> None:
        store = numbered([4, 1, 12])
        (batch,) = documents(store, 3, max_tokens=4, backward=True).batches(CPU)
        rows = {int(i): r[:n].tolist() for i, r, n in zip(batch.index, *batch.inputs, strict=True)}
        last = store.doc(2).tolist()
        assert rows == {0: [2, 12, 11, 10], 1: [2], 2: [2, last[-1], last[-2], last[-3]]}

    def test_a_document_without_any_token(self) -> None:
        (batch,) = documents(TokenStore(np.zeros(0, np.uint16), np.zeros(2, np.int64)), 2).batches(CPU)
        assert batch.inputs[0].tolist() == [[PAD], [PAD]] and batch.inputs[1].tolist() == [0, 0]
