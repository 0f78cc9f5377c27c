"""The plan of a fit: the arguments of `learn.fit` turned into a schedule, cycles and a number of steps."""

from __future__ import annotations

from dataclasses import dataclass

from .. import schedules
from ..errors import ArgumentError
from ..schedules import Schedule


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


def count_of(n: int | None, epochs: int | None) -> int:
    """The number that `n` or `epochs`, its other spelling, gives; 1 if neither is given."""
    if n is not None and epochs is not None:
        raise ArgumentError(f"n={n} and epochs={epochs} are two spellings of one argument; give one of them")
    return next((count for count in (n, epochs) if count is not None), 1)
