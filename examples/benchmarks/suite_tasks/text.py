"""AWD-LSTM as a language model: 400 numbers per word, three layers of 1,152, a vocabulary of 10,000, 32 rows of 70.

Tokens per second of training steps. "plain" are `nn.LSTM`s without any dropout: the bound. "best" has all of AWD-LSTM's
dropouts and penalties, written by hand. Words follow Zipf's law. Ours is the time of a whole call of `fit`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .editions import training_loader
from .settings import Repeat, Settings

ROWS, WINDOW = 32, 70
Batches = list[tuple[Tensor, Tensor]]


def sizes(settings: Settings) -> dict[str, int]:
    return {"vocab": settings.pick(10_000, 200), "emb": settings.pick(400, 16), "hidden": settings.pick(1152, 24)}


def n_steps(settings: Settings) -> int:
    return settings.pick(2, 1)


def tokens(settings: Settings, n: int) -> Tensor:
    share = 1 / torch.arange(1, sizes(settings)["vocab"] + 1).float()
    return torch.multinomial(share, n, replacement=True, generator=torch.Generator().manual_seed(1))


def windows(settings: Settings) -> Batches:
    long = WINDOW * n_steps(settings)
    stream = tokens(settings, ROWS * (long + 1)).view(ROWS, -1)
    return [
        (stream[:, i : i + WINDOW].contiguous(), stream[:, i + 1 : i + WINDOW + 1].contiguous())
        for i in range(0, long, WINDOW)
    ]


# -- by hand -----------------------------------------------------------------------------------------------


class Reader(nn.Module):
    """Embedding, three LSTMs whose state goes on, and a decoder with the embedding's weight.

    Args:
        vocab, emb, hidden: sizes.
        drop: False drops nothing; True drops as AWD-LSTM does (arXiv 1708.02182).
    """

    def __init__(self, vocab: int, emb: int, hidden: int, drop: bool) -> None:
        super().__init__()
        self.drop = drop
        self.embedding = nn.Embedding(vocab, emb)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        pairs = ((emb, hidden), (hidden, hidden), (hidden, emb))
        self.layers = nn.ModuleList(nn.LSTM(wide, out, batch_first=True) for wide, out in pairs)
        self.bias = nn.Parameter(torch.zeros(vocab))
        self.states: list[Any] = [None] * len(pairs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, and the last layer's outputs before and after dropout."""
        weight = self.embedding.weight
        if self.drop:
            weight = weight * mask(weight, (len(weight), 1), 0.02)
        out = F.embedding(x, weight)
        if self.drop:
            out = locked(out, 0.25)
        raw = out
        for i, layer in enumerate(self.layers):
            raw = self._read(i, layer, out)
            out = locked(raw, 0.15 if i < len(self.layers) - 1 else 0.1) if self.drop else raw
        return F.linear(out, self.embedding.weight, self.bias), raw, out

    def _read(self, i: int, layer: Any, x: Tensor) -> Tensor:
        state = self.states[i]
        if state is None:
            state = (x.new_zeros(1, len(x), layer.hidden_size),) * 2
        if self.drop:
            recurrent = F.dropout(layer.weight_hh_l0, 0.2)
            weights = [layer.weight_ih_l0, recurrent, layer.bias_ih_l0, layer.bias_hh_l0]
            out, *new = torch._VF.lstm(x, state, weights, True, 1, 0.0, True, False, True)
        else:
            out, new = layer(x, state)
        self.states[i] = tuple(t.detach() for t in new)
        return out


def mask(like: Tensor, shape: tuple[int, ...], p: float) -> Tensor:
    """Zeros with probability p, else 1 / (1 - p)."""
    return torch.empty(shape, dtype=like.dtype).bernoulli_(1 - p).div_(1 - p)


def locked(x: Tensor, p: float) -> Tensor:
    """Dropout that is the same at all places of a row."""
    return x * mask(x, (len(x), 1, x.shape[2]), p)


def by_hand(settings: Settings, drop: bool) -> Repeat:
    model = Reader(**sizes(settings), drop=drop)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=drop or None)
    batches = windows(settings)

    def repeat() -> dict[str, float]:
        model.train()
        begun = settings.now()
        for x, y in batches:
            logits, raw, out = model(x)
            loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
            if drop:
                loss = loss + 2 * out.square().mean() + (raw[:, 1:] - raw[:, :-1]).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
        return {"rate": len(batches) * ROWS * WINDOW / (settings.now() - begun)}

    return repeat


def plain(settings: Settings) -> Repeat:
    return by_hand(settings, drop=False)


def best(settings: Settings) -> Repeat:
    return by_hand(settings, drop=True)


# -- libraries ---------------------------------------------------------------------------------------------


def easylearn(settings: Settings) -> Repeat:
    from easylearn import TextLMData, Vocab, language_model_learner

    size = sizes(settings)
    specials = len(Vocab([]))
    words = [f"w{i}" for i in range(size["vocab"] - specials)]
    said = [words[i] for i in tokens(settings, ROWS * (WINDOW * n_steps(settings) + 1)).clamp(max=len(words) - 1)]
    texts = [" ".join(said[i : i + 500]) for i in range(0, len(said), 500)]
    data = TextLMData.from_lists(texts, valid=None, vocab=Vocab(words), batch_size=ROWS, bptt=WINDOW, progress=False)
    learn = language_model_learner(data, emb_size=size["emb"], n_hidden=size["hidden"], device="cpu")
    n = sum(batch.inputs[0].numel() for batch in training_loader(data).batches(torch.device("cpu")))

    def repeat() -> dict[str, float]:
        begun = settings.now()
        learn.fit(1e-3, 1, cycle_len=None)
        return {"rate": n / (settings.now() - begun)}

    return repeat


def fastai(settings: Settings) -> Repeat:
    """Its defaults, with AR and TAR; training alone is timed."""
    from fastai.text.all import (
        AWD_LSTM,
        Callback,
        CrossEntropyLossFlat,
        DataLoaders,
        LMLearner,
        awd_lstm_lm_config,
        awd_lstm_lm_split,
        get_language_model,
    )

    took: list[float] = []

    class Clock(Callback):
        def before_train(self) -> None:
            self.begun = settings.now()

        def after_train(self) -> None:
            took.append(settings.now() - self.begun)

    size, batches = sizes(settings), windows(settings)
    config = {**awd_lstm_lm_config, "emb_sz": size["emb"], "n_hid": size["hidden"], "n_layers": 3}
    model = get_language_model(AWD_LSTM, size["vocab"], config=config)
    learn = LMLearner(
        DataLoaders(batches, batches[:1]), model, loss_func=CrossEntropyLossFlat(), splitter=awd_lstm_lm_split,
        alpha=2.0, beta=1.0, cbs=Clock,
    )  # fmt: skip

    def repeat() -> dict[str, float]:
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, 1e-3)
        return {"rate": len(batches) * ROWS * WINDOW / took[-1]}

    return repeat
