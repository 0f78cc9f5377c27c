"""Layer groups: the parts of a model that get a learning rate of their own and are frozen together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from ..errors import ArgumentError

BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class LayerGroup:
    """Some modules of a model, from the input towards the output.

    Args:
        name: how messages and the `lr` dictionary call it.
        modules: a parameter of theirs belongs to this group unless an earlier group holds it already (tied weights).
    """

    name: str
    modules: tuple[nn.Module, ...]


@runtime_checkable
class Grouped(Protocol):
    """A model that says which layer groups it has."""

    def layer_groups(self) -> Sequence[LayerGroup]:
        """The groups, from the input towards the output."""
        ...


@dataclass(frozen=True)
class ParamGroup:
    """A layer group with its parameters by full name, each parameter in exactly one group."""

    name: str
    modules: tuple[nn.Module, ...]
    params: tuple[tuple[str, nn.Parameter], ...]

    def __repr__(self) -> str:
        return f"ParamGroup({self.name}: {self.n_params():,} parameters{'' if self.trainable else ', frozen'})"

    @property
    def trainable(self) -> bool:
        """Whether any of its parameters gets gradients."""
        return any(p.requires_grad for _, p in self.params)

    def n_params(self, trainable_only: bool = False) -> int:
        """How many numbers its parameters hold."""
        return sum(p.numel() for _, p in self.params if p.requires_grad or not trainable_only)


def place_parameters(model: nn.Module, groups: Sequence[LayerGroup] | None = None) -> tuple[ParamGroup, ...]:
    """Put every parameter of `model` into exactly one group; a tied one belongs to the first group that has it.

    Args:
        model: the whole model.
        groups: from the input towards the output; None makes one group called "model".

    Raises:
        ArgumentError: a parameter is in no group, or two groups have one name.

    >>> body, head = nn.Linear(2, 3), nn.Linear(3, 1)
    >>> model = nn.Sequential(body, head)
    >>> [g.name for g in place_parameters(model, [LayerGroup("body", (body,)), LayerGroup("head", (head,))])]
    ['body', 'head']
    """
    chosen = groups if groups is not None else [LayerGroup("model", (model,))]
    names = [g.name for g in chosen]
    if len(set(names)) != len(names):
        raise ArgumentError(f"layer groups need different names, got {names}")
    full_name = {id(p): n for n, p in model.named_parameters()}
    free, placed = dict(full_name), []
    for group in chosen:
        parameters = (p for module in group.modules for p in module.parameters())
        own = [(free.pop(id(p)), p) for p in parameters if id(p) in free]
        placed.append(ParamGroup(group.name, group.modules, tuple(own)))
    if free:
        raise ArgumentError(
            f"{len(free)} of {len(full_name)} parameters are in no layer group, the first is "
            f"{next(iter(free.values()))!r}. Add its module to one of the groups {names}"
        )
    return tuple(placed)


def set_train_mode(model: nn.Module, groups: Sequence[ParamGroup], freeze_stats: bool) -> None:
    """Training mode for what trains, evaluation mode for what is frozen.

    A frozen group is wholly in evaluation mode: its batch-norm statistics do not drift and its dropout is off, so it
    computes the same function each time and precomputed outputs agree with it.

    Args:
        model: the whole model.
        groups: its parameter groups.
        freeze_stats: keep batch-norm layers of every group but the last in evaluation mode, too, even where their
            weights train.
    """
    model.train()
    first = next((i for i, group in enumerate(groups) if group.trainable), len(groups))
    any_frozen = any(group.params and not group.trainable for group in groups)
    for position, group in enumerate(groups):
        # A group without parameters cannot say whether it is frozen: it is with those around it.
        frozen = not group.trainable if group.params else any_frozen and position < first
        for module in group.modules:
            if frozen:
                module.eval()
            elif freeze_stats and position < len(groups) - 1:
                for layer in (m for m in module.modules() if isinstance(m, BatchNorm)):
                    layer.eval()
