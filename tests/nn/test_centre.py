"""Maps of centres: their loss, and the boxes that come out of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from easylearn.box_metrics import ap
from easylearn.nn import centre
from easylearn.nn.centre import centre_head, centre_losses, found_boxes, survives

H, W, STRIDE = 24, 32, 4


def targets(seed: int = 0, n: int = 6, most: int = 9, classes: int = 3) -> Tensor:
    """Boxes of images in pixels, of 0 to `most` each."""
    g = torch.Generator().manual_seed(seed)
    out = torch.zeros(n, most, 5)
    out[..., 4] = -1
    for i in range(n):
        k = min(most, 2 * i)
        low = torch.rand(k, 2, generator=g) * torch.tensor([W * STRIDE - 40.0, H * STRIDE - 40.0])
        size = 8 + 30 * torch.rand(k, 2, generator=g)
        out[i, :k] = torch.cat([low, low + size, torch.randint(classes, (k, 1), generator=g).float()], 1)
    return out


def perfect(target: Tensor, classes: int = 3) -> Tensor:
    """The maps that say what the target says."""
    maps = torch.zeros(len(target), classes + 4, H, W)
    for i, row in enumerate(target):
        hills, far, _ = centre._wanted(row, maps, STRIDE)
        maps[i] = torch.cat([torch.where(hills == 1, 6.0, -9.0), far.log()])
    return maps


def test_perfect_maps_give_the_boxes_back_and_cost_nothing() -> None:
    target = targets()
    maps = perfect(target)
    assert centre_losses(maps, target, STRIDE).max() < 1e-2
    assert ap(found_boxes(maps, STRIDE, 50, 0.9), target) > 0.95


def test_the_loss_is_that_of_the_papers_written_out_for_one_box() -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 2 + 4, 8, 8)
    target = torch.tensor([[[4.0, 6.0, 24.0, 22.0, 1.0], [0.0, 0.0, 0.0, 0.0, -1.0]]])
    box, total = target[0, 0, :4] / 4, 0.0
    size, column, row = box[2:] - box[:2], 3, 3
    p = maps[0, :2].sigmoid()
    hill = torch.zeros(8, 8)
    for y in range(8):
        for x in range(8):
            spread = [2 * (centre.SPREAD * float(s)) ** 2 + 1e-2 for s in size]
            hill[y, x] = math.exp(-((x - column) ** 2) / spread[0] - (y - row) ** 2 / spread[1])
    for c in range(2):
        for y in range(8):
            for x in range(8):
                v, high = float(p[c, y, x]), float(hill[y, x]) if c == 1 else 0.0
                top = c == 1 and (y, x) == (row, column)
                total -= (1 - v) ** 2 * math.log(v) if top else (1 - high) ** 4 * v**2 * math.log(1 - v)
    learns = [(y, x) for y in range(8) for x in range(8) if hill[y, x] > centre.NEAR]
    share = sum(float(hill[y, x]) for y, x in learns)
    for y, x in learns:
        far = maps[0, 2:, y, x].exp()
        here = torch.tensor([x + 0.5, y + 0.5])
        found = torch.cat([here - far[:2], here + far[2:]])
        total += 5 * float(hill[y, x]) / share * float(_giou_loss(found, box))
    assert float(centre_losses(maps, target, 4)) == pytest.approx(total, rel=1e-4)


def _giou_loss(a: Tensor, b: Tensor) -> Tensor:
    from torchvision.ops import generalized_box_iou_loss

    loss: Tensor = generalized_box_iou_loss(a[None], b[None])[0]
    return loss


def test_images_without_boxes_teach_that_there_are_none() -> None:
    maps = torch.zeros(2, 7, H, W, requires_grad=True)
    none = torch.full((2, 3, 5), -1.0)
    losses = centre_losses(maps, none, STRIDE)
    losses.sum().backward()
    assert losses.isfinite().all() and (losses > 0).all()
    assert maps.grad is not None and (maps.grad[:, :3] > 0).all() and (maps.grad[:, 3:] == 0).all()


def test_an_item_does_not_depend_on_its_batch_nor_on_padding() -> None:
    torch.manual_seed(1)
    maps, target = torch.randn(6, 7, H, W), targets(1)
    together = centre_losses(maps, target, STRIDE)
    alone = torch.cat([centre_losses(maps[i : i + 1], target[i : i + 1], STRIDE) for i in range(6)])
    longer = torch.cat([torch.full((6, 2, 5), -1.0), target], 1)
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together, centre_losses(maps, longer, STRIDE))


def test_of_two_objects_in_a_cell_the_smaller_one_is_learnt() -> None:
    target = torch.tensor([[[0.0, 0.0, 60.0, 60.0, 0.0], [24.0, 24.0, 36.0, 36.0, 0.0]]])
    for given in (target, target.flip(1)):
        _, far, weights = centre._wanted(given[0], torch.zeros(1, 7, H, W), STRIDE)
        assert far[:, 7, 7].tolist() == [1.5] * 4 and weights[7, 7] > 0


def test_objects_smaller_than_a_cell_and_beyond_the_edge_are_learnt() -> None:
    target = torch.tensor([[[5.0, 5.0, 5.5, 5.6, 1.0], [126.0, 94.0, 128.0, 96.0, 2.0]]])
    maps = torch.randn(1, 7, H, W, generator=torch.Generator().manual_seed(0), requires_grad=True)
    centre_losses(maps, target, STRIDE).sum().backward()
    assert maps.grad is not None and maps.grad.isfinite().all()
    assert maps.grad[0, 3:, 1, 1].abs().sum() > 0 and maps.grad[0, 3:, 23, 31].abs().sum() > 0


@pytest.mark.parametrize("value", [1e4, -1e4])
def test_extreme_outputs_stay_finite(value: float) -> None:
    maps = torch.full((2, 7, H, W), value, requires_grad=True)
    loss = centre_losses(maps, targets()[4:], STRIDE).sum()
    loss.backward()
    assert loss.isfinite() and maps.grad is not None and maps.grad.isfinite().all()
    assert found_boxes(maps.detach(), STRIDE, 20, 0.5).isfinite().all()


@pytest.mark.parametrize("overlap", [0.3, 0.6])
def test_suppression_is_torchvisions(overlap: float) -> None:
    from torchvision.ops import batched_nms

    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        low = torch.rand(60, 2, generator=g) * 60
        boxes = torch.cat([low, low + 10 + 25 * torch.rand(60, 2, generator=g)], 1)
        label, score = torch.randint(3, (60,), generator=g), torch.linspace(1, 0.1, 60)
        kept = set(batched_nms(boxes, score, label, overlap).tolist())
        assert set(survives(boxes[None], label[None], overlap)[0].nonzero().flatten().tolist()) == kept


def test_found_boxes_are_in_the_image_sorted_and_of_peaks() -> None:
    torch.manual_seed(0)
    maps = torch.randn(3, 7, H, W)
    found = found_boxes(maps, STRIDE, 40, 0.99)
    assert found.shape == (3, 40, 6)
    assert (found[..., :2] >= 0).all() and (found[..., 2] <= W * STRIDE).all() and (found[..., 3] <= H * STRIDE).all()
    score = found[..., 4]
    assert (score[score > 0] <= 1).all()
    peaks = (F.max_pool2d(maps[:, :3], 3, 1, 1) == maps[:, :3]) * maps[:, :3].sigmoid()
    torch.testing.assert_close(score.amax(1), peaks.flatten(1).amax(1))


def test_a_map_smaller_than_the_number_of_boxes_gives_fewer() -> None:
    assert found_boxes(torch.zeros(1, 5, 2, 2), 8, 100, 0.5).shape == (1, 4, 6)


def test_a_new_head_is_sure_of_nothing_and_of_a_usual_size() -> None:
    head = centre_head([4, 8], 2, width=16, side=3.0).eval()
    with torch.no_grad():
        for p in head.out.weight:
            p.zero_()
        maps = head([torch.zeros(1, 4, 6, 6), torch.zeros(1, 8, 3, 3)])
    np.testing.assert_allclose(maps[0, :2].sigmoid(), centre.RARE, rtol=1e-4)
    np.testing.assert_allclose(maps[0, 2:].exp(), 3.0, rtol=1e-4)
