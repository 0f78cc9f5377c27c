"""Running a model over a loader without training it, and putting what it was back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import torch
from torch import Tensor, nn

from ..data.bunch import Loader
from ..errors import DataError
from ..task import Task
from .strategy import Strategy


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode is put back afterwards."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def gather(model: nn.Module, loader: Loader, strategy: Strategy) -> tuple[Tensor, Tensor | None]:
    """Logits and targets of every item, in the loader's order, on the CPU in fp32.

    Args:
        model: is put into evaluation mode for the while.
        loader: must go through the items in file order.
        strategy: device and precision.

    Returns:
        Logits of shape (n, ...) and targets of shape (n, ...), or None where there are none.
    """
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
    with evaluating(model), closing(loader.batches(strategy.device)) as batches:
        for batch in batches:
            outputs.append(strategy.forward(model, batch.inputs).float().cpu())
            if batch.target is not None:
                targets.append(batch.target.cpu())
    if not outputs:
        raise DataError("there are no items to predict")
    return torch.cat(outputs), torch.cat(targets) if targets else None


def evaluate(model: nn.Module, loader: Loader, task: Task, strategy: Strategy) -> dict[str, float]:
    """Mean loss and metrics over the pooled predictions of a whole loader, as "valid_loss" and by name."""
    logits, target = gather(model, loader, strategy)
    if target is None:
        raise DataError("these items have no targets, so there is nothing to compare the predictions with")
    on_device = logits.to(strategy.device), target.to(strategy.device)  # where a loss with weights of its own has them
    result = {"valid_loss": float(task.loss(*on_device))}
    probs = task.activate(logits)
    for metric in task.metrics:
        result[metric.name] = float(metric.fn(logits if metric.needs == "logits" else probs, target))
    return result
