"""Heads: from one vector per item to logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, check_whole
from .dropout import Dropout
from .registry import register

MOST_LAYERS = 100
SMALL = 0.3  # deviation of the first outputs about the base rates: their loss is then 3 % above the entropy at most


@register("easylearn.pooled_head")
def pooled_head(
    n_features: int, n_out: int, hidden: Sequence[int] = (512,), ps: float | Sequence[float] | None = None
) -> nn.Sequential:
    """Blocks of BatchNorm, Dropout, Linear and ReLU, as fast.ai 0.7 put them; the last block has no ReLU.

    Linear weights start by Kaiming's rule (arXiv 1502.01852), biases at 0. In training mode a batch of one row has no
    variance and torch's batch-norm refuses it: the data merges such a last batch.

    Args:
        n_features: length of the incoming vectors.
        n_out: how many logits.
        hidden: sizes of the hidden layers; () gives one linear layer.
        ps: dropout probability before each linear layer: one number for every block, or one per block; None means 0.25
            for the hidden blocks and 0.5 for the last, 0.1 where it is the only one.

    Returns:
        A module from (b, n_features) to logits (b, n_out).

    >>> [type(layer).__name__ for layer in pooled_head(1024, 2, hidden=())]
    ['BatchNorm1d', 'Dropout', 'Linear']
    """
    check_layers(hidden)
    drops = checked_drops([*[0.25] * len(hidden), 0.5 if hidden else 0.1] if ps is None else ps, hidden, 1)
    check_whole("n_features", n_features)
    check_whole("n_out", n_out)
    sizes = [n_features, *hidden, n_out]
    layers: list[nn.Module] = []
    for size_in, size_out, p in zip(sizes[:-1], sizes[1:], drops, strict=True):
        linear = nn.Linear(size_in, size_out)
        nn.init.kaiming_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [nn.BatchNorm1d(size_in), Dropout(p), linear, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def begin_at(head: nn.Module, outputs: Tensor | None, slope: Tensor | None = None) -> None:
    """Let a new head begin near some `outputs`, (n_out,), whatever comes in; None leaves it as it is.

    The bias of its last linear layer becomes these, and its weights small: a head that begins at the base rates of the
    classes needs no steps to find them.

    Args:
        head: is new; its last linear layer is changed.
        outputs: of that layer.
        slope: by how much the model's outputs grow with them, (n_out,); None is 1.

    >>> begin_at(head := pooled_head(8, 2), torch.tensor([0.0, -3.0]))
    >>> head[-1].bias.tolist()
    [0.0, -3.0]
    """
    last = next((m for m in reversed(list(head.modules())) if isinstance(m, nn.Linear)), None)
    if outputs is None or last is None or last.bias is None or last.bias.shape != outputs.shape:
        return
    with torch.no_grad():
        last.weight.mul_(SMALL / (last.weight.square().mean().sqrt() * last.in_features**0.5).clamp_min(1e-12))
        last.weight.div_(torch.ones(1) if slope is None else slope.clamp_min(1).unsqueeze(1))
        last.bias.copy_(outputs)


def check_layers(sizes: Sequence[int]) -> None:
    """Refuse `sizes` of hidden layers that are none."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise ArgumentError(f"hidden layers are given as a list of sizes, such as [200, 100], got {sizes!r}")
    if len(sizes) > MOST_LAYERS:
        raise ArgumentError(f"there must be at most {MOST_LAYERS} hidden layers, got {len(sizes)}")
    for i, size in enumerate(sizes):
        check_whole(f"the size of the hidden layer {i}", size)


def checked_drops(ps: float | Sequence[float], sizes: Sequence[int], more: int) -> list[float]:
    """A dropout for each of the hidden layers of these `sizes`, see `check_layers`, and for as many `more` blocks."""
    n = len(sizes) + more
    drops = [float(ps)] * n if isinstance(ps, int | float) else [float(p) for p in ps]
    if len(drops) != n:
        raise ArgumentError(
            f"the hidden layers {list(sizes)} make {n} blocks, but ps has {len(drops)} dropouts {drops}; give one for "
            "each block, or one number for all"
        )
    if any(not 0.0 <= p < 1.0 for p in drops):
        raise ArgumentError(f"ps must be dropouts of at least 0 and below 1, got {ps}")
    return drops
