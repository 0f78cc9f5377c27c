"""2018's `fastai.layers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["AdaptiveConcatPool2d", "Flatten", "Lambda", "nn", "torch"]


class AdaptiveConcatPool2d(nn.Module):
    """Maxima and averages of each channel, side by side: (b, c, h, w) to (b, 2c, *sz), maxima first.

    Args:
        sz: of what comes out; None is one number per channel.
    """

    def __init__(self, sz: int | tuple[int, int] | None = None) -> None:
        super().__init__()
        self.sz = sz or 1

    def forward(self, x: Tensor) -> Tensor:
        """Pool the feature maps `x`."""
        return torch.cat([F.adaptive_max_pool2d(x, self.sz), F.adaptive_avg_pool2d(x, self.sz)], 1)


class Lambda(nn.Module):
    """A function as a layer.

    Args:
        f: of the input.
    """

    def __init__(self, f: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Any:
        """`f` of `x`."""
        return self.f(x)


class Flatten(nn.Module):
    """All but the first dimension as one."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` of shape (n, ...) as (n, k)."""
        return x.flatten(1)
