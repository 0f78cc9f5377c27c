"""The plan of a fit: the arguments of `learn.fit` turned into rates, a schedule, cycles and a number of steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from .. import schedules
from ..errors import ArgumentError, did_you_mean
from ..schedules import Schedule

Rates = float | Sequence[float] | Mapping[str, float] | slice


@dataclass(frozen=True, repr=False)
class FitPlan:
    """A fit, worked out but not begun.

    Args:
        rates: base rate of each layer group.
        schedule: multiplies the base rates.
        momentum: absolute momentum by the same clock, or None.
        cycle_ends: the step after which each cycle is over; the last is the number of steps.
        steps_per_epoch: batches in an epoch.
    """

    rates: tuple[float, ...]
    schedule: Schedule
    momentum: Schedule | None
    cycle_ends: tuple[int, ...]
    steps_per_epoch: int

    @property
    def n_steps(self) -> int:
        """Batches in the whole fit."""
        return self.cycle_ends[-1]

    @property
    def n_epochs(self) -> float:
        """Epochs in the whole fit; a fraction where cycles end inside one."""
        return self.n_steps / self.steps_per_epoch

    def __repr__(self) -> str:
        rates = ", ".join(f"{rate:.3g}" for rate in self.rates)
        return f"<FitPlan: {self.n_epochs:g} epochs, {self.n_steps:,} steps, rates {rates}, {self.schedule}>"


def plan_fit(
    rates: tuple[float, ...],
    steps_per_epoch: int,
    n: int,
    cycle_len: float | None = 1,
    cycle_mult: float = 1,
    schedule: Schedule | None = None,
    momentum: Schedule | None = None,
) -> FitPlan:
    """Work out a fit, a pure function; for n and what follows see `Learner.fit`.

    Args:
        rates: base rate of each layer group.
        steps_per_epoch: batches in an epoch.

    >>> plan = plan_fit((0.1,), 10, 3, cycle_len=1, cycle_mult=2)
    >>> plan.n_epochs, plan.cycle_ends
    (7.0, (10, 30, 70))
    """
    if isinstance(n, float) and 0 < n < 1 <= max(rates):
        raise ArgumentError(
            f"lr={max(rates):g} and n={n:g} look swapped: the rate comes first, then how many epochs or cycles, as in "
            f"fit({n:g}, {max(rates):g})"
        )
    for name, given in (("momentum", momentum), ("schedule", schedule)):
        if given is not None:
            schedules.check_schedule(name, given)
    if schedule is not None and (cycle_len not in (None, 1) or cycle_mult != 1):
        raise ArgumentError("cycle_len and cycle_mult describe the SGDR schedule; give them or schedule=, not both")
    if cycle_len is None and cycle_mult != 1:
        raise ArgumentError(
            f"cycle_mult={cycle_mult} makes each cycle longer than the one before, but cycle_len=None means there "
            "are no cycles; give a cycle_len, or leave cycle_mult at 1"
        )
    if schedule is None and cycle_len is not None:
        ends = schedules.cycle_steps(n, cycle_len, cycle_mult, steps_per_epoch)
        cycles = schedules.sgdr(tuple(step / steps_per_epoch for step in (0, *ends)))
        return FitPlan(rates, cycles, momentum, ends, steps_per_epoch)
    whole = schedules.cycle_steps(n, 1, 1, steps_per_epoch)[-1:]
    return FitPlan(rates, schedule or schedules.constant(), momentum, whole, steps_per_epoch)


def count_of(n: int | None, epochs: int | None, lr: Rates = 0.1) -> int:
    """The number that `n` or `epochs`, its other spelling, gives; 1 if neither is given and `lr` looks like a rate."""
    if n is not None and epochs is not None:
        raise ArgumentError(f"n={n} and epochs={epochs} are two spellings of one argument; give one of them")
    if n is None and epochs is None and isinstance(lr, int) and lr > 0:
        raise ArgumentError(
            f"the learning rate comes first, and {lr} looks like a number of epochs: write fit(1e-2, {lr}) with your "
            f"rate. If it is the rate, write {lr}.0"
        )
    return next((count for count in (n, epochs) if count is not None), 1)


def moving_momentum(pct_start: float, momentum: Any) -> Schedule | None:
    """The schedule between the highest and the lowest `momentum`, given in any order, of one cycle; None for None."""
    if momentum is None:
        return None
    if not isinstance(momentum, list | tuple) or len(momentum) != 2 or not all(map(_is_number, momentum)):
        raise ArgumentError(
            "momentum must be two numbers, the highest and the lowest, such as (0.95, 0.85), or None to leave it as "
            f"it is, got {momentum!r:.100}"
        )
    return schedules.one_cycle_momentum(pct_start, *sorted(momentum, reverse=True))


def spread_rates(
    lr: Rates, names: Sequence[str], precomputed: bool = False, branches: Sequence[str] = ()
) -> tuple[float, ...]:
    """The base rate of each group, first group nearest the input.

    Args:
        lr: see `Learner.fit`; in `slice(hi)`, too, where all groups but the last get hi / 10.
        names: of all layer groups.
        precomputed: only the head is trained, on precomputed features: several rates make no sense.
        branches: the one that each group is in, where there are several. A slice is spread over each; a dictionary may
            name them, and a group that it does not name keeps still.

    >>> spread_rates(slice(1e-4, 1e-2), ["stem", "late", "head"])
    (0.0001, 0.001, 0.01)
    """
    n = len(names)
    branches = branches or [""] * n
    rates: list[Any]
    if _is_number(lr):
        rates = [lr] * n
    elif isinstance(lr, slice):
        rates = [rate for branch in dict.fromkeys(branches) for rate in _spread_slice(lr, branches.count(branch))]
    elif isinstance(lr, Mapping):
        rates = _named_rates(lr, names, branches)
    elif isinstance(lr, str) or not isinstance(lr, Iterable):
        raise ArgumentError(f"lr must be a number, a list, a slice or a dictionary, got {lr!r}")
    else:
        rates = list(lr)
        if precomputed and len(rates) > 1 and not any(branches):
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


def _named_rates(lr: Mapping[str, Any], names: Sequence[str], branches: Sequence[str]) -> list[Any]:
    known = dict.fromkeys(word for word in (*branches, *names) if word)
    if unknown := [k for k in lr if k not in known]:
        raise ArgumentError(f"there is no layer group {unknown[0]!r}. {did_you_mean(str(unknown[0]), known)}")
    if missing := [k for k, branch in zip(names, branches, strict=True) if k not in lr and not branch]:
        raise ArgumentError(f"no rate was given for the layer groups {missing}; give one for each of {list(names)}")
    return [lr.get(k, lr.get(branch, 0.0)) for k, branch in zip(names, branches, strict=True)]


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


HIGHEST = 1000.0  # rate; one that trains anything is at most about 10


def _rate(value: Any, what: str, above_zero: bool = False) -> float:
    number = float(value) if _is_number(value) else math.nan
    if not math.isfinite(number) or number < 0 or (above_zero and number == 0):
        least = "above" if above_zero else "of at least"
        raise ArgumentError(f"the {what} must be a finite number {least} 0, got {value!r}")
    if number > HIGHEST:
        raise ArgumentError(
            f"the {what} is {value!r}, with which nothing trains: rates are mostly between 1e-5 and 1, and at most "
            f"{HIGHEST:g}. learn.lr_find() suggests one"
        )
    return number
