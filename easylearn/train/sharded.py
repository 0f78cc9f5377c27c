"""Sharded: lanes whose processes hold a share of the weights each, for models that do not fit on one device.

torch's FSDP2 (`fully_shard`, arXiv 2304.11277) gathers the weights of a block when they are needed, and leaves with
each process its share of their gradients. Files hold whole tensors, as those of any other run.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn

from ..data.order import Loader
from ..errors import ArgumentError, StateError
from .distributed import Lanes
from .processes import Processes
from .snapshot import copy_into, is_sharded, whole
from .state import Run
from .strategy import SingleDevice, Strategy

LEAST_NUMBERS = 1_000_000  # in a block that is gathered by itself: of less, a collective takes longer than it saves


class Sharded(Lanes):
    """Lanes for a model whose weights, gradients and optimizer's state are shared out; see `Lanes` for the rest.

    Gradients are equal to those of one process up to rounding. Each forward pass is one of all processes together.

    Args:
        lanes: see `Lanes`; a multiple of the number of processes.
        exact: has no meaning here: FSDP2 adds up in its own order.
        processes: those that run this script.
        how: see `Lanes`.
    """

    def __init__(self, lanes: int, exact: bool, processes: Processes, *how: Any) -> None:
        super().__init__(lanes, False, processes, *how)
        if self.precision == "fp16" or self.compile:
            given = 'precision="fp16"' if self.precision == "fp16" else "compile="
            raise ArgumentError(
                f'shard="fsdp" does not go with {given}: take precision="bf16" or "fp32", and no compile'
            )
        self._outline: nn.Module | None = None  # the model without its weights
        self._full = 0
        _fully_shard()

    @property
    def arithmetic(self) -> str:
        """See `Strategy.arithmetic`."""
        return SingleDevice.arithmetic.__get__(self)  # type: ignore[no-any-return, attr-defined]

    def again(self, lanes: int) -> Sharded:
        """See `Lanes.again`."""
        other = super().again(lanes)
        assert isinstance(other, Sharded)
        other._outline = self._outline
        return other

    def place(self, model: nn.Module) -> nn.Module:
        """See `Strategy.place`: the model is shared out where it is, block by block."""
        if any(is_sharded(p) for p in model.parameters()):
            return model
        assert self.processes is not None
        for tensor in (*model.parameters(), *model.buffers()):
            self.processes.spread([tensor])  # one by one: together they would take the memory of the model once more
        if scalars := [name for name, p in model.named_parameters() if not p.ndim]:
            raise ArgumentError(f'shard="fsdp" cannot share out the single number {scalars[0]!r}: give it shape (1,)')
        for p in model.parameters():
            p.data = p.data.contiguous()  # FSDP2 takes no other layout, such as channels last
        self._outline = _outline(model)
        fully_shard, kind = _fully_shard()
        mesh = torch.distributed.device_mesh.init_device_mesh(self.device.type, (self.world,))
        for block in (*_blocks(model), model):
            fully_shard(block, mesh=mesh)
        shared: list[Any] = [module for module in model.modules() if isinstance(module, kind)]
        for module in shared:
            module.set_gradient_divide_factor(1.0)  # each lane's gradients are weighted by its items
            module.set_force_sum_reduction_for_comms(True)
        return model

    def put_together(self, model: nn.Module) -> nn.Module:
        """The model in one piece on the CPU, as one process would have it; all processes have to ask for it."""
        if self._outline is None:
            raise StateError(
                "the model cannot be copied, so it cannot be put together here: learn.save(name), and learn.load(name) "
                "in a learner of one process"
            )
        weights = {name: (whole(p.detach()), p.requires_grad) for name, p in model.named_parameters()}
        empty = dict(self._outline.named_parameters())
        one = copy.deepcopy(self._outline, {id(empty[n]): nn.Parameter(*given) for n, given in weights.items()})
        copy_into(one.buffers(), model.buffers())
        return one

    def forward(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """See `Strategy.forward`."""
        outputs = super().forward(model, inputs)
        shared: Any = model
        if not torch.is_grad_enabled() and isinstance(model, _fully_shard()[1]):
            shared.reshard()  # what is not in a block waits for the backward pass
        return outputs

    def _spread(self, model: nn.Module) -> None:
        assert self.processes is not None
        self.processes.spread([*model.buffers()])  # the weights are there once

    # -- training ------------------------------------------------------------------------------------------

    def _summed(self, run: Run) -> list[Tensor]:
        return []  # by FSDP2, while the backward pass goes on

    def _lane(self, run: Run, params: list[Tensor], share: float) -> tuple[Tensor, Tensor, Sequence[Tensor | None]]:
        loss = self._lane_loss(run)
        assert run.logits is not None
        self._full = run.train_loader.batch_size * self.accumulate
        torch.autograd.backward(loss * (share / self.accumulate))
        return run.logits.detach(), loss.detach(), []

    def _idle(self, run: Run) -> None:
        """Take part in the passes of the others, with their rows, and change nothing."""
        batches = run.train_loader.batches(self.device, run.seed, run.life_epoch, run.batch_in_epoch)
        with closing(batches):
            run.batch = next(batches)
            self._lane(run, [], 0.0)

    def finish_grads(self, optimizer: torch.optim.Optimizer) -> None:
        """See `Strategy.finish_grads`."""
        if self._items != self._full:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.grad.mul_(self._full / self._items)
        self._items = self._first * self.accumulate  # the mean over all items is taken
        super().finish_grads(optimizer)

    def _keep_up(self, model: nn.Module, loader: Loader, missing: int) -> None:
        if missing:
            with closing(loader.batches(self.device)) as batches:
                inputs = next(batches).inputs
            for _ in range(missing):
                self.forward(model, inputs)


def in_one_piece(model: nn.Module, strategy: Strategy) -> tuple[nn.Module, Strategy]:
    """A model and its strategy as a single process has them: shares of weights are put together on the CPU."""
    if not isinstance(strategy, Sharded):
        return model, strategy
    return strategy.put_together(model), SingleDevice("cpu", strategy.precision)


def _fully_shard() -> tuple[Any, type]:
    """FSDP2's function, and the class of modules that it has shared out."""
    try:
        from torch.distributed.fsdp import FSDPModule, fully_shard

        _ = FSDPModule.set_force_sum_reduction_for_comms
    except (ImportError, AttributeError) as error:
        raise ArgumentError(
            f'shard="fsdp" needs FSDP2 as a newer torch has it (2.14 is tested), and this is {torch.__version__}: '
            "update torch, or leave out shard="
        ) from error
    return fully_shard, FSDPModule


def _outline(model: nn.Module) -> nn.Module | None:
    """A copy without the memory of weights; None of a model that cannot be copied."""
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()}
    try:
        return copy.deepcopy(model, dict(empty))
    except (RuntimeError, TypeError, NotImplementedError):
        return None


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Layers of lists and sequences that are gathered by themselves, the inner ones first; none shares weights.

    What a list or a sequence holds is called as a module, so that FSDP2 notices; of recurrent layers those who drop
    weights use the weights alone.
    """
    owners = Counter(
        id(p) for module in model.modules() for _, p in module.named_parameters(recurse=False, remove_duplicate=False)
    )
    listed = {
        id(child)
        for module in model.modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        for child in module.children()
    }
    given: set[int] = set()
    for module in reversed([*model.modules()]):
        own = [p for p in module.parameters() if id(p) not in given]
        if id(module) not in listed or sum(p.numel() for p in own) < LEAST_NUMBERS:
            continue
        if isinstance(module, nn.ModuleList | nn.ModuleDict | nn.RNNBase) or any(owners[id(p)] > 1 for p in own):
            continue
        given |= {id(p) for p in own}
        yield module
