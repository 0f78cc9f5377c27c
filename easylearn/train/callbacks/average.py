"""WeightAverage: stochastic weight averaging and exponential moving averages, by torch's own swa_utils."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import swa_utils

from ...errors import ArgumentError, check_number, check_whole
from ...nn.groups import BatchNorm
from ..callback import Callback
from ..snapshot import copy_into, refuse_sharded
from ..state import Pause, Run


class WeightAverage(Callback):
    """Validate with, and end with, averaged weights.

    Batch-norm statistics that train are computed anew at the end, over the training batches.

    Args:
        kind: "swa" averages the weights at the end of each epoch (arXiv 1803.05407), "ema" moves from step to step.
        start: epochs of this fit before averaging begins.
        decay: share of the old average that an "ema" step keeps, at most: step t keeps (1 + t) / (10 + t), so that
            the random weights of the beginning are forgotten in a short fit, too.
    """

    def __init__(self, kind: Literal["swa", "ema"] = "swa", start: int = 0, decay: float = 0.999) -> None:
        if kind not in ("swa", "ema"):
            raise ArgumentError(f"kind must be 'swa' or 'ema', got {kind!r}")
        check_whole("start", start, 0)
        check_number("decay", decay, "above 0", "below 1")
        self.kind = kind
        self.start = start
        self.decay = decay
        self._average: swa_utils.AveragedModel | None = None
        self._kept: list[Tensor] | None = None
        self._loaded: dict[str, Tensor] | None = None

    def on_fit_begin(self, run: Run) -> None:
        """Make the average, a copy of the model as it is."""
        refuse_sharded(run.model, "WeightAverage")
        fn = self._move if self.kind == "ema" else None
        self._average = swa_utils.AveragedModel(run.model, multi_avg_fn=fn, use_buffers=False)
        if self._loaded is not None:
            self._average.load_state_dict(self._loaded)
            self._loaded = None

    def _move(self, average: Any, weights: Any, t: Tensor | int) -> None:
        """Take the `weights` of step `t` into the `average`, both lists of tensors."""
        decay = min(self.decay, (1 + int(t)) / (10 + int(t)))
        swa_utils.get_ema_multi_avg_fn(decay)(average, weights, t)  # type: ignore[no-untyped-call]

    def on_epoch_begin(self, run: Run) -> None:
        """Go on training with the live weights; what is saved before this hook has the averaged ones."""
        self._swap_back(run)

    def on_batch_end(self, run: Run) -> None:
        """Take the weights into the average: at each step, or at an epoch's last."""
        if self.kind == "ema":
            due = run.strategy.stepped
        else:
            sound = run.stop_reason is None or isinstance(run.stop_reason, Pause)
            due = run.step in ((run.epoch + 1) * run.steps_per_epoch, run.n_steps) and sound
        if due and run.epoch >= self.start:
            self._update(run)

    def on_validate_begin(self, run: Run) -> None:
        """Validate with the averaged weights."""
        if self._averaged:
            self._swap_in(run)

    def on_fit_end(self, run: Run) -> None:
        """End with the averaged weights."""
        self._swap_back(run)
        # On a GPU a NaN is noticed some steps late: the guard has then put good weights back, the average has none.
        if self._averaged and self._average is not None and all(p.isfinite().all() for p in self._average.parameters()):
            self._swap_in(run)
            self._kept = None
            self._renew_statistics(run)
            of = "epochs" if self.kind == "swa" else "steps"
            run.record.kept = f"the {self.kind} average over {int(self._average.n_averaged)} {of}"
        self._average = None

    @property
    def _averaged(self) -> bool:
        return self._average is not None and int(self._average.n_averaged) > 0

    def _update(self, run: Run) -> None:
        assert self._average is not None
        for own, live in zip(self._average.module.modules(), run.model.modules(), strict=True):
            for name, buffer in live.named_buffers(recurse=False):
                # A hidden state has as many rows as the batch had, and torch copies into the tensor of before.
                if own.get_buffer(name).shape != buffer.shape:
                    setattr(own, name, torch.empty_like(buffer))
        self._average.update_parameters(run.model)

    def _swap_in(self, run: Run) -> None:
        assert self._average is not None
        self._kept = [p.detach().clone() for p in run.model.parameters()]
        copy_into(run.model.parameters(), self._average.module.parameters())

    def _swap_back(self, run: Run) -> None:
        if self._kept is not None:
            copy_into(run.model.parameters(), self._kept)
            self._kept = None

    def _renew_statistics(self, run: Run) -> None:
        """Compute the batch-norm statistics of layers in training mode anew for the averaged weights."""
        run.train_mode()
        moving = [m for m in run.model.modules() if isinstance(m, BatchNorm) and m.training]
        if not moving:
            return
        momenta = [m.momentum for m in moving]
        run.model.eval()  # dropout and everything else but these
        for m in moving:
            m.train()
            m.reset_running_stats()
            m.momentum = None  # a plain mean over all batches
        try:
            with torch.no_grad():
                for batch in run.train_loader.batches(run.strategy.device, run.seed, run.life_epoch):
                    run.strategy.forward(run.model, batch.inputs)
        finally:
            for m, momentum in zip(moving, momenta, strict=True):
                m.momentum = momentum

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights, and the live ones while the averaged are in the model."""
        if self._average is None:
            return {}
        return {"average": dict(self._average.state_dict()), "kept": list(self._kept or [])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        loaded = dict(state.get("average", {}))
        self._kept = list(state.get("kept", [])) or None
        if loaded and self._average is not None:
            self._average.load_state_dict(loaded)
        elif loaded:
            self._loaded = loaded
