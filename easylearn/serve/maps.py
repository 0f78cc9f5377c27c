"""What is said of an image's pixels, brought to the image's own size by NumPy: as torch does it, but without torch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..lab import coloured
from ..placement import Placement, palette

Bytes = npt.NDArray[np.uint8]
_AT_ONCE = 2**18  # pixels of the image that are made together: those of a large photograph, for each class, fill memory


def mask_of(probs: npt.NDArray[Any], place: Placement) -> Bytes:
    """The number of each pixel's class, (height, width) of the image, of probabilities (classes, h, w) of the frame.

    >>> mask_of(np.array([[[0.2]], [[0.8]]]), Placement((1, 2), (4, 4), 1, 0, (2, 4)))
    array([[1, 1]], dtype=uint8)
    """
    mask = np.zeros(place.shape, np.uint8)
    for at, maps in _enlarged(probs, place):
        best = maps[0].copy()
        for k, high in enumerate(maps[1:], 1):
            better = high > best
            np.copyto(best, high, where=better)
            np.copyto(mask[at], np.uint8(k), where=better)
    return mask


def image_of(values: npt.NDArray[Any], place: Placement, file: Bytes | None = None) -> Bytes:
    """The image, (height, width, 3), of red, green and blue (3, h, w) of the frame, from 0 to 1.

    With the pixels of a `file` it is of that file's light, and values are a and b of Lab, (2, h, w).
    """
    image = np.empty((*place.shape, 3), np.uint8)
    for at, maps in _enlarged(values, place):
        if file is None:
            image[at] = np.rint(maps.clip(0, 1) * 255).transpose(1, 2, 0)
        else:
            image[at] = coloured(file[at], maps)
    return image


def png_of(pixels: npt.NDArray[Any]) -> bytes:
    """A mask, in the colours of its classes, or an image, as a PNG file."""
    from PIL import Image

    image, held = Image.fromarray(pixels), io.BytesIO()
    if pixels.ndim == 2:
        image.putpalette([int(c) for c in palette(256).reshape(-1)])
    image.save(held, "PNG", compress_level=3)
    return held.getvalue()


def _enlarged(
    maps: npt.NDArray[Any], place: Placement
) -> Iterator[tuple[tuple[slice, slice], npt.NDArray[np.float32]]]:
    """Some rows of the image after others, very long ones in pieces, with their numbers (n, rows, columns)."""
    maps = maps.astype(np.float32, copy=False)
    if place.inner != place.frame:  # what was added around the image is cut off at the model's own size
        (top, left), (h, w) = (place.top, place.left), place.inner
        maps = _lerp(_lerp(maps, _steps(maps.shape[1], place.frame[0]), 1), _steps(maps.shape[2], place.frame[1]), 2)
        maps = maps[:, top : top + h, left : left + w]
    (height, width), n = place.shape, max(1, _AT_ONCE // place.shape[1])
    for top in range(0, height, n):
        rows = slice(top, top + n)
        some = _lerp(maps, _steps(maps.shape[1], height, rows), 1)
        for left in range(0, width, _AT_ONCE):
            columns = slice(left, left + _AT_ONCE)
            yield (rows, columns), _lerp(some, _steps(maps.shape[2], width, columns), 2)


def _steps(size: int, n: int, some: slice = slice(None)) -> tuple[npt.NDArray[Any], ...]:
    """Between which two of `size` numbers each of `n` new ones, or some, lies, and how near to the second: bilinear."""
    each = np.arange(*some.indices(n)).astype(np.float32)
    at = (np.float32(size / n) * (each + np.float32(0.5)) - np.float32(0.5)).clip(0)
    first = np.minimum(at.astype(np.int64), size - 1)
    return first, np.minimum(first + 1, size - 1), at - first.astype(np.float32)


def _lerp(maps: npt.NDArray[np.float32], steps: tuple[npt.NDArray[Any], ...], axis: int) -> npt.NDArray[np.float32]:
    first, second, near = steps
    if not near.any() and np.array_equal(first, np.arange(maps.shape[axis])):
        return maps
    near = near[:, None] if axis == 1 else near
    found: npt.NDArray[np.float32] = maps.take(first, axis) * (1 - near) + maps.take(second, axis) * near
    return found
