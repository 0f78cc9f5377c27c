"""interval, versus and spread, of predictions in any order; the arithmetic is tested in tests/test_intervals.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import easylearn as el
from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.experiment.certainty import Spread, interval, matched, metric_of, rows_of, spread, values_of, versus
from easylearn.experiment.trials import point_of
from easylearn.intervals import difference_of, interval_of
from easylearn.learning import Learner
from easylearn.metrics import accuracy, log_loss, perplexity
from easylearn.task import Predictions
from tests.experiment.folded import fit, two_columns

TASK = el.single_label(["no", "yes"])


def said(n: int = 60, seed: int = 0, **how: Any) -> Predictions:
    y = torch.arange(n) % 2
    g = torch.Generator().manual_seed(seed)
    probs = two_columns(torch.sigmoid(torch.randn(n, generator=g) + 2 * y - 1))
    return Predictions.of(TASK, probs, [f"i{k}" for k in range(n)], how.get("targets", y))


def test_the_interval_is_that_of_the_arrays() -> None:
    one = said()
    assert one.targets is not None
    assert interval(one) == interval_of(one.probs, one.targets, accuracy)
    groups = [k // 3 for k in range(60)]
    found = interval(one, log_loss, groups=groups, level=0.8, draws=200, seed=3)
    assert found == interval_of(one.probs, one.targets, log_loss, groups=groups, level=0.8, draws=200, seed=3)


def test_two_are_compared_item_by_item_in_any_order() -> None:
    one, other = said(), said(seed=1)
    assert one.targets is not None
    direct = difference_of(one.probs, other.probs, one.targets, accuracy)
    back = rows_of(other, np.arange(60)[::-1])
    assert versus(one, other, accuracy) == versus(one, back, accuracy) == direct
    assert matched(one, back).ids == one.ids


def test_what_does_not_compare() -> None:
    one = said()
    with pytest.raises(DataError, match="'i59' is in one only"):
        versus(one, said(59))
    with pytest.raises(DataError, match="different targets"):
        versus(one, said(targets=1 - torch.arange(60) % 2))
    with pytest.raises(DataError, match="no targets"):
        interval(said(targets=None))
    with pytest.raises(ArgumentError, match=r"expected Predictions.*got Tensor"):
        interval(one.probs)  # type: ignore[arg-type]
    other = Predictions.of(el.single_label(["no", "ja"]), one.probs, one.ids, one.targets)
    with pytest.raises(DataError, match="the two predict different things"):
        versus(one, other)
    with pytest.raises(ArgumentError, match="needs logits"):
        metric_of(one, perplexity)


def test_the_values_of_a_point_in_any_form() -> None:
    assert values_of(None) == {}
    given = {"lr": 0.1, "seed": 3, "fold": 1, "valid": np.arange(3)}  # as of a training of cross_fit
    assert values_of(given) == values_of(point_of(given)) == {"lr": 0.1}
    assert values_of({"valid": 0.25}) == {"valid": 0.25}
    with pytest.raises(ArgumentError, match=r"found.best"):
        values_of(0.1)  # type: ignore[arg-type]


def learner(p: Any) -> Learner:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=g)
    y = (x[:, 0] > 0).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(p.seed)
        net = torch.nn.Linear(3, 2)
    return Learner(el.TensorData((x[:40], y[:40]), (x[40:], y[40:]), TASK, batch_size=8), net, seed=p.seed)


def test_spread_is_that_of_trainings_under_several_seeds(tmp_path: Path) -> None:
    found = spread(learner, fit, seeds=3, folder=tmp_path)
    by_hand = []
    for seed in range(3):
        learn = learner(point_of({"seed": seed}))
        learn.progress = False
        learn.fit(0.05, 1)
        by_hand.append(float(accuracy(learn.predict().probs, learn.predict().targets)))  # type: ignore[arg-type]
    assert found.values == pytest.approx(by_hand)
    assert found.mean == pytest.approx(np.mean(by_hand)) and found.deviation == pytest.approx(np.std(by_hand, ddof=1))
    assert spread(learner, fit, seeds=3, folder=tmp_path) == found  # at once: nothing is trained again


def test_unstable_is_what_a_seed_changes_more_than_items_would() -> None:
    calm, wild = Spread("accuracy", (0.9, 0.91), 0.02), Spread("accuracy", (0.5, 0.9), 0.02)
    assert not calm.unstable and wild.unstable and str(wild).endswith("unstable under a new seed")
    assert str(calm) == "accuracy 0.9050, deviation 0.0071 over 2 seeds"


def test_spread_needs_the_seed_and_trainings_that_end() -> None:
    with pytest.raises(ArgumentError, match=r"give seed=p.seed"):
        spread(lambda p: learner(point_of({"seed": 0})), fit, seeds=2)

    def broken(learn: Learner, p: Any, **how: Any) -> Any:
        torch.nn.init.constant_(next(learn.model.parameters()), float("nan"))
        return learn.fit(0.05, 1, **how)

    with pytest.raises(StateError, match="seed 0 is diverged"):
        spread(learner, broken, seeds=2)
    with pytest.raises(ArgumentError, match="seeds"):
        spread(learner, fit, seeds=1)


def test_many_items_in_another_order_are_matched_at_once() -> None:
    one = said(40_000)
    order = np.arange(40_000)[::-1]
    begun = time.process_time()
    assert matched(one, rows_of(one, order)).ids == one.ids
    assert time.process_time() - begun < 5  # by a set made anew for each item: half a minute
