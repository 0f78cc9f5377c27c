"""Boxes move as the masks of their objects do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from easylearn import keyed
from easylearn.box_metrics import box_iou
from easylearn.placement import Placement
from easylearn.vision.augment import (
    BatchStage,
    Dihedral,
    Flip,
    RandomResizedCrop,
    Rotate,
    Shift,
    Transform,
    Zoom,
)
from easylearn.vision.boxes_geometry import Array, clip_boxes, moved_boxes, placing, upright
from easylearn.vision.boxes_preprocess import MovingBoxes
from easylearn.vision.decode import ItemStage
from easylearn.vision.policies import Perspective
from easylearn.vision.warp import MovingMasks

SIZE = (96, 128)


def ellipses(n: int, seed: int = 0) -> tuple[torch.Tensor, Array]:
    """Masks of one ellipse each, upright, and the boxes of their pixels."""
    rng = np.random.default_rng(seed)
    centre = np.stack([rng.uniform(20, SIZE[1] - 20, n), rng.uniform(20, SIZE[0] - 20, n)], 1)
    half = rng.uniform(6, 18, (n, 2))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    far = ((x - centre[:, 0, None, None]) / half[:, 0, None, None]) ** 2
    far += ((y - centre[:, 1, None, None]) / half[:, 1, None, None]) ** 2
    masks = torch.from_numpy((far <= 1).astype(np.uint8))
    return masks, np.stack([around(m) for m in masks.numpy()])


def around(mask: np.ndarray) -> Array:
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], np.float64)


def moved_both(transform: Transform, n: int = 60) -> tuple[Array, Array, np.ndarray]:
    """The boxes of moved masks, the moved boxes, and what share of each mask is left; drawn by the batch stage."""
    masks, boxes = ellipses(n)
    stage = BatchStage(SIZE, (transform,), border="mean")
    x = torch.zeros(n, 3, *SIZE, dtype=torch.uint8)
    index = np.arange(n)
    _, after = stage.augmented_with(x, masks, MovingMasks(), index, 0, 0)
    target = torch.cat([torch.from_numpy(boxes), torch.zeros(n, 1)], 1)[:, None].float()
    _, found = stage.augmented_with(x, target, MovingBoxes(), index, 0, 0)
    return after.numpy(), found.numpy(), masks.sum((1, 2)).numpy()


@pytest.mark.parametrize(
    ("transform", "least"),
    [
        (Flip(1.0), 0.999), (Dihedral(), 0.999), (Rotate(10.0, p=1.0), 0.90), (Rotate(30.0, p=1.0), 0.90),
        (Zoom(1.3, p=1.0), 0.93), (Shift(0.1, p=1.0), 0.93), (RandomResizedCrop(0.5), 0.90),
        (Perspective(0.2, p=1.0), 0.88),
    ],
    ids=lambda v: type(v).__name__ + str(getattr(v, "degrees", "")) if isinstance(v, Transform) else None,
)  # fmt: skip
def test_moved_boxes_lie_on_moved_masks(transform: Transform, least: float) -> None:
    masks, boxes, before = moved_both(transform)
    overlaps = []
    for mask, box, n in zip(masks, boxes[:, 0], before, strict=True):
        y, x = np.nonzero(mask)
        touches = len(y) and (x.min() == 0 or y.min() == 0 or x.max() == SIZE[1] - 1 or y.max() == SIZE[0] - 1)
        if box[4] >= 0 and not touches and mask.sum() > n / 4:  # masks are reflected at the border, boxes end there
            overlaps.append(box_iou(box[None, :4], around(mask)[None])[0, 0])
    assert len(overlaps) > 20
    assert np.mean(overlaps) >= least


def test_the_ellipse_is_closer_than_the_hull_of_the_corners() -> None:
    turn = Rotate(30.0, p=1.0)
    _, boxes = ellipses(60)
    matrix = turn.matrix(keyed.uniform(np.arange(60), 2, 0), SIZE)
    moved, _ = moved_boxes(boxes[:, None], matrix, SIZE, SIZE)
    corners = boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]] - np.array(SIZE[::-1]) / 2
    turned = corners @ np.linalg.inv(matrix[:, :, :2]).transpose(0, 2, 1) + np.array(SIZE[::-1]) / 2
    hull = clip_boxes(np.concatenate([turned.min(1), turned.max(1)], 1), SIZE)
    inner = (moved[:, 0, :2] > 0).all(1) & (moved[:, 0, 2:] < np.array(SIZE[::-1])).all(1)
    area = lambda b: (b[:, 2:] - b[:, :2]).prod(1)  # noqa: E731
    assert (area(moved[inner, 0]) < area(hull[inner])).all()


def test_what_lies_outside_is_dropped_and_the_rest_is_clipped() -> None:
    boxes = np.array([[[0.0, 0.0, 10.0, 10.0], [50.0, 40.0, 60.0, 50.0], [90.0, 70.0, 128.0, 96.0]]])
    shift = np.array([[[1.0, 0.0, 8.0], [0.0, 1.0, 0.0]]])  # pixels come from 8 to the right: all moves left by 8
    moved, left = moved_boxes(boxes, shift, SIZE, SIZE)
    assert left.tolist() == [[False, True, True]]  # 2 of 10 columns are left of the first: under a quarter
    np.testing.assert_allclose(moved[0, 1:], boxes[0, 1:] - [8, 0, 8, 0])
    moved, left = moved_boxes(boxes[:, :1], np.array([[[1.0, 0.0, 7.0], [0.0, 1.0, 0.0]]]), SIZE, SIZE)
    assert left.tolist() == [[True]] and moved[0, 0].tolist() == [0.0, 0.0, 3.0, 10.0]


def test_another_size_scales_boxes() -> None:
    boxes = np.array([[[10.0, 20.0, 30.0, 60.0]]])
    moved, _ = moved_boxes(boxes, np.eye(2, 3)[None], (80, 100), (40, 25))
    assert moved.tolist() == [[[2.5, 10.0, 7.5, 30.0]]]


@pytest.mark.parametrize("shape", [(100, 300), (300, 100), (97, 128), (41, 37)])
@pytest.mark.parametrize("method", ["pad", "squash"])
def test_boxes_lie_where_the_decoder_lays_the_image(shape: tuple[int, int], method: str) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    y0, x0, y1, x1 = shape[0] // 4, shape[1] // 4, shape[0] * 3 // 4, shape[1] * 3 // 4
    image[y0:y1, x0:x1] = 255
    stage = ItemStage((64, 96), method, fill=(0, 0, 0))  # type: ignore[arg-type]
    shown = stage.load(image).numpy()[0] > 127
    factor, summand = placing([stage.place(*shape)])
    box = np.array([x0, y0, x1, y1]) * factor[0] + summand[0]
    np.testing.assert_allclose(box, around(shown), atol=1.0)


def test_borders_are_filled_where_a_colour_is_given() -> None:
    stage = ItemStage((8, 16), "pad", fill=(1, 2, 3))
    made = stage.load(np.full((8, 8, 3), 200, np.uint8))
    assert made[:, 0, 0].tolist() == [1, 2, 3] and made[:, 0, 8].tolist() == [200] * 3
    assert ItemStage((8, 16), "pad").load(np.full((8, 8, 3), 200, np.uint8)).min() == 200


@pytest.mark.parametrize("way", range(1, 9))
def test_boxes_of_a_stored_image_turn_with_it(way: int) -> None:
    stored = np.zeros((10, 16), np.uint8)
    stored[1:4, 2:9] = 255
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = way
    shown = np.array(ImageOps.exif_transpose(image))
    assert upright(np.array([[2.0, 1.0, 9.0, 4.0]]), (10, 16), way).tolist() == [around(shown).tolist()]


def test_placing_of_no_images_is_empty() -> None:
    assert placing([])[0].shape == (0, 4)
    factor, _ = placing([Placement((10, 20), (5, 10), 0, 0, (5, 10))] * 2)
    assert factor.tolist() == [[0.5] * 4] * 2
