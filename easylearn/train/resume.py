"""Resume: how a killed fit goes on from a checkpoint to the bit. `callbacks.checkpoint` writes them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import keyed
from ..data.bunch import Data, SplitName
from ..errors import ArgumentError, DataError, EasyLearnWarning, NewerSchemaError, StateError, WeightsError, name_of
from ..files import StrPath, digest
from ..nn.groups import ParamGroup
from ..schedules import Schedule
from ..task import Task
from .callback import Callback
from .callbacks.save import SaveBest, SaveCycles
from .optim import OptimizerFn, build_optimizer
from .plan import FitPlan
from .schedule_state import decode_schedule
from .state import Run
from .state_file import read_state
from .strategy import Strategy

Every = str | int
_CALLBACK = {"name": str, "state": dict}
_LAYOUT: dict[str, Any] = {
    "versions": dict,
    "facts": dict,
    "plan": {
        "rates": [float],
        "schedule": {"name": str},
        "n_steps": int,
        "cycle_ends": [int],
        "steps_per_epoch": int,
        "seed": int,
        "first_epoch": int,
        "freeze_stats": bool,
        "precompute": bool,
        "every": (str, int),
        "keep": int,
    },
    "position": {"step": int, "epoch": int, "stop_reason": (str, type(None)), "metrics": dict},
    "model": {"params": dict, "trainable": [str], "buffers": dict, "extra": dict},
    "optimizer": {"class": str, "state": {"param_groups": [dict]}},
    "strategy": {"scaler": dict, "pending": int, "first": int, "items": int},
    "grads": dict,
    "record": {"losses": Tensor, "rates": Tensor, "momentum": Tensor, "step_epoch": Tensor, "epochs": [dict]},
    "cast": {"first": [_CALLBACK], "learner": [_CALLBACK], "fit": [_CALLBACK], "savers": [_CALLBACK]},
    "rng": {"python": tuple, "numpy": tuple, "cpu": Tensor, "cuda": [Tensor]},
}
_NAME = re.compile(r"checkpoint_(\d{6,12})\.safetensors")


@dataclass(frozen=True)
class Cast:
    """The callbacks of a fit, by who gave them, in the order in which they are called.

    Args:
        first: those that are always there.
        learner: `learn.callbacks`.
        fit: given to this fit.
        savers: of save_best= and save_cycles=.
        last: those that only show.
    """

    first: Sequence[Callback]
    learner: Sequence[Callback]
    fit: Sequence[Callback]
    savers: Sequence[Callback]
    last: Sequence[Callback]

    @property
    def all(self) -> list[Callback]:
        """Everybody."""
        return [*self.first, *self.learner, *self.fit, *self.savers, *self.last]

    @property
    def kept(self) -> list[Callback]:
        """Those whose state is written."""
        return [*self.first, *self.learner, *self.fit, *self.savers]


@dataclass(frozen=True)
class Situation:
    """What a run depends on and does not make: it must be the same where the run goes on.

    Args:
        model: the whole model, also where only its head is trained.
        groups: its layer groups.
        data: train and valid are used.
        task: with its loss and metrics.
        strategy: device, precision, clipping, accumulation.
    """

    model: nn.Module
    groups: tuple[ParamGroup, ...]
    data: Data
    task: Task
    strategy: Strategy

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Plain values to compare, by the words for them."""
        loader, task = self.data.loader("train", training=True), self.task
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
            "buffers": {n: f"{tuple(b.shape)} {b.dtype}" for n, b in _persistent_buffers(self.model)},
            "data": {split: self._fingerprint(split) for split in splits},
        }

    def _fingerprint(self, split: SplitName) -> str | None:
        try:
            return self.data.fingerprint(split)
        except DataError:
            return None  # somebody else's batches: nothing is known of them


class Saved:
    """The newest whole checkpoint of a folder.

    Args:
        folder: where they are.

    Raises:
        WeightsError: there is none, or none is whole; or a newer easylearn wrote it.
    """

    def __init__(self, folder: StrPath) -> None:
        self.folder = Path(folder)
        self.damaged: list[Path] = []
        self.file, self._state = self._newest()
        wrong = _misfit(self._state, _LAYOUT, "")
        if wrong is not None:
            raise self._unreadable(wrong)
        self._plan: dict[str, Any] = self._state["plan"]
        self._position: dict[str, Any] = self._state["position"]
        self._cast: dict[str, list[dict[str, Any]]] = self._state["cast"]
        self.facts: dict[str, Any] = self._state["facts"]
        self.every: Every = self._plan["every"]
        self.keep: int = self._plan["keep"]
        self.seed: int = self._plan["seed"]
        self.first_epoch: int = self._plan["first_epoch"]
        self.freeze_stats: bool = self._plan["freeze_stats"]
        self.precompute: bool = self._plan["precompute"]

    def _newest(self) -> tuple[Path, dict[str, Any]]:
        files = checkpoint_files(self.folder)
        if not files:
            there = "has no checkpoints" if self.folder.is_dir() else "does not exist"
            raise WeightsError(
                f"the folder {self.folder} {there}, so there is nothing to resume; checkpoints are written by "
                "learn.fit(..., checkpoint=folder)"
            )
        problems: list[str] = []
        for file in files:
            try:
                state = read_state(file)
            except NewerSchemaError:
                raise
            except WeightsError as error:
                self.damaged.append(file)
                problems.append(str(error))
                continue
            if problems:
                warnings.warn(f"{'; '.join(problems)}. Going on from {file} instead", EasyLearnWarning, stacklevel=4)
            return file, state
        raise WeightsError(
            f"none of the {len(files)} checkpoints in {self.folder} is whole: {'; '.join(problems)}. Start the fit anew"
        )

    def describe(self) -> str:
        """How far the run came and what it was of, for people."""
        plan, position, facts = self._plan, self._position, self.facts
        lines = [
            f"{self.file}: step {position['step']:,} of {plan['n_steps']:,}, "
            f"{position['step'] / max(plan['steps_per_epoch'], 1):.2f} epochs done",
            f"{facts.get('task')}, {facts.get('items to train on')} items of {facts.get('kind of data')}, batches of "
            f"{facts.get('batch_size')}, layer groups {', '.join(map(str, facts.get('layer groups', [])))}",
        ]
        if position["stop_reason"] is not None:
            lines.append(f"it stopped: {position['stop_reason']}")
        epochs = self._state["record"]["epochs"]
        if epochs:
            lines.append("last epoch: " + ", ".join(f"{n} {v:.4g}" for n, v in epochs[-1].items()))
        return "\n".join(lines)

    def _unreadable(self, what: object) -> WeightsError:
        return WeightsError(f"{self.file} is not what easylearn writes: {what}")

    # -- before the run --------------------------------------------------------------------------------------

    def check(self, now: Situation, same_data: bool) -> None:
        """Compare what the run depended on with what is here.

        Raises:
            StateError: something differs; the message says what, first in the checkpoint, then here.
        """
        differences = []
        for name, here in now.facts.items():
            there = self.facts.get(name)
            if there == here:
                continue
            if name == "data":
                parts = [part for part in here if there is None or there.get(part) != here[part]]
                if not same_data:
                    differences.append(
                        f"the {' and the '.join(parts)} data has another fingerprint (if these are the same files in "
                        "another place, pass same_data=True)"
                    )
            else:
                differences.append(_difference(name, there, here))
        if differences:
            raise StateError(
                f"{self.file} belongs to another run: {'; '.join(differences)}. Make the learner and its data as they "
                "were, and resume again"
            )
        params = self._state["model"]["params"]
        shapes = {name: tuple(p.shape) for name, p in now.model.named_parameters()}
        if {k: tuple(v.shape) if isinstance(v, Tensor) else None for k, v in params.items()} != shapes:
            raise self._unreadable("its weights are not those that it says it has")
        was, device = self._state["versions"], now.strategy.device.type
        other = [
            f"{what} {was.get(what)} there, {here} here"
            for what, here in (("torch", str(torch.__version__)), ("device", device))
            if was.get(what) != here
        ]
        if other:
            warnings.warn(
                f"the run of {self.file} goes on, but not bit for bit as it would have: {'; '.join(other)}",
                EasyLearnWarning,
                stacklevel=4,
            )

    def check_optimizer(self, make: OptimizerFn, now: Situation) -> None:
        """Freeze the groups as they were and see that the optimizer is of the same kind.

        Raises:
            StateError: it is another; freezing is then as before.
        """
        saved = self._state["optimizer"]
        flags = [(p, p.requires_grad) for p in now.model.parameters()]
        self._freeze(now.model)
        groups = now.groups[-1:] if self.precompute else now.groups
        optimizer = build_optimizer(make, groups, [1.0] * len(groups))
        sizes = [len(g["params"]) for g in optimizer.param_groups]
        there = [len(g["params"]) for g in saved["state"]["param_groups"]]
        if type(optimizer).__name__ != saved["class"] or sizes != there:
            for p, flag in flags:
                p.requires_grad_(flag)
            raise StateError(
                f"{self.file} belongs to another run: its optimizer is {saved['class']} over {there} parameters, here "
                f"it is {type(optimizer).__name__} over {sizes}. Make the learner with the same optimizer="
            )

    def plan(self, schedule: Schedule | None, momentum: Schedule | None) -> FitPlan:
        """What is done in the whole fit.

        Args:
            schedule: the function that the fit was given, if it is none of `easylearn.schedules`.
            momentum: the same for momentum.

        Raises:
            ArgumentError: one is missing, or not asked for.
        """
        shape = self._schedule("schedule", schedule)
        if shape is None:
            raise self._unreadable("it has no schedule")
        return FitPlan(
            tuple(self._plan["rates"]),
            shape,
            self._schedule("momentum", momentum),
            tuple(self._plan["cycle_ends"]),
            self._plan["steps_per_epoch"],
        )

    def _schedule(self, name: str, given: Schedule | None) -> Schedule | None:
        saved = self._plan.get(name)
        if saved is not None and saved.get("state") is None:
            if given is None:
                raise ArgumentError(
                    f"the fit had {name}={saved['name']}, a function of your own, which a file cannot hold: pass the "
                    f"same one, learn.resume(..., {name}={saved['name']})"
                )
            return given
        own = None
        if saved is not None:
            try:
                own = decode_schedule(saved["state"])
            except (ValueError, TypeError, ArithmeticError) as error:
                raise self._unreadable(error) from error
        if given is not None and given != own:
            raise ArgumentError(f"the fit had {name}={own!r}, and goes on with it; leave out {name}={given!r}")
        return own

    def savers(self) -> list[Callback]:
        """The callbacks of save_best= and save_cycles=."""
        made: list[Callback] = []
        for entry in self._cast["savers"]:
            if entry["name"] == "SaveBest":
                made.append(SaveBest(str(entry.get("file")), entry.get("monitor")))
            else:
                made.append(SaveCycles(str(entry.get("file"))))
        return made

    def check_callbacks(self, learner: Sequence[Callback], fit: Sequence[Callback]) -> None:
        """See that the same callbacks are given as were given to the fit.

        Raises:
            ArgumentError: others, or in another order.
        """
        for where, how, given in (("learner", "the learner", learner), ("fit", "resume", fit)):
            there, here = [e["name"] for e in self._cast[where]], [type(c).__name__ for c in given]
            if there != here:
                raise ArgumentError(
                    f"the fit had the callbacks [{', '.join(there)}], but {how} was given [{', '.join(here)}]: give "
                    f"the same classes in the same order, callbacks=[{', '.join(f'{n}(...)' for n in there)}]; their "
                    "state comes from the file"
                )

    # -- the run ---------------------------------------------------------------------------------------------

    def restore_model(self, model: nn.Module) -> None:
        """Put back weights, all buffers, and what is frozen."""
        saved = self._state["model"]
        self._freeze(model)
        buffers = dict(model.named_buffers(remove_duplicate=False))
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(saved["params"][name])
            for name, value in saved["buffers"].items():
                live = buffers.get(name)
                if live is not None and live.shape == value.shape and live.dtype == value.dtype:
                    live.copy_(value)
                else:  # such as a hidden state, which takes the shape of the batch
                    place, _, last = name.rpartition(".")
                    device = live.device if live is not None else next(model.parameters()).device
                    model.get_submodule(place)._buffers[last] = value.to(device, copy=True)
        modules = dict(model.named_modules())
        for name, extra in saved["extra"].items():
            modules[name].set_extra_state(deepcopy(extra))

    def _freeze(self, model: nn.Module) -> None:
        trainable = set(self._state["model"]["trainable"])
        for name, p in model.named_parameters():
            p.requires_grad_(name in trainable)

    def place(self, run: Run) -> None:
        """Set the position of a run before it begins."""
        run.step, run.epoch = int(self._position["step"]), int(self._position["epoch"])
        run.stop_reason = self._position["stop_reason"]
        run.metrics = dict(self._position["metrics"])
        run.record.load_state_dict(_unpack(self._state["record"]))

    def restore(self, run: Run, model: nn.Module, cast: Cast) -> None:
        """Put back everything that steps change, the global generators last."""
        self.restore_model(model)
        run.optimizer.load_state_dict(deepcopy(self._state["optimizer"]["state"]))
        run.strategy.load_state_dict(self._state["strategy"])
        grads = self._state["grads"]
        for name, p in model.named_parameters():
            p.grad = torch.empty_like(p).copy_(grads[name]) if name in grads else None
        entries = [e for where in ("first", "learner", "fit", "savers") for e in self._cast[where]]
        for callback, entry in zip(cast.kept, entries, strict=True):
            callback.load_state_dict(deepcopy(entry["state"]))
        keyed.RngState.from_state(self._state["rng"]).restore()


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the newest first."""
    if not folder.is_dir():
        return []
    return sorted((f for f in folder.iterdir() if _NAME.fullmatch(f.name)), key=number_of, reverse=True)


def number_of(file: Path) -> int:
    """Which checkpoint of its folder it is."""
    found = _NAME.fullmatch(file.name)
    return int(found[1]) if found else 0


def _persistent_buffers(model: nn.Module) -> list[tuple[str, Tensor]]:
    kept = set(model.state_dict())
    return [(name, b) for name, b in model.named_buffers() if name in kept]


def _difference(name: str, there: Any, here: Any) -> str:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*there, *here]:
            if there.get(key) != here.get(key):
                return (
                    f"{name}: {key} is {there.get(key, 'missing')} in the checkpoint, {here.get(key, 'missing')} here"
                )
    if name.startswith("names"):
        return f"{name} are others"
    return f"{name}: {there} in the checkpoint, {here} here"


def _unpack(state: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, Tensor) else v for k, v in state.items()}


def _misfit(value: Any, layout: Any, place: str) -> str | None:
    """What is not as it should be: a type, or several; the type of all entries of a list; a dictionary of these."""
    if isinstance(layout, dict):
        if not isinstance(value, dict):
            return f"{place or 'it'} is no dictionary"
        found = (_misfit(value.get(k), inner, f"{place}/{k}".lstrip("/")) for k, inner in layout.items())
        return next((f for f in found if f is not None), None)
    if isinstance(layout, list):
        if not isinstance(value, list):
            return f"{place} is no list"
        found = (_misfit(v, layout[0], f"{place}/{i}") for i, v in enumerate(value))
        return next((f for f in found if f is not None), None)
    return None if isinstance(value, layout) else f"{place} is a {type(value).__name__}"
