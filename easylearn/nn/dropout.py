"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW_NUMBERS = 4096  # below, torch's one call is quicker than several that do less
SMALLEST_SHARE = 1 / 64  # below, a multiple of 1/256 is too coarse


class Dropout(nn.Dropout):
    """torch's dropout; on a CPU, where that draws one number at a time, by `drop_mask`.

    In files it is torch's. Small tensors, and probabilities near 0 or 1, are left to torch.

    Args:
        p: probability of a zero. By `drop_mask` it is a multiple of 1/256, and what is kept is divided by its exact
            share.

    >>> drop = Dropout(0.25)
    >>> kept = drop(torch.ones(64, 512))
    >>> round(kept.mean().item(), 1), drop.eval()(kept) is kept
    (1.0, True)
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            mask = self._mask(x)
            if mask is not None:
                return x * mask
        return F.dropout(x, self.p, self.training, self.inplace)

    @torch.jit.unused
    def _mask(self, x: Tensor) -> Tensor | None:
        """A mask; None where torch is quicker or more exact, or follows what is done to write it down."""
        if not self.training or torch.compiler.is_compiling() or type(x) not in (Tensor, nn.Parameter):
            return None
        if x.device.type != "cpu" or x.numel() < FEW_NUMBERS or not SMALLEST_SHARE <= self.p <= 1 - SMALLEST_SHARE:
            return None
        return drop_mask(x.shape, self.p, x)


def drop_mask(shape: Sequence[int], p: float, like: Tensor) -> Tensor:
    """A dropout mask of zeros and of 1 / (share that is kept), on the device and of the type of `like`.

    On the CPU, torch draws one Bernoulli number at a time. Here each random 64-bit number gives eight bytes, and a byte
    below a threshold is a zero: about ten times as fast. The share of zeros is then a multiple of 1/256, at least one
    of them, and what is kept is divided by its exact share. The global generator is the source.

    >>> sorted(set(drop_mask((50, 50), 0.5, torch.zeros(())).flatten().tolist()))
    [0.0, 2.0]
    """
    kept, scale = _draw_kept(shape, p, like.device)
    return kept.to(like.dtype).mul_(scale)


def drop_numbers(x: Tensor, p: float) -> Tensor:
    """`x * drop_mask(x.shape, p, x)`, keeping one byte a number for the backward pass and making no mask of floats."""
    kept, scale = _draw_kept(x.shape, p, x.device)
    return torch.mul(x, kept).mul_(scale)


def _draw_kept(shape: Sequence[int], p: float, device: torch.device) -> tuple[Tensor, float]:
    """Bytes that are 0 with probability p and otherwise 1, and what makes up for the zeros."""
    if p == 0.0:
        return torch.ones(shape, dtype=torch.uint8, device=device), 1.0
    if device.type != "cpu":
        return torch.empty(shape, dtype=torch.uint8, device=device).bernoulli_(1 - p), 1 / (1 - p)
    zeros = min(max(round(p * 256), 1), 255)
    n = math.prod(shape)
    # The whole range has to be asked for: without bounds random_ leaves the top bit at 0, and every eighth byte low.
    words = torch.empty((n + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.uint8)[:n].ge_(zeros).view(*shape), 256 / (256 - zeros)
