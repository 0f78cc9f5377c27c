"""Loss and metrics of many items, batch by batch: sums where means are all that is asked for, else every output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ..device import moved
from ..errors import DataError
from ..metrics import ItemFn, Metric

CHUNK = 2**20  # numbers of outputs that wait, 4 MB
Activate = Callable[[Tensor], Tensor]
Target = TypeVar("Target", Tensor, Tensor | None)


class Accumulator(Protocol):
    """Takes in batch after batch, and says at last what loss and metrics are over all of them."""

    def add(self, logits: Tensor, target: Tensor, index: Tensor | None = None) -> None:
        """Take in a batch: `logits` and `target`, (b, ...), and the `index` of the items; None counts them."""
        ...

    def result(self) -> dict[str, float]:
        """The mean loss as "valid_loss", and the metrics by name.

        Raises:
            DataError: there were no items.
        """
        ...


class Means:
    """What is made of means over items: their sums are kept, and no outputs but a few that wait to be summed.

    Args:
        loss: of each item, from logits and targets.
        metrics: each has `per_item`.
        activate: from logits to probabilities.
        is_large: the outputs of an item are many: they stay on their device, and metrics that take either get logits.
    """

    def __init__(self, loss: ItemFn, metrics: Sequence[Metric], activate: Activate, is_large: bool = False) -> None:
        self._loss, self._metrics, self._activate, self._is_large = loss, metrics, activate, is_large
        self._needs: dict[ItemFn, str] = {loss: "logits"}
        either = "logits" if is_large else "probs"
        self._needs |= {m.per_item: either if m.needs == "either" else m.needs for m in metrics if m.per_item}
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._numbers = 0
        self._sums = dict.fromkeys(self._needs, torch.zeros((), dtype=torch.float64))  # a shared one is computed once
        self.count = 0

    def add(self, logits: Tensor, target: Tensor, index: Tensor | None = None) -> None:
        logits = logits.detach().float()
        self.count += len(target)
        self._numbers += logits.numel()
        self._waiting.append((logits, target))
        if self._is_large or self._numbers >= CHUNK:  # of a small model a dozen calls take longer than its batch
            self._sum_up()

    def _sum_up(self) -> None:
        if not self._waiting:
            return
        logits, target = map(torch.cat, zip(*self._waiting, strict=True)) if self._waiting[1:] else self._waiting[0]
        self._waiting, self._numbers = [], 0
        if not self._is_large:
            logits, target = logits.cpu(), target.cpu()  # metrics may want float64, which some devices lack
        probs = self._activate(logits) if "probs" in self._needs.values() else logits
        for fn, needs in self._needs.items():
            values = fn(probs if needs == "probs" else logits, target)
            self._sums[fn] = self._sums[fn] + values.cpu().double().sum(0)  # on the CPU, as some devices lack float64

    def result(self) -> dict[str, float]:
        if not self.count:
            raise DataError("there are no items to predict")
        self._sum_up()
        means = {fn: total / self.count for fn, total in self._sums.items()}
        scores = {m.name: m.of_mean(means[m.per_item]) for m in self._metrics if m.per_item is not None}
        return {"valid_loss": float(means[self._loss]), **scores}


class Pool:
    """What needs all predictions at once: they are kept on the CPU, and put into file order; arguments as of `Means`.

    The loss is that of all items, which need not be a mean; `device` is where it has weights of its own.
    """

    def __init__(
        self, loss: ItemFn, metrics: Sequence[Metric], activate: Activate, device: torch.device | None = None
    ) -> None:
        self._loss, self._metrics, self._activate, self._device = loss, metrics, activate, device
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []
        self._count = 0

    def add(self, logits: Tensor, target: Tensor, index: Tensor | None = None) -> None:
        index = torch.arange(self._count, self._count + len(target)) if index is None else index
        self._batches.append((index, logits.float().cpu(), target.cpu()))
        self._count += len(target)

    def result(self) -> dict[str, float]:
        if not self._count:
            raise DataError("there are no items to predict")
        index, logits, target = (torch.cat(tensors) for tensors in zip(*self._batches, strict=True))
        logits, target = in_file_order(index, logits, target)
        result = {"valid_loss": float(self._loss(logits.to(self._device), moved(target, self._device)))}
        probs = self._activate(logits)
        return result | {m.name: m(logits if m.needs == "logits" else probs, target) for m in self._metrics}


def in_file_order(index: Tensor, logits: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Rows of batches that came in any order, in the order of their positions, which are the `index`.

    >>> in_file_order(torch.tensor([2, 0, 1]), torch.tensor([3, 1, 2]), None)
    (tensor([1, 2, 3]), None)
    """
    if torch.equal(index, torch.arange(len(index))):
        return logits, target
    order = index.argsort()
    return logits[order], None if target is None else target[order]
