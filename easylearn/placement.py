"""Where an image lies in what a model gets, so that what is said of its pixels can be put back into its own.

What is served without torch needs this, too, and the colours in which classes are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Maps = TypeVar("Maps", bound=Any)  # a tensor or an array


@dataclass(frozen=True)
class Placement:
    """Where a whole image lies in the model's frame.

    Args:
        shape: (height, width) of the image, as it is looked at.
        frame: (height, width) of what the model gets.
        top, left: where the image begins in the frame, in its pixels.
        inner: (height, width) of the image in the frame.

    >>> place = Placement((100, 400), (64, 64), 24, 0, (16, 64))
    >>> place.scale
    (6.25, 6.25)
    """

    shape: tuple[int, int]
    frame: tuple[int, int]
    top: int
    left: int
    inner: tuple[int, int]

    @classmethod
    def whole(cls, shape: tuple[int, int], frame: tuple[int, int], squash: bool = False) -> Placement:
        """Where an image of a shape is put so that all of it is seen: with borders around it, or by `squash`.

        >>> Placement.whole((100, 400), (64, 64)).inner
        (16, 64)
        """
        if squash:
            return cls(shape, frame, 0, 0, frame)
        scale = min(frame[0] / shape[0], frame[1] / shape[1])
        h, w = (min(t, max(1, round(n * scale))) for n, t in zip(shape, frame, strict=True))
        return cls(shape, frame, (frame[0] - h) // 2, (frame[1] - w) // 2, (h, w))

    @property
    def scale(self) -> tuple[float, float]:
        """How many pixels of the image one of the frame is, down and across."""
        return self.shape[0] / self.inner[0], self.shape[1] / self.inner[1]

    def inside(self, x: Maps) -> Maps:
        """What of a map (..., h, w) of the frame shows the image, at the map's own size: not what is around it."""
        sides = []
        for n, frame, begin, inner in zip(x.shape[-2:], self.frame, (self.top, self.left), self.inner, strict=True):
            first = min(n - 1, round(begin * n / frame))
            sides.append(slice(first, max(first + 1, round((begin + inner) * n / frame))))
        found: Maps = x[..., sides[0], sides[1]]
        return found


def in_own_pixels(boxes: npt.NDArray[Any], place: Placement | None) -> npt.NDArray[np.float64]:
    """Boxes (k, 4) of the model's input in pixels of the image that lies there; as they are where nobody knows."""
    if place is None:
        return boxes
    down, across = place.scale
    begin, limit = np.array([place.left, place.top] * 2), np.array([place.shape[1], place.shape[0]] * 2)
    placed: npt.NDArray[np.float64] = np.clip((boxes - begin) * np.array([across, down] * 2), 0, limit)
    return placed


def palette(n: int) -> npt.NDArray[np.uint8]:
    """Colours of classes, (n, 3): well apart, the same for the same number; the first is dark grey.

    >>> palette(2)
    array([[ 70,  70,  70],
           [230,  80,  50]], dtype=uint8)
    """
    import colorsys

    first = [(70, 70, 70), (230, 80, 50), (60, 140, 220), (110, 180, 60), (245, 190, 40), (150, 90, 180),
             (60, 200, 190), (240, 130, 180), (140, 100, 60), (200, 220, 120), (30, 80, 120)]  # fmt: skip
    hues = ((k * 0.618034) % 1.0 for k in range(max(0, n - len(first))))
    more = [tuple(int(255 * v) for v in colorsys.hsv_to_rgb(h, 0.55 + 0.4 * (k % 2), 0.9)) for k, h in enumerate(hues)]
    return np.array([*first, *more][:n], np.uint8)
