"""Bounds of predicted numbers: a sigmoid keeps the model's outputs between them."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..data.values import Floats
from ..errors import ArgumentError, EasyLearnWarning
from ..task import Task

YRange = tuple[float, float] | Literal["auto"] | None


def range_of(task: Task, target: Tensor, y_range: YRange) -> tuple[Floats, Floats] | None:
    """The bounds between which a sigmoid keeps the model's outputs, on their own scale; None for no bounds.

    Args:
        task: regression.
        target: of the training rows, shape (n, k).
        y_range: (low, high) in the targets' own units; or "auto": the training targets and a tenth on both sides.

    Raises:
        ArgumentError: the range is none, or does not fit the targets.
    """
    if y_range is None:
        return None
    if not task.predicts_numbers:
        raise ArgumentError(f"y_range is for numbers, this task is {task}; leave it out")
    scaled = task.outputs_for(target.double()).numpy().reshape(len(target), -1)
    low, high = scaled.min(0), scaled.max(0)
    if isinstance(y_range, str):
        if y_range != "auto":
            raise ArgumentError(f"y_range must be (low, high), 'auto' or None, got {y_range!r}")
        margin = 0.1 * np.maximum(high - low, 1e-3)
        return low - margin, high + margin
    bounds = task.outputs_for(torch.tensor(y_range, dtype=torch.float64)).numpy()
    if bounds.shape != (2,) or not bounds[0] < bounds[1]:
        raise ArgumentError(f"y_range must be (low, high) with low below high, got {y_range}")
    if not np.isfinite(bounds).all():
        raise ArgumentError(
            f"y_range={tuple(y_range)} has no finite logarithm; with log_target give a low end above 0, or 'auto'"
        )
    if (low < bounds[0]).any() or (high > bounds[1]).any():
        warnings.warn(
            f"y_range={tuple(y_range)} leaves out targets of the training rows, which go from {float(target.min()):g} "
            f"to {float(target.max()):g}; the model can never predict them",
            EasyLearnWarning,
            stacklevel=3,
        )
    return np.broadcast_to(bounds[0], low.shape), np.broadcast_to(bounds[1], high.shape)
