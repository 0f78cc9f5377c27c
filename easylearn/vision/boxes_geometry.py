"""Boxes that move with their image: from a file's pixels to the model's and back, and through the matrix of a warp.

Boxes are rows (xmin, ymin, xmax, ymax) in pixels, x right and y down from the upper left corner of the image; xmax and
ymax are where the box ends, so that a box over the first pixel alone is (0, 0, 1, 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..placement import Placement

Array = npt.NDArray[np.float64]
Size = tuple[int, int]  # (height, width)
KEPT = 0.25  # share of a moved box's area that must lie in the image: less of an object is no longer it


def moved_boxes(boxes: Array, matrix: Array, shape: Size, size: Size) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Boxes after a warp of their images, and which of them are still there.

    A box becomes the box around its inscribed ellipse, moved: `half' = sqrt(R**2 @ half**2)` for the inverse matrix R.
    What is in a box seldom reaches into its corners, so the box around those would be too large: of persons turned by
    10 degrees the box of the moved mask has an IoU of 0.90 with the first, and of 0.82 with the second. Mirrors and
    right angles are exact. Boxes are clipped to the image.

    Args:
        boxes: shape (b, m, 4), in pixels of the images before.
        matrix: where each pixel of the images after comes from, (b, 2, 3) or (b, 3, 3); see `Transform.matrix`.
        shape: of the images before.
        size: of the images after.

    Returns:
        The boxes, shape (b, m, 4), in pixels of the images after, and whether at least a quarter of each is left,
        shape (b, m).

    >>> mirror = np.array([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    >>> boxes, left = moved_boxes(np.array([[[0.0, 1.0, 2.0, 3.0]]]), mirror, (8, 8), (8, 8))
    >>> boxes.tolist(), left.tolist()
    ([[[6.0, 1.0, 8.0, 3.0]]], [[True]])
    """
    middle, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    whole = np.tile(np.eye(3), (len(matrix), 1, 1))
    whole[:, : matrix.shape[1]] = matrix
    inverse = np.linalg.inv(whole)
    at = middle - np.array([shape[1], shape[0]]) / 2
    found = at @ inverse[:, :2, :2].transpose(0, 2, 1) + inverse[:, None, :2, 2]
    depth = at @ inverse[:, 2, :2, None] + inverse[:, None, 2, 2, None]  # 1 but for a perspective
    # of a perspective the linear map that is nearest to it at the middle of the box
    slope = inverse[:, None, :2, :2] - (found / depth)[..., None] * inverse[:, None, 2:, :2]
    turned = np.sqrt(np.square(slope / depth[..., None]) @ np.square(half)[..., None])[..., 0]
    scale = np.array([size[1] / shape[1], size[0] / shape[0]])
    centre, reach = found / depth * scale + np.array([size[1], size[0]]) / 2, turned * scale
    moved = np.concatenate([centre - reach, centre + reach], -1)
    clipped = clip_boxes(moved, size)
    return clipped, (depth[..., 0] > 0) & (area(clipped) >= KEPT * area(moved)) & (area(clipped) > 0)


def clip_boxes(boxes: Array, size: Size) -> Array:
    """Boxes (..., 4) without what lies outside an image of that size.

    >>> clip_boxes(np.array([-1.0, 2.0, 9.0, 3.0]), (4, 8)).tolist()
    [0.0, 2.0, 8.0, 3.0]
    """
    clipped: Array = np.clip(boxes, 0.0, np.array([size[1], size[0], size[1], size[0]], np.float64))
    return clipped


def area(boxes: Array) -> Array:
    """The area of boxes (..., 4), shape (...)."""
    sides: Array = np.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    product: Array = sides.prod(-1)
    return product


def placing(places: Sequence[Placement]) -> tuple[Array, Array]:
    """Factors and summands for (x, y, x, y), both (n, 4), which put boxes of images where these lie in a model's frame.

    >>> factor, summand = placing([Placement((100, 200), (64, 64), 16, 0, (32, 64))])
    >>> (np.array([0.0, 0.0, 200.0, 100.0]) * factor[0] + summand[0]).tolist()
    [0.0, 16.0, 64.0, 48.0]
    """
    factor = np.array([(1 / p.scale[1], 1 / p.scale[0]) * 2 for p in places], np.float64).reshape(-1, 4)
    return factor, np.array([(p.left, p.top) * 2 for p in places], np.float64).reshape(-1, 4)


def upright(boxes: Array, stored: Size, orientation: int) -> Array:
    """Boxes (n, 4) in the pixels that a file stores, as they lie in the image that its EXIF orientation shows.

    >>> upright(np.array([[0.0, 0.0, 2.0, 1.0]]), (4, 8), 6).tolist()  # turned clockwise
    [[3.0, 0.0, 4.0, 2.0]]
    """
    h, w = stored
    x, y = boxes[:, 0::2], boxes[:, 1::2]
    if orientation in (2, 3, 7, 8):
        x = w - x
    if orientation in (3, 4, 6, 7):
        y = h - y
    if orientation >= 5:
        x, y = y, x
    return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], 1)
