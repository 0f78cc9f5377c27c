from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from easylearn import task
from easylearn.errors import ArgumentError
from easylearn.losses import BinaryFocalLoss, FocalLoss


def test_gamma_zero_is_cross_entropy() -> None:
    logits, target = torch.randn(16, 5), torch.randint(5, (16,))
    torch.testing.assert_close(FocalLoss(0.0)(logits, target), F.cross_entropy(logits, target))
    soft = torch.rand(16, 5).softmax(-1)
    torch.testing.assert_close(FocalLoss(0.0)(logits, soft), F.cross_entropy(logits, soft))
    yes = torch.randint(2, (16, 5))
    expected = F.binary_cross_entropy_with_logits(logits, yes.float())
    torch.testing.assert_close(BinaryFocalLoss(0.0, None)(logits, yes), expected)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.5, None), (3.0, 0.9)])
def test_binary_is_torchvisions(gamma: float, alpha: float | None) -> None:
    logits, target = torch.randn(16, 5), torch.randint(2, (16, 5)).float()
    expected = sigmoid_focal_loss(logits, target, alpha=-1 if alpha is None else alpha, gamma=gamma, reduction="mean")
    torch.testing.assert_close(BinaryFocalLoss(gamma, alpha)(logits, target), expected)


def test_single_is_the_formula() -> None:
    logits, target = torch.randn(16, 5), torch.randint(5, (16,))
    p = logits.softmax(-1)[torch.arange(16), target]
    torch.testing.assert_close(FocalLoss(2.0)(logits, target), (-((1 - p) ** 2) * p.log()).mean())
    torch.testing.assert_close(FocalLoss(2.0)(logits, F.one_hot(target, 5).float()), FocalLoss(2.0)(logits, target))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_gradients(gamma: float) -> None:
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    target, yes = torch.randint(3, (4,)), torch.randint(2, (4, 3))
    assert torch.autograd.gradcheck(lambda x: FocalLoss(gamma)(x, target), (logits,))
    assert torch.autograd.gradcheck(lambda x: BinaryFocalLoss(gamma)(x, yes), (logits,))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("size", [0.0, 50.0, 1e4])
def test_extreme_logits_stay_finite(gamma: float, size: float) -> None:
    logits = torch.tensor([[size, -size], [-size, size]], requires_grad=True)
    for loss in (
        FocalLoss(gamma)(logits, torch.tensor([0, 0])),
        BinaryFocalLoss(gamma)(logits, torch.tensor([[1, 1], [0, 0]])),
    ):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all()


def test_as_the_loss_of_a_task() -> None:
    logits, target = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    chosen = replace(task.single_label(["a", "b"]), loss_fn=FocalLoss())
    assert chosen.loss(logits, target) == FocalLoss()(logits, target)
    assert chosen.loss(logits, chosen.soft_target(target)).isfinite()


def test_refused() -> None:
    with pytest.raises(ArgumentError, match="gamma"):
        FocalLoss(-1.0)
    with pytest.raises(ArgumentError, match="gamma"):
        BinaryFocalLoss(float("nan"))
    with pytest.raises(ArgumentError, match="alpha"):
        BinaryFocalLoss(alpha=2.0)
    with pytest.raises(ArgumentError, match="use FocalLoss"):
        BinaryFocalLoss()(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long))
