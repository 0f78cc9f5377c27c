"""Decoders: from a body's maps of several sizes to one map at the finest of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ArgumentError, StateError, check_whole
from .body_head import BodyHead
from .groups import LayerGroup

_BASE = 1024  # numbers below it are exact in half precision
_MOST = torch.finfo(torch.float16).max
Maps = Sequence[Tensor] | Tensor
"""Maps (b, c, h, w), the finest first; or what `pack` made of them."""


def pack(maps: Sequence[Tensor]) -> Tensor:
    """Maps of several sizes as one row of half-precision numbers for each item, which says how to unpack it.

    Args:
        maps: each (b, c, h, w).

    Returns:
        Shape (b, n): the number of maps, the shape of each, all their numbers.

    >>> maps = [torch.ones(2, 3, 4, 5), torch.zeros(2, 1, 2, 3)]
    >>> pack(maps).shape, [m.shape for m in unpack(pack(maps))]
    (torch.Size([2, 79]), [torch.Size([2, 3, 4, 5]), torch.Size([2, 1, 2, 3])])
    """
    shapes = [part for m in maps for size in m.shape[1:] for part in divmod(int(size), _BASE)]
    head = torch.tensor([len(maps), *shapes], dtype=torch.float16, device=maps[0].device)
    rows = [m.flatten(1).clamp(-_MOST, _MOST).half() for m in maps]
    return torch.cat([head.expand(len(maps[0]), -1), *rows], 1)


def unpack(packed: Tensor) -> list[Tensor]:
    """The maps, float32, that `pack` made the rows of."""
    n = int(packed[0, 0])
    parts = packed[0, 1 : 1 + 6 * n].long().view(n, 3, 2)
    shapes = (parts[..., 0] * _BASE + parts[..., 1]).tolist()
    rows = packed[:, 1 + 6 * n :].float().split_with_sizes([math.prod(shape) for shape in shapes], 1)
    return [row.view(-1, *shape) for row, shape in zip(rows, shapes, strict=True)]


def as_maps(maps: Maps) -> Sequence[Tensor]:
    """The maps, unpacked where they are packed."""
    return unpack(maps) if isinstance(maps, Tensor) else maps


def resize(x: Tensor, size: Any) -> Tensor:
    """A map (b, c, h, w) at another (height, width), bilinearly."""
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)


class LightDecoder(nn.Module):
    """Maps brought to one width by 1x1 convolutions and summed top down (arXiv 1612.03144), one 3x3 at the finest size.

    Args:
        channels: of the maps, the finest first.
        n_out: channels of what comes out.
        width: channels in between.
        drop: dropout of whole channels before the last layer.

    >>> LightDecoder([8, 16], 3)([torch.zeros(2, 8, 9, 12), torch.zeros(2, 16, 5, 6)]).shape
    torch.Size([2, 3, 9, 12])
    """

    def __init__(self, channels: Sequence[int], n_out: int, width: int = 64, drop: float = 0.1) -> None:
        super().__init__()
        check_decoder(channels, n_out, width)
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout2d(drop),
        )  # fmt: skip
        self.out = nn.Conv2d(width, n_out, 1)

    def forward(self, maps: Maps) -> Tensor:
        """Logits at the size of the finest map, (b, n_out, h, w)."""
        layers = list(zip(self.lateral, as_maps(maps), strict=True))
        *finer, (layer, coarsest) = layers
        x = layer(coarsest)
        for layer, one in reversed(finer):
            x = resize(x, one.shape[-2:]) + layer(one)
        out: Tensor = self.out(self.mix(x))
        return out


class UnetDecoder(nn.Module):
    """U-Net's way up (arXiv 1505.04597): enlarged twice, joined with the next finer map, two 3x3 convolutions.

    Args:
        channels: of the maps, the finest first.
        n_out: channels of what comes out.
        width: channels at the finest size; each coarser one has twice as many, up to 256.

    >>> UnetDecoder([8, 16], 3)([torch.zeros(2, 8, 9, 12), torch.zeros(2, 16, 5, 6)]).shape
    torch.Size([2, 3, 9, 12])
    """

    def __init__(self, channels: Sequence[int], n_out: int, width: int = 32) -> None:
        super().__init__()
        check_decoder(channels, n_out, width)
        widths = [min(256, width * 2**k) for k in range(len(channels) - 1)]
        above = [*widths[1:], channels[-1]]
        self.ups = nn.ModuleList(
            nn.Sequential(_conv(deep + own, wide), _conv(wide, wide))
            for deep, own, wide in zip(above, channels, widths, strict=False)
        )
        self.out = nn.Conv2d(widths[0] if widths else channels[0], n_out, 1)

    def forward(self, maps: Maps) -> Tensor:
        """Logits at the size of the finest map, (b, n_out, h, w)."""
        *finer, x = as_maps(maps)
        for up, own in reversed(list(zip(self.ups, finer, strict=True))):
            x = up(torch.cat([F.interpolate(x, own.shape[-2:], mode="nearest"), own], 1))
        out: Tensor = self.out(x)
        return out


def _conv(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))


def check_decoder(channels: Sequence[int], n_out: int, width: int) -> None:
    """Refuse what no decoder can be made of."""
    if not channels:
        raise ArgumentError("a decoder needs the channels of at least one map")
    for name, value in itertools.chain((("n_out", n_out), ("width", width)), (("channels", c) for c in channels)):
        check_whole(name, value)


class Pack(nn.Module):
    """See `pack`; what precompute keeps of a pyramid."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps to rows."""
        return pack(maps)


class PyramidModel(BodyHead):
    """`decoder(pyramid(x))`, in three layer groups: the body's stem, its late layers, and the decoder.

    Args:
        body: images (b, 3, h, w) to a list of maps, the finest first.
        decoder: those maps, or what `pack` makes of them, to what comes out.
        body_groups: see `BodyHead`.
        mean, std: see `BodyHead`.
    """

    feature_dtype = torch.float16

    def __init__(
        self, body: nn.Module, decoder: nn.Module, body_groups: Sequence[tuple[nn.Module, ...]],
        mean: Sequence[float] = (), std: Sequence[float] = (),
    ) -> None:  # fmt: skip
        super().__init__(body, Pack(), decoder, body_groups, mean, std)

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the decoder gives of the `inputs` that the body takes, such as (b, n_out, h, w)."""
        out: Tensor = self.head(self.body(*inputs))
        return out

    def layer_groups(self) -> tuple[LayerGroup, ...]:
        """Three groups: "stem", "late" and "decoder"."""
        stem, late, head = super().layer_groups()
        return stem, late, LayerGroup("decoder", head.modules)


class RefiningModel(PyramidModel):
    """`image + decoder(pyramid(x))`: what is to be added to the image that came in, whose pixels are in [0, 1].

    The decoder's channels become pixels (arXiv 1609.05158).

    Args:
        body, decoder, body_groups, mean, std: see `PyramidModel`.
        times: how many pixels along each side become of one of the decoder's; it gives `times ** 2` numbers for each.
    """

    def __init__(
        self, body: nn.Module, decoder: nn.Module, body_groups: Sequence[tuple[nn.Module, ...]],
        mean: Sequence[float], std: Sequence[float], times: int,
    ) -> None:  # fmt: skip
        super().__init__(body, decoder, body_groups, mean, std)
        self.times = times

    def forward(self, *inputs: Tensor) -> Tensor:
        """Images (b, 3, h, w), normalised, to images in [0, 1] of the same size."""
        (x,) = inputs
        added = F.pixel_shuffle(self.head(self.body(x)), self.times)
        mean, std = (v.view(1, -1, 1, 1) for v in (self.mean, self.std))
        return x * std + mean + resize(added, x.shape[-2:])

    def features(self, *inputs: Tensor) -> Tensor:
        """Refused: what is added depends on the image, too."""
        raise StateError("this model adds to the image that comes in, which precompute does not keep: leave it out")
