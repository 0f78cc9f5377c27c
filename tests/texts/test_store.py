from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easylearn.errors import DataError, SaveError
from easylearn.texts import store as module
from easylearn.texts.store import NOTE, TokenStore, TokenWriter, dtype_for

U2, I4 = np.dtype("<u2"), np.dtype("<i4")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    return tmp_path / "cache" / "tokens"


def add(writer: TokenWriter, docs: list[list[int]], dtype: Any = U2) -> None:
    writer.add(np.array([i for d in docs for i in d], dtype), np.array([len(d) for d in docs], np.int64))


def in_memory(docs: list[list[int]], dtype: Any) -> TokenStore:
    return TokenStore(np.array([i for d in docs for i in d], dtype), np.array([len(d) for d in docs], np.int64))


def write(docs: list[list[int]], key: str | None = "key", dtype: Any = U2) -> TokenStore:
    with TokenWriter(dtype, key) as writer:
        add(writer, docs, dtype)
        return writer.finish()


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    docs=st.lists(st.lists(st.integers(0, 65535), max_size=6), max_size=8), wide=st.booleans(), cut=st.integers(0, 8),
    limit=st.sampled_from([0, 9, 10**6]), piece=st.integers(1, 9),
)  # fmt: skip
def test_disk_is_memory_however_it_is_written(
    docs: list[list[int]], wide: bool, cut: int, limit: int, piece: int
) -> None:
    dtype = I4 if wide else U2
    memory = in_memory(docs, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "IN_MEMORY", limit)
        patch.setattr(module, "_PIECE", piece)
        with TokenWriter(dtype) as writer:
            add(writer, docs[:cut], dtype)
            add(writer, docs[cut:], dtype)
            written = writer.finish()
        assert isinstance(written.ids, np.memmap) == (sum(map(len, docs)) * dtype.itemsize > limit)
        pieces = list(written.pieces())
        assert [i for ids, _ in pieces for i in ids.tolist()] == [i for d in docs for i in d]
        assert [n for _, lengths in pieces for n in lengths.tolist()] == [len(d) for d in docs]
        assert written.digest == memory.digest
    for s in (written, memory):
        assert s.ids.dtype == dtype and [s.doc(i).tolist() for i in range(len(s))] == docs
        assert s.n_tokens == sum(map(len, docs)) and s.lengths.tolist() == [len(d) for d in docs]


def test_digest_knows_ids_bounds_and_type() -> None:
    digests = {
        in_memory(d, t).digest
        for d, t in [([[1, 2], [3]], "u2"), ([[1], [2, 3]], "u2"), ([[1, 2], [4]], "u2"), ([[1, 2], [3]], "i4")]
    }
    assert len(digests) == 4


def test_documents_are_views_of_a_mapped_file() -> None:
    s = write([[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]])
    assert isinstance(s.ids, np.memmap) and np.shares_memory(s.doc(1), s.ids)
    assert not s.ids.flags.writeable
    assert "2 documents, 10 tokens, uint16" in repr(s)
    with pytest.raises(DataError, match="0 to 1, but 2"):
        s.doc(2)


def test_type_follows_the_vocabulary() -> None:
    assert [dtype_for(n).name for n in (10, 65_536, 65_537)] == ["uint16", "uint16", "int32"]


def test_a_named_store_is_found_and_replaced_whole(cache: Path) -> None:
    first = write([[1, 2]])
    note = json.loads((cache / "key" / NOTE).read_text())
    assert TokenStore.open(cache / "key", U2, note["digest"]).digest == first.digest == note["digest"]
    with suppress(KeyError), TokenWriter(U2, "key") as writer:
        add(writer, [[3]])
        raise KeyError
    assert files(cache) == ["key"] and TokenStore.open(cache / "key", U2).doc(0).tolist() == [1, 2], "the older one"
    assert write([[3]]).doc(0).tolist() == [3] == TokenStore.open(cache / "key", U2).doc(0).tolist()
    assert first.doc(0).tolist() == [1, 2] and files(cache) == ["key"]


def test_where_another_process_was_quicker_the_store_is_a_temporary_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write([[1, 2]])
    monkeypatch.setattr(module.shutil, "rmtree", lambda folder, **how: None)
    second = write([[3]])
    monkeypatch.undo()
    assert second.doc(0).tolist() == [3] and len(files(cache)) == 2


def test_a_store_without_a_name_goes_with_its_last_user(cache: Path) -> None:
    s = write([[1]], key=None)
    assert len(files(cache)) == 1
    del s
    assert files(cache) == []


def test_a_full_disk_is_said_and_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, allow_pickle: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "save", full)
    with pytest.raises(SaveError, match=r"No space left.*EASYLEARN_CACHE"):
        write([[1, 2]])
    assert files(cache) == []


@pytest.mark.parametrize("damage", ["short", "long", "empty", "gone", "offsets", "rubbish"])
def test_damaged_files_are_refused(damage: str, cache: Path) -> None:
    write([[1, 2], [3, 4]])
    ids, offsets = cache / "key" / module._IDS, cache / "key" / module._OFFSETS
    data = ids.read_bytes()
    if damage == "gone":
        ids.unlink()
    elif damage in ("offsets", "rubbish"):
        numbers = offsets.read_bytes()
        offsets.write_bytes(numbers[:-16] + b"\xff" * 8 + numbers[-8:] if damage == "offsets" else b"rubbish")
    else:
        ids.write_bytes({"short": data[:-2], "long": data + b"ab", "empty": b""}[damage])
    with pytest.raises((DataError, OSError, ValueError)):
        TokenStore.open(cache / "key", U2)


def test_lengths_must_fit() -> None:
    for lengths in ([2], [-1, 4]):
        with pytest.raises(DataError, match="add up to the 3 tokens"):
            TokenStore(np.zeros(3, np.uint16), np.array(lengths))


def test_what_another_process_has_made_meanwhile_is_taken_and_left_alone(cache: Path) -> None:
    first = write([[1, 2], [3]])
    place = (cache / "key").stat().st_ino
    second = write([[1, 2], [3]])
    assert (cache / "key").stat().st_ino == place and files(cache) == ["key"]
    assert second.ids.tolist() == first.ids.tolist() == [1, 2, 3]
    (cache / "key" / NOTE).write_text("{")  # half written: nobody can use it
    third = write([[1, 2], [3]])
    assert (cache / "key").stat().st_ino != place and files(cache) == ["key"] and third.ids.tolist() == [1, 2, 3]


def test_folders_of_processes_that_were_killed_are_removed(cache: Path) -> None:
    held = write([[1]], key=None)
    (mine,) = files(cache)
    for name, age in (("tmp_dead", 2 * module.ORPHANED), ("tmp_young", 60.0), (mine, 2 * module.ORPHANED)):
        folder = cache / name
        folder.mkdir(exist_ok=True)
        (folder / "tokens.bin").touch()
        for path in (folder / "tokens.bin", *folder.iterdir(), folder):
            os.utime(path, (time.time() - age,) * 2)
    write([[2]])
    assert files(cache) == sorted(["key", mine, "tmp_young"]) and held.ids.tolist() == [1]
