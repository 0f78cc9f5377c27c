"""2018's `fastai.rnn_reg`: the dropouts of AWD-LSTM as modules, for recurrent models that are put together by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from . import core
from .imports import star
from .nn.dropout import drop_mask


def dropout_mask(x: Tensor, sz: Sequence[int], dropout: float) -> Tensor:
    """Zeros with probability `dropout`, else `1 / (1 - dropout)`: of shape `sz`, and of the type of `x`."""
    return drop_mask(tuple(sz), dropout, x)


class LockedDropout(nn.Module):
    """Drops the same numbers at each step of a sequence (sl, bs, width), each with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop numbers of `x`, in training."""
        return x * drop_mask((1, *x.shape[1:]), self.p, x) if self.training and self.p else x


class WeightDrop(nn.Module):
    """Runs a recurrent layer with some of its weights dropped, anew at each call.

    Args:
        module: the layer.
        dropout: probability.
        weights: names of its weights.
    """

    def __init__(self, module: nn.Module, dropout: float, weights: Sequence[str] = ("weight_hh_l0",)) -> None:
        super().__init__()
        self.module, self.dropout, self.weights = module, dropout, tuple(weights)

    def forward(self, *args: Any) -> Any:
        """What the layer gives for `args`."""
        own = dict(self.module.named_parameters())
        dropped = {name: F.dropout(own[name], self.dropout, self.training) for name in self.weights}
        return functional_call(self.module, dropped, args)


class EmbeddingDropout(nn.Module):
    """Looks words up with whole words dropped: every occurrence in the batch at once.

    Args:
        embed: the vectors.
    """

    def __init__(self, embed: nn.Embedding) -> None:
        super().__init__()
        self.embed = embed

    def forward(self, words: Tensor, dropout: float = 0.1, scale: Tensor | None = None) -> Tensor:
        """Vectors of `words`, each dropped with probability `dropout`, then times `scale` where it is given."""
        weight = self.embed.weight
        if dropout:
            weight = weight * drop_mask((len(weight), 1), dropout, weight)
        if scale is not None:
            weight = scale.expand_as(weight) * weight
        return F.embedding(words, weight, self.embed.padding_idx)


__all__ = star(globals(), core, own=["EmbeddingDropout", "LockedDropout", "WeightDrop", "dropout_mask"])
