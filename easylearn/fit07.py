"""How 2018 said what a fit does, in the words of `Learner.fit`: schedules, weight decay, callbacks, metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from . import schedules, sgdr
from .errors import ArgumentError
from .metrics import Metric, as_metric
from .schedules import Schedule
from .sgdr import TrainingPhase, decayed
from .task import Task
from .train.callback import Callback
from .train.optim import OptimizerFn
from .train.record import Record
from .train.state import Run

_LEAST = 1e-38  # a smaller probability has no logarithm in float32


def logs(task: Task, probs: Tensor) -> Tensor:
    """What 0.7 gave for these probabilities: their logarithms with one class for each item, else themselves."""
    return probs.clamp_min(_LEAST).log() if task.is_exclusive else probs


# -- schedules -----------------------------------------------------------------------------------------


def clr(use_clr: Sequence[float], n: int, cycle_len: float) -> tuple[Schedule, Schedule | None]:
    """Rates and momentum of `use_clr=(div, cut_div)`, or with (highest, lowest) momentum behind: slanted triangles.

    Args:
        use_clr: as it was given.
        n: how many cycles.
        cycle_len: epochs in each.
    """
    div, cut_div, *moms = use_clr
    moving = schedules.join([(_line(*moms), cycle_len / cut_div), (_line(*moms[::-1]), cycle_len)]) if moms else None
    shape = schedules.slanted_triangular(1 / cut_div, div)
    return _repeated(shape, n, cycle_len), None if moving is None else _repeated(moving, n, cycle_len)


def clr_beta(use_clr_beta: Sequence[float], n: int, cycle_len: float) -> tuple[Schedule, Schedule | None]:
    """Rates and momentum of `use_clr_beta=(div, pct)`, or with (highest, lowest) momentum behind: 1cycle.

    Args:
        use_clr_beta: as it was given; the last `pct` percent go down to a hundredth of the first rate.
        n: how many cycles.
        cycle_len: epochs in each.

    >>> rate, _ = clr_beta((10, 10), 1, 1)
    >>> [round(rate(e, 1), 4) for e in (0, 0.45, 0.9, 1)]
    [0.1, 1.0, 0.1, 0.001]
    """
    div, pct, *moms = use_clr_beta
    half = cycle_len * (1 - pct / 100) / 2
    last = cycle_len - 2 * half
    low = 1 / div
    shape = schedules.join([(_line(low, 1), half), (_line(1, low), half), (_line(low, low / 100), last)])
    if not moms:
        return _repeated(shape, n, cycle_len), None
    high, least = moms
    moving = schedules.join([(_line(high, least), half), (_line(least, high), half), (_line(high, high), last)])
    return _repeated(shape, n, cycle_len), _repeated(moving, n, cycle_len)


def _line(start: float, end: float) -> Schedule:
    return schedules.linear(start, end)


def _repeated(shape: Schedule, n: int, cycle_len: float) -> Schedule:
    return shape if n == 1 else schedules.join([(shape, cycle_len)] * n)


def phase_schedules(phase: TrainingPhase) -> tuple[Any, Schedule, Schedule]:
    """The base rates of a `phase`, what multiplies them, and its momentum."""
    first, last = phase.lr if isinstance(phase.lr, tuple) else (phase.lr, None)
    most = float(np.max(first))
    ratio = None if last is None else float(np.max(last)) / most

    def rate(epoch: float, n_epochs: float) -> float:
        return decayed(phase.lr_decay, 1.0, ratio, min(epoch / n_epochs, 1.0))

    start, end = phase.momentum if isinstance(phase.momentum, tuple) else (phase.momentum, None)

    def momentum(epoch: float, n_epochs: float) -> float:
        return decayed(phase.momentum_decay, start, end, min(epoch / n_epochs, 1.0))

    return first, rate, momentum


# -- optimizers ----------------------------------------------------------------------------------------


def with_decay(make: OptimizerFn, wds: Sequence[float], names: Sequence[str]) -> OptimizerFn:
    """An optimizer whose groups have a weight decay each.

    Args:
        make: makes it of param groups.
        wds: one per layer group.
        names: of the layer groups.
    """
    if len(wds) != len(names):
        raise ArgumentError(f"wds has {len(wds)} entries, but the model has {len(names)} layer groups: {list(names)}")
    by_name = dict(zip(names, wds, strict=True))

    def made(groups: Sequence[dict[str, Any]], lr: float) -> Optimizer:
        return make([{**g, "weight_decay": float(by_name[g["group"]])} for g in groups], lr=lr)

    return made


class DecayOut(Callback):
    """`use_wd_sched`: weight decay beside the gradient (arXiv 1711.05101).

    Args:
        wds: by the name of the layer group.
        norm_epochs: with `norm_wds` the epochs in a cycle, by whose batches the decay is divided, after a square root.
        mult: 2018's `wds_sched_mult`: of an object with `layer_opt.lrs` and `init_lrs`.
    """

    def __init__(
        self, wds: Mapping[str, float], norm_epochs: float | None = None, mult: Callable[[Any], Any] | None = None
    ) -> None:
        self.wds, self.norm_epochs, self.mult = dict(wds), norm_epochs, mult

    def on_grads(self, run: Run) -> None:
        """Take the decay off the weights."""
        groups = run.optimizer.param_groups
        rates, first = (np.array([g[name] for g in groups]) for name in ("lr", "base_lr"))
        share = 1.0 if self.norm_epochs is None else math.sqrt(run.steps_per_epoch * self.norm_epochs)
        times = np.ones(len(groups))
        if self.mult is not None:
            times = times * self.mult(SimpleNamespace(layer_opt=SimpleNamespace(lrs=rates), init_lrs=first))
        with torch.no_grad():
            for group, rate, by in zip(groups, rates, times, strict=True):
                for p in group["params"]:
                    p.mul_(1 - rate * by * self.wds[group["group"]] / share)


# -- callbacks and metrics -----------------------------------------------------------------------------


class Of2018(Callback):
    """A callback of 2018 in the loop of today.

    Args:
        of: an `easylearn.sgdr.Callback`.
    """

    def __init__(self, of: sgdr.Callback) -> None:
        self.of = of
        self.mean, self.n = 0.0, 0

    def on_fit_begin(self, run: Run) -> None:
        """See `easylearn.sgdr.Callback`."""
        self.of.on_train_begin()
        self.of.on_phase_begin()

    def on_batch_begin(self, run: Run) -> None:
        """See `easylearn.sgdr.Callback`."""
        self.of.on_batch_begin()

    def on_batch_end(self, run: Run) -> None:
        """With the smoothed loss."""
        self.n += 1
        self.mean = self.mean * 0.98 + run.record.last_loss * 0.02
        if self.of.on_batch_end(self.mean / (1 - 0.98**self.n)):
            run.stop_reason = f"{type(self.of).__name__} asked for it"

    def on_epoch_end(self, run: Run) -> None:
        """With [validation loss, metrics ...]."""
        if run.metrics and self.of.on_epoch_end(list(run.metrics.values())):
            run.stop_reason = f"{type(self.of).__name__} asked for it"

    def on_fit_end(self, run: Run) -> None:
        """See `easylearn.sgdr.Callback`."""
        self.of.on_phase_end()
        self.of.on_train_end()


def as_callbacks(given: Sequence[Any]) -> list[Callback]:
    """Callbacks of today out of those of either time."""
    return [Of2018(c) if isinstance(c, sgdr.Callback) else c for c in given]


@dataclass(frozen=True)
class _OfLogs:
    """A function of 2018 as a metric: it gets log-probabilities with one class for each item."""

    fn: Callable[..., Any]

    def __call__(self, probs: Tensor, targets: Tensor) -> Any:
        return self.fn(probs.clamp_min(_LEAST).log(), targets)


def as_metrics(task: Task, given: Sequence[Any]) -> list[Metric]:
    """Metrics out of functions of what models of 2018 gave for this task."""
    made = [as_metric(f) for f in given]
    return [
        Metric(m.name, _OfLogs(f), None) if task.is_exclusive and not isinstance(f, Metric) else m
        for m, f in zip(made, given, strict=True)
    ]


# -- results -------------------------------------------------------------------------------------------


class Record07(Record):
    """The record of a fit, which unpacks and counts as [validation loss, metrics ...] of the last epoch, as 2018's."""

    def values(self, row: Mapping[str, float]) -> list[float]:
        """Validation loss and metrics of one epoch's `row`."""
        return [v for name, v in row.items() if name not in ("epoch", "train_loss", "rate", "seconds")]

    def __iter__(self) -> Iterator[float]:
        return iter(self.values(self.last))

    def __getitem__(self, i: Any) -> Any:
        return self.values(self.last)[i]


@contextmanager
def replaced(owner: Any, values: Mapping[str, Any]) -> Iterator[None]:
    """Attributes of `owner` set to `values` for a while."""
    before = {name: getattr(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)
