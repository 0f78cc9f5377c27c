"""Learner: the one class that users hold. It owns data, model and settings, and hands the work down."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from . import schedules
from .artefact.export import ExportReport, Format, Source, write_export
from .data.bunch import Data, Loader, PartName, Sampling
from .device import pick_device
from .errors import ArgumentError, DataError, StateError, strict
from .files import StrPath
from .nn.body_head import BodyHead
from .nn.groups import LayerGroup, ParamGroup, place_parameters
from .nn.registry import describe
from .schedules import Schedule
from .task import LossFn, Task
from .train.callback import Callback, check_callbacks
from .train.callbacks import LossGuard, Progress, SaveBest, SaveCycles, Scheduler
from .train.callbacks.checkpoint import Checkpoint
from .train.checkpoint import load_weights, save_weights
from .train.finder import LRCurve, check_sweep, sweep
from .analysis.interpret import Interpretation, interpret
from .train.loop import run_fit
from .train.optim import OptimizerFn, adamw, build_optimizer
from .train.plan import FitPlan, plan_fit
from .analysis.plots import SchedPlots
from .train.precompute import FeatureStore
from .train.predict import evaluate, gather
from .train.rates import Rates, spread_rates
from .train.record import Record
from .analysis.report import write_report
from .train.resume import Cast, Every, Saved, Situation
from .train.state import Run
from .train.strategy import Strategy
from .analysis.summary import Summary, model_name, plan_text, seconds_per_step, summarise

if TYPE_CHECKING:
    import pandas as pd

_OLD_FIT = {
    "n_cycle": "n",
    "lrs": "lr",
    "wds": "wd",
    "best_save_name": "save_best",
    "cycle_save_name": "save_cycles",
    "n_epoch": "epochs",
    "lr_max": "lr",
    "cbs": "callbacks",
    "use_clr": "schedule=slanted_triangular(...)",
    "use_clr_beta": "schedule=one_cycle(...)",
}


@dataclass(frozen=True)
class Prediction:
    """What the model says of one item.

    Args:
        label: a class name, a tuple of class names, or numbers.
        index: the class number (single-label), those of the labels (multi-label), or None (regression).
        probs: probability of each class, or the numbers, shape (n_out,).
    """

    label: Any
    index: int | tuple[int, ...] | None
    probs: Tensor

    @classmethod
    def of(cls, task: Task, probs: Tensor) -> list[Prediction]:
        """One per row of probabilities (or numbers), shape (n, n_out)."""
        return [cls(label, _index(task, row), row) for label, row in zip(task.decode(probs), probs, strict=True)]


def _index(task: Task, probs: Tensor) -> int | tuple[int, ...] | None:
    if task.kind == "single_label":
        return int(probs.argmax())
    if task.kind == "multi_label":
        return tuple(torch.nonzero(probs >= task.threshold).flatten().tolist())
    return None


@dataclass(frozen=True)
class Predictions:
    """What the model says of a whole part, one row per item in file order; unpacks as `probs, targets`.

    Args:
        probs: shape (n, n_out).
        targets: shape (n,) or (n, n_out); None for a test set without labels.
        ids: one name per item.
        labels: the decoded predictions.
        views: shape (n_views, n, n_out): the plain view first, then the augmented ones.
        task: what was predicted, where it is known.
    """

    probs: Tensor
    targets: Tensor | None
    ids: tuple[str, ...]
    labels: tuple[Any, ...]
    views: Tensor
    task: Task | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the columns; empty for regression."""
        return () if self.task is None else self.task.classes

    def __iter__(self) -> Iterator[Tensor | None]:
        return iter((self.probs, self.targets))

    def __len__(self) -> int:
        return len(self.ids)

    def to_frame(self) -> pd.DataFrame:
        """A table: id, label and a probability per class; or id and a number per target for regression."""
        import pandas as pd

        names = () if self.task is None else self.task.names
        columns = [names[i] if i < len(names) else f"output {i}" for i in range(self.probs.shape[1])]
        numbers = self.task is not None and self.task.kind == "regression"
        shown = columns if numbers else [f"p_{c}" for c in columns]
        frame: pd.DataFrame = pd.DataFrame(self.probs.numpy(), columns=shown)
        if not numbers:
            frame.insert(0, "label", list(self.labels))
        frame.insert(0, "id", list(self.ids))
        return frame


def average_predictions(*predictions: Predictions) -> Predictions:
    """The mean of several models' probabilities for the same items, such as a forward and a backward reader.

    Args:
        predictions: what `learn.predict()` or `learn.tta()` gave, of learners of one task.

    Returns:
        Predictions whose `views` are those of all models.

    Raises:
        DataError: the items or the classes differ.
    """
    if not predictions:
        raise ArgumentError("there are no predictions to average")
    for given in predictions:
        if not isinstance(given, Predictions):
            raise ArgumentError(
                "average_predictions takes what learn.predict() or learn.tta() gave for a part, got "
                f"{type(given).__name__}"
            )
    first = predictions[0]
    for number, other in enumerate(predictions[1:], 2):
        if other.ids != first.ids:
            raise DataError(f"predictions 1 and {number} are of different items, or in another order")
        if other.classes != first.classes or other.probs.shape != first.probs.shape:
            raise DataError(f"predictions 1 and {number} are of different classes: {first.classes}, {other.classes}")
    probs = torch.stack([p.probs for p in predictions]).mean(0)
    views = torch.cat([p.views for p in predictions])
    return replace(first, probs=probs, labels=tuple(first.task.decode(probs)) if first.task else (), views=views)


class Learner:
    """Data, a model and how to train it.

    Args:
        data: train, valid and maybe test items, with their task.
        model: gives logits.
        groups: layer groups from the input to the output; None asks a `BodyHead`, or makes one group.
        optimizer: a torch optimizer class, or a function of (param groups, lr=); None takes AdamW.
        metrics: instead of the task's own: `Metric`s or functions of (probabilities, targets).
        loss: instead of the task's own: a function of (logits, target) giving the mean loss.
        label_smoothing: share of a single-label target spread over all classes (arXiv 1512.00567).
        wd: weight decay; None leaves the optimizer's default.
        clip: largest norm of the gradients; None for no clipping.
        accumulate: batches per optimizer step.
        precision: "fp32", "bf16" or "fp16".
        compile: run training steps through `torch.compile`: True, or one of its modes. It takes a minute or so before
            the first step, and what it gains depends on model and device.
        device: None takes the best there is.
        seed: of shuffles, augmentation and dropout.
        path: folder for saved weights.
        callbacks: used in every fit.
        bn_freeze: keep batch-norm statistics of all groups but the last as they are; see `bn_freeze`.
        precompute: train the head on stored outputs of the frozen body; see `precompute`.
        progress: draw bars and print a line per epoch.

    Attributes:
        data, model, task, strategy, seed, path, callbacks, progress: as given; may be set.
        layer_groups: the groups with their parameters.
        record: of the last fit, or None.
        epochs_done: epochs trained in this learner's life; what shuffles and augmentation are keyed by.
    """

    __slots__ = (
        "_bn_freeze",
        "_curve",
        "_features",
        "_last",
        "_precompute",
        "callbacks",
        "data",
        "epochs_done",
        "layer_groups",
        "model",
        "optimizer",
        "path",
        "progress",
        "record",
        "seed",
        "strategy",
        "task",
        "wd",
    )

    @strict({"opt_fn": "optimizer", "opt_func": "optimizer", "crit": "loss", "loss_func": "loss", "cbs": "callbacks"})
    def __init__(
        self,
        data: Data,
        model: nn.Module,
        *,
        groups: Sequence[LayerGroup] | None = None,
        optimizer: OptimizerFn | None = None,
        metrics: Sequence[Any] | None = None,
        loss: LossFn | None = None,
        label_smoothing: float = 0.0,
        wd: float | None = None,
        clip: float | None = None,
        accumulate: int = 1,
        precision: str = "fp32",
        compile: bool | str = False,
        device: str | torch.device | None = None,
        seed: int = 0,
        path: StrPath = "models",
        callbacks: Sequence[Callback] = (),
        bn_freeze: bool = False,
        precompute: bool = False,
        progress: bool = True,
    ) -> None:
        self.strategy = Strategy(pick_device(device), precision, clip, accumulate, compile)
        self.model = model.to(self.strategy.device)
        self.data = data.for_model(self.model)
        if groups is None and isinstance(model, BodyHead):
            groups = model.layer_groups()
        self.layer_groups: tuple[ParamGroup, ...] = place_parameters(self.model, groups)
        self.task = _configure(data.task, metrics, loss, label_smoothing)
        self.optimizer: OptimizerFn = optimizer if optimizer is not None else adamw
        self.wd = wd
        self.seed = seed
        self.path = Path(path)
        self.callbacks: list[Callback] = check_callbacks(callbacks)
        self.progress = progress
        self.record: Record | None = None
        self.epochs_done = 0
        self._bn_freeze = bn_freeze
        self._features = FeatureStore()
        self._curve: LRCurve | None = None
        self._last: Record | None = None
        self._precompute = False
        if precompute:
            self.freeze()
            self.precompute = True

    # -- freezing ------------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Train only the last layer group."""
        self.freeze_to(-1)

    def unfreeze(self) -> None:
        """Train every layer group; switches precompute off."""
        self.freeze_to(0)

    def freeze_to(self, k: int) -> None:
        """Train the layer groups from `k` on; negative counts from the end. Where the body trains, precompute ends."""
        n = len(self.layer_groups)
        first = k + n if k < 0 else k
        if not 0 <= first < n:
            names = ", ".join(g.name for g in self.layer_groups)
            raise ArgumentError(
                f"freeze_to({k}): the model has {n} layer groups ({names}), so k is from {-n} to {n - 1}"
            )
        for position, group in enumerate(self.layer_groups):
            for _, p in group.params:
                p.requires_grad_(position >= first)
        if first < n - 1:
            self._precompute = False

    def bn_freeze(self, frozen: bool = True) -> None:
        """Whether batch-norm layers of all groups but the last keep their statistics while their weights train.

        A pretrained vision learner starts with True: on small batches and small data, statistics learnt on
        millions of images are better than those of a batch. A frozen group's statistics never move.
        """
        self._bn_freeze = frozen

    @property
    def precompute(self) -> bool:
        """Whether `fit` and `lr_find` run the head on stored outputs of the frozen body.

        The stored outputs are of un-augmented training images. predict, tta and validate always use the full model.
        """
        return self._precompute

    @precompute.setter
    def precompute(self, on: bool) -> None:
        if on:
            if not isinstance(self.model, BodyHead):
                kind = type(self.model).__name__
                raise StateError(f"precompute needs a model with a body and a head, this is a {kind}")
            if any(g.trainable for g in self.layer_groups[:-1]):
                raise StateError(
                    "precompute stores what a frozen body gives, but the body is not frozen: call learn.freeze() first"
                )
        self._precompute = bool(on)

    # -- training ------------------------------------------------------------------------------------------

    @strict(_OLD_FIT)
    def fit(
        self,
        lr: Rates,
        n: int | None = None,
        *,
        cycle_len: float | None = 1,
        cycle_mult: float = 1,
        epochs: int | None = None,
        schedule: Schedule | None = None,
        momentum: Schedule | None = None,
        wd: float | None = None,
        save_best: str | SaveBest | None = None,
        save_cycles: str | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoint: StrPath | None = None,
        every: Every | None = None,
        keep: int = 2,
    ) -> Record:
        """Train. `fit(lr, n)` is n cosine cycles of one epoch each (SGDR, arXiv 1608.03983).

        Args:
            lr: a number for every group; a list of one per group, first nearest the input; `slice(lo, hi)`,
                spread geometrically; or a dictionary by group name.
            n: number of cycles, 1 if not given; the number of epochs where there are no cycles.
            cycle_len: epochs in the first cycle; None keeps the rate constant over n epochs.
            cycle_mult: each cycle is this many times as long as the one before, rounded to whole batches.
            epochs: another spelling of `n`.
            schedule: one of `easylearn.schedules` over n epochs, instead of cycles.
            momentum: a schedule of the momentum's own value.
            wd: weight decay of this fit.
            save_best: name of a file for the weights of the best epoch, or a `SaveBest`.
            save_cycles: name of files for the weights at the end of each cycle.
            callbacks: for this fit alone.
            checkpoint: a folder for the state of the run, from which `resume` goes on if it is killed.
            every: when to write there: at each "epoch" (as if not given), a number of steps, or a time, "5min".
            keep: how many checkpoints stay.

        Returns:
            The record of this fit. On Ctrl-C the step is finished and what was trained is kept.

        Raises:
            ArgumentError: a wrong number of rates, or arguments that contradict each other.
        """
        plan = self._plan(lr, n, cycle_len, cycle_mult, epochs, schedule, momentum)
        keeper = self._keeper(checkpoint, every, keep)
        return self._fit(plan, check_callbacks(callbacks), _savers(save_best, save_cycles), wd, keeper)

    @strict(
        {**_OLD_FIT, "epochs": "n", "n_epoch": "n", "save_cycles": "There is one cycle: learn.save(...) afterwards."}
    )
    def fit_one_cycle(
        self,
        lr: Rates,
        n: int = 1,
        *,
        pct_start: float = 0.25,
        div: float = 25.0,
        div_final: float = 1e5,
        momentum: tuple[float, float] | None = (0.95, 0.85),
        wd: float | None = None,
        save_best: str | SaveBest | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoint: StrPath | None = None,
        every: Every | None = None,
        keep: int = 2,
    ) -> Record:
        """Train n epochs with one rise and one fall of the rate (1cycle, arXiv 1708.07120).

        Args:
            lr: the highest rate, in any form that `fit` takes.
            n: epochs.
            pct_start: share of the steps in which the rate rises.
            div: the first rate is lr / div.
            div_final: the last rate is lr / div_final.
            momentum: the highest and the lowest momentum, against the rate; None leaves it alone.
            wd: weight decay of this fit.
            save_best, checkpoint, every, keep: as in `fit`.
            callbacks: for this fit alone.

        Returns:
            The record of this fit.
        """
        moving = schedules.one_cycle_momentum(pct_start, max(momentum), min(momentum)) if momentum else None
        shape = schedules.one_cycle(pct_start, div, div_final)
        plan = self._plan(lr, n, None, 1, None, shape, moving)
        keeper = self._keeper(checkpoint, every, keep)
        return self._fit(plan, check_callbacks(callbacks), _savers(save_best, None), wd, keeper)

    @strict({"n": "epochs", "n_epoch": "epochs", "base_lr": "lr", "freeze_epochs": "frozen_epochs"})
    def fine_tune(
        self,
        epochs: int,
        lr: float = 1e-2,
        *,
        frozen_epochs: int = 1,
        spread: float = 100.0,
        callbacks: Sequence[Callback] = (),
    ) -> Record:
        """Train the head alone, then everything with rates spread over the groups.

        Args:
            epochs: with everything unfrozen.
            lr: rate of the head while the rest is frozen; half of it afterwards.
            frozen_epochs: with all but the head frozen.
            spread: the first group's rate is this many times smaller than the head's.
            callbacks: for both parts.

        Returns:
            The record of the second part.
        """
        self.freeze()
        self.fit_one_cycle(lr, frozen_epochs, pct_start=0.9, callbacks=callbacks)
        self.unfreeze()
        return self.fit_one_cycle(slice(lr / 2 / spread, lr / 2), epochs, pct_start=0.3, callbacks=callbacks)

    @strict({"folder": "checkpoint", "path": "checkpoint", "cbs": "callbacks"})
    def resume(
        self,
        checkpoint: StrPath,
        *,
        schedule: Schedule | None = None,
        momentum: Schedule | None = None,
        callbacks: Sequence[Callback] = (),
        same_data: bool = False,
    ) -> Record:
        """Go on with a fit that was killed or interrupted, from the newest checkpoint in a folder.

        The learner and its data are made as they were for the fit; weights, optimizer, freezing, random generators,
        record and position come from the file. On the CPU the run ends bit for bit as it would have without the
        break. A run that had ended gives its weights and its record.

        Args:
            checkpoint: the folder given to `fit(..., checkpoint=folder)`; checkpoints go on to be written there.
            schedule: the fit's own, if it was a function that is none of `easylearn.schedules`.
            momentum: the same for its momentum.
            callbacks: new ones of the classes that the fit was given, in their order; save_best and save_cycles are
                remembered.
            same_data: the files are the same, though their places or times are not.

        Returns:
            The record of the whole fit.

        Raises:
            WeightsError: there is no whole checkpoint.
            StateError: model, data or settings differ; the message says in what. The learner is as it was.
            ArgumentError: callbacks or a schedule are missing.
        """
        given = check_callbacks(callbacks)
        saved, now = Saved(checkpoint), self._situation()
        plan, savers = saved.plan(schedule, momentum), saved.savers()
        saved.check(now, same_data)
        saved.check_callbacks(self.callbacks, given)
        saved.check_optimizer(self.optimizer, now)
        saved.restore_model(self.model)  # before features are stored or weights copied by whoever begins
        self.seed, self.epochs_done = saved.seed, saved.first_epoch
        self._bn_freeze, self._precompute = saved.freeze_stats, saved.precompute
        keeper = Checkpoint(checkpoint, saved.every, saved.keep, now, saved)
        return self._fit(plan, given, savers, None, keeper)

    @strict(_OLD_FIT)
    def plan(
        self,
        lr: Rates,
        n: int | None = None,
        *,
        cycle_len: float | None = 1,
        cycle_mult: float = 1,
        epochs: int | None = None,
        schedule: Schedule | None = None,
        momentum: Schedule | None = None,
        wd: float | None = None,
        save_best: str | SaveBest | None = None,
        save_cycles: str | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoint: StrPath | None = None,
        every: Every | None = None,
        keep: int = 2,
    ) -> FitPlan:
        """Print what `fit` with the same arguments would do; train nothing.

        Returns:
            The plan: rates, schedule, cycles and steps.
        """
        plan = self._plan(lr, n, cycle_len, cycle_mult, epochs, schedule, momentum)
        model, train, _ = self._view()
        seconds = seconds_per_step(model, train, self.task, self.strategy, self._active_groups(), self._bn_freeze)
        print(plan_text(plan, self.layer_groups, seconds, self._precompute))
        return plan

    @strict({"num_it": "n_steps"})
    def lr_find(
        self, start_lr: float = 1e-5, end_lr: float = 10.0, *, lr: Rates | None = None, n_steps: int = 100
    ) -> LRCurve:
        """Try growing rates on a few batches, and put everything back (arXiv 1506.01186).

        Weights, buffers, random generators, data order and modes are afterwards bit for bit as before, also
        after an error or Ctrl-C. Data shorter than the sweep is gone through again.

        Args:
            start_lr: first rate of the last group.
            end_lr: last rate of the last group; the sweep ends sooner where the loss passes 4 times its best.
            lr: rates in any form that `fit` takes, whose proportion the groups keep; None is the same for all.
            n_steps: batches in the sweep.

        Returns:
            The curve with a suggested rate, or with the reason why there is none; `learn.sched.plot()` draws it.
        """
        check_sweep(start_lr, end_lr, n_steps)
        names = [g.name for g in self.layer_groups]
        profile = spread_rates(1.0 if lr is None else lr, names, self._precompute)
        if profile[-1] == 0:
            raise ArgumentError(
                "lr_find moves the rate of the last group, which must be above 0; the others keep their proportion"
            )
        rates = tuple(start_lr * r / profile[-1] for r in profile)
        model, train, _ = self._view()
        growth = end_lr / start_lr
        growing: Schedule = lambda epoch, n_epochs: growth ** (epoch / n_epochs * n_steps / (n_steps - 1))  # noqa: E731
        plan = FitPlan(rates, growing, None, (n_steps,), len(train))
        run = self._run(plan, model, train, None, self.wd)
        self._curve = sweep(run)
        self._last = self._curve.record
        return self._curve

    def _plan(
        self,
        lr: Rates,
        n: int | None,
        cycle_len: float | None,
        cycle_mult: float,
        epochs: int | None,
        schedule: Schedule | None,
        momentum: Schedule | None,
    ) -> FitPlan:
        self._need_items()
        return plan_fit(
            lr,
            n,
            cycle_len=cycle_len,
            cycle_mult=cycle_mult,
            epochs=epochs,
            schedule=schedule,
            momentum=momentum,
            names=[g.name for g in self.layer_groups],
            steps_per_epoch=len(self.data.train_loader()),
            precomputed=self._precompute,
        )

    def _need_items(self) -> None:
        if not self.data.has_train:
            raise DataError("this learner came out of a file and has no items to train on: call learn.set_data(data)")

    def _view(self) -> tuple[nn.Module, Loader, Loader | None]:
        """What is trained on what: the whole model on the data, or the head on stored features."""
        self._need_items()
        if not self._precompute:
            valid = self.data.loader("valid") if self.data.has_valid else None
            return self.model, self.data.train_loader(), valid
        assert isinstance(self.model, BodyHead)
        return self.model.head, *self._features.loaders(self.model, self.data, self.strategy)

    def _active_groups(self) -> tuple[ParamGroup, ...]:
        return self.layer_groups[-1:] if self._precompute else self.layer_groups

    def _run(self, plan: FitPlan, model: nn.Module, train: Loader, valid: Loader | None, wd: float | None) -> Run:
        """The one place where optimizer and Run are made."""
        groups = self._active_groups()
        rates = plan.rates[-len(groups) :]
        optimizer = build_optimizer(self.optimizer, groups, rates, wd)
        return Run(
            model=model,
            task=self.task,
            optimizer=optimizer,
            strategy=self.strategy,
            groups=groups,
            train_loader=train,
            valid_loader=valid,
            record=Record(tuple(g["group"] for g in optimizer.param_groups)),
            rates=rates,
            schedule=plan.schedule,
            momentum=plan.momentum,
            n_steps=plan.n_steps,
            seed=self.seed,
            first_epoch=self.epochs_done,
            freeze_stats=self._bn_freeze,
            cycle_ends=plan.cycle_ends,
            save=self.save,
        )

    def _situation(self) -> Situation:
        return Situation(self.model, self.layer_groups, self.data, self.task, self.strategy)

    def _keeper(self, checkpoint: StrPath | None, every: Every | None, keep: int) -> Checkpoint | None:
        if checkpoint is not None:
            return Checkpoint(checkpoint, "epoch" if every is None else every, keep, self._situation())
        if every is not None:
            raise ArgumentError(f"every={every!r} says when to write checkpoints; say where, too: checkpoint=folder")
        return None

    def _fit(
        self,
        plan: FitPlan,
        callbacks: Sequence[Callback],
        savers: Sequence[Callback],
        wd: float | None,
        keeper: Checkpoint | None,
    ) -> Record:
        own = check_callbacks(self.callbacks)
        run = self._run(plan, *self._view(), self.wd if wd is None else wd)
        guards = [] if any(isinstance(c, LossGuard) for c in [*own, *callbacks]) else [LossGuard()]
        cast = Cast([Scheduler(), *guards], own, callbacks, savers, [Progress()] if self.progress else [])
        chain = cast.all
        if keeper is not None:
            chain.append(keeper.begin(run, cast))
        try:
            return run_fit(run, chain)
        finally:
            self.epochs_done += run.epoch
            self.record = self._last = run.record

    # -- data ----------------------------------------------------------------------------------------------

    def set_data(self, data: int | Data) -> None:
        """Go on with the same data at another size, or with other data of the same task and classes.

        Weights and freezing stay.

        Args:
            data: a size in pixels, or another data object.

        Raises:
            DataError: the classes differ; the message names them.
        """
        if not isinstance(data, int | Data):
            raise ArgumentError(f"set_data takes a size in pixels or a data object, got {data!r}")
        new = self.data.resized(data) if isinstance(data, int) else data.adopt(self.data)
        self.data = new.for_model(self.model)

    # -- prediction ----------------------------------------------------------------------------------------

    def validate(self) -> dict[str, float]:
        """Validation loss and metrics of the full model."""
        if not self.data.has_valid:
            raise DataError("there is no validation part; give one when making the data")
        return evaluate(self.model, self.data.loader("valid"), self.task, self.strategy)

    @strict({"is_test": "test"})
    def predict(self, items: Any = None, *, test: bool = False) -> Any:
        """What the full model says.

        Args:
            items: one item gives a `Prediction`, a list (or a table) a list of them; None takes a whole part.
            test: the test part instead of the validation part.

        Returns:
            A `Prediction`, a list of them, or `Predictions`, which unpack as `probs, targets`.
        """
        if items is None:
            return self._predictions("test" if test else "valid", n_aug=0)
        if test:
            raise ArgumentError("predict takes items or test=True, not both")
        logits, _ = gather(self.model, self.data.new_loader(items), self.strategy)
        rows = Prediction.of(self.task, self.task.activate(logits))
        return rows[0] if self.data.is_single(items) else rows

    def _predictions(self, part: PartName, n_aug: int) -> Predictions:
        if self.task.is_streamed:
            raise ArgumentError(
                "a language model's predictions are one number per token and word; use learn.validate() for its "
                "perplexity, or learn.generate(prompt, n)"
            )
        if part == "test" and not self.data.has_test:
            raise DataError("there is no test part; give test= when making the data")
        logits, targets = gather(self.model, self.data.loader(part), self.strategy)
        views = [self.task.activate(logits)]
        for view in range(1, n_aug + 1):
            augmented, _ = gather(self.model, self.data.loader(part, view), self.strategy)
            views.append(self.task.activate(augmented))
        stack = torch.stack(views)
        probs = stack.mean(0)
        return Predictions(
            probs,
            None if part == "test" else targets,
            tuple(self.data.ids(part)),
            tuple(self.task.decode(probs)),
            stack,
            self.task,
        )

    @strict({"is_test": "test"})
    def tta(self, n_aug: int = 4, *, test: bool = False) -> Predictions:
        """Test-time augmentation: probabilities averaged over the plain and `n_aug` augmented views.

        Args:
            n_aug: augmented views, drawn as in training. Without augmentation there is the plain view alone.
            test: the test part instead of the validation part.

        Returns:
            Predictions, one row per item in file order; they unpack as `probs, targets`.
        """
        if n_aug < 0:
            raise ArgumentError(f"n_aug must be at least 0, got {n_aug}")
        return self._predictions("test" if test else "valid", n_aug if self.data.has_views else 0)

    def TTA(self, n_aug: int = 4, is_test: bool = False, *, stack: bool = False) -> Any:  # noqa: N802 (its 2018 name)
        """The 2018 spelling of `tta`.

        Args:
            n_aug: augmented views.
            is_test: the test part instead of the validation part.
            stack: give what the last 0.7 gave: log-probabilities of shape (n_aug + ceil(n_aug / 4), n, n_out), the
                plain view repeated first, and the targets.
        """
        result = self.tta(n_aug, test=is_test)
        if not stack:
            return result
        views = result.views.clamp_min(1e-38).log() if self.task.kind == "single_label" else result.views
        return torch.cat([views[:1]] * max(math.ceil(n_aug / 4), 1) + [views[1:]]), result.targets

    @strict({"text": "prompt", "n_words": "n", "no_unk": "Unknown words are never drawn."})
    def generate(
        self,
        prompt: str,
        n: int = 40,
        *,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> str:
        """Let a language model write on after a prompt.

        Args:
            prompt: the beginning.
            n: tokens to add.
            temperature: below 1 is safer, above 1 is wilder; 0 takes the most probable token each time.
            top_k: draw among the k most probable tokens alone.
            top_p: draw among the fewest tokens that hold this share of the probability (arXiv 1904.09751).
            seed: of the draws; None takes the learner's.

        Returns:
            The prompt and what follows, as text.
        """
        sampling = Sampling(temperature, top_k, top_p, self.seed if seed is None else seed)
        return self.data.generate(self.model, prompt, n, sampling)

    # -- looking -------------------------------------------------------------------------------------------

    @property
    def vocab(self) -> Any:
        """The vocabulary of a text model, to be given to the data of the next one: `vocab=lm.vocab`."""
        return self.data.vocab

    @property
    def sched(self) -> SchedPlots:
        """Plots of the last lr_find and fit: `.plot()`, `.plot_lr()`, `.plot_losses()`."""
        return SchedPlots(self._curve, self._last, self.record)

    def summary(self) -> Summary:
        """The layers by group: output shapes for one batch, parameters, what trains. Changes nothing."""
        return summarise(self.model, self.data.loader("train"), self.layer_groups, self.strategy)

    @strict({"ds_type": "part"})
    def interpret(self, part: PartName = "valid") -> Interpretation:
        """What the full model gets wrong in a part: worst items, confusions, a report by class, calibration.

        Args:
            part: "train", "valid" or "test"; it needs targets.

        Returns:
            An `Interpretation`, with its items in file order.

        Raises:
            ArgumentError: this is a language model, whose text has no items.
            DataError: there is no such part, or it has no targets.
        """
        return interpret(self.model, self.data, self.task, self.strategy, part)

    def report(self, path: StrPath = "run.html") -> Path:
        """Write what happened and what came of it as one HTML file that needs no network.

        It holds what is odd, losses, rates and metrics of the last fit, confusions and worst items of validation,
        configuration, data fingerprint and versions; worst items are shown as they are, so mind who may see them.

        Args:
            path: of the file, which stays below 3 MB; an old one is replaced.

        Returns:
            The path.
        """
        callbacks = [type(c).__name__ for c in self.callbacks]
        settings = {**self._training(), "callbacks": callbacks, "precompute": self._precompute}
        return write_report(path, self._situation(), SchedPlots(self._curve, self._last, self.record), settings)

    # -- files ---------------------------------------------------------------------------------------------

    def save(self, name: str) -> Path:
        """Save the weights as `<path>/<name>.safetensors`; an old file is replaced whole or not at all."""
        return save_weights(self._file(name), self.model, self.task)

    def load(self, name: str) -> Learner:
        """Load weights saved under `name` (or in a file of that path), all or none; freezing stays as it is."""
        file = self._file(name)
        is_path = not file.exists() and name.endswith(".safetensors") and Path(name).exists()
        load_weights(Path(name) if is_path else file, self.model, self.task)
        self.data = self.data.for_model(self.model)
        return self

    @strict({"fname": "path", "name": "path", "fmt": "format"})
    def export(
        self,
        path: StrPath,
        *,
        format: Format = "easylearn",
        quantize: Literal["int8"] | None = None,
        prune: float | None = None,
    ) -> ExportReport:
        """Write one file from which `load_predictor` and `load_learner` rebuild everything; it holds no code.

        Args:
            path: the file to create or replace, such as "pets.easylearn".
            format: "easylearn"; "onnx" for ONNX Runtime; "torch" for `torch.export.load`. The last two are compared
                with the learner on real items before the file takes its place.
            quantize: "int8" keeps large weights in 8 bits.
            prune: this share of the numbers in large weights, the smallest ones, become 0.

        Returns:
            What was written; with `quantize` or `prune` also size, latency and metrics before and after.

        Raises:
            StateError: the model or the data holds something that cannot be written down; the message names it.
            SaveError: the file could not be written; an old one is whole.
        """
        source = Source(self.model, self.task, self.data, self.strategy, self._training())
        return write_export(path, source, format, quantize, prune)

    def _training(self) -> dict[str, Any]:
        """What a learner that is loaded needs to go on training as this one would."""
        last = self.record.last if self.record is not None and len(self.record) else {}
        return {
            "optimizer": getattr(self.optimizer, "__name__", None),
            "wd": self.wd,
            "clip": self.strategy.clip,
            "accumulate": self.strategy.accumulate,
            "precision": self.strategy.precision,
            "seed": self.seed,
            "bn_freeze": self._bn_freeze,
            "frozen": [g.name for g in self.layer_groups if not g.trainable],
            "epochs_done": self.epochs_done,
            "callbacks": [describe(c) for c in self.callbacks],
            "result": {n: v for n, v in last.items() if isinstance(v, float) and math.isfinite(v)},
        }

    def save_encoder(self, name: str) -> Path:
        """Save the part of a text model that reads, with its vocabulary, for a classifier to start from."""
        return self.data.save_encoder(self._file(name), self.model)

    def load_encoder(self, name: str) -> Learner:
        """Load an encoder saved under `name`, all of it or nothing; words are matched by name.

        A word that the saved encoder does not know starts at the mean of all words. Freezing stays as it is.

        Raises:
            WeightsError: the file is missing or damaged, or its sizes differ; the message says what to do.
        """
        self.data.load_encoder(self._file(name), self.model)
        return self

    def _file(self, name: str) -> Path:
        return self.path / (name if name.endswith(".safetensors") else f"{name}.safetensors")

    def __repr__(self) -> str:
        groups = ", ".join(f"{g.name}{'' if g.trainable else ' (frozen)'}" for g in self.layer_groups)
        return f"Learner({model_name(self.model)}, {self.task}, groups: {groups})"


def _configure(task: Task, metrics: Sequence[Any] | None, loss: LossFn | None, label_smoothing: float) -> Task:
    if metrics is not None:
        task = task.with_metrics(metrics)
    if loss is not None:
        task = replace(task, loss_fn=loss)
    if label_smoothing:
        if task.kind != "single_label":
            raise ArgumentError(f"label_smoothing is for single-label tasks, this one is {task.kind}")
        if not 0.0 <= label_smoothing < 1.0:
            raise ArgumentError(f"label_smoothing must be at least 0 and below 1, got {label_smoothing}")
        if task.loss_fn is not None:
            raise ArgumentError("label_smoothing is a setting of the task's own loss; leave it out, or leave out loss=")
        task = replace(task, label_smoothing=label_smoothing)
    return task


def _savers(save_best: str | SaveBest | None, save_cycles: str | None) -> list[Callback]:
    savers: list[Callback] = []
    if not isinstance(save_best, str | SaveBest | None) or not isinstance(save_cycles, str | None):
        raise ArgumentError(
            f"save_best must be a file's name or a SaveBest, save_cycles a name, got {save_best!r} and {save_cycles!r}"
        )
    if save_best is not None:
        savers.append(SaveBest(save_best) if isinstance(save_best, str) else save_best)
    if save_cycles is not None:
        savers.append(SaveCycles(save_cycles))
    return savers
