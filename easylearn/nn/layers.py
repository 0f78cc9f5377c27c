"""Pooling layers between a body and its head."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConcatPool2d(nn.Module):
    """The largest and the average value of each channel, side by side: (b, c, h, w) to (b, 2c), maxima first.

    Args:
        channels_last: the feature map comes as (b, h, w, c), as Swin transformers give it.

    >>> ConcatPool2d()(torch.tensor([[[[1.0, 5.0]]]]))
    tensor([[5., 3.]])
    """

    def __init__(self, channels_last: bool = False) -> None:
        super().__init__()
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> Tensor:
        """Pool the feature map of each image."""
        # amax and mean, not the adaptive pooling layers: their gradients are deterministic on CUDA, too.
        dims = (1, 2) if self.channels_last else (2, 3)
        return torch.cat((x.amax(dims), x.mean(dims)), 1)

    def extra_repr(self) -> str:
        """Say which layout is read."""
        return "channels_last=True" if self.channels_last else ""


class TokenPool(nn.Module):
    """One vector per image from the tokens of a transformer: (b, n, c) to (b, 2c).

    With a class token: that token, then the average of the image's tokens (as DINO's linear evaluation
    does, arXiv 2104.14294). Without one: the largest and the average value, as `ConcatPool2d`.

    Args:
        n_prefix: how many tokens stand before those of the image (class token first, then registers).

    >>> TokenPool()(torch.tensor([[[1.0], [5.0]]]))
    tensor([[5., 3.]])
    >>> TokenPool(n_prefix=1)(torch.tensor([[[9.0], [1.0], [5.0]]]))
    tensor([[9., 3.]])
    """

    def __init__(self, n_prefix: int = 0) -> None:
        super().__init__()
        self.n_prefix = n_prefix

    def forward(self, x: Tensor) -> Tensor:
        """Pool the tokens of each image."""
        image = x[:, self.n_prefix :]
        first = x[:, 0] if self.n_prefix else image.amax(1)
        return torch.cat((first, image.mean(1)), 1)

    def extra_repr(self) -> str:
        """Say how many tokens are not the image's."""
        return f"n_prefix={self.n_prefix}"
