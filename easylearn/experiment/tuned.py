"""tune_thresholds: thresholds of several labels chosen on out-of-fold predictions, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..errors import ArgumentError
from ..intervals import Interval, interval_of
from ..metrics import Metric
from ..task import Task, choose_threshold
from ..thresholds import Threshold, as_threshold, reaches
from .blend import Blend
from .certainty import rows_of
from .cross_fit import Crossed


@dataclass(frozen=True)
class Tuned:
    """Thresholds, and a score that they had no part in.

    Args:
        threshold: chosen on all out-of-fold predictions; for `learn.task.with_threshold`.
        score: the metric, with its interval, where each fold has thresholds that the other folds chose.
    """

    threshold: Threshold
    score: Interval


def tune_thresholds(crossed: Crossed | Blend, metric: Metric, *, per_label: bool = False) -> Tuned:
    """Choose the threshold of several labels on out-of-fold predictions, and tell what it is worth from an outer loop.

    Args:
        crossed: what `cross_fit` or `blend` gave, of a task of several labels.
        metric: one that was made without a threshold of its own, such as `f_beta(2)`.
        per_label: one threshold for each label.

    Returns:
        The threshold, and the score: in time, the first fold has the task's own threshold, since none is before.

    Raises:
        ArgumentError: the task is not one of several labels, or the metric knows no threshold.

    >>> from easylearn.data.folds import folds
    >>> from easylearn.metrics import accuracy_at
    >>> from easylearn.task import Predictions, multi_label
    >>> y = torch.tensor([[0, 1], [1, 1]] * 10)
    >>> said = Predictions.of(multi_label(["haze", "road"]), 0.1 + 0.3 * y, [str(i) for i in range(20)], y)
    >>> found = tune_thresholds(Crossed(folds(20, 2), said), accuracy_at())
    >>> round(found.threshold, 2), found.score.value
    (0.25, 1.0)
    """
    if not isinstance(crossed, Crossed | Blend):
        raise ArgumentError(f"tune_thresholds takes what cross_fit or blend gave, got {type(crossed).__name__}")
    said, plan = crossed.oof, crossed.plan
    best = choose_threshold(said, metric, per_label=per_label)
    assert metric.at is not None and said.targets is not None
    given = torch.zeros_like(said.probs)
    before = np.zeros(len(said), bool)
    for _, valid in plan.pairs[: len(plan) // plan.repeats]:
        at = np.searchsorted(plan.held_out, valid)
        rest = before.copy() if plan.times is not None else np.ones(len(said), bool)
        rest[at], before[at] = False, True
        some = rows_of(said, np.flatnonzero(rest))
        chosen = choose_threshold(some, metric, per_label=per_label) if rest.any() else _of_task(said.task)
        given[at] = reaches(said.probs[at], chosen).to(given.dtype)
    groups = None if plan.groups is None else plan.groups[plan.held_out].tolist()
    return Tuned(best, interval_of(given, said.targets, metric.at(0.5), groups=groups))


def _of_task(task: Task) -> Threshold:
    return as_threshold(task.settings().get("threshold", 0.5))
