"""Learner07: the learner that the 2018 modules give. It answers and is told what 0.7 gave and was told."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .core import BasicModel, delistify, listify, set_trainable
from .data.bunch import SplitName
from .dataloader import as_data, targets_of
from .errors import ArgumentError
from .files import StrPath
from .fit07 import (
    DecayOut,
    Record07,
    as_callbacks,
    as_metrics,
    clr,
    clr_beta,
    in_phases,
    logs,
    replaced,
    step_by_step,
    with_decay,
)  # fmt: skip
from .learning import Learner
from .model import Stepper, model_summary
from .nn.body_head import BodyHead
from .nn.groups import LayerGroup
from .options import strict
from .results07 import Averaged, Averages, Models, Sched07
from .sgdr import TrainingPhase
from .task import Predictions
from .texts.callbacks import ActivationPenalty
from .texts.generate import generate
from .texts.preprocess import AnyText
from .texts.transfer import load_encoder, save_encoder
from .texts.vocab import Vocab
from .torch_imports import children
from .train.callbacks import WeightAverage
from .train.optim import OptimizerFn, sgd
from .train.snapshot import restored

if TYPE_CHECKING:
    from typing_extensions import Self

Array = npt.NDArray[Any]


class Learner07(Learner):
    """A `Learner` with the calls of 2018: `predict()`, `predict_with_targs`, `TTA`, `fit(lrs, n_cycle, wds=...)`.

    What it holds may be set as in 2018: `crit`, `metrics`, `clip`, `reg_fn`, `opt_fn`.

    Args:
        data: what to train on.
        models: a model, or `BasicModel(model)`, whose children are then the layer groups.
        opt_fn: makes the optimizer; None takes SGD with momentum 0.9.
        tmp_name: says nothing; what is kept is in easylearn's cache.
        models_name: folder for saved weights, in the data's.
        metrics: instead of the task's own.
        clip: largest norm of the gradients.
        crit: instead of the task's own loss.
    """

    __slots__ = ("_crit",)

    def __init__(
        self, data: Any, models: Any, opt_fn: OptimizerFn | None = None, tmp_name: str = "tmp",
        models_name: StrPath = "models", metrics: Sequence[Any] | None = None, clip: float | None = None,
        crit: Callable[..., Any] | None = None,
    ) -> None:  # fmt: skip
        model = models if isinstance(models, nn.Module) else models.model
        parts = self._parts(models) if not isinstance(models, nn.Module) else children(model)
        groups = [LayerGroup(f"layer {k}", tuple(listify(p, 1))) for k, p in enumerate(parts)]
        loose = not parts or any(True for _ in model.parameters(recurse=False))
        path = Path(getattr(data, "path", None) or ".") / models_name
        given = as_data(data)
        apart = None if loose or isinstance(model, BodyHead) else groups
        super().__init__(given, model, groups=apart, optimizer=opt_fn or sgd, clip=clip, path=path)
        self._crit: Callable[..., Any] | None = None
        if metrics is not None:
            self.metrics = metrics
        if crit is not None:
            self.crit = crit

    @staticmethod
    def _parts(models: Any) -> list[Any]:
        parts: list[Any] = models.get_layer_groups()
        return parts

    @classmethod
    def of(cls, learn: Learner) -> Self:
        """The same learner with the calls of 2018; nothing is copied, and the one given is used no more.

        Args:
            learn: made by a builder such as `vision_learner`.
        """
        made = cls.__new__(cls)
        for name in Learner.__slots__:
            setattr(made, name, getattr(learn, name))
        made._crit = None
        return made

    @classmethod
    def from_model_data(
        cls, m: nn.Module, data: Any, opt_fn: OptimizerFn | None = None, tmp_name: str = "tmp",
        models_name: StrPath = "models", metrics: Sequence[Any] | None = None, clip: float | None = None,
        crit: Callable[..., Any] | None = None,
    ) -> Self:  # fmt: skip
        """A model of your own, trained as it is: `m`, which gives logits or log-probabilities, one per class.

        Args:
            data, opt_fn, tmp_name, models_name, metrics, clip, crit: see `Learner07`.
        """
        made = cls(data, BasicModel(m), opt_fn=opt_fn, models_name=models_name, metrics=metrics, clip=clip, crit=crit)
        made.unfreeze()
        return made

    # -- what it holds -------------------------------------------------------------------------------

    @property
    def models(self) -> Models:
        """The model under 2018's names."""
        return Models(self)

    @property
    def children(self) -> list[nn.Module]:
        """The layers of the model: those of the body, the pooling and those of the head, or what is right below it."""
        model = self.model
        if isinstance(model, BodyHead):
            return [*children(model.body), model.pool, *children(model.head)]
        return children(model)

    def __getitem__(self, i: Any) -> Any:
        return self.children[i]

    def get_layer_groups(self, do_fc: bool = False) -> list[list[nn.Module]]:
        """The modules of each layer group, input first; with `do_fc` those of the head alone."""
        return self.models.get_layer_groups(do_fc)

    def get_model_path(self, name: StrPath) -> Path:
        """The file that `save` writes for a `name`."""
        return self._file(name)

    @property
    def sched(self) -> Sched07:
        """Plots and numbers of the last lr_find and fit."""
        return Sched07(self._curve, self._last, self.record)

    @property
    def opt_fn(self) -> OptimizerFn:
        """Makes the optimizer; may be set."""
        return self.optimizer

    @opt_fn.setter
    def opt_fn(self, opt_fn: OptimizerFn) -> None:
        self.optimizer = opt_fn

    @property
    def metrics(self) -> list[Any]:
        """What is reported after each epoch; may be set: functions of what 2018's models gave, and of targets."""
        return list(self.task.metrics)

    @metrics.setter
    def metrics(self, metrics: Sequence[Any]) -> None:
        self.task = self.task.with_metrics(as_metrics(self.task, metrics, self.data))

    @property
    def crit(self) -> Callable[..., Any]:
        """The loss; may be set: a function of what 2018's models gave (log-probabilities ...), and of targets."""
        return self._crit or self.task.own_loss

    @crit.setter
    def crit(self, crit: Callable[..., Any]) -> None:
        self._crit = crit
        self.task = self.task.with_loss(lambda out, target: crit(self._as_then(out), targets_of(self.data, target)))

    def _as_then(self, out: Tensor) -> Tensor:
        """What a head of 2018 gave: log-probabilities, probabilities of several labels, numbers. Others stay."""
        if not isinstance(self.model, BodyHead) or vars(self.model).get("contiguous"):
            return out
        return F.log_softmax(out, -1) if self.task.is_exclusive else self.task.activate(out)

    @property
    def clip(self) -> float | None:
        """The largest norm of the gradients; may be set."""
        return self.strategy.clip

    @clip.setter
    def clip(self, clip: float | None) -> None:
        self.strategy.clip = clip or None

    @property
    def reg_fn(self) -> Any:
        """What is added to the loss of a recurrent network; may be set: `partial(seq2seq_reg, alpha=2, beta=1)`."""
        return next((c for c in self.callbacks if isinstance(c, ActivationPenalty)), None)

    @reg_fn.setter
    def reg_fn(self, reg_fn: Any) -> None:
        self.callbacks = [c for c in self.callbacks if not isinstance(c, ActivationPenalty)]
        made = reg_fn if reg_fn is None or isinstance(reg_fn, ActivationPenalty) else reg_fn()
        if made is not None and not isinstance(made, ActivationPenalty):
            raise ArgumentError(f"reg_fn must be partial(seq2seq_reg, alpha=2, beta=1), got {type(made).__name__}")
        self.callbacks += [] if made is None else [made]

    # -- freezing ------------------------------------------------------------------------------------

    def freeze_to(self, k: int) -> None:
        """See `Learner.freeze_to`, whose `k` this is; modules say in `trainable` whether they train, as in 2018."""
        super().freeze_to(k)
        groups = self.layer_groups
        for position, group in enumerate(groups):
            for module in group.modules:
                for one in module.modules():
                    vars(one)["trainable"] = position >= k % len(groups)

    def freeze_all_but(self, n: int) -> None:
        """Train layer group `n` alone."""
        self._train_those(lambda k: k == n % len(self.layer_groups))

    def freeze_groups(self, groups: Sequence[int]) -> None:
        """Train all layer groups but those in `groups`."""
        self._train_those(lambda k: k not in groups)

    def unfreeze_groups(self, groups: Sequence[int]) -> None:
        """Train the layer groups in `groups`, too."""
        trained = [g.trainable for g in self.layer_groups]
        self._train_those(lambda k: trained[k] or k in groups)

    def _train_those(self, chosen: Callable[[int], bool]) -> None:
        self.unfreeze()
        for k, group in enumerate(self.models.get_layer_groups()):
            set_trainable(group, chosen(k))

    @property
    def bn_freeze(self) -> Callable[..., None]:
        """See `Learner.bn_freeze`; it may be set, too."""
        return super().bn_freeze

    @bn_freeze.setter
    def bn_freeze(self, frozen: bool) -> None:
        super().bn_freeze(frozen)

    # -- training ------------------------------------------------------------------------------------

    def fit(  # type: ignore[override]
        self, lrs: Any = None, n_cycle: int | None = None, wds: Any = None, *, cycle_len: float | None = 1,
        cycle_mult: float = 1, cycle_save_name: str | None = None, best_save_name: str | None = None,
        use_clr: Sequence[float] | None = None, use_clr_beta: Sequence[float] | None = None,
        metrics: Sequence[Any] | None = None, callbacks: Sequence[Any] | None = None, use_wd_sched: bool = False,
        norm_wds: bool = False, wds_sched_mult: Any = None, use_swa: bool = False, swa_start: int = 1,
        swa_eval_freq: int = 5, get_ep_vals: bool = False, stepper: type[Stepper] | None = None, lr: Any = None,
        n: int | None = None, epochs: int | None = None, schedule: Any = None, momentum: Any = None,
        wd: float | None = None, save_best: Any = None, save_cycles: str | None = None,
        checkpoint: StrPath | None = None, every: Any = None, keep: int = 2,
    ) -> Any:  # fmt: skip
        """Train; see `Learner.fit`, whose own names are taken, too.

        Args:
            lrs: its `lr`.
            n_cycle: its `n`.
            wds: its `wd`, or one per layer group.
            cycle_len, cycle_mult, n, lr, epochs, schedule, momentum, wd, save_best, save_cycles, checkpoint, every,
                keep: see `Learner.fit`.
            cycle_save_name: the weights at the end of each cycle, for `load_cycle`.
            best_save_name: the weights of the best epoch.
            use_clr: (div, cut_div), or with (highest, lowest) momentum behind: slanted triangles of `cycle_len`.
            use_clr_beta: (div, pct), or with the momentum: 1cycle over `cycle_len`.
            metrics: for this fit alone.
            callbacks: for this fit alone, of either time.
            use_wd_sched: weight decay beside the gradient; `norm_wds` divides it by the root of a cycle's batches,
                `wds_sched_mult` multiplies it.
            use_swa: average the weights from epoch `swa_start` on; `swa_eval_freq` says nothing.
            get_ep_vals: give the values of every epoch, too.
            stepper: what is done with a batch, in the loop of `easylearn.model.fit`, which keeps no record.

        Returns:
            The record, which unpacks as [validation loss, metrics ...] of the last epoch.
        """
        rates, count = lrs if lr is None else lr, n_cycle if n is None else n
        length = cycle_len or 1
        if stepper is not None:
            how = {"cycle_len": cycle_len, "cycle_mult": cycle_mult, "use_clr": use_clr, "metrics": metrics}
            return step_by_step(self, stepper, rates, count or epochs or 1, wds, callbacks, how)
        if use_clr is not None or use_clr_beta is not None:
            times = count or epochs or 1
            make = partial(clr, use_clr) if use_clr is not None else partial(clr_beta, use_clr_beta or ())
            schedule, momentum = make(times, length)
            count, epochs, cycle_len = round(times * length), None, 1
        decay, hooks = self._decayed(wds, use_wd_sched, length if norm_wds else None, wds_sched_mult)
        hooks += as_callbacks(callbacks or ())
        if use_swa:
            hooks.append(WeightAverage("swa", start=max(swa_start - 1, 0)))
        chosen = self.task if metrics is None else self.task.with_metrics(as_metrics(self.task, metrics, self.data))
        with replaced(self, {"task": chosen, "optimizer": decay}):
            record = super().fit(
                rates, count, cycle_len=cycle_len, cycle_mult=cycle_mult, epochs=epochs, schedule=schedule,
                momentum=momentum, wd=wds if np.ndim(wds) == 0 and wds is not None and not use_wd_sched else wd,
                save_best=best_save_name or save_best, callbacks=hooks, checkpoint=checkpoint, every=every, keep=keep,
                save_cycles=save_cycles if cycle_save_name is None else f"{cycle_save_name}_cyc",
            )  # fmt: skip
        made = Record07.of(record)
        if not get_ep_vals:
            return made
        rows = enumerate(made.epochs)
        return list(made), OrderedDict((k, [row["train_loss"], *made.values(row)]) for k, row in rows)

    def _decayed(self, wds: Any, beside: bool, norm: float | None, mult: Any) -> tuple[OptimizerFn, list[Any]]:
        """The optimizer and the callbacks that a weight decay of 2018 asks for."""
        names = [g.name for g in self._active_groups()]
        if wds is None or (np.ndim(wds) == 0 and not beside):
            return self.optimizer, []
        each = [float(w) for w in listify(wds, names)]
        if self._precompute:
            each = each[-1:]
        made = with_decay(self.optimizer, [0.0] * len(names) if beside else each, names)
        return made, [DecayOut(dict(zip(names, each, strict=True)), norm, mult)] if beside else []

    def fit_opt_sched(
        self, phases: Sequence[TrainingPhase], cycle_save_name: str | None = None, best_save_name: str | None = None,
        stop_div: bool = False, data_list: Sequence[Any] | None = None, callbacks: Sequence[Any] | None = None,
        cut: Any = None, use_swa: bool = False, swa_start: int = 1, swa_eval_freq: int = 5,
    ) -> Any:  # fmt: skip
        """Train in phases, each with an optimizer, rates and momentum of its own.

        Args:
            phases: `TrainingPhase`s; epochs are rounded up to whole ones.
            data_list: data for each phase, such as other sizes.
            cycle_save_name, best_save_name, callbacks, use_swa, swa_start, swa_eval_freq: see `fit`.
            stop_div, cut: say nothing; a loss that is no number ends a fit always.

        Returns:
            The record of all phases.
        """
        how = {"best_save_name": best_save_name, "use_swa": use_swa, "swa_start": swa_start}
        self._record = self._last = in_phases(self, phases, data_list, cycle_save_name, callbacks, how)
        return self._record

    def warm_up(self, lr: Any, wds: Any = None) -> Any:
        """One epoch with rates that grow from a quarter of `lr` to it, and weight decay `wds`."""
        return self.fit(lr, 1, wds, schedule=lambda epoch, n_epochs: 0.25 + 0.75 * epoch / n_epochs)

    @strict({"num_it": "n_steps"})
    def lr_find(  # type: ignore[override]
        self, start_lr: Any = 1e-5, end_lr: float = 10.0, wds: Any = None, linear: bool = False, *, lr: Any = None,
        n_steps: int = 100,
    ) -> Any:  # fmt: skip
        """See `Learner.lr_find`.

        Args:
            start_lr: the first rate of the last group, or of each group.
            end_lr, lr, n_steps: as there.
            wds: weight decay meanwhile.
            linear: says nothing; the rates grow by a factor.
        """
        each = np.atleast_1d(np.asarray(start_lr, float))
        decay, _ = self._decayed(wds if wds is None else listify(wds, self._active_groups()), False, None, None)
        with replaced(self, {"optimizer": decay}):
            first = float(each[-1])
            return super().lr_find(first, end_lr, lr=list(each) if len(each) > 1 else lr, n_steps=n_steps)

    def lr_find2(
        self, start_lr: Any = 1e-5, end_lr: float = 10.0, num_it: int = 100, wds: Any = None, linear: bool = False,
        stop_dv: bool = True,
    ) -> Any:  # fmt: skip
        """`lr_find` over `num_it` steps; `start_lr`, `end_lr`, `wds`, `linear` as there, `stop_dv` says nothing."""
        return self.lr_find(start_lr, end_lr, wds, linear, n_steps=num_it)

    def set_data(self, data: Any, precompute: bool = False) -> None:
        """See `Learner.set_data`, whose `data` this is; with `precompute` that is then switched on."""
        super().set_data(as_data(data))
        if precompute:
            self.freeze()
            self.precompute = True

    def save_cycle(self, name: str, cycle: int) -> None:
        """Save the weights as those of `cycle` of `name`."""
        self.save(f"{name}_cyc_{cycle}")

    def load_cycle(self, name: str, cycle: int) -> None:
        """Load what `save_cycle`, or `fit` with `cycle_save_name`, saved as `cycle` of `name`."""
        self.load(f"{name}_cyc_{cycle}")

    def summary(self) -> Any:
        """For each layer shapes, parameters and whether it trains, from one batch; nothing is changed."""
        with closing(self.data.loader("train").batches(self.strategy.device)) as batches, restored(self.model):
            return model_summary(self.model, next(batches).inputs)

    # -- predictions ---------------------------------------------------------------------------------

    @strict({"test": "It is called 'is_test' here."})
    def predict(
        self, items: Any = None, is_test: bool = False, use_swa: bool = False, *, split: SplitName | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> Any:  # fmt: skip
        """What the full model says: of a whole split as an array, as 0.7 did.

        Args:
            items, on_error: see `Learner.predict`; None, True and False are a whole split, as in `predict(is_test)`.
            is_test, use_swa: the test split, not the validation split; weights are averaged after `fit(use_swa=True)`.
            split: gives `Predictions` of that split, as `Learner.predict` does.

        Returns:
            Of a whole split a NumPy array of shape (n, n_out): log-probabilities with one class for each item,
            probabilities with several labels, else numbers. Of items what `Learner.predict` gives.
        """
        if split is not None or (items is not None and not isinstance(items, bool)):
            return super().predict(... if items is None else items, split=split, on_error=on_error)
        return self.predict_with_targs(is_test or bool(items))[0]

    def predict_with_targs(self, is_test: bool = False, use_swa: bool = False) -> tuple[Array, Array | None]:
        """As `predict` of `is_test` and `use_swa`, and the targets: None where they are not known."""
        found = super().predict(split=_split(is_test))
        return logs(self.task, found.probs).numpy(), None if found.targets is None else found.targets.numpy()

    def predict_array(self, arr: Any) -> Array:
        """What `predict` gives, for a batch `arr` as the model takes it."""
        return self._batch([arr])

    def predict_dl(self, dl: Iterable[Any]) -> Array:
        """What `predict` gives, for the batches (x, ..., y) of a loader `dl`."""
        return np.concatenate([self._batch(xs) for *xs, _ in dl])

    def _batch(self, xs: Sequence[Any]) -> Array:
        device = self.strategy.device
        inputs = tuple(torch.as_tensor(x).to(device) for x in xs)
        with self.strategy.evaluating(self.model):
            out = delistify(self.strategy.forward(self.model, inputs)).float().cpu()
        return logs(self.task, self.task.activate(out)).numpy()

    def TTA(self, n_aug: int = 4, is_test: bool = False, *, stack: bool = False) -> Any:  # noqa: N802 (its 2018 name)
        """Test-time augmentation; see `tta`.

        Args:
            n_aug: augmented views.
            is_test: the test split instead of the validation split.
            stack: give what the last 0.7 gave: log-probabilities of shape (n_aug + ceil(n_aug / 4), n, n_out), the
                plain view repeated first, and the targets.

        Returns:
            `Averages`, which unpack as averaged probabilities and targets.
        """
        result: Predictions = self.tta(n_aug, split=_split(is_test))
        targets = None if result.targets is None else result.targets.numpy()
        if stack:
            views = logs(self.task, result.views).numpy()
            return np.concatenate([*[views[:1]] * max(math.ceil(n_aug / 4), 1), views[1:]]), targets
        probs = result.probs.numpy().view(Averaged)
        probs.is_average = True
        return Averages(probs, targets, result)

    # -- what texts had ------------------------------------------------------------------------------

    @property
    def vocab(self) -> Vocab:
        """The vocabulary of a text model."""
        texts = self.data.preprocessor
        if not isinstance(texts, AnyText):
            raise ArgumentError(f"{type(self.data).__name__} has no vocabulary: it is no text")
        return texts.vocab

    def generate(
        self, prompt: str, n: int = 40, *, temperature: float = 0.8, top_k: int | None = None,
        top_p: float | None = None, seed: int | None = None,
    ) -> str:  # fmt: skip
        """Let a language model continue a prompt; see `easylearn.generate`."""
        return generate(self, prompt, n, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)

    def save_encoder(self, name: StrPath) -> Path:
        """Save what reads in a text model; see `easylearn.save_encoder`."""
        return save_encoder(self, name)

    def load_encoder(self, name: StrPath) -> Self:
        """Put a saved encoder into this learner; see `easylearn.load_encoder`."""
        load_encoder(self, name)
        return self


def _split(is_test: bool) -> SplitName:
    return "test" if is_test else "valid"
