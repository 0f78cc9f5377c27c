"""The 2018 names for image data: each constructor against `ImageData`, attributes, transforms, bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from easylearn.dataset import (
    CropType,
    ImageClassifierData,
    get_cv_idxs,
    imagenet_stats,
    inception_stats,
    split_by_idx,
    tfms_from_model,
    tfms_from_stats,
    transforms_basic,
    transforms_side_on,
    transforms_top_down,
)
from easylearn.errors import ArgumentError, DataError
from easylearn.vision.archs import get_arch
from easylearn.vision.augment import PRESETS, Dihedral, Flip, Light, RandomResizedCrop, Rotate, Zoom
from easylearn.vision.data import ImageData

CPU = torch.device("cpu")
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a small picture below the temporary folder."""

    def save(name: str, value: int = 0, size: tuple[int, int] = (40, 32)) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (value, value, value)).save(file)
        return file

    return save


@pytest.fixture
def folders(tmp_path: Path, write: Write) -> Path:
    """train/{cats,dogs}, valid/{cats,dogs} and test."""
    for k in range(8):
        write(f"{'valid' if k >= 6 else 'train'}/{('cats', 'dogs')[k % 2]}/{k}.png", 20 * k)
    write("test/a.png"), write("test/b.png")
    return tmp_path


@pytest.fixture
def table(tmp_path: Path, write: Write) -> Path:
    """pictures/0.png ... and a csv beside it; a function of the labels writes the csv."""
    for k in range(10):
        write(f"pictures/{k}.png", 20 * k)
    return tmp_path


def write_csv(folder: Path, labels: list[str], head: str = "id,label", suffix: str = ".png") -> None:
    rows = [f"{k}{suffix},{label}" for k, label in enumerate(labels)]
    (folder / "labels.csv").write_text("\n".join([head, *rows]), encoding="utf-8")


# -- constructors ------------------------------------------------------------------------------------------


def test_from_paths_is_from_folder(folders: Path) -> None:
    data = ImageClassifierData.from_paths(folders, bs=2, tfms=tfms_from_model("resnet34", 24), test_name="test")
    plain = ImageData.from_folder(folders, 24, batch_size=2)
    assert isinstance(data, ImageClassifierData)
    for part in ("train", "valid", "test"):
        assert data.ids(part) == plain.ids(part)  # type: ignore[arg-type]
        ours, theirs = data.loader(part), plain.loader(part)  # type: ignore[arg-type]
        for a, b in zip(ours.batches(CPU), theirs.batches(CPU), strict=True):
            assert torch.equal(a.inputs[0], b.inputs[0])
            assert (a.target is None) == (part == "test") == (b.target is None)
            assert a.target is None or torch.equal(a.target, b.target)  # type: ignore[arg-type]


def test_from_paths_with_other_names(folders: Path) -> None:
    (folders / "train").rename(folders / "one")
    (folders / "valid").rename(folders / "two")
    data = ImageClassifierData.from_paths(folders, trn_name="one", val_name="two", num_workers=0)
    assert (len(data.train), len(data.valid), data.preprocessor.workers) == (6, 2, 0)


def test_without_transforms_pictures_have_224_pixels_and_batches_64(folders: Path) -> None:
    data = ImageClassifierData.from_paths(folders)
    assert (data.sz, data.bs, data.batch_stage.transforms) == (224, 64, ())
    assert ImageClassifierData.from_paths(folders, tfms=(None, None)).sz == 224


def test_from_csv_with_one_label(table: Path) -> None:
    write_csv(table, ["yes", "no"] * 5)
    data = ImageClassifierData.from_csv(table, "pictures", "labels.csv", bs=4, tfms=tfms_from_model("resnet18", 16))
    assert data.classes == ("no", "yes") and not data.is_multi and not data.is_reg
    assert list(data.ids("valid")) == [f"pictures/{k}.png" for k in sorted(get_cv_idxs(10))]


def test_from_csv_with_chosen_rows_suffix_and_test(table: Path, write: Write) -> None:
    write_csv(table, ["yes", "no"] * 5, suffix="")
    write("later/x.png")
    data = ImageClassifierData.from_csv(
        table, "pictures", "labels.csv", val_idxs=[1, 9], suffix=".png", test_name="later"
    )
    assert data.ids("valid") == ("pictures/1.png", "pictures/9.png")
    assert data.test_ds is not None and data.test_ds.fnames == ["later/x.png"] and data.test_ds.y is None


@pytest.mark.parametrize("separator", [" ", "|"])
def test_from_csv_with_several_labels(table: Path, separator: str) -> None:
    write_csv(table, [separator.join(["road", "haze"]), "road"] * 5)
    data = ImageClassifierData.from_csv(table, "pictures", "labels.csv", val_idxs=[0, 1], cat_separator=separator)
    assert data.is_multi and data.classes == ("haze", "road")
    assert data.val_y.tolist() == [[1, 1], [0, 1]]


def test_from_csv_with_numbers(table: Path) -> None:
    write_csv(table, [str(k / 2) for k in range(10)])
    data = ImageClassifierData.from_csv(table, "pictures", "labels.csv", val_idxs=[0, 3], continuous=True)
    assert data.is_reg and not data.is_multi and data.classes == () and data.c == 1
    assert data.val_y.ravel().tolist() == [0.0, 1.5]


def test_from_arrays() -> None:
    x = np.random.default_rng(0).integers(0, 256, (10, 12, 12, 3), dtype=np.uint8)
    y = np.array([0, 1] * 5)
    data = ImageClassifierData.from_arrays(
        "unused", (x[:8], y[:8]), (x[8:], y[8:]), bs=4, classes=["no", "yes"], test=x[:3]
    )
    assert (data.classes, data.sz, data.bs) == (("no", "yes"), 12, 4)
    assert data.trn_y.tolist() == y[:8].tolist() and len(data.test_ds or ()) == 3
    numbers = ImageClassifierData.from_arrays("", (x[:8], y[:8] / 2), (x[8:], y[8:] / 2), continuous=True)
    assert numbers.is_reg and numbers.val_y.ravel().tolist() == [0.0, 0.5]


def test_from_names_and_array(table: Path) -> None:
    names = [f"pictures/{k}" for k in range(10)]
    by_number = ImageClassifierData.from_names_and_array(
        table, names, np.array([1, 0] * 5), ["no", "yes"], val_idxs=[0, 1], suffix=".png", bs=3
    )
    by_word = ImageClassifierData.from_names_and_array(table, [f"{n}.png" for n in names], ["yes", "no"] * 5)
    assert by_number.classes == by_word.classes == ("no", "yes")
    assert by_number.val_y.tolist() == [1, 0] and by_number.bs == 3
    assert list(by_word.ids("valid")) == [f"pictures/{k}.png" for k in sorted(get_cv_idxs(10))]
    numbers = ImageClassifierData.from_names_and_array(
        table, [f"{n}.png" for n in names], np.arange(10) / 4, val_idxs=[2], continuous=True
    )
    assert numbers.val_y.ravel().tolist() == [0.5]


def test_the_methods_of_image_data_are_there_too(folders: Path) -> None:
    data = ImageClassifierData.from_folder(folders, 16)
    assert isinstance(data, ImageClassifierData)
    smaller = data.resized(8)
    assert isinstance(smaller, ImageClassifierData) and smaller.sz == 8


# -- attributes --------------------------------------------------------------------------------------------


def test_attributes(folders: Path) -> None:
    data = ImageClassifierData.from_paths(folders, bs=3, tfms=tfms_from_model("resnet18", 20))
    assert (data.sz, data.bs, data.c, data.classes, data.path) == (20, 3, 2, ("cats", "dogs"), folders)
    assert data.trn_y.tolist() == [0, 0, 0, 1, 1, 1] and data.val_y.tolist() == [0, 1]
    assert data.trn_ds.fnames[0] == "train/cats/0.png" and len(data.trn_ds) == 6
    assert data.val_ds.y is not None and data.val_ds.y.tolist() == [0, 1]
    assert data.val_ds.fnames == list(data.ids("valid"))
    assert data.test_ds is not None and data.test_ds.fnames == ["test/a.png", "test/b.png"]


def test_no_test_part() -> None:
    x, y = np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1]
    assert ImageClassifierData.from_arrays("", (x, y), (x, y)).test_ds is None


# -- transforms --------------------------------------------------------------------------------------------


def test_statistics_are_those_of_the_architecture(folders: Path) -> None:
    assert tfms_from_model("resnet34", 24).train.stats == imagenet_stats
    assert tfms_from_model(get_arch("inception_v3"), 24).valid.stats == inception_stats
    data = ImageClassifierData.from_paths(folders, tfms=tfms_from_model("inception_v3", 24))
    assert (data.mean, data.std) == inception_stats
    own = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert ImageClassifierData.from_paths(folders, tfms=tfms_from_stats(own, 24)).mean == own[0]


def test_the_lists_are_the_presets_without_zoom() -> None:
    assert [type(t) for t in transforms_basic] == [Rotate, Light]
    assert [type(t) for t in transforms_side_on] == [Flip, Rotate, Light]
    assert [type(t) for t in transforms_top_down] == [Dihedral, Rotate, Light]
    train, valid = tfms_from_model("resnet18", 24, transforms_side_on, max_zoom=1.1)
    assert sorted(map(repr, train.transforms)) == sorted(map(repr, PRESETS["side_on"])) and valid.transforms == ()
    assert tfms_from_model("resnet18", 24, max_zoom=1.0).train.transforms == ()
    assert tfms_from_model("resnet18", 24, max_zoom=1.3).train.transforms == (Zoom(1.3),)


@pytest.mark.parametrize(
    ("crop_type", "method", "extra"),
    [
        (CropType.RANDOM, "crop", []),
        (CropType.CENTER, "crop", []),
        (CropType.NO, "squash", []),
        (CropType.GOOGLENET, "crop", [RandomResizedCrop]),
    ],
)
def test_crop_types(crop_type: CropType, method: str, extra: list[type], folders: Path) -> None:
    tfms = tfms_from_model("resnet18", 24, crop_type=crop_type)
    assert [type(t) for t in tfms.train.transforms] == extra
    data = ImageClassifierData.from_paths(folders, tfms=tfms)
    assert data.preprocessor.method == method
    x = next(data.loader("valid").batches(CPU)).inputs[0]
    assert x.shape == (2, 3, 24, 24)


def test_validation_is_not_augmented(folders: Path) -> None:
    plain = ImageClassifierData.from_paths(folders, tfms=tfms_from_model("resnet18", 24))
    wild = ImageClassifierData.from_paths(folders, tfms=tfms_from_model("resnet18", 24, transforms_top_down, 1.5))
    a, b = (next(d.loader("valid").batches(CPU)).inputs[0] for d in (plain, wild))
    assert torch.equal(a, b)


# -- splits ------------------------------------------------------------------------------------------------


def test_split_by_idx_gives_validation_first() -> None:
    (vx, tx), (vy, ty) = split_by_idx(np.array([3, 0]), np.arange(5) * 10, list("abcde"))
    assert vx.tolist() == [0, 30] and tx.tolist() == [10, 20, 40]
    assert vy.tolist() == ["a", "d"] and ty.tolist() == ["b", "c", "e"]


def test_get_cv_idxs_leaves_the_global_generator_alone() -> None:
    np.random.seed(7)
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr,index]
    chosen = get_cv_idxs(100, 1, 0.25)
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index,arg-type]
    assert np.array_equal(chosen, np.random.RandomState(42).permutation(100)[25:50])


# -- bad input ---------------------------------------------------------------------------------------------


def test_tfms_must_come_from_tfms_from(folders: Path) -> None:
    with pytest.raises(ArgumentError, match="tfms_from_model or tfms_from_stats gives, got str"):
        ImageClassifierData.from_paths(folders, tfms=["side_on", "none"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"scale": []}, "max_zoom"),
        ({"aug_tmfs": []}, "'aug_tfms'"),
    ],
)
def test_arguments_that_are_no_more(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        tfms_from_model("resnet18", 24, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=said):
        tfms_from_stats(imagenet_stats, 24, **arguments)  # type: ignore[arg-type]


def test_unknown_arguments_of_constructors(folders: Path) -> None:
    with pytest.raises(ArgumentError, match="Did you mean 'num_workers'"):
        ImageClassifierData.from_paths(folders, n_workers=2)  # type: ignore[call-arg]


def test_a_csv_that_is_not_there(table: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*labels\.csv"):
        ImageClassifierData.from_csv(table, "pictures", "labels.csv")


def test_a_csv_with_one_column(table: Path) -> None:
    (table / "labels.csv").write_text("id\n0.png\n")
    with pytest.raises(DataError, match=r"needs two columns, file and label; it has \['id'\]"):
        ImageClassifierData.from_csv(table, "pictures", "labels.csv")


def test_a_label_that_is_missing_names_its_line(table: Path) -> None:
    write_csv(table, ["yes", "no", ""] + ["no"] * 7)
    with pytest.raises(DataError, match=r"labels\.csv line 4"):
        ImageClassifierData.from_csv(table, "pictures", "labels.csv", val_idxs=[0, 1])


def test_class_numbers_out_of_range(table: Path) -> None:
    names = [f"pictures/{k}.png" for k in range(3)]
    with pytest.raises(DataError, match="class number 2"):
        ImageClassifierData.from_names_and_array(table, names, [0, 1, 2], ["a", "b"], val_idxs=[0])


def test_targets_that_nobody_knows(folders: Path) -> None:
    data = ImageClassifierData.from_paths(folders)
    assert data.test_ds is not None and data.test_ds.y is None
