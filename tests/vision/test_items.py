"""Where images are: which folder is a split and which a class, what a table names, rows of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from easylearn.errors import ArgumentError, DataError
from easylearn.vision.data import ImageData
from easylearn.vision.items import Rows, TableOptions, array_rows, listed_folders, named_in, named_rows


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


# -- folders -------------------------------------------------------------------------------------------


def test_train_and_valid_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "valid/a/2.jpg", "test/3.jpg", "models/x.bin")
    found = listed_folders(tmp_path, "train", "valid", None)
    assert found.valid is not None and found.test is not None and found.root == tmp_path
    assert found.rows.ids == ["train/a/1.jpg", "train/b/1.jpg"] and found.rows.labels == ["a", "b"]
    assert found.valid.ids == ["valid/a/2.jpg"] and found.test.ids == ["test/3.jpg"] and found.test.labels is None


def test_kaggles_layout_with_a_fraction(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/3.jpg")
    found = listed_folders(tmp_path, "train", 0.2, None)
    assert found.rows.ids == ["train/a/1.jpg", "train/b/1.jpg"] and found.valid is None
    assert found.test is not None and found.test.ids == ["test/3.jpg"]


def test_a_class_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "plane/1.jpg", "plane/extra/2.jpg")
    assert listed_folders(tmp_path, "train", 0.2, None).rows.labels == ["plane", "plane", "train"]


def test_a_class_called_test_is_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, "test/1.jpg", "train/1.jpg", "drive/1.jpg")
    with pytest.raises(ArgumentError, match=r'test="test".*test=False'):
        listed_folders(tmp_path, "train", 0.2, None)
    assert listed_folders(tmp_path, "train", 0.2, False).rows.labels == ["drive", "test", "train"]
    chosen = listed_folders(tmp_path, "train", 0.2, "test")
    assert chosen.rows.labels == ["drive", "train"] and chosen.test is not None and chosen.test.ids == ["test/1.jpg"]


def test_a_test_folder_with_classes_of_its_own_is_no_class(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "test/a/2.jpg", "test/b/2.jpg")
    found = listed_folders(tmp_path, "train", 0.2, None)
    assert found.rows.labels == ["a", "b"] and found.test is not None and found.test.labels == ["a", "b"]


def test_folders_without_an_image_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.avif", "train/lynx/1.raw", "train/lynx/2.dng", "valid/a/1.jpg")
    (tmp_path / "train" / "empty").mkdir()
    found = listed_folders(tmp_path, "train", "valid", None)
    assert found.rows.labels == ["a", "b"] and found.left_out == {
        "train/empty": "it is empty", "train/lynx": "its files end in .dng, .raw"
    }  # fmt: skip


def test_links_to_what_is_not_there_are_told(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in ("train", "valid") for name in "ab"))
    (tmp_path / "train" / "gone").symlink_to(tmp_path / "nowhere", target_is_directory=True)
    (tmp_path / "train" / "a" / "2.jpg").symlink_to(tmp_path / "nowhere.jpg")
    listed = listed_folders(tmp_path, "train", "valid", None)
    assert list(listed.left_out) == ["train/gone"] and "nowhere, which is not there" in listed.left_out["train/gone"]
    assert "train/a/2.jpg" in listed.rows.ids
    with pytest.raises(DataError, match=r"2\.jpg does not exist"):
        ImageData.from_folder(tmp_path, size=8)


def test_two_names_of_one_folder_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in ("train", "valid") for name in "ab"), "one/train/a/1.jpg")
    (tmp_path / "train" / "c").symlink_to(tmp_path / "train" / "a", target_is_directory=True)
    with pytest.raises(DataError, match=r"train/a and .*train/c are one folder, by a link, and .* two classes"):
        listed_folders(tmp_path, "train", "valid", None)
    (tmp_path / "one" / "valid").symlink_to(tmp_path / "one" / "train", target_is_directory=True)
    with pytest.raises(DataError, match="would train and validate"):
        listed_folders(tmp_path / "one", "train", "valid", None)


def test_two_spellings_of_an_accent_are_one_class(tmp_path: Path) -> None:
    touch(tmp_path, "train/caf\u00e9/1.jpg", "train/tea/1.jpg", "valid/cafe\u0301/2.jpg")
    found = listed_folders(tmp_path, "train", "valid", None)
    assert found.valid is not None and found.valid.labels == ["caf\u00e9"] == found.rows.labels[:1]


# -- tables --------------------------------------------------------------------------------------------


def test_a_table_names_files_labels_and_more(tmp_path: Path) -> None:
    touch(tmp_path, "img/a.jpg", "img/b.jpg")
    df = pd.DataFrame({"n": ["a", "b"], "y": [1, 2], "z": [3, 4], "who": ["p", "q"]}, index=[7, 7])
    how = TableOptions(suffix=".jpg", label_col=["y", -2], time="who")
    rows = how.rows(df, tmp_path, "img", {"groups": 3, "weights": [1, 2]})
    assert rows.ids == ["img/a.jpg", "img/b.jpg"]
    assert rows.where == ["row 0 of the DataFrame (a)", "row 1 of the DataFrame (b)"]
    assert rows.labels.columns.tolist() == ["y", "z"]
    assert rows.beside == {"groups": ["p", "q"], "time": ["p", "q"]}, "what is no column is left to others"
    assert rows.take([1]).labels.values.tolist() == [[2, 4]] and rows.take([1]).beside["time"] == ["q"]


def test_a_csv_keeps_names_as_they_are_written(tmp_path: Path) -> None:
    touch(tmp_path, "007", "1.0")
    (tmp_path / "x.csv").write_text("file,y\n007,a\n1.0,b\n")
    rows = TableOptions().rows(tmp_path / "x.csv", tmp_path, "", {})
    assert rows.ids == ["007", "1.0"] and rows.where == ["x.csv line 2 (007)", "x.csv line 3 (1.0)"]
    assert named_in(tmp_path / "x.csv") == ["007", "1.0"]


def test_a_table_without_a_header_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "x.csv").write_text("a,yes\nb,no\n")
    with pytest.raises(DataError, match=r"x\.csv.*'a'.*header"):
        TableOptions(suffix=".jpg").rows(tmp_path / "x.csv", tmp_path, "", {})
    with pytest.raises(DataError, match=r"'a'.*header"):
        TableOptions(suffix=".jpg").rows(pd.DataFrame({"a": ["b"], "yes": ["no"]}), tmp_path, "", {})


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"file_col": "fil"}, "file_col='fil'.*Did you mean 'file'"),
        ({"label_col": 5}, r"label_col=5, but the table has 2 columns"),
        ({"time": "when"}, "time='when'"),
    ],
)
def test_columns_that_are_not_there(tmp_path: Path, how: dict[str, object], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        TableOptions(**how).rows(pd.DataFrame({"file": ["a"], "y": [1]}), tmp_path, "", {})  # type: ignore[arg-type]


# -- lists and arrays ----------------------------------------------------------------------------------


def test_rows_take_of_every_form_of_labels(tmp_path: Path) -> None:
    for labels in (
        ["a", "b", "c"],
        np.arange(3),
        torch.arange(3),
        pd.Series([1, 2, 3]),
        pd.DataFrame({"y": [1, 2, 3]}),
    ):
        rows = named_rows(tmp_path, ["x", "y", "z"], labels).take([2, 0])
        assert isinstance(rows, Rows) and rows.ids == ["z", "x"] and len(rows.labels) == 2


def test_rows_of_flags_are_an_array() -> None:
    x = np.zeros((2, 4, 4), np.uint8)
    assert isinstance(array_rows((x, [[0, 1], [1, 1]]), "train").labels, np.ndarray)
    for labels in ([[0, 1], [2]], [["a"], ["a", "b"]], [[1], [0]], ["a", "b"]):
        assert array_rows((x, labels), "train").labels == labels


def test_pairs_that_are_none() -> None:
    x = np.zeros((2, 4, 4), np.uint8)
    for wrong in (x, (x, [0, 1], 2), "x"):
        with pytest.raises(ArgumentError, match="pair"):
            array_rows(wrong, "train")
    with pytest.raises(DataError, match="2 images but 3 labels"):
        array_rows((x, [0, 1, 2]), "train")
    with pytest.raises(DataError, match="got int"):
        array_rows((5, [0]), "train")
    with pytest.raises(DataError, match="3 names but 1 labels"):
        named_rows(Path(), ["a", "b", "c"], ["x"])
