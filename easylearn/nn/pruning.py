"""Which weights of a model are worth making smaller, and which of their numbers go first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEWEST = 256  # numbers in a tensor below which making it smaller gains nothing
FEWEST_INPUTS = 32  # that a convolution reads for an output, below which each of them matters


def is_large(tensor: Tensor) -> bool:
    """Whether a tensor is worth it: two dimensions or more, `FEWEST` numbers or more."""
    return tensor.ndim >= 2 and tensor.numel() >= FEWEST and tensor.is_floating_point()


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The large weights, by name, but for convolutions that read fewer than 32 numbers for an output.

    A depthwise convolution reads 9 and a first one 27: little to gain, and much to lose (arXiv 1710.01878, 4.1).

    >>> list(prunable(nn.Sequential(nn.Conv2d(64, 64, 3, groups=64), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 2))))
    ['1.weight']
    """
    named = model.named_parameters()
    return {n: p for n, p in named if is_large(p) and (p.ndim == 2 or p[0].numel() >= FEWEST_INPUTS)}


def smallest(weight: Tensor, fraction: float) -> Tensor:
    """Where the smallest numbers of a weight are, a `fraction` of them: a mask of its shape (arXiv 1506.02626).

    >>> smallest(torch.tensor([[3.0, -1.0], [0.5, -2.0]]), 0.5)
    tensor([[False,  True],
            [ True, False]])
    """
    mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[weight.detach().abs().flatten().topk(int(weight.numel() * fraction), largest=False).indices] = True
    return mask.reshape(weight.shape)
