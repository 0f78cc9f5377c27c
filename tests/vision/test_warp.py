"""Targets that move with their images: by the same grid, nearest for masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from easylearn.errors import ArgumentError
from easylearn.vision.augment import BatchStage, Dihedral, Flip, Rotate, Shift, Zoom, resolve
from easylearn.vision.policies import Perspective
from easylearn.vision.warp import Motion, MovingMasks, grid_of, sample

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def mask(n: int = 6, h: int = 40, w: int = 56) -> Tensor:
    """Blocks of classes 0 to 3."""
    coarse = torch.randint(0, 4, (n, 1, 4, 5), generator=torch.Generator().manual_seed(0)).float()
    return torch.nn.functional.interpolate(coarse, (h, w), mode="nearest")[:, 0].to(torch.uint8)


def both(stage: BatchStage, target: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
    """The mask as an image that shows its numbers, and the mask itself, after one stage."""
    x = (target * 60)[:, None].expand(-1, 3, -1, -1).contiguous()
    image, moved = stage.augmented_with(x, target, MovingMasks(), np.arange(len(x)), 1, epoch)
    return image[:, 0] * 255 / 60, moved


@pytest.mark.parametrize(
    "transforms",
    [[Flip()], [Dihedral()], [Rotate(30.0, p=1.0)], [Zoom(1.5, p=1.0)], [Flip(), Rotate(20.0), Zoom(1.3)],
     [Perspective(p=1.0)], []],
    ids=["flip", "dihedral", "rotate", "zoom", "all", "perspective", "none"],
)  # fmt: skip
def test_masks_go_where_their_images_go(transforms: list) -> None:  # type: ignore[type-arg]
    target = mask()
    image, moved = both(BatchStage((40, 56), tuple(transforms), **PLAIN), target)
    assert moved.dtype == torch.uint8 and moved.shape == target.shape
    whole = (image - image.round()).abs() < 1e-3  # where no two classes were mixed by the image's interpolation
    assert whole.float().mean() > 0.6
    near = torch.nn.functional.max_pool2d((~whole).float()[:, None], 3, 1, 1)[:, 0] == 0
    assert torch.equal(moved[near].float(), image.round()[near])
    if transforms:
        assert not torch.equal(moved, target)
    else:
        assert torch.equal(moved, target)


def test_no_class_is_invented_and_the_image_is_the_same_as_alone() -> None:
    stage, target = BatchStage((40, 56), resolve("side_on")), mask()
    x = torch.randint(0, 255, (6, 3, 40, 56), dtype=torch.uint8)
    alone = stage.augmented(x, np.arange(6), 0, 3)
    image, moved = stage.augmented_with(x, target, MovingMasks(), np.arange(6), 0, 3)
    assert torch.equal(image, alone)
    assert set(moved.unique().tolist()) <= set(target.unique().tolist())
    rows = [stage.augmented_with(x[i : i + 1], target[i : i + 1], MovingMasks(), [i], 0, 3)[1] for i in range(6)]
    assert torch.equal(moved, torch.cat(rows))  # depends on the item, not on the batch


def test_a_border_of_the_mean_shows_no_object_twice() -> None:
    x = torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)
    stage = BatchStage((32, 32), (Rotate(45.0, p=1.0),), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), border="mean")
    out = stage.augmented(x, [3, 4], 0, 0)
    assert out.max() == pytest.approx(1.0, abs=1e-4)
    assert float(out[:, :, 0, 0].abs().min()) < 0.02  # a corner is from outside: the mean, which is 0
    with pytest.raises(ArgumentError, match="border"):
        BatchStage((32, 32), border="black")  # type: ignore[arg-type]


def test_a_motion_makes_its_grid_once() -> None:
    motion = Motion(np.tile(np.eye(2, 3), (2, 1, 1)), (8, 10), (8, 10), False, torch.device("cpu"))
    assert motion.grid is motion.grid
    x = torch.randn(2, 3, 8, 10)
    torch.testing.assert_close(sample(x, motion.grid), x)
    assert grid_of(np.tile(np.eye(2, 3), (1, 1, 1)), (8, 10), (4, 5), torch.device("cpu")).shape == (1, 4, 5, 2)


@pytest.mark.parametrize(
    "transforms",
    [[Flip()], [Rotate(10.0, p=1.0)], [Rotate(180.0, p=1.0)], [Shift(2.5, p=1.0), Rotate(30.0)], [Perspective(p=1.0)]],
    ids=["inside", "a little", "once", "often", "perspective"],
)
def test_what_lies_outside_is_reflected_as_torch_reflects_it(transforms: list) -> None:  # type: ignore[type-arg]
    size, cpu = (41, 56), torch.device("cpu")
    x, target = torch.randint(0, 255, (8, 3, *size)), mask(8, *size)
    matrix = BatchStage(size, tuple(transforms))._drawn(x, np.arange(8), 0, 0, 0).matrix
    assert matrix is not None
    motion, plain = Motion(matrix, size, size, False, cpu), grid_of(matrix, size, size, cpu, reflects=False)
    assert motion.grid.abs().max() <= 1 + 1e-5
    assert (plain.abs().max() > 1) == (transforms != [Flip()])
    how = {"padding_mode": "reflection", "align_corners": False}
    wanted = torch.nn.functional.grid_sample(x.float(), plain, **how)
    torch.testing.assert_close(sample(x.float(), motion.grid), wanted, rtol=0, atol=0.02)
    nearest = torch.nn.functional.grid_sample(target[:, None].float(), plain, "nearest", **how)[:, 0]
    assert (MovingMasks().move(target, motion) == nearest).float().mean() > 0.9995  # all but ties


@pytest.mark.parametrize("x", [0.0, 0.5, -0.5, 7.25, 15.0, 30.0, 45.5, -60.0, 200.5])
def test_nothing_comes_in_from_outside(x: float) -> None:
    target, matrix = torch.full((3, 20, 30), 255, dtype=torch.uint8), np.tile(np.eye(2, 3), (3, 1, 1))
    matrix[:, 0, 2], matrix[:, 1, 2], matrix[1, :, :2], matrix[2, 0, 0] = x, x / 2, matrix[1, :, :2] * 0.9, -1
    for m in (matrix, np.concatenate([matrix, np.tile([[[0.0, 0.0, 1.0]]], (3, 1, 1))], 1)):
        motion = Motion(m, (20, 30), (20, 30), False, torch.device("cpu"))
        assert torch.equal(MovingMasks().move(target, motion), target)  # void stays void, of edges exactly hit, too


@pytest.mark.parametrize("rows", [2, 3])
def test_no_images_have_no_grid(rows: int) -> None:
    grid = grid_of(np.zeros((0, rows, 3)), (6, 8), (4, 5), torch.device("cpu"))
    assert sample(torch.zeros(0, 3, 6, 8), grid).shape == (0, 3, 4, 5)
