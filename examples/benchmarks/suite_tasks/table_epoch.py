"""200,000 rows, 6 categories of 2 to 2,000 strings, 10 numbers; [200, 100]; batches of 1,024: rows per second.

A repeat is a whole epoch over the training rows, without validation. Ours is a whole call of `fit`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .editions import plain_network
from .settings import Repeat, Settings
from .table_prepare import CATS, CONTS, TARGET, by_factorize, made_up, training_rows

SIZE = 1024
N_ROWS = 200_000
LAYERS = (200, 100)


def width(levels: int) -> int:
    """fast.ai's rule for embeddings, which easylearn has, too."""
    return min(600, round(1.6 * levels**0.56))


class Net(nn.Module):
    """Entity embeddings and two hidden layers."""

    def __init__(self, levels: list[int], n_conts: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(n, width(n)) for n in levels)
        self.norm = nn.BatchNorm1d(n_conts)
        widths = [sum(width(n) for n in levels) + n_conts, *LAYERS]
        hidden: list[nn.Module] = []
        for wide, out in pairwise(widths):
            hidden += [nn.Linear(wide, out, bias=False), nn.ReLU(inplace=True), nn.BatchNorm1d(out)]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], 2))

    def forward(self, cats: Tensor, conts: Tensor) -> Tensor:
        vectors = [embed(cats[:, i]) for i, embed in enumerate(self.embeddings)]
        return self.layers(torch.cat([*vectors, self.norm(conts)], 1))


def by_hand(settings: Settings, fused: bool) -> Repeat:
    table = made_up(settings.pick(N_ROWS, 5000))
    train, _ = training_rows(len(table))
    cats, conts, target, levels = by_factorize(table, train)
    chosen = torch.from_numpy(train)
    cats, conts, target = cats[chosen], conts[chosen], target[chosen]
    model = Net(levels, len(CONTS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused or None)

    def repeat() -> dict[str, float]:
        model.train()
        begun = settings.now()
        for rows in torch.randperm(len(target)).split(SIZE):
            F.cross_entropy(model(cats[rows], conts[rows]), target[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
        return {"rate": len(target) / (settings.now() - begun)}

    return repeat


def plain(settings: Settings) -> Repeat:
    return by_hand(settings, fused=False)


def best(settings: Settings) -> Repeat:
    return by_hand(settings, fused=True)


def easylearn(settings: Settings) -> Repeat:
    """The sizes of the others, and easylearn's default, which embeds numbers, too."""
    from easylearn import TabularData, tabular_learner

    table = made_up(settings.pick(N_ROWS, 5000))
    train, _ = training_rows(len(table))
    data = TabularData.from_df(
        table.iloc[train], TARGET, cat_names=CATS, cont_names=CONTS, valid=None, batch_size=SIZE, task="single_label"
    )
    learners: dict[str, Any] = {
        name: tabular_learner(data, LAYERS, device="cpu", **more)
        for name, more in {"rate": plain_network(), "default": {}}.items()
    }

    def repeat() -> dict[str, float]:
        found = {}
        for name, learn in learners.items():
            begun = settings.now()
            learn.fit(1e-3, 1, cycle_len=None)
            found[name] = len(train) / (settings.now() - begun)
        return found

    return repeat


def fastai(settings: Settings) -> Repeat:
    """Its default loader draws rows with replacement: an epoch sees 63 % of them, and as many rows in all."""
    from fastai.tabular.all import (
        Callback,
        CancelValidException,
        Categorify,
        CategoryBlock,
        FillMissing,
        Normalize,
        TabularPandas,
        tabular_learner,
    )

    took: list[tuple[int, float]] = []

    class Clock(Callback):
        def before_train(self) -> None:
            self.steps, self.begun = 0, settings.now()

        def after_batch(self) -> None:
            self.steps += self.training

        def after_train(self) -> None:
            took.append((self.steps, settings.now() - self.begun))

        def before_validate(self) -> None:
            raise CancelValidException

    table = made_up(settings.pick(N_ROWS, 5000))
    train, valid = training_rows(len(table))
    prepared = TabularPandas(
        table, procs=[Categorify, FillMissing, Normalize], cat_names=list(CATS), cont_names=list(CONTS),
        y_names=TARGET, y_block=CategoryBlock(), splits=[train.tolist(), valid.tolist()],
    )  # fmt: skip
    learn = tabular_learner(prepared.dataloaders(bs=SIZE), layers=list(LAYERS), cbs=Clock)

    def repeat() -> dict[str, float]:
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, 1e-3)
        steps, seconds = took[-1]
        return {"rate": steps * SIZE / seconds}

    return repeat
