"""Metrics of lists against a reading of their definitions, item by item, and scikit-learn's discounted gain."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score
from torch import Tensor

from easylearn.errors import ArgumentError, EasyLearnWarning
from easylearn.metrics import Metric
from easylearn.ranked import coverage_at, ndcg_at, recall_at


def case(seed: int, n: int = 6, c: int = 9) -> tuple[Tensor, Tensor]:
    """Scores without ties, and targets with something wanted in each row."""
    g = torch.Generator().manual_seed(seed)
    scores = torch.stack([torch.randperm(c, generator=g) for _ in range(n)]).float()
    target = torch.randint(-1, 2, (n, c), generator=g).float()
    target[torch.arange(n), torch.randint(c, (n,), generator=g)] = 1
    return scores, target


def lists(scores: Tensor, target: Tensor, k: int) -> list[list[int]]:
    """The first k items of each row, those left out aside, as plain Python finds them."""
    rows = zip(scores.tolist(), target.tolist(), strict=True)
    return [sorted((i for i in range(len(s)) if t[i] >= 0), key=lambda i, s=s: -s[i])[:k] for s, t in rows]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 12))
def test_they_are_what_they_are_defined_to_be(seed: int, k: int) -> None:
    scores, target = case(seed)
    found = lists(scores, target, k)
    wanted = [{i for i, t in enumerate(row) if t > 0} for row in target.tolist()]
    recall = np.mean([len(w & set(f)) / len(w) for w, f in zip(wanted, found, strict=True)])
    gain = [sum(1 / math.log2(r + 2) for r, i in enumerate(f) if i in w) for w, f in zip(wanted, found, strict=True)]
    best = [sum(1 / math.log2(r + 2) for r in range(min(k, len(w)))) for w in wanted]
    assert recall_at(k)(scores, target) == pytest.approx(recall)
    assert ndcg_at(k)(scores, target) == pytest.approx(np.mean(np.array(gain) / best))
    assert coverage_at(k)(scores, target) == pytest.approx(len({i for f in found for i in f}) / scores.shape[1])


def test_ndcg_is_that_of_scikit_learn() -> None:
    scores, target = case(3)
    target = target.clamp_min(0)
    assert ndcg_at(4)(scores, target) == pytest.approx(ndcg_score(target.numpy(), scores.numpy(), k=4))


@pytest.mark.parametrize("metric", [recall_at(3), ndcg_at(3), coverage_at(3)], ids=lambda m: m.name)
def test_they_are_made_of_means_over_persons(metric: Metric) -> None:
    scores, target = case(0)
    assert metric.per_item is not None and metric.needs == "either"
    each = torch.cat([metric.per_item(scores[i : i + 1], target[i : i + 1]) for i in range(len(scores))])
    assert metric.of_mean(each.double().mean(0)) == pytest.approx(metric(scores, target))
    assert metric(scores * 3 - 1, target * 2) == metric(scores, target)  # an order and signs are all that counts


@pytest.mark.parametrize("make", [recall_at, ndcg_at, coverage_at])
def test_what_makes_no_sense_is_told(make: object) -> None:
    assert callable(make)
    scores, target = case(0)
    for k in (0, -1, 2.5, True):
        with pytest.raises(ArgumentError, match="k must be a whole number"):
            make(k)
    with pytest.raises(ArgumentError, match=r"\(6, 9\) and \(6,\)"):
        make(3)(scores, target[:, 0])
    broken = scores.clone()
    broken[1, 2] = math.nan
    with pytest.warns(EasyLearnWarning, match="NaN"):
        assert math.isnan(make(3)(broken, target))
    assert math.isnan(float(make(3).per_item(broken, target).mean()))


def test_names_tell_them_apart() -> None:
    assert [m.name for m in (recall_at(), recall_at(5), ndcg_at(5), coverage_at(5))] == [
        "recall_10", "recall_5", "ndcg_5", "coverage_5"
    ]  # fmt: skip
