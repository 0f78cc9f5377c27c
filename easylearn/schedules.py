"""Schedules: pure functions of (epochs done, epochs in all) that give a multiplier of each group's base rate.

`epoch` is a fraction within an epoch; past the end of the fit a schedule stays at its last value. Only
`one_cycle_momentum` gives the number itself, a momentum. A schedule is a frozen dataclass: it prints as what it is,
compares by value and can be written as JSON.

>>> [round(cosine()(epoch, 4), 3) for epoch in (0, 1, 2, 3, 4)]
[1.0, 0.854, 0.5, 0.146, 0.0]
>>> warmup(cosine(), epochs=1)
Warmup(schedule=Cosine(start=1.0, end=0.0), epochs=1.0, start=0.01)
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real

from .errors import ArgumentError
from .errors import check_number as _number

Schedule = Callable[[float, float], float]


def _progress(epoch: float, n_epochs: float) -> float:
    """The share of the way that is done, from 0 to 1."""
    return min(max(epoch / n_epochs, 0.0), 1.0) if n_epochs > 0 else float(epoch > 0)


def _cosine(start: float, end: float, share: float) -> float:
    if share <= 0.0:
        return start
    if share >= 1.0:
        return end
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def check_schedule(name: str, value: Schedule) -> Schedule:
    """The schedule, refused unless it gives a number: a word is, or a function that makes a schedule."""
    if not callable(value) or not isinstance(value(0.0, 1.0), Real):
        raise ArgumentError(
            f"{name} must be a schedule, a function of (epoch, n_epochs) that gives a number, such as "
            f"schedules.cosine(), got {value!r}"
        )
    return value


def _rising(name: str, values: Sequence[float], example: Sequence[float], least: int = 1) -> tuple[float, ...]:
    """A list of epochs, checked."""
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) < least:
        raise ArgumentError(f"{name} must be a list of epochs, {least} or more, such as {example}, got {values!r}")
    epochs = tuple(_number(f"{name}[{i}]", e, "at least 0") for i, e in enumerate(values))
    if any(b <= a for a, b in pairwise(epochs)):
        raise ArgumentError(f"{name} must rise from each epoch to the next, got {list(values)}")
    return epochs


@dataclass(frozen=True, slots=True)
class Constant:
    """See `constant`."""

    value: float = 1.0

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return self.value


@dataclass(frozen=True, slots=True)
class Linear:
    """See `linear`."""

    start: float
    end: float

    def __call__(self, epoch: float, n_epochs: float) -> float:
        share = _progress(epoch, n_epochs)
        return self.start * (1 - share) + self.end * share


@dataclass(frozen=True, slots=True)
class Cosine:
    """See `cosine`."""

    start: float
    end: float

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return _cosine(self.start, self.end, _progress(epoch, n_epochs))


@dataclass(frozen=True, slots=True)
class Exponential:
    """See `exponential`."""

    start: float
    end: float

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return float(self.start * (self.end / self.start) ** _progress(epoch, n_epochs))


@dataclass(frozen=True, slots=True)
class Polynomial:
    """See `polynomial`."""

    power: float
    start: float
    end: float

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return float(self.end + (self.start - self.end) * (1 - _progress(epoch, n_epochs)) ** self.power)


@dataclass(frozen=True, slots=True)
class Step:
    """See `step`."""

    at: tuple[float, ...]
    factor: float

    def __call__(self, epoch: float, n_epochs: float) -> float:
        return float(self.factor ** bisect_right(self.at, epoch))


@dataclass(frozen=True, slots=True)
class OneCycle:
    """See `one_cycle` and `one_cycle_momentum`: from `start` to `peak` to `end`, along two half cosines."""

    pct_start: float
    start: float
    peak: float
    end: float

    def __call__(self, epoch: float, n_epochs: float) -> float:
        share = _progress(epoch, n_epochs)
        if share < self.pct_start:
            return _cosine(self.start, self.peak, share / self.pct_start)
        return _cosine(self.peak, self.end, (share - self.pct_start) / (1 - self.pct_start))


@dataclass(frozen=True, slots=True)
class SlantedTriangular:
    """See `slanted_triangular`."""

    cut_frac: float
    ratio: float

    def __call__(self, epoch: float, n_epochs: float) -> float:
        share = _progress(epoch, n_epochs)
        height = share / self.cut_frac if share < self.cut_frac else (1 - share) / (1 - self.cut_frac)
        return (1 + height * (self.ratio - 1)) / self.ratio


@dataclass(frozen=True, slots=True)
class Join:
    """See `join`."""

    pieces: tuple[tuple[Schedule, float], ...]

    def __call__(self, epoch: float, n_epochs: float) -> float:
        begin = 0.0
        for schedule, length in self.pieces[:-1]:
            if epoch < begin + length:
                return schedule(epoch - begin, length)
            begin += length
        return self.pieces[-1][0](epoch - begin, max(n_epochs - begin, 0.0))


@dataclass(frozen=True, slots=True)
class Warmup:
    """See `warmup`."""

    schedule: Schedule
    epochs: float
    start: float

    def __call__(self, epoch: float, n_epochs: float) -> float:
        if epoch < self.epochs:
            first = self.schedule(0.0, max(n_epochs - self.epochs, 0.0))
            return first * (self.start + (1 - self.start) * epoch / self.epochs)
        return self.schedule(epoch - self.epochs, max(n_epochs - self.epochs, 0.0))


@dataclass(frozen=True, slots=True)
class Sgdr:
    """See `sgdr`."""

    boundaries: tuple[float, ...]
    end: float

    def __call__(self, epoch: float, n_epochs: float) -> float:
        bounds = self.boundaries
        if epoch >= bounds[-1]:
            return self.end
        cycle = max(bisect_right(bounds, epoch) - 1, 0)
        return _cosine(1.0, self.end, (epoch - bounds[cycle]) / (bounds[cycle + 1] - bounds[cycle]))


def constant() -> Constant:
    """The base rate throughout."""
    return Constant()


def linear(start: float = 1.0, end: float = 0.0) -> Linear:
    """A straight line.

    Args:
        start: the multiplier at the first batch.
        end: the multiplier after the last one.

    >>> linear()(1, 4)
    0.75
    """
    return Linear(_number("start", start, "at least 0"), _number("end", end, "at least 0"))


def cosine(start: float = 1.0, end: float = 0.0) -> Cosine:
    """Half a period of the cosine (arXiv 1608.03983, without restarts). Arguments as in `linear`."""
    return Cosine(_number("start", start, "at least 0"), _number("end", end, "at least 0"))


def exponential(start: float = 1.0, end: float = 0.01) -> Exponential:
    """The same factor from each batch to the next. Arguments as in `linear`, both above 0.

    >>> round(exponential(1.0, 0.01)(1, 2), 6)
    0.1
    """
    return Exponential(_number("start", start, "above 0"), _number("end", end, "above 0"))


def polynomial(power: float, start: float = 1.0, end: float = 0.0) -> Polynomial:
    """`end + (start - end) * (1 - progress) ** power`. Other arguments as in `linear`.

    Args:
        power: 1 is a straight line, 2 falls fast at first.

    >>> polynomial(2)(1, 2)
    0.25
    """
    return Polynomial(
        _number("power", power, "above 0"),
        _number("start", start, "at least 0"),
        _number("end", end, "at least 0"),
    )


def step(at: Sequence[float], factor: float = 0.1) -> Step:
    """Constant, multiplied by `factor` at each of the chosen epochs.

    Args:
        at: after how many epochs; rising.
        factor: of each step.

    >>> [step([2, 3], 0.5)(epoch, 4) for epoch in (0, 1.9, 2, 3)]
    [1.0, 1.0, 0.5, 0.25]
    """
    return Step(_rising("at", at, [2, 4]), _number("factor", factor, "above 0"))


def one_cycle(pct_start: float = 0.25, div: float = 25.0, div_final: float = 1e5) -> OneCycle:
    """The 1cycle policy (arXiv 1708.07120): up to the base rate and down far below it, along half cosines.

    Args:
        pct_start: the share of the fit that goes up, between 0 and 1.
        div: it starts at the base rate divided by this.
        div_final: it ends at the base rate divided by this.

    >>> policy = one_cycle(0.25, div=10)
    >>> policy(0, 4), policy(1, 4)
    (0.1, 1.0)
    """
    share = _number("pct_start", pct_start, "above 0", "below 1")
    start, end = 1 / _number("div", div, "at least 1"), 1 / _number("div_final", div_final, "at least 1")
    return OneCycle(share, start, 1.0, end)


def one_cycle_momentum(pct_start: float = 0.25, hi: float = 0.95, lo: float = 0.85) -> OneCycle:
    """The momentum that goes with `one_cycle`: from `hi` to `lo` and back. It is the momentum itself, no multiplier.

    Args:
        pct_start: as in `one_cycle`.
        hi: the momentum at both ends, at least 0 and below 1.
        lo: the momentum where the rate is highest.

    >>> one_cycle_momentum()(1, 4)
    0.85
    """
    share, hi = (
        _number("pct_start", pct_start, "above 0", "below 1"),
        _number("hi", hi, "at least 0", "below 1"),
    )
    return OneCycle(share, hi, _number("lo", lo, "at least 0", f"at most {hi!r}"), hi)


def slanted_triangular(cut_frac: float = 0.1, ratio: float = 32.0) -> SlantedTriangular:
    """A short line up and a long line down (ULMFiT, arXiv 1801.06146).

    Args:
        cut_frac: the share of the fit that goes up, between 0 and 1.
        ratio: the highest rate over the lowest, at least 1.

    >>> triangle = slanted_triangular()
    >>> triangle(0, 10), triangle(1, 10)
    (0.03125, 1.0)
    """
    return SlantedTriangular(_number("cut_frac", cut_frac, "above 0", "below 1"), _number("ratio", ratio, "at least 1"))


def join(pieces: Sequence[tuple[Schedule, float]]) -> Join:
    """One schedule after the other.

    Args:
        pieces: schedules with their lengths in epochs. Each is asked with the epochs since its own beginning and its
            own length; the last one reaches to the end of the fit, whatever its length says.

    >>> warm = join([(linear(0.1, 1.0), 1), (cosine(), 9)])
    >>> warm(0, 10), warm(1, 10), warm(10, 10)
    (0.1, 1.0, 0.0)
    """
    if not isinstance(pieces, Sequence) or not len(pieces):
        raise ArgumentError(f"join needs a list of (schedule, length in epochs), got {pieces!r}")
    checked: list[tuple[Schedule, float]] = []
    for i, piece in enumerate(pieces):
        if not isinstance(piece, Sequence) or len(piece) != 2:
            raise ArgumentError(f"pieces[{i}] must be (schedule, length in epochs), got {piece!r}")
        length = _number(f"the length of pieces[{i}]", piece[1], "above 0")
        checked.append((check_schedule(f"pieces[{i}][0]", piece[0]), length))
    return Join(tuple(checked))


def warmup(schedule: Schedule, epochs: float, start: float = 0.01) -> Warmup:
    """A straight line up to where `schedule` begins, then `schedule` over what is left of the fit.

    Args:
        schedule: what comes after.
        epochs: how long the line takes, in epochs.
        start: where the line begins, as a share of where it ends.

    >>> warmup(constant(), 2, start=0.5)(1, 10)
    0.75
    """
    first = check_schedule("schedule", schedule)
    return Warmup(first, _number("epochs", epochs, "above 0"), _number("start", start, "at least 0", "at most 1"))


def sgdr(boundaries: Sequence[float], end: float = 0.0) -> Sgdr:
    """Cosine cycles with warm restarts (SGDR, arXiv 1608.03983).

    At a boundary the multiplier is exactly 1, and within a cycle it never rises. Compute the boundaries as the epochs
    are: `[s / steps_per_epoch for s in (0, *cycle_steps(...))]`.

    Args:
        boundaries: where the cycles start, and where the last one ends, in epochs: rising, the first one 0.
        end: the multiplier that each cycle falls to.

    >>> cycles = sgdr([0, 1, 3])
    >>> cycles(0, 3), cycles(0.5, 3), cycles(1, 3), cycles(2, 3), cycles(3, 3)
    (1.0, 0.5, 1.0, 0.5, 0.0)
    """
    bounds = _rising("boundaries", boundaries, [0, 1, 3], least=2)
    if bounds[0] != 0:
        raise ArgumentError(f"boundaries must begin at 0, got {list(boundaries)}")
    return Sgdr(bounds, _number("end", end, "at least 0", "at most 1"))


def cycle_steps(n: int, cycle_len: float, cycle_mult: float, steps_per_epoch: int) -> tuple[int, ...]:
    """The batch before which each of `n` cycles ends, counted from the beginning of the fit.

    Cycle k lasts `cycle_len * cycle_mult ** k` epochs, rounded to whole batches, and at least one batch.

    Args:
        n: how many cycles.
        cycle_len: the length of the first, in epochs.
        cycle_mult: how many times as long each is as the one before.
        steps_per_epoch: batches in an epoch.

    Returns:
        `n` rising numbers of batches; the last is the length of the fit.

    >>> cycle_steps(3, 1, 2, steps_per_epoch=10)
    (10, 30, 70)
    >>> cycle_steps(3, 1, 1.5, steps_per_epoch=5)
    (5, 13, 24)
    """
    for name, value in (("n", n), ("steps_per_epoch", steps_per_epoch)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ArgumentError(f"{name} must be a whole number of at least 1, got {value!r}")
    length = _number("cycle_len", cycle_len, "above 0")
    mult = _number("cycle_mult", cycle_mult, "above 0")
    ends: list[int] = []
    for k in range(n):
        try:
            steps = max(math.floor(length * mult**k * steps_per_epoch + 0.5), 1)
        except OverflowError:
            raise ArgumentError(
                f"cycle {k + 1} of {n} has no finite length: cycle_len={cycle_len}, cycle_mult={cycle_mult}"
            ) from None
        ends.append(steps + (ends[-1] if ends else 0))
    return tuple(ends)
