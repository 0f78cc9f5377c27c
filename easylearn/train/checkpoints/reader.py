"""SavedRun: reads the newest checkpoint of a folder, from which a killed fit goes on to the bit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ... import keyed
from ...errors import ArgumentError, EasyLearnWarning, SchemaError, StateError, WeightsError
from ...files import StrPath, as_path
from ...nn.branched import active_groups
from ...schedules import Schedule
from ...task import Task
from ..callback import Callback
from ..callbacks.save import KeepBest, SaveBest, SaveCycles
from ..distributed import with_lanes
from ..optim import OptimizerFn, build_optimizer
from ..plan import FitPlan
from ..precompute import stored_key
from ..snapshot import copy_into, shared_out
from ..state import Run
from .context import CallbacksOfFit, RunContext, versions
from .layout import LAYOUT, checkpoint_files, decode_schedule, find_misfit, unpack_record
from .state_file import read_state


class SavedRun:
    """The newest whole checkpoint of a folder; a WeightsError if there is none, or another version wrote it."""

    def __init__(self, folder: StrPath) -> None:
        self.folder = as_path(folder, "a folder of checkpoints")
        self.damaged: list[Path] = []
        self.file, self._state = self._newest()
        misfit = find_misfit(self._state, LAYOUT)
        if misfit is not None:
            raise self._unreadable(misfit)
        self.facts: dict[str, Any] = {"lanes": 1, **self._state["facts"]}  # older ones do not tell
        self._callbacks: dict[str, list[dict[str, Any]]] = self._state["callbacks"]
        self._position: dict[str, Any] = self._state["position"]
        self.settings: dict[str, Any] = self._state["plan"]

    def _newest(self) -> tuple[Path, dict[str, Any]]:
        files = checkpoint_files(self.folder)
        if not files:
            problem = "has no checkpoints" if self.folder.is_dir() else "does not exist"
            raise WeightsError(
                f"the folder {self.folder} {problem}, so there is nothing to resume; checkpoints are written by "
                "learn.fit(..., checkpoint=folder)"
            )
        problems: list[str] = []
        for file in files:
            try:
                state = read_state(file)
            except SchemaError:
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
        """A text with the position of the run, its task, data and layer groups, and its last epoch."""
        facts, step, per_epoch = self.facts, self._position["step"], max(self.settings["steps_per_epoch"], 1)
        lines = [
            f"{self.file}: step {step:,} of {self.settings['n_steps']:,}, {step / per_epoch:.2f} epochs done",
            f"{facts.get('task')}, {facts.get('items to train on')} items of {facts.get('kind of data')}, batches of "
            f"{facts.get('batch_size')}, layer groups {', '.join(map(str, facts.get('layer groups', [])))}",
        ]
        if self._position["stop_reason"] is not None:
            lines.append(f"it stopped: {self._position['stop_reason']}")
        epochs = self._state["record"]["epochs"]
        if epochs:
            lines.append("last epoch: " + ", ".join(f"{n} {v:.4g}" for n, v in epochs[-1].items()))
        return "\n".join(lines)

    def _unreadable(self, problem: object) -> WeightsError:
        return WeightsError(f"{self.file} is not what easylearn writes: {problem}")

    # -- checked before the run ------------------------------------------------------------------------------

    def context_like(self, context: RunContext) -> RunContext:
        """The `context` of a learner, its task with outputs, and its strategy with lanes, as those of the run."""
        task, settings = context.task, self.facts.get("settings of the task", {})
        task = task.in_units_of(Task.from_json({"kind": task.kind, "names": list(task.names), **settings}))
        return replace(context, task=task, strategy=with_lanes(context.strategy, self.facts["lanes"]))

    def check(self, context: RunContext, same_data: bool) -> None:
        """Refuse a learner that differs from the run's, naming each difference; warn of another torch or device."""
        facts = [(name, now) for name, now in context.facts.items() if name in self.facts or name != "layers"]
        found = [_difference(name, self.facts.get(name), now, same_data) for name, now in facts]
        if differences := [one for one in found if one is not None]:
            raise StateError(
                f"{self.file} belongs to another run: {'; '.join(differences)}. Make the learner and its data as they "
                "were, and resume again"
            )
        params, body = self._state["model"]["params"], self._state["model"].get("body")
        if body and stored_key(context.model, context.strategy) != body:
            raise StateError(
                f"{self.file} holds a head alone, and the body of the learner, with its pooling and precision, is not "
                "the frozen one that it was trained on (of several branches, one of them). Make the learner with the "
                "weights that it had, and begin again"
            )
        shapes = {n: tuple(p.shape) for n, p in context.model.named_parameters() if n in params or not body}
        if {k: tuple(v.shape) if isinstance(v, Tensor) else None for k, v in params.items()} != shapes:
            raise self._unreadable("its weights are not those that it says it has")
        saved, here = self._state["versions"], versions(context.strategy.device)
        if changed := [name for name in here if saved.get(name, here[name]) != here[name]]:
            differ = "; ".join(f"{name} {saved.get(name)} in the checkpoint, {here[name]} now" for name in changed)
            warnings.warn(
                f"the run of {self.file} goes on, but not bit for bit as it would have: {differ}",
                EasyLearnWarning,
                stacklevel=4,
            )

    def check_optimizer(self, make: OptimizerFn, context: RunContext) -> None:
        """Freeze the groups as they were; refuse an optimizer of another kind, with the freezing as before."""
        saved = self._state["optimizer"]
        flags = [(p, p.requires_grad) for p in context.model.parameters()]
        self._freeze(context.model)
        groups = active_groups(context.model, context.groups, self.settings["precompute"])
        optimizer = build_optimizer(make, groups, [1.0] * len(groups))
        sizes = [len(g["params"]) for g in optimizer.param_groups]
        saved_sizes = [len(g["params"]) for g in saved["state"]["param_groups"]]
        if type(optimizer).__name__ != saved["class"] or sizes != saved_sizes:
            for p, flag in flags:
                p.requires_grad_(flag)
            raise StateError(
                f"{self.file} belongs to another run: its optimizer is {saved['class']} over {saved_sizes} parameters, "
                f"the learner's is {type(optimizer).__name__} over {sizes}. Make the learner with the same optimizer="
            )

    def check_callbacks(self, learner: Sequence[Callback], fit: Sequence[Callback]) -> None:
        """Refuse other callbacks of the learner, or given to resume, than the fit had, or another order of them."""
        for origin, receiver, given in (("learner", "the learner", learner), ("fit", "resume", fit)):
            saved, now = [e["name"] for e in self._callbacks[origin]], [type(c).__name__ for c in given]
            if saved != now:
                raise ArgumentError(
                    f"the fit had the callbacks [{', '.join(saved)}], but {receiver} was given [{', '.join(now)}]: "
                    f"give the same classes in the same order, callbacks=[{', '.join(f'{n}(...)' for n in saved)}]; "
                    "their state comes from the file"
                )

    # -- made anew for the run -------------------------------------------------------------------------------

    def plan(self, schedule: Schedule | None, momentum: Schedule | None) -> FitPlan:
        """The plan of the whole fit; functions of the user's own for rates and momentum have to be given again."""
        rates, ends = tuple(self.settings["rates"]), tuple(self.settings["cycle_ends"])
        shape, moving = self._schedule("schedule", schedule), self._schedule("momentum", momentum)
        if shape is None:
            raise self._unreadable("it has no schedule")
        return FitPlan(rates, shape, moving, ends, self.settings["steps_per_epoch"])

    def _schedule(self, name: str, given: Schedule | None) -> Schedule | None:
        saved = self.settings.get(name)
        if saved is not None and saved.get("state") is None:
            if given is None:
                raise ArgumentError(
                    f"the fit had {name}={saved['name']}, a function of your own, which a file cannot hold: pass the "
                    f"same one, learn.resume(..., {name}={saved['name']})"
                )
            return given
        decoded = None
        if saved is not None:
            try:
                decoded = decode_schedule(saved["state"])
            except (ValueError, TypeError, ArithmeticError) as error:
                raise self._unreadable(error) from error
        if given is not None and given != decoded:
            raise ArgumentError(f"the fit had {name}={decoded!r}, and goes on with it; leave out {name}={given!r}")
        return decoded

    def savers(self) -> list[Callback]:
        """The callbacks of save_best= and save_cycles=, and the one of a fit that chose its epochs."""
        kinds: dict[str, Callable[[str, str | None], Callback]] = {
            "SaveBest": SaveBest, "KeepBest": lambda *_: KeepBest(), "SaveCycles": lambda file, _: SaveCycles(file)
        }  # fmt: skip
        return [kinds[e["name"]](str(e.get("file")), e.get("monitor")) for e in self._callbacks["savers"]]

    # -- put back into the run -------------------------------------------------------------------------------

    def restore_model(self, model: nn.Module) -> None:
        """Restore weights, all buffers, and which parameters are frozen."""
        saved = self._state["model"]
        self._freeze(model)
        buffers = dict(model.named_buffers(remove_duplicate=False))
        # A head may have been written without its body, see `check`.
        params = {name: p for name, p in model.named_parameters() if name in saved["params"]}
        copy_into(params.values(), (saved["params"][name] for name in params))
        with torch.no_grad():
            for name, value in saved["buffers"].items():
                live = buffers.get(name)
                if live is not None and live.shape == value.shape and live.dtype == value.dtype:
                    live.copy_(value)
                else:  # such as a hidden state, which takes the shape of the batch
                    device = live.device if live is not None else next(model.parameters()).device
                    _set_buffer(model, name, value.to(device, copy=True))
        modules = dict(model.named_modules())
        for name, extra in saved["extra"].items():
            modules[name].set_extra_state(deepcopy(extra))

    def _freeze(self, model: nn.Module) -> None:
        trainable = set(self._state["model"]["trainable"])
        for name, p in model.named_parameters():
            p.requires_grad_(name in trainable)

    def restore_position(self, run: Run) -> None:
        """Set step, epoch and record of a run before it begins."""
        run.resumed = True
        run.step, run.epoch = int(self._position["step"]), int(self._position["epoch"])
        run.stop_reason = self._position["stop_reason"]
        run.metrics = dict(self._position["metrics"])
        run.record.load_state_dict(unpack_record(self._state["record"]))

    def restore(self, run: Run, model: nn.Module, callbacks: CallbacksOfFit) -> None:
        """Restore everything that steps change, the global generators last."""
        self.restore_model(model)
        fused = [group.get("fused") for group in run.optimizer.param_groups]
        run.optimizer.load_state_dict(_held(run.optimizer, deepcopy(self._state["optimizer"]["state"])))
        for group, there in zip(run.optimizer.param_groups, fused, strict=True):
            if "fused" in group:  # whether there is such a kernel is a fact of this torch and this device
                group["fused"] = there
        run.strategy.load_state_dict(self._state["strategy"])
        grads = self._state["grads"]
        for name, p in model.named_parameters():
            p.grad = torch.empty_like(p).copy_(shared_out(grads[name], p)) if name in grads else None
        for origin, of in callbacks.items():
            for callback, entry in zip(of, self._callbacks[origin], strict=True):
                callback.load_state_dict(deepcopy(entry["state"]))
        keyed.set_rng_state(self._state["rng"])


def _held(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """The `state` of an optimizer with each tensor held as the weight that it belongs to."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for i, entry in state["state"].items():
        for name, value in entry.items():
            if isinstance(value, Tensor) and value.shape == params[i].shape:
                entry[name] = shared_out(value, params[i])
    return state


def _set_buffer(model: nn.Module, name: str, value: Tensor) -> None:
    """Set a buffer that has another shape, is None, or is not yet there."""
    path, _, last = name.rpartition(".")
    owner = model.get_submodule(path)
    try:
        owner.get_buffer(last)
    except AttributeError:  # it is made when the model is first used
        owner.register_buffer(last, value)
    else:
        setattr(owner, last, value)


def _difference(name: str, saved: Any, now: Any, same_data: bool) -> str | None:
    """The difference between a fact of the checkpoint and that of the learner, in words; None if there is none."""
    if saved == now or (name == "data" and same_data):
        return None
    if name == "data":
        known = saved if isinstance(saved, Mapping) else {}
        changed = [split for split in now if known.get(split) != now[split]]
        return (
            f"the {' and the '.join(changed)} data has another fingerprint (if these are the same files in another "
            "place, pass same_data=True)"
        )
    if isinstance(saved, dict) and isinstance(now, dict):
        for key in [*saved, *now]:
            if saved.get(key) != now.get(key):
                name = f"{name}: {key}"
                saved, now = saved.get(key, "missing"), now.get(key, "missing")
                break
    if name.startswith("names"):  # of which there may be thousands; the facts hold a digest of them
        return f"{name} are others"
    return f"{name}: {saved} in the checkpoint, {now} now"
