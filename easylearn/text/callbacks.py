"""What training a recurrent language model adds to the loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import ArgumentError
from ..nn.awd_lstm import AWDLSTM, EncoderOutput, activation_penalty
from ..nn.registry import register
from ..train.callback import Callback
from ..train.state import Run


@register("easylearn.activation_penalty")
class ActivationPenalty(Callback):
    """Adds to the loss what keeps a recurrent network's outputs small and slow (arXiv 1708.01009).

    `alpha` times the mean square of the last layer's outputs after dropout, and `beta` times that of their change from
    one token to the next. Frozen encoders are left out: nothing of theirs could follow.

    Args:
        alpha: weight of the size (AR).
        beta: weight of the change (TAR).
    """

    def __init__(self, alpha: float = 2.0, beta: float = 1.0) -> None:
        if alpha < 0 or beta < 0:
            raise ArgumentError(f"alpha and beta must be at least 0, got {alpha} and {beta}")
        self.alpha = alpha
        self.beta = beta
        self._terms: list[Tensor] = []
        self._handles: list[RemovableHandle] = []

    def on_fit_begin(self, run: Run) -> None:
        """Listen to the encoder."""
        encoders = [m for m in run.model.modules() if isinstance(m, AWDLSTM)]
        if not encoders:
            raise ArgumentError(f"ActivationPenalty needs a model with an AWDLSTM, got {type(run.model).__name__}")
        self._handles = [m.register_forward_hook(self._note) for m in encoders]

    def _note(self, module: nn.Module, inputs: Any, output: EncoderOutput) -> None:
        if not (module.training and torch.is_grad_enabled()):
            return
        if output.raw.requires_grad:
            self._terms.append(activation_penalty(output, self.alpha, self.beta))

    def on_batch_begin(self, run: Run) -> None:
        """Forget what an abandoned batch left."""
        self._terms.clear()

    def on_loss(self, run: Run) -> None:
        """Add the mean over the windows of this batch."""
        if self._terms:
            assert run.loss is not None
            run.loss = run.loss + torch.stack(self._terms).mean()
            self._terms.clear()

    def on_fit_end(self, run: Run) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._terms = [], []


@register("easylearn.rate_by_length")
class RateByLength(Callback):
    """Scales the learning rate by the length of each window, as AWD-LSTM does (arXiv 1708.02182, section 5).

    A short window gives the mean gradient of fewer tokens; at the full rate it would count for more than they are.

    Args:
        bptt: the length at which the rate is the scheduled one.
    """

    def __init__(self, bptt: int) -> None:
        self.bptt = bptt

    def on_batch_begin(self, run: Run) -> None:
        """After the scheduler has set the rates."""
        assert run.batch is not None
        scale = run.batch.inputs[0].shape[1] / self.bptt
        for group in run.optimizer.param_groups:
            group["lr"] *= scale
