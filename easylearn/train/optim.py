"""Optimizers: torch's own, fused where the device has a kernel."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import ArgumentError, check_number, name_of
from ..nn.groups import ParamGroup
from .snapshot import is_sharded

OptimizerFn = Callable[..., Optimizer]
_ALLOWED: Mapping[str, tuple[str, ...]] = {  # what param groups may hold
    "weight_decay": ("at least 0",), "momentum": ("at least 0", "below 1"), "betas": ("at least 0", "below 1"),
    "eps": ("at least 0",), "alpha": ("at least 0",), "dampening": (),
}  # fmt: skip
Lists = tuple[list[Tensor], ...]


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


@functools.lru_cache(maxsize=32)
def has_adamw_kernel(device_type: str) -> bool:
    """Whether torch has the kernel, which is not public, that `AdamW` calls, with the same arguments."""
    tensors = [[torch.ones(1, device=device_type)] for _ in range(4)]
    group = {"lr": 0.0, "betas": (0.9, 0.99), "weight_decay": 0.0, "eps": 1e-8, "maximize": False}
    try:
        _call_kernel((*tensors, [], [torch.ones((), device=device_type)]), _kernel_options(group))
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    return True


def _fused(kind: Callable[..., Optimizer], params: Iterable[Any], options: dict[str, Any]) -> Optimizer:
    groups = list(params)
    first = groups[0]["params"][0] if isinstance(groups[0], dict) else groups[0]
    if not is_sharded(first) and has_fused(kind, str(first.device.type)):  # there is no fused SGD of shares
        options["fused"] = True
    return kind(groups, **options)


def _kernel_options(group: Mapping[str, Any]) -> dict[str, Any]:
    beta1, beta2 = group["betas"]
    return {
        "lr": group["lr"],
        "beta1": beta1,
        "beta2": beta2,
        "weight_decay": group["weight_decay"],
        "eps": group["eps"],
        "amsgrad": False,
        "maximize": group["maximize"],
    }


def _call_kernel(lists: Lists, options: Mapping[str, Any]) -> None:
    torch._foreach_add_(lists[-1], 1)
    torch._fused_adamw_(*lists, **options)


class AdamW(torch.optim.AdamW):
    """torch's AdamW with a shorter way to its fused kernel; the results are those of torch to the bit.

    For a small model on a CPU, gathering and sorting the tensors takes several times as long as the kernel. Whatever is
    out of the ordinary is left to torch.
    """

    _one_kind = False  # until groups are added, and in a copy: torch's copies hold groups and state alone

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        kinds = {(p.device, p.dtype) for g in self.param_groups for p in g["params"]}
        self._one_kind = len(kinds) == 1 and all(has_adamw_kernel(device.type) for device, _ in kinds)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the weights."""
        calls = self._kernel_calls() if closure is None else None
        if calls is None:
            step = torch.optim.AdamW.step
            # torch wraps it for its hooks once any AdamW is made, and those of ours are called already
            return inspect.unwrap(step, stop=lambda f: not getattr(f, "hooked", False))(self, closure)
        with torch.no_grad():
            for lists, options in calls:
                _call_kernel(lists, options)
        return None

    def _kernel_calls(self) -> list[tuple[Lists, dict[str, Any]]] | None:
        """Tensors and options for the kernel, a pair per group; None where torch's own step has to be taken."""
        scaled = any(getattr(self, name, None) is not None for name in ("grad_scale", "found_inf"))
        if scaled or not self._one_kind:
            return None
        calls: list[tuple[Lists, dict[str, Any]]] = []
        for group in self.param_groups:
            if not group["fused"] or group["amsgrad"] or group["differentiable"] or group["capturable"]:
                return None
            params = group["params"]
            grads = [p.grad for p in params]
            states: list[dict[str, Tensor]] = [self.state.get(p, {}) for p in params]
            if not all(states) or any(g is None or g.is_sparse for g in grads):
                return None
            means, squares = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
            lists: Lists = (params, grads, means, squares, [], [s["step"] for s in states])
            calls.append((lists, _kernel_options(group)))
        return calls


def sgd(params: Iterable[Any], lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """SGD with momentum 0.9: the default for images.

    Args:
        params: parameters, or param groups.
        lr: the learning rate; a learner sets each group's own.
        momentum: fraction of the last step that is kept.
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
    return _fused(AdamW, params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})


def check_trainable(groups: Sequence[ParamGroup]) -> None:
    """Refuse groups that are all frozen."""
    if not any(g.trainable for g in groups):
        raise ArgumentError(
            "every layer group is frozen, so there is nothing to train; call learn.unfreeze() or freeze()"
        )


def check_optimizer(make: Any) -> None:
    """Refuse an `optimizer=` that is nothing to be called with param groups, such as a name, or one made already."""
    if not callable(make):
        given = repr(make) if isinstance(make, str) else f"a {type(make).__name__}"
        raise ArgumentError(
            f"optimizer must be a class or a function that makes one, such as torch.optim.Adam, got {given:.100}"
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
    """
    check_optimizer(make)
    check_trainable(groups)
    if weight_decay is not None:
        check_number("wd", weight_decay, "at least 0")
    decay = {} if weight_decay is None else {"weight_decay": weight_decay}
    settings: list[dict[str, Any]] = [
        {"params": params, "lr": rate, "base_lr": rate, "group": group.name, **decay}
        for group, rate in zip(groups, rates, strict=True)
        if (params := [p for _, p in group.params if p.requires_grad])
    ]
    try:
        optimizer = make(settings, lr=settings[-1]["lr"])
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"optimizer={name_of(make)} cannot be made with its settings: {error}") from error
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"optimizer= must make a torch optimizer, it made {type(optimizer).__name__}")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ArgumentError(
            "LBFGS computes the loss several times in each step, which the loop here does not: take another optimizer, "
            "such as adamw or sgd"
        )
    for group in optimizer.param_groups:  # torch's own checks let NaN and inf pass
        for name, bounds in _ALLOWED.items():
            given = group.get(name)
            for value in given if isinstance(given, tuple | list) else (given,):
                if isinstance(value, int | float):
                    check_number(f"{name} of the optimizer", value, *bounds)
    return optimizer
