"""Intervals: against scipy and exact counts first, then what they cover, then what is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from easylearn import intervals
from easylearn.errors import ArgumentError, DataError
from easylearn.intervals import Difference, best_of, difference_of, interval_of
from easylearn.mask_metrics import mean_iou, pixel_counts
from easylearn.metrics import Metric, accuracy, log_loss, mae, mean_metric, rmse, roc_auc

accuracy_anew = Metric("accuracy", lambda p, y: float((p.argmax(1) == y).double().mean()), higher_is_better=True)


def right(mask: Any) -> tuple[Tensor, Tensor]:
    """Outputs of two classes, right where the mask is true, and targets."""
    return torch.eye(2)[(~torch.as_tensor(mask)).long()], torch.zeros(len(mask), dtype=torch.int64)


def probabilities(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, generator=g) < 0.4).long()
    p = torch.sigmoid(torch.randn(n, generator=g) + y)
    return torch.stack([1 - p, p], 1), y


def test_like_scipys_bootstrap_and_students_t() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400)
    found = interval_of(torch.from_numpy(values), torch.zeros(400, dtype=torch.float64), mae, draws=2000)
    bca = stats.bootstrap((np.abs(values),), np.mean, n_resamples=2000, method="BCa", rng=0).confidence_interval
    t = stats.t.interval(0.95, 399, np.abs(values).mean(), stats.sem(np.abs(values)))
    width = t[1] - t[0]
    for low, high in (bca, t):
        assert abs(found.low - low) < 0.05 * width and abs(found.high - high) < 0.05 * width
    assert found.value == pytest.approx(np.abs(values).mean())


def test_a_metric_that_is_computed_anew_has_the_interval_of_one_from_sums() -> None:
    outputs, targets = right(np.random.default_rng(1).random(60) < 0.8)
    groups = np.arange(60) // 3
    for how in ({}, {"groups": groups}):
        one = interval_of(outputs, targets, accuracy, draws=200, **how)  # type: ignore[arg-type]
        other = interval_of(outputs, targets, accuracy_anew, draws=200, **how)  # type: ignore[arg-type]
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), abs=1e-12)


@given(st.lists(st.booleans(), min_size=4, max_size=40), st.integers(1, 4), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_groups_of_copies_are_worth_one_item_each(mask: list[bool], copies: int, seed: int) -> None:
    one = interval_of(*right(mask), accuracy, draws=100, seed=seed)
    repeated = [m for m in mask for _ in range(copies)]
    groups = [f"g{i:03}" for i in range(len(mask)) for _ in range(copies)]
    many = interval_of(*right(repeated), accuracy, groups=groups, draws=100, seed=seed)
    assert (one.value, one.low, one.high) == pytest.approx((many.value, many.low, many.high), abs=1e-9)
    assert one.low <= one.value <= one.high and one.low >= 0 and one.high <= 1


@pytest.mark.parametrize("metric", [log_loss, accuracy_anew, rmse])
def test_the_interval_is_keyed_and_narrows_with_items_and_level(metric: Metric) -> None:
    def of(n: int, **how: Any) -> Any:
        outputs, targets = probabilities(n)
        if metric is rmse:
            outputs, targets = outputs[:, 1].double(), targets.double()
        return interval_of(outputs, targets, metric, draws=100, **how)

    few, many = of(40), of(400)
    assert few == of(40) and few != of(40, seed=1)
    assert many.high - many.low < 0.6 * (few.high - few.low)
    narrow = of(40, level=0.5)
    assert few.low <= narrow.low <= few.value <= narrow.high <= few.high and float(few) in few


def test_it_holds_the_truth_as_often_as_it_says() -> None:
    """150 simulations each; examples/benchmarks/certainty.py has 1,000. At 95 % fewer than 134 come once in 2,000."""
    for grouped in (False, True):
        held = 0
        for seed in range(150):
            rng = np.random.default_rng(seed)
            groups = np.repeat(np.arange(40), rng.integers(2, 8, 40)) if grouped else None
            p = rng.beta(8, 2, 40)[groups] if groups is not None else np.full(150, 0.8)
            outputs, targets = right(rng.random(len(p)) < p)
            held += 0.8 in interval_of(outputs, targets, accuracy, groups=groups, draws=300, seed=seed)
        assert held >= 134, grouped


def test_groups_widen_what_items_would_deceive_about() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 20)
    outputs, targets = right(rng.random(20)[groups] < 0.7)  # a group is right, or wrong, as a whole
    by_items, by_groups = (interval_of(outputs, targets, accuracy, groups=g) for g in (None, groups))
    assert by_groups.high - by_groups.low > 2.5 * (by_items.high - by_items.low)


def test_what_never_changes_has_no_width() -> None:
    found = interval_of(*right([True] * 20), accuracy)
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0) and str(found) == "1.0000 [1.0000, 1.0000]"


# -- two models ------------------------------------------------------------------------------------------------


def test_the_permutation_test_is_the_exact_one() -> None:
    rng = np.random.default_rng(3)
    one, two, y = rng.normal(0.3, 1, 10), rng.normal(0, 1, 10), np.zeros(10)
    gain = np.abs(two) - np.abs(one)
    signs = np.array(list(itertools.product([1, -1], repeat=10)))
    exact = (np.abs(signs @ gain) >= abs(gain.sum()) - 1e-12).mean()
    anew = Metric("mae", lambda p, t: float((p - t).abs().mean()), higher_is_better=False)
    for metric in (mae, anew):
        found = difference_of(*map(torch.from_numpy, (one, two, y)), metric, draws=4000)  # type: ignore[call-arg]
        assert found.p == pytest.approx(exact, abs=0.03)
        assert found.value == pytest.approx(gain.mean())


def test_a_difference_follows_the_direction_of_the_metric_and_turns_with_the_two() -> None:
    outputs, y = probabilities(300)
    worse = outputs.flip(1)
    for metric in (log_loss, accuracy_anew):
        found = difference_of(outputs, worse, y, metric, draws=100)
        assert found.value > 0 and found.distinguishable and "distinguishable" in str(found)
        back = difference_of(worse, outputs, y, metric, draws=100)
        assert back.value == pytest.approx(-found.value) and back.p == found.p
        width = found.high - found.low
        assert (back.low, back.high) == pytest.approx((-found.high, -found.low), abs=0.1 * width)


def test_paired_is_narrower_than_apart() -> None:
    outputs, y = probabilities(300)
    other = outputs.clone()
    other[:5] = other[:5].flip(1)
    found, alone = difference_of(outputs, other, y, accuracy), interval_of(outputs, y, accuracy)
    assert found.high - found.low < 0.5 * (alone.high - alone.low)


def test_the_same_twice_cannot_be_told_apart() -> None:
    outputs, y = probabilities(50)
    found = difference_of(outputs, outputs, y, accuracy)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1) and not found.distinguishable
    assert str(found).startswith("accuracy +0.0000, 95 % +0.0000 to +0.0000: not distinguishable")


def test_both_have_to_speak_against_chance() -> None:
    assert Difference(1, 0.5, 2, p=0.01).distinguishable
    assert not Difference(1, 0.5, 2, p=0.2).distinguishable and not Difference(1, -0.5, 2, p=0.01).distinguishable


def test_equal_models_are_seldom_told_apart() -> None:
    """150 simulations; at 5 % more than 16 come once in 1,000."""
    told = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        hard = rng.normal(size=100)
        one, two = (right(rng.random(100) < 1 / (1 + np.exp(-1 - hard)))[0] for _ in range(2))
        zeros = torch.zeros(100, dtype=torch.int64)
        told += difference_of(one, two, zeros, accuracy, draws=300, seed=seed).distinguishable
    assert told <= 16


# -- the best of many ------------------------------------------------------------------------------------------


def test_the_best_of_many_is_told_without_its_luck() -> None:
    naive, corrected = [], []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        outputs = [right(rng.random(200) < 0.8)[0] for _ in range(20)]
        found = best_of(outputs, torch.zeros(200, dtype=torch.int64), accuracy, draws=200, seed=seed)
        scores = [float(accuracy(one, torch.zeros(200, dtype=torch.int64))) for one in outputs]
        assert found.naive == max(scores) == scores[found.index] and found.n == 20
        naive.append(found.naive - 0.8)
        corrected.append(found.corrected.value - 0.8)
    assert np.mean(naive) > 0.04 and abs(np.mean(corrected)) < 0.015  # standard error 0.005


def test_the_best_of_one_is_itself() -> None:
    outputs, y = probabilities(80)
    found = best_of([outputs], y, accuracy)
    assert found.corrected == interval_of(outputs, y, accuracy) and found.naive == found.corrected.value


def test_a_model_that_is_no_number_is_not_chosen() -> None:
    y = torch.zeros(40, dtype=torch.float64)
    outputs = [torch.full((40,), float("nan"), dtype=torch.float64), torch.linspace(0, 1, 40, dtype=torch.float64)]
    assert best_of(outputs, y, mae).index == 1
    with pytest.raises(DataError, match="mae is not a number for any of the 2 models"):
        best_of(outputs[:1] * 2, y, mae)
    with pytest.raises(ArgumentError, match="at least one model"):
        best_of([], y, mae)


# -- what is refused -------------------------------------------------------------------------------------------


def test_what_has_no_interval() -> None:
    outputs, y = right([True, False, True])
    with pytest.raises(DataError, match="at least two items, got 1"):
        interval_of(outputs[:1], y[:1], accuracy)
    with pytest.raises(DataError, match="at least two groups, got 1"):
        interval_of(outputs, y, accuracy, groups=["a"] * 3)
    with pytest.raises(ArgumentError, match="one entry per item: got 2 for 3"):
        interval_of(outputs, y, accuracy, groups=["a", "b"])
    with pytest.raises(ArgumentError, match="3 outputs and 2 targets"):
        interval_of(outputs, y[:2], accuracy)
    with pytest.raises(ArgumentError, match="level"):
        interval_of(outputs, y, accuracy, level=95)
    with pytest.raises(ArgumentError, match="draws"):
        interval_of(outputs, y, accuracy, draws=5)
    with pytest.raises(DataError, match="roc_auc is not a number for these 3 items"):
        interval_of(outputs, y, roc_auc)
    either = Metric("own", lambda p, t: 0.0, higher_is_better=None)
    with pytest.raises(ArgumentError, match="whether a higher own is better is not known"):
        difference_of(outputs, outputs, y, either)


def test_a_higher_level_is_never_narrower_however_long_a_tail_is() -> None:
    errors = torch.randn(50, 1, generator=torch.Generator().manual_seed(1))
    errors[0] = 300.0
    for sign in (1.0, -1.0):  # the long tail above, and below
        of = Metric("mean", lambda p, y: float((p - y).mean()), True, per_item=lambda p, y: p - y)
        found = [interval_of(sign * errors, torch.zeros(50, 1), of, level=level) for level in (0.9, 0.95, 0.99, 0.999)]
        assert all(b.low <= a.low and a.high <= b.high for a, b in itertools.pairwise(found)), found
        assert found[-1].low < found[-1].value < found[-1].high


def test_draws_are_not_all_in_memory_at_once() -> None:
    pieces = intervals._draws(intervals._AT_ONCE // 4, 100, 0)
    assert len(next(pieces)) == 4 and not isinstance(pieces, list)


@pytest.mark.parametrize("groups", [None, [k // 3 for k in range(12)]])
def test_metrics_of_means_are_swapped_without_computing_them_anew(groups: list[int] | None) -> None:
    counted: list[int] = []

    def counts(probs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        counted.append(len(probs))
        return pixel_counts(probs, target)

    r = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (12, 8, 8), generator=r).to(torch.uint8)
    sure = torch.nn.functional.one_hot(target.long(), 3).movedim(-1, 1) * 1.5
    one, two = (torch.randn(12, 3, 8, 8, generator=r) + sure * k for k in (1.0, 0.9))
    metric = mean_metric("mean_iou", counts, True, finish=mean_iou.finish)
    found = difference_of(one, two, target, metric, groups=groups, draws=200)
    assert counted == [12] * 4  # for the interval, and for the test
    anew = difference_of(one, two, target, replace(metric, per_item=None, finish=None), groups=groups, draws=200)
    assert found.p == anew.p and found.value == pytest.approx(anew.value)
