"""CheckpointWriter: writes the state of a running fit where the loop can begin again.

That is after an optimizer step, or after everything of an epoch; never between the last batch of an epoch and the end
of its validation, but where Ctrl-C asks for it. The checkpoint before stays until the new one is whole.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ... import keyed
from ...errors import (
    ArgumentError,
    EasyLearnWarning,
    SaveError,
    SchemaError,
    StateError,
    WeightsError,
    check_whole,
    name_of,
    short,
)
from ...files import StrPath, as_path
from ...schedules import Schedule
from ..callback import Callback
from ..callbacks.save import SaveBest, SaveCycles
from ..plan import FitPlan
from ..record import Record
from ..snapshot import is_sharded, whole
from ..state import Pause, Run
from .context import CallbacksOfFit, RunContext, versions
from .layout import Interval, checkpoint_files, encode_schedule, next_file, pack_record
from .reader import SavedRun
from .state_file import read_info, write_state

_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|min|h)")
_SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3600}


class Continued:
    """What `checkpoint=` of a fit may be, too: each fit given it goes on from its own folder, if it had begun there.

    A function of several fits can so be called again after a kill: those that had ended give their weights and records.

    Args:
        folder: holds a folder for each fit, `fit_1` and so on.
    """

    def __init__(self, folder: StrPath) -> None:
        self.folder, self.fits = Path(folder), 0

    def next(self, context: RunContext) -> tuple[Path, SavedRun | None]:
        """The folder of the next fit, and what was saved of it, whose weights the model is given."""
        self.fits += 1
        folder = self.folder / f"fit_{self.fits}"
        saved = None
        if checkpoint_files(folder):
            try:
                saved = SavedRun(folder)
            except SchemaError:
                raise
            except WeightsError:  # none is whole: it begins anew
                return folder, None
            saved.check(context, same_data=False)
            saved.restore_model(context.model)
        return folder, saved


class CheckpointWriter(Callback):
    """Writes checkpoints of a fit, and restores the state of the `saved` one that is resumed.

    It comes after all other callbacks, so that what it writes is their state after the hook.
    """

    def __init__(
        self, folder: StrPath, interval: Interval, keep: int, context: RunContext, saved: SavedRun | None = None
    ) -> None:
        self.folder = as_path(folder, "a folder of checkpoints")
        self.interval = interval
        self.keep = keep
        self.begins_anew = False  # with `Continued` there is no checkpoint of a beginning: it would save little
        self._steps, self._seconds = _parse(interval)
        self._saved = saved
        self._damaged = list(saved.damaged) if saved is not None else []
        self._context = context
        self._callbacks: CallbacksOfFit = {}
        self._body = ""
        self._due, self._is_main = False, True
        self.goes_on = False  # with the run whose checkpoints the folder holds
        self._clock = 0.0

    def begin(
        self, run: Run, callbacks: CallbacksOfFit, body: str = "", earlier: Sequence[Record] = ()
    ) -> CheckpointWriter:
        """Take the other callbacks of the fit, and set the position of a run that is resumed.

        Args:
            run: that is to be written.
            callbacks: by origin.
            body: the `stored_key` of the frozen bodies, where the run trains heads on stored features. Where the same
                function makes the learner anew (`Continued`), that stands for their weights.
            earlier: of fits of this model. Where one of them trained the body, that is written, too: on a GPU it would
                not come out the same again.
        """
        self._callbacks = callbacks
        as_made = all(set(record.group_names) <= set(run.record.group_names) for record in earlier)
        self._body = body if self.begins_anew and as_made and run.model is not self._context.model else ""
        if self._saved is not None:
            if self.begins_anew:
                self._saved.check_callbacks(callbacks["learner"], callbacks["fit"])
            self._saved.restore_position(run)
        return self

    def folder_of(self, plan: FitPlan) -> Path:
        """The folder, whose run goes on as if this `plan` were its own.

        Raises:
            StateError: it was begun with other rates or another number of steps.
        """
        saved = SavedRun(self.folder).settings
        begun, now = (tuple(saved["rates"]), tuple(saved["cycle_ends"])), (plan.rates, plan.cycle_ends)
        if begun != now:
            said = [
                f"rates {list(r)} and cycles that end after step {short(str(list(c)), 200)}" for r, c in (begun, now)
            ]
            raise StateError(
                f"{self.folder} holds a run with {said[0]}, and go_on=True goes on with it; this fit would have "
                f"{said[1]}. Give the arguments that it was begun with, or another folder"
            )
        return self.folder

    def on_fit_begin(self, run: Run) -> None:
        """Restore the state of a checkpoint, or write the first one."""
        self._clock, self._due = time.monotonic(), False
        if self._saved is not None:
            self._saved.restore(run, self._context.model, self._callbacks)
            if run.batch_in_epoch <= 0:
                self._saved = None
            return
        if self.begins_anew:
            return
        if run.strategy.is_main:
            self._refuse_to_replace()
        self._write(run, run.epoch)
        self._prune(1)

    def on_epoch_begin(self, run: Run) -> None:
        """Restore once more in the middle of an epoch: the other callbacks have just begun it a second time."""
        if self._saved is not None:
            self._saved.restore(run, self._context.model, self._callbacks)
            self._saved = None

    def on_batch_end(self, run: Run) -> None:
        """Write a checkpoint, if one is due and the loop can begin again here."""
        run.stop_reason = run.strategy.agree(run.stop_reason)
        if isinstance(run.stop_reason, Pause):
            self._write_or_warn(run, run.epoch)
            return
        if self._steps is not None:
            self._due = self._due or run.step % self._steps == 0
        elif self._seconds is not None:
            self._due = self._due or run.strategy.decide(time.monotonic() - self._clock >= self._seconds)
        inside = run.batch_in_epoch < run.steps_per_epoch and run.step < run.n_steps
        if self._due and inside and run.strategy.stepped and run.stop_reason is None:
            self._write_or_warn(run, run.epoch)

    def on_epoch_end(self, run: Run) -> None:
        """Write a checkpoint, if one is due or the fit is over."""
        run.stop_reason = run.strategy.agree(run.stop_reason)
        if isinstance(run.stop_reason, Pause):
            whole = run.batch_in_epoch == run.steps_per_epoch or run.step == run.n_steps
            if not whole or (run.valid_loader is not None and not run.metrics):
                return  # written at the last batch: what was left out of this epoch is still to be done
        over = run.stop_reason is not None or run.step == run.n_steps
        if self._due or over or (self._steps is None and self._seconds is None):
            self._write_or_warn(run, run.epoch + 1)

    # -- files -----------------------------------------------------------------------------------------------

    def _refuse_to_replace(self) -> None:
        for file in checkpoint_files(self.folder):
            with suppress(WeightsError):
                info = read_info(file)
                step, n_steps = info.get("step"), info.get("n_steps")
                if info.get("finished") is False and step:
                    raise StateError(
                        f"{self.folder} holds a run that is not finished (step {step} of {n_steps}): go on with "
                        f"learn.resume({str(self.folder)!r}), or delete that folder, or give another one"
                    )
                return

    def _write_or_warn(self, run: Run, epoch: int) -> None:
        """Write a checkpoint; a full disk gives a warning and does not end the training."""
        try:
            self._write(run, epoch)
        except SaveError as error:
            warnings.warn(f"no checkpoint after step {run.step}: {error}", EasyLearnWarning, stacklevel=2)
        else:
            self._prune(self.keep)
        self._due, self._clock = False, time.monotonic()

    def _write(self, run: Run, epoch: int) -> None:
        strategy = run.strategy.state_dict()  # of which each process has its own
        self._is_main = run.strategy.is_main
        if not self._is_main and not any(map(is_sharded, self._context.model.parameters())):
            return
        state = whole({**self._capture(run, epoch), "strategy": strategy}, self._is_main)
        if not self._is_main:
            return
        finished = epoch > run.epoch and (
            run.step == run.n_steps or (run.stop_reason is not None and not isinstance(run.stop_reason, Pause))
        )
        info = {"step": run.step, "n_steps": run.n_steps, "epoch": epoch, "finished": finished}
        write_state(next_file(self.folder), state, info)

    def _prune(self, keep: int) -> None:
        if not self._is_main:
            return
        with suppress(OSError):
            too_old, cut_short = checkpoint_files(self.folder)[keep:], self.folder.glob(".checkpoint_*.part")
            for file in (*too_old, *cut_short, *self._damaged):
                file.unlink(missing_ok=True)
            self._damaged.clear()

    def _capture(self, run: Run, epoch: int) -> dict[str, Any]:
        """The state of the run, as `layout.LAYOUT` says."""
        model = self._context.model
        paused = isinstance(run.stop_reason, Pause)
        return {
            "versions": versions(run.strategy.device),
            "facts": self._context.facts,
            "plan": {
                "rates": list(run.rates),
                "schedule": _schedule_entry(run.schedule),
                "momentum": None if run.momentum is None else _schedule_entry(run.momentum),
                "n_steps": run.n_steps,
                "cycle_ends": list(run.cycle_ends),
                "steps_per_epoch": run.steps_per_epoch,
                "seed": int(run.seed),
                "first_epoch": run.first_epoch,
                "freeze_stats": run.freeze_stats,
                "precompute": run.model is not model,
                "interval": self.interval,
                "keep": self.keep,
            },
            "position": {
                "step": run.step,
                "epoch": epoch,
                "stop_reason": None if paused or run.stop_reason is None else str(run.stop_reason),
                "metrics": dict(run.metrics),
            },
            "model": _capture_model(model, run.model if self._body else model) | {"body": self._body},
            "optimizer": {"class": type(run.optimizer).__name__, "state": run.optimizer.state_dict()},
            "grads": {} if run.strategy.stepped else _grads(model),
            "record": pack_record(run.record),
            "callbacks": {origin: [_entry(c) for c in of] for origin, of in self._callbacks.items()},
            "rng": keyed.rng_state(),
        }


def make_writer(
    folder: StrPath | Continued | None, interval: Interval | None, keep: int, context: RunContext, go_on: bool = False
) -> CheckpointWriter | None:
    """The writer that checkpoint=, every=, keep= and go_on= of `Learner.fit` ask for."""
    check_whole("keep, how many checkpoints stay,", keep)
    if isinstance(folder, Continued):
        own, saved = folder.next(context)
        writer = CheckpointWriter(own, "epoch" if interval is None else interval, keep, context, saved)
        writer.begins_anew = True
        return writer
    if folder is not None:
        writer = CheckpointWriter(folder, "epoch" if interval is None else interval, keep, context)
        writer.goes_on = go_on and context.strategy.decide(bool(checkpoint_files(writer.folder)))
        return writer
    if go_on:
        raise ArgumentError("go_on=True resumes the run of a folder; say of which: checkpoint=folder")
    if interval is not None:
        raise ArgumentError(f"every={interval!r} says when to write checkpoints; say where, too: checkpoint=folder")
    return None


def _grads(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _capture_model(model: nn.Module, part: nn.Module) -> dict[str, Any]:
    """The state of a part of a model, under the names of the whole; and all that trains."""
    own = {id(thing) for thing in (*part.parameters(), *part.buffers(), *part.modules())}
    return {
        "params": {name: p for name, p in model.named_parameters() if id(p) in own},
        "trainable": [name for name, p in model.named_parameters() if p.requires_grad],
        "buffers": {name: b for name, b in model.named_buffers(remove_duplicate=False) if id(b) in own},
        "extra": {
            name: module.get_extra_state()
            for name, module in model.named_modules()
            if id(module) in own and type(module).get_extra_state is not nn.Module.get_extra_state
        },
    }


def _parse(interval: Interval) -> tuple[int | None, float | None]:
    """The number of steps or of seconds between two checkpoints; neither means the end of each epoch."""
    if interval == "epoch":
        return None, None
    if isinstance(interval, int) and not isinstance(interval, bool) and interval >= 1:
        return interval, None
    found = _TIME.fullmatch(interval.strip()) if isinstance(interval, str) else None
    if found is None or float(found[1]) <= 0:
        raise ArgumentError(
            f'every must be "epoch", a number of steps of at least 1, or a time such as "5min", "30s" or "1h", got '
            f"{interval!r}"
        )
    return None, float(found[1]) * _SECONDS[found[2]]


def _schedule_entry(schedule: Schedule) -> dict[str, Any]:
    return {"name": name_of(schedule), "state": encode_schedule(schedule)}


def _entry(callback: Callback) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": type(callback).__name__, "state": callback.state_dict()}
    if isinstance(callback, SaveBest | SaveCycles) and type(callback) in (SaveBest, SaveCycles):  # made anew from these
        monitor = callback.monitor.asked if isinstance(callback, SaveBest) else None
        entry |= {"file": callback.name, "monitor": monitor}
    return entry
