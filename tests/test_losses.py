from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from easylearn import losses, task
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


# -- masks ---------------------------------------------------------------------------------------------


def _mask_case() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    target = torch.randint(0, 3, (2, 5, 7), generator=g, dtype=torch.uint8)
    target[0, 0] = losses.VOID
    return torch.randn(2, 3, 5, 7, generator=g, requires_grad=True), target


def test_cross_entropy_of_masks_is_torchs_with_void_ignored() -> None:
    logits, target = _mask_case()
    wanted = F.cross_entropy(logits, target.long(), ignore_index=losses.VOID)
    torch.testing.assert_close(losses.MaskCrossEntropy()(logits, target), wanted)
    weight = torch.tensor([1.0, 2.0, 0.5])
    wanted = F.cross_entropy(logits, target.long(), weight, ignore_index=losses.VOID)
    torch.testing.assert_close(losses.MaskCrossEntropy((1.0, 2.0, 0.5))(logits, target), wanted)


def test_focal_loss_of_masks_is_that_of_their_known_pixels() -> None:
    logits, target = _mask_case()
    known = target != losses.VOID
    rows = logits.movedim(1, -1)[known]
    torch.testing.assert_close(losses.FocalLoss()(logits, target), losses.FocalLoss()(rows, target[known].long()))
    torch.testing.assert_close(losses.FocalLoss(0.0)(logits, target), losses.MaskCrossEntropy()(logits, target))


def test_of_sure_predictions_dice_and_lovasz_are_the_overlap_that_is_missing() -> None:
    truth = torch.tensor([[[0, 0, 0, 1], [0, 1, 1, 1]]])
    said = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1]]])
    logits = 60.0 * F.one_hot(said, 2).movedim(-1, 1).float()
    iou = [3 / 5, 3 / 5]  # of both classes three pixels are found, one is missed, one is too much
    assert losses.LovaszLoss()(logits, truth).item() == pytest.approx(1 - sum(iou) / 2, abs=1e-5)
    assert losses.DiceLoss(smooth=0.0)(logits, truth).item() == pytest.approx(1 - 6 / 8, abs=1e-5)


MASK_LOSSES = [
    losses.MaskCrossEntropy(), losses.DiceLoss(), losses.LovaszLoss(), losses.FocalLoss(),
    losses.LossSum([losses.MaskCrossEntropy(), losses.DiceLoss()]),
]  # fmt: skip


@pytest.mark.parametrize("loss", MASK_LOSSES, ids=lambda loss: type(loss).__name__)
def test_losses_of_masks_go_down_by_their_gradient(loss: Any) -> None:
    logits, target = _mask_case()
    first = loss(logits, target)
    (gradient,) = torch.autograd.grad(first, logits)
    assert first.shape == () and gradient.isfinite().all()
    assert torch.equal(gradient[0, :, 0], torch.zeros(3, 7))  # what is void says nothing
    assert loss(logits - gradient / gradient.norm() * 0.5, target) < first


@pytest.mark.parametrize("loss", MASK_LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_batch_without_a_known_pixel_has_no_loss_and_no_nan(loss: Any) -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((1, 4, 4), losses.VOID, dtype=torch.uint8))
    value.backward()
    assert value.item() == 0.0 or value.isfinite()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_wrong_shapes_and_sums_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"\(b, h, w\)"):
        losses.DiceLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4))
    with pytest.raises(ArgumentError, match="at least one"):
        losses.LossSum([])
    with pytest.raises(ArgumentError, match="2 weights"):
        losses.LossSum([losses.DiceLoss()], [1.0, 2.0])
    with pytest.raises(ArgumentError, match="weights of 3 classes for 2"):
        losses.MaskCrossEntropy([1.0, 2.0, 3.0])(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8))
