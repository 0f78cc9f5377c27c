"""Average precision of found boxes, as COCO's evaluation computes it (arXiv 1405.0312), by NumPy alone.

Found boxes are rows (xmin, ymin, xmax, ymax, score, class), true ones rows (xmin, ymin, xmax, ymax, class); images have
unlike numbers of them, so rows that are none have a score of 0, or a class of -1. The numbers are those of pycocotools
for boxes of any area and at most `MOST` found in an image, to 1e-6; a test compares them.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .errors import ArgumentError, EasyLearnWarning
from .metrics import Metric

Array = npt.NDArray[np.float64]
COCO_IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())  # the overlaps from which a found box counts as right
MOST = 100  # boxes of a class in an image that count, the surest ones
RECALLS = np.linspace(0.0, 1.0, 101)


def box_iou(a: Array, b: Array) -> Array:
    """Intersection over union of each box of (n, 4) with each of (m, 4), shape (n, m); 0 where neither has an area.

    >>> box_iou(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])).round(3)
    array([[0.333, 0.   ]])
    """
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.clip(high - low, 0.0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - both
    overlap: Array = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    return overlap


def class_precision(
    found: Sequence[Array], true: Sequence[Array], n_classes: int, overlaps: Sequence[float] = COCO_IOUS
) -> Array:
    """The average precision of each class at each overlap, shape (n_classes, overlaps); NaN for a class without boxes.

    Args:
        found: of each image, (k, 6); see this module.
        true: of each image, (m, 5).
        n_classes: how many there are.
        overlaps: the IoU from which a found box is right, if no surer one took the same true box.

    >>> true = [np.array([[0.0, 0.0, 2.0, 2.0, 0.0]])]
    >>> found = [np.array([[0.0, 0.0, 2.0, 2.0, 0.9, 0.0], [4.0, 4.0, 5.0, 5.0, 0.8, 0.0]])]
    >>> class_precision(found, true, 1, [0.5, 0.75]).round(6).tolist()
    [[1.0, 1.0]]
    """
    result = np.full((n_classes, len(overlaps)), np.nan)
    least = np.minimum(np.asarray(overlaps, np.float64), 1 - 1e-10)
    given = [(f[f[:, 4] > 0], t[t[:, 4] >= 0]) for f, t in zip(found, true, strict=True)]
    for c in range(n_classes):
        images = [(f[f[:, 5] == c], t[t[:, 4] == c, :4]) for f, t in given]
        n_true = sum(len(t) for _, t in images)
        if n_true:
            sorted_images = [(f[np.argsort(-f[:, 4], kind="stable")][:MOST], t) for f, t in images]
            scores = np.concatenate([f[:, 4] for f, _ in sorted_images])
            right = np.concatenate([_right(f[:, :4], t, least) for f, t in sorted_images], 1)
            order = np.argsort(-scores, kind="stable")
            result[c] = [_area_under(r, n_true) for r in right[:, order]]
    return result


def _right(found: Array, true: Array, least: Array) -> npt.NDArray[np.bool_]:
    """Which of an image's boxes (k, 4), the surest first, are right at each overlap: shape (overlaps, k)."""
    right, free = np.zeros((len(least), len(found)), bool), np.ones((len(least), len(true)), bool)
    if not len(true):
        return right
    overlap, at = box_iou(found, true), np.arange(len(least))
    for k in np.flatnonzero(overlap.max(1, initial=0.0) >= least.min()):
        fits = np.where(free & (overlap[k] >= least[:, None]), overlap[k], -1.0)
        best = len(true) - 1 - fits[:, ::-1].argmax(1)  # of equal ones the last, as COCO's evaluation takes it
        right[:, k] = fits[at, best] >= 0
        free[at[right[:, k]], best[right[:, k]]] = False
    return right


def _area_under(right: npt.NDArray[np.bool_], n_true: int) -> float:
    """The mean of the precisions at 101 recalls; `right` is of all found boxes, the surest first."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall, or at any beyond it
    place = np.searchsorted(hits / n_true, RECALLS, side="left")
    return float(np.append(highest, 0.0)[np.minimum(place, len(right))].mean())


def precision_of_boxes(found: Tensor, true: Tensor, overlaps: Sequence[float]) -> float:
    """The mean of `class_precision` over classes and `overlaps`; `found` (n, k, 6), `true` (n, m, 5), padded."""
    f, t = found.double().numpy(), true.double().numpy()
    n_classes = int(max(f[..., 5].max(initial=-1), t[..., 4].max(initial=-1))) + 1
    each = class_precision(list(f), list(t), n_classes, overlaps)
    if np.isnan(each).all():
        warnings.warn("average precision is undefined: no image has a true box", EasyLearnWarning, stacklevel=5)
        return float("nan")
    return float(np.nanmean(each))


def ap_at(*overlaps: float, name: str | None = None) -> Metric:
    """Average precision of boxes at one IoU, or its mean over several; higher is better.

    >>> ap_at(0.75).name
    'ap75'
    """
    if not overlaps or not all(0 < o <= 1 for o in overlaps):
        raise ArgumentError(f"ap_at takes IoUs above 0 and up to 1, such as ap_at(0.75), got {overlaps}")
    called = name or "ap" + "_".join(f"{100 * o:.0f}" for o in overlaps)
    return Metric(called, functools.partial(precision_of_boxes, overlaps=overlaps), higher_is_better=True)


ap50 = ap_at(0.5)
"""Average precision where an IoU of 0.5 is enough (the usual measure of PASCAL VOC)."""
ap = ap_at(*COCO_IOUS, name="ap")
"""Average precision, the mean over IoUs from 0.5 to 0.95 (the usual measure of COCO)."""
