"""The median of paired ratios with an interval that assumes nothing of how they are distributed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A median and what it may be.

    Args:
        median: of the values.
        low, high: the values that bound it; both are among the values.
        n: how many values there were.
    """

    median: float
    low: float
    high: float
    n: int


def rank_of(n: int, confidence: float = 0.95) -> int:
    """Which of `n` values in order, counted from 1 at either end, bounds an interval of the median.

    A value is below the median with probability 1/2, so the number of those that are is binomial, and the interval
    from the k-th smallest to the k-th largest misses the median with probability 2 P(B(n, 1/2) < k). The largest k is
    taken for which that is at most 1 - confidence; with fewer than six values none is, and all of them are spanned.

    >>> rank_of(15), rank_of(21)  # 96.5 and 97.3 %
    (4, 6)
    """
    k, missed = 1, 1  # ways in which fewer than k of n are below
    while 2 * (missed + math.comb(n, k)) <= (1 - confidence) * 2**n:
        missed += math.comb(n, k)
        k += 1
    return k


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The median with a distribution-free interval.

    Args:
        values: at least one, each made independently of the others.
        confidence: that the interval holds the true median.
    """
    ordered, k = sorted(values), rank_of(len(values), confidence)
    return Interval(statistics.median(ordered), ordered[k - 1], ordered[-k], len(ordered))
