"""2018's `fastai.initializers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

__all__ = ["apply_init", "cond_init"]


def cond_init(m: nn.Module, init_fn: Callable[[Tensor], Any]) -> None:
    """Weights of `m` by `init_fn` and biases 0, unless it is batch-norm."""
    own = dict(m.named_parameters(recurse=False))
    weight, bias = own.get("weight"), own.get("bias")
    if not isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        if weight is not None and weight.ndim > 1:
            init_fn(weight)
        if bias is not None:
            nn.init.zeros_(bias)


def apply_init(m: nn.Module, init_fn: Callable[[Tensor], Any]) -> None:
    """`cond_init` of `m` and everything below it, with `init_fn`."""
    m.apply(lambda one: cond_init(one, init_fn))
