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


class HistorySum(nn.Module):
    """A linear layer over histories of length 1, in which training leaves out a share of what was taken.

    Of thousands of items a person took some dozens: on a CPU, training adds up their rows alone, which takes a third of
    the time of a product of matrices (128 persons, 2,828 items, 128 factors).

    Args:
        n_items, n_factors, drop: see `HistoryEncoder`.
    """

    def __init__(self, n_items: int, n_factors: int, drop: float) -> None:
        super().__init__()
        bound = n_items**-0.5  # as torch begins a linear layer
        self.weight = nn.Parameter(torch.empty(n_items, n_factors).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_factors).uniform_(-bound, bound))
        self.drop = Dropout(drop)

    def forward(self, history: Tensor) -> Tensor:
        """Sums (b, n_factors) of histories (b, n_items)."""
        if not self.training or history.device.type != "cpu":
            return F.linear(self.drop(F.normalize(history)), self.weight.T, self.bias)
        person, item = history.nonzero(as_tuple=True)
        much = self.drop(F.normalize(history)[person, item])
        starts = torch.bincount(person, minlength=len(history)).cumsum(0).roll(1)
        starts[:1] = 0
        total = F.embedding_bag(item, self.weight, starts, mode="sum", per_sample_weights=much.to(self.weight.dtype))
        return total + self.bias


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
            self.encoder = HistorySum(n_items, n_factors, drop)
            self.decoder = nn.Linear(n_factors, n_items)

    def forward(self, history: Tensor) -> Tensor:
        """Scores (b, n_items) of histories: for each item how much of it a person took, 0 for nothing, (b, n_items)."""
        scores: Tensor = self.decoder(self.person(history))
        return scores if self.training else scores.masked_fill(history > 0, LEFT_OUT)

    def person(self, history: Tensor) -> Tensor:
        """The vectors of persons, (b, n_factors)."""
        return torch.tanh(self.encoder(history))

    def vectors(self) -> Tensor:
        """The vectors of the items, (n_items, n_factors)."""
        return self.decoder.weight.detach()

    def layer_groups(self) -> list[LayerGroup]:
        """Encoder and output."""
        return [LayerGroup("encoder", (self.encoder,)), LayerGroup("output", (self.decoder,))]
