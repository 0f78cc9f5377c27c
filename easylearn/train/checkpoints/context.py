"""The context that a run depends on, and the callbacks of its fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.bunch import Data, SplitName
from ...data.loaders import content_of
from ...errors import DataError, name_of
from ...files import digest
from ...nn.groups import ParamGroup
from ...task import Task
from ..callback import Callback
from ..snapshot import own_class
from ..strategy import Strategy

CallbacksOfFit = Mapping[str, Sequence[Callback]]
"""The callbacks whose state a checkpoint holds, by origin and in the order in which they are called: "first" (those of
every fit: the scheduler, the guard), "learner" (`learn.callbacks`), "fit" (given to this one), and "savers"."""


def versions(device: torch.device) -> dict[str, str]:
    """What the numbers of a run depend on besides its settings."""
    threads = {"threads": str(torch.get_num_threads())} if device.type == "cpu" else {}
    return {"torch": str(torch.__version__), "device": device.type, **threads}


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
            "loss": "the task's own" if task.loss_fn is None else what_is(task.loss_fn),
            "settings of the task": task.settings(),
            "metrics": [m.name for m in task.metrics],
            "precision": self.strategy.arithmetic,
            "lanes": self.strategy.lanes,
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
            "layers": {name: made for name, m in self.model.named_modules() if (made := _made_with(m))},
            "data": {split: self._fingerprint(split) for split in splits},
        }

    def _fingerprint(self, split: SplitName) -> str | None:
        try:
            return self.data.fingerprint(split)
        except DataError:
            return None  # batches of the user's own loader: their content is unknown


def what_is(thing: Any, depth: int = 3) -> str:
    """A text that is the same for things that compute the same: name, settings, and a digest of tensors.

    >>> what_is(nn.CrossEntropyLoss(torch.tensor([1.0, 2.0]), reduction="sum")).replace("'", "")
    'CrossEntropyLoss(ignore_index=-100, label_smoothing=0.0, reduction=sum, weight=tensor 2, d173f4)'
    """
    if isinstance(thing, Tensor | np.ndarray):
        tensor = torch.as_tensor(thing).detach()
        return f"tensor {' x '.join(map(str, tensor.shape))}, {content_of(tensor.reshape(-1))[:6]}"
    if thing is None or isinstance(thing, bool | int | float | str):
        return repr(thing)
    if depth == 0:
        return name_of(thing)
    if isinstance(thing, list | tuple | set | frozenset):
        return f"[{', '.join(what_is(v, depth - 1) for v in thing)}]"
    return f"{name_of(thing)}({', '.join(f'{k}={what_is(v, depth - 1)}' for k, v in sorted(_settings(thing).items()))})"


def _settings(thing: Any) -> dict[str, Any]:
    """What a function or an object holds that may change what it gives."""
    if isinstance(thing, Mapping):
        return {str(k): v for k, v in thing.items()}
    if isinstance(thing, partial):
        return {"of": thing.func, **{str(i): v for i, v in enumerate(thing.args)}, **thing.keywords}
    if isinstance(thing, MethodType):
        return {"of": thing.__self__}
    if isinstance(thing, FunctionType):
        cells = zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True)
        defaults = {f"default {i}": v for i, v in enumerate(thing.__defaults__ or ())}
        numbers = [v for v in thing.__code__.co_consts if isinstance(v, int | float)]
        return {
            "numbers": numbers,
            **defaults,
            **(thing.__kwdefaults__ or {}),
            **{n: c.cell_contents for n, c in cells},
        }
    held = {k: v for k, v in getattr(thing, "__dict__", {}).items() if not k.startswith("_") and k != "training"}
    if isinstance(thing, nn.Module):
        held |= {**dict(thing.named_parameters()), **dict(thing.named_buffers()), **dict(thing.named_children())}
    return held


def _made_with(layer: nn.Module) -> str:
    """What a layer was made with, besides tensors: torch's name of it, what it shows, and fractions that it holds."""
    own = {k: v for k, v in vars(layer).items() if isinstance(v, float) and not k.startswith("_")}
    is_leaf, kind = next(layer.children(), None) is None, own_class(layer)
    shown = layer.extra_repr() if is_leaf else ""
    name = kind.__name__ if is_leaf and kind.__module__.startswith("torch.nn.") else ""
    more = (f"{k}={v!r}" for k, v in own.items() if f"{k}={v}" not in shown)
    return ", ".join(filter(None, [shown, *more, name]))
