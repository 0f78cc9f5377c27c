"""LossGuard: ends the fit at a loss that is NaN or infinite, with the last good weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import EasyLearnWarning
from ..callback import Callback
from ..snapshot import copy_into, is_sharded, own_share
from ..state import Run


class LossGuard(Callback):
    """Stop at a loss that is not a finite number and restore the last good weights.

    On the CPU each loss is looked at, on other devices only as often as weights are copied and at each epoch's end, so
    that no step waits. At the end of an epoch the weights are looked at, too: no loss comes after the last step.

    Args:
        every: steps between copies of the weights.
        patience: bad losses in a row that do not end the fit where fp16 scaling skips overflows by itself.
    """

    def __init__(self, every: int = 20, patience: int = 10) -> None:
        self.every = every
        self.patience = patience
        self._live: list[Tensor] = []
        self._good: list[Tensor] = []
        self._good_step = 0
        self._unchecked: list[Tensor] = []
        self._in_a_row = 0
        self._bad_step: int | None = None
        self._last_step = 0
        self._shared = False  # each process holds a share of the weights

    def on_fit_begin(self, run: Run) -> None:
        trained = {id(p) for g in run.optimizer.param_groups for p in g["params"]}
        self._live = [p.detach() for p in run.model.parameters() if id(p) in trained]
        # Those that `state_dict` leaves out are a state that goes from batch to batch, and may change its shape.
        kept = set(run.model.state_dict())
        self._live += [b for name, b in run.model.named_buffers() if name in kept]
        self._good, self._shared = [t.detach().clone() for t in self._live], any(map(is_sharded, self._live))
        self._unchecked, self._in_a_row, self._bad_step, self._good_step = [], 0, None, run.step

    def on_epoch_begin(self, run: Run) -> None:
        """Note the step after which the weights are validated, saved or returned."""
        self._last_step = min((run.epoch + 1) * run.steps_per_epoch, run.n_steps)

    def on_loss(self, run: Run) -> None:
        """Check the loss, or keep it to be checked later; copy the weights every `every` steps."""
        assert run.loss is not None
        due = run.step % self.every == 0
        if self._on_cpu(run):
            values = [run.loss.item()]  # costs nothing here; elsewhere it would wait for the device
        else:
            self._unchecked.append(run.loss.detach())
            if not due and run.step + 1 < self._last_step and run.stop_reason is None:
                return
            values = torch.stack(self._unchecked).tolist()
            self._unchecked.clear()
        first = run.step - len(values) + 1
        for step, value in enumerate(values, first):
            if math.isfinite(value):
                self._in_a_row = 0
                continue
            self._in_a_row += 1
            if self._in_a_row > (self.patience if run.strategy.scales_loss else 0):
                self._give_up(run, step, f"the loss became {value} at step {step}")
                return
        if due and self._in_a_row == 0:
            copy_into(self._good, self._live)
            self._good_step = run.step

    def _give_up(self, run: Run, step: int, what: str) -> None:
        advice = "Use a lower rate (lr_find shows where it breaks), or clip="
        if step == run.step and (cause := _not_finite(run)):
            advice = f"{cause}: fill in such values, or leave the items out; no rate of lr_find helps"
        rates = ", ".join(f"{g['group']} {g['lr']:.3g}" for g in run.optimizer.param_groups)
        self._bad_step = step
        run.stop_reason = (
            f"{what} (epoch {run.life_epoch}), with rates {rates}; the weights are "
            f"those after step {self._good_step}. {advice}"
        )

    def on_batch_end(self, run: Run) -> None:
        """Restore the good weights before other callbacks average or save the bad ones."""
        if self._bad_step is None:
            if self._shared:  # only together can it be asked whether all weights are finite
                run.stop_reason = run.strategy.agree(run.stop_reason)
            if run.step < self._last_step and run.stop_reason is None:
                return  # the next loss tells, before the weights are validated, saved or returned
            trained = [p.detach() for g in run.optimizer.param_groups for p in g["params"]]
            finite = torch.stack([own_share(p).isfinite().all() for p in trained]).all()
            if bool(run.strategy.gather(finite.cpu()[None]).all() if self._shared else finite):
                return
            self._give_up(run, run.step - 1, f"the weights became infinite or NaN in step {run.step - 1}")
        copy_into(self._live, self._good)
        self._bad_step = None
        warnings.warn(run.stop_reason or "", EasyLearnWarning, stacklevel=2)

    @staticmethod
    def _on_cpu(run: Run) -> bool:
        return run.loss is not None and run.loss.is_cpu  # device.type would make a string anew at each step

    def on_fit_end(self, run: Run) -> None:
        self._live, self._good, self._unchecked = [], [], []

    def state_dict(self) -> dict[str, Any]:
        """The good weights, and the losses that are not yet checked."""
        good, unchecked = list(self._good), list(self._unchecked)
        return {"good": good, "good_step": self._good_step, "unchecked": unchecked, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        device = self._live[0].device if self._live else torch.device("cpu")
        if self._live:
            copy_into(self._good, state["good"])
        else:
            self._good = [t.to(device) for t in state["good"]]
        self._unchecked = [t.to(device) for t in state["unchecked"]]
        self._good_step, self._in_a_row = int(state["good_step"]), int(state["in_a_row"])


def _not_finite(run: Run) -> str:
    """Which items of the batch hold a NaN or an infinite number, in words; empty if none does."""
    if run.batch is None:
        return ""
    for what, tensors in (("inputs", run.batch.inputs), ("targets", (run.batch.target,))):
        for x in tensors:
            if x is None or not x.is_floating_point() or len(x) != len(run.batch.index):
                continue
            bad = run.batch.index.to(x.device)[~x.reshape(len(x), -1).isfinite().all(1)].tolist()
            if bad:
                return (
                    f"The {what} of {len(bad)} of its items hold NaN or infinite numbers, the first is item {min(bad)}"
                )
    return ""
