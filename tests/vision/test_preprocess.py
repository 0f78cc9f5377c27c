"""`ImagePreprocessor`: every form that an image may have gives the same input, or an error that says what to do."""

from __future__ import annotations

import io
import json
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from easylearn.artefact.predictor import Predictor
from easylearn.data.preprocess import Items
from easylearn.errors import ArgumentError, DataError, WeightsError
from easylearn.nn.body_head import BodyHead
from easylearn.task import Prediction, Predictions, single_label
from easylearn.train.strategy import SingleDevice
from easylearn.vision.augment import Erase, Flip, RandomResizedCrop
from easylearn.vision.decode import MAX_PIXELS
from easylearn.vision.preprocess import ImagePreprocessor, Normalise

CPU = torch.device("cpu")
TASK = single_label(["red", "green", "blue"])


@pytest.fixture
def images() -> ImagePreprocessor:
    return ImagePreprocessor(24)


@pytest.fixture
def array() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


@pytest.fixture
def file(tmp_path: Path, array: np.ndarray[Any, Any]) -> Path:
    Image.fromarray(array).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def prepared(images: ImagePreprocessor, given: Any) -> tuple[Items, Tensor]:
    read = images.read(given)
    (x,) = images.source(read.values).fetch(np.arange(len(read)), CPU)
    return read, x


# -- forms ---------------------------------------------------------------------------------------------


def test_every_form_of_one_image_gives_the_same(
    images: ImagePreprocessor, file: Path, array: np.ndarray[Any, Any]
) -> None:
    wanted = prepared(images, file)[1]
    assert wanted.shape == (1, 3, 24, 24) and wanted.dtype == torch.float32
    held = file.read_bytes()
    with open(file, "rb") as opened:
        forms: dict[str, Any] = {
            "text": str(file), "bytes": held, "bytearray": bytearray(held), "memoryview": memoryview(held),
            "open file": opened, "buffer": io.BytesIO(held), "PIL": Image.open(file), "(h, w, c)": array,
            "(c, h, w)": array.transpose(2, 0, 1), "tensor (c, h, w)": torch.from_numpy(array).permute(2, 0, 1),
            "tensor (h, w, c)": torch.from_numpy(array), "floats": array / 255.0,
        }  # fmt: skip
        for name, form in forms.items():
            read, x = prepared(images, form)
            assert read.single and len(read) == 1, name
            assert torch.equal(x, wanted), name
            assert read.ids == ((str(file),) if name == "text" else ("0",)), name


def test_grey_arrays_are_one_image(images: ImagePreprocessor) -> None:
    grey = np.full((30, 40), 9, np.uint8)
    assert all(prepared(images, x)[0].single for x in (grey, grey[..., None], grey[None], torch.from_numpy(grey)))


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_an_array_of_four_dimensions_is_several(
    images: ImagePreprocessor, array: np.ndarray[Any, Any], as_tensor: bool, first: bool
) -> None:
    stack = np.stack([array, array[::-1], array[:, ::-1]])
    wanted = torch.cat([prepared(images, one)[1] for one in stack])
    given = stack.transpose(0, 3, 1, 2) if first else stack
    read, x = prepared(images, torch.from_numpy(given.copy()) if as_tensor else given)
    assert not read.single and read.ids == ("0", "1", "2") and torch.equal(x, wanted)


def test_lists_of_anything(images: ImagePreprocessor, file: Path, array: np.ndarray[Any, Any]) -> None:
    wanted = prepared(images, file)[1]
    for some in (
        [file, str(file)], (file.read_bytes(), array), [array], pd.Series([str(file)] * 3), np.array([str(file)]),
        [io.BytesIO(file.read_bytes()), Image.open(file)], [io.BytesIO(file.read_bytes())] * 2,
    ):  # fmt: skip
        read, x = prepared(images, some)
        assert not read.single and len(read) == len(some) and all(torch.equal(one, wanted[0]) for one in x)
    assert images.read([file, array, array]).ids == (str(file), "1", "2")
    assert images.read([array, array], first=5).ids == ("5", "6")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no images"),
        (np.zeros((0, 8, 8, 3), np.uint8), "empty"),
        ("https://example.org/cat.jpg", "download it first"),
        (["a.png", "http://example.org/cat.jpg"], "cat.jpg.*download it first"),
        (pd.DataFrame({"file": ["a.png"]}), r"DataFrame.*tolist"),
        (None, "a path, the bytes of a file"),
        ({"image": 1}, "a path, the bytes of a file.*dict"),
        (7, "int"),
        (np.zeros((2, 3, 4, 5, 6)), r"\(2, 3, 4, 5, 6\)"),
        ([np.zeros((8, 8, 3), np.uint8), 3], r"image 1.*got int"),
        ([np.zeros((8, 8, 3)), np.full((8, 8, 3), np.nan)], r"image 1.*NaN"),
        (np.stack([np.zeros((8, 8, 3)), np.full((8, 8, 3), np.nan)]), r"images\[1\].*NaN"),
        (np.zeros((3, 8, 8, 7), np.uint8), "channels"),
        (b"", "image 0 is empty"),
        (b"no image", "image 0 is not an image"),
        (io.StringIO("text"), 'mode "rb"'),
        ("nowhere.jpg", r"nowhere\.jpg cannot be read"),
    ],
)
def test_what_is_no_image_is_refused_in_words(images: ImagePreprocessor, given: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        prepared(images, given)


def test_a_folder_is_no_image(images: ImagePreprocessor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder: pass Path\("):
        images.read(str(tmp_path))
    with pytest.raises(DataError, match=r"It is a folder: pass Path\(folder\)"):
        prepared(images, [tmp_path])


# -- files ---------------------------------------------------------------------------------------------


def test_folders_and_tables_are_read_in_pieces(images: ImagePreprocessor, tmp_path: Path, file: Path) -> None:
    for name in ("b/2.png", "b/10.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(file.read_bytes())
    (tmp_path / "b" / "notes.txt").write_text("none")
    assert images.is_file(tmp_path) and images.is_file(tmp_path / "x.csv")
    assert not any(images.is_file(x) for x in (file, str(tmp_path), "x.csv", b"x", file.read_bytes()))
    pieces = list(images.read_file(tmp_path, 2))
    assert [p.ids for p in pieces] == [("a.png", "b/10.png"), ("b/2.png",)]
    assert images.source(pieces[1].values).fetch(np.arange(1), CPU)[0].shape == (1, 3, 24, 24)
    (tmp_path / "some.csv").write_text("file,other\nb/2.png,x\na.png,y\n")
    (piece,) = images.read_file(tmp_path / "some.csv", 10)
    assert piece.ids == ("b/2.png", "a.png") and len(piece.values) == 2


def test_files_that_name_no_images(images: ImagePreprocessor, tmp_path: Path, file: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image files below"):
        list(images.read_file(tmp_path / "empty", 2))
    (tmp_path / "headless.csv").write_text("a.png\na.png\n")
    with pytest.raises(DataError, match=r"a\.png.*header"):
        list(images.read_file(tmp_path / "headless.csv", 2))
    (tmp_path / "hole.csv").write_text("file,x\na.png,1\n,2\n")
    with pytest.raises(DataError, match=r"hole\.csv line 3"):
        list(images.read_file(tmp_path / "hole.csv", 2))


# -- a predictor ---------------------------------------------------------------------------------------


class Strongest(nn.Module):
    """Says which channel is the strongest."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


@pytest.fixture
def predictor() -> Predictor:
    images = ImagePreprocessor(8, mean=(0.5,) * 3, std=(0.5,) * 3)
    return Predictor(Strongest().eval(), TASK, images, SingleDevice("cpu"), 4)


def test_predict_takes_each_form(predictor: Predictor, file: Path, tmp_path: Path) -> None:
    one = predictor.predict(file)
    assert isinstance(one, Prediction)
    for form in (str(file), file.read_bytes(), Image.open(file)):
        assert torch.equal(predictor.predict(form).probs, one.probs)
    with open(file, "rb") as opened:
        assert torch.equal(predictor.predict(opened).probs, one.probs)
    for several in ([file], tmp_path, np.stack([np.asarray(Image.open(file))] * 6)):
        found = predictor.predict(several)
        assert isinstance(found, Predictions) and torch.allclose(found.probs[0], one.probs, atol=1e-5)
    assert len(found) == 6
    with open(file, "rb") as opened:
        assert [name for name, _ in predictor.stream([opened, file])] == ["0", str(file)]


def test_threads_predict_what_one_does(predictor: Predictor, file: Path) -> None:
    wanted, found, before = predictor.predict(file).probs, [], list(warnings.filters)

    def ask() -> None:
        for _ in range(20):
            found.append(predictor.predict(file.read_bytes()).probs)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 120 and all(torch.equal(f, wanted) for f in found)
    assert warnings.filters == before, "what Python warns of is as it was"


# -- models and their files ----------------------------------------------------------------------------


def test_it_comes_back_from_its_recipe() -> None:
    for images in (
        ImagePreprocessor((24, 40), "pad", 1, 0.5), ImagePreprocessor(8, "squash", mean=(0.1, 0.2, 0.3), std=(1, 2, 3)),
        ImagePreprocessor(8, max_pixels=500),
        ImagePreprocessor(8, transforms=(Flip(0.25), RandomResizedCrop(), Erase(2))),
    ):  # fmt: skip
        recipe = json.loads(json.dumps(images.recipe()))
        assert ImagePreprocessor.from_recipe(recipe, TASK) == images
        assert set(recipe) == {"kind", "size", "method", "channels", "crop_pct", "mean", "std", "max_pixels", "augment"}
        del recipe["max_pixels"]  # as files had it before
        assert ImagePreprocessor.from_recipe(recipe, TASK).max_pixels == MAX_PIXELS
        del recipe["augment"]
        assert ImagePreprocessor.from_recipe(recipe, TASK).transforms is None


@pytest.mark.parametrize(
    "change",
    [
        {"size": None}, {"size": [8]}, {"size": [8, 8.0]}, {"size": [8, 10**6]}, {"method": "x"}, {"channels": 2},
        {"mean": [0.5]}, {"std": [0, 1, 1]}, {"crop_pct": "much"}, {"crop_pct": 7}, {"augment": 3},
        {"augment": [{"name": "Rotate", "degrees": "x"}]}, {"augment": [{"name": "Fly"}]}, {"augment": [7]},
        {"augment": [{"name": "Erase", "n": 10**9}]}, {"augment": [{"name": "Flip", "p": 7}]},
    ],
)  # fmt: skip
def test_a_damaged_recipe(change: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="damaged"):
        ImagePreprocessor.from_recipe({**ImagePreprocessor(8).recipe(), **change}, TASK)


def test_statistics_are_the_models() -> None:
    model = BodyHead(nn.Identity(), nn.Identity(), nn.Identity(), [(), ()], mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    images = ImagePreprocessor(8).for_model(model)
    assert images.mean == pytest.approx((0.1, 0.2, 0.3)) and images.std == pytest.approx((0.4, 0.5, 0.6))
    assert images.for_model(nn.Identity()) is images
    grey = ImagePreprocessor(8, channels=1)
    assert grey.for_model(model) is grey


def test_what_another_runtime_takes() -> None:
    images = ImagePreprocessor(8)
    x = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    inputs = (images.batch_stage.plain(x),)
    runtime = images.runtime_inputs(inputs)
    assert runtime.names == ("pixels",) and isinstance(runtime.prepare, Normalise)
    (pixels,) = runtime.undo(inputs)
    assert torch.equal(pixels, x)
    torch.testing.assert_close(runtime.prepare(pixels), inputs[0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"size": 0}, "size must be"),
        ({"size": (8, 2.5)}, "size must be"),
        ({"size": 8, "method": "squish"}, "Did you mean 'squash'"),
        ({"size": 8, "channels": 2}, "channels"),
        ({"size": 8, "crop_pct": 2}, "crop_pct"),
        ({"size": 8, "mean": (0.5,), "std": (0.5,)}, "3 numbers"),
        ({"size": 8, "workers": -1}, "workers"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        ImagePreprocessor(**arguments)


def test_changing_one_leaves_the_other() -> None:
    images = ImagePreprocessor(8)
    other = replace(images.with_stats([0.5] * 3, [0.5] * 3), size=16)
    assert images.mean == (0.485, 0.456, 0.406) and images.item_stage.size == (8, 8)
    assert other.mean == (0.5,) * 3 and other.item_stage.size == (16, 16)
