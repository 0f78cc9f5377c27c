"""Layers between a body and its head: pooling, and a batch-norm for short training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
        # amax and mean, not the adaptive pooling layers: their gradients are deterministic on CUDA, too.
        dims = (1, 2) if self.channels_last else (2, 3)
        return torch.cat((x.amax(dims), x.mean(dims)), 1)

    def extra_repr(self) -> str:
        return "channels_last=True" if self.channels_last else ""


class TokenPool(nn.Module):
    """One vector per image from the tokens of a transformer: (b, n, c) to (b, 2c).

    With a class token: that token, then the average of the image's tokens (as DINO's linear evaluation does, arXiv
    2104.14294). Without one: the largest and the average value, as `ConcatPool2d`.

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
        image = x[:, self.n_prefix :]
        first = x[:, 0] if self.n_prefix else image.amax(1)
        return torch.cat((first, image.mean(1)), 1)

    def extra_repr(self) -> str:
        return f"n_prefix={self.n_prefix}"


class WarmBatchNorm1d(nn.BatchNorm1d):
    """Batch-norm whose running statistics are right from the first batches on.

    torch's begin at mean 0 and variance 1 and forget that by a tenth per batch: where inputs vary little, evaluation is
    wrong for the first fifty steps, which is most of the training on a few hundred texts. Here the first ten batches
    are averaged; from then on it is torch's rule.

    >>> layer = WarmBatchNorm1d(1)
    >>> _ = layer(torch.tensor([[10.0], [10.2]]))
    >>> round(float(layer.running_mean), 4)
    10.1
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        normalised = F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        with torch.no_grad():  # torch's own kernel takes a number as momentum: on a GPU to read it would be a wait
            assert self.num_batches_tracked is not None
            kind = self.running_mean.dtype
            weight = self.num_batches_tracked.add_(1).to(kind).reciprocal().clamp_min(0.1)
            variance, mean = torch.var_mean(x.to(kind), 0)
            self.running_mean.lerp_(mean, weight)
            self.running_var.lerp_(variance, weight)
        return normalised
