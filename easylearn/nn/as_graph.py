"""Models in a form that other runtimes take: one fixed graph of simple operations, without loops over the data."""

from __future__ import annotations

import copy
from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class HasGraph(Protocol):
    """A module whose own `forward` no graph can hold, but that knows one which computes the same."""

    def as_graph(self) -> nn.Module:
        """What stands for it in a graph; it may share weights with it."""
        ...


def as_graph(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in fp32 and in evaluation mode, in which each module that has an `as_graph` is replaced by it.

    >>> as_graph(nn.Sequential(nn.Dropout(0.5))).training
    False
    """
    return _replaced(copy.deepcopy(model).cpu().float().eval()).eval()


def _replaced(module: nn.Module) -> nn.Module:
    for name, child in list(module.named_children()):
        setattr(module, name, _replaced(child))
    return module.as_graph() if isinstance(module, HasGraph) else module
