"""The task of masks: losses of known pixels, outputs at any size, predictions in the file's own pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from easylearn.errors import ArgumentError, DataError, SaveError
from easylearn.losses import VOID, DiceLoss, LossSum, MaskCrossEntropy
from easylearn.metrics import Metric
from easylearn.placement import Placement, palette
from easylearn.task import MaskPrediction, MaskPredictions, Masks, Predictions, Task, masks
from easylearn.task.mask_predictions import placed
from easylearn.vision.decode import ItemStage

TASK = masks(["road", "sky", "car"])


def case() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(2)
    target = torch.randint(0, 3, (4, 12, 16), generator=g, dtype=torch.uint8)
    target[:, :2] = VOID
    return torch.randn(4, 3, 3, 4, generator=g), target


def test_the_loss_is_cross_entropy_at_the_masks_size() -> None:
    logits, target = case()
    wide = F.interpolate(logits, (12, 16), mode="bilinear", align_corners=False)
    wanted = F.cross_entropy(wide, target.long(), ignore_index=VOID)
    torch.testing.assert_close(TASK.loss(logits, target), wanted)
    items = TASK.item_losses(logits, target)
    torch.testing.assert_close(items.mean(), wanted)  # each has as many known pixels
    torch.testing.assert_close(items[1], TASK.loss(logits[1:2], target[1:2]))


def test_a_loss_of_ones_own_is_taken_item_by_item() -> None:
    logits, target = case()
    task = TASK.with_loss(LossSum([MaskCrossEntropy(), DiceLoss()]))
    total = task.accumulator()
    total.add(logits, target)
    torch.testing.assert_close(total.result()["valid_loss"], float(task.item_losses(logits, target).mean()))


def test_a_metric_of_all_predictions_pools_them() -> None:
    logits, target = case()
    task = TASK.with_metrics([Metric("rows", lambda probs, t: float(len(probs)), None)])
    total = task.accumulator()
    for rows in (slice(0, 1), slice(1, 4)):
        total.add(logits[rows], target[rows])
    assert total.result()["rows"] == 4


def test_the_constant_is_how_frequent_classes_are() -> None:
    _, target = case()
    known = target[target != VOID]
    rates = torch.bincount(known.long(), minlength=3) + 0.5
    torch.testing.assert_close(TASK.first_outputs(target).exp(), (rates / rates.sum()).double())


def test_json_keeps_the_numbers_of_files() -> None:
    task = Masks(("no", "yes"), values=(0, 255))
    again = Task.from_json(task.to_json())
    assert again == task and again.settings() == {"values": [0, 255]}


@pytest.mark.parametrize("names", [["one"], [str(k) for k in range(256)]])
def test_too_few_or_too_many_classes(names: list[str]) -> None:
    with pytest.raises(ArgumentError, match="2 to 255 classes"):
        masks(names)


def test_targets_are_checked() -> None:
    assert TASK.check_target(torch.tensor([[[0, 2, 255]]])).dtype == torch.uint8
    with pytest.raises(DataError, match="mask 1: 3 at row 0, column 2"):
        TASK.check_target(torch.tensor([[[0, 1, 2]], [[0, 1, 3]]]))
    with pytest.raises(DataError, match=r"\(n, height, width\)"):
        TASK.check_target(torch.zeros(3))
    with pytest.raises(ArgumentError, match="MixUp"):
        TASK.soft_target(torch.zeros(1, 2, 2, dtype=torch.uint8))
    with pytest.raises(ArgumentError, match="values"):
        Masks(("a", "b"), values=(0,))


def probs_of(mask: list[list[int]]) -> torch.Tensor:
    return F.one_hot(torch.tensor(mask), 3).movedim(-1, 0).float() * 0.8 + 0.2 / 3


def test_what_is_said_of_an_image() -> None:
    (one,) = MaskPrediction.of(TASK, probs_of([[0, 0, 1, 0]])[None])
    assert isinstance(one, MaskPrediction) and one.label == ("road", "sky")
    assert one.mask.tolist() == [[0, 0, 1, 0]] and one.to_dict() == {"road": 0.75, "sky": 0.25, "car": 0.0}
    assert one.sure == pytest.approx(np.full((1, 4), 0.8 + 0.2 / 3))
    assert repr(one) == "MaskPrediction(1 x 4: road 75%, sky 25%, car 0%)"


def test_masks_are_put_back_into_the_files_pixels() -> None:
    # 6 x 12 pixels lie in rows 2 to 5 of a frame of 8 x 8, of which a model gives each second pixel
    place = Placement((6, 12), (8, 8), 2, 0, (4, 8))
    probs = probs_of([[2, 2, 2, 2], [0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2]])
    (one,) = MaskPrediction.of(TASK, probs[None], [place])
    assert one.mask.shape == (6, 12)
    assert (one.mask[1:-1, :5] == 0).all() and (one.mask[1:-1, 7:] == 1).all()
    assert not (one.mask == 2).any()  # what is around the image is cut off
    assert torch.equal(placed(probs, None), probs)


@pytest.mark.parametrize("at_once", [1, 200, 2**24])
def test_large_images_are_made_a_few_classes_at_a_time(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    probs = torch.rand(5, 4, 4, generator=torch.Generator().manual_seed(0)).softmax(0)
    place = Placement((6, 12), (8, 8), 2, 0, (4, 8))
    one = MaskPrediction(("a",), None, probs, tuple("abcde"), place)
    monkeypatch.setattr("easylearn.task.mask_predictions.AT_ONCE", at_once)
    whole = placed(probs, place)
    assert np.array_equal(one.mask, whole.argmax(0).numpy()) and np.array_equal(one.sure, whole.max(0).values.numpy())


def test_what_is_around_an_image_has_no_share() -> None:
    place = Placement((6, 12), (8, 8), 2, 0, (4, 8))
    probs = probs_of([[2, 2, 2, 2], [0, 0, 0, 1], [0, 0, 1, 1], [2, 2, 2, 2]])[None]
    said = Predictions.of(TASK, probs, ["a"], places=[place])
    shares = {"road": 0.625, "sky": 0.375, "car": 0.0}
    assert said.to_dict() == {"a": shares} and said.labels == (("road", "sky"),) == (said[0].label,)
    assert said.to_frame().iloc[0, 2:].tolist() == list(shares.values())
    assert said[0].rows(TASK) == [["road, sky", "0.625", "0.375", "0"]]
    (one,) = MaskPrediction.of(TASK, probs, [place])
    assert one.label == ("road", "sky")


@pytest.mark.parametrize("shape", [(1000, 10), (10, 1000), (7, 9)])
def test_something_of_an_image_is_always_inside(shape: tuple[int, int]) -> None:
    for size in ((1, 1), (3, 5), (16, 16), (64, 64)):
        inside = ItemStage((64, 64), "pad").place(*shape).inside(torch.zeros(3, *size))
        assert min(inside.shape) >= 1 and all(a <= b for a, b in zip(inside.shape[1:], size, strict=True))


def test_predictions_of_several(tmp_path: Path) -> None:
    probs = torch.stack([probs_of([[0, 1]]), probs_of([[2, 2]])])
    said = Predictions.of(Masks(("road", "sky", "car"), values=(7, 9, 200)), probs, ["a/1.jpg", "b/1.jpg"])
    assert isinstance(said, MaskPredictions) and said.labels == (("road", "sky"), ("car",))
    assert said.mask(1).tolist() == [[2, 2]] and said[1:].ids == ("b/1.jpg",)
    frame = said.to_frame()
    assert frame.columns.tolist() == ["id", "label", "p_road", "p_sky", "p_car"] and frame["p_car"].tolist() == [0, 1]
    assert said.to_dict()["a/1.jpg"]["sky"] == 0.5
    assert said.top(1)["label"].tolist() == ["road", "car"]
    files = said.save_png(tmp_path / "out")
    assert [f.name for f in files] == ["a_1.png", "b_1.png"]
    assert np.array(Image.open(files[0])).tolist() == [[7, 9]]  # the numbers of the files that were learnt from
    one = said[0].save_png(tmp_path / "one.png")
    assert np.array(Image.open(one)).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    "ids",
    [
        ("a/1.jpg", "a_1.jpg"),
        ("a/1.jpg", "A/1.png"),
        ("b\\1.jpg", "b:1.jpg"),
        ("x" * 400 + "1.jpg", "y/" * 300 + "2"),
        ("\U0001d11e" * 90 + ".a", "\U0001d11e" * 99 + ".b"),
    ],
    ids=["slashes", "case", "other systems", "long", "long in bytes"],
)
def test_every_mask_has_a_file_of_its_own_in_the_folder(tmp_path: Path, ids: tuple[str, str]) -> None:
    said = Predictions.of(TASK, torch.stack([probs_of([[0, 1]]), probs_of([[2, 2]])]), ids)
    assert isinstance(said, MaskPredictions)
    files = said.save_png(tmp_path / "a" / "b")
    assert len({f.name.casefold() for f in files}) == 2 and {f.parent for f in files} == {tmp_path / "a" / "b"}
    assert not any(c in f.name for f in files for c in "\\:/") and all(len(f.name) < 80 for f in files)
    assert [np.array(Image.open(f)).tolist() for f in files] == [[[0, 1]], [[2, 2]]]


def test_masks_go_into_no_file(tmp_path: Path) -> None:
    said = Predictions.of(TASK, probs_of([[0, 1]])[None], ["1"])
    assert isinstance(said, MaskPredictions)
    (tmp_path / "out.png").write_text("a file")
    with pytest.raises(ArgumentError, match=r"out\.png is a file"):
        said.save_png(tmp_path / "out.png")
    with pytest.raises(SaveError, match=r"out\.png"):
        said.save_png(tmp_path / "out.png" / "deeper")
    with pytest.raises(SaveError, match=r"1\.png"):
        said[0].save_png(tmp_path / "out.png" / "1.png")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SaveError, match="folder"):
        said[0].save_png(tmp_path / "folder")


def test_what_interpretations_say() -> None:
    logits, target = case()
    probs = TASK.activate(logits)
    counts = TASK.confusions(probs, target)
    assert int(counts.sum()) == int((target != VOID).sum()) and counts.shape == (3, 3)
    table = TASK.by_name(probs, target)
    hits = counts.diagonal()
    wanted = hits / (counts.sum(0) + counts.sum(1) - hits)
    assert table["iou"] == pytest.approx(wanted.tolist()) and table["pixels"] == counts.sum(1).tolist()
    assert table["accuracy"] == pytest.approx((hits / counts.sum(1)).tolist())
    title, right = TASK.title(probs[0], target[0])
    assert "% right" in title and isinstance(right, bool)


def test_colours_are_apart_and_stay() -> None:
    colours = palette(256)
    assert colours.shape == (256, 3) and len({tuple(c) for c in palette(40).tolist()}) == 40
    assert np.array_equal(palette(5), colours[:5])
