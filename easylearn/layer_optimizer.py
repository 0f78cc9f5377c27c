"""2018's `fastai.layer_optimizer`: an optimizer with a rate and a weight decay per layer group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer

from . import core
from .core import chain_params, listify
from .errors import ArgumentError
from .imports import star


def opt_params(parm: Any, lr: float, wd: float) -> dict[str, Any]:
    """The parameters of `parm` that train, with `lr` and `wd`, as optimizers take them."""
    return {"params": chain_params(parm), "lr": lr, "weight_decay": wd}


def set_lrs(opt: Optimizer, lrs: Any) -> None:
    """Set the rates of the optimizer `opt`: `lrs` is one, or one per group."""
    _set(opt, "lr", lrs)


def set_wds(opt: Optimizer, wds: Any) -> None:
    """Set the weight decay of the optimizer `opt`: `wds` is one, or one per group."""
    _set(opt, "weight_decay", wds)


def _set(opt: Optimizer, name: str, values: Any) -> None:
    for group, value in zip(opt.param_groups, _one_each(values, opt.param_groups, name), strict=True):
        group[name] = value


def _one_each(values: Any, groups: Sequence[Any], name: str) -> list[Any]:
    made = listify(values, groups)
    if len(made) != len(groups):
        raise ArgumentError(f"{len(made)} values of {name} were given for {len(groups)} layer groups")
    return made


class LayerOptimizer:
    """An optimizer over layer groups.

    Args:
        opt_fn: makes it of param groups.
        layer_groups: a module, or lists of modules, input first.
        lrs: a rate, or one per group.
        wds: a weight decay, or one per group.
    """

    def __init__(self, opt_fn: Callable[..., Optimizer], layer_groups: Any, lrs: Any, wds: Any = None) -> None:
        self.layer_groups = list(layer_groups) if isinstance(layer_groups, list | tuple) else [layer_groups]
        self.lrs = _one_each(lrs, self.layer_groups, "lr")
        self.wds = _one_each(0.0 if wds is None else wds, self.layer_groups, "wd")
        self.opt = opt_fn(self.opt_params())

    def opt_params(self) -> list[dict[str, Any]]:
        """A param group per layer group."""
        return [opt_params(*one) for one in zip(self.layer_groups, self.lrs, self.wds, strict=True)]

    @property
    def lr(self) -> Any:
        """The rate of the last group."""
        return self.lrs[-1]

    @property
    def mom(self) -> float:
        """The momentum, or Adam's first beta."""
        first = self.opt.param_groups[0]
        return float(first["betas"][0] if "betas" in first else first["momentum"])

    def set_lrs(self, lrs: Any) -> None:
        """Set one rate, or one per group: `lrs`."""
        self.lrs = _one_each(lrs, self.layer_groups, "lr")
        set_lrs(self.opt, self.lrs)

    def set_wds(self, wds: Any) -> None:
        """Set one weight decay, or one per group: `wds`."""
        self.wds = _one_each(wds, self.layer_groups, "wd")
        set_wds(self.opt, self.wds)

    def set_mom(self, momentum: float) -> None:
        """Set `momentum`, or Adam's first beta."""
        for group in self.opt.param_groups:
            group |= {"betas": (momentum, group["betas"][1])} if "betas" in group else {"momentum": momentum}


__all__ = star(globals(), core, own=["LayerOptimizer", "opt_params", "set_lrs", "set_wds"])
