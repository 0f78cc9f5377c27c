"""Outputs, losses and metrics of a model over a loader, without training it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..data.bunch import Data, SplitName
from ..data.order import Loader
from ..device import kept_memory
from ..errors import ArgumentError, DataError
from ..task import Predictions, Task
from ..task.accumulate import in_file_order
from ..task.gathered import Gathered, by_pieces, stacked
from ..task.predictions import averaged
from .strategy import Strategy
from .waiting import Waiting


def gather(
    model: nn.Module, loader: Loader, strategy: Strategy, told: str = "", wait: Waiting | None = None
) -> tuple[Tensor, Tensor | None]:
    """Logits (n, ...) and targets (n, ...), or None, of every item: in file order, on the CPU in fp32.

    Where logits take much memory they are in a mapped file; see `Gathered`. Where it takes long, how far it is is said
    under the name `told`; "" says nothing. A `wait` that somebody has begun counts on instead.
    """
    outputs = Gathered()
    targets: list[Tensor] = []
    index: list[Tensor] = []
    begun = Waiting(told, loader.n_items, bool(told) and strategy.is_main) if wait is None else nullcontext(wait)
    with strategy.evaluating(model), begun as wait:
        for logits, target, at in strategy.outputs(model, loader):
            index.append(at)
            wait.add(len(at))
            outputs.add(logits.float().cpu())
            if target is not None:
                targets.append(target.cpu())
    if not index:
        raise DataError("there are no items to predict")
    return in_file_order(torch.cat(index), outputs.tensor(), torch.cat(targets) if targets else None)


def predict_split(
    model: nn.Module, data: Data[Any], split: SplitName, task: Task, strategy: Strategy, n_aug: int = 0,
    progress: bool = False,
) -> Predictions:  # fmt: skip
    """Predictions of a whole split, in file order, averaged over the plain and `n_aug` augmented views, if it has any.

    With `progress` it is told how far that is, where it takes long.
    """
    if task.is_streamed:
        raise ArgumentError(
            "a language model's predictions are one number per token and word; use learn.validate() for its "
            "perplexity, or generate(learn, prompt, n)"
        )
    how, n_aug = data.preprocessor, n_aug * data.has_views
    more = range(1, (n_aug if how.n_views is None else min(n_aug, how.n_views)) + 1)
    told = f"predicting {split}" if progress else ""
    with kept_memory(strategy.device):
        logits, targets = gather(model, data.loader(split), strategy, told)
        views = [logits]
        for k in more:
            laid = gather(model, data.loader(split, view=k), strategy, told and f"{told}, view {k}")[0]
            views.append(by_pieces(partial(how.undo_view, k), laid))
    probs, stack = together(task, views)
    return Predictions.of(task, probs, data.ids(split), targets, stack, data.places(split))


def together(task: Task, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What the outputs (n, ...) of several views say together, (n, ...), and what each says, (v, n, ...).

    Where that takes much memory it is in mapped files; see `Gathered`.
    """
    stack = stacked(by_pieces(task.activate, view) for view in views)
    return averaged(task, views, stack), stack


def evaluate(
    model: nn.Module, loader: Loader, task: Task, strategy: Strategy, progress: bool = False
) -> dict[str, float]:
    """Mean loss and metrics over a whole loader, as "valid_loss" and by name; `progress` as in `predict_split`."""
    total = task.accumulator(strategy.device)
    wait = Waiting("validating", len(loader), progress and strategy.is_main, "batches")  # streams know of no items
    with kept_memory(strategy.device), strategy.evaluating(model), wait:
        for logits, target, index in strategy.outputs(model, loader, not task.is_streamed):
            wait.add(1)
            if target is None:
                raise DataError("these items have no targets, so there is nothing to compare the predictions with")
            total.add(logits, target, index)
    return total.result()


def evaluate_alike(model: nn.Module, loader: Loader, task: Task, strategy: Strategy) -> dict[str, float]:
    """As `evaluate`; of several processes, which all have to ask, each gets what the first one finds.

    Last bits may differ, and what is decided by them, such as which epoch is the best, must not.
    """
    found = evaluate(model, loader, task, strategy)
    rows = strategy.gather(torch.tensor([list(found.values())], dtype=torch.float64))
    return dict(zip(found, rows[0].tolist(), strict=True))


def score(logits: Tensor, target: Tensor, task: Task, strategy: Strategy) -> dict[str, float]:
    """Mean loss and metrics of outputs that are there, as `evaluate` gives them."""
    total = task.accumulator(strategy.device)
    total.add(logits, target)
    return total.result()
