"""Several networks at once: a layer of all of them is one product, and they share the rows of large batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST, WORK = 6, 15_000_000  # members that learn from a row, and what costs about as much as all else in a step
UNIT_WORK = 60  # weights whose product takes as long as batch-norm, ReLU and dropout of a number


class MemberLinear(nn.Module):
    """A linear layer of each of several networks, in one product.

    Args:
        members: how many networks.
        n_in, n_out: numbers that come in and go out of each.
        bias: whether something is added.

    >>> MemberLinear(3, 4, 2)(torch.zeros(3, 4, 16)).shape
    torch.Size([1, 6, 16])
    """

    def __init__(self, members: int, n_in: int, n_out: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, n_out, n_in))
        for weight in self.weight:
            nn.init.kaiming_normal_(weight)
        bound = n_in**-0.5  # as nn.Linear has it
        self.bias = nn.Parameter(torch.empty(members, n_out, 1).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(members, n_in, b) or (1, members * n_in, b) to (1, members * n_out, b), as batch-norm takes channels."""
        x = x.view(len(self.weight), self.weight.shape[2], -1)
        x = torch.bmm(self.weight, x) if self.bias is None else torch.baddbmm(self.bias, self.weight, x)
        return x.flatten(0, 1).unsqueeze(0)


def learning(members: int, work: int) -> int:
    """How many members learn from each row of a batch: as many as take some three times as long as one network.

    Args:
        members: how many there are.
        work: rows of the batch times weights of a network, with `UNIT_WORK` for each unit. Beside it a step costs much
            the same whatever there is to do, so of small batches all learn.

    >>> [learning(8, rows * 45_000) for rows in (64, 128, 1024)]
    [8, 8, 6]
    """
    return min(members, LEAST + WORK // max(1, work))


def deal(x: Tensor, members: int, m: int) -> Tensor:
    """The rows that each member learns from, (members, n, width), of rows (b, members, width) of which m each learn.

    Row i is for the members i, i + 1, ..., i + m - 1, counted round. The first rows fill up the places that are over,
    each once: a row many times over would be much of what batch-norm sees of a small batch.
    """
    if m == members:
        return x.transpose(0, 1)
    group, slot = torch.arange(-(-x.shape[0] // members)).view(-1, 1), torch.arange(m)
    member = torch.arange(members).view(-1, 1, 1)
    rows = (group * members + (member - slot) % members) % x.shape[0]
    places = (rows * members + member).flatten().to(x.device)
    return x.flatten(0, 1).index_select(0, places).view(members, -1, x.shape[2])


def collect(x: Tensor, members: int, m: int, b: int) -> Tensor:
    """What came of the rows that were dealt, (members, n, n_out), in their order again: (b, m, n_out)."""
    if m == members:
        return x.transpose(0, 1)
    row, slot = torch.arange(b, device=x.device).view(-1, 1), torch.arange(m, device=x.device)
    return x[(row + slot) % members, row // members * m + slot]
