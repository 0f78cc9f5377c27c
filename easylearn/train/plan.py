"""The plan of a fit: the arguments of `learn.fit` turned into a schedule, cycles and a number of steps."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

from .. import schedules
from ..errors import ArgumentError


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
    rates: tuple[float, ...],
    n: int,
    *,
    cycle_len: float | None = 1,
    cycle_mult: float = 1,
    schedule: schedules.Schedule | None = None,
    momentum: schedules.Schedule | None = None,
    steps_per_epoch: int,
) -> FitPlan:
    """Work out a fit: a pure function.

    Args:
        rates: base rate of each layer group.
        n: number of cycles; of epochs where there are no cycles.
        cycle_len, cycle_mult, schedule, momentum: as in `Learner.fit`.
        steps_per_epoch: batches in an epoch.

    Raises:
        ArgumentError: arguments contradict each other, or give no number of steps.

    >>> plan = plan_fit((0.1,), 3, cycle_len=1, cycle_mult=2, steps_per_epoch=10)
    >>> plan.n_epochs, plan.cycle_ends
    (7.0, (10, 30, 70))
    """
    if momentum is not None:
        _check_schedule("momentum", momentum)
    if schedule is not None:
        _check_schedule("schedule", schedule)
        if cycle_len not in (None, 1) or cycle_mult != 1:
            raise ArgumentError("cycle_len and cycle_mult describe the SGDR schedule; give them or schedule=, not both")
    elif cycle_len is None:
        if cycle_mult != 1:
            raise ArgumentError(
                f"cycle_mult={cycle_mult} makes each cycle longer than the one before, but cycle_len=None means there "
                "are no cycles; give a cycle_len, or leave cycle_mult at 1"
            )
        schedule = schedules.constant()
    else:
        ends = schedules.cycle_steps(n, cycle_len, cycle_mult, steps_per_epoch)
        boundaries = tuple(step / steps_per_epoch for step in (0, *ends))
        return FitPlan(rates, schedules.sgdr(boundaries), momentum, ends, steps_per_epoch)
    whole = schedules.cycle_steps(n, 1, 1, steps_per_epoch)[-1:]
    return FitPlan(rates, schedule, momentum, whole, steps_per_epoch)


def count_of(n: int | None, epochs: int | None) -> int:
    """The number that `n` or `epochs`, its other spelling, gives; 1 if neither is given.

    >>> count_of(None, 3), count_of(None, None)
    (3, 1)
    """
    if n is not None and epochs is not None:
        raise ArgumentError(f"n={n} and epochs={epochs} are two spellings of one argument; give one of them")
    return next((count for count in (n, epochs) if count is not None), 1)


def _check_schedule(name: str, schedule: schedules.Schedule) -> None:
    """Refuse a schedule that gives no number: a word, a number, or a function that makes a schedule."""
    value = schedule(0.0, 1.0) if callable(schedule) else None
    if not isinstance(value, Real):
        raise ArgumentError(
            f"{name} must be a function of (epoch, n_epochs) that gives a number, such as schedules.cosine(), "
            f"got {schedule!r}"
        )
