"""Checkpoint: writes the state of a running fit, so that it can go on where it was killed.

It is written where the loop can begin again: after an optimizer step, or after everything of an epoch; never between
the last batch of an epoch and the end of its validation, but where Ctrl-C asks for it. Each is a file of its own (see
`state_file`), so the one before stays until the new one is whole.
"""

from __future__ import annotations

import re
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ... import keyed
from ...errors import ArgumentError, EasyLearnWarning, SaveError, StateError, WeightsError, name_of
from ...files import StrPath
from ...schedules import Schedule
from ..callback import Callback
from ..record import Record
from ..resume import Cast, Every, Saved, Situation, checkpoint_files, number_of
from ..schedule_state import encode_schedule
from ..state import Pause, Run
from ..state_file import read_info, write_state
from .save import SaveBest, SaveCycles

_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|min|h)")
_SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3600}


class Checkpoint(Callback):
    """Writes checkpoints of a fit, and puts the first state back where one goes on. A learner makes it: see `fit`.

    It comes after all other callbacks, so that what it writes is their state after the hook.

    Args:
        folder: where the files are.
        every: "epoch", a number of steps, or a time such as "5min".
        keep: how many files stay.
        situation: what the run depends on.
        saved: where to go on; None begins a fit.
    """

    def __init__(
        self, folder: StrPath, every: Every, keep: int, situation: Situation, saved: Saved | None = None
    ) -> None:
        self.folder = Path(folder)
        self.every = every
        self.keep = keep
        self._steps, self._seconds = _parse(every)
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ArgumentError(f"keep is the number of checkpoints that stay, at least 1, got {keep!r}")
        self._saved = saved
        self._damaged = list(saved.damaged) if saved is not None else []
        self._situation = situation
        self._cast = Cast([], [], [], [], [])
        self._due = False
        self._clock = 0.0

    def begin(self, run: Run, cast: Cast) -> Checkpoint:
        """Note who else is called, and set the position of a run that goes on."""
        # A saver of the user's own class cannot be made anew from a file: it has to be given again.
        own = [c for c in cast.savers if type(c) not in (SaveBest, SaveCycles)]
        savers = [c for c in cast.savers if c not in own]
        self._cast = replace(cast, fit=[*cast.fit, *own], savers=savers)
        if self._saved is not None:
            self._saved.place(run)
        return self

    def on_fit_begin(self, run: Run) -> None:
        """Put back the state of a checkpoint, or write the first one."""
        self._clock, self._due = time.monotonic(), False
        if self._saved is not None:
            self._saved.restore(run, self._situation.model, self._cast)
            if run.batch_in_epoch <= 0:
                self._saved = None
            return
        self._refuse_to_replace()
        self._write(run, run.epoch)
        self._prune(1)

    def on_epoch_begin(self, run: Run) -> None:
        """In the middle of an epoch others have begun it a second time now, which must change nothing."""
        if self._saved is not None:
            self._saved.restore(run, self._situation.model, self._cast)
            self._saved = None

    def on_batch_end(self, run: Run) -> None:
        """Write, if it is time to and the loop can begin again here."""
        if isinstance(run.stop_reason, Pause):
            self._write_or_warn(run, run.epoch)
            return
        if self._steps is not None:
            self._due = self._due or run.step % self._steps == 0
        elif self._seconds is not None:
            self._due = self._due or time.monotonic() - self._clock >= self._seconds
        inside = run.batch_in_epoch < run.steps_per_epoch and run.step < run.n_steps
        if self._due and inside and run.strategy.stepped and run.stop_reason is None:
            self._write_or_warn(run, run.epoch)

    def on_epoch_end(self, run: Run) -> None:
        """Write, if it is time to, or if nothing comes after this."""
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
        """A full disk must not end the training; the checkpoints that are there stay whole."""
        try:
            self._write(run, epoch)
        except SaveError as error:
            warnings.warn(f"no checkpoint after step {run.step}: {error}", EasyLearnWarning, stacklevel=2)
        else:
            self._prune(self.keep)
        self._due, self._clock = False, time.monotonic()

    def _write(self, run: Run, epoch: int) -> None:
        state = self._capture(run, epoch)
        numbers = [number_of(f) for f in checkpoint_files(self.folder)]
        path = self.folder / f"checkpoint_{max(numbers, default=0) + 1:06d}.safetensors"
        finished = epoch > run.epoch and (
            run.step == run.n_steps or (run.stop_reason is not None and not isinstance(run.stop_reason, Pause))
        )
        write_state(path, state, {"step": run.step, "n_steps": run.n_steps, "epoch": epoch, "finished": finished})

    def _prune(self, keep: int) -> None:
        with suppress(OSError):
            too_old, cut_short = checkpoint_files(self.folder)[keep:], self.folder.glob(".checkpoint_*.part")
            for file in (*too_old, *cut_short, *self._damaged):
                file.unlink(missing_ok=True)
            self._damaged.clear()

    def _capture(self, run: Run, epoch: int) -> dict[str, Any]:
        now, cast = self._situation, self._cast
        params = dict(now.model.named_parameters())
        paused = isinstance(run.stop_reason, Pause)
        return {
            "versions": {"torch": str(torch.__version__), "device": run.strategy.device.type},
            "facts": now.facts,
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
                "precompute": run.model is not now.model,
                "every": self.every,
                "keep": self.keep,
            },
            "position": {
                "step": run.step,
                "epoch": epoch,
                "stop_reason": None if paused or run.stop_reason is None else str(run.stop_reason),
                "metrics": dict(run.metrics),
            },
            "model": {
                "params": params,
                "trainable": [name for name, p in params.items() if p.requires_grad],
                "buffers": dict(now.model.named_buffers(remove_duplicate=False)),
                "extra": {
                    name: module.get_extra_state()
                    for name, module in now.model.named_modules()
                    if type(module).get_extra_state is not nn.Module.get_extra_state
                },
            },
            "optimizer": {"class": type(run.optimizer).__name__, "state": run.optimizer.state_dict()},
            "strategy": run.strategy.state_dict(),
            "grads": {} if run.strategy.stepped else {n: p.grad for n, p in params.items() if p.grad is not None},
            "record": _pack(run.record),
            "cast": {
                "first": [_entry(c) for c in cast.first],
                "learner": [_entry(c) for c in cast.learner],
                "fit": [_entry(c) for c in cast.fit],
                "savers": [_saver_entry(c) for c in cast.savers],
            },
            "rng": keyed.RngState.capture().state_dict(),
        }


def _parse(every: Every) -> tuple[int | None, float | None]:
    """A number of steps, or of seconds, or neither: at the end of each epoch."""
    if every == "epoch":
        return None, None
    if isinstance(every, int) and not isinstance(every, bool) and every >= 1:
        return every, None
    found = _TIME.fullmatch(every.strip()) if isinstance(every, str) else None
    if found is None or float(found[1]) <= 0:
        raise ArgumentError(
            f'every must be "epoch", a number of steps of at least 1, or a time such as "5min", "30s" or "1h", got '
            f"{every!r}"
        )
    return None, float(found[1]) * _SECONDS[found[2]]


def _schedule_entry(schedule: Schedule) -> dict[str, Any]:
    return {"name": name_of(schedule), "state": encode_schedule(schedule)}


def _entry(callback: Callback) -> dict[str, Any]:
    return {"name": type(callback).__name__, "state": callback.state_dict()}


def _saver_entry(callback: Callback) -> dict[str, Any]:
    assert isinstance(callback, SaveBest | SaveCycles)
    monitor = callback.monitor.asked if isinstance(callback, SaveBest) else None
    return {**_entry(callback), "file": callback.name, "monitor": monitor}


def _pack(record: Record) -> dict[str, Any]:
    """A record's columns as tensors: a long fit has a million steps."""
    state = record.state_dict()
    columns = {k: torch.tensor(state[k], dtype=torch.float64) for k in ("losses", "rates", "momentum")}
    return {**state, **columns, "step_epoch": torch.tensor(state["step_epoch"], dtype=torch.int64), "stop_reason": None}
