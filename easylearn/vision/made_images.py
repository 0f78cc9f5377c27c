"""Inputs made of the images that are to be predicted: grey ones of coloured ones, coarse ones of sharp ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError, check_whole, did_you_mean
from .decode import ItemStage
from .dense import DensePreprocessor
from .preprocess import pair_of

Make = Literal["colour", "sharp", "pairs"]


@dataclass(frozen=True)
class MadeStage(ItemStage):
    """An `ItemStage` that takes away what is to be predicted: "colour" the colours, "sharp" the detail."""

    make: Make = "pairs"
    times: int = 4  # "sharp": how many times fewer pixels there are along each side

    def _fit(self, pixels: Tensor) -> Tensor:
        whole = super()._fit(pixels)
        if self.make == "colour":
            r, g, b = whole.to(torch.int32)
            grey = ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16).to(torch.uint8)  # ITU-R 601, as Pillow
            return torch.stack([grey, grey, grey])
        if self.make == "sharp":
            small = [max(1, round(n / self.times)) for n in self.size]
            coarse = F.interpolate(whole[None], small, mode="bicubic", antialias=True)
            sharp: Tensor = F.interpolate(coarse, self.size, mode="bicubic")[0].contiguous()
            return sharp
        return whole


@dataclass(frozen=True)
class MadePreprocessor(DensePreprocessor):
    """A `DensePreprocessor` whose inputs lack what is to be predicted; see `MadeStage`."""

    make: Make = "pairs"
    times: int = 4
    kind: ClassVar[str] = "made_images"
    in_recipes: ClassVar[tuple[str, ...]] = (*DensePreprocessor.in_recipes, "make", "times")

    def __post_init__(self) -> None:
        if self.make not in get_args(Make):
            raise ArgumentError(f"unknown make {self.make!r}. {did_you_mean(str(self.make), get_args(Make))}")
        check_whole("times", self.times, 2)
        if self.make == "sharp" and self.times > min(pair_of(self.size)) // 2:
            raise ArgumentError(
                f"times={self.times} leaves less than two pixels along a side of {min(pair_of(self.size))}, of which "
                "nothing can be made: take a smaller one, or a larger size"
            )
        if self.channels != 3:
            raise ArgumentError(f"images out of images have channels=3, grey ones are repeated; got {self.channels}")
        super().__post_init__()

    @cached_property
    def item_stage(self) -> ItemStage:
        """Decodes an image, brings it to size and takes away what is to be predicted."""
        how = self.method, self.channels, self.crop_pct, self.max_pixels
        return MadeStage(pair_of(self.size), *how, make=self.make, times=self.times)

    @property
    def whole_stage(self) -> ItemStage:
        """The same, with nothing taken away: what targets are read by."""
        return ItemStage(pair_of(self.size), self.method, self.channels, self.crop_pct, self.max_pixels)
