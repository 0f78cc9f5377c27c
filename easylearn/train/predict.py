"""Outputs, losses and metrics of a model over a loader, without training it."""

from __future__ import annotations

from contextlib import closing

import torch
from torch import Tensor, nn

from ..data.order import Loader
from ..errors import DataError
from ..metrics import item_cross_entropy
from ..task import NO_TARGET, Task
from .strategy import Strategy


def gather(model: nn.Module, loader: Loader, strategy: Strategy) -> tuple[Tensor, Tensor | None]:
    """Logits and targets of every item, in file order, on the CPU in fp32.

    Args:
        model: is put into evaluation mode for the while.
        loader: gives each item once, in any order; `Batch.index` says which is which.
        strategy: device and precision.

    Returns:
        Logits of shape (n, ...) and targets of shape (n, ...), or None where there are none.
    """
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
    index: list[Tensor] = []
    with strategy.evaluating(model), closing(loader.batches(strategy.device)) as batches:
        for batch in batches:
            index.append(batch.index)
            outputs.append(strategy.forward(model, batch.inputs).float().cpu())
            if batch.target is not None:
                targets.append(batch.target.cpu())
    if not outputs:
        raise DataError("there are no items to predict")
    logits, target = torch.cat(outputs), torch.cat(targets) if targets else None
    place = torch.cat(index)
    if not torch.equal(place, torch.arange(len(place))):
        order = place.argsort()
        logits, target = logits[order], None if target is None else target[order]
    return logits, target


def evaluate(model: nn.Module, loader: Loader, task: Task, strategy: Strategy) -> dict[str, float]:
    """Mean loss and metrics over the pooled predictions of a whole loader, as "valid_loss" and by name."""
    if task.is_streamed:
        return _evaluate_stream(model, loader, task, strategy)
    logits, target = gather(model, loader, strategy)
    if target is None:
        raise DataError("these items have no targets, so there is nothing to compare the predictions with")
    return score(logits, target, task, strategy)


def score(logits: Tensor, target: Tensor, task: Task, strategy: Strategy) -> dict[str, float]:
    """Mean loss and metrics of outputs that are there, as `evaluate` gives them."""
    on_device = logits.to(strategy.device), target.to(strategy.device)  # where a loss with weights of its own has them
    result = {"valid_loss": float(task.loss(*on_device))}
    probs = task.activate(logits)
    for metric in task.metrics:
        result[metric.name] = float(metric.fn(logits if metric.needs == "logits" else probs, target))
    return result


def _evaluate_stream(model: nn.Module, loader: Loader, task: Task, strategy: Strategy) -> dict[str, float]:
    """As `evaluate`, keeping sums alone: the logits of a text of n tokens would be n times the vocabulary."""
    functions = {m.per_item for m in task.metrics if m.per_item is not None}
    if task.loss_fn is None:
        functions.add(item_cross_entropy)  # perplexity wants the same numbers: they are computed once
    sums = dict.fromkeys(functions, 0.0)
    loss, count = 0.0, 0
    with strategy.evaluating(model), closing(loader.batches(strategy.device)) as batches:
        for batch in batches:
            if batch.target is None:
                raise DataError("these items have no targets, so there is nothing to compare the predictions with")
            logits = strategy.forward(model, batch.inputs)
            flat, target = logits.flatten(0, -2).float(), batch.target.flatten()
            there = target != NO_TARGET
            if not bool(there.all()):
                flat, target = flat[there], target[there]
            count += len(target)
            if task.loss_fn is not None:
                loss += float(task.loss(logits, batch.target)) * len(target)
            for fn in sums:
                sums[fn] += float(fn(flat, target).double().sum())
    if not count:
        raise DataError("there is nothing to predict: the text has no second token")
    mean = {fn: total / count for fn, total in sums.items()}
    result = {"valid_loss": loss / count if task.loss_fn is not None else mean[item_cross_entropy]}
    for metric in task.metrics:
        assert metric.per_item is not None
        value = mean[metric.per_item]
        result[metric.name] = metric.finish(value) if metric.finish is not None else value
    return result


def evaluating(model):  # type: ignore[no-untyped-def]
    """TEMPORARY: use strategy.evaluating(model)."""
    from .gate import Gate

    return Gate().evaluating(model)
