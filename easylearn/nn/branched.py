"""A model of several branches, each with inputs of its own: what they say is averaged, or put together by a layer."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, EasyLearnWarning, StateError
from .body_head import BodyHead
from .groups import Grouped, LayerGroup, ParamGroup, by_branch
from .registry import register

Average = Literal["softmax", "sigmoid", "outputs", "evidence"]
JOINT = "joint"


@register("easylearn.branched")
class Branched(nn.Module):
    """Several models of the same item; what those say whose input there is is put together.

    In training it gives the outputs of each branch, those of an item one after the other, so that each has a loss of
    its own. Where a branch has no input, the mean of the others stands in its place, without a gradient.

    Args:
        names: of the branches.
        models: of each; all give (b, width).
        n_inputs: how many inputs each takes.
        width: how many numbers each gives: n_out, or the width that `joint` wants.
        average: what is averaged: "softmax" or "sigmoid", probabilities; "outputs"; or "evidence", logits: what each of
            k branches adds to the `prior` is summed and divided by the root of k, which lies between a mean, right
            where all branches know the same, and a sum, right where each knows something else.
        fresh: names of branches without a pretrained body; see `LayerGroup`.
        joint: makes logits of the branches' vectors side by side, (b, branches * width), zeros where there is no input;
            nothing is averaged then, and there is one loss.

    Attributes:
        shares: of each branch in each of the outputs that are put together, shape (branches, width): 1, or 0 where it
            says nothing of it; such a one still counts where an item has no other.
        prior: for "evidence", the logits of whoever knows nothing of an item, (n_out,).
        live: names of branches whose bodies are run in training even where their features could be stored; may be set.

    >>> model = Branched(["a", "b"], [nn.Linear(3, 2), nn.Linear(1, 2)], [1, 1], 2, "softmax").eval()
    >>> here = torch.tensor([[1, 1], [1, 0]])  # of the second item, branch b is missing
    >>> model(torch.zeros(2, 3), torch.zeros(2, 1), here).shape
    torch.Size([2, 2])
    """

    shares: Tensor
    prior: Tensor

    def __init__(
        self, names: Sequence[str], models: Sequence[nn.Module], n_inputs: Sequence[int], width: int,
        average: Average = "outputs", fresh: Sequence[str] = (), joint: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if average not in get_args(Average):
            raise ArgumentError(f"average must be one of {get_args(Average)}, got {average!r}")
        if not names or len({len(names), len(models), len(n_inputs), len(set(names))}) != 1:
            raise ArgumentError(f"there must be a name, a model and a number of inputs for each branch, got {names}")
        self.branches = nn.ModuleDict(dict(zip(names, models, strict=True)))
        self.n_inputs, self.width, self.average, self.fresh = list(n_inputs), width, average, tuple(fresh)
        self.joint = joint
        self.register_buffer("shares", torch.ones(len(names), width))
        if average == "evidence":
            self.register_buffer("prior", torch.zeros(width))
        self.live: tuple[str, ...] = ()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits (b, n_out) of the inputs of all branches, and which there are, (b, branches), 0 or 1, at last.

        In training, unless there is a `joint` layer, (b * branches, n_out).
        """
        parts, present = self.parts(*inputs), inputs[-1].to(inputs[0].device, non_blocking=True)
        if self.joint is not None or not self.training:
            return self.combine(parts, present)
        mean = self.combine(parts, present).detach().unsqueeze(1)
        return torch.where(present.bool().unsqueeze(2), parts, mean).flatten(0, 1)

    def parts(self, *inputs: Tensor) -> Tensor:
        """What each branch gives, (b, branches, width); `inputs` as `forward` takes them."""
        *given, present = inputs
        found = []
        for model, n, here in zip(self.branches.values(), self.n_inputs, present.unbind(1), strict=True):
            own, given = given[:n], given[n:]
            found.append(self._of_present(model, own, here))
        return torch.stack(found, 1)

    def _of_present(self, model: nn.Module, inputs: Sequence[Tensor], here: Tensor) -> Tensor:
        """The outputs of one branch. In training, items that are not there come into no batch-norm.

        Zeros where fewer than two are, which batch-norm cannot train on.
        """
        if not self.training or bool(here.all()):  # a graph for another runtime knows no other way
            out: Tensor = model(*inputs)
            return out
        at = here.nonzero().flatten().cpu()
        if len(at) < 2:
            like = next(model.parameters())
            return like.new_zeros(len(here), self.width, requires_grad=True)
        some: Tensor = model(*(x[at.to(x.device, non_blocking=True)] for x in inputs))
        return some.new_zeros(len(here), some.shape[1]).index_copy(0, at.to(some.device, non_blocking=True), some)

    def combine(self, parts: Tensor, present: Tensor) -> Tensor:
        """Logits (b, n_out) of what the branches give, see `parts`; where none is present, all count."""
        here = present.to(parts.device, parts.dtype, non_blocking=True)
        here = torch.where(here.sum(1, keepdim=True) > 0, here, torch.ones_like(here)).unsqueeze(2)
        parts = torch.where(here > 0, parts, torch.zeros_like(parts))
        if self.joint is not None:
            logits: Tensor = self.joint(parts.flatten(1))
            return logits
        count = here * self.shares.to(here.dtype)
        count = torch.where(count.sum(1, keepdim=True) > 0, count, here)
        if self.average == "evidence":
            beyond: Tensor = ((parts - self.prior) * count).sum(1)
            return self.prior + beyond / count.sum(1).sqrt()
        share = count / count.sum(1, keepdim=True)
        if self.average == "softmax":
            return (parts.softmax(2) * share).sum(1).clamp_min(1e-12).log()
        return (parts.sigmoid() * share).sum(1).logit(1e-7) if self.average == "sigmoid" else (parts * share).sum(1)

    def leave_out(self, names: Collection[str]) -> None:
        """Give some branches no share, with a warning that says so; see `shares`. Where none would have any, all do."""
        for i, name in enumerate(self.branches):
            if name in names:
                self.shares[i] = 0
        if names and not self.shares.any():
            self.shares.fill_(1)
            warnings.warn(
                f"none of the inputs ({', '.join(map(repr, self.branches))}) says anything of what is predicted, by "
                "linear models and items held back from them, so predictions begin near the base rates, or the mean: "
                "see whether inputs and targets are of the same items",
                EasyLearnWarning,
                stacklevel=5,
            )
        elif names:
            warnings.warn(
                f"the inputs of {', '.join(map(repr, names))} say nothing of what is predicted, by a linear model and "
                "items held back from it: where an item has another input, they are left out. If a branch learns more "
                'later on, learn.model.shares.fill_(1) takes all in; fuse="concat" leaves it to a layer',
                EasyLearnWarning,
                stacklevel=5,
            )

    def share_in(self, name: str, told: Tensor) -> None:
        """Give a branch a share in some outputs alone: `told`, (width,), is True for these; see `shares`."""
        self.shares[list(self.branches).index(name)] = told.to(self.shares)

    def layer_groups(self) -> tuple[LayerGroup, ...]:
        """Those of each branch, such as "image.stem", and "joint"."""
        groups = []
        for name, model in self.branches.items():
            own = model.layer_groups() if isinstance(model, Grouped) else [LayerGroup("model", (model,))]
            fresh = name in self.fresh
            groups += [replace(g, name=f"{name}.{g.name}", branch=name, fresh=fresh) for g in own]
        return (*groups, *([] if self.joint is None else [LayerGroup(JOINT, (self.joint,), JOINT, True)]))

    def on_features(self, names: Collection[str]) -> Branched:
        """The same modules, without the bodies of some branches, whose heads then take what the bodies give."""
        heads = {n: m.head if n in names and isinstance(m, BodyHead) else m for n, m in self.branches.items()}
        counts = [1 if n in names else k for n, k in zip(heads, self.n_inputs, strict=True)]
        short = Branched(list(heads), list(heads.values()), counts, self.width, self.average, self.fresh, self.joint)
        for name, buffer in self.named_buffers(recurse=False):
            setattr(short, name, buffer)
        return short


def stored_branches(model: nn.Module) -> tuple[str, ...]:
    """The branches of a model whose bodies are frozen, so that their features may be stored; "" of one body alone."""
    if isinstance(model, Branched):
        bodies = {n: m for n, m in model.branches.items() if isinstance(m, BodyHead) and n not in model.live}
    else:
        bodies = {"": model} if isinstance(model, BodyHead) else {}
    return tuple(n for n, m in bodies.items() if not any(p.requires_grad for p in m.body.parameters()))


def check_frozen(model: nn.Module) -> None:
    """Refuse a `model` of whose bodies no features can be stored."""
    if not isinstance(model, BodyHead | Branched):
        raise StateError(f"precompute needs a model with a body and a head, this is a {type(model).__name__}")
    if not stored_branches(model):
        raise StateError(
            "precompute stores what a frozen body gives, but the body is not frozen: call learn.freeze() first"
        )


def active_groups(model: nn.Module, groups: Sequence[ParamGroup], precompute: bool) -> tuple[ParamGroup, ...]:
    """The groups that a fit trains; with `precompute` those without the bodies whose features are stored."""
    if not precompute:
        return tuple(groups)
    stored = stored_branches(model) if isinstance(model, Branched) else ("",)
    apart = by_branch(groups)
    return tuple(g for members in apart for g in (members[-1:] if members[0].branch in stored else members))


def rates_of(groups: Sequence[ParamGroup], every: Sequence[ParamGroup], rates: Sequence[float]) -> tuple[float, ...]:
    """The rates of some `groups`, given those of `every` group; of a run that goes on they are of these alone."""
    if len(rates) == len(groups):
        return tuple(rates)
    names = {group.name for group in groups}
    return tuple(rate for group, rate in zip(every, rates, strict=True) if group.name in names)
