"""2018's `fastai.sgdr`: callbacks of its loop, `easylearn.model.fit`, that watch losses and move rates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from torch import optim

from . import layer_optimizer
from .errors import StateError
from .files import StrPath
from .imports import star
from .layer_optimizer import LayerOptimizer


class Callback:
    """What a loop calls; each hook does nothing until it is overridden."""

    def on_train_begin(self) -> None:
        """Before the first batch."""

    def on_phase_begin(self) -> None:
        """Before the first batch of a phase."""

    def on_batch_begin(self) -> None:
        """Before each batch."""

    def on_batch_end(self, metrics: Any) -> Any:
        """After each batch; `metrics` is the smoothed loss. True ends the training."""

    def on_epoch_end(self, metrics: Any) -> Any:
        """After each epoch; `metrics` is [validation loss, metrics ...]. True ends the training."""

    def on_phase_end(self) -> None:
        """After the last batch of a phase."""

    def on_train_end(self) -> None:
        """After the last epoch."""


class LoggingCallback(Callback):
    """Writes a line per event.

    Args:
        save_path: the file, which grows.
    """

    def __init__(self, save_path: StrPath) -> None:
        self.save_path = save_path

    def log(self, string: str) -> None:
        """Add the line `string`, with the time."""
        with open(self.save_path, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')}\t{string}\n")

    def on_train_begin(self) -> None:
        """See `Callback.on_train_begin`."""
        self.log("on_train_begin")

    def on_batch_end(self, metrics: Any) -> Any:
        """See `Callback.on_batch_end`."""
        self.log(f"on_batch_end: {metrics}")

    def on_epoch_end(self, metrics: Any) -> Any:
        """See `Callback.on_epoch_end`."""
        self.log(f"on_epoch_end: {metrics}")

    def on_train_end(self) -> None:
        """See `Callback.on_train_end`."""
        self.log("on_train_end")


class LossRecorder(Callback):
    """Notes rates and losses, and draws them.

    Args:
        layer_opt: whose rates.
    """

    def __init__(self, layer_opt: LayerOptimizer) -> None:
        self.layer_opt = layer_opt
        self.init_lrs = np.array(layer_opt.lrs)

    def on_train_begin(self) -> None:
        """Begin anew."""
        self.losses: list[float] = []
        self.lrs: list[float] = []
        self.iterations: list[int] = []
        self.epochs: list[int] = []
        self.val_losses: list[float] = []
        self.rec_metrics: list[Any] = []
        self.iteration = 0

    def on_batch_end(self, metrics: Any) -> Any:
        """Note the rate and the loss `metrics`."""
        self.iteration += 1
        self.lrs.append(self.layer_opt.lr)
        self.iterations.append(self.iteration)
        self.losses.append(metrics)

    def on_epoch_end(self, metrics: Any) -> Any:
        """Note what validation gave: `metrics`."""
        self.epochs.append(self.iteration)
        self.val_losses.append(metrics[0])
        self.rec_metrics.append(metrics[1:])

    def plot_loss(self, n_skip: int = 0, n_skip_end: int = 0) -> None:
        """Loss against step, without the first `n_skip` and the last `n_skip_end`."""
        stop = len(self.losses) - n_skip_end
        plt.plot(self.iterations[n_skip:stop], self.losses[n_skip:stop])

    def plot_lr(self) -> None:
        """Rate against step."""
        plt.xlabel("iterations")
        plt.ylabel("learning rate")
        plt.plot(self.iterations, self.lrs)


class LR_Updater(LossRecorder):  # noqa: N801 (2018's name, as those below)
    """Sets rates before each step; a subclass says which in `calc_lr`."""

    def on_train_begin(self) -> None:
        """Set the first rates."""
        super().on_train_begin()
        self.layer_opt.set_lrs(self.calc_lr(self.init_lrs))

    def on_batch_end(self, metrics: Any) -> Any:
        """Note the loss `metrics`, and set the next rates."""
        super().on_batch_end(metrics)
        self.layer_opt.set_lrs(self.calc_lr(self.init_lrs))

    def calc_lr(self, init_lrs: Any) -> Any:
        """The rates now, from those it began with: `init_lrs`."""
        raise StateError(f"{type(self).__name__} does not say its rates: give it calc_lr(self, init_lrs)")


class LR_Finder(LR_Updater):  # noqa: N801
    """Growing rates; stops where the loss passes four times its best.

    Args:
        layer_opt: whose rates.
        nb: steps from the first rate to the last.
        end_lr: the last.
        linear: grow by a summand instead of a factor.
    """

    def __init__(self, layer_opt: LayerOptimizer, nb: int, end_lr: float = 10, linear: bool = False) -> None:
        super().__init__(layer_opt)
        self.nb, self.linear, self.ratio, self.best = nb, linear, end_lr / layer_opt.lr, math.inf

    def calc_lr(self, init_lrs: Any) -> Any:
        """See `LR_Updater.calc_lr`."""
        done = self.iteration / self.nb
        return init_lrs * (self.ratio * done if self.linear else self.ratio**done)

    def on_batch_end(self, metrics: Any) -> Any:
        """See `Callback.on_batch_end`."""
        if not math.isfinite(metrics) or metrics > self.best * 4:
            return True
        if self.iteration > 10:
            self.best = min(self.best, metrics)
        return super().on_batch_end(metrics)

    def plot(self, n_skip: int = 0, n_skip_end: int = 0) -> None:
        """Loss against rate, without the first `n_skip` and the last `n_skip_end`."""
        stop = len(self.losses) - n_skip_end
        plt.plot(self.lrs[n_skip:stop], self.losses[n_skip:stop])
        plt.xscale("log")


class _Cycles(LR_Updater):
    """Cycles of `nb` steps, each `cycle_mult` times as long as the one before, and what is called at their ends."""

    def __init__(
        self, layer_opt: LayerOptimizer, nb: float, on_cycle_end: Callable[..., Any] | None, cycle_mult: float = 1
    ) -> None:
        super().__init__(layer_opt)
        self.nb, self.on_cycle_end, self.cycle_mult = nb, on_cycle_end, cycle_mult
        self.cycle_iter = self.cycle_count = 0

    def calc_lr(self, init_lrs: Any) -> Any:
        """See `LR_Updater.calc_lr`."""
        if self.cycle_iter >= round(self.nb):
            self.cycle_iter, self.nb = 0, self.nb * self.cycle_mult
            if self.on_cycle_end is not None:
                self.on_cycle_end(self, self.cycle_count)
            self.cycle_count += 1
        share = self.share(self.cycle_iter / self.nb)
        self.cycle_iter += 1
        return init_lrs * share

    def share(self, done: float) -> float:
        """The share of the rate when `done` of a cycle is over."""
        raise NotImplementedError


class CosAnneal(_Cycles):
    """Cosine cycles (SGDR, arXiv 1608.03983).

    Args:
        layer_opt: whose rates.
        nb: steps in the first cycle.
        on_cycle_end: called with this object and the number of the cycle, after its last step.
        cycle_mult: each cycle is this many times as long as the one before.
    """

    def __init__(
        self,
        layer_opt: LayerOptimizer,
        nb: float,
        on_cycle_end: Callable[..., Any] | None = None,
        cycle_mult: float = 1,
    ) -> None:
        super().__init__(layer_opt, nb, on_cycle_end, cycle_mult)

    def share(self, done: float) -> float:
        """A half of a cosine over what is `done`."""
        return (1 + math.cos(math.pi * done)) / 2


class CircularLR(_Cycles):
    """Cycles that rise and fall in straight lines (slanted triangles).

    Args:
        layer_opt: whose rates.
        nb: steps in a cycle.
        div: the first and last rate are this many times smaller.
        cut_div: the rise takes one of so many parts.
        on_cycle_end: see `CosAnneal`.
    """

    def __init__(
        self,
        layer_opt: LayerOptimizer,
        nb: float,
        div: float = 4,
        cut_div: float = 8,
        on_cycle_end: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(layer_opt, nb, on_cycle_end)
        self.div, self.cut_div = div, cut_div

    def share(self, done: float) -> float:
        """See `CosAnneal.share`; `done` as there."""
        top = 1 / self.cut_div
        height = done / top if done <= top else 1 - (done - top) / (1 - top)
        return (1 + height * (self.div - 1)) / self.div


class DecayType(IntEnum):
    """How a rate or momentum moves within a phase."""

    NO = 1
    LINEAR = 2
    COSINE = 3
    EXPONENTIAL = 4
    POLYNOMIAL = 5


@dataclass
class TrainingPhase:
    """One part of a training, for `learn.fit_opt_sched`.

    Args:
        epochs: may be a fraction.
        opt_fn: makes the optimizer.
        lr: a rate, a list with one per group, or (first, last) of those.
        lr_decay: a `DecayType`; of POLYNOMIAL (it, the power).
        momentum: of SGD, or Adam's first beta; or (first, last).
        momentum_decay: as `lr_decay`.
        beta: Adam's second beta.
        wds: weight decay.
        wd_loss: decay within the gradient; False takes it off the weights themselves.
    """

    epochs: float = 1
    opt_fn: Callable[..., optim.Optimizer] = optim.SGD
    lr: Any = 1e-2
    lr_decay: Any = DecayType.NO
    momentum: Any = 0.9
    momentum_decay: Any = DecayType.NO
    beta: float | None = None
    wds: Any = None
    wd_loss: bool = True


def decayed(kind: Any, first: float, last: float | None, done: float) -> float:
    """The value between `first` and `last`, by a `DecayType` or (POLYNOMIAL, power) in `kind`, when `done` is over.

    >>> decayed(DecayType.LINEAR, 1.0, None, 0.25), decayed((DecayType.POLYNOMIAL, 2), 1.0, 0.0, 0.5)
    (0.75, 0.25)
    """
    how, power = kind if isinstance(kind, tuple) else (kind, 1.0)
    end = 0.0 if last is None else last
    if how == DecayType.NO:
        return first
    if how == DecayType.EXPONENTIAL:
        return float(first * (end / first) ** done)
    left = (1 + math.cos(math.pi * done)) / 2 if how == DecayType.COSINE else (1 - done) ** power
    return float(end + (first - end) * left)


def smooth_curve(vals: Sequence[float], beta: float) -> list[float]:
    """Running means of `vals` with the weight `beta` on what was, its beginning corrected."""
    mean, smoothed = 0.0, []
    for i, value in enumerate(vals):
        mean = beta * mean + (1 - beta) * value
        smoothed.append(mean / (1 - beta ** (i + 1)))
    return smoothed


_OWN = [
    "Callback", "CircularLR", "CosAnneal", "DecayType", "LR_Finder", "LR_Updater", "LoggingCallback", "LossRecorder",
    "TrainingPhase", "decayed", "smooth_curve",
]  # fmt: skip
__all__ = star(globals(), layer_optimizer, own=_OWN)
