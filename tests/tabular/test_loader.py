from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from easylearn.data.frames import ParquetTable
from easylearn.data.order import Batch, Loader, shard_of
from easylearn.errors import ArgumentError, DataError
from easylearn.tabular.data import TabularData
from easylearn.tabular.learner import tabular_learner
from easylearn.tabular.loader import MemorySplit, StreamSplit, fit_streamed, on_device
from easylearn.tabular.processing import TableProcessor

CPU = torch.device("cpu")
N = 103


def table(n: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    size = rng.normal(50, 7, n)
    size[::10] = np.nan
    shop = np.array(["a", "b", None, "c"], object)[rng.integers(0, 4, n)]
    return pd.DataFrame({"shop": shop, "size": size, "row": np.arange(n, dtype=float), "y": rng.normal(0, 1, n)})


def processor(df: pd.DataFrame, rows: Sequence[int] | None = None) -> TableProcessor:
    made = TableProcessor(["shop"], ["size", "row"], scale="none")
    made.fit_transform(df, rows)
    return made


def memory_split() -> MemorySplit:
    df = table()
    encoded = processor(df).transform(df)
    y = torch.tensor(df["y"].to_numpy(np.float32)).unsqueeze(1)
    return MemorySplit(encoded.tensors(), df.index, None, y)


def write(path: Path, df: pd.DataFrame, group: int = 10) -> Path:
    pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    df.to_parquet(path, row_group_size=group)
    return path


def stream_split(tmp_path: Path, rows: Sequence[int] | None = None, buffer_rows: int = 25) -> StreamSplit:
    df = table()
    source = ParquetTable(write(tmp_path / "t.parquet", df))
    y = torch.tensor(df["y"].to_numpy(np.float32)).unsqueeze(1)
    at = np.arange(N) if rows is None else np.asarray(rows)
    return StreamSplit(source, processor(df), at, y[at], buffer_rows)


@pytest.fixture(params=["memory", "stream"])
def split(request: pytest.FixtureRequest, tmp_path: Path) -> MemorySplit | StreamSplit:
    return memory_split() if request.param == "memory" else stream_split(tmp_path)


def epoch(loader: Loader, **at: int) -> list[Batch]:
    return list(loader.batches(CPU, **at))


def equal(a: list[Batch], b: list[Batch]) -> bool:
    def all_of(batch: Batch) -> list[torch.Tensor]:
        return [*batch.inputs, batch.target, batch.index]  # type: ignore[list-item]

    return len(a) == len(b) and all(
        torch.equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(all_of(p), all_of(q), strict=True)
    )


# -- compared with plain pandas ----------------------------------------------------------------------------


def test_in_order_the_rows_are_those_of_the_table(split: MemorySplit | StreamSplit) -> None:
    df = table()
    batches = epoch(split.loader(8, shuffle=False))
    assert [len(b.index) for b in batches] == [8] * 12 + [7]
    cats, conts = (torch.cat([b.inputs[k] for b in batches]) for k in (0, 1))
    codes = df["shop"].astype("category").cat.codes.to_numpy()
    np.testing.assert_array_equal(cats[:, 0], np.where(codes < 0, 1, codes + 2))
    size = df["size"]
    want = np.column_stack([size.fillna(size.median()), df["row"], size.isna()])
    np.testing.assert_allclose(conts, want, rtol=1e-6)
    y = torch.cat([b.target for b in batches if b.target is not None])
    np.testing.assert_allclose(y[:, 0], df["y"], rtol=1e-6)
    assert torch.cat([b.index for b in batches]).tolist() == list(range(N))


# -- every row once, keyed by (seed, epoch) ----------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 6, 17, 200])
def test_every_row_comes_exactly_once_with_what_belongs_to_it(
    split: MemorySplit | StreamSplit, batch_size: int
) -> None:
    loader = split.loader(batch_size, shuffle=True)
    df = table()
    for number in range(2):
        batches = epoch(loader, seed=1, epoch=number)
        assert len(batches) == len(loader)
        index = torch.cat([b.index for b in batches])
        assert sorted(index.tolist()) == list(range(N))
        assert torch.cat([b.inputs[1][:, 1] for b in batches]).tolist() == index.tolist()
        y = torch.cat([b.target for b in batches if b.target is not None])[:, 0]
        np.testing.assert_allclose(y, df["y"].to_numpy()[index], rtol=1e-6)
        # Batch-norm cannot train on a single row (6 * 17 + 1 rows).
        assert batch_size == 1 or min(len(b.index) for b in batches) > 1


def test_the_order_follows_from_seed_and_epoch_alone(
    split: MemorySplit | StreamSplit, disturb: Callable[[], None]
) -> None:
    loader = split.loader(6, shuffle=True)
    first = epoch(loader, seed=1, epoch=2)
    disturb()
    assert equal(first, epoch(split.loader(6, shuffle=True), seed=1, epoch=2))
    for other in ({"seed": 1, "epoch": 3}, {"seed": 2, "epoch": 2}):
        assert not equal(first, epoch(loader, **other))


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_later_start_goes_on_where_the_epoch_was(split: MemorySplit | StreamSplit, shuffle: bool) -> None:
    loader = split.loader(6, shuffle)
    whole = epoch(loader, seed=1, epoch=2)
    for start in (0, 1, 5, len(whole) - 1, len(whole)):
        assert equal(whole[start:], epoch(loader, seed=1, epoch=2, start=start))


def test_samples_are_rows_and_always_the_same(split: MemorySplit | StreamSplit) -> None:
    sample = split.sample(20)
    assert sample.shape == (20, 3) and torch.equal(sample, split.sample(20))
    assert len(set(sample[:, 1].tolist())) == 20 and sample[:, 1].tolist() != list(range(20))
    assert len(split.sample(10_000)) == N


def test_a_loader_may_be_left_early(split: MemorySplit | StreamSplit) -> None:
    batches = split.loader(6, shuffle=True).batches(CPU)
    next(batches)
    batches.close()
    assert len(epoch(split.loader(6, shuffle=True))) == 17


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_every_batch(world: int, start: int) -> None:
    loader = memory_split().loader(7, shuffle=True)
    alone = epoch(loader, seed=1, epoch=2, start=start)
    shards = [list(loader.batches(CPU, 1, 2, start, (rank, world))) for rank in range(world)]
    for number, batch in enumerate(alone):
        mine = [shard[number] for shard in shards]
        assert torch.equal(torch.cat([b.index for b in mine]), batch.index)
        for k in (0, 1):
            assert torch.equal(torch.cat([b.inputs[k] for b in mine]), batch.inputs[k])


# -- spans of a stream -------------------------------------------------------------------------------------


class Noting(ParquetTable):
    """Notes which row groups are read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read_numbers: list[int] = []

    def read_group(self, group: Any, columns: Sequence[str], *, keep: bool = False) -> pd.DataFrame:
        self.read_numbers.append(group.start // 10)
        return super().read_group(group, columns, keep=keep)


@pytest.mark.parametrize("rows", [None, [*range(3, 60), *range(75, 103)]])
@pytest.mark.parametrize("shards", [2, 3, 4])
def test_each_shard_reads_its_own_span(tmp_path: Path, shards: int, rows: list[int] | None) -> None:
    split = stream_split(tmp_path, rows)
    noting = Noting(tmp_path / "t.parquet")
    loader = replace(split, table=noting).loader(7, shuffle=True)
    y, read, n = table()["y"].to_numpy(np.float32), [], len(split)
    found: list[list[Batch]] = []
    for lane in range(shards):
        noting.read_numbers.clear()
        found.append(list(loader.batches(CPU, 1, 2, 0, (lane, shards, 2))))
        read.append(list(noting.read_numbers))
        assert len(set(read[-1])) == len(read[-1])
    sizes = [[len(b.index) for b in batches] for batches in found]
    for k, whole in enumerate(epoch(split.loader(7, shuffle=True))):
        expected = [shard_of(len(whole.index), (lane, shards, 2)) for lane in range(shards)]
        assert [s[k] for s in sizes] == [s.stop - s.start for s in expected]
    every = torch.cat([b.index for batches in found for b in batches])
    assert sorted(every.tolist()) == list(range(n))
    for batch in (b for batches in found for b in batches):
        assert batch.target is not None and len(batch.inputs[0]) == len(batch.inputs[1]) == len(batch.index)
        at = split.rows[batch.index.numpy()]
        np.testing.assert_allclose(batch.target[:, 0], y[at])
        assert batch.inputs[1][:, 1].tolist() == at.tolist()
    # A row group on the border of two spans is read for both, any other once.
    groups = {g for numbers in read for g in numbers}
    assert sum(map(len, read)) <= len(groups) + shards - 1


@pytest.mark.parametrize("lane", range(3))
def test_a_span_goes_on_at_any_batch_and_reads_only_what_is_left(tmp_path: Path, lane: int) -> None:
    noting = Noting(write(tmp_path / "t.parquet", table()))
    loader = replace(stream_split(tmp_path), table=noting).loader(6, shuffle=True)
    whole = list(loader.batches(CPU, 1, 2, 0, (lane, 3, 2)))
    everything = len(noting.read_numbers)
    for start in (1, 5, len(whole) - 1, len(whole)):
        noting.read_numbers.clear()
        assert equal(whole[start:], list(loader.batches(CPU, 1, 2, start, (lane, 3, 2))))
        assert len(noting.read_numbers) <= everything
    assert not noting.read_numbers


def test_a_shard_without_rows_gets_empty_batches(tmp_path: Path) -> None:
    split = stream_split(tmp_path, [4, 5, 17])
    shards = [list(split.loader(8, shuffle=True).batches(CPU, shard=(lane, 2, 2))) for lane in range(2)]
    assert [[len(b.index) for b in batches] for batches in shards] in ([[3], [0]], [[0], [3]])
    empty = next(b for batches in shards for b in batches if not len(b.index))
    assert empty.inputs[0].shape == (0, 1) and empty.inputs[1].shape == (0, 3) and empty.target is not None


def test_in_order_the_slices_are_those_of_every_batch(tmp_path: Path) -> None:
    loader = stream_split(tmp_path).loader(7, shuffle=False)
    for lane in range(3):
        for whole, own in zip(epoch(loader), loader.batches(CPU, shard=(lane, 3)), strict=True):
            assert torch.equal(own.index, whole.index[shard_of(len(whole.index), (lane, 3))])


# -- splits in memory --------------------------------------------------------------------------------------


def test_splits_share_a_table() -> None:
    whole, rows = memory_split(), np.array([5, 3, 80])
    some = replace(whole, rows=rows, target=whole.target[rows] if whole.target is not None else None)
    assert len(some) == 3 and some.ids() == ["5", "3", "80"]
    (batch,) = epoch(some.loader(8, shuffle=False))
    assert batch.inputs[1][:, 1].tolist() == [5, 3, 80] and batch.index.tolist() == [0, 1, 2]
    assert some.row(1)[1][0, 1] == 3 and some.sample(10)[:, 1].tolist() == [5, 3, 80]
    assert torch.equal(some.fetch()[0], whole.inputs[0][rows])


def test_weights_say_how_often_a_row_comes() -> None:
    weights = np.where(np.arange(N) < 10, 9.0, 1.0)
    split = replace(memory_split(), weights=weights)
    drawn = torch.cat([b.index for b in epoch(split.loader(16, shuffle=True), seed=1)])
    counts = np.bincount(drawn, minlength=N)
    assert counts.sum() == N and np.abs(counts - weights / weights.sum() * N).max() < 1 + 1e-9
    assert torch.cat([b.index for b in epoch(split.loader(16, shuffle=False))]).tolist() == list(range(N))


def test_fingerprints_follow_the_content() -> None:
    a, b = memory_split(), memory_split()
    assert a.fingerprint() == b.fingerprint() and a.target is not None
    cats, conts = a.inputs
    others = [
        replace(a, inputs=(cats.roll(1, 0), conts)),
        replace(a, inputs=(cats, conts + 1)),
        replace(a, target=None),
        replace(a, target=-a.target),
        replace(a, rows=np.arange(N)[::-1].copy(), target=a.target),
        replace(a, weights=np.ones(N)),
    ]
    assert len({a.fingerprint(), *(split.fingerprint() for split in others)}) == 7
    assert replace(a, rows=np.arange(N)).fingerprint() == a.fingerprint()


def test_ids_are_the_labels_of_the_rows() -> None:
    split = replace(memory_split(), index=pd.Index(["x", "x", *range(N - 2)]))
    assert list(split.ids())[:4] == ["x", "x", "0", "1"]


def test_splits_go_to_the_device_and_what_they_share_goes_once() -> None:
    whole = memory_split()
    rows = np.array([1, 2])
    splits = {"train": whole, "valid": replace(whole, rows=rows, target=None)}
    moved = on_device(splits, torch.device("meta"))
    train, valid = moved["train"], moved["valid"]
    assert isinstance(train, MemorySplit) and isinstance(valid, MemorySplit) and train.target is not None
    assert {t.device.type for t in (*train.inputs, *valid.inputs, train.target)} == {"meta"}
    assert all(a is b for a, b in zip(train.inputs, valid.inputs, strict=True)) and valid.target is None
    assert whole.inputs[0].device.type == "cpu"
    assert on_device(splits, CPU)["train"] is whole


# -- streams -----------------------------------------------------------------------------------------------


def test_a_stream_of_chosen_rows(tmp_path: Path) -> None:
    rows = [0, 1, 15, 40, 41, 42, 99, 102]
    split = stream_split(tmp_path, rows)
    assert len(split) == 8 and split.ids() == [str(r) for r in rows]
    batches = epoch(split.loader(3, shuffle=True), epoch=4)
    index = torch.cat([b.index for b in batches])
    assert sorted(index.tolist()) == list(range(8))
    assert torch.cat([b.inputs[1][:, 1] for b in batches]).tolist() == [rows[i] for i in index.tolist()]


def test_a_stream_reads_a_row_group_once_and_only_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = stream_split(tmp_path, range(35, 103))
    read: list[int] = []
    old = ParquetTable.read_group

    def spy(self: ParquetTable, group: Any, columns: Sequence[str], *, keep: bool = False) -> pd.DataFrame:
        read.append(group.number)
        assert list(columns) == ["shop", "size", "row"]
        return old(self, group, columns)

    monkeypatch.setattr(ParquetTable, "read_group", spy)
    loader = split.loader(4, shuffle=True)
    epoch(loader)
    assert sorted(read) == list(range(3, 11))
    read.clear()
    epoch(loader, start=len(loader) - 1)
    assert len(read) < 8
    read.clear()
    next(split.loader(4, shuffle=False).batches(CPU))
    assert read == [3]


def test_rows_are_mixed_across_row_groups(tmp_path: Path) -> None:
    batches = epoch(stream_split(tmp_path, buffer_rows=60).loader(20, shuffle=True))
    assert all(len(set((b.index // 10).tolist())) > 2 for b in batches)


def assert_alike(one: dict[str, Any], two: dict[str, Any]) -> None:
    """All but the last digits, which depend on where a file is cut into row groups."""
    digits = ("center", "factor", "fill")
    for a, b in zip(one["conts"], two["conts"], strict=True):
        assert [a[n] for n in digits] == pytest.approx([b[n] for n in digits], rel=1e-12)
        assert all(a[n] == b[n] for n in a if n not in digits)
    assert {**one, "conts": None} == {**two, "conts": None}


def test_fitting_by_row_groups_is_fitting_at_once(tmp_path: Path) -> None:
    df = table()
    rows = np.arange(0, N, 2)
    source = ParquetTable(write(tmp_path / "t.parquet", df))
    for settings in ({}, {"scale": "quantile", "fill": "mean", "min_count": 3}):
        one = TableProcessor(["shop"], ["size", "row"], **settings)  # type: ignore[arg-type]
        two = TableProcessor(["shop"], ["size", "row"], **settings)  # type: ignore[arg-type]
        split = one.fit_transform(df, rows).split
        assert split == fit_streamed(two, source, rows)
        assert_alike(one.state_dict(), two.state_dict())


def test_streamed_data_is_the_data_in_memory(tmp_path: Path) -> None:
    df = table()
    file = write(tmp_path / "t.parquet", df)
    settings: dict[str, Any] = {"cat_names": ["shop"], "cont_names": ["size", "row"], "batch_size": 16}
    here = TabularData.from_df(df, "y", **settings)
    whole = TabularData.from_parquet(file, "y", **settings)
    streamed = TabularData.from_parquet(file, "y", stream=True, buffer_rows=20, **settings)
    small = TabularData.from_parquet(file, "y", memory=10, **settings)
    assert type(whole.loader("train", training=True)).__name__ == "ItemLoader"
    assert (
        type(small.loader("train", training=True)).__name__
        == type(streamed.loader("train", training=True)).__name__
        == "StreamLoader"
    )
    pd.testing.assert_frame_equal(here.report(), streamed.report())
    for data in (whole, streamed):
        assert_alike(data.preprocessor.processor.state_dict(), here.preprocessor.processor.state_dict())
        assert len(data.ids("train")) == 82 and list(data.ids("valid")) == list(here.ids("valid"))
        assert equal(epoch(data.loader("valid")), epoch(here.loader("valid")))
        assert data.loader("train", training=True).n_items == 82  # type: ignore[attr-defined]
    assert streamed.adopt(here) is streamed, "a model that was trained with either takes the other"
    other = TabularData.from_parquet(file, "y", stream=True, **{**settings, "min_count": 8})
    with pytest.raises(DataError, match="codes and scales of its own"):
        other.adopt(here)
    own = TabularData.from_parquet(file, "y", valid=file, test=file, stream=True, **settings)
    assert len(own.ids("train")) == len(own.ids("valid")) == len(own.ids("test")) == N
    assert torch.equal(own.target("test"), own.target("valid"))  # type: ignore[arg-type]
    bare = write(tmp_path / "bare.parquet", df.drop(columns="y"))
    assert TabularData.from_parquet(file, "y", test=bare, stream=True, **settings).target("test") is None


def test_text_that_says_how_to_split_and_what_to_predict(tmp_path: Path) -> None:
    df = table().assign(
        kind=lambda d: np.where(d["size"] > 50, "big", "small"), patient=[f"p{i // 7}" for i in range(N)]
    )
    df.loc[100:, "kind"] = "huge"  # no such word in the first row groups
    file = write(tmp_path / "t.parquet", df)
    settings: dict[str, Any] = {"cat_names": ["shop"], "cont_names": ["size", "row"], "batch_size": 16}
    for how in ({}, {"groups": "patient"}, {"stratify": False}):
        here = TabularData.from_df(df, "kind", **settings, **how)
        streamed = TabularData.from_parquet(file, "kind", stream=True, **settings, **how)
        assert here.task.names == streamed.task.names == ("big", "huge", "small")
        assert list(here.ids("valid")) == list(streamed.ids("valid"))
        for split in ("train", "valid"):
            assert torch.equal(here.target(split), streamed.target(split))  # type: ignore[arg-type]
    odd = write(tmp_path / "odd.parquet", df.assign(y=["x1" if i == 70 else f"{i * 37 % N}.5" for i in range(N)]))
    with pytest.raises(DataError, match="'y' holds text in row 70: 'x1'"):
        TabularData.from_parquet(odd, "y", stream=True, task="regression", **settings)


# -- bad input ---------------------------------------------------------------------------------------------


def test_files_that_are_none(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", table().iloc[:0])
    with pytest.raises(DataError, match="no rows"):
        TabularData.from_parquet(tmp_path / "b.parquet", "y")
    write(tmp_path / "a.parquet", table())
    with pytest.raises(ArgumentError, match="buffer_rows"):
        TabularData.from_parquet(tmp_path / "a.parquet", "y", buffer_rows=0)


def test_a_table_elsewhere_trains_as_one_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path / "cache"))
    here = write(tmp_path / "t.parquet", table())
    fsspec.filesystem("memory").pipe("/bucket/t.parquet", here.read_bytes())
    losses = []
    for path in (here, "memory://bucket/t.parquet"):
        data = TabularData.from_parquet(path, "y", stream=True, buffer_rows=25, batch_size=8)
        learn = tabular_learner(data, [4], device="cpu", progress=False, lanes=2)
        losses.append(learn.fit(0.01, 2).losses)
    assert losses[0] == losses[1] and len([*tmp_path.rglob("*.arrow")]) > 0
