"""Lanes: a strategy that cuts each batch into lanes, so that weights do not depend on how many processes compute them.

A run has L lanes. Lane l of a batch of n items has the rows from l * n // L to (l + 1) * n // L; each of W processes
computes L / W neighbouring lanes, one after the other, as L processes would. What they give (gradients, changes of
buffers, the loss) is added up in one binary tree, by hand inside a process and between two processes at a time beyond
it: a sum of two is the same whoever computes it. Random draws inside a lane are keyed by (seed, epoch, batch, lane).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import keyed
from ..data.order import Batch, ItemLoader, Loader
from ..errors import ArgumentError, StateError, check_whole
from ..task import Task
from .callback import Callback, Hooks, call
from .fitting import check_gradient
from .processes import Processes, Tree
from .state import Pause, Run
from .strategy import Outputs, SingleDevice, Strategy

LEAST = 2  # items in a lane: batch-norm cannot train on a single one, so that lanes of a small batch are put together
TURNS = 8  # batches that each process evaluates before all exchange what came of them


class Lanes(SingleDevice):
    """One or several processes that compute the lanes of each batch; see `Strategy`, and `SingleDevice` for the rest.

    Args:
        lanes: into how many each batch is cut; a multiple of the number of processes, which trains as well on half or a
            quarter of them.
        exact: weights are equal to the bit, however many processes compute the lanes; False is one all-reduce per step,
            which is quicker from four processes on, and equal up to rounding.
        processes: those that run this script; None for one.
        how: device, precision, clip, accumulate and compile of `SingleDevice`.
    """

    def __init__(self, lanes: int, exact: bool = True, processes: Processes | None = None, *how: Any) -> None:
        super().__init__(*how)
        check_whole("lanes", lanes)
        self.lanes, self.exact, self.processes = lanes, exact, processes
        self.rank, self.world = (0, 1) if processes is None else (processes.rank, processes.world)
        self.is_main = self.rank == 0
        each, rest = divmod(lanes, self.world)
        if rest or (exact and self.world > 1 and each & (each - 1)):
            raise ArgumentError(
                f"{lanes} lanes cannot be shared by {self.world} processes: give lanes={self.world}, or that times 2, "
                "4, 8 ...; or start another number of processes"
            )
        self.own = range(self.rank * each, (self.rank + 1) * each)
        self.asked: Pause | None = None  # of this process by Ctrl-C; the next step tells the others
        self._run: Run | None = None
        self._inner = Hooks(())
        self._pieces: list[Batch] = []
        self._found: tuple[Tensor, list[Tensor], list[Tensor], int] | None = None
        self._states: dict[int, dict[str, Tensor]] = {}  # buffers that go from batch to batch, of each lane

    @property
    def arithmetic(self) -> str:
        """See `Strategy.arithmetic`."""
        return super().arithmetic + ("" if self.exact else ", one all-reduce per step")

    def place(self, model: nn.Module) -> nn.Module:
        """See `Strategy.place`: every process gets the weights of the first one."""
        placed = super().place(model)
        self._spread(placed)
        return placed

    def again(self, lanes: int) -> Lanes:
        """The same strategy with another number of lanes."""
        how = self.device, self.precision, self.clip, self.accumulate, self.compile
        return type(self)(lanes, self.exact, self.processes, *how)

    def together(self) -> AbstractContextManager[None]:
        """See `Strategy.together`."""
        return nullcontext() if self.processes is None else self.processes.together()

    def once(self, path: Path, write: Callable[[Path], object]) -> Path:
        """See `Strategy.once`."""
        with self.together():
            if self.is_main:
                write(path)
            if self.processes is not None:
                self.processes.barrier()
        return path

    def gather(self, rows: Tensor) -> Tensor:
        """See `Strategy.gather`; the rows are on the CPU."""
        if self.processes is None:
            return rows
        return torch.cat([each["rows"] for each in self.processes.exchange_tensors({"rows": rows})])

    def agree(self, reason: str | None) -> str | None:
        """See `Strategy.agree`."""
        return reason if self.processes is None else self.processes.agree(reason)

    def decide(self, yes: bool) -> bool:
        """See `Strategy.decide`."""
        return yes if self.processes is None else self.processes.any(yes and self.is_main)

    # -- training ------------------------------------------------------------------------------------------

    def begin(self, run: Run, callbacks: Sequence[Callback]) -> Hooks:
        """The hooks of a fit; those that change what a step computes are called for each lane instead."""
        self._run, self.asked = run, None
        self._inner = Hooks([c for c in callbacks if c.changes_steps])
        hooks, rest = Hooks(callbacks), Hooks([c for c in callbacks if not c.changes_steps])
        hooks.batch_begin, hooks.loss = rest.batch_begin, rest.loss
        if self.processes is not None:
            sizes = [run.n_steps, run.steps_per_epoch, run.train_loader.n_items, run.train_loader.batch_size]
            trained = sum(p.numel() for group in run.optimizer.param_groups for p in group["params"])
            self.processes.same("[steps, steps in an epoch, items, batch_size]", sizes)
            self.processes.same("[seed, epochs before, weights to train]", [run.seed, run.first_epoch, trained])
            self._spread(run.model)
        return hooks

    def end(self) -> None:
        """Let go of the fit: its optimizer and its data are not kept for as long as the learner lives."""
        self._run, self._inner, self._found = None, Hooks(()), None

    def _spread(self, model: nn.Module) -> None:
        """Give every process the weights of the first one."""
        if self.processes is not None:
            self.processes.spread([*model.parameters(), *model.buffers()])

    def reset(self, optimizer: torch.optim.Optimizer) -> None:
        """See `Strategy.reset`."""
        super().reset(optimizer)
        self._states = {}

    def batches(self, loader: Loader, seed: int, epoch: int, start: int) -> Generator[Batch, None, None]:
        """See `Strategy.batches`: of each batch the rows of the last lane of this process; the others are kept."""
        with ExitStack() as stack:
            lanes = [
                stack.enter_context(closing(loader.batches(self.device, seed, epoch, start, (lane, self.lanes, LEAST))))
                for lane in self.own
            ]
            try:
                for pieces in zip(*lanes, strict=True):
                    self._pieces = list(pieces)
                    yield self._pieces[-1]
            finally:
                self._pieces = []

    def forward_loss(self, model: nn.Module, task: Task, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Strategy.forward_loss`: output of the last lane of this process, and the mean loss of all lanes."""
        if not self._pieces or self._run is None:  # outside a fit, as `learn.plan` measures a step
            return super().forward_loss(model, task, batch)
        if batch is not self._pieces[-1]:
            raise ArgumentError(
                "a callback has replaced run.batch, which is one lane of several: let its class say changes_steps = "
                "True, and it is called for each of them"
            )
        run = self._run
        params = self._summed(run)
        buffers, full, asked = _Buffers(model), run.train_loader.batch_size, float(self.asked is not None)
        tree, key = Tree(), (run.seed, "lane", run.life_epoch, run.batch_in_epoch)
        logits = torch.zeros(0, task.n_out)
        for lane, run.batch in zip(self.own, self._pieces, strict=True):
            n = run.batch.index.numel()
            buffers.put_back(self._states.get(lane))
            keyed.seed_global(*key, lane)
            if not n:  # of a small batch
                self._idle(run)
                buffers.put_back(self._states.get(lane))
                tree.add(_flat(params, [None] * len(params), buffers.changes(), [0.0, 0.0, 0.0, asked]))
                continue
            logits, loss, grads = self._lane(run, params, n / full)
            tree.add(_flat(params, grads, buffers.changes(), [float(loss) * (n / full), float(n), 1.0, asked]))
            if buffers.passing:
                self._states[lane] = buffers.passed()
        run.batch = batch
        keyed.seed_global(*key, self.lanes)  # whatever draws next draws the same in each process
        self._take(run, tree, params, buffers)
        assert self._found is not None
        return logits, self._found[0]

    def _summed(self, run: Run) -> list[Tensor]:
        """The parameters whose gradients are added up here."""
        return [p for group in run.optimizer.param_groups for p in group["params"] if p.requires_grad]

    def _idle(self, run: Run) -> None:
        """Do what a lane without rows has to do."""

    def _lane(self, run: Run, params: list[Tensor], share: float) -> tuple[Tensor, Tensor, Sequence[Tensor | None]]:
        """Output and loss of the lane that is `run.batch`, and the gradients of its `share` of the whole loss."""
        loss = self._lane_loss(run)
        assert run.loss is not None and run.logits is not None
        share_of_it = loss * share
        if self._scaler is not None:
            share_of_it = self._scaler.scale(share_of_it)
        return run.logits.detach(), loss.detach(), torch.autograd.grad(share_of_it, params, allow_unused=True)

    def _lane_loss(self, run: Run) -> Tensor:
        """The loss of the lane that is `run.batch`."""
        call(self._inner.batch_begin, run)
        assert run.batch is not None
        run.logits, run.loss = super().forward_loss(run.model, run.task, run.batch)
        if run.step == 0:
            check_gradient(run.logits, run.loss, run.task)
        call(self._inner.loss, run)
        return run.loss

    def _take(self, run: Run, tree: Tree, params: list[Tensor], buffers: _Buffers) -> None:
        """Add up what all lanes gave, and keep it for `backward`."""
        flat = tree.result()
        if self.processes is not None:
            flat = self.processes.total(flat, self.exact)
        used, (loss, n, lanes, asked) = flat[-4 - len(params) : -4].tolist(), flat[-4:].tolist()
        scale = run.train_loader.batch_size / n
        grads: list[Tensor] = []
        trained: list[Tensor] = []
        at = 0
        if scale != 1:
            flat[: sum(p.numel() for p in params)].mul_(scale)
        for p, is_used in zip(params, used, strict=True):
            if is_used:
                trained.append(p)
                grad = flat[at : at + p.numel()].view(p.shape)
                # Fused optimizers take it that weight and gradient have one layout, such as channels last.
                grads.append(grad.to(p.dtype) if p.is_contiguous() else torch.empty_like(p).copy_(grad))
            at += p.numel()
        buffers.take(flat[at : len(flat) - 4 - len(params)], lanes)
        if asked and run.stop_reason is None:
            run.stop_reason = Pause(f"interrupted after step {run.step + 1}")
        self._found = torch.tensor(loss * scale, requires_grad=True), trained, grads, int(n)

    def backward(self, loss: Tensor, n_items: int) -> None:
        """See `Strategy.backward`: the gradients are there already."""
        if self._found is None or loss is not self._found[0]:
            raise ArgumentError(
                "a callback has replaced run.loss, which is that of all lanes: let its class say changes_steps = True, "
                "and it is called for each of them"
            )
        _, params, grads, n = self._found
        self._found = None
        if self._pending == 0:
            self._first, self._items = n, 0
        self._items += n
        for p, grad in zip(params, grads, strict=True):
            if self.accumulate > 1:
                grad = grad * (n / (self._first * self.accumulate))
            p.grad = grad if p.grad is None else p.grad.add_(grad)
        self._pending += 1

    # -- evaluation ------------------------------------------------------------------------------------------

    def outputs(self, model: nn.Module, loader: Loader, in_turn: bool = True) -> Iterator[Outputs]:
        """See `Strategy.outputs`: each process computes whole batches in its turn, and gets those of the others."""
        if self.processes is None or not in_turn:
            yield from super().outputs(model, loader)
            return
        with self.processes.together(), closing(self._own_turns(loader)) as own:
            whole, each = len(loader), self.world * TURNS
            for first in range(0, whole, each):
                told: dict[str, Tensor] = {}
                number, most = -1, min(TURNS, -(-(whole - first) // self.world))
                for number, batch in enumerate(islice(own, TURNS)):
                    told |= {f"{number} outputs": self.forward(model, batch.inputs), f"{number} index": batch.index}
                    if batch.target is not None:
                        told[f"{number} target"] = batch.target
                self._keep_up(model, loader, most - number - 1)
                every = self.processes.exchange_tensors(told)
                for k in range(min(each, whole - first)):
                    number, found = k // self.world, every[k % self.world]
                    yield found[f"{number} outputs"], found.get(f"{number} target"), found[f"{number} index"]

    def _keep_up(self, model: nn.Module, loader: Loader, missing: int) -> None:
        """Do what a process has to do that has fewer batches than others, by so many."""

    def _own_turns(self, loader: Loader) -> Generator[Batch, None, None]:
        if isinstance(loader, ItemLoader):
            order = replace(loader.order, turn=(self.rank, self.world))
            loader = ItemLoader(order, loader.source, loader.target)
            yield from loader.batches(self.device)
            return
        with closing(loader.batches(self.device)) as batches:
            yield from islice(batches, self.rank, None, self.world)

    # -- state -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """See `Strategy.state_dict`; all processes have to ask for it together."""
        own = {f"{lane} {name}": t for lane, of in self._states.items() for name, t in of.items()}
        every = [own] if self.processes is None or not self.processes.any(bool(own)) else None
        if every is None:
            assert self.processes is not None
            every = self.processes.exchange_tensors(own)
        return {**super().state_dict(), "lanes": self.lanes, "states": {k: t for of in every for k, t in of.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Strategy.load_state_dict`."""
        super().load_state_dict(state)
        self._states = {}
        for key, value in (state.get("states") or {}).items():
            lane, name = key.split(" ", 1)
            if int(lane) in self.own:
                self._states.setdefault(int(lane), {})[name] = value.to(self.device, copy=True)


class _Buffers:
    """What a model's layers in training mode write down in a step: each lane begins with what there was before it.

    Args:
        model: whose buffers in its state, such as the statistics of batch-norm, are averaged over the lanes; those that
            `state_dict` leaves out pass from batch to batch, and each lane has its own.
    """

    def __init__(self, model: nn.Module) -> None:
        kept = set(model.state_dict())
        named = [
            (f"{path}.{name}".lstrip("."), module, name, buffer)
            for path, module in model.named_modules()
            if module.training
            for name, buffer in module.named_buffers(recurse=False)
            if buffer.dtype != torch.bool
        ]
        self._live = [buffer for name, *_, buffer in named if name in kept]
        self._before = [buffer.clone() for buffer in self._live]
        self.passing = {name: (module, last) for name, module, last, _ in named if name not in kept}
        self._first = {name: buffer for name, *_, buffer in named if name not in kept}

    def put_back(self, passing: Mapping[str, Tensor] | None) -> None:
        """As before the step; `passing` are the buffers that the lane's last batch left, None before its first."""
        with torch.no_grad():
            for live, before in zip(self._live, self._before, strict=True):
                live.copy_(before)
        for name, (module, last) in self.passing.items():
            setattr(module, last, self._first[name].clone() if passing is None else passing[name])

    def changes(self) -> list[Tensor]:
        """What a lane has added to each buffer; an infinite number that stays is no change."""
        pairs = zip(self._live, self._before, strict=True)
        return [torch.where(live == before, 0, live - before).reshape(-1) for live, before in pairs]

    def passed(self) -> dict[str, Tensor]:
        """The buffers that a lane leaves for its next batch."""
        return {name: module.get_buffer(last) for name, (module, last) in self.passing.items()}

    def take(self, total: Tensor, lanes: float) -> None:
        """The mean of what `lanes` of them have added, whose sum is `total`."""
        at = 0
        with torch.no_grad():
            for live, before in zip(self._live, self._before, strict=True):
                change = total[at : at + live.numel()].view(live.shape) / lanes
                live.copy_(before + (change if live.is_floating_point() else change.round()))
                at += live.numel()


def _flat(
    params: Sequence[Tensor], grads: Sequence[Tensor | None], changes: Sequence[Tensor], numbers: Sequence[float]
) -> Tensor:
    """Everything that is to be added up, in one piece: its layout, on which rounding depends, is always the same."""
    like = next(iter([*params, *changes]), torch.empty(0))
    pieces = [
        like.new_zeros(p.numel()) if g is None else (g.to_dense() if g.is_sparse else g).reshape(-1)
        for p, g in zip(params, grads, strict=True)
    ]
    last = torch.tensor([*(float(g is not None) for g in grads), *numbers], device=like.device)
    return torch.cat([*pieces, *(c.to(like.device) for c in changes), last])


def with_lanes(strategy: Strategy, lanes: int) -> Strategy:
    """The same strategy with as many lanes as a run that is resumed has; one of the user's own stays as it is."""
    if not isinstance(strategy, SingleDevice) or strategy.lanes == lanes:
        return strategy
    how = strategy.device, strategy.precision, strategy.clip, strategy.accumulate, strategy.compile
    given = strategy if isinstance(strategy, Lanes) else None
    processes = None if given is None else given.processes
    if lanes == 1 and processes is None:
        return SingleDevice(*how)
    try:
        return Lanes(lanes, True, None, *how) if given is None else given.again(lanes)
    except ArgumentError as error:
        raise StateError(
            f"the run was begun with {lanes} lane{'s' if lanes > 1 else ''} and goes on with as many: {error}"
        ) from error


@contextmanager
def hooks_of(run: Run, callbacks: Sequence[Callback]) -> Iterator[Hooks]:
    """The hooks of a fit, as its strategy wants them, until it ends."""
    if not isinstance(run.strategy, Lanes):
        yield Hooks(callbacks)
        return
    try:
        yield run.strategy.begin(run, callbacks)
    finally:
        run.strategy.end()
