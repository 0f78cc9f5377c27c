"""Snapshot: restores a model and the random generators after a trial; copies into tensors that may be shared out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .. import keyed
from ..errors import ArgumentError


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor, of which each process holds a share."""
    loaded = sys.modules.get("torch.distributed.tensor")  # where it is not, there is none
    return loaded is not None and isinstance(tensor, loaded.__dict__.get("DTensor", ()))


def own_class(module: nn.Module) -> type:
    """The class that a module was made of: FSDP2 puts one of its own in front."""
    front = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", ())
    return next(kind for kind in type(module).__mro__ if not issubclass(kind, front))


def own_share(tensor: Tensor) -> Tensor:
    """What this process holds of it, in the same memory."""
    share: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return share


def whole(value: Any, keep: bool = True) -> Any:
    """Plain values with each shared out tensor in one piece, on the CPU; all processes have to ask for it together.

    Args:
        value: tensors, plain values, and dictionaries, lists and tuples of them.
        keep: False takes part in the exchange for the others, and gives tensors without content.
    """
    if isinstance(value, Tensor):
        if not is_sharded(value):
            return value
        full: Tensor = value.detach().full_tensor()  # type: ignore[attr-defined]
        return full.cpu() if keep else full.new_empty(0)
    if isinstance(value, Mapping):
        return {name: whole(each, keep) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(each, keep) for each in value)
    return value


def shared_out(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as `like` is: of one that is shared out, the share of this process."""
    if not is_sharded(like) or is_sharded(value):
        return value
    from torch.distributed.tensor import DTensor

    mesh, rows = like.device_mesh, own_share(like).shape[0]  # type: ignore[attr-defined]
    first = min(mesh.get_local_rank() * -(-like.shape[0] // mesh.size()), like.shape[0])
    own = value[first : first + rows].to(like.device, like.dtype, copy=True)
    placements = like.placements  # type: ignore[attr-defined]
    return DTensor.from_local(own, mesh, placements, run_check=False, shape=like.shape, stride=like.stride())


def copy_into(live: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    """Give each live tensor its value."""
    with torch.no_grad():
        for into, value in zip(live, values, strict=True):
            into.copy_(shared_out(value, into))


def refuse_sharded(model: nn.Module, who: str) -> None:
    """Refuse a model whose weights are shared out, for what needs each of them in one piece."""
    if any(map(is_sharded, model.parameters())):
        raise ArgumentError(f'{who} needs whole weights, and shard="fsdp" shares them out: leave out one of the two')


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
