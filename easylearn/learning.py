"""Learner: the one class that users hold. It owns data, model and settings, and hands the work down."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from . import schedules
from .analysis.baseline import Baseline, compare_with_baseline
from .analysis.interpret import Interpretation, interpret
from .analysis.plots import SchedPlots
from .analysis.report import write_report
from .analysis.summary import Summary, print_plan, summarise
from .artefact.export import write_export
from .artefact.measure import ExportReport, Format, TrainedModel
from .artefact.predictor import OnError, Predictor
from .artefact.training import TrainingSettings
from .data.bunch import Data, SplitName
from .data.order import Loader
from .errors import ArgumentError, DataError, StateError, check_whole
from .files import StrPath, as_path
from .nn.branched import active_groups, check_frozen, rates_of, stored_branches
from .nn.groups import Grouped, LayerGroup, ParamGroup, freeze_named, freeze_to, place_parameters
from .nn.registry import describe, model_name
from .options import strict
from .schedules import Schedule
from .task import Predictions
from .train.callback import Callback, check_callbacks
from .train.callbacks import LossGuard, Progress, SaveBest, Scheduler
from .train.callbacks.save import make_savers, suited, with_own_savers
from .train.checkpoints.context import RunContext
from .train.checkpoints.layout import Interval
from .train.checkpoints.reader import SavedRun
from .train.checkpoints.writer import CheckpointWriter, make_writer
from .train.finder import LRCurve, plan_sweep, sweep
from .train.fitting import check_model
from .train.head_start import scaled_head, start_head
from .train.loop import run_fit
from .train.optim import OptimizerFn, adamw, build_optimizer
from .train.options import OLD_FIT, Training, TrainingOptions
from .train.plan import FitPlan, Rates, count_of, moving_momentum, plan_fit, spread_rates
from .train.precompute import FeatureStore
from .train.predict import evaluate, predict_split
from .train.record import Record
from .train.state import Run
from .train.strategy import Strategy
from .train.weights import load_weights, save_weights

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Learner", "Training", "TrainingOptions"]

Callbacks = Sequence[Callback]
_OLD_SPLIT = {"is_test": 'Write split="test".', "test": 'Write split="test".', "ds_type": "split", "dl": "split"}


class Learner:
    """Data, a model and how to train it; for the other arguments see `Training`.

    Args:
        data: train, valid and maybe test items, with their task.
        model: gives logits.
        groups: layer groups from the input to the output; None asks the model (`layer_groups()`), or makes one group.
        bn_freeze: keep batch-norm statistics of all groups but the last as they are; see `bn_freeze`.
        precompute: train the head on stored outputs of the frozen body; see `precompute`.

    Attributes:
        model: may be set; its layer groups follow.
        task, optimizer, wd, seed, path, callbacks, progress: as given; may be set.
        data, strategy, layer_groups, record, epochs_done: may be read.
    """

    __slots__ = (
        "_bn_freeze", "_curve", "_data", "_epochs_done", "_groups", "_last", "_model", "_precompute", "_record",
        "_records", "_saved_best", "_store", "_strategy", "callbacks", "optimizer", "path", "progress", "seed", "task",
        "wd",
    )  # fmt: skip

    @strict(
        {"opt_fn": "optimizer", "opt_func": "optimizer", "crit": "loss", "loss_func": "loss", "cbs": "callbacks"},
        Training,
    )
    def __init__(
        self,
        data: Data[Any],
        model: nn.Module,
        *,
        groups: Sequence[LayerGroup] | None = None,
        bn_freeze: bool = False,
        precompute: bool = False,
        **options: Unpack[TrainingOptions],
    ) -> None:
        if not isinstance(data, Data):
            raise ArgumentError(f"a Learner needs data such as ImageData or TensorData, got {type(data).__name__}")
        how = Training(**options)
        self._strategy = how.make_strategy()
        self.task = data.task.configured(how.metrics, how.loss, how.label_smoothing, how.threshold)
        self.optimizer: OptimizerFn = how.optimizer if how.optimizer is not None else adamw
        self.wd, self.seed, self.path, self._bn_freeze = how.wd, how.seed, as_path(how.path, "a folder"), bn_freeze
        self.callbacks: list[Callback] = check_callbacks(how.callbacks)
        self._place(data, model, groups)
        self._store, self._epochs_done, self._precompute, self.progress = FeatureStore(), 0, False, how.progress
        self._saved_best: dict[str, tuple[str, float, Path]] = {}
        self._record: Record | None = None
        self._records: list[Record] = []  # of all fits of this model
        self._last: Record | None = None  # of the last fit or sweep
        self._curve: LRCurve | None = None
        if precompute:
            self.freeze()
            self.precompute = True

    def _place(self, data: Data[Any], model: nn.Module, groups: Sequence[LayerGroup] | None = None) -> None:
        if not isinstance(model, nn.Module):
            given = f"the class {model.__name__}; make one of it" if isinstance(model, type) else type(model).__name__
            raise ArgumentError(f"model must be a torch module, got {given}")
        placed = self._strategy.place(model)
        prepared = data.for_model(placed)
        check_model(placed, prepared, self.task, self._strategy)
        self._model, self._groups, self._data = placed, groups, prepared
        _ = self.layer_groups  # refused now, and not at the first fit

    # -- what it holds ---------------------------------------------------------------------------------------

    @property
    def model(self) -> nn.Module:
        """The whole model. Another one may be put in its place: it then brings its own layer groups."""
        return self._model

    @model.setter
    def model(self, model: nn.Module) -> None:
        self._place(self._data, model)
        self._saved_best.clear()
        self._records.clear()
        self._precompute = False

    @property
    def layer_groups(self) -> tuple[ParamGroup, ...]:
        """The groups with their parameters, as the model is now: a layer that was replaced is among them."""
        model, own = self._model, self._groups
        return place_parameters(model, model.layer_groups() if own is None and isinstance(model, Grouped) else own)

    @property
    def data(self) -> Data[Any]:
        """The data; `set_data` changes it."""
        return self._data

    @data.setter
    def data(self, data: Data[Any]) -> None:
        raise StateError("learn.data is checked against the model when it changes: call learn.set_data(data)")

    @property
    def strategy(self) -> Strategy:
        """Where and how the model runs: device, precision, clipping, accumulation."""
        return self._strategy

    @property
    def record(self) -> Record | None:
        """What was written down in the last fit; None before the first."""
        return self._record

    @property
    def epochs_done(self) -> int:
        """Epochs of this learner's life, which shuffles and augmentation are keyed by."""
        return self._epochs_done

    @property
    def _features(self) -> FeatureStore:
        return self._store.telling(self.progress)

    # -- freezing ------------------------------------------------------------------------------------------

    def freeze(self, *names: str) -> None:
        """Train only the last layer group, of several branches that of each that has a pretrained body.

        Args:
            names: of groups that train no more, or of branches, of which only the last group goes on; None are all.
        """
        self._freeze(freeze_named, names, False) if names else self.freeze_to(-1)

    def unfreeze(self, *names: str) -> None:
        """Train every layer group, or those of these `names`, of groups or of branches, too; ends their precompute."""
        self._freeze(freeze_named, names, True) if names else self.freeze_to(0)

    def freeze_to(self, k: int) -> None:
        """Train the layer groups from `k` on; negative counts from the end. Where the body trains, precompute ends."""
        self._freeze(freeze_to, k)

    def _freeze(self, how: Callable[..., None], *given: Any) -> None:
        self.strategy.gate.refuse_inside_fit("freezing or unfreezing")
        how(self.layer_groups, *given)
        self._precompute = self._precompute and bool(stored_branches(self.model))

    def bn_freeze(self, frozen: bool = True) -> None:
        """Whether batch-norm layers of all groups but the last keep their statistics while their weights train.

        A pretrained vision learner starts with True. A frozen group's statistics never move.

        Args:
            frozen: False lets them move.
        """
        self._bn_freeze = frozen

    @property
    def precompute(self) -> bool:
        """Whether `fit` and `lr_find` run the head on stored outputs, without augmentation, of the frozen body.

        Of several branches those with a frozen body are stored, and the others run as they are.
        """
        return self._precompute

    @precompute.setter
    def precompute(self, on: bool) -> None:
        if on:
            check_frozen(self.model)
        self._precompute = bool(on)

    # -- training ------------------------------------------------------------------------------------------

    @strict(OLD_FIT)
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
        every: Interval | None = None,
        keep: int = 2,
        go_on: bool = False,
    ) -> Record:
        """Train. `fit(lr, n)` is n cosine cycles of one epoch each (SGDR, arXiv 1608.03983).

        Args:
            lr: a number for every group; a list of one per group, first nearest the input; `slice(lo, hi)`,
                spread geometrically over the groups (of each branch); or a dictionary by group name. Of several
                branches it may name these, and what it does not name keeps still.
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
            go_on: resume the run of that folder, whether it has ended or not; begin one only where there is none.

        Returns:
            The record of this fit. On Ctrl-C the step is finished and what was trained is kept.

        Raises:
            ArgumentError: a wrong number of rates, or arguments that contradict each other.
        """
        plan = plan_fit(*self._rates_and_steps(lr), count_of(n, epochs, lr), cycle_len, cycle_mult, schedule, momentum)
        writer = make_writer(checkpoint, every, keep, self._context(), go_on)
        return self._fit(plan, callbacks, make_savers(save_best, save_cycles), wd, writer)

    @strict({**OLD_FIT, "epochs": "n", "n_epoch": "n", "save_cycles": "There is one cycle: learn.save() afterwards."})
    def fit_one_cycle(
        self,
        lr: Rates,
        n: int | None = None,
        *,
        pct_start: float = 0.25,
        div: float = 25.0,
        div_final: float = 1e5,
        momentum: tuple[float, float] | None = (0.95, 0.85),
        wd: float | None = None,
        save_best: str | SaveBest | None = None,
        callbacks: Sequence[Callback] = (),
        checkpoint: StrPath | None = None,
        every: Interval | None = None,
        keep: int = 2,
        go_on: bool = False,
    ) -> Record:
        """Train n epochs with one rise and one fall of the rate (1cycle, arXiv 1708.07120).

        Args:
            lr: the highest rate, in any form that `fit` takes.
            n: epochs. None: as many as suit a table, of which the best is kept (`KeepBest`); 1 of anything else.
            pct_start: share of the steps in which the rate rises.
            div: the first rate is lr / div.
            div_final: the last rate is lr / div_final.
            momentum: the highest and the lowest momentum, against the rate; None leaves it alone.
            wd, save_best, callbacks, checkpoint, every, keep, go_on: as in `fit`.

        Returns:
            The record of this fit.
        """
        shape, moving = schedules.one_cycle(pct_start, div, div_final), moving_momentum(pct_start, momentum)
        called, says = [*self.callbacks, *check_callbacks(callbacks)], self.progress and self.strategy.is_main
        count, savers = suited(n, count_of(n, None, lr), save_best, called, self.data, says)
        plan = plan_fit(*self._rates_and_steps(lr), count, schedule=shape, momentum=moving)
        return self._fit(plan, callbacks, savers, wd, make_writer(checkpoint, every, keep, self._context(), go_on))

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
        check_whole("epochs", epochs)  # before the head is trained
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

        Make the learner and its data as they were for the fit; all else comes from the file. On the CPU the run ends
        bit for bit as it would have without the break. A run that had ended gives its weights and its record.

        Args:
            checkpoint: the folder given to `fit(..., checkpoint=folder)`; checkpoints go on to be written there.
            schedule, momentum: the fit's own, if they were functions that are none of `easylearn.schedules`.
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
        given, saved = check_callbacks(callbacks), SavedRun(checkpoint)
        context, plan, savers = saved.context_like(self._context()), saved.plan(schedule, momentum), saved.savers()
        saved.check(context, same_data)
        saved.check_callbacks(self.callbacks, given)
        saved.check_optimizer(self.optimizer, context)
        saved.restore_model(self.model)  # before features are stored or weights copied by whoever begins
        self.task, self._strategy, how = context.task, context.strategy, saved.settings
        self.seed, self._epochs_done = how["seed"], how["first_epoch"]
        self._bn_freeze, self._precompute = how["freeze_stats"], how["precompute"]
        writer = CheckpointWriter(checkpoint, how["interval"], how["keep"], context, saved)
        return self._fit(plan, given, savers, None, writer)

    @strict(OLD_FIT)
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
        every: Interval | None = None,
        keep: int = 2,
        go_on: bool = False,
    ) -> FitPlan:
        """Print what `fit` with the same arguments would do; train nothing. The plan has rates, cycles and steps."""
        plan = plan_fit(*self._rates_and_steps(lr), count_of(n, epochs, lr), cycle_len, cycle_mult, schedule, momentum)
        _ = make_writer(checkpoint, every, keep, self._context(), go_on), make_savers(save_best, save_cycles)
        run = self._run(plan, *self._view(validates=False), self.wd if wd is None else wd)
        chosen = check_callbacks([*self.callbacks, *check_callbacks(callbacks)])
        print_plan(plan, self.layer_groups, run, chosen, self._precompute)
        return plan

    @strict({"num_it": "n_steps"})
    def lr_find(
        self, start_lr: float = 1e-5, end_lr: float = 10.0, *, lr: Rates | None = None, n_steps: int = 100
    ) -> LRCurve:
        """Try growing rates on a few batches, and put everything back (arXiv 1506.01186).

        Weights, buffers, random generators, data order and modes are afterwards bit for bit as before, also after an
        error or Ctrl-C.

        Args:
            start_lr: first rate of the last group.
            end_lr: last rate of the last group; the sweep ends sooner where the loss passes 4 times its best.
            lr: rates in any form that `fit` takes, whose proportion the groups keep; None is the same for all.
            n_steps: batches in the sweep.

        Returns:
            The curve with a suggested rate, or with the reason why there is none; `learn.sched.plot()` draws it.
        """
        plan = plan_sweep(*self._rates_and_steps(1.0 if lr is None else lr), start_lr, end_lr, n_steps)
        model, train, _ = self._view(validates=False)
        with scaled_head(self._context(), self._features, self.seed, self._precompute) as solved:
            self._curve = sweep(self._run(plan, model, train, None, self.wd), solved=solved)
        self._last = self._curve.record
        return self._curve

    def _rates_and_steps(self, lr: Rates) -> tuple[tuple[float, ...], int]:
        """The base rate of each group, and the batches in an epoch."""
        names, branches = zip(*((g.name, g.branch) for g in self.layer_groups), strict=True)
        return spread_rates(lr, names, self._precompute, branches), len(self._train_loader())

    def _train_loader(self) -> Loader:
        if "train" not in self.data.splits:
            raise DataError("this learner came out of a file and has no items to train on: call learn.set_data(data)")
        return self.data.loader("train", training=True)

    def _view(self, validates: bool = True) -> tuple[nn.Module, Loader, Loader | None]:
        """What is trained on what: the whole model on the data, or the head on stored features."""
        train = self._train_loader()
        if not self._precompute:
            return self.model, train, self.data.loader("valid") if "valid" in self.data.splits else None
        return self._features.view(self.model, self.data, self.strategy, validates)

    def _active_groups(self) -> tuple[ParamGroup, ...]:
        return active_groups(self.model, self.layer_groups, self._precompute)

    def _run(self, plan: FitPlan, model: nn.Module, train: Loader, valid: Loader | None, wd: float | None) -> Run:
        """The one place where optimizer and Run are made."""
        groups = self._active_groups()
        rates = rates_of(groups, self.layer_groups, plan.rates)
        optimizer = build_optimizer(self.optimizer, groups, rates, wd)
        return Run(
            model=model, task=self.task, optimizer=optimizer, strategy=self.strategy, groups=groups,
            train_loader=train, valid_loader=valid, record=Record(tuple(g["group"] for g in optimizer.param_groups)),
            rates=rates, schedule=plan.schedule, momentum=plan.momentum, n_steps=plan.n_steps, seed=self.seed,
            first_epoch=self.epochs_done, freeze_stats=self._bn_freeze, cycle_ends=plan.cycle_ends, save=self.save,
            saved_best=self._saved_best, context=self._context(),
        )  # fmt: skip

    def _context(self) -> RunContext:
        return RunContext(self.model, self.layer_groups, self.data, self.task, self.strategy)

    def _fit(
        self, plan: FitPlan, callbacks: Callbacks, savers: Callbacks, wd: float | None, writer: CheckpointWriter | None
    ) -> Record:
        own, given, savers = check_callbacks(self.callbacks), *with_own_savers(callbacks, savers)
        if writer is not None and writer.goes_on:
            return self.resume(writer.folder_of(plan), schedule=plan.schedule, momentum=plan.momentum, callbacks=given)
        start_head(self._context(), self._features, self.seed, self._precompute)
        run = self._run(plan, *self._view(), self.wd if wd is None else wd)
        run.record.before |= self._features.spent()
        guards = [] if any(isinstance(c, LossGuard) for c in [*own, *given]) else [LossGuard()]
        called = {"first": [Scheduler(), *guards], "learner": own, "fit": given, "savers": savers}
        chain = [c for of in called.values() for c in of] + ([Progress()] if self.progress else [])
        chain += [writer.begin(run, called, self._features.key, self._records)] if writer is not None else []
        try:
            return run_fit(run, chain)
        finally:
            self._epochs_done += run.epoch
            self._record = self._last = run.record
            self._records.append(run.record)

    # -- data ----------------------------------------------------------------------------------------------

    def set_data(self, data: int | tuple[int, int] | Data[Any]) -> None:
        """Go on with the same data at another size, or with other data of the same task and classes.

        Args:
            data: a size in pixels, (height, width), or another data object.

        Raises:
            DataError: the classes differ; the message names them.
        """
        if isinstance(data, bool) or not isinstance(data, int | tuple | Data):
            raise ArgumentError(f"set_data takes a size in pixels or a data object, got {data!r}")
        new = data.adopt(self.data) if isinstance(data, Data) else self.data.resized(data)
        self._data = new.for_model(self.model)
        self._saved_best.clear()  # other items, or sizes: the values of metrics do not compare

    # -- prediction ----------------------------------------------------------------------------------------

    @strict(_OLD_SPLIT)
    def validate(self, split: SplitName = "valid") -> dict[str, float]:
        """Loss ("valid_loss") and metrics of the full model on a `split` with targets: "train", "valid" or "test"."""
        return evaluate(self.model, self.data.loader(split), self.task, self.strategy, self.progress)

    @strict(_OLD_SPLIT)
    def predict(self, items: Any = ..., *, split: SplitName | None = None, on_error: OnError = "raise") -> Any:
        """What the full model says.

        Args:
            items, on_error: see `Predictor.predict`; left out, the items are a whole split.
            split: "train", "valid" or "test"; None is "valid".

        Returns:
            A `Prediction` of one item, else `Predictions`, which unpack as `probs, targets`.
        """
        if items is ...:
            return self.tta(0, split="valid" if split is None else split)
        if split is not None:
            raise ArgumentError(f"predict takes items or split={split!r}, not both")
        how = self.data.preprocessor, self.strategy, self.data.batch_size
        return Predictor(self.model, self.task, *how, progress=self.progress).predict(items, on_error)

    @strict(_OLD_SPLIT)
    def tta(self, n_aug: int = 4, *, split: SplitName = "valid") -> Predictions:
        """Test-time augmentation: probabilities averaged over the plain and `n_aug` augmented views.

        Args:
            n_aug: augmented views, drawn as in training. Without augmentation there is the plain view alone.
            split: "train", "valid" or "test".

        Returns:
            Predictions, one row per item in file order; they unpack as `probs, targets`.
        """
        check_whole("n_aug", n_aug, 0)
        return predict_split(self.model, self.data, split, self.task, self.strategy, n_aug, self.progress)

    # -- looking -------------------------------------------------------------------------------------------

    @property
    def sched(self) -> SchedPlots:
        """Plots of the last lr_find and fit: `.plot()`, `.plot_lr()`, `.plot_losses()`."""
        return SchedPlots(self._curve, self._last, self.record)

    def summary(self) -> Summary:
        """The layers by group: output shapes for one batch, parameters, what trains. Changes nothing."""
        return summarise(self.model, self.data.loader("train"), self.layer_groups, self.strategy)

    @strict({"ds_type": "split", "part": "split"})
    def interpret(self, split: SplitName = "valid") -> Interpretation:
        """What the full model gets wrong in a split: worst items, confusions, a report by class, calibration.

        Args:
            split: "train", "valid" or "test"; it needs targets.

        Raises:
            ArgumentError: this is a language model, whose text has no items.
            DataError: there is no such split, or it has no targets.
        """
        return interpret(self.model, self.data, self.task, self.strategy, split, self.progress)

    def baseline(self, split: SplitName = "valid") -> Baseline:
        """The scores in a `split` beside what they must beat: the best constant, and what scikit-learn gives."""
        return compare_with_baseline(self._context(), self._features, split)

    def report(self, path: StrPath = "run.html", *, name: str = "") -> Path:
        """Write what happened in all fits and what came of it as one HTML file; it shows items: mind who may see them.

        Args:
            path, name: of the file, which stays below 3 MB (an old one is replaced), and of the run, for the title.
        """
        more = {"callbacks": [type(c).__name__ for c in self.callbacks], "precompute": self._precompute}
        told = self._training().to_json() | more
        return write_report(path, self._context(), self._features, self.sched, told, name, self._records)

    # -- files ---------------------------------------------------------------------------------------------

    def save(self, name: StrPath) -> Path:
        """Save the weights as `name`.safetensors in `learn.path`; an old file is replaced whole or not at all."""
        return save_weights(self._file(name), self.model, self.task, self.strategy)

    def load(self, name: StrPath) -> Learner:
        """Load weights saved under `name` (or in a file of that path), all or none; freezing stays as it is."""
        file, given = self._file(name), Path(name)
        found = given if not file.exists() and given.suffix == ".safetensors" and given.exists() else file
        self.task = load_weights(found, self.model, self.task)
        self._data = self.data.for_model(self.model)
        return self

    def _file(self, name: StrPath) -> Path:
        return self.path / f"{str(as_path(name or None, 'saved weights')).removesuffix('.safetensors')}.safetensors"

    @strict({"fname": "path", "name": "path", "fmt": "format"})
    def export(
        self,
        path: StrPath,
        *,
        format: Format = "easylearn",
        quantize: Literal["int8", "weights"] | None = None,
        prune: float | None = None,
    ) -> ExportReport:
        """Write one file from which `load_predictor` and `load_learner` rebuild everything; it holds no code.

        Args:
            path: the file to create or replace, such as "pets.easylearn".
            format: "easylearn"; "onnx" for ONNX Runtime; "torch" for `torch.export.load`. The last two are compared
                with the learner on real items before the file takes its place.
            quantize: "weights" keeps large weights in 8 bits; "int8" makes ONNX Runtime compute in them, too.
            prune: this share of the numbers in large weights, the smallest ones, become 0.

        Returns:
            What was written; with `quantize` or `prune` also size, latency and metrics before and after.

        Raises:
            StateError: the model or the data holds something that cannot be written down; the message names it.
            SaveError: the file could not be written; an old one is whole.
        """
        trained = TrainedModel(self.model, self.task, self.data, self.strategy, self._training())
        return write_export(path, trained, format, quantize, prune)

    def _training(self) -> TrainingSettings:
        last = self.record.last if self.record is not None and len(self.record) else {}
        return TrainingSettings(
            optimizer=getattr(self.optimizer, "__name__", None), wd=self.wd, clip=self.strategy.clip,
            accumulate=self.strategy.accumulate, precision=self.strategy.precision, seed=self.seed,
            bn_freeze=self._bn_freeze, frozen=[g.name for g in self.layer_groups if not g.trainable],
            epochs_done=self.epochs_done, callbacks=[describe(c) for c in self.callbacks],
            result={n: v for n, v in last.items() if isinstance(v, float) and math.isfinite(v)},
        )  # fmt: skip

    def __repr__(self) -> str:
        groups = ", ".join(f"{g.name}{'' if g.trainable else ' (frozen)'}" for g in self.layer_groups)
        return f"Learner({model_name(self.model)}, {self.task}, groups: {groups})"
