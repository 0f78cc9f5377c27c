"""Metrics of short lists: how much of what a person took next is among the first k names, and how far up.

Outputs and targets have shape (n, c), a row per person and a column per item. A target is above 0 for what is wanted, 0
for what is not, and below 0 for what is left out, as it was known before: that takes no place in the list. Every item
is ranked; where only some are drawn, methods come out in another order (KDD 2020, 10.1145/3394486.3403226).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from .errors import ArgumentError, check_whole
from .metrics import Metric, mean_metric

ListFn = Callable[[Tensor, Tensor, Tensor], Tensor]
LEFT_OUT = -1e4
"""The score of what no list shows: in every precision its softmax is 0, and times 0 it is a number."""


def first_items(outputs: Tensor, targets: Tensor, k: int) -> Tensor:
    """The numbers of the `k` items that come first, shape (n, k); those that are left out come last.

    >>> first_items(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[-1, 0, 1]]), 2)
    tensor([[1, 2]])
    """
    if outputs.ndim != 2 or outputs.shape != targets.shape:
        raise ArgumentError(
            f"a ranking needs outputs and targets in one shape, (n, items), got {tuple(outputs.shape)} and "
            f"{tuple(targets.shape)}"
        )
    return outputs.masked_fill(targets < 0, -math.inf).topk(min(k, outputs.shape[1])).indices


def recall_at(k: int = 10) -> Metric:
    """The share of what a person wanted that is among the first `k`, as a mean over persons.

    Where more than `k` are wanted it cannot reach 1.

    >>> recall_at(2)(torch.tensor([[3.0, 2.0, 1.0, 0.0]]), torch.tensor([[-1, 0, 1, 1]]))
    0.5
    """
    return _at("recall", k, _recall)


def ndcg_at(k: int = 10) -> Metric:
    """As `recall_at`, but what comes first counts most: the discounted gain of the first `k` over the best possible.

    The item in place r counts 1 / log2(r + 1), whatever its weight (TOIS 2002, 10.1145/582415.582418).

    >>> round(ndcg_at(2)(torch.tensor([[3.0, 2.0, 1.0, 0.0]]), torch.tensor([[-1, 0, 1, 0]])), 4)
    0.6309
    """
    return _at("ndcg", k, _ndcg)


def coverage_at(k: int = 10) -> Metric:
    """The share of all items that are among the first `k` of at least one person; of the most popular it is low.

    >>> coverage_at(1)(torch.tensor([[3.0, 2.0, 1.0, 0.0]] * 2), torch.tensor([[-1, 0, 0, 1], [0, 0, 1, 0]]))
    0.5
    """
    return _at("coverage", k, _listed, _above_0)


def _at(name: str, k: int, fn: ListFn, finish: Callable[[Tensor], float] | None = None) -> Metric:
    check_whole("k", k)
    return mean_metric(f"{name}_{k}", functools.partial(_of_lists, fn, k), True, "either", finish)


def _of_lists(fn: ListFn, k: int, outputs: Tensor, targets: Tensor) -> Tensor:
    found = fn(first_items(outputs, targets, k), outputs, targets)
    broken = outputs.isnan().any(-1)
    return found.masked_fill(broken if found.ndim == 1 else broken[:, None], math.nan)


def _recall(first: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    wanted = targets > 0
    return wanted.gather(1, first).sum(1) / wanted.sum(1).clamp_min(1)


def _ndcg(first: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    wanted = targets > 0
    gain = 1 / torch.arange(2.0, first.shape[1] + 2, device=outputs.device).log2()
    best = gain.cumsum(0)[wanted.sum(1).clamp(1, len(gain)) - 1]
    return (wanted.gather(1, first) * gain).sum(1) / best


def _listed(first: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """Which items are in each list, as zeros and ones."""
    return torch.zeros_like(targets, dtype=torch.float32).scatter_(1, first, 1.0) * (targets >= 0)


def _above_0(mean: Tensor) -> float:
    return math.nan if bool(mean.isnan().any()) else float((mean > 0).double().mean())
