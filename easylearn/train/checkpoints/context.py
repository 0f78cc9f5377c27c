"""The context that a run depends on, and the callbacks of its fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from ...data.bunch import Data, SplitName
from ...errors import DataError, name_of
from ...files import digest
from ...nn.groups import ParamGroup
from ...task import Task
from ..callback import Callback
from ..strategy import Strategy

CallbacksOfFit = Mapping[str, Sequence[Callback]]
"""The callbacks whose state a checkpoint holds, by origin and in the order in which they are called: "first" (those of
every fit: the scheduler, the guard), "learner" (`learn.callbacks`), "fit" (given to this one), and "savers"."""


def versions(device: torch.device) -> dict[str, str]:
    """What the numbers of a run depend on besides its settings."""
    return {"torch": str(torch.__version__), "device": device.type}


@dataclass(frozen=True)
class RunContext:
    """What a run depends on and does not make itself: the whole model, its groups, the data and so on."""

    model: nn.Module
    groups: tuple[ParamGroup, ...]
    data: Data[Any]
    task: Task
    strategy: Strategy

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The context in plain values to compare, each under the words that messages use."""
        loader, task = self.data.loader("train", training=True), self.task
        persistent = set(self.model.state_dict())
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
            "buffers": {
                name: f"{tuple(b.shape)} {b.dtype}" for name, b in self.model.named_buffers() if name in persistent
            },
            "data": {split: self._fingerprint(split) for split in splits},
        }

    def _fingerprint(self, split: SplitName) -> str | None:
        try:
            return self.data.fingerprint(split)
        except DataError:
            return None  # batches of the user's own loader: their content is unknown
