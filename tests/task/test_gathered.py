"""Rows gathered in memory, and in mapped files where they are many."""

from __future__ import annotations

import gc
import io
import os
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from easylearn.errors import DataError, EasyLearnError
from easylearn.task import gathered
from easylearn.task.gathered import Gathered, by_pieces, stacked

PIECES = [torch.randn(n, 3, 4, generator=torch.Generator().manual_seed(n)) for n in (2, 5, 0, 1)]


def all_of_them() -> tuple[Gathered, torch.Tensor]:
    rows = Gathered()
    for piece in PIECES:
        rows.add(piece)
    return rows, rows.tensor()


def in_a_file(rows: Gathered) -> bool:
    return rows._file is not None


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathered, "MOST", 200)
    monkeypatch.setattr(gathered, "_PIECE", 100)


def test_few_stay_in_memory() -> None:
    rows, found = all_of_them()
    assert torch.equal(found, torch.cat(PIECES)) and not in_a_file(rows)
    one = Gathered()
    one.add(PIECES[0])
    assert one.tensor() is PIECES[0]


def test_many_are_in_a_file_that_goes_with_them(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path / "new"))
    rows, found = all_of_them()
    assert in_a_file(rows) and torch.equal(found, torch.cat(PIECES))
    assert not os.listdir(tmp_path / "new"), "it has no name"
    del rows
    gc.collect()
    found[0] = 7  # no one else sees it
    assert (found[0] == 7).all() and torch.equal(found[1:], torch.cat(PIECES)[1:])


def test_without_a_folder_they_stay_in_memory(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path / "file"))
    rows, found = all_of_them()
    assert torch.equal(found, torch.cat(PIECES)) and not in_a_file(rows)


def test_a_full_disk_is_told(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    raw = Full()
    monkeypatch.setattr(gathered.tempfile, "TemporaryFile", lambda dir: io.BufferedWriter(raw))
    with pytest.raises(EasyLearnError, match=r"is full \(No space left.*are gone.*EASYLEARN_CACHE.*predict again"):
        all_of_them()
    assert raw.closed, "the disk is not left full, nor written to once more later"


def test_pieces_give_what_the_whole_gives(few: None) -> None:
    a, b = torch.randn(50, 3), torch.randn(50, 2)
    sizes = []

    def fn(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return torch.cat([x * 2, y], 1)

    assert torch.equal(by_pieces(fn, a, b), torch.cat([a * 2, b], 1))
    assert max(sizes) == 8 and sum(sizes) == 50
    sizes.clear()
    assert len(by_pieces(fn, a[:3], b[:3])) == 3 and sizes == [3]


def test_rows_that_are_only_named_count_by_their_own_size(few: None) -> None:
    rows, sizes = torch.randn(50, 3), []

    def taken(some: torch.Tensor) -> torch.Tensor:
        sizes.append(len(some))
        return rows[some]

    at = torch.randperm(20)
    assert torch.equal(by_pieces(taken, at, n_bytes=rows.nbytes), rows[at]) and sum(sizes) == 20 and max(sizes) < 20


def test_of_what_is_in_a_file_nothing_stays_in_memory(few: None) -> None:
    """A view of no rows would keep all those that it is a view of."""
    rows = Gathered()
    rows.add(torch.randn(60, 4))
    assert in_a_file(rows) and not any(t.untyped_storage().nbytes() for t in rows._rows)


def test_views_are_taken_one_at_a_time(few: None) -> None:
    alive: list[Any] = []

    def views() -> Any:
        for k in range(6):
            one = torch.full((30, 4), float(k))
            alive.append(weakref.ref(one))
            yield one
            del one
            assert sum(ref() is not None for ref in alive) <= 2

    assert torch.equal(stacked(views())[:, 0, 0], torch.arange(6.0))


def test_a_single_view_is_not_copied(few: None) -> None:
    a, b = torch.randn(60, 4), torch.randn(60, 4)
    assert stacked([a]).data_ptr() == a.data_ptr() and stacked([a]).shape == (1, 60, 4)
    assert torch.equal(stacked([a, b]), torch.stack([a, b]))


@pytest.mark.parametrize("most", [200, 10**6])
def test_all_rows_are_alike(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the bytes of unlike ones, one after the other in a file, nobody could tell which are whose."""
    monkeypatch.setattr(gathered, "MOST", most)
    a, b = torch.randn(60, 4), torch.randn(60, 4, dtype=torch.float64)
    assert torch.equal(stacked([a, b, a]), torch.stack([a, b.float(), a]))
    with pytest.raises(DataError, match=r"shape \(60, 4\), of others \(60, 2\).*one size"):
        stacked([a, a[:, :2]])
