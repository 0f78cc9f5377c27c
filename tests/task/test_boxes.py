"""The task of boxes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from easylearn.errors import ArgumentError, DataError
from easylearn.metrics import Metric
from easylearn.nn.centre import found_boxes
from easylearn.placement import Placement
from easylearn.task import (
    Boxes,
    BoxPrediction,
    BoxPredictions,
    Prediction,
    Predictions,
    Task,
    average_predictions,
    boxes,
)  # fmt: skip

TASK = boxes(["cat", "dog"])


def padded(*rows: list[float], k: int = 3, wide: int = 6) -> Tensor:
    out = torch.zeros(1, k, wide)
    out[..., -1] = -1
    for i, row in enumerate(rows):
        out[0, i] = torch.tensor(row)
    return out


FOUND = padded([0, 0, 8, 8, 0.9, 1], [10, 10, 20, 20, 0.6, 0], [0, 0, 4, 4, 0.1, 0])
TRUE = padded([0, 0, 8, 8, 1], [30, 30, 40, 40, 0], wide=5)


def test_settings_go_into_files_and_come_back() -> None:
    task = boxes(["a"], threshold=0.5, overlap=0.4, most=7)
    assert Task.from_json(task.to_json()) == task and task.n_out == 5
    assert task.with_threshold(0.2) == boxes(["a"], threshold=0.2, overlap=0.4, most=7)


@pytest.mark.parametrize("how", [{"threshold": 0}, {"overlap": 1.0}, {"most": 0}, {"threshold": "much"}])
def test_impossible_settings_are_refused(how: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(how))):
        boxes(["a"], **how)  # type: ignore[arg-type]


def test_tasks_of_other_cells_differ() -> None:
    assert "cells of 4 pixels" in Boxes(("a",)).same_as(Boxes(("a",), stride=8))
    assert TASK.same_as(boxes(["cat", "dog"], threshold=0.7)) == ""


def test_what_is_told_and_what_is_true() -> None:
    assert TASK.decode(FOUND) == [("dog", "cat")] and TASK.decode_target(TRUE) == [("dog", "cat")]
    assert TASK.with_threshold(0.7).decode(FOUND) == [("dog",)]
    assert TASK.in_words(("dog", "cat", "dog")) == "cat 1, dog 2"
    assert TASK.count_classes(TRUE) == [1, 1]


def test_mistakes_are_counted() -> None:
    assert TASK.title(FOUND[0], TRUE[0]) == ("found 1 of 2, and 1 that is none", False)
    assert TASK.title(FOUND[0, :1], TRUE[0, :1]) == ("found 1 of 1", True)
    assert TASK.item_columns(FOUND, TRUE) == {"boxes": [2], "found": [1], "wrong": [1]}
    none = torch.zeros(1, 5, 6)  # of images with fewer boxes than others
    sure, right = TASK.calibrated(torch.cat([FOUND, none], 1), TRUE)
    assert right.tolist() == [1.0, 0.0, 0.0] and sure[0] == pytest.approx(0.9)
    report = TASK.by_name(FOUND, TRUE)
    assert report["support"] == [1, 1] and report["ap50"] == pytest.approx([0.0, 1.0])


def test_the_loss_of_found_boxes_falls_as_they_get_better() -> None:
    right = padded([0, 0, 8, 8, 0.99, 1], [30, 30, 40, 40, 0.99, 0])
    losses = [float(TASK.item_losses(f, TRUE)) for f in (padded(), FOUND, right)]
    assert losses[0] == 1.0 > losses[1] > losses[2] and losses[2] == pytest.approx(1 - 2 * 1.98 / 3.98)
    assert float(TASK.item_losses(padded(), padded(wide=5))) == 0.0  # nothing there, nothing found


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (torch.zeros(2, 5), "shape"), (padded([0, 0, 8, 8, 2], wide=5), "row 0: box 0"),
        (padded([0, 0, 0, 8, 1], wide=5), "with an area"), (padded([0, 0, float("nan"), 8, 1], wide=5), "row 0: box 0"),
    ],
)  # fmt: skip
def test_wrong_targets_are_refused(target: Tensor, why: str) -> None:
    with pytest.raises(DataError, match=why):
        TASK.check_target(target)
    assert torch.equal(TASK.check_target(TRUE), TRUE)


def test_boxes_are_not_mixed() -> None:
    with pytest.raises(ArgumentError, match="MixUp"):
        TASK.soft_target(TRUE)


def test_the_accumulator_is_that_of_all_items_in_any_order() -> None:
    g = torch.Generator().manual_seed(0)
    maps, target = torch.randn(6, 6, 8, 8, generator=g), TRUE.repeat(6, 1, 1)
    target[3:, 1, 4] = -1
    whole, parts = TASK.accumulator(), TASK.accumulator()
    whole.add(maps, target)
    for some in ([5, 0], [3, 4, 1], [2]):
        parts.add(maps[some], target[some], torch.tensor(some))
    assert parts.result() == pytest.approx(whole.result())
    assert set(whole.result()) == {"valid_loss", "ap50", "ap"}
    with pytest.raises(DataError, match="no items"):
        TASK.accumulator().result()


def test_a_metric_of_ones_own_gets_found_and_true_boxes() -> None:
    count = Metric("n_found", lambda found, true: float((found[..., 4] > 0.5).sum()), None)
    total = TASK.with_metrics([count]).accumulator()
    total.add(FOUND, TRUE)
    assert total.result()["n_found"] == 2.0


def test_a_loss_of_ones_own() -> None:
    task = TASK.with_loss(lambda maps, target: maps.square().mean())
    maps = torch.full((2, 6, 4, 4), 2.0)
    assert float(task.loss(maps, TRUE.repeat(2, 1, 1))) == 4.0
    assert task.item_losses(maps, TRUE.repeat(2, 1, 1)).tolist() == [4.0, 4.0]


def test_predictions_are_in_the_pixels_of_the_image() -> None:
    place = Placement((100, 200), (64, 64), 16, 0, (32, 64))
    found = padded([0, 16, 64, 48, 0.9, 1], [32, 20, 70, 30, 0.5, 0])
    one = Prediction.of(TASK, found, [place])[0]
    assert isinstance(one, BoxPrediction) and one.label == ("dog", "cat")
    np.testing.assert_allclose(one.boxes, [[0, 0, 200, 100], [100, 12.5, 200, 43.75]])
    frame = one.to_frame()
    assert list(frame) == ["xmin", "ymin", "xmax", "ymax", "label", "score"] and frame["label"].tolist() == [
        "dog",
        "cat",
    ]
    assert one.to_dict() == {"cat": 1.0, "dog": 1.0} and "cat 1, dog 1" in repr(one)
    assert one.rows(TASK)[0] == ["0", "0", "200", "100", "dog", "0.9"]


def test_predictions_of_several_images() -> None:
    found = torch.cat([FOUND, padded()])
    said = Predictions.of(TASK, found, ["a", "b"], torch.cat([TRUE, TRUE]))
    assert isinstance(said, BoxPredictions) and said.labels == (("dog", "cat"), ())
    frame = said.to_frame()
    assert frame["id"].tolist() == ["a", "a"] and not frame.isna().any().any()
    assert said.to_dict()["b"] == {"cat": 0.0, "dog": 0.0}
    assert said[1].to_frame().empty and said[1].rows(TASK) == [[""] * 6]
    assert list(said[1:].to_frame()) == ["id", "xmin", "ymin", "xmax", "ymax", "label", "score"]
    with pytest.raises(DataError, match="several items are named 'a'"):
        Predictions.of(TASK, found, ["a", "a"]).to_dict()
    with pytest.raises(ArgumentError, match="boxes"):
        said.top()


def test_few_images_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[Boxes.__module__]
    task, maps = boxes(["cat", "dog"], most=20), torch.randn(9, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = task.activate_in_graph(maps)
    views = [torch.cat([FOUND] * 5), torch.cat([FOUND.flip(1)] * 5)]
    best, survives, seen = task.averaged(views, torch.stack(views)), module.survives, list[int]()
    monkeypatch.setattr(module, "PAIRS", 2 * 20**2)
    monkeypatch.setattr(module, "found_boxes", lambda x, *how: seen.append(len(x)) or found_boxes(x, *how))
    torch.testing.assert_close(task.activate(maps), whole)
    assert seen == [2, 2, 2, 2, 1]
    seen.clear()
    monkeypatch.setattr(module, "PAIRS", 2 * 6**2)
    monkeypatch.setattr(module, "survives", lambda x, *how: seen.append(len(x)) or survives(x, *how))
    torch.testing.assert_close(task.averaged(views, torch.stack(views)), best)
    assert seen == [2, 2, 1]


def test_views_of_maps_are_averaged_before_boxes_are_looked_for() -> None:
    g = torch.Generator().manual_seed(0)
    views = [torch.randn(2, 6, 8, 8, generator=g) for _ in range(3)]
    stack = torch.stack([TASK.activate(v) for v in views])
    assert torch.equal(TASK.averaged(views, stack), TASK.activate(torch.stack(views).mean(0)))
    assert TASK.averaged(views[:1], stack[:1]).data_ptr() == stack.data_ptr(), "of a single view they are known"


def test_views_of_found_boxes_are_put_together() -> None:
    other = padded([0, 0, 8, 9, 0.95, 1], [50, 50, 60, 60, 0.5, 0])
    both = TASK.averaged([FOUND, other], torch.stack([FOUND, other]))
    assert TASK.decode(both) == [("dog", "cat", "cat")]  # the dog once, by the surer view
    assert both[0, 0].tolist() == pytest.approx([0, 0, 8, 9, 0.95, 1])
    models = [Predictions.of(TASK, f, ["a"]) for f in (FOUND, other)]
    assert torch.equal(average_predictions(*models).probs, both)
    frames = [Placement((64, 64), (side, side), 0, 0, (side, side)) for side in (64, 32)]
    apart = [Predictions.of(TASK, FOUND, ["a"], places=[place]) for place in frames]
    assert average_predictions(apart[0], models[0], apart[0]).places == [frames[0]]
    with pytest.raises(DataError, match=r"predictions 1 and 2 .* different sizes, \(64, 64\) and \(32, 32\)"):
        average_predictions(*apart)
