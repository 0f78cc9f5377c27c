"""SaveBest, SaveCycles and KeepBest: keep weights of a fit, in files or for its end."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import keyed
from ...data.bunch import Data
from ...device import moved
from ...errors import ArgumentError, EasyLearnWarning, StateError, check_whole
from ...task.accumulate import Pool
from ..callback import Callback, check_callbacks
from ..monitor import Monitor
from ..predict import evaluate_alike, gather
from ..record import format_row
from ..snapshot import copy_into, shared_out
from ..state import Run
from .average import WeightAverage
from .progress import Progress

MOST_AVERAGED = 8
"""Of the epochs of a fit without a number of them, the weights of the best quarter are averaged, at most of so many."""
_BLOCKS = 20  # of items; a standard error of so few values is right within a sixth


def _save(run: Run, name: str) -> Path:
    if run.save is None:
        raise StateError(f"this run cannot save {name!r}: weights are saved by a Learner's fit")
    return run.save(name)


class SaveBest(Callback):
    """Save the weights after each epoch that is the best so far. Load them with `learn.load(name)`.

    In several fits of one learner on the same data the file keeps the best of all of them. A warning says so at the end
    of a fit that had no better epoch.

    Args:
        name: of the file, as for `learn.save`.
        monitor: a metric's name or "valid_loss"; None takes the first metric with a known direction.
    """

    def __init__(self, name: str = "best", monitor: str | None = None) -> None:
        self.name = name
        self.monitor = Monitor(monitor)
        self._file: Path | None = None
        self._improved = False

    def on_fit_begin(self, run: Run) -> None:
        self.monitor.begin(run)
        metric, value, file = run.saved_best.get(self.name, ("", 0.0, None))
        known = file is not None and metric == self.monitor.name and file.exists()
        self.monitor.best = self.monitor.sign * value if known else -math.inf
        self._file, self._improved = file if known else None, False

    def on_epoch_end(self, run: Run) -> None:
        if self.monitor.improved(run):
            self._file, self._improved = _save(run, self.name), True

    def on_fit_end(self, run: Run) -> None:
        if self._file is None:
            return
        best = self.monitor.best_value
        run.saved_best[self.name] = self.monitor.name, best, self._file
        if run.epoch and not self._improved:
            warnings.warn(
                f"{self._file} keeps the weights of an earlier fit, whose {self.monitor.name} of {best:.4g} no epoch "
                "of this one surpassed",
                EasyLearnWarning,
                stacklevel=2,
            )

    def state_dict(self) -> dict[str, Any]:
        file = None if self._file is None else str(self._file)
        return {**self.monitor.state_dict(), "file": file, "improved": self._improved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.monitor.load_state_dict(state)
        file = state.get("file")  # which older checkpoints do not have
        self._file, self._improved = None if file is None else Path(file), bool(state.get("improved"))


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """Of weights; of what is counted, the first."""
    return torch.stack(list(tensors)).mean(0) if tensors[0].is_floating_point() else tensors[0]


def _item_losses(run: Run) -> Tensor:
    """Of each validation item, (n,), always in the same order."""
    task, strategy = run.task, run.strategy
    assert run.valid_loader is not None
    if task.loss_fn is not None and isinstance(task.accumulator(), Pool):
        return _pseudo_losses(run, *gather(run.model, run.valid_loader, strategy))
    with strategy.evaluating(run.model):
        outputs = strategy.outputs(run.model, run.valid_loader, not task.is_streamed)
        found = [task.item_losses(logits, target).flatten() for logits, target, _ in outputs if target is not None]
    return torch.cat(found).cpu().double()


def _pseudo_losses(run: Run, logits: Tensor, target: Tensor | None) -> Tensor:
    """What stands for the losses of items where the loss is one of all items and need not be their mean.

    With weights of classes, say, or a sum. They are the pseudo-values of a jackknife that leaves out a twentieth of the
    items each time (Tukey 1958), about the loss itself: their mean and its standard error are those of the loss.
    """
    assert target is not None
    n, loss = min(_BLOCKS, len(logits)), run.task.loss
    logits, target = logits.to(run.strategy.device), moved(target, run.strategy.device)
    block = torch.from_numpy(keyed.permutation(len(logits), 0, "blocks") % n)
    kept = [torch.nonzero(block != i)[:, 0] for i in range(n)] if n > 1 else [torch.arange(1)]
    with torch.no_grad():
        rest = torch.stack([loss(logits[i.to(logits.device)], target[i.to(target.device)]) for i in kept])
        whole, rest = loss(logits, target).cpu().double(), rest.cpu().double()
    return whole + (n - 1) * (rest.mean() - rest)


class KeepBest(Callback):
    """End with the weights of the epoch that had the least validation loss, or with those before the first.

    They are in memory meanwhile; `SaveBest` writes them to a file. Without a validation split it does nothing. In a
    list with `WeightAverage` it comes first, so that it has the last word.

    Args:
        n: above 1, it ends with the mean of the weights of so many epochs, the best ones (arXiv 2203.05482): which of
            them was the best is chance where few items validate. Where the mean has more loss than the best alone, by
            more than a standard error of the differences, it ends with the best all the same.
    """

    def __init__(self, n: int = 1) -> None:
        check_whole("n", n)
        self.n = n
        self.best: float | None = None
        self.epoch = 0
        self._kept: list[tuple[float, int, list[Tensor]]] = []  # loss, epoch and weights, from the least loss on
        self._handled: BaseException | None = None  # in whose handler the fit began, if in any

    def on_fit_begin(self, run: Run) -> None:
        """Keep the weights as they are."""
        self._handled = sys.exc_info()[1]
        if run.step == 0:
            self.best, self._kept = None, []
            if run.valid_loader is not None:
                self._compare(run, 0, evaluate_alike(run.model, run.valid_loader, run.task, run.strategy))

    def on_epoch_end(self, run: Run) -> None:
        """Keep these if they are among the best."""
        self._compare(run, run.epoch + 1, run.metrics)

    def on_fit_end(self, run: Run) -> None:
        """Put the best weights, or the mean of several, into the model."""
        kept, self._kept = self._kept, []
        failed, self._handled = sys.exc_info()[1] is not self._handled, None
        live = list(run.model.state_dict().values())
        if len(kept) > 1 or (kept and self.epoch != run.epoch):
            copy_into(live, kept[0][2])
        if len(kept) > 1 and not failed:  # after an error of one process the others do not come here to validate
            of_best = losses = _item_losses(run)
            several = zip(*(weights for _, _, weights in kept), strict=True)
            alike = ([shared_out(t.to(own.device), own) for t in ts] for own, ts in zip(live, several, strict=True))
            copy_into(live, map(_mean, alike))
            losses = _item_losses(run)
            more = losses - of_best
            if not run.strategy.decide(bool(more.mean() <= more.std(correction=0) / len(more) ** 0.5)):
                copy_into(live, kept[0][2])
                losses, kept = of_best, kept[:1]
            self._tell(run, float(losses.mean()), [epoch for _, epoch, _ in kept])
        elif kept and not failed:
            self._tell(run, kept[0][0], [self.epoch])

    def _tell(self, run: Run, loss: float, epochs: Sequence[int]) -> None:
        """Note which weights the model has now, and say so below the rows of the epochs."""
        n, first = len(epochs), "the weights before the first epoch"
        numbers = [str(run.first_epoch + epoch - 1) if epoch else first for epoch in sorted(epochs)]
        (shown,) = format_row({"valid_loss": loss})
        alone = f"epoch {numbers[0]}" if epochs[0] else first
        best = f"mean of the best {n} epochs ({', '.join(numbers)})" if n > 1 else alone
        run.record.kept = f"{best}, valid_loss {shown}"
        if run.strategy.is_main and any(isinstance(c, Progress) for c in run.callbacks):
            print(f"kept: {run.record.kept}")

    def _compare(self, run: Run, epoch: int, metrics: Mapping[str, float]) -> None:
        loss = metrics.get("valid_loss", math.nan)
        if loss < (math.inf if len(self._kept) < self.n else self._kept[-1][0]):
            weights = [t.detach().clone() for t in run.model.state_dict().values()]
            self._kept = sorted([*self._kept, (loss, epoch, weights)], key=lambda kept: kept[:2])[: self.n]
            self.best, self.epoch, _ = self._kept[0]

    def state_dict(self) -> dict[str, Any]:
        return {"n": self.n, "kept": [list(entry) for entry in self._kept]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.n, self._kept = int(state["n"]), [(loss, epoch, ts) for loss, epoch, ts in state["kept"]]
        self.best, self.epoch = self._kept[0][:2] if self._kept else (None, 0)


class SaveCycles(Callback):
    """Save the weights exactly at the last batch of each cycle, as `name_0`, `name_1` ...

    Args:
        name: of the files, as for `learn.save`.
    """

    def __init__(self, name: str = "cycle") -> None:
        self.name = name

    def on_batch_end(self, run: Run) -> None:
        if run.step in run.cycle_ends:
            _save(run, f"{self.name}_{run.cycle_ends.index(run.step)}")


def make_savers(save_best: str | SaveBest | None, save_cycles: str | None) -> list[Callback]:
    """The callbacks that the arguments of `Learner.fit` with these names ask for."""
    if not isinstance(save_best, str | SaveBest | None) or not isinstance(save_cycles, str | None):
        raise ArgumentError(
            f"save_best must be a file's name or a SaveBest, save_cycles a name, got {save_best!r} and {save_cycles!r}"
        )
    best = SaveBest(save_best) if isinstance(save_best, str) else save_best
    cycles = None if save_cycles is None else SaveCycles(save_cycles)
    return [saver for saver in (best, cycles) if saver is not None]


def with_own_savers(callbacks: Sequence[Callback], savers: Sequence[Callback]) -> tuple[list[Callback], list[Callback]]:
    """The callbacks given to a fit and its savers; those of the user's own class go to the former.

    They cannot be made anew from a checkpoint, and have to be given again to whoever resumes.
    """
    known = (SaveBest, SaveCycles, KeepBest)
    own = [saver for saver in savers if type(saver) not in known]
    return [*check_callbacks(callbacks), *own], [saver for saver in savers if type(saver) in known]


def suited(
    n: int | None, count: int, save_best: str | SaveBest | None, called: Sequence[Callback], data: Data[Any],
    say: bool,
) -> tuple[int, list[Callback]]:  # fmt: skip
    """The number of epochs that was given; without one as many as suit the data, with a saver that keeps the best.

    Args:
        n: as given.
        count: how many it is where the data does not say what suits it.
        save_best: as given.
        called: the other callbacks; where one of them says which weights a fit ends with, the best are not kept.
        data: says what suits it.
        say: print what was chosen.
    """
    savers = make_savers(save_best, None)
    if n is not None or (epochs := data.suited_epochs) is None:
        return count, savers
    n_best = max(1, min(MOST_AVERAGED, epochs // 4))
    kept = "valid" in data.splits and not any(isinstance(c, WeightAverage | KeepBest) for c in called)
    if say:
        best = "the weights that had" if n_best == 1 else f"the mean of the weights of the {n_best} that had"
        ends = f", and ends with {best} the least validation loss" if kept else ""
        print(f"trains for {epochs} epochs, as suits {data.loader('train').n_items:,} items{ends}")
    return epochs, [*savers, KeepBest(n_best)] if kept else savers
