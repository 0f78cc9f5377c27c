"""Where the pixels of moved images come from: one grid for an image and for what is true of its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """How some images of a batch are moved.

    Args:
        matrix: where each output pixel comes from, (b, 2, 3) or (b, 3, 3), in pixels from the centre of what comes in
            to such of what goes out, spread over it; see `Transform.matrix`.
        shape: (height, width) of what comes in.
        size: of what goes out.
        exact: only mirrors and right angles at one size, for which pixels are copied.
        device: where the grid is.
        reflects: what comes in from outside is reflected; else it is what `sample` fills in.
    """

    matrix: Array
    shape: tuple[int, int]
    size: tuple[int, int]
    exact: bool
    device: torch.device
    reflects: bool = True

    @cached_property
    def grid(self) -> Tensor:
        """Where to sample, (b, *size, 2), as `grid_sample` wants it."""
        return grid_of(self.matrix, self.shape, self.size, self.device, self.reflects)


class Moving(Protocol):
    """How targets move with their images: masks are sampled where the images are, boxes go through the matrix."""

    def move(self, target: Tensor, motion: Motion) -> Tensor:
        """The `target` of some images, (b, ...), after the `motion` of these; it may become another shape but for b."""
        ...


@dataclass(frozen=True)
class MovingMasks:
    """Masks (b, h, w) of class numbers, which are never mixed: each pixel is that of the nearest one."""

    def move(self, target: Tensor, motion: Motion) -> Tensor:
        """See `Moving.move`."""
        if motion.exact:
            return lay(target, motion.matrix)
        found = F.grid_sample(target[:, None].float(), motion.grid, "nearest", "border", align_corners=False)
        return found[:, 0].int().to(target.dtype)  # float32 to uint8 at once takes three times as long


@dataclass(frozen=True)
class MovingImages:
    """Images (b, c, h, w), uint8, that are targets themselves: sampled as the inputs are."""

    def move(self, target: Tensor, motion: Motion) -> Tensor:
        """See `Moving.move`."""
        if motion.exact:
            return lay(target, motion.matrix)
        return sample(target.float(), motion.grid).round_().clamp_(0, 255).to(target.dtype)


def compose(first: Array, then: Array) -> Array:
    """The matrix of doing `first`, then `then`: an output pixel goes through `then` to where `first` finds it."""
    if first.shape[1] == 3 or then.shape[1] == 3:
        return _homogeneous(first) @ _homogeneous(then)
    out = first[:, :, :2] @ then
    out[:, :, 2] += first[:, :, 2]
    return out


def _homogeneous(matrix: Array) -> Array:
    """Matrices (b, 3, 3) of such or of (b, 2, 3)."""
    if matrix.shape[1] == 3:
        return matrix
    return np.concatenate([matrix, np.tile([[[0.0, 0.0, 1.0]]], (len(matrix), 1, 1))], 1)


def grid_of(
    matrix: Array, shape: tuple[int, int], size: tuple[int, int], device: torch.device, reflects: bool = True
) -> Tensor:
    """A grid of `size` spread over images of `shape`, moved as the matrices say: (b, *size, 2), as two planes.

    With `reflects` what lies outside is reflected. Of an image of 144x192 the sums take 0.003 ms, and 0.04 where the
    two numbers of a place lie side by side, which are sampled at more slowly, too; the nearest pixels of a mask take
    0.018, and 0.032 where `grid_sample` reflects.
    """
    height, width = shape
    # grid_sample wants -1 to 1 across the image, where -1 is the outer edge of the first pixel
    unit = matrix * np.array([2 / width, 2 / height, 1.0])[: matrix.shape[1], None] * [width / 2, height / 2, 1.0]
    m = torch.from_numpy(unit.astype(np.float32)).to(device, non_blocking=True)
    ys, xs = (torch.linspace(-1 + 1 / s, 1 - 1 / s, s, device=device) for s in size)
    planes = (m[..., 1, None] * ys + m[..., 2, None])[..., None] + (m[..., 0, None] * xs)[..., None, :]
    grid = planes[:, :2]
    if matrix.shape[1] == 3:
        grid = grid / planes[:, 2:]
    if reflects:
        grid = _reflected(grid, float(np.abs(unit).sum(2).max(initial=0)) if matrix.shape[1] == 2 else None)
    return grid.permute(0, 2, 3, 1)


def _reflected(grid: Tensor, reach: float | None) -> Tensor:
    """Numbers beyond -1 and 1 reflected there; `reach` is the largest that any can be, None for unknown."""
    if reach is None:
        return 1 - ((grid + 1).remainder(4) - 2).abs()
    for _ in range(math.ceil((reach - 1) / 2 - 1e-6)):  # each time from up to 3 away; between -1 and 1 it is the same
        inner = grid.clamp(-1, 1)
        grid = inner.mul_(2).sub_(grid)
    return grid


def sample(x: Tensor, grid: Tensor, fill: Tensor | None = None) -> Tensor:
    """Sample images (b, c, h, w) at a grid, bilinearly; outside they are as at the edge, or `fill`, (c, 1, 1)."""
    if fill is None:
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.grid_sample(x.sub_(fill), grid, mode="bilinear", padding_mode="zeros", align_corners=False).add_(fill)


def warp(x: Tensor, matrix: Array, size: tuple[int, int]) -> Tensor:
    """Images (b, c, h, w) as the matrices move them, at a `size`, reflected at the edges; see `Motion`."""
    return sample(x, grid_of(matrix, (int(x.shape[-2]), int(x.shape[-1])), size, x.device))


def lay(x: Tensor, matrix: Array) -> Tensor:
    """Mirrors and right angles of the last two dimensions, by copying pixels."""
    x_sign, y_sign = matrix[:, 0, :2].sum(1), matrix[:, 1, :2].sum(1)
    way = (x_sign < 0) * 1 + (y_sign < 0) * 2 + (matrix[:, 0, 0] == 0) * 4
    out = torch.empty_like(x)
    for w in np.unique(way):
        rows = torch.from_numpy(np.flatnonzero(way == w)).to(x.device)
        part = x[rows]
        # out(x, y) = in(sx x, sy y), or in(sx y, sy x) where the axes are swapped
        part = part.flip([d for d, bit in ((-1, 1), (-2, 2)) if w & bit])
        out[rows] = part.transpose(-1, -2) if w & 4 else part
    return out
