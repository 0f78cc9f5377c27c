"""Snapshot: restores a model and the random generators after a trial."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .. import keyed


def copy_into(live: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    """Give each live tensor its value."""
    with torch.no_grad():
        for into, value in zip(live, values, strict=True):
            into.copy_(value)


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Restore the model and the global generators after the block, bit for bit.

    Weights, buffers, gradients, `requires_grad` and each module's mode are restored also after an error or Ctrl-C.
    """
    rng = keyed.rng_state()
    modes = [(m, m.training) for m in model.modules()]
    grads = [(p, p.grad, p.requires_grad) for p in model.parameters()]
    live = [*model.parameters(), *model.buffers()]
    kept = [t.detach().clone() for t in live]
    # A module may replace its buffer instead of changing it in place.
    buffers = [(m, n, t) for m in model.modules() for n, t in m.named_buffers(recurse=False, remove_duplicate=False)]
    try:
        for p, _, _ in grads:
            p.grad = None
        yield
    finally:
        for module, name, tensor in buffers:
            if module.get_buffer(name) is not tensor:
                setattr(module, name, tensor)
        copy_into(live, kept)
        for p, grad, requires in grads:
            p.grad = grad
            p.requires_grad_(requires)
        for module, mode in modes:
            module.training = mode
        keyed.set_rng_state(rng)
