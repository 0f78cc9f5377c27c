from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easylearn.errors import ArgumentError, DataError, SaveError, StateError
from easylearn.text import store as module
from easylearn.text.store import TokenStore, TokenWriter, dtype_for

DOCS = [[2, 5, 60_000], [2], [], [2, 7]]


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    docs=st.lists(st.lists(st.integers(0, 65535), max_size=6), max_size=8), wide=st.booleans(), cut=st.integers(0, 8)
)
def test_disk_is_memory_however_it_is_written(docs: list[list[int]], wide: bool, cut: int, tmp_path: Path) -> None:
    dtype = np.int32 if wide else np.uint16
    with TokenWriter(tmp_path, dtype) as writer:
        for d in docs[:cut]:
            writer.append_many(d, [len(d)])
        rest = docs[cut:]
        writer.append_many([i for d in rest for i in d], [len(d) for d in rest])
        written = writer.finish()
    memory = TokenStore.from_lists(docs, dtype)
    for s in (written, TokenStore.open(tmp_path), memory):
        assert s.ids.dtype == dtype and [s.doc(i).tolist() for i in range(len(s))] == docs
        assert s.digest == memory.digest and s.offsets.dtype == np.int64
        assert s.n_tokens == sum(map(len, docs)) and s.lengths.tolist() == [len(d) for d in docs]


def test_digest_knows_ids_bounds_and_type() -> None:
    digests = {
        TokenStore.from_lists(d, t).digest
        for d, t in [([[1, 2], [3]], "u2"), ([[1], [2, 3]], "u2"), ([[1, 2], [4]], "u2"), ([[1, 2], [3]], "i4")]
    }
    assert len(digests) == 4


def test_documents_are_views_of_a_mapped_file(tmp_path: Path) -> None:
    with TokenWriter(tmp_path, "uint16") as writer:
        writer.append_many(np.arange(10), [4, 6])
        s = writer.finish()
    assert isinstance(s.ids, np.memmap) and np.shares_memory(s.doc(1), s.ids)
    assert not s.ids.flags.writeable
    assert "2 documents, 10 tokens, uint16" in repr(s)
    with pytest.raises(DataError, match="0 to 1, but 2"):
        s.doc(2)


def test_type_follows_the_vocabulary() -> None:
    assert [dtype_for(n).name for n in (10, 65_536, 65_537)] == ["uint16", "uint16", "int32"]


def test_an_unfinished_store_cannot_be_opened_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with suppress(KeyError), TokenWriter(folder, "uint16") as writer:
        writer.append_many([1, 2], [2])
        with pytest.raises(DataError, match="no finished token store"):
            TokenStore.open(folder)
        raise KeyError
    assert files(folder) == []
    with TokenWriter(folder, "uint16") as writer:
        writer.append_many([1, 2], [2])
        writer.finish()
    with TokenWriter(folder, "uint16") as writer:
        writer.append_many([3], [1])
    assert TokenStore.open(folder).doc(0).tolist() == [1, 2], "the older store stays"
    assert len(files(folder)) == 1
    with pytest.raises(StateError, match="finished"):
        writer.append_many([1], [1])


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = TokenWriter(tmp_path, "uint16")

    class Full:
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    file = writer._file
    writer._file = Full()  # type: ignore[assignment]
    with pytest.raises(SaveError, match="No space left"):
        writer.append_many([1, 2], [2])
    assert file is not None and file.closed and files(tmp_path) == []


@pytest.mark.parametrize("damage", ["short", "long", "foreign", "version", "offsets", "empty"])
def test_damaged_files_are_refused(damage: str, tmp_path: Path) -> None:
    with TokenWriter(tmp_path, "uint16") as writer:
        writer.append_many([1, 2, 3, 4], [2, 2])
        writer.finish()
    path = tmp_path / module._FILE
    data = bytearray(path.read_bytes())
    path.write_bytes(
        {
            "short": data[:-8],
            "long": data + b"\0",
            "foreign": b"{}" + data[2:],
            "version": data.replace(b'"version": 1', b'"version": 7'),
            "offsets": data[:-16] + b"\xff" * 8 + data[-8:],
            "empty": b"",
        }[damage]
    )
    with pytest.raises(DataError, match=r"tokens.bin"):
        TokenStore.open(tmp_path)


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished"):
        TokenStore.open(tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match="0 to 65535"):
        TokenStore.from_lists([[65_536]])
    with pytest.raises(ArgumentError, match="0 to 65535"):
        TokenStore.from_lists([[-1]])
    with pytest.raises(ArgumentError, match="whole numbers"):
        TokenStore.from_lists([[0.5]])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="uint16 or int32, got int64"):
        TokenWriter(tmp_path, np.int64)
    with pytest.raises(ArgumentError, match="offsets must rise"):
        TokenStore(np.zeros(3, np.uint16), np.array([0, 2]))
    with pytest.raises(ArgumentError, match="one row of uint16"):
        TokenStore(np.zeros(3), np.array([0, 3]))  # type: ignore[arg-type]
    with TokenWriter(tmp_path, "int32") as writer, pytest.raises(ArgumentError, match="add up to the 2"):
        writer.append_many([1, 2], [1])
