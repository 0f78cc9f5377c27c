"""Which weights of a model are worth making smaller, and which of their numbers go first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEWEST = 256  # numbers in a tensor below which making it smaller gains nothing


def is_large(tensor: Tensor) -> bool:
    """Whether a tensor is worth it: two dimensions or more, `FEWEST` numbers or more."""
    return tensor.ndim >= 2 and tensor.numel() >= FEWEST and tensor.is_floating_point()


def large_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that are large, by name.

    >>> list(large_weights(nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2))))
    ['0.weight']
    """
    return {name: p for name, p in model.named_parameters() if is_large(p)}


def smallest(weight: Tensor, fraction: float) -> Tensor:
    """Where the smallest numbers of a weight are, a `fraction` of them: a mask of its shape (arXiv 1506.02626).

    >>> smallest(torch.tensor([[3.0, -1.0], [0.5, -2.0]]), 0.5)
    tensor([[False,  True],
            [ True, False]])
    """
    mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[weight.detach().abs().flatten().topk(int(weight.numel() * fraction), largest=False).indices] = True
    return mask.reshape(weight.shape)
