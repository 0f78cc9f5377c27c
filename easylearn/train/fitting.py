"""Whether a model takes what the data gives, and gives what the task needs: asked before anything is trained."""

from __future__ import annotations

from contextlib import closing
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .. import keyed
from ..data.bunch import Data
from ..data.order import ItemLoader
from ..errors import ArgumentError, EasyLearnError, name_of
from ..metrics import check_suited
from ..task import Task
from .strategy import Strategy

REFUSED = (RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError)
"""What a model may raise for inputs that it cannot take."""
_SHORTENING = (nn.Embedding, nn.EmbeddingBag)  # with max_norm the only layers whose forward changes their weights


def check_model(model: nn.Module, data: Data[Any], task: Task, strategy: Strategy) -> None:
    """Try a model on two training items; batches that come ready-made are left to their owner until a fit.

    Raises:
        ArgumentError: it cannot take them, or gives something else than the task needs; the message has both shapes.
    """
    loader = data.loader("train") if "train" in data.splits and not task.is_streamed else None
    if not isinstance(loader, ItemLoader):
        return
    try:
        shared = (layer for layer in model.modules() if not (isinstance(layer, _SHORTENING) and layer.max_norm))
        weights = {id(p): p for layer in shared for p in layer.parameters(recurse=False) if not is_lazy(p)}
        model = deepcopy(model, weights)  # whatever it counts or remembers stays as it is
    except (RuntimeError, TypeError, NotImplementedError, AssertionError):
        return  # what cannot be copied is found out in training; FSDP2 asserts that nobody tries
    with keyed.scoped_rng(), strategy.evaluating(model):
        inputs = loader.source.fetch(np.arange(min(2, loader.n_items)), strategy.device)
        zeros = tuple(map(torch.zeros_like, inputs))  # shapes are asked for, not numbers
        try:
            try:
                outputs = strategy.forward(model, zeros)
            except AttributeError:  # a layer of one's own may keep for evaluation what it found in training
                outputs = strategy.forward(model.train(), zeros)
        except REFUSED as error:
            raise _worded(error, inputs) from error
        check_outputs(outputs, task)
        _check_metrics(outputs, loader, task, strategy)


def _check_metrics(outputs: Tensor, loader: ItemLoader, task: Task, strategy: Strategy) -> None:
    """Refuse chosen metrics that are made for another kind of task, by the `outputs` for two items of the loader."""
    if loader.target is None or task.metrics == task.default_metrics():
        return
    index = np.arange(min(2, loader.n_items))
    with closing(loader.source.with_targets([index], [loader.target[index]], strategy.device)) as both:
        target = next(both)[1].cpu()
    if len(outputs) == len(target):
        logits = outputs.float().cpu()
        check_suited(task.metrics, task.activate(logits), logits, target)


def explain(error: Exception, model: nn.Module, inputs: tuple[Tensor, ...], strategy: Strategy) -> None:
    """Raise an ArgumentError for an `error` of a model's first step if it comes of the model and its `inputs` alone."""
    try:
        with torch.no_grad():
            strategy.forward(model, inputs)
    except REFUSED as again:
        raise _worded(again, inputs) from error


def _worded(error: Exception, inputs: tuple[Tensor, ...]) -> Exception:
    return error if isinstance(error, EasyLearnError | torch.cuda.OutOfMemoryError) else refusal(inputs, error)


def refusal(inputs: tuple[Tensor, ...], error: Exception) -> ArgumentError:
    """The error of a model that cannot take its inputs, in words."""
    given = ", ".join(f"{'x'.join(map(str, x.shape[1:])) or 'one number'} of {x.dtype}" for x in inputs)
    first = inputs[0]
    hint = ""
    if first.ndim == 4 and "channels" in str(error):
        other = "channels=3, which repeats grey" if first.shape[1] == 1 else "channels=1, or an array of its channels"
        hint = f" The images have {first.shape[1]} channels: make the data with {other}, or a model that takes as many."
    elif "more than 1 value per channel" in str(error):
        hint = " Batch-norm needs more than one item in a batch: give the data a larger batch_size."
    elif "DTensor" in str(error):
        hint = (
            ' With shard="fsdp" the weights of a layer in a list are gathered when it is called, and here they '
            "are used without: keep it as an attribute of its own, or call it."
        )
    elif "dtype" in str(error) or "type" in str(error):
        hint = " Data and weights must be of one type: model.float(), and float32 inputs."
    return ArgumentError(f"the model cannot take what the data gives for an item ({given}): {str(error)[:300]}.{hint}")


def check_gradient(logits: Tensor, loss: Tensor, task: Task) -> None:
    """Refuse a `loss` of the first step that moves nothing, as it was taken out of what torch follows."""
    if loss.requires_grad:
        return
    whose = "model's outputs have" if not logits.requires_grad else f"loss {name_of(task.loss_fn)} has"
    raise ArgumentError(
        f"the {whose} no gradient, so nothing can be learnt: compute them with torch alone, without detach(), .data, "
        ".item(), NumPy or no_grad()"
    )


def check_outputs(outputs: Any, task: Task) -> None:
    """Refuse what a model gave for a batch if the task cannot read it."""
    if not isinstance(outputs, Tensor):
        kind = type(outputs).__name__
        raise ArgumentError(
            f"the model must give one tensor of {task.n_out} numbers for each item, and gives a {kind}: wrap it in a "
            "module that takes the one tensor out of it"
        )
    shape = tuple(outputs.shape[1:])
    if task.takes(shape):
        return
    raise ArgumentError(
        f"the model gives {' x '.join(map(str, shape)) or 'one'} numbers for an item, and {task} needs {task.n_out}: "
        f"let its last layer have {task.n_out} outputs"
    )
