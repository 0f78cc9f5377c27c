"""The same as `loop`, through what each would use for 20 numbers per row in memory, in a new order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .loop import (
    SIZE,
    by_hand,
    fastai_slope,
    lightning_slope,
    our_figures,
    rows,
    skorch_net,
    slope,
    torch_loader,
)
from .settings import Repeat, Settings


class Indexed:
    """What one writes by hand: whole tensors, read at random rows."""

    def __init__(self, steps: int) -> None:
        self.x, self.y = rows(steps)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in torch.randperm(len(self.x)).split(SIZE):
            yield self.x[chosen], self.y[chosen]


def plain(settings: Settings) -> Repeat:
    return lambda: {"us": by_hand(settings, Indexed, fused=False)}


def best(settings: Settings) -> Repeat:
    """With a fused optimizer; and, for the record, torch's own loader with plain's."""
    return lambda: {
        "us": by_hand(settings, Indexed, fused=True),
        "dataloader": by_hand(settings, torch_loader, fused=False),
    }


def easylearn(settings: Settings) -> Repeat:
    from easylearn import TensorData, single_label

    def data(steps: int) -> Any:
        x, y = rows(steps)
        return TensorData((x, y), (x[:SIZE], y[:SIZE]), single_label(["no", "yes"]), batch_size=SIZE)

    return lambda: our_figures(settings, data)


def fastai(settings: Settings) -> Repeat:
    from fastai.basics import DataLoader, DataLoaders
    from torch.utils.data import TensorDataset

    def loaders(steps: int) -> Any:
        x, y = rows(steps)
        few = TensorDataset(x[:SIZE], y[:SIZE])
        return DataLoaders(
            DataLoader(TensorDataset(x, y), bs=SIZE, shuffle=True, num_workers=0),
            DataLoader(few, bs=SIZE, num_workers=0),
        )

    return lambda: {"us": fastai_slope(settings, loaders)}


def lightning(settings: Settings) -> Repeat:
    """All extras off."""
    return lambda: {"us": lightning_slope(settings, torch_loader, everything=False)}


def skorch(settings: Settings) -> Repeat:
    def fit(steps: int) -> Callable[[], object]:
        net, (x, y) = skorch_net(iterator_train__shuffle=True), rows(steps)
        return lambda: net.fit(x, y)

    return lambda: {"us": slope(settings, fit)}
