from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from easylearn.errors import ArgumentError, DataError
from easylearn.texts import sources
from easylearn.texts.sources import Documents, read_text

TEXTS = ["a good film", "", 'he said, "no"\nand left', "été 👍🏽", "NA"]


def folder_of(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


# All sources say the same


def test_every_source_gives_the_same_texts_again_and_again(tmp_path: Path) -> None:
    files = folder_of(tmp_path / "f", {f"{i}.txt": t.encode() for i, t in enumerate(TEXTS)})
    for docs in (
        Documents.from_list(TEXTS),
        Documents.from_frame(pd.DataFrame({"text": TEXTS}), "text"),
        Documents.from_folder(files),
    ):
        assert list(docs) == TEXTS == list(docs), docs
        assert len(docs) == 5 and "5 documents" in repr(docs)
        assert [i.removesuffix(".txt") for i in docs.ids] == list("01234")
        some = docs.take([1, 3, 4])
        assert list(some) == [TEXTS[i] for i in (1, 3, 4)] and len(some) == 3
        assert [i.removesuffix(".txt") for i in some.ids] == ["1", "3", "4"]
        assert list(some.take([2])) == [TEXTS[4]]
        assert docs.digest == docs.digest != some.digest


def test_several_columns_become_fields() -> None:
    frame = pd.DataFrame({"title": ["A", "B"], "text": ["good", None]})
    want = ["xxfld 1 A xxfld 2 good", "xxfld 1 B xxfld 2 "]
    assert list(Documents.from_frame(frame, ["title", "text"], missing="empty")) == want
    assert list(Documents.from_frame(frame, ["title"])) == ["xxfld 1 A", "xxfld 1 B"]


def test_digests_follow_the_contents(tmp_path: Path) -> None:
    assert Documents.from_list(["ab", "c"]).digest != Documents.from_list(["a", "bc"]).digest
    assert Documents.from_list(["\ud800"]).digest
    assert Documents.from_list(["a"], ids=["x"]).digest == Documents.from_list(["a"]).digest
    assert Documents.from_frame(pd.DataFrame({"x": ["a", "b"]}), "x").digest == Documents.from_list(["a", "b"]).digest
    files = folder_of(tmp_path / "f", {"a.txt": b"a"})
    one = Documents.from_folder(files).digest
    os.utime(files / "a.txt", ns=(1, 1))
    assert Documents.from_folder(files).digest != one


def test_rows_are_given_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK_ROWS", 2)
    frame = pd.DataFrame({"text": list("abcde"), "title": list("vwxyz")}, index=[9, 8, 7, 6, 5])
    docs = Documents.from_frame(frame, "text")
    assert list(docs) == list("abcde") and list(docs.ids) == list("98765")
    some = docs.take([4, 0, 2])
    assert list(some) == ["e", "a", "c"] and list(some.ids) == ["5", "9", "7"] and some.describe(1) == {"text": "a"}
    two = Documents.from_frame(frame, ["title", "text"]).take([1, 3])
    assert list(two) == ["xxfld 1 w xxfld 2 b", "xxfld 1 y xxfld 2 d"]
    assert two.describe(1) == {"title": "y", "text": "d"}


def test_a_document_is_described_as_it_was(tmp_path: Path) -> None:
    text = "A TEXT!!!!\n<br />with  all of it"
    files = folder_of(tmp_path, {"a.txt": text.encode()})
    for docs in (
        Documents.from_list([text]),
        Documents.from_folder(files),
        Documents.from_frame(pd.DataFrame({"text": [text]}), "text"),
    ):
        assert docs.describe(0) == {"text": text}
    empty = Documents.from_frame(pd.DataFrame({"a{b}": [None]}, dtype=object), "a{b}", missing="empty")
    assert empty.describe(0) == {"a{b}": ""}
    with pytest.raises(DataError, match=r"'a\{b\}', row 0 is missing"):
        Documents.from_frame(pd.DataFrame({"a{b}": [None]}, dtype=object), "a{b}")


def test_texts_of_a_table_are_referred_to_and_not_copied() -> None:
    texts = [f"{i} " * 50 for i in range(30)]
    frame = pd.DataFrame({"text": pd.Series(texts, dtype=object)})
    some = Documents.from_frame(frame, "text").take([3, 7])
    assert all(a is b for a, b in zip(some, [texts[3], texts[7]], strict=True))


# Folders


def test_folders_are_read_in_the_order_of_paths(tmp_path: Path) -> None:
    names = ["b.txt", "a/z.txt", "a/B.txt", "a/c.md", ".hidden.txt", ".git/x.txt", "é/1.txt"]
    folder = folder_of(tmp_path, {n: n.encode() for n in names})
    docs = Documents.from_folder(folder)
    assert list(docs.ids) == ["a/B.txt", "a/z.txt", "b.txt", "é/1.txt"] == list(docs)
    assert list(Documents.from_folder(folder, "*.md")) == ["a/c.md"]


def test_broken_bytes_are_named_or_replaced(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.txt": b"fine", "b.txt": b"caf\xe9 ok"})
    with pytest.raises(DataError, match=r"b\.txt is not utf-8: broken at byte 3 \(0xe9\).*errors='replace'"):
        list(Documents.from_folder(folder))
    assert list(Documents.from_folder(folder, errors="replace")) == ["fine", "caf\ufffd ok"]
    assert list(Documents.from_folder(folder, errors="ignore")) == ["fine", "caf ok"]


def test_line_ends_stay_and_byte_order_marks_go(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.txt": b"\xef\xbb\xbfa\r\nb\rc\n"})
    assert list(Documents.from_folder(folder)) == ["a\r\nb\rc\n"]


def test_missing_folders_and_files(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"train/a.md": b"a"})
    with pytest.raises(DataError, match=r"no folder .*Did you mean 'train'"):
        Documents.from_folder(folder / "tran")
    with pytest.raises(DataError, match=r"no file \*.txt: it has files .md; choose with pattern="):
        Documents.from_folder(folder)
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no files at all"):
        Documents.from_folder(folder / "empty")
    with pytest.raises(DataError, match="nor a folder"):
        Documents.from_folder(folder / "x" / "y")
    docs = Documents.from_folder(folder, "*.md")
    (folder / "train" / "a.md").unlink()
    with pytest.raises(DataError, match=r"a\.md cannot be read"):
        list(docs)


# Lists and frames


@pytest.mark.parametrize("value", [None, np.nan, pd.NA, pd.NaT])
def test_missing_values(value: object) -> None:
    frame = pd.DataFrame({"text": pd.Series(["a", value], index=["x", "y"], dtype=object)})
    with pytest.raises(DataError, match=r"column 'text', row y is missing .*missing='empty'"):
        Documents.from_frame(frame, "text")
    assert list(Documents.from_frame(frame, "text", missing="empty")) == ["a", ""]
    with pytest.raises(DataError, match="reviews: item 1 is missing"):
        Documents.from_list(["a", value], where="reviews")  # type: ignore[list-item]


def test_values_that_are_no_text() -> None:
    with pytest.raises(DataError, match=r"column 'n', row 0: expected a text, got 3, a int.*astype\(str\)"):
        Documents.from_frame(pd.DataFrame({"n": [3, 4]}), "n")
    with pytest.raises(DataError, match="item 1: expected a text, got b'a', a bytes"):
        Documents.from_list(["a", b"a"])  # type: ignore[list-item]
    assert list(Documents.from_list([np.str_("a")])) == ["a"]
    assert list(Documents.from_frame(pd.DataFrame({"t": pd.array(["a", "b"], dtype="string")}), "t")) == ["a", "b"]
    assert list(Documents.from_frame(pd.DataFrame({"t": pd.Categorical(["a", "b"])}), "t")) == ["a", "b"]


def test_the_frame_is_left_as_it_is() -> None:
    frame = pd.DataFrame({"text": ["a", None]})
    before = frame.copy()
    Documents.from_frame(frame, "text", missing="empty")
    pd.testing.assert_frame_equal(frame, before)


def test_argument_mistakes() -> None:
    frame = pd.DataFrame({"text": ["a"]})
    with pytest.raises(DataError, match=r"no columns \['texts'\].*'text'"):
        Documents.from_frame(frame, "texts")
    with pytest.raises(DataError, match="no documents"):
        Documents.from_frame(frame[:0], "text")
    with pytest.raises(DataError, match="list has no documents"):
        Documents.from_list([])
    with pytest.raises(ArgumentError, match="got one text"):
        Documents.from_list("a")
    with pytest.raises(ArgumentError, match="one id per text, got 2 ids and 1 texts"):
        Documents.from_list(["a"], ids=["x", "y"])
    for columns in ([], ["text", "text"]):
        with pytest.raises(ArgumentError, match="text must name"):
            Documents.from_frame(frame, columns)
    with pytest.raises(ArgumentError, match="'error' or 'empty'"):
        Documents.from_frame(frame, "text", missing="drop")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="'strict', 'replace' or 'ignore'"):
        Documents.from_folder(".", errors="no")  # type: ignore[arg-type]


def test_reading_one_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff")
    with pytest.raises(DataError, match="byte 0"):
        read_text(tmp_path / "a")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_text(tmp_path / "b")
