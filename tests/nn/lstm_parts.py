"""Small models and their reference, shared by the tests of the LSTM and of the models on top of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn.nn.awd_lstm import AWDLSTM, Drops

NONE = Drops(0.0, 0.0, 0.0, 0.0, 0.0)
ALL = Drops(0.1, 0.3, 0.4, 0.2, 0.3)


def encoder(n_layers: int = 3, drops: Drops = NONE, n_tokens: int = 30, emb: int = 6, hidden: int = 9) -> AWDLSTM:
    return AWDLSTM(n_tokens, emb, hidden, n_layers, drops=drops)


def tokens(rows: int, n: int, n_tokens: int = 30) -> Tensor:
    return torch.randint(2, n_tokens, (rows, n))


def stacked(model: AWDLSTM, x: Tensor) -> Tensor:
    """The same weights in torch's own modules, one after the other."""
    out = F.embedding(x, model.embedding.weight, model.embedding.padding_idx)
    for rnn in model.rnns:
        assert isinstance(rnn, nn.LSTM)
        out, _ = rnn(out)
    return out


def gradients(model: nn.Module, value: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, [p for p in model.parameters() if p.requires_grad], allow_unused=False))
