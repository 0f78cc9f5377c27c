"""Strategy: the one seam between the loop and where a model runs: device, precision, accumulation, processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..data.order import Batch, Loader
from ..device import check_precision, pick_device
from ..errors import ArgumentError, check_number, check_whole
from ..task import Task
from .gate import Gate

Outputs = tuple[Tensor, Tensor | None, Tensor]
"""Of one batch: the model's outputs (b, ...) in fp32, the targets, None where they are not known, and the index."""


@runtime_checkable
class HasLoss(Protocol):
    """A model that computes the loss of a batch itself, as torchvision's detectors do."""

    def loss(self, inputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar with gradients."""
        ...


class Strategy(Protocol):
    """Where and how a model runs; `SingleDevice` is the usual one.

    Attributes:
        device: where batches are put.
        precision: "fp32", "bf16" or "fp16".
        clip: largest norm of all gradients together, or None.
        accumulate: batches whose gradients make one optimizer step.
        rank, world: which of how many processes this is; (0, 1) for one.
        lanes: into how many each training batch is cut; see `distributed`.
        gate: the turns of threads that train and evaluate the model.
    """

    device: torch.device
    precision: str
    clip: float | None
    accumulate: int
    rank: int
    world: int
    lanes: int
    gate: Gate

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""

    @property
    def arithmetic(self) -> str:
        """What the numbers of a run depend on, to the bit, in words to compare."""

    @property
    def scales_loss(self) -> bool:
        """Whether single overflows are expected and skipped (fp16)."""

    @property
    def stepped(self) -> bool:
        """Whether the last batch made an optimizer step, so that the weights have moved."""

    def place(self, model: nn.Module) -> nn.Module:
        """The `model` where it runs."""

    def reset(self, optimizer: torch.optim.Optimizer) -> None:
        """Forget what a run of `optimizer` left over within a step: gradients, and how many batches they are of."""

    def batches(self, loader: Loader, seed: int, epoch: int, start: int) -> Generator[Batch, None, None]:
        """The training batches of a `loader`, as far as this process computes them.

        For `seed`, `epoch` and `start` see `Loader.batches`.
        """

    def forward(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """The output of `model` for the `inputs` of a batch, in fp32."""

    def forward_loss(self, model: nn.Module, task: Task, batch: Batch) -> tuple[Tensor, Tensor]:
        """Output of `model` and mean loss of `task` for a `batch`."""

    def backward(self, loss: Tensor, n_items: int) -> None:
        """Add the gradients of the mean `loss` of `n_items` items."""

    def must_step(self, last_of_epoch: bool) -> bool:
        """Whether enough batches have been gathered for an optimizer step, which the `last_of_epoch` always makes."""

    def finish_grads(self, optimizer: torch.optim.Optimizer) -> None:
        """Unscale, average and clip the gradients of `optimizer`, before a callback looks at them."""

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Move the weights that `optimizer` trains and forget their gradients."""

    def evaluating(self, model: nn.Module) -> AbstractContextManager[None]:
        """The `model` in evaluation mode and without gradients; see `Gate.evaluating`."""

    def outputs(self, model: nn.Module, loader: Loader, in_turn: bool = True) -> Iterator[Outputs]:
        """What `model` gives for each batch of `loader`, in their order, each computed once by one of the processes.

        Unless `in_turn`, each process computes all of them: a batch may go on where the one before ended.
        """

    def together(self) -> AbstractContextManager[None]:
        """An error in the block ends it in all processes."""

    def once(self, path: Path, write: Callable[[Path], object]) -> Path:
        """Let the main process `write` a file, while the others wait until it is there; gives its `path`."""

    def decide(self, yes: bool) -> bool:
        """What the main process says, for what depends on its clock; `yes` is what this one would say."""

    def gather(self, rows: Tensor) -> Tensor:
        """The `rows`, of shape (n, ...), of all processes in the order of their ranks."""

    def agree(self, reason: str | None) -> str | None:
        """Why the fit stops, if it does in any process: the `reason` of this one, or that of another."""

    def state_dict(self) -> dict[str, Any]:
        """What a run that is continued needs of this, as plain values and tensors."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the `state` that `state_dict` gave."""


class SingleDevice:
    """A single process on a single device; see `Strategy`.

    Args:
        device: where the model is; None takes the best there is.
        precision: "fp32", "bf16" (autocast) or "fp16" (autocast with a scaled loss).
        clip: largest norm of all gradients together; None leaves them as they are.
        accumulate: batches whose gradients make one optimizer step: the mean over all their items, as one large
            batch would give. A shorter rest at the end of an epoch makes a step, too.
        compile: run the training steps through `torch.compile`: True, or its mode. Everything else uses the model as
            it is, so that weights, hooks and files are as ever.
    """

    rank, world, lanes, is_main = 0, 1, 1, True

    def __init__(
        self,
        device: str | torch.device | None = None,
        precision: str = "fp32",
        clip: float | None = None,
        accumulate: int = 1,
        compile: bool | str = False,
    ) -> None:
        check_whole("accumulate", accumulate)
        if clip is not None:
            check_number("clip (None switches it off)", clip, "above 0")
        self.device = pick_device(device)
        self.precision: str = check_precision(precision, self.device)
        self.clip = clip
        self.accumulate = accumulate
        self.compile = _check_compile(compile)
        self._compiled: tuple[nn.Module, Callable[..., Tensor]] | None = None
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]
        self._scaler = torch.amp.GradScaler(self.device.type) if self.precision == "fp16" else None
        self.gate = Gate()
        self._pending = 0
        self._first = self._items = 0

    def place(self, model: nn.Module) -> nn.Module:
        """See `Strategy.place`."""
        return model.to(self.device)

    def evaluating(self, model: nn.Module) -> AbstractContextManager[None]:
        """See `Strategy.evaluating`."""
        return self.gate.evaluating(model)

    def batches(self, loader: Loader, seed: int, epoch: int, start: int) -> Generator[Batch, None, None]:
        """See `Strategy.batches`."""
        return loader.batches(self.device, seed, epoch, start)

    def outputs(self, model: nn.Module, loader: Loader, in_turn: bool = True) -> Iterator[Outputs]:
        """See `Strategy.outputs`."""
        with closing(loader.batches(self.device)) as batches:
            for batch in batches:
                yield self.forward(model, batch.inputs), batch.target, batch.index

    def together(self) -> AbstractContextManager[None]:
        """See `Strategy.together`."""
        return nullcontext()

    def once(self, path: Path, write: Callable[[Path], object]) -> Path:
        """See `Strategy.once`."""
        write(path)
        return path

    def decide(self, yes: bool) -> bool:
        """See `Strategy.decide`."""
        return yes

    def gather(self, rows: Tensor) -> Tensor:
        """See `Strategy.gather`."""
        return rows

    def agree(self, reason: str | None) -> str | None:
        """See `Strategy.agree`."""
        return reason

    def reset(self, optimizer: torch.optim.Optimizer) -> None:
        """See `Strategy.reset`."""
        optimizer.zero_grad()
        self._pending = self._items = 0
        if self._scaler is not None:
            if isinstance(optimizer, torch.optim.SGD):
                # Where the first step overflows, torch's fused SGD skips it but takes the momentum that it has not
                # yet written for real in the second (seen in 2.15). Without this mark the scaler skips by itself.
                optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
            state = self._scaler.state_dict()
            self._scaler = torch.amp.GradScaler(self.device.type)
            self._scaler.load_state_dict(state)

    @property
    def arithmetic(self) -> str:
        """See `Strategy.arithmetic`."""
        if not self.compile:
            return self.precision
        return f"{self.precision}, compiled" + ("" if self.compile is True else f" ({self.compile})")

    @property
    def scales_loss(self) -> bool:
        """See `Strategy.scales_loss`."""
        return self._scaler is not None

    def forward(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """See `Strategy.forward`."""
        call = self._quick(model) if self.compile and model.training else model
        if self._dtype is None:
            return call(*inputs)  # type: ignore[no-any-return]
        with torch.autocast(self.device.type, self._dtype):
            return call(*inputs).float()  # type: ignore[no-any-return]

    def _quick(self, model: nn.Module) -> Callable[..., Tensor]:
        """The model compiled, which it is when it is first called; kept while it is the same model."""
        if self._compiled is None or self._compiled[0] is not model:
            mode = self.compile if isinstance(self.compile, str) else None
            self._compiled = model, torch.compile(model, mode=mode)
        return self._compiled[1]

    def forward_loss(self, model: nn.Module, task: Task, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Strategy.forward_loss`."""
        assert batch.target is not None
        if task.may_have_own_loss and isinstance(model, HasLoss):
            with nullcontext() if self._dtype is None else torch.autocast(self.device.type, self._dtype):
                loss = model.loss(batch.inputs, batch.target)
            return loss.detach().expand(len(batch.target)), loss
        logits = self.forward(model, batch.inputs)
        return logits, task.loss(logits, batch.target)

    def backward(self, loss: Tensor, n_items: int) -> None:
        """See `Strategy.backward`."""
        if self._pending == 0:
            self._first, self._items = n_items, 0
        self._items += n_items
        if self.accumulate > 1:
            loss = loss * (n_items / (self._first * self.accumulate))
        if self._scaler is not None:
            loss = self._scaler.scale(loss)
        torch.autograd.backward(loss)
        self._pending += 1

    def must_step(self, last_of_epoch: bool) -> bool:
        """See `Strategy.must_step`."""
        return self._pending >= self.accumulate or last_of_epoch

    @property
    def stepped(self) -> bool:
        """See `Strategy.stepped`."""
        return self._pending == 0

    def finish_grads(self, optimizer: torch.optim.Optimizer) -> None:
        """See `Strategy.finish_grads`."""
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)
        full = self._first * self.accumulate
        if self._items != full:  # fewer batches than usual, or of another size
            for p in _trained(optimizer):
                if p.grad is not None:
                    p.grad.mul_(full / self._items)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(_trained(optimizer), self.clip)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """See `Strategy.step`."""
        if self._scaler is not None:
            self._scaler.step(optimizer)
            self._scaler.update()
        else:
            optimizer.step()
        if type(optimizer).zero_grad is not torch.optim.Optimizer.zero_grad:
            optimizer.zero_grad()  # an optimizer of somebody's own does it in its own way
        else:
            # The same without what it tells the profiler: a twentieth of a small model's step.
            for group in optimizer.param_groups:
                for p in group["params"]:
                    p.grad = None
        self._pending = 0

    def state_dict(self) -> dict[str, Any]:
        """See `Strategy.state_dict`."""
        scaler = self._scaler.state_dict() if self._scaler is not None else {}
        counts = {"pending": self._pending, "first": self._first, "items": self._items}
        return {"scaler": scaler, **counts, "lanes": self.lanes, "states": {}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Strategy.load_state_dict`."""
        if self._scaler is not None and state["scaler"]:
            self._scaler.load_state_dict(dict(state["scaler"]))
        self._pending = int(state["pending"])
        self._first, self._items = int(state["first"]), int(state["items"])


def _check_compile(given: bool | str) -> bool | str:
    modes = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
    if isinstance(given, bool) or (isinstance(given, str) and given in modes):
        return given
    raise ArgumentError(f"compile must be True, False or a mode of torch.compile ({', '.join(modes)}), got {given!r}")


def _trained(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
