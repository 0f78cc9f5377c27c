"""The learning-rate range test (Smith, arXiv 1506.01186)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from ..errors import ArgumentError, check_number
from .callback import Callback
from .callbacks.scheduler import Scheduler
from .loop import run_fit
from .plan import FitPlan
from .record import Record
from .snapshot import restored
from .state import Pause, Run

SOLVED = "the first fit begins at the new head's solution, which lower rates keep as well or better"


@dataclass(frozen=True)
class LRCurve:
    """Loss against learning rate.

    Args:
        rates: of the last layer group at each step.
        losses: the raw training losses.
        smooth: their exponential moving average.
        suggestion: a tenth of the rate where the loss is lowest, or None.
        reason: why that rate, or why none.
        record: the steps, for `plot_lr`.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    suggestion: float | None
    reason: str
    record: Record

    def __repr__(self) -> str:
        return f"LRCurve({len(self.rates)} steps; {self})"

    def __str__(self) -> str:
        found = f"suggested rate {self.suggestion:.2g}" if self.suggestion is not None else "no rate suggested"
        return f"{found}: {self.reason}"


class _StopWhenWorse(Callback):
    """Smooths the loss, with its start corrected, and ends the sweep when that passes `factor` times its best."""

    def __init__(self, beta: float, factor: float) -> None:
        self.beta, self.factor = beta, factor
        self.average, self.first, self.best = 0.0, math.nan, math.inf
        self.smooth: list[float] = []

    def on_batch_end(self, run: Run) -> None:
        losses = run.record.losses
        self.average = self.beta * self.average + (1 - self.beta) * losses[-1]
        smooth = self.average / (1 - self.beta**run.step)
        self.smooth.append(smooth)
        if run.step == 1:
            self.first = smooth
        # A loss that may be below 0 has no multiples: it is compared with how far it fell, or was from 0.
        scale = self.best if self.best > 0 else max(self.first - self.best, abs(self.first))
        noise = median(abs(a - b) for a, b in pairwise(losses)) if run.step > 5 else math.inf
        # Near 0 neither says much: what is less than batches differ by is no worse.
        if not math.isfinite(smooth) or smooth - self.best > max((self.factor - 1) * scale, 3 * noise):
            run.stop_reason = run.stop_reason or "the loss became much worse than its best"
        self.best = min(self.best, smooth) if math.isfinite(smooth) else self.best


def plan_sweep(profile: Sequence[float], steps_per_epoch: int, start_lr: float, end_lr: float, n_steps: int) -> FitPlan:
    """The plan of a sweep: rates that grow by the same factor at each step, in the proportion of `profile`."""
    check_number("start_lr", start_lr, "above 0")
    check_number("end_lr", end_lr, f"above {start_lr!r}")
    if n_steps < 10:
        raise ArgumentError(f"lr_find needs at least 10 steps for a curve, got {n_steps}")
    if profile[-1] == 0:
        raise ArgumentError(
            "lr_find moves the rate of the last group, which must be above 0; the others keep their proportion"
        )
    rates = tuple(start_lr * r / profile[-1] for r in profile)

    def growing(epoch: float, n_epochs: float) -> float:
        return float((end_lr / start_lr) ** (epoch / n_epochs * n_steps / (n_steps - 1)))

    return FitPlan(rates, growing, None, (n_steps,), steps_per_epoch)


def sweep(run: Run, beta: float = 0.9, factor: float = 4.0, solved: bool = False) -> LRCurve:
    """Train with the growing rates of `run` and restore everything.

    Args:
        run: made for the sweep.
        beta: of the moving average.
        factor: the sweep stops when the smoothed loss passes this many times its best.
        solved: the first fit will begin at the head's solution, and the sweep does not.
    """
    worse = _StopWhenWorse(beta, factor)
    scale = run.strategy.state_dict()
    try:
        with restored(run.model):
            record = run_fit(run, [Scheduler(), worse])
    finally:
        run.strategy.load_state_dict(scale)
    rates, losses = tuple(r[-1] for r in record.rates), tuple(record.losses)
    found: tuple[float | None, str] = (None, f"{record.stop_reason} of {run.n_steps}; run it to its end")
    if not isinstance(record.stop_reason, Pause):
        found = suggest(rates, losses)
        if solved and found[0] is not None:
            found = found[0], f"{found[1]}; {SOLVED}"
    return LRCurve(rates, losses, tuple(worse.smooth), *found, record)


def suggest(rates: tuple[float, ...], losses: tuple[float, ...]) -> tuple[float | None, str]:
    """A tenth of the rate at which the loss is lowest, where there is a clear valley.

    The lowest point is where training is about to break; a tenth of it is the advice of fast.ai's course. It is looked
    for on a curve smoothed to both sides, as an average over the past lags behind the rates.

    Returns:
        The rate and why, or None and why not.
    """
    finite = [v for v in losses if math.isfinite(v)]
    if len(finite) < 10:
        return None, f"only {len(finite)} steps gave a finite loss; start from a lower start_lr"
    width = max(len(finite) // 25, 1)
    centred = [fmean(finite[max(i - width, 0) : i + width + 1]) for i in range(len(finite))]
    lowest = min(range(len(centred)), key=centred.__getitem__)
    start = centred[0]
    if centred[lowest] >= start - 0.02 * abs(start):
        return None, (
            "the loss never fell by more than 2 %; is the model frozen, or the data shuffled apart from its labels?"
        )
    rate = rates[lowest] / 10
    where = "the loss is lowest"
    if lowest == len(centred) - 1:
        where = "the sweep ended with the loss still falling; try a higher end_lr"
    return rate, f"a tenth of {rates[lowest]:.2g}, where {where}"
