"""Where an image lies in what a model gets, so that what is said of its pixels can be put back into its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


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

    @property
    def scale(self) -> tuple[float, float]:
        """How many pixels of the image one of the frame is, down and across."""
        return self.shape[0] / self.inner[0], self.shape[1] / self.inner[1]

    def inside(self, x: Tensor) -> Tensor:
        """What of a map (..., h, w) of the frame shows the image, at the map's own size: not what is around it."""
        sides = []
        for n, frame, begin, inner in zip(x.shape[-2:], self.frame, (self.top, self.left), self.inner, strict=True):
            first = min(n - 1, round(begin * n / frame))
            sides.append(slice(first, max(first + 1, round((begin + inner) * n / frame))))
        return x[..., sides[0], sides[1]]
