"""Layer groups: the parts of a model that get a learning rate of their own and are frozen together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from torch import nn

from ..errors import ArgumentError, did_you_mean

BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class LayerGroup:
    """Some modules of a model, from the input towards the output.

    Args:
        name: how messages and the `lr` dictionary call it.
        modules: a parameter of theirs belongs to this group unless an earlier group holds it already (tied weights).
        branch: of a model of several branches, the one that it is in; each goes from its input to its output.
        fresh: its branch has no pretrained body, so that `freeze` and `bn_freeze` leave it alone unless it is named.
    """

    name: str
    modules: tuple[nn.Module, ...]
    branch: str = ""
    fresh: bool = False


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
    branch: str = ""
    fresh: bool = False

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
        placed.append(ParamGroup(group.name, group.modules, tuple(own), group.branch, group.fresh))
    if free:
        raise ArgumentError(
            f"{len(free)} of {len(full_name)} parameters are in no layer group, the first is "
            f"{next(iter(free.values()))!r}. Add its module to one of the groups {names}"
        )
    return tuple(placed)


G = TypeVar("G", LayerGroup, ParamGroup)


def by_branch(groups: Sequence[G]) -> list[list[G]]:
    """The groups of each branch; of a model without branches one list of all."""
    names = dict.fromkeys(group.branch for group in groups)
    return [[group for group in groups if group.branch == name] for name in names]


def freeze_to(groups: Sequence[ParamGroup], k: int) -> None:
    """Let the groups from `k` on train, of each branch, and all of fresh ones; see `Learner.freeze_to`."""
    apart = by_branch(groups)
    n = min(map(len, apart))
    if type(k) is not int or not -n <= k < n:
        names = ", ".join(g.name for g in groups) + (" in all" if len(apart) > 1 else "")
        raise ArgumentError(f"freeze_to({k!r}): there are {n} layer groups ({names}), so k is from {-n} to {n - 1}")
    for members in apart:
        for position, group in enumerate(members):
            for _, p in group.params:
                p.requires_grad_(position >= k % len(members) or group.fresh)


def freeze_named(groups: Sequence[ParamGroup], names: Sequence[str], train: bool) -> None:
    """Let groups, or all groups of branches, train or not; of a branch that is frozen the last group trains.

    Raises:
        ArgumentError: there is no group or branch of that name.
    """
    chosen = named_groups(groups, names)
    last = {members[-1].name for members in by_branch(groups)}
    for group in chosen:
        for _, p in group.params:
            p.requires_grad_(train or (group.name not in names and group.name in last))


def named_groups(groups: Sequence[G], names: Collection[str]) -> list[G]:
    """The groups with some names, of their own or of their branches; `ArgumentError` where a name is nobody's."""
    known = dict.fromkeys(word for group in groups for word in (group.branch, group.name) if word)
    for name in names:
        if name not in known:
            raise ArgumentError(f"there is no layer group {name!r}. {did_you_mean(str(name), known)}")
    return [group for group in groups if group.name in names or (group.branch and group.branch in names)]


def set_train_mode(
    model: nn.Module, groups: Sequence[ParamGroup], freeze_stats: bool, still: Collection[str] = ()
) -> None:
    """Training mode for what trains, evaluation mode for what is frozen.

    A frozen group is wholly in evaluation mode: its batch-norm statistics do not drift and its dropout is off, so it
    computes the same function each time and precomputed outputs agree with it.

    Args:
        model: the whole model.
        groups: its parameter groups.
        freeze_stats: keep batch-norm layers of every group but the last of its branch in evaluation mode, too, even
            where their weights train; not those of fresh groups.
        still: names of groups that count as frozen, whatever their parameters say.
    """
    model.train()
    for members in by_branch(groups):
        trains = [group.trainable and group.name not in still for group in members]
        first = next((i for i, on in enumerate(trains) if on), len(members))
        any_frozen = any(group.params and not on for group, on in zip(members, trains, strict=True))
        for position, group in enumerate(members):
            # A group without parameters cannot say whether it is frozen: it is with those around it.
            frozen = not trains[position] if group.params else any_frozen and position < first
            for module in group.modules:
                if frozen:
                    module.eval()
                elif freeze_stats and not group.fresh and position < len(members) - 1:
                    for layer in (m for m in module.modules() if isinstance(m, BatchNorm)):
                        layer.eval()
