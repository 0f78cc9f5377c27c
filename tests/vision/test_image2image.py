"""Images out of images: what is taken away of inputs, targets that move with them, and learners of both kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from easylearn import load_predictor
from easylearn.colours import psnr
from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.train.callbacks.mix import CutMix
from easylearn.vision.augment import Flip, Light, Rotate
from easylearn.vision.image2image import Image2ImageData, image2image_learner, make_image

CPU = torch.device("cpu")


def photos(n: int = 20, side: int = 32) -> np.ndarray:
    """Smooth images whose colour follows their light: bright is blue, dark is red."""
    r = np.random.default_rng(0)
    coarse = r.integers(40, 220, (n, 5, 5)).astype(np.uint8)
    light = np.stack([np.array(Image.fromarray(c).resize((side, side), Image.BICUBIC)) for c in coarse]).astype(float)
    return np.stack([255 - light, light * 0.5 + 40, light], -1).clip(0, 255).astype(np.uint8)


X = photos()


def net() -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(first, second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))


def data(make: Any = "colour", **options: Any) -> Image2ImageData:
    given = (X, 255 - X) if make == "pairs" else X
    return Image2ImageData.from_arrays(given, make=make, batch_size=8, **options)


def test_what_is_taken_away() -> None:
    grey = data("colour", valid=None)
    x = grey.batch_stage.denormalise(next(grey.loader("train").batches(CPU)).inputs[0])
    torch.testing.assert_close(x[:, :2], x[:, 1:], rtol=0, atol=1e-5)
    sharp = data("sharp", valid=None, times=4)
    x = sharp.batch_stage.denormalise(next(sharp.loader("train").batches(CPU)).inputs[0])
    target = sharp.target("train")[:8] / 255
    detail = [v.diff(dim=-1).abs().mean() for v in (x, target)]
    assert detail[0] < detail[1] and (x - target).abs().mean() < 0.05
    pairs = data("pairs", valid=None)
    batch = next(pairs.loader("train").batches(CPU))
    assert ((pairs.batch_stage.denormalise(batch.inputs[0]) + batch.target / 255) - 1).abs().max() < 1e-2


def test_targets_move_with_their_inputs() -> None:
    for augment in ([Flip(1.0)], [Rotate(30.0, p=1.0)], "side_on"):
        moved = data("pairs", valid=None, augment=augment)
        batch = next(moved.loader("train", training=True).batches(CPU))
        x = moved.batch_stage.denormalise(batch.inputs[0])
        assert (x + batch.target / 255 - 1).abs().mean() < 5e-3
    assert not any(isinstance(t, Light) for t in data(augment="side_on").preprocessor.transforms or ())
    with pytest.raises(ArgumentError, match="light and colours"):
        data(augment=[Flip(), Light()])


def test_folders(tmp_path: Path) -> None:
    for k in range(6):
        for folder in ("inputs", "targets"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(X[k]).save(tmp_path / folder / f"{k}.{'jpg' if folder == 'inputs' else 'png'}")
    found = Image2ImageData.from_folder(tmp_path, size=16, make="pairs", valid=0.3)
    assert [len(found.ids(s)) for s in found.splits] == [4, 2]
    colour = Image2ImageData.from_folder(tmp_path / "inputs", size=(16, 24), valid=[0])
    assert colour.ids("valid") == ("0.jpg",) and colour.target("valid").shape == (1, 3, 16, 24)
    assert colour.resized(8).target("train").shape == (5, 3, 8, 8)
    (tmp_path / "targets" / "3.png").unlink()
    with pytest.raises(DataError, match=r"3\.jpg has no partner"):
        Image2ImageData.from_folder(tmp_path, make="pairs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image files"):
        Image2ImageData.from_folder(tmp_path / "empty")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"make": "color"}, "colour"),
        ({"times": 1, "make": "sharp"}, "times"),
        ({"channels": 1}, "channels=3"),
        ({"times": 20, "make": "sharp"}, "times=20 leaves less than two pixels"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        data(**options)


def test_images_that_validate_come_in_any_form() -> None:
    for valid in (X[:2], torch.from_numpy(X[:2]).permute(0, 3, 1, 2), list(X[:2])):
        found = Image2ImageData.from_arrays(X[2:], valid)
        assert [len(found.ids(s)) for s in found.splits] == [len(X) - 2, 2]
    assert len(Image2ImageData.from_arrays(X, [0, 3]).ids("valid")) == 2
    with pytest.raises(DataError, match=f"train has {len(X)} images but 1 images to be made of them"):
        Image2ImageData.from_arrays((X, X[:1]), make="pairs")
    for alone in (X, (X, None)):
        with pytest.raises(DataError, match=r"train has images alone.*\(x, y\)"):
            Image2ImageData.from_arrays(alone, make="pairs")


def test_pairs_that_do_not_lie_upon_each_other_are_refused(tmp_path: Path) -> None:
    x, y = [np.zeros((32, 16, 3), np.uint8)] * 5, [np.zeros((16, 32, 3), np.uint8)] * 5
    with pytest.raises(DataError, match=r"32 x 16.*16 x 32.*squash"):
        Image2ImageData.from_arrays((x, y), size=32, make="pairs")
    Image2ImageData.from_arrays((x, y), size=32, make="pairs", method="squash")
    coarse = [np.zeros((333, 167, 3), np.uint8)] * 5  # half of an odd size is rounded
    Image2ImageData.from_arrays((coarse, [np.zeros((666, 333, 3), np.uint8)] * 5), size=64, make="pairs")
    for folder, names in (("inputs", ["a.png", "b.png"]), ("targets", ["a.png", "b.png", "a.bmp"])):
        (tmp_path / folder).mkdir()
        for name in names:
            Image.fromarray(x[0]).save(tmp_path / folder / name)
    with pytest.raises(DataError, match=r"two images of one name: a\.bmp and a\.png"):
        Image2ImageData.from_folder(tmp_path, size=16, make="pairs", valid=0.5)


def test_colours_are_learnt_and_put_onto_the_file(tmp_path: Path) -> None:
    given = data(augment="side_on")
    learn = image2image_learner(given, net(), progress=False, device="cpu", path=tmp_path)
    constant = learn.baseline().scores["best constant"]["psnr"]
    learn.fit_one_cycle(3e-2, 25)
    assert learn.validate()["psnr"] > constant + 1
    wide = Image.fromarray(X[0]).resize((50, 70))
    image = make_image(learn, wide)
    assert image.size == (50, 70)
    light = np.array(image.convert("L")).astype(int) - np.array(wide.convert("L"))
    assert np.abs(light).mean() < 12  # the light is the file's own
    said = learn.tta(3)
    assert len(said.views) == 2 and said.probs.shape == (4, 2, 8, 8)
    learn.export(tmp_path / "c.easylearn")
    predictor = load_predictor(tmp_path / "c.easylearn", device="cpu")
    assert np.array_equal(np.array(make_image(predictor, wide)), np.array(image))
    wide.save(tmp_path / "wide.png")
    with open(tmp_path / "wide.png", "rb") as opened:
        assert np.array_equal(np.array(make_image(predictor, opened)), np.array(image))
    predictor.to_csv([X[0]], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().startswith("id,a,b\n0,")
    learn.report(tmp_path / "run.html")
    assert len(learn.interpret().plot_top_losses(2).axes) == 2
    learn.freeze()
    learn.precompute = True
    learn.fit(1e-3, 1, callbacks=[])


@pytest.mark.parametrize("make", ["sharp", "pairs"])
def test_images_are_refined(make: Any, tmp_path: Path) -> None:
    learn = image2image_learner(data(make, augment=[Flip()]), net(), progress=False, device="cpu", path=tmp_path)
    first = learn.validate()["psnr"]
    said = learn.predict()
    low = learn.data.batch_stage.denormalise(next(learn.data.loader("valid").batches(CPU)).inputs[0])
    torch.testing.assert_close(said.probs, low, rtol=0, atol=1e-4)  # it begins by adding nothing
    assert first == pytest.approx(psnr(low, said.targets), abs=1e-2)
    learn.fit_one_cycle(1e-2, 20, callbacks=[CutMix()])
    assert learn.validate()["psnr"] > first + (1.0 if make == "pairs" else -1.0)
    assert make_image(learn, X[0]).size == (32, 32)
    learn.export(tmp_path / "s.easylearn")
    assert torch.equal(
        load_predictor(tmp_path / "s.easylearn", device="cpu").predict(X[0]).probs, learn.predict(X[0]).probs
    )
    learn.freeze()
    learn.precompute = True
    with pytest.raises(StateError, match="precompute does not keep"):
        learn.fit(1e-3, 1)


def test_only_its_own_data_and_images_are_taken() -> None:
    with pytest.raises(ArgumentError, match="needs Image2ImageData, got str"):
        image2image_learner("photos", net())  # type: ignore[arg-type]
    learn = image2image_learner(data(), net(), progress=False, device="cpu")
    with pytest.raises(ArgumentError, match="one image"):
        make_image(learn, [X[0], X[1]])
