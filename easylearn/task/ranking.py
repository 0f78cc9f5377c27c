"""Ranking: which of many items each person takes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ..errors import ArgumentError, DataError
from ..metrics import Metric
from ..ranked import LEFT_OUT, coverage_at, first_items, ndcg_at, recall_at
from .accumulate import Accumulator, Means
from .base import Task
from .names import as_names


@final
@dataclass(frozen=True, repr=False)
class Ranking(Task):
    """Which of many items each person takes next: a softmax over all of them, recall, nDCG and coverage of short lists.

    Targets have a number for each item: above 0 where it is wanted, 0 where it is not, below 0 where it is left out,
    since the person has it already. The loss of a person is minus the sum of the logarithms of the probabilities of
    what is wanted, times the targets (the multinomial likelihood, arXiv 1802.05814): who took much counts much.

    Args:
        names, metrics, loss_fn: see `Task`.
        k: how many items a list has.
    """

    kind: ClassVar[str] = "ranking"
    noun = "item"
    is_ranking = True
    instead = "these are lists: use report() or top_losses()"
    k: int = 10

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ArgumentError(f"a list has at least 1 item, got k={self.k}")
        super().__post_init__()

    def default_metrics(self) -> tuple[Metric, ...]:
        return recall_at(self.k), ndcg_at(self.k), coverage_at(self.k)

    def own_item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        left_out = target < 0
        if logits.device.type != "cpu" or bool(left_out.any()):  # in training nothing is; a GPU would have to wait
            logits, target = logits.masked_fill(left_out, LEFT_OUT), target.clamp_min(0)
        return -(logits.log_softmax(-1) * target.to(logits.dtype)).sum(-1)

    def accumulator(self, device: torch.device | None = None) -> Accumulator:
        """See `Task.accumulator`: a list needs the order of the items alone, and no probabilities."""
        if self.loss_fn is None and all(m.per_item is not None for m in self.metrics):
            return Means(self.item_losses, self.metrics, self.activate, is_large=True)
        return super().accumulator(device)

    def activate(self, logits: Tensor) -> Tensor:
        probs = logits.softmax(-1)
        # where everything is left out, all would be alike; half of it, as -1e4 is a little more in bf16
        return probs.masked_fill(logits < LEFT_OUT / 2, 0.0)

    def outputs_for(self, probs: Tensor) -> Tensor:
        return probs.clamp_min(1e-38).log()

    def first_outputs(self, target: Tensor, weights: Tensor | None = None) -> Tensor | None:
        """See `Task.first_outputs`: how many persons have, or want, each item."""
        taken = (target != 0).cpu()
        return self.outputs_of(taken.sum(0) if weights is None else (taken * weights.unsqueeze(1)).sum(0))

    def outputs_of(self, counts: Tensor) -> Tensor:
        """What says no more of each item than how many persons took it, (n_out,)."""
        counts = counts.double() + 0.5
        return (counts / counts.sum()).log()

    def decode(self, probs: Tensor) -> list[Any]:
        best = probs.topk(min(self.k, probs.shape[-1]))
        return [
            tuple(self.names[i] for i, p in zip(row, ps, strict=True) if p > 0)
            for row, ps in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def decode_target(self, target: Tensor) -> list[Any]:
        return [tuple(self.names[i] for i in row.nonzero().flatten().tolist()) for row in target > 0]

    def index(self, probs: Tensor) -> int | tuple[int, ...] | None:
        best = probs.topk(min(self.k, probs.shape[-1]))
        return tuple(best.indices[best.values > 0].tolist())

    def check_target(self, target: Tensor) -> Tensor:
        if target.ndim != 2 or target.shape[1] != len(self.names):
            raise DataError(f"ranking targets have shape (n, {len(self.names)}), got {tuple(target.shape)}")
        bad = torch.nonzero(~target.isfinite().all(1)).flatten()
        if len(bad):
            raise DataError(f"ranking targets are finite numbers, but row {bad[0].item()} holds something else")
        return target

    @property
    def summary(self) -> str:
        return f"which of {len(self.names):,} items come next"

    def in_words(self, label: Any) -> str:
        return ", ".join(label)

    def title(self, probs: Tensor, target: Tensor) -> tuple[str, bool]:
        hits, wanted = int(self._hits(probs[None], target[None]).sum()), int((target > 0).sum())
        return f"{hits} of the first {self.k} are wanted,\nof {wanted} that are", hits > 0

    def item_columns(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        return {"hits": self._hits(probs, target).sum(1).tolist()}

    def by_name(self, probs: Tensor, target: Tensor) -> dict[str, list[Any]]:
        first = first_items(probs, target, self.k).flatten()
        listed = torch.bincount(first, minlength=len(self.names))
        hits = torch.bincount(first[self._hits(probs, target).flatten()], minlength=len(self.names))
        return {"recommended": listed.tolist(), "wanted": self.count_classes(target), "hits": hits.tolist()}

    def count_classes(self, target: Tensor) -> list[int]:
        return (target > 0).sum(0).tolist()

    def _hits(self, probs: Tensor, target: Tensor) -> Tensor:
        """Whether each of the first k items is wanted, (n, k)."""
        return (target > 0).gather(1, first_items(probs, target, self.k))


def ranking(items: Sequence[str], k: int = 10) -> Ranking:
    """Which of many items each person takes next: a softmax over all of them, recall, nDCG and coverage of short lists.

    Args:
        items: their names, in the order of the model's outputs.
        k: how many of them a list has.

    >>> task = ranking(["Air", "Blur", "Muse"], k=2)
    >>> task.decode(torch.tensor([[0.2, 0.0, 0.8], [0.5, 0.3, 0.2]]))
    [('Muse', 'Air'), ('Air', 'Blur')]
    """
    return Ranking(as_names(items, "item"), k=k)
