"""Losses that torch lacks. Each takes (logits, target), gives the mean over the batch, and fits `Task.loss_fn`.

Those of masks take logits (b, c, h, w) and class numbers (b, h, w), and leave out pixels whose number is `VOID`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import ArgumentError

VOID = 255
"""The class number, in masks, of pixels of which nothing is known."""


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
            logits: shape (b, c), or of masks (b, c, h, w).
            target: class numbers (b,), or class probabilities (b, c) as MixUp makes them; of masks (b, h, w).

        Returns:
            A scalar tensor.
        """
        if logits.ndim > 2:
            logits, target = _known_pixels(logits, target)
        log_p = logits.log_softmax(-1)
        # The floor is for gamma below 1: the power has an endless slope at 0.
        rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).eps)
        loss = -(rest**self.gamma) * log_p
        if target.is_floating_point():
            return (loss * target).sum(-1).mean()
        return _mean(loss.gather(-1, target.unsqueeze(-1)))


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


def _check_masks(logits: Tensor, target: Tensor) -> None:
    if logits.ndim != 4 or target.shape != (len(logits), *logits.shape[2:]):
        raise ArgumentError(
            f"a loss of masks needs logits (b, c, h, w) and class numbers (b, h, w), got {tuple(logits.shape)} and "
            f"{tuple(target.shape)}"
        )


def _known_pixels(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels of masks that are not void, as rows: logits (n, c) and class numbers (n,).

    Raises:
        ArgumentError: the shapes are not those of masks.

    >>> rows = _known_pixels(torch.zeros(1, 2, 1, 3), torch.tensor([[[1, VOID, 0]]]))
    >>> rows[0].shape, rows[1]
    (torch.Size([2, 2]), tensor([1, 0]))
    """
    _check_masks(logits, target)
    known = target != VOID
    return logits.movedim(1, -1)[known], target[known].long()


def _mean(losses: Tensor) -> Tensor:
    """The mean, and 0 with gradients where there is nothing to take it of."""
    return losses.sum() / max(1, losses.numel())


@dataclass(frozen=True)
class MaskCrossEntropy:
    """Cross-entropy of each known pixel of masks, and the mean of these.

    Args:
        weights: of each class, such as larger ones of rare classes; () weighs all alike.

    >>> MaskCrossEntropy()(torch.zeros(1, 2, 1, 2), torch.tensor([[[1, VOID]]]))
    tensor(0.6931)
    """

    weights: Sequence[float] = ()

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean loss, weighted by the classes' weights, of logits (b, c, h, w) and class numbers (b, h, w)."""
        _check_masks(logits, target)
        weight = None
        if len(self.weights):
            weight = torch.as_tensor(self.weights, dtype=logits.dtype, device=logits.device)
            if weight.shape != (logits.shape[1],):
                raise ArgumentError(
                    f"MaskCrossEntropy has weights of {len(weight)} classes for {logits.shape[1]} classes"
                )
        # A third of the time that the known pixels take as rows.
        total = F.cross_entropy(logits, target.long(), weight, ignore_index=VOID, reduction="sum")
        known = target != VOID
        return total / (
            known.sum().to(total.dtype) if weight is None else weight[target[known].long()].sum()
        ).clamp_min(1e-12)


@dataclass(frozen=True)
class DiceLoss:
    """One minus the Dice overlap of each class, averaged over the classes that are there (arXiv 1606.04797).

    Args:
        smooth: added above and below, in pixels, so that small areas do not swing.

    >>> sure = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])
    >>> round(DiceLoss()(sure, torch.tensor([[[0, 1]]])).item(), 3)
    0.0
    """

    smooth: float = 1.0

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean loss, over the whole batch, of logits (b, c, h, w) and class numbers (b, h, w)."""
        rows, classes = _known_pixels(logits, target)
        probs = rows.softmax(1)
        truth = F.one_hot(classes, rows.shape[1]).to(probs.dtype)
        there = truth.sum(0)
        overlap = (2 * (probs * truth).sum(0) + self.smooth) / (probs.sum(0) + there + self.smooth)
        return _mean((1 - overlap)[there > 0]) + 0 * rows.sum()


@dataclass(frozen=True)
class LovaszLoss:
    """Lovasz-softmax: a convex stand-in for the mean IoU of the classes that are there (arXiv 1705.08790).

    >>> sure = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])
    >>> round(LovaszLoss()(sure, torch.tensor([[[0, 1]]])).item(), 3)
    0.0
    """

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean loss, over the whole batch, of logits (b, c, h, w) and class numbers (b, h, w)."""
        rows, classes = _known_pixels(logits, target)
        probs = rows.softmax(1)
        losses = [
            self._of_class(probs[:, c], (classes == c).to(probs.dtype))
            for c in range(rows.shape[1])
            if bool((classes == c).any())
        ]
        return torch.stack(losses).mean() if losses else 0 * rows.sum()

    @staticmethod
    def _of_class(probs: Tensor, truth: Tensor) -> Tensor:
        errors, order = (truth - probs).abs().sort(descending=True)
        truth = truth[order]
        # IoU of taking the worst k pixels wrong, for each k; its steps are the weights of the errors.
        union = truth.sum() + (1 - truth).cumsum(0)
        jaccard = 1 - (truth.sum() - truth.cumsum(0)) / union
        steps = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        return errors @ steps


@dataclass(frozen=True)
class LossSum:
    """Several losses added up, such as cross-entropy and dice.

    Args:
        losses: each takes (logits, target) and gives the mean.
        weights: of each; () weighs all by 1.

    >>> both = LossSum([MaskCrossEntropy(), DiceLoss()], [1.0, 0.5])
    >>> both(torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 0]]]))
    tensor(0.8598)
    """

    losses: Sequence[Callable[[Tensor, Tensor], Tensor]]
    weights: Sequence[float] = ()

    def __post_init__(self) -> None:
        if not self.losses or (self.weights and len(self.weights) != len(self.losses)):
            raise ArgumentError(
                f"LossSum needs at least one loss, and a weight for each or none: got {len(self.losses)} losses and "
                f"{len(self.weights)} weights"
            )

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The weighted sum."""
        weights = self.weights or [1.0] * len(self.losses)
        return torch.stack([w * loss(logits, target) for w, loss in zip(weights, self.losses, strict=True)]).sum()
