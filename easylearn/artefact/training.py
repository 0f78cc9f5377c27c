"""TrainingSettings: the part of a model file that says how its learner trains, written and read here alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ..errors import EasyLearnError, WeightsError
from ..files import StrPath
from ..nn import registry
from ..train import optim
from ..train.callback import Callback
from ..train.optim import OptimizerFn
from .model_file import BUILD_ERRORS


@dataclass(frozen=True)
class TrainingSettings:
    """How a learner trains: what one that is loaded needs to go on as this one would.

    Args:
        optimizer: the name of a torch optimizer, "sgd" or "adamw"; None for a function that has no name.
        wd: weight decay; None leaves the optimizer's default.
        clip: largest norm of the gradients; None for no clipping.
        accumulate: batches per optimizer step.
        precision: "fp32", "bf16" or "fp16".
        seed: of shuffles, augmentation and dropout.
        bn_freeze: batch-norm statistics of all groups but the last stay as they are.
        frozen: names of the layer groups that do not train.
        epochs_done: epochs trained so far.
        callbacks: of the learner, each as `registry.describe` gives it.
        result: loss and metrics of the last epoch.
    """

    optimizer: str | None = None
    wd: float | None = None
    clip: float | None = None
    accumulate: int = 1
    precision: str = "fp32"
    seed: int = 0
    bn_freeze: bool = False
    frozen: Sequence[str] = ()
    epochs_done: int = 0
    callbacks: Sequence[Any] = ()
    result: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The settings in plain values, by their names."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: Any, path: StrPath) -> TrainingSettings:
        """The settings that `to_json` gave; one that is missing has its default.

        Args:
            given: the file's training part, damaged maybe.
            path: of the file, for messages.

        Raises:
            WeightsError: a setting is not of its type or range; the message names it.
        """
        if not isinstance(given, dict):
            raise WeightsError(f"{path} does not say how its model was trained")
        found = {name: given[name] for name in _FITS if name in given}
        for name, value in found.items():
            if not _FITS[name](value):
                raise WeightsError(f"{path} says of its training {name}={str(value)[:50]!r}; it is damaged")
        return cls(**found)

    def make_optimizer(self) -> OptimizerFn | None:
        """The optimizer of that name; None if there is none, as for a function of the user's own."""
        if self.optimizer in ("sgd", "adamw"):
            return optim.sgd if self.optimizer == "sgd" else optim.adamw
        kind = vars(torch.optim).get(self.optimizer) if self.optimizer is not None else None
        return kind if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) else None

    def make_callbacks(self, path: StrPath) -> list[Callback]:
        """The callbacks, without those whose class is not registered.

        Args:
            path: of the file, for messages.

        Raises:
            WeightsError: a description makes something else, or cannot be followed.
        """
        return [_make_callback(one, path) for one in self.callbacks if not registry.own_parts(one)]


def _make_callback(description: Any, path: StrPath) -> Callback:
    arguments = description.get("args") if isinstance(description, dict) else None
    # A model as an argument could be of any size, and no callback of ours takes one.
    plain = isinstance(arguments, dict) and not any(isinstance(v, dict | list) for v in arguments.values())
    if not plain or not registry.is_made_by(description, Callback):
        raise WeightsError(f"{path} names as a callback what is none: {str(description)[:100]}")
    try:
        callback: Callback = registry.build(description)
    except EasyLearnError as error:
        raise WeightsError(f"{path}: {error}") from error
    except BUILD_ERRORS as error:
        raise WeightsError(f"{path} describes a callback that cannot be made: {str(error)[:200]}") from error
    return callback


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_rate(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value < math.inf)


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "optimizer": lambda v: v is None or isinstance(v, str),
    "wd": _is_rate,
    "clip": lambda v: _is_rate(v) and v != 0,
    "accumulate": lambda v: _is_count(v) and v > 0,
    "precision": lambda v: v in ("fp32", "bf16", "fp16"),
    "seed": lambda v: type(v) is int,
    "bn_freeze": lambda v: isinstance(v, bool),
    "frozen": lambda v: isinstance(v, list) and all(isinstance(n, str) for n in v),
    "epochs_done": _is_count,
    "callbacks": lambda v: isinstance(v, list),
    "result": lambda v: isinstance(v, dict) and all(isinstance(x, int | float) for x in v.values()),
}
"""Which values a setting may have; a file may be damaged."""
