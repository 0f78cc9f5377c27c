"""TrainingSettings: the part of a model file that says how its learner trains, written and read here alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch

from ..errors import WeightsError
from ..files import StrPath
from ..nn import registry
from ..train import optim
from ..train.callback import Callback
from ..train.optim import OptimizerFn
from .model_file import refuse_damage


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_rate(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value < math.inf)


def _setting(default: Any, fits: Callable[[Any], bool]) -> Any:
    """A field with the values that it may have in a file, which may be damaged."""
    return field(default_factory=default if callable(default) else lambda: default, metadata={"fits": fits})


@dataclass(frozen=True)
class TrainingSettings:
    """How a learner trains: what one that is loaded needs to go on as this one would."""

    # "sgd", "adamw" or the name of one of torch's; None for a function that has no name
    optimizer: str | None = _setting(None, lambda v: v is None or isinstance(v, str))
    wd: float | None = _setting(None, _is_rate)  # None leaves the optimizer's default
    clip: float | None = _setting(None, lambda v: _is_rate(v) and v != 0)
    accumulate: int = _setting(1, lambda v: _is_count(v) and v > 0)  # batches per optimizer step
    precision: str = _setting("fp32", lambda v: v in ("fp32", "bf16", "fp16"))
    seed: int = _setting(0, lambda v: type(v) is int)
    bn_freeze: bool = _setting(False, lambda v: isinstance(v, bool))
    # names of the layer groups that do not train
    frozen: Sequence[str] = _setting((), lambda v: isinstance(v, list) and all(isinstance(n, str) for n in v))
    epochs_done: int = _setting(0, _is_count)
    callbacks: Sequence[Any] = _setting((), lambda v: isinstance(v, list))  # as `registry.describe` gives them
    # loss and metrics of the last epoch
    result: Mapping[str, float] = _setting(
        dict, lambda v: isinstance(v, dict) and all(isinstance(x, int | float) for x in v.values())
    )

    def to_json(self) -> dict[str, Any]:
        """The settings in plain values, by their names."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: Any, path: StrPath) -> TrainingSettings:
        """The settings that `to_json` gave; one that is missing has its default, one that does not fit is refused."""
        if not isinstance(given, dict):
            raise WeightsError(f"{path} does not say how its model was trained")
        found = {}
        for one in fields(cls):
            if one.name in given:
                value = found[one.name] = given[one.name]
                if not one.metadata["fits"](value):
                    raise WeightsError(f"{path} says of its training {one.name}={str(value)[:50]!r}; it is damaged")
        return cls(**found)

    def make_optimizer(self) -> OptimizerFn | None:
        """The optimizer of that name; None if there is none, as for a function of the user's own."""
        kind = vars(torch.optim).get(self.optimizer or "")
        theirs = kind if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) else None
        ours: dict[str, OptimizerFn] = {"sgd": optim.sgd, "adamw": optim.adamw}
        return ours.get(self.optimizer or "", theirs)

    def make_callbacks(self, path: StrPath) -> list[Callback]:
        """The callbacks of the file, without those whose class is not registered."""
        return [_make_callback(one, path) for one in self.callbacks if not registry.own_parts(one)]


def _make_callback(description: Any, path: StrPath) -> Callback:
    arguments = description.get("args") if isinstance(description, dict) else None
    # A model as an argument could be of any size, and no callback of ours takes one.
    plain = isinstance(arguments, dict) and not any(isinstance(v, dict | list) for v in arguments.values())
    if not plain or not registry.is_made_by(description, Callback):
        raise WeightsError(f"{path} names as a callback what is none: {str(description)[:100]}")
    with refuse_damage(path, "describes a callback that cannot be made"):
        callback: Callback = registry.build(description)
    return callback
