"""Colours of images as numbers that are predicted: the Lab space, and how near predicted images are (PSNR).

Images that are true are uint8 (n, 3, h, w). What is predicted of them has two channels, a and b of Lab, or three: red,
green and blue in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import ArgumentError
from .lab import EDGE, WHITE, XYZ
from .metrics import Metric, mean_metric

AB_SCALE = 100.0  # a and b are from -128 to 127, most below 60: a model gives them divided by this
_AB_PEAK = 255.0


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """SRGB in [0, 1], (n, 3, h, w), to CIE Lab of daylight (D65): L from 0 to 100, a and b from -128 to 127.

    >>> rgb_to_lab(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)).flatten().round().tolist()
    [53.0, 80.0, 67.0]
    """
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp_min(0.0) + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("ij,njhw->nihw", _matrix(rgb), linear)
    t = xyz.clamp_min(0.0)
    f = torch.where(t > EDGE**3, t ** (1 / 3), t / (3 * EDGE**2) + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def _matrix(like: Tensor) -> Tensor:
    white = torch.tensor(WHITE, dtype=like.dtype, device=like.device)
    return torch.tensor(XYZ, dtype=like.dtype, device=like.device) / white[:, None]


def wanted_of(image: Tensor, channels: int) -> Tensor:
    """What is to be predicted of images, uint8 (n, 3, h, w): a and b for 2 `channels`, red, green and blue for 3."""
    if image.ndim != 4 or image.shape[1] != 3 or channels not in (2, 3):
        raise ArgumentError(
            f"images are predicted in 2 or 3 channels and compared with such (n, 3, h, w), got {channels} channels and "
            f"{tuple(image.shape)}"
        )
    rgb = image.float() / 255
    return rgb if channels == 3 else rgb_to_lab(rgb)[:, 1:]


def squared_errors(probs: Tensor, image: Tensor) -> Tensor:
    """The mean squared error of each image, (n,), as a share of the squared range of the numbers.

    Args:
        probs: (n, 2, h, w) of a and b, or (n, 3, h, w); brought to the size of the image.
        image: uint8, (n, 3, height, width).
    """
    wanted = wanted_of(image, probs.shape[1])
    if probs.shape[2:] != wanted.shape[2:]:
        probs = F.interpolate(probs, wanted.shape[2:], mode="bilinear", align_corners=False)
    peak = _AB_PEAK if probs.shape[1] == 2 else 1.0
    return ((probs - wanted) / peak).square().flatten(1).mean(1)


def _decibels(mean: Tensor) -> Tensor:
    return -10 * mean.clamp_min(1e-12).log10()


psnr: Metric = mean_metric("psnr", squared_errors, True, finish=_decibels)
"""The peak signal-to-noise ratio in decibels, of all pixels of a split together."""
