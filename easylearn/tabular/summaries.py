"""Learning of columns from blocks of rows, so that a table need not be in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import starmap
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import keyed
from ..data.levels import Level
from ..data.values import Bools, Floats, factorize, is_ordered, numbers, require_columns
from ..errors import DataError
from .fitted import FittedCategory, FittedNumber, Settings, Spread, median, unusable
from .reports import TransformReport, count_codes, count_numbers

if TYPE_CHECKING:
    import pandas as pd

_SAMPLE = 100_000  # numbers by which the place of a median is guessed
Blocks = Callable[[list[str]], Iterator[tuple["pd.DataFrame", Bools]]]
"""Gives some columns of a table in blocks of rows, with masks of the training rows."""
Learned = tuple[list[FittedCategory], list[FittedNumber], tuple[TransformReport, TransformReport]]


def learn_blocks(blocks: Blocks, cat_names: Sequence[str], cont_names: Sequence[str], how: Settings) -> Learned:
    """What `TableProcessor.fit_blocks` learns: of each column, and what was seen in training rows and in others."""
    seen = TransformReport(), TransformReport()
    levels, sums = [LevelCounts(n) for n in cat_names], [NumberSums(n) for n in cont_names]
    columns: list[LevelCounts | NumberSums] = [*levels, *sums]
    for frame, train in blocks([*cat_names, *cont_names]):
        require_columns(frame, [*cat_names, *cont_names])
        seen[0].rows += int(train.sum())
        seen[1].rows += int((~train).sum())
        for column in columns:
            column.add(frame[column.name], train)
        del frame, train  # before the next block is read
    if not seen[0].rows:
        raise DataError("the table has no training rows, so there is nothing to learn from")
    cats = [counts.learn(how) for counts in levels]
    medians = _medians(blocks, sums) if how.fill == "median" else {}
    conts = [sum_.learn(how, medians.get(sum_.name), blocks) for sum_ in sums]
    for column in columns:
        for total, of_column in zip(seen, column.seen, strict=True):
            total += of_column
    return cats, conts, seen


def _medians(blocks: Blocks, sums: Sequence[NumberSums]) -> Mapping[str, float | None]:
    """By a second reading where the first one did not see all numbers at once; None where neither tells."""
    middles = {s.name: Middle(s.sample, s.spread.n) for s in sums if s.every > 1}
    for frame, train in blocks(list(middles)) if middles else ():
        for name, middle in middles.items():
            middle.add(_usable(frame[name], train))
        del frame, train
    return {s.name: middles[s.name].median() if s.every > 1 else median(s.sample) for s in sums if s.spread.n}


def _usable(column: pd.Series[Any], train: Bools) -> Floats:
    """A copy of the usable numbers of the training rows of a block."""
    x = numbers(column)
    return x[train & ~unusable(x)]


class Middle:
    """The median of numbers that come in blocks, of which a sample is known.

    A sample from all over them says between which two numbers the median lies, with few others; only those are kept,
    some hundredths of all `n`.

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
        first, last = ((self.n - odd) // 2 - self._n_below for odd in (1, 0))
        if first < 0 or last >= self._n_low + len(between) + self._n_high:
            return None

        def at(place: int) -> float:
            place -= self._n_low
            return self.low if place < 0 else float(between[place]) if place < len(between) else self.high

        return (at(first) + at(last)) / 2


class LevelCounts:
    """How often each value of a categorical column occurs, in training rows and in others."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[TransformReport] = []
        self._missing = [0, 0]
        self._counts: dict[Level, list[int]] = {}  # equal values of different types (1 and True) are one level
        self._orders: set[tuple[Level, ...] | None] = set()  # of the categories; None where they have no order

    def add(self, column: pd.Series[Any], train: Bools) -> None:
        """Count a block of rows; `train` says which of them are learned from."""
        codes, values = factorize(column)
        self._orders.add(tuple(values) if is_ordered(column) else None)
        held = np.stack([np.bincount(codes[rows] + 1, minlength=len(values) + 1) for rows in (train, ~train)], 1)
        self._missing = (held[0] + self._missing).tolist()
        there = np.flatnonzero(held[1:].any(1))  # a block may bring a long list of categories, and use few
        for i, more in zip(there.tolist(), held[there + 1].tolist(), strict=True):
            self._count(values[i], more)

    def _count(self, value: Level, more: Sequence[int]) -> None:
        total = self._counts.setdefault(value, [0, 0])
        total[0] += more[0]
        total[1] += more[1]

    def learn(self, how: Settings) -> FittedCategory:
        """What follows after the last block; `seen` then tells of the training rows and of the others."""
        if {type(v) for v in self._counts} == {int, float}:
            # Whole numbers come with a fraction where a block has gaps; then all do, as they would in one column.
            apart, self._counts = self._counts, {}
            for value, n in apart.items():
                self._count(float(value), n)
        order = next(iter(self._orders)) if len(self._orders) == 1 else None  # an order that changes is none
        values = [v for v in (self._counts if order is None else order) if v in self._counts]
        held = np.array([self._missing, *(self._counts[v] for v in values)], np.int64)
        found = FittedCategory.learn(self.name, order is not None, values, held[1:, 0], how)
        codes = np.array(found.lookup.codes(values), np.int64)
        self.seen = [count_codes(self.name, codes, of_side, values) for of_side in held.T]
        return found


class NumberSums:
    """What a continuous column holds in its training rows; and what was seen in them and in the others.

    Attributes:
        sample: one of so many (`every`) usable numbers of the training rows.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.spread = Spread()
        self.seen = [TransformReport(), TransformReport()]
        self.sample: Floats = np.empty(0)
        self.every = 1
        self._draws = 0

    def add(self, column: pd.Series[Any], train: Bools) -> None:
        """Look at a block of rows; `train` says which of them are learned from."""
        x = numbers(column)
        bad = unusable(x)
        for side, rows in enumerate((train, ~train)):
            self.seen[side] += count_numbers(self.name, x[rows], bad[rows])
        clean = x[train & ~bad]
        self.sample = np.append(self.sample, self._one_of(self.every, clean))
        self.spread += Spread.of(clean)
        while len(self.sample) > 2 * _SAMPLE:
            self.sample, self.every = self._one_of(2, self.sample), self.every * 2

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

    def learn(self, how: Settings, middle: float | None, blocks: Blocks) -> FittedNumber:
        """What follows after the last block; `blocks` gives the column once more where it is asked for as a whole."""

        def of_block(frame: pd.DataFrame, train: Bools) -> Floats:
            return _usable(frame[self.name], train)

        def all_of() -> Floats:
            return np.concatenate(list(starmap(of_block, blocks([self.name]))))

        def middle_of() -> float:
            return median(all_of()) if middle is None else middle

        return FittedNumber.learn(self.name, bool(self.seen[0].filled), self.spread, middle_of, all_of, how)
