"""How often each training item is drawn: weights given per item, per class, or so that classes come equally often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import ArgumentError, DataError, did_you_mean

ItemWeights = str | Mapping[str, float] | Sequence[float] | npt.NDArray[Any] | None
"""What `weights=` takes: one number per item, a number per class, "balanced", or None."""


def draw_weights(
    given: ItemWeights, n: int, target: Tensor | None = None, classes: Sequence[str] = ()
) -> npt.NDArray[np.float64] | None:
    """What `Order(weights=)` takes: shape (n,), or None where nothing was given.

    Args:
        given: one number per training item; a dictionary of numbers by class, 1 for a class that is not in it;
            "balanced", which draws every class equally often; or None.
        n: how many training items there are.
        target: their class numbers, shape (n,), where each has one class.
        classes: the names of the classes.

    Raises:
        ArgumentError: what was given is none of these, or names a class that does not exist.
        DataError: a weight is below 0, or no number, or all are 0.

    >>> import torch
    >>> draw_weights("balanced", 4, torch.tensor([0, 0, 0, 1]), ["cat", "dog"]).round(2)
    array([0.33, 0.33, 0.33, 1.  ])
    >>> draw_weights({"dog": 5}, 3, torch.tensor([0, 1, 1]), ["cat", "dog"])
    array([1., 5., 5.])
    """
    if given is None:
        return None
    if isinstance(given, str | Mapping):
        return _by_class(given, target, classes)
    try:
        weights = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f'weights takes a number per item, a dictionary by class or "balanced", got {type(given).__name__}'
        ) from error
    if weights.shape != (n,):
        raise DataError(f"weights must have one number for each of the {n} training items, got shape {weights.shape}")
    _check(weights, "item")
    return weights


def _by_class(
    given: str | Mapping[str, float], target: Tensor | None, classes: Sequence[str]
) -> npt.NDArray[np.float64]:
    if target is None or target.ndim != 1 or target.is_floating_point() or not classes:
        raise ArgumentError("weights by class need one class for each item; here give one number per item")
    codes = target.cpu().numpy()
    if isinstance(given, str):
        if given != "balanced":
            raise ArgumentError(f"unknown weights={given!r}. {did_you_mean(given, ['balanced'])}")
        per_class = 1.0 / np.bincount(codes, minlength=len(classes)).clip(min=1)
    else:
        by_name = {str(name): float(weight) for name, weight in given.items()}
        if unknown := [name for name in by_name if name not in classes]:
            raise ArgumentError(f"weights names {unknown[0]!r}, which is no class. {did_you_mean(unknown[0], classes)}")
        per_class = np.array([by_name.get(name, 1.0) for name in classes])
        _check(per_class, "class")
    weights: npt.NDArray[np.float64] = per_class[codes]
    return weights


def _check(weights: npt.NDArray[np.float64], what: str) -> None:
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise DataError(f"weights must be 0 or more, but {what} {bad[0]} has {weights[bad[0]]}")
    if not weights.any():
        raise DataError(f"all weights are 0, so no {what} could be drawn")
