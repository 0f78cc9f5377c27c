"""How 2018 said what a fit does, in the words of `Learner.fit`: schedules, weight decay, callbacks, metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from . import schedules, sgdr
from .core import chain_params, listify
from .dataloader import ForeignData, targets_of
from .errors import ArgumentError
from .layer_optimizer import LayerOptimizer
from .metrics import Metric, as_metric
from .model import fit as by_hand
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
class _AsThen:
    """A function of 2018 as a metric: it gets log-probabilities with one class for each item, and tuples of targets."""

    fn: Callable[..., Any]
    logs: bool
    data: Any

    def __call__(self, probs: Tensor, targets: Tensor) -> Any:
        return self.fn(probs.clamp_min(_LEAST).log() if self.logs else probs, targets_of(self.data, targets))


def as_metrics(task: Task, given: Sequence[Any], data: Any) -> list[Metric]:
    """Metrics out of functions of what models of 2018 gave for this `task`, and of targets in this `data`."""
    made = [as_metric(f) for f in given]
    changed = task.is_exclusive or (isinstance(data, ForeignData) and data.several)
    return [
        Metric(m.name, _AsThen(f, task.is_exclusive, data), None) if changed and not isinstance(f, Metric) else m
        for m, f in zip(made, given, strict=True)
    ]


def step_by_step(
    learn: Any, stepper: Any, rates: Any, n: int, wds: Any, callbacks: Sequence[Any] | None, how: Mapping[str, Any]
) -> list[float]:
    """Train a learner with a `Stepper` of one's own, in the loop of 2018.

    Args:
        learn: whose model, data, loss and optimizer.
        stepper: what is done with a batch.
        rates, n, wds, callbacks: of its `fit`.
        how: its cycle_len, cycle_mult, use_clr and metrics.

    Returns:
        [validation loss, metrics ...] of the last epoch.
    """
    cycle_len, cycle_mult, use_clr = how["cycle_len"], how["cycle_mult"], how["use_clr"]
    groups = learn.get_layer_groups()
    rates, decay = listify(rates, groups), listify(0.0 if wds is None else wds, groups)
    trained = [one for one in zip(groups, rates, decay, strict=True) if chain_params(one[0])]
    opt = LayerOptimizer(learn.opt_fn, *zip(*trained, strict=True))
    steps = len(learn.data.trn_dl) * (cycle_len or 1)
    moves: sgdr.Callback = sgdr.LossRecorder(opt)
    if use_clr is not None and cycle_len:
        moves = sgdr.CircularLR(opt, steps, *use_clr[:2])
    elif cycle_len:
        moves = sgdr.CosAnneal(opt, steps, cycle_mult=cycle_mult)
    lengths = [(cycle_len or 1) * cycle_mult**k for k in range(n)]
    vals: list[float] = by_hand(
        learn.model, learn.data, sum(lengths), opt, learn.crit, how["metrics"], [moves, *(callbacks or ())], stepper,
        learn.clip or 0,
    )  # fmt: skip
    return vals


def in_phases(
    learn: Any, phases: Sequence[TrainingPhase], data_list: Sequence[Any] | None, cycle_save_name: str | None,
    callbacks: Sequence[Any] | None, how: Mapping[str, Any],
) -> Record07:  # fmt: skip
    """Train a learner in `phases`; see its `fit_opt_sched`.

    Args:
        learn: the learner.
        phases, data_list, cycle_save_name, callbacks: as there.
        how: what else its `fit` is to be told.

    Returns:
        The record of all phases.
    """
    records = []
    for k, phase in enumerate(phases):
        if data_list:
            learn.set_data(data_list[k])
        rates, shape, moving = phase_schedules(phase)
        make = partial(phase.opt_fn, momentum=0.9) if phase.opt_fn is torch.optim.SGD else phase.opt_fn
        if phase.beta is not None and isinstance(phase.momentum, float):
            make = partial(phase.opt_fn, betas=(phase.momentum, phase.beta))
        with replaced(learn, {"optimizer": make}):
            made = learn.fit(
                rates, math.ceil(phase.epochs), phase.wds, schedule=shape, momentum=moving, callbacks=callbacks,
                use_wd_sched=not phase.wd_loss and phase.wds is not None, **how,
            )  # fmt: skip
        records.append(made)
        if cycle_save_name is not None:
            learn.save_cycle(cycle_save_name, k)
    return Record07.of(*records)


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
