"""Losses that torch lacks. Each takes (logits, target), gives the mean over the batch, and fits `Task.loss_fn`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import ArgumentError


def _check_gamma(gamma: float) -> None:
    if not (math.isfinite(gamma) and gamma >= 0):
        raise ArgumentError(f"gamma must be at least 0, got {gamma}; 0 is plain cross-entropy, 2 is usual")


@dataclass(frozen=True)
class FocalLoss:
    """Focal loss for exactly one class per item (arXiv 1708.02002): items that are easy already count less.

    Args:
        gamma: how much less; 0 gives cross-entropy.

    >>> logits = torch.tensor([[2.0, -1.0]])
    >>> easy, hard = (FocalLoss()(logits, torch.tensor([c])).item() for c in (0, 1))
    >>> round(easy, 4), round(hard, 4)
    (0.0001, 2.7663)
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        _check_gamma(self.gamma)

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean loss.

        Args:
            logits: shape (b, c).
            target: class numbers (b,), or class probabilities (b, c) as MixUp makes them.

        Returns:
            A scalar tensor.
        """
        log_p = logits.log_softmax(-1)
        # The floor is for gamma below 1: the power has an endless slope at 0.
        rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).eps)
        loss = -(rest**self.gamma) * log_p
        if target.is_floating_point():
            return (loss * target).sum(-1).mean()
        return loss.gather(-1, target.unsqueeze(-1)).mean()


@dataclass(frozen=True)
class BinaryFocalLoss:
    """Focal loss for any number of labels per item (arXiv 1708.02002), each a yes or a no.

    Args:
        gamma: how much less easy cases count; with 0 and no `alpha` it is binary cross-entropy.
        alpha: the weight of a yes, between 0 and 1, a no weighs `1 - alpha`; None weighs both as 1.
    """

    gamma: float = 2.0
    alpha: float | None = 0.25

    def __post_init__(self) -> None:
        _check_gamma(self.gamma)
        if self.alpha is not None and not 0.0 <= self.alpha <= 1.0:
            raise ArgumentError(f"alpha must be between 0 and 1, or None, got {self.alpha}")

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean loss over items and labels.

        Args:
            logits: shape (b, c).
            target: zeros and ones, or shares between them, shape (b, c).

        Returns:
            A scalar tensor.

        Raises:
            ArgumentError: the shapes differ.
        """
        if logits.shape != target.shape:
            raise ArgumentError(
                f"BinaryFocalLoss needs logits and target of one shape, got {tuple(logits.shape)} and "
                f"{tuple(target.shape)}. For one class per item use FocalLoss"
            )
        target = target.to(logits.dtype)
        # p and 1 - p through their logarithms, so that no logit is too large for a finite gradient.
        log_yes, log_no = F.logsigmoid(logits), F.logsigmoid(-logits)
        yes = -target * (self.gamma * log_no).exp() * log_yes
        no = -(1 - target) * (self.gamma * log_yes).exp() * log_no
        if self.alpha is not None:
            yes, no = self.alpha * yes, (1 - self.alpha) * no
        return (yes + no).mean()
