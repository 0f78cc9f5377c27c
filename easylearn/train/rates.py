"""One learning rate per layer group, from each of the forms that users write."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import ArgumentError, did_you_mean

Rates = float | Sequence[float] | Mapping[str, float] | slice


def spread_rates(lr: Rates, names: Sequence[str], precomputed: bool = False) -> tuple[float, ...]:
    """The base rate of each group, first group nearest the input.

    Args:
        lr: see `Learner.fit`; in `slice(hi)`, too, where all groups but the last get hi / 10.
        names: of all layer groups.
        precomputed: only the head is trained, on precomputed features: several rates make no sense.

    >>> spread_rates(slice(1e-4, 1e-2), ["stem", "late", "head"])
    (0.0001, 0.001, 0.01)
    """
    n = len(names)
    rates: list[Any]
    if _is_number(lr):
        rates = [lr] * n
    elif isinstance(lr, slice):
        rates = _spread_slice(lr, n)
    elif isinstance(lr, Mapping):
        if unknown := [k for k in lr if k not in names]:
            raise ArgumentError(f"there is no layer group {unknown[0]!r}. {did_you_mean(str(unknown[0]), names)}")
        if missing := [k for k in names if k not in lr]:
            raise ArgumentError(f"no rate was given for the layer groups {missing}; give one for each of {list(names)}")
        rates = [lr[k] for k in names]
    elif isinstance(lr, str) or not isinstance(lr, Iterable):
        raise ArgumentError(f"lr must be a number, a list, a slice or a dictionary, got {lr!r}")
    else:
        rates = list(lr)
        if precomputed and len(rates) > 1:
            raise ArgumentError(
                f"{len(rates)} rates were given, but precompute is on and trains the head alone, on stored outputs of "
                "the body. Give one rate; or call learn.unfreeze(), which ends precompute, and give one per group"
            )
        if len(rates) != n:
            raise ArgumentError(
                f"{len(rates)} learning rates were given, but the model has {n} layer groups: {', '.join(names)}. "
                "Give one number for all, or one per group"
            )
    return tuple(_rate(r, f"rate of group {name!r}") for r, name in zip(rates, names, strict=True))


def _spread_slice(lr: slice, n: int) -> list[float]:
    if lr.step is not None or lr.stop is None:
        raise ArgumentError(f"lr as a slice is slice(hi) or slice(lo, hi), got {lr}")
    hi = _rate(lr.stop, "end of the slice", above_zero=True)
    if lr.start is None:
        return [hi / 10] * (n - 1) + [hi]
    lo = _rate(lr.start, "start of the slice", above_zero=True)
    return [lo * (hi / lo) ** (i / (n - 1)) for i in range(n)] if n > 1 else [hi]


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 0
    return isinstance(value, Real) and not isinstance(value, bool)


def _rate(value: Any, what: str, above_zero: bool = False) -> float:
    number = float(value) if _is_number(value) else math.nan
    if not math.isfinite(number) or number < 0 or (above_zero and number == 0):
        least = "above" if above_zero else "of at least"
        raise ArgumentError(f"the {what} must be a finite number {least} 0, got {value!r}")
    return number
