"""HistoryEncoder: from what a person took to scores of everything that can be taken next."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import keyed
from ..ranked import LEFT_OUT
from .dropout import Dropout
from .groups import LayerGroup
from .registry import register


@register("easylearn.history_encoder")
class HistoryEncoder(nn.Module):
    """A person's history to one vector, and that to a score for each item (the denoising autoencoder of 1802.05814).

    A person is what they took, so that nothing is kept of persons, and a new one needs no training. In training a share
    of a history is left out; in evaluation what is in it gets a score that no list shows.

    Args:
        n_items: how many items there are.
        n_factors: length of the vectors of persons and items.
        drop: the share of a history that training leaves out.
        seed: of the initial weights.

    >>> model = HistoryEncoder(5, 4).eval()
    >>> scores = model(torch.tensor([[1.0, 0, 0, 2.0, 0], [0, 0, 0, 0, 0]]))
    >>> scores.shape, sorted(scores[0].topk(3).indices.tolist())
    (torch.Size([2, 5]), [1, 2, 4])
    """

    def __init__(self, n_items: int, n_factors: int = 128, drop: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        with keyed.scoped_rng(seed, "history"):
            self.drop = Dropout(drop)
            self.encoder = nn.Linear(n_items, n_factors)
            self.decoder = nn.Linear(n_factors, n_items)

    def forward(self, history: Tensor) -> Tensor:
        """Scores (b, n_items) of histories: for each item how much of it a person took, 0 for nothing, (b, n_items)."""
        scores: Tensor = self.decoder(self.person(history))
        return scores if self.training else scores.masked_fill(history > 0, LEFT_OUT)

    def person(self, history: Tensor) -> Tensor:
        """The vectors of persons, (b, n_factors)."""
        return torch.tanh(self.encoder(self.drop(F.normalize(history))))

    def vectors(self) -> Tensor:
        """The vectors of the items, (n_items, n_factors)."""
        return self.decoder.weight.detach()

    def layer_groups(self) -> list[LayerGroup]:
        """Encoder and output."""
        return [LayerGroup("encoder", (self.encoder,)), LayerGroup("output", (self.decoder,))]
