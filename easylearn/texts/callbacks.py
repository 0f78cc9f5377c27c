"""What training a recurrent language model adds to the loop."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import ArgumentError
from ..nn.awd_lstm import AWDLSTM, EncoderOutput, activation_penalty
from ..nn.registry import register
from ..nn.text_models import Candidates, LanguageModel
from ..task import NO_TARGET
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
        self.alpha, self.beta = alpha, beta
        self._terms: list[Tensor] = []
        self._handles: list[RemovableHandle] = []

    def on_fit_begin(self, run: Run) -> None:
        encoders = [m for m in run.model.modules() if isinstance(m, AWDLSTM)]
        if not encoders:
            raise ArgumentError(f"ActivationPenalty needs a model with an AWDLSTM, got {type(run.model).__name__}")
        self._handles = [m.register_forward_hook(self._note) for m in encoders]

    def _note(self, module: nn.Module, inputs: Any, output: EncoderOutput) -> None:
        if module.training and torch.is_grad_enabled() and output.raw.requires_grad:
            self._terms.append(activation_penalty(output, self.alpha, self.beta))

    def on_batch_begin(self, run: Run) -> None:
        self._terms.clear()

    def on_loss(self, run: Run) -> None:
        if self._terms:
            assert run.loss is not None
            run.loss = run.loss + torch.stack(self._terms).mean()
            self._terms.clear()

    def on_fit_end(self, run: Run) -> None:
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
        assert run.batch is not None  # the scheduler has set the rates
        scale = run.batch.inputs[0].shape[1] / self.bptt
        for group in run.optimizer.param_groups:
            group["lr"] *= scale


@register("easylearn.sampled_softmax")
class SampledSoftmax(Callback):
    """Trains a language model to choose among some tokens instead of all (after arXiv 1412.2007).

    With a large vocabulary the decoder costs more than the recurrent layers. So each training batch computes logits of
    the tokens that come in it and of `n` others, drawn anew without replacement. Each of these stands for others / n of
    them: the logarithm of that is added to its logit, which makes the sum under the softmax right in the mean.
    Validation and prediction use the whole vocabulary, and the weights are those of an ordinary model.

    Args:
        n: how many tokens that a batch does not hold are drawn for it.
    """

    def __init__(self, n: int) -> None:
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ArgumentError(f"sampled must be a whole number of at least 1, got {n!r}; None takes all tokens")
        self.n = n

    def on_fit_begin(self, run: Run) -> None:
        _language_model(run)  # no other has a vocabulary to choose from

    def on_batch_begin(self, run: Run) -> None:
        assert run.batch is not None and run.batch.target is not None
        model, target = _language_model(run), run.batch.target
        there = torch.zeros(model.encoder.n_tokens, dtype=torch.bool, device=target.device)
        known = target != NO_TARGET
        there[target[known]] = True
        others = (~there).nonzero().flatten()
        if len(others) <= self.n:
            return
        drawn = others[torch.randperm(len(others), device=target.device)[: self.n]]
        tokens = torch.cat([there.nonzero().flatten(), drawn])
        shift = torch.zeros(len(tokens), device=target.device)
        shift[-self.n :] = math.log(len(others) / self.n)
        places = torch.empty_like(there, dtype=target.dtype)
        places[tokens] = torch.arange(len(tokens), dtype=target.dtype, device=target.device)
        numbered = torch.where(known, places[target.clamp_min(0)], target)
        run.batch = replace(run.batch, target=numbered)
        model.restrict_to(Candidates(tokens, shift))

    def on_batch_end(self, run: Run) -> None:
        _language_model(run).restrict_to(None)

    on_fit_end = on_batch_end  # after an error in the middle of a batch, too


def _language_model(run: Run) -> LanguageModel:
    if not isinstance(run.model, LanguageModel):
        raise ArgumentError(f"SampledSoftmax needs a LanguageModel, got {type(run.model).__name__}")
    return run.model
