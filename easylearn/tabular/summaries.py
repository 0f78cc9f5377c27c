"""What the training rows of a column hold: counts of levels, and the mean, spread and middle of numbers.

Each is put together from blocks of rows, so that a table need not be in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from .. import keyed
from ..data.levels import Level
from ..data.values import Bools, Floats, factorize, is_ordered, numbers
from .reports import TransformReport, count_codes, count_numbers

if TYPE_CHECKING:
    import pandas as pd

LARGEST = float(np.finfo(np.float32).max)
_SAMPLE = 100_000  # numbers by which the place of a median is guessed


def unusable(x: Floats) -> Bools:
    """Which numbers are missing, infinite or too large for 32 bits."""
    return ~(np.abs(x) <= LARGEST)


@dataclass(frozen=True)
class Spread:
    """Count, mean, variance and bounds of finite numbers; those of two blocks add up (Chan et al., 1983).

    >>> whole = Spread.of(np.array([1.0, 2.0])) + Spread.of(np.array([6.0]))
    >>> whole.mean, whole.high, round(whole.variance, 6)
    (3.0, 6.0, 4.666667)
    """

    n: int = 0
    mean: float = 0.0
    variance: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, x: Floats) -> Spread:
        """Of the numbers of an array."""
        return cls(x.size, float(x.mean()), float(x.var()), float(x.min()), float(x.max())) if x.size else cls()

    def __add__(self, other: Spread) -> Spread:
        if not (self.n and other.n):
            return self if self.n else other
        n = self.n + other.n
        apart, share = other.mean - self.mean, other.n / n
        return Spread(
            n,
            self.mean + apart * share,
            self.variance * (1 - share) + other.variance * share + apart**2 * share * (1 - share),
            min(self.low, other.low),
            max(self.high, other.high),
        )

    @property
    def is_constant(self) -> bool:
        """Whether the numbers differ by no more than rounding makes them differ (as scikit-learn decides it)."""
        eps = float(np.finfo(np.float64).eps)
        rounding = self.n * eps * self.variance + (self.n * self.mean * eps) ** 2
        return self.variance <= rounding or self.low == self.high


def median(x: Floats) -> float:
    """As NumPy's, five times as quick: looking for one place instead of two, NumPy partitions with SIMD."""
    half = len(x) // 2
    parted = np.partition(x, half)
    upper = float(parted[half])
    return upper if len(x) % 2 else (float(parted[:half].max()) + upper) / 2


class Middle:
    """The median of numbers that come in blocks, of which a sample is known.

    The sample says between which two numbers the median lies, with few others. Only those are kept; a sample from all
    over the numbers leaves some hundredths of them.

    Args:
        sample: some of the numbers, from all over them.
        n: how many there will be.

    >>> middle = Middle(np.array([1.0, 5.0, 9.0]), n=5)
    >>> for block in ([9.0, 1.0, 2.0], [4.0, 5.0]):
    ...     middle.add(np.array(block))
    >>> middle.median()
    4.0
    """

    def __init__(self, sample: Floats, n: int) -> None:
        ordered = np.sort(sample)
        half, margin = len(ordered) // 2, round(3 * math.sqrt(len(ordered))) + 1
        self.low = float(ordered[max(half - margin, 0)])
        self.high = float(ordered[min(half + margin, len(ordered) - 1)])
        self.n = n
        self._n_below = self._n_low = self._n_high = 0
        self._between: list[Floats] = []

    def add(self, x: Floats) -> None:
        """Look at a block of the numbers."""
        self._n_below += np.count_nonzero(x < self.low)
        self._n_low += np.count_nonzero(x == self.low)
        self._n_high += np.count_nonzero(x == self.high) if self.high > self.low else 0
        self._between.append(x[(x > self.low) & (x < self.high)])

    def median(self) -> float | None:
        """The median; None if it lies elsewhere than the sample made believe."""
        between = np.sort(np.concatenate(self._between))
        first, last = (self.n - 1) // 2 - self._n_below, self.n // 2 - self._n_below
        if first < 0 or last >= self._n_low + len(between) + self._n_high:
            return None
        found = []
        for place in (first, last):
            place -= self._n_low
            found.append(
                self.low if place < 0 else float(between[place]) if place < len(between) else self.high,
            )
        return sum(found) / 2


class LevelCounts:
    """How often each value of a categorical column occurs, in training rows and in others."""

    def __init__(self) -> None:
        self.missing = [0, 0]
        self._counts: dict[Level, list[int]] = {}  # equal values of different types (1 and True) are one level
        self._order: list[Level] | None = None  # the categories, as long as they are the same ordered ones
        self._n_blocks = 0

    def add(self, column: pd.Series[Any], train: Bools) -> None:
        """Count a block of rows; `train` says which of them are learned from."""
        codes, values = factorize(column)
        if self._n_blocks == 0:
            self._order = values if is_ordered(column) else None
        elif self._order is not None and not (is_ordered(column) and values == self._order):
            self._order = None  # an order that changes is none
        self._n_blocks += 1
        held = [np.bincount(codes[rows] + 1, minlength=len(values) + 1) for rows in (train, ~train)]
        for side, counts in enumerate(held):
            self.missing[side] += int(counts[0])
        there = np.flatnonzero((held[0] + held[1])[1:])  # a block may bring a long list of categories, and use few
        for i, *more in zip(there.tolist(), *(counts[there + 1].tolist() for counts in held), strict=True):
            total = self._counts.setdefault(values[i], [0, 0])
            total[0] += more[0]
            total[1] += more[1]

    def settle(self) -> None:
        """After the last block: put the values in order, if they have one.

        Whole numbers come with a fraction where a block has gaps; then all do, as they would in one column.
        """
        if {type(v) for v in self._counts} == {int, float}:
            apart, self._counts = self._counts, {}
            for value, n in apart.items():
                total = self._counts.setdefault(float(value), [0, 0])
                total[0] += n[0]
                total[1] += n[1]
        if self._order is not None:
            self._counts = {v: self._counts[v] for v in self._order if v in self._counts}

    @property
    def ordered(self) -> bool:
        """Whether the column is an ordered categorical."""
        return self._order is not None

    @property
    def values(self) -> list[Level]:
        """The values that occur: those of an ordered categorical in its order, others as they came."""
        return list(self._counts)

    def held(self, side: int) -> npt.NDArray[np.int64]:
        """How many places of the training rows (0) or of the others (1) are missing, and how many hold each value."""
        return np.array([self.missing[side], *(n[side] for n in self._counts.values())], np.int64)

    def reports(self, name: str, codes: Sequence[int]) -> list[TransformReport]:
        """What was seen in the training rows and in the others, where the values became `codes`."""
        return [count_codes(name, np.array(codes, np.int64), self.held(side), self.values) for side in (0, 1)]


class NumberSums:
    """What a continuous column holds in its training rows; and what was seen in them and in the others."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.spread = Spread()
        self.flag = False
        self.seen = [TransformReport(), TransformReport()]
        self._every = 1
        self._draws = 0
        self._sample: Floats = np.empty(0)

    def add(self, column: pd.Series[Any], train: Bools) -> None:
        """Look at a block of rows; `train` says which of them are learned from."""
        x = numbers(column)
        bad = unusable(x)
        for side, rows in enumerate((train, ~train)):
            self.seen[side] += count_numbers(self.name, x[rows], bad[rows])
        self.flag = self.flag or bool(bad[train].any())
        clean = x[train & ~bad]
        self._sample = np.append(self._sample, self._one_of(self._every, clean))
        self.spread += Spread.of(clean)
        while len(self._sample) > 2 * _SAMPLE:
            self._sample, self._every = self._one_of(2, self._sample), self._every * 2

    def _one_of(self, every: int, x: Floats) -> Floats:
        """One number of so many each time; which one is drawn, as what comes at regular places may be alike."""
        if every == 1:
            return x
        self._draws += 1
        starts = torch.arange(0, len(x), every)
        source = keyed.generator(0, "median", self.name, self._draws)
        places = starts + torch.randint(every, starts.shape, generator=source)
        drawn: Floats = x[places[places < len(x)].numpy()]
        return drawn

    def middle(self) -> Middle | None:
        """What finds the median in a second reading; None where the first one knows it."""
        return None if self._every == 1 else Middle(self._sample, self.spread.n)

    def median(self) -> float:
        """Where `middle` is None."""
        return median(self._sample)
