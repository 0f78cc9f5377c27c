"""Files elsewhere: the same table from a local file, from an object store in memory, and from pyarrow's own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import easylearn as el
from easylearn.data import places
from easylearn.data.frames import ParquetTable, read_table
from easylearn.data.places import Place, Shelf, copied, is_elsewhere
from easylearn.errors import ArgumentError, DataError
from easylearn.files import part_of
from easylearn.texts.sources import Documents

pa = pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
fsspec = pytest.importorskip("fsspec", reason="object stores in memory need fsspec")
N, GROUP = 60, 10


def frame() -> pd.DataFrame:
    r = np.random.default_rng(0)
    return pd.DataFrame({"a": r.normal(size=N), "b": r.choice(list("xyz"), N), "y": np.arange(N)})


@pytest.fixture
def memory() -> Iterator[Any]:
    """A store of two files in memory, and one that is no table."""
    system = fsspec.filesystem("memory")
    for k in range(2):
        with system.open(f"/bucket/table/{k}.parquet", "wb") as file:
            frame().iloc[k * N // 2 : (k + 1) * N // 2].to_parquet(file, row_group_size=GROUP)
    with system.open("/bucket/table/notes.txt", "wb") as file:
        file.write(b"two files")
    yield system
    system.rm("/bucket", recursive=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "table").mkdir()
    for k in range(2):
        frame().iloc[k * N // 2 : (k + 1) * N // 2].to_parquet(tmp_path / f"table/{k}.parquet", row_group_size=GROUP)
    return tmp_path / "table"


def test_a_table_is_the_same_wherever_it_is(memory: Any, folder: Path) -> None:
    here = ParquetTable(folder)
    for url in ("memory://bucket/table", "memory://bucket/table/", folder.as_uri()):
        there = ParquetTable(url)
        assert (there.columns, there.n_rows, there.n_bytes) == (here.columns, here.n_rows, here.n_bytes)
        pd.testing.assert_frame_equal(there.read(["y", "b"]), here.read(["y", "b"]))
        pd.testing.assert_frame_equal(there.read_group(there.groups[4], ["a"]), here.read_group(here.groups[4], ["a"]))
    assert ParquetTable("memory://bucket/table/1.parquet").n_rows == N // 2


def test_it_is_known_by_address_size_and_time(memory: Any) -> None:
    before = ParquetTable("memory://bucket/table").identity()
    assert before == ParquetTable("memory://bucket/table").identity() and len(set(before)) == 2
    with memory.open("/bucket/table/1.parquet", "wb") as file:
        frame().to_parquet(file)
    after = ParquetTable("memory://bucket/table").identity()
    assert after[0] == before[0] and after[1] != before[1]


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        ("memory://bucket/tabel", DataError, "no file or folder memory://bucket/tabel"),
        ("memory://bucket/table/notes.txt", DataError, "notes.txt is not a whole parquet file"),
        ("nowhere://bucket/table", ArgumentError, "nowhere://bucket/table"),
    ],
)
def test_what_cannot_be_read_is_named(memory: Any, url: str, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        ParquetTable(url)


def test_a_folder_without_tables_says_so(memory: Any) -> None:
    memory.mkdir("/bucket/empty")
    with pytest.raises(DataError, match=r"holds no \*.parquet"):
        ParquetTable("memory://bucket/empty")


def test_without_fsspec_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(ArgumentError, match=r"fsspec.*easylearn\[remote\]"):
        Place.of("memory://bucket/table")


def test_a_password_stands_in_no_message() -> None:
    place = Place.of("s3://KEY:SECRET@bucket/a.parquet?region=us-east-1&endpoint_override=127.0.0.1:9&scheme=http")
    assert str(place).startswith("s3://KEY@bucket/a.parquet?region") and place.path == "bucket/a.parquet"
    with pytest.raises(ArgumentError) as error:
        Place.of("s3://KEY:SECRET@bucket/a?nonsense=1")
    assert "s3://KEY@bucket/a" in str(error.value) and "SECRET" not in str(error.value)


def test_is_elsewhere() -> None:
    assert is_elsewhere("s3://a/b") and not is_elsewhere(Path("s3:/a")) and not is_elsewhere("C:/a")


# -- what is copied ----------------------------------------------------------------------------------------


@pytest.fixture
def photos(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Images of two classes in a store, and a folder of caches."""
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path / "cache"))
    for k in range(12):
        with memory.open(f"/bucket/photos/{'cats' if k % 2 else 'dogs'}/{k}.png", "wb") as file:
            image.new("RGB", (8, 8), (20 * k, 0, 0)).save(file, "png")
    return memory


def test_a_folder_is_copied_once_and_follows_what_changes_there(photos: Any) -> None:
    here = copied("memory://bucket/photos")
    names = sorted(f.relative_to(here).as_posix() for f in here.rglob("*.png"))
    assert len(names) == 12 and here.name == "photos"
    times = {name: (here / name).stat().st_mtime_ns for name in names}
    first = (here / names[0]).read_bytes()
    photos.pipe(f"/bucket/photos/{names[1]}", first + b" ")
    photos.rm(f"/bucket/photos/{names[2]}")
    assert copied("memory://bucket/photos") == here
    assert (here / names[1]).read_bytes() == first + b" " and not (here / names[2]).exists()
    assert all((here / n).stat().st_mtime_ns == times[n] for n in names[3:])


def test_what_another_process_is_writing_is_left_to_it(photos: Any) -> None:
    here = copied("memory://bucket/photos")
    written, left = part_of(here / "cats" / "1.png"), part_of(here / "cats" / "3.png")
    os.utime(left, (1000, 1000))
    assert copied("memory://bucket/photos") == here and written.exists() and not left.exists()


def test_images_texts_and_csv_files_may_be_elsewhere(photos: Any) -> None:
    data = el.ImageData.from_folder("memory://bucket/photos", 8, valid=0.25, workers=0, batch_size=4)
    assert data.task.names == ("cats", "dogs") and len(data.ids("train")) == 9
    for k in range(4):
        photos.pipe(f"/bucket/texts/{k}.txt", f"text number {k}".encode())
    photos.pipe("/bucket/shops.csv", b"a,y\n1,2\n3,4\n5,6\n")
    documents = Documents.from_folder("memory://bucket/texts")
    assert list(documents) == [f"text number {k}" for k in range(4)]
    table = read_table("memory://bucket/shops.csv")
    assert table.frame["y"].tolist() == [2, 4, 6] and table.where(1) == "shops.csv line 3"


def test_what_no_disk_holds_is_not_copied(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST_COPIED", 100)
    with pytest.raises(DataError, match=r"memory://bucket/photos has .* GiB to copy.*EASYLEARN_CACHE"):
        copied("memory://bucket/photos")


def test_processes_that_want_the_same_copy_it_once(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, copy = [], places.shutil.copyfileobj

    def slowly(*args: Any) -> None:
        begun.append(1)  # at once, which n += 1 is not
        time.sleep(0.01)
        copy(*args)

    monkeypatch.setattr(places.shutil, "copyfileobj", slowly)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(copied, ["memory://bucket/photos"] * 4))
    assert len(set(found)) == 1 and len([*found[0].rglob("*.png")]) == 12 and len(begun) == 12


@pytest.mark.parametrize("name", ["../../../out.txt", "cats/../../out.txt"])
def test_a_name_that_leads_out_of_the_folder_is_refused(photos: Any, tmp_path: Path, name: str) -> None:
    path = f"/bucket/photos/{name}"
    photos.store[path] = type(next(iter(photos.store.values())))(photos, path, b"out")
    try:
        with pytest.raises(DataError, match=r"memory://bucket/photos holds .*out.txt.*leads out"):
            copied("memory://bucket/photos")
    finally:
        del photos.store[path]
    assert not [*tmp_path.rglob("out.txt")] and not [*tmp_path.rglob("*.png")]


def test_a_file_that_has_become_a_folder_is_followed(photos: Any) -> None:
    photos.pipe("/bucket/photos/more", b"a file")
    copied("memory://bucket/photos")
    photos.rm("/bucket/photos/more")
    photos.pipe("/bucket/photos/more/1.txt", b"in a folder")
    assert (copied("memory://bucket/photos") / "more/1.txt").read_bytes() == b"in a folder"


# -- what is kept here -------------------------------------------------------------------------------------


class Counting:
    """Reads a table, and counts how often."""

    def __init__(self, value: int = 0, n: int = 10_000) -> None:
        self.reads, self.table = 0, pa.table({"x": np.random.default_rng(value).normal(size=n)})

    def __call__(self) -> Any:
        self.reads += 1
        return self.table


def test_what_is_kept_is_read_once(tmp_path: Path) -> None:
    read, shelf = Counting(), Shelf("t", 10**6, tmp_path)
    assert all(shelf.get("a", read).equals(read.table) for _ in range(3)) and read.reads == 1
    assert Shelf("t", 10**6, tmp_path).get("a", read).equals(read.table) and read.reads == 1
    Shelf("another", 10**6, tmp_path).get("a", read)
    assert read.reads == 2


def test_it_stays_below_its_limit_and_what_is_there_stays(tmp_path: Path) -> None:
    shelf = Shelf("t", 200_000, tmp_path)  # two of 80,000 bytes
    reads = [Counting(k) for k in range(4)]
    for _ in range(2):
        for k, read in enumerate(reads):
            assert shelf.get(str(k), read).equals(read.table)
    assert [read.reads for read in reads] == [1, 1, 2, 2]
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= 200_000


def test_other_tables_give_way_the_oldest_first(tmp_path: Path) -> None:
    old, read = Shelf("old", 250_000, tmp_path), Counting()
    for k in range(3):
        old.get(str(k), read)
        for file in tmp_path.iterdir():
            os.utime(file, ns=(0, file.stat().st_mtime_ns - 10**9))
    Shelf("new", 250_000, tmp_path).get("a", read)
    assert read.reads == 4
    old.get("2", read), old.get("1", read)
    assert read.reads == 4
    old.get("0", read)
    assert read.reads == 5


def test_a_cut_file_is_read_anew(tmp_path: Path) -> None:
    read, shelf = Counting(), Shelf("t", 10**6, tmp_path)
    shelf.get("a", read)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    assert shelf.get("a", read).equals(read.table) and shelf.get("a", read).equals(read.table) and read.reads == 2


def test_a_table_keeps_what_it_is_told_to(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path))
    for cache, keep, kept in ((0, True, 0), (10**6, False, 0), (10**6, True, 1)):
        table = ParquetTable("memory://bucket/table", cache)
        for _ in range(2):
            got = table.read_group(table.groups[3], ["a"], keep=keep)
            np.testing.assert_array_equal(got["a"], frame()["a"][30:40])
            assert got.index[0] == 30
        assert len([*tmp_path.rglob("*.arrow")]) == kept
