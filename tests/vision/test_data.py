"""`ImageData`: every way to make one, every way in which files and labels can be wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from easylearn.analysis.plots import new_figure
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning
from easylearn.vision.augment import Flip, RandomResizedCrop
from easylearn.vision.data import ImageData

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path_factory.mktemp("cache")))


def save(file: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """6 cats and 5 dogs to train, 2 and 3 to validate, 3 to predict; and what real folders also hold."""
    root = tmp_path / "pets"
    for part, counts in (("train", (6, 5)), ("valid", (2, 3))):
        for name, n in zip(("cats", "dogs"), counts, strict=True):
            for k in range(n):
                save(root / part / name / f"{name[:-1]}.{k}.{'png' if k % 2 else 'jpg'}", k)
    for k in range(3):
        save(root / "test" / f"{k}.jpg", k)
    (root / "train" / "cats" / "notes.txt").write_text("not an image")
    (root / "train" / "cats" / "._cat.0.jpg").write_bytes(b"of a Mac")
    (root / "train" / ".ipynb_checkpoints").mkdir()
    (root / "models").mkdir()
    return root


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Twelve images in one folder, as csv files describe them."""
    for k in range(12):
        save(tmp_path / "flat" / "images" / f"p{k:02}.jpg", k)
    return tmp_path / "flat"


def make(root: Path, **options: object) -> ImageData:
    return ImageData.from_folder(root, 24, **({"workers": 0, "batch_size": 4} | options))  # type: ignore[arg-type]


def csv(root: Path, text: str, **options: object) -> ImageData:
    (root / "labels.csv").write_text(text)
    given = {"workers": 0, "folder": "images", "size": 24, "valid": 0.25} | options
    return ImageData.from_csv(root, **given)  # type: ignore[arg-type]


# -- folders -------------------------------------------------------------------------------------------


def test_from_folder(pets: Path) -> None:
    data = make(pets)
    assert data.classes == ("cats", "dogs") and data.task.n_out == 2 and data.size == (24, 24) and data.path == pets
    assert (len(data.train), len(data.valid), len(data.test or ())) == (11, 5, 3)
    assert data.train.ids == tuple(sorted(data.train.ids)) and data.train.ids[0] == "train/cats/cat.0.jpg"
    assert data.ids("test") == ("test/0.jpg", "test/1.jpg", "test/2.jpg")
    assert data.train.targets is not None and data.train.targets.tolist() == [0] * 6 + [1] * 5
    assert data.splits == ("train", "valid", "test") and data.test is not None and data.test.targets is None
    (batch,) = list(make(pets, batch_size=64).loader("valid").batches(CPU))
    assert batch.inputs[0].shape == (5, 3, 24, 24) and batch.target is not None
    assert batch.target.tolist() == [0, 0, 1, 1, 1]
    assert [b.target for b in data.loader("test").batches(CPU)] == [None]
    assert "train: 11 (cats 6, dogs 5)" in repr(data) and "test: 3" in repr(data)


def test_a_test_folder_with_classes_has_targets(pets: Path) -> None:
    for k, name in enumerate(("cats", "dogs", "dogs")):
        (pets / "test" / name).mkdir(exist_ok=True)
        (pets / "test" / f"{k}.jpg").rename(pets / "test" / name / f"{k}.jpg")
    data = make(pets)
    assert data.test is not None and data.test.targets is not None and data.test.targets.tolist() == [0, 1, 1]
    (pets / "test" / "dogs").rename(pets / "test" / "wolves")
    data = make(pets)
    assert data.test is not None and data.test.targets is None and len(data.test) == 3


def test_other_names_of_folders(pets: Path) -> None:
    for old, new in (("train", "learn"), ("valid", "check"), ("test", "later")):
        (pets / old).rename(pets / new)
    data = make(pets, train="learn", valid="check", test="later")
    assert len(data.train) == 11 and data.test is not None and len(data.test) == 3
    assert make(pets, train="learn", valid="check").splits == ("train", "valid")


@pytest.mark.parametrize("nested", [True, False])
def test_split_by_fraction(pets: Path, nested: bool) -> None:
    root = pets if nested else pets / "train"
    data = make(root, valid=0.3, seed=4)
    assert len(data.train) == 8 and len(data.valid) == 3 and set(data.train.ids).isdisjoint(data.valid.ids)
    assert make(root, valid=0.3, seed=4).valid.ids == data.valid.ids != make(root, valid=0.3, seed=5).valid.ids
    assert data.train.ids == tuple(sorted(data.train.ids))
    equal = make(root, valid=0.4, stratify=True)
    assert equal.valid.targets is not None and torch.bincount(equal.valid.targets).tolist() == [2, 2]


def test_split_by_position(pets: Path) -> None:
    data = make(pets, valid=[0, 10])
    assert data.valid.ids == ("train/cats/cat.0.jpg", "train/dogs/dog.4.jpg") and len(data.train) == 9


def test_class_folders_beside_a_test_folder(tmp_path: Path) -> None:
    for name in ("a", "b", "test"):
        for k in range(4):
            save(tmp_path / name / f"{k}.png", k)
    with pytest.raises(ArgumentError, match=r'test="test".*test=False'):
        make(tmp_path, valid=0.25)
    data = make(tmp_path, valid=0.25, test="test")
    assert data.classes == ("a", "b") and data.test is not None and len(data.test) == 4
    assert make(tmp_path, valid=0.25, test=False).classes == ("a", "b", "test")


def test_a_class_only_in_train_shifts_nothing(pets: Path) -> None:
    save(pets / "train" / "birds" / "1.jpg")
    data = make(pets)
    assert data.classes == ("birds", "cats", "dogs")
    assert data.valid.targets is not None and data.valid.targets.tolist() == [1, 1, 2, 2, 2]


def test_a_class_only_in_valid_is_an_error(pets: Path) -> None:
    save(pets / "valid" / "wolves" / "1.jpg")
    with pytest.raises(DataError, match=r"wolves \(valid\).*'wolves'.*cats, dogs"):
        make(pets)
    (pets / "valid" / "wolves" / "1.jpg").unlink()
    assert make(pets).classes == ("cats", "dogs"), "an empty class folder in valid is no class"


def test_missing_and_empty_folders(pets: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist .*Expected train/ and valid/"):
        make(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is a file, not a folder"):
        make(pets / "train" / "cats" / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no folder 'train'; it holds nothing"):
        make(tmp_path / "empty")
    with pytest.raises(DataError, match=r"no folder 'vaild'; it holds models/, test/, train/, valid/.*valid=0\.2"):
        make(pets, valid="vaild")
    with pytest.raises(DataError, match=r"has no class folders; it holds .*0.jpg"):
        make(pets, train="test")
    for k in range(2):
        save(tmp_path / "x" / "train" / f"{k}.jpg")
    (tmp_path / "x" / "valid").mkdir()
    with pytest.raises(
        DataError, match=r"has no class folders; it holds 0.jpg, 1.jpg\. Expected one sub-folder per class"
    ):
        make(tmp_path / "x")
    (tmp_path / "y" / "train" / "cats").mkdir(parents=True)
    (tmp_path / "y" / "valid").mkdir()
    with pytest.raises(DataError, match=r"no image files below .*cats"):
        make(tmp_path / "y")
    with pytest.raises(DataError, match=r"the folder .*later does not exist"):
        make(pets, test="later")
    for file in (pets / "test").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="no image files in the test folder"):
        make(pets)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_files_raise_or_are_skipped(pets: Path, workers: int) -> None:
    (pets / "train" / "cats" / "cat.1.png").write_bytes(b"")
    (pets / "valid" / "dogs" / "dog.0.jpg").write_bytes(b"<html>")
    half = (pets / "train" / "dogs" / "dog.0.jpg").read_bytes()
    (pets / "train" / "dogs" / "dog.0.jpg").write_bytes(half[: len(half) // 2])
    data = make(pets, workers=workers)
    with pytest.raises(DataError, match=r"(cat\.1\.png is empty|dog\.0\.jpg seems to be damaged)"):
        list(data.loader("train", training=True).batches(CPU))
    skipped = make(pets, on_error="skip", workers=workers)
    assert (len(skipped.train), len(skipped.valid)) == (9, 4) and "left out: 3" in repr(skipped)
    report = skipped.report()
    assert set(report) == {"train/cats/cat.1.png", "train/dogs/dog.0.jpg", "valid/dogs/dog.0.jpg"}
    assert "0 bytes" in report["train/cats/cat.1.png"] and data.report() == {}
    assert sum(len(b.index) for b in skipped.loader("train", training=True).batches(CPU)) == 9


def test_when_nothing_can_be_read(pets: Path) -> None:
    for file in (pets / "valid").rglob("*.*"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"no images are left in the valid split; 5 cannot be read, .*0 bytes"):
        make(pets, on_error="skip")


# -- tables --------------------------------------------------------------------------------------------


def rows(labels: list[str], ending: str = ".jpg") -> str:
    return "file,label\n" + "".join(f"p{k:02}{ending},{label}\n" for k, label in enumerate(labels))


def test_single_labels(flat: Path) -> None:
    data = csv(flat, rows(["b", "a", "NA"] * 4), valid=[0, 1, 2])
    assert data.classes == ("NA", "a", "b")
    assert data.ids("valid") == ("images/p00.jpg", "images/p01.jpg", "images/p02.jpg")
    assert data.valid.targets is not None and data.valid.targets.tolist() == [2, 1, 0]
    fraction = csv(flat, rows(["b", "a", "NA"] * 4), stratify=True)
    assert fraction.valid.targets is not None and sorted(fraction.valid.targets.tolist()) == [0, 1, 2]


def test_numbers_as_classes_are_in_their_order(flat: Path) -> None:
    assert csv(flat, rows(["10", "9", "2"] * 4), stratify=True).classes == ("2", "9", "10")
    df = pd.DataFrame({"f": [f"p{k:02}.jpg" for k in range(12)], "y": [10.0, 9.0, 2.0] * 4})
    assert ImageData.from_df(df, flat, "images", 24, stratify=True).classes == ("2", "9", "10")


def test_multi_label(flat: Path) -> None:
    data = csv(flat, rows(["road haze", "haze", " road  water "] * 4), label_sep=" ", valid=[0, 1, 2])
    assert data.task.kind == "multi_label" and data.classes == ("haze", "road", "water")
    assert data.valid.targets is not None and data.valid.targets.tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 1]]
    assert data.valid.targets.dtype == torch.float32 and "haze 8, road 8, water 4" not in repr(data)
    other = csv(flat, rows(["a; b", "b", "a;c"] * 4), label_sep=";", valid=[0, 1, 2])
    assert other.classes == ("a", "b", "c")


def test_regression(flat: Path) -> None:
    data = csv(flat, rows([str(k / 2) for k in range(12)]), task="regression", valid=[3])
    assert data.task.kind == "regression" and data.classes == () and data.task.names == ("label",)
    assert data.valid.targets is not None and data.valid.targets.tolist() == [[1.5]]
    text = "file,x,y\n" + "".join(f"p{k:02}.jpg,{k},{-k}\n" for k in range(12))
    two = csv(flat, text, task="regression", label_col=["x", "y"], valid=[3])
    assert two.task.names == ("x", "y") and two.valid.targets is not None and two.valid.targets.tolist() == [[3, -3]]


def test_suffix_columns_and_test_folder(flat: Path) -> None:
    text = "y,other,name\n" + "".join(f"{'ab'[k % 2]},0,p{k:02}\n" for k in range(12))
    data = csv(flat, text, suffix=".jpg", file_col="name", label_col=0, test="images", valid=[0, 1])
    assert data.classes == ("a", "b") and data.test is not None and len(data.test) == 12
    assert csv(flat, text, suffix=".jpg", file_col=-1, label_col="y", valid=[0, 1]).classes == ("a", "b")
    with pytest.raises(ArgumentError, match="Did you mean 'name'"):
        csv(flat, text, file_col="nmae", label_col="y")
    with pytest.raises(ArgumentError, match="label_col=7, but the table has 3 columns"):
        csv(flat, text, file_col="name", label_col=7)


def test_a_missing_file_is_named_with_its_line(flat: Path) -> None:
    text = rows(["a", "b"] * 6) + "gone.jpg,a\n"
    with pytest.raises(DataError, match=r'labels\.csv line 14 .*the file .*gone\.jpg does not exist.*on_error="skip"'):
        csv(flat, text)
    data = csv(flat, text, on_error="skip", valid=[0, 1])
    assert "labels.csv line 14" in data.report()["images/gone.jpg"] and len(data.train) == 10
    with pytest.raises(DataError, match=r'exists: pass suffix="\.jpg"'):
        csv(flat, rows(["a", "b"] * 6, ending=""))


def test_missing_labels_are_named_with_their_line(flat: Path) -> None:
    for bad in ("", "NaN"):
        with pytest.raises(DataError, match=r"'label' have no label.*labels\.csv line 5 \(p03\.jpg\)"):
            csv(flat, rows(["a", "b", "a", bad, "b"]))
    with pytest.raises(DataError, match=r"line 4: the file name is missing"):
        csv(flat, "file,label\np00.jpg,a\np01.jpg,a\n,b\n")
    with pytest.raises(DataError, match=r"'label'.*line 3 .*'?abc'?|'abc'.*line 3"):
        csv(flat, rows(["1", "abc", "3"]), task="regression")
    with pytest.raises(DataError, match=r"infinite.*line 3"):
        csv(flat, rows(["1", "inf", "3"]), task="regression")
    df = pd.DataFrame({"f": ["p00.jpg", "p01.jpg"], "y": ["a", None]})
    with pytest.raises(DataError, match=r"row 1 of the DataFrame \(p01\.jpg\)"):
        ImageData.from_df(df, flat, "images", 24)
    df = pd.DataFrame({"f": ["p00.jpg", "p01.jpg"], "y": [1.0, float("nan")]})
    with pytest.raises(DataError, match=r"missing.*row 1 "):
        ImageData.from_df(df, flat, "images", 24, task="regression")


def test_blank_lines_do_not_shift_the_numbers(flat: Path) -> None:
    with pytest.raises(DataError, match=r"line 5 .*gone"):
        csv(flat, "file,label\np00.jpg,a\n\np01.jpg,b\ngone.jpg,a\n\n\n")
    assert len(csv(flat, rows(["a", "b"] * 6) + "\n\n", valid=[0, 1]).train) == 10


def test_duplicates(flat: Path) -> None:
    text = rows(["a", "b"] * 6)
    with pytest.warns(EasyLearnWarning, match=r"1 rows repeat .* labels\.csv line 14 \(\./p00\.jpg\)"):
        data = csv(flat, text + "./p00.jpg,a\n", valid=[11])
    assert len(data.train) == 11 and data.ids("valid") == ("images/p11.jpg",)
    with pytest.raises(DataError, match=r"two labels: 'a' at labels\.csv line 2 .*and 'b' at labels\.csv line 14"):
        csv(flat, text + "p00.jpg,b\n")


def test_a_rare_class_in_valid_only(flat: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv line 2 .*valid.*'z'.*stratify=True"):
        csv(flat, rows(["z", "a", "b"] + ["a"] * 9), valid=[0])


def test_tables_that_are_none(flat: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*labels\.csv"):
        ImageData.from_csv(flat)
    for content in ("", "a,b\n1,2,3\n4,5,6,7\n"):
        with pytest.raises((DataError, ArgumentError)):
            csv(flat, content)
    with pytest.raises(DataError, match="no images are listed"):
        csv(flat, "file,label\n")
    (flat / "labels.csv").write_bytes(b"\xff\xfe\x00file")
    with pytest.raises(DataError, match="no UTF-8"):
        ImageData.from_csv(flat, folder="images")
    with pytest.raises(DataError, match=r"the folder .*imgs does not exist"):
        csv(flat, rows(["a", "b"]), folder="imgs")
    with pytest.raises(ArgumentError, match=r"label_sep.*regression"):
        csv(flat, rows(["1", "2"]), task="regression", label_sep=" ")
    with pytest.raises(ArgumentError, match="stratify"):
        csv(flat, rows(["1", "2"] * 6), task="regression", stratify=True)


# -- names ---------------------------------------------------------------------------------------------


def test_from_names(flat: Path) -> None:
    names = [f"images/p{k:02}.jpg" for k in range(12)]
    kinds = [
        (["a", "b"] * 6, {}, "single_label", ("a", "b")),
        ([1, 0] * 6, {"classes": ["cat", "dog"]}, "single_label", ("cat", "dog")),
        ([["a"], ["a", "b"], []] * 4, {}, "multi_label", ("a", "b")),
        (np.arange(12.0), {"task": "regression"}, "regression", ("target",)),
        (np.arange(24.0).reshape(12, 2), {"task": "regression"}, "regression", ("target 0", "target 1")),
    ]
    for labels, options, kind, expected in kinds:
        data = ImageData.from_names(flat, names, labels, 24, valid=[0, 1, 2], workers=0, **options)  # type: ignore[arg-type]
        assert data.task.kind == kind and data.task.names == expected and data.ids("valid") == tuple(names[:3])
    by_name = ImageData.from_names(flat, names, size=24, label_fn=lambda n: "even" if int(n[-6:-4]) % 2 == 0 else "odd")
    assert by_name.classes == ("even", "odd")
    numbered = ImageData.from_names(flat, names, [1, 0] * 6, 24, classes=["cat", "dog"], valid=[0])
    assert numbered.valid.targets is not None and numbered.valid.targets.tolist() == [1]


def test_wrong_names(flat: Path) -> None:
    names = [f"images/p{k:02}.jpg" for k in range(12)]
    with pytest.raises(ArgumentError, match="either labels or label_fn"):
        ImageData.from_names(flat, names)
    with pytest.raises(DataError, match="12 names but 2 labels"):
        ImageData.from_names(flat, names, ["a", "b"])
    with pytest.raises(DataError, match=r"no label.*names\[1\]"):
        ImageData.from_names(flat, names[:2], ["a", float("nan")])
    with pytest.raises(DataError, match=r"row 1.*'b'.*list"):
        ImageData.from_names(flat, names[:2], ["a", ["b"]])
    with pytest.raises(DataError, match="class number 2 is not between 0 and 1"):
        ImageData.from_names(flat, names[:4], [0, 1, 2, 1], classes=["a", "b"], valid=[3])
    with pytest.raises(DataError, match=r"names\[2\].*the file .*p99\.jpg does not exist"):
        ImageData.from_names(flat, [*names[:2], "images/p99.jpg"], ["a", "b", "a"])


# -- arrays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 8, 10), (6, 8, 10, 1), (6, 8, 10, 3), (6, 3, 8, 10), (6, 1, 8, 10)])
@pytest.mark.parametrize("as_tensor", [True, False])
def test_layouts_of_arrays(shape: tuple[int, ...], as_tensor: bool) -> None:
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    y = [0, 1, 2] * 2
    given = torch.from_numpy(x) if as_tensor else x
    data = ImageData.from_arrays((given, y), (given, y), given, batch_size=6)
    assert data.size == (8, 10) and data.classes == ("0", "1", "2") and "test" in data.splits
    (batch,) = list(data.loader("valid").batches(CPU))
    back = (data.batch_stage.denormalise(batch.inputs[0]) * 255).round().to(torch.uint8).numpy()
    wanted = (
        x[..., None].transpose(0, 3, 1, 2) if x.ndim == 3 else x if x.shape[1] in (1, 3) else x.transpose(0, 3, 1, 2)
    )
    assert np.array_equal(back, np.broadcast_to(wanted, (6, 3, 8, 10)))


def test_kinds_of_arrays() -> None:
    x = np.random.default_rng(0).random((12, 8, 8, 3)).astype(np.float32)
    assert ImageData.from_arrays((x, ["b", "a"] * 6)).classes == ("a", "b")
    many = ImageData.from_arrays((x, np.eye(3)[[0, 1, 2] * 4]), valid=[0, 1], classes=["p", "q", "r"])
    assert many.task.kind == "multi_label" and many.valid.targets is not None
    assert many.valid.targets.tolist() == [[1, 0, 0], [0, 1, 0]]
    numbers = ImageData.from_arrays((x, np.arange(12.0)), valid=[5], task="regression")
    assert numbers.valid.targets is not None and numbers.valid.targets.tolist() == [[5.0]]
    larger = ImageData.from_arrays((x, [0, 1] * 6), size=16, batch_size=4, workers=0)
    assert next(larger.loader("train", training=True).batches(CPU)).inputs[0].shape == (4, 3, 16, 16)
    grey = ImageData.from_arrays((x[..., 0], [0, 1] * 6), channels=1)
    assert next(grey.loader("train", training=True).batches(CPU)).inputs[0].shape[1] == 1 and len(grey.mean) == 1
    images = [Image.fromarray(np.full((9, 9, 3), k, np.uint8)) for k in range(12)]
    assert ImageData.from_arrays((images, [0, 1] * 6), size=9).classes == ("0", "1")


def test_wrong_arrays() -> None:
    x = np.zeros((4, 8, 8), np.uint8)
    with pytest.raises(DataError, match="4 images but 3 labels"):
        ImageData.from_arrays((x, [0, 1, 0]))
    with pytest.raises(DataError, match="1, 3 or 4 channels"):
        ImageData.from_arrays((np.zeros((4, 8, 8, 7), np.uint8), [0, 1, 0, 1]))
    with pytest.raises(DataError, match=r"train\[0\].*between 0 and 1"):
        ImageData.from_arrays((np.linspace(0, 200, 256).reshape(4, 8, 8), [0, 1, 0, 1]))
    with pytest.raises(DataError, match=r"no label.*train\[1\]"):
        ImageData.from_arrays((x, [0.0, float("nan"), 1.0, 1.0]))
    with pytest.raises(DataError, match=r"valid\[3\].*9"):
        ImageData.from_arrays((x, [0, 1, 0, 1]), (x, [0, 1, 0, 9]))
    with pytest.raises(ArgumentError, match="must be a pair"):
        ImageData.from_arrays(x)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="empty"):
        ImageData.from_arrays((x[:0], []))
    with pytest.raises(DataError, match=r"label 1.*two classes"):
        ImageData.from_arrays((x, [1, 1, 1, 1]))


# -- what a Learner asks for ---------------------------------------------------------------------------


def test_train_loader_is_augmented_and_merges_a_last_single(pets: Path) -> None:
    data = make(pets, batch_size=10, augment=[Flip(1.0)], method="squash")
    loader = data.loader("train", training=True)
    (batch,) = list(loader.batches(CPU))
    plain = torch.cat([b.inputs[0] for b in data.loader("train").batches(CPU)])
    assert torch.equal(batch.inputs[0], plain[batch.index].flip(-1)) and len(loader) == 1
    assert [len(b.index) for b in make(pets, batch_size=1000).loader("train", training=True).batches(CPU)] == [11]


def test_views(pets: Path) -> None:
    data = make(pets, augment="side_on")
    views = [torch.cat([b.inputs[0] for b in data.loader("valid", view=v).batches(CPU)]) for v in (0, 1, 2)]
    assert not torch.equal(views[0], views[1]) and not torch.equal(views[1], views[2])
    assert data.has_views and make(pets).has_views and not make(pets, method="squash").has_views


@pytest.mark.parametrize(
    ("shape", "options", "wanted"),
    [
        ((8, 8), {}, False),
        ((16, 16), {"size": 8}, False),
        ((8, 12), {"size": 8}, True),
        ((8, 8), {"crop_pct": 0.8}, True),
        ((8, 12), {"size": 8, "method": "pad"}, False),
        ((8, 8), {"augment": "basic"}, True),
    ],
)
def test_whether_views_of_arrays_differ(shape: tuple[int, int], options: dict[str, Any], wanted: bool) -> None:
    x = np.random.default_rng(0).integers(0, 256, (6, *shape), dtype=np.uint8)
    data = ImageData.from_arrays((x, [0, 1] * 3), valid=[0, 1], **options)
    plain, view = (next(data.loader("valid", view=v).batches(CPU)).inputs[0] for v in (0, 3))
    assert data.has_views is wanted and torch.equal(plain, view) is not wanted


def test_resized_keeps_the_split(pets: Path) -> None:
    data = make(pets, valid=0.3, seed=3, augment="side_on").with_stats([0.5] * 3, [0.25] * 3)
    other = data.resized(40)
    assert other.size == (40, 40) and data.size == (24, 24)
    assert other.ids("train") == data.ids("train") and other.ids("valid") == data.ids("valid")
    assert other.mean == (0.5,) * 3 and other.batch_stage.transforms == data.batch_stage.transforms
    assert next(other.loader("train", training=True).batches(CPU)).inputs[0].shape == (4, 3, 40, 40)
    assert next(data.loader("train", training=True).batches(CPU)).inputs[0].shape == (4, 3, 24, 24)
    assert data.resized((20, 30)).size == (20, 30)


def test_stats_and_adopt(pets: Path) -> None:
    data = make(pets)
    assert data.mean == (0.485, 0.456, 0.406)
    other = data.with_stats([0.5] * 3, [0.5] * 3)
    assert other.mean == (0.5,) * 3 and data.mean != other.mean
    assert make(pets).resized(32).adopt(other).std == (0.5,) * 3
    with pytest.raises(ArgumentError, match="3 numbers"):
        data.with_stats([0.5], [0.5])
    save(pets / "train" / "birds" / "1.jpg")
    with pytest.raises(DataError, match="birds"):
        make(pets).adopt(other)
    with pytest.raises(DataError, match="channels"):
        make(pets, channels=1).adopt(make(pets))


def test_fingerprint(pets: Path) -> None:
    data = make(pets)
    prints = {data.fingerprint("train"), data.fingerprint("valid"), data.resized(32).fingerprint("train")}
    prints |= {
        data.with_stats([0.5] * 3, [0.5] * 3).fingerprint("train"),
        make(pets, method="pad").fingerprint("train"),
    }
    prints.add(make(pets, augment="basic").fingerprint("train"))
    assert len(prints) == 6 and data.fingerprint("train") == make(pets).fingerprint("train")
    save(pets / "train" / "cats" / "cat.0.jpg", 99)
    assert data.fingerprint("train") not in prints
    (pets / "train" / "cats" / "cat.0.jpg").unlink()
    with pytest.raises(DataError, match=r"cat.0.jpg"):
        data.fingerprint("train")


def test_fingerprint_of_arrays() -> None:
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    given = ImageData.from_arrays((x, [0, 1, 0, 1]), (x, [0, 1, 0, 1]))
    same = ImageData.from_arrays((x.copy(), [0, 1, 0, 1]), (x, [0, 1, 0, 1]))
    x = x.copy()
    x[0, 0, 0, 0] ^= 1
    other = ImageData.from_arrays((x, [0, 1, 0, 1]), (x, [0, 1, 0, 1]))
    assert given.fingerprint("train") == same.fingerprint("train") != other.fingerprint("train")


@pytest.mark.parametrize("augment", ["side_on", [RandomResizedCrop(), Flip()]])
def test_the_cache_changes_nothing(pets: Path, tmp_path: Path, augment: object) -> None:
    def epochs(data: ImageData) -> torch.Tensor:
        return torch.cat(
            [b.inputs[0] for e in range(2) for b in data.loader("train", training=True).batches(CPU, 1, e)]
        )

    wanted = epochs(make(pets, augment=augment, cache=False))
    folder = tmp_path / "kept"
    assert torch.equal(epochs(make(pets, augment=augment, cache=folder)), wanted)
    assert len(list(folder.glob("*.items"))) == 1
    assert torch.equal(epochs(make(pets, augment=augment, cache=folder, workers=2)), wanted)
    save(pets / "train" / "cats" / "cat.0.jpg", 99)
    assert not torch.equal(epochs(make(pets, augment=augment, cache=folder)), wanted), "a changed file is read anew"


def test_arrays_of_the_right_size_are_not_cached(tmp_path: Path) -> None:
    x = np.zeros((4, 8, 8, 3), np.uint8)
    data = ImageData.from_arrays((x, [0, 1, 0, 1]), (x, [0, 1, 0, 1]), cache=tmp_path / "kept")
    list(data.loader("train", training=True).batches(CPU))
    assert not (tmp_path / "kept").exists()


def test_no_test_split_and_unknown_split(pets: Path) -> None:
    for file in (pets / "test").iterdir():
        file.unlink()
    (pets / "test").rmdir()
    with pytest.raises(DataError, match="no test split; pass test="):
        make(pets).loader("test")
    with pytest.raises(ArgumentError, match="Did you mean 'valid'"):
        make(pets).loader("vaild")  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_show_batch_works_headless(pets: Path, tmp_path: Path, part: str) -> None:
    figure = make(pets, augment="side_on").show_batch(5, part)  # type: ignore[arg-type]
    shown = 3 if part == "test" else 5
    assert len(figure.axes) == shown
    assert {a.get_title() for a in figure.axes} <= {"cats", "dogs", "0", "1", "2"}
    figure.savefig(tmp_path / "batch.png")
    assert (tmp_path / "batch.png").stat().st_size > 2000


def test_a_class_that_occurs_once_is_noted() -> None:
    x = np.zeros((14, 8, 8), np.uint8)
    many = ImageData.from_arrays((x, ["cat"] * 12 + ["dog"] + ["bird"]), None, workers=0, cache=False)
    assert len(many.notes()) == 1 and "2 classes, as 'bird', have one training image" in many.notes()[0]
    twice = ImageData.from_arrays((x, ["cat"] * 11 + ["dog"] * 2 + ["bird"]), None, workers=0, cache=False)
    assert "the class 'bird' has one training image" in twice.notes()[0]
    few = ImageData.from_arrays((x[:4], ["cat"] * 3 + ["bird"]), None, workers=0, cache=False)
    assert few.notes() == []


def test_one_image_and_how_it_is_drawn(pets: Path) -> None:
    data = make(pets)
    (batch, *_) = data.loader("valid").batches(torch.device("cpu"))
    seen = data.batch_stage.denormalise(batch.inputs[0])
    assert data.describe_item("valid", 1) == {} and data.notes() == []
    torch.testing.assert_close(data.image("valid", 1), seen[1])
    axes = new_figure().add_subplot()
    data.draw_item("valid", 1, axes)
    assert axes.get_xlabel() == data.ids("valid")[1][-34:] and not axes.get_title()
    np.testing.assert_allclose(axes.images[0].get_array(), seen[1].permute(1, 2, 0), atol=1e-6)


def test_show_batch_of_other_tasks(flat: Path) -> None:
    data = csv(flat, rows(["road haze", "haze", "road"] * 4), label_sep=" ", valid=[0, 1, 2])
    assert [a.get_title() for a in data.show_batch(3, "valid").axes] == ["haze road", "haze", "road"]
    numbers = csv(flat, rows([str(k) for k in range(12)]), task="regression", valid=[3], channels=1)
    assert [a.get_title() for a in numbers.show_batch(1, "valid").axes] == ["3"]


# -- arguments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"augmnet": "none"}, "Did you mean 'augment'"),
        ({"bs": 8}, "called 'batch_size' here"),
        ({"augment": "sideon"}, "Did you mean 'side_on'"),
        ({"method": "cropped"}, "Did you mean 'crop'"),
        ({"on_error": "ignore"}, 'must be "raise" or "skip"'),
        ({"batch_size": 0}, "batch_size"),
        ({"workers": -1}, "workers"),
        ({"channels": 2}, "channels"),
        ({"valid": 1.5}, "fraction between 0 and 1"),
        ({"valid": [99]}, "outside 0 to 10"),
        ({"stratify": True}, "with a fraction"),
        ({"groups": len}, "by a fraction"),
        ({"task": "regresion"}, "Did you mean 'regression'"),
        ({"regression": True}, 'task="regression"'),
    ],
)
def test_wrong_arguments(pets: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make(pets, **options)


@pytest.mark.parametrize("size", [0, -3, (0, 5), (1, 2, 3), 2.5, (2.5, 2)])
def test_wrong_size(pets: Path, size: object) -> None:
    with pytest.raises(ArgumentError, match="size must be"):
        ImageData.from_folder(pets, size)  # type: ignore[arg-type]


def test_making_data_imports_neither_torchvision_nor_matplotlib(pets: Path) -> None:
    code = (
        "import sys; from easylearn.vision.data import ImageData; "
        f"ImageData.from_folder({str(pets)!r}, 24); "
        "print([m for m in ('torchvision', 'matplotlib', 'sklearn', 'timm') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_folder_one_level_too_deep_names_the_one_above(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        (tmp_path / part / "cats").mkdir(parents=True)
    with pytest.raises(DataError, match=r"Did you mean .*, which holds both\?"):
        ImageData.from_folder(tmp_path / "train" / "cats")


def test_a_folder_in_place_of_an_image(tmp_path: Path) -> None:
    for k in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{k}.png")
    (tmp_path / "dir.png").mkdir()
    table = pd.DataFrame({"file": ["0.png", "dir.png", "1.png", "2.png"], "label": list("abab")})
    with pytest.raises(DataError, match=r"dir\.png is a folder, not an image"):
        ImageData.from_df(table, tmp_path, size=8, valid=[0, 1])
