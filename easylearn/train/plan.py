"""What a fit will do: the arguments of `learn.fit` turned into rates, a schedule and a number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from .. import schedules
from ..errors import ArgumentError
from .rates import Rates, spread_rates


@dataclass(frozen=True)
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
    schedule: schedules.Schedule
    momentum: schedules.Schedule | None
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


def plan_fit(
    lr: Rates,
    n: int | None,
    *,
    cycle_len: float | None,
    cycle_mult: float,
    epochs: int | None,
    schedule: schedules.Schedule | None,
    momentum: schedules.Schedule | None = None,
    names: Sequence[str],
    steps_per_epoch: int,
    precomputed: bool = False,
) -> FitPlan:
    """Work out a fit. A pure function; see `Learner.fit` for the meaning of each argument.

    >>> plan = plan_fit(0.1, 3, cycle_len=1, cycle_mult=2, epochs=None, schedule=None,
    ...                 names=["model"], steps_per_epoch=10)
    >>> plan.n_epochs, plan.cycle_ends
    (7.0, (10, 30, 70))
    """
    if epochs is not None:
        if n is not None:
            raise ArgumentError(f"n={n} and epochs={epochs} are two spellings of one argument; give one of them")
        n = epochs
    count = 1 if n is None else n
    rates = spread_rates(lr, names, precomputed)
    if momentum is not None:
        _check_schedule("momentum", momentum)
    ends: tuple[int, ...]
    if schedule is not None:
        _check_schedule("schedule", schedule)
        if cycle_len not in (None, 1) or cycle_mult != 1:
            raise ArgumentError("cycle_len and cycle_mult describe the SGDR schedule; give them or schedule=, not both")
        ends = (schedules.cycle_steps(count, 1, 1, steps_per_epoch)[-1],)
        return FitPlan(rates, schedule, momentum, ends, steps_per_epoch)
    if cycle_len is None:
        if cycle_mult != 1:
            raise ArgumentError(
                f"cycle_mult={cycle_mult} makes each cycle longer than the one before, but cycle_len=None means there "
                "are no cycles; give a cycle_len, or leave cycle_mult at 1"
            )
        ends = (schedules.cycle_steps(count, 1, 1, steps_per_epoch)[-1],)
        return FitPlan(rates, schedules.constant(), momentum, ends, steps_per_epoch)
    ends = schedules.cycle_steps(count, cycle_len, cycle_mult, steps_per_epoch)
    boundaries = tuple(step / steps_per_epoch for step in (0, *ends))
    return FitPlan(rates, schedules.sgdr(boundaries), momentum, ends, steps_per_epoch)


def _check_schedule(name: str, schedule: schedules.Schedule) -> None:
    """Refuse what gives no number: a word, a number, or a function that makes a schedule instead of one."""
    value = schedule(0.0, 1.0) if callable(schedule) else None
    if not isinstance(value, Real):
        raise ArgumentError(
            f"{name} must be a function of (epoch, n_epochs) that gives a number, such as schedules.cosine(), "
            f"got {schedule!r}"
        )
