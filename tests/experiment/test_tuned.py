"""tune_thresholds: the threshold is that of choose_threshold, the score is from an outer loop."""

from __future__ import annotations

import pytest
import torch

import easylearn as el
from easylearn.errors import ArgumentError
from easylearn.experiment.blend import blend
from easylearn.experiment.cross_fit import Crossed
from easylearn.experiment.tuned import tune_thresholds
from easylearn.metrics import accuracy_at, f_beta
from easylearn.task import Predictions, multi_label

TASK, PLAN = multi_label(["haze", "road", "snow"]), el.folds(30, 3, seed=0)


def crossed(seed: int = 0, plan: el.Folds = PLAN) -> Crossed:
    g = torch.Generator().manual_seed(seed)
    y = (torch.rand(30, 3, generator=g) < 0.3).long()
    probs = torch.sigmoid(torch.randn(30, 3, generator=g) + 2 * y - 2)
    at = torch.from_numpy(plan.held_out)
    return Crossed(plan, Predictions.of(TASK, probs[at], [f"i{k}" for k in at.tolist()], y[at]))


@pytest.mark.parametrize("per_label", [False, True])
def test_it_is_choose_threshold_and_each_fold_is_judged_by_the_others(per_label: bool) -> None:
    one, metric = crossed(), accuracy_at()
    found = tune_thresholds(one, metric, per_label=per_label)
    assert found.threshold == el.choose_threshold(one.oof, metric, per_label=per_label)
    decided = torch.zeros(30, 3)
    assert one.oof.targets is not None
    for train, valid in PLAN:
        others = Predictions.of(TASK, one.oof.probs[train], [str(i) for i in train], one.oof.targets[train])
        chosen = el.choose_threshold(others, metric, per_label=per_label)
        decided[valid] = (one.oof.probs[valid] >= torch.tensor(chosen)).float()
    assert metric.at is not None
    assert found.score.value == pytest.approx(float(metric.at(0.5)(decided, one.oof.targets)), abs=1e-6)
    assert found.score.low < found.score.value < found.score.high


def test_of_a_blend_and_in_time() -> None:
    both = blend([crossed(), crossed()])
    assert tune_thresholds(both, accuracy_at()) == tune_thresholds(crossed(), accuracy_at())
    plan = el.folds(30, 2, times=range(30))
    assert 0 < tune_thresholds(crossed(0, plan), accuracy_at()).score.value < 1


def test_arguments() -> None:
    with pytest.raises(ArgumentError, match="got Predictions"):
        tune_thresholds(crossed().oof, f_beta(2))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="made without one of its own"):
        tune_thresholds(crossed(), f_beta(2, threshold=0.3))
