"""From listed images to splits: every form of `valid=`, what stays together, who is drawn, what is told or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from easylearn.errors import ArgumentError, DataError, EasyLearnWarning
from easylearn.vision.data import ImageData

N = 12
Make = Callable[..., ImageData]


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """Twelve files: a class, a patient and a day each."""
    for k in range(N):
        (tmp_path / f"{k:02}.jpg").touch()
    return pd.DataFrame(
        {
            "file": [f"{k:02}.jpg" for k in range(N)],
            "y": ["a", "b"] * 6,
            "patient": [f"p{k // 3}" for k in range(N)],
            "day": [f"2024-01-{28 - k:02}" for k in range(N)],
            "weight": [float(k) for k in range(N)],
        }
    )


@pytest.fixture
def df(table: pd.DataFrame, tmp_path: Path) -> Make:
    def make(frame: pd.DataFrame = table, **options: Any) -> ImageData:
        return ImageData.from_df(frame, tmp_path, **{"size": 8, "workers": 0, **options})

    return make


def ids(data: ImageData, split: str = "valid") -> list[str]:
    return list(data.ids(split))  # type: ignore[arg-type]


# -- valid= --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("valid", [[0, 3], np.array([3, 0]), np.isin(np.arange(N), (0, 3)), pd.Series([0, 3])])
def test_positions_and_masks(df: Make, valid: Any) -> None:
    data = df(valid=valid)
    assert ids(data) == ["00.jpg", "03.jpg"] and len(data.train) == N - 2


def test_a_mask_by_the_labels_of_the_rows(df: Make, table: pd.DataFrame) -> None:
    shuffled = table.iloc[::-1]
    assert ids(df(shuffled, valid=table["file"] == "03.jpg")) == ["03.jpg"]


def test_fractions_of_any_type(df: Make) -> None:
    assert ids(df(valid=np.float32(0.25), seed=3)) == ids(df(valid=0.25, seed=3)) != ids(df(valid=0.25, seed=4))


def test_no_validation(df: Make) -> None:
    data = df(valid=None)
    assert data.splits == ("train",) and len(data.train) == N
    with pytest.raises(DataError, match="no valid split"):
        data.loader("valid")


def test_a_table_of_validation_images(df: Make, table: pd.DataFrame, tmp_path: Path) -> None:
    data = df(table[:9], valid=table[9:])
    assert ids(data) == ["09.jpg", "10.jpg", "11.jpg"] and len(data.train) == 9
    table[:9].to_csv(tmp_path / "labels.csv", index=False)
    table[9:].to_csv(tmp_path / "valid.csv", index=False)
    data = ImageData.from_csv(tmp_path, size=8, valid="valid.csv")
    assert ids(data) == ["09.jpg", "10.jpg", "11.jpg"] and len(data.train) == 9
    with pytest.raises(DataError, match=r"nothing\.csv"):
        ImageData.from_csv(tmp_path, size=8, valid="nothing.csv")
    odd = table[9:].assign(y="c")
    with pytest.raises(DataError, match=r"'c'"):
        df(table[:9], valid=odd)


def test_each_class_gives_its_proportion(df: Make, table: pd.DataFrame) -> None:
    rare = table.assign(y=["a"] * 8 + ["b"] * 4)
    for seed in range(4):
        data = df(rare, valid=0.25, stratify=True, seed=seed)
        assert torch.bincount(data.valid.targets).tolist() == [2, 1]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "groups", ["patient", 2, lambda file: int(file[:2]) // 3, [k // 3 for k in range(N)], np.arange(N) // 3]
)
def test_groups_stay_together(df: Make, groups: Any) -> None:
    numbers = {int(file[:2]) for file in ids(df(valid=0.25, groups=groups, seed=1))}
    assert len(numbers) == 3 and len({n // 3 for n in numbers}) == 1


def test_groups_of_names_and_of_arrays(tmp_path: Path, table: pd.DataFrame) -> None:
    names, labels = table["file"].tolist(), table["y"].tolist()
    data = ImageData.from_names(tmp_path, names, labels, 8, valid=0.25, groups=lambda name: int(name[:2]) // 3)
    assert len({int(f[:2]) // 3 for f in ids(data)}) == 1
    x = np.zeros((N, 8, 8), np.uint8)
    data = ImageData.from_arrays((x, labels), valid=0.25, groups=np.arange(N) // 3)
    assert len({int(f[6:-1]) // 3 for f in ids(data)}) == 1


def test_the_latest_validate(df: Make) -> None:
    assert ids(df(valid=0.25, time="day")) == ["00.jpg", "01.jpg", "02.jpg"]
    assert ids(df(valid="2D", time="day")) == ["00.jpg", "01.jpg"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"valid": [0, 1], "stratify": True}, "stratify goes with a fraction"),
        ({"valid": [0, 1], "groups": "patient"}, "groups.*by a fraction"),
        ({"valid": None, "groups": "patient"}, "groups"),
        ({"valid": 0.25, "groups": "patient", "stratify": True}, "stratify or groups|groups"),
        ({"valid": 0.25, "groups": "nobody"}, "groups='nobody'"),
        (
            {"valid": 0.25, "stratify": True, "label_col": "weight", "task": "regression"},
            "stratify goes with.*classes",
        ),
        ({"valid": 1.5}, "fraction between 0 and 1"),
        ({"valid": "2D"}, "time="),
    ],
)
def test_splits_that_cannot_be(df: Make, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        df(**options)


def test_one_entry_per_image(df: Make) -> None:
    with pytest.raises(DataError, match=r"groups must have one entry per image: got 2 entries for 12"):
        df(valid=0.25, groups=[1, 2])
    x = np.zeros((4, 8, 8), np.uint8)
    with pytest.raises(ArgumentError, match="names a column"):
        ImageData.from_arrays((x, [0, 1, 0, 1]), groups="patient")


# -- labels --------------------------------------------------------------------------------------------


def test_numbers_are_regression_and_say_so(df: Make, capsys: pytest.CaptureFixture[str]) -> None:
    data = df(label_col="weight", valid=None)
    # Whole numbers of so few values are classes; halves are numbers.
    assert data.task.is_exclusive and "task='regression'" in capsys.readouterr().out and data.notes()
    half = df(pd.DataFrame({"f": [f"{k:02}.jpg" for k in range(N)], "y": np.arange(N) / 2}), valid=[3])
    assert half.task.predicts_numbers and half.valid.targets.tolist() == [[1.5]]  # type: ignore[union-attr]


def test_several_columns(df: Make, table: pd.DataFrame) -> None:
    flags = df(table.assign(p=[0, 1] * 6, q=1), label_col=["p", "q"], valid=[0, 1])
    assert flags.task.is_multi and flags.classes == ("p", "q")
    assert flags.valid.targets.tolist() == [[0, 1], [1, 1]]  # type: ignore[union-attr]
    numbers = df(table.assign(p=np.arange(N) * 2.0), label_col=["weight", "p"], valid=[3])
    assert numbers.task.predicts_numbers and numbers.valid.targets.tolist() == [[3, 6]]  # type: ignore[union-attr]


def test_class_folders_with_numbers_are_in_their_order(tmp_path: Path) -> None:
    for name in ("1", "2", "10", "11"):
        (tmp_path / name).mkdir()
        for k in range(4):
            (tmp_path / name / f"{k}.jpg").touch()
    assert ImageData.from_folder(tmp_path, 8, valid=[0]).classes == ("1", "2", "10", "11")


def test_one_class_only_is_refused(df: Make, table: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="two classes"):
        df(table.assign(y="a"))


def test_a_blank_too_many_is_told(df: Make, table: pd.DataFrame) -> None:
    with pytest.warns(EasyLearnWarning, match="'a'.*'a '"):
        df(table.assign(y=["a", "b", "a "] * 4), valid=[0])


def test_a_class_folder_without_images_is_told(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg", "lynx/1.raw"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.warns(EasyLearnWarning, match=r"lynx .*\.raw"):
        data = ImageData.from_folder(tmp_path, 8, valid=[2])
    assert any("lynx" in note for note in data.notes())


# -- files that are missing, and numbers that count them -------------------------------------------------


def test_what_is_left_out_shifts_nothing(df: Make, tmp_path: Path) -> None:
    for k in range(N):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{k:02}.jpg")
    (tmp_path / "01.jpg").unlink()
    data = df(valid=[2], on_error="skip", weights="weight")
    assert ids(data) == ["02.jpg"] and list(data.report()) == ["01.jpg"]
    assert data.weights is not None and data.weights.tolist() == [0.0, *range(3, N)]
    assert len(ids(df(valid=0.5, on_error="skip"))) == 6


# -- weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ("weight", range(2, N)),
        (list(range(N)), range(2, N)),
        ({"b": 3}, [1, 3] * 5),
        ("balanced", [0.2] * 10),
        (lambda file: int(file[:2]) + 1, range(3, N + 1)),
    ],
)
def test_weights_of_training_images(df: Make, weights: Any, wanted: Any) -> None:
    data = df(valid=[0, 1], weights=weights)
    assert data.weights is not None and data.weights.tolist() == pytest.approx(list(wanted))


@pytest.mark.parametrize(
    ("weights", "error", "said"),
    [
        ("wieght", ArgumentError, "weights='wieght'.*Did you mean 'weight'"),
        ({"c": 2}, ArgumentError, "'c'"),
        ([1.0] * 3, DataError, "got 3 entries for 12"),
        ("y", ArgumentError, "a number per item"),
    ],
)
def test_wrong_weights(df: Make, weights: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        df(valid=[0, 1], weights=weights)
