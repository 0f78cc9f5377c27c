"""Optimizers: torch's own, in their quickest form on the device at hand."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..errors import ArgumentError
from ..nn.groups import ParamGroup

OptimizerFn = Callable[..., Optimizer]


@functools.lru_cache(maxsize=32)
def has_fused(kind: Callable[..., Optimizer], device_type: str) -> bool:
    """Whether torch has a fused kernel of this optimizer for the device (on the CPU since torch 2.4)."""
    if "fused" not in inspect.signature(kind).parameters:
        return False
    probe = nn.Parameter(torch.zeros(1, device=device_type))
    probe.grad = torch.zeros_like(probe)
    try:
        kind([probe], lr=0.0, fused=True).step()
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return False
    return True


def _fused(kind: Callable[..., Optimizer], params: Iterable[Any], options: dict[str, Any]) -> Optimizer:
    groups = list(params)
    first = groups[0]["params"][0] if isinstance(groups[0], dict) else groups[0]
    if has_fused(kind, str(first.device.type)):
        options["fused"] = True
    return kind(groups, **options)


def sgd(params: Iterable[Any], lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """SGD with momentum 0.9: the default for images.

    Args:
        params: parameters, or param groups.
        lr: the learning rate; a learner sets each group's own.
        momentum: share of the last step that goes on.
        weight_decay: added to the gradient, times the weight.
    """
    return _fused(torch.optim.SGD, params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})


def adamw(
    params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.01
) -> Optimizer:
    """AdamW with betas 0.9 and 0.99: the default for text and tables (arXiv 1711.05101).

    Args:
        params: parameters, or param groups.
        lr: the learning rate; a learner sets each group's own.
        betas: how slowly the means of gradient and squared gradient move.
        weight_decay: taken off the weight at each step, times the rate.
    """
    return _fused(torch.optim.AdamW, params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})


def check_trainable(groups: Sequence[ParamGroup]) -> None:
    """Refuse groups of which none trains."""
    if not any(g.trainable for g in groups):
        raise ArgumentError(
            "every layer group is frozen, so there is nothing to train; call learn.unfreeze() or freeze()"
        )


def build_optimizer(
    make: OptimizerFn, groups: Sequence[ParamGroup], rates: Sequence[float], weight_decay: float | None = None
) -> Optimizer:
    """A new optimizer over the groups that require gradients.

    Args:
        make: a torch optimizer class, or a function from param groups to an optimizer.
        groups: the layer groups.
        rates: the base rate of each.
        weight_decay: None leaves the optimizer's own.

    Returns:
        The optimizer; each param group has "group" (the layer group's name) and "base_lr".

    Raises:
        ArgumentError: nothing is trainable, or `make` makes something else.
    """
    check_trainable(groups)
    settings: list[dict[str, Any]] = []
    for group, rate in zip(groups, rates, strict=True):
        params = [p for _, p in group.params if p.requires_grad]
        if params:
            settings.append({"params": params, "lr": rate, "base_lr": rate, "group": group.name})
            if weight_decay is not None:
                settings[-1]["weight_decay"] = weight_decay
    optimizer = make(settings, lr=settings[-1]["lr"])
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"optimizer= must make a torch optimizer, it made {type(optimizer).__name__}")
    return optimizer
