"""How sure a number is: bootstrap intervals of a metric, of the difference of two, and of the best of many.

Arrays only, and no model: what was predicted is fixed, and the items are drawn again. Every draw is keyed, so the same
predictions always have the same interval. Where items come in groups (patients, sessions), whole groups are drawn.

Intervals are Efron's bias-corrected and accelerated ones (Better bootstrap confidence intervals, JASA 1987), widened
by the quantile of Student's t (Hesterberg, What teachers should know about the bootstrap, 2015) where units are few or
some weigh much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from . import keyed
from .errors import ArgumentError, DataError, EasyLearnWarning, check_number, check_whole
from .metrics import Metric
from .quiet import Quiet

_no_undefined = Quiet(category=EasyLearnWarning)  # a draw of one class only has no area under a curve
DRAWS = 1000
LEVEL = 0.95
PIECES, CUTS = 10, 10  # of the items, one left out in turn to see what the best of many is worth; and ways to cut
BLOCKS = 200  # pieces that are left out in turn to see how skewed a metric is
_AT_ONCE = 2**22  # numbers drawn at a time

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Statistic = Callable[[Codes], Floats]
"""From how often each unit is drawn, shape (draws, units), to the number of each draw."""


@dataclass(frozen=True)
class Interval:
    """A number and between what it lies.

    Args:
        value: the number.
        low, high: the ends of the interval.
        level: in what share of all cases the truth lies between them.

    >>> print(Interval(0.914, 0.9012, 0.926))
    0.9140 [0.9012, 0.9260]
    """

    value: float
    low: float
    high: float
    level: float = LEVEL

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{_text(self.value)} [{_text(self.low)}, {_text(self.high)}]"


@dataclass(frozen=True)
class Difference(Interval):
    """How much better the first is than the second, by the metric's own direction.

    Args:
        value, low, high, level: see `Interval`; above 0 the first is better.
        p: of a permutation test that there is no difference.
        name: of the metric.

    >>> print(Difference(0.004, -0.003, 0.011, p=0.3, name="accuracy"))
    accuracy +0.0040, 95 % -0.0030 to +0.0110: not distinguishable (p = 0.3)
    """

    p: float = 1.0
    name: str = ""

    @property
    def distinguishable(self) -> bool:
        """Whether both the interval and the permutation test speak against there being no difference."""
        return self.p <= 1 - self.level + 1e-9 and not self.low <= 0 <= self.high

    def __str__(self) -> str:
        ends = (v + 0.0 for v in (self.low, self.high, self.value))  # of -0.0, too
        low, high, value = (("+" if v >= 0 else "") + _text(v) for v in ends)
        verdict = ("" if self.distinguishable else "not ") + "distinguishable"
        return f"{self.name} {value}, {100 * self.level:.3g} % {low} to {high}: {verdict} (p = {self.p:.2g})"


@dataclass(frozen=True)
class BestOf:
    """The best of several by their scores on the same items, and what that is worth on new ones.

    Args:
        index: which it is.
        naive: its own score, which is too good because it was chosen by it.
        corrected: the score on items that did not choose, with its interval; see `best_of`.
        n: out of how many it was chosen.
    """

    index: int
    naive: float
    corrected: Interval
    n: int

    def __str__(self) -> str:
        return f"{self.corrected}, the best of {self.n}; uncorrected {_text(self.naive)}"


def interval_of(
    outputs: Tensor, targets: Tensor, metric: Metric, *, groups: Sequence[Any] | None = None, level: float = LEVEL,
    draws: int = DRAWS, seed: int = 0,
) -> Interval:  # fmt: skip
    """The interval of a metric by a keyed bootstrap of the items.

    Args:
        outputs: what the metric takes, shape (n, ...).
        targets: shape (n, ...).
        metric: made from a mean over items, or any other; the latter is computed once a draw.
        groups: n names; whole groups are drawn.
        level: how often the interval holds the truth.
        draws: how often items are drawn.
        seed: of the draws.

    Raises:
        DataError: there are fewer than two items or groups, or the metric is not a number.

    >>> from easylearn.metrics import accuracy
    >>> probs = torch.eye(2)[[0, 1, 0, 1, 0, 1, 0, 1, 0, 0]]
    >>> found = interval_of(probs, torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 0, 1]), accuracy)
    >>> found.value, found.low < 0.9 <= found.high
    (0.9, True)
    """
    units = _units(len(targets), groups)
    statistic = _statistic(outputs, targets, metric, units)
    value, low, high = _bca(statistic, units, level, draws, seed, metric.name)
    return Interval(value, low, high, level)


def difference_of(
    first: Tensor, second: Tensor, targets: Tensor, metric: Metric, *, groups: Sequence[Any] | None = None,
    level: float = LEVEL, draws: int = DRAWS, seed: int = 0,
) -> Difference:  # fmt: skip
    """How much better the `first` outputs are than the `second` for the same items: a paired bootstrap.

    A permutation test swaps the two in random items (or groups): were they alike, that would change nothing. Other
    arguments and errors are those of `interval_of`. Both are of these two models: how much another seed would change
    either is not in it.

    Raises:
        ArgumentError: the direction of the metric is not known.

    >>> from easylearn.metrics import accuracy
    >>> one, two = torch.eye(2)[[0] * 40], torch.eye(2)[[1] * 20 + [0] * 20]
    >>> print(difference_of(one, two, torch.zeros(40, dtype=torch.int64), accuracy))
    accuracy +0.5000, 95 % +0.3500 to +0.6500: distinguishable (p = 0.001)
    """
    sign, units = _sign(metric), _units(len(targets), groups)
    one, two = (_statistic(outputs, targets, metric, units) for outputs in (first, second))
    value, low, high = _bca(lambda w: sign * (one(w) - two(w)), units, level, draws, seed, metric.name)
    chosen = _flips(units, draws, seed)
    if metric.per_item is None:
        swapped = np.array([sign * _swapped(first, second, targets, metric, row[units]) for row in chosen])
    elif metric.finish is not None:
        swapped = sign * _swapped_means(first, second, targets, metric, units, chosen)
    else:
        gain = _of_items(first, targets, metric) - _of_items(second, targets, metric)
        swapped = sign * (1 - 2.0 * chosen) @ _summed(gain.mean(1), units) / len(targets)
    p = (1 + int((np.abs(swapped) >= abs(value) - 1e-12).sum())) / (len(swapped) + 1)
    return Difference(value, low, high, level, p, metric.name)


def best_of(
    outputs: Sequence[Tensor], targets: Tensor, metric: Metric, *, groups: Sequence[Any] | None = None,
    level: float = LEVEL, draws: int = DRAWS, seed: int = 0,
) -> BestOf:  # fmt: skip
    """The best of several models by one metric on the same items, and its score without the luck of the choice.

    The best of nine tenths of the items is scored on the last tenth, for each tenth in turn and many ways to cut.
    The interval is as wide as that of bootstrap bias corrected cross-validation (Tsamardinos, Greasidou and
    Borboudakis 2018, arXiv 1708.07180), where the best of the items drawn is scored on those left out. A draw chooses
    as badly as half the items would, so that its own mean is too low where the models differ.

    Args:
        outputs: of each model, shape (n, ...); out-of-fold or held-out predictions for the same items.
        targets, metric, groups, level, draws, seed: see `interval_of`.
    """
    sign, units = _sign(metric), _units(len(targets), groups)
    if not outputs:
        raise ArgumentError("best_of needs the outputs of at least one model")
    each = [_statistic(one, targets, metric, units) for one in outputs]
    n = int(units.max()) + 1
    whole = np.array([one(np.ones((1, n), np.int64))[0] for one in each])
    if np.isnan(whole).all():
        raise DataError(f"{metric.name} is not a number for any of the {len(each)} models")
    at = int(np.nanargmax(sign * whole))
    if len(each) == 1:
        value, low, high = _bca(each[0], units, level, draws, seed, metric.name)
        return BestOf(0, value, Interval(value, low, high, level), 1)
    found = []
    for drawn in _draws(n, draws, seed):
        inside = np.stack([one(drawn) for one in each])
        outside = np.stack([one((drawn == 0).astype(np.int64)) for one in each])
        found.append(outside[np.nanargmax(np.nan_to_num(sign * inside, nan=-np.inf), 0), np.arange(len(drawn))])
    scores = np.concatenate(found)
    scores = scores[np.isfinite(scores)]
    value = _left_out(each, outputs, targets, metric, units, seed)
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2]) + (value - scores.mean())
    return BestOf(at, float(whole[at]), Interval(value, float(low), float(high), level), len(each))


def _left_out(
    each: Sequence[Statistic], outputs: Sequence[Tensor], targets: Tensor, metric: Metric, units: Codes, seed: int
) -> float:
    """The score of the best on items that did not choose it: each piece of the units by the best of all others."""
    n, found = int(units.max()) + 1, []
    pieces = min(PIECES, n)
    for cut in range(CUTS):
        piece = keyed.permutation(n, seed, "left out", cut) % pieces
        out = (piece == np.arange(pieces)[:, None]).astype(np.int64)
        inside = _sign(metric) * np.stack([one(1 - out) for one in each])
        best = np.nanargmax(np.nan_to_num(inside, nan=-np.inf), 0)
        if metric.per_item is None:  # an order of outputs, say, which those of several models do not share
            found += np.stack([one(out) for one in each])[best, np.arange(pieces)].tolist()
            continue
        chosen, mixed = torch.from_numpy(best[piece][units]), outputs[0].detach().cpu().clone()
        for k in set(best.tolist()):
            mixed[chosen == k] = outputs[k].detach().cpu()[chosen == k]
        found.append(metric(mixed, targets.detach().cpu()))
    return float(np.nanmean(found))


def _text(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.5g}"


def _sign(metric: Metric) -> int:
    if metric.higher_is_better is None:
        raise ArgumentError(
            f"whether a higher {metric.name} is better is not known: give Metric(name, function, higher_is_better=...)"
        )
    return 1 if metric.higher_is_better else -1


def _units(n: int, groups: Sequence[Any] | None) -> Codes:
    """What is drawn as one: the number of each item's group, or of the item."""
    if groups is None:
        units = np.arange(n)
    else:
        names = [str(g) for g in groups]
        if len(names) != n:
            raise ArgumentError(f"groups must have one entry per item: got {len(names)} for {n} items")
        units = np.unique(names, return_inverse=True)[1]
    if not n or units.max() < 1:
        what = "items" if groups is None else "groups"
        raise DataError(f"an interval needs at least two {what}, got {int(units.max()) + 1 if n else 0}")
    return units.astype(np.int64)


def _draws(n: int, draws: int, seed: int) -> Iterator[Codes]:
    """How often each of n units comes in each draw; in pieces that memory holds, one at a time."""
    check_whole("draws", draws, 100)
    rows = max(_AT_ONCE // n, 1)
    for first in range(0, draws, rows):
        some = min(rows, draws - first)
        drawn = torch.randint(n, (some, n), generator=keyed.generator(seed, "bootstrap", first)).numpy()
        flat = np.bincount((drawn + n * np.arange(some)[:, None]).ravel(), minlength=some * n)
        yield flat.reshape(some, n)


def _flips(units: Codes, draws: int, seed: int) -> npt.NDArray[np.bool_]:
    shape = (draws, int(units.max()) + 1)
    return torch.randint(2, shape, generator=keyed.generator(seed, "swap")).bool().numpy()


def _swapped(first: Tensor, second: Tensor, targets: Tensor, metric: Metric, flip: npt.NDArray[np.bool_]) -> float:
    at = torch.from_numpy(flip).reshape(-1, *[1] * (first.ndim - 1))
    return metric(torch.where(at, second, first), targets) - metric(torch.where(at, first, second), targets)


def _swapped_means(
    first: Tensor, second: Tensor, targets: Tensor, metric: Metric, units: Codes, flips: npt.NDArray[np.bool_]
) -> Floats:
    """The same for each of many flips of the units, of a metric that is made from means over items."""
    one, two = (_of_items(outputs, targets, metric) for outputs in (first, second))
    moved = flips @ np.stack([_summed(column, units) for column in (two - one).T], 1)
    means = (one.sum(0) + moved) / len(targets), (two.sum(0) - moved) / len(targets)
    return _finished(metric, means[0]) - _finished(metric, means[1])


def _finished(metric: Metric, means: Floats) -> Floats:
    """The metric of each row of means over items."""
    if metric.finish is None:
        plain: Floats = means.mean(1)
        return plain
    return np.array([float(metric.finish(torch.from_numpy(m))) for m in means])


def _of_items(outputs: Tensor, targets: Tensor, metric: Metric) -> Floats:
    assert metric.per_item is not None
    values = metric.per_item(outputs.detach().cpu().float() if outputs.dtype == torch.float16 else outputs, targets)
    return values.detach().cpu().double().reshape(len(targets), -1).numpy()


def _summed(values: Floats, units: Codes) -> Floats:
    return np.bincount(units, values).astype(np.float64, copy=False)


def _statistic(outputs: Tensor, targets: Tensor, metric: Metric, units: Codes) -> Statistic:
    """The metric of each draw: from sums over units where it is made from a mean over items, else computed anew."""
    if len(outputs) != len(targets):
        raise ArgumentError(f"there are {len(outputs)} outputs and {len(targets)} targets; one of each per item")
    outputs, targets = outputs.detach().cpu(), targets.detach().cpu()
    if metric.per_item is not None:
        values = _of_items(outputs, targets, metric)
        sums = np.stack([_summed(column, units) for column in values.T], 1)
        sizes = np.bincount(units).astype(np.float64)

        def of_sums(drawn: Codes) -> Floats:
            weight = drawn.astype(np.float64)
            with np.errstate(invalid="ignore"):  # a draw that leaves no unit out has no score of these
                means = (weight @ sums) / (weight @ sizes)[:, None]
            return _finished(metric, means)

        return of_sums
    order = np.argsort(units, kind="stable")
    begins = np.searchsorted(units[order], np.arange(units.max() + 1))

    def anew(drawn: Codes) -> Floats:
        found = []
        with _no_undefined():
            for row in drawn:
                rows = order if begins[-1] == len(order) - 1 and (row == 1).all() else order.repeat(row[units[order]])
                at = torch.from_numpy(rows)
                found.append(metric(outputs[at], targets[at]))
        return np.array(found)

    return anew


def _bca(statistic: Statistic, units: Codes, level: float, draws: int, seed: int, name: str) -> tuple[float, ...]:
    """The value and its bias-corrected and accelerated interval, widened where units are few."""
    from scipy.special import ndtr, ndtri, stdtrit

    check_number("level", level, "above 0", "below 1")
    n = int(units.max()) + 1
    value = float(statistic(np.ones((1, n), np.int64))[0])
    if math.isnan(value):
        raise DataError(f"{name} is not a number for these {len(units)} items, so nothing says how sure it is")
    found = np.concatenate([statistic(drawn) for drawn in _draws(n, draws, seed)])
    found = np.sort(found[np.isfinite(found)])
    if not len(found) or found[0] == found[-1]:
        return value, value, value
    # Half of the ties: a share of right answers takes few values.
    below = ((found < value).sum() + (found == value).sum() / 2) / len(found)
    bias = float(ndtri(min(max(below, 1 / len(found)), 1 - 1 / len(found))))
    skew, freedom = _shape(statistic, n)
    wide = stdtrit(freedom, (1 + level) / 2) * math.sqrt(n / (n - 1))
    shifted = [bias - wide, bias + wide]
    # Where a long tail is as wide as this, the end lies beyond all draws: past the pole the formula would turn around.
    ends = [ndtr(bias + z / (1 - skew * z)) if skew * z < 1 else float(z > 0) for z in shifted]
    low, high = np.quantile(found, ends)
    return value, float(min(low, value)), float(max(high, value))


def _shape(statistic: Statistic, n: int) -> tuple[float, float]:
    """Acceleration, and degrees of freedom of the variance, from what each unit, or block of them, does: the jackknife.

    The acceleration is a sixth of the skewness. A variance estimated from values with long tails is itself uncertain,
    as if there were fewer of them (Satterthwaite's degrees of freedom, from the kurtosis).
    """
    block = keyed.permutation(n, "blocks") % min(n, BLOCKS)
    left = np.array([statistic((block != b).astype(np.int64)[None])[0] for b in range(int(block.max()) + 1)])
    left = left[np.isfinite(left)]
    gap = left.mean() - left
    square = float((gap**2).sum())
    if square <= 0:
        return 0.0, n - 1.0
    excess = len(gap) * float((gap**4).sum()) / square**2 - 3
    freedom = 2 / (2 / (n - 1) + max(excess, 0.0) / len(gap))
    return float((gap**3).sum()) / (6 * square**1.5), max(freedom, 2.0)
