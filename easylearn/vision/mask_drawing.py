"""Masks drawn over images, each class in a colour of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import short
from ..losses import VOID
from ..placement import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRENGTH = 0.55  # of the colours over an image
MOST_NAMED = 20


def coloured(mask: Tensor) -> Tensor:
    """Class numbers (h, w) as colours in [0, 1], (3, h, w); what is void is white."""
    colours = torch.from_numpy(palette(256)).float() / 255
    colours[VOID] = 1.0
    return colours[mask.long()].permute(2, 0, 1)


def overlaid(image: Tensor, mask: Tensor, strength: float = STRENGTH) -> Tensor:
    """An image (c, h, w) in [0, 1] with a mask (h, w) over it: (3, h, w).

    Args:
        image: with 1 or 3 channels.
        mask: class numbers.
        strength: of the colours, from 0 to 1.
    """
    return torch.lerp(image.expand(3, -1, -1), coloured(mask), strength)


def draw_over(axes: Axes, mask: Tensor) -> None:
    """Draw a mask (h, w) over what `axes` show."""
    axes.imshow(coloured(mask.cpu()).permute(1, 2, 0).numpy(), alpha=STRENGTH, interpolation="nearest")


def name_colours(figure: Figure, names: Sequence[str]) -> None:
    """Say below a `figure` which colour each of the classes has, of the first that fit."""
    from matplotlib.patches import Patch

    colours = palette(len(names)) / 255
    patches = [Patch(color=tuple(c), label=short(n, 16)) for n, c in zip(names[:MOST_NAMED], colours, strict=False)]
    figure.legend(handles=patches, loc="lower center", ncols=4, fontsize=7, frameon=False)


def side_by_side(axes: Axes, images: Sequence[Tensor], gap: int = 4) -> None:
    """Draw images (c, h, w) of one size in a row, with a white gap between."""
    white = torch.ones(3, images[0].shape[1], gap)
    row = [part for image in images for part in (image.expand(3, -1, -1), white)][:-1]
    axes.imshow(torch.cat(row, 2).permute(1, 2, 0).clamp(0, 1).numpy())
    axes.set(xticks=[], yticks=[])
