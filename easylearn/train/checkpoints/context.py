"""The context that a run depends on, and the callbacks of its fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from ...data.bunch import Data, SplitName
from ...errors import DataError, name_of
from ...files import digest
from ...nn.groups import ParamGroup
from ...task import Task
from ..callback import Callback
from ..strategy import Strategy


@dataclass(frozen=True)
class FitCallbacks:
    """The callbacks of a fit by their origin, in the order in which they are called.

    Args:
        first: those of every fit: the scheduler, the guard.
        learner: `learn.callbacks`.
        fit: given to this fit.
        savers: made from save_best= and save_cycles=.
        last: those that only show progress.
    """

    first: Sequence[Callback] = ()
    learner: Sequence[Callback] = ()
    fit: Sequence[Callback] = ()
    savers: Sequence[Callback] = ()
    last: Sequence[Callback] = ()

    @property
    def all(self) -> list[Callback]:
        """Every callback of the fit."""
        return [*self.stateful, *self.last]

    @property
    def stateful(self) -> list[Callback]:
        """The callbacks whose state a checkpoint holds."""
        return [*self.first, *self.learner, *self.fit, *self.savers]


@dataclass(frozen=True)
class RunContext:
    """What a run depends on and does not make itself: the same is needed to resume it.

    Args:
        model: the whole model, also where only its head is trained.
        groups: its layer groups.
        data: its train and valid splits are used.
        task: with its loss and metrics.
        strategy: device, precision, clipping, accumulation.
    """

    model: nn.Module
    groups: tuple[ParamGroup, ...]
    data: Data[Any]
    task: Task
    strategy: Strategy

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The context in plain values to compare, each under the words that messages use."""
        loader, task = self.data.loader("train", training=True), self.task
        splits = [s for s in self.data.splits if s != "test"]
        return {
            "task": f"{task.kind} of {task.n_out}",
            "names of classes or outputs": digest(task.names),
            "loss": "the task's own" if task.loss_fn is None else name_of(task.loss_fn),
            "settings of the task": task.settings(),
            "metrics": [m.name for m in task.metrics],
            "precision": self.strategy.arithmetic,
            "clip": self.strategy.clip,
            "accumulate": self.strategy.accumulate,
            "kind of data": type(self.data).__name__,
            "splits of the data": splits,
            "batch_size": int(loader.batch_size),
            "items to train on": int(loader.n_items),
            "batches in an epoch": len(loader),
            "layer groups": [g.name for g in self.groups],
            "parameters": {
                f"{g.name}: {name}": f"{tuple(p.shape)} {p.dtype}" for g in self.groups for name, p in g.params
            },
            "buffers": {name: f"{tuple(b.shape)} {b.dtype}" for name, b in _persistent_buffers(self.model)},
            "data": {split: self._fingerprint(split) for split in splits},
        }

    def _fingerprint(self, split: SplitName) -> str | None:
        try:
            return self.data.fingerprint(split)
        except DataError:
            return None  # batches of the user's own loader: their content is unknown


def _persistent_buffers(model: nn.Module) -> list[tuple[str, Tensor]]:
    persistent = set(model.state_dict())
    return [(name, b) for name, b in model.named_buffers() if name in persistent]
