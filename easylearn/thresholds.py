"""From which probability on a label counts as given: one number for all labels, or one for each."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import ArgumentError

Threshold = float | tuple[float, ...]  # for all labels, or one for each


def as_threshold(given: Any) -> Threshold:
    """A threshold as it is kept: a number, or a tuple of one for each label out of any list or array.

    Raises:
        ArgumentError: a number is no probability.

    >>> as_threshold(1), as_threshold(np.array([0.25, 0.5]))
    (1.0, (0.25, 0.5))
    """
    each = isinstance(given, Iterable) and not isinstance(given, str) and getattr(given, "ndim", 1) > 0
    values = [v.item() if isinstance(v, Tensor | np.generic) else v for v in (given if each else [given])]
    for value in values:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not 0.0 <= value <= 1.0:
            raise ArgumentError(f"threshold is a probability between 0 and 1, or one for each label, got {value!r:.50}")
    return tuple(map(float, values)) if each else float(values[0])


def reaches(probs: Tensor, threshold: Threshold) -> Tensor:
    """Which probabilities, (..., labels), count as given: those that are at least the threshold."""
    if isinstance(threshold, tuple) and len(threshold) != probs.shape[-1]:
        raise ArgumentError(f"there are {len(threshold)} thresholds for {probs.shape[-1]} labels: give one for each")
    return probs >= torch.tensor(threshold, dtype=probs.dtype, device=probs.device)
