"""What a model says of the pixels of images: masks at the images' own sizes, made when they are asked for."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError, short
from ..files import StrPath, as_path, atomic_write
from ..mask_metrics import AT_ONCE
from ..placement import Placement, palette
from .predictions import Prediction, Predictions

if TYPE_CHECKING:
    from PIL import Image

_NOTED = 3  # classes that a text names
_UNFIT = re.compile(r'[\\/:*?"<>|\x00-\x1f]')  # what no name of a file may have, here or elsewhere
_LONGEST = 55  # characters of a name: file systems take 255 bytes, of up to 4 a character, and 26 are added


def placed(probs: Tensor, place: Placement | None) -> Tensor:
    """Probabilities (c, h, w) of the model's frame at the size of the whole image: (c, height, width)."""
    if place is None:
        return probs
    height, width = place.frame
    rows = slice(place.top, place.top + place.inner[0]), slice(place.left, place.left + place.inner[1])
    if place.inner == place.frame:
        return _wide(probs, place.shape)
    # What was added around the image is cut off at the model's own size.
    return _wide(_wide(probs, (height, width))[:, rows[0], rows[1]], place.shape)


def strongest(probs: Tensor, place: Placement | None) -> tuple[Tensor, Tensor]:
    """Of each pixel of the whole image the highest of the probabilities (c, h, w), and whose it is: (height, width).

    A few classes are enlarged at a time: all of a photograph of 12 million pixels would be a gigabyte for 20 classes.
    """
    height, width = probs.shape[-2:] if place is None else place.shape
    few = max(1, AT_ONCE // (height * width))
    best, number = torch.full((height, width), -1.0), torch.zeros(height, width, dtype=torch.uint8)
    for first in range(0, len(probs), few):
        high, whose = placed(probs[first : first + few], place).max(0)
        better = high > best
        best = torch.where(better, high, best)
        number = torch.where(better, (whose + first).to(torch.uint8), number)
    return best, number


def _wide(probs: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(probs.shape[-2:]) == tuple(size):
        return probs
    return F.interpolate(probs[None], size, mode="bilinear", align_corners=False)[0]


@dataclass(frozen=True, eq=False, repr=False)
class MaskPrediction(Prediction):
    """What a model says of each pixel of one image; see `Prediction`.

    Attributes:
        label: the names of the classes in it, the largest first.
        probs: shape (classes, h, w), at the size in which the model gives them.

    >>> one = MaskPrediction(("sky",), None, torch.tensor([[[0.2]], [[0.8]]]), ("road", "sky"))
    >>> one.mask, one.to_dict()
    (array([[1]], dtype=uint8), {'road': 0.0, 'sky': 1.0})
    """

    @cached_property
    def mask(self) -> npt.NDArray[np.uint8]:
        """The number of each pixel's class, (height, width) at the image's own size."""
        found: npt.NDArray[np.uint8] = strongest(self.probs, self.place)[1].numpy()
        return found

    @property
    def sure(self) -> npt.NDArray[np.float32]:
        """The probability of the class that was chosen, of each pixel of `mask`."""
        found: npt.NDArray[np.float32] = strongest(self.probs, self.place)[0].numpy()
        return found

    def to_dict(self) -> dict[str, float]:
        """Which share of the image each class has."""
        counts = np.bincount(self.mask.reshape(-1), minlength=len(self.names))
        return dict(zip(self.names, (counts / max(1, self.mask.size)).tolist(), strict=True))

    def to_image(self, values: Sequence[int] = ()) -> Image.Image:
        """The mask as a Pillow image with a palette; `values` are the numbers of the classes, () their positions."""
        from PIL import Image

        numbers = np.array(values or range(len(self.names)), np.uint8)
        image = Image.fromarray(numbers[self.mask])
        image.putpalette([int(c) for c in palette(256).reshape(-1)])
        return image

    def save_png(self, path: StrPath, values: Sequence[int] = ()) -> Path:
        """Write the mask as a PNG file of the image's own size; `values` as in `to_image`."""
        file = as_path(path, "a file such as mask.png")
        with atomic_write(file) as temporary:
            self.to_image(values).save(temporary, format="PNG")
        return file

    def __repr__(self) -> str:
        shares = sorted(self.to_dict().items(), key=lambda pair: -pair[1])[:_NOTED]
        height, width = self.mask.shape
        return f"MaskPrediction({height} x {width}: {', '.join(f'{short(n, 30)} {p:.0%}' for n, p in shares)})"


@dataclass(frozen=True, eq=False, repr=False)
class MaskPredictions(Predictions):
    """What a model says of the pixels of several images; see `Predictions`. `probs` has shape (n, classes, h, w)."""

    def mask(self, i: int) -> npt.NDArray[np.uint8]:
        """The mask of image `i` at its own size; it is made when it is asked for."""
        found: npt.NDArray[np.uint8] = self[operator.index(i)].mask  # type: ignore[attr-defined]
        return found

    def save_png(self, folder: StrPath) -> list[Path]:
        """Write each mask as a PNG of its image's size into a `folder`, under its id with slashes as underscores.

        Where two would have one name each begins with its number. The numbers in a mask are those of the files that the
        model was trained with; where these had colours, the classes' positions.

        Raises:
            ArgumentError: `folder` is a file.
            SaveError: it cannot be written.
        """
        into = as_path(folder, "a folder")
        if into.exists() and not into.is_dir():
            raise ArgumentError(f"save_png writes a file for each image into a folder, and {into} is a file")
        names = [f"{Path(_UNFIT.sub('_', i)).stem[-_LONGEST:]}.png" for i in self.ids]
        if len({name.casefold() for name in names}) < len(names):
            names = [f"{k:06d}_{name}" for k, name in enumerate(names)]
        values = self.task.settings().get("values", ())
        return [self[k].save_png(into / name, values) for k, name in enumerate(names)]  # type: ignore[attr-defined]
