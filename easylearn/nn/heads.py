"""Heads: from one vector per item to logits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import ArgumentError
from .dropout import Dropout
from .registry import register

MOST_LAYERS = 100


@register("easylearn.pooled_head")
def pooled_head(
    n_features: int, n_out: int, hidden: Sequence[int] = (512,), ps: float | Sequence[float] | None = None
) -> nn.Sequential:
    """Blocks of BatchNorm, Dropout, Linear and ReLU, as fast.ai 0.7 put them; the last block has no ReLU.

    Linear weights start by Kaiming's rule (arXiv 1502.01852), biases at 0. In training mode a batch of
    one row has no variance and torch's batch-norm refuses it: the data merges such a last batch.

    Args:
        n_features: length of the incoming vectors.
        n_out: how many logits.
        hidden: sizes of the hidden layers; () gives one linear layer.
        ps: dropout probability before each linear layer: one number for every block, or one per
            block; None means 0.25 for the hidden blocks and 0.5 for the last.

    Returns:
        A module from (b, n_features) to logits (b, n_out).

    Raises:
        ArgumentError: the number of probabilities does not fit, or a value is out of range.

    >>> [type(layer).__name__ for layer in pooled_head(1024, 2, hidden=())]
    ['BatchNorm1d', 'Dropout', 'Linear']
    """
    if len(hidden) > MOST_LAYERS:
        raise ArgumentError(f"a head has at most {MOST_LAYERS} hidden layers, got {len(hidden)}")
    sizes = [n_features, *hidden, n_out]
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ArgumentError(f"a head needs sizes of at least 1, got n_features, *hidden, n_out = {sizes}")
    n_blocks = len(sizes) - 1
    if ps is None:
        drops = [0.25] * (n_blocks - 1) + [0.5]
    elif isinstance(ps, int | float):
        drops = [float(ps)] * n_blocks
    else:
        drops = [float(p) for p in ps]
        if len(drops) != n_blocks:
            raise ArgumentError(
                f"ps has {len(drops)} probabilities, but a head with hidden={tuple(hidden)} has {n_blocks} blocks. "
                f"Give {n_blocks} of them, or one number for every block"
            )
    if any(not 0.0 <= p < 1.0 for p in drops):
        raise ArgumentError(f"ps must be probabilities of at least 0 and below 1, got {ps}")

    layers: list[nn.Module] = []
    for number, (size_in, size_out, p) in enumerate(zip(sizes[:-1], sizes[1:], drops, strict=True), start=1):
        linear = nn.Linear(size_in, size_out)
        nn.init.kaiming_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [nn.BatchNorm1d(size_in), Dropout(p), linear]
        if number < n_blocks:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
