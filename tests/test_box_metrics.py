"""Average precision is that of COCO's own evaluation."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from easylearn.box_metrics import COCO_IOUS, ap, ap50, ap_at, box_iou, class_precision
from easylearn.errors import ArgumentError, EasyLearnWarning

Array = npt.NDArray[np.float64]
# AP50 and AP by pycocotools 2.0.11 (areaRng all, maxDets 100) of `made(seed)`
BY_COCO = {
    0: (0.330143417, 0.109428117),
    1: (0.369128055, 0.136633995),
    2: (0.379342171, 0.167794902),
    3: (0.282935439, 0.111934230),
}


def made(seed: int, n: int = 12, n_classes: int = 3, m: int = 9, k: int = 30) -> tuple[Array, Array]:
    """Found and true boxes of images, some without any, with ties among the scores."""
    rng = np.random.default_rng(seed)
    found, true = np.zeros((n, k, 6)), np.full((n, m, 5), -1.0)
    for i in range(n):
        n_true, n_found = rng.integers(0, m + 1), rng.integers(0, k + 1)
        low, size = rng.uniform(0, 80, (n_true, 2)), rng.uniform(5, 40, (n_true, 2))
        label = rng.integers(0, n_classes, n_true)
        true[i, :n_true] = np.c_[low, low + size, label]
        boxes = rng.uniform(0, 50, (n_found, 4)) + np.array([0, 0, 50, 50])
        classes = rng.integers(0, n_classes, n_found)
        if n_true:
            source = rng.integers(0, n_true, n_found)
            boxes = np.c_[low, low + size][source] + rng.normal(0, 3, (n_found, 4))
            classes = np.where(rng.random(n_found) < 0.8, label[source], classes)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        found[i, :n_found] = np.c_[boxes, np.round(rng.random(n_found) * 0.95 + 0.01, 2), classes]
    return found, true


def by_coco(found: Array, true: Array, n_classes: int) -> Array:
    """Precisions by pycocotools, (overlaps, recalls, classes); -1 for a class without boxes."""
    coco: Any = pytest.importorskip("pycocotools.coco")
    cocoeval: Any = pytest.importorskip("pycocotools.cocoeval")

    def entry(i: int, b: Array) -> dict[str, Any]:
        size = [b[2] - b[0], b[3] - b[1]]
        return {"image_id": i + 1, "category_id": int(b[-1]) + 1, "bbox": [b[0], b[1], *size]}

    truth = [
        {**entry(i, b), "id": 1000 * (i + 1) + j, "area": (b[2] - b[0]) * (b[3] - b[1]), "iscrowd": 0}
        for i, t in enumerate(true)
        for j, b in enumerate(t[t[:, 4] >= 0])
    ]
    said = [{**entry(i, b), "score": b[4]} for i, f in enumerate(found) for b in f[f[:, 4] > 0]]
    with contextlib.redirect_stdout(io.StringIO()):
        data = coco.COCO()
        data.dataset = {
            "images": [{"id": i + 1} for i in range(len(true))], "annotations": truth,
            "categories": [{"id": c + 1} for c in range(n_classes)],
        }  # fmt: skip
        data.createIndex()
        run = cocoeval.COCOeval(data, data.loadRes(said), "bbox")
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.evaluate()
        run.accumulate()
    precision: Array = run.eval["precision"][:, :, :, 0, -1]
    return precision


@pytest.mark.parametrize("seed", BY_COCO)
def test_the_numbers_are_those_that_coco_gave(seed: int) -> None:
    found, true = map(torch.from_numpy, made(seed))
    assert (ap50(found, true), ap(found, true)) == pytest.approx(BY_COCO[seed], abs=1e-6)


@pytest.mark.parametrize("seed", range(10, 16))
def test_the_numbers_are_those_of_coco(seed: int) -> None:
    found, true = made(seed, n_classes=4)
    precision = by_coco(found, true, 4)
    each = np.where((precision > -1).all(1), precision.mean(1), np.nan).T
    np.testing.assert_allclose(class_precision(list(found), list(true), 4), each, atol=1e-6)
    expected = float(precision[precision > -1].mean())
    assert ap(torch.from_numpy(found), torch.from_numpy(true)) == pytest.approx(expected, abs=1e-6)


def test_overlaps() -> None:
    a = np.array([[0.0, 0.0, 4.0, 4.0], [1.0, 1.0, 1.0, 1.0]])
    np.testing.assert_allclose(box_iou(a, np.array([[0.0, 0.0, 4.0, 2.0], [4.0, 0.0, 8.0, 4.0]])), [[0.5, 0], [0, 0]])
    assert box_iou(a, np.zeros((0, 4))).shape == (2, 0)


def test_a_true_box_is_found_once_and_by_the_surest() -> None:
    true = torch.tensor([[[0.0, 0.0, 10.0, 10.0, 0.0]]])
    found = torch.tensor([[[0.0, 0.0, 10.0, 9.0, 0.4, 0.0], [0.0, 0.0, 10.0, 8.0, 0.9, 0.0]]])
    assert ap50(found, true) == pytest.approx(1.0)
    assert ap_at(0.85)(found, true) == pytest.approx(0.5)  # the surest one is not good enough for it


def test_padding_does_not_count() -> None:
    found, true = map(torch.from_numpy, made(3))
    wider = torch.cat([found, torch.zeros(len(found), 5, 6)], 1)
    longer = torch.cat([true, torch.full((len(true), 4, 5), -1.0)], 1)
    assert ap(wider, longer) == ap(found, true)


def test_a_class_without_true_boxes_does_not_count_and_none_at_all_is_told() -> None:
    true = [np.array([[0.0, 0.0, 2.0, 2.0, 1.0]])]
    found = [np.array([[0.0, 0.0, 2.0, 2.0, 0.9, 0.0], [0.0, 0.0, 2.0, 2.0, 0.8, 1.0]])]
    assert np.isnan(class_precision(found, true, 2)[0]).all()
    assert ap50(torch.from_numpy(np.stack(found)), torch.from_numpy(np.stack(true))) == pytest.approx(1.0)
    with pytest.warns(EasyLearnWarning, match="no image has a true box"):
        assert np.isnan(ap50(torch.zeros(1, 1, 6), torch.full((1, 1, 5), -1.0)))


def test_nothing_found_is_0() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ap(torch.zeros(1, 3, 6), torch.tensor([[[0.0, 0.0, 2.0, 2.0, 0.0]]])) == 0.0


@pytest.mark.parametrize("overlaps", [(), (0.0,), (1.5,)])
def test_impossible_overlaps_are_refused(overlaps: tuple[float, ...]) -> None:
    with pytest.raises(ArgumentError, match="IoUs above 0"):
        ap_at(*overlaps)


def test_names_and_directions() -> None:
    assert (ap50.name, ap.name, ap_at(0.75).name) == ("ap50", "ap", "ap75")
    assert ap50.higher_is_better and ap.higher_is_better and len(COCO_IOUS) == 10
