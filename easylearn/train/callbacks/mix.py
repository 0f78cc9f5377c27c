"""MixUp and CutMix: torchvision's own, for every task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...errors import ArgumentError, check_number
from ..callback import Callback
from ..state import Run


class _Mix(Callback):
    """Mix each batch with itself in another order, inputs and targets alike.

    torchvision mixes class targets only. Here it is given the positions in the batch as classes: what it
    gives back is then the matrix that mixes any target, of one label, several or numbers.
    """

    changes_steps = True
    keeps_pixels = False  # whether each pixel is one of the images', so that what is true of it stays so

    def __init__(self, alpha: float, transform: str) -> None:
        self.alpha = check_number("alpha", alpha, "above 0")
        self._name = transform
        self._made: dict[int, Any] = {}

    def on_batch_begin(self, run: Run) -> None:
        assert run.batch is not None and run.batch.target is not None
        x = run.batch.inputs[0]
        if len(run.batch.inputs) != 1 or x.ndim != 4:
            shapes = [tuple(t.shape) for t in run.batch.inputs]
            raise ArgumentError(
                f"{self._name} mixes images of shape (b, c, h, w), the inputs of this batch are {shapes}"
            )
        size = len(x)
        if size < 2:
            return
        if size not in self._made:
            from torchvision.transforms import v2

            self._made[size] = getattr(v2, self._name)(alpha=self.alpha, num_classes=size)
        if self.keeps_pixels and run.task.of_pixels:
            self._mix_maps(run, x, run.batch.target)
            return
        mixed, weights = self._made[size](x, torch.arange(size, device=x.device))
        target = run.task.soft_target(run.batch.target)
        run.batch = replace(run.batch, inputs=(mixed,), target=weights.to(target.device).to(target.dtype) @ target)

    def _mix_maps(self, run: Run, x: Tensor, target: Tensor) -> None:
        """Mix images and the maps that are their targets alike: the maps as further channels."""
        assert run.batch is not None
        maps = target if target.ndim == 4 else target[:, None]
        mixed, _ = self._made[len(x)](torch.cat([x, maps.to(x.dtype)], 1), torch.arange(len(x), device=x.device))
        image, moved = mixed.split([x.shape[1], maps.shape[1]], 1)
        run.batch = replace(
            run.batch,
            inputs=(image.contiguous(memory_format=torch.channels_last),),
            target=moved.to(target.dtype).reshape(target.shape),
        )


class MixUp(_Mix):
    """Train on weighted means of two images and their targets (arXiv 1710.09412).

    Args:
        alpha: of the beta distribution that the weight is drawn from; larger mixes more evenly.
    """

    def __init__(self, alpha: float = 0.4) -> None:
        super().__init__(alpha, "MixUp")


class CutMix(_Mix):
    """Train on images with a rectangle of another one, targets mixed by area, masks cut alike (arXiv 1905.04899).

    Args:
        alpha: of the beta distribution that the area is drawn from.
    """

    keeps_pixels = True

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha, "CutMix")
